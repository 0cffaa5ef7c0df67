"""Fuzz packets with schemas of strangers: `python tests/fuzz/fuzz_container.py [libFuzzer's options]`.

An input is the text of a schema, a zero byte, and the bytes of a record. Packed as a container it is an alert with the
values that fastavro gives, whole and in parts, or a `PacketError`; never anything else.
"""

import io
import sys

import atheris
import fastavro

with atheris.instrument_imports(include=["nuncius.alerts.packets"]):
    from nuncius.alerts.packets import open_packets, schemas
import fuzzed_decoder  # noqa: F401 - takes the place of the usual one
from parts import check_parts

from nuncius.errors import PacketError

SYNC = b"sixteen bytes of"
KEYS = frozenset("abcde")


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


def attempt(function, *arguments):
    """Return what a function gives, and the error if the packet is damaged."""
    try:
        return function(*arguments)
    except PacketError as error:
        return error


def one_input(data):
    """Try one input."""
    schema, _, record = data.partition(b"\0")
    opened = attempt(open_packets, container(schema, record))
    if isinstance(opened, PacketError) or not opened:
        return
    ((_, packet),) = opened
    parsed = schemas.prepare_schema_text(schema).parsed
    found = attempt(packet.decode)
    if not isinstance(found, PacketError):
        expected = fastavro.schemaless_reader(io.BytesIO(record), parsed, None)
        if repr(found) != repr(expected):
            raise AssertionError(f"{found!r} is not {expected!r}")
    # Whatever may be a list is asked for as one.
    fields = parsed["fields"] if isinstance(parsed, dict) and parsed["type"] == "record" else ()
    for name in {item["name"] for item in fields if not isinstance(item["type"], str)}:
        parts = attempt(packet.decode_in_parts, (name,), KEYS)
        if parts is None:
            continue
        if isinstance(parts, PacketError) != isinstance(found, PacketError):
            raise AssertionError(f"the whole gives {found!r}, and the parts {parts!r}")
        if not isinstance(parts, PacketError):
            check_parts(found, parts.values, (name,), KEYS, parts.entry)


atheris.Setup(sys.argv, one_input)
atheris.Fuzz()
