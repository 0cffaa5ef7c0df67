"""Our client, in both colours, at the real dserver and at the sandbox's: who comes in, what is changed, and how it asks."""

import asyncio
import itertools
import threading
import time
from datetime import UTC, datetime

import pytest
from dserver_support import NIGHT, SEEN, Sync, uuid_of

from nuncius.errors import (
    ConfigurationError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    NunciusError,
    UnsupportedError,
)

pytestmark = pytest.mark.xdist_group("dserver-peer")

_numbers = itertools.count(7000)


# Users, base URIs, registering ------------------------------------------------------------------------------------------


def test_who_one_is_and_what_the_server_is(server, call):
    me = call("me")
    assert (me.username, me.is_admin) == ("observer", False)
    assert NIGHT in me.search_permissions_on_base_uris
    assert call("user", "observer") == me
    assert call("versions")["dservercore"] == "0.22.0"
    assert call("config")["allow_direct_query"] is True
    summary = call("summary")
    assert summary.number_of_datasets == len(SEEN)
    assert summary == call("summary", "observer", who="admin")


def test_users(call):
    name = f"user {next(_numbers)} ü"
    with pytest.raises(NotFoundError):
        call("user", name, who="admin")
    assert call("register_user", name, is_admin=True, who="admin") is True
    assert call("user", name, who="admin").is_admin is True
    assert call("register_user", name, who="admin") is False
    assert call("user", name, who="admin").is_admin is False
    assert name in [row.username for row in call("users", who="admin")]
    for _ in range(2):
        assert call("delete_user", name, who="admin") is None
    with pytest.raises(ForbiddenError):
        call("users")


def test_base_uris(call):
    base_uri = f"s3://client {next(_numbers)} +ü"
    assert call("register_base_uri", base_uri, search="observer", register=["walker"], who="admin") is True
    known = call("base_uri", base_uri, who="admin")
    assert known["users_with_search_permissions"] == ["observer"]
    assert known["users_with_register_permissions"] == ["walker"]
    assert call("register_base_uri", base_uri, search=["walker"], who="admin") is False
    assert call("base_uri", base_uri, who="admin")["users_with_register_permissions"] == []
    assert base_uri in call("base_uris", who="admin")
    assert call("delete_base_uri", base_uri, who="admin") is None
    with pytest.raises(NotFoundError):
        call("base_uri", base_uri, who="admin")
    with pytest.raises(ForbiddenError):
        call("base_uri", base_uri)


@pytest.fixture
def record(ask):
    """Return a data set that could be registered, at a base URI of its own."""
    base_uri, uuid = "s3://client shelf+ü", uuid_of(next(_numbers))
    users = ["observer", "walker"]
    lists = {"users_with_search_permissions": users, "users_with_register_permissions": ["walker"]}
    assert ask("PUT", "/base-uris/s3/client%20shelf+%C3%BC", "admin", json=lists).status_code in {200, 201}
    yield {
        "uuid": uuid,
        "base_uri": base_uri,
        "uri": f"{base_uri}/{uuid}",
        "name": "registered",
        "type": "dataset",
        "readme": "a: 1\n",
        "manifest": {"items": {}, "hash_function": "md5sum_hexdigest", "dtoolcore_version": "3.19.0"},
        "creator_username": "walker",
        "frozen_at": 1604921621.719575,
        "annotations": {"n": 1},
        "tags": ["registered"],
        "number_of_items": 0,
        "size_in_bytes": 0,
    }
    nobody = {"users_with_search_permissions": [], "users_with_register_permissions": []}
    assert ask("PUT", "/base-uris/s3/client%20shelf+%C3%BC", "admin", json=nobody).status_code == 200


def test_registering_and_deleting(call, record):
    assert call("register_data_set", record, who="walker") is True
    found = call("data_set", record["uri"])
    assert found.frozen == datetime.fromtimestamp(1604921621.719575, UTC)
    assert call("register_data_set", record | {"name": "again"}, who="walker") is False
    assert call("data_set", record["uri"]).name == "again"
    assert call("delete_data_set", record["uri"], who="walker") is None
    with pytest.raises(NotFoundError, match=record["uuid"]):
        call("data_set", record["uri"])
    # what the server gave as a row can be registered again, with what belongs to it
    again = dict(found) | {
        name: record[name] for name in ("type", "readme", "manifest", "annotations", "tags")
    }
    assert call("register_data_set", again, who="walker") is True


def test_registering_what_can_not_be(call, record):
    with pytest.raises(ForbiddenError):
        call("register_data_set", record)
    with pytest.raises(ForbiddenError):
        call("delete_data_set", record["uri"])
    with pytest.raises(ConfigurationError, match="manifest"):
        call("register_data_set", {name: record[name] for name in record if name != "manifest"}, who="walker")
    for changes in ({"type": "protodataset"}, {"tags": "x"}, {"nonsense": 1}):
        with pytest.raises(ConfigurationError):
            call("register_data_set", record | changes, who="walker")


# Errors and tokens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["data_set", "readme", "manifest", "tags", "annotations", "items"])
def test_what_is_not_there_and_what_is_not_ours(server, call, what):
    missing = f"{NIGHT}/{uuid_of(999)}"
    with pytest.raises(NotFoundError, match=uuid_of(999)) as not_found:
        call(what, missing)
    assert not_found.value.status == 404
    for uri in (server.uris["closed"], "s3://no-such-bucket/x"):
        with pytest.raises(ForbiddenError, match="unknown there, or not yours") as forbidden:
            call(what, uri)
        assert forbidden.value.status == 403


@pytest.mark.parametrize("who", ["unknown", "expired", None])
def test_who_is_not_let_in(ask, opened, colour, who):
    client = opened(who)
    with pytest.raises(LoginError) as caught:
        colour.run(client.search("nova"))
    if who:
        assert ask.token(who) not in str(caught.value)
    assert ("not registered" in str(caught.value)) == (who == "unknown")


@pytest.mark.parametrize("token", ["garbage", "a.b.c", "e30.e30.e30"])
def test_what_is_no_token(server, colour, nothing_around, token):
    client = colour.open(server.url, token=token, interactive=False)
    with pytest.raises(LoginError):
        colour.run(client.me())
    colour.run(client.close())


def test_a_login(server, opened, colour):
    client = opened(None, credentials=(server.username, server.password), token_url=server.token_url)
    before = len(server.requests)
    assert colour.run(client.me()).username == server.username
    assert colour.run(client.me()).username == server.username
    assert [request[0] for request in server.requests[before:]] == ["POST", "GET", "GET"]


def test_a_refused_login(server, opened, colour):
    client = opened(None, credentials=(server.username, "wrong-secret"), token_url=server.token_url)
    before = len(server.requests)
    with pytest.raises(LoginError, match="refuses the login") as caught:
        colour.run(client.me())
    assert "wrong-secret" not in str(caught.value)
    assert len(server.requests) == before + 1


def test_a_token_that_is_dead_is_renewed(server, ask, opened, colour):
    client = opened("expired", credentials=(server.username, server.password), token_url=server.token_url)
    assert colour.run(client.me()).username == server.username
    assert ask("GET", "/me", "expired").status_code == 401


def test_without_authentication(server, opened, colour, switched):
    switched(authenticate=False)
    client = opened(None, authenticate=False)
    assert colour.run(client.me()).username == server.username


def test_short_tokens_under_load(server, opened, colour, switched):
    switched(token_life_s=2)
    client = opened(None, credentials=(server.username, server.password), token_url=server.token_url)
    before = len(server.requests)
    over, calls = time.monotonic() + 3.5, 0
    if isinstance(colour, Sync):
        failed, counts = [], []

        def work():
            done = 0
            try:
                while time.monotonic() < over:
                    client.me()
                    done += 1
            except NunciusError as error:
                failed.append(error)
            counts.append(done)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        calls = sum(counts)
    else:

        async def load():
            done = 0
            while time.monotonic() < over:
                done += len(await asyncio.gather(*(client.me() for _ in range(8))))
            return done

        calls = colour.run(load())
    seen = server.requests[before:]
    logins = sum(method == "POST" for method, *_ in seen)
    refused = sum(status in {401, 422} for _, _, status, _ in seen)
    assert calls >= 40
    assert 2 <= logins <= 12, "one for each second or so, however many ask"
    assert len(seen) == calls + logins + refused


# How it asks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "given"),
    [
        ("me", ()),
        ("search", ("nova",)),
        ("readme", ("nova",)),
        ("manifest", ("odd",)),
        ("query", ({},)),
        ("by_uuid", (uuid_of(7),)),
    ],
)
def test_one_request_a_call_on_one_connection(server, call, what, given):
    places = [server.uris[one] if isinstance(one, str) and one in server.uris else one for one in given]
    before = len(server.requests)
    for _ in range(5):
        call(what, *(given if what == "search" else places))
    seen = server.requests[before:]
    assert len(seen) == 5
    assert {status for _, _, status, _ in seen} == {200}
    assert len({port for *_, port in seen}) == 1


def test_a_manifest_of_a_frozen_data_set_is_asked_for_once(server, call):
    found = call("search", tags="southern")[0]
    before = len(server.requests)
    assert call("manifest", found) == call("manifest", found)
    assert len(server.requests) == before + 1


def test_without_its_plugins(bare_server, colour, nothing_around):
    client = colour.open(bare_server.url, token=bare_server.admin_token, interactive=False)
    with pytest.raises(UnsupportedError, match="dserver-direct-mongo-plugin"):
        colour.run(client.query({}))
    with pytest.raises(UnsupportedError, match="dserver-direct-mongo-plugin"):
        colour.run(client.aggregate([]))
    with pytest.raises(UnsupportedError, match="dserver-dependency-graph-plugin"):
        colour.run(client.graph(uuid_of(1)))
    assert colour.run(client.search("nova")) == []
    colour.run(client.close())
