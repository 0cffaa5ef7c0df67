"""What a service gives page by page, one by one, while the next page is already on its way; in both colours."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius._core.drivers import AsyncDriver, Driver
    from nuncius._core.operations import Deadline, Operation

T = TypeVar("T")


class Walk(Protocol[T]):
    """A reading page by page."""

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""

    def page(self, deadline: Deadline) -> Operation[list[T]]:
        """Read the next page."""


class AsyncPages(Generic[T]):
    """An async iterator over what a walk reads. It is of one task.

    Nothing is asked before the first is wanted, and never more than one page ahead.

    Parameters
    ----------
    driver : AsyncDriver
        Runs the requests.
    walk : Walk
        What is read.
    deadline : callable
        Begins the time of a page.
    """

    def __init__(self, driver: AsyncDriver, walk: Walk[T], deadline: Callable[[], Deadline]) -> None:
        self._driver, self._walk, self._deadline = driver, walk, deadline
        self._here: deque[T] = deque()
        self._closed = False
        self._coming: asyncio.Task[list[T]] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def __anext__(self) -> T:
        while not self._here:
            if self._coming is None and not self._begin():
                raise StopAsyncIteration
            coming = self._coming
            assert coming is not None
            await asyncio.wait([coming])  # who is cancelled here, and goes on, still gets the page
            self._coming = None
            self._here.extend(coming.result())
            self._begin()
        return self._here.popleft()

    async def close(self) -> None:
        """Ask for nothing more."""
        self._closed = True
        self._here.clear()
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.cancel()
            await asyncio.wait([coming])

    def __del__(self) -> None:
        coming = getattr(self, "_coming", None)
        if coming is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the task with it
                coming.cancel()

    def _begin(self) -> bool:
        if self._closed or self._walk.over:
            return False
        task = asyncio.get_running_loop().create_task(self._driver.run(self._walk.page(self._deadline())))
        task.add_done_callback(_look)
        self._coming = task
        return True


class Pages(Generic[T]):
    """An iterator over what a walk reads. It is of one thread.

    Nothing is asked before the first is wanted, and never more than one page ahead.

    Parameters
    ----------
    driver : Driver
        Runs the requests.
    walk : Walk
        What is read.
    deadline : callable
        Begins the time of a page.
    """

    def __init__(self, driver: Driver, walk: Walk[T], deadline: Callable[[], Deadline]) -> None:
        self._driver, self._walk, self._deadline = driver, walk, deadline
        self._here: deque[T] = deque()
        self._closed = False
        self._coming: Future[list[T]] | None = None

    def __iter__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> T:
        while not self._here:
            if self._coming is None and not self._begin():
                raise StopIteration
            coming = self._coming
            assert coming is not None
            wait([coming])  # who is interrupted here, and goes on, still gets the page
            self._coming = None
            self._here.extend(coming.result())
            self._begin()
        return self._here.popleft()

    def close(self) -> None:
        """Ask for nothing more; what is on its way is let go."""
        self._closed = True
        self._here.clear()
        self._coming = None

    def _begin(self) -> bool:
        if self._closed or self._walk.over:
            return False
        future: Future[list[T]] = Future()
        operation = self._walk.page(self._deadline())

        def work() -> None:
            try:
                future.set_result(self._driver.run(operation))
            except BaseException as error:  # noqa: BLE001 - raised where the page is wanted
                future.set_exception(error)

        # A daemon: nobody waits at the end of the program for a page that nobody wants.
        threading.Thread(target=work, daemon=True, name="nuncius-page").start()
        self._coming = future
        return True


def _look(task: asyncio.Task[Any]) -> None:
    """Take note of how a page ended, because nobody may ever ask."""
    if not task.cancelled():
        task.exception()
