"""Topics that roll over at 00 UTC, and nights that come, end, are missing, or are read late."""

from __future__ import annotations

import logging
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from nuncius import brokers, open_stream
from nuncius.errors import NotFoundError
from nuncius.streams.kafka import asking, nights, transport
from streams_support import QUICK, committed, ids, new_name, packets, produce, read_all, take, wait_until

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Clock:
    """The time of the day as these tests want it; what is waited for passes as always."""

    def __init__(self, start=NOON):
        self.shift = start.timestamp() - time.time()

    def time(self):
        return time.time() + self.shift

    def set(self, when):
        self.shift = when.timestamp() - time.time()


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    face = SimpleNamespace(time=made.time, monotonic=time.monotonic, sleep=time.sleep)
    for module in (transport, asking):
        monkeypatch.setattr(module, "time", face)
    monkeypatch.setattr(transport, "_ROLL_OVER_S", 0.2)
    return made


@pytest.fixture
def server(nuncius_kafka):
    return nuncius_kafka.url.removeprefix("kafka://")


@pytest.fixture
def survey():
    """Give the name of a survey that nobody else has."""
    return new_name("survey")


@pytest.fixture
def url(server, survey):
    return f"kafka://{server}/{survey}_{{date}}_programid1"


@pytest.fixture(params=["group", "no group"])
def member(request, group):
    return {"group": group, "config": QUICK} if request.param == "group" else {"group": False}


@pytest.fixture
def write(server, survey):
    """Write alerts of a night so many days before 2026-11-21."""

    def write(ago, count, *, first=0):
        topic = night_of(survey, ago)
        produce(server, topic, packets(count, first=first))
        return topic

    return write


def night_of(survey, ago):
    return f"{survey}_{NOON - timedelta(days=ago):%Y%m%d}_programid1"


async def until(stream, wanted, seen=None, timeout_s=15.0):
    """Read until these have come; return all that came."""
    seen = Counter() if seen is None else seen
    deadline = time.monotonic() + timeout_s
    while not set(wanted) <= set(seen) and time.monotonic() < deadline:
        alert = await stream.poll(0.2)
        if alert is not None:
            seen[alert.alert_id] += 1
    assert set(wanted) <= set(seen), f"{sorted(set(wanted) - set(seen))} did not come"
    return seen


# Names --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "tonight", "last"),
    [
        (datetime(2026, 11, 21, 0, 0, 0, tzinfo=UTC), "20261121", "20261120"),
        (datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC), "20261120", "20261119"),
        (datetime(2027, 1, 1, 3, tzinfo=UTC), "20270101", "20261231"),
        (datetime(2028, 3, 1, 3, tzinfo=UTC), "20280301", "20280229"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Honolulu", "Pacific/Auckland"])
def test_nights_are_those_of_utc(when, tonight, last, zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert nights.expand("ztf_{date}_x", when.timestamp(), 2) == [f"ztf_{tonight}_x", f"ztf_{last}_x"]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("a.b_20261121", True),
        ("a.b_2026112", False),
        ("axb_20261121", False),
        ("a.b_20261121_x", False),
        ("a.b_", False),
    ],
)
def test_which_names_are_nights(name, is_one):
    assert nights.is_night_of(name, "a.b_{date}") is is_one


# Which nights are read ----------------------------------------------------------------------------------------------------


async def test_tonight_and_last_night_are_read(open_any, clock, url, write, member):
    write(0, 20)
    write(1, 20, first=100)
    async with open_any(url, stop="end", **member) as stream:
        assert sorted(ids(await read_all(stream))) == [*range(20), *range(100, 120)]


async def test_earlier_nights_are_read_as_far_as_they_were_not(open_any, clock, url, server, write, group):
    """After some days of rest all comes that came meanwhile, and nothing twice."""
    old = write(3, 20, first=300)
    clock.set(NOON - timedelta(days=3))
    async with open_any(url, group=group, stop=12, config=QUICK) as stream:
        seen = ids(await read_all(stream))
    clock.set(NOON)
    for ago in (2, 1, 0):
        write(ago, 20, first=100 * ago)
    async with open_any(url, group=group, stop="end", config=QUICK) as stream:
        seen += ids(await read_all(stream))
    assert sorted(seen) == [number for first in (0, 100, 200, 300) for number in range(first, first + 20)]
    assert sum(committed(server, group, old).values()) == 20


async def test_earlier_nights_that_were_read_are_left_alone(open_any, clock, url, write, survey, group):
    """A cluster goes on advertising nights that are long gone: their partitions would fill the assignment."""
    for ago in range(5):
        write(ago, 4, first=100 * ago)
    async with open_any(url, group=group, stop="end", config=QUICK) as stream:
        assert len(await read_all(stream)) == 20
    async with open_any(url, group=group, config=QUICK) as stream:
        lag = await stream.lag()
    assert {topic for topic, _ in lag} == {night_of(survey, 0), night_of(survey, 1)}


async def test_an_earlier_night_is_left_when_it_is_read(open_any, clock, url, write, survey, group):
    for ago in (0, 3):
        write(ago, 20, first=100 * ago)
    async with open_any(url, group=group, config=QUICK) as stream:
        seen = await until(stream, [*range(20), *range(300, 320)])
        assert await stream.poll(0.3) is None  # which finishes the last
        deadline = time.monotonic() + 10
        while len({topic for topic, _ in await stream.lag()}) > 1 and time.monotonic() < deadline:
            assert await stream.poll(0.2) is None
        assert {topic for topic, _ in await stream.lag()} == {night_of(survey, 0)}
        write(0, 4, first=50)
        await until(stream, range(50, 54), seen)
    assert max(seen.values()) == 1


async def test_other_topics_beside_the_nights(open_any, clock, server, survey, write, member):
    write(0, 20)
    produce(server, f"{survey}-more", packets(20, first=100))
    both = f"kafka://{server}/{survey}_{{date}}_programid1,{survey}-more"
    async with open_any(both, stop="end", **member) as stream:
        assert sorted(ids(await read_all(stream))) == [*range(20), *range(100, 120)]


async def test_a_programme_of_ztf(open_any, clock, server, member):
    topic = f"ztf_{NOON:%Y%m%d}_programid1"
    produce(server, topic, packets(20))
    async with open_any(f"ztf://{server}/programid1", start="latest", **member) as stream:
        assert await stream.poll(0.5) is None
        produce(server, topic, packets(4, first=50))
        await until(stream, range(50, 54))


# Nights that are not there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", ["end", None])
async def test_no_night_at_all_is_a_wrong_name(open_any, clock, server, survey, member, write, stop):
    write(0, 4)
    wrong = f"kafka://{server}/{survey}x_{{date}}_programid1"
    with pytest.raises(NotFoundError, match=survey):
        await open_any(wrong, stop=stop, **member).__aenter__()


@pytest.mark.timeout(30)
async def test_a_cloudy_week_comes_to_its_end(open_any, clock, url, write, member):
    """There are nights, and none of them is to be read: that is an end, and not a reason to wait for ever."""
    write(20, 4)
    async with open_any(url, stop="end", **member) as stream:
        assert await read_all(stream) == []


@pytest.mark.timeout(40)
async def test_the_first_clear_night_after_a_cloudy_week(open_any, clock, url, write, member):
    write(20, 4)
    async with open_any(url, start="latest", **member) as stream:
        assert await stream.poll(0.5) is None
        write(0, 20)
        await until(stream, range(20))


async def test_asking_on_a_cloudy_week(open_any, clock, url, write, member):
    """It answers at once, and does not wait for partitions that nobody will give."""
    write(20, 4)
    async with open_any(url, **member) as stream:
        begin = time.monotonic()
        assert await stream.lag() == {}
        assert time.monotonic() - begin < 3


# The roll-over ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["committed", "latest"])
async def test_a_new_night_is_read_from_its_first_message(open_any, clock, url, write, member, start):
    """Whatever start= says: it began while we read."""
    write(0, 20)
    async with open_any(url, start=start, **member) as stream:
        seen = await until(stream, range(20) if start == "committed" else [])
        await stream.poll(0.5)
        clock.set(NOON + timedelta(days=1))
        write(-1, 20, first=1000)
        await until(stream, range(1000, 1020), seen)
        write(0, 4, first=50)  # the last alerts of the old night come after midnight
        await until(stream, range(50, 54), seen)
    assert max(seen.values()) == 1


async def test_many_nights_in_a_row(open_any, clock, url, server, write, survey, group):
    seen = Counter()
    write(0, 8)
    async with open_any(url, group=group, config=QUICK) as stream:
        for day in range(4):
            clock.set(NOON + timedelta(days=day))
            if day:
                write(-day, 8, first=100 * day)
            await until(stream, range(100 * day, 100 * day + 8), seen)
        await stream.poll(0.5)
    assert max(seen.values()) == 1
    for day in range(4):
        assert sum(committed(server, group, night_of(survey, -day)).values()) == 8


async def test_what_is_in_hand_survives_the_roll_over(open_any, clock, url, server, write, survey, group):
    write(0, 20)
    topic = night_of(survey, 0)
    async with open_any(url, group=group, acknowledge="manual", config=QUICK) as stream:
        held = await take(stream, 20)
        clock.set(NOON + timedelta(days=3))
        write(-3, 4, first=1000)
        fresh = await take(stream, 4)
        assert all(number >= 1000 for number in ids(fresh))
        stream.acknowledge(held + fresh)
        assert wait_until(lambda: sum(part or 0 for part in committed(server, group, topic).values()) == 20)


async def test_a_run_that_starts_in_the_new_night_loses_nothing_of_it(open_any, clock, url, write, group):
    """Who reads night after night with start="latest", and was restarted after midnight: the group has a position in
    the stream, and what came since then is not to be skipped."""
    write(0, 20)
    options = {"group": group, "start": "latest", "config": QUICK}
    async with open_any(url, **options) as stream:
        assert await stream.poll(0.7) is None
        write(0, 4, first=50)
        await until(stream, range(50, 54))
    write(-1, 20, first=1000)  # while nobody reads
    clock.set(NOON + timedelta(days=1))
    async with open_any(url, **options) as stream:
        seen = await until(stream, range(1000, 1020))
    assert set(seen) == set(range(1000, 1020))


async def test_a_clock_that_is_set_back_over_midnight(open_any, clock, url, write, member):
    """A leap of the clock is no reason to read anything twice, to miss anything, or to stop."""
    clock.set(NOON + timedelta(hours=12, minutes=10))  # the 22nd
    write(0, 20)
    write(-1, 20, first=1000)
    async with open_any(url, **member) as stream:
        seen = await until(stream, [*range(20), *range(1000, 1020)])
        clock.set(NOON + timedelta(hours=11, minutes=10))
        for _ in range(5):
            await stream.poll(0.2)
        write(-1, 4, first=2000)
        clock.set(NOON + timedelta(hours=12, minutes=20))
        await until(stream, range(2000, 2004), seen)
        write(0, 4, first=50)
        await until(stream, range(50, 54), seen)
    assert max(seen.values()) == 1


async def test_a_clock_that_leaps_ahead_by_days(open_any, clock, url, write, member):
    write(0, 20)
    async with open_any(url, **member) as stream:
        seen = await until(stream, range(20))
        clock.set(NOON + timedelta(days=30))
        for _ in range(5):
            await stream.poll(0.2)
        clock.set(NOON)
        write(0, 4, first=50)
        await until(stream, range(50, 54), seen)
    assert max(seen.values()) == 1


async def test_an_outage_over_midnight(open_any, clock, cluster, survey, member):
    topics = [night_of(survey, ago) for ago in (0, -1)]
    produce(cluster.server, topics[0], packets(20))
    async with open_any(f"kafka://{cluster.server}/{survey}_{{date}}_programid1", **member) as stream:
        seen = await until(stream, range(20))
        cluster.order("down")
        clock.set(NOON + timedelta(days=1))
        for _ in range(10):
            await stream.poll(0.2)
        cluster.order("up")
        produce(cluster.server, topics[1], packets(20, first=1000))
        await until(stream, range(1000, 1020), seen, timeout_s=30)


# Asking -------------------------------------------------------------------------------------------------------------------


def test_lag_of_all_nights_and_going_back(clock, url, server, write, survey, group):
    for ago in range(3):
        write(ago, 20, first=100 * ago)
    assert sum(lag.waiting for lag in brokers.lag(url, group=group).values()) == 60
    with open_stream(url, group=group, stop="end", config=QUICK) as stream:
        assert len(list(stream)) == 60
    assert sum(lag.waiting for lag in brokers.lag(url, group=group).values()) == 0
    moved = brokers.rewind(url, "earliest", group=group + "-other")
    assert {topic for topic, _ in moved} == {night_of(survey, ago) for ago in range(3)}
    assert set(moved.values()) == {0}
    lags = brokers.lag(url, group=group + "-other").values()
    assert {lag.committed for lag in lags} == {0}
    with pytest.raises(NotFoundError, match=survey):
        brokers.lag(f"kafka://{server}/{survey}x_{{date}}", group=group)


@pytest.mark.timeout(60)
def test_a_distant_broker_with_many_nights_is_entered_soon(clock, server, survey, write, group, caplog):
    """Each question takes its time over an ocean; what is asked of many partitions is to be asked at once."""
    from nuncius.sandbox.front import KafkaFront

    for ago in range(8):
        write(ago, 4, first=100 * ago)
    with KafkaFront(server, mechanisms=(), tls=False) as front:
        url = f"kafka://{front.server}/{survey}_{{date}}_programid1"
        with open_stream(url, group=group, stop="end", config=QUICK) as stream:
            assert len(list(stream)) == 32
        front.change(delay_s=0.1)
        begin = time.monotonic()
        with caplog.at_level(logging.WARNING), open_stream(url, group=group, config=QUICK) as stream:
            entered = time.monotonic() - begin
            stream.poll(2)
        assert entered < 5, f"{entered:.1f} s"
