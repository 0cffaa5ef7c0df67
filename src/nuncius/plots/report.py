"""The report of a night: what happened, where, and what the most interesting objects look like."""

from __future__ import annotations

import base64
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius._core.files import write_durably
from nuncius._core.lazy import require
from nuncius.errors import PacketError, StorageError
from nuncius.plots import images, page
from nuncius.plots.light_curves import draw_light_curve
from nuncius.plots.sky_map import draw_categories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuncius.alerts.cutouts import Cutout, Cutouts
    from nuncius.alerts.lightcurve import LightCurve

# A colour that no plot uses: in the page it becomes the colour of the text around, light or dark.
_INK = "#010203"
_FONT_POINTS = 9
_PIXELS_PER_INCH = 200  # of what is drawn as pixels within a vector image: maps of very many alerts


@dataclass(frozen=True, slots=True)
class NightObject:
    """One object of the report of a night.

    Parameters
    ----------
    name : str
        Its name.
    heading : str
        One line on why it is here.
    light_curve : LightCurve
        What is drawn.
    cutouts : Cutouts or None
        The images of one of its alerts.
    facts : sequence of (str, str)
        Names and values for the table.
    """

    name: str
    heading: str
    light_curve: LightCurve
    cutouts: Cutouts | None
    facts: Sequence[tuple[str, str]] = ()


def write_night_report(
    path: str | Path,
    *,
    title: str,
    summary: Sequence[tuple[str, str]],
    positions: Sequence[tuple[float, float, str]],
    objects: Sequence[NightObject],
) -> Path:
    """Write the report of a night as one HTML file, which loads nothing, runs nothing and can be sent to anybody.

    Parameters
    ----------
    path : str or Path
        The file; one that exists is replaced at once when the new one is whole.
    title : str
        The heading.
    summary : sequence of (str, str)
        Names and values of the night's numbers, such as ``("alerts", "1,204")``.
    positions : sequence of (float, float, str)
        ICRS right ascension and declination in degrees and a category, for the map of the sky.
    objects : sequence of NightObject
        One card each, in this order. A cutout that can't be read is shown as such.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    StorageError
        If the file can't be written.

    Examples
    --------
    >>> write_night_report("night.html", title="2024 March 11", summary=[("alerts", "12")], positions=[],
    ...                    objects=[])  # doctest: +SKIP
    PosixPath('night.html')
    """
    from importlib.metadata import version

    cards = "\n".join(_object_card(number, item) for number, item in enumerate(objects, 1))
    body = f"""<header><h1>{page.text(title)}</h1>
{page.numbers(summary)}
</header>
<main>
{_sky_card(positions)}
{page.jump_list([item.name for item in objects])}
{cards}
</main>"""
    whole = page.whole_page(title, body, made_with=f"Made with nuncius {version('nuncius')}")
    target = Path(path)
    # A lone surrogate, which JSON can carry, has no bytes in UTF-8.
    _replace(target, whole.encode("utf-8", "replace"))
    return target


def _sky_card(positions: Sequence[tuple[float, float, str]]) -> str:
    if not positions:
        return ""
    figure, ax = _figure(4.8, 2.6, projection="mollweide")
    entries = draw_categories(ax, positions)
    drawing = _inline_svg(figure, f"Map of the sky with {len(positions)} positions", "sky-")
    return f'<section class="card sky"><h2>Sky</h2><figure>{drawing}{page.legend_list(entries)}</figure></section>'


def _object_card(number: int, item: NightObject) -> str:
    figure, ax = _figure(4.8, 2.9)
    entries = draw_light_curve(item.light_curve, ax, flux=False)
    ax.spines[["top", "right"]].set_visible(False)
    drawing = _inline_svg(figure, f"Light curve of {item.name}", f"o{number}-")
    pictures = "" if item.cutouts is None else f'<div class="cutouts">{_pictures(item.cutouts)}</div>'
    heading = f"<p>{page.text(item.heading)}</p>" if item.heading else ""
    return f"""<section class="card" id="object-{number}"><h2>{page.text(item.name)}</h2>{heading}
<div class="object"><figure>{page.legend_list(entries)}{drawing}</figure>
<div>{pictures}{page.facts_table(item.facts)}</div></div></section>"""


def _pictures(cutouts: Cutouts) -> str:
    return "".join(_picture(kind, getattr(cutouts, kind)) for kind in images.KINDS)


def _picture(kind: str, cutout: Cutout | None) -> str:
    if cutout is None:
        return page.no_image("none", kind)
    try:
        data = cutout.data
    except PacketError:
        return page.no_image("not readable", kind)
    low, high = images.stretch(data)
    png = io.BytesIO()
    save = require("matplotlib.image", extra="plots").imsave
    save(png, data, vmin=low, vmax=high, cmap=images.greys(), origin="lower", format="png")
    return page.image(base64.b64encode(png.getvalue()).decode("ascii"), kind)


def _figure(width_inch: float, height_inch: float, **projection: str) -> tuple[Any, Any]:
    # Neither pyplot nor rcParams: both belong to the whole process, and a report may be written in a thread of it.
    figure = require("matplotlib.figure", extra="plots").Figure(
        (width_inch, height_inch), layout="constrained"
    )
    require("matplotlib.backends.backend_agg", extra="plots").FigureCanvasAgg(figure)
    return figure, figure.add_subplot(**projection)


def _inline_svg(figure: Any, name: str, prefix: str) -> str:
    """Return a figure as an SVG element in the colours of the page."""
    text = require("matplotlib.text", extra="plots").Text
    for ax in figure.axes:
        ax.set_facecolor("none")
        ax.tick_params(which="both", color=_INK, labelcolor=_INK, labelsize=_FONT_POINTS, grid_color=_INK)
        for spine in ax.spines.values():
            spine.set_edgecolor(_INK)
            spine.set_alpha(0.5)
    for label in figure.findobj(text):
        label.set_color(_INK)
        label.set_fontsize(_FONT_POINTS)
    with io.StringIO() as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", facecolor="none", dpi=_PIXELS_PER_INCH, metadata=nothing)
        drawn = file.getvalue()
    view_box = re.search(r'viewBox="([^"]+)"', drawn)
    assert view_box is not None
    inner = drawn[drawn.index(">", drawn.index("<svg")) + 1 : drawn.rindex("</svg>")]
    inner = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", inner, flags=re.DOTALL).replace(
        _INK, "currentColor"
    )
    # The names of elements must be unique in the page, not only in one drawing.
    inner = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{prefix}", inner)
    return f'<svg role="img" aria-label="{page.text(name)}" viewBox="{view_box[1]}">{inner}</svg>'


def _replace(target: Path, data: bytes) -> None:
    try:
        write_durably(target, data)
    except OSError as error:
        raise StorageError(
            f"the report {target} can't be written: {error.strerror}; give a path in a folder that exists and is yours",
            position=str(target),
        ) from error
