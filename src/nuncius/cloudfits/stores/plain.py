"""Links read by httpx2: for servers whose answers the object stores' client can't read, and for whole files."""

from __future__ import annotations

import asyncio
import random
import re
import ssl
import weakref
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from nuncius._core.http import make_client
from nuncius._core.operations import Piece
from nuncius.cloudfits.stores import problems
from nuncius.cloudfits.stores.answers import identity, is_strong, unpack
from nuncius.cloudfits.stores.clients import CONNECT_TIMEOUT_S, certificates_of, user_line
from nuncius.cloudfits.stores.problems import Failure
from nuncius.errors import ServerError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import httpx2

    from nuncius.cloudfits.access import Access
    from nuncius.cloudfits.places import Place
    from nuncius.cloudfits.stores.logins import Login

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_NO_RANGE = re.compile(r"bytes \*/(\d{1,18})")
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_REDIRECTS = 5
_ALL_SAFE = "".join(map(chr, range(0x21, 0x7F)))  # an address is encoded already, but for letters and spaces
_FIRST_WAIT_S, _LONGEST_WAIT_S, _LONGEST_ASKED_S = 0.1, 15.0, 60.0
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})

# A client belongs to the loop that it was made in.
_clients: weakref.WeakKeyDictionary[Any, dict[str | None, httpx2.AsyncClient]] = weakref.WeakKeyDictionary()


class Answer(NamedTuple):
    """An answer; its body is cut after the bytes that were asked for and one more."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class PlainReader:
    """Reads one link.

    Parameters
    ----------
    place : Place
        Where it is.
    access : Access
        How it is reached.
    login : Login
        Who reads, for error messages.
    """

    __slots__ = ("_access", "_login", "_place", "_sizes")

    def __init__(self, place: Place, access: Access, login: Login) -> None:
        self._place = place
        self._access = access
        self._login = login
        self._sizes: dict[str | None, int] = {}  # by ETag, where the server does not say it each time

    async def read(self, start: int, end: int, etag: str | None) -> Piece:
        """Read the bytes from `start` to before `end`; see `Source`."""
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if etag is not None and is_strong(etag):
            headers["If-Match"] = etag
        answer = await self._ask("GET", headers, end - start)
        if answer.status == 416:
            told = _NO_RANGE.fullmatch(answer.headers.get("content-range", ""))
            size = int(told[1]) if told else await self._learn_size(None)
            piece = self._piece(b"", size, answer)
            # It compared the ETag before the range (RFC 9110, 13.2.2), so it is that one.
            return piece._replace(etag=etag) if piece.etag is None and "If-Match" in headers else piece
        if answer.status == 200:
            if answer.headers.get("content-length") == "0":
                return self._piece(b"", 0, answer)
            raise problems.no_ranges(self._place)
        self._check(answer)
        return await self._part(answer, start, end)

    async def read_all(self, max_bytes: int) -> Piece:
        """Read the whole object; UnsupportedError if it is larger than that."""
        answer = await self._ask("GET", {}, max_bytes)
        self._check(answer)
        if len(answer.body) > max_bytes:
            raise problems.too_large(self._place, None, max_bytes)
        coding = _coding(answer)
        data = unpack(self._place, answer.body, coding, max_bytes) if coding else answer.body
        return self._piece(data, len(data), answer)

    async def region_of(self, endpoint: str | None, bucket: str) -> str | None:
        """Return the region that S3 names for a bucket, which it tells anybody; None if it doesn't."""
        if endpoint is None:
            return None
        answer = await self._ask("HEAD", {}, 0, url=f"{endpoint}/{bucket}")
        region = answer.headers.get("x-amz-bucket-region", "")
        return region if _REGION.fullmatch(region) else None

    async def _part(self, answer: Answer, start: int, end: int) -> Piece:
        found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if coding := _coding(answer):
            raise problems.packed(self._place, coding)
        told = found and (int(found[1]), int(found[2]) + 1)
        if answer.status != 206 or not told or told[0] != start or not start < told[1] <= end:
            raise self._misunderstood(f"asked for the bytes {start}-{end - 1}, it sent others")
        if len(answer.body) != told[1] - start:
            raise self._misunderstood(f"of the bytes {start}-{told[1] - 1} it sent {len(answer.body)}")
        assert found is not None
        size = int(found[3]) if found[3] != "*" else await self._learn_size(answer.headers.get("etag"))
        if told[1] != min(end, size):
            raise self._misunderstood(f"the object has {size} bytes, but its answer ends at {told[1]}")
        return self._piece(answer.body, size, answer)

    async def _learn_size(self, etag: str | None) -> int:
        """Return the size of an object whose server does not say it with a piece."""
        if etag not in self._sizes or etag is None:
            self._sizes[etag] = await self._ask_size()
        return self._sizes[etag]

    async def _ask_size(self) -> int:
        head = await self._ask("HEAD", {}, 0)
        length = head.headers.get("content-length", "")
        if head.status == 200 and re.fullmatch(r"\d{1,18}", length) and not _coding(head):
            return int(length)
        last = await self._ask("GET", {"Range": "bytes=-1"}, 1)
        found = _RANGE.fullmatch(last.headers.get("content-range", ""))
        if last.status == 206 and found and found[1] == found[2]:
            return int(found[1]) + 1
        raise UnsupportedError(
            f"{self._place.service} does not say how long {self._place.url} is, so that it can't be read in pieces; "
            "whole_file=True reads the whole file",
            service=self._place.service,
            url=self._place.url,
        )

    def _check(self, answer: Answer) -> None:
        if not 200 <= answer.status < 300:
            raise problems.status_error(answer.status, self._place, self._access, self._login)

    def _piece(self, data: bytes, size: int, answer: Answer) -> Piece:
        modified = _date(answer.headers.get("last-modified"))
        return Piece(data, size, identity(answer.headers.get("etag"), modified, size), modified)

    def _misunderstood(self, what: str) -> ServerError:
        place = self._place
        return ServerError(
            f"{place.service} answers wrongly for {place.url}: {what}", service=place.service, url=place.url
        )

    async def _ask(
        self, method: str, headers: Mapping[str, str], limit: int, url: str | None = None
    ) -> Answer:
        """Send a request, again after failures of the server and the network."""
        for attempt in range(1, self._access.retries + 2):
            outcome = await self._once(method, headers, limit, url or self._place.address)
            is_last = attempt > self._access.retries
            wait = min(_FIRST_WAIT_S * 2 ** (attempt - 1), _LONGEST_WAIT_S) * random.uniform(0.5, 1)  # noqa: S311
            if isinstance(outcome, Answer):
                if outcome.status not in _TRANSIENT:
                    return outcome
                wait = max(wait, _asked_wait(outcome))
                if is_last or wait > _LONGEST_ASKED_S:
                    raise problems.status_error(
                        outcome.status, self._place, self._access, self._login, attempts=attempt
                    )
            elif is_last or outcome.reason == "tls":
                break
            await asyncio.sleep(wait)
        assert isinstance(outcome, Failure)
        raise problems.to_error(outcome._replace(attempts=attempt), self._place, self._access, self._login)

    async def _once(self, method: str, headers: Mapping[str, str], limit: int, url: str) -> Answer | Failure:
        import httpx2

        lines = {
            "Accept-Encoding": "identity",
            **user_line(self._place),
            **(self._access.headers or {}),
            **headers,
        }
        try:
            for _ in range(_REDIRECTS + 1):
                answer = await self._send(method, url, lines, limit)
                if answer.status not in {301, 302, 303, 307, 308} or "location" not in answer.headers:
                    return answer
                url, lines = self._follow(url, answer.headers["location"], lines)
        except TimeoutError:
            return Failure("timeout")
        except httpx2.InvalidURL:
            return Failure("other")
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as error:
            return Failure("tls" if _is_tls(error) else "unreachable")
        except httpx2.HTTPError:
            return Failure("cut")
        raise self._misunderstood(f"it sends on from one address to the next, more than {_REDIRECTS} times")

    async def _send(self, method: str, url: str, lines: Mapping[str, str], limit: int) -> Answer:
        import httpx2

        seconds = self._access.timeout_s
        timeout = httpx2.Timeout(seconds, connect=min(CONNECT_TIMEOUT_S, seconds))
        client = _client(certificates_of(self._access))
        body = bytearray()
        # The library logs the URL; what follows the path, and who asks, goes past it, as it was given.
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        request = client.build_request(
            method,
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
            headers=dict(lines),
            timeout=timeout,
            extensions={"target": quote(target, safe=_ALL_SAFE).encode("ascii")},
        )
        async with asyncio.timeout(seconds) as patience:
            answer = await client.send(request, stream=True)
            try:
                if method == "GET" and (answer.status_code == 206 or "Range" not in lines):
                    async for piece in answer.aiter_raw():
                        body += piece
                        if "Range" not in lines:  # a long answer may take long, as long as it goes on
                            patience.reschedule(asyncio.get_running_loop().time() + seconds)
                        if len(body) > limit:
                            break
            finally:
                await answer.aclose()
        return Answer(answer.status_code, dict(answer.headers), bytes(body))

    def _follow(self, url: str, target: str, lines: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Return the next address, and the header lines for it: none of the user's for another host."""
        new = urljoin(url, target)
        here, there = urlsplit(url), urlsplit(new)
        if there.scheme not in {"http", "https"} or (here.scheme, there.scheme) == ("https", "http"):
            raise self._misunderstood("it sends on to an address that is not secured")
        if (here.scheme, here.netloc) != (there.scheme, there.netloc):
            own = {"authorization", *(name.lower() for name in self._access.headers or {})}
            lines = {name: value for name, value in lines.items() if name.lower() not in own}
        return new, lines


def _client(certificates: str | None) -> httpx2.AsyncClient:
    import httpx2

    loop = asyncio.get_running_loop()
    for ended in [other for other in _clients if other.is_closed()]:
        del _clients[ended]
    mine = _clients.setdefault(loop, {})
    if certificates not in mine:
        mine[certificates] = make_client(httpx2.AsyncClient, certificates or True)
    return mine[certificates]


def _coding(answer: Answer) -> str:
    coding = answer.headers.get("content-encoding", "").strip().lower()
    return "" if coding == "identity" else coding


def _asked_wait(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "").strip()
    return float(text) if re.fullmatch(r"\d{1,9}", text) else 0.0


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
