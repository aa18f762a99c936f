"""One compilation as a user asks for it: a model, perhaps data, a target and a device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qspinn import __version__, datasets
from qspinn.activity import observed
from qspinn.backend import Backend, Chooser, default_plan
from qspinn.calibrate import Calibration, observe
from qspinn.choice import Choices
from qspinn.devices import as_facts
from qspinn.encode import Encoder, raw_of
from qspinn.errors import FrontendError, PlanError
from qspinn.evaluate import Comparison, chunks, require_labels
from qspinn.frontends import Imported, load_model
from qspinn.frontends.report import require_plain
from qspinn.ir import VOTE, Array, Graph, Input, Output
from qspinn.memory import Device
from qspinn.output import GRAPH, PLAN, write_folder
from qspinn.passes.compose import growth
from qspinn.pipeline import Compiled, Lowered, canonical, complete
from qspinn.plan import ACTIVITY, Plan
from qspinn.stepwise import Stepwise, stepwise
from qspinn.storage import dump
from qspinn.validate import random_input

CALIBRATION_SAMPLES = 256
ACTIVITY_SAMPLES = 64
"""So many tell how often inputs and neurons are active, within some percent."""
ASSUMED_STEPS = 32
ASSUMED_RATE = 0.15


@dataclass(frozen=True)
class Job:
    """A model that was read, put in canonical form, and seen at work on data.

    Attributes:
        path: The model's file.
        imported: The frontend's graph and assumptions.
        graph: The canonical float graph.
        encoder: How data become input.
        dataset: The data, if any were given.
        calibration: What the float graph does on the calibration part.
        notes: What was assumed beyond the import, for people.
        stepwise: Of a converted network, what each number of steps loses.
    """

    path: Path
    imported: Imported
    graph: Graph
    encoder: Encoder
    dataset: datasets.Dataset | None
    calibration: Calibration
    notes: tuple[str, ...]
    stepwise: Stepwise | None = None


def prepare(
    path: Path,
    data: Path | None = None,
    *,
    encode: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    scales: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Job:
    """Read a model and its data.

    Args:
        path: The model file.
        data: A data file (see `qspinn.datasets`).
        encode: What `Encoder` takes, by name; what is None comes from the model's file.
        scales: ``method`` and ``group``: how default scales are chosen (see `Calibration`).
        progress: Told how many of at most `CALIBRATION_SAMPLES` samples are done.
        options: For the frontend: dt, integrator, reset and so on; the network's ``name``; and
            ``decide``, of several outputs the name of the one that decides, or ``only``, of the
            one that is kept.

    Raises:
        QspinnError: Either file is unusable, or they do not fit together.
    """
    chosen = {k: v for k, v in (options or {}).items() if v is not None}
    name, decide = chosen.pop("name", None), chosen.pop("decide", None)
    only = chosen.pop("only", None)
    require_plain(name or "")
    dataset = datasets.load(data) if data is not None else None
    chosen |= {"data": dataset, "encode": encode}
    imported = load_model(path, **chosen)
    encoder = choose_encoder(imported.meta, encode or {}, dataset)
    received = _received(imported.graph, encoder, dataset)
    _require_declared(chosen, imported.graph.of_type(Input), received)
    if received:  # the bounds that an import takes from its input must be those of the data
        imported = load_model(path, **chosen, **received)
    graph = canonical(imported.graph if only is None else imported.graph.only(only))
    graph = graph if name is None else replace(graph, name=name)
    graph = graph if decide is None else graph.deciding(decide)
    if dataset is not None and dataset.y is not None and graph.output.readout != VOTE:
        require_labels(graph, dataset.y, dataset.name)
    notes = _about_outputs(graph)
    notes += [note] if (note := growth(imported.graph, graph)) else []
    if dataset is not None and dataset.dt and dataset.dt != imported.meta.get("dt", dataset.dt):
        notes.append(f"the data say dt {dataset.dt:g}, the network {imported.meta['dt']:g}")
    if dataset is None:
        sample = np.asarray(
            random_input(graph, 16, encoder.steps or ASSUMED_STEPS, seed=1, rate=ASSUMED_RATE)
        )
        notes.append(
            f"no data: calibrated on random input of {ASSUMED_RATE:.0%} events a step; "
            "give --data for formats chosen from what the network really does"
        )
    else:
        sample = calibration_input(graph, dataset, encoder)
        notes += _reading(graph, dataset, encoder)
    calibration = replace(observe(graph, sample, progress=progress), **(scales or {}))
    losses = None
    if imported.reference is not None and dataset is not None:
        losses = stepwise(graph, imported.reference, dataset, encoder)
    return Job(path, imported, graph, encoder, dataset, calibration, tuple(notes), losses)


def _about_outputs(graph: Graph) -> list[str]:
    """Of several outputs, which one decides."""
    first, *others = (node.name for node in graph.of_type(Output))
    if not others:
        return []
    return [
        f"of the outputs {', '.join((first, *others))} the first decides: accuracy is what "
        f"{first} answers (--decide names another)"
    ]


def _received(graph: Graph, encoder: Encoder, dataset: datasets.Dataset | None) -> dict[str, Any]:
    """What inputs must be declared as: one word for all of them, as an import takes it."""
    nodes, found = graph.of_type(Input), dict[str, Any]()
    for node in nodes:
        if len(nodes) > 1 and encoder.kind == "none" and node.kind == "current":
            continue  # values beside spikes: only a graph that says so has such an input
        declared = received_by(node, encoder, _highest(dataset, encoder, node.name))
        if declared.get("input_high", 0) >= found.get("input_high", 0):
            found = declared or found
    return found


def received_by(node: Input, encoder: Encoder, high: int) -> dict[str, Any]:
    """What the input must be declared as, where that is not what the import took it for."""
    if encoder.kind == "direct":
        kind, high = "current", 1
    elif encoder.kind == "none" and high > 1:
        kind, high = "count", (1 << high.bit_length()) - 1
    elif encoder.kind == "none":
        return {}
    else:
        kind, high = "spike", 1
    same = kind == node.kind and (kind != "count" or high <= node.high)
    return {} if same else {"input_kind": kind, "input_high": high}


def _require_declared(
    options: Mapping[str, Any], nodes: Sequence[Input], received: Mapping[str, Any]
) -> None:
    """Refuse an input that was declared as something else than the data will bring.

    Raises:
        FrontendError: It was.
    """
    if not received or not {"input_kind", "input_high"} & options.keys():
        return
    kind, high = received["input_kind"], received["input_high"]
    words = {"spike": "spikes of 0 and 1", "count": f"counts of up to {high}",
             "current": "values that enter directly"}  # fmt: skip
    node = next((n for n in nodes if n.kind != kind or n.high < high), nodes[0])
    declared = {**words, "count": f"counts of up to {node.high}"}[node.kind]
    raise FrontendError(
        f"is declared to carry {declared}, and data and encoder bring {words[kind]}", at=node.name,
        hint="leave --input-kind and --input-high to the data, or choose another --encode",
    )  # fmt: skip


def choose_encoder(
    meta: Mapping[str, Any], given: Mapping[str, Any], dataset: datasets.Dataset | None
) -> Encoder:
    """The encoder: what the user or the plan says, else what the model's file says, else none."""
    stored = {"kind": meta.get("encoder"), "steps": meta.get("T"), "gain": meta.get("gain")}
    known = {k: v for k, v in stored.items() if v is not None}
    asked = {k: v for k, v in given.items() if v is not None}
    if asked.get("kind", "") not in ("", known.get("kind")):
        known.pop("gain", None)
    chosen = {**known, **asked}
    arrays = dataset.arrays if dataset is not None else ()
    if "kind" not in chosen and dataset is not None and arrays:
        raise FrontendError(
            "nothing says how the values in the data become input",
            at=dataset.name,
            hint="give --encode rate|phase|latency|direct and --steps, or --encode none for spikes",
        )
    kind = str(chosen.get("kind", "none"))
    if kind != "none" and arrays:
        types = {raw_of(x) for x in arrays}
        chosen.setdefault("raw", types.pop() if len(types) == 1 else "")
    return Encoder(
        kind,
        int(chosen.get("steps", 0)),
        float(chosen.get("gain", 1.0)),
        int(chosen.get("seed", 0)),
        str(chosen.get("raw", "")),
        str(chosen.get("input", "")),
    )


def calibration_input(graph: Graph, dataset: datasets.Dataset, encoder: Encoder) -> Array:
    """The encoded calibration part, at most CALIBRATION_SAMPLES samples of it."""
    index = dataset.part("calibrate", CALIBRATION_SAMPLES)
    if not len(index):
        raise FrontendError(
            "has no sample to calibrate on (split 0)", at=dataset.name, hint=datasets.SPLIT_HINT
        )
    return np.concatenate([data for data, _ in chunks(graph, dataset, encoder, index)])


def _reading(graph: Graph, dataset: datasets.Dataset, encoder: Encoder) -> list[str]:
    """What was assumed of the data beside what the encoder says."""
    if encoder.kind == "none":
        return [note] if (note := dataset.cut(encoder.steps)) else []
    if not all(x.size for x in dataset.arrays):
        return []
    low = min(float(x.min()) for x in dataset.arrays)
    high = max(float(x.max()) for x in dataset.arrays)
    found, x = [], dataset.arrays[0]
    direct = any(node.kind == "current" for node in graph.of_type(Input))
    if encoder.gain == 1 and (direct or low < 0 or high > 1):
        found.append(f"values taken as they are, {low:g} to {high:g} (--gain scales them)")
    if x.shape[1:] == (1, *graph.of_type(Input)[0].shape) and bool(((x == 0) | (x == 1)).all()):
        found.append(
            f"x of shape {x.shape}, all 0 and 1, is taken for values that {encoder.kind} encodes, "
            "not for spikes of one step (those need --encode none)"
        )
    return found


def _highest(dataset: datasets.Dataset | None, encoder: Encoder, name: str) -> int:
    if dataset is None or encoder.kind != "none":
        return 1
    if dataset.events is not None:
        return int(_raster_peak(dataset))
    arrays = (dataset.inputs[name],) if name in dataset.inputs else dataset.arrays
    return max(int(x.max(initial=1)) for x in arrays)


def _raster_peak(dataset: datasets.Dataset) -> int:
    """The largest count any input receives in a step."""
    assert dataset.events is not None, "asked only of event files"
    t, i, c, offsets = dataset.events
    sample = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    _, where = np.unique(np.stack([sample, t, i]), axis=1, return_inverse=True)
    return int(np.bincount(where.reshape(-1), weights=c).max(initial=1))


def plan_for(
    job: Job, backend: Backend, given: Plan | None = None, choices: Choices | None = None
) -> Plan:
    """The target's plan for this job: the user's lines, then the choices, then its defaults."""
    given = given or Plan({})
    _require_input(backend, job.encoder)
    if not choices:  # who chooses formats does not want those of the file
        given = complete(given, job.imported.plan)
    default = default_plan(backend, job.graph, job.calibration, given, choices)
    plan = complete(given, default)
    return replace(plan, options={**plan.options, **job.encoder.options()})


def typical(
    job: Job, lowered: Lowered, backend: Backend, device: Device, budget: Mapping[str, int]
) -> Lowered:
    """The network with its activity on calibration data among its plan's options.

    They say as well which kernels suit that within the budget, where the target has a choice.
    Without data, or where
    the target counts no instructions, it is left as it is.
    """
    if job.dataset is None or not backend.models(device):
        return lowered
    index = job.dataset.part("calibrate", ACTIVITY_SAMPLES)
    batches = chunks(lowered.final, job.dataset, job.encoder, index)
    seen = observed(lowered.final, np.concatenate([data for data, _ in batches]))
    options = {k: v for k, v in lowered.plan.options.items() if not k.startswith(ACTIVITY)}
    options |= seen.options()
    if isinstance(backend, Chooser):
        held = replace(device, regions={**device.regions, **budget})
        options |= backend.kernels(lowered.final, held, seen, lowered.plan)
    return replace(lowered, plan=replace(lowered.plan, options=options))


def _require_input(backend: Backend, encoder: Encoder) -> None:
    known = backend.capabilities.inputs
    if encoder.input and encoder.input not in known:
        raise PlanError(
            f"{backend.name} takes no input as {encoder.input}",
            hint=f"one of {', '.join(known)}" if known else "leave out --input",
        )


def save(
    job: Job,
    compiled: Compiled,
    folder: Path,
    comparison: Comparison | None,
    budget: Mapping[str, int],
    pages: Mapping[str, bytes] | None = None,
) -> None:
    """Write the artifact, its graph, its plan, other pages and the manifest to ``folder``."""
    files = {
        **compiled.artifact.files,
        **(pages or {}),
        GRAPH: dump(compiled.lowered.final),
        PLAN: compiled.lowered.plan.text().encode(),
    }
    write_folder(folder, files, manifest(job, compiled, comparison, budget))


def manifest(
    job: Job, compiled: Compiled, comparison: Comparison | None, budget: Mapping[str, int]
) -> dict[str, Any]:
    """What the folder's manifest says: no date, no path, the same for the same input."""
    return {
        "qspinn": __version__,
        "name": compiled.artifact.name,
        "target": compiled.artifact.target,
        "device": compiled.device.name,
        "part": as_facts(compiled.device),
        "model": {
            "file": job.path.name,
            "sha256": hashlib.sha256(job.path.read_bytes()).hexdigest(),
        },
        "graph": compiled.lowered.final.digest,
        "encoder": asdict(job.encoder),
        "budget": dict(budget),
        "footprint": [asdict(line) for line in compiled.footprint.lines],
        "baseline_bytes": compiled.baseline,
        "baseline_bytes_active": compiled.listening,
        "assumptions": [asdict(a) for a in job.imported.assumptions],
        "accuracy": asdict(comparison) if comparison else None,
        "cost": compiled.cost.facts() if compiled.cost else None,
        "facts": dict(compiled.artifact.facts),
    }
