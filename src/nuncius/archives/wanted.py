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

    __slots__ = ("_added", "_projection", "fields")

    fields: dict[str, Any] | None
    """What is to be asked for; None is everything."""

    def __init__(self, projection: Projection, needed: Iterable[str]) -> None:
        self._added: list[tuple[str, Projection | None]] = []  # and what of it the user does want
        self._projection = projection
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
        for path, inner in self._added:
            _remove(document, path.split("."), inner)
        return document

    def _include(self, path: str) -> None:
        assert self.fields is not None
        if path == "_id":
            if not self.fields.get("_id", 1):
                del self.fields["_id"]
                if not self.fields:
                    self.fields = None
                self._added.append((path, None))
            return
        if any(path == name or path.startswith(f"{name}.") for name in self.fields):
            return
        # A path and a part of it can't be asked for together.
        inner = {
            name.removeprefix(f"{path}."): self.fields.pop(name)
            for name in [*self.fields]
            if name.startswith(f"{path}.")
        }
        self.fields[path] = 1
        self._added.append((path, type(self._projection)({**inner, "_id": 0}) if inner else None))

    def _spare(self, path: str) -> None:
        """Don't leave out a field, nor one that it stands in."""
        assert self.fields is not None
        for name in [
            n for n in self.fields if path == n or path.startswith(f"{n}.") or n.startswith(f"{path}.")
        ]:
            del self.fields[name]
            self._added.append((name, None))
        if not self.fields:
            self.fields = None


def position_of(document: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return right ascension and declination (ICRS degrees) of a document, from its GeoJSON; None if it has none."""
    try:
        lon, lat = document["coordinates"]["radec_geojson"]["coordinates"]
        return (float(lon) + 180.0) % 360.0, float(lat)
    except (KeyError, TypeError, ValueError):
        return None


def _remove(document: Any, path: list[str], inner: Projection | None) -> None:
    """Remove a field, but for what is inner, and what stands around it if that is then empty."""
    name, rest = path[0], path[1:]
    if not isinstance(document, dict) or name not in document:
        return
    if rest:
        _remove(document[name], rest, inner)
        if document[name] != {}:
            return
    elif inner is not None and isinstance(document[name], dict):
        document[name] = inner.apply(document[name])
        return
    del document[name]
