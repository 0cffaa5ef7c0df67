"""Keep alerts and ask for them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.archives.embedded import ArchivedObject, EmbeddedArchive, IngestReport
from nuncius.archives.results import Result
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ArchivedObject", "EmbeddedArchive", "IngestReport", "Result", "open_archive"]


def open_archive(url: str | Path, *, read_only: bool = False) -> EmbeddedArchive:
    """Open an archive, and make it if it doesn't exist.

    Parameters
    ----------
    url : str or Path
        The path of an archive file, such as ``night.db``.
    read_only : bool
        Open for reading alone; the file must exist.

    Returns
    -------
    EmbeddedArchive

    Raises
    ------
    StorageError
        If the file can't be opened, is no archive, or lies on a network file system.
    NotFoundError
        If it was opened read-only and doesn't exist.

    Examples
    --------
    >>> with open_archive("night.db") as archive:  # doctest: +SKIP
    ...     archive.ingest(read_packets("packets/"))
    ...     archive.cone_search("ZTF_alerts", (75.2, 35.36), "5 arcsec").to_table()
    """
    text = str(url)
    if "://" in text and not text.startswith("sqlite:///"):
        raise ConfigurationError(
            f"{text!r}: an archive is a file, such as night.db; this release opens no remote archives",
            url=text,
        )
    return EmbeddedArchive(text.removeprefix("sqlite:///"), read_only=read_only)
