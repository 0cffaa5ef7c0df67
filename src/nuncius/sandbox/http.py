"""HTTP services on loopback: a server in a thread, with faults on demand before it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Self

from nuncius._core.lazy import require
from nuncius.errors import UnreachableError
from nuncius.sandbox.faults import Fault, Faults

if TYPE_CHECKING:
    from types import TracebackType

    from nuncius.sandbox.faults import SandboxRequest

_START_S = 20.0
_STOP_S = 5.0


class HttpService:
    """An ASGI application, served on loopback; it is ready when it is made.

    Parameters
    ----------
    app : ASGI application
        What answers.
    name : str
        What it is called.
    delay_s, delay_per_position_s : float
        How much slower than possible each answer is.

    Attributes
    ----------
    requests : list of SandboxRequest
        What arrived, in that order.

    Raises
    ------
    MissingExtraError
        If uvicorn is not installed.
    """

    first_path: ClassVar[str] = "/"
    """Which requests faults are for, where none are named."""

    def __init__(
        self, app: Any, *, name: str, delay_s: float = 0.0, delay_per_position_s: float = 0.0
    ) -> None:
        require("uvicorn", extra="sandbox")
        self.name = name
        self.requests: list[SandboxRequest] = []
        self._faults = Faults(app, self.requests, delay_s, delay_per_position_s)
        self._server = Server(self._faults, name)

    @staticmethod
    def error_body(reason: str) -> dict[str, Any]:
        """Return what the service answers where something fails."""
        return {"detail": reason}

    @property
    def host(self) -> str:
        """The host."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The port."""
        return self._server.port

    @property
    def http_url(self) -> str:
        """Where a browser would find it."""
        return f"http://{self.host}:{self.port}"

    # Faults -----------------------------------------------------------------------------------------------------------

    def fail(
        self,
        *,
        status: int = 503,
        times: int = 1,
        retry_after: float | str | None = None,
        path: str | None = None,
    ) -> None:
        """Answer the next requests with an error.

        Parameters
        ----------
        status : int
            The HTTP status.
        times : int
            How many requests.
        retry_after : float or str, optional
            What the header Retry-After says.
        path : str, optional
            Which requests: those whose path begins so; `first_path` by default.
        """
        body = json.dumps(self.error_body(HTTPStatus(status).phrase)).encode()
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        self._faults.add(Fault(path or self.first_path, times, status=status, body=body, headers=headers))

    def answer(
        self,
        *,
        body: bytes,
        content_type: str = "application/json",
        status: int = 200,
        times: int = 1,
        path: str | None = None,
    ) -> None:
        """Answer the next requests with something else: a page of a proxy, or what is no JSON."""
        headers = {"content-type": content_type}
        self._faults.add(Fault(path or self.first_path, times, status=status, body=body, headers=headers))

    def delay(self, seconds: float, times: int = 1, *, path: str | None = None) -> None:
        """Let the next requests wait before they are answered."""
        self._faults.add(Fault(path or self.first_path, times, delay_s=seconds))

    def cut_body(self, times: int = 1, *, path: str | None = None) -> None:
        """Break the connection in the middle of the next answers."""
        self._faults.add(Fault(path or self.first_path, times, cuts=True))

    def clear_faults(self) -> None:
        """Forget the faults that did not happen yet."""
        self._faults.clear()

    # The end ----------------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """Break all connections and stop, in the middle of whatever is going on."""
        self._server.kill()

    def close(self) -> None:
        """Stop it."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} at {self.http_url}>"


class Server:
    """uvicorn in a thread.

    Parameters
    ----------
    app : ASGI application
        What answers.
    name : str
        What it is called.
    """

    def __init__(self, app: Any, name: str) -> None:
        import uvicorn

        # asyncio sends without delay only through a socket that names its protocol.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        # What breaks on purpose needs no lines in the log of the tests.
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._uvicorn = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=f"sandbox-{name}-{self.port}", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._uvicorn.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise UnreachableError(f"the sandbox's {name} did not start", service=name)
            time.sleep(0.002)

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._uvicorn.serve(sockets=[self._socket])

        asyncio.run(serve())

    def kill(self) -> None:
        """Break all connections and stop."""
        self._uvicorn.force_exit = True
        if self._loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                self._loop.call_soon_threadsafe(self._abort)
        self.stop()

    def _abort(self) -> None:
        for connection in list(self._uvicorn.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def stop(self) -> None:
        """Stop; requests that are being answered get their answers."""
        self._uvicorn.should_exit = True
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            self._uvicorn.force_exit = True
            self._thread.join(_STOP_S)
        self._socket.close()
