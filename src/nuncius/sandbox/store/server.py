"""The server: connections, the pace of answers, and what goes wrong with them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING, Any

from nuncius.errors import UnreachableError
from nuncius.sandbox.store.azure import AzureBlobs
from nuncius.sandbox.store.gcs import GoogleStorage
from nuncius.sandbox.store.knobs import Accounts, Faults, Knobs
from nuncius.sandbox.store.messages import RefusedError, parse_request, phrase_of
from nuncius.sandbox.store.objects import Bucket
from nuncius.sandbox.store.plain import Plain
from nuncius.sandbox.store.s3 import S3

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.sandbox.store.interfaces import Interface, World
    from nuncius.sandbox.store.knobs import StoreRequest, StoreStats
    from nuncius.sandbox.store.messages import Answer, Request
    from nuncius.sandbox.store.objects import StoredObject

_CHUNK = 1 << 18
_LONGEST_HEAD = 1 << 16
_LONGEST_BODY = 1 << 20
_START_S = 20.0
_STOP_S = 5.0


class StoreServer:
    """The store in a thread: one port for each interface; it is ready when it is made.

    Parameters
    ----------
    world : World
        What there is.

    Attributes
    ----------
    ports : dict
        The port of each interface by its name.

    Raises
    ------
    UnreachableError
        If it does not start.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._faults = Faults(world.knobs)
        self._accounts = Accounts()
        self._interfaces = (Plain(world), S3(world), GoogleStorage(world), AzureBlobs(world))
        self.ports: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(ready.set,), name="sandbox-store", daemon=True
        )
        self._thread.start()
        if not ready.wait(_START_S) or not self.ports:
            raise UnreachableError("the sandbox's object store did not start", service="store")

    def order(self, what: tuple[Any, ...]) -> Any:
        """Do what is ordered, the name of a method and its arguments, in the server's own thread.

        Raises
        ------
        UnreachableError
            If the server was closed.
        """
        if not self._thread.is_alive():
            raise UnreachableError("the sandbox's object store was closed", service="store")
        return asyncio.run_coroutine_threadsafe(self._obey(*what), self._loop).result(_START_S)

    async def _obey(self, name: str, *arguments: Any) -> Any:
        return getattr(self, name)(*arguments)

    # What it is told --------------------------------------------------------------------------------------------------

    def put(self, bucket: str, key: str, stored: StoredObject) -> None:
        """Keep an object."""
        self._bucket(bucket).objects[key] = stored

    def delete(self, bucket: str, key: str) -> bool:
        """Forget an object; tell whether it was there."""
        return self._bucket(bucket).objects.pop(key, None) is not None

    def set_region(self, bucket: str, region: str) -> None:
        """Say where a bucket is."""
        self._bucket(bucket).region = region

    def change(self, name: str, value: Any) -> None:
        """Turn a knob."""
        self._world.knobs.change(name, value)
        if name == "seed":
            self._faults.seed()

    def fail(self, status: int, times: int, headers: dict[str, str], path: str) -> None:
        """Let the next requests fail."""
        self._faults.add(status, times, headers, path)

    def log(self) -> list[StoreRequest]:
        """Return what arrived."""
        return self._accounts.log.copy()

    def stats(self) -> StoreStats:
        """Return what the requests add up to."""
        return self._accounts.stats()

    def reset(self) -> None:
        """Begin the accounts anew, and let nothing go wrong."""
        for name in Knobs.__slots__:
            setattr(self._world.knobs, name, getattr(Knobs(), name))
        self._faults.clear()
        self._accounts.reset()

    def _bucket(self, name: str) -> Bucket:
        return self._world.buckets.setdefault(name, Bucket(self._world.region))

    # Its thread -------------------------------------------------------------------------------------------------------

    def _run(self, ready: Callable[[], None]) -> None:
        try:
            self._loop.run_until_complete(self._serve(ready))
        finally:
            ready()
            self._loop.close()

    async def _serve(self, ready: Callable[[], None]) -> None:
        tls = None
        if self._world.certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(self._world.certificate)
        with contextlib.ExitStack() as closing:
            for interface in self._interfaces:
                # asyncio sends without delay only through a socket that names its protocol.
                listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
                listening.bind(("127.0.0.1", 0))
                server = await asyncio.start_server(
                    self._serving(interface), sock=listening, limit=_LONGEST_HEAD, backlog=1024, ssl=tls
                )
                closing.callback(server.close)
                self.ports[interface.name] = int(listening.getsockname()[1])
            ready()
            await self._over.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the sockets close in the loop's next turn

    def _serving(self, interface: Interface) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            connection = _Connection(
                interface, self._world.knobs, self._faults, self._accounts, reader, writer
            )
            try:
                # Who breaks off, or is thrown out at the end, is no failure of the server.
                with contextlib.suppress(
                    ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.CancelledError
                ):
                    await connection.serve()
                    writer.close()
                    await writer.wait_closed()
            finally:
                writer.transport.abort()
                self._tasks.discard(task)

        return serve

    def close(self) -> None:
        """Break all connections and stop."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(_STOP_S)


class _Connection:
    """Answers the requests of one connection, one after the other."""

    def __init__(
        self,
        interface: Interface,
        knobs: Knobs,
        faults: Faults,
        accounts: Accounts,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._interface = interface
        self._knobs = knobs
        self._faults = faults
        self._accounts = accounts
        self._reader = reader
        self._writer = writer
        self._number = accounts.connect()
        self._free_at = 0.0
        self._broken = False

    async def serve(self) -> None:
        """Answer until one side has enough."""
        await _pause(self._knobs.connection_latency_s)
        while True:
            try:
                request = parse_request(await self._reader.readuntil(b"\r\n\r\n"))
                await self._skip_body(request)
            except asyncio.LimitOverrunError:
                return await self._refuse(431, "the header lines are too long")
            except RefusedError as refused:
                return await self._refuse(refused.status, refused.message)
            noted = self._accounts.begin(self._interface.name, request, self._number)
            try:
                await self._answer(request, noted)
            finally:
                self._accounts.end()
            if self._broken or not request.keeps_alive:
                return None

    async def _skip_body(self, request: Request) -> None:
        length = request.headers.get("content-length", "0")
        if "transfer-encoding" in request.headers or not (length.isascii() and length.isdigit()):
            raise RefusedError(501, "NotImplemented", "the store only gives, it takes nothing")
        if len(length) > 7 or int(length) > _LONGEST_BODY:
            raise RefusedError(413, "EntityTooLarge", "the store only gives, it takes nothing")
        await self._reader.readexactly(int(length))

    async def _refuse(self, status: int, message: str) -> None:
        answer = self._interface.error(RefusedError(status, "BadRequest", message))
        self._writer.write(answer.head(keeps_alive=False) + bytes(answer.data.read(0, answer.end)))
        await self._writer.drain()

    async def _answer(self, request: Request, noted: StoreRequest) -> None:
        await _pause(self._knobs.latency_s)
        if failure := self._faults.next_failure(request):
            status, headers = failure
            noted.fault = "failed"
            refused = RefusedError(
                status, self._interface.failure_code(status), phrase_of(status), headers=headers
            )
            answer = self._interface.error(refused, request)
        else:
            answer = self._interface.answer(request)
        until = answer.end if answer.sends_body else answer.start
        reset_after = self._faults.resets()
        if reset_after is not None:
            noted.fault = "reset"
            until = answer.start + int((until - answer.start) * reset_after)
        elif answer.status < 300 and until > answer.start and self._faults.cuts():
            noted.fault = "cut"
            until = answer.start + min(int(answer.length * self._knobs.cut_at), answer.length - 1)
        self._broken = noted.fault in {"reset", "cut"}
        if reset_after != 0.0:
            noted.status = answer.status
            await self._send(answer, until, noted, keeps_alive=request.keeps_alive)
        if noted.fault == "reset":
            self._reset()

    async def _send(self, answer: Answer, until: int, noted: StoreRequest, *, keeps_alive: bool) -> None:
        writer = self._writer
        first = answer.head(keeps_alive=keeps_alive)
        start, end = answer.start, min(answer.start + self._piece(), until)
        while start < end or first:
            piece = answer.data.read(start, end) if start < end else b""
            await self._wait_turn(len(piece))
            noted.bytes += len(piece)
            writer.write(b"".join((first, piece)) if first else piece)
            await writer.drain()
            if (
                start < end and len(piece) != end - start
            ):  # a file that has changed: whoever waits must not wait for ever
                self._broken = True
                return
            first, start, end = b"", end, min(end + self._piece(), until)

    def _piece(self) -> int:
        bandwidth = self._knobs.bandwidth
        return _CHUNK if bandwidth is None else min(max(int(bandwidth / 100), 1024), _CHUNK)

    async def _wait_turn(self, size: int) -> None:
        """Wait until the line would have carried so many bytes more."""
        bandwidth = self._knobs.bandwidth
        if bandwidth is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size / bandwidth
        # Shorter waits than a timer can keep are added to the next one.
        if self._free_at - now > 0.001:
            await asyncio.sleep(self._free_at - now)

    def _reset(self) -> None:
        # Closing without lingering is what sends a reset.
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
