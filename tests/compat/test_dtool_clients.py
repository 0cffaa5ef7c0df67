"""The client classes of dtool-lookup-api: how they log in, and what they say when they can't."""

from __future__ import annotations

import asyncio

import pytest
from dtool_support import URI

from nuncius.compat.dtool_lookup_api import get_me
from nuncius.compat.dtool_lookup_api.core.config import Config
from nuncius.compat.dtool_lookup_api.core.LookupClient import (
    ConfigurationBasedAuthenticatedLookupClient,
    ConfigurationBasedLookupClient,
    CredentialsBasedLookupClient,
    LookupClient,
    LookupServerError,
    TokenBasedLookupClient,
    UnauthenticatedLookupClient,
)
from nuncius.errors import ConfigurationError, LoginError, ServerError, UnreachableError

pytest_plugins = ["dtool_fixtures"]


def paths(dserver):
    """Return what was asked."""
    return [request.path for request in dserver.requests]


# No token ---------------------------------------------------------------------------------------------------------------


async def test_without_authentication(dserver, monkeypatch):
    monkeypatch.setenv("DSERVER_TOKEN", dserver.token)
    monkeypatch.setattr(dserver, "authenticate", False)
    async with UnauthenticatedLookupClient(dserver.url) as client:
        assert client.header == {}
        assert (client.lookup_url, client.verify_ssl) == (dserver.url, True)
        assert (await client.get_me())["username"] == dserver.username
        monkeypatch.setattr(dserver, "authenticate", True)
        with pytest.raises(LoginError, match=r"^Authentication failed") as caught:
            await client.get_me()
    assert isinstance(caught.value, LookupServerError)
    assert isinstance(caught.value, RuntimeError)


async def test_the_versions_need_no_token(dserver):
    async with UnauthenticatedLookupClient(dserver.url) as client:
        assert "dservercore" in await client.get_versions()


# A token ----------------------------------------------------------------------------------------------------------------


async def test_with_a_token(dserver):
    token = dserver.token
    async with TokenBasedLookupClient(dserver.url, token) as client:
        assert client.header == {"Authorization": f"Bearer {token}"}
        assert (await client.get_me())["username"] == dserver.username
        client.token = dserver.admin_token
        assert (await client.get_me())["is_admin"] is True
    assert paths(dserver) == ["/me", "/me"]


@pytest.mark.parametrize("token", [None, ""])
async def test_without_the_token(dserver, monkeypatch, token):
    monkeypatch.setenv("DSERVER_TOKEN", dserver.token)  # which is somebody else's
    client = TokenBasedLookupClient(dserver.url, token=token)
    with pytest.raises(ValueError, match=r"^Provide JWT token\.$") as caught:
        await client.connect()
    assert isinstance(caught.value, LookupServerError)
    assert client.header == {}


@pytest.mark.parametrize("kind", ["expired", "unknown"])
async def test_a_token_that_the_server_does_not_take(dserver, monkeypatch, kind):
    for name, value in (
        ("TOKEN_GENERATOR_URL", dserver.url),
        ("USERNAME", "testuser"),
        ("PASSWORD", dserver.password),
    ):
        monkeypatch.setenv(f"DSERVER_{name}", value)
    token = dserver.tokens[kind]
    async with TokenBasedLookupClient(dserver.url, token) as client:
        with pytest.raises(LoginError) as caught:
            await client.get_me()
    assert token not in str(caught.value)
    assert paths(dserver) == ["/me"]  # nobody else's login is used instead


async def test_a_token_that_can_not_be_sent(dserver):
    with pytest.raises(ConfigurationError) as caught:
        TokenBasedLookupClient(dserver.url, "two\nlines")
    assert "lines" not in str(caught.value)


# A login ----------------------------------------------------------------------------------------------------------------


async def test_with_credentials(dserver):
    client = CredentialsBasedLookupClient(dserver.url, dserver.url, dserver.username, dserver.password)
    assert (client.auth_url, client.username, client.token) == (dserver.token_url, dserver.username, None)
    for _ in range(2):
        async with client:
            assert client.token
            assert await client.get_readme(URI)
    assert paths(dserver) == ["/token", f"/readmes/{URI.replace('://', '/')}"] * 2
    assert dserver.password not in repr(client)


async def test_authenticate(dserver):
    client = CredentialsBasedLookupClient(dserver.url, dserver.token_url, dserver.username, dserver.password)
    token = await client.authenticate()
    assert token == client.token
    assert client.header == {"Authorization": f"Bearer {token}"}
    await client.close()


@pytest.mark.parametrize("login", [("testuser", "wrong"), (None, None), ("testuser", "")])
async def test_a_login_that_is_refused(dserver, login):
    client = CredentialsBasedLookupClient(dserver.url, dserver.token_url, *login)
    with pytest.raises(RuntimeError, match=r"^Authentication failed") as caught:
        await client.connect()
    assert isinstance(caught.value, LoginError)
    assert isinstance(caught.value, LookupServerError)
    assert len(dserver.requests) <= 1


@pytest.mark.parametrize("status", [500, 404, 418])
async def test_a_token_generator_that_fails(dserver, status):
    dserver.fail(status=status, times=9, path="/token")
    client = CredentialsBasedLookupClient(dserver.url, dserver.token_url, dserver.username, dserver.password)
    told = f"^Error {status} retrieving data from authentication server\\."
    with pytest.raises(RuntimeError, match=told) as caught:
        await client.connect()
    assert isinstance(caught.value, (ServerError, LoginError))
    assert isinstance(caught.value, LookupServerError)
    assert caught.value.status == status
    assert dserver.password not in str(caught.value)


async def test_what_is_no_token_generator(dserver):
    dserver.answer(body=b"<html>welcome</html>", content_type="text/html", path="/token")
    client = CredentialsBasedLookupClient(dserver.url, dserver.token_url, dserver.username, dserver.password)
    with pytest.raises(RuntimeError, match=r"^Authentication failed: .*token generator"):
        await client.connect()


async def test_nobody_answers(dserver):
    client = CredentialsBasedLookupClient(dserver.url, "http://127.0.0.1:9/token", "a", "b")
    with pytest.raises(UnreachableError) as caught:
        await client.connect()
    assert isinstance(caught.value, LookupServerError)


async def test_short_lives_are_renewed(dserver):
    dserver.token_life_s = 2
    async with CredentialsBasedLookupClient(
        dserver.url, dserver.url, dserver.username, dserver.password
    ) as client:
        first = client.token
        for _ in range(5):
            await client.get_me()
            await asyncio.sleep(0.4)
        assert client.token != first
    assert all(request.status == 200 for request in dserver.requests)


async def test_the_deprecated_name(dserver):
    with pytest.warns(DeprecationWarning, match="CredentialsBasedLookupClient") as told:
        client = LookupClient(dserver.url, dserver.url, dserver.username, dserver.password)
    assert told[0].filename == __file__
    async with client:
        assert isinstance(client, CredentialsBasedLookupClient)


# As configured ----------------------------------------------------------------------------------------------------------


async def test_as_configured_with_a_token(with_token):
    async with ConfigurationBasedLookupClient() as client:
        assert type(client) is ConfigurationBasedAuthenticatedLookupClient
        assert (await client.get_me())["username"] == with_token.username
        assert paths(with_token) == ["/me"]  # and nothing only to try the token
        assert await client.has_valid_token() is True
        assert paths(with_token)[1:] == ["/config/info"]


@pytest.mark.parametrize(("kind", "is_valid"), [("expired", False), ("nobody", True), ("unknown", False)])
async def test_has_valid_token(dserver, monkeypatch, kind, is_valid):
    monkeypatch.setenv("DSERVER_TOKEN", dserver.tokens[kind])
    client = ConfigurationBasedAuthenticatedLookupClient()
    assert await client.has_valid_token() is is_valid
    dserver.fail(status=500, times=2)
    with pytest.raises(ServerError) as caught:
        await client.has_valid_token()
    assert isinstance(caught.value, LookupServerError)
    await client.close()


async def test_there_is_no_token_to_be_valid(dserver):
    assert await ConfigurationBasedAuthenticatedLookupClient().has_valid_token() is False
    assert dserver.requests == []


@pytest.fixture
def with_login(dserver, monkeypatch):
    """Give a dserver whose default user's login is in the environment."""
    monkeypatch.setenv("DSERVER_TOKEN_GENERATOR_URL", dserver.url)
    monkeypatch.setenv("DSERVER_USERNAME", dserver.username)
    monkeypatch.setenv("DSERVER_PASSWORD", dserver.password)
    return dserver


async def test_the_token_is_shared_in_the_program(with_login):
    for _ in range(3):
        async with ConfigurationBasedLookupClient() as client:
            await client.get_me()
    get_me()
    assert paths(with_login) == ["/token", *["/me"] * 4]


async def test_the_token_is_not_shared(with_login):
    for _ in range(2):
        async with ConfigurationBasedLookupClient(cache_token=False) as client:
            await client.get_me()
    assert paths(with_login) == ["/token", "/me"] * 2


async def test_what_is_given_counts(with_login, monkeypatch):
    monkeypatch.setenv("DSERVER_TOKEN", with_login.admin_token)
    login = {"username": with_login.username, "password": with_login.password}
    async with ConfigurationBasedLookupClient(**login) as client:
        assert (await client.get_me())["username"] == with_login.username
    monkeypatch.setenv("DSERVER_URL", "http://127.0.0.1:9")
    given = {"lookup_url": with_login.url, "auth_url": with_login.token_url, **login, "verify_ssl": False}
    async with ConfigurationBasedAuthenticatedLookupClient(**given) as client:
        assert (client.lookup_url, client.verify_ssl) == (with_login.url, False)
        assert (await client.get_me())["username"] == with_login.username


async def test_a_configured_login_that_is_refused(with_login, monkeypatch):
    monkeypatch.setenv("DSERVER_PASSWORD", "wrong")
    with pytest.raises(RuntimeError, match=r"^Authentication failed"):
        async with ConfigurationBasedLookupClient():
            pass


@pytest.mark.parametrize(
    ("variable", "argument", "disabled"),
    [
        (None, None, False),
        ("true", None, True),
        ("no", None, False),
        ("true", False, False),
        (None, True, True),
    ],
)
async def test_authentication_is_on_unless_it_is_switched_off(
    with_token, monkeypatch, variable, argument, disabled
):
    if variable is not None:
        monkeypatch.setenv("DSERVER_DISABLE_AUTHENTICATION", variable)
    monkeypatch.setattr(with_token, "authenticate", not disabled)
    async with ConfigurationBasedLookupClient(disable_authentication=argument) as client:
        assert (type(client) is UnauthenticatedLookupClient) is disabled
        assert (client.header == {}) is disabled
        assert (await client.get_me())["username"] == with_token.username


async def test_what_is_configured_for_a_server_is_not_for_others(dserver, monkeypatch):
    monkeypatch.setenv("DSERVER_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DSERVER_VERIFY_SSL", "false")
    Config.token = dserver.token
    for disabled in (False, True):
        client = ConfigurationBasedLookupClient(lookup_url=dserver.url, disable_authentication=disabled)
        assert (client.header, client.verify_ssl) == ({}, True)
    Config.lookup_url = f"{dserver.url}/"
    async with ConfigurationBasedLookupClient(lookup_url=dserver.url, auth_url=dserver.url) as client:
        assert (await client.get_me())["username"] == dserver.username


async def test_no_server_is_named(nothing_configured):
    for kind in (ConfigurationBasedLookupClient, ConfigurationBasedAuthenticatedLookupClient):
        with pytest.raises(ConfigurationError, match="DSERVER_URL") as caught:
            kind()
        assert isinstance(caught.value, LookupServerError)


def test_one_client_in_several_loops(with_token):
    client = ConfigurationBasedLookupClient()

    async def ask():
        await client.create_session()
        return await client.get_me()

    assert [asyncio.run(ask())["username"] for _ in range(3)] == [with_token.username] * 3


async def test_connections_are_kept(with_token):
    async with ConfigurationBasedLookupClient() as client:
        for _ in range(4):
            await client.get_readme(URI)
    assert len({request.port for request in with_token.requests}) == 1
