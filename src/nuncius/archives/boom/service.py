"""The conversation with one BOOM server: logging in, asking, and its errors in our words.

Source: the interface of boom-astro/boom, August 2026. What surprises is said where it is handled.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from nuncius._core.operations import Request
from nuncius._core.retry import send
from nuncius.archives.kowalski.wire import to_body
from nuncius.archives.session import ArchiveSession, parsed, read
from nuncius.credentials import Token
from nuncius.errors import (
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
    from nuncius.errors import NunciusError

SERVICE = "boom"
PUBLIC = "https://api.kaboom.caltech.edu"
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


class BoomService(ArchiveSession):
    """One BOOM server, as operations.

    See `nuncius.archives.session.ArchiveSession` for how it is made.
    """

    service = SERVICE
    example = f"boom+{PUBLIC}"

    # Logging in -------------------------------------------------------------------------------------------------------

    def log_in(self, deadline: Deadline) -> Operation[Token]:
        """Get a token for the user name and password."""
        login = self.login()
        secret = login.reveal()
        form = urlencode({"username": login.username, "password": secret}).encode()
        begin = time.monotonic()
        request = Request("POST", f"{self.base}/auth", _FORM, body=form, timeout_s=self.timeout_s)
        response: Response = yield from send(request, deadline, reads=True)  # a second token does no harm
        answer = parsed(response)
        if (
            response.status == 200
            and isinstance(answer, dict)
            and isinstance(answer.get("access_token"), str)
        ):
            token = Token(answer["access_token"], source=f"{self.base}/auth")
            return self.keep_token(token, begin + _lifetime_s(answer.get("expires_in")))
        # A server that quotes what it was sent must not bring the password into our message.
        said = self.quoted(_said(answer, self.beginning(response)))
        if response.status in {400, 401, 403}:
            raise LoginError(
                f"{self.base} refuses the login of {login.username!r} (from {login.source}): {said}",
                **self.facts(response),
            )
        raise ServerError(
            f"{self.base} answers a login with HTTP {response.status}: {said}", **self.facts(response)
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
            limit = {"max_time_ms": self.patience_ms(deadline)} if timed else {}
            sent = to_body({**body, **limit})
        method = "GET" if body is None else "POST"
        response = yield from self.respond(method, path, deadline, body=sent, params=params, reads=True)
        answer = yield from read(response)
        # Success shows in the HTTP status and in `data`; there is no field that says so.
        if response.status != 200 or not isinstance(answer, dict) or "data" not in answer:
            raise self.failure(response, answer)
        return answer["data"]

    def failure(self, response: Response, answer: Any) -> NunciusError:
        """Return the error that an answer stands for."""
        said, facts = self.quoted(_said(answer, self.beginning(response))), self.facts(response)
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


_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def _lifetime_s(expires_in: Any) -> float:
    """Return how long a token is used, of the seconds that it lives; for ever where the server doesn't say."""
    if isinstance(expires_in, bool) or not isinstance(expires_in, (int, float)):
        return math.inf
    return max(expires_in - _EARLY_S, expires_in * 0.9)


def _said(answer: Any, text: str) -> str:
    if isinstance(answer, dict):
        for name in ("message", "error_description", "error"):
            if answer.get(name):
                return str(answer[name])
    return text
