"""Where a tensor's values come from, as far as a graph can say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from qspinn.errors import FrontendError
from qspinn.ir import Shape

INPUT = ":"
"""What the path starts with under which an input is known: no leaf has such a one."""
SAME = {
    "to", "float", "double", "type", "type_as", "cpu", "cuda", "detach", "detach_", "contiguous",
    "clone", "data", "requires_grad_", "alias", "positive", "__pos__",
}  # fmt: skip
"""Functions that leave the values as they are."""
TAKEN = {
    "__bool__", "__float__", "__int__", "__index__", "__array__", "item", "numpy", "tolist",
}  # fmt: skip
"""Functions that turn values into Python's own, which cannot be followed."""
_SUMS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
_SHAPED = {"flatten", "reshape", "view", "squeeze", "unsqueeze", "view_as", "reshape_as", "ravel"}
_GATHERED = {"stack", "cat", "concat", "concatenate"}
_REDUCED = {"sum", "mean"}


@dataclass(frozen=True, order=True, slots=True)
class Origin:
    """A tensor that a leaf sent, or the sample.

    Attributes:
        path: Of the leaf; `INPUT` and its name for an input.
        step: The call; after `since` how many steps ago.
        out: Which of its outputs.
        sliced: Whether a step was cut out of the sample.
        shape: As it was sent.
        shapes: What it was reshaped to.
    """

    path: str
    step: int = 0
    out: int = 0
    sliced: bool = False
    shape: Shape = ()
    shapes: tuple[Shape, ...] = ()

    def since(self, step: int) -> Origin:
        """Counted back from a step; a sample that is not cut into steps is the same in all."""
        whole = self.path.startswith(INPUT) and not self.sliced
        return self if whole else replace(self, step=step - self.step)


@dataclass(frozen=True, slots=True)
class Value:
    """What a tensor holds.

    Attributes:
        origins: Its summands.
        shape: Its shape.
        zero: For a constant, whether it is zero.
        lost: A function that no graph has a node for.
        gathered: Whether the origins stand side by side, as steps of time do in a result.
    """

    origins: tuple[Origin, ...] = ()
    shape: Shape = ()
    zero: bool = False
    lost: str = ""
    gathered: bool = False

    @staticmethod
    def made(
        name: str, args: Any, kwargs: Any, of: Callable[[Any], Value], shape: Shape, place: int
    ) -> Value:
        """What the function ``name`` makes; ``place`` says which of its results."""
        found = [of(t) for t in tensors((args, kwargs))]
        origins = tuple(o for value in found for o in value.origins)
        lost = next((value.lost for value in found if value.lost), "")
        gathered = any(value.gathered for value in found)
        value = Value(origins, shape, lost=lost, gathered=gathered)
        if name in SAME or name in ("view_as", "reshape_as"):  # of the others only type or shape
            value = replace(found[0], shape=shape)
            return _reshape(value, name, found[0].shape) if name not in SAME else value
        if lost:
            return value
        if "out" in kwargs:
            return replace(value, lost=f"{name} with out=")
        if name == "__setitem__":
            return _assigned(value, args, of)
        if name in _GATHERED:
            return replace(value, gathered=True, lost=_joined(name, args, kwargs, found))
        if gathered:
            return _reduced(value, name)
        if name in _SUMS:
            return _sum(value, name, args, kwargs, found)
        if name in _SHAPED and len(found) >= 1:
            return _reshape(value, name, found[0].shape)
        return _cut(value, name, args, kwargs, found[0].shape, place)


def _joined(name: str, args: Any, kwargs: Any, found: list[Value]) -> str:
    """What is lost where tensors are joined along a dimension that their elements lie in, too."""
    if name == "stack" or len(found) < 2:
        return ""
    dim = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else 0))
    if all(value.shape and value.shape[dim] == 1 for value in found):
        return ""
    return f"a {name} along dimension {dim}, which mixes {found[0].shape[dim]} elements with it,"


def _assigned(value: Value, args: Any, of: Callable[[Any], Value]) -> Value:
    """What holds values that were put into a constant's places; other places stay constant."""
    target, put = of(args[0]), [of(t) for t in tensors(args[2:])]
    recorded = all(v.origins for v in put) and bool(put)
    if target.origins and not (target.gathered and recorded):
        return replace(value, lost="an assignment to a part")
    return replace(value, gathered=True)


def _reduced(value: Value, name: str) -> Value:
    """Steps of time that were gathered, as one: what is left has the shape of a step."""
    steps = {_long(o.shapes[-1] if o.shapes else o.shape) for o in value.origins}
    if name in _REDUCED and steps == {_long(value.shape)}:
        return value
    over = " over other dimensions than time" if name in _REDUCED else ""
    return replace(value, lost=name + over)


def _long(shape: Shape) -> Shape:
    """A shape without its dimensions of one."""
    return tuple(n for n in shape if n != 1)


def _sum(value: Value, name: str, args: Any, kwargs: Any, found: list[Value]) -> Value:
    if set(kwargs) - {"other", "input"}:
        return replace(value, lost=f"{name} with {', '.join(kwargs)}")
    if any(v.shape != value.shape for v in found):
        return replace(value, lost="a sum of different shapes")
    if any(not v.origins and not v.zero for v in found):
        return replace(value, lost="a sum with a constant")
    numbers = [a for a in args if isinstance(a, (int, float))]
    return replace(value, lost="a sum with a constant") if any(numbers) else value


def _reshape(value: Value, name: str, before: Shape) -> Value:
    if not before or value.shape[:1] != before[:1]:
        return replace(value, lost=f"{name} across the batch")
    if value.shape == before:
        return value
    origins = tuple(replace(o, shapes=(*o.shapes, value.shape)) for o in value.origins)
    return replace(value, origins=origins)


def _cut(value: Value, name: str, args: Any, kwargs: Any, shape: Shape, place: int) -> Value:
    """One step of the sample."""
    step = _step(name, args, kwargs, shape, place)
    if step is None:
        return replace(value, lost=name.strip("_"))
    if any(not o.path.startswith(INPUT) or o.sliced or o.shapes for o in value.origins):
        return replace(value, lost=f"a part ({name.strip('_')})")
    origins = tuple(replace(o, step=step, sliced=True, shape=value.shape) for o in value.origins)
    return replace(value, origins=origins)


def _step(name: str, args: Any, kwargs: Any, shape: Shape, place: int) -> int | None:
    """Which step a function cuts out along one dimension; None where it does something else."""
    if name in ("unbind", "__iter__"):
        return place
    if name == "select":
        dim, index = (*args[1:], *kwargs.values())[:2]
        return int(index) % int(shape[dim])
    if name == "__getitem__":
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        whole = [i for i in index if i is Ellipsis or i == slice(None)]
        steps = [(d, int(i)) for d, i in enumerate(index) if type(i) is int]
        if len(steps) == 1 and len(whole) == len(index) - 1:
            dim, step = steps[0]
            return step % int(shape[dim - len(index) if Ellipsis in index[:dim] else dim])
    return None


def function_name(function: Any) -> str:
    """The name of a torch function; of an attribute its own, not `__get__`, with = if it is set."""
    name = getattr(function, "__name__", str(function))
    if name in ("__get__", "__set__"):
        equals = "=" if name == "__set__" else ""
        name = getattr(getattr(function, "__self__", None), "__name__", name) + equals
    return str(name)


def overwritten(name: str, args: Any, kwargs: Any) -> list[Any]:
    """The tensors that the function ``name`` changes in place."""
    written = list(tensors(kwargs.get("out")))
    single = name.endswith("_") and not name.endswith("__") and name not in SAME
    operator = name.startswith("__i") and name not in ("__iter__", "__invert__")
    attribute = name.endswith("=") and name not in ("requires_grad=", "grad=")
    if single or operator or attribute or name == "__setitem__" or kwargs.get("inplace") is True:
        written += list(tensors(args[0] if args else kwargs))
    return written


def storage(tensor: Any) -> int:
    """The address of the memory that a tensor shares with its views; 0 where it is empty.

    Raises:
        FrontendError: Its memory cannot be seen, and so not what changes in it.
    """
    try:
        return int(tensor.untyped_storage().data_ptr())
    except (NotImplementedError, RuntimeError) as error:  # torch: sparse, or a subclass without
        raise FrontendError(
            f"changes tensors in place beside one of the layout {tensor.layout}, whose memory "
            "cannot be seen",
            hint="use ordinary (strided) tensors in the pass that is imported",
        ) from error


def tensors(value: Any) -> Iterator[Any]:
    """The tensors in whatever holds them, in order."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors(each)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from tensors(each)
