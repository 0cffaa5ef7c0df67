"""Times of alerts as Modified Julian Dates in UTC, for many points and without astropy's cost for each.

The packets give Julian Dates in UTC (ZTF and its relatives) or Modified Julian Dates in TAI (Rubin). Leap seconds are
those of ERFA, the same that astropy uses.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

JD_OF_MJD_0 = 2400000.5
_SECONDS_A_DAY = 86400.0
_POSSIBLE_MJD = (15000.0, 90000.0)  # 1899 to 2105; test packets hold Unix times in these fields


def mjd_from_jd(jd: float | None) -> float | None:
    """Turn a Julian Date into a Modified Julian Date of the same scale; an impossible date gives None."""
    return None if jd is None else possible_mjd(jd - JD_OF_MJD_0)


def possible_mjd(mjd: float | None) -> float | None:
    """Return the date if an alert can have it (1899 to 2105), else None."""
    if mjd is None or not _POSSIBLE_MJD[0] <= mjd <= _POSSIBLE_MJD[1]:
        return None
    return float(mjd)


def utc_from_tai(mjd: float | None) -> float | None:
    """Turn a Modified Julian Date in TAI into one in UTC; an impossible date gives None.

    On the day of a leap second the result differs from ERFA's by at most one second's fraction of a day, because a
    UTC day is counted as 86400 s here.
    """
    mjd = possible_mjd(mjd)
    if mjd is None:
        return None
    begins, offsets = _leap_seconds()
    index = bisect_right(begins, mjd) - 1
    return mjd if index < 0 else mjd - offsets[index] / _SECONDS_A_DAY


def mjd_from_datetime(when: datetime) -> float:
    """Turn an aware datetime into a Modified Julian Date in UTC."""
    return 40587.0 + when.timestamp() / _SECONDS_A_DAY


@cache
def _leap_seconds() -> tuple[list[float], list[float]]:
    """Return the dates in TAI at which TAI-UTC changed, and the values from then on, in seconds."""
    import erfa

    begins, offsets = [], []
    for year, month, offset in erfa.leap_seconds.get():
        if year >= 1972:  # before, the offset drifted; no alert is that old
            begins.append(_first_of_month(int(year), int(month)) + float(offset) / _SECONDS_A_DAY)
            offsets.append(float(offset))
    return begins, offsets


def _first_of_month(year: int, month: int) -> float:
    from datetime import UTC, datetime

    return mjd_from_datetime(datetime(year, month, 1, tzinfo=UTC))


def astropy_time(value: float, form: str, scale: str) -> Any:
    """Make an `astropy.time.Time` of one value."""
    from astropy.time import Time

    return Time(value, format=form, scale=scale)
