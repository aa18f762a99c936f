"""In-training quantization of neurons that vote, as a scheme of the search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qspinn.errors import QspinnError, ToolchainError
from qspinn.explore.schemes import Lessons, schemes
from qspinn.ir import Graph
from qspinn.passes.quantize import quantize
from qspinn.stdp import Recipe, learn
from qspinn.train import fitting
from qspinn.train import scheme as module
from qspinn.train.scheme import InTraining
from test_stdp import ALL, DATA, ENCODER, RECIPE, plan_for


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QSPINN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def graph() -> Graph:
    return learn(DATA, ENCODER, RECIPE, index=ALL[:80]).graph


def refuse(*arguments: object, **options: object) -> None:
    raise QspinnError("trained again")


def test_neurons_that_vote_need_no_torch(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match="torch"):
        schemes(("itq",), Lessons(DATA, 5))
    made = schemes(("ptq", "itq"), Lessons(DATA, 5, graph))["itq"]
    assert isinstance(made, InTraining)
    assert isinstance(made.recipe, Recipe)
    assert made.recipe.seed == 5
    trained, plan = made.fit(graph, plan_for())
    assert [node.name for node in trained.nodes] == [node.name for node in graph.nodes]
    assert trained.digest != graph.digest
    assert trained.digest == learn(DATA, ENCODER, made.recipe, graph=graph, plan=plan).graph.digest


def test_what_cannot_learn_is_said_before_the_search(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match="numba"):
        schemes(("itq",), Lessons(DATA, 5, graph))


def test_a_network_learns_once(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(RECIPE, passes=1)
    program = quantize(*InTraining(DATA, short, tmp_path).fit(graph, plan_for())).digest
    assert program != quantize(graph, plan_for()).digest
    with monkeypatch.context() as patch:
        patch.setattr(module, "learn", refuse)
        later = InTraining(DATA, short, tmp_path)
        assert quantize(*later.fit(graph, plan_for())).digest == program
        flipped = replace(DATA, y=np.asarray(DATA.y)[::-1])
        for other in (
            InTraining(DATA, replace(short, seed=1), tmp_path),
            InTraining(flipped, short, tmp_path),
            InTraining(DATA, short),
        ):
            with pytest.raises(QspinnError, match="trained again"):
                other.fit(graph, plan_for())
