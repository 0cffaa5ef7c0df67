"""Regular expressions: compiled here and nowhere else, bounded in length, and in time where strangers send them.

Python's own engine may take longer than anybody waits for some expressions, and can't be interrupted. Within
`linear_patterns`, RE2 answers in a time that grows with the length of the text alone; it has no look-around, no
back-references and no option x.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nuncius.errors import FilterError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_PATTERN = 1000  # characters
_linear: ContextVar[bool] = ContextVar("linear", default=False)


@contextmanager
def linear_patterns() -> Iterator[None]:
    """Match regular expressions in linear time within the block, in this thread or task and those that copy its context.

    Raises
    ------
    MissingExtraError
        If RE2 is not installed.
    """
    _re2()
    token = _linear.set(True)
    try:
        yield
    finally:
        _linear.reset(token)


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
        options += "".join(letter for letter in "imsx" if pattern.flags & _flags(letter))
        pattern = pattern.pattern
    if len(pattern) > LONGEST_PATTERN:
        raise FilterError(
            f"{place}: a regular expression has at most {LONGEST_PATTERN} characters, not {len(pattern)}",
            position=place,
        )
    try:
        compiled: re.Pattern[str] = _compiled(pattern, options, _linear.get())
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
    re2 = _re2()
    settings = re2.Options()
    settings.log_errors = False
    flags = f"(?{''.join(sorted(set(options)))})" if options else ""
    try:
        return re2.compile(flags + pattern, settings)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from error


def _re2() -> Any:
    try:
        return import_module("re2")
    except ImportError as error:
        raise MissingExtraError(
            "regular expressions of strangers need RE2; install it with: pip install google-re2"
        ) from error
