"""The compiled decoder keeps no references that it should not, on no path, and loses none."""

from __future__ import annotations

import gc
import os
import sys

import pytest

from avro_support import (
    BAND,
    ENUM,
    LONG,
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
from nuncius.alerts.packets.schemas import prepare_schema

LEAVES = ["null", "boolean", "int", "float", "double", "bytes", "string", BAND,
          {"type": "fixed", "name": "x", "size": 3}, {"type": "long", "logicalType": "timestamp-millis"},
          {"type": "string", "logicalType": "uuid"}]  # fmt: skip
WIDE = record(
    *LEAVES,
    items("string"),
    values("bytes"),
    ["null", "band"],
    items(record("string", ["null", "x"], name="s")),
)
WHOLE = (
    b"\1\4" + bytes(12) + b"\4ab" + b"\4cd" + b"\2" + b"xyz" + varint(10**12)
    + varint(36) + b"12345678-1234-5678-1234-567812345678"
    + varint(2) + b"\4ab\4cd" + varint(0) + varint(-1) + varint(6) + b"\4kk\4vv" + varint(0)
    + b"\2\0" + varint(1) + b"\4qq\2xyz" + varint(0)
)  # no text of one letter, which Python makes only once  # fmt: skip


def wrong_ones():
    """Give bytes that fail at each step: cut at each byte, and with each of some other bytes in its place."""
    for size in range(len(WHOLE)):
        yield WHOLE[:size]
        for byte in (0xFF, 0x01, 0x80):
            yield WHOLE[:size] + bytes([byte]) + WHOLE[size + 1 :]


def test_failures_leave_nothing_behind():
    schema = prepare_schema(WIDE)
    assert schema.program().decode(WHOLE)[1] == len(WHOLE)
    programs = [
        schema.program(),
        schema.program(frozenset({"f6", "f14.f0"})),
        schema.program(frozenset({"f15"})),
    ]
    looks = [look for program in programs for look in (program.decode, program.skip)]
    inputs = list(wrong_ones())
    outcomes = {attempt(looks[0], data) for data in inputs}
    assert outcomes == {True, False}

    def action():
        for look in looks:
            for data in inputs:
                attempt(look, data)

    assert growth(action, 12) < 40  # of some 20,000 failures; one lost object in each would be as many


def counted():
    """Return the objects that the decoder shares, whose counts of references must stay."""
    return [None, True, False, decoder.DamagedError, decoder.Program]


def test_counts_of_references_stay():
    symbols = ("a symbol of " + "g", "a symbol of " + "r")
    name = "a field of " + "two"
    calls = []

    def convert(value, *rest):
        calls.append(rest)
        if value % 3 == 0:
            raise ValueError(value)
        return value

    schema = {"of": "nobody"}
    leaf = (ENUM, (), symbols, b"", 0, -1, 1, None, None, 0)
    number = (LONG, (), (), b"", 0, -1, 1, convert, schema, 0)
    top = (RECORD, (1, 2, 3), (name, "b", "c"), b"\1\1\1", 3, -1, 3, None, None, 0)
    nodes = (
        top,
        leaf,
        number,
        (UNION, (1, 2, 4), (), b"", 0, -1, 1, None, None, 0),
        node(NOTHING, fixed=0, least=0),
    )
    inputs = [bytes([a, b, c, d]) for a in (0, 2, 4) for b in (2, 4, 6) for c in (0, 2, 4) for d in (0, 2, 6)]
    shared = [*counted(), name, *symbols, convert, schema, *nodes]

    def action():
        program = decoder.Program(nodes)
        for data in inputs:
            attempt(program.decode, data)
            attempt(program.skip, data)
            attempt(program.decode, data[:2])

    action()
    calls.clear()
    gc.collect()
    before = [sys.getrefcount(item) for item in shared]
    for _ in range(300):
        action()
    calls.clear()
    gc.collect()
    after = [sys.getrefcount(item) for item in shared]
    # One lost in each round is 300. All of Python shares None, True and False, and what other tests have left may go
    # meanwhile; but a round uses them a dozen times.
    allowed = [2000] * 3 + [80] * (len(shared) - 3)
    lost = [abs(now - then) for now, then in zip(after, before, strict=True)]
    assert all(some < most for some, most in zip(lost, allowed, strict=True)), (before, after)


def test_buffers_are_let_go():
    program = program_of("long")
    data = bytearray(b"\x80")
    for look in (
        program.decode,
        program.skip,
        lambda raw: program.decode(raw, 5),
        lambda raw: decoder.lone_block(raw, 0),
    ):
        attempt(look, data)
        data.append(0)  # not allowed while anybody holds the buffer
        data.pop()


def test_a_damaged_record_within_a_converter():
    """A converter that fails with another error than ours is passed on as it is."""

    def convert(*_):
        raise KeyError("of the converter")

    nodes = (node(RECORD, 1, names=("a",), wanted=b"\1", looked_at=1), node(LONG, convert=convert))
    with pytest.raises(KeyError, match="of the converter"):
        decoder.Program(nodes).decode(b"\2")


@pytest.mark.skipif(
    "NUNCIUS_TEST_BOUNDS" not in os.environ, reason="takes a minute: set NUNCIUS_TEST_BOUNDS to run it"
)
def test_a_million_decodes_do_not_grow():
    resource = pytest.importorskip("resource", reason="memory is measured on POSIX only")
    schema = prepare_schema(WIDE)
    program, part = schema.program(), schema.program(frozenset({"f6"}))
    inputs = list(wrong_ones())

    def turn(count):
        for at in range(count):
            attempt(program.decode, WHOLE)
            attempt(program.decode, inputs[at % len(inputs)])
            attempt(part.decode, WHOLE)

    turn(20_000)
    blocks, peak = sys.getallocatedblocks(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    turn(1_000_000)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 4096  # kB
