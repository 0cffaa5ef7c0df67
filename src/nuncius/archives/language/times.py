"""Times in filters: a time that is compared with a field that holds a Julian date becomes one.

Alerts say when by numbers, and no number is ever equal to a date: such a filter would find nothing, without a word.
What a field holds shows in its name, which the surveys share: ``candidate.jd`` and ``jdstarthist`` are Julian dates
(UTC), ``mjd`` is a modified one, ``diaSource.midpointMjdTai`` a modified one in TAI.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nuncius.alerts.times import JD_OF_MJD_0, mjd_from_datetime

if TYPE_CHECKING:
    from collections.abc import Callable


def scale_of_field(path: str) -> Callable[[datetime], float] | None:
    """Return what turns a time into what a field holds; None where its name says nothing of dates."""
    name = path.rpartition(".")[2]
    return next((convert for pattern, convert in _SCALES if pattern.fullmatch(name)), None)


def in_scale(value: Any, convert: Callable[[datetime], float]) -> Any:
    """Replace the times in a plain value, or in a condition."""
    if isinstance(value, datetime):
        return convert(value)
    if isinstance(value, dict):
        return {name: in_scale(item, convert) for name, item in value.items()}
    return [in_scale(item, convert) for item in value] if isinstance(value, list) else value


def _jd(when: datetime) -> float:
    return mjd_from_datetime(when) + JD_OF_MJD_0


def _mjd_tai(when: datetime) -> float:
    from astropy.time import Time

    return float(Time(when, scale="utc").tai.mjd)


_SCALES = (
    (re.compile(r"jd|jd(start|end)(hist|ref)"), _jd),
    (re.compile(r"mjd"), mjd_from_datetime),
    (re.compile(r"\w+MjdTai"), _mjd_tai),
)
