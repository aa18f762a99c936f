"""Emit: a self-contained Lava package that needs lava-nc and numpy, the same bytes each time."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from qspinn import __version__
from qspinn.backend import Artifact
from qspinn.ir import Array, Graph, Output
from qspinn.memory import Device
from qspinn.plan import Plan
from qspinn.render import render

from . import mapreport
from .footprint import layers_of
from .lateral import Relay, relayable
from .layers import Layer
from .mapping import mapped
from .names import quoted
from .net_file import NetFile, net_file
from .process import process_text
from .script import NetworkText, Script
from .synapses import Kernel, Synapse, way
from .unroll import Sparse
from .words import about_ports, files_of

_DATE = (1980, 1, 1, 0, 0, 0)
_COPIED = {
    "run.py": "run.py", "readout.py": "readout.py", "recording.py": "recording.py",
    "lava_compat.py": "lava_compat.py", "stepping.py": "stepping.py",
    "sources/__init__.py": "sources.py", "sinks/__init__.py": "sinks.py",
}  # fmt: skip


@dataclass(frozen=True)
class ReadmeText:
    """README.md as the template prints it."""

    title: str
    version: str
    device: str
    chain: str
    given: str
    sent: str
    classes: str
    ports: tuple[str, ...]
    time: tuple[str, ...]
    rows: tuple[str, ...]
    notes: tuple[str, ...]
    files: tuple[str, ...]


def emit(graph: Graph, device: Device, plan: Plan) -> Artifact:
    """The package of a legalized graph; of the plan, the observed peaks are written into it.

    Raises:
        LegalizeError: The graph was not legalized.
    """
    found = layers_of(graph)
    script, net = Script(graph, found), net_file(graph, found)
    text = script.text()
    mapping = mapped(graph, found, device)
    contents = {
        "network.py": render("loihi/network.py.j2", net=text).encode(),
        "params.npz": npz(script.params),
        "README.md": render("loihi/README.md.j2", doc=_readme(script, text, device, net)).encode(),
        "LICENSE": render("license.j2").encode(),
        "mapping.txt": mapreport.text(mapping, graph.name).encode(),
        **net.files,
    }
    for path, template in _COPIED.items():
        contents[path] = _template(template)
    own = [layer for layer in found if layer.registers is None]
    for layer in own:
        ident = script.idents[layer.name]
        printed = render("loihi/neurons.py.j2", neuron=process_text(layer, ident))
        contents[f"neurons_{ident}/__init__.py"] = printed.encode()
    if own:
        contents["arithmetic.py"] = _template("arithmetic.py")
    facts = {
        **_facts(script, text, plan),
        "netx": dict(net.facts),
        "mapping": mapreport.facts(mapping),
    }
    told = f"{mapreport.summary(mapping)} (mapping.txt)"
    return Artifact("loihi", graph.name, dict(sorted(contents.items())), facts, told)


def _template(name: str) -> bytes:
    return files("qspinn.templates").joinpath("loihi", name).read_bytes()


def npz(arrays: Mapping[str, Array]) -> bytes:
    """A compressed numpy archive without dates, in the order of the names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in sorted(arrays.items()):
            member = io.BytesIO()
            np.save(member, np.ascontiguousarray(_plain(values)), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", _DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getvalue())
    return buffer.getvalue()


def _plain(values: Array) -> Array:
    """32-bit integers, as Lava computes with them; its own shifts overflow in narrower ones."""
    limits = np.iinfo(np.int32)
    fits = limits.min <= values.min(initial=0) and values.max(initial=0) <= limits.max
    return values.astype(np.int32 if fits else np.int64)


# --- what is said about the network ---


def _facts(script: Script, text: NetworkText, plan: Plan) -> dict[str, Any]:
    """The mapping of the graph to Lava, for the manifest."""
    return {
        "start": script.graph.start,
        "samples": "one run" if text.joint else "a run for each sample",
        "set_by_host": [*text.settings],
        "readout": script.graph.output.readout,
        "outputs": {node.name: node.readout for node in script.graph.of_type(Output)},
        "layers": [_layer_facts(script, layer, plan) for layer in script.found],
    }


def _layer_facts(script: Script, layer: Layer, plan: Plan) -> dict[str, Any]:
    bits = sorted({p.bits for s in layer.synapses for p in s.packed})
    return {
        "layer": layer.name,
        "processes": list(script.processes[layer.name]),
        "neurons": _process_of(layer),
        "stock": layer.registers is not None,
        "simulator_only": layer.why,
        "shift": layer.shift,
        "weight_bits": bits,
        "exponents": sorted({p.exponent for s in layer.synapses for p in s.packed}),
        "dropped_bits": max((s.drop for s in layer.synapses), default=0),
        "delays": sorted({s.lag for s in layer.synapses}),
        "parameter_groups": _groups(layer),
        "relays": [s.name for s in layer.synapses if isinstance(s.form, Relay)],
        "activation": [layer.bound.lo, layer.bound.hi],
        "activation_is": "proved" if layer.proved else _unproved(layer),
        "observed_peak": plan.options.get(f"assume.{layer.neuron.path}", ""),
    }


def _unproved(layer: Layer) -> str:
    return "assumed" if layer.registers is not None else "free"


def _process_of(layer: Layer) -> str:
    if layer.registers is None:
        return "own process model"
    return "LIF, never firing" if layer.neuron.model.sends == "current" else "LIF"


def _groups(layer: Layer) -> int:
    """How many different sets of decays and thresholds a layer has."""
    held = layer.registers
    if held is None:
        return 0
    shape = layer.neuron.shape
    columns = [np.broadcast_to(x, shape).reshape(-1) for x in (held.du, held.dv, held.vth)]
    return len(np.unique(np.stack(columns), axis=1).T)


def _readme(script: Script, text: NetworkText, device: Device, net: NetFile) -> ReadmeText:
    given, sent, classes = files_of(script.graph)
    own = [script.idents[layer.name] for layer in script.found if layer.registers is None]
    extra = [
        f"| `neurons_{ident}/` | a process model of its own, simulator only |" for ident in own
    ]
    if own:
        extra.append("| `arithmetic.py` | its roundings |")
    return ReadmeText(
        title=text.title,
        version=__version__,
        device=device.name,
        chain=text.chain,
        given=given,
        sent=sent,
        classes=classes,
        ports=about_ports(script.graph),
        time=text.about,
        rows=tuple(_row(script, layer) for layer in script.found),
        notes=(*_notes(script, text), *net.notes),
        files=(*net.rows, *extra),
    )


def _row(script: Script, layer: Layer) -> str:
    size = int(np.prod(layer.neuron.shape))
    kind = "stock" if layer.registers is not None else "simulator only"
    synapses = ", ".join(_synapse(s) for s in layer.synapses)
    bound = f"{layer.bound} {'proved' if layer.proved else _unproved(layer)}"
    name = script.idents[layer.name]
    return f"| {name} | {size} | {_process_of(layer)} ({kind}) | {synapses} | {bound} |"


def _synapse(synapse: Synapse) -> str:
    if isinstance(synapse.form, Relay):
        _, packed, _ = synapse.packed
        size = f"{packed.bits} bits * 2**{packed.exponent} {packed.mode.lower()}"
        return f"{synapse.form.size} to 1 (GradedVec) to {synapse.form.size}, {size}"
    kind = (
        "Conv"
        if isinstance(synapse.form, Kernel)
        else ("Sparse" if isinstance(synapse.form, Sparse) else "Dense")
    )
    sizes = " + ".join(f"{p.bits} bits * 2**{p.exponent} {p.mode.lower()}" for p in synapse.packed)
    drops = f", {synapse.drop} low bits of the sum dropped" if synapse.drop else ""
    return f"{kind} {sizes}{drops}" + (f" delayed {synapse.lag}" if synapse.lag else "")


def _notes(script: Script, text: NetworkText) -> tuple[str, ...]:
    notes = []
    if text.joint:
        notes.append("All samples run one after the other in one run of Lava, with resets between.")
    else:
        notes.append("Each sample runs in a Lava network of its own.")
    for layer in script.found:
        if layer.registers is None:
            notes.append(
                f"`{script.idents[layer.name]}` runs in the simulator only: {quoted(layer.why)}."
            )
        elif not layer.proved:
            notes.append(
                f"The summed input of `{script.idents[layer.name]}` is assumed to stay within 16 "
                "bits; run.py stops where it does not."
            )
    if text.settings:
        notes.append(
            "The host sets some registers when their layers start: SETTINGS in network.py."
        )
    notes += [
        f"`{script.idents[name]}` reaches every neuron from every other, by a matrix; with one "
        "more step of delay before it a single neuron would pass on how many spiked."
        for name in _matrices(script)
    ]
    if any(layer.line and not layer.shift for layer in script.found):
        notes.append(
            "Biases of synaptic currents are put into the first step by the simulator; on a chip "
            "they would arrive one step later."
        )
    return tuple(notes)


def _matrices(script: Script) -> tuple[str, ...]:
    """Lateral connections written out for want of a step."""
    graph = script.graph
    return tuple(
        synapse.name
        for layer in script.found
        for synapse in layer.synapses
        if not isinstance(synapse.form, Relay)
        and relayable(graph[synapse.name], way(graph, graph[synapse.name]).between, script.known)
    )
