"""Tables that come as text: comma-separated values with a line of names."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

_WHOLE = re.compile(r"[+-]?(0|[1-9]\d{0,18})", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
_MISSING = frozenset({"", "nan", "none", "null"})


def columns_of_csv(text: str) -> dict[str, list[Any]]:
    r"""Read a table as lists of values, by the names of the columns; what is missing is None.

    A column is of numbers only if all its values are; whole numbers keep their digits. A column without a name, as
    pandas writes the numbers of the rows, is called ``index``.

    Raises
    ------
    ValueError
        If a row has more or fewer values than there are columns, or two columns have one name.

    Examples
    --------
    >>> columns_of_csv("alert_id,mjd,mag\nztf:1,60000.5,\n")
    {'alert_id': ['ztf:1'], 'mjd': [60000.5], 'mag': [None]}
    """
    try:
        lines = [line for line in csv.reader(io.StringIO(text.lstrip("\ufeff")), strict=True) if line]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if not lines:
        return {}
    names, rows = [name.strip() or "index" for name in lines[0]], lines[1:]
    if len(set(names)) < len(names):
        raise ValueError(f"two of its columns have one name: {', '.join(names)}")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise ValueError(f"row {number} has {len(row)} values for {len(names)} columns")
    return {name: _values([row[index].strip() for row in rows]) for index, name in enumerate(names)}


def _values(texts: list[str]) -> list[Any]:
    present = [text for text in texts if text.lower() not in _MISSING]
    read: Any = str
    if present and all(_WHOLE.fullmatch(text) for text in present):
        read = int
    elif present and all(_NUMBER.fullmatch(text) for text in present):
        read = float
    elif present and all(text in {"True", "False"} for text in present):
        read = "True".__eq__
    return [None if text.lower() in _MISSING else read(text) for text in texts]
