"""Consumer groups of a real Apache Kafka: members that come and go, positions that are moved, messages that expire."""

import logging
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from kafka_support import Running, ids, packets, wait_until

from nuncius import brokers, open_stream
from nuncius.errors import ConfigurationError, NotFoundError

pytestmark = pytest.mark.xdist_group("real-kafka")

CLASSIC = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 300}
PROTOCOLS = {
    "eager": {**CLASSIC, "partition.assignment.strategy": "range"},
    "cooperative": {**CLASSIC, "partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}
PARTITIONS = 6


class Left(Exception):  # noqa: N818 - how a member goes that does not finish its work
    pass


class Member:
    """One of several that read a topic together."""

    def __init__(self, seen, lock):
        self.seen, self.lock = seen, lock
        self.count = 0
        self.leave = threading.Event()

    def read(self, url, group, config, *, finish):
        with suppress(Left), open_stream(url, group=group, config=config) as stream:
            while not self.leave.is_set():
                alert = stream.poll(0.1)
                if alert is not None:
                    self.count += 1
                    with self.lock:
                        self.seen[alert.alert_id] += 1
            self.go(finish=finish)

    def go(self, *, finish):
        if not finish:
            raise Left


def come_and_go(kafka, topic, config, seen):
    """Let members come and go while a topic is written; return how many alerts were written and each member read."""
    url, group = f"kafka://{kafka.server}/{topic}", f"g-{topic}"
    lock, running, enough = threading.Lock(), Running(), threading.Event()
    first, second, third, fourth = members = [Member(seen, lock) for _ in range(4)]
    written = []

    def write():
        for number in count():
            if enough.is_set():
                return
            written.append(number)
            yield packets(number, 1)[0]

    def join(member, *, finish=True):
        running.start(member.read, url, group, config, finish=finish)
        is_given = wait_until(lambda: member.count > 10 or running.errors)
        running.check()
        assert is_given, f"{topic}: a member was given nothing: {[one.count for one in members]}"

    running.start(kafka.publish, topic, write(), partitions=PARTITIONS, per_s=100)
    try:
        join(first)
        join(second)
        join(third, finish=False)
        second.leave.set()
        third.leave.set()  # by an exception: what it had in its hands comes again
        join(fourth)
        first.leave.set()
        time.sleep(0.5)
        enough.set()
        everything = wait_until(lambda: len(seen) == len(written))
    finally:
        enough.set()
        for member in members:
            member.leave.set()
    running.wait()
    assert everything, f"{len(written) - len(seen)} of {len(written)} were lost"
    return len(written), [member.count for member in members]


def test_members_come_and_go_and_nothing_is_lost(kafka):
    """Of all three kinds of rebalancing; side by side, for each takes its time."""
    running, seen, found, made = Running(), {}, {}, time.time_ns()
    for name, config in PROTOCOLS.items():
        topic = f"t-{name}-{made}"
        kafka.create(topic, PARTITIONS)
        seen[name] = Counter()

        def run(name=name, topic=topic, config=config):
            found[name] = come_and_go(kafka, topic, config, seen[name])

        running.start(run)
    running.wait(120)
    for name in PROTOCOLS:
        topic, (written, counts) = f"t-{name}-{made}", found[name]
        assert kafka.committed(f"g-{topic}", topic, PARTITIONS) == written
        # What comes again was in somebody's hands while its partition went, or not yet committed.
        assert sum(counts) - written <= 60, f"{name}: {counts} of {written}"


# Positions that are moved ---------------------------------------------------------------------------------------------


def test_a_group_is_rewound_and_reads_again(kafka, topic):
    url, group = f"kafka://{kafka.server}/{topic}", f"g-{topic}"
    now = datetime.now(UTC)
    for hours, first in ((5, 0), (3, 100), (1, 200)):
        stamp = int((now - timedelta(hours=hours)).timestamp() * 1000)
        kafka.publish(topic, packets(first, 100), timestamp_ms=stamp)
    with open_stream(url, group=group, stop="end") as stream:
        assert len(ids(stream)) == 300
    for to, expected in (
        ("-4h", range(100, 300)),
        (now - timedelta(hours=2), range(200, 300)),
        ("earliest", range(300)),
        ("latest", range(0)),
        ("-6h", range(300)),
        (now + timedelta(hours=1), range(0)),
    ):
        moved = brokers.rewind(url, to, group=group)
        assert sum(moved.values()) == 300 - len(expected)
        assert sum(lag.waiting for lag in brokers.lag(url, group=group).values()) == len(expected)
        with open_stream(url, group=group, stop="end") as stream:
            assert ids(stream) == list(expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_group_that_is_reading_is_not_rewound(kafka, topic, protocol):
    url, group = f"kafka://{kafka.server}/{topic}", f"g-{topic}"
    kafka.publish(topic, packets(0, 40))
    with open_stream(url, group=group, config=PROTOCOLS[protocol]) as stream:
        assert len([next(stream) for _ in range(40)]) == 40
        stream.poll(0.5)
        with pytest.raises(ConfigurationError, match="somebody reads"):
            brokers.rewind(url, "earliest", group=group)
        kafka.publish(topic, packets(40, 4))
        assert ids(next(stream) for _ in range(4)) == list(range(40, 44))
    assert kafka.committed(group, topic) == 44
    assert sum(brokers.rewind(url, "earliest", group=group).values()) == 0
    with open_stream(url, group=group, stop="end", config=PROTOCOLS[protocol]) as stream:
        assert len(ids(stream)) == 44


def test_lag_is_told_without_disturbing_who_reads(kafka, topic):
    url, group = f"kafka://{kafka.server}/{topic}", f"g-{topic}"
    kafka.publish(topic, packets(0, 100))
    fresh = brokers.lag(url, group=group)
    assert {lag.committed for lag in fresh.values()} == {None}
    assert sum(lag.waiting for lag in fresh.values()) == 100
    with open_stream(url, group=group, config=CLASSIC) as stream:
        for _ in range(60):
            next(stream)
        time.sleep(0.5)
        assert sum(lag.waiting for lag in brokers.lag(url, group=group).values()) == 41
        assert sum(stream.lag().values()) == 41
        for _ in range(40):
            next(stream)
    assert sum(lag.waiting for lag in brokers.lag(url, group=group).values()) == 0
    with pytest.raises(NotFoundError, match=topic):
        brokers.lag(url + "x", group=group)


# Messages that expire -------------------------------------------------------------------------------------------------


def test_what_expired_before_it_was_read_is_said_and_the_rest_comes(kafka, topic, caplog):
    url, group = f"kafka://{kafka.server}/{topic}", f"g-{topic}"
    kafka.publish(topic, packets(0, 200))
    with open_stream(url, group=group, stop=100) as stream:
        assert len(ids(stream)) == 100
    assert sum(lag.expired for lag in brokers.lag(url, group=group).values()) == 0
    # Retention takes all that is there; what comes afterwards is kept.
    kafka.configure(topic, retention_ms=1)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        lags = brokers.lag(url, group=group)
        if sum(lag.first for lag in lags.values()) == 200:
            break
        time.sleep(0.2)
    kafka.configure(topic, retention_ms=-1)
    assert sum(lag.expired for lag in lags.values()) == 100
    assert sum(lag.waiting for lag in lags.values()) == 0
    kafka.publish(topic, packets(200, 40))
    lags = brokers.lag(url, group=group)
    assert (sum(lag.expired for lag in lags.values()), sum(lag.waiting for lag in lags.values())) == (100, 40)
    with caplog.at_level(logging.WARNING), open_stream(url, group=group, stop="end") as stream:
        assert ids(stream) == list(range(200, 240))
    told = [
        record.getMessage() for record in caplog.records if "expired on the broker" in record.getMessage()
    ]
    assert sum(int(text.split(": ")[1].split()[0]) for text in told) == 100
    assert sum(lag.expired for lag in brokers.lag(url, group=group).values()) == 0


def test_what_expires_while_a_stream_rests_is_said(kafka, topic, caplog):
    """The caller is slow, and the broker deletes behind his back."""
    from confluent_kafka import TopicPartition

    kafka.publish(topic, [b'{"alert_id": %d, "text": "%s"}' % (n, b"x" * 100_000) for n in range(2000)])
    seen = set()
    options = {"config": {"fetch.message.max.bytes": 1_000_000, "queued.max.messages.kbytes": 2000}}
    with open_stream(f"kafka://{kafka.server}/{topic}", group=f"g-{topic}", **options) as stream:
        seen.add(next(stream).alert_id)
        time.sleep(1)
        ends = [TopicPartition(topic, number, 490) for number in range(4)]
        for future in kafka.admin.delete_records(ends).values():
            future.result(10)
        with caplog.at_level(logging.WARNING):
            while not {1996, 1997, 1998, 1999} <= seen:
                seen.add(next(stream).alert_id)
    missing = 2000 - len(seen)
    assert missing > 0, "nothing expired: the test shows nothing"
    assert {n for n in range(2000) if n not in seen} <= set(range(1960)), (
        "something that the broker has was not read"
    )
    assert "expired on the broker" in caplog.text


# Nights ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_group", [True, False], ids=["group", "no group"])
def test_a_night_that_is_deleted_does_not_end_the_stream(kafka, with_group, monkeypatch):
    """Brokers delete the topics of old nights while we have them still in our list."""
    from nuncius.streams.kafka import transport

    monkeypatch.setattr(transport, "_ROLL_OVER_S", 0.5)
    made = time.time_ns()
    nights = [f"t{made}_{datetime.now(UTC) - timedelta(days=ago):%Y%m%d}" for ago in (0, 1, 3)]
    for at, night in enumerate(nights):
        kafka.create(night)
        kafka.publish(night, packets(100 * at, 20))
    url = f"kafka://{kafka.server}/t{made}_{{date}}"
    group = f"g-{made}" if with_group else False
    config = {"topic.metadata.refresh.interval.ms": 500} | (PROTOCOLS["consumer"] if with_group else {})
    with open_stream(url, group=group, config=config) as stream:
        assert len(ids(next(stream) for _ in range(60))) == 60
        kafka.admin.delete_topics([nights[2]])[nights[2]].result(10)
        begin = time.monotonic()
        while time.monotonic() - begin < 2:
            assert stream.poll(0.2) is None
        kafka.publish(nights[0], packets(1000, 20))
        assert ids(next(stream) for _ in range(20)) == list(range(1000, 1020))
