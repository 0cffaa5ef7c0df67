"""Starting the server: what it listens on, and with what protection."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require
from nuncius.errors import ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from nuncius.archives.server.accounts import Accounts
    from nuncius.archives.server.limits import Limits

_CONNECTIONS = 500
_KEEP_ALIVE_S = 65


def check_address(host: str, *, encrypted: bool, proxy: str | None) -> None:
    """Refuse to listen where passwords would travel in the clear.

    Raises
    ------
    ConfigurationError
        If the address can be reached from elsewhere and there is neither a certificate nor a proxy that has one.
    """
    if encrypted or proxy is not None or _is_loopback(host):
        return
    raise ConfigurationError(
        f"{host} can be reached from other machines, and passwords would travel unencrypted; give --certificate and "
        "--key, or --behind-proxy if a proxy with TLS stands before this server"
    )


def check_catalogs(archive: Any, catalogs: tuple[str, ...]) -> None:
    """Refuse to open catalogs that don't exist.

    Raises
    ------
    NotFoundError
        If there is no such catalog.
    """
    known = archive.catalogs()
    for name in catalogs:
        if name not in known:
            raise NotFoundError(
                f"the archive has no catalog {name!r}; it has {', '.join(known) or 'none yet'}", position=name
            )


def server_for(
    archive: Any,
    accounts: Accounts,
    *,
    host: str = "127.0.0.1",
    port: int = 4000,
    catalogs: tuple[str, ...] = (),
    certificate: Path | None = None,
    key: Path | None = None,
    proxy: str | None = None,
    limits: Limits | None = None,
    token_days: float = 30.0,
) -> Any:
    """Make the uvicorn server; its `run` method serves until it is stopped.

    Parameters
    ----------
    archive : EmbeddedArchive
        What is asked, opened with ``read_only=True``.
    accounts : Accounts
        Who may ask.
    host, port
        Where to listen.
    catalogs : tuple of str
        Which catalogs are opened; all if there is none.
    certificate, key : Path, optional
        PEM files, for TLS.
    proxy : str, optional
        The address of a proxy with TLS that stands before the server, which is believed who the clients are.
    limits : Limits, optional
        What one request may cost.
    token_days : float
        How long a token is good.

    Raises
    ------
    ConfigurationError
        If it would be reachable from elsewhere without encryption, or nobody has an account.
    NotFoundError
        If one of the catalogs does not exist.
    MissingExtraError
        If starlette or uvicorn is not installed.
    """
    uvicorn = require("uvicorn", extra="server")
    require("starlette", extra="server")
    require("jwt", extra="server")
    from nuncius.archives.server.app import create_app

    if (certificate is None) != (key is None):
        raise ConfigurationError("give --certificate and --key together")
    check_address(host, encrypted=certificate is not None, proxy=proxy)
    check_catalogs(archive, catalogs)
    if not accounts.everyone():
        raise ConfigurationError(
            f"nobody has an account yet; add one: nuncius users add NAME --accounts {accounts.path}"
        )
    app = create_app(archive, accounts, catalogs=catalogs or None, limits=limits, token_days=token_days)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
