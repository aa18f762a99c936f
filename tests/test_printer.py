"""Every dialect of the printer gives what the reference gives, operation by operation."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lists import random_step
from networks import random_network
from qspinn.fixed import Interval, Rounding, hash32, shr
from qspinn.ir import Array
from qspinn.printer import NUMPY, c_dialect, c_type, fits_int32, render, uniform_literal
from qspinn.program import TYPED_KINDS, Program, TypedOp
from watching import Step, watched

LEAVES = ("input", "state", "param")


@cache
def steps() -> tuple[Step, ...]:
    """The third step of every layer of many networks, and lists that no model has."""
    found = []
    for profile, count in (("any", 90), ("loihi", 12)):
        for seed in range(count):
            found += [s for s in watched(*random_network(seed, profile=profile))[1] if s.time == 3]
    rng = np.random.default_rng(1)
    return (*found, *(random_step(rng) for _ in range(150)))


def spread(step: Step, x: Array) -> Array:
    """One value for each neuron of each sample, flat."""
    batch = max(len(v) for v in step.values if v.ndim > len(step.shape))
    return np.broadcast_to(x, (batch, *step.shape)).reshape(-1)


def results(step: Step) -> list[Array]:
    """What a step has to give: the states in order, then what is sent."""
    wanted = [*step.program.finals.values(), step.program.output]
    return [spread(step, step.values[i]).astype(np.int64) for i in wanted]


def leaves(step: Step) -> dict[str, Array]:
    return {
        op.name: spread(step, x).astype(np.int64)
        for op, x in zip(step.program.ops, step.values, strict=True) if op.kind in LEAVES
    }  # fmt: skip


def numbers(step: Step) -> Array:
    """The number of each neuron in its layer."""
    return spread(step, np.arange(int(np.prod(step.shape))).reshape(step.shape))


def test_the_lists_hold_every_word() -> None:
    words = {(op.kind, op.rounding if op.kind == "shr" else None, str(op.overflow)[0])
             for s in steps() for op in s.program.ops}  # fmt: skip
    kinds = {kind for kind, _, _ in words}
    assert kinds == set(TYPED_KINDS)
    assert {r for kind, r, _ in words if kind == "shr"} == set(Rounding)
    assert {o for kind, _, o in words if kind == "fit"} == {"s", "w"}


# --- Python ---


def nearest(rounding: Rounding) -> Callable[[Any, Any], Any]:
    return lambda x, k: shr(np.asarray(x, np.int64), k, rounding)


WORDS: dict[str, Any] = {
    "np": np,
    "near_even": nearest(Rounding.NEAREST_EVEN),
    "near_away": nearest(Rounding.NEAREST_AWAY),
    "noise": lambda key, step, index: np.asarray(hash32(key, step, index), np.int64),
}


def test_numpy() -> None:
    for step in steps():
        printed = render(step.program, NUMPY, lambda op: op.name)
        scope = {**WORDS, **leaves(step), "step": step.time, "index": numbers(step)}
        exec("\n".join(printed.lines), scope)
        got = [eval(code, scope) for code in (*printed.finals.values(), printed.output)]
        for want, have in zip(results(step), got, strict=True):
            assert np.array_equal(want, np.broadcast_to(have, want.shape)), step.program.text()


# --- C ---

# The functions that a header defines, here as plainly as C allows.
FUNCTIONS = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
static uint32_t mix(uint32_t h) {
    h = (h ^ (h >> 16)) * 0x85EBCA6Bu; h = (h ^ (h >> 13)) * 0xC2B2AE35u; return h ^ (h >> 16);
}
static uint32_t q_noise(uint32_t key, uint32_t step, uint32_t i) {
    uint32_t h = mix(0x243F6A88u ^ (key * 0x9E3779B1u));
    return mix(mix(h ^ (step * 0x9E3779B1u)) ^ (i * 0x9E3779B1u));
}
static int64_t down(int64_t x, int k) { return (x - (x & (((int64_t)1 << k) - 1))) / ((int64_t)1 << k); }
static int64_t q_shr64_floor(int64_t x, int k) { return down(x, k); }
static int64_t q_shr64_zero(int64_t x, int k) { return x / ((int64_t)1 << k); }
static int64_t q_shr64_nearest_even(int64_t x, int k) {
    int64_t q = down(x, k), rest = x - q * ((int64_t)1 << k), half = k ? (int64_t)1 << (k - 1) : 1;
    return q + (rest > half || (rest == half && (q & 1)));
}
static int64_t q_shr64_nearest_away(int64_t x, int k) {
    int64_t q = down(x, k), rest = x - q * ((int64_t)1 << k), half = k ? (int64_t)1 << (k - 1) : 1;
    return q + (rest > half || (rest == half && x > 0));
}
static int64_t q_shr64_stochastic(int64_t x, int k, uint32_t noise) {
    return down(x + (k ? (int64_t)(noise >> (32 - k)) : 0), k);
}
#define SHORT(r) static int32_t q_shr_##r(int32_t x, int k) { return (int32_t)q_shr64_##r(x, k); } \\
    static int32_t q_mul_shr_##r(int32_t x, int32_t c, int k) { return (int32_t)q_shr64_##r((int64_t)x * c, k); }
SHORT(floor) SHORT(zero) SHORT(nearest_even) SHORT(nearest_away)
static int32_t q_shr_stochastic(int32_t x, int k, uint32_t n) { return (int32_t)q_shr64_stochastic(x, k, n); }
static int32_t q_mul_shr_stochastic(int32_t x, int32_t c, int k, uint32_t n) {
    return (int32_t)q_shr64_stochastic((int64_t)x * c, k, n);
}
static int64_t q_mul64(int64_t x, int64_t c) { return x * c; }
static int64_t wrapped(uint32_t x, int64_t lo, uint32_t size) { return lo + (int64_t)((x - (uint32_t)lo) & size); }
static int32_t q_wrap(uint32_t x, int32_t lo, uint32_t size) { return (int32_t)wrapped(x, lo, size); }
static int64_t q_wrap64(uint32_t x, int64_t lo, uint32_t size) { return wrapped(x, lo, size); }
"""  # noqa: E501


def c_function(name: str, program: Program) -> str:
    """A step over ``n`` neurons; every leaf is read in the type its interval allows."""
    slots = {op.name: i for i, op in enumerate(o for o in program.ops if o.kind in LEAVES)}

    def leaf(op: TypedOp) -> str:
        literal = uniform_literal(program, op) if op.kind == "param" else None
        if literal is not None:
            return c_dialect("q").number(literal)
        return f"(({c_type(op.span)})in[{slots[op.name]} * n + k])"

    printed = render(program, c_dialect("q"), leaf)
    ends = [*printed.finals.values(), printed.output]
    lines = [f"out[{j} * n + k] = {code};" for j, code in enumerate(ends)]
    body = "\n    ".join((*printed.lines, *lines))
    return (
        f"static void {name}(const int64_t *in, const int64_t *number, uint32_t step, long n, "
        f"int64_t *out) {{\n  for (long k = 0; k < n; k++) {{\n"
        f"    const uint32_t i = (uint32_t)number[k]; (void)i; (void)step;\n    {body}\n  }}\n}}\n"
    )


MAIN = """
typedef void (*step_fn)(const int64_t *, const int64_t *, uint32_t, long, int64_t *);
int main(void) {
    static const step_fn all[] = { %s };
    for (unsigned f = 0; f < sizeof all / sizeof *all; f++) {
        int64_t head[4];
        if (fread(head, 8, 4, stdin) != 4) return 1;
        long n = (long)head[0], ins = (long)head[1] * n, outs = (long)head[2] * n;
        int64_t *in = malloc(8 * (size_t)(ins + n + outs)), *out = in + ins + n;
        if (fread(in, 8, (size_t)(ins + n), stdin) != (size_t)(ins + n)) return 1;
        all[f](in, in + ins, (uint32_t)head[3], n, out);
        fwrite(out, 8, (size_t)outs, stdout);
        free(in);
    }
    return 0;
}
"""


@pytest.mark.needs("gcc")
def test_c_without_undefined_behaviour(tmp_path: Path) -> None:
    """All lists in one program; an int32 that overflowed would stop it."""
    chosen = steps()[::2]
    names = [f"f{i}" for i in range(len(chosen))]
    source = FUNCTIONS + "".join(
        c_function(name, step.program) for name, step in zip(names, chosen, strict=True)
    )
    (tmp_path / "lists.c").write_text(source + MAIN % ", ".join(names))
    flags = ["-std=c99", "-O0", "-w", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
    subprocess.run(("gcc", *flags, "lists.c", "-o", "lists"), cwd=tmp_path, check=True)
    given = b"".join(stdin(step) for step in chosen)
    run = subprocess.run((tmp_path / "lists",), input=given, check=False, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    out = np.frombuffer(run.stdout, np.int64)
    for step in chosen:
        want = np.stack(results(step))
        have, out = out[: want.size].reshape(want.shape), out[want.size :]
        assert np.array_equal(want, have), step.program.text()


def stdin(step: Step) -> bytes:
    found, index = leaves(step), numbers(step)
    head = [index.size, len(found), len(step.program.finals) + 1, step.time]
    return np.concatenate([head, *found.values(), index]).astype(np.int64).tobytes()


def test_c_computes_in_32_bits_where_it_can() -> None:
    assert fits_int32(Interval(-(2**31), 2**31 - 1))
    assert not fits_int32(Interval(0, 2**31))  # 32 bits without a sign are no int32_t
    assert not fits_int32(Interval(-(2**31) - 1, 0))
    assert (c_type(None), c_type(Interval(0, 1))) == ("int32_t", "int32_t")
    assert c_type(Interval(0, 2**32 - 1)) == "int64_t"
    number = c_dialect("q").number
    assert number(-(2**31)) == "(-2147483647 - 1)"
    assert (number(-5), number(7)) == ("(-5)", "7")
    assert number(2**31) == "((int64_t)2147483648)"
    assert number(-(2**31) - 1) == "(-(int64_t)2147483649)"


def test_a_wide_product_is_split_where_its_factor_allows() -> None:
    """Loihi's 24-bit states and 12-bit decays need no type wider than 32 bits."""
    split = 0
    for step in steps():
        printed = render(step.program, c_dialect("q"), lambda op: op.name).lines
        split += sum("q_mul_shr_" in line for line in printed)
    assert split > 10
