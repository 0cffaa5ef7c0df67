"""What goes into an archive: redelivery, revisions, how much is kept, histories, annotations."""

from __future__ import annotations

import gc
import gzip
import json
import math
import os
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import bson
import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

import archive_support as support
import builders
from archive_support import CANDID
from nuncius import aio, open_archive, read_packets
from nuncius._core.jsontext import from_lines, from_text, to_lines, to_text
from nuncius.alerts import Alert
from nuncius.alerts.packets.schemas import as_source
from nuncius.archives.documents import Contents, mjd_of_entry
from nuncius.archives.embedded import ingest, preparing
from nuncius.errors import ConfigurationError, PacketError, StorageError

EACH = support.one_of_each()


@pytest.fixture
def archive(tmp_path):
    with open_archive(tmp_path / "night.db") as opened:
        yield opened


def content(archive):
    """Return everything that an archive holds."""
    connection = archive._database.connection
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: connection.execute(f'SELECT * FROM "{name}" ORDER BY 1, 2').fetchall() for name in tables
            if name != "catalogs"}  # fmt: skip


# All surveys ---------------------------------------------------------------------------------------------------------


def test_alerts_of_all_surveys_are_kept(archive):
    report = archive.ingest(EACH.values())
    assert (report.received, report.archived, report.revised, report.duplicates) == (7, 7, 0, 0)
    assert report.unreadable == []
    assert archive.catalogs() == sorted(name + end for name in EACH for end in ("", "_aux"))
    for catalog, alert in EACH.items():
        (document,) = archive.find(catalog)
        survey = alert._known_survey
        expected = {name: value for name, value in alert.packet.items() if name not in survey.history_lists}
        for name, value in expected.items():
            assert support.same(document[name], value), (catalog, name)
        assert set(document) - set(expected) <= {"_id", "coordinates"}
        assert document["coordinates"]["radec_geojson"]["coordinates"] == [alert.ra - 180, alert.dec]


@pytest.mark.parametrize("catalog", [name for name in EACH if name != "generic_alerts"])
def test_an_object_has_the_light_curve_of_its_alert(archive, catalog):
    alert = EACH[catalog]
    archive.ingest([alert])
    found = archive.object(alert.object_id)
    assert (found.object_id, found.catalog, len(found.alerts)) == (alert.object_id, catalog, 1)
    assert found.light_curve == alert.light_curve


def test_packets_of_real_surveys_are_kept(archive, packets_dir):
    schemas = (
        as_source(packets_dir / "lsst" / "schema") if (packets_dir / "lsst" / "schema").is_dir() else None
    )
    alerts = [alert for alert in read_packets(packets_dir, schema=schemas) if alert.packet]
    assert {alert.survey for alert in alerts} >= {"ztf", "pgir", "winter", "turbo"}
    report = archive.ingest(alerts, keep="packet")
    assert report.archived == report.received - report.duplicates == len(alerts) - report.duplicates
    before = content(archive)
    again = archive.ingest(reversed(alerts), keep="packet")
    assert (again.archived, again.revised, again.duplicates) == (0, 0, len(alerts))
    assert content(archive) == before
    kept = {raw for name in archive.catalogs() if not name.endswith("_aux") for raw in archive.packets(name)}
    kept |= {raw for (raw,) in _revised_packets(archive)}
    assert kept == {alert.raw for alert in alerts}
    for alert in alerts:
        if alert.object_id is not None and alert.survey in {"ztf", "pgir", "winter"}:
            curve = archive.object(alert.object_id).light_curve
            assert set(alert.light_curve) <= set(curve), alert


def _revised_packets(archive):
    for name in archive._database.catalogs():
        yield from archive._database.connection.execute(f'SELECT packet FROM "{name}:revisions"')


def test_bson_packets_are_kept(archive):
    values = {"candid": bson.Int64(CANDID), "ra": 1.0, "dec": 2.0, "properties": {"n": bson.Int64(2**40)}}
    archive.ingest([Alert.from_bytes(builders.zlib_bson(values))])
    (document,) = archive.find("generic_alerts", {"candid": CANDID})
    assert document["properties"] == {"n": 2**40}


@pytest.mark.parametrize(
    "packet",
    [
        {"candid": 2**63, "ra": 1.0, "dec": 2.0},
        {"candid": 5, "big": 2**70},
        {"candid": 5, "nested": [{"a": None}, [[]], {}]},
        {"candid": 5, "ra": "ten", "dec": [1]},
        {"candid": 5, "": {"": ""}},
        {},
    ],
    ids=repr,
)
def test_no_packet_that_can_be_read_stops_the_ingest(archive, packet):
    odd = support.plain(**packet)
    assert odd.packet == packet
    report = archive.ingest([support.ztf(0), odd, support.ztf(1)])
    assert report.archived + len(report.unreadable) == 3
    assert archive.count("ZTF_alerts") == 2
    assert archive.count("generic_alerts") + len(report.unreadable) == 1


def test_halves_of_surrogate_pairs_do_not_stop_the_ingest(archive):
    try:
        odd = support.plain(candid="\ud800", objectId="a\udfff", text="\ud800")
    except PacketError:
        return  # refusing such a packet is right too
    report = archive.ingest([support.ztf(0), odd, support.ztf(1)])
    assert report.archived + len(report.unreadable) == 3
    assert archive.count("ZTF_alerts") == 2


@pytest.mark.parametrize("field", ["_id", "coordinates", "annotations"])
def test_fields_of_a_packet_never_stand_for_ours(archive, field):
    archive.ingest(
        [support.annotated(support.plain(candid=5, ra=1.0, dec=2.0, **{field: "mine"}), antares={"a": 1})]
    )
    (document,) = archive.find("generic_alerts")
    assert archive.find("generic_alerts", {"_id": document["_id"]}).docs == [document]
    assert document["coordinates"]["radec_geojson"]["coordinates"] == [-179.0, 2.0]
    assert document["annotations"] == {"antares": {"a": 1}}


def test_schemas_whose_names_differ_in_case_do_not_stop_the_ingest(archive):
    for name in ("mine.alert", "Mine.alert", "zTf.alert", "lsst.alert"):
        schema = builders.record_type(name, {"candid": "long"})
        archive.ingest(
            [
                Alert.from_bytes(builders.container(schema, [builders.datum(schema, {"candid": 1})])),
                support.ztf(),
            ]
        )
    assert archive.count("ZTF_alerts") == 1
    assert sum(archive.count(name) for name in archive.catalogs() if not name.endswith("_aux")) == 5


def test_surveys_of_third_parties_have_histories(archive, monkeypatch):
    from nuncius.alerts import surveys
    from nuncius.alerts.surveys.ztf import Ztf

    class Mine(Ztf):
        name = "mine"
        catalog_prefix = "MINE"
        schema_name = r"mine\.alert"
        cutout_fields = ("one", "two", "three")

    class Entry:
        @staticmethod
        def load():
            return Mine()

    monkeypatch.setattr(surveys, "entry_points", lambda **_: [Entry])
    surveys.survey_of_schema.cache_clear()
    entry = builders.record_type("mine.prv", {"jd": "double", "fid": "int", "magpsf": "float"})
    candidate = {"jd": "double", "ra": "double", "dec": "double", "magpsf": "float", "fid": "int"}
    schema = builders.record_type(
        "mine.alert",
        {"objectId": "string", "candid": "long", "candidate": builders.record_type("mine.candidate", candidate),
         "prv_candidates": {"type": "array", "items": entry}, "one": "bytes"},
    )  # fmt: skip
    values = {"objectId": "M1", "candid": 1, "one": support.image(),
              "candidate": {"jd": builders.JD, "ra": 1.0, "dec": 2.0, "magpsf": 18.0, "fid": 1},
              "prv_candidates": [{"jd": builders.JD - 1, "fid": 1, "magpsf": 19.0}]}  # fmt: skip
    try:
        alert = Alert.from_bytes(builders.container(schema, [builders.datum(schema, values)]))
        assert alert.survey == "mine"
        archive.ingest([alert])
        assert archive.find_one("MINE_alerts_aux", {"_id": "M1"})["prv_candidates"][0]["magpsf"] == 19.0
        assert archive.find_one("MINE_alerts")["one"] == values["one"]
        assert archive.object("M1").light_curve == alert.light_curve
    finally:
        surveys.survey_of_schema.cache_clear()


# The same again ------------------------------------------------------------------------------------------------------


def test_redelivery_changes_nothing(archive):
    alerts = [*EACH.values(), support.ztf(1, **support.cutouts())]
    archive.ingest(alerts)
    before = content(archive)
    report = archive.ingest(alerts + alerts)
    assert (report.received, report.archived, report.revised, report.duplicates) == (16, 0, 0, 16)
    assert content(archive) == before


def test_the_same_alert_twice_in_one_batch_is_kept_once(archive):
    report = archive.ingest([support.ztf(), support.ztf(), support.ztf()])
    assert (report.received, report.archived, report.duplicates) == (3, 1, 2)
    assert archive.count("ZTF_alerts") == 1


def test_the_same_content_with_another_sync_marker_is_the_same_alert(archive):
    packets = [builders.ztf(), builders.ztf(layout={"sync": b"x" * 16, "schema_first": False})]
    assert packets[0] != packets[1]
    report = archive.ingest(map(Alert.from_bytes, packets))
    assert (report.archived, report.duplicates) == (1, 1)


def test_other_content_is_a_revision_and_both_are_kept(archive):
    old, new = (
        support.ztf(candidate={"rb": 0.25, "ra": 10.0}),
        support.ztf(candidate={"rb": 0.75, "ra": 20.0}),
    )
    archive.ingest([old])
    report = archive.ingest([new])
    assert (report.received, report.archived, report.revised, report.duplicates) == (1, 1, 1, 0)
    (shown,) = archive.find("ZTF_alerts")
    assert shown["candidate"]["rb"] == 0.75
    assert shown["coordinates"]["radec_geojson"]["coordinates"][0] == 20.0 - 180
    (earlier,) = archive.revisions("ZTF_alerts", shown["_id"])
    assert earlier["candidate"]["rb"] == 0.25
    assert earlier["_id"] == shown["_id"]
    assert len(archive.cone_search("ZTF_alerts", (20, -20), "1 arcsec")) == 1
    assert len(archive.cone_search("ZTF_alerts", (10, -20), "1 arcsec")) == 0
    assert archive.info()["catalogs"]["ZTF_alerts"]["revisions"] == 1


def test_an_earlier_version_that_comes_again_changes_nothing(archive):
    versions = [support.ztf(candidate={"rb": value}) for value in (0.125, 0.25, 0.5)]
    archive.ingest(versions)
    before = content(archive)
    report = archive.ingest([versions[0], versions[2], versions[1]])
    assert (report.archived, report.revised, report.duplicates) == (0, 0, 3)
    assert content(archive) == before
    (shown,) = archive.find("ZTF_alerts")
    assert shown["candidate"]["rb"] == 0.5
    assert [d["candidate"]["rb"] for d in archive.revisions("ZTF_alerts", shown["_id"])] == [0.125, 0.25]


def test_the_same_bytes_under_another_schema_are_a_revision(archive):
    first = builders.record_type("mine.alert", {"candid": "long", "flux": "double"})
    second = builders.record_type("mine.alert", {"candid": "long", "flux_njy": "double"})
    data = builders.datum(first, {"candid": 1, "flux": 5.0})
    report = archive.ingest(
        [Alert.from_bytes(builders.container(schema, [data])) for schema in (first, second)]
    )
    assert (report.archived, report.revised) == (2, 1)
    (shown,) = archive.find("mine_alerts")
    assert "flux_njy" in shown
    assert "flux" in archive.revisions("mine_alerts", shown["_id"]).docs[0]


def test_the_images_of_a_revision_are_its_own(archive):
    old = support.ztf(candidate={"rb": 0.25}, **support.cutouts())
    fewer = {**support.cutouts(first=100), "cutoutTemplate": None}
    new = support.ztf(candidate={"rb": 0.75}, **fewer)
    archive.ingest([old, new])
    (shown,) = archive.find("ZTF_alerts")
    assert shown["cutoutScience"] == fewer["cutoutScience"]
    assert "cutoutTemplate" not in shown, "the image of the earlier version"


def test_the_earlier_version_keeps_its_images(archive):
    first = support.cutouts()
    archive.ingest([support.ztf(candidate={"rb": 0.25}, **first)])
    archive.ingest([support.ztf(candidate={"rb": 0.75}, **support.cutouts(first=100))])
    (shown,) = archive.find("ZTF_alerts")
    (earlier,) = archive.revisions("ZTF_alerts", shown["_id"])
    assert earlier["cutoutScience"] == first["cutoutScience"]


def test_revisions_of_an_unknown_alert_are_none(archive):
    archive.ingest([support.ztf()])
    assert archive.revisions("ZTF_alerts", "0" * 24).docs == []


# How much is kept ----------------------------------------------------------------------------------------------------


def test_keep_document_discards_the_packet_alone(archive):
    archive.ingest([EACH["ZTF_alerts"]])
    assert list(archive.packets("ZTF_alerts")) == []
    assert archive.find_one("ZTF_alerts")["cutoutScience"] == EACH["ZTF_alerts"].packet["cutoutScience"]


def test_keep_packet_discards_nothing(archive):
    archive.ingest(EACH.values(), keep="packet")
    for catalog, alert in EACH.items():
        (raw,) = archive.packets(catalog)
        assert raw == alert.raw
    assert archive.find_one("ZTF_alerts")["cutoutScience"] == EACH["ZTF_alerts"].packet["cutoutScience"]
    assert archive.find_one("ZTF_alerts_aux")["fp_hists"] != []


def test_packets_of_some_alerts(archive):
    alerts = [support.ztf(number) for number in range(4)]
    archive.ingest(alerts[:2], keep="packet")
    archive.ingest(alerts[2:])
    assert list(archive.packets("ZTF_alerts")) == [alerts[0].raw, alerts[1].raw]
    assert list(archive.packets("ZTF_alerts", {"candid": CANDID + 1})) == [alerts[1].raw]


def test_keep_measurements_keeps_ids_positions_times_and_photometry(archive):
    alert = EACH["ZTF_alerts"]
    archive.ingest([alert], keep="measurements")
    (document,) = archive.find("ZTF_alerts")
    assert document["candid"] == CANDID
    assert document["objectId"] == alert.object_id
    assert {"jd", "fid", "ra", "dec", "magpsf", "sigmapsf"} <= set(document["candidate"])
    assert not {"field", "magap", "cutoutScience"} & ({*document["candidate"]} | {*document})
    assert list(archive.packets("ZTF_alerts")) == []
    assert archive.object(alert.object_id).light_curve == alert.light_curve
    assert len(archive.cone_search("ZTF_alerts", (150.25, -20.5), "1 arcsec")) == 1


@pytest.mark.parametrize("catalog", [name for name in EACH if name != "generic_alerts"])
def test_measurements_of_all_surveys_give_the_whole_light_curve(archive, catalog):
    archive.ingest([EACH[catalog]], keep="measurements")
    assert archive.object(EACH[catalog].object_id).light_curve == EACH[catalog].light_curve


def test_measurements_take_less_room(tmp_path):
    alerts = [support.ztf(number, **support.cutouts()) for number in range(40)]
    sizes = []
    for keep in ("measurements", "document", "packet"):
        with open_archive(tmp_path / f"{keep}.db") as archive:
            archive.ingest(alerts, keep=keep)
        sizes.append((tmp_path / f"{keep}.db").stat().st_size)
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("catalog", [name for name in EACH if name != "generic_alerts"])
def test_without_cutouts_all_else_is_kept(archive, catalog):
    alert = EACH[catalog]
    archive.ingest([alert], cutouts=False)
    (document,) = archive.find(catalog)
    assert not set(alert._known_survey.cutout_fields) & set(document)
    assert document["candid" if "candid" in document else "diaSourceId"] == alert.alert_id


def test_an_unknown_word_for_keep_is_refused_before_anything_is_read(archive):
    source = support.Source([[support.ztf()]])
    with pytest.raises(ConfigurationError, match=r"'packets'.*'document', 'packet', 'measurements'"):
        archive.ingest(source, keep="packets")
    assert source.asked == 0


# Annotations ---------------------------------------------------------------------------------------------------------


def test_the_annotations_of_two_brokers_are_merged(archive):
    alert = support.ztf()
    archive.ingest([support.annotated(alert, antares={"tags": ["sn"]})])
    report = archive.ingest([support.annotated(alert, fink={"rf_snia": 0.9})])
    assert (report.archived, report.duplicates) == (0, 1)
    (document,) = archive.find("ZTF_alerts", {"annotations.fink.rf_snia": {"$gt": 0.5}})
    assert document["annotations"] == {"antares": {"tags": ["sn"]}, "fink": {"rf_snia": 0.9}}
    archive.ingest([alert, support.annotated(alert, fink={"rf_snia": 0.1})])
    assert archive.find_one("ZTF_alerts")["annotations"] == {
        "antares": {"tags": ["sn"]},
        "fink": {"rf_snia": 0.1},
    }


def test_annotations_stay_with_a_revision(archive):
    archive.ingest([support.annotated(support.ztf(), antares={"a": 1})])
    archive.ingest([support.annotated(support.ztf(candidate={"rb": 0.75}), fink={"b": 2})])
    assert archive.find_one("ZTF_alerts")["annotations"] == {"antares": {"a": 1}, "fink": {"b": 2}}


def test_annotations_keep_values_that_json_has_not(archive):
    said = {
        "when": datetime(2026, 11, 21, tzinfo=UTC),
        "score": math.inf,
        "blob": b"\0\1",
        "list": [math.nan],
    }
    archive.ingest([support.annotated(support.ztf(), antares=said)])
    assert support.same(archive.find_one("ZTF_alerts")["annotations"]["antares"], said)


# Histories -----------------------------------------------------------------------------------------------------------


def test_points_that_many_alerts_repeat_are_kept_once(archive):
    earlier = [builders.ztf_earlier(jd=builders.JD - day) for day in range(5, 0, -1)]
    detection = builders.ztf_earlier(jd=builders.JD - 2.5, candid=CANDID + 50, magpsf=19.0, sigmapsf=0.1,
                                     ra=150.0, dec=-20.0, isdiffpos="t")  # fmt: skip
    same = {"objectId": "ZTF20aa"}
    archive.ingest([support.ztf(1, **same, prv_candidates=earlier[:3])])
    archive.ingest([support.ztf(2, **same, prv_candidates=[*earlier[1:], detection])])
    archive.ingest([support.ztf(50, **same, candidate={"jd": builders.JD - 2.5})])
    aux = archive.find_one("ZTF_alerts_aux", {"_id": "ZTF20aa"})
    assert [entry["jd"] for entry in aux["prv_candidates"]] == sorted(
        [*(entry["jd"] for entry in earlier), builders.JD - 2.5]
    )
    assert aux["fp_hists"] == []
    curve = archive.object("ZTF20aa").light_curve
    assert len(curve.limits) == 5
    assert [point.alert_id for point in curve.detections] == [CANDID + 50, CANDID + 1, CANDID + 2]
    assert [point.mjd for point in curve] == sorted(point.mjd for point in curve)
    assert archive.info()["catalogs"]["ZTF_alerts"]["history_points"] == 6


def test_an_entry_of_a_history_that_is_known_stays_as_it_was(archive):
    first, later = builders.ztf_earlier(diffmaglim=20.0), builders.ztf_earlier(diffmaglim=21.0)
    archive.ingest([support.ztf(1, objectId="A", prv_candidates=[first])])
    archive.ingest([support.ztf(2, objectId="A", prv_candidates=[later])])
    (entry,) = archive.find_one("ZTF_alerts_aux")["prv_candidates"]
    assert entry["diffmaglim"] == 20.0


def test_pgirs_alert_in_its_own_history_is_one_detection(archive):
    itself = {"jd": builders.JD, "candid": 114449485, "magpsf": 12.25, "sigmapsf": 0.125, "ra": 314.25, "dec": 40.125,
              "isdiffpos": "1"}  # fmt: skip
    alert = Alert.from_bytes(
        builders.pgir(earlier=[itself, {"jd": builders.JD - 1, "candid": 3, "magpsf": 12.5}])
    )
    archive.ingest([alert])
    curve = archive.object(alert.object_id).light_curve
    assert [point.alert_id for point in curve] == [3, 114449485]


def test_histories_of_an_alert_without_object_stay_in_its_document(archive):
    earlier = [builders.lsst_source("9.0", diaSourceId=5), builders.lsst_source("9.0", diaSourceId=6)]
    alert = support.lsst(source={"diaObjectId": None}, prvDiaSources=earlier)
    archive.ingest([alert])
    (document,) = archive.find("LSST_alerts")
    assert support.same(document["prvDiaSources"], alert.packet["prvDiaSources"])
    assert archive.count("LSST_alerts_aux") == 0
    assert archive.info()["catalogs"]["LSST_alerts"]["objects"] == 0


def test_solar_system_objects_are_objects(archive):
    archive.ingest([support.lsst(source={"diaObjectId": None, "ssObjectId": 77})])
    assert archive.object("sso77").catalog == "LSST_alerts"


# The report, and where alerts come from ------------------------------------------------------------------------------


def damaged():
    """Make a packet that can be opened, but not decoded."""
    schema = builders.ztf_schema()
    data = builders.datum(schema, builders.ztf_record())
    broken = builders.record_type("ztf.alert", {"objectId": "string", "candid": "long", "more": {"type": "array",
                                                "items": "string"}})  # fmt: skip
    return Alert.from_bytes(builders.container(broken, [data[:25]]))


def test_damaged_alerts_are_reported_and_the_others_kept(archive, caplog):
    bad = damaged()
    report = archive.ingest([support.ztf(0), bad, support.ztf(1)])
    assert (report.received, report.archived) == (3, 2)
    ((alert, error),) = report.unreadable
    assert alert is bad
    assert str(error)
    assert "not archived" in caplog.text
    assert archive.count("ZTF_alerts") == 2


def test_alerts_are_acknowledged_when_they_are_on_the_disk(archive):
    checked = []

    class Checking(support.Source):
        def acknowledge(self, alerts):
            super().acknowledge(alerts)
            with open_archive(archive.path, read_only=True) as other:
                checked.append((len(self.acknowledged), other.count("ZTF_alerts")))

    source = Checking([[support.ztf(2 * n), support.ztf(2 * n + 1)] for n in range(4)])
    archive.ingest(source)
    assert checked == [(2, 2), (4, 4), (6, 6), (8, 8)]
    assert source.acknowledged == [support.ztf(n) for n in range(8)]


def test_a_batch_is_acknowledged_though_no_other_comes(archive):
    """A stream may be silent for hours, and whoever else reads for its group must not get the alerts again."""
    acknowledged = threading.Event()

    class Silent(support.Source):
        def acknowledge(self, alerts):
            acknowledged.set()

        def batches(self, n=500, timeout_s=1.0, *, finish=True):
            yield [support.ztf()]
            assert acknowledged.wait(10), "it waits for the next batch"

    assert archive.ingest(Silent([])).archived == 1


def test_the_rows_of_a_batch_are_made_while_the_one_before_is_written(archive, monkeypatch):
    preparing_second, enter = threading.Event(), ingest._enter_alerts

    def waiting(*arguments):
        if not preparing_second.is_set():
            assert preparing_second.wait(10), "the second batch waits for the first"
        enter(*arguments)

    def batches():
        yield from [support.ztf(number) for number in range(500)]
        preparing_second.set()
        yield support.ztf(500)

    monkeypatch.setattr(ingest, "_enter_alerts", waiting)
    assert archive.ingest(batches()).archived == 501


def test_what_gives_batches_but_takes_nothing_back_is_refused(archive):
    class Half:
        def batches(self, n=500, timeout_s=1.0, *, finish=True):
            yield [support.ztf()]

    with pytest.raises(ConfigurationError, match=r"Half gives batches, .* acknowledge and release"):
        archive.ingest(Half())


def test_an_async_stream_needs_an_async_archive(archive, tmp_path):
    stream = aio.open_stream(f"replay://{tmp_path}")
    with pytest.raises(ConfigurationError, match=r"AsyncStream is asynchronous: .*nuncius\.aio"):
        archive.ingest(stream)


def test_the_name_of_an_object_may_hold_any_character(archive):
    names = ["abc", "abc\0def", "abc\ndef", "Ω"]
    for _ in range(2):
        for number, name in enumerate(names):
            archive.ingest(
                [support.ztf(number, objectId=name, prv_candidates=[builders.ztf_earlier(candid=number + 1)])]
            )
    found = {document["_id"]: [entry["candid"] for entry in document["prv_candidates"]]
             for document in archive.find("ZTF_alerts_aux")}  # fmt: skip
    assert found == {name: [number + 1] for number, name in enumerate(names)}


def test_a_thread_that_outlives_the_main_one_keeps_its_alerts(tmp_path):
    code = """
import sys, threading, time
import archive_support as s
from nuncius import open_archive
def keep():
    with open_archive(sys.argv[1]) as archive:
        time.sleep(0.5)
        archive.ingest(alert for number in range(30) for alert in s.numbered_batch(number))
threading.Thread(target=keep).start()
"""
    path = tmp_path / "night.db"
    folder = str(Path(support.__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert support.check_whole(path, range(30)) == 30


def test_a_closed_archive_is_whole_without_its_log(archive, tmp_path):
    archive.ingest([support.ztf(number) for number in range(50)])
    archive.close()
    copy = tmp_path / "copy.db"
    copy.write_bytes(archive.path.read_bytes())
    with open_archive(copy) as other:
        assert other.count("ZTF_alerts") == 50


def test_batches_may_be_empty(archive):
    report = archive.ingest(support.Source([[], [support.ztf()], []]))
    assert (report.received, report.archived) == (1, 1)
    assert archive.ingest([]).received == 0
    assert archive.ingest(iter([])).alerts_per_s == 0.0


def test_many_alerts_from_an_iterator(archive):
    report = archive.ingest(support.plain(candid=n, ra=n / 10, dec=0.0) for n in range(1203))
    assert (report.received, report.archived) == (1203, 1203)
    assert report.seconds > 0
    assert report.alerts_per_s == pytest.approx(1203 / report.seconds)
    assert archive.count("generic_alerts") == 1203


def test_an_error_of_the_source_comes_out_and_what_was_written_stays(archive):
    def failing():
        yield from (support.plain(candid=n) for n in range(500))
        raise OSError("the network is gone")

    with pytest.raises(OSError, match="the network is gone"):
        archive.ingest(failing())
    assert archive.count("generic_alerts") == 500


def test_documents_have_the_order_in_which_they_came(archive):
    order = [3, 1, 2, 0]
    archive.ingest(support.ztf(number) for number in order)
    assert support.ids(archive.find("ZTF_alerts")) == [CANDID + number for number in order]


def test_positions_and_times_that_are_missing(archive):
    archive.ingest([support.ztf(candidate={"ra": 400.0, "dec": 95.0, "jd": -999.0})])
    (document,) = archive.find("ZTF_alerts")
    assert "coordinates" not in document
    assert document["candidate"]["ra"] == 400.0
    assert archive.info()["catalogs"]["ZTF_alerts"]["first_mjd"] is None


def test_alerts_of_json_lines(archive, tmp_path):
    lines = tmp_path / "alerts.jsonl"
    lines.write_text("".join(json.dumps({"candid": n, "ra": 1.0, "dec": 1.0}) + "\n" for n in range(3)))
    assert archive.ingest(read_packets(lines)).archived == 3


# Images in the packets that are kept ---------------------------------------------------------------------------------


def rows_of_images(archive, catalog="ZTF_alerts"):
    return archive._database.connection.execute(f'SELECT count(*) FROM "{catalog}:images"').fetchone()[0]


@pytest.mark.parametrize("catalog", [name for name in EACH if name != "generic_alerts"])
def test_images_are_read_from_the_packet_where_it_is_kept(archive, tmp_path, catalog):
    archive.ingest([EACH[catalog]], keep="packet")
    assert rows_of_images(archive, catalog) == 0
    with open_archive(tmp_path / "other.db") as other:
        other.ingest([EACH[catalog]])
        assert rows_of_images(other, catalog) == 3
        assert support.same(archive.find_one(catalog), other.find_one(catalog))
        (field, *_) = EACH[catalog]._known_survey.cutout_fields
        for condition in ({field: {"$exists": True}}, {field: None}):
            assert archive.count(catalog, condition) == other.count(catalog, condition)
        assert set(archive.find_one(catalog, projection=[field])) == {"_id", field}


def test_images_that_the_packet_holds_in_another_form_are_kept_beside_it(archive):
    packed = gzip.compress(support.ztf(**support.cutouts()).raw)
    alert = Alert.from_bytes(packed)
    archive.ingest([alert], keep="packet")
    assert rows_of_images(archive) == 3
    assert archive.find_one("ZTF_alerts")["cutoutScience"] == alert.packet["cutoutScience"]
    assert list(archive.packets("ZTF_alerts")) == [packed]


def test_images_that_begin_alike_are_told_apart(archive):
    head = b"\x1f\x8b" + bytes(98)
    images = {f"cutout{kind}": {"fileName": kind, "stampData": head + kind.encode()}
              for kind in ("Science", "Template", "Difference")}  # fmt: skip
    alert = support.ztf(**images)
    archive.ingest([alert], keep="packet")
    assert rows_of_images(archive) == 0
    document = archive.find_one("ZTF_alerts")
    assert {name: document[name] for name in images} == images


def test_an_image_that_is_hard_to_find_in_its_packet_is_kept_beside_it(archive):
    science = {"fileName": "z", "stampData": bytes(1000) + b"\1"}
    template = {"fileName": "z", "stampData": bytes(5000)}
    alert = support.ztf(
        cutoutScience=science,
        cutoutTemplate=template,
        cutoutDifference=template | {"stampData": bytes(500) + b"\2"},
    )
    archive.ingest([alert], keep="packet")
    document = archive.find_one("ZTF_alerts")
    assert document["cutoutScience"] == science
    assert document["cutoutTemplate"] == template
    assert document["cutoutDifference"]["stampData"] == bytes(500) + b"\2"


def test_revisions_of_alerts_whose_packets_are_kept_have_their_own_images(archive):
    first, second = support.cutouts(), support.cutouts(first=100)
    alerts = [support.ztf(candidate={"rb": 0.25}, **first), support.ztf(candidate={"rb": 0.75}, **second)]
    for alert in alerts:
        archive.ingest([alert], keep="packet")
    (shown,) = archive.find("ZTF_alerts")
    assert shown["cutoutScience"] == second["cutoutScience"]
    (earlier,) = archive.revisions("ZTF_alerts", shown["_id"])
    assert earlier["cutoutScience"] == first["cutoutScience"]
    # A version that is kept without its packet does not find its images in that of the one before.
    third = support.cutouts(first=200)
    archive.ingest([support.ztf(candidate={"rb": 0.5}, **third)])
    assert archive.find_one("ZTF_alerts")["cutoutScience"] == third["cutoutScience"]


def with_history(number):
    earlier = [builders.ztf_earlier(jd=builders.JD - day) for day in (5, 3)]
    return support.ztf(number, prv_candidates=earlier, **support.cutouts())


def as_layout_2(path):
    """Make a file as the release before wrote it."""
    alerts = [with_history(0), with_history(1)]
    with open_archive(path) as archive:
        archive.ingest(alerts)
        connection = archive._database.connection
        connection.execute("ALTER TABLE ZTF_alerts DROP COLUMN in_packet")
        connection.execute('DROP TABLE "ZTF_alerts:points"')
        connection.execute(
            'CREATE TABLE "ZTF_alerts:points" (object_id TEXT NOT NULL, list TEXT NOT NULL, point TEXT NOT NULL, '
            "mjd REAL, document TEXT NOT NULL, extras TEXT, PRIMARY KEY (object_id, list, point)) WITHOUT ROWID"
        )
        for alert in alerts:
            contents = Contents(alert, "document")
            for list_name, keys in contents.histories.items():
                for key in keys:
                    entry = contents.entry(list_name, key)
                    row = (alert.object_id, list_name, key, mjd_of_entry(entry), *to_text(entry))
                    connection.execute('INSERT INTO "ZTF_alerts:points" VALUES (?, ?, ?, ?, ?, ?)', row)
        connection.execute("PRAGMA user_version = 2")


def test_histories_of_layout_2_go_on(tmp_path):
    as_layout_2(tmp_path / "old.db")
    expected = [builders.JD - 5, builders.JD - 3]
    for read_only in (True, False):
        with open_archive(tmp_path / "old.db", read_only=read_only) as archive:
            found = archive.find("ZTF_alerts_aux").docs
            assert [[entry["jd"] for entry in document["prv_candidates"]] for document in found] == [
                expected
            ] * 2
            assert archive.info()["catalogs"]["ZTF_alerts"]["history_points"] == 4
    with open_archive(tmp_path / "old.db") as archive:
        newer = [builders.ztf_earlier(jd=builders.JD - day) for day in (5, 4, 3)]
        archive.ingest([support.ztf(9, objectId="ZTF20aaaaa000", prv_candidates=newer)])
        assert archive.info()["catalogs"]["ZTF_alerts"]["history_points"] == 5
        found = archive.find_one("ZTF_alerts_aux", {"_id": "ZTF20aaaaa000"})
        assert [entry["jd"] for entry in found["prv_candidates"]] == [builders.JD - day for day in (5, 4, 3)]
        archive.prune(Time(builders.JD - 3.5, format="jd"))
        found = archive.find("ZTF_alerts_aux").docs
        assert [[entry["jd"] for entry in document["prv_candidates"]] for document in found] == [
            [builders.JD - 3]
        ] * 2


def test_archives_of_layout_2_are_read_and_brought_up_to_date(tmp_path):
    as_layout_2(tmp_path / "old.db")
    with open_archive(tmp_path / "old.db", read_only=True) as archive:
        assert archive.info()["layout"] == 2
        assert archive.find_one("ZTF_alerts")["cutoutScience"] == support.cutouts()["cutoutScience"]
    with open_archive(tmp_path / "old.db") as archive:
        assert archive.info()["layout"] == 3
        assert archive.ingest([with_history(0)], keep="packet").duplicates == 1
        archive.ingest([support.ztf(2, **support.cutouts())], keep="packet")
        assert rows_of_images(archive) == 6
        found = archive.find("ZTF_alerts").docs
        assert [document["cutoutScience"] for document in found] == [support.cutouts()["cutoutScience"]] * 3


# Several transactions ------------------------------------------------------------------------------------------------


@pytest.fixture
def small_transactions(monkeypatch):
    """Write each three of `many` alerts in a transaction."""
    monkeypatch.setattr(ingest, "_TRANSACTION_BYTES", 2 * max(len(alert.raw) for alert in many()) + 1)


def many(count=20):
    """Make alerts of a few objects, whose histories overlap."""
    return [
        support.ztf(
            number,
            objectId=f"ZTF20{number % 4}",
            prv_candidates=[builders.ztf_earlier(jd=builders.JD - number // 4 - day) for day in range(3)],
            **support.cutouts(),
        )
        for number in range(count)
    ]


def without_times(found):
    """Leave out when rows were written."""
    return {name: [[value for value in row if not isinstance(value, float) or value < 1e9] for row in rows]
            for name, rows in found.items()}  # fmt: skip


def entry_by_entry(found):
    """Put what is in rows of several entries into a row for each."""
    for name in [name for name in found if name.endswith(":points")]:
        found[name] = sorted(
            (object_id, list_name, key, text)
            for object_id, list_name, keys, *_, texts, _ in found[name]
            for key, text in zip(keys.split("\n"), texts.split("\n"), strict=True)
        )
    return found


@pytest.mark.parametrize("keep", ["document", "packet", "measurements"])
def test_several_transactions_write_what_one_does(archive, tmp_path, small_transactions, monkeypatch, keep):
    alerts = [*many(), *many(4), support.ztf(1, objectId="ZTF201", candidate={"rb": 0.125}), support.lsst()]
    several = archive.ingest(alerts, keep=keep)
    monkeypatch.undo()
    with open_archive(tmp_path / "one.db") as other:
        one = other.ingest(alerts, keep=keep)
        assert entry_by_entry(without_times(content(other))) == entry_by_entry(
            without_times(content(archive))
        )
    assert (several.received, several.archived, several.revised, several.duplicates) == (26, 22, 1, 4)
    assert (one.received, one.archived, one.revised, one.duplicates) == (26, 22, 1, 4)
    before = content(archive)
    assert archive.ingest(alerts, keep=keep).duplicates == 26
    assert content(archive) == before


async def test_several_transactions_of_an_async_archive(tmp_path, small_transactions):
    async with aio.open_archive(tmp_path / "night.db") as archive:
        report = await archive.ingest(many())
        assert (report.received, report.archived) == (20, 20)
        assert await archive.count("ZTF_alerts") == 20


def test_an_error_in_a_transaction_leaves_those_before_it(archive, small_transactions, monkeypatch):
    enter, calls = ingest._enter_alerts, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise sqlite3.OperationalError("no more")
        enter(*arguments)

    monkeypatch.setattr(ingest, "_enter_alerts", failing)
    source = support.Source([many(), [support.ztf(99)]])
    with pytest.raises(StorageError, match="no more"):
        archive.ingest(source)
    assert source.acknowledged == many()[:6]
    assert archive.count("ZTF_alerts") == 6
    monkeypatch.setattr(ingest, "_enter_alerts", enter)
    report = archive.ingest(many())
    assert (report.archived, report.duplicates) == (14, 6)
    assert archive.count("ZTF_alerts_aux") == 4


def test_nothing_is_written_any_more_after_an_error_while_rows_are_made(
    archive, small_transactions, monkeypatch
):
    writing, rows = threading.Event(), []
    enter, row = ingest._enter_alerts, preparing.AlertRow.__init__

    def slow(*arguments):
        writing.set()
        time.sleep(0.2)
        enter(*arguments)

    def stopped(self, *arguments, **options):
        rows.append(arguments)
        if len(rows) == 4:
            assert writing.wait(10)
            raise KeyboardInterrupt
        row(self, *arguments, **options)

    monkeypatch.setattr(ingest, "_enter_alerts", slow)
    monkeypatch.setattr(preparing.AlertRow, "__init__", stopped)
    with pytest.raises(KeyboardInterrupt):
        archive.ingest(many())
    assert archive.count("ZTF_alerts") == 3
    time.sleep(0.3)
    assert archive.count("ZTF_alerts") == 3


def test_damaged_alerts_in_any_transaction_are_reported(archive, small_transactions):
    alerts = many(12)
    alerts[2:2], alerts[9:9] = [damaged()], [damaged()]
    report = archive.ingest(alerts)
    assert (report.received, report.archived, len(report.unreadable)) == (14, 12, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_writes_with_a_thread_of_its_own(archive, small_transactions):
    archive.ingest(many())
    child = os.fork()
    if child == 0:
        report = archive.ingest([support.ztf(100 + number) for number in range(9)])
        os._exit(0 if report.archived == 9 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert archive.count("ZTF_alerts") == 29


def test_the_thread_that_writes_ends_with_the_archive(tmp_path, small_transactions):
    with open_archive(tmp_path / "night.db") as archive:
        archive.ingest(many())
        assert any(thread.name.startswith("nuncius-archive") for thread in threading.enumerate())
    with pytest.raises(ConfigurationError, match="is closed"):
        archive.ingest(many())
    begin = time.monotonic()
    while any(thread.name.startswith("nuncius-archive") for thread in threading.enumerate()):
        assert time.monotonic() - begin < 5
        gc.collect()
        time.sleep(0.01)


def test_entries_that_are_known_are_not_made_again(archive, monkeypatch):
    archive.ingest(many())
    made = []
    row_of = preparing.row_of
    monkeypatch.setattr(preparing, "row_of", lambda *parts: made.extend(parts[3]) or row_of(*parts))
    archive.ingest(many(24))
    assert [values["jd"] for values in made] == [builders.JD - 7] * 4


# Texts ---------------------------------------------------------------------------------------------------------------

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=8), st.just("null"),
    st.lists(st.floats(), max_size=2), st.sampled_from(["\ud800", "\u2028", "a\nb", math.inf, bson.Int64(2**40)]),
)  # fmt: skip


@given(st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=5), min_size=1, max_size=6))
def test_many_documents_are_written_as_each_alone(documents):
    texts, extras = zip(*map(to_text, documents), strict=True)
    lines, more = to_lines(documents)
    assert lines.split("\n") == [*texts]
    assert (more or "\n" * (len(texts) - 1)).split("\n") == [extra or "" for extra in extras]
    assert repr(from_lines(lines, more)) == repr(
        [from_text(*both) for both in zip(texts, extras, strict=True)]
    )
