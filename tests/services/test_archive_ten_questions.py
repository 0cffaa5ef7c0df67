"""The same ten questions to a file, to a server on it, and to a federation: equal answers, in both colours."""

import asyncio
import inspect

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from nuncius import aio, open_archive
from nuncius.sandbox import SandboxKowalski
from nuncius.sandbox.kowalski import REFERENCE_CATALOG, fill_archive

ALERTS = "ZTF_alerts"
WITHOUT_IMAGES = {"cutoutScience": 0, "cutoutTemplate": 0, "cutoutDifference": 0}


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    path = tmp_path_factory.mktemp("night") / "night.db"
    fill_archive(path, alerts=150)
    return path


@pytest.fixture(scope="module")
def servers(night):
    with SandboxKowalski(archive=night) as one, SandboxKowalski(name="other", archive=night) as other:
        yield one, other


@pytest.fixture(params=["server", "federation", "server and file"])
def elsewhere(request, night, servers):
    """What `open_archive` takes, and its login."""
    first, second = ({"url": server.url, "token": server.token} for server in servers)
    return {
        "server": {"only": first},
        "federation": {"one": first, "two": second},
        "server and file": {"there": first, "here": {"url": str(night), "read_only": True}},
    }[request.param]


@pytest.fixture(scope="module")
def places(night):
    """Positions of alerts, one of nothing, and one on the other side of the sky, under names with dots."""
    with open_archive(night, read_only=True) as archive:
        found = archive.find(
            ALERTS, projection=["candid", "candidate.ra", "candidate.dec"], sort="candid", limit=40
        )
        named = {f"obj.{d['candid']}": (d["candidate"]["ra"], d["candidate"]["dec"]) for d in found}
    return {**named, "no.where": (12.0, -88.0)}


def questions(places):
    table = Table({"ra": [p[0] for p in places.values()], "dec": [p[1] for p in places.values()]})
    by_hand = {"candidate.drb": {"$gt": np.float32(0.5)}, "candidate.fid": {"$in": [1, 2]}}
    group = {"$group": {"_id": "$candidate.fid", "n": {"$sum": 1}, "faint": {"$max": "$candidate.magpsf"}}}
    vertices = [(0.0, -40.0), (180.0, -40.0), (180.0, 50.0), (0.0, 50.0)]
    return [
        lambda a: a.find(ALERTS, by_hand, projection=WITHOUT_IMAGES, sort=[("candid", 1)]),
        lambda a: a.find(ALERTS, projection=["candid"], sort="-candid", skip=3, limit=20),
        lambda a: a.find_one(ALERTS, {"candidate.magpsf": {"$lt": 30}}, sort="candid", projection=["objectId"]),
        lambda a: a.count(ALERTS, {"$or": [{"candidate.fid": 2}, {"candidate.magpsf": {"$gt": 20}}]}),
        lambda a: a.distinct(ALERTS, "objectId", {"candidate.fid": {"$ne": 3}}),
        lambda a: a.aggregate(ALERTS, [{"$match": {"candidate.drb": {"$gte": 0.1}}}, group, {"$sort": {"_id": 1}}]),
        lambda a: a.cone_search(ALERTS, places, 3 * u.arcsec, projection=["candid"]),
        lambda a: a.near(
            ALERTS, table, "20 arcsec", min_distance="0.01 arcsec", projection={"_id": 0, "candid": 1}, limit=2
        ),
        lambda a: a.region_search(ALERTS, vertices, projection=["candid"], sort="candid"),
        lambda a: a.crossmatch(
            ALERTS, REFERENCE_CATALOG, "2 arcsec", filter={"candidate.fid": 1}, projection=["candid"],
            right_projection=["source_id"], limit=1,
        ),
    ]  # fmt: skip


def plain(answer):
    """Bring answers to one form: ids as text, separations rounded, and the order where none was asked for."""
    if isinstance(answer, dict):
        return {name: str(value) if name == "_id" else plain(value) for name, value in sorted(answer.items())}
    if isinstance(answer, float):
        return round(answer, 6)
    if isinstance(answer, (str, int)) or answer is None:
        return answer
    return [plain(item) for item in answer]


def unordered(answer):
    return sorted(answer, key=lambda document: document["candid"]) if isinstance(answer, list) else answer


@pytest.mark.parametrize("number", range(10))
def test_the_answer_is_the_same_wherever_it_is_asked(number, night, elsewhere, places):
    question = questions(places)[number]
    with open_archive(night, read_only=True) as here, open_archive(elsewhere) as there:
        wanted, got = plain(question(here)), plain(question(there))
    assert wanted not in ([], None, 0)
    if number == 9:
        wanted, got = unordered(wanted), unordered(got)
    assert got == wanted


@pytest.mark.parametrize("number", range(10))
def test_the_answer_is_the_same_when_it_is_awaited(number, night, elsewhere, places):
    question = questions(places)[number]

    async def ask(url):
        async with aio.open_archive(url, read_only=True) as archive:
            asked = question(archive)
            assert inspect.isawaitable(asked)
            return plain(await asked)

    with open_archive(night, read_only=True) as here:
        wanted = plain(question(here))
    for url in (str(night), elsewhere):
        got = asyncio.run(ask(url))
        assert (unordered(got) if number == 9 else got) == (unordered(wanted) if number == 9 else wanted)


def test_positions_keep_the_names_that_the_caller_gave(elsewhere, places):
    with open_archive(elsewhere) as archive:
        found = archive.cone_search(ALERTS, places, "1 arcsec", projection=["candid"]).by_position()
    assert list(found) == list(places)
    assert found["no.where"] == []
    assert all(found[name] for name in places if name != "no.where")
    for name, near in found.items():
        assert any(name == f"obj.{document['candid']}" for document in near) or name == "no.where"
