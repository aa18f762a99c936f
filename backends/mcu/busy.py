"""A network at work: how much of something there is in a step, as stages ask for their costs."""

from __future__ import annotations

from dataclasses import dataclass

from qspinn.cost import Activity

from .chances import Bursts
from .kept import Kept
from .kernels import Kernel, LinearKernel, PoolKernel
from .network import Edge, Network, Stage

_BURSTS = 0.02
"""How many more steps are silent, at least, where spikes are said to come in bursts."""


@dataclass(frozen=True)
class Busy:
    """A network at work, with Helium or not: stages ask how much of something there is."""

    network: Network
    activity: Activity
    vectors: bool = False

    def rate(self, edge: Edge) -> float:
        """The share of an array's elements that hold an event in a step."""
        source = self.network.sources.get(edge.at)
        if source is None or not source.node:
            return 1.0
        steps = self.activity.steps
        arrived = max(steps - source.delay, 0) / steps  # what is late does not arrive any more
        rate = min(self.activity.rate(source.node), 1.0) * arrived
        return 1.0 - (1.0 - rate) ** source.window

    def heard(self, edge: Edge, kernel: Kernel) -> float:
        """The share of an array's events that weights are stored for."""
        while isinstance(kernel, PoolKernel):
            kernel = kernel.next
        return self.stored(edge, kernel.kept if isinstance(kernel, LinearKernel) else None)

    def stored(self, edge: Edge, kept: Kept | None) -> float:
        """The same where it is known which rows are stored."""
        if kept is None:
            return 1.0
        source = self.network.sources.get(edge.at)
        return self.activity.heard.get(source.node if source else "", kept.count / kept.size)

    def sent(self, mask: str) -> float:
        """The share of neurons whose bit is set in a mask, by its member."""
        source = self.network.sources.get(f"s->{mask}")
        return self.activity.rate(source.node) if source and source.node else 0.0

    def pair(self, mask: str) -> float:
        """The share of pairs of neighbours of which one's bit is set in a mask."""
        source = self.network.sources.get(f"s->{mask}")
        return self.activity.pair(source.node) if source and source.node else 0.0

    def bursts(self, edge: Edge) -> Bursts:
        """How steps differ in what an array holds: in some of them there may be nothing."""
        rate = self.rate(edge)
        source = self.network.sources.get(edge.at)
        known = source is not None and source.window == 1
        silent = self.activity.silent.get(source.node, 0.0) if source and known else 0.0
        alone = (1.0 - rate) ** edge.size
        if silent >= 1.0 or silent < alone + _BURSTS:
            return ((1.0, rate),)
        return ((1.0 - silent, min(rate / (1.0 - silent), 1.0)), (silent, 0.0))

    def edges(self, edge: Edge) -> float | None:
        """The share of an image's events on its outermost rows and columns, if that is known."""
        source = self.network.sources.get(edge.at)
        return self.activity.edges.get(source.node) if source else None

    def calls(self, stage: Stage) -> int:
        """How often a stage is called in a step."""
        return -(-stage.bands.rows // stage.bands.height) if stage.bands else 1
