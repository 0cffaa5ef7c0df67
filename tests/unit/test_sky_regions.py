"""Cones, polygons, unions, MOCs and sky maps as regions."""

from __future__ import annotations

import gzip
import io
import math
import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Latitude, Longitude, SkyCoord
from astropy.io import fits
from astropy.table import Table

from nuncius.errors import ConfigurationError, NotFoundError
from nuncius.sky import (
    CELLS,
    ORDER,
    Cone,
    Moc,
    Polygon,
    Region,
    Union,
    _centres,
    cells_of,
    separation_arcsec,
    to_geojson,
    to_region,
)
from nuncius.sky.cells import corners, ring_numbers


def everywhere(rng, count=20_000):
    return rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))


def around(rng, ra, dec, radius_deg, count=4000):
    """Give positions around a centre, across the pole and RA 0 too."""
    there = SkyCoord(ra * u.deg, dec * u.deg).directional_offset_by(
        rng.uniform(0, 360, count) * u.deg, radius_deg * np.sqrt(rng.random(count)) * u.deg
    )
    return there.ra.deg, there.dec.deg


def covered(region, ra, dec):
    return Moc(*region.ranges()).contains(ra, dec)


# Cones ---------------------------------------------------------------------------------------------------------------


def test_a_cone_holds_what_is_near_and_not_too_near():
    cone = Cone(0.0, 89.9999, 7200.0, minimum_arcsec=3600.0)
    rng = np.random.default_rng(1)
    ra, dec = around(rng, 0.0, 89.9999, 3.0)
    distance = separation_arcsec(0.0, 89.9999, ra, dec)
    assert np.array_equal(cone.contains(ra, dec), (distance >= 3600) & (distance <= 7200))
    assert covered(cone, ra, dec)[cone.contains(ra, dec)].all()
    assert isinstance(cone, Region)


def test_the_edge_of_a_cone_belongs_to_it():
    assert Cone(10, 0, 3600.0).contains(11.0, 0.0) == (separation_arcsec(10, 0, 11, 0) <= 3600)
    assert Cone(10, 0, 0.0).contains([10.0, 10.1], [0.0, 0.0]).tolist() == [True, False]
    assert len(Cone(370, 0, 1.0).ranges()[0]) >= 1


@pytest.mark.parametrize(
    "values", [(0, 91, 1), (0, 0, -1), (0, 0, 1, 2), (0, 0, math.nan), (math.nan, 0, 1), (0, 0, 648_001)]
)
def test_what_is_no_cone_is_refused(values):
    with pytest.raises(ConfigurationError):
        Cone(*values)


# Polygons ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vertices", "inside", "outside"),
    [
        ([(359, -1), (1, -1), (1, 1), (359, 1)], [(0, 0), (359.5, 0.5)], [(2, 0), (180, 0), (0, 1.2), (0, 90)]),
        ([(0, 80), (90, 80), (180, 80), (270, 80)], [(0, 90), (123, 84), (45, 83)], [(45, 82.0), (0, -90), (0, 79)]),
        ([(0, -80), (270, -80), (180, -80), (90, -80)], [(0, -90), (300, -85)], [(0, 90), (0, 0)]),
        # A letter L, in either direction.
        ([(0, 0), (4, 0), (4, 1), (1, 1), (1, 4), (0, 4)], [(0.5, 3.9), (3.9, 0.5)], [(2, 2), (4, 4)]),
        ([(0, 0), (0, 4), (1, 4), (1, 1), (4, 1), (4, 0), (0, 0)], [(0.5, 3.9), (3.9, 0.5)], [(2, 2), (4, 4)]),
        # Nearly a hemisphere.
        ([(0, 1), (120, 1), (240, 1)], [(0, 90), (60, 60), (0, 2)], [(0, 0), (60, 0), (0, -90)]),
        # An octant.
        ([(0, 0), (90, 0), (0, 90)], [(45, 45), (1, 1), (89, 0.5)], [(225, -45), (91, 1), (359, 1), (45, -1)]),
    ],
    ids=["RA 0", "north pole", "south pole", "L", "L, closed and turned", "hemisphere", "octant"],
)  # fmt: skip
def test_polygons(vertices, inside, outside):
    polygon = Polygon(vertices)
    assert polygon.contains(*np.array(inside, float).T).all()
    assert not polygon.contains(*np.array(outside, float).T).any()
    assert covered(polygon, *np.array(inside, float).T).all()


def test_holes_are_not_inside():
    ring, hole = [(0, 0), (10, 0), (10, 10), (0, 10)], [(4, 4), (6, 4), (6, 6), (4, 6)]
    polygon = Polygon([ring, hole])
    assert polygon.contains([5, 1, 11], [5, 1, 5]).tolist() == [False, True, False]
    assert not covered(polygon, [5], [5]).any()
    assert Polygon(pickle.loads(pickle.dumps(polygon)).vertices) == polygon
    assert hash(polygon) == hash(Polygon([[*ring], [*hole]]))


def test_an_edge_is_a_great_circle():
    # Between two positions at one declination the great circle passes nearer to the pole.
    polygon = Polygon([(0, 60), (60, 60), (30, 50)])
    top = SkyCoord([0, 60] * u.deg, [60, 60] * u.deg).cartesian.mean()
    dec = math.degrees(math.atan2(top.z, math.hypot(top.x, top.y)))
    assert polygon.contains([30, 30], [dec - 1e-6, dec + 1e-6]).tolist() == [True, False]


def test_a_serpent_that_has_opposite_places_within_it():
    # A band along the equator, open at one place: half of the positions in it have their opposite in it too.
    ra = np.linspace(5, 355, 60)
    band = Polygon([*zip(ra, np.full(60, -3.0), strict=True), *zip(ra[::-1], np.full(60, 3.0), strict=True)])
    assert band.contains([10, 190, 100, 280, 350], [0, 0, 1, -1, 2]).all()
    assert not band.contains([0, 10, 10, 0, 0], [0, 4, -4, 90, -90]).any()


def test_convex_polygons_are_those_of_mocpy():
    mocpy = pytest.importorskip("mocpy", reason="mocpy is not installed")
    rng = np.random.default_rng(3)
    for ra, dec, size in [(0, 0, 1), (12, 89.9, 5), (200, -89, 0.2), (45, 41.8, 20), (359.99, -60, 0.01)]:
        angles = np.sort(rng.uniform(0, 360, 7))
        edge = SkyCoord(ra * u.deg, dec * u.deg).directional_offset_by(angles * u.deg, size * u.deg)
        polygon = Polygon(edge)
        order = int(np.clip(math.log2(58.6 / size) + 5, 0, ORDER))
        theirs = mocpy.MOC.from_polygon_skycoord(edge, max_depth=order)
        at_ra, at_dec = around(rng, ra, dec, 1.5 * size)
        ours = polygon.contains(at_ra, at_dec)
        assert 100 < ours.sum() < len(ours)
        # Theirs has every cell that touches the polygon.
        assert theirs.contains_lonlat(at_ra * u.deg, at_dec * u.deg)[ours].all()
        assert covered(polygon, at_ra, at_dec)[ours].all()
        fraction = Moc(*polygon.ranges()).sky_fraction
        assert fraction < 1.5 * theirs.sky_fraction


@pytest.mark.parametrize(
    "vertices",
    [[], [(0, 0)], [(0, 0), (1, 1)], [(0, 0), (1, 1), (0, 0)], [(0, 0), (180, 0), (90, 10)], 5, "square",
     [(0, 0), (1, 1), (2, 95)], [[(0, 0), (5, 0), (5, 5)], [(1, 1)]], SkyCoord(1 * u.deg, 1 * u.deg)],
)  # fmt: skip
def test_what_is_no_polygon_is_refused(vertices):
    with pytest.raises(ConfigurationError):
        Polygon(vertices)


def test_shapes_are_kept():
    polygon = Polygon([(0, 0), (4, 0), (4, 4)])
    assert polygon.contains(3.0, 1.0).shape == ()
    assert polygon.contains(np.zeros((2, 3)), 1.0).shape == (2, 3)


# Unions --------------------------------------------------------------------------------------------------------------


def test_a_union_holds_what_one_of_its_regions_holds():
    parts = [Cone(10, 10, 3600.0), Polygon([(0, 0), (5, 0), (5, 5)]), Moc.of_cells([3], 1)]
    union = Union(parts)
    ra, dec = everywhere(np.random.default_rng(4))
    expected = np.any([part.contains(ra, dec) for part in parts], axis=0)
    assert np.array_equal(union.contains(ra, dec), expected)
    assert covered(union, ra, dec)[expected].all()
    low, high = union.ranges()
    assert (low[1:] > high[:-1]).all()


def test_a_union_of_nothing_is_nothing():
    assert not Union(()).contains([1.0], [1.0]).any()
    assert len(Union(()).ranges()[0]) == 0


# MOCs ----------------------------------------------------------------------------------------------------------------


def test_a_moc_holds_its_cells():
    rng = np.random.default_rng(5)
    ra, dec = everywhere(rng)
    moc = Moc.of_cells([0, 5, 17, 16], [0, 1, 1, 1])
    cells = cells_of(ra, dec)
    expected = (cells >> 58 == 0) | np.isin(cells >> 56, [5, 16, 17])
    assert np.array_equal(moc.contains(ra, dec), expected)
    assert moc.sky_fraction == pytest.approx(1 / 12 + 3 / 48)
    assert moc == Moc.of_cells([17, 0, 16, 5], [1, 0, 1, 1])
    assert hash(moc) == hash(Moc.of_cells([17, 0, 16, 5], [1, 0, 1, 1]))
    assert not Moc([], []).contains(ra, dec).any()
    assert moc.uniq().tolist() == [4, 16 + 5, 16 + 16, 16 + 17]


def random_moc(rng, count=300):
    order = rng.integers(0, 12, count)
    return Moc.of_cells((rng.random(count) * (12 << 2 * order)).astype(np.int64), order)


def test_the_numbers_of_a_moc_are_those_of_mocpy():
    mocpy = pytest.importorskip("mocpy", reason="mocpy is not installed")
    moc = random_moc(np.random.default_rng(6))
    theirs = mocpy.MOC.from_depth29_ranges(29, np.stack([moc.low, moc.high], axis=1).astype(np.uint64))
    assert moc.uniq().tolist() == sorted(int(number) for number in theirs.uniq_hpx)
    assert to_region(theirs) == moc
    assert Moc([0], [CELLS]).uniq().tolist() == list(range(4, 16))
    assert Moc([CELLS - 1], [CELLS]).uniq().tolist() == [4 * 4**29 + CELLS - 1]


@pytest.mark.parametrize(
    "values", [([0], [0]), ([-1], [1]), ([0], [CELLS + 1]), ([0, 1], [2]), ([[0]], [[1]])]
)
def test_what_is_no_moc_is_refused(values):
    with pytest.raises(ConfigurationError):
        Moc(*values)


@pytest.mark.parametrize(("cells", "order"), [([12], 0), ([0], 30), ([-1], 3), ([0], -1)])
def test_cells_that_do_not_exist_are_refused(cells, order):
    with pytest.raises(ConfigurationError):
        Moc.of_cells(cells, order)


# MOCs in files -------------------------------------------------------------------------------------------------------


def file_of(columns, **header):
    """Write a FITS table."""
    columns = [
        fits.Column(name, f"{values.shape[1] if values.ndim > 1 else ''}{code}", array=values, unit=unit)
        for name, code, values, unit in columns
    ]
    table = fits.BinTableHDU.from_columns(columns)
    for name, value in header.items():
        table.header[name] = value
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(out)
    return out.getvalue()


def ranges_file(moc, **header):
    bounds = np.stack([moc.low, moc.high], axis=1).ravel()
    return file_of([("RANGE", "K", bounds, None)], **({"ORDERING": "RANGE", "MOCDIM": "SPACE"} | header))


def numbers_file(moc, name="UNIQ", **header):
    return file_of([(name, "K", moc.uniq(), None)], **({"ORDERING": "NUNIQ", "COORDSYS": "C"} | header))


def test_mocs_in_files(tmp_path):
    moc = random_moc(np.random.default_rng(7))
    for data in (ranges_file(moc), numbers_file(moc), numbers_file(moc, name="NPIX", MOCVERS="1.1")):
        path = tmp_path / "moc.fits"
        path.write_bytes(data)
        packed = tmp_path / "moc.fits.gz"
        packed.write_bytes(gzip.compress(data))
        with fits.open(io.BytesIO(data)) as hdus:
            for source in (path, str(path), packed, data, gzip.compress(data), memoryview(data), hdus):
                assert Moc.from_fits(source) == moc
                assert to_region(source) == moc


@pytest.mark.parametrize("numbers", [True, False])
def test_files_of_mocpy(tmp_path, numbers):
    mocpy = pytest.importorskip("mocpy", reason="mocpy is not installed")
    theirs = mocpy.MOC.from_cone(Longitude(10 * u.deg), Latitude(85 * u.deg), radius=3 * u.deg, max_depth=12)
    path = tmp_path / "moc.fits"
    theirs.save(path, "fits", False, numbers)
    assert Moc.from_fits(path) == to_region(theirs)


def test_files_that_are_no_mocs_are_refused(tmp_path):
    moc = random_moc(np.random.default_rng(8))
    whole = numbers_file(moc)
    bad = [
        b"", b"no file at all", whole[: len(whole) // 2], whole[:100], gzip.compress(whole)[:200],
        ranges_file(moc, MOCDIM="TIME"), numbers_file(moc, COORDSYS="G"), numbers_file(moc, ORDERING="SPIRAL", name="N"),
        file_of([("RANGE", "K", np.array([5, 3]), None)], ORDERING="RANGE"),
        file_of([("RANGE", "K", np.array([5, 7, 9]), None)], ORDERING="RANGE"),
        file_of([("RANGE", "K", np.array([-5, 7]), None)], ORDERING="RANGE"),
        file_of([("UNIQ", "K", np.array([3]), None)], ORDERING="NUNIQ"),
        file_of([("UNIQ", "K", np.array([2**62]), None)], ORDERING="NUNIQ"),
        file_of([("UNIQ", "D", np.array([4.0]), None)], ORDERING="NUNIQ"),
        file_of([("FLUX", "D", np.array([4.0]), None), ("X", "D", np.array([4.0]), None)]),
    ]  # fmt: skip
    picture = io.BytesIO()
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(picture)
    for data in (*bad, picture.getvalue()):
        with pytest.raises(ConfigurationError):
            to_region(data)
        with pytest.raises(ConfigurationError):
            Moc.from_fits(data)
    with pytest.raises(NotFoundError):
        to_region(tmp_path / "none.fits")


# Sky maps ------------------------------------------------------------------------------------------------------------


def blob(order, ra=30.0, dec=20.0, width_deg=5.0):
    """Return the probability of each nested cell of a round localization, summing to 1."""
    centres = _centres(np.arange(12 << 2 * order, dtype=np.int64), order)
    chance = np.exp(-0.5 * (separation_arcsec(ra, dec, *centres) / 3600 / width_deg) ** 2)
    return chance / chance.sum()


def smallest(chance, credible):
    """Return the cells of the smallest region, by hand."""
    chosen, reached = [], 0.0
    for cell in np.argsort(-chance, kind="stable").tolist():
        if reached >= credible:
            break
        chosen.append(cell)
        reached += chance[cell]
    return chosen


def multi_order(order=5):
    """Split half of the cells of a map into four, of the same density."""
    chance = blob(order)
    density = chance * 12 * 4**order / (4 * math.pi)
    cells = np.arange(len(chance), dtype=np.int64)
    split = cells % 2 == 0
    uniq = np.concatenate(
        [
            4 * 4**order + cells[~split],
            (4 * 4 ** (order + 1) + 4 * cells[split][:, None] + np.arange(4)).ravel(),
        ]
    )
    return chance, uniq, np.concatenate([density[~split], np.repeat(density[split], 4)])


@pytest.mark.parametrize("credible", [0.5, 0.9, None, 0.99])
def test_multi_order_sky_maps(credible):
    chance, uniq, density = multi_order()
    expected = Moc.of_cells(smallest(chance, credible or 0.9), 5)
    data = file_of([("UNIQ", "K", uniq, None), ("PROBDENSITY", "D", density, "sr-1")], ORDERING="NUNIQ")
    found = to_region(data, credible)
    # Of the last cell, where it was split, a part may do.
    lost = expected.sky_fraction - found.sky_fraction
    assert 0 <= lost < 1 / (12 * 4**5)
    assert set(found.uniq()) <= set(expected.uniq()) | set(uniq)
    table = Table({"UNIQ": uniq, "PROBDENSITY": density / u.sr})
    assert to_region(table, credible) == found
    per_degree = (density / u.sr).to_value(u.deg**-2)
    data = file_of([("UNIQ", "K", uniq, None), ("PROBDENSITY", "D", per_degree, "deg-2")], ORDERING="NUNIQ")
    assert to_region(gzip.compress(data), credible).sky_fraction == pytest.approx(
        found.sky_fraction, rel=0.01
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ordering", ["NESTED", "RING"])
def test_flat_sky_maps(ordering, packed):
    order = 5
    chance = blob(order, ra=200, dec=-70)
    expected = Moc.of_cells(smallest(chance, 0.9), order)
    values = chance
    if ordering == "RING":
        values = np.empty_like(chance)
        values[ring_numbers(np.arange(len(chance), dtype=np.int64), order)] = chance
    if packed:
        values = values.reshape(-1, 1024)
    data = file_of([("PROB", "D", values, "pix-1")], ORDERING=ordering, NSIDE=32, PIXTYPE="HEALPIX")
    assert to_region(data) == expected
    assert to_region(data, credible=1.0).sky_fraction > expected.sky_fraction


def test_partial_flat_sky_maps():
    chance = blob(4)
    cells = np.flatnonzero(chance > 1e-5)
    data = file_of(
        [("PIXEL", "K", cells, None), ("PROB", "D", chance[cells], None)], ORDERING="NESTED", NSIDE=16,
        INDXSCHM="EXPLICIT",
    )  # fmt: skip
    total = chance[cells].sum()
    assert to_region(data, 0.9) == Moc.of_cells(smallest(chance, 0.9 * total), 4)


def test_what_is_missing_in_a_sky_map_is_nought():
    chance = blob(3)
    hole = chance.copy()
    hole[np.argsort(chance)[:100]] = np.nan
    hole[np.argsort(chance)[100:150]] = -1.6375e30
    ours, theirs = (
        to_region(file_of([("PROB", "D", values, None)], ORDERING="NESTED")) for values in (hole, chance)
    )
    assert ours.sky_fraction == pytest.approx(theirs.sky_fraction, abs=0.002)


def test_ring_numbers_are_those_of_astropy_healpix():
    healpix = pytest.importorskip("astropy_healpix", reason="astropy-healpix is not installed")
    for order in range(7):
        cells = np.arange(12 << 2 * order, dtype=np.int64)
        theirs = healpix.HEALPix(1 << order, order="nested").nested_to_ring(cells)
        assert ring_numbers(cells, order).tolist() == theirs.tolist()


@pytest.mark.parametrize(
    ("columns", "header"),
    [
        ([("PROB", "D", np.full(12, 1 / 12), None)], {}),
        ([("PROB", "D", np.full(12, 1.0), None)], {"ORDERING": "NESTED"}),
        ([("PROB", "D", np.zeros(12), None)], {"ORDERING": "NESTED"}),
        ([("PROB", "D", np.full(11, 1 / 11), None)], {"ORDERING": "NESTED"}),
        ([("PROB", "D", np.full(12, 1 / 12), None)], {"ORDERING": "NESTED", "NSIDE": 2}),
        ([("PROB", "D", np.full(12, 1 / 12), None)], {"ORDERING": "NESTED", "COORDSYS": "GALACTIC"}),
        ([("PROB", "D", np.ones(1), None), ("PIXEL", "K", np.array([99]), None)], {"ORDERING": "RING", "NSIDE": 2}),
        ([("UNIQ", "K", np.array([4, 16]), None), ("PROBDENSITY", "D", np.full(2, 0.5), None)], {}),
        ([("UNIQ", "K", np.array([4, 5]), None), ("PROBDENSITY", "D", np.full(2, 0.5), "m")], {}),
    ],
)  # fmt: skip
def test_sky_maps_that_make_no_sense_are_refused(columns, header):
    with pytest.raises(ConfigurationError):
        to_region(file_of(columns, **header))


@pytest.mark.parametrize("credible", [0, 90, -0.5, math.nan])
def test_a_probability_lies_between_0_and_1(credible):
    _, uniq, density = multi_order(2)
    with pytest.raises(ConfigurationError, match=r"0\.9 for 90"):
        to_region(Table({"UNIQ": uniq, "PROBDENSITY": density}), credible)


def test_only_a_sky_map_has_a_probability():
    for region in (Cone(0, 0, 1.0), [(0, 0), (1, 0), (1, 1)], numbers_file(Moc.of_cells([1], 3))):
        with pytest.raises(ConfigurationError, match="credible"):
            to_region(region, 0.9)
    _, uniq, density = multi_order(2)
    data = file_of([("UNIQ", "K", uniq, None), ("PROBDENSITY", "D", density, None)], ORDERING="NUNIQ")
    with pytest.raises(ConfigurationError, match="to_region"):
        Moc.from_fits(data)


# Everything ----------------------------------------------------------------------------------------------------------


def test_regions_may_be_given_in_many_ways():
    corners_of = [(10, 0), (12, 0), (12, 2)]
    cone = Cone(1, 2, 3.0)
    assert to_region(cone) is cone
    expected = Polygon(corners_of)
    assert to_region(corners_of) == to_region(np.array(corners_of)) == expected
    assert to_region(SkyCoord(corners_of, unit="deg")).contains(11.9, 1.0)
    for wrong in (5, None, {"ra": 1}, Table({"a": [1]}), "no such file"):
        with pytest.raises((ConfigurationError, NotFoundError)):
            to_region(wrong)


def test_cells_as_geojson():
    region = Cone(0.0, 89.0, 7200.0)
    shape = to_geojson(region, 6)
    assert shape["type"] == "MultiPolygon"
    again = Union(
        [
            Polygon([[(lon + 180, lat) for lon, lat in ring] for ring in polygon])
            for polygon in shape["coordinates"]
        ]
    )
    ra, dec = around(np.random.default_rng(9), 0, 89, 1.9)
    assert again.contains(ra, dec).mean() > 0.999  # the edges of cells are no great circles
    for polygon in shape["coordinates"]:
        (ring,) = polygon
        assert ring[0] == ring[-1]
        assert len(ring) == 5
        assert all(-180 <= lon <= 180 and -90 <= lat <= 90 for lon, lat in ring)


@pytest.mark.parametrize("order", [-1, 30, 20])
def test_too_many_cells_for_geojson_are_refused(order):
    with pytest.raises(ConfigurationError, match="order"):
        to_geojson(Cone(0, 0, 36_000.0), order)


def test_corners_are_those_of_cdshealpix():
    nested = pytest.importorskip("cdshealpix.nested", reason="cdshealpix is not installed")
    for order in (0, 1, 4):
        cells = np.arange(12 << 2 * order, dtype=np.int64)
        lon, lat = nested.vertices(cells.astype(np.uint64), order)
        ra, dec = corners(cells, order)
        assert separation_arcsec(ra, dec, lon.deg, lat.deg).max() < 1e-6
