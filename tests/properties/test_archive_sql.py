"""What SQL decides, and what it leaves to the matcher, against the matcher alone and against mongomock."""

from __future__ import annotations

import copy
import json
import math
import re
import warnings
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nuncius._core.jsontext import to_text
from nuncius.archives.embedded import query
from nuncius.archives.embedded.database import Database, quoted
from nuncius.archives.embedded.rows import read_document
from nuncius.archives.language import (
    Projection,
    check_filter,
    check_pipeline,
    check_sort,
    distinct_values,
    matches,
    run_pipeline,
    sort_documents,
)
from nuncius.errors import FilterError

CATALOG = "survey_alerts"
WHEN = datetime(2026, 1, 2, tzinfo=UTC)
INDEXED = ("a", "b.x", "c")
PATHS = (
    "a",
    "b",
    "b.x",
    "b.x.y",
    "c",
    "c.0",
    "c.x",
    "b.0.x",
    "nothing",
    "annotations.broker.n",
    "cutoutScience",
)
quick = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

numbers = st.one_of(
    st.integers(-3, 3),
    st.integers(299, 300).map(lambda exponent: 10**exponent),
    st.sampled_from([
        0.5, 1.0, -0.0, 2.5, 1e-320, 1.7976931348623157e308, 0.1 + 0.2, 0.3, math.nextafter(0.3, 0), 2**53, 2**53 + 1,
        float(2**53), 2475433850215010007, 2475433850215010008, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1,
        float(2**63), 2475433850215010007.0,
    ]),
)  # fmt: skip
odd_numbers = st.sampled_from([math.nan, math.inf, -math.inf])
texts = st.sampled_from(
    ["", "a", "b", "ab", "a\0", "a\0b", "A", "é", "\U0001f600", "\uffff", "5", "0.5", '"', "\\", "null"]
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
extras = st.one_of(odd_numbers, st.sampled_from([b"a", b"", WHEN, WHEN + timedelta(1)]))
leaves = st.one_of(scalars, scalars, scalars, extras)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xy0"), inner, max_size=2),
    max_leaves=5,
)
documents = st.fixed_dictionaries(
    {}, optional={"a": values, "b": values, "c": values, "annotations": values, "cutoutScience": values}
)
rows = st.tuples(
    documents, st.none() | st.fixed_dictionaries({"broker": st.fixed_dictionaries({"n": leaves})})
)
archives = st.lists(rows, min_size=1, max_size=8)

beyond = st.integers(400, 401).map(lambda exponent: 10**exponent)
operands = st.one_of(scalars, scalars, extras, values, beyond)
comparable = st.one_of(scalars, extras, beyond)
patterns = st.sampled_from(["^a", "^a$", "b", "^", "^A", "^a?b", r"^\.", "a|b", "^é", "^a\\x00"])
operators = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), operands),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), comparable),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), numbers),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(operands, max_size=4)),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(scalars, min_size=21, max_size=25)),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$type"), st.sampled_from(
        ["number", "double", "int", "long", "string", "bool", "object", "array", "null", "date", "binData"])),
    st.tuples(st.just("$regex"), patterns),
    st.tuples(st.just("$size"), st.integers(0, 3)),
    st.tuples(st.just("$all"), st.lists(operands, max_size=2)),
    st.tuples(st.just("$mod"), st.tuples(st.sampled_from([1, 2, -2, 3, 2**62, 2**70]), st.integers(-2, 2)).map(list)),
    st.tuples(st.just("$elemMatch"), st.sampled_from([{"$gt": 0}, {"x": 1}, {"$in": [1, "a"]}])),
    st.tuples(st.just("$bitsAllSet"), st.integers(0, 3)),
)  # fmt: skip
several = st.lists(operators, min_size=1, max_size=3).map(dict)
conditions = st.one_of(
    operands.filter(
        lambda value: not isinstance(value, dict) or not any(key.startswith("$") for key in value)
    ),
    several,
    several,
    several.map(lambda some: {"$not": some}),
    patterns.map(re.compile),
)
parts = st.dictionaries(st.sampled_from(PATHS), st.deferred(lambda: conditions), min_size=1, max_size=2)
filters = st.recursive(
    parts,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)).map(
            lambda pair: dict([pair])
        ),
        st.tuples(inner, inner).map(lambda two: two[0] | two[1]),
    ),
    max_leaves=4,
)


class Shelf:
    """A catalog that is filled anew for each example."""

    def __init__(self, path, *, indexed):
        self.database = Database(path, read_only=False)
        with self.database.writing():
            self.database.create_catalog(CATALOG)
        for field in INDEXED if indexed else ():
            query.create_index(self.database, CATALOG, field)

    def fill(self, rows):
        """Put documents in; return them as they come out, with images and annotations."""
        kept = []
        with self.database.writing() as connection:
            connection.execute(f"DELETE FROM {quoted(CATALOG)}")
            connection.execute(f"DELETE FROM {quoted(f'{CATALOG}:images')}")
            for number, (document, brokers) in enumerate(rows):
                image = document.get("cutoutScience")
                has_image = isinstance(image, bytes)
                named = {"_id": f"{number:024x}"} | {
                    name: value
                    for name, value in document.items()
                    if name != "cutoutScience" or not has_image
                }
                text, others = to_text(named)
                notes = None
                if brokers is not None:
                    made = {name: to_text(value) for name, value in brokers.items()}
                    notes = json.dumps(
                        {name: part[0] if part[1] is None else part for name, part in made.items()}
                    )
                connection.execute(
                    f"INSERT INTO {quoted(CATALOG)} (_id, received, digest, images, document, extras, annotations) "
                    "VALUES (?, 0, ?, ?, ?, ?, ?)",
                    (named["_id"], b"", int(has_image), text, others, notes),
                )
                shown = read_document(text, others, notes)
                if has_image:
                    (row,) = connection.execute("SELECT last_insert_rowid()").fetchone()
                    connection.execute(
                        f"INSERT INTO {quoted(f'{CATALOG}:images')} VALUES (?, 'cutoutScience', NULL, ?)",
                        (row, image),
                    )
                    shown["cutoutScience"] = image
                kept.append(shown)
        return kept

    def find(self, condition, order=(), skip=0, limit=None):
        """Return the ids of what is found."""
        found = query.find(self.database, CATALOG, condition, Projection(["_id"]), list(order), skip, limit)
        return [document["_id"] for document in found]


@pytest.fixture(scope="module", params=[False, True], ids=["without indexes", "with indexes"])
def shelf(request, tmp_path_factory):
    made = Shelf(tmp_path_factory.mktemp("shelf") / "night.db", indexed=request.param)
    yield made
    made.database.close()


@settings(quick, max_examples=400)
@given(archives, filters)
def test_what_is_found_is_what_matches(shelf, some, condition):
    checked = check_filter(condition)
    kept = shelf.fill(some)
    expected = [document["_id"] for document in kept if matches(document, checked)]
    assert shelf.find(checked) == expected
    assert query.count(shelf.database, CATALOG, checked) == len(expected)
    assert query.count(shelf.database, CATALOG, checked, 1, 2) == min(2, max(0, len(expected) - 1))


orders = st.lists(
    st.tuples(st.sampled_from(["a", "b.x", "c", "_id", "c.0", "nothing"]), st.sampled_from([1, -1])),
    min_size=1, max_size=2, unique_by=lambda pair: pair[0],
)  # fmt: skip
plain_rows = st.lists(
    st.tuples(st.fixed_dictionaries({}, optional={"a": scalars, "c": scalars}), st.none()),
    min_size=1,
    max_size=8,
)


@settings(quick, max_examples=150)
@given(archives | plain_rows, st.just({}) | filters, orders, st.integers(0, 2), st.none() | st.integers(0, 3))
def test_documents_come_in_their_order(shelf, some, condition, order, skip, limit):
    checked = check_filter(condition)
    kept = [document for document in shelf.fill(some) if matches(document, checked)]
    expected = [document["_id"] for document in sort_documents(kept, check_sort(order))]
    expected = expected[skip : None if limit is None else skip + limit]
    assert shelf.find(checked, check_sort(order), skip, limit) == expected


@settings(quick, max_examples=125)
@given(archives | plain_rows, st.just({}) | filters, st.sampled_from(PATHS))
def test_distinct_values_are_those_of_the_documents(shelf, some, condition, field):
    checked = check_filter(condition)
    kept = [document for document in shelf.fill(some) if matches(document, checked)]
    found = query.distinct(shelf.database, CATALOG, field, checked)
    assert repr(found) == repr(distinct_values(kept, field))


accumulators = st.one_of(
    st.tuples(st.sampled_from(["$sum", "$avg", "$min", "$max"]), st.sampled_from(["$a", "$b.x", "$c"])),
    st.sampled_from([("$sum", 1), ("$sum", 3), ("$count", {}), ("$first", "$a")]),
)
group_keys = st.sampled_from(
    [None, "all", "$a", "$b.x", "$c", "$nothing", {"a": "$a"}, {"a": "$a", "c": "$c"}, {"$type": "$a"}]
)
groups = st.tuples(
    group_keys, st.dictionaries(st.sampled_from("mn"), accumulators.map(lambda pair: dict([pair])))
).map(lambda pair: {"$group": {"_id": pair[0], **pair[1]}})
stages = st.one_of(
    groups, groups, groups,
    st.sampled_from([
        {"$count": "n"}, {"$sortByCount": "$a"}, {"$sort": {"a": 1, "_id": -1}}, {"$skip": 1}, {"$limit": 3},
        {"$match": {"a": {"$gt": 0}}}, {"$match": {"$expr": {"$eq": ["$a", "$c"]}}}, {"$unset": "cutoutScience"},
        {"$project": {"a": 1}}, {"$project": {"cutoutScience": 0}}, {"$unwind": "$c"}, {"$addFields": {"n": "$a"}},
        {"$group": {"_id": "$a", "all": {"$push": "$$ROOT"}}}, {"$facet": {"x": [{"$match": {"a": 1}}], "y": [{"$count": "n"}]}},
    ]),
)  # fmt: skip


def _outcome(run):
    try:
        return list(run())
    except FilterError as error:  # an expression that can't work on a value
        return type(error)


def _same(left, right):
    """Compare values; sums of fractions may be rounded at other places."""
    if isinstance(left, float) and isinstance(right, (int, float)) and not isinstance(right, bool):
        return left == right or (left != left and right != right) or math.isclose(left, right, rel_tol=1e-12)  # noqa: PLR0124
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, int) and isinstance(right, float):
        return _same(right, left)
    return type(left) is type(right) and left == right


@settings(quick, max_examples=175)
@given(
    archives | plain_rows,
    st.lists(filters.map(lambda f: {"$match": f}), max_size=1),
    st.lists(stages, min_size=1, max_size=3),
)
def test_pipelines_give_what_the_language_says(shelf, some, first, rest):
    pipeline = check_pipeline([*first, *rest])
    kept = shelf.fill(some)
    expected = _outcome(lambda: run_pipeline(copy.deepcopy(kept), pipeline))
    found = _outcome(lambda: query.aggregate(shelf.database, CATALOG, pipeline))
    assert _same(found, expected), (found, expected)


# mongomock knows the plain cases; where it is itself wrong is said in the tests of the language.

known_values = st.none() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, "a", "b", "ab"])
known_documents = st.fixed_dictionaries(
    {}, optional={"a": known_values, "c": known_values | st.lists(known_values, max_size=3)}
)
known_operators = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), known_values),
    st.tuples(
        st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), st.integers(-3, 3) | st.sampled_from([0.5, "a", "b"])
    ),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(known_values, max_size=3)),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$regex"), st.sampled_from(["^a", "b$", "."])),
)
known_filters = st.recursive(
    st.dictionaries(
        st.sampled_from("ac"), known_values | known_operators.map(lambda pair: dict([pair])), min_size=1
    ),
    lambda inner: st.tuples(
        st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)
    ).map(lambda pair: dict([pair])),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def collection():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mongomock = pytest.importorskip("mongomock", reason="mongomock is not installed")
        return mongomock.MongoClient().db.collection


@settings(quick, max_examples=150)
@given(st.lists(known_documents, min_size=1, max_size=6), known_filters)
def test_what_is_found_is_what_mongomock_finds(shelf, collection, some, condition):
    collection.delete_many({})
    collection.insert_many([{"_id": f"{number:024x}", **copy.deepcopy(d)} for number, d in enumerate(some)])
    shelf.fill([(document, None) for document in some])
    assert shelf.find(check_filter(condition)) == [found["_id"] for found in collection.find(condition)]
