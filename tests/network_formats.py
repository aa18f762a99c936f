"""The numbers of random networks: formats, roundings, ranges and values, of any kind or Loihi's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from qspinn import neurons
from qspinn.dynamics import Model, Value, maximum, minimum, select, trace
from qspinn.fixed import Interval, Overflow, QFormat, Rounding
from qspinn.ir import Array, Param, Shape, State

T = TypeVar("T")

FLAG, COUNTER = QFormat(1, 0, signed=False), QFormat(4, 0, signed=False)
LOIHI_U = QFormat(24, 6, True, -8388607, 8388608)
LOIHI_V = QFormat(24, 6, True, -8388607, 8388607)
ROUNDINGS = tuple(Rounding)


@dataclass
class Draw:
    """Seeded choices, and a record of them in words."""

    rng: np.random.Generator
    tags: set[str] = field(default_factory=set)

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def pick(self, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        p = None if weights is None else np.array(weights) / sum(weights)
        return options[int(self.rng.choice(len(options), p=p))]

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def tag(self, kind: str, value: object) -> None:
        self.tags.add(f"{kind}:{value}")

    def spread(self, shape: Shape, fmt: QFormat) -> Array:
        """Integers of a format: flat, bell-shaped or sparse, and now and then its ends."""
        lo, hi = fmt.range.lo, fmt.range.hi
        style = self.pick(("flat", "bell", "sparse"))
        if style == "bell":
            middle = 0 if lo < 0 else hi / 4
            drawn = np.rint(self.rng.normal(middle, max(hi / 3, 0.7), shape))
            values = np.clip(drawn, lo, hi).astype(np.int64)
        else:
            values = self.rng.integers(lo, hi + 1, shape)
        if style == "sparse":
            values = values * (self.rng.random(shape) < 0.3)
        if self.chance(0.2):
            values = np.where(
                self.rng.random(shape) < 0.1, self.rng.choice((lo, hi), shape), values
            )
            self.tag("near range", "weight")
        return values


class AnyFormats(Draw):
    """Whatever an integer graph may hold; a third of it within what a process model of Lava may."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self.narrow = self.chance(0.35)

    def rule(self) -> dict[str, Any]:
        """Options of `neurons.spiking` that go together."""
        late = self.chance(0.4)
        timing = self.pick(neurons.TIMINGS[1:]) if late else "at_spike"
        discard = timing == "next_discard"
        several = self.pick((3, 7, 15)) if not late and self.chance(0.3) else 1
        options = {
            "synapse": self.pick(("", "new", "old"), (5, 3, 2)),
            "leak": self.chance(0.75),
            "bias": self.chance(0.35),
            "reset": self.pick(("zero", "value") if discard else neurons.RESETS),
            "timing": timing,
            "compare": self.pick(neurons.COMPARES),
            "refractory": not late and several == 1 and self.chance(0.3),
            "max_spikes": several,
            "clamp": self.chance(0.25),
            "adaptive": not late and several == 1 and self.chance(0.2),
        }
        for name, value in options.items():
            self.tag(name, value)
        return options

    def model(self) -> Model:
        if self.chance(0.08):
            self.tag("model", "invented")
            return invented(self)
        return neurons.spiking(**self.rule())

    def integrator(self) -> Model:
        synapse, leak, bias = self.pick(("", "new", "old")), self.chance(0.7), self.chance(0.4)
        model = neurons.integrator(synapse=synapse, leak=leak, bias=bias)
        self.tag("integrator", f"{model.name} {synapse}".strip())
        return model

    def broadcast(self, shape: Shape) -> Shape:
        """The shape of a parameter: one for all, one a channel, or one a neuron."""
        kinds = {"uniform": (), "neuron": shape}
        if len(shape) > 1:
            kinds["channel"] = (shape[0], *[1] * (len(shape) - 1))
        kind = self.pick(list(kinds))
        self.tag("parameter", kind)
        return kinds[kind]

    def rounding(self, what: str) -> Rounding:
        rounding = self.pick(ROUNDINGS[:-1] if self.narrow else ROUNDINGS)
        self.tag(f"{what} rounding", rounding)
        return rounding

    # --- connections ---

    def weights(self, shape: Shape, *, scale: bool = False) -> Param:
        wide = (1, 2, 2, 3, 4, 4, 5, 6, 7, 8, 8, 8, 8, 10, 12, 13, 16, 16, 24)
        bits = self.pick((2, 3, 4, 5, 6, 7) if self.narrow else wide)
        fmt = QFormat(bits, self.between(-2, bits), self.chance(0.8))
        self.tag("weight bits", bits)
        self.tag("weight signed", fmt.signed)
        return Param(self.spread(self.broadcast(shape) if scale else shape, fmt), fmt)

    def bounded(self, weight: Param, span: Interval | None) -> Param:
        """The weights, so small that what they make of inputs within ``span`` is allowed."""
        return weight

    def synapse_bias(self, weight: Param, point: int) -> Param | None:
        """The bias of a connection whose sum has the binary point ``point``."""
        if not self.chance(0.35):
            return None
        fmt = QFormat(self.between(4, 16), point + self.between(-4, 4))
        self.tag("bias point", "finer" if fmt.frac > point else "coarser or equal")
        size = np.abs(weight.values).mean() * math.ldexp(1.0, fmt.frac - point)
        return self.normal(weight.values.shape[:1], max(size, 1.0), fmt)

    def normal(self, shape: Shape, size: float, fmt: QFormat, middle: float = 0.0) -> Param:
        drawn = np.rint(self.rng.normal(middle, size, shape))
        return Param(np.clip(drawn, fmt.range.lo, fmt.range.hi), fmt)

    # --- neurons: everything in units of ``size``, what their current usually is ---

    def neuron(
        self, model: Model, shape: Shape, size: float, point: int
    ) -> tuple[dict[str, Param], dict[str, State]]:
        """Parameters and states for a current of that size with the binary point ``point``."""
        states = {name: self.state(name, shape, size, point) for name in model.states}
        v = states["v"].fmt
        assert v is not None, "drawn above"
        return {name: self.param(name, shape, size, v) for name in model.params}, states

    def param(self, name: str, shape: Shape, size: float, v: QFormat) -> Param:
        places = self.broadcast(shape)
        if name.endswith("decay"):
            return self.coefficient(places)
        if name == "refractory":
            return Param(self.rng.integers(0, 6, places), QFormat(3, 0, signed=False))
        if name == "threshold":
            return self.threshold(places, size, v)
        fmt = self.near(v, size)
        unit = math.ldexp(size, fmt.frac)
        if name == "v_min":
            return self.normal(places, 0.3 * unit, fmt, -unit)
        return self.normal(places, 0.4 * unit, fmt)

    def near(self, v: QFormat, size: float) -> QFormat:
        """A signed format around the membrane's binary point that holds a few times ``size``."""
        frac = v.frac + self.pick((0, -1, -3, 2), (4, 1, 1, 1))
        bits = math.ceil(math.log2(max(size, 1e-9))) + frac + 3
        return QFormat(min(max(bits, 2), 24), frac)

    def coefficient(self, places: Shape) -> Param:
        rounding = self.rounding("decay")
        if self.chance(0.35):
            fmt = QFormat(self.between(2, 5), 0, signed=False, leak=True)
            self.tag("decay", "leak")
            low = 0 if self.chance(0.2) else 1
            high = fmt.range.hi if self.chance(0.1) else min(fmt.range.hi, 10)
            return Param(self.rng.integers(low, high + 1, places), fmt, rounding)
        if self.chance(0.03):
            self.tag("decay", "coarse")
            return Param(self.rng.integers(0, 2, places), QFormat(2, -1, signed=False), rounding)
        frac = self.pick((1, 2, 3, 4, 6, 8, 12, 12, 15, 20, 24))
        signed = self.chance(0.2)
        whole = self.chance(0.4)  # whether 1.0 itself, no decay, fits
        self.tag("decay", "signed" if signed else "fixed")
        real = 1.0 - self.rng.random(places) ** self.pick((1, 2))
        if self.chance(0.05):
            self.tag("decay", "grows")
            whole, real = True, 2.0 * real
        fmt = QFormat(frac + signed + whole, frac, signed)
        values = np.rint(np.asarray(real) * 2**frac)
        if signed and self.chance(0.4):
            values = -values
        return Param(np.clip(values, fmt.range.lo, fmt.range.hi), fmt, rounding)

    def threshold(self, places: Shape, size: float, v: QFormat) -> Param:
        frac = v.frac + self.pick((0, -1, -4, 1, 4), (6, 1, 1, 1, 1))
        self.tag("threshold point", int(np.sign(frac - v.frac)))
        real = size * self.rng.uniform(0.2, 1.6, places)
        values = np.maximum(np.rint(np.ldexp(real, frac)), 1)
        if self.chance(0.12):  # the membrane reaches it only where it saturates
            values = np.full(places, v.range.hi) * 2.0 ** (frac - v.frac)
            self.tag("near range", "threshold")
        if self.chance(0.05):
            values = values - self.rng.integers(0, 3, places) * values
            self.tag("threshold", "negative or zero")
        values = np.clip(np.floor(values), -(1 << 27), 1 << 27)
        bits = int(max(np.abs(values).max(), 1)).bit_length() + 1 + self.between(0, 3)
        return Param(values, QFormat(bits, frac))

    def state(self, name: str, shape: Shape, size: float, point: int) -> State:
        if name == "fired":
            return State(Param(self.rng.integers(0, 2, self.broadcast(shape)), FLAG), FLAG)
        if name == "wait":
            fmt = QFormat(self.between(2, 4), 0, signed=False)
            return State(Param(self.rng.integers(0, 3, self.broadcast(shape)), fmt), fmt)
        bits = self.pick(
            (2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 8, 10, 12, 13, 16, 16, 16, 20, 24, 24, 31, 32)
        )
        room = self.pick((0, 1, 2, 3, 5), (1, 2, 3, 2, 1))
        frac = bits - 1 - math.ceil(math.log2(size)) - room
        frac = min(max(frac, point - 16, -20), point + 16, 40)
        overflow = self.pick((Overflow.SATURATE, Overflow.WRAP), (6, 4))
        fmt = self.state_format(bits, frac, overflow)
        self.tag("state bits", bits)
        self.tag("overflow", overflow)
        self.tag("state point", int(np.sign(frac - point)))
        return State(self.start(name, shape, fmt), fmt, self.rounding("state"), overflow)

    def state_format(self, bits: int, frac: int, overflow: Overflow) -> QFormat:
        if overflow is Overflow.SATURATE and self.chance(0.1):
            self.tag("range", "unsigned")
            return QFormat(bits - 1, frac, signed=False)
        full = QFormat(bits, frac).range
        if self.chance(0.65):
            self.tag("range", "full")
            return QFormat(bits, frac)
        self.tag("range", f"narrow {overflow}")
        if overflow is Overflow.SATURATE:
            lo, hi = self.pick(((-full.hi, full.hi), (full.lo * 3 // 4, full.hi - full.hi // 5)))
        elif self.chance(0.6):
            lo, hi = full.lo + 1, full.hi + 1  # as Loihi's current does
        else:
            lo = max(full.lo // 2 + self.between(-2, 2), full.lo)
            hi = lo + (full.hi + 1) - 1
        return QFormat(bits, frac, True, lo, hi)

    def start(self, name: str, shape: Shape, fmt: QFormat) -> Param:
        lo, hi = fmt.range.lo, fmt.range.hi
        if not self.chance(0.4):
            return Param(np.clip(0, lo, hi), fmt)
        self.tag("initial", "non-zero")
        places = self.broadcast(shape)
        if self.chance(0.3):
            self.tag("near range", "initial")
            return Param(self.rng.choice((lo, lo + 1, hi - 1, hi), places), fmt)
        return Param(self.rng.integers(lo // 2, hi // 2 + 1, places), fmt)


class LoihiFormats(AnyFormats):
    """Loihi 2's formats, as Lava's stock processes compute in them."""

    def model(self) -> Model:
        synapse, leak = self.pick(("new", ""), (8, 2)), self.chance(0.8)
        model = neurons.spiking(synapse=synapse, leak=leak, bias=self.chance(0.4))
        self.tag("model", model.name)
        return model

    def integrator(self) -> Model:
        synapse, leak = self.pick(("new", ""), (8, 2)), self.chance(0.8)
        model = neurons.integrator(synapse=synapse, leak=leak, bias=self.chance(0.4))
        self.tag("model", model.name)
        return model

    def weights(self, shape: Shape, *, scale: bool = False) -> Param:
        """Lava's mantissas: 8 bits and a sign without the lowest, or fewer; exponents from 0."""
        bits = self.pick((8, 8, 8, 6, 4, 2))
        exponent = self.pick((0, 0, 0, 1, 2, 5))
        mixed = self.chance(0.75)
        self.tag("weights", "mixed" if mixed else "excitatory")
        self.tag("weight bits", bits)
        self.tag("weight exponent", exponent)
        places = self.broadcast(shape) if scale else shape
        return self.spread_param(places, QFormat(bits, -exponent - (8 - bits) - mixed, mixed))

    def bounded(self, weight: Param, span: Interval | None) -> Param:
        """Half of what Loihi's 16-bit activation takes, for a neuron may have two inputs."""
        assert weight.fmt is not None, "an integer graph"
        assert span is not None, "an integer graph"
        values = weight.values
        while True:
            rows = np.abs(values).reshape(len(values), -1).sum(1) if values.ndim else abs(values)
            if int(rows.max()) * span.hi * weight.fmt.unit <= 16000:
                return replace(weight, values=values)
            self.tag("near range", "activation")
            values = np.trunc(values * 0.75).astype(np.int64)

    def spread_param(self, shape: Shape, fmt: QFormat) -> Param:
        return Param(self.spread(shape, fmt), fmt)

    def synapse_bias(self, weight: Param, point: int) -> Param | None:
        if not self.chance(0.3):
            return None
        self.tag("bias", "synapse")
        return self.spread_param(weight.values.shape[:1], QFormat(8, -1))

    def param(self, name: str, shape: Shape, size: float, v: QFormat) -> Param:
        places = self.broadcast(shape)
        if name.endswith("decay"):
            values = 4096 - self.rng.integers(0, self.pick((4097, 1000, 20, 2)), places)
            values = np.where(self.rng.random(places) < 0.05, self.rng.choice((0, 4096)), values)
            return Param(values, QFormat(13, 12, signed=False), Rounding.ZERO)
        if name == "threshold":
            values = np.clip(np.rint(size * self.rng.uniform(0.2, 1.6, places)), 1, 131071)
            return Param(values, QFormat(17, 0, signed=False))
        assert name == "bias", name
        exponent = self.between(0, 7)
        mantissa = np.rint(self.rng.normal(0, 0.3 * size * 64 / 2**exponent, places))
        self.tag("bias", "membrane")
        return Param(np.clip(mantissa, -4096, 4095) * 2**exponent, QFormat(20, 6))

    def state(self, name: str, shape: Shape, size: float, point: int) -> State:
        fmt = LOIHI_U if name == "u" else LOIHI_V
        overflow = Overflow.WRAP if name == "u" else Overflow.SATURATE
        return State(self.start(name, shape, fmt), fmt, Rounding.ZERO, overflow)

    def start(self, name: str, shape: Shape, fmt: QFormat) -> Param:
        if not self.chance(0.3):
            return Param(np.zeros((), np.int64), fmt)
        self.tag("initial", "non-zero")
        places = self.broadcast(shape)
        if self.chance(0.5):
            return Param(self.rng.integers(-20000, 20001, places), fmt)
        self.tag("near range", "initial")
        far = fmt.range.hi - self.rng.integers(0, 20000, places)
        return Param(far * self.rng.choice((-1, 1), places), fmt)


def invented(draw: Draw) -> Model:
    """A model that nobody would write: two states, and any operations in between."""

    def body(n: Any) -> None:
        values = [n.a, n.bias, n.v_reset, n.v, n.w, n.decay * n.v, n.current_decay * n.w]
        masks = [n.v > n.w]
        for _ in range(draw.between(3, 9)):
            x, y, mask = draw.pick(values[-5:]), draw.pick(values), draw.pick(masks)
            made: Sequence[Callable[[], Value]] = (
                lambda x=x, y=y: x + y,
                lambda x=x, y=y: x - y,
                lambda x=x, y=y: maximum(x, y),
                lambda x=x, y=y: minimum(x, draw.pick((0, y))),
                lambda x=x: draw.pick((n.decay, n.current_decay)) * x,
                lambda x=x: x - (x >> draw.between(1, 4)),
                lambda x=x, y=y, mask=mask: select(mask, x, y),
            )
            values.append(draw.pick(made)())
            masks.append(draw.pick((x > y, x >= y, mask | (x > y), mask & (x > y), ~mask)))
        n.w = draw.pick(values[-3:])
        n.v = draw.pick((n.decay * n.v + n.a, values[-1]))
        fired = n.v > n.threshold
        n.s = draw.pick((fired, fired | draw.pick(masks), ~draw.pick(masks) & fired))
        n.v = select(n.s, draw.pick((0, n.v_reset, n.v - n.threshold)), n.v)

    params = "decay current_decay bias v_reset threshold"
    return trace(body, name="Invented", states="v w", params=params)


FORMATS: Mapping[str, type[AnyFormats]] = {"any": AnyFormats, "loihi": LoihiFormats}
