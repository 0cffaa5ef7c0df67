"""Answers and refusals in Kowalski's shapes, and the line in the log about each of them."""

from __future__ import annotations

import asyncio
import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from nuncius.archives.server.limits import Refusal, wrong
from nuncius.archives.server.wire import encode
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FilterError,
    ForbiddenError,
    MissingExtraError,
    NotFoundError,
    PacketError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from nuncius.archives.server.guard import Slots
    from nuncius.errors import NunciusError

log = logging.getLogger("nuncius.server")

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_PIECE_BYTES = 1 << 18
_WITH_MESSAGE = frozenset({200, 400, 409})  # Kowalski tells no more than the status of all others


class LargeAnswer(Response):
    """An answer that is sent in pieces, so that one which nobody reads is counted and does not wait for ever.

    Parameters
    ----------
    body : bytes
        JSON, packed or not.
    user : str
        Whose it is.
    slots : Slots
        Count it while it waits.
    piece_s : float
        How long the reader may take for each piece.
    headers : dict
        What to send with it.
    """

    def __init__(self, body: bytes, user: str, slots: Slots, piece_s: float, headers: dict[str, str]) -> None:
        super().__init__(body, media_type="application/json", headers=headers)
        self._user, self._slots, self._piece_s = user, slots, piece_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        body = memoryview(self.body)
        with self._slots.sending(self._user, len(body)):
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            for place in range(0, len(body), _PIECE_BYTES):
                piece = bytes(body[place : place + _PIECE_BYTES])
                try:
                    async with asyncio.timeout(self._piece_s):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                except TimeoutError:
                    log.warning(
                        "%s did not read an answer within %g s; it was broken off", self._user, self._piece_s
                    )
                    return
            await send({"type": "http.response.body", "body": b""})


def json_answer(value: Any, status: int = 200) -> Response:
    """Return an answer that is a value."""
    return Response(encode(value), status, media_type="application/json")


def success(message: str, data: Any = None) -> Response:
    """Return the answer to what was done."""
    answer = {"status": "success", "message": message}
    return json_answer(answer if data is None else {**answer, "data": data})


def refused(refusal: Refusal) -> Response:
    """Return the answer to what was not done."""
    if refusal.status == 413:
        return PlainTextResponse(refusal.message, 413)
    phrase = HTTPStatus(refusal.status).phrase
    message = refusal.message if refusal.status in _WITH_MESSAGE else phrase
    answer = {"status": "error", "message": message or refusal.detail or phrase}
    if refusal.detail:
        answer["detail"] = refusal.detail
    response = json_answer(answer, refusal.status)
    if refusal.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    return response


def refusal_of(error: NunciusError) -> Refusal:
    """Say our errors in the words of those that Kowalski would have had."""
    text = error.message
    if isinstance(error, FilterError):
        operator = re.search(r"\['(\$\w+)'\]$", error.position or "")
        if operator and "is no operator" in text:
            text = f"unknown operator: {operator[1]}, full error: {text}"
        return wrong("OperationFailure", text)
    if isinstance(error, DeadlineError):
        # Our own words would name the file.
        return wrong(
            "ExecutionTimeout",
            "operation exceeded time limit: ask for less, make the filter narrower, or give more time with max_time_ms",
        )
    if isinstance(error, ForbiddenError):
        return Refusal(403, detail=text)
    if isinstance(error, NotFoundError):
        return wrong("OperationFailure", "ns not found")
    if isinstance(error, MissingExtraError):
        return wrong("ModuleNotFoundError", f"on the server, {text}")
    if isinstance(error, (ConfigurationError, PacketError)):
        return wrong("ValueError", text)
    if isinstance(error, UnsupportedError):
        return wrong("OperationFailure", text)
    log.error("a request failed", exc_info=error)
    return Refusal(500)


async def unknown_route(_request: Request, error: Exception) -> Response:
    """Answer what is no route, or not with this verb."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        return PlainTextResponse("405: Method Not Allowed", 405, headers=HEADERS)
    return refused(Refusal(status))


async def failed(_request: Request, _error: Exception) -> Response:
    """Answer a failure of our own; Starlette raises it again, for the log, and the client learns nothing of it."""
    return refused(Refusal(500))


def note(request: Request, status: int, seconds: float) -> None:
    """Write a line about a request: who asked what, and what it cost. Nothing that was sent stands in it."""
    query = getattr(request.state, "query", None)
    user = getattr(request.state, "user", "-")
    what = f"{query.type} {','.join(query.catalogs) or '-'} rows={query.rows}" if query else "-"
    path = ascii(request.url.path[:120])[1:-1]
    log.info("%s %s %s %d %s %.0f ms", user, request.method, path, status, what, seconds * 1000)
