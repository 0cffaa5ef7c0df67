"""MongoDB's Extended JSON, in which Kowalski and BOOM answer.

Source: "MongoDB Extended JSON (v2)", both the canonical and the relaxed form.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CONTAINERS = frozenset({dict, list})
_decode = msgspec.json.Decoder().decode


def from_json(body: bytes) -> Any:
    """Read JSON, with its dates as aware datetime, its images as bytes, and its ids as `bson.ObjectId`.

    Whole numbers keep all their digits. NaN and infinities, which Python's servers write, are read.

    Raises
    ------
    ValueError
        If it is no JSON.
    """
    try:
        value = _read(body)
        # Whether anything has to be replaced shows in the text, which is quicker to search than the values.
        return _resolved(value) if b'"$' in body else value
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error


def _read(body: bytes) -> Any:
    try:
        return _decode(body)
    except msgspec.DecodeError:
        return json.loads(body)  # knows NaN


def _resolved(value: Any) -> Any:
    if value.__class__ is list:
        for index, item in enumerate(value):
            if item.__class__ in _CONTAINERS:
                value[index] = _resolved(item)
        return value
    name = next(iter(value), "") if len(value) <= 2 else ""
    if name in _SPECIAL and (len(value) == 1 or (name == "$binary" and "$type" in value)):
        return _special(name, value)
    for name, item in value.items():
        if item.__class__ in _CONTAINERS:
            value[name] = _resolved(item)
    return value


def _special(name: str, value: dict[str, Any]) -> Any:
    try:
        return _SPECIAL[name](value[name])
    except (ValueError, TypeError, KeyError, OverflowError):
        return value  # a document with a field of that name: it stays as it is


def _object_id(value: Any) -> Any:
    from bson import ObjectId

    if not isinstance(value, str) or not ObjectId.is_valid(value):
        raise ValueError("not 24 hexadecimal digits")
    return ObjectId(value)


def _date(value: Any) -> datetime:
    if isinstance(value, dict):
        value = _integer(value["$numberLong"])
    if type(value) is int:
        return _EPOCH + timedelta(milliseconds=value)
    when = datetime.fromisoformat(value)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _binary(value: Any) -> bytes:
    return base64.b64decode(value["base64"] if isinstance(value, dict) else value, validate=True)


def _integer(value: Any) -> int:
    if not isinstance(value, str):
        raise TypeError("a whole number stands in a text")
    return int(value)


def _decimal(value: Any) -> Any:
    from decimal import Decimal, InvalidOperation

    try:
        return Decimal(value)
    except InvalidOperation as error:
        raise ValueError("not a number") from error


_SPECIAL: dict[str, Callable[[Any], Any]] = {
    "$oid": _object_id,
    "$date": _date,
    "$binary": _binary,
    "$numberLong": _integer,
    "$numberInt": _integer,
    "$numberDouble": float,
    "$numberDecimal": _decimal,
}
