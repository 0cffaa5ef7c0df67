"""What dtool-lookup-api 0.10.3 does wrong, and this interface does not."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from dtool_support import CHAIN, ODD, URI, run_script

from nuncius.compat import dtool_lookup_api
from nuncius.compat.dtool_lookup_api import asynchronous, errors, get_me, get_readme
from nuncius.compat.dtool_lookup_api.core.LookupClient import CredentialsBasedLookupClient
from nuncius.errors import DeadlineError, LoginError, NunciusError, TlsError, UnreachableError

pytest_plugins = ["dtool_fixtures"]


@pytest.fixture
def with_login(dserver, config_file):
    """Give a dserver whose default user's login is in dtool's file."""
    config_file(
        DSERVER_URL=dserver.url,
        DSERVER_TOKEN_GENERATOR_URL=dserver.token_url,
        DSERVER_USERNAME=dserver.username,
        DSERVER_PASSWORD=dserver.password,
    )
    return dserver


def paths(dserver):
    """Return what was asked."""
    return [request.path for request in dserver.requests]


# Requests and connections -----------------------------------------------------------------------------------------------


def test_a_call_is_a_request_and_connections_are_kept(with_login):
    for _ in range(20):
        get_readme(URI)
    assert paths(with_login).count("/token") == 1
    assert len(with_login.requests) == 21
    assert len({request.port for request in with_login.requests}) == 1


async def test_gathered(with_login):
    found = await asyncio.gather(*(asynchronous.get_readme(URI) for _ in range(40)))
    assert len(set(found)) == 1
    assert paths(with_login).count("/token") == 1
    assert len(with_login.requests) == 41


def test_connections_of_earlier_settings_are_closed(with_login, monkeypatch):
    def still_open():
        # Connections are there as long as the server doesn't see their end.
        return len(with_login._server._uvicorn.server_state.connections)

    get_me()
    before = still_open()
    gc.disable()
    try:
        for number in range(6):
            monkeypatch.setenv("DSERVER_VERIFY_SSL", "false" if number % 2 else "true")
            get_me()
        end = time.monotonic() + 3  # before the server closes what nobody uses
        while still_open() > before and time.monotonic() < end:
            time.sleep(0.01)
        assert still_open() <= before
    finally:
        gc.enable()


def test_threads(with_login):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: get_readme(URI), range(400)))
    assert len(set(found)) == 1
    assert paths(with_login).count("/token") == 1
    assert len(with_login.requests) == 401


def test_threads_with_loops_of_their_own(with_login):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: asyncio.run(asynchronous.get_readme(URI)), range(40)))
    assert len(set(found)) == 1


def test_threads_while_the_settings_change(with_login, monkeypatch):
    stop = threading.Event()
    problems = []

    def ask():
        while not stop.is_set():
            try:
                get_readme(URI)
            except NunciusError as error:
                problems.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        monkeypatch.setenv("DSERVER_VERIFY_SSL", "false" if number % 2 else "true")
        get_me()
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_token_that_dies_is_renewed_once(with_login):
    get_me()
    with_login.expire_tokens()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: get_me()["username"], range(64)))
    assert set(found) == {with_login.username}
    assert paths(with_login).count("/token") == 2


def test_a_login_that_is_refused_is_not_tried_again(with_login, monkeypatch):
    monkeypatch.setenv("DSERVER_PASSWORD", "wrong")
    monkeypatch.setenv("DSERVER_USERNAME", with_login.username)
    with pytest.raises(RuntimeError, match=r"^Authentication failed"):
        get_me()
    assert paths(with_login) == ["/token"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork(with_login):
    code = f"""
import os, threading
from nuncius.compat.dtool_lookup_api import get_readme, sharing
get_readme({URI!r})
with sharing._SHARED._lock:  # as another thread may have it
    child = os.fork()
    if child == 0:
        os._exit(0 if len(get_readme({URI!r})) > 9 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(len(get_readme({URI!r})))
"""
    assert int(run_script(code)) == len(get_readme(URI))


def test_no_warnings_of_what_was_left_open(with_login):
    code = f"""
import asyncio, gc, os, warnings
warnings.simplefilter("error")
import nuncius.compat.dtool_lookup_api.asynchronous as dl
from nuncius._core import retry
from nuncius.compat.dtool_lookup_api import get_readme
retry._FIRST_WAIT_S = 0.01
for verify in ("false", "true"):
    os.environ["DSERVER_VERIFY_SSL"] = verify
    get_readme({URI!r})
    asyncio.run(dl.get_readme({URI!r}))
    os.environ["DSERVER_URL"], url = "http://127.0.0.1:9", os.environ["DSERVER_URL"]
    for ask in (get_readme, lambda uri: asyncio.run(dl.get_readme(uri))):
        try:
            ask({URI!r})
        except ConnectionError:
            print("nobody")
    os.environ["DSERVER_URL"] = url
    gc.collect()
"""
    assert run_script(code).split() == ["nobody"] * 4


# Where a loop is running ------------------------------------------------------------------------------------------------


async def test_what_waits_works_where_a_loop_is_running(with_login):
    assert get_readme(URI) == await asynchronous.get_readme(URI)


# URIs -------------------------------------------------------------------------------------------------------------------


def test_spaces_pluses_and_other_alphabets(with_login):
    uri = f"{ODD}/twin"
    assert dtool_lookup_api.get_dataset(uri)["uri"] == uri
    assert [row["uri"] for row in dtool_lookup_api.get_datasets(base_uris=[ODD])] == [uri]
    for get in ("get_readme", "get_manifest", "get_tags", "get_annotations"):
        getattr(dtool_lookup_api, get)(uri)


# Errors -----------------------------------------------------------------------------------------------------------------


def test_what_users_catch():
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and kind.__module__ == errors.__name__
    ]
    assert len(kinds) == 12
    for kind in kinds:
        assert issubclass(kind, errors.LookupServerError)
        error = kind("it failed", service="dserver", status=500)
        assert pickle.loads(pickle.dumps(error)).__dict__ == error.__dict__
    for ours, theirs in errors._KINDS:
        assert issubclass(theirs, ours)


def test_facts_are_kept(with_login):
    with pytest.raises(errors.LookupNotFoundError) as caught:
        get_readme("s3://steps/x")
    error = caught.value
    assert (error.service, error.status, error.position) == ("dserver", 404, "s3://steps/x")
    assert error.url == with_login.url


@pytest.mark.parametrize("kind", ["unknown", "expired", "garbage"])
def test_tokens_that_are_not_taken(dserver, monkeypatch, kind):
    token = dserver.tokens.get(kind, "not.a.token")
    monkeypatch.setenv("DSERVER_TOKEN", token)
    for ask in (get_me, lambda: asyncio.run(asynchronous.get_me())):
        with pytest.raises(LoginError, match=r"^Authentication failed") as caught:
            ask()
        assert isinstance(caught.value, RuntimeError)
        assert isinstance(caught.value, errors.LookupServerError)
        assert token not in str(caught.value)


def test_who_may_see_nothing(dserver, monkeypatch):
    monkeypatch.setenv("DSERVER_TOKEN", dserver.tokens["nobody"])
    pagination = {}
    assert dtool_lookup_api.get_datasets(free_text="test", pagination=pagination) == []
    assert dtool_lookup_api.get_datasets() == []
    assert dtool_lookup_api.get_datasets_by_mongo_query({}) == []
    assert pagination == {}


def test_nobody_answers(dserver, monkeypatch):
    monkeypatch.setenv("DSERVER_URL", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError) as caught:
        get_me()
    assert isinstance(caught.value, errors.LookupServerError)


def test_a_slow_server(with_login, monkeypatch):
    get_me()
    monkeypatch.setattr(dtool_lookup_api.sharing.shared().service, "timeout_s", 0.2)
    with_login.delay(1.0)
    with pytest.raises(DeadlineError) as caught:
        get_me()
    assert isinstance(caught.value, errors.LookupServerError)


def test_a_cut_answer(with_login):
    get_me()
    with_login.cut_body(times=9)
    with pytest.raises(UnreachableError) as caught:
        get_me()
    assert isinstance(caught.value, errors.LookupServerError)


def test_an_answer_that_is_late_is_asked_for_again(with_login):
    with_login.fail(status=503, times=2, path="/me")
    assert get_me()["username"] == with_login.username


def test_a_certificate_that_can_not_be_verified(dserver, monkeypatch, tls_port):
    monkeypatch.setenv("DSERVER_URL", f"https://127.0.0.1:{tls_port}")
    with pytest.raises(TlsError) as caught:
        get_me()
    assert isinstance(caught.value, errors.LookupTlsError)
    monkeypatch.setenv("DSERVER_VERIFY_SSL", "false")
    with pytest.raises(NunciusError) as caught:
        get_me()
    assert not isinstance(caught.value, TlsError)


@pytest.fixture
def tls_port(tmp_path):
    """Give the port of a server whose certificate nobody knows, and which hangs up."""
    import socket
    import ssl

    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve():
        listener.settimeout(0.1)
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
                with connection, context.wrap_socket(connection, server_side=True):
                    pass
            except OSError:
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    stop.set()
    thread.join()
    listener.close()


# Secrets ----------------------------------------------------------------------------------------------------------------


async def test_secrets_are_not_shown(dserver):
    client = CredentialsBasedLookupClient(dserver.url, dserver.url, dserver.username, dserver.password)
    async with client:
        for shown in (repr(client), repr(vars(client)), repr(client._service.settings)):
            assert dserver.password not in shown
            assert client.token not in shown
        with pytest.raises(TypeError):
            pickle.dumps(client)


def test_results_are_plain(with_login):
    for found in (
        dtool_lookup_api.get_datasets(),
        dtool_lookup_api.get_dataset(URI),
        dtool_lookup_api.get_manifest(URI),
        dtool_lookup_api.get_me(),
        dtool_lookup_api.get_graph_by_uuid(CHAIN[0]),
    ):
        assert json.loads(json.dumps(found)) == found
        assert type(found) in {dict, list}
