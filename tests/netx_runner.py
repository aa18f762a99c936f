"""Runs a `.net` file as lava-dl's netx builds it: netx_runner.py NET SPIKES.npy OUT.npy RESET."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "templates" / "loihi"))
import lava_compat  # noqa: F401

# netx needs of SLAYER one function for resonating neurons; the rest would import cv2.
for name in ("lava.lib.dl.slayer", "lava.lib.dl.slayer.neuron", "lava.lib.dl.slayer.neuron.rf"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["lava.lib.dl.slayer.neuron.rf"].neuron_params = None  # type: ignore[attr-defined]


def main(path: str, spikes: str, out: str, reset: int) -> None:
    """Spikes (channels, rows, columns or features; steps) in, output spikes in the same order."""
    from lava.lib.dl import netx
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc import io

    data = np.load(spikes)
    steps = data.shape[-1]
    # The first layer behind an input without neurons begins one step later.
    options = {"reset_interval": reset, "reset_offset": 1} if reset else {}
    net = netx.hdf5.Network(net_config=path, **options)
    stages = len(net.layers)
    order = (*reversed(range(data.ndim - 1)), data.ndim - 1)
    padded = np.concatenate(
        [data.transpose(order), np.zeros((*data.transpose(order).shape[:-1], stages))], -1
    )
    source = io.source.RingBuffer(data=padded)
    sink = io.sink.RingBuffer(shape=net.out.shape, buffer=steps + stages)
    source.s_out.connect(net.inp)
    net.out.connect(sink.a_in)
    net.run(
        condition=RunSteps(num_steps=steps + stages), run_cfg=Loihi2SimCfg(select_tag="fixed_pt")
    )
    found = sink.data.get()
    net.stop()
    np.save(out, turned(found)[..., stages:])


def turned(values: np.ndarray) -> np.ndarray:
    """Channel, row, column to column, row, channel and back; steps stay last."""
    return values.transpose((*reversed(range(values.ndim - 1)), values.ndim - 1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
