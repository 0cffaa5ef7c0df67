"""What an answer says of its object: which one it is, and how it was packed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from nuncius.cloudfits.stores import problems
from nuncius.errors import UnsupportedError

if TYPE_CHECKING:
    from datetime import datetime

    from nuncius.cloudfits.places import Place


def is_strong(etag: str) -> bool:
    """Whether a server compares it: weak ones never match (RFC 9110, 13.1.1), nor do those that `identity` made."""
    return not etag.startswith(("W/", "modified "))


def identity(etag: str | None, modified: datetime | None, size: int | None) -> str | None:
    """Return what tells an object from the one that replaces it: its ETag, else its time and size."""
    if etag:
        return etag
    return f"modified {modified.isoformat()} size {size}" if modified is not None else None


def unpack(place: Place, data: bytes, coding: str, max_bytes: int) -> bytes:
    """Unpack a body that the server packed.

    Raises
    ------
    UnsupportedError
        If it is not gzip, is damaged, or holds more than `max_bytes`.
    """
    if coding not in {"gzip", "x-gzip"}:
        raise problems.packed(place, coding)
    pieces: list[bytes] = []
    room = max_bytes
    while data:
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            pieces.append(unpacker.decompress(data, room + 1))
        except zlib.error as error:
            raise UnsupportedError(
                f"{place.url} is sent as gzip and is none ({error})", url=place.url
            ) from error
        room -= len(pieces[-1])
        if room < 0:
            raise problems.too_large(place, None, max_bytes)
        if not unpacker.eof:
            raise UnsupportedError(f"{place.url} is sent as gzip without an end", url=place.url)
        data = unpacker.unused_data
    return b"".join(pieces)
