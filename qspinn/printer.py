"""Prints a typed list as straight-line code; one dialect for each language.

The core walks the list once. A dialect says how a number, a rounding shift, a clip and a choice
are written; what they mean is fixed by `qspinn.fixed`, and tests hold every dialect to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qspinn.fixed import Interval, Overflow, Rounding
from qspinn.program import Program, TypedOp

Names = Callable[[TypedOp], str]
"""How a leaf (input, state or parameter) is read."""


@dataclass(frozen=True)
class Dialect:
    """The words of a language: format strings over operands ``{0}``, ``{1}`` and so on.

    Attributes:
        declare: A statement that names a value: ``{type}``, ``{name}``, ``{code}``.
        number: How an integer literal of a given interval is written.
        type_of: The type of a value with that interval; of a mask for None.
        words: Format strings by kind of operation and, for shifts, ``shr_<rounding>``.
        fused: Whether a product and its rounding shift are printed as one split multiplication,
            which needs no type wider than 32 bits.
    """

    declare: str
    number: Callable[[int], str]
    type_of: Callable[[Interval | None], str]
    words: Mapping[str, str]
    fused: bool = False


@dataclass
class Printed:
    """The printed body and the expressions that hold the results."""

    lines: list[str]
    finals: dict[str, str]
    output: str


def render(program: Program, dialect: Dialect, leaf: Names, prefix: str = "t") -> Printed:
    """Print one step of ``program``.

    Args:
        program: The typed list.
        dialect: The language.
        leaf: Writes the expression that reads a leaf; a uniform parameter may become a literal.
        prefix: Starts the names of intermediate values.
    """
    uses = _uses(program)
    lines: list[str] = []
    code: list[str] = []
    for i, op in enumerate(program.ops):
        args = [code[j] for j in op.args]
        if op.kind in ("input", "state", "param"):
            code.append(leaf(op))
            continue
        if op.kind == "const":
            code.append(dialect.number(op.value))
            continue
        if op.kind == "mul" and dialect.fused and _splits(program, i, uses):
            code.append("")
            continue
        expression = _expression(program, op, args, code, dialect)
        name = f"{prefix}{i}"
        lines.append(
            dialect.declare.format(type=dialect.type_of(op.span), name=name, code=expression)
        )
        code.append(name)
    finals = {name: code[i] for name, i in program.finals.items()}
    return Printed(lines, finals, code[program.output])


def _uses(program: Program) -> list[list[int]]:
    uses: list[list[int]] = [[] for _ in program.ops]
    for i, op in enumerate(program.ops):
        for j in op.args:
            uses[j].append(i)
    return uses


def _splits(program: Program, i: int, uses: list[list[int]]) -> bool:
    """Whether the product ``i`` is too wide for 32 bits and read by one literal shift only."""
    op = program.ops[i]
    if op.span is None or op.span.bits <= 32 or len(uses[i]) != 1:
        return False
    if i in program.finals.values() or i == program.output:
        return False
    reader = program.ops[uses[i][0]]
    factor = program.ops[op.args[1]].span
    if reader.kind != "shr" or len(reader.args) > 1 or factor is None:
        return False
    # The low part of the split, (x mod 2**k) * c, must fit 32 bits unsigned.
    return factor.lo >= 0 and reader.value + factor.hi.bit_length() <= 32


def _expression(
    program: Program, op: TypedOp, args: list[str], code: list[str], dialect: Dialect
) -> str:
    word = _word(op)
    source = program.ops[op.args[0]]
    extra = {
        "k": dialect.number(op.value), "count": str(op.value), "lo": dialect.number(op.low),
        "hi": dialect.number(op.high), "size": dialect.number(op.high - op.low),
        "key": dialect.number(op.key), "factor": dialect.number(1 << op.value),
    }  # fmt: skip
    if op.kind == "shr":
        if len(args) > 1:
            extra["k"] = extra["count"] = args[1]
        if args[0] == "" and source.kind == "mul":  # its product was left to us
            x, c = (code[j] for j in source.args)
            return dialect.words[f"mul_{word}"].format(x, c, **extra)
    if op.kind == "shr" and source.span is not None and source.span.bits > 32:
        word = f"{word}_wide" if f"{word}_wide" in dialect.words else word
    wide = op.span is not None and op.span.bits > 32 and f"{word}_wide" in dialect.words
    return dialect.words[f"{word}_wide" if wide else word].format(*args, **extra)


def _word(op: TypedOp) -> str:
    if op.kind == "shr":
        return f"shr_{op.rounding.value}"
    if op.kind == "fit":
        return "wrap" if op.overflow is Overflow.WRAP else "saturate"
    return op.kind


def _plain(value: int) -> str:
    return str(value) if value >= 0 else f"({value})"


_SHARED = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "gt": "{0} > {1}",
    "ge": "{0} >= {1}", "shl": "{0} * {factor}", "shr_floor": "{0} >> {k}",
}  # fmt: skip

NUMBA = Dialect(
    declare="{name} = {code}",
    number=_plain,
    type_of=lambda span: "",
    words={
        **_SHARED,
        "shr_zero": "({0} + ((1 << {k}) - 1 if {0} < 0 else 0)) >> {k}",
        "shr_nearest_even": "near_even({0}, {k})",
        "shr_nearest_away": "near_away({0}, {k})",
        "shr_stochastic": "({0} + (noise({key}, step, index) >> (32 - {k}))) >> {k}",
        "min": "min({0}, {1})", "max": "max({0}, {1})",
        "and": "{0} & {1}", "or": "{0} | {1}", "not": "not {0}",
        "select": "{1} if {0} else {2}",
        "saturate": "min(max({0}, {lo}), {hi})",
        "wrap": "{lo} + (({0} - {lo}) & {size})",
    },
)  # fmt: skip
"""Scalars in a compiled Python loop; needs near_even, near_away, noise, step and index."""

NUMPY = Dialect(
    declare="{name} = {code}",
    number=_plain,
    type_of=lambda span: "",
    words={
        **_SHARED,
        "shr_zero": "({0} + np.where({0} < 0, (1 << {k}) - 1, 0)) >> {k}",
        "shr_nearest_even": "near_even({0}, {k})",
        "shr_nearest_away": "near_away({0}, {k})",
        "shr_stochastic": "({0} + (noise({key}, step, index) >> (32 - {k}))) >> {k}",
        "min": "np.minimum({0}, {1})", "max": "np.maximum({0}, {1})",
        "and": "{0} & {1}", "or": "{0} | {1}", "not": "np.logical_not({0})",
        "select": "np.where({0}, {1}, {2})",
        "saturate": "np.clip({0}, {lo}, {hi})",
        "wrap": "{lo} + (({0} - {lo}) & {size})",
    },
)  # fmt: skip
"""Whole layers as int64 arrays; needs np, near_even, near_away, noise, step and index."""


def c_type(span: Interval | None) -> str:
    """The C type an intermediate value is computed in."""
    if span is None:
        return "int32_t"
    if span.lo >= -(1 << 31) and span.hi < (1 << 31):
        return "int32_t"
    return "int64_t"


def _c_number(value: int) -> str:
    if value == -(1 << 31):
        return "(-2147483647 - 1)"
    if not -(1 << 31) < value < (1 << 31):
        return f"((int64_t){value})" if value >= 0 else f"(-(int64_t){-value})"
    return _plain(value)


def c_dialect(prefix: str) -> Dialect:
    """C99 over helpers named ``<prefix>_...`` that the header defines (see templates/mcu)."""
    p = prefix
    rounded = {
        f"shr_{r.value}": f"{p}_shr_{r.value}({{0}}, {{count}}u)"
        for r in Rounding
        if r is not Rounding.STOCHASTIC
    }
    wide = {
        f"shr_{r.value}_wide": f"{p}_shr64_{r.value}({{0}}, {{count}}u)"
        for r in Rounding
        if r is not Rounding.STOCHASTIC
    }
    fused = {
        f"mul_shr_{r.value}": f"{p}_mul_shr_{r.value}({{0}}, {{1}}, {{count}}u)"
        for r in Rounding
        if r is not Rounding.STOCHASTIC
    }
    noise = f"{p}_noise({{key}}, step, index)"
    return Dialect(
        declare="const {type} {name} = ({type})({code});",
        number=_c_number,
        type_of=c_type,
        words={
            "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "gt": "{0} > {1}",
            "add_wide": "(int64_t){0} + {1}", "sub_wide": "(int64_t){0} - {1}",
            "mul_wide": "(int64_t){0} * {1}", "ge": "{0} >= {1}",
            "shl": "{0} * {factor}", "shl_wide": "(int64_t){0} * {factor}",
            **rounded, **wide, **fused,
            "shr_stochastic": f"{p}_shr_stochastic({{0}}, {{count}}u, {noise})",
            "shr_stochastic_wide": f"{p}_shr64_stochastic({{0}}, {{count}}u, {noise})",
            "mul_shr_stochastic": f"{p}_mul_shr_stochastic({{0}}, {{1}}, {{count}}u, {noise})",
            "min": "{0} < {1} ? {0} : {1}", "max": "{0} > {1} ? {0} : {1}",
            "and": "{0} & {1}", "or": "{0} | {1}", "not": "!{0}",
            "select": "{0} ? {1} : {2}",
            "saturate": "{0} < {lo} ? {lo} : ({0} > {hi} ? {hi} : {0})",
            "wrap": f"{p}_wrap({{0}}, {{lo}}, {{size}}u)",
        },
        fused=True,
    )  # fmt: skip


def uniform_literal(program: Program, op: TypedOp) -> int | None:
    """The value of a parameter that is equal for all neurons."""
    values = program.params[op.name].values
    first = values.flat[0]
    return int(first) if (values == first).all() else None
