"""The same words for every survey: ids, positions, times, brightness, and everything odd about them."""

from __future__ import annotations

import json
import math

import pytest

import builders
from builders import JD, LSST_VERSIONS, MJD
from nuncius import Alert
from nuncius.alerts.surveys import GENERIC, KNOWN, survey_of_schema
from nuncius.alerts.surveys.base import identifier, number, position, sign

NAN = float("nan")


def lsst_alert(version="9.0", **options):
    schemas = {builders.lsst_id(version): builders.lsst_schema(version)}
    return Alert.from_bytes(builders.lsst(version, **options), schema=schemas)


# One table of what each survey gives ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["3.2", "3.3", "4.01", "4.02"])
def test_ztf(version):
    alert = Alert.from_bytes(builders.ztf(version))
    assert (alert.survey, alert.schema_name) == ("ztf", "ztf.alert")
    assert alert.alert_id == 2475433850215010007
    assert isinstance(alert.alert_id, int)
    assert alert.object_id == "ZTF20abcdefg"
    assert alert.key == ("ztf", 2475433850215010007)
    assert (alert.ra, alert.dec, alert.mjd, alert.band) == (150.25, -20.5, MJD, "r")
    assert (alert.mag, alert.mag_err, alert.is_positive) == (18.5, 0.0625, True)
    assert alert.flux_njy == pytest.approx(1000 * 10 ** (-0.4 * (18.5 - 23.9)))
    assert alert.flux_err_njy == pytest.approx(alert.flux_njy * 0.0625 * math.log(10) / 2.5)
    assert alert.score == (0.5 if version == "3.2" else 0.875)
    assert alert.packet["schemavsn"] == version


def test_winter():
    alert = Alert.from_bytes(builders.winter())
    assert (alert.survey, alert.alert_id, alert.object_id) == ("winter", 3608694, "WNTR24awati")
    assert (alert.ra, alert.dec, alert.mjd) == (262.5, 7.25, MJD)
    assert (alert.band, alert.mag, alert.mag_err, alert.is_positive) == ("H", 13.5, 0.25, True)
    assert alert.flux_njy is None
    assert alert.score is None


def test_winter_keeps_the_later_of_two_fields_with_one_name():
    candidate = Alert.from_bytes(builders.winter(sgmag1=(19.5, 21.5))).packet["candidate"]
    assert candidate["sgmag1"] == 21.5
    assert candidate["sgmag2"] is None
    assert candidate["tmobjectid1"].endswith("   ")


def test_turbo_is_keyed_by_object_and_outer_id():
    alert = Alert.from_bytes(builders.turbo(outer=4))
    assert (alert.survey, alert.alert_id, alert.object_id) == ("turbo", 4, "None.22")
    assert alert.packet["candidate"]["candid"] == 89
    assert alert.key == ("turbo", "None.22", 4)
    assert (alert.band, alert.mag, alert.mjd, alert.is_positive) == ("J", 1.0, MJD, True)
    assert len(alert.history) == 0


def test_pgir():
    alert = Alert.from_bytes(builders.pgir())
    assert (alert.survey, alert.alert_id, alert.object_id) == ("pgir", 114449485, "PGIR21adzgse")
    assert (alert.band, alert.mag, alert.mag_err, alert.score) == ("J", 12.25, 0.125, 0.75)
    assert (alert.ra, alert.dec, alert.mjd, alert.is_positive) == (314.25, 40.125, MJD, True)
    assert alert.packet["candidate"]["ssdistnr"] == -99.0
    assert list(alert.packet)[2:5] == ["cutoutScience", "cutoutTemplate", "cutoutDifference"]


def test_decam_times_are_mjd_and_fluxes_njy():
    alert = Alert.from_bytes(
        builders.decam(forced=[{"mjd": MJD - 2, "band": "i", "psfFlux": -500.0, "isdiffpos": 0}])
    )
    assert (alert.survey, alert.object_id) == ("decam", "c4d_260708_015517_xxx_g_dts-1")
    assert alert.key == ("decam", "c4d_260708_015517_xxx_g_dts-1", 12)
    assert (alert.mjd, alert.band, alert.score, alert.is_positive) == (MJD, "g", 0.625, True)
    assert alert.flux_njy == 1375.251
    assert alert.mag == pytest.approx(alert.packet["candidate"]["forcediffimmag"], abs=1e-3)
    [point] = alert.history
    assert (point.kind, point.mjd, point.band, point.flux_njy, point.is_positive) == (
        "forced",
        MJD - 2,
        "i",
        -500,
        False,
    )


@pytest.mark.parametrize("version", LSST_VERSIONS)
def test_lsst(version):
    alert = lsst_alert(version)
    assert alert.survey == "lsst"
    assert alert.schema_name == f"lsst.v{version.replace('.', '_')}.alert"
    assert (alert.alert_id, alert.object_id) == (170032915988086813, "170032915988086813")
    assert (alert.ra, alert.dec, alert.band, alert.score) == (351.5, 0.125, "r", 0.5)
    assert alert.mjd == pytest.approx(60902.5 - 37 / 86400, abs=1e-10)
    assert (alert.time.format, alert.time.scale, alert.time.value) == ("mjd", "tai", 60902.5)
    assert (alert.flux_njy, alert.flux_err_njy, alert.is_positive) == (-1230.0, 100.0, False)
    assert alert.mag == pytest.approx(23.6753, abs=1e-4)
    assert alert.mag_err == pytest.approx(1.0857 * 100 / 1230, rel=1e-4)
    assert math.isnan(alert.packet["diaSource"]["psfLnL"])
    assert len(alert.history) == 0


# The odd spots ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, 1, 1.0, "t", "T", "true", "y", "Y", "1"])
def test_positive(value):
    assert sign(value) is True


@pytest.mark.parametrize("value", [False, 0, 0.0, "f", "F", "false", "n", "0"])
def test_negative(value):
    assert sign(value) is False


@pytest.mark.parametrize("value", [None, NAN, "", "null", "NONE"])
def test_a_missing_sign_is_not_a_negative_one(value):
    assert sign(value) is None


@pytest.mark.parametrize(("value", "positive"), [("t", True), ("1", True), ("f", False), ("0", False)])
def test_ztf_writes_signs_in_four_ways(value, positive):
    alert = Alert.from_bytes(builders.ztf(candidate={"isdiffpos": value}))
    assert alert.is_positive is positive
    assert (alert.flux_njy > 0) is positive
    assert alert.mag == 18.5


@pytest.mark.parametrize(
    "value",
    [None, NAN, math.inf, -math.inf, -999, -999.0, True, "18.5", [], {}, 10**400],
    ids=lambda value: repr(value)[:12],
)
def test_what_is_no_number_is_missing(value):
    assert number(value, frozenset({-999.0})) is None


@pytest.mark.parametrize("value", [2**63 - 1, 2475433850215010007, "ZTF20abc", 0])
def test_ids_stay_as_they_are(value):
    assert identifier(value) is value


@pytest.mark.parametrize("value", [None, "", "null", "NONE", 1.0, True, b"id", []])
def test_what_is_no_id(value):
    assert identifier(value) is None


@pytest.mark.parametrize(
    ("ra", "dec"),
    [(-0.1, 0), (360.1, 0), (10, 90.1), (10, -90.1), (None, 1), (1, NAN), (-999.0, -999.0), ("1", "2")],
)
def test_impossible_positions_are_missing(ra, dec):
    assert position(ra, dec) == (None, None)


@pytest.mark.parametrize(("ra", "dec"), [(0, 0), (360, 90), (359.99999, -90)])
def test_possible_positions(ra, dec):
    assert position(ra, dec) == (ra, dec)


@pytest.mark.parametrize(("fid", "band"), [(1, "g"), (2, "r"), (3, "i"), (7, "fid:7"), (0, "fid:0")])
def test_ztf_bands(fid, band):
    assert Alert.from_bytes(builders.ztf(candidate={"fid": fid})).band == band


@pytest.mark.parametrize(("fid", "band"), [(0, "Y"), (1, "J"), (2, "H"), (3, "K"), (4, "fid:4")])
def test_winter_bands_follow_the_text_of_its_schema(fid, band):
    assert Alert.from_bytes(builders.winter(candidate={"fid": fid})).band == band
    assert Alert.from_bytes(builders.turbo(candidate={"fid": fid})).band == band


@pytest.mark.parametrize("jd", [0.0, -999.0, NAN, 1480360995.0, 59000.25])
def test_an_impossible_time_is_missing_and_no_error(jd):
    alert = Alert.from_bytes(builders.ztf(candidate={"jd": jd}))
    assert alert.mjd is None
    assert alert.time is None
    assert alert.ra == 150.25


def test_a_unix_time_in_an_lsst_sample_is_missing():
    alert = lsst_alert("7.4", source={"midpointMjdTai": 1480360995.0})
    assert alert.mjd is None
    assert alert.time is None


@pytest.mark.parametrize("missing", [NAN, -999.0])
def test_sentinels_are_missing_but_stay_in_the_packet(missing):
    alert = Alert.from_bytes(builders.ztf(candidate={"magpsf": missing, "sigmapsf": missing, "drb": missing}))
    assert (alert.mag, alert.mag_err, alert.flux_njy, alert.flux_err_njy) == (None, None, None, None)
    assert alert.score == 0.5
    assert repr(alert.packet["candidate"]["magpsf"]) == repr(missing)


def test_pgir_sentinel_is_99():
    alert = Alert.from_bytes(builders.pgir(candidate={"magpsf": -99.0, "drb": -99.0}))
    assert (alert.mag, alert.score) == (None, None)


def test_ztf_time_is_utc():
    alert = Alert.from_bytes(builders.ztf())
    assert (alert.time.value, alert.time.format, alert.time.scale) == (JD, "jd", "utc")


@pytest.mark.parametrize(
    ("ids", "name"),
    [
        ({"diaObjectId": 5, "ssObjectId": 0}, "5"),
        ({"diaObjectId": None, "ssObjectId": 7}, "sso7"),
        ({"diaObjectId": 0, "ssObjectId": 7}, "sso7"),
        ({"diaObjectId": 5, "ssObjectId": 7}, "5"),
        ({"diaObjectId": None, "ssObjectId": 0}, None),
        ({"diaObjectId": None, "ssObjectId": None}, None),
    ],
)
def test_lsst_object(ids, name):
    assert lsst_alert(source=ids).object_id == name


@pytest.mark.parametrize(
    ("version", "field"), [("7.4", "is_negative"), ("8.0", "isNegative"), ("11.0", "isNegative")]
)
def test_lsst_sign_is_its_flag_else_that_of_the_flux(version, field):
    assert lsst_alert(version, source={field: False}).is_positive is True
    assert lsst_alert(version, source={field: None}).is_positive is False
    assert lsst_alert(version, source={field: None, "psfFlux": 3.0}).is_positive is True
    assert lsst_alert(version, source={field: None, "psfFlux": None}).is_positive is None


def test_lsst_nan_is_missing():
    alert = lsst_alert(source={"psfFlux": NAN, "psfFluxErr": NAN, "reliability": NAN, "band": None})
    assert (alert.flux_njy, alert.flux_err_njy, alert.mag, alert.mag_err) == (None, None, None, None)
    assert (alert.score, alert.band, alert.is_positive) == (None, None, False)


def test_lsst_8_gives_its_logical_times_as_datetimes():
    from datetime import UTC, datetime

    when = datetime(2025, 7, 19, 3, 4, 5, tzinfo=UTC)
    alert = lsst_alert("8.0", source={"time_processed": when})
    assert alert.packet["diaSource"]["time_processed"] == when


def test_ids_beyond_2_to_the_53_survive_in_json():
    alert = Alert.from_bytes(b'{"candid": 2475433850215010007, "objectId": "A"}')
    assert alert.alert_id == 2475433850215010007


# Histories --------------------------------------------------------------------------------------------------------


def test_ztf_history_separates_detections_limits_and_forced():
    alert = Alert.from_bytes(
        builders.ztf(
            prv_candidates=[
                builders.ztf_earlier(jd=JD - 5),
                builders.ztf_earlier(
                    jd=JD - 4, candid=11, magpsf=19.0, sigmapsf=0.1, isdiffpos="f", ra=150.0, dec=-20.0
                ),
                builders.ztf_earlier(jd=JD - 3, fid=1, diffmaglim=-999.0),
            ],
            fp_hists=[
                builders.ztf_forced(jd=JD - 1),
                builders.ztf_forced(jd=JD - 2, procstatus="61"),
                builders.ztf_forced(jd=JD - 3, forcediffimflux=-99999.0, forcediffimfluxunc=-99999.0),
                builders.ztf_forced(jd=JD - 4, forcediffimflux=-10.0, forcediffimfluxunc=-99999.0),
            ],
        )
    )
    [limit], [earlier], [negative, positive] = (
        alert.history.limits,
        alert.history.detections,
        alert.history.forced,
    )
    assert (limit.mjd, limit.band, limit.limiting_mag, limit.mag, limit.ra) == (
        MJD - 5,
        "r",
        20.25,
        None,
        None,
    )
    assert (earlier.alert_id, earlier.mag, earlier.is_positive, earlier.flux_njy < 0) == (
        11,
        19.0,
        False,
        True,
    )
    assert (negative.mjd, negative.is_positive, negative.flux_err_njy) == (MJD - 4, False, None)
    assert positive.flux_njy == pytest.approx(1000 * 100 * 10 ** (0.4 * (23.9 - 26.25)))
    assert positive.mag == pytest.approx(26.25 - 2.5 * math.log10(100), abs=1e-6)
    assert positive.mag_err == pytest.approx(2.5 / math.log(10) * 5 / 100)
    assert [point.mjd for point in alert.history] == sorted(point.mjd for point in alert.history)
    assert len(alert.light_curve) == len(alert.history) + 1
    assert alert.light_curve[-1].mag == 18.5


def test_ztf_forced_photometry_at_the_time_of_the_alert_is_a_point_of_its_own():
    alert = Alert.from_bytes(builders.ztf(fp_hists=[builders.ztf_forced(jd=JD, fid=2)]))
    assert [point.kind for point in alert.history] == ["forced"]
    assert sorted(point.kind for point in alert.light_curve) == ["detection", "forced"]


@pytest.mark.parametrize("history", [None, []])
def test_no_history(history):
    alert = Alert.from_bytes(builders.ztf(prv_candidates=history, fp_hists=history))
    assert len(alert.history) == 0
    assert [point.alert_id for point in alert.light_curve] == [alert.alert_id]


def test_pgir_lists_itself_in_a_history_without_order():
    own = {"jd": JD, "candid": 114449485, "magpsf": 12.25, "ra": 314.25, "dec": 40.125, "isdiffpos": "1"}
    alert = Alert.from_bytes(
        builders.pgir(
            earlier=[
                {"jd": JD - 1, "diffmaglim": 15.5},
                own,
                {"jd": JD - 9, "candid": 7, "magpsf": 12.5, "ra": 314.25, "dec": 40.125, "isdiffpos": "1"},
                {"jd": JD - 5, "diffmaglim": 15.25},
            ]
        )
    )
    assert [round(MJD - point.mjd) for point in alert.history] == [9, 5, 1]
    assert [point.kind for point in alert.history] == ["detection", "limit", "limit"]
    assert len(alert.light_curve) == 4
    assert [point.alert_id for point in alert.light_curve.detections] == [7, 114449485]


def test_pgir_finds_itself_in_its_history_also_without_an_id():
    own = {"jd": JD, "candid": None, "magpsf": 12.25, "ra": 314.25, "dec": 40.125, "isdiffpos": "1"}
    alert = Alert.from_bytes(builders.pgir(earlier=[own]))
    assert len(alert.history) == 0
    assert len(alert.light_curve) == 1


def test_history_of_a_survey_whose_ids_repeat_keeps_an_earlier_detection_with_the_same_number():
    earlier = {"candid": 4, "jd": JD - 2, "fid": 1, "isdiffpos": 1.0, "ra": 35.5, "dec": 14.5, "magpsf": 2.0}
    alert = Alert.from_bytes(builders.turbo(outer=4, prv_candidates=[earlier]))
    assert [point.mjd for point in alert.history] == [MJD - 2]
    assert len(alert.light_curve) == 2


@pytest.mark.parametrize("version", LSST_VERSIONS)
def test_lsst_history(version):
    earlier = builders.lsst_source(version, diaSourceId=9, midpointMjdTai=60890.5)
    forced = [
        builders.lsst_forced(version),
        builders.lsst_forced(version, midpointMjdTai=60899.5, psfFlux=NAN),
    ]
    alert = lsst_alert(version, prvDiaSources=[earlier], prvDiaForcedSources=forced)
    assert [(point.kind, point.alert_id) for point in alert.history] == [("detection", 9), ("forced", None)]
    assert alert.history[1].flux_njy == 200.0
    assert alert.history[1].mjd == pytest.approx(60900.5 - 37 / 86400, abs=1e-10)


# Finding the survey -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ("ztf.alert", "ztf"), ("lsst.v9_0.alert", "lsst"), ("lsst.v12_34.alert", "lsst"), ("winter.alert", "winter"),
        ("turbo.alert", "turbo"), ("pgir.alert", "pgir"), ("desirt.alert", "decam"),
        ("", "generic"), ("ztf.alert.candidate", "generic"), ("xztf.alert", "generic"), ("ztfxalert", "generic"),
    ],
)  # fmt: skip
def test_the_survey_is_found_by_the_whole_name_of_the_schema(schema, name):
    assert survey_of_schema(schema).name == name


def test_catalog_prefixes_are_unique():
    assert len({survey.catalog_prefix for survey in KNOWN}) == len(KNOWN)
    assert GENERIC.catalog_prefix not in {survey.catalog_prefix for survey in KNOWN}


def test_a_packet_of_an_unknown_schema_is_named_after_it():
    schema = builders.record_type("nova.alert", {"candid": "long", "ra": "double", "dec": "double"})
    record = {"candid": 3, "ra": 1.5, "dec": 2.5}
    alert = Alert.from_bytes(builders.container(schema, [builders.datum(schema, record)]))
    assert (alert.survey, alert.key, alert.ra) == ("nova.alert", ("nova.alert", None, 3), 1.5)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"alertId": 1, "candid": 2, "objectId": "O"}, (1, "O")),
        ({"properties": {"candid": 2}, "locus_id": "ANT1"}, (2, "ANT1")),
        ({"id": "x", "object": {"objectid": 5}}, ("x", "5")),
        ({"diaSource": {"diaSourceId": 8, "diaObjectId": 9}}, (8, "9")),
        ({"id": "", "alert_id": "null", "candid": 4}, (4, None)),
    ],
)
def test_ids_of_other_packets(document, expected):
    alert = Alert.from_bytes(json.dumps(document).encode())
    assert (alert.alert_id, alert.object_id) == expected


@pytest.mark.parametrize(
    "place", [{"ra": 1.5, "decl": 2.5}, {"RA": 1.5, "DEC": 2.5}, {"RA": 1.5, "Dec": 2.5}, {"raDeg": 1.5, "decDeg": 2.5},
              {"ra": None, "dec": None, "candidate": {"ra": 1.5, "dec": 2.5}}]
)  # fmt: skip
def test_positions_of_other_packets(place):
    alert = Alert.from_bytes(json.dumps(place).encode())
    assert (alert.ra, alert.dec) == (1.5, 2.5)


@pytest.mark.parametrize(
    ("times", "mjd", "scale"),
    [({"mjd": 60000.5}, 60000.5, "utc"), ({"jd": 2460001.0}, 60000.5, "utc"),
     ({"midpointMjdTai": 60000.5}, 60000.5 - 37 / 86400, "tai"), ({"mjd": 5, "jd": 2460001.0}, 60000.5, "utc")],
)  # fmt: skip
def test_times_of_other_packets(times, mjd, scale):
    alert = Alert.from_bytes(json.dumps(times).encode())
    assert alert.mjd == pytest.approx(mjd, abs=1e-10)
    assert alert.time.scale == scale


def test_nothing_is_known_of_an_empty_packet():
    alert = Alert.from_bytes(b"{}")
    assert (alert.ra, alert.dec, alert.mjd, alert.time, alert.mag, alert.band, alert.object_id) == (None,) * 7
    assert alert.alert_id == alert.digest
    assert len(alert.digest) == 32
    assert len(alert.cutouts) == 0


ODD_VALUES = [None, NAN, "x", -1, 10**30, 10**400, [], [1], {}, {"a": 1}, b"", True]


@pytest.mark.parametrize("survey", [*KNOWN, GENERIC], ids=lambda survey: survey.name)
@pytest.mark.parametrize("odd", ODD_VALUES, ids=lambda odd: repr(odd)[:12])
def test_no_survey_raises_for_a_field_of_an_odd_type(survey, odd):
    fields = {*survey.measurement_fields, "candid", "objectId", "objectid", "diaSourceId", "alertId", "band", "filter",
              "mag", "mjd", "jd", "id"}  # fmt: skip
    record = dict.fromkeys(fields, odd)
    lists = {name: [record, odd] for name in survey.history_lists}
    for packet in (
        record | {"candidate": record, "diaSource": record} | lists,
        dict.fromkeys([*fields, "candidate", "diaSource", *survey.history_lists, *survey.cutout_fields], odd),
    ):
        reading = survey.read(packet)
        assert reading.point.kind == "detection"
        assert reading.point.mjd is None
        assert all(point.kind in {"detection", "limit", "forced"} for point in survey.history(packet))
        assert len(survey.cutouts(packet)) == 0
