"""Pipelines and expressions against mongomock and against plain Python, and against whatever strangers may send."""

from __future__ import annotations

import copy
import math
import warnings
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from nuncius.archives.language import (
    MISSING,
    Projection,
    check_expression,
    check_filter,
    check_pipeline,
    compare,
    equal,
    evaluate,
    matches,
    run_pipeline,
)
from nuncius.archives.language.functions.table import FUNCTIONS
from nuncius.archives.language.grouping import ACCUMULATIONS
from nuncius.archives.language.matching import TESTS
from nuncius.archives.language.pipelines import ALL_STAGES
from nuncius.archives.language.values import order_key
from nuncius.errors import FilterError, ForbiddenError, NunciusError, UnsupportedError

quietly = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


@pytest.fixture(scope="module")
def collection():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mongomock = pytest.importorskip("mongomock", reason="mongomock is not installed")
        return mongomock.MongoClient().db.collection


def theirs(collection, documents, stages):
    collection.delete_many({})
    collection.insert_many(copy.deepcopy(documents))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(collection.aggregate(copy.deepcopy(stages)))


def ours(documents, stages, lookup=None):
    return list(run_pipeline(documents, check_pipeline(stages), lookup))


# mongomock ------------------------------------------------------------------------------------------------------------
#
# Left out is where mongomock 4.3.0 differs from MongoDB's manual: it compares true with 1, does not order values of
# different types, has a missing value equal to null, and computes with null; $addToSet makes null of 0, $concatArrays
# leaves a path in an array as it is, includeArrayIndex is not set for an empty array; $count of nothing gives 0, and a
# $group of nothing may give a group, and $sum of a number fails. It has no $unset, $cmp, $strLenCP and $reduce.

numbers = st.integers(-5, 5) | st.sampled_from([0.5, 1.5, 2.25])


def comparisons(inner):
    return st.tuples(
        st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]),
        st.lists(inner, min_size=2, max_size=2),
    ).map(lambda pair: dict([pair]))


documents = st.lists(
    st.fixed_dictionaries(
        {"n": numbers, "k": st.integers(0, 3), "s": st.sampled_from(["a", "b", "ab", "ba"]),
         "list": st.lists(st.integers(-3, 3), max_size=3), "d": st.fixed_dictionaries({"x": numbers, "y": numbers})},
    ),
    min_size=1, max_size=6,
).map(lambda several: [{"_id": number, **document} for number, document in enumerate(several)])  # fmt: skip
number_paths = st.sampled_from(["$n", "$k", "$d.x", "$d.y", "$_id"])
number_expressions = st.recursive(
    number_paths | st.integers(-3, 3),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["$add", "$multiply"]), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("$subtract"), st.lists(inner, min_size=2, max_size=2)),
        st.tuples(st.sampled_from(["$abs", "$ceil", "$floor"]), inner),
        st.tuples(
            st.just("$cond"), st.fixed_dictionaries({"if": comparisons(inner), "then": inner, "else": inner})
        ),
        st.tuples(st.just("$size"), st.just("$list")),
    ).map(lambda pair: dict([pair])),
    max_leaves=5,
)


text_expressions = st.one_of(
    st.just("$s"),
    st.just({"$concat": ["$s", "-", "$s"]}),
    st.just({"$toUpper": "$s"}),
    st.just({"$substr": ["$s", 0, 1]}),
    st.just({"$split": ["$s", "b"]}),
    st.just({"$ifNull": ["$nothing", "$s"]}),
)
array_expressions = st.one_of(
    st.just({"$filter": {"input": "$list", "as": "i", "cond": {"$gt": ["$$i", 0]}}}),
    st.just({"$map": {"input": "$list", "as": "i", "in": {"$add": ["$$i", "$k"]}}}),
    st.just({"$slice": ["$list", 2]}),
    st.just({"$concatArrays": ["$list", "$list"]}),
    st.just({"$in": ["$k", "$list"]}),
    st.just({"$isArray": "$list"}),
)
computed = number_expressions | text_expressions | array_expressions
simple_filters = st.dictionaries(
    st.sampled_from(["n", "k", "d.x", "list"]),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq", "$ne"]), numbers).map(
        lambda p: dict([p])
    ),
    min_size=1,
    max_size=2,
)
accumulators = st.one_of(
    st.tuples(st.sampled_from(["$sum", "$avg", "$min", "$max"]), number_expressions),
    st.tuples(st.sampled_from(["$first", "$last", "$push"]), computed),
    st.just(("$addToSet", "$s")),
).map(lambda pair: dict([pair]))
steps = st.one_of(
    simple_filters.map(lambda condition: {"$match": condition}),
    comparisons(number_expressions).map(lambda c: {"$match": {"$expr": c}}),
    st.dictionaries(st.sampled_from(["n", "k", "s"]), st.sampled_from([1, -1]), min_size=1, max_size=2).map(
        lambda order: {"$sort": order}
    ),
    st.integers(0, 3).map(lambda skip: {"$skip": skip}),
    st.integers(1, 4).map(lambda limit: {"$limit": limit}),
    st.dictionaries(st.sampled_from(["p", "q"]), computed, min_size=1, max_size=2).map(lambda f: {"$addFields": f}),
    st.just({"$unwind": "$list"}),
    st.just({"$unwind": {"path": "$list", "preserveNullAndEmptyArrays": True}}),
)  # fmt: skip
ends = st.one_of(
    st.just([]),
    st.just([{"$count": "number"}]),
    st.dictionaries(st.sampled_from(["p", "q"]), computed, min_size=1, max_size=2).map(lambda f: [{"$project": f}]),
    st.sampled_from([[{"$project": {"n": 1, "d.x": 1}}], [{"$project": {"d.y": 0, "s": 0}}]]),
    st.tuples(st.sampled_from(["$k", "$s", None]), st.dictionaries(st.sampled_from("xyz"), accumulators, max_size=2)).map(
        lambda pair: [{"$group": {"_id": pair[0], **pair[1]}}]
    ),
)  # fmt: skip


def in_any_order(documents, stages):
    if any("$group" in stage for stage in stages):
        documents = [
            {
                name: sorted(value, key=order_key) if isinstance(value, list) else value
                for name, value in document.items()
            }
            for document in documents
        ]
        return sorted(documents, key=lambda document: order_key(document["_id"]))
    return documents


def same(left, right):
    if isinstance(left, float) or isinstance(right, float):
        return left == pytest.approx(right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return equal(left, right)


@settings(max_examples=250, **quietly)
@given(documents, st.lists(steps, max_size=3), ends)
def test_pipelines_give_what_they_give_in_mongomock(collection, some, middle, end):
    stages = [*middle, *end]
    try:
        found = in_any_order(ours(some, stages), stages)
    except FilterError:  # an array where a number belongs, after an $unwind
        with pytest.raises((OperationFailure, TypeError)):
            theirs(collection, some, stages)
        return
    if found or not any("$group" in stage or "$count" in stage for stage in stages):
        assert same(found, in_any_order(theirs(collection, some, stages), stages))


@settings(max_examples=50, **quietly)
@given(documents, documents, st.sampled_from(["k", "d.x"]), st.sampled_from(["k", "n", "list"]))
def test_joins_give_what_they_give_in_mongomock(collection, left, right, local, foreign):
    other = collection.database.other
    other.delete_many({})
    other.insert_many(copy.deepcopy(right))
    stages = [{"$lookup": {"from": "other", "localField": local, "foreignField": foreign, "as": "o"}}]
    assert ours(left, stages, lambda _: right) == theirs(collection, left, stages)


# Plain Python --------------------------------------------------------------------------------------------------------

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=True)
    | st.text(max_size=4)
    | st.binary(max_size=3)
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c", "0"]), inner, max_size=3)
    ),
    max_leaves=6,
)
rows = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), anything | st.integers(0, 2), max_size=3), max_size=8
)


@settings(max_examples=100, deadline=None)
@given(anything, anything, anything)
def test_the_order_of_values_is_one(a, b, c):
    assert compare(a, b) == -compare(b, a)
    assert compare(a, a) == 0
    assert equal(a, b) == (compare(a, b) == 0)
    if compare(a, b) <= 0 and compare(b, c) <= 0:
        assert compare(a, c) <= 0
    assert hash(order_key(a)) == hash(order_key(copy.deepcopy(a)))


@settings(max_examples=100, deadline=None)
@given(rows)
def test_groups_are_those_of_a_naive_loop(some):
    naive: list = []
    for row in some:
        value = row.get("a")
        for group in naive:
            if equal(group["_id"], value):
                break
        else:
            group = {"_id": value, "n": 0, "b": []}
            naive.append(group)
        group["n"] += 1
        group["b"] += [row["b"]] if "b" in row else []
    found = ours(some, [{"$group": {"_id": "$a", "n": {"$sum": 1}, "b": {"$push": "$b"}}}])
    assert len(found) == len(naive)
    assert all(equal(left, right) for left, right in zip(found, naive, strict=True))


@settings(max_examples=100, deadline=None)
@given(rows, st.sampled_from([1, -1]), st.integers(0, 4), st.integers(1, 4))
def test_a_sort_with_a_limit_is_the_sort_cut(some, direction, skip, limit):
    numbered = [{"_id": number, **row} for number, row in enumerate(some)]
    whole = ours(numbered, [{"$sort": {"a": direction, "b": 1}}])
    cut = ours(numbered, [{"$sort": {"a": direction, "b": 1}}, {"$skip": skip}, {"$limit": limit}])
    assert [row["_id"] for row in cut] == [row["_id"] for row in whole][skip : skip + limit]


@settings(max_examples=100, deadline=None)
@given(rows)
def test_stages_one_after_the_other_are_the_pipeline(some):
    stages = [
        {"$addFields": {"d": {"$type": "$a"}}},
        {"$unwind": {"path": "$b", "preserveNullAndEmptyArrays": True}},
        {"$match": {"d": {"$ne": "bool"}}},
        {"$group": {"_id": "$d", "n": {"$sum": 1}, "max": {"$max": "$b"}}},
        {"$sort": {"n": -1, "_id": 1}},
    ]
    one_by_one = some
    for stage in stages:
        one_by_one = ours(one_by_one, [stage])
    together = ours(some, stages)
    assert len(together) == len(one_by_one)
    assert all(equal(left, right) for left, right in zip(together, one_by_one, strict=True))


@settings(max_examples=100, deadline=None)
@given(rows, st.lists(st.integers(-3, 3), min_size=2, max_size=4, unique=True).map(sorted))
def test_each_document_is_in_one_bucket(some, boundaries):
    by_hand = ours(some, [{"$bucket": {"groupBy": "$a", "boundaries": boundaries, "default": "other"}}])
    assert sum(bucket["count"] for bucket in by_hand) == len(some)
    for number in (1, 2, 5):
        automatic = ours(some, [{"$bucketAuto": {"groupBy": "$a", "buckets": number}}])
        assert sum(bucket["count"] for bucket in automatic) == len(some)
        assert len(automatic) <= number
        assert all(compare(b["_id"]["min"], b["_id"]["max"]) <= 0 for b in automatic)


# Strangers -----------------------------------------------------------------------------------------------------------

words = st.sampled_from([
    *FUNCTIONS, *TESTS, *ACCUMULATIONS, *ALL_STAGES, "$out", "$where", "$function", "$geometry", "$maxDistance", "input",
    "in", "as", "cond", "n", "sortBy", "output", "date", "unit", "timezone", "_id", "a", "a.b", "$a", "$$this", "$$ROOT",
    "", "$", "$$", "path", "from", "pipeline", "near", "key", "boundaries", "groupBy", "size", "vars", "let",
])  # fmt: skip
garbage = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.sampled_from([2**70, -(2**63), 1e308, math.nan, math.inf, 0.5])
    | words | st.text(max_size=3) | st.datetimes() | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


def outcome(call, *arguments):
    """Return what a call gives, or the error of ours that it raises; all others fail the test."""
    try:
        return call(*arguments)
    except (FilterError, ForbiddenError, UnsupportedError) as error:
        return error


def is_refusal(found):
    return isinstance(found, NunciusError) and found.position is not None


@settings(max_examples=250, deadline=None)
@given(garbage, rows)
def test_whatever_is_given_as_a_filter_is_refused_or_has_an_answer(given_filter, some):
    checked = outcome(check_filter, given_filter)
    if not isinstance(checked, dict):
        assert is_refusal(checked)
        return
    for row in some:
        found = outcome(matches, row, checked)
        assert found is True or found is False or is_refusal(found)


@settings(max_examples=250, deadline=None)
@given(garbage, rows)
def test_whatever_is_given_as_a_projection_is_refused_or_has_an_answer(given_projection, some):
    projection = outcome(Projection, given_projection)
    if not isinstance(projection, Projection):
        assert is_refusal(projection)
        return
    for row in some:
        found = outcome(projection.apply, row)
        assert isinstance(found, dict) or is_refusal(found)


@settings(max_examples=250, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*ALL_STAGES]), garbage).map(lambda p: dict([p])), max_size=3)
    | garbage,
    rows,
)
def test_whatever_is_given_as_a_pipeline_is_refused_or_has_an_answer(stages, some):
    checked = outcome(check_pipeline, stages)
    if not isinstance(checked, list):
        assert is_refusal(checked)
        return
    found = outcome(lambda: list(run_pipeline(some, checked, lambda _: some)))
    assert is_refusal(found) or all(isinstance(document, dict) for document in found)


values = anything | st.sampled_from(
    ["$a", "$b", "$c.a", "$$ROOT", "UTC", "day", "int", "^a", "%Y", "approximate"]
)


@st.composite
def calls(draw, inner):
    name = draw(st.sampled_from(sorted(FUNCTIONS)))
    function = FUNCTIONS[name]
    if function.required and draw(st.booleans() if function.most else st.just(True)):
        optional = [key for key in function.optional if draw(st.booleans())]
        names = {"as": st.just("this"), "sortBy": st.sampled_from([1, -1]), "method": st.just("approximate")}
        return {name: {key: draw(names.get(key, inner)) for key in (*function.required, *optional)}}
    most = min(4, 4 if function.most is None else function.most)
    return {
        name: draw(st.lists(inner, min_size=min(function.least, most), max_size=max(most, function.least)))
    }


@settings(max_examples=600, deadline=None)
@given(st.recursive(values, calls, max_leaves=8), rows)
@example({"$pow": [10, 10**9]}, [{}])
@example({"$dateAdd": {"startDate": datetime(2000, 1, 1, tzinfo=UTC), "unit": "year", "amount": 1e308}}, [{}])
@example({"$dateTrunc": {"date": datetime(1, 1, 1, tzinfo=UTC), "unit": "year", "binSize": 2**62}}, [{}])
def test_an_expression_has_a_value_or_an_error_of_ours(expression, some):
    checked = outcome(check_expression, expression)
    if is_refusal(checked):
        return
    for row in some:
        value = outcome(evaluate, checked, row)
        assert is_refusal(value) or value is MISSING or order_key(value) is not None
