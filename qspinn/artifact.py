"""An output folder read back: its manifest, its graph, its target, and input to run it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qspinn import datasets, storage
from qspinn.backend import Backend, device_of
from qspinn.backend import backend as find_backend
from qspinn.devices import from_facts
from qspinn.encode import Encoder
from qspinn.errors import FrontendError, located
from qspinn.evaluate import chunks
from qspinn.ir import Array, Graph
from qspinn.memory import Device, Footprint
from qspinn.output import GRAPH, PLAN, changed_files, read_manifest
from qspinn.plan import Plan, parse
from qspinn.validate import random_input

RANDOM_STEPS = 32


@dataclass(frozen=True)
class Opened:
    """What a folder holds."""

    folder: Path
    manifest: Mapping[str, Any]
    backend: Backend
    device: Device
    graph: Graph
    encoder: Encoder

    @property
    def name(self) -> str:
        """The network's name."""
        return str(self.manifest["name"])

    def footprint(self, budget: Mapping[str, int]) -> Footprint:
        """Its memory on the device within a budget, as it was compiled: its input, its kernels."""
        kept = parse((self.folder / PLAN).read_text(encoding="utf-8")).options
        plan = Plan({}, options={**kept, **self.encoder.options()})
        return self.backend.footprint(self.graph, self.device.within(budget), plan)


def open_folder(folder: Path) -> Opened:
    """Read a folder that ``qspinn compile`` wrote.

    Raises:
        FrontendError: It is none, or a file was changed since.
    """
    manifest = read_manifest(folder)
    if changed := changed_files(folder, manifest):
        raise FrontendError(
            f"{len(changed)} files are not as qspinn wrote them: {', '.join(changed[:5])}",
            at=str(folder),
            hint="compile it again",
        )
    with located(str(folder)):
        words = [manifest.get(key) for key in ("name", "target", "device")]
        if not all(isinstance(word, str) for word in words):
            raise FrontendError("the manifest lacks the name, the target or the device")
        backend = find_backend(manifest["target"])
        device = _device(backend, manifest)
        try:
            encoder = Encoder(**manifest["encoder"])
        except (KeyError, TypeError) as error:
            raise FrontendError(f"the manifest's encoder cannot be read: {error}") from error
    return Opened(folder, manifest, backend, device, storage.load(folder / GRAPH), encoder)


def _device(backend: Backend, manifest: Mapping[str, Any]) -> Device:
    """The device as the manifest describes it, for a user may have; else the target's own."""
    name, facts = manifest["device"], manifest.get("part")
    if not isinstance(facts, dict):
        return device_of(backend, name)
    return from_facts(name, facts, tuple(backend.devices[backend.default_device].regions))


def input_for(
    opened: Opened,
    data: Path | None,
    samples: int | None,
    seed: int,
    tell: Callable[[str], None] | None = None,
) -> Array:
    """Integers to run the artifact on: the report part of a data file, or seeded random input.

    ``tell`` is given what a person should know, such as which share of the data is cut.
    """
    if data is None:
        steps = opened.encoder.steps or RANDOM_STEPS
        return random_input(opened.graph, samples or 4, steps, seed)
    dataset = datasets.load(data)
    index = dataset.part("report", samples)
    if not len(index):
        raise FrontendError(
            "has no sample to report on (split 2)", at=dataset.name, hint=datasets.SPLIT_HINT
        )
    if tell and opened.encoder.kind == "none" and (note := dataset.cut(opened.encoder.steps)):
        tell(f"{note}, if it is compiled so")
    parts = [x for x, _ in chunks(opened.graph, dataset, opened.encoder, index)]
    return np.concatenate(parts)
