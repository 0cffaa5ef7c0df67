"""Containers, codecs, framing and compression, in whatever way they were written, cut off or damaged."""

from __future__ import annotations

import bz2
import gzip
import json
import random
import subprocess
import sys
import zlib
from pathlib import Path

import bson
import pytest

import builders
from builders import SYNC, block, datum, header
from nuncius import Alert
from nuncius.alerts.packets import compression, ocf, open_packet, open_packets
from nuncius.errors import PacketError, SchemaError

SMALL = builders.record_type("nova.alert", {"candid": "long", "objectId": "string"})
ONE = datum(SMALL, {"candid": 1, "objectId": "N1"})
LSST = {builders.lsst_id(version): builders.lsst_schema(version) for version in builders.LSST_VERSIONS}


@pytest.fixture(autouse=True)
def _no_known_headers(monkeypatch):
    monkeypatch.setattr(ocf, "_headers", [])


# Recognising ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "container"),
    [
        (builders.ztf(), "avro"),
        (builders.lsst(), "confluent"),
        (bson.encode({"id": 1}), "bson"),
        (builders.zlib_bson({"id": 1}), "bson"),
        (b' \r\n\t{"id": 1}', "json"),
        (b'\xef\xbb\xbf{"id": 1}', "json"),
    ],
)
@pytest.mark.parametrize(
    "wrap",
    [bytes, gzip.compress, bz2.compress, builders.zstd, zlib.compress, lambda raw: zlib.compress(raw, 0),
     lambda raw: zlib.compress(raw, 9), lambda raw: gzip.compress(bz2.compress(raw))],
    ids=["bare", "gzip", "bzip2", "zstd", "zlib", "zlib 0", "zlib 9", "twice"],
)  # fmt: skip
def test_containers_within_compression(raw, container, wrap):
    packet = open_packet(wrap(raw), LSST)
    assert packet.container == container
    assert packet.decode()


@pytest.mark.parametrize("size", [256, 512, 2304, 65536])
def test_a_bson_document_whose_length_begins_with_a_zero_byte(size):
    # Its first byte is the one that also begins framed packets.
    document = {"id": 7, "pad": ""}
    document["pad"] = "x" * (size - len(bson.encode(document)))
    raw = bson.encode(document)
    assert (len(raw), raw[0]) == (size, 0)
    for packet in (raw, zlib.compress(raw)):
        assert Alert.from_bytes(packet).packet == document
        assert Alert.from_bytes(packet, schema=LSST).packet == document


@pytest.mark.parametrize(
    "record",
    [{"a": 60, "b": 16}, {"a": -16, "b": -70}, {"a": 33, "b": 45}, {"a": 0, "b": 5}, {"a": -62, "b": 1}],
)
def test_a_bare_record_is_read_with_its_schema_whatever_its_first_bytes(record):
    # The first two begin like zlib and gzip, the third like BZ, the fourth like a frame, the fifth like JSON.
    schema = builders.record_type("nova.alert", {"a": "long", "b": "long", "c": "string"})
    values = record | {"c": "some more text"}
    assert Alert.from_bytes(datum(schema, values), schema=schema).packet == values


def test_a_voevent_is_named():
    with pytest.raises(PacketError, match="VOEvent"):
        Alert.from_bytes(b'<?xml version="1.0"?><voe:VOEvent/>')


# Codecs, blocks, metadata -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "snappy", "zstandard"])
def test_codec(codec):
    record = builders.ztf_record()
    raw = builders.packed_container(builders.ztf_schema(), [record], codec=codec)
    alert = Alert.from_bytes(raw)
    assert alert.packet["candidate"]["ra"] == 150.25
    assert alert.alert_id == record["candid"]


def test_no_codec_means_none():
    assert Alert.from_bytes(builders.container(SMALL, [ONE], codec=None)).alert_id == 1


def test_an_unknown_codec_is_named():
    with pytest.raises(PacketError, match="xz"):
        Alert.from_bytes(builders.container(SMALL, [ONE], codec="xz"))


@pytest.mark.parametrize("codec", ["deflate", "bzip2", "snappy", "zstandard"])
@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 40, b"abc"])
def test_codecs_refuse_what_is_not_theirs(codec, data):
    raw = header(SMALL, codec=codec) + SYNC + block(data, 1)
    with pytest.raises(PacketError):
        _ = Alert.from_bytes(raw).packet


def test_a_snappy_block_with_a_wrong_checksum():
    raw = bytearray(builders.packed_container(SMALL, [{"candid": 1, "objectId": "N"}], codec="snappy"))
    raw[-17] ^= 1
    with pytest.raises(PacketError, match="checksum"):
        _ = Alert.from_bytes(bytes(raw)).packet


@pytest.mark.parametrize(
    "options", [{"sized": True}, {"schema_first": False}, {"more": {"a": b"", "b": b"\x00" * 70}}]
)
def test_metadata(options):
    assert Alert.from_bytes(builders.container(SMALL, [ONE], **options)).alert_id == 1


def test_a_container_without_its_schema():
    with pytest.raises(PacketError, match="schema"):
        Alert.from_bytes(b"Obj\x01\x00" + SYNC)


# The header cache -------------------------------------------------------------------------------------------------


def test_known_headers_do_not_mix_packets_up():
    # Both orders of the metadata, changing sync markers, and the union order of 3.3 and 4.01 in turn.
    chance = random.Random(5)
    made = []
    for number in range(60):
        version = chance.choice(["3.2", "3.3", "4.01", "4.02"])
        layout = {"schema_first": chance.random() < 0.5, "sync": chance.randbytes(16)}
        earlier = [builders.ztf_earlier(version, candid=number, magpsf=19.0)]
        raw = builders.ztf(
            version, candidate={"ra": number}, prv_candidates=earlier, candid=number, layout=layout
        )
        made.append((number, version, raw))
    for _ in range(2):
        for number, version, raw in made:
            alert = Alert.from_bytes(raw)
            assert (alert.alert_id, alert.ra, alert.packet["schemavsn"]) == (number, number, version)
            assert alert.packet["prv_candidates"][0]["candid"] == number
            assert ("fp_hists" in alert.packet) is version.startswith("4")
        chance.shuffle(made)
    prefixes = [prefix for prefix, _ in ocf._headers]
    assert len(prefixes) == len(set(prefixes)) == 8


def test_no_known_header_is_the_beginning_of_another():
    longer = builders.record_type("nova.alert", {"candid": "long", "objectId": "string", "extra": "long"})
    packets = [
        builders.container(SMALL, [ONE]),
        builders.container(SMALL, [ONE], codec=None),
        builders.container(SMALL, [ONE], more={"x": b""}),
        builders.container(longer, [ONE + b"\x0a"]),
    ]
    for raw in packets * 2:
        assert Alert.from_bytes(raw).alert_id == 1
    prefixes = [prefix for prefix, _ in ocf._headers]
    assert len(prefixes) == 4
    assert not any(one != other and one.startswith(other) for one in prefixes for other in prefixes)


def test_equal_layout_and_another_schema():
    swapped = builders.record_type("nova.alert", {"dancid": "long", "objectId": "string"})
    assert list(Alert.from_bytes(builders.container(SMALL, [ONE])).packet) == ["candid", "objectId"]
    assert list(Alert.from_bytes(builders.container(swapped, [ONE])).packet) == ["dancid", "objectId"]


def test_the_number_of_known_headers_is_bounded():
    for number in range(100):
        Alert.from_bytes(builders.container(SMALL, [ONE], more={"n": str(number).encode()}))
    assert len(ocf._headers) == 64


# Cut off ----------------------------------------------------------------------------------------------------------


def offsets(size):
    return sorted(
        {size * step // 200 for step in range(200)}
        | set(range(min(size, 12)))
        | {size - 1, size - 16, size - 17}
    )


def cut_packets():
    yield "ztf", builders.ztf(cutoutScience={"fileName": "a", "stampData": b"\x00\x01" * 900}), None
    for name in ("winter", "turbo", "pgir", "decam"):
        yield name, getattr(builders, name)(), None
    for codec in ("deflate", "bzip2", "snappy", "zstandard"):
        yield (
            codec,
            builders.packed_container(builders.ztf_schema(), [builders.ztf_record()], codec=codec),
            None,
        )
    for version in builders.LSST_VERSIONS:
        yield f"lsst {version}", builders.lsst(version, cutoutTemplate=bytes(range(256)) * 4), LSST
    yield "zlib+bson", builders.zlib_bson({"id": 1, "ra": 1.5, "properties": {"x": ["y"] * 30}}), None
    yield "bson", bson.encode({"id": 1, "ra": 1.5, "properties": {"x": ["y"] * 30}}), None
    yield "json", json.dumps({"id": 1, "a": [{"b": "c"}] * 30}).encode(), None
    yield "gzip", gzip.compress(builders.ztf()), None
    yield "bzip2 around", bz2.compress(builders.ztf()), None
    yield "zstd around", builders.zstd(builders.ztf()), None


@pytest.mark.parametrize(("raw", "schema"), [pytest.param(*rest, id=name) for name, *rest in cut_packets()])
def test_cut_off(raw, schema):
    assert Alert.from_bytes(raw, schema=schema).packet
    for size in offsets(len(raw)):
        with pytest.raises(PacketError):
            _ = Alert.from_bytes(raw[:size], schema=schema).packet


@pytest.mark.parametrize(("raw", "schema"), [pytest.param(*rest, id=name) for name, *rest in cut_packets()])
@pytest.mark.parametrize(
    "more", [b"\x00", b"\x00\x00", b"garbage", b"\xff" * 40], ids=["0", "00", "text", "ff"]
)
def test_bytes_left_over(raw, schema, more):
    with pytest.raises(PacketError):
        _ = Alert.from_bytes(raw + more, schema=schema).packet


@pytest.mark.parametrize(
    "pattern", ["ztf/v3.3/*.avro", "ztf/v4.01/*.avro", "winter/*.avro", "turbo/*.avro", "pgir/*.avro"]
)
def test_real_packets_cut_off(packets_dir, pattern):
    path = min(packets_dir.glob(pattern), default=None)
    if path is None:
        pytest.skip(f"the folder NUNCIUS_PACKETS holds no {pattern}")
    raw = path.read_bytes()
    for size in offsets(len(raw)):
        with pytest.raises(PacketError):
            _ = Alert.from_bytes(raw[:size]).packet


def test_real_framed_packets_cut_off(packets_dir):
    for path in sorted(packets_dir.glob("lsst/samples/*/*.avro")):
        raw = path.read_bytes()
        layout = ocf.read_container(raw)
        _, begin, end = layout.blocks[0]
        schemas = {900: json.loads(ocf._metadata(raw)[0][b"avro.schema"])}
        packet = b"\x00\x00\x00\x03\x84" + raw[begin:end]
        assert Alert.from_bytes(packet, schema=schemas).survey == "lsst"
        for size in offsets(len(packet)):
            with pytest.raises(PacketError):
                Alert.from_bytes(packet[:size], schema=schemas)


# Members and bombs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, builders.zstd], ids=["gzip", "bzip2", "zstd"])
def test_all_members_of_a_compressed_file_are_read(pack):
    # Rotated logs, `cat a.gz b.gz` and parallel packers make such files.
    raw = pack(b'{"id": 1}\n') + pack(b'{"id": 2}\n') + pack(b'{"id": 3}\n')
    assert [alert.alert_id for alert in Alert.many_from_bytes(raw)] == [1, 2, 3]


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, builders.zstd, zlib.compress], ids=["gzip", "bzip2", "zstd", "zlib"]
)
def test_bombs_are_refused(monkeypatch, pack):
    monkeypatch.setattr(compression, "MAX_UNPACKED_BYTES", 100_000)
    with pytest.raises(PacketError):
        Alert.from_bytes(pack(b" " * 100_001 + b"{}"))
    assert Alert.from_bytes(pack(b" " * 90_000 + b"{}")).packet == {}


@pytest.mark.parametrize("codec", ["deflate", "bzip2", "snappy", "zstandard"])
def test_bombs_in_blocks_are_refused(monkeypatch, codec):
    monkeypatch.setattr(compression, "MAX_UNPACKED_BYTES", 100_000)
    raw = builders.packed_container(SMALL, [{"candid": 1, "objectId": "x" * 100_001}], codec=codec)
    alert = Alert.from_bytes(raw)
    with pytest.raises(PacketError):
        _ = alert.packet


def test_a_snappy_block_that_promises_too_much():
    with pytest.raises(PacketError, match="allowed"):
        compression.unsnappy(b"\xff\xff\xff\xff\x0f" + b"x" * 20)


def test_zstd_of_well_packed_data():
    data = b"0" * 3_000_000
    assert compression.unzstd(builders.zstd(data)) == data


def test_a_count_that_the_block_cannot_hold():
    with pytest.raises(PacketError):
        Alert.many_from_bytes(header(SMALL) + SYNC + block(ONE, 10**12))


def test_wrong_lengths_name_the_place():
    start = len(header(SMALL)) + 16
    for count, size in ((1, -5), (-1, len(ONE)), (1, 10**15)):
        raw = header(SMALL) + SYNC + builders.varint(count) + builders.varint(size) + ONE + SYNC
        with pytest.raises(PacketError) as caught:
            Alert.from_bytes(raw)
        assert int(caught.value.position.removeprefix("byte ")) >= start


def test_a_wrong_sync_marker():
    with pytest.raises(PacketError, match="sync marker"):
        Alert.from_bytes(header(SMALL) + SYNC + block(ONE, 1, sync=b"z" * 16))


def read_elsewhere(script):
    """Run a script in a process of its own, for a fault here ends the process or never ends; return what it prints."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
        "import builders, zlib\nfrom nuncius import Alert\nfrom nuncius.errors import PacketError\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code + script], cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=8,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "it never ends"
    return (
        done.stdout.strip() if done.returncode == 0 else f"died with {done.returncode}: {done.stderr[-300:]}"
    )


def test_a_chain_of_named_records_does_not_break_the_stack():
    # Each record holds the one before: the JSON text is flat, but the value nests 20,000 levels deep.
    script = """
records = [builders.record_type("x.r0", {"f": "int"})]
records += [builders.record_type(f"x.r{n}", {"f": f"x.r{n - 1}"}) for n in range(1, 20_000)]
schema = builders.record_type("x.top", {f"f{n}": kind for n, kind in enumerate(records)})
try:
    Alert.from_bytes(builders.container(schema, [b"\\0" * 20_000])).packet
except PacketError as error:
    print(type(error).__name__)
"""
    assert read_elsewhere(script) == "SchemaError"


def test_records_without_bytes_do_not_multiply():
    # Ten records of nothing, ten times, and so on: 10**20 values in no byte at all.
    script = """
records = [builders.record_type("x.r0", {})]
records += [builders.record_type(f"x.r{n}", dict.fromkeys("abcdefghij", f"x.r{n - 1}")) for n in range(1, 20)]
schema = builders.record_type("x.top", {f"f{n}": kind for n, kind in enumerate(records)})
try:
    Alert.from_bytes(builders.container(schema, [b""])).packet
except PacketError as error:
    print(type(error).__name__)
"""
    assert read_elsewhere(script) == "SchemaError"


def test_a_packed_block_of_endless_empty_records():
    script = """
schema = builders.record_type("x.top", {})
packer = zlib.compressobj(wbits=-15)
nothing = packer.compress(b"") + packer.flush()
raw = builders.header(schema, codec="deflate") + builders.SYNC + builders.block(nothing, 2**60)
try:
    Alert.many_from_bytes(raw)
except PacketError:
    print("refused")
"""
    assert read_elsewhere(script) == "refused"


def test_a_small_packed_block_of_very_many_tiny_records(monkeypatch):
    # Each of them would become a container of its own, with the whole schema before its one byte.
    monkeypatch.setattr(compression, "MAX_UNPACKED_BYTES", 1_000_000)
    schema = builders.record_type("x.top", {"f": "boolean"}) | {"doc": "d" * 500}
    packer = zlib.compressobj(wbits=-15)
    tiny = packer.compress(b"\x01" * 50_000) + packer.flush()
    with pytest.raises(PacketError):
        Alert.many_from_bytes(header(schema, codec="deflate") + SYNC + block(tiny, 50_000))


# Framing ----------------------------------------------------------------------------------------------------------


def test_a_frame_names_its_schema():
    for version in builders.LSST_VERSIONS:
        raw = builders.lsst(version)
        assert int.from_bytes(raw[1:5], "big") == builders.lsst_id(version)
        assert Alert.from_bytes(raw, schema=LSST).schema_name == f"lsst.v{version.replace('.', '_')}.alert"


def test_a_frame_without_schemas_says_what_to_give():
    with pytest.raises(SchemaError, match="schema=") as caught:
        Alert.from_bytes(builders.lsst())
    assert "900" in str(caught.value)


def test_a_frame_with_an_unknown_number():
    with pytest.raises(SchemaError, match="1234"):
        Alert.from_bytes(b"\x00" + (1234).to_bytes(4, "big") + builders.lsst()[5:], schema=LSST)


@pytest.mark.parametrize("wrong", ["7.4", "8.0", "11.0"])
def test_a_frame_read_with_another_schema(wrong):
    with pytest.raises(PacketError):
        Alert.from_bytes(
            builders.lsst("9.0", source={"psfNdata": 5}), schema={900: builders.lsst_schema(wrong)}
        )


def test_json_with_text_that_is_not_unicode():
    for raw in (b'{"a": "\xff"}', b'{"\xff": 1}', b'[{"a": "\xc3"}]', b'{"a": 1}\n{"a": "\xff"}', b"[\xff"):
        with pytest.raises(PacketError):
            Alert.many_from_bytes(raw)


@pytest.mark.parametrize(
    "around", [(b"", b""), (b"[", b"]"), (b'{"b": 1}\n', b"")], ids=["record", "list", "lines"]
)
def test_deep_json(around):
    deepest = 0
    for depth in (*range(10, 1100), 5000, 200_000):
        raw = around[0] + b'{"a": ' + b"[" * depth + b"]" * depth + b"}" + around[1]
        try:
            assert "a" in Alert.many_from_bytes(raw)[-1].packet
        except PacketError:
            continue
        deepest = depth
    assert 100 < deepest < 200_000


def test_deep_bson():
    document = {}
    for _ in range(150):
        document = {"a": document}
    assert Alert.from_bytes(bson.encode(document)).packet == document


def test_headers_are_only_known_whole():
    assert open_packets(builders.container(SMALL, [ONE]))[0][1].schema_name == "nova.alert"
    for size in range(4, len(header(SMALL)) + 16):
        with pytest.raises(PacketError):
            open_packets(builders.container(SMALL, [ONE])[:size])
