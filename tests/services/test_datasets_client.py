"""A dserver by our client, in both colours, against the sandbox's: every question, and what it costs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import multiprocessing
import os
import pickle
import threading
import time
from datetime import UTC, datetime
from uuid import UUID

import pytest

import nuncius
from nuncius import aio
from nuncius.datasets import DataSet, DataSets, Manifest, Readme
from nuncius.errors import (
    ConfigurationError,
    FilterError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    NunciusError,
    PartialResultError,
    UnsupportedError,
)
from nuncius.sandbox import SandboxDServer

pytestmark = pytest.mark.xdist_group("datasets-client")

BASE, ODD, FAR, HIDDEN = "s3://night", "smb://a share/Nächte + 50% #1?", "s3://far", "s3://hidden"
FITS = b"SIMPLE  =                    T" + b" " * 50
PATHS = {"raw/a 1.fits": FITS, "b.fits": FITS, "notes.txt": b"clear\n", "raw/deep/c.FITS": FITS}


def number(n):
    return f"00000000-0000-4000-8000-{n:012d}"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    for name in list(os.environ):
        if name.startswith(("DSERVER_", "DTOOL_", "NUNCIUS_DSERVER")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def box():
    """Give a dserver with a few data sets that everybody may look at."""
    with SandboxDServer(contents=False) as running:
        running.uris_by_name = {}

        def add(name, **options):
            running.uris_by_name[name] = running.add(name, **{"base_uri": BASE} | options)

        add("origin", uuid=number(1), readme={"object": "SN2026a", "ra": "10:20:30"}, items=PATHS, tags=["raw", "both"],
            created_at=1604860720.736269, frozen_at=1604860720.736269, creator_username="carol")  # fmt: skip
        add("spectrum", uuid=number(2), readme={"object": "SN2026a", "kind": "spectrum"}, tags=["both"],
            derived_from=[number(1)], annotations={"n": 3, "nested": {"a": [1, 2]}, "text": "2020_11_08", "none": None})  # fmt: skip
        add(
            "result",
            uuid=number(3),
            readme="no yaml: [",
            derived_from=[number(2), number(99)],
            items={"r.fits": FITS},
        )
        add(
            "odd",
            base_uri=ODD,
            uuid=number(4),
            readme="Größe: 5\n",
            items={"Größe + 1.fits": FITS},
            tags=["ü"],
        )
        add("copy here", uuid=number(5))
        add("copy there", uuid=number(5), base_uri=FAR)
        add("by put", uuid=number(6), by_put=True, readme={"object": "SN2026b"})
        add("empty", uuid=number(7))
        running.add_base_uri(HIDDEN, search=["admin"], register=["admin"])
        add("hidden", uuid=number(8), base_uri=HIDDEN)
        running.add_base_uri(BASE, search=["testuser", "admin", "reader"], register=["testuser", "admin"])
        yield running


@pytest.fixture(autouse=True)
def restored(box):
    """Take back what a test changed in the server, and empty its log."""
    plugins = dict(box.plugins)
    box.requests.clear()
    yield
    box.clear_faults()
    box.plugins = plugins
    box.allow_direct_query, box.allow_aggregation, box.authenticate = True, False, True


async def done(value):
    """Give what a call of either colour returns. The sync ones run here too, inside of a running loop."""
    return await value if inspect.isawaitable(value) else value


async def all_of(pages):
    return [one async for one in pages] if hasattr(pages, "__aiter__") else list(pages)


@pytest.fixture(params=["sync", "async"])
def opened(request, box):
    """Open the server in either colour, as a context manager."""

    @contextlib.asynccontextmanager
    async def of_colour(who="testuser", **options):
        if "token" not in options and "credentials" not in options:
            options["token"] = box.tokens["expired"] if who == "expired" else box.make_token(who)
        opener = nuncius.open_dserver if request.param == "sync" else aio.open_dserver
        dserver = opener(box.url, interactive=False, **options)
        try:
            yield dserver
        finally:
            await done(dserver.close())

    return of_colour


def asked(box):
    return [(one.method, one.path) for one in box.requests]


def names(found):
    return sorted(row["name"] for row in found)


ALL = ["by put", "copy here", "copy there", "empty", "odd", "origin", "result", "spectrum"]


# Finding ----------------------------------------------------------------------------------------------------------------


async def test_a_search_for_everything(box, opened):
    async with opened() as dserver:
        found = await done(dserver.search())
    assert names(found) == ALL
    assert [row.uri for row in found] == sorted(row.uri for row in found)
    assert (found.total, found.sorting) == (8, {"uri": 1})
    assert asked(box) == [("POST", "/uris")]
    assert isinstance(found, DataSets)
    assert all(isinstance(row, DataSet) for row in found)


@pytest.mark.parametrize(
    ("asked_for", "found"),
    [
        ({"free_text": "SN2026a"}, ["origin", "spectrum"]),
        ({"free_text": "SN2026a SN2026b"}, ["by put", "origin", "spectrum"]),
        ({"free_text": "Größe"}, ["odd"]),
        ({"free_text": "nowhere"}, []),
        ({"tags": "both"}, ["origin", "spectrum"]),
        ({"tags": ["raw", "both"]}, ["origin"]),
        ({"tags": ["ü"]}, ["odd"]),
        ({"creator_usernames": "carol"}, ["origin"]),
        ({"creator_usernames": ["carol", "testuser"]}, ALL),
        ({"base_uris": [ODD, f"{FAR}/"]}, ["copy there", "odd"]),
        ({"base_uris": HIDDEN}, []),
        ({"base_uris": []}, []),
        ({"uuids": number(5)}, ["copy here", "copy there"]),
        ({"uuids": [number(6), number(1), number(77)]}, ["by put", "origin"]),
        ({"uuids": number(6), "free_text": "SN2026b"}, ["by put"]),
        ({"uuids": [number(1), number(6)], "free_text": "SN2026a SN2026b"}, ["by put", "origin"]),
        ({"uuids": [number(1), number(6)], "tags": "raw"}, ["origin"]),
        ({"uuids": number(5), "base_uris": FAR}, ["copy there"]),
        ({"uuids": number(8)}, []),
        (
            {"free_text": "SN2026a", "tags": ["raw"], "creator_usernames": ["carol"], "base_uris": BASE},
            ["origin"],
        ),
    ],
)
async def test_searches(box, opened, asked_for, found):
    async with opened() as dserver:
        assert names(await done(dserver.search(**asked_for))) == found
        assert names(await all_of(dserver.iter_data_sets(page_size=2, **asked_for))) == found


@pytest.mark.parametrize(("sort", "first"), [("name", "by put"), ("-name", "spectrum"), ("-creator_username,name", "by put"),
                                            (["creator_username", "+name"], "origin")])  # fmt: skip
async def test_searches_are_sorted(opened, sort, first):
    async with opened() as dserver:
        found = await done(dserver.search(sort=sort))
        assert found[0].name == first
        some = await done(dserver.search(uuids=[row.uuid for row in found], sort=sort))
        assert [row.name for row in some] == [row.name for row in found]
        with pytest.raises(FilterError, match="sort"):
            await done(dserver.search(sort="size_in_bytes"))


async def test_pages_one_at_a_time(opened):
    async with opened() as dserver:
        everything = await done(dserver.search(sort="name"))
        for page, expected in ((1, everything[:3]), (3, everything[6:]), (4, [])):
            found = await done(dserver.search(sort="name", page_number=page, page_size=3))
            assert (found, found.total) == (expected, 8)
        first = await done(dserver.search(sort="name", page_number=1, page_size=3))
        assert (first.total, first.pagination["last_page"], first.pagination["next_page"]) == (8, 3, 2)
        with pytest.raises(ConfigurationError, match="page_number="):
            await done(dserver.search(page_number=0))
        with pytest.raises(ConfigurationError, match="page_size="):
            await done(dserver.search(page_size=101))


async def test_a_page_of_what_is_decided_here_is_a_page_of_the_answer(opened):
    async with opened() as dserver:
        found = await done(dserver.search("SN2026a", uuids=number(2), page_number=1, page_size=1))
        assert (names(found), found.total) == (["spectrum"], 1)
        found = await done(dserver.query({"uuid": number(6)}, page_number=1, page_size=1))
        assert (names(found), found.total) == (["by put"], 1)
        found = await done(dserver.by_uuid(number(5), page_number=2, page_size=1))
        assert (len(found), found.total) == (1, 2)
        found = await done(
            dserver.search(uuids=[number(1), number(2), number(6)], page_number=2, page_size=1)
        )
        assert (found.total, found.sorting) == (3, {"uri": 1})
        assert found.pagination == {
            "total": 3,
            "total_pages": 3,
            "first_page": 1,
            "last_page": 3,
            "page": 2,
            "previous_page": 1,
            "next_page": 3,
        }


async def test_queries(box, opened):
    async with opened() as dserver:
        found = await done(dserver.query({"readme.object": {"$regex": "^SN2026"}}, sort="-name"))
        assert [row.name for row in found] == ["spectrum", "origin", "by put"]
        assert found[0].tags == ["both"]
        assert found.sorting == {"name": -1}
        assert names(await done(dserver.query('{"annotations.n": 3}'))) == ["spectrum"]
        assert names(await done(dserver.query({"uuid": {"$in": [number(1), number(6)]}}))) == [
            "by put",
            "origin",
        ]
        assert names(await done(dserver.query({}, uuids=number(6)))) == ["by put"]
        assert names(await done(dserver.query({}, tags=["both"], creator_usernames="carol"))) == ["origin"]
        assert names(await all_of(dserver.iter_data_sets(query={"tags": "both"}, page_size=1))) == [
            "origin",
            "spectrum",
        ]
        with pytest.raises(FilterError, match="no free text"):
            dserver.iter_data_sets("words", query={})
    assert set(asked(box)) == {("POST", "/mongo/query")}


async def test_aggregations(box, opened):
    stages = [{"$match": {"tags": "both"}}, {"$project": {"name": 1}}, {"$sort": {"name": 1}}]
    async with opened() as dserver:
        with pytest.raises(UnsupportedError, match="DSERVER_ALLOW_DIRECT_AGGREGATION"):
            await done(dserver.aggregate(stages))
        box.allow_aggregation = True
        assert [row["name"] for row in await done(dserver.aggregate(stages))] == ["origin", "spectrum"]
        assert await done(dserver.aggregate('[{"$match": {"tags": "none"}}]')) == []
        with pytest.raises(FilterError):
            await done(dserver.aggregate("nonsense"))


@pytest.mark.parametrize("plugin", ["dserver_direct_mongo_plugin", "dserver_dependency_graph_plugin"])
async def test_a_missing_plugin_is_named(box, opened, plugin):
    del box.plugins[plugin]
    async with opened() as dserver:
        with pytest.raises(UnsupportedError, match=plugin.replace("_", "-")):
            await done(dserver.query({}) if "mongo" in plugin else dserver.graph(number(1)))


async def test_three_hundred_data_sets(opened, box):
    # In a server of its own: they would be in the way of the others.
    with SandboxDServer(contents=False) as large:
        for n in range(300):
            large.add(f"n{n:03d}", base_uri=BASE, uuid=number(n))
        async with opened(token=large.token) as dserver:
            dserver._service.base = large.url
            assert names(await done(dserver.search())) == [f"n{n:03d}" for n in range(300)]
            assert len(await all_of(dserver.iter_data_sets())) == 300
            assert len(await done(dserver.query({}))) == 300
        assert [one.path for one in large.requests] == ["/uris"] * 6 + ["/mongo/query"] * 3


async def test_nothing_is_asked_before_it_is_wanted_and_one_page_ahead(box, opened):
    async with opened() as dserver:
        pages = dserver.iter_data_sets(page_size=1)
        assert asked(box) == []
        await done(pages.__anext__() if hasattr(pages, "__anext__") else next(pages))
        await asyncio.sleep(0.3)
        assert len(asked(box)) == 2
        await done(pages.close())
        assert await all_of(pages) == []
        assert len(asked(box)) == 2


# What is in a data set --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["origin", "odd"])
async def test_everything_of_one_data_set(box, opened, name):
    uri = box.uris_by_name[name]
    async with opened() as dserver:
        found = await done(dserver.data_set(uri))
        assert (found.uri, found.name) == (uri, name)
        for given in (uri, found, dict(found)):
            readme = await done(dserver.readme(given))
            assert isinstance(readme, Readme)
            assert readme.data == ({"Größe": 5} if name == "odd" else {"object": "SN2026a", "ra": "10:20:30"})
            assert (await done(dserver.tags(given))) == (["ü"] if name == "odd" else ["raw", "both"])
            assert (await done(dserver.annotations(given))) == {}
            manifest = await done(dserver.manifest(given))
            assert isinstance(manifest, Manifest)
            assert [item.relpath for item in manifest.files] == (
                ["Größe + 1.fits"] if name == "odd" else sorted(PATHS)
            )
    if name == "origin":
        assert found.frozen == datetime(2020, 11, 8, 18, 38, 40, 736269, tzinfo=UTC)


async def test_readmes_that_are_no_yaml_or_nothing(box, opened):
    async with opened() as dserver:
        assert await done(dserver.readme(box.uris_by_name["empty"])) == ""
        broken = await done(dserver.readme(box.uris_by_name["result"]))
    assert (broken, broken.data) == ("no yaml: [", None)
    assert broken.error


async def test_annotations_are_what_they_were(box, opened):
    uri = box.uris_by_name["spectrum"]
    async with opened() as dserver:
        found = await done(dserver.annotations(uri))
        assert {name: found[name] for name in ("n", "nested", "text", "none")} == {
            "n": 3,
            "nested": {"a": [1, 2]},
            "text": "2020_11_08",
            "none": None,
        }
        raw = await done(dserver.annotations(uri, raw=True))
        assert (raw.n, raw.nested) == ("3", "{'a': [1, 2]}")


@pytest.mark.parametrize("what", ["data_set", "readme", "manifest", "tags", "annotations", "items"])
async def test_what_is_not_there_or_not_ours(opened, what):
    async with opened() as dserver:
        with pytest.raises(NotFoundError, match=f"does not have {BASE}/nowhere"):
            await done(getattr(dserver, what)(f"{BASE}/nowhere"))
        for uri in (f"{HIDDEN}/{number(8)}", "s3://unknown/x"):
            with pytest.raises(ForbiddenError, match="makes no difference"):
                await done(getattr(dserver, what)(uri))
        for strange in ("", None, 5, [], {"name": "x"}, b"s3://x", "s3://../../me"):
            with pytest.raises(FilterError):
                await done(getattr(dserver, what)(strange))


async def test_a_manifest_is_read_once(box, opened):
    async with opened() as dserver:
        found = (await done(dserver.search(tags="raw")))[0]
        (same,) = await done(dserver.query({"tags": "raw"}))  # its times are to the millisecond
        box.requests.clear()
        first = await done(dserver.manifest(found))
        first["items"].clear()
        second = await done(dserver.manifest(found))
        assert [item.relpath for item in second.files] == sorted(PATHS)
        assert asked(box) == [("GET", f"/manifests/s3/night/{number(1)}")]
        await done(dserver.manifest(same))
        assert len(asked(box)) == 1
        await done(dserver.manifest(DataSet(found, frozen_at=found.frozen_at + 1)))
        await done(dserver.manifest(found.uri))
        assert len(asked(box)) == 3
        (details,) = await done(dserver.get_many([found], "manifest"))
        assert details.manifest == second
        assert len(await done(dserver.items(found))) == len(PATHS)
        assert len(asked(box)) == 3
    async with opened(manifest_cache=False) as dserver:
        for _ in range(2):
            await done(dserver.manifest(found))
    assert len(asked(box)) == 5


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.fits", ["raw/a 1.fits", "b.fits", "r.fits", "Größe + 1.fits"]),
        ("*.[Ff][Ii][Tt][Ss]", ["raw/a 1.fits", "b.fits", "r.fits", "Größe + 1.fits", "raw/deep/c.FITS"]),
        ("raw/*", ["raw/a 1.fits", "raw/deep/c.FITS"]),
        ("raw/*.fits", ["raw/a 1.fits"]),
        ("Größe*", ["Größe + 1.fits"]),
        ("nothing", []),
    ],
)
async def test_items_are_found(opened, pattern, found):
    async with opened() as dserver:
        items = await done(dserver.find_items(pattern))
    assert sorted(item.relpath for item in items) == sorted(found)


async def test_items_are_found_in_what_is_named_or_searched_for(box, opened):
    async with opened() as dserver:
        for given in (
            [box.uris_by_name["origin"]],
            box.uris_by_name["origin"],
            await done(dserver.search(tags="raw")),
        ):
            assert len(await done(dserver.find_items("*.fits", given))) == 2
        assert len(await done(dserver.find_items("*.fits", free_text="SN2026a", tags="raw"))) == 2
        with pytest.raises(FilterError, match="not both"):
            await done(dserver.find_items("*", [], tags="raw"))
        with pytest.raises(FilterError, match="a pattern is a text"):
            await done(dserver.find_items(5))
        gone = [box.uris_by_name["origin"], f"{BASE}/gone", f"{HIDDEN}/x"]
        with pytest.raises(PartialResultError, match="2 of the data sets could not be read") as caught:
            await done(dserver.find_items("*.fits", gone))
        assert len(caught.value.result) == 2
        assert len(await done(dserver.find_items("*.fits", gone, allow_partial=True))) == 2


async def test_many_come_in_the_order_asked(box, opened):
    uris = [box.uris_by_name[name] for name in ("result", "origin", "empty", "odd", "origin")]
    async with opened() as dserver:
        found = await done(dserver.get_many(iter(uris), ("tags", "data_set", "readme")))
        assert [details.uri for details in found] == [details.data_set.uri for details in found] == uris
        assert [details.tags for details in found] == [[], ["raw", "both"], [], ["ü"], ["raw", "both"]]
        assert len(asked(box)) == 15
        assert await done(dserver.get_many([])) == []
        (one,) = await done(dserver.get_many(uris[0]))
        assert one.readme == "no yaml: ["


def test_a_manifest_that_is_registered_anew_is_read_anew():
    entry = {"hash": "x", "relpath": "new.fits", "size_in_bytes": 3, "utc_timestamp": 1.0}
    anew = {"dtoolcore_version": "3.19.0", "hash_function": "md5sum_hexdigest", "items": {"f" * 40: entry}}
    with SandboxDServer(contents=False) as own, nuncius.open_dserver(own.url, token=own.token) as dserver:
        known = dserver.data_set(own.add("a", base_uri=BASE, by_put=True))
        assert dserver.manifest(known).files == []
        values = known | {"type": "dataset", "readme": "", "annotations": {}, "tags": [], "manifest": anew}
        assert not dserver.register_data_set(values)
        assert [item.relpath for item in dserver.manifest(known).files] == ["new.fits"]


async def test_what_fails_of_many_is_said_of_each(box, opened):
    uris = [box.uris_by_name["origin"], f"{BASE}/gone", f"{HIDDEN}/x"]
    async with opened() as dserver:
        with pytest.raises(PartialResultError, match=f"the first is {BASE}/gone") as caught:
            await done(dserver.get_many(uris, ["readme", "tags"]))
        found = await done(dserver.get_many(uris, ["readme", "tags"], allow_partial=True))
    assert {uri: type(error) for uri, error in caught.value.failures.items()} == {
        uris[1]: NotFoundError,
        uris[2]: ForbiddenError,
    }
    for result in (caught.value.result, found):
        assert [[type(error) for error in details.errors.values()] for details in result] == [
            [],
            [NotFoundError] * 2,
            [ForbiddenError] * 2,
        ]
        assert result[0].tags == ["raw", "both"]


# Graphs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [1, 2, 3])
async def test_a_graph_is_the_same_from_everywhere(opened, start):
    async with opened() as dserver:
        graph = await done(dserver.graph(number(start)))
        assert set(graph.edges) == {(number(2), number(1)), (number(3), number(2)), (number(3), number(99))}
        assert graph.missing == [number(99)]
        (found,) = await done(dserver.by_uuid(number(start)))
        assert (await done(dserver.graph(found))).edges == graph.edges


async def test_a_graph_by_other_keys(opened):
    async with opened() as dserver:
        graph = await done(dserver.graph(number(2), dependency_keys="readme.nothing"))
    assert (graph.edges, len(graph) <= 1) == ([], True)


async def test_a_graph_that_there_is_not(opened):
    async with opened() as dserver:
        with pytest.raises(NotFoundError, match="has no data set"):
            await done(dserver.graph(number(77)))
        with pytest.raises(UnsupportedError, match="registered over HTTP"):
            await done(dserver.graph(number(6)))


# Who may what -----------------------------------------------------------------------------------------------------------


async def test_the_five_tokens(opened):
    async with opened("reader") as dserver:
        assert {row.base_uri for row in await done(dserver.search())} == {BASE}
        with pytest.raises(ForbiddenError, match="only its administrators"):
            await done(dserver.users())
    async with opened("nobody") as dserver:
        assert await done(dserver.search()) == []
        assert await done(dserver.search("SN2026a")) == []  # an answer without any word of pages
        assert (await done(dserver.me())).search_permissions_on_base_uris == []
    async with opened("unknown") as dserver:
        with pytest.raises(LoginError, match="its user is not registered"):
            await done(dserver.search())
    async with opened("expired") as dserver:
        with pytest.raises(LoginError, match="Token has expired"):
            await done(dserver.search())
    async with opened(token="garbage") as dserver:
        with pytest.raises(LoginError, match="refuses the token from token="):
            await done(dserver.search())
    async with opened("admin") as dserver:
        assert "hidden" in names(await done(dserver.search()))


async def test_users_and_base_uris(box, opened):
    async with opened("admin") as dserver:
        assert await done(dserver.register_user("Üser one+two@example.org")) is True
        assert await done(dserver.register_user("Üser one+two@example.org", is_admin=True)) is False
        user = await done(dserver.user("Üser one+two@example.org"))
        assert (user.username, user.is_admin) == ("Üser one+two@example.org", True)
        assert await done(dserver.register_user("bob")) is True
        assert (
            await done(dserver.register_base_uri("s3://new + ü", search="bob", register=["bob", "testuser"]))
            is True
        )
        assert await done(dserver.register_base_uri("s3://new + ü", search=["bob"])) is False
        base_uri = await done(dserver.base_uri("s3://new + ü"))
        assert (base_uri.users_with_search_permissions, base_uri.users_with_register_permissions) == (
            ["bob"],
            [],
        )
        assert {"s3://new + ü", BASE, ODD} <= set(await done(dserver.base_uris()))
        assert {"bob", "admin"} <= {row.username for row in await done(dserver.users())}
        assert (await done(dserver.summary("bob"))).number_of_datasets == 0
        await done(dserver.delete_base_uri("s3://new + ü"))
        for name in ("bob", "bob", "Üser one+two@example.org"):
            await done(dserver.delete_user(name))
        with pytest.raises(NotFoundError):
            await done(dserver.user("bob"))
        with pytest.raises(NotFoundError):
            await done(dserver.base_uri("s3://new + ü"))


async def test_a_uri_can_not_lead_to_a_user(box, opened):
    box.add_user("bob")
    async with opened("admin") as dserver:
        for uri in ("s3://../../users/bob", "s3://night/../../../users/bob", "..", "s3://./users/bob"):
            with pytest.raises(FilterError):
                await done(dserver.delete_data_set(uri))
            with pytest.raises(FilterError):
                await done(dserver.delete_base_uri(uri))
        assert (await done(dserver.user("bob"))).username == "bob"
        await done(dserver.delete_user("bob"))


async def test_what_the_server_says_of_itself(box, opened):
    async with opened() as dserver:
        assert (await done(dserver.me())).username == "testuser"
        assert (await done(dserver.user())).username == "testuser"
        summary = await done(dserver.summary())
        assert (summary.number_of_datasets, summary.datasets_per_tag["both"]) == (8, 2)
        assert (await done(dserver.config())).allow_direct_query is True
        versions = await done(dserver.versions())
        assert versions["dservercore"]
        versions.clear()
        assert await done(dserver.versions())
        with pytest.raises(ForbiddenError):
            await done(dserver.user("admin"))
    box.authenticate = False
    async with opened(token=None, authenticate=False) as dserver:
        assert (await done(dserver.me())).username == "testuser"


async def test_registering_and_deleting(opened):
    frozen = datetime(2026, 3, 1, 12, tzinfo=UTC)
    values = {
        "uuid": number(50),
        "base_uri": BASE,
        "uri": f"{BASE}/{number(50)}",
        "name": "Neu",
        "type": "dataset",
        "readme": "a: 1",
        "manifest": {"dtoolcore_version": "3", "hash_function": "md5sum_hexdigest", "items": {}},
        "creator_username": "testuser",
        "frozen_at": frozen,
        "annotations": {"n": 3},
        "tags": ["new"],
    }
    async with opened() as dserver:
        try:
            assert await done(dserver.register_data_set(values)) is True
            assert await done(dserver.register_data_set({**values, "frozen_at": frozen.timestamp()})) is False
            found = await done(dserver.data_set(values["uri"]))
            assert (found.name, found.frozen) == ("Neu", frozen)
            assert (await done(dserver.annotations(found))).n == 3
        finally:
            await done(dserver.delete_data_set(values["uri"]))
        await done(dserver.delete_data_set(values["uri"]))
        with pytest.raises(NotFoundError):
            await done(dserver.data_set(values["uri"]))
        # Its searches still find it; opening it says that it is gone.
        assert names(await done(dserver.search(tags="new"))) == ["Neu"]
        for wrong in ({"type": "protodataset"}, {"uri": f"{BASE}/x", "base_uri": f"{BASE}/"}, {"uuid": "none"}, {"uri": 5},
                      {"frozen_at": datetime(2026, 3, 1)}, {"tags": {1, 2}}, {"name": None}):  # fmt: skip
            with pytest.raises((ConfigurationError, ForbiddenError)):
                await done(dserver.register_data_set(values | wrong))
        with pytest.raises(ConfigurationError, match="without uuid, base_uri"):
            await done(dserver.register_data_set({}))
        with pytest.raises(ForbiddenError):
            await done(
                dserver.register_data_set(values | {"base_uri": HIDDEN, "uri": f"{HIDDEN}/{number(50)}"})
            )
        with pytest.raises(ForbiddenError):
            await done(dserver.delete_data_set(f"{HIDDEN}/{number(8)}"))


# What it costs ----------------------------------------------------------------------------------------------------------


async def test_one_request_a_call_through_one_connection_and_no_probe(box, opened):
    uri = box.uris_by_name["origin"]
    async with opened() as dserver:
        for call in (
            dserver.search,
            lambda: dserver.search("SN2026a"),
            lambda: dserver.query({}),
            lambda: dserver.by_uuid(number(1)),
            lambda: dserver.data_set(uri),
            lambda: dserver.readme(uri),
            lambda: dserver.manifest(uri),
            lambda: dserver.tags(uri),
            lambda: dserver.annotations(uri),
            lambda: dserver.items(uri),
            lambda: dserver.graph(number(1)),
            dserver.me,
            dserver.summary,
            dserver.config,
            dserver.versions,
        ):
            before = len(box.requests)
            await done(call())
            assert len(box.requests) == before + 1
    assert {one.status for one in box.requests} == {200}
    assert len({one.port for one in box.requests}) == 1
    assert not any(one.path == "/token" for one in box.requests)


async def test_a_login_costs_one_request(box, opened):
    async with opened(credentials=(box.username, box.password), token_url=box.url) as dserver:
        for _ in range(3):
            await done(dserver.me())
        await done(dserver.get_many([box.uris_by_name["origin"]] * 20))
    assert [one.path for one in box.requests].count("/token") == 1
    assert len(box.requests) == 24


async def test_many_are_asked_side_by_side(box, opened):
    uris = [box.uris_by_name["origin"]] * 64
    box.delay(0.05, times=64)
    async with opened() as dserver:
        begin = time.monotonic()
        found = await done(dserver.get_many(uris))
        took_s = time.monotonic() - begin
    assert len(found) == 64
    assert took_s < 64 * 0.05 * 0.7  # in turn it would take 3.2 s, eight at a time 0.4 s
    assert len({one.port for one in box.requests}) <= 8


async def test_the_time_of_each_request_begins_when_it_does(box, opened):
    box.delay(0.2, times=12)
    async with opened() as dserver:
        found = await done(dserver.get_many([box.uris_by_name["origin"]] * 12, limit=2, timeout_s=0.8))
    assert len(found) == 12  # all together take 1.2 s


async def test_as_many_at_a_time_as_is_said(box, opened):
    box.delay(0.02, times=12)
    async with opened() as dserver:
        await done(dserver.get_many([box.uris_by_name["origin"]] * 12, limit=2))
    assert len({one.port for one in box.requests}) <= 2


@pytest.mark.parametrize(("life_s", "seconds"), [(15, 1.0), (2, 2.5)])
async def test_tokens_that_live_short_under_load(box, opened, life_s, seconds):
    uri, box.token_life_s = box.uris_by_name["origin"], life_s
    try:
        async with opened(credentials=(box.username, box.password), token_url=box.token_url) as dserver:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                found = await done(dserver.get_many([uri] * 8, "tags"))
                assert [details.tags for details in found] == [["raw", "both"]] * 8
                await asyncio.sleep(0.02)
    finally:
        box.token_life_s = 900.0
    paths = [one.path for one in box.requests]
    # Each is renewed at half its life, so that no answer is lost; and never twice for the same moment.
    assert 1 <= paths.count("/token") <= seconds / (life_s / 2 - 0.5 if life_s > 2 else 0.25) + 2
    refused = [one for one in box.requests if one.status == 401]
    assert len(refused) <= 2 * paths.count("/token")
    assert len(paths) > 20


async def test_all_tokens_are_taken_back_under_load(box, opened):
    uri = box.uris_by_name["origin"]
    async with opened(credentials=(box.username, box.password), token_url=box.token_url) as dserver:
        for _ in range(3):
            assert len(await done(dserver.get_many([uri] * 16, "tags"))) == 16
            box.expire_tokens()
    paths = [one.path for one in box.requests]
    assert paths.count("/token") == 3
    assert len([one for one in box.requests if one.status == 401]) <= 16


# Where it runs ----------------------------------------------------------------------------------------------------------


def test_eight_threads_with_two_hundred_calls_each(box):
    uris = [box.uris_by_name[name] for name in ("origin", "spectrum", "result", "odd")]
    with nuncius.open_dserver(
        box.url, credentials=(box.username, box.password), token_url=box.token_url, interactive=False
    ) as dserver:
        expected = {uri: str(dserver.readme(uri)) for uri in uris}

        def work(thread):
            return [
                str(dserver.readme(uris[(thread + n) % 4])) == expected[uris[(thread + n) % 4]]
                for n in range(200)
            ]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            results = list(pool.map(work, range(8)))
    assert all(all(one) for one in results)
    assert [one.path for one in box.requests].count("/token") == 1
    assert len(box.requests) == 1605
    assert len({one.port for one in box.requests}) <= 9


async def test_a_hundred_tasks_of_one_loop(box):
    async with aio.open_dserver(
        box.url, credentials=(box.username, box.password), token_url=box.token_url, interactive=False
    ) as dserver:
        found = await asyncio.gather(*(dserver.tags(box.uris_by_name["origin"]) for _ in range(100)))
    assert found == [["raw", "both"]] * 100
    assert [one.path for one in box.requests].count("/token") == 1


def test_one_loop_after_the_other(box):
    dserver = aio.open_dserver(box.url, token=box.token, interactive=False)
    for _ in range(2):
        assert asyncio.run(dserver.tags(box.uris_by_name["origin"])) == ["raw", "both"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_gets_connections_of_its_own(box):
    uri = box.uris_by_name["origin"]
    with nuncius.open_dserver(box.url, token=box.token, interactive=False) as dserver:
        assert dserver.tags(uri) == ["raw", "both"]
        context = multiprocessing.get_context("fork")
        theirs, ours = context.Pipe(), None

        def child():
            theirs[1].send((dserver.tags(uri), len(dserver.get_many([uri] * 4))))

        process = context.Process(target=child, daemon=True)
        process.start()
        ours = theirs[0].recv() if theirs[0].poll(30) else None
        process.join(10)
        assert ours == (["raw", "both"], 4)
        assert dserver.tags(uri) == ["raw", "both"]
    first, last = box.requests[0].port, box.requests[-1].port
    assert first == last
    assert len({one.port for one in box.requests}) >= 2


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_dserver_that_was_pickled_answers(box, monkeypatch, colour):
    monkeypatch.setenv("DSERVER_URL", box.url)
    monkeypatch.setenv("DSERVER_TOKEN", box.token)
    dserver = (nuncius if colour == "sync" else aio).open_dserver(interactive=False)
    twin = pickle.loads(pickle.dumps(dserver))
    found = twin.me()
    assert (found if colour == "sync" else asyncio.run(found)).username == "testuser"
    if colour == "sync":
        twin.close()


def test_what_was_found_is_pickled(box):
    with nuncius.open_dserver(box.url, token=box.token, interactive=False) as dserver:
        found = [dserver.search(), dserver.manifest(box.uris_by_name["origin"]), dserver.graph(number(1)),
                 dserver.readme(box.uris_by_name["origin"]), dserver.items(box.uris_by_name["origin"]),
                 dserver.get_many([box.uris_by_name["origin"]], ("readme", "manifest"))]  # fmt: skip
    for one in found:
        twin = pickle.loads(pickle.dumps(one))
        assert type(twin) is type(one)
        assert repr(twin) == repr(one)


def test_a_closed_one_opens_again(box):
    dserver = nuncius.open_dserver(box.url, token=box.token, interactive=False)
    for _ in range(2):
        assert dserver.me().username == "testuser"
        dserver.close()
        dserver.close()


def test_many_clients_leave_nothing_behind(box):
    before = threading.active_count()
    for _ in range(10):
        with nuncius.open_dserver(box.url, token=box.token, interactive=False) as dserver:
            list(dserver.iter_data_sets(page_size=5))
            dserver.get_many([box.uris_by_name["origin"]] * 3)
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.02)
    assert threading.active_count() <= before


async def test_every_method_takes_a_time(opened):
    async with opened() as dserver:
        for name, method in inspect.getmembers(dserver, callable):
            if name.startswith("_") or name == "close":
                continue
            assert "timeout_s" in inspect.signature(method).parameters, name
        with pytest.raises(ConfigurationError, match="timeout_s="):
            await done(dserver.me(timeout_s=-1))
        assert (await done(dserver.me(timeout_s=float("inf")))).username == "testuser"


def test_both_colours_have_the_same_methods():
    sync, awaited = nuncius.datasets.DServer, nuncius.datasets.AsyncDServer
    public = {name for name in dir(sync) if not name.startswith("_")}
    assert public == {name for name in dir(awaited) if not name.startswith("_")}
    for name in public - {"url", "token_url"}:
        assert (
            inspect.signature(getattr(sync, name)).parameters.keys()
            == inspect.signature(getattr(awaited, name)).parameters.keys()
        )


async def test_a_data_set_is_named_in_many_ways(box, opened):
    async with opened() as dserver:
        known = await done(dserver.data_set(box.uris_by_name["origin"]))
        for name in (known, dict(known), known.uuid, known.uuid.upper(), UUID(known.uuid)):
            assert known.uri in {row.uri for row in await done(dserver.by_uuid(name))}
            assert (await done(dserver.graph(name))).uuid == known.uuid
        for name in (known, dict(known), known.uri, [known.uri]):
            assert [details.uri for details in await done(dserver.get_many(name))] == [known.uri]
            assert {item.data_set_uri for item in await done(dserver.find_items("*", name))} == {known.uri}


@pytest.mark.parametrize(
    "ask",
    [
        lambda dserver: dserver.by_uuid(None),
        lambda dserver: dserver.graph(None),
        lambda dserver: dserver.get_many(5),
        lambda dserver: dserver.find_items("*", 5),
        lambda dserver: dserver.delete_user(None),  # not oneself
        lambda dserver: dserver.register_user(None),
        lambda dserver: dserver.register_data_set(None),
        lambda dserver: dserver.get_many("s3://night/a", what=None),
    ],
)
async def test_what_names_nothing_is_not_asked_for(box, opened, ask):
    async with opened() as dserver:
        with pytest.raises((FilterError, ConfigurationError)):
            await done(ask(dserver))
    assert box.requests == []


async def test_errors_are_ours(opened):
    async with opened() as dserver:
        for call in (
            lambda: dserver.by_uuid(""),
            lambda: dserver.user(".."),
            lambda: dserver.base_uri(""),
            lambda: dserver.query({"a": {"$nonsense": 1}}),
            lambda: dserver.query({"a": float("nan")}),
            lambda: dserver.get_many(["s3://a/b"], what="everything"),
            lambda: dserver.get_many([None]),
            lambda: dserver.search("a", page_size="all"),
            lambda: dserver.search(tags=5),
            lambda: dserver.aggregate({"no": "list"}),
            lambda: dserver.graph(None),
            lambda: dserver.register_user(5),
        ):
            with pytest.raises(NunciusError):
                await done(call())
