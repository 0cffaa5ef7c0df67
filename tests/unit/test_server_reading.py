"""What strangers send is read within limits, and what it may hold is checked at every depth."""

import json
import math
import time
from datetime import UTC, datetime

import pytest
from bson import ObjectId, json_util
from hypothesis import given, settings
from hypothesis import strategies as st

from nuncius.archives.server.checks import check_name, check_regex, check_safe
from nuncius.archives.server.limits import Limits, Refusal
from nuncius.archives.server.positions import angle_arcsec, read_positions
from nuncius.archives.server.reading import read_json, read_literal
from nuncius.archives.server.wire import encode

LIMITS = Limits()
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def refusal(function, *arguments):
    with pytest.raises(Refusal) as caught:
        function(*arguments)
    return caught.value


# JSON


@given(plain)
@settings(max_examples=100, deadline=None)
def test_json_is_read_as_it_was_written(value):
    assert read_json(json.dumps(value).encode(), LIMITS) == value


def test_nan_is_read_and_long_ids_keep_their_digits():
    value = read_json(b'{"a": NaN, "candid": 3246120463515015001}', LIMITS)
    assert math.isnan(value["a"])
    assert value["candid"] == 3246120463515015001


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        (b'{"a": 1, "a": 2}', "ValueError: the name 'a' stands twice in one object"),
        (b'{"a": {"$gt": 1, "$gt": 2}}', "ValueError: the name '$gt' stands twice in one object"),
        (b'{"a": "\xff"}', "UnicodeDecodeError: the body is not UTF-8: byte 7 can't be read"),
        (b"[" * 100_000, "ValueError: lists and objects may be nested 60 deep"),
        (b'{"a":' * 61 + b"1" + b"}" * 61, "ValueError: lists and objects may be nested 60 deep"),
    ],
)
def test_what_is_no_json_is_refused(body, message):
    error = refusal(read_json, body, LIMITS)
    assert (error.status, error.message) == (400, message)


def test_brackets_in_texts_are_not_counted():
    assert read_json(json.dumps({"a": "[" * 500 + '"\\'}).encode(), LIMITS) == {"a": "[" * 500 + '"\\'}


def test_a_number_with_too_many_digits_is_refused():
    assert refusal(read_json, b"9" * 5000, LIMITS).message.startswith("ValueError: Exceeds the limit")


@pytest.mark.parametrize(
    "body", [b'"' + b'\\"' * 400_000, b'"' * 800_001, b"[" * 59 + b'"' + b"\\" * 800_000]
)
def test_the_depth_of_a_megabyte_is_counted_quickly(body):
    begin = time.monotonic()
    refusal(read_json, body, LIMITS)
    assert time.monotonic() - begin < 2


# Literals


@given(plain)
@settings(max_examples=150, deadline=None)
def test_python_literals_are_read_as_python_does(value):
    assert read_literal(repr(value), LIMITS) == value


@given(plain)
@settings(max_examples=50, deadline=None)
def test_json_is_a_literal_too(value):
    assert read_literal(json.dumps(value), LIMITS) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(1, 2)", (1, 2)),
        ("(1,)", (1,)),
        ("(1)", 1),
        ("()", ()),
        ("[(71.65, -10.2), ]", [(71.65, -10.2)]),
        (" {'a': True, \"b\": None} ", {"a": True, "b": None}),
        ("[+1, -.5, 1e3, 2.]", [1, -0.5, 1000.0, 2.0]),
        (r"'it\'s'", "it's"),
        (r'"\u00e9\x41\U0001f30c"', "éA\U0001f30c"),
        (r'"\ud83c\udf0c"', "\U0001f30c"),
        (r"'^\d+\.fits\\'", "^\\d+\\.fits\\"),
    ],
)
def test_forms_of_literals(text, value):
    assert read_literal(text, LIMITS) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[1", "[1 2]", "{1: 2}", "{'a' 1}", "{'a': 1, 'a': 2}", "{'a'}", "__import__('os')", "1 + 1", "[1] [2]",
        "'open", "f'{1}'", "nan", "lambda: 1", "'a' 'b'", "[" * 61 + "]" * 61, "[" * 60_000, "9" * 401, "-" * 60_000,
        "x" * 70_000, "'\\N{nothing of that name}'", "'\\x4'",
    ],
)  # fmt: skip
def test_what_is_no_literal_is_refused(text):
    assert refusal(read_literal, text, LIMITS).message.startswith("ValueError: ")


@given(st.text(alphabet="[](){}'\"\\,:1-.eaTrue \n", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(text):
    try:
        value = read_literal(text, LIMITS)
    except Refusal:
        value = None
    assert value is None or isinstance(value, (str, int, float, list, tuple, dict))


# Positions


@pytest.mark.parametrize(
    ("radec", "names"),
    [
        ({"obj.1": [71.6577756, -10.2263957]}, ["obj_1"]),
        ([[71.6577756, -10.2263957]], ["[71_6577756, -10_2263957]"]),
        ("[(71.6577756, -10.2263957)]", ["(71_6577756, -10_2263957)"]),
        ("(71.6577756, -10.2263957)", ["(71_6577756, -10_2263957)"]),
        ("71.6577756 -10.2263957", ["('71_6577756', '-10_2263957')"]),
        ({"a": ["04h46m37.866144s", "-10d13m35.02452s"]}, ["a"]),
        ("04:46:37.866144 -10:13:35.02452", ["('04:46:37_866144', '-10:13:35_02452')"]),
        ('{"a": [71.6577756, -10.2263957]}', ["a"]),
    ],
)
def test_forms_of_positions(radec, names):
    found = read_positions(radec, LIMITS)
    assert list(found) == names
    for place in found.values():
        assert place == pytest.approx((71.6577756, -10.2263957), abs=1e-9)


@pytest.mark.parametrize(
    ("radec", "message"),
    [
        ({"a": [71.6, "-10d13m35s"]}, "mixes a text and a number"),
        ({"a": [71.6]}, "is not a pair of ra and dec"),
        ({"a": "71.6 -10"}, "is not a pair of ra and dec"),
        ({"a": [True, 1]}, "is not a pair of ra and dec"),
        ({"a": [math.nan, 1.0]}, "out of bounds, lng: nan lat: 1"),
        ({"a": [1.0, math.inf]}, "out of bounds"),
        ({"a": [10**400, 1]}, "out of bounds"),
        ({"a": [-10.0, 0.0]}, "out of bounds, lng: -190 lat: 0"),
        ({"a": [0.0, 90.1]}, "out of bounds"),
        ({"a": ["04h66m37s", "1d1m1s"]}, "is no angle"),
        ({"a": ["04d46m37s", "1d1m1s"]}, "is no angle"),
        ({"a": ["1" * 1000, "1"]}, "is no angle"),
        ({"a.b": [1, 1], "a_b": [2, 2]}, "two positions have the name 'a_b'"),
        ("one two three", "is not understood"),
        ("9" * 10_000, "is not understood"),
        (None, "radec must be"),
        (5, "radec must be"),
        ([[1, 1]] * 30_001, "30001 positions; one request may have 30000"),
    ],
)
def test_what_are_no_positions_is_refused(radec, message):
    assert message in refusal(read_positions, radec, LIMITS).message


def test_one_position_under_one_name_twice_is_one_position():
    assert read_positions([[1, 2], [1, 2]], LIMITS) == {"[1, 2]": (1.0, 2.0)}


@pytest.mark.parametrize(
    ("unit", "factor"), [("arcsec", 1), ("arcmin", 60), ("deg", 3600), ("rad", 206264.80624709636)]
)
def test_units(unit, factor):
    assert angle_arcsec(2, unit, "radius") == pytest.approx(2 * factor)
    assert angle_arcsec("0.5", unit, "radius") == pytest.approx(0.5 * factor)


def test_units_that_are_none():
    message = "Exception: Angular units not in ('arcsec', 'arcmin', 'deg', 'rad')"
    assert refusal(angle_arcsec, 2, "parsec", "radius").message == message
    assert refusal(angle_arcsec, 2, ["arcsec"], "radius").message == message
    for value in (None, "two", True, math.nan, -1, 10**400, 181 * 3600, [1]):
        assert refusal(angle_arcsec, value, "arcsec", "radius").status == 400


# What may not stand in a query


@pytest.mark.parametrize("stage", ["$out", "$merge", "$unionWith"])
def test_forbidden_stages_are_found_at_every_depth(stage):
    for pipeline in (
        [{stage: "x"}],
        [{"$facet": {"a": [{"$match": {}}, {stage: {"into": "x"}}]}}],
        [{"$lookup": {"from": "ZTF_alerts", "pipeline": [{"$facet": {"b": [{stage: "x"}]}}], "as": "c"}}],
    ):
        message = refusal(check_safe, pipeline, ["ZTF_alerts"], LIMITS).message
        assert f"Pipeline uses forbidden stages: {{'{stage}'}}" in message


@pytest.mark.parametrize(
    "value",
    [
        {"$where": "sleep(1000)"},
        {"a": {"$not": {"$where": "1"}}},
        {"$expr": {"$function": {"body": "f", "args": [], "lang": "js"}}},
        [{"$group": {"_id": None, "a": {"$accumulator": {}}}}],
        [{"$currentOp": {}}],
        [{"$lookup": {"from": "users", "as": "u", "localField": "a", "foreignField": "b"}}],
        [{"$lookup": {"from": "sqlite_master", "as": "u", "pipeline": []}}],
        [{"$lookup": {"from": {"db": "admin", "coll": "ZTF_alerts"}, "as": "u"}}],
        [{"$lookup": {"pipeline": [], "as": "u"}}],
        [{"$facet": {"a": [{"$graphLookup": {"from": "ZTF_alerts ", "as": "u"}}]}}],
    ],
)
def test_code_and_joins_with_what_is_not_opened_are_forbidden(value):
    assert refusal(check_safe, value, ["ZTF_alerts"], LIMITS).status == 403


def test_a_join_with_an_opened_catalog_is_allowed():
    stage = {
        "$lookup": {"from": "ZTF_alerts_aux", "localField": "objectId", "foreignField": "_id", "as": "aux"}
    }
    check_safe([stage], ["ZTF_alerts", "ZTF_alerts_aux"], LIMITS)
    assert refusal(check_safe, [stage], ["ZTF_alerts"], LIMITS).status == 403


def test_stages_are_counted_within_others_too():
    check_safe([{"$match": {}}] * 50, [], LIMITS)
    assert refusal(check_safe, [{"$match": {}}] * 51, [], LIMITS).status == 400
    assert refusal(check_safe, [{"$facet": {"a": [{"$match": {}}] * 50}}], [], LIMITS).status == 400


@pytest.mark.parametrize(
    "pattern",
    ["^ZTF18", "^ZTF(18|19|20)", "ZTF2[0-4]a.*", r"\d{2}:\d{2}", "a?b", "(ab){2,3}", "(?i)ztf.*fits$", r"^(\d{2}:)+", ""],
)  # fmt: skip
def test_usual_expressions_are_allowed(pattern):
    check_safe({"objectId": {"$regex": pattern}}, [], LIMITS)
    check_safe({"$expr": {"$regexMatch": {"input": "$objectId", "regex": pattern}}}, [], LIMITS)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$", "(a*)*b", "(a|aa)+b", "(a?a?)*b", "(.*)*x", "(x+x+)+y", r"(a)\1", "a*a*a*a*a*a*b", "(?:a?){9}(?:b?){9}c",
        "a?" * 30 + "a" * 30, "(ab|ac)" * 30, "(a{1,9}){1,9}", "(?=(a+)+b)", "(?x)( a + ) +", "(a #)\n+ ) +", "a" * 201,
        "(", "$objectId", 5, None, ["a"],
    ],
)  # fmt: skip
def test_expressions_that_could_take_for_ever_are_refused(pattern):
    for value in (
        {"objectId": {"$regex": pattern}},
        {"$expr": {"$regexMatch": {"input": "$objectId", "regex": pattern}}},
        [{"$project": {"a": {"$regexFindAll": {"regex": pattern, "input": "$b"}}}}],
    ):
        assert refusal(check_safe, value, [], LIMITS).message.startswith("OperationFailure: ")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of brackets within brackets
@given(st.text(alphabet="ab()|*+?{}12,.[]^$", max_size=24))
@settings(max_examples=300, deadline=None)
def test_what_is_allowed_ends_soon(pattern):
    import re

    try:
        check_regex(pattern, LIMITS)
    except Refusal:
        return
    begin = time.monotonic()
    re.search(pattern, "ab" * 15 + "aaaaaaaaaaaaaaaaaaaaaaaaaaaa" + "c")
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize("name", ["ZTF_alerts", "ZTF_alerts_aux", "Gaia_EDR3", "a.b", " ZTF_alerts "])
def test_names_of_catalogs(name):
    assert check_name(name) == name.strip()


@pytest.mark.parametrize("name", ["users", " Users ", "filters", "QUERIES", "sqlite_master", "system.users"])
def test_protected_names(name):
    assert refusal(check_name, name).message == (
        "ValidationError: 1 validation error for Query\n__root__\n  Protected collection (type=value_error)"
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../night",
        "a..b",
        "ZTF_alerts:images",
        'ZTF"; DROP TABLE x',
        "a\0b",
        "$cmd",
        "/etc",
        "a" * 121,
        5,
        None,
    ],
)
def test_what_can_be_no_name(name):
    assert refusal(check_name, name).status == 400


# Answers


def test_extended_json_is_read_by_mongodbs_own_library():
    value = {
        "_id": "0123456789abcdef01234567",
        "name": "0123456789abcdef01234567",
        "candid": 3246120463515015001,
        "big": 2**70,
        "image": b"\x00\xff",
        "when": datetime(2026, 11, 21, 1, 8, 37, 125000, tzinfo=UTC),
        "whole": datetime(2026, 11, 21, 1, 8, 37, tzinfo=UTC),
        "old": datetime(1604, 11, 21, tzinfo=UTC),
        "nan": math.nan,
        "inner": [{"_id": "0123456789abcdef01234567", "x": [math.inf, -math.inf, 1.5]}],
        "bare": None,
        "yes": True,
        "bad": "\ud83d",
    }
    text = encode(value).decode()
    found = json_util.loads(text, json_options=json_util.JSONOptions(tz_aware=True))
    assert found["_id"] == found["inner"][0]["_id"] == ObjectId(value["_id"])
    assert found["name"] == value["name"]
    assert (found["candid"], found["big"]) == (value["candid"], value["big"])
    assert bytes(found["image"]) == value["image"]
    assert [found[name] for name in ("when", "whole", "old")] == [value[n] for n in ("when", "whole", "old")]
    assert math.isnan(found["nan"])
    assert found["inner"][0]["x"] == [math.inf, -math.inf, 1.5]
    assert (found["bare"], found["yes"], found["bad"]) == (None, True, "\\ud83d")
    assert '"nan":NaN' in text
    assert '{"$date":"2026-11-21T01:08:37.125Z"}' in text


@given(plain)
@settings(max_examples=100, deadline=None)
def test_plain_values_are_plain_json(value):
    assert json.loads(encode(value)) == value
