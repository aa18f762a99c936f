"""What shares a scale on a device: a layer, where a scale for each channel would cost it memory.

Where a target gives neurons a scale for each channel, these have thresholds of their own, which
some devices pay for. The accuracy on calibration data may still be worth it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qspinn.backend import Backend
from qspinn.errors import QspinnError
from qspinn.evaluate import predictions
from qspinn.ir import Graph
from qspinn.job import CALIBRATION_SAMPLES, Job, plan_for
from qspinn.memory import Device, amount, of_each_core
from qspinn.pipeline import lower
from qspinn.plan import Plan
from qspinn.stats import Estimate, paired_difference

COARSE = "layer"


def grouped(job: Job, backend: Backend, device: Device, given: Plan | None = None) -> Job:
    """The job with scales by layer, if by channel they cost memory and gain no accuracy.

    Where that was a question, a note says how it was decided. Who asked for a group gets it.

    Args:
        job: The job.
        backend: The target.
        device: One of its devices.
        given: What a plan settles already.
    """
    if job.calibration.group or not backend.capabilities.scales_apart:
        return job
    by_layer = replace(job, calibration=replace(job.calibration, group=COARSE))
    try:
        plans = [plan_for(each, backend, given) for each in (job, by_layer)]
        if plans[0].text() == plans[1].text():
            return job
        fine, fine_costs = _made(job, backend, device, plans[0])
        coarse, costs = _made(job, backend, device, plans[1])
    except QspinnError:
        return job  # what comes next says why
    if _share(costs, device) >= _share(fine_costs, device):
        return job
    saved = [r for r in fine_costs if costs.get(r, 0) < fine_costs[r]]
    sizes = ", ".join(
        f"{r} {amount(costs.get(r, 0), r)} instead of {amount(fine_costs[r], r)}" for r in saved
    )
    lost = _lost(job, coarse, fine)
    if lost is None:
        why = "no data say what else it changes"
    elif lost.high < 0.0:
        note = f"scales by channel, though by layer {device.name} needs {sizes}"
        return _noted(job, f"{note}: that costs {_words(lost)}")
    else:
        why = f"that costs {_words(lost)}"
    note = f"scales by layer: on {device.name} {sizes}; {why} (--scales channel)"
    return _noted(by_layer, note)


def _made(job: Job, backend: Backend, device: Device, plan: Plan) -> tuple[Graph, dict[str, int]]:
    """The integer graph of a plan, and what it takes of all that the device has only so much of."""
    lowered = lower(job.graph, plan, backend)
    regions = backend.footprint(lowered.final, device, lowered.plan).regions()
    limited = {r: n for r, n in regions.items() if device.regions.get(r) and not of_each_core(r)}
    return lowered.quantized, limited


def _share(costs: Mapping[str, int], device: Device) -> float:
    """The part that is taken of what is fullest."""
    return max((n / device.regions[r] for r, n in costs.items()), default=0.0)


def _lost(job: Job, coarse: Graph, fine: Graph) -> Estimate | None:
    """How much more often the coarse graph is right than the fine one; None without data.

    Without labels, right is what the float network decides.
    """
    if job.dataset is None:
        return None
    index = job.dataset.part("calibrate", CALIBRATION_SAMPLES)
    if job.dataset.y is not None:
        labels = job.dataset.y[index]
    else:
        labels = predictions(job.graph, job.dataset, job.encoder, index)
    right = [predictions(g, job.dataset, job.encoder, index) == labels for g in (coarse, fine)]
    return paired_difference(*right)


def _words(difference: Estimate) -> str:
    points = f"{100 * abs(difference.value):.2f} points of accuracy on calibration data"
    return f"no accuracy ({points} are gained)" if difference.value > 0 else points


def _noted(job: Job, note: str) -> Job:
    return replace(job, notes=(*job.notes, note))
