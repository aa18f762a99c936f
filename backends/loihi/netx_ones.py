"""Biases of synaptic currents in a `.net` file: weights of neurons that spike in every step.

netx puts the bias of a layer into its membranes. Into its currents one comes only as a spike, so
the layer before, or the input, gets neurons more that always fire.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qspinn.fixed import IntArray

from .netx_values import NetLayer, reals, wholes
from .reasons import Unfit
from .table import UNITY

_MOST, _MOST_ONES = 254, 16


def columns(bias: IntArray) -> IntArray:
    """Weights (out, ones) that add up to a bias, each small enough for a synapse.

    Raises:
        Unfit: It takes too many.
    """
    count = -(-int(np.abs(bias).max()) // _MOST)
    if count > _MOST_ONES:
        raise Unfit(
            f"the biases of its synaptic currents reach {int(np.abs(bias).max())} and would take "
            f"{count} neurons that always spike, the limit is {_MOST_ONES}",
            hint="choose a smaller scale",
        )
    found, rest = [], bias.reshape(-1)
    for _ in range(count):
        found.append(np.clip(rest, -_MOST, _MOST))
        rest = rest - found[-1]
    return np.stack(found, axis=1)


def with_ones(layer: NetLayer, count: int) -> NetLayer:
    """A dense layer with so many neurons more, which hear nothing and spike in every step.

    Raises:
        Unfit: The layer is of another kind, or its synapses have delays.
    """
    if layer.kind != "dense" or layer.neuron is None or "delay" in layer.values:
        raise Unfit(
            "the biases of its synaptic currents are spikes of neurons beside those of the layer "
            "before, which only a dense layer without delays and recurrence has room for",
            hint="train it without biases, or with ones of the membrane",
        )
    weights = layer.values["weight"].astype(np.int64)
    size = len(weights)
    bias = layer.values.get("bias", np.zeros(size, np.int64))
    values = {
        **layer.values,
        "shape": wholes((size + count,)),
        "outFeatures": np.array(size + count),
        "weight": reals(np.vstack([weights, np.zeros((count, weights.shape[1]), np.int64)])),
        "bias": np.append(bias, np.ones(count, np.int64)),
    }
    forgets = {"iDecay": UNITY, "vDecay": UNITY, "vThMant": 0}
    own = {
        name: np.append(np.broadcast_to(layer.neuron[name], size), np.full(count, value))
        for name, value in forgets.items()
    }
    return replace(layer, values=values, neuron={**layer.neuron, **own})
