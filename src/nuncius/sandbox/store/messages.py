"""HTTP messages: requests as they arrive, answers, and which bytes of an object an answer holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email.utils import format_datetime, formatdate, parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

from nuncius.sandbox.store.objects import HeldBytes

if TYPE_CHECKING:
    from nuncius.sandbox.store.knobs import Knobs
    from nuncius.sandbox.store.objects import Readable, StoredObject

# Nineteen digits reach further than any file, and keep hostile numbers short.
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOTHING = HeldBytes(b"")


class RefusedError(Exception):
    """A request is answered with an error.

    Parameters
    ----------
    status : int
        The HTTP status.
    code : str
        What the service calls it.
    message : str
        What it says.
    headers : mapping, optional
        More header lines.
    details : mapping, optional
        What else stands in the body.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        details: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}
        self.details = details or {}


@dataclass(frozen=True, slots=True)
class Request:
    """A request.

    Parameters
    ----------
    method : str
        GET, HEAD, ...
    path : str
        The path, encoded as it was sent.
    query : str
        The query string as it was sent.
    headers : dict
        The header lines by lower-case name; several of one name are joined by commas.
    keeps_alive : bool
        Whether the connection stays open.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    keeps_alive: bool

    @property
    def host(self) -> str:
        """The host that was asked for, in lower case and without its port."""
        return self.headers.get("host", "").lower().rpartition("]")[2].partition(":")[0]


def parse_request(head: bytes) -> Request:
    r"""Read the head of a request (RFC 9112).

    Parameters
    ----------
    head : bytes
        All up to the empty line.

    Raises
    ------
    RefusedError
        If it is no HTTP/1 request.
    """
    line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    parts = line.split(" ")
    if len(parts) != 3 or parts[2] not in {"HTTP/1.1", "HTTP/1.0"} or not parts[0].isalpha():
        raise _bad("the first line is no HTTP/1.1 request")
    method, target, version = parts
    headers: dict[str, str] = {}
    for each in lines:
        name, colon, value = each.partition(":")
        if not colon or not _HEADER_NAME.fullmatch(name):
            raise _bad("a header line has no name")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    if "://" in target[:8]:  # as proxies are asked: the host stands in the target
        headers["host"], _, rest = target.partition("://")[2].partition("/")
        target = f"/{rest}"
    path, _, query = target.partition("?")
    if not path.startswith("/"):
        raise _bad("the path doesn't begin with /")
    keeps_alive = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return Request(method.upper(), path, query, headers, keeps_alive)


def _bad(reason: str) -> RefusedError:
    return RefusedError(400, "BadRequest", f"An error occurred when parsing the HTTP request: {reason}")


@dataclass(slots=True)
class Answer:
    """An answer: the bytes [start, end) of `data`; `length` is what Content-Length says, for HEAD too."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    data: Readable = _NOTHING
    start: int = 0
    end: int = 0
    sends_body: bool = True

    @property
    def length(self) -> int:
        """How long the body is."""
        return self.end - self.start

    def head(self, *, keeps_alive: bool) -> bytes:
        """Return the status line and the header lines."""
        lines = [f"HTTP/1.1 {self.status} {phrase_of(self.status)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.status != HTTPStatus.NOT_MODIFIED:
            lines.append(f"content-length: {self.length}")
        lines.append(f"date: {formatdate(usegmt=True)}")
        lines.append(f"connection: {'keep-alive' if keeps_alive else 'close'}\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1", "replace")


def phrase_of(status: int) -> str:
    """Return what a status is called."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def page(status: int, content_type: str, text: str, headers: dict[str, str] | None = None) -> Answer:
    """Return an answer with a text."""
    body = HeldBytes(text.encode("utf-8", "surrogateescape"))
    return Answer(status, {"content-type": content_type} | (headers or {}), body, 0, body.size)


def decode(text: str, *, plus_is_space: bool = False) -> str:
    """Undo percent-encoding; bytes that are no UTF-8 stay what they are."""
    return unquote(text.replace("+", " ") if plus_is_space else text, errors="surrogateescape")


# Objects --------------------------------------------------------------------------------------------------------------


def object_answer(request: Request, stored: StoredObject, knobs: Knobs) -> Answer:
    """Return the answer to GET or HEAD of an object, with its conditions and its range (RFC 9110, 13 and 14).

    Raises
    ------
    RefusedError
        If a condition does not hold, or the range begins after the end.
    """
    headers = _describe(stored, knobs)
    if _is_unchanged(request.headers, stored):
        return Answer(304, headers)
    size = stored.data.size
    status, start, end = 200, 0, size
    if span := _wanted(request, stored, knobs):
        if span[0] >= span[1]:
            raise RefusedError(
                416,
                "InvalidRange",
                "The requested range is not satisfiable",
                headers={"content-range": f"bytes */{size}"},
                details={"RangeRequested": request.headers["range"], "ActualObjectSize": str(size)},
            )
        status, (start, end) = 206, span
        total = "*" if knobs.ranges == "no total" else size
        headers["content-range"] = f"bytes {start}-{end - 1}/{total}"
    return Answer(status, headers, stored.data, start, end, request.method != "HEAD")


def requested_range(header: str, size: int) -> tuple[int, int] | None:
    """Return which bytes [start, end) a Range header asks for.

    Returns
    -------
    tuple of int, or None
        `start` is not before `end` if there are no such bytes; None if the header is to be ignored: it asks for several
        ranges, in other units, or backwards.

    Examples
    --------
    >>> requested_range("bytes=-3", 10)
    (7, 10)
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(size - int(last), 0), size
    start = int(first)
    if last and int(last) < start:
        return None
    return start, min(int(last) + 1, size) if last else size


def _describe(stored: StoredObject, knobs: Knobs) -> dict[str, str]:
    headers = {"content-type": "application/octet-stream"}
    if knobs.send_modified:
        headers["last-modified"] = format_datetime(stored.modified, usegmt=True)
    if knobs.send_etag:
        headers["etag"] = f'"{stored.etag}"'
    if knobs.ranges != "ignored":
        headers["accept-ranges"] = "bytes"
    return headers | {name.lower(): value for name, value in stored.headers.items()}


def _is_unchanged(headers: dict[str, str], stored: StoredObject) -> bool:
    """Tell whether the answer is 304; where it is 412, raise that. A tag counts for more than a time."""
    if "if-match" in headers:
        holds = _names(headers["if-match"], stored.etag)
    else:
        since = _time(headers.get("if-unmodified-since"))
        holds = since is None or stored.modified.timestamp() <= since
    if not holds:
        raise RefusedError(
            412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"
        )
    if "if-none-match" in headers:
        return _names(headers["if-none-match"], stored.etag)
    since = _time(headers.get("if-modified-since"))
    return since is not None and stored.modified.timestamp() <= since


def _wanted(request: Request, stored: StoredObject, knobs: Knobs) -> tuple[int, int] | None:
    header = request.headers.get("range")
    if header is None or knobs.ranges == "ignored" or request.method == "HEAD":
        return None
    only_if = request.headers.get("if-range")
    if only_if and not _names(only_if, stored.etag) and _time(only_if) != stored.modified.timestamp():
        return None
    return requested_range(header, stored.data.size)


def _names(header: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return "*" in tags or etag in tags


def _time(header: str | None) -> float | None:
    if header is None:
        return None
    try:
        return parsedate_to_datetime(header).timestamp()
    except (ValueError, OverflowError):
        return None  # a time that is none is ignored
