"""The most weights that a step adds, against counting event by event."""

from __future__ import annotations

import numpy as np
import pytest
from qspinn.backends.mcu.sops import worst_sops

from mcu_builds import convolutional, deaf, dense, emitted, lif, mlp, recurrent
from qspinn.ir import Delay, Graph, Input, Linear, Output


def test_layers_and_cycles() -> None:
    assert worst_sops(mlp()) == 12 * 9 + 9 * 4
    assert worst_sops(recurrent()) == 20 * 24 + 24 * 24 + 24 * 5


def test_inputs_that_are_ignored_add_nothing() -> None:
    graph = deaf()
    weight = graph["fc1"]
    assert isinstance(weight, Linear)
    heard = int(weight.weight.values.any(0).sum())
    assert heard < 300
    assert worst_sops(graph) == heard * 48 + 48 * 10


def test_images_and_pools() -> None:
    """Borders have fewer taps; a pool sends on all four events of a window."""
    side, channels = 12, 8
    edge = sum(min(y + 2, side) - max(y - 1, 0) for y in range(side))
    half = side // 2
    small = sum(min(y + 2, half) - max(y - 1, 0) for y in range(half))
    first = 2 * channels * edge**2
    second = channels * channels * small**2 * 4
    assert worst_sops(convolutional()) == first + second + channels * half**2 * 10


def test_a_delay_in_a_chain() -> None:
    rng = np.random.default_rng(1)
    graph = Graph(
        "late",
        (
            Input(name="x", shape=(5,)),
            Delay(name="wait", inputs=("x",), shape=(5,), steps=3),
            dense(rng, "fc", "wait", 3, 5),
            lif("out_lif", "fc", 3, 60),
            Output(name="out", inputs=("out_lif",)),
        ),
    )
    assert worst_sops(graph) == 15


@pytest.mark.parametrize("sizes", [(3, 2), (12, 9, 4)])
def test_the_header_says_it(sizes: tuple[int, ...]) -> None:
    graph = mlp("said", sizes)
    text = emitted(graph).files["said.h"].decode()
    assert f"SAID_SOPS_WORST   {worst_sops(graph)}u" in text
