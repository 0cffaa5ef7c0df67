"""Members of a group that come and go under load, a broker that restarts meanwhile, and clocks that jump."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace

import pytest

from nuncius import open_archive, open_stream
from nuncius.streams import book, engine, intake, rules
from nuncius.streams.bounds import Stop
from nuncius.streams.rules import Rate
from streams_support import (
    QUICK,
    committed_sum,
    end,
    ids,
    message,
    messages,
    new_name,
    packet,
    packets,
    produce,
    read_all,
    scripted,
    take,
    wait_until,
)

# All three ways on a real Kafka are in tests/peers/kafka; the mock cluster is slow with the classic ones.
PROTOCOLS = {
    "cooperative": {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300},
    "consumer": QUICK,
}


class Left(Exception):  # noqa: N818 - how a member goes that does not finish its work
    pass


class Member:
    """One of several that read a topic together, into one archive if there is one."""

    def __init__(self, url, group, config, seen, archive=None, *, finish=True):
        self.stream = open_stream(url, group=group, config=config, acknowledge="manual")
        self.seen, self.archive, self.finish = seen, archive, finish
        self.count = 0
        self.leave = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def join(self):
        self.thread.start()
        assert wait_until(lambda: self.count or self.error, timeout_s=60), "this member was given nothing"
        if self.error:
            raise self.error

    def _run(self):
        try:
            with self.stream:
                while not self.leave.is_set():
                    self._read()
                self._part()
        except Left:
            pass
        except Exception as error:
            self.error = error

    def _part(self):
        if not self.finish:
            raise Left

    def _read(self):
        batch = [self.stream.poll(0.1)]
        while batch[-1] is not None and len(batch) < 100:
            batch.append(self.stream.poll(0))
        batch = [alert for alert in batch if alert is not None]
        if self.archive is not None and batch:
            self.archive.ingest(batch, progress=False)
        self.seen.update(ids(batch))
        self.count += len(batch)
        if self.finish:  # or all that it had in its hands comes again
            self.stream.acknowledge(batch)

    def go(self):
        self.leave.set()
        self.thread.join(20)
        assert not self.thread.is_alive()
        if self.error:
            raise self.error


class Writing:
    """Writes to a topic until it is told to stop."""

    def __init__(self, server, topic, per_s):
        self._server, self._topic, self._per_s = server, topic, per_s
        self.count = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self._server, "log_level": 0, "linger.ms": 1})
        for number in count():
            if self._stop.wait(1 / self._per_s):
                break
            producer.produce(self._topic, packet(number), partition=number % 4)
            self.count += 1
            producer.poll(0)
        self.unsent = producer.flush(30)

    def __enter__(self):
        self._thread.start()
        return self

    def stop(self):
        self._stop.set()
        self._thread.join(40)
        assert self.unsent == 0

    def __exit__(self, *_):
        self._stop.set()


@pytest.fixture
def server(nuncius_kafka):
    return nuncius_kafka.url.removeprefix("kafka://")


@pytest.fixture
def topic():
    return new_name()


@pytest.fixture
def url(server, topic):
    return f"kafka://{server}/{topic}"


# Members --------------------------------------------------------------------------------------------------------------------


@pytest.mark.mock_cluster
@pytest.mark.timeout(120)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_three_members_come_and_go_and_the_archive_has_each_alert_once(cluster, group, protocol, tmp_path):
    server, topic = cluster.server, "alerts"
    url, config, seen = f"kafka://{server}/{topic}", PROTOCOLS[protocol], Counter()
    with open_archive(tmp_path / "night.db") as archive, Writing(server, topic, 150) as writing:
        first, second, fourth = (Member(url, group, config, seen, archive) for _ in range(3))
        third = Member(url, group, config, seen, archive, finish=False)
        for member in (first, second, third):
            member.join()
        second.go()
        third.go()
        fourth.join()
        first.go()
        writing.stop()
        everything = wait_until(lambda: len(seen) == writing.count, timeout_s=40)
        fourth.go()
        assert everything, f"{writing.count - len(seen)} of {writing.count} were lost"
        assert sorted(document["candid"] for document in archive.find("generic_alerts")) == list(
            range(writing.count)
        )
    assert committed_sum(server, group, topic) == writing.count
    # What comes again was in somebody's hands while its partition went, or not yet committed; and all of the third.
    assert sum(seen.values()) - writing.count - third.count < 0.2 * writing.count + 100


@pytest.mark.timeout(60)
def test_a_slow_member_keeps_its_alerts_while_others_come(server, topic, url, group):
    """What it has in its hands from partitions that stay with it is not handed to anybody else."""
    produce(server, topic, packets(200))
    seen = Counter()
    with open_stream(url, group=group, config=QUICK, acknowledge="manual") as slow:
        held = [next(slow) for _ in range(50)]
        other = Member(url, group, QUICK, seen)
        other.join()
        kept = {partition for _, partition in slow._engine._book.ledgers}
        assert 0 < len(kept) < 4
        other.go()
        mine = [alert for alert in held if alert.origin.partition in kept]
        assert not set(ids(mine)) & set(seen)
        slow.acknowledge(held)  # also what was taken away meanwhile: that is no error, and changes nothing
        rest = []
        while (alert := slow.poll(4)) is not None:
            rest.append(alert)
            slow.acknowledge(alert)
            if {*ids(mine), *ids(rest), *seen} >= set(range(200)):
                break
    assert {*ids(mine), *ids(rest), *seen} == set(range(200))
    assert committed_sum(server, group, topic) == 200


@pytest.mark.timeout(60)
def test_positions_of_a_partition_that_went_are_not_committed_any_more(server, topic, url, group):
    """The one that had it is late; the new owner has gone on since."""
    produce(server, topic, packets(200))
    seen = Counter()
    with open_stream(url, group=group, config=QUICK, acknowledge="manual") as slow:
        held = [next(slow) for _ in range(100)]
        other = Member(url, group, QUICK, seen)
        other.join()
        assert wait_until(lambda: len(seen) > 20)
        before = committed_sum(server, group, topic)
        slow.acknowledge(held[:1])
        time.sleep(1)
        assert committed_sum(server, group, topic) >= before
        other.go()
    assert committed_sum(server, group, topic) >= before


# A broker that restarts -----------------------------------------------------------------------------------------------------


@pytest.mark.mock_cluster
@pytest.mark.timeout(120)
def test_a_broker_restarts_while_members_come_and_go(cluster, group):
    config, seen = QUICK, Counter()
    url, server = f"kafka://{cluster.server}/alerts", cluster.server
    produce(server, "alerts", packets(40))
    members = [Member(url, group, config, seen) for _ in range(3)]
    members[0].join()
    cluster.order("down")
    members[1].thread.start()  # it joins a broker that is not there
    time.sleep(2)
    cluster.order("up")
    produce(server, "alerts", packets(400, first=40))
    members[2].thread.start()
    assert wait_until(lambda: set(seen) >= set(range(440)), timeout_s=40), len(seen)
    cluster.order("down")
    time.sleep(1)
    cluster.order("up")
    produce(server, "alerts", packets(400, first=440))
    assert wait_until(lambda: set(seen) >= set(range(840)), timeout_s=40), len(seen)
    for member in members:
        member.go()
    with open_stream(url, group=group, config=config, stop="end") as stream:
        seen.update(ids(stream))
    assert set(seen) == set(range(840))
    assert committed_sum(server, group, "alerts") == 840


# Clocks that jump -----------------------------------------------------------------------------------------------------------


class Clock:
    """The time of the day, which somebody sets by hours; what is waited for goes by another clock."""

    def __init__(self):
        self.shift = 0.0

    def time(self):
        return time.time() + self.shift


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    face = SimpleNamespace(time=made.time, monotonic=time.monotonic, sleep=time.sleep)
    for module in (engine, book, intake, rules):
        monkeypatch.setattr(module, "time", face)
    return made


HOURS = pytest.mark.parametrize("hours", [1, -1], ids=["ahead", "back"])


@HOURS
def test_a_duration_is_not_changed_by_a_clock_that_is_set(clock, tmp_path, hours):
    stream, _ = scripted([messages(3)], tmp_path, stop=Stop(seconds=1.0))
    begin = time.monotonic()
    with stream:
        next(stream)
        clock.shift = hours * 3600
        assert len(list(stream)) == 2
    assert 0.8 < time.monotonic() - begin < 3


@HOURS
def test_a_rate_is_not_changed_by_a_clock_that_is_set(clock, tmp_path, hours):
    stream, _ = scripted([messages(1000)], tmp_path, rate=Rate(100.0))
    with stream:
        next(stream)
        clock.shift = hours * 3600
        begin, read = time.monotonic(), 0
        while time.monotonic() - begin < 1.0:
            read += stream.poll(0.1) is not None
    assert 50 <= read <= 210


@HOURS
def test_waiting_and_releasing_are_not_changed_by_a_clock_that_is_set(clock, tmp_path, hours):
    stream, _ = scripted([messages(1)], tmp_path, acknowledge="manual")
    with stream:
        alert = next(stream)
        stream.release(alert, 0.5)
        clock.shift = hours * 3600
        begin = time.monotonic()
        assert stream.poll(0.2) is None
        assert time.monotonic() - begin < 0.4
        assert stream.poll(3) is alert
        assert time.monotonic() - begin < 1.5


def test_a_stop_time_is_one_of_the_clock_and_of_the_messages(clock, tmp_path):
    """It is over when the clock says so, whatever it said before, and no message after it is read."""
    now = time.time()
    stop = now + 1800
    script = [
        [message(0, timestamp_ms=int(now * 1000)), message(1, timestamp_ms=int(now * 1000)), end()],
        *[[]] * 20,
        [message(2, timestamp_ms=int((stop + 1) * 1000))],
    ]
    stream, transport = scripted(script, tmp_path, stop=Stop(unix_s=stop))
    with stream:
        assert ids([next(stream), next(stream)]) == [0, 1]
        clock.shift = -3600
        assert stream.poll(0.2) is None
        clock.shift = 3600
        begin = time.monotonic()
        assert list(stream) == []
        assert time.monotonic() - begin < 2
    assert transport.closed_with == {("night", 0): 2}


def test_the_status_says_the_time_of_the_clock(clock, tmp_path):
    stream, _ = scripted([messages(2)], tmp_path)
    with stream:
        next(stream)
        clock.shift = 3600
        next(stream)
        assert abs(stream.stats().last_alert - clock.time()) < 5


@HOURS
async def test_a_clock_that_is_set_while_kafka_is_read(open_any, clock, server, topic, url, group, hours):
    produce(server, topic, packets(20))
    async with open_any(url, group=group, config=QUICK) as stream:
        assert len(await take(stream, 10)) == 10
        clock.shift = hours * 3600
        assert len(await take(stream, 10)) == 10
        produce(server, topic, packets(20, first=20))
        assert len(await take(stream, 20)) == 20
        begin = time.monotonic()
        assert await stream.poll(0.3) is None
        assert 0.2 < time.monotonic() - begin < 1
    assert committed_sum(server, group, topic) == 40


async def test_a_stop_time_that_is_past_reads_what_came_before_it(open_any, server, topic, url, group):
    produce(server, topic, packets(20), timestamp_ms=int((time.time() - 7200) * 1000))
    produce(server, topic, packets(20, first=20), timestamp_ms=int((time.time() - 60) * 1000))
    stop = datetime.now(UTC) - timedelta(hours=1)
    with suppress(TimeoutError):
        async with open_any(url, group=group, stop=stop, config=QUICK) as stream:
            assert sorted(ids(await read_all(stream))) == list(range(20))
    assert committed_sum(server, group, topic) == 20
