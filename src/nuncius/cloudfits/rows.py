"""Headers as rows of a table, one for each HDU, and back."""

from __future__ import annotations

import hashlib
import json
import operator
import re
from datetime import UTC
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_plus

from nuncius._core.lazy import require
from nuncius.cloudfits import blocks
from nuncius.cloudfits.hdu import FileDescription, HduDescription
from nuncius.cloudfits.keywords import encoded_value, unreadable
from nuncius.cloudfits.places import find_place
from nuncius.errors import ConfigurationError, FitsError, StorageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from nuncius.errors import NunciusError

LAYOUT = 1
"""Of the tables: another number for another meaning of the columns."""

_LARGEST = 2**63 - 1
_SECRET = re.compile(r".*(?:signature|token|secret|password|credential|api_?key).*|sig")
_OF_SIGNED_LINKS = re.compile(
    r"x-amz-.*|x-goog-.*|awsaccesskeyid|googleaccessid|key-pair-id|policy|expires"
    r"|s[vsepri]|srt|st|spr|sk[estv]|skoid|sktid|sip|saoid|suoid|scid|sdd|ses"  # of Azure
)


class FileName(NamedTuple):
    """Which file a row belongs to, without a secret."""

    url: str
    """As it is shown: without its query."""
    query: str | None
    """A digest of the part of its query that names the file; links that differ in their signature alone have the same."""


def name_of(url: str | os.PathLike[str]) -> FileName:
    """Return what tells a file from others, also where a link's query says which file is meant.

    Raises
    ------
    ConfigurationError
        If it is no address of a file.
    """
    place = find_place(url)
    query = place.address.partition("?")[2] if place.kind == "http" else ""
    if not query:
        return FileName(place.url, None)
    pairs = [(unquote_plus(pair.partition("=")[0]).lower(), pair) for pair in re.split("[&;]", query)]
    signed = any(name == "sig" or name.endswith("signature") for name, _ in pairs)
    telling = [
        pair
        for name, pair in pairs
        if not _SECRET.fullmatch(name) and not (signed and _OF_SIGNED_LINKS.fullmatch(name))
    ]
    return FileName(place.url, digest_of(telling) if telling else None)


def digest_of(value: Any) -> str:
    """Return a short digest of what JSON can write."""
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=12).hexdigest()


# The table ---------------------------------------------------------------------------------------------------------------


@cache
def fixed_schema() -> pa.Schema:
    """Return the columns that each table has."""
    arrow = require("pyarrow", extra="parquet")
    text, integer, flag = arrow.string(), arrow.int64(), arrow.bool_()
    return arrow.schema(
        {
            "file": integer,
            "url": text,
            "query": text,
            "etag": text,
            "last_modified": arrow.timestamp("us", tz="UTC"),
            "size": integer,
            "trailing_bytes": integer,
            "complete": flag,
            "hdu": integer,
            "extname": text,
            "extver": integer,
            "xtension": text,
            "kind": text,
            "header_offset": integer,
            "data_offset": integer,
            "data_size": integer,
            "bitpix": integer,
            "naxis": arrow.list_(integer),
            "tile_compressed": flag,
            "truncated": flag,
            "header": arrow.binary(),
            "error": text,
            "note": text,
        }
    )


class Rows:
    """Rows in the making; keywords are columns of JSON until all rows are known (`keywords.py`).

    Parameters
    ----------
    keywords : mapping of str to str
        Each keyword, and its column.
    with_headers : bool
        Whether the headers themselves are kept.
    """

    def __init__(self, keywords: Mapping[str, str], *, with_headers: bool) -> None:
        self._keywords = keywords
        self._with_headers = with_headers
        self._rows: list[dict[str, Any]] = []

    def add(self, number: int, name: FileName, file: FileDescription) -> None:
        """Add the HDUs of a file that is the `number`-th of those asked for."""
        common = {
            "file": number,
            "url": name.url,
            "query": name.query,
            "etag": file.etag,
            "last_modified": file.modified,
            "size": file.size,
            "trailing_bytes": file.trailing_bytes,
            "complete": file.complete,
        }
        self._rows += [common | self._row(hdu) for hdu in file.hdus]

    def add_failed(self, number: int, name: FileName, error: NunciusError) -> None:
        """Add a file whose headers could not be read."""
        failed = {"url": name.url, "query": name.query, "error": f"{type(error).__name__}: {error}"}
        self._rows.append({"file": number, **failed})

    def table(self) -> pa.Table:
        """Return them as a table."""
        arrow = require("pyarrow", extra="parquet")
        schema = fixed_schema()
        if not self._with_headers:
            schema = schema.remove(schema.get_field_index("header"))
        for column in self._keywords.values():
            schema = schema.append(arrow.field(column, arrow.string()))
        # Column by column: that is faster than by rows, and what a row lacks is null.
        rows = sorted(self._rows, key=operator.itemgetter("file"))  # those of one file are in their order
        columns = [[row.get(field.name) for row in rows] for field in schema]
        arrays = [arrow.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
        return arrow.Table.from_arrays(arrays, schema=schema)

    def _row(self, hdu: HduDescription) -> dict[str, Any]:
        row: dict[str, Any] = {
            "hdu": hdu.index,
            "xtension": hdu.xtension,
            "kind": hdu.kind,
            "header_offset": hdu.header_offset,
            "data_offset": hdu.data_offset,
            "data_size": _storable(hdu.data_size),
            "tile_compressed": hdu.kind == "compressed image",
            "truncated": hdu.truncated,
            "header": hdu.raw,
        }
        try:
            row["extname"], row["extver"] = hdu.name, _storable(hdu.version)
            row["bitpix"] = hdu.bitpix
            row["naxis"] = hdu.naxis if max(hdu.naxis, default=0) <= _LARGEST else None
        except unreadable() as error:
            row["error"] = f"{type(error).__name__}: {error}"
        notes = []
        for keyword, column in self._keywords.items():
            row[column], note = encoded_value(hdu, keyword)
            if note:
                notes.append(note)
        row["note"] = "; ".join(notes) or None
        return row


def _storable(number: int) -> int | None:
    """Return a number, or None if no column of integers can hold what a damaged header claims."""
    return number if abs(number) <= _LARGEST else None


# And back ----------------------------------------------------------------------------------------------------------------


def describe(rows: Sequence[Mapping[str, Any]], index: str) -> FileDescription:
    """Return the file that these rows describe, in the order of its HDUs.

    Parameters
    ----------
    rows : sequence of mapping
        All rows of the file.
    index : str
        Where they are from, for messages.

    Raises
    ------
    StorageError
        If rows are missing, or what they say can't be.
    """
    first = rows[0]
    url, size, trailing = first["url"], first["size"] or 0, first["trailing_bytes"] or 0
    complete = first["complete"] is not False
    try:
        hdus = [_hdu_of(row, number, url, size) for number, row in enumerate(rows)]
        _check_chain(hdus, size, trailing, complete=complete)
    except FitsError as error:
        raise StorageError(
            f"the rows of {url} in {index} are not those that scan_headers wrote ({error}); were rows left out or "
            "changed? Scan the file again",
            url=url,
        ) from error
    modified = first["last_modified"]
    return FileDescription(
        url,
        size,
        first["etag"],
        modified.astimezone(UTC) if modified is not None else None,
        tuple(hdus),
        trailing,
        complete,
    )


def _hdu_of(row: Mapping[str, Any], number: int, url: str, size: int) -> HduDescription:
    raw, offset = row["header"], row["header_offset"]
    if row["hdu"] != number or not isinstance(offset, int):
        raise FitsError(f"HDU {number} is missing")
    if not isinstance(raw, bytes) or blocks.header_length(raw) != len(raw):
        raise FitsError(f"the header of HDU {number} is not whole")
    structure = blocks.parse_structure(raw, where=url, position=f"HDU {number}")
    truncated = offset + len(raw) + structure.data_size > size
    return HduDescription(number, raw, structure, header_offset=offset, truncated=truncated, url=url)


def _check_chain(hdus: Sequence[HduDescription], size: int, trailing: int, *, complete: bool) -> None:
    """Raise FitsError unless each HDU begins where the one before it ends, up to the end of the file."""
    at = 0
    for hdu in hdus:
        if hdu.header_offset != at:
            raise FitsError(f"HDU {hdu.index} does not begin where the one before it ends")
        at = hdu.end
    if complete and at < size and at + trailing != size:
        raise FitsError("the last HDUs are missing")


def column_names(keywords: Iterable[str]) -> dict[str, str]:
    """Return the column of each keyword: its name, or that after ``key_`` where another column is called so.

    Raises
    ------
    ConfigurationError
        If they are no keywords.
    """
    if isinstance(keywords, str):
        raise ConfigurationError(f"keywords= is a list of keywords: [{keywords!r}]")
    taken = set(fixed_schema().names)
    columns: dict[str, str] = {}
    for keyword in keywords:
        name = keyword.strip().upper().removeprefix("HIERARCH ").strip() if isinstance(keyword, str) else ""
        if not name or not name.isascii() or not name.isprintable() or "=" in name:
            raise ConfigurationError(f"keywords=: {keyword!r} is no keyword of a FITS header")
        # Some who read Parquet tell no upper from lower case.
        columns[name] = f"key_{name}" if name.lower() in taken else name
    return columns
