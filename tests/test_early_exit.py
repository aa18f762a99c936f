"""A decision that is said to be settled never changes; the emitted C says it when we do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.emulate import Board
from qspinn.backends.mcu.samples import events as events_of
from qspinn.backends.mcu.toolchain import CORES

from mcu_builds import (
    WARNINGS,
    chain,
    compiles,
    events,
    files_of,
    lif,
    mlp,
    param,
    recurrent,
    run,
)
from mcu_nets import counted_votes, few_votes, narrow_states, votes
from qspinn import job as jobs
from qspinn.backend import backend
from qspinn.evaluate import chunks
from qspinn.interp import Trace
from qspinn.interp import run as interpret
from qspinn.ir import Array, Graph, Input, Linear, Scale, SumPool2d
from qspinn.pipeline import lower
from qspinn.readout import decided, exits, most_in_a_step, predict, reaches, summarize

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def pooled_first() -> Graph:
    """First spikes of a pool, where no membrane decides ties."""
    x = Input(name="x", shape=(2, 6, 6))
    pool = SumPool2d(name="pool", inputs=("lif",), kernel=(3, 3), stride=(3, 3))
    weight = param(np.random.default_rng(1).integers(-9, 30, (2, 6, 6)), "s8f4")
    scale = Scale(name="s", inputs=("x",), scale=weight)
    return chain("pooled", x, scale, lif("lif", "s", (2, 6, 6), 60), pool, readout="first_spike")


def first_spike() -> Graph:
    graph = mlp("first", (20, 12, 6))
    return graph.map(lambda n: replace(n, readout="first_spike") if n.name == "out" else n)


NETS = {
    "count": mlp, "votes": votes, "counted votes": counted_votes, "few votes": few_votes,
    "first spike": first_spike, "first spike and membranes": narrow_states,
    "first spike of a pool": pooled_first, "membrane": recurrent,
}  # fmt: skip


def first(trace: Trace, steps: int) -> Trace:
    return Trace(
        {k: v[:, :steps] for k, v in trace.states.items()},
        {k: v[:, :steps] for k, v in trace.outputs.items()},
    )


def settled(graph: Graph, trace: Trace, steps: int) -> Array:
    """What `decided` says after each step, (batch, steps)."""
    seen = []
    for done in range(1, steps + 1):
        part = first(trace, done)
        seen.append((decided(graph, summarize(graph, part), done, steps - done), part))
    last = predict(graph.output, summarize(graph, trace))
    for said, part in seen:
        now = predict(graph.output, summarize(graph, part))
        assert np.array_equal(now[said], last[said]), "a settled decision has changed"
    return np.stack([said for said, _ in seen], 1)


@pytest.mark.parametrize("name", NETS)
def test_settled_decisions_stay(name: str) -> None:
    graph, steps = NETS[name](), 30
    trace = interpret(graph, events(graph, batch=40, steps=steps))
    said = settled(graph, trace, steps)
    assert said[:, -1].all()
    assert (np.diff(said.astype(int), axis=1) >= 0).all(), "and stay settled"
    assert np.array_equal(exits(graph, trace), said.argmax(1) + 1)
    early = said[:, :-1].any()
    assert early == (name != "membrane")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("name", NETS)
def test_the_emitted_code_says_the_same(name: str) -> None:
    graph, steps = NETS[name](), 16
    data = events(graph, seed=5, batch=5, steps=steps)
    trace = interpret(graph, data)
    want = settled(graph, trace, steps)
    compared(graph, trace, data, want, board_of(graph))


def compared(graph: Graph, trace: Trace, data: Array, want: Array, board: Board) -> None:
    steps = data.shape[1]
    now = [predict(graph.output, summarize(graph, first(trace, t + 1))) for t in range(steps)]
    for b, sample in enumerate(data.reshape(len(data), steps, -1)):
        board.reset()
        for t, event in enumerate(events_of(board.port, sample)):
            board.step(event)
            assert board.winner() == now[t][b], "there is a decision after each step"
            assert asked(board, steps - 1 - t) == want[b, t]
            assert not asked(board, 0xFFFFFFFF) or graph.output.readout == "first_spike"


@pytest.mark.needs("zig", "unicorn")
def test_a_wrong_rule_is_seen() -> None:
    graph, steps = mlp(), 16
    data = events(graph, seed=5, batch=5, steps=steps)
    trace = interpret(graph, data)
    board = board_of(graph, b"(i < best ? 1u : 0u)", b"0u")
    with pytest.raises(AssertionError):
        compared(graph, trace, data, settled(graph, trace, steps), board)


def board_of(graph: Graph, old: bytes = b"", new: bytes = b"") -> Board:
    """The network on a core, with a function that asks whether it is decided, perhaps changed."""
    network = build(BACKEND.legalize(graph))
    P = network.prefix
    text = (
        f'#define {network.macro}_IMPLEMENTATION\n#include "{P}_run.h"\n'
        f"uint32_t {P}_asked(const {P}_state_t *s, uint32_t remaining);\n"
        f"uint32_t {P}_asked(const {P}_state_t *s, uint32_t remaining)\n"
        f"{{\n    return (uint32_t){P}_decided(s, remaining);\n}}\n"
    )
    files = {**dict(files_of(graph)), f"{P}.c": text.encode()}
    if old:
        assert old in files[f"{P}_run.h"]
        files[f"{P}_run.h"] = files[f"{P}_run.h"].replace(old, new)
    return Board(tuple(files.items()), network, CORES["cortex-m0plus"])


def asked(board: Board, remaining: int) -> int:
    return board.emulator.call(f"{board.network.prefix}_asked", board.state, remaining)


# --- the rule itself ---


def outputs_only(size: int, readout: str = "count", **options: object) -> Graph:
    """Output neurons that send whatever a test says."""
    weight = param(np.eye(size), "s2f0")
    graph = chain(
        "only", Input(name="x", shape=(size,)), Linear(name="fc", inputs=("x",), weight=weight),
        lif("lif", "fc", size, 1), readout=readout,
    )  # fmt: skip
    return graph.map(lambda n: replace(n, **options) if n.name == "out" else n)


def played(sent: Array) -> Trace:
    """Spikes as a trace, with membranes that never matter."""
    return Trace({"lif.v": np.zeros(sent.shape, np.int64)}, {"out": sent})


def test_counts_are_settled_exactly_when_no_rival_can_catch_up(rng: np.random.Generator) -> None:
    graph, steps = outputs_only(4), 9
    sent = (rng.random((300, steps, 4)) < rng.random((300, 1, 4))).astype(np.int64)
    said = settled(graph, played(sent), steps)
    for done in range(1, steps):
        counts = sent[:, :done].sum(1)
        best = counts.argmax(1)
        for sample in range(len(sent)):
            rivals = []
            for other in range(4):  # it alone spikes in all steps that are left
                final = counts[sample] + (np.arange(4) == other) * (steps - done)
                rivals.append(int(final.argmax()))
            assert said[sample, done - 1] == (set(rivals) == {best[sample]})


def test_votes_are_settled_only_when_no_class_can_catch_up(rng: np.random.Generator) -> None:
    labels = (0, 0, 0, 1, 2, 2, -1)
    graph, steps = outputs_only(7, "vote", labels=labels), 8
    assert most_in_a_step(graph) == 1
    assert reaches(graph.output, 1).tolist() == [3 * (65536 // 3), 65536, 65536]
    sent = (rng.random((200, steps, 7)) < rng.random((200, 1, 7))).astype(np.int64)
    said = settled(graph, played(sent), steps)
    for done in range(1, steps):
        for sample in range(len(sent)):
            finals = set()
            for rival in (0, 1, 2):
                rest = np.tile(np.array(labels) == rival, (steps - done, 1)).astype(np.int64)
                whole = np.concatenate([sent[sample, :done], rest])[None]
                finals.add(int(predict(graph.output, summarize(graph, played(whole)))[0]))
            assert said[sample, done - 1] == (len(finals) == 1)


def test_a_first_spike_that_is_shared_waits_for_the_membranes() -> None:
    graph = outputs_only(3, "first_spike")
    sent = np.zeros((3, 5, 3), np.int64)
    sent[0, 1, 2] = sent[1, 1, 1:] = 1  # alone; two at once; and none
    assert exits(graph, played(sent)).tolist() == [2, 5, 5]


# --- runs that never end ---


@pytest.mark.needs("gcc")
def test_first_spikes_after_very_many_steps(tmp_path: Path) -> None:
    for name, content in files_of(outputs_only(3, "first_spike")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "main.c").write_text(
        '#include "only_run.h"\nint main(void)\n{\n    only_state_t s;\n'
        "    uint8_t last = 2u, one = 1u;\n"
        "    only_reset(&s);\n    s.step = 0xFFFFFFFCu; /* as after so many silent steps */\n"
        "    while (only_score(&s, 2u) == 0xFFFFFFFFu) { (void)only_step(&s, &last, 1u); }\n"
        "    while (s.step != 0xFFFFFFFEu) { (void)only_step(&s, 0, 0u); }\n"
        "    (void)only_step(&s, 0, 0u);\n    (void)only_step(&s, 0, 0u);\n"
        "    while (only_score(&s, 1u) == 0xFFFFFFFFu) { (void)only_step(&s, &one, 1u); }\n"
        "    if (s.step != 0xFFFFFFFEu || only_score(&s, 1u) != 0xFFFFFFFEu) { return 1; }\n"
        "    return only_winner(&s) == 2u && only_decided(&s, 7u) ? 0 : 2;\n}\n"
    )
    compiles(tmp_path, "gcc", "-std=c99", *WARNINGS, "main.c", "only.c", "-o", "main")
    assert run(tmp_path, "./main").code == 0


# --- trained networks on their data ---


def on_data(model: Path, data: Path, samples: int, **encode: object) -> tuple[Graph, Array]:
    """A compiled network and what it decides from, (samples, steps, *shape)."""
    job = jobs.prepare(model, data, encode=encode)
    plan = jobs.plan_for(job, backend("mcu"))
    graph = lower(job.graph, plan, backend("mcu")).final
    assert job.dataset is not None
    index = job.dataset.part("report", samples)
    return graph, np.concatenate([x for x, _ in chunks(graph, job.dataset, job.encoder, index)])


def saves(graph: Graph, data: Array) -> float:
    """The share of steps that are left out; every decision at the exit is that of the full run."""
    trace, steps = interpret(graph, data), data.shape[1]
    settled(graph, trace, steps)
    when = exits(graph, trace)
    return 1 - float(when.mean()) / steps


def test_digits_are_decided_early() -> None:
    graph, data = on_data(EXAMPLES / "digits/digits.nir", EXAMPLES / "digits/digits.npz", 300)
    assert saves(graph, data) > 0.1


def test_mnist_is_decided_early(data: Path, tmp_path: Path) -> None:
    with np.load(data / "mnist.npz") as file:
        x, y = file["x_test"][:400].reshape(-1, 784), file["y_test"][:400]
    split = np.where(np.arange(400) < 100, 0, 2)
    np.savez(tmp_path / "some.npz", x=x, y=y, split=split)
    graph, spikes = on_data(EXAMPLES / "mnist/mnist.nir", tmp_path / "some.npz", 300)
    assert saves(graph, spikes) > 0.2
