"""The ends of every register: the last value is taken and runs in Lava, the next one is refused.

Neurons beyond their registers are no error: they become process models of their own, which the
package marks as what only the simulator runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qspinn.backends.loihi import BACKEND
from qspinn.backends.loihi.execute import _trace
from qspinn.backends.loihi.layers import layers
from qspinn.backends.loihi.reasons import Reasons

from lava_batch import run_batch
from loihi_nets import linear, net, neuron, written
from qspinn import interp
from qspinn.errors import LegalizeError
from qspinn.fixed import QFormat, Rounding
from qspinn.ir import Array, Delay, Graph, Node, Param
from qspinn.validate import compare

UNIT = QFormat(20, 0)
"""Weights in units of the activation; what they need on the chip follows from their values."""


@dataclass(frozen=True)
class Limit:
    """A quantity: the network for a value, the last value that fits, the next, and what is said."""

    make: Callable[[Any], Graph]
    last: Any
    beyond: Any
    said: str


def one(
    weights: list[int],
    *between: Node,
    source: str = "input",
    values: Mapping[str, Any] | None = None,
    high: int = 1,
    **rule: Any,
) -> Graph:
    """As many inputs as weights, and one neuron."""
    weighted = linear("fc", source, [weights], fmt=UNIT)
    nodes = (*between, weighted, neuron("lif", ("fc",), (1,), values, **rule))
    kind = {"kind": "count", "high": high} if high > 1 else {}
    return net("one", (len(weights),), nodes, **kind)


def delayed(steps: int) -> Graph:
    late = Delay(name="late", inputs=("input",), shape=(1,), steps=steps)
    return one([254], late, source="late", values={"threshold": 100})


def recurrent(steps: int) -> Graph:
    back = Delay(name="back", inputs=("lif",), shape=(1,), steps=steps)
    return net("loop", (1,), (
        back, linear("fc", "input", [[200]]), linear("rec", "back", [[100]]),
        neuron("lif", ("fc", "rec"), (1,)),
    ))  # fmt: skip


def biased(value: int) -> Graph:
    return one([64], values={"bias": value}, bias=True, synapse="new")


def counted(high: int) -> Graph:
    return one([1], high=high, values={"threshold": 9000})


REFUSED = {
    "both signs": Limit(one, [255, -255], [256, -255], "fc: weights from -255 to 256 need 10 bits"),
    "excitatory": Limit(one, [255, 1], [257, 1], "weights from 1 to 257 need 9 bits"),
    "inhibitory": Limit(one, [-255, -1], [-257, -1], "weights from -257 to -1 need 9 bits"),
    "exponent": Limit(one, [255 << 7], [129 << 8], "need the exponent 8, the limit is 7"),
    "activation": Limit(one, [255] * 128 + [127], [255] * 128 + [128],
                        r"lif: its summed input may lie in \[0, 32768\], the limit is 32767"),
    "inhibition": Limit(one, [-255] * 128 + [-127], [-255] * 128 + [-128],
                        r"its summed input may lie in \[-32768, 0\], the limit is 32767"),
    "delay": Limit(delayed, 63, 64, "fc: needs a delay of 63 steps, synapses have at most 62"),
    "recurrent delay": Limit(recurrent, 63, 64, "rec: needs a delay of 63 steps"),
    "count": Limit(counted, 32767, 32768, r"may lie in \[0, 32768\]"),
    "message": Limit(counted, 32767, 1 << 24, "reads values of 25 bits, a message holds 24"),
}  # fmt: skip


def thresholds(value: int) -> Graph:
    """A threshold in the membrane's units, 64 to a unit of the activation."""
    graph = one([16000], synapse="new", values={"current_decay": 4000, "decay": 4096})
    fmt = QFormat(25, 6)
    lif = graph["lif"].with_params({"threshold": Param(value, fmt)})
    return graph.map(lambda node: lif if node.name == "lif" else node)


def decays(value: int) -> Graph:
    graph = one([200], synapse="new")
    lif = graph["lif"].with_params(
        {"decay": Param(value, QFormat(14, 12, signed=False), Rounding.ZERO)}
    )
    return graph.map(lambda node: lif if node.name == "lif" else node)


SIMULATOR_ONLY = {
    "bias": Limit(biased, 4095 << 7, 4096 << 7, "the bias 524288 is no mantissa of at most 4095"),
    "fine bias": Limit(biased, -4095, 4097, "the bias 4097 is no mantissa of at most 4095"),
    "threshold": Limit(thresholds, 131071 << 6, (131071 << 6) + 1, "is no multiple of"),
    "no threshold": Limit(thresholds, 1 << 23, 64 * 9 + 3, "is no multiple of"),
    "decay": Limit(decays, 4096, 4097, "decay"),
}


def stimulus(graph: Graph) -> Array:
    """Quiet, full and changing input, longer than the longest delay."""
    rng, high = np.random.default_rng(5), graph.input.high or 1
    data = rng.integers(0, 2, (1, 80, *graph.input.shape)) * high
    data[0, 20:26] = high
    data[0, 30:34] = 0
    return data


@pytest.mark.parametrize("name", REFUSED)
def test_beyond_is_refused(name: str) -> None:
    limit = REFUSED[name]
    BACKEND.legalize(limit.make(limit.last))
    with pytest.raises(LegalizeError, match=limit.said):
        BACKEND.legalize(limit.make(limit.beyond))


@pytest.mark.parametrize("name", SIMULATOR_ONLY)
def test_beyond_only_the_simulator_runs_it(name: str) -> None:
    limit = SIMULATOR_ONLY[name]
    (last,), (beyond,) = (
        layers(BACKEND.legalize(limit.make(value)), Reasons())
        for value in (limit.last, limit.beyond)
    )
    assert last.registers is not None, last.why
    assert beyond.registers is None
    assert limit.said in beyond.why


@pytest.mark.needs("lava")
def test_the_ends_in_lava(tmp_path: Path) -> None:
    """Every last value, and every process model for the one beyond."""
    graphs = [limit.make(limit.last) for limit in (*REFUSED.values(), *SIMULATOR_ONLY.values())]
    graphs += [limit.make(limit.beyond) for limit in SIMULATOR_ONLY.values()]
    found = []
    for k, graph in enumerate(graphs):
        legal, data, place = BACKEND.legalize(graph), stimulus(graph), tmp_path / str(k)
        place.mkdir()
        np.save(written(legal, place) / "input.npy", data)
        found.append((place, legal, interp.run(graph, data)))
    run_batch(sys.executable, [place for place, *_ in found], models=True)
    spikes = 0
    for place, legal, want in found:
        got = _trace(legal, place)
        mismatch = compare(want, got)
        assert mismatch is None, f"{place.name} {legal.name}: {mismatch}"
        spikes += int(got.output.sum())
    assert spikes > 100
