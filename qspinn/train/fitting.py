"""Training under a plan, for callers who need not have torch until they train."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.errors import FrontendError, PlanError, ToolchainError
from qspinn.evaluate import require_labels
from qspinn.ir import VOTE, Array, Graph, Input
from qspinn.passes.quantize import quantize
from qspinn.plan import Plan
from qspinn.train.recipe import Recipe

if TYPE_CHECKING:
    from qspinn.train.loop import Epoch, Trained

NOTHING = np.zeros(0, np.int64)


def fit(
    graph: Graph,
    plan: Plan,
    dataset: Dataset,
    encoder: Encoder,
    recipe: Recipe | None = None,
    *,
    index: Array | None = None,
    check: Array = NOTHING,
    told: Callable[[int, Epoch], None] | None = None,
) -> Trained:
    """Train a float network for a plan: in-training quantization (ITQ).

    In every update the network runs as the integer program that the plan makes of it, and the
    gradients go straight through its roundings. What comes back is a float network again, so

        job = prepare(Path("net.nir"), Path("net.npz"))
        plan = plan_for(job, backend("mcu"), choices={"fc1.weight": Choice(form="ternary")})
        lessons = load(Path("train.npz"))
        trained = fit(job.graph, plan, lessons, job.encoder, Recipe(epochs=2))
        program = quantize(trained.graph, trained.plan)

    The same arguments give the same network on one machine.

    Args:
        graph: A canonical float graph.
        plan: Complete.
        dataset: Labelled samples.
        encoder: How they become input; each epoch draws its own spikes.
        recipe: How to train.
        index: The samples to train on; None: all.
        check: Samples that the program is run on after each epoch, encoded as `encoder` says.
            Its decisions are those of the deployed program, sample by sample.
        told: Called after each epoch.

    Raises:
        ToolchainError: torch is not installed, or finds no such device.
        PlanError: The network votes, and learns otherwise.
        FrontendError: The labels are missing, or are no outputs of the network.
        QspinnError: The plan does not fit, or needs numbers too large to train with.
    """
    recipe = recipe or Recipe()
    require_torch(recipe.device)
    from qspinn.train import loop

    require_one_input(graph)
    if graph.output.readout == VOTE:
        raise PlanError(
            "a network that votes is not trained by gradients", at=graph.name,
            hint="qspinn.stdp.learn lets it learn by spike timing",
        )  # fmt: skip
    if dataset.y is None:
        raise FrontendError("has no labels to train on", at=dataset.name)
    some = np.arange(len(dataset.y)) if index is None else index
    if not len(some):
        raise FrontendError("has no sample to train on", at=dataset.name)
    require_labels(graph, dataset.y[some], dataset.name)
    quantize(graph, plan)  # what is wrong with the plan is said before anything is trained
    return loop.train(graph, plan, dataset, encoder, recipe, some, check, told)


def require_one_input(graph: Graph) -> None:
    """Refuse to train networks with several inputs.

    Raises:
        PlanError: It has several.
    """
    if (count := len(graph.of_type(Input))) > 1:
        raise PlanError(
            f"has {count} inputs; only networks with one are trained", at=graph.name,
            hint="leave itq out of --scheme",
        )  # fmt: skip


def require_torch(device: str) -> None:
    """Refuse to train where that is not possible.

    Raises:
        ToolchainError: torch is not installed, or finds no such device.
    """
    if find_spec("torch") is None:
        raise ToolchainError("torch is not installed", hint="pip install 'qspinn[train]'")
    if device != "cpu":
        from qspinn.engine import torched

        if not torched.available(device):
            raise ToolchainError(f"torch finds no {device} device here", hint="train on the cpu")
