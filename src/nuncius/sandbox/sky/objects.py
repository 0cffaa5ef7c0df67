"""What is in the sky: variable stars, supernovae with their galaxies, asteroids, and the stars around them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from nuncius.sandbox.sky.telescope import ARCSEC_PER_PIXEL, EDGE_PX, date_of, find_place

if TYPE_CHECKING:
    import numpy as np

Kind: TypeAlias = Literal["variable star", "supernova", "asteroid"]

# Of each ten objects; the first is a star that varies for ever, so that the alerts never run out.
_KINDS: tuple[Kind, ...] = ("variable star", "supernova", "asteroid", "variable star", "variable star",
                            "variable star", "asteroid", "variable star", "supernova", "variable star")  # fmt: skip
COLOURS: dict[Kind, dict[str, float]] = {  # magnitude minus that in r
    "variable star": {"g": 0.3, "r": 0.0, "i": -0.1},
    "supernova": {"g": 0.05, "r": 0.0, "i": 0.2},
    "asteroid": {"g": 0.5, "r": 0.0, "i": -0.2},
}
_RR_LYRAE_AMPLITUDES = {"g": 1.0, "r": 0.72, "i": 0.57}  # relative to that in g
_SUPERNOVA_RISE_DAYS = 3.5
_SUPERNOVA_FALL_DAYS = {"g": 16.0, "r": 24.0, "i": 30.0}


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
        mag = self.mag + COLOURS[self.kind][band]
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
        return self.mag + COLOURS[self.kind][band] - 2.5 * math.log10(flux)

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
    return -2.5 / math.log(10) * (log_flux + peak / fall - math.log1p(-rise / fall))


class Star(NamedTuple):
    """A star near an object, by its distance in pixels."""

    dx: float
    dy: float
    mag: float

    @property
    def distance_arcsec(self) -> float:
        """How far it is from the object."""
        return ARCSEC_PER_PIXEL * math.hypot(self.dx, self.dy)


def draw_object(rng: np.random.Generator, index: int, night: int) -> SkyObject:
    """Draw the object of that number for a survey whose first night is given as a Modified Julian Date."""
    kind = _KINDS[index % len(_KINDS)]
    if kind == "asteroid":
        return _draw_asteroid(rng, index, night)
    if kind == "supernova":
        return _draw_supernova(rng, index, night)
    return _draw_star(rng, index, night)


def _draw_star(rng: np.random.Generator, index: int, night: int) -> SkyObject:
    ra, dec = _draw_position(rng, near_galactic_plane=True)
    pulsates = rng.random() < 0.65
    return SkyObject(
        object_name(index, int(rng.integers(2017, max(date_of(night).year, 2018)))),
        "variable star",
        ra,
        dec,
        mag=rng.uniform(14.5, 18.5),
        epoch_mjd=night - rng.uniform(0, 5),
        subtype="RR Lyrae" if pulsates else "eclipsing binary",
        period_d=rng.uniform(0.4, 0.8) if pulsates else rng.uniform(0.3, 3.0),
        amplitude_mag=rng.uniform(0.6, 1.2) if pulsates else rng.uniform(0.6, 1.5),
    )


def _draw_supernova(rng: np.random.Generator, index: int, night: int) -> SkyObject:
    ra, dec = _draw_position(rng, near_galactic_plane=False)
    distance_arcsec, angle = rng.uniform(0.5, 5.0), rng.uniform(0, 2 * math.pi)
    return SkyObject(
        object_name(index, date_of(night).year),
        "supernova",
        ra,
        dec,
        host=Host(
            mag=rng.uniform(15.5, 18.5),
            scale_arcsec=rng.uniform(1.5, 4.0),
            axis_ratio=rng.uniform(0.35, 1.0),
            angle_rad=rng.uniform(0, math.pi),
            dx_arcsec=distance_arcsec * math.cos(angle),
            dy_arcsec=distance_arcsec * math.sin(angle),
        ),
        epoch_mjd=night + rng.uniform(-15, 25),
        mag=rng.uniform(16.0, 19.0),
        subtype="type Ia",
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
        mag=rng.uniform(16.0, 20.0),
        epoch_mjd=float(night),
        subtype="main belt",
        ra_rate=motion * math.cos(slope) / math.cos(dec),
        dec_rate=motion * math.sin(slope),
    )


def _draw_position(rng: np.random.Generator, *, near_galactic_plane: bool) -> tuple[float, float]:
    """Draw from the sky north of declination -28: stars crowd near the Milky Way, which hides galaxies."""
    while True:
        ra = rng.uniform(0, 360)
        dec = math.degrees(math.asin(rng.uniform(math.sin(math.radians(-28)), 0.999)))
        latitude = abs(_galactic_latitude(ra, dec))
        weight = 0.1 + 0.9 * math.exp(-latitude / 20) if near_galactic_plane else float(latitude > 10)
        place = find_place(ra, dec)
        if rng.random() < weight and place is not None and place.edge_px >= EDGE_PX:
            return ra, dec


def _galactic_latitude(ra: float, dec: float) -> float:
    pole = math.radians(27.13)
    across = math.cos(math.radians(ra - 192.86)) * math.cos(math.radians(dec)) * math.cos(pole)
    return math.degrees(math.asin(math.sin(math.radians(dec)) * math.sin(pole) + across))


def draw_neighbours(rng: np.random.Generator) -> list[Star]:
    """Draw the stars around an object, the closest first."""
    shape = rng.random((rng.poisson(3), 3)).tolist()
    stars = [Star(64 * u - 32, 64 * v - 32, 16 + 5 * w**0.4) for u, v, w in shape]
    stars = [star for star in stars if star.distance_arcsec > 4]
    return sorted(stars, key=lambda star: star.distance_arcsec)


def object_name(index: int, year: int) -> str:
    """Return the survey's name of an object: ``ZTF``, two digits and seven letters, different for every index."""
    code, letters = (1_234_577 * index + 987_654_321) % 26**7, ""
    for _ in range(7):
        code, letter = divmod(code, 26)
        letters = chr(ord("a") + letter) + letters
    return f"ZTF{year % 100:02d}{letters}"
