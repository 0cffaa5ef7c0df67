"""What is drawn: light curves, cutouts, sky maps and the report of a night."""

import base64
import io
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from nuncius.alerts import Cutout, Cutouts, LightCurve, Point, read_packets
from nuncius.errors import ConfigurationError, MissingExtraError, PacketError, StorageError

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra 'plots')")
matplotlib.use("agg")

from matplotlib import pyplot as plt  # noqa: E402

from nuncius import plots  # noqa: E402
from nuncius.plots.style import BAND_COLOURS, CATEGORY_COLOURS, NEUTRAL, band_colours  # noqa: E402

PACKETS = os.environ.get("NUNCIUS_PACKETS")
needs_packets = pytest.mark.skipif(
    not PACKETS, reason="NUNCIUS_PACKETS names no folder with packets of surveys"
)

CURVE = LightCurve(
    [
        Point(
            "detection",
            60000.2,
            "r",
            mag=18.1,
            mag_err=0.05,
            flux_njy=2e5,
            flux_err_njy=9e3,
            is_positive=True,
        ),
        Point("detection", 60001.2, "r", mag=18.3, mag_err=None, flux_njy=1.7e5, is_positive=True),
        Point(
            "detection",
            60002.2,
            "g",
            mag=19.0,
            mag_err=0.1,
            flux_njy=-9e4,
            flux_err_njy=8e3,
            is_positive=False,
        ),
        Point("detection", 60003.2, "g", mag=None),
        Point("detection", None, "g", mag=18.0),
        Point("detection", 60003.4, "g", mag=math.nan),
        Point("limit", 59999.2, "g", limiting_mag=20.5),
        Point("limit", 59998.2, "r", limiting_mag=20.1),
        Point("limit", 59997.2, "r"),
        Point(
            "forced",
            60000.3,
            "r",
            mag=18.2,
            mag_err=0.1,
            flux_njy=1.9e5,
            flux_err_njy=1.8e4,
            is_positive=True,
        ),
        Point(
            "forced", 60000.4, "r", mag=24.0, mag_err=9.0, flux_njy=900.0, flux_err_njy=8e3, is_positive=True
        ),
    ]
)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def fits(data):
    from astropy.io import fits as astropy_fits

    file = io.BytesIO()
    astropy_fits.PrimaryHDU(np.asarray(data, dtype="float32")).writeto(file)
    return file.getvalue()


def gaussian(n=21):
    y, x = np.mgrid[:n, :n]
    noise = np.random.default_rng(7).normal(0, 1, (n, n))
    return 100 * np.exp(-((x - n // 2) ** 2 + (y - n // 2) ** 2) / 8) + noise


def drawn(ax):
    """Points by label: (marker, whether filled, colour, x, y)."""
    found = {}
    for container in ax.containers:
        line = container.lines[0]
        filled = line.get_markerfacecolor() != "none"
        found[container.get_label()] = (
            line.get_marker(),
            filled,
            line.get_color(),
            list(line.get_xdata()),
            list(line.get_ydata()),
        )
    return found


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Light curves -----------------------------------------------------------------------------------------------------


def test_each_kind_of_point_has_its_shape_and_each_band_its_colour():
    ax = CURVE.plot()
    assert drawn(ax) == {
        "r detection": ("o", True, BAND_COLOURS["r"], [60000.2, 60001.2], [18.1, 18.3]),
        "g fainter than template": ("D", True, BAND_COLOURS["g"], [60002.2], [19.0]),
        "g 5σ limit": ("v", True, BAND_COLOURS["g"], [59999.2], [20.5]),  # noqa: RUF001
        "r 5σ limit": ("v", True, BAND_COLOURS["r"], [59998.2], [20.1]),  # noqa: RUF001
        "r forced photometry": ("o", False, BAND_COLOURS["r"], [60000.3], [18.2]),
    }
    assert legend_of(ax) == [
        "g",
        "r",
        "fainter than template",
        "forced photometry",
        "5σ limit",  # noqa: RUF001
        "1 forced below 3σ not drawn",  # noqa: RUF001
    ]
    detection, forced = (
        next(c.lines[0] for c in ax.containers if c.get_label() == f"r {kind}")
        for kind in ("detection", "forced photometry")
    )
    assert forced.get_markersize() < detection.get_markersize()


def test_magnitudes_are_brighter_upwards_and_axes_carry_units():
    ax = plots.plot_light_curve(CURVE)
    bottom, top = ax.get_ylim()
    assert bottom > 20.5
    assert top < 18.1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("MJD (UTC)", "difference magnitude")
    left, right = ax.get_xlim()
    assert left < 59998.2
    assert 60002.2 < right < 60010
    ax.figure.canvas.draw()
    assert all(re.fullmatch(r"\d{5}(\.\d+)?", tick.get_text()) for tick in ax.get_xticklabels())


def test_error_bars_are_one_sigma_long_and_absent_where_unknown():
    container = next(c for c in plots.plot_light_curve(CURVE).containers if c.get_label() == "r detection")
    first, second = container.lines[2][0].get_segments()
    assert first[:, 1] == pytest.approx([18.05, 18.15])
    assert not second.size or not np.isfinite(second).all()  # left out, or without an end


def test_fluxes_keep_their_sign_and_all_forced_points():
    ax = plots.plot_light_curve(CURVE, flux=True)
    points = drawn(ax)
    assert {label: y for label, (*_, y) in points.items()} == {
        "r detection": [2e5, 1.7e5],
        "g detection": [-9e4],
        "r forced photometry": [1.9e5, 900.0],
    }
    assert ax.get_ylabel() == "difference flux (nJy)"
    assert not ax.yaxis_inverted()
    bottom, top = ax.get_ylim()
    assert bottom < -9e4 < 2e5 < top


@pytest.mark.parametrize("flux", [False, True])
@pytest.mark.parametrize("curve", [LightCurve(), LightCurve([Point("detection", 60000.0, "r")])])
def test_a_curve_without_values_says_so(curve, flux):
    ax = plots.plot_light_curve(curve, flux=flux)
    assert [text.get_text() for text in ax.texts] == [
        "no fluxes to draw" if flux else "no magnitudes to draw"
    ]
    assert not ax.containers
    assert ax.get_legend() is None


def test_one_point_gets_a_day_and_half_a_magnitude_around_it():
    ax = plots.plot_light_curve(LightCurve([Point("detection", 60000.0, "r", mag=18.0, mag_err=0.01)]))
    assert 0.5 <= abs(np.diff(ax.get_ylim())[0]) < 1
    assert 1 <= np.diff(ax.get_xlim())[0] < 2


def test_a_wild_error_bar_does_not_squeeze_the_others():
    points = [Point("detection", 60000.0 + n, "r", mag=18.0 + n / 10, mag_err=0.05) for n in range(6)]
    ax = plots.plot_light_curve(
        LightCurve([*points, Point("detection", 60007.0, "r", mag=18.2, mag_err=40.0)])
    )
    assert abs(np.diff(ax.get_ylim())[0]) < 2


def test_a_second_curve_in_the_same_axes_keeps_the_first_in_view_and_the_axis_inverted():
    _, ax = plt.subplots()
    assert plots.plot_light_curve(CURVE, ax=ax) is ax
    plots.plot_light_curve(LightCurve([Point("detection", 60100.0, "K", mag=12.0)]), ax=ax)
    assert ax.get_ylim()[0] > 20.5
    assert ax.get_ylim()[1] < 12.0
    assert ax.get_xlim()[0] < 59998.2
    assert ax.get_xlim()[1] > 60100


def test_a_curve_drawn_after_an_empty_one_replaces_its_note_and_gets_ticks():
    ax = plots.plot_light_curve(LightCurve())
    plots.plot_light_curve(CURVE, ax=ax)
    assert not ax.texts
    assert len(ax.get_xticks()) > 2
    assert len(ax.get_yticks()) > 2


def test_ticks_that_a_caller_has_set_up_are_kept():
    _, ax = plt.subplots()
    ax.xaxis.set_major_locator(matplotlib.ticker.FixedLocator([59999, 60001]))
    ax.xaxis.set_major_formatter(lambda x, _: f"day {x:.0f}")
    plots.plot_light_curve(CURVE, ax=ax)
    ax.figure.canvas.draw()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["day 59999", "day 60001"]


@pytest.mark.parametrize("band", ["$x^{$", "_hidden", "a\nb", r"\frac", "x" * 500])
def test_a_band_named_by_strangers_is_plain_text(band):
    ax = plots.plot_light_curve(LightCurve([Point("detection", 60000.0, band, mag=18.0)]))
    ax.figure.canvas.draw()  # a formula would fail here
    (label,) = legend_of(ax)
    assert len(label) <= 40
    assert "\n" not in label


def test_unknown_bands_differ_and_a_missing_one_is_grey():
    colours = band_colours(["VR", "UVW1", None, "g"])
    assert colours["g"] == BAND_COLOURS["g"]
    assert colours["VR"] != colours["UVW1"]
    assert colours[None] == NEUTRAL


@pytest.mark.parametrize("page", ["#ffffff", "#171c23"])
@pytest.mark.parametrize("colour", sorted({*BAND_COLOURS.values(), *CATEGORY_COLOURS, NEUTRAL}))
def test_colours_stand_out_on_light_and_on_dark_pages(colour, page):
    def luminance(hexadecimal):
        channels = np.array(matplotlib.colors.to_rgb(hexadecimal))
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    darker, lighter = sorted([luminance(colour), luminance(page)])
    assert (lighter + 0.05) / (darker + 0.05) >= 3


# Cutouts ----------------------------------------------------------------------------------------------------------


def test_a_cutout_is_drawn_as_it_lies_in_its_file():
    data = gaussian()
    ax = Cutout("science", fits(data)).plot()
    (image,) = ax.images
    assert image.origin == "lower"
    np.testing.assert_array_equal(image.get_array(), data.astype("float32"))
    assert ax.get_title() == "science"
    assert not len(ax.get_xticks())
    assert not len(ax.get_yticks())
    low, high = image.get_clim()
    assert data.min() <= low < np.median(data) < high <= data.max()


@pytest.mark.parametrize(
    "data",
    [
        np.full((5, 5), np.nan),
        np.full((5, 5), 3.0),
        np.full((5, 5), 1e30),
        np.zeros((1, 1)),
        np.where(np.eye(9) > 0, np.inf, gaussian(9)),
    ],
    ids=["nan", "constant", "huge", "one pixel", "infinite"],
)
def test_the_stretch_is_finite_and_increasing_whatever_the_image(data):
    (image,) = plots.plot_cutout(Cutout("difference", fits(data))).images
    low, high = image.get_clim()
    assert math.isfinite(low)
    assert math.isfinite(high)
    assert low < high


def test_pixels_without_data_have_a_colour_that_is_no_grey():
    data = gaussian()
    data[0, 0] = np.nan
    (image,) = plots.plot_cutout(Cutout("science", fits(data))).images
    red, green, blue, alpha = image.cmap(image.norm(image.get_array()))[0, 0]
    assert blue > green > red
    assert alpha == 1


def test_three_cutouts_keep_their_places_when_one_is_missing():
    axes = Cutouts(
        science=Cutout("science", fits(gaussian())), difference=Cutout("difference", fits(gaussian()))
    ).plot()
    assert [ax.get_title() for ax in axes] == ["science", "template", "difference"]
    assert [len(ax.images) for ax in axes] == [1, 0, 1]
    assert [text.get_text() for text in axes[1].texts] == ["none"]


def test_cutouts_go_into_the_axes_given_which_must_be_three():
    _, given = plt.subplots(3, 1)
    cutouts = Cutouts(template=Cutout("template", fits(gaussian())))
    assert list(plots.plot_cutouts(cutouts, axes=given)) == list(given)
    assert len(given[1].images) == 1
    with pytest.raises(ConfigurationError, match="2 were given"):
        plots.plot_cutouts(cutouts, axes=given[:2])


def test_a_damaged_cutout_raises_before_a_figure_is_made():
    with pytest.raises(PacketError, match="science cutout"):
        plots.plot_cutout(Cutout("science", b"no FITS"))
    assert plt.get_fignums() == []


# Sky maps ---------------------------------------------------------------------------------------------------------


def positions_of(ax):
    return {item.get_label(): np.degrees(np.asarray(item.get_offsets())) for item in ax.collections}


def test_right_ascension_increases_to_the_left():
    ax = plots.plot_sky([200.0, 180.0, 170.0], [10.0, 0.0, -20.0])
    assert ax.name == "mollweide"
    (points,) = positions_of(ax).values()
    np.testing.assert_allclose(points, [[-20, 10], [0, 0], [10, -20]], atol=1e-9)


@pytest.mark.parametrize(
    ("center", "labels"),
    [(180.0, ["300°", "240°", "180°", "120°", "60°"]), (0.0, ["120°", "60°", "0°", "300°", "240°"])],
)
def test_the_grid_is_labelled_in_degrees(center, labels):
    ax = plots.plot_sky([], [], center_ra_deg=center, projection="aitoff")
    ax.figure.canvas.draw()
    assert ax.name == "aitoff"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == labels
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [
        "\N{MINUS SIGN}60°",
        "\N{MINUS SIGN}30°",
        "0°",
        "+30°",
        "+60°",
    ]


def test_the_galactic_plane_passes_the_galactic_center_without_a_jump():
    (line,) = plots.plot_sky([], []).lines
    x, y = np.degrees(line.get_xdata()), np.degrees(line.get_ydata())
    ra = (180 - x) % 360
    near = np.argmin(np.hypot(ra - 266.40, y + 28.94))  # Sgr A*, l = b = 0 to 0.05 deg
    assert np.hypot(ra[near] - 266.40, y[near] + 28.94) < 0.1
    assert (np.diff(x) >= 0).all()
    assert np.abs(y).max() == pytest.approx(62.87, abs=0.02)  # the inclination to the equator
    assert line.get_linewidth() < 1


def test_categories_are_counted_and_coloured_the_largest_first():
    ax = plots.plot_sky(
        [1, 2, 3, 4, 5], [0, 0, 0, 0, math.nan], values=["SN", "AGN", "SN", None, "AGN"], label="class"
    )
    points = positions_of(ax)
    assert {name: len(where) for name, where in points.items()} == {"SN": 2, "AGN": 1, "unknown": 1}
    assert legend_of(ax) == ["SN (2)", "AGN (1)", "unknown (1)", "galactic plane"]
    assert ax.get_legend().get_title().get_text() == "class"
    colours = [matplotlib.colors.to_hex(item.get_facecolor()[0]) for item in ax.collections]
    assert colours == [*CATEGORY_COLOURS[:2], NEUTRAL]


def test_rare_categories_are_shown_as_one():
    names = [name for number, name in enumerate("abcdefghij") for _ in range(20 - number)]
    ax = plots.plot_sky(np.arange(len(names)), np.zeros(len(names)), values=names)
    assert legend_of(ax)[-2:] == ["3 others (36)", "galactic plane"]
    assert sum(len(where) for where in positions_of(ax).values()) == len(names)


def test_numbers_get_a_colour_bar_and_unknown_ones_are_grey():
    values = np.ma.masked_array([1.5, 2.5, 9.0, math.nan], mask=[False, False, True, False])
    ax = plots.plot_sky([10, 20, 30, 40], [0, 0, 0, 0], values=values, label="score")
    unknown, known = ax.collections
    assert list(known.get_array()) == [1.5, 2.5]
    assert len(unknown.get_offsets()) == 2
    (bar,) = [other for other in ax.figure.axes if other is not ax]
    assert bar.get_xlabel() == "score"
    assert ax.get_legend() is None


def test_quantities_and_masked_positions():
    from astropy import units

    ax = plots.plot_sky(
        [12.0, math.inf] * units.hourangle, np.ma.masked_array([1.0, 2.0], mask=[False, True])
    )
    (points,) = positions_of(ax).values()
    assert points[0] == pytest.approx([0, 1])
    assert not np.isfinite(points[1]).all()


def test_a_map_that_means_nothing_is_refused():
    with pytest.raises(ConfigurationError, match="same length"):
        plots.plot_sky([1, 2], [1])
    with pytest.raises(ConfigurationError, match="same length"):
        plots.plot_sky([1], [1], values=["a", "b"])
    with pytest.raises(ConfigurationError, match="beyond a pole"):
        plots.plot_sky([1], [200])
    with pytest.raises(ConfigurationError, match="mercator"):
        plots.plot_sky([1], [1], projection="mercator")
    _, ax = plt.subplots()
    with pytest.raises(ConfigurationError, match="rectilinear"):
        plots.plot_sky([1], [1], ax=ax)


# The report -------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.attributes = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)

    def values(self, *names):
        return [value for name, value in self.attributes if name in names]


def night(path, **changes):
    options = {
        "title": "Night of 2024 March 11",
        "summary": [("alerts", "1,204"), ("objects", "87")],
        "positions": [(10.0, -5.0, "ztf"), (200.0, 40.0, "lsst"), (201.0, 40.0, "lsst")],
        "objects": [
            plots.NightObject(
                "ZTF24aaa",
                "rising",
                CURVE,
                Cutouts(Cutout("science", fits(gaussian()))),
                [("class", "SN Ia")],
            ),
            plots.NightObject("ZTF24bbb", "fading", LightCurve(), None, []),
        ],
    }
    return plots.write_night_report(path, **(options | changes))


def test_a_report_shows_numbers_map_and_one_card_for_each_object(tmp_path):
    data = gaussian()
    data[0, 0] = 200  # the first pixel of the file belongs at the bottom left
    first = plots.NightObject(
        "ZTF24aaa", "rising", CURVE, Cutouts(Cutout("science", fits(data))), [("class", "SN Ia")]
    )
    second = plots.NightObject("ZTF24bbb", "fading", LightCurve(), None)
    path = night(tmp_path / "night.html", objects=[first, second])
    assert path == tmp_path / "night.html"
    page = Page(path.read_text("utf-8"))
    for word in (
        "Night of 2024 March 11",
        "1,204",
        "alerts",
        "ZTF24aaa",
        "rising",
        "SN Ia",
        "lsst (2)",
        "ztf (1)",
        "ZTF24bbb",
    ):
        assert word in page.words
    assert page.tags.count("section") == 3
    assert {"object-1", "object-2"} <= set(page.values("id"))
    assert page.words.count("none") == 2  # template and difference of the first object
    labels = page.values("aria-label")
    assert "Map of the sky with 3 positions" in labels
    assert "Light curve of ZTF24aaa" in labels
    assert page.tags.count("img") == 1
    (picture,) = page.values("src")
    png = matplotlib.image.imread(
        io.BytesIO(base64.b64decode(picture.removeprefix("data:image/png;base64,")))
    )
    assert png.shape[:2] == (21, 21)
    assert png[10, 10, 0] > 0.9
    assert png[-1, 0, 0] == 1
    assert png[0, 0, 0] < 0.5


def test_a_report_draws_every_point_of_the_light_curve(tmp_path):
    text = night(tmp_path / "night.html", positions=[]).read_text("utf-8")
    drawing = text[text.index('id="object-1"') : text.index('id="object-2"')]
    for colour, points in ((BAND_COLOURS["r"], 2 + 1 + 1), (BAND_COLOURS["g"], 1 + 1)):
        assert len(re.findall(rf"<use [^>]*{colour}", drawing)) == points


def test_a_report_loads_and_runs_nothing(tmp_path):
    text = night(tmp_path / "night.html").read_text("utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    places = page.values("src", "href", "xlink:href", "srcset", "action", "poster", "data")
    assert places
    assert all(place.startswith(("#", "data:image/png;base64,")) for place in places)
    assert not re.search(r"https?:|//[\w.-]+\.\w|@import|url\((?!#)", text)
    assert "default-src 'none'" in text
    assert "width=device-width" in text
    assert "prefers-color-scheme: dark" in text


def test_the_names_of_elements_are_unique_and_every_reference_has_its_target(tmp_path):
    page = Page(night(tmp_path / "night.html").read_text("utf-8"))
    names = page.values("id")
    assert len(names) == len(set(names))
    assert {place[1:] for place in page.values("href", "xlink:href") if place.startswith("#")} <= set(names)


def test_the_drawings_take_the_colours_of_the_page(tmp_path):
    text = night(tmp_path / "night.html").read_text("utf-8")
    drawings = "".join(re.findall(r'<svg role="img".*?</svg>', text, flags=re.DOTALL))
    assert "currentColor" in drawings
    assert not re.search(r"#0{6}|#f{6}|#010203", drawings, flags=re.IGNORECASE)


EVIL = "</td></svg><script>alert('1')</script><img src=x onerror=\"alert(2)\">--> $\\frac{"


def test_text_of_strangers_stays_text(tmp_path):
    curve = LightCurve(
        [Point("detection", 60000.0, EVIL, mag=18.0), Point("limit", 60000.0, "\ud800", limiting_mag=20.0)]
    )
    item = plots.NightObject(EVIL, EVIL, curve, Cutouts(Cutout("science", b"junk")), [(EVIL, EVIL)])
    path = night(
        tmp_path / "n.html",
        title=EVIL,
        summary=[(EVIL, EVIL)],
        positions=[(1.0, 1.0, EVIL)],
        objects=[item, item],
    )
    page = Page(path.read_text("utf-8"))
    harmless = Page(night(tmp_path / "harmless.html").read_text("utf-8"))
    assert set(page.tags) <= set(harmless.tags)
    assert not any(name.startswith("on") for name, _ in page.attributes)
    # title and h1; name and value of the summary; links; name, heading and facts of the cards; band
    assert page.words.count(EVIL) == 2 + 2 + 2 + 2 * (2 + 2 + 1)
    assert f"{EVIL} (1)" in page.words
    assert page.words.count("not readable") == 2


def test_a_report_without_anything_is_a_page_with_its_title(tmp_path):
    page = Page(night(tmp_path / "n.html", summary=[], positions=[], objects=[]).read_text("utf-8"))
    assert page.words.count("Night of 2024 March 11") == 2
    assert not {"section", "svg", "dl"} & set(page.tags)


def test_very_many_positions_do_not_make_a_very_large_page(tmp_path):
    rng = np.random.default_rng(1)
    positions = [
        (float(ra), float(dec), "ztf")
        for ra, dec in zip(rng.uniform(0, 360, 20_000), rng.uniform(-80, 80, 20_000), strict=True)
    ]
    path = night(tmp_path / "n.html", positions=positions, objects=[])
    assert "ztf (20000)" in path.read_text("utf-8")
    assert path.stat().st_size < 1_000_000


def test_a_report_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "night.html"
    path.write_text("yesterday")

    def fail(_self, _target):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(StorageError, match="No space left"):
            night(path, objects=[])
    assert path.read_text() == "yesterday"
    assert list(tmp_path.iterdir()) == [path]
    night(path, objects=[])
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_into_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        night(tmp_path / "nowhere" / "night.html", objects=[])


def test_a_report_touches_neither_pyplot_nor_the_settings_of_matplotlib(tmp_path):
    script = """
import sys
from nuncius.alerts import LightCurve, Point
from nuncius.plots import NightObject, write_night_report
assert "matplotlib" not in sys.modules and "numpy" not in sys.modules, "loaded at import"
import matplotlib
before = dict(matplotlib.rcParams)
curve = LightCurve([Point("detection", 60000.0, "r", mag=18.0)])
write_night_report(sys.argv[1], title="t", summary=[], positions=[(1.0, 2.0, "a")],
                   objects=[NightObject("n", "h", curve, None, [])])
assert dict(matplotlib.rcParams) == before
assert "matplotlib.pyplot" not in sys.modules
"""
    # With the backend named, looking at the settings doesn't choose one, which would load plt.
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "n.html")],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "n.html").exists()


@pytest.mark.parametrize(
    "draw",
    [
        lambda _: plots.plot_light_curve(CURVE),
        lambda _: plots.plot_cutouts(Cutouts()),
        lambda _: plots.plot_cutout(Cutout("science", fits(gaussian()))),
        lambda _: plots.plot_sky([1], [1]),
        lambda folder: night(folder / "n.html"),
    ],
)
def test_without_matplotlib_the_error_names_the_cure(draw, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"nuncius\[plots\]"):
        draw(tmp_path)


# Real packets -----------------------------------------------------------------------------------------------------


@needs_packets
@pytest.mark.parametrize("folder", ["ztf", "winter", "turbo", "pgir", "lsst/samples"])
def test_packets_of_surveys_are_drawn_whole(folder):
    for alert in read_packets(Path(PACKETS) / folder):
        points = drawn(alert.light_curve.plot())
        detections = sum(
            len(y)
            for label, (*_, y) in points.items()
            if label.endswith(("detection", "fainter than template")) and "forced" not in label
        )
        limits = sum(len(y) for label, (*_, y) in points.items() if label.endswith("limit"))
        assert detections == sum(
            p.mag is not None and p.mjd is not None for p in alert.light_curve.detections
        )
        assert limits == sum(
            p.limiting_mag is not None and p.mjd is not None for p in alert.light_curve.limits
        )
        for ax, kind in zip(alert.cutouts.plot(), ("science", "template", "difference"), strict=True):
            cutout = getattr(alert.cutouts, kind)
            assert [image.get_array().shape for image in ax.images] == (
                [] if cutout is None else [cutout.data.shape]
            )
        plt.close("all")


@needs_packets
def test_a_report_of_real_packets(tmp_path):
    alerts = [alert for folder in ("ztf/v4.01", "winter") for alert in read_packets(Path(PACKETS) / folder)]
    objects = [
        plots.NightObject(
            alert.object_id, alert.survey, alert.light_curve, alert.cutouts, [("band", alert.band)]
        )
        for alert in alerts
    ]
    path = night(tmp_path / "n.html", positions=[(a.ra, a.dec, a.survey) for a in alerts], objects=objects)
    page = Page(path.read_text("utf-8"))
    assert page.tags.count("img") == sum(len(alert.cutouts) for alert in alerts) == 3 * len(alerts)
    assert {alert.object_id for alert in alerts} <= set(page.words)
    assert path.stat().st_size < 100_000 * len(alerts)
