"""Recordings: every message once, byte for byte, and the same again when they are replayed, at any pace."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import builders
from nuncius import Alert, open_stream
from nuncius.alerts import Notice, Origin
from nuncius.alerts.packets import open_packet
from nuncius.errors import ConfigurationError, PacketError, StorageError, UnsupportedError
from nuncius.streams.bounds import Start
from nuncius.streams.files import FileSink
from nuncius.streams.quarantine import Quarantine
from nuncius.streams.recording import Recording, RecordingSink, is_recording
from nuncius.streams.replay import ReplayTransport
from nuncius.streams.transport import End
from streams_support import end_program, ids, line_of, packet, run_program

BEGIN = datetime(2026, 11, 21, 3, 4, 5, 678000, tzinfo=UTC)
COMMITTED = Start("committed")


def alert(number=0, *, raw=None, **place):
    raw = packet(number) if raw is None else raw
    given = {"service": "kafka", "topic": "night", "offset": number, "timestamp": BEGIN} | place
    return Alert(raw, open_packet(raw), origin=Origin(**given))


class Assigned:
    """Takes what a transport says."""

    def __init__(self):
        self.partitions = {}

    def assigned(self, partitions):
        self.partitions.update(partitions)

    def revoked(self, partitions):
        return {}


def replay(path, *, n=200, **options):
    """Read a replay to its end; return for each message its value, its origin and when it came."""
    transport = ReplayTransport(path, group=None, start=COMMITTED, **options)
    transport.connect(Assigned(), 5)
    begin, found = time.monotonic(), []
    while True:
        for message in transport.receive(n, 0.02):
            if isinstance(message, End):
                assert transport.receive(n, 0) == []
                return found
            found.append((message, transport.origin(message, "kafka-default"), time.monotonic() - begin))


def values(path):
    return [message.value for message, _, _ in replay(path)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "night.recording"


# Recording ------------------------------------------------------------------------------------------------------------


def test_messages_come_back_as_they_were(path):
    headers = (("a", b"\x00\xff"), ("a", None), ("", b""))
    first = alert(7, partition=3, key=b"\x01{", headers=headers, broker="fink")
    text = Notice(
        "1",
        "gcn.classic",
        raw=b"<VOEvent/>\xff",
        origin=Origin("kafka", "gcn.classic.voevent", 0, 9, broker="gcn"),
    )
    RecordingSink(path).write([first, text])
    (one, origin, _), (two, second, _) = replay(path)
    assert (one.value, one.key, tuple(one.headers)) == (first.raw, b"\x01{", headers)
    assert one.timestamp_ms == round(BEGIN.timestamp() * 1000)
    assert origin == Origin("replay", "night", 3, 7, BEGIN, b"\x01{", headers, "fink")
    assert (two.value, two.key, two.timestamp_ms) == (b"<VOEvent/>\xff", None, None)
    assert second == Origin("replay", "gcn.classic.voevent", 0, 9, broker="gcn")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.binary(max_size=40),
            st.one_of(st.none(), st.binary(max_size=8)),
            st.lists(st.tuples(st.text(max_size=4), st.one_of(st.none(), st.binary(max_size=4))), max_size=3),
            st.integers(0, 2**63 - 1),
            st.integers(0, 4_000_000_000_000),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_message_comes_back(tmp_path_factory, given_messages):
    file = tmp_path_factory.mktemp("any") / "night.recording"
    items = [
        Notice(
            "1",
            "any",
            raw=value,
            origin=Origin(
                "kafka", "t", number, offset, BEGIN + timedelta(milliseconds=ms % 10**9), key, tuple(headers)
            ),
        )
        for number, (value, key, headers, offset, ms) in enumerate(given_messages)
    ]
    RecordingSink(file).write(items)
    found = replay(file)
    assert [message.value for message, _, _ in found] == [item.raw for item in items]
    assert [(origin.key, origin.headers, origin.offset, origin.timestamp) for _, origin, _ in found] == [
        (item.origin.key, item.origin.headers, item.origin.offset, item.origin.timestamp) for item in items
    ]


def test_a_message_that_comes_again_is_kept_once(path):
    for _ in range(3):
        RecordingSink(path).write([alert(1), alert(2), alert(2)])
    # The records of one container stand at one place; two packets of another topic or other bytes are others.
    RecordingSink(path).write([alert(1, raw=packet(5)), alert(1, topic="other"), alert(1, broker="fink")])
    assert len(replay(path)) == 5


def test_items_without_a_place_are_kept_too(path):
    bare = Alert.from_bytes(packet(1))
    RecordingSink(path).write([bare, Alert.from_bytes(packet(2)), bare])
    found = replay(path)
    assert [message.value for message, _, _ in found] == [packet(1), packet(2)]
    assert {origin.topic for _, origin, _ in found} == {str(path)}


def test_two_programs_write_to_one_recording(path):
    def write(begin):
        sink = RecordingSink(path)
        for number in range(begin, begin + 50):
            sink.write([alert(number)])

    threads = [threading.Thread(target=write, args=(begin,)) for begin in (0, 50, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(values(path)) == sorted(packet(number) for number in range(150))


def test_a_recording_is_one_file(path):
    sink = RecordingSink(path)
    sink.write([alert(1)])
    assert os.listdir(path.parent) == [path.name]
    assert is_recording(path)
    sink.close()


_WRITE = """
import sys
from pathlib import Path
from nuncius.alerts import Notice, Origin
from nuncius.streams.recording import RecordingSink
sink = RecordingSink(Path(sys.argv[1]))
for batch in range(100_000):
    sink.write([Notice("1", "any", raw=b"%d" % n, origin=Origin("kafka", "t", 0, n))
                for n in range(10 * batch, 10 * batch + 10)])
    print(10 * batch + 10, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill_at_any_moment(path):
    for delay_s in (0.0, 0.013, 0.05, 0.11):
        path.unlink(missing_ok=True)
        program = run_program(_WRITE, path, wait=False)
        try:
            assert line_of(program) == "10"
            time.sleep(delay_s)
            program.send_signal(signal.SIGKILL)
            program.wait(10)
            acknowledged = max([10, *map(int, program.stdout)])
        finally:
            end_program(program)
        kept = [int(value) for value in values(path)]
        assert kept == list(range(len(kept)))
        assert len(kept) % 10 == 0
        assert len(kept) >= acknowledged
        RecordingSink(path).write([alert(1)])
        assert len(values(path)) == len(kept) + 1


def test_what_is_written_is_on_the_disk(path):
    sink = RecordingSink(path)
    with sqlite3.connect(path) as plain:
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    plain.close()
    settings_seen = []
    sqlite3_connect = sqlite3.connect

    class Watched(sqlite3.Connection):
        def close(self):
            settings_seen.append(self.execute("PRAGMA synchronous").fetchone()[0])
            super().close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *a, **k: sqlite3_connect(*a, factory=Watched, **k))
        sink.write([alert(1)])
    assert settings_seen == [3]  # EXTRA


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: path.write_bytes(b"no database at all" * 100), "not a database"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: sqlite3.connect(path).execute("CREATE TABLE t (a)").connection.close(), "no recording"),
    ],
)
def test_what_is_no_recording_is_not_touched(path, prepare, message):
    prepare(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StorageError, match=message):
        RecordingSink(path)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_recording_of_a_later_release_is_refused(path):
    RecordingSink(path)
    with sqlite3.connect(path) as plain:
        plain.execute("PRAGMA user_version = 99")
    plain.close()
    with pytest.raises(StorageError, match="later release"):
        RecordingSink(path)
    with pytest.raises(StorageError, match="later release"):
        replay(path)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(StorageError, match="no folder"):
        RecordingSink(tmp_path / "missing" / "night.recording")


def test_a_recording_that_vanished_is_not_made_anew(path):
    """The next batch alone would look like a whole night."""
    sink = RecordingSink(path)
    path.unlink()
    with pytest.raises(StorageError, match="not acknowledged"):
        sink.write([alert(1)])
    assert not path.exists()


def test_damage_in_a_recording_is_told(path):
    RecordingSink(path).write([alert(1)])
    with sqlite3.connect(path) as plain:
        plain.execute("UPDATE messages SET headers = 'x'")
    plain.close()
    with pytest.raises(StorageError, match="message 1 is damaged"):
        replay(path)


# Replaying ------------------------------------------------------------------------------------------------------------


def recorded(path, seconds, *, stamped=True):
    items = [
        alert(number, timestamp=BEGIN + timedelta(seconds=second) if stamped else None)
        for number, second in enumerate(seconds)
    ]
    sink = RecordingSink(path)
    for item in items:
        sink.write([item])
    return items


def test_messages_come_at_their_pace(path):
    recorded(path, [0, 0.2, 0.2, 0.6])
    found = replay(path, pace=1)
    assert [message.offset for message, _, _ in found] == [0, 1, 2, 3]
    for (_, _, came), due in zip(found, [0, 0.2, 0.2, 0.6], strict=True):
        assert due - 0.005 <= came < due + 0.5


def test_messages_come_faster_or_as_fast_as_possible(path):
    recorded(path, [0, 4, 8])
    assert 0.35 < replay(path, pace=20)[-1][2] < 3
    assert replay(path)[-1][2] < 2


def test_a_message_behind_its_time_holds_nobody_up(path):
    recorded(path, [0, 3600, -3600, 0])
    found = replay(path, pace=36_000)
    assert [origin.offset for _, origin, _ in found] == [0, 1, 2, 3]
    assert found[-1][2] < 2


def test_without_stamps_the_time_of_recording_counts(path):
    sink = RecordingSink(path)
    for number in range(3):
        sink.write([alert(number, timestamp=None if number == 1 else BEGIN)])
        time.sleep(0.15)
    assert 0.25 < replay(path, pace=1)[-1][2] < 2


def test_a_slow_replay_looks_up_soon(path):
    """The engine asks in slices, so that closing, orders and Ctrl-C are heard."""
    recorded(path, [0, 3600])
    transport = ReplayTransport(path, group=None, start=COMMITTED, pace=1)
    transport.connect(Assigned(), 5)
    assert len(transport.receive(10, 0.02)) == 1
    begin = time.monotonic()
    assert transport.receive(10, 0.02) == []
    assert 0.015 < time.monotonic() - begin < 0.5


def test_a_paused_replay_gives_nothing(path):
    recorded(path, [0] * 50)
    transport = ReplayTransport(path, group=None, start=COMMITTED)
    listener = Assigned()
    transport.connect(listener, 5)
    assert listener.partitions == {(str(path), 0): 0}
    got = len(transport.receive(10, 0))
    assert got == 10
    transport.pause()
    assert transport.receive(10, 0.01) == []
    transport.resume()
    while not isinstance((last := transport.receive(10, 0))[0], End):
        got += len(last)
    assert got == 50
    assert transport.lag({(str(path), 0): 20}) == {(str(path), 0): 30}


def test_what_is_recorded_meanwhile_waits_for_the_next_replay(path):
    recorded(path, [0, 0])
    recording = Recording(path)
    RecordingSink(path).write([alert(77)])
    assert recording.count == len(list(recording)) == 2


def test_large_recordings_are_read_in_parts(path, monkeypatch):
    monkeypatch.setattr("nuncius.streams.recording._ROWS_AT_ONCE", 7)
    monkeypatch.setattr("nuncius.streams.recording._BYTES_AT_ONCE", 200)
    recorded(path, [0] * 40)
    assert values(path) == [packet(number) for number in range(40)]


@pytest.mark.parametrize("pace", [0, -1, float("nan"), float("inf")])
def test_a_pace_that_means_nothing_is_refused(path, pace):
    with pytest.raises(ConfigurationError, match="pace"):
        ReplayTransport(path, group=None, start=COMMITTED, pace=pace)


def test_a_folder_has_no_pace(tmp_path):
    (tmp_path / "a.json").write_bytes(packet(1))
    with pytest.raises(UnsupportedError, match="pace"):
        replay(tmp_path, pace=1)


def test_an_empty_recording_is_told(path):
    RecordingSink(path)
    with pytest.raises(ConfigurationError, match="no packet"):
        replay(path)


def test_a_recording_that_only_others_may_write_can_be_replayed(path):
    RecordingSink(path).write([alert(1)])
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        assert values(path) == [packet(1)]
    finally:
        path.parent.chmod(0o700)


def test_a_recording_opens_as_a_stream(path, tmp_path):
    RecordingSink(path).write([alert(1), alert(2)])
    with open_stream(f"replay://{path}", quarantine_dir=tmp_path / "quarantine") as stream:
        alerts = list(stream)
    assert ids(alerts) == [1, 2]
    assert [(item.origin.topic, item.origin.offset) for item in alerts] == [("night", 1), ("night", 2)]


def test_recorded_messages_are_read_as_their_broker_s(path, tmp_path):
    """A Fink message is a bare record, which nothing but the schema in its key makes readable."""
    schema = builders.ztf_schema()
    value = builders.datum(schema, builders.ztf_record())
    bare = Notice(
        "1",
        "any",
        raw=value,
        origin=Origin("kafka", "sn", 0, 4, BEGIN, json.dumps(schema).encode(), (), "fink"),
    )
    RecordingSink(path).write([bare, alert(1)])
    with open_stream(f"replay://{path}", quarantine_dir=tmp_path / "quarantine") as stream:
        star, plain = stream
    assert (star.survey, star.alert_id, star.raw) == ("ztf", 2475433850215010007, value)
    assert (star.origin.broker, star.origin.topic, star.origin.timestamp) == ("fink", "sn", BEGIN)
    assert (plain.alert_id, plain.origin.broker) == (1, None)


def test_a_recording_of_a_replay_is_a_recording_of_the_night(path, tmp_path):
    items = [alert(number, broker="lasair") for number in range(30)]
    RecordingSink(path).write(items)
    copy = tmp_path / "copy.recording"
    with open_stream(f"replay://{path}", quarantine_dir=tmp_path / "quarantine") as stream:
        assert stream.save(RecordingSink(copy), FileSink(tmp_path / "files", "avro"), n=7) == 30
    assert [(message.value, origin) for message, origin, _ in replay(copy)] == [
        (message.value, origin) for message, origin, _ in replay(path)
    ]
    assert {file.read_bytes() for file in (tmp_path / "files").rglob("*.avro")} == {
        item.raw for item in items
    }


def test_a_quarantine_remembers_the_broker(tmp_path):
    quarantine = Quarantine(tmp_path, 10**6)
    for broker, offset in (("fink", 1), (None, 2)):
        quarantine.put(
            Origin("kafka", "night", 0, offset, key=b"k", broker=broker), b"bad", PacketError("why")
        )
    reasons = [json.loads(file.read_text())["broker"] for file in sorted(tmp_path.rglob("*.reason.json"))]
    assert reasons == ["fink", None]
    assert [(origin.broker, origin.key) for _, origin, _ in replay(tmp_path)] == [
        ("fink", b"k"),
        ("kafka-default", b"k"),
    ]


def test_a_reason_that_somebody_has_edited_does_no_harm(tmp_path):
    path = Quarantine(tmp_path, 10**6).put(Origin("kafka", "night"), b"bad", PacketError("why"))
    path.with_suffix(".reason.json").write_text(json.dumps({"broker": 5, "headers": 7, "key": []}))
    [(message, origin, _)] = replay(tmp_path)
    assert (message.value, message.key, origin.broker) == (b"bad", None, "kafka-default")


def test_a_full_disk_is_told(path, monkeypatch):
    sink = RecordingSink(path)
    plain = sqlite3.connect

    class Full(sqlite3.Connection):
        def executemany(self, *arguments):
            raise sqlite3.OperationalError("database or disk is full", errno.ENOSPC)

    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: plain(*a, factory=Full, **k))
    with pytest.raises(StorageError, match=r"disk is full.*not acknowledged"):
        sink.write([alert(1)])
