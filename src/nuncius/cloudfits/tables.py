"""Rows and columns of remote tables, from the bytes of these rows and nothing else.

Where a row is follows from the header alone. The rows are read, then what their columns of variable length point at, and of
both a small FITS file is made in memory that astropy reads: so what the columns mean is astropy's own, and the values are
those of ``Table.read(file, hdu=k)[start:stop]``. A column is a `MaskedColumn` if it has TNULL, or if a value *among the rows
that are read* is missing (NaN, or an empty string).

In some cases astropy's own values are wrong or missing, and these here follow the FITS Standard (4.0, 7.2.2, 7.2.4 and
7.3.2): TNULL of columns that are scaled, of columns of variable length, and of ASCII tables; TSCAL and TZERO of columns of
variable length, of complex ones, and of integers of 64 bits; a last column that is longer than its TDIM says; columns of no
width and without names; text between the columns of ASCII tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nuncius._core.operations import Call
from nuncius.cloudfits import blocks
from nuncius.cloudfits.heap import read_heap, read_together
from nuncius.cloudfits.ranges import MERGE_GAP
from nuncius.cloudfits.table_header import (
    PRIMARY,
    TableColumn,
    failures,
    layout_of,
    open_rows,
    part_of_header,
    table_columns,
    table_dtype,
)
from nuncius.cloudfits.table_values import blank_nulls, correct, is_own
from nuncius.errors import FitsError, TruncatedFitsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from astropy.table import Table
    from numpy.typing import NDArray

    from nuncius._core.operations import Operation
    from nuncius.cloudfits.hdu import HduDescription
    from nuncius.cloudfits.ranges import Reader
    from nuncius.cloudfits.table_header import Field, Layout

__all__ = ["TableColumn", "read_columns", "read_rows", "row_range", "table_columns", "table_dtype"]

_MOST_EMPTY_ROWS = 1_000_000  # rows of no bytes, which a header can claim for nothing


def row_range(rows: Any, count: int) -> range | NDArray[np.int64]:
    """Return the numbers of the rows that are meant.

    Parameters
    ----------
    rows : None, int, slice, sequence of int, or sequence of bool
        All; one; from one to before another; these, in this order; or those that are true. Negative numbers count from the
        end.
    count : int
        How many rows the table has.

    Raises
    ------
    IndexError
        If there is no such row, or it is something else.

    Examples
    --------
    >>> row_range(slice(-3, None), 10)
    range(7, 10)
    >>> row_range([0, -1], 10)
    array([0, 9])
    """
    import numpy as np

    if rows is None:
        return range(count)
    if isinstance(rows, slice):
        return range(*rows.indices(count))
    if isinstance(rows, range):
        rows = np.arange(rows.start, rows.stop, rows.step)
    given = np.asarray(rows)
    if not given.size:
        return range(0)
    if given.dtype == bool and given.shape == (count,):
        return np.flatnonzero(given).astype(np.int64)
    if given.ndim > 1 or not np.issubdtype(given.dtype, np.integer):
        raise IndexError(
            f"rows= takes a number, a slice, a list of numbers, or {count:,} truth values, "
            f"not {given.dtype} of shape {given.shape}"
        )
    lowest, highest = int(given.min()), int(given.max())
    if lowest < -count or highest >= count:
        raise IndexError(
            f"there is no row {highest if highest >= count else lowest:,}: the table has {count:,}"
        )
    numbers = given.astype(np.int64)
    return np.atleast_1d(np.where(numbers < 0, numbers + count, numbers))


def read_rows(
    reader: Reader, hdu: HduDescription, start: int, stop: int, names: str | Sequence[str] | None = None
) -> Operation[Table]:
    """Read the rows from `start` to before `stop` of a table.

    Parameters
    ----------
    reader : Reader
        The file.
    hdu : HduDescription
        A binary or an ASCII table.
    start, stop : int
        Counted from 0.
    names : str or sequence of str, optional
        Some columns only, in any case. They are as they stand in the file: what astropy puts together from several columns
        (such as `SkyCoord`) is so only where all columns are read.

    Returns
    -------
    astropy.table.Table
        Of ``stop - start`` rows, with units, formats and the header in `meta`, as from `Table.read`.

    Raises
    ------
    NotFoundError
        If there is no such column.
    FitsError
        If the header or a descriptor can't be true.
    TruncatedFitsError
        If the file ends before these rows do.
    UnsupportedError
        If the HDU is no table, or compressed by tiles, or the rows are more than 4 GiB.
    """
    return (yield from read_columns(reader, hdu, names, slice(start, stop)))


def read_columns(
    reader: Reader, hdu: HduDescription, names: str | Sequence[str] | None, rows: Any = None
) -> Operation[Table]:
    """Read some columns of a table; see `read_rows`.

    Only where columns lie further apart than 64 KiB what is between them is left out: else a request costs more.

    Parameters
    ----------
    reader, hdu, names
        See `read_rows`.
    rows : optional
        See `row_range`; all by default.
    """
    layout: Layout = yield Call(layout_of, (hdu,))
    fields = layout.choose(names)
    chosen = row_range(rows, layout.rows if layout.row_bytes or fields else 0)
    block = yield from _read_block(reader, layout, fields, chosen)
    part = _Part(layout, fields, chosen, names is not None)
    stored: NDArray[np.uint8] = yield Call(_pack, (part, block))
    heap = None
    if variable := [(field, place) for field, place in part.places() if field.descriptor]:
        cells = [(field, _descriptors(stored, field, place)) for field, place in variable]
        heap = yield from read_heap(reader, layout, cells, chosen)
    return (yield Call(_table, (part, stored, heap)))


class _Part(NamedTuple):
    """What is read of a table."""

    layout: Layout
    fields: tuple[Field, ...]
    rows: range | NDArray[np.int64]
    by_name: bool

    def places(self) -> list[tuple[Field, int]]:
        """Return where each column begins in a row as astropy reads it: one after the other."""
        places, at = [], 0
        for field in self.fields:
            places.append((field, at))
            at += field.slot
        return places

    @property
    def row_bytes(self) -> int:
        """How many bytes such a row has: up to the last value, because astropy lets it end there."""
        if not self.fields:
            return 0
        last, at = self.places()[-1]
        return at + (last.used if last.slot == last.width else last.slot)


class _Block(NamedTuple):
    """The bytes of columns that lie together, of all rows that are read: shape (rows, bytes)."""

    offset: int
    data: NDArray[np.uint8]


def _read_block(
    reader: Reader, layout: Layout, fields: Sequence[Field], rows: range | NDArray[np.int64]
) -> Operation[list[_Block]]:
    """Read the columns of these rows."""
    import numpy as np

    spans = _spans(fields)
    length, base = layout.row_bytes, layout.hdu.data_offset
    count = _checked_count(reader, layout, rows)
    if not count or not spans:
        return []
    low, high = spans[0][0], spans[-1][1]
    if isinstance(rows, range) and rows.step == 1 and len(spans) == 1 and length - (high - low) <= MERGE_GAP:
        first, last = base + rows[0] * length + low, base + rows[-1] * length + high
        data, _ = yield from read_together(reader, np.array([first]), np.array([last]))
        return [
            _Block(
                low, np.lib.stride_tricks.as_strided(data, (count, high - low), (length, 1), writeable=False)
            )
        ]
    numbers = np.asarray(rows, dtype=np.int64)
    lows, highs = (np.array(side, dtype=np.int64) for side in zip(*spans, strict=True))
    starts = base + numbers * length + lows[:, None]
    ends = starts + (highs - lows)[:, None]
    data, places = yield from read_together(reader, starts.ravel(), ends.ravel())
    found: list[_Block] = yield Call(_gathered, (data, places.reshape(starts.shape), spans))
    return found


def _gathered(
    data: NDArray[np.uint8], places: NDArray[np.int64], spans: list[tuple[int, int]]
) -> list[_Block]:
    """Return the rows that begin at places in what was read, one after the other."""
    import numpy as np

    return [
        _Block(low, np.lib.stride_tricks.sliding_window_view(data, high - low)[places[number]])
        for number, (low, high) in enumerate(spans)
    ]


def _spans(fields: Sequence[Field]) -> list[tuple[int, int]]:
    """Return the parts of a row that hold the columns: what lies between two of them is longer than a request is dear."""
    spans: list[tuple[int, int]] = []
    for low, width in sorted((field.offset, field.width) for field in fields if field.width):
        if spans and low - spans[-1][1] <= MERGE_GAP:
            spans[-1] = (spans[-1][0], max(spans[-1][1], low + width))
        else:
            spans.append((low, low + width))
    return spans


def _checked_count(reader: Reader, layout: Layout, rows: range | NDArray[np.int64]) -> int:
    """Return how many rows there are, before anything is made whose size a header tells."""
    if isinstance(rows, range):
        last = max(rows[0], rows[-1]) if rows else -1
    else:
        last = int(rows.max()) if len(rows) else -1
    end = layout.hdu.data_offset + (last + 1) * layout.row_bytes
    if end > reader.size:
        where = f"HDU {layout.hdu.index}"
        raise TruncatedFitsError(
            f"{layout.hdu.url} ends at byte {reader.size:,}, and row {last:,} of the table in {where} would end at byte "
            f"{end:,}: the file was cut when it was written or copied, or its header claims too much",
            url=layout.hdu.url,
            position=where,
        )
    if not layout.row_bytes and last >= _MOST_EMPTY_ROWS:
        raise layout.error(f"it has {last + 1:,} rows of no bytes")
    return len(rows)


def _pack(part: _Part, block: list[_Block]) -> NDArray[np.uint8]:
    """Return the rows as astropy shall read them, shape (rows, bytes), as a new array where it will be changed."""
    import numpy as np

    places, length = part.places(), part.row_bytes
    changed = part.layout.ascii or any(field.descriptor for field in part.fields)
    alike = all(
        field.slot == field.width and field.offset - places[0][0].offset == at for field, at in places
    )
    if len(block) == 1 and alike and not changed:
        return np.ascontiguousarray(block[0].data[:, :length])
    stored = np.zeros((len(part.rows), length), dtype=np.uint8)
    for field, at in places:
        for offset, data in block:
            inside = field.offset - offset
            if field.width and 0 <= inside < data.shape[1]:
                width = min(field.width, length - at)
                stored[:, at : at + width] = data[:, inside : inside + width]
    return stored


def _descriptors(stored: NDArray[np.uint8], field: Field, place: int) -> NDArray[Any]:
    """Return a view of the descriptors of a column, shape (rows, 2)."""
    import numpy as np

    # A view of one field of the rows: descriptors are not aligned, and a slice of bytes can't be viewed as numbers.
    kind = ">i4" if field.descriptor == "P" else ">i8"
    rows = stored.view(
        np.dtype({"names": ["at"], "formats": [(kind, 2)], "offsets": [place], "itemsize": stored.shape[1]})
    )
    view: NDArray[Any] = rows["at"].reshape(len(stored), 2)
    return view


def _table(part: _Part, stored: NDArray[np.uint8], heap: NDArray[np.uint8] | None) -> Table:
    """Return the rows as a table, read by astropy from a FITS file in memory."""
    from astropy.table import Table

    layout, count = part.layout, len(stored)
    own = [] if layout.ascii else [field for field in part.fields if is_own(field)]
    nulls = blank_nulls(part.places(), stored) if layout.ascii else {}
    try:
        plain = part.by_name or bool(own)
        opened = open_rows(_file(part, stored, b"" if heap is None else heap, plain=plain))
        found = (
            opened.header["NAXIS1"],
            opened.header["NAXIS2"],
            len(opened.columns),
            "THEAP" in opened.header,
        )
        if found != (part.row_bytes, max(count, layout.ascii), len(part.fields), False):
            raise layout.error("its header has keywords that can be understood in two ways")
        table = Table.read(opened, format="fits")
        table = table if len(table) <= count else table[:count]
        correct(table, own, nulls)
    except failures() as error:
        if isinstance(error, FitsError):
            raise
        raise layout.error(f"astropy can't read {count:,} rows of it: {error}") from error
    return table


def _file(part: _Part, stored: NDArray[np.uint8], heap: Any, *, plain: bool) -> bytes:
    """Return a FITS file of these rows."""
    ascii_table, length = part.layout.ascii, part.row_bytes
    # astropy can't read an ASCII table without rows.
    rows = b" " * length if ascii_table and not len(stored) else stored.reshape(-1).data
    changes: dict[str, str | int | None] = {"THEAP": None}
    for number, (field, at) in enumerate(part.places(), 1):
        if ascii_table:
            changes |= {f"TBCOL{number}": at + 1, f"TNULL{number}": None}
        elif is_own(field):
            changes |= dict.fromkeys((f"TSCAL{number}", f"TZERO{number}", f"TNULL{number}"))
        if field.slot != field.width:
            changes |= {f"TFORM{number}": f"{field.slot}A", f"TDIM{number}": None}
    header = part_of_header(
        part.layout.hdu.raw,
        part.fields if part.by_name else None,
        values={
            "NAXIS1": length,
            "NAXIS2": max(len(stored), ascii_table),
            "PCOUNT": len(heap),
            "TFIELDS": len(part.fields),
        },
        changes=changes,
        plain=plain,
    )
    size = len(rows) + len(heap)
    return b"".join((PRIMARY, header, rows, heap, bytes(blocks.padded(size) - size)))
