"""What the neuron models mean, one neuron in exact rationals: written from their description.

Nothing here reads an operation list. Values are `Fraction`; a format is a grid and a range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from qspinn.fixed import Overflow, QFormat, Rounding
from qspinn.ir import Neuron


def rounded(x: Fraction, frac: int, rounding: Rounding) -> Fraction:
    """``x`` on the grid 2**-frac."""
    grid = Fraction(2) ** -frac
    low = math.floor(x / grid)
    rest = x / grid - low
    up = {
        Rounding.FLOOR: False,
        Rounding.ZERO: x < 0 and rest > 0,
        Rounding.NEAREST_EVEN: rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2 == 1),
        Rounding.NEAREST_AWAY: rest > Fraction(1, 2) or (rest == Fraction(1, 2) and x > 0),
    }[rounding]
    return (low + up) * grid


@dataclass(frozen=True)
class Cell:
    """How one state is stored."""

    fmt: QFormat
    rounding: Rounding
    overflow: Overflow

    def keep(self, x: Fraction) -> Fraction:
        whole = rounded(x, self.fmt.frac, self.rounding) * Fraction(2) ** self.fmt.frac
        lo, hi = self.fmt.range.lo, self.fmt.range.hi
        if self.overflow is Overflow.WRAP:
            whole = lo + (whole - lo) % (hi - lo + 1)
        return min(max(whole, Fraction(lo)), Fraction(hi)) * Fraction(2) ** -self.fmt.frac


@dataclass(frozen=True)
class Factor:
    """A decay: a fixed-point factor, or the k of a leak."""

    value: int
    fmt: QFormat
    rounding: Rounding

    def times(self, x: Fraction, frac: int) -> Fraction:
        """The product at the binary point of ``x``, which is ``frac``."""
        if self.fmt.leak:
            return x - rounded(x / 2**self.value, frac, self.rounding)
        return rounded(x * self.value * Fraction(2) ** -self.fmt.frac, frac, self.rounding)


class Oracle:
    """One neuron of a layer, stepped by hand.

    Args:
        node: An integer neuron node.
        rule: The options its model was made from, as `neurons.spiking` takes them.
        index: Which neuron of the layer, flat.
    """

    def __init__(self, node: Neuron, rule: Mapping[str, object], index: int) -> None:
        self.rule = {
            "synapse": "", "leak": True, "bias": False, "reset": "zero", "timing": "at_spike",
            "compare": ">", "refractory": False, "max_spikes": 1, "clamp": False,
            "adaptive": False, **rule,
        }  # fmt: skip
        self.factors: dict[str, Factor] = {}
        self.constants: dict[str, Fraction] = {}
        self.points: dict[str, int] = {}
        for name, param in node.values.items():
            stored, fmt = own(param.values, node, index), param.fmt
            assert fmt is not None
            if name.endswith("decay"):
                self.factors[name] = Factor(stored, fmt, param.rounding)
            else:
                self.constants[name] = stored * Fraction(2) ** -fmt.frac
                self.points[name] = fmt.frac
        self.cells: dict[str, Cell] = {}
        self.state: dict[str, Fraction] = {}
        for name, state in node.states.items():
            assert state.fmt is not None
            self.cells[name] = Cell(state.fmt, state.rounding, state.overflow)
            self.state[name] = own(state.init.values, node, index) * Fraction(2) ** -state.fmt.frac

    def put(self, name: str, x: Fraction | int) -> Fraction:
        self.state[name] = self.cells[name].keep(Fraction(x))
        return self.state[name]

    def integers(self) -> dict[str, int]:
        return {k: int(x * Fraction(2) ** self.cells[k].fmt.frac) for k, x in self.state.items()}

    # --- one step ---

    def step(self, a: Fraction) -> int:
        """Take the input current of this step; give the spikes sent in it."""
        self.integrate(a)
        spikes = self.fire_once() if self.rule["max_spikes"] == 1 else self.fire_often()
        if self.rule["clamp"] and self.state["v"] < self.constants["v_min"]:
            self.put("v", self.constants["v_min"])
        return spikes

    def integrate(self, a: Fraction) -> None:
        rule, state = self.rule, self.state
        drive = a
        if rule["synapse"]:
            before = state["u"]
            decayed = self.factors["current_decay"].times(before, self.cells["u"].fmt.frac)
            after = self.put("u", decayed + a)
            drive = after if rule["synapse"] == "new" else before
        if rule["bias"]:
            drive += self.constants["bias"]
        if rule["refractory"] and state["wait"] > 0:
            return  # the membrane is held; the current went on
        v, late = state["v"], bool(state.get("fired", 0))
        if late and rule["timing"] == "next_before_decay":
            v = self.reset(v)
        if rule["leak"]:
            # A product lies on the grid of the value it scales; with a late reset before it,
            # that is the finer one of the membrane and of what it was reset to.
            v = self.factors["decay"].times(v, self.grid())
        if late and rule["timing"] == "next_after_decay":
            v = self.reset(v)
        v += drive
        if late and rule["timing"] == "next_discard":
            v = self.reset(v)
        self.put("v", v)

    def grid(self) -> int:
        fracs = [self.cells["v"].fmt.frac]
        if self.rule["timing"] == "next_before_decay" and self.rule["reset"] != "zero":
            name = "threshold" if self.rule["reset"] == "subtract" else "v_reset"
            fracs.append(self.points[name])
        return max(fracs)

    def reset(self, v: Fraction) -> Fraction:
        if self.rule["reset"] == "zero":
            return Fraction(0)
        if self.rule["reset"] == "subtract":
            return v - self.level()
        return self.constants["v_reset"]

    def level(self) -> Fraction:
        return self.constants["threshold"] + self.state.get("adaptation", 0)

    def crosses(self, level: Fraction) -> bool:
        v = self.state["v"]
        return v > level if self.rule["compare"] == ">" else v >= level

    def fire_once(self) -> int:
        ready = not (self.rule["refractory"] and self.state["wait"] > 0)
        fired = ready and self.crosses(self.level())
        if self.rule["timing"] != "at_spike":
            self.put("fired", int(fired))
        elif fired:
            self.put("v", self.reset(self.state["v"]))
        if self.rule["refractory"]:
            rest = self.constants["refractory"] if fired else max(self.state["wait"] - 1, 0)
            self.put("wait", rest)
        if self.rule["adaptive"]:
            held, point = self.state["adaptation"], self.cells["adaptation"].fmt.frac
            kept = self.factors["adaptation_decay"].times(held, point)
            self.put("adaptation", kept + (self.constants["adaptation_step"] if fired else 0))
        return int(fired)

    def fire_often(self) -> int:
        threshold, most = self.constants["threshold"], self.rule["max_spikes"]
        assert isinstance(most, int)
        assert threshold > 0, "how often a threshold of nothing is crossed has no answer"
        spikes = sum(self.crosses(n * threshold) for n in range(1, most + 1))
        if spikes and self.rule["reset"] == "subtract":
            self.put("v", self.state["v"] - spikes * threshold)
        elif spikes:
            self.put("v", self.reset(self.state["v"]))
        return spikes


def own(values: npt.ArrayLike, node: Neuron, index: int) -> int:
    """One neuron's integer of a parameter that broadcasts to the layer."""
    return int(np.broadcast_to(np.asarray(values), node.shape).ravel()[index])
