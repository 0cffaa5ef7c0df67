"""Cutouts and sky maps over HTTP."""

import base64
import gzip
import io
import math

import httpx2
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from nuncius import open_archive
from nuncius.sandbox.kowalski import SandboxKowalski, fill_archive
from nuncius.sky import _centres, separation_arcsec

WHEN = "2026-11-20T01:02:03"


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "night.db"
    fill_archive(path, alerts=30)
    return path


@pytest.fixture(scope="module")
def alerts(night):
    with open_archive(night, read_only=True) as archive:
        return list(archive.find("ZTF_alerts"))


@pytest.fixture(scope="module")
def running(night):
    with SandboxKowalski(archive=night) as box:
        yield box


@pytest.fixture(scope="module")
def client(running):
    with httpx2.Client(
        base_url=running.http_url, headers={"Authorization": running.token}, timeout=30
    ) as opened:
        yield opened


# Cutouts


@pytest.mark.parametrize("kind", ["science", "template", "difference"])
def test_a_cutout_is_a_fits_file_north_up(client, alerts, kind):
    alert = alerts[0]
    answer = client.get(f"/api/cutouts/ztf/{alert['candid']}/{kind}/fits")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/fits"
    assert answer.headers["content-disposition"] == f'attachment; filename="{alert["candid"]}.{kind}.fits"'
    packed = alert[f"cutout{kind.capitalize()}"]["stampData"]
    with (
        fits.open(io.BytesIO(gzip.decompress(packed))) as original,
        fits.open(io.BytesIO(answer.content)) as sent,
    ):
        assert sent[0].data.shape == (63, 63)
        assert sent[0].data.dtype == np.dtype(">f4")
        assert np.array_equal(sent[0].data, np.flipud(original[0].data), equal_nan=True)


@pytest.mark.parametrize("interval", ["asymmetric_percentile", "min_max", "zscale"])
@pytest.mark.parametrize("stretch", ["linear", "log", "asinh", "sqrt"])
def test_a_cutout_is_a_picture(client, alerts, interval, stretch):
    options = {"interval": interval, "stretch": stretch, "cmap": "viridis"}
    answer = client.get(f"/api/cutouts/ztf/{alerts[0]['candid']}/science/png", params=options)
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG\r\n")


def test_colours_differ(client, alerts):
    path = f"/api/cutouts/ztf/{alerts[0]['candid']}/science/png"
    pictures = {client.get(path, params={"cmap": name}).content for name in ("bone", "magma", "gray")}
    assert len(pictures) == 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("ztf/1/science/fits", "ztf alert 1 not found"),
        ("wntr/1/science/fits", "wntr alert 1 not found"),
        ("lsst/1/science/fits", "survey lsst must be one of [ztf, wntr, pgir, turbo]"),
        ("ztf/1/science/jpg", "file format jpg not in ['fits', 'png']"),
        ("ztf/1/nope/fits", "cutout nope not in ['science', 'template', 'difference']"),
        ("ztf/one/science/fits", "ValueError: invalid literal for int() with base 10: 'one'"),
        ("ztf/-1/science/fits", "ValueError: invalid literal for int() with base 10: '-1'"),
        ("ztf/%C2%B2/science/fits", "ValueError: invalid literal for int() with base 10: '²'"),
        ("ztf/99999999999999999999/science/fits", "ValueError: invalid literal"),
        ("ztf/1/science/png?cmap=jet", "cmap jet not in ['bone', 'gray', 'cividis', 'viridis', 'magma']"),
    ],
)
def test_cutouts_that_there_are_none(client, path, message):
    answer = client.get(f"/api/cutouts/{path}")
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(message)


def test_an_alert_without_images(tmp_path):
    import archive_support

    path = tmp_path / "night.db"
    with open_archive(path) as archive:
        archive.ingest([archive_support.ztf(1)], progress=False)
    with SandboxKowalski(archive=path) as box:
        url = f"{box.http_url}/api/cutouts/ztf/{archive_support.CANDID + 1}/science/fits"
        answer = httpx2.get(url, headers={"Authorization": box.token})
    assert answer.json()["message"] == f"ztf alert {archive_support.CANDID + 1} has no science cutout"


# Sky maps


@pytest.fixture
def put(client):
    kept = []

    def put(skymap, status=200, **more):
        answer = client.put("/api/skymap", json={"dateobs": WHEN, "skymap": skymap} | more)
        assert answer.status_code == status, answer.text
        if status == 200:
            kept.append(answer.json()["data"]["localization_name"])
        return answer.json()

    yield put
    for name in kept:
        client.request("DELETE", "/api/skymap", json={"dateobs": WHEN, "localization_name": name})


def in_region(client, name, contour=90, **kwargs):
    query = {
        "catalog": "ZTF_alerts",
        "filter": {},
        "projection": {"_id": 0, "candid": 1},
        "skymap": {"localization_name": name, "dateobs": WHEN, "contour": contour},
    }
    answer = client.post("/api/queries", json={"query_type": "skymap", "query": query, "kwargs": kwargs})
    assert answer.status_code == 200, answer.text
    return {document["candid"] for document in answer.json()["data"]}


def expected(alerts, ra, dec, radius_deg):
    places = np.array([(alert["candidate"]["ra"], alert["candidate"]["dec"]) for alert in alerts])
    inside = separation_arcsec(ra, dec, *places.T) <= radius_deg * 3600
    return {alert["candid"] for alert, near in zip(alerts, inside, strict=True) if near}


def multi_order(ra, dec, sigma_deg, order=5):
    """Make the map of a normal distribution, all cells of one order."""
    cells = np.arange(12 * 4**order, dtype=np.int64)
    distance = separation_arcsec(ra, dec, *_centres(cells, order)) / 3600
    chance = np.exp(-0.5 * (distance / sigma_deg) ** 2)
    density = chance / chance.sum() / (4 * math.pi / len(cells))
    return cells + 4 * 4**order, density


def test_a_position_with_its_error(client, put, alerts):
    ra, dec = alerts[0]["candidate"]["ra"], alerts[0]["candidate"]["dec"]
    answer = put({"ra": ra, "dec": dec, "error": 5.0}, contours="50,90")
    name = f"{ra:.5f}_{dec:.5f}_5.00000"
    assert answer == {
        "status": "success",
        "message": "added skymap",
        "data": {"dateobs": WHEN, "localization_name": name, "contours": [50.0, 90.0]},
    }
    # Two-dimensional normal distribution: 90 % lie within 2.1460 standard deviations.
    assert in_region(client, name) == expected(alerts, ra, dec, 5 * 2.145966)
    assert in_region(client, name, 50) == expected(alerts, ra, dec, 5 * 1.177410)
    assert len(in_region(client, name, limit=1)) == 1


def test_kinds_of_maps_agree(client, put, alerts):
    ra, dec, sigma = alerts[0]["candidate"]["ra"], alerts[0]["candidate"]["dec"], 20.0
    uniq, density = multi_order(ra, dec, sigma)
    file = io.BytesIO()
    table = Table({"UNIQ": uniq, "PROBDENSITY": density}, meta={"ORDERING": "NUNIQ", "COORDSYS": "C"})
    fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(table)]).writeto(file)
    put({"localization_name": "numbers", "uniq": uniq.tolist(), "probdensity": density.tolist()})
    put({"localization_name": "plain", "content": base64.b64encode(file.getvalue()).decode()})
    put({"localization_name": "packed", "content": base64.b64encode(gzip.compress(file.getvalue())).decode()})
    put({"localization_name": "ellipse", "ra": ra, "dec": dec, "amaj": sigma, "amin": sigma, "phi": 30})
    put({"localization_name": "circle", "ra": ra, "dec": dec, "error": sigma})
    found = in_region(client, "numbers")
    assert found == in_region(client, "plain") == in_region(client, "packed")
    inner, outer = (expected(alerts, ra, dec, sigma * 2.145966 + edge) for edge in (-2.5, 2.5))
    assert inner
    for name in ("numbers", "ellipse", "circle"):
        assert inner <= in_region(client, name) <= outer


def test_a_polygon(client, put, alerts):
    ra, dec = alerts[0]["candidate"]["ra"], alerts[0]["candidate"]["dec"]
    size = 0.2
    corners = [
        [ra - size, dec - size],
        [ra + size, dec - size],
        [ra + size, dec + size],
        [ra - size, dec + size],
    ]
    put({"localization_name": "square", "polygon": corners})
    inside = {
        alert["candid"]
        for alert in alerts
        if abs(alert["candidate"]["ra"] - ra) < size * 0.99
        and abs(alert["candidate"]["dec"] - dec) < size * 0.99
    }
    assert inside <= in_region(client, "square")
    assert in_region(client, "square") <= expected(alerts, ra, dec, size * 1.5)


def test_a_map_is_shown_and_deleted(client, put):
    put({"ra": 10.0, "dec": 20.0, "error": 1.0}, aliases=["GRB1", "GRB2"], triggerid=123, contours=[90])
    name = "10.00000_20.00000_1.00000"
    for asked in (
        {"dateobs": WHEN},
        {"triggerid": "123"},
        {"alias": "GRB2"},
        {"dateobs": WHEN, "localization_name": name},
    ):
        answer = client.get("/api/skymap", params=asked).json()
        assert answer["status"] == "success"
    data = answer["data"]
    assert data["dateobs"] == {"$date": f"{WHEN}Z"}
    assert (data["triggerid"], data["aliases"], data["localization_name"]) == ("123", ["GRB1", "GRB2"], name)
    assert data["contours"]["center"]["coordinates"] == pytest.approx([10 - 180, 20], abs=0.01)
    polygons = data["contours"]["contour90"]["coordinates"]
    assert data["contours"]["contour90"]["type"] == "MultiPolygon"
    corners = np.array([corner for polygon in polygons for corner in polygon[0]])
    distance = separation_arcsec(10.0, 20.0, corners[:, 0] + 180, corners[:, 1]) / 3600
    assert 2.0 < distance.max() < 2.4
    for alias in ("GRB1", "GRB2"):
        query = {
            "catalog": "ZTF_alerts",
            "filter": {},
            "skymap": {"localization_name": name, "aliases": [alias]},
        }
        assert client.post("/api/queries", json={"query_type": "skymap", "query": query}).status_code == 200
    gone = {"dateobs": WHEN, "localization_name": name}
    assert client.request("DELETE", "/api/skymap", json=gone).json()["message"] == f"deleted skymap {name}"
    answer = client.get("/api/skymap", params=gone)
    assert (answer.status_code, answer.json()) == (200, {"status": "error", "message": "no skymap found"})
    assert client.request("DELETE", "/api/skymap", json=gone).status_code == 400


def test_a_map_that_is_there_already(put):
    put({"ra": 1, "dec": 2, "error": 1})
    assert put({"ra": 1, "dec": 2, "error": 1}, 409) == {"status": "error", "message": "already_exists"}


def test_a_level_that_is_not_there(client, put):
    put({"localization_name": "one", "ra": 1, "dec": 2, "error": 1}, contours=90)
    query = {
        "catalog": "ZTF_alerts",
        "filter": {},
        "skymap": {"localization_name": "one", "dateobs": WHEN, "contour": 50},
    }
    answer = client.post("/api/queries", json={"query_type": "skymap", "query": query})
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "ValueError: Contour level 50 not found in skymap",
    )
    answer = client.get("/api/skymap", params={"dateobs": WHEN, "contours": "50"})
    assert answer.json() == {"status": "error", "message": "contour level 50 not found in skymap"}


def test_only_the_owner_and_an_admin_delete_a_map(client, running, put):
    put({"localization_name": "mine", "ra": 1, "dec": 2, "error": 1})
    running._accounts.add("somebody", "something")
    asked = {"dateobs": WHEN, "localization_name": "mine"}

    def delete(token):
        answer = httpx2.request(
            "DELETE", f"{running.http_url}/api/skymap", json=asked, headers={"Authorization": token}
        )
        return answer.status_code

    assert delete(running._accounts.token("somebody", lifetime_s=60)) == 403
    assert delete(running.admin_token) == 200


@pytest.mark.parametrize(
    "skymap",
    [
        {},
        [],
        None,
        {"localization_name": "x"},
        {"ra": 1, "dec": 2},
        {"ra": 1, "dec": 95, "error": 1},
        {"ra": "nan", "dec": 2, "error": 1},
        {"ra": 1, "dec": 2, "error": 1e6},
        {"localization_name": "x", "content": "!!"},
        {"localization_name": "x", "content": base64.b64encode(b"no FITS").decode()},
        {"localization_name": "x", "content": base64.b64encode(b"\x1f\x8bdamaged").decode()},
        {"localization_name": "x", "uniq": [1], "probdensity": [1]},
        {"localization_name": "x", "uniq": [2**70], "probdensity": [1]},
        {"localization_name": "x", "uniq": [1024, 1025], "probdensity": [1]},
        {"localization_name": "x", "uniq": ["a"], "probdensity": ["b"]},
        {"localization_name": "x", "polygon": [[1, 1], [2, 2]]},
        {"localization_name": "x", "polygon": "everywhere"},
        {"localization_name": "x", "ra": 1, "dec": 1, "amaj": 1, "amin": -1, "phi": 0},
    ],
)
def test_what_is_no_map_is_refused(put, skymap):
    answer = put(skymap, 400)
    assert answer["status"] == "error"
    assert "Traceback" not in answer["message"]


def test_other_refusals_of_maps(client, put):
    ok = {"ra": 1, "dec": 2, "error": 1}
    assert put({"localization_name": "x", "url": "http://127.0.0.1/map.fits"}, 403)["message"] == "Forbidden"
    for more in (
        {"contours": 101},
        {"contours": [1] * 11},
        {"contours": "a"},
        {"dateobs": "yesterday"},
        {"aliases": 5},
    ):
        assert put(ok, 400, **more)["message"].startswith("ValidationError: ")
    assert client.get("/api/skymap").json()["status"] == "error"
