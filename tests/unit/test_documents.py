"""Alerts as documents in the shape in which Kowalski keeps them."""

from __future__ import annotations

import re

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

import archive_support as support
import builders
from nuncius.alerts import Alert
from nuncius.alerts.packets.compiled import decoder
from nuncius.archives.documents import (
    Contents,
    catalog_of,
    coordinates_of,
    key_of_entry,
    mjd_of_entry,
    sexagesimal,
    survey_of_catalog,
)
from nuncius.archives.embedded.preparing import document_id

EACH = support.one_of_each()


def undecoded(alert):
    """The same alert, nothing of which was touched yet."""
    return Alert(alert._raw, alert._opened, survey=alert._survey)


def history_of(alert, keep="document"):
    """List the entries of histories: (list, key, values)."""
    contents = Contents(alert, keep)
    return [
        (name, key, contents.entry(name, key)) for name, keys in contents.histories.items() for key in keys
    ]


@pytest.mark.parametrize("catalog", EACH)
def test_catalogs_have_the_names_that_kowalski_gives(catalog):
    alert = EACH[catalog]
    assert catalog_of(alert) == catalog
    assert survey_of_catalog(catalog) is alert._known_survey
    assert survey_of_catalog(f"{catalog}_aux") is alert._known_survey


def test_a_survey_that_is_not_known_has_a_catalog_of_its_own():
    schema = builders.record_type("my.own-survey.alert".replace("-", "_"), {"candid": "long", "ra": "double"})
    raw = builders.container(schema, [builders.datum(schema, {"candid": 1, "ra": 2.0})])
    assert catalog_of(Alert.from_bytes(raw)) == "my_own_survey_alerts"
    assert catalog_of(support.plain(candid=1)) == "generic_alerts"


def test_a_ztf_document_has_kowalskis_shape():
    alert = EACH["ZTF_alerts"]
    document = Contents(undecoded(alert), "document").document
    assert list(document) == ["schemavsn", "publisher", "objectId", "candid", "candidate"]
    assert document["candidate"] == alert.packet["candidate"]
    assert document["candid"] == support.CANDID
    assert type(document["candid"]) is int


@pytest.mark.parametrize("catalog", EACH)
def test_a_document_has_all_fields_but_images_and_histories(catalog):
    alert = EACH[catalog]
    survey = alert._known_survey
    document = Contents(undecoded(alert), "document").document
    expected = set(alert.packet) - set(survey.history_lists) - set(survey.cutout_fields)
    assert set(document) == expected
    for name in expected:
        assert support.same(document[name], alert.packet[name])
    assert set(Contents(alert, "packet").document) == expected


def test_an_alert_without_an_object_keeps_its_history():
    earlier = [builders.lsst_source("9.0", diaSourceId=5)]
    alert = support.lsst(source={"diaObjectId": None}, prvDiaSources=earlier)
    assert alert.object_id is None
    document = Contents(undecoded(alert), "document").document
    assert support.same(document["prvDiaSources"], alert.packet["prvDiaSources"])
    assert len(document["prvDiaSources"]) == 1
    assert "cutoutScience" not in document


def test_entries_of_histories_have_no_nulls_as_in_kowalski():
    points = history_of(EACH["ZTF_alerts"])
    assert [name for name, _, _ in points] == ["prv_candidates", "prv_candidates", "fp_hists"]
    for _, _, values in points:
        assert None not in values.values()
        assert mjd_of_entry(values) == pytest.approx(values["jd"] - 2400000.5, abs=1e-9)
    assert "candid" not in points[0][2]
    assert points[1][2]["candid"] == 7


@pytest.mark.parametrize("catalog", EACH)
@pytest.mark.parametrize("keep", ["document", "measurements"])
def test_entries_are_the_same_whether_the_packet_was_decoded_or_not(catalog, keep):
    decoded, fresh = EACH[catalog], undecoded(EACH[catalog])
    assert decoded.packet
    expected = history_of(decoded, keep)
    assert support.same([*map(list, history_of(fresh, keep))], [*map(list, expected)])
    if decoder() is not None and expected:
        assert fresh._packet is None, "all of it was decoded"


def test_entries_of_a_history_are_told_apart():
    entries = [
        builders.ztf_earlier(),
        builders.ztf_earlier(fid=1),
        builders.ztf_earlier(pid=8),
        builders.ztf_earlier(jd=builders.JD - 4),
        builders.ztf_earlier(candid=7),
        builders.ztf_earlier(candid=8),
    ]
    points = history_of(support.ztf(prv_candidates=[*entries, *entries]))
    assert len({key for _, key, _ in points}) == len(points) == len(entries)


def test_of_entries_that_are_not_told_apart_the_first_counts():
    entries = [builders.ztf_earlier(candid=7, magpsf=18.5), builders.ztf_earlier(candid=7, magpsf=19.5)]
    alert = support.ztf(prv_candidates=entries)
    for same in (alert, undecoded(alert)):
        assert [values["magpsf"] for _, _, values in history_of(same)] == [18.5]
        assert same.packet


@pytest.mark.parametrize(("candid", "key"), [("a\nb", "a\\nb"), ("\ud800", "\\ud800"), (7, "7"), ("é", "é")])
def test_keys_are_one_printable_line(candid, key):
    assert key_of_entry({"candid": candid}) == key


def test_times_of_rubins_history_are_in_utc():
    _, key, values = history_of(EACH["LSST_alerts"])[0]
    assert mjd_of_entry(values) == pytest.approx(60900.0 - 37 / 86400, abs=1e-9)
    assert key == "5"


@pytest.mark.parametrize("catalog", [name for name in EACH if name != "generic_alerts"])
def test_measurements_are_ids_and_what_a_point_is_made_from(catalog):
    alert = EACH[catalog]
    survey = alert._known_survey
    document = Contents(undecoded(alert), "measurements").document
    again = survey.read(document)
    assert again.point == alert._read.point
    assert again.alert_id == alert.alert_id
    assert again.object_id == alert.object_id
    for part in document.values():
        if isinstance(part, dict):
            assert set(part) <= survey.measurement_fields
    full = {(name, key): values for name, key, values in history_of(alert)}
    for name, key, values in history_of(alert, "measurements"):
        assert set(values) <= survey.measurement_fields
        assert survey.history_point(name, values) == survey.history_point(name, full[name, key])


# Coordinates ---------------------------------------------------------------------------------------------------------


def test_coordinates_are_those_of_astropy():
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 50), np.degrees(np.arcsin(rng.uniform(-1, 1, 50)))
    here = SkyCoord(ra * u.deg, dec * u.deg)
    found = coordinates_of(list(zip(ra.tolist(), dec.tolist(), strict=True)))
    for index, made in enumerate(found):
        assert set(made) == {"radec_str", "radec_geojson", "l", "b", "geocentricmeanecliptic"}
        assert made["radec_geojson"] == {"type": "Point", "coordinates": [ra[index] - 180, dec[index]]}
        assert made["l"] == pytest.approx(here[index].galactic.l.deg)
        assert made["b"] == pytest.approx(here[index].galactic.b.deg)
        ecliptic = here[index].geocentricmeanecliptic
        assert made["geocentricmeanecliptic"] == pytest.approx(
            {"lambda": ecliptic.lon.deg, "beta": ecliptic.lat.deg}
        )
        hours, degrees = made["radec_str"]
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{4}", hours)
        assert re.fullmatch(r"-?\d\d:\d\d:\d\d\.\d{3}", degrees)
        read = SkyCoord(hours, degrees, unit=("hourangle", "deg"))
        assert read.separation(here[index]).arcsec < 2e-3


def test_positions_that_are_missing_have_no_coordinates():
    found = coordinates_of([(None, None), (10.0, 20.0), (None, 5.0), (5.0, None)])
    assert [made is None for made in found] == [True, False, True, True]
    assert coordinates_of([]) == []
    assert coordinates_of([(None, None)]) == [None]


def test_coordinates_at_the_ends_of_the_ranges():
    made = coordinates_of([(0.0, 90.0), (360.0, -90.0), (359.9999999, 0.0), (180.0, -0.5)])
    assert made[0]["radec_geojson"]["coordinates"] == [-180.0, 90.0]
    assert made[3]["radec_geojson"]["coordinates"] == [0.0, -0.5]
    assert made[3]["radec_str"] == ["12:00:00.0000", "-00:30:00.000"]
    for part in made:
        longitude, latitude = part["radec_geojson"]["coordinates"]
        assert -180 <= longitude <= 180
        assert -90 <= latitude <= 90


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 4, "00:00:00.0000"), (10.5, 3, "10:30:00.000"), (-0.25, 3, "-00:15:00.000"), (-89.999, 3, "-89:59:56.400"),
        (1 - 1e-9, 3, "01:00:00.000"), (59.99999 / 3600, 3, "00:01:00.000"), (-1 + 1e-9, 3, "-01:00:00.000"),
        (83.822083 / 15, 4, "05:35:17.2999"), (1e-9, 3, "00:00:00.000"),
    ],
)  # fmt: skip
def test_sexagesimal_never_shows_60_seconds(value, digits, text):
    assert sexagesimal(value, digits) == text


def test_a_right_ascension_just_below_a_full_turn_is_not_24_hours():
    assert coordinates_of([(359.9999999999, 0.0)])[0]["radec_str"][0] == "00:00:00.0000"


# Ids -----------------------------------------------------------------------------------------------------------------


def test_document_ids_are_24_hexadecimal_digits_of_the_key():
    found = {name: document_id(alert) for name, alert in EACH.items()}
    assert len(set(found.values())) == len(EACH)
    for name in found.values():
        assert re.fullmatch(r"[0-9a-f]{24}", name)
    assert found["ZTF_alerts"] == document_id(support.ztf(objectId="other", candidate={"rb": 0.1}))


def test_where_alert_ids_repeat_the_object_makes_the_id():
    first, second = (Alert.from_bytes(builders.turbo(objectId=name)) for name in ("a", "b"))
    assert document_id(first) != document_id(second)
    first, second = (Alert.from_bytes(builders.decam(objectId=name)) for name in ("a", "b"))
    assert document_id(first) != document_id(second)


def test_the_id_of_an_alert_never_changes():
    # Archives of earlier releases hold these: a change would double every alert that comes again.
    assert document_id(support.ztf()) == "f431661cefbbdba6324bc2e2"
