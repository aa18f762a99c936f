"""Modelled cycles: what the manuals say of cores that issue one instruction at a time.

Memory without wait states, no cache, no interrupts. Cores that issue two instructions at once
(Cortex-M7, M55) and RISC-V, where every maker's core differs, have no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .thumb import Op

NOT_MODELLED = "no wait states, caches or interrupts"
"""What a count of cycles leaves out."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The cycles of a core.

    Attributes:
        load: Of a load of one word.
        store: Of a store of one word.
        refill: What a jump that is taken costs more.
        call: Of a call, before the refill.
        pipelined: Whether a load right after a load or a store takes one cycle.
        mla: Of a product that is added to 32 bits.
        mull: Of a product of 64 bits; the most it may be.
        mlal: Of a product that is added to 64 bits; the most it may be.
        div: Of a division; the most it may be.
    """

    load: int
    store: int
    refill: int
    call: int = 1
    pipelined: bool = False
    mla: int = 1
    mull: int = 1
    mlal: int = 1
    div: int = 12

    def straight(self, ops: Sequence[Op]) -> int:
        """The cycles of instructions that follow each other, where no jump is taken."""
        total, before = 0, ""
        for op in ops:
            total += self._one(op, before)
            before = op.kind
        return total

    def _one(self, op: Op, before: str) -> int:
        if op.kind in ("loads", "stores"):
            return 1 + op.words
        if op.kind == "load":
            return 1 if self.pipelined and before in ("load", "store") else self.load
        alone = {"store": self.store, "call": self.call, "mla": self.mla, "mull": self.mull,
                 "mlal": self.mlal, "div": self.div, "table": 2}  # fmt: skip
        return alone.get(op.kind, 1)


_V7 = Timing(load=2, store=1, refill=2, pipelined=True)
TIMINGS = {
    "cortex-m0": Timing(load=2, store=2, refill=2, call=2),
    "cortex-m0plus": Timing(load=2, store=2, refill=1, call=2),
    "cortex-m3": replace(_V7, mla=2, mull=5, mlal=7),
    "cortex-m4": _V7,
    "cortex-m33": replace(_V7, div=11),
}
"""By core: Arm's technical reference manuals, multipliers of one cycle on Armv6-M."""
