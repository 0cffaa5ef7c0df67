"""Our client, in both colours, at the real dserver and at the sandbox's: what it finds."""

import collections
import time
from datetime import UTC, datetime

import pytest
from dserver_support import BULK, CLOSED, DATA, MANY, NIGHT, ODD, SEARCHED, SEEN, by_uri, uuid_of

from nuncius.errors import (
    FilterError,
    ForbiddenError,
    NotFoundError,
    PartialResultError,
    ServerError,
    UnsupportedError,
)

pytestmark = pytest.mark.xdist_group("dserver-peer")


# What is in data sets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", SEEN)
def test_a_data_set_and_all_that_belongs_to_it(server, call, key):
    known, uri = DATA[key], server.uris[key]
    found = call("data_set", uri)
    assert dict(found) == known.row(uri)
    assert found.created == datetime.fromtimestamp(known.created_at, UTC)
    assert found.frozen == datetime.fromtimestamp(known.frozen_at, UTC)
    assert call("readme", found) == known.readme
    assert sorted(call("tags", uri)) == sorted(known.tags)
    assert call("annotations", uri) == known.annotations
    items = call("items", uri)
    assert [item.relpath for item in items] == sorted(known.items)
    assert {item.identifier: item.size for item in items} == {
        identifier: entry["size_in_bytes"] for identifier, entry in known.items_by_id.items()
    }
    assert all(item.modified.tzinfo is not None and item.data_set_uri == uri for item in items)


def test_readmes_that_are_yaml_and_that_are_not(server, call):
    good, bad, empty = (call("readme", server.uris[key]) for key in ("nova", "words", "empty"))
    assert good.data["owners"] == [{"name": "Carol Herschel", "username": "carol"}]
    assert (bad.data, bad) == (None, DATA["words"].readme)
    assert bad.error
    assert (empty, empty.data, empty.error) == ("", None, None)


def test_a_manifest(server, call):
    manifest = call("manifest", server.uris["wide"])
    assert manifest["hash_function"] == "md5sum_hexdigest"
    assert len(manifest.files) == 200
    assert manifest.files[7].relpath == "exposure/007.fits"


# Searching --------------------------------------------------------------------------------------------------------------


def keys_of(server, found):
    keys = {uri: key for key, uri in server.uris.items()}
    return sorted(keys[row["uri"]] for row in found)


@pytest.mark.parametrize(
    ("given", "options", "keys"),
    [
        ((), {}, SEEN),
        (("nova",), {}, ["nova", "words"]),
        (("nova -cloudy",), {}, ["nova"]),
        (("",), {}, []),
        ((), {"tags": "nova"}, ["nova", "words"]),
        ((), {"tags": ["nova", "southern"]}, ["nova"]),
        ((), {"creator_usernames": "dave"}, ["empty"]),
        ((), {"base_uris": [ODD, CLOSED]}, ["odd", "other twin"]),
        ((), {"base_uris": []}, []),
        # UUIDs, which the server's own search finds of one half only
        ((), {"uuids": uuid_of(1)}, ["nova"]),
        ((), {"uuids": uuid_of(8)}, ["arrived"]),
        ((), {"uuids": [uuid_of(1), uuid_of(8), uuid_of(999)]}, ["nova", "arrived"]),
        ((), {"uuids": uuid_of(7)}, ["twin", "other twin"]),
        ((), {"uuids": uuid_of(7), "base_uris": ODD}, ["other twin"]),
        (("nova",), {"uuids": [uuid_of(1), uuid_of(8)]}, ["nova"]),
        (("arrived",), {"uuids": [uuid_of(1), uuid_of(8)]}, ["arrived"]),
        ((), {"tags": "arrived", "uuids": [uuid_of(8)]}, ["arrived"]),
    ],
)
def test_searches(server, call, given, options, keys):
    found = call("search", *given, **options)
    assert keys_of(server, found) == sorted(keys)
    assert found.total == len(keys)
    assert found.to_table().colnames
    assert len(found.to_table()) == len(keys)


@pytest.mark.parametrize("page_size", [100, 7])
def test_a_search_reads_all_pages(call, page_size):
    found = call("search", base_uris=BULK, page_size=page_size, who="walker")
    assert [row.uuid for row in found] == [uuid_of(1000 + number) for number in range(MANY)]
    assert found.total == MANY


def test_one_page(call):
    page = call("search", base_uris=BULK, page_number=4, page_size=90, who="walker")
    assert (len(page), page.total, page.pagination["last_page"]) == (30, MANY, 4)
    assert page.sorting == {"uri": 1}
    past = [call("search", *given, page_number=9, who="walker") for given in ((), ("bulk_1",))]
    assert past == [[], []]


@pytest.mark.parametrize("sort", ["-uri", ["-name", "uri"], "frozen_at,-uuid", "+name,uri"])
def test_orders(call, sort):
    found = call("search", sort=sort, who="walker", page_size=50)
    fields = sort if isinstance(sort, list) else sort.split(",")
    expected = list(found)
    for field in reversed(fields):
        expected.sort(key=lambda row: row[field.lstrip("+-")], reverse=field.startswith("-"))
    assert found == expected
    assert len(found) == MANY


@pytest.mark.parametrize("sort", ["size_in_bytes", "nonsense"])
def test_orders_that_are_none(call, sort):
    with pytest.raises(FilterError, match="Must be one of"):
        call("search", sort=sort)


def test_one_by_one(server, opened, colour):
    walker, observer = opened("walker"), opened("observer")
    assert [row.uuid for row in colour.collect(walker.iter_data_sets(page_size=40))] == [
        uuid_of(1000 + number) for number in range(MANY)
    ]
    queried = colour.collect(walker.iter_data_sets(query={"base_uri": BULK}, page_size=40))
    assert len({row.uri for row in queried}) == len(queried) == MANY
    assert keys_of(server, colour.collect(observer.iter_data_sets("nova"))) == ["nova", "words"]
    assert colour.collect(observer.iter_data_sets(tags="no-such-tag")) == []


def test_by_uuid(server, call):
    assert keys_of(server, call("by_uuid", uuid_of(7))) == ["other twin", "twin"]
    assert keys_of(server, call("by_uuid", uuid_of(8))) == ["arrived"]
    assert call("by_uuid", uuid_of(999)) == []


@pytest.mark.parametrize("what", ["search", "by_uuid", "query", "aggregate", "find_items"])
def test_nobody_finds_nothing_and_that_is_no_error(call, switched, what):
    switched(allow_aggregation=True)
    given = {"by_uuid": [uuid_of(1)], "query": [{}], "aggregate": [[]], "find_items": ["*"]}.get(
        what, ["nova"]
    )
    assert call(what, *given, who="nobody") == []


# Queries, pipelines, graphs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "options", "keys"),
    [
        ({}, {}, SEEN),
        ({"readme.owners.name": {"$regex": "^Carol"}}, {}, ["nova"]),
        ('{"name": {"$regex": "frames"}}', {}, ["raw", "reduced", "stacked", "twin", "other twin"]),
        ({"name": {"$regex": "frames"}}, {"base_uris": ODD}, ["other twin"]),
        ({"annotations.visits": 3}, {"tags": "arrived"}, ["arrived"]),
        ({"uuid": uuid_of(8)}, {}, ["arrived"]),
        ({"uuid": uuid_of(1)}, {}, ["nova"]),
        ({"uuid": {"$in": [uuid_of(1), uuid_of(8)]}}, {}, ["nova", "arrived"]),
        ({}, {"uuids": [uuid_of(1), uuid_of(8)]}, ["nova", "arrived"]),
        ({"base_uri": CLOSED}, {}, []),
    ],
)
def test_queries(server, call, query, options, keys):
    assert keys_of(server, call("query", query, **options)) == sorted(keys)


def test_a_query_reads_all_pages_and_sorts_here(call):
    found = call("query", {"base_uri": BULK}, sort="-uri", page_size=70, who="walker")
    assert [row.uuid for row in found] == [uuid_of(1000 + number) for number in reversed(range(MANY))]
    assert found.total == MANY
    assert found[0].frozen.tzinfo is UTC


def test_a_query_that_the_database_does_not_understand(call):
    with pytest.raises((ServerError, FilterError)) as caught:
        call("query", {"name": {"$bad": 1}})
    assert caught.value.status == 500


def test_queries_turned_off(call, switched):
    switched(allow_direct_query=False)
    with pytest.raises(UnsupportedError, match="DSERVER_ALLOW_DIRECT_QUERY"):
        call("query", {})


def test_pipelines(call, switched):
    with pytest.raises(UnsupportedError, match="DSERVER_ALLOW_DIRECT_AGGREGATION"):
        call("aggregate", [])
    switched(allow_aggregation=True)
    stages = [{"$match": {"base_uri": BULK}}, {"$project": {"uuid": 1}}]
    assert len({row["uuid"] for row in call("aggregate", stages, who="walker")}) == MANY
    assert call("aggregate", '[{"$match": {"tags": "nova"}}, {"$count": "n"}]') == [{"n": 2}]


@pytest.mark.parametrize("key", ["raw", "reduced", "stacked"])
def test_a_graph(call, key):
    graph = call("graph", DATA[key].uuid)
    assert {row.uuid for row in graph.data_sets} == {uuid_of(4), uuid_of(5), uuid_of(6)}
    assert sorted(graph.edges) == [(uuid_of(5), uuid_of(4)), (uuid_of(6), uuid_of(5))]
    assert graph.missing == []


def test_a_graph_by_other_keys(call):
    graph = call("graph", uuid_of(5), dependency_keys="readme.derived_from.uuid")
    assert graph.edges == [(uuid_of(5), uuid_of(4))]
    assert call("graph", uuid_of(5), dependency_keys=["no.such.key"]).edges == []


def test_a_graph_of_what_it_does_not_know(call):
    with pytest.raises(NotFoundError, match=uuid_of(999)):
        call("graph", uuid_of(999))
    with pytest.raises(UnsupportedError, match="registered over HTTP"):
        call("graph", uuid_of(8))


# Many at once -----------------------------------------------------------------------------------------------------------


def test_many_in_the_order_asked(server, call):
    uris = [server.uris[key] for key in ("stacked", "nova", "odd", "nova")]
    found = call("get_many", uris, ("readme", "manifest", "tags", "annotations", "data_set"), progress=False)
    assert [details.uri for details in found] == uris
    assert [details.readme for details in found] == [
        DATA[key].readme for key in ("stacked", "nova", "odd", "nova")
    ]
    assert [details.data_set["uri"] for details in found] == uris
    assert not any(details.errors for details in found)


def test_what_fails_of_many_is_said(server, call):
    uris = [server.uris["nova"], f"{NIGHT}/{uuid_of(999)}", server.uris["closed"]]
    with pytest.raises(PartialResultError) as caught:
        call("get_many", uris, progress=False)
    for found in (caught.value.result, call("get_many", uris, allow_partial=True, progress=False)):
        assert [details.uri for details in found] == uris
        assert found[0].readme == DATA["nova"].readme
        kinds = [type(details.errors.get("readme")) for details in found]
        assert kinds == [type(None), NotFoundError, ForbiddenError]


def test_many_wait_side_by_side(server, call, switched):
    call("me")  # the connection is there
    uris = [server.uris["nova"]] * 64
    switched(delay_s=0.1)
    begin = time.monotonic()
    assert len(call("get_many", uris, progress=False)) == 64
    took_s = time.monotonic() - begin
    assert took_s < 3.2, "eight at a time take eight delays, not 64"


def test_items_by_name(server, call):
    found = call("find_items", "*.fits", base_uris=[NIGHT, ODD])
    paths = collections.Counter(item.relpath for item in found)
    assert paths["spectra/first light+ü.fits"] == 1
    assert paths["t.fits"] == 2
    assert "notes.txt" not in paths
    assert [item.relpath for item in call("find_items", "exposure/00?.fits", server.uris["wide"])] == [
        f"exposure/00{number}.fits" for number in range(10)
    ]


def test_all_that_is_seen_is_what_is_there(server, call):
    found = call("search")
    assert by_uri(map(dict, found)) == by_uri(DATA[key].row(server.uris[key]) for key in SEEN)
    assert {row.base_uri for row in found} == {
        base for base, users in SEARCHED.items() if "observer" in users
    }
