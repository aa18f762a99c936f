"""Time on the edges: delays in steps, and a delay in every cycle.

NIR's cycles have no delay of their own; the frameworks that write them feed back the spikes of
the step before, so a cycle gets a delay of one step on the edge that leaves its last neuron.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from qspinn.errors import FrontendError
from qspinn.frontends.nir_dialect import SPIKING
from qspinn.frontends.nir_file import FileNode
from qspinn.frontends.nir_flatten import ADDING, Flat
from qspinn.frontends.nir_rules import Rules
from qspinn.frontends.report import Assumption, inferred

Sources = dict[str, list[str]]
Steps = dict[str, int]

MAX_STEPS = 1 << 12
MAX_DELAYS = 256
_UNBIASED = ("Linear", "Scale", "Affine", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d", "Flatten")


def wire(flat: Flat, rules: Rules) -> tuple[Flat, Steps, list[Assumption]]:
    """Settle all delays.

    Returns:
        The graph, the delays in steps of its Delay nodes, and what was assumed. No cycle of the
        graph avoids a Delay.

    Raises:
        FrontendError: A delay is not the same for all elements, or acts on a current.
    """
    notes: list[Assumption] = []
    steps = {name: _steps(node, rules) for name, node in flat.nodes.items() if node.kind == "Delay"}
    nodes = dict(flat.nodes)
    sources: Sources = {name: list(found) for name, found in flat.sources.items()}
    for name, count in list(steps.items()):
        if count:
            value = f"delays by {count} step{'s' * (count > 1)}"
            notes.append(Assumption(name, value, inferred(f"dt is {rules.dt:g}")))
            continue
        notes.append(Assumption(name, "no delay: less than half a step", inferred("dt")))
        if sources[name][0] == name:
            raise FrontendError("a cycle without spikes, through itself", at=flat.nodes[name].label)
        _bypass(name, sources)
        del nodes[name], steps[name]
    while any([_to_the_spikes(name, nodes, sources) for name in steps]):
        pass  # a delay may have moved behind another
    while cycle := _cycle(nodes, sources, steps):
        source, target = _cut(cycle, nodes, sources, steps)
        if len(steps) > MAX_DELAYS:
            raise FrontendError(f"has more than {MAX_DELAYS} delays and feedback edges", at="edges")
        name = _free_name(f"{source}_back", nodes)
        nodes[name] = FileNode(name, "Delay")
        steps[name] = 1
        sources[name] = [source]
        sources[target] = [name if s == source else s for s in sources[target]]
        what = f"1 step between {source} and {target}"
        notes.append(
            Assumption(name, what, inferred("frameworks feed back the last step's spikes"))
        )
    wired = {name: tuple(found) for name, found in sources.items()}
    return replace(flat, nodes=nodes, sources=wired), steps, notes


def _steps(node: FileNode, rules: Rules) -> int:
    delay = node.array("delay")
    low, high = delay.min(), delay.max()
    dt = rules.need_dt(node.label, f"it delays by {high:g}")
    steps = np.rint(delay / dt)
    if steps.min() != steps.max():
        raise FrontendError(
            f"delays of {low:g} to {high:g}, {steps.min():g} to {steps.max():g} steps: one node "
            "delays all elements alike here",
            at=node.label,
            hint="split it into one Delay and one connection for each delay",
        )
    if not 0 <= steps.max() <= MAX_STEPS:
        raise FrontendError(
            f"a delay of {steps.max():g} steps; the limit is {MAX_STEPS}", at=node.label
        )
    return int(steps.max())


def _to_the_spikes(name: str, nodes: Mapping[str, FileNode], sources: Sources) -> bool:
    """Move a delay in front of the connections it follows: spikes are delayed, not currents."""
    passed = 0
    while nodes[source := sources[name][0]].kind not in (*SPIKING, "Input", "Delay"):
        node, label = nodes[source], nodes[name].label
        if passed > len(nodes):
            raise FrontendError(f"a cycle without spikes, through {node.label}", at=label)
        others = [n for n, found in sources.items() if source in found and n != name]
        if node.kind not in _UNBIASED or others or _biased(node):
            why = f"that {nodes[others[0]].label} reads too" if others else "with a bias"
            what = why if node.kind in _UNBIASED else "that is graded"
            raise FrontendError(
                f"delays the current of {node.label} ({node.kind}), {what}",
                at=label,
                hint=f"put the Delay in front of {node.label}",
            )
        before = sources[source][0]
        for found in sources.values():
            found[:] = [source if s == name else s for s in found]
        sources[source], sources[name] = [name], [before]
        passed += 1
    return passed > 0


def _biased(node: FileNode) -> bool:
    return "bias" in node.params and bool(node.array("bias").any())


def _bypass(name: str, sources: Sources) -> None:
    before = sources.pop(name)[0]
    for found in sources.values():
        found[:] = [before if s == name else s for s in found]


def _next(
    nodes: Mapping[str, FileNode], sources: Mapping[str, list[str]], steps: Steps
) -> dict[str, list[str]]:
    """Who reads each node in the same step."""
    readers: dict[str, list[str]] = {name: [] for name in nodes}
    for name, found in sources.items():
        if name not in steps:
            for source in found:
                readers[source].append(name)
    return readers


def _cycle(nodes: Mapping[str, FileNode], sources: Sources, steps: Steps) -> list[str]:
    """A cycle without delay, starting where the walk from the input entered it; or nothing."""
    readers = _next(nodes, sources, steps)
    starts = sorted(nodes, key=lambda n: (nodes[n].kind != "Input", n in steps))
    done: set[str] = set()
    for start in starts:
        if start in done:
            continue
        path, walk = [start], [iter(readers[start])]
        on_path = {start}
        while path:
            name = next(walk[-1], None)
            if name is None:
                done.add(path[-1])
                on_path.discard(path.pop())
                walk.pop()
            elif name in on_path:
                return path[path.index(name) :]
            elif name not in done:
                path.append(name)
                on_path.add(name)
                walk.append(iter(readers[name]))
    return []


def _cut(
    cycle: list[str], nodes: Mapping[str, FileNode], sources: Sources, steps: Steps
) -> tuple[str, str]:
    """The edge of a cycle on which the spikes wait: the one that leaves its last spiking neuron."""
    at = max((i for i, n in enumerate(cycle) if nodes[n].kind in SPIKING), default=None)
    if at is None:
        who = " -> ".join(nodes[n].label for n in cycle[:6])
        raise FrontendError(f"a cycle without spikes: {who}", at=nodes[cycle[0]].label)
    source, target = cycle[at], cycle[(at + 1) % len(cycle)]
    for reader in _neurons_behind(target, nodes, sources, steps):
        if source not in _reachable(reader, _next(nodes, sources, {})):
            raise FrontendError(
                f"feeds the cycle through {nodes[source].label} and {nodes[reader].label} outside "
                "of it; the first needs a delay, the second none",
                at=nodes[target].label,
                hint="give the feedback a connection of its own",
            )
    return source, target


def _neurons_behind(
    name: str, nodes: Mapping[str, FileNode], sources: Sources, steps: Steps
) -> Iterator[str]:
    """What a connection reaches in the same step before any other neuron."""
    readers = _next(nodes, sources, steps)
    seen, todo = {name}, [name]
    while todo:
        here = todo.pop()
        if nodes[here].kind in (*ADDING, "Output"):
            yield here
            continue
        for after in readers[here]:
            if after not in seen:
                seen.add(after)
                todo.append(after)


def _reachable(name: str, readers: Mapping[str, Sequence[str]]) -> set[str]:
    seen, todo = {name}, [name]
    while todo:
        for after in readers[todo.pop()]:
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return seen


def _free_name(name: str, nodes: Mapping[str, FileNode]) -> str:
    taken = {n.lower() for n in nodes}
    free, count = name, 1
    while free.lower() in taken:
        count += 1
        free = f"{name}_{count}"
    return free


def recurrent(flat: Flat, steps: Steps) -> set[str]:
    """The nodes whose own output comes back to them, with whatever delay."""
    readers = flat.readers()
    # Every cycle passes a Delay, so the nodes on cycles are those around the Delays.
    found: set[str] = set()
    for delay in steps:
        after = _reachable(delay, readers)
        if flat.sources[delay][0] in after:
            before = _reachable(delay, flat.sources)
            found |= after & before
    return found


def order(flat: Flat, steps: Steps, loops: set[str]) -> list[str]:
    """What outputs depend on, each after what it reads (not so a Delay in a loop); outputs last."""
    outputs = [n for n, node in flat.nodes.items() if node.kind == "Output"]

    def now(name: str) -> Iterator[str]:
        return iter(() if name in steps and name in loops else flat.sources[name])

    found: list[str] = []
    started: set[str] = set()
    waiting = list(outputs)
    for root in waiting:  # grows: what such a Delay reads is visited after all that needs it
        walk = [(root, now(root))] if root not in started else []
        started.add(root)
        while walk:
            name, rest = walk[-1]
            source = next(rest, None)
            if source is None:
                walk.pop()
                found.append(name)
                waiting.extend(flat.sources[name] if name in steps else ())
            elif source not in started:
                started.add(source)
                walk.append((source, now(source)))
    return [*(name for name in found if name not in outputs), *outputs]
