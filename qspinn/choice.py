"""What is asked of a plan's paths before any number is chosen: widths, forms and roundings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qspinn.fixed import Rounding


@dataclass(frozen=True, slots=True)
class Choice:
    """What is asked of one path; what is left open follows the target's default.

    Attributes:
        bits: The width of the format.
        form: Of weights ``binary`` (two values, -1 and 1 times a scale) or ``ternary`` (-1, 0, 1);
            of a decay ``fixed`` or ``leak``; of a scale the method (see `planning.METHODS`).
        rounding: Of a constant, offline; of a state or a decay, of its stores or products.
        group: Of a scale: ``layer`` or ``channel``.
        share: Of ``input.active``: what the inputs kept contribute to all current, at least;
            1: every input that was ever active.
    """

    bits: int | None = None
    form: str = ""
    rounding: Rounding | None = None
    group: str = ""
    share: float | None = None


Choices = Mapping[str, Choice]
"""By plan path: ``fc1.weight``, ``lif1.v``, ``lif1.decay``, ``lif1.scale``, ``input.active``."""
