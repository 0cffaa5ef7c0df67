"""The heap of a table: where the cells of columns of variable length are (FITS 4.0, 7.3.5).

A cell holds a descriptor: how many elements, and where they begin in the heap. Of the heap only what the rows at hand point
at is read, and their descriptors are rewritten to the smaller heap that this makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.cloudfits.ranges import MOST_BYTES
from nuncius.cloudfits.table_header import ELEMENT_BYTES, MOST
from nuncius.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from nuncius._core.operations import Operation
    from nuncius.cloudfits.ranges import Reader
    from nuncius.cloudfits.table_header import Field, Layout


def read_together(
    reader: Reader, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Operation[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Read ranges of bytes that may overlap, in any order.

    Returns
    -------
    joined : array of uint8
        All that was read; gaps that cost less than a request are in it.
    places : array of int, shape (n,)
        Where each range begins in it. An empty range has none.
    """
    pieces = yield from reader.read(starts, ends)
    return pieces.joined(starts)


def read_heap(
    reader: Reader,
    layout: Layout,
    cells: Sequence[tuple[Field, NDArray[Any]]],
    rows: range | NDArray[np.int64],
) -> Operation[NDArray[np.uint8]]:
    """Read what descriptors point at, and let them point at where it is in the result.

    Parameters
    ----------
    reader : Reader
        The file.
    layout : Layout
        The table.
    cells : sequence of (Field, array of big-endian int, shape (n, 2))
        The descriptors of each column of variable length; changed in place.
    rows : range or array of int
        The numbers of the rows, for messages.

    Raises
    ------
    FitsError
        If a descriptor points out of the heap.
    UnsupportedError
        If it is more than 4 GiB, or that many elements by sharing.
    """
    import numpy as np

    begin, size = _place(layout)
    ranges = [_ranges(layout, field, pairs, size, rows) for field, pairs in cells]
    total = sum(float(lengths.sum(dtype=np.float64)) for _, lengths in ranges)
    if total > MOST_BYTES:
        raise UnsupportedError(
            f"the cells of these rows have {total / 2**30:,.1f} GiB (HDU {layout.hdu.index} of {layout.hdu.url}); "
            "ask for fewer rows at a time",
            url=layout.hdu.url,
        )
    starts = np.concatenate([offsets for offsets, _ in ranges]) + begin
    ends = starts + np.concatenate([lengths for _, lengths in ranges])
    heap, places = yield from read_together(reader, starts, ends)
    for number, (_, pairs) in enumerate(cells):
        count = len(pairs)
        pairs[:, 1] = np.where(pairs[:, 0] > 0, places[number * count : (number + 1) * count], 0)
    return heap


def _place(layout: Layout) -> tuple[int, int]:
    """Return where the heap begins in the file, and its size in bytes."""
    rows_bytes = layout.row_bytes * layout.rows
    after = rows_bytes + layout.hdu.structure.pcount
    begin = rows_bytes if layout.theap is None else layout.theap
    if isinstance(begin, bool) or not isinstance(begin, int) or not rows_bytes <= begin <= after <= MOST:
        raise layout.error(
            f"THEAP is {begin}; the heap lies between byte {rows_bytes:,} and byte {after:,} of the data (PCOUNT)"
        )
    return layout.hdu.data_offset + begin, after - begin


def _ranges(
    layout: Layout, field: Field, pairs: NDArray[Any], size: int, rows: range | NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets and lengths in bytes that descriptors give, after looking whether they can be true."""
    import numpy as np

    counts, offsets = pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)
    element = ELEMENT_BYTES[field.code]
    # In this order nothing overflows, whatever the numbers are.
    bad = (counts < 0) | (counts > size // element)
    lengths = np.where(bad, 0, counts) * element
    bad |= (counts > 0) & ((offsets < 0) | (offsets > size - lengths))
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise layout.error(
            f"in row {rows[at]:,}, column {field.column.name!r} has {counts[at]:,} elements at byte {offsets[at]:,} of a "
            f"heap of {size:,} bytes"
        )
    return np.where(counts > 0, offsets, 0), lengths
