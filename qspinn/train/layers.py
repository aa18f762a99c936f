"""Layers of neurons over many steps, and what leads to them, on tensors of whole numbers.

Edges are (steps, samples, *shape). What a connection or a pool makes is exact: its type holds
every partial sum; for convolutions see `_Convolved`. Imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from qspinn.ir import (
    Conv1d,
    Conv2d,
    Flatten,
    Lateral,
    Linear,
    MaxPool2d,
    Node,
    Pair,
    Param,
    Scale,
    Shape,
    SumPool2d,
)
from qspinn.signals import Signal
from qspinn.train.lists import Gradients, List, Tensor, Tensors, evaluated, needed

torch: Any = import_module("torch")
functional: Any = import_module("torch.nn.functional")


@dataclass(frozen=True, eq=False)
class Run:
    """What a layer of neurons did.

    Attributes:
        sent: In every step.
        states: After the last step.
        kept: After every step, the states that were asked for.
    """

    sent: Tensor
    states: Tensors
    kept: Tensors


def advance(
    what: List, current: Tensor, states: Tensors, params: Tensors, first: int,
    keep: tuple[str, ...] = (),
) -> Run:  # fmt: skip
    """Step through a block; its steps are counted from ``first``."""
    names = tuple(states)
    flat = torch_steps(
        what, first, names, keep, current, *states.values(), *params.values(),
        params=tuple(params),
    )  # fmt: skip
    after = dict(zip(names, flat[1:], strict=False))
    return Run(flat[0], after, dict(zip(keep, flat[1 + len(names) :], strict=True)))


def torch_steps(
    what: List, first: int, names: tuple[str, ...], keep: tuple[str, ...], *tensors: Tensor,
    params: tuple[str, ...],
) -> tuple[Tensor, ...]:  # fmt: skip
    """`_Steps` applied; a function so that its arguments have names."""
    made: tuple[Tensor, ...] = _Steps.apply(what, first, names, keep, params, *tensors)
    return made


class _Steps(torch.autograd.Function):
    """All steps of a block: forward through the list, backward through it the other way.

    Only the states between the steps are kept; backward computes each step again.
    """

    @staticmethod
    def forward(
        ctx: Any, what: List, first: int, names: tuple[str, ...], keep: tuple[str, ...],
        params: tuple[str, ...], current: Tensor, *rest: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """What is sent, the last states, and the states that are kept in every step."""
        full = current.shape[1:]
        states = dict(zip(names, rest, strict=False))
        fixed = dict(zip(params, rest[len(names) :], strict=True))
        before, sent = [], []
        kept: dict[str, list[Tensor]] = {name: [] for name in keep}
        for t in range(current.shape[0]):
            before.append(tuple(states.values()))
            values = evaluated(what, {**states, **fixed, "a": current[t]}, first + t)
            states = {name: values[what.finals[name]].expand(full) for name in names}
            sent.append(values[what.output].to(what.kind).expand(full))
            for name in keep:
                kept[name].append(states[name])
        ctx.what, ctx.first, ctx.names, ctx.keep, ctx.params = what, first, names, keep, params
        ctx.before, ctx.fixed = before, fixed
        ctx.save_for_backward(current)
        return torch.stack(sent), *states.values(), *(torch.stack(kept[name]) for name in keep)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the current, the first states and the parameters."""
        what, names, (current,) = ctx.what, ctx.names, ctx.saved_tensors
        asked = ctx.needs_input_grad[6 + len(names) :]
        wanted = frozenset(name for name, on in zip(ctx.params, asked, strict=True) if on)
        need = needed(what.ops, wanted)
        late = dict(zip(names, given[1:], strict=False))
        kept = dict(zip(ctx.keep, given[1 + len(names) :], strict=True))
        total: dict[str, Tensor] = {}
        entered: list[Tensor] = []
        for t in reversed(range(current.shape[0])):
            leaves = {**dict(zip(names, ctx.before[t], strict=True)), **ctx.fixed, "a": current[t]}
            found = Gradients(what, evaluated(what, leaves, ctx.first + t), need)
            found.add(what.output, given[0][t])
            for name in names:
                found.add(what.finals[name], late.get(name))
                found.add(what.finals[name], kept[name][t] if name in kept else None)
            pulled = found.leaves()
            late = {name: pulled[name] for name in names if name in pulled}
            entered.append(pulled.get("a", torch.zeros_like(current[t])))
            for name in wanted & pulled.keys():
                total[name] = total[name] + pulled[name] if name in total else pulled[name]
        starts = [late.get(name) for name in names]
        sums = [
            total[name].sum_to_size(ctx.fixed[name].shape) if name in total else None
            for name in ctx.params
        ]
        return None, None, None, None, None, torch.stack(entered[::-1]), *starts, *sums


def connected(node: Node, x: Tensor, params: Tensors, signal: Signal, kind: Any) -> Tensor:
    """What a node without state makes of an edge whose type is ``signal``.

    Args:
        node: A connection, a pool or a flattening.
        x: (steps, samples, *shape).
        params: The node's, as tensors.
        signal: Of ``x``.
        kind: A type that holds every partial sum.
    """
    rows = x.reshape(-1, *x.shape[2:])
    y = _MADE[type(node)](node, rows.to(kind), {k: p.to(kind) for k, p in params.items()}, signal)
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _biased(y: Tensor, node: Linear | Conv1d | Conv2d, params: Tensors, signal: Signal) -> Tensor:
    """See `interp`: the bias is added at the finer of the two binary points."""
    if "bias" not in params:
        return y
    b = params["bias"].reshape(-1, *([1] * (y.ndim - 2)))
    move = _move(node.weight, node.bias, signal)
    return y * 2.0 ** max(move, 0) + b * 2.0 ** max(-move, 0)


def _move(weight: Param, bias: Param | None, signal: Signal) -> int:
    if bias is None or bias.fmt is None or weight.fmt is None:
        return 0
    return bias.fmt.frac - (weight.fmt.frac + signal.frac)


def _linear(node: Linear, x: Tensor, params: Tensors, signal: Signal) -> Tensor:
    return _biased(x.flatten(1) @ params["weight"].T, node, params, signal)


def _scale(node: Scale, x: Tensor, params: Tensors, signal: Signal) -> Tensor:
    return x * params["scale"]


def _lateral(node: Lateral, x: Tensor, params: Tensors, signal: Signal) -> Tensor:
    return (x.sum(tuple(range(1, x.ndim)), keepdim=True) - x) * params["weight"]


def _convolution(node: Conv1d | Conv2d, x: Tensor, params: Tensors, signal: Signal) -> Tensor:
    w, flat = params["weight"], isinstance(node, Conv1d)
    if isinstance(node, Conv1d):
        x, w = x[:, :, None], w[:, :, None]
        stride, padding, dilation = (1, node.stride), (0, node.padding), (1, node.dilation)
    else:
        stride, padding, dilation = node.stride, node.padding, node.dilation
    window = (stride, padding, dilation, node.groups)
    if node.weight.fmt is None:
        y = functional.conv2d(x, w, None, *window)
    else:
        assert signal.interval is not None, "the graph is integer"
        y = _convolved(x, w, window, max(abs(signal.interval.lo), abs(signal.interval.hi)))
    return _biased(y[:, :, 0] if flat else y, node, params, signal)


Window = tuple[Pair, Pair, Pair, int]
"""Stride, padding, dilation and groups."""


def _convolved(x: Tensor, w: Tensor, window: Window, high: int) -> Tensor:
    """`_Convolved` applied."""
    made: Tensor = _Convolved.apply(x, w, window, high)
    return made


class _Convolved(torch.autograd.Function):
    """The exact convolution of whole numbers that are at most ``high`` in magnitude.

    A library may choose an algorithm that rounds (Winograd's, Fourier's). Where sums are small,
    what it loses is far less than a half, and rounding its result gives the sum; where they are
    not, the windows are gathered and multiplied. The gradients need not be exact.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, window: Window, high: int) -> Tensor:
        """The sums."""
        ctx.save_for_backward(x, w)
        ctx.window = window
        most = float(w.abs().flatten(1).sum(1).max()) * high
        if most >= _ROUNDED:
            return _gathered(x, w, window)
        with _plain_algorithms():
            # Channels last is what makes this fast.
            packed = x.contiguous(memory_format=torch.channels_last)
            return functional.conv2d(packed, w, None, *window).round_()

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of ``x`` and ``w``."""
        x, w = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.window
        with _plain_algorithms():
            into = torch.ops.aten.convolution_backward(
                given, x, w, None, stride, padding, dilation, False, (0, 0), groups,
                (*ctx.needs_input_grad[:2], False),
            )  # fmt: skip
        return into[0], into[1], None, None


_ROUNDED = 1 << 11
"""Sums below it survive a relative error of 2^-13; float32 itself is good to 2^-24."""


@contextmanager
def _plain_algorithms() -> Iterator[None]:
    """Without NNPACK, whose Winograd tiles are the coarsest; the same algorithm in every run."""
    with (
        torch.backends.nnpack.flags(enabled=False),
        torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled, deterministic=True, allow_tf32=False
        ),
    ):
        yield


def _gathered(x: Tensor, w: Tensor, window: Window) -> Tensor:
    stride, padding, dilation, groups = window
    kernel = (w.shape[2], w.shape[3])
    places: Shape = tuple(
        (x.shape[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i in range(2)
    )
    gathered = functional.unfold(x, kernel, dilation, padding, stride)
    gathered = gathered.reshape(x.shape[0], groups, -1, gathered.shape[2])
    blocks = w.reshape(groups, w.shape[0] // groups, -1)
    y = torch.matmul(blocks, gathered)
    return y.reshape(x.shape[0], w.shape[0], *places)


def _sum_pool(node: SumPool2d, x: Tensor, params: Tensors, signal: Signal) -> Tensor:
    return functional.avg_pool2d(x, node.kernel, node.stride, node.padding, divisor_override=1)


def _max_pool(node: MaxPool2d, x: Tensor, params: Tensors, signal: Signal) -> Tensor:
    # Every window holds a spike or a count, and none is negative: the padding never wins.
    return functional.max_pool2d(x, node.kernel, node.stride, node.padding)


def _flatten(node: Flatten, x: Tensor, params: Tensors, signal: Signal) -> Tensor:
    rank = len(signal.shape)
    return x.flatten(1 + node.start % rank, 1 + node.end % rank)


_MADE: Mapping[type[Node], Callable[..., Tensor]] = {
    Linear: _linear,
    Scale: _scale,
    Lateral: _lateral,
    Conv1d: _convolution,
    Conv2d: _convolution,
    SumPool2d: _sum_pool,
    MaxPool2d: _max_pool,
    Flatten: _flatten,
}
