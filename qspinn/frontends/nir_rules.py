"""Settling how a file is read: options win over the file's own words, these over its dialect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qspinn.errors import FrontendError
from qspinn.frontends.hdf5 import Value, shown
from qspinn.frontends.nir_dialect import (
    COUNTERS,
    DIALECTS,
    INTEGRATORS,
    RESETTING,
    SCALES,
    STARTS,
    Dialect,
)
from qspinn.frontends.nir_file import FileNode
from qspinn.frontends.nir_writers import Guess, detect
from qspinn.frontends.report import (
    DEFAULT,
    GIVEN,
    IN_FILE,
    INPUT_KINDS,
    Assumption,
    inferred,
)
from qspinn.ir import READOUTS
from qspinn.neurons import COMPARES, RESETS, TIMINGS

WORDS: Mapping[str, Sequence[str]] = {
    "dialect": tuple(DIALECTS),
    "integrator": INTEGRATORS,
    "reset": RESETS,
    "reset_timing": TIMINGS,
    "compare": COMPARES,
    "synapse": ("new", "old"),
    "readout": READOUTS,
    "input_kind": INPUT_KINDS,
    "v_start": STARTS,
    "r_scale": SCALES,
    "w_in_scale": SCALES,
}
FLOORS = ("none", "threshold")
"""What v_min may be besides a number: no lower clamp, or one at -threshold."""
NUMBERS = ("dt", "gain")
WHOLE = {"max_spikes": 65535, "input_high": 65535, "T": 1 << 20}
"""Whole numbers, and the largest that makes sense."""

SEMANTICS = (
    "integrator", "reset", "reset_timing", "compare", "synapse", "v_min", "v_start", "r_scale",
    "w_in_scale",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting and where it comes from; None is "as the node says"."""

    value: Any
    source: str


@dataclass(frozen=True)
class Rules:
    """How the neurons of a file are computed.

    Attributes:
        dialect: What the settings do not cover.
        settings: What was chosen and why, by name.
        options: What the user gave.
        written: What qspinn wrote into the file's metadata.
    """

    dialect: Dialect
    settings: Mapping[str, Choice]
    options: Mapping[str, Any]
    written: Mapping[str, Any]

    def __getitem__(self, name: str) -> Choice:
        return self.settings[name]

    @property
    def dt(self) -> float | None:
        """Time per step, if it is known."""
        value: float | None = self.settings["dt"].value
        return value

    def need_dt(self, who: str, why: str) -> float:
        """Time per step.

        Raises:
            FrontendError: Neither the file nor an option tells it.
        """
        if self.dt is None:
            raise FrontendError(
                f"dt is needed ({why}), and neither is it in the file nor can it be inferred",
                at=who,
                hint="give dt (--dt), the time per step in the unit of the file's time constants; "
                "Norse simulates with 1e-3 by default, snnTorch and SpikingJelly export with 1e-4",
            )
        return self.dt

    def scale(self, kind: str) -> str:
        """What r means in neurons of a kind."""
        usual = self.dialect.counter if kind in COUNTERS else self.dialect.membrane
        return str(self.settings["r_scale"].value or usual)

    def floor(self, kind: str) -> str | float:
        """Where the membranes of a kind are clamped from below: one of `FLOORS`, or a number."""
        if kind not in RESETTING:
            return "none"
        chosen: str | float | None = self.settings["v_min"].value
        usual = "threshold" if self.dialect.floor and kind in COUNTERS else "none"
        return usual if chosen is None else chosen

    def at(self, node: FileNode) -> Rules:
        """The rules with what qspinn wrote into one node's own metadata."""
        own = {k: Choice(v, IN_FILE) for k, v in words(node.meta, node.label).items() if k != "dt"}
        kept = {k: v for k, v in own.items() if k not in self.options}
        return replace(self, settings={**self.settings, **kept}) if kept else self


def settle(
    graph: FileNode, neurons: Sequence[FileNode], options: Mapping[str, Any]
) -> tuple[Rules, list[Assumption]]:
    """Choose the rules for a file.

    Args:
        graph: The root, whose metadata may hold qspinn's words.
        neurons: Everything that has dynamics.
        options: By name, only those that the user gave.

    Raises:
        FrontendError: An option or a word in the file is none of those allowed.
    """
    given = _checked(options, "option")
    written = words(graph.meta, "metadata.qspinn")
    guess = detect(graph)
    name, source = _dialect(given, written, guess)
    dialect = DIALECTS[name]
    same = name == guess.dialect
    usual = inferred(f"as {name} computes") if name != "nir" else DEFAULT
    compare = _compare_source(dialect, guess, usual) if same and source != GIVEN else usual
    settings = {
        "dt": Choice(*_dt(dialect, guess)),
        "integrator": Choice(dialect.integrator, usual),
        "reset": Choice(dialect.reset, usual if dialect.reset else DEFAULT),
        "reset_timing": Choice(None, usual),
        "compare": Choice(dialect.compare, compare),
        "synapse": Choice(dialect.synapse, usual),
        "max_spikes": Choice(None, usual),
        "v_min": Choice(None, usual),
        "v_start": Choice(dialect.start, usual),
        "r_scale": Choice(None, usual),
        "w_in_scale": Choice(dialect.current, usual),
        "readout": Choice(None, DEFAULT),
        "input_kind": Choice("spike", DEFAULT),
        "input_high": Choice(None, DEFAULT),
    }
    settings |= {k: Choice(v, IN_FILE) for k, v in written.items() if k in settings}
    settings |= {k: Choice(v, GIVEN) for k, v in given.items() if k in settings}
    if written.get("encoder") == "direct" and settings["input_kind"].source == DEFAULT:
        settings["input_kind"] = Choice("current", IN_FILE)
    rules = Rules(dialect, settings, given, written)
    _require_reset(rules, neurons)
    _require_gain(rules, neurons)
    return rules, _report(rules, source)


def _dialect(given: Mapping[str, Any], written: Mapping[str, Any], guess: Guess) -> tuple[str, str]:
    if "dialect" in given:
        return given["dialect"], GIVEN
    if "dialect" in written:
        return written["dialect"], IN_FILE
    if any(word in written for word in SEMANTICS):
        return "nir", IN_FILE
    rivals = _open(guess, given)
    if rivals:
        choices = (guess.dialect, *rivals)
        raise FrontendError(
            f"the file is as {' and '.join(choices)} would write it, and they mean different "
            f"spikes by it ({guess.reason})",
            at="dialect",
            hint=f"give {' or '.join(_option(name) for name in choices)}; "
            + (HINTS["nir"] if "nir" in choices else "or load the network itself (qspinn.load)"),
        )
    return guess.dialect, inferred(guess.reason)


HINTS = {
    "snntorch": " (with --reset zero or --reset subtract, whichever reset_mechanism was)",
    "nir": "nir means the bare equations",
}


def _option(name: str) -> str:
    return f"--dialect {name}{HINTS[name] if name == 'snntorch' else ''}"


def _open(guess: Guess, given: Mapping[str, Any]) -> tuple[str, ...]:
    """The rivals that no option rules out: SpikingJelly writes no file of a soft reset."""
    soft = guess.dialect == "snntorch" and given.get("reset") == "subtract"
    return tuple(name for name in guess.rivals if not (soft and name == "spikingjelly"))


def _compare_source(dialect: Dialect, guess: Guess, usual: str) -> str:
    """Why a potential equal to the threshold fires or not, where only that is open."""
    others = [n for n in guess.alike if DIALECTS[n].compare != dialect.compare]
    if not others:
        return usual
    means = DIALECTS[others[0]].compare
    return f"{usual}; as {others[0]}, which writes such files, too, it is {means}"


def _require_reset(rules: Rules, neurons: Sequence[FileNode]) -> None:
    """Refuse to guess where the two kinds of reset are written alike and give other spikes.

    Raises:
        FrontendError: Neither an option nor the file says the kind.
    """
    if rules.dialect.name != "snntorch" or rules["reset"].value is not None:
        return
    open_ = [n.label for n in neurons if n.kind in RESETTING and not rules.at(n)["reset"].value]
    if open_:
        raise FrontendError(
            "snnTorch writes networks that reset to zero and by subtraction alike: the file "
            f"cannot say which {', '.join(open_[:4])} was trained with",
            at="reset",
            hint="give --reset zero or --reset subtract, whichever reset_mechanism was; with none, "
            "or with reset_delay=False, load the network itself (qspinn.load)",
        )


def _require_gain(rules: Rules, neurons: Sequence[FileNode]) -> None:
    """Refuse to guess whether sinabs scaled the input of its leaky neurons.

    Raises:
        FrontendError: Neither an option nor the file says it.
    """
    if rules.dialect.name != "sinabs" or rules["r_scale"].value is not None:
        return
    plain = [n for n in neurons if n.kind in ("LI", "LIF") and (n.array("r") == 1).all()]
    open_ = [n.label for n in plain if not rules.at(n)["r_scale"].value]
    if open_:
        raise FrontendError(
            "sinabs writes leaky neurons with and without norm_input alike: the file cannot say "
            f"which {', '.join(open_[:4])} was trained with",
            at="r_scale",
            hint="give --r-scale equation for norm_input=True (its default) or --r-scale jump for "
            "norm_input=False",
        )


def _dt(dialect: Dialect, guess: Guess) -> tuple[float | None, str]:
    fit = guess.fits.get(dialect.name)
    if fit is not None and fit.dt is not None:
        return fit.dt, inferred(fit.reason)
    if dialect.dt is not None:
        return dialect.dt, inferred(f"what {dialect.name} exports with by default")
    return None, DEFAULT


def _report(rules: Rules, source: str) -> list[Assumption]:
    notes = [Assumption("dialect", rules.dialect.name, source)]
    if rules.dt is not None:
        notes.append(Assumption("dt", f"{rules.dt:g}", rules["dt"].source))
    return notes


def words(meta: Mapping[str, Value], at: str) -> dict[str, Any]:
    """What qspinn's metadata say, checked; words that mean nothing to us are left out.

    Raises:
        FrontendError: A word is none of those allowed.
    """
    plain: dict[str, Any] = {}
    for key, value in meta.items():
        name = "compare" if key == "comparison" else key
        if not isinstance(value, str):
            if value.size != 1:
                raise FrontendError("is an array, not one value", at=f"{at}.{shown(key)}")
            value = value.reshape(()).item()
        plain[name] = value
    return _checked(plain, at)


def _checked(values: Mapping[str, Any], at: str) -> dict[str, Any]:
    for name, value in values.items():
        where = name if at == "option" else f"{at}.{name}"
        if name in WORDS and value not in WORDS[name]:
            allowed = ", ".join(WORDS[name])
            raise FrontendError(f"must be one of {allowed}, not {shown(str(value))}", at=where)
        if name == "v_min" and not (value in FLOORS or _finite(value)):
            allowed = ", ".join(FLOORS)
            raise FrontendError(f"is {allowed} or a number, not {shown(str(value))}", at=where)
        if name in (*NUMBERS, *WHOLE) and not _positive(value):
            raise FrontendError(f"must be a positive number, not {shown(str(value))}", at=where)
        if name in WHOLE and not (value % 1 == 0 and value <= WHOLE[name]):
            raise FrontendError(f"must be whole, at most {WHOLE[name]}, not {value}", at=where)
        if name == "max_spikes" and int(value) & (int(value) + 1):
            raise FrontendError(f"must be 1, 3, 7, 15, ..., not {value}", at=where)
    return {name: int(value) if name in WHOLE else value for name, value in values.items()}


def _finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    return math.isfinite(value)


def _positive(value: object) -> bool:
    return _finite(value) and bool(value > 0)  # type: ignore[operator]
