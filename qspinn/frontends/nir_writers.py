"""Who can have written a file: each framework's exporter leaves numbers that only some others do.

Read in the exporters of snnTorch 1.0, Norse 1.1, sinabs 3.1, SpikingJelly 2.0 and Rockpool 3.1.
`tests/test_nir_exports.py` holds what they really write against this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

import numpy as np

from qspinn.errors import FrontendError
from qspinn.fixed import FloatArray
from qspinn.frontends.nir_dialect import COUNTERS, DIALECTS, LEAKY, RESETTING, Dialect
from qspinn.frontends.nir_file import Edge, FileNode, walk

SAME = 1e-5
"""Relative difference up to which two values of float32 files are one."""
LONGEST = 1000
"""A time constant of so many steps is nobody's: dt is another."""


@dataclass(frozen=True, slots=True)
class Fit:
    """That an exporter can have written the numbers, and the dt that they tell.

    ``sure``: nobody writes such numbers by hand.
    """

    reason: str
    dt: float | None = None
    sure: bool = False


@dataclass(frozen=True, slots=True)
class Guess:
    """A dialect and why it was recognized.

    Attributes:
        dialect: The likeliest.
        fits: Of it and of all others that can have written the file.
        rivals: Those that mean other spikes.
        alike: Those that mean the same but where a potential equals its threshold.
    """

    dialect: str
    fits: Mapping[str, Fit]
    rivals: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why the dialect was recognized."""
        return self.fits[self.dialect].reason


@dataclass(frozen=True)
class Facts:
    """What tells exporters apart: neurons, other nodes, and whether spikes come back."""

    leaky: Sequence[FileNode]
    counters: Sequence[FileNode]
    others: frozenset[str]
    looped: bool

    @property
    def neurons(self) -> tuple[FileNode, ...]:
        """All with a gain r."""
        return (*self.leaky, *self.counters)

    @property
    def kinds(self) -> set[str]:
        """Types of the neurons."""
        return {node.kind for node in self.neurons}


def detect(root: FileNode) -> Guess:
    """Who wrote a file, by how its exporters choose tau, r and w_in.

    Raises:
        FrontendError: A time constant is not positive, or parameters have different sizes.
    """
    nodes = list(walk(root))
    leaky = [n for n in nodes if n.kind in LEAKY]
    counters = [n for n in nodes if n.kind in COUNTERS]
    for node in leaky:
        _check_times(node)
    others = frozenset(n.kind for n in nodes)
    facts = Facts(leaky, counters, others, any(_cyclic(edges) for edges in _edges(root)))
    if not facts.neurons:
        return Guess("nir", {"nir": Fit("no neurons with time constants")})
    with np.errstate(all="ignore"):
        if any((_flat(node, "r") <= 0).any() for node in facts.neurons):
            return Guess("nir", {"nir": Fit("no framework's signature: r is not positive")})
        return _settled(facts, {name: fit for name, see in WRITERS.items() if (fit := see(facts))})


def _settled(facts: Facts, fits: Mapping[str, Fit]) -> Guess:
    """The exporters that are left, one for each meaning."""
    sure = any(fit.sure for fit in fits.values())
    names = [n for n in fits if n != "nir" or not sure]
    meanings: dict[tuple[object, ...], list[str]] = {}
    for name in names:
        meanings.setdefault(_meaning(DIALECTS[name], facts), []).append(name)
    (first, *alike), *rest = meanings.values()
    rivals = tuple(name for others in rest for name in others)
    return Guess(first, fits, rivals, tuple(alike))


def _meaning(dialect: Dialect, facts: Facts) -> tuple[object, ...]:
    """What decides the spikes of these neurons, but for those whose potential is the threshold."""
    firing = any(node.kind in RESETTING for node in facts.neurons)
    cuba = any(node.kind.startswith("Cuba") for node in facts.leaky)
    starts = [_param(node, dialect.start) for node in facts.neurons] if dialect.start else []
    return (
        (dialect.integrator, dialect.membrane) if facts.leaky else (),
        (dialect.current, dialect.synapse) if cuba else (),
        (dialect.reset, dialect.several, dialect.name == "snntorch") if firing else (),
        dialect.floor and bool(facts.counters),
        any(start.any() for start in starts),
    )


def _edges(graph: FileNode) -> Iterator[Sequence[Edge]]:
    yield graph.edges
    for node in graph.nodes:
        if node.kind == "NIRGraph":
            yield from _edges(node)


def _cyclic(edges: Sequence[Edge]) -> bool:
    before: dict[str, list[str]] = {}
    for source, target in edges:
        before.setdefault(target, []).append(source)
    try:
        tuple(TopologicalSorter(before).static_order())
    except CycleError:
        return True
    return False


# --- the exporters ---


def _snntorch(facts: Facts) -> Fit | None:
    if facts.counters or not _is(_ratios(facts.leaky), 1e-4):
        return None
    if not _unit_synapses(facts.leaky, 1e-4) or _rests(facts.leaky, "v_leak", "v_reset"):
        return None
    return Fit("tau / r is 1e-4 in every neuron", 1e-4, sure=True)


def _sinabs(facts: Facts) -> Fit | None:
    if facts.looped or not _plain(facts.leaky) or "I" in facts.kinds or "AvgPool2d" in facts.others:
        return None
    if not _ones(facts.neurons) or _rests(facts.neurons, "v_leak", "v_reset"):
        return None
    if any(_flat(node, "tau").min() < 1 for node in facts.leaky):
        return None
    if facts.counters:
        return Fit("IF neurons with r = 1, as its exporter writes them", sure=True)
    return Fit("r is 1 and tau is at least 1, so it counts steps")


def _norse(facts: Facts) -> Fit | None:
    foreign = {"Flatten", "SumPool2d", "AvgPool2d"} & facts.others
    if facts.looped or facts.kinds & {"I", "CubaLI"} or (foreign and facts.counters):
        return None
    if not _ones(facts.neurons) or _rests(facts.neurons, "v_reset"):
        return None
    if facts.counters:
        return Fit("IF neurons with r = 1, as its exporter writes them", sure=True)
    if _plain(facts.leaky) and min(_flat(node, "tau").min() for node in facts.leaky) >= 1:
        return None
    return Fit("r is 1 and tau is in seconds, as its exporter writes them")


def _spikingjelly(facts: Facts) -> Fit | None:
    """One value for all neurons of a node, in an array of their shape."""
    if facts.looped or facts.kinds & {"I", "LI", "CubaLI"} or "SumPool2d" in facts.others:
        return None
    if not all(_filled(node) for node in facts.neurons):
        return None
    steps = [dt for node in facts.neurons if (dt := _spikingjelly_dt(node)) is not None]
    if np.nan in steps or (steps and not _is(np.array(steps), steps[0])):
        return None
    found = _round(np.array(steps[:1])) if steps else None
    if steps and found is None:
        return None
    dt = found or 1e-4
    if any(not 1 <= _flat(node, "tau").min() / dt <= LONGEST for node in facts.leaky):
        return None
    if facts.counters and dt <= 0.01:
        return Fit(f"IF neurons with r = 1 / dt for dt = {dt:g}", dt, sure=True)
    resting = bool(_rests(facts.leaky, "v_reset"))
    reason = f"tau / r is {dt:g} and v_reset is not 0" if steps else "r is 1 and v_leak is v_reset"
    return Fit(reason, found, sure=dt == 1e-4 and bool(steps) and resting)


def _spikingjelly_dt(node: FileNode) -> float | None:
    """The dt that a node tells; None where it tells none, not a number where it is no such node."""
    gain = float(_flat(node, "r")[0])
    if node.kind == "IF":
        return 1 / gain
    tau = float(_flat(node, "tau")[0])
    leak = float(_param(node, "v_leak").flat[0])
    if node.kind == "CubaLIF":
        same = _unit_synapses([node], tau / gain)
        return tau / gain if same and leak == 0 else np.nan
    if leak != float(_param(node, "v_reset").flat[0]):
        return np.nan
    return None if _is(np.array(gain), 1.0) else tau / gain


def _rockpool(facts: Facts) -> Fit | None:
    """Solve r = tau * exp(-x) / (x * tau) for x = dt / tau: x * exp(x) = 1 / r."""
    if facts.counters or not all(_is(_weights(node), 1.0) for node in facts.leaky):
        return None
    steps = []
    for node in facts.leaky:
        goal = 1 / _flat(node, "r")
        x = np.log1p(goal)
        for _ in range(40):
            x = x - (x - goal * np.exp(-x)) / (1 + x)
        steps.append(x * fitting(_flat(node, "tau"), goal, node))
    dt = _round(np.concatenate(steps))
    if dt is None or _ones(facts.leaky):
        return None
    reason = f"r is tau * exp(-dt/tau) / dt for dt = {dt:g} in every neuron"
    return Fit(reason, dt, sure=True)


def _equations(facts: Facts) -> Fit | None:
    """Anyone; several tau and r that agree tell dt, one of each could be anybody's."""
    if facts.counters:
        return Fit("no framework's signature")
    if _ones(facts.leaky):
        return Fit("r and w_in are 1, as in the equations")
    ratios = _ratios(facts.leaky)
    several = np.unique(np.concatenate([_flat(n, "tau") for n in facts.leaky])).size > 1
    dt = _round(ratios) if several else None
    if dt is not None and _unit_synapses(facts.leaky, dt):
        return Fit(f"tau / r is {dt:g} in every neuron, so an input has gain 1", dt)
    return Fit("no framework's signature")


WRITERS: Mapping[str, Callable[[Facts], Fit | None]] = {
    "snntorch": _snntorch,
    "rockpool": _rockpool,
    "sinabs": _sinabs,
    "norse": _norse,
    "nir": _equations,
    "spikingjelly": _spikingjelly,
}
"""By dialect; where several mean the same spikes, the first is taken."""


# --- numbers ---


def _check_times(node: FileNode) -> None:
    for name in ("tau", "tau_mem", "tau_syn"):
        if name in node.params and node.array(name).min() <= 0:
            least = node.array(name).min()
            raise FrontendError(f"{name} must be positive, not {least:g}", at=node.label)


def _param(node: FileNode, name: str) -> FloatArray:
    return np.asarray(node.array(name) if name in node.params else 0.0, np.float64)


def _rests(nodes: Sequence[FileNode], *names: str) -> bool:
    """Whether a potential of these names is anywhere but at 0."""
    return any(_param(node, name).any() for node in nodes for name in names)


def _plain(leaky: Sequence[FileNode]) -> bool:
    return not any(n.kind.startswith("Cuba") for n in leaky)


def _filled(node: FileNode) -> bool:
    values = [node.array(name) for name in node.params]
    return all(v.ndim > 0 and (v == v.flat[0]).all() for v in values)


def _ones(nodes: Sequence[FileNode]) -> bool:
    return all(_is(_flat(n, "r"), 1.0) and _is(_weights(n), 1.0) for n in nodes)


def _flat(node: FileNode, name: str) -> FloatArray:
    name = "tau_mem" if name == "tau" and node.kind.startswith("Cuba") else name
    values: FloatArray = np.ravel(node.array(name)).astype(np.float64)
    return values


def _weights(node: FileNode) -> FloatArray:
    return _flat(node, "w_in") if "w_in" in node.params else np.ones(1)


def _ratios(leaky: Sequence[FileNode]) -> FloatArray:
    found = [fitting(_flat(n, "tau"), _flat(n, "r"), n) / _flat(n, "r") for n in leaky]
    return np.concatenate(found)


def fitting(values: FloatArray, other: FloatArray, node: FileNode) -> FloatArray:
    """``values``, if they are one, or as many as ``other``.

    Raises:
        FrontendError: The parameters of one node have different sizes.
    """
    if 1 not in (values.size, other.size) and values.size != other.size:
        raise FrontendError(
            f"has parameters of {values.size} and of {other.size} values", at=node.label
        )
    return values


def _is(values: FloatArray, value: float) -> bool:
    return bool(np.allclose(values, value, rtol=SAME, atol=0))


def _unit_synapses(leaky: Sequence[FileNode], dt: float) -> bool:
    return all(
        _is(_weights(n) * dt / fitting(_flat(n, "tau_syn"), _weights(n), n), 1.0)
        for n in leaky
        if "tau_syn" in n.params
    )


def _round(values: FloatArray) -> float | None:
    """The value, if all are one and it has at most two digits, as a dt that someone chose."""
    near = float(f"{values.flat[0]:.1e}")
    return near if _is(values, near) else None
