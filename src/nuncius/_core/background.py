"""An event loop in a thread of its own, for sync code that reads many things at once.

There is one for the process; it starts when it is first needed and ends with the program.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from nuncius.errors import ForkError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

T = TypeVar("T")

_PATIENCE_S = 1.0
_ENDING_S = 5.0  # for what is cancelled to end, on a busy machine too
_LETTING_GO_S = 0.1  # until other threads have dropped what was cancelled, which nothing tells


class _Background:
    """The loop and its thread."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.cancelled_at = -_LETTING_GO_S  # when something was last cancelled
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="nuncius-background", daemon=True)
        self.thread.start()
        atexit.register(self.end)

    def end(self) -> None:
        """Stop what is still on its way: the threads of the stores' client must not come back to an interpreter that has ended."""
        global _running
        if self.process != os.getpid() or not self.thread.is_alive():
            return
        _running = None
        with contextlib.suppress(TimeoutError):
            if asyncio.run_coroutine_threadsafe(_cancel_all(), self.loop).result(_ENDING_S):
                self.cancelled_at = time.monotonic()
        time.sleep(max(0.0, self.cancelled_at + _LETTING_GO_S - time.monotonic()))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(_PATIENCE_S)


async def _cancel_all() -> bool:
    """Cancel what is still running, and tell whether there was anything."""
    found = False
    while others := asyncio.all_tasks() - {asyncio.current_task()}:  # one that ended may have begun another
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        found = True
    return found


_END = object()
_lock = threading.Lock()
_running: _Background | None = None


def _background() -> _Background:
    global _running
    if _running is None:
        if sys.is_finalizing():  # a thread that is started now never runs, and waiting for it never ends
            message = "the program is ending: nothing is read any more"
            raise RuntimeError(message)
        with _lock:
            if _running is None:
                _running = _Background()
    if _running.process != os.getpid():
        raise ForkError(
            "this process was forked from one that had already read remote files, whose connections it can't use; "
            'start worker processes with the method "spawn": multiprocessing.get_context("spawn")'
        )
    if threading.current_thread() is _running.thread:
        message = "sync code can't wait here: it would stop the loop that it waits for"
        raise RuntimeError(message)
    return _running


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and wait for its result; Ctrl-C cancels it.

    Raises
    ------
    ForkError
        In a process forked from one whose loop was running.
    """
    try:
        background = _background()
    except BaseException:
        work.close()
        raise
    ended = threading.Event()
    future = asyncio.run_coroutine_threadsafe(_telling(work, ended), background.loop)
    try:
        return future.result()
    except BaseException:
        if future.cancel():
            background.cancelled_at = time.monotonic()
            ended.wait(_PATIENCE_S)  # it still tidies up; until then nothing else may touch what it works on
        raise


async def _telling(work: Coroutine[Any, Any, T], ended: threading.Event) -> T:
    try:
        return await work
    finally:
        ended.set()


def iterate(items: AsyncIterator[T]) -> Iterator[T]:
    """Iterate over an async generator on the background loop; leaving early closes it."""
    try:
        while (item := run(_next(items))) is not _END:
            yield item
    finally:
        close = getattr(items, "aclose", None)
        if close is not None and not sys.is_finalizing():
            run(close())


async def _next(items: AsyncIterator[T]) -> Any:
    return await anext(items, _END)
