"""A legalized network as the chain of layers that lava-dl's netx builds, or why it is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from qspinn.fixed import IntArray
from qspinn.ir import Array, Graph, Shape
from qspinn.signals import signals

from .lateral import Relay, matrix
from .layers import Layer
from .names import is_image, to_lava
from .netx_weights import require_kept, require_small
from .prestart import late_biases
from .reasons import Reasons, Unfit
from .stock import Registers
from .synapses import Form, Kernel, Synapse
from .table import ACTIVATION, INPUT_SHIFT, MANTISSA, MOST_DELAY, NEVER, UNITY
from .unroll import Sparse

_MOST_WEIGHTS = 1 << 24


@dataclass(frozen=True, eq=False)
class NetLayer:
    """One layer of the file: its type, its numbers, and those of its neurons."""

    kind: str
    values: Mapping[str, Array]
    neuron: Mapping[str, Array] | None = None


@dataclass(frozen=True, eq=False)
class Net:
    """A file's layers, and what who loads it must know.

    Attributes:
        layers: The layers.
        message_bits: ``input_message_bits`` of netx's Network: 0 for spikes.
        constant: Whether the input enters the first neurons as a constant, ``bias_mant``.
        joint: Whether samples may follow one another: nothing is under way when one ends.
        late: Whether biases must wait for their layers, by resets.
        simulator_only: Layers whose weights no chip has: odd ones among both signs.
    """

    layers: tuple[NetLayer, ...]
    message_bits: int
    constant: bool
    joint: bool
    late: bool
    simulator_only: tuple[str, ...]


def netx_network(graph: Graph, found: tuple[Layer, ...], reasons: Reasons) -> Net | None:
    """The layers of a legalized graph as a chain; None, and reasons, where it is none.

    Each layer of netx takes one step, whatever the package makes of the same delays.

    Args:
        graph: The graph.
        found: Its layers, in order.
        reasons: Receives what stands in the way.
    """
    skewed = graph.start == "skewed"
    staged = tuple(replace(x, shift=i + 1 if skewed else 0) for i, x in enumerate(found))
    late = late_biases(graph, staged) if skewed else frozenset()
    chain = _Chain(graph)
    for layer in staged:
        with reasons.at(layer.name):
            chain.add(layer)
        with reasons.at(layer.name):
            _require_biases(layer, late)
    if reasons.found:
        return None
    return Net(
        layers=tuple(chain.made),
        message_bits=chain.message_bits,
        constant=chain.constant,
        joint=skewed and not any(s.delay for layer in found for s in layer.synapses),
        late=chain.late,
        simulator_only=tuple(chain.odd),
    )


def _require_biases(layer: Layer, late: frozenset[str]) -> None:
    if layer.line:
        raise Unfit(
            "the bias of its synaptic current is a line that always spikes, which netx has not",
            hint="train it without biases, or with ones of the membrane",
        )
    if layer.name in late:
        raise Unfit("its bias acts before its start, and delays carry those spikes past any reset")


class _Chain:
    """The layers so far, and what the last one sends."""

    def __init__(self, graph: Graph) -> None:
        source = graph.input
        self.last = source.name
        self.kind = signals(graph)[source.name].kind
        self.image = _image(source.shape)
        self.stage = 1 if graph.start == "cold" else 0
        self.made: list[NetLayer] = []
        self.odd: list[str] = []
        self.message_bits, self.constant, self.late = 0, False, False
        if self.image:
            self.made.append(NetLayer("input", {"shape": _ints(self.image)}))

    def add(self, layer: Layer) -> None:
        """Append a layer of neurons.

        Raises:
            Unfit: netx has no such layer, or not here.
        """
        before, self.last = self.last, layer.name
        image, self.image = self.image, _image(layer.neuron.shape)
        held = _registers(layer)
        forward, back = _sorted(layer, before)
        if (
            self.kind == "current"
            and not back
            and (entry := _entry(layer, held, forward, image)) is not None
        ):
            self.made, self.constant = [entry], True
        elif (kernel := self._kernel(forward, back, image)) is not None:
            self._conv(layer, held, kernel)
        else:
            self._dense(layer, held, forward, back, image)
        bits = max((synapse.message_bits for synapse in forward), default=0)
        self.message_bits = self.message_bits if self.constant else max(self.message_bits, bits)
        self.late |= layer.shift > self.constant and bool(held.bias_mant.any())
        self.kind = "spike"

    def _kernel(
        self, forward: list[Synapse], back: list[Synapse], image: Shape | None
    ) -> Kernel | None:
        """The convolution that a layer is; None: it is a matrix."""
        (synapse, *more) = forward
        form = synapse.form
        alone = not more and not back and synapse.delay == self.stage
        return form if alone and isinstance(form, Kernel) and form.image == image else None

    def _conv(self, layer: Layer, held: Registers, kernel: Kernel) -> None:
        weights = kernel.weights
        require_small(weights)
        if weights.min() < 0 < weights.max() and (weights & 1).any():
            self.odd.append(layer.name)
        assert self.image is not None, "a convolution makes an image"
        values = {
            "shape": _ints(self.image), "inChannels": _int(kernel.image[0]),
            "outChannels": _int(len(weights)), "kernelSize": _ints(weights.shape[2:]),
            "stride": _ints(kernel.stride), "padding": _ints(kernel.padding),
            "dilation": _ints(kernel.dilation), "groups": _int(kernel.groups),
            "weight": _reals(weights),
        }  # fmt: skip
        self._append("conv", layer, held, values)

    def _dense(
        self, layer: Layer, held: Registers, forward: list[Synapse], back: list[Synapse],
        image: Shape | None,
    ) -> None:  # fmt: skip
        self.image = None
        if image is not None:
            self.made.append(NetLayer("flatten", {"shape": _ints((int(np.prod(image)),))}))
        weights, delays = _merged(forward, self.stage)
        values: dict[str, Array] = {
            "shape": _ints((len(weights),)), "inFeatures": _int(weights.shape[1]),
            "outFeatures": _int(len(weights)), "weight": _reals(weights),
        }  # fmt: skip
        if delays is not None:
            values["delay"] = delays
        if not back:
            require_kept(weights)
            self._append("dense", layer, held, values)
            return
        if delays is not None:
            raise Unfit("is recurrent and its input has delays: netx scales that wrongly")
        own, late = _merged(back, 1)
        if late is not None:
            raise Unfit(
                "reaches itself after more than one step; netx has no delay on such synapses"
            )
        require_kept(np.hstack([weights, own]))
        self._append("dense_rec", layer, held, {**values, "weight_rec": _reals(own)})

    def _append(
        self, kind: str, layer: Layer, held: Registers, values: Mapping[str, Array]
    ) -> None:
        shape, image = layer.neuron.shape, kind == "conv"
        bias = _bias(held, shape, image)
        more = {} if bias is None else {"bias": bias}
        self.made.append(NetLayer(kind, {**values, **more}, _neuron(held, shape, image)))


# --- synapses ---


def _sorted(layer: Layer, before: str) -> tuple[list[Synapse], list[Synapse]]:
    """The synapses from the layer before, and those from the layer itself."""
    forward = [s for s in layer.synapses if s.source == before]
    back = [s for s in layer.synapses if s.source == layer.name]
    others = sorted({s.source for s in layer.synapses} - {before, layer.name})
    if others:
        raise Unfit(
            f"reads {', '.join(others)}; in netx a layer reads the one before it, and itself"
        )
    if not forward:
        raise Unfit(f"does not read {before}; in netx a layer reads the one before it")
    return forward, back


def _merged(synapses: list[Synapse], stage: int) -> tuple[IntArray, IntArray | None]:
    """All synapses from one source as a matrix (out, in), and delays in one of netx's forms.

    Args:
        synapses: The connections.
        stage: The steps of delay that netx's own step stands for.
    """
    found = sorted({s.delay for s in synapses})
    parts: list[IntArray] = [
        np.sum([_matrix(s) for s in synapses if s.delay == d], axis=0) for d in found
    ]
    total, lags = parts[0], np.full(parts[0].shape, found[0] - stage)
    for delay, weights in zip(found[1:], parts[1:], strict=True):
        if ((total != 0) & (weights != 0)).any():
            raise Unfit("two synapses of different delays join the same two neurons")
        lags = np.where(weights != 0, delay - stage, lags)
        total = total + weights
    if lags.max() > MOST_DELAY:
        raise Unfit(f"has a delay of {lags.max()} steps, netx at most {MOST_DELAY}")
    return total, _delays(total, lags) if lags.any() else None


def _delays(weights: IntArray, lags: IntArray) -> IntArray:
    """One delay, one a row or column, or one a synapse; synapses of weight 0 may have any."""
    used = weights != 0
    usual = int(lags.min())
    if not used.any() or np.unique(lags[used]).size == 1:
        return _int(int(lags[used][0]) if used.any() else usual)
    rows, columns = weights.shape
    for axis in (1, 0) if rows != columns else (1,):
        low = np.where(used, lags, lags.max() + 1).min(axis)
        high = np.where(used, lags, -1).max(axis)
        if ((low == high) | (high < 0)).all():
            return _ints(np.where(high < 0, usual, high))
    return _ints(np.where(used, lags, usual))


def _matrix(synapse: Synapse) -> IntArray:
    """A form written out (out, in)."""
    if synapse.drop:
        raise Unfit(
            f"drops {synapse.drop} low bits of the sum of {synapse.name}; the exponents that netx "
            "finds drop none",
            hint="give its weights as many fraction bits as the summed input has",
        )
    form: Form = synapse.form
    if isinstance(form, Kernel):
        form = form.matrix()
    if isinstance(form, Relay):
        return matrix(form.weights, (form.size,))
    if isinstance(form, Sparse):
        if np.prod(form.shape) > _MOST_WEIGHTS:
            raise Unfit(
                f"as a matrix it has {form.shape[0]} x {form.shape[1]} weights, the limit for a "
                f".net file is {_MOST_WEIGHTS}"
            )
        return form.dense()
    return form


# --- neurons ---


def _registers(layer: Layer) -> Registers:
    held = layer.registers
    if held is None:
        raise Unfit(f"its neurons are none that netx has: {layer.why}")
    if not held.starts_at_rest:
        raise Unfit("its neurons start from other states than zero, which a .net file cannot say")
    return held


def _entry(
    layer: Layer, held: Registers, forward: list[Synapse], image: Shape | None
) -> NetLayer | None:
    """An input layer with neurons, whose values are constant biases; None: it is none."""
    weight = _gain(forward, layer.neuron.shape)
    bias = _mantissas(held)
    if weight is None or image not in (None, layer.neuron.shape):
        return None
    if (held.du != UNITY - 1).any() or bias is None or np.unique(bias).size > 1:
        return None
    offset = int(bias.reshape(-1)[0])
    if max(layer.bound.hi + offset, -layer.bound.lo - offset) > ACTIVATION:
        return None
    shape = layer.neuron.shape
    values = {"shape": _ints(image or shape), "weight": _int(weight), "bias": _int(offset)}
    return NetLayer("input", values, _neuron(held, shape, image is not None))


def _gain(forward: list[Synapse], shape: Shape) -> int | None:
    """The one weight of synapses one to one."""
    if len(forward) != 1 or forward[0].delay:
        return None
    form = forward[0].form
    if isinstance(form, Kernel):
        weights = form.weights
        plain = form.image == shape and weights.shape[1:] == (1, 1, 1)
        same = plain and form.groups == len(weights) == shape[0]
        return int(weights.flat[0]) if same and np.unique(weights).size == 1 else None
    if isinstance(form, Relay) or len(set(form.shape)) != 1:
        return None
    full = form.dense() if isinstance(form, Sparse) else form
    weight = int(full[0, 0])
    return weight if np.array_equal(full, weight * np.eye(len(full))) else None


def _neuron(held: Registers, shape: Shape, image: bool) -> dict[str, Array]:
    """The neurons' numbers as SLAYER writes them."""
    return {
        "iDecay": _laid(held.du + 1, shape, image),
        "vDecay": _laid(held.dv, shape, image),
        "vThMant": _laid(np.minimum(held.vth, NEVER), shape, image),
        "refDelay": _int(1),
        "gradedSpike": np.array(False),
    }


def _bias(held: Registers, shape: Shape, image: bool) -> Array | None:
    """The biases, one a channel or neuron; netx's exponent is 6."""
    if not held.bias_mant.any():
        return None
    mantissas = _mantissas(held)
    if mantissas is None:
        raise Unfit(
            f"its biases are no whole numbers of at most {MANTISSA} in units of weights; netx "
            "knows no finer ones",
            hint="give them the format s13f0 in the plan",
        )
    laid = _laid(mantissas, shape, image)
    if laid.ndim:
        return laid
    return np.full(shape[0] if image else int(np.prod(shape)), laid)


def _mantissas(held: Registers) -> IntArray | None:
    """Biases at the exponent 6; None where they have none."""
    total = held.bias_mant << held.bias_exp
    whole = total >> INPUT_SHIFT
    fits = ((whole << INPUT_SHIFT) == total).all() and (np.abs(whole) <= MANTISSA).all()
    return whole if fits else None


def _laid(values: IntArray, shape: Shape, image: bool) -> IntArray:
    """One number, one a channel, or one a neuron where netx has it: column, row, channel."""
    flat = values.reshape(-1)
    if (flat == flat[0]).all():
        return _int(int(flat[0]))
    full = np.broadcast_to(values, shape)
    channels = full.reshape(shape[0], -1)
    if image and (channels == channels[:, :1]).all():
        return _ints(channels[:, 0])
    return _ints(to_lava(full, shape) if image else full.reshape(-1))


def _image(shape: Shape) -> Shape | None:
    """(channels, rows, columns) of what netx may convolve; None: the signal is flat."""
    if not is_image(shape):
        return None
    return shape if len(shape) == 3 else (shape[0], 1, shape[1])


def _int(value: int) -> IntArray:
    return np.array(value, np.int64)


def _ints(values: Shape | IntArray) -> IntArray:
    return np.array(values, np.int64)


def _reals(values: IntArray) -> Array:
    """Integers as the floats that SLAYER writes."""
    return values.astype(np.float32)
