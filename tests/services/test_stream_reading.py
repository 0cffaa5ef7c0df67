"""Reading from a Kafka broker in both colours: where a stream starts, where it stops, and what it waits for."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from nuncius.aio import open_stream as open_async_stream
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


# Start ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_all_that_is_there_is_read_with_both_group_protocols(
    open_any, server, topic, url, group, protocol
):
    produce(server, topic, packets(100))
    async with open_any(url, group=group, stop="end", config={"group.protocol": protocol}) as stream:
        alerts = await read_all(stream)
    assert sorted(ids(alerts)) == list(range(100))
    assert committed(server, group, topic) == dict.fromkeys(range(PARTITIONS), 25)
    origin = alerts[0].origin
    assert (origin.service, origin.topic, origin.broker) == ("kafka", topic, None)
    assert abs((datetime.now(UTC) - origin.timestamp).total_seconds()) < 60


async def test_the_eager_assignment_strategies_work_too(open_any, server, topic, url, group):
    produce(server, topic, packets(20))
    config = {"partition.assignment.strategy": "range"}
    async with open_any(url, group=group, stop="end", config=config) as stream:
        assert sorted(ids(await read_all(stream))) == list(range(20))
    assert committed_sum(server, group, topic) == 20


async def test_key_and_headers_come_along(open_any, server, topic, url, group):
    produce(server, topic, [packet(1)], key=b"\x00k", headers=[("_format", b"json"), ("_format", None)])
    async with open_any(url, group=group, stop=1, config=QUICK) as stream:
        (alert,) = await read_all(stream)
    assert alert.origin.key == b"\x00k"
    assert alert.origin.headers == (("_format", b"json"), ("_format", None))


async def test_a_stream_resumes_where_it_was_left(open_any, server, topic, url, group):
    produce(server, topic, packets(30))
    async with open_any(url, group=group, stop=13, config=QUICK) as stream:
        first = ids(await read_all(stream))
    async with open_any(url, group=group, stop="end", config=QUICK) as stream:
        rest = ids(await read_all(stream))
    assert (len(first), len(rest)) == (13, 17)
    assert sorted(first + rest) == list(range(30))


async def test_without_a_group_every_run_begins_at_the_first(open_any, server, topic, url):
    produce(server, topic, packets(10))
    for _ in range(2):
        async with open_any(url, group=False, stop="end") as stream:
            assert sorted(ids(await read_all(stream))) == list(range(10))
        assert stream.group is None


async def test_two_groups_do_not_disturb_each_other(open_any, server, topic, url, group):
    produce(server, topic, packets(10))
    for name in (group, group + "-b"):
        async with open_any(url, group=name, stop="end", config=QUICK) as stream:
            assert len(await read_all(stream)) == 10


@pytest.mark.parametrize("with_group", [True, False])
async def test_from_now_on(open_any, server, topic, url, group, with_group):
    produce(server, topic, packets(10))
    options = {"group": group, "config": QUICK} if with_group else {"group": False}
    async with open_any(url, start="latest", stop=5, **options) as stream:
        assert await stream.poll(0.5) is None
        produce(server, topic, packets(5, first=100))
        assert sorted(ids(await read_all(stream))) == list(range(100, 105))


async def test_from_now_on_then_resumes_what_came_in_between(open_any, server, topic, url, group):
    """Only the first run begins at "latest": what arrives between two runs is not lost."""
    produce(server, topic, packets(10))
    async with open_any(url, group=group, start="latest", config=QUICK) as stream:
        assert await stream.poll(0.5) is None
    produce(server, topic, packets(8, first=100))
    async with open_any(url, group=group, start="latest", stop="end", config=QUICK) as stream:
        assert sorted(ids(await read_all(stream))) == list(range(100, 108))


@pytest.mark.parametrize(("start", "count"), [("earliest", 10), ("latest", 0)])
async def test_a_kept_position_is_left_only_when_told_so(open_any, server, topic, url, group, start, count):
    produce(server, topic, packets(10))
    async with open_any(url, group=group, stop=6, config=QUICK) as stream:
        assert len(await read_all(stream)) == 6
    async with open_any(url, group=group, start=start, stop="end", config=QUICK) as stream:
        assert len(await read_all(stream)) == 4
    async with open_any(url, group=group, start=start, stop="end", reset=True, config=QUICK) as stream:
        assert len(await read_all(stream)) == count


async def test_from_a_time_on(open_any, server, topic, url, group, monkeypatch):
    """The mock cluster answers every question for the offset of a time with -1, so the answer is given here."""
    import confluent_kafka

    asked = []

    class WithTimes(confluent_kafka.Consumer):
        def offsets_for_times(self, parts, timeout=None):
            if parts[0].offset < 0:  # the first, or the end
                return super().offsets_for_times(parts, timeout=timeout)
            asked.extend((part.partition, part.offset) for part in parts)
            # Partition 3 has nothing since then, which a real broker tells by -1 as well.
            return [
                confluent_kafka.TopicPartition(part.topic, part.partition, 3 if part.partition < 3 else -1)
                for part in parts
            ]

    monkeypatch.setattr(confluent_kafka, "Consumer", WithTimes)
    produce(server, topic, packets(40))
    when = datetime(2026, 11, 20, 3, tzinfo=UTC)
    async with open_any(url, group=group, start=when, stop="end", config=QUICK) as stream:
        alerts = await read_all(stream)
    assert Counter(alert.origin.partition for alert in alerts) == {0: 7, 1: 7, 2: 7}
    assert min(alert.origin.offset for alert in alerts) == 3
    assert sorted(asked) == [(number, int(when.timestamp() * 1000)) for number in range(PARTITIONS)]


# Stop -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_group", [True, False])
async def test_an_empty_topic_has_its_end_at_once(open_any, server, topic, url, group, with_group):
    produce(server, topic, [])
    options = {"group": group, "config": QUICK} if with_group else {"group": False}
    begin = time.monotonic()
    async with open_any(url, stop="end", **options) as stream:
        assert await read_all(stream) == []
    assert time.monotonic() - begin < 4


async def test_the_end_is_the_end_of_every_partition(open_any, server, topic, url, group):
    produce(server, topic, packets(300), partition=2)
    produce(server, topic, packets(1, first=300), partition=0)
    async with open_any(url, group=group, stop="end", config=QUICK) as stream:
        assert sorted(ids(await read_all(stream))) == list(range(301))


async def test_the_end_of_several_topics(open_any, server, topic, group):
    produce(server, topic + "-a", packets(10))
    produce(server, topic + "-b", packets(10, first=10))
    produce(server, topic + "-c", packets(10, first=20))
    async with open_any(
        f"kafka://{server}/{topic}-a,{topic}-b", group=group, stop="end", config=QUICK
    ) as stream:
        assert sorted(ids(await read_all(stream))) == list(range(20))


async def test_a_pattern_reads_all_topics_that_fit(open_any, server, topic, group):
    produce(server, topic + "-a", packets(10))
    produce(server, topic + "-b", packets(10, first=10))
    async with open_any(f"kafka://{server}/^{topic}-.*", group=False, stop="end") as stream:
        assert sorted(ids(await read_all(stream))) == list(range(20))


@pytest.mark.parametrize("count", [0, 1, 25])
async def test_a_number_of_alerts(open_any, server, topic, url, group, count):
    produce(server, topic, packets(50))
    async with open_any(url, group=group, stop=count, config=QUICK) as stream:
        assert len(await read_all(stream)) == count
        assert await stream.poll(0) is None
    assert committed_sum(server, group, topic) == count


async def test_a_number_of_alerts_in_batches(open_any, server, topic, url, group):
    produce(server, topic, packets(50))
    async with open_any(url, group=group, stop=25, config=QUICK) as stream:
        sizes = [len(batch) async for batch in stream.batches(10, timeout_s=2)]
    assert sum(sizes) == 25
    assert max(sizes) <= 10
    assert committed_sum(server, group, topic) == 25


@pytest.mark.parametrize("stop", ["1s", timedelta(seconds=1)])
async def test_some_time(open_any, server, topic, url, group, stop):
    produce(server, topic, packets(5))
    begin = time.monotonic()
    async with open_any(url, group=group, stop=stop, config=QUICK) as stream:
        assert len(await read_all(stream)) == 5
    assert 0.9 < time.monotonic() - begin < 3
    assert committed_sum(server, group, topic) == 5


async def test_a_time_that_is_past(open_any, server, topic, url, group):
    now = time.time()
    produce(server, topic, packets(10), timestamp_ms=int((now - 7200) * 1000))
    produce(server, topic, packets(10, first=10), timestamp_ms=int((now - 60) * 1000))
    stop = datetime.fromtimestamp(now - 3600, UTC)
    async with open_any(url, group=group, stop=stop, config=QUICK) as stream:
        assert sorted(ids(await read_all(stream))) == list(range(10))
    assert committed_sum(server, group, topic) == 10


async def test_a_time_to_come(open_any, server, topic, url, group):
    produce(server, topic, packets(10))
    stop = datetime.now(UTC) + timedelta(seconds=1.5)
    async with open_any(url, group=group, stop=stop, config=QUICK) as stream:
        alerts = await take(stream, 10)
        produce(server, topic, packets(5, first=10))
        alerts += await read_all(stream)
    assert sorted(ids(alerts)) == list(range(15))
    assert 0 <= (datetime.now(UTC) - stop).total_seconds() < 3


async def test_a_time_that_is_past_on_an_empty_topic(open_any, server, topic, url, group):
    produce(server, topic, [])
    begin = time.monotonic()
    async with open_any(url, group=group, stop="2020-01-01T00:00:00Z", config=QUICK) as stream:
        assert await read_all(stream) == []
    assert time.monotonic() - begin < 4


# Waiting ----------------------------------------------------------------------------------------------------------------


async def test_zero_seconds_do_not_wait(open_any, server, topic, url, group):
    produce(server, topic, [])
    async with open_any(url, group=group, config=QUICK) as stream:
        await stream.poll(0.3)
        longest = 0.0
        for _ in range(50):
            begin = time.monotonic()
            assert await stream.poll(0) is None
            longest = max(longest, time.monotonic() - begin)
    assert longest < 0.05


@pytest.mark.parametrize("timeout_s", [0.05, 0.35])
async def test_waiting_is_exact(open_any, server, topic, url, group, timeout_s):
    produce(server, topic, [])
    async with open_any(url, group=group, config=QUICK) as stream:
        await stream.poll(0.3)
        for _ in range(3):
            begin = time.monotonic()
            assert await stream.poll(timeout_s) is None
            assert timeout_s <= time.monotonic() - begin + 0.001
            assert time.monotonic() - begin < timeout_s + 0.1


async def test_waiting_is_exact_while_nothing_is_connected(open_any, group):
    stream = open_any("kafka://127.0.0.1:1/alerts", group=group, connect_timeout_s=3)
    begin = time.monotonic()
    assert await stream.poll(0.05) is None
    assert time.monotonic() - begin < 0.15
    await stream.close()


async def test_a_lone_alert_comes_at_once(open_any, server, topic, url, group):
    """A full batch is not waited for, neither by the engine nor by the broker."""
    produce(server, topic, [])
    delays = []
    async with open_any(url, group=group, config=QUICK) as stream:
        await stream.poll(0.5)
        for number in range(5):
            produce(server, topic, [packet(number)], linger_ms=0)
            begin = time.monotonic()
            alert = await stream.poll(5)
            delays.append(time.monotonic() - begin)
            assert alert.alert_id == number
    assert sorted(delays)[2] < 0.2


async def test_a_poll_gives_none_after_the_end(open_any, server, topic, url, group):
    produce(server, topic, packets(2))
    async with open_any(url, group=group, stop="end", config=QUICK) as stream:
        assert len(await read_all(stream)) == 2
        assert await stream.poll() is None
        assert await stream.poll(0) is None


async def test_a_stream_needs_no_block(open_any, server, topic, url, group):
    produce(server, topic, packets(20))
    alerts = await read_all(open_any(url, group=group, stop="end", config=QUICK))
    assert sorted(ids(alerts)) == list(range(20))
    assert wait_until(lambda: committed_sum(server, group, topic) == 20)


async def test_a_stream_that_is_dropped_leaves_its_group(open_any, server, topic, url, group):
    """The partitions are free at once for whoever comes next, and what was in hand comes again."""
    produce(server, topic, packets(20))
    stream = open_any(url, group=group, config=QUICK)
    await take(stream, 3)
    del stream
    gc.collect()
    async with open_any(url, group=group, stop="end", config=QUICK) as stream:
        alerts = await read_all(stream)
    assert len(alerts) in {18, 19, 20}


# The event loop -----------------------------------------------------------------------------------------------------------


async def test_an_async_stream_never_blocks_the_loop(server, topic, url, group):
    produce(server, topic, packets(2000))
    longest = 0.0
    last = time.monotonic()

    async def watch():
        nonlocal longest, last
        while True:
            last = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - last)

    watching = asyncio.create_task(watch())
    async with open_async_stream(url, group=group, config=QUICK) as stream:
        assert len(await stream.topics()) >= 1
        await stream.lag()
        count = 0
        async for batch in stream.batches(500, timeout_s=0.2):
            count += len(batch)
            await asyncio.sleep(0)
            if count == 2000:
                break
        await stream.seek("earliest")
        assert await stream.poll(5) is not None
        await stream.poll(0.5)
    watching.cancel()
    assert longest < 0.5


async def test_a_task_that_is_cancelled_while_it_waits_closes_its_stream(server, topic, url, group):
    produce(server, topic, packets(3))

    async def read():
        async with open_async_stream(url, group=group, config=QUICK) as stream:
            async for _ in stream:
                pass

    task = asyncio.create_task(read())
    await asyncio.sleep(1)
    task.cancel()
    begin = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begin < 1
    assert committed_sum(server, group, topic) == 3  # it had come back for a fourth


async def test_several_streams_in_one_loop(server, topic, group):
    names = [f"{topic}-{letter}" for letter in "abc"]
    for name in names:
        produce(server, name, packets(50))

    async def read(name):
        async with open_async_stream(
            f"kafka://{server}/{name}", group=group + name, stop="end", config=QUICK
        ) as stream:
            return len(await read_all(stream))

    assert await asyncio.gather(*map(read, names)) == [50, 50, 50]
