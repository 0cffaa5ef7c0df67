"""Babamul: alerts of ZTF and Rubin in BOOM's shape."""

from __future__ import annotations

import pytest

import builders
from builders import JD, MJD, TAI_UTC_S, record_type
from nuncius import Alert
from nuncius.alerts import Origin
from nuncius.alerts.lightcurve import flux_from_mag
from nuncius.brokers.babamul import Babamul
from nuncius.errors import PacketError
from nuncius.streams.transport import Message

ORIGIN = Origin("kafka", "babamul.ztf.no-lsst-match.hosted", broker="babamul")
POINT = {"jd": "double", "psfFlux": ["null", "double"], "psfFluxErr": "double", "band": "string",
         "ra": ["null", "double"], "dec": ["null", "double"]}  # fmt: skip
PROPERTIES = {"rock": False, "star": True, "near_brightstar": False, "stationary": True}
MATCHES = {"objectId": "170032915988086813", "ra": 150.25, "dec": -20.5}
CANDID = 2475433850215010007


def schema_of(name, candidate, lists):
    point = record_type("Photometry", POINT)
    fields = {"candid": "long", "objectId": "string", "candidate": record_type("Candidate", candidate)}
    fields |= {
        key: {"type": "array", "items": point if n == 0 else "Photometry"} for n, key in enumerate(lists)
    }
    fields["properties"] = record_type("Properties", dict.fromkeys(PROPERTIES, "boolean"))
    fields["survey_matches"] = [
        "null", record_type("Match", {"objectId": "string", "ra": "double", "dec": "double"})
    ]  # fmt: skip
    fields |= {f"cutout{kind}": ["null", "bytes"] for kind in ("Science", "Template", "Difference")}
    return record_type(name, fields)


ZTF = {"jd": "double", "fid": "int", "candid": "long", "isdiffpos": "boolean", "ra": "double", "dec": "double",
       "magpsf": "float", "sigmapsf": "float", "diffmaglim": ["null", "float"], "drb": ["null", "float"],
       "psfFlux": "double", "psfFluxErr": "double", "band": "string"}  # fmt: skip
LSST = {"diaSourceId": "long", "midpointMjdTai": "double", "ra": "double", "dec": "double", "psfFlux": ["null", "float"],
        "psfFluxErr": ["null", "float"], "reliability": ["null", "float"], "isNegative": ["null", "boolean"],
        "diaObjectId": ["null", "long"], "ssObjectId": ["null", "long"], "band": ["null", "string"],
        "objectId": "string", "jd": "double", "magpsf": "float", "isdiffpos": "boolean"}  # fmt: skip
LISTS = ("prv_candidates", "prv_nondetections", "fp_hists")
UJY = 10 ** (-0.4 * (18.5 - 23.9))


def point(jd, flux, error, band="r"):
    return {"jd": jd, "psfFlux": flux, "psfFluxErr": error, "band": band, "ra": 150.25, "dec": -20.5}


def ztf(name="EnrichedZtfAlert", codec="null", unit=1e9, **candidate):
    """Make an alert of ZTF whose fluxes are uJy times `unit`."""
    schema = schema_of(name, ZTF, LISTS)
    record = {
        "candid": CANDID, "objectId": "ZTF20abcdefg",
        "candidate": {"jd": JD, "fid": 2, "candid": CANDID, "isdiffpos": True, "ra": 150.25, "dec": -20.5,
                      "magpsf": 18.5, "sigmapsf": 0.0625, "diffmaglim": 20.5, "drb": 0.875, "psfFlux": UJY * unit,
                      "psfFluxErr": UJY * unit * 0.0625, "band": "r"} | candidate,
        "prv_candidates": [point(JD - 3, -UJY * unit, UJY * unit / 10, "g"), point(JD, UJY * unit, UJY * unit / 16)],
        "prv_nondetections": [point(JD - 2, None, UJY * unit / 5)],
        "fp_hists": [point(JD - 1, UJY * unit * 2, UJY * unit / 10)],
        "properties": PROPERTIES, "survey_matches": MATCHES,
        "cutoutScience": builders.fits_file(builders.pixels(63)), "cutoutTemplate": None, "cutoutDifference": None,
    }  # fmt: skip
    return builders.packed_container(schema, [record], codec=codec)


def lsst(name="EnrichedLsstAlert", *, nested=False, object_id="170032915988086814"):
    source = {"diaSourceId": 170032915988086813, "midpointMjdTai": 60902.5, "ra": 351.5, "dec": 0.125,
              "psfFlux": -1230.0, "psfFluxErr": 100.0, "reliability": 0.5, "isNegative": True,
              "diaObjectId": 170032915988086814, "ssObjectId": 0, "band": "r"}  # fmt: skip
    more = {"objectId": object_id, "jd": 2460903.0 - TAI_UTC_S / 86400, "magpsf": 23.675, "isdiffpos": False}
    candidate = {"dia_source": source, **more} if nested else source | more
    types = LSST
    if nested:
        types = {"dia_source": record_type("DiaSource", {key: LSST[key] for key in source})}
        types |= {key: LSST[key] for key in more}
    schema = schema_of(name, types, ("prv_candidates", "fp_hists"))
    jd = 2460903.0 - TAI_UTC_S / 86400
    record = {
        "candid": 170032915988086813, "objectId": object_id, "candidate": candidate,
        "prv_candidates": [point(jd, -1230.0, 100.0), point(jd - 1, 500.0, 100.0, "i")],
        "fp_hists": [point(jd - 2, 20.0, 100.0, "i")], "properties": PROPERTIES, "survey_matches": None,
        "cutoutScience": None, "cutoutTemplate": None, "cutoutDifference": None,
    }  # fmt: skip
    return builders.packed_container(schema, [record], codec="null")


def read(raw, topic="babamul.ztf.no-lsst-match.hosted"):
    return Babamul().reader()(Message(topic, 0, 1, raw), ORIGIN)


@pytest.mark.parametrize("codec", ["null", "snappy", "deflate", "zstandard"])
@pytest.mark.parametrize("name", ["EnrichedZtfAlert", "boom.BabamulZtfAlert"])
def test_ztf(name, codec):
    [alert] = read(ztf(name, codec))
    assert alert.key == ("ztf", CANDID) == Alert.from_bytes(builders.ztf()).key
    assert (alert.object_id, alert.band, alert.mag, alert.mag_err) == ("ZTF20abcdefg", "r", 18.5, 0.0625)
    assert (alert.ra, alert.dec, alert.mjd, alert.score, alert.is_positive) == (
        150.25,
        -20.5,
        MJD,
        0.875,
        True,
    )
    assert alert.flux_njy == pytest.approx(flux_from_mag(18.5, is_positive=True))
    assert alert.annotations == {"babamul": {"properties": PROPERTIES, "survey_matches": MATCHES}}
    assert alert.cutouts.science.data.shape == (63, 63)


@pytest.mark.parametrize("unit", [1e9, 1e3], ids=["as BOOM makes them", "true nJy"])
def test_fluxes_of_ztfs_light_curve_are_njy_whatever_boom_calls_njy(unit):
    [alert] = read(ztf(unit=unit))
    earlier, limit, forced, own = alert.light_curve
    assert own.alert_id == CANDID
    assert (earlier.kind, earlier.band, earlier.is_positive, earlier.ra) == ("detection", "g", False, 150.25)
    assert earlier.flux_njy == pytest.approx(-1000 * UJY)
    assert earlier.flux_err_njy == pytest.approx(100 * UJY)
    assert earlier.mag == pytest.approx(18.5, abs=1e-3)
    assert (limit.kind, limit.mag) == ("limit", None)
    assert limit.limiting_mag == pytest.approx(18.5, abs=1e-3)  # five times the error
    assert (forced.kind, forced.flux_njy) == ("forced", pytest.approx(2000 * UJY))
    assert [point.kind for point in alert.history] == ["detection", "limit", "forced"]


def test_fluxes_whose_scale_does_not_show_are_left_out():
    [alert] = read(ztf(psfFlux=UJY * 3e5))
    assert all(point.flux_njy is None for point in alert.history)
    assert alert.flux_njy == pytest.approx(flux_from_mag(18.5, is_positive=True))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", ["EnrichedLsstAlert", "BabamulLsstAlert"])
def test_rubin(name, nested):
    [alert] = read(lsst(name, nested=nested), "babamul.lsst.no-ztf-match.hosted")
    assert alert.key == ("lsst", 170032915988086813)
    assert (alert.object_id, alert.band, alert.score) == ("170032915988086814", "r", 0.5)
    assert (alert.flux_njy, alert.flux_err_njy, alert.is_positive) == (-1230.0, 100.0, False)
    assert alert.mjd == pytest.approx(60902.5 - TAI_UTC_S / 86400, abs=1e-10)
    assert (alert.time.scale, alert.time.value) == ("tai", 60902.5)
    assert alert.annotations == {"babamul": {"properties": PROPERTIES}}
    forced, earlier = alert.history
    assert (forced.kind, forced.flux_njy, forced.flux_err_njy) == ("forced", 20.0, 100.0)
    assert (earlier.kind, earlier.flux_njy, earlier.band) == ("detection", 500.0, "i")


def test_objects_of_the_solar_system():
    [alert] = read(lsst(object_id="sso42"))
    assert alert.object_id == "sso42"


def test_the_topic_tells_where_the_schema_does_not():
    [of_ztf] = read(ztf("Alert"))
    [of_rubin] = read(lsst("Alert"), "babamul.lsst.ztf-match.unknown")
    [of_nobody] = read(ztf("Alert"), "other")
    assert (of_ztf.survey, of_rubin.survey, of_nobody.survey) == ("ztf", "lsst", "Alert")
    assert of_ztf.annotations.keys() == {"babamul"}


def test_files_of_these_alerts_are_read_as_such():
    assert Alert.from_bytes(ztf()).key == ("ztf", CANDID)
    assert Alert.from_bytes(ztf()).annotations["babamul"]["properties"]["star"] is True


def test_real_packets_of_ztf_say_the_same_in_both_shapes(packets_dir):
    paths = sorted(packets_dir.glob("ztf/v4*/*.avro"))
    if not paths:
        pytest.skip("the folder NUNCIUS_PACKETS holds no ZTF packets")
    for path in paths:
        own = Alert.from_bytes(path.read_bytes())
        mine = own.packet["candidate"]
        flux = 10 ** (-0.4 * (mine["magpsf"] - 23.9)) * 1e9
        raw = ztf(
            jd=mine["jd"], fid=mine["fid"], candid=mine["candid"], isdiffpos=own.is_positive, ra=mine["ra"],
            dec=mine["dec"], magpsf=mine["magpsf"], sigmapsf=mine["sigmapsf"], diffmaglim=mine["diffmaglim"],
            drb=mine["drb"], psfFlux=flux if own.is_positive else -flux, psfFluxErr=flux * mine["sigmapsf"],
            band=own.band,
        )  # fmt: skip
        [alert] = read(raw)
        for word in ("ra", "dec", "mjd", "band", "mag", "mag_err", "flux_njy", "is_positive", "score"):
            assert getattr(alert, word) == getattr(own, word), (path.name, word)
        assert alert._known_survey.njy_per_unit(alert.packet) == 1e-6


def test_damage():
    for raw in (b"", ztf()[:-5], b"Obj\x01", b"\x00" * 20):
        with pytest.raises(PacketError):
            read(raw)


def test_groups_begin_with_the_user():
    profile = Babamul()
    assert profile.group("night", "babamul-jane") == "babamul-jane-night"
    assert profile.group("babamul-jane-night", "babamul-jane") == "babamul-jane-night"
    assert profile.group("night", None) == "night"
