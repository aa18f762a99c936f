"""Weights of both signs as two sparse matrices, one for each sign, where that takes less memory.

Of one sign a mantissa needs a bit less. Where every input only excites or only inhibits, as in
networks that keep to Dale's principle, two matrices have no more axons than one. The integers are
the same, so nothing is to be searched; what takes a plan is the bit that a second matrix gains.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qspinn.fixed import IntArray

from .synapses import SMALL, Synapse
from .synmem import Row, loihi1_row, loihi2_row
from .unroll import Sparse, from_dense
from .weights import Packed, pack


def slimmer(synapse: Synapse) -> Synapse:
    """The synapses split by sign, if they have no more axons then and take fewer words.

    Counted is one slice of all neurons: fewer words on Loihi 2, and no more on Loihi 1.
    """
    form, one = synapse.form, synapse.packed[0]
    if len(synapse.packed) > 1 or synapse.drop or one.mode != "MIXED":
        return synapse
    if not isinstance(form, Sparse) and not (isinstance(form, np.ndarray) and form.size > SMALL):
        return synapse
    if _both(form):
        return synapse  # such an input would take two axons, and a neuron twice its output axons
    # Two dense matrices are no choice: both store the zeros of the other sign, and on Loihi 2 even
    # twice the least 1 + 12 bits of a synapse are more than the most, 8 + 12, of one matrix.
    apart = form if isinstance(form, Sparse) else from_dense(form)
    two = pack(np.maximum(apart.values, 0)), pack(np.minimum(apart.values, 0))

    def saved(row: Row) -> int:
        outs, ins = apart.shape
        if isinstance(form, Sparse):
            before = _words(synapse, form, one, row)
        else:
            before = ins * int(row(outs, one.bits, synapse.lag, 0))
        return before - sum(_words(synapse, apart, part, row) for part in two)

    if saved(loihi2_row) > 0 <= saved(loihi1_row):
        return replace(synapse, form=apart, packed=two)
    return synapse


def _both(form: Sparse | IntArray) -> bool:
    """Whether an input has synapses of both signs."""
    if isinstance(form, Sparse):
        up, down = (form.columns[form.values > 0], form.columns[form.values < 0])
        return bool(np.intersect1d(up, down).size)
    return bool(((form > 0).any(0) & (form < 0).any(0)).any())


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
