"""The walk through a sweep's tree: what a leaf shares with the one before is not run again.

Importing this file imports numba.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qspinn.engine import kernels
from qspinn.engine.events import Events
from qspinn.engine.fast import Part
from qspinn.engine.machine import Machine
from qspinn.engine.trie import Leaf, Member
from qspinn.ir import Array, Delay, Input, Neuron
from qspinn.readout import Summary
from qspinn.simulate import add_summary, input_names


@dataclass
class Walk:
    """One thread's way from leaf to leaf, and what the edges of the last one hold."""

    data: Array | Events
    steps: int
    constant: bool
    machine: Machine = field(init=False)
    before: Leaf | None = None
    sent: dict[str, int] = field(default_factory=dict)
    added: dict[str, int] = field(default_factory=dict)
    first: int = 0

    def start(self, leaf: Leaf, samples: slice) -> None:
        """Turn to other samples; ``leaf`` comes first."""
        if self.before is None:
            self.machine = Machine(leaf.network)
        self.machine.samples, self.machine.steps = samples.stop - samples.start, self.steps
        self.machine.advance()
        self.machine.time = 0
        self.first, self.before = samples.start, None

    def run(self, leaf: Leaf) -> Summary:
        """Run what differs from the leaf before."""
        machine = self.machine
        machine.network, machine.summed = leaf.network, leaf.summed
        machine.keep = frozenset({leaf.owner} if leaf.owner and not leaf.summed else ())
        machine.constant = input_names(leaf.network.graph) if self.constant else frozenset()
        for part in leaf.parts[self.alike(leaf) :]:
            self.redo(part)
        self.before = leaf
        if leaf.summed:
            return Summary(*machine.summary())
        return self.collected(leaf)

    def alike(self, leaf: Leaf) -> int:
        """How many of the first parts have already run."""
        count = 0
        if self.before is None:
            return 0
        for one, other in zip(self.before.parts, leaf.parts, strict=False):
            if one is not other or one.node.name in (self.before.owner, leaf.owner):
                break
            count += 1
        return count

    def redo(self, part: Part) -> None:
        """Run one node from the first step to the last."""
        machine, name = self.machine, part.node.name
        machine.lanes.pop(name, None)
        machine.lists.pop(name, None)
        self.sent.pop(name, None)
        self.added.pop(name, None)
        if isinstance(part.node, Input):
            machine.feed(self.data, self.first, self.steps)
        if isinstance(part.node, Delay):
            machine.clear_ring(part.node)
        for state, row in part.start.items():
            machine.restart(f"{name}.{state}", row)
        if name == machine.summed:
            machine.open_sums(self.steps)
        if part.stage:
            part.stage(machine)

    def collected(self, leaf: Leaf) -> Summary:
        """The summary of a graph whose last neurons do not add it up."""
        network, output = leaf.network, leaf.network.graph.output.name
        shape = (self.machine.samples, network.ports[output].size)
        into = (
            np.zeros(shape, np.int64), np.full(shape, self.steps), np.zeros(shape, np.int64),
            np.full(shape, np.iinfo(np.int64).min),
        )  # fmt: skip
        add_summary(self.machine, output, network.membrane, self.steps, into)
        return Summary(*into)

    def spikes(self, leaf: Leaf, member: Member, counts: Array) -> dict[str, int]:
        """Events by neuron node; ``counts`` are the member's own."""
        found = {}
        for part in leaf.parts:
            name = part.node.name
            if not isinstance(part.node, Neuron) or part.signal.kind == "current":
                continue
            if name == leaf.summed:
                found[name] = int(counts.sum())
            elif leaf.shared in part.node.inputs:
                sent = self.machine.dense(name)[:, member.columns]
                found[name] = int(np.count_nonzero(sent))
            else:
                found[name] = self.events(name)
        return found

    def events(self, name: str) -> int:
        """How many events an edge carries."""
        name = self.machine.network.origin[name]
        if name not in self.sent:
            lo, hi, _, _ = self.machine.events(name)
            self.sent[name] = int((hi - lo).sum())
        return self.sent[name]

    def operations(self, leaf: Leaf, member: Member) -> dict[str, int]:
        """Weights added, by connection."""
        for name, fan in leaf.fans.items():
            if name not in self.added:
                self.added[name] = self.reached(leaf.network.graph[name].inputs[0], fan)
        found = {name: self.added[name] for name in leaf.fans}
        if member.fan is not None:
            source = leaf.network.graph[leaf.shared].inputs[0]
            found[leaf.shared] = self.reached(source, member.fan)
        return found

    def reached(self, source: str, fan: Array) -> int:
        """The sum of a fan over the events of an edge."""
        size = self.machine.network.ports[source].size
        if (fan[:size] == fan[0]).all():
            return int(fan[0]) * self.events(source)
        lo, hi, index, _ = self.machine.events(source)
        return int(kernels.reached(lo, hi, index, fan))
