"""HTTP against servers that do what they like: each answer is whole, or a typed error says what happened."""

from __future__ import annotations

import gc
import gzip
import logging
import pickle
import shutil
import socket
import ssl
import subprocess
import time
import traceback
import warnings

import pytest

import http_support
from http_support import Loopback, reply
from nuncius._core import http
from nuncius._core.drivers import AsyncDriver, Driver
from nuncius._core.operations import Request
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    NunciusError,
    ServerError,
    TlsError,
    UnreachableError,
)

SECRET = "s3cr3t-t0ken-of-nobody"


@pytest.fixture(params=sorted(http_support.COLOURS))
def run(request):
    """Run an operation in either colour."""
    return http_support.COLOURS[request.param]


@pytest.fixture(autouse=True)
def forgotten():
    """Let go of connections that broke within the test, whose warnings nobody looks at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch):
    """Let no proxy and no certificates of this machine stand in between."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def get(url, timeout_s=5.0, **options):
    """Be an operation that asks once."""
    return (yield Request("GET", url, timeout_s=timeout_s, **options))


def serving(answer):
    """Make a server that always answers the same."""
    return Loopback(lambda _: answer)


# What arrives ---------------------------------------------------------------------------------------------------------


def test_an_answer_is_read_whole_and_says_who_asks(run):
    body = bytes(range(256)) * 1000
    with serving(reply(body=body, headers={"X-Case": "Kept"})) as server:
        response = run(get(f"{server.url}/a%20b", headers={"X-Mine": "1"}, params={"q": "ä&=", "n": 3}))
    assert (response.status, response.body, response.headers["x-case"]) == (200, body, "Kept")
    (asked,) = server.requests
    assert asked.path == "/a%20b"
    assert asked.params == {"q": "ä&=", "n": "3"}
    assert asked.headers["x-mine"] == "1"
    assert asked.headers["user-agent"].startswith("nuncius/")


def test_a_status_of_failure_is_an_answer(run):
    with serving(reply(503, b"later")) as server:
        assert run(get(server.url)).status == 503


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", " GZIP "])
def test_a_compressed_answer_is_unpacked(run, coding):
    packed = gzip.compress(b"text " * 1000)
    with serving(reply(body=packed, headers={"content-encoding": coding})) as server:
        assert run(get(server.url)).body == b"text " * 1000
    assert server.requests[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize("coding", ["deflate", "br", "zstd", "gzip, gzip", "aes"])
def test_what_nobody_asked_for_is_not_unpacked(run, coding):
    with (
        serving(reply(body=b"?", headers={"content-encoding": coding})) as server,
        pytest.raises(ServerError, match="nobody asked for"),
    ):
        run(get(server.url))


def test_packed_parts_one_after_the_other_are_all_there(run):
    packed = gzip.compress(b"one, ", mtime=0) + gzip.compress(b"two", mtime=0)
    with serving(reply(body=packed, headers={"content-encoding": "gzip"})) as server:
        assert run(get(server.url)).body == b"one, two"


def test_an_empty_answer_that_is_said_to_be_packed(run):
    with serving(reply(body=b"", headers={"content-encoding": "gzip"})) as server:
        assert run(get(server.url)).body == b""


# What does not arrive whole -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", b"x" * 40], id="content-length"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"20\r\n" + b"x" * 10], id="in a chunk"
        ),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"5\r\nxxxxx\r\n"],
            id="between chunks",
        ),
        pytest.param([b"HTTP/1.1 200 OK\r\ncontent-le"], id="in the head"),
        pytest.param([], id="no answer at all"),
        pytest.param([b"SSH-2.0-OpenSSH_9.2\r\n"], id="another protocol"),
        pytest.param([b"HTTP/1.1 200 OK\r\n", b"x: " + b"y" * 300_000 + b"\r\n\r\n"], id="a huge header"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\n12345"], id="no gzip"
        ),
        pytest.param(
            [reply(body=gzip.compress(bytes(9999), mtime=0)[:-12], headers={"content-encoding": "gzip"})],
            id="gzip without its end",
        ),
    ],
)
def test_half_an_answer_is_no_answer(run, pieces):
    with Loopback(lambda _: iter(pieces)) as server, pytest.raises(UnreachableError) as caught:
        run(get(server.url))
    assert caught.value.sent, "the server may have done what was asked"
    assert server.url in str(caught.value)
    assert len(server.requests) == 1


def test_nobody_listening_is_known_never_to_have_been_sent(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UnreachableError, match="nobody answers") as caught:
        run(get(f"http://127.0.0.1:{port}/"))
    assert not caught.value.sent


def test_a_body_that_drips_ends_with_the_time(run):
    def dripping(asked):
        yield b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"
        for _ in range(200):
            yield b"x"
            yield 0.05

    begin = time.monotonic()
    with Loopback(dripping) as server, pytest.raises(DeadlineError, match=r"within 0\.4 s"):
        run(get(server.url, timeout_s=0.4))
    assert time.monotonic() - begin < 1.5


def test_a_compressed_body_that_drips_ends_with_the_time(run):
    """Nothing can be unpacked yet: the time is looked at all the same."""
    packed = gzip.compress(bytes(range(256)) * 400, 0)

    def dripping(asked):
        yield b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 100000\r\n\r\n" + packed[:10]
        for _ in range(60):
            yield b"\x00\x00\x00\xff\xff"  # a stored block that holds nothing
            yield 0.05

    begin = time.monotonic()
    with Loopback(dripping) as server, pytest.raises(DeadlineError):
        run(get(server.url, timeout_s=0.4))
    assert time.monotonic() - begin < 1.5


def test_a_head_that_drips_ends_with_the_time():
    """In async; in sync each read has the time anew."""

    def dripping(asked):
        yield b"HTTP/1.1 200 OK\r\nx: "
        for _ in range(60):
            yield b"x"
            yield 0.05

    begin = time.monotonic()
    with Loopback(dripping) as server, pytest.raises(DeadlineError):
        http_support.run_async(get(server.url, timeout_s=0.4))
    assert time.monotonic() - begin < 1.5


def test_silence_ends_with_the_time(run):
    begin = time.monotonic()
    with Loopback(lambda _: iter([3.0])) as server, pytest.raises(DeadlineError):
        run(get(server.url, timeout_s=0.3))
    assert time.monotonic() - begin < 1.5


def test_a_small_answer_that_unpacks_to_a_huge_one_is_refused(run, monkeypatch):
    monkeypatch.setattr(http, "MAX_BODY_BYTES", 1 << 20)
    packed = gzip.compress(bytes(64 << 20))
    with (
        serving(reply(body=packed, headers={"content-encoding": "gzip"})) as server,
        pytest.raises(ServerError, match="more than"),
    ):
        run(get(server.url))


# Where it goes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_token_does_not_follow_a_redirect(run, status):
    with (
        serving(reply(200, b"thank you")) as thief,
        serving(reply(status, headers={"location": f"{thief.url}/"})) as server,
    ):
        response = run(get(server.url, headers={"Authorization": f"Bearer {SECRET}"}))
    assert response.status == status
    assert thief.requests == []


def test_the_proxy_of_the_environment_is_used(run, monkeypatch):
    with serving(reply(body=b"by proxy")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert run(get("http://kowalski.invalid/x")).body == b"by proxy"
    assert proxy.requests[0].target == "http://kowalski.invalid/x"


@pytest.mark.parametrize(
    "proxy", [f"socks5://me:{SECRET}@127.0.0.1:1", f"gopher://me:{SECRET}@127.0.0.1:1", "::"]
)
def test_a_proxy_that_cannot_be_used_is_named_as_the_cause(run, monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(NunciusError, match="proxy") as caught:
        run(get("http://127.0.0.1:1/"))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("url", ["htp://x/", "http://", "http://[::1", "//x"])
def test_what_is_no_address(run, url):
    with pytest.raises(ConfigurationError):
        run(get(url))


# TLS ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Make a certificate that nobody vouches for."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program, to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=nobody",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@pytest.fixture
def secured(certificate):
    """Run a server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Loopback(lambda _: reply(body=b"private"), context=context) as server:
        yield server


def test_a_server_that_nobody_vouches_for_gets_no_token(run, secured):
    with pytest.raises(TlsError, match="verify=") as caught:
        run(get(secured.url, headers={"Authorization": f"Bearer {SECRET}"}))
    assert secured.requests == []
    assert "self" in str(caught.value)


@pytest.mark.parametrize("way", ["verify", "verify async", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "off"])
def test_certificates_of_its_own_can_be_named(secured, certificate, monkeypatch, way):
    verify = {"verify": str(certificate[0]), "verify async": str(certificate[0]), "off": False}.get(way, True)
    if verify is True:
        monkeypatch.setenv(way, str(certificate[0]))
    if way == "verify async":
        import asyncio

        async def whole():
            driver = AsyncDriver(verify=verify)
            try:
                return await driver.run(get(secured.url))
            finally:
                await driver.close()

        assert asyncio.run(whole()).body == b"private"
        return
    driver = Driver(verify=verify)
    assert driver.run(get(secured.url)).body == b"private"
    driver.close()


def test_certificates_that_are_none(tmp_path):
    (tmp_path / "empty.pem").write_text("nothing")
    for place in (tmp_path / "empty.pem", tmp_path / "missing.pem"):
        with pytest.raises(ConfigurationError, match=place.name):
            Driver(verify=str(place)).run(get("https://127.0.0.1:1/"))


def test_a_plain_server_where_tls_is_expected(run):
    with serving(reply()) as server, pytest.raises(UnreachableError):
        run(get(server.url.replace("http:", "https:")))


# Secrets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(None, id="closed"),
        pytest.param(iter([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"]), id="cut"),
        pytest.param(b"nonsense\r\n\r\n", id="nonsense"),
    ],
)
def test_a_failed_request_shows_no_secret(run, caplog, failure):
    caplog.set_level(logging.DEBUG)
    with Loopback(lambda _: failure) as server, pytest.raises(NunciusError) as caught:
        run(get(server.url, headers={"Authorization": f"Bearer {SECRET}"}, body=SECRET.encode()))
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + caplog.text
    assert SECRET not in shown
    assert SECRET.encode() not in pickle.dumps(error)
    assert SECRET not in repr(vars(error))


@pytest.mark.parametrize("value", [f"{SECRET}\nX: 1", f"{SECRET}\x00", f"{SECRET} é", f" {SECRET} "])
def test_a_header_that_cannot_be_sent_is_not_quoted(run, value):
    with serving(reply()) as server, pytest.raises(NunciusError) as caught:
        run(get(server.url, headers={"Authorization": value}))
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert server.requests == []


def test_a_request_and_a_response_show_nothing_of_what_they_hold():
    request = Request("POST", "http://host/x", {"Authorization": SECRET}, {"token": SECRET}, SECRET.encode())
    response = http.Response(200, {}, SECRET.encode())
    assert SECRET not in repr(request) + repr(response)
