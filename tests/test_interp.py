"""The reference against loops that anyone can read, and against torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from networks import random_network
from qspinn import interp
from qspinn.errors import QspinnError
from qspinn.fixed import Interval, QFormat
from qspinn.ir import (
    Array,
    AvgPool2d,
    Conv1d,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Neuron,
    Node,
    Output,
    Param,
    Scale,
    State,
    SumPool2d,
)
from qspinn.neurons import integrator
from qspinn.signals import Signal, infer

BYTE = QFormat(8)


def applied(node: Node, x: Array, kind: str = "count") -> Array:
    """What a node makes of a batch, checked against the type it promises."""
    signal = Signal(x.shape[1:], kind, Interval(int(min(x.min(), 0)), int(max(x.max(), 1))))
    y = interp.apply(node, x, signal)
    assert y.shape[1:] == infer(node, (signal,)).shape
    return y


def ints(rng: np.random.Generator, *shape: int, low: int = -9) -> Array:
    return rng.integers(low, 10, shape)


# --- connections by loops ---


def conv_by_loops(node: Conv2d, x: Array) -> Array:
    """Every product written out: where each output looks, and what it finds outside."""
    w = node.weight.values
    outs, per_group, ky, kx = w.shape
    (sy, sx), (py, px), (dy, dx) = node.stride, node.padding, node.dilation
    batch, _, height, width = x.shape
    ys = (height + 2 * py - dy * (ky - 1) - 1) // sy + 1
    xs = (width + 2 * px - dx * (kx - 1) - 1) // sx + 1
    y = np.zeros((batch, outs, ys, xs), np.int64)
    for b, o, i, j in itertools.product(range(batch), range(outs), range(ys), range(xs)):
        group = o // (outs // node.groups)
        for c, m, n in itertools.product(range(per_group), range(ky), range(kx)):
            row, column = i * sy + m * dy - py, j * sx + n * dx - px
            if 0 <= row < height and 0 <= column < width:
                y[b, o, i, j] += w[o, c, m, n] * x[b, group * per_group + c, row, column]
    if node.bias is not None:
        y += node.bias.values[:, None, None]
    return y


def conv_cases(rng: np.random.Generator) -> Iterator[tuple[Conv2d, Array]]:
    for stride, padding, dilation, groups in itertools.product(
        ((1, 1), (2, 1)), ((0, 0), (2, 1)), ((1, 1), (1, 2)), (1, 2)
    ):
        weight = Param(ints(rng, 4, 4 // groups, 3, 2), BYTE)
        bias = Param(ints(rng, 4), BYTE) if groups == 1 else None
        node = Conv2d(
            name="c", inputs=("x",), weight=weight, bias=bias, stride=stride, padding=padding,
            dilation=dilation, groups=groups,
        )  # fmt: skip
        yield node, ints(rng, 2, 4, 6, 5, low=0)


def test_conv2d_is_cross_correlation(rng: np.random.Generator) -> None:
    for node, x in conv_cases(rng):
        assert np.array_equal(applied(node, x), conv_by_loops(node, x)), node


def test_conv1d_is_conv2d_of_one_row(rng: np.random.Generator) -> None:
    for node, x in conv_cases(rng):
        w = replace(node.weight, values=node.weight.values[:, :, :1])
        flat = Conv1d(
            name="c", inputs=("x",), weight=replace(w, values=w.values[:, :, 0]), bias=node.bias,
            stride=node.stride[1], padding=node.padding[1], dilation=node.dilation[1],
            groups=node.groups,
        )  # fmt: skip
        row = replace(node, weight=w, stride=(1, node.stride[1]), padding=(0, node.padding[1]))
        want = conv_by_loops(row, x[:, :, :1])[:, :, 0]
        assert np.array_equal(applied(flat, x[:, :, 0]), want)


@pytest.mark.needs("torch")
def test_convolutions_are_torchs(rng: np.random.Generator) -> None:
    import torch
    from torch.nn import functional

    for node, x in conv_cases(rng):
        arguments = [torch.tensor(a) for a in (x, node.weight.values)]
        bias = None if node.bias is None else torch.tensor(node.bias.values)
        want = functional.conv2d(
            *arguments, bias, node.stride, node.padding, node.dilation, node.groups
        )
        assert np.array_equal(applied(node, x), want.numpy())


def test_linear_reads_its_input_flat(rng: np.random.Generator) -> None:
    x, w, b = ints(rng, 3, 2, 2, 3), ints(rng, 5, 12), ints(rng, 5)
    node = Linear(name="l", inputs=("x",), weight=Param(w, BYTE), bias=Param(b, BYTE))
    flat = x.reshape(3, 12)
    want = [[sum(w[o] * flat[s]) + b[o] for o in range(5)] for s in range(3)]
    assert np.array_equal(applied(node, x, "current"), want)


@pytest.mark.parametrize("point", [-2, 0, 3])
def test_a_bias_is_added_at_the_finer_point(rng: np.random.Generator, point: int) -> None:
    """The exact sum, whichever of the two is coarser."""
    x, w, b = ints(rng, 2, 4, low=0), ints(rng, 3, 4), ints(rng, 3)
    node = Linear(
        name="l",
        inputs=("x",),
        weight=Param(w, QFormat(8, 1)),
        bias=Param(b, QFormat(8, 1 + point)),
    )
    signal = Signal((4,), "count", Interval(0, 9))
    out = infer(node, (signal,))
    assert out.frac == 1 + max(point, 0)
    real = interp.apply(node, x, signal) * 2.0**-out.frac
    assert np.array_equal(real, (x @ w.T) / 2 + b * 2.0 ** -(1 + point))


def test_scale_is_one_to_one(rng: np.random.Generator) -> None:
    x = ints(rng, 2, 3, 4)
    for scale in (ints(rng, 3, 4), ints(rng, 3, 1), ints(rng)):
        node = Scale(name="s", inputs=("x",), scale=Param(scale, BYTE))
        assert np.array_equal(applied(node, x, "current"), x * scale)


# --- pools and shapes ---

POOLS = [((2, 2), (2, 2), (0, 0)), ((3, 2), (1, 2), (1, 1)), ((2, 3), (3, 1), (0, 1))]


@pytest.mark.parametrize(("kernel", "stride", "padding"), POOLS)
def test_pools_by_loops(
    rng: np.random.Generator,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> None:
    x = ints(rng, 2, 3, 7, 6, low=0)
    padded = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
    ys, xs = ((padded.shape[2 + i] - kernel[i]) // stride[i] + 1 for i in range(2))
    windows = np.array([
        [padded[:, :, i * stride[0] :, j * stride[1] :][:, :, : kernel[0], : kernel[1]]
         for j in range(xs)] for i in range(ys)
    ]).transpose(2, 3, 0, 1, 4, 5)  # fmt: skip
    options = {"name": "p", "inputs": ("x",), "kernel": kernel, "stride": stride}
    for kind, want in (
        (SumPool2d, windows.sum((-2, -1))),
        (AvgPool2d, windows.mean((-2, -1))),
        (MaxPool2d, windows.max((-2, -1))),
    ):
        assert np.array_equal(applied(kind(**options, padding=padding), x), want)


def test_the_maximum_of_spikes_is_whether_any_arrived(rng: np.random.Generator) -> None:
    x = (rng.random((2, 1, 4, 4)) < 0.3).astype(np.int64)
    node = MaxPool2d(name="m", inputs=("x",), kernel=(2, 2), stride=(2, 2))
    want = [[x[b, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].any() for i in (0, 1) for j in (0, 1)]
            for b in (0, 1)]  # fmt: skip
    assert np.array_equal(applied(node, x, "spike").reshape(2, 4), want)


@pytest.mark.parametrize(
    ("start", "end", "shape"),
    [(0, -1, (24,)), (1, 2, (2, 12)), (0, 1, (6, 4)), (-2, -1, (2, 12)), (1, 1, (2, 3, 4))],
)
def test_flatten_keeps_the_order(start: int, end: int, shape: tuple[int, ...]) -> None:
    x = np.arange(48).reshape(2, 2, 3, 4)
    y = applied(Flatten(name="f", inputs=("x",), start=start, end=end), x)
    assert y.shape[1:] == shape
    assert np.array_equal(y.ravel(), x.ravel())


# --- time ---

WORD = QFormat(32)


def adder(name: str, inputs: tuple[str, ...], start: int = 0) -> Neuron:
    """Three cells that add up their current and send the sum."""
    model = integrator(leak=False)
    state = State(Param(np.array(start), WORD), WORD)
    return Neuron(name=name, inputs=inputs, shape=(3,), model=model, values={}, states={"v": state})


def network(*nodes: Node) -> Graph:
    return Graph("g", (Input(name="in", shape=(3,), kind="count", high=9), *nodes))


def diagonal(name: str, source: str, value: int = 1, frac: int = 0) -> Scale:
    return Scale(name=name, inputs=(source,), scale=Param(np.array(value), QFormat(8, frac)))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_delay_gives_what_was_sent_so_many_steps_ago(
    rng: np.random.Generator, steps: int
) -> None:
    graph = network(
        Delay(name="d", inputs=("in",), shape=(3,), steps=steps, kind="count", high=9),
        Output(name="out", inputs=("d",)),
    )
    data = ints(rng, 2, 12, 3, low=0)
    want = np.concatenate([np.zeros((2, steps, 3), int), data[:, :-steps]], 1)
    assert np.array_equal(interp.run(replace_weights(graph), data).output, want)


def replace_weights(graph: Graph) -> Graph:
    """A graph counts as integer by its parameters: give it one that nobody reads."""
    return replace(graph, nodes=(*graph.nodes, diagonal("idle", "in")))


@pytest.mark.parametrize("steps", [1, 3])
def test_a_cycle_reads_its_own_past(rng: np.random.Generator, steps: int) -> None:
    """x[t] = in[t] - 2 in[t - d - 1] + ... : a recurrence by hand, with nodes out of order."""
    graph = network(
        Delay(name="back", inputs=("fc",), shape=(3,), steps=steps, kind="count", high=10**6),
        diagonal("fc", "in"),
        diagonal("rec", "back", -2),
        adder("n", ("fc", "rec"), start=7),
        Output(name="out", inputs=("n",), readout="membrane_last"),
    )
    data = ints(rng, 2, 10, 3, low=0)
    v, want = np.full((2, 3), 7), []
    for t in range(10):
        v = v + data[:, t] - (2 * data[:, t - steps] if t >= steps else 0)
        want.append(v)
    got = interp.run(graph, data)
    assert np.array_equal(got.output, np.stack(want, 1))
    assert np.array_equal(got.states["n.v"], got.output)


def test_edges_carry_values_within_the_step_in_order(rng: np.random.Generator) -> None:
    """Two layers of adders: the second one sees the first one's sum of the same step."""
    graph = network(
        diagonal("fc1", "in"), adder("n1", ("fc1",)), diagonal("fc2", "n1"), adder("n2", ("fc2",)),
        Output(name="out", inputs=("n2",), readout="membrane_last"),
    )  # fmt: skip
    data = ints(rng, 1, 6, 3, low=0)
    assert np.array_equal(interp.run(graph, data).output, data.cumsum(1).cumsum(1))


def test_currents_of_different_points_add_up_exactly(rng: np.random.Generator) -> None:
    wide = QFormat(32, 3)
    node = replace(
        adder("n", ("coarse", "fine", "middle")), states={"v": State(Param(0, wide), wide)}
    )
    graph = network(
        diagonal("coarse", "in", 3, -2), diagonal("fine", "in", 5, 3), diagonal("middle", "in", -7),
        node, Output(name="out", inputs=("n",), readout="membrane_last"),
    )  # fmt: skip
    data = ints(rng, 2, 4, 3, low=0)
    want = (data * (12 + 5 / 8 - 7)).cumsum(1)
    assert np.array_equal(interp.run(graph, data).output / 8, want)


# --- what a run promises ---


@pytest.mark.parametrize("profile", ["any", "loihi"])
def test_samples_do_not_see_each_other(profile: str) -> None:
    for seed in range(12):
        graph, data = random_network(seed, profile=profile)
        whole = interp.run(graph, data)
        for i in range(len(data)):
            alone = interp.run(graph, data[i : i + 1])
            for name, values in whole.states.items():
                assert np.array_equal(values[i], alone.states[name][0]), (seed, name)
            assert np.array_equal(whole.output[i], alone.output[0]), seed


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    graph, data = random_network(5)
    whole, part = interp.run(graph, data), interp.run(graph, data[:, :3])
    assert all(np.array_equal(v[:, :3], part.states[k]) for k, v in whole.states.items())


def test_states_are_recorded_only_where_asked() -> None:
    graph, data = random_network(5)
    bare = interp.run(graph, data, record=False)
    assert not bare.states
    assert np.array_equal(bare.output, interp.run(graph, data).output)


def test_the_data_are_not_touched() -> None:
    graph, data = random_network(5)
    before = data.copy()
    data.setflags(write=False)
    interp.run(graph, data)
    assert np.array_equal(data, before)


def test_every_integer_type_is_taken() -> None:
    graph = network(diagonal("fc", "in"), adder("n", ("fc",)),
                    Output(name="out", inputs=("n",), readout="membrane_max"))  # fmt: skip
    data = np.full((1, 300, 3), 9)
    want = interp.run(graph, data).output
    for dtype in (np.int8, np.uint8, np.int32, np.uint64):
        assert np.array_equal(interp.run(graph, data.astype(dtype)).output, want)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (np.zeros((2, 5, 4), int), r"input|in: data of shape \(2, 5, 4\) are not \(batch, steps"),
        (np.zeros(3, int), r"data of shape \(3,\) are not"),
        (np.zeros((2, 5, 3)), "an integer graph takes integers, not float64"),
        (np.full((2, 5, 3), 10), r"data run from 10 to 10, outside \[0, 9\]"),
        (np.full((2, 5, 3), -1), r"data run from -1 to -1, outside \[0, 9\]"),
        (np.zeros((2, 0, 3), int), "at least one step"),
    ],
)
def test_data_that_do_not_fit(data: Array, what: str) -> None:
    graph = network(diagonal("fc", "in"), adder("n", ("fc",)),
                    Output(name="out", inputs=("n",), readout="membrane_max"))  # fmt: skip
    with pytest.raises(QspinnError, match=what):
        interp.run(graph, data)


def test_products_are_exact_beyond_what_float64_holds() -> None:
    """Weights near 2**31 and counts near 2**22 make sums above 2**53, whose last bit counts."""
    weight = Param(np.array([[2**31 - 1, 2**31 - 3, -(2**31) + 5]]), QFormat(32, 0))
    node = Linear(name="fc", inputs=("x",), weight=weight)
    x = np.array([[2**22 - 1, 2**22 - 3, 1], [0, 1, 2**22 - 1]])
    signal = Signal((3,), "count", Interval(0, 2**22))
    want = [[sum(int(a) * int(b) for a, b in zip(row, weight.values[0], strict=True))] for row in x]
    assert interp.apply(node, x, signal).tolist() == want
    assert max(abs(v) for (v,) in want) > 2**53
