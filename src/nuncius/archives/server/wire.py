"""Documents as relaxed Extended JSON, the form in which Kowalski answers.

Source: the MongoDB specification "Extended JSON v2"; NaN and infinity are bare words, as Python's `json` writes them.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from nuncius._core.jsontext import printable

_encode = msgspec.json.Encoder().encode
_is_object_id = re.compile(r"[0-9a-f]{24}").fullmatch
_SAME = frozenset({int, bool, type(None)})
_WORDS = {"nan": msgspec.Raw(b"NaN"), "inf": msgspec.Raw(b"Infinity"), "-inf": msgspec.Raw(b"-Infinity")}


def encode(value: Any) -> bytes:
    """Write a value as JSON.

    An `_id` of 24 hexadecimal digits becomes an ObjectId, as which Kowalski's clients know the ids of alerts.
    """
    wired = _wired(value)
    try:
        return _encode(wired)
    except UnicodeEncodeError:
        return _encode(_printable(wired))


def _wired(value: Any) -> Any:
    """Copy a value where it holds something that plain JSON does not."""
    kind = value.__class__
    if kind is str or kind in _SAME:
        return value
    if kind is float:
        return value if value - value == 0 else _WORDS[repr(value)]
    if isinstance(value, dict):
        odd = {}
        for name, item in value.items():
            kind = item.__class__
            if kind is str:
                if name == "_id" and _is_object_id(item):
                    odd[name] = {"$oid": item}
            elif kind not in _SAME and (kind is not float or item - item != 0):
                odd[name] = _wired(item)
        return {**value, **odd} if odd else value
    if isinstance(value, (list, tuple)):
        return [_wired(item) for item in value]
    if isinstance(value, bytes):
        return {"$binary": {"base64": base64.b64encode(value).decode("ascii"), "subType": "00"}}
    if isinstance(value, datetime):
        return {"$date": _date(value)}
    if kind.__name__ == "ObjectId":
        return {"$oid": str(value)}
    if isinstance(value, float):
        return _wired(float(value))
    if isinstance(value, int):
        return int(value)
    return str(value)


def _date(value: datetime) -> Any:
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    text = value.strftime("%Y-%m-%dT%H:%M:%S") if value.year >= 1970 else ""
    if not text or value.year > 9999:
        return {"$numberLong": str(round(value.timestamp() * 1000))}
    return f"{text}.{value.microsecond // 1000:03d}Z" if value.microsecond >= 1000 else f"{text}Z"


def _printable(value: Any) -> Any:
    """Replace halves of surrogate pairs, which a packet in JSON can spell and UTF-8 can't hold."""
    if isinstance(value, dict):
        return {printable(name): _printable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return printable(value) if isinstance(value, str) else value
