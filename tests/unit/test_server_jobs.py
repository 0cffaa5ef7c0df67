"""What runs in a thread ends when its time is over."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nuncius.archives.server import jobs
from nuncius.archives.server.jobs import run_in_time
from nuncius.archives.server.limits import TimeLeft
from nuncius.errors import DeadlineError


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def threads():
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(jobs, "_GRACE_S", 0.05)


def for_ever():
    while True:
        pass


def stubborn(times):
    for _ in range(times):
        try:
            for_ever()
        except BaseException:
            continue
    for_ever()


@pytest.mark.anyio
async def test_results_and_errors_come_through(threads):
    assert await run_in_time(threads, TimeLeft(10), divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await run_in_time(threads, TimeLeft(10), divmod, 7, 0)


@pytest.mark.anyio
@pytest.mark.parametrize(("function", "arguments"), [(for_ever, ()), (stubborn, (3,))])
async def test_an_endless_call_is_broken_off_and_the_thread_goes_on(threads, function, arguments):
    before = await run_in_time(threads, TimeLeft(10), threading.get_ident)
    begin = time.monotonic()
    with pytest.raises(DeadlineError, match="broken off"):
        await run_in_time(threads, TimeLeft(0.1), function, *arguments)
    assert time.monotonic() - begin < 5
    assert await run_in_time(threads, TimeLeft(10), threading.get_ident) == before


@pytest.mark.anyio
async def test_nothing_is_interrupted_but_the_call_itself(threads, monkeypatch):
    """Calls that end just when they are interrupted end in one way or the other, and never hurt the next one."""
    monkeypatch.setattr(jobs, "_GRACE_S", 0.0)
    ended = {True: 0, False: 0}

    def spin(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return True

    for number in range(200):
        try:
            ended[await run_in_time(threads, TimeLeft(0.001), spin, 0.0009 + (number % 5) * 0.0001)] += 1
        except DeadlineError:
            ended[False] += 1
        assert await run_in_time(threads, TimeLeft(10), divmod, 7, 2) == (3, 1)
    assert sum(ended.values()) == 200


@pytest.mark.anyio
async def test_time_can_be_shortened_on_the_way(threads):
    left = TimeLeft(60)

    def shorten():
        left.shorten(0.05)
        for_ever()

    with pytest.raises(DeadlineError):
        await run_in_time(threads, left, shorten)
