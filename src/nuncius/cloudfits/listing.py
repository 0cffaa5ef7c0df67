"""Which files are meant: an iterable of URLs, a folder, a pattern, a file with URLs."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nuncius.errors import ConfigurationError, NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from nuncius.cloudfits.access import Access

Urls: TypeAlias = Iterable[str | os.PathLike[str]] | AsyncIterable[str | os.PathLike[str]]

_FITS = re.compile(r"\.(?:fits?|fts|fz|ftz)(?:\.(?:gz|bz2|Z|fz))?$", re.IGNORECASE)
_PATTERN = re.compile(r"[*?\[]")
_LINK = re.compile(r"https?://", re.IGNORECASE)


def find_urls(urls: Urls | str | os.PathLike[str], access: Access) -> Urls:
    """Return the files that are meant.

    Parameters
    ----------
    urls : iterable of str or path, or str
        Files; or a folder, a pattern, ``@files.txt``, one file.
    access : Access
        How a store is reached.

    Raises
    ------
    ConfigurationError
        If it is none of them.
    NotFoundError
        If there is no such file of URLs.
    """
    if isinstance(urls, os.PathLike):
        path = os.fspath(urls)
        return _listed(f"{path}/", access) if os.path.isdir(path) else [urls]  # noqa: PTH112 - false, and never an error
    if isinstance(urls, str):
        if urls.startswith("@"):
            return _lines(Path(urls[1:]))
        if os.path.isdir(os.path.expanduser(urls)):  # noqa: PTH111, PTH112 - of this machine: no slash is needed
            return _listed(urls.rstrip("/") + "/", access)
        # In a link a question mark begins the query.
        if urls.endswith("/") or _PATTERN.search(urls.partition("?")[0] if _LINK.match(urls) else urls):
            return _listed(urls, access)
        return [urls]
    if isinstance(urls, AsyncIterable):
        return urls
    if isinstance(urls, bytes) or not isinstance(urls, Iterable):
        raise ConfigurationError(
            f"urls are an iterable of URLs, a folder or a pattern, not {type(urls).__name__}"
        )
    columns: Any = urls
    return columns.to_pylist() if hasattr(columns, "to_pylist") else urls


def count_of(urls: Urls) -> int | None:
    """Return how many files there are, where that is known."""
    count = getattr(urls, "__len__", None)
    return None if count is None else count()


async def _listed(url: str, access: Access) -> AsyncIterator[str]:
    """Give the files of a pattern, or those of a folder that are named like FITS files."""
    from nuncius.cloudfits.stores.listing import list_objects

    everything = not url.endswith("/")
    async for found in list_objects(url, access):
        if everything or _FITS.search(found[0]):
            yield found[0]


def _lines(path: Path) -> Iterator[str]:
    """Give the lines of a file, but for empty ones and those that begin with ``#``."""
    try:
        file = path.open(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file of URLs {path}") from error
    except OSError as error:
        raise StorageError(f"{path} can't be read: {error.strerror}") from error

    def given() -> Iterator[str]:
        with file:
            for line in file:
                url = line.strip()
                if url and not url.startswith("#"):
                    yield url

    return given()
