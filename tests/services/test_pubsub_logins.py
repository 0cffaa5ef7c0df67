"""Logins of Google and certificates, for streams of a Pub/Sub server with TLS that wants tokens, on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import socket
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from nuncius import brokers, open_stream
from nuncius.errors import ConfigurationError, LoginError, NotFoundError, TlsError, UnreachableError
from nuncius.sandbox import SandboxPubSub
from nuncius.streams.pubsub.login import find_google_login, forget_login, keep_login
from streams_support import ids, opener, packet, read_all, take, wait_until

pytest.importorskip("google.pubsub_v1", reason="needs google-cloud-pubsub")
pytest.importorskip("trustme", reason="needs certificates: pip install 'nuncius[sandbox]'")

REFRESH = "1//a-refresh-token-that-nobody-may-see"


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch, tmp_path):
    """Let nothing of this machine decide who we are or where we read."""
    for name in ("PUBSUB_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture
def open_one():
    """Open a stream where its colour is all one, and the test takes long."""
    return opener("async")


@pytest.fixture
def server():
    """Give a server with TLS that wants a token with each call, and its login."""
    with SandboxPubSub(tls=True) as running:
        _ = running.login
        yield running


@pytest.fixture
def key_file(server, tmp_path):
    return server.login.write_key_file(tmp_path / "key.json")


@pytest.fixture
def ca(server):
    return {"ssl_ca_location": server.ca_file}


def kept(server):
    """Keep the login of a person, as `nuncius login pittgoogle` does."""
    login = server.login
    login._refresh_tokens.add(REFRESH)
    return keep_login(
        SimpleNamespace(
            client_id=login.client_id,
            client_secret=login.client_secret,
            refresh_token=REFRESH,
            token_uri=login.token_url,
        )
    )


def static(token):
    """Return credentials with a token that can't be renewed."""
    from google.oauth2.credentials import Credentials

    return Credentials(token)


def publish(server, numbers, topic="ztf-loop"):
    return server.publish(topic, [packet(number) for number in numbers])


def everything(error):
    """Return all that an error says and carries, with what it came from."""
    text = ""
    while error is not None:
        text += str(error) + repr(error) + repr(error.args) + repr(vars(error))
        error = error.__cause__ or error.__context__
    return text


async def refused(stream, kind, match, *, within_s=8.0):
    begin = time.monotonic()

    async def read():
        async with stream:
            await stream.poll(within_s)
            pytest.fail("nothing was told")

    with pytest.raises(kind, match=match) as caught:
        await read()
    assert time.monotonic() - begin < within_s
    assert type(caught.value) is kind
    return caught.value


# Who we are -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["path", "text", "variable", "kept", "gcloud", "object"])
async def test_who_may_in_reads(open_any, server, ca, key_file, monkeypatch, tmp_path, how):
    publish(server, range(5))
    given = {"path": key_file, "text": str(key_file)}.get(how)
    if how == "variable":
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    elif how == "kept":
        kept(server)
    elif how == "gcloud":
        server.login._refresh_tokens.add(REFRESH)
        (tmp_path / "gcloud").mkdir()
        (tmp_path / "gcloud" / "application_default_credentials.json").write_text(
            json.dumps(
                {
                    "type": "authorized_user",
                    "client_id": server.login.client_id,
                    "client_secret": server.login.client_secret,
                    "refresh_token": REFRESH,
                    "token_uri": server.login.token_url,
                }
            )
        )
        monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", server.login.token_url)
    elif how == "object":
        given = static(next(iter(server.tokens)))
    async with open_any(server.url, credentials=given, stop=5, **ca) as stream:
        assert sorted(ids(await read_all(stream))) == [0, 1, 2, 3, 4]
    assert wait_until(lambda: server.counts().acknowledged == 5)


def test_what_is_named_first_counts(server, key_file, tmp_path, monkeypatch):
    """The argument, then the variable, then what is kept, then what gcloud has set up."""
    with pytest.raises(LoginError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        find_google_login()
    (tmp_path / "gcloud").mkdir()
    (tmp_path / "gcloud" / "application_default_credentials.json").write_text(
        json.dumps({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"})
    )
    assert find_google_login().source == "application default credentials"
    path = kept(server)
    assert str(path) in find_google_login().source
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    assert find_google_login().source.startswith("GOOGLE_APPLICATION_CREDENTIALS")
    other = tmp_path / "other.json"
    other.write_bytes(key_file.read_bytes())
    assert "other.json" in find_google_login(other).source
    assert find_google_login(static("t")).source == "credentials="
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    forget_login()
    assert find_google_login().source == "application default credentials"


async def test_the_project_of_a_key_file(open_any, server, ca, key_file):
    async with open_any(f"{server.pittgoogle_url}/ztf-lite", credentials=key_file, stop=1, **ca) as stream:
        publish(server, [1], "ztf-lite")
        [alert] = await read_all(stream)
    assert alert.origin.topic == f"projects/{server.project}/subscriptions/ztf-lite"


async def test_no_login_is_told_before_anything_is_sent(open_any, server, ca):
    with pytest.raises(LoginError, match="nuncius login pittgoogle"):
        open_any(server.url, **ca)
    with pytest.raises(LoginError, match="PUBSUB_EMULATOR_HOST"):
        open_any("pittgoogle://ztf-loop")
    assert server.requests == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "[Nn]o such file"),
        (b"", None),
        (b'{"type": "service_account", "private_key": "-----BEGIN s3cret', None),
        (b'{"type": "service_account", "private_key": "s3cret"}', None),
        (
            b'{"type": "service_account", "client_email": "a@b", "token_uri": "u", "private_key": "s3cret"}',
            None,
        ),
        (b'["s3cret"]', None),
        (b'{"type": "s3cret"}', None),
        (b"\xff\xfe s3cret", None),
    ],
)
@pytest.mark.parametrize("given", ["argument", "variable"])
def test_a_key_file_that_is_none_is_told_and_not_shown(
    server, ca, tmp_path, monkeypatch, content, why, given
):
    path = tmp_path / "key.json"
    if content is not None:
        path.write_bytes(content)
    options = {"credentials": path} if given == "argument" else {}
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(ConfigurationError, match=why) as caught:
        open_stream(server.url, **options, **ca)
    assert "key.json" in str(caught.value)
    assert "s3cret" not in everything(caught.value)


def test_a_user_name_and_a_password_are_no_login(server, ca):
    with pytest.raises(ConfigurationError, match="no user name and password") as caught:
        open_stream(server.url, credentials=("vera", "s3cret"), **ca)
    assert "s3cret" not in everything(caught.value)


# Logins that end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["key file", "kept"])
async def test_a_token_that_ends_in_the_middle_is_renewed(open_any, server, ca, key_file, how):
    publish(server, range(20))
    if how == "kept":
        kept(server)
    seen = Counter()
    async with open_any(server.url, credentials=key_file if how == "key file" else None, **ca) as stream:
        seen.update(ids(await take(stream, 10)))
        for first in (20, 40, 60):
            server.tokens.clear()
            server.drop_streams()
            publish(server, range(first, first + 20))
            begin = time.monotonic()
            while len(seen) < first + 20 and time.monotonic() - begin < 20:
                alert = await stream.poll(0.5)
                if alert is not None:
                    seen[alert.alert_id] += 1
        assert seen == Counter(range(80))
        await asyncio.to_thread(wait_until, lambda: stream.stats().last_error is None)
        assert stream.stats().last_error is None
    assert wait_until(lambda: server.counts().acknowledged == 80)
    assert server.counts().leased == 0


async def test_a_token_that_ends_is_renewed_whoever_hears_of_it_first(open_any, server, ca, key_file):
    """While messages are acknowledged, the listener and the keeper are refused in the same moment."""
    publish(server, range(2000))
    halt, seen = threading.Event(), Counter()

    def take_back():
        while not halt.wait(0.4):
            server.tokens.clear()
            server.drop_streams()

    taking = threading.Thread(target=take_back)
    async with open_any(server.url, credentials=key_file, stop=2000, **ca) as stream:
        seen.update(ids(await take(stream, 1)))
        taking.start()
        try:
            async for alert in stream:
                seen[alert.alert_id] += 1
                if len(seen) % 50 == 0:
                    await asyncio.sleep(0.05)
        finally:
            halt.set()
            taking.join()
    assert seen == Counter(range(2000))
    assert wait_until(lambda: server.counts().acknowledged == 2000)


async def test_a_token_that_ends_while_nothing_comes(open_any, server, ca, key_file):
    """Only acknowledgements are refused; they are sent again with a new token, and soon."""
    publish(server, range(5))
    async with open_any(server.url, credentials=key_file, acknowledge="manual", **ca) as stream:
        alerts = await take(stream, 5)
        for alert in alerts:
            server.tokens.clear()
            done = server.counts().acknowledged + 1
            stream.acknowledge(alert)
            assert await asyncio.to_thread(wait_until, lambda done=done: server.counts().acknowledged == done)
        await asyncio.to_thread(wait_until, lambda: stream.stats().last_error is None)
        assert stream.stats().last_error is None
        assert await stream.poll(0) is None


async def test_a_login_that_is_taken_back_in_the_middle_is_told(open_any, server, ca):
    """The person has taken our right away: no new token is to be had."""
    kept(server)
    publish(server, range(5))
    async with open_any(server.url, **ca) as stream:
        await take(stream, 5)
        server.login.refuses = "invalid_grant"
        server.tokens.clear()
        server.drop_streams()
        begin = time.monotonic()
        with pytest.raises(LoginError, match=r"invalid_grant.*nuncius login pittgoogle") as caught:
            await stream.poll(15)
        assert time.monotonic() - begin < 12
    assert REFRESH not in everything(caught.value)


async def test_a_login_that_ends_by_the_clock_and_can_not_be_renewed_is_told(
    open_any, server, ca, monkeypatch
):
    """Google's library sees that the token is old, and asks for another one in vain."""
    kept(server)
    server.login.lifetime_s = 1
    publish(server, range(5))
    async with open_any(server.url, **ca) as stream:
        await take(stream, 5)
        server.login.refuses = "invalid_grant"
        server.drop_streams()
        with pytest.raises(LoginError, match="invalid_grant"):
            await stream.poll(15)


async def test_a_refused_login_is_told_in_time(open_any, server, ca, key_file):
    server.login.refuses = "invalid_grant"
    error = await refused(open_any(server.url, credentials=key_file, **ca), LoginError, "invalid_grant")
    assert "PRIVATE KEY" not in everything(error)
    assert server.requests == []


async def test_a_token_that_nobody_knows_is_told(open_any, server, ca):
    error = await refused(
        open_any(server.url, credentials=static("ya29.wr0ng"), **ca), LoginError, "nuncius login pittgoogle"
    )
    assert "ya29.wr0ng" not in everything(error)
    begin = time.monotonic()
    with pytest.raises(LoginError):
        brokers.touch_subscription(server.url, credentials=static("ya29.wr0ng"), **ca)
    assert time.monotonic() - begin < 6


async def test_a_token_endpoint_that_never_answers_is_told_in_time(open_one, server, ca, key_file):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        content = json.loads(key_file.read_text())
        content["token_uri"] = f"http://127.0.0.1:{silent.getsockname()[1]}/token"
        key_file.write_text(json.dumps(content))
        stream = open_one(server.url, credentials=key_file, connect_timeout_s=1.5, **ca)
        await refused(stream, UnreachableError, "token", within_s=8)
        begin = time.monotonic()
        with pytest.raises(UnreachableError, match="token"):
            brokers.touch_subscription(server.url, credentials=key_file, timeout_s=1.5, **ca)
        assert time.monotonic() - begin < 8


async def test_a_token_endpoint_that_is_not_there_is_told(open_one, server, ca, key_file):
    server.login.close()
    stream = open_one(server.url, credentials=key_file, connect_timeout_s=1, **ca)
    await refused(stream, UnreachableError, "token endpoint")


def test_threads_share_credentials(server, ca, key_file):
    """And all of them ask for a new token in the same moment."""
    login = find_google_login(key_file).credentials
    for number in range(4):
        server.create_subscription(f"sub-{number}", "many")
    publish(server, range(200), "many")
    found, errors = Counter(), []

    def read(number):
        url = f"pubsub://{server.endpoint}/{server.project}/sub-{number}"
        try:
            with open_stream(url, credentials=login, stop=200, **ca) as stream:
                for count, _ in enumerate(stream):
                    if count == 100:
                        server.tokens.clear()
                        server.drop_streams()
                    found[number] += 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert errors == []
    assert found == Counter(dict.fromkeys(range(4), 200))


# Certificates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("certificate", ["foreign", "wrong-host", "expired"])
async def test_a_wrong_certificate_is_told_at_once(open_any, certificate):
    with SandboxPubSub(tls=True, certificate=certificate) as server:
        options = {"credentials": static("ya29.s3cret"), "ssl_ca_location": server.ca_file}
        error = await refused(
            open_any(server.url, connect_timeout_s=20, **options),
            TlsError,
            r"can't be secured.*ssl_ca_location",
        )
        assert "ya29.s3cret" not in everything(error)
        for ask in (
            lambda: brokers.touch_subscription(server.url, timeout_s=20, **options),
            lambda: brokers.rewind(server.url, "earliest", timeout_s=20, **options),
            lambda: brokers.topics(server.url, timeout_s=20, **options),
        ):
            begin = time.monotonic()
            with pytest.raises(TlsError, match="can't be secured"):
                ask()
            assert time.monotonic() - begin < 8
        assert server.requests == []


async def test_the_systems_certificates_hold_by_default(open_any, server):
    stream = open_any(server.url, credentials=static("t"), connect_timeout_s=20)
    await refused(stream, TlsError, "ssl_ca_location=FILE")


async def test_tls_where_there_is_none_is_told(open_any, server, ca):
    with SandboxPubSub() as plain:
        await refused(
            open_any(plain.url, credentials=static("t"), connect_timeout_s=20, **ca), TlsError, plain.endpoint
        )


async def test_no_tls_where_there_is_some_is_told(open_any, server):
    """Who names a server on loopback and no authority means an emulator."""
    await refused(open_any(server.url, connect_timeout_s=1), UnreachableError, server.endpoint)


def test_a_file_of_certificates_that_is_not_there(server, tmp_path):
    with (
        pytest.raises(ConfigurationError, match="ssl_ca_location"),
        open_stream(server.url, credentials=static("t"), ssl_ca_location=tmp_path / "none.pem"),
    ):
        pass


# Secrets --------------------------------------------------------------------------------------------------------------


async def test_no_secret_is_shown(open_any, server, ca, key_file, caplog):
    caplog.set_level(logging.DEBUG, "nuncius")
    caplog.set_level(logging.DEBUG, "grpc")
    secrets = json.loads(key_file.read_text())["private_key"].splitlines()[1:-1]
    publish(server, range(5))
    login = find_google_login(key_file)
    async with open_any(server.url, credentials=key_file, **ca) as stream:
        await take(stream, 5)
        server.tokens.clear()
        server.drop_streams()
        server.fail("Acknowledge", "UNAVAILABLE", times=2)
        publish(server, range(5))
        await take(stream, 5)
        shown = [repr(stream), repr(stream.stats()), repr(login), login.who]
        with pytest.raises(NotFoundError) as caught:
            brokers.touch_subscription(f"{server.url}-not", credentials=key_file, **ca)
    shown += [caplog.text, everything(caught.value)]
    text = "".join(shown)
    assert len(text) > 500
    for secret in (*secrets, *server.tokens):
        assert secret not in text


def test_a_login_is_not_pickled(server, key_file):
    login = find_google_login(key_file)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(login)
