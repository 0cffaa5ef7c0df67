"""Fink: records without a container, each with the schema in its message's key."""

from __future__ import annotations

import gzip
import io
import json
import pickle

import fastavro
import pytest

import builders
from nuncius.alerts import Origin
from nuncius.alerts.packets import schemas
from nuncius.brokers.fink import Fink
from nuncius.errors import PacketError, SchemaError
from nuncius.streams.transport import Message

ORIGIN = Origin("kafka", "fink_topic", broker="fink")
SCORES = {
    "rf_snia_vs_nonia": 0.75,
    "cdsxmatch": "Unknown",
    "roid": 3,
    "mulens": None,
    "lc_features_g": [0.5, 1.5],
}
SCORE_TYPES = {"rf_snia_vs_nonia": ["double", "null"], "cdsxmatch": ["string", "null"], "roid": ["int", "null"],
               "mulens": ["double", "null"], "lc_features_g": [{"type": "array", "items": "double"}, "null"]}  # fmt: skip


def with_scores(schema):
    """Add Fink's fields, and give the record the name that Spark gives all of them."""
    more = [{"name": name, "type": kind} for name, kind in SCORE_TYPES.items()]
    return {**schema, "name": "topLevelRecord", "namespace": "", "fields": [*schema["fields"], *more]}


def message(schema, record, key=None):
    return Message(
        "fink_topic",
        0,
        1,
        builders.datum(schema, record),
        None,
        json.dumps(schema).encode() if key is None else key,
    )


ZTF_SCHEMA = with_scores(builders.ztf_schema("3.3"))
ZTF_RECORD = builders.ztf_record("3.3") | SCORES


def test_ztf():
    [alert] = Fink().reader()(message(ZTF_SCHEMA, ZTF_RECORD), ORIGIN)
    assert alert.schema_name == "topLevelRecord"
    assert alert.key == ("ztf", 2475433850215010007)
    assert (alert.object_id, alert.band, alert.mag, alert.ra) == ("ZTF20abcdefg", "r", 18.5, 150.25)
    assert alert.annotations == {"fink": SCORES}
    assert alert.packet == fastavro.schemaless_reader(io.BytesIO(alert.raw), ZTF_SCHEMA, None)
    assert alert.origin is ORIGIN


def test_rubin():
    schema = with_scores(builders.lsst_schema("9.0"))
    [alert] = Fink().reader()(message(schema, builders.lsst_record("9.0") | SCORES), ORIGIN)
    assert alert.key == ("lsst", 170032915988086813)
    assert alert.flux_njy == -1230.0
    assert alert.annotations == {"fink": SCORES}


def test_a_schema_that_says_its_survey_is_believed():
    schema = builders.ztf_schema("4.01")
    [alert] = Fink().reader()(message(schema, builders.ztf_record("4.01")), ORIGIN)
    assert (alert.survey, alert.schema_name, alert.annotations) == ("ztf", "ztf.alert", {})


def test_a_packet_of_no_known_survey_stays_what_it_is():
    schema = builders.record_type("topLevelRecord", {"objectId": "string", "score": "double"})
    [alert] = Fink().reader()(message(schema, {"objectId": "X1", "score": 0.5}), ORIGIN)
    assert (alert.survey, alert.object_id, alert.annotations) == ("topLevelRecord", "X1", {})


def test_copies_keep_survey_and_annotations():
    [alert] = Fink().reader()(message(ZTF_SCHEMA, ZTF_RECORD), ORIGIN)
    twin = pickle.loads(pickle.dumps(alert))
    assert (twin.key, twin.annotations, twin._known_survey) == (
        alert.key,
        alert.annotations,
        alert._known_survey,
    )


def test_the_same_schema_is_parsed_once(monkeypatch):
    read = Fink().reader()
    read(message(ZTF_SCHEMA, ZTF_RECORD), ORIGIN)
    monkeypatch.setattr(schemas, "prepare_schema", None)
    [alert] = read(message(ZTF_SCHEMA, ZTF_RECORD), ORIGIN)
    assert alert.object_id == "ZTF20abcdefg"


@pytest.mark.parametrize("key", [b"ztf_fink_3p3", b" ztf_fink_3p3\n"])
@pytest.mark.parametrize(
    "file_name", ["ztf_fink_3p3.avsc", "ztf_fink_3p3_replayed.avsc", "deep/ztf_fink_3p3.avsc"]
)
def test_a_key_that_names_its_schema(tmp_path, key, file_name):
    path = tmp_path / file_name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(ZTF_SCHEMA))
    [alert] = Fink().reader(tmp_path)(message(ZTF_SCHEMA, ZTF_RECORD, key), ORIGIN)
    assert alert.annotations == {"fink": SCORES}


def test_the_one_schema_of_the_user_is_for_keys_without_any():
    read = Fink().reader(ZTF_SCHEMA)
    assert read(message(ZTF_SCHEMA, ZTF_RECORD, b""), ORIGIN)[0].object_id == "ZTF20abcdefg"
    other = builders.record_type("other", {"objectId": "string"})
    assert (
        read(message(other, {"objectId": "X2"}), ORIGIN)[0].object_id == "X2"
    )  # the key's own schema stands


@pytest.mark.parametrize(
    ("key", "why"),
    [(b"", "no key"), (b"name", "names the schema 'name'"), (b"{", "not JSON"), (b"{}", "usable")],
)
def test_a_schema_that_is_not_there(tmp_path, key, why):
    with pytest.raises(SchemaError, match=why):
        Fink().reader()(message(ZTF_SCHEMA, ZTF_RECORD, key), ORIGIN)


@pytest.mark.parametrize("key", [b"name", b"../name", b"*", b"\xff"])
def test_a_name_that_is_not_in_the_folder(tmp_path, key):
    (tmp_path.parent / "name.avsc").write_text(json.dumps(ZTF_SCHEMA))
    with pytest.raises(SchemaError, match="is not in"):
        Fink().reader(tmp_path)(message(ZTF_SCHEMA, ZTF_RECORD, key), ORIGIN)


def test_damage_is_found_before_the_alert_is_handed_out():
    whole = message(ZTF_SCHEMA, ZTF_RECORD)
    for value in (b"", whole.value[:-1], whole.value + b"\0", b"\xff" * 100, gzip.compress(whole.value)[:-4]):
        with pytest.raises(PacketError):
            Fink().reader()(whole._replace(value=value), ORIGIN)


def test_real_packets_with_scores(packets_dir):
    paths = sorted(packets_dir.glob("ztf/*/*.avro"))
    if not paths:
        pytest.skip("the folder NUNCIUS_PACKETS holds no ZTF packets")
    read = Fink().reader()
    for path in paths:
        with path.open("rb") as file:
            reader = fastavro.reader(file)
            schema, [record] = with_scores(reader.writer_schema), list(reader)
        schema = json.loads(json.dumps(schema).replace('"__fastavro_parsed__": true, ', ""))
        [alert] = read(message(schema, record | SCORES), ORIGIN)
        assert alert.key == ("ztf", record["candid"])
        assert repr(alert.packet) == repr(record | SCORES)
        assert alert.annotations == {"fink": SCORES}
        assert alert.cutouts.science.data.shape == (63, 63)


def test_real_packets_of_rubin_with_scores(packets_dir):
    paths = sorted(packets_dir.glob("lsst/samples/*/*.avro"))
    if not paths:
        pytest.skip("the folder NUNCIUS_PACKETS holds no LSST packets")
    read = Fink().reader()
    for path in paths:
        with path.open("rb") as file:
            reader = fastavro.reader(file)
            schema, [record] = with_scores(reader.writer_schema), list(reader)
        schema = json.loads(json.dumps(schema).replace('"__fastavro_parsed__": true, ', ""))
        [alert] = read(message(schema, record | SCORES), ORIGIN)
        assert alert.key == ("lsst", record.get("diaSourceId", record.get("alertId")))
        assert repr(alert.packet) == repr(record | SCORES)
        assert alert.annotations == {"fink": SCORES}
