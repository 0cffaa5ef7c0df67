"""Dates to texts and back, with the conversion characters of MongoDB.

Source: the MongoDB manual, "$dateToString", format specifiers.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.functions.base import failed, text

if TYPE_CHECKING:
    from collections.abc import Callable

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def _minutes(date: datetime) -> int:
    return (date.utcoffset() or timedelta()) // timedelta(minutes=1)


def _offset(date: datetime) -> str:
    minutes = _minutes(date)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"


# Written out, because strftime answers in the language of the machine.
_PARTS: dict[str, Callable[[datetime], str]] = {
    "Y": lambda date: f"{date.year:04d}",
    "m": lambda date: f"{date.month:02d}",
    "d": lambda date: f"{date.day:02d}",
    "H": lambda date: f"{date.hour:02d}",
    "M": lambda date: f"{date.minute:02d}",
    "S": lambda date: f"{date.second:02d}",
    "L": lambda date: f"{date.microsecond // 1000:03d}",
    "j": lambda date: f"{date.timetuple().tm_yday:03d}",
    "b": lambda date: _MONTHS[date.month - 1][:3],
    "B": lambda date: _MONTHS[date.month - 1],
    "u": lambda date: str(date.isoweekday()),
    "w": lambda date: str(date.isoweekday() % 7 + 1),
    "U": lambda date: date.strftime("%U"),
    "V": lambda date: f"{date.isocalendar()[1]:02d}",
    "G": lambda date: f"{date.isocalendar()[0]:04d}",
    "z": _offset,
    "Z": lambda date: f"{_minutes(date):+d}",
    "%": lambda date: "%",  # noqa: ARG005
}


def format_date(date: datetime, pattern: str) -> str:
    """Return the text of a date."""

    def part(match: re.Match[str]) -> str:
        letter = match.group(1)
        if letter not in _PARTS:
            raise failed(
                "$dateToString", f"%{letter} in {pattern!r} is none of {', '.join('%' + x for x in _PARTS)}"
            )
        return _PARTS[letter](date)

    return re.sub(r"%(.?)", part, pattern, flags=re.DOTALL)


def parse_date(given: str, pattern: Any) -> datetime:
    """Return the date of a text, in a format or in ISO 8601; without a zone when the text has none."""
    try:
        if pattern is None:
            return datetime.fromisoformat(given.strip())
        known = text("$dateFromString", pattern)
        for letter in re.findall(r"%(.?)", known):
            if letter not in "YmdHMSLjbBuVGz%" or not letter:
                raise failed("$dateFromString", f"%{letter} in {known!r} can't be read")
        return datetime.strptime(given, known.replace("%L", "%f"))  # noqa: DTZ007 - the zone is the caller's
    except (ValueError, IndexError) as error:
        if error.__class__.__module__.startswith("nuncius"):
            raise
        expected = "ISO 8601" if pattern is None else repr(pattern)
        raise failed("$dateFromString", f"{given!r} is no time in {expected}") from error
