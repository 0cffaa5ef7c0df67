"""Regions in filters and pipelines, in longitude (right ascension minus 180 degrees) and latitude."""

from __future__ import annotations

import math
import pickle

import msgspec
import numpy as np
import pytest

from nuncius.archives.language import check_filter, check_pipeline, geo_region, matches, near_of, run_pipeline
from nuncius.archives.language.geo import EARTH_RADIUS_M
from nuncius.errors import FilterError, UnsupportedError
from nuncius.sky import separation_arcsec

ARCSEC = math.radians(1 / 3600)
FIELD = "coordinates.radec_geojson"
SQUARE = {"type": "Polygon", "coordinates": [[[-171, 40], [-169, 40], [-169, 42], [-171, 42], [-171, 40]]]}


def at(ra, dec, **more):
    point = {"type": "Point", "coordinates": [ra - 180.0, dec]}
    return {"coordinates": {"radec_geojson": point}, **more}


def cone(ra, dec, radius_arcsec):
    return {FIELD: {"$geoWithin": {"$centerSphere": [[ra - 180.0, dec], radius_arcsec * ARCSEC]}}}


@pytest.mark.parametrize(
    ("document", "condition", "expected"),
    [
        (at(10.0, 41.0), cone(10.0, 41.0, 2), True),
        (at(10.0, 41.0005), cone(10.0, 41.0, 2), True),
        (at(10.0, 41.0006), cone(10.0, 41.0, 2), False),
        (at(190.0, 41.0), cone(10.0, 41.0, 2), False),
        (at(359.9999, 0.0), cone(0.0001, 0.0, 1), True),
        (at(180.0, 89.9999), cone(0.0, 89.9999, 1), True),
        (at(10.0, 41.0), {FIELD: {"$geoWithin": {"$geometry": SQUARE}}}, True),
        (at(12.0, 41.0), {FIELD: {"$geoWithin": {"$geometry": SQUARE}}}, False),
        (at(10.0, 41.0), {FIELD: {"$geoIntersects": {"$geometry": SQUARE}}}, True),
        (at(10.0, 41.0), {FIELD: {"$not": {"$geoWithin": {"$geometry": SQUARE}}}}, False),
        ({}, {FIELD: {"$not": {"$geoWithin": {"$geometry": SQUARE}}}}, True),
        (at(10.0, 41.0), {FIELD: {"$geoIntersects": {"$geometry": {"type": "Point", "coordinates": [-170, 41]}}}}, True),
        (at(10.0, 41.1), {FIELD: {"$geoIntersects": {"$geometry": {"type": "Point", "coordinates": [-170, 41]}}}}, False),
        (at(10.0, 41.0), {FIELD: {"$nearSphere": [-170.0, 41.0], "$maxDistance": ARCSEC}}, True),
        (at(10.0, 41.01), {FIELD: {"$nearSphere": [-170.0, 41.0], "$maxDistance": ARCSEC}}, False),
        (at(10.0, 41.01), {FIELD: {"$nearSphere": [-170.0, 41.0]}}, True),
        (at(10.0, 41.0), {FIELD: {"$nearSphere": [-170.0, 41.0], "$minDistance": ARCSEC}}, False),
        (at(10.0, 41.0), {FIELD: {"$nearSphere": [-170, 41], "$minDistance": 2 * ARCSEC, "$maxDistance": ARCSEC}}, False),
        ({}, {FIELD: {"$nearSphere": [-170.0, 41.0]}}, False),
        # An arc minute is 1855 m on MongoDB's Earth.
        (at(10.0, 41.0165), {FIELD: {"$near": {"$geometry": {"type": "Point", "coordinates": [-170, 41]},
                                              "$maxDistance": 1856}}}, True),
        (at(10.0, 41.0168), {FIELD: {"$near": {"$geometry": {"type": "Point", "coordinates": [-170, 41]},
                                              "$maxDistance": 1856}}}, False),
        # Pairs, texts and arrays of points.
        ({"p": [-170.0, 41.0]}, {"p": {"$geoWithin": {"$geometry": SQUARE}}}, True),
        ({"p": {"lng": -170.0, "lat": 41.0}}, {"p": {"$geoWithin": {"$geometry": SQUARE}}}, True),
        ({"p": [[0.0, 0.0], [-170.0, 41.0]]}, {"p": {"$geoWithin": {"$geometry": SQUARE}}}, True),
        ({"p": [{"q": [0, 0]}, {"q": [-170, 41]}]}, {"p.q": {"$geoWithin": {"$geometry": SQUARE}}}, True),
        ({"p": "10 41"}, {"p": {"$geoWithin": {"$geometry": SQUARE}}}, False),
        ({"p": [1000.0, 41.0]}, {"p": {"$geoWithin": {"$geometry": SQUARE}}}, False),
        ({"p": {"type": "LineString", "coordinates": [[-170, 41], [-170, 41.5]]}},
         {"p": {"$geoWithin": {"$geometry": SQUARE}}}, False),
        ({"p": {"type": "Point", "coordinates": "x"}}, {"p": {"$geoWithin": {"$geometry": SQUARE}}}, False),
        ({"p": [math.nan, 41.0]}, {"p": {"$geoWithin": {"$geometry": SQUARE}}}, False),
        ({"p": True}, {"p": {"$geoWithin": {"$geometry": SQUARE}}}, False),
    ],
    ids=repr,
)  # fmt: skip
def test_positions_in_regions(document, condition, expected):
    assert matches(document, check_filter(condition)) is expected


def test_polygons_with_holes_and_several_of_them():
    hole = [[-170.5, 40.5], [-169.5, 40.5], [-169.5, 41.5], [-170.5, 41.5], [-170.5, 40.5]]
    holed = {"type": "Polygon", "coordinates": [*SQUARE["coordinates"], hole]}
    other = [[[0, 0], [1, 0], [1, 1], [0, 0]]]
    both = {"type": "MultiPolygon", "coordinates": [holed["coordinates"], other]}
    condition = check_filter({FIELD: {"$geoWithin": {"$geometry": both}}})
    assert [matches(at(ra, dec), condition) for ra, dec in ((10, 41), (10, 41.8), (180.8, 0.2), (180.2, 0.8))] == [
        False, True, True, False,
    ]  # fmt: skip


def test_random_cones_are_those_of_the_separation():
    rng = np.random.default_rng(2)
    for _ in range(100):
        ra, dec = rng.uniform(0, 360), rng.uniform(-90, 90)
        radius = 10 ** rng.uniform(-1, 5)
        other_ra, other_dec = (
            (ra + rng.normal(0, radius / 3600)) % 360,
            np.clip(dec + rng.normal(0, radius / 3600), -90, 90),
        )
        expected = separation_arcsec(ra, dec, other_ra, other_dec) <= radius
        assert matches(at(other_ra, other_dec), check_filter(cone(ra, dec, radius))) == expected


def test_a_region_is_in_right_ascension_and_declination():
    found = geo_region("$geoWithin", {"$centerSphere": [[-170.0, 41.0], 2 * ARCSEC]})
    assert (found.ra, found.dec) == (10.0, 41.0)
    assert found.radius_arcsec == pytest.approx(2)


def test_a_distance_beside_a_pair_is_in_radians_and_else_in_metres():
    by_pair = check_filter(
        {FIELD: {"$nearSphere": [-170, 41], "$maxDistance": ARCSEC, "$minDistance": 0.1 * ARCSEC}}
    )
    point = {"type": "Point", "coordinates": [-170, 41]}
    in_metres = {
        "$geometry": point,
        "$maxDistance": ARCSEC * EARTH_RADIUS_M,
        "$minDistance": 0.1 * ARCSEC * EARTH_RADIUS_M,
    }
    by_point = check_filter({FIELD: {"$nearSphere": in_metres}})
    beside = check_filter({FIELD: {"$nearSphere": {"$geometry": point}, "$maxDistance": ARCSEC * EARTH_RADIUS_M,
                                   "$minDistance": 0.1 * ARCSEC * EARTH_RADIUS_M}})  # fmt: skip
    assert near_of(by_pair) == near_of(by_point) == near_of(beside)
    assert near_of(by_pair).radius_arcsec == pytest.approx(1)
    assert near_of(by_pair).minimum_arcsec == pytest.approx(0.1)


def test_the_cone_by_whose_distance_is_sorted():
    near = {FIELD: {"$nearSphere": [-170.0, 41.0]}}
    assert near_of(check_filter({})) is None
    assert near_of(check_filter(cone(10, 41, 1))) is None
    assert near_of(check_filter({"a": 1, **near})).radius_arcsec == 180 * 3600
    assert (near_of(check_filter({"$and": [{"a": 1}, near]})).ra) == 10.0


def test_what_is_checked_is_plain_data():
    checked = check_filter({**cone(10, 41, 2), "a": {"$in": [1, 2]}, "p": {"$nearSphere": [-170, 41]}})
    assert msgspec.json.decode(msgspec.json.encode(checked)) == checked
    assert pickle.loads(pickle.dumps(checked)) == checked
    assert check_filter(checked) == checked
    assert matches(at(10, 41, a=1, p=[-170, 41]), pickle.loads(pickle.dumps(checked)))


def test_a_region_is_made_once():
    condition = check_filter(cone(10, 41, 2))[FIELD]
    assert condition.region("$geoWithin") is condition.region("$geoWithin")


@pytest.mark.parametrize("operator", ["$nearSphere", "$near"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda near: {"$or": [{"p": near}]},
        lambda near: {"$nor": [{"p": near}]},
        lambda near: {"p": {"$not": near}},
        lambda near: {"p": {"$elemMatch": near}},
        lambda near: {"p": {"$elemMatch": {"q": near}}},
        lambda near: {"$and": [{"$or": [{"p": near}]}]},
    ],
)
def test_what_sorts_can_not_stand_everywhere(operator, wrap):
    with pytest.raises(FilterError, match="sorts"):
        check_filter(wrap({operator: [0, 0]}))


def test_only_one_sorts():
    near = {"$nearSphere": [0, 0]}
    for condition in (
        {"a": near, "b": near},
        {"a": near, "$and": [{"b": near}]},
        {"a": {**near, "$near": [0, 0]}},
    ):
        with pytest.raises(FilterError, match="only one"):
            check_filter(condition)


@pytest.mark.parametrize(
    ("operand", "words"),
    [
        ({"$geoWithin": {"$centerSphere": [[0, 0]]}}, "radius in radians"),
        ({"$geoWithin": {"$centerSphere": [[0, 0], -1]}}, "not negative"),
        ({"$geoWithin": {"$centerSphere": [[0, 0], math.nan]}}, "not negative"),
        ({"$geoWithin": {"$centerSphere": [[0, 0], "1"]}}, "not negative"),
        ({"$geoWithin": {"$centerSphere": [[0, 0], True]}}, "not negative"),
        ({"$geoWithin": {"$centerSphere": [[181, 0], 1]}}, "RA - 180"),
        ({"$geoWithin": {"$centerSphere": [[0, 91], 1]}}, "degrees"),
        ({"$geoWithin": {"$centerSphere": ["0 0", 1]}}, "degrees"),
        ({"$geoWithin": {"$centreSphere": [[0, 0], 1]}}, r"did you mean \$centerSphere"),
        ({"$geoWithin": {"$centerSphere": [[0, 0], 1], "$geometry": SQUARE}}, "takes"),
        ({"$geoWithin": [0, 0]}, "takes"),
        ({"$geoWithin": 5}, "region"),
        ({"$geoWithin": {"$geometry": [0, 0]}}, "GeoJSON"),
        ({"$geoWithin": {"$geometry": {"type": "Polygon"}}}, "GeoJSON"),
        ({"$geoWithin": {"$geometry": {"type": "Polygon", "coordinates": []}}}, "closed rings"),
        ({"$geoWithin": {"$geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [0, 0]]]}}}, "at least four"),
        ({"$geoWithin": {"$geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}}},
         "ends where it begins"),
        ({"$geoWithin": {"$geometry": {"type": "Polygon", "coordinates": [[[0, 0], [0, 0], [0, 0], [0, 0]]]}}}, "vertices"),
        ({"$geoWithin": {"$geometry": {"type": "MultiPolygon", "coordinates": 5}}}, "list of polygons"),
        ({"$geoIntersects": {"$centerSphere": [[0, 0], 1]}}, r"\$geometry"),
        ({"$nearSphere": {"$geometry": SQUARE}}, "Point"),
        ({"$nearSphere": "x"}, "region"),
        ({"$nearSphere": [0, 0], "$maxDistance": -1}, "not negative"),
        ({"$nearSphere": [0, 0], "$maxDistance": "1"}, "not negative"),
        ({"$nearSphere": {"$geometry": {"type": "Point", "coordinates": [0, 0]}, "$maxDist": 1}}, r"\$maxDistance"),
        ({"$maxDistance": 1}, r"belongs to \$nearSphere"),
        ({"$geoWithin": {"$geometry": SQUARE}, "$minDistance": 1}, r"belongs to \$nearSphere"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_region_is_refused(operand, words):
    with pytest.raises(FilterError, match=words) as caught:
        check_filter({"p": operand})
    assert caught.value.position.startswith("filter['p']")


@pytest.mark.parametrize(
    ("operand", "words"),
    [
        ({"$geoWithin": {"$center": [[0, 0], 1]}}, r"\$centerSphere"),
        ({"$geoWithin": {"$box": [[0, 0], [1, 1]]}}, r"\$centerSphere"),
        ({"$geoWithin": {"$polygon": [[0, 0], [1, 1], [0, 1]]}}, r"\$geometry"),
        (
            {"$geoIntersects": {"$geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}}},
            "LineString",
        ),
        ({"$geoWithin": {"$geometry": {**SQUARE, "crs": {}}}}, "crs"),
    ],
)
def test_what_is_flat_or_no_polygon_is_not_supported(operand, words):
    with pytest.raises(UnsupportedError, match=words):
        check_filter({"p": operand})


# Pipelines -----------------------------------------------------------------------------------------------------------

DOCUMENTS = [at(10.0, 41.0 + offset / 3600, _id=offset) for offset in (5, 1, 3, 100)] + [{"_id": "nowhere"}]


def run(spec, documents=DOCUMENTS):
    return list(run_pipeline(documents, check_pipeline([{"$geoNear": spec}])))


def test_geo_near_sorts_by_distance():
    found = run(
        {"near": [-170.0, 41.0], "distanceField": "d.arc", "maxDistance": 10 * ARCSEC, "spherical": True}
    )
    assert [document["_id"] for document in found] == [1, 3, 5]
    assert [document["d"]["arc"] / ARCSEC for document in found] == pytest.approx([1, 3, 5], rel=1e-6)
    point = {"type": "Point", "coordinates": [-170.0, 41.0]}
    found = run(
        {"near": point, "distanceField": "d", "minDistance": 2 * ARCSEC * EARTH_RADIUS_M, "includeLocs": "at"}
    )
    assert [document["_id"] for document in found] == [3, 5, 100]
    assert found[0]["d"] == pytest.approx(3 * ARCSEC * EARTH_RADIUS_M, rel=1e-6)
    assert found[0]["at"]["coordinates"] == pytest.approx([-170.0, 41.0 + 3 / 3600])


def test_geo_near_takes_a_query_and_a_factor():
    spec = {
        "near": [-170.0, 41.0],
        "distanceField": "d",
        "query": {"_id": {"$ne": 1}},
        "distanceMultiplier": 1 / ARCSEC,
    }
    found = run(spec)
    assert [document["_id"] for document in found] == [3, 5, 100]
    assert found[0]["d"] == pytest.approx(3, rel=1e-6)


def test_of_several_positions_the_nearest_counts():
    documents = [
        {"_id": 1, "p": [[-170, 50], [-170, 41.5]]},
        {"_id": 2, "p": [-170, 42]},
        {"_id": 3, "p": []},
    ]
    found = run({"near": [-170.0, 41.0], "distanceField": "d", "key": "p"}, documents)
    assert [(document["_id"], round(math.degrees(document["d"]), 6)) for document in found] == [
        (1, 0.5),
        (2, 1.0),
    ]


def test_without_documents_there_is_nothing_near():
    assert run({"near": [-170.0, 41.0], "distanceField": "d"}, []) == []
