"""How many may ask at once, and how often a login may fail."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nuncius.archives.server.limits import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuncius.archives.server.limits import Limits

_WINDOW_S = 300.0
_FAILURES_OF_NAME = 5  # from one address
_FAILURES_OF_ADDRESS = 30
_MOST_KEPT = 10_000


class LoginGuard:
    """Counts failed logins of the last five minutes, by address and by name and address.

    A name alone is not counted: whoever fails on purpose would lock its owner out.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()

    def check(self, name: str, address: str) -> None:
        """Let a login be tried.

        Raises
        ------
        Refusal
            If too many have failed; it says when to try again.
        """
        now = time.monotonic()
        for key, most in (((name, address), _FAILURES_OF_NAME), ((address,), _FAILURES_OF_ADDRESS)):
            times = self._failures.get(key, deque())
            while times and now - times[0] > _WINDOW_S:
                times.popleft()
            if len(times) >= most:
                raise Refusal(
                    429, detail="too many logins have failed", retry_after_s=_WINDOW_S - (now - times[0])
                )

    def tried(self, name: str, address: str) -> None:
        """Count a login as failed until it has succeeded, so that many at once are counted too."""
        for key in ((name, address), (address,)):
            self._failures.setdefault(key, deque(maxlen=_FAILURES_OF_ADDRESS)).append(time.monotonic())
            self._failures.move_to_end(key)
        while len(self._failures) > _MOST_KEPT:
            self._failures.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of a name that has logged in."""
        self._failures.pop((name, address), None)
        if times := self._failures.get((address,)):
            times.pop()


class Slots:
    """Shares the threads among the users; only used from the thread of the event loop.

    Parameters
    ----------
    limits : Limits
        How many there may be.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._running: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}

    @contextmanager
    def sending(self, user: str, size: int) -> Iterator[None]:
        """Count an answer that waits until its reader has taken it."""
        self._unread[user] += size
        try:
            yield
        finally:
            self._unread[user] -= size
            if not self._unread[user]:
                del self._unread[user]

    def turn(self, user: str) -> asyncio.Semaphore:
        """Return what is held while a thread works for a user: at most half of them work for the same one."""
        return self._turns.setdefault(user, asyncio.Semaphore(max(1, self._limits.threads // 2)))

    @contextmanager
    def one(self, user: str) -> Iterator[None]:
        """Take a slot for one query.

        Raises
        ------
        Refusal
            If the user, or the server, has as many as it may, or the user does not read what was answered.
        """
        if self._running[user] >= self._limits.queries_per_user:
            raise Refusal(
                429,
                detail=f"{self._limits.queries_per_user} of your queries are still running",
                retry_after_s=1,
            )
        if self._unread[user] >= self._limits.unread_bytes:
            raise Refusal(429, detail="your earlier answers have not been read", retry_after_s=5)
        if self._running.total() >= self._limits.queries:
            raise Refusal(503, detail="too many queries are running", retry_after_s=2)
        self._running[user] += 1
        try:
            yield
        finally:
            self._running[user] -= 1
            if not self._running[user]:
                del self._running[user]
                self._turns.pop(user, None)
