"""One alert: what it keeps, what it equals, how it travels, and many of them from files."""

from __future__ import annotations

import copy
import gzip
import json
import pickle
import threading
import zlib

import bson
import pytest

import builders
import nuncius
from nuncius import Alert, read_packets
from nuncius.alerts import Origin
from nuncius.alerts.packets import open_packet
from nuncius.errors import NotFoundError, PacketError, SchemaError

LSST = {900: builders.lsst_schema("9.0")}
SMALL = builders.record_type("nova.alert", {"candid": "long", "objectId": "string"})


def small(number):
    return builders.datum(SMALL, {"candid": number, "objectId": f"N{number}"})


def test_raw_is_the_packet_byte_for_byte():
    raw = gzip.compress(builders.ztf())
    alert = Alert.from_bytes(bytearray(raw))
    assert alert.raw == raw
    assert type(alert.raw) is bytes


def test_fields_are_decoded_once_and_kept():
    alert = Alert.from_bytes(builders.ztf())
    assert alert.packet is alert.packet
    assert alert.light_curve is alert.light_curve


def test_nothing_is_decoded_before_a_field_is_touched():
    schema = builders.record_type("nova.alert", {"candid": "long", "name": "string"})
    alert = Alert.from_bytes(builders.container(schema, [b"\x02\x04\xff\xff"]))
    assert alert.survey == "nova.alert"
    with pytest.raises(PacketError):
        _ = alert.packet
    with pytest.raises(PacketError):
        _ = alert.ra
    assert "damaged" in repr(alert)


def test_damage_that_is_found_late_is_told_to_the_stream():
    class Stream:
        def __init__(self):
            self.told = []

        def damaged(self, alert, error):
            self.told.append((alert, error))

    raw = builders.container(SMALL, [b"\x02"])
    stream = Stream()
    alert = Alert(raw, open_packet(raw), delivery=stream)
    with pytest.raises(PacketError) as caught:
        _ = alert.alert_id
    assert stream.told == [(alert, caught.value)]


@pytest.mark.parametrize("survey", ["ztf", "winter", "turbo", "pgir", "decam"])
def test_container_with_bytes_behind_its_record(survey):
    raw = getattr(builders, survey)()
    size = open_packet(raw)._layout.header.size
    begin, end = open_packet(raw)._layout.blocks[0][1:]
    longer = raw[:size] + builders.SYNC + builders.block(raw[begin:end] + b"\x00", 1)
    with pytest.raises(PacketError, match="left over"):
        _ = Alert.from_bytes(longer).packet


def test_equal_alerts():
    alert, same, other = (
        Alert.from_bytes(raw) for raw in (builders.ztf(), builders.ztf(), builders.ztf("3.3"))
    )
    assert alert == same
    assert hash(alert) == hash(same)
    assert alert != other
    assert alert != alert.raw


def test_digest_is_that_of_the_content_and_not_of_its_wrapping():
    plain = Alert.from_bytes(builders.ztf())
    for layout in ({"sync": b"another sync mark"[:16]}, {"schema_first": False}, {"more": {"writer": b"x"}}):
        assert Alert.from_bytes(builders.ztf(layout=layout)).digest == plain.digest
    assert Alert.from_bytes(gzip.compress(builders.ztf())).digest == plain.digest
    assert Alert.from_bytes(builders.ztf(candidate={"ra": 1.0})).digest != plain.digest


def test_alerts_have_no_other_attributes():
    alert = Alert.from_bytes(builders.ztf())
    with pytest.raises(AttributeError):
        alert.colour = "red"
    with pytest.raises(AttributeError):
        alert.ra = 5.0


def test_annotations_of_the_stream_are_added():
    raw = builders.ztf()
    alert = Alert(raw, open_packet(raw), annotations={"antares": {"tags": ["sn"]}})
    assert alert.annotations == {"antares": {"tags": ["sn"]}}
    assert pickle.loads(pickle.dumps(alert)).annotations == alert.annotations


def packets():
    schema = builders.lsst_schema("9.0")
    yield "ocf", builders.ztf(), None
    yield "gzip", gzip.compress(builders.ztf()), None
    yield "framed", builders.lsst(), LSST
    yield "framed in gzip", gzip.compress(builders.lsst()), LSST
    yield "framed in zstd", builders.zstd(builders.lsst()), LSST
    yield "bare", builders.datum(schema, builders.lsst_record("9.0")), schema
    yield "bson", bson.encode({"id": 1, "ra": 1.5}), None
    yield "antares", builders.zlib_bson({"id": 1, "ra": 1.5}), None
    yield "json", b'{"id": 1, "ra": 1.5}', None


@pytest.mark.parametrize(("raw", "schema"), [pytest.param(*rest, id=name) for name, *rest in packets()])
@pytest.mark.parametrize("carry", [lambda alert: pickle.loads(pickle.dumps(alert)), copy.deepcopy, copy.copy],
                         ids=["pickle", "deepcopy", "copy"])  # fmt: skip
@pytest.mark.parametrize("touched", [True, False])
def test_an_alert_that_was_carried_elsewhere(raw, schema, carry, touched):
    opened = open_packet(raw, schema)
    alert = Alert(raw, opened, origin=Origin("kafka", "topic", 3, 14))
    values = repr(alert.packet) if touched else None
    there = carry(alert)
    assert there == alert
    assert there.origin == alert.origin
    assert repr(there.packet) == (values or repr(alert.packet))
    assert (there.key, there.schema_name, there.ra) == (alert.key, alert.schema_name, alert.ra)


def test_many_threads_read_one_alert():
    raw = builders.ztf(prv_candidates=[builders.ztf_earlier(jd=builders.JD - day) for day in range(1, 30)])
    for _ in range(20):
        alert = Alert.from_bytes(raw)
        found, gate = [], threading.Barrier(8)

        def read(alert=alert, found=found, gate=gate):
            gate.wait()
            found.append((alert.alert_id, alert.mjd, len(alert.light_curve), len(alert.history), alert.key))

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [(2475433850215010007, builders.MJD, 30, 29, ("ztf", 2475433850215010007))] * 8


def test_repr_and_html():
    alert = Alert.from_bytes(builders.ztf())
    assert repr(alert) == (
        "<Alert ztf 2475433850215010007 of ZTF20abcdefg at 150.25000 -20.50000 r=18.50 MJD 59000.2500>"
    )
    assert "ZTF20abcdefg" in alert._repr_html_()
    hostile = Alert.from_bytes(json.dumps({"id": "<script>", "filter": "<b>"}).encode())
    assert "<script>" not in hostile._repr_html_()
    assert "<b>" not in hostile._repr_html_()


def test_public_names_load_lazily():
    assert nuncius.Alert is Alert
    assert nuncius.read_packets is read_packets


# Many alerts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "snappy", "zstandard"])
@pytest.mark.parametrize("sync_interval", [1, 20, 10**6], ids=["one a block", "few a block", "one block"])
def test_many_records(codec, sync_interval):
    records = [{"candid": number, "objectId": f"N{number}"} for number in range(25)]
    raw = builders.packed_container(SMALL, records, codec=codec, sync_interval=sync_interval)
    alerts = Alert.many_from_bytes(raw)
    assert [alert.packet for alert in alerts] == records
    for number, alert in enumerate(alerts):
        again = Alert.from_bytes(alert.raw)
        assert again.packet == {"candid": number, "objectId": f"N{number}"}
        assert again.schema_name == "nova.alert"
        assert pickle.loads(pickle.dumps(alert)).alert_id == number
    with pytest.raises(PacketError, match="25 alerts"):
        Alert.from_bytes(raw)


def test_records_of_a_larger_container_equal_their_packets():
    one, two = (builders.datum(SMALL, {"candid": number, "objectId": "N"}) for number in (1, 2))
    first, second = Alert.many_from_bytes(builders.container(SMALL, [one, two], per_block=2))
    assert first.digest == Alert.from_bytes(builders.container(SMALL, [one])).digest
    assert first != second


def test_an_empty_container():
    raw = builders.container(SMALL, [])
    assert Alert.many_from_bytes(raw) == []
    with pytest.raises(PacketError, match="no record"):
        Alert.from_bytes(raw)


@pytest.mark.parametrize("empty_first", [True, False])
def test_an_empty_block_is_passed_over(empty_first):
    blocks = [builders.block(b"", 0), builders.block(small(5), 1)]
    raw = builders.header(SMALL) + builders.SYNC + b"".join(blocks if empty_first else reversed(blocks))
    assert Alert.from_bytes(raw).alert_id == 5


def test_a_block_that_claims_to_be_empty_and_is_not():
    raw = builders.header(SMALL) + builders.SYNC + builders.block(small(4), 0) + builders.block(small(5), 1)
    with pytest.raises(PacketError):
        _ = Alert.from_bytes(raw).packet


@pytest.mark.parametrize("text", [b'{"id": 1}\n{"id": 2}\n', b'{"id": 1}\r\n\r\n{"id": 2}', b'[{"id": 1}, {"id": 2}]',
                                  b'\xef\xbb\xbf {"id": 1}\n{"id": 2}', b'{"id": 1, "x": NaN}\n{"id": 2}'])  # fmt: skip
def test_json_lines_and_lists(text):
    alerts = Alert.many_from_bytes(text)
    assert [alert.alert_id for alert in alerts] == [1, 2]
    assert [Alert.from_bytes(alert.raw).alert_id for alert in alerts] == [1, 2]
    with pytest.raises(PacketError):
        Alert.from_bytes(text)


def test_an_empty_json_list():
    assert Alert.many_from_bytes(b"[]") == []


def test_reading_a_folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.avro").write_bytes(builders.ztf())
    (tmp_path / "b" / "many.avro").write_bytes(builders.container(SMALL, [small(1), small(2)], per_block=2))
    (tmp_path / "c.jsonl").write_bytes(b'{"id": 3}\n{"id": 4}\n')
    (tmp_path / "d.json.gz").write_bytes(gzip.compress(b'{"id": 5}'))
    (tmp_path / "e").write_bytes(builders.zlib_bson({"id": 6}))
    for other in (".hidden", "schema.avsc", "README.md", "notes.txt", "tool.py", "x.reason.json"):
        (tmp_path / other).write_bytes(b"no packet")
    alerts = list(read_packets(tmp_path))
    assert [alert.alert_id for alert in alerts] == [2475433850215010007, 1, 2, 3, 4, 5, 6]
    assert [alert.origin.offset for alert in alerts] == [0, 0, 1, 0, 1, 0, 0]
    assert {alert.origin.service for alert in alerts} == {"file"}
    assert alerts[1].origin.topic == str(tmp_path / "b" / "many.avro")
    assert str(alerts[2].origin) == f"file:{tmp_path / 'b' / 'many.avro'}[0]@1"


def test_reading_one_file(tmp_path):
    path = tmp_path / "packet.txt"
    path.write_bytes(builders.lsst())
    [alert] = read_packets(str(path), schema=LSST)
    assert alert.survey == "lsst"
    with pytest.raises(SchemaError, match=r"packet\.txt"):
        list(read_packets(path))


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(NotFoundError, match="nothing"):
        list(read_packets(tmp_path / "nothing"))
    assert list(read_packets(tmp_path)) == []


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a.avro").write_bytes(builders.ztf())
    (tmp_path / "b.avro").write_bytes(builders.ztf()[:-5])
    alerts = read_packets(tmp_path)
    assert next(alerts).survey == "ztf"
    with pytest.raises(PacketError, match=r"b\.avro") as caught:
        next(alerts)
    assert caught.value.position == str(tmp_path / "b.avro")


@pytest.mark.parametrize("raw", [b"", b"\x00", b"hello world", b"\x89PNG\r\n\x1a\n", b"Obj\x01", b"Obj\x02abc", b"{",
                                 zlib.compress(b""), gzip.compress(b"", mtime=0), b"   ", b"5", b"null", b'"text"'])  # fmt: skip
def test_no_packet(raw):
    with pytest.raises(PacketError):
        Alert.from_bytes(raw)


@pytest.mark.parametrize("raw", [b"[1, 2]", b"[[]]", b"[null]"])
def test_json_that_holds_no_records(raw):
    with pytest.raises(PacketError):
        _ = [alert.packet for alert in Alert.many_from_bytes(raw)]
