"""Faults on demand: an ASGI application that stands before a server, notes what arrives and lets some of it fail."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_NOTED_BYTES = 4 << 20


@dataclass(slots=True)
class SandboxRequest:
    """A request that arrived.

    Parameters
    ----------
    method, path : str
        What was asked.
    status : int, optional
        What was answered; None while nothing was.
    query_type : str, optional
        The type of a query.
    positions : int
        How many positions it has.
    port : int, optional
        The client's port, which tells connections apart.
    """

    method: str
    path: str
    status: int | None = None
    query_type: str | None = None
    positions: int = 0
    port: int | None = None


@dataclass(slots=True)
class Fault:
    """What goes wrong with the next requests."""

    path: str
    times: int
    delay_s: float = 0.0
    cuts: bool = False
    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Faults:
    """Notes the requests that arrive, and lets some of them fail.

    Parameters
    ----------
    app : ASGI application
        The server.
    requests : list of SandboxRequest
        Where the requests are noted.
    delay_s, delay_per_position_s : float
        How much slower than possible each answer is.
    """

    def __init__(
        self, app: Any, requests: list[SandboxRequest], delay_s: float, delay_per_position_s: float
    ) -> None:
        self._app = app
        self._requests = requests
        self._delay_s = delay_s
        self._delay_per_position_s = delay_per_position_s
        self._waiting: deque[Fault] = deque()
        self._lock = threading.Lock()
        self.expired: datetime | None = None

    def add(self, fault: Fault) -> None:
        """Let something go wrong; what was added earlier happens earlier."""
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        """Forget the faults that did not happen yet."""
        with self._lock:
            self._waiting.clear()
        self.expired = None

    def _next(self, path: str) -> Fault | None:
        with self._lock:
            for fault in self._waiting:
                if path.startswith(fault.path):
                    fault.times -= 1
                    if fault.times <= 0:
                        self._waiting.remove(fault)
                    return fault
        return None

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        noted = SandboxRequest(scope["method"], scope["path"], port=client[1] if client else None)
        self._requests.append(noted)
        listen, answer = _Listener(receive, noted), _Answer(send, noted)
        fault = self._next(scope["path"])
        if fault is None and self._is_expired(scope):
            body = json.dumps({"status": "error", "message": "token has expired"}).encode()
            fault = Fault("", 1, status=400, body=body)
        if self._delay_s or self._delay_per_position_s or fault is not None:
            await listen.all()
            delay_s = self._delay_s + self._delay_per_position_s * noted.positions
            await asyncio.sleep(delay_s + (fault.delay_s if fault else 0.0))
        if fault is not None and fault.status:
            await answer.whole(fault)
        elif fault is not None and fault.cuts:
            await self._app(scope, listen, answer.held)
            await answer.half()
        else:
            await self._app(scope, listen, answer)

    def _is_expired(self, scope: dict[str, Any]) -> bool:
        if self.expired is None:
            return False
        token = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1").rpartition(" ")[2]
        try:
            claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
            return datetime.fromisoformat(claims["created_at"]) <= self.expired
        except (ValueError, LookupError, TypeError):
            return False  # no token of ours: the server says what it thinks of it


class _Listener:
    """Passes a body on, and notes what query it holds."""

    def __init__(self, receive: Callable[[], Awaitable[dict[str, Any]]], noted: SandboxRequest) -> None:
        self._receive = receive
        self._noted = noted
        self._body = b""
        self._read: deque[dict[str, Any]] = deque()

    async def __call__(self) -> dict[str, Any]:
        return self._read.popleft() if self._read else await self._next()

    async def all(self) -> None:
        """Read the whole body, and keep it for whoever comes after."""
        while True:
            message = await self._next()
            self._read.append(message)
            if message["type"] != "http.request" or not message.get("more_body"):
                return

    async def _next(self) -> dict[str, Any]:
        message = await self._receive()
        if message["type"] == "http.request" and len(self._body) < _NOTED_BYTES:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                _note_query(self._noted, self._body)
        return message


class _Answer:
    """Passes an answer on and notes its status; or holds it back, to send half of it."""

    def __init__(self, send: Callable[[dict[str, Any]], Awaitable[None]], noted: SandboxRequest) -> None:
        self._send = send
        self._noted = noted
        self._held: list[dict[str, Any]] = []

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._noted.status = message["status"]
        await self._send(message)

    async def held(self, message: dict[str, Any]) -> None:
        self._held.append(message)

    async def half(self) -> None:
        body = b"".join(message.get("body", b"") for message in self._held[1:])
        await self(self._held[0])
        # Without an end: uvicorn then breaks the connection.
        await self._send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})

    async def whole(self, fault: Fault) -> None:
        headers = {"content-type": "application/json", "content-length": str(len(fault.body))} | fault.headers
        coded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": fault.status, "headers": coded})
        await self._send({"type": "http.response.body", "body": fault.body})


def _note_query(noted: SandboxRequest, body: bytes) -> None:
    try:
        request = json.loads(body)
        kind, query = request["query_type"], request["query"]
        noted.query_type = str(kind)
        radec = query.get("radec") or query.get("object_coordinates", {}).get("radec") or []
        noted.positions = 1 if isinstance(radec, str) else len(radec)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return  # no query, or none that anybody could read
