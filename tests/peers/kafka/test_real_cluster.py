"""Three brokers that keep each message three times, and one of them dies under load."""

import threading
import time
from collections import Counter
from itertools import count

import pytest
from kafka_support import Running, packets, wait_until

from nuncius import open_stream

pytestmark = pytest.mark.xdist_group("real-kafka")

READERS = {
    "classic": {"config": {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}},
    "consumer": {"config": {"group.protocol": "consumer"}},
    "no group": {"group": False},
    "tls": {"credentials": ("vera", "right"), "config": {"session.timeout.ms": 6000}},
}


class Reader:
    """Reads a topic until it is told to leave."""

    def __init__(self, url, options):
        self.url, self.options = url, options
        self.seen = Counter()
        self.leave = threading.Event()

    def read(self):
        with open_stream(self.url, **self.options) as stream:
            while not self.leave.is_set():
                alert = stream.poll(0.1)
                if alert is not None:
                    self.seen[alert.alert_id] += 1


def test_a_broker_of_three_dies_under_load_and_comes_back(three):
    """It leads a third of the partitions, and keeps the positions of a group."""
    topic = f"t{time.time_ns()}"
    three.create(topic, 6)
    running, enough, readers, written = Running(), threading.Event(), {}, []

    def write():
        for number in count():
            if enough.is_set():
                return
            written.append(number)
            yield packets(number, 1)[0]

    for name, options in READERS.items():
        server = three.server
        options = {"group": f"g-{topic}-{name.replace(' ', '-')}", **options}  # noqa: PLW2901
        if name == "tls":
            server, options["ssl_ca_location"] = three.tls_server, three.ssl_ca_location
        readers[name] = Reader(f"kafka://{server}/{topic}", options)
        running.start(readers[name].read)

    def all_have(number):
        return wait_until(
            lambda: running.errors or all(len(one.seen) >= number for one in readers.values()), timeout_s=40
        )

    running.start(three.publish, topic, write(), partitions=6, per_s=100)
    victim = None
    try:
        assert all_have(100)
        running.check()
        victim = three.coordinator(f"g-{topic}-classic")
        three.kill(victim)
        begin = time.monotonic()
        # The others take over; all readers go on while it is dead.
        assert all_have(len(written) + 100)
        running.check()
        assert time.monotonic() - begin < 30
        three.start(victim)
        victim = None
        assert all_have(len(written) + 100)
        running.check()
        enough.set()
        time.sleep(0.3)
        assert all_have(len(written))
    finally:
        enough.set()
        for one in readers.values():
            one.leave.set()
        if victim is not None:
            three.start(victim)
    running.wait()
    for name, one in readers.items():
        assert set(one.seen) == set(written), f"{name}: {len(written) - len(one.seen)} were lost"
        if name == "no group":
            assert max(one.seen.values()) == 1
        else:
            # What was not committed while the keeper of the positions was dead may come again.
            assert sum(one.seen.values()) - len(written) < 0.5 * len(written)
            assert three.committed(one.options["group"], topic, 6) == len(written)
