"""Compiled vectors give what the reference gives; formats are numbers, not code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lists import random_step
from qspinn.engine.structure import LANES, Line, structure
from qspinn.fixed import Interval, Overflow, QFormat, Rounding
from qspinn.ir import Neuron, Param, State
from qspinn.lowering import lower
from qspinn.neurons import spiking
from qspinn.program import Program
from watching import Step

pytestmark = pytest.mark.needs("numba")


def check(step: Step) -> None:
    """One step of a list that no model has, its states in 64 bits."""
    from qspinn.engine import printed

    program, neurons = step.program, step.shape[0]
    states = tuple(program.finals)
    parts = structure(program, states)
    width = -(-neurons // 64) * 64
    held = []
    for name in states:
        lanes = np.zeros((1, width), np.int64)
        at = next((i for i, op in enumerate(program.ops) if op.name == name), None)
        if at is not None:
            lanes[0, :neurons] = step.values[at]
        held.append(lanes)
    traces = tuple(np.zeros((1, 1, width), np.int64) for _ in states)
    sent, current = np.zeros((1, 1, width), np.int64), np.zeros((1, 1, width), np.int16)
    element = np.arange(width, dtype=np.int32) if parts.stochastic else None
    run: Any = printed._load(printed.source(parts, -1))
    each = -(-neurons // LANES)
    run(each, step.time, parts.numbers, current, sent, tuple(held), traces, (), element, None)
    wanted = [(program.output, sent[0, 0])]
    wanted += [(program.finals[name], x[0]) for name, x in zip(states, held, strict=True)]
    wanted += [(program.finals[name], x[0, 0]) for name, x in zip(states, traces, strict=True)]
    for at, got in wanted:
        assert np.array_equal(got[:neurons], step.values[at][0]), program.text()


@pytest.mark.parametrize("seed", range(12))
def test_lists_that_no_model_has(seed: int) -> None:
    check(random_step(np.random.default_rng((7, seed))))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12, 200))
def test_many_lists_that_no_model_has(seed: int) -> None:
    check(random_step(np.random.default_rng((7, seed))))


def layer(bits: int, frac: int, decay: str, rounding: Rounding, theta: int) -> Program:
    fmt = QFormat(bits, frac)
    c = QFormat.parse(decay)
    held = np.array(3 if c.leak else int(0.97 * 2**c.frac))
    values = {"decay": Param(held, c, rounding), "threshold": Param(np.array(theta), fmt)}
    states = {"v": State(Param(np.array(0), fmt), fmt, rounding, Overflow.SATURATE)}
    node = Neuron(
        name="n", inputs=("x",), shape=(8,), model=spiking(), values=values, states=states
    )
    return lower(node, Interval(-3000, 3000), 0)


def test_formats_share_a_loop() -> None:
    from qspinn.engine import printed

    def sources(*programs: Program) -> set[str]:
        return {printed.source(structure(p, ("v",)), 0) for p in programs}

    floor, even = Rounding.FLOOR, Rounding.NEAREST_EVEN
    alike = sources(
        layer(12, 2, "u12f12", floor, 100), layer(13, 4, "u9f9", floor, 7),
        layer(14, 1, "u11f11", floor, 999),
    )  # fmt: skip
    assert len(alike) == 1
    others = sources(
        layer(12, 2, "u12f12", even, 100), layer(12, 2, "leak3", floor, 100),
        layer(12, 0, "u12f12", floor, 100), layer(30, 15, "u12f12", floor, 100),
    )  # fmt: skip
    assert len(alike | others) == 5


def test_products_are_split_where_the_low_part_fits() -> None:
    def words(bits: int, decay: str) -> list[str]:
        program = layer(bits, 7, decay, Rounding.ZERO, 100)
        return [line.word for line in structure(program, ("v",)).lines]

    assert "mul" in words(12, "u12f12")
    assert words(26, "u12f12").count("split") == 1
    assert "mul_shr_zero" in words(26, "u12f12")
    assert "split" not in words(26, "u20f20")


@pytest.mark.parametrize("rounding", list(Rounding))
def test_a_split_product_is_the_product(rounding: Rounding, rng: np.random.Generator) -> None:
    """At the ends of what may be split, and around the ties."""
    from qspinn.engine import printed
    from qspinn.fixed import hash32, shr

    for k, top in ((12, (1 << 19) - 1), (19, (1 << 12) - 1), (1, (1 << 30) - 1)):
        ends = [-(1 << 31), (1 << 31) - 1, 0, 1, -1, 1 << k, -(1 << k), (1 << k) // 2 * 3]
        x = np.concatenate([ends, rng.integers(-(1 << 31), 1 << 31, 56)])
        high = (1 << (31 + min(k, top.bit_length()) - top.bit_length())) - 1
        x = np.clip(x, -high - 1, high)
        c = np.where(rng.random(64) < 0.3, top, rng.integers(0, top + 1, 64))
        lines = (
            Line("state", (0,), 32), Line("state", (1,), 32), Line("split", (0, 1), 64),
            Line(f"mul_shr_{rounding.value}", (0, 1), 32, 32, 0),
        )  # fmt: skip
        draws = rounding is Rounding.STOCHASTIC
        parts = replace(_PARTS, lines=lines, numbers=np.array([k, 77], np.int64))
        run: Any = printed._load(printed.source(parts, -1))
        held = (x.reshape(1, -1).astype(np.int64), c.reshape(1, -1).astype(np.int64))
        noise = hash32(77, 5, np.arange(64)) if draws else 0
        want = shr(x * c, k, rounding, noise)
        inside = (want >= -(1 << 31)) & (want < 1 << 31)
        assert inside.all()
        sent, current = np.zeros((1, 1, 64), np.int64), np.zeros((1, 1, 64), np.int16)
        element = np.arange(64, dtype=np.int32) if draws else None
        run(4, 5, parts.numbers, current, sent, held, None, (), element, None)
        np.testing.assert_array_equal(sent[0, 0], want)


_PARTS = structure(layer(12, 2, "u12f12", Rounding.FLOOR, 1), ("v",))
_PARTS = replace(_PARTS, states=(0, 1), output=3)
