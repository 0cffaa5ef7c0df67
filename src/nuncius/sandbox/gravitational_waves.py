"""Gravitational waves of the synthetic sky: notices with sky maps, as ANTARES has them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class SkyMap:
    """Where a gravitational wave may have come from: a blurred spot.

    Parameters
    ----------
    ra, dec : float
        Its middle, in degrees.
    sigma_deg : float
        How wide it is.
    order : int
        The HEALPix order of its cells.
    """

    ra: float
    dec: float
    sigma_deg: float
    order: int = 4

    def _cells(self) -> tuple[Any, Any, float]:
        import numpy as np

        from nuncius.sky import _centres, separation_arcsec

        cells = np.arange(12 * 4**self.order)
        away = separation_arcsec(self.ra, self.dec, *_centres(cells, self.order)) / 3600
        area = 4 * np.pi / len(cells)
        chance = np.exp(-0.5 * (away / self.sigma_deg) ** 2)
        return cells, chance / chance.sum() / area, area

    def contour(self, ra: float, dec: float) -> tuple[float, float]:
        """Return the credible level (percent) on whose edge a position lies, and the area within (square degrees)."""
        import numpy as np

        from nuncius.sky import ORDER, cells_of

        _, density, area = self._cells()
        own = int(cells_of(np.array([ra]), np.array([dec]))[0]) >> 2 * (ORDER - self.order)
        within = density >= density[own]
        level = float(density[density > density[own]].sum() * area)
        return 100 * level, float(within.sum() * np.degrees(np.degrees(area)))

    def to_base64(self) -> str:
        """Return it as multi-order FITS, with UNIQ and PROBDENSITY per steradian."""
        from astropy import units
        from astropy.table import Table

        cells, density, _ = self._cells()
        table = Table({"UNIQ": cells + 4 * 4**self.order, "PROBDENSITY": density / units.sr})
        table.meta.update(PIXTYPE="HEALPIX", ORDERING="NUNIQ", COORDSYS="C")
        text = io.BytesIO()
        table.write(text, format="fits")
        return base64.b64encode(text.getvalue()).decode()


@lru_cache(maxsize=4)
def synthetic_notices(ra: float, dec: float, mjd: float) -> tuple[tuple[dict[str, Any], SkyMap], ...]:
    """Return notices of gravitational waves.

    Three are of an event near a position, each better than the one before, and one is of another event on the other
    side of the sky.

    Parameters
    ----------
    ra, dec : float
        The position, in degrees.
    mjd : float
        When it was.

    Returns
    -------
    tuple
        Each notice as the REST interface gives it, the oldest first, and its sky map.
    """
    when = datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=mjd)
    name = f"S{when:%y%m%d}"
    plan = (
        (f"{name}ab", "PRELIMINARY", 5, SkyMap((ra + 5) % 360, dec, 12.0)),
        (f"{name}ab", "INITIAL", 40, SkyMap((ra + 2) % 360, dec, 8.0)),
        (f"{name}ab", "UPDATE", 600, SkyMap(ra, dec, 5.0)),
        (f"{name}cd", "PRELIMINARY", 90, SkyMap((ra + 180) % 360, -dec, 9.0)),
    )
    notices = []
    for number, (gracedb_id, kind, minutes, sky_map) in enumerate(plan, 1):
        notice = {
            "id": number,
            "gracedb_id": gracedb_id,
            "notice_type": kind,
            "notice_datetime": (when + timedelta(minutes=minutes)).isoformat(),
            "event_datetime": when.isoformat(),
            "false_alarm_rate": 1.2e-9 if gracedb_id.endswith("ab") else 3e-6,
            "skymap_base64": sky_map.to_base64(),
            "external_coinc": None,
            "full_notice": {"superevent_id": gracedb_id, "alert_type": kind},
            "version_id": number if gracedb_id.endswith("ab") else 1,
        }
        notices.append((notice, sky_map))
    return tuple(notices)
