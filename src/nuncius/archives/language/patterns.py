"""Regular expressions: compiled here and nowhere else, bounded in length, and in time where strangers send them.

Python's own engine may take longer than anybody waits for some expressions, and can't be interrupted; see `bounded`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from nuncius.archives.language.bounds import is_bounded, linear_engine
from nuncius.errors import FilterError

LONGEST_PATTERN = 1000  # characters


def compile_pattern(pattern: str | re.Pattern[str], options: str, place: str) -> re.Pattern[str]:
    """Compile a regular expression with MongoDB's options (i, m, s, x).

    Raises
    ------
    FilterError
        If it is none, or is longer than 1000 characters.
    """
    for letter in options:
        if letter not in "imsx":
            raise FilterError(
                f"{place}: the $options of $regex are i, m, s and x, not {letter!r}", position=place
            )
    if isinstance(pattern, re.Pattern):
        if not is_bounded():
            flags = pattern.flags | _flags(options)
            return re.compile(pattern.pattern, flags) if options else pattern
        options += "".join(letter for letter in "imsx" if pattern.flags & _flags(letter))
        pattern = pattern.pattern
    if len(pattern) > LONGEST_PATTERN:
        raise FilterError(
            f"{place}: a regular expression has at most {LONGEST_PATTERN} characters, not {len(pattern)}",
            position=place,
        )
    try:
        compiled: re.Pattern[str] = _compiled(pattern, options, is_bounded())
    except (ValueError, RecursionError, OverflowError, re.error) as error:
        raise FilterError(
            f"{place}: {pattern!r} is no regular expression here: {error}", position=place
        ) from error
    return compiled


def _flags(options: str) -> int:
    return sum(getattr(re, letter.upper()) for letter in set(options))


@lru_cache(maxsize=256)
def _compiled(pattern: str, options: str, linear: bool) -> Any:
    if not linear:
        return re.compile(pattern, _flags(options))
    if "x" in options:
        raise ValueError("the option x is not available")
    re2 = linear_engine()
    settings = re2.Options()
    settings.log_errors = False
    flags = f"(?{''.join(sorted(set(options)))})" if options else ""
    try:
        return re2.compile(flags + pattern, settings)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from error
