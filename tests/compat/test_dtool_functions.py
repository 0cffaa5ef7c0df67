"""Each function of dtool-lookup-api in both colours: what it takes, what it returns, and the one request that it makes."""

from __future__ import annotations

import inspect
import json

import pytest
from dtool_support import CHAIN, FOUND, ODD, QUERIED, SHARE, TWIN, URI, UUID

from nuncius.compat import dtool_lookup_api
from nuncius.compat.dtool_lookup_api import (
    ASCENDING,
    DESCENDING,
    LookupServerError,
    asynchronous,
    synchronous,
)
from nuncius.compat.dtool_lookup_api.core import LookupClient
from nuncius.errors import (
    ConfigurationError,
    FilterError,
    ForbiddenError,
    NotFoundError,
    ServerError,
    UnsupportedError,
)

pytest_plugins = ["dtool_fixtures"]

PAGE = [
    "page_number=1",
    "page_size=10",
    "sort_fields=('uri',)",
    "sort_order=(1,)",
    "pagination=None",
    "sorting=None",
]
CHOICES = ["creator_usernames=None", "base_uris=None", "uuids=None", "tags=None"]
SHORT = ["page_number=1", "page_size=10", "pagination=None"]
RECORD = (
    "uri base_uri readme manifest uuid name type creator_username frozen_at created_at annotations tags "
    "number_of_items size_in_bytes"
)


def sorted_as(field):
    """Return the arguments of a list that is sorted by another field."""
    return [argument.replace("'uri'", f"'{field}'") for argument in PAGE]


SIGNATURES = {
    "get_config": [],
    "get_versions": [],
    "get_datasets": ["free_text=None", *CHOICES, *PAGE],
    "get_dataset": ["uri"],
    "register_dataset": RECORD.split(),
    "delete_dataset": ["uri"],
    "get_datasets_by_uuid": ["uuid", *PAGE],
    "get_readme": ["uri"],
    "get_manifest": ["uri"],
    "get_tags": ["uri"],
    "get_annotations": ["uri"],
    "get_users": sorted_as("username"),
    "get_user": ["username=None"],
    "get_me": [],
    "register_user": ["username", "is_admin=False"],
    "delete_user": ["username"],
    "get_summary": ["username=None"],
    "get_my_summary": [],
    "get_base_uris": sorted_as("base_uri"),
    "get_base_uri": ["base_uri"],
    "register_base_uri": [
        "base_uri",
        "users_with_search_permissions=()",
        "users_with_register_permissions=()",
    ],
    "delete_base_uri": ["base_uri"],
    "get_datasets_by_mongo_query": ["query", *CHOICES, *PAGE],
    "get_datasets_by_mongo_aggregation": ["aggregation", *PAGE],
    "get_graph_by_uuid": ["uuid", "dependency_keys=None", *PAGE],
}
OUT_OF_DATE = {
    "config": ("get_config", []),
    "versions": ("get_versions", []),
    "all": ("get_datasets", ["page_number=1", "page_size=20", "pagination=None"]),
    "search": ("get_datasets", ["keyword", *SHORT]),
    "lookup": ("get_datasets_by_uuid", ["uuid", *SHORT]),
    "by_uuid": ("get_datasets_by_uuid", ["uuid", *SHORT]),
    "readme": ("get_readme", ["uri"]),
    "manifest": ("get_manifest", ["uri"]),
    "list_users": ("get_users", SHORT),
    "user_info": ("get_user", ["username"]),
    "summary": ("get_summary", []),
    "list_base_uris": ("get_base_uris", SHORT),
    "aggregate": ("get_datasets_by_mongo_aggregation", ["aggregation", *PAGE]),
    "query": ("get_datasets_by_mongo_query", ["query", *CHOICES, *PAGE]),
    "by_query": ("get_datasets_by_mongo_query", ["query", *CHOICES, *PAGE]),
    "graph": ("get_graph_by_uuid", ["uuid", "dependency_keys=None", *SHORT]),
}
NAMES = {**SIGNATURES, **{name: signature for name, (_, signature) in OUT_OF_DATE.items()}}


@pytest.fixture(params=["synchronous", "asynchronous", "client"])
def call(request):
    """Give a function that calls one of them in each of its three forms, within a running loop."""

    async def call(name, /, *args, **options):
        if request.param == "synchronous":
            return getattr(dtool_lookup_api, name)(*args, **options)
        if request.param == "asynchronous":
            return await getattr(asynchronous, name)(*args, **options)
        async with LookupClient.ConfigurationBasedLookupClient() as client:
            return await getattr(client, name)(*args, **options)

    return call


# Names and signatures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [dtool_lookup_api, synchronous, asynchronous])
def test_all_names_are_there(module):
    assert set(NAMES) <= set(module.__all__)
    assert (module.ASCENDING, module.DESCENDING) == (1, -1)
    assert issubclass(module.LookupServerError, Exception)


def test_the_package_has_its_parts():
    assert dtool_lookup_api.asynchronous is asynchronous
    assert dtool_lookup_api.core.LookupClient.LookupServerError is LookupServerError
    assert dtool_lookup_api.__version__ == "0.10.3"


@pytest.mark.parametrize("name", NAMES)
def test_signature(name):
    method = getattr(LookupClient.UnauthenticatedLookupClient, name)
    for function, arguments in (
        (getattr(synchronous, name), NAMES[name]),
        (getattr(asynchronous, name), NAMES[name]),
        (method, ["self", *NAMES[name]]),
    ):
        shown = inspect.signature(function)
        bare = [parameter.replace(annotation=parameter.empty) for parameter in shown.parameters.values()]
        assert [str(parameter) for parameter in bare] == arguments
        assert (function.__name__, bool(function.__doc__)) == (name, True)


def test_an_argument_too_many(with_token):
    with pytest.raises(TypeError, match="get_readme"):
        dtool_lookup_api.get_readme(URI, "again")
    with pytest.raises(TypeError, match="unexpected"):
        dtool_lookup_api.get_datasets(free_txt="test")


@pytest.mark.parametrize("name", OUT_OF_DATE)
async def test_what_is_out_of_date_says_so(as_admin, name):
    as_admin.allow_aggregation = True
    given = {
        "keyword": "test",
        "uuid": UUID,
        "uri": URI,
        "username": "reader",
        "aggregation": [{"$count": "n"}],
    }
    given["query"] = {"name": "twin"}
    replacement, arguments = OUT_OF_DATE[name]
    args = [given[argument] for argument in arguments if "=" not in argument]
    new = ["test"] if name == "search" else args
    expected = getattr(synchronous, replacement)(*new, **({"page_size": 20} if name == "all" else {}))
    as_admin.requests.clear()

    with pytest.warns(DeprecationWarning, match=f"{name} .*{replacement}") as told:
        found = getattr(synchronous, name)(*args)
    with pytest.warns(DeprecationWarning, match=f"{name} .*{replacement}") as told_too:
        coroutine = getattr(asynchronous, name)(*args)

    assert found == await coroutine == expected
    assert {warning.filename for warning in [*told, *told_too]} == {__file__}
    assert len(as_admin.requests) == 2


# What they return -------------------------------------------------------------------------------------------------------


async def test_the_server(call, with_token):
    config = await call("get_config")
    assert config["api_version"] == "v1"
    assert config["secret_key"] == "***"
    versions = await call("get_versions")
    assert versions["dservercore"] == "0.22.0"
    assert [request.path for request in with_token.requests] == ["/config/info", "/config/versions"]


async def test_data_sets(call, with_token):
    assert (
        await call("get_datasets", base_uris=[SHARE]) == await call("get_datasets", "test") == [MILLISECONDS]
    )
    assert await call("get_datasets", creator_usernames=["jotelha"]) == [MILLISECONDS]
    steps = await call("get_datasets", tags=["steps", "level 1"])
    assert [row["uuid"] for row in steps] == [CHAIN[1]]
    assert await call("get_dataset", URI) == FOUND
    assert len(with_token.requests) == 5
    assert {type(row) for row in steps} == {dict}
    assert type(steps) is list


MILLISECONDS = FOUND | {name: QUERIED[name] for name in ("created_at", "frozen_at")}


async def test_data_sets_by_uuid(call, with_token):
    assert await call("get_datasets_by_uuid", UUID) == [FOUND]
    twins = await call("get_datasets_by_uuid", TWIN, sort_order=DESCENDING)
    assert [row["base_uri"] for row in twins] == ["s3://steps", ODD]
    assert await call("get_datasets_by_uuid", "no UUID at all?") == []
    assert len(with_token.requests) == 3


async def test_what_is_in_a_data_set(call, with_token):
    odd = f"{ODD}/twin"
    assert await call("get_readme", odd) == "nothing: [that is YAML"
    assert type(await call("get_readme", odd)) is str
    assert (await call("get_manifest", odd))["items"] == {}
    assert await call("get_tags", odd) == ["twin"]
    step = f"s3://steps/{CHAIN[1]}"
    assert await call("get_annotations", step) == {"level": "1", "nested": "{'a': [1, 2]}"}
    assert len(with_token.requests) == 5


async def test_users(call, as_admin):
    assert await call("register_user", "vera+r", is_admin=True) is True
    assert await call("register_user", "vera+r") is True
    assert (await call("get_user", "vera+r"))["is_admin"] is False
    assert await call("delete_user", "vera+r") is True
    assert await call("delete_user", "vera+r") is True
    assert await call("get_me") == await call("get_user")
    names = [user["username"] for user in await call("get_users", sort_order=[DESCENDING])]
    assert names == sorted(names, reverse=True)
    assert (await call("get_summary"))["number_of_datasets"] >= 6
    assert await call("get_my_summary") == await call("get_summary", "admin")
    assert len(as_admin.requests) == 11


async def test_base_uris(call, as_admin):
    base_uri = "s3://new one+ü"
    assert await call("register_base_uri", base_uri, ["reader"], ["nobody"]) is True
    permissions = {"users_with_search_permissions": ["reader"], "users_with_register_permissions": ["nobody"]}
    assert await call("get_base_uri", base_uri) == {"base_uri": base_uri} | permissions
    assert await call("register_base_uri", base_uri) is True
    assert (await call("get_base_uri", base_uri))["users_with_search_permissions"] == []
    assert {"base_uri": base_uri} in await call("get_base_uris")
    assert await call("delete_base_uri", base_uri) is True
    assert {"base_uri": base_uri} not in await call("get_base_uris")
    assert len(as_admin.requests) == 7


@pytest.mark.parametrize("when", ["1604860720.736", 1604860720.736])
async def test_register_and_delete(call, as_admin, when):
    uri = "s3://steps/registered one"
    record = {
        "uri": uri,
        "base_uri": "s3://steps",
        "readme": "",
        "manifest": {"dtoolcore_version": "3.17.0", "hash_function": "md5sum_hexdigest", "items": {}},
        "uuid": "00000000-0000-4000-8000-0000000000aa",
        "name": "registered",
        "type": "dataset",
        "creator_username": "linus",
        "frozen_at": when,
        "created_at": when,
        "annotations": {"a": 1},
        "tags": ["t"],
        "number_of_items": 0,
        "size_in_bytes": 0,
    }
    assert await call("register_dataset", **record) is True
    assert await call("register_dataset", *record.values()) is True
    found = await call("get_dataset", uri)
    assert (found["name"], found["frozen_at"]) == ("registered", 1604860720.736)
    assert await call("delete_dataset", uri) is True
    assert await call("delete_dataset", uri) is True
    # The searches of that server go on finding it.
    assert [row["uri"] for row in await call("get_datasets", creator_usernames=["linus"])] == [uri]
    with pytest.raises(NotFoundError):
        await call("get_dataset", uri)


async def test_mongo_query(call, with_token):
    assert await call("get_datasets_by_mongo_query", {"readme.owners.name": "Testing User"}) == [QUERIED]
    assert await call("get_datasets_by_mongo_query", json.dumps({"name": {"$regex": "^simple"}})) == [QUERIED]
    found = await call("get_datasets_by_mongo_query", {}, creator_usernames=["grace"], tags=["steps"])
    assert [row["uuid"] for row in found] == CHAIN
    assert len(with_token.requests) == 3


async def test_mongo_aggregation(call, with_token):
    stages = [{"$match": {"tags": "steps"}}, {"$sort": {"name": -1}}, {"$project": {"name": 1}}]
    with pytest.raises(UnsupportedError, match="DSERVER_ALLOW_DIRECT_AGGREGATION"):
        await call("get_datasets_by_mongo_aggregation", stages)
    with_token.allow_aggregation = True
    found = [{"name": f"step {number}"} for number in (2, 1, 0)]
    assert await call("get_datasets_by_mongo_aggregation", stages) == found
    assert await call("get_datasets_by_mongo_aggregation", json.dumps(stages)) == found
    pagination = {}
    page = await call("get_datasets_by_mongo_aggregation", stages, 2, 2, pagination=pagination)
    assert page == found[2:]
    assert (pagination["total"], pagination["previous_page"]) == (3, 1)


async def test_graph(call, with_token):
    sources = {CHAIN[0]: [], CHAIN[1]: [CHAIN[0]], CHAIN[2]: [CHAIN[1]]}
    found = await call("get_graph_by_uuid", CHAIN[1])
    assert {row["uuid"]: row["derived_from"] for row in found} == sources
    keys = ["readme.derived_from.uuid"]
    found = await call("get_graph_by_uuid", CHAIN[0], keys)
    assert {row["uuid"]: row["derived_from"] for row in found} == sources
    other_keys = await call("get_graph_by_uuid", CHAIN[0], ["annotations.nothing"])
    assert [row["uuid"] for row in other_keys] in ([CHAIN[0]], [])
    pagination = {}
    assert await call("get_graph_by_uuid", CHAIN[0].replace("8000", "9000"), pagination=pagination) == []
    assert pagination == {"total": 0, "total_pages": 0}
    assert len(with_token.requests) == 4


# Pages and sort orders --------------------------------------------------------------------------------------------------


async def test_one_page_and_what_is_said_of_it(call, with_token):
    pagination, sorting = {"next_page": 77}, {"sort": {"old": 1}}
    page = await call("get_datasets", page_number=2, page_size=2, pagination=pagination, sorting=sorting)
    assert len(page) == 2
    total = pagination.pop("total")
    assert pagination == {
        "total_pages": -(-total // 2),
        "first_page": 1,
        "last_page": -(-total // 2),
        "page": 2,
        "previous_page": 1,
        "next_page": 3,
    }
    assert sorting == {"sort": {"uri": 1}}
    assert len(with_token.requests) == 1


async def test_what_was_said_of_a_page_does_not_leak(call, with_token):
    pagination, sorting = {}, {}
    await call("get_datasets", page_size=1, pagination=pagination, sorting=sorting)
    assert "next_page" in pagination
    last = await call("get_datasets", page_number=pagination["last_page"], page_size=1, pagination=pagination)
    assert len(last) == 1
    assert "next_page" not in pagination
    for function in (synchronous.get_datasets, asynchronous.get_datasets):
        assert inspect.signature(function).parameters["pagination"].default is None


@pytest.mark.parametrize(
    ("fields", "order", "sort"),
    [
        ("name", DESCENDING, {"name": -1}),
        (["name"], ASCENDING, {"name": 1}),
        (["name", "uri"], [DESCENDING], {"name": -1, "uri": -1}),
        (("name", "uri"), DESCENDING, {"name": -1, "uri": -1}),
        (["frozen_at", "uri"], [DESCENDING, ASCENDING], {"frozen_at": -1, "uri": 1}),
        (["uri"], [ASCENDING], {"uri": 1}),
    ],
)
async def test_sort_orders(call, with_token, fields, order, sort):
    sorting = {}
    found = await call("get_datasets", sort_fields=fields, sort_order=order, sorting=sorting)
    assert sorting == {"sort": sort}
    expected = list(found)
    for field, direction in reversed(sort.items()):
        expected.sort(key=lambda row, field=field: row[field], reverse=direction < 0)
    assert found == expected


@pytest.mark.parametrize("order", [[1, -1, 1], [], 2, ["descending"]])
async def test_a_sort_order_that_means_nothing(call, with_token, order):
    with pytest.raises(FilterError, match="sort_order") as caught:
        await call("get_datasets", sort_fields=["name", "uri"], sort_order=order)
    assert isinstance(caught.value, LookupServerError)
    assert with_token.requests == []


@pytest.mark.parametrize(
    "wrong", [{"page_size": 101}, {"page_size": 0}, {"page_number": 0}, {"sort_fields": "size"}]
)
async def test_what_the_server_refuses(call, with_token, wrong):
    with pytest.raises(FilterError) as caught:
        await call("get_datasets", **wrong)
    assert caught.value.status == 422
    assert isinstance(caught.value, LookupServerError)


@pytest.mark.parametrize("name", ["get_datasets", "get_datasets_by_uuid", "get_datasets_by_mongo_query"])
async def test_a_page_past_the_end_is_empty(call, with_token, name):
    first = {"get_datasets": [], "get_datasets_by_uuid": [UUID]}.get(name, [{"name": "twin"}])
    pagination = {"page": 9, "next_page": 10}
    assert await call(name, *first, page_number=9, pagination=pagination) == []
    assert "next_page" not in pagination


async def test_a_mongo_query_is_sorted_where_nothing_is_missing(call, with_token):
    sorting = {}
    ask = {"sort_fields": ["name", "uri"], "sort_order": [DESCENDING, ASCENDING], "sorting": sorting}
    found = await call("get_datasets_by_mongo_query", {}, **ask)
    names = [row["name"] for row in found]
    assert names == sorted(names, reverse=True)
    assert sorting == {"sort": {"name": -1, "uri": 1}}

    await call("get_datasets_by_mongo_query", {}, page_size=2, **ask)
    assert sorting == {}  # nobody has sorted it


async def test_that_there_is_more_is_said_where_nobody_looks(call, with_token, caplog):
    await call("get_datasets", page_size=2, pagination={})
    assert caplog.text == ""
    await call("get_datasets", page_size=2)
    assert "2 of" in caplog.text
    assert "page_number=2" in caplog.text


# Values are as the server gives them -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "when", [1604860720.736269, "1604860720.736", "Sun, 08 Nov 2020 18:38:40 GMT", "2020-11-08T18:38:40Z"]
)
async def test_dates_in_four_forms(call, with_token, when):
    rows = [{"uri": "a", "created_at": when}, {"uri": "b", "created_at": when}]
    with_token.answer(body=json.dumps(rows).encode())  # without any header, as servers did before
    pagination = {"total": 9}
    assert await call("get_datasets", pagination=pagination) == rows
    assert pagination == {}


async def test_annotations_of_later_servers(call, with_token):
    typed = {"level": 1, "nested": {"a": [1, 2]}, "nothing": None}
    with_token.answer(body=json.dumps({"annotations": typed}).encode())
    assert await call("get_annotations", URI) == typed


# UUIDs, which the server's search knows only in part --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "requests"),
    [
        ({"uuids": [UUID]}, 1),
        ({"uuids": [UUID.upper()], "base_uris": [SHARE]}, 1),
        ({"uuids": [UUID, CHAIN[0]], "creator_usernames": ["jotelha"]}, 2),
        ({"uuids": [UUID], "free_text": "test"}, 1),
    ],
)
async def test_search_by_uuids(call, with_token, asked, requests):
    found = await call("get_datasets", **asked)
    assert [row["uri"] for row in found] == [URI]
    assert len(with_token.requests) == requests


async def test_pages_of_what_several_uuids_find(call, with_token):
    pagination, sorting = {}, {}
    ask = {"uuids": [UUID, TWIN, *CHAIN], "page_size": 2, "sort_order": DESCENDING}
    found = []
    for number in (1, 2, 3):
        found += await call("get_datasets", page_number=number, **ask, pagination=pagination, sorting=sorting)
        assert pagination["total"] == 6
        assert pagination.get("next_page") == {1: 2, 2: 3}.get(number)
    uris = [row["uri"] for row in found]
    assert uris == sorted(uris, reverse=True)
    assert len(set(uris)) == 6
    assert sorting == {"sort": {"uri": -1}}


async def test_mongo_query_by_uuid(call, as_admin):
    uri = as_admin.add("put", base_uri="s3://steps", uuid=CHAIN[0].replace("0001", "00f1"), by_put=True)
    uuid = uri.rpartition("/")[2]
    assert [row["uri"] for row in await call("get_datasets_by_mongo_query", {"uuid": uuid})] == [uri]
    assert await call("get_datasets_by_mongo_query", {"uuid": UUID}) == [QUERIED]
    assert await call("delete_dataset", uri) is True


# What goes wrong --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["get_dataset", "get_readme", "get_manifest", "get_tags", "get_annotations"])
async def test_unknown_and_forbidden_data_sets(call, with_token, name):
    with pytest.raises(NotFoundError, match="nothing here") as caught:
        await call(name, "s3://steps/nothing here")
    assert (caught.value.status, isinstance(caught.value, LookupServerError)) == (404, True)
    with pytest.raises(ForbiddenError) as caught:
        await call(name, "s3://elsewhere/x")
    assert (caught.value.status, isinstance(caught.value, LookupServerError)) == (403, True)


async def test_what_only_administrators_may(call, with_token):
    for name, *args in (("get_users",), ("get_base_uris",), ("register_user", "x"), ("delete_user", "x")):
        with pytest.raises(ForbiddenError) as caught:
            await call(name, *args)
        assert isinstance(caught.value, LookupServerError)


async def test_a_missing_plugin_is_named(call, with_token, monkeypatch):
    monkeypatch.setattr(with_token, "plugins", {"dserver_search_plugin_mongo": "0.4.2"})
    with pytest.raises(UnsupportedError, match="dserver-direct-mongo-plugin") as caught:
        await call("get_datasets_by_mongo_query", {})
    assert isinstance(caught.value, LookupServerError)
    with pytest.raises(UnsupportedError, match="dserver-dependency-graph-plugin"):
        await call("get_graph_by_uuid", UUID)


@pytest.mark.parametrize(
    ("name", "args"),
    [("get_datasets_by_mongo_query", ["{"]), ("get_datasets_by_mongo_aggregation", ["["])],
)
async def test_what_is_no_json(call, with_token, name, args):
    with pytest.raises(FilterError, match="no JSON") as caught:
        await call(name, *args)
    assert isinstance(caught.value, LookupServerError)


async def test_a_record_that_can_not_be_registered(call, as_admin):
    record = dict.fromkeys(RECORD.split(), "") | {"uri": "s3://steps/x", "base_uri": "s3://steps"}
    with pytest.raises(ConfigurationError, match="s3://steps/x") as caught:
        await call("register_dataset", **record)
    assert isinstance(caught.value, LookupServerError)


async def test_failures_of_the_server(call, with_token):
    with pytest.raises(ServerError) as caught:
        await call("get_datasets_by_mongo_query", {"name": {"$nonsense": 1}})
    assert (caught.value.status, isinstance(caught.value, LookupServerError)) == (500, True)
    with_token.answer(body=b"<html>proxy</html>", content_type="text/html")
    with pytest.raises(ServerError, match="no JSON") as caught:
        await call("get_readme", URI)
    assert isinstance(caught.value, LookupServerError)
