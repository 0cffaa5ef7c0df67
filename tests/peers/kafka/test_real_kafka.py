"""Delivery against a real Apache Kafka 4.1: what the mock cluster can't answer, and that both agree."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from kafka_support import ids, packets

from nuncius import open_archive, open_stream

pytestmark = pytest.mark.xdist_group("real-kafka")


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
    for seed in range(1, 5):
        child = subprocess.run([sys.executable, "-c", KILLED, url, group, str(path), str(seed)], timeout=60)
        assert child.returncode == -9
        positions.append(kafka.committed(group, topic))
    assert positions == sorted(positions)
    assert positions[-1] > 0  # how far it came is a matter of how busy the machine is
    assert (
        subprocess.run([sys.executable, "-c", KILLED, url, group, str(path), "0"], timeout=60).returncode == 0
    )
    assert kafka.committed(group, topic) == 2000
    with open_archive(path, read_only=True) as archive:
        assert sorted(d["alert_id"] for d in archive.find("generic_alerts")) == list(range(2000))


def test_a_killed_broker_that_comes_back_is_gone_on_with(kafka, topic):
    kafka.publish(topic, packets(0, 200))
    seen = []
    config = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}
    url = f"kafka://{kafka.server}/{topic}"
    with open_stream(url, group=f"g-{topic}", stop="80s", config=config) as stream:
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
