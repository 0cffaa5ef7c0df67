"""A packet decoded in parts says what the whole one says: values, keys, entries; and is damaged exactly when that one is.

So it is when its values are only passed over.
"""

from __future__ import annotations

from pathlib import Path

import fastavro
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from test_avro_compiled import LOGICAL, PRIMITIVES, Types, Writer

import builders
from builders import record_type, varint
from nuncius import Alert
from nuncius.alerts.packets import Packet, compiled
from nuncius.alerts.packets.schemas import prepare_schema
from nuncius.archives.documents import _KEY_FIELDS, Contents
from nuncius.errors import PacketError

if compiled.decoder() is None:
    pytest.skip("needs the compiled decoder, which was not built or is switched off", allow_module_level=True)

FEW = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
UNKNOWN = {"type": "string", "logicalType": "of-nobody"}  # is left as it is
ENTRY = record_type("e", {"x": "int", "y": ["null", "int"]})
TEXT = record_type("e", {"x": "int", "text": "string"})


# Random schemas with lists --------------------------------------------------------------------------------------------


class Lists(Types):
    """Draws records that have lists of records: plain ones mostly."""

    def __init__(self, draw):
        super().__init__(draw)
        self.plain = {}  # full name of a record: whether it is plain

    def flat(self):
        """Draw a type that is decoded exactly when it can be passed over."""
        kind = self.draw(st.sampled_from([*PRIMITIVES, UNKNOWN]))
        way = self.draw(st.sampled_from(["bare", "null first", "null last", "dict", "many"]))
        if way == "bare" or kind == "null":
            return kind
        if way == "dict":
            return kind if isinstance(kind, dict) else {"type": kind}
        if way == "many":
            return self.draw(st.permutations(["null", kind, "bytes", "string"]))
        return ["null", kind] if way == "null first" else [kind, "null"]

    def odd(self, space):
        """Draw a type that is not plain, or whose values are converted."""
        way = self.draw(st.sampled_from(["logical", "enum", "fixed", "array", "map", "record"]))
        if way == "logical":
            return self.draw(st.sampled_from([kind for kind in LOGICAL if kind != UNKNOWN]))
        kind = getattr(self, way)(space, 1)
        return self.draw(st.sampled_from([kind, ["null", kind]]))

    def entry(self, namespace):
        """Draw the record of a list; return it and its name."""
        written, full = self.name(namespace)
        self.known[full] = False
        space = full.rpartition(".")[0]
        names = self.draw(st.lists(st.sampled_from("abcdefgh"), max_size=6, unique=True))
        fields = [{"name": name, "type": self.flat()} for name in ["id", *names]]
        fields[0]["type"] = self.draw(st.sampled_from(["long", ["null", "long"], "string", UNKNOWN]))
        self.plain[full] = True
        what = self.draw(st.sampled_from(["plain"] * 9 + ["odd", "twice"]))
        if what == "odd":
            fields.append({"name": "odd", "type": self.odd(space)})
        elif what == "twice":
            fields.append({"name": "id", "type": self.flat()})
        self.plain[full] = what == "plain"
        self.known[full] = True
        fields = self.draw(st.permutations(fields))
        return {"type": "record", **written, "fields": fields}, full

    def a_list(self, namespace):
        """Draw the type of a list; return whether its entries are plain too."""
        known = [name for name in self.plain if name in self.known_here(namespace, complete=True)]
        if known and self.draw(st.booleans()):
            item = full = self.draw(st.sampled_from(known))
        else:
            item, full = self.entry(namespace)
        kind = {"type": "array", "items": item}
        return self.draw(st.sampled_from([kind, ["null", kind], [kind, "null"]])), self.plain[full]

    def root(self):
        """Draw the record of an alert; return whether it is decoded in parts too, and the names of its lists."""
        written, full = self.name("")
        self.known[full] = False
        space = full.rpartition(".")[0]
        fields, marked, plain = [{"name": "first", "type": "long"}], [], True
        for at in range(self.draw(st.integers(1, 4))):
            if self.draw(st.booleans()):  # an entry may be known before its list
                kind = self.entry(space)[0] if self.draw(st.booleans()) else self.inner_of(full, space)
                fields.append({"name": f"field{at}", "type": kind})
            kind, is_plain = self.a_list(space)
            fields.append({"name": f"list{at}", "type": kind})
            if self.draw(st.integers(0, 3)):  # some lists are not asked for
                marked.append(f"list{at}")
                plain = plain and is_plain
        if self.draw(st.integers(0, 9)) == 0:
            fields.append({"name": "first", "type": "int"})
            plain = False
        self.known[full] = True
        return {"type": "record", **written, "fields": fields}, tuple(marked), plain

    def inner_of(self, full, space):
        """Draw any type, or a value that holds such a record again."""
        again = full if "." in full or not space else None
        ways = ["any", "any", "optional", "many"] if again else ["any"]
        way = self.draw(st.sampled_from(ways))
        if way == "any":
            return self.kind(space, 2)
        return ["null", again] if way == "optional" else {"type": "array", "items": again}


@st.composite
def written(draw):
    """Draw a schema with lists, the bytes of a record, what to ask for, and whether it is given in parts."""
    schema, lists, plain = Lists(draw).root()
    prepared = prepare_schema(schema)
    keys = frozenset(draw(st.lists(st.sampled_from(["id", *"abcd", "nothing"]), max_size=4)))
    data = Writer(draw, prepared.parsed).write(prepared.parsed)
    return packet_of(prepared, data), (*lists, "missing"), keys, plain


def packet_of(schema, data):
    """Make a packet of a record, whose outside nobody has looked at."""
    prepared = prepare_schema(schema)
    return Packet("avro-datum", prepared.name, bytes(data), _schema=prepared)


def with_bytes(packet, data):
    """Make the packet of the same schema with other bytes."""
    return packet_of(packet._schema, data)


# What is asked of it --------------------------------------------------------------------------------------------------


def outcome(function, *arguments):
    """Return what is decoded, or the error; any other than ours gets through."""
    try:
        return function(*arguments)
    except PacketError as error:
        return error


def without_nulls(values):
    return {name: value for name, value in values.items() if value is not None}


def compare(packet, lists, keys):
    """See that the parts say what the whole says; return "damaged", "whole", or None if it isn't given in parts."""
    whole = outcome(packet.decode)
    passed = outcome(packet.passes)
    assert passed is False or isinstance(passed, PacketError) == isinstance(whole, PacketError)
    parts = outcome(packet.decode_in_parts, lists, keys)
    if parts is None:
        return None
    if isinstance(whole, PacketError) or isinstance(parts, PacketError):
        assert isinstance(parts, PacketError), f"only the whole is damaged: {whole}"
        assert isinstance(whole, PacketError), f"only the parts are damaged: {parts}"
        return "damaged"
    assert list(parts.values) == list(whole)
    for name, value in whole.items():
        if name not in lists or value is None:
            assert repr(parts.values[name]) == repr(value)
            continue
        found = parts.values[name]
        wanted = [{key: part for key, part in entry.items() if key in keys} for entry in value]
        assert repr([keyed for _, keyed in found]) == repr(wanted)
        entries = [parts.entry(name, begin) for begin, _ in found]
        assert repr(entries) == repr([*map(without_nulls, value)])
    return "whole"


@FEW
@given(written())
def test_any_record(made):
    packet, lists, keys, plain = made
    assert compare(packet, lists, keys) == ("whole" if plain else None)
    count = sum(len(packet.decode()[name] or ()) for name in lists[:-1])
    event(f"{min(count, 4)} entries" if plain else "not in parts")


@FEW
@given(written())
def test_each_beginning_of_a_record_is_damaged(made):
    packet, lists, keys, plain = made
    assume(plain)
    for size in range(packet.size):
        assert compare(with_bytes(packet, packet._body[:size]), lists, keys) == "damaged"


@FEW
@given(written(), st.data())
def test_flipped_bits(made, data):
    packet, lists, keys, plain = made
    assume(plain)
    for _ in range(8):
        damaged = bytearray(packet._body)
        for place in data.draw(st.lists(st.integers(0, 8 * packet.size - 1), min_size=1, max_size=4)):
            damaged[place // 8] ^= 1 << place % 8
        event(compare(with_bytes(packet, damaged), lists, keys))


@FEW
@given(written(), st.data())
def test_bytes_put_in_taken_out_and_replaced(made, data):
    packet, lists, keys, plain = made
    assume(plain)
    raw = packet._body
    for _ in range(8):
        begin, end = sorted(data.draw(st.lists(st.integers(0, len(raw)), min_size=2, max_size=2)))
        other = data.draw(st.one_of(st.binary(max_size=6), st.integers(-(2**63), 2**63 - 1).map(varint)))
        event(compare(with_bytes(packet, raw[:begin] + other + raw[end:]), lists, keys))


@FEW
@given(written(), st.lists(st.binary(max_size=99), min_size=8, max_size=8))
def test_any_bytes(made, inputs):
    packet, lists, keys, plain = made
    assume(plain)
    for data in inputs:
        event(compare(with_bytes(packet, data), lists, keys))


@FEW
@given(st.lists(st.binary(max_size=6), min_size=1, max_size=3), st.sets(st.sampled_from(["x", "text"])))
def test_any_bytes_as_texts(texts, keys):
    items = b"".join(varint(at) + varint(len(text)) + text for at, text in enumerate(texts))
    packet = packet_of(with_list(TEXT), varint(len(texts)) + items + varint(0))
    event(compare(packet, ("l",), frozenset(keys)))


def with_list(item, **more):
    """Make the schema of a record with a list."""
    return record_type("r", {**more, "l": {"type": "array", "items": item}})


@pytest.mark.parametrize(
    "text",
    [b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\x80",
     b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xfe", b"\xff", b"\xe2\x82", b"abc\xff", b"\xe2\x82\xac\x80"],
)  # fmt: skip
def test_a_text_that_is_none_is_found_also_where_it_is_passed_over(text):
    data = varint(1) + varint(5) + varint(len(text)) + text + varint(0)
    assert compare(packet_of(with_list(TEXT), data), ("l",), frozenset({"x"})) == "damaged"


@pytest.mark.parametrize("text", ["", "\0", "é", "\ud7ff\ue000", "\U0010ffff", "plain"])
def test_a_text_at_the_edge_of_unicode(text):
    data = varint(1) + varint(5) + varint(len(text.encode())) + text.encode() + varint(0)
    assert compare(packet_of(with_list(TEXT), data), ("l",), frozenset({"x"})) == "whole"


# The same bounds ------------------------------------------------------------------------------------------------------


def test_the_number_of_values_has_one_bound():
    """Fields that are passed over count as those that are made do."""
    schema = with_list(record_type("e", {"x": "int", **{f"n{at}": "null" for at in range(999)}}))
    found = [
        compare(packet_of(schema, varint(count) + varint(0) * count + varint(0)), ("l",), frozenset({"x"}))
        for count in range(95, 106)
    ]
    assert found == sorted(found, reverse=True)
    assert set(found) == {"whole", "damaged"}


def test_depth_has_one_bound():
    """A record that contains itself nests as deep, whether its own list is given whole or in parts."""
    schema = with_list(ENTRY, next=["null", "r"])
    found = []
    for depth in range(90, 110):
        data = varint(1) * depth + varint(0) + (varint(1) + varint(2) + varint(0) + varint(0)) * (depth + 1)
        found.append(compare(packet_of(schema, data), ("l",), frozenset({"x"})))
    assert found == sorted(found, reverse=True)
    assert set(found) == {"whole", "damaged"}


def test_values_that_take_no_bytes_count_also_where_all_is_of_one_size():
    full = record_type("full", {**{f"n{at}": "null" for at in range(999)}, "x": "double"})
    schema = record_type("r", {"many": {"type": "array", "items": full}})
    found = [bounds_of(schema, varint(count) + bytes(8 * count) + varint(0)) for count in range(95, 111)]
    assert set(found) == {"whole", "damaged"}


def test_records_of_one_size_nest_as_deep_as_others():
    inner = record_type("i3", {"i2": record_type("i2", {"i1": record_type("i1", {"x": "double"})})})
    schema = record_type("r", {"inner": inner, "next": ["null", "r"]})
    found = [
        bounds_of(schema, (bytes(8) + varint(1)) * depth + bytes(8) + varint(0)) for depth in range(90, 110)
    ]
    assert set(found) == {"whole", "damaged"}


def bounds_of(schema, data):
    """Tell whether a packet can be decoded and passed over; raise if one can and the other can't."""
    packet = packet_of(schema, data)
    whole, passed = outcome(packet.decode), outcome(packet.passes)
    assert isinstance(passed, PacketError) == isinstance(whole, PacketError)
    return "damaged" if isinstance(whole, PacketError) else "whole"


@pytest.mark.parametrize(
    ("schema", "data"), [("string", b"\2a"), ({"type": "array", "items": "int"}, b"\2\2\0")]
)
def test_what_is_no_record_does_not_pass(schema, data):
    packet = packet_of(schema, data)
    assert packet.passes() is False
    with pytest.raises(PacketError, match="an alert is a record"):
        packet.decode()


@pytest.mark.parametrize("kind", LOGICAL)
def test_values_that_are_converted_do_not_pass(kind):
    packet = packet_of(record_type("r", {"x": ["null", kind]}), varint(0))
    assert packet.passes() is (kind == UNKNOWN)


def test_what_is_left_over_behind_the_record():
    packet = packet_of(with_list(ENTRY), varint(0) + b"\0")
    assert compare(packet, ("l",), frozenset({"x"})) == "damaged"


@pytest.mark.parametrize("told", [-1, 0, 1])
def test_the_size_of_a_block(told):
    entry = varint(7) + varint(1) + varint(8)
    data = varint(-1) + varint(len(entry) + told) + entry + varint(0) + b"\0" * (told > 0)
    expected = "damaged" if told else "whole"
    assert compare(packet_of(with_list(ENTRY), data), ("l",), frozenset({"y"})) == expected


# Types that are no lists of plain records -----------------------------------------------------------------------------

ONE = varint(1) + varint(1) + varint(0) + varint(0)  # a block of one ENTRY without `y`
NOT_IN_PARTS = {
    "no branch": ([], varint(0)),
    "a number": ("int", varint(1)),
    "a map": ({"type": "map", "values": ENTRY}, varint(0)),
    "a record": (ENTRY, varint(1) + varint(0)),
    "numbers": ({"type": "array", "items": "int"}, varint(1) * 2 + varint(0)),
    "unions": ({"type": "array", "items": ["null", ENTRY]}, varint(1) + varint(0) * 2),
    "lists": ({"type": "array", "items": {"type": "array", "items": ENTRY}}, varint(0)),
    "two lists": (
        ["null", {"type": "array", "items": ENTRY}, {"type": "array", "items": record_type("s", {"text": "string"})}],
        varint(1) + varint(1) + varint(1) + varint(1) + varint(2) + varint(0),
    ),
    "a list or a number": (["null", {"type": "array", "items": ENTRY}, "int"], varint(2) + varint(5)),
    "an error": ({"type": "array", "items": ENTRY | {"type": "error"}}, ONE),
    "records that hold themselves": (
        {"type": "array", "items": record_type("s", {"x": "int", "again": ["null", "s"]})}, ONE,
    ),
    "the record itself": ({"type": "array", "items": "r"}, varint(0)),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_IN_PARTS)
def test_what_is_not_given_in_parts(name):
    kind, data = NOT_IN_PARTS[name]
    packet = packet_of(record_type("r", {"first": "int", "l": kind}), varint(0) + data)
    assert packet.decode_in_parts(("l",), frozenset({"x"})) is None
    if kind:
        assert packet.decode()["first"] == 0


@pytest.mark.parametrize("name", PRIMITIVES)
def test_a_record_that_is_named_like_a_primitive_type(name):
    """Of that name the primitive type is meant, as for fastavro."""
    fields = {"own": record_type(name, {"x": "int"}), "l": {"type": "array", "items": name}}
    if name == "null":  # an array of which is not read
        fields["l"] = ["null", {"type": "array", "items": record_type("e", {"x": "int"})}]
        packet = packet_of(record_type("r", fields), varint(4) + varint(0))
        assert compare(packet, ("l",), frozenset({"x"})) == "whole"
        return
    packet = packet_of(record_type("r", fields), varint(4) + varint(1) + b"\2" + bytes(8))
    assert compare(packet, ("l",), frozenset({"x"})) is None


def test_a_list_that_a_reader_of_logical_types_converts(monkeypatch):
    monkeypatch.setitem(fastavro.read.LOGICAL_READERS, "array-counted", lambda value, *_: len(value))
    kind = {"type": "array", "items": ENTRY, "logicalType": "counted"}
    packet = packet_of(record_type("r", {"first": "int", "l": kind}), varint(0) + ONE)
    assert packet.decode() == {"first": 0, "l": 1}
    assert packet.decode_in_parts(("l",), frozenset({"x"})) is None


# Real packets ---------------------------------------------------------------------------------------------------------


def real_ones(folder):
    """Give each real packet twice, opened and not decoded yet, with the lists of its survey."""
    paths = sorted(Path(folder).rglob("*.avro"))
    assert paths
    for path in paths:
        raw = path.read_bytes()
        for alert, again in zip(Alert.many_from_bytes(raw), Alert.many_from_bytes(raw), strict=True):
            yield path.name, alert, again


def test_packets_of_real_surveys(packets_dir):
    in_parts = 0
    for name, alert, again in real_ones(packets_dir):
        lists = alert._known_survey.history_lists
        packet = alert._opened
        for keys in (_KEY_FIELDS, frozenset(), frozenset({"jd", "midpointMjdTai", "magpsf", "band"})):
            found = compare(packet, lists, keys)
            assert found in {"whole", None}, name
        in_parts += found is not None
        assert again.object_id == alert.object_id
        same_contents(alert, again)
    assert in_parts > 10


def same_contents(decoded, fresh):
    """See that an archive keeps the same of a packet, whether it was decoded before or not."""
    assert decoded.packet
    expected, found = Contents(decoded, "document"), Contents(fresh, "document")
    assert repr(found.document) == repr(expected.document)
    assert repr(found.annotations) == repr(expected.annotations)
    assert repr(fresh._read) == repr(decoded._read)
    assert {name: [*keys] for name, keys in found.histories.items()} == {
        name: [*keys] for name, keys in expected.histories.items()
    }
    for name, keys in found.histories.items():
        assert [repr(found.entry(name, key)) for key in keys] == [
            repr(expected.entry(name, key)) for key in keys
        ]


def test_real_packets_cut_and_flipped(packets_dir):
    found = set()
    for _, alert, _ in [*real_ones(packets_dir)][::3]:
        lists = alert._known_survey.history_lists
        packet = packet_of(alert._opened._written_with, alert._opened._record())
        raw = packet._body
        for size in range(0, len(raw), max(1, len(raw) // 60)):
            assert compare(with_bytes(packet, raw[:size]), lists, _KEY_FIELDS) in {"damaged", None}
        for bit in range(0, 8 * len(raw), max(1, len(raw) // 25)):
            damaged = bytearray(raw)
            damaged[bit // 8] ^= 1 << bit % 8
            found.add(compare(with_bytes(packet, damaged), lists, _KEY_FIELDS))
    assert {"whole", "damaged"} <= found


def test_bits_flipped_in_the_histories_of_real_packets(packets_dir):
    found = set()
    for _, alert, _ in [*real_ones(packets_dir)][::4]:
        lists = alert._known_survey.history_lists
        packet = packet_of(alert._opened._written_with, alert._opened._record())
        parts = packet.decode_in_parts(lists, _KEY_FIELDS)
        begins = [begin for name in lists for begin, _ in parts.values.get(name) or ()] if parts else []
        for begin in begins[:: max(1, len(begins) // 4)]:
            for bit in range(8 * begin, min(8 * begin + 600, 8 * packet.size), 7):
                damaged = bytearray(packet._body)
                damaged[bit // 8] ^= 1 << bit % 8
                found.add(compare(with_bytes(packet, damaged), lists, _KEY_FIELDS))
    assert {"whole", "damaged"} <= found


@pytest.mark.parametrize("version", builders.LSST_VERSIONS)
def test_rubins_packets_cut_anywhere(version):
    data = builders.datum(
        builders.lsst_schema(version),
        builders.lsst_record(
            version,
            prvDiaSources=[builders.lsst_source(version, diaSourceId=5), builders.lsst_source(version)],
            prvDiaForcedSources=[builders.lsst_forced(version)],
        ),
    )
    packet = packet_of(builders.lsst_schema(version), data)
    lists = ("prvDiaSources", "prvDiaForcedSources", "prvDiaNondetectionLimits")
    assert compare(packet, lists, _KEY_FIELDS) in {"whole", None}
    for size in range(len(data)):
        assert compare(with_bytes(packet, data[:size]), lists, _KEY_FIELDS) in {"damaged", None}
