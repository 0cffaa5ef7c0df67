"""A broker that goes away and comes back, answers with errors, or is gone for good."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter

import pytest

from nuncius import open_stream
from nuncius.errors import ForbiddenError, UnreachableError
from streams_support import (
    QUICK,
    committed_sum,
    ids,
    packet,
    packets,
    produce,
    read_all,
    take,
    wait_until,
)

pytestmark = pytest.mark.mock_cluster

# NUNCIUS_TEST_OUTAGE_S=10 makes the outages as long as those of the nightly run.
OUTAGE_S = float(os.environ.get("NUNCIUS_TEST_OUTAGE_S", "3"))


@pytest.fixture
def url(server, topic):
    return f"kafka://{server}/{topic}"


@pytest.fixture(params=["group", "no group"])
def member(request, group):
    return {"group": group, "config": QUICK} if request.param == "group" else {"group": False}


async def outage(cluster, seconds=OUTAGE_S):
    cluster.order("down")
    await asyncio.sleep(seconds)
    cluster.order("up")


async def test_a_stream_goes_on_by_itself_after_an_outage(open_any, cluster, url, topic, member):
    produce(cluster.server, topic, packets(50))
    seen = Counter()
    async with open_any(url, **member) as stream:
        seen.update(ids(await take(stream, 50)))
        cluster.order("down")
        begin = time.monotonic()
        while time.monotonic() - begin < OUTAGE_S:
            assert await stream.poll(0.2) is None
        assert stream.stats().last_error is not None
        cluster.order("up")
        produce(cluster.server, topic, packets(50, first=50))
        while len(seen) < 100 and time.monotonic() - begin < OUTAGE_S + 30:
            alert = await stream.poll(1.0)
            if alert is not None:
                seen[alert.alert_id] += 1
        assert stream.stats().last_error is None
    assert set(seen) == set(range(100))
    # Without a group nothing can come again; with one, at most what was not committed when the member was given up.
    assert sum(seen.values()) - 100 <= (50 if member["group"] else 0)
    if member["group"]:
        assert committed_sum(cluster.server, member["group"], topic) == 100


async def test_an_outage_while_alerts_wait_loses_none(open_any, cluster, url, topic, group):
    """The caller is in the middle of what came before the outage."""
    produce(cluster.server, topic, packets(400))
    seen = Counter()
    async with open_any(url, group=group, config=QUICK) as stream:
        seen.update(ids(await take(stream, 100)))
        await outage(cluster)
        begin = time.monotonic()
        while len(seen) < 400 and time.monotonic() - begin < 30:
            alert = await stream.poll(1.0)
            if alert is not None:
                seen[alert.alert_id] += 1
    assert set(seen) == set(range(400))
    # The member was given up meanwhile. If it closes before it is back in the group, its last commit is refused, and what
    # that covers comes again; the position is never beyond what was handed out.
    assert committed_sum(cluster.server, group, topic) <= 400
    async with open_any(url, group=group, stop="end", config=QUICK) as stream:
        seen.update(ids(await read_all(stream)))
    assert set(seen) == set(range(400))
    assert committed_sum(cluster.server, group, topic) == 400


async def test_an_outage_right_after_entering(open_any, cluster, url, topic, group):
    """The connection stood, the partitions are not handed out yet: that is no reason to give up either."""
    produce(cluster.server, topic, packets(20))
    async with open_any(
        url, group=group
    ) as stream:  # the classic protocol: it takes three seconds to get partitions
        await outage(cluster, 4)
        assert sorted(ids(await take(stream, 20))) == list(range(20))


async def test_short_outages_again_and_again(open_any, cluster, url, topic, group):
    seen = Counter()
    stop = threading.Event()

    def flicker():
        while not stop.is_set():
            cluster.order("down")
            time.sleep(0.3)
            cluster.order("up")
            time.sleep(0.7)

    produce(cluster.server, topic, packets(2000))
    flickering = threading.Thread(target=flicker)
    async with open_any(url, group=group, config=QUICK) as stream:
        seen.update(ids(await take(stream, 1)))
        flickering.start()
        begin = time.monotonic()
        while len(seen) < 2000 and time.monotonic() - begin < 35:
            alert = await stream.poll(0.5)
            if alert is not None:
                seen[alert.alert_id] += 1
                await asyncio.sleep(0.001)
        stop.set()
        flickering.join()
    assert set(seen) == set(range(2000))


async def test_the_trouble_passes_also_when_nothing_comes(open_any, cluster, url, topic, group):
    """On a quiet topic too, `last_error` is about the connection as it is now."""
    produce(cluster.server, topic, packets(4))
    async with open_any(url, group=group, config=QUICK) as stream:
        await take(stream, 4)
        await stream.poll(0.3)
        cluster.order("down")
        assert await asyncio.to_thread(wait_until, lambda: stream.stats().last_error is not None)
        cluster.order("up")
        begin = time.monotonic()
        while stream.stats().last_error is not None and time.monotonic() - begin < 8:
            await stream.poll(0.2)
        assert stream.stats().last_error is None


async def test_closing_in_an_outage_is_bounded(open_any, cluster, url, topic, group):
    produce(cluster.server, topic, packets(20), partition=0)
    async with open_any(url, group=group, config=QUICK) as stream:
        await take(stream, 10)
        cluster.order("down")
        begin = time.monotonic()
    assert time.monotonic() - begin < 6
    cluster.order("up")


def test_waiting_is_exact_in_an_outage(cluster, url, topic, group):
    produce(cluster.server, topic, packets(4))
    with open_stream(url, group=group, config=QUICK) as stream:
        assert len([next(stream) for _ in range(4)]) == 4
        cluster.order("down")
        for timeout_s in (0, 0.05, 0.4, 0.4):
            begin = time.monotonic()
            assert stream.poll(timeout_s) is None
            assert time.monotonic() - begin < timeout_s + 0.1
        cluster.order("up")


@pytest.mark.timeout(40)
def test_asking_in_an_outage_is_answered_in_time(cluster, url, topic, group):
    """With an error of ours, and the stream goes on afterwards."""
    produce(cluster.server, topic, packets(4))
    with open_stream(url, group=group, config=QUICK) as stream:
        assert len([next(stream) for _ in range(4)]) == 4
        cluster.order("down")
        for ask in (stream.topics, stream.lag):
            begin = time.monotonic()
            with pytest.raises(UnreachableError):
                ask()
            assert time.monotonic() - begin < 8
        cluster.order("up")
        produce(cluster.server, topic, [packet(100)])
        begin = time.monotonic()
        found = set()
        while 100 not in found and time.monotonic() - begin < 15:
            alert = stream.poll(0.5)
            found.add(None if alert is None else alert.alert_id)
        assert 100 in found


# Answers that are errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [3, 5, 6, 7, 9, 56], ids=str)
async def test_errors_that_pass_are_no_reason_to_stop(open_any, cluster, url, topic, member, code):
    """Topic not known yet, no leader, not the leader, timed out, no replica, trouble with the disk: librdkafka asks again."""
    produce(cluster.server, topic, packets(40))
    async with open_any(url, **member) as stream:
        first = await take(stream, 10)
        cluster.order(f"errors {code} 8")
        produce(cluster.server, topic, packets(40, first=40))
        rest = []
        begin = time.monotonic()
        while len(rest) < 70 and time.monotonic() - begin < 15:
            alert = await stream.poll(1.0)
            if alert is not None:
                rest.append(alert)
    assert sorted(ids(first + rest)) == list(range(80))


@pytest.mark.parametrize("entered", [True, False], ids=["with", "for"])
async def test_errors_that_stay_are_raised(open_any, cluster, url, topic, group, entered):
    """The right to read is taken away."""
    produce(cluster.server, topic, packets(4))
    begin = time.monotonic()

    async def read(stream):
        await take(stream, 4)
        cluster.order("errors 29 50")
        await read_all(stream)

    with pytest.raises(ForbiddenError, match=topic):  # noqa: PT012
        if entered:
            async with open_any(url, group=group, config=QUICK) as stream:
                await read(stream)
        else:
            await read(open_any(url, group=group, config=QUICK))
    assert time.monotonic() - begin < 10


# Several members ------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(60)
def test_members_that_leave_together_bring_nothing_again(cluster, url, topic, group):
    """Array jobs are stopped at the same moment. With the classic protocol the leave of the first starts a rebalance in
    which the last commits of the others are refused at first."""
    produce(cluster.server, topic, packets(400))
    config = {"session.timeout.ms": 6000}
    streams = [open_stream(url, group=group, config=config) for _ in range(3)]
    counts = Counter()
    for stream in streams:
        stream.__enter__()
    assert wait_until(
        lambda: (
            sum(len(stream._engine._book.ledgers) for stream in streams) == 4
            and all(stream._engine._book.ledgers for stream in streams)
        ),
        timeout_s=25,
    )
    for stream in streams:
        while (alert := stream.poll(1.0)) is not None:
            counts[alert.alert_id] += 1
    assert set(counts) == set(range(400))
    produce(cluster.server, topic, packets(40, first=400))
    for stream in streams:
        while (alert := stream.poll(0.5)) is not None:
            counts[alert.alert_id] += 1
    leaving = [threading.Thread(target=stream.__exit__, args=(None, None, None)) for stream in streams]
    for thread in leaving:
        thread.start()
    for thread in leaving:
        thread.join(20)
    assert set(counts) == set(range(440))
    assert committed_sum(cluster.server, group, topic) == 440


def test_a_dead_member_is_replaced_and_nothing_is_lost(cluster, url, topic, group, tmp_path):
    """One member is killed; the other takes over when the dead one's session is over (1 s here)."""
    from streams_support import end_program, line_of, run_program

    text = """
import sys, time
import nuncius
with nuncius.open_stream(sys.argv[1], group=sys.argv[2], config=eval(sys.argv[3])) as stream:
    print("ready", flush=True)
    for alert in stream:
        time.sleep(60)
"""
    produce(cluster.server, topic, [])
    child = run_program(text, url, group, QUICK, wait=False)
    try:
        assert line_of(child) == "ready"
        seen = Counter()
        with open_stream(url, group=group, config=QUICK) as stream:
            assert wait_until(lambda: 0 < len(stream._engine._book.ledgers) < 4, timeout_s=15)
            produce(cluster.server, topic, packets(100))
            while (alert := stream.poll(1.5)) is not None:
                seen[alert.alert_id] += 1
            assert 0 < len(seen) < 100
            child.kill()
            child.wait(10)
            begin = time.monotonic()
            while len(seen) < 100 and time.monotonic() - begin < 20:
                alert = stream.poll(0.5)
                if alert is not None:
                    seen[alert.alert_id] += 1
        assert set(seen) == set(range(100))
        assert committed_sum(cluster.server, group, topic) == 100
    finally:
        end_program(child)
