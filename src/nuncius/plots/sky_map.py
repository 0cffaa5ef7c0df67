"""Maps of the whole sky."""

from __future__ import annotations

import math
import numbers
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from nuncius.errors import ConfigurationError
from nuncius.plots.style import CATEGORY_COLOURS, NEUTRAL, Entry, axes_or_new, draw_legend, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike

_GEOGRAPHIC = ("mollweide", "aitoff", "hammer")
_RASTER_ABOVE = 2000  # so many points are drawn as pixels even in a vector format


def plot_sky(
    ra: ArrayLike,
    dec: ArrayLike,
    *,
    values: Sequence[Any] | np.ndarray[Any, Any] | None = None,
    label: str | None = None,
    ax: Any = None,
    projection: Literal["mollweide", "aitoff", "hammer"] = "mollweide",
    center_ra_deg: float = 180.0,
) -> Any:
    """Draw positions on a map of the whole sky, right ascension increasing to the left.

    Parameters
    ----------
    ra, dec : array-like, shape (n,)
        ICRS positions in degrees. Those that are None, NaN or masked are left out.
    values : sequence, shape (n,), optional
        What colours the points: numbers, with a colour bar, or categories (text, truth values), with a legend that
        counts them. What is None is grey. Beyond seven categories the rarest are shown as one.
    label : str, optional
        What the values are, with their unit: the title of the colour bar or of the legend.
    ax : matplotlib axes, optional
        Where: axes with one of the projections below; a new figure by default.
    projection : {"mollweide", "aitoff", "hammer"}
        How a new map is projected.
    center_ra_deg : float
        The right ascension in the middle of the map.

    Returns
    -------
    matplotlib axes
        With the galactic plane as a thin line.

    Raises
    ------
    ConfigurationError
        If the lengths differ, a declination is beyond a pole, or the projection is none of these.
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> plot_sky([10.7, 83.8], [41.3, -5.4], values=["galaxy", "nebula"])  # doctest: +SKIP
    """
    import numpy as np

    used = projection if ax is None else ax.name
    if used not in _GEOGRAPHIC:
        raise ConfigurationError(
            f"no map of the sky in the projection {used!r}; use one of {', '.join(_GEOGRAPHIC)}"
        )
    ra_deg, dec_deg = _degrees(ra), _degrees(dec)
    shown = None if values is None else list(values.tolist() if hasattr(values, "tolist") else values)
    if len({len(ra_deg), len(dec_deg), len(ra_deg if shown is None else shown)}) > 1:
        raise ConfigurationError("ra, dec and values must have the same length")
    if (np.abs(dec_deg) > 90).any():
        raise ConfigurationError("a declination is beyond a pole; ra and dec are in degrees, in this order")

    ax = axes_or_new(ax, projection=projection)
    _draw_frame(ax, center_ra_deg)
    x, y = _project(ra_deg, center_ra_deg), np.radians(dec_deg)
    if shown is not None and _are_numbers(shown):
        _draw_numbers(ax, x, y, shown, label)
    else:
        placing = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.02), "ncols": 4, "frameon": False}
        entries = _draw_categories(ax, x, y, shown)
        draw_legend(ax, entries, title=None if label is None else plain(label), **placing)
    return ax


def draw_categories(ax: Any, positions: Sequence[tuple[float, float, str]]) -> list[Entry]:
    """Draw a map of (ra, dec, category) without a legend, and return what the legend would say."""
    import numpy as np

    ra, dec, categories = zip(*positions, strict=True) if positions else ((), (), ())
    _draw_frame(ax, 180.0)
    return _draw_categories(ax, _project(_degrees(ra), 180.0), np.radians(_degrees(dec)), list(categories))


def _degrees(values: Any) -> Any:
    import numpy as np

    if hasattr(values, "to_value"):  # a Quantity or an Angle
        values = values.to_value("deg")
    degrees: np.ndarray[Any, Any] = np.ma.atleast_1d(np.ma.asarray(values, dtype=float)).filled(np.nan)
    return np.where(np.isfinite(degrees), degrees, np.nan)


def _are_numbers(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(
        isinstance(value, numbers.Real) and not isinstance(value, bool) for value in known
    )


def _project(ra_deg: Any, center_ra_deg: float) -> Any:
    import numpy as np

    # East is to the left, as one sees the sky from below; the projection itself counts to the right.
    return -np.radians((ra_deg - center_ra_deg + 180.0) % 360.0 - 180.0)


def _draw_frame(ax: Any, center_ra_deg: float) -> None:
    import numpy as np
    from astropy.coordinates import SkyCoord

    ax.set_longitude_grid(60)
    ax.set_latitude_grid(30)
    ax.xaxis.set_major_formatter(lambda x, _: f"{(center_ra_deg - math.degrees(x)) % 360:.0f}°")
    ax.yaxis.set_major_formatter(lambda y, _: _signed(math.degrees(y)))
    ax.tick_params(labelsize="small")
    ax.grid(visible=True, alpha=0.18, linewidth=0.6)
    ax.set_axisbelow(True)

    plane = SkyCoord(l=np.linspace(0, 360, 361), b=np.zeros(361), unit="deg", frame="galactic").icrs
    x, y = _project(plane.ra.deg, center_ra_deg), plane.dec.rad
    order = np.argsort(x)  # the plane passes each right ascension once, so this is a line without a jump
    ax.plot(x[order], y[order], color=NEUTRAL, linewidth=0.9, zorder=1.5, label="galactic plane")


def _signed(degrees: float) -> str:
    sign = "\N{MINUS SIGN}" if degrees <= -0.5 else "+" if degrees >= 0.5 else ""
    return f"{sign}{abs(degrees):.0f}°"


def _draw_categories(ax: Any, x: Any, y: Any, values: Sequence[Any] | None) -> list[Entry]:
    import numpy as np

    plane = Entry("galactic plane", NEUTRAL, "-")
    if values is None:
        _scatter(ax, x, y, color=CATEGORY_COLOURS[0])
        return [plane]
    known = np.isfinite(x) & np.isfinite(y)
    names = [None if value is None else str(value) for value in values]
    counts = Counter(name for name, is_known in zip(names, known, strict=True) if is_known)
    groups = _grouped(counts)
    group_of = {name: number for number, (_, members, _) in enumerate(groups) for name in members}
    numbers_of = np.array([group_of.get(name, -1) for name in names], dtype=int)
    entries = []
    for number, (label, _, colour) in enumerate(groups):
        chosen = known & (numbers_of == number)
        _scatter(ax, x[chosen], y[chosen], count=counts.total(), color=colour, label=plain(label))
        entries.append(Entry(f"{label} ({chosen.sum()})", colour))
    return [*entries, plane]


def _grouped(counts: Counter[str | None]) -> list[tuple[str, list[str | None], str]]:
    """Give label, members and colour of the groups that are told apart, the largest first."""
    ranked = [name for name, _ in counts.most_common() if name is not None]
    room = len(CATEGORY_COLOURS)
    groups: list[tuple[str, list[str | None], str]] = [
        (name, [name], colour) for name, colour in zip(ranked, CATEGORY_COLOURS, strict=False)
    ]
    if rare := ranked[room:]:
        groups.append((f"{len(rare)} others", [*rare], NEUTRAL))
    if None in counts:
        groups.append(("unknown", [None], NEUTRAL))
    return groups


def _draw_numbers(ax: Any, x: Any, y: Any, values: Sequence[Any], label: str | None) -> None:
    import numpy as np

    shown = np.array([math.nan if value is None else float(value) for value in values])
    known = np.isfinite(shown)
    _scatter(ax, x[~known], y[~known], count=len(x), color=NEUTRAL)
    points = _scatter(ax, x[known], y[known], count=len(x), c=shown[known], cmap="viridis")
    ax.figure.colorbar(
        points,
        ax=ax,
        orientation="horizontal",
        shrink=0.6,
        pad=0.05,
        label="" if label is None else plain(label),
    )


def _scatter(ax: Any, x: Any, y: Any, *, count: int | None = None, **colour: Any) -> Any:
    count = len(x) if count is None else count
    size = min(30.0, max(4.0, 4000 / max(count, 1)))
    return ax.scatter(
        x, y, s=size, linewidths=0, alpha=0.85, zorder=3, rasterized=count > _RASTER_ABOVE, **colour
    )
