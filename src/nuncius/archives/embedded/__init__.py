"""The archive in one SQLite file."""

from nuncius.archives.embedded.archive import ArchivedObject, EmbeddedArchive
from nuncius.archives.embedded.ingest import IngestReport

__all__ = ["ArchivedObject", "EmbeddedArchive", "IngestReport"]
