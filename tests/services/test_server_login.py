"""Logging in, and what admins do."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from nuncius import open_archive
from nuncius.sandbox.kowalski import SandboxKowalski


@pytest.fixture
def box(shared):
    """Give the server; what a test did to its accounts is undone."""
    yield shared
    for account in shared._accounts.everyone():
        if account.name not in {shared.username, shared.admin_username}:
            shared._accounts.remove(account.name)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    path = tmp_path_factory.mktemp("login") / "empty.db"
    open_archive(path).close()
    return path


@pytest.fixture(scope="module")
def shared(empty):
    with SandboxKowalski(archive=empty) as running:
        yield running


@pytest.fixture
def call(box):
    def call(method, path, *, token=None, **options):
        headers = {} if token is None else {"Authorization": token}
        return httpx2.request(
            method, f"{box.http_url}{path}", headers=headers | options.pop("headers", {}), **options
        )

    return call


def log_in(call, username, password, **more):
    return call("POST", "/api/auth", json={"username": username, "password": password} | more)


@pytest.mark.parametrize("how", ["json", "data"])
@pytest.mark.parametrize("kind", ["{}", "Bearer {}", "bearer {}", "Bearer   {}"])
def test_a_token_opens_the_door(call, box, how, kind):
    login = {"username": box.username, "password": box.password}
    answer = call("POST", "/api/auth", **{how: login})
    assert answer.status_code == 200
    assert set(answer.json()) == {"status", "token"}
    assert answer.json()["status"] == "success"
    assert call("GET", "/", token=kind.format(answer.json()["token"])).status_code == 200


@pytest.mark.parametrize("version", ["2.0.0", "2.4.2"])
def test_versions_of_penquins(call, box, version):
    assert log_in(call, box.username, box.password, **{"penquins.__version__": version}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"password": "x"}, 400, "missing username"),
        ({"username": "x"}, 400, "missing password"),
        ({}, 400, "missing username"),
        ([], 400, "missing username"),
        (
            {"username": "x", "password": "y", "penquins.__version__": "9.9.9"},
            400,
            "unsupported version of penquins: 9.9.9",
        ),
        ({"username": "", "password": ""}, 400, "username and password must be set"),
        ({"username": 5, "password": ["a"]}, 400, "username and password must be set"),
        ({"username": "astronomer", "password": "wrong"}, 401, "Unauthorized"),
        ({"username": "nobody", "password": "wrong"}, 401, "Unauthorized"),
    ],
)
def test_logins_that_fail(call, body, status, message):
    answer = call("POST", "/api/auth", json=body)
    assert (answer.status_code, answer.json()["message"]) == (status, message)


def test_a_login_without_anything_in_it(call):
    answer = call("POST", "/api/auth")
    assert (answer.status_code, answer.json()["message"]) == (500, "Internal Server Error")
    assert call("POST", "/api/auth", content=b"{").status_code == 400
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert call("POST", "/api/auth", content=b"\xff=1", headers=form).status_code == 400
    assert (
        call("POST", "/api/auth", content="&".join("abcdefghijklmnopqrstuvwxyz"), headers=form).status_code
        == 400
    )


def test_requests_without_a_token(call):
    for method, path in (
        ("GET", "/"), ("POST", "/api/queries"), ("POST", "/api/users"), ("PUT", "/api/users/x"), ("DELETE", "/api/users/x"),
        ("GET", "/api/skymap"), ("PUT", "/api/skymap"), ("DELETE", "/api/skymap"), ("GET", "/api/cutouts/ztf/1/science/fits"),
    ):  # fmt: skip
        answer = call(method, path)
        assert (answer.status_code, answer.json()) == (401, {"status": "error", "message": "Unauthorized"})
        answer = call(method, path, token="Bearer")
        assert answer.status_code == 401


def test_bad_and_expired_tokens(call, box):
    for token in ("x", "Bearer x", "Basic eDp5"):
        answer = call("GET", "/", token=token)
        assert (answer.status_code, answer.json()["message"]) == (400, "token is invalid")
    answer = call("GET", "/", token=box._accounts.token(box.username, lifetime_s=-1))
    assert (answer.status_code, answer.json()["message"]) == (400, "token has expired")


def test_an_admin_adds_edits_and_removes_users(call, box):
    # As in penquins' documentation, whose password is short.
    request = {"username": "noone", "password": "nopas!", "email": "user@caltech.edu"}
    answer = call("POST", "/api/users", token=box.admin_token, json=request)
    assert answer.json() == {"status": "success", "message": "added user noone"}
    token = log_in(call, "noone", "nopas!").json()["token"]
    assert call("GET", "/", token=token).status_code == 200
    answer = call("PUT", "/api/users/noone", token=box.admin_token, json={"password": "other!"})
    assert answer.json() == {"status": "success", "message": "edited user noone"}
    assert call("GET", "/", token=token).json()["message"] == "token is invalid"
    token = log_in(call, "noone", "other!").json()["token"]
    answer = call("DELETE", "/api/users/noone", token=box.admin_token)
    assert answer.json() == {"status": "success", "message": "removed user noone"}
    assert call("GET", "/", token=token).json()["message"] == "token is invalid"
    assert log_in(call, "noone", "other!").status_code == 401


def test_refusals_to_an_admin(call, box):
    def ask(method, path, **body):
        answer = call(method, path, token=box.admin_token, json=body)
        return answer.status_code, answer.json()["message"]

    assert ask("POST", "/api/users", username=box.username, password="longer")[:1] == (500,)
    assert ask("POST", "/api/users", username="x") == (400, "username and password must be set")
    assert ask("POST", "/api/users", username="x", password="short")[0] == 400
    assert ask("POST", "/api/users", username="a b", password="longer")[0] == 400
    assert ask("POST", "/api/users", username=["a"], password={"b": 1})[0] == 400
    assert ask("PUT", "/api/users/nobody", password="longer") == (400, "user nobody not found")
    assert ask("PUT", f"/api/users/{box.username}", password=5)[0] == 400
    assert ask("DELETE", "/api/users/nobody") == (400, "user nobody not found")
    assert ask("DELETE", f"/api/users/{box.admin_username}") == (400, "cannot remove the superuser!")


def test_users_are_no_admins(call, box):
    for method, path in (
        ("POST", "/api/users"),
        ("PUT", "/api/users/admin"),
        ("DELETE", "/api/users/astronomer"),
    ):
        body = {"username": "x", "password": "longer", "admin": True}
        answer = call(method, path, token=box.token, json=body)
        assert (answer.status_code, answer.json()["message"]) == (403, "Forbidden")
    assert {account.name for account in box._accounts.everyone()} == {"admin", "astronomer"}


def test_nobody_becomes_an_admin_over_http(call, box):
    request = {"username": "mallory", "password": "longer", "admin": True, "permissions": {"admin": True}}
    assert call("POST", "/api/users", token=box.admin_token, json=request).status_code == 200
    call(
        "PUT",
        "/api/users/mallory",
        token=box.admin_token,
        json={"admin": True, "permissions": {"admin": True}},
    )
    assert not box._accounts.get("mallory").admin


def test_failed_logins_are_slowed_down(empty):
    with SandboxKowalski(archive=empty) as other:
        url = f"{other.http_url}/api/auth"
        wrong = {"username": other.username, "password": "wrong password"}
        assert [httpx2.post(url, json=wrong).status_code for _ in range(6)] == [401] * 5 + [429]
        answer = httpx2.post(url, json=wrong | {"password": other.password})
        assert answer.status_code == 429
        assert 290 < int(answer.headers["retry-after"]) <= 300
        admin = {"username": other.admin_username, "password": other.admin_password}
        assert httpx2.post(url, json=admin).status_code == 200


def test_many_guesses_at_once_are_counted(empty):
    with SandboxKowalski(archive=empty) as other, ThreadPoolExecutor(20) as threads:
        wrong = {"username": other.username, "password": "wrong password"}
        tries = [threads.submit(httpx2.post, f"{other.http_url}/api/auth", json=wrong) for _ in range(20)]
        assert sorted(answer.result().status_code for answer in tries) == [401] * 5 + [429] * 15


def test_the_log_holds_no_secret(call, box, caplog):
    import logging

    with caplog.at_level(logging.DEBUG):
        token = log_in(call, box.username, box.password).json()["token"]
        log_in(call, box.username, "a wrong password")
        query = {"query_type": "find", "query": {"catalog": "ZTF_alerts", "filter": {"a": "needle"}}}
        call("POST", "/api/queries", token=token, json=query)
        call("GET", "/nope?token=" + token)
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("nuncius"))
    assert f"{box.username} POST /api/queries 200 find ZTF_alerts rows=0" in ours
    assert "a login of 'astronomer'" in ours
    for secret in (box.password, token, "a wrong password", "needle"):
        assert secret not in ours
    assert "needle" not in json.dumps([str(request) for request in box.requests])
