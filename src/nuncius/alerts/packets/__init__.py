"""From the bytes of a packet to its values: containers, framing, compression, schemas.

A packet is recognised by its bytes alone. Reading has two steps: `open_packet` checks the outside (container, lengths,
schema known) without decoding fields wherever the container has lengths of its own, and `Packet.decode` gives the
values.
"""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nuncius.alerts.packets import compression, ocf
from nuncius.alerts.packets.schemas import SchemaLike, SchemaSource, WriterSchema, as_source
from nuncius.errors import MissingExtraError, PacketError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "Packet",
    "Parts",
    "SchemaLike",
    "SchemaSource",
    "WriterSchema",
    "as_source",
    "open_packet",
    "open_packets",
]

# What fastavro, zlib and bson raise on damaged bytes.
_DECODING_FAULTS = (
    EOFError,
    IndexError,
    KeyError,
    ValueError,
    TypeError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    AttributeError,
    struct.error,
)
# What compressed data begin with; a zlib header is a multiple of 31 (RFC 1950).
_BEGINNINGS = {
    b"\x1f\x8b": compression.gunzip,
    b"BZh": compression.bunzip2,
    b"\x28\xb5\x2f\xfd": compression.unzstd,
    **{bytes((0x78, flags)): compression.unzlib for flags in range(256) if (0x78 * 256 + flags) % 31 == 0},
}
_MAX_LAYERS = 3  # a compressed packet in a compressed message is the most that any broker sends


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet whose outside was checked.

    Parameters
    ----------
    container : str
        ``avro`` (object container), ``confluent`` (framed Avro), ``avro-datum`` (schema given beside), ``bson`` or
        ``json``.
    schema_name : str
        The full name of its Avro schema; empty for BSON and JSON.
    """

    container: str
    schema_name: str
    _body: bytes
    _schema: WriterSchema | None = None
    _layout: ocf.Container | None = None
    _values: Any = None

    @property
    def is_lazy(self) -> bool:
        """Whether the values are still undecoded, so that the packet takes no more memory than its bytes."""
        return self._values is None

    @property
    def size(self) -> int:
        """How many bytes it takes without the compression of the message."""
        return len(self._body)

    def decode(self) -> dict[str, Any]:
        """Return all values.

        Raises
        ------
        PacketError
            If the bytes are damaged where only decoding finds it.
        """
        if self._values is not None:
            values = self._values
        elif (schema := self._written_with) is not None:
            block = self._record()
            values, end = decode_datum(block, schema)
            _check_end(block, end)
        else:
            values = _decode_bson(self._body)
        if not isinstance(values, dict):
            raise PacketError(
                f"an alert is a record of named values; this packet holds a {type(values).__name__}"
            )
        return values

    def passes(self) -> bool:
        """See by passing over the values that they can be decoded; False where only decoding them can tell.

        Raises
        ------
        PacketError
            If the bytes are damaged where only decoding finds it.
        """
        schema = self._written_with
        checker = schema.checker() if schema is not None and self._values is None else None
        if schema is None or checker is None:
            return False
        record = self._record()
        _check_end(record, _passed(checker, record, schema))
        return True

    def decode_beginning(self, names: frozenset[str]) -> dict[str, Any]:
        """Return the named top-level values and perhaps others; much faster than all where they come early.

        Raises
        ------
        PacketError
            If the bytes are damaged there.
        """
        schema = self._written_with
        if self._values is not None or schema is None or not names:
            return self.decode()
        if not isinstance(schema.parsed, dict) or schema.parsed.get("type") != "record":
            return self.decode()
        values: dict[str, Any]
        if (program := schema.program(names)) is not None:
            values = _run(program, self._record(), schema, 0)[0]
        else:
            values = decode_datum(self._record(), schema.beginning(names))[0]
        return values

    def decode_in_parts(self, lists: tuple[str, ...], keys: frozenset[str]) -> Parts | None:
        """Decode all but the entries of long lists, of which it gives the `keys`; None where that is no gain.

        Raises
        ------
        PacketError
            If the bytes are damaged, in an entry or elsewhere.
        """
        schema = self._written_with
        programs = (
            schema.programs_in_parts(lists, keys) if schema is not None and self._values is None else None
        )
        if schema is None or programs is None:
            return None
        record = self._record()
        values, end = _run(programs[0], record, schema, 0)
        _check_end(record, end)
        return Parts(values, record, programs[1])

    def content(self) -> tuple[bytes, bytes]:
        """Return what carries the values: a digest of the schema, and the bytes written with it.

        The random sync marker of an object container is not part of it. Two packets of one survey with equal content
        say the same; the same bytes written with another schema may say something else.
        """
        if self._layout is None:
            return (self._schema.digest if self._schema else b""), self._body
        (_, begin, end), *more = self._layout.blocks
        return self._layout.header.schema.digest, self._body if more else self._body[begin:end]

    @property
    def _written_with(self) -> WriterSchema | None:
        return self._schema if self._layout is None else self._layout.header.schema

    def _record(self) -> bytes:
        """Return the bytes of the record, without what is around it."""
        if self._layout is None:
            return self._body
        for count, block in self._layout.unpacked(self._body):
            if count:
                return block
        raise PacketError("the container holds no record")


@dataclass(frozen=True, slots=True)
class Parts:
    """The values of a packet without the entries of its long lists, which are decoded one by one when they are asked for.

    Parameters
    ----------
    values : dict
        The values; of the lists pairs: the byte where an entry begins, and its keys.
    """

    values: dict[str, Any]
    _record: bytes
    _programs: dict[str, Any]

    def entry(self, list_name: str, begin: int) -> dict[str, Any]:
        """Return the entry that begins there, without what is null."""
        found: dict[str, Any] = self._programs[list_name].decode(self._record, begin)[0]
        return found


def open_packet(raw: bytes, schema: SchemaLike = None) -> Packet:
    """Recognise one packet and check its outside.

    Raises
    ------
    PacketError
        If it is not one readable packet.
    SchemaError
        If its schema is unknown.
    """
    packets = open_packets(raw, schema)
    if len(packets) == 1:
        return packets[0][1]
    if not packets:
        raise PacketError("the container holds no record")
    raise PacketError(
        f"{len(packets)} alerts in one packet; read it with read_packets or Alert.many_from_bytes"
    )


def open_packets(raw: bytes, schema: SchemaLike = None) -> Sequence[tuple[bytes, Packet]]:
    """Recognise the packets in one message: almost always one, but a container may hold several records or none.

    Returns
    -------
    sequence of (bytes, Packet)
        For each record the bytes that hold it and nothing else, and the packet.

    Raises
    ------
    PacketError
        If the bytes are no packet.
    SchemaError
        If the schema is unknown.
    """
    source = as_source(schema)
    if isinstance(source, WriterSchema) and not raw.startswith(ocf.MAGIC):
        return _open_bare(raw, source)
    body = _unpacked(raw)
    if not body:
        raise PacketError("the message is empty", position="byte 0")
    if body.startswith(ocf.MAGIC):
        layout = ocf.read_container(body)
        packet = Packet("avro", layout.header.schema.name, body, _layout=layout)
        return [(raw, packet)] if layout.count == 1 else list(_split_container(packet))
    # BSON first: its length may begin with the zero byte that begins framed packets, but must fit exactly.
    if len(body) > 4 and int.from_bytes(body[:4], "little") == len(body) and body[-1] == 0:
        return [(raw, Packet("bson", "", body))]
    if body[:1] == b"\0" and len(body) > 5 and not isinstance(source, WriterSchema):
        return [(raw, _open_framed(body, source))]
    start = body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start in {b"{", b"["}:
        return _open_json(raw, body)
    if start == b"<":
        raise PacketError(
            "an XML notice (VOEvent), not an alert packet; streams of gcn:// and hopskotch:// read notices"
        )
    raise PacketError(
        f"not an alert packet of any known kind; it begins with {body[:8].hex(' ')}", position="byte 0"
    )


def decode_datum(data: bytes, schema: WriterSchema, begin: int = 0) -> tuple[Any, int]:
    """Decode one Avro record without a container, from `begin` on; return it and the position behind it.

    Raises
    ------
    PacketError
        If the bytes don't fit the schema.
    """
    program = schema.program()
    if program is not None:
        return _run(program, data, schema, begin)
    import fastavro

    stream = io.BytesIO(data)
    stream.seek(begin)
    try:
        value = fastavro.schemaless_reader(stream, schema.parsed, None)
    except _DECODING_FAULTS as error:
        raise PacketError(
            f"the bytes don't fit the schema {schema.name}: {type(error).__name__}: {error} near byte {stream.tell()}",
            position=f"byte {stream.tell()}",
        ) from error
    return value, stream.tell()


def _run(program: Any, data: bytes, schema: WriterSchema, begin: int) -> tuple[Any, int]:
    """Decode with the compiled decoder, whose errors tell the byte and the field."""
    try:
        found: tuple[Any, int] = program.decode(data, begin)
    except _DECODING_FAULTS as error:
        raise _misfit(error, schema) from error
    return found


def _passed(program: Any, data: bytes, schema: WriterSchema) -> int:
    """Pass over a record; return where it ends."""
    try:
        end: int = program.skip(data)
    except ValueError as error:
        raise _misfit(error, schema) from error
    return end


def _check_end(record: bytes, end: int) -> None:
    if end != len(record):
        raise PacketError(
            f"{len(record) - end} bytes are left over behind the record", position=f"byte {end}"
        )


def _misfit(error: Exception, schema: WriterSchema) -> PacketError:
    if len(error.args) != 3:  # a logical type whose value Python doesn't take
        return PacketError(f"the bytes don't fit the schema {schema.name}: {type(error).__name__}: {error}")
    reason, byte, names = error.args
    field = f" in {'.'.join(names)}" if names else ""
    return PacketError(
        f"the bytes don't fit the schema {schema.name}: {reason}{field} near byte {byte}",
        position=f"byte {byte}",
    )


def _open_bare(raw: bytes, schema: WriterSchema) -> Sequence[tuple[bytes, Packet]]:
    # A bare record may begin with any bytes, those of a compression among them; what fits exactly is taken as it is.
    try:
        return [(raw, _open_datum(raw, schema, container="avro-datum"))]
    except PacketError as error:
        try:
            body = _unpacked(raw)
        except PacketError:
            raise error from None
        if body is raw:
            raise
        return [(raw, _open_datum(body, schema, container="avro-datum"))]


def _unpacked(raw: bytes) -> bytes:
    body = raw
    for _ in range(_MAX_LAYERS):
        unpack = _BEGINNINGS.get(body[:2]) or _BEGINNINGS.get(body[:3]) or _BEGINNINGS.get(body[:4])
        if unpack is None:
            break
        body = unpack(body)
    return body


def _split_container(packet: Packet) -> Iterator[tuple[bytes, Packet]]:
    layout = packet._layout
    assert layout is not None
    allowed = compression.MAX_UNPACKED_BYTES + 4 * len(packet._body)
    for count, block in layout.unpacked(packet._body):
        begin = 0
        for _ in range(count):
            value, end = decode_datum(block, layout.header.schema, begin)
            alone = ocf.single_record(packet._body, layout, block[begin:end])
            allowed -= len(alone)
            if allowed < 0:
                raise PacketError("the container unpacks to more records than memory is allowed for")
            yield alone, replace(packet, _body=alone, _layout=ocf.read_container(alone), _values=value)
            begin = end
        if begin != len(block):
            raise PacketError(f"{len(block) - begin} bytes are left over behind the last record")


def _open_framed(body: bytes, source: SchemaSource | None) -> Packet:
    schema_id = int.from_bytes(body[1:5], "big")
    if source is None:
        raise SchemaError(
            f"a framed packet with schema {schema_id}; give its schemas with schema= (a directory, a registry URL or "
            "a mapping)"
        )
    schema = source.find(schema_id)
    try:
        return _open_datum(body[5:], schema, container="confluent")
    except PacketError as error:
        raise PacketError(f"schema {schema_id}: {error}", position=error.position) from error


def _open_datum(data: bytes, schema: WriterSchema, *, container: str) -> Packet:
    # These bytes carry no length of their own: only decoding them shows that they end where they should.
    program = schema.program()
    if program is None:
        value, end = decode_datum(data, schema)
    else:
        value, end = None, _passed(program, data, schema)  # passing over it shows that too, and is quicker
    if end != len(data):
        raise PacketError(
            f"{len(data) - end} bytes are left over behind the record: the packet was written with another schema "
            f"than {schema.name}",
            position=f"byte {end}",
        )
    return Packet(container, schema.name, data, _schema=schema, _values=value)


def _decode_bson(data: bytes) -> Any:
    import bson

    if not hasattr(bson, "decode"):
        raise MissingExtraError(
            "the installed module 'bson' is not the one of pymongo and would read packets slowly or wrongly. Cure: "
            "python -m pip uninstall bson && python -m pip install --force-reinstall pymongo"
        )
    try:
        return bson.decode(data)
    except (bson.errors.BSONError, *_DECODING_FAULTS) as error:
        raise PacketError(f"the BSON document is damaged: {error}") from error


def _open_json(raw: bytes, body: bytes) -> Sequence[tuple[bytes, Packet]]:
    text = body.removeprefix(b"\xef\xbb\xbf")
    value = _decode_json(text)
    if isinstance(value, dict):
        return [(raw, Packet("json", "", body, _values=value))]
    packets = []
    for item in value:
        try:
            alone = json.dumps(item).encode()
        except RecursionError as error:
            raise PacketError("the JSON text nests too deep") from error
        packets.append((alone, Packet("json", "", alone, _values=item)))
    return packets


def _decode_json(text: bytes) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        first: Exception = error
    # Python's own reader knows NaN and Infinity, which some services write. Lines of JSON are read as a list.
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        try:
            return [json.loads(line) for line in lines]
        except (ValueError, RecursionError) as error:
            raise PacketError(f"the JSON lines are damaged: {error}") from error
    raise PacketError(f"the JSON text is damaged: {first}")
