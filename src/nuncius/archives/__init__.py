"""Keep alerts and ask for them again, here and in remote archives, in one language."""

from nuncius.archives._async import AsyncArchive
from nuncius.archives._sync import Archive
from nuncius.archives.alerce import AlerceArchive, AsyncAlerceArchive
from nuncius.archives.antares import AntaresArchive, AsyncAntaresArchive
from nuncius.archives.backend import Failure
from nuncius.archives.embedded import (
    ArchivedObject,
    AsyncEmbeddedArchive,
    EmbeddedArchive,
    Explanation,
    ExportReport,
    IngestReport,
    LoadReport,
)
from nuncius.archives.kowalski import AsyncKowalskiArchive, KowalskiArchive
from nuncius.archives.opening import open_archive
from nuncius.archives.results import Result

__all__ = [
    "AlerceArchive",
    "AntaresArchive",
    "Archive",
    "ArchivedObject",
    "AsyncAlerceArchive",
    "AsyncAntaresArchive",
    "AsyncArchive",
    "AsyncEmbeddedArchive",
    "AsyncKowalskiArchive",
    "EmbeddedArchive",
    "Explanation",
    "ExportReport",
    "Failure",
    "IngestReport",
    "KowalskiArchive",
    "LoadReport",
    "Result",
    "open_archive",
]
