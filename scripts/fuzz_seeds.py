"""Sound files to damage, made as the tests make theirs; small, so that many can be read."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np


def made(kind: str, folder: Path) -> None:
    """Write the seeds of one kind to a folder; tests/ must be on the path."""
    {"nir": _nir, "net": _net, "onnx": _onnx, "qspinn": _graphs}[kind](folder)


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
        (nf.tiny(lif=nf.counter(3)), None, {"dialect": "sinabs"}),
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


def _onnx(folder: Path) -> None:
    of: Any = importlib.import_module("onnxfiles")
    rng = np.random.default_rng(0)
    kernel = {"w": of.dense(rng, 2, 9).reshape(2, 1, 3, 3), "b": np.ones(2)}
    norm = {name: np.full(2, 0.5) for name in ("gain", "shift", "mean", "var")}
    fc, scale, zero = of.dense(rng, 4, 18), np.float32(0.1), np.int8(0)
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    image: Any = (
        ("Conv", ["w", "b"], {"pads": [1, 1, 1, 1]}),
        ("BatchNormalization", list(norm), {}), ("Relu", [], {}), ("AveragePool", [], pool),
        ("Flatten", [], {}), ("MatMul", ["fc"], {}), ("Softmax", [], {}),
    )  # fmt: skip
    whole: Any = (("Conv", ["w"], {}), ("Relu", [], {}), ("GlobalAveragePool", [], {}),
             ("Reshape", ["to"], {}), ("Add", ["b"], {}))  # fmt: skip
    tensors = {**kernel, **norm, "fc": fc.T, "to": np.array([-1, 2])}
    integers = {"w": np.ones((4, 6), np.int8), "scale": scale, "zero": zero}
    found = [
        of.mlp(rng), of.mlp(rng, (6, 8, 8, 4)),
        of.chain(rng, *image, shape=("batch", 1, 6, 6), tensors=tensors),
        of.chain(rng, *whole, shape=("batch", 1, 6, 6), tensors=tensors),
        of.model(
            [of.node("DequantizeLinear", ["w", "scale", "zero"], "q"),
             of.node("Gemm", ["x", "q"], "fc", transB=1)],
            ("batch", 6), integers,
        ),
    ]  # fmt: skip
    for number, made in enumerate(found):
        of.save(folder / f"seed0{number:02}", made)


def _graphs(folder: Path) -> None:
    from qspinn import storage

    graphs: Any = importlib.import_module("graphs")
    networks: Any = importlib.import_module("networks")
    found = [graphs.mlp(), graphs.mlp(readout="membrane_last")]
    found += [networks.random_network(seed)[0] for seed in range(12)]
    for number, graph in enumerate(found):
        (folder / f"seed0{number:02}").write_bytes(storage.dump(graph))
