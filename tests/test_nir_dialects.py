"""What a file leaves open: settled by its signature or an option, said, and never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nirfiles as nf
from qspinn import interp
from qspinn.errors import FrontendError
from qspinn.frontends.nir import load
from qspinn.frontends.report import Imported
from qspinn.ir import Neuron

SNNTORCH = {"tau": 5e-4, "r": 5.0}


def net(folder: Path, cell: Any, **words: Any) -> Path:
    return nf.write(folder / "net.nir", nf.tiny(lif=cell), **words)


def notes(model: Imported, subject: str) -> list[str]:
    return [f"{a.value} ({a.source})" for a in model.assumptions if a.subject == subject]


def membranes(path: Path, x: Any, **options: Any) -> Any:
    trace = interp.run(load(path, **options).graph, np.asarray(x, float).reshape(1, -1, 2))
    return trace.states["lif.v"][0, :, 0]


# --- what cannot be told is asked for ---


@pytest.mark.parametrize(
    "cell",
    [nf.lif(3, **SNNTORCH), nf.cuba(3, syn=1e-3, mem=5e-4, r=5.0, w_in=10.0)],
)
def test_the_reset_of_snntorch_must_be_chosen(cell: Any, tmp_path: Path) -> None:
    path = net(tmp_path, cell)
    for options in ({"dialect": "snntorch"}, {"dialect": "snntorch", "reset_timing": "at_spike"}):
        with pytest.raises(
            FrontendError, match=r"reset: snnTorch .* cannot say which lif"
        ) as error:
            load(path, **options)
        assert "--reset zero or --reset subtract" in error.value.hint
    drive = np.ones((12, 2))
    seen = [
        membranes(path, drive, dialect="snntorch", reset=reset).tolist()
        for reset in ("zero", "subtract")
    ]
    assert seen[0] != seen[1], "the choice must matter"
    assert notes(load(path, reset="subtract"), "reset") == ["subtract (given)"]


def test_no_reset_is_asked_for_where_nothing_resets_or_the_file_says_it(tmp_path: Path) -> None:
    graded = nf.node("LI", tau=np.full(3, 5e-4), r=np.full(3, 5.0), v_leak=np.zeros(3))
    assert load(net(tmp_path, graded)).meta["dialect"] == "snntorch"
    said = net(tmp_path, nf.lif(3, **SNNTORCH), dialect="snntorch", reset="subtract")
    assert notes(load(said), "reset") == ["subtract (in the file)"]
    own = nf.lif(3, **SNNTORCH) | {"metadata/qspinn/reset": "zero"}
    assert "zero" in notes(load(net(tmp_path, own), dialect="snntorch"), "reset")[0]


def test_a_bare_file_means_the_equations_and_nothing_is_asked(tmp_path: Path) -> None:
    cell = nf.lif(3, tau=0.01, r=[1.0, 2.0, 3.0], v_reset=-0.5)
    model = load(net(tmp_path, cell), dt=1e-3)
    assert model.meta["dialect"] == "nir"
    assert notes(model, "reset") == ["value (default)"]
    assert notes(model, "fires at") == ["> (default)"]


def test_snntorch_rests_at_zero(tmp_path: Path) -> None:
    """With the same numbers and another resting or reset potential it is not snnTorch's file."""
    for more in ({"v_reset": -0.1}, {"v_leak": 0.2}):
        assert load(net(tmp_path, nf.lif(3, **SNNTORCH, **more)), dt=1e-4).meta["dialect"] == "nir"


@pytest.mark.parametrize(
    ("cell", "choices"),
    [
        (nf.cuba(3, syn=0.005, mem=0.01), ("norse", "nir")),
        (nf.lif(3, tau=10.0, r=1.0), ("sinabs", "nir")),
    ],
)
def test_dialects_that_write_the_same_numbers(
    cell: Any, choices: tuple[str, str], tmp_path: Path
) -> None:
    path = net(tmp_path, cell)
    with pytest.raises(
        FrontendError, match=rf"dialect: .* {choices[0]} and {choices[1]} "
    ) as error:
        load(path, dt=1e-3)
    assert f"--dialect {choices[0]} or --dialect {choices[1]}" in error.value.hint
    drive = np.ones((6, 2))
    a, b = (
        membranes(
            path, drive, dt=1e-3, dialect=name, **({"r_scale": "jump"} if name == "sinabs" else {})
        )
        for name in choices
    )
    assert not np.allclose(a, b)
    assert load(net(tmp_path, cell, dt=1e-3, compare=">")).meta["dialect"] == "nir"


def test_a_reading_that_differs_at_the_threshold_alone_is_said(tmp_path: Path) -> None:
    path = net(tmp_path, nf.lif(3, tau=0.01, r=1.0))
    assert notes(load(path, dt=1e-3), "fires at") == [
        "> (inferred: as norse computes; as spikingjelly, which writes such files, too, it is >=)"
    ]
    given = load(path, dt=1e-3, dialect="norse")
    assert notes(given, "fires at") == ["> (inferred: as norse computes)"]


def test_sinabs_is_asked_for_its_gain(tmp_path: Path) -> None:
    path = net(tmp_path, nf.lif(3, tau=10.0, theta=9.0))
    with pytest.raises(FrontendError, match=r"r_scale: sinabs .* norm_input alike") as error:
        load(path, dialect="sinabs")
    assert "--r-scale equation" in error.value.hint
    one = [
        membranes(path, np.ones((2, 2)), dialect="sinabs", r_scale=r)[0]
        for r in ("equation", "jump")
    ]
    assert one[0] < one[1]


# --- every choice has an option, and every option is reported ---


def test_the_lower_clamp(tmp_path: Path) -> None:
    path = nf.write(tmp_path / "net.nir", nf.tiny(fc=nf.linear(np.full((3, 2), -0.75))))
    x, one = np.ones((3, 2)), {"dt": 1e-3, "r_scale": "jump"}
    for v_min, least, said in (
        (None, -4.065, "none"), ("none", -4.065, "none"), ("threshold", -1.0, "at -1"),
        (-0.25, -0.25, "at -0.25"),
    ):  # fmt: skip
        options = one if v_min is None else {**one, "v_min": v_min}
        assert membranes(path, x, **options).min() == pytest.approx(least)
        source = "inferred: as norse computes" if v_min is None else "given"
        assert notes(load(path, **options), "lower clamp") == [f"{said} ({source})"]
    counter = net(tmp_path, nf.counter(3), dialect="sinabs")
    assert notes(load(counter), "lower clamp") == ["at -1 (inferred: as sinabs computes)"]
    assert notes(load(counter, v_min="none"), "lower clamp") == ["none (given)"]


@pytest.mark.parametrize("v_min", [1.0, 2, "low", np.nan, True])
def test_a_clamp_that_makes_no_sense(v_min: Any, tmp_path: Path) -> None:
    with pytest.raises(FrontendError, match=r"v_min"):
        load(net(tmp_path, nf.lif(3)), dt=1e-3, v_min=v_min)


def test_what_gains_mean(tmp_path: Path) -> None:
    decay = 0.9
    for cell, first in (
        (nf.lif(3, tau=0.01, r=2.0),
         {"equation": 2 * 0.1, "jump": 2.0, "decayed": 2 * 1e-3 / (0.01 * decay)}),
        (nf.counter(3, r=2.0, theta=9.0), {"equation": 2e-3, "jump": 2.0}),
    ):  # fmt: skip
        path = net(tmp_path, cell | {"v_threshold": np.full(3, 9.0)})
        for scale, expected in first.items():
            options = {"dt": 1e-3, "dialect": "nir", "r_scale": scale}
            assert membranes(path, [[1.0, 0.0]], **options)[0] == pytest.approx(expected)
    with pytest.raises(FrontendError, match="lif: r_scale decayed needs a leak"):
        load(path, dt=1e-3, dialect="nir", r_scale="decayed")
    path = net(tmp_path, nf.cuba(3, syn=0.005, mem=0.01, w_in=3.0, v_threshold=9.0))
    for scale, expected in {"equation": 3 * 0.2, "jump": 3.0, "decayed": 3 * 0.8}.items():
        options = {"dt": 1e-3, "dialect": "nir", "w_in_scale": scale, "r_scale": "jump"}
        assert membranes(path, [[1.0, 0.0]], **options)[0] == pytest.approx(expected)
        said = notes(load(path, **options), "w_in")
        assert len(said) == 1
        assert said[0].endswith("(given)")


def test_where_membranes_start(tmp_path: Path) -> None:
    cell = nf.lif(3, tau=0.01, r=[1.0, 2.0, 3.0], v_leak=0.5, v_reset=-0.5)
    path = net(tmp_path, cell)
    for start, value in {"zero": 0.0, "v_leak": 0.5, "v_reset": -0.5}.items():
        (neuron,) = load(path, dt=1e-3, v_start=start).graph.of_type(Neuron)
        assert neuron.states["v"].init.values == value
    assert notes(load(path, dt=1e-3, v_start="v_reset"), "membranes start at") == ["-0.5 (given)"]


def test_the_file_may_say_all_of_it(tmp_path: Path) -> None:
    words = {
        "dt": 1e-3,
        "v_min": -0.5,
        "r_scale": "jump",
        "v_start": "v_leak",
        "integrator": "exact",
    }
    model = load(net(tmp_path, nf.lif(3, v_leak=0.25), **words))
    assert model.meta["dialect"] == "nir"
    assert notes(model, "lower clamp") == ["at -0.5 (in the file)"]
    assert notes(model, "membranes start at") == ["0.25 (in the file)"]
    assert notes(model, "r of leaky membranes") == ["a current adds r (in the file)"]


def test_the_other_integrator_is_set_beside_a_default_one(tmp_path: Path) -> None:
    path = net(tmp_path, nf.lif(3, tau=0.01, r=[1.0, 2.0, 3.0]))
    assert notes(load(path, dt=1e-3), "integrator") == [
        "euler; decays of 0.9, which integrator=exact makes 0.904837 (default)"
    ]
    exact = load(path, dt=1e-3, integrator="exact").graph["lif"]
    assert exact.params()["decay"].values == pytest.approx(0.904837, abs=1e-6)
