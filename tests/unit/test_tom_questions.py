"""Questions of the TOM's forms: what users type, what is saved, what is refused."""

import json

import pytest

from nuncius.errors import ConfigurationError, FilterError
from nuncius.tom.questions import Question, StreamQuestion


def test_what_is_left_out_has_its_default():
    assert Question.of({}) == Question()
    assert Question.of({"position": "  ", "mag_min": None, "limit": ""}) == Question()


def test_values_of_a_form_become_those_of_their_fields():
    question = Question.of({"limit": "20", "mag_max": "19.5", "position": "10.5 -5", "object_id": "ZTF20a"})
    assert (question.limit, question.mag_max, question.object_id) == (20, 19.5, "ZTF20a")
    assert question.place == (10.5, -5.0)


def test_a_saved_question_is_the_same_again():
    question = StreamQuestion.of({"since": "2026-05-01", "where": "score > 0.9", "live_s": 5})
    assert StreamQuestion.of(json.loads(json.dumps(question.as_json()))) == question


def test_a_question_saved_by_another_release_still_loads():
    saved = {"position": "10.5 -5", "a_field_of_later": [1, 2]}  # and it lacks most of ours
    assert Question.of(saved).place == (10.5, -5.0)


@pytest.mark.parametrize(
    "text",
    ["04:46:37.87 -10:13:35", "04h46m37.87s -10d13m35s", "71.657792,-10.226389", "71.657792 -10.226389"],
)
def test_positions_are_understood_in_degrees_and_sexagesimal(text):
    ra, dec = Question(position=text).place
    assert ra == pytest.approx(71.657792, abs=1e-6)
    assert dec == pytest.approx(-10.226389, abs=1e-6)


def test_times_are_utc_unless_they_say_otherwise():
    begin, end = Question(since="2026-05-01", until="2026-05-01T14:00+02:00").mjd_range
    assert (begin, end) == (61161.0, 61161.5)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": 10**6}, "limit"),
        ({"radius_arcsec": -1}, "radius_arcsec"),
        ({"radius_arcsec": "nan"}, "radius_arcsec"),
        ({"mag_min": 20, "mag_max": 18}, "mag_min"),
        ({"mag_max": "inf"}, "mag_max"),
        ({"position": "somewhere"}, "position"),
        ({"position": "10 95"}, "position"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-05-02", "until": "2026-05-01"}, "until"),
    ],
)
def test_what_means_nothing_is_refused_beside_its_field(values, field):
    with pytest.raises(ConfigurationError) as caught:
        Question.of(values)
    assert caught.value.position == field


def test_a_filter_is_checked_before_anything_is_asked():
    with pytest.raises(FilterError, match="scor"):
        Question.of({"where": "scor > 0.9"})


@pytest.mark.parametrize(("name", "value"), [("live_s", 61), ("live_s", -1), ("live_alerts", 0)])
def test_a_page_listens_for_a_bounded_time(name, value):
    with pytest.raises(ConfigurationError) as caught:
        StreamQuestion.of({name: value})
    assert caught.value.position == name


def test_what_a_large_archive_can_search():
    assert not Question(where="score > 0.9").is_bounded
    assert Question(since="2026-05-01").is_bounded
    assert Question(object_id="ZTF20a").is_bounded
