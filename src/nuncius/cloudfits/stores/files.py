"""Files on this machine."""

from __future__ import annotations

import asyncio
import os
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Piece
from nuncius.errors import (
    FileChangedError,
    ForbiddenError,
    NotFoundError,
    StorageError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.cloudfits.places import Place


class FileSource:
    """A file on this machine; each read opens it and closes it again.

    Parameters
    ----------
    place : Place
        Of the kind ``"file"``.
    """

    __slots__ = ("_path", "url")

    def __init__(self, place: Place) -> None:
        self.url = place.url
        self._path = place.key

    async def read(self, start: int, end: int, *, etag: str | None = None) -> Piece:
        """Read the bytes from `start` to before `end`; see `Source`."""
        return await asyncio.to_thread(self._read, lambda size: (start, min(end, size)), etag)

    async def read_all(self, max_bytes: int) -> Piece:
        """Read the whole file; UnsupportedError if it is larger than that."""

        def span(size: int) -> tuple[int, int]:
            if size > max_bytes:
                raise UnsupportedError(
                    f"{self.url} has {size:,} bytes, more than the {max_bytes:,} that are read whole",
                    url=self.url,
                )
            return 0, size

        return await asyncio.to_thread(self._read, span, None)

    def __repr__(self) -> str:
        return f"FileSource({self.url!r})"

    def _read(self, span: Callable[[int], tuple[int, int]], etag: str | None) -> Piece:
        try:
            # Looked at before it is opened: opening a pipe would wait for somebody who writes into it.
            self._check_kind(os.stat(self._path).st_mode)  # noqa: PTH116 - fewer steps than a Path
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                before = os.fstat(descriptor)
                self._check_kind(before.st_mode)
                data = _read_span(descriptor, *span(before.st_size))
                after = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._problem(error) from error
        found = tag(before)
        if tag(after) != found or (etag is not None and etag != found):
            raise FileChangedError(
                f"{self.url} was replaced or written to while it was read; open it again", url=self.url
            )
        return Piece(data, before.st_size, found, datetime.fromtimestamp(before.st_mtime, UTC))

    def _check_kind(self, mode: int) -> None:
        if stat.S_ISDIR(mode):
            raise NotFoundError(
                f"{self.url} is a folder, not a file; name a file, or read the headers of all: read_headers(…)",
                url=self.url,
            )
        if not stat.S_ISREG(mode):
            raise UnsupportedError(
                f"{self.url} is a pipe or a device: it can't be read in pieces; copy it into a file first",
                url=self.url,
            )

    def _problem(self, error: OSError) -> Exception:
        # Our own errors are OSErrors too.
        if isinstance(error, (ForbiddenError, StorageError)):
            return error
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            folder = os.path.dirname(self._path)  # noqa: PTH120
            where = "its folder is there" if os.path.isdir(folder) else f"the folder {folder} is missing"  # noqa: PTH112
            return NotFoundError(f"there is no file {self.url} ({where})", url=self.url)
        if isinstance(error, PermissionError):
            return ForbiddenError(f"{self.url} may not be read by this user ({error.strerror})", url=self.url)
        return StorageError(f"{self.url} can't be read: {error.strerror}", url=self.url)


def _read_span(descriptor: int, start: int, end: int) -> bytes:
    pieces: list[bytes] = []
    while start < end and (piece := os.pread(descriptor, end - start, start)):
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def tag(status: Any) -> str:
    """Return what tells a file from the one that replaces it."""
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"'
