"""The neuron models, and nothing else.

Equations are NIR's (neuroir.org), in discrete time: ``v`` is the membrane potential and ``decay``
its decay per step, ``u`` the synaptic current and ``current_decay`` its, ``a`` the input current.
"""

from __future__ import annotations

from typing import Any

from qspinn.dynamics import Model, Value, maximum, select, trace
from qspinn.errors import VerifyError

RESETS = ("zero", "subtract", "value")
TIMINGS = ("at_spike", "next_before_decay", "next_after_decay", "next_discard")
COMPARES = (">", ">=")


def fires(x: Value, threshold: Value, compare: str) -> Value:
    """Whether ``x`` crosses the threshold."""
    return x > threshold if compare == ">" else x >= threshold


def spiking(
    *,
    synapse: str = "",
    leak: bool = True,
    bias: bool = False,
    reset: str = "zero",
    timing: str = "at_spike",
    compare: str = ">",
    refractory: bool = False,
    max_spikes: int = 1,
    clamp: bool = False,
) -> Model:
    """A leaky or plain integrate-and-fire neuron, with or without a synaptic current.

    Args:
        synapse: "" (the input enters the membrane), "new" or "old" (which synaptic current does).
        leak: Whether the membrane decays by ``decay``.
        bias: Whether the membrane receives ``bias`` each step.
        reset: "zero", "subtract" (the threshold) or "value" (to ``v_reset``).
        timing: "at_spike"; or in the next step "next_before_decay", "next_after_decay" (only what
            was left of the old potential is reset), "next_discard" (that step's input goes too).
        compare: ">" or ">=".
        refractory: Whether the membrane is held for ``refractory`` steps after a spike.
        max_spikes: The most spikes in a step, 2**b - 1; they are sent as a count.
        clamp: Whether the membrane is kept at or above ``v_min``.

    Raises:
        VerifyError: The options contradict each other.
    """
    _check(synapse, reset, timing, compare, refractory, max_spikes)
    late = timing != "at_spike"
    used = {
        "current_decay": bool(synapse), "decay": leak, "bias": bias, "threshold": True,
        "v_reset": reset == "value", "refractory": refractory, "v_min": clamp,
    }  # fmt: skip
    states = {"u": bool(synapse), "v": True, "fired": late, "wait": refractory}

    def target(n: Any, v: Value) -> Value | int:
        if reset == "zero":
            return 0
        to: Value = v - n.threshold if reset == "subtract" else n.v_reset
        return to

    def integrate(n: Any) -> Value:
        drive = n.a
        if synapse:
            before = n.u
            n.u = n.current_decay * n.u + n.a
            drive = n.u if synapse == "new" else before
        if bias:
            drive = drive + n.bias
        v = n.v
        if timing == "next_before_decay":
            v = select(n.fired > 0, target(n, v), v)
        v = n.decay * v if leak else v
        if timing == "next_after_decay":
            v = select(n.fired > 0, target(n, v), v)
        v = v + drive
        return select(n.fired > 0, target(n, v), v) if timing == "next_discard" else v

    def body(n: Any) -> None:
        v = integrate(n)
        if refractory:
            ready = ~(n.wait > 0)
            n.v = select(ready, v, n.v)
        else:
            n.v = v
        if max_spikes > 1:
            count, left = _divide(n, n.v, max_spikes, compare)
            n.s = count
            n.v = left if reset == "subtract" else select(count > 0, target(n, left), n.v)
        else:
            crossed = fires(n.v, n.threshold, compare)
            n.s = ready & crossed if refractory else crossed
            if not late:
                n.v = select(n.s, target(n, n.v), n.v)
        if late:
            n.fired = select(n.s, 1, 0)
        if clamp:
            n.v = maximum(n.v, n.v_min)
        if refractory:
            n.wait = select(n.s, n.refractory, maximum(n.wait - 1, 0))

    return trace(
        body,
        name=("Cuba" if synapse else "") + ("LIF" if leak else "IF"),
        states=" ".join(k for k, on in states.items() if on),
        params=" ".join(k for k, on in used.items() if on),
        sends="count" if max_spikes > 1 else "spike",
        max_out=max_spikes,
    )


def _divide(n: Any, v: Value, most: int, compare: str) -> tuple[Value, Value]:
    """How often the threshold goes into ``v``, at most ``most`` times, and what is left.

    Restoring division by the threshold's doublings: exact, and made of the thirteen operations.
    """
    steps = [n.threshold]
    while len(steps) < most.bit_length():
        steps.append(steps[-1] + steps[-1])
    count: Value | None = None
    for bit in reversed(range(len(steps))):
        crossed = fires(v, steps[bit], compare)
        v = select(crossed, v - steps[bit], v)
        part = select(crossed, 1 << bit, 0)
        count = part if count is None else count + part
    assert count is not None, "max_spikes is at least 1"
    return count, v


def _check(
    synapse: str, reset: str, timing: str, compare: str, refractory: bool, max_spikes: int
) -> None:
    for value, allowed in (
        (synapse, ("", "new", "old")), (reset, RESETS), (timing, TIMINGS), (compare, COMPARES),
    ):  # fmt: skip
        if value not in allowed:
            raise VerifyError(f"{value!r} is none of {', '.join(map(repr, allowed))}")
    if max_spikes < 1 or max_spikes & (max_spikes + 1):
        raise VerifyError(f"max_spikes is 1, 3, 7, 15, ..., not {max_spikes}")
    if timing != "at_spike" and (refractory or max_spikes > 1):
        raise VerifyError("a late reset allows neither refractory steps nor several spikes")
    if refractory and max_spikes > 1:
        raise VerifyError("a refractory neuron sends at most one spike a step")
    if timing == "next_discard" and reset == "subtract":
        raise VerifyError("a subtracting reset has nothing to discard")


def integrator(*, synapse: str = "", leak: bool = True, bias: bool = False) -> Model:
    """A neuron that never fires and sends its membrane potential: NIR's LI, CubaLI or I."""
    used = {"current_decay": bool(synapse), "decay": leak, "bias": bias}

    def body(n: Any) -> None:
        drive = n.a
        if synapse:
            before = n.u
            n.u = n.current_decay * n.u + n.a
            drive = n.u if synapse == "new" else before
        if bias:
            drive = drive + n.bias
        n.v = n.decay * n.v + drive if leak else n.v + drive
        n.y = n.v

    return trace(
        body,
        name=("Cuba" if synapse else "") + ("LI" if leak else "I"),
        states="u v" if synapse else "v",
        params=" ".join(k for k, on in used.items() if on),
        out="y",
        sends="current",
    )
