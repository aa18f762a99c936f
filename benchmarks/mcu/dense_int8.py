"""A network as dense int8 code: what its layers cost when every input is multiplied every step.

Plain C as it is usually written, and not slowed down on purpose: channels last, so that the inner
loop runs over weights and inputs that lie side by side; sums in registers; borders clipped once a
row; the neurons updated as qspinn prints them, right where their sum is complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from qspinn.backends.mcu.network import Network, Update
from qspinn.backends.mcu.pairs import Quads
from qspinn.backends.mcu.view import View

from qspinn.fixed import Interval
from qspinn.ir import Array, Conv2d, Flatten, Graph, Linear, Neuron, Node, SumPool2d


def held(interval: Interval | None) -> str:
    """The C type of values."""
    assert interval is not None
    kinds = (("uint8_t", 0, 255), ("int8_t", -128, 127), ("uint16_t", 0, 65535))
    return next((n for n, lo, hi in kinds if interval in Interval(lo, hi)), "int32_t")


def table(name: str, values: Array) -> str:
    """Weights as an array."""
    body = ", ".join(map(str, values.reshape(-1).tolist()))
    return f"static const int8_t {name}[] = {{{body}}};\n"


def last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with its channels last."""
    return (*shape[1:], shape[0])


def macs(graph: Graph) -> int:
    """Multiplications a step, those by padding left out."""
    view, total = View(graph), 0
    for node in graph.nodes:
        if isinstance(node, Linear):
            total += node.weight.values.size
        elif isinstance(node, Conv2d):
            outs, ins = node.weight.values.shape[:2]
            x, y = view.signals[node.inputs[0]].shape, view.signals[node.name].shape
            taps = [_taps(node, axis, x[1 + axis], y[1 + axis]) for axis in range(2)]
            total += outs * ins * taps[0] * taps[1]
    return total


def _taps(node: Conv2d, axis: int, size: int, places: int) -> int:
    """How many elements all windows of one axis hold together."""
    starts = np.arange(places) * node.stride[axis] - node.padding[axis]
    at = starts[:, None] + np.arange(node.weight.values.shape[2 + axis])
    return int(((at >= 0) & (at < size)).sum())


class Dense:
    """The C of a network, layer by layer."""

    def __init__(self, graph: Graph, network: Network) -> None:
        self.graph, self.view = graph, View(graph)
        self.signals = self.view.signals
        found = [getattr(stage, "update", stage) for stage in network.stages]
        self.updates = {s.name: s for s in found if isinstance(s, Update)}
        self.prefix = network.prefix
        self.globals: list[str] = []
        self.code: list[str] = []
        self.calls: list[str] = []

    def source(self) -> str:
        """The file: ``dense_step`` reads ``dense_input`` and leaves spikes in ``dense_output``."""
        entry = self.graph.input
        size = int(np.prod(entry.shape))
        self.globals.append(f"{held(self.signals[entry.name].interval)} at_{entry.name}[{size}];")
        for node in self.graph.nodes:
            if isinstance(node, SumPool2d):
                self.pool(node)
            elif isinstance(node, Neuron):
                self.layer(node)
        ends = self.view.source(self.graph.output.inputs[0]).name
        step = "".join(f"    {call}();\n" for call in self.calls)
        head = f'#define {self.prefix.upper()}_IMPLEMENTATION\n#include "{self.prefix}.h"\n'
        note = f"/* reads at_{self.graph.input.name}, leaves at_{ends} */"
        body = "\n".join((*self.globals, *self.code, note))
        return f"{head}{body}\nvoid dense_step(void)\n{{\n{step}}}\n"

    def array(self, node: Node) -> None:
        """What a node sends, a value each."""
        signal = self.signals[node.name]
        self.globals.append(
            f"{held(signal.interval)} at_{node.name}[{int(np.prod(signal.shape))}];"
        )

    def function(self, node: Node, body: str) -> None:
        """A function that a step calls."""
        name = f"dense_{node.name}"
        self.calls.append(name)
        self.code.append(f"static __attribute__((noinline)) void {name}(void)\n{{\n{body}}}\n")

    def pool(self, node: SumPool2d) -> None:
        """The sums of windows."""
        x = self.signals[node.inputs[0]].shape
        channels, rows, columns = self.signals[node.name].shape
        assert node.padding == (0, 0)
        self.array(node)
        at = f"at_{self.view.source(node.inputs[0]).name}"
        down, across = node.stride
        self.function(
            node,
            f"""    uint32_t y, x, c, ky, kx;
    for (y = 0; y < {rows}u; y++)
        for (x = 0; x < {columns}u; x++)
            for (c = 0; c < {channels}u; c++) {{
                uint32_t sum = 0;
                for (ky = 0; ky < {node.kernel[0]}u; ky++)
                    for (kx = 0; kx < {node.kernel[1]}u; kx++) {{
                        const uint32_t place = (y * {down}u + ky) * {x[2]}u + x * {across}u + kx;
                        sum += {at}[place * {channels}u + c];
                    }}
                at_{node.name}[(y * {columns}u + x) * {channels}u + c] = sum;
            }}
""",
        )

    def layer(self, node: Neuron) -> None:
        """A connection and the neurons it feeds."""
        (feed,) = (self.graph[name] for name in node.inputs)
        assert isinstance(feed, Conv2d | Linear)
        assert feed.bias is None
        self.array(node)
        factor = self.view.gain(feed, self.view.current(node).frac)
        body = "\n".join(self.neuron(node, "acc" if factor == 1 else f"acc * {factor}"))
        made = self.conv(feed, body) if isinstance(feed, Conv2d) else self.linear(feed, body)
        self.function(node, made)

    def neuron(self, node: Neuron, current: str) -> Iterator[str]:
        """The update of neuron i as qspinn prints it."""
        stage = self.updates[f"{self.prefix}_update_{node.name}"]
        for load in stage.loads:
            code = current if re.search(r"\bsum\d*\b", load.code) else _own(load.code)
            yield f"const {load.type} {load.name} = {code};"
        yield from stage.lines
        for write in stage.writes:
            name = write.member.name
            if name.endswith("_counts"):
                continue
            bytewide = write.member.type.bits == 8 or isinstance(write.member.lane, Quads)
            bits = 8 if bytewide else 16
            size = int(np.prod(node.shape))
            self.globals.append(f"int{bits}_t {name}[{size}];")
            yield f"{name}[i] = {write.code};"
        yield f"at_{node.name}[i] = {stage.sent};"

    def linear(self, feed: Linear, body: str) -> str:
        """A dense layer; its inputs lie channels last."""
        values, source = feed.weight.values, feed.inputs[0]
        while isinstance(self.graph[source], Flatten):
            source = self.graph[source].inputs[0]
        shape = self.signals[source].shape
        if len(shape) == 3:
            values = values.reshape(len(values), *shape).transpose(0, 2, 3, 1)
        self.globals.append(table(f"w_{feed.name}", values))
        outs, ins = feed.weight.values.shape
        return f"""    uint32_t i, n;
    for (i = 0; i < {outs}u; i++) {{
        const int8_t *w = w_{feed.name} + i * {ins}u;
        int32_t acc = 0;
        for (n = 0; n < {ins}u; n++)
            acc += at_{source}[n] * w[n];
        {body}
    }}
"""

    def conv(self, feed: Conv2d, body: str) -> str:
        """A convolution; the inner loop runs over all channels of a row of the window."""
        assert feed.groups == 1
        assert feed.dilation == (1, 1)
        x, y = self.signals[feed.inputs[0]].shape, self.signals[feed.name].shape
        outs, ins, kh, kw = feed.weight.values.shape
        self.globals.append(table(f"w_{feed.name}", feed.weight.values.transpose(0, 2, 3, 1)))
        kind = held(self.signals[feed.inputs[0]].interval)
        at, w = f"at_{self.view.source(feed.inputs[0]).name}", f"w_{feed.name}"
        return f"""    uint32_t oy, ox, o, i = 0;
    for (oy = 0; oy < {y[1]}u; oy++)
        for (ox = 0; ox < {y[2]}u; ox++) {{
            const int32_t top = (int32_t)(oy * {feed.stride[0]}u) - {feed.padding[0]};
            const int32_t left = (int32_t)(ox * {feed.stride[1]}u) - {feed.padding[1]};
            const int32_t y0 = top < 0 ? 0 : top, x0 = left < 0 ? 0 : left;
            const int32_t y1 = top + {kh} > {x[1]} ? {x[1]} : top + {kh};
            const int32_t x1 = left + {kw} > {x[2]} ? {x[2]} : left + {kw};
            for (o = 0; o < {outs}u; o++, i++) {{
                int32_t acc = 0, iy;
                for (iy = y0; iy < y1; iy++) {{
                    const {kind} *p = {at} + (iy * {x[2]} + x0) * {ins};
                    const {kind} *end = {at} + (iy * {x[2]} + x1) * {ins};
                    const int8_t *w = {w}
                        + (((int32_t)o * {kh} + iy - top) * {kw} + x0 - left) * {ins};
                    while (p < end)
                        acc += *p++ * *w++;
                }}
                {body}
            }}
        }}
"""


def _own(code: str) -> str:
    """The rival's own arrays instead of members of the state, however these are packed."""
    member = re.search(r"s->(\w+)", code)
    return f"{member[1]}[i]" if member else code
