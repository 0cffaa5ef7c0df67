"""What waiting is made of in the two colours of Python; the only code of a stream that is written twice."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SLICE_S = 0.1
"""The longest single wait: so long a Ctrl-C, a deadline or a released alert may be overlooked."""


class Signal:
    """Wakes a thread that waits for the engine."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Wake the waiter; called from any thread."""
        self._event.set()

    def wait(self, timeout_s: float) -> None:
        """Wait until woken, at most `timeout_s` and at most one slice."""
        self._event.wait(max(0.0, min(timeout_s, SLICE_S)))
        self._event.clear()

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call something that blocks."""
        return function(*args)


class AsyncSignal:
    """Wakes a task that waits for the engine."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def set(self) -> None:
        """Wake the waiter; called from any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed in the meantime
                loop.call_soon_threadsafe(self._event.set)

    async def wait(self, timeout_s: float) -> None:
        """Wait until woken, at most `timeout_s` and at most one slice."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._event = loop, asyncio.Event()
            # What came before this loop was known has set nothing: look again soon.
            timeout_s = min(timeout_s, 0.001)
        # Not asyncio.wait_for: before Python 3.12 it swallows a cancellation that comes with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(timeout_s, SLICE_S))):
                await self._event.wait()
        self._event.clear()

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call something that blocks, in a worker thread."""
        return await asyncio.to_thread(function, *args)
