"""The conversation with a server that anybody may ask, by GET alone: requests, redirects, and its errors in our words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from nuncius._core.operations import Request
from nuncius._core.retry import retry_after_s, send
from nuncius._session import base_url, text_of
from nuncius.archives.session import read
from nuncius.errors import FilterError, ForbiddenError, LoginError, NotFoundError, ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius._core.operations import Deadline, Operation, Response
    from nuncius.errors import NunciusError

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_QUOTED = 500  # characters of what a server says


class RestService:
    """One such server, as operations. It knows no login: nothing secret is ever sent.

    Parameters
    ----------
    url : str
        Where it is, with or without the name of the service and a plus in front.
    timeout_s : float
        For one request.

    Raises
    ------
    ConfigurationError
        If the URL is none, or has a password in it.
    """

    service: str
    title: str  # its name, as people write it
    example: str  # how a URL of this service looks

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        self.base = base_url(url, self.service, self.example)
        self.timeout_s = timeout_s

    def get(
        self, path: str, deadline: Deadline, params: Mapping[str, Any] | None = None
    ) -> Operation[Response]:
        """Send a request and return the answer, whatever it says; redirects are followed.

        Parameters
        ----------
        path : str
            Below the address of the server, or a whole URL.
        deadline : Deadline
            For all of it.
        params : mapping, optional
            The query string; a list repeats its parameter.
        """
        url = path if "://" in path else f"{self.base}/{path}"
        timeout_s = self.timeout_s if deadline.timeout_s is None else deadline.remaining_s
        for _ in range(_MOST_REDIRECTS + 1):
            request = Request("GET", url, params=params, timeout_s=timeout_s)
            response: Response = yield from send(request, deadline, reads=True)
            if response.status not in _REDIRECTS or "location" not in response.headers:
                return response
            there = urljoin(url, response.headers["location"])
            if urlsplit(there).scheme not in {urlsplit(url).scheme, "https"}:
                raise self.strange(f"a redirect to {there!r}", "an answer over a connection as safe as ours")
            # Where the new address has a query string, it is that of the question.
            url, params = there, None if urlsplit(there).query else params
        raise self.strange(f"more than {_MOST_REDIRECTS} redirects", "an answer")

    def json(
        self, path: str, deadline: Deadline, params: Mapping[str, Any] | None = None, *, what: str = "that"
    ) -> Operation[Any]:
        """Send a request and return what the JSON of the answer says.

        Parameters
        ----------
        path, deadline, params
            See `get`.
        what : str, optional
            What was asked for, for the message that it isn't there.

        Raises
        ------
        NotFoundError
            If the server says that it has no such thing.
        NunciusError
            As its status says; `ServerError` if the answer is no JSON.
        """
        response = yield from self.get(path, deadline, params)
        answer = yield from read(response)
        if response.status != 200 or answer is None:
            raise self.failure(response, answer, what)
        return answer

    def failure(self, response: Response, answer: Any, what: str = "that") -> NunciusError:
        """Return the error that an answer stands for."""
        facts: dict[str, Any] = {"service": self.service, "url": self.base, "status": response.status}
        said = _line(_message(answer) or f"it answers {text_of(response)}")
        match response.status:
            case 200:
                return ServerError(
                    f"{self.base} is no server of {self.title}, or something stands between: asked for {what}, it answers "
                    f"{_line(text_of(response))}, which is no JSON",
                    **facts,
                )
            case 400 | 422:
                return FilterError(f"{self.base} does not understand the question: {said}", **facts)
            case 401:
                return LoginError(
                    f"{self.base} asks for a login, which {self.title} has none of: {said}", **facts
                )
            case 403:
                return ForbiddenError(f"{self.base} does not allow this: {said}", **facts)
            case 404:
                return NotFoundError(f"{self.base} does not have {what}: {said}", position=what, **facts)
            case 414:
                return FilterError(f"{self.base} takes no question of that length; ask for less", **facts)
            case 429:
                wait = retry_after_s(response)
                when = f"in {wait:.0f} s" if wait else "later"
                return ServerError(f"{self.base} was asked too often; try again {when}: {said}", **facts)
        return ServerError(f"{self.base} answers HTTP {response.status}: {said}", **facts)

    def strange(self, got: Any, wanted: str) -> ServerError:
        """Return the error for an answer that can't be what was asked for."""
        shown = got if isinstance(got, str) else type(got).__name__
        return ServerError(
            f"{self.base} answers {shown[:_QUOTED]} where {wanted} was expected; is it a server of {self.title}?",
            service=self.service,
            url=self.base,
        )


def part(value: Any) -> str:
    """Write a value as one part of a path, whatever is in it."""
    return quote(str(value), safe="")


def _message(answer: Any) -> str:
    """Return what a server says of a failure, in one of the ways in which servers say it."""
    if not isinstance(answer, dict):
        return ""
    errors = answer.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):  # JSON:API
        return str(errors[0].get("detail") or errors[0].get("title") or errors[0])
    for name in ("detail", "message", "error", "errors"):
        if answer.get(name):
            return str(answer[name])
    return ""


def _line(text: str) -> str:
    line = " ".join(text[:_QUOTED].split())
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)
