"""HTTP by httpx2: the clients, and its errors in our words."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
import zlib
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from nuncius._core.operations import MAX_BODY_BYTES, Response
from nuncius.errors import ConfigurationError, DeadlineError, ServerError, TlsError, UnreachableError

if TYPE_CHECKING:
    import httpx2

    from nuncius._core.operations import Request

C = TypeVar("C")

CONNECT_TIMEOUT_S = 5.0
_GZIP = 16 + zlib.MAX_WBITS  # of zlib: a gzip header and trailer
_CONNECTIONS = 32


def tls_context(verify: bool | str) -> ssl.SSLContext | bool:
    """Return how servers are verified: by the system's certificates, by those of a file or folder, or not at all.

    `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE` name others, as they do for other tools.

    Raises
    ------
    ConfigurationError
        If the file or folder holds no certificates.
    """
    if isinstance(verify, bool) and not verify:
        return False
    given = verify if isinstance(verify, (str, os.PathLike)) else None
    place = given or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if not place:
        return ssl.create_default_context()
    try:
        if os.path.isdir(place):  # noqa: PTH112 - a text, as OpenSSL takes it
            return ssl.create_default_context(capath=place)
        return ssl.create_default_context(cafile=place)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"verify={place!r}: no certificates can be read there ({error}); name a file with certificates in PEM form"
        ) from error


def make_client(kind: type[C], verify: bool | str) -> C:
    """Make a client of either kind; the proxy variables of the environment are honoured.

    Raises
    ------
    ConfigurationError
        If there are no certificates, or a proxy variable can't be used.
    """
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    import httpx2

    options = {
        "verify": tls_context(verify),
        "limits": httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
        "headers": {"User-Agent": _user_agent(), "Accept-Encoding": "gzip"},
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # nobody's state but ours
        "follow_redirects": False,  # a token must not follow a redirect to another host
    }
    try:
        return kind(**options)
    except (ValueError, ImportError, httpx2.InvalidURL) as error:
        # The text could quote the proxy's password.
        cure = "; for SOCKS run: pip install httpx2[socks]" if isinstance(error, ImportError) else ""
        raise ConfigurationError(
            "a proxy of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) can't be used: write http://host:port"
            + cure
        ) from None


def send(client: httpx2.Client, request: Request) -> Response:
    """Send a request and read the whole answer."""
    import httpx2

    end = time.monotonic() + request.timeout_s
    try:
        with client.stream(**_arguments(request)) as answer:
            body = _Body(request, answer.headers.get("content-encoding", ""), end)
            for piece in answer.iter_raw():
                body.add(piece)
            return Response(answer.status_code, dict(answer.headers.items()), body.whole())
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        _raise(request, error)


async def send_async(client: httpx2.AsyncClient, request: Request) -> Response:
    """Send a request and read the whole answer."""
    import httpx2

    end = time.monotonic() + request.timeout_s
    try:
        async with asyncio.timeout(request.timeout_s), client.stream(**_arguments(request)) as answer:
            body = _Body(request, answer.headers.get("content-encoding", ""), end)
            async for piece in answer.aiter_raw():
                body.add(piece)
            return Response(answer.status_code, dict(answer.headers.items()), body.whole())
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        _raise(request, error)
    except TimeoutError as error:
        raise error if isinstance(error, DeadlineError) else _too_late(request) from error


def _arguments(request: Request) -> dict[str, Any]:
    import httpx2

    for name, value in request.headers.items():
        # The client would quote it, and it may be a token.
        if not (value.isascii() and value.isprintable() and value == value.strip()):
            raise ConfigurationError(
                f"the header {name} for {request.url} can't be sent: it may hold printable ASCII alone, without spaces "
                "around it. Look at the token",
                url=request.url,
            )
    connect = min(CONNECT_TIMEOUT_S, request.timeout_s)
    return {
        "method": request.method,
        "url": request.url,
        "headers": dict(request.headers),
        "params": request.params,
        "content": request.body,
        "timeout": httpx2.Timeout(request.timeout_s, connect=connect),
    }


class _Body:
    """The body of an answer, unpacked as it arrives. Each piece looks at the time and the size.

    The client's own time-out starts anew with each piece, so that a body that drips would never end; and it takes a
    packed body without an end for a whole one.
    """

    def __init__(self, request: Request, coding: str, end: float) -> None:
        self._request, self._end = request, end
        self._bytes = bytearray()
        if coding.strip().lower() not in {"", "identity", "gzip", "x-gzip"}:
            raise ServerError(
                f"{request.url} packs its answer as {coding!r}, which nobody asked for", url=request.url
            )
        self._is_packed = coding.strip().lower() in {"gzip", "x-gzip"}
        self._unpacker = zlib.decompressobj(_GZIP)
        self._begun = False

    def add(self, piece: bytes) -> None:
        if time.monotonic() > self._end:
            raise _too_late(self._request)
        if self._is_packed:
            self._unpack(piece)
        else:
            self._bytes += piece
        if len(self._bytes) > MAX_BODY_BYTES:
            raise ServerError(
                f"{self._request.url} sends an answer of more than {MAX_BODY_BYTES} bytes; ask for less",
                url=self._request.url,
            )

    def whole(self) -> bytes:
        if self._begun and not self._unpacker.eof:
            raise self._broken("the packed answer has no end")
        return bytes(self._bytes)

    def _unpack(self, piece: bytes) -> None:
        while piece and len(self._bytes) <= MAX_BODY_BYTES:
            if self._unpacker.eof:  # several packed parts, one after the other
                self._unpacker = zlib.decompressobj(_GZIP)
            self._begun = True
            try:
                self._bytes += self._unpacker.decompress(piece, MAX_BODY_BYTES + 1 - len(self._bytes))
            except zlib.error as error:
                raise self._broken(f"the packed answer is damaged: {error}") from error
            piece = self._unpacker.unused_data

    def _broken(self, reason: str) -> UnreachableError:
        url = self._request.url
        return UnreachableError(
            f"{url}: {reason}. It is not known whether the server did what was asked", url=url
        )


def _raise(request: Request, error: Exception) -> NoReturn:
    """Raise an error of httpx2 as ours. Its texts hold no header and no body."""
    import httpx2

    url = request.url
    if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.InvalidURL)):
        raise ConfigurationError(f"{url!r} is no address that can be asked: {error}", url=url) from error
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)):
        reason = _tls_reason(error)
        if reason is not None:
            # What isn't TLS at all, OpenSSL takes for another version of it.
            cure = (
                "The server doesn't speak TLS there: is its address http://, or has it another port?"
                if "WRONG_VERSION_NUMBER" in reason
                else "If the server's certificates are its own, name them with verify='/path/to/certificates.pem'"
            )
            raise TlsError(f"{url}: the connection can't be secured: {reason}. {cure}", url=url) from error
        detail = str(error) or f"no connection within {CONNECT_TIMEOUT_S:g} s"
        unreachable = UnreachableError(
            f"nobody answers at {url} ({detail}). Check the address, the network and the proxy variables",
            url=url,
        )
        unreachable.sent = False
        raise unreachable from error
    if isinstance(error, httpx2.TimeoutException):
        raise _too_late(request) from error
    raise UnreachableError(
        f"{url}: the connection broke before the answer was complete ({type(error).__name__}: {error}). It is not "
        "known whether the server did what was asked",
        url=url,
    ) from error


def _too_late(request: Request) -> DeadlineError:
    return DeadlineError(
        f"{request.url} did not answer within {request.timeout_s:.3g} s. Ask for less, or give more time with "
        "timeout_s=; it was not asked again, because the server may still be working on it",
        url=request.url,
    )


def _tls_reason(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return getattr(error, "verify_message", None) or error.reason or str(error)
        error = error.__cause__ or error.__context__
    return None


def _user_agent() -> str:
    from importlib.metadata import version

    return f"nuncius/{version('nuncius')}"
