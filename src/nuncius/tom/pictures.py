"""Small pictures for pages: a light curve as SVG, the three cutouts as one PNG. Made of numbers alone, nothing is loaded."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

from nuncius.errors import PacketError
from nuncius.plots.style import BAND_COLOURS, NEUTRAL

if TYPE_CHECKING:
    import numpy as np

    from nuncius.alerts.cutouts import Cutout, Cutouts
    from nuncius.alerts.lightcurve import LightCurve, Point

_WIDTH, _HEIGHT, _MARGIN = 160, 48, 5
_MOST_POINTS = 200
_SMALLEST_SPAN_MAG = 0.5

_SIDE, _GAP = 64, 4
PNG_WIDTH = 3 * _SIDE + 2 * _GAP
"""200 pixels, the width of the Toolkit's own thumbnails: others it would draw again, and can't."""

_KINDS = ("science", "template", "difference")
_BACKGROUND, _NO_DATA = 255, 128


def sparkline(curve: LightCurve) -> str:
    """Draw a light curve in magnitudes, as small as a line of text: dots are detections, triangles upper limits.

    Returns
    -------
    str
        An SVG element of numbers and known colours; empty if there is nothing to draw. The newest 200 points are drawn.
    """
    marks = [mark for point in curve if (mark := _mark(point)) is not None][-_MOST_POINTS:]
    if not marks:
        return ""
    times, values = [mark[0] for mark in marks], [mark[1] for mark in marks]
    first, days = min(times), max(times) - min(times)
    if not days:  # what is a single time stands in the middle
        first, days = first - 0.5, 1.0
    bright, span = min(values), max(max(values) - min(values), _SMALLEST_SPAN_MAG)
    middle = (min(values) + max(values) - span) / 2 if span == _SMALLEST_SPAN_MAG else bright
    drawn = []
    for mjd, value, band, is_limit in marks:
        x = _MARGIN + (mjd - first) / days * (_WIDTH - 2 * _MARGIN)
        y = _MARGIN + (value - middle) / span * (_HEIGHT - 2 * _MARGIN)
        colour = BAND_COLOURS.get(band or "", NEUTRAL)
        if is_limit:
            drawn.append(f'<path d="M{x - 2:.1f} {y - 2:.1f}h4l-2 4z" fill="{colour}" opacity="0.45"/>')
        else:
            drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" role="img" aria-label="light curve, {len(marks)} points">{"".join(drawn)}</svg>'
    )


def cutouts_png(cutouts: Cutouts, *, scale: int = 1) -> bytes:
    """Draw science, template and difference image side by side in grey; what is missing stays empty.

    Parameters
    ----------
    cutouts : Cutouts
        The images.
    scale : int
        How many pixels a pixel becomes; with 1 the picture is 200 wide and 64 high.

    Returns
    -------
    bytes
        A PNG file; empty if none of the images can be drawn.
    """
    import numpy as np

    canvas = np.full((_SIDE, PNG_WIDTH), _BACKGROUND, dtype=np.uint8)
    is_empty = True
    for number, kind in enumerate(_KINDS):
        cutout = getattr(cutouts, kind)
        panel = None if cutout is None else _panel(cutout)
        if panel is not None:
            begin = number * (_SIDE + _GAP)
            canvas[:, begin : begin + _SIDE] = panel
            is_empty = False
    return b"" if is_empty else _png(canvas.repeat(scale, axis=0).repeat(scale, axis=1))


def _mark(point: Point) -> tuple[float, float, str | None, bool] | None:
    if point.mjd is None or point.kind == "forced":
        return None
    is_limit = point.kind == "limit"
    value = point.limiting_mag if is_limit else point.mag
    return None if value is None else (point.mjd, value, point.band, is_limit)


def _panel(cutout: Cutout) -> np.ndarray[Any, Any] | None:
    """Return an image as grey values, as large as a panel, the first row of the file at the bottom."""
    import numpy as np

    from nuncius.plots.images import stretch

    try:
        data = cutout.data
    except PacketError:  # shown as missing; its alert has been judged when it came
        return None
    if not data.size:
        return None
    low, high = stretch(data)
    rows, columns = ((np.arange(_SIDE) * size // _SIDE) for size in data.shape)
    taken = np.asarray(data, dtype=float)[::-1][np.ix_(rows, columns)]
    with np.errstate(all="ignore"):
        grey = np.clip((taken - low) / (high - low), 0, 1) * 255
    return np.where(np.isfinite(taken), grey, _NO_DATA).astype(np.uint8)


def _png(grey: np.ndarray[Any, Any]) -> bytes:
    """Write a grey image as PNG (ISO/IEC 15948)."""
    height, width = grey.shape
    rows = b"".join(b"\x00" + row.tobytes() for row in grey)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
