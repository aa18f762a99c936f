"""What flows where in a forward pass of the user's own: it is run once, and watched.

Modules of the frameworks are leaves; between them only sums, reshapings and slices of time are
allowed, for anything else would be a part of the network that the graph has not. A pass over time
calls each module once a step; what it reads must come from the same places in every step.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from qspinn.errors import FrontendError
from qspinn.frontends.live.build import Build, Wire
from qspinn.frontends.live.layers import flattened
from qspinn.frontends.live.modules import STEPWISE, kind, label, leaves
from qspinn.frontends.live.state import untouched
from qspinn.frontends.live.values import SAME, TAKEN, Origin, Value, function_name, tensors
from qspinn.frontends.live.walk import follow, leaf

INPUT = ""
"""The path under which the sample is known: no leaf has it, for the root is none."""
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
        calls: Of leaves, in order.
        inside: How deep in leaves the run is; what they do is their own matter.
    """

    known: dict[int, Value] = field(default_factory=dict)
    alive: list[Any] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    inside: int = 0

    def of(self, tensor: Any) -> Value:
        """Where a tensor comes from; one that nothing made is a constant."""
        found = self.known.get(id(tensor))
        if found is None:
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
            origins = _listed([o.path for value in sources for o in value.origins])
            raise FrontendError(
                f"its forward pass takes values out of tensors ({name.strip('_')} of {origins}); "
                "what it does with them cannot be seen",
                hint="leave decisions and records out of the pass that is imported",
            )
        if name == "__setitem__":
            out = args[0]
        for place, tensor in enumerate(tensors(out)):
            if any(tensor is t for t in tensors((args, kwargs))) and id(tensor) in self.known:
                if name not in SAME:  # in place
                    self.learn(tensor, self._derived(function, args, kwargs, tensor, place))
                continue
            self.learn(tensor, self._derived(function, args, kwargs, tensor, place))

    def _derived(self, function: Any, args: Any, kwargs: Any, out: Any, place: int) -> Value:
        return Value.made(function_name(function), args, kwargs, self.of, tuple(out.shape), place)


def traced(build: Build, module: Any, sample: Any, lead: int) -> Wire:
    """Run a module on a sample and build what it computes.

    Args:
        build: Where the nodes go.
        module: The root.
        sample: What it takes.
        lead: How many leading dimensions its modules' signals have.

    Raises:
        FrontendError: It computes what the graph cannot say, or differs from step to step.
    """
    watch, returned = _run(module, sample, lead)
    found = [watch.of(t) for t in tensors(returned)]
    modules = dict(leaves_of(module))
    last = _last(build, module, watch, found)
    steps = _steps(watch, modules)
    by_path: dict[str, list[Call]] = {}
    for call in watch.calls:
        by_path.setdefault(call.path, []).append(call)
    wires: dict[str, Wire] = {}
    for path, calls in by_path.items():
        _check_states(path, calls, modules[path])
        reads = _agreed(path, calls, modules[path])
        currents = [_wire(build, wires, origin, modules, path, lead, steps) for origin in reads]
        wires[path] = _nodes(build, path, modules[path], currents, lead)
    return wires[last]


def _nodes(build: Build, path: str, module: Any, currents: list[Wire], lead: int) -> Wire:
    if kind(module).ordered and len(currents) == 1:
        return follow(build, path, module, currents[0], lead)
    return leaf(build, path, module, currents, lead)


def leaves_of(module: Any) -> Iterator[tuple[str, Any]]:
    """Leaves anywhere below a module, shared ones once.

    A container that takes a time axis apart, and runs no code but a framework's, is one as well.
    """
    seen: set[int] = set()
    for path, each in leaves(module, whole=STEPWISE):
        if id(each) not in seen:
            seen.add(id(each))
            yield path, each


def _run(module: Any, sample: Any, lead: int) -> tuple[Watch, Any]:
    """One run; several where a call is one step, to see what comes back from one to the next."""
    watch, returned = _calls(module, sample, 1)
    inputs = [o for call in watch.calls for o in call.value.origins if o.path == INPUT]
    if lead == 1 and watch.calls and all(call.step == 0 for call in watch.calls):
        if any(o.sliced for o in inputs):
            raise FrontendError(
                f"sample_input of shape {tuple(sample.shape)} has one step of time",
                at=label("", module),
                hint="give one of three steps or more: what comes back is seen in them",
            )
        watch, returned = _calls(module, sample, STEPS)
    return watch, returned


def _calls(module: Any, sample: Any, steps: int) -> tuple[Watch, Any]:
    """Call a module ``steps`` times, with the state that it returns where it takes one."""
    import torch

    watch, returned = Watch(), None
    state: list[Any] = []
    stateful = _takes_state(module)
    with untouched(module), _hooks(module, watch), torch.no_grad():
        module.eval()
        for step in range(steps):
            probe = sample.detach().clone()
            shape = tuple(probe.shape)
            watch.learn(probe, Value((Origin(INPUT, step, 0, steps > 1, shape),), shape))
            with _mode(watch):
                try:
                    returned = module(probe, *state)
                except FrontendError:
                    raise
                except Exception as error:
                    raise FrontendError(
                        f"its forward pass fails on sample_input: {type(error).__name__}: {error}",
                        at=label("", module),
                        hint=f"sample_input has shape {shape} and type {sample.dtype}",
                    ) from error
            if stateful and isinstance(returned, tuple) and len(returned) > 1:  # and its state
                returned, *state = returned
    return watch, returned


def _takes_state(module: Any) -> bool:
    """Whether its forward pass takes more than its input."""
    try:
        names = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return False
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in names) > 1


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


# --- from calls to a graph ---


def _steps(watch: Watch, modules: dict[str, Any]) -> int:
    """How many steps of time the run had; each module is called once in each."""
    counts = {path: sum(c.path == path for c in watch.calls) for path in modules}
    used = {path: count for path, count in counts.items() if count}
    if not used:
        raise FrontendError("calls no module of torch's or a framework's")
    if len(set(used.values())) > 1:
        few, many = min(used, key=lambda p: used[p]), max(used, key=lambda p: used[p])
        raise FrontendError(
            f"is called {used[few]} times, net.{many} {used[many]} times in one run",
            at=label(few, modules[few]),
            hint="every module must run once a step; give each use of a layer a module of its own",
        )
    return next(iter(used.values()))


def _last(build: Build, module: Any, watch: Watch, found: list[Value]) -> str:
    """The module whose output is the network's."""
    called = [call.path for call in watch.calls]
    wanted = build.choices.output
    if wanted is not None:
        if wanted not in called:
            raise FrontendError(f"output={wanted!r} is no module that ran: {_listed(called)}")
        return wanted
    for value in found:
        if value.lost and value.origins:
            raise FrontendError(
                f"returns {value.lost} of what {_listed([o.path for o in value.origins])} sent",
                at=label("", module),
                hint="give output=, the path of the module whose output is the network's",
            )
    ends = list(dict.fromkeys(o.path for value in found for o in value.origins))
    if len(ends) == 1 and ends[0] != INPUT:
        return ends[0]
    raise FrontendError(
        f"returns values of {len(ends)} modules: {_listed(ends)}",
        at=label("", module),
        hint=f"give output=, one of {_listed(called)}",
    )


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(p or "the input" for p in paths)) or "none"


def _check_states(path: str, calls: list[Call], module: Any) -> None:
    """A state must be the module's own, of the step before, or zero in the first step."""
    for call in calls:
        outs = [o.out for state in call.states for o in state.origins]
        if outs != sorted(set(outs)):
            raise FrontendError("is given its states in another order", at=label(path, module))
        for state in call.states:
            first = call.step == 0 and not state.origins and state.zero
            own = [(o.path, o.step) for o in state.origins] == [(path, call.step - 1)]
            if not first and not (own and not state.lost):
                what = state.lost or _listed([o.path for o in state.origins])
                raise FrontendError(
                    f"its state in step {call.step} is not what it returned in the step before, "
                    f"but {what if state.origins else 'a constant that is not zero'}",
                    at=label(path, module),
                )


def _agreed(path: str, calls: list[Call], module: Any) -> list[Origin]:
    """What a module reads in every step, its own steps counted from there."""
    at = label(path, module)
    patterns = []
    for call in calls:
        if call.value.lost:
            origins = _listed([o.path for o in call.value.origins])
            raise FrontendError(
                f"reads {call.value.lost} of {origins}, computed between modules",
                at=at,
                hint="only sums, reshapings and steps of time may stand between modules",
            )
        if not call.value.origins and not call.value.zero:
            raise FrontendError("reads a constant, not the network's signals", at=at)
        patterns.append(sorted(o.since(call.step) for o in call.value.origins))
    full = patterns[-1]
    for step, pattern in enumerate(patterns):
        expected = [o for o in full if o.path == INPUT or o.step <= step]
        if pattern != expected:
            raise FrontendError(
                f"reads {_listed([o.path for o in pattern])} in step {step}, but "
                f"{_listed([o.path for o in full])} later",
                at=at,
                hint="the network must be the same in every step",
            )
    if not full:
        raise FrontendError("reads zeros only", at=at)
    return full


def _wire(
    build: Build, wires: dict[str, Wire], origin: Origin, modules: dict[str, Any], path: str,
    lead: int, steps: int,
) -> Wire:  # fmt: skip
    """The wire from an origin, behind its delay and its reshapings."""
    if origin.path == INPUT:
        if origin.step:
            raise FrontendError(
                f"reads the input of {origin.step} steps before",
                at=label(path, modules[path]),
                hint="every step reads its own input",
            )
        wire = wires.get(INPUT) or build.input(tuple(origin.shape[lead:]))
        wires[INPUT] = wire
        if steps > 1 and not origin.sliced:
            build.note(wire.node, "the same in every step, as the forward pass has it")
    elif origin.out:
        raise FrontendError(
            f"reads output {origin.out} of net.{origin.path}, a state and not its spikes",
            at=label(path, modules[path]),
        )
    elif origin.step:
        source = modules[origin.path]
        if kind(source).neurons is None:
            raise FrontendError(
                f"reads what it sent {origin.step} steps before; only spikes can wait",
                at=label(origin.path, source),
            )
        name = wires[origin.path].node if origin.path in wires else build.reserve(origin.path)
        wire = build.delayed(name, tuple(origin.shape[lead:]), origin.step)
    else:
        wire = wires[origin.path]
    for shape in origin.shapes:
        wire = _reshaped(build, wire, tuple(shape[lead:]), path, modules)
    return wire


def _reshaped(build: Build, wire: Wire, shape: tuple[int, ...], path: str, modules: Any) -> Wire:
    if shape == wire.shape:
        return wire
    if len(shape) == 1 and len(wire.shape) > 1:
        return flattened(build, f"{path}.flat", wire, 0, -1, 0)
    raise FrontendError(
        f"reads a signal of {wire.shape} as {shape}",
        at=label(path, modules[path]),
        hint="signals can be flattened, not reshaped otherwise",
    )
