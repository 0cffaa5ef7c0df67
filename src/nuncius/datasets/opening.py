"""`open_dserver`: from a URL, or from nothing but what is configured, to a dserver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius._core.drivers import AsyncDriver, Driver
from nuncius.datasets._async import AsyncDServer
from nuncius.datasets._sync import DServer
from nuncius.datasets.service import DServerService

if TYPE_CHECKING:
    import os

    from nuncius.credentials import CredentialsLike, Token


def open_dserver(
    url: str | None = None,
    *,
    token: str | Token | None = None,
    credentials: CredentialsLike = None,
    token_url: str | None = None,
    authenticate: bool | None = None,
    verify: bool | str | None = None,
    interactive: bool = True,
    timeout_s: float = 30.0,
    manifest_cache: bool = True,
    config_file: str | os.PathLike[str] | None = None,
) -> DServer:
    """Open a dserver. Nothing is asked before it is needed.

    What is not given is looked for in the environment and then in ``~/.config/dtool/dtool.json``, which is read and never
    written: ``DSERVER_URL``, ``DSERVER_TOKEN``, ``DSERVER_TOKEN_GENERATOR_URL``, ``DSERVER_USERNAME``,
    ``DSERVER_PASSWORD``, ``DSERVER_VERIFY_SSL``, ``DSERVER_DISABLE_AUTHENTICATION``. A login is used only for the server
    beside whose URL it stands.

    Parameters
    ----------
    url : str, optional
        Such as ``"https://demo.dtool.dev/lookup"``.
    token : str, optional
        One that the server or its token generator has made.
    credentials : (str, str) or mapping, optional
        User name and password, with which tokens are got, and got again when they end.
    token_url : str, optional
        The token generator; ``/token`` is added where it has no path.
    authenticate : bool, optional
        False for a server that wants no token.
    verify : bool or str, optional
        How servers are verified: by the system's certificates, by those of a file or folder, or not at all.
    interactive : bool
        Whether a person may be asked for user name and password, where one sits at a terminal or a notebook.
    timeout_s : float
        For one request.
    manifest_cache : bool
        Whether manifests are kept: what is frozen doesn't change.
    config_file : path, optional
        Another file than dtool's own.

    Returns
    -------
    DServer

    Raises
    ------
    ConfigurationError
        If no server is named, or a setting can't be used.

    Examples
    --------
    >>> with open_dserver("https://demo.dtool.dev/lookup") as dserver:  # doctest: +SKIP
    ...     dserver.search("supernova").to_table()
    """
    service = DServerService.found(
        url,
        token=token,
        credentials=credentials,
        token_url=token_url,
        authenticate=authenticate,
        verify=verify,
        interactive=interactive,
        timeout_s=timeout_s,
        config_file=config_file,
    )
    return DServer(service, Driver(verify=service.settings.verify), manifest_cache=manifest_cache)


def open_async_dserver(
    url: str | None = None,
    *,
    token: str | Token | None = None,
    credentials: CredentialsLike = None,
    token_url: str | None = None,
    authenticate: bool | None = None,
    verify: bool | str | None = None,
    interactive: bool = True,
    timeout_s: float = 30.0,
    manifest_cache: bool = True,
    config_file: str | os.PathLike[str] | None = None,
) -> AsyncDServer:
    """Open a dserver whose methods are awaited; see `nuncius.open_dserver`.

    Examples
    --------
    >>> async with nuncius.aio.open_dserver("https://demo.dtool.dev/lookup") as dserver:  # doctest: +SKIP
    ...     await dserver.search("supernova")
    """
    service = DServerService.found(
        url,
        token=token,
        credentials=credentials,
        token_url=token_url,
        authenticate=authenticate,
        verify=verify,
        interactive=interactive,
        timeout_s=timeout_s,
        config_file=config_file,
    )
    return AsyncDServer(service, AsyncDriver(verify=service.settings.verify), manifest_cache=manifest_cache)
