"""What a front must understand of Kafka's protocol: requests that it answers itself, and answers with addresses in them.

Source: the message definitions in the Apache Kafka protocol guide. A "flexible" version of a message has compact
strings and arrays, whose length is a variable-length integer one too large, and tagged fields.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

METADATA, FIND_COORDINATOR, SASL_HANDSHAKE, API_VERSIONS, SASL_AUTHENTICATE = 3, 10, 17, 18, 36
UNSUPPORTED_VERSION, UNSUPPORTED_MECHANISM, ILLEGAL_STATE, LOGIN_FAILED = 35, 33, 34, 58
TOPIC_FORBIDDEN, GROUP_FORBIDDEN = 29, 30

_FLEXIBLE_SINCE = {METADATA: 9, FIND_COORDINATOR: 3}
# Later versions of these have addresses in places that we don't rewrite (FETCH and PRODUCE: after a change of leader).
_NEWEST = {0: 9, 1: 15, METADATA: 12, FIND_COORDINATOR: 3}
_OWN_VERSIONS = {SASL_HANDSHAKE: (1, 1), API_VERSIONS: (0, 3), SASL_AUTHENTICATE: (0, 1)}


@dataclass(frozen=True, slots=True)
class Request:
    """The header of a request.

    Parameters
    ----------
    api, version, correlation : int
        Which request, in which version, and the number that the answer repeats.
    body : bytes
        What follows the header.
    """

    api: int
    version: int
    correlation: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What an answer of the broker says differently behind a front.

    Parameters
    ----------
    host, port : str, int
        The address of the front.
    topics, groups : collection of str
        What is forbidden.
    """

    host: str
    port: int
    topics: Collection[str] = ()
    groups: Collection[str] = ()


class _Cursor:
    """Reads a message from front to back."""

    def __init__(self, data: bytes, *, flexible: bool) -> None:
        self.data = data
        self.at = 0
        self.flexible = flexible

    def take(self, form: str) -> int:
        (value,) = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(form)
        return int(value)

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take("B")
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7

    def text(self) -> str | None:
        size = self.varint() - 1 if self.flexible else self.take("h")
        if size < 0:
            return None
        found = self.data[self.at : self.at + size]
        self.at += size
        return found.decode()

    def count(self) -> int:
        return self.varint() - 1 if self.flexible else self.take("i")

    def numbers(self) -> None:
        """Skip an array of int32."""
        count = self.count()
        self.at += 4 * max(count, 0)

    def tags(self) -> None:
        """Skip tagged fields."""
        if self.flexible:
            for _ in range(self.varint()):
                self.varint()
                size = self.varint()
                self.at += size


def parse_request(frame: bytes) -> Request:
    """Read the header of a request.

    Parameters
    ----------
    frame : bytes
        The request, without the length before it.
    """
    api, version, correlation, client = struct.unpack_from(">hhih", frame)
    at = 10 + max(client, 0)
    if version >= _FLEXIBLE_SINCE.get(api, 1 << 15):
        at += 1  # tagged fields; nobody sends any
    return Request(api, version, correlation, frame[at:])


def answer(correlation: int, body: bytes) -> bytes:
    """Return an answer as it goes over the wire."""
    return struct.pack(">ii", len(body) + 4, correlation) + body


# Requests that a front answers -----------------------------------------------------------------------------------------


def parse_versions(body: bytes) -> dict[int, tuple[int, int]]:
    """Read the answer to ApiVersions, version 0: the oldest and newest version of each request."""
    count = struct.unpack_from(">hi", body)[1]
    entries = (struct.unpack_from(">hhh", body, 6 + 6 * index) for index in range(count))
    return {api: (oldest, newest) for api, oldest, newest in entries}


def versions_answer(version: int, known: Mapping[int, tuple[int, int]], *, login: bool) -> bytes:
    """Return the answer to ApiVersions: what the broker behind knows and we can pass on, and how to log in."""
    own = _OWN_VERSIONS if login else {API_VERSIONS: _OWN_VERSIONS[API_VERSIONS]}
    merged = {api: (low, min(high, _NEWEST.get(api, high))) for api, (low, high) in known.items()} | own
    entries = [struct.pack(">hhh", api, *merged[api]) for api in sorted(merged)]
    if version > _OWN_VERSIONS[API_VERSIONS][1]:
        return struct.pack(">hi", UNSUPPORTED_VERSION, len(entries)) + b"".join(entries)
    if version == 3:
        packed = b"".join(entry + b"\0" for entry in entries)
        return b"\0\0" + _varint(len(entries) + 1) + packed + bytes(5)
    return struct.pack(">hi", 0, len(entries)) + b"".join(entries) + bytes(4 if version else 0)


def parse_handshake(body: bytes) -> str:
    """Read which mechanism a client wants."""
    return _Cursor(body, flexible=False).text() or ""


def handshake_answer(error: int, mechanisms: Collection[str]) -> bytes:
    """Return the answer to SaslHandshake."""
    return struct.pack(">hi", error, len(mechanisms)) + b"".join(
        _text(name, flexible=False) for name in mechanisms
    )


def parse_login(body: bytes) -> bytes:
    """Read the token of a SaslAuthenticate request."""
    (size,) = struct.unpack_from(">i", body)
    return body[4 : 4 + size]


def login_answer(
    version: int, token: bytes = b"", *, error: int = 0, message: str | None = None, session_ms: int = 0
) -> bytes:
    """Return the answer to SaslAuthenticate."""
    head = struct.pack(">h", error) + _text(message, flexible=False)
    body = head + struct.pack(">i", len(token)) + token
    return body + struct.pack(">q", session_ms) if version >= 1 else body


# Answers that a front rewrites -----------------------------------------------------------------------------------------


def rewriter(request: Request, how: Rewriting) -> Callable[[bytes], bytes] | None:
    """Return what rewrites the answer to a request; None where it can pass as it is.

    Parameters
    ----------
    request : Request
        The request.
    how : Rewriting
        What to say instead; it is read when the answer comes.
    """
    flexible = request.version >= _FLEXIBLE_SINCE.get(request.api, 1 << 15)
    if request.api == METADATA:
        return lambda body: _metadata(_Cursor(body, flexible=flexible), request, how)
    if request.api == FIND_COORDINATOR:
        return lambda body: _coordinator(_Cursor(body, flexible=flexible), request, how)
    return None


def _metadata(old: _Cursor, request: Request, how: Rewriting) -> bytes:
    version, flexible, out = request.version, old.flexible, bytearray()
    old.tags()
    if version >= 3:
        old.take("i")
    out += old.data[: old.at]
    count = old.count()
    out += _count(count, flexible=flexible)
    for _ in range(count):
        out += struct.pack(">i", old.take("i")) + _text(how.host, flexible=flexible)
        old.text()
        old.take("i")
        begin = old.at
        if version >= 1:
            old.text()
        old.tags()
        out += struct.pack(">i", how.port) + old.data[begin : old.at]
    begin = old.at
    if version >= 2:
        old.text()
    if version >= 1:
        old.take("i")
    out += old.data[begin : old.at]
    topics = [entry for _ in range(old.count()) if (entry := _topic(old, request, how))]
    out += _count(len(topics), flexible=flexible) + b"".join(topics)
    return bytes(out + old.data[old.at :])


def _topic(old: _Cursor, request: Request, how: Rewriting) -> bytes:
    """Return the entry of one topic; empty where the client shall not know of it."""
    version, begin = request.version, old.at
    old.take("h")
    name = old.text()
    if version >= 10:
        old.at += 16
    if version >= 1:
        old.take("B")
    partitions = old.at
    for _ in range(old.count()):
        old.at += 10 + (4 if version >= 7 else 0)
        for _ in range(3 if version >= 5 else 2):
            old.numbers()
        old.tags()
    rest = old.at
    if version >= 8:
        old.take("i")
    old.tags()
    if name not in how.topics:
        return old.data[begin : old.at]
    if _asks_for_all(request):  # a broker lists only what one may see
        return b""
    nothing = _count(0, flexible=old.flexible)
    forbidden = struct.pack(">h", TOPIC_FORBIDDEN)
    return forbidden + old.data[begin + 2 : partitions] + nothing + old.data[rest : old.at]


def _asks_for_all(request: Request) -> bool:
    count = _Cursor(request.body, flexible=request.version >= _FLEXIBLE_SINCE[METADATA]).count()
    return count < 0 or (count == 0 and request.version == 0)


def _coordinator(old: _Cursor, request: Request, how: Rewriting) -> bytes:
    flexible, out = old.flexible, bytearray()
    group = _Cursor(request.body, flexible=flexible).text()
    old.tags()
    if request.version >= 1:
        old.take("i")
    out += old.data[: old.at]
    error = old.take("h")
    message = old.text() if request.version >= 1 else None
    node = old.take("i")
    host, port = old.text(), old.take("i")
    if group in how.groups:
        error, message, node, host, port = GROUP_FORBIDDEN, None, -1, "", -1
    elif not error:
        host, port = how.host, how.port
    out += struct.pack(">h", error)
    if request.version >= 1:
        out += _text(message, flexible=flexible)
    out += struct.pack(">i", node) + _text(host, flexible=flexible) + struct.pack(">i", port)
    return bytes(out + old.data[old.at :])


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _count(value: int, *, flexible: bool) -> bytes:
    return _varint(value + 1) if flexible else struct.pack(">i", value)


def _text(text: str | None, *, flexible: bool) -> bytes:
    coded = (text or "").encode()
    size = -1 if text is None else len(coded)
    return (_varint(size + 1) if flexible else struct.pack(">h", size)) + coded
