"""Options that several commands share, and what they mean together."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from qspinn import job as jobs
from qspinn.backend import Backend
from qspinn.encode import ENCODERS, from_options
from qspinn.errors import FrontendError, PlanError
from qspinn.frontends.report import INPUT_KINDS
from qspinn.grouping import grouped
from qspinn.ir import READOUTS
from qspinn.memory import Device, parse_budget, require_regions
from qspinn.neurons import COMPARES, RESETS, TIMINGS
from qspinn.plan import INPUTS, Plan, parse
from qspinn.planning import GROUPS, METHODS
from qspinn.report import tables

SEED = click.IntRange(0, 2**32 - 1)

F = TypeVar("F", bound=Callable[..., Any])

_ASKED_APART = ("data", "encode", "name", "path")
"""Not for a format alone."""

SCALES = ("equation", "jump", "decayed")


def _number_or_word(context: Any, option: Any, value: str | None) -> float | str | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return value


_MODEL = (
    click.option("--dt", type=float, help="Seconds per step of the trained network."),
    click.option("--integrator", type=click.Choice(["euler", "exact"]), help="How decays follow."),
    click.option("--reset", type=click.Choice(RESETS)),
    click.option("--reset-timing", type=click.Choice(TIMINGS)),
    click.option("--synapse", type=click.Choice(["new", "old"]),
                 help="Which synaptic current enters the membrane."),
    click.option("--compare", type=click.Choice(COMPARES), help="When a neuron fires."),
    click.option("--dialect", help="The framework that wrote the file."),
    click.option("--max-spikes", type=int, help="Most spikes a neuron sends in a step."),
    click.option("--v-min", callback=_number_or_word,
                 help="Lower clamp: none, threshold (at -threshold) or a number."),
    click.option("--v-start", type=click.Choice(["zero", "v_leak", "v_reset"]),
                 help="Where membranes start."),
    click.option("--r-scale", type=click.Choice(SCALES), help="What a current adds to a membrane: "
                 "r * (1 - decay), r, or r * dt / (tau * decay)."),
    click.option("--w-in-scale", type=click.Choice(SCALES), help="What a spike adds to a current: "
                 "w_in * (1 - decay), w_in, or w_in * decay."),
    click.option("--readout", type=click.Choice(READOUTS)),
    click.option("--decide", metavar="OUTPUT",
                 help="Of several outputs, the one whose answers count; default the first."),
    click.option("--only", metavar="OUTPUT", help="Of several outputs, the one to keep."),
    click.option("--input-kind", type=click.Choice(INPUT_KINDS),
                 help="What the input carries: spikes (0 or 1), counts up to --input-high, or "
                      "currents (values); default what file, data and encoder say."),
    click.option("--input-high", type=click.IntRange(1), help="The largest count at the input."),
    click.option("--percentile", type=float,
                 help="Of a layer's activations, its threshold; of .onnx files. Default 99.9."),
    click.option("--balance", type=click.Choice(["layer", "channel"]),
                 help="What shares a threshold, in .onnx files."),
    click.option("--initial", type=click.Choice(["half", "zero"]),
                 help="Where membranes start, in .onnx files: at half the threshold, or at zero."),
    click.option("--max-pool", type=click.Choice(["exact", "or"]),
                 help="A maximum over windows, in .onnx files: of the counts of spikes so far, "
                      "which takes neurons, or of the spikes of each step. Default exact."),
    click.option("--option", "more", multiple=True, metavar="KEY=VALUE",
                 help="An option of a format that another package reads; may be repeated."),
)  # fmt: skip
MODEL_OPTIONS = (
    "dt", "integrator", "reset", "reset_timing", "synapse", "compare", "dialect", "max_spikes",
    "v_min", "v_start", "r_scale", "w_in_scale", "readout", "decide", "only", "percentile",
    "balance", "initial", "max_pool", "input_kind", "input_high",
)  # fmt: skip
_SCALES = (
    click.option("--calibrate", type=click.Choice(METHODS),
                 default="error", show_default=True,
                 help="How default scales are chosen: nothing clips, 99.9 % fit, least error."),
    click.option("--scales", type=click.Choice(GROUPS),
                 help="What shares a default scale; default layer, but channel for what "
                      "loihi runs in the simulator only."),
)  # fmt: skip
_DATA = (
    click.option("--data", type=click.Path(path_type=Path, dir_okay=False),
                 help="An .npz file with x and y (or events)."),
    click.option("--encode", type=click.Choice(ENCODERS)),
    click.option("--steps", type=click.IntRange(1), help="Time steps per sample."),
    click.option("--gain", type=float, help="Multiplies values before they become spikes."),
    click.option("--seed", type=SEED, help="Of every random draw."),
    click.option("--raw", help="What a device reads: u8/255 are bytes of which 255 means 1.0; "
                               "default the type of the data, if it is one of integers."),
    click.option("--input", "input_form", type=click.Choice(INPUTS),
                 help="How a step is given its input; default events, or values, once for "
                      "--encode direct."),
)  # fmt: skip


def model_options(command: F) -> F:
    """The options that say what a model file leaves open."""
    for option in reversed(_MODEL):
        command = option(command)
    return command


def data_options(command: F) -> F:
    """The options that say what data are and how they become input."""
    for option in reversed(_DATA):
        command = option(command)
    return command


def scale_options(command: F) -> F:
    """The options that say how a default plan chooses its scales."""
    for option in reversed(_SCALES):
        command = option(command)
    return command


def scaling(values: dict[str, Any]) -> dict[str, str]:
    """The scale options under the names `job.prepare` takes."""
    return {"method": values["calibrate"], "group": values["scales"] or ""}


def reading(values: dict[str, Any]) -> dict[str, Any]:
    """The options that say what a model file leaves open, with those of formats of others.

    Raises:
        FrontendError: One of these is not KEY=VALUE, is given twice, or has a flag of its own.
    """
    found = {name: values[name] for name in MODEL_OPTIONS}
    for text in values["more"]:
        key, equals, value = text.partition("=")
        name = key.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise FrontendError(f"{text!r} is no option", hint="write --option KEY=VALUE")
        if name in MODEL_OPTIONS or name in _ASKED_APART:
            flag = f"--{name.replace('_', '-')}"
            hint = "the file is MODEL" if name == "path" else f"write {flag}"
            raise FrontendError(f"{name} is not given as --option", hint=hint)
        if name in found:
            raise FrontendError(f"{name} is given twice", hint="give each --option once")
        found[name] = _plain(value.strip())
    return found


def _plain(text: str) -> object:
    """A number, true or false, a list and so on as JSON writes it; anything else is a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def encoding(values: dict[str, Any], given: Plan | None = None) -> dict[str, Any]:
    """The encoder's options under the names `job.prepare` takes; a plan's where none is given."""
    stored = dict(given.options) if given else {}
    planned = asdict(from_options({"steps": "1", **stored})) if stored else {}
    names = {"encode": "kind", "steps": "steps", "gain": "gain", "seed": "seed", "raw": "raw",
             "input": "input"}  # fmt: skip
    asked = {**values, "input": values["input_form"]}
    return {
        short: planned.get(short) if asked[name] is None and name in stored else asked[name]
        for name, short in names.items()
    }


def read_job(
    options: dict[str, Any], given: Plan | None, backend: Backend, device: Device
) -> jobs.Job:
    """The model and the data that a command names, calibrated; tells what was assumed."""
    with tables.progress("calibration", jobs.CALIBRATION_SAMPLES) as done:
        job = jobs.prepare(
            options["model"],
            options["data"],
            encode=encoding(options, given),
            options={**reading(options), "name": options["name"]},
            scales=scaling(options),
            progress=done,
        )
    job = grouped(job, backend, device, given)
    tables.console().print(tables.assumptions(job.imported.assumptions, job.notes))
    if job.stepwise is not None:
        tables.console().print(tables.stepwise(job.stepwise))
    return job


def plan_option(path: Path | None) -> Plan | None:
    """Read a plan file.

    Raises:
        PlanError: It cannot be read.
    """
    if path is None:
        return None
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"cannot be read: {error}", at=str(path)) from error


def percentage(text: str | None) -> float | None:
    """Read ``1%`` or ``0.01``; ``1`` could mean both 1 % and 100 %.

    Raises:
        PlanError: The text is neither.
    """
    if text is None:
        return None
    bare = not text.rstrip().endswith("%")
    try:
        value = float(text.rstrip("% ")) / (1.0 if bare else 100.0)
    except ValueError:
        raise PlanError(f"{text!r} is no share", hint="write 1% or 0.01") from None
    if bare and 1.0 <= value <= 100.0:
        raise PlanError(
            f"{text!r} would mean {value:.0%}", hint=f"say {value:g}% or {value / 100:g}"
        )
    if not 0.0 <= value <= 1.0:
        raise PlanError(f"{text!r} is not between 0 and 100 %")
    return value


def budget_option(text: str | None, fallback: dict[str, int]) -> dict[str, int]:
    """A budget as given; regions that it does not name keep the device's limits.

    Raises:
        PlanError: It cannot be read, or names a region that the device has not.
    """
    if text is None:
        return fallback
    budget = parse_budget(text)
    require_regions(fallback, budget)
    return {**budget, **fallback, **budget}  # what is named comes first in tables
