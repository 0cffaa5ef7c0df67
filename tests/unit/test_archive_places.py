"""Cones, regions and cross-matches within an archive, compared with brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from astropy.table import Table

import archive_support as support
from nuncius.archives.embedded import places
from nuncius.archives.embedded.database import Database
from nuncius.archives.embedded.load import load_catalog
from nuncius.archives.language import Projection, check_filter
from nuncius.errors import DeadlineError
from nuncius.sky import Cone, Moc, Polygon, Union, cells_of, separation_arcsec

ALL = Projection(None)
POLES_AND_EDGES = [(0.0, 90.0), (0.0, -90.0), (0.0, 0.0), (359.9999, 0.0), (45.0, 41.8103), (12.0, 89.999)]


def crowd(rng, count, centres=POLES_AND_EDGES, width_deg=4.0):
    """Give positions that crowd around places where cells have their corners, and some anywhere."""
    ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    for number, (at_ra, at_dec) in enumerate(centres):
        mine = np.flatnonzero(np.arange(count) % (len(centres) + 1) == number)
        distance, angle = rng.exponential(width_deg, len(mine)), rng.uniform(0, 2 * math.pi, len(mine))
        there = np.clip(at_dec + distance * np.cos(angle), -90, 90)
        dec[mine] = there
        stretch = np.maximum(np.cos(np.radians(there)), 1e-3)
        ra[mine] = (at_ra + np.clip(distance * np.sin(angle) / stretch, -180, 180)) % 360
    return ra, dec


def source_table(ra, dec, **columns):
    return Table({"_id": np.arange(len(ra)), "ra": ra, "dec": dec, "mag": np.arange(len(ra)) % 10, **columns})


@pytest.fixture(scope="module")
def sky():
    return crowd(np.random.default_rng(1), 3000)


@pytest.fixture(scope="module")
def other_sky(sky):
    rng = np.random.default_rng(2)
    ra, dec = crowd(rng, 600)
    # Half of them lie beside sources of the other catalog.
    near = rng.choice(len(sky[0]), 300, replace=False)
    dec[:300] = np.clip(sky[1][near] + rng.normal(0, 1 / 3600, 300), -90, 90)
    ra[:300] = sky[0][near]
    return ra, dec


@pytest.fixture(scope="module")
def database(tmp_path_factory, sky, other_sky):
    database = Database(tmp_path_factory.mktemp("places") / "sky.db", read_only=False)
    load_catalog(database, "Gaia_EDR3", source_table(*sky))
    load_catalog(database, "other", source_table(*other_sky))
    load_catalog(database, "nowhere", Table({"ra": [np.nan, 5.0], "dec": [1.0, 95.0]}))
    with_images = [support.ztf(0, candidate={"ra": 0.00001, "dec": 0.0}, **support.cutouts())]
    alerts = [support.ztf(n, candidate={"ra": 359.9999, "dec": n / 3600}) for n in range(1, 5)]
    report = support.keep(database, [*with_images, *alerts])
    assert report.archived == 5
    yield database
    database.close()


def numbers(documents):
    return [document["_id"] for document in documents]


# Cones ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.1, 2.0, 300.0, 7200.0, 36_000.0])
def test_cones_are_those_of_brute_force(database, sky, radius):
    rng = np.random.default_rng(int(radius))
    ra, dec = crowd(rng, 60)
    ra[:20], dec[:20] = sky[0][:20], sky[1][:20]
    found = places.cones(database, "Gaia_EDR3", ra, dec, radius, {}, ALL, None)
    expected = []
    for index in range(len(ra)):
        distance = separation_arcsec(ra[index], dec[index], *sky)
        inside = np.flatnonzero(distance <= radius)
        expected += [(index, int(source)) for source in inside[np.argsort(distance[inside], kind="stable")]]
    assert [(hit["input_index"], hit["_id"]) for hit in found] == expected
    assert len(found) >= 20
    for hit in found[:50]:
        exact = separation_arcsec(ra[hit["input_index"]], dec[hit["input_index"]], hit["ra"], hit["dec"])
        assert hit["separation_arcsec"] == exact


def test_a_cone_with_a_hole(database, sky):
    ra, dec = np.array([0.0, 12.0]), np.array([89.5, 3.0])
    found = places.cones(database, "Gaia_EDR3", ra, dec, 7200.0, {}, ALL, None, minimum_arcsec=3600.0)
    distance = separation_arcsec(0.0, 89.5, *sky)
    ring = np.flatnonzero((distance >= 3600) & (distance <= 7200))
    assert sorted(hit["_id"] for hit in found if hit["input_index"] == 0) == ring.tolist()
    assert len(ring) > 5


def test_the_nearest_are_taken_first(database):
    ra, dec = np.array([0.0, 0.0]), np.array([90.0, -90.0])
    everything = places.cones(database, "Gaia_EDR3", ra, dec, 7200.0, {}, ALL, None)
    for limit in (0, 1, 3):
        few = places.cones(database, "Gaia_EDR3", ra, dec, 7200.0, {}, ALL, limit)
        expected = [[hit for hit in everything if hit["input_index"] == index][:limit] for index in (0, 1)]
        assert few == expected[0] + expected[1]
    condition = check_filter({"mag": {"$gte": 5}})
    bright = places.cones(database, "Gaia_EDR3", ra, dec, 7200.0, condition, Projection(["mag"]), 2)
    expected = [
        [h for h in everything if h["input_index"] == index and h["mag"] >= 5][:2] for index in (0, 1)
    ]
    assert numbers(bright) == numbers(expected[0] + expected[1])
    assert bright[0].keys() == {"_id", "mag", "separation_arcsec", "input_index"}


def test_sources_without_a_position_are_in_no_cone(database):
    assert (
        places.cones(database, "nowhere", np.array([5.0]), np.array([89.0]), 648_000.0, {}, ALL, None) == []
    )
    assert list(places.within(database, "nowhere", Moc([0], [12 << 58]), {}, ALL, [], 0, None)) == []


def test_cones_of_alerts_have_images(database):
    (hit, *_) = places.cones(database, "ZTF_alerts", np.array([0.0]), np.array([0.0]), 1.0, {}, ALL, 1)
    assert hit["cutoutScience"] == support.cutouts()["cutoutScience"]
    wanted = Projection(["candid"])
    (hit, *_) = places.cones(database, "ZTF_alerts", np.array([0.0]), np.array([0.0]), 1.0, {}, wanted, 1)
    assert hit.keys() == {"_id", "candid", "separation_arcsec", "input_index"}
    condition = check_filter({"cutoutScience": {"$exists": True}})
    found = places.cones(
        database, "ZTF_alerts", np.array([0.0]), np.array([0.0]), 10.0, condition, wanted, None
    )
    assert support.ids(found) == [support.CANDID]


# Regions -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "region",
    [
        Cone(0.0, 89.9, 7200.0),
        Cone(0.0, 0.0, 7200.0, minimum_arcsec=3000.0),
        Polygon([(355, -3), (5, -3), (5, 3), (355, 3)]),
        Polygon([[(355, -3), (5, -3), (5, 3), (355, 3)], [(359, -1), (1, -1), (1, 1), (359, 1)]]),
        Union([Cone(0, -90, 3600.0), Polygon([(44, 41), (46, 41), (46, 43)]), Moc.of_cells([100], 3)]),
        Moc.of_cells(np.arange(0, 3072, 2), 4),
        Moc([0], [12 << 58]),
        Moc([], []),
        Union(()),
    ],
    ids=["pole", "ring", "polygon", "polygon with a hole", "union", "half of the sky", "whole sky", "nothing", "empty"],
)  # fmt: skip
def test_regions_are_those_of_brute_force(database, sky, region):
    expected = np.flatnonzero(region.contains(*sky)).tolist()
    assert numbers(places.within(database, "Gaia_EDR3", region, {}, ALL, [], 0, None)) == expected
    bright = check_filter({"mag": {"$gt": 6}})
    assert numbers(places.within(database, "Gaia_EDR3", region, bright, ALL, [], 0, None)) == [
        number for number in expected if number % 10 > 6
    ]
    assert numbers(places.within(database, "Gaia_EDR3", region, {}, ALL, [], 2, 3)) == expected[2:5]


def test_what_is_in_a_region_can_be_sorted(database):
    everything = Moc([0], [12 << 58])
    order = [("candid", -1)]
    found = list(places.within(database, "ZTF_alerts", everything, {}, ALL, order, 1, None))
    assert support.ids(found) == [support.CANDID + number for number in (3, 2, 1, 0)]
    assert "cutoutScience" in found[-1]
    few = list(places.within(database, "ZTF_alerts", everything, {}, Projection(["candid"]), order, 0, 2))
    assert [document.keys() for document in few] == [{"_id", "candid"}] * 2
    images = check_filter({"cutoutScience": {"$exists": True}})
    assert support.ids(places.within(database, "ZTF_alerts", everything, images, ALL, order, 0, None)) == [
        support.CANDID
    ]


# Cross-matches -------------------------------------------------------------------------------------------------------


def crossmatch(database, left, right, radius, *, condition=None, projection=None, right_condition=None,
               right_projection=None, limit=None):  # fmt: skip
    return places.crossmatch(
        database, left, right, radius,
        condition=check_filter(condition), projection=Projection(projection),
        right_condition=check_filter(right_condition), right_projection=Projection(right_projection), limit=limit,
    )  # fmt: skip


def by_force(left, right, radius, keep=lambda *_: True):
    matches = {}
    for index in range(len(left[0])):
        distance = separation_arcsec(left[0][index], left[1][index], *right)
        inside = np.flatnonzero(distance <= radius)
        near = [int(i) for i in inside[np.argsort(distance[inside], kind="stable")] if keep(index, int(i))]
        if near:
            matches[index] = near
    return matches


@pytest.mark.parametrize("radius", [0.2, 2.0, 600.0, 5000.0])
@pytest.mark.parametrize("turned", [False, True])
def test_cross_matches_are_those_of_brute_force(database, sky, other_sky, radius, turned, monkeypatch):
    monkeypatch.setattr(places, "_POSITIONS", 700)  # several pieces
    monkeypatch.setattr(places, "_PAIRS", 900)
    monkeypatch.setattr(places, "_DOCUMENTS", 50)
    names, skies = ("other", "Gaia_EDR3"), (other_sky, sky)
    if turned:
        names, skies = names[::-1], skies[::-1]
    expected = by_force(*skies, radius)
    found = list(crossmatch(database, *names, radius))
    assert {document["_id"]: numbers(document["matches"]) for document in found} == expected
    assert len(found) == len(expected) > 50
    nearest = {
        document["_id"]: numbers(document["matches"])
        for document in crossmatch(database, *names, radius, limit=1)
    }
    assert nearest == {index: near[:1] for index, near in expected.items()}
    match = found[0]["matches"][0]
    place = skies[0][0][found[0]["_id"]], skies[0][1][found[0]["_id"]]
    assert match["separation_arcsec"] == separation_arcsec(*place, match["ra"], match["dec"])


def test_a_small_catalog_is_looked_for_in_a_large_one(database, sky, monkeypatch):
    few = (np.array([0.0, sky[0][3], sky[0][77]]), np.array([90.0, sky[1][3], sky[1][77]]))
    load_catalog(database, "few", source_table(*few), replace=True)
    asked = []
    real = places._all_sources
    monkeypatch.setattr(
        places, "_all_sources", lambda database, name: asked.append(name) or real(database, name)
    )
    found = {
        document["_id"]: numbers(document["matches"])
        for document in crossmatch(database, "Gaia_EDR3", "few", 3000.0)
    }
    assert found == by_force(sky, few, 3000.0)
    assert asked == ["few"]


def test_filters_and_projections_of_both_sides(database, sky, other_sky):
    found = list(
        crossmatch(
            database, "other", "Gaia_EDR3", 600.0, condition={"mag": {"$lt": 3}}, projection=["mag"],
            right_condition={"mag": {"$in": [1, 2, 3]}}, right_projection={"_id": 1, "ra": 1}, limit=2,
        )
    )  # fmt: skip
    expected = by_force(
        other_sky, sky, 600.0, keep=lambda left, right: left % 10 < 3 and right % 10 in {1, 2, 3}
    )
    assert {document["_id"]: numbers(document["matches"]) for document in found} == {
        index: near[:2] for index, near in expected.items()
    }
    assert found[0].keys() == {"_id", "mag", "matches"}
    assert found[0]["matches"][0].keys() == {"_id", "ra", "separation_arcsec"}


def test_alerts_are_matched_too(database):
    found = list(
        crossmatch(
            database, "ZTF_alerts", "ZTF_alerts", 1.1, projection=["candid"], right_projection=["candid"]
        )
    )
    near = {
        document["candid"] - support.CANDID: sorted(
            hit["candid"] - support.CANDID for hit in document["matches"]
        )
        for document in found
    }
    assert near == {0: [0, 1], 1: [0, 1, 2], 2: [1, 2, 3], 3: [2, 3, 4], 4: [3, 4]}
    assert list(crossmatch(database, "nowhere", "Gaia_EDR3", 648_000.0)) == []
    assert list(crossmatch(database, "Gaia_EDR3", "nowhere", 648_000.0)) == []


# While other programs write, and against the clock -------------------------------------------------------------------


def test_what_was_replaced_meanwhile_is_not_taken_for_what_was_found(tmp_path, sky):
    database = Database(tmp_path / "a.db", read_only=False)
    load_catalog(database, "sources", source_table(*(column[:900] for column in sky)))
    found = places.within(database, "sources", Moc([0], [12 << 58]), {}, ALL, [], 0, None)
    first = [next(found) for _ in range(10)]
    # The same numbers of rows, at other places.
    load_catalog(database, "sources", source_table(*(column[1000:1900] for column in sky)), replace=True)
    rest = list(found)
    for document in first + rest:
        assert document["ra"] == sky[0][document["_id"]]
    assert len(first + rest) == 400  # those that were read together before
    database.close()


def test_a_deadline_ends_what_takes_long(database):
    for ask in (
        lambda: list(crossmatch(database, "Gaia_EDR3", "Gaia_EDR3", 36_000.0)),
        lambda: places.cones(
            database, "Gaia_EDR3", np.full(500, 0.0), np.full(500, 90.0), 648_000.0, {}, ALL, None
        ),
    ):
        with pytest.raises(DeadlineError), database.deadline(0.05):
            ask()
    with database.deadline(30):
        assert (
            len(places.cones(database, "other", np.array([0.0]), np.array([90.0]), 7200.0, {}, ALL, 1)) == 1
        )
    assert len(list(crossmatch(database, "other", "Gaia_EDR3", 2.0))) > 100


def test_cells_stand_in_the_file(database, sky):
    cells = dict(database.connection.execute('SELECT _id, hpx FROM "Gaia_EDR3"'))
    assert cells == dict(enumerate(cells_of(*sky).tolist()))
