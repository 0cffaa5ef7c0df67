"""The same alert by several brokers is one document, and notices are kept beside alerts."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from nuncius import Alert, Notice, open_archive
from nuncius.alerts import Origin
from nuncius.alerts.packets import open_packet
from nuncius.alerts.surveys import ANTARES
from nuncius.alerts.surveys.ztf import Ztf

MEASURED = {"jd": 2460000.5, "ra": 10.0, "dec": 5.0, "magpsf": 18.0, "sigmapsf": 0.1, "fid": 1}


def alert(broker, **added):
    raw = json.dumps({"objectId": "ZTF1", "candid": 5, "candidate": MEASURED, **added}).encode()
    return Alert(raw, open_packet(raw), origin=Origin("kafka", "t", 0, 1, broker=broker), survey=Ztf())


@pytest.fixture
def archive(tmp_path):
    with open_archive(tmp_path / "night.db") as opened:
        yield opened


def the_one(archive):
    (found,) = archive.find("ZTF_alerts")
    return found


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_what_each_broker_adds_is_kept_with_the_alert(archive, order):
    alerts = [alert("fink", rf_snia=0.9), alert("babamul", classes={"AGN": 0.2}), alert("ztf")]
    archive.ingest([alerts[number] for number in order])
    assert the_one(archive)["annotations"] == {"fink": {"rf_snia": 0.9}, "babamul": {"classes": {"AGN": 0.2}}}


def test_a_copy_by_another_broker_is_no_revision_and_yet_kept(archive):
    report = archive.ingest([alert("ztf"), alert("fink", rf_snia=0.9)])
    assert (report.archived, report.revised, report.duplicates) == (1, 0, 1)
    assert "rf_snia" not in the_one(archive)  # the survey's own packet is the one that is shown
    (kept,) = archive.revisions("ZTF_alerts", the_one(archive)["_id"])
    assert kept["rf_snia"] == 0.9


def test_what_came_by_a_broker_gives_way_to_the_surveys_own_packet(archive):
    archive.ingest([alert("fink", rf_snia=0.9), alert("ztf")])
    assert "rf_snia" not in the_one(archive)
    assert the_one(archive)["annotations"] == {"fink": {"rf_snia": 0.9}}


def test_a_broker_that_thinks_again_makes_a_revision(archive):
    report = archive.ingest([alert("fink", rf_snia=0.9), alert("fink", rf_snia=0.1)])
    assert report.revised == 1
    assert the_one(archive)["annotations"] == {"fink": {"rf_snia": 0.1}}


def test_redelivery_by_each_broker_changes_nothing(archive):
    alerts = [alert("ztf"), alert("fink", rf_snia=0.9), alert("babamul", classes={})]
    archive.ingest(alerts)
    before = the_one(archive), archive.info()
    report = archive.ingest([*alerts, *reversed(alerts)])
    assert (report.archived, report.duplicates) == (0, 6)
    assert the_one(archive) == before[0]
    assert archive.info()["catalogs"] == before[1]["catalogs"]


def locus(candid, *, tags=("extragalactic",)):
    document = {
        "id": "ANT2026a", "ra": 10.0, "dec": 5.0, "tags": list(tags), "catalogs": [],
        "properties": {"newest_alert_id": f"ztf_candidate:{candid}"},
    }  # fmt: skip
    raw = json.dumps(document).encode()
    return Alert(raw, open_packet(raw), origin=Origin("kafka", "t", 0, 1, broker="antares"), survey=ANTARES)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("at_once", [True, False])
def test_what_antares_says_of_an_alert_stands_with_the_alert(archive, order, at_once):
    items = [locus(5), alert("fink", rf_snia=0.9), alert("ztf")]
    batches = [order] if at_once else [[number] for number in order]
    for batch in batches:
        archive.ingest([items[number] for number in batch])
    said = the_one(archive)["annotations"]
    assert said["fink"] == {"rf_snia": 0.9}
    assert said["antares"]["tags"] == ["extragalactic"]
    assert archive.count("ANTARES_alerts") == 1


def test_a_locus_of_another_alert_says_nothing_of_this_one(archive):
    archive.ingest([locus(6), alert("ztf"), locus(50), locus("5x")])
    assert "annotations" not in the_one(archive)


def test_notices_have_a_catalog_of_their_own(archive):
    notice = Notice(
        "S230518h/INITIAL", "igwn.gwalert", time=datetime(2023, 5, 18, tzinfo=UTC), ra=1.0, dec=2.0,
        text="S230518h INITIAL", skymap=b"FITS", packet={"far": 1e-9}, raw=b"{}",
    )  # fmt: skip
    report = archive.ingest([notice, alert("ztf"), notice])
    assert (report.archived, report.duplicates) == (2, 1)
    (kept,) = archive.cone_search("notices", (1.0, 2.0), "1 arcsec")
    assert (kept["id"], kept["kind"], kept["skymap"], kept["packet"]) == (
        "S230518h/INITIAL",
        "igwn.gwalert",
        b"FITS",
        {"far": 1e-9},
    )
    assert archive.count("notices", {"kind": "igwn.gwalert", "packet.far": {"$lt": 1e-8}}) == 1


def test_an_archive_is_a_sink(archive):
    sink = archive.sink(keep="packet")
    sink.write([alert("ztf")])
    sink.write([alert("ztf")])
    assert (sink.report.archived, sink.report.duplicates) == (1, 1)
    assert len(list(archive.packets("ZTF_alerts"))) == 1
