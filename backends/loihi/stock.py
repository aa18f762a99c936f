"""Neurons as Lava's LIF computes them: recognised, rewritten exactly, and read as registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from qspinn.dynamics import Model
from qspinn.errors import QspinnError
from qspinn.fixed import IntArray, Interval, Overflow, QFormat, Rounding
from qspinn.ir import Neuron, Param, State
from qspinn.lowering import lower
from qspinn.neurons import integrator, spiking
from qspinn.passes.canonicalize import rule_of

from .reasons import Unfit
from .table import (
    DECAY,
    INPUT_SHIFT,
    MANTISSA,
    MOST_BIAS_EXPONENT,
    NEVER,
    OVERFLOWS,
    STATE,
    UNITY,
    current_format,
    membrane_format,
)

_OLD = "integrates the old synaptic current"
LIF = spiking(synapse="new", bias=True)
LI = integrator(synapse="new", bias=True)
_VARIANTS = [
    (make(synapse=synapse, leak=leak, bias=bias), full)
    for make, full in ((spiking, LIF), (integrator, LI))
    for synapse in ("", "new")
    for leak in (True, False)
    for bias in (True, False)
]


@dataclass(frozen=True, eq=False)
class Registers:
    """What Lava's LIF is given; arrays broadcast to the layer's shape."""

    du: IntArray
    dv: IntArray
    vth: IntArray
    bias_mant: IntArray
    bias_exp: IntArray
    u: IntArray
    v: IntArray

    @property
    def starts_at_rest(self) -> bool:
        """Whether both states start from zero, where LIFReset puts them."""
        return not (self.u.any() or self.v.any())


def full_model(model: Model) -> Model | None:
    """The list of Lava's LIF (or the same without spikes) of which ``model`` is a special case."""
    for variant, full in _VARIANTS:
        if (variant.ops, variant.output) == (model.ops, model.output):
            return full
    return None


def why_not(node: Neuron) -> str:
    """What about a neuron's rules Lava's LIF lacks."""
    try:
        rule = rule_of(node)
    except QspinnError:
        old = "u" in node.states and node.model.sends == "current"
        return _OLD if old else f"{node.model.name} is no standard model"
    lacks = {
        "resets by subtraction": rule["reset"] == "subtract",
        "resets to a value": rule["reset"] == "value",
        "resets in the next step": rule["timing"] != "at_spike",
        "fires at >=": rule["compare"] == ">=",
        "has a refractory period": rule["refractory"],
        "has a lower clamp": rule["clamp"],
        "sends several spikes a step": rule["max_spikes"] != 1,
        "has an adaptive threshold": rule["adaptive"],
        _OLD: rule["synapse"] == "old",
    }
    return ", ".join(words for words, on in lacks.items() if on)


def point_of(node: Neuron) -> int:
    """The binary point of the membrane."""
    fmt = node.states["v"].fmt
    assert fmt is not None, "an integer graph"
    return fmt.frac


def rewritten(node: Neuron, bias: IntArray, span: Interval, frac: int) -> Neuron:
    """The neuron as Lava's LIF list with Loihi's formats: the same integers in every step.

    Args:
        node: A neuron of any formats.
        bias: What its connections add to the membrane in every step, at the membrane's point.
        span: The interval of its input current.
        frac: The binary point of that current.

    Raises:
        Unfit: Something about it is not the LIF's.
    """
    full = full_model(node.model)
    if full is None:
        raise Unfit(why_not(node))
    point = point_of(node)
    _states_fit(node, span, frac, point)
    zero = Param(np.zeros((), np.int64), DECAY, Rounding.ZERO)
    one = Param(np.array(UNITY), DECAY, Rounding.ZERO)
    values = {
        "current_decay": _decay(node, "current_decay") if "u" in node.states else zero,
        "decay": _decay(node, "decay") if "decay" in node.values else one,
        "bias": _bias(node, bias, point),
    }
    if "threshold" in full.params:
        values["threshold"] = _threshold(node.values["threshold"], point)
    rest = State(Param(np.zeros((), np.int64), current_format(point)))
    formats = {"u": current_format(point), "v": membrane_format(point)}
    states = {
        name: _state(node.states.get(name, rest), fmt, OVERFLOWS[name])
        for name, fmt in formats.items()
    }
    ordered = {name: values[name] for name in full.params}
    drops = node.input_format is not None and node.input_format.frac < frac
    # Lava's channels have 32 bits; the 16 of the activation are proved or assumed elsewhere.
    enters = QFormat(32, point - INPUT_SHIFT) if drops else None
    return replace(node, model=full, values=ordered, states=states, input_format=enters)


def _state(state: State, fmt: QFormat, overflow: Overflow) -> State:
    start = state.init.values
    if start.min() < fmt.range.lo or start.max() > fmt.range.hi:
        raise Unfit(f"starts from {start.min()} to {start.max()}, outside {fmt}")
    return State(Param(start, fmt), fmt, Rounding.ZERO, overflow)


def _states_fit(node: Neuron, span: Interval, frac: int, point: int) -> None:
    """Both states hold what Lava's hold, or neither ever reaches an end of its range."""
    formats = {"u": current_format(point), "v": membrane_format(point)}
    for name, state in node.states.items():
        fmt, want = state.fmt, formats[name]
        assert fmt is not None, "an integer graph"
        if fmt.frac != point:
            raise Unfit(f"u has the binary point {fmt.frac}, v {point}; the LIF has one for both")
        if fmt.range == want.range and state.overflow is OVERFLOWS[name]:
            continue
        for held in (fmt, want):
            if not _never_leaves(node, name, held, span, frac):
                raise Unfit(f"{name} is {fmt} {state.overflow} and may leave {held.range}")


def _never_leaves(node: Neuron, name: str, fmt: QFormat, span: Interval, frac: int) -> bool:
    state = replace(node.states[name], fmt=fmt, overflow=Overflow.ERROR)
    try:
        lower(replace(node, states={**node.states, name: state}), span, frac)
    except QspinnError:
        return False
    return True


def _decay(node: Neuron, name: str) -> Param:
    """A factor of 0 to 1 in 4096ths whose products round toward zero."""
    param = node.values[name]
    fmt, values = param.fmt, param.values
    assert fmt is not None, "an integer graph"
    if fmt.leak:
        if values.any():
            raise Unfit(f"{name} is a leak 1 - 2**-k; the LIF multiplies by 4096ths")
        return Param(values, DECAY, Rounding.ZERO)
    scaled = moved(values, fmt.frac, DECAY.frac, name)
    if scaled.min() < 0 or scaled.max() > UNITY:
        raise Unfit(f"{name} lies outside 0 to 1")
    whole = (scaled == 0) | (scaled == UNITY)  # their products are exact: no rounding shows
    if param.rounding is not Rounding.ZERO and not whole.all():
        raise Unfit(f"products with {name} round to {param.rounding}; the LIF's round to zero")
    return Param(scaled, DECAY, Rounding.ZERO)


def _threshold(param: Param, point: int) -> Param:
    """A mantissa six places above the membrane; beyond 17 bits it never fires."""
    assert param.fmt is not None, "an integer graph"
    drop = param.fmt.frac - point
    # v * 2**drop > t is v > floor(t / 2**drop), so a finer threshold may be cut.
    exact = param.values >> drop if drop >= 0 else param.values << -drop
    never = exact >= STATE.hi
    mantissa = np.where(never, NEVER, exact >> INPUT_SHIFT)
    if (exact[~never] & ((1 << INPUT_SHIFT) - 1)).any():
        raise Unfit(f"the threshold is no multiple of 2**{INPUT_SHIFT - point}")
    if (exact < 0).any():
        raise Unfit("the threshold is negative")
    return Param(mantissa, QFormat(18 if never.any() else 17, point - INPUT_SHIFT, signed=False))


def _bias(node: Neuron, extra: IntArray, point: int) -> Param:
    total = extra
    if "bias" in node.values:
        own = node.values["bias"]
        assert own.fmt is not None, "an integer graph"
        total = total + moved(own.values, own.fmt.frac, point, "bias")
    mantissa_and_exponent(total)
    return Param(total, QFormat(21, point))


def mantissa_and_exponent(bias: IntArray) -> tuple[IntArray, IntArray]:
    """A bias as mantissa << exponent, each value with its smallest exponent.

    Raises:
        Unfit: A value has no such form.
    """
    mantissa, exponent = np.array(bias), np.zeros_like(bias)
    for _ in range(MOST_BIAS_EXPONENT):
        large = np.abs(mantissa) > MANTISSA
        even = large & (mantissa & 1 == 0)
        mantissa, exponent = np.where(even, mantissa >> 1, mantissa), exponent + even
    if (np.abs(mantissa) > MANTISSA).any():
        worst = int(bias.reshape(-1)[np.argmax(np.abs(mantissa))])
        raise Unfit(
            f"the bias {worst} is no mantissa of at most {MANTISSA} times 2**0 to 2**7",
            hint="give it 13 bits in the plan",
        )
    return mantissa, exponent


def moved(values: IntArray, old: int, new: int, name: str) -> IntArray:
    """Integers at another binary point.

    Raises:
        Unfit: The new point is too coarse for them.
    """
    if new >= old:
        if int(np.abs(values).max()).bit_length() + new - old > 62:
            raise Unfit(f"{name} is too large at the binary point {new}")
        return values << (new - old)
    if (values & ((1 << (old - new)) - 1)).any():
        raise Unfit(
            f"{name} has {old} fraction bits, the place it goes to {new}",
            hint="make it coarser in the plan, or the membrane finer",
        )
    return values >> (old - new)


def registers(node: Neuron) -> Registers | None:
    """The registers of a neuron in the form `rewritten` gives; None for any other."""
    if node.model not in (LIF, LI):
        return None
    point = point_of(node)
    formats: Mapping[str, QFormat] = {"u": current_format(point), "v": membrane_format(point)}
    for name, fmt in formats.items():
        state = node.states[name]
        if state.fmt != fmt or state.overflow is not OVERFLOWS[name]:
            return None
    for name in ("current_decay", "decay"):
        if node.values[name].fmt != DECAY or node.values[name].rounding is not Rounding.ZERO:
            return None
    try:
        mantissa, exponent = mantissa_and_exponent(node.values["bias"].values)
    except Unfit:
        return None
    threshold = node.values.get("threshold")
    if threshold is not None and not _is_mantissa(threshold, point):
        return None
    return Registers(
        du=UNITY - 1 - node.values["current_decay"].values,
        dv=UNITY - node.values["decay"].values,
        vth=np.array(NEVER) if threshold is None else threshold.values,
        bias_mant=mantissa,
        bias_exp=exponent,
        u=node.states["u"].init.values,
        v=node.states["v"].init.values,
    )


def _is_mantissa(threshold: Param, point: int) -> bool:
    low, high = threshold.values.min(), threshold.values.max()
    fmt = threshold.fmt
    return fmt is not None and fmt.frac == point - INPUT_SHIFT and low >= 0 and high <= NEVER
