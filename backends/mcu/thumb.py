"""Thumb machine code, decoded as far as its cycles depend on it: loads, stores, products, jumps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Op:
    """An instruction.

    Attributes:
        kind: ``alu`` (also what is no other kind), ``it``, ``mul``, ``mla``, ``mull``, ``mlal``,
            ``div``, ``load``, ``store``, ``loads``, ``stores`` (several words), ``branch``,
            ``call`` or ``table`` (a branch through a table).
        words: How many words ``loads`` and ``stores`` move.
        long: Whether it takes four bytes.
        jumps: Whether it may go elsewhere than to the next instruction.
    """

    kind: str
    words: int = 0
    long: bool = False
    jumps: bool = False


def decode(code: bytes) -> Iterator[Op]:
    """The instructions of a piece of code, which holds no data."""
    at = 0
    while at < len(code):
        first = int.from_bytes(code[at : at + 2], "little")
        if first >> 11 < 0b11101:
            yield _short(first)
            at += 2
        else:
            yield _long(first, int.from_bytes(code[at + 2 : at + 4], "little"))
            at += 4


_ALU = Op("alu")


def _short(half: int) -> Op:
    top = half >> 12
    if top == 0b0100:
        return _registers(half)
    if top == 0b0101:
        return Op("load" if half >> 9 & 7 >= 3 else "store")
    if top in (0b0110, 0b0111, 0b1000, 0b1001):
        return Op("load" if half & 0x0800 else "store")
    if top == 0b1011:
        return _miscellaneous(half)
    if top == 0b1100:
        return Op("loads" if half & 0x0800 else "stores", _ones(half & 0xFF))
    if (top == 0b1101 and half >> 8 & 15 < 14) or half >> 11 == 0b11100:
        return Op("branch", jumps=True)
    return _ALU


def _registers(half: int) -> Op:
    if half >> 11 == 0b01001:
        return Op("load")
    if half >> 6 == 0b0100001101:
        return Op("mul")
    if half >> 8 == 0b01000111:
        return Op("call" if half & 0x80 else "branch", jumps=True)
    to = half & 7 | half >> 4 & 8
    moves = half >> 8 in (0b01000100, 0b01000110)  # add and mov of any registers
    return Op("branch", jumps=True) if moves and to == 15 else _ALU


def _miscellaneous(half: int) -> Op:
    if half >> 9 == 0b1011010:
        return Op("stores", _ones(half & 0x1FF))
    if half >> 9 == 0b1011110:
        return Op("loads", _ones(half & 0x1FF), jumps=bool(half & 0x100))
    if half & 0xF500 == 0xB100:
        return Op("branch", jumps=True)
    return Op("it") if half >> 8 == 0xBF and half & 15 else _ALU


def _long(first: int, second: int) -> Op:
    group, op = first >> 11 & 3, first >> 4 & 0x7F
    if group == 1 and not op & 0x40:
        return Op("alu", long=True) if op & 0x20 else _multiple(first, second, op)
    if group == 2 and second & 0x8000:
        return _branch(first, second)
    if group == 3 and not op & 0x40:
        return _single(first, second, op)
    return Op("alu", long=True)  # also all of the coprocessors


def _multiple(first: int, second: int, op: int) -> Op:
    loads = bool(op & 1)
    if not op & 4:
        jumps = loads and bool(second & 0x8000)
        return Op("loads" if loads else "stores", _ones(second), long=True, jumps=jumps)
    if first >> 4 == 0xE8D and second >> 8 == 0xF0 and second >> 4 & 0xE == 0:
        return Op("table", long=True, jumps=True)
    if op & 0x12:  # two words; the others are exclusive
        return Op("loads" if loads else "stores", 2, long=True)
    return Op("load" if loads else "store", long=True)


def _branch(first: int, second: int) -> Op:
    if second & 0x4000:
        return Op("call", long=True, jumps=True)
    conditional = not second & 0x1000
    if conditional and first >> 6 & 0xE == 0xE:
        return Op("alu", long=True)  # barriers and special registers
    return Op("branch", long=True, jumps=True)


def _single(first: int, second: int, op: int) -> Op:
    if not op & 0x20:
        if not op & 0x10 or op & 1:
            load = bool(op & 1)
            jumps = load and op & 6 == 4 and second >> 12 == 15
            return Op("load" if load else "store", long=True, jumps=jumps)
        return Op("alu", long=True)
    if not op & 0x10:
        return Op("alu", long=True)
    return _product(second, op)


def _product(second: int, op: int) -> Op:
    if not op & 8:
        return Op("mul" if second >> 12 == 15 else "mla", long=True)
    if second >> 4 & 15 == 15:
        return Op("div", long=True)
    return Op("mlal" if op & 4 else "mull", long=True)


def _ones(bits: int) -> int:
    return bin(bits).count("1")
