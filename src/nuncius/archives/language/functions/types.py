"""Types and conversions.

Source: the MongoDB manual, "Type Expression Operators" and "$convert".
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.functions.base import (
    TYPE_CODES,
    Function,
    failed,
    is_nothing,
    named_type,
)
from nuncius.archives.language.values import in_utc, is_id, is_number, type_of
from nuncius.errors import FilterError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuncius.archives.language.functions.base import (
        Scope,
    )

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
_FLOAT = re.compile(
    r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|infinity)|nan", re.IGNORECASE
)
_BITS = {"int": 32, "long": 64}


def exact_type(value: Any) -> str:
    """Return the name of a type; a whole number is an int if 32 bits hold it, else a long."""
    if isinstance(value, float):
        return "double"
    if is_number(value):
        return "int" if -(2**31) <= value < 2**31 else "long"
    return type_of(value)


def as_text(operator: str, value: Any) -> str:
    """Return the text of a value that has one."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float_text(value)
    if is_number(value) or is_id(value):
        return str(value)
    if isinstance(value, datetime):
        return (
            in_utc(value).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
        )
    raise failed(operator, f"can't make a text of {named_type(value)}")


def _float_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _to_double(operator: str, value: Any) -> float:
    if isinstance(value, str):
        if not _FLOAT.fullmatch(value):
            raise failed(operator, f"{value!r} is no number")
        return float(value)
    if isinstance(value, datetime):
        return float(_milliseconds(value))
    if isinstance(value, (bool, int, float)):
        try:
            return float(value)
        except OverflowError as error:
            raise failed(operator, f"{named_type(value)} is too large for a double") from error
    raise failed(operator, f"can't make a number of {named_type(value)}")


def _to_whole(name: str) -> Callable[[str, Any], int]:
    def convert(operator: str, value: Any) -> int:
        if isinstance(value, str):
            if not _WHOLE.fullmatch(value):
                raise failed(operator, f"{value!r} is no whole number")
            found = int(value)
        elif isinstance(value, (bool, int, float)):
            if not math.isfinite(value):
                raise failed(operator, f"can't make a whole number of {value!r}")
            found = math.trunc(value)
        elif isinstance(value, datetime) and name == "long":
            found = _milliseconds(value)
        else:
            raise failed(operator, f"can't make a whole number of {named_type(value)}")
        if not -(2 ** (_BITS[name] - 1)) <= found < 2 ** (_BITS[name] - 1):
            raise failed(operator, f"{found} does not fit {_BITS[name]} bits")
        return found

    return convert


def _milliseconds(value: datetime) -> int:
    return (in_utc(value) - _EPOCH) // timedelta(milliseconds=1)


def _to_bool(_: str, value: Any) -> bool:
    return value != 0 if isinstance(value, (bool, int, float)) else True


def to_date(operator: str, value: Any) -> datetime:
    """Return the time that a text, an ObjectId or milliseconds since 1970 mean."""
    if isinstance(value, datetime):
        return in_utc(value)
    if is_id(value):
        made: datetime = value.generation_time
        return made
    try:
        if isinstance(value, str):
            return in_utc(datetime.fromisoformat(value)).astimezone(UTC)
        if is_number(value):
            return _EPOCH + timedelta(milliseconds=math.trunc(value))
    except (ValueError, OverflowError) as error:
        raise failed(operator, f"{value!r} is no time between the years 1 and 9999") from error
    raise failed(operator, f"can't make a date of {named_type(value)}")


def _to_id(operator: str, value: Any) -> Any:
    if is_id(value):
        return value
    if isinstance(value, str) and re.fullmatch("[0-9a-fA-F]{24}", value):
        from bson import ObjectId

        return ObjectId(value)
    raise failed(operator, f"an ObjectId has 24 hexadecimal digits, not {named_type(value)}")


_CONVERSIONS: dict[str, Callable[[str, Any], Any]] = {
    "double": _to_double,
    "string": as_text,
    "objectId": _to_id,
    "bool": _to_bool,
    "date": to_date,
    "int": _to_whole("int"),
    "long": _to_whole("long"),
}


def _converting(operator: str, name: str, meaning: str) -> tuple[str, Function]:
    convert = _CONVERSIONS[name]
    return operator, Function(
        meaning=meaning, call=lambda value: None if is_nothing(value) else convert(operator, value)
    )


def _convert(argument: Mapping[str, Any], scope: Scope) -> Any:
    value, wanted = scope.value(argument["input"]), scope.value(argument["to"])
    if is_nothing(value):
        return scope.value(argument["onNull"]) if "onNull" in argument else None
    if is_nothing(wanted):
        return None
    name = TYPE_CODES.get(int(wanted)) if is_number(wanted) and math.isfinite(wanted) else wanted
    if name == "decimal":
        raise _no_decimals("$convert")
    if not isinstance(name, str) or name not in _CONVERSIONS:
        raise failed("$convert", f"converts to {', '.join(_CONVERSIONS)}, not to {wanted!r}")
    try:
        return _CONVERSIONS[name]("$convert", value)
    except FilterError:
        if "onError" not in argument:
            raise
        return scope.value(argument["onError"])


def _no_decimals(operator: str) -> UnsupportedError:
    return UnsupportedError(
        f"{operator}: there are no decimal numbers here; use $toDouble", position=operator
    )


def _refuse_decimals(_: Any, place: str, *_rest: Any) -> Any:
    raise _no_decimals(place)


TYPES: dict[str, Function] = {
    "$type": Function(meaning="the name of the type, or missing", call=exact_type),
    "$isNumber": Function(meaning="whether it is a number", call=is_number),
    "$convert": Function(
        meaning="converted to a type, with values for what can't be and for null",
        lazy=_convert,
        least=0,
        most=0,
        required=("input", "to"),
        optional=("onError", "onNull"),
    ),
    "$toDecimal": Function(
        meaning="refused: there are no decimal numbers here", call=exact_type, check=_refuse_decimals
    ),
    **dict(
        [
            _converting("$toString", "string", "as a text"),
            _converting("$toInt", "int", "as a whole number of 32 bits"),
            _converting("$toLong", "long", "as a whole number of 64 bits"),
            _converting("$toDouble", "double", "as a float"),
            _converting("$toBool", "bool", "as true or false; every text is true"),
            _converting("$toDate", "date", "as a date, from a text in ISO 8601 or milliseconds since 1970"),
            _converting("$toObjectId", "objectId", "as an ObjectId, from 24 hexadecimal digits"),
        ]
    ),
}
