"""Networks as torch exports them, with the exporter that needs no further package."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxfiles as of
from qspinn.frontends import load_model
from qspinn.ir import MaxPool2d, Neuron
from qspinn.neurons import larger
from test_onnx import scores

pytestmark = pytest.mark.needs("onnx", "torch")


def exported(network: Any, shape: tuple[int, ...], path: Path, *, folded: bool = True) -> Any:
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, -1.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is the older one
        torch.onnx.export(
            network.eval(), (torch.zeros(1, *shape),), path, dynamo=False,
            input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "n"}},
            do_constant_folding=folded,
        )  # fmt: skip
    return path


def convolutional() -> Any:
    from torch import nn

    return nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(1, 6, 3, padding=1), norm1=nn.BatchNorm2d(6), relu1=nn.ReLU(),
        pool1=nn.AvgPool2d(2), conv2=nn.Conv2d(6, 8, 3, stride=2, groups=2, bias=False),
        norm2=nn.BatchNorm2d(8), relu2=nn.ReLU6(), drop=nn.Dropout(), flat=nn.Flatten(),
        fc=nn.Linear(72, 5), soft=nn.Softmax(1),
    ))  # fmt: skip


def functional() -> Any:
    """The style of torch's MNIST example: a maximum before the Relu, and a view."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 6, 5)
            self.fc1, self.fc2 = nn.Linear(216, 20), nn.Linear(20, 5)

        def forward(self, x: Any) -> Any:
            x = torch.relu(nn.functional.max_pool2d(self.conv(x), 2))
            x = x.view(x.size(0), -1)
            return nn.functional.log_softmax(self.fc2(torch.relu(self.fc1(x))), dim=1)

    return Net()


def pooled() -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("build", [convolutional, functional, pooled])
def test_networks_of_torch(
    build: Any, folded: bool, rng: np.random.Generator, tmp_path: Path
) -> None:
    import torch

    torch.manual_seed(3)
    network = build()
    path = exported(network, (1, 16, 16), tmp_path / "net.onnx", folded=folded)
    x = rng.random((30, 1, 16, 16)).astype(np.float32)
    imported = load_model(path, data=x, percentile=100.0)
    assert imported.reference is not None
    given = imported.reference(x)
    wanted = of.judged(path, x)  # logits, if the probabilities are taken away
    shifted = given - given.max(1, keepdims=True)
    soft = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    final = {convolutional: soft, functional: np.log(soft), pooled: given}[build]
    np.testing.assert_allclose(final, wanted, rtol=1e-4, atol=1e-5)
    if not imported.graph.of_type(MaxPool2d):
        off = np.abs(scores(imported, x, 128) - given).max()
        assert off < 0.05 * np.abs(given).max()
    # Beside the layers' own there are only those that remember which of two inputs is ahead.
    own = [n for n in imported.graph.of_type(Neuron) if n.model.name != larger().name]
    assert len(own) == 3
