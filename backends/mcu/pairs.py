"""Values that share a 32-bit word: membranes of two neurons, or the counts of four."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspinn.ir import Array


@dataclass(frozen=True, slots=True)
class Pairs:
    """A value in each half of a word, the first in the low one, stored plus an offset mod 2^16.

    Attributes:
        offset: What is added to a value.
    """

    offset: int

    @property
    def name(self) -> str:
        """As functions that read one are called."""
        return "pair"

    @property
    def bits(self) -> str:
        """As the function that writes one is called."""
        return "pair"

    @staticmethod
    def length(count: int) -> int:
        """The words that ``count`` values take."""
        return -(-count // 2)

    @property
    def shift(self) -> int:
        """What is added to a stored half, mod 2^16, to get the value plus 2^15."""
        return (0x8000 - self.offset) & 0xFFFF

    def read(self, words: str, index: str, prefix: str) -> str:
        """C for a value."""
        half = f"{prefix}_get_pair({words}, {index})"
        if self.shift:
            half = f"((({half}) + {self.shift}u) & 65535u)"
        return f"((int32_t){half} - 32768)"

    def put(self, words: str, index: str, code: str, prefix: str) -> str:
        """C that writes a value."""
        return f"{prefix}_put_pair({words}, {index}, (uint32_t)({code}) + {self.offset}u);"

    def word(self, value: int) -> str:
        """C for a word that holds a value twice."""
        return f"0x{((value + self.offset) & 0xFFFF) * 0x10001:08X}u"

    def unpacked(self, stored: Array, count: int) -> Array:
        """The first ``count`` values of words (..., words)."""
        halves = stored[..., :, None].astype(np.int64) >> np.array([0, 16])
        held: Array = halves.reshape(*stored.shape[:-1], -1)[..., :count]
        values: Array = ((held + self.shift) & 0xFFFF) - 0x8000
        return values


def word(lane: int) -> str:
    """C for a word with ``lane`` in both halves, as far as carries do not matter."""
    return f"0x{lane * 0x10001 & 0xFFFFFFFF:08X}u"


class InPairs:
    """Neurons of whose membranes a word holds two, each plus ``stored``."""

    __slots__ = ()
    stored: int

    @property
    def held(self) -> Pairs:
        """How membranes lie in words."""
        return Pairs(self.stored)

    @staticmethod
    def code(lane: int) -> str:
        """C for a word with a value in both halves."""
        return word(lane)


@dataclass(frozen=True, slots=True)
class Fours:
    """A value in each byte of a word, in the order of addresses."""

    name = "four"
    bits = "four"

    @staticmethod
    def length(count: int) -> int:
        """The words that ``count`` values take."""
        return -(-count // 4)

    def read(self, words: str, index: str, prefix: str) -> str:
        """C for a value."""
        return f"((const uint8_t *){words})[{index}]"

    def put(self, words: str, index: str, code: str, prefix: str) -> str:
        """C that writes a value."""
        return f"((uint8_t *){words})[{index}] = (uint8_t){code};"

    def unpacked(self, stored: Array, count: int) -> Array:
        """The first ``count`` values of words (..., words)."""
        held = stored[..., :, None].astype(np.int64) >> np.array([0, 8, 16, 24]) & 0xFF
        values: Array = held.reshape(*stored.shape[:-1], -1)[..., :count]
        return values


@dataclass(frozen=True, slots=True)
class Quads:
    """A byte each of a word, plus an offset: the first two are every second byte, as lanes.

    Attributes:
        offset: What is added to a value.
    """

    offset: int

    name = "quad"
    bits = "quad"

    @staticmethod
    def length(count: int) -> int:
        """The words that ``count`` values take."""
        return -(-count // 4)

    def read(self, words: str, index: str, prefix: str) -> str:
        """C for a value."""
        return f"((int32_t){prefix}_get_quad({words}, {index}) - {self.offset})"

    def put(self, words: str, index: str, code: str, prefix: str) -> str:
        """C that writes a value."""
        return f"{prefix}_put_quad({words}, {index}, (uint32_t)({code}) + {self.offset}u);"

    def word(self, value: int) -> str:
        """C for a word that holds a value four times."""
        return f"0x{((value + self.offset) & 0xFF) * 0x01010101:08X}u"

    def unpacked(self, stored: Array, count: int) -> Array:
        """The first ``count`` values of words (..., words)."""
        held = stored[..., :, None].astype(np.int64) >> np.array([0, 16, 8, 24]) & 0xFF
        values: Array = held.reshape(*stored.shape[:-1], -1)[..., :count] - self.offset
        return values
