"""User names, passwords and tokens: where they are looked for. None of them stands in a repr, a log line or an error.

The order is always the same: the argument, the environment, ``credentials.toml`` in the user's configuration folder, and
for archives ``~/.netrc``.
"""

from __future__ import annotations

import netrc
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from nuncius._core.tomlfile import set_keys
from nuncius.errors import ConfigurationError
from nuncius.settings import config_dir


class Credentials:
    """A user name and a password.

    Parameters
    ----------
    username : str
        The name.
    password : str
        The secret.
    source : str
        Where they came from, for error messages.
    """

    __slots__ = ("_password", "source", "username")

    def __init__(self, username: str, password: str, *, source: str = "credentials=") -> None:
        self.username = username
        self._password = password
        self.source = source

    def reveal(self) -> str:
        """Return the password; only for handing it to the library that logs in."""
        return self._password

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, password=***, from {self.source})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not pickled; name them again where they are needed")


class Token:
    """A token that a service has given.

    Parameters
    ----------
    value : str
        The secret.
    source : str
        Where it came from, for error messages.

    Raises
    ------
    ConfigurationError
        If it holds what no token has: a space, a line break, a letter that is not ASCII. It could not be sent.
    """

    __slots__ = ("_value", "source")

    def __init__(self, value: str, *, source: str = "token=") -> None:
        if not (value.isascii() and value.isprintable()) or " " in value or not value:
            raise ConfigurationError(
                f"the token from {source} can't be sent: a token is printable ASCII without spaces. Was a part of "
                "something else copied with it?"
            )
        self._value = value
        self.source = source

    def reveal(self) -> str:
        """Return the token; only for handing it to the service that gave it."""
        return self._value

    def __repr__(self) -> str:
        return f"Token(***, from {self.source})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("tokens are not pickled; name them again where they are needed")


CredentialsLike: TypeAlias = "Credentials | tuple[str, str] | Mapping[str, Any] | None"
"""What is accepted as `credentials=`: a pair, a mapping with `username` and `password`, or `Credentials`."""


def find_credentials(
    service: str,
    given: CredentialsLike = None,
    *,
    host: str | None = None,
    variables: tuple[str, str] | None = None,
) -> Credentials | None:
    """Find a login; None if there is none.

    It is looked for in the argument, in ``NUNCIUS_<SERVICE>_USERNAME`` and ``…_PASSWORD``, in ``credentials.toml`` (a
    table named as the host, else one named as the service), and in netrc by the host.

    Parameters
    ----------
    service : str
        Such as ``"kowalski"``.
    given : Credentials, pair or mapping, optional
        The argument.
    host : str, optional
        Where the service is.
    variables : (str, str), optional
        The service's own variables for the name and the secret, looked at after ours.

    Raises
    ------
    ConfigurationError
        If the argument is no pair of texts, only half of the two variables is set, or a file of secrets can be read by
        others or not be understood.
    """
    if isinstance(given, Credentials):
        return given
    if isinstance(given, Mapping):
        given = (given.get("username"), given.get("password"))  # type: ignore[assignment]
    if given is not None:
        if not (
            isinstance(given, (tuple, list))
            and len(given) == 2
            and all(isinstance(part, str) for part in given)
        ):
            raise ConfigurationError("credentials= takes (username, password), both texts")
        return Credentials(given[0], given[1])
    prefix = _prefix(service)
    for names in ((f"{prefix}_USERNAME", f"{prefix}_PASSWORD"), variables):
        if names is not None and (found := _from_environment(*names)) is not None:
            return found
    table, source = stored_table(service, host)
    if isinstance(table.get("username"), str) and isinstance(table.get("password"), str):
        return Credentials(table["username"], table["password"], source=source)
    return _netrc_login(host) if host else None


def store_credentials(service: str, found: Credentials | None, *, host: str | None = None) -> Path | None:
    """Keep a login in ``credentials.toml``, which nobody else may read, or take it out (None).

    Parameters
    ----------
    service : str
        Such as ``"antares"``.
    found : Credentials, optional
        The login.
    host : str, optional
        Only for this host.

    Returns
    -------
    Path or None
        The file; None if there is no such login to be taken out.

    Raises
    ------
    ConfigurationError
        If the file is no TOML, or the login can't stand in one.
    StorageError
        If it can't be written.
    """
    path = config_dir() / "credentials.toml"
    login = (None, None) if found is None else (found.username, found.reveal())
    changed = set_keys(
        path, host or service, dict(zip(("username", "password"), login, strict=True)), private=True
    )
    return path if changed or found is not None else None


def find_token(service: str, given: str | Token | None = None, *, host: str | None = None) -> Token | None:
    """Find a token: the argument, ``NUNCIUS_<SERVICE>_TOKEN``, or `token` in ``credentials.toml``; else None.

    Raises
    ------
    ConfigurationError
        If the argument is no text, or the file can be read by others or not be understood.
    """
    if isinstance(given, Token):
        return given
    if given is not None:
        if not isinstance(given, str) or not given.strip():
            raise ConfigurationError("token= takes a text that is not empty")
        return Token(given.strip())
    name = f"{_prefix(service)}_TOKEN"
    if value := os.environ.get(name, "").strip():
        return Token(value, source=name)
    table, source = stored_table(service, host)
    return Token(table["token"].strip(), source=source) if isinstance(table.get("token"), str) else None


def _from_environment(name: str, secret: str) -> Credentials | None:
    # An empty variable is one that somebody has taken back.
    username, password = os.environ.get(name) or None, os.environ.get(secret) or None
    if (username is None) != (password is None):
        missing = secret if password is None else name
        raise ConfigurationError(f"{missing} is not set, but its partner is; set both or none")
    if username is None or password is None:
        return None
    return Credentials(username, password, source=f"{name} and {secret}")


def _prefix(service: str) -> str:
    return f"NUNCIUS_{service.upper().replace('-', '_')}"


def stored_table(service: str, host: str | None = None) -> tuple[Mapping[str, Any], str]:
    """Return what ``credentials.toml`` says of a host or a service, and where it stands.

    Raises
    ------
    ConfigurationError
        If the file can be read by others or not be understood.
    """
    path = config_dir() / "credentials.toml"
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}, ""
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}", position=str(path)) from error
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigurationError(
            f"{path} holds secrets and can be read by other users; run: chmod 600 {path}", position=str(path)
        )
    try:
        tables = tomllib.loads(text.decode())
    except ValueError as error:
        # The parser's own text could quote the line that it stumbles over.
        raise ConfigurationError(
            f"{path} is no TOML ({type(error).__name__}); it holds tables such as [kowalski] with username = "
            '"…" and password = "…"',
            position=str(path),
        ) from None
    for name in (host, service):
        if name is not None and isinstance(tables.get(name), dict):
            return tables[name], f"[{name}] in {path}"
    return {}, ""


def _netrc_login(host: str) -> Credentials | None:
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    if not path.is_file():
        return None
    try:
        found = netrc.netrc(path).authenticators(host)
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError) as error:
        # The parser's own text can quote a password.
        line = getattr(error, "lineno", None)
        reason = f"line {line} is not understood" if line else type(error).__name__
        raise ConfigurationError(f"{path} can't be used: {reason}", position=str(path)) from None
    return Credentials(found[0], found[2], source=str(path)) if found and found[0] and found[2] else None
