"""Trains small networks with lava-dl's SLAYER: slayer_runner.py FOLDER.

Each leaves NAME.net, as SLAYER exports it, and NAME.npz: input and output spikes (samples, shape,
steps) of SLAYER's own evaluation.
"""

from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "templates" / "loihi"))
import lava_compat  # noqa: F401

# It would import cv2, and nothing here detects objects.
sys.modules["lava.lib.dl.slayer.object_detection"] = types.ModuleType("object_detection")
warnings.simplefilter("ignore")

STEPS, EPOCHS = 24, 5
NEURON = {"threshold": 0.5, "current_decay": 0.3, "voltage_decay": 0.15, "requires_grad": True}


def networks(slayer: Any) -> dict[str, tuple[tuple[int, ...], list[Any]]]:
    """Input shapes and blocks."""
    block, plain = slayer.block.cuba, {"weight_norm": False}

    def layers(neuron: dict[str, Any], **more: Any) -> list[Any]:
        return [
            block.Dense(neuron, 12, 24, **more, **plain), block.Dense(neuron, 24, 5, **plain),
        ]  # fmt: skip

    biased = {**NEURON, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
    apart = {**NEURON, "shared_param": False}
    return {
        "dense": ((12,), layers(NEURON)),
        "each": ((12,), layers(apart)),
        "recurrent": ((12,), [
            block.Recurrent(NEURON, 12, 16, **plain), block.Dense(NEURON, 16, 5, **plain),
        ]),
        "delays": ((12,), layers(NEURON, delay=True)),
        "conv": ((2, 9, 8), [
            block.Conv(NEURON, 2, 6, 3, stride=2, padding=1, **plain),
            block.Conv(NEURON, 6, 4, 3, groups=2, **plain), block.Flatten(),
            block.Dense(NEURON, 4 * 3 * 2, 5, **plain),
        ]),
        "bias": ((12,), layers(biased)),
    }  # fmt: skip


def trained(shape: tuple[int, ...], blocks: list[Any]) -> tuple[Any, Any]:
    """Learns which half of the inputs is busier; returns the network and spikes."""
    net = torch.nn.Sequential(*blocks)
    labels = torch.arange(40) % 2
    rates = torch.full((40, int(np.prod(shape)), 1), 0.15)
    half = rates.shape[1] // 2
    rates[labels == 0, :half] = rates[labels == 1, half:] = 0.5
    data = (torch.rand(40, rates.shape[1], STEPS) < rates).float().reshape(40, *shape, STEPS)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    net.train()
    for _ in range(EPOCHS):
        found = evaluated(net, data).mean(-1)
        target = torch.full_like(found, 0.1)
        target[torch.arange(40), labels] = 0.6
        loss = ((found - target) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    return net, data[:8]


def evaluated(net: Any, data: Any) -> Any:
    """The output of a network at rest; recurrent neurons keep their states otherwise."""
    for block in net:
        if hasattr(block, "neuron"):
            block.neuron.current_state = block.neuron.voltage_state = torch.zeros(1)
    return net(data)


def a_step_later(module: Any, spikes: Any) -> Any:
    """SLAYER's step between two blocks, for newer torch: its own writes into a view."""
    return torch.nn.functional.pad(spikes, (1, 0))[..., :-1]


def live(folder: Path, name: str, net: Any, data: Any) -> None:
    """What qspinn.load makes of the network itself, which it must leave as it was."""
    import qspinn
    from qspinn import storage

    before = {k: v.clone() for k, v in net.state_dict().items()}
    model = qspinn.load(net, data[:1])
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    storage.save(model.graph, folder / f"{name}.qspinn")
    if name == "dense":
        np.savez(folder / "refused.npz", **refusals(qspinn, net, data))


def refusals(qspinn: Any, net: Any, data: Any) -> dict[str, str]:
    """What is said of networks that a file could not hold."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks, self.gain = torch.nn.ModuleList(net), 1

        def forward(self, spike: Any) -> Any:
            for block in self.blocks:
                spike = block(self.gain * spike if self.gain > 1 else spike)
            return spike

    def said(module: Any, *sample: Any, **options: Any) -> str:
        try:
            qspinn.load(module, *sample, **options)
        except qspinn.errors.FrontendError as error:
            return str(error)
        return ""

    own, scaled = Net(), Net()
    scaled.gain = 2
    return {
        "own": said(own, data[:1]), "unrun": said(own), "scaled": said(scaled, data[:1]),
        "mixed": said(torch.nn.Sequential(*net, torch.nn.ReLU()), data[:1]),
        "option": said(net, data[:1], max_spikes=3),
    }  # fmt: skip


def main(folder: Path) -> None:
    """Train, evaluate, export."""
    import h5py
    from lava.lib.dl import slayer

    torch.set_num_threads(1)
    slayer.block.base.step_delay = a_step_later
    for name, (shape, blocks) in networks(slayer).items():
        torch.manual_seed(3)
        for block in blocks:
            for synapse in ("synapse", "input_synapse", "recurrent_synapse"):
                if hasattr(block, synapse):
                    torch.nn.init.normal_(getattr(block, synapse).weight, 0.1, 0.35)
        net, data = trained(shape, blocks)
        with torch.no_grad():
            out = evaluated(net, data)
        np.savez(folder / f"{name}.npz", data=data.numpy(), out=out.numpy())
        live(folder, name, net, data)
        with h5py.File(folder / f"{name}.net", "w") as file:
            layer = file.create_group("layer")
            inlet = layer.create_group("0")
            inlet.create_dataset("type", (1,), "S10", [b"input"])
            inlet["shape"] = shape
            for index, block in enumerate(blocks, 1):
                block.export_hdf5(layer.create_group(str(index)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
