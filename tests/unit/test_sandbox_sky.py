"""The synthetic survey: the same packets for the same seed, shaped like ZTF's and true to the sky they show."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import math
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from nuncius.alerts import Alert
from nuncius.errors import ConfigurationError
from nuncius.sandbox.sky import SyntheticSky, synthetic_alerts
from nuncius.sandbox.sky.cutouts import fits_gz
from nuncius.sandbox.sky.schema import PacketWriter, earlier_names, ztf_schema
from nuncius.sandbox.sky.telescope import BANDS

COUNT = 300


@pytest.fixture(scope="module")
def sky():
    return SyntheticSky(seed=3)


@pytest.fixture(scope="module")
def packets(sky):
    return list(sky.alerts(COUNT))


@pytest.fixture(scope="module")
def alerts(packets):
    return [Alert.from_bytes(packet) for packet in packets]


@pytest.fixture(scope="module")
def by_kind(sky, alerts):
    kinds = {item.object_id: item.kind for item in sky.objects}
    found = defaultdict(list)
    for alert in alerts:
        found[kinds.get(alert.object_id, "asteroid")].append(alert)
    return found


@pytest.fixture(scope="module")
def one_star():
    """A sky with nothing but one variable star, and 24 alerts of it."""
    star = SyntheticSky(seed=5, objects=1)
    return star.objects[0], [Alert.from_bytes(packet) for packet in star.alerts(24)]


def difference_flux(candidate):
    """Return the signed difference in DN that a candidate reports."""
    flux = 10 ** (0.4 * (candidate["magzpsci"] - candidate["magpsf"]))
    return flux if candidate["isdiffpos"] == "t" else -flux


# The same for the same seed


def test_the_same_seed_gives_the_same_bytes(packets):
    assert list(SyntheticSky(seed=3).alerts(12)) == packets[:12]


def test_a_sky_can_be_observed_again(sky, packets):
    assert list(sky.alerts(5)) == packets[:5]


def test_alerts_do_not_depend_on_who_reads_beside():
    sky = SyntheticSky(seed=4, objects=40)
    pairs = list(zip(sky.alerts(6), sky.alerts(6), strict=True))
    assert all(one == other for one, other in pairs)


def test_another_process_gives_the_same_bytes(packets):
    program = (
        "import hashlib; from nuncius.sandbox.sky import SyntheticSky; "
        "print(hashlib.sha256(b''.join(SyntheticSky(seed=3).alerts(10))).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
    )
    assert done.stdout.strip() == hashlib.sha256(b"".join(packets[:10])).hexdigest()


def test_another_seed_gives_another_sky(packets):
    assert not set(packets[:5]) & set(synthetic_alerts(5, seed=4))


def test_synthetic_alerts_is_the_default_sky():
    assert synthetic_alerts(4, seed=9) == list(SyntheticSky(seed=9).alerts(4))
    assert synthetic_alerts(0) == []


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**64), objects=st.integers(1, 12))
def test_every_small_sky_gives_alerts(seed, objects):
    alerts = [Alert.from_bytes(packet) for packet in SyntheticSky(seed=seed, objects=objects).alerts(3)]
    assert len({alert.alert_id for alert in alerts}) == 3
    assert all(alert.mag is not None and alert.score is not None for alert in alerts)


@pytest.mark.parametrize(
    "options",
    [{"objects": 0}, {"objects": 200_000}, {"seed": -1}, {"night_mjd": 12.0}, {"night_mjd": float("nan")}],
)
def test_a_sky_that_cannot_be_is_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        SyntheticSky(**options)


def test_a_negative_number_of_alerts_is_refused(sky):
    with pytest.raises(ValueError, match="islice"):
        sky.alerts(-1)


# Packets


def test_packets_are_readable_alerts(alerts):
    for alert in alerts[:60]:
        assert alert.survey == "ztf"
        assert alert.schema_name == "ztf.alert"
        assert alert.band in BANDS.values()
        assert 0 <= alert.ra < 360
        assert -30 < alert.dec < 90
        assert 0 <= alert.score <= 1
        assert len(alert.cutouts) == 3
        for cutout in alert.cutouts:
            assert cutout.data.shape == (63, 63)
            assert cutout.data.dtype == np.float32


def test_fields_equal_what_fastavro_reads(packets, alerts):
    for packet, alert in zip(packets[:40], alerts, strict=False):
        (record,) = fastavro.reader(io.BytesIO(packet))
        assert alert.packet == record
        assert alert.alert_id == record["candid"] == record["candidate"]["candid"]
        assert alert.object_id == record["objectId"]
        assert alert.mjd == record["candidate"]["jd"] - 2400000.5
        assert alert.mag == record["candidate"]["magpsf"]
        assert alert.cutouts.science.bytes == record["cutoutScience"]["stampData"]
        points = len(record["prv_candidates"] or ())
        assert len(alert.history.detections) + len(alert.history.limits) == points
        good = [point for point in record["fp_hists"] or () if point["procstatus"] == "0"]
        assert len(alert.history.forced) == len(good)


def test_container_header(packets):
    reader = fastavro.reader(io.BytesIO(packets[0]))
    assert reader.codec == "null"
    assert reader.writer_schema["name"] == "ztf.alert"
    assert reader.writer_schema["version"] == "4.01"
    assert next(reader)["schemavsn"] == "4.01"


def test_schema_is_as_large_as_the_survey_s_and_documented():
    schema = ztf_schema()
    assert 15_000 < len(json.dumps(schema)) < 27_000
    candidate = next(item for item in schema["fields"] if item["name"] == "candidate")["type"]
    assert len(candidate["fields"]) == 103
    assert len(earlier_names()) == 57
    assert all(item["doc"] for item in candidate["fields"])
    assert fastavro.parse_schema(schema)


def test_packets_have_the_size_of_the_survey_s(packets):
    assert all(57_000 < len(packet) < 90_000 for packet in packets)


def test_candidate_has_every_field(alerts):
    for alert in alerts:
        candidate = alert.packet["candidate"]
        assert len(candidate) == 103
        assert None not in candidate.values()
        assert all(math.isfinite(value) for value in candidate.values() if isinstance(value, float))


def test_alerts_are_in_time_order_with_ids_like_the_survey_s(alerts):
    times = [alert.mjd for alert in alerts]
    assert times == sorted(times)
    ids = [alert.alert_id for alert in alerts]
    assert len(set(ids)) == len(ids)
    assert {len(str(number)) for number in ids} == {19}
    assert max(ids) < 2**63
    for alert in alerts:
        candidate = alert.packet["candidate"]
        assert alert.alert_id // 10**6 == candidate["pid"]
        assert candidate["pid"] // 10**9 == candidate["nid"] == math.floor(alert.mjd) - 57754
        assert alert.object_id.startswith("ZTF")
        assert len(alert.object_id) == 12


def test_all_bands_kinds_and_signs_occur(alerts, by_kind):
    assert {alert.band for alert in alerts} == {"g", "r", "i"}
    assert {alert.is_positive for alert in alerts} == {True, False}
    assert set(by_kind) == {"variable star", "supernova", "asteroid"}
    assert all(len(found) > 20 for found in by_kind.values())


def test_the_first_night_is_the_one_asked_for():
    alerts = [Alert.from_bytes(packet) for packet in SyntheticSky(night_mjd=60310.7).alerts(2)]
    assert {math.floor(alert.mjd) for alert in alerts} == {60310}


def test_writer_takes_lengths_of_many_bytes():
    (record,) = fastavro.reader(io.BytesIO(synthetic_alerts(1)[0]))
    record["cutoutScience"]["stampData"] = bytes(3_000_000)
    (again,) = fastavro.reader(io.BytesIO(PacketWriter().write(record)))
    assert again == record


def field_types(schema):
    """Return name and type of the fields of each record, without texts and defaults."""
    found = {}

    def visit(node):
        if isinstance(node, list):
            return [visit(branch) for branch in node]
        if not isinstance(node, dict):
            return node
        if node["type"] == "array":
            return {"array": visit(node["items"])}
        found[node.get("namespace"), node["name"]] = [
            (item["name"], visit(item["type"])) for item in node["fields"]
        ]
        return node["name"]

    visit(schema)
    return found


def test_schema_has_the_fields_of_real_packets():
    folder = os.environ.get("NUNCIUS_PACKETS")
    if not folder:
        pytest.skip("needs packets of real surveys: set NUNCIUS_PACKETS to their folder")
    names = sorted(Path(folder).glob("ztf/v4.01/*.avro"))
    assert names, "the folder holds no ZTF packets of schema 4.01"
    for name in names:
        with name.open("rb") as file:
            real = json.loads(fastavro.reader(file).metadata["avro.schema"])
        assert field_types(ztf_schema()) == field_types(real)


# History


def test_history_is_sorted_recent_and_without_the_alert(alerts):
    for alert in alerts:
        entries = alert.packet["prv_candidates"] or []
        times = [entry["jd"] for entry in entries]
        assert times == sorted(times)
        mine = alert.packet["candidate"]["jd"]
        assert all(mine - 30 <= jd < mine for jd in times)
        assert alert.alert_id not in {entry["candid"] for entry in entries}


def test_history_repeats_the_alerts_before_it(alerts):
    known = {alert.alert_id: alert.packet["candidate"] for alert in alerts}
    repeated = 0
    for alert in alerts:
        for entry in alert.packet["prv_candidates"] or []:
            earlier = known.get(entry["candid"])
            if earlier is not None:
                repeated += 1
                for name in (
                    "jd",
                    "fid",
                    "magpsf",
                    "sigmapsf",
                    "isdiffpos",
                    "ra",
                    "dec",
                    "rb",
                    "scorr",
                    "distnr",
                ):
                    assert entry[name] == earlier[name]
    assert repeated > 50


def test_history_holds_detections_and_upper_limits(alerts):
    entries = [entry for alert in alerts for entry in alert.packet["prv_candidates"] or []]
    limits = [entry for entry in entries if entry["candid"] is None]
    assert 0.05 < len(limits) / len(entries) < 0.95
    set_in_limits = {
        *(
            "jd",
            "fid",
            "pid",
            "diffmaglim",
            "pdiffimfilename",
            "programpi",
            "programid",
            "nid",
            "rcid",
            "field",
        ),
        *("magzpsci", "magzpsciunc", "magzpscirms", "clrcoeff", "clrcounc", "rbversion"),
    }
    for entry in limits:
        assert {name for name, value in entry.items() if value is not None} == set_in_limits


def test_forced_photometry_is_newest_first_and_sometimes_failed(alerts):
    states = Counter()
    for alert in alerts:
        points = alert.packet["fp_hists"] or []
        times = [point["jd"] for point in points]
        assert times == sorted(times, reverse=True)
        assert all(0 < alert.packet["candidate"]["jd"] - jd <= 18 for jd in times)
        for point in points:
            states[point["procstatus"]] += 1
            failed = point["procstatus"] == "61"
            assert (point["forcediffimflux"] == -99999.0) == failed
            assert (point["forcediffimfluxunc"] == -99999.0) == failed
    assert set(states) == {"0", "61"}
    assert 0.03 < states["61"] / states.total() < 0.2


def test_forced_photometry_agrees_with_the_detections(alerts):
    compared = 0
    for alert in alerts:
        detections = {point.mjd: point for point in alert.history.detections if point.score > 0.5}
        for point in alert.history.forced:
            detection = detections.get(point.mjd)
            if detection is not None and abs(point.flux_njy) > 8 * point.flux_err_njy:
                assert point.flux_njy == pytest.approx(detection.flux_njy, rel=1e-4)
                compared += 1
    assert compared > 100


# What it says of the sky


def test_magnitudes_errors_and_limits_agree(alerts):
    for alert in alerts:
        candidate = alert.packet["candidate"]
        assert candidate["magpsf"] < candidate["diffmaglim"] + 1e-3
        signal_to_noise = 2.5 / math.log(10) / candidate["sigmapsf"]
        assert signal_to_noise > 4.999
        # The noise of the sky alone can't give a smaller error.
        background = 5 * 10 ** (0.4 * (candidate["diffmaglim"] - candidate["magpsf"]))
        assert signal_to_noise < background * 1.001
        assert candidate["scorr"] == pytest.approx(signal_to_noise, rel=1e-5)


def test_bogus_candidates_have_low_scores(alerts):
    low = [alert for alert in alerts if alert.score < 0.4]
    assert 0 < len(low) < 0.15 * len(alerts)
    assert np.median([alert.score for alert in alerts]) > 0.9


def test_variable_star_varies(one_star):
    star, alerts = one_star
    assert {alert.object_id for alert in alerts} == {star.object_id}
    assert {alert.is_positive for alert in alerts} == {True, False}
    for band in "gr":
        totals = []
        for alert in alerts:
            candidate = alert.packet["candidate"]
            if alert.band == band and alert.score > 0.5:
                reference = 10 ** (0.4 * (candidate["magzpsci"] - candidate["magnr"]))
                flux = reference + difference_flux(candidate)
                totals.append(candidate["magzpsci"] - 2.5 * math.log10(flux))
        assert max(totals) - min(totals) > 0.3
        assert max(totals) - min(totals) < star.amplitude_mag + 0.3


def test_variable_star_is_periodic_and_its_reference_is_its_mean(sky):
    for star in (item for item in sky.objects if item.kind == "variable star"):
        for band in "gri":
            mags = [star.magnitude(star.epoch_mjd + step / 500 * star.period_d, band) for step in range(500)]
            mean = -2.5 * math.log10(np.mean([10 ** (-0.4 * mag) for mag in mags]))
            assert star.reference_magnitude(band) == pytest.approx(mean, abs=0.01)
            assert max(mags) - min(mags) > 0.3
            later = star.magnitude(star.epoch_mjd + 7.3 * star.period_d, band)
            assert later == pytest.approx(
                star.magnitude(star.epoch_mjd + 0.3 * star.period_d, band), abs=1e-6
            )


def test_variable_star_keeps_its_place_and_counts_its_detections(one_star):
    star, alerts = one_star
    for alert in alerts:
        assert abs(alert.dec - star.dec) * 3600 < 0.6
        assert alert.packet["candidate"]["distnr"] < 0.6
        assert alert.packet["candidate"]["sgscore1"] > 0.5
    counts = [alert.packet["candidate"]["ndethist"] for alert in alerts]
    assert counts == list(range(counts[0], counts[0] + len(alerts)))
    starts = {alert.packet["candidate"]["jdstarthist"] for alert in alerts}
    assert len(starts) == 1
    assert starts.pop() < alerts[0].mjd + 2400000.5 - 100


def test_supernova_rises_and_fades(sky):
    for supernova in (item for item in sky.objects if item.kind == "supernova"):
        peak = supernova.epoch_mjd
        rise = [supernova.magnitude(peak + day, "r") for day in range(-40, 1, 2)]
        fall = [supernova.magnitude(peak + day, "r") for day in range(0, 60, 2)]
        assert rise == sorted(rise, reverse=True)
        assert fall == sorted(fall)
        assert rise[-1] == pytest.approx(supernova.mag)
        assert rise[-1] < rise[0] - 3
        assert supernova.magnitude(peak - 5000, "g") > 25
        assert math.isfinite(supernova.magnitude(peak + 5000, "g"))
        # It reddens: the blue light fades first.
        assert supernova.magnitude(peak + 30, "g") > supernova.magnitude(peak + 30, "i")
        assert supernova.reference_magnitude("r") is None


def test_supernova_alerts_show_its_light_and_its_host(sky, by_kind):
    known = {item.object_id: item for item in sky.objects}
    for alert in by_kind["supernova"]:
        supernova, candidate = known[alert.object_id], alert.packet["candidate"]
        assert alert.is_positive
        truth = supernova.magnitude(alert.mjd, alert.band)
        assert abs(alert.mag - truth) < 6 * alert.mag_err + 0.01
        host = supernova.host
        separation = math.hypot(host.dx_arcsec, host.dy_arcsec)
        assert candidate["distnr"] == pytest.approx(separation, abs=0.6)
        assert candidate["sgscore1"] < 0.5 or candidate["sgscore2"] < 0.5
        template = alert.cutouts.template.data
        x, y = 31 + round(host.dx_arcsec / 1.01), 31 + round(host.dy_arcsec / 1.01)
        assert template[y - 1 : y + 2, x - 1 : x + 2].mean() > np.nanmedian(template) + 5
    # Before it exploded there were upper limits.
    young = [alert for alert in by_kind["supernova"] if alert.packet["candidate"]["ndethist"] < 4]
    assert all(len(alert.history.limits) > 3 for alert in young)


def test_asteroid_has_a_new_name_each_time_and_no_history(sky, by_kind):
    alerts = by_kind["asteroid"]
    assert len({alert.object_id for alert in alerts}) == len(alerts)
    numbers = {item.object_id for item in sky.objects if item.kind == "asteroid"}
    for alert in alerts:
        candidate = alert.packet["candidate"]
        assert candidate["ssnamenr"] in numbers
        assert 0 <= candidate["ssdistnr"] < 5
        assert 14 < candidate["ssmagnr"] < 23
        assert candidate["ndethist"] == 1
        assert candidate["jdstarthist"] == candidate["jdendhist"] == candidate["jd"]
        assert len(alert.history) == 0
        assert alert.is_positive


def test_asteroid_moves_along_its_track(sky, by_kind):
    known = {item.object_id: item for item in sky.objects}
    tracks = defaultdict(list)
    for alert in by_kind["asteroid"]:
        tracks[alert.packet["candidate"]["ssnamenr"]].append(alert)
    moved = 0
    for number, track in tracks.items():
        for one, other in itertools.pairwise(track):
            days = other.mjd - one.mjd
            d_ra = (other.ra - one.ra + 180) % 360 - 180
            assert d_ra == pytest.approx(known[number].ra_rate * days, abs=1e-3)
            assert other.dec - one.dec == pytest.approx(known[number].dec_rate * days, abs=1e-3)
            moved += abs(d_ra) > 0.001
    assert moved > 10


def test_only_asteroids_have_a_solar_system_match(by_kind):
    for alert in by_kind["variable star"] + by_kind["supernova"]:
        candidate = alert.packet["candidate"]
        assert (candidate["ssdistnr"], candidate["ssmagnr"], candidate["ssnamenr"]) == (
            -999.0,
            -999.0,
            "null",
        )


# Images


def test_fits_files_are_what_astropy_reads():
    image = np.arange(15, dtype=np.float32).reshape(3, 5)
    image[1, 2] = np.nan
    unpacked = gzip.decompress(fits_gz(image))
    assert len(unpacked) % 2880 == 0
    with fits.open(io.BytesIO(unpacked)) as hdus:
        hdus.verify("exception")
        assert len(hdus) == 1
        np.testing.assert_array_equal(hdus[0].data, image)
        assert hdus[0].data.dtype == np.dtype(">f4")
        assert dict(hdus[0].header) == {
            "SIMPLE": True,
            "BITPIX": -32,
            "NAXIS": 2,
            "NAXIS1": 5,
            "NAXIS2": 3,
            "BUNIT": "DN",
        }


def test_fits_files_equal_those_that_astropy_writes():
    image = np.linspace(-3, 9, 63 * 63, dtype=np.float32).reshape(63, 63)
    hdu = fits.PrimaryHDU(image)
    del hdu.header["EXTEND"]
    hdu.header["BUNIT"] = "DN"
    for card in hdu.header.cards:
        card.comment = ""
    written = io.BytesIO()
    hdu.writeto(written)
    assert gzip.decompress(fits_gz(image)) == written.getvalue()


def test_cutouts_add_up(alerts):
    for alert in alerts[:60]:
        science, template, difference = (cutout.data for cutout in alert.cutouts)
        sign = 1 if alert.is_positive else -1
        np.testing.assert_array_equal(science, template + sign * difference)
        assert ("scimref" if alert.is_positive else "refmsci") in alert.cutouts.difference.file_name
        assert str(alert.alert_id) in alert.cutouts.science.file_name


def test_difference_image_holds_the_flux_of_the_alert(alerts):
    ratios = []
    for alert in alerts:
        candidate = alert.packet["candidate"]
        if candidate["scorr"] > 40:
            centre = alert.cutouts.difference.data[31 - 8 : 31 + 9, 31 - 8 : 31 + 9]
            ratios.append(centre.sum() / abs(difference_flux(candidate)))
    assert len(ratios) > 10
    # A small part of the light falls outside of the box.
    assert np.median(ratios) == pytest.approx(0.96, abs=0.04)


def test_noise_of_the_images_fits_the_limit(alerts):
    for alert in alerts[:60]:
        border = alert.cutouts.difference.data[:20]
        candidate = alert.packet["candidate"]
        limit_dn = 10 ** (0.4 * (candidate["magzpsci"] - candidate["diffmaglim"])) / 5
        noise = np.nanmedian(np.abs(border)) / 0.6745
        assert 0.1 < noise / limit_dn < 0.5


def test_bright_sources_peak_in_the_middle(alerts):
    bright = [alert for alert in alerts if alert.packet["candidate"]["scorr"] > 20 and alert.score > 0.5]
    assert len(bright) > 20
    for alert in bright:
        row, column = np.unravel_index(np.nanargmax(alert.cutouts.difference.data), (63, 63))
        assert abs(row - 31) <= 1
        assert abs(column - 31) <= 1


def test_reference_image_is_the_same_in_every_alert_of_a_band(one_star):
    _, alerts = one_star
    noise = [
        alert.cutouts.template.data[:6, :6] - np.nanmedian(alert.cutouts.template.data)
        for alert in alerts
        if alert.band == "r"
    ]
    assert np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1] > 0.8


def test_pixels_off_the_camera_are_nan(alerts):
    cut = 0
    for alert in alerts:
        candidate = alert.packet["candidate"]
        for cutout in alert.cutouts:
            assert np.isnan(cutout.data).any() == (candidate["mindtoedge"] < 30.5)
        cut += candidate["mindtoedge"] < 30.5
        assert not np.isnan(alert.cutouts.science.data[20:43, 20:43]).any()
    assert cut < 0.2 * len(alerts)
