"""The archive in one SQLite file."""

from nuncius.archives.embedded._async import AsyncEmbeddedArchive
from nuncius.archives.embedded._sync import EmbeddedArchive
from nuncius.archives.embedded.explain import Explanation
from nuncius.archives.embedded.objects import ArchivedObject
from nuncius.archives.embedded.reports import ExportReport, IngestReport, LoadReport

__all__ = [
    "ArchivedObject",
    "AsyncEmbeddedArchive",
    "EmbeddedArchive",
    "Explanation",
    "ExportReport",
    "IngestReport",
    "LoadReport",
]
