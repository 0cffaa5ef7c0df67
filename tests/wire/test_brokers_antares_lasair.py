"""ANTARES' loci and Lasair's columns."""

from __future__ import annotations

import json
import pickle
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import builders
from nuncius.alerts import Origin
from nuncius.alerts.surveys import ANTARES, LASAIR
from nuncius.brokers.antares import Antares
from nuncius.brokers.lasair import Lasair
from nuncius.errors import PacketError
from nuncius.streams.transport import Message

ORIGIN = Origin("kafka", "client.extragalactic", broker="antares")
PROPERTIES = {
    "ztf_object_id": "ZTF20abcdefg",
    "newest_alert_id": "ztf_candidate:2475433850215010007",
    "newest_alert_observation_time": 59000.25,
    "newest_alert_magnitude": 18.5,
    "num_mag_values": 7,
}
REST = {
    "ra": 150.25,
    "dec": -20.5,
    "properties": PROPERTIES,
    "tags": ["extragalactic"],
    "catalogs": ["2mass_psc"],
}
NEW = {"id": "ANT2020abcdef", **REST}
OLD = {"data": {"id": "ANT2020abcdef", "attributes": REST}}
FIRST = {
    "locus_id": 1234, "ra": 150.25, "dec": -20.5,
    "new_alert": {"alert_id": 77, "mjd": 59000.25, "properties": {"ztf_magpsf": 18.5, "passband": "R"}},
}  # fmt: skip


def locus(document):
    [alert] = Antares().reader()(Message("client.extragalactic", 0, 1, builders.zlib_bson(document)), ORIGIN)
    return alert


@pytest.mark.parametrize("document", [NEW, OLD], ids=["new shape", "old shape"])
def test_antares(document):
    alert = locus(document)
    assert alert.key == ("antares", "ztf_candidate:2475433850215010007")
    assert alert.object_id == "ANT2020abcdef"
    assert (alert.ra, alert.dec, alert.mjd, alert.mag) == (150.25, -20.5, 59000.25, 18.5)
    assert alert.annotations == {
        "antares": {"tags": ["extragalactic"], "catalogs": ["2mass_psc"], "properties": PROPERTIES}
    }
    assert alert.packet == document
    assert (len(alert.history), len(alert.light_curve), len(list(alert.cutouts))) == (0, 1, 0)
    twin = pickle.loads(pickle.dumps(alert))
    assert (twin.key, twin.annotations, twin._known_survey) == (alert.key, alert.annotations, ANTARES)


def test_antares_of_the_first_years():
    alert = locus(FIRST)
    assert (alert.key, alert.object_id) == (("antares", 77), "1234")
    assert (alert.ra, alert.mjd, alert.mag, alert.band) == (150.25, 59000.25, 18.5, "R")
    named = FIRST["new_alert"] | {"alert_id": None, "survey": 1, "original_id": 2475433850215010007}
    assert locus(FIRST | {"new_alert": named}).alert_id == "1-2475433850215010007"


def test_a_locus_that_does_not_name_its_newest_alert_is_told_apart_by_its_content():
    one, two = (locus({"id": "ANT2020abcdef", "ra": 1.0, "dec": 2.0, "tags": [tag]}) for tag in ("a", "b"))
    assert one.alert_id == one.digest != two.alert_id
    assert (one.mjd, one.mag, one.object_id) == (None, None, "ANT2020abcdef")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not zlib",
        zlib.compress(b"no BSON"),
        builders.zlib_bson(NEW)[:-3],
        zlib.compress(b"\x05\0\0\0\x01"),
    ],
)
def test_what_is_no_locus_is_refused(raw):
    with pytest.raises(PacketError):
        Antares().reader()(Message("client.x", 0, 1, raw), ORIGIN)


def lasair(record):
    raw = record if isinstance(record, bytes) else json.dumps(record).encode()
    [alert] = Lasair().reader()(
        Message("lasair_2SN", 0, 1, raw), Origin("kafka", "lasair_2SN", broker="lasair")
    )
    return alert


def test_lasair_of_ztf():
    record = {"objectId": "ZTF20abcdefg", "ramean": 150.25, "decmean": -20.5, "jdmax": 2459000.75, "gmag": 18.5,
              "rmag": None, "classification": "SN", "UTC": "2020-05-31 18:00:00"}  # fmt: skip
    alert = lasair(record)
    assert (alert.survey, alert.object_id, alert.alert_id) == ("lasair", "ZTF20abcdefg", alert.digest)
    assert alert.key == ("lasair", "ZTF20abcdefg", alert.digest)
    assert (alert.ra, alert.dec, alert.mjd, alert.band, alert.mag) == (150.25, -20.5, 59000.25, "g", 18.5)
    assert alert.annotations == {"lasair": record}
    assert pickle.loads(pickle.dumps(alert))._known_survey is LASAIR


def test_lasair_of_rubin():
    alert = lasair(
        {"diaObjectId": 170032915988086814, "ra": 351.5, "decl": 0.125, "lastDiaSourceMjdTai": 60902.5}
    )
    assert (alert.object_id, alert.ra, alert.dec) == ("170032915988086814", 351.5, 0.125)
    assert alert.mjd == pytest.approx(60902.5 - 37 / 86400, abs=1e-10)


def test_what_a_filter_leaves_out_is_none():
    alert = lasair({"UTC": "2020-05-31 18:00:00", "gmag": 18.5, "rmag": 18.25})
    assert (alert.object_id, alert.ra, alert.mjd, alert.band) == (None, None, None, None)
    assert alert.mag is None  # which of the two is the newest is not said


def test_lasair_of_one_alert():
    alert = lasair(
        {"objectId": "ZTF20abcdefg", "candid": 2475433850215010007, "ra": 1.0, "dec": 2.0, "magpsf": 17.5}
    )
    assert alert.key == ("lasair", "ZTF20abcdefg", 2475433850215010007)
    assert (alert.ra, alert.mag, alert.band) == (1.0, 17.5, None)


@pytest.mark.parametrize("raw", [b"", b"{", b"<a/>", b"\x00\x01"])
def test_what_is_no_record_is_refused(raw):
    with pytest.raises(PacketError):
        lasair(raw)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just(59000.25),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
NAMES = ["id", "ra", "dec", "properties", "data", "attributes", "new_alert", "alert_id", "original_id", "survey",
         "newest_alert_id", "newest_alert_magnitude", "newest_alert_observation_time", "locus_id", "tags", "mjd",
         "objectId", "ramean", "decmean", "jdmax", "gmag", "candid", "lastDiaSourceMjdTai"]  # fmt: skip
PACKETS = st.recursive(
    st.dictionaries(st.sampled_from(NAMES), ODD, max_size=5),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner | ODD, max_size=5),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(PACKETS)
def test_values_of_wrong_types_are_missing(packet):
    for survey in (ANTARES, LASAIR):
        reading = survey.read(packet)
        assert (reading.point.ra is None) == (reading.point.dec is None)
        assert reading.object_id is None or isinstance(reading.object_id, str)
        assert isinstance(survey.annotations(packet), dict)
