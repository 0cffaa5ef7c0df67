"""An HTTP server on loopback whose answers a test writes byte by byte, and both colours of driver to ask it with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from nuncius._core.drivers import AsyncDriver, Driver

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping

    from nuncius._core.operations import Operation


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def params(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def reply(status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Write a whole answer."""
    lines = {"content-length": str(len(body)), "content-type": "text/plain"} | dict(headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode("latin-1") + body


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """Write a whole answer in JSON."""
    return reply(
        status, json.dumps(value).encode(), {"content-type": "application/json", **dict(headers or {})}
    )


class Loopback:
    """A server that sends what `answer` says: bytes, or pieces of them with pauses (floats, in seconds) in between.

    After an answer in pieces the connection is closed; None closes it without an answer.
    """

    def __init__(
        self,
        answer: Callable[[Asked], bytes | Iterable[bytes | float] | None],
        *,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.requests: list[Asked] = []
        self.connections = 0
        self._answer = answer
        self._context = context
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def paths(self) -> list[str]:
        """Return the paths of all requests, in the order of their arrival."""
        return [asked.path for asked in self.requests]

    def close(self) -> None:
        """Stop, and break what is open."""
        for one in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as lines:
                while (asked := _read(lines)) is not None:
                    self.requests.append(asked)
                    if not _send(connection, self._answer(asked)):
                        return


def _read(lines: Any) -> Asked | None:
    if lines.peek(1)[:1] == b"\x16":  # the hello of TLS
        return None
    first = lines.readline().decode("latin-1").split()
    if len(first) < 2:
        return None
    headers = {}
    while line := lines.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Asked(first[0], first[1], headers, lines.read(int(headers.get("content-length", 0))))


def _send(connection: socket.socket, answer: bytes | Iterable[bytes | float] | None) -> bool:
    """Send an answer, and tell whether the connection stays open."""
    if isinstance(answer, bytes):
        connection.sendall(answer)
        return True
    for piece in answer or ():
        if isinstance(piece, bytes):
            connection.sendall(piece)
        else:
            time.sleep(piece)
    return False


def run_sync(operation: Operation[Any]) -> Any:
    """Run an operation with a driver of its own that blocks."""
    driver = Driver()
    try:
        return driver.run(operation)
    finally:
        driver.close()


def run_async(operation: Operation[Any]) -> Any:
    """Run an operation with a driver of its own that awaits, in an event loop of its own."""

    async def whole() -> Any:
        driver = AsyncDriver()
        try:
            return await driver.run(operation)
        finally:
            await driver.close()

    return asyncio.run(whole())


COLOURS = {"sync": run_sync, "async": run_async}
