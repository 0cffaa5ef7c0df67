"""`kill -9` at any moment: what was not finished comes again when its lease is over, and nothing is lost."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from nuncius import open_stream
from nuncius.sandbox import SandboxPubSub
from streams_support import end_program, ids, line_of, packet, run_program, wait_until

pytest.importorskip("google.pubsub_v1", reason="needs google-cloud-pubsub")

LEASE_S = 10  # the shortest that Google allows


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch):
    for name in ("PUBSUB_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture
def server():
    with SandboxPubSub() as running:
        yield running


def publish(server, numbers):
    server.publish("ztf-loop", [packet(number) for number in numbers])


# Reads, makes durable what it got, and dies: within the work on a batch (before or after its lines are on the disk), or
# between two batches.
CONSUMER = """
import os, random, signal, sys, time
import nuncius

url, path, number, how = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
chance = random.Random(number)
last = chance.randint(3, 9)     # dies in this batch
moment = ["before", "between", "half", "after"][number % 4]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def keep(alerts):
    for alert in alerts:
        os.write(out, b"%d\\n" % alert.alert_id)
    os.fsync(out)

out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
options = {"acknowledge": "manual"} if how == "manual" else {}
with nuncius.open_stream(url, config={"lease_s": 10}, stop="end" if how == "last" else None, **options) as stream:
    for count, batch in enumerate(stream.batches(20, timeout_s=0.05)):
        if how != "last" and count == last and moment == "before":
            die()
        if how != "last" and count == last and moment == "half":
            keep(batch[: len(batch) // 2])
            die()
        keep(batch)
        if how == "manual":
            stream.acknowledge(batch)
        if how != "last" and count == last and moment == "after":
            die()
        time.sleep(0.02)
        if how != "last" and count == last and moment == "between":
            stream.poll(0)
            die()
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("how", "kills"), [("on_next", 4), ("manual", 2)])
def test_killed_again_and_again_nothing_is_lost(server, tmp_path, how, kills):
    total = kills * 150 + 200
    path = tmp_path / "kept"
    publish(server, range(total))
    before = 0
    for number in range(kills):
        child = run_program(CONSUMER, server.url, path, number, how, wait=False)
        try:
            assert child.wait(30) == -9, child.stderr.read()
        finally:
            end_program(child)
        assert wait_until(lambda: server.open_streams == 0)
        counts = server.counts()
        kept = {int(line) for line in path.read_text().split()} if path.exists() else set()
        # Never is anything acknowledged that is not on the disk.
        assert before <= counts.acknowledged <= len(kept)
        assert counts.acknowledged + counts.waiting + counts.leased == total
        before = counts.acknowledged
        server.advance(LEASE_S + 1)
        counts = server.counts()
        assert counts.leased == 0
        assert counts.acknowledged + counts.waiting == total
    assert before > 0
    last = run_program(CONSUMER, server.url, path, 0, "last")
    assert last.returncode == 0, last.stderr
    lines = Counter(int(line) for line in path.read_text().split())
    assert set(lines) == set(range(total))
    counts = server.counts()
    assert (counts.acknowledged, counts.waiting, counts.leased) == (total, 0, 0)
    # What comes again after a kill is what was in hand, and what was finished and not acknowledged yet.
    assert sum(lines.values()) - total < total


IN_HAND = """
import os, signal, sys, time
import nuncius
with nuncius.open_stream(sys.argv[1], config={"lease_s": 10}) as stream:
    for alert in stream:
        if alert.alert_id == int(sys.argv[2]):
            print(alert.alert_id, flush=True)
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_alert_in_hand_comes_again(server):
    publish(server, range(6))
    for _ in range(2):
        child = run_program(IN_HAND, server.url, 4, wait=False)
        try:
            assert child.wait(30) == -9, child.stderr.read()
            assert child.stdout.read().strip() == "4"
        finally:
            end_program(child)
        assert wait_until(lambda: server.open_streams == 0)
        assert server.counts().acknowledged <= 5
        server.advance(LEASE_S + 1)
    with open_stream(server.url, stop="end") as stream:
        assert 4 in ids(stream)
    assert wait_until(lambda: server.counts().acknowledged == 6)


HOLDING = """
import sys, time
import nuncius
with nuncius.open_stream(sys.argv[1], config={"lease_s": 10}, acknowledge="manual") as stream:
    held = [next(stream) for _ in range(int(sys.argv[2]))]
    print("holding", flush=True)
    time.sleep(60)
"""


def test_another_reader_takes_over_what_a_dead_one_held(server):
    publish(server, range(100))
    child = run_program(HOLDING, server.url, 100, wait=False)
    try:
        assert line_of(child) == "holding"
        with open_stream(server.url) as stream:
            assert stream.poll(0.5) is None
            child.kill()
            child.wait(10)
            assert wait_until(lambda: server.open_streams == 1)
            # The dead one's stream is over, and what comes now is not sent to it.
            publish(server, range(100, 110))
            seen = {alert.alert_id for alert in (stream.poll(10) for _ in range(10)) if alert is not None}
            assert seen == set(range(100, 110))
            begin = time.monotonic()
            server.advance(LEASE_S + 1)
            while len(seen) < 110 and time.monotonic() - begin < 20:
                alert = stream.poll(1)
                if alert is not None:
                    seen.add(alert.alert_id)
    finally:
        end_program(child)
    assert seen == set(range(110))
    assert wait_until(lambda: server.counts().acknowledged == 110)
    assert server.counts().leased == 0


ENDED = """
import signal, sys
import nuncius
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
with nuncius.open_stream(sys.argv[1]) as stream:
    for alert in stream:
        if stream.stats().handed_out == 20:
            print("twenty", flush=True)
            signal.pause()
"""


def test_a_program_that_is_asked_to_end_gives_back_at_once(server):
    """A job scheduler sends SIGTERM; nobody has to wait for leases then."""
    publish(server, range(100))
    child = run_program(ENDED, server.url, wait=False)
    try:
        assert line_of(child) == "twenty"
        child.terminate()
        assert child.wait(15) == 3
        assert child.stderr.read() == ""
    finally:
        end_program(child)
    counts = server.counts()
    assert (counts.acknowledged, counts.waiting, counts.leased) == (19, 81, 0)
