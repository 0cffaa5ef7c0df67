"""The clients, to be used with ``async with``: by token, by name and password, or as configured."""  # noqa: N999

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from nuncius._core.drivers import AsyncDriver
from nuncius._core.operations import Deadline
from nuncius.compat.dtool_lookup_api import calls, deprecated
from nuncius.compat.dtool_lookup_api.core.config import Config
from nuncius.compat.dtool_lookup_api.errors import (
    LookupConfigurationError,
    LookupServerError,
    translating,
)
from nuncius.compat.dtool_lookup_api.paging import ASCENDING, DESCENDING
from nuncius.compat.dtool_lookup_api.service import LookupService
from nuncius.compat.dtool_lookup_api.sharing import dress, shared, warn_if_deprecated
from nuncius.credentials import Credentials
from nuncius.datasets.configuration import find_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from nuncius._core.operations import Operation
    from nuncius.datasets.configuration import Settings

__all__ = [
    "ASCENDING",
    "DESCENDING",
    "ConfigurationBasedAuthenticatedLookupClient",
    "ConfigurationBasedLookupClient",
    "CredentialsBasedLookupClient",
    "LookupClient",
    "LookupServerError",
    "TokenBasedLookupClient",
    "UnauthenticatedLookupClient",
]

P = ParamSpec("P")
T = TypeVar("T")


def _method(
    operation: Callable[Concatenate[LookupService, P], Operation[T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Return the method that gives a coroutine."""

    async def ask(client: Any, *args: P.args, **options: P.kwargs) -> T:
        found: T = await client._run(operation(client._service, *args, **options))
        return found

    def run(self: Any, /, *args: P.args, **options: P.kwargs) -> Coroutine[Any, Any, T]:
        warn_if_deprecated(operation)  # here, where the caller can be named
        return ask(self, *args, **options)

    dress(run, operation, method_of="UnauthenticatedLookupClient")
    return run


class UnauthenticatedLookupClient:
    """A client of a server that wants no token; and the methods of all clients.

    It may be used with or without ``async with``, in one event loop after the other. Connections are kept until it is
    closed, and no longer than their loop runs.

    Parameters
    ----------
    lookup_url : str
        The server.
    verify_ssl : bool
        Whether its certificate is verified.

    Examples
    --------
    >>> async with UnauthenticatedLookupClient("http://127.0.0.1:5000") as client:  # doctest: +SKIP
    ...     await client.get_versions()
    """

    def __init__(self, lookup_url: str | None, verify_ssl: bool = True) -> None:
        with translating():
            self._use(find_settings(lookup_url, verify=verify_ssl, authenticate=False))

    def _use(self, settings: Settings, service: LookupService | None = None) -> None:
        self._service = service or LookupService(settings, interactive=False)
        self._driver = AsyncDriver(verify=settings.verify)

    @property
    def lookup_url(self) -> str:
        """The server."""
        return self._service.base

    @property
    def verify_ssl(self) -> bool:
        """Whether its certificate is verified."""
        return self._service.settings.verify is not False

    @property
    def header(self) -> dict[str, str]:
        """The header of each request that says who we are."""
        return {}

    async def create_session(self) -> None:
        """Do nothing: connections are made when they are needed."""

    async def connect(self) -> None:
        """Get ready to be asked, as ``async with`` does."""

    async def close(self) -> None:
        """Close the connections. It may be used again."""
        await self._driver.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.lookup_url}>"

    async def _run(self, operation: Operation[T]) -> T:
        with translating():
            return await self._driver.run(operation)

    # What can be asked: see nuncius.compat.dtool_lookup_api.calls ------------------------------------------------------------

    get_config = _method(calls.get_config)
    get_versions = _method(calls.get_versions)
    get_datasets = _method(calls.get_datasets)
    get_dataset = _method(calls.get_dataset)
    register_dataset = _method(calls.register_dataset)
    delete_dataset = _method(calls.delete_dataset)
    get_datasets_by_uuid = _method(calls.get_datasets_by_uuid)
    get_readme = _method(calls.get_readme)
    get_manifest = _method(calls.get_manifest)
    get_tags = _method(calls.get_tags)
    get_annotations = _method(calls.get_annotations)
    get_users = _method(calls.get_users)
    get_user = _method(calls.get_user)
    get_me = _method(calls.get_me)
    register_user = _method(calls.register_user)
    delete_user = _method(calls.delete_user)
    get_summary = _method(calls.get_summary)
    get_my_summary = _method(calls.get_my_summary)
    get_base_uris = _method(calls.get_base_uris)
    get_base_uri = _method(calls.get_base_uri)
    register_base_uri = _method(calls.register_base_uri)
    delete_base_uri = _method(calls.delete_base_uri)
    get_datasets_by_mongo_query = _method(calls.get_datasets_by_mongo_query)
    get_datasets_by_mongo_aggregation = _method(calls.get_datasets_by_mongo_aggregation)
    get_graph_by_uuid = _method(calls.get_graph_by_uuid)

    # Out of date, and still documented.
    config = _method(deprecated.config)
    versions = _method(deprecated.versions)
    all = _method(deprecated.all)
    search = _method(deprecated.search)
    lookup = _method(deprecated.lookup)
    by_uuid = _method(deprecated.by_uuid)
    readme = _method(deprecated.readme)
    manifest = _method(deprecated.manifest)
    list_users = _method(deprecated.list_users)
    user_info = _method(deprecated.user_info)
    summary = _method(deprecated.summary)
    list_base_uris = _method(deprecated.list_base_uris)
    aggregate = _method(deprecated.aggregate)
    query = _method(deprecated.query)
    by_query = _method(deprecated.by_query)
    graph = _method(deprecated.graph)


class TokenBasedLookupClient(UnauthenticatedLookupClient):
    """A client with a token.

    Parameters
    ----------
    lookup_url : str
        The server.
    token : str
        One that the server or its token generator has made.
    verify_ssl : bool
        Whether certificates are verified.

    Raises
    ------
    ValueError
        When it connects, if there is no token.
    """

    def __init__(self, lookup_url: str | None, token: str | None = None, verify_ssl: bool = True) -> None:
        with translating():
            found = find_settings(lookup_url, token=token or None, verify=verify_ssl, authenticate=True)
        # Nobody else's login: who gives a token means that one.
        given = found.token if token else None
        self._use(replace(found, token=given, token_url=None, username=None, credentials=None))

    @property
    def token(self) -> str | None:
        """The token that is used now."""
        return self._service.known_token

    @token.setter
    def token(self, value: str | None) -> None:
        with translating():
            self._service.use_token(value)

    @property
    def header(self) -> dict[str, str]:
        """The header of each request that says who we are: the token stands in it."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    async def connect(self) -> None:
        """Get ready to be asked, as ``async with`` does.

        Raises
        ------
        ValueError
            If there is no token.
        """
        if not self.token:
            raise LookupConfigurationError("Provide JWT token.")


class CredentialsBasedLookupClient(TokenBasedLookupClient):
    """A client with a user name and a password, which gets a token for each session.

    Parameters
    ----------
    lookup_url, auth_url : str
        The server and the token generator; ``/token`` is added to the latter where it has no path.
    username, password : str
        The login.
    verify_ssl : bool
        Whether certificates are verified.
    """

    def __init__(
        self,
        lookup_url: str | None,
        auth_url: str | None,
        username: str | None,
        password: str | None,
        verify_ssl: bool = True,
    ) -> None:
        login = Credentials(username, password) if username and password else None
        with translating():
            found = find_settings(
                lookup_url,
                token_url=auth_url or None,
                credentials=login,
                verify=verify_ssl,
                authenticate=True,
            )
        self._use(replace(found, token=None, username=username, credentials=login))

    @property
    def auth_url(self) -> str | None:
        """The token generator."""
        return self._service.settings.token_url

    @property
    def username(self) -> str | None:
        """The user name."""
        login = self._service.credentials
        return self._service.settings.username if login is None else login.username

    async def authenticate(self) -> str:
        """Get a token, use it from now on, and return it.

        Raises
        ------
        RuntimeError
            ``Authentication failed`` if the login is refused, ``Error ... retrieving data from authentication server`` if
            the token generator fails; both are a `LookupServerError` too.
        """
        return (await self._run(self._service.log_in(Deadline(None)))).reveal()

    async def connect(self) -> None:
        """Get a token, as ``async with`` does; errors as of `authenticate`."""
        await self.authenticate()


class ConfigurationBasedAuthenticatedLookupClient(CredentialsBasedLookupClient):
    """A client of the configured server, as the configured user.

    A token that is known is used as long as it lasts, without being tried; then, or if there is none, one is got with the
    login. What is not given is looked for in `Config`, in the environment and in dtool's configuration file.

    Parameters
    ----------
    lookup_url, auth_url, username, password, verify_ssl : optional
        See `CredentialsBasedLookupClient`.
    cache_token : bool
        Whether the token is shared with the module's functions and with other such clients of this program, where nothing
        else is given. It is never written to a file.
    disable_authentication : bool, optional
        Whether the server wants no token.
    """

    def __init__(
        self,
        lookup_url: str | None = None,
        auth_url: str | None = None,
        username: str | None = None,
        password: str | None = None,
        verify_ssl: bool | None = None,
        cache_token: bool = True,
        *,
        disable_authentication: bool | None = None,
    ) -> None:
        self.cache_token = cache_token
        given = (lookup_url, auth_url, username, password, verify_ssl, disable_authentication)
        if cache_token and all(value is None for value in given):
            with translating():
                service = shared().service
        else:
            authenticate = None if disable_authentication is None else not disable_authentication
            settings = Config.settings(
                lookup_url=lookup_url,
                auth_url=auth_url,
                username=username,
                password=password,
                verify_ssl=verify_ssl,
                authenticate=authenticate,
            )
            service = LookupService(settings)
        self._use(service.settings, service)

    async def connect(self) -> None:
        """See to it that there is a token, if there is anything to get one with; errors as of `authenticate`."""
        await self._run(self._service.pass_of(Deadline(None)))

    async def has_valid_token(self) -> bool:
        """Ask the server whether it takes the token. No other method needs that."""
        return await self._run(self._service.has_valid_token(Deadline(None)))


class ConfigurationBasedLookupClient:
    """Makes the client that the configuration asks for: without a token where that is switched off.

    It is no class of its own: what it makes is an `UnauthenticatedLookupClient` or a
    `ConfigurationBasedAuthenticatedLookupClient`.

    Parameters
    ----------
    lookup_url, auth_url, username, password, verify_ssl, cache_token : optional
        See `ConfigurationBasedAuthenticatedLookupClient`.
    disable_authentication : bool, optional
        Whether the server wants no token; as configured (``DSERVER_DISABLE_AUTHENTICATION``), else False.
    """

    def __new__(  # type: ignore[misc]
        cls,
        lookup_url: str | None = None,
        auth_url: str | None = None,
        username: str | None = None,
        password: str | None = None,
        verify_ssl: bool | None = None,
        disable_authentication: bool | None = None,
        cache_token: bool = True,
    ) -> UnauthenticatedLookupClient:
        """Make a client."""
        settings = Config.settings(
            lookup_url=lookup_url,
            verify_ssl=verify_ssl,
            authenticate=None if disable_authentication is None else not disable_authentication,
        )
        if not settings.authenticate:
            return UnauthenticatedLookupClient(settings.url, settings.verify is not False)
        return ConfigurationBasedAuthenticatedLookupClient(
            lookup_url,
            auth_url,
            username,
            password,
            verify_ssl,
            cache_token,
            disable_authentication=disable_authentication,
        )


class LookupClient(CredentialsBasedLookupClient):
    """An old name of `CredentialsBasedLookupClient`."""

    def __init__(
        self,
        lookup_url: str | None,
        auth_url: str | None,
        username: str | None,
        password: str | None,
        verify_ssl: bool = True,
    ) -> None:
        warnings.warn(
            "LookupClient is deprecated; use CredentialsBasedLookupClient", DeprecationWarning, stacklevel=2
        )
        super().__init__(lookup_url, auth_url, username, password, verify_ssl)
