"""Dates: their parts, their texts, and steps of the calendar; in UTC unless a time zone is given.

Source: the MongoDB manual, "Date Expression Operators".
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.functions.base import Function, failed, is_nothing, text, whole
from nuncius.archives.language.functions.datetexts import format_date, parse_date
from nuncius.archives.language.functions.types import to_date
from nuncius.archives.language.values import in_utc, is_id
from nuncius.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import tzinfo

    from nuncius.archives.language.functions.base import Scope

_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORT = {"hour": 3_600_000, "minute": 60_000, "second": 1000, "millisecond": 1}  # in milliseconds
_MONTHS = {"year": 12, "quarter": 3, "month": 1}
_DAYS = {"week": 7, "day": 1}
_UNITS = (*_MONTHS, *_DAYS, *_SHORT)
_WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


# Zones and units -----------------------------------------------------------------------------------------------------


@cache
def _zone(name: str) -> tzinfo:
    import re
    from zoneinfo import ZoneInfo

    offset = re.fullmatch(r"([+-])(\d\d):?(\d\d)?", name)
    if offset:
        sign, hours, minutes = offset.groups()
        shift = timedelta(hours=int(hours), minutes=int(minutes or 0))
        return timezone(-shift if sign == "-" else shift)
    return UTC if name in {"UTC", "GMT", "Z"} else ZoneInfo(name)


def _local(operator: str, value: Any, zone: Any = None) -> datetime:
    """Return a time of a document in a time zone, UTC unless it is named."""
    if not isinstance(value, datetime) and not is_id(value):
        raise failed(operator, f"takes a date, not {type(value).__name__}")
    name = "UTC" if zone is None else text(operator, zone)
    try:
        return to_date(operator, value).astimezone(_zone(name))
    except (KeyError, ValueError, OSError, OverflowError) as error:
        if isinstance(error, FilterError):
            raise
        raise failed(
            operator, f"{name!r} is no time zone; use a name such as 'Europe/Rome' or an offset '+01:00'"
        ) from error


def _unit(operator: str, value: Any) -> str:
    if value not in _UNITS:
        raise failed(operator, f"takes a unit of {', '.join(_UNITS)}, not {value!r}")
    return str(value)


def _week_start(operator: str, value: Any) -> int:
    name = text(operator, value).lower()
    for day, long_name in enumerate(_WEEK):
        if name in {long_name, long_name[:3]}:
            return day
    raise failed(operator, f"{value!r} is no day of the week")


# Parts ---------------------------------------------------------------------------------------------------------------


def _part(operator: str, meaning: str, part: Callable[[datetime], int]) -> tuple[str, Function]:
    def call(value: Any) -> Any:
        return None if is_nothing(value) else part(_local(operator, value))

    def named(given: dict[str, Any]) -> Any:
        if is_nothing(given["date"]) or is_nothing(given.get("timezone", "UTC")):
            return None
        return part(_local(operator, given["date"], given.get("timezone")))

    return operator, Function(
        meaning=meaning, call=call, named=named, required=("date",), optional=("timezone",)
    )


def _week_of_year(date: datetime) -> int:
    return int(date.strftime("%U"))


# Texts ---------------------------------------------------------------------------------------------------------------


def _to_string(argument: Mapping[str, Any], scope: Scope) -> Any:
    date = scope.value(argument["date"])
    zone, pattern = (scope.value(argument.get(name)) for name in ("timezone", "format"))
    if is_nothing(date):
        return scope.value(argument.get("onNull"))
    if ("timezone" in argument and is_nothing(zone)) or ("format" in argument and is_nothing(pattern)):
        return None
    local = _local("$dateToString", date, zone if "timezone" in argument else None)
    if "format" not in argument:
        pattern = "%Y-%m-%dT%H:%M:%S.%LZ" if zone in {None, "UTC", "GMT"} else "%Y-%m-%dT%H:%M:%S.%L"
    return format_date(local, text("$dateToString", pattern))


def _from_string(argument: Mapping[str, Any], scope: Scope) -> Any:
    given = scope.value(argument["dateString"])
    zone, pattern = (scope.value(argument.get(name)) for name in ("timezone", "format"))
    if is_nothing(given):
        return scope.value(argument.get("onNull"))
    if ("timezone" in argument and is_nothing(zone)) or ("format" in argument and is_nothing(pattern)):
        return None
    try:
        parsed = parse_date(text("$dateFromString", given), pattern)
        if parsed.tzinfo is not None:
            return parsed.astimezone(UTC)
        # A text without a zone is in the one given.
        local = _local("$dateFromString", in_utc(parsed), zone).tzinfo
        return parsed.replace(tzinfo=local).astimezone(UTC)
    except (FilterError, OverflowError) as error:
        if "onError" in argument:
            return scope.value(argument["onError"])
        if isinstance(error, FilterError):
            raise
        raise failed("$dateFromString", f"{given!r} is no time") from error


# Steps ---------------------------------------------------------------------------------------------------------------


def _moved(operator: str, local: datetime, unit: str, amount: int) -> datetime:
    try:
        if unit in _SHORT:
            moved = local.astimezone(UTC) + timedelta(milliseconds=amount * _SHORT[unit])
        elif unit in _DAYS:
            moved = local + timedelta(days=amount * _DAYS[unit])
        else:
            year, month = divmod(local.year * 12 + local.month - 1 + amount * _MONTHS[unit], 12)
            # The last day of a month, where the month has not so many.
            moved = local.replace(
                year=year, month=month + 1, day=min(local.day, monthrange(year, month + 1)[1])
            )
        return moved.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise failed(operator, "the time is outside the years 1 to 9999") from error


def _step(operator: str, sign: int) -> Callable[[dict[str, Any]], Any]:
    def named(given: dict[str, Any]) -> Any:
        if any(map(is_nothing, given.values())):
            return None
        local = _local(operator, given["startDate"], given.get("timezone"))
        return _moved(
            operator, local, _unit(operator, given["unit"]), sign * whole(operator, given["amount"])
        )

    return named


def _difference(given: dict[str, Any]) -> Any:
    if any(map(is_nothing, given.values())):
        return None
    unit = _unit("$dateDiff", given["unit"])
    start, end = (
        _local("$dateDiff", given[name], given.get("timezone")) for name in ("startDate", "endDate")
    )
    first = _week_start("$dateDiff", given.get("startOfWeek", "sunday"))
    return _bin(end, unit, first) - _bin(start, unit, first)


def _bin(local: datetime, unit: str, first_day: int) -> int:
    """Count the units from a fixed moment to the one in which a time is."""
    if unit in _MONTHS:
        return (local.year * 12 + local.month - 1) // _MONTHS[unit]
    if unit == "day":
        return local.toordinal()
    if unit == "week":  # day 1 was a Monday
        return (local.toordinal() - 1 - first_day) // 7
    # An hour of a zone with an offset of minutes does not begin with an hour of UTC.
    offset = (local.utcoffset() or timedelta()) % timedelta(hours=1)
    return (local - _EPOCH + offset) // timedelta(milliseconds=_SHORT[unit])


def _truncated(given: dict[str, Any]) -> Any:
    if any(map(is_nothing, given.values())):
        return None
    unit = _unit("$dateTrunc", given["unit"])
    size = whole("$dateTrunc", given.get("binSize", 1))
    if size < 1:
        raise failed("$dateTrunc", f"takes a positive binSize, not {size}")
    local = _local("$dateTrunc", given["date"], given.get("timezone"))
    start = datetime(2000, 1, 1, tzinfo=local.tzinfo)
    if unit == "week":
        first = _week_start("$dateTrunc", given.get("startOfWeek", "sunday"))
        start += timedelta(days=(first - start.weekday()) % 7)
    if unit in _SHORT:
        width = size * _SHORT[unit]
        elapsed = (local.astimezone(UTC) - start.astimezone(UTC)) // _MILLISECOND
        return _moved("$dateTrunc", start, "millisecond", elapsed // width * width)
    if unit in _DAYS:
        width = size * _DAYS[unit]
        return _moved("$dateTrunc", start, "day", (local.toordinal() - start.toordinal()) // width * width)
    width = size * _MONTHS[unit]
    months = (local.year - 2000) * 12 + local.month - 1
    return _moved("$dateTrunc", start, "month", months // width * width)


def _named(
    meaning: str, named: Callable[[dict[str, Any]], Any], required: tuple[str, ...], *optional: str
) -> Function:
    return Function(meaning=meaning, named=named, required=required, optional=optional, least=0, most=0)


DATES: dict[str, Function] = {
    "$dateToString": Function(
        meaning="a date as a text: %Y %m %d %H %M %S %L %j %u %w %U %V %G %b %B %z %Z %%",
        lazy=_to_string,
        required=("date",),
        optional=("format", "timezone", "onNull"),
        least=0,
        most=0,
    ),
    "$dateFromString": Function(
        meaning="the date of a text in ISO 8601, or in a format",
        lazy=_from_string,
        required=("dateString",),
        optional=("format", "timezone", "onError", "onNull"),
        least=0,
        most=0,
    ),
    "$dateAdd": _named(
        "a date some units later", _step("$dateAdd", 1), ("startDate", "unit", "amount"), "timezone"
    ),
    "$dateSubtract": _named(
        "a date some units earlier", _step("$dateSubtract", -1), ("startDate", "unit", "amount"), "timezone"
    ),
    "$dateDiff": _named(
        "how many beginnings of a unit are between two dates",
        _difference,
        ("startDate", "endDate", "unit"),
        "timezone",
        "startOfWeek",
    ),
    "$dateTrunc": _named(
        "the beginning of the unit, or of the bin of units, that a date is in",
        _truncated,
        ("date", "unit"),
        "binSize",
        "timezone",
        "startOfWeek",
    ),
    **dict(
        [
            _part("$year", "the year", lambda date: date.year),
            _part("$month", "the month, 1 to 12", lambda date: date.month),
            _part("$dayOfMonth", "the day of the month, 1 to 31", lambda date: date.day),
            _part(
                "$dayOfWeek", "the day of the week, 1 (Sunday) to 7", lambda date: date.isoweekday() % 7 + 1
            ),
            _part("$dayOfYear", "the day of the year, 1 to 366", lambda date: date.timetuple().tm_yday),
            _part("$hour", "the hour, 0 to 23", lambda date: date.hour),
            _part("$minute", "the minute, 0 to 59", lambda date: date.minute),
            _part("$second", "the second, 0 to 59", lambda date: date.second),
            _part("$millisecond", "the millisecond, 0 to 999", lambda date: date.microsecond // 1000),
            _part("$week", "the week of the year from the first Sunday on, 0 to 53", _week_of_year),
            _part(
                "$isoWeek", "the week of the year in ISO 8601, 1 to 53", lambda date: date.isocalendar()[1]
            ),
            _part("$isoWeekYear", "the year in ISO 8601", lambda date: date.isocalendar()[0]),
            _part("$isoDayOfWeek", "the day of the week, 1 (Monday) to 7", lambda date: date.isoweekday()),
        ]
    ),
}
