"""ANTARES as an archive, against the sandbox: every question, in both colours, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import nuncius
from nuncius import aio
from nuncius.archives.antares import AntaresArchive, AsyncAntaresArchive
from nuncius.errors import DeadlineError, NotFoundError, PartialResultError, ServerError, UnreachableError
from nuncius.sandbox.antares import SandboxAntares
from nuncius.sky import separation_arcsec

CATALOG = "ANTARES_loci"


class Colour:
    """One archive of either colour, asked with the same words."""

    def __init__(self, colour, url):
        self.loop = asyncio.new_event_loop() if colour == "async" else None
        self.archive = (aio if self.loop else nuncius).open_archive(url)

    def __getattr__(self, name):
        method = getattr(self.archive, name)

        def ask(*args, **options):
            answer = method(*args, **options)
            if not self.loop:
                return list(answer) if name == "search" else answer
            return self.loop.run_until_complete(listed(answer) if name == "search" else answer)

        return ask

    def end(self):
        ended = self.archive.close()
        if self.loop:
            self.loop.run_until_complete(ended)
            self.loop.close()


async def listed(pages):
    return [document async for document in pages]


@pytest.fixture(scope="module")
def box():
    with SandboxAntares() as antares:
        yield antares


@pytest.fixture(params=["sync", "async"])
def archive(request, box, monkeypatch):
    monkeypatch.setattr("nuncius._core.retry._FIRST_WAIT_S", 0.005)
    opened = Colour(request.param, f"antares+{box.rest_url}")
    yield opened
    opened.end()
    box.rest.clear_faults()


@pytest.fixture
def loci(box):
    return {locus.locus_id: locus for locus in box.loci}


def test_the_faces_are_twins():
    def names(face):
        return {name for name, _ in inspect.getmembers(face, callable) if not name.startswith("_")}

    assert names(AntaresArchive) == names(AsyncAntaresArchive)
    assert AsyncAntaresArchive.locus.__doc__ == AntaresArchive.locus.__doc__


def test_every_locus_is_found(archive, loci):
    found = archive.find(CATALOG, sort="_id")
    assert [document["_id"] for document in found] == sorted(loci)
    for document in found:
        locus = loci[document["_id"]]
        assert document["properties"] == locus.properties
        assert document["tags"] == locus.tags
    assert archive.count(CATALOG) == len(loci)


def test_filters_agree_with_the_language(archive, loci):
    faint = {"properties.newest_alert_magnitude": {"$gt": 18.5}, "properties.num_mag_values": {"$gte": 2}}
    found = {document["_id"] for document in archive.find(CATALOG, faint)}
    assert found == {
        name
        for name, locus in loci.items()
        if locus.properties["newest_alert_magnitude"] > 18.5 and locus.properties["num_mag_values"] >= 2
    }
    assert 0 < len(found) < len(loci)
    tag = next(iter(loci.values())).tags[0]
    both = {"tags": tag, "properties.ztf_object_id": {"$regex": "a"}}
    assert archive.count(CATALOG, both) == sum(
        tag in locus.tags and "a" in locus.properties["ztf_object_id"] for locus in loci.values()
    )


def test_a_search_is_newest_first_and_ends_at_its_limit(archive, box, loci):
    before = len(box.requests)
    found = archive.search(limit=12, page_size=5)
    times = [document["properties"]["newest_alert_observation_time"] for document in found]
    best = sorted(
        (locus.properties["newest_alert_observation_time"] for locus in loci.values()), reverse=True
    )
    assert times == best[:12]
    assert len(box.requests) - before == 3
    assert len(archive.search(page_size=7)) == len(loci)


def test_cones(archive, loci):
    some = list(loci.values())[:6]
    found = archive.cone_search(CATALOG, [(one.ra, one.dec) for one in some], "1 deg").by_position()
    for one, group in zip(some, found.values(), strict=True):
        far = separation_arcsec(
            one.ra, one.dec, [x.ra for x in loci.values()], [x.dec for x in loci.values()]
        )
        expected = np.sort(far[far <= 3600])
        np.testing.assert_allclose([document["separation_arcsec"] for document in group], expected, atol=1e-6)
        assert group[0]["_id"] == one.locus_id


def test_loci_by_all_their_names(archive, loci):
    ids = list(loci)[:30]  # the first one has no internal properties
    assert [document["_id"] for document in archive.loci(ids)] == ids
    locus = archive.locus(ids[1])
    assert locus["properties"] == loci[ids[1]].properties
    assert archive.locus(ids[0])["properties"] == loci[ids[0]].user_properties
    assert archive.locus_by_ztf_id(locus["properties"]["ztf_object_id"])["_id"] == ids[1]
    lsst = {
        name: one.properties["survey"]["lsst"]["dia_object_id"]
        for name, one in loci.items()
        if one.properties.get("survey", {}).get("lsst", {}).get("dia_object_id")
    }
    name, numbers = next(iter(lsst.items()))
    number = numbers[0] if isinstance(numbers, list) else numbers
    assert archive.locus_by_lsst_id(number)["_id"] == name
    with pytest.raises(NotFoundError):
        archive.locus_by_ztf_id("ZTF99nobody")
    with pytest.raises(PartialResultError, match="nobody"):
        archive.loci([ids[0], "nobody"])


def test_what_belongs_to_a_locus(archive, loci):
    locus = max(loci.values(), key=lambda one: len(one.alerts))
    alerts = archive.alerts(locus.locus_id)
    assert [alert["id"] for alert in alerts] == [alert.alert_id for alert in locus.alerts]
    table = archive.light_curve(locus.locus_id)
    assert len(table) == len(locus.alerts)
    assert table["ant_mjd"].tolist() == [alert.mjd for alert in locus.alerts]
    assert archive.catalog_matches(locus.locus_id).docs == locus.catalog_objects
    pictured = next(alert for one in loci.values() for alert in one.alerts if alert.thumbnails)
    cutouts = archive.thumbnails(pictured.alert_id)
    assert {cutout.kind: cutout.bytes for cutout in cutouts} == pictured.thumbnails
    assert all(cutout.file_name.endswith(".fits.gz") for cutout in cutouts)
    assert cutouts.science.data.ndim == 2
    for question in (archive.alerts, archive.light_curve, archive.catalog_matches, archive.locus):
        with pytest.raises(NotFoundError, match="nobody"):
            question("nobody")


def test_catalogues_tags_and_notices(archive, box, loci):
    assert archive.tags() == box.topics
    assert archive.statistics()["tags"] == archive.info()["statistics"]["tags"]
    known = next(one for one in loci.values() if one.catalog_objects)
    entry = known.catalog_objects[0]
    found = archive.catalog_search((entry["ra"], entry["dec"]))
    assert entry["properties"] in [one["properties"] for one in found]
    assert len(archive.catalog_samples(1)) >= 1
    first = box.rest.notices[0]
    same = archive.grav_wave_notice(first["gracedb_id"], first["notice_datetime"])
    assert same["id"] == first["id"]
    names = list(dict.fromkeys(notice["gracedb_id"] for notice in box.rest.notices))
    assert [notice["gracedb_id"] for notice in archive.grav_wave_notices(names)] == names


def test_the_loci_in_a_sky_map(archive, box, loci):
    name = next(notice["gracedb_id"] for notice in box.rest.notices if notice["skymap_base64"])
    notice = archive.grav_wave_notice(name)
    found = archive.region_search(CATALOG, notice["skymap"], credible=0.5, projection=["ra", "dec"])
    from nuncius.sky.regions import to_region

    region = to_region(notice["skymap"], credible=0.5)
    inside = {one.locus_id for one in loci.values() if region.contains(one.ra, one.dec)}
    assert {document["_id"] for document in found} == inside


def test_faults_on_the_way(archive, box, loci):
    box.rest.fail(status=503, times=2)
    assert archive.count(CATALOG) == len(loci)
    box.rest.fail(status=429, retry_after=0)
    box.rest.cut_body()
    assert len(archive.search(page_size=10)) == len(loci)
    box.rest.answer(body=b"<html>maintenance</html>", content_type="text/html")
    with pytest.raises(ServerError, match="no server of ANTARES"):
        archive.tags()
    box.rest.fail(status=500)
    with pytest.raises(ServerError, match="HTTP 500"):
        archive.find(CATALOG)
    box.rest.delay(1.0)
    with pytest.raises(DeadlineError):
        archive.find(CATALOG, timeout_s=0.2)


def test_threads_share_an_archive(box, loci):
    with nuncius.open_archive(f"antares+{box.rest_url}") as archive, ThreadPoolExecutor(4) as pool:
        ids = list(loci)[:12]
        found = list(pool.map(archive.locus, ids))
    assert [document["_id"] for document in found] == ids


def test_nobody_there():
    with nuncius.open_archive("antares+http://127.0.0.1:9") as archive, pytest.raises(UnreachableError):
        archive.tags(timeout_s=5)
