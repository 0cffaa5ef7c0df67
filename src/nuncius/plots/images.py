"""Cutouts: the small images of an alert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require
from nuncius.errors import ConfigurationError
from nuncius.plots.style import axes_or_new, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from nuncius.alerts.cutouts import Cutout, Cutouts

KINDS = ("science", "template", "difference")
_NO_DATA = "#52688f"
_BRIGHTEST_PERCENT = 99.5


def plot_cutout(cutout: Cutout, *, ax: Any = None) -> Any:
    """Draw one image in grey, as it lies in its file: first row at the bottom.

    Parameters
    ----------
    cutout : Cutout
        The image.
    ax : matplotlib axes, optional
        Where; a new figure by default.

    Returns
    -------
    matplotlib axes
        Pixels without data are blue. The greys run from the lower zscale limit, which shows the noise of the sky, to
        the brightest half percent of the pixels (or the upper zscale limit if that is higher).

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    PacketError
        If the cutout is no readable FITS image.
    """
    data = cutout.data
    ax = axes_or_new(ax)
    low, high = stretch(data)
    ax.imshow(data, origin="lower", interpolation="nearest", cmap=greys(), vmin=low, vmax=high)
    _frame(ax, cutout.kind)
    return ax


def plot_cutouts(cutouts: Cutouts, *, axes: Sequence[Any] | None = None) -> Any:
    """Draw the three images side by side: science, template, difference.

    Parameters
    ----------
    cutouts : Cutouts
        The images; the place of one that the alert doesn't have says so.
    axes : sequence of three matplotlib axes, optional
        Where; a new figure by default.

    Returns
    -------
    array of three matplotlib axes

    Raises
    ------
    ConfigurationError
        If `axes` are not three.
    MissingExtraError
        If matplotlib is not installed.
    PacketError
        If a cutout is no readable FITS image.
    """
    import numpy as np

    if axes is None:
        pyplot = require("matplotlib.pyplot", extra="plots")
        _, axes = pyplot.subplots(1, len(KINDS), figsize=(7.2, 2.7), layout="constrained")
    places = np.asarray(axes, dtype=object).ravel()
    if len(places) != len(KINDS):
        raise ConfigurationError(f"the {len(KINDS)} cutouts need {len(KINDS)} axes; {len(places)} were given")
    for ax, kind in zip(places, KINDS, strict=True):
        cutout = getattr(cutouts, kind)
        if cutout is not None:
            plot_cutout(cutout, ax=ax)
            continue
        _frame(ax, kind)
        ax.set_box_aspect(1)
        ax.text(0.5, 0.5, "none", transform=ax.transAxes, ha="center", va="center", alpha=0.7)
    return places


def stretch(data: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Return the values that are drawn black and white, whatever the image: constant, empty or full of NaN."""
    import numpy as np
    from astropy.visualization import ZScaleInterval

    finite = np.asarray(data, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return 0.0, 1.0
    with np.errstate(all="ignore"):
        low, high = (float(limit) for limit in ZScaleInterval().get_limits(finite))
        high = max(high, float(np.percentile(finite, _BRIGHTEST_PERCENT)))
    if high > low:
        return low, high
    half = max(0.5, 1e-3 * abs(low))  # a constant image is drawn in the middle grey
    return low - half, low + half


def greys() -> Any:
    """Return the colours of images: greys, and blue where there are no data."""
    return require("matplotlib", extra="plots").colormaps["gray"].with_extremes(bad=_NO_DATA)


def _frame(ax: Any, title: str) -> None:
    ax.set_title(plain(title), fontsize="medium")
    ax.set_xticks([])
    ax.set_yticks([])
