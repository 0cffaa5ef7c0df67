"""Delivery against a real Apache Kafka 4.1: what the mock cluster can't answer, and that both agree."""

import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from nuncius import open_archive, open_stream
from nuncius.errors import ForbiddenError, LoginError, NotFoundError

pytestmark = pytest.mark.xdist_group("real-kafka")

SASL = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}


def packets(first, count):
    return [
        b'{"alert_id": %d, "object_id": "O%d", "ra": 10.0, "dec": 1.0}' % (n, n)
        for n in range(first, first + count)
    ]


@pytest.fixture
def topic(kafka):
    name = f"t-{uuid.uuid4().hex[:8]}"
    kafka.create(name)
    return name


def ids(stream):
    return sorted(alert.alert_id for alert in stream)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_everything_arrives_once_and_a_second_run_goes_on(kafka, topic, protocol):
    url, config = f"kafka://{kafka.server}/{topic}", {"group.protocol": protocol}
    kafka.publish(topic, packets(0, 500))
    with open_stream(url, group=f"g-{topic}", stop="end", config=config) as stream:
        assert ids(stream) == list(range(500))
    assert kafka.committed(f"g-{topic}", topic) == 500
    kafka.publish(topic, packets(500, 100))
    with open_stream(url, group=f"g-{topic}", stop="end", config=config) as stream:
        assert ids(stream) == list(range(500, 600))


def test_start_and_stop_at_a_time(kafka, topic):
    now = datetime.now(UTC)
    for hours, first in ((3, 0), (1, 100), (0, 200)):
        stamp = int((now - timedelta(hours=hours)).timestamp() * 1000)
        kafka.publish(topic, packets(first, 100), timestamp_ms=stamp)
    url = f"kafka://{kafka.server}/{topic}"
    with open_stream(url, group=False, start="-2h", stop="end") as stream:
        assert ids(stream) == list(range(100, 300))
    with open_stream(url, group=False, start="earliest", stop=now - timedelta(minutes=30)) as stream:
        assert ids(stream) == list(range(200))
    with open_stream(url, group=f"g-{topic}", start=now - timedelta(hours=2), stop="end") as stream:
        assert ids(stream) == list(range(100, 300))


def test_latest_is_remembered_before_the_first_alert_comes(kafka, topic):
    url = f"kafka://{kafka.server}/{topic}"
    kafka.publish(topic, packets(0, 50))
    with open_stream(url, group=f"g-{topic}", start="latest", stop="2s") as stream:
        assert ids(stream) == []
    kafka.publish(topic, packets(50, 50))
    with open_stream(url, group=f"g-{topic}", start="latest", stop="end") as stream:
        assert ids(stream) == list(range(50, 100))


KILLED = """
import os, random, signal, sys
from nuncius import open_archive, open_stream
url, group, path, seed = sys.argv[1:]
left = random.Random(int(seed)).randrange(100, 400) if int(seed) else 10**9
config = {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}
with open_archive(path) as archive, open_stream(url, group=group, config=config, stop="end") as stream:
    for batch in stream.batches(20, 0.05):
        archive.ingest(batch, progress=False)
        left -= len(batch)
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_nine_loses_nothing(kafka, topic, tmp_path):
    kafka.publish(topic, packets(0, 2000))
    url, group, path = f"kafka://{kafka.server}/{topic}", f"g-{topic}", tmp_path / "night.db"
    positions = [0]
    for seed in range(1, 7):
        child = subprocess.run([sys.executable, "-c", KILLED, url, group, str(path), str(seed)], timeout=60)
        assert child.returncode == -9
        positions.append(kafka.committed(group, topic))
    assert positions == sorted(positions)
    assert positions[-1] > 100
    assert (
        subprocess.run([sys.executable, "-c", KILLED, url, group, str(path), "0"], timeout=60).returncode == 0
    )
    assert kafka.committed(group, topic) == 2000
    with open_archive(path, read_only=True) as archive:
        assert sorted(d["alert_id"] for d in archive.find("generic_alerts")) == list(range(2000))


def test_two_members_share_the_topic_and_a_leaving_one_loses_nothing(kafka, topic):
    url, group = f"kafka://{kafka.server}/{topic}", f"g-{topic}"
    seen = {"first": [], "second": []}
    ready = threading.Event()

    def read(name, stop):
        with open_stream(url, group=group, stop=stop) as stream:
            for alert in stream:
                seen[name].append(alert.alert_id)
                ready.set()

    first = threading.Thread(target=read, args=("first", "20s"))
    first.start()
    kafka.publish(topic, packets(0, 100))
    assert ready.wait(15)
    second = threading.Thread(target=read, args=("second", "9s"))
    second.start()
    time.sleep(6)
    kafka.publish(topic, packets(100, 400))
    second.join(30)
    kafka.publish(topic, packets(500, 100))
    first.join(40)
    assert seen["second"], "the second member was given no partition"
    assert sorted(set(seen["first"]) | set(seen["second"])) == list(range(600))
    # Handing partitions over may repeat what was in a member's hands, and no more.
    assert len(seen["first"]) + len(seen["second"]) <= 600 + 20


def test_a_killed_broker_that_comes_back_is_gone_on_with(kafka, topic):
    kafka.publish(topic, packets(0, 200))
    seen = []
    with open_stream(f"kafka://{kafka.server}/{topic}", group=f"g-{topic}", stop="80s") as stream:
        for alert in stream:
            seen.append(alert.alert_id)
            if len(set(seen)) == 400:
                break
            if len(seen) == 150:
                kafka.kill()
                time.sleep(1)
                kafka.start()
                kafka.publish(topic, packets(200, 200))
    assert sorted(set(seen)) == list(range(400)), "something was lost"
    assert len(seen) <= 400 + 150, "more came again than was uncommitted when the broker died"


def test_a_refused_login_is_an_error_in_time(kafka, topic):
    begin = time.monotonic()
    stream = open_stream(
        f"kafka://{kafka.login_server}/{topic}", credentials=("reader", "wrong-secret"), config=SASL
    )
    with pytest.raises(LoginError, match="refuses the login") as caught, stream:
        pass
    assert time.monotonic() - begin < 10
    assert "reader" in str(caught.value)
    assert "wrong-secret" not in str(caught.value) + repr(caught.value.__dict__)


def test_what_a_user_may_not_read_is_said(kafka, topic):
    from confluent_kafka.admin import (
        AclBinding,
        AclOperation,
        AclPermissionType,
        ResourcePatternType,
        ResourceType,
    )

    kafka.publish(topic, packets(0, 10))

    def allow(kind, name, operation):
        binding = AclBinding(
            kind, name, ResourcePatternType.LITERAL, "User:reader", "*", operation, AclPermissionType.ALLOW
        )
        for future in kafka.admin.create_acls([binding]).values():
            future.result(10)

    url = f"kafka://{kafka.login_server}/{topic}"
    options = {"credentials": ("reader", "right"), "config": SASL, "stop": "end", "group": f"g-{topic}"}
    with pytest.raises(NotFoundError, match="may not read looks the same"), open_stream(url, **options):
        pass
    allow(ResourceType.TOPIC, topic, AclOperation.READ)
    time.sleep(0.5)
    with pytest.raises(ForbiddenError, match="consumer group"), open_stream(url, **options) as stream:
        next(stream)
    with open_stream(url, **{**options, "group": False}) as stream:
        assert ids(stream) == list(range(10))
    allow(ResourceType.GROUP, f"g-{topic}", AclOperation.READ)
    time.sleep(0.5)
    with open_stream(url, **options) as stream:
        assert ids(stream) == list(range(10))


def test_messages_that_expired_unread_are_told(kafka, topic, caplog):
    from confluent_kafka import TopicPartition

    url = f"kafka://{kafka.server}/{topic}"
    kafka.publish(topic, packets(0, 100))
    with open_stream(url, group=f"g-{topic}", stop="end") as stream:
        assert len(ids(stream)) == 100
    kafka.publish(topic, packets(100, 100))
    ends = [TopicPartition(topic, number, 40) for number in range(4)]
    for future in kafka.admin.delete_records(ends).values():
        future.result(10)
    with caplog.at_level(logging.WARNING), open_stream(url, group=f"g-{topic}", stop="end") as stream:
        rest = ids(stream)
    assert len(rest) < 100
    assert "expired on the broker" in caplog.text


def test_lag_topics_and_seek(kafka, topic):
    kafka.publish(topic, packets(0, 100))
    with open_stream(f"kafka://{kafka.server}/{topic}", group=f"g-{topic}", stop="60s") as stream:
        assert topic in stream.topics()
        assert next(stream)
        assert sum(stream.lag().values()) == 100
        for _ in range(99):
            next(stream)
        stream.seek("earliest")
        assert len({next(stream).alert_id for _ in range(100)}) == 100


def test_a_large_message(kafka, topic):
    kafka.publish(topic, [b'{"alert_id": 1, "text": "' + os.urandom(10_000_000).hex().encode() + b'"}'])
    with open_stream(f"kafka://{kafka.server}/{topic}", group=False, stop="end") as stream:
        assert ids(stream) == [1]
