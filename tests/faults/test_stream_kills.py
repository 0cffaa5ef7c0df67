"""`kill -9` at any moment loses nothing, and brings only what was handed out since the last commit again."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from streams_support import QUICK, committed_sum, end_program, packets, produce, run_program

pytestmark = pytest.mark.mock_cluster

# Reads, makes durable what it got, and dies: within the work on a batch (before or after its lines are on the disk), or
# between two batches.
CONSUMER = """
import os, random, signal, sys, time
import nuncius

url, group, config, path, number, how = sys.argv[1], sys.argv[2], eval(sys.argv[3]), sys.argv[4], int(sys.argv[5]), sys.argv[6]
chance = random.Random(number)
last = chance.randint(10, 40)     # dies in this batch
moment = chance.choice(["before", "half", "after", "between"])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def keep(alerts):
    for alert in alerts:
        os.write(out, b"%d\\n" % alert.alert_id)
    os.fsync(out)

out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
options = {"acknowledge": "manual"} if how == "manual" else {}
with nuncius.open_stream(url, group=group, config=config, stop="end" if how == "last" else None, **options) as stream:
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


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("how", "kills"), [("on_next", 20), ("manual", 4)])
def test_killed_again_and_again_nothing_is_lost(cluster, topic, group, tmp_path, how, kills):
    """Twenty lives of some tenths of a second, each ended by a kill in the work on a batch or between two.

    The bound on what comes again after a kill: what was handed out since the last commit. The interval is 0.1 s here, for
    the lives are short; a batch of 20 takes at least 20 ms, so that is 5 batches, the one in hand, and what a busy machine
    adds to the travel of a commit (0.4 s allowed).
    """
    total, bound = kills * 600, 20 * (5 + 1 + 20)
    config = QUICK | {"auto.commit.interval.ms": 100}
    path = tmp_path / "kept"
    url = f"kafka://{cluster.server}/{topic}"
    produce(cluster.server, topic, packets(total))
    positions, handed_out = [0], 0
    for number in range(kills):
        child = run_program(CONSUMER, url, group, config, path, number, how, wait=False)
        try:
            assert child.wait(30) == -9, child.stderr.read()
        finally:
            end_program(child)
        position = committed_sum(cluster.server, group, topic)
        lines = path.read_text().split()
        kept = {int(line) for line in lines}
        # Never is a position committed for something that is not on the disk.
        assert positions[-1] <= position <= len(kept)
        assert len(kept) - position <= bound
        # What this life got began at the position that the one before had left.
        assert len(lines) - handed_out >= len(kept) - positions[-1] - bound
        positions.append(position)
        handed_out = len(lines)
    assert positions[-1] > total // 10
    assert len(set(positions)) > kills // 2
    last = run_program(CONSUMER, url, group, config, path, 0, "last")
    assert last.returncode == 0, last.stderr
    counts = Counter(int(line) for line in path.read_text().split())
    assert set(counts) == set(range(total))
    assert committed_sum(cluster.server, group, topic) == total
    again = sum(counts.values()) - total
    assert again <= kills * bound
    print(f"{kills} kills, {total} alerts, {again} came again, positions {positions}")


LONG_LIVED = """
import os, signal, sys, time
import nuncius
url, group, config, path = sys.argv[1], sys.argv[2], eval(sys.argv[3]), sys.argv[4]
out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
begin = time.monotonic()
with nuncius.open_stream(url, group=group, config=config) as stream:
    for alert in stream:
        os.write(out, b"%d\\n" % alert.alert_id)
        os.fsync(out)
        if time.monotonic() - begin > float(sys.argv[5]):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.004)
"""


@pytest.mark.timeout(60)
def test_positions_advance_between_kills(cluster, topic, group, tmp_path):
    """Who lives longer than a commit interval moves on: what comes again is what the last 1 s (and the one in hand) gave."""
    produce(cluster.server, topic, packets(8000))
    path = tmp_path / "kept"
    seen_before = 0
    for _ in range(3):
        child = run_program(
            LONG_LIVED, f"kafka://{cluster.server}/{topic}", group, QUICK, path, 2.6, wait=False
        )
        begin = time.monotonic()
        try:
            assert child.wait(30) == -9, child.stderr.read()
        finally:
            end_program(child)
        assert time.monotonic() - begin < 12
        kept = {int(line) for line in path.read_text().split()}
        position = committed_sum(cluster.server, group, topic)
        assert seen_before < position <= len(kept)
        # 250 alerts a second at most; 1 s of interval, and time for the commit to travel on a busy machine.
        assert len(kept) - position <= 250 * 1.8 + 1
        seen_before = position


@pytest.mark.timeout(60)
def test_a_kill_with_the_classic_protocol(cluster, topic, group, tmp_path):
    """The classic protocol keeps the dead member's partitions until its session is over."""
    produce(cluster.server, topic, packets(2000))
    path = tmp_path / "kept"
    url = f"kafka://{cluster.server}/{topic}"
    config = {"session.timeout.ms": 6000}
    child = run_program(LONG_LIVED, url, group, config, path, 4.5, wait=False)
    try:
        assert child.wait(40) == -9, child.stderr.read()
    finally:
        end_program(child)
    position = committed_sum(cluster.server, group, topic)
    assert position <= len(path.read_text().split())
    last = run_program(CONSUMER, url, group, config, path, 0, "last")
    assert last.returncode == 0, last.stderr
    assert {int(line) for line in path.read_text().split()} == set(range(2000))
    assert committed_sum(cluster.server, group, topic) == 2000


@pytest.mark.timeout(60)
def test_a_handler_killed_at_once_gets_the_same_alert_again(cluster, topic, group, tmp_path):
    """The alert in hand is never committed, however long its handler takes."""
    produce(cluster.server, topic, packets(5), partition=0)
    text = """
import os, signal, sys, time
import nuncius
with nuncius.open_stream(sys.argv[1], group=sys.argv[2], config=eval(sys.argv[3])) as stream:
    for alert in stream:
        if alert.alert_id == int(sys.argv[4]):
            print(alert.alert_id, flush=True)
            time.sleep(1.5)
            os.kill(os.getpid(), signal.SIGKILL)
"""
    for number in (2, 2):
        child = run_program(text, f"kafka://{cluster.server}/{topic}", group, QUICK, number, wait=False)
        try:
            assert child.wait(30) == -9, child.stderr.read()
            assert child.stdout.read().strip() == str(number)
        finally:
            end_program(child)
        assert committed_sum(cluster.server, group, topic) == number
    assert random.Random(0).randint(0, 9) == 6  # the moments of the kills are the same in every run
