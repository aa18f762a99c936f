"""The neuron models, and nothing else.

Equations are NIR's (neuroir.org), in discrete time: ``v`` is the membrane potential and ``decay``
its decay per step, ``u`` the synaptic current and ``current_decay`` its, ``a`` the input current.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qspinn.dynamics import Model, Value, maximum, select, trace
from qspinn.errors import VerifyError

RESETS = ("zero", "subtract", "value")
TIMINGS = ("at_spike", "next_before_decay", "next_after_decay", "next_discard")
COMPARES = (">", ">=")


def fires(x: Value, threshold: Value, compare: str) -> Value:
    """Whether ``x`` crosses the threshold."""
    return x > threshold if compare == ">" else x >= threshold


@dataclass(frozen=True)
class Rule:
    """How a spiking neuron integrates, fires and resets; see `spiking` for the meanings."""

    synapse: str = ""
    leak: bool = True
    bias: bool = False
    reset: str = "zero"
    timing: str = "at_spike"
    compare: str = ">"
    refractory: bool = False
    max_spikes: int = 1
    clamp: bool = False
    adaptive: bool = False

    @property
    def late(self) -> bool:
        """Whether a spike resets the membrane in the next step."""
        return self.timing != "at_spike"

    def names(self) -> tuple[str, str]:
        """The states and the parameters the rule needs."""
        states = {
            "u": self.synapse, "v": True, "adaptation": self.adaptive, "fired": self.late,
            "wait": self.refractory,
        }  # fmt: skip
        params = {
            "current_decay": self.synapse, "decay": self.leak, "bias": self.bias,
            "threshold": True, "adaptation_decay": self.adaptive,
            "adaptation_step": self.adaptive, "v_reset": self.reset == "value",
            "reset_step": self.reset == "amount", "refractory": self.refractory,
            "v_min": self.clamp,
        }  # fmt: skip
        return _chosen(states), _chosen(params)

    def threshold(self, n: Any) -> Value:
        """What the membrane potential must cross."""
        base: Value = n.threshold
        return base + n.adaptation if self.adaptive else base

    def after_spike(self, n: Any, v: Value) -> Value | int:
        """What the membrane potential becomes."""
        if self.reset == "zero":
            return 0
        if self.reset == "value":
            to: Value = n.v_reset
            return to
        return v - (self.threshold(n) if self.reset == "subtract" else n.reset_step)

    def integrate(self, n: Any) -> Value:
        """The membrane potential before the comparison."""
        drive = driven(n, self.synapse, bias=self.bias)
        v: Value = n.v
        if self.timing == "next_before_decay":
            v = select(n.fired > 0, self.after_spike(n, v), v)
        v = n.decay * v if self.leak else v
        if self.timing == "next_after_decay":
            v = select(n.fired > 0, self.after_spike(n, v), v)
        v = v + drive
        if self.timing == "next_discard":
            v = select(n.fired > 0, self.after_spike(n, v), v)
        return v

    def fire_once(self, n: Any) -> None:
        """Compare, send at most one spike, reset."""
        v = self.integrate(n)
        if self.refractory:
            ready = ~(n.wait > 0)
            n.v = select(ready, v, n.v)
            n.s = ready & fires(n.v, self.threshold(n), self.compare)
        else:
            n.v = v
            n.s = fires(n.v, self.threshold(n), self.compare)
        if self.late:
            n.fired = select(n.s, 1, 0)
        else:
            n.v = select(n.s, self.after_spike(n, n.v), n.v)
        if self.refractory:
            n.wait = select(n.s, n.refractory, maximum(n.wait - 1, 0))
        if self.adaptive:
            step = select(n.s, n.adaptation_step, 0)
            n.adaptation = n.adaptation_decay * n.adaptation + step

    def fire_often(self, n: Any) -> None:
        """Send as many spikes as the threshold goes into the membrane potential."""
        n.v = self.integrate(n)
        each = [n.reset_step] if self.reset == "amount" else []
        each += [n.adaptation_step] if self.adaptive else []
        n.s, left, sums = _divide(n.v, self.threshold(n), self.max_spikes, self.compare, each)
        if self.reset == "amount":
            left = n.v - sums[0]
        stays = self.reset in ("subtract", "amount")
        n.v = left if stays else select(n.s > 0, self.after_spike(n, left), n.v)
        if self.adaptive:
            n.adaptation = n.adaptation_decay * n.adaptation + sums[-1]


def _chosen(names: Mapping[str, object]) -> str:
    return " ".join(name for name, used in names.items() if used)


def driven(n: Any, synapse: str, *, bias: bool) -> Value:
    """What enters the membrane in this step; the synaptic current is updated first."""
    drive: Value = n.a
    if synapse:
        before = n.u
        n.u = n.current_decay * n.u + n.a
        drive = n.u if synapse == "new" else before
    return drive + n.bias if bias else drive


def spiking(**options: Any) -> Model:
    """A leaky or plain integrate-and-fire neuron, with or without a synaptic current.

    Args:
        options: The fields of `Rule`.
            ``synapse``: "" (the input enters the membrane), "new" or "old" (which synaptic
            current does). ``leak``: the membrane decays by ``decay``. ``bias``: it receives
            ``bias`` each step. ``reset``: "zero", "subtract" (the threshold), "amount"
            (``reset_step``, for each spike) or "value" (to ``v_reset``). ``timing``: "at_spike";
            or in the next step "next_before_decay", "next_after_decay" (only what was left of the
            old potential is reset) or "next_discard" (that step's input goes too).
            ``compare``: ">" or ">=".
            ``refractory``: the membrane is held for ``refractory`` steps after a spike.
            ``max_spikes``: the most spikes in a step, 2**b - 1, sent as a count.
            ``clamp``: the membrane is kept at or above ``v_min``.
            ``adaptive``: the threshold is ``threshold`` + ``adaptation``, which each spike raises
            by ``adaptation_step`` and which decays by ``adaptation_decay`` (homeostasis as in
            Diehl and Cook 2015, or an ALIF neuron).

    Raises:
        VerifyError: The options contradict each other.
    """
    rule = Rule(**options)
    _check(rule)

    def body(n: Any) -> None:
        if rule.max_spikes > 1:
            rule.fire_often(n)
        else:
            rule.fire_once(n)
        if rule.clamp:
            n.v = maximum(n.v, n.v_min)

    states, params = rule.names()
    return trace(
        body,
        name="".join(
            (
                "Cuba" if rule.synapse else "",
                "A" if rule.adaptive else "",
                "LIF" if rule.leak else "IF",
            )
        ),
        states=states,
        params=params,
        sends="count" if rule.max_spikes > 1 else "spike",
        max_out=rule.max_spikes,
    )


def _divide(
    v: Value, threshold: Value, most: int, compare: str, each: Sequence[Value]
) -> tuple[Value, Value, list[Value]]:
    """How often the threshold goes into ``v``, at most ``most`` times, and what is left.

    The last results are the values of ``each``, as many times. Restoring division by the
    threshold's doublings: exact, and made of the thirteen operations.
    """
    places = most.bit_length()
    steps, parts = _doubled(threshold, places), [_doubled(value, places) for value in each]
    sums: list[Value | None] = [None] * (1 + len(parts))
    for bit in reversed(range(places)):
        crossed = fires(v, steps[bit], compare)
        v = select(crossed, v - steps[bit], v)
        wholes: list[Value | int] = [1 << bit, *(part[bit] for part in parts)]
        for at, whole in enumerate(wholes):
            part, total = select(crossed, whole, 0), sums[at]
            sums[at] = part if total is None else total + part
    count, *totals = (total for total in sums if total is not None)
    return count, v, totals


def _doubled(value: Value, places: int) -> list[Value]:
    """``value`` times 1, 2, 4, ..."""
    found = [value]
    while len(found) < places:
        found.append(found[-1] + found[-1])
    return found


def _check(rule: Rule) -> None:
    for value, allowed in (
        (rule.synapse, ("", "new", "old")), (rule.reset, (*RESETS, "amount")),
        (rule.timing, TIMINGS), (rule.compare, COMPARES),
    ):  # fmt: skip
        if value not in allowed:
            raise VerifyError(f"{value!r} is none of {', '.join(map(repr, allowed))}")
    most = rule.max_spikes
    if most < 1 or most & (most + 1):
        raise VerifyError(f"max_spikes is 1, 3, 7, 15, ..., not {most}")
    if rule.late and (rule.refractory or most > 1):
        raise VerifyError("a late reset allows neither refractory steps nor several spikes")
    if rule.adaptive and rule.late:
        raise VerifyError("an adaptive threshold allows no late reset")
    if rule.refractory and most > 1:
        raise VerifyError("a refractory neuron sends at most one spike a step")
    if rule.timing == "next_discard" and rule.reset == "subtract":
        raise VerifyError("a subtracting reset has nothing to discard")


def unreset(*, synapse: str = "") -> Model:
    """A leaky neuron that a spike does not reset: snnTorch's `none`."""

    def body(n: Any) -> None:
        n.v = n.decay * n.v + driven(n, synapse, bias=False)
        n.s = n.v > n.threshold

    return _leaky(body, "NoReset", synapse)


def rectified(*, signed: bool = False) -> Model:
    """A leaky membrane that is cut at zero and that no spike resets: snnTorch's LeakyParallel.

    ``signed``: some neurons turn their potential over in every step; for each, one of ``decay``
    and ``turn`` is zero.
    """

    def body(n: Any) -> None:
        before = n.v
        v = n.decay * before + n.a
        n.v = maximum(v - n.turn * before if signed else v, 0)
        n.s = n.v > n.threshold

    more = " turn" * signed
    return trace(body, name="RectifiedLIF", states="v", params=f"decay threshold{more}")


def without_delay(*, synapse: str = "") -> Model:
    """A leaky neuron as snnTorch subtracts without delay, ``reset_delay=False``.

    A membrane that is above the threshold after its reset takes the next step's subtraction
    before the comparison; that subtraction is undone where no spike follows.
    """

    def body(n: Any) -> None:
        above = n.v > n.threshold
        v = n.decay * n.v + driven(n, synapse, bias=False)
        n.s = select(above, v - n.threshold, v) > n.threshold
        n.v = select(n.s, v - n.threshold, v)

    return _leaky(body, "Undelayed", synapse)


def alpha(reset: str) -> Model:
    """A membrane that is the difference of two currents: snnTorch's Alpha.

    A spike acts in the next step, on the currents as well. ``reset``: "zero" (all of the step is
    dropped), "subtract" (the excitation loses ``step``, the inhibition starts anew, and
    ``share`` of what it was returns to the membrane) or "none".
    """

    def body(n: Any) -> None:
        late = n.v > n.threshold
        left = n.inhibition
        up = n.excitation_decay * n.excitation + n.a
        down = n.inhibition_decay * left - n.a
        v = up + down
        if reset == "zero":
            up, down, v = select(late, 0, up), select(late, 0, down), select(late, 0, v)
        if reset == "subtract":
            up, down = select(late, up - n.step, up), select(late, 0, down)
            v = select(late, v + n.share * left, v)
        n.excitation, n.inhibition, n.v = up, down, v
        n.s = n.v > n.threshold

    more = " step share" * (reset == "subtract")
    return trace(
        body, name="Alpha", states="excitation inhibition v",
        params=f"excitation_decay inhibition_decay threshold{more}",
    )  # fmt: skip


def delta() -> Model:
    """A leaky membrane that is never reset and fires as it moves: snnTorch's DeltaLeaky."""

    def body(n: Any) -> None:
        before = n.v
        v = n.decay * before + n.a
        n.s = (v - before > n.threshold) | (before - v > n.threshold)
        n.v = v

    return trace(body, name="DeltaLIF", states="v", params="decay threshold")


def resonator(reset: str, compare: str) -> Model:
    """A membrane that turns about another state, and so answers to a frequency: resonate-and-fire.

    The input moves ``turn``, and a spike resets the membrane alone. ``reset``: "zero", "subtract"
    or "value" (to ``back_to``; a membrane that turns is not counted from there).
    """

    def body(n: Any) -> None:
        turn, v = n.turn, n.v
        n.turn = n.cosine * turn - n.sine * v + n.a
        n.v = n.sine * turn + n.cosine * v
        n.s = fires(n.v, n.threshold, compare)
        to = {"zero": 0, "subtract": n.v - n.threshold}.get(reset)
        n.v = select(n.s, n.back_to if to is None else to, n.v)

    more = " back_to" * (reset == "value")
    params = f"cosine sine threshold{more}"
    return trace(body, name="Resonator", states="turn v", params=params)


def _leaky(body: Callable[[Any], None], name: str, synapse: str) -> Model:
    return trace(
        body,
        name=f"{'Cuba' if synapse else ''}LIF{name}",
        states="u v" if synapse else "v",
        params=_chosen({"current_decay": synapse, "decay": True, "threshold": True}),
    )


def integrator(*, synapse: str = "", leak: bool = True, bias: bool = False) -> Model:
    """A neuron that never fires and sends its membrane potential: NIR's LI, CubaLI or I."""

    def body(n: Any) -> None:
        drive = driven(n, synapse, bias=bias)
        n.v = n.decay * n.v + drive if leak else n.v + drive
        n.y = n.v

    return trace(
        body,
        name=("Cuba" if synapse else "") + ("LI" if leak else "I"),
        states="u v" if synapse else "v",
        params=_chosen({"current_decay": synapse, "decay": leak, "bias": bias}),
        out="y",
        sends="current",
    )


SECOND = -1.0
"""What a spike of the second input brings to `larger`; one of the first brings 1 - `SECOND`."""


def larger() -> Model:
    """A neuron that has fired, after every step, as often as the busier of its two inputs.

    A spike of the first input brings 2, one of the second -1, so that their sum tells which
    arrived; the threshold lies between what both bring and what the first one alone does. The
    state ``v`` is by how many thresholds the first one is ahead.
    """

    def body(n: Any) -> None:
        alone = n.a >= n.threshold
        other = n.a < 0
        both = (n.a > 0) & ~alone
        n.s = both | (alone & (n.v >= 0)) | (other & (n.v <= 0))
        n.v = n.v + select(alone, n.threshold, 0) - select(other, n.threshold, 0)

    return trace(body, name="Larger", states="v", params="threshold")
