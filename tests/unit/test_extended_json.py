"""Extended JSON: dates, ids and images are themselves, numbers keep their digits, and what only looks so stays."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from bson import ObjectId, json_util
from hypothesis import given, settings
from hypothesis import strategies as st

from nuncius.archives.extended_json import from_json

WHEN = datetime(2026, 11, 21, 1, 8, 37, 125000, tzinfo=UTC)
OID = "507f1f77bcf86cd799439011"


def read(value):
    """Read a value that Python's own writer has written."""
    return from_json(json.dumps(value).encode())


@pytest.mark.parametrize(
    "number",
    [
        2475433850215010007,
        -(2**63),
        2**63 - 1,
        2**63,
        2**64 - 1,
        2**64,
        -(2**63) - 1,
        10**30,
        0.1,
        -0.0,
        1e308,
    ],
)
def test_numbers_keep_all_their_digits(number):
    (found,) = from_json(f'{{"x": {number!r}}}'.encode()).values()
    assert (found, type(found)) == (number, type(number))


def test_what_is_no_number_is_read_as_python_writes_it():
    found = from_json(b'{"a": NaN, "b": [Infinity, -Infinity], "id": 2475433850215010007, "t": {"$date": 0}}')
    assert math.isnan(found["a"])
    assert found["b"] == [math.inf, -math.inf]
    assert found["id"] == 2475433850215010007
    assert found["t"] == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-21T01:08:37.125Z",
        "2026-11-21T01:08:37.125+00:00",
        "2026-11-21T01:08:37.125+0000",
        "2026-11-21T02:08:37.125+01:00",
        "2026-11-21T01:08:37.125",
        1795223317125,
        {"$numberLong": "1795223317125"},
    ],
)
def test_dates_in_every_form(written):
    found = read({"t": {"$date": written}})["t"]
    assert (found, found.tzinfo is not None) == (WHEN, True)


@pytest.mark.parametrize("milliseconds", [-1, 0, 1, -62135596800000, 253402300799999])
def test_dates_far_away_keep_their_milliseconds(milliseconds):
    found = read({"$date": {"$numberLong": str(milliseconds)}})
    assert (found - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000 == milliseconds


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"$oid": OID}, ObjectId(OID)),
        ({"$binary": {"base64": "AAEC", "subType": "00"}}, b"\x00\x01\x02"),
        ({"$binary": "AAEC", "$type": "00"}, b"\x00\x01\x02"),
        ({"$numberLong": "2475433850215010007"}, 2475433850215010007),
        ({"$numberInt": "-7"}, -7),
        ({"$numberDouble": "1.5"}, 1.5),
        ({"$numberDouble": "-Infinity"}, -math.inf),
        ({"$numberDecimal": "1.10"}, Decimal("1.10")),
    ],
)
def test_special_values_wherever_they_stand(written, meant):
    assert read(written) == meant
    assert read([[{"a": [written]}]]) == [[{"a": [meant]}]]
    assert type(read(written)) is type(meant)


@pytest.mark.parametrize(
    "foreign",
    [
        {"$oid": "no id"},
        {"$oid": 7},
        {"$oid": OID, "name": "an object that has a field of that name"},
        {"name": "first", "$oid": OID},
        {"$date": "tomorrow"},
        {"$date": None},
        {"$date": True},
        {"$date": [1]},
        {"$date": {"$numberLong": "99999999999999999999"}},
        {"$date": 10**18},
        {"$date": "2026-11-21", "precision": "day"},
        {"$binary": "not base64!"},
        {"$binary": "n@t base64!"},
        {"$binary": "AA$%EC"},
        {"$binary": 7},
        {"$binary": {"x": 1}},
        {"$numberLong": "seven"},
        {"$numberLong": 1.7},
        {"$numberLong": None},
        {"$numberLong": "7", "unit": "mJy"},
        {"$numberInt": [1]},
        {"$numberDouble": {}},
        {"$numberDecimal": "x"},
        {"$price": "5"},
        {"$": 1},
        {"": {"$x": {}}},
    ],
)
def test_what_only_looks_special_stays_as_it_is(foreign):
    assert read({"field": foreign}) == {"field": foreign}


@pytest.mark.parametrize(
    "body", [b"", b" ", b"{", b"<html>", b"\xff\xfe", b'{"a": 1}x', b"nul", b'{"$oid": ', b"'a'", b"\x00" * 9]
)
def test_what_is_no_json(body):
    with pytest.raises(ValueError):
        from_json(body)


@pytest.mark.parametrize(
    "form",
    [
        (b"[", b"1", b"]"),
        (b'{"a":', b'{"$date":0}', b"}"),
        (b"[NaN,", b"1", b"]"),
        (b'{"$date":', b"1", b"}"),
    ],
)
def test_deep_nesting_is_read_or_refused(form):
    """Never a RecursionError, however the depth meets the limit of Python."""
    opening, inner, closing = form
    for depth in (300, *range(900, 1010), 20_000, 1_000_000):
        try:
            found = from_json(opening * depth + inner + closing * depth)
        except ValueError:
            assert depth > 300, "documents of three times the depth that MongoDB allows are read"
            continue
        for _ in range(depth):
            found = found[-1] if isinstance(found, list) else next(iter(found.values()))
        assert found in (1, datetime(1970, 1, 1, tzinfo=UTC))


# Names that pymongo reads as types of its own have tests of their own.
names = st.text(max_size=4).filter(lambda name: not name.startswith("$"))
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.datetimes(datetime(1700, 1, 1), datetime(9000, 1, 1)).map(
        lambda t: t.replace(tzinfo=UTC, microsecond=t.microsecond // 1000 * 1000)
    )
    | st.binary(min_size=12, max_size=12).map(ObjectId),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(names, documents, max_size=3))
@pytest.mark.parametrize("options", [json_util.RELAXED_JSON_OPTIONS, json_util.CANONICAL_JSON_OPTIONS])
def test_what_pymongo_writes_is_what_was_meant(options, document):
    written = json_util.dumps(document, json_options=options.with_options(tz_aware=True))
    expected = json_util.loads(written, json_options=options.with_options(tz_aware=True))
    assert from_json(written.encode()) == expected


def test_an_image_is_the_same_bytes():
    image = bytes(range(256)) * 40
    assert read(
        {"stampData": {"$binary": {"base64": base64.b64encode(image).decode(), "subType": "00"}}}
    ) == {"stampData": image}


@pytest.mark.parametrize(
    "documents",
    [
        [{"_id": {"$oid": OID}}, {"other": {"$oid": OID}}],
        [{"_id": {"$oid": OID}}, {"_id": OID, "a": [{"b": {"$date": 0}}]}],
        [{"a": {"b": {"$oid": OID}}}, {"a": {"$oid": OID}}, {"a": [{"$oid": OID}]}, {"a": 1}],
        [{"a": [{"$oid": OID}]}, {"a": [{"$oid": OID}, {"x": {"$oid": OID}}]}],
        [{"a": {"$oid": OID}, "price": "5 $"}, {"b": {"$oid": OID}}],
        [{"a": {"$date": {"$numberLong": "0"}}}, {"a": {"$date": 0}, "b": {"$date": 0}}],
        [{"a": {"$oid": "no id"}}, {"a": {"$oid": OID}}],
    ],
)
def test_documents_need_not_be_alike(documents):
    expected = json_util.loads(json.dumps(documents[1:]), json_options=json_util.JSONOptions(tz_aware=True))
    assert read({"data": documents})["data"][1:] == expected
    assert read({"data": {"some": [documents[0]], "others": documents[1:]}})["data"]["others"] == expected


def test_a_dollar_sign_may_be_written_as_an_escape():
    body = f'[{{"a": {{"\\u0024oid": "{OID}"}}}}, {{"b": {{"$oid": "{OID}"}}}}]'
    assert from_json(body.encode()) == [{"a": ObjectId(OID)}, {"b": ObjectId(OID)}]


def test_an_id_has_no_blanks():
    written = {"$oid": "507f1f77 bcf86cd7 994390"}
    assert read({"_id": written}) == {"_id": written}
