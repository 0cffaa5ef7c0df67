"""What a search asks of a dserver, and how its answers are sorted here."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from nuncius.datasets import DataSet, DataSets, questions
from nuncius.errors import FilterError

A, B = "0b1c6c70-2f68-4a3c-9d53-3f0c6f2b5a11", "77777777-0000-4000-8000-000000000000"


def asked(found):
    return [(one.method, one.path, one.body, one.params) for one in found]


def kept(question, *rows):
    return [row["n"] for row in rows if question.keeps is None or question.keeps(DataSet(row))]


ROWS = (
    {"n": 1, "uuid": A, "creator_username": "vera", "base_uri": "s3://b"},
    {"n": 2, "uuid": B, "creator_username": "carol", "base_uri": "s3://c"},
    {"n": 3},
)


def test_nothing_is_everything():
    assert asked(questions.search()) == [("POST", "uris", {}, {})]
    assert asked(questions.search(sort="uri")) == [("POST", "uris", {}, {"sort": "uri"})]


def test_what_is_given_and_nothing_else():
    found = questions.search(
        "a b", creator_usernames="vera", base_uris=("s3://b/", "s3://c"), tags=iter(["x"])
    )
    (one,) = asked(found)
    assert one[2] == {
        "free_text": "a b",
        "creator_usernames": ["vera"],
        "base_uris": ["s3://b", "s3://c"],
        "tags": ["x"],
    }
    assert kept(found[0], *ROWS) == [1, 2, 3]


@pytest.mark.parametrize("uuid", [A, A.upper(), UUID(A), [A], {A}, (UUID(A), A), f"{{{A}}}", f"urn:uuid:{A}"])
def test_a_uuid_alone_is_looked_up(uuid):
    assert asked(questions.search(uuids=uuid, sort="-name")) == [
        ("GET", f"uuids/{A}", None, {"sort": "-name"})
    ]


def test_several_uuids_alone_are_looked_up_one_by_one():
    assert [one.path for one in questions.search(uuids=[B, A, B])] == [f"uuids/{B}", f"uuids/{A}"]


def test_who_and_where_are_decided_here_for_a_uuid():
    first, second = questions.search(uuids=[A, B], creator_usernames="vera", base_uris="s3://b/")
    for question in (first, second):
        assert kept(question, *ROWS) == [1]
    (one,) = questions.search(uuids=A, base_uris=["s3://c", "s3://d"])
    assert kept(one, *ROWS) == [2]


@pytest.mark.parametrize("more", [{"free_text": "x"}, {"tags": "x"}, {"free_text": "x", "tags": ["y"]}])
def test_a_uuid_beside_words_or_tags_is_compared_here(more):
    (one,) = questions.search(uuids=[A, A.upper()], **more)
    assert "uuids" not in one.body
    assert kept(one, *ROWS) == [1]


@pytest.mark.parametrize("name", ["creator_usernames", "base_uris", "uuids"])
def test_one_of_none_is_nothing(name):
    assert questions.search(**{name: []}) == []
    assert questions.query({}, **{name: ()}) == []


def test_all_of_no_tags_is_everything():
    assert asked(questions.search(tags=[])) == asked(questions.search())


@pytest.mark.parametrize(
    "given",
    [
        {"free_text": 5},
        {"free_text": ["a"]},
        {"creator_usernames": 5},
        {"base_uris": [None]},
        {"tags": [b"x"]},
        {"tags": b"x"},
        {"uuids": 5},
        {"uuids": "no uuid"},
        {"uuids": [A, ""]},
        {"uuids": [A + "0"]},
        {"sort": 5},
        {"sort": ["uri", 5]},
    ],
)
def test_what_can_not_be_asked(given):
    with pytest.raises(FilterError) as caught:
        questions.search(**given)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    ("sort", "said"),
    [
        (None, {}),
        ("", {}),
        ([], {}),
        ("uri", {"sort": "uri"}),
        ("+uri", {"sort": "uri"}),
        ("-frozen_at, +name", {"sort": "-frozen_at,name"}),
        (["-frozen_at", "+name"], {"sort": "-frozen_at,name"}),
        (("uri",), {"sort": "uri"}),
    ],
)
def test_how_an_order_is_said(sort, said):
    assert questions.order(sort) == said


# Mongo queries ----------------------------------------------------------------------------------------------------------


def test_a_query_as_dictionary_and_as_text():
    condition = {"readme.owners.name": {"$regex": "^Testing"}}
    expected = [("POST", "mongo/query", {"query": condition, "tags": ["x"]}, {})]
    assert asked(questions.query(condition, tags="x")) == expected
    assert asked(questions.query(json.dumps(condition), tags="x")) == expected


@pytest.mark.parametrize("given", ["{", "[]", "5", "nope", [1], 5, None, '"text"', "[" * 100_000])
def test_what_is_no_query(given):
    with pytest.raises(FilterError):
        questions.query(given)


@pytest.mark.parametrize("condition", [A, UUID(A), {"$in": [A]}, {"$eq": A}, {"$in": [UUID(A)]}])
def test_a_uuid_in_a_query_is_asked_for_in_both_ways(condition):
    given = {"uuid": condition, "name": "n"}
    indexed, registered = asked(questions.query(given, tags="x"))
    assert indexed == (
        "POST",
        "mongo/query",
        {"query": {"name": "n", "uuid": {"$in": [A]}}, "tags": ["x"]},
        {},
    )
    assert registered == ("POST", "mongo/query", {"query": {"name": "n"}, "tags": ["x"], "uuids": [A]}, {})
    assert given == {"uuid": condition, "name": "n"}  # the caller's own stays


def test_what_is_no_uuid_is_asked_for_in_one_way():
    (one,) = questions.query({"uuid": {"$in": ["no uuid"]}})
    assert one.body == {"query": {"uuid": {"$in": ["no uuid"]}}}
    bodies = [one.body for one in questions.query({"uuid": {"$in": ["no uuid", A]}})]
    assert bodies == [{"query": {"uuid": {"$in": ["no uuid", A]}}}, {"query": {}, "uuids": [A]}]


@pytest.mark.parametrize(
    "condition", [{"$ne": A}, {"$regex": "^0b"}, {"$in": [A], "$ne": B}, 5, None, {"$in": [5]}, {}]
)
def test_other_conditions_on_a_uuid_are_the_servers(condition):
    (one,) = questions.query({"uuid": condition})
    assert one.body == {"query": {"uuid": condition}}
    assert one.keeps is None


def test_uuids_beside_a_query_that_names_some_too():
    bodies = [one.body for one in questions.query({"uuid": {"$in": [A, B]}}, uuids=[UUID(A)])]
    assert bodies == [{"query": {"uuid": {"$in": [A]}}}, {"query": {}, "uuids": [A]}]
    assert questions.query({"uuid": B}, uuids=[A]) == []
    assert questions.query({"uuid": {"$in": []}}) == []


@pytest.mark.parametrize(("keys", "method", "body"), [
    (None, "GET", None), ([], "GET", None), ("readme.a", "POST", {"dependency_keys": ["readme.a"]}),
    (("a", "b"), "POST", {"dependency_keys": ["a", "b"]}),
])  # fmt: skip
def test_the_question_for_a_graph(keys, method, body):
    one = questions.graph(UUID(A), keys)
    assert (one.method, one.path, one.body) == (method, f"graph/uuids/{A}", body)


@pytest.mark.parametrize(
    ("uuid", "path"), [("a/b", "uuids/a%2Fb"), ("ü %", "uuids/%C3%BC%20%25"), ("a?b#c", "uuids/a%3Fb%23c")]
)
def test_what_is_no_uuid_stays_one_step_of_a_path(uuid, path):
    assert questions.by_uuid(uuid).path == path


@pytest.mark.parametrize("uuid", ["", ".", ".."])
def test_a_uuid_that_leads_elsewhere(uuid):
    with pytest.raises(FilterError):
        questions.by_uuid(uuid)
    with pytest.raises(FilterError):
        questions.graph(uuid)


# Sorting here -----------------------------------------------------------------------------------------------------------


def some(*names, **fields):
    return DataSets(
        DataSet(name=name, **{key: values[at] for key, values in fields.items()})
        for at, name in enumerate(names)
    )


def names(found):
    return [row.get("name") for row in found]


def test_data_sets_are_sorted_by_several_fields():
    found = some("a", "b", "c", "d", size_in_bytes=[2, 1, 2, 1], number_of_items=[1, 1, 2, 2])
    assert names(questions.sorted_by(found, "-size_in_bytes,name")) == ["a", "c", "b", "d"]
    assert names(questions.sorted_by(found, ["size_in_bytes", "-name"])) == ["d", "b", "c", "a"]
    assert names(questions.sorted_by(found, "-number_of_items,+size_in_bytes")) == ["d", "c", "b", "a"]
    assert found.sorting == {"number_of_items": -1, "size_in_bytes": 1}


@pytest.mark.parametrize("sort", ["size_in_bytes", "-size_in_bytes"])
def test_what_lacks_a_field_comes_last(sort):
    found = questions.sorted_by(some("a", "b", "c", "d", size_in_bytes=[None, 1, None, 2]), sort)
    assert names(found)[2:] == ["a", "c"]


@pytest.mark.parametrize("sort", ["name", "-name"])
def test_equal_ones_stay_in_their_order(sort):
    found = some("x", "x", "x", n=[1, 2, 3])
    assert [row.n for row in questions.sorted_by(found, sort)] == [1, 2, 3]


@pytest.mark.parametrize("sort", [None, "", []])
def test_without_an_order_nothing_moves(sort):
    found = some("b", "a")
    assert names(questions.sorted_by(found, sort)) == ["b", "a"]
    assert found.sorting == {}


def test_what_can_not_be_compared():
    with pytest.raises(FilterError, match="can't be sorted by 'name'"):
        questions.sorted_by(some("a", 5), "name")
