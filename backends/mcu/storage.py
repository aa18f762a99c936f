"""Which form of storage takes the fewest bytes for rows of weights."""

from __future__ import annotations

import numpy as np

from qspinn.ir import Array

from .kept import FOUND, index_bytes, size, worth_dropping
from .layout import rows_for
from .sparse import Sparse, smallest
from .tileforms import form_for

_CODE = 64
"""About what code for rows of few weights takes, in bytes, beside that of other rows."""

_SHARE = 0.5
_LEAST = 2048


def worth_tiles(values: Array) -> bool:
    """Whether rows ``values`` of a dense layer are stored in tiles, which are added the fastest.

    They are, unless another form takes less than half of their bytes, and 2 KiB less.
    """
    form = form_for(values)
    if form is None:
        return False
    kept = worth_dropping(values)
    tiles = form.size(len(values) if kept is None else int(kept.sum()), values.shape[1])
    least = bytes_of(values, *stored_as(values, droppable=True))
    return least >= _SHARE * tiles or tiles - least < _LEAST


def bytes_of(values: Array, kept: Array | None, sparse: Sparse | None) -> int:
    """What rows take in the form that `stored_as` found, with what finds them."""
    stored = values if kept is None else values[kept]
    rows = size(rows_for(stored), len(stored)) if sparse is None else sparse.bytes
    return rows + (0 if kept is None else index_bytes(kept))


def stored_as(values: Array, *, droppable: bool) -> tuple[Array | None, Sparse | None]:
    """How rows ``values`` (rows, weights in a row) are stored in the fewest bytes.

    Args:
        values: The weights, not all equal.
        droppable: Whether rows of zeros may be left out.

    Returns:
        Which rows are stored, as booleans, where not all are; and those in a code for few weights,
        or None where every weight of them is stored.
    """
    kept = worth_dropping(values) if droppable else None
    dense = values if kept is None else values[kept]
    least = size(rows_for(dense), len(dense)) + (0 if kept is None else index_bytes(kept) + FOUND)
    found = smallest(values)
    chosen: tuple[Array | None, Sparse | None] = kept, None
    if found is not None and found.bytes + _CODE < least:
        chosen, least = (None, found), found.bytes + _CODE
    some: Array = np.any(values != 0, axis=1)
    if droppable and not some.all():
        found = smallest(values[some])
        if found is not None and found.bytes + index_bytes(some) + FOUND + _CODE < least:
            chosen = some, found
    return chosen
