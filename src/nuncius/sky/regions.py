"""Regions of the sky: cones, polygons, unions and multi-order coverages (MOCs).

A region answers two questions. `contains` is exact. `ranges` gives cells of order 29 that cover it, and may give
somewhat more: an index finds what lies in the ranges, and `contains` decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from nuncius.errors import ConfigurationError
from nuncius.sky.cells import (
    CELLS,
    ORDER,
    _centres,
    cells_of,
    cells_of_ranges,
    cone_ranges,
    corners,
    cover,
    merged,
)
from nuncius.sky.positions import separation_arcsec, to_positions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]
    Flags: TypeAlias = NDArray[np.bool_]

_EDGE_CELLS = 512  # on the edge of a polygon; a finer coverage costs more than the rows that it saves
_AT_ONCE = 1 << 21  # pairs of a point and an edge in one step, which bounds the memory
_ROUNDING_RAD = 3e-8  # of the distance to a vertex, which comes from its cosine alone
_MAX_GEOJSON = 1_000_000


@runtime_checkable
class Region(Protocol):
    """A part of the sky."""

    def contains(self, ra: Any, dec: Any) -> Flags:
        """Tell which positions (degrees) lie in it."""
        ...

    def ranges(self) -> tuple[Integers, Integers]:
        """Return ranges of cells of order 29 that cover it, sorted and disjoint, the upper ends exclusive."""
        ...


@dataclass(frozen=True, slots=True)
class Cone:
    """All within an angle of a position, and not nearer than another one.

    Parameters
    ----------
    ra, dec : float
        The centre, in degrees.
    radius_arcsec : float
        The radius; a position at this very distance is in.
    minimum_arcsec : float, optional
        The least distance.

    Raises
    ------
    ConfigurationError
        If the centre is not on the sky, or a radius not between 0 and 180 degrees.

    Examples
    --------
    >>> Cone(10.0, 41.0, 2.0).contains([10.0, 10.1], [41.0, 41.0]).tolist()
    [True, False]
    """

    ra: float
    dec: float
    radius_arcsec: float
    minimum_arcsec: float = 0.0

    def __post_init__(self) -> None:
        to_positions((self.ra, self.dec))
        if not 0 <= self.minimum_arcsec <= self.radius_arcsec <= 180 * 3600:
            raise ConfigurationError(
                f"a cone reaches from minimum_arcsec={self.minimum_arcsec} to radius_arcsec={self.radius_arcsec}: these "
                "are angles in order, from 0 to 180 degrees"
            )

    def contains(self, ra: Any, dec: Any) -> Flags:
        """Tell which positions (degrees) lie in it."""
        distance = separation_arcsec(self.ra, self.dec, np.asarray(ra), np.asarray(dec))
        inside: Flags = (distance >= self.minimum_arcsec) & (distance <= self.radius_arcsec)
        return inside

    def ranges(self) -> tuple[Integers, Integers]:
        """Return ranges of cells of order 29 that cover it, sorted and disjoint, the upper ends exclusive."""
        _, low, high = cone_ranges(np.array([self.ra % 360]), np.array([float(self.dec)]), self.radius_arcsec)
        return merged(low, high)


@dataclass(frozen=True, slots=True)
class Polygon:
    """What great circles between vertices enclose: the smaller of the two sides, convex or not.

    Parameters
    ----------
    vertices : SkyCoord or sequence of (ra, dec), or sequence of such rings
        In degrees, in either direction, closed or not. Of several rings the first is the outer edge and the others
        are holes, as in GeoJSON. A line that crosses itself encloses what an odd number of its turns encloses.

    Raises
    ------
    ConfigurationError
        If a ring has fewer than three vertices, or two in succession are opposite to each other.

    Examples
    --------
    >>> triangle = Polygon([(359.0, -1.0), (1.0, -1.0), (0.0, 1.0)])
    >>> triangle.contains([0.0, 180.0], [0.0, 0.0]).tolist()
    [True, False]
    """

    vertices: Any
    _rings: tuple[_Ring, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rings = [to_positions(ring)[:2] for ring in _rings_of(self.vertices)]
        plain = tuple(tuple(zip(ra.tolist(), dec.tolist(), strict=True)) for ra, dec in rings)
        object.__setattr__(self, "vertices", plain)
        object.__setattr__(self, "_rings", tuple(_Ring(ra, dec) for ra, dec in rings))

    def contains(self, ra: Any, dec: Any) -> Flags:
        """Tell which positions (degrees) lie in it; on an edge, rounding decides."""
        ra, dec = np.broadcast_arrays(np.asarray(ra, np.float64), np.asarray(dec, np.float64))
        points = _unit_vectors(ra.ravel(), dec.ravel())
        inside = self._rings[0].contains(points)
        for hole in self._rings[1:]:
            inside[inside] = ~hole.contains(points[inside])
        return inside.reshape(ra.shape)

    def ranges(self) -> tuple[Integers, Integers]:
        """Return ranges of cells of order 29 that cover it, sorted and disjoint, the upper ends exclusive."""

        def judge(ra: Floats, dec: Floats, own: float) -> tuple[Flags, Flags]:
            points = _unit_vectors(ra, dec)
            on_edge = np.min([ring.distance(points) for ring in self._rings], axis=0) <= own + _ROUNDING_RAD
            inside = self.contains(ra, dec)
            return inside & ~on_edge, inside | on_edge

        return cover(judge, max_cells=_EDGE_CELLS)


def _rings_of(vertices: Any) -> list[Any]:
    """Tell a ring of positions from a list of such rings."""
    if hasattr(vertices, "icrs") or not isinstance(vertices, (Sequence, np.ndarray)) or not len(vertices):
        return [vertices]
    first = vertices[0]
    nested = hasattr(first, "icrs") and not first.isscalar
    return list(vertices) if nested or np.ndim(first) == 2 else [vertices]


@dataclass(frozen=True, slots=True)
class Union:
    """What lies in at least one of several regions.

    Parameters
    ----------
    regions : sequence of Region
    """

    regions: tuple[Region, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "regions", tuple(self.regions))

    def contains(self, ra: Any, dec: Any) -> Flags:
        """Tell which positions (degrees) lie in it."""
        inside = np.zeros(np.broadcast_shapes(np.shape(ra), np.shape(dec)), bool)
        for region in self.regions:
            inside |= region.contains(ra, dec)
        return inside

    def ranges(self) -> tuple[Integers, Integers]:
        """Return ranges of cells of order 29 that cover it, sorted and disjoint, the upper ends exclusive."""
        parts = [region.ranges() for region in self.regions]
        low, high = (
            (np.concatenate([np.empty(0, np.int64), *bounds]) for bounds in zip(*parts, strict=True))
            if parts
            else _NOTHING
        )
        return merged(low, high)


_NOTHING = (np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, eq=False)
class Moc:
    """A multi-order coverage: whole HEALPix cells (IVOA MOC 2.0, space).

    Parameters
    ----------
    low, high : array of int, shape (n,)
        Ranges of nested cells of order 29, `low` inclusive and `high` exclusive; in any order, they may overlap.

    Raises
    ------
    ConfigurationError
        If they are no ranges of cells.
    """

    low: Integers
    high: Integers

    def __post_init__(self) -> None:
        low, high = np.asarray(self.low, np.int64), np.asarray(self.high, np.int64)
        if (
            low.shape != high.shape
            or low.ndim != 1
            or (low < 0).any()
            or (low >= high).any()
            or (high > CELLS).any()
        ):
            raise ConfigurationError("these are no ranges of HEALPix cells of order 29")
        low, high = merged(low, high)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @classmethod
    def of_cells(cls, cells: Any, order: Any) -> Moc:
        """Make one of nested cells and their order(s).

        Raises
        ------
        ConfigurationError
            If these are no cells of that order.
        """
        cells, order = np.broadcast_arrays(np.asarray(cells, np.int64), np.asarray(order, np.int64))
        if ((order < 0) | (order > ORDER)).any() or ((cells < 0) | (cells >= 12 << (2 * order))).any():
            raise ConfigurationError(
                "these are no HEALPix cells: orders go from 0 to 29, cells from 0 to 12 * 4**order - 1"
            )
        shift = 2 * (ORDER - order)
        return cls((cells << shift).ravel(), ((cells + 1) << shift).ravel())

    @classmethod
    def from_fits(cls, source: Any) -> Moc:
        """Read a MOC from a FITS file: a path, bytes or an HDUList, gzipped or not.

        Raises
        ------
        NotFoundError
            If there is no such file.
        ConfigurationError
            If it holds no MOC of the sky.
        """
        from nuncius.sky.maps import moc_of_fits

        return cls(*moc_of_fits(source))

    def contains(self, ra: Any, dec: Any) -> Flags:
        """Tell which positions (degrees) lie in it."""
        cells = cells_of(ra, dec)
        if not len(self.low):
            return np.zeros(cells.shape, bool)
        place = np.searchsorted(self.low, cells, side="right") - 1
        inside: Flags = (place >= 0) & (cells < self.high[np.maximum(place, 0)])
        return inside

    def ranges(self) -> tuple[Integers, Integers]:
        """Return its ranges of cells of order 29, sorted and disjoint, the upper ends exclusive."""
        return self.low, self.high

    @property
    def sky_fraction(self) -> float:
        """How much of the sky it is, from 0 to 1."""
        return float((self.high - self.low).sum() / CELLS)

    def uniq(self) -> Integers:
        """Return it as the fewest cells, as ``4 * 4**order + cell`` (MOC's NUNIQ), sorted."""
        low, high = self.low, self.high
        found = []
        for order in range(ORDER + 1):
            shift = 2 * (ORDER - order)
            first, last = -(-low >> shift), high >> shift
            whole = first < last
            cells = cells_of_ranges(first[whole] << shift, last[whole] << shift, order)
            found.append(cells + (4 << (2 * order)))
            # What is left of a range stands before and behind its whole cells.
            low, high = (
                np.concatenate([low, (last << shift)[whole]]),
                np.concatenate([np.where(whole, first << shift, high), high[whole]]),
            )
            left = low < high
            low, high = low[left], high[left]
        return np.sort(np.concatenate(found))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Moc)
            and np.array_equal(self.low, other.low)
            and np.array_equal(self.high, other.high)
        )

    def __hash__(self) -> int:
        return hash((self.low.tobytes(), self.high.tobytes()))

    def __repr__(self) -> str:
        return f"<Moc: {self.sky_fraction:.3g} of the sky in {len(self.low)} ranges>"


def to_region(value: Any, credible: float | None = None) -> Region:
    """Turn what a user gives as a region into one.

    Parameters
    ----------
    value : Region, mocpy.MOC, path, bytes, HDUList, Table, SkyCoord or list of (ra, dec)
        A file or table may be a MOC or a sky map (multi-order with UNIQ and PROBDENSITY, or flat with PROB, nested or
        ring). Positions are the vertices of a polygon.
    credible : float, optional
        How much of the probability of a sky map the region holds: it is the smallest that does. By default 0.9.

    Returns
    -------
    Region

    Raises
    ------
    NotFoundError
        If there is no such file.
    ConfigurationError
        If it is no region, or `credible` is given for what has no probability.

    Examples
    --------
    >>> to_region([(10, 0), (11, 0), (11, 1)]).contains(10.9, 0.2)
    array(True)
    """
    from nuncius.sky import maps

    if credible is not None and not 0 < credible <= 1:
        raise ConfigurationError(
            f"credible={credible!r} is a probability between 0 and 1; write 0.9 for 90 %"
        )
    if maps.is_source(value):
        return Moc(*maps.ranges_of(value, credible))
    if credible is not None:
        raise ConfigurationError("credible belongs to a sky map, and this region has no probability")
    if hasattr(value, "to_depth29_ranges"):
        bounds = np.asarray(value.to_depth29_ranges).astype(np.int64)
        return Moc(bounds[:, 0], bounds[:, 1])
    if isinstance(value, Region):
        return value
    if hasattr(value, "icrs") or isinstance(value, (Sequence, np.ndarray)):
        return Polygon(value)
    raise ConfigurationError(
        f"a region is a Cone, a Polygon, a MOC, a sky map or a list of vertices (ra, dec), not {type(value).__name__}"
    )


def to_geojson(region: Region, order: int) -> dict[str, Any]:
    """Write the cells of an order that a region touches as GeoJSON, as MongoDB's geometry has the sky.

    Parameters
    ----------
    region : Region
    order : int
        Of the HEALPix cells, from 0 to 29; 6 makes cells of about a degree.

    Returns
    -------
    dict
        A MultiPolygon with a polygon for each cell. Longitudes are right ascensions minus 180 degrees.

    Raises
    ------
    ConfigurationError
        If these are more than a million cells.
    """
    low, high = region.ranges()
    shift = 2 * (ORDER - order)
    if not 0 <= order <= ORDER or ((high - low) >> shift).sum() > _MAX_GEOJSON:
        raise ConfigurationError(
            f"order={order} makes too many cells, or is not between 0 and 29; give a lower one"
        )
    ra, dec = corners(cells_of_ranges(low, high, order), order)
    closed = np.stack([ra - 180, dec], axis=2)[:, [0, 1, 2, 3, 0]]
    return {"type": "MultiPolygon", "coordinates": closed[:, None].tolist()}


class _Ring:
    """A closed line of great circles on the unit sphere, and which of its sides is inside: the smaller one.

    Whether a point is inside is counted: the way to it from a place that is known crosses the line an odd or even
    number of times. To know that place the area of the other side is summed from triangles (Van Oosterom & Strackee
    1983) whose apex is opposite to it: none of them reaches it, so the sum is the area of the side without it.
    """

    def __init__(self, ra: Floats, dec: Floats) -> None:
        points = _unit_vectors(ra, dec)
        new = np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1) > 1e-14
        self.begin = points[new]
        if len(self.begin) < 3:
            raise ConfigurationError(f"a polygon has at least three vertices, not {len(self.begin)}")
        self.end = np.roll(self.begin, -1, axis=0)
        if (np.linalg.norm(self.begin + self.end, axis=1) < 1e-9).any():
            raise ConfigurationError(
                "two vertices in succession lie opposite to each other, so many great circles join them; give one between"
            )
        # The cross product of neighbours, in the form that keeps its digits when they are near.
        self.normal = np.cross(self.begin - self.end, self.begin + self.end) / 2
        self.unit_normal = self.normal / np.linalg.norm(self.normal, axis=1)[:, None]
        places = _unit_vectors(*_centres(np.arange(192, dtype=np.int64), 2))
        far = np.argsort(-self.distance(places))
        first = places[far[0]]
        # A second one that serves where the way from the first is not unique, opposite to it.
        second = next(place for place in places[far] if abs(place @ first) < 0.8)
        first_inside = bool(abs(self._area_seen(-first)) > 2 * math.pi)
        crossed = bool(self._crossings(second[None], first)[0])
        self.places = ((first, first_inside), (second, first_inside ^ crossed))

    def contains(self, points: Floats) -> Flags:
        """Tell which of the unit vectors lie inside."""
        result = np.empty(len(points), bool)
        step = max(1, _AT_ONCE // len(self.begin))
        (first, first_inside), (second, second_inside) = self.places
        for start in range(0, len(points), step):
            some = points[start : start + step]
            nearer = some @ first >= some @ second
            part = np.empty(len(some), bool)
            part[nearer] = first_inside ^ self._crossings(some[nearer], first)
            part[~nearer] = second_inside ^ self._crossings(some[~nearer], second)
            result[start : start + step] = part
        return result

    def distance(self, points: Floats) -> Floats:
        """Return the angles (radians) between unit vectors and the line."""
        result = np.empty(len(points))
        step = max(1, _AT_ONCE // len(self.begin))
        along = np.cross(self.unit_normal, self.begin), np.cross(self.end, self.unit_normal)
        for start in range(0, len(points), step):
            some = points[start : start + step]
            # A vertex, or the foot of the perpendicular where that lies between the ends.
            nearest = np.arccos(np.minimum(np.max(some @ self.begin.T, axis=1), 1))
            between = (some @ along[0].T >= 0) & (some @ along[1].T >= 0)
            across = np.where(between, np.abs(some @ self.unit_normal.T), 2.0).min(axis=1)
            foot = np.where(across <= 1, np.arcsin(np.minimum(across, 1)), math.pi)
            result[start : start + step] = np.minimum(nearest, foot)
        return result

    def _crossings(self, points: Floats, place: Floats) -> Flags:
        """Tell from which points the way to a place crosses the line an odd number of times."""
        across = np.cross(points, place)
        side_begin = across @ self.begin.T >= 0
        side_end = np.roll(
            side_begin, -1, axis=1
        )  # the same number for both edges of a vertex: none is counted twice
        side_point = points @ self.normal.T >= 0
        side_place = self.normal @ place >= 0
        crossing = (side_begin != side_end) & (side_point != side_place) & (side_point == side_end)
        odd: Flags = crossing.sum(axis=1) % 2 == 1
        return odd

    def _area_seen(self, apex: Floats) -> float:
        a, b = self.begin, self.end
        volume = self.normal @ apex
        below = 1 + np.einsum("ij,ij->i", a, b) + a @ apex + b @ apex
        return float((2 * np.arctan2(volume, below)).sum())


def _unit_vectors(ra: Floats, dec: Floats) -> Floats:
    phi, theta = np.radians(ra), np.radians(dec)
    cos = np.cos(theta)
    return np.stack([cos * np.cos(phi), cos * np.sin(phi), np.sin(theta)], axis=-1)
