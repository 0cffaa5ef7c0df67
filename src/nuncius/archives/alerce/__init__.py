"""ALeRCE, the alert broker of Chile, as an archive: its objects of ZTF over HTTP."""

from nuncius.archives.alerce._async import AsyncAlerceArchive
from nuncius.archives.alerce._sync import AlerceArchive
from nuncius.archives.alerce.backend import AlerceBackend

__all__ = ["AlerceArchive", "AlerceBackend", "AsyncAlerceArchive"]
