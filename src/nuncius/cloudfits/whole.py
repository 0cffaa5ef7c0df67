"""A whole file in memory, where ranges can't be had; and a whole HDU, where its kind knows no pieces."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Call, ReadRange
from nuncius.cloudfits import blocks
from nuncius.cloudfits.keywords import unreadable
from nuncius.cloudfits.ranges import MOST_BYTES
from nuncius.errors import FitsError, UnsupportedError

if TYPE_CHECKING:
    from nuncius._core.operations import Operation, Piece, Source
    from nuncius.cloudfits.hdu import HduDescription
    from nuncius.cloudfits.ranges import Reader, Stats

_GZIP = 16 + zlib.MAX_WBITS  # of zlib: a gzip header and trailer


class MemorySource:
    """A file whose bytes are all here.

    Parameters
    ----------
    url : str
        Where it came from.
    piece : Piece
        The bytes, and what the store said of them.
    """

    def __init__(self, url: str, piece: Piece) -> None:
        self.url = url
        self.piece = piece

    async def read(self, start: int, end: int, *, etag: str | None = None) -> Piece:
        """Return the bytes from `start` to before `end`."""
        return self.piece._replace(data=self.piece.data[start:end])

    async def read_all(self, max_bytes: int) -> Piece:
        """Return all bytes."""
        return self.piece


def read_whole(source: Source, stats: Stats) -> Operation[MemorySource]:
    """Read a whole file, and unpack it if gzip has compressed it.

    Raises
    ------
    UnsupportedError
        If it is larger than 4 GiB, packed or unpacked.
    FitsError
        If its compression is damaged.
    """
    piece: Piece = yield ReadRange(source, 0, None, most_bytes=MOST_BYTES)
    stats.requests += 1
    stats.round_trips += 1
    stats.bytes += len(piece.data)
    stats.used_bytes += len(piece.data)
    if piece.data.startswith(b"\x1f\x8b"):
        data: bytes = yield Call(_unpacked, (piece.data, source.url))
        piece = piece._replace(data=data, size=len(data))
    return MemorySource(source.url, piece)


def _unpacked(data: bytes, url: str) -> bytes:
    """Unpack gzip, which may consist of several parts one after the other (RFC 1952, 2.2)."""
    parts, total = [], 0
    try:
        while data.startswith(b"\x1f\x8b"):
            unpacker = zlib.decompressobj(_GZIP)
            parts.append(unpacker.decompress(data, MOST_BYTES - total + 1))
            total += len(parts[-1])
            if total > MOST_BYTES:
                raise UnsupportedError(
                    f"{url} is more than {MOST_BYTES >> 30} GiB when it is unpacked", url=url
                )
            if not unpacker.eof:
                raise FitsError(f"{url} is cut: its gzip compression does not end", url=url)
            data = unpacker.unused_data
    except zlib.error as error:
        raise FitsError(
            f"{url} can't be unpacked: its gzip compression is damaged ({error})", url=url
        ) from error
    return b"".join(parts)


def read_hdu(reader: Reader, hdu: HduDescription) -> Operation[Any]:
    """Read all data of an HDU of any kind, as astropy gives it: random groups, and what FITS will invent."""
    data = yield from reader.read_one(hdu.data_offset, hdu.data_offset + hdu.data_size)
    return (yield Call(_data_of, (hdu, data)))


def _data_of(hdu: HduDescription, data: Any) -> Any:
    from astropy.io import fits

    before = b"" if hdu.index == 0 else fits.PrimaryHDU().header.tostring().encode()
    file = b"".join((before, hdu.raw, data, bytes(-len(data) % blocks.BLOCK)))
    try:
        with fits.open(io.BytesIO(file), memmap=False) as opened:
            return opened[-1].data
    except unreadable() as error:
        raise FitsError(
            f"HDU {hdu.index} of {hdu.url} ({hdu.kind}) can't be read by astropy: {error}",
            url=hdu.url,
            position=f"HDU {hdu.index}",
        ) from error
