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
    Window,
)

Parts = Counter[str]
"""How often each part occurs."""


def kernel_parts(kernel: Kernel) -> Parts:
    """What a call of a kernel is made of."""
    parts: Parts = Counter()
    if isinstance(kernel, PoolKernel):
        return _pool(kernel) + kernel_parts(kernel.next)
    if isinstance(kernel, RowKernel):
        parts += _row(kernel)
        if isinstance(kernel, ConvKernel):
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
            parts["kept packed" if kernel.row.lanes > 1 else "kept"] += 1
            parts["kept ranks"] += kernel.kept.ranks is not None
        _arithmetic((), (kernel.rows.stride,), parts)
    elif isinstance(kernel, ConvKernel):
        parts += _conv(kernel)
    elif isinstance(kernel, ScaleKernel):
        parts[f"scale {wide}"] += 1
        parts["scale table"] += kernel.table is not None
        parts["scale value"] += kernel.valued
    else:
        parts[f"{kernel.template} {wide if kernel.valued else 'one'}"] += 1
    return parts


def _row(kernel: RowKernel) -> Parts:
    row, count = kernel.row, kernel.rows.count
    parts: Parts = Counter()
    to = f"{max(row.to.bits, 16)}{' value' if row.scaled else ''}"
    if not row.bits:
        parts[f"row even {to}"] += 1
        parts["row of one"] += count == 1
        return parts
    at_once = max(row.lanes, 4)
    whole, rest = (at_once if count >= at_once else 0), count % at_once
    sign = "s" if row.signed else "u"
    what = "packed" if row.lanes > 1 else "row"
    rolled = row.lanes == 1 or row.rolled
    parts[what] += 1
    parts["packed group"] += row.group > 1
    parts["narrow sums"] += row.to.bits == 8
    parts[f"{what} loop"] += count >= 2 * at_once
    parts[f"{what} once"] += at_once <= count < 2 * at_once
    parts[f"{what} rest"] += rest != 0
    parts[f"{'packed' if row.rolled else 'row'} rest loop"] += rolled and rest > 1
    lanes = whole + (min(rest, 1) if rolled else rest)
    parts[f"lane {sign if row.lanes > 1 else ''}{row.bits} {to}"] += lanes
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
    codes = (image.channel, image.row, kernel.place(image.y, "y"), kernel.place(image.x, "x"))
    places = (image.plane, image.x.size, image.x.places, image.y.kernel, image.x.kernel)
    _arithmetic(codes, (*places, image.out_plane, kernel.rows.stride), parts)
    parts["conv one place"] += image.out_plane == 1
    parts["conv band"] += kernel.band > 0
    return parts


def _pool(kernel: PoolKernel) -> Parts:
    image = kernel.image
    what = "overlap" if kernel.overlaps else "pool"
    parts: Parts = Counter({what: 1})
    _windows((image.y, image.x), parts, what)
    parts[f"{what} channels"] += image.channels > 1
    codes = (image.channel, image.row, image.start(image.y, "y"), image.start(image.x, "x"))
    _arithmetic(codes, (image.plane, image.x.size, image.y.places, image.x.places), parts)
    parts["pool check"] += 0 if kernel.overlaps else len(kernel.checks)
    return parts


def literals(code: str, parts: Parts) -> None:
    """Count the literals in C that do not fit an instruction."""
    for digits in re.findall(r"(?<![\w.])(\d+)u?\b", code):
        value = int(digits)
        power = value & (value - 1) == 0
        parts["literal 32"] += value > 65535 and not power
        parts["literal 16"] += 255 < value <= 65535 and not power
