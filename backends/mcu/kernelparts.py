"""The parts of kernels that `codesize` counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from .kernels import (
    ConvKernel,
    Kernel,
    LateralKernel,
    LinearKernel,
    PoolKernel,
    RowKernel,
    ScaleKernel,
)
from .layout import Struct
from .network import Drive
from .scatter import ScatterKernel
from .sparse import SparseRow
from .windows import Image, Window

Parts = Counter[str]
"""How often each part occurs."""


def turns(what: str, count: int) -> Parts:
    """How often a loop turns, where compilers care: few turns are written out, many are a literal.

    Args:
        what: The loop.
        count: Its turns.
    """
    return Counter({f"{what} {count}": int(1 < count <= 4), f"{what} literal": int(count > 255)})


def reach_parts(names: Iterable[str], struct: Struct, of: str = "") -> Parts:
    """Members by how far they lie from the beginning: what loads and additions reach at once.

    Args:
        names: The members.
        struct: What they are members of.
        of: Before the names of the parts, where these members are used in another way.
    """
    parts: Parts = Counter()
    for name in names:
        at = struct.offset(name)
        parts[f"{of}off member"] += 31 * struct.member(name).type.bytes < at < 256
        parts[f"{of}far member"] += at >= 256
        parts[f"{of}far odd member"] += at >= 256 and at % 256 != 0
        parts[f"{of}very far member"] += at >= 2048
        parts[f"{of}farthest member"] += at >= 4096
    return parts


def drive_parts(drive: Drive) -> Parts:
    """The loop over the events of an edge, and the kernel that it calls."""
    edge, kernel = drive.edge, drive.kernel
    parts: Parts = Counter()
    if kernel.by_place:
        parts += _place_parts(drive)
    else:
        parts[f"drive {edge.kind}"] += 1
        parts["drive fours"] += drive.fours
        parts["drive words"] += edge.kind == "mask" and edge.words > 1
        parts["one element"] += edge.kind == "dense" and edge.size == 1
    parts["drive values"] += edge.kind != "mask" and kernel.valued
    return parts + kernel_parts(kernel)


def _place_parts(drive: Drive) -> Parts:
    """A loop over the events of an image."""
    edge, kernel = drive.edge, drive.kernel
    image: Image = getattr(kernel, "image")  # noqa: B009  # kernels given a place have one
    how = "pooled" if edge.kind == "dense" and kernel.summed else edge.kind
    parts: Parts = Counter({f"place {how}": 1, f"place {how} band": int(kernel.band > 0)})
    parts[f"place {how} fours"] += drive.fours
    if how == "list":
        _arithmetic((image.channel, image.row), (image.plane, image.x.size), parts)
    elif how == "mask" or (how == "dense" and drive.fours):
        _arithmetic((image.row,), (image.plane, image.x.size), parts)
    elif how == "pooled":
        parts["pooled term"] += image.y.kernel * image.x.kernel
        parts["pooled wide term"] += image.y.kernel * image.x.kernel * (edge.type.bits == 64)
    parts[f"place {how} channels"] += image.channels > 1
    parts[f"place {how} rows"] += image.y.size > 1
    return parts


def kernel_parts(kernel: Kernel) -> Parts:
    """What a call of a kernel is made of."""
    parts: Parts = Counter()
    if isinstance(kernel, PoolKernel):
        return kernel_parts(kernel.next) + _pool(kernel)
    if isinstance(kernel, RowKernel):
        row = _row(kernel) if kernel.by_row else Counter()
        parts += row
        if isinstance(kernel, LinearKernel):
            # Alone in its loop, so with prices of its own.
            parts += Counter({f"linear {part}": count for part, count in row.items()})
        if isinstance(kernel, ConvKernel) and not kernel.last:
            lanes = sum(n for part, n in parts.items() if part.startswith("lane"))
            reach = 3 * kernel.plane * kernel.to.bytes
            parts["conv lane"] += lanes
            parts["conv far lane"] += lanes if reach > 255 else 0
            parts["conv very far lane"] += lanes if reach > 4095 else 0
    wide = kernel.to.bits
    if isinstance(kernel, LateralKernel):
        parts[f"lateral {max(wide, 16)}"] += 1
        parts["lateral table"] += kernel.table is not None
        parts["lateral value"] += kernel.valued
    elif isinstance(kernel, LinearKernel):
        parts["linear"] += 1
        if kernel.kept is not None:
            packed = not isinstance(kernel.row, SparseRow) and kernel.row.lanes > 1
            parts["kept packed" if packed else "kept"] += 1
            parts["kept ranks"] += kernel.kept.ranks is not None
        _arithmetic((), (kernel.rows.stride,), parts)
    elif isinstance(kernel, ConvKernel | ScatterKernel):
        parts += _conv(kernel) if isinstance(kernel, ConvKernel) else _scatter(kernel)
    elif isinstance(kernel, ScaleKernel):
        parts[f"scale {wide}"] += 1
        parts["scale table"] += kernel.table is not None
        parts["scale value"] += kernel.valued
    else:
        parts[f"{kernel.template} {wide if kernel.valued else 'one'}"] += 1
    return parts


def side_by_side(kernel: RowKernel) -> bool:
    """Whether the sums that a row is added to are neighbours."""
    return not isinstance(kernel, ConvKernel) or kernel.last


def _row(kernel: RowKernel) -> Parts:
    row, count = kernel.row, kernel.rows.count
    parts: Parts = Counter()
    if isinstance(row, SparseRow):
        parts[f"sparse {row.code.kind} {max(row.to.bits, 16)}"] += 1
        parts["sparse packed"] += row.code.kind == "map" and row.code.bits < 8
        parts["sparse value"] += row.scaled
        return parts
    if not row.bits:
        parts[f"row even {max(row.to.bits, 16)}"] += 1
        parts["row of one"] += count == 1
        return parts
    at_once = max(row.lanes, 4)
    whole, rest = (at_once if count >= at_once else 0), count % at_once
    sign = "t" if row.trits else "s" if row.signed else "u"
    what = "row" if row.lanes == 1 else "trits" if row.trits else "packed"
    what = "bits" if row.template == "row_bits" else what
    rolled = row.lanes == 1 or row.rolled or row.template != "row"
    parts["quick row"] += row.assembled and side_by_side(kernel)
    parts[what] += 1
    parts[f"{what} group"] += row.group if row.group > 1 else 0
    grouped = row.group > 1
    parts[f"{what} group loop"] += grouped and count >= 2 * at_once
    parts[f"{what} group rest"] += grouped and rest != 0
    parts["narrow sums"] += row.to.bits == 8
    parts[f"{what} loop"] += count >= 2 * at_once
    parts[f"{what} once"] += at_once <= count < 2 * at_once
    parts[f"{what} rest"] += rest != 0
    parts[f"{what} rest loop"] += rolled and rest > 1
    parts[f"{what} rest {rest}"] += 0 < rest < 4
    parts[f"{what} twice"] += whole > 0 and 2 * at_once <= count < 3 * at_once
    lanes = whole + (min(rest, 1) if rolled else rest)
    # What weights, sums and factors take is added up: not all of them were seen together.
    parts[f"lane {sign if row.lanes > 1 else ''}{row.bits}"] += lanes
    parts[f"lane to {row.to.bits}"] += lanes if row.to.bits > 16 else 0
    parts["lane value"] += lanes if row.scaled else 0
    parts["lane value 64"] += lanes if row.scaled and row.to.bits == 64 else 0
    return parts


def _arithmetic(codes: Iterable[str], factors: Iterable[int], parts: Parts) -> None:
    """Index arithmetic: quotients as they are printed, and products with constants."""
    for code in codes:
        parts["quotient"] += " * " in code
        parts["quotient shift"] += ">>" in code and " * " not in code
        literals(code, parts)
    for factor in factors:
        power = factor & (factor - 1) == 0
        parts["product"] += not power
        parts["product shift"] += power and factor > 1
        parts["literal 16"] += factor > 255 and not power


def _windows(windows: tuple[Window, ...], parts: Parts, what: str) -> None:
    for window in windows:
        parts[f"{what} axis"] += window.size > 1
        parts[f"{what} loop"] += window.kernel > 1
        parts[f"{what} stride"] += window.stride > 1 and window.places > 1
        parts[f"{what} padding"] += window.padding > 0


def _conv(kernel: ConvKernel) -> Parts:
    parts: Parts = Counter({"conv": 1})
    image = kernel.image
    _windows((image.y, image.x), parts, "conv")
    parts["conv channels"] += image.channels > 1
    parts["conv groups"] += kernel.groups > 1
    codes = (kernel.place(image.y, "y"), kernel.place(image.x, "x"))
    places = (image.x.places, image.y.kernel, image.x.kernel)
    _arithmetic(codes, (*places, image.out_plane, kernel.rows.stride), parts)
    parts["conv last"] += kernel.last
    parts["conv one place"] += image.out_plane == 1
    parts["conv band"] += kernel.band > 0
    return parts


def _scatter(kernel: ScatterKernel) -> Parts:
    image = kernel.image
    up, across = kernel.axes
    one = kernel.band == 1
    parts: Parts = Counter({"scatter row" if one else "scatter": 1})
    _windows((image.x,) if one else (image.y, image.x), parts, "scatter")
    parts["scatter channels"] += image.channels > 1
    parts["scatter runs" if across.runs else "scatter places"] += 1
    parts["scatter run by run"] += across.runs and not kernel.whole
    parts["scatter ends"] += across.runs and across.ends
    parts["scatter misses"] += across.misses
    parts["scatter band"] += kernel.band > 0
    codes = (across.last,) if one else (across.last, up.last)
    _arithmetic(codes, (image.x.places * kernel.unit, image.x.kernel, kernel.stride), parts)
    parts["scatter uniform"] += kernel.table is None
    if kernel.pairs:
        parts[kernel.adder] += 1
    return parts


def _pool(kernel: PoolKernel) -> Parts:
    image = kernel.image
    what = "overlap" if kernel.overlaps else "pool"
    parts: Parts = Counter({what: 1})
    _windows((image.y, image.x), parts, what)
    parts[f"{what} channels"] += image.channels > 1
    if kernel.overlaps:
        axes = ((image.y, "y"), (image.x, "x"))
        codes = tuple(end(*axis) for axis in axes for end in (image.first, image.last))
    else:
        codes = (image.start(image.y, "y"), image.start(image.x, "x"))
    _arithmetic(codes, () if kernel.next.by_place else (image.y.places, image.x.places), parts)
    parts["pool check"] += 0 if kernel.overlaps else len(kernel.checks)
    return parts


def literals(code: str, parts: Parts) -> None:
    """Count the literals in C that do not fit an instruction."""
    for digits in re.findall(r"(?<![\w.])(\d+)u?\b", code):
        value = int(digits)
        power = value & (value - 1) == 0
        parts["literal 32"] += value > 65535 and not power
        parts["literal 16"] += 255 < value <= 65535 and not power
