"""The expressions of the language, held against what MongoDB's manual says of each operator."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from bson import ObjectId

from nuncius.archives.language import (
    MISSING,
    OPERATORS,
    bounded,
    check_expression,
    check_filter,
    check_pipeline,
    equal,
    evaluate,
    fields_read,
    matches,
    run_pipeline,
)
from nuncius.archives.language.functions.table import FUNCTIONS
from nuncius.errors import DeadlineError, FilterError, ForbiddenError, UnsupportedError

NAN, INF = math.nan, math.inf
NOON = datetime(2026, 11, 21, 12, 30, 15, 250000, tzinfo=UTC)
BIG = 2475433850215010007
OID = ObjectId("507f1f77bcf86cd799439011")
DOCUMENT = {
    "_id": "x", "a": 7, "b": 2, "half": 0.5, "neg": -3.7, "t": True, "f": False, "null": None, "nan": NAN, "big": BIG,
    "s": "ZTF18abc", "e": "Élan", "noon": NOON, "list": [3, 1, 2], "empty": [], "mixed": [1, "a", None, [2]],
    "c": {"jd": 2.5, "name": "x"}, "points": [{"m": 18.5, "e": 1}, {"m": 19.5}, 5, {"e": 3}],
    "deep": [{"p": [{"q": 1}, {"q": 2}]}, {"p": {"q": 3}}, {"p": 4}], "id": OID,
}  # fmt: skip


def date(*parts):
    return datetime(*parts, tzinfo=UTC)


ANSWERS = [
    # Paths.
    ("$a", 7),
    ("$c.jd", 2.5),
    ("$nothing", MISSING),
    ("$a.b", MISSING),
    ("$c.nothing", MISSING),
    ("$points.m", [18.5, 19.5]),
    ("$points.nothing", []),
    ("$list.x", []),
    ("$deep.p.q", [[1, 2], 3]),
    ("$list.0", []),  # a number is the name of a field here, and no index
    ("$null.x", MISSING),
    ("$$ROOT.a", 7),
    ("$$CURRENT.c.jd", 2.5),
    ("$$REMOVE", MISSING),
    ("text", "text"),
    (5, 5),
    (None, None),
    (["$a", "$nothing", 1], [7, None, 1]),
    ({"x": "$a", "y": "$nothing", "z": {"w": "$b"}}, {"x": 7, "z": {"w": 2}}),
    ({"$literal": "$a"}, "$a"),
    ({"$literal": {"$add": [1, 2]}}, {"$add": [1, 2]}),
    ({"$let": {"vars": {"x": "$a", "y": 2}, "in": {"$multiply": ["$$x", "$$y"]}}}, 14),
    ({"$let": {"vars": {"x": "$c"}, "in": "$$x.jd"}}, 2.5),
    # Arithmetic.
    ({"$add": ["$a", "$b", 1]}, 10),
    ({"$add": ["$a", "$null"]}, None),
    ({"$add": ["$a", "$nothing"]}, None),
    ({"$add": []}, 0),
    ({"$add": ["$noon", 1000]}, NOON + timedelta(seconds=1)),
    ({"$add": [BIG, BIG, BIG, BIG]}, float(4 * BIG)),
    ({"$add": [BIG, 1]}, BIG + 1),
    ({"$subtract": ["$a", "$half"]}, 6.5),
    ({"$subtract": ["$noon", date(2026, 11, 21, 12)]}, 1815250),
    ({"$subtract": ["$noon", 15250]}, date(2026, 11, 21, 12, 30)),
    ({"$subtract": ["$null", 1]}, None),
    ({"$multiply": ["$a", "$b", 0.5]}, 7.0),
    ({"$multiply": [2**40, 2**40]}, float(2**80)),
    ({"$multiply": ["$nothing", 2]}, None),
    ({"$divide": ["$a", "$b"]}, 3.5),
    ({"$divide": [6, 3]}, 2.0),
    ({"$divide": [None, 0]}, None),
    ({"$mod": ["$a", 4]}, 3),
    ({"$mod": [-7, 4]}, -3),
    ({"$mod": [7.5, 2]}, 1.5),
    ({"$mod": ["$big", 10]}, 7),
    ({"$abs": "$neg"}, 3.7),
    ({"$abs": ["$neg"]}, 3.7),
    ({"$abs": None}, None),
    ({"$ceil": 7.2}, 8.0),
    ({"$ceil": -2.8}, -2.0),
    ({"$ceil": 5}, 5),
    ({"$floor": -2.8}, -3.0),
    ({"$floor": "$nothing"}, None),
    ({"$round": [19.25, 1]}, 19.2),
    ({"$round": [28.73, 1]}, 28.7),
    ({"$round": [2.675, 2]}, 2.68),
    ({"$round": 10.5}, 10.0),
    ({"$round": 11.5}, 12.0),
    ({"$round": [1234, -2]}, 1200),
    ({"$round": [1250, -2]}, 1200),
    ({"$round": [INF, 2]}, INF),
    ({"$round": [7, 3]}, 7),
    ({"$trunc": [7.85, 1]}, 7.8),
    ({"$trunc": [-7.85]}, -7.0),
    ({"$trunc": [1299, -2]}, 1200),
    ({"$sqrt": 25}, 5.0),
    ({"$sqrt": "$null"}, None),
    ({"$sqrt": NAN}, NAN),
    ({"$pow": [5, 2]}, 25),
    ({"$pow": [5, -2]}, 0.04),
    ({"$pow": [2, 63]}, 2.0**63),
    ({"$pow": [10, 1000000]}, INF),
    ({"$pow": [-10, 1000001]}, -INF),
    ({"$pow": [-8, 0.5]}, NAN),
    ({"$pow": [0, 0]}, 1),
    ({"$exp": 0}, 1.0),
    ({"$exp": 10000}, INF),
    ({"$ln": math.e}, 1.0),
    ({"$log": [100, 10]}, 2.0),
    ({"$log10": 1000}, 3.0),
    ({"$sin": 0}, 0.0),
    ({"$cos": 0}, 1.0),
    ({"$atan2": [1, 1]}, math.pi / 4),
    ({"$asin": 1}, math.pi / 2),
    ({"$degreesToRadians": 180}, math.pi),
    ({"$radiansToDegrees": math.pi}, 180.0),
    # Comparison: by type, then by value.
    ({"$eq": ["$a", 7.0]}, True),
    ({"$eq": ["$t", 1]}, False),
    ({"$eq": ["$nothing", None]}, False),
    ({"$ne": ["$a", 7]}, False),
    ({"$gt": ["$s", "$a"]}, True),
    ({"$gt": ["$nothing", None]}, False),
    ({"$lt": ["$nothing", None]}, True),
    ({"$gt": ["$null", None]}, False),
    ({"$gte": ["$null", None]}, True),
    ({"$lte": ["$a", 7]}, True),
    ({"$cmp": ["$a", "$b"]}, 1),
    ({"$cmp": ["$b", "$a"]}, -1),
    ({"$cmp": ["$a", 7]}, 0),
    ({"$eq": [{"b": 1, "c": 2}, {"c": 2, "b": 1}]}, False),
    # Logic and choice.
    ({"$and": [1, "x", "$t"]}, True),
    ({"$and": [1, 0]}, False),
    ({"$and": [None]}, False),
    ({"$and": ["$nothing"]}, False),
    ({"$and": []}, True),
    ({"$and": "$t"}, True),
    ({"$or": []}, False),
    ({"$or": [0, "$f", []]}, True),
    ({"$not": ["$f"]}, True),
    ({"$not": "$list"}, False),
    ({"$or": [True, {"$divide": [1, 0]}]}, True),  # what is not needed is not computed
    ({"$cond": ["$t", "yes", "no"]}, "yes"),
    ({"$cond": {"if": {"$gt": ["$a", 10]}, "then": 1, "else": 2}}, 2),
    ({"$cond": [False, {"$divide": [1, 0]}, "$nothing"]}, MISSING),
    ({"$ifNull": ["$null", "none"]}, "none"),
    ({"$ifNull": ["$nothing", "$null", "$a", 5]}, 7),
    ({"$ifNull": ["$nothing", "$null"]}, None),
    ({"$ifNull": ["$f", 1]}, False),
    ({"$switch": {"branches": [{"case": "$f", "then": 1}, {"case": "$t", "then": 2}], "default": 3}}, 2),
    ({"$switch": {"branches": [{"case": "$f", "then": 1}], "default": 3}}, 3),
    # Arrays.
    ({"$size": "$list"}, 3),
    ({"$size": [["a", "b"]]}, 2),
    ({"$arrayElemAt": ["$list", 0]}, 3),
    ({"$arrayElemAt": ["$list", -1]}, 2),
    ({"$arrayElemAt": ["$list", 9]}, MISSING),
    ({"$arrayElemAt": ["$null", 0]}, None),
    ({"$first": "$list"}, 3),
    ({"$last": "$list"}, 2),
    ({"$first": "$empty"}, MISSING),
    ({"$first": "$null"}, None),
    ({"$slice": ["$list", 2]}, [3, 1]),
    ({"$slice": ["$list", -2]}, [1, 2]),
    ({"$slice": ["$list", 1, 1]}, [1]),
    ({"$slice": ["$list", -2, 1]}, [1]),
    ({"$slice": ["$list", 15, 2]}, []),
    ({"$slice": ["$list", -15, 2]}, [3, 1]),
    ({"$slice": ["$list", 0]}, []),
    ({"$slice": ["$null", 2]}, None),
    ({"$in": [2, "$list"]}, True),
    ({"$in": [True, [1]]}, False),
    ({"$indexOfArray": ["$list", 1]}, 1),
    ({"$indexOfArray": ["$list", 9]}, -1),
    ({"$indexOfArray": ["$list", 3, 1]}, -1),
    ({"$indexOfArray": ["$list", 2, 0, 2]}, -1),
    ({"$indexOfArray": ["$null", 2]}, None),
    ({"$concatArrays": ["$list", [9]]}, [3, 1, 2, 9]),
    ({"$concatArrays": ["$list", "$nothing"]}, None),
    ({"$concatArrays": []}, []),
    ({"$reverseArray": "$list"}, [2, 1, 3]),
    ({"$reverseArray": "$null"}, None),
    ({"$range": [0, 10, 2]}, [0, 2, 4, 6, 8]),
    ({"$range": [10, 0, -5]}, [10, 5]),
    ({"$range": [0, 5, -1]}, []),
    ({"$range": [0, 3]}, [0, 1, 2]),
    ({"$isArray": "$list"}, True),
    ({"$isArray": ["$a"]}, False),
    ({"$isArray": ["$nothing"]}, False),
    ({"$filter": {"input": "$list", "cond": {"$gt": ["$$this", 1]}}}, [3, 2]),
    ({"$filter": {"input": "$list", "as": "n", "cond": {"$gt": ["$$n", 1]}, "limit": 1}}, [3]),
    ({"$filter": {"input": "$null", "cond": True}}, None),
    ({"$filter": {"input": "$points", "as": "p", "cond": {"$gte": ["$$p.m", 19]}}}, [{"m": 19.5}]),
    ({"$map": {"input": "$list", "in": {"$add": ["$$this", "$a"]}}}, [10, 8, 9]),
    ({"$map": {"input": "$points", "as": "p", "in": "$$p.m"}}, [18.5, 19.5, None, None]),
    ({"$map": {"input": "$nothing", "in": 1}}, None),
    ({"$reduce": {"input": "$list", "initialValue": 0, "in": {"$add": ["$$value", "$$this"]}}}, 6),
    ({"$reduce": {"input": "$empty", "initialValue": "x", "in": 1}}, "x"),
    ({"$reduce": {"input": ["a", "b"], "initialValue": "", "in": {"$concat": ["$$value", "$$this"]}}}, "ab"),
    ({"$zip": {"inputs": [[1, 2, 3], ["a", "b"]]}}, [[1, "a"], [2, "b"]]),
    ({"$zip": {"inputs": [[1, 2], ["a"]], "useLongestLength": True}}, [[1, "a"], [2, None]]),
    ({"$zip": {"inputs": [[1], []], "useLongestLength": True, "defaults": [0, "z"]}}, [[1, "z"]]),
    ({"$zip": {"inputs": [[1], "$null"]}}, None),
    ({"$sortArray": {"input": "$list", "sortBy": 1}}, [1, 2, 3]),
    ({"$sortArray": {"input": ["b", 2, None, "a"], "sortBy": -1}}, ["b", "a", 2, None]),
    ({"$sortArray": {"input": [{"m": 2}, {"m": 1}], "sortBy": {"m": 1}}}, [{"m": 1}, {"m": 2}]),
    ({"$sortArray": {"input": "$null", "sortBy": 1}}, None),
    ({"$arrayToObject": [[["a", 1], ["b", 2]]]}, {"a": 1, "b": 2}),
    ({"$arrayToObject": {"$literal": [{"k": "a", "v": 1}]}}, {"a": 1}),
    ({"$objectToArray": "$c"}, [{"k": "jd", "v": 2.5}, {"k": "name", "v": "x"}]),
    ({"$objectToArray": "$null"}, None),
    ({"$setUnion": [[1, 2], [2, 3]]}, [1, 2, 3]),
    ({"$setUnion": [[1, 2], "$null"]}, None),
    ({"$setIntersection": [[1, 2, 1], [2, 1.0]]}, [1, 2]),
    ({"$setIntersection": []}, []),
    ({"$setDifference": [[1, 2, 2, 3], [1]]}, [2, 3]),
    ({"$setIsSubset": [[1, 1], [1, 2]]}, True),
    ({"$setEquals": [["a", "b", "a"], ["b", "a"]]}, True),
    ({"$setEquals": [[1], [1], [2]]}, False),
    ({"$anyElementTrue": [[0, "x"]]}, True),
    ({"$anyElementTrue": [[]]}, False),
    ({"$allElementsTrue": [[1, None]]}, False),
    ({"$allElementsTrue": [[]]}, True),
    # Statistics of arrays.
    ({"$sum": "$list"}, 6),
    ({"$sum": ["$a", "$b", "text"]}, 9),
    ({"$sum": ["$a", "$list"]}, 7),
    ({"$sum": "$mixed"}, 1),
    ({"$sum": "$nothing"}, 0),
    ({"$sum": [[0.1] * 10]}, 1.0),
    ({"$avg": "$list"}, 2.0),
    ({"$avg": "$empty"}, None),
    ({"$min": "$mixed"}, 1),
    ({"$max": "$list"}, 3),
    ({"$max": ["$a", "$null", "$b"]}, 7),
    ({"$min": "$empty"}, None),
    ({"$stdDevPop": "$list"}, math.sqrt(2 / 3)),
    ({"$stdDevSamp": "$list"}, 1.0),
    ({"$stdDevSamp": [[5]]}, None),
    ({"$stdDevPop": [["a"]]}, None),
    ({"$firstN": {"input": "$list", "n": 2}}, [3, 1]),
    ({"$lastN": {"input": "$list", "n": 2}}, [1, 2]),
    ({"$minN": {"input": "$list", "n": 2}}, [1, 2]),
    ({"$maxN": {"input": [1, None, "a", 3], "n": 2}}, ["a", 3]),
    ({"$median": {"input": "$list", "method": "approximate"}}, 2.0),
    ({"$percentile": {"input": [45, 60, 80], "p": [0.5, 0.95], "method": "approximate"}}, [60.0, 80.0]),
    ({"$percentile": {"input": "$empty", "p": [0.5], "method": "approximate"}}, [None]),
    # Texts.
    ({"$concat": ["$s", "-", "x"]}, "ZTF18abc-x"),
    ({"$concat": ["$s", "$null"]}, None),
    ({"$substr": ["$s", 0, 3]}, "ZTF"),
    ({"$substr": ["$s", 5, -1]}, "abc"),
    ({"$substr": ["$s", -1, 2]}, ""),
    ({"$substr": ["$null", 0, 3]}, ""),
    ({"$substr": ["$a", 0, 3]}, "7"),
    ({"$substrCP": ["$e", 0, 2]}, "Él"),
    ({"$substrBytes": ["$e", 0, 2]}, "É"),
    ({"$toLower": "$s"}, "ztf18abc"),
    ({"$toUpper": "$null"}, ""),
    ({"$split": ["a-b-c", "-"]}, ["a", "b", "c"]),
    ({"$split": ["$null", "-"]}, None),
    ({"$strLenCP": "$e"}, 4),
    ({"$strLenBytes": "$e"}, 5),
    ({"$trim": {"input": " \n x \t"}}, "x"),
    ({"$trim": {"input": "ggxg", "chars": "g"}}, "x"),
    ({"$ltrim": {"input": "  x "}}, "x "),
    ({"$rtrim": {"input": " x  "}}, " x"),
    ({"$trim": {"input": "$null"}}, None),
    ({"$indexOfCP": ["$e", "a"]}, 2),
    ({"$indexOfBytes": ["$e", "a"]}, 3),
    ({"$indexOfCP": ["$s", "z"]}, -1),
    ({"$indexOfCP": ["cafeteria", "e", 4, 6]}, 5),
    ({"$indexOfCP": ["$null", "z"]}, None),
    ({"$regexMatch": {"input": "$s", "regex": "^ztf", "options": "i"}}, True),
    ({"$regexMatch": {"input": "$null", "regex": "x"}}, False),
    ({"$regexFind": {"input": "$s", "regex": "([0-9])([0-9])(x)?"}},
     {"match": "18", "idx": 3, "captures": ["1", "8", None]}),
    ({"$regexFind": {"input": "$s", "regex": "q"}}, None),
    ({"$regexFindAll": {"input": "aXbX", "regex": "X"}},
     [{"match": "X", "idx": 1, "captures": []}, {"match": "X", "idx": 3, "captures": []}]),
    ({"$replaceOne": {"input": "a.a", "find": ".", "replacement": "-"}}, "a-a"),
    ({"$replaceAll": {"input": "a.a.a", "find": "a", "replacement": "bb"}}, "bb.bb.bb"),
    ({"$replaceOne": {"input": "$nothing", "find": ".", "replacement": "-"}}, None),
    ({"$strcasecmp": ["ABC", "abc"]}, 0),
    ({"$strcasecmp": ["a", "B"]}, -1),
    ({"$strcasecmp": ["a", None]}, 1),
    # Types.
    ({"$type": "$a"}, "int"),
    ({"$type": "$big"}, "long"),
    ({"$type": "$half"}, "double"),
    ({"$type": "$nothing"}, "missing"),
    ({"$type": "$null"}, "null"),
    ({"$type": "$t"}, "bool"),
    ({"$type": "$noon"}, "date"),
    ({"$type": "$id"}, "objectId"),
    ({"$type": [[1]]}, "array"),
    ({"$isNumber": "$half"}, True),
    ({"$isNumber": "$t"}, False),
    ({"$toString": 2.5}, "2.5"),
    ({"$toString": 3.0}, "3"),
    ({"$toString": True}, "true"),
    ({"$toString": "$big"}, str(BIG)),
    ({"$toString": "$noon"}, "2026-11-21T12:30:15.250Z"),
    ({"$toString": "$id"}, str(OID)),
    ({"$toString": "$nothing"}, None),
    ({"$toInt": 5.9}, 5),
    ({"$toInt": "-12"}, -12),
    ({"$toInt": True}, 1),
    ({"$toLong": str(BIG)}, BIG),
    ({"$toLong": "$noon"}, 1795264215250),
    ({"$toDouble": "1e3"}, 1000.0),
    ({"$toDouble": "-.5"}, -0.5),
    ({"$toDouble": 7}, 7.0),
    ({"$toBool": "false"}, True),
    ({"$toBool": 0.0}, False),
    ({"$toBool": "$null"}, None),
    ({"$toDate": 0}, date(1970, 1, 1)),
    ({"$toDate": "2026-11-21T12:30:15.250Z"}, NOON),
    ({"$toDate": "2026-11-21"}, date(2026, 11, 21)),
    ({"$toDate": "2026-11-21T13:30:15.25+01:00"}, NOON),
    ({"$toObjectId": str(OID)}, OID),
    ({"$convert": {"input": "5", "to": "int"}}, 5),
    ({"$convert": {"input": "5", "to": 1}}, 5.0),
    ({"$convert": {"input": "x", "to": "int", "onError": "bad"}}, "bad"),
    ({"$convert": {"input": "$null", "to": "int", "onNull": 0}}, 0),
    ({"$convert": {"input": "$nothing", "to": "int"}}, None),
    # Dates.
    ({"$year": "$noon"}, 2026),
    ({"$month": "$noon"}, 11),
    ({"$dayOfMonth": "$noon"}, 21),
    ({"$hour": "$noon"}, 12),
    ({"$hour": {"date": "$noon", "timezone": "America/Los_Angeles"}}, 4),
    ({"$hour": {"date": "$noon", "timezone": "+02:00"}}, 14),
    ({"$minute": "$noon"}, 30),
    ({"$second": "$noon"}, 15),
    ({"$millisecond": "$noon"}, 250),
    ({"$dayOfWeek": "$noon"}, 7),
    ({"$isoDayOfWeek": "$noon"}, 6),
    ({"$dayOfYear": "$noon"}, 325),
    ({"$week": date(2026, 1, 4)}, 1),
    ({"$week": date(2026, 1, 3)}, 0),
    ({"$isoWeek": date(2021, 1, 3)}, 53),
    ({"$isoWeekYear": date(2021, 1, 3)}, 2020),
    ({"$year": "$null"}, None),
    ({"$dateToString": {"date": "$noon"}}, "2026-11-21T12:30:15.250Z"),
    ({"$dateToString": {"date": "$noon", "format": "%Y/%m/%d %H:%M:%S.%L %j %u %w %b %%"}},
     "2026/11/21 12:30:15.250 325 6 7 Nov %"),
    ({"$dateToString": {"date": "$noon", "format": "%H%z %Z %U %V %G %B", "timezone": "-0330"}},
     "09-0330 -210 46 47 2026 November"),
    ({"$dateToString": {"date": "$null", "onNull": "none"}}, "none"),
    ({"$dateFromString": {"dateString": "2026-11-21T12:30:15.250Z"}}, NOON),
    ({"$dateFromString": {"dateString": "21-11-2026", "format": "%d-%m-%Y"}}, date(2026, 11, 21)),
    ({"$dateFromString": {"dateString": "2026-11-21T13:30:15.250", "timezone": "+01:00"}}, NOON),
    ({"$dateFromString": {"dateString": "2026-07-01T12:00:00", "timezone": "America/New_York"}}, date(2026, 7, 1, 16)),
    ({"$dateFromString": {"dateString": "x", "onError": "bad"}}, "bad"),
    ({"$dateFromString": {"dateString": None, "onNull": "none"}}, "none"),
    ({"$dateAdd": {"startDate": date(2026, 1, 31), "unit": "month", "amount": 1}}, date(2026, 2, 28)),
    ({"$dateAdd": {"startDate": date(2020, 2, 29), "unit": "year", "amount": 1}}, date(2021, 2, 28)),
    ({"$dateAdd": {"startDate": "$noon", "unit": "hour", "amount": 12}}, NOON + timedelta(hours=12)),
    ({"$dateAdd": {"startDate": date(2026, 3, 28, 12), "unit": "day", "amount": 1, "timezone": "Europe/Rome"}},
     date(2026, 3, 29, 11)),  # the night has an hour less
    ({"$dateSubtract": {"startDate": date(2026, 3, 31), "unit": "quarter", "amount": 1}}, date(2025, 12, 31)),
    ({"$dateSubtract": {"startDate": "$noon", "unit": "week", "amount": 1}}, NOON - timedelta(days=7)),
    ({"$dateAdd": {"startDate": "$null", "unit": "day", "amount": 1}}, None),
    ({"$dateDiff": {"startDate": date(2020, 12, 31, 23), "endDate": date(2021, 1, 1), "unit": "year"}}, 1),
    ({"$dateDiff": {"startDate": date(2020, 1, 1), "endDate": date(2020, 12, 31), "unit": "year"}}, 0),
    ({"$dateDiff": {"startDate": date(2021, 1, 30), "endDate": date(2020, 11, 1), "unit": "month"}}, -2),
    ({"$dateDiff": {"startDate": date(2026, 11, 20, 23), "endDate": date(2026, 11, 21, 1), "unit": "day"}}, 1),
    # Friday 1 January 2021 to Friday 15: two Sundays, and, from one Friday to the next, two Fridays after the first.
    ({"$dateDiff": {"startDate": date(2021, 1, 1), "endDate": date(2021, 1, 15), "unit": "week"}}, 2),
    ({"$dateDiff": {"startDate": date(2021, 1, 1), "endDate": date(2021, 1, 15), "unit": "week",
                    "startOfWeek": "Friday"}}, 2),
    ({"$dateDiff": {"startDate": date(2021, 1, 2), "endDate": date(2021, 1, 3), "unit": "week"}}, 1),
    ({"$dateDiff": {"startDate": date(2021, 1, 2), "endDate": date(2021, 1, 3), "unit": "week",
                    "startOfWeek": "mon"}}, 0),
    ({"$dateDiff": {"startDate": date(2021, 1, 1, 0, 59), "endDate": date(2021, 1, 1, 1, 1), "unit": "hour"}}, 1),
    ({"$dateDiff": {"startDate": date(2021, 1, 1), "endDate": date(2021, 5, 1), "unit": "quarter"}}, 1),
    ({"$dateTrunc": {"date": "$noon", "unit": "day"}}, date(2026, 11, 21)),
    ({"$dateTrunc": {"date": "$noon", "unit": "hour"}}, date(2026, 11, 21, 12)),
    ({"$dateTrunc": {"date": "$noon", "unit": "month"}}, date(2026, 11, 1)),
    ({"$dateTrunc": {"date": "$noon", "unit": "quarter"}}, date(2026, 10, 1)),
    ({"$dateTrunc": {"date": "$noon", "unit": "week"}}, date(2026, 11, 15)),
    ({"$dateTrunc": {"date": "$noon", "unit": "week", "startOfWeek": "monday"}}, date(2026, 11, 16)),
    ({"$dateTrunc": {"date": date(2024, 12, 5), "unit": "day", "binSize": 7}}, date(2024, 11, 30)),
    ({"$dateTrunc": {"date": date(1995, 5, 5), "unit": "year", "binSize": 10}}, date(1990, 1, 1)),
    ({"$dateTrunc": {"date": date(2021, 3, 20, 11, 30, 5), "unit": "hour", "binSize": 2}}, date(2021, 3, 20, 10)),
    ({"$dateTrunc": {"date": "$noon", "unit": "day", "timezone": "America/Los_Angeles"}}, date(2026, 11, 21, 8)),
    # Documents.
    ({"$mergeObjects": ["$c", {"name": "y"}, None]}, {"jd": 2.5, "name": "y"}),
    ({"$mergeObjects": "$nothing"}, {}),
    ({"$getField": "a"}, 7),
    ({"$getField": {"field": "jd", "input": "$c"}}, 2.5),
    ({"$getField": {"field": "x", "input": "$a"}}, MISSING),
    ({"$getField": {"field": {"$literal": "$price"}, "input": {"$literal": {"$price": 5}}}}, 5),
    ({"$setField": {"field": "a.b", "input": "$c", "value": 1}}, {"jd": 2.5, "name": "x", "a.b": 1}),
    ({"$setField": {"field": "jd", "input": "$c", "value": "$$REMOVE"}}, {"name": "x"}),
    ({"$setField": {"field": "jd", "input": "$null", "value": 1}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), ANSWERS, ids=repr)
def test_an_expression_means_what_mongodb_documents(expression, expected):
    found = evaluate(check_expression(expression), DOCUMENT)
    if isinstance(expected, float) and math.isfinite(expected):
        assert found == pytest.approx(expected, abs=1e-15)
        assert isinstance(found, float)
    else:
        assert equal(found, expected), found
        assert type(found) is type(expected)


def test_every_operator_has_an_answer_in_the_table():
    def operators(expression):
        if isinstance(expression, dict):
            for key, value in expression.items():
                yield key
                yield from operators(value)
        elif isinstance(expression, list):
            for item in expression:
                yield from operators(item)

    tested = {operator for expression, _ in ANSWERS for operator in operators(expression)}
    simple = {"$tan", "$acos", "$atan", "$sinh", "$cosh", "$tanh", "$asinh", "$acosh", "$atanh", "$toDecimal"}
    assert set(FUNCTIONS) - tested == simple


@pytest.mark.parametrize("name", ["tan", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "atanh"])
def test_functions_of_angles(name):
    assert evaluate(check_expression({f"${name}": 0.3}), {}) == getattr(math, name)(0.3)


def test_the_present_time_is_one_for_all_that_is_given_it():
    before = datetime.now(UTC)
    assert before <= evaluate("$$NOW", {}) <= datetime.now(UTC)
    assert evaluate(check_expression({"$year": "$$NOW"}), {}, {"NOW": NOON}) == 2026


def test_variables_from_outside():
    expression = check_expression({"$add": ["$$n", 1]}, "expression", ["n"])
    assert evaluate(expression, {}, {"n": 4}) == 5


def test_times_without_a_zone_are_utc():
    assert evaluate(check_expression({"$hour": "$t"}), {"t": datetime(2026, 11, 21, 12)}) == 12
    late = datetime(2026, 11, 21, 1, tzinfo=timezone(timedelta(hours=2)))
    assert evaluate(check_expression({"$dayOfMonth": "$t"}), {"t": late}) == 20


def test_values_of_numpy_may_stand_in_an_expression():
    checked = check_expression({"$add": ["$a", np.int64(1), np.float32(0.5)]})
    assert evaluate(checked, {"a": 1}) == 2.5
    assert all(type(item).__module__ != "numpy" for item in checked["$add"])


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "position", "words"),
    [
        ({"$addd": [1, 2]}, "expression['$addd']", r"did you mean \$add"),
        ({"$substract": ["$a", 1]}, "expression['$substract']", r"\$subtract"),
        ({"$subtract": ["$a"]}, "expression['$subtract']", "takes 2 arguments, not 1"),
        ({"$subtract": "$a"}, "expression['$subtract']", "takes 2 arguments, not 1"),
        ({"$abs": [1, 2]}, "expression['$abs']", "takes 1 argument, not 2"),
        ({"$ifNull": ["$a"]}, "expression['$ifNull']", "at least 2"),
        ({"$slice": ["$a", 1, 2, 3]}, "expression['$slice']", "2 to 3"),
        ({"$cond": [1, 2]}, "expression['$cond']", "takes 3"),
        ({"$cond": {"if": 1, "then": 2}}, "expression['$cond']", "'else' is missing"),
        ({"$cond": {"if": 1, "then": 2, "els": 3}}, "expression['$cond']['els']", "did you mean else"),
        ({"$map": ["$a", 1]}, "expression['$map']", "by name: input, in"),
        ({"$map": {"input": "$a", "as": "This", "in": 1}}, "expression['$map']['as']", "small letter"),
        ({"$map": {"input": "$a", "as": "x", "in": "$$y"}}, "expression['$map']['in']", "no variable"),
        ({"$map": {"input": "$$this", "in": 1}}, "expression['$map']['input']", "no variable"),
        ({"$filter": {"input": "$a", "cond": {"$gtt": [1, 2]}}}, "expression['$filter']['cond']['$gtt']", r"\$gt"),
        ({"$let": {"vars": {"X": 1}, "in": 1}}, "expression['$let']['vars']", "small letter"),
        ({"$let": {"vars": 1, "in": 1}}, "expression['$let']['vars']", "mapping"),
        ({"$let": {"in": 1}}, "expression['$let']", "vars"),
        ({"$switch": {"branches": []}}, "expression['$switch']['branches']", "at least one"),
        ({"$switch": {"branches": [{"case": 1}]}}, "expression['$switch']['branches'][0]", "then"),
        ({"$switch": 1}, "expression['$switch']", "branches"),
        ({"$sortArray": {"input": [], "sortBy": 2}}, "expression['$sortArray']['sortBy']", "1, -1"),
        ({"$sortArray": {"input": [], "sortBy": True}}, "expression['$sortArray']['sortBy']", "1, -1"),
        ({"$sortArray": {"input": [], "sortBy": [1]}}, "expression['$sortArray']['sortBy']", "1, -1"),
        ({"$zip": {"inputs": [], "useLongestLength": 1}}, "expression['$zip']['useLongestLength']", "true or false"),
        ({"$getField": {"field": "a", "inputs": 1}}, "expression['$getField']", "field and input"),
        ({"a": 1, "$add": [1]}, "expression", r"\$add stands alone"),
        ({"$add": [1], "$sum": 1}, "expression", "stands alone"),
        ({"a.b": 1}, "expression", "without dots"),
        ("$", "expression", "names no field"),
        ("$$", "expression", "names no field"),
        ("$a..b", "expression", "empty name"),
        ("$$nope", "expression", "no variable"),
        ("$$ROOTS.a", "expression", r"did you mean \$\$ROOT"),
        ([1, {"x": {"$divid": [1, 2]}}], "expression[1]['x']['$divid']", r"did you mean \$divide"),
        ({"$add": [object()]}, "expression['$add'][0]", "can't stand"),
    ],
)  # fmt: skip
def test_an_expression_that_means_nothing_is_an_error_that_names_the_place(expression, position, words):
    with pytest.raises(FilterError, match=words) as caught:
        check_expression(expression)
    assert caught.value.position == position
    assert position in str(caught.value)


@pytest.mark.parametrize("operator", ["$function", "$accumulator", "$where"])
def test_an_expression_runs_no_code(operator):
    for expression in ({operator: {}}, {"$add": [1, {"$cond": [{operator: "x"}, 1, 2]}]}):
        with pytest.raises(ForbiddenError, match="runs no code"):
            check_expression(expression)
    assert check_expression({"$literal": {operator: 1}}) == {"$literal": {operator: 1}}


def test_decimal_numbers_are_refused_with_what_to_use():
    with pytest.raises(UnsupportedError, match=r"\$toDouble"):
        check_expression({"$toDecimal": "$a"})
    with pytest.raises(UnsupportedError, match=r"\$toDouble"):
        evaluate(check_expression({"$convert": {"input": 1, "to": "decimal", "onError": 0}}), {})


@pytest.mark.parametrize(
    ("expression", "operator"),
    [
        ({"$divide": ["$a", 0]}, "$divide"),
        ({"$divide": ["$s", 2]}, "$divide"),
        ({"$divide": ["$t", 2]}, "$divide"),
        ({"$add": ["$a", "$s"]}, "$add"),
        ({"$add": ["$noon", "$noon"]}, "$add"),
        ({"$add": ["$noon", 1e18]}, "$add"),
        ({"$subtract": [1, "$noon"]}, "$subtract"),
        ({"$multiply": ["$list", 2]}, "$multiply"),
        ({"$mod": ["$a", 0]}, "$mod"),
        ({"$pow": [0, -1]}, "$pow"),
        ({"$sqrt": -1}, "$sqrt"),
        ({"$ln": 0}, "$ln"),
        ({"$log": [10, 1]}, "$log"),
        ({"$log10": -1}, "$log10"),
        ({"$acos": 2}, "$acos"),
        ({"$sin": INF}, "$sin"),
        ({"$round": [1.5, 200]}, "$round"),
        ({"$round": [1.5, 0.5]}, "$round"),
        ({"$abs": "$s"}, "$abs"),
        ({"$size": "$a"}, "$size"),
        ({"$size": "$nothing"}, "$size"),
        ({"$arrayElemAt": ["$a", 0]}, "$arrayElemAt"),
        ({"$arrayElemAt": ["$list", 0.5]}, "$arrayElemAt"),
        ({"$first": "$a"}, "$first"),
        ({"$slice": ["$list", 0, 0]}, "$slice"),
        ({"$in": [1, "$a"]}, "$in"),
        ({"$range": [0, 5, 0]}, "$range"),
        ({"$range": [0, 10**9]}, "$range"),
        ({"$range": [0, 2**70]}, "$range"),
        ({"$concatArrays": ["$list", 1]}, "$concatArrays"),
        ({"$filter": {"input": "$a", "cond": 1}}, "$filter"),
        ({"$filter": {"input": "$list", "cond": 1, "limit": 0}}, "$filter"),
        ({"$map": {"input": "$a", "in": 1}}, "$map"),
        ({"$reduce": {"input": "$a", "initialValue": 0, "in": 1}}, "$reduce"),
        ({"$arrayToObject": "$list"}, "$arrayToObject"),
        ({"$arrayToObject": [[[1, 2]]]}, "$arrayToObject"),
        ({"$objectToArray": "$list"}, "$objectToArray"),
        ({"$setUnion": ["$a"]}, "$setUnion"),
        ({"$setEquals": ["$list", None]}, "$setEquals"),
        ({"$zip": {"inputs": [[1], [2]], "defaults": [1, 2]}}, "$zip"),
        ({"$firstN": {"input": "$list", "n": 0}}, "$firstN"),
        ({"$maxN": {"input": "$a", "n": 1}}, "$maxN"),
        ({"$percentile": {"input": "$list", "p": [2], "method": "approximate"}}, "$percentile"),
        ({"$concat": ["$s", "$a"]}, "$concat"),
        ({"$strLenCP": "$null"}, "$strLenCP"),
        ({"$split": ["$s", ""]}, "$split"),
        ({"$substrBytes": ["$e", 1, 1]}, "$substrBytes"),
        ({"$substrCP": ["$e", -1, 1]}, "$substrCP"),
        ({"$indexOfCP": ["$a", "x"]}, "$indexOfCP"),
        ({"$regexMatch": {"input": "$a", "regex": "x"}}, "$regexMatch"),
        ({"$regexMatch": {"input": "$s", "regex": "("}}, "$regexMatch"),
        ({"$toLower": "$list"}, "$toLower"),
        ({"$toInt": "5.5"}, "$toInt"),
        ({"$toInt": 2**31}, "$toInt"),
        ({"$toInt": NAN}, "$toInt"),
        ({"$toLong": 1e19}, "$toLong"),
        ({"$toDouble": "0x1F"}, "$toDouble"),
        ({"$toDouble": "1_000"}, "$toDouble"),
        ({"$toDate": "noon"}, "$toDate"),
        ({"$toDate": 1e300}, "$toDate"),
        ({"$toObjectId": "x"}, "$toObjectId"),
        ({"$convert": {"input": 1, "to": "array"}}, "$convert"),
        ({"$year": "$a"}, "$year"),
        ({"$year": {"date": "$noon", "timezone": "Nowhere/No"}}, "$year"),
        ({"$year": {"date": "$noon", "timezone": "../../etc/passwd"}}, "$year"),
        ({"$year": {"date": "$noon", "timezone": "Europe"}}, "$year"),
        ({"$year": {"date": "$noon", "timezone": "+99:00"}}, "$year"),
        ({"$dateToString": {"date": "$noon", "format": "%Q"}}, "$dateToString"),
        ({"$dateFromString": {"dateString": "x"}}, "$dateFromString"),
        ({"$dateFromString": {"dateString": "x", "format": "%"}}, "$dateFromString"),
        ({"$dateAdd": {"startDate": "$noon", "unit": "fortnight", "amount": 1}}, "$dateAdd"),
        ({"$dateAdd": {"startDate": "$noon", "unit": "day", "amount": 1.5}}, "$dateAdd"),
        ({"$dateAdd": {"startDate": "$noon", "unit": "year", "amount": 10**9}}, "$dateAdd"),
        ({"$dateAdd": {"startDate": "$noon", "unit": ["day"], "amount": 1}}, "$dateAdd"),
        ({"$dateTrunc": {"date": "$noon", "unit": "day", "binSize": 0}}, "$dateTrunc"),
        ({"$dateTrunc": {"date": "$noon", "unit": "week", "startOfWeek": "x"}}, "$dateTrunc"),
        ({"$mergeObjects": ["$c", 1]}, "$mergeObjects"),
        ({"$setField": {"field": "x", "input": 1, "value": 1}}, "$setField"),
        ({"$getField": {"field": "$a", "input": "$c"}}, "$getField"),
        ({"$switch": {"branches": [{"case": False, "then": 1}]}}, "$switch"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_can_not_be_computed_is_an_error_that_names_the_operator(expression, operator):
    checked = check_expression(expression)
    with pytest.raises(FilterError) as caught:
        evaluate(checked, DOCUMENT)
    assert caught.value.position == operator
    assert str(caught.value).startswith(operator)


def test_texts_and_arrays_can_not_be_made_to_fill_the_memory():
    doubled = {"$reduce": {"input": {"$range": [0, 60]}, "initialValue": "xxxxxxxx",
                           "in": {"$concat": ["$$value", "$$value"]}}}  # fmt: skip
    with pytest.raises(FilterError, match="characters"):
        evaluate(check_expression(doubled), {})
    doubled = {"$reduce": {"input": {"$range": [0, 60]}, "initialValue": [1],
                           "in": {"$concatArrays": ["$$value", "$$value"]}}}  # fmt: skip
    with pytest.raises(FilterError, match="elements"):
        evaluate(check_expression(doubled), {})
    replaced = {"$replaceAll": {"input": "$s", "find": "a", "replacement": "$s"}}
    with pytest.raises(FilterError, match="characters"):
        evaluate(check_expression(replaced), {"s": "a" * 10_000})


# What is read --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "fields"),
    [
        ("$a.b", {"a"}), ("$$ROOT.a", {"a"}), ("$$ROOT", None), ("$$CURRENT", None), ("text", set()), (5, set()),
        ({"$add": ["$a", {"$abs": "$b.c"}]}, {"a", "b"}), ({"$literal": "$a"}, set()), ({"$getField": "a"}, None),
        ({"$let": {"vars": {"x": "$a"}, "in": {"$add": ["$$x", "$b"]}}}, {"a", "b"}), ({"x": "$a", "y": ["$b"]}, {"a", "b"}),
        ({"$mergeObjects": ["$$ROOT", {"a": 1}]}, None),
    ],
)  # fmt: skip
def test_which_fields_an_expression_reads(expression, fields):
    assert fields_read(check_expression(expression)) == fields


def test_the_reference_lists_what_is_there():
    listed = [
        name for group, names in OPERATORS.items() if group.startswith("expression: ") for name in names
    ]
    assert sorted(listed) == sorted(FUNCTIONS)
    assert all(meaning for names in OPERATORS.values() for meaning in names.values())


# Regular expressions of strangers ------------------------------------------------------------------------------------


def test_expressions_of_strangers_take_linear_time():
    pytest.importorskip("re2", reason="google-re2 is not installed")
    hostile = check_expression({"$regexMatch": {"input": "$s", "regex": "(a+)+$"}})
    with bounded(60):
        assert evaluate(hostile, {"s": "a" * 5000 + "b"}) is False
        assert evaluate(hostile, {"s": "a" * 5000}) is True
        found = {"$regexFind": {"input": "$s", "regex": "É(l)(x)?", "options": "is"}}
        assert evaluate(check_expression(found), {"s": "an éLan"}) == {
            "match": "éL", "idx": 3, "captures": ["L", None],
        }  # fmt: skip
        for pattern, options in (("(?=a)", ""), (r"(a)\1", ""), ("a b", "x"), ("(", ""), ("a{100000}", "")):
            with pytest.raises(FilterError, match="no regular expression"):
                evaluate({"$regexMatch": {"input": "a", "regex": pattern, "options": options}}, {})
    assert evaluate({"$regexMatch": {"input": "aa", "regex": r"(a)\1"}}, {}) is True


LONG = {"$size": {"$map": {"input": {"$range": [0, 10**6]}, "in": {"$sum": {"$map": {
    "input": {"$range": [0, 10**6]}, "in": 1}}}}}}  # fmt: skip


def test_what_strangers_ask_ends_in_time():
    pytest.importorskip("re2", reason="google-re2 is not installed")
    expression = check_expression(LONG)
    condition = check_filter({"$expr": {"$gt": [LONG, 5]}})
    stages = check_pipeline([{"$project": {"n": LONG}}])
    slow = ({"n": time.sleep(0.01)} for _ in range(1000))
    for call in (
        lambda: evaluate(expression, {}),
        lambda: matches({}, condition),
        lambda: list(run_pipeline([{}], stages)),
        lambda: list(run_pipeline(slow, check_pipeline([{"$group": {"_id": None}}]))),
        lambda: list(
            run_pipeline(
                [{}],
                check_pipeline([{"$unionWith": "o"}]),
                lambda _: ({"n": time.sleep(0.01)} for _ in range(1000)),
            )
        ),
    ):
        start = time.monotonic()
        with bounded(0.2), pytest.raises(DeadlineError, match="longer than it may"):
            call()
        assert time.monotonic() - start < 3
    assert evaluate(check_expression({"$map": {"input": [1], "in": "$$this"}}), {}) == [
        1
    ]  # no bounds outside


def test_values_that_are_made_too_deep_are_an_error_of_ours():
    deep = {"$reduce": {"input": {"$range": [0, 5000]}, "initialValue": 0, "in": {"a": "$$value"}}}
    with pytest.raises(FilterError, match="nested too deep"):
        evaluate(check_expression({"$eq": [deep, deep]}), {})
    stages = check_pipeline([{"$project": {"d": deep}}, {"$sort": {"d": 1}}])
    with pytest.raises(FilterError, match="nested too deep"):
        list(run_pipeline([{}, {}], stages))
