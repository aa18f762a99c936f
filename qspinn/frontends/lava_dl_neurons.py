"""Neurons of lava-dl as ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qspinn.dynamics import Model
from qspinn.errors import FrontendError
from qspinn.frontends.hdf5 import Value, shown
from qspinn.frontends.lava_dl_file import FileLayer, numbers
from qspinn.ir import Array, Param, Shape, State
from qspinn.neurons import integrator, spiking

UNITY = 4096
"""Decays are fractions of it."""
NEVER = 1 << 17
"""A threshold that no membrane reaches."""
KINDS = ("CUBA", "LOIHI")
_ALONE: Mapping[str, Value] = {
    "type": "CUBA", "iDecay": np.array(0), "vDecay": np.array(UNITY), "vThMant": np.array(NEVER),
}  # fmt: skip
"""What netx takes a layer without neurons for: currents add up and nothing fires."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A layer of neurons without its place in the graph; ``told`` is for people."""

    model: Model
    values: Mapping[str, Param]
    states: Mapping[str, State]
    told: str


def cell(layer: FileLayer, shape: Shape, bias: Array | None, *, direct: bool) -> Cell:
    """The neurons of a layer.

    Args:
        layer: The layer.
        shape: Of its neurons.
        bias: What enters each membrane in each step: one number, or one a channel or neuron.
        direct: Whether the input enters the membrane, past the synaptic current.

    Raises:
        FrontendError: They are of a kind that qspinn has not, or out of range.
    """
    said = _ALONE if layer.neuron is None else layer.neuron
    at = f"{layer.name}.neuron"
    kind = said["type"]
    if kind not in KINDS:
        raise FrontendError(
            f"its neurons are of type {shown(str(kind))}", hint=f"{' and '.join(KINDS)} are read"
        )
    lost = {name: _within(said, name, UNITY, at) for name in ("iDecay", "vDecay")}
    threshold = _within(said, "vThMant", 1 << 30, at)
    never = threshold >= NEVER
    if never.any() and not never.all():
        raise FrontendError("some of its neurons never fire, others do: no model is both", at=at)
    # A current that keeps nothing is the input itself.
    synapse = "" if direct or (lost["iDecay"] == UNITY).all() else "new"
    biased = bias is not None and bool(np.any(bias != 0))
    fires = not never.any()
    if fires:
        model = spiking(synapse=synapse, bias=biased)
    else:
        model = integrator(synapse=synapse, bias=biased)
    values = {"decay": (UNITY - lost["vDecay"]) / UNITY}
    if synapse:
        values["current_decay"] = (UNITY - lost["iDecay"]) / UNITY
    if fires:
        values["threshold"] = threshold.astype(np.float64)
    if biased:
        assert bias is not None, "it is not zero"
        values["bias"] = bias.astype(np.float64)
    params = {name: Param(_spread(value, shape, name)) for name, value in values.items()}
    ordered = {name: params[name] for name in model.params}
    told = (
        f"{model.name}, fires above {_range(threshold)}" if fires else f"{model.name}, never fires"
    )
    return Cell(model, ordered, {name: State() for name in model.states}, told)


def _within(said: Mapping[str, Value], name: str, most: int, at: str) -> Array:
    values = numbers(said, name, at)
    if (values != np.trunc(values)).any() or (values < 0).any() or (values > most).any():
        raise FrontendError(f"{name} is {_range(values)}, must be an integer of 0 to {most}", at=at)
    return values.astype(np.int64)


def _spread(values: Array, shape: Shape, name: str) -> Array:
    """One value, one a channel, or one a neuron, as it broadcasts to ``shape``.

    netx has those of an image by column, row and channel.
    """
    if values.ndim == 3 and values.shape == shape[::-1]:
        values = values.transpose(2, 1, 0)
    flat = values.reshape(-1)
    if flat.size == 1 or (flat == flat[0]).all():
        return np.array(flat[0])
    if flat.size == int(np.prod(shape)):
        return flat.reshape(shape)
    if flat.size == shape[0]:
        return flat.reshape(-1, *[1] * (len(shape) - 1))
    raise FrontendError(f"has {flat.size} values of {name} for neurons of shape {shape}")


def _range(values: Array) -> str:
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
