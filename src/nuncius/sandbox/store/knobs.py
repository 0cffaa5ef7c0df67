"""How the store behaves, what goes wrong, and what is noted about it."""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, get_args, overload

from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from nuncius.sandbox.store import SandboxStore
    from nuncius.sandbox.store.messages import Request

T = TypeVar("T")
Ranges = Literal["ok", "ignored", "no total"]
Outcome = Literal["answer", "fail", "reset", "cut"]
_RATES = ("failure_rate", "cut_rate", "cut_at", "reset_rate")


@dataclass(slots=True)
class Knobs:
    """How the store behaves; `SandboxStore` says what each means."""

    latency_s: float = 0.0
    connection_latency_s: float = 0.0
    bandwidth: float | None = None
    failure_rate: float = 0.0
    failure_status: int = 503
    cut_rate: float = 0.0
    cut_at: float = 0.5
    reset_rate: float = 0.0
    ranges: Ranges = "ok"
    head: bool = True
    send_etag: bool = True
    send_modified: bool = True
    page_size: int = 1000
    seed: int = 0

    def change(self, name: str, value: Any) -> None:
        """Turn one of them.

        Raises
        ------
        ConfigurationError
            If it can't be turned so far.
        """
        wrong = None
        if name in _RATES and not 0 <= value <= 1:
            wrong = "choose a number from 0 to 1"
        elif name.endswith("latency_s") and not value >= 0:
            wrong = "give seconds from 0 on"
        elif name == "bandwidth" and value is not None and not value > 0:
            wrong = "give bytes per second, or None for as fast as can be"
        elif name == "failure_status" and not 400 <= value <= 599:
            wrong = "give a status of an error, from 400 to 599"
        elif name == "page_size" and not 1 <= value <= 1000:
            wrong = "give a number from 1 to 1000"
        elif name == "ranges" and value not in get_args(Ranges):
            wrong = f"choose one of {', '.join(get_args(Ranges))}"
        if wrong:
            raise ConfigurationError(f"{name}={value!r}: {wrong}")
        setattr(self, name, value)


class Knob(Generic[T]):
    """An attribute of a store that its server is told of.

    Parameters
    ----------
    name : str
        Which of the `Knobs` it is.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, store: None, owner: type[SandboxStore]) -> Self: ...
    @overload
    def __get__(self, store: SandboxStore, owner: type[SandboxStore]) -> T: ...
    def __get__(self, store: SandboxStore | None, owner: type[SandboxStore]) -> Self | T:
        if store is None:
            return self
        value: T = getattr(store._knobs, self._name)
        return value

    def __set__(self, store: SandboxStore, value: T) -> None:
        store._knobs.change(self._name, value)
        store._order("change", self._name, value)


@dataclass(slots=True)
class _Failure:
    status: int
    times: int
    headers: dict[str, str]
    path: str


class Faults:
    """Decides what goes wrong with a request; with the same seed and requests it is the same each time."""

    def __init__(self, knobs: Knobs) -> None:
        self._knobs = knobs
        self._failures: deque[_Failure] = deque()
        self._random = random.Random(knobs.seed)  # noqa: S311 - faults want repeatable numbers

    def seed(self) -> None:
        """Begin the sequence of random numbers anew."""
        self._random = random.Random(self._knobs.seed)  # noqa: S311 - as above

    def add(self, status: int, times: int, headers: dict[str, str], path: str) -> None:
        """Let the next requests fail; what was added earlier happens earlier."""
        self._failures.append(_Failure(status, times, headers, path))

    def clear(self) -> None:
        """Forget the failures that did not happen yet."""
        self._failures.clear()
        self.seed()

    def next_failure(self, request: Request) -> tuple[int, dict[str, str]] | None:
        """Return the status and the header lines of an ordered or a random failure of this request."""
        for failure in self._failures:
            if request.path.startswith(failure.path):
                failure.times -= 1
                if failure.times <= 0:
                    self._failures.remove(failure)
                return failure.status, failure.headers
        if self._happens(self._knobs.failure_rate):
            return self._knobs.failure_status, {}
        return None

    def resets(self) -> float | None:
        """Return after which part of the answer the connection is reset, if it is; half of them before its first byte."""
        return max(self._random.uniform(-1, 1), 0.0) if self._happens(self._knobs.reset_rate) else None

    def cuts(self) -> bool:
        """Tell whether this body is cut."""
        return self._happens(self._knobs.cut_rate)

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate


# Accounting -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class StoreRequest:
    """A request that the store answered, or failed to.

    Parameters
    ----------
    interface : str
        Where it came in: ``http``, ``s3``, ``gcs`` or ``azure``.
    method : str
        GET, HEAD, ...
    path : str
        The path, encoded as it was sent.
    query : str
        The query string as it was sent.
    range : str or None
        The header Range, or Azure's x-ms-range.
    connection : int
        On which connection, counted from 1.
    time : float
        When, in seconds since 1970.
    headers : dict
        All header lines, by lower-case name.
    status : int or None
        The HTTP status of the answer; None if there is none (yet).
    bytes : int
        How many bytes of the body were sent.
    fault : str or None
        What was let go wrong: ``failed``, ``cut``, ``reset``.
    """

    interface: str
    method: str
    path: str
    query: str = field(repr=False)
    range: str | None
    connection: int
    time: float
    headers: dict[str, str] = field(repr=False)
    status: int | None = None
    bytes: int = 0
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What the requests since the last reset add up to.

    Parameters
    ----------
    requests : int
        How many arrived.
    bytes : int
        How many bytes of bodies were sent.
    connections : int
        How many connections were opened.
    max_in_flight : int
        How many requests were being answered at once, at most. Without a latency the store answers small requests one
        after the other, however many wait.
    """

    requests: int
    bytes: int
    connections: int
    max_in_flight: int


class Accounts:
    """Notes each request; a number is noted before the client can see what it counts."""

    def __init__(self) -> None:
        self.log: list[StoreRequest] = []
        self._numbers = 0
        self._connections = 0
        self._in_flight = 0
        self._most = 0

    def connect(self) -> int:
        """Note a connection and return its number."""
        self._numbers += 1
        self._connections += 1
        return self._numbers

    def begin(self, interface: str, request: Request, connection: int) -> StoreRequest:
        """Note a request that arrives."""
        noted = StoreRequest(
            interface,
            request.method,
            request.path,
            request.query,
            request.headers.get("range", request.headers.get("x-ms-range")),
            connection,
            time.time(),
            request.headers,
        )
        self.log.append(noted)
        self._in_flight += 1
        self._most = max(self._most, self._in_flight)
        return noted

    def end(self) -> None:
        """Note that a request is over."""
        self._in_flight -= 1

    def stats(self) -> StoreStats:
        """Add up."""
        sent = sum(noted.bytes for noted in self.log)
        return StoreStats(len(self.log), sent, self._connections, self._most)

    def reset(self) -> None:
        """Begin anew."""
        self.log = []
        self._connections = 0
        self._most = self._in_flight
