"""The conversation with one BOOM server: logging in, asking, and its errors in our words.

Source: the interface of boom-astro/boom, August 2026. What surprises is said where it is handled.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

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
    from nuncius.errors import NunciusError

SERVICE = "boom"
PUBLIC = "https://api.kaboom.caltech.edu"
_LARGE_BODY = 1 << 18
_LARGEST_TIME_MS = 300_000
_EARLY_S = 60.0  # a token is renewed so long before it ends, so that it lives through one more question
_MEANS = {
    400: (FilterError, "does not understand the question"),
    403: (ForbiddenError, "does not allow this"),
    404: (NotFoundError, "does not have that"),
    413: (ServerError, "takes no question of that size; ask for fewer positions or values at a time"),
}
# What its database says no to arrives as an error of the server; these texts tell whose fault it is.
_LATE = ("MaxTimeMSExpired", "exceeded time limit")
_WRONG = ("BadValue", "unknown operator", "FailedToParse", "TypeMismatch", "unknown top level operator")


class BoomService:
    """One BOOM server, as operations.

    Parameters
    ----------
    url : str
        ``boom+https://api.kaboom.caltech.edu``, which is the public server, or where another one is.
    credentials, token : optional
        The login; see `nuncius.credentials`.
    timeout_s : float
        For one request.

    Raises
    ------
    ConfigurationError
        If the URL is none, or has a password in it.
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
        named = credentials is not None and token is None  # who names a login means that one
        self._token = None if named else find_token(SERVICE, token, host=host)
        self._ends = math.inf  # on the monotonic clock; a token that was given is used until it is refused
        self.timeout_s = timeout_s

    # Logging in -------------------------------------------------------------------------------------------------------

    def token(self, deadline: Deadline) -> Operation[Token]:
        """Return the token; log in if there is none yet, or if it is about to end.

        Raises
        ------
        LoginError
            If there is no login, or the server refuses it.
        """
        known = self._token
        if known is not None and (time.monotonic() < self._ends or self.credentials is None):
            return known
        once = Once((SERVICE, id(self)), lambda: self.log_in(deadline), deadline.remaining_s)
        try:
            fresh: Token = yield once
        except DeadlineError:  # perhaps that of another question, which had less time
            fresh = yield replace(once, timeout_s=deadline.remaining_s)
        return fresh

    def log_in(self, deadline: Deadline) -> Operation[Token]:
        """Get a token for the user name and password."""
        if self.credentials is None:
            raise LoginError(
                f"{self.base} asks for a login, and none was found. Give credentials=(username, password) or token=, or "
                "set NUNCIUS_BOOM_USERNAME and NUNCIUS_BOOM_PASSWORD, or NUNCIUS_BOOM_TOKEN",
                service=SERVICE,
                url=self.base,
            )
        secret = self.credentials.reveal()
        form = urlencode({"username": self.credentials.username, "password": secret}).encode()
        begin = time.monotonic()
        request = Request("POST", f"{self.base}/auth", _FORM, body=form, timeout_s=self.timeout_s)
        response: Response = yield from send(request, deadline, reads=True)  # a second token does no harm
        answer = _parsed(response)
        if (
            response.status == 200
            and isinstance(answer, dict)
            and isinstance(answer.get("access_token"), str)
        ):
            self._token = Token(answer["access_token"], source=f"{self.base}/auth")
            self._ends = begin + _lifetime_s(answer.get("expires_in"))
            return self._token
        # A server that quotes what it was sent must not bring the password into our message.
        said = _said(answer, response).replace(secret, "***")
        if response.status in {400, 401, 403}:
            raise LoginError(
                f"{self.base} refuses the login of {self.credentials.username!r} (from {self.credentials.source}): "
                f"{said}",
                **self._facts(response),
            )
        raise ServerError(
            f"{self.base} answers a login with HTTP {response.status}: {said}", **self._facts(response)
        )

    # Asking -----------------------------------------------------------------------------------------------------------

    def ask(
        self,
        path: str,
        deadline: Deadline,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        timed: bool = False,
    ) -> Operation[Any]:
        """Ask a question, which only reads, and return the `data` of the answer.

        Parameters
        ----------
        path : str
            Such as ``queries/find``.
        deadline : Deadline
            For all of it.
        body, params : mapping, optional
            What is posted, or the query string; with a body it is a POST, else a GET.
        timed : bool
            Whether this route can be told how long we wait, so that the server doesn't go on with what nobody waits for.

        Raises
        ------
        NunciusError
            As the server's status and message say.
        """
        sent = None
        if body is not None:
            time_ms = int(self._patience_s(deadline) * 1000)
            limit = {"max_time_ms": max(1, min(_LARGEST_TIME_MS, time_ms))} if timed else {}
            sent = to_body({**body, **limit})
        response = yield from self._respond(path, deadline, sent, params)
        large = len(response.body) > _LARGE_BODY  # reading it would hold up an event loop
        answer = (yield Call(_parsed, (response,))) if large else _parsed(response)
        # Success shows in the HTTP status and in `data`; there is no field that says so.
        if response.status != 200 or not isinstance(answer, dict) or "data" not in answer:
            raise self.failure(response, answer)
        return answer["data"]

    def _respond(
        self, path: str, deadline: Deadline, body: bytes | None, params: Mapping[str, str] | None
    ) -> Operation[Response]:
        """Send a request and return the response, whatever it says; a token that is refused is renewed once."""
        for attempt in (1, 2):
            token = yield from self.token(deadline)
            headers = {"Authorization": f"Bearer {token.reveal()}", **(_JSON if body is not None else {})}
            method = "GET" if body is None else "POST"
            url, timeout_s = f"{self.base}/{path}", self._patience_s(deadline)
            request = Request(method, url, headers, params, body, timeout_s)
            response: Response = yield from send(request, deadline, reads=True)
            if response.status != 401 or attempt == 2 or self.credentials is None:
                return response
            if self._token is token:  # unless another request has renewed it meanwhile
                self._token = None
        raise AssertionError

    def _patience_s(self, deadline: Deadline) -> float:
        """Return how long one request may take: as long as the caller says, also where that is more than usual."""
        return self.timeout_s if deadline.timeout_s is None else deadline.remaining_s

    def failure(self, response: Response, answer: Any) -> NunciusError:
        """Return the error that an answer stands for."""
        said, facts = _said(answer, response), self._facts(response)
        if response.status == 401:
            cure = "it was renewed, in vain" if self.credentials else "give a new one, or credentials="
            return LoginError(f"{self.base} refuses the token: {said}; {cure}", **facts)
        if response.status in _MEANS:
            kind, meaning = _MEANS[response.status]
            return kind(f"{self.base} {meaning}: {said}", **facts)
        if response.status == 500 and any(text in said for text in _LATE):
            return DeadlineError(f"{self.base} gave up: {said}. Ask for less, or give more time", **facts)
        if response.status == 500 and any(text in said for text in _WRONG):
            return FilterError(f"{self.base} does not understand the question: {said}", **facts)
        return ServerError(f"{self.base} answers HTTP {response.status}: {said}", **facts)

    def _facts(self, response: Response) -> dict[str, Any]:
        return {"service": SERVICE, "url": self.base, "status": response.status}


def base_url(url: str) -> str:
    """Return where a BOOM URL points, without the service's name.

    Raises
    ------
    ConfigurationError
        If it is none, or has a password in it. What may be a secret is not repeated.
    """
    try:
        parts = urlsplit(url.removeprefix("boom+"))
        host, port = parts.hostname, parts.port
    except ValueError:
        # The reason, and the URL, could quote a password.
        raise ConfigurationError(f"this is no URL of a BOOM server; write boom+{PUBLIC}") from None
    if "@" in parts.netloc or "@" in parts.path:
        raise ConfigurationError(
            "a URL with a user name or password in it ends up in logs; give credentials= or set "
            "NUNCIUS_BOOM_USERNAME and NUNCIUS_BOOM_PASSWORD"
        )
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigurationError(f"{url!r} is no address of a BOOM server; write boom+{PUBLIC}")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{f':{port}' if port else ''}{quote(parts.path.rstrip('/'), safe='/%')}"


_JSON = {"Content-Type": "application/json"}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def _lifetime_s(expires_in: Any) -> float:
    """Return how long a token is used, of the seconds that it lives; for ever where the server doesn't say."""
    if isinstance(expires_in, bool) or not isinstance(expires_in, (int, float)):
        return math.inf
    return max(expires_in - _EARLY_S, expires_in * 0.9)


def _parsed(response: Response) -> Any:
    try:
        return from_json(response.body)
    except ValueError:
        return None  # a proxy's page, or one of its refusals in plain text


def _said(answer: Any, response: Response) -> str:
    if isinstance(answer, dict):
        for name in ("message", "error_description", "error"):
            if answer.get(name):
                return str(answer[name])[:2000]
    text = " ".join(response.body[:300].decode("utf-8", "replace").split())
    kind = response.headers.get("content-type", "no type")
    return f"{text[:200]!r} ({kind})" if text else "an empty answer"
