"""Draw the picture of a cross-match that `howto/archive.md` shows: ``python docs/pictures/crossmatch.py``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import astropy.units as u
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord

from nuncius import open_archive
from nuncius.sandbox.kowalski import fill_archive

RADIUS = 3 * u.arcsec
TARGET = Path(__file__).parents[1] / "_static" / "crossmatch.png"


def offsets():
    """Return how far each alert is from its nearest source to the east and to the north, in arcsec."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "night.db"
        fill_archive(path, alerts=600)
        with open_archive(path, read_only=True) as archive:
            found = archive.crossmatch(
                "ZTF_alerts",
                "Gaia_EDR3",
                RADIUS,
                projection=["candidate.ra", "candidate.dec"],
                right_projection=["ra", "dec"],
                limit=1,
            ).to_table()
    alerts = SkyCoord(found["candidate.ra"], found["candidate.dec"], unit="deg")
    stars = SkyCoord(
        [near[0]["ra"] for near in found["matches"]],
        [near[0]["dec"] for near in found["matches"]],
        unit="deg",
    )
    east, north = stars.spherical_offsets_to(alerts)
    return east.arcsec, north.arcsec


def draw(east, north):
    """Draw where the alerts lie around their sources, and how far from them."""
    separation = np.hypot(east, north)
    figure, (sky, counts) = plt.subplots(1, 2, figsize=(9.0, 4.2), layout="constrained")
    sky.axhline(0, color="0.85", lw=0.8, zorder=0)
    sky.axvline(0, color="0.85", lw=0.8, zorder=0)
    sky.add_patch(plt.Circle((0, 0), RADIUS.value, fill=False, color="0.6", ls="--"))
    sky.scatter(east, north, s=12, alpha=0.5, color="#1f5fa8", lw=0)
    sky.set(
        xlabel="east of the source (arcsec)",
        ylabel="north of the source (arcsec)",
        xlim=(3.3, -3.3),
        ylim=(-3.3, 3.3),
        aspect="equal",
    )
    counts.hist(separation, bins=np.arange(0, 3.01, 0.1), color="#1f5fa8", alpha=0.8)
    counts.set(xlabel="separation (arcsec)", ylabel="alerts", xlim=(0, 3))
    counts.set_yscale("log")
    counts.text(0.45, 100, "variable stars", color="0.25")
    counts.text(0.45, 11, "supernovae, beside the centres of their galaxies", color="0.25")
    for axes in (sky, counts):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    mpl.use("agg")
    draw(*offsets()).savefig(TARGET, dpi=110)
    print(f"wrote {TARGET}")
