"""The same questions to the real dserver and to the sandbox's: queries, pipelines and graphs of dependencies."""

import pytest
from dserver_support import (
    BULK,
    CLOSED,
    DATA,
    FILES,
    MANY,
    NIGHT,
    ODD,
    SEEN,
    by_uri,
    invalid,
    order,
    page,
    refusal,
    uuid_of,
)

pytestmark = pytest.mark.xdist_group("dserver-peer")

DERIVED = "readme.derived_from.uuid"


def known(server, keys):
    return by_uri(DATA[key].queried(server.uris[key]) for key in keys)


# Queries ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        ({}, SEEN),
        ({"query": {}}, SEEN),
        ({"query": {"name": "nova_2020"}}, ["nova"]),
        ({"query": {"name": {"$regex": "^nova_"}}}, ["nova"]),
        ({"query": {"name": {"$regex": "NOVA", "$options": "i"}}}, ["nova"]),
        ({"query": {"readme.owners.name": {"$regex": "^Carol Herschel$"}}}, ["nova"]),
        ({"query": {"readme.owners.0.username": "carol"}}, ["nova"]),
        ({"query": {"readme.observed": "2020-11-08"}}, ["nova"]),
        ({"query": {"readme.level": 0}}, ["raw"]),
        ({"query": {"readme.derived_from.uuid": uuid_of(4)}}, ["reduced", "arrived"]),
        ({"query": {"annotations.visits": {"$gte": 2}}}, ["nova", "arrived"]),
        ({"query": {"annotations.visits": "3"}}, []),
        ({"query": {"annotations.nested.a": 2}}, ["nova"]),
        ({"query": {"tags": "nova"}}, ["nova", "words"]),
        ({"query": {"tags": {"$all": ["nova", "southern"]}}}, ["nova"]),
        ({"query": {"base_uri": NIGHT, "creator_username": "dave"}}, ["empty"]),
        ({"query": {"base_uri": CLOSED}}, []),
        ({"query": {"$or": [{"base_uri": ODD}, {"base_uri": FILES}]}}, ["odd", "other twin", "file"]),
        ({"query": {"number_of_items": {"$gt": 100}}}, ["wide"]),
        ({"query": {"size_in_bytes": 13}}, ["raw"]),
        ({"query": {"uuid": uuid_of(7)}}, ["twin", "other twin"]),
        ({"query": {"uuid": uuid_of(8)}}, []),
        ({"query": {"uuid": {"$in": [uuid_of(1), uuid_of(8)]}}}, ["nova"]),
        ({"query": {"frozen_at": {"$gt": 1}}}, []),
        ({"query": {"no.such.field": {"$exists": True}}}, []),
        ({"uuids": [uuid_of(8)]}, ["arrived"]),
        ({"uuids": [uuid_of(1)]}, []),
        ({"tags": ["nova", "southern"]}, ["nova"]),
        ({"tags": [], "creator_usernames": []}, SEEN),
        ({"creator_usernames": ["dave", "erin"]}, ["empty"]),
        ({"base_uris": [ODD, CLOSED]}, ["odd", "other twin"]),
        ({"base_uris": [ODD], "query": {"name": "nova_2020"}}, []),
        ({"tags": ["nova"], "query": {"name": {"$regex": "yaml"}}}, ["words"]),
        ({"aggregation": [], "query": {"name": "nova_2020"}}, ["nova"]),
    ],
)
def test_queries(server, ask, body, keys):
    answer = ask("POST", "/mongo/query?page_size=100", json=body)
    assert answer.status_code == 200
    assert by_uri(answer.json()) == known(server, keys)
    assert page(answer)["total"] == len(keys)
    assert order(answer) is None


def test_pages_of_a_query(ask):
    seen = []
    for number in range(1, 5):
        answer = ask(
            "POST", f"/mongo/query?page_size=90&page={number}", "walker", json={"query": {"base_uri": BULK}}
        )
        assert page(answer)["total"] == MANY
        assert page(answer)["page"] == number
        assert page(answer).get("next_page") == (number + 1 if number < 4 else None)
        seen += [row["uri"] for row in answer.json()]
    assert len(set(seen)) == len(seen) == MANY
    past = ask("POST", "/mongo/query?page=5&page_size=90", "walker", json={})
    assert (past.status_code, past.json()) == (200, [])
    assert page(past) == {"total": MANY, "total_pages": 4, "first_page": 1, "last_page": 4}
    sorted_or_not = [
        ask("POST", f"/mongo/query{sort}", "walker", json={}).json() for sort in ("", "?sort=-name")
    ]
    assert sorted_or_not[0] == sorted_or_not[1]


def test_nothing_queried_and_nobody_asking(ask):
    for answer in (
        ask("POST", "/mongo/query", json={"query": {"name": "no such name"}}),
        ask("POST", "/mongo/query", json={"base_uris": []}),
        ask("POST", "/mongo/query", "nobody", json={}),
    ):
        assert (answer.status_code, answer.json()) == (200, [])
        assert page(answer) == {"total": 0, "total_pages": 0}


@pytest.mark.parametrize(
    "query",
    [
        {"$bad": 1},
        {"name": {"$bad": 1}},
        {"name": {"$regex": "("}},
        {"$and": {}},
        {"$or": []},
        {"name": {"$in": "x"}},
    ],
)
def test_operators_that_mean_nothing(ask, query):
    answer = ask("POST", "/mongo/query", json={"query": query})
    assert (answer.status_code, answer.json()) == (500, refusal(500))


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ({"query": 1}, {"query": ["Not a valid mapping type."]}),
        ({"query": "{}"}, {"query": ["Not a valid mapping type."]}),
        ({"query": []}, {"query": ["Not a valid mapping type."]}),
        ({"query": None}, {"query": ["Field may not be null."]}),
        ({"free_text": "nova"}, {"free_text": ["Unknown field."]}),
        ({"sort": ["name"]}, {"sort": ["Unknown field."]}),
        ({"uuids": ["x"]}, {"uuids": {"0": ["Not a valid UUID."]}}),
        ({"uuids": uuid_of(1)}, {"uuids": ["Not a valid list."]}),
        ({"aggregation": {}}, {"aggregation": ["Not a valid list."]}),
        ({"aggregation": [1]}, {"aggregation": {"0": ["Not a valid mapping type."]}}),
    ],
)
@pytest.mark.parametrize("path", ["/mongo/query", "/mongo/aggregate"])
def test_queries_that_are_none(ask, path, body, messages):
    answer = ask("POST", path, json=body)
    assert (answer.status_code, answer.json()) == (422, invalid("json", **messages))


def test_queries_turned_off(ask, switched):
    switched(allow_direct_query=False)
    answer = ask("POST", "/mongo/query", json={"query": {}})
    assert (answer.status_code, answer.json()) == (404, refusal(404))


# Pipelines --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["observer", "nobody", "unknown"])
def test_pipelines_are_off_at_first(ask, who):
    answer = ask("POST", "/mongo/aggregate", who, json={"aggregation": []})
    assert (answer.status_code, answer.json()) == (404, refusal(404))


def test_a_pipeline_gives_whole_documents(server, ask, switched):
    switched(allow_aggregation=True)
    answer = ask("POST", "/mongo/aggregate", json={"aggregation": [{"$match": {"name": "nova_2020"}}]})
    (document,) = answer.json()
    nova = DATA["nova"]
    assert document.pop("manifest")["items"].keys() == nova.items_by_id.keys()
    assert document.pop("readme")["owners"] == [{"name": "Carol Herschel", "username": "carol"}]
    assert document.pop("annotations") == nova.annotations
    assert document == nova.queried(server.uris["nova"])
    assert page(answer)["total"] == 1
    assert order(answer) is None


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (
            [{"$match": {"tags": "nova"}}, {"$project": {"name": 1}}],
            [{"name": "no_yaml"}, {"name": "nova_2020"}],
        ),
        ([{"$group": {"_id": "$creator_username", "n": {"$sum": 1}}}], [{"n": 1}, {"n": len(SEEN) - 1}]),
        (
            [{"$group": {"_id": None, "bytes": {"$max": "$size_in_bytes"}}}],
            [{"bytes": sum(len(str(number)) for number in range(200))}],
        ),
        (
            [{"$match": {"name": "nova_2020"}}, {"$project": {"frozen_at": 1}}],
            [{"frozen_at": 1604921621.719}],
        ),
        ([{"$match": {"uuid": uuid_of(7)}}, {"$count": "n"}], [{"n": 2}]),
        ([{"$match": {"base_uri": CLOSED}}], []),
    ],
)
def test_pipelines(ask, switched, stages, expected):
    switched(allow_aggregation=True)
    answer = ask("POST", "/mongo/aggregate", json={"aggregation": stages})
    assert answer.status_code == 200
    assert sorted(answer.json(), key=str) == sorted(expected, key=str)


def test_pages_of_a_pipeline(ask, switched):
    switched(allow_aggregation=True)
    stages = [{"$match": {"base_uri": BULK}}, {"$sort": {"uri": 1}}, {"$project": {"uuid": 1}}]
    found = []
    for number in (1, 2, 3):
        answer = ask(
            "POST", f"/mongo/aggregate?page_size=100&page={number}", "walker", json={"aggregation": stages}
        )
        assert page(answer)["total_pages"] == 3
        found += answer.json()
    assert found == [{"uuid": uuid_of(1000 + number)} for number in range(MANY)]
    assert len(ask("POST", "/mongo/aggregate", "walker", json={}).json()) == 10
    nobody = ask("POST", "/mongo/aggregate", "nobody", json={})
    assert (nobody.json(), page(nobody)) == ([], {"total": 0, "total_pages": 0})


@pytest.mark.parametrize("stage", [{"$nope": 1}, {"$match": {"$bad": 1}}, {"$group": {"n": 1}}])
def test_stages_that_mean_nothing(ask, switched, stage):
    switched(allow_aggregation=True)
    answer = ask("POST", "/mongo/aggregate", json={"aggregation": [stage]})
    assert (answer.status_code, answer.json()) == (500, refusal(500))


# Graphs -----------------------------------------------------------------------------------------------------------------


def edges(answer):
    return {row["uuid"]: row["derived_from"] for row in answer.json()}


@pytest.mark.parametrize("key", ["raw", "reduced", "stacked"])
def test_a_chain_from_each_of_its_links(server, ask, key):
    answer = ask("GET", f"/graph/uuids/{DATA[key].uuid}")
    assert edges(answer) == {uuid_of(4): [], uuid_of(5): [uuid_of(4)], uuid_of(6): [uuid_of(5)]}
    rows = {row["uuid"]: {name: row[name] for name in row if name != "derived_from"} for row in answer.json()}
    expected = {
        DATA[each].uuid: DATA[each].queried(server.uris[each]) for each in ("raw", "reduced", "stacked")
    }
    assert rows == expected
    assert [row["uuid"] for row in answer.json()] == sorted(rows)
    assert page(answer) == {"total": 3, "total_pages": 1, "first_page": 1, "last_page": 1, "page": 1}
    assert order(answer) is None


def test_a_graph_by_other_keys(ask):
    def asked(keys):
        return edges(ask("POST", f"/graph/uuids/{uuid_of(5)}", json={"dependency_keys": keys}))

    assert asked([DERIVED]) == {uuid_of(4): [], uuid_of(5): [uuid_of(4)]}
    assert asked(["annotations.source_dataset_uuid"]) == {uuid_of(5): [], uuid_of(6): [uuid_of(5)]}
    assert set(asked([DERIVED, "annotations.source_dataset_uuid"])) == {uuid_of(4), uuid_of(5), uuid_of(6)}
    assert asked(["no.such.key"]) == {uuid_of(5): []}


def test_other_keys_turned_off(ask, switched):
    switched(dynamic_dependency_keys=False)
    answer = ask("POST", f"/graph/uuids/{uuid_of(5)}", json={"dependency_keys": ["no.such.key"]})
    assert set(edges(answer)) == {uuid_of(4), uuid_of(5), uuid_of(6)}


@pytest.mark.parametrize("uuid", ["foo", uuid_of(999), DATA["arrived"].uuid, DATA["closed"].uuid])
def test_a_graph_of_what_it_does_not_find_is_a_row_of_nothing(ask, uuid):
    answer = ask("GET", f"/graph/uuids/{uuid}")
    assert answer.json() == [{"derived_from": [], "uuid": None}]
    assert page(answer)["total"] == 1


def test_a_graph_of_one(server, ask):
    answer = ask("GET", f"/graph/uuids/{uuid_of(1)}")
    assert answer.json() == [DATA["nova"].queried(server.uris["nova"]) | {"derived_from": []}]


def test_a_graph_of_twins_has_one_of_them(server, ask):
    (row,) = ask("GET", f"/graph/uuids/{uuid_of(7)}").json()
    assert row["uuid"] == uuid_of(7)
    assert row["uri"] in {server.uris["twin"], server.uris["other twin"]}


def test_pages_of_a_graph(ask):
    answer = ask("GET", f"/graph/uuids/{uuid_of(5)}?page_size=1&page=2&sort=nonsense")
    assert list(edges(answer)) == [uuid_of(5)]
    assert page(answer) == {
        "total": 3, "total_pages": 3, "first_page": 1, "last_page": 3, "page": 2, "previous_page": 1, "next_page": 3,
    }  # fmt: skip
    past = ask("GET", f"/graph/uuids/{uuid_of(5)}?page=2")
    assert (past.status_code, past.json()) == (200, [])
    assert page(past) == {"total": 3, "total_pages": 1, "first_page": 1, "last_page": 1}


def test_a_graph_for_nobody(ask):
    answer = ask("GET", f"/graph/uuids/{uuid_of(5)}", "nobody")
    assert (answer.json(), page(answer)) == ([], {"total": 0, "total_pages": 0})


@pytest.mark.parametrize(
    "body", [{}, {"dependency_keys": []}, {"dependency_keys": ["$x"]}, {"dependency_keys": ["a", "a"]}]
)
def test_keys_that_the_server_stumbles_over(ask, body):
    answer = ask("POST", f"/graph/uuids/{uuid_of(5)}", json=body)
    assert (answer.status_code, answer.json()) == (500, refusal(500))


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ([], {"_schema": ["Invalid input type."]}),
        ({"dependency_keys": "a.b"}, {"dependency_keys": ["Not a valid list."]}),
        ({"dependency_keys": [1]}, {"dependency_keys": {"0": ["Not a valid string."]}}),
        ({"keys": ["a"]}, {"keys": ["Unknown field."]}),
    ],
)
def test_keys_that_are_none(ask, body, messages):
    answer = ask("POST", f"/graph/uuids/{uuid_of(5)}", json=body)
    assert (answer.status_code, answer.json()) == (422, invalid("json", **messages))


# Without plugins --------------------------------------------------------------------------------------------------------


def test_without_its_plugins(bare_server):
    from dserver_support import Questions

    ask = Questions(bare_server)
    try:
        versions = ask("GET", "/config/versions", None).json()["versions"]
        assert set(versions) == {
            "dservercore",
            "dserver_search_plugin_mongo",
            "dserver_retrieve_plugin_mongo",
        }
        for path in ("/mongo/query", "/mongo/aggregate", f"/graph/uuids/{uuid_of(1)}", "/webhook/notify"):
            answer = ask("POST", path, "admin", json={})
            assert (answer.status_code, answer.json()) == (404, refusal(404))
        config = ask("GET", "/config/info", "admin").json()["config"]
        assert not {"allow_direct_query", "enable_dependency_view", "bucket_to_base_uri"} & set(config)
        assert ask("GET", "/uris", "admin").status_code == 200
    finally:
        ask.close()
