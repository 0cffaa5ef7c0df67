"""Fuzz packets with schemas of strangers: `python tests/fuzz/fuzz_container.py [libFuzzer's options]`.

An input is the text of a schema, a zero byte, and the bytes of a record. Packed as a container it is an alert with the
values that fastavro gives, or a `PacketError`; never anything else.
"""

import io
import sys

import atheris
import fastavro

with atheris.instrument_imports(include=["nuncius.alerts.packets"]):
    from nuncius.alerts.packets import open_packets, schemas
import fuzzed_decoder  # noqa: F401 - takes the place of the usual one

from nuncius.errors import PacketError

SYNC = b"sixteen bytes of"


def varint(value):
    """Write an Avro long that is not below 0."""
    value *= 2
    result = bytearray()
    while value >= 128:
        result.append(value % 128 + 128)
        value //= 128
    return bytes([*result, value])


def container(schema, data):
    """Pack one record with its schema."""
    text = b"\x16avro.schema" + varint(len(schema)) + schema
    return b"Obj\x01\x02" + text + b"\0" + SYNC + b"\x02" + varint(len(data)) + data + SYNC


def one_input(data):
    """Try one input."""
    schema, _, record = data.partition(b"\0")
    try:
        found = [packet.decode() for _, packet in open_packets(container(schema, record))]
    except PacketError:
        return
    parsed = schemas.prepare_schema_text(schema).parsed
    expected = [fastavro.schemaless_reader(io.BytesIO(record), parsed, None)]
    if repr(found) != repr(expected):
        raise AssertionError(f"{found!r} is not {expected!r}")


atheris.Setup(sys.argv, one_input)
atheris.Fuzz()
