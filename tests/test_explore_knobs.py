from __future__ import annotations

from pathlib import Path

import pytest

from qspinn.backend import backend
from qspinn.choice import Choice
from qspinn.encode import Encoder
from qspinn.errors import PlanError
from qspinn.explore.knobs import choices_of, space_of
from qspinn.explore.space import Knob, Space
from qspinn.fixed import QFormat, Rounding
from qspinn.ir import Graph
from qspinn.job import prepare
from qspinn.plan import Entry, Plan
from tree import ROOT

DIGITS = ROOT / "examples" / "digits"
ENCODER = Encoder("rate", 24)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return prepare(DIGITS / "digits.nir", Path(DIGITS / "digits.npz")).graph


def knobs(space: Space) -> dict[str, Knob]:
    return {knob.name: knob for knob in space.knobs}


def test_every_parameter_has_a_knob(graph: Graph) -> None:
    found = knobs(space_of(graph, backend("mcu"), ENCODER))
    for name in ("fc1.weight", "fc1.bias", "lif1.v", "lif1.threshold", "lif1.decay", "lif1.scale"):
        assert name in found
        assert name.replace("1", "2") in found
    assert found["fc1.weight"].options[:2] == ("16", "8")
    assert found["fc1.weight"].options[-2:] == ("ternary", "binary")
    assert found["input.active"].options[0] == "all"
    assert "stochastic" in found["fc2.weight:rounding"].options
    assert {k.layer for k in found.values()} == {"", "lif1", "lif2"}


def test_loihi_offers_what_its_chip_has(graph: Graph) -> None:
    found = knobs(space_of(graph, backend("loihi"), ENCODER))
    assert "7" not in found["fc1.weight"].options  # the chip has 1 to 6 and 8 bits
    assert "lif1.v" not in found
    assert "input.active" not in found


def test_levels_by_kind_and_by_path(graph: Graph) -> None:
    asked = {"weight": ("8", "4"), "fc2.weight": ("16",), "membrane:rounding": ("floor", "zero"),
             "steps": ("24", "12"), "decay": ()}  # fmt: skip
    found = knobs(space_of(graph, backend("mcu"), ENCODER, levels=asked))
    assert found["fc1.weight"].options == ("8", "4")
    assert found["fc2.weight"].options == ("16",)
    assert set(found["lif1.v:rounding"].options) == {"floor", "zero"}
    assert found["steps"].options == ("24", "12")
    assert "lif1.decay" not in found


def test_what_a_plan_settles_has_no_knob(graph: Graph) -> None:
    given = Plan({"fc1.weight": Entry(QFormat(4, 0))}, {"lif2": 3.0}, {"steps": "12"})  # type: ignore[dict-item]
    found = knobs(space_of(graph, backend("mcu"), ENCODER, given=given))
    assert not {"fc1.weight", "fc1.weight:rounding", "lif2.scale", "steps"} & found.keys()


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"weigth": ("8",)}, "nothing called weigth"),
        ({"fc9.weight": ("8",)}, "nothing called fc9.weight"),
        ({"weight": ("9",)}, "cannot be '9'"),
    ],
)
def test_levels_that_name_nothing(
    graph: Graph, levels: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        space_of(graph, backend("mcu"), ENCODER, levels=levels)


def test_latency_coded_input_has_no_shorter_runs(graph: Graph) -> None:
    with pytest.raises(PlanError, match="steps"):
        space_of(graph, backend("mcu"), Encoder("latency", 24), levels={"steps": ("24", "12")})


def test_words_become_choices() -> None:
    made = choices_of(
        {
            "fc1.weight": "4", "fc1.weight:rounding": "floor", "fc2.weight": "ternary",
            "lif1.v": "8", "lif1.decay": "leak", "lif1.threshold": "shared",
            "lif1.scale": "error/channel", "input.active": "0.99",
        }
    )  # fmt: skip
    assert made["fc1.weight"] == Choice(bits=4, rounding=Rounding.FLOOR)
    assert made["fc2.weight"] == Choice(form="ternary")
    assert made["lif1.v"] == Choice(bits=8)
    assert made["lif1.decay"] == Choice(form="leak")
    assert made["lif1.threshold"] == Choice()
    assert made["lif1.scale"] == Choice(form="error", group="channel")
    assert made["input.active"] == Choice(share=0.99)
