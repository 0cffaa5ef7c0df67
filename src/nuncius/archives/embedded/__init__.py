"""The archive in one SQLite file."""

from nuncius.archives.embedded._async import AsyncEmbeddedArchive
from nuncius.archives.embedded._sync import EmbeddedArchive
from nuncius.archives.embedded.ingest import IngestReport
from nuncius.archives.embedded.objects import ArchivedObject

__all__ = ["ArchivedObject", "AsyncEmbeddedArchive", "EmbeddedArchive", "IngestReport"]
