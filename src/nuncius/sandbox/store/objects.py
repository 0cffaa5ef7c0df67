"""What the store keeps: objects in buckets, whose bytes are read piece by piece."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Octets = bytes | memoryview


@runtime_checkable
class Readable(Protocol):
    """Bytes that needn't be in memory; a `SparseFile` is one."""

    @property
    def size(self) -> int:
        """How many bytes there are."""
        ...

    def read(self, start: int, end: int) -> Octets:
        """Return the bytes [start, end)."""
        ...


class HeldBytes:
    """Bytes in memory, read without a copy."""

    def __init__(self, data: Octets) -> None:
        self._data = memoryview(data)
        self.size = self._data.nbytes

    def read(self, start: int, end: int) -> Octets:
        """Return the bytes [start, end)."""
        return self._data[start:end]

    def __reduce__(self) -> tuple[type[HeldBytes], tuple[bytes]]:
        return HeldBytes, (bytes(self._data),)


class FileOnDisk:
    """A file, read where it lies; its size is the one it had when it was put."""

    def __init__(self, path: Path) -> None:
        status = path.stat()
        self._path = path
        self.size = status.st_size
        self.etag = f"{status.st_mtime_ns:x}-{status.st_size:x}"

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes [start, end)."""
        with self._path.open("rb") as file:
            return os.pread(file.fileno(), end - start, start)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object, or a sign that it is elsewhere.

    Parameters
    ----------
    data : Readable
        Its bytes.
    etag : str
        Which content it is, without quotation marks.
    modified : datetime
        When it was put, to the second.
    public : bool
        Whether one may read it without a name.
    requester_pays : bool
        Whether who reads it must say that he pays.
    query : str or None
        The query string without which plain HTTP doesn't give it, to the letter.
    headers : mapping
        More header lines of the answer.
    redirect : tuple of str and int, or None
        Where it is instead, and the status that says so.
    """

    data: Readable
    etag: str
    modified: datetime
    public: bool = True
    requester_pays: bool = False
    query: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    redirect: tuple[str, int] | None = None


@dataclass(slots=True)
class Bucket:
    """Objects by key, in one region."""

    region: str
    objects: dict[str, StoredObject] = field(default_factory=dict)

    @property
    def public(self) -> bool:
        """Whether one may list it without a name."""
        return any(stored.public and not stored.requester_pays for stored in self.objects.values())

    @property
    def requester_pays(self) -> bool:
        """Whether who lists it must say that he pays."""
        return bool(self.objects) and all(stored.requester_pays for stored in self.objects.values())


def readable(data: Octets | bytearray | Path | Readable) -> Readable:
    """Return what was put as something to read from.

    Raises
    ------
    ConfigurationError
        If it is neither bytes, nor a file that is there, nor something with `size` and `read`.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        return HeldBytes(bytes(data))
    if isinstance(data, os.PathLike):
        try:
            return FileOnDisk(data)
        except OSError as error:
            raise ConfigurationError(
                f"the store can't keep {data}: {error.strerror}; give a file that is there"
            ) from error
    if isinstance(data, Readable):
        return data
    raise ConfigurationError(
        f"the store can't keep a {type(data).__name__}; give bytes, a Path, or an object with size and read(start, end)"
    )


def etag_of(data: Readable) -> str:
    """Return a mark that differs where the content does: of bytes their MD5, as S3 has it."""
    given = getattr(data, "etag", None)
    if isinstance(given, str):
        return given.strip('"')
    if isinstance(data, HeldBytes):
        return hashlib.md5(data.read(0, data.size), usedforsecurity=False).hexdigest()
    return f"{time.time_ns():x}-{data.size:x}"


def now() -> datetime:
    """Return the time, to the second, which is all that HTTP tells."""
    return datetime.now(UTC).replace(microsecond=0)
