"""Clients that mean harm get a clear refusal, and nobody else notices them."""

import base64
import json
import socket
import threading
import time

import httpx2
import pytest

from nuncius.archives.server import Limits
from nuncius.sandbox.kowalski import REFERENCE_CATALOG, SandboxKowalski, fill_archive

FIND = {"query_type": "find", "query": {"catalog": "ZTF_alerts", "filter": {}, "projection": {"candid": 1}}}


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "night.db"
    fill_archive(path, alerts=30)
    return path


@pytest.fixture(scope="module")
def box(night):
    with SandboxKowalski(archive=night, limits=Limits(body_s=1.0, query_s=5.0)) as running:
        yield running


@pytest.fixture(scope="module")
def client(box):
    with httpx2.Client(base_url=box.http_url, timeout=20, trust_env=False) as opened:
        yield opened


@pytest.fixture(autouse=True)
def unharmed(box, night, client):
    """After each attack the archive is what it was, and the server answers."""
    before = night.read_bytes()
    yield
    assert night.read_bytes() == before
    answer = client.post("/api/queries", json=FIND, headers={"Authorization": box.token})
    assert len(answer.json()["data"]) == 30


@pytest.fixture
def send(box, night, client):
    def send(body, **options):
        headers = {"Authorization": box.token} | options.pop("headers", {})
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = client.post("/api/queries", content=content, headers=headers, **options)
        assert "Traceback" not in answer.text
        assert str(night.parent) not in answer.text
        return answer

    return send


def find(condition, **query):
    return {"query_type": "find", "query": {"catalog": "ZTF_alerts", "filter": condition} | query}


def aggregate(*stages):
    return {"query_type": "aggregate", "query": {"catalog": "ZTF_alerts", "pipeline": list(stages)}}


def part(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


# Tokens


def test_tokens_of_others(box, send):
    head, body, signature = box.token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    as_admin = part(json.dumps(claims | {"user_id": box.admin_username}).encode())
    none = part(json.dumps({"alg": "none", "typ": "JWT"}).encode())
    for token in (
        f"{head}.{as_admin}.{signature}",
        f"{none}.{as_admin}.",
        f"{none}.{as_admin}.{signature}",
        f"{head}.{body}.{part(b'x' * 32)}",
        "x" * 8000,
    ):  # fmt: skip
        answer = send(FIND, headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["message"]) == (400, "token is invalid")


def test_the_token_of_another_server_is_no_use(box, send, night):
    with SandboxKowalski(archive=night) as other:
        answer = send(FIND, headers={"Authorization": other.token})
    assert answer.json()["message"] == "token is invalid"


def test_a_token_in_the_wrong_place_is_no_token(box):
    url = f"{box.http_url}/api/queries?token={box.token}&Authorization={box.token}"
    assert httpx2.post(url, json=FIND, cookies={"Authorization": box.token}).status_code == 401


# Bodies


def test_a_huge_body_is_refused(send):
    answer = send(b" " * 1_069_070)
    assert answer.status_code == 413
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text == "Maximum request body size 1048576 exceeded, actual body size 1069070"


def raw(box, request):
    """Send bytes as they are, and return what comes back."""
    with socket.create_connection((box.host, box.port), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


def head(box, *lines):
    return "\r\n".join(
        ["POST /api/queries HTTP/1.1", "Host: x", f"Authorization: {box.token}", *lines, "", ""]
    ).encode()


def test_a_body_that_never_ends_is_broken_off(box):
    begin = time.monotonic()
    with socket.create_connection((box.host, box.port), timeout=10) as connection:
        connection.sendall(head(box, "Content-Length: 1000") + b"{")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 0.9 < time.monotonic() - begin < 5


def test_a_body_that_is_announced_too_large_is_not_read(box):
    with socket.create_connection((box.host, box.port), timeout=10) as connection:
        connection.sendall(head(box, "Content-Length: 99999999999", "Connection: close"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"actual body size 99999999999" in answer


def test_a_chunked_body_is_counted_while_it_comes(box):
    chunk = b"186a0\r\n" + b" " * 100_000 + b"\r\n"
    with socket.create_connection((box.host, box.port), timeout=10) as connection:
        connection.sendall(head(box, "Transfer-Encoding: chunked"))
        for _ in range(20):
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "lines", [["Content-Length: -5"], ["Content-Length: 5", "Content-Length: 6"], ["X: " + "y" * 100_000]]
)
def test_broken_headers(box, lines):
    with socket.create_connection((box.host, box.port), timeout=10) as connection:
        connection.sendall(head(box, *lines))
        assert connection.recv(65536).startswith(b"HTTP/1.1 4")


def test_a_client_that_goes_away(box):
    with socket.create_connection((box.host, box.port), timeout=10) as connection:
        connection.sendall(head(box, "Content-Length: 1000") + b"{")
    connection = socket.create_connection((box.host, box.port), timeout=10)
    connection.close()


# JSON


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b'{"query_type": "find", "query": {"catalog": "\xc3\x28"}}',
        b"{" * 500_000,
        b'{"a":' * 100_000,
        b"[" * 1_000_000,
        b'"' + b'\\"' * 500_000,
        b"1" * 1_000_000,
        b'{"query_type": "find", "query": {}, "query": {"catalog": "ZTF_alerts"}}',
        b'{"query_type": "find", "query": {"catalog": "ZTF_alerts", "filter": {"a": 1, "a": {"$gt": 1}}}}',
        b"null",
        b"1",
        b'"find"',
        b'{"query_type": ["find"], "query": {}}',
        b'{"query_type": {"$gt": ""}, "query": {}}',
    ],
    ids=lambda body: repr(body[:30]),
)
def test_bodies_that_mean_harm(send, body):
    begin = time.monotonic()
    answer = send(body)
    assert answer.status_code == 400
    assert answer.json()["status"] == "error"
    assert len(answer.content) < 1000
    assert time.monotonic() - begin < 3


def nested(depth, inner):
    value = inner
    for _ in range(depth):
        value = {"$and": [value]}
    return value


@pytest.mark.parametrize("depth", [31, 200, 5000])
def test_deep_filters(send, depth):
    text = '{"$and":[' * depth + '{"candid":1}' + "]}" * depth
    body = b'{"query_type":"find","query":{"catalog":"ZTF_alerts","filter":' + text.encode() + b"}}"
    assert "may be nested 60 deep" in send(body).json()["message"]
    assert send(find(text)).status_code == 400


def test_a_filter_within_the_depth_works(send):
    assert send(find(nested(25, {"candid": 1}))).json()["data"] == []


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('id')", "[" * 60_000, "(" * 60_000, "-" * 60_000, "{'a': 9**9**9}", "{'a': open('/etc/passwd')}",
        "x" * 200_000, "{'a': [x for x in 'abc']}", "'a' * 10**9", "{'candid': 1}; import os",
    ],
)  # fmt: skip
def test_texts_that_are_no_literals(send, text):
    begin = time.monotonic()
    for body in (
        find(text),
        find({}, projection=text),
        {"query_type": "aggregate", "query": {"catalog": "ZTF_alerts", "pipeline": text}},
        {"query_type": "near", "query": {"max_distance": 1, "radec": text, "catalogs": {"ZTF_alerts": {}}}},
    ):
        assert send(body).status_code == 400
    assert time.monotonic() - begin < 5


# Code, and ways to write


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (find({"$where": "while(1);"}), 403),
        (find({"$and": [{"$or": [{"$where": "1"}]}]}), 403),
        (find({"$expr": {"$function": {"body": "function(){}", "args": [], "lang": "js"}}}), 403),
        (find("{'$where': '1'}"), 403),
        (find({}, projection={"a": {"$function": {"body": "", "args": [], "lang": "js"}}}), 403),
        (aggregate({"$group": {"_id": None, "a": {"$accumulator": {}}}}), 403),
        (aggregate({"$out": "x"}), 400),
        (aggregate({"$merge": {"into": "x"}}), 400),
        (aggregate({"$facet": {"a": [{"$out": "x"}]}}), 400),
        (aggregate({"$facet": {"a": [{"$facet": {"b": [{"$merge": "x"}]}}]}}), 400),
        (aggregate({"$lookup": {"from": "ZTF_alerts_aux", "pipeline": [{"$out": "x"}], "as": "a"}}), 400),
        (aggregate({"$unionWith": "ZTF_alerts_aux"}), 400),
        (aggregate({"$match": {}, "$out": "x"}), 400),
        (aggregate({"$currentOp": {}}), 403),
        (aggregate({"$collStats": {}}), 403),
        (aggregate(*[{"$match": {}}] * 51), 400),
        ({"query_type": "drop", "query": {"catalog": "ZTF_alerts"}}, 403),
        ({"query_type": "insert", "query": {"catalog": "ZTF_alerts"}}, 400),
    ],
)
def test_code_and_writing(send, body, status):
    answer = send(body)
    assert answer.status_code == status
    assert answer.json()["status"] == "error"
    if status == 403:
        assert answer.json()["message"] == "Forbidden"
        assert answer.json()["detail"]


def test_an_admin_drops_nothing_either(box, send):
    answer = send(
        {"query_type": "drop", "query": {"catalog": "ZTF_alerts"}}, headers={"Authorization": box.admin_token}
    )
    assert answer.status_code == 403


# Ways out of what is opened


@pytest.mark.parametrize(
    "other",
    [
        "users",
        "settings",
        "sqlite_master",
        "catalogs",
        "ZTF_alerts:images",
        "accounts.users",
        "",
        None,
        {"db": "a"},
    ],
)
def test_joins_with_what_is_not_opened(send, other):
    for stage in (
        {"$lookup": {"from": other, "localField": "a", "foreignField": "b", "as": "c"}},
        {"$lookup": {"from": other, "pipeline": [], "as": "c"}},
        {
            "$graphLookup": {
                "from": other,
                "startWith": "$a",
                "connectFromField": "a",
                "connectToField": "b",
                "as": "c",
            }
        },
        {"$facet": {"a": [{"$lookup": {"from": other, "pipeline": [], "as": "c"}}]}},
    ):
        assert send(aggregate(stage)).status_code == 403


@pytest.mark.parametrize(
    "name",
    [
        "users", "filters", "queries", " users", "USERS", "sqlite_master", "sqlite_sequence", "system.users", "../accounts",
        "/etc/passwd", "ZTF_alerts:images", 'ZTF_alerts"; DROP TABLE ZTF_alerts; --', "ZTF_alerts\0", "ZTF alerts", "$cmd",
        "a" * 10_000, "", None, 5, ["ZTF_alerts"], {"$ne": 1}, "\uff35\uff33\uff25\uff32\uff33",
    ],
)  # fmt: skip
def test_names_that_are_tricks(send, name):
    bodies = [
        find({}, catalog=name),
        {"query_type": "count_documents", "query": {"catalog": name, "filter": {}}},
        {"query_type": "estimated_document_count", "query": {"catalog": name}},
        {"query_type": "aggregate", "query": {"catalog": name, "pipeline": [{"$match": {}}]}},
        {"query_type": "info", "query": {"command": "catalog_info", "catalog": name}},
        {"query_type": "info", "query": {"command": "index_info", "catalog": name}},
    ]
    if isinstance(name, str):
        cone = {"object_coordinates": {"cone_search_radius": 1, "cone_search_unit": "deg", "radec": [[1, 1]]}}
        bodies.append({"query_type": "cone_search", "query": cone | {"catalogs": {name: {}}}})
    for body in bodies:
        answer = send(body)
        assert answer.status_code == 400
        assert answer.json()["message"].startswith(("ValidationError: ", "InvalidName: ", "TypeError: "))


@pytest.mark.parametrize("name", ["settings", "contours", "skymaps", "catalogs"])
def test_internal_tables_are_no_catalogs(send, name):
    assert send(find({}, catalog=name)).json()["data"] == []
    names = send({"query_type": "info", "query": {"command": "catalog_names"}}).json()["data"]
    assert name not in names


@pytest.mark.parametrize(
    "path",
    [
        "/api/cutouts/ztf/../../../etc/passwd", "/api/cutouts/%2e%2e/1/science/fits", "/api/cutouts/ztf/1%00/science/fits",
        "/api/cutouts/ztf/1/science/..%2f..%2fetc%2fpasswd", "/api/users/..%2fqueries", "/../etc/passwd", "//api//queries",
        "/api/users/%00", "/api/" + "a/" * 500,
    ],
)  # fmt: skip
def test_paths_that_are_tricks(box, path):
    request = (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {box.admin_token}\r\nConnection: close\r\n\r\n"
    )
    answer = raw(box, request.encode())
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))
    assert b"root:" not in answer


# What costs too much


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(.*)*x", "(a|aa)+$", "a" * 201, "(.*a){20}", r"(\w+)\1", "(", "a?" * 50 + "a" * 50]
)
def test_expressions_that_take_for_ever(send, pattern):
    for condition in (
        {"objectId": {"$regex": pattern}},
        {"$nor": [{"objectId": {"$not": {"$regex": pattern}}}]},
    ):
        answer = send(find(condition))
        assert answer.status_code == 400
        assert "regular expression" in answer.json()["message"].lower()
    stage = {"$project": {"a": {"$regexMatch": {"input": "$objectId", "regex": pattern}}}}
    assert send(aggregate(stage)).status_code == 400


def test_expressions_made_of_fields(send):
    stage = {"$project": {"a": {"$regexMatch": {"input": "$objectId", "regex": {"$concat": ["(a+)+", "$"]}}}}}
    assert send(aggregate(stage)).status_code == 400
    assert (
        send(find({"$expr": {"$regexMatch": {"input": "$objectId", "regex": "$publisher"}}})).status_code
        == 400
    )


def test_a_pipeline_that_never_ends_is_broken_off(send):
    many = {"$range": [0, 1_000_000]}
    slow = {
        "$sum": {"$map": {"input": many, "as": "a", "in": {"$size": {"$map": {"input": many, "in": "$$a"}}}}}
    }
    for stages in (
        [{"$set": {"a": {"$range": [0, 1000]}}}, {"$set": {"b": "$a", "c": "$a"}}, {"$unwind": "$a"}, {"$unwind": "$b"}, {"$unwind": "$c"}, {"$count": "n"}],
        [{"$project": {"n": slow}}],
    ):  # fmt: skip
        begin = time.monotonic()
        body = aggregate(*stages) | {"kwargs": {"max_time_ms": 300}}
        meanwhile = []
        thread = threading.Thread(target=lambda answers=meanwhile: answers.append(send(FIND)))
        thread.start()
        answer = send(body)
        thread.join(20)
        assert (answer.status_code, answer.json()["message"][:17]) == (400, "ExecutionTimeout:")
        assert time.monotonic() - begin < 10
        assert meanwhile[0].status_code == 200


def cone(radec, radius=1):
    where = {"cone_search_radius": radius, "cone_search_unit": "arcsec", "radec": radec}
    return {
        "query_type": "cone_search",
        "query": {"object_coordinates": where, "catalogs": {"ZTF_alerts": {}}},
    }


@pytest.mark.parametrize(
    "place",
    ["[NaN, 1]", "[1, NaN]", "[Infinity, 0]", "[1e999, 0]", '["nan", "nan"]', "[null, 1]", "[[1], 2]"],
)
def test_positions_that_are_none(send, place):
    body = json.dumps(cone({"a": "PLACE"})).replace('"PLACE"', place).encode()
    assert send(body).status_code == 400


@pytest.mark.parametrize("radius", [float("nan"), float("inf"), -1, 1e300, "1e999", None, [], True])
def test_radii_that_are_none(send, radius):
    assert send(cone({"a": [1, 1]}, radius)).status_code == 400


def test_a_million_positions(send):
    assert send(json.dumps(cone([[1, 1]] * 1_000_000)).encode()).status_code == 413
    compact = json.dumps(cone([[1, 1]] * 150_000), separators=(",", ":")).encode()
    assert len(compact) < 1_048_576
    assert "150000 positions; one request may have 30000" in send(compact).json()["message"]


def test_cones_that_hold_the_whole_sky_again_and_again(send):
    radec = {str(number): [1, 1] for number in range(29_000)}
    where = {"cone_search_radius": 180, "cone_search_unit": "deg", "radec": radec}
    query = {"object_coordinates": where, "catalogs": {REFERENCE_CATALOG: {"filter": {"source_id": 1}}}}
    begin = time.monotonic()
    answer = send({"query_type": "cone_search", "query": query})
    assert answer.status_code == 400
    assert "lie around these positions, more than 3000000" in answer.json()["message"]
    assert time.monotonic() - begin < 5


def test_numbers_beyond_all_bounds(send):
    for kwargs in (
        {"limit": 2**80},
        {"skip": 2**80},
        {"limit": -(2**80)},
        {"skip": 1e300},
        {"max_time_ms": -5},
        {"limit": True},
    ):
        assert send(FIND | {"kwargs": kwargs}).status_code == 400
    assert send(FIND | {"kwargs": {"max_time_ms": 2**80}}).status_code == 200
    assert send(find({"candid": 2**80})).json()["data"] == []
    assert send(find({"candid": {"$gt": 1e308}})).json()["data"] == []


def test_kwargs_that_are_none(send):
    for kwargs in (None, [], "x", 5):
        assert send(FIND | {"kwargs": kwargs}).status_code == 200
    for sort in ("candid", [["candid", 2]], [["candid"]], 5, {"candid": "down"}, [[1, 1]]):
        assert send(FIND | {"kwargs": {"sort": sort}}).status_code in {200, 400}


def test_one_user_can_not_take_all_threads(night, monkeypatch):
    from nuncius.archives.server.queries import Queries

    gate, answer, answers = threading.Event(), Queries.answer, []

    def slow(self, query):
        assert gate.wait(20)
        return answer(self, query)

    monkeypatch.setattr(Queries, "answer", slow)
    with SandboxKowalski(archive=night, limits=Limits(queries_per_user=2)) as box:

        def ask(token=box.token):
            return httpx2.post(
                f"{box.http_url}/api/queries", json=FIND, headers={"Authorization": token}, timeout=20
            )

        threads = [threading.Thread(target=lambda: answers.append(ask())) for _ in range(2)]
        for thread in threads:
            thread.start()
        begin = time.monotonic()
        while (
            sum(request.query_type is not None for request in box.requests) < 2
            and time.monotonic() - begin < 10
        ):
            time.sleep(0.01)
        refused = ask()
        gate.set()
        for thread in threads:
            thread.join(20)
    assert refused.json()["message"] == "Too Many Requests"
    assert refused.json()["detail"] == "2 of your queries are still running"
    assert int(refused.headers["retry-after"]) >= 1
    assert [answer.status_code for answer in answers] == [200, 200]
