"""Filters of the TOM's forms, carried to an archive: they mean there what they mean for a stream."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuncius import Alert
from nuncius.archives.language import check_filter, matches
from nuncius.errors import FilterError
from nuncius.streams.where import parse_where
from nuncius.tom.filters import condition_of, objects_condition, where_condition
from nuncius.tom.questions import Question
from nuncius.tom.words import words_of

ZTF = words_of("ZTF_alerts", "kowalski")
LSST = words_of("LSST_alerts", "embedded archive")


def ztf_packet(**candidate):
    return {
        "objectId": "ZTF20abc",
        "candid": 7,
        "schemavsn": "4.02",
        "publisher": "test",
        "candidate": candidate,
    }


TEXTS = [
    "candidate.drb > 0.9",
    "not candidate.drb > 0.9",
    "candidate.drb != 0.5",
    "not candidate.drb == 0.5",
    "0.2 < candidate.drb <= 0.9",
    "not (0.2 < candidate.drb <= 0.9)",
    "candidate.drb in [0.5, 0.9]",
    "candidate.drb not in [0.5, 0.9]",
    "candidate.drb is None",
    "candidate.drb is not None and not candidate.ndethist < 3",
    "candidate.drb > 0.9 or candidate.ndethist >= 3",
    "not (candidate.drb > 0.9 or candidate.ndethist >= 3)",
    "startswith(candidate.name, 'a.c')",
    "not contains(candidate.name, 'b')",
    "matches(candidate.name, '^a')",
    "not matches(candidate.name, '^a') or candidate.drb < 0.1",
    "packet.candid == 7",
    "'x' == candidate.name",
    "0.5 <= candidate.drb",
]


@settings(max_examples=150)
@given(
    text=st.sampled_from(TEXTS),
    drb=st.sampled_from([None, 0.0, 0.2, 0.5, 0.9, 0.95]),
    ndethist=st.sampled_from([None, 1, 3, 4]),
    name=st.sampled_from([None, "", "a.c", "abc", "x"]),
)
def test_a_filter_means_the_same_for_a_stream_and_an_archive(text, drb, ndethist, name):
    packet = ztf_packet(drb=drb, ndethist=ndethist, name=name)
    alert = Alert.from_bytes(json.dumps(packet).encode())
    condition = check_filter(where_condition(text, ZTF), "where", native=frozenset())
    assert matches(packet, condition) == parse_where(text)(alert)


def test_words_are_those_of_the_survey():
    assert where_condition("mjd >= 60000.5", ZTF) == {"candidate.jd": {"$gte": 2460001.0}}
    assert where_condition("band in ['g', 'r']", ZTF) == {"candidate.fid": {"$in": [1, 2]}}
    assert where_condition("band == 'r'", LSST) == {"diaSource.band": "r"}
    assert where_condition("object_id == '313853517788581904'", LSST) == {
        "diaSource.diaObjectId": 313853517788581904
    }
    assert "candidate.reliability" in where_condition("score > 0.5", words_of("LSST_alerts", "boom"))


def test_what_a_survey_writes_for_missing_is_missing():
    condition = where_condition("score < 0.5", ZTF)
    assert matches({"candidate": {"drb": 0.4}}, condition)
    assert not matches({"candidate": {"drb": -999.0}}, condition)
    assert not matches({"candidate": {}}, condition)


@pytest.mark.parametrize(
    ("flux", "is_brighter"),
    [(40000.0, True), (-40000.0, True), (30000.0, False), (-30000.0, False), (0.0, False)],
)
def test_the_magnitude_of_a_flux_is_that_of_its_absolute_value(flux, is_brighter):
    document = {"diaSource": {"psfFlux": flux}}  # 20 mag are 36308 nJy
    assert matches(document, where_condition("mag < 20", LSST)) is is_brighter
    assert matches(document, where_condition("mag > 20", LSST)) is (not is_brighter and flux != 0)


def test_times_of_rubin_are_tai():
    [(path, test)] = where_condition("mjd > 61000", LSST).items()
    assert path == "diaSource.midpointMjdTai"
    assert (test["$gt"] - 61000) * 86400 == pytest.approx(37.0, abs=0.001)


def test_all_that_a_form_asks_is_in_the_filter():
    question = Question.of(
        {"object_id": "ZTF20abc", "since": "2026-05-01", "until": "2026-05-02", "mag_min": 15, "mag_max": 19}
    )
    condition = condition_of(question, ZTF)
    inside = {"objectId": "ZTF20abc", "candidate": {"jd": 2461161.7, "magpsf": 18.0}}
    assert matches(inside, condition)
    for change in ({"jd": 2461160.0}, {"jd": 2461162.5}, {"magpsf": 14.0}, {"magpsf": 19.5}):
        assert not matches({**inside, "candidate": inside["candidate"] | change}, condition)
    assert not matches({**inside, "objectId": "ZTF20abd"}, condition)


def test_names_of_objects_are_numbers_for_rubin():
    condition = objects_condition(["123", "ZTF20abc", "sso45"], LSST)
    assert matches({"diaSource": {"diaObjectId": 123}}, condition)
    assert matches({"diaSource": {"ssObjectId": 45}}, condition)
    assert not matches({"diaSource": {"diaObjectId": 45}}, condition)


@pytest.mark.parametrize(
    "text", ["candidate.drb + 1 > 2", "abs(candidate.drb) > 1", "is_positive", "ra > dec"]
)
def test_what_an_archive_can_not_decide_is_refused(text):
    with pytest.raises(FilterError, match="can't decide") as caught:
        where_condition(text, ZTF)
    assert caught.value.position == "where"


def test_a_word_that_a_catalog_does_not_have_is_refused():
    with pytest.raises(FilterError, match="'mag' is not known"):
        condition_of(Question(mag_max=19.0), words_of("strange_alerts", "embedded archive"))
