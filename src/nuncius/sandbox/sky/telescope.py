"""The telescope: its grid of fields, its camera, and the exposures of a night."""

from __future__ import annotations

import math
from datetime import date, timedelta
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from nuncius.alerts.times import JD_OF_MJD_0

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

BANDS = {1: "g", 2: "r", 3: "i"}
DETECTION_SIGMA = 5.0
ARCSEC_PER_PIXEL = 1.01
GAIN = 6.2  # electrons per DN
PIXELS = (3072, 3080)  # columns and rows of a quadrant; eight by eight quadrants are a field
EDGE_PX = 23.0  # nothing is reported that is closer to the edge of a quadrant
_FIELD_DEG = 7.0
_SOUTH_DEG = -30.0
_FIRST_FIELD = 200
_BLOCK_OF_FIELDS = 30
_NIGHT_BEGINS = 0.12  # of the UTC day, in California
_CADENCE_DAYS = 40 / 86400
_MJD_0 = date(1858, 11, 17)
_NIGHT_0_MJD = 57754  # 2017 January 1


class Exposure(NamedTuple):
    """One image of one field."""

    mjd: float
    field: int
    fid: int
    zero_point: float
    limit_mag: float
    seeing_px: float
    sky_dn: float
    wobble: float  # 0 to 1: for what varies a little from image to image

    @property
    def band(self) -> str:
        """The letter of the filter."""
        return BANDS[self.fid]

    @property
    def jd(self) -> float:
        """Julian Date, to a hundredth of a second as in the survey."""
        return round(self.mjd + JD_OF_MJD_0, 7)

    @property
    def night(self) -> int:
        """The number of the night since 2017 January 1."""
        return math.floor(self.mjd) - _NIGHT_0_MJD

    @property
    def sky_sigma(self) -> float:
        """The error in DN of the flux of a faint point source."""
        return self.dn(self.limit_mag) / DETECTION_SIGMA

    @property
    def moffat_scale_px(self) -> float:
        """The scale of a Moffat profile of exponent 3 that is as wide as the seeing at half its maximum."""
        return self.seeing_px / (2 * math.sqrt(2 ** (1 / 3) - 1))

    @property
    def pixel_noise(self) -> float:
        """The noise in DN of a pixel for which PSF photometry has the error that the limit implies."""
        effective_pixels = 5 * math.pi / 4 * self.moffat_scale_px**2
        return self.sky_sigma / math.sqrt(effective_pixels)

    def dn(self, mag: float) -> float:
        """Return the flux in DN of a magnitude."""
        return float(10 ** (0.4 * (self.zero_point - mag)))


class Place(NamedTuple):
    """Where a position falls on the survey's grid of fields and on the camera."""

    field: int
    rcid: int
    x: float
    y: float

    @property
    def edge_px(self) -> float:
        """How far it is to the nearest edge of the quadrant."""
        return min(self.x, self.y, PIXELS[0] - self.x, PIXELS[1] - self.y)


def find_place(ra: float, dec: float) -> Place | None:
    """Find the field and the pixel of a position; None if the telescope can't see it."""
    row, v = divmod((dec - _SOUTH_DEG) / _FIELD_DEG, 1)
    if row < 0:
        return None
    first, fields = _rows()[int(row)]
    column, u = divmod(ra / 360 * fields, 1)
    (across, x), (up, y) = divmod(8 * u, 1), divmod(8 * v, 1)
    return Place(first + int(column), int(8 * up + across), x * PIXELS[0], y * PIXELS[1])


@cache
def _rows() -> tuple[tuple[int, int], ...]:
    """Return, from south to north, the first field and the number of fields of each row of the grid."""
    rows, first = [], _FIRST_FIELD
    for row in range(18):
        middle = math.radians(_SOUTH_DEG + _FIELD_DEG * (row + 0.5))
        fields = max(1, round(360 * math.cos(middle) / _FIELD_DEG))
        rows.append((first, fields))
        first += fields
    return tuple(rows)


def exposures_of(rng: np.random.Generator, night: int) -> Iterator[Exposure]:
    """Give the exposures of a night in time order: half of the fields, in blocks that are observed twice."""
    fields = [
        ((column + 0.5) / columns * 360, first + column)
        for first, columns in _rows()
        for column in range(columns)
        if (first + column + night) % 2 == 0
    ]
    sun_ra = (night - 60388) * 360 / 365.25  # from the equinox of March 2024
    fields.sort(key=lambda item: ((item[0] - sun_ra) % 360, item[1]))  # in the order in which they rise
    slots = count()
    for start in range(0, len(fields), _BLOCK_OF_FIELDS):
        block = fields[start : start + _BLOCK_OF_FIELDS]
        pair = ((1, 2), (2, 1), (1, 2), (2, 1), (3, 2))[int(rng.integers(5))]
        for fid in pair:
            draws = rng.standard_normal((len(block), 5)).tolist()
            for (_, number), (zero, limit, seeing, sky, wobble) in zip(block, draws, strict=True):
                yield Exposure(
                    mjd=night + _NIGHT_BEGINS + next(slots) * _CADENCE_DAYS,
                    field=number,
                    fid=fid,
                    zero_point=(26.3, 26.2, 25.7)[fid - 1] + 0.06 * zero,
                    limit_mag=(20.7, 20.5, 20.0)[fid - 1] + 0.2 * limit,
                    seeing_px=2.0 + 0.25 * abs(seeing),
                    sky_dn=(110, 210, 260)[fid - 1] * math.exp(0.1 * sky),
                    wobble=wobble % 1,
                )


def date_of(mjd: float) -> date:
    """Return the day in UTC of a Modified Julian Date."""
    return _MJD_0 + timedelta(days=math.floor(mjd))


def mjd_of(day: date) -> int:
    """Return the Modified Julian Date at which a day begins."""
    return (day - _MJD_0).days
