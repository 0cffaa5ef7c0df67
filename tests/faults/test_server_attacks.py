"""Attacks on the server from outside and by its own users, and on the client by the servers that it asks."""

from __future__ import annotations

import base64
import gzip
import http.server
import json
import logging
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace

import httpx2
import jwt
import pytest

from nuncius import open_archive, sky
from nuncius.archives.language import bounds
from nuncius.archives.server import Limits
from nuncius.errors import LoginError, NunciusError, ServerError
from nuncius.sandbox.kowalski import REFERENCE_CATALOG, SandboxKowalski, fill_archive

FIND = {"query_type": "find", "query": {"catalog": "ZTF_alerts", "filter": {}, "projection": {"candid": 1}}}
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # reading the certificates would take most of the time
LIMITS = Limits(body_s=1.0, query_s=10.0, memory_bytes=900_000_000)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    path = tmp_path_factory.mktemp("attacks") / "night.db"
    fill_archive(path, alerts=40)
    return path


@pytest.fixture(scope="module")
def box(night):
    with SandboxKowalski(archive=night, limits=LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def patient(night):
    """Serve with time enough for a query to come to its limit of memory, also on a busy machine."""
    with SandboxKowalski(archive=night, limits=replace(LIMITS, query_s=25.0)) as running:
        yield running


def ask(box, method, path, body=None, *, token=None, **options):
    content = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": token} if token else {}
    with httpx2.Client(base_url=box.http_url, timeout=30, verify=NO_TLS) as client:
        answer = client.request(method, path, content=content, headers=headers, **options)
    assert "Traceback" not in answer.text
    return answer


def query(box, body):
    return ask(box, "POST", "/api/queries", body, token=box.token)


def find(condition, catalog="ZTF_alerts", kwargs=None, **more):
    return {
        "query_type": "find",
        "query": {"catalog": catalog, "filter": condition, **more},
        "kwargs": kwargs or {},
    }


def aggregate(*stages, catalog="ZTF_alerts"):
    return {"query_type": "aggregate", "query": {"catalog": catalog, "pipeline": list(stages)}}


# Who one is -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "admin ", " admin", "admin\0", "\uff41dmin", "adm\u0131n", "\u202eadmin", "admin/../x", "a/b", "..", ".admin",
        "new\nuser", "x" * 65, "", 5, ["admin"], {"$ne": 1}, None,
    ],
)  # fmt: skip
def test_names_that_look_like_another_are_no_names(box, name):
    answer = ask(
        box,
        "POST",
        "/api/users",
        {"username": name, "password": "long enough"},
        token=box.admin_token,
    )
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "path", ["admin%20", "admin%00", "admin%2F", "ADMIN", "%2e%2e", "admin%2F..%2Fastronomer"]
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_paths_that_look_like_a_user_are_none(box, path, method):
    answer = ask(box, method, f"/api/users/{path}", {"password": "a new one"}, token=box.admin_token)
    assert answer.status_code in {400, 404, 405}
    login = {"username": box.admin_username, "password": box.admin_password}
    assert ask(box, "POST", "/api/auth", login).status_code == 200


def test_nobody_makes_himself_an_admin(box):
    new = {"username": "mallory", "password": "let me in", "admin": True, "permissions": ["admin"]}
    assert ask(box, "POST", "/api/users", new, token=box.token).status_code == 403
    assert ask(box, "POST", "/api/users", new, token=box.admin_token).status_code == 200
    token = ask(box, "POST", "/api/auth", new).json()["token"]
    for method, path in (
        ("POST", "/api/users"),
        ("PUT", "/api/users/mallory"),
        ("DELETE", "/api/users/astronomer"),
    ):
        answer = ask(
            box, method, path, {"username": "x", "password": "let me in", "admin": True}, token=token
        )
        assert answer.status_code == 403
    ask(box, "PUT", "/api/users/mallory", {"admin": True}, token=box.admin_token)
    assert not next(account for account in box._accounts.everyone() if account.name == "mallory").admin


def test_a_token_does_not_outlive_its_account_or_password(box):
    accounts = box._accounts
    accounts.add("leaving", "the first one")
    first = accounts.token("leaving", lifetime_s=60)
    accounts.edit("leaving", password="the second one")
    second = accounts.token("leaving", lifetime_s=60)
    assert ask(box, "GET", "/", token=first).json()["message"] == "token is invalid"
    assert ask(box, "GET", "/", token=second).status_code == 200
    accounts.remove("leaving")
    assert ask(box, "GET", "/", token=second).json()["message"] == "token is invalid"
    accounts.add("leaving", "the second one")  # somebody else of that name
    assert ask(box, "GET", "/", token=second).json()["message"] == "token is invalid"


def test_tokens_made_elsewhere(box):
    secret = box._accounts._secret
    claims = jwt.decode(box.token, secret, algorithms=["HS256"])
    without = {name: value for name, value in claims.items() if name != "exp"}
    forged = [
        jwt.encode(claims, b"x" * 48, algorithm="HS256"),
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims, secret.ljust(64, b"\0"), algorithm="HS512"),
        jwt.encode(claims, b"x" * 48, headers={"jku": "http://127.0.0.1:1/", "kid": "../../dev/null"}),
        jwt.encode(without, secret),
        jwt.encode(claims | {"version": 5}, secret),
        jwt.encode(claims | {"user_id": [box.admin_username]}, secret),
        jwt.encode(claims | {"user_id": box.admin_username}, secret),
    ]
    for token in forged:
        answer = ask(box, "GET", "/", token=token)
        assert (answer.status_code, answer.json()["message"]) == (400, "token is invalid")
    old = jwt.encode(claims | {"exp": 1}, secret)
    assert ask(box, "GET", "/", token=old).json()["message"] == "token has expired"


@pytest.mark.parametrize(
    "body",
    [
        b'{"username": "\\ud800", "password": "abcdefgh"}',
        b'{"username": "astronomer", "password": "\\ud800\\ud800\\ud800"}',
        b'{"username": "astronomer\\u0000", "password": "abcdefgh"}',
        b'{"username": "a", "password": "b", "penquins.__version__": {"a": 1}}',
        b'{"username": "a", "password": "b", "penquins.__version__": ["2.4.2"]}',
        b'{"username": {"$ne": ""}, "password": {"$ne": ""}}',
        b'{"username": ["admin"], "password": "abcdefgh"}',
    ],
)
def test_logins_of_odd_values_fail_as_others_do(night, body):
    with SandboxKowalski(archive=night) as box:
        answer = httpx2.post(f"{box.http_url}/api/auth", content=body)
    assert answer.status_code in {400, 401}
    assert answer.json()["status"] == "error"


def test_an_unknown_name_takes_as_long_as_a_known_one(tmp_path):
    from nuncius.archives.server import Accounts

    with Accounts(tmp_path / "accounts.db") as accounts:
        accounts.add("vera", "right and long")

        def seconds(name):
            begin = time.process_time()
            assert not accounts.accepts(name, "wrong and long")
            return time.process_time() - begin

        known, unknown = (min(seconds(name) for _ in range(3)) for name in ("vera", "nobody"))
    assert 0.5 < known / unknown < 2


def test_only_the_owner_reads_accounts_while_they_change(tmp_path):
    from nuncius.archives.server import Accounts

    def modes():
        return {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}

    before = os.umask(0)  # so that nothing but the program itself keeps others out
    try:
        with Accounts(tmp_path / "accounts.db", scrypt_cost=4) as accounts:
            accounts.add("vera", "right and long")
            with accounts._writing() as connection:
                connection.execute("UPDATE users SET email = 'v@example.org'")
                assert len(list(tmp_path.iterdir())) > 1  # the journal, with what was there before
                assert modes() == {0o600}
            assert modes() == {0o600}
    finally:
        os.umask(before)


def test_users_that_come_and_go_while_they_log_in(box):
    statuses, stop = [], threading.Event()

    def log_in():
        while not stop.is_set():
            statuses.append(
                ask(box, "POST", "/api/auth", {"username": "passing", "password": "through here"}).status_code
            )

    threads = [threading.Thread(target=log_in) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        box._accounts.add("passing", "through here")
        time.sleep(0.01)
        box._accounts.remove("passing")
    stop.set()
    for thread in threads:
        thread.join(20)
    assert set(statuses) <= {200, 401, 429}


# What is not opened ---------------------------------------------------------------------------------------------------


def test_what_is_not_opened_is_not_there_in_any_way(night):
    with SandboxKowalski(archive=night, catalogs=["ZTF_alerts"]) as box:
        names = query(box, {"query_type": "info", "query": {"command": "catalog_names"}}).json()["data"]
        assert names == ["ZTF_alerts"]
        for other in (
            REFERENCE_CATALOG,
            "ZTF_alerts_aux",
            REFERENCE_CATALOG.lower(),
            f" {REFERENCE_CATALOG} ",
        ):
            assert query(box, find({}, catalog=other)).json()["data"] == []
            cone = {"cone_search_radius": 90, "cone_search_unit": "deg", "radec": [[1, 1]]}
            body = {
                "query_type": "cone_search",
                "query": {"object_coordinates": cone, "catalogs": {other: {}}},
            }
            assert query(box, body).json()["data"] == {other: {"[1, 1]": []}}
            lookup = {
                "$lookup": {"from": other, "let": {"a": "$candid"}, "pipeline": [{"$match": {}}], "as": "x"}
            }
            inner = {"$lookup": {"from": "ZTF_alerts", "pipeline": [lookup], "as": "y"}}
            for stage in (
                lookup,
                inner,
                {"$facet": {"a": [inner]}},
                {"$facet": {"a": [{"$facet": {"b": [lookup]}}]}},
            ):
                assert query(box, aggregate(stage)).status_code == 403
            union = {"$unionWith": {"coll": other, "pipeline": []}}
            for stage in (
                union,
                {"$facet": {"a": [union]}},
                {"$lookup": {"from": "ZTF_alerts", "pipeline": [union], "as": "x"}},
            ):
                assert query(box, aggregate(stage)).status_code == 400


PATHS = [
    "a'); DROP TABLE ZTF_alerts; --", 'a"b', "a[0]", "a[#-1]", "a\0b", "a'b", "*", "?1", ":x", "%s", "{name}", "\\", "[*]",
    "\ud800", '_id" FROM sqlite_master --', "x" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ascii(path[:12]))
def test_paths_that_would_be_sql(box, night, path):
    before = night.read_bytes()
    bodies = [
        find({path: 1}), find({f"candidate.{path}": {"$gt": "x"}}), find({path: {"$exists": True}}),
        find({path: {"$in": [1, "a", None]}}), find({"objectId": {"$regex": f"^{path[:20]}"}}), find({"objectId": path}),
        find({}, projection={path: 1}), find({}, kwargs={"sort": [[path, 1]], "limit": 2}),
        aggregate({"$group": {"_id": f"${path}", "n": {"$sum": f"${path}"}}}), aggregate({"$sortByCount": f"${path}"}),
        aggregate({"$group": {"_id": None, path: {"$max": "$candid"}}}), aggregate({"$count": path}),
        aggregate({"$sort": {path: -1}}, {"$limit": 1}), aggregate({"$project": {path: "$candid"}}),
        aggregate({"$lookup": {"from": "ZTF_alerts_aux", "localField": path, "foreignField": path, "as": "x"}}, {"$limit": 1}),
    ]  # fmt: skip
    for body in bodies:
        answer = query(box, body)
        assert answer.status_code in {200, 400}
        assert "sqlite" not in answer.text.lower().replace("sqlite_master", "")
    assert night.read_bytes() == before


@pytest.mark.parametrize("name", ["x' OR 1=1 --", 'x"', "%", "x\0"])
def test_sky_maps_named_like_sql(box, name):
    where = {
        "catalog": "ZTF_alerts",
        "filter": {},
        "skymap": {"localization_name": name, "aliases": [name, "' OR 1 --"]},
    }
    answer = query(box, {"query_type": "skymap", "query": where})
    assert "Skymap not found" in answer.json()["message"]


# What costs too much --------------------------------------------------------------------------------------------------


def doubled(operator, start, times):
    for _ in range(times):
        start = {"$let": {"vars": {"x": start}, "in": {operator: ["$$x", "$$x"]}}}
    return start


MANY = {"$range": [0, 1_000_000]}
ONE = {"$limit": 1}
GREEDY = {
    "arrays of many documents": aggregate({"$set": {"x": MANY}}, {"$sort": {"candid": 1}}, {"$count": "n"}),
    "arrays side by side": aggregate(ONE, {"$facet": {f"f{i}": [{"$set": {"x": MANY}}] for i in range(45)}}, {"$count": "n"}),
    "arrays in one": aggregate(ONE, {"$project": {"n": {"$size": [[MANY] * 300]}}}),
    "arrays of arrays": aggregate(ONE, {"$project": {"n": {"$size": {"$map": {"input": MANY, "in": {"$range": [0, 1000]}}}}}}),
    "zipped arrays": aggregate(ONE, {"$project": {"n": {"$let": {"vars": {"x": MANY}, "in": {"$size": {"$zip": {"inputs": ["$$x"] * 400}}}}}}}),
    "long texts": aggregate(ONE, {"$project": {"n": {"$map": {"input": {"$range": [0, 1000]}, "in": doubled("$concat", "x" * 64, 16)}}}}),
    "one text many times": aggregate(ONE, {"$project": {"n": {"$let": {"vars": {"x": doubled("$concat", "x" * 64, 16)}, "in": {"$map": {"input": {"$range": [0, 1000]}, "in": "$$x"}}}}}}),
    "pairs of pairs": aggregate(ONE, {"$project": {"n": {"$reduce": {"input": {"$range": [0, 40]}, "initialValue": [1], "in": ["$$value", "$$value"]}}}}),
    "many matches": aggregate(ONE, {"$project": {"n": {"$size": {"$regexFindAll": {"input": doubled("$concat", "ab" * 100, 14), "regex": "(a)"}}}}}),
    "many parts": aggregate(ONE, {"$project": {"n": {"$size": {"$split": [doubled("$concat", "ab" * 100, 14), "a"]}}}}),
    "joined arrays": aggregate({"$lookup": {"from": "ZTF_alerts", "let": {"a": 1}, "pipeline": [{"$set": {"y": MANY}}], "as": "x"}}, {"$count": "n"}),
    "pushed arrays": aggregate({"$set": {"x": MANY}}, {"$group": {"_id": None, "a": {"$push": "$$ROOT"}}}, {"$count": "n"}),
    "projected arrays": find({}, projection={f"f{i}": MANY for i in range(1000)}),
    "buckets": aggregate({"$set": {"x": MANY}}, {"$bucketAuto": {"groupBy": "$candid", "buckets": 2, "output": {"a": {"$push": "$x"}}}}, {"$count": "n"}),
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory is held")
@pytest.mark.parametrize("name", GREEDY)
def test_memory_is_bounded(patient, name):
    most, stop = [0], threading.Event()

    def watch():
        while not stop.is_set():
            most[0] = max(most[0], bounds.held_bytes())
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    answer = query(patient, GREEDY[name])
    stop.set()
    thread.join()
    assert (answer.status_code, answer.json()["message"].split(":")[0]) == (400, "OperationFailure")
    assert most[0] < 1_100_000_000
    begin = time.monotonic()
    assert len(query(patient, FIND).json()["data"]) == 40
    assert time.monotonic() - begin < 5


def test_what_needs_little_is_answered_while_much_is_held(night):
    with SandboxKowalski(archive=night, limits=Limits(memory_bytes=1)) as box:
        assert len(query(box, FIND).json()["data"]) == 40


@pytest.mark.parametrize(
    "body",
    [
        find({"$or": [{"candid": number + 0.5} for number in range(20_000)]}),
        find({"$or": [{"objectId": {"$regex": f"{'x' * 150}{number}"}} for number in range(4_000)]}),
        find({}, projection={f"f{number}": 1 for number in range(20_000)}),
        find({}, kwargs={"sort": [[f"f{number}", 1] for number in range(3_000)]}),
        aggregate({"$sort": {f"f{number}": 1 for number in range(3_000)}}),
        aggregate({"$facet": {f"f{number}": [{"$match": {}}] for number in range(100)}}),
        aggregate({"$project": {"n": {"$size": {"$range": [0, 2**62]}}}}),
        find({"objectId": {"$regex": "((a{100}){100}){100}"}}),
    ],
)
def test_questions_without_end_are_refused_at_once(box, body):
    begin = time.monotonic()
    answer = query(box, body)
    assert (answer.status_code, answer.json()["message"].split(":")[0]) == (400, "OperationFailure")
    assert time.monotonic() - begin < 3


SLOW = aggregate(
    {"$set": {"a": {"$range": [0, 1000]}}}, {"$set": {"b": "$a", "c": "$a"}}, {"$unwind": "$a"}, {"$unwind": "$b"},
    {"$unwind": "$c"}, {"$count": "n"},
) | {"kwargs": {"max_time_ms": 2500}}  # fmt: skip


def test_the_queries_of_one_user_do_not_keep_others_waiting(night):
    with SandboxKowalski(archive=night, limits=Limits(threads=2)) as box:
        threads = [threading.Thread(target=query, args=(box, SLOW)) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        begin = time.monotonic()
        answer = ask(box, "POST", "/api/queries", FIND, token=box.admin_token)
        waited = time.monotonic() - begin
        for thread in threads:
            thread.join(60)
    assert len(answer.json()["data"]) == 40
    assert waited < 1


def test_answers_that_nobody_reads_are_counted_and_broken_off(night):
    large = aggregate({"$set": {"x": doubled("$concat", "x" * 64, 14)}}, {"$project": {"x": 1}})
    body = json.dumps(large).encode()
    with SandboxKowalski(archive=night, limits=Limits(body_s=1.0, unread_bytes=20_000_000)) as box:
        head = f"POST /api/queries HTTP/1.1\r\nHost: x\r\nAuthorization: {box.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.socket() as idle:
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.connect((box.host, box.port))
            idle.sendall(head.encode() + body)
            assert idle.recv(12) == b"HTTP/1.1 200"
            refused = query(box, FIND)
            assert (refused.status_code, refused.json()["detail"]) == (
                429,
                "your earlier answers have not been read",
            )
            assert ask(box, "POST", "/api/queries", FIND, token=box.admin_token).status_code == 200
            end = time.monotonic() + 8
            while query(box, FIND).status_code == 429 and time.monotonic() < end:
                time.sleep(0.1)
            assert query(box, FIND).status_code == 200


def test_an_answer_that_is_read_slowly_comes_whole(box):
    body = aggregate({"$set": {"x": doubled("$concat", "x" * 64, 12)}}, {"$project": {"x": 1}})
    with (
        httpx2.Client(base_url=box.http_url, verify=NO_TLS, headers={"Authorization": box.token}) as client,
        client.stream("POST", "/api/queries", json=body, headers={"Accept-Encoding": "identity"}) as answer,
    ):
        pieces = []
        for piece in answer.iter_bytes(1 << 20):
            pieces.append(piece)
            time.sleep(0.02)
    data = json.loads(b"".join(pieces))["data"]
    assert [len(document["x"]) for document in data] == [64 << 12] * 40


def packed(size):
    return gzip.compress(bytes(size))


@pytest.mark.parametrize(
    "skymap",
    [
        {"polygon": [[index % 30, index % 17] for index in range(10_000)]},
        {"content": base64.b64encode(packed(100_000_000)).decode()},
        {"content": base64.b64encode(packed(1 << 20) * 200).decode()},
        {"ra": 1, "dec": 1, "error": 1e300},
        {"ra": 1, "dec": 1, "amaj": 59, "amin": 1e-300, "phi": float("nan")},
        {"url": "http://127.0.0.1:1/map.fits"},
        {"url": "file:///etc/passwd"},
    ],
)
def test_sky_maps_that_cost_too_much(box, skymap):
    begin = time.monotonic()
    body = {"dateobs": "2026-01-01T00:00:00", "skymap": {"localization_name": "x"} | skymap}
    answer = ask(box, "PUT", "/api/skymap", body, token=box.token)
    assert answer.status_code in {400, 403}
    assert time.monotonic() - begin < 5


def test_sky_maps_of_one_user_do_not_fill_the_disk(box, monkeypatch):
    monkeypatch.setattr("nuncius.archives.server.skymaps._MOST_BYTES", 100_000)
    statuses = []
    for number in range(20):
        body = {"dateobs": f"2026-01-02T00:00:{number:02d}", "skymap": {"ra": number, "dec": 1, "error": 5}}
        statuses.append(ask(box, "PUT", "/api/skymap", body, token=box.token).status_code)
    assert statuses[0] == 200
    assert statuses[-1] == 403


# What an answer and a log tell ----------------------------------------------------------------------------------------


def test_an_answer_that_came_too_late_names_no_file(box, night):
    condition = {"$or": [{f"candidate.a{number}": number + 0.5} for number in range(1_500)]}
    for body in (find(condition, kwargs={"max_time_ms": 1}), SLOW | {"kwargs": {"max_time_ms": 1}}):
        answer = query(box, body)
        assert answer.json()["message"].startswith("ExecutionTimeout: operation exceeded time limit")
        assert str(night.parent) not in answer.text
        assert night.name not in answer.text


def test_no_log_holds_a_secret(night, caplog):
    with caplog.at_level(logging.DEBUG), SandboxKowalski(archive=night) as box:
        token = box.token
        for password in (box.password, "wrong-and-private"):
            ask(box, "POST", "/api/auth", {"username": box.username, "password": password})
        ask(box, "POST", "/api/queries", find({"objectId": "private-object"}), token=token)
        ask(box, "POST", "/api/queries", find({"$nonsense": "private-object"}), token=token)
        ask(box, "PUT", "/api/users/mallory", {"password": "also-private"}, token=box.admin_token)
        ask(
            box, "POST", "/api/auth", {"username": "who\r\nadmin POST / 200", "password": "wrong-and-private"}
        )
        ask(box, "GET", "/%0d%0aadmin%20POST", token=token)
        secrets = {token, box.password, box.admin_password, box._accounts._secret.hex()}
    text = caplog.text
    assert not [secret for secret in secrets if secret in text]
    assert "private" not in text
    assert "nuncius.server" in text
    assert not [line for line in text.splitlines() if line.startswith("admin POST")]


def test_no_answer_invites_another_site(box):
    origin = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    with httpx2.Client(base_url=box.http_url, verify=NO_TLS, headers=origin) as client:
        answers = [client.options("/api/queries"), client.get("/"), client.post("/api/auth", json={})]
    for answer in answers:
        assert answer.status_code >= 400
        assert not [
            name for name in answer.headers if name.startswith(("access-control", "set-cookie", "server"))
        ]


# Connections ----------------------------------------------------------------------------------------------------------


def conversation(box, data):
    with socket.create_connection((box.host, box.port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_request_hides_no_other(box):
    hidden = f"GET /api/users HTTP/1.1\r\nHost: x\r\nAuthorization: {box.admin_token}\r\n\r\n".encode()
    start = f"POST /api/queries HTTP/1.1\r\nHost: x\r\nAuthorization: {box.token}\r\n".encode()
    for framing in (
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 50\r\n\r\n",
        b"Content-Length: +5\r\n\r\n12345",
        b"Content-Length : 5\r\n\r\n12345",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n",
    ):
        answer = conversation(box, start + framing + hidden)
        first = answer[:12]
        assert first.startswith(b"HTTP/1.1 4") or answer == b""
        assert b" 200 " not in answer


def test_no_header_is_made_of_what_was_sent(box):
    with httpx2.Client(base_url=box.http_url, verify=NO_TLS, headers={"Authorization": box.token}) as client:
        candid = query(box, FIND).json()["data"][0]["candid"]
        for path in (
            f"/api/cutouts/ztf/{candid}%0d%0aX-Evil:%201/science/fits", f"/api/cutouts/ztf/{candid}/science%0d%0aX-Evil:%201/fits",
            f"/api/cutouts/ztf/{candid}/science/fits?cmap=%0d%0aX-Evil:%201", "/%0d%0aX-Evil:%201",
        ):  # fmt: skip
            answer = client.get(path)
            assert answer.status_code >= 400
            assert "x-evil" not in answer.headers


def test_many_idle_connections_leave_room_for_others(box):
    idle = [socket.create_connection((box.host, box.port), timeout=10) for _ in range(200)]
    try:
        for connection in idle:
            connection.sendall(b"POST /api/queries HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        begin = time.monotonic()
        assert len(query(box, FIND).json()["data"]) == 40
        assert time.monotonic() - begin < 3
    finally:
        for connection in idle:
            connection.close()


# In its own process ---------------------------------------------------------------------------------------------------


def test_a_stranger_is_not_believed_to_come_through_the_proxy(night, tmp_path):
    """Without --behind-proxy a header does not make guesses come from elsewhere."""
    from nuncius.archives.server import Accounts

    accounts = tmp_path / "accounts.db"
    with Accounts(accounts, scrypt_cost=4) as known:
        known.add("vera", "right and long")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "nuncius.cli",
        "serve",
        str(night),
        "--accounts",
        str(accounts),
        "--port",
        str(port),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            end = time.monotonic() + 20
            while time.monotonic() < end:
                try:
                    httpx2.get(address)
                    break
                except httpx2.ConnectError:
                    time.sleep(0.1)
            statuses = [
                httpx2.post(
                    f"{address}/api/auth",
                    json={"username": "vera", "password": f"guess number {number}"},
                    headers={"X-Forwarded-For": f"10.0.0.{number}", "Forwarded": f"for=10.0.0.{number}"},
                ).status_code
                for number in range(7)
            ]
        finally:
            process.terminate()
            _, log = process.communicate(timeout=20)
    assert statuses == [401] * 5 + [429] * 2
    assert b"guess number" not in log
    assert b"10.0.0." not in log


# A server that can't be trusted -----------------------------------------------------------------------------------------

TOKEN = "a-token-that-nobody-else-may-see"


class Evil:
    """A server that answers queries as it likes."""

    def __init__(self, answer):
        self.seen, outer = [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                """Stay silent."""

            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append(dict(self.headers))
                if asked.get("query", {}).get("command") == "catalog_names":
                    self.reply(["ZTF_alerts"])
                    return
                try:
                    answer(self, asked)
                except OSError:  # the client has gone, as it should
                    self.close_connection = True

            def reply(self, data, **more):
                self.send({"status": "success", "message": "", "data": data}, **more)

            def send(self, body, status=200, **headers):
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                headers = {"Content_Type": "application/json", "Content_Length": str(len(body))} | headers
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def told(answer, call, timeout_s=5.0):
    """Return what a client raises that is told a lie."""

    def asked(archive):
        found = call(archive)
        return list(getattr(found, "docs", [found]))

    with (
        Evil(answer) as server,
        open_archive(f"kowalski+http://127.0.0.1:{server.port}", token=TOKEN, timeout_s=timeout_s) as archive,
        pytest.raises(NunciusError) as caught,
    ):
        asked(archive)
    assert TOKEN not in str(caught.value)
    return caught.value


def all_documents(archive):
    return archive.find("ZTF_alerts", {}, limit=2)


def document(ra, dec):
    return {
        "_id": {"$oid": "0" * 24},
        "coordinates": {"radec_geojson": {"type": "Point", "coordinates": [ra - 180, dec]}},
    }


def cones(archive):
    return archive.cone_search("ZTF_alerts", [(10, 10), (20, 20)], "5 arcsec", progress=False)


def positions(asked):
    return asked["query"].get("radec") or asked["query"]["object_coordinates"]["radec"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_token_follows_no_redirect(status):
    with Evil(lambda handler, _: handler.reply([])) as other:
        place = f"http://localhost:{other.port}/api/queries"
        told(lambda handler, _: handler.send(b"", status, Location=place), all_documents)
        assert other.seen == []


@pytest.mark.parametrize(
    "data",
    [None, "x", 5, True, {"a": 1}, [1], [None], [[{}]], ["x"], [{}, 1], [{}] * 3],
    ids=repr,
)
def test_what_is_no_list_of_documents(data):
    assert isinstance(told(lambda handler, _: handler.reply(data), all_documents), ServerError)


@pytest.mark.parametrize("data", [1.5, -5, True, "7", None, float("nan"), [1], {}])
def test_what_is_no_number(data):
    error = told(lambda handler, _: handler.reply(data), lambda archive: archive.count("ZTF_alerts", {}))
    assert isinstance(error, ServerError)


@pytest.mark.parametrize("data", [[5], [{"_id": 1}, 5], "x", [None]])
def test_values_that_are_no_groups(data):
    error = told(lambda handler, _: handler.reply(data), lambda archive: archive.distinct("ZTF_alerts", "a"))
    assert isinstance(error, ServerError)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"\xff", b"<html>", b'{"status":"success","data":[]}x',
        b'{"status":"success","data":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
        b'{"status":"success","data":[NaN,' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
        b'{"status":"success","data":[{"$oid":' * 50_000,
        b'{"status":"success","data":[{"a":' + b"9" * 100_000 + b"}]}",
    ],
    ids=lambda body: repr(body[:40]),
)  # fmt: skip
def test_bodies_that_are_no_answer(body):
    assert isinstance(told(lambda handler, _: handler.send(body), all_documents), ServerError)


@pytest.mark.parametrize(
    "groups",
    [
        ([],),
        ([document(20, 20)], [document(10, 10)]),
        ([document(99, 20)], []),
        ([document(float("nan"), 10)], []),
        ([document(float("inf"), 10)], []),
        ([document(10, 370)], []),
        ([{"_id": 1}], []),
        ([1], []),
        ([None], []),
        ({"a": 1}, []),
        (None, None),
    ],
    ids=repr,
)
def test_documents_of_other_positions(groups):
    def answer(handler, asked):
        handler.reply({"ZTF_alerts": dict(zip(positions(asked), groups, strict=False))})

    assert isinstance(told(answer, cones), ServerError)


def test_positions_that_were_not_asked_are_passed_over():
    def answer(handler, asked):
        names = list(positions(asked))
        lie = document(10, 10) | {"separation_arcsec": -1, "input_index": 99}
        handler.reply({"ZTF_alerts": {names[0]: [lie], names[1]: [], "p99": [document(1, 1)]}, "Other": {}})

    with (
        Evil(answer) as server,
        open_archive(f"kowalski+http://127.0.0.1:{server.port}", token=TOKEN) as archive,
    ):
        (found,) = cones(archive).docs
    assert (found["separation_arcsec"], found["input_index"]) == (0.0, 0)


def test_documents_without_an_id_in_a_region():
    def answer(handler, asked):
        nameless = {name: item for name, item in document(10, 10).items() if name != "_id"}
        handler.reply({"ZTF_alerts": {name: [nameless] for name in positions(asked)}})

    error = told(answer, lambda archive: archive.region_search("ZTF_alerts", sky.Cone(10, 10, 5)))
    assert isinstance(error, ServerError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "application/json"), (500, "text/html"), (403, "application/json"), (401, "text/plain")],
)
def test_a_token_that_is_quoted_stays_out_of_errors_and_logs(status, kind, caplog):
    def answer(handler, asked):
        quoted = f"no: {handler.headers['Authorization']}\r\n\x1b[2Jroot: a line of its own\n" * 100
        body = {"status": "error", "message": quoted} if kind == "application/json" else quoted.encode()
        handler.send(body, status, Content_Type=kind)

    error = told(answer, all_documents)
    assert "***" in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 3_000
    assert TOKEN not in caplog.text


def test_a_token_that_is_quoted_stays_out_of_the_answers_of_penquins():
    from nuncius.compat.penquins import Kowalski

    def answer(handler, asked):
        handler.send({"status": "error", "message": f"no: {handler.headers['Authorization']}"}, 400)

    with (
        Evil(answer) as server,
        Kowalski(token=TOKEN, protocol="http", host="127.0.0.1", port=server.port) as kowalski,
    ):
        found = kowalski.query({"query_type": "find", "query": {"catalog": "ZTF_alerts", "filter": {}}})
    assert found["default"]["status"] == "error"
    assert TOKEN not in repr(found)
    assert TOKEN not in str(found["default"].error)


def test_a_password_that_is_quoted_stays_out_of_errors():
    def refuse(handler, asked):
        handler.send({"status": "error", "message": f"no: {asked['password']}\n{asked}"}, 400)

    with (
        Evil(refuse) as server,
        open_archive(
            f"kowalski+http://127.0.0.1:{server.port}", credentials=("vera", "a private word")
        ) as archive,
        pytest.raises(NunciusError) as caught,
    ):
        archive.catalogs()
    assert isinstance(caught.value, LoginError)
    assert "no: ***" in str(caught.value)
    assert "a private word" not in str(caught.value)


def test_cookies_are_not_kept():
    def answer(handler, asked):
        handler.reply([], Set_Cookie="session=1; Path=/")

    with (
        Evil(answer) as server,
        open_archive(f"kowalski+http://127.0.0.1:{server.port}", token=TOKEN) as archive,
    ):
        for _ in range(3):
            assert archive.find("ZTF_alerts", {}).docs == []
    assert len(server.seen) == 4
    assert not [headers for headers in server.seen if "Cookie" in headers]


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "zstd", "compress"])
def test_codings_that_nobody_asked_for(coding):
    error = told(lambda handler, _: handler.send(b"x", Content_Encoding=coding), all_documents)
    assert isinstance(error, ServerError)


def test_a_packed_body_without_end(monkeypatch):
    monkeypatch.setattr("nuncius._core.http.MAX_BODY_BYTES", 50_000_000)
    bomb = packed(10_000_000) * 100
    error = told(lambda handler, _: handler.send(bomb, Content_Encoding="gzip"), all_documents)
    assert isinstance(error, ServerError)
    assert "more than 50000000 bytes" in str(error)


def test_a_body_without_end(monkeypatch):
    monkeypatch.setattr("nuncius._core.http.MAX_BODY_BYTES", 50_000_000)

    def endless(handler, asked):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")

    assert "more than 50000000 bytes" in str(told(endless, all_documents))


@pytest.mark.parametrize("waits", ["-5", "9" * 400, "tomorrow", "Fri, 31 Dec 9999 23:59:59 GMT", "1e9"])
def test_a_server_that_asks_to_wait(waits):
    begin = time.monotonic()
    told(lambda handler, _: handler.send(b"", 503, Retry_After=waits), all_documents, timeout_s=1.0)
    assert time.monotonic() - begin < 4


def test_a_refusal_that_never_ends_is_a_login_error():
    error = told(
        lambda handler, _: handler.send({"status": "error", "message": "token has expired"}, 400),
        all_documents,
    )
    assert isinstance(error, LoginError)


@pytest.mark.parametrize("names", [None, "x", 5, {"a": 1}])
def test_names_of_catalogs_that_are_none(names):
    from nuncius.compat.penquins import Kowalski

    body = json.dumps({"status": "success", "data": names}).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            """Stay silent."""

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with pytest.raises(ValueError, match="catalogs"):
                Kowalski(token=TOKEN, protocol="http", host="127.0.0.1", port=server.server_port)
            with (
                open_archive(f"kowalski+http://127.0.0.1:{server.server_port}", token=TOKEN) as archive,
                pytest.raises(ServerError),
            ):
                archive.catalogs()
        finally:
            server.shutdown()
            thread.join()
