"""What the server answers: JSON, and refusals as the real one words them."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

# As the real one has them, whatever Python calls them today.
_NAMES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    415: "Unsupported Media Type",
    422: "Unprocessable Entity",
    500: "Internal Server Error",
}
_ALWAYS = {"access-control-allow-origin": "*", "access-control-expose-headers": "X-Pagination"}


class RefusedError(Exception):
    """The request gets no answer but this.

    Parameters
    ----------
    status : int
        The HTTP status.
    errors : mapping, optional
        What is wrong with which field.
    token : str, optional
        What is wrong with the token; such refusals look different.
    """

    def __init__(
        self, status: int, *, errors: Mapping[str, Any] | None = None, token: str | None = None
    ) -> None:
        super().__init__(status)
        self.status = status
        self.errors = errors
        self.token = token

    @property
    def body(self) -> dict[str, Any]:
        """The body of the answer."""
        if self.token is not None:
            return {"msg": self.token}
        body: dict[str, Any] = {"code": self.status, "status": _NAMES[self.status]}
        return body if self.errors is None else body | {"errors": self.errors}


def json_answer(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON: keys sorted, times as HTTP has them, binary UUIDs as texts."""
    from starlette.responses import Response

    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=_plain)
    answer = Response(
        text + "\n", status, headers={**_ALWAYS, **(headers or {})}, media_type="application/json"
    )
    # Names as the real one writes them: dtool-lookup-api does not find X-Pagination in small letters.
    answer.raw_headers = [(name.title(), value) for name, value in answer.raw_headers]
    return answer


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return format_datetime(value.astimezone(UTC), usegmt=True)
    if isinstance(value, bytes) and len(value) == 16:
        return str(uuid.UUID(bytes=bytes(value)))
    raise RefusedError(500)


def timestamp(value: Any) -> float:
    """Return the seconds since 1970 of a time; what is none is a failure of the server, as in the real one."""
    if not isinstance(value, datetime):
        raise RefusedError(500)
    return (value - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


async def answer_refusal(_request: Request, error: Exception) -> Response:
    """Answer a refused request."""
    assert isinstance(error, RefusedError)
    return json_answer(error.body, status=error.status)


async def answer_no_route(request: Request, error: Exception) -> Response:
    """Answer a request for what there is not, and those that ask what there is."""
    status = getattr(error, "status_code", 500)
    if status == 405 and request.method == "OPTIONS":
        from starlette.responses import Response

        allowed = f"{getattr(error, 'headers', {}).get('Allow', '')}, OPTIONS"
        return Response(headers={**_ALWAYS, "allow": allowed}, media_type="text/html")
    return await answer_refusal(request, RefusedError(status))
