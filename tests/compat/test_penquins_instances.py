"""Instances: added, removed, renamed, closed; how queries are shared among them; and what happens when one dies."""

import time

import pytest
from penquins_support import (
    CANDIDS,
    OBJECT,
    OTHERS,
    POSITION,
    SOURCES,
    SOURCES_AT,
    cone,
    entry,
    find,
    queries_of,
)

from nuncius import errors
from nuncius.compat.penquins import Kowalski

ALERTS = {"filter": {}, "projection": {"_id": 0, "candid": 1}}
NUMBERS = {"filter": {}, "projection": {"_id": 0, "number": 1}}
NAMES = {"query_type": "info", "query": {"command": "catalog_names"}}


@pytest.fixture
def three(start):
    """A has alerts and sources, B has sources, C has alerts."""
    boxes = {
        "A": start("A", ["ZTF_alerts", SOURCES]),
        "B": start("B", [SOURCES]),
        "C": start("C", ["ZTF_alerts"]),
    }
    kowalski = Kowalski(instances={name: entry(box, name=name) for name, box in boxes.items()})
    for box in boxes.values():
        box.requests.clear()
    return kowalski, boxes


def both_catalogs():
    return cone(
        {"alert": list(POSITION), "source": list(SOURCES_AT)}, ZTF_alerts=ALERTS, **{SOURCES: NUMBERS}
    )


# What an instance is --------------------------------------------------------------------------------------------------


def test_what_is_kept_of_an_instance(box, where):
    kowalski = Kowalski(username=box.username, password=box.password, **where)
    instance = kowalski.instances["default"]
    assert set(instance) == {
        "protocol", "host", "port", "base_url", "session", "methods", "token", "headers", "catalogs", "username",
        "password",
    }  # fmt: skip
    assert (instance["protocol"], instance["host"], instance["port"]) == ("http", box.host, box.port)
    assert instance["base_url"] == box.http_url
    assert (instance["username"], instance["password"]) == (box.username, box.password)
    assert instance["headers"] == {"Authorization": kowalski.token}
    assert instance["catalogs"] == kowalski.get_catalogs()
    assert instance["methods"]["get"]("/")["message"] == "greetings from Kowalski!"
    assert instance.get("nothing") is None
    by_token = Kowalski(token=box.token, **where).instances["default"]
    assert "username" not in by_token
    assert "password" not in by_token


def test_connecting_asks_for_a_token_and_for_the_catalogs(box, where):
    Kowalski(username=box.username, password=box.password, **where)
    assert [(request.method, request.path) for request in box.requests] == [
        ("POST", "/api/auth"),
        ("POST", "/api/queries"),
    ]
    box.requests.clear()
    Kowalski(token=box.token, **where)
    assert [(request.method, request.path) for request in box.requests] == [("POST", "/api/queries")]


def test_add_remove_and_rename(box, start):
    second = start("second")
    kowalski = Kowalski(instances={"A": entry(box)})
    kowalski.add("B", entry(second), timeout=5)
    assert kowalski.multiple_instances
    kowalski.rename("first", "A")
    assert list(kowalski.instances) == ["B", "first"]
    with pytest.raises(ValueError, match="Instance B already exists"):
        kowalski.rename("B", "first")
    with pytest.raises(ValueError, match="Instance B already exists"):
        kowalski.add("B", entry(second))
    with pytest.raises(KeyError):
        kowalski.rename("new", "A")
    kowalski.remove("first")
    assert not kowalski.multiple_instances
    assert kowalski.ping()
    assert list(kowalski.query(query=NAMES)) == ["B"]
    with pytest.raises(ValueError, match="Instance first does not exist"):
        kowalski.remove("first")
    kowalski.remove("B")
    with pytest.raises(ValueError, match="no instance"):
        kowalski.query(query=find())


def test_no_instance_at_first(box):
    kowalski = Kowalski(instances={})
    assert kowalski.close_all() == {}
    kowalski.add("A", entry(box))
    assert kowalski.query(query=find(candid=CANDIDS[0]))["A"]["data"] == [{"candid": CANDIDS[0]}]


def test_duplicates_are_those_of_the_same_login(box, kowalski):
    token = kowalski.token
    with pytest.raises(ValueError, match="Instance again seems to be a duplicate of default"):
        kowalski.add("again", entry(box, token=token))
    kowalski.add("admin", entry(box, token=box.admin_token))
    assert list(kowalski.instances) == ["default", "admin"]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (5, "settings are a mapping"),
        ({"host": "127.0.0.1"}, "Missing credentials for B"),
        ({"token": " "}, "token="),
        ({"username": "x", "password": 5}, "credentials="),
        ({"token": "x", "protocol": "ftp"}, "no address"),
        ({"token": "x", "host": "user:secret@host"}, "host is the name of a machine"),
        ({"token": "x", "host": ":::"}, "host is the name of a machine"),
        ({"token": "x", "port": "https"}, "no URL"),
        ({"token": "x", "timeout": -1}, "timeout="),
    ],
)
def test_settings_that_can_not_be_meant(kowalski, config, reason):
    with pytest.raises(ValueError, match=f"Failed to add instance B: .*({reason})") as caught:
        kowalski.add("B", config)
    assert isinstance(caught.value, errors.ConfigurationError)
    assert list(kowalski.instances) == ["default"]


def test_instances_that_are_no_mapping():
    with pytest.raises(ValueError, match="mapping of names"):
        Kowalski(instances=[{"host": "127.0.0.1"}])


def test_an_instance_that_is_down_at_first_is_an_error(box):
    dead = {"protocol": "http", "host": "127.0.0.1", "port": 1, "token": "any"}
    with pytest.raises(ValueError, match="Failed to add instance dead: nobody answers"):
        Kowalski(instances={"A": entry(box), "dead": dead})


def test_what_answers_is_no_kowalski(box, where):
    box.answer(body=b"<html>", content_type="text/html")
    with pytest.raises(errors.ServerError, match="Failed to add instance default") as caught:
        Kowalski(token=box.token, **where)
    assert isinstance(caught.value, ValueError)
    box.answer(body=b'{"status": "success", "data": "hello"}')
    with pytest.raises(ValueError, match="is it a Kowalski server"):
        Kowalski(token=box.token, **where)


def test_close(kowalski, box):
    with kowalski as same:
        assert same is kowalski
        session = kowalski.instances["default"]["session"]
        kowalski.ping()
        assert session._client is not None
    assert session._client is None
    assert kowalski.close() is True
    assert kowalski.close_all() == {"default": True}
    assert kowalski.ping()  # connections come back when they are needed
    with pytest.raises(KeyError):
        kowalski.close("nobody")


def test_names_are_needed_where_there_are_several(three):
    kowalski, _ = three
    calls = (
        kowalski.ping,
        kowalski.get_catalogs,
        kowalski.authenticate,
        kowalski.close,
        lambda: kowalski.api("get", "/"),
        lambda: kowalski.instance_has_catalog("ZTF_alerts"),
        lambda: kowalski.rename("new"),
    )
    for call in calls:
        with pytest.raises(ValueError, match="Please specify instance name when using multiple instances"):
            call()
    assert kowalski.ping("A")
    assert not kowalski.ping("nobody")
    assert kowalski.api("get", "/", name="B")["status"] == "success"
    assert kowalski.get_catalogs("A") == [SOURCES, "ZTF_alerts"]
    assert kowalski.get_catalogs_all() == {"A": [SOURCES, "ZTF_alerts"], "B": [SOURCES], "C": ["ZTF_alerts"]}
    assert kowalski.instance_has_catalog("ZTF_alerts", name="C")
    assert not kowalski.instance_has_catalog("ZTF_alerts", name="B")


# How queries are shared -----------------------------------------------------------------------------------------------


def test_prepare_query(three):
    kowalski, _ = three
    query = find(objectId=OBJECT)
    assert kowalski.prepare_query(query) == ({"A": query, "B": None, "C": None}, {"A": 1, "B": 0, "C": 0})
    divided, load = kowalski.prepare_query(query, instances_load={"A": 3, "B": 1, "C": 1})
    assert divided == {"A": None, "B": None, "C": query}
    assert load == {"A": 3, "B": 1, "C": 2}
    divided, _ = kowalski.prepare_query(both_catalogs())
    assert {name: list(part["query"]["catalogs"]) for name, part in divided.items() if part} == {
        "A": ["ZTF_alerts"],
        "B": [SOURCES],
    }
    divided, _ = kowalski.prepare_query(both_catalogs(), name="A")
    assert divided == {"A": both_catalogs(), "B": None, "C": None}


def test_prepare_queries(three):
    kowalski, _ = three
    alerts, sources = find(), {"query_type": "find", "query": {"catalog": SOURCES, "filter": {}}}
    assert kowalski.prepare_queries([alerts, sources, alerts]) == {
        "A": [alerts],
        "B": [sources],
        "C": [alerts],
    }
    assert kowalski.prepare_queries([alerts, alerts], name="A") == {"A": [alerts, alerts]}
    assert kowalski.prepare_queries([]) == {"A": [], "B": [], "C": []}
    with pytest.raises(ValueError, match=r"Instance D not found in the list of instances: \['A', 'B', 'C'\]"):
        kowalski.prepare_queries([alerts], name="D")


def test_a_join_is_asked_where_both_catalogs_are(three):
    kowalski, _ = three
    kowalski.rename("A", "A")  # the last, so that it is not chosen for its place
    lookup = {"from": SOURCES, "localField": "a", "foreignField": "b", "as": "c"}
    pipeline = [{"$limit": 1}, {"$facet": {"x": [{"$lookup": lookup}]}}]
    query = {"query_type": "aggregate", "query": {"catalog": "ZTF_alerts", "pipeline": pipeline}}
    assert list(kowalski.query(query=query)) == ["A"]


def test_catalogs_are_divided(three):
    kowalski, boxes = three
    response = kowalski.query(query=both_catalogs())
    assert list(response) == ["A", "B"]
    assert len(response["A"]["data"]["ZTF_alerts"]["alert"]) == 5
    assert len(response["B"]["data"][SOURCES]["source"]) == 10
    assert response.get("data") is None  # there are two
    assert [queries_of(box) for box in boxes.values()] == [["cone_search"], ["cone_search"], []]


def test_a_batch_names_all_instances(three):
    kowalski, _ = three
    sources = {"query_type": "count_documents", "query": {"catalog": SOURCES, "filter": {}}}
    found = kowalski.query(queries=[sources], use_batch_query=True)
    assert found == {
        "A": [{"status": "success", "message": "Successfully executed query", "data": 10}],
        "B": [],
        "C": [],
    }
    assert kowalski.query(queries=[sources]) == {"A": found["A"]}
    assert kowalski.query(queries=[], use_batch_query=True) == {"A": [], "B": [], "C": []}
    assert kowalski.query(queries=[]) == {}
    assert kowalski.query(queries=[sources], use_batch_query=True, name="B") == {"B": found["A"]}


def test_single_query_and_batch_query(three):
    kowalski, _ = three
    assert list(kowalski.single_query((find(), "C"))) == ["C"]
    found = kowalski.batch_query({"A": [find(), find()], "C": [find()], "B": []}, n_threads=2)
    assert [list(one) for one in found] == [["A"], ["A"], ["C"]]
    with pytest.raises(KeyError):
        kowalski.single_query((find(), "nobody"))


@pytest.mark.parametrize(
    ("query", "name", "message"),
    [
        (find(), "D", "Instance D not found"),
        (find(), "B", "not available in the specified instance"),
        (
            {"query_type": "find", "query": {"catalog": "nope"}},
            None,
            "Catalog nope is not available in any instance",
        ),
        (cone({}, nope={}), None, "Catalog nope is not available in any instance"),
        (
            cone({}, nope={}),
            "A",
            "One or more catalogs specified in the query are not available in the specified",
        ),
        (NAMES, None, "For catalog-less queries, please specify instance name if using multiple instances"),
        (5, None, "a query is a mapping"),
        ({"query_type": "find"}, None, "a query is a mapping"),
        ({**find(), "kwargs": [1]}, None, "kwargs is a mapping"),
    ],
)
def test_what_can_not_be_asked(three, query, name, message):
    kowalski, boxes = three
    with pytest.raises(ValueError, match=message):
        kowalski.query(query=query, name=name)
    with pytest.raises(ValueError, match=message):
        kowalski.query(queries=[find(), query], name=name, use_batch_query=True)
    assert {kind for box in boxes.values() for kind in queries_of(box)} <= {"info"}


def test_one_of_query_and_queries(kowalski):
    with pytest.raises(ValueError, match=r"^Please specify query or queries$"):
        kowalski.query()
    with pytest.raises(ValueError, match=r"^Please specify either query or queries, not both$"):
        kowalski.query(query=find(), queries=[find()])
    for call, message in (
        (("foo", "/"), "Unsupported method: foo"),
        (("get", None), "endpoint="),
        (("get", "/", ["x"]), "data is a mapping"),
    ):
        with pytest.raises(ValueError, match=message):
            kowalski.api(*call)
    with pytest.raises(
        ValueError, match="One or more catalogs specified in the query are not available in the inst"
    ):
        kowalski.query(query=cone({}, nope={}))


def test_an_unknown_instance_is_a_key_error_too(kowalski):
    with pytest.raises(KeyError, match="Instance D not found"):
        kowalski.query(query=find(), name="D")


def test_a_catalog_that_came_later_is_found(kowalski):
    kowalski.instances["default"].catalogs = []
    assert kowalski.query(query=find(candid=CANDIDS[0]))["data"] == [{"candid": CANDIDS[0]}]


# When one fails -------------------------------------------------------------------------------------------------------


def test_what_a_dead_instance_was_asked_another_answers(three):
    kowalski, boxes = three
    boxes["A"].kill()
    response = kowalski.query(query=find(objectId=OBJECT))
    assert list(response) == ["C"]
    assert len(response["data"]) == 5
    begin = time.monotonic()
    assert list(kowalski.query(query=find())) == ["C"]  # and is not asked first again
    assert time.monotonic() - begin < 1


def test_the_parts_of_a_dead_instance_are_divided(three):
    kowalski, boxes = three
    boxes["B"].kill()
    response = kowalski.query(query=both_catalogs())
    assert list(response) == ["A"]
    assert len(response["data"]["ZTF_alerts"]["alert"]) == 5
    assert len(response["data"][SOURCES]["source"]) == 10


def test_a_batch_survives_a_dead_instance(three):
    kowalski, boxes = three
    boxes["C"].kill()
    queries = [find(candid=candid) for candid in CANDIDS]
    found = kowalski.query(queries=queries, use_batch_query=True)
    assert [answer["data"][0]["candid"] for answer in found["A"]] == CANDIDS
    assert (found["B"], found["C"]) == ([], [])


def test_a_dead_instance_is_waited_for_once(three, monkeypatch):
    monkeypatch.setattr("nuncius._core.retry._FIRST_WAIT_S", 0.3)
    kowalski, boxes = three
    boxes["C"].kill()
    begin = time.monotonic()
    found = kowalski.query(queries=[find(candid=CANDIDS[0])] * 20)
    assert [answer.index for answer in found["A"]] == list(range(20))
    assert time.monotonic() - begin < 8


def test_failures_of_the_server_are_made_good_elsewhere(three):
    kowalski, boxes = three
    boxes["A"].fail(status=500, times=1)
    assert list(kowalski.query(query=find(objectId=OBJECT))) == ["C"]


def test_a_named_instance_is_not_replaced(three):
    kowalski, boxes = three
    boxes["A"].fail(status=500, times=1)
    with pytest.raises(errors.ServerError, match="500"):
        kowalski.query(query=find(), name="A")
    assert queries_of(boxes["C"]) == []


def test_what_deletes_is_never_asked_elsewhere(three):
    kowalski, boxes = three
    boxes["A"].fail(status=500, times=1)
    with pytest.raises(errors.ServerError, match="500"):
        kowalski.query(query={"query_type": "drop", "query": {"catalog": "ZTF_alerts"}})
    assert queries_of(boxes["C"]) == []


def test_a_part_that_nobody_can_answer_is_not_silently_missing(start):
    boxes = {"A": start("A", ["ZTF_alerts"]), "B": start("B", [SOURCES])}
    kowalski = Kowalski(instances={name: entry(box) for name, box in boxes.items()})
    boxes["B"].kill()
    with pytest.raises(errors.PartialResultError, match="that of B") as caught:
        kowalski.query(query=both_catalogs())
    result = caught.value.result
    assert len(result["A"]["data"]["ZTF_alerts"]["alert"]) == 5
    assert result["B"]["status"] == "error"
    assert isinstance(result["B"].error, errors.UnreachableError)
    boxes["A"].kill()
    with pytest.raises(ConnectionError):
        kowalski.query(query=both_catalogs())


def test_a_batch_on_a_dead_instance_says_which(start):
    only = start("only")
    kowalski = Kowalski(instances={"A": entry(only)})
    only.kill()
    answers = kowalski.query(queries=[find()] * 2, use_batch_query=True)["A"]
    assert [answer["status"] for answer in answers] == ["error", "error"]
    assert all(isinstance(answer.error, errors.UnreachableError) for answer in answers)
    assert not kowalski.ping()


def test_the_least_loaded_holder_is_asked(three):
    kowalski, _ = three
    found = kowalski.query(queries=[find()] * 6, use_batch_query=True, max_n_threads=3)
    assert {name: len(answers) for name, answers in found.items()} == {"A": 3, "B": 0, "C": 3}
    assert sum(len(answer["data"]) for answer in found["A"]) == 3 * (OTHERS + 5)
