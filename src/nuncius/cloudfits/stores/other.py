"""Files that fsspec reads: sftp, zip archives, and whatever else is installed for it."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from nuncius._core.lazy import require
from nuncius._core.operations import Piece
from nuncius.cloudfits.access import refuse_pickling
from nuncius.cloudfits.stores import problems
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FileChangedError,
    ForbiddenError,
    MissingExtraError,
    NotFoundError,
    UnreachableError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuncius.cloudfits.access import Access
    from nuncius.cloudfits.places import Place

T = TypeVar("T")

# By what file systems tell a file from the one that replaces it. Not when it was last read.
_TELLING = (
    "etag",
    "mtime",
    "lastmodified",
    "last_modified",
    "modified",
    "created",
    "generation",
    "versionid",
    "md5",
    "crc",
    "ino",
)
_TIMES = ("mtime", "lastmodified", "last_modified", "modified", "created")


class OtherSource:
    """A file that fsspec reads.

    Parameters
    ----------
    place : Place
        Of the kind ``"other"``.
    access : Access
        Its `credentials` are the storage options of the file system.

    Raises
    ------
    MissingExtraError
        If fsspec is not installed, or what it needs for this scheme.
    ConfigurationError
        If fsspec does not know the scheme either.
    """

    __slots__ = ("_access", "_opened", "_place", "url")

    def __init__(self, place: Place, access: Access) -> None:
        self.url = place.url
        self._place = place
        self._access = access
        _check_scheme(place)
        self._opened: tuple[Any, str] | None = None

    async def read(self, start: int, end: int, *, etag: str | None = None) -> Piece:
        """Read the bytes from `start` to before `end`; see `Source`."""
        return await self._in_time(self._read, start, end, etag)

    async def read_all(self, max_bytes: int) -> Piece:
        """Read the whole file; UnsupportedError if it is larger than that."""
        return await asyncio.to_thread(self._guarded, self._read_all, max_bytes)

    def __repr__(self) -> str:
        return f"OtherSource({self.url!r})"

    def __reduce__(self) -> Any:
        from nuncius.cloudfits.stores import open_source

        if self._place.is_secret:
            refuse_pickling(f"the address of {self.url} holds a password or a signature, which are secrets")
        return open_source, (self._place.address, self._access)

    async def _in_time(self, function: Callable[..., T], *args: Any) -> T:
        seconds = self._access.timeout_s
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.to_thread(self._guarded, function, *args)
        except TimeoutError as error:
            if isinstance(error, DeadlineError):
                raise
            raise DeadlineError(
                f"{self.url} was not read within {seconds:g} s; give a request more time with timeout_s=",
                url=self.url,
            ) from None

    def _read(self, start: int, end: int, etag: str | None) -> Piece:
        files, path = self._open()
        piece = self._described(files.info(path))
        if etag is not None and piece.etag != etag:
            raise problems.changed(self._place)
        end = min(end, piece.size)
        if start >= end:
            return piece
        data = bytes(files.cat_file(path, start=start, end=end))
        if len(data) != end - start:
            raise UnsupportedError(
                f"{self._place.service} was asked for {end - start} bytes of {self.url} and gave {len(data)}: it can't be "
                "read in pieces; whole_file=True reads the whole file",
                url=self.url,
            )
        return piece._replace(data=data)

    def _read_all(self, max_bytes: int) -> Piece:
        files, path = self._open()
        piece = self._described(files.info(path))
        if piece.size > max_bytes:
            raise problems.too_large(self._place, piece.size, max_bytes)
        data = bytes(files.cat_file(path, start=0, end=max_bytes + 1))
        if len(data) > max_bytes:
            raise problems.too_large(self._place, None, max_bytes)
        return piece._replace(data=data, size=len(data))

    def _described(self, facts: Mapping[str, Any]) -> Piece:
        size = facts.get("size")
        if not isinstance(size, int) or facts.get("type", "file") != "file":
            what = "is a folder" if facts.get("type") == "directory" else "has no size that is known"
            raise UnsupportedError(f"{self.url} {what}, so that it can't be read in pieces", url=self.url)
        telling = {name.lower(): value for name, value in facts.items() if name.lower() in _TELLING}
        times = (telling[name] for name in _TIMES if name in telling)
        modified = next((time for value in times if (time := _time(value)) is not None), None)
        if not telling:
            return Piece(b"", size)
        text = repr(sorted((name, str(value)) for name, value in telling.items())) + str(size)
        return Piece(b"", size, f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"', modified)

    def _open(self) -> tuple[Any, str]:
        import fsspec

        if self._opened is None:
            try:
                self._opened = fsspec.core.url_to_fs(self._place.address, **self._access.given)
            except TypeError:
                names = ", ".join(self._access.given) or "none"
                raise ConfigurationError(
                    f"the file system of {self.url} does not take these storage options: credentials= names {names}",
                    url=self.url,
                ) from None
        return self._opened

    def _guarded(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function of the file system; its failures in our errors, without its texts, which may hold passwords."""
        url = self.url
        try:
            return function(*args)
        except (UnsupportedError, ConfigurationError, *_OURS):
            raise
        except FileNotFoundError:
            problem: Exception = NotFoundError(f"there is no file {url}. Look at the spelling", url=url)
        except PermissionError:
            problem = ForbiddenError(
                f"{url} may not be read. Storage options are given with credentials={{…}}", url=url
            )
        except TimeoutError:
            problem = DeadlineError(f"{url}: the file system of fsspec gave up waiting", url=url)
        except NotImplementedError:
            problem = UnsupportedError(
                f"the file system of {url} can't read pieces; whole_file=True may do", url=url
            )
        except (OSError, EOFError, ValueError, RuntimeError, KeyError) as error:
            problem = UnreachableError(f"{url} can't be read by fsspec ({type(error).__name__})", url=url)
        raise problem


_OURS = (NotFoundError, ForbiddenError, DeadlineError, FileChangedError)


def _check_scheme(place: Place) -> None:
    fsspec = require("fsspec", extra="fsspec")
    problem: Exception
    try:
        fsspec.get_filesystem_class(place.service)
    except ImportError:
        problem = MissingExtraError(
            f"fsspec reads {place.service}:// by a package that is not installed (for {place.url}). Its documentation names "
            "it: paramiko for sftp",
            service=place.service,
        )
    except ValueError:
        problem = ConfigurationError(
            f"{place.service}:// is not known (in {place.url}): known are s3, gs, az, abfs, do, https, file, and the schemes of "
            "fsspec",
            url=place.url,
        )
    else:
        return
    raise problem


def _time(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, UTC)
    return None
