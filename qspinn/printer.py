"""Prints a typed list as straight-line code; one dialect for each language.

The core walks the list once. A dialect says how a number, a rounding shift, a clip and a choice
are written; what they mean is fixed by `qspinn.fixed`, and tests hold every dialect to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from qspinn.fixed import Interval, Overflow, Rounding
from qspinn.program import Program, TypedOp

Names = Callable[[TypedOp], str]
"""How a leaf (input, state or parameter) is read."""


@dataclass(frozen=True)
class Dialect:
    """The words of a language: format strings over operands ``{0}``, ``{1}`` and so on.

    Attributes:
        declare: A statement that names a value: ``{type}``, ``{name}``, ``{code}``.
        number: How an integer literal is written.
        type_of: The type of a value with that interval; of a mask for None.
        words: Format strings by kind of operation and, for shifts, ``shr_<rounding>``.
        fused: Whether a product and its rounding shift are printed as one split multiplication,
            which needs no type wider than 32 bits.
        unsigned: How a literal of 32 bits without a sign is written, where that differs.
        cast: How a value of another type than its operands' is converted.
        converts: Kinds of operations that may give a wider type than their value's.
    """

    declare: str
    number: Callable[[int], str]
    type_of: Callable[[Interval | None], str]
    words: Mapping[str, str]
    fused: bool = False
    unsigned: Callable[[int], str] | None = None
    cast: str = "{code}"
    converts: tuple[str, ...] = ()


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
        kind, name = dialect.type_of(op.span), f"{prefix}{i}"
        operands = [program.ops[j].span for j in op.args]
        other = op.kind in dialect.converts
        if other or _far(op, operands) or any(dialect.type_of(s) != kind for s in operands):
            expression = dialect.cast.format(type=kind, code=expression)
        lines.append(dialect.declare.format(type=kind, name=name, code=expression))
        code.append(name)
    finals = {name: code[i] for name, i in program.finals.items()}
    return Printed(lines, finals, code[program.output])


def _uses(program: Program) -> list[list[int]]:
    uses: list[list[int]] = [[] for _ in program.ops]
    for i, op in enumerate(program.ops):
        for j in op.args:
            uses[j].append(i)
    return uses


def fits_int32(span: Interval | None) -> bool:
    """Whether a value is computed in 32 bits; a truth value always is."""
    return span is None or (span.lo >= -(1 << 31) and span.hi < 1 << 31)


def _splits(program: Program, i: int, uses: list[list[int]]) -> bool:
    """Whether the product ``i`` is too wide for 32 bits and read by one literal shift only."""
    op = program.ops[i]
    if fits_int32(op.span) or len(uses[i]) != 1:
        return False
    if i in program.finals.values() or i == program.output:
        return False
    reader = program.ops[uses[i][0]]
    value, factor = (program.ops[j].span for j in op.args)
    if reader.kind != "shr" or len(reader.args) > 1 or factor is None:
        return False
    if not (fits_int32(value) and fits_int32(reader.span)):
        return False
    # The low part of the split, (x mod 2**k) * c, must fit 32 bits unsigned.
    return factor.lo >= 0 and reader.value + factor.hi.bit_length() <= 32


def _expression(
    program: Program, op: TypedOp, args: list[str], code: list[str], dialect: Dialect
) -> str:
    word = _word(op)
    unsigned = dialect.unsigned or dialect.number
    extra = {
        "k": dialect.number(op.value), "lo": dialect.number(op.low),
        "hi": dialect.number(op.high), "size": unsigned(op.high - op.low),
        "key": unsigned(op.key), "factor": dialect.number(1 << op.value),
        "widen": _widening(program, op, dialect),
    }  # fmt: skip
    if op.kind == "shr":
        if len(args) > 1:
            extra["k"] = args[1]
        source = program.ops[op.args[0]]
        if args[0] == "" and source.kind == "mul":  # its product was left to us
            x, c = (code[j] for j in source.args)
            return dialect.words[f"mul_{word}"].format(x, c, **extra)
    for variant in _variants(program, op, word):
        if variant in dialect.words:
            word = variant
            break
    return dialect.words[word].format(*args, **extra)


def _widening(program: Program, op: TypedOp, dialect: Dialect) -> str:
    """A cast of the first operand to the type that holds all operands and the value, if needed."""
    spans = [span for span in (op.span, *(program.ops[j].span for j in op.args)) if span]
    if not spans:
        return ""
    wanted = dialect.type_of(Interval(min(s.lo for s in spans), max(s.hi for s in spans)))
    held = dialect.type_of(program.ops[op.args[0]].span) if op.args else wanted
    return f"({wanted})" if wanted != held else ""


def _variants(program: Program, op: TypedOp, word: str) -> list[str]:
    """More specific words for an operation, which a dialect may or may not have."""
    spans = [program.ops[i].span for i in op.args]
    if op.kind == "shr":
        if _is_short(program, op):
            return [f"{word}_short"]
        return [f"{word}_wide"] if _far(op, spans) or not fits_int32(spans[0]) else []
    if word == "saturate" and spans[0] is not None:
        if spans[0].lo >= op.low:
            return ["saturate_high"]
        return ["saturate_low"] if spans[0].hi <= op.high else []
    # A product of a wide operand is wide even where its value is not.
    narrow = all(map(fits_int32, (op.span, *spans) if word == "mul" else (op.span,)))
    return [] if narrow else [f"{word}_wide"]


def _is_short(program: Program, op: TypedOp) -> bool:
    """Whether a value of 16 bits is shifted by a constant below that, and rounded down."""
    count = program.ops[op.args[1]] if len(op.args) > 1 else None
    places = op.value if count is None else count.value if count.kind == "const" else 16
    narrow = narrow_type(program.ops[op.args[0]].span) == "int16_t"
    return narrow and places < 16 and op.rounding is Rounding.FLOOR


def _far(op: TypedOp, operands: list[Interval | None]) -> bool:
    """Whether an operation shifts by more than 32-bit types allow."""
    counts = operands[1] if len(operands) > 1 else None
    return op.kind == "shr" and (op.value > 31 or (counts is not None and counts.hi > 31))


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
    return "int32_t" if fits_int32(span) else "int64_t"


def _c_number(value: int) -> str:
    if value == -(1 << 31):
        return "(-2147483647 - 1)"
    if not -(1 << 31) < value < (1 << 31):
        return f"((int64_t){value})" if value >= 0 else f"(-(int64_t){-value})"
    return _plain(value)


def _c_shifts(p: str) -> dict[str, str]:
    """Every rounding as three calls: of 32 bits, of 64, and of a product that is split."""
    words: dict[str, str] = {}
    for rounding in Rounding:
        r = rounding.value
        draw = f", {p}_noise({{key}}, step, i)" if rounding is Rounding.STOCHASTIC else ""
        words[f"shr_{r}"] = f"{p}_shr_{r}({{0}}, {{k}}{draw})"
        words[f"shr_{r}_wide"] = f"{p}_shr64_{r}({{0}}, {{k}}{draw})"
        words[f"mul_shr_{r}"] = f"{p}_mul_shr_{r}({{0}}, {{1}}, {{k}}{draw})"
    return words


def c_dialect(prefix: str) -> Dialect:
    """C99 over functions named ``<prefix>_...`` that the emitted header defines (templates/mcu).

    Stochastic rounding reads ``step``, the step since reset, and ``i``, the neuron in its layer.
    """
    p = prefix
    return Dialect(
        declare="const {type} {name} = {code};",
        cast="({type})({code})",
        number=_c_number,
        type_of=c_type,
        words={
            **_SHARED,
            "add_wide": "(int64_t){0} + {1}", "sub_wide": "(int64_t){0} - {1}",
            "mul_wide": f"{p}_mul64({{0}}, {{1}})", "shl_wide": "(int64_t){0} * {factor}",
            **_c_shifts(p),
            "min": "{0} < {1} ? {0} : {1}", "max": "{0} > {1} ? {0} : {1}",
            "and": "{0} & {1}", "or": "{0} | {1}", "not": "!{0}",
            "select": "{0} ? {1} : {2}",
            "saturate": "{0} < {lo} ? {lo} : ({0} > {hi} ? {hi} : {0})",
            "saturate_low": "{0} < {lo} ? {lo} : {0}",
            "saturate_high": "{0} > {hi} ? {hi} : {0}",
            "wrap": f"{p}_wrap((uint32_t){{0}}, {{lo}}, {{size}})",
            "wrap_wide": f"{p}_wrap64((uint32_t){{0}}, {{lo}}, {{size}})",
        },
        fused=True,
        unsigned=lambda value: f"{value}u",
    )  # fmt: skip


def narrow_type(span: Interval | None) -> str:
    """The narrowest type that a value is computed in where registers have 8 bits.

    avr-gcc's type of 24 bits is left alone: with GCC 5.4 some networks came out wrong.
    """
    if span is None:
        return "uint8_t"
    return "int16_t" if span.lo >= -(1 << 15) and span.hi < 1 << 15 else c_type(span)


def avr_dialect(prefix: str) -> Dialect:
    """`c_dialect` for 8-bit registers: every value in the narrowest type that holds it.

    It may rely on what avr-gcc promises: negative numbers are shifted arithmetically.
    """
    general = c_dialect(prefix)
    return replace(
        general,
        type_of=narrow_type,
        converts=("shr", "fit", "select", "min", "max"),
        words={
            **general.words,
            "add": "{widen}{0} + {1}", "sub": "{widen}{0} - {1}", "mul": "{widen}{0} * {1}",
            "shl": "{widen}{0} * {factor}", "shr_floor_short": "{0} >> {k}",
        },
    )  # fmt: skip


def uniform_literal(program: Program, op: TypedOp) -> int | None:
    """The value of a parameter that is equal for all neurons."""
    values = program.params[op.name].values
    first = values.flat[0]
    return int(first) if (values == first).all() else None
