"""Files far larger than memory: stretches of bytes, kept or computed when asked for, and zeros in between."""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import WriteableBuffer

__all__ = ["Part", "SparseFile"]


@runtime_checkable
class Part(Protocol):
    """A stretch of a file that is computed when it is read; its repr says which bytes it stands for."""

    @property
    def size(self) -> int:
        """Its length in bytes."""
        ...

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes [start, end) of this part; the caller keeps to 0 <= start <= end <= size."""
        ...


class SparseFile:
    r"""A file of any size that takes no room: it knows some parts, all else is zeros.

    Parts and files are picklable when their parts are, and equal content has an equal `etag`.

    Parameters
    ----------
    size : int
        The length of the file in bytes.
    parts : mapping of int to bytes or Part
        Where each part starts. Parts neither overlap nor pass the end of the file.

    Raises
    ------
    ConfigurationError
        If parts overlap or lie outside of the file.

    Examples
    --------
    >>> file = SparseFile(10**12, {5: b"star"})
    >>> file.read(3, 11)
    b'\x00\x00star\x00\x00'
    """

    def __init__(self, size: int, parts: Mapping[int, bytes | Part]) -> None:
        self.size = size
        self._parts = {start: parts[start] for start in sorted(parts)}
        self._starts = list(self._parts)
        self._ends = [start + _size(part) for start, part in self._parts.items()]
        before = 0
        for start, end in zip(self._starts, self._ends, strict=True):
            if start < before or end > size:
                raise ConfigurationError(
                    f"the part at byte {start}..{end} overlaps the one before it, or lies outside of the file "
                    f"of {size} bytes"
                )
            before = end

    @cached_property
    def etag(self) -> str:
        """A name of this content, in quotes as an object store sends it."""
        digest = hashlib.sha256(str(self.size).encode())
        for start, part in self._parts.items():
            content = part if isinstance(part, bytes) else repr(part).encode()
            digest.update(f"\n{start} {type(part).__name__} {len(content)}\n".encode())
            digest.update(content)
        return f'"{digest.hexdigest()[:32]}"'

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes [start, end), cut at the ends of the file."""
        start, end = min(max(start, 0), self.size), min(max(end, 0), self.size)
        if start >= end:
            return b""
        pieces = []
        for number in range(max(bisect_right(self._starts, start) - 1, 0), len(self._starts)):
            place = self._starts[number]
            low, high = max(start, place), min(end, self._ends[number])
            if place >= end:
                break
            if low < high:
                part, inside = self._parts[place], (low - place, high - place)
                pieces.append(bytes(low - start))
                pieces.append(part[slice(*inside)] if isinstance(part, bytes) else part.read(*inside))
                start = high
        return b"".join([*pieces, bytes(end - start)])

    def open(self) -> io.BufferedReader:
        """Return a binary file object, as `astropy.io.fits.open` takes it."""
        return io.BufferedReader(_SparseReader(self))

    def __repr__(self) -> str:
        return f"<SparseFile of {self.size} bytes, {len(self._parts)} parts>"


class _SparseReader(io.RawIOBase):
    """A SparseFile with a place where reading goes on."""

    def __init__(self, file: SparseFile) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        piece = self._file.read(self._at, self._at + len(view))
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def _size(part: bytes | Part) -> int:
    return len(part) if isinstance(part, bytes) else part.size
