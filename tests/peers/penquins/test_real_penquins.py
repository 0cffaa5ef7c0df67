"""The real penquins 2.4.2 against ``nuncius serve``, and the same calls through ours: the same answers."""

import pytest
from bson import ObjectId

from nuncius.compat.penquins import Kowalski as Ours

pytestmark = pytest.mark.xdist_group("real-penquins")


@pytest.fixture(scope="module")
def theirs_class(archive):
    import penquins

    assert penquins.__version__ == "2.4.2"
    return penquins.Kowalski


@pytest.fixture(scope="module", params=["theirs", "ours"])
def kind(request, theirs_class):
    return theirs_class if request.param == "theirs" else Ours


@pytest.fixture(scope="module")
def clients(served, theirs_class):
    return theirs_class(timeout=30, **served.config()), Ours(timeout=30, **served.config())


@pytest.fixture(scope="module")
def several(serve, served, theirs_class):
    """Three instances: A has everything, B the reference catalog, C the alerts."""
    boxes = {"A": served, "B": serve("Gaia_EDR3"), "C": serve("ZTF_alerts")}
    instances = {name: {"name": name, **box.config()} for name, box in boxes.items()}
    return theirs_class(instances=instances), Ours(instances=instances)


@pytest.fixture(scope="module")
def alerts(clients):
    query = {
        "query_type": "find",
        "query": {
            "catalog": "ZTF_alerts",
            "filter": {},
            "projection": {"candid": 1, "objectId": 1, "candidate.ra": 1, "candidate.dec": 1},
        },
    }
    found = clients[0].query(query=query)["default"]["data"]
    assert len(found) == 60
    return found


def position(alert):
    return [alert["candidate"]["ra"], alert["candidate"]["dec"]]


def cone(radec, **catalogs):
    return {
        "query_type": "cone_search",
        "query": {
            "object_coordinates": {"cone_search_radius": 5, "cone_search_unit": "arcsec", "radec": radec},
            "catalogs": catalogs or {"ZTF_alerts": {"filter": {}, "projection": {"_id": 0, "candid": 1}}},
        },
        "kwargs": {"filter_first": False},
    }


def near(radec, catalog="Gaia_EDR3", limit=3):
    return {
        "query_type": "near",
        "query": {
            "max_distance": 2,
            "distance_units": "arcmin",
            "radec": radec,
            "catalogs": {catalog: {"filter": {}, "projection": {}}},
        },
        "kwargs": {"max_time_ms": 10000, "limit": limit},
    }


def find(condition, catalog="ZTF_alerts", **more):
    return {"query_type": "find", "query": {"catalog": catalog, "filter": condition}, **more}


def right(alerts):
    """Return queries of every type."""
    places = {f"o.{n}": position(alert) for n, alert in enumerate(alerts[:5])}
    ids = [alert["objectId"] for alert in alerts[:4]]
    pipeline = [
        {"$match": {"candidate.rb": {"$gt": 0.3}}},
        {"$group": {"_id": "$candidate.fid", "n": {"$sum": 1}, "best": {"$max": "$candidate.rb"}}},
        {"$sort": {"_id": 1}},
    ]
    yield from (
        find({"candid": alerts[3]["candid"]}),  # a whole alert, with its images
        find({"objectId": {"$in": ids}}, kwargs={"sort": [["candid", -1]], "limit": 3}),
        find({}, kwargs={"skip": 55}),
        find("{'candidate.fid': 2}"),
        find({}, catalog="ZTF_alerts_aux", kwargs={"limit": 2, "sort": [["_id", 1]]}),
        one("find_one", filter={"candid": alerts[0]["candid"]}),
        one("find_one", filter={"candid": 1}),
        one("count_documents", filter={"candidate.fid": 1}),
        one("estimated_document_count"),
        one("aggregate", pipeline=pipeline),
        cone(places),
        cone(list(places.values())),
        cone(" ".join(map(str, position(alerts[0])))),
        cone({}, ZTF_alerts={"filter": {}}, Gaia_EDR3={"filter": {}}),
        near(places),
        {"query_type": "info", "query": {"command": "catalog_names"}},
        one("info", command="catalog_info"),
        one("info", command="index_info"),
    )


def wrong():
    """Return queries that the server refuses."""
    yield from (
        find({"candidate.rb": {"$foo": 1}}),
        one("aggregate", pipeline=[]),
        one("aggregate", pipeline=[{"$out": "x"}]),
        near({"x": [10, 95]}),
        one("info", command="nope"),
        one("bogus"),
        one("drop"),
    )


def one(kind, **asked):
    return {"query_type": kind, "query": {"catalog": "ZTF_alerts", **asked}}


def test_it_talks_to_nuncius_serve(kind, served):
    """Connect, ask, log in again with the token, as its documentation does."""
    with kind(**served.config()) as kowalski:
        assert kowalski.ping()
        token = kowalski.instances["default"]["token"]
        names = kowalski.query(query={"query_type": "info", "query": {"command": "catalog_names"}})
    assert names.get("default").get("data") == ["ZTF_alerts_aux", "ZTF_alerts", "Gaia_EDR3"]
    where = {key: value for key, value in served.config().items() if key not in {"username", "password"}}
    with kind(token=token, **where) as kowalski:
        assert kowalski.ping()
        assert kowalski.get_catalogs() == ["ZTF_alerts_aux", "ZTF_alerts", "Gaia_EDR3"]
        assert kowalski.instance_has_catalog("ZTF_alerts")


def test_both_get_the_same_answers(clients, alerts):
    theirs, ours = clients
    for query in right(alerts):
        expected = theirs.query(query=query)
        assert expected["default"]["status"] == "success", query
        assert ours.query(query=query) == expected, query
    for query in wrong():
        expected = theirs.query(query=query)
        assert expected["default"]["status"] == "error", query
        assert ours.query(query=query) == expected, query


def test_both_read_values_alike(clients, alerts):
    theirs, ours = (client.query(query=find({"candid": alerts[0]["candid"]})) for client in clients)
    (ours,), (theirs,) = ours["default"]["data"], theirs["default"]["data"]
    assert types_of(ours) == types_of(theirs)
    assert isinstance(ours["_id"], ObjectId)
    assert isinstance(ours["cutoutScience"]["stampData"], bytes)


def types_of(value):
    if isinstance(value, dict):
        return {name: types_of(item) for name, item in value.items()}
    return [types_of(item) for item in value] if isinstance(value, list) else type(value)


def test_a_batch(clients, alerts):
    theirs, ours = clients
    asked = [find({"candid": alert["candid"]}) for alert in alerts[:20]]
    options = {"queries": asked, "use_batch_query": True, "max_n_threads": 4}
    expected = theirs.query(**options)["default"]
    answers = ours.query(**options)["default"]
    assert [answer["data"][0]["candid"] for answer in answers] == [alert["candid"] for alert in alerts[:20]]
    # Theirs come as they are finished.
    assert sorted(map(candid_of, answers)) == sorted(map(candid_of, expected))


def candid_of(answer):
    return answer["data"][0]["candid"]


def test_any_address(clients):
    theirs, ours = clients
    for method, endpoint, data in (
        ("get", "/", None),
        ("GET", "", None),
        ("get", "/api/nothing", None),
        ("post", "/api/users", {"username": "x", "password": "y"}),
        ("get", "/api/skymap", {"localization_name": "none", "dateobs": "2026-01-01T00:00:00"}),
        ("get", "api/cutouts/ztf/1/science/fits", None),
        ("get", "api/cutouts/lsst/1/science/fits", {"interval": "zscale"}),
    ):
        assert ours.api(method, endpoint, data) == theirs.api(method, endpoint, data), endpoint


def test_users(kind, served):
    admin = kind(**served.config(admin=True))
    user = {"username": "noone", "password": "nopas!", "email": "user@caltech.edu"}
    assert admin.api(method="post", endpoint="/api/users", data=user)["message"] == "added user noone"
    assert kind(**(served.config() | {"username": "noone", "password": "nopas!"})).ping()
    assert admin.api(method="delete", endpoint="/api/users/noone")["message"] == "removed user noone"


def test_several_instances(several, alerts):
    theirs, ours = several
    assert ours.get_catalogs_all() == theirs.get_catalogs_all()
    radec = {"here": position(alerts[0])}
    selections = {"ZTF_alerts": {"filter": {}}, "Gaia_EDR3": {"filter": {}}}
    for query in (find({"candid": alerts[0]["candid"]}), near(radec), cone(radec, **selections)):
        assert ours.query(query=query) == theirs.query(query=query)
        assert ours.prepare_query(query)[0] == theirs.prepare_query(query)[0]
    asked = [find({"candid": alert["candid"]}) for alert in alerts[:6]] + [cone(radec, **selections)]
    assert ours.prepare_queries(asked) == theirs.prepare_queries(asked)
    named = find({"candid": alerts[0]["candid"]})
    assert ours.query(query=named, name="C") == theirs.query(query=named, name="C")
    expected = theirs.query(queries=asked, use_batch_query=True)
    answers = ours.query(queries=asked, use_batch_query=True)
    assert {name: len(some) for name, some in answers.items()} == {
        name: len(some) for name, some in expected.items()
    }


@pytest.mark.parametrize(
    ("call", "kinds"),
    [
        (lambda k: k.query(), ValueError),
        (lambda k: k.query(query=find({}), queries=[find({})]), ValueError),
        (lambda k: k.query(query=find({}, catalog="nope")), ValueError),
        (lambda k: k.query(query=find({}), name="nobody"), KeyError),
        (lambda k: k.query(queries=[find({})], name="nobody"), ValueError),
        (lambda k: k.api("foo", "/"), ValueError),
        (lambda k: k.remove("nobody"), ValueError),
        (lambda k: k.add("default", {}), ValueError),
        (lambda k: k.add("new", {"host": "127.0.0.1"}), ValueError),
        (lambda k: k.get_catalogs("nobody"), KeyError),
        (lambda k: k.rename("new", "nobody"), KeyError),
    ],
)
def test_both_raise_the_same_kinds(clients, call, kinds):
    theirs, ours = clients
    with pytest.raises(kinds) as expected:
        call(theirs)
    with pytest.raises(kinds) as caught:
        call(ours)
    if isinstance(expected.value, ValueError):
        # What ours says begins with the same words.
        assert str(caught.value).startswith(str(expected.value)[:40])


def test_both_raise_the_same_kinds_for_several(several):
    theirs, ours = several
    no_catalog = {"query_type": "info", "query": {"command": "catalog_names"}}
    for call in (
        lambda k: k.ping(),
        lambda k: k.api("get", "/"),
        lambda k: k.authenticate(),
        lambda k: k.query(query=no_catalog),
        lambda k: k.query(query=find({}, catalog="nope")),
        lambda k: k.query(query=find({}), name="B"),
    ):
        with pytest.raises(ValueError, match=r".") as expected:
            call(theirs)
        with pytest.raises(ValueError, match=r".") as caught:
            call(ours)
        assert str(caught.value).startswith(str(expected.value))
