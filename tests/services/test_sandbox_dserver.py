"""The sandbox's dserver: what clients of other makes see of it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx2
import jwt
import pytest
from astropy.io import fits

from nuncius.errors import ConfigurationError
from nuncius.sandbox import Sandbox, SandboxDServer, SandboxStore
from nuncius.sandbox.dserver.freetext import TextIndex, stem
from nuncius.sandbox.fits_files import SparseFile

pytestmark = pytest.mark.xdist_group("sandbox-dserver")

BASE = "s3://night"
ODD = "smb://a share/Nächte + more"
WORDS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
         422: "Unprocessable Entity", 500: "Internal Server Error"}  # fmt: skip
HIDDEN = "s3://hidden"
README = "project: Southern winter\nobserved: 2020-11-08\nowners:\n  - name: Carol Herschel\n"
TYPED = {"n": 3, "nested": {"a": [1, 2]}, "none": None, "yes": True, "f": 1.5}


def number(n):
    return f"00000000-0000-4000-8000-{n:012d}"


def path_of(uri):
    return quote(uri.replace("://", "/", 1), safe="/")


class Ask:
    """Asks a server as somebody."""

    def __init__(self, box):
        self.box = box
        self.client = httpx2.Client(base_url=box.url, timeout=20)

    def __call__(self, method, path, who="testuser", **options):
        if who is not None:
            token = self.box.tokens["expired"] if who == "expired" else self.box.make_token(who)
            options["headers"] = {"authorization": f"Bearer {token}"} | options.get("headers", {})
        return self.client.request(method, path, **options)


def refused(answer, status):
    """Tell whether an answer is a refusal as the server words it."""
    return (answer.status_code, answer.json()) == (status, {"code": status, "status": WORDS[status]})


def page(answer):
    return json.loads(answer.headers["x-pagination"]) if "x-pagination" in answer.headers else None


def order(answer):
    return json.loads(answer.headers["x-sort"])["sort"] if "x-sort" in answer.headers else None


@pytest.fixture(scope="module")
def running():
    with SandboxDServer(contents=False) as server:
        yield server


@pytest.fixture
def box(running):
    """Give an empty server, but for a base URI that only the admin may search."""
    running.reset()
    running.add_base_uri(HIDDEN, search=["admin"], register=["admin"])
    return running


@pytest.fixture(scope="module")
def asking(running):
    questions = Ask(running)
    yield questions
    questions.client.close()


@pytest.fixture
def ask(box, asking):
    return asking


@pytest.fixture(scope="module")
def whole():
    """Give a sandbox with all that it has of its own."""
    with Sandbox() as sandbox:
        yield sandbox


# What it has of its own ----------------------------------------------------------------------------------------------


def test_it_has_data_sets_of_its_own_that_are_the_same_each_time(whole):
    ask = Ask(whole.dserver)
    rows = ask("GET", "/uris?page_size=100").json()
    with SandboxDServer() as again:
        assert again.uris == whole.dserver.uris
        assert Ask(again)("GET", "/uris?page_size=100").json() == rows
    assert len(rows) == 10 == len(whole.dserver.uris) - 1  # one is under embargo
    uuids = [row["uuid"] for row in rows]
    assert len(set(uuids)) == len(uuids) - 1  # one is at two base URIs
    assert any(" " in row["uri"] and "+" in row["uri"] and not row["uri"].isascii() for row in rows)
    readmes = [ask("GET", f"/readmes/{path_of(row['uri'])}").json()["readme"] for row in rows]
    assert "" in readmes
    assert sum("object:" in readme for readme in readmes) == 8


def test_the_items_of_its_data_sets_are_in_the_store(whole):
    ask = Ask(whole.dserver)
    seen = 0
    for row in ask("GET", "/uris?page_size=100").json():
        manifest = ask("GET", f"/manifests/{path_of(row['uri'])}").json()
        assert len(manifest["items"]) == row["number_of_items"]
        assert sum(item["size_in_bytes"] for item in manifest["items"].values()) == row["size_in_bytes"]
        bucket = row["base_uri"].removeprefix("s3://")
        if bucket == row["base_uri"]:
            continue
        mark = httpx2.get(whole.store.http_url(f"dtool-{row['uuid']}", bucket=bucket))
        assert mark.status_code == 200 or row["name"].endswith("-light-curve")
        for name, item in manifest["items"].items():
            assert name == hashlib.sha1(item["relpath"].encode()).hexdigest()
            data = httpx2.get(whole.store.http_url(f"{row['uuid']}/data/{name}", bucket=bucket)).content
            assert (len(data), hashlib.md5(data).hexdigest()) == (item["size_in_bytes"], item["hash"])
            if ".fits" in item["relpath"]:
                content = gzip.decompress(data) if item["relpath"].endswith(".gz") else data
                with fits.open(io.BytesIO(content)) as hdus:
                    hdus.verify("exception")
                    assert any(hdu.data is not None for hdu in hdus)
                seen += 1
    assert seen >= 7


def test_its_chain_of_three_is_a_graph(whole):
    ask = Ask(whole.dserver)
    names = {row["uuid"]: row["name"].partition("-")[2] for row in ask("GET", "/uris?page_size=100").json()}
    [first] = [one for one, name in names.items() if name == "frames"]
    rows = ask("GET", f"/graph/uuids/{first}").json()
    edges = {names[row["uuid"]]: [names[source] for source in row["derived_from"]] for row in rows}
    assert edges == {"frames": [], "spectrum": ["frames"], "classification": ["spectrum"]}


def test_a_sandbox_starts_it_once_and_stops_it():
    with Sandbox() as sandbox:
        dserver = sandbox.dserver
        assert sandbox.dserver is dserver
        assert repr(dserver) in repr(sandbox)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(dserver.url)


# Who one is ----------------------------------------------------------------------------------------------------------


def test_five_kinds_of_token(whole):
    box = whole.dserver
    client = httpx2.Client(base_url=box.url)

    def uris(kind):
        return client.get("/uris?page_size=100", headers={"authorization": f"Bearer {box.tokens[kind]}"})

    assert len(uris("admin").json()) == 11
    assert {row["base_uri"] for row in uris("reader").json()} == {"s3://sandbox-spectra"}
    assert (uris("nobody").status_code, uris("nobody").json()) == (200, [])
    assert refused(uris("unknown"), 401)
    assert (uris("expired").status_code, uris("expired").json()) == (401, {"msg": "Token has expired"})


def test_tokens_can_be_verified(box):
    claims = jwt.decode(box.make_token("zoë", 7), box.public_key, algorithms=["RS256"])
    assert (claims["sub"], claims["exp"] - claims["iat"], claims["type"]) == ("zoë", 7, "access")
    assert "exp" not in jwt.decode(box.make_token("zoë", None), box.public_key, algorithms=["RS256"])
    assert httpx2.get(f"{box.url}/public_key").text == box.public_key


@pytest.mark.parametrize(
    ("header", "status", "message"),
    [
        (None, 401, "Missing Authorization Header"),
        ("", 401, "Missing Authorization Header"),
        (
            "Basic x",
            401,
            "Missing 'Bearer' type in 'Authorization' header. Expected 'Authorization: Bearer <JWT>'",
        ),
        (
            "bearer x",
            401,
            "Missing 'Bearer' type in 'Authorization' header. Expected 'Authorization: Bearer <JWT>'",
        ),
        ("Bearer", 422, "Bad Authorization header. Expected 'Authorization: Bearer <JWT>'"),
        ("Bearer a b", 422, "Bad Authorization header. Expected 'Authorization: Bearer <JWT>'"),
        ("Bearer rubbish", 422, "Not enough segments"),
    ],
)
def test_what_is_no_token(box, header, status, message):
    headers = {} if header is None else {"authorization": header}
    answer = httpx2.get(f"{box.url}/me", headers=headers)
    assert (answer.status_code, answer.json()) == (status, {"msg": message})


def test_tokens_of_another_server(box):
    with SandboxDServer(contents=False) as other:
        answer = httpx2.get(f"{box.url}/me", headers={"authorization": f"Bearer {other.token}"})
    assert (answer.status_code, answer.json()) == (422, {"msg": "Signature verification failed"})


def test_tokens_can_be_ended(box):
    old = box.token
    box.expire_tokens()
    ended, new = (
        httpx2.get(f"{box.url}/me", headers={"authorization": f"Bearer {token}"})
        for token in (old, box.token)
    )
    assert (ended.status_code, ended.json()) == (401, {"msg": "Token has expired"})
    assert (new.status_code, new.json()["username"]) == (200, "testuser")


def test_the_token_generator(box):
    box.token_life_s = 15
    good = {"username": box.username, "password": box.password}
    answer = httpx2.post(box.token_url, json=good)
    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    claims = jwt.decode(answer.json()["token"], box.public_key, algorithms=["RS256"])
    assert claims["exp"] - claims["iat"] == 15
    for wrong in (good | {"password": "guess"}, good | {"username": "admin"}):
        refusal = httpx2.post(box.token_url, json=wrong)
        assert (refusal.status_code, refusal.json()) == (200, {"status": "fail"})
    for broken in (b'{"username": "x"}', b"[]", b"", b"{"):
        refusal = httpx2.post(box.token_url, content=broken)
        assert (refusal.status_code, refusal.content) == (400, b"")


def test_without_authentication_all_are_the_default_user(box, ask):
    box.authenticate = False
    assert ask("GET", "/me", None).json()["username"] == "testuser"
    assert ask("GET", "/config/info", None).json()["config"]["disable_jwt_authorisation"] is True


def test_what_is_wrong_with_a_body_is_said_before_who_one_is(ask):
    assert ask("POST", "/uris", None, json={"bad": 1}).status_code == 422
    assert ask("GET", "/uris?page=0", None).status_code == 422
    assert ask("POST", "/uris", None, json={}).status_code == 401


# Data sets -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nova(box):
    return box.add(
        "nova",
        base_uri=BASE,
        uuid=number(1),
        readme=README,
        items={"deep/nova ü.fits": b"SIMPLE", "notes.txt": b"clear"},
        tags=["nova", "south"],
        annotations=TYPED,
        created_at=1604860720.736269,
        frozen_at=1604921621.719575,
    )


def test_one_data_set(ask, nova):
    assert nova == f"{BASE}/{number(1)}"
    row = {"base_uri": BASE, "created_at": 1604860720.736269, "creator_username": "testuser", "name": "nova",
           "frozen_at": 1604921621.719575, "number_of_items": 2, "size_in_bytes": 11, "uri": nova,
           "uuid": number(1)}  # fmt: skip
    path = path_of(nova)
    assert ask("GET", f"/uris/{path}").json() == row
    assert ask("GET", "/uris").json() == [row]
    assert ask("GET", f"/uuids/{number(1)}").json() == [row]
    assert ask("GET", f"/readmes/{path}").json() == {"readme": README}
    assert ask("GET", f"/tags/{path}").json() == {"tags": ["nova", "south"]}
    texts = {"n": "3", "nested": "{'a': [1, 2]}", "none": None, "yes": "True", "f": "1.5"}
    assert ask("GET", f"/annotations/{path}").json() == {"annotations": texts}
    manifest = ask("GET", f"/manifests/{path}").json()
    assert (manifest["hash_function"], manifest["dtoolcore_version"]) == ("md5sum_hexdigest", "3.19.0")
    item = manifest["items"][hashlib.sha1("deep/nova ü.fits".encode()).hexdigest()]
    assert item == {"hash": hashlib.md5(b"SIMPLE").hexdigest(), "relpath": "deep/nova ü.fits",
                    "size_in_bytes": 6, "utc_timestamp": 1604860720.736269}  # fmt: skip


def test_answers_of_mongodb_have_milliseconds_and_more_fields(ask, nova):
    times = {"created_at": 1604860720.736, "frozen_at": 1604921621.719}
    [sql] = ask("GET", "/uris").json()
    [found] = ask("POST", "/uris", json={"tags": ["nova"]}).json()
    assert found == sql | times
    [queried] = ask("POST", "/mongo/query", json={"query": {"name": "nova"}}).json()
    assert queried == found | {"tags": ["nova", "south"], "type": "dataset", "dtoolcore_version": "3.19.0"}


@pytest.mark.parametrize("what", ["uris", "readmes", "manifests", "tags", "annotations"])
def test_forbidden_and_unknown_look_the_same(box, ask, nova, what):
    hidden = box.add("hidden", base_uri=HIDDEN)
    assert refused(ask("GET", f"/{what}/{path_of(hidden)}"), 403)
    assert refused(ask("GET", f"/{what}/s3/nowhere/{number(1)}"), 403)
    assert refused(ask("GET", f"/{what}/{path_of(BASE)}/{number(99)}"), 404)
    assert ask("GET", f"/{what}/{path_of(hidden)}", "admin").status_code == 200


@pytest.mark.parametrize(
    "write",
    [path_of, lambda uri: quote(uri, safe=""), lambda uri: quote(uri, safe="+:/"), quote],
)
@pytest.mark.parametrize("what", ["uris", "readmes", "manifests", "tags", "annotations"])
def test_uris_with_blanks_and_letters_in_both_forms(box, ask, what, write):
    uri = box.add("odd", base_uri=ODD, readme="odd: true\n")
    assert ask("GET", f"/{what}/{write(uri)}").status_code == 200
    assert refused(ask("GET", f"/{what}/{path_of(uri).replace('%20', '+')}"), 403)


def test_data_sets_on_disks_are_called_by_their_names(box):
    assert box.add("log", base_uri="file://host/data/") == "file://host/data/log"


@pytest.fixture
def many(box):
    for n in range(25):
        box.add(
            f"set_{n % 3}",
            base_uri=BASE,
            uuid=number(n),
            tags=["even"] if n % 2 == 0 else [],
            frozen_at=n % 5,
        )


@pytest.mark.parametrize("path", ["/uris", "/uris?tags=even"])
def test_pages(ask, many, path):
    join = "&" if "?" in path else "?"
    total = 13 if "tags" in path else 25
    answer = ask("GET", path)
    assert len(answer.json()) == 10
    last = -(-total // 10)
    assert page(answer) == {
        "total": total, "total_pages": last, "first_page": 1, "last_page": last, "page": 1, "next_page": 2
    }  # fmt: skip
    second = page(ask("GET", f"{path}{join}page=2&page_size=5"))
    assert (second["page"], second["previous_page"], second["next_page"]) == (2, 1, 3)
    uris = [
        row["uri"]
        for each in range(1, -(-total // 7) + 1)
        for row in ask("GET", f"{path}{join}page={each}&page_size=7").json()
    ]
    assert uris == sorted(set(uris))
    assert len(uris) == total


def test_past_the_last_page(ask, many):
    for path in ("/uris?page=4", f"/uuids/{number(1)}?page=2"):
        assert refused(ask("GET", path), 404)
    for answer in (
        ask("POST", "/uris?page=9", json={"tags": ["even"]}),
        ask("POST", "/mongo/query?page=9", json={}),
    ):
        assert (answer.status_code, answer.json()) == (200, [])
        assert set(page(answer)) == {"total", "total_pages", "first_page", "last_page"}
    for path in ("/users?page=9", "/base-uris?page=9"):
        assert refused(ask("GET", path, "admin"), 404)


def test_nothing_found(ask, many):
    for answer in (
        ask("POST", "/uris", json={"tags": ["none"]}),
        ask("GET", "/uuids/any text"),
        ask("GET", "/uris", "nobody"),
        ask("POST", "/mongo/query", "nobody", json={}),
    ):
        assert (answer.status_code, answer.json(), page(answer)) == (200, [], {"total": 0, "total_pages": 0})


def test_a_filter_without_permitted_base_uris_has_no_pages(ask, many):
    for answer in (
        ask("POST", "/uris", "nobody", json={"tags": ["even"]}),
        ask("POST", "/uris", json={"base_uris": [HIDDEN]}),
        ask("POST", "/uris", json={"base_uris": []}),
    ):
        assert (answer.status_code, answer.json(), page(answer)) == (200, [], None)
        assert order(answer) == {"uri": 1}


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("", {"uri": 1}),
        ("name", {"name": 1}),
        ("-frozen_at,%2Bname,-uri", {"frozen_at": -1, "name": 1, "uri": -1}),
        ("name,-name", {"name": -1}),
    ],
)
@pytest.mark.parametrize("body", [{}, {"tags": []}])
def test_sorting(ask, many, sort, expected, body):
    answer = ask("POST", f"/uris?page_size=100&sort={sort}", json=body)
    assert order(answer) == expected
    rows = sorted(answer.json(), key=lambda row: row["uri"])
    for name, direction in reversed(expected.items()):
        rows.sort(key=lambda row, name=name: row[name], reverse=direction < 0)
    for name in expected:
        assert [row[name] for row in answer.json()] == [row[name] for row in rows]


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("page=0", {"page": ["Must be greater than or equal to 1."]}),
        ("page=x", {"page": ["Not a valid integer."]}),
        (
            "page_size=101",
            {"page_size": ["Must be greater than or equal to 1 and less than or equal to 100."]},
        ),
        ("uuids=x", {"uuids": {"0": ["Not a valid UUID."]}}),
    ],
)
def test_query_strings_that_mean_nothing(ask, query, errors):
    answer = ask("GET", f"/uris?{query}")
    assert answer.json() == {"code": 422, "status": "Unprocessable Entity", "errors": {"query": errors}}


@pytest.mark.parametrize("sort", ["size_in_bytes", "+name", "name,x"])
def test_orders_that_there_are_not(ask, sort):
    answer = ask("GET", f"/uris?sort={sort}")
    [messages] = answer.json()["errors"]["query"]["sort"].values()
    assert answer.status_code == 422
    assert messages[0].startswith("Must be one of: +base_uri, +created_at, ")


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"bad": 1}, {"bad": ["Unknown field."]}),
        ({"tags": "x"}, {"tags": ["Not a valid list."]}),
        ({"tags": [1]}, {"tags": {"0": ["Not a valid string."]}}),
        ({"uuids": [number(1), "x"]}, {"uuids": {"1": ["Not a valid UUID."]}}),
        ({"free_text": None}, {"free_text": ["Field may not be null."]}),
        ([], {"_schema": ["Invalid input type."]}),
    ],
)
def test_bodies_that_mean_nothing(ask, body, errors):
    answer = ask("POST", "/uris", json=body)
    assert answer.json() == {"code": 422, "status": "Unprocessable Entity", "errors": {"json": errors}}


def test_bodies_that_are_no_json(ask, many):
    broken = ask("POST", "/uris", content=b"{", headers={"content-type": "application/json"})
    assert broken.json() == {"code": 400, "status": "Bad Request", "errors": {"json": ["Invalid JSON body."]}}
    unread = ask("POST", "/uris", content=b'{"tags": ["even"]}', headers={"content-type": "text/plain"})
    assert page(unread)["total"] == 25


def test_filters(box, ask, nova):
    other = box.add("other", base_uri=BASE, tags=["south"], creator_username="dave")
    box.add("hidden", base_uri=HIDDEN, tags=["south"])

    def found(**body):
        return {row["uri"] for row in ask("POST", "/uris", json=body).json()}

    assert found(tags=["south"]) == {nova, other}
    assert found(tags=["south", "nova"]) == {nova}
    assert found(creator_usernames=["dave", "testuser"]) == {nova, other}
    assert found(creator_usernames=["dave"], tags=["nova"]) == set()
    assert found(base_uris=[BASE, HIDDEN]) == {nova, other}
    assert found(free_text="herschel") == {nova}
    assert found(free_text="south -winter") == {other}
    assert found(free_text='"southern winter"') == {nova}
    assert found(free_text="") == set()
    several = ask("GET", "/uris?creator_usernames=dave&creator_usernames=testuser")
    assert page(several)["total"] == 2


# Oddities ------------------------------------------------------------------------------------------------------------


def test_uuids_of_what_came_by_put_and_of_what_was_indexed_are_not_equal(box, ask, nova):
    put = box.add("put", base_uri=BASE, uuid=number(2), by_put=True)

    def uris(answer):
        return [row["uri"] for row in answer.json()]

    for uri in (nova, put):
        assert uris(ask("GET", f"/uuids/{uri[-36:]}")) == [uri]
    both = {"uuids": [number(1), number(2)]}
    assert uris(ask("POST", "/uris", json=both)) == [put]
    assert uris(ask("POST", "/mongo/query", json=both)) == [put]
    assert uris(ask("POST", "/mongo/query", json={"query": {"uuid": number(1)}})) == [nova]
    assert uris(ask("POST", "/mongo/query", json={"query": {"uuid": number(2)}})) == []
    [row] = ask("POST", "/mongo/query", json={"query": {"name": "put"}}).json()
    assert row["uuid"] == number(2)
    assert "dtoolcore_version" not in row
    assert ask("GET", f"/graph/uuids/{number(2)}").json() == [{"derived_from": [], "uuid": None}]


def test_deleted_data_sets_are_still_found(ask, nova):
    path = path_of(nova)
    for _ in range(2):
        answer = ask("DELETE", f"/uris/{path}")
        assert (answer.status_code, answer.json()) == (200, "")
    assert refused(ask("GET", f"/uris/{path}"), 404)
    assert page(ask("GET", "/uris"))["total"] == 0
    assert ask("GET", f"/uuids/{number(1)}").json() == []
    assert page(ask("POST", "/uris", json={"tags": ["nova"]}))["total"] == 1
    assert page(ask("POST", "/mongo/query", json={}))["total"] == 1
    assert ask("GET", f"/readmes/{path}").json() == {"readme": README}
    assert ask("GET", "/me/summary").json()["number_of_datasets"] == 1


def test_the_same_uuid_at_two_base_uris(box, ask, nova):
    copy = box.add("nova", base_uri=ODD, uuid=number(1))
    assert [row["uri"] for row in ask("GET", f"/uuids/{number(1)}").json()] == [nova, copy]
    assert len(ask("GET", f"/graph/uuids/{number(1)}").json()) == 1


# Registering ---------------------------------------------------------------------------------------------------------


def put_of(**changes):
    info = {"uuid": number(7), "base_uri": BASE, "uri": f"{BASE}/{number(7)}", "name": "new", "type": "dataset",
            "readme": "a: 1\n", "manifest": {}, "creator_username": "carol", "frozen_at": "1604860720.736",
            "annotations": {}, "tags": [], "number_of_items": 0, "size_in_bytes": 0}  # fmt: skip
    return {name: value for name, value in (info | changes).items() if value is not Ellipsis}


@pytest.fixture
def place(box):
    box.add_base_uri(BASE, search=["testuser", "admin"], register=["testuser"])
    return f"/uris/{path_of(BASE)}/{number(7)}"


def test_registering_and_replacing(ask, place):
    first, second = ask("PUT", place, json=put_of()), ask("PUT", place, json=put_of(name="newer"))
    assert [(each.status_code, each.json()) for each in (first, second)] == [(201, ""), (200, "")]
    row = ask("GET", place).json()
    assert (row["name"], row["created_at"], row["frozen_at"]) == ("newer", 1604860720.736, 1604860720.736)
    assert page(ask("POST", "/mongo/query", json={}))["total"] == 1


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"base_uri": HIDDEN}, 403),
        ({"base_uri": f"{BASE}/"}, 403),
        ({"base_uri": ...}, 500),
        ({"uri": ...}, 500),
        ({"uri": f"{BASE}/{number(8)}"}, 400),
        ({"type": "protodataset"}, 400),
        ({"tags": ...}, 400),
        ({"frozen_at": "soon"}, 500),
        ({"annotations": {"large": 2**70}}, 500),
    ],
)
def test_what_can_not_be_registered(ask, place, changes, status):
    assert refused(ask("PUT", place, json=put_of(**changes)), status)
    assert refused(ask("GET", place), 404)


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"frozen_at": 1.5}, {"frozen_at": ["Not a valid string."]}),
        ({"uuid": "x"}, {"uuid": ["Not a valid UUID."]}),
        ({"size_in_bytes": None}, {"size_in_bytes": ["Field may not be null."]}),
        ({"number_of_items": True}, {"number_of_items": ["Not a valid integer."]}),
        ({"dtoolcore_version": "3"}, {"dtoolcore_version": ["Unknown field."]}),
        ({"annotations": []}, {"annotations": ["Not a valid mapping type."]}),
        ({"manifest": None}, {"manifest": ["Field may not be null."]}),
        (
            {"manifest": {"items": {"a": {"hash": 1}}}},
            {"manifest": {"items": {"a": {"value": {"hash": ["Not a valid string."]}}}}},
        ),
    ],
)
def test_fields_that_can_not_be_registered(ask, place, changes, errors):
    answer = ask("PUT", place, json=put_of(**changes))
    assert answer.json() == {"code": 422, "status": "Unprocessable Entity", "errors": {"json": errors}}


def test_who_may_register(ask, place):
    assert refused(ask("PUT", place, "nobody", json=put_of()), 403)
    assert refused(ask("PUT", place, "admin", json=put_of()), 403)  # admins may not by themselves
    assert refused(ask("DELETE", place, "admin"), 403)


def test_sizes_that_nobody_told(ask, place):
    ask("PUT", place, json=put_of(number_of_items=..., size_in_bytes=...))
    row = ask("GET", place).json()
    assert (row["number_of_items"], row["size_in_bytes"]) == (None, None)
    [found] = ask("POST", "/uris", json={"tags": []}).json()
    assert not {"number_of_items", "size_in_bytes"} & set(found)
    assert refused(ask("GET", "/me/summary"), 500)


# Users and base URIs -------------------------------------------------------------------------------------------------


def test_users(ask, nova):
    assert ask("PUT", "/users/zoe", "admin", json={"is_admin": "yes"}).status_code == 201
    assert ask("PUT", "/users/zoe", "admin", json={}).status_code == 200
    assert ask("GET", "/users/zoe").status_code == 403
    assert (
        ask("GET", "/users/zoe", "zoe").json()
        == ask("GET", "/me", "zoe").json()
        == {
            "username": "zoe",
            "is_admin": False,
            "search_permissions_on_base_uris": [],
            "register_permissions_on_base_uris": [],
        }
    )
    answer = ask("GET", "/users?sort=-username", "admin")
    assert answer.json()[0] == {"is_admin": False, "username": "zoe"}
    assert order(answer) == {"username": -1}
    assert refused(ask("GET", "/users/none", "admin"), 404)
    for _ in range(2):
        assert ask("DELETE", "/users/zoe", "admin").status_code == 200
    assert refused(ask("GET", "/me", "zoe"), 401)
    for method, path in (
        ("GET", "/users"),
        ("PUT", "/users/x"),
        ("DELETE", "/users/x"),
        ("GET", "/base-uris"),
    ):
        assert refused(ask(method, path), 403)


def test_base_uris(ask):
    path = f"/base-uris/{path_of(ODD)}"
    lists = {"users_with_search_permissions": ["testuser", "ghost"], "users_with_register_permissions": []}
    assert [ask("PUT", path, "admin", json=lists).status_code for _ in range(2)] == [201, 200]
    assert ask("GET", path, "admin").json() == lists | {
        "base_uri": ODD,
        "users_with_search_permissions": ["testuser"],
    }
    assert ask("GET", "/me").json()["search_permissions_on_base_uris"] == [ODD]
    assert ask("GET", "/base-uris", "admin").json() == [{"base_uri": HIDDEN}, {"base_uri": ODD}]
    assert refused(ask("GET", "/base-uris/s3/none", "admin"), 404)
    twice = {"users_with_search_permissions": ["nobody", "nobody"]}
    assert refused(ask("PUT", path, "admin", json=twice), 500)
    assert [ask("DELETE", path, "admin").status_code for _ in range(2)] == [200, 200]


def test_a_base_uri_with_data_sets_can_not_be_deleted(ask, nova):
    assert refused(ask("DELETE", f"/base-uris/{path_of(BASE)}", "admin"), 500)
    assert ask("GET", f"/uris/{path_of(nova)}").status_code == 200


def test_summaries(box, ask, nova):
    box.add("other", base_uri=BASE, tags=["south"], items={"a": b"1234"}, creator_username="dave")
    summary = {
        "number_of_datasets": 2,
        "total_size_in_bytes": 15,
        "creator_usernames": ["dave", "testuser"],
        "base_uris": [BASE],
        "tags": ["nova", "south"],
        "datasets_per_creator": {"dave": 1, "testuser": 1},
        "datasets_per_base_uri": {BASE: 2},
        "datasets_per_tag": {"nova": 1, "south": 2},
        "size_in_bytes_per_creator": {"dave": 4, "testuser": 11},
        "size_in_bytes_per_base_uri": {BASE: 15},
        "size_in_bytes_per_tag": {"nova": 11, "south": 15},
    }
    assert ask("GET", "/me/summary").json() == summary
    assert ask("GET", "/users/testuser/summary", "admin").json() == summary
    assert ask("GET", "/me/summary", "nobody").json()["number_of_datasets"] == 0


# Plugins -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, True),
        ({"readme.owners.name": {"$regex": "^Carol"}}, True),
        ({"readme.observed": "2020-11-08"}, True),  # dates stay texts
        ({"annotations.n": 3}, True),
        ({"annotations.n": "3"}, False),
        ({"tags": {"$all": ["nova", "south"]}}, True),
    ],
)
def test_mongo_queries(ask, nova, query, found):
    answer = ask("POST", "/mongo/query?sort=-name", json={"query": query})
    assert [row["uri"] for row in answer.json()] == ([nova] if found else [])
    assert order(answer) is None


def test_mongo_queries_that_mean_nothing(box, ask, nova):
    for query in ({"a": {"$nope": 1}}, {"$nope": 1}, {"name": {"$regex": "["}}):
        assert refused(ask("POST", "/mongo/query", json={"query": query}), 500)
    assert ask("POST", "/mongo/query", json={"free_text": "x"}).status_code == 422
    assert ask("POST", "/mongo/query", json={"query": "x"}).json()["errors"] == {
        "json": {"query": ["Not a valid mapping type."]}
    }
    box.allow_direct_query = False
    assert refused(ask("POST", "/mongo/query", json={}), 404)


def test_readmes_that_are_no_yaml_are_not_searched_by_field(box, ask):
    box.add("broken", base_uri=BASE, readme="a: [1\n\t{")
    assert ask("POST", "/mongo/query", json={"query": {"readme": {}}}).json()[0]["name"] == "broken"


def test_aggregations_are_off_until_they_are_allowed(box, ask, nova):
    body = {"aggregation": [{"$project": {"when": "$frozen_at", "frozen_at": 1, "uuid": 1}}]}
    assert refused(ask("POST", "/mongo/aggregate", json=body), 404)
    box.allow_aggregation = True
    row = {"when": "Mon, 09 Nov 2020 11:33:41 GMT", "frozen_at": 1604921621.719, "uuid": number(1)}
    assert ask("POST", "/mongo/aggregate", json=body).json() == [row]
    groups = {"aggregation": [{"$group": {"_id": "$base_uri", "n": {"$sum": 1}}}]}
    assert ask("POST", "/mongo/aggregate", json=groups).json() == [{"n": 1}]  # _id always goes
    assert refused(ask("POST", "/mongo/aggregate", json={"aggregation": [{"$nope": 1}]}), 500)
    [whole_document] = ask("POST", "/mongo/aggregate", json={}).json()
    assert whole_document["readme"]["owners"] == [{"name": "Carol Herschel"}]
    assert whole_document["annotations"] == TYPED


def test_graphs_with_their_oddities(box, ask):
    first = box.add("1", base_uri=BASE, uuid=number(1))
    second = box.add("2", base_uri=BASE, uuid=number(2), readme={}, derived_from=[first, first])
    box.add("3", base_uri=HIDDEN, uuid=number(3), readme="a text", derived_from=[second])
    box.add("4", base_uri=BASE, uuid=number(4), readme="a text", derived_from=[number(3)])
    rows = ask("GET", f"/graph/uuids/{number(4)}").json()
    assert [(row["name"], row["derived_from"]) for row in rows] == [
        ("1", []),
        ("2", [number(1)] * 2),
        ("4", [number(3)]),  # the way leads through what one may not see
    ]
    unknown = ask("GET", f"/graph/uuids/{number(9)}")
    assert unknown.json() == [{"derived_from": [], "uuid": None}]
    assert page(unknown)["total"] == 1
    assert ask("GET", f"/graph/uuids/{number(1)}", "nobody").json() == []


def test_graphs_by_other_keys(box, ask):
    box.add("1", base_uri=BASE, uuid=number(1))
    box.add("2", base_uri=BASE, uuid=number(2), annotations={"parents": [number(1)]})
    path, keys = f"/graph/uuids/{number(1)}", {"dependency_keys": ["annotations.parents"]}
    assert [row["derived_from"] for row in ask("POST", path, json=keys).json()] == [[], [number(1)]]
    assert len(ask("GET", path).json()) == 1
    for wrong in ({}, {"dependency_keys": []}, {"dependency_keys": ["$a"]}, {"dependency_keys": ["a", "a"]}):
        assert refused(ask("POST", path, json=wrong), 500)
    assert ask("POST", path, json={"dependency_keys": "a"}).status_code == 422
    box.dynamic_dependency_keys = False
    assert len(ask("POST", path, json=keys).json()) == 1


@pytest.mark.parametrize(
    ("plugin", "method", "path", "setting"),
    [
        ("dserver_direct_mongo_plugin", "POST", "/mongo/query", "allow_direct_query"),
        ("dserver_dependency_graph_plugin", "GET", "/graph/uuids/x", "dependency_keys"),
        ("dserver_notification_plugin", "POST", "/webhook/notify", "bucket_to_base_uri"),
    ],
)
def test_a_plugin_that_is_not_there(box, ask, plugin, method, path, setting):
    assert setting in ask("GET", "/config/info").json()["config"]
    assert plugin in ask("GET", "/config/versions", None).json()["versions"]
    del box.plugins[plugin]
    assert refused(ask(method, path, json={}), 404)
    assert plugin not in ask("GET", "/config/versions", None).json()["versions"]
    assert setting not in ask("GET", "/config/info").json()["config"]


def test_notifications_of_a_store(box, ask, nova):
    box.bucket_to_base_uri["night"] = BASE

    def notify(name, bucket="night", key="00000000-0000-4000-8000-000000000001/dtool"):
        record = {"eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}
        return ask("POST", "/webhook/notify", None, json={"Records": [record]})

    row = ask("GET", "/uris").json()
    assert notify("s3:ObjectRemoved:Delete", key=f"{number(1)}/data/x").json() is None
    assert ask("GET", "/uris").json() == row
    assert notify("s3:ObjectRemoved:Delete").status_code == 200
    assert ask("GET", "/uris").json() == []
    assert notify("ObjectCreated:Put").status_code == 200
    assert ask("GET", "/uris").json() == row
    assert notify("s3:Other").json() is None
    assert refused(notify("s3:ObjectCreated:Put", bucket="other"), 400)
    assert refused(ask("POST", "/webhook/notify", None, json={}), 500)


def test_settings_without_secrets(box, ask):
    answer = ask("GET", "/config/info", "nobody")
    config = answer.json()["config"]
    assert (config["allow_direct_aggregation"], config["secret_key"]) == (False, "***")
    assert "PRIVATE KEY" not in answer.text
    assert box.password not in answer.text
    assert refused(ask("GET", "/config/info", "unknown"), 401)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/uris/", 404), ("GET", "/uuids/", 404), ("PATCH", "/me", 405)],
)
def test_routes_that_there_are_not(ask, method, path, status):
    assert refused(ask(method, path), status)


def test_what_browsers_ask(ask):
    answer = ask("OPTIONS", "/uris", None)
    assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (
        200,
        {"GET", "HEAD", "POST", "OPTIONS"},
    )
    assert answer.headers["access-control-expose-headers"] == "X-Pagination"
    assert ask("HEAD", "/uris").status_code == 200
    assert "/uris/{uri}" in ask("GET", "/doc/openapi.json", None).json()["paths"]


# The sandbox's side --------------------------------------------------------------------------------------------------


def test_what_arrived_is_noted_with_the_clients_port(box, ask):
    for _ in range(3):
        ask("GET", "/me")
    ask("GET", "/nothing")
    noted = [(request.method, request.path, request.status) for request in box.requests]
    assert noted == [("GET", "/me", 200)] * 3 + [("GET", "/nothing", 404)]
    assert len({request.port for request in box.requests}) == 1
    assert isinstance(box.requests[0].port, int)


def test_faults(box, ask, nova):
    box.fail(status=503, retry_after=1, path="/readmes")
    answer = ask("GET", f"/readmes/{path_of(nova)}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"code": 503, "status": "Service Unavailable"}
    box.answer(body=b"<html>", content_type="text/html", status=502)
    assert ask("GET", "/me").text == "<html>"
    box.cut_body()
    with pytest.raises(httpx2.RemoteProtocolError):
        ask("GET", "/me")
    box.delay(0.2)
    began = time.monotonic()
    assert ask("GET", "/me").status_code == 200
    assert time.monotonic() - began >= 0.2


def test_it_can_begin_anew(whole):
    box, ask = whole.dserver, Ask(whole.dserver)
    before, password = box.uris, box.password
    box.add("more", base_uri=BASE)
    box.add_user("zoe")
    box.allow_aggregation, box.authenticate, box.token_life_s = True, False, 1
    del box.plugins["dserver_direct_mongo_plugin"]
    box.fail(times=9)
    box.reset()
    assert (box.uris, box.requests, box.password) == (before, [], password)
    assert (box.allow_aggregation, box.authenticate, box.token_life_s) == (False, True, 900)
    assert ask("POST", "/mongo/query", json={}).status_code == 200
    assert ask("GET", "/me", "zoe").status_code == 401


def test_items_in_a_store(box, tmp_path):
    file = tmp_path / "file.bin"
    file.write_bytes(b"from disk")
    huge = SparseFile(10**12, {0: b"SIMPLE"})
    with SandboxStore() as store:
        uri = box.add("big", base_uri=BASE, items={"a": b"held", "b": file, "c": huge}, store=store)
        name = uri.rpartition("/")[2]
        key = f"{name}/data/{hashlib.sha1(b'b').hexdigest()}"
        assert httpx2.get(store.http_url(key, bucket="night")).content == b"from disk"
        assert httpx2.get(store.http_url(f"dtool-{name}", bucket="night")).content == b""
        with pytest.raises(ConfigurationError, match="s3://bucket"):
            box.add("x", base_uri=ODD, items={"a": b""}, store=store)
    row = Ask(box)("GET", f"/uris/{path_of(uri)}").json()
    assert row["size_in_bytes"] == 10**12 + 13


def test_data_sets_that_can_not_be_kept(box, tmp_path):
    with pytest.raises(ConfigurationError, match="MongoDB can't keep"):
        box.add("x", base_uri=BASE, annotations={"large": 2**70})
    with pytest.raises(ConfigurationError):
        box.add("x", base_uri=BASE, items={"a": tmp_path / "nothing"})
    assert box.uris == []


def test_random_uuids_are_of_version_four(box):
    one, two = (box.add("same name", base_uri=BASE) for _ in range(2))
    assert one != two
    assert uuid.UUID(one.rpartition("/")[2]).version == 4


def test_many_threads(box, nova):
    path = f"/readmes/{path_of(nova)}"
    headers = {"authorization": f"Bearer {box.token}"}

    def work(thread):
        with httpx2.Client(base_url=box.url, headers=headers, timeout=30) as client:
            for n in range(20):
                box.add(f"{thread}-{n}", base_uri=BASE)
                assert client.get(path).json() == {"readme": README}
        return thread

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))
    assert len(box.uris) == 161


@pytest.mark.parametrize(
    ("one", "other"),
    [("test", "testing"), ("galaxy", "galaxies"), ("observe", "observed"), ("stop", "stopping")],
)
def test_words_of_one_stem(one, other):
    assert stem(one) == stem(other)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("NIGHT", True),
        ("nachte", True),
        ("the", False),
        ("first", True),
        ("first_light", False),
        ('" "', False),
        ("cloud -nights", False),
        ("-cloud", False),
        ('"clear nights" cloud', True),
        ('"nights clear"', False),
        ('clear -"clear nights"', False),
    ],
)
def test_free_text(search, found):
    words = TextIndex(
        {"readme": "The clear nights", "tags": ["Nächte"], "items": {"a": {"relpath": "first.fits"}}}
    )
    assert words.meets(search) is found
