"""Regions in filters: `$geoWithin`, `$geoIntersects`, `$nearSphere` and `$near` on points of the sky.

Archives keep a position as a GeoJSON point or a pair [longitude, latitude], where the longitude is the right ascension
minus 180 degrees. Regions of a filter are in longitude and latitude; the regions made here are in right ascension and
declination.

Source: the MongoDB manual, "Geospatial Query Operators"; a distance in metres is one on a sphere with the radius of
MongoDB's Earth, 6378.1 km; and Kowalski's documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.values import is_number, kind_of, plain, unknown
from nuncius.errors import ConfigurationError, FilterError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nuncius.archives.language.values import Document
    from nuncius.sky.regions import Cone, Region

EARTH_RADIUS_M = 6_378_100.0
NEAR = frozenset({"$nearSphere", "$near"})
WITHIN = frozenset({"$geoWithin", "$geoIntersects"})
_FLAT = ("$center", "$box", "$polygon", "$uniqueDocs")


class RegionCondition(dict[str, Any]):
    """A checked condition with a region in it, which is made once and not for each document."""

    def region(self, operator: str) -> Region:
        """Return the region of one of its operators."""
        made: dict[str, Region] = self.__dict__.setdefault("regions", {})
        if operator not in made:
            made[operator] = geo_region(operator, self[operator])
        return made[operator]


# Checking ------------------------------------------------------------------------------------------------------------


def check_region(condition: Mapping[str, Any], place: str) -> RegionCondition:
    """Check the regions of a condition, and give distances the one form that goes for all archives.

    Raises
    ------
    FilterError
        If a region is none.
    UnsupportedError
        If it is flat, or not made of points and polygons.
    """
    checked = dict(condition)
    near = [operator for operator in checked if operator in NEAR]
    distances = {str(name): checked.pop(name) for name in ("$maxDistance", "$minDistance") if name in checked}
    if distances and not near:
        raise FilterError(
            f"{place}: {next(iter(distances))} belongs to $nearSphere, which is missing", position=place
        )
    for operator in near:
        checked[operator] = _in_metres(checked[operator], distances, f"{place}[{operator!r}]")
    made = RegionCondition(checked)
    for operator, operand in checked.items():
        if operator in NEAR or operator in WITHIN:
            geo_region(operator, operand, f"{place}[{operator!r}]")
    return made


def _in_metres(operand: Any, distances: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Write `$nearSphere` with a GeoJSON point and metres; beside a plain pair distances are in radians."""
    operand = plain(operand, place)
    if isinstance(operand, dict) and "$geometry" in operand:
        return {**operand, **distances}
    if isinstance(operand, dict) and "type" in operand:
        return {"$geometry": operand, **distances}
    if isinstance(operand, list) and len(operand) == 3:  # the third is a distance, in the oldest form
        distances = {"$maxDistance": operand.pop(), **distances}
    point = {"type": "Point", "coordinates": list(_pair(operand, place))}
    return {
        "$geometry": point,
        **{
            name: _distance(value, f"{place}[{name!r}]") * EARTH_RADIUS_M for name, value in distances.items()
        },
    }


def _distance(value: Any, place: str) -> float:
    value = plain(value, place)
    if not is_number(value) or not 0 <= value < math.inf:
        raise FilterError(
            f"{place}: a distance is a number that is not negative, not {value!r}", position=place
        )
    return float(value)


# Regions -------------------------------------------------------------------------------------------------------------


def geo_region(operator: str, operand: Any, place: str = "filter") -> Region:
    """Return the region of the sky that an operator of a checked filter asks for.

    Parameters
    ----------
    operator : str
        `$geoWithin`, `$geoIntersects`, `$nearSphere` or `$near`.
    operand : mapping
        What stands under it, in longitude (right ascension minus 180 degrees) and latitude.
    place : str, optional
        Where it stands, for messages.

    Returns
    -------
    Region
        In right ascension and declination.

    Raises
    ------
    FilterError
        If it is no region.
    UnsupportedError
        If it is flat, or not made of points and polygons.

    Examples
    --------
    >>> geo_region("$geoWithin", {"$centerSphere": [[-170.0, 41.0], 1e-5]}).ra
    10.0
    """
    try:
        if operator in NEAR:
            return _near(operand, place)
        if not isinstance(operand, Mapping) or len(operand) != 1:
            raise FilterError(
                f"{place} takes {{'$centerSphere': [[lon, lat], radians]}} or {{'$geometry': …}}",
                position=place,
            )
        shape, value = next(iter(operand.items()))
        if shape == "$geometry":
            return _geometry(value, f"{place}['$geometry']")
        if shape == "$centerSphere" and operator == "$geoWithin":
            return _circle(value, f"{place}['$centerSphere']")
        if shape in _FLAT:
            raise UnsupportedError(
                f"{place}: {shape} is flat and the sky is not; use $centerSphere or $geometry", position=place
            )
        known = ("$geometry", "$centerSphere") if operator == "$geoWithin" else ("$geometry",)
        raise unknown(str(shape), place, known, "is no shape")
    except ConfigurationError as error:
        raise FilterError(f"{place}: {error}", position=place) from error


def _cone(lon: float, lat: float, radius: float, minimum: float = 0.0) -> Region:
    from nuncius.sky.regions import Cone, Union

    radius, minimum = (min(math.degrees(angle), 180.0) * 3600 for angle in (radius, minimum))
    if minimum > radius:
        return Union(())
    return Cone(right_ascension(lon), lat, radius, minimum)


def right_ascension(lon: float) -> float:
    """Return the right ascension of a longitude, from 0 to below 360 degrees."""
    return (lon + 180.0) % 360.0


def _near(operand: Any, place: str) -> Region:
    if not isinstance(operand, Mapping):
        operand = _in_metres(operand, {}, place)
    extra = set(operand) - {"$geometry", "$maxDistance", "$minDistance"}
    if extra:
        raise unknown(
            str(min(map(str, extra))),
            place,
            ("$geometry", "$maxDistance", "$minDistance"),
            "has no place here",
        )
    geometry = operand.get("$geometry")
    if not isinstance(geometry, Mapping) or geometry.get("type", "Point") != "Point":
        raise FilterError(
            f"{place} takes [lon, lat] or {{'$geometry': {{'type': 'Point', …}}}}", position=place
        )
    lon, lat = _pair(geometry.get("coordinates"), f"{place}['$geometry']")
    farthest, nearest = (
        _distance(operand[name], f"{place}[{name!r}]") / EARTH_RADIUS_M if name in operand else default
        for name, default in (("$maxDistance", math.pi), ("$minDistance", 0.0))
    )
    return _cone(lon, lat, farthest, nearest)


def _circle(value: Any, place: str) -> Region:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise FilterError(f"{place} takes [[lon, lat], radius in radians]", position=place)
    lon, lat = _pair(value[0], f"{place}[0]")
    return _cone(lon, lat, _distance(value[1], f"{place}[1]"))


def _geometry(value: Any, place: str) -> Region:
    from nuncius.sky.regions import Polygon, Union

    if not isinstance(value, Mapping) or "type" not in value or "coordinates" not in value:
        raise FilterError(f"{place} is GeoJSON: {{'type': …, 'coordinates': …}}", position=place)
    if "crs" in value:
        raise UnsupportedError(
            f"{place}: 'crs' is not supported; a polygon is the smaller of its sides", position=place
        )
    kind, coordinates = value["type"], value["coordinates"]
    where = f"{place}['coordinates']"
    if kind == "Polygon":
        return Polygon(_rings(coordinates, where))
    if kind == "MultiPolygon":
        if not isinstance(coordinates, Sequence) or isinstance(coordinates, str):
            raise FilterError(f"{where} is a list of polygons", position=where)
        return Union(
            tuple(Polygon(_rings(part, f"{where}[{index}]")) for index, part in enumerate(coordinates))
        )
    if kind == "Point":
        return _cone(*_pair(coordinates, where), 0.0)
    raise UnsupportedError(f"{place}: {kind!r} is not supported; use Polygon or MultiPolygon", position=place)


def _rings(value: Any, place: str) -> list[list[tuple[float, float]]]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise FilterError(f"{place} is a list of closed rings of [lon, lat]", position=place)
    rings = []
    for index, ring in enumerate(value):
        where = f"{place}[{index}]"
        if not isinstance(ring, Sequence) or isinstance(ring, str) or len(ring) < 4:
            raise FilterError(f"{where}: a ring has at least four [lon, lat]", position=where)
        points = [_pair(point, f"{where}[{number}]") for number, point in enumerate(ring)]
        if points[0] != points[-1]:
            raise FilterError(f"{where}: a ring ends where it begins", position=where)
        rings.append([(right_ascension(lon), lat) for lon, lat in points])
    return rings


def _pair(value: Any, place: str) -> tuple[float, float]:
    pair = legacy_pair(value)
    if pair is None:
        raise FilterError(
            f"{place} is [lon, lat] in degrees, lon = RA - 180 from -180 to 180, not {value!r}"
            if not isinstance(value, Mapping)
            else f"{place} is [lon, lat] in degrees, not {kind_of(value)}",
            position=place,
        )
    return pair


# Positions of documents ----------------------------------------------------------------------------------------------


def legacy_pair(value: Any) -> tuple[float, float] | None:
    """Return a pair of longitude and latitude, or None if it is none."""
    if isinstance(value, Mapping):
        value = list(value.values())[:2]
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    lon, lat = value
    if is_number(lon) and is_number(lat) and -180 <= lon <= 180 and -90 <= lat <= 90:
        return float(lon), float(lat)
    return None


def positions_of(values: Iterable[Any]) -> Iterator[tuple[float, float]]:
    """Give the positions (right ascension, declination) among the values of a field."""
    for value in values:
        pair = None
        if isinstance(value, Mapping) and "coordinates" in value:
            coordinates = value["coordinates"]
            if value.get("type", "Point") == "Point" and isinstance(coordinates, list):
                pair = legacy_pair(coordinates[:2])
        elif isinstance(value, Mapping) or (isinstance(value, list) and value and is_number(value[0])):
            pair = legacy_pair(value)
        elif isinstance(value, list):
            yield from positions_of(item for item in value if not is_number(item))
        if pair is not None:
            yield right_ascension(pair[0]), pair[1]


def lies_within(values: list[Any], region: Region) -> bool:
    """Tell whether one of the positions among values lies in a region."""
    return any(bool(region.contains(ra, dec)) for ra, dec in positions_of(values))


def near_of(condition: Mapping[str, Any]) -> Cone | None:
    """Return the cone of a checked filter's `$nearSphere`, by whose distance the answer is sorted; or None.

    Its centre, its radius and its least distance are those that were asked for.
    """
    from nuncius.sky.regions import Cone

    for path, wanted in condition.items():
        if path == "$and":
            for part in wanted:
                cone = near_of(part)
                if cone is not None:
                    return cone
        elif isinstance(wanted, RegionCondition):
            for operator in NEAR & set(wanted):
                region = wanted.region(operator)
                return region if isinstance(region, Cone) else None
    return None


def sorted_by_distance(
    documents: Iterable[Document], path: str, cone: Region, cone_centre: tuple[float, float]
) -> Iterator[tuple[Document, float, tuple[float, float]]]:
    """Give documents with a position in a region, the nearest first, with the distance (arcsec) and the position."""
    import numpy as np

    from nuncius.archives.language.values import found
    from nuncius.sky import separation_arcsec

    names = path.split(".")
    located = [
        (document, position) for document in documents for position in positions_of(found(document, names))
    ]
    if not located:
        return
    ra, dec = np.array([position for _, position in located]).T
    distance = separation_arcsec(*cone_centre, ra, dec)
    seen: set[int] = set()
    for index in np.argsort(distance, kind="stable")[: len(located)].tolist():
        document, position = located[index]
        # Of several positions of a document the nearest counts.
        if id(document) not in seen and bool(cone.contains(*position)):
            seen.add(id(document))
            yield document, float(distance[index]), position
