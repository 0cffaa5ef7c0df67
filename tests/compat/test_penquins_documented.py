"""Each example of penquins' documentation, with another import line, against a real server.

What the documentation leaves open (<host>, <username> ...) is filled in; the missing comma of its table of instances is
put where it belongs.
"""

from penquins_support import CANDIDS, OBJECT, OTHERS

from nuncius.compat.penquins import Kowalski


def by_name(username, password, protocol, host, port):
    return Kowalski(username=username, password=password, protocol=protocol, host=host, port=port)


def test_connect_and_reuse_the_token(box, capfd):
    username = box.username
    password = box.password

    protocol, host, port = "http", box.host, box.port

    kowalski = Kowalski(username=username, password=password, protocol=protocol, host=host, port=port)

    token = kowalski.token
    print(token)

    kowalski = Kowalski(token=token, protocol=protocol, host=host, port=port)

    assert kowalski.ping()
    assert kowalski.token == token
    assert capfd.readouterr() == (token + "\n", "")


def test_connect_to_several_instances(box, start):
    other = start("other")
    instances = {
        "kowalski": {
            "name": "kowalski",
            "host": box.host,
            "protocol": "http",
            "port": box.port,
            "token": box.token,  # or username and password
        },
        "other": {
            "name": "other",
            "host": other.host,
            "protocol": "http",
            "port": other.port,
            "username": other.username,
            "password": other.password,
        },
    }

    kowalski = Kowalski(instances=instances)

    assert kowalski.multiple_instances
    assert kowalski.ping("kowalski")
    assert kowalski.ping(name="other")


def test_catalog_names(kowalski):
    query = {
        "query_type": "info",
        "query": {
            "command": "catalog_names",
        },
    }

    response = kowalski.query(query=query)
    data = response.get("default").get("data")

    assert data == ["ZTF_sources_20210401", "ZTF_alerts_aux", "ZTF_alerts", "Gaia_EDR3"]


def test_near(kowalski):
    query = {
        "query_type": "near",
        "query": {
            "max_distance": 2,
            "distance_units": "arcsec",
            "radec": {"query_coords": [281.15902595, -4.4160933]},
            "catalogs": {
                "ZTF_sources_20210401": {
                    "filter": {},
                    "projection": {"_id": 1},
                }
            },
        },
        "kwargs": {
            "max_time_ms": 10000,
            "limit": 7,
        },
    }

    response = kowalski.query(query=query)
    data = response.get("default").get("data")

    nearest = data["ZTF_sources_20210401"]["query_coords"]
    everything = {"query_type": "find", "query": {"catalog": "ZTF_sources_20210401", "filter": {}}}
    numbers = {source["_id"]: source["number"] for source in kowalski.query(query=everything)["data"]}
    assert [numbers[source["_id"]] for source in nearest] == [1, 2, 3, 4, 5, 6, 7]


def test_cone_search(kowalski):
    query = {
        "query_type": "cone_search",
        "query": {
            "object_coordinates": {
                "cone_search_radius": 2,
                "cone_search_unit": "arcsec",
                "radec": {"ZTF20acfkzcg": [115.7697847, 50.2887778]},
            },
            "catalogs": {"ZTF_alerts": {"filter": {}, "projection": {"_id": 0, "candid": 1, "objectId": 1}}},
        },
        "kwargs": {"filter_first": False},
    }

    response = kowalski.query(query=query)
    data = response.get("default").get("data")

    found = data["ZTF_alerts"]["ZTF20acfkzcg"]
    assert sorted(alert["candid"] for alert in found) == CANDIDS
    assert {alert["objectId"] for alert in found} == {OBJECT}


def test_find_then_a_batch(kowalski):
    q = {
        "query_type": "find",
        "query": {
            "catalog": "ZTF_alerts",
            "filter": {"objectId": "ZTF20acfkzcg"},
            "projection": {"_id": 0, "candid": 1},
        },
    }

    response = kowalski.query(query=q)
    data = response.get("default").get("data")

    assert sorted(alert["candid"] for alert in data) == CANDIDS
    k = kowalski

    queries = [
        {
            "query_type": "find",
            "query": {
                "catalog": "ZTF_alerts",
                "filter": {"candid": alert["candid"]},
                "projection": {"_id": 0, "candid": 1},
            },
        }
        for alert in data
    ]

    responses = k.query(queries=queries, use_batch_query=True, max_n_threads=4)

    assert [answer["data"] for answer in responses["default"]] == [[alert] for alert in data]


def test_no_instance_name(box, start):
    second = start("second")
    kowalski = two(box, second)
    q = {
        "query_type": "find",
        "query": {
            "catalog": "ZTF_alerts",
            "filter": {"objectId": "ZTF20acfkzcg"},
            "projection": {"_id": 0, "candid": 1},
        },
    }
    response = kowalski.query(query=q)
    data = response.get("first").get("data")  # retrieving data from one instance
    assert sorted(alert["candid"] for alert in data) == CANDIDS

    # OR

    data = []  # or {} depending on the query's expected result, differs by query type
    for instance, instance_results in response.items():  # noqa: B007 - as documented
        for result in instance_results:
            data.append(result.get("data"))

    assert [sorted(alert["candid"] for alert in part) for part in data] == [CANDIDS]


def test_the_merging_loop_on_a_batch(box, start):
    kowalski = two(box, start("second"))
    queries = [
        {"query_type": "count_documents", "query": {"catalog": "ZTF_alerts", "filter": condition}}
        for condition in ({}, {"objectId": "ZTF20acfkzcg"}, {"objectId": "none"})
    ]
    response = kowalski.query(queries=queries, use_batch_query=True)

    data = []
    for instance, instance_results in response.items():  # noqa: B007 - as documented
        for result in instance_results:
            data.append(result.get("data"))

    assert sorted(data) == [0, len(CANDIDS), OTHERS + len(CANDIDS)]


def test_instance_name(box, start):
    kowalski = two(box, start("second"))
    box.requests.clear()
    q = {
        "query_type": "find",
        "query": {
            "catalog": "ZTF_alerts",
            "filter": {"objectId": "ZTF20acfkzcg"},
            "projection": {"_id": 0, "candid": 1},
        },
    }
    response = kowalski.query(query=q, name="second")
    data = response.get("second").get("data")  # retrieving data from one instance

    assert sorted(alert["candid"] for alert in data) == CANDIDS
    assert response.get("first") is None
    assert box.requests == []


def test_users(box):
    kowalski = by_name(box.admin_username, box.admin_password, "http", box.host, box.port)
    username = "noone"
    password = "nopas!"
    email = "user@caltech.edu"

    request = {"username": username, "password": password, "email": email}

    response = kowalski.api(method="post", endpoint="/api/users", data=request)

    assert response == {"status": "success", "message": "added user noone"}
    assert by_name(username, password, "http", box.host, box.port).ping()

    response = kowalski.api(method="delete", endpoint=f"/api/users/{username}")

    assert response == {"status": "success", "message": "removed user noone"}


def two(first, second):
    return Kowalski(
        instances={
            name: {"name": name, "host": box.host, "protocol": "http", "port": box.port, "token": box.token}
            for name, box in (("first", first), ("second", second))
        }
    )
