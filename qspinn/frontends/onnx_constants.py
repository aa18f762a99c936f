"""Arithmetic on constants that exporters leave in a graph, mostly to compute shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from qspinn.errors import FrontendError
from qspinn.frontends.hdf5 import shown
from qspinn.frontends.onnx_file import MAX_ELEMENTS, FileNode, Tensor
from qspinn.frontends.onnx_weights import Constant
from qspinn.ir import Array


def folded(node: FileNode, args: Sequence[Constant]) -> Constant:
    """What an operator makes of constants.

    Raises:
        FrontendError: It is none of those that are read, or its arguments do not fit.
    """
    if node.op == "Transpose":
        axes = node.get("perm", tuple(reversed(range(args[0].values.ndim))))
        with _fitting():
            return args[0].transposed(axes)
    if node.op in ("Identity", "Dropout"):
        return args[0]
    made = FOLDED.get(node.op)
    if made is None:
        raise FrontendError(f"{node.op} of constants is not read", hint="fold it: onnxsim MODEL")
    with _fitting():
        values = np.asarray(made(node, [a.values for a in args]))
    kind = "int64" if values.dtype.kind in "iub" else "float32"
    return Constant(values.astype(np.int64 if kind == "int64" else np.float64), kind)


@contextmanager
def _fitting() -> Iterator[None]:
    """Turn what numpy says of arguments that do not fit into an error of ours."""
    try:
        yield
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise FrontendError(f"its arguments do not fit: {shown(str(error))}") from error


def require_room(size: int) -> None:
    """Refuse to compute a constant of so many elements.

    Raises:
        FrontendError: They are too many.
    """
    if size > MAX_ELEMENTS:
        raise FrontendError(f"makes a constant of {size} numbers, the limit is {MAX_ELEMENTS}")


def _elementwise(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def made(node: FileNode, args: list[Array]) -> Array:
        shape = np.broadcast_shapes(args[0].shape, args[1].shape)
        require_room(int(np.prod([int(s) for s in shape], dtype=object)))
        with np.errstate(all="ignore"):  # the verifier names a number that is not finite
            return function(args[0], args[1])

    return made


def _divided(a: Array, b: Array) -> Array:
    if a.dtype.kind == "i" and b.dtype.kind == "i":
        if not b.all():
            raise FrontendError("divides by zero")
        quotient: Array = a // b
        return quotient
    real: Array = a / b
    return real


def axes_of(node: FileNode, args: Sequence[Array]) -> tuple[int, ...] | None:
    """The axes of an operator: an argument in newer files, an attribute in older ones."""
    if len(args) > 1:
        return tuple(int(a) for a in args[1].reshape(-1))
    found = node.get("axes")
    return None if found is None else tuple(found)


def _unsqueezed(node: FileNode, args: list[Array]) -> Array:
    axes = axes_of(node, args)
    if axes is None or len(axes) > 8:
        raise FrontendError("names no axes, or too many")
    return np.expand_dims(args[0], axes)


def _squeezed(node: FileNode, args: list[Array]) -> Array:
    return np.squeeze(args[0], axes_of(node, args))


def _gathered(node: FileNode, args: list[Array]) -> Array:
    if args[1].size > 4096:
        raise FrontendError(f"gathers {args[1].size} pieces")
    axis = node.get("axis", 0)
    require_room(args[0].size // max(args[0].shape[axis], 1) * args[1].size)
    return np.take(args[0], args[1], axis=axis)


def _joined(node: FileNode, args: list[Array]) -> Array:
    require_room(sum(a.size for a in args))
    return np.concatenate([np.atleast_1d(a) for a in args], axis=node.get("axis", 0))


def _sliced(node: FileNode, args: list[Array]) -> Array:
    if len(args) < 3:
        raise FrontendError("is a slice of an old kind", hint="convert the model to opset 13")
    x, starts, ends = args[:3]
    axes = args[3] if len(args) > 3 else np.arange(len(starts))
    steps = args[4] if len(args) > 4 else np.ones(len(starts), np.int64)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[int(axis)] = slice(int(start), int(end), int(step))
    return x[tuple(index)]


def _reshaped(node: FileNode, args: list[Array]) -> Array:
    shape = [int(s) for s in args[1].reshape(-1)]
    kept = [args[0].shape[i] if s == 0 else s for i, s in enumerate(shape)]
    return args[0].reshape(kept)


def _cast(node: FileNode, args: list[Array]) -> Array:
    whole = node.get("to") in (2, 3, 4, 5, 6, 7, 12, 13)  # TensorProto's integers
    return args[0].astype(np.int64 if whole else np.float64)


def constant_of(node: FileNode) -> Constant:
    """The tensor of a Constant node.

    Raises:
        FrontendError: It holds texts or something sparse.
    """
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        found = node.get(name)
        if isinstance(found, Tensor):
            return Constant(found.values, found.dtype)
        if found is not None:
            values = np.asarray(found)
            whole = values.dtype.kind == "i"
            return Constant(values.astype(np.int64 if whole else np.float64),
                            "int64" if whole else "float32")  # fmt: skip
    raise FrontendError("holds no numbers")


FOLDED: dict[str, Callable[..., Array]] = {
    "Add": _elementwise(np.add), "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply), "Div": _elementwise(_divided),
    "Sqrt": lambda node, args: np.sqrt(args[0]), "Neg": lambda node, args: -args[0],
    "Unsqueeze": _unsqueezed, "Squeeze": _squeezed, "Gather": _gathered, "Concat": _joined,
    "Slice": _sliced, "Reshape": _reshaped, "Cast": _cast,
    "Flatten": lambda node, args: args[0].reshape(
        int(np.prod(args[0].shape[: node.get("axis", 1)])), -1
    ),
}  # fmt: skip
