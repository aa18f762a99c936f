"""Sound files to damage, made as the tests make theirs; small, so that many can be read."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np


def made(kind: str, folder: Path) -> None:
    """Write the seeds of one kind to a folder; tests/ must be on the path."""
    {"nir": _nir, "net": _net, "qspinn": _graphs}[kind](folder)


def _nir(folder: Path) -> None:
    nf: Any = importlib.import_module("nirfiles")
    image = nf.node(
        "Conv2d", weight=np.ones((2, 1, 3, 3)), bias=np.ones(2), stride=1, padding=[1, 1],
        dilation=1, groups=1, input_shape=[6, 6],
    )  # fmt: skip
    line = nf.node(
        "Conv1d", weight=np.ones((2, 2, 3)), bias=np.ones(2), stride=1, padding="same",
        dilation=1, groups=1,
    )  # fmt: skip
    pool = nf.node("SumPool2d", kernel_size=[2, 2], stride=[2, 2], padding=[0, 0])
    mean = nf.node("AvgPool2d", kernel_size=[3, 3], stride=[1, 1], padding=[0, 0])
    flat = nf.node("Flatten", start_dim=0, end_dim=-1, input_type=[2, 3, 3])
    loop = {"input": nf.inlet(3), "lif": nf.lif(3), "w_rec": nf.linear(np.eye(3)),
            "output": nf.outlet(3)}  # fmt: skip
    back = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
    networks: list[tuple[dict[str, Any], Any, dict[str, Any]]] = [
        (nf.tiny(), None, {}),
        (nf.tiny(lif=nf.counter(3)), None, {}),
        (nf.tiny(lif=nf.cuba(3, syn=0.005, mem=0.02)), None, {"dialect": "norse", "dt": 1e-3}),
        (nf.tiny(lif={"type": "NIRGraph", "nodes": loop, "edges": back}), None, {}),
        ({"input": nf.inlet(3), **loop}, back, {"reset": "subtract", "dt": 1e-3, "T": 8}),
        ({"input": nf.inlet(1, 6, 6), "conv": image, "if": nf.counter((2, 6, 6)), "pool": pool,
          "flat": flat, "fc": nf.affine(np.ones((3, 18)), np.ones(3)), "li": nf.node(
              "LI", tau=np.full(3, 0.1), r=np.ones(3), v_leak=np.zeros(3)),
          "output": nf.outlet(3)}, None, {}),
        ({"input": nf.inlet(1, 6, 6), "mean": mean, "conv": image | {"input_shape": [4, 4]},
          "lif": nf.lif((2, 4, 4), r=100.0), "output": nf.outlet(2, 4, 4)}, None, {}),
        ({"input": nf.inlet(2, 6), "conv": line, "lag": nf.node("Delay", delay=np.full(12, 0.002)),
          "scale": nf.node("Scale", scale=np.ones((2, 6))), "lif": nf.lif((2, 6)),
          "output": nf.outlet(2, 6)}, None, {}),
        (nf.tiny(lif=nf.node("Threshold", threshold=np.ones(3))), None, {}),
    ]  # fmt: skip
    for number, (nodes, edges, words) in enumerate(networks):
        nf.write(folder / f"seed0{number:02}", nodes, edges, **words)


def _net(folder: Path) -> None:
    of: Any = importlib.import_module("test_lava_dl")
    rng = np.random.default_rng(0)
    networks = [of.rich(rng), of.image(rng), list(of.delayed(rng))]
    for number, layers in enumerate(networks):
        of.write(folder / f"seed0{number:02}", *layers)


def _graphs(folder: Path) -> None:
    from qspinn import storage

    graphs: Any = importlib.import_module("graphs")
    networks: Any = importlib.import_module("networks")
    found = [graphs.mlp(), graphs.mlp(readout="membrane_last")]
    found += [networks.random_network(seed)[0] for seed in range(12)]
    for number, graph in enumerate(found):
        (folder / f"seed0{number:02}").write_bytes(storage.dump(graph))
