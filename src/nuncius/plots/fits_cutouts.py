"""Cutouts of FITS images, with lines of the sky's coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.errors import ConfigurationError
from nuncius.plots.images import greys, stretch
from nuncius.plots.style import axes_or_new, plain

if TYPE_CHECKING:
    from astropy.nddata import Cutout2D

_NAMES = {"pos.eq.ra": "RA", "pos.eq.dec": "Dec", "pos.galactic.lon": "l", "pos.galactic.lat": "b"}
_LINE = {"color": "#c9770c", "alpha": 0.55, "linestyle": "-", "linewidth": 0.6}


def plot_fits_cutout(cutout: Cutout2D, *, title: str | None = None, ax: Any = None) -> Any:
    """Draw a cutout in grey, as it lies in its file: first row at the bottom, with lines of the sky's coordinates.

    Parameters
    ----------
    cutout : astropy.nddata.Cutout2D
        As `RemoteHdu.cutout` gives it, of two axes. Its `wcs` makes the lines; without one the pixels are counted from 0.
    title : str, optional
        Written above it.
    ax : matplotlib axes, optional
        Where; a new figure by default. Lines of the sky need an `astropy.visualization.wcsaxes.WCSAxes`.

    Returns
    -------
    matplotlib axes
        Stretched as `plot_cutout` does it; pixels without data are blue.

    Raises
    ------
    ConfigurationError
        If the cutout has more than two axes.
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> plot_fits_cutout(fits["SCI"].cutout(position, 30 * u.arcsec))  # doctest: +SKIP
    """
    data = cutout.data
    if data.ndim != 2:
        raise ConfigurationError(f"a picture has two axes, and this cutout has the shape {data.shape}")
    on_sky = cutout.wcs is not None and cutout.wcs.has_celestial
    if ax is None:
        ax = axes_or_new(None, **({"projection": cutout.wcs} if on_sky else {}))
    low, high = stretch(data)
    ax.imshow(data, origin="lower", interpolation="nearest", cmap=greys(), vmin=low, vmax=high)
    if hasattr(ax, "coords"):
        ax.coords.grid(**_LINE)
        for coordinate, kind in zip(ax.coords, ax.wcs.world_axis_physical_types, strict=True):
            coordinate.set_axislabel(_NAMES.get(kind, kind))
    if title:
        ax.set_title(plain(title), fontsize="medium")
    return ax
