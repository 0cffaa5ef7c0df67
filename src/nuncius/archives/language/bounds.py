"""Bounds for what strangers ask: how long it may take, and which regular expressions are run.

An archive on one's own disk needs none. A server wraps what it does for a request in `bounded`.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nuncius.errors import DeadlineError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nuncius.archives.language.values import Document

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Bound what the language does within the block, in this thread or task and in those that copy its context.

    Pipelines and expressions that take longer raise `DeadlineError`. Regular expressions are matched by RE2, in a time
    that grows with the length of the text alone; those with look-around, back-references or the option x are refused.

    Parameters
    ----------
    seconds : float
        How long all of the block may take. Documents have to be taken from a pipeline within it, too.

    Raises
    ------
    MissingExtraError
        If RE2 is not installed.
    """
    linear_engine()
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def is_bounded() -> bool:
    """Tell whether this is done for a stranger."""
    return _deadline.get() is not None


def check_time() -> None:
    """Stop where the time is over.

    Raises
    ------
    DeadlineError
        If it is.
    """
    deadline = _deadline.get()
    if deadline is not None and time.monotonic() > deadline:
        raise DeadlineError(
            "the query took longer than it may; ask for less: a narrower filter, fewer documents, a simpler expression"
        )


def in_time(documents: Iterable[Document]) -> Iterable[Document]:
    """Give documents as long as there is time."""
    return _checked(documents) if is_bounded() else documents


def _checked(documents: Iterable[Document]) -> Iterator[Document]:
    for document in documents:
        check_time()
        yield document


def linear_engine() -> Any:
    """Return RE2.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        return import_module("re2")
    except ImportError as error:
        raise MissingExtraError(
            "regular expressions of strangers need RE2; install it with: pip install google-re2"
        ) from error
