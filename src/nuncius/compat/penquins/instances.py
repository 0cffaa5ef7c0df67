"""One Kowalski that is asked: where it is, who we are there, which catalogs it has, and how it is."""

from __future__ import annotations

import difflib
import ipaddress
import re
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from nuncius._core.drivers import Driver
from nuncius._core.operations import Deadline
from nuncius.archives.kowalski.service import SERVICE, KowalskiService
from nuncius.compat.penquins import asking
from nuncius.compat.penquins.errors import not_added
from nuncius.credentials import find_credentials
from nuncius.errors import ConfigurationError, NunciusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuncius._core.operations import Operation
    from nuncius.compat.penquins.answers import Answer
    from nuncius.credentials import Credentials

T = TypeVar("T")

HOST = "kowalski.caltech.edu"
_OPTIONS = ("name", "protocol", "host", "port", "username", "password", "token", "timeout", "verify")
_KEYS = ("protocol", "host", "port", "base_url", "session", "methods", "token", "headers", "catalogs")
_NAME = re.compile(r"[\w.-]+")
_ILL_S = 30.0  # how long an instance that failed is asked last


class Instance(Mapping[str, Any]):
    """One Kowalski; a mapping with what penquins keeps of an instance.

    Its keys are protocol, host, port, base_url, session, methods, token, headers, catalogs, and username and password
    where there are any. They are for reading. The token is the one of now: it may have been renewed.

    Parameters
    ----------
    name : str
        What it is called.
    config : mapping
        protocol, host, port, username and password or token, timeout (seconds), verify (see `Kowalski`).
    timeout_s : float
        For one request, unless `config` says otherwise.
    verify : bool or str
        How the server is verified, unless `config` says otherwise.

    Raises
    ------
    ConfigurationError
        If it can't be meant so.
    """

    def __init__(self, name: str, config: Mapping[str, Any], *, timeout_s: float, verify: bool | str) -> None:
        config = _checked(name, config)
        self.protocol = config.get("protocol", "https")
        self.host = config.get("host", HOST)
        self.port = config.get("port", 443)
        self.catalogs: list[str] = []
        self.asked = 0  # what it has to do now
        self.ill_until = 0.0
        self.server = KowalskiService(
            f"{self.protocol}://{_host(self.host)}:{self.port}",
            credentials=_login(name, config),
            token=config.get("token"),
            timeout_s=_timeout(config.get("timeout", timeout_s)),
        )
        if self.server.credentials is None and self.server.given_token is None:
            raise ConfigurationError(_missing(name))
        self.session = Driver(verify=config.get("verify", verify))

    # What penquins keeps ----------------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """Where it is."""
        return self.server.base

    @property
    def token(self) -> str:
        """The token of now; a secret."""
        return self.run(self.server.token(self._deadline())).reveal()

    @property
    def headers(self) -> dict[str, str]:
        """What is sent with each request; a secret."""
        return {"Authorization": self.token}

    @property
    def methods(self) -> dict[str, Any]:
        """A function for each verb, which takes an address and what is sent."""
        return {verb: partial(self.call, verb) for verb in asking.METHODS}

    @property
    def username(self) -> str | None:
        """The user name, if it is known."""
        return self.server.credentials.username if self.server.credentials else None

    @property
    def password(self) -> str | None:
        """The password, if it is known; a secret."""
        return self.server.credentials.reveal() if self.server.credentials else None

    def __getitem__(self, key: str) -> Any:
        if key not in self._keys():
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys())

    def __len__(self) -> int:
        return len(self._keys())

    def __repr__(self) -> str:
        return f"<Instance at {self.base_url}: {len(self.catalogs)} catalogs>"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def _keys(self) -> tuple[str, ...]:
        return _KEYS if self.server.credentials is None else (*_KEYS, "username", "password")

    # Asking -----------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Log in if there is no token, and learn which catalogs there are; a token that is not accepted shows here."""
        if self.server.given_token is None:
            self.run(self.server.token(self._deadline()))
        self.refresh()

    def log_in(self) -> str:
        """Get a new token."""
        self.run(self.server.log_in(self._deadline()))
        return self.token

    def refresh(self) -> list[str]:
        """Ask which catalogs there are."""
        self.catalogs = self.run(asking.catalogs(self.server))
        return self.catalogs

    def ping(self) -> bool:
        """Tell whether it answers and knows us."""
        try:
            return self.run(asking.greet(self.server))
        except NunciusError:
            return False

    def ask(self, query: Mapping[str, Any]) -> Answer:
        """Ask a query."""
        self.asked += 1
        try:
            answer = self.run(asking.ask(self.server, query))
        finally:
            self.asked -= 1
        self.ill_until = 0.0
        return answer

    def call(self, method: str, endpoint: str, data: Mapping[str, Any] | None = None) -> Answer:
        """Call an address."""
        return self.run(asking.call(self.server, method, endpoint, data))

    def run(self, operation: Operation[T]) -> T:
        """Run an operation on its connections."""
        return self.session.run(operation)

    def close(self) -> None:
        """Close its connections."""
        self.session.close()

    @property
    def is_ill(self) -> bool:
        """Whether it has failed lately."""
        return time.monotonic() < self.ill_until

    def note_failure(self) -> None:
        """Let others be asked first for a while."""
        self.ill_until = time.monotonic() + _ILL_S

    def is_same(self, other: Instance) -> bool:
        """Tell whether it is the same server and the same user."""
        return self._identity() == other._identity()

    def _identity(self) -> tuple[str, str | None, str | None]:
        token = self.server.given_token
        return self.base_url, self.username, token.reveal() if token else None

    def _deadline(self) -> Deadline:
        return Deadline(self.server.timeout_s)


def connected(name: str, config: Mapping[str, Any], *, timeout_s: float, verify: bool | str) -> Instance:
    """Return an instance that has answered.

    Raises
    ------
    NunciusError
        Why it was not added; it is a `ValueError` too.
    """
    instance = None
    try:
        instance = Instance(name, config, timeout_s=timeout_s, verify=verify)
        instance.connect()
    except NunciusError as error:
        if instance is not None:
            instance.close()
        raise not_added(name, error) from error
    return instance


def _checked(name: str, config: Any) -> dict[str, Any]:
    """Return the settings that are given; None is not given."""
    if not isinstance(config, Mapping):
        raise ConfigurationError(
            f"its settings are a mapping with host, port, protocol and token, not a {type(config).__name__}"
        )
    for option in config:
        if option not in _OPTIONS:
            close = difflib.get_close_matches(str(option), _OPTIONS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(_OPTIONS)}"
            raise ConfigurationError(f"{option!r} is no setting of an instance; {hint}", position=name)
    return {option: value for option, value in config.items() if value is not None}


def _login(name: str, config: Mapping[str, Any]) -> Credentials | tuple[str, str] | None:
    """Return the login that is given; a user name alone has its password in netrc or our own settings."""
    username, password = config.get("username"), config.get("password")
    if username is None and password is None:
        return None
    if username is not None and password is not None:
        return username, password
    found = find_credentials(SERVICE, None, host=config.get("host", HOST))
    if username is not None and found is not None and found.username == username:
        return found
    if config.get("token") is not None:
        return None
    raise ConfigurationError(_missing(name))


def _host(value: Any) -> str:
    """Return a host as it stands in a URL."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    try:
        return f"[{ipaddress.IPv6Address(value)}]"
    except ValueError:
        # It is not repeated: it may be a URL with a password.
        raise ConfigurationError(
            "host is the name of a machine and nothing else, such as 'kowalski.example.org'"
        ) from None


def _missing(name: str) -> str:
    return f"Missing credentials for {name}: provide either username and password, or token"


def _timeout(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigurationError(f"timeout={value!r}: the seconds that a request may take, more than 0")
    return float(value)
