"""The conversation with one Kowalski server: logging in, asking, and its errors in our words.

Source: the interface of skyportal/kowalski 3.0.0. What surprises is said where it is handled.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Request
from nuncius._core.retry import retry_after_s, send
from nuncius._session import JSON
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
    from nuncius.errors import (
        NunciusError,
    )

SERVICE = "kowalski"
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


class KowalskiService(ArchiveSession):
    """One Kowalski server, as operations.

    See `nuncius.archives.session.ArchiveSession` for how it is made.
    """

    service = SERVICE
    example = "kowalski+https://host:443"

    # Logging in -------------------------------------------------------------------------------------------------------

    def is_refused(self, response: Response) -> bool:
        """Tell whether an answer says that the token is dead: 400 here, 401 of others and of proxies."""
        return response.status == 401 or (
            response.status == 400 and any(text.encode() in response.body[:300] for text in _TOKEN_PROBLEMS)
        )

    def log_in(self, deadline: Deadline) -> Operation[Token]:
        """Get a token for the user name and password."""
        login = self.login()
        body = {"username": login.username, "password": login.reveal()}
        request = Request(
            "POST", f"{self.base}/api/auth", JSON, body=json.dumps(body).encode(), timeout_s=self.timeout_s
        )
        response: Response = yield from send(request, deadline, reads=True)  # a second token does no harm
        answer = parsed(response)
        if response.status == 200 and isinstance(answer, dict) and isinstance(answer.get("token"), str):
            return self.keep_token(Token(answer["token"], source=f"{self.base}/api/auth"))
        # A server that quotes what it was sent must not bring the password into our message.
        response = replace(response, body=response.body.replace(login.reveal().encode(), b"***"))
        answer = parsed(response)
        if response.status == 429:
            raise LoginError(
                f"{self.base} takes no login now, because there were too many"
                + (
                    f"; try again in {wait:.0f} s"
                    if (wait := retry_after_s(response))
                    else "; try again later"
                ),
                **self.facts(response),
            )
        if response.status in {400, 401, 403}:
            raise LoginError(
                f"{self.base} refuses the login of {login.username!r} (from {login.source}): "
                f"{self.quoted(_message(answer, self.beginning(response)))}",
                **self.facts(response),
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
        kwargs.setdefault("max_time_ms", self.patience_ms(deadline))
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
        answer = yield from read(response)
        if response.status != 200 or not isinstance(answer, dict) or answer.get("status") == "error":
            raise self.failure(response, answer)
        return answer

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
            raise self.failure(response, parsed(response))
        return response.body

    def failure(self, response: Response, answer: Any) -> NunciusError:
        """Return the error that an answer stands for."""
        message = self.quoted(_message(answer, self.beginning(response)))
        facts = self.facts(response)
        if self.is_refused(response):
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


def _message(answer: Any, text: str) -> str:
    if isinstance(answer, dict) and answer.get("message"):
        return str(answer["message"])
    return f"not an answer of Kowalski but {text}"
