"""A Flatten between a connection and its neurons goes behind them, where it carries spikes.

Neurons are elementwise, so the two commute: what each neuron has of its own is reshaped.
"""

from __future__ import annotations

from dataclasses import replace

from qspinn.frontends.live.build import Build, Wire
from qspinn.frontends.nir_neurons import Cell
from qspinn.ir import Array, Flatten, Neuron, Node, Param, Shape, State
from qspinn.signals import infer


def behind(build: Build, ends: list[Wire]) -> list[Wire]:
    """Move what can be moved exactly; returns the network's outputs, which may be Flattens now.

    All currents of the neurons must be flattened alike, and the neurons send spikes: targets
    flatten nothing else.
    """
    membranes = (build.choices.readout or "").startswith("membrane")
    read = {wire.node for wire in ends} if membranes else set()
    for name in list(build.nodes):
        node = build.nodes[name]
        if name in read:
            continue
        flats = [build.nodes[source] for source in node.inputs]
        if (
            not isinstance(node, Neuron)
            or node.model.sends == "current"
            or not _alike(build, flats)
        ):
            continue
        flat = _moved(build, node, [flat for flat in flats if isinstance(flat, Flatten)])
        ends = [replace(flat, votes=w.votes) if w.node == name else w for w in ends]
    return ends


def _alike(build: Build, flats: list[Node]) -> bool:
    if not all(isinstance(f, Flatten) and _graded(build, f) for f in flats):
        return False
    shapes = {build.wires[flat.inputs[0]].shape for flat in flats}
    ends = {(f.start, f.end) for f in flats if isinstance(f, Flatten)}
    return bool(flats) and len(shapes) == len(ends) == 1


def _graded(build: Build, flat: Node) -> bool:
    return build.wires[flat.name].signal.kind == "current"


def _moved(build: Build, node: Neuron, flats: list[Flatten]) -> Wire:
    shape, first = build.wires[flats[0].inputs[0]].shape, flats[0]
    inner = replace(
        node, inputs=tuple(flat.inputs[0] for flat in flats), shape=shape,
        values={name: _param(p, shape) for name, p in node.values.items()},
        states={name: State(_param(s.init, shape)) for name, s in node.states.items()},
    )  # fmt: skip
    build.cells[node.name] = _cell(build.cells[node.name], shape)
    sent = infer(inner, tuple(build.wires[source].signal for source in inner.inputs))
    flat = build.name(f"{build.paths.get(first.name, first.name)}.spikes")
    after = Flatten(name=flat, inputs=(node.name,), start=first.start, end=first.end)
    factor = build.wires[node.name].factor
    build.wires[node.name] = Wire(node.name, sent, factor)
    build.wires[flat] = Wire(flat, infer(after, (sent,)), factor)
    build.nodes = _rewired(build.nodes, inner, after)
    build.note(flat, "moved behind its neurons, which are elementwise")
    return build.wires[flat]


def _rewired(nodes: dict[str, Node], inner: Neuron, behind: Flatten) -> dict[str, Node]:
    """The graph with the moved pair in the neurons' place; who read them reads the Flatten."""
    found: dict[str, Node] = {}
    for name, node in nodes.items():
        if name == inner.name:
            found |= {name: inner, behind.name: behind}
            continue
        inputs = tuple(behind.name if source == inner.name else source for source in node.inputs)
        found[name] = replace(node, inputs=inputs) if inputs != node.inputs else node
    return found


def _param(param: Param, shape: Shape) -> Param:
    return replace(param, values=_values(param.values, shape))


def _values(values: Array, shape: Shape) -> Array:
    return values.reshape(shape) if values.size > 1 else values


def _cell(cell: Cell, shape: Shape) -> Cell:
    values = {name: _values(value, shape) for name, value in cell.values.items()}
    return replace(
        cell, values=values, gain=_values(cell.gain, shape), start=_values(cell.start, shape)
    )
