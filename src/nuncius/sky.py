"""Positions on the sky: what users may give, separations, HEALPix cells, and the cells of a cone.

Angles are degrees in the ICRS unless a name says otherwise. Cells are HEALPix cells of the nested scheme at order 29
(0.4 milliarcseconds), which fit into 64-bit integers: a cell `c` of order `k` holds those from ``c << 2 * (29 - k)`` on.

Source of the cell formulas: Górski et al. 2005, ApJ 622, 759, section 4 and 5.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]

ORDER = 29
_NSIDE = 1 << ORDER
_ARCSEC = math.radians(1 / 3600)

# How far a position may move in the unit square of its base cell when it moves by one radian on the sky: the largest
# slope of the projection, which it has at the poles (sqrt(3/2) along the meridian, 0.86 across).
_STEEPEST = 1.5
_RESOLUTION_RAD = 1e-8  # positions are rounded to a cell: a cone is never taken smaller than five cells
_MAX_CELLS = 2000  # of one large cone; a finer coverage costs more than the rows that it saves

# Rows and columns of the twelve base cells.
_FACE_ROW = np.array([2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4])
_FACE_COLUMN = np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7])


def to_positions(positions: Any) -> tuple[Floats, Floats, bool]:
    """Turn what a user gives as position(s) into right ascensions and declinations in degrees.

    Parameters
    ----------
    positions : SkyCoord, Table, (ra, dec) or sequence of (ra, dec)
        A table needs columns `ra` and `dec`; a column without unit counts as degrees.

    Returns
    -------
    ra, dec : array of float, shape (n,)
    is_single : bool
        Whether one position was given, and not a list of them.

    Raises
    ------
    ConfigurationError
        If they are no positions, or not on the sky.
    """
    if hasattr(positions, "icrs"):
        icrs = positions.icrs
        ra, dec = np.atleast_1d(icrs.ra.deg), np.atleast_1d(icrs.dec.deg)
        single = positions.isscalar
    elif hasattr(positions, "colnames") or hasattr(positions, "columns"):
        ra, dec = _column(positions, "ra"), _column(positions, "dec")
        single = False
    else:
        ra, dec, single = _pairs(positions)
    ra, dec = np.asarray(ra, dtype=np.float64).ravel(), np.asarray(dec, dtype=np.float64).ravel()
    bad = ~(np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90))
    if bad.any():
        index = int(np.flatnonzero(bad)[0])
        raise ConfigurationError(
            f"position {index} (ra={ra[index]}, dec={dec[index]}) is not on the sky; give ICRS degrees",
            position=f"positions[{index}]",
        )
    return ra % 360, dec, single


def to_arcsec(radius: Any) -> float:
    """Turn a radius into arcseconds: a Quantity, an Angle, or a text with its unit such as ``"2 arcsec"``.

    Raises
    ------
    ConfigurationError
        If it has no unit (2 what?), or is no angle between 0 and 180 degrees.
    """
    import astropy.units as u
    from astropy.coordinates import Angle

    if isinstance(radius, str):
        # astropy reads a bare "2" as an error and "2s" as hours; a unit name is what we mean.
        match = re.fullmatch(
            r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(arcsec|arcmin|deg|\"|'|°|mas|rad)\s*", radius
        )
        if match is None:
            raise ConfigurationError(f"radius={radius!r} is not understood; write for example '2 arcsec'")
        names = {'"': "arcsec", "'": "arcmin", "°": "deg"}
        radius = float(match[1]) * u.Unit(names.get(match[2], match[2]))
    if not isinstance(radius, (u.Quantity, Angle)):
        raise ConfigurationError(
            f"radius={radius!r} has no unit; write for example 2 * u.arcsec (astropy.units) or '2 arcsec'"
        )
    try:
        arcsec = float(radius.to_value(u.arcsec))
    except (u.UnitConversionError, TypeError) as error:
        raise ConfigurationError(f"radius={radius} is no angle: {error}") from error
    if not 0 <= arcsec <= 180 * 3600:
        raise ConfigurationError(f"radius={radius} is not between 0 and 180 degrees")
    return arcsec


def separation_arcsec(ra1: Any, dec1: Any, ra2: Any, dec2: Any) -> Floats:
    """Return the angles between positions (degrees) in arcseconds, exact at any distance (Vincenty's formula)."""
    phi1, phi2 = np.radians(dec1), np.radians(dec2)
    delta = np.radians(np.asarray(ra2) - np.asarray(ra1))
    sin1, cos1, sin2, cos2 = np.sin(phi1), np.cos(phi1), np.sin(phi2), np.cos(phi2)
    cos_delta = np.cos(delta)
    across = np.hypot(cos2 * np.sin(delta), cos1 * sin2 - sin1 * cos2 * cos_delta)
    along = sin1 * sin2 + cos1 * cos2 * cos_delta
    result: Floats = np.degrees(np.arctan2(across, along)) * 3600
    return result


def cells_of(ra: Any, dec: Any) -> Integers:
    """Return the cells of order 29 that hold positions (degrees)."""
    face, x, y = _face_xy(np.asarray(ra, dtype=np.float64), np.asarray(dec, dtype=np.float64))
    return _cell(face, x, y, ORDER)


def cone_ranges(ra: Floats, dec: Floats, radius_arcsec: float) -> tuple[Integers, Integers, Integers]:
    """Find the cells that cones may reach.

    Parameters
    ----------
    ra, dec : array of float, shape (n,)
        Centres in degrees.
    radius_arcsec : float
        The radius of all cones.

    Returns
    -------
    index, low, high : array of int, shape (m,)
        Ranges of cells of order 29, `low` inclusive and `high` exclusive, and for each the cone that it is of. They
        cover the cones and somewhat more: what lies in them still has to be compared with the radius.

    Notes
    -----
    A small cone lies within a square around its centre in the base cell's own coordinates, whose size follows from
    the steepest slope of the projection; the one to four cells that the square touches are exact bounds everywhere,
    at the poles and at RA 0 too. Where the square crosses the edge of a base cell, and for large cones, cells are
    split from the base cells on, and kept when their centre is nearer than the radius plus their own.
    """
    radius = max(radius_arcsec * _ARCSEC, _RESOLUTION_RAD)
    reach = math.ceil(_STEEPEST * radius * _NSIDE)
    shift = (8 * reach - 1).bit_length()
    if shift > ORDER - 1:
        parts = [
            _coverage(float(r), float(d), radius, i) for i, (r, d) in enumerate(zip(ra, dec, strict=True))
        ]
        return _joined(parts)
    face, x, y = _face_xy(ra, dec)
    inside = (x >= reach) & (y >= reach) & (x + reach < _NSIDE) & (y + reach < _NSIDE)
    index = np.flatnonzero(inside)
    parts = []
    left, right = (x[index] - reach) >> shift, (x[index] + reach) >> shift
    low, high = (y[index] - reach) >> shift, (y[index] + reach) >> shift
    for across in (left, right):
        for up in (low, high):
            # Where both sides of the square fall into one column or row, its cell is counted once.
            new = np.ones(len(index), bool)
            if across is right:
                new &= right != left
            if up is high:
                new &= high != low
            cells = _cell(face[index][new], across[new], up[new], ORDER - shift)
            parts.append((index[new], cells << (2 * shift), (cells + 1) << (2 * shift)))
    parts += [_coverage(float(ra[i]), float(dec[i]), radius, int(i)) for i in np.flatnonzero(~inside)]
    return _joined(parts)


def _joined(parts: list[tuple[Integers, Integers, Integers]]) -> tuple[Integers, Integers, Integers]:
    index, low, high = (np.concatenate(column) for column in zip(*parts, strict=True))
    return index, low, high


def _coverage(ra: float, dec: float, radius: float, index: int) -> tuple[Integers, Integers, Integers]:
    """Cover one cone (radius in radians) by splitting cells from the base cells on."""
    cells, order = np.arange(12, dtype=np.int64), 0
    done: list[tuple[Integers, int]] = []
    while True:
        own = _cell_radius(order)
        distance = separation_arcsec(ra, dec, *_centres(cells, order)) * _ARCSEC
        touching = distance <= radius + own
        whole = touching & (distance + own <= radius)
        done.append((cells[whole], order))
        cells = cells[touching & ~whole]
        if order == ORDER or own < radius / 16 or len(cells) > _MAX_CELLS:
            done.append((cells, order))
            break
        cells = (cells[:, None] * 4 + np.arange(4)).ravel()
        order += 1
    low = np.concatenate([cells << (2 * (ORDER - order)) for cells, order in done])
    high = np.concatenate([(cells + 1) << (2 * (ORDER - order)) for cells, order in done])
    in_order = np.argsort(low)
    low, high = low[in_order], high[in_order]
    # Neighbouring cells are one range.
    begins = (
        np.flatnonzero(np.concatenate([[True], low[1:] != high[:-1]])) if len(low) else np.array([], np.int64)
    )
    ends = np.concatenate([begins[1:], [len(low)]]) - 1 if len(low) else begins
    return np.full(len(begins), index, np.int64), low[begins], high[ends]


def _cell_radius(order: int) -> float:
    """Return an upper bound, in radians, of the distance from a cell's centre to its farthest corner."""
    nside = 1 << order
    corner_z = 1 - (1 - 1 / nside) ** 2 / 3
    a = (
        math.sqrt(1 - 4 / 9) * math.cos(math.pi / (4 * nside)),
        math.sqrt(1 - 4 / 9) * math.sin(math.pi / (4 * nside)),
        2 / 3,
    )
    b = (math.sqrt(1 - corner_z**2), 0.0, corner_z)
    chord = math.dist(a, b)
    return 1.01 * 2 * math.asin(min(1.0, chord / 2))


def _face_xy(ra: Floats, dec: Floats) -> tuple[Integers, Integers, Integers]:
    """Return base cell and integer coordinates within it, at order 29."""
    z, quarter = np.sin(np.radians(dec)), (ra % 360) / 90
    high = np.abs(z)
    equatorial = high <= 2 / 3
    # Around the equator: lines of constant x and y run diagonally.
    up = (_NSIDE * (0.5 + quarter - 0.75 * z)).astype(np.int64)
    down = (_NSIDE * (0.5 + quarter + 0.75 * z)).astype(np.int64)
    row_up, row_down = up >> ORDER, down >> ORDER
    face = np.where(
        row_up == row_down, (row_up & 3) + 4, np.where(row_up < row_down, row_up & 3, (row_down & 3) + 8)
    )
    x, y = down & (_NSIDE - 1), _NSIDE - (up & (_NSIDE - 1)) - 1
    if not equatorial.all():
        # The caps; near the pole 1 - |z| loses its digits, so it is taken from the cosine of the declination.
        corner = np.minimum(quarter.astype(np.int64), 3)
        along = quarter - corner
        size = _NSIDE * np.cos(np.radians(dec)) * np.sqrt(3 / (1 + high))
        a = np.minimum((along * size).astype(np.int64), _NSIDE - 1)
        b = np.minimum(((1 - along) * size).astype(np.int64), _NSIDE - 1)
        north = z > 0
        face = np.where(equatorial, face, np.where(north, corner, corner + 8))
        x = np.where(equatorial, x, np.where(north, _NSIDE - b - 1, a))
        y = np.where(equatorial, y, np.where(north, _NSIDE - a - 1, b))
    return face, x, y


def _cell(face: Integers, x: Integers, y: Integers, order: int) -> Integers:
    result: Integers = (face.astype(np.int64) << (2 * order)) | _spread(x) | (_spread(y) << 1)
    return result


def _centres(cells: Integers, order: int) -> tuple[Floats, Floats]:
    """Return the centres of cells of an order, in degrees."""
    nside = 1 << order
    face, inside = cells >> (2 * order), cells & ((1 << (2 * order)) - 1)
    x, y = _gather(inside), _gather(inside >> 1)
    row = (_FACE_ROW[face] << order) - x - y - 1
    ring = np.where(row < nside, row, np.where(row > 3 * nside, 4 * nside - row, nside))
    cap = ring / nside
    z = np.where(
        row < nside,
        1 - cap**2 / 3,
        np.where(row > 3 * nside, cap**2 / 3 - 1, (2 * nside - row) * 2 / (3 * nside)),
    )
    column = _FACE_COLUMN[face] * ring + x - y
    column = np.where(column < 0, column + 8 * ring, column)
    dec = np.degrees(np.arcsin(z))
    # In the caps from the distance to the pole, sin(distance / 2) = cap / sqrt(6): near the pole z has no digits left.
    polar = 90 - np.degrees(2 * np.arcsin(cap / math.sqrt(6)))
    dec = np.where(row < nside, polar, np.where(row > 3 * nside, -polar, dec))
    return 45.0 * column / ring, dec


_MASKS = (
    (32, 0x00000000FFFFFFFF), (16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F), (2, 0x3333333333333333), (1, 0x5555555555555555),
)  # fmt: skip


def _spread(bits: Integers) -> Integers:
    """Put a zero between every two bits."""
    for shift, mask in _MASKS:
        bits = (bits | (bits << shift)) & mask
    return bits


def _gather(bits: Integers) -> Integers:
    """Take every second bit."""
    bits = bits & 0x5555555555555555
    for shift, mask in zip((1, 2, 4, 8, 16), (m for _, m in reversed(_MASKS[:-1])), strict=True):
        bits = (bits | (bits >> shift)) & mask
    return bits


def _column(table: Any, name: str) -> Any:
    names = {str(column).lower(): column for column in (getattr(table, "colnames", None) or table.columns)}
    if name not in names:
        raise ConfigurationError(f"the table of positions has no column {name!r}; it has {', '.join(names)}")
    column = table[names[name]]
    mask = getattr(column, "mask", None)
    column = getattr(column, "unmasked", column)
    try:
        if getattr(column, "unit", None) is not None and hasattr(column, "to"):
            column = column.to("deg").value
        values = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the column {name!r} of the table holds no angles: {error}") from error
    # A masked position is none; pandas has a method of that name.
    return values if mask is None or callable(mask) else np.where(mask, np.nan, values)


def _pairs(positions: Any) -> tuple[Any, Any, bool]:
    try:
        # numpy would drop the unit of a Quantity without a word.
        array = np.asarray(
            positions.to_value("deg") if hasattr(positions, "to_value") else positions, dtype=np.float64
        )
    except (TypeError, ValueError):
        array = np.empty(())
    if array.shape == (0,):
        return array, array, False
    if array.shape == (2,):
        return array[:1], array[1:], True
    if array.ndim == 2 and array.shape[1] == 2:
        return array[:, 0], array[:, 1], False
    raise ConfigurationError(
        f"positions are a SkyCoord, a table with columns ra and dec, (ra, dec) or a list of such pairs in degrees, not "
        f"{type(positions).__name__}{f' of shape {array.shape}' if array.shape else ''}"
    )
