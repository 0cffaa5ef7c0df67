"""Answers and refusals in Kowalski's shapes, and the line in the log about each of them."""

from __future__ import annotations

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

    from nuncius.errors import NunciusError

log = logging.getLogger("nuncius.server")

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_WITH_MESSAGE = frozenset({200, 400, 409})  # Kowalski tells no more than the status of all others


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
        return wrong("ExecutionTimeout", f"operation exceeded time limit: {text}")
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
