"""Every query type, its answers and its refusals, as Kowalski's clients see them."""

import json
import math

import httpx2
import pytest
from bson import ObjectId, json_util

from nuncius.sandbox.kowalski import REFERENCE_CATALOG, SandboxKowalski

QUERY_TYPES = (
    "('cone_search', 'count_documents', 'estimated_document_count', 'find', 'find_one', 'aggregate', 'info', 'near', "
    "'drop', 'skymap')"
)
PROJECTION = {"_id": 0, "candid": 1, "objectId": 1}


@pytest.fixture(scope="module")
def box():
    with SandboxKowalski(alerts=60) as running:
        yield running


@pytest.fixture(scope="module")
def client(box):
    with httpx2.Client(
        base_url=box.http_url, headers={"Authorization": box.token}, timeout=30, trust_env=False
    ) as opened:
        yield opened


@pytest.fixture(scope="module")
def ask(client):
    def ask(query_type, query, status=200, **kwargs):
        body = {"query_type": query_type, "query": query, "kwargs": kwargs}
        response = client.post("/api/queries", json=body)
        assert response.status_code == status, response.text
        return json_util.loads(response.text)

    return ask


@pytest.fixture(scope="module")
def alerts(ask):
    """All alerts without their images, in the order in which they came."""
    answer = ask(
        "find",
        {"catalog": "ZTF_alerts", "filter": {}, "projection": {"candidate": 1, "candid": 1, "objectId": 1}},
    )
    assert len(answer["data"]) == 60
    return answer["data"]


def place(alert):
    return [alert["candidate"]["ra"], alert["candidate"]["dec"]]


def cone(radec, radius=2, unit="arcsec", **catalog):
    wishes = {"filter": {}, "projection": PROJECTION} | catalog
    return {
        "object_coordinates": {"cone_search_radius": radius, "cone_search_unit": unit, "radec": radec},
        "catalogs": {"ZTF_alerts": wishes},
    }


def near(radec, **query):
    return {"radec": radec, "catalogs": {"ZTF_alerts": {"filter": {}, "projection": PROJECTION}}} | query


def message(answer):
    assert answer["status"] == "error"
    return answer["message"]


# Routes


def test_greeting_and_routes(client):
    answer = client.get("/")
    assert answer.json() == {"status": "success", "message": "greetings from Kowalski!"}
    for method in ("HEAD", "POST", "DELETE"):
        answer = client.request(method, "/")
        assert answer.status_code == 405
        assert answer.headers["content-type"].startswith("text/plain")
    assert client.post("/").text == "405: Method Not Allowed"
    for path in ("/nope", "/api", "/api/queries/", "/api/triggers/ztf", "/api/filters", "/docs"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (404, {"status": "error", "message": "Not Found"})


def test_answers_are_not_kept_by_anybody(client):
    headers = client.get("/").headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


# find, find_one, counts


def test_find(ask, alerts):
    candid = alerts[3]["candid"]
    query = {"catalog": "ZTF_alerts", "filter": {"candid": candid}, "projection": PROJECTION}
    assert ask("find", query) == {
        "status": "success",
        "message": "Successfully executed query",
        "data": [{"objectId": alerts[3]["objectId"], "candid": candid}],
    }


def test_find_gives_whole_documents_with_images(ask, alerts):
    (found,) = ask("find", {"catalog": "ZTF_alerts", "filter": {"candid": alerts[0]["candid"]}})["data"]
    assert isinstance(found["_id"], ObjectId)
    assert found["cutoutScience"]["stampData"].startswith(b"\x1f\x8b")
    lon, lat = found["coordinates"]["radec_geojson"]["coordinates"]
    assert [lon + 180, lat] == pytest.approx(place(found))


def test_ids_from_an_answer_can_be_asked_for_again(ask, client, alerts):
    identifier = alerts[0]["_id"]
    for asked in (str(identifier), {"$oid": str(identifier)}, {"$in": [{"$oid": str(identifier)}]}):
        query = {"catalog": "ZTF_alerts", "filter": {"_id": asked}, "projection": {"_id": 1}}
        assert ask("find", query)["data"] == [{"_id": identifier}]


def test_filters_as_python_literals(ask, alerts):
    query = {
        "catalog": "ZTF_alerts",
        "filter": f"{{'candid': {alerts[0]['candid']}, 'objectId': {{'$exists': True}}}}",
        "projection": "{'_id': 0, 'candid': 1}",
    }
    assert ask("find", query)["data"] == [{"candid": alerts[0]["candid"]}]


def test_sort_skip_and_limit(ask, alerts):
    query = {"catalog": "ZTF_alerts", "filter": {}, "projection": {"_id": 0, "candid": 1}}
    ordered = sorted((alert["candid"] for alert in alerts), reverse=True)
    found = ask("find", query, sort=[["candid", -1]], skip=2, limit=5)["data"]
    assert [document["candid"] for document in found] == ordered[2:7]
    assert len(ask("find", query, limit=0)["data"]) == 60
    assert len(ask("find", query, limit=-3)["data"]) == 3
    assert len(ask("find", query, hint="candid_1", save=False, _id="x", nonsense=1)["data"]) == 60


def test_find_one_passes_over_all_but_the_filter(ask, alerts):
    query = {"catalog": "ZTF_alerts", "filter": {"candid": alerts[5]["candid"]}, "projection": {"candid": 1}}
    found = ask("find_one", query, sort=[["candid", -1]], skip=1)["data"]
    assert found["candid"] == alerts[5]["candid"]
    assert "cutoutScience" in found


def test_find_one_without_a_match_has_no_data(ask):
    answer = ask("find_one", {"catalog": "ZTF_alerts", "filter": {"candid": 1}})
    assert answer == {"status": "success", "message": "Successfully executed query"}


def test_counts(ask, alerts):
    query = {"catalog": "ZTF_alerts", "filter": {"candidate.fid": {"$in": [1, 2, 3]}}}
    assert ask("count_documents", query)["data"] == 60
    assert ask("count_documents", query, limit=1, skip=50)["data"] == 60
    assert ask("estimated_document_count", {"catalog": "ZTF_alerts"})["data"] == 60


def test_unknown_catalogs_are_empty(ask):
    assert ask("find", {"catalog": "Nope", "filter": {}})["data"] == []
    assert "data" not in ask("find_one", {"catalog": "Nope", "filter": {}})
    assert ask("count_documents", {"catalog": "Nope", "filter": {}})["data"] == 0
    assert ask("estimated_document_count", {"catalog": "Nope"})["data"] == 0
    assert ask("aggregate", {"catalog": "Nope", "pipeline": [{"$match": {}}]})["data"] == []
    catalogs = {"catalogs": {"Nope": {"filter": {}}}}
    assert ask("cone_search", cone({"a": [1, 1]}) | catalogs)["data"] == {"Nope": {"a": []}}
    assert ask("near", near({"a": [1, 1]}) | catalogs)["data"] == {"Nope": {"a": []}}


def test_histories_are_near_nothing(ask):
    catalogs = {"catalogs": {"ZTF_alerts_aux": {"filter": {}}}}
    assert ask("cone_search", cone({"a": [1, 1]}) | catalogs)["data"] == {"ZTF_alerts_aux": {"a": []}}


# Positions


def test_cone_search(ask, alerts):
    alert = alerts[0]
    answer = ask("cone_search", cone({"obj.1": place(alert), "none": [1, 1]}))
    same = [a for a in alerts if a["objectId"] == alert["objectId"]]
    assert list(answer["data"]["ZTF_alerts"]) == ["obj_1", "none"]
    assert answer["data"]["ZTF_alerts"]["none"] == []
    found = answer["data"]["ZTF_alerts"]["obj_1"]
    assert {document["candid"] for document in found} == {a["candid"] for a in same}
    assert all(set(document) == {"candid", "objectId"} for document in found)


def test_many_cones_are_one_question_to_the_archive(ask, alerts, monkeypatch):
    from nuncius.archives.embedded import EmbeddedArchive

    calls = []
    search = EmbeddedArchive.cone_search
    monkeypatch.setattr(
        EmbeddedArchive, "cone_search", lambda self, *a, **k: calls.append(a) or search(self, *a, **k)
    )
    radec = {f"p{number}": place(alerts[number % 60]) for number in range(10_000)}
    found = ask("cone_search", cone(radec))["data"]["ZTF_alerts"]
    assert list(found) == list(radec)
    assert len(calls) == 1
    for number in range(60):
        assert alerts[number]["candid"] in [document["candid"] for document in found[f"p{number}"]]
        assert found[f"p{number}"] == found[f"p{number + 60 * 100}"]


def test_cone_search_in_several_catalogs(ask, alerts):
    query = cone({"a": place(alerts[0])}, radius=1, unit="arcmin")
    query["catalogs"][REFERENCE_CATALOG] = {"filter": {}, "projection": {"_id": 0, "source_id": 1}}
    data = ask("cone_search", query)["data"]
    assert set(data) == {"ZTF_alerts", REFERENCE_CATALOG}


@pytest.mark.parametrize(
    ("unit", "radius"), [("arcsec", 60), ("arcmin", 1), ("deg", 1 / 60), ("rad", math.pi / 10800)]
)
def test_units_of_cones(ask, alerts, unit, radius):
    expected = ask("cone_search", cone({"a": place(alerts[0])}, radius=60))
    assert ask("cone_search", cone({"a": place(alerts[0])}, radius=radius, unit=unit)) == expected


def test_limits_hold_for_each_position(ask, alerts):
    radec = {"a": place(alerts[0]), "b": place(alerts[1])}
    query = cone(radec, radius=180, unit="deg", projection={"_id": 0, "candid": 1})
    plain = ask("cone_search", query)["data"]["ZTF_alerts"]
    assert [len(plain[name]) for name in radec] == [60, 60]
    limited = ask("cone_search", query, limit=3, skip=1)["data"]["ZTF_alerts"]
    assert limited == {name: plain[name][1:4] for name in radec}
    ordered = sorted((alert["candid"] for alert in alerts), reverse=True)
    found = ask("cone_search", query, sort=[["candid", -1]], limit=3, skip=1)["data"]["ZTF_alerts"]
    assert [[d["candid"] for d in found[name]] for name in radec] == [ordered[1:4]] * 2


def test_sorting_by_a_field_that_is_not_asked_for(ask, alerts):
    query = cone({"a": place(alerts[0])}, radius=180, unit="deg", projection={"_id": 0, "objectId": 1})
    found = ask("cone_search", query, sort=[["candid", 1]])["data"]["ZTF_alerts"]["a"]
    ordered = sorted(alerts, key=lambda alert: alert["candid"])
    assert found == [{"objectId": alert["objectId"]} for alert in ordered]


def test_filters_of_cones(ask, alerts):
    query = cone({"a": place(alerts[0])}, filter={"candid": alerts[0]["candid"]})
    found = ask("cone_search", query, filter_first=True)["data"]["ZTF_alerts"]["a"]
    assert [document["candid"] for document in found] == [alerts[0]["candid"]]
    query["catalogs"]["ZTF_alerts"].pop("filter")
    assert ask("cone_search", query)["data"]["ZTF_alerts"]["a"] != []


def test_near_is_sorted_by_distance(ask, alerts):
    data = ask("near", near({"a.b": place(alerts[0])}, max_distance=180, distance_units="deg"))["data"]
    found = [document["candid"] for document in data["ZTF_alerts"]["a_b"]]
    first = [a["candid"] for a in alerts if a["objectId"] == alerts[0]["objectId"]]
    assert len(found) == 60
    assert set(found[: len(first)]) == set(first)
    limited = ask("near", near([place(alerts[0])], max_distance=180, distance_units="deg"), limit=2)["data"]
    ((_, two),) = limited["ZTF_alerts"].items()
    assert [document["candid"] for document in two] == found[:2]


def test_the_bounds_of_near(ask, alerts):
    names = {"a": place(alerts[0])}
    default = ask("near", near(names))["data"]
    assert default == ask("near", near(names, max_distance=1, distance_units="arcmin"))["data"]
    far = ask("near", near(names, min_distance=1, max_distance=180, distance_units="deg"))["data"][
        "ZTF_alerts"
    ]["a"]
    assert 0 < len(far) < 60
    assert alerts[0]["objectId"] not in {document["objectId"] for document in far}


# aggregate


def test_aggregate(ask, alerts):
    pipeline = [{"$match": {"candidate.fid": {"$gt": 0}}}, {"$group": {"_id": "$objectId", "n": {"$sum": 1}}}]
    for given in (pipeline, repr(pipeline), json.dumps(pipeline)):
        query = {"catalog": "ZTF_alerts", "pipeline": given}
        found = ask("aggregate", query, allowDiskUse=True, batchSize=5)["data"]
        assert sum(group["n"] for group in found) == 60
        assert {group["_id"] for group in found} == {alert["objectId"] for alert in alerts}


def test_joins_between_opened_catalogs(ask, alerts):
    pipeline = [
        {"$match": {"candid": alerts[-1]["candid"]}},
        {"$lookup": {"from": "ZTF_alerts_aux", "localField": "objectId", "foreignField": "_id", "as": "aux"}},
        {"$project": {"_id": 0, "aux._id": 1}},
    ]
    found = ask("aggregate", {"catalog": "ZTF_alerts", "pipeline": pipeline})["data"]
    assert found == [{"aux": [{"_id": alerts[-1]["objectId"]}]}]


# info


def test_info(ask):
    assert ask("info", {"command": "catalog_names"})["data"] == [
        "ZTF_alerts_aux",
        "ZTF_alerts",
        REFERENCE_CATALOG,
    ]
    assert ask("info", {"command": "catalog_info", "catalog": "ZTF_alerts"})["data"]["count"] == 60
    assert ask("info", {"command": "catalog_info", "catalog": "Nope"})["data"]["count"] == 0
    database = ask("info", {"command": "db_info"})["data"]
    assert database["collections"] == 3
    assert database["objects"] > 60
    indexes = ask("info", {"command": "index_info", "catalog": "ZTF_alerts"})["data"]
    assert indexes["_id_1"] == {"key": [["_id", 1]], "v": 2}
    assert indexes["coordinates.radec_geojson_2dsphere__id_1"]["key"][0] == [
        "coordinates.radec_geojson",
        "2dsphere",
    ]
    assert ask("info", {"command": "index_info", "catalog": "Nope"})["data"] == {}


# Refusals


VALIDATION = "ValidationError: 1 validation error for Query\n__root__\n  {} (type=value_error)"


@pytest.mark.parametrize(
    ("query_type", "query", "kwargs", "expected"),
    [
        (
            "bogus",
            {},
            {},
            f'KeyError: "query_type bogus not in {QUERY_TYPES}"',
        ),
        (
            "info",
            {"command": "nope"},
            {},
            "KeyError: \"command nope not in ('catalog_names', 'catalog_info', 'index_info', 'db_info')\"",
        ),
        ("find", {"catalog": "ZTF_alerts"}, {}, VALIDATION.format("Unsupported filter specification")),
        ("find_one", {"catalog": "ZTF_alerts"}, {}, VALIDATION.format("Unsupported filter specification")),
        ("count_documents", {"catalog": "ZTF_alerts"}, {}, VALIDATION.format("Unsupported filter specification")),
        ("find", {"catalog": "users", "filter": {}}, {}, VALIDATION.format("Protected collection")),
        ("aggregate", {"catalog": "ZTF_alerts", "pipeline": []}, {}, VALIDATION.format("Pipeline must contain at least one stage")),
        (
            "aggregate",
            {"catalog": "ZTF_alerts", "pipeline": [{"$out": "x"}]},
            {},
            VALIDATION.format("Pipeline uses forbidden stages: {'$out'}"),
        ),
        ("find", {"catalog": "ZTF_alerts", "filter": {}}, {"max_time_ms": 0}, "ValueError: max_time_ms must be int >= 1"),
        ("find", {"catalog": "ZTF_alerts", "filter": {}}, {"max_time_ms": "1"}, "ValueError: max_time_ms must be int >= 1"),
        ("cone_search", cone({"a": [1, 1]}, unit="parsec"), {}, "Exception: Angular units not in ('arcsec', 'arcmin', 'deg', 'rad')"),
        ("near", near({"a": [1, 1]}, distance_units="m"), {}, "Exception: Angular units not in ('arcsec', 'arcmin', 'deg', 'rad')"),
        ("skymap", {"catalog": "ZTF_alerts", "filter": {}, "skymap": {"dateobs": "2026-01-01T00:00:00"}}, {}, VALIDATION.format("name must be specified")),
        (
            "skymap",
            {"catalog": "ZTF_alerts", "filter": {}, "skymap": {"localization_name": "x", "aliases": ["y"]}},
            {},
            "ValueError: Skymap not found",
        ),
        ("find", {"catalog": "ZTF_alerts", "filter": {}}, {"skip": -1}, "ValueError: skip must be >= 0"),
        ("find", {"catalog": "ZTF_alerts", "filter": {}}, {"limit": "all"}, "TypeError: limit must be an instance of int"),
    ],
)  # fmt: skip
def test_refusals_say_what_kowalski_says(ask, query_type, query, kwargs, expected):
    assert message(ask(query_type, query, 400, **kwargs)) == expected


@pytest.mark.parametrize(
    ("query_type", "query", "beginning"),
    [
        (
            "find",
            {"catalog": "ZTF_alerts", "filter": {"a": {"$foo": 1}}},
            "OperationFailure: unknown operator: $foo",
        ),
        (
            "find",
            {"catalog": "ZTF_alerts", "filter": {"a": {"$gt": {"$date": 0}}}},
            "OperationFailure: unknown operator: $date",
        ),
        (
            "find",
            {"catalog": "ZTF_alerts", "filter": {}, "projection": {"a": 1, "b": 0}},
            "OperationFailure: ",
        ),
        ("cone_search", cone({"a": [1, "10:00:00"]}), "ValueError: "),
        (
            "cone_search",
            cone({"a": [-1, 10]}),
            "OperationFailure: longitude/latitude is out of bounds, lng: -181 lat: 10",
        ),
        ("cone_search", {"object_coordinates": None, "catalogs": {}}, "ValidationError: "),
        ("cone_search", cone({"a": [1, 1]}) | {"catalogs": {}}, "ValidationError: "),
        (
            "cone_search",
            cone({"a": [1, 1]}) | {"catalogs": {"ZTF_alerts": []}},
            "AttributeError: 'list' object",
        ),
        ("find", {"filter": {}}, "TypeError: name must be an instance of str"),
        ("aggregate", {"catalog": "ZTF_alerts", "pipeline": [{"$nope": 1}]}, "OperationFailure: "),
        ("aggregate", {"catalog": "ZTF_alerts", "pipeline": {"$match": {}}}, "ValidationError: "),
        ("aggregate", {"catalog": "ZTF_alerts", "pipeline": [{}]}, "OperationFailure: A pipeline stage"),
    ],
)
def test_refusals_begin_with_their_kind(ask, query_type, query, beginning):
    assert message(ask(query_type, query, 400)).startswith(beginning)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "AttributeError: 'list' object has no attribute 'get'"),
        (b'{"query_type": "find"}', "AttributeError: 'NoneType' object has no attribute 'get'"),
        (b'{"query_type": "find", "query": []}', "AttributeError: 'list' object has no attribute 'get'"),
    ],
)
def test_bodies_that_are_no_query(client, body, expected):
    answer = client.post("/api/queries", content=body)
    assert (answer.status_code, message(answer.json())) == (400, expected)


def test_a_deadline_holds_for_the_whole_request(ask):
    pipeline = [{"$match": {"$expr": {"$gt": [{"$size": {"$range": [0, 20_000]}}, 1]}}}]
    answer = ask("aggregate", {"catalog": "ZTF_alerts", "pipeline": pipeline}, 400, max_time_ms=1)
    assert message(answer).startswith("ExecutionTimeout: operation exceeded time limit")


# What large answers cost


def test_large_answers_are_compressed_for_who_asks(client, alerts):
    body = {
        "query_type": "find",
        "query": {"catalog": "ZTF_alerts", "filter": {}, "projection": {"cutoutScience": 0}},
    }
    plain = client.post("/api/queries", json=body, headers={"Accept-Encoding": "identity"})
    packed = client.post("/api/queries", json=body, headers={"Accept-Encoding": "deflate, gzip;q=0.5"})
    refused = client.post("/api/queries", json=body, headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in refused.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
    assert packed.json() == plain.json() == refused.json()
    assert plain.headers["vary"] == "Accept-Encoding"


def test_an_answer_that_would_be_too_large_is_refused_and_never_cut():
    from nuncius.archives.server import Limits

    with SandboxKowalski(alerts=20, limits=Limits(rows=10, answer_bytes=100_000)) as small:
        headers = {"Authorization": small.token}
        for query, kwargs in (({"projection": {"candid": 1}}, {}), ({}, {"limit": 5})):
            body = {
                "query_type": "find",
                "query": {"catalog": "ZTF_alerts", "filter": {}} | query,
                "kwargs": kwargs,
            }
            answer = httpx2.post(f"{small.http_url}/api/queries", json=body, headers=headers)
            assert answer.status_code == 400
            assert "more than 10 documents or 100000 bytes" in answer.json()["message"]
        body["query"]["projection"] = {"candid": 1}
        assert (
            len(httpx2.post(f"{small.http_url}/api/queries", json=body, headers=headers).json()["data"]) == 5
        )


def test_catalogs_that_are_not_opened_do_not_exist():
    with (
        SandboxKowalski(alerts=20, catalogs=["ZTF_alerts"]) as some,
        httpx2.Client(base_url=some.http_url, headers={"Authorization": some.token}) as client,
    ):

        def ask(query_type, query):
            return client.post("/api/queries", json={"query_type": query_type, "query": query})

        assert ask("info", {"command": "catalog_names"}).json()["data"] == ["ZTF_alerts"]
        assert ask("find", {"catalog": "ZTF_alerts_aux", "filter": {}}).json()["data"] == []
        assert ask("info", {"command": "db_info"}).json()["data"]["objects"] == 20
        stage = {"$lookup": {"from": "ZTF_alerts_aux", "localField": "a", "foreignField": "b", "as": "c"}}
        answer = ask("aggregate", {"catalog": "ZTF_alerts", "pipeline": [stage]})
        assert answer.status_code == 403
        assert "'ZTF_alerts_aux' is none of them" in answer.json()["detail"]
