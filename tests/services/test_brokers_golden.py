"""A message set of each broker, in its own encoding, through a broker and the broker's profile.

The messages are made by independent encoders: fastavro, pymongo's bson, json.
"""

from __future__ import annotations

import json

import pytest

import builders
from nuncius import Notice
from streams_support import QUICK, produce, read_all

LOCUS = {
    "ra": 10.5, "dec": -3.25, "tags": ["extragalactic"], "catalogs": ["gaia_dr3_gaia_source"],
    "properties": {"newest_alert_id": "ztf_candidate:42", "newest_alert_magnitude": 18.5,
                   "newest_alert_observation_time": 61000.25},
}  # fmt: skip
GWALERT = {
    "superevent_id": "S261120x", "alert_type": "PRELIMINARY", "time_created": "2026-11-20T03:01:00Z",
    "event": {"time": "2026-11-20T03:00:00.5Z", "far": 1e-9, "skymap": None, "group": "CBC"},
}  # fmt: skip
TEXT = b"""TITLE:           GCN/FERMI NOTICE
NOTICE_DATE:     Fri 20 Nov 26 03:05:00 UT
NOTICE_TYPE:     Fermi-GBM Flight Position
TRIGGER_NUM:     685328705
GRB_RA:          150.250d {+10h 01m 00s} (J2000)
GRB_DEC:         +20.500d {+20d 30' 00"} (J2000)
GRB_ERROR:       5.00 [deg radius, statistical only]
GRB_DATE:        21364 TJD;   324 DOY;   26/11/20
GRB_TIME:        10830.50 SOD {03:00:30.50} UT
"""


def loci():
    new = {"id": "ANT2026aaaaa", **LOCUS}
    old = {"data": {"id": "ANT2026aaaab", "attributes": LOCUS}}
    return [(builders.zlib_bson(document), {}) for document in (new, old)]


def fink():
    schema = builders.ztf_schema("3.3")
    schema = {
        **schema,
        "name": "topLevelRecord",
        "fields": [*schema["fields"], {"name": "rf_snia_vs_nonia", "type": "double"}],
    }
    schema.pop("namespace", None)
    record = builders.ztf_record("3.3") | {"rf_snia_vs_nonia": 0.75}
    return [(builders.datum(schema, record), {"key": json.dumps(schema).encode()})]


def hopskotch():
    record = {"object_id": "SN2026abc", "ra": 10.5, "dec": -3.25}
    schema = {"type": "record", "name": "target", "fields": [
        {"name": "object_id", "type": "string"}, {"name": "ra", "type": "double"}, {"name": "dec", "type": "double"},
    ]}  # fmt: skip
    return [
        (json.dumps(record).encode(), {"headers": {"_format": b"JSON", "_id": bytes(range(16))}}),
        (builders.packed_container(schema, [record], codec="null"), {"headers": {"_format": b"avro"}}),
        (TEXT, {"headers": {"_format": b"gcntextnotice"}}),
        (b'{"x": 1}', {"headers": {"_format": b"json", "_test": b"true"}}),
    ]


def ztf():
    return [(builders.ztf(version), {}) for version in ("3.3", "4.01")]


def lasair():
    return [
        (
            json.dumps({"objectId": "ZTF18abcdefg", "ramean": 10.5, "decmean": -3.25, "gmag": 18.5}).encode(),
            {},
        )
    ]


BROKERS = {
    "antares": ("client.extragalactic", loci, b"\x78\x9c no locus"),
    "fink": ("fink_sn_candidates_ztf", fink, b"\x00\x01"),
    "hopskotch": ("group.topic", hopskotch, b"{"),
    "gcn": ("igwn.gwalert", lambda: [(json.dumps(GWALERT).encode(), {})], b"<VOEvent"),
    "ztf": ("ztf_20261121_programid1", ztf, b"Obj\x01 and no more"),
    "babamul": ("babamul.ztf.no-lsst-match.hosted", ztf, b"Obj\x01 and no more"),
    "lasair": ("lasair_2SN-likecandidates", lasair, b"[1, 2"),
}


@pytest.fixture
def messages_of(server, group, open_any, tmp_path):
    """Publish messages and what is none of them, and read them through a profile."""

    async def read(name, kafka_topic, messages, broken, **options):
        for value, more in [*messages, (broken, {"headers": {"_format": b"json"}}), *messages[:1]]:
            produce(server, kafka_topic, [value], partition=0, **more)
        url = f"{name}://{server}/{kafka_topic}"
        stream = open_any(
            url, group=group, stop="end", quarantine_dir=tmp_path, **options,
            config={**QUICK, "security.protocol": "PLAINTEXT"},
        )  # fmt: skip
        async with stream:
            items = await read_all(stream)
        return items, stream.stats()

    return read


@pytest.mark.parametrize("name", BROKERS)
async def test_every_message_is_read_and_unknown_content_is_quarantined(messages_of, name, topic):
    kafka_topic, make, broken = BROKERS[name]
    kafka_topic = f"{kafka_topic}-{topic}"
    messages = make()
    items, stats = await messages_of(name, kafka_topic, messages, broken)
    tests = sum("_test" in more.get("headers", {}) for _, more in messages)
    assert len(items) == len(messages) + 1 - tests
    assert stats.quarantined == 1
    assert all(item.origin.broker == name for item in items)


async def test_loci_of_both_shapes(messages_of, topic):
    new, old, _ = (await messages_of("antares", f"client.{topic}", loci(), b"x"))[0]
    assert (new.object_id, old.object_id) == ("ANT2026aaaaa", "ANT2026aaaab")
    for locus in (new, old):
        assert (locus.survey, locus.ra, locus.dec, locus.mag, locus.mjd) == (
            "antares",
            10.5,
            -3.25,
            18.5,
            61000.25,
        )
        assert locus.annotations["antares"]["tags"] == ["extragalactic"]


async def test_fink_adds_scores_to_an_alert_of_the_survey(messages_of, topic):
    alert, _ = (await messages_of("fink", topic, fink(), b"x"))[0]
    record = builders.ztf_record("3.3")
    assert alert.key == ("ztf", record["candid"])
    assert alert.packet == record | {"rf_snia_vs_nonia": 0.75}
    assert alert.annotations == {"fink": {"rf_snia_vs_nonia": 0.75}}


async def test_hopskotchs_formats(messages_of, topic):
    record, avro, notice, _ = (await messages_of("hopskotch", topic, hopskotch(), b"{"))[0]
    assert (record.object_id, record.ra) == (avro.object_id, avro.ra) == ("SN2026abc", 10.5)
    assert isinstance(notice, Notice)
    assert (notice.ra, notice.dec, notice.radius_deg) == (150.25, 20.5, 5.0)


async def test_a_gravitational_wave(messages_of, topic):
    notice = (await messages_of("gcn", f"igwn.gwalert-{topic}", [(json.dumps(GWALERT).encode(), {})], b"<"))[
        0
    ][-1]
    assert "S261120x" in notice.id
    assert notice.kind == f"igwn.gwalert-{topic}"
    assert notice.time.isoformat() == "2026-11-20T03:00:00.500000+00:00"
    assert notice.packet == GWALERT


async def test_rubins_framed_packets_are_read_with_the_schema_of_their_number(messages_of, topic, tmp_path):
    schemas = {number: builders.lsst_schema(version) for number, version in ((900, "9.0"), (1000, "10.0"))}
    messages = [
        (
            b"\0"
            + number.to_bytes(4, "big")
            + builders.datum(schemas[number], builders.lsst_record(version)),
            {},
        )
        for number, version in ((900, "9.0"), (1000, "10.0"))
    ]
    unknown = b"\0" + (1100).to_bytes(4, "big") + b"\0"
    items, stats = await messages_of("lsst", topic, messages, unknown, schema=schemas)
    assert [item.survey for item in items] == ["lsst"] * 3
    assert stats.quarantined == 1
