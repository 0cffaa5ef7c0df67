"""Alerts as files: names that can't climb, nothing overwritten, everything on the disk."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime

import bson
import pytest

from nuncius import errors
from nuncius.alerts import Alert, Origin
from nuncius.alerts.packets import open_packet
from nuncius.alerts.surveys.antares import Antares
from nuncius.compat.antares_client.files import TopicFiles, as_json


def alert(document, topic="client.extragalactic", offset=0):
    raw = zlib.compress(bson.encode(document))
    origin = Origin("kafka", topic, 0, offset, broker="antares")
    return Alert(raw, open_packet(raw), origin=origin, survey=Antares())


def old(alert_id, **more):
    return {"new_alert": {"alert_id": alert_id, **more}, "locus_id": 3}


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_a_stream_and_a_file_an_alert(tmp_path):
    original = {"new_alert": {"survey": 1, "original_id": "ztf_7"}, "locus_id": 4}
    new = {"id": "ANT1", "ra": 1.0, "dec": 2.0, "properties": {"newest_alert_id": "ztf_candidate:12"}}
    TopicFiles(tmp_path).write([alert(old(9898524)), alert(original), alert(new, "client.nuclear_transient")])
    assert files(tmp_path) == [
        "extragalactic/1-ztf_7.json",
        "extragalactic/9898524.json",
        "nuclear_transient/ztf_candidate:12.json",
    ]
    text = (tmp_path / "extragalactic" / "9898524.json").read_text()
    assert text == json.dumps(old(9898524), indent=4) + "\n"


def test_what_comes_again_changes_nothing(tmp_path):
    sink = TopicFiles(tmp_path)
    for offset in range(3):
        sink.write([alert(old(7), offset=offset)])
    path = tmp_path / "extragalactic" / "7.json"
    before = path.stat().st_mtime_ns
    sink.write([alert(old(7))])
    assert files(tmp_path) == ["extragalactic/7.json"]
    assert path.stat().st_mtime_ns == before


def test_what_comes_again_with_another_content_is_kept_beside(tmp_path):
    sink = TopicFiles(tmp_path)
    for mag in (18, 19, 18, 19, 20):
        sink.write([alert(old(7, properties={"mag": mag}))])
    found = files(tmp_path)
    assert len(found) == 3
    assert "extragalactic/7.json" in found
    mags = {json.loads((tmp_path / name).read_text())["new_alert"]["properties"]["mag"] for name in found}
    assert mags == {18, 19, 20}
    assert (
        json.loads((tmp_path / "extragalactic" / "7.json").read_text())["new_alert"]["properties"]["mag"]
        == 18
    )


def test_a_locus_that_does_not_name_its_alert_has_a_file_for_each_message(tmp_path):
    messages = [alert({"id": "ANT1", "ra": 1.0, "dec": 2.0, "tags": [str(n)]}) for n in range(3)]
    TopicFiles(tmp_path).write(messages)
    assert files(tmp_path) == sorted(f"extragalactic/{message.digest}.json" for message in messages)


@pytest.mark.parametrize(
    "evil",
    [
        "../../evil",
        "/etc/passwd",
        "..",
        ".",
        ".hidden",
        "a\0b",
        "a/b",
        "a\\b",
        "a\nb",
        "%2E%2E",
        "x" * 5000,
        "\u00e4" * 200,
    ],
)
def test_names_stay_in_their_folder(tmp_path, evil):
    folder = tmp_path / "out"
    TopicFiles(folder).write([alert(old(evil)), alert(old("plain"), f"client.{evil[:50]}")])
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(found) == 2
    assert all(path.parent.parent == folder for path in found)
    assert not any(path.name.startswith(".") for path in found)


def test_two_ids_never_share_a_file(tmp_path):
    names = ["a/b", "a%2Fb", "a_b", "A/B", ".a", "%2Ea", "x" * 300, "x" * 301]
    TopicFiles(tmp_path).write([alert(old(name)) for name in names])
    assert len(files(tmp_path)) == len(names)


def test_values_that_json_does_not_have():
    when = datetime(2026, 11, 21, tzinfo=UTC)
    packet = {
        "nan": float("nan"),
        "bytes": b"\x00\xff",
        "when": when,
        "big": 2**62,
        "deep": [{"inf": float("inf")}],
        "ß": "ä",
    }
    assert json.loads(as_json(packet)) == {
        "nan": None,
        "bytes": "AP8=",
        "when": when.isoformat(),
        "big": 2**62,
        "deep": [{"inf": None}],
        "ß": "ä",
    }


def test_a_folder_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StorageError, match="come again"):
        TopicFiles(tmp_path / "file").write([alert(old(7))])
