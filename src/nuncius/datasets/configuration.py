"""Where a dserver is and who we are there: arguments, the environment, and dtool's own configuration file.

The names are those of the environment and of ``~/.config/dtool/dtool.json`` alike: ``DSERVER_URL``, ``DSERVER_TOKEN``,
``DSERVER_TOKEN_GENERATOR_URL``, ``DSERVER_USERNAME``, ``DSERVER_PASSWORD``, ``DSERVER_VERIFY_SSL`` and
``DSERVER_DISABLE_AUTHENTICATION``. An argument comes before the environment, and the environment before the file. The file
is read and never written.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nuncius._session import base_url
from nuncius.credentials import Credentials, Token, find_credentials
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuncius.credentials import CredentialsLike

SERVICE = "dserver"
EXAMPLE = "https://host:5000"
_NO = frozenset({"false", "0", "n", "no", "off"})
_YES = frozenset({"true", "1", "y", "yes", "on"})
_SECRETS = ("DSERVER_TOKEN", "DSERVER_TOKEN_GENERATOR_URL", "DSERVER_USERNAME", "DSERVER_PASSWORD")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a dserver is, and who we are there.

    Parameters
    ----------
    url : str
        The server.
    token : Token, optional
        A token that was given.
    token_url : str, optional
        Where tokens are got.
    username : str, optional
        A name without a password, which a person is asked for.
    credentials : Credentials, optional
        Name and password.
    verify : bool or str
        How servers are verified.
    authenticate : bool
        False where the server wants no token.
    elsewhere : tuple of str
        What was found and is not used, because it stands beside the URL of another server.
    """

    url: str
    token: Token | None = None
    token_url: str | None = None
    username: str | None = None
    credentials: Credentials | None = None
    verify: bool | str = True
    authenticate: bool = True
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """One place that has settings: the environment or the file."""

    name: str
    values: Mapping[str, Any] = field(repr=False)

    def get(self, name: str) -> str | None:
        """Return a setting as a text; None where it is absent or empty. Blanks around a password are of it."""
        value = self.values.get(name)
        if isinstance(value, bool):
            return str(value).lower()
        if value is not None and not isinstance(value, (str, int, float)):
            raise ConfigurationError(f"{name} in {self.name} is not a text", position=self.name)
        text = "" if value is None else str(value)
        return text if text.strip() and name == "DSERVER_PASSWORD" else text.strip() or None

    def belongs_to(self, url: str) -> bool:
        """Tell whether what is secret here is meant for that server: a login goes with the URL beside which it stands."""
        own = self.get("DSERVER_URL")
        return own is None or _origin(own) == _origin(url)


def config_path(config_file: str | os.PathLike[str] | None = None) -> Path:
    """Return dtool's configuration file."""
    return Path(config_file).expanduser() if config_file else Path.home() / ".config" / "dtool" / "dtool.json"


def find_settings(
    url: str | None = None,
    *,
    token: str | Token | None = None,
    token_url: str | None = None,
    credentials: CredentialsLike = None,
    verify: bool | str | None = None,
    authenticate: bool | None = None,
    config_file: str | os.PathLike[str] | None = None,
) -> Settings:
    """Put together what the arguments, the environment and the file say.

    A token, a token generator and a login are used for the server beside whose URL they stand, never for another one; and
    so is what says that a server is not verified, or wants no token.

    Parameters
    ----------
    url, token, token_url, credentials, verify, authenticate : optional
        What the caller says.
    config_file : path, optional
        Another file than dtool's own.

    Raises
    ------
    ConfigurationError
        If there is no URL, or something can't be used; if the file is no JSON.
    """
    places = (_Place("the environment", os.environ), _Place(*_file(config_path(config_file))))

    def first(name: str, usable: Callable[[_Place], bool] = lambda _: True) -> tuple[str | None, str]:
        for place in places:
            if usable(place) and (value := place.get(name)) is not None:
                return value, f"{name} in {place.name}"
        return None, ""

    url = url or first("DSERVER_URL")[0]
    if not url:
        raise ConfigurationError(
            "no dserver is named: give its URL, set DSERVER_URL, or write it into ~/.config/dtool/dtool.json"
        )
    if not isinstance(url, str):
        raise ConfigurationError(f"the URL of a dserver is a text such as {EXAMPLE!r}, not {url!r}"[:300])
    base = base_url(url, SERVICE, EXAMPLE, prefix="DSERVER")

    def own(name: str) -> tuple[str | None, str]:
        return first(name, lambda place: place.belongs_to(base))

    found = {name: own(name) for name in _SECRETS}
    named = credentials is not None and token is None  # who names a login means that one
    where = token_url or found["DSERVER_TOKEN_GENERATOR_URL"][0]
    generator = _token_url(where) if where else None
    # Nor is a token that is named renewed as somebody who only was found.
    login = (
        None if token is not None and credentials is None else _login(generator or base, credentials, found)
    )
    if authenticate is None:
        authenticate = (own("DSERVER_DISABLE_AUTHENTICATION")[0] or "no").lower() not in _YES
    if verify is None:
        verify = (own("DSERVER_VERIFY_SSL")[0] or "yes").lower() not in _NO
    return Settings(
        base,
        token=None if named else _token(token, found["DSERVER_TOKEN"]),
        token_url=generator,
        username=found["DSERVER_USERNAME"][0],
        credentials=login,
        verify=verify,
        authenticate=authenticate,
        elsewhere=tuple(
            f"{name} in {place.name}"
            for place in places
            for name in _SECRETS
            if not place.belongs_to(base) and place.get(name) is not None
        ),
    )


def store_setting(name: str, config_file: str | os.PathLike[str] | None = None) -> str | None:
    """Return a setting of dtool's storage brokers, such as ``DTOOL_S3_ENDPOINT_<bucket>``, of environment or file."""
    place = _Place("the environment", os.environ)
    return place.get(name) or _Place(*_file(config_path(config_file))).get(name)


def _token(given: str | Token | None, found: tuple[str | None, str]) -> Token | None:
    if isinstance(given, Token):
        return given
    if given is not None:
        if not isinstance(given, str) or not given.strip():
            raise ConfigurationError("token= takes a text that is not empty")
        return Token(given.strip())
    value, source = found
    return Token(value, source=source) if value else None


def _login(
    url: str, given: CredentialsLike, found: Mapping[str, tuple[str | None, str]]
) -> Credentials | None:
    """Return the login that is sent to that address; files know logins by its host."""
    host = urlsplit(url).hostname
    if given is not None:
        return find_credentials(SERVICE, given, host=host)
    (username, _), (password, source) = found["DSERVER_USERNAME"], found["DSERVER_PASSWORD"]
    if username and password:
        return Credentials(username, password, source=source)
    return find_credentials(SERVICE, None, host=host)


def _token_url(url: str) -> str:
    """Return where tokens are got: as given, and ``/token`` where the URL has no path."""
    base = base_url(url, SERVICE, f"{EXAMPLE}/token", prefix="DSERVER")
    return base if urlsplit(base).path.strip("/") else f"{base}/token"


def _file(path: Path) -> tuple[str, Mapping[str, Any]]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if path != config_path():  # dtool's own may be absent, one that was named may not
            raise ConfigurationError(f"{path} is not there", position=str(path)) from error
        return str(path), {}
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}", position=str(path)) from error
    except (ValueError, RecursionError) as error:
        # The parser's own text could quote the line that it stumbles over.
        where = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigurationError(
            f"{path} is no JSON{where}; it holds one object, such as "
            '{"DSERVER_URL": "https://host:5000", "DSERVER_TOKEN_GENERATOR_URL": "https://host:5001/token"}',
            position=str(path),
        ) from None
    if not isinstance(values, dict):
        raise ConfigurationError(
            f"{path} holds no object of names and values, as dtool's configuration does", position=str(path)
        )
    return str(path), values


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return url, None, None
