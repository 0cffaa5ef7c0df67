"""Images and searches: what antares-client asks of ANTARES' REST interface."""

from __future__ import annotations

import gzip
import io
import time

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits

from http_support import Loopback, json_reply, reply
from nuncius import errors
from nuncius.compat.antares_client import exceptions, search
from nuncius.compat.antares_client.models import GravWaveNotice, GravWaveNoticeTypes, Locus
from nuncius.compat.antares_client.thumbnails import get_thumbnails

pytest_plugins = ["antares_fixtures"]

KINDS = ("template", "science", "difference")


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr("nuncius._core.retry._FIRST_WAIT_S", 0.02)


@pytest.fixture
def locus(antares):
    return next(locus for locus in antares.loci[1:] if locus.newest.thumbnails)


# Images ---------------------------------------------------------------------------------------------------------------


def test_images_in_both_shapes(antares, locus):
    alert_id = locus.newest.alert_id
    old, new = get_thumbnails(alert_id), search.get_thumbnails(alert_id)
    assert list(old) == list(new) == list(KINDS)
    for kind in KINDS:
        assert set(new[kind]) == {"alert_id", "id", "type", "blob", "file_name", "url"}
        assert (new[kind]["alert_id"], new[kind]["type"]) == (alert_id, kind)
        assert new[kind]["blob"] == old[kind]["file_bytes"] == locus.newest.thumbnails[kind]
        assert new[kind]["file_name"] == old[kind]["file_name"]
        assert new[kind]["url"].startswith(f"http://127.0.0.1:{antares.rest.port}/")
        assert fits.getdata(io.BytesIO(gzip.decompress(old[kind]["file_bytes"]))).shape == (63, 63)


def test_images_come_side_by_side(antares, locus):
    antares.rest.delay(0.5, times=3, path="/thumbnails")
    begin = time.monotonic()
    assert len(get_thumbnails(locus.newest.alert_id)) == 3
    assert 0.5 <= time.monotonic() - begin < 1.2


def test_an_alert_that_is_not_there(antares):
    with pytest.raises(exceptions.AntaresNotFoundError, match="12345"):
        get_thumbnails(12345)
    assert search.get_thumbnails("12345") == {}


@pytest.mark.parametrize("alert_id", [None, True, "", ".", "..", 1.5])
def test_ids_that_are_none(antares, alert_id):
    with pytest.raises(exceptions.AntaresConfigurationError, match="alert_id"):
        get_thumbnails(alert_id)


def test_a_proxys_page_is_an_error_that_says_so(antares, locus):
    antares.rest.answer(body=b"<html>Bad gateway</html>", content_type="text/html", status=502, times=9)
    with pytest.raises(exceptions.AntaresServerError, match="502") as caught:
        get_thumbnails(locus.newest.alert_id)
    assert caught.value.status == 502
    antares.rest.clear_faults()
    antares.rest.answer(body=b"<html>Log in</html>", content_type="text/html")
    with pytest.raises(exceptions.AntaresServerError, match="no JSON"):
        search.get_by_id("ANT2026aaaaa")


def test_what_passes_is_tried_again(antares, locus):
    antares.rest.fail(status=503, times=2)
    antares.rest.cut_body(times=1, path="/thumbnails")
    assert len(get_thumbnails(locus.newest.alert_id)) == 3


def test_where_it_is_and_how_long_it_may_take(antares, locus, monkeypatch):
    monkeypatch.setenv("ANTARES_API_BASE_URL", "http://127.0.0.1:9/v2/")
    with pytest.raises(exceptions.AntaresNetworkingException):
        get_thumbnails(locus.newest.alert_id, timeout_s=0.05)
    assert len(get_thumbnails(locus.newest.alert_id, base=antares.rest_url)) == 3
    antares.rest.delay(2)
    begin = time.monotonic()
    with pytest.raises(exceptions.AntaresDeadlineError):
        get_thumbnails(locus.newest.alert_id, base=antares.rest_url, timeout_s=0.3)
    assert time.monotonic() - begin < 1.5
    monkeypatch.setenv("API_TIMEOUT", "soon")
    with pytest.raises(exceptions.AntaresConfigurationError, match="API_TIMEOUT"):
        get_thumbnails(1, base=antares.rest_url)


def images(names, listed=None):
    """Serve the images of an alert under the names that the headers give them."""

    def answer(asked):
        if asked.path.endswith("/thumbnails"):
            found = [
                {
                    "id": str(index),
                    "filemime": "application/gzip",
                    "src": f"/files/{index}",
                    "thumbnail_type": kind,
                }
                for index, kind in enumerate(KINDS)
            ]
            return json_reply({"data": found if listed is None else listed, "meta": None, "links": None})
        index = int(asked.path.rpartition("/")[2])
        headers = {} if names[index] is None else {"content-disposition": names[index]}
        return reply(200, f"image {index}".encode(), headers)

    return Loopback(answer)


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        (['attachment; filename="a.fits.gz"', "attachment; filename=b.fits", "inline; filename*=UTF-8''c%20d.fits"],
         ["a.fits.gz", "b.fits", "c d.fits"]),
        (['attachment; filename="../../evil"', 'attachment; filename="/etc/passwd"', r'attachment; filename="..\\..\\w"'],
         ["evil", "passwd", "w"]),
        (["attachment; filename*=UTF-8''..%2F..%2Fx", 'attachment; filename=".."', 'attachment; filename="a/"'],
         ["x", "1", "2"]),
        ([None, "attachment", 'attachment; filename="."'], ["0", "1", "2"]),
        (['attachment; filename="same.fits"'] * 3,
         ["template_same.fits", "science_same.fits", "difference_same.fits"]),
        (['attachment; filename=".hidden"', f'attachment; filename="{"x" * 400}.fits"', 'attachment; filename="a\tb"'],
         ["hidden", "x" * 195 + ".fits", "a b"]),
    ],
    ids=["plain", "climbing", "escaped", "none", "same", "odd"],
)  # fmt: skip
def test_files_stay_in_their_folder(tmp_path, headers, wanted):
    folder = tmp_path / "a" / "b"
    with images(headers) as server:
        found = get_thumbnails(7, folder, base=server.url)
    assert [found[kind]["file_name"] for kind in KINDS] == wanted
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in files} == {folder}
    assert {path.name: path.read_bytes() for path in files} == {
        name: f"image {index}".encode() for index, name in enumerate(wanted)
    }


def test_a_folder_that_can_not_be(tmp_path):
    (tmp_path / "file").write_text("")
    with images([None] * 3) as server, pytest.raises(exceptions.AntaresStorageError, match="can't be saved"):
        get_thumbnails(7, tmp_path / "file", base=server.url)


@pytest.mark.parametrize("listed", [[], {}, "none", [{"thumbnail_type": "science"}], [{"src": 1}], [7]])
def test_listings_of_images_that_are_none(listed):
    with images([None] * 3, listed) as server, pytest.raises(exceptions.AntaresException):
        get_thumbnails(7, base=server.url)


@pytest.mark.parametrize("src", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_images_are_fetched_over_http_alone(src):
    listed = [{"id": "1", "src": src, "thumbnail_type": "science"}]
    with (
        images([None] * 3, listed) as server,
        pytest.raises(exceptions.AntaresServerError, match="place of an image"),
    ):
        get_thumbnails(7, base=server.url)


# Loci -----------------------------------------------------------------------------------------------------------------


def test_a_limit_is_a_limit_and_everything_comes_without(antares):
    found = [locus.locus_id for locus in search.search({}, page_size=7)]
    assert sorted(found) == sorted(locus.locus_id for locus in antares.loci)
    assert [locus.locus_id for locus in search.search({}, limit=5)] == found[:5]
    query = {"query": {"bool": {"filter": {"term": {"tags": "extragalactic"}}}}}
    tagged = {locus.locus_id for locus in search.search(query)}
    assert tagged == {locus.locus_id for locus in antares.loci if "extragalactic" in locus.tags}


def test_one_locus(antares, locus):
    found = search.get_by_id(locus.locus_id)
    assert (found.ra, found.dec, found.properties, found.tags) == (
        locus.ra,
        locus.dec,
        locus.properties,
        locus.tags,
    )
    antares.rest.requests.clear()
    assert list(found.lightcurve["alert_id"]) == [alert.alert_id for alert in locus.alerts]
    assert antares.rest.requests == []  # it came with the locus
    assert [alert.properties for alert in found.alerts] == [alert.properties for alert in locus.alerts]
    assert {name: len(some) for name, some in found.catalog_objects.items()} == {
        name: sum(entry["catalog_name"] == name for entry in locus.catalog_objects) for name in locus.catalogs
    }
    assert search.get_by_id("ANT_nope") is None


def test_a_locus_without_internal_properties(antares):
    assert search.get_by_id(antares.loci[0].locus_id).properties == antares.loci[0].user_properties


def test_the_locus_of_an_object(antares, locus):
    known = next(one for one in antares.loci if "ztf_object_id" in one.properties)
    assert search.get_by_ztf_object_id(known.properties["ztf_object_id"]).locus_id == known.locus_id
    assert search.get_by_ztf_object_id("ZTF_nope") is None
    of_lsst = next(one for one in antares.loci if one.properties["survey"]["lsst"]["dia_object_id"])
    name = of_lsst.properties["survey"]["lsst"]["dia_object_id"][0]
    assert search.get_by_lsst_dia_object_id(name).locus_id == of_lsst.locus_id
    assert search.get_by_lsst_ss_object_id("1") is None
    with pytest.raises(ValueError, match="must be a string"):
        search.get_by_ztf_object_id(7)


def test_a_cone(antares, locus):
    center = SkyCoord(locus.ra, locus.dec, unit="deg")
    found = [one.locus_id for one in search.cone_search(center, Angle(30 * u.arcsec))]
    near = [
        one.locus_id
        for one in antares.loci
        if SkyCoord(one.ra, one.dec, unit="deg").separation(center) < 30 * u.arcsec
    ]
    assert sorted(found) == sorted(near)
    for bad in (
        (7, Angle(1 * u.arcsec)),
        (center, 1.0),
        (center, Angle(2 * u.deg)),
        (center, Angle(-1 * u.deg)),
    ):
        with pytest.raises(ValueError, match="must be"):
            search.cone_search(*bad)


def test_some_loci_tags_and_catalogs(antares, locus):
    assert len(search.get_random_loci(4)) == len(set(search.get_random_locus_ids(4))) == 4
    assert search.get_random_locus().locus_id == search.get_random_locus_id()
    assert search.get_random_loci(0) == []
    assert search.get_available_tags() == antares.topics
    samples = search.get_catalog_samples(2)
    assert samples
    assert all(1 <= len(some) <= 2 for some in samples.values())
    assert set(search.catalog_search(locus.ra, locus.dec)) == set(locus.catalogs)
    for wrong in (lambda: search.get_random_loci(1001), lambda: search.get_catalog_samples(51)):
        with pytest.raises(errors.ConfigurationError):
            wrong()


def test_a_search_that_is_none(antares):
    with pytest.raises(ValueError, match="must be a dictionary"):
        search.search("tags")
    with pytest.raises(exceptions.AntaresQueryError):
        list(search.search({"aggs": {}}))
    with pytest.raises(exceptions.AntaresQueryError):
        list(search.search({"query": {"no_such_clause": {}}}))


def test_an_answer_that_is_something_else(monkeypatch):
    with Loopback(lambda _: json_reply({"data": [{"mjd": 1}], "meta": None, "links": None})) as server:
        monkeypatch.setenv("ANTARES_API_BASE_URL", server.url)
        with pytest.raises(exceptions.AntaresServerError, match="is it an ANTARES server"):
            search.get_locus_alerts("ANT2026aaaaa")


def test_a_locus_of_a_message_that_says_little():
    locus = Locus("L1", 10.0, -5.0, {}, [])
    assert (locus.catalogs, locus.grav_wave_events, locus.grav_wave_events_data) == ([], [], {})


# Gravitational waves --------------------------------------------------------------------------------------------------


def test_notices(antares, locus):
    latest = antares.rest.notices[2]
    name = latest["gracedb_id"]
    found = search.get_latest_grav_wave_notice(name)
    assert (found.gracedb_id, found.notice_type) == (name, GravWaveNoticeTypes(latest["notice_type"]))
    assert found.notice_datetime.isoformat() == latest["notice_datetime"].replace("Z", "+00:00")
    assert search.get_grav_wave_notice(name, found.notice_datetime) == found
    assert search.get_latest_grav_wave_notice("S000000a") is None
    assert search.get_multiple_grav_wave_notices([name]) == [found]
    assert found.to_devkit()["skymap"] is found.skymap
    with pytest.raises(errors.NotFoundError, match="S000000a"):
        search.get_multiple_grav_wave_notices([name, "S000000a"])
    for wrong in ([], "S1", [1]):
        with pytest.raises(ValueError, match="list of strings"):
            search.get_multiple_grav_wave_notices(wrong)
    with pytest.raises(ValueError, match="must be a datetime"):
        search.get_grav_wave_notice(name, "2026-01-01")


def test_where_a_locus_lies_in_a_sky_map(antares):
    """The sandbox computed the contours from the formula of the map, not from its file."""
    near = [search.get_by_id(locus.locus_id) for locus in antares.loci[:30]]
    known = [(locus, event) for locus in near for alert in locus.alerts for event in alert.grav_wave_events]
    assert known
    for locus, event in known:
        notice = locus.grav_wave_events_data[event["gracedb_id"]]
        level, area = notice.get_probability_contour_level_and_area(locus.coordinates)
        assert level == pytest.approx(event["contour_level"], abs=1e-6)
        assert area.to_value(u.deg**2) == pytest.approx(event["contour_area"])
        assert notice.get_probability_density(locus.coordinates) > 0


def test_the_probability_of_a_whole_map_is_one(antares):
    notice = search.get_latest_grav_wave_notice(antares.rest.notices[0]["gracedb_id"])
    _, _, density, area = notice._cells
    assert (density * area).sum() == pytest.approx(1)
    assert area.sum() == pytest.approx(4 * np.pi)
    farthest = notice.get_probability_contour_level_and_area(SkyCoord(63, -8, unit="deg"))
    assert farthest[0] == pytest.approx(100, abs=0.1)


def test_notices_without_a_map_or_with_a_broken_one():
    here = SkyCoord(0, 0, unit="deg")
    bare = GravWaveNotice("S1", GravWaveNoticeTypes.RETRACTION, None)
    assert bare.skymap is None
    with pytest.raises(exceptions.AntaresNotFoundError, match="no sky map"):
        bare.get_probability_density(here)
    broken = GravWaveNotice("S1", GravWaveNoticeTypes.INITIAL, None, skymap_base64="bm8gRklUUw==")
    with pytest.raises(exceptions.AntaresServerError, match="can't be read"):
        _ = broken.skymap
