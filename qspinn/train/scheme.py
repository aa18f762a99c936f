"""In-training quantization as a scheme of the search: each candidate is trained for its plan."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from qspinn import storage
from qspinn.datasets import Dataset
from qspinn.encode import from_options
from qspinn.engine.printed import cache_folder
from qspinn.errors import FrontendError, PlanError, ToolchainError
from qspinn.explore.schemes import Lessons
from qspinn.ir import VOTE, Graph
from qspinn.plan import Plan, parse
from qspinn.stdp import Recipe as Spiking
from qspinn.stdp import learn
from qspinn.stdp.network import parts
from qspinn.train.fitting import fit, require_one_input, require_torch
from qspinn.train.recipe import Recipe

_VERSION = 3
"""Another one where the same arguments would train another network."""
_GRAPH, _PLAN = ".qspinn", ".plan"
_AGAIN = 0.02
"""How fast a network that has learned learns on: a third of what a new one does."""


@dataclass(eq=False)
class InTraining:
    """In-training quantization (ITQ).

    A network that was trained once, for the same graph, plan, recipe and samples, is not trained
    again: it is kept in memory, and in a folder under the digest of these.

    Attributes:
        dataset: The samples to train on, all of them.
        recipe: How: by gradients, or by spike timing.
        folder: Where trained networks are kept; None: nowhere.
    """

    dataset: Dataset
    recipe: Recipe | Spiking = field(default_factory=Recipe)
    folder: Path | None = None
    name: str = "itq"

    def __post_init__(self) -> None:
        self._samples = digest_of(self.dataset)
        self._made: dict[str, tuple[Graph, Plan]] = {}

    def fit(self, graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
        """The network trained for the plan, and the plan; see `explore.schemes.Scheme`."""
        words = (graph.digest, plan.text(), repr(self.recipe), self._samples, str(_VERSION))
        key = hashlib.sha256("\n".join(words).encode()).hexdigest()
        if key not in self._made:
            self._made[key] = self._kept(key) or self._fresh(key, graph, plan)
        return self._made[key]

    def _fresh(self, key: str, graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
        made, fitted = self._trained(graph, plan)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / (key + _PLAN)
            aside = path.with_name(path.name + ".part")
            aside.write_text(fitted.text(), encoding="utf-8")
            aside.replace(path)
            storage.save(made, self.folder / (key + _GRAPH))  # last: it completes the pair
        return made, fitted

    def _trained(self, graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
        encoder = from_options(plan.options)
        if isinstance(self.recipe, Recipe):
            trained = fit(graph, plan, self.dataset, encoder, self.recipe)
            return trained.graph, trained.plan
        learned = learn(self.dataset, encoder, self.recipe, graph=graph, plan=plan)
        assert learned.plan is not None, "it learned for a plan"
        return learned.graph, learned.plan

    def _kept(self, key: str) -> tuple[Graph, Plan] | None:
        """What an earlier process trained; what cannot be read is trained anew."""
        if self.folder is None or not (self.folder / (key + _GRAPH)).exists():
            return None
        try:
            text = (self.folder / (key + _PLAN)).read_text(encoding="utf-8")
            return storage.load(self.folder / (key + _GRAPH)), parse(text)
        except (OSError, UnicodeDecodeError, FrontendError, PlanError):
            return None


def itq(lessons: Lessons) -> InTraining:
    """The scheme ``itq`` by the default recipe; the cache folder keeps what it trains.

    Neurons that vote learn by spike timing, as they did before; others by gradients.

    Raises:
        ToolchainError: torch is not installed, and it takes gradients; or numba, and it takes
            spike timing.
        VerifyError: Neurons vote that spike timing cannot teach.
        PlanError: The network has several inputs.
    """
    folder = cache_folder() / "itq"
    if lessons.graph is not None and lessons.graph.output.readout == VOTE:
        parts(lessons.graph)
        if find_spec("numba") is None:
            raise ToolchainError(
                "numba is not installed: without it a candidate would learn for hours",
                hint="pip install 'qspinn[fast]'",
            )
        return InTraining(lessons.dataset, Spiking(seed=lessons.seed, rate=_AGAIN), folder)
    if lessons.graph is not None:
        require_one_input(lessons.graph)
    recipe = Recipe(seed=lessons.seed)
    require_torch(recipe.device)
    return InTraining(lessons.dataset, recipe, folder)


def digest_of(dataset: Dataset) -> str:
    """What identifies labelled samples."""
    h = hashlib.sha256()
    for array in (dataset.y, *(dataset.events or dataset.arrays)):
        held = np.ascontiguousarray(array)
        h.update(str((held.dtype.str, held.shape)).encode())
        h.update(held.tobytes())
    return h.hexdigest()
