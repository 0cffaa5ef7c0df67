"""Pages that come one by one: who is interrupted while the next is on its way, and goes on, misses nothing."""

from __future__ import annotations

import asyncio
import threading

import pytest

from nuncius._core.drivers import AsyncDriver, Driver
from nuncius._core.operations import Call, Deadline
from nuncius._core.pages import AsyncPages, Pages


class Counting:
    """Three pages of two numbers; each waits until it may come."""

    def __init__(self, may_come):
        self._may_come, self._next = may_come, 0

    @property
    def over(self):
        return self._next == 6

    def page(self, deadline):
        begin = self._next
        yield Call(self._may_come)
        self._next = begin + 2
        return [begin, begin + 1]


def forever():
    return Deadline(None)


def test_an_interrupted_wait_loses_no_page(monkeypatch):
    waits, may_come = [], threading.Event()
    pages = Pages(Driver(), Counting(may_come.wait), forever)
    from nuncius._core import pages as module

    def interrupted(futures):
        waits.append(futures)
        if len(waits) == 1:
            raise KeyboardInterrupt
        may_come.set()
        return [future.result(10) for future in futures]

    monkeypatch.setattr(module, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(pages)
    assert list(pages) == [0, 1, 2, 3, 4, 5]


def test_a_page_that_comes_while_its_reader_is_cancelled_is_not_lost():
    async def read():
        pages = AsyncPages(AsyncDriver(), Counting(lambda: None), forever)
        reader = asyncio.ensure_future(anext(pages))
        while pages._coming is None or not pages._coming.done():  # noqa: ASYNC110 - the very turn in which it came
            await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        return [number async for number in pages]

    assert asyncio.run(read()) == [0, 1, 2, 3, 4, 5]


def test_a_reader_that_gives_up_waiting_finds_the_page_later():
    async def read():
        may_come = threading.Event()
        pages = AsyncPages(AsyncDriver(), Counting(may_come.wait), forever)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(pages), 0.05)
        may_come.set()
        return [number async for number in pages]

    assert asyncio.run(read()) == [0, 1, 2, 3, 4, 5]


def test_a_page_that_fails_is_asked_for_again():
    failures = [OSError("broken")]

    def come():
        if failures:
            raise failures.pop()

    pages = Pages(Driver(), Counting(come), forever)
    with pytest.raises(OSError, match="broken"):
        next(pages)
    assert list(pages) == [0, 1, 2, 3, 4, 5]


def test_a_page_on_its_way_is_let_go_at_the_end_of_a_block():
    with Pages(Driver(), Counting(lambda: None), forever) as pages:
        assert next(pages) == 0
    assert list(pages) == []

    async def read():
        async with AsyncPages(AsyncDriver(), Counting(lambda: None), forever) as pages:
            assert await anext(pages) == 0
        return [number async for number in pages]

    assert asyncio.run(read()) == []
