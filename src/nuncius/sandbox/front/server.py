"""The process of a front: it takes connections, lets clients log in, and relays the rest to the broker behind.

It is started by `KafkaFront`, which tells it on standard input, one JSON object per line, first what to be and then what
to change; each line is answered by one. It ends when standard input closes, so that it never outlives the program that
started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import ssl
import struct
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nuncius.sandbox.front import wire
from nuncius.sandbox.front.login import RefusedError, Tokens, start_login
from nuncius.sandbox.front.token_endpoint import TokenEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.sandbox.front.login import Login

_CHUNK = 1 << 18
_LARGEST_REQUEST = 200 << 20


@dataclass
class Behaviour:
    """How the front behaves; all of it can change at any time.

    Parameters
    ----------
    users : dict
        Passwords by name; for OAUTHBEARER, secrets by client id.
    mechanisms : list of str
        How one can log in; empty: everybody may in.
    forbidden_topics, forbidden_groups : list of str
        What nobody may use.
    delay_s : float
        How long each request waits.
    stalled : bool
        Whether requests wait for ever.
    listening : bool
        Whether new connections are taken.
    max_session_s : float
        How long a login lasts; 0 is for ever, or as long as its token is good.
    token_status : int
        What the token endpoint answers instead of a token, 200 being a token.
    token_delay_s : float
        How slow it is.
    token_listening : bool
        Whether it takes connections.
    """

    users: dict[str, str] = field(default_factory=dict)
    mechanisms: list[str] = field(default_factory=list)
    forbidden_topics: list[str] = field(default_factory=list)
    forbidden_groups: list[str] = field(default_factory=list)
    delay_s: float = 0.0
    stalled: bool = False
    listening: bool = True
    max_session_s: float = 0.0
    token_status: int = 200
    token_delay_s: float = 0.0
    token_listening: bool = True


class Listener:
    """A port that is open or not, and the same each time."""

    def __init__(self, serve: Callable[..., Any], tls: ssl.SSLContext | None = None) -> None:
        self._serve = serve
        self._tls = tls
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        """Take connections."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, ssl=self._tls, limit=1 << 20
            )
            self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Take no more connections; those that are there stay."""
        if self._server is not None:
            self._server.close()
            self._server = None


class Front:
    """All that the connections share."""

    def __init__(self, upstream: tuple[str, int], behaviour: Behaviour, token_lifetime_s: float) -> None:
        self.upstream = upstream
        self.behaviour = behaviour
        self.tokens = Tokens(token_lifetime_s)
        self.known: dict[int, tuple[int, int]] = {}
        self.counts: Counter[str] = Counter()
        self.connections: set[Connection] = set()
        self.goes = asyncio.Event()
        self.goes.set()
        self.endpoint = TokenEndpoint(behaviour, self.tokens, self.counts)
        self.tokens_port = Listener(self.endpoint.serve)
        self.port = Listener(self._connected)

    async def start(self, certificate: str | None) -> None:
        """Ask the broker what it knows, and open the ports."""
        if certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificate)
            self.port = Listener(self._connected, tls)
        reader, writer = await asyncio.open_connection(*self.upstream)
        writer.write(struct.pack(">ihhih", 10, wire.API_VERSIONS, 0, 0, 0))
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        self.known = wire.parse_versions((await reader.readexactly(size))[4:])
        writer.close()
        await self.port.open()
        if "OAUTHBEARER" in self.behaviour.mechanisms:
            await self.tokens_port.open()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["connections"] += 1
        try:
            broker = await asyncio.open_connection(*self.upstream, limit=1 << 20)
        except OSError:  # the broker is gone: so are we
            writer.transport.abort()
            return
        connection = Connection(self, reader, writer, *broker)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    async def stop(self) -> None:
        """Break all connections and take no more."""
        self.port.close()
        self.tokens_port.close()
        while self.connections:
            for connection in self.connections:
                connection.abort()
            await asyncio.sleep(0.005)

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what one line says."""
        change = order.get("change", {})
        self.tokens.lifetime_s = change.pop("token_lifetime_s", self.tokens.lifetime_s)
        for name, value in change.items():
            setattr(self.behaviour, name, value)
        ports = [(self.port, self.behaviour.listening)]
        if self.tokens_port.port:
            ports.append((self.tokens_port, self.behaviour.token_listening))
        for port, is_open in ports:
            if is_open:
                await port.open()
            else:
                port.close()
        if self.behaviour.stalled:
            self.goes.clear()
        else:
            self.goes.set()
        if order.get("revoke"):
            self.tokens.revoke()
        if order.get("disconnect"):
            for connection in list(self.connections):
                connection.abort()
        return dict(self.counts)


class Connection:
    """One client and its connection to the broker behind."""

    def __init__(
        self,
        front: Front,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        broker_reader: asyncio.StreamReader,
        broker_writer: asyncio.StreamWriter,
    ) -> None:
        self._front = front
        self._reader = reader
        self._writer = writer
        self._broker_reader = broker_reader
        self._broker_writer = broker_writer
        self._answers = Answers(writer.write)
        self._login: Login | None = None
        self._in_since: float | None = None
        self._expires: float | None = None

    async def run(self) -> None:
        """Relay until one side has enough."""
        both = [asyncio.create_task(self._requests()), asyncio.create_task(self._relay_answers())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            for done in await asyncio.gather(*both, return_exceptions=True):
                if isinstance(done, Exception) and not isinstance(done, (OSError, EOFError)):
                    self._front.counts["errors"] += 1
                    sys.stderr.write(f"the front failed on what it relayed: {done!r}\n")
            self._broker_writer.close()
            self._writer.close()

    def abort(self) -> None:
        """Break it."""
        self._writer.transport.abort()
        self._broker_writer.transport.abort()

    async def _relay_answers(self) -> None:
        while chunk := await self._broker_reader.read(_CHUNK):
            self._answers.feed(chunk)
            await self._writer.drain()

    async def _requests(self) -> None:
        behaviour = self._front.behaviour
        while True:
            head = await self._reader.readexactly(4)
            (size,) = struct.unpack(">i", head)
            if not 10 <= size <= _LARGEST_REQUEST:
                return
            frame = await self._reader.readexactly(size)
            await self._front.goes.wait()
            if behaviour.delay_s:
                await asyncio.sleep(behaviour.delay_s)
            request = wire.parse_request(frame)
            if request.api in {wire.API_VERSIONS, wire.SASL_HANDSHAKE, wire.SASL_AUTHENTICATE}:
                if not self._answer(request):
                    await self._writer.drain()
                    return
            elif not self._is_in():
                return
            else:
                self._expect(request)
                self._broker_writer.write(head + frame)
                await self._broker_writer.drain()

    def _is_in(self) -> bool:
        if not self._front.behaviour.mechanisms:
            return True
        if self._in_since is None:
            return False
        return self._expires is None or time.time() < self._expires

    def _expect(self, request: wire.Request) -> None:
        behaviour = self._front.behaviour
        how = wire.Rewriting(
            "127.0.0.1", self._front.port.port, behaviour.forbidden_topics, behaviour.forbidden_groups
        )
        rewrite = wire.rewriter(request, how)
        if rewrite is not None:
            self._answers.rewrite(request.correlation, rewrite)

    def _answer(self, request: wire.Request) -> bool:
        """Answer what the broker behind knows nothing of; return whether the connection goes on."""
        front, goes_on = self._front, True
        if request.api == wire.API_VERSIONS:
            body = wire.versions_answer(request.version, front.known, login=bool(front.behaviour.mechanisms))
        elif request.api == wire.SASL_HANDSHAKE:
            mechanism = wire.parse_handshake(request.body)
            goes_on = mechanism in front.behaviour.mechanisms
            if goes_on:
                self._login = start_login(mechanism, front.behaviour.users, front.tokens)
            error = 0 if goes_on else wire.UNSUPPORTED_MECHANISM
            body = wire.handshake_answer(error, front.behaviour.mechanisms)
        else:
            body, goes_on = self._step(request)
        self._answers.add(wire.answer(request.correlation, body))
        return goes_on

    def _step(self, request: wire.Request) -> tuple[bytes, bool]:
        counts = self._front.counts
        if self._login is None:
            message = "SaslAuthenticate came before SaslHandshake"
            return wire.login_answer(request.version, error=wire.ILLEGAL_STATE, message=message), False
        try:
            token = self._login.step(wire.parse_login(request.body))
        except RefusedError as error:
            counts["refused"] += 1
            return wire.login_answer(request.version, error=wire.LOGIN_FAILED, message=str(error)), False
        if not self._login.done:
            return wire.login_answer(request.version, token), True
        now, limit = time.time(), self._front.behaviour.max_session_s
        ends = [end for end in (self._login.expires, now + limit if limit else None) if end is not None]
        self._expires = min(ends, default=None)
        counts["logins" if self._in_since is None else "renewals"] += 1
        self._in_since, self._login = now, None
        session_ms = 0 if self._expires is None else int(1000 * (self._expires - now))
        return wire.login_answer(request.version, token, session_ms=session_ms), True


class Answers:
    """The answers to a client: most pass in whatever pieces they come, some are rewritten, and some are our own.

    Parameters
    ----------
    write : callable
        Takes what goes to the client.
    """

    def __init__(self, write: Callable[[bytes | memoryview], None]) -> None:
        self._write = write
        self._rewriters: dict[int, Callable[[bytes], bytes]] = {}
        self._own: deque[bytes] = deque()
        self._head = bytearray()
        self._left = 0  # bytes of the present answer that did not come yet
        self._held: bytearray | None = None  # the present answer, if it is rewritten

    def rewrite(self, correlation: int, rewriter: Callable[[bytes], bytes]) -> None:
        """Rewrite the answer with that number when it comes."""
        self._rewriters[correlation] = rewriter

    def add(self, answer: bytes) -> None:
        """Send an answer of our own, between two others."""
        self._own.append(answer)
        self._flush()

    def feed(self, chunk: bytes) -> None:
        """Take what came from the broker."""
        view, at = memoryview(chunk), 0
        while at < len(chunk):
            if self._left:
                taken = view[at : at + self._left]
                self._left -= len(taken)
                if self._held is None:
                    self._write(taken)
                else:
                    self._held += taken
            else:
                taken = view[at : at + 8 - len(self._head)]
                self._head += taken
                if len(self._head) == 8:
                    self._begin()
            at += len(taken)
            if not self._left:
                self._end()

    def _begin(self) -> None:
        size, correlation = struct.unpack(">ii", self._head)
        self._left = size - 4
        if correlation in self._rewriters:
            self._held = bytearray()
        else:
            self._write(bytes(self._head))
            self._head.clear()

    def _end(self) -> None:
        if self._held is not None:
            (correlation,) = struct.unpack_from(">i", self._head, 4)
            body = self._rewriters.pop(correlation)(bytes(self._held))
            self._write(wire.answer(correlation, body))
            self._held = None
            self._head.clear()
        self._flush()

    def _flush(self) -> None:
        while self._own and not self._left and not self._head:
            self._write(self._own.popleft())


async def main() -> None:
    """Run until standard input closes."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    first = json.loads(await lines.readline())
    front = Front(tuple(first["upstream"]), Behaviour(**first["behaviour"]), first["token_lifetime_s"])
    await front.start(first["certificate"])
    _say({"port": front.port.port, "token_port": front.tokens_port.port})
    while line := await lines.readline():
        _say(await front.obey(json.loads(line)))
    await front.stop()


def _say(reply: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a terminal sends Ctrl-C to us too: the program still has to leave
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
