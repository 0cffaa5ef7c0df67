"""The small pictures of the TOM's results."""

import io
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest
from astropy.io import fits

from nuncius.alerts.cutouts import Cutout, Cutouts
from nuncius.alerts.lightcurve import LightCurve, Point
from nuncius.tom.pictures import PNG_WIDTH, cutouts_png, sparkline


def image(data):
    out = io.BytesIO()
    fits.PrimaryHDU(np.asarray(data, dtype=np.float32)).writeto(out)
    return out.getvalue()


def pixels(png):
    """Read a grey PNG without interlace and filters."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    at, data = 8, b""
    while at < len(png):
        size, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + size]
        assert int.from_bytes(png[at + 8 + size : at + 12 + size], "big") == zlib.crc32(kind + body)
        data += body if kind == b"IDAT" else b""
        at += 12 + size
    rows = np.frombuffer(zlib.decompress(data), dtype=np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:]


def test_a_light_curve_has_a_mark_for_each_point_and_no_more_than_numbers():
    points = [Point("detection", 60000.0 + n, "r", mag=18.0 + n / 10) for n in range(5)]
    points.append(Point("limit", 59999.0, "g", limiting_mag=20.5))
    points.append(Point("forced", 60000.5, "g", mag=19.0))
    svg = ET.fromstring(sparkline(LightCurve(points)))
    assert [child.tag.rpartition("}")[2] for child in svg] == ["path", *["circle"] * 5]
    heights = [float(child.get("cy")) for child in svg if child.get("cy")]
    assert heights == sorted(heights)  # fainter is lower
    for child in svg:
        assert 0 <= float(child.get("cy", 1)) <= float(svg.get("height"))


def test_a_band_of_strangers_can_not_write_into_the_page():
    svg = sparkline(LightCurve([Point("detection", 60000.0, '"><script>', mag=18.0)]))
    assert "script" not in svg
    assert ET.fromstring(svg).get("width") == "160"


def test_nothing_to_draw_is_no_picture():
    assert sparkline(LightCurve()) == ""
    assert sparkline(LightCurve([Point("detection", None, "r", mag=18.0)])) == ""
    assert cutouts_png(Cutouts()) == b""
    assert cutouts_png(Cutouts(science=Cutout("science", b"no FITS file"))) == b""


def test_very_long_light_curves_are_drawn_by_their_newest_points():
    curve = LightCurve(Point("detection", 60000.0 + n, "r", mag=18.0) for n in range(1000))
    assert sparkline(curve).count("<circle") == 200


@pytest.mark.parametrize("shape", [(63, 63), (30, 45), (1, 1), (301, 7)])
def test_three_images_beside_each_other(shape):
    data = np.arange(np.prod(shape), dtype=float).reshape(shape)
    one = image(data)
    drawn = pixels(cutouts_png(Cutouts(Cutout("science", one), None, Cutout("difference", one))))
    assert drawn.shape == (64, PNG_WIDTH) == (64, 200)
    assert (drawn[:, 64:136] == 255).all()  # the gaps, and the image that is missing
    assert (drawn[:, :64] == drawn[:, 136:]).all()


def test_the_first_row_is_at_the_bottom_and_what_is_no_number_is_grey():
    data = np.zeros((64, 64))
    data[0] = 100.0
    data[63] = np.nan
    drawn = pixels(cutouts_png(Cutouts(Cutout("science", image(data)))))
    assert (drawn[63, :64] == 255).all()
    assert (drawn[0, :64] == 128).all()


def test_a_larger_picture_is_the_same_picture():
    cutouts = Cutouts(Cutout("science", image(np.random.default_rng(1).normal(size=(63, 63)))))
    assert (pixels(cutouts_png(cutouts, scale=3))[::3, ::3] == pixels(cutouts_png(cutouts))).all()
