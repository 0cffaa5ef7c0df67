"""How the sky is observed: what an exposure says about an object, and what is remembered of it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nuncius.sandbox.sky.telescope import DETECTION_SIGMA, EDGE_PX, GAIN, find_place

if TYPE_CHECKING:
    import numpy as np

    from nuncius.sandbox.sky.objects import SkyObject
    from nuncius.sandbox.sky.telescope import Exposure, Place

HISTORY_DAYS = 30


@dataclass(slots=True)
class Visit:
    """What one exposure says about one object."""

    index: int
    source: SkyObject
    exposure: Exposure
    place: Place
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
        """Whether it becomes an alert."""
        return self.place.edge_px >= EDGE_PX and abs(self.flux) >= DETECTION_SIGMA * self.sigma

    @property
    def pid(self) -> int:
        """The number of the processed image, made of the night, the time and the quadrant."""
        fraction = int(self.exposure.mjd % 1 * 100_000)
        return (self.exposure.night * 100_000 + fraction) * 10_000 + self.place.rcid * 100 + 15

    @property
    def candid(self) -> int:
        """The number of the candidate; the survey counts those that became fainter from 10,000 on."""
        return self.pid * 1_000_000 + (15_000 if self.flux > 0 else 10_000) + self.row

    @property
    def signal_to_noise(self) -> float:
        """The size of the reported difference over its error."""
        return abs(self.flux) / self.sigma

    @property
    def scene_key(self) -> int:
        """What the surroundings depend on: an asteroid has others each time."""
        return self.candid if self.source.kind == "asteroid" else self.index


@dataclass(slots=True)
class Track:
    """What the survey remembers of one position."""

    detections: int
    covered: int
    first_jd: float | None
    visits: deque[Visit] = field(default_factory=deque)

    def add(self, visit: Visit) -> tuple[Visit, ...]:
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


def observe(
    rng: np.random.Generator,
    exposure: Exposure,
    index: int,
    source: SkyObject,
    row: int,
    reference_mag: float | None,
) -> Visit:
    """Measure one object on one exposure."""
    noise, d_ra, d_dec = rng.standard_normal(3).tolist()
    artefact, strength, failed = rng.random(3).tolist()
    ra, dec = source.position(exposure.mjd)
    place = find_place(ra, dec)
    assert place is not None, "only objects in a field are observed"
    true = exposure.dn(source.magnitude(exposure.mjd, exposure.band))
    reference = 0.0 if reference_mag is None else exposure.dn(reference_mag)
    # Background, photons, and bright stars that never subtract perfectly.
    sigma = math.sqrt(exposure.sky_sigma**2 + (true + 0.1 * reference) / GAIN + (0.003 * reference) ** 2)
    flux = forced_flux = true - reference + sigma * noise
    is_artefact = reference_mag is not None and abs(flux) < DETECTION_SIGMA * sigma and artefact < 0.15
    if is_artefact:
        flux = math.copysign((DETECTION_SIGMA + 3 * strength) * sigma, noise)
    elif reference_mag is None and flux < 0:
        flux = 0.0  # noise below an empty sky is no detection
    blur = 0.08 / 3600  # degrees
    return Visit(
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
