"""What NIR leaves open, as each framework means it, and how to tell who wrote a file.

Read in the exporters, importers and neurons of snnTorch 1.0, Norse, sinabs 3.1, Rockpool and
SpikingJelly. Neither dt, nor the integrator, nor the kind and timing of a reset, nor `>=`, nor
several spikes a step has a place in the format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qspinn.errors import FrontendError
from qspinn.fixed import FloatArray
from qspinn.frontends.nir_file import FileNode

LEAKY = ("LI", "LIF", "CubaLI", "CubaLIF")
COUNTERS = ("I", "IF")
RESETTING = ("IF", "LIF", "CubaLIF")
SPIKING = (*RESETTING, "Threshold")
INTEGRATORS = ("euler", "exact")
STARTS = ("zero", "v_leak", "v_reset")
SCALES = ("equation", "jump", "decayed")
"""What the gains r and w_in mean; see `Dialect`."""

SAME = 1e-5
"""Relative difference up to which two values of float32 files are one."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a framework computes one step of NIR's equations.

    Attributes:
        dt: Seconds (or the file's unit of time) per step, where the framework fixes it.
        integrator: ``euler``: a decay is 1 - dt/tau; ``exact``: exp(-dt/tau).
        membrane: What a current adds to a leaky membrane: ``equation``, r * (1 - decay); ``jump``,
            r; ``decayed``, r * dt / (tau * decay).
        counter: What it adds to a membrane without leak: ``equation``, r * dt; ``jump``, r.
        current: What a spike adds to a synaptic current: ``equation``, w_in * (1 - decay);
            ``jump``, w_in; ``decayed``, w_in * decay.
        synapse: Whether the ``new`` or the ``old`` current enters the membrane.
        reset: The kind of reset where the file cannot say; none: to v_reset.
        compare: ``>`` or ``>=``.
        several: Whether a neuron may send several spikes a step.
        floor: Whether membranes without leak stay above -threshold.
        start: Where membranes start: ``zero``, ``v_leak`` or ``v_reset``.
    """

    name: str
    dt: float | None = None
    integrator: str = "euler"
    membrane: str = "equation"
    counter: str = "equation"
    current: str = "equation"
    synapse: str = "new"
    reset: str | None = None
    compare: str = ">"
    several: bool = False
    floor: bool = False
    start: str = "zero"

    def timing(self, kind: str, reset: str, *, recurrent: bool) -> str:
        """When the reset happens; snnTorch resets in the next step, and `zero` drops its input.

        Its Leaky alone clears the old potential first and keeps the input.
        """
        if self.name != "snntorch":
            return "at_spike"
        keeps_input = reset == "subtract" or (kind in ("LIF", "IF") and not recurrent)
        return "next_after_decay" if keeps_input else "next_discard"


DIALECTS: Mapping[str, Dialect] = {
    d.name: d
    for d in (
        Dialect("nir"),
        Dialect("snntorch", dt=1e-4),
        Dialect("norse", counter="jump", current="jump", start="v_leak"),
        Dialect(
            "sinabs", dt=1.0, integrator="exact", membrane="jump", counter="jump",
            current="decayed", reset="subtract", compare=">=", several=True, floor=True,
        ),
        Dialect(
            "rockpool", integrator="exact", membrane="decayed", current="decayed",
            reset="subtract", compare=">=", several=True,
        ),
        Dialect("spikingjelly", dt=1e-4, compare=">=", start="v_reset"),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Guess:
    """A dialect, why it was recognized, and dt where the numbers give it away.

    ``rivals`` are dialects that write the same numbers and mean other spikes by them.
    """

    dialect: str
    reason: str
    dt: float | None = None
    rivals: tuple[str, ...] = ()


def detect(neurons: Sequence[FileNode]) -> Guess:
    """Who wrote a file, by how its exporters choose tau, r and w_in.

    Raises:
        FrontendError: A time constant is not positive, or parameters have different sizes.
    """
    leaky = [n for n in neurons if n.kind in LEAKY]
    for node in leaky:
        _check_times(node)
    with np.errstate(all="ignore"):
        return _detect(leaky, [n for n in neurons if n.kind in COUNTERS])


def _detect(leaky: list[FileNode], counters: list[FileNode]) -> Guess:
    if not leaky and not counters:
        return Guess("nir", "no neurons with time constants")
    gains = np.concatenate([_flat(n, "r") for n in (*leaky, *counters)])
    if (gains <= 0).any():
        return Guess("nir", "no framework's signature: r is not positive")
    if counters:
        return _with_counters(leaky, counters)
    ratios = np.concatenate([_ratio(n) for n in leaky])
    if _is(ratios, 1e-4) and _unit_synapses(leaky, 1e-4) and _at_zero(leaky):
        return Guess("snntorch", "tau / r is 1e-4 in every neuron", 1e-4)
    if _is(gains, 1.0) and all(_is(_weights(n), 1.0) for n in leaky):
        return _unit_gains(leaky)
    if (dt := _rockpool_dt(leaky)) is not None:
        return Guess(
            "rockpool", f"r is tau * exp(-dt/tau) / dt for dt = {dt:g} in every neuron", dt
        )
    # One tau and one r could be anybody's; several that agree are no accident.
    dt = (
        _round(ratios)
        if np.unique(np.concatenate([_flat(n, "tau") for n in leaky])).size > 1
        else None
    )
    if dt is not None and _unit_synapses(leaky, dt):
        return Guess("nir", f"tau / r is {dt:g} in every neuron, so an input has gain 1", dt)
    return Guess("nir", "no framework's signature")


def _with_counters(leaky: list[FileNode], counters: list[FileNode]) -> Guess:
    gains = np.concatenate([_flat(n, "r") for n in counters])
    rest = np.concatenate([_flat(n, "r") for n in leaky]) if leaky else np.ones(1)
    taus = np.concatenate([_flat(n, "tau") for n in leaky]) if _plain(leaky) and leaky else None
    if _is(gains, 1.0) and _is(rest, 1.0) and (taus is None or taus.min() >= 1):
        return Guess("sinabs", "IF neurons with r = 1, as its exporter writes them")
    dt = _round(1 / gains)
    if dt is not None and dt <= 0.01 and _plain(leaky):
        return Guess("spikingjelly", f"IF neurons with r = 1 / dt for dt = {dt:g}", dt)
    return Guess("nir", "no framework's signature")


def _unit_gains(leaky: list[FileNode]) -> Guess:
    if not _plain(leaky):
        return Guess("nir", "r and w_in are 1, as in the equations", rivals=("norse",))
    if min(_flat(n, "tau").min() for n in leaky) >= 1:
        reason = "r is 1 and tau is at least 1, so it counts steps"
        return Guess("sinabs", reason, rivals=("nir",))
    return Guess("norse", "r is 1 and tau is in seconds, as its exporter writes them")


def _check_times(node: FileNode) -> None:
    for name in ("tau", "tau_mem", "tau_syn"):
        if name in node.params and node.array(name).min() <= 0:
            least = node.array(name).min()
            raise FrontendError(f"{name} must be positive, not {least:g}", at=node.label)


def _at_zero(leaky: list[FileNode]) -> bool:
    """Whether nothing rests or is reset anywhere but at 0, as snnTorch knows no other place."""
    places = [n.array(p) for n in leaky for p in ("v_leak", "v_reset") if p in n.params]
    return not any(place.any() for place in places)


def _plain(leaky: list[FileNode]) -> bool:
    return not any(n.kind.startswith("Cuba") for n in leaky)


def _flat(node: FileNode, name: str) -> FloatArray:
    name = "tau_mem" if name == "tau" and node.kind.startswith("Cuba") else name
    values: FloatArray = np.ravel(node.array(name)).astype(np.float64)
    return values


def _weights(node: FileNode) -> FloatArray:
    return _flat(node, "w_in") if "w_in" in node.params else np.ones(1)


def _ratio(node: FileNode) -> FloatArray:
    return fitting(_flat(node, "tau"), _flat(node, "r"), node) / _flat(node, "r")


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


def _unit_synapses(leaky: list[FileNode], dt: float) -> bool:
    return all(
        _is(_weights(n) * dt / fitting(_flat(n, "tau_syn"), _weights(n), n), 1.0)
        for n in leaky
        if "w_in" in n.params
    )


def _round(values: FloatArray) -> float | None:
    """The value, if all are one and it has at most two digits, as a dt that someone chose."""
    near = float(f"{values.flat[0]:.1e}")
    return near if _is(values, near) else None


def _rockpool_dt(leaky: list[FileNode]) -> float | None:
    """Solve r = tau * exp(-x) / (x * tau) for x = dt / tau: x * exp(x) = 1 / r."""
    if any("w_in" in n.params and not _is(_weights(n), 1.0) for n in leaky):
        return None
    steps = []
    for node in leaky:
        goal = 1 / _flat(node, "r")
        x = np.log1p(goal)
        for _ in range(40):
            x = x - (x - goal * np.exp(-x)) / (1 + x)
        steps.append(x * fitting(_flat(node, "tau"), goal, node))
    return _round(np.concatenate(steps))
