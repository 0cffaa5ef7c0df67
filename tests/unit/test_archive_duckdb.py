"""An exported archive asked through DuckDB: what it answers, what it leaves to Python, and what goes wrong."""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import sys
import threading

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from nuncius import aio, open_archive
from nuncius.archives.duckdb import find, places
from nuncius.archives.duckdb.cells import joined
from nuncius.archives.embedded.database import Database
from nuncius.archives.embedded.export import export
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FilterError,
    MissingExtraError,
    NotFoundError,
    StorageError,
    UnsupportedError,
)
from nuncius.sandbox.kowalski import REFERENCE_CATALOG, fill_archive
from nuncius.sky import cone_ranges
from nuncius.sky.regions import Cone

pytest.importorskip("duckdb", reason="duckdb is not installed")
pytest.importorskip("pyarrow", reason="pyarrow is not installed")

ALERTS = "ZTF_alerts"
WITHOUT_IMAGES = {"cutoutScience": 0, "cutoutTemplate": 0, "cutoutDifference": 0}
GROUP = {"$group": {"_id": "$candidate.fid", "n": {"$sum": 1}, "mean": {"$avg": "$candidate.magpsf"}}}


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    path = tmp_path_factory.mktemp("night") / "night.db"
    fill_archive(path, alerts=150)
    return path


@pytest.fixture(scope="module")
def folder(night):
    path = night.parent / "it's [a] night*"  # DuckDB takes a path for a pattern, and SQL a quote for an end
    database = Database(night, read_only=True)
    export(database, path, rows_per_file=40)
    database.close()
    return path


@pytest.fixture
def archive(folder):
    with open_archive(f"duckdb:///{folder}") as opened:
        yield opened


@pytest.fixture
def no_documents(monkeypatch):
    """Let nothing read a document."""

    def refuse(*_):
        pytest.fail("a document was read")

    monkeypatch.setattr(find, "from_text", refuse)
    monkeypatch.setattr(places, "from_text", refuse)


# The same as the archive in a file -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def positions(night):
    with open_archive(night, read_only=True) as here:
        found = here.find(
            ALERTS, projection=["candid", "candidate.ra", "candidate.dec"], sort="candid", limit=40
        )
        named = {f"obj.{d['candid']}": (d["candidate"]["ra"], d["candidate"]["dec"]) for d in found}
    return {**named, "no.where": (12.0, -88.0)}


def questions(positions):
    table = Table({"ra": [p[0] for p in positions.values()], "dec": [p[1] for p in positions.values()]})
    wanted = {"candidate.drb": {"$gt": np.float32(0.5)}, "candidate.fid": {"$in": [1, 2]}}
    vertices = [(0.0, -40.0), (180.0, -40.0), (180.0, 50.0), (0.0, 50.0)]
    around = {
        "$and": [
            {
                "coordinates.radec_geojson": {
                    "$geoWithin": {"$centerSphere": [[positions["no.where"][0] - 180, 30.0], 2.0]}
                }
            },
            {"candid": {"$gt": 0}},
        ]
    }
    near = {
        "coordinates.radec_geojson": {
            "$nearSphere": [positions["no.where"][0] - 180, 30.0],
            "$maxDistance": 2.0,
        }
    }
    return [
        lambda a: a.find(ALERTS, wanted, projection=WITHOUT_IMAGES, sort=[("candid", 1)]),
        lambda a: a.find(ALERTS, projection=["candid"], sort="-candid", skip=3, limit=20),
        lambda a: a.find_one(ALERTS, {"candidate.magpsf": {"$lt": 30}}, sort="candid", projection=["objectId"]),
        lambda a: a.count(ALERTS, {"$or": [{"candidate.fid": 2}, {"candidate.magpsf": {"$gt": 20}}]}),
        lambda a: a.distinct(ALERTS, "objectId", {"candidate.fid": {"$ne": 3}}),
        lambda a: a.aggregate(ALERTS, [{"$match": {"candidate.drb": {"$gte": 0.1}}}, GROUP, {"$sort": {"_id": 1}}]),
        lambda a: a.cone_search(ALERTS, positions, 3 * u.arcsec, projection=["candid"]),
        lambda a: a.near(
            ALERTS, table, "20 arcsec", min_distance="0.01 arcsec", projection={"_id": 0, "candid": 1}, limit=2
        ),
        lambda a: a.region_search(ALERTS, vertices, projection=["candid"], sort="candid"),
        lambda a: sorted(
            a.crossmatch(ALERTS, REFERENCE_CATALOG, "2 arcsec", filter={"candidate.fid": 1},
                         projection=["candid"], right_projection=["source_id"], limit=1),
            key=lambda document: document["candid"],
        ),
        lambda a: a.find(ALERTS, near, projection=["candid"], limit=30),
        lambda a: a.find(ALERTS, around, projection=["candid"], sort="candid"),
        lambda a: a.count(ALERTS, around),
        lambda a: a.aggregate(ALERTS, [{"$sortByCount": "$objectId"}, {"$match": {"count": {"$gt": 1}}}, {"$count": "n"}]),
        lambda a: a.aggregate(ALERTS, [
            {"$sort": {"candid": 1}}, {"$limit": 3}, {"$project": {"candid": 1}},
            {"$lookup": {"from": REFERENCE_CATALOG, "pipeline": [{"$match": {"phot_g_mean_mag": {"$lt": 99}}},
                                                                 {"$count": "n"}], "as": "stars"}},
        ]),
    ]  # fmt: skip


def plain(answer):
    if isinstance(answer, dict):
        return {name: plain(value) for name, value in sorted(answer.items())}
    if isinstance(answer, float):
        return round(answer, 6)
    return answer if isinstance(answer, (str, int)) or answer is None else [plain(item) for item in answer]


@pytest.mark.parametrize("number", range(15))
def test_the_export_answers_as_the_archive_does(number, night, archive, positions):
    question = questions(positions)[number]
    with open_archive(night, read_only=True) as here:
        wanted = plain(question(here))
    assert wanted not in ([], None, 0)
    assert plain(question(archive)) == wanted


def test_questions_can_be_awaited(night, folder, positions):
    async def ask():
        async with aio.open_archive(f"duckdb:///{folder}") as archive:
            return await archive.count(ALERTS), len(
                (await archive.cone_search(ALERTS, positions, "3 arcsec")).docs
            )

    with open_archive(night, read_only=True) as here:
        wanted = here.count(ALERTS), len(here.cone_search(ALERTS, positions, "3 arcsec").docs)
    assert asyncio.run(ask()) == wanted


def test_what_it_holds(archive):
    assert archive.catalogs() == [REFERENCE_CATALOG, ALERTS]
    held = archive.info()["catalogs"]
    assert held[ALERTS]["documents"] == archive.estimated_count(ALERTS) == 150
    assert held[ALERTS]["files"] > 1
    assert archive.count(ALERTS, skip=140, limit=20) == 10


# What DuckDB does alone ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_documents")
def test_counts_groups_and_values_need_no_documents(archive):
    assert archive.count(ALERTS, {"candidate.magpsf": {"$gt": 0}, "objectId": {"$regex": "^ZTF"}}) == 150
    assert archive.count(ALERTS, {"candidate.fid": {"$nin": [1, 2, "1", None]}}) < 150
    assert len(archive.distinct(ALERTS, "candidate.fid")) > 1
    groups = archive.aggregate(
        ALERTS, [{"$match": {"candidate.magpsf": {"$lt": 99}}}, GROUP, {"$match": {"n": {"$gt": 1}}}, {"$sort": {"n": -1}}]
    ).docs  # fmt: skip
    assert sum(group["n"] for group in groups) <= 150
    assert [group["n"] for group in groups] == sorted((group["n"] for group in groups), reverse=True)


@pytest.mark.usefixtures("no_documents")
def test_nothing_is_read_where_nothing_is_found(archive):
    assert archive.find(ALERTS, {"candid": 5}).docs == []
    assert archive.cone_search(ALERTS, (12.0, -88.0), "1 arcsec").docs == []


def test_outputs_of_a_group_have_any_name(archive):
    outputs = {"n": {"$sum": 1}, "N": {"$sum": 2}, "#": {"$max": "$candid"}, "documents": {"$min": "$candid"}}
    (group,) = archive.aggregate(ALERTS, [{"$group": {"_id": None, **outputs}}])
    assert list(group) == ["_id", "n", "N", "#", "documents"]
    assert (group["n"], group["N"]) == (150, 300)


def test_a_sum_that_64_bits_cannot_hold_is_a_fraction(tmp_path):
    numbers = [2**62, 2**62, 2**62]
    with open_archive(tmp_path / "a.db") as made:
        made.load_catalog(
            "stars", Table({"ra": [1.0, 2.0, 3.0], "dec": [0.0] * 3, "n": numbers}), progress=False
        )
        made.export(tmp_path / "out")
        pipeline = [{"$group": {"_id": None, "n": {"$sum": "$n"}}}, {"$match": {"n": {"$gt": 2**63}}}]
        wanted = made.aggregate("stars", pipeline).docs
    with open_archive(f"duckdb:///{tmp_path / 'out'}") as archive:
        assert archive.aggregate("stars", pipeline).docs == wanted == [{"_id": None, "n": float(3 * 2**62)}]


def test_it_says_who_decides(archive):
    decided = archive.explain(ALERTS, {"candidate.magpsf": {"$gt": 19}}, sort="-candidate.jd")
    assert decided.residual == {}
    assert decided.sort == "SQL"
    left = archive.explain(ALERTS, {"objectId": {"$regex": "^ZTF.*z$"}, "candid": {"$gt": 0}})
    assert list(left.residual) == ["objectId"]
    assert "matcher then decides on objectId" in str(left)


def test_a_name_with_capitals_is_another_name(tmp_path):
    rows = Table({"ra": [1.0, 2.0], "dec": [0.0, 0.0], "mag": [1.0, 2.0], "MAG": [5.0, 6.0]})
    with open_archive(tmp_path / "a.db") as made:
        made.load_catalog("stars", rows, progress=False)
        made.export(tmp_path / "out")
    with open_archive(f"duckdb:///{tmp_path / 'out'}") as archive:
        assert archive.count("stars", {"MAG": {"$gt": 4}}) == 2
        assert archive.count("stars", {"mag": {"$gt": 4}}) == 0
        assert archive.count("stars", {"MAG_1": {"$exists": True}}) == 0
        assert archive.distinct("stars", "MAG") == [5.0, 6.0]


def test_fields_are_called_as_they_like(tmp_path):
    names = ["cone", "cell", "verdict", "haversine", "asked_ra", "document", "found", "c0"]
    rows = Table({"ra": [1.0, 1.0], "dec": [0.0, 1e-4], **{name: [2, 1] for name in names}})
    with open_archive(tmp_path / "a.db") as made:
        made.load_catalog("stars", rows, progress=False)
        made.export(tmp_path / "out")
    with open_archive(f"duckdb:///{tmp_path / 'out'}") as archive:
        for name in names:
            assert [found[name] for found in archive.find("stars", sort=name)] == [1, 2]
            assert archive.count("stars", {name: 1, "ra": {"$regex": "x"}}) == 0
            assert archive.count("stars", {name: 1, "nothing": None}) == 1
            hits = archive.cone_search("stars", (1.0, 0.0), "2 arcsec", filter={name: {"$gt": 0}}, limit=2)
            assert [hit[name] for hit in hits] == [2, 1]
            groups = archive.aggregate("stars", [{"$group": {"_id": f"${name}", "verdict": {"$sum": 1}}}])
            assert groups.docs == [{"_id": 1, "verdict": 1}, {"_id": 2, "verdict": 1}]
            assert len(archive.region_search("stars", Cone(1.0, 0.0, 9.0), filter={name: 1}).docs) == 1


def test_nan_is_no_large_number(tmp_path):
    rows = Table({"ra": [1.0, 2.0, 3.0], "dec": [0.0] * 3, "mag": [0.5, np.nan, 0.5]})
    with open_archive(tmp_path / "a.db") as made:
        made.load_catalog("stars", rows, progress=False)
        made.export(tmp_path / "out")
    with open_archive(f"duckdb:///{tmp_path / 'out'}") as archive:
        assert archive.count("stars", {"mag": {"$gt": 0}}) == 2
        assert archive.count("stars", {"mag": np.nan}) == 1
        assert archive.count("stars", {"mag": {"$not": {"$gt": 0}}}) == 1
        (group,) = archive.aggregate("stars", [{"$group": {"_id": None, "n": {"$avg": "$mag"}}}])
        assert np.isnan(group["n"])


# Cells ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius_arcsec", [0.1, 2.0, 600.0, 40_000.0])
def test_cells_cover_their_ranges(radius_arcsec):
    ra, dec = np.array([10.0, 0.0, 200.0]), np.array([89.9, 0.0, -41.8])
    index, low, high = cone_ranges(ra, dec, radius_arcsec)
    cone, cell, shift = joined(index, low, high)
    pairs = set(zip(cone.tolist(), cell.tolist(), strict=True))
    assert len(pairs) == len(cone) <= 200_000
    for whose, first, last in zip(index.tolist(), low.tolist(), high.tolist(), strict=True):
        assert {(whose, first >> shift), (whose, (last - 1) >> shift)} <= pairs
    covered = np.bincount(cone) * 2.0**shift
    assert (covered >= np.bincount(index, weights=(high - low).astype(float))).all()


# What goes wrong -----------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(NotFoundError, match="no exported archive"):
        open_archive(f"duckdb:///{tmp_path / 'nothing'}")


def test_a_file_is_no_export(night):
    with pytest.raises(UnsupportedError, match=r"archive\.export"):
        open_archive(f"duckdb:///{night}")


def test_what_something_else_wrote(folder, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    other = tmp_path / "stars" / "dataset"
    other.mkdir(parents=True)
    pq.write_table(pa.table({"ra": [1.0], "_document": ["{}"], "_extras": ["x"]}), other / "a.parquet")
    (tmp_path / "empty" / "dataset").mkdir(parents=True)
    with open_archive(f"duckdb:///{tmp_path}") as archive:
        with pytest.raises(StorageError, match=r"not written by archive\.export"):
            archive.count("stars")
        with pytest.raises(StorageError, match="no Parquet files"):
            archive.count("empty")


def test_a_damaged_file(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    victim = max((copy / ALERTS / "dataset").rglob("Npix=*.parquet"))
    content = bytearray(victim.read_bytes())
    content[200 : len(content) // 2] = b"\xff" * (len(content) // 2 - 200)
    victim.write_bytes(content)
    with open_archive(f"duckdb:///{copy}") as archive, pytest.raises(StorageError, match="can't be read"):
        archive.find(ALERTS).docs  # noqa: B018
    victim.write_bytes(b"no Parquet")
    with open_archive(f"duckdb:///{copy}") as archive, pytest.raises(StorageError, match="can't be read"):
        archive.find(ALERTS).docs  # noqa: B018


def test_without_duckdb(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingExtraError, match=r"nuncius\[duckdb\]"):
        open_archive(f"duckdb:///{folder}")


def test_unknown_catalogs_and_wrong_filters(archive):
    with pytest.raises(NotFoundError, match="ZTF_alerts"):
        archive.count("ZTF_alert")
    with pytest.raises(FilterError, match="gte"):
        archive.count(ALERTS, {"candid": {"$gtee": 1}})
    with pytest.raises(NotFoundError, match="nowhere"):
        archive.aggregate(ALERTS, [{"$lookup": {"from": "nowhere", "pipeline": [], "as": "x"}}])


def test_a_deadline_breaks_off_what_takes_too_long(archive):
    # All pairs of all documents, three times: more than can be done in that time.
    other = {"$lookup": {"from": ALERTS, "pipeline": [], "as": "x"}}
    with pytest.raises(DeadlineError, match="in the time"):
        archive.aggregate(
            ALERTS, [other, {"$unwind": "$x"}, other, {"$unwind": "$x"}, {"$count": "n"}], timeout_s=0.3
        )
    with pytest.raises(DeadlineError):
        archive.count(ALERTS, timeout_s=1e-9)
    assert archive.count(ALERTS, timeout_s=60) == 150


def test_duckdb_itself_is_interrupted(archive):
    from nuncius._core.operations import Deadline

    export = archive._backend.export
    endless = "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE (a.range * b.range) % 7 = 3"
    with pytest.raises(DeadlineError), export.in_time(Deadline(0.2)):
        export.one(endless)
    assert export.one("SELECT 1") == (1,)


def test_after_closing(folder):
    archive = open_archive(f"duckdb:///{folder}")
    archive.count(ALERTS)
    archive.close()
    with pytest.raises(ConfigurationError, match="closed"):
        archive.count(ALERTS)


# Threads and processes -----------------------------------------------------------------------------------------------


def test_threads_share_one(archive):
    counts = []
    threads = [
        threading.Thread(target=lambda: counts.append(archive.count(ALERTS, {"candid": {"$gt": 0}})))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [150] * 6


def test_two_answers_are_read_side_by_side(archive):
    first, second = iter(archive.find(ALERTS)), iter(archive.find(ALERTS))
    assert [next(first)["_id"] for _ in range(150)] == [next(second)["_id"] for _ in range(150)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_a_fork_it_opens_the_files_anew(archive):
    assert archive.count(ALERTS) == 150
    child = os.fork()
    if not child:
        os._exit(0 if archive.count(ALERTS, {"candid": {"$gt": 0}}) == 150 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert archive.count(ALERTS) == 150


def test_it_pickles_as_its_url(archive):
    with pickle.loads(pickle.dumps(archive)) as again:
        assert again.url == archive.url
        assert again.count(ALERTS) == 150
