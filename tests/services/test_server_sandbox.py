"""The sandbox's Kowalski: what it holds, and the faults that it can be asked for."""

import threading
import time

import httpx2
import pytest

from nuncius.archives import open_archive
from nuncius.sandbox import synthetic_alerts
from nuncius.sandbox.kowalski import REFERENCE_CATALOG, SandboxKowalski, fill_archive
from nuncius.sandbox.sky.reference import synthetic_catalog

NAMES = {"query_type": "info", "query": {"command": "catalog_names"}}


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    path = tmp_path_factory.mktemp("sandbox") / "night.db"
    fill_archive(path, alerts=20)
    return path


@pytest.fixture
def box(night):
    with SandboxKowalski(archive=night) as running:
        yield running


@pytest.fixture
def ask(box):
    with httpx2.Client(base_url=box.http_url, timeout=10, trust_env=False) as client:

        def ask(body=NAMES, token=None):
            return client.post("/api/queries", json=body, headers={"Authorization": token or box.token})

        yield ask


def test_it_says_where_it_is(box):
    assert box.url == f"kowalski+http://127.0.0.1:{box.port}"
    assert box.http_url == f"http://127.0.0.1:{box.port}"
    assert repr(box) == f"<SandboxKowalski default at {box.http_url}>"
    assert box.password not in repr(vars(box)["_server"])


def test_its_accounts_work(box):
    for name, password in ((box.username, box.password), (box.admin_username, box.admin_password)):
        answer = httpx2.post(f"{box.http_url}/api/auth", json={"username": name, "password": password})
        assert answer.json()["status"] == "success"


def test_it_holds_the_synthetic_survey_and_its_reference_catalog(night):
    with open_archive(night, read_only=True) as archive:
        assert archive.count("ZTF_alerts") == 20 == len(synthetic_alerts(20))
        assert archive.count(REFERENCE_CATALOG) == len(synthetic_catalog())
        stars = archive.find(
            "ZTF_alerts", {"candidate.ndethist": {"$gt": 60}}, projection=["candidate.ra", "candidate.dec"]
        )
        places = [(star["candidate"]["ra"], star["candidate"]["dec"]) for star in stars]
        found = archive.cone_search(REFERENCE_CATALOG, places, "1 arcsec")
        assert {document["input_index"] for document in found} == set(range(len(places)))
        assert len(places) > 8


def test_the_reference_catalog_is_the_same_each_time():
    one, two, other = synthetic_catalog(), synthetic_catalog(), synthetic_catalog(seed=2)
    assert all((one[name] == two[name]).all() for name in one.colnames)
    assert (one["ra"] != other["ra"]).any()
    assert one["source_id"].dtype.kind == "i"
    assert ((one["ra"] >= 0) & (one["ra"] < 360) & (abs(one["dec"]) <= 90)).all()


def test_requests_are_noted(box, ask):
    ask()
    cone = {
        "object_coordinates": {
            "cone_search_radius": 1,
            "cone_search_unit": "deg",
            "radec": {"a": [1, 1], "b": [2, 2]},
        }
    }
    ask({"query_type": "cone_search", "query": cone | {"catalogs": {"ZTF_alerts": {}}}})
    httpx2.get(f"{box.http_url}/nope")
    noted = [(r.method, r.path, r.status, r.query_type, r.positions) for r in box.requests]
    assert noted == [
        ("POST", "/api/queries", 200, "info", 0),
        ("POST", "/api/queries", 200, "cone_search", 2),
        ("GET", "/nope", 404, None, 0),
    ]


def test_failures(box, ask):
    box.fail(status=503, times=2, retry_after=7)
    assert httpx2.get(box.http_url, headers={"Authorization": box.token}).status_code == 200  # another path
    answers = [ask() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["retry-after"] == "7"
    assert answers[0].json() == {"status": "error", "message": "Service Unavailable"}
    assert "retry-after" not in answers[2].headers


def test_faults_of_other_paths(box):
    box.fail(status=500, path="/api/auth")
    login = {"username": box.username, "password": box.password}
    statuses = [httpx2.post(f"{box.http_url}/api/auth", json=login).status_code for _ in range(2)]
    assert statuses == [500, 200]


def test_faults_happen_in_the_order_in_which_they_were_asked_for(box, ask):
    box.fail(status=502)
    box.answer(body=b"<html>", content_type="text/html", status=200)
    box.fail(status=504)
    assert [ask().status_code for _ in range(4)] == [502, 200, 504, 200]


def test_other_answers(box, ask):
    box.answer(body=b"<html>Bad gateway</html>", content_type="text/html", status=502)
    answer = ask()
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")
    assert answer.text == "<html>Bad gateway</html>"


def test_delays(box, ask):
    box.delay(0.3)
    begin = time.monotonic()
    assert ask().status_code == 200
    assert time.monotonic() - begin >= 0.3
    begin = time.monotonic()
    assert ask().status_code == 200
    assert time.monotonic() - begin < 0.3


def test_cut_answers(box, ask):
    box.cut_body(times=2)
    for _ in range(2):
        with pytest.raises(httpx2.RemoteProtocolError):
            ask()
    assert ask().json()["status"] == "success"
    assert [request.status for request in box.requests] == [200, 200, 200]


def test_expired_tokens(box, ask):
    old = box.token
    assert ask(token=old).status_code == 200
    box.expire_tokens()
    answer = ask(token=old)
    assert (answer.status_code, answer.json()) == (400, {"status": "error", "message": "token has expired"})
    assert ask(token=f"Bearer {old}").status_code == 400
    assert ask(token=box.token).status_code == 200
    assert ask(token="nonsense").json()["message"] == "token is invalid"
    login = {"username": box.username, "password": box.password}
    fresh = httpx2.post(f"{box.http_url}/api/auth", json=login).json()["token"]
    assert ask(token=fresh).status_code == 200


def test_faults_are_forgotten(box, ask):
    box.fail(times=5)
    box.expire_tokens()
    box.clear_faults()
    assert ask().status_code == 200


def test_several_run_side_by_side(night):
    with (
        SandboxKowalski(name="a", archive=night, catalogs=["ZTF_alerts"]) as a,
        SandboxKowalski(name="b", archive=night, catalogs=[REFERENCE_CATALOG], delay_s=0.2) as b,
    ):
        answers, times = [], []
        for box in (a, b):
            begin = time.monotonic()
            url, headers = f"{box.http_url}/api/queries", {"Authorization": box.token}
            answers.append(httpx2.post(url, json=NAMES, headers=headers).json()["data"])
            times.append(time.monotonic() - begin)
    assert answers == [["ZTF_alerts"], [REFERENCE_CATALOG]]
    assert times[1] >= 0.2


def test_a_delay_for_each_position(night):
    radec = {f"p{number}": [number, 0] for number in range(20)}
    cone = {"object_coordinates": {"cone_search_radius": 1, "cone_search_unit": "arcsec", "radec": radec}}
    body = {"query_type": "cone_search", "query": cone | {"catalogs": {"ZTF_alerts": {}}}}
    with SandboxKowalski(archive=night, delay_per_position_s=0.02) as box:
        begin = time.monotonic()
        answer = httpx2.post(f"{box.http_url}/api/queries", json=body, headers={"Authorization": box.token})
    assert answer.status_code == 200
    assert time.monotonic() - begin >= 0.4


def test_it_can_be_killed_in_the_middle_of_an_answer(night):
    with SandboxKowalski(archive=night, delay_s=5) as box:
        errors = []

        def ask():
            try:
                httpx2.post(
                    f"{box.http_url}/api/queries",
                    json=NAMES,
                    headers={"Authorization": box.token},
                    timeout=20,
                )
            except httpx2.TransportError as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while not box.requests:
            time.sleep(0.01)
        begin = time.monotonic()
        box.kill()
        thread.join(10)
        assert time.monotonic() - begin < 3
        assert len(errors) == 1
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(box.http_url)


def test_closing_twice_does_no_harm(night):
    box = SandboxKowalski(archive=night)
    box.close()
    box.close()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(box.http_url)
