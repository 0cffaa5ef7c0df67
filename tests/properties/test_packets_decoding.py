"""Whatever fastavro writes is read as it was, and damaged bytes give an alert or an error of ours."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import random
import string
import zlib

import bson
import cramjam
import fastavro
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import builders
from nuncius import Alert
from nuncius.alerts.packets import compression, ocf
from nuncius.errors import PacketError

LSST = {900: builders.lsst_schema("9.0")}
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

names = st.text(string.ascii_letters, min_size=1, max_size=8)
primitives = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32),
    "double": st.floats(),
    "bytes": st.binary(max_size=40),
    "string": st.text(max_size=20),
}


@st.composite
def kinds(draw, depth=3):
    """Draw an Avro type and a strategy for its values."""
    choices = ["primitive", "enum", "fixed"] + (["record", "array", "map", "union"] if depth else [])
    choice = draw(st.sampled_from(choices))
    unique = "x.unnamed"
    if choice == "enum":
        symbols = draw(st.lists(names, min_size=1, max_size=4, unique=True))
        return {"type": "enum", "name": unique, "symbols": symbols}, st.sampled_from(symbols)
    if choice == "fixed":
        size = draw(st.integers(1, 9))
        return {"type": "fixed", "name": unique, "size": size}, st.binary(min_size=size, max_size=size)
    if choice == "record":
        return draw(records(depth - 1, name=unique))
    if choice == "array":
        kind, value = draw(kinds(depth - 1).filter(lambda made: takes_bytes(made[0])))
        return {"type": "array", "items": kind}, st.lists(value, max_size=4)
    if choice == "map":
        kind, value = draw(kinds(depth - 1))
        return {"type": "map", "values": kind}, st.dictionaries(st.text(max_size=5), value, max_size=3)
    if choice == "union":
        # Branches that a value can be told apart by, as the surveys have them.
        kind, value = draw(kinds(0))
        if kind == "null":
            return ["null"], st.none()
        union = ["null", kind] if draw(st.booleans()) else [kind, "null"]
        return union, st.none() | value
    name = draw(st.sampled_from(sorted(primitives)))
    return name, primitives[name]


def with_names(kind, numbers):
    """Give every named type a name of its own, as Avro wants it."""
    if isinstance(kind, list):
        return [with_names(branch, numbers) for branch in kind]
    if not isinstance(kind, dict):
        return kind
    made = {key: with_names(kind[key], numbers) for key in ("items", "values") if key in kind}
    if "fields" in kind:
        made["fields"] = [item | {"type": with_names(item["type"], numbers)} for item in kind["fields"]]
    if kind.get("name") == "x.unnamed":
        made["name"] = f"x.n{next(numbers)}"
    return kind | made


@st.composite
def records(draw, depth=3, name="x.alert"):
    fields = draw(st.dictionaries(names, kinds(depth), max_size=5))
    schema = builders.record_type(name, {key: kind for key, (kind, _) in fields.items()})
    if name == "x.alert":
        schema = with_names(schema, itertools.count())
    return schema, st.fixed_dictionaries({key: value for key, (_, value) in fields.items()})


def takes_bytes(kind):
    if isinstance(kind, dict) and kind["type"] == "record":
        return any(takes_bytes(item["type"]) for item in kind["fields"])
    return kind != "null"


@FEW
@given(
    st.data(), records(), st.sampled_from(["null", "deflate", "bzip2"]), st.binary(min_size=16, max_size=16)
)
def test_any_container_that_fastavro_writes(data, made, codec, sync):
    schema, values = made
    wanted = [data.draw(values) for _ in range(data.draw(st.integers(1, 3)))]
    out = io.BytesIO()
    fastavro.writer(
        out,
        schema,
        wanted,
        codec=codec,
        sync_marker=sync,
        sync_interval=data.draw(st.sampled_from([1, 16000])),
    )
    expected = list(fastavro.reader(io.BytesIO(out.getvalue())))
    if not takes_bytes(schema) and len(wanted) > 1:
        return  # many records of no bytes at all may be refused
    alerts = Alert.many_from_bytes(out.getvalue())
    assert [repr(alert.packet) for alert in alerts] == [repr(record) for record in expected]
    assert [repr(Alert.from_bytes(alert.raw).packet) for alert in alerts] == [
        repr(record) for record in expected
    ]


@FEW
@given(st.data(), records().filter(lambda made: takes_bytes(made[0])))
def test_any_frame(data, made):
    schema, values = made
    wanted = data.draw(values)
    raw = builders.framed(schema, wanted, 900)
    expected = fastavro.schemaless_reader(io.BytesIO(raw[5:]), schema, None)
    assert repr(Alert.from_bytes(raw, schema={900: schema}).packet) == repr(expected)


@FEW
@given(
    st.dictionaries(
        st.text(max_size=9),
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    )
)
def test_any_json(document):
    assert repr(Alert.from_bytes(json.dumps(document).encode()).packet) == repr(document)


@FEW
@given(st.dictionaries(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9),
                       st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.binary(max_size=400)))  # fmt: skip
def test_any_bson(document):
    raw = bson.encode(document)
    assert repr(Alert.from_bytes(raw).packet) == repr(bson.decode(raw))


@FEW
@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=5))
def test_long_integers(value, more):
    assert ocf.write_long(value) == builders.varint(value)
    assert ocf.read_long(builders.varint(value) + more, 0) == (value, len(builders.varint(value)))


@FEW
@given(st.binary(max_size=3000))
def test_compression(data):
    assert compression.gunzip(gzip.compress(data)) == data
    assert compression.bunzip2(bz2.compress(data)) == data
    assert compression.unzlib(zlib.compress(data)) == data
    assert compression.unzstd(builders.zstd(data)) == data
    assert compression.unsnappy(bytes(cramjam.snappy.compress_raw(data))) == data


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"Obj\x01", b"\x00\x00\x00\x03\x84", b"\x1f\x8b\x08", b"BZh9", b"\x78\x9c",
                                                b"\x28\xb5\x2f\xfd", b"{", b"[", b'{"a":"', b"\x10\x00\x00\x00"]))  # fmt: skip
def test_any_bytes_are_a_packet_or_a_packet_error(data, start):
    for schema in (None, LSST):
        try:
            for alert in Alert.many_from_bytes(start + data, schema=schema):
                assert isinstance(alert.packet, dict)
        except PacketError:
            continue


def targets():
    earlier = [builders.ztf_earlier(), builders.ztf_earlier(candid=3, magpsf=19.0)]
    stamp = {"fileName": "a", "stampData": b"\x1f\x8b stamp"}
    yield (
        "ztf",
        builders.ztf(prv_candidates=earlier, fp_hists=[builders.ztf_forced()], cutoutScience=stamp),
        None,
    )
    yield "winter", builders.winter(), None
    yield "pgir", builders.pgir(earlier=[{"jd": builders.JD}]), None
    yield "decam", builders.decam(forced=[{"mjd": builders.MJD, "psfFlux": 1.0}]), None
    forced = [builders.lsst_forced("9.0")]
    yield "lsst", builders.lsst(prvDiaForcedSources=forced, cutoutScience=b"SIMPLE  =" * 9), LSST
    schema = builders.lsst_schema("8.0")
    yield "lsst 8", builders.framed(schema, builders.lsst_record("8.0"), 900), {900: schema}
    for codec in ("deflate", "bzip2", "snappy", "zstandard"):
        yield (
            codec,
            builders.packed_container(builders.ztf_schema(), [builders.ztf_record()], codec=codec),
            None,
        )
    yield "antares", builders.zlib_bson({"id": 1, "ra": 1.5, "properties": {"x": ["y"] * 9}}), None
    yield "bson", bson.encode({"id": 1, "ra": 1.5, "properties": {"x": ["y"] * 9}}), None
    yield (
        "json",
        json.dumps({"id": 1, "ra": 1.5, "candidate": {"jd": 2459000.5, "magpsf": 18.5}}).encode(),
        None,
    )


def look_at(alert):
    """Touch everything; only a PacketError may come out."""
    seen = (alert.survey, alert.alert_id, alert.key, alert.ra, alert.mjd, alert.time, alert.flux_njy, alert.score,
            len(alert.light_curve), len(alert.history), len(alert.cutouts), alert.digest, repr(alert))  # fmt: skip
    assert isinstance(alert.packet, dict)
    return seen


@pytest.mark.parametrize("bits", [1, 6], ids=["one bit", "six bytes"])
@pytest.mark.parametrize(("raw", "schema"), [pytest.param(*rest, id=name) for name, *rest in targets()])
def test_flipped_bytes_give_an_alert_or_a_packet_error(raw, schema, bits, monkeypatch):
    monkeypatch.setattr(ocf, "_headers", [])
    chance = random.Random(f"{len(raw)} {bits}")
    # The schema is most of a packet; its end, where layout and values are, deserves as many hits.
    spans = [(0, len(raw)), (0, min(60, len(raw))), (max(0, len(raw) - 500), len(raw))]
    refused = 0
    for turn in range(240):
        damaged = bytearray(raw)
        for _ in range(bits):
            place = chance.randrange(*spans[turn % 3])
            damaged[place] = (
                damaged[place] ^ (1 << chance.randrange(8)) if bits == 1 else chance.randrange(256)
            )
        try:
            look_at(Alert.from_bytes(bytes(damaged), schema=schema))
        except PacketError:
            refused += 1
    assert refused > 0


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.binary(max_size=4), st.integers(0, 4))
def test_spliced_containers(place, extra, drop):
    raw = builders.ztf(prv_candidates=[builders.ztf_earlier()])
    place %= len(raw)
    try:
        look_at(Alert.from_bytes(raw[:place] + extra + raw[place + drop :]))
    except PacketError:
        event("refused")
