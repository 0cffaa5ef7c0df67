"""Light curves: brightness over time, a colour for each band, a shape for each kind of measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require
from nuncius.plots.style import BAND_COLOURS, Entry, axes_or_new, band_colours, draw_legend, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nuncius.alerts.lightcurve import LightCurve, Point

# Below this, a magnitude says no more than that the flux is small.
_SIGNIFICANT = 3.0
_MAG_PER_RELATIVE_ERROR = 2.5 / math.log(10)
_SMALLEST_SPAN_MAG = 0.5
_EMPTY = "nuncius-empty"


@dataclass(frozen=True, slots=True)
class _Shape:
    legend: str
    marker: str
    size: float
    filled: bool = True
    alpha: float = 1.0


# Drawn in this order, so that detections lie on top.
_SHAPES = {
    "limit": _Shape("5σ limit", "v", 4.5, alpha=0.6),  # noqa: RUF001
    "forced": _Shape("forced photometry", "o", 3.5, filled=False),
    "forced, fainter": _Shape("forced, fainter than template", "D", 3.2, filled=False),
    "fainter": _Shape("fainter than template", "D", 4.6),
    "detection": _Shape("detection", "o", 5.5),
}
_FAINTER = {"detection": "fainter", "forced": "forced, fainter"}


@dataclass(frozen=True, slots=True)
class _Mark:
    shape: str
    band: str | None
    mjd: float
    value: float
    error: float


def plot_light_curve(curve: LightCurve, *, ax: Any = None, flux: bool = False) -> Any:
    """Draw a light curve.

    Detections are filled circles with 1-sigma error bars, upper limits triangles that point down, forced photometry
    small open circles; each band has its colour. In magnitudes, what is fainter than in the template is a diamond (its
    magnitude is that of the missing light), and forced photometry below 3 sigma is left out, which the legend says.
    Points without a time or a value are left out.

    Parameters
    ----------
    curve : LightCurve
        The points.
    ax : matplotlib axes, optional
        Where; a new figure by default.
    flux : bool
        Fluxes in nJy in place of magnitudes. Limits, which have no flux, and surveys without calibrated fluxes then
        have nothing to show.

    Returns
    -------
    matplotlib axes
        Time in MJD (UTC) to the right, brightness upwards: the axis of magnitudes is inverted.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> from nuncius.alerts import LightCurve, Point
    >>> curve = LightCurve([Point("detection", 60000.2, "r", mag=18.1, mag_err=0.05)])
    >>> plot_light_curve(curve).get_ylabel()  # doctest: +SKIP
    'difference magnitude'
    """
    ax = axes_or_new(ax)
    draw_legend(ax, draw_light_curve(curve, ax, flux=flux))
    return ax


def draw_light_curve(curve: LightCurve, ax: Any, *, flux: bool) -> list[Entry]:
    """Draw a light curve without a legend, and return what the legend would say."""
    had_data = ax.has_data()
    noisy = [] if flux else [point for point in curve if _is_lost_in_noise(point)]
    lost = {id(point) for point in noisy}
    read = _flux_mark if flux else _mag_mark
    marks = [mark for point in curve if id(point) not in lost and (mark := read(point)) is not None]

    _prepare(ax, "difference flux (nJy)" if flux else "difference magnitude")
    colours = band_colours(mark.band for mark in marks)
    _draw_marks(ax, marks, colours)
    if marks:
        _set_limits(ax, marks, flux=flux, had_data=had_data)
        if flux:
            ax.axhline(0, color="0.5", linewidth=0.8, zorder=1)
    elif not had_data:
        _say_empty(ax, "no fluxes to draw" if flux else "no magnitudes to draw")
    if not flux and not ax.yaxis_inverted():
        ax.invert_yaxis()
    return _entries(marks, colours, len(noisy))


def _prepare(ax: Any, brightness: str) -> None:
    ticker = require("matplotlib.ticker", extra="plots")
    for note in [text for text in ax.texts if text.get_gid() == _EMPTY]:  # an empty curve was here before
        note.remove()
        ax.xaxis.set_major_locator(ticker.AutoLocator())
        ax.yaxis.set_major_locator(ticker.AutoLocator())
    ax.set_xlabel("MJD (UTC)")
    ax.set_ylabel(brightness)
    # Axes that a caller has set up otherwise, for dates for instance, keep their ticks.
    if isinstance(ax.xaxis.get_major_formatter(), ticker.ScalarFormatter):
        ax.ticklabel_format(axis="x", style="plain", useOffset=False)
    if isinstance(ax.xaxis.get_major_locator(), ticker.MaxNLocator):
        ax.locator_params(axis="x", nbins=6)
    ax.grid(visible=True, alpha=0.18, linewidth=0.6)
    ax.set_axisbelow(True)


def _is_lost_in_noise(point: Point) -> bool:
    if point.kind != "forced":
        return False
    if point.flux_njy is not None and point.flux_err_njy is not None:
        return abs(point.flux_njy) < _SIGNIFICANT * point.flux_err_njy
    return point.mag_err is not None and point.mag_err > _MAG_PER_RELATIVE_ERROR / _SIGNIFICANT


def _mag_mark(point: Point) -> _Mark | None:
    if point.kind == "limit":
        return _mark(point, "limit", point.limiting_mag, None)
    shape = _FAINTER[point.kind] if point.is_positive is False else point.kind
    return _mark(point, shape, point.mag, point.mag_err)


def _flux_mark(point: Point) -> _Mark | None:
    return _mark(point, point.kind, point.flux_njy, point.flux_err_njy)


def _mark(point: Point, shape: str, value: float | None, error: float | None) -> _Mark | None:
    if point.mjd is None or value is None or not (math.isfinite(point.mjd) and math.isfinite(value)):
        return None
    known = error is not None and math.isfinite(error) and error >= 0
    return _Mark(shape, point.band, point.mjd, value, error if known and error is not None else math.nan)


def _draw_marks(ax: Any, marks: Iterable[_Mark], colours: dict[str | None, str]) -> None:
    order = list(_SHAPES)

    def group(mark: _Mark) -> tuple[int, str]:
        return order.index(mark.shape), mark.band or ""

    for (number, band), grouped in groupby(sorted(marks, key=group), key=group):
        members = list(grouped)
        shape = _SHAPES[order[number]]
        colour = colours[members[0].band]
        ax.errorbar(
            [mark.mjd for mark in members],
            [mark.value for mark in members],
            yerr=None if shape.marker == "v" else [mark.error for mark in members],
            linestyle="none",
            marker=shape.marker,
            markersize=shape.size,
            color=colour,
            markerfacecolor=colour if shape.filled else "none",
            markeredgewidth=0.9,
            elinewidth=0.9,
            alpha=shape.alpha,
            zorder=2 + 0.1 * number,
            label=plain(f"{band} {shape.legend}".strip()),
        )


def _set_limits(ax: Any, marks: Sequence[_Mark], *, flux: bool, had_data: bool) -> None:
    x = _limits([mark.mjd for mark in marks], [0.0] * len(marks), smallest=0.0)
    y = _limits(
        [mark.value for mark in marks],
        [0.0 if math.isnan(mark.error) else mark.error for mark in marks],
        smallest=0.0 if flux else _SMALLEST_SPAN_MAG,
    )
    for get, put, (low, high) in ((ax.get_xlim, ax.set_xlim, x), (ax.get_ylim, ax.set_ylim, y)):
        before = get() if had_data else (low, high)
        put(min(low, *before), max(high, *before))


def _limits(values: Sequence[float], errors: Sequence[float], *, smallest: float) -> tuple[float, float]:
    # One wild error bar must not squeeze everything else: it counts for no more than their span.
    span = max(values) - min(values)
    reach = max(span, smallest) or max(errors)
    low = min(value - min(error, reach) for value, error in zip(values, errors, strict=True))
    high = max(value + min(error, reach) for value, error in zip(values, errors, strict=True))
    if high - low < smallest or high == low:
        middle, half = (low + high) / 2, smallest / 2 or 0.5
        low, high = middle - half, middle + half
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def _say_empty(ax: Any, text: str) -> None:
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", alpha=0.7, gid=_EMPTY)
    ax.set_xticks([])
    ax.set_yticks([])


def _entries(marks: Sequence[_Mark], colours: dict[str | None, str], noisy: int) -> list[Entry]:
    bands = sorted(colours, key=_by_wavelength)
    entries = [Entry("band unknown" if band is None else band, colours[band]) for band in bands]
    present = {mark.shape for mark in marks}
    for name, shape in reversed(_SHAPES.items()):
        if name in present and name != "detection":
            entries.append(Entry(shape.legend, marker=shape.marker, filled=shape.filled))
    if noisy:
        entries.append(Entry(f"{noisy} forced below {_SIGNIFICANT:.0f}σ not drawn", colour=None))  # noqa: RUF001
    return entries


def _by_wavelength(band: str | None) -> tuple[bool, int, str]:
    known = list(BAND_COLOURS)
    return (band is None, known.index(band) if band in BAND_COLOURS else len(known), band or "")
