"""ANTARES, the alert broker of NOIRLab, as an archive: its loci over HTTP."""

from nuncius.archives.antares._async import AsyncAntaresArchive
from nuncius.archives.antares._sync import AntaresArchive
from nuncius.archives.antares.backend import AntaresBackend

__all__ = ["AntaresArchive", "AntaresBackend", "AsyncAntaresArchive"]
