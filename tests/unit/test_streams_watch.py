"""Watchlists and regions: equal to comparing everything with everything, whatever form they are given in."""

from __future__ import annotations

import gzip
import io
import math
import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nuncius.errors import ConfigurationError, NotFoundError
from nuncius.sky import Cone, Moc, Polygon, Union, separation_arcsec
from nuncius.sky.watchlist import Targets, named_targets, position_columns
from nuncius.streams.watch import RegionWatch, Watchlist, watch_of

ALL = 180 * 3600.0
M31, M33 = (10.6847, 41.2688), (23.4621, 30.6602)


def hard_places(rng, count):
    """Give positions among which many are at the poles, near them, at RA 0, or at one place."""
    ra = rng.uniform(0, 360, count)
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    kind = rng.integers(0, 7, count)
    tiny = 10.0 ** rng.uniform(-9, 0, count)
    sign = rng.choice([-1, 1], count)
    dec = np.where(kind == 0, sign * (90 - tiny), np.where(kind == 1, sign * 90.0, dec))
    ra = np.where(kind >= 5, (sign * tiny) % 360, np.where(kind == 4, 0.0, ra))
    dec = np.where(kind == 6, tiny, dec)
    return ra, dec


def around(rng, ra, dec, radius_arcsec, count):
    """Give positions around targets, many of them at nearly the radius, and some targets themselves."""
    target = rng.integers(0, len(ra), count)
    factor = np.where(rng.random(count) < 0.5, 1 + rng.normal(0, 1e-9, count), rng.uniform(0, 2, count))
    factor[: count // 10] = 0
    coords = SkyCoord(ra[target], dec[target], unit="deg").directional_offset_by(
        rng.uniform(0, 360, count) * u.deg, np.minimum(factor * radius_arcsec, ALL) * u.arcsec
    )
    at_ra, at_dec = coords.ra.deg, coords.dec.deg
    at_ra[: count // 20], at_dec[: count // 20] = ra[target[: count // 20]], dec[target[: count // 20]]
    return at_ra, at_dec


def check_against_brute_force(ra, dec, radius_arcsec, at_ra, at_dec):
    targets = Targets(ra, dec, radius_arcsec)
    separation = separation_arcsec(at_ra[:, None] % 360, at_dec[:, None], ra % 360, dec)
    inside = (separation <= radius_arcsec).any(axis=1)
    np.testing.assert_array_equal(targets.contains(at_ra, at_dec), inside)
    index, found = targets.nearest(at_ra, at_dec)
    np.testing.assert_array_equal(index, np.where(inside, separation.argmin(axis=1), -1))
    np.testing.assert_array_equal(found, np.where(inside, separation.min(axis=1), np.nan))
    return inside


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 400),
    st.floats(0.1, 36_000) | st.sampled_from([0.0, 1e-6, 20.0, 3600.0, 324_000.0, 324_001.0, 500_000.0, ALL]),
    st.integers(0, 2**32 - 1),
)
@example(1, 0.0, 0)
@example(400, ALL, 1)
def test_a_watchlist_equals_brute_force(count, radius_arcsec, seed):
    rng = np.random.default_rng(seed)
    ra, dec = hard_places(rng, count)
    inside = check_against_brute_force(ra, dec, radius_arcsec, *around(rng, ra, dec, radius_arcsec, 120))
    assert inside.any()


@pytest.mark.parametrize("radius_arcsec", [0.1, 2.0, 300.0])
def test_a_hundred_thousand_targets_equal_brute_force(radius_arcsec):
    rng = np.random.default_rng(5)
    ra, dec = hard_places(rng, 100_000)
    inside = check_against_brute_force(ra, dec, radius_arcsec, *around(rng, ra, dec, radius_arcsec, 60))
    assert 10 < inside.sum() < 60


def test_many_targets_at_one_place_are_compared_in_pieces():
    ra, dec = np.full(30_000, 5.0), np.full(30_000, 1.0)
    targets = Targets(ra, dec, 1.0)
    places = np.full(200, 5.0), np.full(200, 1.0)
    assert targets.contains(*places).all()
    index, separation = targets.nearest(*places)
    assert index.tolist() == [0] * 200
    assert separation.tolist() == [0.0] * 200


def test_a_radius_of_nothing_finds_the_very_place():
    watch = Watchlist([(10.0, 5.0), (359.5, -90.0)], "0 arcsec")
    assert watch([10.0, 370.0, -350.0, 10.0], [5.0, 5.0, 5.0, 5.0 + 1e-9]).tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_what_is_no_position_is_near_nothing():
    watch = Watchlist([(0.0, 0.0), (0.0, 90.0)], 180 * u.deg)
    ra = np.array([np.nan, 10.0, np.inf, 10.0, 10.0, -np.inf, np.nan])
    dec = np.array([5.0, np.nan, 5.0, -np.inf, 90.1, 0.0, np.nan])
    assert not watch(ra, dec).any()
    index, separation = watch.match(ra, dec)
    assert (index == -1).all()
    assert np.isnan(separation).all()
    mixed = watch.match(np.append(ra, 0.0), np.append(dec, 89.0))
    assert mixed[0][-1] == 1
    assert mixed[1][-1] == pytest.approx(3600)
    assert not RegionWatch(Cone(0, 0, ALL))(ra, dec).any()


def test_no_positions_are_an_answer_too():
    nothing = np.empty(0)
    for watch in (
        Watchlist([M31], "1 deg"),
        RegionWatch(Cone(0, 0, 1)),
        watch_of(near=[M31], radius="1 deg", region=Cone(0, 0, 1)),
    ):
        assert watch(nothing, nothing).tolist() == []
        assert [array.tolist() for array in watch.match(nothing, nothing)] == [[], []]


# What users give ------------------------------------------------------------------------------------------------------

TABLE = Table({"name": ["M31", "M33"], "RA": [M31[0], M33[0]], "Dec": [M31[1], M33[1]]})


def near_both(watch):
    """Tell whether these are M31 and M33."""
    ra, dec = np.array([M33[0], 100.0, M31[0]]), np.array([M33[1] + 0.5 / 3600, 0.0, M31[1]])
    assert watch(ra, dec).tolist() == [True, False, True]
    index, separation = watch.match(ra, dec)
    assert index.tolist() == [1, -1, 0]
    np.testing.assert_allclose(separation, [0.5, np.nan, 0.0], atol=1e-6)
    return True


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (SkyCoord([M31, M33], unit="deg"), ()),
        (SkyCoord([M31, M33], unit="deg").galactic, ()),
        ([M31, M33], ()),
        (np.array([M31, M33]), ()),
        ({"M31": M31, "M33": M33}, ("M31", "M33")),
        ({31: M31, (3, 3): SkyCoord(*M33, unit="deg")}, (31, "(3, 3)")),
        (TABLE, ("M31", "M33")),
        (Table(TABLE, names=["objectId", "RAJ2000", "DEJ2000"]), ("M31", "M33")),
        (Table({"id": [7, 8], "ra": TABLE["RA"], "dec": TABLE["Dec"]}), (7, 8)),
        (QTable({"ra": TABLE["RA"] / 15 * u.hourangle, "dec": TABLE["Dec"] * 60 * u.arcmin}), ()),
        (Table({"name": MaskedColumn(["M31", ""], mask=[False, True]), **TABLE["RA", "Dec"]}), ("M31", None)),
        (Table({"ra": ["00:42:44.328", "01:33:50.904"], "dec": ["+41:16:07.68", "+30:39:36.72"]}), ()),
        (TABLE.to_pandas(), ("M31", "M33")),
    ],
)  # fmt: skip
def test_the_forms_of_a_list_of_targets(targets, names):
    watch = Watchlist(targets, "2 arcsec")
    assert watch.names == names
    assert len(watch) == 2
    assert near_both(watch)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("targets.csv", lambda path: path.write_text("# mine\nname,ra,dec\nM31,10.6847,41.2688\nM33,23.4621,30.6602\n")),
        ("targets.tsv", lambda path: path.write_text("name\tra\tdec\nM31\t10.6847\t41.2688\nM33\t23.4621\t30.6602\n")),
        ("targets.txt", lambda path: path.write_text("name ra dec\nM31 10.6847 41.2688\nM33 23.4621 30.6602\n")),
        ("targets.ecsv", TABLE.write),
        ("targets.fits", TABLE.write),
        ("targets.vot", lambda path: TABLE.write(path, format="votable")),
        ("targets.parquet", lambda path: TABLE.to_pandas().to_parquet(path)),
        ("targets.csv.gz", lambda path: path.write_bytes(gzip.compress(b"name,ra,dec\nM31,10.6847,41.2688\nM33,23.4621,30.6602\n"))),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", [str, lambda path: path])
def test_files_of_targets(tmp_path, name, write, form):
    path = tmp_path / name
    write(path)
    watch = watch_of(near=form(path), radius="2 arcsec")
    assert watch.names == ("M31", "M33")
    assert near_both(watch)


def test_one_target():
    for single in (SkyCoord(*M31, unit="deg"), M31, "00:42:44.328 +41:16:07.68"):
        watch = watch_of(near=single, radius=Angle(1, "arcmin"))
        assert len(watch) == 1
        assert watch(*np.array([M31]).T).tolist() == [True]


def test_tables_whose_columns_are_not_plain():
    assert position_columns(["Dec", "name", "RA"]) == ("RA", "Dec")
    assert position_columns(["_RAJ2000", "_DEJ2000"]) == ("_RAJ2000", "_DEJ2000")
    for names in (["alpha", "delta"], ["ra", "RA", "dec"], ["raj2000", "dej2000", "ra_icrs", "de_icrs"]):
        with pytest.raises(ConfigurationError, match="call them ra and dec"):
            position_columns(names)


def test_what_is_no_list_of_targets(tmp_path):
    (tmp_path / "empty.csv").write_text("ra,dec\n")
    (tmp_path / "odd.csv").write_text("alpha,delta\n1,2\n")
    (tmp_path / "broken.fits").write_bytes(b"SIMPLE  = nothing")
    (tmp_path / "broken.vot").write_text("<VOTABLE")
    (tmp_path / "targets.doc").write_text("ra dec")
    faults = {
        (): "is empty",
        (tmp_path / "empty.csv",): "is empty",
        (tmp_path / "odd.csv",): "odd.csv.*call them ra and dec",
        (tmp_path / "broken.fits",): "broken.fits can't be read",
        (tmp_path / "broken.vot",): "broken.vot can't be read",
        (tmp_path / "targets.doc",): "does not tell what it is",
        ((10.0, 91.0), (1.0, 1.0)): "not on the sky",
        ((math.nan, 1.0), (1.0, 1.0)): "not on the sky",
    }
    for targets, words in faults.items():
        single = targets[0] if len(targets) == 1 else list(targets)
        with pytest.raises(ConfigurationError, match=words):
            named_targets(single)
    with pytest.raises(ConfigurationError, match=r"position 1 .*not on the sky"):
        named_targets(Table({"ra": MaskedColumn([1.0, 2.0], mask=[False, True]), "dec": [1.0, 2.0]}))
    with pytest.raises(NotFoundError, match="no file"):
        named_targets(tmp_path / "nothing.csv")


def test_radius_and_targets_belong_together():
    for wrong in ({"near": [M31]}, {"radius": "2 arcsec"}, {"region": Cone(0, 0, 1), "radius": "2 arcsec"}):
        with pytest.raises(ConfigurationError, match="belong together"):
            watch_of(**wrong)
    for radius, words in ((2, "no unit"), ("2", "not understood"), (2 * u.s, "no angle"), ("181 deg", "180")):
        with pytest.raises(ConfigurationError, match=words):
            watch_of(near=[M31], radius=radius)
    watch = Watchlist([M31], "2 arcsec")
    assert watch_of(near=watch) is watch
    with pytest.raises(ConfigurationError, match="has its radius"):
        watch_of(near=watch, radius="2 arcsec")
    assert watch_of() is None


# Regions ------------------------------------------------------------------------------------------------------------


def skymap():
    """Make a multi-order sky map with 95 % of the probability in one of the twelve base cells."""
    density = np.full(12, 0.05 / 11) / (4 * np.pi / 12)
    density[4] = 0.95 / (4 * np.pi / 12)
    columns = [
        fits.Column("UNIQ", "K", array=np.arange(4, 16)),
        fits.Column("PROBDENSITY", "D", unit="sr-1", array=density),
    ]
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(out)
    return out.getvalue()


def test_regions_of_many_kinds(tmp_path):
    (tmp_path / "map.fits").write_bytes(skymap())
    centre, far = (0.0, 0.0), (180.0, 0.0)
    regions = [
        Cone(0, 0, 3600),
        Union([Cone(0, 0, 3600), Cone(90, 0, 3600)]),
        Polygon([(359, -1), (1, -1), (1, 1), (359, 1)]),
        [(359, -1), (1, -1), (1, 1), (359, 1)],
        Moc.of_cells([4], 0),
        skymap(),
        str(tmp_path / "map.fits"),
        RegionWatch(Cone(0, 0, 3600)),
    ]
    for region in regions:
        watch = watch_of(region=region)
        assert watch(*np.array([centre, far, (360.0, 0.0)]).T).tolist() == [True, False, True], region
        assert watch.names is None


def test_the_level_of_a_sky_map():
    places = np.array([(0.0, 0.0), (180.0, 0.0), (45.0, 60.0)]).T
    assert watch_of(region=skymap())(*places).sum() == 1
    assert watch_of(region=skymap(), level=0.95)(*places).sum() == 1
    assert watch_of(region=skymap(), level=1)(*places).all()


def test_a_level_that_means_nothing():
    for level in (0, 1.5, 90, math.nan):
        with pytest.raises(ConfigurationError, match="between 0 and 1"):
            watch_of(region=skymap(), level=level)
    with pytest.raises(ConfigurationError, match=r"level=0\.5.*no probability"):
        watch_of(region=Cone(0, 0, 1), level=0.5)
    with pytest.raises(ConfigurationError, match="region="):
        watch_of(near=[M31], radius="1 deg", level=0.5)
    with pytest.raises(ConfigurationError, match="a region is"):
        watch_of(region=5)
    with pytest.raises(NotFoundError):
        watch_of(region="nothing.fits")


def test_targets_in_a_region_are_both():
    watch = watch_of(near={"M31": M31, "M33": M33}, radius="1 deg", region=Cone(*M31, 3600 * 5))
    places = np.array([M31, M33, (M31[0], M31[1] + 2), (np.nan, np.nan)]).T
    assert watch(*places).tolist() == [True, False, False, False]
    assert watch.names == ("M31", "M33")
    assert watch.match(*places)[0].tolist() == [0, 1, -1, -1]


def test_watches_travel_and_say_what_they_are():
    watch = watch_of(near=[M31], radius="2 arcsec", region=Cone(0, 0, 1))
    copy = pickle.loads(pickle.dumps(watch))
    assert repr(copy) == "<<Watchlist: 1 targets, 2 arcsec> in <RegionWatch: Cone>>"
    assert not copy(*np.array([M31]).T).any()
