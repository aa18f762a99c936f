"""Every neuron module that a framework has is read, or refused with its own reason."""

from __future__ import annotations

import inspect
import pkgutil
import warnings
from importlib import import_module
from typing import Any

import pytest

from qspinn.frontends.live.modules import CELLS, OWN_LAYERS, REFUSED

WHERE = {
    "snntorch": ("snntorch._neurons",),
    "norse": ("norse.torch.module",),
    "spikingjelly": ("spikingjelly.activation_based.neuron",),
    "sinabs": ("sinabs.layers",),
    "rockpool": ("rockpool.nn.modules.torch",),
}
"""The packages that hold the frameworks' neurons."""

BASES = {
    "snntorch": {"SpikingNeuron", "LIF", "RecurrentOneToOne"},
    "norse": {"SNN", "SNNCell", "SNNRecurrent", "SNNRecurrentCell"},
    "spikingjelly": {
        "BaseNode", "SimpleBaseNode", "NonSpikingBaseNode", "AdaptBaseNode", "MPBNBaseNode",
        "ILCBaseNode", "NoisyBaseNode", "NoisyILCBaseNode", "NoisyNonSpikingBaseNode",
        "_OnlineLIFNode",
    },
    "sinabs": {"StatefulLayer"},
    "rockpool": {"TorchModule", "LIFBaseTorch"},
}  # fmt: skip
"""What neurons are derived from."""

OTHERS = {
    "norse": {
        "ExpFilter", "LConv2d", "Lift", "RecurrentSequential", "RegularizationCell",
        "SequentialState",
        "SpatialReceptiveField2d", "SampledSpatialReceptiveField2d",
        "ParameterizedSpatialReceptiveField2d", "TemporalReceptiveField", "SpikesToTimesDecoder",
        "ConstantCurrentLIFEncoder", "PoissonEncoder", "PoissonEncoderStep", "PopulationEncoder",
        "SignedPoissonEncoder", "SignedPoissonEncoderStep", "SpikeLatencyLIFEncoder",
        "SpikeLatencyEncoder",
    },
    "sinabs": {
        "Cropping2dLayer", "ChannelShift", "Repeat", "FlattenTime", "UnflattenTime",
        "Img2SpikeLayer", "Sig2SpikeLayer",
    },
}  # fmt: skip
"""Modules beside neurons: encoders, filters, containers and shapes."""


def classes(framework: str) -> set[str]:
    """The modules that the packages define."""
    import torch

    found: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for package in WHERE[framework]:
            root = import_module(package)
            names = [package]
            for each in pkgutil.walk_packages(root.__path__, f"{package}."):
                if ".test" not in each.name and not each.name.endswith((".nir", ".flexsn_hop")):
                    names.append(each.name)
            for name in names:
                found |= set(_own(import_module(name), torch.nn.Module))
    return found


def _own(module: Any, base: type) -> list[str]:
    return [
        name
        for name, each in vars(module).items()
        if inspect.isclass(each) and issubclass(each, base) and each.__module__ == module.__name__
        and each.__name__ == name
    ]  # fmt: skip


@pytest.mark.parametrize(
    "framework", [pytest.param(f, marks=pytest.mark.needs(f)) for f in sorted(WHERE)]
)
def test_every_module_is_read_or_refused_with_a_reason(framework: str) -> None:
    read = {*CELLS[framework], *OWN_LAYERS.get(framework, ())}
    refused = set(REFUSED[framework])
    assert not read & refused
    known = read | refused | BASES[framework] | OTHERS.get(framework, set())
    there = classes(framework)
    assert not there - known, "neither read nor refused with a reason"
    assert not {*BASES[framework], *OTHERS.get(framework, set())} - there, "no longer there"
