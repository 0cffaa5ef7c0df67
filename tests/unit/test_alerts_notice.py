"""The value `Notice`: the words that it shares with alerts, copies, and what people see."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime

import pytest

from nuncius import Notice
from nuncius.alerts import Origin

WHEN = datetime(2023, 5, 18, 12, 59, 8, 167000, tzinfo=UTC)
NOTICE = Notice(
    "S230518h/INITIAL",
    "igwn.gwalert",
    time=WHEN,
    ra=266.4,
    dec=-29.0,
    radius_deg=1.5,
    skymap=b"SIMPLE  =",
    text="S230518h <INITIAL>",
    packet={"alert_type": "INITIAL"},
    raw=b'{"alert_type": "INITIAL"}',
    origin=Origin("kafka", "igwn.gwalert", 0, 7, broker="gcn"),
)


def test_the_words_of_an_alert():
    assert (NOTICE.survey, NOTICE.alert_id, NOTICE.object_id) == ("igwn", "S230518h/INITIAL", None)
    assert NOTICE.key == ("notice", "igwn.gwalert", "S230518h/INITIAL")
    assert NOTICE.annotations == {}
    assert NOTICE.mjd == pytest.approx(60082 + (12 * 3600 + 59 * 60 + 8.167) / 86400, abs=1e-9)


def test_a_notice_that_says_little():
    notice = Notice("1", "")
    assert (notice.survey, notice.mjd, notice.ra, notice.skymap) == ("notice", None, None, None)
    assert repr(notice) == "<Notice of unknown kind 1>"
    assert not notice.is_test


def test_digests_are_of_the_message():
    assert len(NOTICE.digest) == 32
    assert NOTICE.digest == replace(NOTICE, id="other").digest
    assert NOTICE.digest != replace(NOTICE, raw=b"{}").digest
    assert Notice("1", "a").digest != Notice("2", "a").digest


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copies_are_equal_and_leave_the_stream_behind(twin):
    handed_out = replace(NOTICE, _delivery=object())
    assert handed_out == NOTICE
    assert hash(handed_out) == hash(NOTICE)
    other = twin(handed_out)
    assert other == NOTICE
    assert other._delivery is None
    assert replace(NOTICE, is_test=True) != NOTICE


def test_notices_go_into_sets_although_their_values_are_dicts():
    assert len({NOTICE, replace(NOTICE), replace(NOTICE, id="other")}) == 2


def test_nothing_is_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        NOTICE.ra = 0.0


def test_what_people_see():
    assert repr(NOTICE) == (
        "<Notice igwn.gwalert S230518h/INITIAL of 2023-05-18 12:59:08 at 266.40000 -29.00000 ± 1.5° with a sky map>"
    )
    assert repr(replace(NOTICE, is_test=True)).startswith("<Notice igwn.gwalert S230518h/INITIAL (test) of")
    html = replace(NOTICE, is_test=True)._repr_html_()
    assert "S230518h &lt;INITIAL&gt;" in html
    assert "266.400000°, -29.000000° ± 1.5°" in html
    assert "nothing has happened" in html
    assert "None" not in Notice("1", "")._repr_html_()
    assert len(Notice("1", "", text="x" * 10_000)._repr_html_()) < 1000
