"""Avro object container files, as most surveys send one alert each.

Layout: the magic bytes, a map of metadata that holds the schema and the codec, a sync marker of 16 bytes, then blocks:
a count of records, a size in bytes, the records, and the sync marker again.

Source: Apache Avro 1.12 specification, "Object Container Files".
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nuncius.alerts.packets import compression
from nuncius.alerts.packets.compiled import decoder
from nuncius.alerts.packets.schemas import prepare_schema_text
from nuncius.errors import PacketError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nuncius.alerts.packets.schemas import WriterSchema

MAGIC = b"Obj\x01"
_SYNC_SIZE = 16
_CACHED_HEADERS = 64
_MAX_METADATA_BYTES = 16 * 1024 * 1024


def _unsnappy_checked(data: bytes) -> bytes:
    # Avro puts the CRC-32 of the unpacked data, big-endian, behind each snappy block.
    result = compression.unsnappy(data[:-4])
    if zlib.crc32(result) != int.from_bytes(data[-4:], "big"):
        raise PacketError("a snappy block does not have its checksum")
    return result


_CODECS: dict[str, Callable[[bytes], bytes]] = {
    "null": bytes,
    "deflate": compression.inflate_raw,
    "snappy": _unsnappy_checked,
    "bzip2": compression.bunzip2,
    "zstandard": compression.unzstd,
}


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the sync marker; equal for all packets of one survey and schema version."""

    size: int
    schema: WriterSchema
    codec: str


@dataclass(frozen=True, slots=True)
class Container:
    """The layout of one container, its lengths and sync markers checked, its records still undecoded.

    Parameters
    ----------
    header : Header
        Schema and codec.
    blocks : tuple
        For each block the count of its records, and where its bytes begin and end.
    """

    header: Header
    blocks: tuple[tuple[int, int, int], ...]

    @property
    def count(self) -> int:
        """The number of records in all blocks."""
        return sum(count for count, _, _ in self.blocks)

    def unpacked(self, raw: bytes) -> Iterator[tuple[int, bytes]]:
        """Give the count of records and the unpacked bytes of each block."""
        unpack = _CODECS[self.header.codec]
        for count, begin, end in self.blocks:
            data = unpack(raw[begin:end])
            if count > max(len(data), 1) or (data and not count):
                raise PacketError(
                    f"a block of {len(data)} bytes can't hold {count} records", position=f"byte {begin}"
                )
            yield count, data


# The sync marker may differ from packet to packet and the order of the metadata varies within one night, so headers
# are recognised by the bytes before the marker, in several slots, the last used first. The list is replaced and
# never changed, so that threads may read it without a lock.
_headers: list[tuple[bytes, Header]] = []


def read_container(raw: bytes) -> Container:
    """Check the layout of a container from end to end.

    Raises
    ------
    PacketError
        If it is cut off, or a length or a sync marker is wrong; `position` is the byte.
    SchemaError
        If its schema can't be used.
    """
    header = _read_header(raw)
    sync = raw[header.size : header.size + _SYNC_SIZE]
    if len(sync) < _SYNC_SIZE:
        raise _cut(len(raw))
    compiled = decoder()
    lone = None if compiled is None else compiled.lone_block(raw, header.size)
    if lone is not None:  # as one alert comes; what is anything else is looked at below
        return Container(header=header, blocks=(lone,))
    blocks = []
    position = header.size + _SYNC_SIZE
    end_of_data = len(raw)
    while position < end_of_data:
        count, position = read_long(raw, position)
        size, position = read_long(raw, position)
        end = position + size
        if count < 0 or size < 0:
            raise PacketError(
                f"a block has the impossible length {size} at byte {position}", position=f"byte {position}"
            )
        if end + _SYNC_SIZE > end_of_data:
            raise _cut(end_of_data)
        if raw[end : end + _SYNC_SIZE] != sync:
            raise PacketError(
                f"the sync marker behind a block is wrong at byte {end}", position=f"byte {end}"
            )
        if count == 0 and size and header.codec == "null":
            raise PacketError(f"a block of no record holds {size} bytes", position=f"byte {position}")
        if count > max(size, 1) and header.codec == "null":
            raise PacketError(
                f"a block of {size} bytes can't hold {count} records", position=f"byte {position}"
            )
        blocks.append((count, position, end))
        position = end + _SYNC_SIZE
    return Container(header=header, blocks=tuple(blocks))


def single_record(raw: bytes, container: Container, datum: bytes) -> bytes:
    """Make a container of its own, with codec null, of one record of a larger container.

    The record's bytes stay as they are; only the header and the lengths around them are written anew.
    """
    header_of = _metadata(raw)[0]
    header = MAGIC + write_long(2)
    for key, value in ((b"avro.codec", b"null"), (b"avro.schema", header_of[b"avro.schema"])):
        header += write_long(len(key)) + key + write_long(len(value)) + value
    sync = raw[container.header.size : container.header.size + _SYNC_SIZE]
    return header + b"\0" + sync + write_long(1) + write_long(len(datum)) + datum + sync


def read_long(raw: bytes, position: int) -> tuple[int, int]:
    """Read a zig-zag varint of at most 64 bits; return it and the position behind it.

    Raises
    ------
    PacketError
        If the data end within it, or it is longer than 10 bytes.
    """
    value = shift = 0
    while True:
        if position >= len(raw):
            raise _cut(len(raw))
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
        if shift > 63:
            raise PacketError(
                f"a number is longer than 64 bits at byte {position}", position=f"byte {position}"
            )


def write_long(value: int) -> bytes:
    """Write a zig-zag varint."""
    value = (value << 1) ^ (value >> 63)
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _read_header(raw: bytes) -> Header:
    global _headers
    for index, (prefix, header) in enumerate(_headers):
        if raw.startswith(prefix):
            if index:
                _headers = [(prefix, header), *(slot for slot in _headers if slot[0] != prefix)]
            return header
    metadata, size = _metadata(raw)
    codec = metadata.get(b"avro.codec", b"null").decode("ascii", "replace")
    if codec not in _CODECS:
        raise PacketError(f"the codec {codec!r} is not known; known are {', '.join(_CODECS)}")
    header = Header(size=size, schema=prepare_schema_text(metadata[b"avro.schema"]), codec=codec)
    _headers = [(raw[:size], header), *_headers][:_CACHED_HEADERS]
    return header


def _metadata(raw: bytes) -> tuple[dict[bytes, bytes], int]:
    """Read the metadata map; return it and the position of the sync marker behind it."""
    if not raw.startswith(MAGIC):
        raise PacketError(
            "not an Avro object container: it does not begin with 'Obj' and 1", position="byte 0"
        )
    metadata: dict[bytes, bytes] = {}
    position = len(MAGIC)
    while True:
        count, position = read_long(raw, position)
        if count == 0:
            break
        if count < 0:  # the size of the block in bytes follows, which only skipping needs
            _, position = read_long(raw, position)
        for _ in range(abs(count)):
            key, position = _read_bytes(raw, position)
            metadata[key], position = _read_bytes(raw, position)
    if b"avro.schema" not in metadata:
        raise PacketError("an Avro object container without its schema", position=f"byte {position}")
    return metadata, position


def _read_bytes(raw: bytes, position: int) -> tuple[bytes, int]:
    size, position = read_long(raw, position)
    if size < 0 or size > _MAX_METADATA_BYTES:
        raise PacketError(f"impossible length {size} at byte {position}", position=f"byte {position}")
    if position + size > len(raw):
        raise _cut(len(raw))
    return raw[position : position + size], position + size


def _cut(size: int) -> PacketError:
    return PacketError(
        f"the packet is cut off: it ends after {size} bytes, within a block", position=f"byte {size}"
    )
