"""Regular expressions, bounded: what a stranger sends is compiled here and nowhere else."""

from __future__ import annotations

import re

from nuncius.errors import FilterError

LONGEST_PATTERN = 1000  # characters


def compile_pattern(pattern: str | re.Pattern[str], options: str, place: str) -> re.Pattern[str]:
    """Compile a regular expression with MongoDB's options (i, m, s, x).

    Raises
    ------
    FilterError
        If it is none, or is longer than 1000 characters.
    """
    flags = 0
    for letter in options:
        if letter not in "imsx":
            raise FilterError(
                f"{place}: the $options of $regex are i, m, s and x, not {letter!r}", position=place
            )
        flags |= getattr(re, letter.upper())
    if isinstance(pattern, re.Pattern):
        return re.compile(pattern.pattern, pattern.flags | flags) if flags else pattern
    if len(pattern) > LONGEST_PATTERN:
        raise FilterError(
            f"{place}: a regular expression has at most {LONGEST_PATTERN} characters, not {len(pattern)}",
            position=place,
        )
    try:
        return re.compile(pattern, flags)
    except (re.error, RecursionError, OverflowError) as error:
        raise FilterError(
            f"{place}: {pattern!r} is no regular expression: {error}", position=place
        ) from error
