"""Adam (Kingma & Ba, ICLR 2015) on arrays, each with a rate of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qspinn.fixed import FloatArray

_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-12


class Adam:
    """What is remembered of the gradients between updates.

    Args:
        rates: About how far an update moves a value, by the arrays' names.
    """

    def __init__(self, rates: Mapping[str, float]) -> None:
        self.rates = rates
        self.mean = dict.fromkeys(rates, np.zeros(()))
        self.square = dict.fromkeys(rates, np.zeros(()))
        self.count = 0

    def step(self, gradients: Mapping[str, FloatArray], share: float) -> dict[str, FloatArray]:
        """What to add to the arrays that have a gradient; ``share`` scales every rate."""
        self.count += 1
        moves: dict[str, FloatArray] = {}
        for name, gradient in gradients.items():
            mean = self.mean[name] = _FIRST * self.mean[name] + (1 - _FIRST) * gradient
            square = self.square[name] = (
                _SECOND * self.square[name] + (1 - _SECOND) * gradient * gradient
            )
            deviation = np.sqrt(square / (1 - _SECOND**self.count)) + _TINY
            moves[name] = -self.rates[name] * share * mean / (1 - _FIRST**self.count) / deviation
        return moves
