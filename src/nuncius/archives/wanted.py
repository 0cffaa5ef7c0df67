"""Asking a service for more fields than the user wants, and taking them out again.

A separation needs the position of a document, and a sort order its fields, also where the user's projection leaves
them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nuncius.archives.language import Document, Projection

POSITION = "coordinates.radec_geojson"


class Wanted:
    """A projection, and fields that are needed besides.

    Parameters
    ----------
    projection : Projection
        What the user wants.
    needed : iterable of str
        Paths of fields that we need.
    """

    __slots__ = ("_added", "fields")

    fields: dict[str, Any] | None
    """What is to be asked for; None is everything."""

    def __init__(self, projection: Projection, needed: Iterable[str]) -> None:
        self._added: list[str] = []
        wanted = projection.fields
        if wanted is None:
            self.fields = None
            return
        self.fields = dict(wanted)
        keeps = any(bool(value) for name, value in wanted.items() if name != "_id") or wanted == {"_id": 1}
        for path in needed:
            if keeps or path == "_id":
                self._include(path)
            else:
                self._spare(path)

    def strip(self, document: Document) -> Document:
        """Take out of a document, in place, what the user did not want."""
        for path in self._added:
            _remove(document, path.split("."))
        return document

    def _include(self, path: str) -> None:
        assert self.fields is not None
        if path == "_id":
            if not self.fields.get("_id", 1):
                del self.fields["_id"]
                if not self.fields:
                    self.fields = None
                self._added.append(path)
            return
        if any(path == name or path.startswith(f"{name}.") for name in self.fields):
            return
        inner = [name for name in self.fields if name.startswith(f"{path}.")]
        for name in inner:  # a path and a part of it can't be asked for together
            del self.fields[name]
        self.fields[path] = 1
        self._added.append(path)

    def _spare(self, path: str) -> None:
        """Don't leave out a field, nor one that it stands in."""
        assert self.fields is not None
        for name in [
            n for n in self.fields if path == n or path.startswith(f"{n}.") or n.startswith(f"{path}.")
        ]:
            del self.fields[name]
            self._added.append(name)
        if not self.fields:
            self.fields = None


def position_of(document: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return right ascension and declination (ICRS degrees) of a document, from its GeoJSON; None if it has none."""
    try:
        lon, lat = document["coordinates"]["radec_geojson"]["coordinates"]
        return (float(lon) + 180.0) % 360.0, float(lat)
    except (KeyError, TypeError, ValueError):
        return None


def _remove(document: Any, path: list[str]) -> None:
    """Remove a field, and what stands around it if that is then empty."""
    name, rest = path[0], path[1:]
    if not isinstance(document, dict) or name not in document:
        return
    if rest:
        _remove(document[name], rest)
        if document[name] != {}:
            return
    del document[name]
