"""Sparse weights of both signs as two matrices, one for each sign, where that takes less memory.

Of one sign a mantissa needs a bit less. Where every input only excites or only inhibits, as in
networks that keep to Dale's principle, two matrices have no more axons than one. The integers are
the same, so nothing is to be searched; what takes a plan is the bit that a second matrix gains.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qspinn.fixed import IntArray

from .synapses import Synapse
from .synmem import Row, loihi1_row, loihi2_row
from .unroll import Sparse
from .weights import Packed, pack


def slimmer(synapse: Synapse) -> Synapse:
    """The synapses split by sign, if they have no more axons then and take fewer words.

    Counted is one slice of all neurons: fewer words on Loihi 2, and no more on Loihi 1.
    """
    form, one = synapse.form, synapse.packed[0]
    if not isinstance(form, Sparse) or len(synapse.packed) > 1 or synapse.drop:
        return synapse
    if one.mode != "MIXED":
        return synapse
    two = pack(np.maximum(form.values, 0)), pack(np.minimum(form.values, 0))
    if sum(_axons(form, part).size for part in two) > _axons(form, one).size:
        return synapse

    def saved(row: Row) -> int:
        return _words(synapse, form, one, row) - sum(_words(synapse, form, p, row) for p in two)

    return replace(synapse, packed=two) if saved(loihi2_row) > 0 <= saved(loihi1_row) else synapse


def entries(packed: Packed) -> IntArray:
    """Which entries of a sparse matrix a part of its weights has: at least one."""
    found = np.flatnonzero(packed.mantissa)
    return found if found.size else np.zeros(1, np.int64)


def most_parts(form: Sparse, parts: tuple[Packed, ...]) -> int:
    """How many of the parts an input has synapses in, at most."""
    reached = np.zeros(form.shape[1], np.int64)
    for part in parts:
        reached[np.unique(form.columns[entries(part)])] += 1
    return int(reached.max())


def _axons(form: Sparse, part: Packed) -> IntArray:
    """The synapses of each input that has some."""
    counts = np.bincount(form.columns[entries(part)])
    return counts[counts > 0]


def _words(synapse: Synapse, form: Sparse, part: Packed, row: Row) -> int:
    return int(row(_axons(form, part), part.bits, synapse.lag, form.shape[0]).sum())
