"""The same questions to the real dserver and to the sandbox's: data sets, by their URIs and by what is in them."""

import json
from urllib.parse import quote

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
    path_of,
    refusal,
    uuid_of,
)

pytestmark = pytest.mark.xdist_group("dserver-peer")

FIELDS = ("base_uri", "created_at", "creator_username", "frozen_at", "name", "uri", "uuid")
ALL_SORTS = ", ".join(sign + name for sign in ("+", "-", "") for name in FIELDS)


def rows(server, *keys, how="row"):
    """Return what is known of data sets, in the order of their URIs."""
    return by_uri(getattr(DATA[key], how)(server.uris[key]) for key in keys)


def plain(value):
    return None if value is None else str(value)


# One data set -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", SEEN)
def test_a_data_set_and_all_that_belongs_to_it(server, ask, key):
    known, place = DATA[key], path_of(server.uris[key])
    assert ask("GET", f"/uris/{place}").json() == known.row(server.uris[key])
    assert ask("GET", f"/readmes/{place}").json() == {"readme": known.readme}
    tags = ask("GET", f"/tags/{place}").json()
    assert list(tags) == ["tags"]
    assert sorted(tags["tags"]) == sorted(known.tags)
    stringified = {name: plain(value) for name, value in known.annotations.items()}
    assert ask("GET", f"/annotations/{place}").json() == {"annotations": stringified}


@pytest.mark.parametrize("key", SEEN)
def test_a_manifest(server, ask, key):
    manifest = ask("GET", f"/manifests/{path_of(server.uris[key])}").json()
    assert sorted(manifest) == ["dtoolcore_version", "hash_function", "items"]
    assert manifest["hash_function"] == "md5sum_hexdigest"
    assert manifest["dtoolcore_version"] == "3.19.0"
    times = [item.pop("utc_timestamp") for item in manifest["items"].values()]
    assert manifest["items"] == DATA[key].items_by_id
    assert all(isinstance(time, float) for time in times)


@pytest.mark.parametrize("what", ["uris", "readmes", "manifests", "tags", "annotations"])
@pytest.mark.parametrize("key", ["odd", "file", "nova"])
def test_every_form_of_a_uri(server, ask, what, key):
    uri = server.uris[key]
    assert uri.startswith(f"{DATA[key].base_uri}/")
    short = uri.replace("://", "/", 1)
    forms = [
        quote(short),
        quote(uri, safe=""),
        quote(uri),
        uri.replace(" ", "%20"),
        quote(short, safe="/+"),
        quote(short, safe=""),
    ]
    said = [ask("GET", f"/{what}/{form}") for form in forms]
    assert [answer.status_code for answer in said] == [200] * len(forms)
    assert all(answer.content == said[0].content for answer in said)


@pytest.mark.parametrize("what", ["uris", "readmes", "manifests", "tags", "annotations"])
def test_a_plus_is_no_space_in_a_path(server, ask, what):
    with_plus = quote(server.uris["odd"].replace("://", "/", 1)).replace("%20", "+")
    assert ask("GET", f"/{what}/{with_plus}").status_code == 403


def test_a_slash_at_the_end_makes_another_uri(server, ask):
    assert ask("GET", f"/uris/{path_of(server.uris['nova'])}/").status_code == 403


# By UUID ----------------------------------------------------------------------------------------------------------------


def test_a_uuid_may_be_at_several_places(server, ask):
    answer = ask("GET", f"/uuids/{uuid_of(7)}")
    assert answer.json() == rows(server, "twin", "other twin")
    assert page(answer) == {"total": 2, "total_pages": 1, "first_page": 1, "last_page": 1, "page": 1}
    assert order(answer) == {"uri": 1}
    backwards = ask("GET", f"/uuids/{uuid_of(7)}?sort=-base_uri&page_size=1")
    assert backwards.json() == [DATA["other twin"].row(server.uris["other twin"])]
    assert page(backwards)["next_page"] == 2


@pytest.mark.parametrize("key", ["arrived", "nova"])
def test_a_uuid_finds_what_came_either_way(server, ask, key):
    assert ask("GET", f"/uuids/{DATA[key].uuid}").json() == rows(server, key)


@pytest.mark.parametrize("uuid", ["foo", uuid_of(999), DATA["closed"].uuid])
def test_a_uuid_that_nothing_has(ask, uuid):
    answer = ask("GET", f"/uuids/{uuid}")
    assert (answer.status_code, answer.json()) == (200, [])
    assert page(answer) == {"total": 0, "total_pages": 0}


# Lists without a filter -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, {}])
def test_the_list_of_all_that_one_may_see(server, ask, body):
    answer = (
        ask("GET", "/uris?page_size=100") if body is None else ask("POST", "/uris?page_size=100", json=body)
    )
    assert answer.json() == rows(server, *SEEN)
    assert page(answer) == {"total": len(SEEN), "total_pages": 1, "first_page": 1, "last_page": 1, "page": 1}
    assert order(answer) == {"uri": 1}


def test_ten_rows_are_a_page(ask):
    answer = ask("GET", "/uris", "walker")
    assert len(answer.json()) == 10
    assert page(answer) == {
        "total": MANY, "total_pages": 30, "first_page": 1, "last_page": 30, "page": 1, "next_page": 2,
    }  # fmt: skip


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("page_size", [100, 7])
def test_all_pages_together_are_all(ask, filtered, page_size):
    body, seen, number = ({"base_uris": [BULK]} if filtered else {}), [], 1
    while number is not None:
        answer = ask("POST", f"/uris?page={number}&page_size={page_size}", "walker", json=body)
        found = page(answer)
        assert found["page"] == number
        assert found.get("previous_page") == (number - 1 or None)
        seen += [row["uri"] for row in answer.json()]
        number = found.get("next_page")
    assert len(seen) == MANY
    assert seen == sorted(set(seen))


@pytest.mark.parametrize(
    ("path", "status"),
    [("/uris?page=31", 404), (f"/uuids/{uuid_of(1000)}?page=2", 404), ("/uris?page=31&tags=even", 200)],
)
def test_past_the_last_page(ask, path, status):
    answer = ask("GET", path, "walker")
    assert answer.status_code == status
    if status == 404:
        assert answer.json() == refusal(404)
        assert page(answer) is None
    else:
        assert answer.json() == []
        assert page(answer) == {"total": 150, "total_pages": 15, "first_page": 1, "last_page": 15}


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ("page=0", {"page": ["Must be greater than or equal to 1."]}),
        ("page=-1", {"page": ["Must be greater than or equal to 1."]}),
        ("page=x", {"page": ["Not a valid integer."]}),
        ("page=", {"page": ["Not a valid integer."]}),
        ("page_size=0", {"page_size": ["Must be greater than or equal to 1 and less than or equal to 100."]}),
        (
            "page_size=101",
            {"page_size": ["Must be greater than or equal to 1 and less than or equal to 100."]},
        ),
        ("page_size=1.5", {"page_size": ["Not a valid integer."]}),
        ("sort=size_in_bytes", {"sort": {"0": [f"Must be one of: {ALL_SORTS}."]}}),
        ("sort=+name", {"sort": {"0": [f"Must be one of: {ALL_SORTS}."]}}),
        ("sort=name,nope", {"sort": {"1": [f"Must be one of: {ALL_SORTS}."]}}),
    ],
)
def test_pages_and_orders_that_are_none(ask, query, messages):
    paths = ["/uris", f"/uuids/{uuid_of(1)}"]
    said = [ask("GET", f"{path}?{query}") for path in paths] + [ask("POST", f"/uris?{query}", json={})]
    for answer in said:
        assert (answer.status_code, answer.json()) == (422, invalid("query", **messages))


def test_what_a_query_string_may_have_besides(ask):
    assert page(ask("GET", "/uris?nope=1&page=1&page=9", "walker"))["page"] == 1


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("name", {"name": 1}),
        ("%2Bname", {"name": 1}),
        ("-name,uri", {"name": -1, "uri": 1}),
        ("frozen_at,-uuid", {"frozen_at": 1, "uuid": -1}),
        ("-base_uri,name,-uri", {"base_uri": -1, "name": 1, "uri": -1}),
        ("name,,uri,", {"name": 1, "uri": 1}),
        ("name,-name", {"name": -1}),
        ("", {"uri": 1}),
    ],
)
@pytest.mark.parametrize("filtered", [False, True])
def test_orders(ask, sort, expected, filtered):
    body = {"tags": []} if filtered else {}
    answer = ask("POST", f"/uris?page_size=100&sort={sort}", json=body)
    assert order(answer) == expected
    got = answer.json()
    assert len(got) == len(SEEN)
    wanted = list(got)
    for field, sign in reversed(expected.items()):
        # MongoDB has what arrived by PUT with a UUID of its own type, which it puts after all texts.
        wanted.sort(
            key=lambda row: (
                filtered and field == "uuid" and row["uuid"] == DATA["arrived"].uuid,
                row[field],
            ),
            reverse=sign < 0,
        )
    assert [[row[field] for field in expected] for row in got] == [
        [row[field] for field in expected] for row in wanted
    ]


def test_only_the_first_of_two_orders_counts(ask):
    assert order(ask("GET", "/uris?sort=name&sort=-uri")) == {"name": 1}


# Lists with a filter ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        ({"tags": ["nova"]}, ["nova", "words"]),
        ({"tags": ["nova", "southern"]}, ["nova"]),
        ({"tags": ["nova", "arrived"]}, []),
        ({"tags": []}, SEEN),
        ({"creator_usernames": ["dave"]}, ["empty"]),
        ({"creator_usernames": ["dave", "erin"]}, ["empty"]),
        ({"base_uris": [ODD]}, ["other twin", "odd"]),
        ({"base_uris": [FILES, ODD]}, ["file", "other twin", "odd"]),
        ({"base_uris": [FILES, CLOSED, "s3://none"]}, ["file"]),
        ({"base_uris": [NIGHT], "tags": ["nova"], "creator_usernames": ["carol"]}, ["nova", "words"]),
        ({"free_text": "light curve", "tags": ["southern"]}, ["nova"]),
        ({"uuids": [uuid_of(8)]}, ["arrived"]),
        ({"uuids": [uuid_of(8).upper().replace("-", "")]}, ["arrived"]),
        ({"uuids": [uuid_of(1)]}, []),
        ({"uuids": [uuid_of(1), uuid_of(8)]}, ["arrived"]),
    ],
)
def test_filters(server, ask, body, keys):
    answer = ask("POST", "/uris?page_size=100", json=body)
    assert answer.json() == rows(server, *keys, how="found")
    assert page(answer)["total"] == len(keys)
    assert order(answer) == {"uri": 1}
    in_the_path = ask("GET", "/uris?page_size=100", params={"page_size": 100} | body)
    if all(body.values()):  # an empty list can't stand in a path
        assert in_the_path.json() == answer.json()


def test_nothing_found_has_no_pages(ask):
    answer = ask("POST", "/uris", json={"tags": ["no-such-tag"]})
    assert (answer.status_code, answer.json()) == (200, [])
    assert page(answer) == {"total": 0, "total_pages": 0}


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("nova", ["nova", "words"]),
        ("NOVA", ["nova", "words"]),
        ("cloudy", ["words"]),
        ("cloudy herschel", ["words", "nova"]),
        ('"light curve"', ["nova"]),
        ('"curve light"', []),
        ("nova -cloudy", ["nova"]),
        ("transient", ["nova"]),
        ("KÖNIGSTUHL", ["nova"]),
        ("konigstuhl", ["nova"]),
        ('"at königstuhl"', []),
        ("grün", []),
        ("southern", ["nova"]),
        ("no-such-word-at-all", []),
        ("", []),
    ],
)
def test_words(server, ask, text, keys):
    answer = ask("POST", "/uris?page_size=100", json={"free_text": text})
    assert answer.json() == rows(server, *keys, how="found")


def test_a_comma_and_an_empty_text_are_tags_too(ask):
    assert ask("GET", "/uris?tags=nova,southern").json() == []
    assert ask("GET", "/uris?tags=").json() == []
    assert len(ask("GET", "/uris?tags=nova&tags=southern").json()) == 1


@pytest.mark.parametrize(
    "body", [{"base_uris": []}, {"base_uris": [CLOSED]}, {"base_uris": ["s3://none"], "tags": ["x"]}]
)
def test_without_a_permitted_base_uri_nothing_tells_of_pages(ask, body):
    answer = ask("POST", "/uris", json=body)
    assert (answer.status_code, answer.json()) == (200, [])
    assert page(answer) is None
    assert order(answer) == {"uri": 1}


def test_what_somebody_without_permissions_finds(ask):
    for path in ("/uris", f"/uuids/{uuid_of(1)}"):
        answer = ask("GET", path, "nobody")
        assert (answer.json(), page(answer)) == ([], {"total": 0, "total_pages": 0})
    for answer in (
        ask("GET", "/uris?tags=nova", "nobody"),
        ask("POST", "/uris", "nobody", json={"free_text": "nova"}),
    ):
        assert (answer.status_code, answer.json(), page(answer)) == (200, [], None)
        assert order(answer) == {"uri": 1}


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ({"bad": 1}, {"bad": ["Unknown field."]}),
        ({"query": {}}, {"query": ["Unknown field."]}),
        ({"uuids": ["x"]}, {"uuids": {"0": ["Not a valid UUID."]}}),
        ({"uuids": [uuid_of(1), 7]}, {"uuids": {"1": ["Not a valid UUID."]}}),
        ({"uuids": uuid_of(1)}, {"uuids": ["Not a valid list."]}),
        ({"tags": "x"}, {"tags": ["Not a valid list."]}),
        ({"tags": ["a", 1]}, {"tags": {"1": ["Not a valid string."]}}),
        ({"tags": None}, {"tags": ["Field may not be null."]}),
        ({"free_text": 1}, {"free_text": ["Not a valid string."]}),
        ({"free_text": ["a"]}, {"free_text": ["Not a valid string."]}),
        ({"free_text": None}, {"free_text": ["Field may not be null."]}),
        ([], {"_schema": ["Invalid input type."]}),
        ("text", {"_schema": ["Invalid input type."]}),
    ],
)
def test_filters_that_are_none(ask, body, messages):
    answer = ask("POST", "/uris", json=body)
    assert (answer.status_code, answer.json()) == (422, invalid("json", **messages))


def test_a_uuid_in_a_query_string_that_is_none(ask):
    answer = ask("GET", "/uris?uuids=x")
    assert (answer.status_code, answer.json()) == (422, invalid("query", uuids={"0": ["Not a valid UUID."]}))


def test_json_that_is_broken(ask):
    answer = ask("POST", "/uris", content=b"{", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()) == (
        400,
        refusal(400) | {"errors": {"json": ["Invalid JSON body."]}},
    )


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", None])
def test_a_body_that_does_not_say_that_it_is_json_is_not_read(ask, kind):
    headers = {} if kind is None else {"content-type": kind}
    answer = ask("POST", "/uris", content=json.dumps({"tags": ["nova"]}).encode(), headers=headers)
    assert page(answer)["total"] == len(SEEN)


# Summaries --------------------------------------------------------------------------------------------------------------


def counted(keys, of, weigh):
    counts = {}
    for key in keys:
        for value in of(DATA[key]):
            counts[value] = counts.get(value, 0) + weigh(DATA[key])
    return counts


def size(known):
    return sum(item["size_in_bytes"] for item in known.items_by_id.values())


@pytest.mark.parametrize(("path", "who"), [("/me/summary", "observer"), ("/users/observer/summary", "admin")])
def test_a_summary(ask, path, who):
    kinds = {
        "creator": lambda known: [known.creator_username],
        "base_uri": lambda known: [known.base_uri],
        "tag": lambda known: known.tags,
    }
    numbers = {name: counted(SEEN, of, lambda _: 1) for name, of in kinds.items()}
    sizes = {name: counted(SEEN, of, size) for name, of in kinds.items()}
    assert ask("GET", path, who).json() == {
        "number_of_datasets": len(SEEN),
        "total_size_in_bytes": sum(size(DATA[key]) for key in SEEN),
        "creator_usernames": sorted(numbers["creator"]),
        "base_uris": sorted(numbers["base_uri"]),
        "tags": sorted(numbers["tag"]),
        **{f"datasets_per_{name}": counts for name, counts in numbers.items()},
        **{f"size_in_bytes_per_{name}": counts for name, counts in sizes.items()},
    }


def test_a_summary_of_nothing(ask):
    summary = ask("GET", "/me/summary", "nobody").json()
    assert len(summary) == 11
    assert not any(summary.values())
