"""ONNX files (`.onnx`): an artificial network with Relus, converted by balancing thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qspinn.datasets import Dataset
from qspinn.errors import FrontendError, VerifyError
from qspinn.fixed import FloatArray
from qspinn.frontends import onnx_ops, onnx_pools, onnx_quant
from qspinn.frontends.hdf5 import shown
from qspinn.frontends.nir_flatten import safe
from qspinn.frontends.onnx_balance import (
    BALANCES,
    READOUT,
    STARTS,
    Balanced,
    balanced,
    thresholds,
)
from qspinn.frontends.onnx_constants import FOLDED
from qspinn.frontends.onnx_file import FileGraph, read
from qspinn.frontends.onnx_maxima import MAXIMA, counting, neurons_of
from qspinn.frontends.onnx_net import Ann, Passing, Units
from qspinn.frontends.onnx_walk import needed, walk
from qspinn.frontends.report import (
    DEFAULT,
    GIVEN,
    IN_FILE,
    Assumption,
    Imported,
    inferred,
    received,
)
from qspinn.interp import run
from qspinn.ir import READOUTS, Array, MaxPool2d

PERCENTILE = 99.9
STEPS = 32
"""Of a sample, unless --steps says otherwise."""
CALIBRATION_SAMPLES = 256
_TRIED_SAMPLES, _TRIED_STEPS = 32, 32
_MOST_LEVELS = 256

OPERATORS = {**onnx_ops.OPS, **onnx_pools.OPS, **onnx_quant.OPS}
_ELSEWHERE = {"Softmax", "LogSoftmax", "ArgMax", "Sigmoid"}
_RECTIFY = "a spiking neuron stands for a Relu: train with Relu (or ReLU6) instead of {}"
_REMEDIES = {
    **dict.fromkeys(
        ("Sigmoid", "Tanh", "LeakyRelu", "PRelu", "Elu", "Selu", "Gelu", "HardSwish", "HardSigmoid",
         "Softplus", "Mish", "Celu", "Erf", "ThresholdedRelu"),
        _RECTIFY,
    ),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), "{} has gates that no spiking neuron stands for: train "
                                            "a recurrent spiking network and export it as .nir"),
    **dict.fromkeys(("If", "Loop", "Scan"), "{} runs graphs of its own: export a network without"),
    **dict.fromkeys(
        ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"),
        "instead of {} export with QuantizeLinear and DequantizeLinear (QDQ), or as QONNX",
    ),
    "Pad": "give the layer behind {} its padding itself",
    "Softmax": "{} is read at the end of a network only",
    "Concat": "{} of signals is not read: add them up, or use one path",
}  # fmt: skip


def load(
    path: str | Path,
    *,
    data: Dataset | Array | None = None,
    encode: Mapping[str, Any] | None = None,
    percentile: float | None = None,
    balance: str | None = None,
    initial: str | None = None,
    max_pool: str | None = None,
    readout: str | None = None,
    input_kind: str | None = None,
    input_high: int | None = None,
) -> Imported:
    """Read an `.onnx` file as a spiking network.

    Args:
        path: The file.
        data: What thresholds are balanced on: the calibration part of a data set, or samples.
        encode: ``kind`` and ``gain`` of the encoder that will be used, default ``direct`` and 1.
            The file's network, too, is given values times the gain.
        percentile: The threshold of a layer is this percentile of its activations.
        balance: Whether a ``layer`` has one threshold, or each ``channel`` its own.
        initial: Membranes start at ``half`` their threshold or at ``zero``; default what loses
            less on the calibration data.
        max_pool: A maximum over windows is ``exact``, of the counts of spikes so far, which takes
            neurons, or the ``or`` of the spikes of each step, which is more than the maximum.
        readout: ``membrane_last`` or ``membrane_max``.
        input_kind: ``current`` (values enter directly), or ``spike``.
        input_high: The largest count at the input.

    Raises:
        FrontendError: The file cannot be read, holds something that spikes cannot do, or needs
            data.
    """
    _check(percentile, balance=balance, initial=initial, max_pool=max_pool, readout=readout)
    file = read(Path(path))
    _refuse_unknown(file)
    kind = input_kind or "current"
    options = _Options(
        safe(Path(path).stem), percentile or PERCENTILE, balance or BALANCES[0], initial,
        kind, received(kind, input_high), readout or READOUT, max_pool or MAXIMA[0],
    )  # fmt: skip
    try:
        # Extreme numbers overflow here and there; the verifier names the parameter they end in.
        with np.errstate(all="ignore"):
            return _imported(file, data, encode or {}, options)
    except VerifyError as error:
        raise FrontendError(error.message, hint=error.hint, at=error.at or "node") from error


def _imported(
    file: FileGraph, data: Dataset | Array | None, encode: Mapping[str, Any], options: _Options
) -> Imported:
    ann, notes = walk(file, OPERATORS)
    asked = {k: v for k, v in encode.items() if v is not None}
    x = _samples(data, ann, str(asked.get("kind", "direct")), float(asked.get("gain", 1.0)))
    units = thresholds(ann, x, options.percentile, options.balance)
    made, why = options.started(ann, units, x)
    told = [*_told(ann, units, options, 0 if x is None else len(x)), why, *_integers(made)]
    told.append(
        Assumption("readout", options.readout, DEFAULT if options.readout == READOUT else GIVEN)
    )
    meta = {"format": "onnx", "encoder": "direct", "T": _steps(ann)}
    return Imported(made.graph, (*notes, *told), meta, made.plan, ann)


@dataclass(frozen=True)
class _Options:
    """How a conversion is done; see `load`."""

    name: str
    percentile: float
    balance: str
    initial: str | None
    kind: str
    high: int
    readout: str
    maxima: str

    def made(self, ann: Ann, units: Mapping[str, FloatArray], start: str) -> Balanced:
        """The spiking network."""
        return balanced(ann, self.name, units, start=start, kind=self.kind, high=self.high,
                        readout=self.readout, maxima=self.maxima)  # fmt: skip

    def started(
        self, ann: Ann, units: Mapping[str, FloatArray], x: Array | None
    ) -> tuple[Balanced, Assumption]:
        """The spiking network whose membranes start where less is lost, and the reason."""
        if self.initial is not None or x is None or not units:
            start = self.initial or STARTS[0]
            word = GIVEN if self.initial else DEFAULT
            return self.made(ann, units, start), _begins(start, word)
        some = x[:_TRIED_SAMPLES]
        tried = {start: self.made(ann, units, start) for start in STARTS}
        errors = {start: error(ann, made, some) for start, made in tried.items()}
        best = min(STARTS, key=errors.__getitem__)
        other = next(start for start in STARTS if start != best)
        reason = (
            f"after {_TRIED_STEPS} steps scores are off by {errors[best]:.3g} on {len(some)} "
            f"calibration samples, from {other} by {errors[other]:.3g}"
        )
        return tried[best], _begins(best, inferred(reason))


def error(ann: Ann, made: Balanced, x: Array) -> float:
    """By how much the scores of a spiking network are off, the root of the mean square."""
    data = np.repeat(x[:, None], _TRIED_STEPS, axis=1)
    graph = made.graph
    entry = replace(graph.input, kind="current", high=1)  # without the noise of an encoder
    graph = graph.map(lambda node: entry if node.name == entry.name else node)
    state = f"{ann.layers[-1].name}.v"
    last = run(graph, data, record=[state]).states[state][:, -1].reshape(len(x), -1)
    off: FloatArray = last / _TRIED_STEPS - ann(x)
    return float(np.sqrt((off**2).mean()))


def _begins(start: str, source: str) -> Assumption:
    where = "half of the threshold" if start == "half" else "zero"
    return Assumption("membranes start at", where, source)


def _check(percentile: float | None, **words: str | None) -> None:
    if percentile is not None and not 50.0 <= percentile <= 100.0:
        raise FrontendError(f"a percentile of {percentile:g} is not between 50 and 100",
                            at="percentile", hint="99.9 is usual")  # fmt: skip
    able = [name for name in READOUTS if name.startswith("membrane")]
    allowed = {"balance": BALANCES, "initial": STARTS, "max_pool": MAXIMA, "readout": able}
    for name, value in words.items():
        if value is not None and value not in allowed[name]:
            raise FrontendError(f"{value!r} is none of {', '.join(allowed[name])}", at=name)


def _refuse_unknown(file: FileGraph) -> None:
    """Name all operators that are not read at once, with their nodes."""
    ends = set(file.nodes[-1:]) | set(needed(file)[-2:])
    found: dict[str, list[str]] = {}
    for node in needed(file):
        key = f"{node.domain}:{node.op}"
        plain = not node.domain and (node.op in FOLDED or node.op in ("Constant", "Transpose"))
        if key in OPERATORS or plain or (node in ends and node.op in _ELSEWHERE):
            continue
        found.setdefault(f"{node.domain}.{node.op}".strip("."), []).append(node.label)
    if found:
        words = [f"{op} ({_few(labels)})" for op, labels in found.items()]
        helps = dict.fromkeys(_REMEDIES.get(op, "").format(op) for op in found if op in _REMEDIES)
        known = sorted(key.rpartition(":")[2] for key in OPERATORS)
        raise FrontendError(
            f"has operators that are not read: {', '.join(words)}", at=shown(file.output),
            hint="; ".join(helps) or f"read are {', '.join(dict.fromkeys(known))}",
        )  # fmt: skip


def _few(labels: Sequence[str]) -> str:
    rest = f" and {len(labels) - 6} more" if len(labels) > 6 else ""
    return ", ".join(labels[:6]) + rest


def _samples(data: Dataset | Array | None, ann: Ann, kind: str, gain: float) -> FloatArray | None:
    """Calibration samples, as the network takes them: (samples, *shape), times the gain.

    Raises:
        FrontendError: They are no values, or of another shape.
    """
    if data is None:
        return None
    if kind == "none":
        raise FrontendError(
            "takes values, and the encoder none means that the data are spikes", at=ann.input,
            hint="give the values that the network was trained on, with --encode direct or rate",
        )  # fmt: skip
    if isinstance(data, Dataset):
        if data.x is None:
            raise FrontendError("holds events, and the network takes values", at=data.name)
        x = data.samples(data.part("calibrate", CALIBRATION_SAMPLES), ann.shape, encoded=False)
    else:
        x = np.asarray(data)
        if x.ndim < 2 or int(np.prod(x.shape[1:])) != int(np.prod(ann.shape)):
            raise FrontendError(f"calibration data of shape {x.shape} are no samples of "
                                f"{ann.shape}", at=ann.input)  # fmt: skip
        x = x[:CALIBRATION_SAMPLES].reshape(-1, *ann.shape)
    values: FloatArray = x * np.float64(gain)
    if kind != "direct" and len(x) and values.min() < 0:
        raise FrontendError(
            f"receives values down to {values.min():g}, which the encoder {kind} cannot send",
            at=ann.input, hint="--encode direct lets them enter as they are",
        )  # fmt: skip
    if kind != "direct" and len(x) and values.max() > 1:
        raise FrontendError(
            f"receives values up to {values.max():g}, and the encoder {kind} sends at most 1",
            at=ann.input, hint="--gain brings them below, if the network was trained so; "
            "or --encode direct",
        )  # fmt: skip
    return values


def _told(
    ann: Ann, units: Mapping[str, FloatArray], options: _Options, count: int
) -> list[Assumption]:
    told = [Assumption(ann.input, f"{options.kind}s, shape {ann.shape}", DEFAULT)]
    each = " of each channel" if options.balance == "channel" else ""
    for layer in ann.layers:
        if isinstance(layer, Passing) and isinstance(layer.node, MaxPool2d):
            told += _maximum(layer.node, ann, options.maxima)
        if not isinstance(layer, Units) or not layer.rectified:
            continue
        unit = units[layer.name]
        span = f"{unit.min():.4g}" + (f" to {unit.max():.4g}" if unit.max() > unit.min() else "")
        what = f"IF neurons {layer.shape}, reset by subtraction, threshold {span}"
        why = inferred(f"percentile {options.percentile:g} of the activations{each}, "
                       f"{count} calibration samples")  # fmt: skip
        if layer.steps is not None:
            what += f"; its activations have {layer.steps.most} levels, those of T steps T"
            why = IN_FILE
        told.append(Assumption(layer.name, what, why))
    return told


def _maximum(pool: MaxPool2d, ann: Ann, maxima: str) -> list[Assumption]:
    if pool.kernel == (1, 1):
        return []
    source = DEFAULT if maxima == MAXIMA[0] else GIVEN
    if maxima == "or":
        what = "a maximum is whether any spike arrived: units that fire at different times add " \
               "up, to one a step; --max-pool exact loses nothing"  # fmt: skip
        return [Assumption(pool.name, what, source)]
    count = neurons_of(counting(pool, ann.declared[pool.inputs[0]], str))
    what = f"a maximum of the counts of spikes so far, exact in every step, by {count} neurons; " \
           "--max-pool or takes none"  # fmt: skip
    return [Assumption(pool.name, what, source)]


def _integers(made: Balanced) -> list[Assumption]:
    kept = [Assumption(name, f"keeps its integers ({grid.fmt})", IN_FILE)
            for name, grid in made.kept.items()]  # fmt: skip
    lost = [Assumption(name, f"does not keep its integers: {why}", IN_FILE)
            for name, why in made.lost.items()]  # fmt: skip
    return [*kept, *lost]


def _steps(ann: Ann) -> int:
    """As many steps as a quantized network has levels; else the usual number."""
    rectified = [u for u in ann.layers if isinstance(u, Units) and u.rectified]
    levels = [u.steps.most for u in rectified if u.steps is not None]
    if levels and len(levels) == len(rectified) and max(levels) < _MOST_LEVELS:
        return max(levels)
    return STEPS
