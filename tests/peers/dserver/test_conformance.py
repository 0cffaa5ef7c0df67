"""The same questions to the real dserver and to the sandbox's: tokens, who may ask, headers, and what is no route."""

import json
import time

import httpx2
import jwt
import pytest
from dserver_support import DATA, NIGHT, SEARCHED, invalid, path_of, refusal, uuid_of

pytestmark = pytest.mark.xdist_group("dserver-peer")

PLUGINS = {
    "dserver_dependency_graph_plugin",
    "dserver_direct_mongo_plugin",
    "dserver_notification_plugin",
    "dserver_retrieve_plugin_mongo",
    "dserver_search_plugin_mongo",
}
PLACE = "s3/night/" + uuid_of(1)
GUARDED = [
    *[("GET", f"/{what}/{PLACE}") for what in ("uris", "readmes", "manifests", "tags", "annotations")],
    *[("GET", "/uris"), ("POST", "/uris"), ("PUT", f"/uris/{PLACE}"), ("DELETE", f"/uris/{PLACE}")],
    *[("GET", f"/uuids/{uuid_of(1)}"), ("GET", "/config/info"), ("GET", "/me"), ("GET", "/me/summary")],
    *[("GET", "/users"), ("GET", "/users/walker"), ("GET", "/users/walker/summary")],
    *[("PUT", "/users/walker"), ("DELETE", "/users/nobody-at-all")],
    *[("GET", "/base-uris"), ("GET", "/base-uris/s3/night")],
    *[("PUT", "/base-uris/s3/night"), ("DELETE", "/base-uris/s3/none")],
    *[("POST", "/mongo/query"), ("POST", "/mongo/aggregate")],
    *[("GET", f"/graph/uuids/{uuid_of(1)}"), ("POST", f"/graph/uuids/{uuid_of(1)}")],
]
NO_BEARER = {"msg": "Missing 'Bearer' type in 'Authorization' header. Expected 'Authorization: Bearer <JWT>'"}
BAD_HEADER = {"msg": "Bad Authorization header. Expected 'Authorization: Bearer <JWT>'"}


def options_of(method, path=""):
    if path.startswith("/graph"):
        return {"json": {"dependency_keys": ["readme.derived_from.uuid"]}} if method == "POST" else {}
    return {"json": {}} if method in {"POST", "PUT"} else {}


# Tokens -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_who_shows_no_token_is_told_so(ask, method, path):
    answer = ask(method, path, None, **options_of(method, path))
    assert (answer.status_code, answer.json()) == (401, {"msg": "Missing Authorization Header"})


@pytest.mark.parametrize(("method", "path"), [each for each in GUARDED if each[1] != "/mongo/aggregate"])
def test_who_is_not_registered_is_told_something_else(ask, method, path):
    answer = ask(method, path, "unknown", **options_of(method, path))
    assert (answer.status_code, answer.json()) == (401, refusal(401))


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_an_expired_token_is_told_from_one_of_nobody(ask, method, path):
    answer = ask(method, path, "expired", **options_of(method, path))
    assert (answer.status_code, answer.json()) == (401, {"msg": "Token has expired"})


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        ("", 401, {"msg": "Missing Authorization Header"}),
        ("Basic abc", 401, NO_BEARER),
        ("bearer abc", 401, NO_BEARER),
        ("Bearer", 422, BAD_HEADER),
        ("Bearer a b", 422, BAD_HEADER),
        ("Bearer abc", 422, {"msg": "Not enough segments"}),
        ("Bearer a.b", 422, {"msg": "Not enough segments"}),
        ("Bearer a.b.c", 422, {"msg": "Invalid header padding"}),
    ],
)
def test_what_is_no_token(ask, header, status, body):
    answer = ask("GET", "/me", None, headers={"Authorization": header})
    assert (answer.status_code, answer.json()) == (status, body)


def test_a_token_without_its_type_is_none(server, ask):
    answer = ask("GET", "/me", None, headers={"Authorization": server.token})
    assert (answer.status_code, answer.json()) == (401, NO_BEARER)


def test_a_token_of_another_key_or_kind_is_refused(server, ask):
    forged = server.token[:-8] + ("A" * 8 if not server.token.endswith("A" * 8) else "B" * 8)
    symmetric = jwt.encode({"sub": "observer"}, "k" * 40, algorithm="HS256")
    unsigned = jwt.encode({"sub": "observer"}, None, algorithm="none")
    said = [
        ask("GET", "/me", None, headers={"Authorization": f"Bearer {token}"})
        for token in (forged, symmetric, unsigned)
    ]
    assert [answer.status_code for answer in said] == [422, 422, 422]
    assert said[0].json() == {"msg": "Signature verification failed"}
    assert said[1].json() == said[2].json() == {"msg": "The specified alg value is not allowed"}


def test_a_token_may_last_for_ever_or_be_over_soon(server, ask):
    for_ever, short = server.make_token("walker", None), server.make_token("walker", 1)
    claims = jwt.decode(for_ever, server.public_key, algorithms=["RS256"])
    assert claims["sub"] == "walker"
    assert "exp" not in claims
    assert jwt.get_unverified_header(short)["alg"] == "RS256"

    def status(token):
        return ask("GET", "/me", None, headers={"Authorization": f"Bearer {token}"}).status_code

    assert status(short) == 200
    while time.time() < jwt.decode(short, options={"verify_signature": False})["exp"] + 0.1:
        time.sleep(0.05)
    assert status(short) == 401
    assert status(for_ever) == 200


def test_what_is_in_a_question_is_looked_at_before_who_asks(ask):
    bad_field, bad_page = ask("POST", "/uris", None, json={"bad": 1}), ask("GET", "/uris?page=0", None)
    assert (bad_field.status_code, bad_field.json()) == (422, invalid("json", bad=["Unknown field."]))
    too_low = ["Must be greater than or equal to 1."]
    assert (bad_page.status_code, bad_page.json()) == (422, invalid("query", page=too_low))
    both = ask("POST", "/uris?page=0", None, json={"bad": 1})
    assert both.json() == invalid("json", bad=["Unknown field."])


def test_without_authentication_nobody_needs_a_token(server, ask, switched):
    switched(authenticate=False)
    assert ask("GET", "/me", None).json()["username"] == server.username
    assert ask("GET", "/me", "expired").json()["username"] == server.username
    assert ask("GET", "/uris", None).status_code == 200


# The generator of tokens ------------------------------------------------------------------------------------------------


def test_who_knows_the_password_gets_a_token(server, switched):
    switched(token_life_s=15)
    login = {"username": server.username, "password": server.password}
    answer = httpx2.post(server.token_url, json=login)
    assert answer.status_code == 200
    assert sorted(answer.json()) == ["status", "token"]
    assert answer.json()["status"] == "success"
    claims = jwt.decode(answer.json()["token"], server.public_key, algorithms=["RS256"])
    assert claims["sub"] == server.username
    assert claims["exp"] - claims["iat"] == 15
    me = httpx2.get(f"{server.url}/me", headers={"Authorization": f"Bearer {answer.json()['token']}"})
    assert me.json()["username"] == server.username


def test_a_refused_login_is_no_error(server):
    for login in (
        {"username": server.username, "password": "no"},
        {"username": "no", "password": server.password},
    ):
        answer = httpx2.post(server.token_url, json=login)
        assert (answer.status_code, answer.json()) == (200, {"status": "fail"})


def test_half_a_login_is_one(server):
    answer = httpx2.post(server.token_url, json={"username": server.username})
    assert (answer.status_code, answer.content) == (400, b"")


def test_the_public_key_is_there_for_all(server):
    answer = httpx2.get(f"{server.url}/public_key")
    assert answer.status_code == 200
    assert answer.text.strip() == server.public_key.strip()
    assert answer.text.startswith("-----BEGIN PUBLIC KEY-----")


# Versions, settings, who one is -----------------------------------------------------------------------------------------


def test_versions_need_no_token(ask):
    answer = ask("GET", "/config/versions", None)
    assert answer.status_code == 200
    assert set(answer.json()) == {"versions"}
    versions = answer.json()["versions"]
    assert set(versions) == {"dservercore"} | PLUGINS
    assert versions["dservercore"] == "0.22.0"
    assert versions["dserver_direct_mongo_plugin"] == "0.4.2"
    assert versions["dserver_notification_plugin"] == "0.4.3"


def test_settings_are_shown_without_secrets(ask):
    answer = ask("GET", "/config/info", "nobody")
    assert set(answer.json()) == {"config"}
    config = answer.json()["config"]
    expected = {
        "allow_direct_query": True,
        "allow_direct_aggregation": False,
        "enable_dependency_view": True,
        "dynamic_dependency_keys": True,
        "dependency_keys": ["readme.derived_from.uuid", "annotations.source_dataset_uuid"],
        "disable_jwt_authorisation": False,
        "bucket_to_base_uri": {"bucket": "s3://bucket"},
        "jwt_algorithm": "RS256",
        "api_title": "dserver API",
    }
    assert {name: config.get(name) for name in expected} == expected
    hidden = (
        "secret_key",
        "sqlalchemy_database_uri",
        "jwt_private_key",
        "search_mongo_uri",
        "mongo_collection",
    )
    assert {config[name] for name in hidden} == {"***"}
    assert all(name == name.lower() for name in config)
    assert "PRIVATE KEY" not in answer.text


def test_who_one_is(ask):
    assert ask("GET", "/me", "nobody").json() == {
        "is_admin": False,
        "register_permissions_on_base_uris": [],
        "search_permissions_on_base_uris": [],
        "username": ask("GET", "/me", "nobody").json()["username"],
    }
    admin, reader, observer = (ask("GET", "/me", who).json() for who in ("admin", "reader", "observer"))
    assert admin["is_admin"] is True
    assert len(reader["search_permissions_on_base_uris"]) == 1
    assert observer["is_admin"] is False
    expected = {base_uri for base_uri, users in SEARCHED.items() if "observer" in users}
    assert set(observer["search_permissions_on_base_uris"]) >= expected
    assert not set(observer["search_permissions_on_base_uris"]) & {"s3://bulk", "s3://closed"}


# Headers and routes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/config/versions", "/uris", "/me", "/nope", f"/readmes/{PLACE}", "/uris?page=0"]
)
def test_every_answer_is_json_for_pages_of_any_origin(ask, path):
    answer = ask("GET", path)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-expose-headers"] == "X-Pagination"


def test_the_headers_of_a_list_as_they_are_written(ask):
    answer = ask("GET", "/uris?page_size=5&page=2", "walker")
    expected = '{"total": 300, "total_pages": 60, "first_page": 1, "last_page": 60, "page": 2, "previous_page": 1, "next_page": 3}'
    assert json.loads(answer.headers["X-Pagination"]) == json.loads(expected)
    assert answer.headers["X-Sort"] == '{"sort": {"uri": 1}}'


@pytest.mark.parametrize(
    "path",
    ["/", "/nope", "/uris/", "/me/", "/uuids/", "/readmes/", "/config", "/config/health", "/dataset/list"],
)
def test_what_is_no_route(ask, path):
    answer = ask("GET", path)
    assert (answer.status_code, answer.json()) == (404, refusal(404))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", f"/uris/{PLACE}"),
        ("POST", f"/uris/{PLACE}"),
        ("PUT", f"/readmes/{PLACE}"),
        ("PUT", f"/tags/{PLACE}"),
        ("DELETE", "/uris"),
        ("PUT", "/uris"),
        ("POST", "/me"),
        ("PATCH", "/me"),
        ("GET", "/mongo/query"),
        ("GET", "/webhook/notify"),
    ],
)
def test_what_is_no_method_of_a_route(ask, method, path):
    answer = ask(method, path, **options_of(method))
    assert (answer.status_code, answer.json()) == (405, refusal(405))


def test_a_list_can_be_asked_for_its_headers_alone(ask):
    answer = ask("HEAD", "/uris", "walker")
    assert (answer.status_code, answer.content) == (200, b"")
    assert json.loads(answer.headers["X-Pagination"])["total"] == 300


def test_the_interface_is_described(ask):
    described = ask("GET", "/doc/openapi.json", None)
    assert described.status_code == 200
    assert {"/uris", "/uuids/{uuid}", "/mongo/query", "/graph/uuids/{uuid}"} <= set(described.json()["paths"])


@pytest.mark.parametrize("what", ["uris", "readmes", "manifests", "tags", "annotations"])
def test_unknown_and_forbidden_base_uris_look_the_same(ask, server, what):
    closed = ask("GET", f"/{what}/{path_of(server.uris['closed'])}")
    unknown = ask("GET", f"/{what}/s3/no-such-bucket/{uuid_of(1)}")
    no_uri = ask("GET", f"/{what}/x")
    nobody = ask("GET", f"/{what}/{path_of(server.uris['nova'])}", "nobody")
    for answer in (closed, unknown, no_uri, nobody):
        assert (answer.status_code, answer.json()) == (403, refusal(403))


@pytest.mark.parametrize("what", ["uris", "readmes", "manifests", "tags", "annotations"])
def test_an_unknown_data_set_at_a_base_uri_that_one_may_search(ask, what):
    answer = ask("GET", f"/{what}/{path_of(f'{NIGHT}/{uuid_of(999)}')}")
    assert (answer.status_code, answer.json()) == (404, refusal(404))
    assert DATA["nova"].uuid != uuid_of(999)
