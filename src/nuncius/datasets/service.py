"""The conversation with one dserver: tokens, requests, and its errors in our words.

Source: the interface of dservercore 0.22.0 and of the token generator of dtool. What surprises is said where it is handled.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nuncius._core.jsontext import read_json
from nuncius._core.operations import Call, Deadline, Request
from nuncius._core.retry import retry_after_s, send
from nuncius._session import JSON, Session, text_of, without
from nuncius.credentials import Token
from nuncius.datasets import asking
from nuncius.datasets.configuration import SERVICE, find_settings
from nuncius.errors import (
    ConfigurationError,
    FilterError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    ServerError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius._core.operations import Operation, Response
    from nuncius.credentials import Credentials, CredentialsLike
    from nuncius.datasets.configuration import Settings
    from nuncius.errors import NunciusError

_EARLY_S = 30.0  # a token is renewed so long before it ends
_SHORT_S = 60.0  # or at half its life, if that is shorter than this
_LONGEST_S = 1e9  # what sockets can count
_LARGE_BODY = 1 << 18
_JWT = re.compile(r"eyJ[\w-]{8,}(\.[\w-]*){0,2}")
_LARGEST_PAYLOAD = 1 << 16  # of a token

_ALWAYS_THERE = frozenset(
    {"uris", "me", "me/summary", "users", "base-uris", "config/info", "config/versions"}
)

PLUGINS = {
    "mongo": ("dserver_direct_mongo_plugin", "dserver-direct-mongo-plugin"),
    "graph": ("dserver_dependency_graph_plugin", "dserver-dependency-graph-plugin"),
}
"""Which plugin answers the addresses that begin so: its module, and its package."""


class DServerService(Session):
    """One dserver, as operations.

    Parameters
    ----------
    settings : Settings
        Where it is, and who we are there.
    interactive : bool
        Whether a person may be asked for name and password.
    timeout_s : float
        For one request.
    """

    service = SERVICE

    def __init__(
        self,
        settings: Settings,
        *,
        interactive: bool = True,
        timeout_s: float = 30.0,
    ) -> None:
        super().__init__(
            settings.url, credentials=settings.credentials, token=settings.token, timeout_s=timeout_s
        )
        self.settings = settings
        self.interactive = interactive
        self.config_file: str | None = None
        self._versions: dict[str, str] | None = None
        if settings.token is not None:
            begun, end = lifetime(settings.token.reveal())
            left_s = end - time.time()
            self._ends = time.monotonic() + left_s - _margin_s(left_s if begun is None else end - begun)

    @classmethod
    def found(
        cls,
        url: str | None = None,
        *,
        token: str | Token | None = None,
        credentials: CredentialsLike = None,
        token_url: str | None = None,
        authenticate: bool | None = None,
        verify: bool | str | None = None,
        interactive: bool = True,
        timeout_s: float = 30.0,
        config_file: str | os.PathLike[str] | None = None,
    ) -> DServerService:
        """Make one of what the caller says, and of the settings that are found; see `nuncius.open_dserver`."""
        settings = find_settings(
            url,
            token=token,
            token_url=token_url,
            credentials=credentials,
            verify=verify,
            authenticate=authenticate,
            config_file=config_file,
        )
        service = cls(settings, interactive=interactive, timeout_s=timeout_s)
        limit_s = service.check_timeout(timeout_s)
        if limit_s is None:
            raise ConfigurationError(
                "timeout_s=None: a server that says nothing would be waited for for ever"
            )
        service.timeout_s = limit_s
        service.config_file = None if config_file is None else os.fspath(config_file)
        return service

    @property
    def public(self) -> dict[str, Any]:
        """The settings that are no secret, with which it is found again in another process."""
        return {
            "url": self.base,
            "token_url": self.settings.token_url,
            "authenticate": self.settings.authenticate,
            "verify": self.settings.verify,
            "interactive": self.interactive,
            "timeout_s": self.timeout_s,
            "config_file": self.config_file,
        }

    # Logging in -------------------------------------------------------------------------------------------------------

    @property
    def can_log_in(self) -> bool:
        """Whether a new token can be got: there is a generator, and a login or somebody who can be asked for one."""
        if self.settings.token_url is None:
            return False
        return self.credentials is not None or (self.interactive and asking.somebody_is_there())

    def is_refused(self, response: Response) -> bool:
        """Tell whether an answer says that the token is dead or none.

        A user who is not registered gets 401 as well, with other words: a new token would change nothing.
        """
        return response.status in {401, 422} and "msg" in _object(response)

    def pass_of(self, deadline: Deadline) -> Operation[Token | None]:
        """Return the token; None where the server wants none, or there is nothing to log in with."""
        if not self.settings.authenticate:
            return None
        if self._token is None and not self.can_log_in:
            return None  # the server says whether it wants one
        return (yield from self.token(deadline))

    def log_in(self, deadline: Deadline) -> Operation[Token]:
        """Get a token for the user name and password."""
        url = self.settings.token_url
        if url is None or not self.can_log_in:
            raise self._no_login()
        login = self.credentials
        if login is None:
            login = yield Call(asking.ask, (url, self.settings.username))
            deadline = Deadline(self.timeout_s)  # nobody types within the time of a request
        token, ends = yield from self._token_of(url, login, deadline)
        self.credentials = login  # what was typed is kept for the next time
        return self.keep_token(token, ends)

    def _token_of(self, url: str, login: Credentials, deadline: Deadline) -> Operation[tuple[Token, float]]:
        body = json.dumps({"username": login.username, "password": login.reveal()}).encode()
        request = Request("POST", url, JSON, body=body, timeout_s=self.timeout_s)
        begin = time.monotonic()
        response: Response = yield from send(request, deadline, reads=True)  # a second token does no harm
        answer = _object(response)
        facts: dict[str, Any] = {"service": self.service, "url": url, "status": response.status}
        if response.status == 200 and isinstance(answer.get("token"), str):
            token = Token(answer["token"], source=url)
            begun, end = lifetime(token.reveal())
            life_s = end - (time.time() if begun is None else begun)  # by the server's own clock
            return token, begin + life_s - _margin_s(life_s)
        # The generator says "fail" with status 200.
        if response.status in {200, 400, 401, 403} and answer:
            raise LoginError(
                f"{url} refuses the login of {login.username!r} (from {login.source}). Check user name and password",
                **facts,
            )
        said = text_of(response, lambda text: without(text, login.reveal()))
        raise ServerError(
            f"{url} gives no token: it answers HTTP {response.status}, {said}. Is it the token generator? Its address "
            "mostly ends in /token",
            **facts,
        )

    def _no_login(self) -> LoginError:
        generator = (
            "" if self.settings.token_url else " and DSERVER_TOKEN_GENERATOR_URL (where tokens are made)"
        )
        unused = ", ".join(self.settings.elsewhere)
        elsewhere = f". Not used, because DSERVER_URL names another server there: {unused}" if unused else ""
        return LoginError(
            f"{self.base} wants a token, and there is none. Set DSERVER_TOKEN, or DSERVER_USERNAME and DSERVER_PASSWORD"
            f"{generator}; or give token= or credentials=; `nuncius datasets login` keeps a login for good{elsewhere}",
            service=self.service,
            url=self.base,
        )

    # Asking -----------------------------------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        what: str = "",
    ) -> Operation[tuple[Any, Response]]:
        """Send a request and return what its answer says, and the answer.

        Everything a dserver does may be asked again: what is registered or deleted twice is the same as once.

        Parameters
        ----------
        method, path, deadline, params
            Which.
        json : optional
            The body.
        what : str
            What is asked for, for the message that it isn't there.

        Raises
        ------
        NunciusError
            As the status says; ServerError if the answer is no JSON.
        """
        body = None if json is None else _encoded(json)
        response = yield from self.respond(method, path, deadline, body=body, params=params, reads=True)
        if not 200 <= response.status < 300:
            if response.status == 404:
                yield from self._check_plugin(path, deadline)
            raise self.failure(response, what, path)
        if not response.body:
            return None, response
        try:
            return (yield from parsed(response.body)), response
        except ValueError as error:
            raise ServerError(
                f"{self.base} is no dserver, or something stands between: asked for {what or path}, it answers "
                f"{self.quoted(self.beginning(response))}, which is no JSON",
                **self.facts(response),
            ) from error

    def hidden(self, text: str) -> str:
        """See `Session.hidden`; also without tokens that have been replaced meanwhile."""
        return _JWT.sub("***", super().hidden(text))

    def check_timeout(self, timeout_s: float | None) -> float | None:
        """Return how long something may take.

        Raises
        ------
        ConfigurationError
            If it is no number of seconds.
        """
        if timeout_s is None:
            return None
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or not timeout_s > 0:
            raise ConfigurationError(f"timeout_s={timeout_s!r}: a number of seconds above 0 is needed")
        return min(timeout_s, _LONGEST_S)

    def versions(self, deadline: Deadline, *, fresh: bool = True) -> Operation[dict[str, str]]:
        """Return the versions of the server and its plugins, by module name; it needs no token."""
        if self._versions is None or fresh:
            answer, _ = yield from self.ask("GET", "config/versions", deadline, what="its versions")
            self._versions = self.mapping(answer, "versions")
        return dict(self._versions)

    def mapping(self, answer: Any, name: str | None = None) -> dict[str, Any]:
        """Return the object that an answer is, or the one that it has under a name.

        Raises
        ------
        ServerError
            If there is none.
        """
        value = answer if name is None or not isinstance(answer, dict) else answer.get(name)
        if not isinstance(answer, dict) or not isinstance(value, dict):
            raise self.strange("an object" if name is None else f"an object with {name!r}", answer)
        return value

    def strange(self, wanted: str, answer: Any) -> ServerError:
        """Return the error for an answer that can't be what was asked for."""
        return ServerError(
            f"{self.base} answers {type(answer).__name__} where {wanted} was expected; is it a dserver?",
            service=self.service,
            url=self.base,
        )

    def _check_plugin(self, path: str, deadline: Deadline) -> Operation[None]:
        """Raise if an address isn't there because its plugin isn't."""
        found = PLUGINS.get(path.partition("/")[0])
        if found is None:
            return
        module, package = found
        versions = yield from self.versions(deadline, fresh=False)
        core = versions.get("dservercore", "unknown")
        if module not in versions:
            raise UnsupportedError(
                f"{self.base} can't do that: it has no {package}. It runs dservercore {self.quoted(str(core))} with "
                f"{self.quoted(', '.join(sorted(set(versions) - {'dservercore'}))) or 'no plugins'}; its administrator "
                "can add it",
                service=self.service,
                url=self.base,
            )
        if path in {"mongo/query", "mongo/aggregate"}:
            switch = "QUERY" if path == "mongo/query" else "AGGREGATION"
            raise UnsupportedError(
                f"{self.base} has {package} {self.quoted(str(versions[module]))}, but {path} is switched off there; its "
                f"administrator can set DSERVER_ALLOW_DIRECT_{switch}",
                service=self.service,
                url=self.base,
            )

    def failure(self, response: Response, what: str, path: str = "") -> NunciusError:
        """Return the error that an answer stands for."""
        answer = _object(response)
        facts = self.facts(response)
        said = self.quoted(str(answer.get("msg") or answer.get("status") or self.beginning(response)))
        match response.status:
            case 401 | 422 if "msg" in answer:
                return self._token_error(said, facts)
            case 401 if answer:
                return LoginError(
                    f"{self.base} accepts the token, but its user is not registered there ({said}); its administrator "
                    "can register you",
                    **facts,
                )
            case 401:
                return LoginError(
                    f"{self.base}, or something before it, wants another login: {said}", **facts
                )
            case 403 if path.startswith(("users", "base-uris")):
                return ForbiddenError(
                    f"{self.base} does not give {what}: only its administrators may see and change that",
                    **facts,
                )
            case 403:
                return ForbiddenError(
                    f"{self.base} does not give {what or 'that'}: its base URI is unknown there, or not yours to see or "
                    "change (the server makes no difference between the two)",
                    **facts,
                )
            case 404 if not answer or path in _ALWAYS_THERE:
                return NotFoundError(
                    f"{self.base} does not have {what or 'that'}, as every dserver has: is this its address, with all of "
                    f"its path? It answers {said}",
                    position=what,
                    **facts,
                )
            case 404:
                return NotFoundError(f"{self.base} does not have {what or 'that'}", position=what, **facts)
            case 400:
                return ConfigurationError(f"{self.base} does not accept {what or 'that'}: {said}", **facts)
            case 422:
                problems = self.quoted(_problems(answer.get("errors")) or said)
                return FilterError(f"{self.base} does not understand the question: {problems}", **facts)
            case 429:
                wait = retry_after_s(response)
                when = f"in {wait:.0f} s" if wait else "later"
                return ServerError(f"{self.base} was asked too often; try again {when}", **facts)
            case status if 300 <= status < 400:
                return ConfigurationError(
                    f"{self.base} sends us elsewhere: {self.quoted(response.headers.get('location', 'nowhere'))}. A "
                    "token follows no redirect; give the address where the server is",
                    **facts,
                )
        reason = ""
        if path.startswith("mongo/"):
            reason = (
                ". It gives no reason; perhaps its database does not know an operator, which begins with $"
            )
        elif path.endswith("/summary"):
            reason = ". It gives no reason; dservercore 0.22.0 fails so if a data set was registered without its size"
        return ServerError(f"{self.base} answers HTTP {response.status}: {said}{reason}", **facts)

    def _token_error(self, said: str, facts: dict[str, Any]) -> LoginError:
        if not self.settings.authenticate:
            return LoginError(
                f"{self.base} wants a token ({said}), but authentication is switched off (authenticate=False or "
                "DSERVER_DISABLE_AUTHENTICATION)",
                **facts,
            )
        if self._token is None and not self.can_log_in:
            return self._no_login()
        if self.can_log_in:
            return LoginError(f"{self.base} refuses also a new token: {said}", **facts)
        source = "" if self._token is None else f" from {self._token.source}"
        return LoginError(
            f"{self.base} refuses the token{source}: {said}. Get a new one, or name a token generator and a login, with "
            "which it is renewed by itself",
            **facts,
        )


def parsed(body: bytes) -> Operation[Any]:
    """Read JSON; a large text where it doesn't hold up an event loop.

    Raises
    ------
    ValueError
        If it is none.
    """
    if len(body) <= _LARGE_BODY:
        return read_json(body)
    return (yield Call(read_json, (body,)))


def place(uri: str) -> str:
    """Write a URI as a part of a path: ``s3://bucket/a b`` as ``s3/bucket/a%20b``.

    The server takes this form; slashes that are escaped would be refused by many proxies.

    Raises
    ------
    FilterError
        If it is no text that can stand there: ``s3://../../users/somebody`` would be another address of the server.
    """
    if not isinstance(uri, str) or not uri:
        raise FilterError(f"a URI is a text such as 's3://bucket/UUID', not {uri!r}"[:300])
    path = uri.replace("://", "/", 1)
    if not {".", ".."}.isdisjoint(path.split("/")):
        raise FilterError(f"{uri!r} is no URI of a data set: its path leads elsewhere"[:300], position=uri)
    return escaped(path, safe="/")


def escaped(text: str, *, safe: str = "") -> str:
    """Write a text as a part of a path.

    Raises
    ------
    FilterError
        If it can't be one.
    """
    if text in {"", ".", ".."}:
        raise FilterError(f"{text!r} is no name that a dserver can be asked for", position=text)
    try:
        return quote(text, safe=safe)
    except UnicodeEncodeError:
        raise FilterError(f"{text!r} is no Unicode text"[:300]) from None


def lifetime(token: str) -> tuple[float | None, float]:
    """Return when a token was made and when it ends, as it says itself: seconds since 1970; None, and infinity.

    Source: RFC 7519. It is read without checking the signature: only the server can tell whether it is good.
    """
    parts = token.split(".")
    if len(parts) != 3 or len(parts[1]) > _LARGEST_PAYLOAD:
        return None, math.inf
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None, math.inf
    if not isinstance(payload, dict):
        return None, math.inf
    begun, end = (_number(payload.get(name)) for name in ("iat", "exp"))
    return begun, math.inf if end is None else end


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e15 else None  # NaN is not


def _margin_s(life_s: float) -> float:
    return _EARLY_S if life_s >= _SHORT_S else max(0.0, life_s) / 2


def _object(response: Response) -> dict[str, Any]:
    """Return what an answer says, if it is an object."""
    try:
        answer = read_json(response.body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _problems(errors: Any, where: str = "", deeper: int = 6) -> str:
    """Write the messages of an answer that says which fields are wrong."""
    if isinstance(errors, dict) and deeper:
        # An item of a list is named by its number, which says less than the name of the list.
        found = (
            _problems(value, where if str(name).isdigit() else str(name), deeper - 1)
            for name, value in errors.items()
        )
        return "; ".join(text for text in found if text)
    texts = errors if isinstance(errors, list) else [errors]
    said = " ".join(str(text) for text in texts if isinstance(text, (str, int, float)))
    return f"{where}: {said}" if said else ""


def _encoded(body: Any) -> bytes:
    try:
        return json.dumps(body, allow_nan=False, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise FilterError(f"this can't be sent as JSON: {error}") from error


def _plain(value: Any) -> Any:
    """Return what JSON has no form for as the text that it is: an id, a path."""
    if hasattr(value, "hex") and hasattr(value, "fields"):  # uuid.UUID
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
