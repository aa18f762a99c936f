"""What it takes to find the spikes in words of bits: the loop of stages/macros.j2, on average."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from .layout import WORD_BITS

_WINDOW = 4
"""Bits that the loop skips at once where all are 0."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Expected counts of one scan.

    Attributes:
        words: Words looked at.
        busy: Words with a spike.
        turns: Turns of the loop over bits.
        skips: Windows of zeros passed over.
        spikes: Spikes found.
    """

    words: float
    busy: float
    turns: float
    skips: float
    spikes: float


def scan(size: int, rate: float) -> Scan:
    """The expected counts for ``size`` bits that are set independently with probability ``rate``.

    Args:
        size: The number of bits; they lie in words of 32, the last filled up with zeros.
        rate: From 0 to 1.
    """
    whole, rest = divmod(size, WORD_BITS)
    parts = [(whole, _word(WORD_BITS, rate))] + ([(1, _word(rest, rate))] if rest else [])
    busy, turns, skips = (sum(n * word[k] for n, word in parts) for k in range(3))
    return Scan(whole + bool(rest), busy, turns, skips, size * rate)


@lru_cache(maxsize=4096)
def _word(bits: int, rate: float) -> tuple[float, float, float]:
    """Of a word: the chance that it has a spike, and expected turns and skips.

    A Markov chain over the position and the next four bits. Bits beyond those were not looked at
    and are independent, so that it does not matter for a turn whether the loop has ended before.
    """
    windows = range(1 << _WINDOW)
    fresh = [_chance(w, rate) for w in windows]
    chances: list[list[float]] = [[0.0] * len(windows) for _ in range(bits + _WINDOW + 1)]
    chances[0] = _cut(fresh, bits)
    turns = skips = 0.0
    for at in range(bits):
        left = bits - at - _WINDOW
        for window, chance in enumerate(chances[at]):
            if not chance:
                continue
            if window == 0:
                skips += chance * (1.0 - (1.0 - rate) ** max(left, 0))
                for w, p in enumerate(_cut(fresh, left)):
                    chances[at + _WINDOW][w] += chance * p
                continue
            turns += chance
            one = rate if left > 0 else 0.0
            chances[at + 1][window >> 1] += chance * (1.0 - one)
            chances[at + 1][window >> 1 | 1 << _WINDOW - 1] += chance * one
    return 1.0 - (1.0 - rate) ** bits, turns, skips


def _chance(window: int, rate: float) -> float:
    ones = window.bit_count()
    return float(rate**ones * (1.0 - rate) ** (_WINDOW - ones))


def _cut(fresh: list[float], bits: int) -> list[float]:
    """The chances of windows of which only the first ``bits`` can be set."""
    if bits >= _WINDOW:
        return fresh
    kept = [0.0] * len(fresh)
    for window, chance in enumerate(fresh):
        kept[window & (1 << max(bits, 0)) - 1] += chance
    return kept
