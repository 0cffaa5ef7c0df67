"""The conversation with one Kowalski server: logging in, asking, and its errors in our words.

Source: the interface of skyportal/kowalski 3.0.0. What surprises is said where it is handled.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from nuncius._core.operations import Call, Once, Request
from nuncius._core.retry import send
from nuncius.archives.extended_json import from_json
from nuncius.archives.kowalski.wire import to_body
from nuncius.credentials import Token, find_credentials, find_token
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FilterError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    ServerError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius._core.operations import Deadline, Operation, Response
    from nuncius.credentials import Credentials, CredentialsLike
    from nuncius.errors import (
        NunciusError,
    )

SERVICE = "kowalski"
_LARGE_BODY = 1 << 18
_LARGEST_TIME_MS = 300_000  # a server's own limit for one question
_TOKEN_PROBLEMS = ("token is invalid", "token has expired")
# How the server's "<exception>: <text>" is to be read, by what stands in it.
_KINDS: tuple[tuple[str, type[NunciusError]], ...] = (
    ("Skymap not found", NotFoundError),
    ("not found", NotFoundError),
    ("no skymap found", NotFoundError),
    ("Protected collection", ForbiddenError),
    ("forbidden stages", ForbiddenError),
    ("ExecutionTimeout", DeadlineError),
    ("exceeded time limit", DeadlineError),
    ("operation exceeded", DeadlineError),
    ("OperationFailure", FilterError),
    ("ValidationError", FilterError),
    ("KeyError", FilterError),
)


class KowalskiService:
    """One Kowalski server, as operations.

    Parameters
    ----------
    url : str
        ``kowalski+https://host:443`` or ``https://host:443``.
    credentials, token : optional
        The login; see `nuncius.credentials`.
    timeout_s : float
        For one request.
    """

    def __init__(
        self,
        url: str,
        *,
        credentials: CredentialsLike = None,
        token: str | Token | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self.base = base_url(url)
        host = urlsplit(self.base).hostname
        self.credentials: Credentials | None = find_credentials(SERVICE, credentials, host=host)
        self.given_token = find_token(SERVICE, token, host=host)
        if credentials is not None and token is None:
            self.given_token = None  # who names a login means that one, and not the token of another
        self.timeout_s = timeout_s
        self._token = self.given_token

    # Logging in -------------------------------------------------------------------------------------------------------

    def token(self, deadline: Deadline) -> Operation[str]:
        """Return the token, logging in if there is none yet.

        Raises
        ------
        LoginError
            If there is no login, or the server refuses it.
        """
        token = self._token
        if token is None:
            token = yield from self._fresh(deadline)
        return token.reveal()

    def _fresh(self, deadline: Deadline) -> Operation[Token]:
        # Two logins at one address are two: the key is this conversation.
        once = Once((SERVICE, id(self)), lambda: self.log_in(deadline), deadline.remaining_s)
        try:
            token: Token = yield once
        except DeadlineError:  # perhaps that of another question, which had less time
            token = yield replace(once, timeout_s=deadline.remaining_s)
        return token

    def log_in(self, deadline: Deadline) -> Operation[Token]:
        """Get a token for the user name and password."""
        if self.credentials is None:
            raise LoginError(
                f"{self.base} asks for a login, and none was found. Give credentials=(username, password) or token=, or "
                "set NUNCIUS_KOWALSKI_USERNAME and NUNCIUS_KOWALSKI_PASSWORD, or NUNCIUS_KOWALSKI_TOKEN",
                service=SERVICE,
                url=self.base,
            )
        body = {"username": self.credentials.username, "password": self.credentials.reveal()}
        request = Request(
            "POST", f"{self.base}/api/auth", _JSON, body=json.dumps(body).encode(), timeout_s=self.timeout_s
        )
        response: Response = yield from send(request, deadline, reads=True)  # a second token does no harm
        answer = _parsed(response)
        if response.status == 200 and isinstance(answer, dict) and isinstance(answer.get("token"), str):
            self._token = Token(answer["token"], source=f"{self.base}/api/auth")
            return self._token
        # A server that quotes what it was sent must not bring the password into our message.
        response = replace(response, body=response.body.replace(self.credentials.reveal().encode(), b"***"))
        answer = _parsed(response)
        if response.status in {400, 401, 403}:
            raise LoginError(
                f"{self.base} refuses the login of {self.credentials.username!r} (from {self.credentials.source}): "
                f"{_message(answer, response)}",
                service=SERVICE,
                url=self.base,
                status=response.status,
            )
        raise self.failure(response, answer)

    # Asking -----------------------------------------------------------------------------------------------------------

    def ask(
        self,
        query_type: str,
        query: Mapping[str, Any],
        deadline: Deadline,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> Operation[Any]:
        """Ask a question and return the `data` of the answer; None where the answer has none.

        Raises
        ------
        NunciusError
            As the server's status and message say.
        """
        kwargs = dict(options or {})
        # What we will not wait for, the server need not go on with.
        time_ms = self._patience_s(deadline) * 1000
        kwargs.setdefault("max_time_ms", max(1, min(_LARGEST_TIME_MS, int(time_ms))))
        body = to_body({"query_type": query_type, "query": query, "kwargs": kwargs})
        answer = yield from self.request(
            "POST", "api/queries", deadline, body=body, reads=query_type != "drop"
        )
        return answer.get("data")

    def request(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        body: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        reads: bool = False,
    ) -> Operation[dict[str, Any]]:
        """Send a request and return the answer, which says that it succeeded."""
        response = yield from self.respond(method, path, deadline, body=body, params=params, reads=reads)
        large = len(response.body) > _LARGE_BODY  # reading it would hold up an event loop
        answer = (yield Call(_parsed, (response,))) if large else _parsed(response)
        if response.status != 200 or not isinstance(answer, dict) or answer.get("status") == "error":
            raise self.failure(response, answer)
        return answer

    def respond(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        body: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        reads: bool = False,
    ) -> Operation[Response]:
        """Send a request and return the response, whatever it says; a token that has died is renewed once."""
        for attempt in (1, 2):
            token = yield from self.token(deadline)
            headers = {"Authorization": f"Bearer {token}", **(_JSON if body is not None else {})}
            url, timeout_s = f"{self.base}/{path.lstrip('/')}", self._patience_s(deadline)
            request = Request(method, url, headers, params, body, timeout_s)
            response: Response = yield from send(request, deadline, reads=reads)
            if attempt == 2 or not _is_dead_token(response) or self.credentials is None:
                return response
            if self._token is not None and self._token.reveal() == token:
                self._token = None  # unless another request has renewed it meanwhile
        raise AssertionError

    def _patience_s(self, deadline: Deadline) -> float:
        """Return how long one request may take: as long as the caller says, also where that is more than usual."""
        return self.timeout_s if deadline.timeout_s is None else deadline.remaining_s

    def fetch(
        self, path: str, deadline: Deadline, params: Mapping[str, Any] | None = None
    ) -> Operation[bytes]:
        """Get a file byte for byte.

        Raises
        ------
        NunciusError
            As the server's status and message say.
        """
        response = yield from self.respond("GET", path, deadline, params=params, reads=True)
        # A page of a proxy comes with status 200 as well.
        if response.status != 200 or not response.headers.get("content-type", "").startswith("image/"):
            raise self.failure(response, _parsed(response))
        return response.body

    def failure(self, response: Response, answer: Any) -> NunciusError:
        """Return the error that an answer stands for."""
        message = _message(answer, response)
        facts: dict[str, Any] = {"service": SERVICE, "url": self.base, "status": response.status}
        if _is_dead_token(response):
            cure = "it was renewed, in vain" if self.credentials else "give a new one, or credentials="
            return LoginError(f"{self.base} refuses the token: {message}; {cure}", **facts)
        if response.status == 401:
            return LoginError(f"{self.base} does not know who asks: {message}", **facts)
        if response.status == 403:
            return ForbiddenError(f"{self.base} does not allow this: {message}", **facts)
        if response.status == 404:
            return NotFoundError(f"{self.base} knows no such address: {message}", **facts)
        if response.status in {200, 400, 409} and isinstance(answer, dict):
            for text, kind in _KINDS:
                if text in message:
                    return kind(f"{self.base} answers: {message}", **facts)
        if response.status == 413:
            return ServerError(
                f"{self.base} takes no question of that size: {message}. Ask for fewer positions or values at a time",
                **facts,
            )
        return ServerError(f"{self.base} answers HTTP {response.status}: {message}", **facts)


def base_url(url: str) -> str:
    """Return where a Kowalski URL points, without the service's name.

    Raises
    ------
    ConfigurationError
        If it is none, or has a password in it.
    """
    try:
        parts = urlsplit(url.removeprefix("kowalski+"))
        host, port = parts.hostname, parts.port
    except ValueError:
        # The reason, and the URL, could quote a password.
        raise ConfigurationError(
            "this is no URL of a Kowalski server: write kowalski+https://host:443"
        ) from None
    if "@" in parts.netloc or "@" in parts.path:
        raise ConfigurationError(
            "a URL with a user name or password in it ends up in logs; give credentials= or set "
            "NUNCIUS_KOWALSKI_USERNAME and NUNCIUS_KOWALSKI_PASSWORD"
        )
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigurationError(
            f"{url!r} is no address of a Kowalski server: write kowalski+https://host:443"
        )
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{f':{port}' if port else ''}{quote(parts.path.rstrip('/'), safe='/%')}"


_JSON = {"Content-Type": "application/json"}


def _parsed(response: Response) -> Any:
    try:
        return from_json(response.body)
    except ValueError:
        return None  # a proxy's page, or the text of a 413


def _message(answer: Any, response: Response) -> str:
    if isinstance(answer, dict) and answer.get("message"):
        return str(answer["message"])
    text = " ".join(response.body[:300].decode("utf-8", "replace").split())
    kind = response.headers.get("content-type", "something")
    return f"not an answer of Kowalski but {kind}: {text[:200]!r}" if text else "an empty answer"


def _is_dead_token(response: Response) -> bool:
    # Kowalski answers 400 for a token that is not valid; others, and proxies, 401.
    return response.status == 401 or (
        response.status == 400 and any(text.encode() in response.body[:300] for text in _TOKEN_PROBLEMS)
    )
