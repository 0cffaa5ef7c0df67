"""Odd input and bad moments of streams: strangers' values, crashes half-way, and threads that tell each other late."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from nuncius import Notice, open_stream
from nuncius.alerts import Alert, Origin
from nuncius.alerts.notices import notice_from_bytes
from nuncius.alerts.packets import open_packet
from nuncius.errors import ConfigurationError, FilterError, NunciusError, PacketError
from nuncius.streams.files import FileSink
from nuncius.streams.transport import Message
from nuncius.streams.where import parse_where
from streams_support import TOPIC, end, message, packet, scripted


@pytest.fixture(autouse=True)
def own_data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))


def alert(number=1, raw=None, **place):
    raw = packet(number) if raw is None else raw
    return Alert(
        raw,
        open_packet(raw),
        origin=Origin(**({"service": "kafka", "topic": "night", "offset": number} | place)),
    )


@pytest.mark.parametrize("stamp", [10**15, -(10**15), 2**62])
def test_a_time_beyond_the_calendar_does_not_stop_a_stream(tmp_path, stamp):
    script = [[message(0), message(1, timestamp_ms=stamp), message(2), end()]]
    stream, _ = scripted(script, tmp_path, ends=True)
    with stream:
        assert [found.alert_id for found in stream] == [0, 1, 2]


@pytest.mark.timeout(60)  # it took hours
def test_blanks_in_a_text_notice_cost_little():
    raw = b"TITLE: GCN NOTICE\nGRB_RA: 1" + b" " * 20_000 + b"x (J2000)\nGRB_DEC: 2d (J2000)\n"
    assert notice_from_bytes(raw, "gcn.classic.text.X", "text").ra is None
    text = b"TITLE: X\nGRB_RA:  249.300d {+16h 37m 12s}  (J2000), 249.627d {+16h} (current)\nGRB_DEC: -5.5d (J2000)\n"
    found = notice_from_bytes(text, "gcn.classic.text.X", "text")
    assert (found.ra, found.dec) == (249.3, -5.5)


@pytest.mark.parametrize("form", ["voevent", "circular", "gcntextnotice", "zzz"])
def test_half_a_surrogate_pair_is_a_packet_error_at_worst(form):
    from nuncius.brokers.hopskotch import HopskotchReader

    raw = b'{"format": "%s", "content": "SUBJECT: \\ud800"}' % form.encode()
    try:
        items = HopskotchReader()(Message("a.b", 0, 1, raw), Origin("kafka", "a.b", 0, 1))
    except PacketError:
        return
    assert all("\ud800" not in item.text for item in items)


def test_a_killed_compaction_loses_no_row_though_a_sink_wrote_since(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    from nuncius.streams import parquet as module
    from nuncius.streams.parquet import ParquetSink

    sink = ParquetSink(tmp_path)
    when = {"timestamp": datetime(2026, 11, 20, 3, tzinfo=UTC)}
    sink.write([alert(1, **when)])
    sink.write([alert(2, **when)])
    monkeypatch.setattr(module, "exchange", lambda *_: False)  # a file system that can't
    plain = Path.rename

    def killed(self, target):
        if self.suffix == ".new":
            raise KeyboardInterrupt
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        sink.compact()
    monkeypatch.setattr(Path, "rename", plain)
    sink.write([alert(3, **when)])
    sink.compact()
    rows = [
        row
        for file in tmp_path.glob("night=*/*.parquet")
        for row in parquet.ParquetFile(file).read().to_pylist()
    ]
    assert sorted(row["alert_id"] for row in rows) == ["1", "2", "3"]


def test_a_replayed_notice_is_what_it_was(tmp_path):
    from nuncius.brokers.gcn import read_gcn
    from nuncius.streams.recording import RecordingSink

    topic = "gcn.notices.swift.bat.guano"
    raw = b'{"id": "1", "alert_datetime": "2026-11-20T00:00:00Z", "mission": "Swift"}'
    origin = Origin("kafka", topic, 0, 5, broker="gcn")
    (before,) = read_gcn(Message(topic, 0, 5, raw), origin)
    RecordingSink(tmp_path / "a.recording").write([before])
    with open_stream(f"replay://{tmp_path}/a.recording") as stream:
        (after,) = list(stream)
    assert (after.kind, after.key, after.survey) == (before.kind, before.key, before.survey)


def test_a_quarantined_notice_is_read_as_what_it_is(tmp_path):
    from nuncius.streams.quarantine import Quarantine

    topic = "gcn.circulars"
    raw = b'{"circularId": 12, "subject": "GRB", "body": "text"}'
    Quarantine(tmp_path / "q", 10**6).put(
        Origin("kafka", topic, 0, 5, broker="gcn"), raw, PacketError("once")
    )
    with open_stream(f"replay://{tmp_path}/q", quarantine_dir=tmp_path / "q2") as stream:
        (after,) = list(stream)
    assert after.kind == topic


def test_save_raises_what_on_error_raise_promises(tmp_path):
    damaged = b"\x06\x00\x00\x00\x01\x00"  # a BSON document whose length is right and whose content is not
    stream, transport = scripted(
        [[message(0), message(1, damaged), message(2), end()]], tmp_path, ends=True, on_error="raise"
    )
    kept = []

    class Sink:
        def write(self, items):
            kept.extend(items)

        def close(self):
            pass

    with pytest.raises(PacketError), stream:
        stream.save(Sink())
    assert transport.closed_with in ({}, {(TOPIC, 0): 0})


@pytest.mark.parametrize("form", ["json", "avro"])
def test_a_later_version_does_not_take_the_place_of_an_earlier(tmp_path, form):
    sink = FileSink(tmp_path, form)
    first, second = alert(1), alert(1, packet(1, fink_class="SN"))
    sink.write([first, second])
    sink.write([second, first])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2
    sink = FileSink(tmp_path / "more", form)
    sink.write([first])
    sink.write([second])
    assert len([path for path in (tmp_path / "more").rglob("*") if path.is_file()]) == 2


def test_notices_of_one_id_are_kept_both(tmp_path):
    notices = [
        notice_from_bytes(b'{"event_name": "X", "description": "%d"}' % number, "a.b") for number in range(2)
    ]
    assert notices[0].key == notices[1].key
    FileSink(tmp_path).write(notices)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


def test_no_secret_in_a_repr():
    from dataclasses import fields

    from nuncius.brokers.opening import Options

    values = {item.name: None for item in fields(Options)} | {
        "credentials": ("key", "s3cret"),
        "config": {"sasl.password": "s3cret"},
    }
    assert "s3cret" not in repr(Options(**values))


@pytest.mark.parametrize(
    "command",
    [
        ["bash", "-cx", "echo {object_id}"],
        ["bash", "-c", "-x", "echo {object_id}"],
        ["python3", "-cprint('{object_id}')"],
        ["env", "A=1", "bash", "-c", "--", "echo {object_id}"],
        ["sh", "{object_id}"],
    ],
)
def test_no_stranger_writes_code(command):
    from nuncius.streams.command import CommandSink

    with pytest.raises(ConfigurationError):
        CommandSink(command)


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "-c", 'echo "$1"', "sh", "{object_id}"],
        ["python3", "notify.py", "--object={object_id}", "{alert_id}"],
        ["python3", "-u", "notify.py", "{object_id}"],
        ["env", "echo", "{object_id}"],
    ],
)
def test_what_is_safe_is_allowed(command):
    from nuncius.streams.command import CommandSink

    CommandSink(command)


def test_two_placeholders_make_no_option():
    from nuncius.streams.command import _filled

    found = alert(raw=json.dumps({"candid": 1, "objectId": "--force"}).encode())
    assert not _filled("{band}{object_id}", found, "").startswith("-")


def test_flush_waits_for_what_another_thread_is_told(monkeypatch):
    from confluent_kafka import KafkaError

    from nuncius.streams.kafka import Connection
    from nuncius.streams.publishing.outbox import Outbox
    from nuncius.streams.publishing.values import Encoder

    told, go_on = threading.Event(), threading.Event()

    class Producer:  # as librdkafka: what is being told is not counted any more
        def __init__(self):
            self.queue = []

        def produce(self, *_, on_delivery, **__):
            self.queue.append(on_delivery)

        def poll(self, _):
            return 0

        def flush(self, _):
            while self.queue:
                callback = self.queue.pop()
                told.set()
                go_on.wait(5)
                callback(KafkaError(KafkaError._MSG_TIMED_OUT), SimpleNamespace(topic=lambda: "t"))

        def __len__(self):
            return len(self.queue)

    outbox = Outbox(Connection("localhost:9", {}), 1.0)
    outbox._producer = Producer()
    outbox.put(Encoder().outgoing(b"x", "t", key=None, headers=None, timestamp=None, schema=None))
    other = threading.Thread(target=outbox.serve, args=(1.0,))
    other.start()
    told.wait(5)
    try:
        assert outbox.waiting == 1
    finally:
        go_on.set()
        other.join()
    assert outbox.waiting == 0
    with pytest.raises(NunciusError, match="1 of 1"):
        outbox.check()


def test_long_ids_that_begin_alike_are_two():
    found = [
        notice_from_bytes(json.dumps({"superevent_id": "S" * 250 + str(number)}).encode(), "a.b").id
        for number in range(2)
    ]
    assert found[0] != found[1]
    lists = [
        notice_from_bytes(json.dumps({"ref_ID": [*map(str, range(8)), str(100 + number)]}).encode(), "a.b").id
        for number in range(2)
    ]
    assert lists[0] != lists[1]


def test_notices_of_one_message_stay_apart_when_replayed(tmp_path):
    from nuncius.brokers.hopskotch import HopskotchReader
    from nuncius.streams.recording import RecordingSink

    headers = (("_format", b"json"), ("_id", b"\x01\x02"))
    raw = b'[{"title": "a"}, {"title": "b"}]'
    origin = Origin("kafka", "a.b", 0, 5, headers=headers, broker="hopskotch")
    before = HopskotchReader()(Message("a.b", 0, 5, raw, None, None, headers), origin)
    assert len({found.key for found in before}) == 2
    RecordingSink(tmp_path / "a.recording").write(before)
    with open_stream(f"replay://{tmp_path}/a.recording") as stream:
        assert [found.key for found in stream] == [found.key for found in before]


@pytest.mark.parametrize("pattern", [r"GRB.*Fermi.*localiz.*trigger", r"GRB[^x]+Fermi\S{2,}x"])
def test_a_pattern_that_a_strangers_text_could_hold_up_is_refused(pattern):
    with pytest.raises(FilterError, match="join several"):
        parse_where(f"matches(text, r'{pattern}')")


@pytest.mark.parametrize(
    "pattern", [r"^ZTF\d+[a-z]+$", r"GRB.*Fermi", r"a\.*b.*", r"ZTF2[3-5].*", r"\d+\s+\d+"]
)
def test_usual_patterns_are_allowed(pattern):
    assert not parse_where(f"matches(text, r'{pattern}')")(Notice("a", "b", text="GR 7"))
