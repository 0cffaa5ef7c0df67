"""A sky that does not exist, observed as ZTF would: the same alerts for the same seed.

It holds variable stars, supernovae and asteroids. A telescope visits its fields every other night, twice a night; what
differs from the reference image by more than five sigma becomes an alert in a packet shaped like ZTF's schema 4.01,
with a history that agrees with the alerts before it and cutouts that agree with its magnitude.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import IntEnum
from functools import cache
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from nuncius.errors import ConfigurationError
from nuncius.sandbox.ztf_schema import SCHEMA_VERSION, PacketWriter, earlier_names, fits_gz

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    Image: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

Kind: TypeAlias = Literal["variable star", "supernova", "asteroid"]

BANDS = {1: "g", 2: "r", 3: "i"}
JD_OF_MJD_0 = 2400000.5
MISSING = -999.0
FAILED = -99999.0
DETECTION_SIGMA = 5.0
HISTORY_DAYS = 30
FORCED_DAYS = 18
SIZE = 63  # pixels along a cutout's side
_ARCSEC_PER_PIXEL = 1.01
_GAIN = 6.2  # electrons per DN
_MAG_PER_RELATIVE_ERROR = 2.5 / math.log(10)
_NIGHT_0_MJD = 57754  # 2017 January 1
_MOST_OBJECTS = 100_000
_POSSIBLE_NIGHTS = (58849, 90000)  # from 2020 on: the reference images are older


class _Draw(IntEnum):
    """What random numbers are drawn for."""

    OBJECTS = 0
    PAST = 1
    NIGHT = 2
    SCENE = 3
    RECORD = 4
    TEMPLATE = 5
    IMAGE = 6


# Of each ten objects; the first is a star that varies for ever, so that the alerts never run out.
_KINDS: tuple[Kind, ...] = ("variable star", "supernova", "asteroid", "variable star", "variable star",
                            "variable star", "asteroid", "variable star", "supernova", "variable star")  # fmt: skip
_COLOURS: dict[Kind, dict[str, float]] = {  # magnitude minus that in r
    "variable star": {"g": 0.3, "r": 0.0, "i": -0.1},
    "supernova": {"g": 0.05, "r": 0.0, "i": 0.2},
    "asteroid": {"g": 0.5, "r": 0.0, "i": -0.2},
}
_RR_LYRAE_AMPLITUDES = {"g": 1.0, "r": 0.72, "i": 0.57}  # relative to that in g
_SUPERNOVA_RISE_DAYS = 3.5
_SUPERNOVA_FALL_DAYS = {"g": 16.0, "r": 24.0, "i": 30.0}


# What is in the sky


@dataclass(frozen=True, slots=True)
class Host:
    """The galaxy of a supernova: an exponential disc.

    Parameters
    ----------
    mag : float
        Magnitude in r.
    scale_arcsec : float
        Scale length of the disc.
    axis_ratio, angle_rad : float
        Minor over major axis, and the direction of the major axis.
    dx_arcsec, dy_arcsec : float
        Where its nucleus is, as seen from the supernova.
    """

    mag: float
    scale_arcsec: float
    axis_ratio: float
    angle_rad: float
    dx_arcsec: float
    dy_arcsec: float


@dataclass(frozen=True, slots=True)
class SkyObject:
    """One object of the synthetic sky.

    Parameters
    ----------
    object_id : str
        The survey's name of the object. Asteroids get a new name with each alert, as in the survey; for them it is the
        number of the minor planet, which the alerts give in ``ssnamenr``.
    kind : {"variable star", "supernova", "asteroid"}
        What it is.
    ra, dec : float
        ICRS position in degrees, at `epoch_mjd` for an asteroid.
    mag : float
        Magnitude in r: typical of a star (of its maximum if it is an eclipsing binary), at the peak of a supernova,
        constant for an asteroid.
    epoch_mjd : float
        A maximum of a pulsating star, a primary eclipse, the peak of a supernova in r, the epoch of an asteroid.
    subtype : str
        ``RR Lyrae``, ``eclipsing binary``, ``type Ia`` or ``main belt``.
    period_d, amplitude_mag : float
        Of a variable star: the period in days and the full range in g.
    ra_rate, dec_rate : float
        Motion of an asteroid, degrees of right ascension and of declination per day.
    host : Host, optional
        The galaxy of a supernova.
    """

    object_id: str
    kind: Kind
    ra: float
    dec: float
    mag: float
    epoch_mjd: float
    subtype: str = ""
    period_d: float = 0.0
    amplitude_mag: float = 0.0
    ra_rate: float = 0.0
    dec_rate: float = 0.0
    host: Host | None = None

    def magnitude(self, mjd: float, band: str) -> float:
        """Return the true magnitude in the band ``g``, ``r`` or ``i`` at a Modified Julian Date."""
        mag = self.mag + _COLOURS[self.kind][band]
        if self.kind == "supernova":
            return mag + _supernova_fading(mjd - self.epoch_mjd, band)
        if self.kind == "asteroid":
            return mag
        return mag + self._variation((mjd - self.epoch_mjd) / self.period_d % 1.0, band)

    def reference_magnitude(self, band: str) -> float | None:
        """Return its magnitude in the reference image, that of its mean flux; None if it is not on it."""
        if self.kind != "variable star":
            return None
        phases = [step / 64 for step in range(64)]
        flux = math.fsum(10 ** (-0.4 * self._variation(phase, band)) for phase in phases) / len(phases)
        return self.mag + _COLOURS[self.kind][band] - 2.5 * math.log10(flux)

    def position(self, mjd: float) -> tuple[float, float]:
        """Return right ascension and declination in degrees at a Modified Julian Date."""
        days = mjd - self.epoch_mjd
        dec = max(-88.0, min(88.0, self.dec + self.dec_rate * days))
        return (self.ra + self.ra_rate * days) % 360.0, dec

    def _variation(self, phase: float, band: str) -> float:
        """Return how much fainter than `mag` a variable star is at a phase from 0 to 1."""
        if self.subtype == "eclipsing binary":
            primary, secondary = min(phase, 1 - phase), abs(phase - 0.5)
            return self.amplitude_mag * (_dip(primary) + 0.4 * _dip(secondary))
        # A pulsating star rises steeply in the last 15 % of its period and fades slowly.
        if phase < 0.85:
            shape = math.sin(math.pi / 2 * phase / 0.85)
        else:
            shape = (1 + math.cos(math.pi * (phase - 0.85) / 0.15)) / 2
        return self.amplitude_mag * _RR_LYRAE_AMPLITUDES[band] * (shape - 0.5)


def _dip(phase: float) -> float:
    return math.exp(-0.5 * (phase / 0.07) ** 2)


def _supernova_fading(days: float, band: str) -> float:
    """Return the magnitudes below the peak, by the rise and fall of Bazin et al. (2009, A&A 499, 653)."""
    rise, fall = _SUPERNOVA_RISE_DAYS, _SUPERNOVA_FALL_DAYS[band]
    peak = rise * math.log(fall / rise - 1)
    since = max(days + peak, -100.0)  # fainter than any limit before that
    log_flux = -since / fall - math.log1p(math.exp(-since / rise))
    return -_MAG_PER_RELATIVE_ERROR * (log_flux + peak / fall - math.log1p(-rise / fall))


def _draw_object(rng: np.random.Generator, index: int, night: int) -> SkyObject:
    kind = _KINDS[index % len(_KINDS)]
    if kind == "asteroid":
        return _draw_asteroid(rng, index, night)
    year = _day(night).year
    if kind == "supernova":
        ra, dec = _draw_position(rng, near_galactic_plane=False)
        distance_arcsec, angle = rng.uniform(0.5, 5.0), rng.uniform(0, 2 * math.pi)
        host = Host(
            mag=float(rng.uniform(15.5, 18.5)),
            scale_arcsec=float(rng.uniform(1.5, 4.0)),
            axis_ratio=float(rng.uniform(0.35, 1.0)),
            angle_rad=float(rng.uniform(0, math.pi)),
            dx_arcsec=float(distance_arcsec * math.cos(angle)),
            dy_arcsec=float(distance_arcsec * math.sin(angle)),
        )
        peak_mjd, mag = night + float(rng.uniform(-15, 25)), float(rng.uniform(16.0, 19.0))
        return SkyObject(_name(index, year), kind, ra, dec, mag, peak_mjd, "type Ia", host=host)
    ra, dec = _draw_position(rng, near_galactic_plane=True)
    pulsates = bool(rng.random() < 0.65)
    return SkyObject(
        _name(index, int(rng.integers(2017, max(year, 2018)))),
        kind,
        ra,
        dec,
        mag=float(rng.uniform(14.5, 18.5)),
        epoch_mjd=night - float(rng.uniform(0, 5)),
        subtype="RR Lyrae" if pulsates else "eclipsing binary",
        period_d=float(rng.uniform(0.4, 0.8) if pulsates else rng.uniform(0.3, 3.0)),
        amplitude_mag=float(rng.uniform(0.6, 1.2) if pulsates else rng.uniform(0.6, 1.5)),
    )


def _draw_asteroid(rng: np.random.Generator, index: int, night: int) -> SkyObject:
    """Draw an asteroid near the ecliptic, moving along it."""
    longitude, latitude = rng.uniform(0, 2 * math.pi), math.radians(rng.normal(0, 6))
    tilt = math.radians(23.44)
    sin_dec = math.sin(latitude) * math.cos(tilt) + math.cos(latitude) * math.sin(tilt) * math.sin(longitude)
    y = math.sin(longitude) * math.cos(tilt) - math.tan(latitude) * math.sin(tilt)
    ra, dec = math.atan2(y, math.cos(longitude)), math.asin(sin_dec)
    # Near opposition the Earth overtakes them: they move westward.
    motion, slope = -rng.uniform(0.1, 0.3), math.atan(math.tan(tilt) * math.cos(ra))
    return SkyObject(
        str(20_000 + 7 * index + int(rng.integers(7))),
        "asteroid",
        ra=math.degrees(ra) % 360,
        dec=math.degrees(dec),
        mag=float(rng.uniform(16.0, 20.0)),
        epoch_mjd=float(night),
        subtype="main belt",
        ra_rate=float(motion * math.cos(slope) / math.cos(dec)),
        dec_rate=float(motion * math.sin(slope)),
    )


def _draw_position(rng: np.random.Generator, *, near_galactic_plane: bool) -> tuple[float, float]:
    """Draw from the sky north of declination -28: stars crowd near the Milky Way, which hides galaxies."""
    while True:
        ra, dec = (
            rng.uniform(0, 360),
            math.degrees(math.asin(rng.uniform(math.sin(math.radians(-28)), 0.999))),
        )
        pole = (
            math.cos(math.radians(ra - 192.86)) * math.cos(math.radians(dec)) * math.cos(math.radians(27.13))
        )
        b = math.degrees(math.asin(math.sin(math.radians(dec)) * math.sin(math.radians(27.13)) + pole))
        weight = 0.1 + 0.9 * math.exp(-abs(b) / 20) if near_galactic_plane else float(abs(b) > 10)
        place = _place(ra, dec)
        if rng.random() < weight and place is not None and place.edge_px >= _EDGE_PX:
            return float(ra), float(dec)


def _name(index: int, year: int) -> str:
    """Return the survey's name of an object: ``ZTF``, two digits and seven letters, different for every index."""
    code, letters = (1_234_577 * index + 987_654_321) % 26**7, ""
    for _ in range(7):
        code, letter = divmod(code, 26)
        letters = chr(ord("a") + letter) + letters
    return f"ZTF{year % 100:02d}{letters}"


def _day(mjd: float) -> date:
    return date(1858, 11, 17) + timedelta(days=math.floor(mjd))


# How it is observed


class _Exposure(NamedTuple):
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
        return BANDS[self.fid]

    @property
    def jd(self) -> float:
        return round(self.mjd + JD_OF_MJD_0, 7)

    @property
    def night(self) -> int:
        return math.floor(self.mjd) - _NIGHT_0_MJD

    @property
    def sky_sigma(self) -> float:
        """The error in DN of the flux of a faint point source."""
        return self.dn(self.limit_mag) / DETECTION_SIGMA

    def dn(self, mag: float) -> float:
        return float(10 ** (0.4 * (self.zero_point - mag)))


class _Place(NamedTuple):
    """Where a position falls on the survey's grid of fields and on the camera."""

    field: int
    rcid: int
    x: float
    y: float

    @property
    def edge_px(self) -> float:
        """How far it is to the nearest edge of the quadrant."""
        return min(self.x, self.y, _PIXELS[0] - self.x, _PIXELS[1] - self.y)


@dataclass(slots=True)
class _Visit:
    """What one exposure says about one object."""

    index: int
    source: SkyObject
    exposure: _Exposure
    place: _Place
    ra: float
    dec: float
    row: int
    reference_mag: float | None
    flux: float  # difference in DN as the alert reports it
    forced_flux: float  # without the artefacts that a detection can be
    sigma: float
    is_artefact: bool
    has_failed_forced: bool
    detections: int = 0  # so far, this one included
    covered: int = 0
    first_jd: float = 0.0
    record: dict[str, Any] | None = None  # kept, since the next alerts repeat it in their history

    @property
    def is_detection(self) -> bool:
        return self.place.edge_px >= _EDGE_PX and abs(self.flux) >= DETECTION_SIGMA * self.sigma

    @property
    def pid(self) -> int:
        fraction = int(self.exposure.mjd % 1 * 100_000)
        return (self.exposure.night * 100_000 + fraction) * 10_000 + self.place.rcid * 100 + 15

    @property
    def candid(self) -> int:
        return self.pid * 1_000_000 + (15_000 if self.flux > 0 else 10_000) + self.row

    @property
    def scene_key(self) -> int:
        """What the surroundings depend on: an asteroid has others each time."""
        return self.candid if self.source.kind == "asteroid" else self.index


@dataclass(slots=True)
class _Track:
    """What the survey remembers of one position."""

    detections: int
    covered: int
    first_jd: float | None
    visits: deque[_Visit] = field(default_factory=deque)

    def add(self, visit: _Visit) -> tuple[_Visit, ...]:
        """Count a visit, and return those of the 30 days before it."""
        while self.visits and self.visits[0].exposure.mjd < visit.exposure.mjd - HISTORY_DAYS:
            self.visits.popleft()
        before = tuple(self.visits)
        self.visits.append(visit)
        self.covered += 1
        if visit.is_detection:
            self.detections += 1
            self.first_jd = self.first_jd or visit.exposure.jd
            visit.first_jd = self.first_jd
        visit.detections, visit.covered = self.detections, self.covered
        return before


_FIELD_DEG = 7.0
_SOUTH_DEG = -30.0
_PIXELS = (3072, 3080)  # columns and rows of a quadrant; eight by eight quadrants are a field
_EDGE_PX = 23.0  # nothing is reported that is closer to the edge of a quadrant
_FIRST_FIELD = 200
_BLOCK_OF_FIELDS = 30
_NIGHT_BEGINS = 0.12  # of the UTC day, in California
_CADENCE_DAYS = 40 / 86400


@cache
def _rows() -> tuple[tuple[int, int], ...]:
    """Return, from south to north, the first field and the number of fields of each row of the grid."""
    rows, first = [], _FIRST_FIELD
    for row in range(18):
        fields = max(
            1, round(360 * math.cos(math.radians(_SOUTH_DEG + _FIELD_DEG * (row + 0.5))) / _FIELD_DEG)
        )
        rows.append((first, fields))
        first += fields
    return tuple(rows)


def _place(ra: float, dec: float) -> _Place | None:
    """Find the field and the pixel of a position; None if the telescope can't see it."""
    row, v = divmod((dec - _SOUTH_DEG) / _FIELD_DEG, 1)
    if row < 0:
        return None
    first, fields = _rows()[int(row)]
    column, u = divmod(ra / 360 * fields, 1)
    (across, x), (up, y) = divmod(8 * u, 1), divmod(8 * v, 1)
    return _Place(first + int(column), int(8 * up + across), x * _PIXELS[0], y * _PIXELS[1])


def _exposures(rng: np.random.Generator, night: int) -> Iterator[_Exposure]:
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
                yield _Exposure(
                    mjd=night + _NIGHT_BEGINS + next(slots) * _CADENCE_DAYS,
                    field=number,
                    fid=fid,
                    zero_point=(26.3, 26.2, 25.7)[fid - 1] + 0.06 * zero,
                    limit_mag=(20.7, 20.5, 20.0)[fid - 1] + 0.2 * limit,
                    seeing_px=2.0 + 0.25 * abs(seeing),
                    sky_dn=(110, 210, 260)[fid - 1] * math.exp(0.1 * sky),
                    wobble=wobble % 1,
                )


class SyntheticSky:
    """A synthetic sky and the survey that observes it.

    Parameters
    ----------
    seed : int
        What makes one sky differ from another; the same seed gives the same packets, byte for byte.
    objects : int
        How many objects: six variable stars, two supernovae and two asteroids in ten.
    night_mjd : float
        The day of the first night (Modified Julian Date, UTC; its fraction is ignored). Histories begin 30 days before.

    Attributes
    ----------
    objects : list of SkyObject
        What is in the sky.

    Raises
    ------
    ConfigurationError
        If the number of objects is not between 1 and 100,000, or the seed is negative.

    Examples
    --------
    >>> from nuncius import Alert
    >>> sky = SyntheticSky(seed=7, objects=20)
    >>> alerts = [Alert.from_bytes(packet) for packet in sky.alerts(3)]
    >>> [alert.survey for alert in alerts]
    ['ztf', 'ztf', 'ztf']
    >>> alerts[0].mjd <= alerts[1].mjd <= alerts[2].mjd
    True
    """

    objects: list[SkyObject]

    def __init__(self, *, seed: int = 1, objects: int = 200, night_mjd: float = 61000.0) -> None:
        if not 1 <= objects <= _MOST_OBJECTS:
            raise ConfigurationError(f"objects={objects}: a synthetic sky holds 1 to {_MOST_OBJECTS} objects")
        if not _POSSIBLE_NIGHTS[0] <= night_mjd < _POSSIBLE_NIGHTS[1]:
            raise ConfigurationError(
                f"night_mjd={night_mjd}: give a Modified Julian Date from {_POSSIBLE_NIGHTS[0]} on"
            )
        if seed < 0:
            raise ConfigurationError(f"seed={seed}: the seed of a synthetic sky is 0 or larger")
        self._seed = seed
        self._night = math.floor(night_mjd)
        self._scenes: dict[int, list[_Star]] = {}
        rng = self._random(_Draw.OBJECTS)
        self.objects = [_draw_object(rng, index, self._night) for index in range(objects)]

    def alerts(self, n: int) -> Iterator[bytes]:
        """Give the first `n` packets of the survey, in time order, one by one.

        Parameters
        ----------
        n : int
            How many; the survey goes on from night to night until there are so many.

        Returns
        -------
        iterator of bytes
            Avro object containers of one record each, made when they are asked for. Every call begins again.

        Raises
        ------
        ValueError
            If `n` is negative.
        """
        return islice(self._packets(), n)

    def _packets(self) -> Iterator[bytes]:
        writer, new_names = PacketWriter(), count(len(self.objects))
        for visit, history in self._detections():
            name = visit.source.object_id
            if visit.source.kind == "asteroid":
                name = _name(next(new_names), _day(visit.exposure.mjd).year)
            yield writer.write(self._packet(name, visit, history))

    def _detections(self) -> Iterator[tuple[_Visit, tuple[_Visit, ...]]]:
        """Observe night by night; give each detection with the visits of the 30 days before it, oldest first."""
        tracks = self._tracks()
        reference_mags: dict[tuple[int, str], float | None] = {}
        for night in count(self._night - HISTORY_DAYS):
            rng = self._random(_Draw.NIGHT, night)
            objects = self._by_field(night)
            for exposure in _exposures(rng, night):
                for row, index in enumerate(objects.get(exposure.field, ()), 1):
                    source, key = self.objects[index], (index, exposure.band)
                    if key not in reference_mags:
                        reference_mags[key] = source.reference_magnitude(exposure.band)
                    visit = _observe(rng, exposure, index, source, row, reference_mags[key])
                    # Nobody sees an asteroid twice at one place.
                    track = _Track(0, 0, None) if source.kind == "asteroid" else tracks[index]
                    history = track.add(visit)
                    if visit.is_detection and night >= self._night:
                        yield visit, history

    def _tracks(self) -> list[_Track]:
        """Return what the survey knew before the first night: stars have varied since they have their names."""
        rng = self._random(_Draw.PAST)
        tracks = []
        for source in self.objects:
            detections, covered = int(rng.integers(20, 300)), int(rng.integers(400, 2000))
            if source.kind != "variable star":
                tracks.append(_Track(0, covered, None))
                continue
            new_year = (date(2000 + int(source.object_id[3:5]), 1, 1) - date(1858, 11, 17)).days
            first_jd = min(new_year + float(rng.uniform(60, 330)), self._night - 100.0) + JD_OF_MJD_0
            tracks.append(_Track(detections, covered, round(first_jd, 7)))
        return tracks

    def _by_field(self, night: int) -> dict[int, list[int]]:
        """Tell which objects are in which field."""
        found: dict[int, list[int]] = {}
        for index, source in enumerate(self.objects):
            place = _place(*source.position(night + 0.3))
            if place is not None and (source.kind != "asteroid" or night >= self._night):
                found.setdefault(place.field, []).append(index)
        return found

    def _packet(self, name: str, visit: _Visit, history: Sequence[_Visit]) -> dict[str, Any]:
        oldest = visit.exposure.mjd - FORCED_DAYS
        earlier = [self._earlier(past) for past in history]
        forced = [_forced(past) for past in reversed(history) if past.exposure.mjd >= oldest]
        return {
            "schemavsn": SCHEMA_VERSION,
            "publisher": "nuncius sandbox",
            "objectId": name,
            "candid": visit.candid,
            "candidate": self._candidate(visit),
            "prv_candidates": earlier or None,
            "fp_hists": forced or None,
            **self._cutouts(visit),
        }

    def _candidate(self, visit: _Visit) -> dict[str, Any]:
        if visit.record is None:
            rng = self._random(_Draw.RECORD, visit.candid)
            visit.record = _candidate(rng, visit, self._scene(visit))
        return visit.record

    def _earlier(self, visit: _Visit) -> dict[str, Any]:
        """Return an entry of the history: a detection as its own alert had it, or an upper limit."""
        record = dict.fromkeys(earlier_names())
        if visit.is_detection:
            candidate = self._candidate(visit)
            # The survey's histories lack what was looked up in the catalogue of asteroids.
            record.update({key: candidate[key] for key in record if not key.startswith("ss")})
        else:
            record.update(_image_values(visit))
        day, name = _day(visit.exposure.mjd), _difference_image(visit)
        record["pdiffimfilename"] = f"/ztf/archive/sci/{day:%Y/%m%d}/{name[12:18]}/{name}.fz"
        return record

    def _cutouts(self, visit: _Visit) -> dict[str, dict[str, Any]]:
        # The noise of the reference image is the same in every alert of the object in that band.
        template_rng = self._random(_Draw.TEMPLATE, visit.scene_key, visit.exposure.fid)
        images = _draw_images(
            self._random(_Draw.IMAGE, visit.candid), template_rng, visit, self._scene(visit)
        )
        prefix, direction = (
            f"candid{visit.candid}_pid{visit.pid}_",
            "scimref" if visit.flux > 0 else "refmsci",
        )
        endings = {"Science": "targ_sci", "Template": "ref", "Difference": f"targ_{direction}"}
        return {
            f"cutout{kind}": {"fileName": f"{prefix}{ending}.fits.gz", "stampData": fits_gz(image)}
            for (kind, ending), image in zip(endings.items(), images, strict=True)
        }

    def _scene(self, visit: _Visit) -> list[_Star]:
        """Return the stars around an object, the closest first."""
        if visit.scene_key not in self._scenes:
            rng = self._random(_Draw.SCENE, visit.scene_key)
            shape = rng.random((int(rng.poisson(3)), 3)).tolist()
            stars = [_Star(64 * u - 32, 64 * v - 32, 16 + 5 * w**0.4) for u, v, w in shape]
            stars = [star for star in stars if star.distance_arcsec > 4]
            stars.sort(key=lambda star: star.distance_arcsec)
            if visit.source.kind == "asteroid":
                return stars
            self._scenes[visit.scene_key] = stars
        return self._scenes[visit.scene_key]

    def _random(self, draw: _Draw, *key: int) -> np.random.Generator:
        """Return the source of random numbers for one thing, which does not depend on what was drawn before."""
        import numpy as np

        return np.random.default_rng([self._seed, draw, *key])


def synthetic_alerts(n: int, *, seed: int = 1) -> list[bytes]:
    """Return `n` alert packets of a synthetic sky; see `SyntheticSky`.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        What makes one sky differ from another.

    Raises
    ------
    ValueError
        If `n` is negative.

    Examples
    --------
    >>> len(synthetic_alerts(2)), synthetic_alerts(2) == synthetic_alerts(2)
    (2, True)
    """
    return list(SyntheticSky(seed=seed).alerts(n))


def _observe(
    rng: np.random.Generator,
    exposure: _Exposure,
    index: int,
    source: SkyObject,
    row: int,
    reference_mag: float | None,
) -> _Visit:
    """Measure one object on one exposure."""
    noise, d_ra, d_dec = rng.standard_normal(3).tolist()
    artefact, strength, failed = rng.random(3).tolist()
    ra, dec = source.position(exposure.mjd)
    place = _place(ra, dec)
    assert place is not None, "only objects in a field are observed"
    true = exposure.dn(source.magnitude(exposure.mjd, exposure.band))
    reference = 0.0 if reference_mag is None else exposure.dn(reference_mag)
    # Background, photons, and bright stars that never subtract perfectly.
    sigma = math.sqrt(exposure.sky_sigma**2 + (true + 0.1 * reference) / _GAIN + (0.003 * reference) ** 2)
    flux = forced_flux = true - reference + sigma * noise
    is_artefact = bool(reference_mag is not None and abs(flux) < DETECTION_SIGMA * sigma and artefact < 0.15)
    if is_artefact:
        flux = math.copysign((DETECTION_SIGMA + 3 * strength) * sigma, noise)
    elif reference_mag is None and flux < 0:
        flux = 0.0  # noise below an empty sky is no detection
    blur = 0.08 / 3600  # degrees
    return _Visit(
        index=index,
        source=source,
        exposure=exposure,
        place=place,
        ra=(ra + blur * d_ra / math.cos(math.radians(dec))) % 360,
        dec=dec + blur * d_dec,
        row=row,
        reference_mag=reference_mag,
        flux=flux,
        forced_flux=forced_flux,
        sigma=sigma,
        is_artefact=is_artefact,
        has_failed_forced=failed < 0.1,
    )


# What the packets say


class _Star(NamedTuple):
    """A star near an object, by its distance in pixels."""

    dx: float
    dy: float
    mag: float

    @property
    def distance_arcsec(self) -> float:
        return _ARCSEC_PER_PIXEL * math.hypot(self.dx, self.dy)


def _difference_image(visit: _Visit) -> str:
    exposure, rcid = visit.exposure, visit.place.rcid
    when = f"{_day(exposure.mjd):%Y%m%d}{int(exposure.mjd % 1 * 1_000_000):06d}_{exposure.field:06d}"
    return f"ztf_{when}_z{exposure.band}_c{rcid // 4 + 1:02d}_o_q{rcid % 4 + 1}_scimrefdiffimg.fits"


def _image_values(visit: _Visit) -> dict[str, Any]:
    """Return what is known of an exposure even where nothing was detected."""
    exposure = visit.exposure
    return {
        "jd": exposure.jd,
        "fid": exposure.fid,
        "pid": visit.pid,
        "diffmaglim": exposure.limit_mag,
        "pdiffimfilename": _difference_image(visit),
        "programpi": "nuncius",
        "programid": 2 if exposure.band == "i" else 1,
        "nid": exposure.night,
        "rcid": visit.place.rcid,
        "field": exposure.field,
        **_calibration(exposure),
        "rbversion": "t17_f5_c3",
    }


def _calibration(exposure: _Exposure) -> dict[str, float]:
    return {
        "magzpsci": exposure.zero_point,
        "magzpsciunc": 1e-5 + 1e-5 * exposure.wobble,
        "magzpscirms": 0.02 + 0.02 * exposure.wobble,
        "clrcoeff": (-0.06, 0.09, 0.02)[exposure.fid - 1] + 0.01 * exposure.wobble,
        "clrcounc": 1e-5 + 1e-5 * exposure.wobble,
    }


def _candidate(rng: np.random.Generator, visit: _Visit, stars: Sequence[_Star]) -> dict[str, Any]:
    source, exposure = visit.source, visit.exposure
    z = rng.standard_normal(4).tolist()
    record = {
        **_image_values(visit),
        **_measured(rng, visit),
        **_scores(rng, visit),
        **_reference_source(visit),
        **_catalogue_sources(visit, stars),
        "ssdistnr": MISSING,
        "ssmagnr": MISSING,
        "ssnamenr": "null",
        "ndethist": visit.detections,
        "ncovhist": visit.covered,
        "jdstarthist": visit.first_jd,
        "jdendhist": exposure.jd,
        "tooflag": 0,
        "rfid": _reference_image(visit),
        "jdstartref": 2458313.966389,
        "jdendref": 2458374.935625,
        "nframesref": 15,
        "nmatches": 300 + int(800 * exposure.wobble),
        "zpclrcov": -6e-6 * (1 + exposure.wobble),
        "zpmed": exposure.zero_point - 0.04,
        "clrmed": 0.7 + 0.03 * z[0],
        "clrrms": 0.25 + 0.02 * z[1],
        "exptime": 30.0,
        "drbversion": "d6_m7",
    }
    if source.kind == "asteroid":
        predicted = {"ssdistnr": abs(z[2]), "ssmagnr": round(source.mag + 0.2 + 0.05 * z[3], 1)}
        record |= {**predicted, "ssnamenr": source.object_id}
    return record


def _measured(rng: np.random.Generator, visit: _Visit) -> dict[str, Any]:
    """Return where and how bright the candidate is, and the shape of its profile."""
    z, (x, y), exposure = rng.standard_normal(9).tolist(), visit.place[2:], visit.exposure
    signal_to_noise = abs(visit.flux) / visit.sigma
    mag = exposure.zero_point - 2.5 * math.log10(abs(visit.flux))
    mag_err = _MAG_PER_RELATIVE_ERROR / signal_to_noise
    aperture_mag = mag + 0.5 * mag_err * z[0]
    width = exposure.seeing_px / 2.355 * (1 + 0.1 * abs(z[1]))
    ratio = 1 + (0.5 if visit.is_artefact else 0.08) * abs(z[2])
    pixels_snr = signal_to_noise * (1 + 0.05 * z[3])
    return {
        "candid": visit.candid,
        "isdiffpos": "t" if visit.flux > 0 else "f",
        "tblid": visit.row,
        "xpos": x,
        "ypos": y,
        "ra": round(visit.ra, 7),
        "dec": round(visit.dec, 7),
        "magpsf": mag,
        "sigmapsf": mag_err,
        "chipsf": (4 if visit.is_artefact else 1) * math.exp(0.2 * z[4]),
        "magap": aperture_mag,
        "sigmagap": 0.9 * mag_err,
        "magapbig": aperture_mag + 0.3 * mag_err * z[5],
        "sigmagapbig": 1.2 * mag_err,
        "magdiff": aperture_mag - mag,
        "magfromlim": exposure.limit_mag - aperture_mag,
        "sky": 0.4 * z[6],
        "fwhm": exposure.seeing_px * (1 + 0.1 * z[7]),
        "seeratio": exposure.seeing_px / 2.0,
        "classtar": max(0.0, min(1.0, 0.9 - 1.5 / signal_to_noise)),
        "mindtoedge": visit.place.edge_px,
        "aimage": width,
        "bimage": width / ratio,
        "aimagerat": width / exposure.seeing_px,
        "bimagerat": width / ratio / exposure.seeing_px,
        "elong": ratio,
        "nneg": min(25, int((9 if visit.is_artefact else 20 / signal_to_noise) + abs(z[8]))),
        "nbad": 0,
        "sumrat": 0.3 if visit.is_artefact else 1 - 0.5 / signal_to_noise,
        "scorr": signal_to_noise,
        "dsnrms": pixels_snr,
        "ssnrms": 1.5 * pixels_snr,
        "dsdiff": -0.5 * pixels_snr,
    }


def _scores(rng: np.random.Generator, visit: _Visit) -> dict[str, float]:
    if visit.is_artefact:
        return {"rb": float(rng.beta(2, 8)), "drb": float(rng.beta(1, 8))}
    signal_to_noise = abs(visit.flux) / visit.sigma
    return {"rb": float(rng.beta(7, 3)), "drb": float(rng.beta(3 + 3 * signal_to_noise, 0.6))}


def _reference_image(visit: _Visit) -> int:
    return visit.exposure.field * 1_000_000 + 120_000 + visit.exposure.fid * 100 + visit.place.rcid


def _reference_source(visit: _Visit) -> dict[str, float]:
    """Return the nearest source of the reference image: the star itself, the galaxy, or something faint."""
    colour, host = _COLOURS[visit.source.kind][visit.exposure.band], visit.source.host
    if host is not None:
        dx, dy, mag, sharpness = host.dx_arcsec, host.dy_arcsec, host.mag + 0.5 * colour + 0.3, 0.5
    elif visit.reference_mag is not None:
        dx, dy, mag, sharpness = 0.0, 0.0, visit.reference_mag, -0.01
    else:
        dx, dy, mag, sharpness = 4 + 9 * visit.exposure.wobble, 3.0, 22.8, 0.1
    ra, dec = visit.source.position(visit.exposure.mjd)
    ra = (ra + dx / 3600 / math.cos(math.radians(dec))) % 360
    dec += dy / 3600
    return {
        "distnr": _separation_arcsec(visit.ra, visit.dec, ra, dec),
        "magnr": mag,
        "sigmagnr": 0.01 + 0.1 * 10 ** (0.4 * (mag - 22.8)),
        "chinr": 0.6 + 0.4 * visit.exposure.wobble,
        "sharpnr": sharpness,
        "ranr": round(ra, 7),
        "decnr": round(dec, 7),
    }


def _separation_arcsec(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    """Return the distance of two positions that are close together."""
    d_ra = ((ra1 - ra2 + 180) % 360 - 180) * math.cos(math.radians((dec1 + dec2) / 2))
    return 3600 * math.hypot(d_ra, dec1 - dec2)


def _catalogue_sources(visit: _Visit, stars: Sequence[_Star]) -> dict[str, Any]:
    """Return the neighbours in the catalogues of Pan-STARRS1 and Gaia."""
    found = [(star.distance_arcsec, star.mag, 0.98, star) for star in stars if star.distance_arcsec < 30]
    host = visit.source.host
    if host is not None:
        nucleus = _Star(host.dx_arcsec / _ARCSEC_PER_PIXEL, host.dy_arcsec / _ARCSEC_PER_PIXEL, host.mag)
        found.insert(0, (nucleus.distance_arcsec, host.mag, 0.03, nucleus))
        found.sort()
    elif visit.reference_mag is not None:
        found.insert(0, (0.1, visit.source.mag, 0.99, _Star(0.07, 0.07, visit.source.mag)))
    record: dict[str, Any] = {"nmtchps": len(found)}
    for rank in (1, 2, 3):
        names = [f"s{band}mag{rank}" for band in "griz"]
        record |= dict.fromkeys((*names, f"sgscore{rank}", f"distpsnr{rank}"), MISSING)
        record[f"objectidps{rank}"] = int(MISSING)
        if rank > len(found):
            continue
        distance, mag, score, star = found[rank - 1]
        offsets = (0.6, 0.0, -0.2, -0.3)
        record |= {name: mag + offset for name, offset in zip(names, offsets, strict=True)}
        record |= {f"sgscore{rank}": score, f"distpsnr{rank}": distance}
        record[f"objectidps{rank}"] = _ps1_number(visit, star)
    points = [(distance, mag) for distance, mag, score, _ in found if score > 0.5]
    bright = [point for point in points if point[1] < 14]
    record["neargaia"], record["maggaia"] = points[0] if points else (45.0, 19.0)
    record["neargaiabright"], record["maggaiabright"] = bright[0] if bright else (MISSING, MISSING)
    return record


def _ps1_number(visit: _Visit, star: _Star) -> int:
    """Return a number as PS1 makes them: the zone of declination, then right ascension in millionths of a degree."""
    dec = visit.dec + star.dy * _ARCSEC_PER_PIXEL / 3600
    ra = (visit.ra + star.dx * _ARCSEC_PER_PIXEL / 3600 / math.cos(math.radians(dec))) % 360
    zone, rest = divmod((dec + 90) * 120, 1)
    return int(zone) * 10**13 + int(ra * 1e6) * 10**4 + int(rest * 10**4)


def _forced(visit: _Visit) -> dict[str, Any]:
    """Return the forced photometry of an earlier visit."""
    exposure = visit.exposure
    flux, error = (FAILED, FAILED) if visit.has_failed_forced else (visit.forced_flux, visit.sigma)
    return {
        "field": exposure.field,
        "rcid": visit.place.rcid,
        "fid": exposure.fid,
        "pid": visit.pid,
        "rfid": _reference_image(visit),
        "sciinpseeing": exposure.seeing_px * _ARCSEC_PER_PIXEL,
        "scibckgnd": exposure.sky_dn,
        "scisigpix": _pixel_noise(exposure),
        **_calibration(exposure),
        "exptime": 30.0,
        "adpctdif1": 0.08 + 0.01 * exposure.wobble,
        "adpctdif2": 0.09 - 0.01 * exposure.wobble,
        "diffmaglim": exposure.limit_mag,
        "programid": 2 if exposure.band == "i" else 1,
        "jd": exposure.jd,
        "forcediffimflux": flux,
        "forcediffimfluxunc": error,
        "procstatus": "61" if visit.has_failed_forced else "0",
        **_reference_source(visit),
    }


# What the cutouts show


def _moffat_scale(seeing_px: float) -> float:
    """Return the scale in pixels of a Moffat profile of exponent 3 with that width at half its maximum."""
    return seeing_px / (2 * math.sqrt(2 ** (1 / 3) - 1))


def _pixel_noise(exposure: _Exposure) -> float:
    """Return the noise of a pixel for which PSF photometry has the error that the limit implies."""
    effective_pixels = 5 * math.pi / 4 * _moffat_scale(exposure.seeing_px) ** 2
    return exposure.sky_sigma / math.sqrt(effective_pixels)


def _point_sources(exposure: _Exposure, sources: Sequence[tuple[float, float, float]]) -> Image:
    """Draw point sources (x and y from the middle in pixels, flux in DN)."""
    import numpy as np

    x, y, flux = np.array(sources, dtype=np.float32).reshape(-1, 3).T
    pixels = np.arange(SIZE, dtype=np.float32) - SIZE // 2
    scale = _moffat_scale(exposure.seeing_px)
    dx2, dy2 = ((pixels - offsets[:, None]) ** 2 / np.float32(scale**2) for offsets in (x, y))
    profile = 1 / (1 + dx2[:, None, :] + dy2[:, :, None])
    brightness = np.float32(2 / (math.pi * scale**2)) * flux
    return np.tensordot(brightness, profile * profile * profile, 1)


def _galaxy(exposure: _Exposure, host: Host, x: float, y: float) -> Image:
    """Draw the host, whose middle is at x, y from the middle of the cutout in pixels."""
    import numpy as np

    pixels = np.arange(SIZE, dtype=np.float32) - SIZE // 2
    dx, dy = pixels[None, :] - np.float32(x), pixels[:, None] - np.float32(y)
    cos, sin = math.cos(host.angle_rad), math.sin(host.angle_rad)
    # The seeing is added to the scale: close to a convolution and much cheaper.
    scale = math.hypot(host.scale_arcsec / _ARCSEC_PER_PIXEL, 0.4 * exposure.seeing_px)
    along, across = dx * cos + dy * sin, (dy * cos - dx * sin) / host.axis_ratio
    total = exposure.dn(host.mag + _COLOURS["supernova"][exposure.band])
    peak = total / (2 * math.pi * scale**2 * host.axis_ratio)
    return np.float32(peak) * np.exp(-np.sqrt(along**2 + across**2) / np.float32(scale))


def _draw_images(
    rng: np.random.Generator, template_rng: np.random.Generator, visit: _Visit, stars: Sequence[_Star]
) -> tuple[Image, Image, Image]:
    """Draw science, template and difference; the template is matched to the seeing of the exposure."""
    import numpy as np

    exposure, host = visit.exposure, visit.source.host
    x, y = (value - round(value) for value in visit.place[2:])
    static = [(x + star.dx, y + star.dy, exposure.dn(star.mag)) for star in stars]
    if visit.reference_mag is not None:
        static.append((x, y, exposure.dn(visit.reference_mag)))
    scene = _point_sources(exposure, static)
    if host is not None:
        dx, dy = host.dx_arcsec / _ARCSEC_PER_PIXEL, host.dy_arcsec / _ARCSEC_PER_PIXEL
        scene += _galaxy(exposure, host, x + dx, y + dy)
    flux = abs(visit.flux)
    # A star that is not quite where the reference has it leaves a bright and a dark side.
    changed = [(x + 0.9, y, 2 * flux), (x - 0.9, y, -2 * flux)] if visit.is_artefact else [(x, y, flux)]
    source = _point_sources(exposure, changed)
    photons = np.sqrt(np.float32(_pixel_noise(exposure) ** 2) + (scene + abs(source)) / np.float32(_GAIN))
    difference = source + photons * rng.standard_normal((SIZE, SIZE), dtype=np.float32)
    noise = template_rng.standard_normal((SIZE, SIZE), dtype=np.float32)
    template = scene + np.float32(exposure.sky_dn) + np.float32(1.3) * noise
    # For a source that became fainter the survey shows reference minus science.
    science = template + difference if visit.flux > 0 else template - difference
    for image in (science, template, difference):
        _cut_at_edges(image, visit.place)
    return science, template, difference


def _cut_at_edges(image: Image, place: _Place) -> None:
    """Set the pixels outside of the camera's quadrant to NaN."""
    middle = SIZE // 2
    column, row = round(place.x), round(place.y)
    image[:, : max(0, middle - column)] = math.nan
    image[: max(0, middle - row)] = math.nan
    image[:, max(0, _PIXELS[0] - column + middle) :] = math.nan
    image[max(0, _PIXELS[1] - row + middle) :] = math.nan
