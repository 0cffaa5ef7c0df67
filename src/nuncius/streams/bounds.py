"""Where a stream starts and when it stops: what users may write, turned into plain values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from nuncius.errors import ConfigurationError

_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_START_NAMES = ("committed", "earliest", "latest")


@dataclass(frozen=True, slots=True)
class Start:
    """Where to start on a partition without a committed position.

    Parameters
    ----------
    name : {"committed", "earliest", "latest", "time"}
        The kind of place.
    unix_s : float, optional
        The time, in seconds since 1970 UTC, for "time".
    """

    name: Literal["committed", "earliest", "latest", "time"]
    unix_s: float | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """When to stop; what is None sets no bound.

    Parameters
    ----------
    at_end : bool
        When all that is there was read.
    count : int, optional
        After that many alerts.
    seconds : float, optional
        After that time.
    unix_s : float, optional
        At alerts that the broker took at that time or later (seconds since 1970 UTC).
    """

    at_end: bool = False
    count: int | None = None
    seconds: float | None = None
    unix_s: float | None = None


def parse_start(value: Any, *, now: float) -> Start:
    """Understand `start=`.

    Raises
    ------
    ConfigurationError
        If it is none of the accepted forms.
    """
    if isinstance(value, str):
        if value in _START_NAMES:
            return Start(value)  # type: ignore[arg-type]
        if value.startswith("-") and (seconds := _duration(value[1:])) is not None:
            return Start("time", now - seconds)
    unix_s = _instant(value)
    if unix_s is None:
        raise ConfigurationError(
            f"start={value!r} is not understood. Give 'committed', 'earliest', 'latest', a time such as '-2h' or "
            "'2026-11-20T03:00:00Z', an aware datetime or an astropy Time",
            position="start",
        )
    return Start("time", unix_s)


def parse_stop(value: Any) -> Stop:
    """Understand `stop=`.

    Raises
    ------
    ConfigurationError
        If it is none of the accepted forms.
    """
    if value is None:
        return Stop()
    if value == "end":
        return Stop(at_end=True)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Stop(count=value)
    seconds = _duration(value)
    if seconds is not None:
        return Stop(seconds=seconds)
    unix_s = _instant(value)
    if unix_s is None:
        raise ConfigurationError(
            f"stop={value!r} is not understood. Give 'end', a number of alerts, a duration such as '10m' or a "
            "timedelta, an aware datetime or an astropy Time",
            position="stop",
        )
    return Stop(unix_s=unix_s)


def _duration(value: Any) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)", value)
        return float(match[1]) * _SECONDS[match[2]] if match else None
    if hasattr(value, "to_value") and hasattr(value, "unit") and value.unit.is_equivalent("s"):
        return float(value.to_value("s"))
    return None


def _instant(value: Any) -> float | None:
    """Return seconds since 1970 UTC of a datetime, an astropy Time or an ISO text."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ConfigurationError(
                f"the time {value.isoformat()} has no time zone; add one, for example {value.isoformat()}Z"
            )
        return value.timestamp()
    if hasattr(value, "unix") and hasattr(value, "scale"):
        return float(value.unix)
    return None
