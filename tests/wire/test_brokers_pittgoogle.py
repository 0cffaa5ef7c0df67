"""Pitt-Google: what it sends over Pub/Sub, in each of its encodings."""

from __future__ import annotations

import base64
import json

import pytest

import builders
from nuncius import Alert, Notice
from nuncius.alerts import Origin
from nuncius.brokers.pittgoogle import PittGoogle
from nuncius.errors import PacketError, SchemaError
from nuncius.streams.transport import Message

ORIGIN = Origin("pubsub", "projects/mine/subscriptions/ztf-loop", 0, 12345, broker="pittgoogle")
SCHEMAS = {1101: builders.lsst_schema("11.0"), 900: builders.lsst_schema("9.0")}
ATTRIBUTES = (
    ("diaObject_diaObjectId", b"171"),
    ("kafka.topic", b"lsst-alerts"),
    ("pg_variable", b"likely"),
    ("pg_upsilon_r_label", "RR Lyr\u00e6".encode()),
)


def read(value, attributes=(), schema=SCHEMAS):
    message = Message(ORIGIN.topic, 0, 12345, value, 1_700_000_000_000, None, attributes)
    return PittGoogle().reader(schema)(message, ORIGIN)


def as_json(packet):
    """Write a packet as JSON: bytes as base64, what is no number as null."""

    def plain(value):
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return None if value != value else value  # noqa: PLR0124 - NaN

    return json.dumps(plain(packet)).encode()


def same(ours, theirs):
    assert ours.key == theirs.key
    for name in ("object_id", "ra", "dec", "mjd", "mag", "mag_err", "band"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert [(p.mjd, p.mag, p.kind) for p in ours.light_curve] == [
        (p.mjd, p.mag, p.kind) for p in theirs.light_curve
    ]
    for kind in ("science", "template", "difference"):
        one, other = getattr(ours.cutouts, kind), getattr(theirs.cutouts, kind)
        assert (one and one.bytes) == (other and other.bytes)


def ztf():
    return builders.ztf(
        cutoutScience={"fileName": "science.fits.gz", "stampData": bytes(range(256))},
        cutoutTemplate={"fileName": "template.fits.gz", "stampData": b"SIMPLE  ="},
    )


def test_an_avro_container_of_ztf():
    [alert] = read(ztf())
    assert (alert.survey, alert.origin) == ("ztf", ORIGIN)
    same(alert, Alert.from_bytes(ztf()))


def test_json_of_ztf_is_the_same_alert():
    known = Alert.from_bytes(ztf())
    [alert] = read(as_json(known.packet))
    assert alert.survey == "ztf"
    assert alert.cutouts.science.bytes == bytes(range(256))
    same(alert, known)


def test_framed_avro_of_rubin():
    raw = builders.lsst("9.0")
    [alert] = read(raw)
    assert alert.survey == "lsst"
    same(alert, Alert.from_bytes(raw, schema=SCHEMAS))


def test_json_of_rubin_is_the_same_alert():
    known = Alert.from_bytes(builders.lsst("9.0"), schema=SCHEMAS)
    [alert] = read(as_json(known.packet))
    assert alert.survey == "lsst"
    same(alert, known)


def test_a_version_of_rubins_schema_that_nobody_knows_is_told():
    with pytest.raises(SchemaError, match="900"):
        read(builders.lsst("9.0"), schema={1: builders.lsst_schema("9.0")})


def test_what_pitt_google_adds_is_an_annotation():
    [alert] = read(builders.lsst("9.0"), ATTRIBUTES)
    assert alert.annotations["pittgoogle"] == {"variable": "likely", "upsilon_r_label": "RR Lyr\u00e6"}
    [alert] = read(builders.lsst("9.0"), ATTRIBUTES[:2])
    assert "pittgoogle" not in alert.annotations


def test_a_notice_of_gravitational_waves():
    value = {"superevent_id": "S230518h", "alert_type": "INITIAL", "time_created": "2023-05-18T13:00:00Z"}
    [notice] = read(json.dumps(value).encode())
    assert isinstance(notice, Notice)
    assert notice.kind == "igwn.gwalert"
    assert notice.packet["superevent_id"] == "S230518h"


def test_several_records_in_one_message():
    schema = builders.ztf_schema()
    records = [builders.datum(schema, builders.ztf_record(candid=number)) for number in (1, 2, 3)]
    alerts = read(builders.container(schema, records))
    assert [alert.alert_id for alert in alerts] == [1, 2, 3]


@pytest.mark.parametrize("value", [None, b""])
def test_a_message_that_only_tells_of_a_file(value):
    with pytest.raises(PacketError, match="bucketId, filename"):
        read(value, (("bucketId", b"b"), ("filename", b"f")))


@pytest.mark.parametrize("value", [b"Obj\x01", b"{", b"[1, 2]", b"\x00\x00", b"no packet at all"])
def test_what_is_no_packet(value):
    with pytest.raises(PacketError):
        read(value)


def test_a_cutout_that_is_no_base64_is_missing():
    values = json.loads(as_json(Alert.from_bytes(ztf()).packet))
    values["cutoutScience"]["stampData"] = "no base64!"
    [alert] = read(json.dumps(values).encode())
    assert alert.cutouts.science is None
