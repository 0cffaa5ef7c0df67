"""The conversation with a dserver, fed by hand: tokens and their lives, retries, and what each status means."""

from __future__ import annotations

import base64
import html
import json
import math
import pickle
import time
from urllib.parse import quote

import pytest

from nuncius._core.operations import Call, Deadline, Gather, Once, Outcome, Request, Response, Sleep
from nuncius.credentials import Credentials, Token
from nuncius.datasets import asking, operations
from nuncius.datasets.configuration import Settings
from nuncius.datasets.service import DServerService, escaped, lifetime, place
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FilterError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    ServerError,
    UnreachableError,
    UnsupportedError,
)

URL, TOKENS = "http://dserver.example:5000", "http://tokens.example/token"
PASSWORD = 'p "q\\ü<&>  x'


def soon():
    return Deadline(60)


def written(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def jwt(**claims):
    return f"{written({'alg': 'RS256'})}.{written(claims)}.c2lnbmF0dXJl"


def answer_of(value=None, status=200, headers=None, body=None):
    return Response(status, headers or {}, json.dumps(value).encode() if body is None else body)


def raising(operation, result):
    return operation.throw(result) if isinstance(result, Exception) else operation.send(result)


def play(operation, answer, slept=None):
    """Run an operation by hand: `answer` makes the response to each request; how long it sleeps is noted."""
    try:
        need = next(operation)
        while True:
            match need:
                case Request():
                    result = answer(need)
                case Gather():
                    result = [outcome_of(part, answer, slept) for part in need.operations]
                case Once():
                    result = attempt(lambda need=need: play(need.make(), answer, slept))
                case Call():
                    result = attempt(lambda need=need: need.function(*need.args))
                case Sleep():
                    result = None
                    if slept is not None:
                        slept.append(need.seconds)
            need = raising(operation, result)
    except StopIteration as end:
        return end.value


def attempt(function):
    try:
        return function()
    except Exception as error:
        return error


def outcome_of(operation, answer, slept):
    try:
        return Outcome(play(operation, answer, slept))
    except Exception as error:
        return Outcome(error=error)


class Server:
    """A dserver with a token generator; it takes the tokens that it made and that have not ended."""

    def __init__(self, life_s=900.0, *, says_iat=True, login=None):
        self.life_s, self.says_iat, self.login = life_s, says_iat, login
        self.logins, self.asked, self.good = 0, 0, set()

    def __call__(self, request):
        if request.url == TOKENS:
            self.logins += 1
            assert json.loads(request.body) == {"username": "vera", "password": PASSWORD}
            return self.login or answer_of({"status": "success", "token": self.make()})
        self.asked += 1
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.good:
            return answer_of({"msg": "Token has expired"}, 401)
        return answer_of({"readme": "text"})

    def make(self):
        now = time.time()
        claims = {"exp": now + self.life_s, "jti": self.logins} | ({"iat": now} if self.says_iat else {})
        token = jwt(**claims)
        self.good = {token}
        return token


def service_of(*, token=None, login=True, token_url=TOKENS, **options):
    settings = Settings(
        URL,
        token=None if token is None else Token(token),
        token_url=token_url,
        credentials=Credentials("vera", PASSWORD) if login else None,
        **options,
    )
    return DServerService(settings, interactive=False)


def readme(service, server, slept=None):
    return play(operations.readme(service, "s3://b/u", soon()), server, slept)


# Tokens and their lives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "known"),
    [
        (jwt(iat=100, exp=1000), (100, 1000)),
        (jwt(exp=1000.5), (None, 1000.5)),
        (jwt(iat=100), (100, math.inf)),
        (jwt(), (None, math.inf)),
        (jwt(iat="100", exp="1000"), (None, math.inf)),
        (jwt(iat=True, exp=None), (None, math.inf)),
        (jwt(exp=[1]), (None, math.inf)),
        (jwt(exp=1e300, iat=-1e300), (None, math.inf)),
        (jwt(exp=10**400), (None, math.inf)),
        (jwt(exp=math.nan, iat=math.inf), (None, math.inf)),
        ("a.b.c", (None, math.inf)),
        ("..", (None, math.inf)),
        ("opaque", (None, math.inf)),
        (f"a.{written([1, 2])}.c", (None, math.inf)),
        (f"a.{base64.urlsafe_b64encode(b'[' * 20000).decode()}.c", (None, math.inf)),
        (f"a.{base64.urlsafe_b64encode(bytes([255, 254] * 9)).decode()}.c", (None, math.inf)),
        (f"a.{'e' * (1 << 17)}.c", (None, math.inf)),
        (f"a.{written({'exp': 5})}.c.d", (None, math.inf)),
        ("ü.ü.ü", (None, math.inf)),
    ],
)
def test_the_life_of_a_token_is_read_from_it(token, known):
    assert lifetime(token) == known


@pytest.mark.parametrize("says_iat", [True, False])
@pytest.mark.parametrize(("life_s", "lasts_s"), [(900, 870), (60, 30), (59, 29.5), (15, 7.5), (2, 1), (0, 0)])
def test_a_token_is_renewed_before_it_ends(monkeypatch, life_s, lasts_s, says_iat):
    server, service = Server(life_s, says_iat=says_iat), service_of()
    readme(service, server)
    assert service._ends - time.monotonic() == pytest.approx(lasts_s, abs=0.5)
    if lasts_s:
        readme(service, server)
        assert server.logins == 1
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + lasts_s + 1)
    readme(service, server)
    assert server.logins == 2
    assert server.asked == 2 + bool(lasts_s)  # never an answer that a token is dead


def test_a_clock_that_is_wrong_makes_no_difference(monkeypatch):
    server, service = Server(900), service_of()
    token = server.make()
    server.make = lambda: token
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86400)
    for _ in range(3):
        readme(service, server)
    assert server.logins == 1


@pytest.mark.parametrize("life_s", [900, 15, 2])
def test_a_given_token_is_used_and_not_probed(life_s):
    server = Server(life_s)
    service = service_of(token=server.make())
    readme(service, server)
    assert (server.asked, server.logins) == (1, 0)


def test_a_given_token_that_has_ended_is_renewed_without_asking():
    server = Server()
    service = service_of(token=jwt(iat=100, exp=1000))
    readme(service, server)
    assert (server.asked, server.logins) == (1, 1)


def test_a_given_token_that_has_ended_is_sent_all_the_same_where_nobody_can_log_in():
    server = Server()
    service = service_of(token=jwt(iat=100, exp=1000), login=False)
    with pytest.raises(
        LoginError, match=r"refuses the token from token=: Token has expired\. Get a new one"
    ) as caught:
        readme(service, server)
    assert (server.asked, caught.value.status) == (1, 401)


def test_a_token_that_dies_is_renewed_once():
    server, service = Server(), service_of(token="opaque")
    assert readme(service, server) == "text"
    assert (server.asked, server.logins) == (2, 1)


@pytest.mark.parametrize(
    "refusal",
    [
        answer_of({"msg": "Token has expired"}, 401),
        answer_of({"msg": "Missing Authorization Header"}, 401),
        answer_of({"msg": "Not enough segments"}, 422),
    ],
)
def test_a_new_token_that_is_refused_too_is_an_error_and_no_loop(refusal):
    server = Server()

    def answer(request):
        return server(request) if request.url == TOKENS else refusal

    with pytest.raises(LoginError, match="refuses also a new token"):
        readme(service_of(), answer)
    assert server.logins == 2


def test_a_user_who_is_not_registered_gets_no_new_token():
    server = Server()

    def answer(request):
        return (
            server(request)
            if request.url == TOKENS
            else answer_of({"code": 401, "status": "Unauthorized"}, 401)
        )

    with pytest.raises(LoginError, match="its user is not registered there"):
        readme(service_of(), answer)
    assert server.logins == 1


def test_a_question_that_is_not_understood_gets_no_new_token():
    problem = answer_of(
        {"code": 422, "status": "Unprocessable Entity", "errors": {"json": {"uuids": ["No."]}}}, 422
    )
    server = Server()
    with pytest.raises(FilterError, match=r"uuids: No\."):
        readme(service_of(), lambda request: server(request) if request.url == TOKENS else problem)
    assert server.logins == 1


def test_side_by_side_there_is_one_login():
    server, service = Server(), service_of()
    uris = [(f"s3://b/{n}", None) for n in range(20)]
    found = play(operations.many(service, uris, ("readme",), 8, soon, None, lambda _: None), server)
    assert [details.readme for details in found] == ["text"] * 20
    assert (server.asked, server.logins) == (20, 1)


@pytest.mark.parametrize(
    "ask",
    [
        lambda service, uris: operations.many(service, uris, ("readme",), 8, soon, None, lambda _: None),
        lambda service, uris: operations.find_items(service, "*", uris, soon, None, lambda _: None),
    ],
)
def test_side_by_side_a_refused_login_is_tried_once(ask):
    server = Server(login=answer_of({"status": "fail"}))
    with pytest.raises(LoginError, match="refuses the login of 'vera'"):
        play(ask(service_of(), [(f"s3://b/{n}", None) for n in range(20)]), server)
    assert (server.asked, server.logins) == (0, 1)


def test_without_any_login_the_server_is_asked_and_says_what_it_wants():
    service = service_of(login=False, token_url=None)
    with pytest.raises(
        LoginError, match=r"wants a token, and there is none\. Set DSERVER_TOKEN.*GENERATOR_URL"
    ):
        readme(service, lambda _: answer_of({"msg": "Missing Authorization Header"}, 401))
    assert readme(service, lambda request: answer_of({"readme": str(dict(request.headers))})) == "{}"


def test_a_server_that_wants_no_token_gets_none():
    service = service_of(token="opaque", authenticate=False)
    assert readme(service, lambda request: answer_of({"readme": str(dict(request.headers))})) == "{}"
    with pytest.raises(LoginError, match="authentication is switched off"):
        readme(service, lambda _: answer_of({"msg": "Missing Authorization Header"}, 401))


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        (answer_of({"status": "fail"}), LoginError, "refuses the login of 'vera' \\(from credentials=\\)"),
        (answer_of({"status": "fail"}, 401), LoginError, "refuses the login"),
        (answer_of({"token": 5}), LoginError, "refuses the login"),
        (answer_of(status=400, body=b""), ServerError, "HTTP 400, an empty answer"),
        (answer_of(status=200, body=b"<html>hello</html>"), ServerError, "Is it the token generator"),
        (answer_of(status=302, body=b""), ServerError, "HTTP 302"),
        (answer_of({"code": 404}, 404), ServerError, "HTTP 404"),
        (answer_of({"token": ""}), ConfigurationError, "can't be sent"),
        (answer_of({"token": "a b"}), ConfigurationError, "can't be sent"),
        (answer_of({"token": "tokén"}), ConfigurationError, "can't be sent"),
        (answer_of([{"token": "a"}]), ServerError, "gives no token"),
        (answer_of(status=500, body=f"no {PASSWORD} for you".encode()), ServerError, r"no \*\*\* for you"),
        (answer_of({"detail": PASSWORD}, 500), ServerError, "HTTP 500"),
    ],
)
def test_what_a_token_generator_may_answer(said, error, words):
    with pytest.raises(error, match=words) as caught:
        readme(service_of(), Server(login=said))
    for secret in (PASSWORD, json.dumps(PASSWORD)[1:-1], "tokén", "'a b'"):
        assert secret not in str(caught.value) + repr(caught.value) + repr(vars(caught.value))


@pytest.mark.parametrize("status", [502, 503, 504, 429])
def test_a_token_generator_that_is_busy_is_asked_again(status):
    server, slept = Server(), []
    answers = iter([answer_of(status=status, body=b"busy"), UnreachableError("broken")])

    def answer(request):
        return next(answers, None) or server(request) if request.url == TOKENS else server(request)

    assert readme(service_of(), answer, slept) == "text"
    assert len(slept) == 2


def test_who_types_a_password_is_asked_once(monkeypatch):
    asked = []

    def typed(url, username):
        asked.append((url, username))
        return Credentials("vera", PASSWORD, source="what was typed")

    monkeypatch.setattr(asking, "somebody_is_there", lambda: True)
    monkeypatch.setattr(asking, "ask", typed)
    settings = Settings(URL, token_url=TOKENS, username="vera")
    service, server = DServerService(settings), Server()
    readme(service, server)
    server.good.clear()
    readme(service, server)
    assert asked == [(TOKENS, "vera")]
    assert server.logins == 2


def test_a_typed_password_that_is_wrong_is_not_kept(monkeypatch):
    monkeypatch.setattr(asking, "somebody_is_there", lambda: True)
    monkeypatch.setattr(asking, "ask", lambda *_: Credentials("vera", PASSWORD, source="what was typed"))
    service = DServerService(Settings(URL, token_url=TOKENS))
    with pytest.raises(LoginError, match="what was typed"):
        readme(service, Server(login=answer_of({"status": "fail"})))
    assert service.credentials is None
    assert readme(service, Server()) == "text"


def test_nobody_is_there_where_standard_input_is_closed(monkeypatch, tmp_path):
    with (tmp_path / "in").open("w+") as stream:
        pass
    monkeypatch.setattr("sys.stdin", stream)
    assert asking.somebody_is_there() is False
    monkeypatch.setattr("sys.stdin", None)
    assert asking.somebody_is_there() is False


# Asking again -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_what_a_busy_server_is_asked_again(status, method):
    answers, slept = (
        iter([answer_of(status=status, body=b"busy"), UnreachableError("cut"), answer_of([])]),
        [],
    )
    service = service_of(token="opaque", login=False)
    answer, _ = play(service.ask(method, "uris", soon()), lambda _: next(answers), slept)
    assert answer == []
    assert len(slept) == 2
    assert all(0.1 < seconds < 1 for seconds in slept)


def test_how_long_a_server_asks_to_wait():
    slept = []
    answers = iter([answer_of(status=503, headers={"retry-after": "7"}, body=b""), answer_of([])])
    play(service_of(token="opaque").ask("GET", "uris", soon()), lambda _: next(answers), slept)
    assert slept == [7.0]


def test_a_server_that_asks_for_an_hour_is_not_waited_for():
    slept = []
    with pytest.raises(ServerError, match="asked too often; try again in 3600 s") as caught:
        play(
            service_of(token="opaque").ask("GET", "uris", soon()),
            lambda _: answer_of(status=429, headers={"retry-after": "3600"}, body=b""),
            slept,
        )
    assert (slept, caught.value.status) == ([], 429)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 413, 422, 500, 501])
def test_what_is_asked_once(status):
    asked = []

    def answer(request):
        asked.append(request)
        return answer_of({"code": status, "status": "No"}, status)

    with pytest.raises((ServerError, ConfigurationError, ForbiddenError, NotFoundError, FilterError)):
        readme(service_of(token="opaque"), answer)
    assert len(asked) == 1


def test_a_server_that_stays_away_is_given_up():
    with pytest.raises(UnreachableError) as caught:
        readme(service_of(token="opaque"), lambda _: UnreachableError("nobody"), [])
    assert caught.value.attempts == 4


def test_what_took_too_long_is_not_asked_again():
    asked = []

    def answer(request):
        asked.append(request)
        return DeadlineError("late")

    with pytest.raises(DeadlineError):
        readme(service_of(token="opaque"), answer)
    assert len(asked) == 1


# What each status means -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said", "error", "words"),
    [
        (400, {"code": 400, "status": "Bad Request"}, ConfigurationError, "does not accept s3://b/u: Bad Request"),
        (401, {"code": 401, "status": "Unauthorized"}, LoginError, "not registered there"),
        (403, {"code": 403, "status": "Forbidden"}, ForbiddenError, "unknown there, or not yours"),
        (404, {"code": 404, "status": "Not Found"}, NotFoundError, "does not have s3://b/u"),
        (422, {"errors": {"json": {"a": ["No.", "Never."]}, "query": {"b": ["Bad."]}}}, FilterError, "a: No. Never.; b: Bad."),
        (422, {"errors": {"query": {"sort": {"0": ["Not a field."]}}}}, FilterError, "sort: Not a field."),
        (422, {"errors": 5}, FilterError, "does not understand"),
        (422, {"errors": {"json": [{"deep": 1}]}}, FilterError, "does not understand"),
        (422, {"errors": None, "status": "Unprocessable Entity"}, FilterError, "Unprocessable Entity"),
        (500, {"code": 500, "status": "Internal Server Error"}, ServerError, "HTTP 500: Internal Server Error"),
        (418, {"code": 418}, ServerError, "HTTP 418"),
    ],
)  # fmt: skip
def test_each_refusal_in_our_words(status, said, error, words):
    with pytest.raises(error) as caught:
        readme(service_of(token="opaque", login=False), lambda _: answer_of(said, status))
    assert words in str(caught.value)
    assert (caught.value.status, caught.value.url, caught.value.service) == (status, URL, "dserver")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.status) == (type(caught.value), str(caught.value), status)


@pytest.mark.parametrize("status", [401, 403, 404, 422, 500, 502])
def test_pages_of_proxies(status):
    page = b"<html><body><h1>go away \x1b[31m</h1>\x00</body></html>"
    with pytest.raises((LoginError, ForbiddenError, NotFoundError, FilterError, ServerError)) as caught:
        readme(service_of(token="opaque", login=False), lambda _: answer_of(status=status, body=page))
    assert caught.value.status == status
    assert str(caught.value).isprintable()
    if status == 401:  # who says so is no dserver
        assert "not registered" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status):
    headers = {"location": "http://elsewhere.example/login?next=\x1b"}
    with pytest.raises(
        ConfigurationError, match=r"sends us elsewhere: http://elsewhere\.example/login"
    ) as caught:
        readme(service_of(token="opaque"), lambda _: answer_of(status=status, headers=headers, body=b""))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("deep", [10, 200, 450, 900])
def test_reasons_that_are_nested_deeply(deep):
    body = b'{"errors":' + b'{"a":' * deep + b'["no"]' + b"}" * deep + b"}"
    with pytest.raises(FilterError):
        readme(service_of(token="opaque"), lambda _: answer_of(status=422, body=body))


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b'"text', b"[" * 100_000, b"\xff\xfe", b"nonsense"])
def test_an_answer_that_is_no_json(body):
    with pytest.raises(ServerError) as caught:
        readme(service_of(token="opaque"), lambda _: answer_of(body=body))
    assert caught.value.url == URL


@pytest.mark.parametrize(
    "said", [None, [], 5, "text", {}, {"readme": None}, {"readme": 5}, {"readme": ["a"]}]
)
def test_an_answer_that_is_no_readme(said):
    with pytest.raises(ServerError, match="a readme was expected"):
        readme(service_of(token="opaque"), lambda _: answer_of(said))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (operations.manifest, "an object"),
        (operations.data_set, "an object"),
        (operations.tags, "a list of tags"),
        (operations.annotations_of, "an object with 'annotations'"),
    ],
)
@pytest.mark.parametrize("said", [None, [], 5, "text", {"tags": 5, "annotations": 5}])
def test_answers_that_are_something_else(ask, words, said):
    if isinstance(said, dict) and words == "an object":
        said = [said]
    with pytest.raises(ServerError, match=words):
        play(ask(service_of(token="opaque"), "s3://b/u", soon()), lambda _: answer_of(said))


def test_nothing_is_a_good_answer_to_deleting():
    answer, response = play(
        service_of(token="opaque").ask("DELETE", "x", soon()), lambda _: answer_of(status=204, body=b"")
    )
    assert (answer, response.status) == (None, 204)


@pytest.mark.parametrize(
    ("path", "package"),
    [
        ("mongo/query", "dserver-direct-mongo-plugin"),
        ("mongo/aggregate", "dserver-direct-mongo-plugin"),
        ("graph/uuids/x", "dserver-dependency-graph-plugin"),
    ],
)
def test_a_missing_plugin_is_named(path, package):
    asked = []

    def answer(request):
        asked.append(request.url)
        if request.url.endswith("config/versions"):
            return answer_of({"versions": {"dservercore": "0.22.0", "other\x1b[2J\n": "1"}})
        return answer_of({"code": 404}, 404)

    service = service_of(token="opaque")
    for _ in range(2):
        with pytest.raises(UnsupportedError, match=package) as caught:
            play(service.ask("POST", path, soon(), json={}), answer)
        assert str(caught.value).isprintable()
    assert len(asked) == 3  # the versions are looked at once


@pytest.mark.parametrize(("path", "switch"), [("mongo/query", "QUERY"), ("mongo/aggregate", "AGGREGATION")])
def test_what_is_switched_off_is_said(path, switch):
    versions = answer_of({"versions": {"dservercore": "0.22.0", "dserver_direct_mongo_plugin": "0.4.2"}})
    with pytest.raises(UnsupportedError, match=f"DSERVER_ALLOW_DIRECT_{switch}"):
        play(
            service_of(token="opaque").ask("POST", path, soon(), json={}),
            lambda request: versions if "versions" in request.url else answer_of({"code": 404}, 404),
        )


# Secrets in answers -----------------------------------------------------------------------------------------------------

LONG = jwt(sub="vera", exp=1e12, extra="x" * 400)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 422, 429, 500])
@pytest.mark.parametrize(
    "said",
    [
        f"<html>you sent Bearer {LONG}</html>",
        f"<html>{' ' * 100}{'x' * 150}{LONG}",
        json.dumps({"msg": f"bad token {LONG}"}),
        json.dumps({"msg": f"{'x' * 1950}{LONG}"}),
        json.dumps({"status": LONG, "errors": {"json": {LONG: [LONG]}}}),
        LONG,
    ],
)
def test_a_token_that_an_answer_quotes_is_in_no_message(status, said):
    with pytest.raises(
        (LoginError, ForbiddenError, NotFoundError, FilterError, ServerError, ConfigurationError)
    ) as caught:
        readme(service_of(token=LONG, login=False), lambda _: answer_of(status=status, body=said.encode()))
    shown = (
        str(caught.value) + repr(caught.value) + repr(vars(caught.value)) + str(pickle.dumps(caught.value))
    )
    assert LONG not in shown
    assert LONG[:40] not in shown


@pytest.mark.parametrize("before", [0, 150, 195, 1950, 1990])
def test_a_token_of_any_kind_is_hidden_before_what_quotes_it_is_cut(before):
    token = "opaque-0123456789-of-some-other-maker"
    for body in (f"{'x' * before}{token}", json.dumps({"msg": f"{'x' * before}{token}"})):
        with pytest.raises((LoginError, ServerError)) as caught:
            readme(
                service_of(token=token, login=False),
                lambda _, body=body: answer_of(status=500, body=body.encode()),
            )
        assert "opaque" not in str(caught.value)


def test_a_token_that_was_replaced_meanwhile_is_in_no_message():
    service = service_of(token=LONG)

    def answer(request):
        service._token = Token("another")
        service.given_token = None
        return answer_of({"msg": f"what is {request.headers['Authorization']}"}, 500)

    with pytest.raises(ServerError, match="what is Bearer ") as caught:
        readme(service, answer)
    assert LONG[:40] not in str(caught.value)


@pytest.mark.parametrize(
    "write",
    [
        str,
        lambda text: json.dumps({"got": text}),
        html.escape,
        lambda text: html.escape(text, quote=False),
        quote,
    ],
)
@pytest.mark.parametrize("before", [0, 150, 195])
def test_a_password_that_an_answer_quotes_is_in_no_message(write, before):
    settings = Settings(URL, token_url=TOKENS, credentials=Credentials("vera", 's3cret<&>"ü\\/  wrd'))
    body = ("x" * before + write('s3cret<&>"ü\\/  wrd')).encode()
    with pytest.raises(ServerError) as caught:
        readme(DServerService(settings, interactive=False), lambda _: answer_of(status=500, body=body))
    assert "s3cret" not in str(caught.value)
    assert "wrd" not in str(caught.value)


# Addresses --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("s3://bucket/u", "s3/bucket/u"),
        ("file://host/a b/c+d/ü", "file/host/a%20b/c%2Bd/%C3%BC"),
        ("smb://share/100%/x%20y", "smb/share/100%25/x%2520y"),
        ("s3://b/?a=b#c&d", "s3/b/%3Fa%3Db%23c%26d"),
        ("s3://b/a://c", "s3/b/a%3A//c"),
        ("s3://b/...", "s3/b/..."),
        ("s3://b/\n\\", "s3/b/%0A%5C"),
        ("file:///a", "file//a"),
        ("s3://b/名前", "s3/b/%E5%90%8D%E5%89%8D"),
    ],
)
def test_how_a_uri_stands_in_a_path(uri, path):
    assert place(uri) == path


@pytest.mark.parametrize(
    "uri",
    [
        "s3://../../users/bob",
        "s3://b/../x",
        "s3://./b",
        "..",
        ".",
        "s3://b/..",
        "",
        "s3://\ud800",
        None,
        5,
        b"s3://b",
    ],
)
def test_what_is_no_uri(uri):
    with pytest.raises(FilterError):
        place(uri)


@pytest.mark.parametrize("name", ["", ".", "..", "\ud800"])
def test_what_is_no_name(name):
    with pytest.raises(FilterError):
        escaped(name)
    assert escaped("a/b c..") == "a%2Fb%20c.."


@pytest.mark.parametrize("timeout_s", [0, -1, math.nan, "5", True, [1]])
def test_times_that_are_none(timeout_s):
    with pytest.raises(ConfigurationError, match="timeout_s="):
        service_of().check_timeout(timeout_s)


@pytest.mark.parametrize("timeout_s", [math.inf, 1e300, 10**12])
def test_times_that_no_socket_can_count(timeout_s):
    assert service_of().check_timeout(timeout_s) == 1e9
    assert service_of().check_timeout(None) is None


@pytest.mark.parametrize("value", [{"a": math.nan}, {"a": object()}, {"a": {1, 2}}, {"a": b"x"}])
def test_what_can_not_be_sent(value):
    with pytest.raises(FilterError, match="can't be sent as JSON"):
        play(service_of(token="opaque").ask("POST", "uris", soon(), json=value), lambda _: answer_of([]))


def test_what_can_not_be_sent_because_it_has_no_end():
    value = {}
    value["self"] = value
    with pytest.raises(FilterError, match="can't be sent as JSON"):
        play(service_of(token="opaque").ask("POST", "uris", soon(), json=value), lambda _: answer_of([]))
