"""An exported archive asked through DuckDB, against the language alone."""

from __future__ import annotations

import copy
import itertools
import math
import re
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nuncius import open_archive
from nuncius._core.jsontext import to_text
from nuncius.archives.embedded.database import Database, quoted
from nuncius.archives.embedded.export import export
from nuncius.archives.embedded.rows import read_document
from nuncius.archives.language import (
    check_filter,
    check_pipeline,
    distinct_values,
    equal,
    matches,
    run_pipeline,
    sort_documents,
)
from nuncius.errors import FilterError
from nuncius.sky import cells_of, separation_arcsec
from nuncius.sky.regions import Polygon

pytest.importorskip("duckdb", reason="duckdb is not installed")
pytest.importorskip("pyarrow", reason="pyarrow is not installed")

CATALOG = "survey_alerts"
PATHS = ("a", "A", "b", "b.x", "b.x.y", "c", "c.0", "c.x", "nothing", "_id")
NUMBERS = iter(itertools.count())
quick = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

whole = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, 2475433850215010007, 2475433850215010008, 2**63 - 1, -(2**63)]),
)
fractions = st.sampled_from(
    [0.5, 1.0, -0.0, 2.5, 1e-320, 1.7976931348623157e308, 0.1 + 0.2, 0.3, 2475433850215010007.0, math.inf]
)
texts = st.sampled_from(
    ["", "a", "b", "ab", "abc", "a\0", "A", "é", "\U0001f600", "5", "0.5", '"', "null", "5f" * 12]
)
huge = st.sampled_from([2**63, -(2**63) - 1, 10**300, 10**400])
odd = st.sampled_from([math.nan, -math.inf, b"a", datetime(2026, 1, 2, tzinfo=UTC)])
scalars = st.one_of(st.none(), st.booleans(), whole, fractions, texts)
nested = st.recursive(
    scalars | odd,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xy0"), inner, max_size=2),
    max_leaves=4,
)
# A field has values of one type in most documents, as in a survey; that is what has columns.
kinds = st.sampled_from([
    whole, fractions, st.integers(-3, 3) | fractions, texts, st.booleans(), scalars,
    whole | st.none(), fractions | st.sampled_from([math.nan]), texts | st.none(), whole | st.just([1, 2]),
    texts | st.just({"x": 1}), nested,
])  # fmt: skip


@st.composite
def catalogs(draw):
    """Documents whose fields are mostly of one type each."""
    types = {name: draw(kinds) for name in ("a", "A", "b", "c")}
    inner = st.fixed_dictionaries({}, optional={"x": draw(kinds), "y": draw(kinds)})
    types["b"] = draw(st.sampled_from([inner, inner, inner | st.lists(inner, max_size=2), types["b"]]))
    return draw(st.lists(st.fixed_dictionaries({}, optional=types), min_size=1, max_size=8))


operands = st.one_of(scalars, scalars, odd, nested, huge)
bounds = st.one_of(whole, fractions, texts, st.booleans(), huge, odd, st.none())
patterns = st.sampled_from(["^a", "^ab", "^a$", "b", "^", "^A", "^a?b", r"^\.", "a|b", "^é"])
operators = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), operands),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), bounds),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), bounds),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(operands, max_size=4)),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(whole | texts | st.none(), min_size=41, max_size=45)),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$type"), st.sampled_from(
        ["number", "double", "int", "string", "bool", "object", "array", "null", ["null", "string"], ["int", "bool"]])),
    st.tuples(st.just("$regex"), patterns),
    st.tuples(st.just("$mod"), st.just([2, 1])),
    st.tuples(st.just("$size"), st.integers(0, 2)),
)  # fmt: skip
several = st.lists(operators, min_size=1, max_size=2).map(dict)
conditions = st.one_of(
    operands.filter(lambda value: not isinstance(value, dict)),
    several,
    several,
    several.map(lambda some: {"$not": some}),
    patterns.map(re.compile),
)
filters = st.recursive(
    st.dictionaries(st.sampled_from(PATHS), conditions, min_size=1, max_size=2),
    lambda inner: st.tuples(
        st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)
    ).map(lambda pair: dict([pair])),
    max_leaves=4,
)


def exported(folder, documents, places=None):
    """Put documents into an archive, export that, and open it; also return the documents as they come out."""
    path = folder / f"night{next(NUMBERS)}.db"
    kept = []
    database = Database(path, read_only=False)
    with database.writing() as connection:
        database.create_catalog(CATALOG)
        for number, document in enumerate(documents):
            named = {"_id": f"{number:024x}"} | document
            text, extras = to_text(named)
            ra, dec = (None, None) if places is None else map(float, places[number])
            cell = None if ra is None else int(cells_of(np.array([ra]), np.array([dec]))[0])
            connection.execute(
                f"INSERT INTO {quoted(CATALOG)} (_id, received, digest, images, document, extras, ra, dec, hpx) "
                "VALUES (?, 0, x'', 0, ?, ?, ?, ?, ?)",
                (named["_id"], text, extras, ra, dec, cell),
            )
            kept.append(read_document(text, extras, None))
    export(database, folder / f"{path.stem}-export")
    database.close()
    path.unlink()
    return open_archive(f"duckdb:///{folder / f'{path.stem}-export'}"), kept


def ids(documents):
    return sorted(document["_id"] for document in documents)


@settings(quick, max_examples=75)
@given(catalogs(), st.lists(filters, min_size=8, max_size=16))
def test_what_is_found_is_what_matches(tmp_path, documents, some):
    archive, kept = exported(tmp_path, documents)
    with archive:
        for condition in some:
            checked = check_filter(condition)
            expected = ids(document for document in kept if matches(document, checked))
            assert ids(archive.find(CATALOG, condition)) == expected
            assert archive.count(CATALOG, condition) == len(expected)
            assert archive.count(CATALOG, condition, skip=1, limit=2) == min(2, max(0, len(expected) - 1))


orders = st.lists(
    st.tuples(st.sampled_from(["a", "b.x", "c", "c.0", "nothing"]), st.sampled_from([1, -1])),
    min_size=1, max_size=2, unique_by=lambda pair: pair[0],
)  # fmt: skip


@settings(quick, max_examples=30)
@given(catalogs(), st.lists(st.tuples(st.just({}) | filters, orders, st.integers(0, 2), st.none() | st.integers(1, 3)),
                            min_size=4, max_size=8))  # fmt: skip
def test_documents_come_in_their_order(tmp_path, documents, some):
    archive, kept = exported(tmp_path, documents)
    with archive:
        for condition, order, skip, limit in some:
            found = archive.find(CATALOG, condition, sort=[*order, ("_id", 1)], skip=skip, limit=limit)
            checked = check_filter(condition)
            expected = sort_documents([d for d in kept if matches(d, checked)], [*order, ("_id", 1)])
            expected = expected[skip : None if limit is None else skip + limit]
            assert [d["_id"] for d in found] == [d["_id"] for d in expected]


@settings(quick, max_examples=30)
@given(catalogs(), st.lists(st.tuples(st.just({}) | filters, st.sampled_from(PATHS)), min_size=4, max_size=8))
def test_distinct_values_are_those_of_the_documents(tmp_path, documents, some):
    archive, kept = exported(tmp_path, documents)
    with archive:
        for condition, field in some:
            checked = check_filter(condition)
            expected = distinct_values([d for d in kept if matches(d, checked)], field)
            assert same(archive.distinct(CATALOG, field, condition), expected)


accumulators = st.one_of(
    st.tuples(st.sampled_from(["$sum", "$avg", "$min", "$max"]), st.sampled_from(["$a", "$A", "$b.x", "$c"])),
    st.sampled_from([("$sum", 1), ("$sum", 3), ("$count", {}), ("$first", "$a"), ("$sum", 0.5)]),
)
keys = st.sampled_from(
    [None, "all", "$a", "$A", "$b.x", "$c", "$nothing", {"a": "$a"}, {"a": "$a", "c": "$c"}, {"$type": "$a"}]
)
groups = st.tuples(keys, st.dictionaries(st.sampled_from("mMn"), accumulators.map(lambda pair: dict([pair])))).map(
    lambda pair: {"$group": {"_id": pair[0], **pair[1]}}
)  # fmt: skip
having = st.dictionaries(
    st.sampled_from(["_id", "_id.a", "m", "n"]), several | scalars, min_size=1, max_size=2
).map(lambda condition: {"$match": condition})
tails = st.sampled_from([
    [], [{"$sort": {"_id": 1}}], [{"$sort": {"_id": -1}}, {"$limit": 2}], [{"$count": "groups"}],
    [{"$sort": {"_id": 1}}, {"$skip": 1}, {"$limit": 3}], [{"$sort": {"_id": 1}}, {"$addFields": {"z": "$n"}}],
])  # fmt: skip


@settings(quick, max_examples=60)
@given(catalogs(), st.lists(st.tuples(st.lists(filters.map(lambda f: {"$match": f}), max_size=1), groups,
                                      st.lists(having, max_size=1), tails), min_size=6, max_size=10))  # fmt: skip
def test_groups_are_what_the_language_says(tmp_path, documents, some):
    archive, kept = exported(tmp_path, documents)
    with archive:
        for first, group, then, tail in some:
            pipeline = [*first, group, *then, *tail]
            checked = check_pipeline(pipeline)
            expected = outcome(lambda: run_pipeline(copy.deepcopy(kept), checked))  # noqa: B023
            found = outcome(lambda: archive.aggregate(CATALOG, pipeline))  # noqa: B023
            in_order = "$sort" in str(tail)
            assert same(found, expected) if in_order else same_groups(found, expected), pipeline


def outcome(run):
    try:
        return list(run())
    except FilterError as error:  # an expression that can't work on a value
        return type(error)


def same_groups(left, right):
    """Compare groups in any order."""
    if not isinstance(left, list) or not isinstance(right, list):
        return left == right
    rest = list(right)
    for group in left:
        match = next((other for other in rest if same(group, other)), None)
        if match is None:
            return False
        rest.remove(match)
    return not rest


def same(left, right):
    """Compare values; sums of fractions may be rounded at other places, and 1 be written 1.0."""
    if isinstance(left, float) and isinstance(right, float) and math.isfinite(left):
        return math.isclose(left, right, rel_tol=1e-12)
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return equal(left, right) if not isinstance(left, type) else left is right


# Places --------------------------------------------------------------------------------------------------------------

longitudes = st.sampled_from([0.0, 1e-6, 359.999999, 90.0, 123.4])
latitudes = st.sampled_from([90.0, 89.9999, -90.0, -89.99, 0.0, 41.8, 45.0])
spots = st.lists(st.tuples(longitudes, latitudes), min_size=1, max_size=3)
radii = st.sampled_from([0.1, 2.0, 60.0, 3600.0, 10 * 3600.0, 179 * 3600.0])


@settings(quick, max_examples=30)
@given(spots, radii, st.integers(0, 2**32 - 1), st.none() | st.integers(1, 3), st.sampled_from([0.0, 0.3]))
def test_cones_are_those_of_brute_force(tmp_path, centres, radius_arcsec, seed, limit, least):
    rng = np.random.default_rng(seed)
    near = np.repeat(np.array(centres), 20, axis=0) + rng.normal(
        0, radius_arcsec / 3600, (20 * len(centres), 2)
    )
    places = np.stack([near[:, 0] % 360, np.clip(near[:, 1], -90, 90)], axis=1)
    archive, kept = exported(tmp_path, [{"a": number % 3} for number in range(len(places))], places)
    with archive:
        found = archive.near(
            CATALOG, centres, f"{radius_arcsec} arcsec", min_distance=f"{least * radius_arcsec} arcsec",
            filter={"a": {"$ne": 1}}, limit=limit,
        ).docs  # fmt: skip
    expected = []
    for index, (ra, dec) in enumerate(centres):
        distance = separation_arcsec(ra, dec, *places.T)
        inside = [
            (float(distance[row]), document["_id"])
            for row, document in enumerate(kept)
            if least * radius_arcsec <= distance[row] <= radius_arcsec and document["a"] != 1
        ]
        expected += [(index, *hit) for hit in sorted(inside)[:limit]]
    hits = [(hit["input_index"], hit["separation_arcsec"], hit["_id"]) for hit in found]
    assert [hit[0] for hit in hits] == [hit[0] for hit in expected]
    assert np.allclose([hit[1] for hit in hits], [hit[1] for hit in expected], rtol=0, atol=1e-9)
    assert {hit[2] for hit in hits} == {hit[2] for hit in expected}


@settings(quick, max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(0.0, 10.0), (359.5, -3.0), (20.0, 89.0)]),
    st.sampled_from([1, 8]),
)
def test_regions_are_those_of_brute_force(tmp_path, seed, centre, size):
    rng = np.random.default_rng(seed)
    places = np.stack(
        [
            (centre[0] + rng.normal(0, size, 60)) % 360,
            np.clip(centre[1] + rng.normal(0, size, 60), -89, 89.9),
        ],
        axis=1,
    )
    archive, kept = exported(tmp_path, [{}] * len(places), places)
    region = Polygon([places[0], places[1], places[2]])
    with archive:
        found = ids(archive.region_search(CATALOG, region))
    assert found == [d["_id"] for d, inside in zip(kept, region.contains(*places.T), strict=True) if inside]
