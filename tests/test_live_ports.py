"""Live modules with several inputs and several outputs, against snnTorch itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from live_nets import in_double, lively, quietly, spikes, tensor
from qspinn import interp
from qspinn.errors import FrontendError
from qspinn.frontends.live import load
from qspinn.ir import Input, Output
from qspinn.ports import together

pytestmark = [
    pytest.mark.needs("snntorch"),
    pytest.mark.filterwarnings("ignore:To copy construct:UserWarning"),
]


@pytest.fixture
def snn() -> Any:
    return quietly("snntorch", seed=5)


def two_eyes(snn: Any, *, time: bool = False) -> Any:
    """Two inputs; the second joins a layer deeper, early spikes leave beside the last ones."""
    from torch import nn, stack

    class Eyes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(8, 6), nn.Linear(6, 4), nn.Linear(3, 4)
            leaky = {"beta": 0.85, "threshold": 0.3, "init_hidden": True}
            self.first, self.second = snn.Leaky(**leaky), snn.Leaky(**leaky)

        def step(self, left: Any, right: Any) -> Any:
            early = self.first(self.a(left))
            return self.second(self.b(early) + self.c(right)), early

        def forward(self, left: Any, right: Any) -> Any:
            if not time:
                return self.step(left, right)
            found = [self.step(left[t], right[t]) for t in range(len(left))]
            return stack([one for one, _ in found]), stack([other for _, other in found])

    return in_double(lively(Eyes()))


def samples(rng: np.random.Generator) -> dict[str, Any]:
    return {"left": spikes(rng, 8), "right": spikes(rng, 3)}


@pytest.mark.parametrize("form", ["tuple", "mapping"])
@pytest.mark.parametrize("time", [False, True])
def test_every_spike_of_every_output(
    time: bool, form: str, snn: Any, rng: np.random.Generator
) -> None:
    import torch

    net, given = two_eyes(snn, time=time), samples(rng)
    tensors = {name: tensor(x) for name, x in given.items()}
    shown = {n: x.transpose(0, 1)[:6] if time else x[:, 0] for n, x in tensors.items()}
    sample = tuple(shown.values()) if form == "tuple" else shown
    model = load(net, sample, output=("second", "first"))
    graph = model.graph
    assert [(n.name, n.shape) for n in graph.of_type(Input)] == [("left", (8,)), ("right", (3,))]
    assert [n.name for n in graph.of_type(Output)] == ["output_second", "output_first"]
    assert graph.output.name == "output_second"
    with torch.no_grad():
        if time:
            late, early = (
                x.transpose(0, 1) for x in net(*(t.transpose(0, 1) for t in tensors.values()))
            )
        else:
            found = [
                net(*now) for now in zip(*(x.unbind(1) for x in tensors.values()), strict=True)
            ]
            late, early = (torch.stack([f[i] for f in found], 1) for i in (0, 1))
    got = interp.run(graph, together(graph, given)).outputs
    for name, want in (("output_second", late), ("output_first", early)):
        np.testing.assert_array_equal(got[name], want.numpy())
        assert 0.02 < got[name].mean() < 0.98


def test_one_of_several_outputs(snn: Any, rng: np.random.Generator) -> None:
    sample = tuple(tensor(x)[:, 0] for x in samples(rng).values())
    graph = load(two_eyes(snn), sample, output="second").graph
    assert [node.name for node in graph.of_type(Output)] == ["output"]


def test_a_mapping_may_name_the_only_input(snn: Any) -> None:
    from torch import nn

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(4, 2), snn.Leaky(beta=0.9, init_hidden=True)

        def forward(self, x: Any) -> Any:
            return self.lif(self.fc(x))

    graph = load(One(), {"x": tensor(np.ones((1, 4)))}).graph
    assert [node.name for node in graph.of_type(Input)] == ["input"]


def test_what_is_refused(snn: Any, rng: np.random.Generator) -> None:
    from torch import nn

    net, given = two_eyes(snn), samples(rng)
    left, right = (tensor(x)[:, 0] for x in given.values())
    cases: list[tuple[Any, Any, dict[str, Any], str]] = [
        (net, (left, right), {}, "returns values of 2 modules: second, first"),
        (net, (left, right), {"output": ("second", "third")}, "output='third' is no module"),
        (net, (left, right), {"output": "first"}, "right: no module|depend on the input right"),
        (net, {"left": left, "up": right}, {}, "takes left, right; sample_input has up"),
        (net, (left, right, right), {}, "takes left, right; sample_input has 3 tensors"),
        (net, (left, 3 * right), {}, "sample_input holds values other than 0 and 1, up to 3"),
        (nn.Sequential(nn.Linear(8, 2), snn.Leaky(beta=0.9, init_hidden=True)),
         (left, left), {}, "takes|chain of modules"),
        (nn.Sequential(nn.Linear(8, 2), snn.Leaky(beta=0.9, init_hidden=True)),
         left, {"output": ("1", "0")}, "is a chain of modules, with one input and one output"),
    ]  # fmt: skip
    for module, sample, options, says in cases:
        with pytest.raises(FrontendError, match=says):
            load(module, sample, **options)
