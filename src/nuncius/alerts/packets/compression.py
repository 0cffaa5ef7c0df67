"""Undo gzip, bzip2, zlib, zstd and snappy, never into more memory than allowed.

Packets come from strangers, and a few kilobytes can unpack into gigabytes. Every function here stops at
`MAX_UNPACKED_BYTES`.
"""

from __future__ import annotations

import bz2
from typing import TYPE_CHECKING, Any

from nuncius.errors import PacketError

try:
    from zlib_ng import zlib_ng as zlib  # the same functions, twice as fast
except ImportError:
    import zlib  # type: ignore[no-redef]

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
"""The largest packet that is unpacked: two thousand times the largest alert of any survey."""


def gunzip(data: bytes, *, most: int | None = None) -> bytes:
    """Unpack gzip data to no more than so many bytes."""
    return _members(data, lambda: zlib.decompressobj(31), magic=b"\x1f\x8b", name="gzip", most=most)


def unzlib(data: bytes) -> bytes:
    """Unpack zlib data."""
    return _members(data, lambda: zlib.decompressobj(15), name="zlib")


def inflate_raw(data: bytes) -> bytes:
    """Unpack raw deflate data, as Avro's codec `deflate` writes it."""
    # fastavro leaves the end of zlib's checksum behind its blocks, which is no part of raw deflate data.
    return _members(data, lambda: zlib.decompressobj(-15), name="deflate", exact=False)


def bunzip2(data: bytes) -> bytes:
    """Unpack bzip2 data."""
    return _members(data, bz2.BZ2Decompressor, magic=b"BZh", name="bzip2")


def unzstd(data: bytes) -> bytes:
    """Unpack zstd data."""
    import cramjam

    return _grow(cramjam.zstd.decompress_into, data, name="zstd")


def unsnappy(data: bytes) -> bytes:
    """Unpack one raw snappy block; it begins with its unpacked size as a varint."""
    import cramjam

    size, shift = 0, 0
    for byte in data[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    _limit(size, name="snappy")
    try:
        return bytes(cramjam.snappy.decompress_raw(data))
    except cramjam.DecompressionError as error:
        raise PacketError(f"snappy data are damaged: {error}") from error


def _members(
    data: bytes,
    start: Callable[[], Any],
    *,
    magic: bytes | None = None,
    name: str,
    exact: bool = True,
    most: int | None = None,
) -> bytes:
    """Unpack all members of the data: files of gzip and bzip2 may hold several, one behind the other."""
    parts: list[bytes] = []
    room = most = MAX_UNPACKED_BYTES if most is None else most
    while not parts or data:
        if parts and (magic is None or not data.startswith(magic)):
            raise PacketError(f"{len(data)} bytes are left over behind the {name} data")
        unpacker = start()
        try:
            part = unpacker.decompress(data, room + 1)
        except (zlib.error, OSError, ValueError) as error:  # type: ignore[misc]
            raise PacketError(f"{name} data are damaged: {error}") from error
        room -= len(part)
        _limit(most - room, name=name, most=most)
        if not unpacker.eof:
            raise PacketError(f"{name} data are cut off after {most - room} unpacked bytes")
        parts.append(part)
        data = unpacker.unused_data if exact else b""
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _grow(decompress_into: Any, data: bytes, *, name: str) -> bytes:
    """Unpack into a buffer that is doubled until the data fit or the limit is reached."""
    import cramjam

    size = max(64 * 1024, 8 * len(data))
    while True:
        buffer = bytearray(min(size, MAX_UNPACKED_BYTES))
        try:
            return bytes(buffer[: decompress_into(data, buffer)])
        except cramjam.DecompressionError as error:
            # The libraries name a full buffer in different words, so only the size tells.
            if len(buffer) >= MAX_UNPACKED_BYTES or size > 1024 * max(len(data), 1024):
                raise PacketError(f"{name} data are damaged or larger than allowed: {error}") from error
            size *= 8


def _limit(size: int, *, name: str, most: int | None = None) -> None:
    most = MAX_UNPACKED_BYTES if most is None else most
    if size > most:
        raise PacketError(f"{name} data unpack to more than the {most} bytes allowed")
