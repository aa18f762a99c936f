"""A legalized network as the chain of layers that lava-dl's netx builds, or why it is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from qspinn.fixed import IntArray
from qspinn.ir import Array, Graph, Input, Output, Shape
from qspinn.program import Program
from qspinn.signals import signals

from .lateral import Relay, matrix
from .layers import Layer
from .netx_ones import columns, with_ones
from .netx_values import NetLayer, bias_of, image_of, mantissas, neuron_of, reals, whole, wholes
from .netx_weights import harmless, require_kept, require_small
from .prestart import late_biases
from .reasons import Reasons, Unfit
from .stock import Registers
from .synapses import Form, Kernel, Synapse
from .table import ACTIVATION, MOST_DELAY, UNITY
from .unroll import Sparse
from .words import counted

_MOST_WEIGHTS = 1 << 24


@dataclass(frozen=True, eq=False)
class Net:
    """A file's layers, and what who loads it must know.

    Attributes:
        layers: The layers.
        message_bits: ``input_message_bits`` of netx's Network: 0 for spikes.
        constant: Whether the input enters the first neurons as a constant, ``bias_mant``.
        joint: Whether samples may follow one another: nothing is under way when one ends.
        late: Whether biases must wait for their layers, by resets.
        ones: Inputs behind those of the network that must spike in every step.
        simulator_only: Layers whose weights no chip has: odd ones among both signs.
    """

    layers: tuple[NetLayer, ...]
    message_bits: int
    constant: bool
    joint: bool
    late: bool
    ones: int
    simulator_only: tuple[str, ...]


def netx_network(graph: Graph, found: tuple[Layer, ...], reasons: Reasons) -> Net | None:
    """The layers of a legalized graph as a chain; None, and reasons, where it is none.

    Each layer of netx takes one step, whatever the package makes of the same delays.

    Args:
        graph: The graph.
        found: Its layers, in order.
        reasons: Receives what stands in the way.
    """
    ends = len(graph.of_type(Input)), len(graph.of_type(Output))
    if ends != (1, 1):
        reasons.add(graph.name, Unfit(
            f"has {counted(ends[0], 'input')} and {counted(ends[1], 'output')}; a .net file is "
            "a chain with one of each",
            hint="use the Lava package",
        ))  # fmt: skip
        return None
    skewed = graph.start == "skewed"
    staged = tuple(replace(x, shift=i + 1 if skewed else 0) for i, x in enumerate(found))
    late = late_biases(graph, staged) if skewed else frozenset()
    delayed = any(s.delay for layer in found for s in layer.synapses)
    chain = _Chain(graph)
    for layer in staged:
        with reasons.at(layer.name):
            chain.add(layer)
        with reasons.at(layer.name):
            _require_biases(layer, late, delayed=delayed, skewed=skewed)
    if reasons.found:
        return None
    return Net(
        layers=tuple(chain.made),
        message_bits=chain.message_bits,
        constant=chain.constant,
        joint=skewed and not delayed,
        late=chain.late,
        ones=chain.ones,
        simulator_only=tuple(chain.odd),
    )


def _require_biases(layer: Layer, late: frozenset[str], *, delayed: bool, skewed: bool) -> None:
    if layer.line and (delayed or not skewed):
        raise Unfit(
            "the biases of its synaptic currents are spikes that come before its start, which "
            f"{'a delay' if skewed else 'a cold start'} would carry past its reset",
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
        self.image = image_of(source.shape)
        self.stage = 1 if graph.start == "cold" else 0
        self.made: list[NetLayer] = []
        self.odd: list[str] = []
        self.message_bits, self.constant, self.late = 0, False, False
        self.ones = 0
        if self.image:
            self.made.append(NetLayer("input", {"shape": wholes(self.image)}))

    def add(self, layer: Layer) -> None:
        """Append a layer of neurons.

        Raises:
            Unfit: netx has no such layer, or not here.
        """
        before, self.last = self.last, layer.name
        image, self.image = self.image, image_of(layer.neuron.shape)
        held = _registers(layer)
        forward, back = _sorted(layer, before)
        if (
            self.kind == "current"
            and not (back or layer.line)
            and (entry := _entry(layer, held, forward, image)) is not None
        ):
            self.made, self.constant = [entry], True
        elif not layer.line and (kernel := self._kernel(forward, back, image)) is not None:
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
            "shape": wholes(self.image), "inChannels": whole(kernel.image[0]),
            "outChannels": whole(len(weights)), "kernelSize": wholes(weights.shape[2:]),
            "stride": wholes(kernel.stride), "padding": wholes(kernel.padding),
            "dilation": wholes(kernel.dilation), "groups": whole(kernel.groups),
            "weight": reals(weights),
        }  # fmt: skip
        self._append("conv", layer, held, values)

    def _dense(
        self, layer: Layer, held: Registers, forward: list[Synapse], back: list[Synapse],
        image: Shape | None,
    ) -> None:  # fmt: skip
        self.image = None
        if image is not None:
            self.made.append(NetLayer("flatten", {"shape": wholes((int(np.prod(image)),))}))
        weights, delays = _merged(forward, self.stage)
        if layer.line and not back:  # with recurrence its biases are refused for the delay
            weights = np.hstack([weights, self._ones(layer)])
        values: dict[str, Array] = {
            "shape": wholes((len(weights),)), "inFeatures": whole(weights.shape[1]),
            "outFeatures": whole(len(weights)), "weight": reals(weights),
        }  # fmt: skip
        if delays is not None:
            values["delay"] = delays
        if not back:
            own = _silent_recurrence(layer, weights, delays)
            if own is None:
                self._append("dense", layer, held, values)
                return
            values.pop("delay", None)
            self._append("dense_rec", layer, held, {**values, "weight_rec": reals(own)})
            return
        if delays is not None:
            raise Unfit("is recurrent and its input has delays: netx scales that wrongly")
        own, late = _merged(back, 1)
        if late is not None:
            raise Unfit(
                "reaches itself after more than one step; netx has no delay on such synapses"
            )
        require_kept(weights, own)
        self._append("dense_rec", layer, held, {**values, "weight_rec": reals(own)})

    def _ones(self, layer: Layer) -> IntArray:
        """Weights (out, ones) from neurons or inputs that always spike, which this makes."""
        found = columns(layer.bias)
        if not any(made.neuron for made in self.made):
            if self.made:
                raise Unfit(
                    "the biases of its synaptic currents are inputs beside the others, for which "
                    "an image has no room"
                )
            self.ones = found.shape[1]
        else:
            self.made[-1] = with_ones(self.made[-1], found.shape[1])
        self.late = True
        return found

    def _append(
        self, kind: str, layer: Layer, held: Registers, values: Mapping[str, Array]
    ) -> None:
        shape, image = layer.neuron.shape, kind == "conv"
        bias = bias_of(held, shape, image)
        more = {} if bias is None else {"bias": bias}
        self.made.append(NetLayer(kind, {**values, **more}, neuron_of(held, shape, image)))


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
        return whole(int(lags[used][0]) if used.any() else usual)
    rows, columns = weights.shape
    for axis in (1, 0) if rows != columns else (1,):
        low = np.where(used, lags, lags.max() + 1).min(axis)
        high = np.where(used, lags, -1).max(axis)
        if ((low == high) | (high < 0)).all():
            return wholes(np.where(high < 0, usual, high))
    return wholes(np.where(used, lags, usual))


def _silent_recurrence(layer: Layer, weights: IntArray, delays: IntArray | None) -> IntArray | None:
    """Recurrent weights that make netx keep those of a layer; None: it keeps them as they are.

    Raises:
        Unfit: It does not, and neurons that fire would hear themselves.
    """
    try:
        require_kept(weights)
        return None
    except Unfit as error:
        own = harmless(weights) if never_fires(layer.program) else None
        if own is None or (delays is not None and weights.any()):
            raise Unfit(error.message, hint=error.hint) from error
        return own


def never_fires(program: Program) -> bool:
    """Whether intervals prove that no neuron of a layer ever crosses its threshold."""
    if program.sends == "current":
        return True
    crossed = program.ops[program.output]
    if crossed.kind != "gt":
        return False
    potential, threshold = (program.ops[i].span for i in crossed.args)
    assert potential is not None, "a comparison reads values"
    assert threshold is not None, "a comparison reads values"
    return potential.hi <= threshold.lo


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
    bias = mantissas(held)
    if weight is None or image not in (None, layer.neuron.shape):
        return None
    if (held.du != UNITY - 1).any() or bias is None or np.unique(bias).size > 1:
        return None
    offset = int(bias.reshape(-1)[0])
    if max(layer.bound.hi + offset, -layer.bound.lo - offset) > ACTIVATION:
        return None
    shape = layer.neuron.shape
    values = {"shape": wholes(image or shape), "weight": whole(weight), "bias": whole(offset)}
    return NetLayer("input", values, neuron_of(held, shape, image is not None))


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
