"""The quarantine: what can't be read is kept byte for byte, with the reason, and comes back in a replay."""

from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

import builders
import nuncius
from nuncius.alerts import Origin
from nuncius.errors import PacketError, QuarantineFullError, SchemaError, StorageError
from nuncius.streams.quarantine import Quarantine, write_durably

WHY = PacketError("cut off", position="byte 7")


def origin(offset=0, *, topic="ztf_20261120_programid1", partition=3, **more):
    return Origin("kafka", topic, partition, offset, **more)


def reason_of(path):
    return json.loads(path.with_suffix(".reason.json").read_text())


def kept_values(folder):
    return sorted(file.read_bytes() for file in Path(folder).rglob("*.packet"))


@pytest.fixture
def quarantine(tmp_path):
    return Quarantine(tmp_path / "quarantine", 10**6)


def test_the_bytes_are_kept_as_they_came(quarantine):
    value = bytes(range(256)) * 5
    path = quarantine.put(origin(17), value, WHY)
    assert path.read_bytes() == value
    assert path == quarantine.folder / "ztf_20261120_programid1" / "3-17.packet"


def test_the_reason_stands_beside(quarantine):
    when = datetime(2026, 11, 20, 3, tzinfo=UTC)
    place = origin(17, timestamp=when, key=b"\x00key", headers=(("_id", b"\xff"), ("empty", None)))
    about = reason_of(quarantine.put(place, b"abc", SchemaError("schema 7 is not known", position="byte 1")))
    assert about["reason"] == "schema 7 is not known"
    assert (about["error"], about["where"]) == ("SchemaError", "byte 1")
    assert (about["topic"], about["partition"], about["offset"]) == (place.topic, 3, 17)
    assert (about["service"], about["timestamp"], about["bytes"]) == ("kafka", "2026-11-20T03:00:00+00:00", 3)
    assert base64.b64decode(about["key"]) == b"\x00key"
    assert about["headers"] == [["_id", base64.b64encode(b"\xff").decode()], ["empty", None]]
    assert datetime.fromisoformat(about["quarantined"]).tzinfo is not None


def test_an_empty_message_and_one_without_a_value_are_told_apart(quarantine):
    empty = quarantine.put(origin(1), b"", WHY)
    nothing = quarantine.put(origin(2), None, WHY)
    assert (reason_of(empty)["bytes"], reason_of(nothing)["bytes"]) == (0, None)
    assert (empty.read_bytes(), nothing.read_bytes()) == (b"", b"")


def test_the_same_message_is_kept_once(quarantine):
    paths = {quarantine.put(origin(17), b"abc", WHY) for _ in range(3)}
    assert len(paths) == 1
    assert kept_values(quarantine.folder) == [b"abc"]


def test_the_same_message_counts_once_against_the_limit(tmp_path):
    """A redelivered message, or a field touched again, must not fill the quarantine by itself."""
    quarantine = Quarantine(tmp_path, 4000)
    for _ in range(50):
        quarantine.put(origin(17), b"abc" * 100, WHY)
    assert kept_values(tmp_path) == [b"abc" * 100]


def test_another_message_at_the_same_place_does_not_replace_the_first(quarantine):
    """Offsets begin anew when a topic is made again, and two brokers may share one folder."""
    quarantine.put(origin(17), b"first", WHY)
    quarantine.put(origin(17), b"second", WHY)
    assert kept_values(quarantine.folder) == [b"first", b"second"]


@pytest.mark.parametrize(
    ("one", "other"), [("alerts", "_alerts"), ("alerts", "alerts."), ("a" * 120, "b" * 20 + "a" * 100)]
)
def test_topics_with_similar_names_are_kept_apart(quarantine, one, other):
    quarantine.put(origin(0, topic=one), b"first", WHY)
    quarantine.put(origin(0, topic=other), b"second", WHY)
    assert kept_values(quarantine.folder) == [b"first", b"second"]


@pytest.mark.parametrize(
    "topic", ["../../etc", "/etc/passwd", "..", ".", "", "a/../../b", "x" * 300, "ü\n\0"]
)
def test_no_topic_leads_out_of_the_folder(quarantine, topic):
    path = quarantine.put(origin(0, topic=topic), b"abc", WHY)
    assert quarantine.folder in path.parents
    assert ".." not in path.relative_to(quarantine.folder).parts
    assert path.read_bytes() == b"abc"


def test_no_half_written_file_is_left(quarantine, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left.*not acknowledged"):
        quarantine.put(origin(17), b"abc", WHY)
    assert [path for path in quarantine.folder.rglob("*") if path.is_file()] == []


def test_what_is_kept_is_on_the_disk(quarantine, monkeypatch):
    synced = []
    plain = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_mode), plain(handle))[1]
    )
    quarantine.put(origin(17), b"abc", WHY)
    kinds = ["folder" if mode & 0o040000 else "file" for mode in synced]
    assert kinds.count("file") == 2
    assert kinds[-1] == "folder"


def test_files_are_replaced_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_full_quarantine_takes_nothing_more(tmp_path):
    quarantine = Quarantine(tmp_path, 3000)
    kept = 0
    with pytest.raises(QuarantineFullError, match="3000") as full:  # noqa: PT012
        while True:
            quarantine.put(origin(kept), b"x" * 500, WHY)
            kept += 1
    assert kept > 0
    assert len(kept_values(tmp_path)) == kept
    assert str(tmp_path) in str(full.value)
    assert full.value.__cause__ is WHY


def test_what_was_there_before_counts_against_the_limit(tmp_path):
    Quarantine(tmp_path, 10**6).put(origin(0), b"x" * 5000, WHY)
    with pytest.raises(QuarantineFullError):
        Quarantine(tmp_path, 5500).put(origin(1), b"x", WHY)


def test_a_file_that_vanishes_while_sizes_are_added_up_does_no_harm(tmp_path, monkeypatch):
    """Another member of the group, on the same machine, writes into the same folder."""
    (tmp_path / "topic").mkdir()
    passing = tmp_path / "topic" / ".xyz.part"
    passing.write_bytes(b"")
    plain = Path.is_file

    def is_file(path):
        found = plain(path)
        if path == passing:
            passing.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "is_file", is_file)
    Quarantine(tmp_path, 10**6).put(origin(0), b"abc", WHY)
    monkeypatch.undo()
    assert kept_values(tmp_path) == [b"abc"]


def test_two_writers_of_the_same_message_do_not_disturb_each_other(tmp_path):
    one, other = Quarantine(tmp_path, 10**6), Quarantine(tmp_path, 10**6)
    assert one.put(origin(0), b"abc", WHY) == other.put(origin(0), b"abc", WHY)
    assert kept_values(tmp_path) == [b"abc"]


# Replay -----------------------------------------------------------------------------------------------------------------


def test_the_quarantine_is_read_again_when_its_schema_is_known(quarantine):
    framed = builders.lsst("9.0")
    quarantine.put(
        origin(5, key=b"k", headers=(("_format", b"avro"),)), framed, SchemaError("schema 900 is not known")
    )
    schemas = {900: builders.lsst_schema("9.0")}
    with nuncius.open_stream(f"replay://{quarantine.folder}", schema=schemas) as stream:
        (alert,) = list(stream)
    assert alert.raw == framed
    assert alert.survey == "lsst"
    assert alert.origin.key == b"k"
    assert alert.origin.headers == (("_format", b"avro"),)
    assert alert.origin.service == "replay"


def test_a_replay_of_the_quarantine_into_itself_makes_no_copies(quarantine):
    quarantine.put(origin(5), b"rubbish", WHY)
    quarantine.put(origin(6), None, WHY)
    url = f"replay://{quarantine.folder}"
    with nuncius.open_stream(url, quarantine_dir=quarantine.folder) as stream:
        assert list(stream) == []
        assert stream.stats().quarantined == 2
    assert kept_values(quarantine.folder) == [b"", b"rubbish"]


def test_a_damaged_reason_does_not_hide_the_packet(quarantine, monkeypatch, tmp_path):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
    path = quarantine.put(origin(5), b'{"candid": 5}', WHY)
    path.with_suffix(".reason.json").write_text("{half")
    with nuncius.open_stream(f"replay://{quarantine.folder}") as stream:
        assert [alert.alert_id for alert in stream] == [5]


@pytest.mark.parametrize(
    "about", ['{"key": 5}', '{"headers": 7}', '{"headers": [["a"]]}', '{"key": "%%%"}', "[]"]
)
def test_a_reason_that_was_edited_does_not_stop_the_replay(quarantine, monkeypatch, tmp_path, about):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
    path = quarantine.put(origin(5), b'{"candid": 5}', WHY)
    path.with_suffix(".reason.json").write_text(about)
    with nuncius.open_stream(f"replay://{quarantine.folder}") as stream:
        assert [alert.alert_id for alert in stream] == [5]
