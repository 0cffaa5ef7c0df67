"""Documents come back as they went into the archive."""

from __future__ import annotations

import json
import math
from datetime import UTC, timedelta, timezone

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive_support import same
from nuncius._core.jsontext import from_text, to_text

zones = st.just(UTC) | st.none() | st.integers(-720, 720).map(lambda m: timezone(timedelta(minutes=m)))
values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([2**63 - 1, -(2**63), 2475433850215010007, 2**53 + 1])
    | st.floats()
    | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e22, 1.0])
    | st.text()
    | st.sampled_from(["", "\0", "é", "\U0001d518", "\x7f", '"\\', "NaN", "2026-11-21T00:00:00+00:00"])
    | st.binary()
    | st.datetimes(timezones=zones)
)
documents = st.dictionaries(
    st.text(),
    st.recursive(
        values,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
        max_leaves=12,
    ),
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(documents)
def test_documents_come_back_with_their_types(document):
    before = repr(document)
    text, extras = to_text(document)
    assert repr(document) == before, "the document was changed"
    found = from_text(text, extras)
    assert same(found, document)
    assert list(found) == list(document)


@settings(max_examples=200, deadline=None)
@given(documents)
def test_the_text_is_json_that_sqlite_accepts(document):
    text, extras = to_text(document)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads(text, parse_constant=refuse)
    if extras is not None:
        json.loads(extras, parse_constant=refuse)


@settings(max_examples=100, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_their_bits(value):
    found = from_text(*to_text({"a": value}))["a"]
    assert type(found) is float
    assert (found, math.copysign(1, found)) == (value, math.copysign(1, value))


def test_what_is_plain_has_no_second_text():
    assert to_text({"a": 1, "b": [1.5, "x", None, True], "c": {"d": -0.0}})[1] is None


def test_numbers_of_bson_packets_are_numbers():
    # pymongo decodes 64-bit integers as a class of its own.
    document = bson.decode(bson.encode({"candid": bson.Int64(2475433850215010007), "list": [bson.Int64(1)]}))
    found = from_text(*to_text(document))
    assert found == {"candid": 2475433850215010007, "list": [1]}
    assert type(found["candid"]) is int


def test_values_of_other_classes_become_texts():
    oid = bson.ObjectId("507f1f77bcf86cd799439011")
    assert from_text(*to_text({"_id": oid, "in": [oid]})) == {"_id": str(oid), "in": [str(oid)]}


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_texts_that_are_no_unicode_are_kept_in_some_readable_form(text):
    found = from_text(*to_text({"a": text, text: 1}))
    assert isinstance(found["a"], str)
    assert len(found) == 2
