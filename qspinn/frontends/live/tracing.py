"""What flows where in a forward pass of the user's own: it is run once, and watched.

Modules of the frameworks are leaves; between them only sums, reshapings and slices of time are
allowed, for anything else would be a part of the network that the graph has not. A pass over time
calls each module once a step; what it reads must come from the same places in every step.
"""

from __future__ import annotations

from typing import Any

from qspinn.errors import FrontendError
from qspinn.frontends.live.build import Build, Wire
from qspinn.frontends.live.layers import flattened
from qspinn.frontends.live.modules import kind, label
from qspinn.frontends.live.values import INPUT, Origin, Value, tensors
from qspinn.frontends.live.walk import follow, leaf
from qspinn.frontends.live.watching import Call, Samples, Watch, leaves_of, listed, run


def traced(build: Build, module: Any, samples: Samples, lead: int) -> list[Wire]:
    """Run a module on samples and build what it computes: what its outputs send.

    Args:
        build: Where the nodes go.
        module: The root.
        samples: What it takes.
        lead: How many leading dimensions its modules' signals have.

    Raises:
        FrontendError: It computes what the graph cannot say, or differs from step to step.
    """
    watch, returned = run(module, samples, lead)
    found = [watch.of(t) for t in tensors(returned)]
    modules = dict(leaves_of(module))
    ends = _ends(build, module, watch, found)
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
    for name in samples:
        if f"{INPUT}{name}" not in wires:
            raise FrontendError("no module reads it", at=name or "the input")
    return [wires[path] for path in ends]


def _nodes(build: Build, path: str, module: Any, currents: list[Wire], lead: int) -> Wire:
    if kind(module).ordered and len(currents) == 1:
        return follow(build, path, module, currents[0], lead)
    return leaf(build, path, module, currents, lead)


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


def _ends(build: Build, module: Any, watch: Watch, found: list[Value]) -> list[str]:
    """The modules whose outputs are the network's; the first decides."""
    called = [call.path for call in watch.calls]
    chosen = build.choices.output
    if chosen is not None:
        ends = [chosen] if isinstance(chosen, str) else list(dict.fromkeys(chosen))
        for path in ends:
            if path not in called:
                raise FrontendError(f"output={path!r} is no module that ran: {listed(called)}")
        return ends
    for value in found:
        if value.lost and value.origins:
            raise FrontendError(
                f"returns {value.lost} of what {listed([o.path for o in value.origins])} sent",
                at=label("", module),
                hint=("join steps of time by torch.stack, or " if " cat " in value.lost else "")
                + "give output=, the path of the module whose output is the network's",
            )
        if not value.gathered and len({o.out > 0 for o in value.origins}) > 1:
            raise FrontendError(
                f"returns a sum of spikes and states of {listed([o.path for o in value.origins])}",
                at=label("", module),
                hint="return the spikes, or give output=",
            )
    ends = list(dict.fromkeys(o.path for value in found for o in value.origins))
    if len(ends) == 1 and not ends[0].startswith(INPUT):
        sent = any(o.out == 0 for value in found for o in value.origins)
        if not sent and build.choices.readout is None:
            raise FrontendError(
                f"returns a state of net.{ends[0]}, not its spikes",
                at=label("", module),
                hint="return the spikes; membranes are read with reset_mechanism='none' and "
                "readout=",
            )
        return ends
    raise FrontendError(
        f"returns values of {len(ends)} modules: {listed(ends)}",
        at=label("", module),
        hint=f"give output=, one of {listed(called)}; or several, of which the first decides",
    )


def _check_states(path: str, calls: list[Call], module: Any) -> None:
    """A state must be the module's own, of the step before, or zero in the first step."""
    for call in calls:
        outs = [o.out for state in call.states for o in state.origins]
        if outs != sorted(set(outs)):
            raise FrontendError("is given its states in another order", at=label(path, module))
        for state in call.states:
            first = call.step == 0 and not state.origins and state.zero
            own = [(o.path, o.step) for o in state.origins] == [(path, call.step - 1)]
            if not first and not (own and not state.lost and not state.gathered):
                side = "values side by side" if state.gathered else ""
                what = state.lost or side or listed([o.path for o in state.origins])
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
        side = "values side by side (cat, stack, assignment)" if call.value.gathered else ""
        if what := call.value.lost or side:
            origins = listed([o.path for o in call.value.origins])
            raise FrontendError(
                f"reads {what} of {origins}, computed between modules",
                at=at,
                hint="only sums, reshapings and steps of time may stand between modules",
            )
        if not call.value.origins and not call.value.zero:
            raise FrontendError("reads a constant, not the network's signals", at=at)
        patterns.append(sorted(o.since(call.step) for o in call.value.origins))
    full = patterns[-1]
    for step, pattern in enumerate(patterns):
        expected = [o for o in full if o.path.startswith(INPUT) or o.step <= step]
        if pattern != expected:
            raise FrontendError(
                f"reads {listed([o.path for o in pattern])} in step {step}, but "
                f"{listed([o.path for o in full])} later",
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
    if origin.path.startswith(INPUT):
        if origin.step:
            raise FrontendError(
                f"reads the input of {origin.step} steps before",
                at=label(path, modules[path]),
                hint="every step reads its own input",
            )
        wire = wires.get(origin.path) or build.input(
            tuple(origin.shape[lead:]), origin.path.removeprefix(INPUT) or "input"
        )
        wires[origin.path] = wire
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
