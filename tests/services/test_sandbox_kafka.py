"""The sandbox's Kafka broker: it loses nothing that it has taken, and says so when it can't take more."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from nuncius import open_stream
from nuncius.errors import ConfigurationError, DeadlineError, NunciusError
from nuncius.sandbox import Sandbox, SandboxKafka
from streams_support import PARTITIONS, QUICK, committed_sum, ids, new_name, packet, packets


@pytest.fixture
def box():
    """Give a broker of the test's own."""
    with SandboxKafka() as running:
        yield running


def read(box, topic, **options):
    with open_stream(f"{box.url}/{topic}", stop="end", **({"group": False} | options)) as stream:
        return list(stream)


def test_what_is_published_is_read(nuncius_kafka, topic):
    assert nuncius_kafka.publish(topic, packets(101)) == 101
    assert sorted(ids(read(nuncius_kafka, topic))) == list(range(101))


def test_packets_go_round_the_partitions_in_order(nuncius_kafka, topic):
    nuncius_kafka.publish(topic, packets(50))
    nuncius_kafka.publish(topic, packets(50, first=50))
    places = {}
    for alert in read(nuncius_kafka, topic):
        places.setdefault(alert.origin.partition, []).append(alert.alert_id)
    assert sorted(map(len, places.values())) == [25] * PARTITIONS
    assert all(numbers == sorted(numbers) for numbers in places.values())


def test_keys_headers_and_tombstones(nuncius_kafka, topic):
    nuncius_kafka.publish(topic, [packet(1)], key=b"k", headers={"_format": b"json"})
    assert nuncius_kafka.publish(topic, [None]) == 1
    with open_stream(f"{nuncius_kafka.url}/{topic}", group=False, stop="end") as stream:
        (alert,) = list(stream)
        assert stream.stats().quarantined == 1
    assert (alert.origin.key, alert.origin.headers) == (b"k", (("_format", b"json"),))


def test_nothing_published_still_makes_the_topic(nuncius_kafka, topic):
    assert nuncius_kafka.publish(topic, []) == 0
    assert read(nuncius_kafka, topic) == []


@pytest.mark.parametrize("size", [10, 1000, 60_000])
def test_a_full_partition_is_told_before_anything_is_dropped(box, size):
    """All that was taken before is still there, whatever the size of the packets."""
    taken = []

    def endless():
        number = 0
        while True:
            taken.append(number)
            yield packet(number, text="x" * size)
            number += 1

    with pytest.raises(ConfigurationError, match=r"full.*group="):
        box.publish("alerts", endless())
    found = sorted(ids(read(box, "alerts")))
    # The last one was asked for and refused.
    assert found == list(range(len(taken) - 1))
    assert len(found) * (size + 50) > 4_000_000 * PARTITIONS * 0.2


@pytest.mark.parametrize("where", ["key", "headers"])
def test_keys_and_headers_take_room_too(box, where):
    """Some brokers send the whole schema as the key of each message."""
    options = {"key": b"k" * 60_000} if where == "key" else {"headers": {"schema": b"h" * 60_000}}
    taken = 0
    try:
        for number in range(400):
            box.publish("alerts", [packet(number)], **options)
            taken += 1
    except ConfigurationError:
        pass
    assert sorted(ids(read(box, "alerts"))) == list(range(taken))


def test_a_packet_larger_than_a_partition_is_refused(box):
    with pytest.raises(ConfigurationError, match="larger than"):
        box.publish("alerts", [b"x" * 5_000_000])


def test_with_a_reading_group_more_is_published_than_fits(box):
    """It waits for the group whenever a partition is full; nothing is lost on the way."""
    count, text = 1200, "x" * 50_000  # three times what the broker keeps
    box.publish("alerts", [])
    seen = []

    def reader():
        with open_stream(f"{box.url}/alerts", group="g", stop=count, config=QUICK) as stream:
            seen.extend(alert.alert_id for batch in stream.batches(50, timeout_s=0.1) for alert in batch)

    thread = threading.Thread(target=reader)
    thread.start()
    values = (packet(number, text=text) for number in range(count))
    assert box.publish("alerts", values, group="g", timeout_s=20) == count
    thread.join(40)
    assert sorted(seen) == list(range(count))
    assert committed_sum(box.url.removeprefix("kafka://"), "g", "alerts") == count


def test_a_group_that_does_not_read_is_told(box):
    begin = time.monotonic()
    with pytest.raises(DeadlineError, match=r"nobody|nothing new"):
        box.publish(
            "alerts",
            (packet(number, text="x" * 400_000) for number in range(100)),
            group="nobody",
            timeout_s=1,
        )
    assert time.monotonic() - begin < 15
    assert len(read(box, "alerts")) > 20


def test_a_message_that_is_not_confirmed_is_told(box):
    """The broker ends while it is being filled."""

    def values():
        yield packet(0)
        box._process.kill()
        box._process.wait()
        yield packet(1)

    with pytest.raises(NunciusError):
        box.publish("alerts", values(), timeout_s=1)


def test_a_broker_that_is_gone_is_told(box):
    box.publish("alerts", [packet(0)])
    box._process.kill()
    box._process.wait()
    with pytest.raises(NunciusError):
        box.publish("alerts", [packet(1)], timeout_s=1)


def test_the_sandbox_starts_its_broker_when_it_is_touched():
    with Sandbox() as sandbox:
        assert "nothing started" in repr(sandbox)
        kafka = sandbox.kafka
        assert sandbox.kafka is kafka
        assert kafka.url == f"kafka://{kafka.host}:{kafka.port}"
        assert kafka.url in repr(kafka)
        process = kafka._process
        assert process.poll() is None
    assert process.poll() is not None


def test_closing_twice_is_fine(box):
    box.publish(new_name(), [packet(0)])
    box.close()
    box.close()
    assert box._process.poll() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_does_not_end_the_broker_before_the_program(box):
    """A terminal sends it to both; the program still has to commit and leave."""
    box._process.send_signal(signal.SIGINT)
    with pytest.raises(Exception, match="timed out"):
        box._process.wait(1)


def test_the_broker_ends_with_its_program():
    from streams_support import line_of, run_program, wait_until

    text = """
import os, signal
from nuncius.sandbox import SandboxKafka
box = SandboxKafka()
print(box._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    child = run_program(text, wait=False)
    number = int(line_of(child))
    child.wait(10)
    for pipe in (child.stdin, child.stdout, child.stderr):
        pipe.close()

    def is_gone():
        import os

        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        return False

    assert wait_until(is_gone)
