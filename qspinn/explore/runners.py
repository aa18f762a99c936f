"""Where candidates are simulated: in threads of this process, or by the workers of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from qspinn.engine.events import Events
from qspinn.engine.sweep import Tally, sweep
from qspinn.errors import QspinnError, ToolchainError
from qspinn.explore.stimulus import Stimulus
from qspinn.ir import Array, Graph, Input


def simulated(
    graphs: Sequence[Graph], stimulus: Stimulus, first: int, last: int, steps: int,
    threads: int | None = None, engine: str = "auto",
) -> list[Tally]:  # fmt: skip
    """What each graph does with samples ``first`` to ``last``, in the order of the graphs."""
    data = _entering(graphs, stimulus, first, last)
    most = steps if steps and steps != stimulus.encoder.steps else None
    return sweep(graphs, data, threads=threads, engine=engine, steps=most, operations=True)


def _entering(graphs: Sequence[Graph], stimulus: Stimulus, first: int, last: int) -> Events | Array:
    """What all of the graphs receive."""
    formats = {tuple(node.fmt for node in graph.of_type(Input)) for graph in graphs}
    assert len(formats) == 1, "no knob turns the format of the values that enter"
    return stimulus.part(formats.pop(), first, last)


@dataclass(frozen=True)
class Local:
    """Threads of this process, each with its own samples."""

    threads: int | None = None
    engine: str = "auto"

    def run(
        self, graphs: Sequence[Graph], stimulus: Stimulus, first: int, last: int, steps: int
    ) -> list[Tally]:
        """See `judge.Runner`."""
        return simulated(graphs, stimulus, first, last, steps, self.threads, self.engine)


@dataclass(frozen=True)
class Accelerated:
    """An accelerator that torch finds; the same bits."""

    device: str

    @classmethod
    def on(cls, device: str) -> Accelerated:
        """Use the device ``cuda``, or torch on the ``cpu``.

        Raises:
            ToolchainError: torch is not installed, or finds no such device.
        """
        if find_spec("torch") is None:
            raise ToolchainError("torch is not installed", hint="pip install 'qspinn[train]'")
        from qspinn.engine import torched

        if not torched.available(device):
            raise ToolchainError(
                f"torch finds no {device} device here", hint="leave out --accelerator"
            )
        return cls(device)

    def run(
        self, graphs: Sequence[Graph], stimulus: Stimulus, first: int, last: int, steps: int
    ) -> list[Tally]:
        """See `judge.Runner`."""
        from qspinn.engine import torched

        data = _entering(graphs, stimulus, first, last)
        return torched.sweep(graphs, data, device=self.device, steps=steps or None)


@dataclass(eq=False)
class Dask:
    """Workers of a Dask cluster: each batch is cut into runs of neighbouring candidates.

    A stimulus travels to every worker once. Results come back in the order of the candidates,
    whoever made them, so a cluster finds what one process finds.
    """

    client: Any
    threads: int = 1
    _sent: dict[Stimulus, Any] = field(default_factory=dict)

    @classmethod
    def at(cls, address: str, *, threads: int = 1, timeout: float = 20.0) -> Dask:
        """Connect to a scheduler, ``tcp://host:8786``.

        Raises:
            ToolchainError: Dask is not installed.
            QspinnError: Nobody answers, or the cluster has no worker.
        """
        try:
            from distributed import Client
        except ImportError:
            raise ToolchainError(
                "Dask is not installed", hint="pip install 'qspinn[dask]'"
            ) from None
        try:
            client = Client(address, timeout=timeout)
            client.wait_for_workers(1, timeout=timeout)
        except (OSError, TimeoutError, ValueError) as error:
            raise QspinnError(
                f"no Dask scheduler with a worker answers: {error}",
                at=address,
                hint="start one with dask scheduler and dask worker ADDRESS",
            ) from error
        return cls(client, threads)

    def run(
        self, graphs: Sequence[Graph], stimulus: Stimulus, first: int, last: int, steps: int
    ) -> list[Tally]:
        """See `judge.Runner`."""
        if stimulus not in self._sent:
            self._sent[stimulus] = self.client.scatter(stimulus, broadcast=True)
        workers = max(1, len(self.client.scheduler_info()["workers"]))
        each = -(-len(graphs) // workers)
        futures = [
            self.client.submit(
                simulated, list(graphs[k : k + each]), self._sent[stimulus], first, last, steps,
                self.threads, pure=False,
            )
            for k in range(0, len(graphs), each)
        ]  # fmt: skip
        return [tally for part in self.client.gather(futures) for tally in part]

    def close(self) -> None:
        """Leave the cluster."""
        with suppress(OSError):
            self.client.close()
