"""One run of a forward pass, watched: which leaf was called with what."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from qspinn.errors import FrontendError
from qspinn.frontends.live.modules import STEPWISE, label, leaves
from qspinn.frontends.live.state import untouched
from qspinn.frontends.live.values import (
    INPUT,
    SAME,
    TAKEN,
    Origin,
    Value,
    function_name,
    overwritten,
    storage,
    tensors,
)

STEPS = 4
"""How often a module is called that takes one step a call."""


@dataclass
class Call:
    """One call of a leaf.

    Attributes:
        step: How often it was called before.
        value: What it read.
        states: Where its further arguments came from.
    """

    path: str
    step: int
    value: Value
    states: list[Value]


@dataclass
class Watch:
    """One run under way.

    Attributes:
        known: id of a tensor -> where its values come from.
        alive: Keeps the ids from being used again.
        written: Memory that was changed in place -> the function that did it.
        calls: Of leaves, in order.
        inside: How deep in leaves the run is; what they do is their own matter.
    """

    known: dict[int, Value] = field(default_factory=dict)
    alive: list[Any] = field(default_factory=list)
    written: dict[int, str] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    inside: int = 0

    def of(self, tensor: Any) -> Value:
        """Where a tensor comes from; one that nothing made is a constant."""
        found = self.known.get(id(tensor))
        if found is None:
            lost = self.written.get(storage(tensor), "") if self.written else ""
            if lost:
                return Value(shape=tuple(tensor.shape), lost=lost)
            return Value(shape=tuple(tensor.shape), zero=not bool(tensor.detach().any()))
        return replace(found, shape=tuple(tensor.shape))

    def learn(self, tensor: Any, value: Value) -> None:
        """Remember it."""
        self.known[id(tensor)] = value
        self.alive.append(tensor)

    def result(self, function: Any, args: Sequence[Any], kwargs: Any, out: Any) -> None:
        """Derive what a torch function made."""
        sources = [self.of(t) for t in tensors((args, kwargs)) if id(t) in self.known]
        if not sources:
            return
        name = function_name(function)
        if name in TAKEN:
            origins = listed([o.path for value in sources for o in value.origins])
            raise FrontendError(
                f"its forward pass takes values out of tensors ({name.strip('_')} of {origins}); "
                "what it does with them cannot be seen",
                hint="leave decisions and records out of the pass that is imported",
            )
        if name == "__setitem__":
            out = args[0]
        made = []
        for place, tensor in enumerate(tensors(out)):
            given = any(tensor is t for t in tensors((args, kwargs))) and id(tensor) in self.known
            if not (given and name in SAME):
                made.append((tensor, self._derived(name, args, kwargs, tensor, place)))
        self._overwrite(name, args, kwargs)
        for tensor, value in made:
            self.learn(tensor, value)

    def _derived(self, name: str, args: Any, kwargs: Any, out: Any, place: int) -> Value:
        value = Value.made(name, args, kwargs, self.of, tuple(out.shape), place)
        if name in SAME and not out.is_floating_point():
            source = next(tensors((args, kwargs)))
            if source.is_floating_point():
                return replace(value, lost="a cast to integers")
        return value

    def _overwrite(self, name: str, args: Any, kwargs: Any) -> None:
        """Give up what shares memory with a tensor that a function changes in place."""
        places = {storage(t) for t in overwritten(name, args, kwargs)} - {0}
        if not places:
            return
        lost = f"an in-place {name.strip('_=')}"
        self.written.update(dict.fromkeys(places, lost))
        for tensor in self.alive:
            if storage(tensor) in places:
                self.known[id(tensor)] = replace(self.known[id(tensor)], lost=lost)


def leaves_of(module: Any) -> Iterator[tuple[str, Any]]:
    """Leaves anywhere below a module, shared ones once.

    A container that takes a time axis apart, and runs no code but a framework's, is one as well.
    """
    seen: set[int] = set()
    for path, each in leaves(module, whole=STEPWISE):
        if id(each) not in seen:
            seen.add(id(each))
            yield path, each


Samples = Mapping[str, Any]
"""What each input receives: of several by the names of the forward pass, of one by no name."""


def run(module: Any, samples: Samples, lead: int) -> tuple[Watch, Any]:
    """One run; several where a call is one step, to see what comes back from one to the next."""
    watch, returned = _calls(module, samples, 1)
    inputs = [o for call in watch.calls for o in call.value.origins if o.path.startswith(INPUT)]
    if lead == 1 and watch.calls and all(call.step == 0 for call in watch.calls):
        if any(o.sliced for o in inputs):
            raise FrontendError(
                f"sample_input of shape {_shapes(samples)} has one step of time",
                at=label("", module),
                hint="give one of three steps or more: what comes back is seen in them",
            )
        watch, returned = _calls(module, samples, STEPS)
    return watch, returned


def _shapes(samples: Samples) -> str:
    return " and ".join(str(tuple(sample.shape)) for sample in samples.values())


def _calls(module: Any, samples: Samples, steps: int) -> tuple[Watch, Any]:
    """Call a module ``steps`` times, with the state that it returns where it takes one."""
    import torch

    watch, returned = Watch(), None
    state: list[Any] = []
    stateful = len(names_of(module)) > len(samples)
    with untouched(module), _hooks(module, watch), torch.no_grad():
        module.eval()
        for step in range(steps):
            probes = {name: sample.detach().clone() for name, sample in samples.items()}
            for name, probe in probes.items():
                shape = tuple(probe.shape)
                origin = Origin(f"{INPUT}{name}", step, 0, steps > 1, shape)
                watch.learn(probe, Value((origin,), shape))
            named = probes if len(probes) > 1 else {}
            with _mode(watch):
                try:
                    returned = module(*(() if named else probes.values()), *state, **named)
                except FrontendError:
                    raise
                except Exception as error:
                    raise FrontendError(
                        f"its forward pass fails on sample_input: {type(error).__name__}: {error}",
                        at=label("", module),
                        hint=f"sample_input has shape {_shapes(samples)} and type {probe.dtype}",
                    ) from error
            if stateful and isinstance(returned, tuple) and len(returned) > 1:  # and its state
                returned, *state = returned
    return watch, returned


def names_of(module: Any) -> list[str]:
    """The names of what its forward pass takes, where it says them."""
    try:
        names = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in names if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _mode(watch: Watch) -> Any:
    from torch.overrides import TorchFunctionMode

    class Mode(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            if not watch.inside:
                if hasattr(out, "__next__"):  # `for step in data`
                    parts = list(out)
                    watch.result(func, args, kwargs or {}, parts)
                    return iter(parts)
                watch.result(func, args, kwargs or {}, out)
            return out

    return Mode()


@contextmanager
def _hooks(module: Any, watch: Watch) -> Iterator[None]:
    """Tell the watch of every call of a leaf."""
    handles = []
    for path, each in leaves_of(module):

        def before(_: Any, args: Any, kwargs: Any, path: str = path) -> None:
            watch.inside += 1
            if watch.inside == 1:
                found = [watch.of(t) for t in tensors((args, kwargs))]
                if not found:
                    raise FrontendError("is called without a tensor", at=f"net.{path}")
                step = sum(call.path == path for call in watch.calls)
                watch.calls.append(Call(path, step, found[0], found[1:]))

        def after(_: Any, args: Any, kwargs: Any, out: Any, path: str = path) -> None:
            watch.inside -= 1
            if watch.inside == 0:
                step = watch.calls[-1].step
                seen: set[int] = set()
                for place, tensor in enumerate(tensors(out)):
                    shape = tuple(tensor.shape)
                    if id(tensor) in seen:  # a state that is also what it sends
                        continue
                    seen.add(id(tensor))
                    watch.learn(tensor, Value((Origin(path, step, place, shape=shape),), shape))

        handles.append(each.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(each.register_forward_hook(after, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def listed(paths: Sequence[str]) -> str:
    """Paths of modules as a sentence has them, each once."""
    return ", ".join(dict.fromkeys(map(_shown, paths))) or "none"


def _shown(path: str) -> str:
    return f"the input {path[1:]}".rstrip() if path.startswith(INPUT) else path
