"""The same questions to the real dserver and to the sandbox's: what is registered, replaced and deleted, and by whom."""

import itertools

import pytest
from dserver_support import invalid, order, page, path_of, refusal, uuid_of

pytestmark = pytest.mark.xdist_group("dserver-peer")

_numbers = itertools.count(5000)


@pytest.fixture(scope="module")
def shelf(ask):
    """Return a base URI of its own, where `keeper` may search and register and `visitor` may search."""
    for name in ("keeper", "visitor"):
        assert ask("PUT", f"/users/{name}", "admin", json={}).status_code == 201
    lists = {
        "users_with_search_permissions": ["keeper", "visitor"],
        "users_with_register_permissions": ["keeper"],
    }
    assert ask("PUT", "/base-uris/s3/shelf%20+%C3%BC", "admin", json=lists).status_code == 201
    return "s3://shelf +ü"


@pytest.fixture
def record(shelf):
    """Return what a new data set is registered with."""
    uuid = uuid_of(next(_numbers))
    item = {"hash": "h", "relpath": "a.fits", "size_in_bytes": 2880, "utc_timestamp": 1604860720.5}
    return {
        "uuid": uuid,
        "base_uri": shelf,
        "uri": f"{shelf}/{uuid}",
        "name": "put_here",
        "type": "dataset",
        "readme": "night: 1\n",
        "manifest": {
            "items": {"id1": item},
            "hash_function": "md5sum_hexdigest",
            "dtoolcore_version": "3.17.0",
        },
        "creator_username": "keeper",
        "created_at": "1604860720.736269",
        "frozen_at": "1604921621.719575",
        "annotations": {"visits": 3},
        "tags": ["put"],
        "number_of_items": 1,
        "size_in_bytes": 2880,
    }


def put(ask, record, who="keeper", **changes):
    return ask("PUT", f"/uris/{path_of(record['uri'])}", who, json=record | changes)


# Data sets --------------------------------------------------------------------------------------------------------------


def test_registered_replaced_and_deleted(ask, record):
    place = path_of(record["uri"])
    first = put(ask, record)
    assert (first.status_code, first.json()) == (201, "")
    row = ask("GET", f"/uris/{place}", "visitor").json()
    assert row == {
        "base_uri": record["base_uri"],
        "created_at": 1604860720.736269,
        "creator_username": "keeper",
        "frozen_at": 1604921621.719575,
        "name": "put_here",
        "number_of_items": 1,
        "size_in_bytes": 2880,
        "uri": record["uri"],
        "uuid": record["uuid"],
    }
    assert ask("GET", f"/readmes/{place}", "visitor").json() == {"readme": record["readme"]}
    assert ask("GET", f"/manifests/{place}", "visitor").json() == record["manifest"]
    assert ask("GET", f"/tags/{place}", "visitor").json() == {"tags": ["put"]}
    assert ask("GET", f"/annotations/{place}", "visitor").json() == {"annotations": {"visits": "3"}}

    second = put(ask, record, name="put_again", tags=[], readme="")
    assert (second.status_code, second.json()) == (200, "")
    assert ask("GET", f"/uris/{place}", "visitor").json()["name"] == "put_again"
    assert ask("GET", f"/tags/{place}", "visitor").json() == {"tags": []}
    assert ask("GET", f"/readmes/{place}", "visitor").json() == {"readme": ""}
    assert len(ask("GET", f"/uuids/{record['uuid']}", "visitor").json()) == 1
    assert len(ask("POST", "/uris", "visitor", json={"uuids": [record["uuid"]]}).json()) == 1

    for _ in range(2):
        deleted = ask("DELETE", f"/uris/{place}", "keeper")
        assert (deleted.status_code, deleted.json()) == (200, "")
    assert put(ask, record).status_code == 201


def test_what_is_left_of_a_deleted_data_set(ask, record):
    place = path_of(record["uri"])
    put(ask, record)
    total = page(ask("GET", "/uris", "keeper"))["total"]
    ask("DELETE", f"/uris/{place}", "keeper")
    assert ask("GET", f"/uris/{place}", "keeper").status_code == 404
    assert ask("GET", f"/uuids/{record['uuid']}", "keeper").json() == []
    assert page(ask("GET", "/uris", "keeper"))["total"] == total - 1
    # The plugins keep what was deleted: it is found, and its texts are there.
    assert len(ask("POST", "/uris", "keeper", json={"uuids": [record["uuid"]]}).json()) == 1
    assert len(ask("POST", "/mongo/query", "keeper", json={"uuids": [record["uuid"]]}).json()) == 1
    for what in ("readmes", "manifests", "tags", "annotations"):
        assert ask("GET", f"/{what}/{place}", "keeper").status_code == 200


def test_what_may_be_missing(ask, record):
    place = path_of(record["uri"])
    for name in ("created_at", "number_of_items", "size_in_bytes"):
        del record[name]
    assert put(ask, record).status_code == 201
    row = ask("GET", f"/uris/{place}", "keeper").json()
    assert row["created_at"] == row["frozen_at"] == 1604921621.719575
    assert row["number_of_items"] is None
    assert row["size_in_bytes"] is None
    (found,) = ask("POST", "/uris", "keeper", json={"uuids": [record["uuid"]]}).json()
    assert found["created_at"] == found["frozen_at"] == 1604921621.719
    assert not {"number_of_items", "size_in_bytes"} & set(found)
    (queried,) = ask("POST", "/mongo/query", "keeper", json={"uuids": [record["uuid"]]}).json()
    assert queried["tags"] == ["put"]
    assert not {"number_of_items", "size_in_bytes", "dtoolcore_version"} & set(queried)
    # An unknown size breaks the summaries of all who may see it.
    summary = ask("GET", "/me/summary", "visitor")
    assert (summary.status_code, summary.json()) == (500, refusal(500))
    assert put(ask, record, size_in_bytes=1, number_of_items=1).status_code == 200
    assert ask("GET", "/me/summary", "visitor").status_code == 200


@pytest.mark.parametrize(
    "name",
    ["uuid", "name", "type", "readme", "manifest", "creator_username", "frozen_at", "annotations", "tags"],
)
def test_what_may_not_be_missing(ask, record, name):
    del record[name]
    answer = ask("PUT", f"/uris/{path_of(record.get('uri'))}", "keeper", json=record)
    assert (answer.status_code, answer.json()) == (400, refusal(400))


@pytest.mark.parametrize("name", ["uri", "base_uri"])
def test_what_the_server_stumbles_over(ask, record, name):
    place = path_of(record.pop("uri")) if name == "uri" else path_of(record["uri"])
    record.pop(name, None)
    answer = ask("PUT", f"/uris/{place}", "keeper", json=record)
    assert (answer.status_code, answer.json()) == (500, refusal(500))


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"frozen_at": 1.5}, {"frozen_at": ["Not a valid string."]}),
        ({"created_at": 1604860720}, {"created_at": ["Not a valid string."]}),
        ({"uuid": "x"}, {"uuid": ["Not a valid UUID."]}),
        ({"tags": "put"}, {"tags": ["Not a valid list."]}),
        ({"tags": [1]}, {"tags": {"0": ["Not a valid string."]}}),
        ({"readme": {"a": 1}}, {"readme": ["Not a valid string."]}),
        ({"readme": None}, {"readme": ["Field may not be null."]}),
        ({"annotations": []}, {"annotations": ["Not a valid mapping type."]}),
        ({"number_of_items": "x"}, {"number_of_items": ["Not a valid integer."]}),
        ({"dtoolcore_version": "3.19.0"}, {"dtoolcore_version": ["Unknown field."]}),
        ({"manifest": {"bad": 1}}, {"manifest": {"bad": ["Unknown field."]}}),
        (
            {"manifest": {"items": {"id1": {"bad": 1}}}},
            {"manifest": {"items": {"id1": {"value": {"bad": ["Unknown field."]}}}}},
        ),
        ({"bad": 1, "name": 2}, {"bad": ["Unknown field."], "name": ["Not a valid string."]}),
    ],
)
def test_what_no_data_set_has(ask, record, changes, messages):
    answer = put(ask, record, **changes)
    assert (answer.status_code, answer.json()) == (422, invalid("json", **messages))


@pytest.mark.parametrize("changes", [{"type": "protodataset"}, {"uri": "s3://elsewhere/x"}])
def test_what_is_no_data_set(ask, record, changes):
    answer = ask("PUT", f"/uris/{path_of(record['uri'])}", "keeper", json=record | changes)
    assert (answer.status_code, answer.json()) == (400, refusal(400))


def test_a_time_that_is_none(ask, record):
    answer = put(ask, record, frozen_at="yesterday")
    assert (answer.status_code, answer.json()) == (500, refusal(500))


@pytest.mark.parametrize("who", ["visitor", "nobody", "admin"])
def test_who_may_not_register(ask, record, who):
    answers = [put(ask, record, who), ask("DELETE", f"/uris/{path_of(record['uri'])}", who)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(403, refusal(403))] * 2


def test_a_base_uri_that_is_none(ask, record):
    for base_uri in ("s3://no-such-bucket", record["base_uri"] + "/"):
        answer = put(ask, record, base_uri=base_uri)
        assert (answer.status_code, answer.json()) == (403, refusal(403))
    assert ask("DELETE", "/uris/s3/no-such-bucket/x", "keeper").status_code == 403


def test_the_same_data_set_in_the_other_form_of_its_uri(ask, record):
    from urllib.parse import quote

    answer = ask("PUT", f"/uris/{quote(record['uri'], safe='')}", "keeper", json=record)
    assert answer.status_code == 201
    assert ask("GET", f"/uris/{path_of(record['uri'])}", "keeper").json()["uri"] == record["uri"]


# Users ------------------------------------------------------------------------------------------------------------------


def test_a_user_comes_changes_and_goes(ask):
    assert (ask("GET", "/users/erin", "admin").status_code, ask("GET", "/me", "erin").status_code) == (
        404,
        401,
    )
    new = ask("PUT", "/users/erin", "admin", json={"username": "ignored", "is_admin": True})
    assert (new.status_code, new.json()) == (201, "")
    known = {
        "register_permissions_on_base_uris": [],
        "search_permissions_on_base_uris": [],
        "username": "erin",
    }
    assert ask("GET", "/users/erin", "admin").json() == {"is_admin": True} | known
    assert ask("GET", "/users", "erin").status_code == 200
    changed = ask("PUT", "/users/erin", "admin", json={})
    assert (changed.status_code, changed.json()) == (200, "")
    assert ask("GET", "/users/erin", "erin").json() == {"is_admin": False} | known
    assert ask("GET", "/users", "erin").status_code == 403
    for _ in range(2):
        gone = ask("DELETE", "/users/erin", "admin")
        assert (gone.status_code, gone.json()) == (200, "")
    assert ask("GET", "/users/erin", "admin").json() == refusal(404)
    assert ask("GET", "/users/erin/summary", "admin").json() == refusal(404)
    assert ask("GET", "/me", "erin").json() == refusal(401)


def test_names_with_a_space_and_an_umlaut(ask):
    for path in ("/users/a%20b", "/users/%C3%BC"):
        assert ask("PUT", path, "admin", json={"is_admin": False}).status_code == 201
        assert ask("GET", path, "admin").json()["username"] in {"a b", "ü"}
        assert ask("DELETE", path, "admin").status_code == 200
    assert ask("PUT", "/users/a/b", "admin", json={}).status_code == 404


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ({"bad": 1}, {"bad": ["Unknown field."]}),
        ({"is_admin": "perhaps"}, {"is_admin": ["Not a valid boolean."]}),
        ({"is_admin": None}, {"is_admin": ["Field may not be null."]}),
    ],
)
def test_what_no_user_has(ask, body, messages):
    answer = ask("PUT", "/users/frank", "admin", json=body)
    assert (answer.status_code, answer.json()) == (422, invalid("json", **messages))


def test_the_list_of_users(ask):
    answer = ask("GET", "/users?page_size=100", "admin")
    names = [row["username"] for row in answer.json()]
    assert names == sorted(names)
    assert {"observer", "walker"} <= set(names)
    assert {frozenset(row) for row in answer.json()} == {frozenset({"is_admin", "username"})}
    assert page(answer)["total"] == len(names)
    assert order(answer) == {"username": 1}
    backwards = ask("GET", "/users?page_size=100&sort=-is_admin,-username", "admin")
    assert order(backwards) == {"is_admin": -1, "username": -1}
    assert backwards.json()[0]["is_admin"] is True
    past = ask("GET", "/users?page=99", "admin")
    assert (past.status_code, past.json()) == (404, refusal(404))
    wrong = ask("GET", "/users?sort=name", "admin")
    choices = "+username, +is_admin, -username, -is_admin, username, is_admin"
    assert wrong.json() == invalid("query", sort={"0": [f"Must be one of: {choices}."]})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/users"),
        ("GET", "/users/walker"),
        ("GET", "/users/walker/summary"),
        ("GET", "/users/no-such-user"),
        ("PUT", "/users/observer"),
        ("DELETE", "/users/observer"),
        ("GET", "/base-uris"),
        ("GET", "/base-uris/s3/night"),
        ("PUT", "/base-uris/s3/night"),
        ("DELETE", "/base-uris/s3/night"),
    ],
)
def test_what_only_administrators_may(ask, method, path):
    answer = ask(method, path, "observer", **({"json": {}} if method == "PUT" else {}))
    assert (answer.status_code, answer.json()) == (403, refusal(403))


def test_everybody_may_see_oneself(ask):
    assert ask("GET", "/users/walker", "walker").json() == ask("GET", "/me", "walker").json()
    assert ask("GET", "/users/walker/summary", "walker").json() == ask("GET", "/me/summary", "walker").json()


# Base URIs --------------------------------------------------------------------------------------------------------------


def test_a_base_uri_comes_changes_and_goes(ask):
    path, base_uri = "/base-uris/s3/new%20+%C3%BC", "s3://new +ü"
    assert (ask("GET", path, "admin").status_code, ask("GET", path, "admin").json()) == (404, refusal(404))
    lists = {
        "users_with_search_permissions": ["observer", "ghost"],
        "users_with_register_permissions": ["walker"],
    }
    new = ask("PUT", path, "admin", json=lists)
    assert (new.status_code, new.json()) == (201, "")
    shown = {"users_with_search_permissions": ["observer"], "users_with_register_permissions": ["walker"]}
    assert ask("GET", path, "admin").json() == {"base_uri": base_uri} | shown
    assert ask("GET", "/base-uris/s3%3A%2F%2Fnew%20%2B%C3%BC", "admin").json()["base_uri"] == base_uri
    assert base_uri in ask("GET", "/me", "observer").json()["search_permissions_on_base_uris"]
    changed = ask(
        "PUT", path, "admin", json={"base_uri": "ignored", "users_with_search_permissions": ["walker"]}
    )
    assert (changed.status_code, changed.json()) == (200, "")
    shown = {"users_with_search_permissions": ["walker"], "users_with_register_permissions": []}
    assert ask("GET", path, "admin").json() == {"base_uri": base_uri} | shown
    assert base_uri not in ask("GET", "/me", "observer").json()["search_permissions_on_base_uris"]
    for _ in range(2):
        gone = ask("DELETE", path, "admin")
        assert (gone.status_code, gone.json()) == (200, "")
    assert ask("GET", path, "admin").status_code == 404
    assert base_uri not in ask("GET", "/me", "walker").json()["search_permissions_on_base_uris"]


def test_a_slash_at_the_end_makes_another_base_uri(ask):
    assert ask("PUT", "/base-uris/s3/slash/", "admin", json={}).status_code == 201
    assert ask("GET", "/base-uris/s3/slash/", "admin").json()["base_uri"] == "s3://slash/"
    assert ask("GET", "/base-uris/s3/slash", "admin").status_code == 404
    assert ask("DELETE", "/base-uris/s3/slash/", "admin").status_code == 200


def test_a_user_named_twice_breaks_the_server(ask):
    answer = ask(
        "PUT", "/base-uris/s3/twice", "admin", json={"users_with_search_permissions": ["walker", "walker"]}
    )
    assert (answer.status_code, answer.json()) == (500, refusal(500))
    assert ask("GET", "/base-uris/s3/twice", "admin").json()["users_with_search_permissions"] == []
    assert ask("DELETE", "/base-uris/s3/twice", "admin").status_code == 200


def test_a_base_uri_with_data_sets_stays(ask):
    answer = ask("DELETE", "/base-uris/s3/night", "admin")
    assert (answer.status_code, answer.json()) == (500, refusal(500))
    assert ask("GET", "/base-uris/s3/night", "admin").json()["users_with_search_permissions"] == ["observer"]


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ({"bad": 1}, {"bad": ["Unknown field."]}),
        (
            {"users_with_search_permissions": "walker"},
            {"users_with_search_permissions": ["Not a valid list."]},
        ),
        (
            {"users_with_register_permissions": [1]},
            {"users_with_register_permissions": {"0": ["Not a valid string."]}},
        ),
    ],
)
def test_what_no_base_uri_has(ask, body, messages):
    answer = ask("PUT", "/base-uris/s3/none", "admin", json=body)
    assert (answer.status_code, answer.json()) == (422, invalid("json", **messages))


def test_the_list_of_base_uris(ask):
    answer = ask("GET", "/base-uris?page_size=100", "admin")
    found = [row["base_uri"] for row in answer.json()]
    assert found == sorted(found)
    assert {"s3://night", "s3://odd place+ü"} <= set(found)
    assert {frozenset(row) for row in answer.json()} == {frozenset({"base_uri"})}
    assert (page(answer)["total"], order(answer)) == (len(found), {"base_uri": 1})
    last = ask("GET", "/base-uris?page_size=1&sort=-base_uri", "admin")
    assert [row["base_uri"] for row in last.json()] == found[-1:]
    assert ask("GET", "/base-uris?page=99", "admin").json() == refusal(404)
    wrong = ask("GET", "/base-uris?sort=uri", "admin")
    assert wrong.json() == invalid("query", sort={"0": ["Must be one of: +base_uri, -base_uri, base_uri."]})


# Notifications ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/webhook/notify", "/webhook/notify/", "/webhook/notify/a/b"])
def test_a_notification_of_nothing_that_matters(ask, path):
    answer = ask("POST", path, None, json={"Records": [{"eventName": "s3:Test", "s3": {}}]})
    assert (answer.status_code, answer.json()) == (200, None)


def test_a_notification_of_an_unknown_bucket(ask):
    event = {"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": "none"}, "object": {"key": "a"}}}
    answer = ask("POST", "/webhook/notify", None, json={"Records": [event]})
    assert (answer.status_code, answer.json()) == (400, refusal(400))


def test_a_notification_that_is_none(ask):
    for answer in (ask("POST", "/webhook/notify", None), ask("POST", "/webhook/notify", None, json={})):
        assert (answer.status_code, answer.json()) == (500, refusal(500))
    form = {"Action": "Publish", "Message": "Test"}
    answer = ask("POST", "/webhook/notify", None, data=form)
    assert (answer.status_code, answer.json()) == (200, None)
