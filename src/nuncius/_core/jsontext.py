"""Values of packets as JSON, and back again without loss."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

Document: TypeAlias = dict[str, Any]

_decode = msgspec.json.Decoder().decode
_decode_lines = msgspec.json.Decoder().decode_lines
_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines


def read_json(body: bytes) -> Any:
    """Read JSON that a server sent; also with NaN and infinities, which Python's servers write.

    Raises
    ------
    ValueError
        If it is none, or is nested too deeply.
    """
    try:
        try:
            return _decode(body)
        except msgspec.DecodeError:
            return json.loads(body)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error


def to_text(document: Document) -> tuple[str, str | None]:
    """Write a document as JSON, and beside it what JSON can't hold.

    JSON has no NaN, no infinity, no bytes and no dates. In their place the text has null or a readable form; the second
    text lists each with its path and kind, and `from_text` puts them back.
    """
    extras: list[tuple[list[str | int], str]] = []
    clean = _cleaned(document, [], extras)
    try:
        text = _encode(clean).decode()
    except UnicodeEncodeError:
        # Halves of surrogate pairs, which JSON packets can spell and no text can hold.
        text = _encode(_printable(clean)).decode()
    return text, json.dumps(extras) if extras else None


def to_lines(documents: Sequence[Document]) -> tuple[str, str | None]:
    """Write documents, each in a line and as `to_text` does; quicker where all are flat and nothing is missing or odd.

    The second text has a line for each document too, empty where JSON holds all of it; it is None where that is so for each.
    """
    if _SIMPLE.issuperset(chain.from_iterable(map(type, document.values()) for document in documents)):
        with contextlib.suppress(UnicodeEncodeError):
            lines = _encode_lines(documents).decode()[:-1]
            # NaN and infinity are written as null, and nothing else is where no value is None.
            if "null" not in lines:
                return lines, None
    texts, extras = zip(*map(to_text, documents), strict=True)
    return "\n".join(texts), "\n".join(more or "" for more in extras) if any(extras) else None


def from_text(text: str, extras: str | None) -> Document:
    """Read a document as `to_text` wrote it."""
    document: Document = _decode(text)
    if extras:
        _put_back(document, extras)
    return document


def from_lines(texts: str, extras: str | None) -> list[Document]:
    """Read documents that stand in a line each, their extras in lines too, empty where a document has none."""
    documents: list[Document] = _decode_lines(texts)
    if extras:
        for document, line in zip(documents, extras.split("\n"), strict=True):
            if line:
                _put_back(document, line)
    return documents


def _put_back(document: Document, extras: str) -> None:
    for path, kind in json.loads(extras):
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = _restored(kind, place[path[-1]])


def _cleaned(value: Any, path: list[str | int], extras: list[tuple[list[str | int], str]]) -> Any:
    """Copy a value where it holds something that JSON can't, and note the place."""
    if isinstance(value, dict):
        odd = {
            name: _cleaned(item, [*path, name], extras)
            for name, item in value.items()
            # NaN and infinity are the floats whose difference with themselves is not 0.
            if (kind := item.__class__) not in _PLAIN and (kind is not float or item - item != 0)
        }
        return {**value, **odd} if odd else value
    if isinstance(value, list):
        return [_cleaned(item, [*path, index], extras) for index, item in enumerate(value)]
    if isinstance(value, float):
        if value - value == 0:
            return float(value)
        extras.append((path, repr(value)))
        return None
    if isinstance(value, bytes):
        extras.append((path, "bytes"))
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        extras.append((path, "datetime"))
        return value.isoformat()
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return int(value)  # pymongo reads 64-bit integers as a class of its own
    extras.append((path, "text"))  # a decimal, a UUID: Avro's rarer logical types
    return str(value)


def printable(text: str) -> str:
    """Replace what is no Unicode by its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {printable(name): _printable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return printable(value) if isinstance(value, str) else value


_PLAIN = frozenset({str, int, bool, type(None)})
_SIMPLE = frozenset({str, int, bool, float})


def _restored(kind: str, value: Any) -> Any:
    if kind == "bytes":
        return base64.b64decode(value)
    if kind == "datetime":
        return datetime.fromisoformat(value)
    return value if kind == "text" else float(kind)
