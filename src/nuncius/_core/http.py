"""HTTP by httpx2: the clients, and its errors in our words."""

from __future__ import annotations

import os
import ssl
import time
from typing import TYPE_CHECKING, Any, NoReturn

from nuncius._core.operations import MAX_BODY_BYTES, Response
from nuncius.errors import ConfigurationError, DeadlineError, ServerError, TlsError, UnreachableError

if TYPE_CHECKING:
    import httpx2

    from nuncius._core.operations import Request

CONNECT_TIMEOUT_S = 5.0
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


def client_options(verify: bool | str) -> dict[str, Any]:
    """Return what both kinds of client are made with; the proxy variables of the environment are honoured."""
    import httpx2

    return {
        "verify": tls_context(verify),
        "limits": httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
        "headers": {"User-Agent": _user_agent()},
        "follow_redirects": False,  # a token must not follow a redirect to another host
    }


def send(client: httpx2.Client, request: Request) -> Response:
    """Send a request and read the whole answer."""
    import httpx2

    end = time.monotonic() + request.timeout_s
    try:
        with client.stream(**_arguments(request)) as answer:
            body = bytearray()
            for chunk in answer.iter_bytes():
                body += chunk
                _check_body(request, body, end)
            return Response(answer.status_code, dict(answer.headers), bytes(body))
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        _raise(request, error)


async def send_async(client: httpx2.AsyncClient, request: Request) -> Response:
    """Send a request and read the whole answer."""
    import httpx2

    end = time.monotonic() + request.timeout_s
    try:
        async with client.stream(**_arguments(request)) as answer:
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                _check_body(request, body, end)
            return Response(answer.status_code, dict(answer.headers), bytes(body))
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        _raise(request, error)


def _arguments(request: Request) -> dict[str, Any]:
    import httpx2

    connect = min(CONNECT_TIMEOUT_S, request.timeout_s)
    return {
        "method": request.method,
        "url": request.url,
        "headers": dict(request.headers),
        "params": request.params,
        "content": request.body,
        "timeout": httpx2.Timeout(request.timeout_s, connect=connect),
    }


def _check_body(request: Request, body: bytearray, end: float) -> None:
    # The client's own time-out starts anew with each piece: a body that drips would never end.
    if time.monotonic() > end:
        raise _too_late(request)
    if len(body) > MAX_BODY_BYTES:
        raise ServerError(
            f"{request.url} sends an answer of more than {MAX_BODY_BYTES >> 30} GiB; ask for less",
            url=request.url,
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
            raise TlsError(
                f"{url}: the connection can't be secured: {reason}. If the server's certificates are its own, "
                "name them with verify='/path/to/certificates.pem'",
                url=url,
            ) from error
        detail = str(error) or f"no connection within {CONNECT_TIMEOUT_S:g} s"
        unreachable = UnreachableError(
            f"nobody answers at {url} ({detail}). Check the address, the network and the proxy variables", url=url
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
