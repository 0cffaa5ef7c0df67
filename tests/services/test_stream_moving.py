"""Moving within a Kafka stream and asking about it, in both colours."""

from __future__ import annotations

import logging
import time

import pytest

from nuncius import open_stream
from nuncius.errors import ConfigurationError, NotFoundError, NunciusError
from streams_support import (
    PARTITIONS,
    QUICK,
    committed,
    ids,
    packets,
    produce,
    read_all,
    take,
    wait_until,
)


@pytest.fixture
def url(server, topic):
    return f"kafka://{server}/{topic}"


@pytest.fixture(params=["group", "no group"])
def member(request, group):
    return {"group": group, "config": QUICK} if request.param == "group" else {"group": False}


async def test_back_to_the_first(open_any, server, topic, url, member):
    produce(server, topic, packets(20))
    async with open_any(url, **member) as stream:
        assert len(await take(stream, 20)) == 20
        await stream.seek("earliest")
        assert sorted(ids(await take(stream, 20))) == list(range(20))


async def test_on_to_the_last(open_any, server, topic, url, member):
    produce(server, topic, packets(20))
    async with open_any(url, **member) as stream:
        await take(stream, 1)
        await stream.seek("latest")
        assert await stream.poll(0.5) is None
        produce(server, topic, packets(4, first=50))
        assert sorted(ids(await take(stream, 4))) == list(range(50, 54))


async def test_to_offsets(open_any, server, topic, url, member):
    produce(server, topic, packets(40))
    async with open_any(url, **member) as stream:
        await take(stream, 40)
        await stream.seek({(topic, 1): 7, (topic, 3): 9})
        alerts = await take(stream, 4)
        assert await stream.poll(0.3) is None
    assert sorted((alert.origin.partition, alert.origin.offset) for alert in alerts) == [
        (1, 7),
        (1, 8),
        (1, 9),
        (3, 9),
    ]


@pytest.mark.parametrize("where", ["latest", "offsets"])
def test_a_move_right_after_entering_is_carried_out(server, topic, url, group, where):
    """A group hands its partitions out some seconds after the entry; a move must not get lost in between."""
    produce(server, topic, packets(20), partition=0)
    with open_stream(url, group=group, stop="6s") as stream:
        stream.seek("latest" if where == "latest" else {(topic, 0): 18})
        assert ids(stream) == ([] if where == "latest" else [18, 19])


async def test_to_the_committed_position_is_not_to_the_first(open_any, server, topic, url, group):
    produce(server, topic, packets(20), partition=0)
    async with open_any(url, group=group, stop=12, config=QUICK) as stream:
        await read_all(stream)
    async with open_any(url, group=group, config=QUICK) as stream:
        await take(stream, 3)
        try:
            await stream.seek("committed")
        except ConfigurationError:
            return
        assert (await anext(aiter(stream))).alert_id >= 12


@pytest.mark.parametrize("where", [{("no-such-topic", 0): 0}, {"x": 1}])
async def test_a_partition_that_is_not_read_is_told(open_any, server, topic, url, member, where):
    produce(server, topic, packets(20))
    async with open_any(url, **member) as stream:
        await take(stream, 1)
        with pytest.raises(NotFoundError, match="does not read"):
            await stream.seek(where)
        assert len(await take(stream, 19)) == 19


@pytest.mark.parametrize("where", ["start", "", None, 5, "end"])
async def test_a_place_that_means_nothing_is_refused(open_any, server, topic, url, member, where):
    produce(server, topic, packets(20))
    async with open_any(url, **member) as stream:
        await take(stream, 1)
        with pytest.raises(ConfigurationError):
            await stream.seek(where)
        assert len(await take(stream, 19)) == 19


async def test_a_move_back_is_kept_at_the_close(open_any, server, topic, url, group):
    produce(server, topic, packets(20), partition=0)
    async with open_any(url, group=group, config=QUICK) as stream:
        await take(stream, 20)
        await stream.seek({(topic, 0): 5})
        assert ids(await take(stream, 3)) == [5, 6, 7]
    assert committed(server, group, topic)[0] == 8


async def test_a_move_to_the_first_is_kept_at_the_close(open_any, server, topic, url, group, caplog):
    """Though nothing was read after it: the next run is to begin where the stream was put."""
    produce(server, topic, packets(20), partition=0)
    async with open_any(url, group=group, config=QUICK) as stream:
        await take(stream, 20)
        with caplog.at_level(logging.WARNING, "nuncius.streams"):
            await stream.seek("earliest")
            await stream.close()
    assert "not committed" not in caplog.text
    assert committed(server, group, topic)[0] == 0


async def test_a_move_back_is_committed_while_the_stream_goes_on(open_any, server, topic, url, group):
    """Who goes back in order to read again, and is killed, must not find himself where he was before."""
    produce(server, topic, packets(20), partition=0)
    async with open_any(url, group=group, config=QUICK) as stream:
        await take(stream, 20)
        assert wait_until(lambda: (committed(server, group, topic)[0] or 0) >= 19)
        await stream.seek({(topic, 0): 5})
        await take(stream, 3)
        assert wait_until(lambda: committed(server, group, topic)[0] in {5, 6, 7, 8}, timeout_s=4)


async def test_a_move_after_the_end_was_seen(open_any, server, topic, url, member):
    """A stream with a stop goes on when it is moved back before it noticed its end."""
    produce(server, topic, packets(20))
    async with open_any(url, stop="end", **member) as stream:
        await take(stream, 20)
        await stream.seek("earliest")
        assert len(await read_all(stream)) == 20


async def test_a_move_while_the_queue_is_full(open_any, server, topic, url, member, monkeypatch):
    from nuncius.streams import book as book_module

    monkeypatch.setattr(book_module, "_QUEUE_ALERTS", 10)
    produce(server, topic, packets(2000))
    async with open_any(url, stop="end", **member) as stream:
        await take(stream, 1)
        assert wait_until(lambda: stream.stats().paused)
        await stream.seek("earliest")
        assert sorted(ids(await read_all(stream))) == list(range(2000))


# Lag --------------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(20)
async def test_lag_counts_what_is_not_finished(open_any, server, topic, url, group):
    produce(server, topic, packets(40))
    produce(server, topic, packets(5, first=40), partition=2)
    async with open_any(url, group=group, acknowledge="manual", config=QUICK) as stream:
        alerts = await take(stream, 45)
        assert await stream.lag() == {(topic, 0): 10, (topic, 1): 10, (topic, 2): 15, (topic, 3): 10}
        stream.acknowledge(alert for alert in alerts if alert.origin.partition == 2)
        assert await stream.lag() == {(topic, 0): 10, (topic, 1): 10, (topic, 2): 0, (topic, 3): 10}
        produce(server, topic, packets(3, first=50), partition=2)
        assert (await stream.lag())[topic, 2] == 3


@pytest.mark.timeout(20)
async def test_lag_right_after_entering_names_every_partition(open_any, server, topic, url, member):
    """An empty answer would look as if there were nothing to read."""
    produce(server, topic, packets(40))
    async with open_any(url, **member) as stream:
        lag = await stream.lag()
    assert set(lag) == {(topic, number) for number in range(PARTITIONS)}
    assert sum(lag.values()) == 40


@pytest.mark.timeout(20)
async def test_topics(open_any, server, topic, url, member):
    produce(server, topic, [])
    produce(server, topic + "-more", [])
    async with open_any(url, **member) as stream:
        names = await stream.topics()
    assert {topic, topic + "-more"} <= set(names)
    assert names == sorted(names)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("ask", ["topics", "lag"])
async def test_asking_a_closed_stream_is_an_error_of_ours(open_any, server, topic, url, member, ask):
    produce(server, topic, packets(4))
    async with open_any(url, **member) as stream:
        await take(stream, 1)
    with pytest.raises(NunciusError, match="closed"):
        await getattr(stream, ask)()


@pytest.mark.timeout(20)
async def test_asking_goes_on_while_the_stream_is_read(open_any, server, topic, url, group):
    produce(server, topic, packets(2000))
    async with open_any(url, group=group, stop="end", config=QUICK) as stream:
        count = 0
        async for _ in stream:
            count += 1
            if count % 400 == 0:
                assert sum((await stream.lag()).values()) <= 2001 - count
                assert topic in await stream.topics()
    assert count == 2000


async def test_statistics(open_any, server, topic, url, group):
    produce(server, topic, packets(10))
    async with open_any(url, group=group, config=QUICK) as stream:
        await take(stream, 10)
        stats = stream.stats()
        assert (stats.received, stats.handed_out, stats.acknowledged) == (10, 10, 9)
        assert (stats.waiting, stats.unacknowledged, stats.paused, stats.last_error) == (0, 1, False, None)
        assert stats.group == stream.group == group
        assert stats.received_bytes > 100
        assert url in repr(stream)
        assert "10 alerts" in repr(stream)
    begin = time.monotonic()
    assert stream.stats().acknowledged == 10
    assert time.monotonic() - begin < 0.1
