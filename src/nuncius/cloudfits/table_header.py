"""The header of a table: what its columns are, and the header of a part of it.

What columns mean is astropy's affair: it is shown the header of a table without rows. Only the places of the columns in a
row are taken from that, and the few cards that change when a table has fewer rows or columns.
"""

from __future__ import annotations

import difflib
import functools
import io
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from nuncius.cloudfits import blocks
from nuncius.errors import ConfigurationError, FitsError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from nuncius.cloudfits.hdu import HduDescription

MOST_COLUMNS = 999  # FITS 4.0, 7.3.1
MOST = 1 << 62  # of bytes or rows: sums of two such numbers still have 63 bits
ELEMENT_BYTES = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16}

_VARIABLE = re.compile(r"1?([PQ])([LBIJKAEDCM])")
_CODE = re.compile(r"\d*([LXBIJKAEDCM])")
_SIGN_BITS = {"I": 1 << 15, "J": 1 << 31, "K": 1 << 63}

# Keywords that belong to a column by the number in them: FITS 4.0, tables 18 and 22, and what catalogues add.
_OF_COLUMN = re.compile(
    r"(TTYPE|TFORM|TUNIT|TNULL|TSCAL|TZERO|TDISP|TBCOL|TDIM|TDMIN|TDMAX|TLMIN|TLMAX|TRPOS|TUCD|TUTYP|TCOMM|TDESC"
    r"|TCTYP|TCUNI|TCRPX|TCRVL|TCDLT|TCROT|TCTY|TCUN|TCRP|TCRV|TCDE|TCNA|TCRD|TCSY|TWCS"
    r"|\d{1,2}(?:CTYP|CUNI|CRPX|CRVL|CDLT|CROT|CTY|CUN|CRP|CRV|CDE|CNA|CRD|CSY)|\d\d(?:PC|CD)|WCAX|WCSN)"
    r"(\d{1,3})([A-Z]?)"
)
_OF_PARAMETER = re.compile(r"(TPV|TPS|TV|TS)(\d{1,3})(_\d{1,2}[A-Z]?)")
_OF_TWO_COLUMNS = re.compile(r"(TPC|TCD|TP|TC)(\d{1,3})_(\d{1,3})([A-Z]?)")

_PRIMARY = "".join(
    card.ljust(blocks.CARD)
    for card in (
        "SIMPLE  =                    T",
        "BITPIX  =                    8",
        "NAXIS   =                    0",
        "EXTEND  =                    T",
        "END",
    )
).ljust(blocks.BLOCK)
PRIMARY = _PRIMARY.encode("ascii")
"""The header before that of a table."""


class TableColumn(NamedTuple):
    """A column of a table, as its header describes it; what the header doesn't say is None."""

    name: str
    format: str
    """TFORM, such as ``"3E"`` or ``"PJ(12)"``."""
    unit: str | None
    dim: str | None
    """TDIM: the shape of a cell, in FITS order."""
    null: int | str | None
    """TNULL: the stored value that means that there is none."""
    scale: float | None
    """TSCAL: what stored numbers are multiplied with."""
    zero: float | None
    """TZERO: what is added after that."""
    display: str | None
    """TDISP."""


class Field(NamedTuple):
    """Where a column is in a row, and what is to be done with it."""

    number: int
    """Counted from 1, as in keywords."""
    column: TableColumn
    offset: int
    """Where it begins in a row, in bytes."""
    width: int
    """In bytes."""
    used: int
    """How many bytes of it hold values: fewer than `width` if TDIM says so."""
    code: str
    """The letter of its type; in a column of variable length of its elements."""
    descriptor: str = ""
    """P or Q in a column of variable length."""

    @property
    def slot(self) -> int:
        """How many bytes it takes in the rows that astropy reads: numpy has no strings of no width."""
        return 1 if self.code == "A" and not self.width else self.width

    @property
    def is_scaled(self) -> bool:
        """Whether the numbers that are stored are not those that are meant."""
        scale, zero = self.column.scale, self.column.zero
        return self.code in "BIJKEDCM" and (scale not in (None, 1) or zero not in (None, 0))

    @property
    def is_unsigned(self) -> bool:
        """Whether TZERO stands for the sign that the type has and the values don't (FITS 4.0, table 19)."""
        return self.column.scale in (None, 1) and self.column.zero == _SIGN_BITS.get(self.code)


class Layout(NamedTuple):
    """What the header of a table says."""

    hdu: HduDescription
    ascii: bool
    row_bytes: int
    rows: int
    fields: tuple[Field, ...] = ()
    theap: Any = None
    """Where the heap begins in the data, in bytes, as the header says it; None if it doesn't."""

    def error(self, reason: str) -> FitsError:
        """Return the error that says where the table is damaged."""
        where = f"HDU {self.hdu.index}"
        return FitsError(
            f"the table in {where} of {self.hdu.url or 'this file'} is damaged: {reason}",
            url=self.hdu.url,
            position=where,
        )

    def choose(self, names: str | Sequence[str] | None) -> tuple[Field, ...]:
        """Return the columns of these names, in any case, in the order given; all of them for None.

        Raises
        ------
        NotFoundError
            If there is no such column; the message has those of similar names.
        ConfigurationError
            If two columns differ in nothing but the case of their names, or no name is given.
        """
        if names is None:
            return self.fields
        wanted = [names] if isinstance(names, str) else list(names)
        if not all(isinstance(name, str) for name in wanted):
            raise ConfigurationError(f"columns are asked for by their names, not by {wanted!r}")
        if not wanted:
            raise ConfigurationError("names= has no column; .rows() reads all of them")
        return tuple(dict.fromkeys(self._find(name) for name in wanted))

    def _find(self, name: str) -> Field:
        same = [field for field in self.fields if field.column.name == name.rstrip()]
        folded = name.rstrip().lower()
        found = same or [field for field in self.fields if field.column.name.lower() == folded]
        if len(found) == 1:
            return found[0]
        where = f"HDU {self.hdu.index} of {self.hdu.url or 'this file'}"
        if found:
            names = " and ".join(field.column.name for field in found)
            raise ConfigurationError(
                f"{name!r} may be column {names} of {where}; write it in the case of one of them"
            )
        known = {field.column.name.lower(): field.column.name for field in self.fields}
        close = [known[key] for key in difflib.get_close_matches(folded, known, 5)]
        hint = (
            f"did you mean {', '.join(close)}?"
            if close
            else f"it has {', '.join(list(known.values())[:40]) or 'none'}"
        )
        raise NotFoundError(f"there is no column {name!r} in {where}; {hint}", url=self.hdu.url)


@functools.lru_cache(maxsize=16)  # who reads here and there in a table waits a third less
def layout_of(hdu: HduDescription) -> Layout:
    """Return what the header of a table says.

    Raises
    ------
    UnsupportedError
        If the HDU is no table, or one that is compressed by tiles.
    FitsError
        If its header is damaged.
    """
    where = f"HDU {hdu.index} of {hdu.url or 'this file'}"
    if hdu.kind not in {"table", "ascii table"}:
        raise UnsupportedError(f"{where} is no table but: {hdu.kind}", url=hdu.url)
    if blocks.value_of(hdu.raw, "ZTABLE") is True:
        raise UnsupportedError(
            f"{where} is a table compressed by tiles (ZTABLE), which neither nuncius nor astropy can read; "
            "download the file and unpack it with funpack of CFITSIO",
            url=hdu.url,
        )
    axes = hdu.structure.naxis
    empty = Layout(hdu, hdu.kind == "ascii table", 0, 0)
    if len(axes) != 2 or max(axes) > MOST:
        raise empty.error(f"its axes are {list(axes)[:9]}: bytes of a row, and rows")
    layout = empty._replace(row_bytes=axes[0], rows=axes[1])
    table = _opened(layout)
    layout = layout._replace(fields=tuple(_fields(layout, table.columns)), theap=table.header.get("THEAP"))
    taken = max((field.offset + field.width for field in layout.fields), default=0)
    # In ASCII tables what is between and after the columns belongs to none; in binary ones nothing is.
    if taken > axes[0] or (taken < axes[0] and not layout.ascii):
        raise layout.error(f"its columns take {taken:,} bytes, and its rows have {axes[0]:,} (NAXIS1)")
    return layout


def table_columns(hdu: HduDescription) -> list[TableColumn]:
    """Return the columns of a table, as its header describes them.

    Examples
    --------
    >>> [(column.name, column.unit) for column in table_columns(hdu)]  # doctest: +SKIP
    [('TIME', 'd'), ('FLUX', 'electron / s')]
    """
    return [field.column for field in layout_of(hdu).fields]


def table_dtype(hdu: HduDescription) -> np.dtype[Any]:
    """Return the type of the rows as they are stored: that of `astropy.io.fits.FITS_rec`.

    Raises
    ------
    FitsError
        If the columns can't be understood.
    """
    layout = Layout(hdu, hdu.kind == "ascii table", 0, 0)
    try:
        dtype: np.dtype[Any] = _opened(layout).data.dtype
    except failures() as error:
        raise _not_understood(layout, error) from error
    return dtype


def part_of_header(
    raw: bytes,
    fields: Sequence[Field] | None = None,
    *,
    values: Mapping[str, int],
    changes: Mapping[str, str | int | None] | None = None,
    plain: bool = False,
) -> bytes:
    """Return the header of a table that has some of the rows or columns of another, padded.

    Cards that are not of the columns are kept as they are.

    Parameters
    ----------
    raw : bytes
        The header of the whole table.
    fields : sequence of Field, optional
        The columns, in their new order; their keywords get new numbers. All by default.
    values : mapping of str to int
        Keywords that every table has, and their new values.
    changes : mapping, optional
        Keywords of columns (with their new numbers) and their new values; None leaves them out.
    plain : bool
        Leave out astropy's description of columns that are objects, in comments, since it holds for all columns only.
    """
    numbers = None if fields is None else {field.number: new for new, field in enumerate(fields, 1)}
    new = {**values, **(changes or {})}
    cards, named, kept = [], set(), True
    for card in _cards(raw, plain=plain):
        keyword = card[:8].rstrip().decode("latin-1").upper()
        if keyword == "CONTINUE" and not kept:
            continue
        renamed = keyword if numbers is None else _renumber(keyword, numbers)
        kept = renamed is not None and renamed not in new
        if renamed is None:
            continue
        if kept:
            named.add(renamed)
            cards.append(card if renamed == keyword else renamed.ljust(8).encode() + card[8:])
        elif renamed in values and renamed not in named:
            named.add(renamed)  # in its old place: the mandatory ones have an order
            cards.append(_card(renamed, values[renamed]))
    cards += [_card(key, value) for key, value in new.items() if value is not None and key not in named]
    count = values.get("TFIELDS", blocks.value_of(raw, "TFIELDS"))
    for number in range(1, (count if isinstance(count, int) else 0) + 1):
        if f"TTYPE{number}" not in named:
            cards.append(_card(f"TTYPE{number}", f"col{number}"))
    header = b"".join(cards) + b"END".ljust(blocks.CARD)
    return header.ljust(blocks.padded(len(header)))


def empty_table(raw: bytes) -> bytes:
    """Return the FITS file of a table without its rows."""
    return PRIMARY + part_of_header(raw, values={"NAXIS2": 0, "PCOUNT": 0})


def open_rows(file: bytes) -> Any:
    """Return the table of a small FITS file in memory, as `astropy.table.Table.read` opens it."""
    from astropy.io import fits

    return fits.open(io.BytesIO(file), memmap=False, character_as_bytes=True)[1]


def failures() -> tuple[type[Exception], ...]:
    """Return what astropy raises at columns that it can't make sense of."""
    from astropy.io.fits.verify import VerifyError

    # NameError too: UnboundLocalError is what one of its paths for scaled integers ends in.
    return (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        NameError,
        OSError,
        TypeError,
        ValueError,
        VerifyError,
    )


def _opened(layout: Layout) -> Any:
    """Return the table without its rows, as astropy opens it, after looking whether it can have columns."""
    raw = layout.hdu.raw
    count = blocks.value_of(raw, "TFIELDS")
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_COLUMNS:
        raise layout.error(f"TFIELDS is {count}; it is 0 to {MOST_COLUMNS}")
    try:
        opened = open_rows(empty_table(raw))
        names = opened.columns.names
    except failures() as error:
        raise _not_understood(layout, error) from error
    if len(names) != count or len(set(names)) != count:
        raise layout.error(
            f"TFIELDS is {count}, and the names of its columns are {', '.join(map(str, names[:99]))}"
        )
    return opened


def _not_understood(layout: Layout, error: Exception) -> FitsError:
    if isinstance(error, FitsError):
        return error
    present = {card[:8].rstrip().decode("latin-1") for card in _cards(layout.hdu.raw)}
    count = blocks.value_of(layout.hdu.raw, "TFIELDS") or 0
    missing = [key for number in range(1, int(count) + 1) if (key := f"TFORM{number}") not in present]
    reason = f"{', '.join(missing[:9])} is missing" if missing else str(error)
    return layout.error(f"its columns can't be understood: {reason}")


def _fields(layout: Layout, columns: Any) -> Iterator[Field]:
    try:
        places = columns.dtype.fields or {}
        for number, column in enumerate(columns, 1):
            stored, offset = places[column.name][:2]
            described = TableColumn(
                column.name,
                str(column.format),
                column.unit,
                None if column.dim is None else str(column.dim),
                column.null,
                _number(layout, column.bscale),
                _number(layout, column.bzero),
                column.disp,
            )
            width = stored.itemsize if layout.ascii else column.dtype.itemsize
            yield Field(
                number, described, offset, width, stored.itemsize, *_type_of(described.format, layout)
            )
    except failures() as error:
        raise _not_understood(layout, error) from error


def _type_of(form: str, layout: Layout) -> tuple[str, str]:
    """Return the letter of a type, and P or Q if there is one."""
    if layout.ascii:
        return form.strip()[:1], ""
    if match := _VARIABLE.match(form):
        return match[2], match[1]
    if match := _CODE.match(form):
        return match[1], ""
    raise layout.error(f"there are columns of the format {form!r}")


def _number(layout: Layout, value: Any) -> float | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise layout.error(f"{value!r} is no number to scale a column with")
    return value


def _cards(raw: bytes, *, plain: bool = False) -> Iterator[bytes]:
    """Give the cards of a header up to END."""
    hidden = False
    for at in range(0, len(raw), blocks.CARD):
        card = raw[at : at + blocks.CARD]
        if card[:8].rstrip() == b"END":
            return
        if plain and card.startswith(b"COMMENT"):
            hidden = hidden or b"--BEGIN-ASTROPY-SERIALIZED-COLUMNS--" in card
            if hidden:
                hidden = b"--END-ASTROPY-SERIALIZED-COLUMNS--" not in card
                continue
        yield card


def _renumber(keyword: str, numbers: Mapping[int, int]) -> str | None:
    """Return a keyword with the new number of its column; None if that column is not among those chosen."""
    if match := _OF_COLUMN.fullmatch(keyword) or _OF_PARAMETER.fullmatch(keyword):
        columns, parts = [match[2]], [match[1], "{}", match[3]]
    elif match := _OF_TWO_COLUMNS.fullmatch(keyword):
        columns, parts = [match[2], match[3]], [match[1], "{}_{}", match[4]]
    else:
        return keyword
    if not all(int(column) in numbers for column in columns):
        return None
    renamed = "".join(parts).format(*(numbers[int(column)] for column in columns))
    return renamed if len(renamed) <= 8 else None


def _card(keyword: str, value: str | int) -> bytes:
    text = f"'{value:<8}'" if isinstance(value, str) else f"{value:>20}"
    return f"{keyword:<8}= {text}".ljust(blocks.CARD).encode("ascii")
