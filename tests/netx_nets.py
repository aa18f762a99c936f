"""Emitted `.net` files in lava-dl's netx, beside the reference; and random networks for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from qspinn.backends.loihi import BACKEND

from loihi_nets import W, linear, net, neuron, spikes
from qspinn import interp
from qspinn.ir import (
    Array,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Neuron,
    Node,
    Param,
    Shape,
)
from qspinn.plan import Plan
from qspinn.signals import window

SECONDS = 300


def run_netx(jobs: Sequence[Mapping[str, Any]], folder: Path) -> list[Mapping[str, Array]]:
    """What netx computes: ``out``, and with ``states`` also ``0.u``, ``0.v``, ``1.u``...

    A job has ``net`` (a file) and ``data`` (shape, steps); it may have ``steps`` to run,
    ``options`` of Network, ``constant`` and ``states``.
    """
    written = []
    for index, job in enumerate(jobs):
        spikes, out = folder / f"in{index}.npy", folder / f"out{index}.npz"
        np.save(spikes, job["data"])
        known = {"steps": job["data"].shape[-1], "options": {}, "constant": False, "states": False}
        given = {key: value for key, value in job.items() if key != "data"}
        written.append(
            {**known, **given, "net": str(job["net"]), "spikes": str(spikes), "out": str(out)}
        )
    (folder / "jobs.json").write_text(json.dumps(written))
    script = Path(__file__).with_name("netx_runner.py")
    command = [sys.executable, str(script), str(folder / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    return [dict(np.load(job["out"])) for job in written]


@dataclass(frozen=True)
class Made:
    """A legalized graph and its `.net` file; ``facts`` are those of the manifest."""

    graph: Graph
    facts: Mapping[str, Any]
    path: Path

    def job(self, data: Array, reset: int = 0) -> dict[str, Any]:
        """A run of one sample (steps, *shape), or of several one after the other."""
        options: dict[str, Any] = {}
        if bits := self.facts["input_message_bits"]:
            options["input_message_bits"] = bits
        if reset:
            options |= {"reset_interval": reset, "reset_offset": self.facts["reset_offset"]}
        if ones := self.facts["input_ones"]:
            flat = data.reshape(len(data), -1)
            data = np.hstack([flat, np.ones((len(data), ones), flat.dtype)])
        return {
            "net": self.path, "data": np.moveaxis(data, 0, -1), "options": options, "states": True,
            "steps": len(data) + max(self.facts["layers"].values()),
            "constant": self.facts["input"] == "constant",
        }  # fmt: skip


def made(graph: Graph, folder: Path) -> Made:
    """Emit the package of a legalized graph, and keep its `.net` file."""
    artifact = BACKEND.emit(graph, BACKEND.devices["loihi2"], Plan({}))
    facts = artifact.facts["netx"]
    assert facts["file"], facts["why_not"]
    folder.mkdir(exist_ok=True)
    path = folder / facts["file"]
    path.write_bytes(artifact.files[facts["file"]])
    return Made(graph, facts, path)


def assert_netx_computes(
    nets: Sequence[tuple[Made, Array]], folder: Path, reset: bool | None = None
) -> None:
    """u, v and spikes of every layer in every step, for the first sample of (batch, steps, *shape).

    Args:
        nets: The files and their data.
        folder: For what goes to and from netx.
        reset: Whether to use resets; None: where the facts ask for it.
    """
    jobs = []
    for each, data in nets:
        resets = each.facts["needs_reset"] if reset is None else reset
        jobs.append(each.job(data[0], data.shape[1] + 64 if resets else 0))
    for (each, data), found in zip(nets, run_netx(jobs, folder), strict=True):
        assert_same_states(each, interp.run(each.graph, data[:1]), found, data.shape[1])


def assert_same_states(
    made: Made, want: interp.Trace, found: Mapping[str, Array], steps: int, start: int = 0
) -> None:
    """The first sample of a trace, and what netx did from Lava's step ``start`` on."""
    for index, (name, behind) in enumerate(made.facts["layers"].items()):
        node = made.graph[name]
        assert isinstance(node, Neuron)
        at = slice(start + behind, start + behind + steps)
        # A constant enters past the current.
        for state in "v" if made.facts["input"] == "constant" and not index else "uv":
            theirs = found[f"{index}.{state}"].reshape(-1, found[f"{index}.{state}"].shape[-1])
            ours = want.states[f"{name}.{state}"][0].reshape(steps, -1).T
            theirs = theirs[: len(ours)]  # those that always spike come behind the others
            np.testing.assert_array_equal(theirs[:, at], ours, f"{made.path.name}: {name}.{state}")
    if node.model.sends == "spike":
        theirs = found["out"].reshape(-1, found["out"].shape[-1])
        np.testing.assert_array_equal(theirs[:, at], want.output[0].reshape(steps, -1).T)


# --- random networks ---

DELAYS = ("none", "one", "rows", "columns", "all")
SIGNS = {"mixed": (-128, 128), "excitatory": (0, 128), "inhibitory": (-128, 1)}


@dataclass
class _Draw:
    """A random network that netx has layers for, under construction; all its choices."""

    rng: np.random.Generator
    nodes: list[Node]
    tags: set[str]
    source: str
    shape: Shape
    high: int
    reach: int = 0

    def pick(self, name: str, options: Sequence[Any], p: Sequence[float] | None = None) -> Any:
        chosen = options[self.rng.choice(len(options), p=p)]
        self.tags.add(f"{name} {chosen}")
        return chosen

    def weights(self, shape: Shape, spiking: bool) -> Array:
        signs = self.pick("signs", tuple(SIGNS), (0.7, 0.2, 0.1)) if spiking else "mixed"
        low, high = SIGNS[signs]
        # Sparse ones, and all powers of two as the largest.
        drawn = self.rng.integers(low, high, shape) >> self.rng.integers(0, 6)
        drawn = drawn * (self.rng.random(shape) < self.rng.choice([1.0, 0.3]))
        self.reach = int(2 * np.maximum(drawn, 0).reshape(len(drawn), -1).sum(1).mean())
        return drawn

    def add(self, node: Node) -> str:
        self.nodes.append(node)
        return node.name

    def layer(self, k: int, last: bool) -> None:
        image = len(self.shape) == 3
        reads_out = last and self.pick("ends", ("spikes", "li"), (0.6, 0.4)) == "li"
        if image and self.pick("image", ("conv", "flat"), (0.7, 0.3)) == "conv":
            inputs, shape = self.conv(k, not reads_out), self.shape
        else:
            inputs, shape = self.dense(k, not reads_out)
        if not reads_out and k > 1 and len(shape) == 1 and len(inputs) == 1:
            inputs = (*inputs, *self.back(k, shape))
        self.shape = shape
        self.source = self.neurons(k, inputs, reads_out)
        self.high = 1

    def conv(self, k: int, spiking: bool) -> tuple[str, ...]:
        channels, high, wide = self.shape
        groups = self.pick("groups", [g for g in (1, 2) if channels % g == 0])
        kernel = (
            int(self.rng.integers(1, min(4, high + 1))),
            int(self.rng.integers(1, min(4, wide + 1))),
        )
        stride = (self.pick("stride", (1, 2)), self.pick("stride", (1, 2)))
        padding = tuple(int(self.rng.integers(0, n)) for n in kernel)
        dilation = (1, self.pick("dilation", (1, 2)) if kernel[1] * 2 <= wide else 1)
        outs = groups * int(self.rng.integers(1, 4))
        node = Conv2d(
            name=f"conv{k}", inputs=(self.source,), stride=stride, padding=padding,
            dilation=dilation, groups=groups,
            weight=Param(self.weights((outs, channels // groups, *kernel), spiking), W),
        )  # fmt: skip
        self.shape = (outs, *(
            window(self.shape[1 + i], kernel[i], stride[i], padding[i], dilation[i])
            for i in range(2)
        ))  # fmt: skip
        return (self.add(node),)

    def dense(self, k: int, spiking: bool) -> tuple[tuple[str, ...], Shape]:
        size, outs = int(np.prod(self.shape)), int(self.rng.integers(1, 14))
        if len(self.shape) == 3:
            self.source = self.add(Flatten(name=f"flat{k}", inputs=(self.source,)))
            self.shape = (size,)
        weights = self.weights((outs, size), spiking)
        kind = self.pick(
            "delays", ("none", "one", "rows", "columns", "all"), (0.6, 0.1, 0.1, 0.1, 0.1)
        )
        drawn = self.rng.integers(0, self.rng.choice([3, 63]), weights.shape)
        places = {"none": drawn * 0, "one": drawn[:1, :1], "rows": drawn[:, :1],
                  "columns": drawn[:1], "all": drawn}[kind]  # fmt: skip
        delays = np.broadcast_to(places, weights.shape)
        made = []
        for steps in map(int, np.unique(delays)):
            at = self.source
            if steps:
                at = self.add(Delay(
                    name=f"late{k}_{steps}", inputs=(at,), shape=self.shape, steps=steps,
                    kind="count" if self.high > 1 else "spike", high=self.high,
                ))  # fmt: skip
            part = np.where(delays == steps, weights, 0)
            made.append(self.add(linear(f"fc{k}_{steps}", at, part)))
        return tuple(made), (outs,)

    def back(self, k: int, shape: Shape) -> tuple[str, ...]:
        if self.pick("recurrent", ("no", "yes"), (0.6, 0.4)) == "no":
            return ()
        late = self.add(Delay(name=f"back{k}", inputs=(f"lif{k}",), shape=shape))
        return (self.add(linear(f"rec{k}", late, self.weights((*shape, *shape), True))),)

    def neurons(self, k: int, inputs: tuple[str, ...], reads_out: bool) -> str:
        rng, shape = self.rng, self.shape
        each = shape if self.pick("values", ("alike", "each"), (0.5, 0.5)) == "each" else ()
        if each and len(shape) == 3 and self.pick("each", ("channel", "neuron")) == "channel":
            each = (shape[0], 1, 1)
        values: dict[str, Any] = {
            "decay": rng.integers(2000, 4097, each), "current_decay": rng.integers(0, 4097, each),
            "threshold": rng.integers(0, 1 + self.reach // 3, each),
        }  # fmt: skip
        bias = self.pick("bias", (False, True), (0.7, 0.3))
        if bias:
            values["bias"] = rng.integers(-20, 30, each) * 64
        synapse = self.pick("synapse", ("", "new"))
        node = neuron(
            f"lif{k}", inputs, shape, values, reads_out=reads_out, bias=bias, synapse=synapse
        )
        return self.add(node)


def random_net(seed: int) -> tuple[Graph, Array, set[str]]:
    """A legalized network, (1, steps, *shape) data and its choices; netx may still refuse it."""
    rng = np.random.default_rng((seed, 77))
    draw = _Draw(rng, [], set(), "input", (), 1)
    if draw.pick("input", ("flat", "image")) == "image":
        draw.shape = (2, int(rng.integers(3, 7)), int(rng.integers(3, 8)))
    else:
        draw.shape = (int(rng.integers(1, 20)),)
    draw.high = draw.pick("high", (1, 5), (0.8, 0.2))
    shape, options = draw.shape, {"kind": "count", "high": 5} if draw.high > 1 else {}
    depth = draw.pick("depth", (1, 2, 3))
    for k in range(1, depth + 1):
        draw.layer(k, k == depth)
    graph = net(f"net{seed}", shape, tuple(draw.nodes), **options)
    start = draw.pick("start", ("skewed", "cold"), (0.8, 0.2))
    data = spikes(rng, (1, 24, *shape), 0.4, draw.high)
    return BACKEND.legalize(graph, start=start), data, draw.tags
