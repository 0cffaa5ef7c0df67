"""How a stream delivers, and what it did so far: plain values."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from nuncius.streams.bounds import Stop
    from nuncius.streams.delivery import Ticket
    from nuncius.streams.transport import Reader


class Watching(Protocol):
    """Which places on the sky a stream is limited to; see `nuncius.streams.watch`."""

    names: Any

    def __call__(self, ra: Any, dec: Any) -> Any:
        """Tell for arrays of degrees which positions are inside."""

    def match(self, ra: Any, dec: Any) -> tuple[Any, Any]:
        """Return for each position the number of the nearest target, or -1, and its separation in arcsec."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a stream delivers; see `nuncius.open_stream` for the meaning."""

    acknowledge: Literal["on_next", "manual"]
    on_error: Literal["quarantine", "raise", "skip"]
    max_unacknowledged: int
    validate: bool
    connect_timeout_s: float
    stop: Stop
    read: Reader
    broker: str | None = None
    attributes: Callable[[Mapping[str, str]], bool] | None = None
    where: Callable[[Any], bool] | None = None
    near: Watching | None = None
    seen: Seen | None = None
    rate: Rate | None = None


@dataclass(slots=True)
class StreamStats:
    """What a stream did so far.

    Parameters
    ----------
    received, received_bytes : int
        Messages that came from the broker.
    handed_out, acknowledged : int
        Alerts given to the caller, and finished by him.
    quarantined, skipped : int
        Messages that could not be read.
    filtered, duplicates : int
        Alerts that a filter dropped, and alerts that had come before.
    waiting, unacknowledged : int
        Alerts in the queue, and alerts in the caller's hands.
    paused : bool
        Whether the caller is so slow that fetching rests.
    last_error : str, optional
        The trouble of the connection, while it lasts.
    last_alert : float, optional
        When the last alert was handed out, in seconds since 1970 UTC.
    group : str, optional
        The consumer group.
    """

    received: int = 0
    received_bytes: int = 0
    handed_out: int = 0
    acknowledged: int = 0
    quarantined: int = 0
    skipped: int = 0
    filtered: int = 0
    duplicates: int = 0
    waiting: int = 0
    unacknowledged: int = 0
    paused: bool = False
    last_error: str | None = None
    last_alert: float | None = None
    group: str | None = None


class Seen:
    """The keys of the last alerts, to tell what comes again. Streams that are read as one share it.

    Parameters
    ----------
    size : int
        How many keys are remembered.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._tickets: OrderedDict[Hashable, Ticket] = OrderedDict()
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Forget all: the stream is moved, and what came before is wanted again."""
        with self._lock:
            self._tickets.clear()

    def is_new(self, key: Hashable, ticket: Ticket) -> bool:
        """Enter an alert; tell whether it is the first of its key.

        An earlier one counts only while it is finished or still will be: what was taken away from us comes again, and
        must not be dropped then.
        """
        with self._lock:
            before = self._tickets.get(key)
            if before is not None and before is not ticket and (before.done or before.ledger.alive):
                self._tickets.move_to_end(key)
                return False
            self._tickets[key] = ticket
            self._tickets.move_to_end(key)
            if len(self._tickets) > self._size:
                self._tickets.popitem(last=False)
            return True


class Rate:
    """Limits how many alerts are handed out in a second. Streams that are read as one share it.

    Parameters
    ----------
    per_s : float
        How many on average; after a pause at most so many as belong to one second come at once.
    """

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._allowed = 1.0
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def allowed(self) -> int:
        """Return how many alerts may be handed out now."""
        with self._lock:
            now = time.monotonic()
            self._allowed = min(max(1.0, self._per_s), self._allowed + (now - self._at) * self._per_s)
            self._at = now
            return int(self._allowed)

    def take(self, count: int) -> None:
        """Note that so many were handed out."""
        with self._lock:
            self._allowed -= count
