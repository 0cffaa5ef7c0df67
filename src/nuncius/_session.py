"""A conversation with a server over HTTP: a login, a token that is renewed when it dies, and requests that carry it."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, urlsplit

from nuncius._core.operations import Once, Request
from nuncius._core.retry import send
from nuncius.errors import ConfigurationError, DeadlineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuncius._core.operations import Deadline, Operation, Response
    from nuncius.credentials import Credentials, Token

JSON = {"Content-Type": "application/json"}
_QUOTED = 2000  # characters of what a server says
_READ = 1 << 16  # bytes of an answer that was not understood, in which secrets are looked for


class Session(ABC):
    """What the conversations with all servers have in common.

    Parameters
    ----------
    base : str
        Where the server is.
    credentials : Credentials, optional
        With which a token is got.
    token : Token, optional
        One that was given.
    timeout_s : float
        For one request.
    """

    service: str

    def __init__(
        self, base: str, *, credentials: Credentials | None, token: Token | None, timeout_s: float
    ) -> None:
        self.base = base
        self.credentials = credentials
        self.given_token = token
        self.timeout_s = timeout_s
        self._token = token
        self._ends = math.inf  # on the monotonic clock

    @abstractmethod
    def log_in(self, deadline: Deadline) -> Operation[Token]:
        """Get a token for the user name and password, and keep it with `keep_token`."""

    def is_refused(self, response: Response) -> bool:
        """Tell whether an answer says that the token is dead."""
        return response.status == 401

    @property
    def can_log_in(self) -> bool:
        """Whether a new token can be got."""
        return self.credentials is not None

    def token(self, deadline: Deadline) -> Operation[Token]:
        """Return the token; log in if there is none yet, or if it is about to end.

        Raises
        ------
        LoginError
            If there is no login, or the server refuses it.
        """
        known = self._token
        if known is not None and (time.monotonic() < self._ends or not self.can_log_in):
            return known
        # Two logins at one address are two: the key is this conversation.
        once = Once((self.service, id(self)), lambda: self._renewed(known, deadline), deadline.remaining_s)
        try:
            fresh: Token = yield once
        except DeadlineError:  # perhaps that of another question, which had less time
            fresh = yield replace(once, timeout_s=deadline.remaining_s)
        return fresh

    def pass_of(self, deadline: Deadline) -> Operation[Token | None]:
        """Return what a request carries: the token, or nothing where the server wants none."""
        return (yield from self.token(deadline))

    def _renewed(self, old: Token | None, deadline: Deadline) -> Operation[Token]:
        """Log in, unless somebody has done so since the old token was looked at."""
        known = self._token
        if known is not None and known is not old:
            return known
        return (yield from self.log_in(deadline))

    def keep_token(self, token: Token, ends: float = math.inf) -> Token:
        """Use a token from now on, until a moment on the monotonic clock."""
        self._token, self._ends = token, ends
        return token

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
            token = yield from self.pass_of(deadline)
            login = {} if token is None else {"Authorization": f"Bearer {token.reveal()}"}
            headers = {**login, **(JSON if body is not None else {})}
            url, timeout_s = f"{self.base}/{path.lstrip('/')}", self.patience_s(deadline)
            request = Request(method, url, headers, params, body, timeout_s)
            response: Response = yield from send(request, deadline, reads=reads)
            if attempt == 2 or not self.is_refused(response) or not self.can_log_in:
                return response
            if self._token is token:  # unless another request has renewed it meanwhile
                self._token = None
        raise AssertionError

    def patience_s(self, deadline: Deadline) -> float:
        """Return how long one request may take: as long as the caller says, also where that is more than usual."""
        return self.timeout_s if deadline.timeout_s is None else deadline.remaining_s

    def hidden(self, text: str) -> str:
        """Return what a server said without the secrets that it was sent and may quote."""
        for secret in (self._token, self.given_token, self.credentials):
            if secret is not None and secret.reveal():
                text = without(text, secret.reveal())
        return text

    def beginning(self, response: Response) -> str:
        """Return the beginning of an answer that was not understood, without the secrets in it."""
        return text_of(response, self.hidden)

    def quoted(self, text: str) -> str:
        """Return what a server said as it can stand in a message and in a log: one line, and no secret."""
        line = " ".join(self.hidden(text)[:_QUOTED].split())  # a part of a secret would not be found
        return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)

    def facts(self, response: Response) -> dict[str, Any]:
        """Return what an error says of where it comes from."""
        return {"service": self.service, "url": self.base, "status": response.status}


def base_url(url: str, service: str, example: str, *, prefix: str | None = None) -> str:
    """Return where a URL points, without the service's name.

    Parameters
    ----------
    url, service, example : str
        Which, of what, and how one looks.
    prefix : str, optional
        With which the variables begin that hold the login, for the message.

    Raises
    ------
    ConfigurationError
        If it is none, or has a password in it. What may be a secret is not repeated.
    """
    try:
        parts = urlsplit(url.removeprefix(f"{service}+"))
        host, port = parts.hostname, parts.port
    except ValueError:
        # The reason, and the URL, could quote a password.
        raise ConfigurationError(f"this is no URL of a {service} server: write {example}") from None
    if "@" in parts.netloc or "@" in parts.path:
        prefix = prefix or f"NUNCIUS_{service.upper()}"
        raise ConfigurationError(
            "a URL with a user name or password in it ends up in logs; give credentials= or set "
            f"{prefix}_USERNAME and {prefix}_PASSWORD"
        )
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigurationError(f"{url!r} is no address of a {service} server: write {example}")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{f':{port}' if port else ''}{quote(parts.path.rstrip('/'), safe='/%')}"


def without(text: str, secret: str) -> str:
    """Return a text without a secret, in whatever way a server may have written it."""
    ways = {
        secret,
        json.dumps(secret)[1:-1],
        escape(secret),
        escape(secret, quote=False),
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
    }
    for written in sorted(ways, key=len, reverse=True):
        text = text.replace(written, "***")
    return text


def text_of(response: Response, hide: Callable[[str], str] = str) -> str:
    """Return the beginning of an answer that was not understood, for a message; `hide` takes secrets out of it."""
    text = " ".join(hide(response.body[:_READ].decode("utf-8", "replace")).split())
    kind = response.headers.get("content-type", "no type")
    return f"{text[:200]!r} ({kind})" if text else "an empty answer"
