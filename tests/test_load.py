"""`qspinn.load`: files and modules by one name, and what it says of them."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import qspinn
from graphs import mlp
from live_nets import lines
from qspinn import storage
from qspinn.errors import FrontendError
from tree import ROOT


def test_a_file_is_read_as_ever(tmp_path: Path) -> None:
    storage.save(mlp(), tmp_path / "net.qspinn")
    for path in (tmp_path / "net.qspinn", str(tmp_path / "net.qspinn")):
        assert qspinn.load(path).graph.digest == mlp().digest
    with pytest.raises(FrontendError, match="needs no sample_input"):
        qspinn.load(tmp_path / "net.qspinn", object())


def test_what_is_neither_is_refused() -> None:
    with pytest.raises(FrontendError, match="a dict is neither a path nor"):
        qspinn.load({})
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        qspinn.lode  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.needs("snntorch")
def test_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = (ROOT / "README.md").read_text().partition("## From PyTorch")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(code[1], "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "net: 6 nodes" in said
    assert "reset timing: next_after_decay (in the module)" in said
    assert qspinn.load(tmp_path / "net.qspinn").graph.name == "net"


@pytest.mark.needs("torch")
def test_plain_torch_has_no_neurons() -> None:
    from torch import nn

    with pytest.raises(FrontendError, match="ends in Linear") as found:
        qspinn.load(nn.Sequential(nn.Linear(4, 3)))
    assert "integrators" in found.value.hint
    with pytest.raises(FrontendError, match="which shape"):
        qspinn.load(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))


@pytest.mark.needs("snntorch")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readout": "loudest"}, "readout is one of"),
        ({"input_kind": "graded"}, "input_kind is one of"),
        ({"max_spikes": 4}, "max_spikes is 1, 3, 7"),
        ({"input_high": 3}, "input_high is 3"),
    ],
)
def test_options_are_checked(options: Any, message: str) -> None:
    with pytest.raises(FrontendError, match=message):
        qspinn.load(tiny(), **options)


@pytest.mark.needs("snntorch")
def test_options_are_followed() -> None:
    model = qspinn.load(tiny(), input_kind="count", input_high=7, readout="first_spike", name="n")
    assert model.graph.name == "n"
    assert (model.graph.input.kind, model.graph.input.high) == ("count", 7)
    assert "readout: first_spike (given)" in lines(model)


@pytest.mark.needs("snntorch")
def test_a_sample_of_values_asks_what_they_are() -> None:
    import numpy as np

    values = np.full((1, 4), 0.5)
    with pytest.raises(FrontendError, match="other than 0 and 1") as found:
        qspinn.load(tiny(), values)
    assert "input_kind=count" in found.value.hint
    assert qspinn.load(tiny(), values, input_kind="current").graph.input.kind == "current"


@pytest.mark.needs("snntorch")
def test_weights_that_hooks_compute_are_refused() -> None:
    from torch.nn.utils import prune

    net = tiny()
    prune.l1_unstructured(net[0], "weight", 0.5)
    with pytest.raises(FrontendError, match="weight_orig") as found:
        qspinn.load(net)
    assert found.value.at == "net.0 (nn.Linear)"
    prune.remove(net[0], "weight")
    assert (qspinn.load(net).graph["n0"].params()["weight"].values == 0).sum() == 6


@pytest.mark.needs("torch")
def test_nothing_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, qspinn; import qspinn.frontends.live\n"
        "names = {'torch', 'snntorch', 'norse', 'spikingjelly', 'sinabs', 'nirtorch'}\n"
        "assert not names & set(sys.modules)\n"
        "from torch import nn\n"
        "try: qspinn.load(nn.Sequential(nn.Linear(2, 2)))\n"
        "except qspinn.errors.FrontendError: pass\n"
        "assert names & set(sys.modules) == {'torch'}\n"
    )
    run = subprocess.run((sys.executable, "-c", code), check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def tiny() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import snntorch as snn
    from torch import nn

    return nn.Sequential(nn.Linear(4, 3), snn.Leaky(beta=0.9, init_hidden=True))
