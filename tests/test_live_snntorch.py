"""Live snnTorch modules: the import is the network that snnTorch runs, spike for spike."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from live_nets import assert_same, in_double, lively, spikes, steps_of
from qspinn.errors import FrontendError
from qspinn.frontends.live import load

pytestmark = [
    pytest.mark.needs("snntorch"),
    pytest.mark.filterwarnings("ignore:To copy construct:UserWarning"),
]

FULL = {
    "Leaky": {"beta": 0.85},
    "Lapicque": {"beta": 0.85, "R": 2.0},
    "Synaptic": {"alpha": 0.7, "beta": 0.85},
    "RLeaky": {"beta": 0.85, "linear_features": 20},
    "RSynaptic": {"alpha": 0.7, "beta": 0.85, "linear_features": 20},
}


@pytest.fixture
def snn() -> Any:
    """Modules keep their states in themselves, and a list of all modules there are."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import snntorch

    torch.manual_seed(5)
    return snntorch


def neuron(snn: Any, kind: str, **more: Any) -> Any:
    options = {"threshold": 0.9, "init_hidden": True, **FULL[kind], **more}
    return getattr(snn, kind)(**options)


def check(net: Any, x: Any, **options: Any) -> Any:
    model = load(in_double(net), **options)
    assert_same(model, x, *steps_of(net, x, lambda m: m.mem))
    return model


def dense(snn: Any, kind: str, **more: Any) -> Any:
    from torch import nn

    return lively(nn.Sequential(
        nn.Linear(8, 20), neuron(snn, kind, **more),
        nn.Linear(20, 12), neuron(snn, "Leaky", threshold=0.2),
    ))  # fmt: skip


CASES = [
    (kind, reset, late)
    for kind in FULL
    for reset in ("subtract", "zero", "none")
    for late in (True, False)
    if late or kind not in ("Lapicque", "RSynaptic")
]


@pytest.mark.parametrize(("kind", "reset", "late"), CASES)
def test_every_neuron_and_reset(snn: Any, rng: Any, kind: str, reset: str, late: bool) -> None:
    more = {} if kind in ("Lapicque", "RSynaptic") else {"reset_delay": late}
    check(dense(snn, kind, reset_mechanism=reset, **more), spikes(rng, 8))
