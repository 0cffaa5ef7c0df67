"""Delivery from a Kafka broker in both colours: what is committed when, by coming back and by hand."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections import Counter

import pytest

from nuncius import open_stream
from nuncius.aio import open_stream as open_async_stream
from nuncius.streams import book as book_module
from nuncius.streams import engine as engine_module
from streams_support import (
    PARTITIONS,
    QUICK,
    committed,
    committed_sum,
    ids,
    packet,
    packets,
    produce,
    read_all,
    take,
    wait_until,
)


@pytest.fixture
def url(server, topic):
    return f"kafka://{server}/{topic}"


@pytest.fixture
def rest(url, group):
    """Return the ids of what the group still gets."""

    def read():
        with open_stream(url, group=group, stop="end", config=QUICK) as stream:
            return sorted(ids(stream))

    return read


# By coming back ------------------------------------------------------------------------------------------------------------


async def test_an_exception_in_the_block_comes_out_and_the_alert_comes_again(
    open_any, server, topic, url, group, rest
):
    produce(server, topic, packets(10), partition=0)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with open_any(url, group=group, config=QUICK) as stream:
            async for alert in stream:
                if alert.alert_id == 4:
                    1 / 0  # noqa: B018
    assert committed(server, group, topic)[0] == 4
    assert rest() == [4, 5, 6, 7, 8, 9]


async def test_an_exception_in_a_batch_brings_the_batch_again(open_any, server, topic, url, group, rest):
    produce(server, topic, packets(10), partition=0)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with open_any(url, group=group, config=QUICK) as stream:
            async for batch in stream.batches(4, timeout_s=2):
                if ids(batch) != [0, 1, 2, 3]:
                    1 / 0  # noqa: B018
    assert rest() == [4, 5, 6, 7, 8, 9]


async def test_leaving_the_block_finishes_what_was_handed_out(open_any, server, topic, url, group, rest):
    produce(server, topic, packets(10), partition=0)
    async with open_any(url, group=group, config=QUICK) as stream:
        async for alert in stream:
            if alert.alert_id == 4:
                break
    assert rest() == [5, 6, 7, 8, 9]


async def test_leaving_the_block_within_a_batch_finishes_the_batch(open_any, server, topic, url, group, rest):
    produce(server, topic, packets(10), partition=0)
    async with open_any(url, group=group, config=QUICK) as stream:
        async for batch in stream.batches(4, timeout_s=2):
            assert len(batch) == 4
            break
    assert rest() == [4, 5, 6, 7, 8, 9]


async def test_closing_alone_finishes_nothing_of_what_is_in_hand(open_any, server, topic, url, group, rest):
    produce(server, topic, packets(10), partition=0)
    stream = open_any(url, group=group, config=QUICK)
    assert ids(await take(stream, 5)) == [0, 1, 2, 3, 4]
    await stream.close()
    assert rest() == [4, 5, 6, 7, 8, 9]


async def test_closing_within_the_block_finishes_nothing_of_what_is_in_hand(
    open_any, server, topic, url, group, rest
):
    produce(server, topic, packets(10), partition=0)
    async with open_any(url, group=group, config=QUICK) as stream:
        await take(stream, 5)
        await stream.close()
    assert rest() == [4, 5, 6, 7, 8, 9]


async def test_positions_are_committed_while_the_stream_goes_on(open_any, server, topic, url, group):
    """Every second what is finished, and never what is in hand."""
    produce(server, topic, packets(10), partition=0)
    async with open_any(url, group=group, config=QUICK) as stream:
        await take(stream, 7)
        for _ in range(200):
            if committed(server, group, topic)[0] == 6:
                break
            await asyncio.sleep(0.05)
        assert committed(server, group, topic)[0] == 6
        await asyncio.sleep(1.2)
        assert committed(server, group, topic)[0] == 6


async def test_a_group_that_read_nothing_has_a_position_all_the_same(
    open_any, server, topic, url, group, rest
):
    produce(server, topic, packets(4))
    async with open_any(url, group=group, start="latest", config=QUICK) as stream:
        assert await stream.poll(0.5) is None
    assert committed(server, group, topic) == dict.fromkeys(range(PARTITIONS), 1)
    assert rest() == []


# By hand -------------------------------------------------------------------------------------------------------------------


async def test_by_hand_out_of_order(open_any, server, topic, url, group, rest):
    produce(server, topic, packets(10), partition=1)
    async with open_any(url, group=group, acknowledge="manual", config=QUICK) as stream:
        alerts = await take(stream, 10)
        stream.acknowledge([alert for alert in alerts if alert.alert_id not in {3, 7}])
        assert await asyncio.to_thread(
            wait_until, lambda: committed(server, group, topic)[1] == 3, step_s=0.1
        )
    assert committed(server, group, topic)[1] == 3
    assert rest() == [3, 4, 5, 6, 7, 8, 9]


async def test_by_hand_with_several_partitions(open_any, server, topic, url, group, rest):
    produce(server, topic, packets(40))
    async with open_any(url, group=group, acknowledge="manual", config=QUICK) as stream:
        alerts = await take(stream, 40)
        stream.acknowledge(alert for alert in alerts if alert.origin.partition != 2)
    assert committed(server, group, topic) == {0: 10, 1: 10, 2: 0, 3: 10}
    assert len(rest()) == 10


async def test_unfinished_tasks_at_the_close_have_nothing_committed(server, topic, url, group, rest):
    """Handlers run as tasks; some are done, some are not when the block is left."""
    produce(server, topic, packets(20), partition=0)
    tasks = []

    async def handle(stream, alert):
        await asyncio.sleep(0 if alert.alert_id % 5 else 3600)
        stream.acknowledge(alert)

    async with open_async_stream(url, group=group, acknowledge="manual", config=QUICK) as stream:
        async for alert in stream:
            tasks.append(asyncio.create_task(handle(stream, alert)))
            if len(tasks) == 18:
                break
        await asyncio.sleep(0.05)
        assert stream.stats().unacknowledged == 4
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert committed(server, group, topic)[0] in {None, 0}
    assert rest() == list(range(20))


async def test_tasks_that_end_after_the_last_alert_are_still_committed(server, topic, url, group, rest):
    """With a stop, the loop ends when the last alert is handed out; its handlers end a moment later, in the block."""
    produce(server, topic, packets(20), partition=0)

    async def handle(stream, alert):
        await asyncio.sleep(0.2)
        stream.acknowledge(alert)

    async with (
        open_async_stream(url, group=group, acknowledge="manual", stop=20, config=QUICK) as stream,
        asyncio.TaskGroup() as tasks,
    ):
        async for alert in stream:
            tasks.create_task(handle(stream, alert))
    assert rest() == []


async def test_a_task_may_finish_after_the_close_in_vain(server, topic, url, group, rest):
    produce(server, topic, packets(2), partition=0)
    async with open_async_stream(url, group=group, acknowledge="manual", config=QUICK) as stream:
        alert = await anext(stream)
    stream.acknowledge(alert)
    stream.release(alert)
    assert stream.stats().acknowledged == 0
    assert rest() == [0, 1]


async def test_released_alerts_come_again_and_are_not_lost_at_the_close(
    open_any, server, topic, url, group, rest
):
    produce(server, topic, packets(5), partition=0)
    async with open_any(url, group=group, acknowledge="manual", config=QUICK) as stream:
        alerts = await take(stream, 5)
        stream.release(alerts[1])
        stream.release(alerts[2], 3600)
        again = await stream.poll(5)
        assert again.alert_id == 1
        stream.acknowledge([alerts[0], again, alerts[3], alerts[4]])
        assert await stream.poll(0.2) is None
    assert rest() == [2, 3, 4]


async def test_no_more_than_allowed_is_handed_out(open_any, server, topic, url, group):
    produce(server, topic, packets(40))
    options = {"acknowledge": "manual", "max_unacknowledged": 7, "config": QUICK}
    async with open_any(url, group=group, **options) as stream:
        held = await take(stream, 7)
        assert await stream.poll(0.3) is None
        assert stream.stats().unacknowledged == 7
        count = 7
        while count < 40:
            stream.acknowledge(held.pop(0))
            held.append(await stream.poll(5))
            count += 1
        assert await stream.poll(0.1) is None


async def test_batches_by_hand(open_any, server, topic, url, group, rest):
    produce(server, topic, packets(30), partition=0)
    async with open_any(url, group=group, acknowledge="manual", config=QUICK) as stream:
        async for batch in stream.batches(10, timeout_s=2):
            stream.acknowledge(batch)
            if batch[-1].alert_id == 19:
                break
    assert rest() == list(range(20, 30))


def test_threads_acknowledge_while_others_read(server, topic, url, group, rest):
    """Four workers finish in their own order what one reader hands out; nothing is lost, nothing comes again."""
    import queue

    produce(server, topic, packets(4000))
    work = queue.Queue()
    with open_stream(url, group=group, acknowledge="manual", max_unacknowledged=500, config=QUICK) as stream:

        def handle():
            held = []
            while (alert := work.get()) is not None:
                held.append(alert)
                if len(held) >= 5:
                    stream.acknowledge(held.pop(2))
            for alert in reversed(held):
                stream.acknowledge(alert)

        workers = [threading.Thread(target=handle) for _ in range(4)]
        for worker in workers:
            worker.start()
        seen = Counter()
        for alert in itertools.islice(stream, 4000):
            seen[alert.alert_id] += 1
            work.put(alert)
        for _ in workers:
            work.put(None)
        for worker in workers:
            worker.join(30)
        assert stream.stats().unacknowledged == 0
    assert set(seen.values()) == {1}
    assert committed(server, group, topic) == dict.fromkeys(range(PARTITIONS), 1000)
    assert rest() == []


# Several members -------------------------------------------------------------------------------------------------------------


def members_ready(*streams):
    return wait_until(
        lambda: (
            all(stream._engine._book.ledgers for stream in streams)
            and sum(len(stream._engine._book.ledgers) for stream in streams) == PARTITIONS
        ),
        timeout_s=20,
    )


def test_two_members_share_and_the_leaving_one_loses_nothing(server, topic, url, group):
    produce(server, topic, [])
    one = open_stream(url, group=group, config=QUICK)
    other = open_stream(url, group=group, config=QUICK)
    with one, other:
        assert members_ready(one, other)
        produce(server, topic, packets(400))
        seen = Counter()
        for stream in (one, other):
            while (alert := stream.poll(1.0)) is not None:
                seen[alert.alert_id] += 1
        assert seen == Counter(range(400))
        assert one.stats().handed_out > 0
        assert other.stats().handed_out > 0
        # In the steady state each message goes to one of them. Now one leaves with an alert in hand that is not finished.
        produce(server, topic, packets(400, first=400))
        in_hand = one.poll(10)
        one.close()
        while (alert := other.poll(3.0)) is not None:
            seen[alert.alert_id] += 1
    wanted = Counter(range(800))
    assert seen == wanted
    assert seen[in_hand.alert_id] == 1
    assert committed_sum(server, group, topic) == 800


def test_a_member_that_joins_later_takes_its_share_and_nothing_is_lost(server, topic, url, group):
    produce(server, topic, packets(400))
    seen, lock = Counter(), threading.Lock()

    def read(stream, stop):
        with stream:
            while not stop.is_set():
                alert = stream.poll(0.1)
                if alert is not None:
                    with lock:
                        seen[alert.alert_id] += 1
                    time.sleep(0.001)

    stops = [threading.Event(), threading.Event(), threading.Event()]
    streams = [open_stream(url, group=group, config=QUICK) for _ in stops]
    threads = [threading.Thread(target=read, args=pair) for pair in zip(streams, stops, strict=True)]
    for number, thread in enumerate(threads):
        thread.start()
        produce(server, topic, packets(400, first=400 * (number + 1)))
    assert members_ready(*streams)
    stops[0].set()
    threads[0].join(20)
    produce(server, topic, packets(400, first=1600))
    assert wait_until(lambda: len(seen) == 2000, timeout_s=30)
    for stop, thread in zip(stops, threads, strict=True):
        stop.set()
        thread.join(20)
    # What was in hand or received when a partition moved comes again; not more than that.
    assert sum(seen.values()) - 2000 <= 3 * len(streams)
    assert committed_sum(server, group, topic) == 2000


# A slow caller ---------------------------------------------------------------------------------------------------------------


def test_a_slow_caller_stays_in_the_group(server, topic, url, group, monkeypatch):
    """With a full queue polling goes on, so that a caller may be slower than the group's time limit."""
    monkeypatch.setattr(book_module, "_QUEUE_ALERTS", 20)
    produce(server, topic, packets(600))
    config = {"max.poll.interval.ms": 6000, "session.timeout.ms": 6000}
    seen = Counter()
    with open_stream(url, group=group, stop="end", config=config) as stream:
        for number, alert in enumerate(stream):
            seen[alert.alert_id] += 1
            if number == 3:
                time.sleep(8)
                assert stream.stats().paused
                assert stream.stats().last_error is None
    assert seen == Counter(range(600))
    assert committed_sum(server, group, topic) == 600


def test_the_queue_is_bounded_in_bytes(server, topic, url, group, monkeypatch):
    monkeypatch.setattr(book_module, "_QUEUE_BYTES", 400_000)
    produce(
        server, topic, [b'{"candid": %d, "text": "%s"}' % (number, b"x" * 10_000) for number in range(800)]
    )
    seen = Counter()
    with open_stream(url, group=group, stop="end", config=QUICK) as stream:
        assert wait_until(lambda: stream.stats().paused)
        # 200 messages are received at once, and JSON counts eight times its bytes.
        assert stream.stats().waiting <= 205
        for alert in stream:
            seen[alert.alert_id] += 1
    assert seen == Counter(range(800))


def test_many_small_messages_are_bounded_in_number(server, topic, url, group, monkeypatch):
    monkeypatch.setattr(book_module, "_QUEUE_ALERTS", 1000)
    produce(server, topic, packets(20_000))
    with open_stream(url, group=group, stop="end", config=QUICK) as stream:
        assert wait_until(lambda: stream.stats().paused)
        assert 1000 <= stream.stats().waiting < 1200
        count = most = 0
        for batch in stream.batches(500):
            count += len(batch)
            most = max(most, stream.stats().waiting)
    assert count == 20_000
    assert most < 1200


# What the broker no longer has -----------------------------------------------------------------------------------------------

LARGE = "x" * 400_000  # the mock cluster keeps about 5 MB of a partition: twelve of these


async def test_alerts_that_expired_between_two_runs_are_told(open_any, server, topic, url, group, caplog):
    produce(server, topic, packets(1), partition=0)
    async with open_any(url, group=group, stop=1, config=QUICK) as stream:
        await read_all(stream)
    produce(server, topic, [packet(number, text=LARGE) for number in range(1, 31)], partition=0)
    with caplog.at_level(logging.WARNING, "nuncius.streams"):
        async with open_any(url, group=group, stop="end", config=QUICK) as stream:
            found = ids(await read_all(stream))
    assert 5 < len(found) < 20
    assert f"{topic}[0]: {30 - len(found)} messages expired" in caplog.text


async def test_alerts_that_expire_while_the_stream_is_open_are_told(
    open_any, server, topic, url, group, caplog, monkeypatch
):
    """A slow caller's partitions are paused; when the broker drops what he has not read, he is told."""
    monkeypatch.setattr(book_module, "_QUEUE_ALERTS", 2)
    monkeypatch.setattr(engine_module, "_HOLD_S", 0.0)
    produce(server, topic, packets(3), partition=0)
    with caplog.at_level(logging.WARNING, "nuncius.streams"):
        async with open_any(url, group=group, config=QUICK) as stream:
            assert wait_until(lambda: stream.stats().paused)
            produce(server, topic, [packet(number, text=LARGE) for number in range(3, 33)], partition=0)
            found = []
            while (alert := await stream.poll(2)) is not None:
                found.append(alert.alert_id)
    assert found[:3] == [0, 1, 2]
    assert 5 < len(found) < 25
    assert f"{33 - len(found)} messages expired" in caplog.text
