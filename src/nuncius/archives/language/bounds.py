"""Bounds for what strangers ask: how long it may take, in how much memory, and which regular expressions are run.

An archive on one's own disk needs none. A server wraps what it does for a request in `bounded`.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nuncius.errors import DeadlineError, MissingExtraError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nuncius.archives.language.values import Document

_LOOK_S = 0.02  # between two looks at the memory: the quickest growth is about a megabyte in a millisecond
_SMALL_BYTES = (
    32 << 20
)  # what a query may always add: one that needs little is not refused for what others hold


class _Bounds:
    """What one request may cost."""

    __slots__ = ("begin_bytes", "deadline", "look", "memory_bytes")

    def __init__(self, seconds: float, memory_bytes: int | None) -> None:
        self.deadline = time.monotonic() + seconds
        self.memory_bytes = memory_bytes
        self.begin_bytes = 0 if memory_bytes is None else held_bytes()
        self.look = 0.0

    def check(self) -> None:
        now = time.monotonic()
        if now > self.deadline:
            raise DeadlineError(
                "the query took longer than it may; ask for less: a narrower filter, fewer documents, a simpler "
                "expression"
            )
        if self.memory_bytes is None or now < self.look:
            return
        self.look = now + _LOOK_S
        held = held_bytes()
        if held > self.memory_bytes and held - self.begin_bytes > _SMALL_BYTES:
            raise UnsupportedError(
                "the query needs more memory than there is for it; ask for less at once: fewer documents, fewer fields, "
                "a narrower filter before a sort, a group or a join"
            )


_bounds: ContextVar[_Bounds | None] = ContextVar("bounds", default=None)


@contextmanager
def bounded(seconds: float, memory_bytes: int | None = None) -> Iterator[None]:
    """Bound what the language does within the block, in this thread or task and in those that copy its context.

    Pipelines and expressions that take longer raise `DeadlineError`. Regular expressions are matched by RE2, in a time
    that grows with the length of the text alone; those with look-around, back-references or the option x are refused.

    Parameters
    ----------
    seconds : float
        How long all of the block may take. Documents have to be taken from a pipeline within it, too.
    memory_bytes : int, optional
        How much the whole process may hold before what makes it hold more is stopped with `UnsupportedError`. It is
        looked at often, not always: a block may take some tens of megabytes more. Only Linux says how much it is.

    Raises
    ------
    MissingExtraError
        If RE2 is not installed.
    """
    linear_engine()
    token = _bounds.set(_Bounds(seconds, memory_bytes))
    try:
        yield
    finally:
        _bounds.reset(token)


def is_bounded() -> bool:
    """Tell whether this is done for a stranger."""
    return _bounds.get() is not None


def check_time() -> None:
    """Stop where the time is over, or the memory.

    Raises
    ------
    DeadlineError
        If the time is over.
    UnsupportedError
        If the process holds more than it may, and this block has added to it.
    """
    bounds = _bounds.get()
    if bounds is not None:
        bounds.check()


def held_bytes() -> int:
    """Return how much memory the process holds for itself, without pages of files; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - fifty times a second
            _, resident, shared, *_ = file.read().split()
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


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
