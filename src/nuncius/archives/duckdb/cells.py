"""Ranges of HEALPix cells as SQL and as tables to join.

DuckDB joins quickest on equal values. So regions become cells of one order, which cover their ranges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nuncius.archives.duckdb.columns import CELL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nuncius.archives.duckdb.verdicts import Parameters

    Integers = NDArray[np.int64]

_MOST_CELLS = 100_000  # of one region, or of many small ones; for more of them, a few for each
_FEW = 16  # ranges that are compared one by one


def joined(index: Integers, low: Integers, high: Integers) -> tuple[Integers, Integers, int]:
    """Turn ranges of order 29 into cells of a lower order that cover them.

    Parameters
    ----------
    index, low, high : array of int, shape (n,)
        Whose range it is, and its bounds.

    Returns
    -------
    index, cell : array of int, shape (m,)
        Each pair once.
    shift : int
        A cell is ``cell29 >> shift``.
    """
    if not len(low):
        return index, low, 0
    most = max(_MOST_CELLS, 2 * len(low))
    shift = max(0, int((high - low).min()).bit_length() - 1) // 2 * 2
    while (((high - 1) >> shift) - (low >> shift) + 1).sum() > most:
        shift += 2
    first = low >> shift
    counts = ((high - 1) >> shift) - first + 1
    begins = np.repeat(np.cumsum(counts) - counts, counts)
    cells = np.repeat(first, counts) + np.arange(len(begins)) - begins
    pairs = np.unique(np.stack([np.repeat(index, counts), cells], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1], shift


def bounds(low: Integers, high: Integers) -> str:
    """Return a condition that holds in all ranges, and which the statistics of the files can serve."""
    if not len(low):
        return "false"
    if len(low) > _FEW:
        low, high = low.min(keepdims=True), high.max(keepdims=True)
    pairs: Any = zip(low.tolist(), high.tolist(), strict=True)
    return "(" + " OR ".join(f"({CELL} >= {first} AND {CELL} < {last})" for first, last in pairs) + ")"


def inside(low: Integers, high: Integers, parameters: Parameters) -> str:
    """Return the condition that a document lies in one of the ranges, or in a cell on the edge of one."""
    if len(low) <= _FEW:
        return bounds(low, high)
    _, cells, shift = joined(np.zeros_like(low), low, high)
    listed = parameters.bind(cells.tolist())
    return f"({bounds(low, high)} AND ({CELL} >> {shift}) IN (SELECT unnest({listed}::BIGINT[])))"
