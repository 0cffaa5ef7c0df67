"""Positions, radii, separations, and HEALPix cells."""

from __future__ import annotations

import math

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle, SkyCoord
from astropy.table import MaskedColumn, QTable, Table

from nuncius.errors import ConfigurationError
from nuncius.sky import (
    ORDER,
    _centres,
    cells_of,
    cone_ranges,
    named_positions,
    separation_arcsec,
    to_arcsec,
    to_positions,
)

# Written by cdshealpix 0.9.0: right ascension, declination, cell of order 29.
GOLDEN = [
    (10.684708, 41.26875, 190633513587146677),
    (83.822083, -5.391111, 1508682038474913049),
    (150.25, -20.5, 2835306992931998930),
    (359.999999, 12.5, 1383466020135240403),
    (1e-06, -12.5, 1210607365230165292),
    (180.0, 41.9, 768614697468361450),
    (180.3, 41.7, 768606519786550956),
    (266.416837, -29.007811, 2028740913184736252),
    (37.954561, 89.264109, 288201323344894057),
    (12.3, 89.9999999, 288230376151711743),
    (200.0, -89.9999, 2882303761517805557),
    (0.0, 90.0, 288230376151711743),
    (0.0, -90.0, 2305843009213693952),
    (90.0, 66.6, 552442947219471291),
    (89.999999, 66.6, 240194765983807441),
    (270.0, -66.6, 3218569747836733576),
    (22.5, 1e-06, 1279022294173220927),
    (314.25, 40.125, 936625094824804286),
    (123.456789, -77.123456, 2605209456514377796),
    (299.99, 60.0, 1118616617957155557),
    (135.0, -41.9, 2666130708605486031),
]
CELLS = 12 << (2 * ORDER)


# Positions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "ra", "dec", "single"),
    [
        ((10.5, -5.25), [10.5], [-5.25], True),
        ([10.5, -5.25], [10.5], [-5.25], True),
        (np.array([10.5, -5.25], dtype=np.float32), [10.5], [-5.25], True),
        ([(10, -5), (20, 5)], [10, 20], [-5, 5], False),
        ([[10, -5]], [10], [-5], False),
        (np.empty((0, 2)), [], [], False),
        ([(-10.0, 0.0), (370.0, 0.0), (360.0, 90.0), (0.0, -90.0)], [350, 10, 0, 0], [0, 0, 90, -90], False),
        (SkyCoord(10.5 * u.deg, -5.25 * u.deg), [10.5], [-5.25], True),
        (SkyCoord([10.5, 20] * u.deg, [-5.25, 1] * u.deg), [10.5, 20], [-5.25, 1], False),
        (SkyCoord("00h42m00s", "+41d00m00s"), [10.5], [41], True),
        ("00:42:00 +41:00:00", [10.5], [41], True),
        ("00:42:00.00-05:15:00.0", [10.5], [-5.25], True),
        ("00h42m00s -05d15m00s", [10.5], [-5.25], True),
        (" 00 42 00, -05 15 00 ", [10.5], [-5.25], True),
        ("00h42m00s -00°15\u203200\u2033", [10.5], [-0.25], True),
        (("00h42m00s", "-05d15m00.0s"), [10.5], [-5.25], True),
        (["00:42:00", "-05:15:00"], [10.5], [-5.25], True),
        (["00:42:00 -05:15:00"], [10.5], [-5.25], False),
        (["00:42:00 -05:15:00", "01:20:00 +01:00:00"], [10.5, 20], [-5.25, 1], False),
        ([("00:42:00", "-05:15:00"), (20, 1)], [10.5, 20], [-5.25, 1], False),
        ([SkyCoord(10.5 * u.deg, -5.25 * u.deg), "01:20:00 +01:00:00"], [10.5, 20], [-5.25, 1], False),
        ({"a.b": (10.5, -5.25), 7: SkyCoord(20 * u.deg, 1 * u.deg)}, [10.5, 20], [-5.25, 1], False),
        ({("x", 1): "00:42:00 -05:15:00"}, [10.5], [-5.25], False),
        ({}, [], [], False),
    ],
)
def test_positions_may_be_given_in_many_ways(given, ra, dec, single):
    found_ra, found_dec, is_single = to_positions(given)
    np.testing.assert_allclose(found_ra, ra, atol=1e-12)
    np.testing.assert_allclose(found_dec, dec, atol=1e-12)
    assert found_ra.dtype == found_dec.dtype == np.float64
    assert is_single is single


def test_coordinates_of_other_frames_are_converted():
    here = SkyCoord(l=120 * u.deg, b=-30 * u.deg, frame="galactic")
    ra, dec, _ = to_positions(here)
    assert separation_arcsec(ra, dec, here.icrs.ra.deg, here.icrs.dec.deg)[0] < 1e-6


@pytest.mark.parametrize(
    "table",
    [
        Table({"ra": [10.5, 20], "dec": [-5.25, 1]}),
        Table({"RA": [10.5, 20], "Dec": [-5.25, 1], "other": ["a", "b"]}),
        Table({"ra": [10.5, 20] * u.deg, "dec": np.array([-5.25, 1]) * 60 * u.arcmin}),
        QTable({"ra": np.array([0.7, 20 / 15]) * u.hourangle, "dec": [-5.25, 1] * u.deg}),
        Table({"ra": MaskedColumn([10.5, 20]), "dec": MaskedColumn([-5.25, 1], unit="deg")}),
    ],
    ids=["no units", "capitals", "units", "hours", "nothing masked"],
)
def test_tables_of_positions(table):
    ra, dec, single = to_positions(table)
    np.testing.assert_allclose(ra, [10.5, 20])
    np.testing.assert_allclose(dec, [-5.25, 1])
    assert not single


def test_data_frames_of_positions():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    ra, dec, single = to_positions(pandas.DataFrame({"ra": [10.5, 20], "dec": [-5.25, 1]}))
    assert (ra.tolist(), dec.tolist(), single) == ([10.5, 20], [-5.25, 1], False)


@pytest.mark.parametrize(
    "given",
    [
        (10.0, 95.0), (10.0, -90.0001), (math.nan, 0.0), (0.0, math.inf), [(1.0, 2.0), (3.0, math.nan)],
        (1.0, 2.0, 3.0), [(1.0, 2.0, 3.0)], 5.0, "10 20", "ab", {"ra": 1, "dec": 2}, None, ["ra", "dec"],
        "24:00:00 +00:00:00", "10:60:00 +00:00:00", "10:00:00 +90:00:01", "10.5 -5.25", "10d20m30s +41d16m09s", ("10", "20"),
        ("10.5", "-5.25"), ["04:46:37.87", -10.0], [("04:46:37.87", -10.0)], {"a": "no"}, {"a": 5}, {"a": (1, 2, 3)},
        {"ra": [10.0, 20.0], "dec": [1.0, 2.0]}, {"RA": (10.0, 20.0), "Dec": (1.0, 2.0)}, {"a": [(1, 2)]}, b"10 20",
        {"a": SkyCoord([1] * u.deg, [2] * u.deg)}, [[1.0, "2"]],
        [(1.0, None)], [(1.0, 2.0), (3.0,)], SkyCoord(math.nan * u.deg, 0 * u.deg),
        Table({"ra": [1.0], "d": [1.0]}), Table({"ra": [1.0, math.nan], "dec": [1.0, 2.0]}),
    ],
)  # fmt: skip
def test_what_is_no_position_is_refused(given):
    with pytest.raises(ConfigurationError):
        to_positions(given)


def test_the_message_names_the_position_that_is_not_on_the_sky():
    with pytest.raises(ConfigurationError, match=r"position 2 .*dec=95") as caught:
        to_positions([(1, 2), (3, 4), (5, 95)])
    assert caught.value.position == "positions[2]"


def test_names_are_the_callers_own():
    keys, ra, dec, single = named_positions({"obj.1": (1, 2), 7: "00:42:00 +41:00:00", ("a", None): [3, 4]})
    assert keys == ["obj.1", 7, ("a", None)]
    np.testing.assert_allclose(ra, [1, 10.5, 3])
    np.testing.assert_allclose(dec, [2, 41, 4])
    assert not single
    assert named_positions((1, 2))[0] is None
    assert named_positions([])[0] is None
    with pytest.raises(ConfigurationError, match=r"'obj\.1'") as caught:
        named_positions({"fine": (1, 2), "obj.1": (3, 95)})
    assert caught.value.position == "positions['obj.1']"


def test_texts_are_those_of_astropy():
    rng = np.random.default_rng(4)
    places = SkyCoord(rng.uniform(0, 360, 50) * u.deg, rng.uniform(-90, 90, 50) * u.deg)
    for style in ({"sep": ":"}, {"sep": " "}, {}):
        for precision in (0, 2, 7):
            texts = places.to_string("hmsdms", precision=precision, **style)
            expected = SkyCoord(texts, unit=(u.hourangle, u.deg))
            ra, dec, _ = to_positions(texts)
            np.testing.assert_allclose(ra, expected.ra.deg, rtol=0, atol=1e-9)
            np.testing.assert_allclose(dec, expected.dec.deg, rtol=0, atol=1e-9)


def test_no_positions_are_an_empty_list_of_positions():
    ra, dec, single = to_positions([])
    assert (len(ra), len(dec), single) == (0, 0, False)


@pytest.mark.parametrize(
    "given",
    [
        np.array([[0.5, 0.25]]) * u.rad,
        np.array([0.5, 0.25]) * u.rad,
        [0.5 * u.rad, 0.25 * u.rad],
        (0.5 * u.rad, 0.25 * u.rad),
    ],
)
def test_the_unit_of_pairs_is_never_ignored(given):
    try:
        ra, dec, _ = to_positions(given)
    except ConfigurationError:
        return  # refusing is right too
    np.testing.assert_allclose([ra[0], dec[0]], np.degrees([0.5, 0.25]))


@pytest.mark.parametrize("unit", [None, "deg"])
def test_masked_positions_are_refused(unit):
    table = Table({"ra": MaskedColumn([1.0, 2.0], mask=[False, True], unit=unit), "dec": [1.0, 2.0]})
    with pytest.raises(ConfigurationError, match=r"position 1"):
        to_positions(table)


@pytest.mark.parametrize(
    "table",
    [Table({"ra": ["a", "b"], "dec": [1.0, 2.0]}), Table({"ra": [1.0] * u.mag, "dec": [1.0]})],
    ids=["texts", "no angle"],
)
def test_columns_that_are_no_angles_are_refused_in_our_words(table):
    with pytest.raises(ConfigurationError):
        to_positions(table)


# Radii ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "arcsec"),
    [
        (2 * u.arcsec, 2), (1 * u.arcmin, 60), (0.5 * u.deg, 1800), (1 * u.rad, 206264.80624709636),
        (Angle("0d0m2s"), 2), ("2 arcsec", 2), ("2arcsec", 2), (" 1.5 arcmin ", 90), ("1e-1 deg", 360), ('2"', 2),
        ("3'", 180), ("1°", 3600), ("500 mas", 0.5), (0 * u.deg, 0), (180 * u.deg, 648000), (np.float32(2) * u.arcsec, 2),
    ],
)  # fmt: skip
def test_radii_with_units(given, arcsec):
    assert to_arcsec(given) == pytest.approx(arcsec, rel=1e-9)


@pytest.mark.parametrize(
    "given",
    [2, 2.0, "2", None, "2 s", "2 parsec", "", "arcsec", (2, "arcsec"), -1 * u.arcsec, "-2 arcsec", 181 * u.deg,
     math.nan * u.deg, math.inf * u.deg, 2 * u.s, 2 * u.dimensionless_unscaled, [1, 2] * u.arcsec,
     "1-2 arcsec", "e arcsec", ". deg", "1e999 deg"],
)  # fmt: skip
def test_what_is_no_radius_is_refused(given):
    with pytest.raises(ConfigurationError) as caught:
        to_arcsec(given)
    assert "radius" in str(caught.value)


def test_a_radius_without_unit_says_how_to_write_one():
    with pytest.raises(ConfigurationError, match=r"no unit.*u\.arcsec"):
        to_arcsec(2)


# Separations ---------------------------------------------------------------------------------------------------------


def test_separations_are_those_of_astropy():
    rng = np.random.default_rng(5)
    ra = rng.uniform(0, 360, (2, 400))
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, (2, 400))))
    # Pairs that are near, opposite, at the poles, and the same.
    ra[1, :100], dec[1, :100] = ra[0, :100] + 1e-7, np.clip(dec[0, :100] + 1e-8, -90, 90)
    ra[1, 100:150], dec[1, 100:150] = ra[0, 100:150] + 180, -dec[0, 100:150]
    dec[0, 150:200] = np.where(rng.random(50) < 0.5, 90, -90)
    ra[1, 200:220], dec[1, 200:220] = ra[0, 200:220], dec[0, 200:220]
    expected = SkyCoord(*ra[:1] * u.deg, *dec[:1] * u.deg).separation(
        SkyCoord(*ra[1:] * u.deg, *dec[1:] * u.deg)
    )
    np.testing.assert_allclose(
        separation_arcsec(ra[0], dec[0], ra[1], dec[1]), expected.arcsec, rtol=1e-12, atol=1e-9
    )


def test_separations_across_ra_0_and_over_a_pole():
    assert separation_arcsec(359.9999, 0, 0.0001, 0) == pytest.approx(0.72)
    assert separation_arcsec(0, 89.9999, 180, 89.9999) == pytest.approx(0.72)
    assert separation_arcsec(10, 20, 10, 20) == 0


# Cells ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ra", "dec", "cell"), GOLDEN)
def test_cells_are_those_of_cdshealpix(ra, dec, cell):
    assert int(cells_of(ra, dec)) == cell
    assert cells_of(np.array([ra, ra + 360, ra - 360]), np.array([dec] * 3)).tolist()[0] == cell


def test_many_cells_are_those_of_cdshealpix():
    nested = pytest.importorskip("cdshealpix.nested", reason="cdshealpix is not installed")
    from astropy.coordinates import Latitude, Longitude

    rng = np.random.default_rng(6)
    ra, dec = rng.uniform(0, 360, 50_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 50_000)))
    dec[:5000] = rng.choice([-1, 1], 5000) * (90 - 10 ** rng.uniform(-8, 1, 5000))
    theirs = nested.lonlat_to_healpix(Longitude(ra, u.deg), Latitude(dec, u.deg), ORDER).astype(np.int64)
    ours = cells_of(ra, dec)
    # Rounding may put a position that lies on an edge into the cell beside it, and no more.
    assert np.count_nonzero(ours != theirs) <= 5
    assert np.count_nonzero(ours >> 8 != theirs >> 8) == 0


def test_the_centre_of_each_cell_lies_in_it():
    for order in range(7):
        cells = np.arange(12 << (2 * order), dtype=np.int64)
        ra, dec = _centres(cells, order)
        assert np.array_equal(cells_of(ra, dec) >> (2 * (ORDER - order)), cells)


def test_cells_are_of_equal_area():
    rng = np.random.default_rng(7)
    cells = cells_of(rng.uniform(0, 360, 480_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 480_000))))
    counts = np.bincount(cells >> (2 * (ORDER - 1)), minlength=48)
    assert len(counts) == 48
    assert np.abs(counts - 10_000).max() < 500  # 5 sigma


@pytest.mark.parametrize("dec", [90.0, -90.0, 41.810314895778596, -41.810314895778596, 0.0])
def test_positions_on_the_edges_of_base_cells_have_a_cell(dec):
    ra = np.arange(0, 361, 22.5)
    cells = cells_of(ra, np.full_like(ra, dec))
    assert ((cells >= 0) & (cells < CELLS)).all()
    near = cells_of(ra, np.full_like(ra, dec - math.copysign(1e-9, dec)))
    distance = separation_arcsec(*_centres(cells, ORDER), *_centres(near, ORDER))
    assert distance.max() < 1e-3


def test_the_cells_of_a_small_cone_are_few_and_small():
    ra, dec = np.array([10.0, 150.0, 300.0]), np.array([41.0, -20.0, 80.0])
    index, low, high = cone_ranges(ra, dec, 2.0)
    assert np.bincount(index, minlength=3).max() <= 4
    steradian = (high - low).sum() * 4 * math.pi / CELLS
    assert steradian < 3 * 4 * (16 * 3.0 / 206265) ** 2


def test_ranges_of_one_cone_do_not_overlap():
    ra, dec = np.array([0.0, 45.0, 90.0, 12.0]), np.array([0.0, 41.81, 89.999, -33.0])
    for radius in (0.0, 0.1, 30.0, 7200.0, 36_000.0, 648_000.0):
        index, low, high = cone_ranges(ra, dec, radius)
        assert (low < high).all()
        assert ((low >= 0) & (high <= CELLS)).all()
        for cone in range(len(ra)):
            mine = np.argsort(low[index == cone])
            assert (low[index == cone][mine][1:] >= high[index == cone][mine][:-1]).all()
