"""Pipelines: each stage held against what MongoDB's manual says of it."""

from __future__ import annotations

import copy
import itertools
import math

import pytest

from nuncius.archives.language import (
    OPERATORS,
    check_pipeline,
    collections_of,
    distinct_values,
    equal,
    run_pipeline,
)
from nuncius.archives.language.grouping import ACCUMULATIONS
from nuncius.archives.language.matching import LOGICAL, TESTS
from nuncius.archives.language.pipelines import ALL_STAGES, MAX_STAGES
from nuncius.archives.language.sorting import first_documents, sort_documents
from nuncius.errors import FilterError, ForbiddenError, UnsupportedError

ALERTS = [
    {"_id": 1, "id": "a", "fid": 1, "mag": 18.0, "tags": ["x", "y"], "c": {"rb": 0.9}},
    {"_id": 2, "id": "b", "fid": 2, "mag": 19.5, "tags": [], "c": {"rb": 0.1}},
    {"_id": 3, "id": "a", "fid": 2, "mag": 17.5, "tags": None, "c": {"rb": 0.5}},
    {"_id": 4, "id": "c", "fid": 1, "mag": None, "tags": ["y"]},
    {"_id": 5, "id": "b", "fid": 1, "tags": "z", "c": {"rb": 0.7}},
]
OBJECTS = [{"_id": "a", "z": 0.1}, {"_id": "b", "z": 0.2}, {"_id": "d", "z": 0.4}, {"_id": "none", "z": None}]
CATALOGS = {"objects": OBJECTS, "alerts": ALERTS}


def run(stages, documents=ALERTS, lookup=CATALOGS.__getitem__):
    before = copy.deepcopy(documents)
    found = list(run_pipeline(documents, check_pipeline(stages), lookup))
    assert documents == before  # no stage changes what it is given
    return found


def ids(stages, documents=ALERTS):
    return [document["_id"] for document in run(stages, documents)]


ANSWERS = [
    ([], ALERTS),
    ([{"$match": {"fid": 1}}, {"$project": {"mag": 1}}], [{"_id": 1, "mag": 18.0}, {"_id": 4, "mag": None}, {"_id": 5}]),
    ([{"$match": {"$expr": {"$gt": ["$mag", 18]}}}, {"$project": {"id": 1}}], [{"_id": 2, "id": "b"}]),
    ([{"$sort": {"id": 1, "_id": -1}}, {"$project": {"_id": 1}}], [{"_id": i} for i in (3, 1, 5, 2, 4)]),
    ([{"$sort": {"mag": 1}}, {"$limit": 2}, {"$project": {"mag": 1}}], [{"_id": 4, "mag": None}, {"_id": 5}]),
    ([{"$sort": {"mag": -1}}, {"$skip": 1}, {"$limit": 1}, {"$unset": ["tags", "c"]}],
     [{"_id": 1, "id": "a", "fid": 1, "mag": 18.0}]),
    ([{"$skip": 3}, {"$limit": 1}, {"$project": {"id": 1, "_id": 0}}], [{"id": "c"}]),
    ([{"$skip": 9}], []),
    ([{"$count": "n"}], [{"n": 5}]),
    ([{"$match": {"fid": 9}}, {"$count": "n"}], []),
    # Fields.
    ([{"$limit": 1}, {"$project": {"_id": 0, "m": "$mag", "double": {"$multiply": ["$mag", 2]}, "kind": "star"}}],
     [{"m": 18.0, "double": 36.0, "kind": "star"}]),
    ([{"$limit": 1}, {"$project": {"_id": 0, "c": {"rb": 1, "new": "$id"}}}], [{"c": {"rb": 0.9, "new": "a"}}]),
    ([{"$limit": 1}, {"$project": {"tags": 0, "c.rb": 0}}], [{"_id": 1, "id": "a", "fid": 1, "mag": 18.0, "c": {}}]),
    ([{"$limit": 1}, {"$project": {"_id": 0, "t": {"$slice": ["$tags", 1]}}}], [{"t": ["x"]}]),
    ([{"$limit": 1}, {"$addFields": {"c.id": "$id", "mag": "$$REMOVE", "n": 5}}],
     [{"_id": 1, "id": "a", "fid": 1, "tags": ["x", "y"], "c": {"rb": 0.9, "id": "a"}, "n": 5}]),
    ([{"$limit": 1}, {"$set": {"c": {"n": 1}, "tags": {"$size": "$tags"}}}, {"$unset": "id"}],
     [{"_id": 1, "fid": 1, "mag": 18.0, "tags": 2, "c": {"rb": 0.9, "n": 1}}]),
    ([{"$limit": 1}, {"$set": {"c": {"$literal": {"n": 1}}}}, {"$project": {"c": 1, "_id": 0}}], [{"c": {"n": 1}}]),
    ([{"$limit": 1}, {"$replaceRoot": {"newRoot": "$c"}}], [{"rb": 0.9}]),
    ([{"$limit": 1}, {"$replaceWith": {"$mergeObjects": [{"z": 1}, "$c"]}}], [{"z": 1, "rb": 0.9}]),
    # Arrays.
    ([{"$unwind": "$tags"}, {"$project": {"tags": 1}}],
     [{"_id": 1, "tags": "x"}, {"_id": 1, "tags": "y"}, {"_id": 4, "tags": "y"}, {"_id": 5, "tags": "z"}]),
    ([{"$match": {"_id": {"$lt": 4}}}, {"$unwind": {"path": "$tags", "preserveNullAndEmptyArrays": True,
                                                   "includeArrayIndex": "c.i"}}, {"$project": {"tags": 1, "c.i": 1}}],
     [{"_id": 1, "tags": "x", "c": {"i": 0}}, {"_id": 1, "tags": "y", "c": {"i": 1}}, {"_id": 2, "c": {"i": None}},
      {"_id": 3, "tags": None, "c": {"i": None}}]),
    # Groups.
    ([{"$group": {"_id": "$id", "n": {"$sum": 1}, "mag": {"$avg": "$mag"}}}],
     [{"_id": "a", "n": 2, "mag": 17.75}, {"_id": "b", "n": 2, "mag": 19.5}, {"_id": "c", "n": 1, "mag": None}]),
    ([{"$group": {"_id": None, "low": {"$min": "$mag"}, "high": {"$max": "$mag"}, "n": {"$count": {}}}}],
     [{"_id": None, "low": 17.5, "high": 19.5, "n": 5}]),
    ([{"$group": {"_id": "$nothing"}}], [{"_id": None}]),
    ([{"$group": {"_id": {"f": "$fid", "m": "$nothing"}}}], [{"_id": {"f": 1}}, {"_id": {"f": 2}}]),
    ([{"$sortByCount": "$fid"}], [{"_id": 1, "count": 3}, {"_id": 2, "count": 2}]),
    ([{"$bucket": {"groupBy": "$mag", "boundaries": [17, 18, 19, 20], "default": "no"}}],
     [{"_id": 17, "count": 1}, {"_id": 18, "count": 1}, {"_id": 19, "count": 1}, {"_id": "no", "count": 2}]),
    ([{"$bucket": {"groupBy": "$fid", "boundaries": [0, 2, 9], "output": {"ids": {"$push": "$_id"}}}}],
     [{"_id": 0, "ids": [1, 4, 5]}, {"_id": 2, "ids": [2, 3]}]),
    ([{"$bucketAuto": {"groupBy": "$_id", "buckets": 2}}],
     [{"_id": {"min": 1, "max": 4}, "count": 3}, {"_id": {"min": 4, "max": 5}, "count": 2}]),
    ([{"$bucketAuto": {"groupBy": "$fid", "buckets": 4}}],
     [{"_id": {"min": 1, "max": 2}, "count": 3}, {"_id": {"min": 2, "max": 2}, "count": 2}]),
    ([{"$facet": {"n": [{"$count": "n"}], "a": [{"$match": {"id": "a"}}, {"$project": {"_id": 1}}], "none": []}},
      {"$unset": "none"}], [{"n": [{"n": 5}], "a": [{"_id": 1}, {"_id": 3}]}]),
    # Other catalogs.
    ([{"$limit": 2}, {"$lookup": {"from": "objects", "localField": "id", "foreignField": "_id", "as": "c.o"}},
      {"$project": {"c.o": 1}}],
     [{"_id": 1, "c": {"o": [{"_id": "a", "z": 0.1}]}}, {"_id": 2, "c": {"o": [{"_id": "b", "z": 0.2}]}}]),
    ([{"$match": {"_id": 1}}, {"$lookup": {"from": "objects", "as": "o", "let": {"name": "$id"},
       "pipeline": [{"$match": {"$expr": {"$ne": ["$_id", "$$name"]}}}, {"$project": {"z": 1, "_id": 0}}, {"$limit": 2}]}},
      {"$project": {"o": 1}}], [{"_id": 1, "o": [{"z": 0.2}, {"z": 0.4}]}]),
    ([{"$match": {"_id": 1}}, {"$lookup": {"from": "alerts", "localField": "id", "foreignField": "id", "as": "o",
       "let": {"own": "$_id"}, "pipeline": [{"$match": {"$expr": {"$ne": ["$_id", "$$own"]}}}, {"$project": {"_id": 1}}]}},
      {"$project": {"o": 1}}], [{"_id": 1, "o": [{"_id": 3}]}]),
    ([{"$limit": 2}, {"$lookup": {"from": "objects", "as": "n", "pipeline": [{"$count": "n"}]}}, {"$project": {"n": 1}}],
     [{"_id": 1, "n": [{"n": 4}]}, {"_id": 2, "n": [{"n": 4}]}]),
    ([{"$limit": 1}, {"$project": {"id": 1}}, {"$unionWith": "objects"}],
     [{"_id": 1, "id": "a"}, *OBJECTS]),
    ([{"$limit": 1}, {"$project": {"id": 1}},
      {"$unionWith": {"coll": "objects", "pipeline": [{"$match": {"z": {"$gt": 0.3}}}]}}],
     [{"_id": 1, "id": "a"}, {"_id": "d", "z": 0.4}]),
]  # fmt: skip


@pytest.mark.parametrize(("stages", "expected"), ANSWERS, ids=repr)
def test_a_pipeline_gives_what_mongodb_documents(stages, expected):
    assert run(stages) == expected


# Accumulators --------------------------------------------------------------------------------------------------------

VALUES = [
    {"v": 3, "w": "c", "d": {"x": 1}},
    {"v": 1.5, "w": "a", "d": None},
    {"v": None, "w": "b"},
    {"w": "e", "d": {"y": 2}},
    {"v": "t", "w": "d", "d": {"x": 3}},
    {"v": 3.0, "w": "f"},
]


@pytest.mark.parametrize(
    ("accumulator", "expected"),
    [
        ({"$sum": "$v"}, 7.5),
        ({"$sum": 2}, 12),
        ({"$avg": "$v"}, 2.5),
        ({"$min": "$v"}, 1.5),
        ({"$max": "$v"}, "t"),
        ({"$first": "$v"}, 3),
        ({"$last": "$d"}, None),
        ({"$push": "$v"}, [3, 1.5, None, "t", 3.0]),
        ({"$addToSet": "$v"}, [3, 1.5, None, "t"]),
        ({"$count": {}}, 6),
        ({"$stdDevPop": "$v"}, math.sqrt(0.5)),
        ({"$stdDevSamp": "$v"}, math.sqrt(0.75)),
        ({"$mergeObjects": "$d"}, {"x": 3, "y": 2}),
        ({"$firstN": {"input": "$v", "n": 4}}, [3, 1.5, None, None]),
        ({"$lastN": {"input": "$w", "n": 2}}, ["d", "f"]),
        ({"$minN": {"input": "$v", "n": 2}}, [1.5, 3]),
        ({"$maxN": {"input": "$v", "n": 2}}, ["t", 3]),
        ({"$top": {"sortBy": {"w": 1}, "output": "$v"}}, 1.5),
        ({"$bottom": {"sortBy": {"w": 1}, "output": ["$w", "$v"]}}, ["f", 3.0]),
        ({"$topN": {"n": 2, "sortBy": {"w": -1}, "output": "$w"}}, ["f", "e"]),
        ({"$bottomN": {"n": 2, "sortBy": {"w": 1}, "output": "$v"}}, [None, 3.0]),
        ({"$topN": {"n": {"$add": [1, 1]}, "sortBy": {"v": 1, "w": -1}, "output": "$w"}}, ["e", "b"]),
        ({"$median": {"input": "$v", "method": "approximate"}}, 3.0),
        ({"$percentile": {"input": "$v", "p": [0.1, 0.9], "method": "approximate"}}, [1.5, 3.0]),
    ],
    ids=repr,
)
def test_accumulators(accumulator, expected):
    [found] = run([{"$group": {"_id": None, "r": accumulator}}], VALUES)
    assert equal(found["r"], expected) or found["r"] == pytest.approx(expected)


def test_every_accumulator_has_an_answer():
    mark = next(mark for mark in test_accumulators.pytestmark if mark.name == "parametrize")
    assert {operator for accumulator, _ in mark.args[1] for operator in accumulator} == set(ACCUMULATIONS)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [("$firstN", [0, 1, 2]), ("$lastN", [997, 998, 999]), ("$minN", [0, 1, 2]), ("$maxN", [999, 998, 997])],
)
def test_the_n_best_of_many(operator, expected):
    documents = [{"v": number} for number in range(1000)]
    [found] = run([{"$group": {"_id": None, "r": {operator: {"input": "$v", "n": 3}}}}], documents)
    assert found["r"] == expected


@pytest.mark.parametrize(("operator", "expected"), [("$topN", [0, 1, 2]), ("$bottomN", [997, 998, 999])])
def test_the_n_first_of_a_sort_of_many(operator, expected):
    documents = [{"v": number * 617 % 1000} for number in range(1000)]
    group = {"_id": None, "r": {operator: {"n": 3, "sortBy": {"v": 1}, "output": "$v"}}}
    assert run([{"$group": group}], documents)[0]["r"] == expected


def test_how_many_may_depend_on_the_group():
    n = {"$cond": [{"$eq": ["$fid", 1]}, 1, 2]}
    group = {"_id": {"fid": "$fid"}, "ids": {"$firstN": {"input": "$_id", "n": n}}}
    assert run([{"$group": group}]) == [{"_id": {"fid": 1}, "ids": [1]}, {"_id": {"fid": 2}, "ids": [2, 3]}]


def test_groups_tell_types_apart_and_numbers_not():
    documents = [
        {"v": v} for v in (1, 1.0, True, "1", None, math.nan, math.nan, [1], {"a": 1}, {"a": 1.0})
    ] + [{}]
    found = run([{"$group": {"_id": "$v", "n": {"$sum": 1}}}], documents)
    assert [group["n"] for group in found] == [2, 1, 1, 2, 2, 1, 2]
    assert sum(group["n"] for group in found) == len(documents)


def test_sums_of_whole_numbers_are_exact_and_those_of_floats_lose_nothing():
    documents = [{"v": 2475433850215010007}, {"v": 1}] + [{"v": 0.1}] * 10
    group = {"_id": None, "all": {"$sum": "$v"}}
    assert run([{"$group": group}], documents[:2]) == [{"_id": None, "all": 2475433850215010008}]
    assert run([{"$group": group}], documents[2:]) == [{"_id": None, "all": 1.0}]
    assert run([{"$group": group}], [{"v": 1e308}, {"v": 1e308}]) == [{"_id": None, "all": math.inf}]
    mixed = run([{"$group": group}], [{"v": math.inf}, {"v": -math.inf}])
    assert math.isnan(mixed[0]["all"])


# Joins ---------------------------------------------------------------------------------------------------------------

# How a field of a document (left) is joined to one of another catalog, by MongoDB's own tests of equal joins.
LEFT = {
    0: {},
    1: {"a": None},
    2: {"a": [None, 1]},
    3: {"a": []},
    4: {"a": 1},
    5: {"a": [[1, 2], 3]},
    6: {"a": [1, 2]},
}


@pytest.mark.parametrize(
    ("other", "matched"),
    [
        ({"b": None}, [0, 1, 2, 3]), ({}, [0, 1, 2, 3]), ({"b": 1}, [2, 4, 6]), ({"b": [1, 2]}, [2, 4, 5, 6]),
        ({"b": [[1, 2], 42]}, [5]), ({"b": 1.0}, [2, 4, 6]), ({"b": True}, []), ({"b": "1"}, []), ({"b": []}, []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("narrowed", [False, True])
def test_what_is_joined(other, matched, narrowed):
    stages = check_pipeline([{"$lookup": {"from": "o", "localField": "a", "foreignField": "b", "as": "m"}}])
    left = [{"_id": number, **document} for number, document in LEFT.items()]
    if narrowed:
        asked = []

        def select(catalog, condition):
            asked.append((catalog, condition))
            return run_pipeline([other], [{"$match": condition}])

        found = run_pipeline(left, stages, select=select)
    else:
        found = run_pipeline(left, stages, lambda _: [other])
    assert [document["_id"] for document in found if document["m"]] == matched
    assert not narrowed or [list(condition) for _, condition in asked] == [["b"]]


@pytest.mark.parametrize(
    ("document", "matched"),
    [
        ({"a": {"x": 1}}, False), ({"a": {"y": 1}}, True), ({"a": [{"y": 1}, {"x": 1}]}, False), ({"a": [1]}, True),
        ({"a": [{"x": None}, {"x": 1}]}, True), ({"a": [{"x": []}]}, True), ({}, True),
    ],
)  # fmt: skip
def test_what_is_missing_at_a_path_is_joined_to_null(document, matched):
    stages = [{"$lookup": {"from": "o", "localField": "a.x", "foreignField": "b", "as": "m"}}]
    [found] = run_pipeline([document], check_pipeline(stages), lambda _: [{"b": None}])
    assert bool(found["m"]) is matched


def test_a_join_asks_only_for_what_it_needs():
    asked = []

    def select(catalog, condition):
        asked.append(condition)
        return [{"_id": value} for value in condition["_id"]["$in"]]

    stages = check_pipeline([{"$lookup": {"from": "o", "localField": "n", "foreignField": "_id", "as": "o"}}])
    found = list(run_pipeline(({"n": n} for n in range(2000)), stages, select=select))
    assert all(document["o"] == [{"_id": document["n"]}] for document in found)
    assert sum(len(condition["_id"]["$in"]) for condition in asked) == 2000
    assert len(asked) < 15


def test_a_join_by_a_pipeline_asks_for_its_first_filter():
    asked = []
    inner = [{"$match": {"z": {"$gt": 1}}}, {"$match": {"$expr": {"$eq": ["$_id", "$$id"]}}}]
    stages = check_pipeline([{"$lookup": {"from": "o", "let": {"id": "$_id"}, "pipeline": inner, "as": "o"}}])

    def select(catalog, condition):
        asked.append((catalog, condition))
        return [{"_id": 1, "z": 2}, {"_id": 2, "z": 0}]

    found = list(run_pipeline([{"_id": 1}, {"_id": 2}], stages, select=select))
    assert found == [{"_id": 1, "o": [{"_id": 1, "z": 2}]}, {"_id": 2, "o": []}]
    assert asked == [("o", {"z": {"$gt": 1}})]


def test_without_other_catalogs_a_join_is_refused_when_it_is_run():
    for stage in ({"$unionWith": "o"}, {"$lookup": {"from": "o", "pipeline": [], "as": "o"}}):
        with pytest.raises(UnsupportedError, match="'o' is asked for"):
            list(run_pipeline([{}], check_pipeline([stage])))


def test_the_other_catalogs_are_found_at_any_depth():
    inner = {
        "$lookup": {
            "from": "deep",
            "pipeline": [{"$unionWith": {"coll": "deeper", "pipeline": []}}],
            "as": "x",
        }
    }
    stages = [
        {"$lookup": {"from": "a", "localField": "x", "foreignField": "y", "as": "z"}},
        {"$facet": {"f": [inner], "g": [{"$unionWith": "b.c"}]}},
    ]
    assert collections_of(check_pipeline(stages)) == {"a", "b.c", "deep", "deeper"}
    assert collections_of([]) == set()


# Laziness and memory -------------------------------------------------------------------------------------------------


def test_documents_pass_one_at_a_time():
    stages = [
        {"$match": {"n": {"$mod": [2, 0]}}}, {"$addFields": {"m": {"$multiply": ["$n", 2]}}}, {"$project": {"m": 1}},
        {"$unwind": "$m"}, {"$lookup": {"from": "o", "localField": "m", "foreignField": "m", "as": "o"}},
        {"$replaceRoot": {"newRoot": {"m": "$m"}}}, {"$skip": 1}, {"$limit": 2},
    ]  # fmt: skip
    taken = itertools.count()
    endless = ({"n": n} for n in taken)
    assert list(run_pipeline(endless, check_pipeline(stages), lambda _: [])) == [{"m": 4}, {"m": 8}]
    assert next(taken) < 40


def test_a_sort_that_a_limit_follows_keeps_only_what_is_wanted():
    alive = []

    class Watched(dict):
        def __init__(self, number):
            super().__init__(n=number * 617 % 100_003)
            alive.append(1)

        def __del__(self):
            alive.pop()

    most = 0

    def documents():
        nonlocal most
        for number in range(20_000):
            yield Watched(number)
            most = max(most, len(alive))

    expected = sorted(number * 617 % 100_003 for number in range(20_000))[2:5]
    stages = check_pipeline([{"$sort": {"n": 1}}, {"$skip": 2}, {"$limit": 3}])
    assert [document["n"] for document in run_pipeline(documents(), stages)] == expected
    assert most < 1100


def test_the_first_of_a_sort_are_those_of_the_whole_sort():
    documents = [{"n": number, "k": number * 7 % 5} for number in range(3000)]
    for order in ([("k", 1)], [("k", -1), ("n", 1)], [("k", -1)]):
        for limit in (1, 10, 2999, 3000, 5000):
            assert first_documents(documents, order, limit) == sort_documents(documents, order)[:limit]


def test_a_sample_has_each_document_once():
    documents = [{"_id": n} for n in range(100)]
    for size in (1, 30, 100, 200):
        found = ids([{"$sample": {"size": size}}], documents)
        assert len(found) == len(set(found)) == min(size, 100)
    several = {tuple(ids([{"$sample": {"size": 5}}], documents)) for _ in range(20)}
    assert len(several) > 10


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "position", "words"),
    [
        ({"$match": {}}, "pipeline", "list of stages"),
        ("x", "pipeline", "list of stages"),
        ([5], "pipeline[0]", "one key"),
        ([{}], "pipeline[0]", "one key"),
        ([{"$match": {}, "$limit": 1}], "pipeline[0]", "one key"),
        ([{"$mach": {}}], "pipeline[0]['$mach']", r"did you mean \$match"),
        ([{"match": {}}], "pipeline[0]['match']", r"\$match"),
        ([{"$limit": 1}, {"$match": {"a": {"$gtt": 1}}}], "pipeline[1]['$match']['a']['$gtt']", r"\$gt"),
        ([{"$match": 5}], "pipeline[0]['$match']", "a filter"),
        ([{"$match": {"a": {"$nearSphere": [0, 0]}}}], "pipeline[0]['$match']['a']['$nearSphere']", r"\$geoNear"),
        ([{"$project": {}}], "pipeline[0]['$project']", "at least one"),
        ([{"$project": {"a": {"$siz": "$b"}}}], "pipeline[0]['$project']['a']['$siz']", r"\$size"),
        ([{"$project": {"a": 1, "b": 0}}], "pipeline[0]['$project']", "not both"),
        ([{"$project": {"a": {"$slice": 1}}}], "pipeline[0]['$project']['a']['$slice']", "2 to 3"),
        ([{"$project": {"a": "$$x"}}], "pipeline[0]['$project']['a']", "no variable"),
        ([{"$addFields": {}}], "pipeline[0]['$addFields']", "at least one"),
        ([{"$set": {"a": {"b": {"$ad": 1}}}}], "pipeline[0]['$set']['a']['b']['$ad']", r"\$add"),
        ([{"$set": {"a": 1, "a.b": 2}}], "pipeline[0]['$set']", "within another"),
        ([{"$set": {"$a": 1}}], "pipeline[0]['$set']['$a']", r"without \$"),
        ([{"$unset": []}], "pipeline[0]['$unset']", "list of fields"),
        ([{"$unset": [5]}], "pipeline[0]['$unset'][0]", "path"),
        ([{"$unset": ["a", "a.b"]}], "pipeline[0]['$unset']", "within another"),
        ([{"$sort": {}}], "pipeline[0]['$sort']", "mapping"),
        ([{"$sort": {"a": 2}}], "pipeline[0]['$sort']", "1 or -1"),
        ([{"$sort": {"$a": 1}}], "pipeline[0]['$sort']", r"begins with \$"),
        ([{"$skip": -1}], "pipeline[0]['$skip']", "from 0 on"),
        ([{"$limit": 0}], "pipeline[0]['$limit']", "from 1 on"),
        ([{"$limit": 1.5}], "pipeline[0]['$limit']", "whole number"),
        ([{"$limit": True}], "pipeline[0]['$limit']", "whole number"),
        ([{"$limit": math.inf}], "pipeline[0]['$limit']", "whole number"),
        ([{"$group": {"n": {"$sum": 1}}}], "pipeline[0]['$group']", "_id"),
        ([{"$group": {"_id": "$a", "n": {"$sums": 1}}}], "pipeline[0]['$group']['n']['$sums']", r"\$sum"),
        ([{"$group": {"_id": "$a", "n": "$b"}}], "pipeline[0]['$group']['n']", "accumulator"),
        ([{"$group": {"_id": "$a", "n.m": {"$sum": 1}}}], "pipeline[0]['$group']['n.m']", "dots"),
        ([{"$group": {"_id": {"$ad": 1}}}], "pipeline[0]['$group']['_id']['$ad']", r"\$add"),
        ([{"$group": {"_id": 1, "n": {"$count": 5}}}], "pipeline[0]['$group']['n']['$count']", "takes {}"),
        ([{"$group": {"_id": 1, "n": {"$topN": {"n": 1, "output": 1}}}}], "pipeline[0]['$group']['n']['$topN']", "sortBy"),
        ([{"$group": {"_id": 1, "n": {"$top": {"n": 1}}}}], "pipeline[0]['$group']['n']['$top']['n']", "no argument"),
        ([{"$group": {"_id": 1, "n": {"$median": {"input": 1, "method": "exact"}}}}],
         "pipeline[0]['$group']['n']['$median']['method']", "approximate"),
        ([{"$count": "a.b"}], "pipeline[0]['$count']", "without dots"),
        ([{"$count": ""}], "pipeline[0]['$count']", "without dots"),
        ([{"$unwind": "tags"}], "pipeline[0]['$unwind']", r"begins with \$"),
        ([{"$unwind": {"path": "$a", "preserve": True}}], "pipeline[0]['$unwind']['preserve']", "preserveNull"),
        ([{"$unwind": {"path": "$a", "preserveNullAndEmptyArrays": 1}}],
         "pipeline[0]['$unwind']['preserveNullAndEmptyArrays']", "true or false"),
        ([{"$lookup": {"from": "a", "as": "b"}}], "pipeline[0]['$lookup']", "localField and foreignField"),
        ([{"$lookup": {"from": "a", "as": "b", "localField": "c"}}], "pipeline[0]['$lookup']", "go together"),
        ([{"$lookup": {"from": 5, "as": "b", "pipeline": []}}], "pipeline[0]['$lookup']['from']", "name"),
        ([{"$lookup": {"from": {"db": "x"}, "as": "b", "pipeline": []}}], "pipeline[0]['$lookup']['from']", "name"),
        ([{"$lookup": {"from": "a", "as": "b", "pipeline": [{"$mach": 1}]}}],
         "pipeline[0]['$lookup']['pipeline'][0]['$mach']", r"\$match"),
        ([{"$lookup": {"from": "a", "as": "b", "let": {"X": 1}, "pipeline": []}}], "pipeline[0]['$lookup']['let']", "small"),
        ([{"$lookup": {"from": "a", "as": "b", "let": [], "pipeline": []}}], "pipeline[0]['$lookup']['let']", "mapping"),
        ([{"$bucket": {"groupBy": "$a", "boundaries": [1]}}], "pipeline[0]['$bucket']['boundaries']", "at least two"),
        ([{"$bucket": {"groupBy": "$a", "boundaries": [2, 1]}}], "pipeline[0]['$bucket']['boundaries']", "greater"),
        ([{"$bucket": {"groupBy": "$a", "boundaries": [1, "b"]}}], "pipeline[0]['$bucket']['boundaries']", "one type"),
        ([{"$bucket": {"groupBy": "$a", "boundaries": [1, 5], "default": 2}}], "pipeline[0]['$bucket']['default']", "within"),
        ([{"$bucketAuto": {"groupBy": "$a", "buckets": 0}}], "pipeline[0]['$bucketAuto']['buckets']", "from 1 on"),
        ([{"$sample": {"size": 0}}], "pipeline[0]['$sample']['size']", "from 1 on"),
        ([{"$sample": 5}], "pipeline[0]['$sample']", "size"),
        ([{"$facet": {}}], "pipeline[0]['$facet']", "mapping"),
        ([{"$facet": {"a": {"$match": {}}}}], "pipeline[0]['$facet']['a']", "list of stages"),
        ([{"$facet": {"a": [{"$facet": {"b": []}}]}}], "pipeline[0]['$facet']['a'][0]", r"\$facet can't stand"),
        ([{"$facet": {"a.b": []}}], "pipeline[0]['$facet']['a.b']", "dots"),
        ([{"$replaceRoot": "$a"}], "pipeline[0]['$replaceRoot']", "newRoot"),
        ([{"$sortByCount": "a"}], "pipeline[0]['$sortByCount']", r"with \$"),
        ([{"$limit": 1}, {"$geoNear": {"near": [0, 0], "distanceField": "d"}}], "pipeline[1]['$geoNear']", "first stage"),
        ([{"$geoNear": {"near": [0, 100], "distanceField": "d"}}],
         "pipeline[0]['$geoNear']['near']['$geometry']", "lon"),
        ([{"$geoNear": {"near": [0, 0], "distanceField": "d", "maxDistance": -1}}],
         "pipeline[0]['$geoNear']['maxDistance']", "not negative"),
        ([{"$unionWith": {"pipeline": []}}], "pipeline[0]['$unionWith']", "'coll' is missing"),
        ([{"$limit": 1}] * (MAX_STAGES + 1), "pipeline", "101 stages"),
        ([{"$facet": {"a": [{"$limit": 1}] * 60, "b": [{"$limit": 1}] * 60}}], "pipeline", "121 stages"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_pipeline_that_means_nothing_is_an_error_that_names_the_place(stages, position, words):
    with pytest.raises(FilterError, match=words) as caught:
        check_pipeline(stages)
    assert caught.value.position == position
    assert position in str(caught.value)


@pytest.mark.parametrize("writing", [{"$out": "x"}, {"$merge": {"into": "x"}}])
def test_no_stage_writes_at_any_depth(writing):
    for stages in (
        [writing],
        [{"$limit": 1}, writing],
        [{"$facet": {"a": [writing]}}],
        [{"$lookup": {"from": "o", "as": "x", "pipeline": [{"$facet": {"a": [writing]}}]}}],
        [{"$unionWith": {"coll": "o", "pipeline": [writing]}}],
    ):
        with pytest.raises(ForbiddenError, match="never writes"):
            check_pipeline(stages)


@pytest.mark.parametrize(
    "stages",
    [
        [{"$match": {"$where": "1"}}],
        [{"$project": {"a": {"$function": {}}}}],
        [{"$group": {"_id": {"$function": {}}}}],
        [{"$group": {"_id": 1, "n": {"$accumulator": {}}}}],
        [{"$bucket": {"groupBy": "$a", "boundaries": [1, 2], "output": {"n": {"$accumulator": {}}}}}],
        [{"$facet": {"a": [{"$addFields": {"b": {"c": {"$function": {}}}}}]}}],
        [{"$lookup": {"from": "o", "as": "x", "let": {"a": {"$function": {}}}, "pipeline": []}}],
        [{"$geoNear": {"near": [0, 0], "distanceField": "d", "query": {"$where": "1"}}}],
    ],
    ids=repr,
)
def test_no_stage_runs_code(stages):
    with pytest.raises(ForbiddenError, match="runs no code"):
        check_pipeline(stages)


@pytest.mark.parametrize(
    "stage",
    [
        {"$graphLookup": {}}, {"$setWindowFields": {}}, {"$redact": "$$KEEP"}, {"$search": {}}, {"$collStats": {}},
        {"$sort": {"a": {"$meta": "textScore"}}}, {"$bucketAuto": {"groupBy": 1, "buckets": 1, "granularity": "R5"}},
        {"$geoNear": {"near": [0, 0], "distanceField": "d", "spherical": False}},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_not_supported_is_said_so(stage):
    with pytest.raises(UnsupportedError):
        check_pipeline([stage])


def test_a_pipeline_that_is_nested_too_deep_is_refused():
    stages = [{"$match": {}}]
    for _ in range(60):
        stages = [{"$unionWith": {"coll": "o", "pipeline": stages}}]
    with pytest.raises(FilterError, match="deeper than 100"):
        check_pipeline(stages)


def test_as_many_stages_as_may_be_run():
    stages = [{"$addFields": {"n": {"$add": ["$n", 1]}}}] * MAX_STAGES
    assert run(stages, [{"n": 0}]) == [{"n": MAX_STAGES}]
    nested = [{"$match": {}}]
    for _ in range(30):
        nested = [{"$unionWith": {"coll": "alerts", "pipeline": nested}}]
    assert len(run(nested)) == 31 * len(ALERTS)


@pytest.mark.parametrize(
    ("stage", "position"),
    [
        ({"$bucket": {"groupBy": "$mag", "boundaries": [17, 18]}}, "$bucket"),
        ({"$replaceRoot": {"newRoot": "$mag"}}, "$replaceRoot"),
        ({"$group": {"_id": None, "n": {"$mergeObjects": "$id"}}}, "$mergeObjects"),
        ({"$group": {"_id": None, "n": {"$firstN": {"input": "$id", "n": "$nothing"}}}}, "$firstN"),
        ({"$match": {"$expr": {"$divide": [1, 0]}}}, "$divide"),
    ],
)
def test_what_goes_wrong_with_a_document_names_the_operator(stage, position):
    stages = check_pipeline([stage])
    with pytest.raises(FilterError) as caught:
        list(run_pipeline(ALERTS, stages))
    assert caught.value.position == position


def test_checking_leaves_what_is_given_alone():
    stages = [
        {"$match": {"a": {"$in": (1, 2)}}},
        {"$unwind": "$a"},
        {"$lookup": {"from": "o", "as": "x", "pipeline": []}},
    ]
    before = copy.deepcopy(stages)
    checked = check_pipeline(stages)
    assert stages == before
    assert check_pipeline(checked) == checked


# Distinct values, and the reference ----------------------------------------------------------------------------------


def test_distinct_values_are_in_order_and_of_one_kind_once():
    documents = [{"a": v} for v in (3, [1, "x", 3.0], None, True, 1, {"b": 1}, "a", [], [[2]], math.nan)] + [
        {}
    ]
    assert str(distinct_values(documents, "a")) == str([None, math.nan, 1, 3, "a", "x", {"b": 1}, [2], True])
    assert distinct_values([{"a": [{"b": 1}, {"b": [2, 1]}]}, {"a": {"b": 3}}], "a.b") == [1, 2, 3]
    with pytest.raises(FilterError, match="begins with"):
        distinct_values([], "$a")


def test_the_reference_lists_what_is_there():
    assert set(OPERATORS["filter"]) == set(TESTS)
    assert set(OPERATORS["filter: logic"]) == LOGICAL | {"$expr", "$comment"}
    assert set(OPERATORS["stage"]) == set(ALL_STAGES)
    assert set(OPERATORS["accumulator"]) == set(ACCUMULATIONS)


def test_every_stage_has_an_answer():
    tested = {name for stages, _ in ANSWERS for stage in stages for name in stage}
    assert set(ALL_STAGES) - tested == {"$sample", "$geoNear"}  # tested by themselves
