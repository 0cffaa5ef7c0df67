"""Packets of real surveys: what nuncius says of them against what fastavro reads in them."""

from __future__ import annotations

import gzip
import io
import json
import math
import pickle
import warnings

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from astropy.time import Time

from builders import fits_file
from nuncius import Alert, read_packets

FILES = {
    "ztf 3.2": "ztf/v3.2/*.avro",
    "ztf 3.3": "ztf/v3.3/*.avro",
    "ztf 4.01": "ztf/v4.01/*.avro",
    "winter": "winter/*.avro",
    "turbo": "turbo/*.avro",
    "pgir": "pgir/*.avro",
    "lsst": "lsst/samples/*/*.avro",
}


def independent(raw):
    """Read a packet with fastavro alone, without the defaults that it refuses in TURBO's schema."""
    start = raw.index(b"{", raw.index(b"avro.schema"))
    schema, length = json.JSONDecoder().raw_decode(raw[start : start + 200_000].decode("latin-1"))
    if schema.get("namespace") != "turbo":
        [record] = fastavro.reader(io.BytesIO(raw))
        return record

    def clean(part):
        if isinstance(part, dict):
            return {key: clean(value) for key, value in part.items() if key != "default"}
        return [clean(value) for value in part] if isinstance(part, list) else part

    text = raw[start : start + length]
    # The block: after the schema, perhaps the codec, the end of the map and the sync marker, which also ends the file.
    body = raw[raw.index(raw[-16:], start + len(text)) + 16 : -16]
    stream = io.BytesIO(body)
    for _ in range(2):
        while stream.read(1)[0] & 0x80:
            pass
    return fastavro.schemaless_reader(stream, clean(schema), None)


def image(plain):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VerifyWarning)  # the headers of some surveys bend the standard
        with fits.open(io.BytesIO(plain)) as hdus:
            return hdus[0].data.copy()


@pytest.fixture(params=FILES.values(), ids=FILES)
def pairs(request, packets_dir):
    paths = sorted(packets_dir.glob(request.param))
    if not paths:
        pytest.skip(f"the folder NUNCIUS_PACKETS holds no {request.param}")
    return [(Alert.from_bytes(path.read_bytes()), independent(path.read_bytes()), path) for path in paths]


def test_values_are_fastavros(pairs):
    for alert, record, _ in pairs:
        assert repr(alert.packet) == repr(record)


def test_ids(pairs):
    for alert, record, path in pairs:
        if alert.survey == "lsst":
            expected = record.get("diaSourceId", record.get("alertId"))
            source = record["diaSource"]
            object_id = source["diaObjectId"] or (
                f"sso{source['ssObjectId']}" if source["ssObjectId"] else None
            )
            assert alert.object_id == (None if object_id is None else str(object_id))
        else:
            expected = record["candid"]
            assert alert.object_id == record.get("objectId", record.get("objectid"))
        assert alert.alert_id == expected
        assert isinstance(alert.alert_id, int)
        if alert.survey in {"ztf", "winter", "pgir"}:
            assert path.stem.endswith(str(expected))
            assert record["candidate"]["candid"] == expected


def test_keys_are_unique(pairs):
    assert len({alert.key for alert, _, path in pairs if "samples" not in str(path)}) in {0, len(pairs)}


def test_positions_and_times(pairs):
    for alert, record, _ in pairs:
        point = record.get("candidate") or record["diaSource"]
        assert (alert.ra, alert.dec) == (point["ra"], point["dec"])
        if alert.survey != "lsst":
            assert alert.mjd == pytest.approx(Time(point["jd"], format="jd", scale="utc").mjd, abs=1e-9)
            assert alert.time.utc.mjd == pytest.approx(alert.mjd, abs=1e-9)
        elif 15000 < point["midpointMjdTai"] < 90000:
            assert alert.mjd == pytest.approx(
                Time(point["midpointMjdTai"], format="mjd", scale="tai").utc.mjd, abs=1e-9
            )
            assert (alert.time.mjd - alert.mjd) * 86400 == pytest.approx(37, abs=1e-3)
        else:
            assert alert.mjd is None


def test_brightness(pairs):
    for alert, record, _ in pairs:
        if alert.survey == "lsst":
            source = record["diaSource"]
            assert alert.flux_njy == source["psfFlux"]
            assert alert.mag == pytest.approx(31.4 - 2.5 * math.log10(abs(source["psfFlux"])))
            assert alert.band == source["band"]
            continue
        point = record["candidate"]
        positive = point["isdiffpos"] in {"t", "1", 1}
        assert alert.mag == point["magpsf"]
        assert alert.is_positive is positive
        if alert.survey == "ztf":
            micro_jansky = (1 if positive else -1) * 10 ** (-0.4 * (point["magpsf"] - 23.9))
            assert alert.flux_njy == pytest.approx(1000 * micro_jansky)
            assert alert.band == " gri"[point["fid"]]
            assert alert.score == point.get("drb", point["rb"])
            assert alert.mag_err == point["sigmapsf"]


def test_light_curves(pairs):
    for alert, record, _ in pairs:
        own = record.get("candidate") or record["diaSource"]
        if alert.survey == "lsst":
            earlier = record["prvDiaSources"] or []
            assert len(alert.history.detections) == len({point["diaSourceId"] for point in earlier})
            continue
        earlier = [point for point in record["prv_candidates"] or [] if point["jd"] != own["jd"]]
        found = [point for point in earlier if point["magpsf"] is not None]
        limits = {(point["jd"], point.get("fid", "J")) for point in earlier if point["magpsf"] is None}
        assert len(alert.history.detections) == len(found)
        assert len(alert.history.limits) == len(limits)
        assert len(alert.light_curve.detections) == len(found) + 1
        times = [point.mjd for point in alert.light_curve]
        assert times == sorted(times)
        good = [point for point in record.get("fp_hists") or [] if point["procstatus"] == "0"
                and point["forcediffimflux"] != -99999.0]  # fmt: skip
        assert len(alert.history.forced) == len(good)
        by_time = {(point.mjd, point.band): point for point in alert.history.forced}
        for point in good:
            ours = by_time[point["jd"] - 2400000.5, " gri"[point["fid"]]]
            assert ours.flux_njy == pytest.approx(
                1000 * point["forcediffimflux"] * 10 ** (0.4 * (23.9 - point["magzpsci"]))
            )


def test_cutouts(pairs):
    sizes = {"ztf": 63, "winter": 81, "turbo": 63, "pgir": 61}
    for alert, record, _ in pairs:
        for cutout in alert.cutouts:
            value = record.get(f"cutout{cutout.kind.title()}", record.get(f"cutout_{cutout.kind}"))
            stamp = value["stampData"] if isinstance(value, dict) else value
            plain = gzip.decompress(stamp) if stamp.startswith(b"\x1f\x8b") else stamp
            np.testing.assert_array_equal(cutout.data, image(plain))
            assert cutout.data.shape == (sizes[alert.survey],) * 2
            assert cutout.fits == plain
        if alert.survey in sizes:
            assert len(alert.cutouts) == 3
    if pairs[0][0].survey == "winter":
        assert {alert.cutouts.difference.data.dtype.str[1:] for alert, _, _ in pairs} == {"f8"}


def test_repr_and_pickle(pairs):
    for alert, _, _ in pairs:
        assert alert.survey in repr(alert)
        assert repr(pickle.loads(pickle.dumps(alert)).packet) == repr(alert.packet)


def test_pgir_lists_itself_in_some_packets(packets_dir):
    paths = sorted(packets_dir.glob("pgir/*.avro"))
    if not paths:
        pytest.skip("the folder NUNCIUS_PACKETS holds no PGIR packets")
    with_self = 0
    for path in paths:
        alert = Alert.from_bytes(path.read_bytes())
        listed = [point["jd"] for point in alert.packet["prv_candidates"]]
        with_self += alert.packet["candidate"]["jd"] in listed
        assert alert.alert_id not in {point.alert_id for point in alert.history}
        assert len(alert.light_curve) == len(alert.history) + 1
    assert 0 < with_self < len(paths)


def test_a_night_of_all_surveys_in_turn(packets_dir):
    paths = [path for path in sorted(packets_dir.rglob("*.avro")) if "samples" not in str(path)]
    if not paths:
        pytest.skip("the folder NUNCIUS_PACKETS holds no packets")
    raws = {path: path.read_bytes() for path in paths}
    first = {path: repr(Alert.from_bytes(raw)) for path, raw in raws.items()}
    backwards = {path: repr(Alert.from_bytes(raws[path])) for path in reversed(paths)}
    assert first == backwards
    read = {alert.origin.topic: repr(alert) for alert in read_packets(packets_dir)}
    assert read.items() >= {str(path): text for path, text in first.items()}.items()


def test_real_metadata_orders_share_one_schema(packets_dir):
    paths = sorted(packets_dir.glob("ztf/v4.01/*.avro"))
    if not paths:
        pytest.skip("the folder NUNCIUS_PACKETS holds no packets of ZTF 4.01")
    orders = {
        raw.index(b"avro.codec") < raw.index(b"avro.schema") for raw in (path.read_bytes() for path in paths)
    }
    schemas = {id(Alert.from_bytes(path.read_bytes())._opened._layout.header.schema) for path in paths}
    assert len(schemas) == 1
    assert orders


def test_the_builder_of_images_is_read_by_astropy():
    with fits.open(io.BytesIO(gzip.decompress(fits_file(np.eye(3, dtype=">f4"))))) as hdus:
        np.testing.assert_array_equal(hdus[0].data, np.eye(3))
