"""What a program sets for all its clients: where the server is, who we are there, and whether a person may be asked.

A setting is looked for in what the program has assigned to `Config`, in the environment, and in dtool's own
``~/.config/dtool/dtool.json``. That file is read and never written: what is assigned here lasts as long as the program.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nuncius.compat.dtool_lookup_api.errors import translating
from nuncius.credentials import Credentials
from nuncius.datasets import asking
from nuncius.datasets.configuration import config_path, find_settings, store_setting

if TYPE_CHECKING:
    from collections.abc import Hashable

    from nuncius.datasets.configuration import Settings

DSERVER_URL_KEY = "DSERVER_URL"
DSERVER_TOKEN_KEY = "DSERVER_TOKEN"  # noqa: S105 - a name
DSERVER_TOKEN_GENERATOR_URL_KEY = "DSERVER_TOKEN_GENERATOR_URL"  # noqa: S105 - a name
DSERVER_USERNAME_KEY = "DSERVER_USERNAME"
DSERVER_PASSWORD_KEY = "DSERVER_PASSWORD"  # noqa: S105 - a name
DSERVER_VERIFY_SSL_KEY = "DSERVER_VERIFY_SSL"
DSERVER_DISABLE_AUTHENTICATION_KEY = "DSERVER_DISABLE_AUTHENTICATION"

AFFIRMATIVE_EXPRESSIONS = ["true", "1", "y", "yes", "on"]
NEGATIVE_EXPRESSIONS = ["false", "0", "n", "no", "off"]

_KEYS = (
    DSERVER_URL_KEY,
    DSERVER_TOKEN_KEY,
    DSERVER_TOKEN_GENERATOR_URL_KEY,
    DSERVER_USERNAME_KEY,
    DSERVER_PASSWORD_KEY,
    DSERVER_VERIFY_SSL_KEY,
    DSERVER_DISABLE_AUTHENTICATION_KEY,
)
_BESIDE = ("NUNCIUS_DSERVER_USERNAME", "NUNCIUS_DSERVER_PASSWORD", "NUNCIUS_CONFIG_DIR", "NETRC")


class DtoolLookupAPIConfig:
    """Settings for all clients of a program. There is one, `Config`.

    Each property may be assigned to, for this program alone; None takes that back.

    Parameters
    ----------
    interactive : bool
        Whether a person may be asked for user name and password, where one sits at a terminal or a notebook.
    cache : bool
        Whether what was typed is kept for the next login; what was kept is forgotten when this is switched off.

    Examples
    --------
    >>> Config.interactive = False
    >>> Config.cache = False
    """

    def __init__(self, interactive: bool = True, cache: bool = True) -> None:
        self.interactive = interactive
        self._assigned: dict[str, Any] = {}
        self._names: dict[str, str] = {}  # what was typed, by the token generator that it is for
        self._logins: dict[str, Credentials] = {}
        self.cache = cache

    @property
    def cache(self) -> bool:
        """Whether what was typed is kept for the next login."""
        return self._cache

    @cache.setter
    def cache(self, value: bool) -> None:
        self._cache = value
        if not value:
            self._names.clear()
            self._logins.clear()

    # The settings -----------------------------------------------------------------------------------------------------

    @property
    def lookup_url(self) -> str | None:
        """Where the server is (``DSERVER_URL``)."""
        return self._get(DSERVER_URL_KEY)

    @lookup_url.setter
    def lookup_url(self, value: str | None) -> None:
        self._set(DSERVER_URL_KEY, value)

    @property
    def token(self) -> str:
        """A token (``DSERVER_TOKEN``); an empty text if none is set."""
        return self._get(DSERVER_TOKEN_KEY) or ""

    @token.setter
    def token(self, value: str | None) -> None:
        self._set(DSERVER_TOKEN_KEY, value)

    @property
    def auth_url(self) -> str:
        """Where tokens are made (``DSERVER_TOKEN_GENERATOR_URL``); an empty text if that is not set."""
        return self._get(DSERVER_TOKEN_GENERATOR_URL_KEY) or ""

    @auth_url.setter
    def auth_url(self, value: str | None) -> None:
        self._set(DSERVER_TOKEN_GENERATOR_URL_KEY, value)

    @property
    def username(self) -> str | None:
        """The user name (``DSERVER_USERNAME``); a person is asked for it where that may be."""
        known = self._get(DSERVER_USERNAME_KEY)
        url = None if known else self.settings().token_url
        if url is None:
            return known
        known = self._names.get(url)
        if known is None and self._may_ask():
            known = asking.ask_line(f"Authentication URL {url} username:") or None
            if known is not None and self.cache:
                self._names[url] = known
        return known

    @username.setter
    def username(self, value: str | None) -> None:
        self._set(DSERVER_USERNAME_KEY, value)

    @property
    def password(self) -> str | None:
        """The password (``DSERVER_PASSWORD``); a person is asked for it where that may be."""
        known = self._get(DSERVER_PASSWORD_KEY)
        url = None if known else self.settings().token_url
        if url is None:
            return known
        login = self._logins.get(url)
        if login is None and self._may_ask():
            with translating():
                login = asking.ask(url, self.username)
            self.remember(url, login)
        return None if login is None else login.reveal()

    @password.setter
    def password(self, value: str | None) -> None:
        self._set(DSERVER_PASSWORD_KEY, value)

    @property
    def verify_ssl(self) -> bool:
        """Whether servers are verified (``DSERVER_VERIFY_SSL``), as they are by default."""
        return (self._get(DSERVER_VERIFY_SSL_KEY) or "").lower() not in NEGATIVE_EXPRESSIONS

    @verify_ssl.setter
    def verify_ssl(self, value: bool | None) -> None:
        self._set(DSERVER_VERIFY_SSL_KEY, value)

    @property
    def disable_authentication(self) -> bool:
        """Whether the server wants no token (``DSERVER_DISABLE_AUTHENTICATION``); False by default."""
        return (self._get(DSERVER_DISABLE_AUTHENTICATION_KEY) or "").lower() in AFFIRMATIVE_EXPRESSIONS

    @disable_authentication.setter
    def disable_authentication(self, value: bool | None) -> None:
        self._set(DSERVER_DISABLE_AUTHENTICATION_KEY, value)

    # For the clients --------------------------------------------------------------------------------------------------

    def settings(
        self,
        *,
        lookup_url: str | None = None,
        auth_url: str | None = None,
        username: str | None = None,
        password: str | None = None,
        verify_ssl: bool | None = None,
        authenticate: bool | None = None,
    ) -> Settings:
        """Return the settings of a client that is given some of them.

        What was assigned here is for the configured server: a client of another one gets none of it.

        Raises
        ------
        LookupConfigurationError
            If no server is named, or something can't be used.
        """
        own = self.lookup_url
        is_own = None in {lookup_url, own} or str(lookup_url).rstrip("/") == str(own).rstrip("/")
        assigned = self._assigned if is_own else {}
        name = username or assigned.get(DSERVER_USERNAME_KEY)
        secret = password or assigned.get(DSERVER_PASSWORD_KEY)
        disabled = assigned.get(DSERVER_DISABLE_AUTHENTICATION_KEY)
        with translating():
            found = find_settings(
                lookup_url or assigned.get(DSERVER_URL_KEY),
                token=assigned.get(DSERVER_TOKEN_KEY),
                token_url=auth_url or assigned.get(DSERVER_TOKEN_GENERATOR_URL_KEY),
                credentials=(name, secret) if name and secret else None,
                verify=assigned.get(DSERVER_VERIFY_SSL_KEY) if verify_ssl is None else verify_ssl,
                authenticate=not disabled if authenticate is None and disabled is not None else authenticate,
            )
        login = found.credentials
        if login is None:
            name = name or found.username or self._names.get(found.token_url or "")
        elif name or secret:  # half of it may stand elsewhere
            name, secret = name or login.username, secret or login.reveal()
        if name and secret:
            login = Credentials(name, secret, source="Config")
        return replace(found, username=name or found.username, credentials=login)

    def fingerprint(self) -> Hashable:
        """Return what is another thing once a setting has changed, wherever it stands."""
        path = config_path()
        try:
            file = path.read_bytes()
        except OSError:  # that it can't be read is said where it is needed
            file = None
        environment = tuple(map(os.environ.get, (*_KEYS, *_BESIDE)))
        return path, file, environment, tuple(self._assigned.items())

    def remember(self, url: str, login: Credentials) -> None:
        """Keep what somebody has typed for a token generator, unless the cache is off."""
        if self.cache:
            self._names[url], self._logins[url] = login.username, login

    def typed(self, url: str | None) -> Credentials | None:
        """Return what somebody has typed for a token generator."""
        return None if url is None else self._logins.get(url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} interactive={self.interactive} cache={self.cache}>"

    def _get(self, key: str) -> str | None:
        if key in self._assigned:
            return str(self._assigned[key])
        with translating():
            return store_setting(key)

    def _set(self, key: str, value: str | bool | None) -> None:
        if value is None:
            self._assigned.pop(key, None)
        else:
            self._assigned[key] = value

    def _may_ask(self) -> bool:
        return self.interactive and asking.somebody_is_there()


CONFIG_PATH = str(config_path())
Config = DtoolLookupAPIConfig()
