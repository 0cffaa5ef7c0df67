"""A dserver that is ill, slow or hostile, over real sockets and in both colours: typed errors, in time, without a secret."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import inspect
import json
import logging
import os
import pickle
import signal
import socket
import ssl
import threading
import time
import traceback

import pytest

import nuncius
from http_support import Loopback, json_reply, reply
from nuncius import aio
from nuncius._core import retry
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
    TlsError,
    UnreachableError,
)

PASSWORD = "pass'w<ö>rd \\ 123"
TOKEN = ".".join(
    base64.urlsafe_b64encode(part).rstrip(b"=").decode()
    for part in (b'{"alg":"RS256"}', b'{"sub":"vera","exp":9999999999}', b"signature" * 20)
)
URI = "s3://night/origin"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    for name in list(os.environ):
        if name.startswith(("DSERVER_", "DTOOL_", "NUNCIUS_DSERVER")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Wait hardly at all before asking again."""
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.01)


async def done(value):
    return await value if inspect.isawaitable(value) else value


@pytest.fixture(params=["sync", "async"])
def opened(request):
    """Open a server in either colour, as a context manager."""

    @contextlib.asynccontextmanager
    async def of_colour(server, **options):
        opener = nuncius.open_dserver if request.param == "sync" else aio.open_dserver
        options = {"token": TOKEN, "interactive": False} | options
        dserver = opener(server if isinstance(server, str) else server.url, **options)
        try:
            yield dserver
        finally:
            await done(dserver.close())

    of_colour.colour = request.param
    return of_colour


@pytest.fixture
def discreet(caplog):
    """Check that an error, and what was logged, shows no secret in any way."""
    caplog.set_level(logging.DEBUG)

    def check(error, *secrets):
        shown = "".join(traceback.format_exception(error))
        one = error
        while one is not None:
            shown += f"{one}{one!r}{one.args!r}{vars(one) if isinstance(one, NunciusError) else ''}"
            one = one.__cause__ or one.__context__
        copy = pickle.loads(pickle.dumps(error))
        assert str(copy) == str(error)
        shown += f"{copy!r}{vars(copy)!r}"
        shown += "".join(f"{record.getMessage()}{record.args!r}" for record in caplog.records)
        for secret in secrets:
            for part in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], secret[:12]):
                assert part not in shown

    return check


def good(asked):
    """Answer every question about a data set."""
    kind = asked.path.split("/")[1]
    return json_reply(
        {
            "readmes": {"readme": "a: 1"},
            "tags": {"tags": ["x"]},
            "annotations": {"annotations": {}},
            "manifests": {"items": {}},
            "uris": {"uri": URI, "name": "origin"}
            if asked.method == "GET"
            else [{"uri": URI, "name": "origin"}],
            "me": {"username": "vera"},
        }.get(kind, {})
    )


# What the server answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ConfigurationError),
        (401, LoginError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (422, FilterError),
        (429, ServerError),
        (500, ServerError),
        (502, ServerError),
        (301, ConfigurationError),
        (200, ServerError),
    ],
)
async def test_pages_that_quote_what_was_sent(opened, discreet, status, error):
    def answer(asked):
        quoted = f"<html><body>no: {asked.headers['authorization']} \x1b[31m</body></html>"
        return reply(
            status, quoted.encode(), {"content-type": "text/html", "location": "http://127.0.0.1:1/"}
        )

    with Loopback(answer) as server:
        async with opened(server) as dserver:
            for call in (
                dserver.search,
                lambda: dserver.readme(URI),
                dserver.me,
                lambda: dserver.get_many([URI]),
            ):
                with pytest.raises((error, PartialResultError)) as caught:
                    await done(call())
                assert str(caught.value).isprintable()
                discreet(caught.value, TOKEN)


@pytest.mark.parametrize("msg", [f"bad token {TOKEN}", f"{'x' * 1990}{TOKEN}", TOKEN * 3])
async def test_a_token_that_is_refused_with_its_own_words(opened, discreet, msg):
    with Loopback(lambda _: json_reply({"msg": msg}, 422)) as server:
        async with opened(server) as dserver:
            with pytest.raises(LoginError, match=r"refuses the token from token=") as caught:
                await done(dserver.me())
    discreet(caught.value, TOKEN)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n[",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n[1,",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 12\r\n\r\n"
        + gzip.compress(b"[]" * 500, mtime=0)[:12],
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope",
        b"HTTP/1.1 200",
        b"nonsense\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"",
    ],
)
async def test_answers_that_break_off_are_asked_for_again_and_then_given_up(opened, discreet, broken):
    ill = 2

    def answer(asked):
        return [broken] if len(server.requests) <= ill else good(asked)

    with Loopback(answer) as server:
        async with opened(server) as dserver:
            assert await done(dserver.tags(URI)) == ["x"]
            ill = 100
            with pytest.raises((UnreachableError, ServerError)) as caught:
                await done(dserver.tags(URI))
            assert caught.value.attempts == 4
            discreet(caught.value, TOKEN)


async def test_an_answer_that_is_packed_in_a_way_nobody_asked_for(opened):
    body = reply(200, b"[]", {"content-encoding": "br"})
    with Loopback(lambda _: body) as server:
        async with opened(server) as dserver:
            with pytest.raises(ServerError, match="packs its answer as 'br'"):
                await done(dserver.search())


async def test_a_connection_that_was_closed_meanwhile_is_no_error(opened):
    # Each answer says that the connection stays, and then it is closed.
    with Loopback(lambda asked: [good(asked)]) as server:
        async with opened(server) as dserver:
            for _ in range(5):
                assert await done(dserver.tags(URI)) == ["x"]
                await asyncio.sleep(0.02)


async def test_nobody_answers(opened, discreet):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with opened(f"http://127.0.0.1:{port}") as dserver:
        with pytest.raises(UnreachableError, match="nobody answers at") as caught:
            await done(dserver.search())
        assert caught.value.attempts == 4
        discreet(caught.value, TOKEN)
        found = await done(dserver.get_many([URI] * 3, allow_partial=True))
        assert [type(details.errors["readme"]) for details in found] == [UnreachableError] * 3


# Time -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slow",
    [
        [2.0],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n", 2.0],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n", *[b" ", 0.1] * 30],
    ],
)
async def test_a_server_that_takes_its_time(opened, discreet, slow):
    with Loopback(lambda _: slow) as server:
        async with opened(server) as dserver:
            begin = time.monotonic()
            with pytest.raises((DeadlineError, UnreachableError)) as caught:
                await done(dserver.readme(URI, timeout_s=0.4))
            took_s = time.monotonic() - begin
            discreet(caught.value, TOKEN)
    assert took_s < 1.9
    assert len(server.requests) == 1  # it may still be working on it


async def test_a_server_that_is_always_busy_is_given_up_in_time(opened, monkeypatch):
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.3)
    with Loopback(lambda _: reply(503, b"busy")) as server:
        async with opened(server, timeout_s=30) as dserver:
            begin = time.monotonic()
            with pytest.raises((ServerError, DeadlineError)):
                await done(dserver.readme(URI, timeout_s=0.6))
            assert time.monotonic() - begin < 2


async def test_one_slow_answer_holds_up_no_others(opened):
    def answer(asked):
        return [1.5, good(asked)] if "slow" in asked.path else good(asked)

    with Loopback(answer) as server:
        async with opened(server) as dserver:
            begin = time.monotonic()
            found = await done(
                dserver.get_many([f"{URI}/slow", *[URI] * 30], allow_partial=True, limit=4, timeout_s=0.5)
            )
            assert time.monotonic() - begin < 1.5
    assert isinstance(found[0].errors["readme"], DeadlineError)
    assert all(details.readme == "a: 1" for details in found[1:])


async def test_each_of_many_has_its_own_time(opened):
    with Loopback(lambda asked: [0.1, good(asked)]) as server:
        async with opened(server) as dserver:
            assert len(await done(dserver.get_many([URI] * 12, limit=1, timeout_s=0.8))) == 12
            assert await done(dserver.find_items("*", [URI] * 60, timeout_s=0.8)) == []


# The token generator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (lambda _: json_reply({"status": "fail"}), LoginError),
        (lambda _: reply(200, b"<html>please log in</html>"), ServerError),
        (lambda asked: reply(500, asked.body), ServerError),
        (lambda asked: reply(500, b"x" * 190 + asked.json["password"].encode()), ServerError),
        (lambda asked: json_reply({"detail": asked.json}, 403), LoginError),
        (lambda asked: json_reply({"detail": asked.json}, 418), ServerError),
        (lambda _: reply(302, b"", {"location": "http://127.0.0.1:1/"}), ServerError),
        (lambda _: reply(307, b"", {"location": "http://127.0.0.1:1/"}), ServerError),
        (lambda _: None, UnreachableError),
        (lambda _: [b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{"], UnreachableError),
        (lambda _: reply(503, b"busy"), ServerError),
        (lambda asked: json_reply({"token": asked.json["password"]}), ConfigurationError),
        (lambda _: [3.0], DeadlineError),
    ],
)
async def test_a_token_generator_that_is_ill(opened, discreet, said, error):
    with Loopback(good) as server, Loopback(said) as generator:
        options = {"token": None, "credentials": ("vera", PASSWORD), "token_url": generator.url}
        async with opened(server, **options) as dserver:
            begin = time.monotonic()
            with pytest.raises(error) as caught:
                await done(dserver.me(timeout_s=0.5))
            assert time.monotonic() - begin < 2.5
            discreet(caught.value, PASSWORD)
            with pytest.raises(error) as caught:
                await done(dserver.get_many([URI] * 30, timeout_s=0.5))
            assert time.monotonic() - begin < 4.5
            discreet(caught.value, PASSWORD)
        assert server.requests == []  # nothing is asked without a token
        assert {asked.path for asked in generator.requests} == {"/token"}
        assert len(generator.requests) <= 2 * 4


async def test_a_login_is_sent_to_nobody_but_the_generator(opened):
    with Loopback(lambda _: json_reply({"msg": "Token has expired"}, 401)) as server:
        with Loopback(lambda _: json_reply({"token": TOKEN})) as generator:
            options = {
                "token": None,
                "credentials": ("vera", PASSWORD),
                "token_url": f"{generator.url}/own/path",
            }
            async with opened(server, **options) as dserver:
                with pytest.raises(LoginError, match="refuses also a new token"):
                    await done(dserver.me())
        assert [asked.headers["authorization"] for asked in server.requests] == [f"Bearer {TOKEN}"] * 2
        assert all(PASSWORD not in str(asked) and not asked.body for asked in server.requests)
        assert [asked.path for asked in generator.requests] == ["/own/path"] * 2
        assert all("authorization" not in asked.headers for asked in generator.requests)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_token_follows_no_redirect(opened, discreet, status):
    with Loopback(good) as thief:
        with Loopback(lambda asked: reply(status, b"", {"location": f"{thief.url}{asked.path}"})) as server:
            async with opened(server) as dserver:
                for call in (dserver.search, dserver.me, lambda: dserver.delete_data_set(URI)):
                    with pytest.raises(ConfigurationError, match="sends us elsewhere") as caught:
                        await done(call())
                    discreet(caught.value, TOKEN)
        assert thief.requests == []


async def test_a_token_goes_to_no_published_data_set(opened):
    published = "0" * 40

    def answer(asked):
        return (
            json_reply({"items": {published: {"relpath": "a.fits"}}})
            if "manifests" in asked.path
            else good(asked)
        )

    with (
        Loopback(answer) as server,
        Loopback(lambda _: json_reply({"item_urls": {published: "https://host/x"}})) as web,
    ):
        async with opened(server) as dserver:
            (item,) = await done(dserver.items(f"{web.url}/set"))
            assert item.url == "https://host/x"
        assert [asked.path for asked in web.requests] == ["/set/http_manifest.json"]
        assert "authorization" not in web.requests[0].headers


async def test_a_published_data_set_that_hangs_spoils_no_others(opened):
    entry = {"0" * 40: {"relpath": "a.fits"}}
    with (
        Loopback(lambda _: json_reply({"items": entry})) as server,
        Loopback(lambda _: [3.0]) as web,
    ):
        async with opened(server) as dserver:
            begin = time.monotonic()
            with pytest.raises(PartialResultError) as caught:
                await done(
                    dserver.find_items("*", [URI, f"{web.url}/x", "http://[bad/u", f"{URI}2"], timeout_s=0.4)
                )
            assert time.monotonic() - begin < 2.5
        assert len(caught.value.result) == 2


# TLS --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    trustme = pytest.importorskip("trustme", reason="needs certificates: pip install 'nuncius[sandbox]'")
    return trustme.CA()


def context_of(authority, *names):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def test_a_server_whose_certificate_is_its_own(opened, discreet, authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    with Loopback(good, context=context_of(authority, "127.0.0.1")) as server:
        async with opened(server) as dserver:
            with pytest.raises(TlsError, match=r"can't be secured.*verify=") as caught:
                await done(dserver.me())
            discreet(caught.value, TOKEN)
            assert server.requests == []
        for verify in (str(path), False):
            async with opened(server, verify=verify) as dserver:
                assert (await done(dserver.me())).username == "vera"
        async with opened(server, verify=str(tmp_path / "nothing.pem")) as dserver:
            with pytest.raises(ConfigurationError, match="no certificates can be read"):
                await done(dserver.me())


async def test_a_server_with_the_certificate_of_another(opened, authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    with Loopback(good, context=context_of(authority, "elsewhere.example")) as server:
        async with opened(server, verify=str(path)) as dserver:
            with pytest.raises(TlsError):
                await done(dserver.me())
        assert server.requests == []


async def test_a_token_generator_with_a_certificate_of_its_own(opened, discreet, authority):
    with (
        Loopback(good) as server,
        Loopback(good, context=context_of(authority, "127.0.0.1")) as generator,
    ):
        options = {"token": None, "credentials": ("vera", PASSWORD), "token_url": generator.url}
        async with opened(server, **options) as dserver:
            with pytest.raises(TlsError) as caught:
                await done(dserver.me())
            discreet(caught.value, PASSWORD)
        assert generator.requests == []


async def test_a_server_that_speaks_no_tls(opened):
    with Loopback(good) as server:
        async with opened(server.url.replace("http:", "https:")) as dserver:
            with pytest.raises((TlsError, UnreachableError)):
                await done(dserver.me(timeout_s=3))
        assert server.requests == []


# Stopping ---------------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_long_get_many_and_asks_nothing_more():
    with (
        Loopback(lambda asked: [0.2, good(asked)]) as server,
        nuncius.open_dserver(server.url, token=TOKEN, interactive=False) as dserver,
    ):
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        begin = time.monotonic()
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            dserver.get_many([URI] * 400, limit=4)
        assert time.monotonic() - begin < 3  # all of them would take 20 s
        time.sleep(0.4)
        asked = len(server.requests)
        time.sleep(0.4)
        assert len(server.requests) == asked < 60
        assert dserver.tags(URI) == ["x"]


async def test_cancelling_a_long_get_many_asks_nothing_more():
    with Loopback(lambda asked: [0.2, good(asked)]) as server:
        async with aio.open_dserver(server.url, token=TOKEN, interactive=False) as dserver:
            before = asyncio.all_tasks()
            task = asyncio.ensure_future(dserver.get_many([URI] * 400, limit=4))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.1)
            asked = len(server.requests)
            await asyncio.sleep(0.4)
            assert len(server.requests) == asked < 60
            assert asyncio.all_tasks() == before
            assert await dserver.tags(URI) == ["x"]


async def test_cancelling_a_login_leaves_the_others_one():
    slow = threading.Event()

    def generator_says(_):
        return [json_reply({"token": TOKEN})] if slow.is_set() else [0.6, json_reply({"token": TOKEN})]

    with Loopback(good) as server, Loopback(generator_says) as generator:
        async with aio.open_dserver(
            server.url, credentials=("vera", PASSWORD), token_url=generator.url, interactive=False
        ) as dserver:
            first, second = (asyncio.ensure_future(dserver.tags(URI)) for _ in range(2))
            await asyncio.sleep(0.2)
            slow.set()
            first.cancel()
            assert await asyncio.wait_for(second, 5) == ["x"]
            with pytest.raises(asyncio.CancelledError):
                await first


async def test_who_is_cancelled_while_a_page_is_on_its_way_and_goes_on_misses_nothing():
    def answer(asked):
        number = int(asked.params["page"])
        said = {"x-pagination": json.dumps({"total": 4, "last_page": 4})}
        return [0.2, json_reply([{"uri": f"s3://b/{number}", "name": str(number)}], headers=said)]

    with Loopback(answer) as server:
        async with aio.open_dserver(server.url, token=TOKEN, interactive=False) as dserver:
            pages, found = dserver.iter_data_sets(page_size=1), []
            for _ in range(20):
                try:
                    found.append((await asyncio.wait_for(anext(pages), 0.12)).name)
                except TimeoutError:
                    continue
                except StopAsyncIteration:
                    break
    assert found == ["1", "2", "3", "4"]
    assert [asked.params["page"] for asked in server.requests] == ["1", "2", "3", "4"]


async def test_a_page_that_fails_is_asked_for_again_by_who_goes_on(opened):
    ill = threading.Event()
    ill.set()

    def answer(asked):
        number = int(asked.params["page"])
        if number == 2 and ill.is_set():
            return reply(500, b"{}")
        said = {"x-pagination": json.dumps({"total": 3, "last_page": 3})}
        return json_reply([{"uri": f"s3://b/{number}", "name": str(number)}], headers=said)

    with Loopback(answer) as server:
        async with opened(server) as dserver:
            pages = dserver.iter_data_sets(page_size=1)

            async def following():
                return await done(pages.__anext__() if hasattr(pages, "__anext__") else next(pages))

            assert (await following()).name == "1"
            with pytest.raises(ServerError, match="HTTP 500"):
                await following()
            ill.clear()
            assert [(await following()).name for _ in range(2)] == ["2", "3"]
            with pytest.raises((StopIteration, StopAsyncIteration, RuntimeError)):
                await following()


# The user's file --------------------------------------------------------------------------------------------------------


async def test_the_users_file_is_never_touched(opened, tmp_path, monkeypatch):
    folder = tmp_path / ".config" / "dtool"
    folder.mkdir(parents=True)
    path = folder / "dtool.json"
    with Loopback(good) as server, Loopback(lambda _: json_reply({"token": TOKEN})) as generator:
        told = {"DSERVER_URL": server.url, "DSERVER_TOKEN_GENERATOR_URL": generator.url, "DSERVER_USERNAME": "vera",
                "DSERVER_PASSWORD": PASSWORD, "DTOOL_S3_ENDPOINT_night": "http://127.0.0.1:1"}  # fmt: skip
        path.write_text(json.dumps(told, indent=3) + "\n\n")
        path.chmod(0o640)
        os.utime(path, ns=(10**18, 10**18))
        before = (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode, sorted(os.listdir(folder)))
        async with opened(server, token=None) as dserver:
            for call in (dserver.search, dserver.me, dserver.config, dserver.versions, lambda: dserver.readme(URI),
                         lambda: dserver.get_many([URI], ("readme", "manifest", "tags")), lambda: dserver.items(URI),
                         lambda: dserver.register_user("bob"), lambda: dserver.delete_data_set(URI)):  # fmt: skip
                with contextlib.suppress(NunciusError):
                    await done(call())
            pickle.dumps(dserver)
        assert [asked.json for asked in generator.requests] == [{"username": "vera", "password": PASSWORD}]
    after = (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode, sorted(os.listdir(folder)))
    assert after == before
