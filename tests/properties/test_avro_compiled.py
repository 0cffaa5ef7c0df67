"""The compiled decoder gives what fastavro gives, whatever the schema and the bytes; damaged bytes give an error of ours."""

from __future__ import annotations

import array
import bz2
import io
import struct
import zlib
from pathlib import Path
from unittest import mock

import cramjam
import fastavro
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

import builders
from nuncius import Alert
from nuncius.alerts.packets import compiled, decode_datum, ocf, open_packet
from nuncius.alerts.packets.schemas import prepare_schema
from nuncius.errors import PacketError

decoder = compiled.decoder()
if decoder is None:
    pytest.skip("needs the compiled decoder, which was not built or is switched off", allow_module_level=True)

FEW = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
PRIMITIVES = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
LOGICAL = [
    {"type": "long", "logicalType": "timestamp-millis"},
    {"type": "long", "logicalType": "timestamp-micros"},
    {"type": "long", "logicalType": "local-timestamp-millis"},
    {"type": "long", "logicalType": "local-timestamp-micros"},
    {"type": "int", "logicalType": "date"},
    {"type": "int", "logicalType": "time-millis"},
    {"type": "long", "logicalType": "time-micros"},
    {"type": "bytes", "logicalType": "decimal", "precision": 11, "scale": 4},
    {"type": "string", "logicalType": "uuid"},
    {"type": "string", "logicalType": "of-nobody"},
]
CODECS = {
    "null": bytes,
    "deflate": lambda data: zlib.compress(data, wbits=-15),
    "bzip2": bz2.compress,
    "zstandard": builders.zstd,
    "snappy": lambda data: bytes(cramjam.snappy.compress_raw(data)) + zlib.crc32(data).to_bytes(4, "big"),
}


# Random schemas -------------------------------------------------------------------------------------------------------


class Types:
    """Draws types; knows those that have names, so that they are used again."""

    def __init__(self, draw):
        self.draw = draw
        self.known = {}  # full name: whether its definition is complete

    def name(self, namespace):
        """Draw a new name as one of the three ways to write it; return what is written, and the full name."""
        short = f"n{len(self.known)}"
        way = self.draw(st.sampled_from(["inherited", "dotted", "own"]))
        if way == "dotted":
            return {"name": f"p.q.{short}"}, f"p.q.{short}"
        if way == "own":
            return {"name": short, "namespace": "r.s"}, f"r.s.{short}"
        return {"name": short}, f"{namespace}.{short}" if namespace else short

    def known_here(self, namespace, *, complete):
        """Return how the names known so far are written in a namespace; one without any can't be told from within another."""
        return [
            name
            for name, done in self.known.items()
            if ("." in name or not namespace) and (done or not complete)
        ]

    def kind(self, namespace, depth):
        """Draw any type that has a value of finite size."""
        choices = ["primitive", "primitive", "logical", "enum", "fixed"]
        if depth:
            choices += ["record", "array", "map", "union"]
        known = self.known_here(namespace, complete=True)
        if known:
            choices += ["known", "known"]
        choice = self.draw(st.sampled_from(choices))
        if choice == "primitive":
            kind = self.draw(st.sampled_from(PRIMITIVES))
            return self.draw(st.sampled_from([kind, {"type": kind, "doc": "?"}]))
        if choice == "logical":
            return self.draw(st.sampled_from(LOGICAL))
        if choice == "known":
            return self.draw(st.sampled_from(known))
        return getattr(self, choice)(namespace, depth)

    def enum(self, namespace, depth):
        written, full = self.name(namespace)
        self.known[full] = True
        symbols = self.draw(st.lists(st.sampled_from("ugrizy"), min_size=1, max_size=6, unique=True))
        return {"type": "enum", **written, "symbols": symbols}

    def fixed(self, namespace, depth):
        written, full = self.name(namespace)
        self.known[full] = True
        size = self.draw(st.integers(0, 9))
        decimal = {"logicalType": "decimal", "precision": 2 * size, "scale": 1}
        more = decimal if size and self.draw(st.booleans()) else {}
        return {"type": "fixed", **written, "size": size, **more}

    def array(self, namespace, depth):
        return {"type": "array", "items": self.sized(namespace, depth - 1)}

    def map(self, namespace, depth):
        return {"type": "map", "values": self.inner(namespace, depth - 1)}

    def sized(self, namespace, depth):
        """Draw a type for items of an array, which must take a byte at least: a union does."""
        kind = self.inner(namespace, depth)
        return kind if takes_a_byte(kind) else [kind]

    def inner(self, namespace, depth):
        """Draw a type that may be a record around it, as there may be none of it."""
        open_ones = self.known_here(namespace, complete=False)
        if open_ones and self.draw(st.integers(0, 4)) == 0:
            return self.draw(st.sampled_from(open_ones))
        return self.kind(namespace, depth)

    def union(self, namespace, depth):
        kind = self.inner(namespace, depth - 1)
        more = [self.draw(st.sampled_from(PRIMITIVES)) for _ in range(self.draw(st.integers(0, 2)))]
        branches = [*(kind if isinstance(kind, list) else [kind]), "null", *more]
        return self.draw(st.permutations(branches))

    def record(self, namespace, depth):
        written, full = self.name(namespace)
        self.known[full] = False
        space = full.rpartition(".")[0]
        # Few names, so that some fields have the same one.
        names = self.draw(st.lists(st.sampled_from("abcdefgh"), max_size=5))
        fields = [{"name": name, "type": self.kind(space, depth - 1)} for name in names]
        self.known[full] = True
        return {"type": "record", **written, "fields": fields}


def takes_a_byte(kind):
    """Tell whether each value of a type surely takes a byte."""
    if isinstance(kind, list):
        return True
    if isinstance(kind, str):
        return kind in PRIMITIVES and kind != "null"
    if kind["type"] == "record":
        return any(takes_a_byte(item["type"]) for item in kind["fields"])
    return kind["type"] != "null" and kind.get("size") != 0


@st.composite
def schemas(draw):
    """Draw the schema of a record that takes a byte at least."""
    schema = Types(draw).record("", 3)
    return schema | {"fields": [{"name": "first", "type": "long"}, *schema["fields"]]}


# Random bytes, by hand ------------------------------------------------------------------------------------------------


class Writer:
    """Draws the bytes of a value of a type, blocks with and without their sizes among them."""

    def __init__(self, draw, parsed):
        self.draw = draw
        self.named = {}
        self._find(parsed)

    def _find(self, kind):
        if isinstance(kind, list):
            for branch in kind:
                self._find(branch)
        elif isinstance(kind, dict):
            if "name" in kind:
                self.named[kind["name"]] = kind
            self._find(kind.get("items"))
            self._find(kind.get("values"))
            for item in kind.get("fields", ()):
                self._find(item["type"])

    def write(self, kind, room=6):
        if isinstance(kind, str) and kind in self.named:
            kind = self.named[kind]
        if isinstance(kind, list):
            return self._choice(kind, room)
        name = kind if isinstance(kind, str) else kind["type"]
        if name in PRIMITIVES:
            return self._primitive(name, {} if isinstance(kind, str) else kind)
        if name == "record":
            return b"".join(self.write(item["type"], room - 1) for item in kind["fields"])
        if name == "enum":
            return builders.varint(self.draw(st.integers(0, len(kind["symbols"]) - 1)))
        if name == "fixed":
            return self.draw(st.binary(min_size=kind["size"], max_size=kind["size"]))
        return self._blocks(kind, room)

    def _choice(self, branches, room):
        # Where there is no room left for what is around it, null ends it.
        index = branches.index("null") if room <= 0 and "null" in branches else None
        if index is None:
            index = self.draw(st.integers(0, len(branches) - 1))
        return builders.varint(index) + self.write(branches[index], room - 1)

    def _blocks(self, kind, room):
        result = b""
        sizes = self.draw(st.lists(st.integers(1, 3), max_size=2)) if room > 0 else []
        for size in sizes:
            block = b""
            for _ in range(size):
                if kind["type"] == "map":
                    block += self._text(self.draw(st.text(max_size=3)))
                block += self.write(kind.get("items", kind.get("values")), room - 1)
            told = self.draw(st.booleans())
            result += builders.varint(-size) + builders.varint(len(block)) if told else builders.varint(size)
            result += block
        return result + builders.varint(0)

    def _primitive(self, name, schema):
        logical = schema.get("logicalType")
        if name == "null":
            return b""
        if name == "boolean":
            return self.draw(st.sampled_from([b"\0", b"\1"]))
        if name in {"int", "long"}:
            bits = 31 if name == "int" else 63
            near = {"date": 20_000, "time-millis": 86_399_999, "time-micros": 86_399_999_999}.get(
                logical, 2**45
            )
            span = st.integers(0, near) if logical else st.integers(-(2**bits), 2**bits - 1)
            return builders.varint(self.draw(span))
        if name in {"float", "double"}:
            return struct.pack("<f" if name == "float" else "<d", self.draw(st.floats(width=32)))
        if name == "string":
            return self._text(
                str(self.draw(st.uuids())) if logical == "uuid" else self.draw(st.text(max_size=9))
            )
        data = self.draw(st.binary(max_size=9))
        return builders.varint(len(data)) + data

    @staticmethod
    def _text(text):
        data = text.encode()
        return builders.varint(len(data)) + data


@st.composite
def written(draw):
    """Draw a schema that is read, and the bytes of a record."""
    schema = draw(schemas())
    prepared = prepare_schema(schema)
    return schema, prepared, Writer(draw, prepared.parsed).write(prepared.parsed)


def by_fastavro(prepared, data):
    """Decode with fastavro; return the value and where it ends."""
    stream = io.BytesIO(data)
    return fastavro.schemaless_reader(stream, prepared.parsed, None), stream.tell()


# What is asked of it --------------------------------------------------------------------------------------------------


@FEW
@given(written(), st.binary(max_size=5), st.binary(max_size=5))
def test_any_record(made, before, behind):
    _, prepared, data = made
    value, end = by_fastavro(prepared, data)
    assert end == len(data)
    program = prepared.program()
    assert repr(program.decode(data)) == repr((value, end))
    assert program.skip(data) == end
    around = before + data + behind
    assert repr(program.decode(around, len(before))) == repr((value, len(before) + end))
    assert program.skip(around, len(before)) == len(before) + end
    event(f"{len(data) // 20 * 20} bytes")


@FEW
@given(written())
def test_any_record_that_fastavro_writes(made):
    _, prepared, data = made
    value, _ = by_fastavro(prepared, data)
    out = io.BytesIO()
    try:
        fastavro.schemaless_writer(out, prepared.parsed, value)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        assume(False)  # two fields of one name, or values that fastavro reads and doesn't write
    again = out.getvalue()
    try:
        expected = by_fastavro(prepared, again)
    except (ValueError, EOFError, IndexError, TypeError, OverflowError):
        assume(False)
    assert repr(prepared.program().decode(again)) == repr(expected)


def below(name, names):
    """Return what is wanted of a field: None for nothing, an empty set for all."""
    if not names or name in names:
        return set()
    return {
        rest for path in names for head, dot, rest in [path.partition(".")] if head == name and dot
    } or None


def projected(kind, value, names, named):
    """Take the wanted fields of a value: the slow way, from all of them."""
    kind = named.get(kind, kind) if isinstance(kind, str) else kind
    if not names or not isinstance(value, (dict, list)):
        return value
    if isinstance(kind, list):
        wanted = {"record", "map"} if isinstance(value, dict) else {"array"}
        kinds = [named.get(branch, branch) if isinstance(branch, str) else branch for branch in kind]
        kind = next(branch for branch in kinds if isinstance(branch, dict) and branch["type"] in wanted)
    if kind["type"] == "array":
        return [projected(kind["items"], item, names, named) for item in value]
    if kind["type"] == "map":
        return {key: projected(kind["values"], item, names, named) for key, item in value.items()}
    kinds = {item["name"]: item["type"] for item in kind["fields"]}  # the later of two
    wants = {name: below(name, names) for name in kinds}
    return {
        name: projected(kinds[name], value[name], want, named)
        for name, want in wants.items()
        if want is not None
    }


def paths(kind, named, depth=3):
    """List the names of all fields, those of records in records with a dot."""
    kind = named.get(kind, kind) if isinstance(kind, str) else kind
    if isinstance(kind, list):
        return [path for branch in kind for path in paths(branch, named, depth)]
    if not depth or not isinstance(kind, dict):
        return []
    inner = [path for key in ("items", "values") for path in paths(kind.get(key), named, depth - 1)]
    for item in kind.get("fields", ()):
        inner += [item["name"], *(f"{item['name']}.{path}" for path in paths(item["type"], named, depth - 1))]
    return inner


@FEW
@given(st.data(), written())
def test_a_projection_is_that_of_the_whole(data, made):
    _, prepared, raw = made
    named = Writer(None, prepared.parsed).named
    names = frozenset(
        data.draw(st.lists(st.sampled_from(paths(prepared.parsed, named)), min_size=1, max_size=4))
    )
    value, end = by_fastavro(prepared, raw)
    found, stop = prepared.program(names).decode(raw)
    assert repr(found) == repr(projected(prepared.parsed, value, names, named))
    assert stop <= end
    with_dots = any("." in name for name in names)
    event(f"{'inner' if with_dots else 'outer'} fields")


@FEW
@given(written())
def test_each_beginning_of_a_record_is_damaged(made):
    _, prepared, data = made
    program = prepared.program()
    for size in range(len(data)):
        for cut in (data[:size], memoryview(data)[:size], array.array("B", data[:size])):
            for look in (program.decode, program.skip):
                with pytest.raises(decoder.DamagedError) as caught:
                    look(cut)
                reason, byte, names = caught.value.args
                assert reason
                assert 0 <= byte <= size
                assert all(isinstance(name, str) for name in names)


def outcome(function, *arguments):
    """Return the text of a value, or of an error for damaged bytes."""
    try:
        return repr(function(*arguments))
    except (ValueError, OverflowError) as error:
        return error


@FEW
@given(written(), st.data())
def test_flipped_bits_give_a_value_or_an_error(made, data):
    _, prepared, raw = made
    program = prepared.program()
    for _ in range(8):
        damaged = bytearray(raw)
        for place in data.draw(st.lists(st.integers(0, 8 * len(raw) - 1), min_size=1, max_size=4)):
            damaged[place // 8] ^= 1 << place % 8
        # What stands behind the bytes must not matter.
        zeros, ones = (memoryview(bytes(damaged) + end)[: len(raw)] for end in (b"\0" * 64, b"\xff" * 64))
        found = outcome(program.decode, zeros)
        assert str(found) == str(outcome(program.decode, ones))
        assert str(outcome(program.skip, zeros)) == str(outcome(program.skip, ones))
        if isinstance(found, str):
            expected = by_fastavro(prepared, bytes(damaged))
            assert found == repr(expected)
            assert program.skip(zeros) == expected[1]
            event("a value")
        else:
            with pytest.raises(PacketError):
                decode_datum(bytes(damaged), prepared)
            event(f"{type(found).__name__}: {str(found.args[0])[:40]}")


@FEW
@given(st.sampled_from(sorted(CODECS)), written(), st.binary(min_size=16, max_size=16), st.data())
def test_any_container(codec, made, sync, data):
    schema, prepared, first = made
    writer = Writer(data.draw, prepared.parsed)
    records = [first, *(writer.write(prepared.parsed) for _ in range(data.draw(st.integers(0, 3))))]
    split = data.draw(st.integers(0, len(records)))
    parts = [part for part in (records[:split], records[split:]) if part]
    raw = builders.header(
        schema, codec=codec, schema_first=data.draw(st.booleans()), sized=data.draw(st.booleans())
    )
    raw += sync + b"".join(builders.block(CODECS[codec](b"".join(part)), len(part), sync) for part in parts)
    expected = [repr(by_fastavro(prepared, record)[0]) for record in records]
    alerts = Alert.many_from_bytes(raw)
    assert [repr(alert.packet) for alert in alerts] == expected
    assert [repr(Alert.from_bytes(alert.raw).packet) for alert in alerts] == expected
    firsts = [repr(open_packet(alert.raw).decode_beginning(frozenset({"first"}))) for alert in alerts]
    assert firsts == [repr({"first": by_fastavro(prepared, record)[0]["first"]}) for record in records]


@FEW
@given(written(), st.binary(min_size=16, max_size=16), st.integers(0, 10**6))
def test_the_only_block_is_found_as_the_slow_way_finds_it(made, sync, place):
    schema, _, record = made
    raw = bytearray(builders.header(schema) + sync + builders.block(record, 1, sync))
    begin = len(builders.header(schema))
    assert decoder.lone_block(raw, begin) == (1, len(raw) - 16 - len(record), len(raw) - 16)
    raw[begin + place % (len(raw) - begin)] ^= 1 << place % 8
    found = decoder.lone_block(raw, begin)
    try:
        with mock.patch.object(ocf, "decoder", return_value=None):
            blocks = ocf.read_container(bytes(raw)).blocks
    except PacketError:
        blocks = ()
    if found is not None or len(blocks) == 1:
        ((count, first, end),) = blocks
        # A packed block may hold more records than it has bytes, or none; that is looked at the slow way.
        assert found == ((count, first, end) if 0 < count <= end - first else None)
    event("still a block" if found else "no block")


# Real packets ---------------------------------------------------------------------------------------------------------


def test_packets_of_real_surveys(packets_dir):
    found = sorted(Path(packets_dir).rglob("*.avro"))
    assert found
    for path in found:
        raw = path.read_bytes()
        for alert in Alert.many_from_bytes(raw):
            container = ocf.read_container(alert.raw)
            prepared = container.header.schema
            for _, block in container.unpacked(alert.raw):
                value, end = by_fastavro(prepared, block)
                program = prepared.program()
                assert repr(program.decode(block)) == repr((value, end)), path
                assert program.skip(block) == end == len(block)
                one_by_one(prepared, block, value)


def one_by_one(prepared, block, value):
    """Ask for each field alone, and for those of the records inside."""
    for name, part in value.items():
        assert repr(prepared.program(frozenset({name})).decode(block)[0]) == repr({name: part})
        for inner, piece in part.items() if isinstance(part, dict) else ():
            found = prepared.program(frozenset({f"{name}.{inner}"})).decode(block)[0]
            assert repr(found) == repr({name: {inner: piece}})


def test_real_packets_in_every_container(packets_dir):
    for path in sorted(Path(packets_dir).rglob("*.avro"))[::5]:
        raw = path.read_bytes()
        container = ocf.read_container(raw)
        ((_, block),) = container.unpacked(raw)
        schema = container.header.schema
        expected = repr(by_fastavro(schema, block)[0])
        text = ocf._metadata(raw)[0][b"avro.schema"]
        for codec, pack in CODECS.items():
            packed = builders.header(text, codec=codec) + builders.SYNC + builders.block(pack(block), 1)
            assert repr(Alert.from_bytes(packed).packet) == expected
        framed = b"\0" + (900).to_bytes(4, "big") + block
        assert repr(Alert.from_bytes(framed, schema={900: schema}).packet) == expected
        assert repr(Alert.from_bytes(block, schema=schema).packet) == expected


def test_real_packets_cut_and_flipped(packets_dir):
    for path in sorted(Path(packets_dir).rglob("*.avro"))[::9]:
        container = ocf.read_container(raw := path.read_bytes())
        ((_, block),) = container.unpacked(raw)
        program = container.header.schema.program()
        for size in range(0, len(block), max(1, len(block) // 200)):
            with pytest.raises(decoder.DamagedError):
                program.decode(block[:size])
            with pytest.raises(decoder.DamagedError):
                program.skip(array.array("B", block[:size]))
        for bit in range(0, 8 * len(block), max(1, len(block) // 25)):
            damaged = bytearray(block)
            damaged[bit // 8] ^= 1 << bit % 8
            found = outcome(program.decode, damaged)
            if isinstance(found, str):
                assert found == repr(by_fastavro(container.header.schema, bytes(damaged)))
