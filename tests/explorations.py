"""Invented explorations that look like real ones, for tests of what is written and drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import product

import numpy as np

from qspinn.explore.result import (
    Attribution,
    Entry,
    Exploration,
    Limits,
    Memory,
    Part,
    Report,
    Significance,
    lost,
)
from qspinn.explore.space import Knob
from qspinn.stats import accuracy, paired_difference

SAMPLES = 900
WIDTHS = ("16", "8", "6", "4", "3", "2", "ternary", "binary")
BITS = {"ternary": 1.6, "binary": 1.0}
KNOBS = (
    Knob("scheme", "scheme", "", ("ptq",), ordered=False),
    Knob("fc1.weight", "weight", "lif1", WIDTHS),
    Knob("fc1.weight:rounding", "weight", "lif1", ("nearest_even", "floor"), ordered=False),
    Knob("lif1.v", "membrane", "lif1", ("24", "16", "12", "8")),
    Knob("lif1.decay", "decay", "lif1", ("12", "8", "leak")),
    Knob("fc2.weight", "weight", "lif2", WIDTHS),
    Knob("lif2.v", "membrane", "lif2", ("24", "16", "12", "8")),
)
PLAN = """# qspinn plan 1

fc1.weight       s4f0     nearest_even  saturate  free
lif1.v           s12f1    floor         saturate  free
lif1.threshold   s12f1    nearest_even  saturate  shared   # with lif1.v
"""
FINEST = {knob.name: knob.options[0] for knob in KNOBS}


def digest(words: dict[str, str]) -> str:
    return hashlib.sha256(repr(sorted(words.items())).encode()).hexdigest()


def bits(word: str) -> float:
    return BITS.get(word) or (4.0 if word == "leak" else float(word))


def error(words: dict[str, str]) -> float:
    """The chance that a sample the float network gets right is lost."""
    loss = (
        0.9
        * 2 ** (-1.9 * bits(words["fc1.weight"]))
        * (2 if words["fc1.weight:rounding"] == "floor" else 1)
    )
    loss += 0.3 * 2 ** (-1.6 * bits(words["fc2.weight"]))
    loss += sum(9.0 * 2 ** (-1.0 * bits(words[f"lif{i}.v"])) for i in (1, 2))
    return min(0.88, loss + 0.04 * 2 ** (-0.5 * bits(words["lif1.decay"])))


def memory(words: dict[str, str]) -> Memory:
    weights = 784 * 128 * bits(words["fc1.weight"]) + 1280 * bits(words["fc2.weight"])
    state = 128 * bits(words["lif1.v"]) + 10 * bits(words["lif2.v"])
    return Memory(int(weights) // 8, 138, int(state) // 8)


class Made:
    """Samples that an invented network gets right."""

    def __init__(self) -> None:
        rng = np.random.default_rng(7)
        self.luck = rng.random(SAMPLES)
        self.float = rng.random(SAMPLES) < 0.975

    def correct(self, words: dict[str, str]) -> np.ndarray:
        lucky = np.random.default_rng(int(digest(words)[:8], 16)).random(SAMPLES)
        return (self.float & (self.luck > error(words))) | (~self.float & (lucky < 0.1))

    def entry(self, words: dict[str, str]) -> Entry:
        used = memory(words)
        right = self.correct(words)
        complete = bool(right[:250].mean() > 0.6)
        count = SAMPLES if complete else 250
        right, base = right[:count], self.float[:count]
        drop = lost(paired_difference(right, base))
        return Entry(
            digest(words), words, "ptq", 25, accuracy(right), drop,
            drop.value + 0.84 * (drop.high - drop.value), complete, used,
            {"flash": used.weights + used.constants + 2600, "ram": used.state + 260},
            1000.0 / 3 * bits(words["fc1.weight"]), 41.25,
        )  # fmt: skip


def candidates() -> Iterator[dict[str, str]]:
    names = [knob.name for knob in KNOBS if knob.name not in ("scheme", "lif1.decay")]
    options = [knob.options for knob in KNOBS if knob.name in names]
    for i, taken in enumerate(product(*options)):
        if i % 3 == 0:
            yield {**FINEST, **dict(zip(names, taken, strict=True))}


def exploration(limits: Limits | None = None) -> Exploration:
    """784-128-10 on invented data, some 680 candidates."""
    made = Made()
    limits = limits or Limits(0.015, budget={"flash": 56 * 1024, "ram": 8192})
    entries = on_front([made.entry(words) for words in candidates()])
    winner = selected(entries, limits)
    refused = Entry("f" * 64, {**FINEST, "lif2.v": "4"}, refused="lif2.v: 4 bits, 8 at least")
    right = made.correct(dict(winner.words))
    report = Report(accuracy(made.float), accuracy(right),
                    lost(paired_difference(right, made.float)), 0.0125)  # fmt: skip
    parts = {
        name: Part.of(np.arange(first, first + SAMPLES))
        for name, first in (("calibrate", 0), ("select", 900), ("report", 1800))
    }
    return Exploration(
        "mnist", "mcu", "stm32c011", "guided", 3, parts, KNOBS, accuracy(made.float),
        4 * (784 * 128 + 1280 + 138 * 2), None, limits, (*entries, refused),
        tuple(significance(made)), tuple(attribution(made, winner)), winner.digest, report,
        0.004, ("900 samples cannot tell candidates closer than 0.9 points apart",),
        len(entries), sum(e.samples for e in entries),
    )  # fmt: skip


def on_front(entries: list[Entry]) -> list[Entry]:
    from dataclasses import replace

    best, front = -1.0, set()
    for e in sorted(entries, key=lambda e: (e.memory.network, -e.accuracy.value)):  # type: ignore[union-attr]
        if e.complete and e.accuracy and e.accuracy.value > best:
            best = e.accuracy.value
            front.add(e.digest)
    return [replace(e, on_front=e.digest in front) for e in entries]


def selected(entries: list[Entry], limits: Limits) -> Entry:
    fit = [e for e in entries if e.on_front and e.bound is not None
           and (limits.max_drop is None or e.bound <= limits.max_drop)]  # fmt: skip
    return min(fit, key=lambda e: e.memory.network if e.memory else 0)


def significance(made: Made) -> Iterator[Significance]:
    finest = made.correct(FINEST)
    for knob in KNOBS[1:]:
        for option in knob.options:
            words = {**FINEST, knob.name: option}
            right = made.correct(words)
            yield Significance(
                knob.name, knob.kind, knob.layer, option, accuracy(right),
                paired_difference(right, finest), error(words) * 7, memory(words).network,
            )  # fmt: skip


def attribution(made: Made, winner: Entry) -> Iterator[Attribution]:
    words = dict(winner.words)
    here = made.correct(words)
    for knob in KNOBS[1:]:
        at = knob.options.index(words[knob.name])
        finer = made.correct({**words, knob.name: knob.options[0]})
        cost = lost(paired_difference(here, finer))
        if at + 1 == len(knob.options):
            yield Attribution(knob.name, knob.kind, knob.layer, words[knob.name], "", cost)
            continue
        coarser = {**words, knob.name: knob.options[at + 1]}
        there = made.correct(coarser)
        drop = lost(paired_difference(there, made.float))
        saved = memory(words).network - memory(coarser).network
        yield Attribution(
            knob.name, knob.kind, knob.layer, words[knob.name], knob.options[at + 1], cost,
            lost(paired_difference(there, here)), drop, drop.high, saved,
        )  # fmt: skip
