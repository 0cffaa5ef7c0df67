"""What the archive exports, opened and cross-matched by lsdb on a Dask cluster of two worker processes."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from astropy.table import Table

import archive_support as support
from nuncius.archives.embedded import places
from nuncius.archives.embedded.database import Database
from nuncius.archives.embedded.export import MARGIN_ARCSEC, export
from nuncius.archives.embedded.load import load_catalog
from nuncius.archives.language import Projection

pytestmark = [
    # Dask's processes talk to one another, and warn of what its own dependencies will do some day.
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("default"),
]

SOURCES, CANDIDATES = 60_000, 12_000
ALL = Projection(None)


@pytest.fixture(scope="module")
def lsdb():
    if not os.environ.get("NUNCIUS_TEST_LSDB"):
        pytest.skip("NUNCIUS_TEST_LSDB is not set: the job `nox -s lsdb` runs these tests")
    import lsdb

    return lsdb


@pytest.fixture(scope="module")
def cluster(lsdb):
    from dask.distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def database(lsdb, tmp_path_factory):
    """Make a catalog that crowds along the edges of the parts of the sky, and candidates beside its sources."""
    rng = np.random.default_rng(11)
    ra, dec = rng.uniform(0, 360, SOURCES), np.degrees(np.arcsin(rng.uniform(-1, 1, SOURCES)))
    edge = np.arange(SOURCES) % 3 == 0
    ra[edge] = np.round(ra[edge] / 45) * 45 + rng.normal(0, 2 / 3600, edge.sum())
    dec[: SOURCES // 50] = rng.choice([-1, 1], SOURCES // 50) * (90 - rng.exponential(0.01, SOURCES // 50))
    ra %= 360
    mine = rng.choice(SOURCES, CANDIDATES, replace=False)
    near_dec = np.clip(dec[mine] + rng.normal(0, 1.5 / 3600, CANDIDATES), -90, 90)
    shift = rng.normal(0, 1.5 / 3600, CANDIDATES) / np.maximum(np.cos(np.radians(near_dec)), 1e-6)
    near_ra = (ra[mine] + np.clip(shift, -180, 180)) % 360
    database = Database(tmp_path_factory.mktemp("lsdb") / "night.db", read_only=False)
    ids = np.arange(SOURCES, dtype=np.int64) + 2**60 + 1
    load_catalog(
        database,
        "Gaia_EDR3",
        Table({"source_id": ids, "ra": ra, "dec": dec, "mag": rng.normal(18, 1, SOURCES)}),
    )
    load_catalog(
        database, "candidates", Table({"_id": np.arange(CANDIDATES), "ra": near_ra, "dec": near_dec})
    )
    alerts = [
        support.ztf(number, candidate={"ra": number * 3.0 % 360, "dec": number % 90}) for number in range(200)
    ]
    support.keep(database, alerts)
    yield database
    database.close()


@pytest.fixture(scope="module")
def folder(database):
    path = database.path.with_name("export")
    report = export(database, path, rows_per_file=4000)
    assert report.rows == {"Gaia_EDR3": SOURCES, "ZTF_alerts": 200, "candidates": CANDIDATES}
    return path


def test_the_export_is_a_valid_catalog(lsdb, folder):
    from hats.io.validation import is_valid_catalog

    for name in ("Gaia_EDR3", "candidates", "ZTF_alerts", "_margins/Gaia_EDR3"):
        assert is_valid_catalog(folder / name, strict=True), name


def test_every_value_arrives(lsdb, cluster, database, folder):
    catalog = lsdb.open_catalog(folder / "Gaia_EDR3", columns="all")
    assert len(catalog) == SOURCES
    assert len(catalog.get_healpix_pixels()) > 12
    frame = catalog.compute()
    stored = {
        number: (ra, dec, cell)
        for number, ra, dec, cell in database.connection.execute('SELECT _id, ra, dec, hpx FROM "Gaia_EDR3"')
    }
    assert len(frame) == SOURCES
    rows = zip(frame["_id"], frame["ra"], frame["dec"], frame.index, strict=True)
    assert {number: (ra, dec, int(cell)) for number, ra, dec, cell in rows} == stored
    assert {int(number) for number in frame["source_id"]} == {2**60 + 1 + index for index in range(SOURCES)}
    assert json.loads(frame["_document"].iloc[0])["source_id"] == frame["source_id"].iloc[0]


def test_alerts_have_their_fields_as_columns(lsdb, cluster, folder):
    frame = lsdb.open_catalog(folder / "ZTF_alerts").compute()
    assert {int(candid) for candid in frame["candid"]} == {support.CANDID + number for number in range(200)}
    assert np.allclose(frame["candidate.ra"], frame["ra"])
    assert "_document" not in frame.columns


@pytest.mark.parametrize("radius", [1.0, 3.0, MARGIN_ARCSEC])
def test_a_cross_match_is_ours(lsdb, cluster, database, folder, radius):
    right = lsdb.open_catalog(folder / "Gaia_EDR3", margin_cache=folder / "_margins" / "Gaia_EDR3")
    left = lsdb.open_catalog(folder / "candidates")
    matched = left.crossmatch(
        right, radius_arcsec=radius, n_neighbors=1, suffixes=("_left", "_right"), suffix_method="all_columns",
        require_right_margin=True,
    ).compute()  # fmt: skip
    theirs = {
        int(mine): (int(other), float(distance))
        for mine, other, distance in zip(
            matched["_id_left"], matched["_id_right"], matched["_dist_arcsec"], strict=True
        )
    }
    ours = {
        document["_id"]: (int(document["matches"][0]["_id"]), document["matches"][0]["separation_arcsec"])
        for document in places.crossmatch(
            database, "candidates", "Gaia_EDR3", radius,
            condition={}, projection=ALL, right_condition={}, right_projection=ALL, limit=1,
        )
    }  # fmt: skip
    assert len(ours) > CANDIDATES // 10
    # At the very radius, and between two sources that are as near, rounding may decide otherwise.
    doubtful = {mine for mine in ours.keys() ^ theirs.keys() if abs((ours | theirs)[mine][1] - radius) < 1e-6}
    assert len(doubtful) <= 2
    assert ours.keys() - doubtful == theirs.keys() - doubtful
    for mine in ours.keys() & theirs.keys():
        assert ours[mine][1] == pytest.approx(theirs[mine][1], abs=1e-5)
        assert ours[mine][0] == theirs[mine][0] or ours[mine][1] == pytest.approx(theirs[mine][1], abs=1e-7)


def test_without_the_margin_matches_across_edges_would_be_lost(lsdb, cluster, folder):
    left = lsdb.open_catalog(folder / "candidates")
    options = {
        "radius_arcsec": 10.0,
        "n_neighbors": 1,
        "suffixes": ("_l", "_r"),
        "suffix_method": "all_columns",
    }
    alone = left.crossmatch(lsdb.open_catalog(folder / "Gaia_EDR3"), **options).compute()
    whole = left.crossmatch(
        lsdb.open_catalog(folder / "Gaia_EDR3", margin_cache=folder / "_margins" / "Gaia_EDR3"), **options
    ).compute()
    both = {
        int(mine): float(distance)
        for mine, distance in zip(whole["_id_l"], whole["_dist_arcsec"], strict=True)
    }
    lost = [
        mine
        for mine, distance in zip(alone["_id_l"], alone["_dist_arcsec"], strict=True)
        if distance > both[int(mine)]
    ]
    assert len(lost) + len(whole) - len(alone) > 0


def test_a_cone_search_is_ours(lsdb, cluster, database, folder):
    frame = lsdb.open_catalog(folder / "Gaia_EDR3").cone_search(ra=0.0, dec=0.0, radius_arcsec=7200).compute()
    ours = places.cones(database, "Gaia_EDR3", np.array([0.0]), np.array([0.0]), 7200.0, {}, ALL, None)
    assert sorted(frame["_id"]) == sorted(document["_id"] for document in ours)
    assert len(ours) > 5
