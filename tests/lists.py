"""Random typed lists: operations in combinations that no model has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qspinn.dynamics import MASKS
from qspinn.errors import QuantizeError
from qspinn.fixed import Interval, Overflow, Rounding
from qspinn.interp import step_program
from qspinn.intervals import evaluate
from qspinn.program import Program, TypedOp
from watching import Step

DRAWN = (
    *("add", "sub", "min", "max", "mul", "shl", "shr", "leak", "fit"),
    *("gt", "ge", "gt", "ge", "not", "and", "or", "select", "select"),
)


def random_list(rng: np.random.Generator) -> list[TypedOp]:
    """Any operations on any earlier values, masks among them."""
    ops = [TypedOp("state", name=name) for name in "wxyz"] + [
        TypedOp("const", value=int(rng.integers(-9, 10)))
    ]
    for _ in range(int(rng.integers(4, 16))):
        values = [i for i, op in enumerate(ops) if op.kind not in MASKS]
        masks = [i for i, op in enumerate(ops) if op.kind in MASKS]
        kind = str(rng.choice(DRAWN))
        if kind in ("not", "and", "or", "select") and not masks:
            continue
        x, y = (int(i) for i in rng.choice(values[-6:], 2))
        count, key = int(rng.integers(1, 5)), int(rng.integers(2**32))
        rounding = Rounding(str(rng.choice([r.value for r in Rounding])))
        if kind in ("not", "and", "or"):
            args = tuple(int(i) for i in rng.choice(masks, 1 if kind == "not" else 2))
            ops.append(TypedOp(kind, args))
        elif kind == "select":
            ops.append(TypedOp(kind, (int(rng.choice(masks)), x, y)))
        elif kind in ("shl", "shr", "leak"):
            name = kind.replace("leak", "shr")
            ops.append(TypedOp(name, (x,), value=count, rounding=rounding, key=key))
            if kind == "leak":
                ops.append(TypedOp("sub", (x, len(ops) - 1)))
        elif kind == "fit":
            low = int(rng.integers(-40, 10))
            overflow = Overflow(str(rng.choice(("saturate", "wrap"))))
            ops.append(TypedOp("fit", (x,), low=low, high=low + 31, overflow=overflow))
        else:
            ops.append(TypedOp(kind, (x, y)))
    return ops


def random_step(rng: np.random.Generator, neurons: int = 120) -> Step:
    """A list with its proved intervals, and one step of it on leaves drawn from theirs."""
    while True:
        ops = random_list(rng)
        scale = int(rng.choice((1, 1, 50, 3000, 10**6)))
        low, size = rng.integers(-30, 20, 4) * scale, rng.integers(0, 25, 4) * scale
        leaves = {
            n: Interval(int(a), int(a + s)) for n, a, s in zip("wxyz", low, size, strict=True)
        }
        try:
            spans = evaluate(ops, leaves)
        except QuantizeError:
            continue  # a product of products
        break
    proved = tuple(replace(op, span=span) for op, span in zip(ops, spans, strict=True))
    values = [i for i, op in enumerate(ops) if op.kind not in MASKS]
    finals = {name: int(i) for name, i in zip("wxyz", rng.choice(values[-8:], 4), strict=True)}
    output = len(ops) - 1
    sends = "spike" if ops[output].kind in MASKS else "current"
    program = Program(proved, finals, output, sends, {}, {}, Interval(0, 0))
    drawn = {n: rng.integers(s.lo, s.hi + 1, (1, neurons)) for n, s in leaves.items()}
    time = int(rng.integers(9))
    everything = replace(program, finals={str(i): i for i in range(len(ops))})
    found, _ = step_program(everything, drawn, time, (neurons,))
    full = [np.broadcast_to(x, (1, neurons)) for x in found.values()]
    return Step(program, time, (neurons,), tuple(full))
