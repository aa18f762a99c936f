"""Runs `.net` files as lava-dl's netx builds them: netx_runner.py JOBS.json.

Each job names a file, spikes.npy (shape, steps), options of netx's Network, how many steps to run,
and where the output spikes and every layer's u and v of every step go (shape, steps).
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "templates" / "loihi"))
import lava_compat  # noqa: F401

# netx needs of SLAYER one function for resonating neurons; the rest would import cv2.
for name in ("lava.lib.dl.slayer", "lava.lib.dl.slayer.neuron", "lava.lib.dl.slayer.neuron.rf"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["lava.lib.dl.slayer.neuron.rf"].neuron_params = None  # type: ignore[attr-defined]


def run(job: Mapping[str, Any]) -> None:
    """One file on one array of spikes."""
    from lava.lib.dl import netx
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc import io

    data, steps = np.load(job["spikes"]), job["steps"]
    net = netx.hdf5.Network(net_config=job["net"], **job["options"])
    if job["constant"]:
        gain = net.in_layer.transform
        bias = turned(data)[..., 0] * gain["weight"] + gain["bias"]
        net.in_layer.neuron.bias_mant.init = bias.astype(np.int32)
    else:
        # What a dense layer reads is flat.
        data = turned(data) if len(net.inp.shape) == 3 else data.reshape(-1, data.shape[-1])
        rest = np.zeros((*data.shape[:-1], steps - data.shape[-1]))
        source = io.source.RingBuffer(data=np.concatenate([data, rest], -1))
        source.s_out.connect(net.inp)
    sink = io.sink.RingBuffer(shape=net.out.shape, buffer=steps)
    net.out.connect(sink.a_in)
    probes = watched(net, steps) if job["states"] else {}
    net.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    found = {"out": sink.data.get(), **{name: probe.data.get() for name, probe in probes.items()}}
    net.stop()
    np.savez(job["out"], **{name: turned(values) for name, values in found.items()})


def watched(net: Any, steps: int) -> dict[str, Any]:
    """Something that reads u and v of every layer after each step."""
    from lava.proc import io

    found = {}
    for index, layer in enumerate(net.layers):
        for name in ("u", "v"):
            probe = io.sink.Read(buffer=steps)
            probe.connect_var(getattr(layer.neuron, name))
            found[f"{index}.{name}"] = probe
    return found


def turned(values: np.ndarray) -> np.ndarray:
    """Channel, row, column to column, row, channel and back; steps stay last."""
    return values.transpose((*reversed(range(values.ndim - 1)), values.ndim - 1))


if __name__ == "__main__":
    for each in json.loads(Path(sys.argv[1]).read_text()):
        run(each)
