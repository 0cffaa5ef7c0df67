"""HEALPix cells: of positions, of cones, and of any region by splitting.

Cells are of the nested scheme at order 29 (0.4 milliarcseconds), which fit into 64-bit integers: a cell `c` of order `k`
holds those from ``c << 2 * (29 - k)`` on.

Source of the cell formulas: Górski et al. 2005, ApJ 622, 759, section 4 and 5.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nuncius.sky.positions import ARCSEC, separation_arcsec

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]
    Flags: TypeAlias = NDArray[np.bool_]
    Judge: TypeAlias = Callable[[Floats, Floats, float], tuple[Flags, Flags]]

ORDER = 29
CELLS = 12 << (2 * ORDER)
_NSIDE = 1 << ORDER

# How far a position may move in the unit square of its base cell when it moves by one radian on the sky: the largest
# slope of the projection, which it has at the poles (sqrt(3/2) along the meridian, 0.86 across).
_STEEPEST = 1.5
_RESOLUTION_RAD = 1e-8  # positions are rounded to a cell: a cone is never taken smaller than five cells
_MAX_CELLS = 2000  # of one large cone; a finer coverage costs more than the rows that it saves

# Rows and columns of the twelve base cells.
_FACE_ROW = np.array([2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4])
_FACE_COLUMN = np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7])


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
    radius = max(radius_arcsec * ARCSEC, _RESOLUTION_RAD)
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

    def judge(at_ra: Floats, at_dec: Floats, own: float) -> tuple[Flags, Flags]:
        distance = separation_arcsec(ra, dec, at_ra, at_dec) * ARCSEC
        touching = distance <= radius + own
        return touching & (distance + own <= radius), touching

    low, high = cover(judge, max_cells=_MAX_CELLS, smallest=radius / 16)
    return np.full(len(low), index, np.int64), low, high


def cover(judge: Judge, *, max_cells: int, smallest: float = 0.0) -> tuple[Integers, Integers]:
    """Cover a region by splitting cells from the base cells on.

    Parameters
    ----------
    judge : callable
        Is given the centres of cells (degrees) and the farthest that any of them reaches (radians); tells which of
        them lie in the region whole, and which at least in part. In doubt a cell is not whole, and does touch.
    max_cells : int
        How many cells on the edge of the region are enough.
    smallest : float
        Radius in radians below which cells are not split.

    Returns
    -------
    low, high : array of int, shape (n,)
        Ranges of cells of order 29, sorted and disjoint, `low` inclusive and `high` exclusive.
    """
    cells, order = np.arange(12, dtype=np.int64), 0
    done: list[tuple[Integers, int]] = []
    while True:
        own = _cell_radius(order)
        whole, touching = judge(*_centres(cells, order), own)
        done.append((cells[whole], order))
        cells = cells[touching & ~whole]
        if order == ORDER or own < smallest or len(cells) > max_cells:
            done.append((cells, order))
            break
        cells = (cells[:, None] * 4 + np.arange(4)).ravel()
        order += 1
    low = np.concatenate([cells << (2 * (ORDER - order)) for cells, order in done])
    high = np.concatenate([(cells + 1) << (2 * (ORDER - order)) for cells, order in done])
    return merged(low, high)


def merged(low: Integers, high: Integers) -> tuple[Integers, Integers]:
    """Sort ranges, and make one of those that touch or overlap."""
    if not len(low):
        return low, high
    in_order = np.argsort(low, kind="stable")
    low, reach = low[in_order], np.maximum.accumulate(high[in_order])
    begins = np.flatnonzero(np.concatenate([[True], low[1:] > reach[:-1]]))
    ends = np.concatenate([begins[1:], [len(low)]]) - 1
    return low[begins], reach[ends]


def cells_of_ranges(low: Integers, high: Integers, order: int) -> Integers:
    """Return the cells of an order that ranges of order 29 touch, sorted, each once."""
    shift = 2 * (ORDER - order)
    first, last = merged(low >> shift, ((high - 1) >> shift) + 1)
    counts = last - first
    starts = np.cumsum(counts) - counts
    result: Integers = np.arange(int(counts.sum()), dtype=np.int64) + np.repeat(first - starts, counts)
    return result


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
    face, x, y = _parts(cells, order)
    nside = float(1 << order)
    return _sky(face, (x + 0.5) / nside, (y + 0.5) / nside)


def corners(cells: Integers, order: int) -> tuple[Floats, Floats]:
    """Return the corners of cells of an order in degrees, shape (n, 4): south, east, north, west."""
    face, x, y = _parts(cells, order)
    nside = float(1 << order)
    right, up = np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1])
    return _sky(face[:, None], (x[:, None] + right) / nside, (y[:, None] + up) / nside)


def ring_numbers(cells: Integers, order: int) -> Integers:
    """Return the numbers in the ring scheme of cells of the nested one."""
    nside = 1 << order
    face, x, y = _parts(cells, order)
    row = (_FACE_ROW[face] << order) - x - y - 1
    north, south = row < nside, row > 3 * nside
    size = np.where(north, row, np.where(south, 4 * nside - row, nside))
    before = np.where(
        north,
        2 * size * (size - 1),
        np.where(
            south, 12 * nside**2 - 2 * size * (size + 1), 2 * nside * (nside - 1) + (row - nside) * 4 * nside
        ),
    )
    shift = np.where(north | south, 0, (row - nside) & 1)
    along = (_FACE_COLUMN[face] * size + x - y + 1 + shift) // 2
    along = np.where(along > 4 * size, along - 4 * size, np.where(along < 1, along + 4 * size, along))
    result: Integers = before + along - 1
    return result


def _parts(cells: Integers, order: int) -> tuple[Integers, Integers, Integers]:
    """Return base cells and the integer coordinates within them."""
    inside = cells & ((1 << (2 * order)) - 1)
    return cells >> (2 * order), _gather(inside), _gather(inside >> 1)


def _sky(face: Any, x: Any, y: Any) -> tuple[Floats, Floats]:
    """Return the positions (degrees) of points in the unit squares of base cells."""
    row = _FACE_ROW[face] - x - y  # from 0 at the north pole to 4 at the south pole
    north, south = row < 1, row > 3
    ring = np.where(north, row, np.where(south, 4 - row, 1.0))
    column = _FACE_COLUMN[face] * ring + x - y
    column = np.where(column < 0, column + 8 * ring, column)
    # In the caps from the distance to the pole, sin(distance / 2) = ring / sqrt(6): near the pole z has no digits left.
    polar = 90 - np.degrees(2 * np.arcsin(ring / math.sqrt(6)))
    belt = np.degrees(np.arcsin(np.clip((2 - row) * 2 / 3, -1, 1)))
    dec = np.where(north, polar, np.where(south, -polar, belt))
    ra = 45.0 * np.where(ring > 0, column, _FACE_COLUMN[face]) / np.where(ring > 0, ring, 1.0)
    return ra % 360, dec


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
