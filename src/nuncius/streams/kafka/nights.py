"""Topics that roll over each night, at 00 UTC: ``{date}`` in a topic's name stands for the date of the night.

A regular expression would not do: clusters go on advertising nights whose messages are long gone, and all of them would
be assigned. So the names are made here: tonight, last night, and of the nights before those that have something left for
us.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

MARK = "{date}"
CURRENT_NIGHTS = 2  # tonight, and last night, whose last alerts come after midnight
_NIGHTS = 8  # so long do brokers keep alerts at most


def is_dated(topic: str) -> bool:
    """Tell whether a topic's name has the mark."""
    return MARK in topic


def expand(topic: str, unix_s: float, nights: int = _NIGHTS) -> list[str]:
    """Return the names of a dated topic for the nights up to a time, tonight first."""
    tonight = datetime.fromtimestamp(unix_s, UTC)
    return [topic.replace(MARK, f"{tonight - timedelta(days=ago):%Y%m%d}") for ago in range(nights)]


def is_night_of(name: str, topic: str) -> bool:
    """Tell whether a name is that of any night of a dated topic."""
    return re.fullmatch(re.escape(topic).replace(re.escape(MARK), r"\d{8}"), name) is not None
