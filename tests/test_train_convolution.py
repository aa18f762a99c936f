"""The convolution that training runs: every sum exact, whichever algorithm makes it."""

from __future__ import annotations

import numpy as np
import pytest

from qspinn.interp import run
from qspinn.ir import Conv2d, Graph, Input, Neuron, Output, Param, State

SHAPE = (4, 9, 8)


def sums(x: np.ndarray, w: np.ndarray, window: tuple) -> np.ndarray:
    """Integers, product by product."""
    (sy, sx), (py, px), (dy, dx), groups = window
    padded = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)))
    ky, kx = w.shape[2:]
    rows = (padded.shape[2] - dy * (ky - 1) - 1) // sy + 1
    columns = (padded.shape[3] - dx * (kx - 1) - 1) // sx + 1
    outs, ins = len(w) // groups, x.shape[1] // groups
    y = np.zeros((len(x), len(w), rows, columns), np.int64)
    for j in range(len(w)):
        first = j // outs * ins
        for i in range(ins):
            for a in range(ky):
                for b in range(kx):
                    part = padded[:, first + i, a * dy :, b * dx :]
                    part = part[:, : (rows - 1) * sy + 1 : sy, : (columns - 1) * sx + 1 : sx]
                    y[:, j] += w[j, i, a, b] * part
    return y


WINDOWS = (
    ((1, 1), (0, 0), (1, 1), 1), ((1, 1), (1, 1), (1, 1), 1), ((2, 1), (1, 2), (1, 1), 2),
    ((4, 4), (0, 0), (1, 1), 1), ((1, 2), (2, 1), (2, 1), 4),
)  # fmt: skip


@pytest.mark.needs("torch")
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("top", [1, 7, 127, 32767])
def test_sums_and_gradients_are_those_of_the_products(
    window: tuple, top: int, rng: np.random.Generator
) -> None:
    import torch

    from qspinn.train.layers import _convolved

    high = 3
    x = rng.integers(0, high + 1, (5, *SHAPE))
    w = rng.integers(-top, top + 1, (8, SHAPE[0] // window[3], 3, 3))
    kind = torch.float32 if np.abs(w).sum((1, 2, 3)).max() * high < 1 << 24 else torch.float64
    inputs = torch.tensor(x, dtype=kind, requires_grad=True)
    weights = torch.tensor(w, dtype=kind, requires_grad=True)
    y = _convolved(inputs, weights, window, high)
    expected = sums(x, w, window)
    assert np.array_equal(y.detach().numpy(), expected)
    # A gradient of whole numbers: exact, too, where the sums are.
    given = rng.integers(-2, 3, expected.shape)
    y.backward(torch.tensor(given, dtype=kind))
    for name, found, moved in (("x", inputs, x), ("w", weights, w)):
        where = tuple(rng.integers(0, n) for n in moved.shape)
        bumped = moved.copy()
        bumped[where] += 1
        other = sums(bumped, w, window) if name == "x" else sums(x, bumped, window)
        slope = ((other - expected) * given).sum()
        assert found.grad[where].item() == pytest.approx(slope, rel=1e-4, abs=1e-3)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("top", [1, 7, 127])
def test_an_algorithm_that_rounds_does_no_harm(
    top: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from qspinn.train import layers

    plain = torch.nn.functional.conv2d

    def coarse(x: torch.Tensor, w: torch.Tensor, *rest: object) -> torch.Tensor:
        y = plain(x, w, *rest)
        most = w.abs().flatten(1).sum(1).max() * x.abs().max()
        return y + (torch.rand(y.shape) - 0.5) * most * 2.0**-13

    monkeypatch.setattr(layers.functional, "conv2d", coarse)
    x, w = rng.integers(0, 2, (5, *SHAPE)), rng.integers(-top, top + 1, (8, 4, 3, 3))
    window = ((1, 1), (1, 1), (1, 1), 1)
    y = layers._convolved(torch.tensor(x).float(), torch.tensor(w).float(), window, 1)
    assert np.array_equal(y.numpy(), sums(x, w, window))


@pytest.mark.needs("torch")
def test_a_float_convolution_is_not_rounded(rng: np.random.Generator) -> None:
    import torch

    from qspinn.neurons import spiking
    from qspinn.train.network import Network

    weight = Param(rng.normal(0, 0.3, (6, 2, 3, 3)))
    model = spiking()
    values = {"decay": Param(np.array(0.875)), "threshold": Param(np.array(0.5))}
    graph = Graph("float", (
        Input(name="x", shape=(2, 8, 8)),
        Conv2d(name="c", inputs=("x",), weight=weight, stride=(2, 2)),
        Neuron(name="n", inputs=("c",), shape=(6, 3, 3), model=model, values=values,
               states={"v": State()}),
        Output(name="y", inputs=("n",)),
    ))  # fmt: skip
    data = (rng.random((4, 9, 2, 8, 8)) < 0.4).astype(np.int64)
    network = Network(graph)
    source = torch.tensor(np.swapaxes(data, 0, 1)).float()
    with torch.no_grad():
        sent = network.run(source, network.leaves(graph)).sent.numpy()
    expected = run(graph, data).output
    assert 0.05 < expected.mean() < 0.95
    assert np.array_equal(np.swapaxes(sent, 0, 1).reshape(expected.shape), expected)
