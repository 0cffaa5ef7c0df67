"""Each bound of the compiled decoder holds; `test_avro_mutants.py` takes them out, one by one."""

from __future__ import annotations

import array
import decimal
import sys
import time
from dataclasses import dataclass

import pytest

from avro_support import (
    ARRAY,
    BAND,
    DOUBLE,
    ENUM,
    FIXED,
    LONG,
    MAP,
    NOTHING,
    RECORD,
    UNION,
    attempt,
    decoder,
    growth,
    items,
    node,
    program_of,
    record,
    values,
)  # fmt: skip
from builders import varint
from nuncius.alerts.packets import decode_datum, schemas
from nuncius.alerts.packets.schemas import prepare_schema
from nuncius.errors import PacketError, SchemaError

ENDS = "the bytes end within a value"
ENDS_IN_NUMBER = "the bytes end within a number"
TOO_MANY = "it holds more values than are allowed"
TOO_LONG = "a number is longer than 64 bits"
WRONG_BLOCK = "a block does not have the size that it says"
NO_SYMBOL = "a symbol is not one of its type"
NO_BRANCH = "a union has no such branch"
COUNT = "a count is larger than the bytes that are left"


CHAIN = record("int", ["null", "r"])
FULL = record(*["null"] * 1000, "int")
SAME_SIZE = record(*["null"] * 1000, "double")


@dataclass(frozen=True)
class Bound:
    """Bytes that a bound refuses, and how its line is taken out of the source."""

    id: str
    schema: object  # or the nodes of a program, as a tuple
    data: bytes
    reason: str
    look: str  # decode or skip
    old: str
    new: str = ""
    within: str = ""  # the function that holds the line, where several do


def both(name, schema, data, reason, old, new="", within=""):
    """Make the bounds of one line that decoding and passing over share."""
    return [
        Bound(f"{name}-{look}", schema, data, reason, look, old, new, within) for look in ("decode", "skip")
    ]


BOUNDS = [
    *both("number cut off", "long", b"\x80", ENDS_IN_NUMBER, f'if (at == end) return fail(c, "{ENDS_IN_NUMBER}");'),
    *both("number of 65 bits", "long", b"\xff" * 9 + b"\x02", TOO_LONG,
          f'if (shift == 63 && byte > 1) return fail(c, "{TOO_LONG}");'),
    *both("number of 11 bytes", "long", b"\xff" * 9 + b"\x81\x00", TOO_LONG,
          f'if (shift == 63 && byte > 1) return fail(c, "{TOO_LONG}");'),
    *both("length below 0", "string", varint(-1), "a length is negative",
          'if (value < 0) return fail(c, "a length is negative");'),
    *both("length beyond the end", "string", varint(4) + b"abc", ENDS,
          f'if (value > (int64_t)left(c)) return fail(c, "{ENDS}");'),
    *both("least count", items("long"), b"\xff" * 9 + b"\x01" + varint(0) * 2, "a count is impossible",
          'if (n == INT64_MIN) return fail(c, "a count is impossible");'),
    *both("count beyond the end", items("long"), varint(1000) + varint(0) * 9, COUNT,
          f'if (least > 0 && n > (int64_t)(left(c) / least)) return fail(c, "{COUNT}");'),
    *both("count of a map", values("null"), varint(10) + varint(0) * 9, COUNT, "Py_ssize_t least = item->least + extra;",
          "Py_ssize_t least = item->least + 0 * extra;"),
    *both("huge count of fixed sizes", items("double"), varint(2**61) + varint(0), COUNT,
          f'if (least > 0 && n > (int64_t)(left(c) / least)) return fail(c, "{COUNT}");'),
    *both("items without bytes", (node(ARRAY, 1), node(NOTHING, fixed=0, least=0)), varint(100_100) + varint(0), TOO_MANY,
          "return take(c, n);", "return 0;"),
    *both("very many values", (node(ARRAY, 1), node(NOTHING, fixed=0, least=0)),
          varint(10_000_001) + varint(0) + bytes(2_600_000), TOO_MANY, ": VALUES_AT_MOST;", ": INT64_MAX;"),
    *both("records of many fields", items(FULL), (varint(120) + varint(0) * 120) * 2 + varint(0), TOO_MANY,
          f'if (count > c->values_left) return fail(c, "{TOO_MANY}");'),
    Bound("fields that are made", items(FULL), varint(120) + varint(0) * 121, TOO_MANY, "decode",
          "if (take(c, node->count) < 0) return NULL;"),
    Bound("fields that are passed over", items(FULL), varint(120) + varint(0) * 121, TOO_MANY, "skip",
          "result = take(c, node->count);"),
    Bound("size of what is passed over", "double", bytes(7), ENDS, "skip",
          f'if (node->fixed > left(c)) return fail(c, "{ENDS}");'),
    Bound("symbol below 0, passed over", BAND, varint(-1), NO_SYMBOL, "skip", "return value < 0 || value >=", "return value >="),
    Bound("symbol too large, passed over", BAND, varint(2), NO_SYMBOL, "skip", "return value < 0 || value >= node->count",
          "return value < 0"),
    Bound("branch below 0, passed over", ["null"], varint(-1), NO_BRANCH, "skip",
          'if (value < 0 || value >= node->count) return fail(c, "a union', 'if (value >= node->count) return fail(c, "a union'),
    Bound("branch too large, passed over", ["null"], varint(1), NO_BRANCH, "skip",
          'if (value < 0 || value >= node->count) return fail(c, "a union', 'if (value < 0) return fail(c, "a union'),
    Bound("symbol below 0", BAND, varint(-1), NO_SYMBOL, "decode",
          'if (value < 0 || value >= node->count) { fail(c, "a symbol', 'if (value >= node->count) { fail(c, "a symbol'),
    Bound("symbol too large", BAND, varint(2), NO_SYMBOL, "decode",
          'if (value < 0 || value >= node->count) { fail(c, "a symbol', 'if (value < 0) { fail(c, "a symbol'),
    Bound("branch below 0", ["null"], varint(-1), NO_BRANCH, "decode",
          'if (value < 0 || value >= node->count) { fail(c, "a union', 'if (value >= node->count) { fail(c, "a union'),
    Bound("branch too large", ["null"], varint(1), NO_BRANCH, "decode",
          'if (value < 0 || value >= node->count) { fail(c, "a union', 'if (value < 0) { fail(c, "a union'),
    Bound("boolean", "boolean", b"", ENDS, "decode", f'if (left(c) < 1) {{ fail(c, "{ENDS}"); return NULL; }}'),
    Bound("float", "float", bytes(3), ENDS, "decode", f'if (left(c) < 4) {{ fail(c, "{ENDS}"); return NULL; }}'),
    Bound("double", "double", bytes(7), ENDS, "decode", f'if (left(c) < 8) {{ fail(c, "{ENDS}"); return NULL; }}'),
    Bound("fixed", {"type": "fixed", "name": "x", "size": 9}, bytes(8), ENDS, "decode",
          f'if (size > left(c)) {{ fail(c, "{ENDS}"); return NULL; }}'),
    Bound("depth", CHAIN, b"\2\2" * 150 + b"\2\0", "it nests too deep", "decode",
          'if (++c->depth > MAX_DEPTH) { fail(c, "it nests too deep"); return NULL; }'),
    Bound("depth of what is passed over", CHAIN, b"\2\2" * 150 + b"\2\0", "it nests too deep", "skip",
          'if (++c->depth > MAX_DEPTH) return fail(c, "it nests too deep");'),
    Bound("size of a block of an array", items("long"), varint(-1) + varint(2) + b"\2" + b"\0", WRONG_BLOCK, "decode",
          "if (end != NULL && c->at != end)", "if (0)", "decode_array(Cursor *c"),
    Bound("size of a block of a map", values("long"), varint(-1) + varint(3) + b"\0\2" + b"\0", WRONG_BLOCK, "decode",
          "if (end != NULL && c->at != end)", "if (0)", "decode_map(Cursor *c"),
    Bound("items that are records of one size", items(SAME_SIZE), varint(110) + bytes(880) + varint(0), TOO_MANY, "skip",
          "item->fixed >= 0 && item->kind != RECORD", "item->fixed >= 0"),
    Bound("records of one size", items([SAME_SIZE]), varint(110) + bytes(990) + varint(0), TOO_MANY, "skip",
          "if (node->fixed >= 0 && node->kind != RECORD)", "if (node->fixed >= 0)"),
    Bound("text that is passed over", "string", varint(1) + b"\xff", "a text is not UTF-8", "skip",
          'return fail(c, "a text is not UTF-8");', "return 0;"),
    Bound("key that is passed over", values("null"), varint(1) + varint(1) + b"\xff" + b"\0", "a text is not UTF-8", "skip",
          "if (is_map && skip_text(c) < 0) return -1;", "if (is_map && read_size(c, &count) == 0) c->at += count, count = 1;"),
    Bound("size of a block that is passed over", values("long"), varint(-1) + varint(3) + b"\0\2" + b"\0", WRONG_BLOCK, "skip",
          "if (end != NULL && c->at != end)", "if (0)", "skip_items(Cursor *c"),
]  # fmt: skip


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.id)
def test_a_bound_holds(bound):
    # An array lies alone in memory, so that tools that watch it see a read behind its end.
    data = array.array("B", bound.data)
    with pytest.raises(decoder.DamagedError) as caught:
        getattr(program_of(bound.schema), bound.look)(data)
    reason, byte, _ = caught.value.args
    assert reason == bound.reason
    assert 0 <= byte <= len(data)


def test_what_just_fits_is_read():
    """The bounds refuse no more than they must."""
    for schema, data in [
        ("long", b"\xff" * 9 + b"\x01"),
        ("string", varint(3) + b"abc"),
        (items("double"), varint(2) + bytes(16) + varint(0)),
        (values("null"), varint(3) + b"\2a\2b\2c" + varint(0)),
        (items(FULL), varint(90) + varint(0) * 90 + varint(0)),
        (BAND, varint(1)),
        (["null", "int"], varint(1) + varint(0)),
        (CHAIN, b"\2\2" * 99 + b"\2\0"),
        (items("long"), varint(-1) + varint(1) + b"\2" + b"\0"),
    ]:
        program = program_of(schema)
        assert program.decode(data)[1] == program.skip(data) == len(data)


def test_the_names_of_deep_fields_are_bounded():
    schema = "long"
    for depth in range(15):
        schema = record(schema, name=f"r{depth}")
    with pytest.raises(decoder.DamagedError) as caught:
        program_of(schema).decode(b"")
    assert caught.value.args == (ENDS_IN_NUMBER, 0, ("f0",) * 8)
    with pytest.raises(decoder.DamagedError) as caught:
        program_of(schema).skip(b"")
    assert caught.value.args == (ENDS_IN_NUMBER, 0, ("f0",) * 8)


@pytest.mark.parametrize("begin", [-1, 4, 2**62, -(2**62)])
def test_a_beginning_outside_of_the_data(begin):
    program = program_of("boolean")
    for look in (program.decode, program.skip):
        with pytest.raises(ValueError, match="begin lies outside"):
            look(b"abc", begin)


def test_a_beginning_at_the_end():
    with pytest.raises(decoder.DamagedError):
        program_of("boolean").decode(b"abc", 3)
    assert program_of("null").decode(b"abc", 3) == (None, 3)


SYNC = bytes(range(100, 116))
BLOCK = SYNC + varint(1) + varint(3) + b"abc" + SYNC


@pytest.mark.parametrize(
    ("raw", "begin"),
    [
        pytest.param(BLOCK, -1, id="begin below 0"),
        pytest.param(BLOCK, len(BLOCK) - 15, id="no room for the marker"),
        pytest.param(BLOCK, 2**45, id="begin far behind it"),
        pytest.param(BLOCK[:16], 0, id="no room for a count"),
        pytest.param(BLOCK[:20], 0, id="no room for the data"),
        pytest.param(BLOCK[:-1], 0, id="no room for the second marker"),
        pytest.param(BLOCK + b"x", 0, id="more behind it"),
        pytest.param(BLOCK[:-1] + b"x", 0, id="another marker"),
        pytest.param(SYNC + varint(0) + varint(3) + b"abc" + SYNC, 0, id="no records"),
        pytest.param(SYNC + varint(-1) + varint(3) + b"abc" + SYNC, 0, id="records below 0"),
        pytest.param(SYNC + varint(4) + varint(3) + b"abc" + SYNC, 0, id="more records than bytes"),
        pytest.param(SYNC + varint(1) + varint(-3) + SYNC, 0, id="a size below 0"),
        pytest.param(SYNC + varint(1) + varint(2**62) + b"abc" + SYNC, 0, id="a huge size"),
        pytest.param(b"", 0, id="nothing"),
    ],
)
def test_what_is_no_lone_block(raw, begin):
    assert decoder.lone_block(array.array("B", raw), begin) is None


def test_a_block_that_begins_before_the_data():
    assert decoder.lone_block(memoryview(BLOCK)[5:], -5) is None


def test_a_lone_block():
    assert decoder.lone_block(b"abc" + BLOCK, 3) == (1, 21, 24)


@pytest.mark.parametrize(
    ("nodes", "error"),
    [
        pytest.param((), ValueError, id="no node"),
        pytest.param([node(LONG)], TypeError, id="no tuple"),
        pytest.param((None,), TypeError, id="no node's tuple"),
        pytest.param((node(-1),), ValueError, id="kind below 0"),
        pytest.param((node(13),), ValueError, id="unknown kind"),
        pytest.param((node(LONG, fixed=-2),), ValueError, id="size below -1"),
        pytest.param((node(LONG, least=-1),), ValueError, id="least below 0"),
        pytest.param((node(LONG, least=sys.maxsize),), ValueError, id="least too large"),
        pytest.param((node(DOUBLE, fixed=8, least=0),), ValueError, id="a least that is not the size"),
        pytest.param((node(FIXED),), ValueError, id="fixed without a size"),
        pytest.param((node(ARRAY),), ValueError, id="an array of nothing"),
        pytest.param((node(MAP, 0, 0),), ValueError, id="a map of two"),
        pytest.param((node(LONG, 0),), ValueError, id="a number of something"),
        pytest.param((node(ARRAY, 1),), IndexError, id="a child too far"),
        pytest.param((node(ARRAY, -1),), IndexError, id="a child below 0"),
        pytest.param((node(UNION, "0"),), TypeError, id="a child that is no number"),
        pytest.param((node(RECORD, 0, names=("a",)),), ValueError, id="a record without flags"),
        pytest.param((node(RECORD, 0, names=("a",), wanted=b"\1\1"),), ValueError, id="too many flags"),
        pytest.param(
            (node(RECORD, 0, names=("a",), wanted=b"\1", looked_at=2),), ValueError, id="looked at too far"
        ),
        pytest.param(
            (node(RECORD, 0, names=("a",), wanted=b"\1", looked_at=-1),), ValueError, id="looked at below 0"
        ),
        pytest.param(
            (node(RECORD, names=("a",), wanted=b"\1", looked_at=1),), ValueError, id="a field without a type"
        ),
        pytest.param((node(RECORD, 0, names=(1,), wanted=b"\1"),), TypeError, id="a name that is no text"),
        pytest.param((node(ENUM, names=(b"g",)),), TypeError, id="a symbol that is no text"),
        pytest.param((node(ENUM, names=None),), TypeError, id="no symbols"),
        pytest.param((node(LONG, style=1),), ValueError, id="a number in a style"),
        pytest.param(
            (node(RECORD, 1, 1, names=("a", "a"), wanted=b"\1\1", looked_at=2, style=1), node(LONG)),
            ValueError,
            id="a sparse record with two fields of one name",
        ),
    ],
)
def test_what_is_no_program(nodes, error):
    with pytest.raises(error):
        decoder.Program(nodes)
    assert growth(lambda: attempt(decoder.Program, nodes), 200) < 100  # one a round would be 200


def test_what_is_no_data():
    program = program_of("long")
    for arguments in [(), (b"", 0, 0), ("abc",), (None,), (b"\0", "0"), (b"\0", 2**70)]:
        for look in (program.decode, program.skip):
            with pytest.raises((TypeError, OverflowError)):
                look(*arguments)
        with pytest.raises((TypeError, OverflowError)):
            decoder.lone_block(*arguments[:1], *(["0"] if len(arguments) == 2 else []))


# Schemas --------------------------------------------------------------------------------------------------------------


def test_records_that_contain_themselves():
    schema = record("int", ["null", "r"], items("r"), values("r"))
    fields = [
        b"\2",
        b"\2" + b"\4\0\0\0",
        varint(1) + b"\6\0\0\0" + varint(0),
        varint(1) + b"\2k" + b"\x08\0\0\0" + varint(0),
    ]
    data = b"".join(fields)
    leaf = {"f1": None, "f2": [], "f3": {}}
    assert decode_datum(data, prepare_schema(schema)) == (
        {"f0": 1, "f1": {"f0": 2, **leaf}, "f2": [{"f0": 3, **leaf}], "f3": {"k": {"f0": 4, **leaf}}},
        len(data),
    )


def test_they_are_read_to_a_bounded_depth():
    with pytest.raises(PacketError, match=r"it nests too deep in .*f1 near byte"):
        decode_datum(b"\2\2" * 10**6, prepare_schema(CHAIN))


@pytest.mark.parametrize("schema", [record("r"), record("int", record("r", "null", "r", name="s"))])
def test_a_record_without_end(schema):
    with pytest.raises(SchemaError, match="the record r contains itself without end"):
        prepare_schema(schema)


@pytest.mark.parametrize("schema", [record(["r"]), record(["null", record("r", name="s")], "s")])
def test_a_record_whose_end_is_never_reached(schema):
    with pytest.raises(PacketError, match="it nests too deep"):
        decode_datum(bytes(999), prepare_schema(schema))


def test_they_are_refused_without_the_compiled_decoder(monkeypatch):
    monkeypatch.setattr(schemas, "program_of", lambda *_: None)
    with pytest.raises(
        SchemaError, match="the record r contains itself; only the compiled decoder"
    ) as caught:
        prepare_schema(CHAIN)
    assert "NUNCIUS_COMPILED" in str(caught.value)


def test_marks_of_fastavro_are_not_believed():
    """With them fastavro takes types from where nobody has looked: one that contains itself would break its stack."""
    hidden = record("evil", name="evil")
    schema = record("evil") | {"__fastavro_parsed": True, "__named_schemas": {"evil": hidden}}
    with pytest.raises(SchemaError, match="evil"):
        prepare_schema(schema)


@pytest.mark.parametrize("size", [-1, 2**31, 2**63, 2**80, 1.5, "4", None])
def test_sizes_of_fixed_types(size):
    with pytest.raises(SchemaError):
        prepare_schema(record({"type": "fixed", "name": "x", "size": size}))


def test_the_largest_sizes_of_fixed_types():
    large = {"type": "fixed", "name": "x", "size": 2**31 - 1}
    schema = prepare_schema(record(large, *["x"] * 1000, items("x"), values("x")))
    with pytest.raises(PacketError, match=ENDS):
        decode_datum(bytes(100), schema)


def test_a_type_that_is_named_like_a_primitive_one():
    # What is called null here takes a byte; null doesn't, and an array of it could be endless.
    shadow = record(record("string", name="null"), items("null"))
    with pytest.raises(SchemaError, match="take no bytes"):
        prepare_schema(shadow)


def test_decimals():
    schema = prepare_schema({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2})
    assert decode_datum(varint(2) + b"\xff\x00", schema)[0] == decimal.Decimal("-2.56")
    just = varint(1024) + b"\1" * 1024
    assert isinstance(decode_datum(just, schema)[0], decimal.Decimal)
    begin = time.perf_counter()
    with pytest.raises(PacketError, match="a decimal has 1000000 bytes"):
        decode_datum(varint(10**6) + b"\1" * 10**6, schema)
    assert time.perf_counter() - begin < 5  # it took minutes
