"""Times and durations as users write them, turned into seconds."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from nuncius.errors import ConfigurationError

_SECONDS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_s(value: Any) -> float | None:
    """Return the seconds of a timedelta, a Quantity of time, or a text such as ``"10m"``; None for anything else."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)", value)
        return float(match[1]) * _SECONDS[match[2]] if match else None
    if hasattr(value, "to_value") and hasattr(value, "unit") and value.unit.is_equivalent("s"):
        return float(value.to_value("s"))
    return None


def unix_s(value: Any) -> float | None:
    """Return seconds since 1970 UTC of a datetime, an astropy Time or an ISO text; None for anything else.

    Raises
    ------
    ConfigurationError
        If the time has no time zone.
    """
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
