"""The two drivers: each need is met, errors reach the operation, and nothing is lost when somebody stops."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

import http_support
from nuncius._core.drivers import AsyncDriver, Driver
from nuncius._core.operations import Call, Deadline, Gather, Once, Outcome, Request, Sleep, calling
from nuncius.errors import DeadlineError, NunciusError, UnreachableError


@pytest.fixture(params=sorted(http_support.COLOURS))
def run(request):
    """Run an operation in either colour."""
    return http_support.COLOURS[request.param]


def value(result, seconds=0.0):
    """Be an operation that takes its time."""
    if seconds:
        yield Sleep(seconds)
    return result


def failing(error, seconds=0.0):
    """Be an operation that fails."""
    yield Sleep(seconds)
    raise error


# What may be yielded -------------------------------------------------------------------------------------------------


def test_results_are_sent_in(run):
    def operation():
        first = yield Call(divmod, (7, 2))
        nothing = yield Sleep(0)
        second = yield from calling(int, "ff", base=16)
        return first, nothing, second

    assert run(operation()) == ((3, 1), None, 255)


def test_an_operation_may_catch_what_failed(run):
    def operation():
        try:
            yield Call(int, ("x",))
        except ValueError as error:
            recovered = str(error)
        return recovered, (yield Call(int, ("7",)))

    assert run(operation()) == ("invalid literal for int() with base 10: 'x'", 7)


def test_what_is_not_caught_reaches_the_caller_with_its_place(run):
    def operation():
        yield Call(int, ("x",))

    with pytest.raises(ValueError, match="'x'") as caught:
        run(operation())
    assert any(entry.name == "operation" for entry in caught.traceback)


def test_an_operation_that_needs_nothing(run):
    def operation():
        return 3
        yield

    assert run(operation()) == 3


# Gather --------------------------------------------------------------------------------------------------------------


def test_outcomes_come_in_the_order_asked(run):
    def operation():
        parts = [value("slow", 0.05), failing(KeyError("k")), value("quick")]
        return (yield Gather(parts, limit=3))

    slow, failed, quick = run(operation())
    assert (slow.result(), quick.result()) == ("slow", "quick")
    assert isinstance(failed.error, KeyError)
    with pytest.raises(KeyError):
        failed.result()


def test_no_more_than_the_limit_run_at_a_time(run):
    now, most, lock = [0], [0], threading.Lock()

    def one():
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        yield Sleep(0.01)
        with lock:
            now[0] -= 1
        return 1

    def operation():
        return (yield Gather([one() for _ in range(12)], limit=3))

    assert sum(outcome.result() for outcome in run(operation())) == 12
    assert most[0] == 3


def test_gathers_may_be_nested(run):
    def inner(number):
        outcomes = yield Gather([value((number, part), 0.001) for part in range(4)], limit=2)
        return [outcome.result() for outcome in outcomes]

    def operation():
        outcomes = yield Gather([inner(number) for number in range(3)], limit=2)
        return [outcome.result() for outcome in outcomes]

    assert run(operation()) == [[(number, part) for part in range(4)] for number in range(3)]


def test_gathering_nothing(run):
    def operation():
        return (yield Gather([], limit=4))

    assert run(operation()) == []


def test_a_thread_that_ends_by_force_is_not_an_answer_of_none():
    """What ends a worker without being an `Exception` (here `sys.exit`) must not read as success."""

    def leaving():
        yield Call(sys.exit, (3,))

    def operation():
        return (yield Gather([leaving(), value(1)], limit=2))

    try:
        first, second = Driver().run(operation())
    except SystemExit:
        return  # as loud as it can be
    assert second.result() == 1
    with pytest.raises(NunciusError):
        first.result()


# Once ----------------------------------------------------------------------------------------------------------------


def test_once_runs_one_operation_for_all_who_ask(run):
    made = []

    def log_in():
        made.append(1)
        yield Sleep(0.03)
        return "token"

    def one():
        return (yield Once("key", log_in))

    def operation():
        return (yield Gather([one() for _ in range(8)], limit=8))

    assert [outcome.result() for outcome in run(operation())] == ["token"] * 8
    assert len(made) == 1


def test_once_runs_again_when_asked_later(run):
    made = []

    def log_in():
        made.append(1)
        return len(made)
        yield

    def operation():
        return (yield Once("key", log_in)), (yield Once("key", log_in))

    assert run(operation()) == (1, 2)


def test_all_who_wait_for_once_hear_of_its_failure(run):
    def one():
        return (yield Once("key", lambda: failing(LookupError("gone"), 0.03)))

    def operation():
        return (yield Gather([one() for _ in range(4)], limit=4))

    assert [type(outcome.error) for outcome in run(operation())] == [LookupError] * 4


async def test_who_waits_for_a_cancelled_once_is_not_left_waiting():
    driver = AsyncDriver()

    def one(seconds):
        return (yield Once("key", lambda: value("done", seconds)))

    first = asyncio.create_task(driver.run(one(30)))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(driver.run(one(0)))
    await asyncio.sleep(0.01)
    first.cancel()
    async with asyncio.timeout(5):
        try:
            assert await second == "done"
        except UnreachableError as error:
            assert "ask again" in str(error)  # noqa: PT017 - either is honest
    with pytest.raises(asyncio.CancelledError):
        await first


def test_once_of_one_driver_among_threads():
    driver, made, results = Driver(), [], []

    def log_in():
        made.append(1)
        yield Sleep(0.05)
        return "token"

    def operation():
        return (yield Once("key", log_in))

    threads = [threading.Thread(target=lambda: results.append(driver.run(operation()))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert results == ["token"] * 6
    assert len(made) == 1


# Stopping ------------------------------------------------------------------------------------------------------------


async def test_cancelling_closes_every_operation():
    closed = []

    def part(name):
        try:
            yield Sleep(30)
        finally:
            closed.append(name)

    def operation():
        try:
            yield Gather([part("a"), part("b")], limit=2)
        finally:
            closed.append("outer")

    task = asyncio.create_task(AsyncDriver().run(operation()))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(closed) == ["a", "b", "outer"]


def test_an_operation_that_cleans_up_sees_the_error(run):
    seen = []

    def operation():
        try:
            yield Call(int, ("x",))
        finally:
            seen.append("cleaned")

    with pytest.raises(ValueError):
        run(operation())
    assert seen == ["cleaned"]


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
def test_ctrl_c_ends_a_gather_at_once_and_what_was_begun_goes_no_further(tmp_path):
    """Workers that are on their way may end their request; they must not begin another one."""
    program = f"""
import os, signal, threading, time
from nuncius._core.drivers import Driver
from nuncius._core.operations import Gather, Sleep

signal.signal(signal.SIGINT, signal.default_int_handler)
steps = []

def worker():
    for _ in range(1000):
        yield Sleep(0.05)
        steps.append(1)

def operation():
    yield Gather([worker() for _ in range(4)], limit=4)

threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
begin = time.monotonic()
try:
    Driver().run(operation())
except KeyboardInterrupt:
    assert time.monotonic() - begin < 0.8, "Ctrl-C had to wait"
else:
    raise AssertionError("not interrupted")
time.sleep(0.15)
known = len(steps)
time.sleep(0.4)
assert len(steps) == known, f"workers went on: {{len(steps) - known}} more steps"
open({str(tmp_path / "done")!r}, "w").write("done")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (tmp_path / "done").exists(), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_does_not_wait_for_a_login_of_its_parent():
    driver = Driver()
    begun = threading.Event()

    def slowly():
        begun.set()
        yield Sleep(1.0)
        return "parent"

    def operation(make):
        return (yield Once("key", make))

    thread = threading.Thread(target=driver.run, args=(operation(slowly),))
    thread.start()
    assert begun.wait(5)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if driver.run(operation(lambda: value("child"))) == "child" else 1)
        except BaseException:
            os._exit(2)
    thread.join(10)
    end = time.monotonic() + 5
    status = None
    while status is None and time.monotonic() < end:
        ended, code = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if ended else None
        time.sleep(0.01)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert status == 0, "the child waited for somebody who is not there"


@pytest.fixture
def forgotten():
    """Let connections that a test leaves open be closed with it, while their warnings are not looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def fetching(url):
    """Be an operation that gets a page."""
    return (yield Request("GET", url)).body


def test_one_driver_in_two_event_loops_one_after_the_other():
    driver = AsyncDriver()

    async def one(url):
        try:
            return await driver.run(fetching(url))
        finally:
            await driver.close()

    with http_support.Loopback(lambda _: http_support.reply(body=b"hello")) as server:
        assert [asyncio.run(one(server.url)) for _ in range(3)] == [b"hello"] * 3


def test_the_connections_of_loops_that_ended_are_let_go(forgotten):
    """Else a script that calls `asyncio.run` again and again runs out of files."""
    driver = AsyncDriver()
    with http_support.Loopback(lambda _: http_support.reply(body=b"hello")) as server:
        assert [asyncio.run(driver.run(fetching(server.url))) for _ in range(4)] == [b"hello"] * 4
        gc.collect()
        assert len(driver._clients) <= 1
    driver._clients.clear()


def test_a_loop_that_ends_closes_its_connections(forgotten):
    driver, closed = AsyncDriver(), []

    async def one(url):
        assert await driver.run(fetching(url)) == b"hello"
        (kept,) = driver._clients.values()
        closed.append(kept.client)

    with http_support.Loopback(lambda _: http_support.reply(body=b"hello")) as server:
        asyncio.run(one(server.url))
    assert closed[0].is_closed
    driver._clients.clear()


async def test_blocking_calls_leave_the_loop_free():
    ticks = []

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    await AsyncDriver().run(calling(time.sleep, 0.2))
    ticking.cancel()
    assert len(ticks) > 5


# Deadlines -----------------------------------------------------------------------------------------------------------


def test_a_deadline_says_what_was_not_done():
    deadline = Deadline(0.01)
    assert 0 < deadline.remaining_s <= 0.01
    time.sleep(0.02)
    assert deadline.remaining_s == 0
    with pytest.raises(DeadlineError, match=r"the login was not done within 0\.01 s; give more"):
        deadline.check("the login")


def test_no_deadline_never_ends():
    deadline = Deadline(None)
    deadline.check("anything")
    assert deadline.remaining_s == float("inf")


def test_an_outcome_is_a_value_or_an_error():
    assert Outcome(3).result() == 3
    with pytest.raises(KeyError):
        Outcome(error=KeyError("k")).result()
