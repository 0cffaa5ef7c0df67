"""Operations: what we do on a service, written once for both colours of Python.

An operation is a generator. It *yields values that say what it needs* and receives the results; it never waits, opens a
socket or starts a thread itself. Two small drivers (`drivers.py`) run every operation, one for ``def`` and one for
``async def``. So the logic exists once, and a test can feed it results without any network::

    def greet(url):
        response = yield Request("GET", url)
        return response.body.decode()

What an operation may yield:

=================== =================================================================================================
`Request`           an HTTP request; receives its `Response`. Only what is no answer at all is raised
`Sleep`             wait for so many seconds
`Gather`            run several operations side by side; receives an `Outcome` for each, in the order asked
`Once`              run an operation unless one of that key is running: then wait for that one's result (a login)
`Call`              call a function that blocks: inline in sync, in a worker thread in async
`ReadRange`         some bytes of an object in a store; receives a `Piece`
=================== =================================================================================================

Cancelling closes the generator; a ``finally`` in an operation must not yield.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

from nuncius.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from datetime import datetime

T = TypeVar("T")

MAX_BODY_BYTES = 1 << 31  # no answer that we wait for is larger; a stranger's endless body ends here


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request.

    Parameters
    ----------
    method, url : str
        What, and where; the URL holds no secret.
    headers, params : mapping, optional
        Header lines and the query string.
    body : bytes, optional
        What is sent.
    timeout_s : float
        For everything, from connecting to the last byte of the answer.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # a token stands in them
    params: Mapping[str, Any] | None = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a `Request`, whole; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Gather:
    """Run operations side by side, at most `limit` at a time."""

    operations: Sequence[Operation[Any]]
    limit: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one operation of a `Gather` ended: with a value or with an error."""

    value: Any = None
    error: Exception | None = None

    def result(self) -> Any:
        """Return the value or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(frozen=True, slots=True)
class Once:
    """Run the operation that `make` makes, or wait for the one of the same key that is running, but not for ever."""

    key: Hashable
    make: Callable[[], Operation[Any]]
    timeout_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Call:
    """Call a function that blocks."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()


class Piece(NamedTuple):
    """Bytes of an object in a store, and what the store said of the object."""

    data: bytes
    size: int
    """Of the whole object, in bytes."""
    etag: str | None = None
    modified: datetime | None = None


class Source(Protocol):
    """An object in a store: a FITS file. It is cheap, and pickles as its URL and settings, without any secret."""

    @property
    def url(self) -> str:
        """Where it is, as it may be shown: without a query string, a user name or a secret."""

    async def read(self, start: int, end: int, *, etag: str | None = None) -> Piece:
        """Read the bytes from `start` to before `end`, cut at the end of the object.

        Where the object ends before `start`, also where it is empty, there are no bytes and its true size.

        Raises
        ------
        FileChangedError
            If an ETag is given and the object has another one.
        NotFoundError, ForbiddenError, LoginError, UnreachableError, DeadlineError, ServerError
            As their names say.
        UnsupportedError
            If the server sends no ranges.
        """

    async def read_all(self, max_bytes: int) -> Piece:
        """Read the whole object; UnsupportedError if it is larger than that."""


@dataclass(frozen=True, slots=True)
class ReadRange:
    """Read the bytes from `start` to before `end`; of the object with that ETag, if one is given.

    Without an end it is the whole object, also of a server that sends no ranges; then `most_bytes` bounds it.
    """

    source: Source
    start: int
    end: int | None
    etag: str | None = None
    most_bytes: int = MAX_BODY_BYTES

    async def answer(self) -> Piece:
        """Read them."""
        if self.end is None:
            return await self.source.read_all(self.most_bytes)
        return await self.source.read(self.start, self.end, etag=self.etag)


Need: TypeAlias = Request | Sleep | Gather | Once | Call | ReadRange
Operation: TypeAlias = Generator[Need, Any, T]


def calling(function: Callable[..., T], *args: Any, **options: Any) -> Operation[T]:
    """Return the operation that calls one function that blocks."""
    result: T = yield Call(partial(function, *args, **options))
    return result


class Deadline:
    """The moment at which the caller's time is over.

    Parameters
    ----------
    timeout_s : float, optional
        From now on; None is never.
    """

    __slots__ = ("_end", "timeout_s")

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self._end = math.inf if timeout_s is None else time.monotonic() + timeout_s

    @property
    def remaining_s(self) -> float:
        """How much is left; infinity without a deadline."""
        return max(0.0, self._end - time.monotonic())

    def at_most(self, seconds: float) -> Deadline:
        """Return the deadline of a part that may take so long, but no longer than the whole."""
        return Deadline(min(seconds, self.remaining_s))

    def check(self, what: str) -> None:
        """Raise if it is over.

        Raises
        ------
        DeadlineError
            With `what` in its message.
        """
        if self.remaining_s <= 0:
            raise DeadlineError(f"{what} was not done within {self.timeout_s:g} s; give more with timeout_s=")
