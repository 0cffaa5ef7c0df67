"""Kowalski, the archive of ZTF and other surveys, over HTTP."""

from nuncius.archives.kowalski._async import AsyncKowalskiArchive
from nuncius.archives.kowalski._sync import KowalskiArchive
from nuncius.archives.kowalski.backend import KowalskiBackend

__all__ = ["AsyncKowalskiArchive", "KowalskiArchive", "KowalskiBackend"]
