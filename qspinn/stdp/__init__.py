"""Unsupervised networks that learn by spike timing (STDP), in real numbers or under a plan."""

from qspinn.stdp.learning import Learned, counts, learn
from qspinn.stdp.recipe import Recipe

__all__ = ["Learned", "Recipe", "counts", "learn"]
