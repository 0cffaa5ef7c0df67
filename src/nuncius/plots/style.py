"""What all plots share: colours, legends, and how matplotlib is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Every colour below stands out from white and from a dark page (contrast 3:1 or more), and the bands that one survey
# has together stay apart for readers who don't see red or green (CIE76 distance of 19 or more in the simulations of
# Machado et al. 2009).
BAND_COLOURS = {"u": "#8054df", "g": "#1b7c78", "r": "#c72e30", "i": "#c9770c", "z": "#d966be", "y": "#ae876c",
                "Y": "#4ca608", "J": "#286ec9", "H": "#a65029", "K": "#cb2b85"}  # fmt: skip
CATEGORY_COLOURS = ("#286ec9", "#c9770c", "#1b7c78", "#cb2b85", "#8054df", "#4ca608", "#a65029")
NEUTRAL = "#7b828c"

_LONGEST_LABEL = 32


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a legend.

    Parameters
    ----------
    label : str
        As it came; it may be text of strangers.
    colour : str, optional
        Hexadecimal; without one the entry is text alone.
    marker : {"o", "v", "D", "-"}
        A circle, a triangle that points down, a diamond, or a line.
    filled : bool
        Whether the marker is filled.
    """

    label: str
    colour: str | None = NEUTRAL
    marker: str = "o"
    filled: bool = True


def axes_or_new(ax: Any, **projection: str) -> Any:
    """Return the axes given, or those of a new figure, which a notebook shows."""
    if ax is not None:
        return ax
    pyplot = require("matplotlib.pyplot", extra="plots")
    _, made = pyplot.subplots(layout="constrained", subplot_kw=projection)
    return made


def draw_legend(ax: Any, entries: Sequence[Entry], **placing: Any) -> None:
    """Give the axes a legend of these entries; none if there are none."""
    if not entries:
        return
    line = require("matplotlib.lines", extra="plots").Line2D
    handles = [
        line(
            [],
            [],
            linestyle="-" if entry.marker == "-" else "none",
            marker="none" if entry.marker == "-" or entry.colour is None else entry.marker,
            color=entry.colour or NEUTRAL,
            markerfacecolor=(entry.colour if entry.filled else "none") or "none",
            markersize=5.5,
        )
        for entry in entries
    ]
    ax.legend(handles, [plain(entry.label) for entry in entries], fontsize="small", **placing)


def band_colours(bands: Iterable[str | None]) -> dict[str | None, str]:
    """Give each band its colour: the fixed one, else one by its place among the unknown ones."""
    names = set(bands)
    unknown = sorted(band for band in names if band is not None and band not in BAND_COLOURS)
    others = {band: CATEGORY_COLOURS[number % len(CATEGORY_COLOURS)] for number, band in enumerate(unknown)}
    return {band: NEUTRAL if band is None else BAND_COLOURS.get(band) or others[band] for band in names}


def plain(text: str) -> str:
    """Make text of strangers harmless as a label of matplotlib."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    if len(shown) > _LONGEST_LABEL:
        shown = shown[: _LONGEST_LABEL - 1] + "…"
    # A pair of dollars would be read as a formula, and a label that begins with an underscore is left out.
    shown = shown.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
