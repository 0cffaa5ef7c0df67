"""BOOM, the alert broker and archive that follows Kowalski, over HTTP."""

from nuncius.archives.boom.backend import BoomBackend

__all__ = ["BoomBackend"]
