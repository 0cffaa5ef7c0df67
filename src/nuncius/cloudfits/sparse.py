"""A remote file as a file object, for astropy: its headers are there, its data is read when it is touched."""

from __future__ import annotations

import bisect
import io
from typing import TYPE_CHECKING, Any

from nuncius.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nuncius.cloudfits.hdu import FileDescription


class SparseFile(io.RawIOBase):
    """The bytes of a remote file.

    Parameters
    ----------
    file : FileDescription
        Its headers.
    known : iterable of (int, bytes-like)
        Further bytes that are there already, each with where they begin.
    fetch : function, optional
        Reads bytes from a start to before an end; without it, touching others is an error.
    """

    mode = "rb"

    def __init__(
        self,
        file: FileDescription,
        known: Iterable[tuple[int, Any]] = (),
        fetch: Callable[[int, int], Any] | None = None,
    ) -> None:
        super().__init__()
        self.name = file.url
        # What follows the last HDU that was read is not astropy's to look for.
        self._size = min(file.size, file.hdus[-1].end)
        # Data of no bytes begins where the next header does, and must not take its place.
        self._known: dict[int, Any] = dict(known) | {hdu.header_offset: hdu.raw for hdu in file.hdus}
        self._begins = sorted(self._known)
        self._fetch = fetch
        self._at = 0

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def seekable(self) -> bool:
        """Return that it is."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position in bytes."""
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, begin + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, up to the end of the file, and return how much of it."""
        with memoryview(buffer) as view, view.cast("B") as target:
            count = max(0, min(len(target), self._size - self._at))
            target[:count] = self._bytes(self._at, self._at + count)
        self._at += count
        return count

    def read(self, size: int | None = -1) -> bytes:
        """Return so many bytes, fewer only at the end of the file."""
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        data = bytes(self._bytes(self._at, end)) if end > self._at else b""
        self._at += len(data)
        return data

    def _bytes(self, start: int, end: int) -> Any:
        if at := bisect.bisect_right(self._begins, start):
            begin = self._begins[at - 1]
            data = self._known[begin]
            if end <= begin + len(data):
                return memoryview(data)[start - begin : end - begin]
        if self._fetch is None:
            raise UnsupportedError(
                f"bytes {start:,} to {end:,} of {self.name} were not read. In async code name the HDUs whose data is "
                'needed: await fits.hdulist(data=[1, "SCI"])',
                url=self.name,
            )
        return self._fetch(start, end)
