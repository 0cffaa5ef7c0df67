"""Where a stream starts and when it stops: what users may write, turned into plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from nuncius._core.when import duration_s, unix_s
from nuncius.errors import ConfigurationError

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


def parse_start(value: Any, *, now: float, option: str = "start") -> Start:
    """Understand `start=`, or another option of its kind.

    Raises
    ------
    ConfigurationError
        If it is none of the accepted forms.
    """
    if isinstance(value, str):
        if value in _START_NAMES:
            return Start(value)  # type: ignore[arg-type]
        if value.startswith("-") and (seconds := duration_s(value[1:])) is not None:
            return Start("time", now - seconds)
    instant = unix_s(value)
    if instant is None:
        raise ConfigurationError(
            f"{option}={value!r} is not understood. Give 'committed', 'earliest', 'latest', a time such as '-2h' or "
            "'2026-11-20T03:00:00Z', an aware datetime or an astropy Time",
            position=option,
        )
    return Start("time", instant)


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
    seconds = duration_s(value)
    if seconds is not None:
        return Stop(seconds=seconds)
    instant = unix_s(value)
    if instant is None:
        raise ConfigurationError(
            f"stop={value!r} is not understood. Give 'end', a number of alerts, a duration such as '10m' or a "
            "timedelta, an aware datetime or an astropy Time",
            position="stop",
        )
    return Stop(unix_s=instant)
