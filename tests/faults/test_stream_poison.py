"""Many messages that can't be read among many that can."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections import Counter

import pytest

from nuncius import open_archive, open_stream
from nuncius.errors import QuarantineFullError, UnreachableError
from streams_support import (
    QUICK,
    committed_sum,
    end_program,
    ids,
    line_of,
    new_name,
    packet,
    produce,
    run_program,
    wait_until,
)

COUNT = 10_000


@pytest.fixture
def server(nuncius_kafka):
    return nuncius_kafka.url.removeprefix("kafka://")


@pytest.fixture
def topic():
    return new_name()


@pytest.fixture
def url(server, topic):
    return f"kafka://{server}/{topic}"


@pytest.fixture(autouse=True)
def _quietly(caplog):
    caplog.set_level(logging.ERROR, "nuncius.streams")  # each one is told, and pytest would keep all of it


def poison(number):
    """Make a message that can't be read: of several kinds, each with its number in it."""
    tag = b"%d" % number
    kinds = (b"\x00nonsense " + tag, b'{"candid": ' + tag, b"Obj\x01" + tag, b"x\x9c" + tag, b"[" * 50 + tag)
    return kinds[number % len(kinds)]


def kept(folder):
    return {path.read_bytes() for path in folder.rglob("*.packet")}


@pytest.mark.timeout(200)
def test_ten_thousand_poisonous_messages_among_ten_thousand_good_ones(
    server, topic, url, group, own_data_dir
):
    """In runs of up to 40, so that each partition has long stretches of either kind."""
    values = [packet(n) if (n // 40) % 2 else poison(n) for n in range(2 * COUNT)]
    produce(server, topic, values)
    seen = []
    with open_stream(url, group=group, config=QUICK, stop="end") as stream:
        for batch in stream.batches(500, 0.1):
            seen += ids(batch)
        stats = stream.stats()
    assert sorted(seen) == [n for n in range(2 * COUNT) if (n // 40) % 2]
    assert (stats.received, stats.handed_out, stats.quarantined) == (2 * COUNT, COUNT, COUNT)
    assert kept(own_data_dir) == {poison(n) for n in range(2 * COUNT) if not (n // 40) % 2}
    assert committed_sum(server, group, topic) == 2 * COUNT


@pytest.mark.timeout(60)
def test_what_was_kept_says_where_it_stood_and_why(server, topic, url, group, own_data_dir):
    produce(server, topic, [poison(0), packet(1), poison(2)], partition=2, headers=[("a", b"\xff")], key=b"k")
    with open_stream(url, group=group, config=QUICK, stop="end") as stream:
        assert ids(stream) == [1]
    (reason,) = [json.loads(path.read_text()) for path in own_data_dir.rglob("2-2.reason.json")]
    assert (reason["topic"], reason["partition"], reason["offset"]) == (topic, 2, 2)
    assert reason["reason"]
    assert reason["bytes"] == len(poison(2))


KILLED = """
import os, signal, sys
from nuncius import open_archive, open_stream
url, group, path, quarantine, left = sys.argv[1:]
left = int(left)
with open_archive(path) as archive, open_stream(
    url, group=group, quarantine_dir=quarantine, config={"group.protocol": "consumer"}, stop="end"
) as stream:
    for batch in stream.batches(20, 0.05):
        archive.ingest(batch, progress=False)
        left -= len(batch)
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.mock_cluster
@pytest.mark.timeout(120)
def test_kill_nine_among_poison_loses_neither_kind(cluster, group, tmp_path):
    server, topic = cluster.server, "alerts"
    produce(server, topic, [packet(n) if n % 3 else poison(n) for n in range(1500)])
    url, path, folder = f"kafka://{server}/{topic}", tmp_path / "night.db", tmp_path / "quarantine"
    for left in (150, 250, 100):
        child = run_program(KILLED, url, group, path, folder, left)
        assert child.returncode == -signal.SIGKILL, child.stderr
        assert committed_sum(server, group, topic) < 1500
        time.sleep(1.2)  # the session of the dead one
    child = run_program(KILLED, url, group, path, folder, 10**9)
    assert child.returncode == 0, child.stderr
    with open_archive(path, read_only=True) as archive:
        assert sorted(document["candid"] for document in archive.find("generic_alerts")) == [
            n for n in range(1500) if n % 3
        ]
    assert kept(folder) == {poison(n) for n in range(0, 1500, 3)}
    assert committed_sum(server, group, topic) == 1500


@pytest.mark.timeout(60)
def test_a_thousand_in_a_row_stop_the_stream_and_nothing_of_them_is_acknowledged(
    server, topic, url, group, own_data_dir
):
    produce(server, topic, [packet(n) for n in range(40)] + [poison(n) for n in range(1200)], partition=1)
    seen = []
    with open_stream(url, group=group, config=QUICK) as stream:

        def read():
            for batch in stream.batches(100, 0.05):
                seen.extend(ids(batch))

        with pytest.raises(QuarantineFullError, match="1000 messages"):
            read()
    assert sorted(seen) == list(range(40))
    assert committed_sum(server, group, topic) == 40
    assert len(kept(own_data_dir)) == 1000


@pytest.mark.timeout(60)
@pytest.mark.parametrize("where", [None, "candid < 0"], ids=["all", "nothing passes"])
def test_poison_under_a_filter(server, topic, url, group, own_data_dir, where):
    values = [packet(n) if n // 4 % 2 else poison(n) for n in range(1000)]
    produce(server, topic, values)
    where = where and where.replace("candid", "alert_id")
    with open_stream(url, group=group, config=QUICK, stop="end", where=where) as stream:
        assert len(list(stream)) == (500 if where is None else 0)
        assert stream.stats().quarantined == 500
    assert len(kept(own_data_dir)) == 500
    assert committed_sum(server, group, topic) == 1000


@pytest.mark.timeout(60)
def test_a_quarantine_that_is_full_stops_the_stream_and_acknowledges_nothing_of_it(server, topic, url, group):
    produce(server, topic, [packet(n) if n % 2 else poison(n) for n in range(400)], partition=0)
    seen = []
    options = {"config": QUICK, "quarantine_limit_bytes": 20_000}
    with open_stream(url, group=group, **options) as stream:

        def read():
            for alert in stream:
                seen.append(alert.alert_id)

        with pytest.raises(QuarantineFullError, match="may hold 20000"):
            read()
    position = committed_sum(server, group, topic)
    assert 0 < position <= 2 * len(seen) + 1
    with open_stream(url, group=group, config=QUICK, stop="end") as stream:
        rest = ids(stream)
    assert sorted({*seen, *rest}) == list(range(1, 400, 2))


@pytest.mark.timeout(60)
def test_the_user_who_stops_among_poison_has_lost_nothing(server, topic, url, group, own_data_dir):
    """Ctrl-C in a program that reads a topic half of which is damaged."""
    produce(server, topic, [packet(n) if n // 4 % 2 else poison(n) for n in range(4000)])
    text = """
import sys
from nuncius import open_stream
seen = []
try:
    with open_stream(sys.argv[1], group=sys.argv[2], quarantine_dir=sys.argv[3], config={"group.protocol": "consumer"}) as stream:
        print("ready", flush=True)
        for alert in stream:
            seen.append(alert.alert_id)
except KeyboardInterrupt:
    print(*seen, flush=True)
"""
    folder = own_data_dir / "own"
    child = run_program(text, url, group, folder, wait=False)
    try:
        assert line_of(child) == "ready"
        assert wait_until(lambda: len(list(folder.rglob("*.packet"))) > 200)
        child.send_signal(signal.SIGINT)
        seen = Counter(map(int, line_of(child).split()))
    finally:
        end_program(child)
    time.sleep(0.5)
    with open_stream(url, group=group, quarantine_dir=folder, config=QUICK, stop="end") as stream:
        seen.update(ids(stream))
    assert set(seen) == {n for n in range(4000) if n // 4 % 2}
    assert kept(folder) == {poison(n) for n in range(4000) if not n // 4 % 2}
    assert committed_sum(server, group, topic) == 4000


# A schema registry out of reach is not poison -------------------------------------------------------------------------------


@pytest.mark.timeout(60)
def test_a_registry_out_of_reach_is_not_poison(server, topic, url, group, own_data_dir):
    """Framed packets, whose schema nobody can give now: they wait, and are read when the registry is there."""
    import builders

    schema = builders.record_type("nova.alert", {"alertId": "long"})
    framed = [builders.framed(schema, {"alertId": n}, 77) for n in range(40)]
    produce(server, topic, framed)
    begin = time.monotonic()
    options = {"schema": "http://127.0.0.1:9/registry", "connect_timeout_s": 2, "config": QUICK}
    with pytest.raises(UnreachableError), open_stream(url, group=group, **options) as stream:
        list(stream)
    assert time.monotonic() - begin < 15
    assert not kept(own_data_dir)
    assert committed_sum(server, group, topic) == 0


@pytest.mark.timeout(60)
def test_a_disk_that_can_not_keep_poison_stops_the_stream(server, topic, url, group, tmp_path):
    """What can't be kept is not acknowledged."""
    from nuncius.errors import StorageError

    if os.geteuid() == 0:
        blocked = tmp_path / "file"
        blocked.write_text("")
    else:
        blocked = tmp_path / "blocked"
        blocked.mkdir(mode=0o500)
    produce(server, topic, [packet(0), poison(1), packet(2)], partition=0)
    seen = []
    with open_stream(url, group=group, quarantine_dir=blocked / "q", config=QUICK) as stream:

        def read():
            for alert in stream:
                seen.append(alert.alert_id)

        with pytest.raises(StorageError, match="not acknowledged"):
            read()
    assert seen == [0]
    assert committed_sum(server, group, topic) == 1
