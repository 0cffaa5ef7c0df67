"""The reference catalog that belongs to the synthetic sky."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from astropy.table import Table


def synthetic_catalog(*, seed: int = 1, objects: int = 200, others: int = 2000) -> Table:
    """Return a reference catalog of the synthetic sky, with columns as Gaia has them.

    The variable stars stand in it within a few tenths of an arcsecond of where the survey sees them, and the galaxies
    of supernovae; asteroids don't. Other stars are spread over the whole sky.

    Parameters
    ----------
    seed, objects : int
        Of the synthetic sky.
    others : int
        How many other stars there are.

    Returns
    -------
    astropy.table.Table
        With `source_id` (int64), `ra` and `dec` (degrees, ICRS), `parallax` (mas), `phot_g_mean_mag`.
    """
    import numpy as np
    from astropy.table import Table

    from nuncius.sandbox.sky.survey import SyntheticSky

    rng = np.random.default_rng([seed, 0x47414941])
    known = [
        source for source in SyntheticSky(seed=seed, objects=objects).objects if source.kind != "asteroid"
    ]
    ra = np.array([source.ra for source in known])
    dec = np.array([source.dec for source in known])
    offset = rng.normal(0, 0.1 / 3600, (2, len(known)))
    dx = [source.host.dx_arcsec if source.host else 0.0 for source in known]
    dy = [source.host.dy_arcsec if source.host else 0.0 for source in known]
    dec = dec + offset[1] + np.array(dy) / 3600
    ra = (ra + (offset[0] + np.array(dx) / 3600) / np.cos(np.radians(dec))) % 360
    mag = np.array([source.host.mag if source.host else source.mag for source in known])
    count = len(known) + others
    return Table(
        {
            "source_id": 1_000_000_000_000_000_000 + np.arange(count, dtype=np.int64) * 7_919,
            "ra": np.concatenate([ra, rng.uniform(0, 360, others)]),
            "dec": np.concatenate([dec, np.degrees(np.arcsin(rng.uniform(-1, 1, others)))]),
            "parallax": np.round(np.abs(rng.normal(0, 1.5, count)), 4),
            "phot_g_mean_mag": np.round(np.concatenate([mag, rng.uniform(13, 21, others)]), 4),
        }
    )
