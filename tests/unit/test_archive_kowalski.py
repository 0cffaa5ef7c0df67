"""What we say to a Kowalski server, and what we make of whatever it answers."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import threading
import time
import traceback
from datetime import UTC, datetime

import pytest
from astropy.time import Time
from bson import ObjectId

import nuncius
from http_support import Loopback, json_reply, reply
from nuncius import aio
from nuncius._core.operations import Deadline, Response
from nuncius.archives.kowalski.service import KowalskiService
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FilterError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    NunciusError,
    PartialResultError,
    ServerError,
    UnreachableError,
)

PASSWORD = "hunter2-and-more"
NAMES = ["ZTF_alerts_aux", "ZTF_alerts", "Gaia_EDR3"]


@pytest.fixture(autouse=True)
def own_config(tmp_path, monkeypatch):
    """Let no login of this machine be found, and no proxy be used."""
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("nuncius._core.retry._FIRST_WAIT_S", 0.005)


class Kowalski:
    """A server that speaks Kowalski's forms; `answers` has what it gives to a type of query instead."""

    def __init__(self, **answers):
        self.answers = answers
        self.tokens, self.dead = [], set()
        self.refusal = (401, {"status": "error", "message": "Unauthorized"})
        self.server = Loopback(self.answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()

    def open(self, **options):
        options = options or {"credentials": ("me", PASSWORD)}
        return nuncius.open_archive(f"kowalski+{self.server.url}", **options)

    def queries(self, kind=None):
        asked = [asked.json for asked in self.server.requests if asked.path == "/api/queries"]
        return [query for query in asked if kind in (None, query["query_type"])]

    def answer(self, asked):
        if asked.path == "/api/auth":
            if "auth" in self.answers:
                return self.made(self.answers["auth"], asked)
            self.tokens.append(f"token-{len(self.tokens)}")
            return json_reply({"status": "success", "token": self.tokens[-1]})
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens or token in self.dead:
            return json_reply(self.refusal[1], self.refusal[0])
        if asked.path != "/api/queries":
            return self.made(self.answers.get(asked.path, json_reply({"status": "error"}, 404)), asked)
        query = asked.json
        kind = query["query_type"]
        if kind in self.answers:
            return self.made(self.answers[kind], asked)
        return success(self.data(kind, query["query"]))

    @staticmethod
    def made(answer, asked):
        return answer(asked) if callable(answer) else answer

    @staticmethod
    def data(kind, query):
        if kind == "info":
            return NAMES
        if kind in {"cone_search", "near"}:
            radec = query.get("radec") or query["object_coordinates"]["radec"]
            (catalog,) = query["catalogs"]
            return {catalog: {name: [star(*place)] for name, place in radec.items()}}
        return {"count_documents": 7, "estimated_document_count": 7}.get(kind, [])


def success(data):
    return json_reply({"status": "success", "message": "Successfully executed query", "data": data})


def star(ra, dec, **fields):
    place = {"type": "Point", "coordinates": [ra - 180.0, dec]}
    return {"_id": {"$oid": "507f1f77bcf86cd799439011"}, "coordinates": {"radec_geojson": place}, **fields}


def error(message, status=400):
    return json_reply({"status": "error", "message": message}, status)


# Logging in -----------------------------------------------------------------------------------------------------------


def test_a_login_is_asked_for_once_and_when_it_is_needed():
    with Kowalski() as kowalski, kowalski.open() as archive:
        assert kowalski.server.requests == []
        assert archive.catalogs() == sorted(NAMES)
        assert archive.count("ZTF_alerts") == 7
        (login,) = [asked for asked in kowalski.server.requests if asked.path == "/api/auth"]
        assert login.json == {"username": "me", "password": PASSWORD}


@pytest.mark.parametrize(
    "refusal",
    [
        (401, {"status": "error", "message": "Unauthorized"}),
        (400, {"status": "error", "message": "token is invalid"}),
        (400, {"status": "error", "message": "token has expired"}),
    ],
)
def test_a_token_that_dies_is_renewed_once(refusal):
    with Kowalski() as kowalski, kowalski.open() as archive:
        kowalski.refusal = refusal
        assert archive.count("ZTF_alerts") == 7
        kowalski.dead.update(kowalski.tokens)
        assert archive.count("ZTF_alerts") == 7
        assert len(kowalski.tokens) == 2
        assert len(kowalski.queries("count_documents")) == 3


def test_a_token_that_is_dead_at_once_is_an_error_and_no_endless_loop():
    with Kowalski() as kowalski, kowalski.open() as archive:
        kowalski.dead.update(f"token-{number}" for number in range(99))
        with pytest.raises(LoginError, match="in vain"):
            archive.count("ZTF_alerts")
        assert len(kowalski.tokens) == 2


def test_a_given_token_that_is_refused_is_loud_at_once():
    with Kowalski() as kowalski, kowalski.open(token="dead-token") as archive:
        kowalski.refusal = (400, {"status": "error", "message": "token is invalid"})
        with pytest.raises(LoginError, match="token is invalid") as caught:
            archive.find("ZTF_alerts")
        assert "dead-token" not in "".join(traceback.format_exception(caught.value))
        assert kowalski.server.paths() == ["/api/queries"]


def test_no_login_at_all_says_how_to_give_one():
    with Kowalski() as kowalski, kowalski.open(timeout_s=5) as archive:
        with pytest.raises(LoginError, match="NUNCIUS_KOWALSKI_USERNAME"):
            archive.catalogs()
        assert kowalski.server.requests == []


@pytest.mark.parametrize("dying", [False, True])
def test_many_requests_at_a_time_log_in_once(dying):
    places = {f"star.{number}": (number / 10, 1.0) for number in range(1500)}
    with Kowalski() as kowalski, kowalski.open() as archive:
        if dying:
            archive.catalogs()
            kowalski.dead.update(kowalski.tokens)
        found = archive.cone_search("ZTF_alerts", places, "2 arcsec", progress=False)
        assert list(found.by_position()) == list(places)
        assert len(found) == len(places)
        assert len(kowalski.tokens) == 1 + dying


def test_who_looked_before_a_login_ended_takes_its_token():
    """Two questions find no token; the first has logged in before the second gets round to it."""
    server = KowalskiService("kowalski+http://127.0.0.1:9", credentials=("me", PASSWORD))
    first, second = (server.token(Deadline(None)) for _ in range(2))
    logins = next(first), next(second)  # each asks to log in once, and so might one after the other
    login = logins[0].make()
    next(login)
    with pytest.raises(StopIteration) as done:
        login.send(Response(200, {}, b'{"token": "token-0"}'))
    with pytest.raises(StopIteration) as same:
        next(logins[1].make())  # without a request
    assert same.value.value is done.value.value


def test_two_logins_at_one_address_are_two(monkeypatch):
    """In a federation, which has one driver: each of them gets its own token."""

    def log_in(asked):
        time.sleep(0.1)  # both at the same time
        token = f"token-of-{asked.json['username']}"
        kowalski.tokens.append(token)
        return json_reply({"status": "success", "token": token})

    with Kowalski(auth=log_in) as kowalski:
        url = f"kowalski+{kowalski.server.url}"
        both = {name: {"url": url, "credentials": (name, PASSWORD)} for name in ("one", "two")}
        with nuncius.open_archive(both) as archive:
            assert archive.catalogs() == sorted(NAMES)
        assert sorted(kowalski.tokens) == ["token-of-one", "token-of-two"]


@pytest.mark.parametrize(("first_s", "second_s"), [(10, 0.4), (0.4, 10)])
def test_each_question_keeps_its_own_time_while_one_of_them_logs_in(first_s, second_s):
    """Who has less time is told so in time; who has more is not told what the other was."""
    logins = []

    def log_in(asked):
        logins.append(1)
        time.sleep(1.2)
        kowalski.tokens.append("token")
        return json_reply({"status": "success", "token": "token"})

    ended = {}

    def ask(archive, timeout_s):
        begin = time.monotonic()
        try:
            found = archive.count("ZTF_alerts", timeout_s=timeout_s)
        except NunciusError as error:
            found = type(error)
        ended[timeout_s] = found, time.monotonic() - begin

    with Kowalski(auth=log_in) as kowalski, kowalski.open() as archive:
        threads = [threading.Thread(target=ask, args=(archive, seconds)) for seconds in (first_s, second_s)]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join(15)
    assert ended[0.4][0] is DeadlineError
    assert ended[0.4][1] < 1.0
    assert ended[10][0] == 7
    assert len(logins) <= 2


@pytest.mark.parametrize(
    "answer",
    [
        error("missing password"),
        json_reply({"status": "error", "message": "Unauthorized"}, 401),
        reply(403, b"<html>Forbidden</html>"),
    ],
)
def test_a_login_that_is_refused(answer):
    with Kowalski(auth=answer) as kowalski, kowalski.open() as archive:
        with pytest.raises(LoginError, match="refuses the login of 'me'"):
            archive.catalogs()
        assert kowalski.server.paths() == ["/api/auth"]


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b"<html>Welcome to the hotel's network</html>", {"content-type": "text/html"}),
        json_reply({"status": "success"}),
        json_reply({"status": "success", "token": 7}),
        json_reply(["token"]),
        reply(500, b"Internal Server Error"),
    ],
)
def test_a_login_that_is_answered_by_something_else(answer):
    with Kowalski(auth=answer) as kowalski, kowalski.open() as archive, pytest.raises(ServerError):
        archive.catalogs()


# Secrets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"kowalski+https://me:{PASSWORD}@host",
        f"kowalski+https://{PASSWORD}@host",
        f"kowalski+https://me:{PASSWORD}@host:port",
        f"kowalski+https://me:{PASSWORD}/@host:99",
        f"kowalski+https://me:{PASSWORD}@[::1",
        f"kowalski+https:/me:{PASSWORD}@host",
        f"kowalski+https:me:{PASSWORD}@host",
        f"kowalski+http://me:{PASSWORD}@host:99999999",
        f"kowalsky+https://me:{PASSWORD}@host",
    ],
)
def test_a_url_with_a_password_is_refused_without_quoting_it(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        nuncius.open_archive(url)
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert PASSWORD not in shown.replace(f"open_archive({url!r})", "")


def everything_shown(caught, archive, caplog):
    return "".join(
        [*traceback.format_exception(caught.value), repr(caught.value), repr(vars(caught.value)),
         repr(archive), str(archive), repr(vars(archive._backend.server)), repr(archive._backend), caplog.text,
         pickle.dumps(archive).decode("latin-1"), pickle.dumps(caught.value).decode("latin-1")]
    )  # fmt: skip


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(
            {"auth": lambda asked: error(f"what is {asked.body.decode()}?")}, id="a login that is quoted"
        ),
        pytest.param({"auth": lambda asked: reply(500, asked.body)}, id="a login that is quoted in a page"),
        pytest.param({"auth": json_reply({"token": f"{PASSWORD}\nX: y"})}, id="a token that can't be sent"),
        pytest.param({"auth": json_reply({"token": f"{PASSWORD} é"})}, id="a token that is no ASCII"),
        pytest.param({"auth": None}, id="a login that breaks"),
        pytest.param({"count_documents": None}, id="a query that breaks"),
        pytest.param({"count_documents": reply(500, b"oops")}, id="a query that fails"),
    ],
)
def test_no_secret_is_shown_whatever_fails(answers, caplog):
    caplog.set_level(logging.DEBUG)
    with Kowalski(**answers) as kowalski, kowalski.open() as archive:
        with pytest.raises(NunciusError) as caught:
            archive.count("ZTF_alerts")
        shown = everything_shown(caught, archive, caplog)
        assert PASSWORD not in shown
        assert not [token for token in kowalski.tokens if token in shown]


# What it answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (error("KeyError: 'x'"), FilterError, "KeyError"),
        (error("OperationFailure: unknown operator: $foo"), FilterError, r"\$foo"),
        (
            error("ValidationError: 1 validation error for Query\n__root__\n  Protected collection"),
            ForbiddenError,
            "Protected",
        ),
        (error("… Pipeline uses forbidden stages: {'$out'} …"), ForbiddenError, "out"),
        (error("ExecutionTimeout: operation exceeded time limit"), DeadlineError, "time limit"),
        (error("ServerSelectionTimeoutError: no database"), ServerError, "no database"),
        (error("Forbidden", 403), ForbiddenError, "Forbidden"),
        (error("Not Found", 404), NotFoundError, "Not Found"),
        (error("Internal Server Error", 500), ServerError, "500"),
        (error("status error at 200", 200), ServerError, "status error"),
        (reply(413, b"Maximum request body size 1048576 exceeded"), ServerError, "1048576"),
        (reply(405, b"405: Method Not Allowed"), ServerError, "405"),
        (reply(200, b"<html>Sign in</html>", {"content-type": "text/html"}), ServerError, "text/html"),
        (
            reply(200, b"<html>Page not found</html>", {"content-type": "text/html"}),
            ServerError,
            "not an answer",
        ),
        (reply(200, b"{"), ServerError, "not an answer"),
        (reply(200, b""), ServerError, "empty answer"),
        (reply(200, b"[" * 100_000), ServerError, "not an answer"),
        (reply(200, b'"text"'), ServerError, "not an answer"),
        (json_reply({"status": "success"}), ServerError, "NoneType"),
        (success({"a": 1}), ServerError, "dict"),
        (success(None), ServerError, "NoneType"),
    ],
)
def test_what_is_no_answer_is_a_typed_error(answer, kind, text):
    with Kowalski(find=answer) as kowalski, kowalski.open() as archive:
        with pytest.raises(kind, match=text) as caught:
            archive.find("ZTF_alerts")
        assert type(caught.value) is kind
        assert len(kowalski.queries("find")) == 1, "asked again"
        assert kowalski.server.url in str(caught.value)


def test_documents_are_read_with_all_their_digits():
    document = {"candid": 2475433850215010007, "_id": {"$oid": "507f1f77bcf86cd799439011"}, "t": {"$date": 0}}
    body = json.dumps({"status": "success", "data": [document]})[:-2] + ', {"x": NaN}]}'
    with Kowalski(find=reply(200, body.encode())) as kowalski, kowalski.open() as archive:
        first, second = archive.find("ZTF_alerts")
    assert first["candid"] == 2475433850215010007
    assert first["_id"] == ObjectId("507f1f77bcf86cd799439011")
    assert first["t"] == datetime(1970, 1, 1, tzinfo=UTC)
    assert second["x"] != second["x"]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(status):
    answers = [reply(status, b"busy", {"retry-after": "0"}), success([])]
    with Kowalski(find=lambda _: answers.pop(0)) as kowalski, kowalski.open() as archive:
        assert archive.find("ZTF_alerts").docs == []
        assert len(kowalski.queries("find")) == 2


def test_a_question_that_times_out_is_asked_once():
    with Kowalski(find=lambda _: iter([3.0])) as kowalski, kowalski.open() as archive:
        archive.catalogs()
        with pytest.raises(DeadlineError):
            archive.find("ZTF_alerts", timeout_s=0.3)
        assert len(kowalski.queries("find")) == 1


@pytest.mark.parametrize("answer", [None, error("busy", 503), lambda _: iter([1.0])])
def test_a_catalog_is_dropped_once_or_not_at_all(answer):
    with Kowalski(drop=answer) as kowalski, kowalski.open() as archive:
        with pytest.raises(ForbiddenError, match="allow_write=True"):
            archive.drop("ZTF_alerts")
        assert kowalski.queries("drop") == []
        with pytest.raises((UnreachableError, ServerError, DeadlineError)):
            archive.drop("ZTF_alerts", allow_write=True, timeout_s=0.5)
        assert len(kowalski.queries("drop")) == 1


# What it is asked -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question",
    [
        lambda archive: archive.find("ZTF_alert"),
        lambda archive: archive.count("ZTF_alert"),
        lambda archive: archive.estimated_count("ZTF_alert"),
        lambda archive: archive.distinct("ZTF_alert", "objectId"),
        lambda archive: archive.aggregate("ZTF_alert", []),
        lambda archive: archive.cone_search("ZTF_alert", (1, 2), "2 arcsec"),
        lambda archive: archive.near("ZTF_alert", (1, 2), "2 arcsec"),
    ],
)
def test_a_catalog_that_does_not_exist_is_not_an_empty_answer(question):
    with Kowalski() as kowalski, kowalski.open() as archive:
        with pytest.raises(NotFoundError, match="did you mean ZTF_alerts"):
            question(archive)
        assert {query["query_type"] for query in kowalski.queries()} == {"info"}


def test_a_catalog_that_has_just_been_made_is_found():
    with Kowalski() as kowalski, kowalski.open() as archive:
        archive.catalogs()
        kowalski.answers["info"] = success([*NAMES, "new"])
        assert archive.find("new").docs == []


def test_a_limit_of_nothing_gives_nothing_and_asks_nothing():
    with Kowalski(find=success([{"x": 1}])) as kowalski, kowalski.open() as archive:
        assert archive.find("ZTF_alerts", limit=0).docs == []
        assert archive.count("ZTF_alerts", limit=0) == 0
        assert archive.cone_search("ZTF_alerts", (1, 2), "2 arcsec", limit=0).docs == []
        assert kowalski.queries("find") == []


def test_skip_and_limit_of_a_count_are_applied_here():
    with Kowalski() as kowalski, kowalski.open() as archive:
        assert archive.count("ZTF_alerts", skip=3) == 4
        assert archive.count("ZTF_alerts", skip=9) == 0
        assert archive.count("ZTF_alerts", limit=5) == 5


@pytest.mark.parametrize(
    "when", [datetime(2026, 11, 21, tzinfo=UTC), Time("2026-11-21T00:00:00", scale="utc")]
)
def test_dates_are_made_on_the_server(when):
    with Kowalski() as kowalski, kowalski.open() as archive:
        archive.find("ZTF_alerts", {"created": {"$gte": when}})
        (query,) = kowalski.queries("find")
    text = json.dumps(query["query"]["filter"])
    assert '{"$gte": ["$created", {"$toDate": "2026-11-21T00:00:00+00:00"}]}' in text
    assert '"$oid"' not in text
    assert '"$date"' not in text


@pytest.mark.parametrize(
    "condition", [{"_id": ObjectId(b"123456789012")}, {"_id": {"$in": [ObjectId(b"123456789012")]}}]
)
def test_ids_are_made_on_the_server(condition):
    with Kowalski() as kowalski, kowalski.open() as archive:
        archive.find("ZTF_alerts", condition)
        (query,) = kowalski.queries("find")
    assert '{"$toObjectId": "313233343536373839303132"}' in json.dumps(query["query"]["filter"])


def test_a_date_where_none_can_be_said_is_loud():
    with Kowalski() as kowalski, kowalski.open() as archive:
        with pytest.raises(FilterError, match="created"):
            archive.find("ZTF_alerts", {"created": {"$ne": datetime(2026, 1, 1, tzinfo=UTC)}})
        assert kowalski.queries("find") == []


@pytest.mark.parametrize(
    "pipeline",
    [
        [{"$out": "x"}],
        [{"$merge": {"into": "x"}}],
        [{"$facet": {"a": [{"$out": "x"}]}}],
        [{"$lookup": {"from": "ZTF_alerts_aux", "as": "a", "pipeline": [{"$merge": "x"}]}}],
    ],
)
def test_a_stage_that_writes_is_not_even_sent(pipeline):
    with Kowalski() as kowalski, kowalski.open() as archive:
        with pytest.raises(ForbiddenError):
            archive.aggregate("ZTF_alerts", pipeline)
        with pytest.raises(ForbiddenError):
            archive.query(
                {"query_type": "aggregate", "query": {"catalog": "ZTF_alerts", "pipeline": pipeline}}
            )
        with pytest.raises(ForbiddenError):
            archive.query({"query_type": "drop", "query": {"catalog": "ZTF_alerts"}})
        assert kowalski.queries("aggregate") + kowalski.queries("drop") == []


def test_the_server_is_told_how_long_we_wait():
    with Kowalski() as kowalski, kowalski.open() as archive:
        archive.find("ZTF_alerts", timeout_s=7)
        archive.find("ZTF_alerts")
        short, long = (query["kwargs"]["max_time_ms"] for query in kowalski.queries("find"))
    assert 6000 < short <= 7000
    assert long == 60_000


def test_who_gives_more_time_gets_it():
    with Kowalski() as kowalski, kowalski.open() as archive:
        archive.find("ZTF_alerts", timeout_s=200)
        (query,) = kowalski.queries("find")
    assert 190_000 < query["kwargs"]["max_time_ms"] <= 200_000


# Cones ----------------------------------------------------------------------------------------------------------------

PLACES = {f"obj.{number}": (number * 3.0, number - 50.0) for number in range(100)}


@pytest.mark.parametrize("limit", [None, 1])
def test_cones_keep_the_callers_own_names(limit):
    with Kowalski() as kowalski, kowalski.open() as archive:
        found = archive.cone_search("ZTF_alerts", PLACES, "2 arcsec", limit=limit)
        queries = [query["query"] for query in kowalski.queries("near" if limit else "cone_search")]
    radecs = [query.get("radec") or query["object_coordinates"]["radec"] for query in queries]
    assert sum(map(len, radecs)) == len(PLACES)
    assert not [name for radec in radecs for name in radec if "." in name]
    groups = found.by_position()
    assert list(groups) == list(PLACES)
    for name, (document,) in groups.items():
        assert document["coordinates"]["radec_geojson"]["coordinates"] == [
            PLACES[name][0] - 180,
            PLACES[name][1],
        ]
        assert document["separation_arcsec"] < 1e-6


def test_a_413_is_split_until_it_fits():
    def answer(asked):
        radec = asked.json["query"]["object_coordinates"]["radec"]
        if len(radec) > 30:
            return reply(413, b"Maximum request body size 1048576 exceeded, actual body size 1069070")
        return success(Kowalski.data("cone_search", asked.json["query"]))

    with Kowalski(cone_search=answer) as kowalski, kowalski.open() as archive:
        found = archive.cone_search("ZTF_alerts", PLACES, "2 arcsec")
    assert [len(group) for group in found.by_position().values()] == [1] * 100


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda groups: groups.pop("p3"), id="a position is missing"),
        pytest.param(lambda groups: groups.update(p3=None), id="a position is null"),
        pytest.param(lambda groups: groups.update(p3={}), id="a position is an object"),
        pytest.param(lambda groups: groups.update(p3=[7]), id="a document is a number"),
        pytest.param(lambda groups: groups.update(p3=[{"_id": 1}]), id="a document has no position"),
        pytest.param(lambda groups: groups.clear(), id="all are missing"),
    ],
)
def test_an_answer_that_is_short_is_not_taken_for_empty(spoil):
    def answer(asked):
        data = Kowalski.data("cone_search", asked.json["query"])
        spoil(data["ZTF_alerts"])
        return success(data)

    with Kowalski(cone_search=answer) as kowalski, kowalski.open() as archive, pytest.raises(NunciusError):
        archive.cone_search("ZTF_alerts", PLACES, "2 arcsec")


def test_what_lies_outside_is_cut_here_and_the_nearest_come_first():
    def answer(asked):
        near = [star(1.0, 2.0 + arcsec / 3600, d=arcsec) for arcsec in (1.9, 0.5, 2.0005, 1.0)]
        return success({"ZTF_alerts": {"p0": near}})

    with Kowalski(cone_search=answer, near=answer) as kowalski, kowalski.open() as archive:
        found = archive.cone_search("ZTF_alerts", (1.0, 2.0), "2 arcsec")
        assert [document["d"] for document in found] == [0.5, 1.0, 1.9]
        found = archive.cone_search("ZTF_alerts", (1.0, 2.0), "2 arcsec", limit=2)
        assert [document["d"] for document in found] == [0.5, 1.0]
        found = archive.near("ZTF_alerts", (1.0, 2.0), "2 arcsec", min_distance="0.9 arcsec")
        assert [document["d"] for document in found] == [1.0, 1.9]


def test_a_filter_on_the_position_does_not_take_the_place_of_the_cone():
    """The server joins both by their names, so that one of them would be lost."""
    condition = {"coordinates.radec_geojson": {"$exists": True}}
    with Kowalski() as kowalski, kowalski.open() as archive:
        archive.cone_search("ZTF_alerts", (1.0, 2.0), "2 arcsec", filter=condition)
        archive.cone_search("ZTF_alerts", (1.0, 2.0), "2 arcsec", filter=condition, limit=1)
        for query in kowalski.queries("cone_search") + kowalski.queries("near"):
            assert query["query"]["catalogs"]["ZTF_alerts"]["filter"] == {"$and": [condition]}


@pytest.mark.parametrize(
    ("projection", "seen"),
    [
        ({"candid": 1}, {"_id", "candid"}),
        ({"candid": 1, "_id": 0}, {"candid"}),
        ({"coordinates": 0}, {"_id", "candid"}),
        ({"coordinates.radec_geojson": 0}, {"_id", "candid"}),
        (["coordinates.radec_geojson.coordinates"], {"_id", "coordinates"}),
        (["coordinates.radec_geojson.type", "candid"], {"_id", "coordinates", "candid"}),
        (["coordinates.radec_geojson"], {"_id", "coordinates"}),
        (["coordinates"], {"_id", "coordinates"}),
    ],
)
def test_the_position_is_asked_for_and_taken_out_again(projection, seen):
    def answer(asked):
        from nuncius.archives.language import Projection

        asked_for = asked.json["query"]["catalogs"]["ZTF_alerts"].get("projection")
        return success({"ZTF_alerts": {"p0": [Projection(asked_for).apply(star(1.0, 2.0, candid=7))]}})

    with Kowalski(cone_search=answer) as kowalski, kowalski.open() as archive:
        (document,) = archive.cone_search("ZTF_alerts", (1.0, 2.0), "2 arcsec", projection=projection)
    assert set(document) - {"separation_arcsec", "input_index"} == seen
    place = document.get("coordinates", {}).get("radec_geojson", {})
    wanted = projection if isinstance(projection, list) else []
    if "coordinates.radec_geojson.coordinates" in wanted:
        assert place == {"coordinates": [-179.0, 2.0]}
    if "coordinates.radec_geojson.type" in wanted:
        assert place == {"type": "Point"}


def test_what_failed_is_named_and_the_rest_is_there():
    def answer(asked):
        radec = asked.json["query"]["object_coordinates"]["radec"]
        if any(ra == 9.0 for ra, _ in radec.values()):
            return reply(413, b"never")
        return success(Kowalski.data("cone_search", asked.json["query"]))

    with Kowalski(cone_search=answer) as kowalski, kowalski.open() as archive:
        with pytest.raises(PartialResultError) as caught:
            archive.cone_search("ZTF_alerts", PLACES, "2 arcsec")
        assert set(PLACES) - set(caught.value.result.by_position()) == {"obj.3"}
        found = archive.cone_search("ZTF_alerts", PLACES, "2 arcsec", allow_partial=True)
        assert not found.complete
        assert [list(failure.indexes) for failure in found.failures] == [[3]]


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b"<html>Sign in</html>", {"content-type": "text/html"}),
        json_reply({"status": "error", "message": "ztf alert 1 not found"}, 400),
        json_reply({"status": "error", "message": "no skymap found"}, 200),
    ],
)
def test_a_page_is_not_taken_for_an_image(answer):
    path = "/api/cutouts/ztf/1/science/fits"
    with (
        Kowalski(**{path: answer}) as kowalski,
        kowalski.open() as archive,
        pytest.raises((ServerError, NotFoundError)),
    ):
        archive.cutout(1, "science")


def test_an_image_is_the_same_bytes():
    image = bytes(range(256)) * 9
    answer = reply(200, image, {"content-type": "image/fits"})
    path = "/api/cutouts/ztf/2475433850215010007/science/fits"
    with Kowalski(**{path: answer}) as kowalski, kowalski.open() as archive:
        assert archive.cutout(2475433850215010007, "science") == image


# Both colours ---------------------------------------------------------------------------------------------------------


def test_the_async_face_asks_the_same():
    async def whole(url):
        async with aio.open_archive(f"kowalski+{url}", credentials=("me", PASSWORD)) as archive:
            found, count = await asyncio.gather(
                archive.cone_search("ZTF_alerts", PLACES, "2 arcsec"), archive.count("ZTF_alerts")
            )
            return list(found.by_position()), count

    with Kowalski() as kowalski:
        assert asyncio.run(whole(kowalski.server.url)) == (list(PLACES), 7)
        assert len(kowalski.tokens) == 1
