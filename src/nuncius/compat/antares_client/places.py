"""Where ANTARES' REST interface is, and how long it may take: the variables of antares-client."""

from __future__ import annotations

import os

from nuncius.archives.antares.service import PUBLIC
from nuncius.errors import ConfigurationError

_TIMEOUT_S = 60.0


def base_url(given: str | None = None) -> str:
    """Return the address: the argument, ``ANTARES_API_BASE_URL``, or the public one."""
    return given or os.environ.get("ANTARES_API_BASE_URL") or f"{PUBLIC}/v2"


def timeout_s_of(given: float | None = None) -> float:
    """Return how long a question may take: the argument, ``API_TIMEOUT``, or 60 s.

    Raises
    ------
    ConfigurationError
        If the variable is no number above 0.
    """
    text = os.environ.get("API_TIMEOUT", "") if given is None else str(given)
    try:
        seconds = float(text) if text else _TIMEOUT_S
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{'API_TIMEOUT' if given is None else 'timeout_s'}={text!r}: give seconds")
    return seconds
