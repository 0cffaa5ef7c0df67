"""The filter language, held against what MongoDB's manual says of it."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from astropy.time import Time
from bson import ObjectId

from nuncius.archives.language import (
    Projection,
    check_filter,
    check_sort,
    compare,
    matches,
    plain,
    sort_documents,
)
from nuncius.errors import FilterError, ForbiddenError, UnsupportedError

NAN, INF = math.nan, math.inf
BIG = 2475433850215010007
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

# Document, filter, and whether the document meets it.
ANSWERS = [
    # Null and missing.
    ({"a": None}, {"a": None}, True),
    ({}, {"a": None}, True),
    ({"a": 0}, {"a": None}, False),
    ({"a": False}, {"a": None}, False),
    ({"a": [None, 1]}, {"a": None}, True),
    ({"a": []}, {"a": None}, False),
    ({"a": {}}, {"a.b": None}, True),
    ({"a": 5}, {"a.b": None}, True),
    ({"a": None}, {"a.b": None}, True),
    ({"a": [{"b": 1}, {}]}, {"a.b": None}, True),
    ({"a": [{"b": 1}]}, {"a.b": None}, False),
    ({}, {"a": {"$exists": False}}, True),
    ({"a": None}, {"a": {"$exists": False}}, False),
    ({"a": None}, {"a": {"$exists": True}}, True),
    ({}, {"a": {"$exists": True}}, False),
    ({"a": {"b": 1}}, {"a.b": {"$exists": True}}, True),
    ({"a": [{"b": 1}, {}]}, {"a.b": {"$exists": False}}, False),
    ({"a": []}, {"a.b": {"$exists": False}}, True),
    ({"a": None}, {"a": {"$type": "null"}}, True),
    ({}, {"a": {"$type": "null"}}, False),
    ({"a": None}, {"a": {"$gte": None}}, True),
    ({"a": None}, {"a": {"$gt": None}}, False),
    ({"a": 1}, {"a": {"$gte": None}}, False),
    # $ne, $nin and $not on what is missing.
    ({}, {"a": {"$ne": 1}}, True),
    ({}, {"a": {"$ne": None}}, False),
    ({"a": None}, {"a": {"$ne": None}}, False),
    ({}, {"a": {"$nin": [1, 2]}}, True),
    ({}, {"a": {"$nin": [1, None]}}, False),
    ({"a": [1, 2]}, {"a": {"$ne": 1}}, False),
    ({"a": [3, 2]}, {"a": {"$ne": 1}}, True),
    ({"a": [1, 2]}, {"a": {"$nin": [2]}}, False),
    ({}, {"a": {"$not": {"$gt": 5}}}, True),
    ({"a": "x"}, {"a": {"$not": {"$gt": 5}}}, True),
    ({"a": 6}, {"a": {"$not": {"$gt": 5}}}, False),
    ({"a": [1, 6]}, {"a": {"$not": {"$gt": 5}}}, False),
    ({"a": "abc"}, {"a": {"$not": re.compile("b")}}, False),
    ({"a": 5}, {"a": {"$not": {"$regex": "b"}}}, True),
    # Comparisons stay within a type.
    ({"a": "1"}, {"a": {"$gt": 0}}, False),
    ({"a": 1}, {"a": {"$gt": "0"}}, False),
    ({"a": True}, {"a": {"$gt": 0}}, False),
    ({"a": True}, {"a": 1}, False),
    ({"a": 1}, {"a": True}, False),
    ({"a": 0}, {"a": False}, False),
    ({"a": True}, {"a": True}, True),
    ({"a": True}, {"a": {"$gt": False}}, True),
    ({"a": True}, {"a": {"$in": [1, "t"]}}, False),
    ({"a": 1}, {"a": {"$in": [True]}}, False),
    ({"a": 1}, {"a": 1.0}, True),
    ({"a": 1.0}, {"a": 1}, True),
    ({"a": BIG}, {"a": BIG}, True),
    ({"a": BIG}, {"a": BIG + 1}, False),
    ({"a": BIG}, {"a": float(BIG)}, False),
    ({"a": BIG}, {"a": {"$gt": BIG - 1, "$lt": BIG + 1}}, True),
    ({"a": "abc"}, {"a": {"$gte": "abb", "$lt": "abd"}}, True),
    ({"a": b"ab"}, {"a": b"ab"}, True),
    ({"a": b"ab"}, {"a": "ab"}, False),
    ({"a": None}, {"a": {"$lt": 5}}, False),
    ({}, {"a": {"$lt": 5}}, False),
    ({"a": 5}, {"a": {"$gt": 5}}, False),
    ({"a": 5}, {"a": {"$gte": 5, "$lte": 5}}, True),
    ({"a": NOON}, {"a": {"$gt": datetime(2026, 11, 21, 11, tzinfo=UTC)}}, True),
    ({"a": NOON}, {"a": datetime(2026, 11, 21, 13, tzinfo=timezone(timedelta(hours=1)))}, True),
    ({"a": NOON}, {"a": {"$gt": 0}}, False),
    # NaN.
    ({"a": NAN}, {"a": NAN}, True),
    ({"a": NAN}, {"a": {"$in": [NAN]}}, True),
    ({"a": NAN}, {"a": {"$lt": 5}}, False),
    ({"a": NAN}, {"a": {"$gt": 5}}, False),
    ({"a": NAN}, {"a": {"$gte": NAN}}, True),
    ({"a": 1.0}, {"a": {"$gte": NAN}}, False),
    ({"a": NAN}, {"a": {"$ne": 5}}, True),
    ({"a": NAN}, {"a": {"$type": "double"}}, True),
    ({"a": INF}, {"a": {"$gt": 1e308}}, True),
    ({"a": 1.0}, {"a": {"$lt": INF}}, True),
    # Arrays.
    ({"a": [1, 2]}, {"a": 1}, True),
    ({"a": [1, 2]}, {"a": [1, 2]}, True),
    ({"a": [1, 2]}, {"a": [2, 1]}, False),
    ({"a": [[1, 2], 3]}, {"a": [1, 2]}, True),
    ({"a": [[1, 2]]}, {"a": 1}, False),
    ({"a": [1, 9]}, {"a": {"$gt": 5}}, True),
    ({"a": [1, 9]}, {"a": {"$gt": 4, "$lt": 6}}, True),
    ({"a": [1, 9]}, {"a": {"$elemMatch": {"$gt": 4, "$lt": 6}}}, False),
    ({"a": [1, 5]}, {"a": {"$elemMatch": {"$gt": 4, "$lt": 6}}}, True),
    ({"a": 5}, {"a": {"$elemMatch": {"$gt": 4}}}, False),
    ({"a": [{"b": 1, "c": 1}, {"b": 2, "c": 2}]}, {"a.b": 1, "a.c": 2}, True),
    ({"a": [{"b": 1, "c": 1}, {"b": 2, "c": 2}]}, {"a": {"$elemMatch": {"b": 1, "c": 2}}}, False),
    ({"a": [{"b": 1, "c": 2}]}, {"a": {"$elemMatch": {"b": 1, "c": 2}}}, True),
    ({"a": [{"b": 1}, {"b": 7}]}, {"a": {"$elemMatch": {"$or": [{"b": 7}, {"b": 8}]}}}, True),
    ({"a": [{"b": [1, 9]}]}, {"a": {"$elemMatch": {"b": {"$elemMatch": {"$gt": 8}}}}}, True),
    ({"a": [{"b": 1}, {"b": 2}]}, {"a.b": 2}, True),
    ({"a": [{"b": [1, 2]}, {"b": 3}]}, {"a.b": 2}, True),
    ({"a": [[{"b": 1}]]}, {"a.b": 1}, False),
    ({"a": [10, 20]}, {"a.1": 20}, True),
    ({"a": [10, 20]}, {"a.1": 10}, False),
    ({"a": [10, 20]}, {"a.2": {"$exists": False}}, True),
    ({"a": [{"b": 1}, {"b": 2}]}, {"a.1.b": 2}, True),
    ({"a": [{"b": 1}, {"b": 2}]}, {"a.0.b": 2}, False),
    ({"a": {"0": "x"}}, {"a.0": "x"}, True),
    ({"a": [{"0": "x"}]}, {"a.0": "x"}, True),
    ({"a": [1, 2]}, {"a": {"$size": 2}}, True),
    ({"a": [1, 2]}, {"a": {"$size": 1}}, False),
    ({"a": []}, {"a": {"$size": 0}}, True),
    ({"a": "ab"}, {"a": {"$size": 2}}, False),
    ({}, {"a": {"$size": 0}}, False),
    ({"a": [1, 2, 3]}, {"a": {"$all": [1, 3]}}, True),
    ({"a": [1, 2, 3]}, {"a": {"$all": [1, 4]}}, False),
    ({"a": 1}, {"a": {"$all": [1]}}, True),
    ({"a": [1]}, {"a": {"$all": []}}, False),
    ({"a": [[1, 2]]}, {"a": {"$all": [[1, 2]]}}, True),
    ({"a": [{"b": 1}, {"b": 2}]}, {"a": {"$all": [{"$elemMatch": {"b": 1}}, {"$elemMatch": {"b": 2}}]}}, True),
    ({"a": [{"b": 1}]}, {"a": {"$all": [{"$elemMatch": {"b": 1}}, {"$elemMatch": {"b": 2}}]}}, False),
    ({"a": [1, 2]}, {"a": {"$in": [2, 7]}}, True),
    ({"a": [1, 2]}, {"a": {"$in": [[1, 2]]}}, True),
    ({"a": 1}, {"a": {"$in": []}}, False),
    ({"a": 1}, {"a": {"$nin": []}}, True),
    ({}, {"a": {"$in": [None]}}, True),
    ({"a": "ZTF18a"}, {"a": {"$in": [re.compile("^ZTF"), 5]}}, True),
    ({"a": "WNTR18a"}, {"a": {"$nin": [re.compile("^ZTF"), 5]}}, True),
    # Documents are compared as a whole, with the order of their keys.
    ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 2}}, True),
    ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, False),
    ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, False),
    ({"a": {"b": 1}}, {"a": {"b": 1.0}}, True),
    ({"a": {"b": True}}, {"a": {"b": 1}}, False),
    ({"a": {}}, {"a": {}}, True),
    ({"a": {"b": 1}}, {"a": {}}, False),
    ({"a": [{"b": 1}]}, {"a": {"b": 1}}, True),
    ({"a": {"b": None}}, {"a": {"b": None}}, True),
    ({"a": {}}, {"a": {"b": None}}, False),
    # Texts.
    ({"a": "ZTF18abc"}, {"a": {"$regex": "^ZTF18"}}, True),
    ({"a": "xZTF18abc"}, {"a": {"$regex": "^ZTF18"}}, False),
    ({"a": "ztf18abc"}, {"a": {"$regex": "^ZTF18", "$options": "i"}}, True),
    ({"a": "ztf18abc"}, {"a": {"$options": "i", "$regex": "^ZTF18"}}, True),
    ({"a": "x\nZTF"}, {"a": {"$regex": "^ZTF"}}, False),
    ({"a": "x\nZTF"}, {"a": {"$regex": "^ZTF", "$options": "m"}}, True),
    ({"a": "a\nb"}, {"a": {"$regex": "a.b"}}, False),
    ({"a": "a\nb"}, {"a": {"$regex": "a.b", "$options": "s"}}, True),
    ({"a": "ab"}, {"a": {"$regex": "a b", "$options": "x"}}, True),
    ({"a": "ab"}, {"a": re.compile("B", re.IGNORECASE)}, True),
    ({"a": ["x", "ab"]}, {"a": {"$regex": "b$"}}, True),
    ({"a": 12}, {"a": {"$regex": "1"}}, False),
    ({"a": "abc", "b": 1}, {"a": {"$regex": "b", "$ne": "abc"}}, False),
    # Types.
    ({"a": 1}, {"a": {"$type": "number"}}, True),
    ({"a": 1.5}, {"a": {"$type": "number"}}, True),
    ({"a": True}, {"a": {"$type": "number"}}, False),
    ({"a": 1}, {"a": {"$type": "double"}}, False),
    ({"a": 1}, {"a": {"$type": ["double", "int"]}}, True),
    ({"a": BIG}, {"a": {"$type": "long"}}, True),
    ({"a": [1, "x"]}, {"a": {"$type": "string"}}, True),
    ({"a": [1]}, {"a": {"$type": "array"}}, True),
    ({"a": {"b": 1}}, {"a": {"$type": "object"}}, True),
    ({"a": True}, {"a": {"$type": "bool"}}, True),
    ({"a": b""}, {"a": {"$type": "binData"}}, True),
    ({"a": NOON}, {"a": {"$type": "date"}}, True),
    # Remainders.
    ({"a": 12}, {"a": {"$mod": [4, 0]}}, True),
    ({"a": 13}, {"a": {"$mod": [4, 0]}}, False),
    ({"a": -7}, {"a": {"$mod": [4, -3]}}, True),
    ({"a": 7.9}, {"a": {"$mod": [4, 3]}}, True),
    ({"a": 7}, {"a": {"$mod": [4.9, 3.2]}}, True),
    ({"a": "12"}, {"a": {"$mod": [4, 0]}}, False),
    ({"a": True}, {"a": {"$mod": [1, 0]}}, False),
    ({"a": NAN}, {"a": {"$mod": [4, 0]}}, False),
    ({"a": [5, 8]}, {"a": {"$mod": [4, 0]}}, True),
    ({}, {"a": {"$mod": [4, 0]}}, False),
    # Logic.
    ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
    ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
    ({"a": 1}, {"$or": [{"a": 2}, {"a": 1}]}, True),
    ({"a": 1}, {"$nor": [{"a": 2}, {"b": 1}]}, True),
    ({"a": 1}, {"$nor": [{"a": 1}]}, False),
    ({"a": 1}, {"$and": [{"a": {"$gt": 0}}, {"a": {"$lt": 2}}]}, True),
    ({"a": 1}, {"$and": [{"$or": [{"a": 1}, {"b": 1}]}, {"$or": [{"a": 3}, {"b": 1}]}]}, False),
    ({"a": 1}, {}, True),
    ({"a": 1}, None, True),
]  # fmt: skip


@pytest.mark.parametrize(("document", "condition", "expected"), ANSWERS, ids=repr)
def test_a_filter_means_what_mongodb_documents(document, condition, expected):
    assert matches(document, check_filter(condition)) is expected


@pytest.mark.parametrize("document", [{"a": []}, {"a": [1, 2]}, {"a": [[{"b": 1}]]}], ids=repr)
def test_a_path_into_an_array_without_documents_is_not_null(document):
    # MongoDB's own test of the meaning of null: no element of the array has a field that could be null or missing.
    assert not matches(document, check_filter({"a.b": None}))
    assert matches(document, check_filter({"a.b": {"$ne": None}}))
    assert matches(document, check_filter({"a.b": {"$exists": False}}))


def test_elements_that_are_arrays_are_not_looked_into_twice():
    assert not matches({"a": [[6]]}, check_filter({"a": {"$elemMatch": {"$gt": 5}}}))
    assert matches({"a": [[6]]}, check_filter({"a": {"$elemMatch": {"$elemMatch": {"$gt": 5}}}}))


def test_remainders_of_ids_with_19_digits_are_exact():
    assert matches({"a": BIG}, check_filter({"a": {"$mod": [10, 7]}}))
    assert not matches({"a": BIG}, check_filter({"a": {"$mod": [10, 8]}}))


def test_times_without_a_zone_are_utc_as_with_pymongo():
    naive = datetime(2026, 11, 21, 11)
    assert matches({"a": NOON}, check_filter({"a": {"$gt": naive}}))
    assert not matches({"a": NOON}, check_filter({"a": {"$lt": naive}}))
    assert matches({"a": NOON}, check_filter({"a": datetime(2026, 11, 21, 12)}))
    assert not matches({"a": datetime(2026, 11, 21, 12)}, check_filter({"a": {"$gt": NOON}}))


def test_flags_of_a_compiled_expression_are_kept():
    document = {"a": "É"}
    assert matches(document, check_filter({"a": re.compile(r"^\w$")}))
    assert not matches(document, check_filter({"a": re.compile(r"^\w$", re.ASCII)}))
    assert not matches(
        document, check_filter({"a": {"$regex": re.compile(r"^\w$", re.ASCII), "$options": "i"}})
    )


def test_options_apply_to_a_compiled_expression_too():
    assert matches({"a": "ABC"}, check_filter({"a": {"$regex": re.compile("b"), "$options": "i"}}))


OID = "507f1f77bcf86cd799439011"


@pytest.mark.parametrize(
    ("document", "condition", "expected"),
    [
        ({"_id": OID}, {"_id": ObjectId(OID)}, True),
        ({"_id": ObjectId(OID)}, {"_id": OID}, True),
        ({"_id": ObjectId(OID)}, {"_id": ObjectId(OID)}, True),
        ({"_id": "507f1f77bcf86cd799439012"}, {"_id": ObjectId(OID)}, False),
        ({"_id": OID}, {"_id": {"$in": [ObjectId(OID), 5]}}, True),
        ({"_id": ObjectId(OID)}, {"_id": {"$in": [OID]}}, True),
        ({"_id": OID}, {"_id": {"$nin": [ObjectId(OID)]}}, False),
        ({"_id": OID}, {"_id": {"$gte": ObjectId(OID)}}, True),
        ({"_id": OID}, {"_id": {"$gt": ObjectId(OID)}}, False),
        ({"_id": "507f1f77bcf86cd799439012"}, {"_id": {"$gt": ObjectId(OID)}}, True),
        ({"_id": "no id"}, {"_id": {"$gt": ObjectId(OID)}}, False),
        ({"_id": ObjectId(OID)}, {"_id": {"$type": "objectId"}}, True),
        # Types by their numbers.
        ({"a": 1.5}, {"a": {"$type": 1}}, True),
        ({"a": "x"}, {"a": {"$type": [1, 2]}}, True),
        ({"a": {}}, {"a": {"$type": 3}}, True),
        ({"a": 5}, {"a": {"$type": 16}}, True),
        ({"a": BIG}, {"a": {"$type": 18}}, True),
        ({"a": None}, {"a": {"$type": 10}}, True),
        ({"a": True}, {"a": {"$type": 16}}, False),
        ({"a": 5}, {"a": {"$type": "decimal"}}, False),
        # Bits: 20 is 10100.
        ({"a": 20}, {"a": {"$bitsAllSet": 20}}, True),
        ({"a": 20}, {"a": {"$bitsAllSet": [2, 4]}}, True),
        ({"a": 20}, {"a": {"$bitsAllSet": [0, 2]}}, False),
        ({"a": 20}, {"a": {"$bitsAllClear": [0, 1, 3]}}, True),
        ({"a": 20}, {"a": {"$bitsAnySet": 5}}, True),
        ({"a": 20}, {"a": {"$bitsAnySet": 3}}, False),
        ({"a": 20}, {"a": {"$bitsAnyClear": 21}}, True),
        ({"a": 20}, {"a": {"$bitsAnyClear": 20}}, False),
        ({"a": 20.0}, {"a": {"$bitsAllSet": 20}}, True),
        ({"a": 20.5}, {"a": {"$bitsAllSet": 20}}, False),
        ({"a": "20"}, {"a": {"$bitsAllClear": 1}}, False),
        ({"a": -1}, {"a": {"$bitsAllSet": [0, 63, 200]}}, True),
        ({"a": bytes([20])}, {"a": {"$bitsAllSet": bytes([20])}}, True),
        ({}, {"a": {"$bitsAllClear": 1}}, False),
        # Expressions and remarks.
        ({"a": 3, "b": 2}, {"$expr": {"$gt": ["$a", "$b"]}}, True),
        ({"a": 1, "b": 2}, {"$expr": {"$gt": ["$a", "$b"]}}, False),
        ({"a": 3}, {"$or": [{"a": 9}, {"$expr": {"$eq": [{"$add": ["$a", 1]}, 4]}}]}, True),
        ({}, {"$expr": "$a"}, False),
        ({"a": 0}, {"$expr": "$a"}, False),
        ({"a": ""}, {"$expr": "$a"}, True),
        ({"a": 1}, {"$comment": "anything", "a": 1}, True),
        ({"a": ["b", 3]}, {"a": {"$in": [re.compile("^b"), 9]}}, True),
        ({"a": NAN}, {"a": {"$nin": [NAN]}}, False),
        ({"a": 1}, {"a": {"$in": [1.0]}}, True),
    ],
    ids=repr,
)  # fmt: skip
def test_ids_types_bits_and_expressions(document, condition, expected):
    assert matches(document, check_filter(condition)) is expected


@pytest.mark.parametrize(
    "condition",
    [
        {"$where": "this.a"},
        {"a": {"$where": "1"}},
        {"$or": [{"$where": "1"}]},
        {"a": {"$elemMatch": {"b": {"$not": {"$where": "1"}}}}},
        {"$expr": {"$function": {"body": "x", "args": [], "lang": "js"}}},
        {"$expr": {"$and": [{"$let": {"vars": {"a": {"$function": {}}}, "in": 1}}]}},
        {"$and": [{"$nor": [{"$expr": {"$cond": [1, {"$accumulator": {}}, 2]}}]}]},
        {"$function": {}},
    ],
    ids=repr,
)
def test_a_filter_runs_no_code_at_any_depth(condition):
    with pytest.raises(ForbiddenError, match="runs no code"):
        check_filter(condition)


@pytest.mark.parametrize(
    ("condition", "words"),
    [({"$text": {"$search": "x"}}, r"\$regex"), ({"$jsonSchema": {}}, "fields themselves")],
)
def test_what_no_archive_here_can_ask_is_said_so(condition, words):
    with pytest.raises(UnsupportedError, match=words):
        check_filter(condition)


def _nested(depth, wrap, inner):
    for _ in range(depth):
        inner = wrap(inner)
    return inner


@pytest.mark.parametrize(
    "condition",
    [
        _nested(120, lambda inner: {"$and": [inner]}, {"a": 1}),
        {"a": _nested(120, lambda inner: {"$not": inner}, {"$gt": 5})},
        {"a": _nested(5000, lambda inner: [inner], 1)},
        {"$expr": _nested(5000, lambda inner: {"$not": inner}, True)},
    ],
    ids=["and", "not", "value", "expression"],
)  # fmt: skip
def test_what_is_nested_too_deep_is_refused(condition):
    with pytest.raises(FilterError, match="deeper than 100"):
        check_filter(condition)


def test_what_is_nested_as_deep_as_may_be_works():
    for condition in (
        _nested(48, lambda inner: {"$and": [inner]}, {"a": 1}),
        {"a": _nested(97, lambda inner: {"$not": inner}, {"$gt": 5})},
        {"$expr": _nested(98, lambda inner: {"$not": inner}, True)},
        {"$expr": _nested(48, lambda inner: {"$and": [True, inner]}, True)},
        {"$expr": _nested(30, lambda inner: {"$let": {"vars": {"x": 1}, "in": inner}}, True)},
        {"$expr": _nested(30, lambda inner: {"$map": {"input": [1], "in": inner}}, True)},
    ):  # fmt: skip
        assert matches({"a": 1}, check_filter(condition)) in {True, False}


def test_long_lists_are_looked_up():
    condition = check_filter({"candid": {"$in": list(range(100_000))}})
    start = time.perf_counter()
    assert sum(matches({"candid": candid}, condition) for candid in range(0, 1_000_000, 500)) == 200
    assert time.perf_counter() - start < 2.0  # going through the list takes a minute


# Checking ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "position", "words"),
    [
        ({"a": {"$gtt": 1}}, "filter['a']['$gtt']", r"'\$gtt' is no operator; did you mean \$gte? or \$gte?"),
        ({"a": {"$exist": 1}}, "filter['a']['$exist']", r"did you mean \$exists"),
        ({"a": {"$elemmatch": {}}}, "filter['a']['$elemmatch']", r"did you mean \$elemMatch"),
        ({"$an": [{"a": 1}]}, "filter['$an']", r"did you mean \$and"),
        ({"$gt": 5}, "filter['$gt']", r"stands where a field name belongs"),
        ({"$exp": 1}, "filter['$exp']", r"did you mean \$expr"),
        ({"$expr": {"$gtt": [1, 2]}}, "filter['$expr']['$gtt']", r"did you mean \$gt"),
        ({"a": {"$elemMatch": {"$expr": True}}}, "filter['a']['$elemMatch']", r"\$expr can't stand"),
        ({"a": {"$bitsAllSet": -1}}, "filter['a']['$bitsAllSet']", "mask"),
        ({"a": {"$bitsAllSet": [-1]}}, "filter['a']['$bitsAllSet']", "positions"),
        ({"a": {"$bitsAnySet": [10**9]}}, "filter['a']['$bitsAnySet']", "positions"),
        ({"a": {"$type": 99}}, "filter['a']['$type']", "is no type"),
        ({"a": {"$regex": "x" * 1001}}, "filter['a']", "at most 1000 characters"),
        ({"a..b": 1}, "filter['a..b']", "empty name"),
        ({".".join(["a"] * 101): 1}, None, "at most 100 names"),
        ({"$or": [{"a": 1}, {"b": {"$lte ": 1}}]}, "filter['$or'][1]['b']['$lte ']", r"did you mean \$lte"),
        ({"$or": []}, "filter['$or']", "at least one"),
        ({"$or": {"a": 1}}, "filter['$or']", "list"),
        ({"$and": "ab"}, "filter['$and']", "list"),
        ({"$and": [5]}, "filter['$and'][0]", "mapping"),
        ({"a": {"$in": 5}}, "filter['a']['$in']", r"\$in.* takes a list, not int"),
        ({"a": {"$nin": "ab"}}, "filter['a']['$nin']", r"\$nin takes a list, not str"),
        ({"a": {"$all": 5}}, "filter['a']['$all']", r"\$all takes a list"),
        ({"a": {"$size": "2"}}, "filter['a']['$size']", "whole number"),
        ({"a": {"$size": -1}}, "filter['a']['$size']", "whole number"),
        ({"a": {"$size": True}}, "filter['a']['$size']", "whole number"),
        ({"a": {"$mod": [0, 1]}}, "filter['a']['$mod']", "divisor other than 0"),
        ({"a": {"$mod": [4]}}, "filter['a']['$mod']", "divisor"),
        ({"a": {"$mod": ["4", 0]}}, "filter['a']['$mod']", "divisor"),
        ({"a": {"$regex": "("}}, "filter['a']", "no regular expression"),
        ({"a": {"$regex": 5}}, "filter['a']['$regex']", "takes a text"),
        ({"a": {"$regex": "b", "$options": "q"}}, "filter['a']", r"\$options"),
        ({"a": {"$options": "i"}}, "filter['a']", r"\$regex, which is missing"),
        ({"a": {"$type": "integer"}}, "filter['a']['$type']", "is no type; did you mean"),
        ({"a": {"$elemMatch": 5}}, "filter['a']['$elemMatch']", "takes a filter"),
        ({"a": {"$elemMatch": {"b": {"$gtt": 1}}}}, "filter['a']['$elemMatch']['b']['$gtt']", "did you mean"),
        ({"a": {"$not": 5}}, "filter['a']['$not']", r"\$ne"),
        ({"a": {"$not": {"$gtt": 5}}}, "filter['a']['$not']['$gtt']", "did you mean"),
        ({"a": {"$gt": 1, "b": 2}}, "filter['a']['b']", "is no operator"),
        ({"a": object()}, "filter['a']", "can't stand in a filter"),
        ({"a": {"$in": [1, {1, 2}]}}, "filter['a']['$in'][1]", "set can't stand"),
        ({"a": {"b": [1, object()]}}, "filter['a']['b'][1]", "can't stand"),
        ({5: 1}, "filter[5]", "a field name is a text"),
        ([("a", 1)], "filter", "mapping"),
        ("a", "filter", "mapping"),
    ],
)  # fmt: skip
def test_a_filter_that_means_nothing_is_an_error_that_names_the_place(condition, position, words):
    with pytest.raises(FilterError, match=words) as caught:
        check_filter(condition)
    assert position is None or caught.value.position == position
    assert caught.value.position in str(caught.value)


@pytest.mark.parametrize(
    "condition",
    [
        {"a": {"$in": [{"$gt": 5}]}},
        {"a": {"$in": [{"$gtt": 5}]}},
        {"a": {"$nin": [{"$regex": 5}]}},
        {"a": {"$all": [{"$elemMatch": {"b": {"$gtt": 5}}}]}},
        {"a": {"$all": [{"$gtt": 5}]}},
        {"a": {"$mod": [0.5, 0]}},
        {"a": {"$mod": [NAN, 0]}},
        {"a": {"$mod": [4, INF]}},
        {"a": {"$mod": [True, 0]}},
        {"a": {"$regex": "b", "$options": re.compile("i")}},
        {"a": {"$regex": re.compile(rb"b")}},
        {"a": re.compile(rb"b")},
        {"a": {"$elemMatch": {1: 2}}},
        {"a": {"$type": [["int"]]}},
        {"a": {"$type": {"int": 1}}},
        {"$and": [None]},
        {"a": np.longdouble(1)},
    ],
    ids=repr,
)
def test_what_would_fail_while_documents_are_compared_is_found_when_the_filter_is_given(condition):
    with pytest.raises(FilterError):
        matches({"a": [1, "abc", {"b": 1}]}, check_filter(condition))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.float64(0.5), 0.5), (np.float32(0.5), 0.5), (np.int64(BIG), BIG), (np.uint8(3), 3), (np.bool_(True), True),
        (np.str_("ab"), "ab"), (np.array([1, 2]), [1, 2]), ((1, 2), [1, 2]), ({"b": np.int32(1)}, {"b": 1}),
        (ObjectId("507f1f77bcf86cd799439011"), ObjectId("507f1f77bcf86cd799439011")),
        (NOON, NOON), (b"ab", b"ab"), (None, None),
    ],
)  # fmt: skip
def test_values_become_plain(given, expected):
    found = plain(given)
    assert found == expected
    assert type(found) is type(expected) or isinstance(found, (float, str))


def test_numpy_values_find_what_plain_values_find():
    document = {"candid": BIG, "rb": 0.5, "t": True}
    assert matches(document, check_filter({"candid": np.int64(BIG)}))
    assert matches(document, check_filter({"candid": {"$in": np.array([BIG])}}))
    assert matches(document, check_filter({"rb": {"$gte": np.float32(0.5)}}))
    assert matches(document, check_filter({"t": np.bool_(True)}))
    assert not matches(document, check_filter({"t": np.int64(1)}))


def test_times_of_astropy_become_dates_in_utc():
    found = plain(Time(60000.5, format="mjd", scale="tai"))
    assert found.tzinfo is not None
    assert found == datetime(2023, 2, 25, 11, 59, 23, tzinfo=UTC)
    assert matches({"a": NOON}, check_filter({"a": {"$lt": Time("2026-11-21T12:00:01", scale="utc")}}))


def test_lists_of_times_become_lists_of_dates():
    found = plain(Time([60000.0, 60001.0], format="mjd"))
    assert found == [datetime(2023, 2, 25, tzinfo=UTC), datetime(2023, 2, 26, tzinfo=UTC)]
    assert isinstance(found, list)


def test_dates_of_numpy_are_dates_whatever_their_resolution():
    for unit in ("D", "s", "ms", "us", "ns"):
        try:
            condition = check_filter({"a": {"$lt": np.datetime64("2027-01-01", unit)}})
        except FilterError:
            continue  # refusing is right too
        assert matches({"a": NOON}, condition), unit


def test_checking_leaves_the_given_filter_alone():
    condition = {"a": {"$in": (np.int64(1), 2)}, "$or": [{"b": 1}]}
    check_filter(condition)
    assert condition == {"a": {"$in": (np.int64(1), 2)}, "$or": [{"b": 1}]}
    assert isinstance(condition["a"]["$in"], tuple)


# Sorting -------------------------------------------------------------------------------------------------------------


def test_values_of_different_types_have_an_order():
    in_order = [
        None, -INF, -1, 0.5, 1, BIG, BIG + 1, INF, "", "A", "a", "é", {}, {"a": 1}, {"a": 2}, [], [1], [1, 2], b"a",
        False, True, NOON, NOON + timedelta(seconds=1),
    ]  # fmt: skip
    for left in range(len(in_order)):
        for right in range(len(in_order)):
            expected = (left > right) - (left < right)
            found = compare(in_order[left], in_order[right])
            assert (found > 0) - (found < 0) == expected, (in_order[left], in_order[right])
    assert compare(NAN, -INF) < 0 < compare(-INF, NAN)
    assert compare(NAN, NAN) == 0
    assert compare(None, NAN) < 0
    assert compare(1, 1.0) == 0


def _sorted(values, direction=1):
    documents = [{"a": value} if value != "missing" else {} for value in values]
    return [document.get("a", "missing") for document in sort_documents(documents, [("a", direction)])]


def test_documents_are_sorted_by_type_then_value():
    values = [True, "x", 5, None, [3], {"b": 1}, 1.5, NOON, b"z"]
    assert _sorted(values) == [None, 1.5, [3], 5, "x", {"b": 1}, b"z", True, NOON]
    assert _sorted(values, -1) == [NOON, True, b"z", {"b": 1}, "x", 5, [3], 1.5, None]


def test_arrays_count_by_their_smallest_upward_and_their_largest_downward():
    assert _sorted([[5, 9], 6, [1, 7]]) == [[1, 7], [5, 9], 6]
    assert _sorted([[5, 9], 8, [1, 7]], -1) == [[5, 9], 8, [1, 7]]


def test_missing_and_null_are_first_and_keep_their_order():
    assert _sorted([1, "missing", None, 0, "missing"]) == ["missing", None, "missing", 0, 1]
    assert _sorted([None, 1, "missing"], -1) == [1, None, "missing"]


def test_an_empty_array_comes_before_null():
    # "treats the empty array as less than null or a missing field"
    assert _sorted([5, None, [], "missing"]) == [[], None, "missing", 5]
    assert _sorted([5, None, []], -1) == [5, None, []]


def test_several_fields_and_dotted_paths():
    documents = [{"n": n, "c": {"jd": jd}} for n, jd in ((1, 3), (2, 1), (3, 3), (4, 2))]
    found = sort_documents(documents, check_sort([("c.jd", -1), ("n", 1)]))
    assert [document["n"] for document in found] == [1, 3, 4, 2]
    found = sort_documents(documents, check_sort({"c.jd": 1, "n": -1}))
    assert [document["n"] for document in found] == [2, 4, 3, 1]


def test_documents_within_arrays_are_sorted_by():
    documents = [{"n": 1, "c": [{"jd": 5}, {"jd": 2}]}, {"n": 2, "c": [{"jd": 3}]}, {"n": 3}]
    assert [d["n"] for d in sort_documents(documents, [("c.jd", 1)])] == [3, 1, 2]
    assert [d["n"] for d in sort_documents(documents, [("c.jd", -1)])] == [1, 2, 3]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, []), ("jd", [("jd", 1)]), ([("jd", -1)], [("jd", -1)]), ([["a", 1], ["b", -1]], [("a", 1), ("b", -1)]),
        ({"jd": -1}, [("jd", -1)]), ([], []),
    ],
)  # fmt: skip
def test_sort_orders(given, expected):
    assert check_sort(given) == expected


@pytest.mark.parametrize(
    "given",
    [[("jd", 2)], [("jd", 0)], ["jd"], ("jd", -1), [("jd",)], [(5, 1)], {"jd": "up"}, {"jd": None}, 5,
     {"jd": {"$meta": "textScore"}}, [("jd", [1])]],
    ids=repr,
)  # fmt: skip
def test_what_is_no_sort_order_is_refused(given):
    with pytest.raises(FilterError, match="sort"):
        check_sort(given)


# Projections ---------------------------------------------------------------------------------------------------------

DOCUMENT = {"_id": "x", "a": 1, "b": {"c": 2, "d": 3}, "e": [{"f": 4, "g": 5}, 6, [{"f": 7}]], "h": None}


@pytest.mark.parametrize(
    ("projection", "expected"),
    [
        (None, DOCUMENT),
        ({}, DOCUMENT),
        ({"a": 1}, {"_id": "x", "a": 1}),
        ({"a": True}, {"_id": "x", "a": 1}),
        (["a", "h"], {"_id": "x", "a": 1, "h": None}),
        ({"a": 1, "_id": 0}, {"a": 1}),
        ({"_id": 0, "a": 1}, {"a": 1}),
        ({"_id": 1}, {"_id": "x"}),
        (["_id"], {"_id": "x"}),
        ({"_id": 0}, {key: value for key, value in DOCUMENT.items() if key != "_id"}),
        ({"nothing": 1}, {"_id": "x"}),
        ({"b.c": 1}, {"_id": "x", "b": {"c": 2}}),
        ({"b.c": 1, "b.d": 1, "_id": 0}, {"b": {"c": 2, "d": 3}}),
        ({"b.nothing": 1, "_id": 0}, {"b": {}}),
        ({"a.b": 1, "_id": 0}, {}),
        ({"e.f": 1, "_id": 0}, {"e": [{"f": 4}, [{"f": 7}]]}),
        ({"a": 0, "b": 0, "e": 0}, {"_id": "x", "h": None}),
        ({"a": 0, "_id": 0, "e": 0}, {"b": {"c": 2, "d": 3}, "h": None}),
        ({"b.c": 0, "e": 0}, {"_id": "x", "a": 1, "b": {"d": 3}, "h": None}),
        ({"e.f": False, "a": 0, "b": 0, "_id": 0}, {"e": [{"g": 5}, 6, [{}]], "h": None}),
        ({"h": 1, "a": 1, "_id": 0}, {"a": 1, "h": None}),
    ],
)
def test_projections(projection, expected):
    found = Projection(projection).apply(dict(DOCUMENT))
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize(
    ("projection", "expected"),
    [
        ({"c": "$b.c"}, {"_id": "x", "c": 2}),
        ({"_id": 0, "c": "$b.c", "a": 1}, {"a": 1, "c": 2}),
        ({"_id": 0, "n": {"$size": "$e"}}, {"n": 3}),
        ({"_id": 0, "b": {"c": 1}}, {"b": {"c": 2}}),
        ({"_id": 0, "b": {"c": 1, "new": "$a"}}, {"b": {"c": 2, "new": 1}}),
        ({"_id": 0, "b.new": "$a"}, {"b": {"new": 1}}),
        ({"_id": 0, "e.new": "$a"}, {"e": [{"new": 1}, [{"new": 1}]]}),
        ({"_id": 0, "new.one": "$a"}, {"new": {"one": 1}}),
        ({"_id": 0, "x": "$nothing"}, {}),
        ({"_id": "$a"}, {"_id": 1}),
        ({"_id": 0, "x": ["$a", "$nothing"]}, {"x": [1, None]}),
        ({"_id": 0, "x": {"$literal": "$a"}}, {"x": "$a"}),
        (
            {"e": {"$slice": 1}},
            {"_id": "x", "a": 1, "b": {"c": 2, "d": 3}, "e": [{"f": 4, "g": 5}], "h": None},
        ),
        ({"e": {"$slice": -1}, "a": 1}, {"_id": "x", "a": 1, "e": [[{"f": 7}]]}),
        ({"e": {"$slice": [1, 1]}, "a": 0, "b": 0, "h": 0}, {"_id": "x", "e": [6]}),
        ({"e": {"$slice": [-2, 1]}, "a": 1, "_id": 0}, {"a": 1, "e": [6]}),
        ({"a": {"$slice": 1}, "_id": 0, "h": 1}, {"a": 1, "h": None}),
        ({"e": {"$elemMatch": {"f": 4}}}, {"_id": "x", "e": [{"f": 4, "g": 5}]}),
        ({"e": {"$elemMatch": {"$gt": 5}}}, {"_id": "x", "e": [6]}),
        ({"e": {"$elemMatch": {"f": 9}}, "a": 1}, {"_id": "x", "a": 1}),
        ({"_id": 0, "x": {"$slice": ["$e", 1]}}, {"x": [{"f": 4, "g": 5}]}),
        ({"a": 1.0, "_id": 0.0}, {"a": 1}),
    ],
    ids=repr,
)
def test_computed_fields_and_parts_of_arrays(projection, expected):
    made = Projection(projection)
    assert made.apply(dict(DOCUMENT)) == expected
    assert Projection(made.fields).apply(dict(DOCUMENT)) == expected  # what a server gets means the same


@pytest.mark.parametrize("projection", [{"e.$": 1}, {"score": {"$meta": "textScore"}}])
def test_what_no_archive_here_can_project_is_said_so(projection):
    with pytest.raises(UnsupportedError, match="not supported"):
        Projection(projection)


def test_a_projection_that_is_everything_sends_nothing():
    assert Projection(None).fields is None
    assert Projection({}).fields is None
    assert Projection(["a"]).fields == {"a": 1}
    assert Projection({"a": True}).fields == {"a": 1}


def test_a_projection_leaves_the_document_alone():
    before = repr(DOCUMENT)
    for projection in ({"e.f": 0}, {"e.f": 1}, {"_id": 0}, {"b.c": 0, "_id": 0}):
        Projection(projection).apply(DOCUMENT)
        assert repr(DOCUMENT) == before


@pytest.mark.parametrize(
    ("projection", "words"),
    [
        ({"a": 1, "b": 0}, "not both"),
        ({"a": 2}, r"\['a'\]"),
        ({"a": "1"}, r"\['a'\]"),
        ({"e": {"$slice": "x"}}, "2 to 3 arguments"),
        ({"e": {"$slice": [1, -1]}}, "positive"),
        ({"e": {"$slice": [1, 2, 3]}}, "skip"),
        ({"e.f": {"$elemMatch": {"g": 1}}}, "dotted"),
        ({"e": {}}, r"\['e'\]"),
        ({"e": None}, r"\$literal"),
        ({"$a": 1}, "field name"),
        ({"b": {"c": 1}, "b.c": 1}, "named twice"),
        ({"b": {5: 1}}, "a field name is a text"),
        ({"b": {"c": {"$gtt": 1}}}, r"did you mean \$gt"),
        ({"a": 0, "x": "$b"}, "not both"),
        ({"x": "$b", "x.y": 1}, "within another"),
        ("candid", "list of field names"),
        ([1, 2], "list of field names"),
        ({"b": 1, "b.c": 1}, "within another"),
        ({"b.c": 1, "b": 1}, "within another"),
        (5, "projection"),
        ({5: 1}, "projection"),
    ],
    ids=repr,
)
def test_what_is_no_projection_is_refused(projection, words):
    with pytest.raises(FilterError, match=words):
        Projection(projection)


def test_an_empty_list_of_fields_keeps_the_id_alone():
    assert Projection([]).apply(DOCUMENT) == {"_id": "x"}


@pytest.mark.parametrize(
    ("projection", "wanted"),
    [
        (None, True), ({"cut": 0}, False), ({"cut": 1}, True), ({"a": 1}, False), ({"a": 0}, True),
        ({"_id": 1}, False), ({"_id": 0}, True), ({"cut.stampData": 0}, True), ({"cut.fileName": 1}, True),
        ({"n": "$cut.fileName"}, True), ({"n": "$a"}, False), ({"n": "$$ROOT"}, True), ({"n": "$$ROOT.a"}, False),
        ({"cut": {"$slice": 1}}, True), ({"n": {"$literal": "$cut"}}, False), ({"n": {"$getField": "cut"}}, True),
        ({"n": {"$map": {"input": "$cut", "in": "$$this"}}}, True), ({"cut.new": "$a"}, True),
    ],
)  # fmt: skip
def test_which_fields_are_wanted(projection, wanted):
    assert Projection(projection).wants("cut") is wanted


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("candidate.jd", 2461366.25),
        ("jd", 2461366.25),
        ("candidate.jdstarthist", 2461366.25),
        ("mjd", 61365.75),
        ("diaSource.midpointMjdTai", 61365.75 + 37 / 86400),
    ],
)
@pytest.mark.parametrize("make", [lambda when: when, Time])
def test_a_time_compared_with_a_julian_date_becomes_one(field, value, make):
    when = make(datetime(2026, 11, 21, 18, tzinfo=UTC))
    checked = check_filter(
        {field: {"$gte": when, "$in": [when, 5]}, "$and": [{field: {"$not": {"$lt": when}}}]}
    )
    assert checked[field]["$gte"] == pytest.approx(value, abs=1e-9)
    assert checked[field]["$in"] == [pytest.approx(value, abs=1e-9), 5]
    assert checked["$and"][0][field]["$not"]["$lt"] == pytest.approx(value, abs=1e-9)
    assert check_filter({field: when})[field] == pytest.approx(value, abs=1e-9)


def test_a_time_compared_with_another_field_stays_one():
    when = datetime(2026, 11, 21, 18, tzinfo=UTC)
    assert check_filter({"created_at": {"$gte": when}, "jds": when}) == {
        "created_at": {"$gte": when},
        "jds": when,
    }
