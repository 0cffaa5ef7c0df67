"""Walking through the pages of a dserver, fed by hand: nothing missing, nothing twice, while data sets come and go."""

from __future__ import annotations

import json
import math

import pytest

from nuncius._core.operations import Call, Deadline, Gather, Once, Outcome, Request, Response, Sleep
from nuncius.datasets import accounts, operations, questions
from nuncius.datasets.configuration import Settings
from nuncius.datasets.listing import DataSetWalk, check_page_size, is_last
from nuncius.datasets.service import DServerService
from nuncius.errors import ConfigurationError, NotFoundError, ServerError

pytestmark = pytest.mark.filterwarnings("error")


def soon():
    return Deadline(60)


def play(operation, answer):
    """Run an operation by hand: `answer` makes the response to each request."""
    try:
        need = next(operation)
        while True:
            match need:
                case Request():
                    result = answer(need)
                case Gather():
                    result = [outcome_of(part, answer) for part in need.operations]
                case Once():
                    result = play(need.make(), answer)
                case Call():
                    result = need.function(*need.args)
                case Sleep():
                    result = None
            need = operation.throw(result) if isinstance(result, Exception) else operation.send(result)
    except StopIteration as end:
        return end.value


def outcome_of(operation, answer):
    try:
        return Outcome(play(operation, answer))
    except Exception as error:
        return Outcome(error=error)


def row(name):
    return {"uri": f"s3://b/{name}", "uuid": str(name), "name": str(name)}


def named(rows):
    return [found["name"] for found in rows]


class Pages:
    """A server that slices a list as dservercore does; `before` may change the list before each answer."""

    def __init__(self, names, before=None, *, header=True, past_end="missing", stop=1000):
        self.names, self.before, self.header, self.past_end = list(names), before, header, past_end
        self.asked = []
        self.stop = stop

    def __call__(self, request):
        number, size = int(request.params["page"]), int(request.params["page_size"])
        assert len(self.asked) < self.stop, "it goes on and on"
        self.asked.append(number)
        if self.before:
            self.before(self, number)
        pages = math.ceil(len(self.names) / size)
        if number > max(1, pages) and self.past_end == "missing":
            return Response(404, {}, b'{"code": 404, "status": "Not Found"}')
        said = {"total": len(self.names), "total_pages": pages}
        if pages:
            said |= {"first_page": 1, "last_page": pages, "page": number}
        headers = {"x-pagination": json.dumps(said), "x-sort": '{"sort": {"uri": 1}}'} if self.header else {}
        shown = self.names[(number - 1) * size : number * size]
        return Response(200, headers, json.dumps([row(name) for name in shown]).encode())


@pytest.fixture
def service():
    return DServerService(Settings("http://127.0.0.1:1", authenticate=False), interactive=False)


def walked(service, server, asked=None, size=100):
    walk = DataSetWalk(service, questions.search() if asked is None else asked, size)
    found = []
    while not walk.over:
        found += play(walk.page(soon()), server)
    return found


NAMES = [f"{n:04d}" for n in range(300)]


@pytest.mark.parametrize("past_end", ["missing", "empty"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 300])
def test_every_data_set_comes_once(service, count, header, past_end):
    server = Pages(NAMES[:count], header=header, past_end=past_end)
    assert named(walked(service, server)) == NAMES[:count]
    pages = max(1, math.ceil(count / 100))
    # Without a header only a page that isn't full tells that it is the last.
    assert server.asked == list(range(1, pages + 1 + (not header and count > 0 and count % 100 == 0)))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pages_of_any_size(service, size):
    assert named(walked(service, Pages(NAMES[:40]), size=size)) == NAMES[:40]


@pytest.mark.parametrize("past_end", ["missing", "empty"])
@pytest.mark.parametrize(
    ("page", "gone"),
    [
        (2, range(1)),
        (2, range(50)),
        (2, range(100)),
        (3, range(199)),
        (3, range(100, 200)),
        (3, range(50, 210)),
    ],
)
def test_what_moved_forward_when_others_were_deleted_is_not_missed(service, past_end, page, gone):
    def deleted(server, number):
        if number == page:
            server.names = [name for name in server.names if int(name) not in gone]

    server = Pages(NAMES, deleted, past_end=past_end, stop=40)
    found = named(walked(service, server))
    stay = [name for name in NAMES if int(name) not in gone]
    assert set(stay) <= set(found)
    assert len(found) == len(set(found))


def test_when_all_were_deleted_the_walk_ends(service):
    def deleted(server, number):
        if number == 3:
            server.names.clear()

    server = Pages(NAMES, deleted, stop=10)
    assert named(walked(service, server)) == NAMES[:200]


def test_deleting_without_end_ends_too(service):
    def deleted(server, number):
        if number > 1:
            del server.names[:1]

    server = Pages([f"{n:05d}" for n in range(3000)], deleted, stop=500)
    found = named(walked(service, server, size=100))
    assert len(found) == len(set(found))
    assert len(server.asked) < 300


@pytest.mark.parametrize("new", ["0000a", "0150a", "9999"])
def test_what_was_pushed_to_the_next_page_comes_once(service, new):
    def registered(server, number):
        if number == 2 and new not in server.names:
            server.names = sorted([*server.names, new])

    found = named(walked(service, Pages(NAMES, registered)))
    assert set(NAMES) <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    "said", [b"", b"none", b"[1]", b'{"total": "many", "last_page": -1}', b'{"total": true}']
)
def test_a_strange_header_is_none(service, said):
    def answer(request):
        number = int(request.params["page"])
        shown = NAMES[(number - 1) * 100 : number * 100]
        return Response(
            200, {"x-pagination": said.decode()}, json.dumps([row(name) for name in shown]).encode()
        )

    assert named(walked(service, answer)) == NAMES


def test_rows_without_a_uri_are_all_given(service):
    strange = [{"name": "a"}, {"name": "a"}, {"uri": ["s3://b/x"], "name": "b"}, {"uri": 5, "name": "c"}]

    def answer(request):
        return Response(200, {}, json.dumps(strange).encode())

    assert named(walked(service, answer)) == ["a", "a", "b", "c"]
    found = play(operations.pages(service, questions.search(), 100, soon), answer)
    assert named(found) == ["a", "a", "b", "c"]


@pytest.mark.parametrize("body", [b"{}", b"null", b'"text"', b"[1]", b"[[]]"])
def test_an_answer_that_is_no_list_of_data_sets(service, body):
    with pytest.raises(ServerError, match="a list of data sets was expected"):
        walked(service, lambda _: Response(200, {}, body))


def test_a_missing_first_page_is_an_error(service):
    with pytest.raises(NotFoundError):
        walked(service, lambda _: Response(404, {}, b'{"code": 404}'))


def test_several_questions_one_after_the_other(service):
    asked = questions.search(uuids=[f"00000000-0000-4000-8000-{n:012d}" for n in range(3)])

    def answer(request):
        last = request.url[-1]
        return Response(200, {}, json.dumps([row(last), row("everywhere")]).encode())

    assert named(walked(service, answer, asked)) == ["0", "everywhere", "1", "2"]


def test_what_several_questions_find_is_sorted_together(service):
    uuids = [f"00000000-0000-4000-8000-{n:012d}" for n in (2, 0, 1)]
    asked = questions.search(uuids=uuids, sort="-name")
    found = play(
        operations.pages(service, asked, 100, soon),
        lambda request: Response(200, {}, json.dumps([row(request.url[-1])]).encode()),
    )
    assert named(found) == ["2", "1", "0"]
    assert found.sorting == {"name": -1}
    assert found.total == 3


def test_one_page_says_what_more_there_is(service):
    found = play(operations.one_page(service, questions.search()[0], 2, 100, soon()), Pages(NAMES))
    assert named(found) == NAMES[100:200]
    assert (found.total, found.pagination["last_page"], found.sorting) == (300, 3, {"uri": 1})
    assert repr(found).startswith("<DataSets: 100 of 300: 0100, 0101, 0102")


@pytest.mark.parametrize("past_end", ["missing", "empty"])
def test_a_page_past_the_end_is_empty(service, past_end):
    server = Pages(NAMES, past_end=past_end)
    assert play(operations.one_page(service, questions.search()[0], 4, 100, soon()), server) == []


@pytest.mark.parametrize("size", [0, 101, -1, True, "10", 1.5, None])
def test_page_sizes_that_no_server_takes(size):
    with pytest.raises(ConfigurationError, match="page_size="):
        check_page_size(size)


@pytest.mark.parametrize("number", [0, -1, True, "1", 1.0])
def test_page_numbers_that_are_none(service, number):
    with pytest.raises(ConfigurationError, match="page_number="):
        play(operations.one_page(service, questions.search()[0], number, 100, soon()), Pages(NAMES))


@pytest.mark.parametrize(
    ("said", "number", "found", "last"),
    [
        ({}, 1, 99, True),
        ({}, 1, 100, False),
        ({"total": 0, "total_pages": 0}, 1, 0, True),
        ({"last_page": 3}, 2, 100, False),
        ({"last_page": 3}, 3, 100, True),
        ({"last_page": 3}, 2, 0, True),
        ({"total_pages": 2}, 1, 100, False),
    ],
)
def test_which_page_is_the_last(said, number, found, last):
    assert is_last(said, number, found, 100) is last


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("count", [0, 1, 100, 200, 250])
def test_lists_of_users_have_pages_too(service, count, header):
    server = Pages(NAMES[:count], header=header)
    found = play(accounts.records(service, "users", "username", "username", soon), server)
    assert named(found) == NAMES[:count]


def test_no_user_is_missed_while_others_are_deleted(service):
    names = [f"user{number:03}" for number in range(250)]

    def answer(request):
        number = request.params["page"]
        rows = [{"username": name} for name in names[number * 100 - 100 : number * 100]]
        said = {"total": len(names), "total_pages": -(-len(names) // 100), "last_page": -(-len(names) // 100)}
        if number == 2:
            del names[:60]
        if not rows:
            return Response(404, {}, b'{"code": 404}')
        return Response(200, {"x-pagination": json.dumps(said)}, json.dumps(rows).encode())

    found = play(accounts.records(service, "users", "username", "username", soon), answer)
    assert {row.username for row in found} >= set(names)
    assert len(found) == len({row.username for row in found})


def test_parts_of_many_come_in_the_order_asked_and_one_fails(service):
    def answer(request):
        if "gone" in request.url:
            return Response(404, {}, b'{"code": 404}')
        if "odd" in request.url:
            return Response(200, {}, b'{"readme": 5, "tags": "none"}')
        return Response(200, {}, json.dumps({"readme": request.url[-1], "tags": [request.url[-1]]}).encode())

    uris = [
        ("s3://b/1", None),
        ("s3://b/gone", None),
        ("s3://b/2", None),
        ("s3://b/odd", None),
        ("s3://b/1", None),
    ]
    told = []
    found = play(operations.many(service, uris, ("readme", "tags"), 8, soon, None, told.append), answer)
    assert [details.uri for details in found] == [uri for uri, _ in uris]
    assert [details.get("readme") for details in found] == ["1", None, "2", None, "1"]
    assert [details.get("tags") for details in found] == [["1"], None, ["2"], None, ["1"]]
    assert {part: type(error) for part, error in found[1].errors.items()} == {
        "readme": NotFoundError,
        "tags": NotFoundError,
    }
    assert {type(error) for error in found[3].errors.values()} == {ServerError}
    assert sum(told) == 10
    assert repr(found[1]) == "<Details of s3://b/gone: nothing, readme, tags failed>"


def test_a_page_that_is_promised_and_never_there_is_no_end():
    asked = []

    def answer(request):
        asked.append(number := request.params["page"])
        if number == 2:
            return Response(404, {"content-type": "text/html"}, b"<html>no server behind</html>")
        said = {"total": 250, "total_pages": 3, "first_page": 1, "last_page": 3, "page": number}
        rows = [{"uri": f"s3://b/{number}-{n}"} for n in range(100)]
        return Response(200, {"x-pagination": json.dumps(said)}, json.dumps(rows).encode())

    service = DServerService(Settings("http://host"))
    with pytest.raises(ServerError, match="has 250 data sets, as it says, but does not give page 2"):
        play(operations.pages(service, questions.search(), 100, soon), answer)
    assert asked == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("path", "body"),
    [("me", b'{"code": 404, "status": "Not Found"}'), ("uris/s3/b/u", b"<html>nginx</html>")],
)
def test_an_address_that_is_none_of_a_dserver(path, body):
    service = DServerService(Settings("http://host"))
    with pytest.raises(NotFoundError, match="is this its address"):
        play(service.ask("GET", path, soon(), what="who you are"), lambda _: Response(404, {}, body))


@pytest.mark.parametrize(
    ("what", "limit"), [("readmes", 8), ((), 8), (("readme", 5), 8), ("readme", 0), ("readme", "8")]
)
def test_parts_and_limits_that_are_none(what, limit):
    with pytest.raises(ConfigurationError):
        operations.check_parts(what, limit)


def test_each_part_is_asked_for_once():
    assert operations.check_parts(["tags", "readme", "tags"], 1) == ("tags", "readme")
    assert operations.check_parts("manifest", 1) == ("manifest",)
