"""What runs in a thread, and ends when its time is over whatever it is doing.

The archive looks at its deadline between documents. An expression that computes for hours on a single one would not
notice, and with a few of them nobody else would get an answer; so the thread itself is interrupted then.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from typing import TYPE_CHECKING, Any

from nuncius.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from nuncius.archives.server.limits import TimeLeft

_GRACE_S = 1.0  # for whoever looks at the deadline by himself, and says more about it


class _Interrupted(BaseException):
    """Not an `Exception`, which some handler on the way might take for an error of its own."""


class _Job:
    """A call that can be interrupted from another thread."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function = function
        self._arguments = arguments
        self._lock = threading.Lock()
        self._thread: int | None = None

    def run(self) -> Any:
        try:
            with self._lock:
                self._thread = threading.get_ident()
            try:
                return self._function(*self._arguments)
            finally:
                # An interruption that was under way arrives at the latest at the end of this block.
                with self._lock:
                    self._thread = None
        except _Interrupted:
            raise DeadlineError("the request was broken off") from None

    def interrupt(self) -> None:
        with self._lock:
            if self._thread is not None:
                thread, error = ctypes.c_ulong(self._thread), ctypes.py_object(_Interrupted)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, error)


async def run_in_time(
    executor: Executor, left: TimeLeft, function: Callable[..., Any], *arguments: Any
) -> Any:
    """Call a function in a thread, and break it off when its time is over.

    Parameters
    ----------
    executor : Executor
        Whose thread.
    left : TimeLeft
        How long it may take; the function may shorten it.
    function, *arguments
        What is called. A single call of a function that is not written in Python is not broken off.

    Raises
    ------
    DeadlineError
        If it was broken off.
    """
    job = _Job(function, arguments)
    watch = asyncio.create_task(_watch(job, left))
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, job.run)
    finally:
        watch.cancel()


async def _watch(job: _Job, left: TimeLeft) -> None:
    while True:
        await asyncio.sleep(_GRACE_S)
        if left.is_over(_GRACE_S):
            job.interrupt()  # and again, if something held it up
