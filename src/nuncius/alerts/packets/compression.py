"""Undo gzip, bzip2, zlib, zstd and snappy, never into more memory than allowed.

Packets come from strangers, and a few kilobytes can unpack into gigabytes. Every function here stops at
`MAX_UNPACKED_BYTES`.
"""

from __future__ import annotations

import bz2
import zlib
from typing import Any

from nuncius.errors import PacketError

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
"""The largest packet that is unpacked: two thousand times the largest alert of any survey."""


def gunzip(data: bytes) -> bytes:
    """Unpack gzip data."""
    return _inflate(data, wbits=31, name="gzip")


def unzlib(data: bytes) -> bytes:
    """Unpack zlib data."""
    return _inflate(data, wbits=15, name="zlib")


def inflate_raw(data: bytes) -> bytes:
    """Unpack raw deflate data, as Avro's codec `deflate` writes it."""
    return _inflate(data, wbits=-15, name="deflate")


def bunzip2(data: bytes) -> bytes:
    """Unpack bzip2 data."""
    unpacker = bz2.BZ2Decompressor()
    try:
        result = unpacker.decompress(data, MAX_UNPACKED_BYTES)
    except (OSError, ValueError) as error:
        raise PacketError(f"bzip2 data are damaged: {error}") from error
    return _checked(result, whole=unpacker.eof, name="bzip2")


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


def _inflate(data: bytes, *, wbits: int, name: str) -> bytes:
    unpacker = zlib.decompressobj(wbits)
    try:
        result = unpacker.decompress(data, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise PacketError(f"{name} data are damaged: {error}") from error
    return _checked(result, whole=unpacker.eof, name=name)


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


def _checked(result: bytes, *, whole: bool, name: str) -> bytes:
    if not whole:
        _limit(len(result) + 1, name=name)
        raise PacketError(f"{name} data are cut off after {len(result)} unpacked bytes")
    return result


def _limit(size: int, *, name: str) -> None:
    if size > MAX_UNPACKED_BYTES:
        raise PacketError(f"{name} data unpack to more than the {MAX_UNPACKED_BYTES} bytes allowed")
