"""How the documents of a collection are found by their position, and what is sent to find them.

Whatever is sent finds somewhat more than is wanted: the exact separations, computed here, decide. So all three ways
give the same answer:

=========  ==========================================================================================================
`GEO`      ``$geoWithin`` and ``$centerSphere`` on GeoJSON in ``coordinates.radec_geojson``, which has RA - 180
`CELLS`    ranges of ``hpx``, a 64-bit number: the nested HEALPix cell of order 29
`BOX`      ranges of right ascension and declination
=========  ==========================================================================================================
"""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nuncius.archives.wanted import POSITION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymongo.collection import Collection

    from nuncius.archives.backend import Cones
    from nuncius.archives.language import Document
    from nuncius.archives.wanted import Wanted
    from nuncius.sky.regions import Integers

GEO, CELLS, BOX = "geo", "cells", "box"
CELL = "hpx"
_SAMPLE = 20  # documents that are looked at
_RANGES = 1000  # in one question
_SLACK_RAD = 1e-9  # 0.2 mas: what rounding on either side may cost
_SLACK_DEG = 1e-7
_CELL_ARCSEC = 0.01  # how far a cell may be from its document's position, which others may have rounded


@dataclass(frozen=True, slots=True)
class Place:
    """Where documents have their position: the paths of two numbers in degrees.

    Parameters
    ----------
    longitude, latitude : str
        Of right ascension and declination.
    offset : float
        What the right ascension is more than the number.
    """

    longitude: str
    latitude: str
    offset: float = 0.0

    @property
    def is_geojson(self) -> bool:
        """Whether it is the one that Kowalski's documents have."""
        return self is _PLACES[0]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that are needed to read it."""
        return (POSITION,) if self.is_geojson else (self.longitude, self.latitude)

    def of(self, document: Any) -> tuple[float, float] | None:
        """Return right ascension (in [0, 360)) and declination of a document; None if it has none."""
        longitude, latitude = _number(document, self.longitude), _number(document, self.latitude)
        if longitude is None or latitude is None or abs(latitude) > 90:
            return None
        return (longitude + self.offset) % 360.0, latitude

    def add_geojson(self, document: Document, asked: Wanted) -> Document:
        """Take out what was asked for besides, and put the position where Kowalski's documents have it."""
        position = self.of(document)
        assert position is not None, "only what is near to something gets here"
        coordinates = asked.strip(document).setdefault("coordinates", {})
        coordinates["radec_geojson"] = {"type": "Point", "coordinates": [position[0] - 180.0, position[1]]}
        return document


_PLACES = (
    Place(f"{POSITION}.coordinates.0", f"{POSITION}.coordinates.1", 180.0),
    Place("candidate.ra", "candidate.dec"),
    Place("diaSource.ra", "diaSource.dec"),
    Place("ra", "dec"),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the documents of one collection are found by their position."""

    place: Place
    way: str

    def questions(self, query: Cones) -> Iterator[dict[str, Any]]:
        """Give conditions, of which each document near a position meets exactly one."""
        if self.way == CELLS:
            from nuncius.sky import cone_ranges
            from nuncius.sky.cells import merged

            _, low, high = cone_ranges(query.ra, query.dec, query.radius_arcsec)
            yield from cell_questions(*merged(low, high))
            return
        make = _caps if self.way == GEO else _boxes
        parts = make(query, self.place)
        yield parts[0] if len(parts) == 1 else {"$or": parts}


def layout_of(collection: Collection, *, knows_geo: bool) -> Layout | None:
    """Look at some documents and the indexes of a collection; None if no position is found."""
    from pymongo.errors import OperationFailure

    fields = dict.fromkeys([CELL, POSITION, *(name for place in _PLACES[1:] for name in place.fields)], 1)
    sample = list(collection.find({}, {"_id": 0, **fields}, limit=_SAMPLE))
    place = next((place for place in _PLACES if any(place.of(document) for document in sample)), None)
    if place is None:
        return None
    indexed = set()
    with contextlib.suppress(OperationFailure):  # not everybody may ask
        indexed = {index["key"][0] for index in collection.index_information().values()}
    if place.is_geojson and knows_geo and (POSITION, "2dsphere") in indexed:
        return Layout(place, GEO)
    if _has_cells(collection, sample, place):
        return Layout(place, CELLS)
    return Layout(place, GEO if place.is_geojson and knows_geo else BOX)


def _has_cells(collection: Collection, sample: Sequence[Document], place: Place) -> bool:
    """Tell whether all documents that have a position have the cell of it, in the numbering that is meant."""
    import numpy as np

    from nuncius.sky import cone_ranges

    for document in sample:
        position = place.of(document)
        if position is None:
            continue
        cell = document.get(CELL)
        if not isinstance(cell, int):
            return False
        ra, dec = np.array(position)[:, None]
        _, low, high = cone_ranges(ra, dec, _CELL_ARCSEC)
        if not ((low <= cell) & (cell < high)).any():
            return False
    return collection.find_one({CELL: None, place.longitude: {"$exists": True}}, {"_id": 1}) is None


def grouped(query: Cones, documents: Sequence[Document], place: Place) -> list[list[Document]]:
    """Divide documents among the positions that they are near to; one may be near to several."""
    import numpy as np

    from nuncius.sky import separation_arcsec

    placed = [(document, position) for document in documents if (position := place.of(document)) is not None]
    # By declination: a separation is never smaller than its difference.
    placed.sort(key=lambda pair: pair[1][1])
    ra, dec = np.array([position for _, position in placed], dtype=float).reshape(-1, 2).T
    reach = query.radius_arcsec / 3600 + _SLACK_DEG
    first, last = (
        np.searchsorted(dec, query.dec - reach),
        np.searchsorted(dec, query.dec + reach, side="right"),
    )
    groups: list[list[Document]] = []
    given: set[int] = set()
    for number, (begin, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        distance = separation_arcsec(query.ra[number], query.dec[number], ra[begin:end], dec[begin:end])
        near = (begin + np.flatnonzero(distance <= query.radius_arcsec)).tolist()
        # Each position gets documents of its own, which are then changed.
        groups.append([copy.deepcopy(placed[i][0]) if i in given else placed[i][0] for i in near])
        given.update(near)
    return groups


def _caps(query: Cones, place: Place) -> list[dict[str, Any]]:
    import math

    radius = min(math.radians(query.radius_arcsec / 3600) + _SLACK_RAD, math.pi)
    field = place.longitude.removesuffix(".coordinates.0")
    return [
        {field: {"$geoWithin": {"$centerSphere": [[ra - place.offset, dec], radius]}}}
        for ra, dec in zip(query.ra.tolist(), query.dec.tolist(), strict=True)
    ]


def cell_questions(low: Integers, high: Integers) -> Iterator[dict[str, Any]]:
    """Give conditions, of which each document in disjoint ranges of cells meets exactly one."""
    ranges = [{CELL: {"$gte": a, "$lt": b}} for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    for begin in range(0, len(ranges), _RANGES):
        yield {"$or": ranges[begin : begin + _RANGES]}


def _boxes(query: Cones, place: Place) -> list[dict[str, Any]]:
    """Make boxes around cones: the tangents of a small circle on the sphere, sin(d ra) = sin(radius) / cos(dec)."""
    import numpy as np

    reach = query.radius_arcsec / 3600 + _SLACK_DEG
    south, north = query.dec - reach, query.dec + reach
    polar = (south <= -90) | (north >= 90)
    with np.errstate(divide="ignore", invalid="ignore"):
        sine = np.sin(np.radians(reach)) / np.cos(np.radians(query.dec))
    width = np.where(polar, 180.0, np.degrees(np.arcsin(np.clip(sine, 0, 1))) + _SLACK_DEG)
    return [
        {place.latitude: {"$gte": low, "$lte": high}, **_longitudes(place, ra, half)}
        for ra, half, low, high in zip(
            query.ra.tolist(), width.tolist(), south.tolist(), north.tolist(), strict=True
        )
    ]


def _longitudes(place: Place, ra: float, half: float) -> dict[str, Any]:
    """Bound the right ascension, which may be written from -180 or from 0 degrees on."""
    if half >= 180:
        return {}
    centre = ra - place.offset
    turns = (centre + turn for turn in (-360.0, 0.0, 360.0))
    ranges = [
        {place.longitude: {"$gte": middle - half, "$lte": middle + half}}
        for middle in turns
        if middle + half >= -180 and middle - half <= 360
    ]
    return {"$or": ranges}


def _number(document: Any, path: str) -> float | None:
    for name in path.split("."):
        try:
            document = document[int(name)] if isinstance(document, list) else document[name]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    # NaN is not on the sky.
    is_number = isinstance(document, (int, float)) and not isinstance(document, bool)
    return float(document) if is_number and document - document == 0 else None
