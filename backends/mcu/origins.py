"""Whose events an array holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """Whose events an array holds, for estimates of how many there are.

    Attributes:
        node: The input or the neurons that sent them; empty: nobody counts them.
        window: How many of their elements make one of the array, where a pool stands between.
        delay: How many steps later they arrive.
    """

    node: str
    window: int = 1
    delay: int = 0
