"""The MongoDB archive against FerretDB 1.24, which has no geometry: positions go through HEALPix cells or boxes."""

import asyncio
import multiprocessing
import pickle
import threading
from datetime import UTC, datetime

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from bson import Int64, ObjectId

import nuncius.aio
from nuncius import open_archive
from nuncius.archives.language import check_filter, check_sort, matches, sort_documents
from nuncius.errors import (
    DeadlineError,
    FilterError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    UnreachableError,
    UnsupportedError,
)
from nuncius.sky import Polygon, cells_of

pytestmark = pytest.mark.xdist_group("ferretdb")

COUNT = 900
CANDID = 2_000_000_000_000_000_001  # more digits than a float has
RNG = np.random.default_rng(20261121)
# Everywhere, across RA 0, and around both poles.
RA = np.concatenate([RNG.uniform(0, 360, 300), RNG.uniform(-0.01, 0.01, 300), RNG.uniform(0, 360, 300)]) % 360
DEC = np.concatenate(
    [
        np.degrees(np.arcsin(RNG.uniform(-1, 1, 300))),
        RNG.uniform(-0.01, 0.01, 300),
        RNG.uniform(89.99, 90, 300) * RNG.choice([-1, 1], 300),
    ]
)
RA = (RA - 180.0 + 180.0) % 360  # as GeoJSON keeps them
CELLS = cells_of(RA, DEC).tolist()


def alert(number):
    ra, dec = RA[number].item(), DEC[number].item()
    document = {
        "_id": ObjectId(f"{number:024x}"),
        "candid": Int64(CANDID + number),
        "objectId": f"ZTF26aa{number // 3:04d}",
        "candidate": {"ra": ra, "dec": dec, "jd": 2461000.5 + number / 7, "fid": 1 + number % 3, "drb": number / COUNT},
        "tags": [["old"], ["old", "bright"], []][number % 3],
        "matches": [{"name": "a", "r": number % 5}, {"name": "b", "r": number % 7}],
        "created": datetime(2026, 11, 1 + number % 20, 3, 4, 5, 678000),
        "coordinates": {"radec_geojson": {"type": "Point", "coordinates": [ra - 180.0, dec]}},
    }  # fmt: skip
    if number % 4:
        document["classifications"] = {"braai": None if number % 8 == 1 else number / COUNT}
    return document


@pytest.fixture(scope="session")
def url(server):
    with server.client() as client:
        night = client.kowalski
        alerts = [alert(number) for number in range(COUNT)]
        night.ZTF_alerts.insert_many(alerts)
        night.ZTF_alerts.create_index("candid", unique=True)
        night.ZTF_cells.insert_many({**one, "hpx": Int64(CELLS[n])} for n, one in enumerate(alerts))
        night.ZTF_cells.create_index("hpx")
        night.Gaia.insert_many(
            {"_id": n, "ra": RA[n].item(), "dec": DEC[n].item(), "hpx": Int64(CELLS[n]), "g": 10 + n % 9}
            for n in range(0, COUNT, 2)
        )
        night.Gaia.create_index("hpx")
        night.ZTF_alerts_aux.insert_many({"_id": f"ZTF26aa{n:04d}", "prv_candidates": []} for n in range(5))
    return f"{server.url}/kowalski"


@pytest.fixture
def archive(url):
    with open_archive(url, timeout_s=60) as opened:
        yield opened


def test_what_is_there(archive, url):
    assert archive.catalogs() == ["Gaia", "ZTF_alerts", "ZTF_alerts_aux", "ZTF_cells"]
    assert archive.count("ZTF_alerts") == archive.estimated_count("ZTF_alerts") == COUNT
    info = archive.info()
    assert info["catalogs"]["ZTF_cells"]["documents"] == COUNT
    assert info["catalogs"]["ZTF_cells"]["indexes"] == ["_id_", "hpx_1"]
    assert url in repr(archive)


def test_documents_come_with_all_digits_and_times_in_utc(archive):
    found = archive.find_one("ZTF_alerts", {"candid": CANDID + 5})
    assert found["candid"] == CANDID + 5
    assert type(found["candid"]) is int
    assert found["created"] == datetime(2026, 11, 6, 3, 4, 5, 678000, tzinfo=UTC)
    table = archive.find("ZTF_alerts", sort="candid", limit=3, projection=["candid"]).to_table()
    assert table["candid"].tolist() == [CANDID, CANDID + 1, CANDID + 2]


# Without what this server does in its own way: bounds that two elements meet, $elemMatch of fields, $expr.
FILTERS = [
    {},
    {"candid": CANDID + 7},
    {"_id": ObjectId(f"{3:024x}")},
    {"_id": {"$gt": ObjectId(f"{890:024x}")}},
    {"objectId": {"$in": ["ZTF26aa0001", "ZTF26aa0200"]}},
    {"candidate.fid": {"$nin": [1, 2]}, "candidate.drb": {"$lt": 0.3}},
    {"candidate.jd": {"$gte": 2461010.5, "$lt": 2461020.5}},
    {"classifications.braai": None},
    {"classifications.braai": {"$ne": None}},
    {"classifications.braai": {"$exists": False}},
    {"classifications.braai": {"$gt": 0.5}},
    {"classifications": {"$exists": True}, "candidate.fid": 2},
    {"tags": "bright"},
    {"tags": {"$size": 0}},
    {"tags": {"$all": ["bright", "old"]}},
    {"tags": []},
    {"tags": {"$elemMatch": {"$gt": "b", "$lt": "o"}}},
    {"matches.0.r": 4},
    {"objectId": {"$regex": "^ZTF26AA00.*7$", "$options": "i"}},
    {"objectId": {"$not": {"$regex": "7$"}}},
    {"candid": {"$mod": [11, 3]}},
    {
        "$or": [
            {"candidate.drb": {"$lt": 0.01}},
            {"$and": [{"candidate.fid": 3}, {"candidate.drb": {"$gt": 0.99}}]},
        ]
    },
    {"$nor": [{"candidate.fid": 1}, {"candidate.drb": {"$gt": 0.2}}]},
    {"created": {"$gte": datetime(2026, 11, 18, tzinfo=UTC)}},
    {"created": datetime(2026, 11, 3, 3, 4, 5, 678000)},
    {"objectId": {"$gt": 5}},
    {"candidate.drb": {"$type": "double"}, "objectId": {"$type": "string"}},
]


@pytest.mark.parametrize("condition", FILTERS, ids=str)
def test_a_filter_means_there_what_it_means_here(archive, condition):
    everything = archive.find("ZTF_alerts").docs
    expected = {one["candid"] for one in everything if matches(one, check_filter(condition))}
    assert {one["candid"] for one in archive.find("ZTF_alerts", condition)} == expected
    assert archive.count("ZTF_alerts", condition) == len(expected)


def test_sort_skip_limit_and_projection(archive):
    everything = archive.find("ZTF_alerts").docs
    for sort in ("-candidate.drb", [("candidate.fid", 1), ("candid", -1)], {"objectId": -1, "candid": 1}):
        expected = [one["candid"] for one in sort_documents(everything, check_sort(sort))][7:130]
        found = archive.find("ZTF_alerts", sort=sort, skip=7, limit=123, projection={"candid": 1, "_id": 0})
        assert [*found] == [{"candid": candid} for candid in expected]
    assert archive.find("ZTF_alerts", limit=0).docs == []
    assert archive.count("ZTF_alerts", {"candidate.fid": 1}, skip=100, limit=50) == 50


@pytest.mark.parametrize("field", ["candidate.fid", "tags", "matches.r", "classifications.braai"])
def test_distinct(archive, field):
    everything = archive.find("ZTF_alerts").docs
    parts = field.split(".")

    def values(value, path):
        if isinstance(value, list) and (path or value is not None):
            return [item for one in value for item in values(one, path)]
        if not path:
            return [value]
        return values(value[path[0]], path[1:]) if path[0] in value else []

    expected = {value for one in everything for value in values(one, parts)}
    found = archive.distinct("ZTF_alerts", field)
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_aggregate(archive):
    stages = [
        {"$match": {"candidate.drb": {"$gte": 0.5}}},
        {"$group": {"_id": "$candidate.fid", "n": {"$count": {}}}},
        {"$sort": {"_id": 1}},
    ]
    assert archive.aggregate("ZTF_alerts", stages).docs == [
        {"_id": fid, "n": COUNT // 6} for fid in (1, 2, 3)
    ]
    with pytest.raises(ForbiddenError):
        archive.aggregate("ZTF_alerts", [{"$out": "elsewhere"}])
    assert "elsewhere" not in archive.catalogs()


# Positions -------------------------------------------------------------------------------------------------------------


def expected_pairs(ra, dec, radius_arcsec, stored):
    centres, catalog = SkyCoord(ra, dec, unit="deg"), SkyCoord(RA[stored], DEC[stored], unit="deg")
    near = centres[:, None].separation(catalog[None, :]).arcsec <= radius_arcsec
    return {(int(i), int(stored[j])) for i, j in zip(*np.nonzero(near), strict=True)}


@pytest.mark.parametrize("catalog", ["ZTF_alerts", "ZTF_cells", "Gaia"])
@pytest.mark.parametrize(("radius", "count"), [(0.1, 150), (3, 60), (60, 20), (36000, 3)])
def test_cones(archive, catalog, radius, count):
    chosen = RNG.choice(COUNT, count, replace=False)
    ra, dec = RA[chosen], np.clip(DEC[chosen] + RNG.uniform(-1, 1, count) * radius / 5000, -90, 90)
    found = archive.cone_search(
        catalog, list(zip(ra.tolist(), dec.tolist(), strict=True)), f"{radius} arcsec"
    )
    stored = np.arange(0, COUNT, 2 if catalog == "Gaia" else 1)
    number = (lambda one: one["_id"]) if catalog == "Gaia" else (lambda one: one["candid"] - CANDID)
    assert {(one["input_index"], number(one)) for one in found} == expected_pairs(ra, dec, radius, stored)
    keys = [(one["input_index"], one["separation_arcsec"]) for one in found]
    assert keys == sorted(keys)
    assert found.complete


def test_near_gives_the_nearest_and_by_position_the_callers_names(archive):
    places = {"a.b": (0.0, 0.0), "pole": (77.0, 90.0), "empty": (123.4, 12.3)}
    found = archive.near(
        "ZTF_cells", places, "30 arcsec", min_distance="1 arcsec", limit=2, projection=["candid"]
    )
    groups = found.by_position()
    assert list(groups) == ["a.b", "pole", "empty"]
    for name, (ra, dec) in places.items():
        distance = np.sort(SkyCoord(ra, dec, unit="deg").separation(SkyCoord(RA, DEC, unit="deg")).arcsec)
        nearest = [d for d in distance if 1 <= d <= 30][:2]
        assert [one["separation_arcsec"] for one in groups[name]] == pytest.approx(nearest, abs=1e-6)


@pytest.mark.parametrize("catalog", ["ZTF_alerts", "ZTF_cells", "Gaia"])
def test_region(archive, catalog):
    vertices = [(350.0, -20.0), (20.0, -25.0), (25.0, 30.0), (355.0, 25.0)]
    found = archive.region_search(catalog, vertices, sort="_id")
    stored = np.arange(0, COUNT, 2 if catalog == "Gaia" else 1)
    inside = stored[Polygon(vertices).contains(RA[stored], DEC[stored])]
    number = (lambda one: one["_id"]) if catalog == "Gaia" else (lambda one: one["candid"] - CANDID)
    assert [number(one) for one in found] == inside.tolist()
    assert len(inside) > 100


def test_crossmatch(archive):
    found = archive.crossmatch(
        "ZTF_cells", "Gaia", 0.05 * u.arcsec, limit=1, filter={"candidate.fid": 1}, projection=["candid"]
    )
    numbers = np.arange(0, COUNT, 3)
    pairs = expected_pairs(RA[numbers], DEC[numbers], 0.05, np.arange(0, COUNT, 2))
    assert {one["candid"] - CANDID for one in found} == {int(numbers[index]) for index, _ in pairs}
    assert all(one.keys() == {"_id", "candid", "matches"} and len(one["matches"]) == 1 for one in found)


def test_async_gives_the_same(archive, url):
    places = list(zip(RA[:60].tolist(), DEC[:60].tolist(), strict=True))

    async def ask():
        async with nuncius.aio.open_archive(url) as opened:
            return await asyncio.gather(
                opened.count("ZTF_alerts", {"candidate.fid": 1}),
                opened.find("ZTF_alerts", {"candidate.fid": 1}, sort="candid"),
                opened.cone_search("ZTF_cells", places, "5 arcsec", limit=2),
                opened.crossmatch("ZTF_cells", "Gaia", "1 arcsec", filter={"candidate.drb": {"$lt": 0.05}}),
            )

    count, found, cones, crossed = asyncio.run(ask())
    assert count == len(found) == COUNT // 3
    assert found.docs == archive.find("ZTF_alerts", {"candidate.fid": 1}, sort="candid").docs
    assert cones.docs == archive.cone_search("ZTF_cells", places, "5 arcsec", limit=2).docs
    assert len(crossed) == len(
        archive.crossmatch("ZTF_cells", "Gaia", "1 arcsec", filter={"candidate.drb": {"$lt": 0.05}})
    )


# What fails --------------------------------------------------------------------------------------------------------------


def test_what_means_nothing_is_an_error(archive, server):
    with pytest.raises(NotFoundError, match="ZTF_alerts"):
        archive.find("ZTF_alert")
    with pytest.raises(UnsupportedError, match="2dsphere"):
        archive.cone_search("ZTF_alerts_aux", (1, 1), "1 arcsec")
    with pytest.raises(FilterError):
        archive.count("ZTF_alerts", {"candid": 2**70})
    with pytest.raises(FilterError, match="16 MB"):
        archive.count("ZTF_alerts", {"objectId": {"$in": ["x" * 1000] * 20_000}})
    with (
        open_archive(f"{server.url}/Kowalsky") as elsewhere,
        pytest.raises(NotFoundError, match="does not exist"),
    ):
        elsewhere.count("ZTF_alerts")


def test_a_deadline_is_kept_by_the_server_too(archive):
    ranges = [{"candid": {"$gte": n, "$lt": n + 1}} for n in range(5000)]
    with pytest.raises(DeadlineError, match="timeout_s"):
        archive.count("ZTF_alerts", {"$or": ranges}, timeout_s=0.3)


def test_logins(guarded, monkeypatch):
    url = f"{guarded.url}/kowalski?authSource=admin"
    with open_archive(url, credentials=("joe", "right")) as opened:
        assert opened.count("ZTF_alerts") == 1
        assert b"right" not in pickle.dumps(opened)
    for login, said in (
        (None, "NUNCIUS_MONGODB_USERNAME"),
        (("joe", "wrong"), "'joe'"),
        (("eve", "right"), "'eve'"),
    ):
        with open_archive(url, credentials=login) as opened, pytest.raises(LoginError, match=said) as caught:
            opened.count("ZTF_alerts")
        assert "wrong" not in str(caught.value)
    monkeypatch.setenv("NUNCIUS_MONGODB_USERNAME", "joe")
    monkeypatch.setenv("NUNCIUS_MONGODB_PASSWORD", "right")
    with open_archive(url) as opened:
        assert opened.catalogs() == ["ZTF_alerts"]


def test_a_server_that_dies_is_an_error_and_is_found_again(guarded):
    with guarded.client() as client:
        client.kowalski.many.insert_many({"_id": n} for n in range(2000))
    with open_archive(
        f"{guarded.url}/kowalski?authSource=admin", credentials=("joe", "right"), timeout_s=10
    ) as opened:
        reading = iter(opened.find("many"))
        assert next(reading) == {"_id": 0}
        guarded.kill()
        try:
            with pytest.raises(UnreachableError):
                list(reading)
            with pytest.raises(UnreachableError, match="does the server run"):
                opened.count("many", timeout_s=1)
        finally:
            guarded.start()
        assert opened.count("many") == len(opened.find("many").docs) == 2000


def _count_in_child(archive, answers):
    answers.put(archive.count("ZTF_alerts"))
    archive.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_it_may_be_carried_across_a_fork(archive):
    assert archive.count("ZTF_alerts") == COUNT
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    children = [fork.Process(target=_count_in_child, args=(archive, answers)) for _ in range(2)]
    for child in children:
        child.start()
    assert [answers.get(timeout=30) for _ in children] == [COUNT, COUNT]
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    assert archive.count("ZTF_alerts") == COUNT


def test_threads_share_one(archive):
    counts = []
    threads = [
        threading.Thread(target=lambda: counts.append(len(archive.find("ZTF_alerts").docs))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts == [COUNT] * 8
