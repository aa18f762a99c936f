"""The same network as a `.net` file of lava-dl, where its netx can express it; else why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qspinn.ir import Array, Graph, Shape

from .layers import Layer
from .names import identifier, lava_shape, quoted
from .netx import Net, netx_network
from .netx_values import NetLayer
from .reasons import Reasons
from .words import steps

_SMALL = 1024
"""Arrays up to this size are not compressed."""


@dataclass(frozen=True)
class NetFile:
    """What a package gets: at most one file, facts for the manifest, lines for README.md."""

    files: Mapping[str, bytes]
    facts: Mapping[str, Any]
    rows: tuple[str, ...]
    notes: tuple[str, ...]


def net_file(graph: Graph, found: tuple[Layer, ...]) -> NetFile:
    """The file of a legalized graph; the same bytes each time.

    Args:
        graph: The graph.
        found: Its layers.
    """
    name, reasons = f"{identifier(graph.name)}.net", Reasons()
    net = netx_network(graph, found, reasons)
    if net is None:
        return NetFile({}, {"file": "", "why_not": reasons.found}, (), _refusal(name, reasons))
    facts = _facts(name, net, graph, found)
    row = f"| `{name}` | the same network for lava-dl's netx |"
    return NetFile({name: hdf5(net.layers)}, facts, (row,), _use(name, facts))


def _facts(name: str, net: Net, graph: Graph, found: tuple[Layer, ...]) -> dict[str, Any]:
    first, cold = 0 if net.constant else 1, graph.start == "cold"
    return {
        "file": name,
        "why_not": [],
        "input": "constant" if net.constant else "values" if net.message_bits else "spikes",
        "input_shape": list(_enters(net, graph)),
        "input_ones": net.ones,
        "input_message_bits": net.message_bits,
        "samples": "one run" if net.joint else "a run for each sample",
        "reset_offset": first,
        "needs_reset": net.late,
        "layers": {layer.name: 0 if cold else i + first for i, layer in enumerate(found)},
        "simulator_only": list(net.simulator_only),
    }


def _enters(net: Net, graph: Graph) -> Shape:
    """The shape of what netx takes in: column, row, channel for a convolution, else flat."""
    first = next(layer for layer in net.layers if layer.kind != "input" or layer.neuron)
    shape = graph.input.shape
    if first.kind in ("conv", "input"):
        return lava_shape(shape)
    return (int(np.prod(shape)) + net.ones,)


def _refusal(name: str, reasons: Reasons) -> tuple[str, ...]:
    return (
        f"There is no `{name}` for lava-dl's netx, which cannot build this network:",
        *(f"* {quoted(reason)}" for reason in reasons.found),
    )


def _use(name: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """How to load the file so that it computes the same."""
    bits, offset = facts["input_message_bits"], facts["reset_offset"]
    more = f", input_message_bits={bits}" if bits else ""
    resets, behind = f"`reset_interval=N, reset_offset={offset}`", max(facts["layers"].values())
    notes = [
        f"`{name}`: `netx.hdf5.Network(net_config='{name}'{more})`, output {steps(behind)} behind "
        "the input."
    ]
    if facts["samples"] == "one run":
        notes.append(f"With {resets} samples of N steps follow one another.")
    if facts["needs_reset"]:
        notes.append(
            f"Its biases are right only with {resets}, N no shorter than a sample: otherwise they "
            "act before the first input."
        )
    if ones := facts["input_ones"]:
        last = "the last input spikes" if ones == 1 else f"the last {ones} inputs spike"
        notes.append(f"Behind the inputs of the network, {last} in every step: a bias.")
    if facts["input"] == "constant":
        notes.append(
            "Its input is constant for a sample, `bias_mant` of `in_layer.neuron` set to weight * "
            "value + bias (`in_layer.transform`)."
        )
    if facts["simulator_only"]:
        layers = ", ".join(facts["simulator_only"])
        notes.append(
            f"Convolutions with odd weights of both signs ({quoted(layers)}) are exact in Lava; "
            "a chip has even ones."
        )
    return tuple(notes)


# --- HDF5 ---


def hdf5(layers: tuple[NetLayer, ...]) -> bytes:
    """The layers as a file in memory, without times, in one order."""
    import h5py

    with h5py.File("net", "w", driver="core", backing_store=False, libver="earliest") as file:
        for index, layer in enumerate(layers):
            group = file.create_group(f"layer/{index}")
            _put(group, "type", np.array([layer.kind.encode()], "S10"))
            for name, values in sorted(layer.values.items()):
                _put(group, name, values)
            if layer.neuron is not None:
                # A text of one length: texts of any length leave what memory held before them.
                _put(group, "neuron/type", np.array(b"CUBA"))
                for name, values in sorted(layer.neuron.items()):
                    _put(group, f"neuron/{name}", values)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _put(group: Any, name: str, values: Array) -> None:
    packed = {"compression": "gzip", "shuffle": True} if values.size > _SMALL else {}
    group.create_dataset(name, data=values, track_times=False, **packed)
