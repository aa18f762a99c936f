"""Convolutions that gather: for each place the rows of weights of the inputs that spiked there.

What a place sees of the image is a window of a bit map, all channels of an element side by side,
so that a row of the window is one run of bits. The rows of weights of the bits that are 1 are
listed and added as those of dense tiles are, in registers, and the neurons of the place are updated
right after: no image of sums lies in memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qspinn.errors import PlanError
from qspinn.fixed import Interval
from qspinn.ir import Array, Conv1d, Conv2d, Graph, Neuron, SumPool2d
from qspinn.plan import KERNEL
from qspinn.printer import fits_int32

from .connections import adds, conv_image
from .layout import WORD_BITS, index_type, words
from .names import prefix_of
from .tileforms import form_for
from .tiles import SUMS, TileInput, TileRows, TileSum, index_of_lists
from .view import View
from .windows import Image, Window

GATHER, SCATTER = "gather", "scatter"
WAYS = (GATHER, SCATTER)
"""How the events of an image may be added up."""
GATHERS = "GATHER"
"""The macro that says which do."""
LONGEST = 1024
"""Bytes of the list of a window's rows, at most."""


@dataclass(frozen=True, slots=True)
class BitMap:
    """The image as bits: rows of elements, of each all channels side by side, with its padding.

    Where a pool stands between, an element has a bit for everything that is summed to it.

    Attributes:
        image: The windows that slide over it.
        pool: Rows and columns of the source that are summed to one element before.
        source: Rows and columns of the source.
    """

    image: Image
    pool: tuple[int, int] = (1, 1)
    source: tuple[int, int] = (0, 0)

    @property
    def pooled(self) -> int:
        """Bits that share a row of weights: those that are summed; a power of two."""
        return self.pool[0] * self.pool[1]

    @property
    def depth(self) -> int:
        """Bits of an element."""
        return self.image.channels * self.pooled

    @property
    def rows(self) -> int:
        """Rows, with the padding that some window sees."""
        return _extent(self.image.y)

    @property
    def columns(self) -> int:
        """Elements of a row, with the padding that some window sees."""
        return _extent(self.image.x)

    @property
    def line(self) -> int:
        """Bits of a row."""
        return self.columns * self.depth

    @property
    def words(self) -> int:
        """Words that it takes: one more, as two are read at a time."""
        return words(self.rows * self.line) + 1

    @property
    def lone(self) -> bool:
        """Whether taps of a row are apart from each other: each is a run of its own."""
        return self.image.x.dilation > 1 and self.image.x.kernel > 1

    @property
    def run(self) -> int:
        """Bits of a window that lie side by side."""
        return self.depth * (1 if self.lone else self.image.x.kernel)

    @property
    def runs(self) -> int:
        """How many such runs a window has."""
        return self.image.y.kernel * (self.image.x.kernel if self.lone else 1)

    @property
    def taps(self) -> int:
        """Bits of a window."""
        return self.runs * self.run

    @property
    def rows_of_weights(self) -> int:
        """Rows of weights that they stand for."""
        return self.taps // self.pooled

    @property
    def plane(self) -> int:
        """Elements of a channel of the source."""
        return self.source[0] * self.source[1]

    @property
    def chunks(self) -> int:
        """Words that a run is read in."""
        return words(self.run)

    @property
    def rest(self) -> int:
        """Bits of the last of them, where they do not fill it; else 0."""
        return self.run % WORD_BITS


def _extent(window: Window) -> int:
    seen = window.furthest + (window.kernel - 1) * window.dilation + 1
    return max(window.size + window.padding, seen)


@dataclass(frozen=True, eq=False)
class WindowSum(TileSum):
    """A convolution that gathers.

    Attributes:
        map: The image that it reads.
    """

    map: BitMap


def gathered(view: View, names: Set[str]) -> dict[str, WindowSum]:
    """What gathers, by the name of the layer.

    Args:
        view: The graph.
        names: The convolutions that are to.

    Raises:
        PlanError: One cannot.
    """
    found: dict[str, WindowSum] = {}
    for name in sorted(names):
        node = view.graph[name]
        assert isinstance(node, Conv1d | Conv2d), "`asked` saw to that"
        if reason := _refusal(view, node):
            raise PlanError(reason, at=f"{KERNEL}{name}", hint=f"say {SCATTER}")
        (layer,) = view.users(name)
        assert isinstance(layer, Neuron)
        found[layer.name] = _sum(view, node, layer)
    wide = index_of_lists(view, longest(found))
    return {
        layer: replace(sums, inputs=(replace(sums.inputs[0], index=wide),))
        for layer, sums in found.items()
    }


def longest(sums: Mapping[str, WindowSum]) -> int:
    """The most rows of a window."""
    return max((found.map.rows_of_weights for found in sums.values()), default=1)


def gatherable(graph: Graph) -> tuple[str, ...]:
    """The convolutions of a legalized graph that can gather."""
    view = View(graph)
    return tuple(x.name for x in graph.nodes
                 if isinstance(x, Conv1d | Conv2d) and not _refusal(view, x))  # fmt: skip


def asked(options: Mapping[str, str], graph: Graph) -> frozenset[str]:
    """The convolutions that a plan's options want to gather.

    Raises:
        PlanError: One is to do something else, or is none of the graph's.
    """
    ways = {key: way for key, way in options.items() if key.startswith(KERNEL)}
    known = _convolutions(graph)
    for key, way in ways.items():
        if key.removeprefix(KERNEL) not in known:
            raise PlanError(
                "names no convolution", at=key,
                hint=f"one of {', '.join(known)}" if known else "the network has none",
            )  # fmt: skip
        if way not in WAYS:
            raise PlanError(f"a convolution can {' or '.join(WAYS)}, not {way!r}", at=key)
    return frozenset(key.removeprefix(KERNEL) for key, way in ways.items() if way == GATHER)


def marked(graph: Graph, names: Set[str]) -> int:
    """Convolutions as a number: bit n for the one that is number n in the graph."""
    return sum(1 << n for n, name in enumerate(_convolutions(graph)) if name in names)


def gather_in(folder: Path, graph: Graph) -> frozenset[str]:
    """The convolutions that gather in the emitted files in ``folder``."""
    prefix = prefix_of(graph.name)
    header = folder / f"{prefix}.h"
    text = header.read_text(errors="replace") if header.is_file() else ""
    found = re.search(rf"#define {prefix.upper()}_{GATHERS} +0x([0-9A-F]+)u", text)
    mark = int(found[1], 16) if found else 0
    return frozenset(name for n, name in enumerate(_convolutions(graph)) if mark >> n & 1)


def _convolutions(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes if isinstance(node, Conv1d | Conv2d)]


def _refusal(view: View, node: Conv1d | Conv2d) -> str:
    """Why a convolution cannot gather; empty where it can."""
    users = list(view.users(node.name))
    layer = users[0] if len(users) == 1 else None
    if not isinstance(layer, Neuron) or len(view.lazy_inputs(layer)) != 1:
        return "feeds more than one layer alone, so its sums must be kept"
    source = view.source(node.inputs[0])
    pool = _pool(view, node)
    if pool is None and view.origin(node.inputs[0])[0] != source.name:
        return "reads a pool whose windows overlap, or hold no power of two of elements"
    held = view.source(pool.inputs[0]) if pool is not None else source
    if view.signals[held.name].kind != "spike":
        return "reads values, and a bit map holds spikes"
    if node.groups > 1:
        return f"has {node.groups} groups of channels"
    values = node.weight.values
    if (values == values.flat[0]).all() or form_for(values) is None:
        return "has weights that are not stored in tiles: of more than 8 bits, or all equal"
    x, y = view.signals[node.inputs[0]], view.signals[node.name]
    current = view.current(layer)
    if not adds(node, x, y) or current.interval is None or not fits_int32(current.interval):
        return "adds nothing, or more than 32 bits hold"
    made = map_of(view, node, "")
    reach = _reach(values, made.pooled)
    if reach not in SUMS:
        return f"sums up to {reach}, a lane holds {SUMS}"
    taps = made.taps
    if taps * index_type(made.rows_of_weights).bytes > LONGEST:
        return f"has windows of {taps} elements, whose list takes more than {LONGEST} B"
    return ""


def _sum(view: View, node: Conv1d | Conv2d, layer: Neuron) -> WindowSum:
    values = node.weight.values
    form = form_for(values)
    assert form is not None, "asked of convolutions that can gather"
    made = map_of(view, node, "")
    rows = TileRows(len(values), made.rows_of_weights, form)
    fed = TileInput(node, None, rows, index_type(made.rows_of_weights), made.taps)
    gain = view.gain(node, view.current(layer).frac)
    return WindowSum((fed,), gain, _reach(values, made.pooled), made)


def map_of(view: View, node: Conv1d | Conv2d, prefix: str) -> BitMap:
    """The map that a convolution reads, past a pool."""
    image = conv_image(node, view.signals[node.inputs[0]], view.signals[node.name], prefix)
    pool = _pool(view, node)
    if pool is None:
        return BitMap(image, source=(image.y.size, image.x.size))
    _, height, width = view.signals[pool.inputs[0]].shape
    return BitMap(image, pool.kernel, (height, width))


def origin_of(view: View, node: Conv1d | Conv2d) -> str:
    """Whose spikes it marks."""
    pool = _pool(view, node)
    return view.source(node.inputs[0] if pool is None else pool.inputs[0]).name


def _pool(view: View, node: Conv1d | Conv2d) -> SumPool2d | None:
    """The pool that a convolution reads, of which each element is in one window at most."""
    found = view.source(node.inputs[0])
    if not isinstance(found, SumPool2d) or not view.is_lazy(found) or isinstance(node, Conv1d):
        return None
    size = found.kernel[0] * found.kernel[1]
    apart = found.kernel == found.stride and found.padding == (0, 0)
    one = view.origin(found.name)[0] == view.source(found.inputs[0]).name
    return found if apart and one and size & (size - 1) == 0 else None


def window_rows(node: Conv1d | Conv2d) -> Array:
    """Weights as rows in the order of a window's bits: row, column, input channel."""
    weight = node.weight.values
    outs, inner = weight.shape[:2]
    return weight.reshape(outs, inner, -1).transpose(2, 1, 0).reshape(-1, outs)


def _reach(values: Array, most: int) -> Interval:
    """The interval of every partial sum of inputs up to ``most``."""
    flat = values.reshape(len(values), -1)
    low, high = np.minimum(flat, 0).sum(1).min(), np.maximum(flat, 0).sum(1).max()
    return Interval(int(low) * most, int(high) * most)
