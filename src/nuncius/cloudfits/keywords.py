"""Values of header keywords as typed columns of a table.

While files are read nobody knows yet of which type a column will be: the values are kept as JSON texts. When all are
known, each column becomes one of integers, floats, logicals or texts.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require
from nuncius.cloudfits import blocks

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from nuncius.cloudfits.hdu import HduDescription

_EXACT = 2**53  # so far floats hold each integer
_LONGEST = 2**63
# Keywords that the header of a compressed image has from the image, and the table that holds it from itself.
OF_TABLES = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|EXTEND|BLOCKED|TFIELDS|THEAP|EXTNAME|CHECKSUM|DATASUM|BSCALE"
    r"|BZERO|BLANK|Z.*|T[A-Z]+\d+|\d*T[A-Z]+\d*"
)


def encoded_value(hdu: HduDescription, keyword: str) -> tuple[str | None, str | None]:
    """Return the value of a keyword as JSON, and what is to be known about it.

    Parameters
    ----------
    hdu : HduDescription
        With the header.
    keyword : str
        In upper case; of a HIERARCH card without that word.

    Returns
    -------
    (str or None, str or None)
        No value: the keyword isn't there, has none, or can't be read. A note: why, or that the keyword stands more than
        once with different values, of which the first is taken, as astropy takes it.
    """
    try:
        value, others = _values(hdu, keyword)
    except unreadable() as error:
        return None, f"{keyword} can't be read: {' '.join(str(error).split())[:200]}"
    note = None
    if others:
        note = f"{keyword} stands {others + 1} times with different values; the first is taken"
    return (None if value is None else json.dumps(value)), note


@cache
def unreadable() -> tuple[type[Exception], ...]:
    """Return the errors by which astropy says that it can't read a card, or what a card describes."""
    from astropy.io.fits import VerifyError

    # wcslib calls some bad values a lack of memory
    return (
        VerifyError, ArithmeticError, AttributeError, LookupError, MemoryError, OSError, TypeError, ValueError
    )  # fmt: skip


def _values(hdu: HduDescription, keyword: str) -> tuple[Any, int]:
    """Return the value, and how many other cards have another one."""
    raw = hdu.raw
    quick = len(keyword) <= 8 and keyword.replace("-", "").replace("_", "").isalnum()
    if quick and not (hdu.kind == "compressed image" and OF_TABLES.fullmatch(keyword)):
        fields = list(blocks.cards_of(raw, keyword))
        value = _quick(fields[0]) if fields else None
        if value is not None:
            return value, len(set(fields[1:]) - {fields[0]})
        # Neither after HIERARCH nor without a value.
        if not fields and keyword.encode() not in raw.upper():
            return None, 0
    return _from_header(hdu, keyword)


def _quick(field: bytes) -> Any:
    """Return a value that is plain to see; None if only astropy can tell."""
    value = blocks.read_value(field)
    if isinstance(value, str) and (value.endswith("&") or not value.isprintable() or not field.isascii()):
        return None
    return value


def _from_header(hdu: HduDescription, keyword: str) -> tuple[Any, int]:
    header = hdu.header
    if keyword not in header:
        return None, 0
    if keyword in {"COMMENT", "HISTORY"}:
        return "\n".join(map(str, header[keyword])), 0
    values = [_plain(header[keyword, number]) for number in range(header.count(keyword))]
    return values[0], sum(value != values[0] for value in values[1:])


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, complex) else value


# Columns -----------------------------------------------------------------------------------------------------------------


def kinds_of(column: pa.ChunkedArray) -> set[str]:
    """Return which kinds of values a column of JSON has."""
    return {_kind(json.loads(text)) for text in column.unique().to_pylist() if text is not None}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "logical"
    if isinstance(value, int):
        if abs(value) <= _EXACT:
            return "integer"
        return "long integer" if -_LONGEST <= value < _LONGEST else "text"
    return "float" if isinstance(value, float) else "text"


def type_of(kinds: Iterable[str]) -> pa.DataType:
    """Return the type of a column that has such values: texts, if no other holds them all without change."""
    arrow = require("pyarrow", extra="parquet")
    found = set(kinds)
    if found == {"logical"}:
        return arrow.bool_()
    if found and found <= {"integer", "long integer"}:
        return arrow.int64()
    if found and found <= {"integer", "float"}:
        return arrow.float64()
    return arrow.string()


def typed(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Return a column of JSON as one of values."""
    arrow = require("pyarrow", extra="parquet")
    values = [None if text is None else json.loads(text) for text in column.to_pylist()]
    if kind == arrow.string():
        values = [None if value is None else _text(value) for value in values]
    elif kind == arrow.float64():
        values = [None if value is None else float(value) for value in values]
    return arrow.array(values, kind)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    return value if isinstance(value, str) else repr(value)
