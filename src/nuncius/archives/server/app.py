"""The routes of the server, as a Starlette application."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from nuncius.archives.language import bounded
from nuncius.archives.server.accounts import is_name
from nuncius.archives.server.answers import (
    HEADERS,
    LargeAnswer,
    failed,
    json_answer,
    note,
    refusal_of,
    refused,
    success,
    unknown_route,
)
from nuncius.archives.server.cutouts import make_cutout
from nuncius.archives.server.guard import LoginGuard, Slots
from nuncius.archives.server.limits import Limits, Refusal, TimeLeft, wrong
from nuncius.archives.server.queries import Queries
from nuncius.archives.server.reading import read_json
from nuncius.archives.server.skymaps import SkyMaps
from nuncius.errors import LoginError, NotFoundError, NunciusError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from starlette.requests import Request

    from nuncius.archives.server.accounts import Account, Accounts

    Handler: TypeAlias = Callable[[Request, Account], Awaitable[Response]]

log = logging.getLogger("nuncius.server")

PENQUINS = frozenset(
    {
        "2.0.0", "2.0.1", "2.0.2", "2.1.0", "2.1.1", "2.2.0", "2.2.1", "2.3.1", "2.3.2", "2.3.3", "2.4.0", "2.4.1",
        "2.4.2",
    }
)  # fmt: skip
_DRAINED = 16  # times the largest body: what is read of a larger one, so that its sender reads our answer
_LOGINS = 32  # that may wait: each takes memory and time on purpose
_GZIP = re.compile(
    r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?:0\.\d*[1-9]\d*|1(?:\.0*)?))?\s*(?=,|$)", re.IGNORECASE
)


def create_app(
    archive: Any,
    accounts: Accounts,
    *,
    catalogs: Iterable[str] | None = None,
    limits: Limits | None = None,
    token_days: float = 30.0,
) -> Starlette:
    """Make the application.

    Parameters
    ----------
    archive : EmbeddedArchive
        What is asked; opened with ``read_only=True``.
    accounts : Accounts
        Who may ask.
    catalogs : iterable of str, optional
        Which catalogs are opened; all by default.
    limits : Limits, optional
        What one request may cost.
    token_days : float
        How long a token is good.

    Returns
    -------
    starlette.applications.Starlette
    """
    server = _Server(archive, accounts, catalogs, limits or Limits(), token_days * 86400)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        server.close()

    app = Starlette(
        routes=server.routes(),
        lifespan=lifespan,
        exception_handlers={HTTPException: unknown_route, Exception: failed},
    )
    app.router.redirect_slashes = False
    return app


class _Server:
    """What the routes share."""

    def __init__(
        self,
        archive: Any,
        accounts: Accounts,
        catalogs: Iterable[str] | None,
        limits: Limits,
        token_lifetime_s: float,
    ) -> None:
        self._archive = archive
        self._accounts = accounts
        self._limits = limits
        self._token_lifetime_s = token_lifetime_s
        self._skymaps = SkyMaps(accounts)
        self._queries = Queries(archive, catalogs=catalogs, limits=limits, skymaps=self._skymaps)
        self._guard = LoginGuard()
        self._slots = Slots(limits)
        self._logins = 0
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="nuncius-query")
        self._login_threads = ThreadPoolExecutor(2, thread_name_prefix="nuncius-login")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._login_threads.shutdown(wait=False, cancel_futures=True)

    def routes(self) -> list[Route]:
        return [
            _route("/", GET=self._with_user(self._greet)),
            _route("/api/auth", POST=partial(self._answered, self._log_in)),
            _route("/api/queries", POST=self._with_user(self._query)),
            _route("/api/users", POST=self._with_user(self._add_user, admin=True)),
            _route(
                "/api/users/{username}",
                PUT=self._with_user(self._edit_user, admin=True),
                DELETE=self._with_user(self._remove_user, admin=True),
            ),
            _route("/api/cutouts/{survey}/{candid}/{cutout}/{format}", GET=self._with_user(self._cutout)),
            _route(
                "/api/skymap",
                PUT=self._with_user(self._put_skymap),
                GET=self._with_user(self._get_skymap),
                DELETE=self._with_user(self._delete_skymap),
            ),
        ]

    # Around every request ---------------------------------------------------------------------------------------------

    def _with_user(
        self, handler: Handler, *, admin: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            account = self._account(request)
            request.state.user = account.name
            if admin and not account.admin:
                raise Refusal(403, detail="this is for admins alone")
            return await handler(request, account)

        return partial(self._answered, handle)

    async def _answered(self, handle: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        begin = time.monotonic()
        try:
            response = await handle(request)
        except Refusal as refusal:
            response = refused(refusal)
        except ClientDisconnect:
            response = refused(Refusal(400, "the client went away"))
        except NunciusError as error:
            response = refused(refusal_of(error))
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        note(request, response.status_code, time.monotonic() - begin)
        return response

    def _account(self, request: Request) -> Account:
        token = request.headers.get("authorization", "").strip()
        kind, _, rest = token.partition(" ")
        token = rest.strip() if kind.lower() == "bearer" else token
        if not token:
            raise Refusal(401)
        try:
            return self._accounts.user_of(token)
        except LoginError as error:
            raise Refusal(400, error.message) from None

    async def _body(self, request: Request) -> bytes:
        """Read the body, and no more than may be."""
        most, size, parts = self._limits.body_bytes, 0, []
        declared = request.headers.get("content-length", "")
        announced = int(declared) if declared.isdigit() else 0
        try:
            async with asyncio.timeout(self._limits.body_s):
                if announced <= most * _DRAINED:
                    async for part in request.stream():
                        size += len(part)
                        if size <= most:
                            parts.append(part)
                        elif size > most * _DRAINED:
                            break
        except TimeoutError:
            raise Refusal(408, detail=f"the body did not come within {self._limits.body_s:g} s") from None
        size = max(size, announced)
        if size > most:
            raise Refusal(413, f"Maximum request body size {most} exceeded, actual body size {size}")
        return b"".join(parts)

    async def _json(self, request: Request) -> dict[str, Any]:
        value = read_json(await self._body(request), self._limits)
        if not isinstance(value, dict):
            raise wrong("AttributeError", f"{type(value).__name__!r} object has no attribute 'get'")
        return value

    async def _in_thread(
        self, account: Account, function: Callable[..., Any], *given: Any, left: TimeLeft | None = None
    ) -> Any:
        """Run what asks the archive in a thread, within the user's share and the time of a request."""
        left = left or TimeLeft(self._limits.query_s)

        def work() -> Any:
            with bounded(left.left_s(), self._limits.memory_bytes):  # it may have waited for a thread
                return function(*given)

        with self._slots.one(account.name):
            async with self._slots.turn(account.name):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    # The routes -------------------------------------------------------------------------------------------------------

    async def _greet(self, request: Request, account: Account) -> Response:
        return success("greetings from Kowalski!")

    async def _log_in(self, request: Request) -> Response:
        name, password = self._credentials(request, await self._body(request))
        address = request.client.host if request.client else ""
        if not is_name(name):
            raise Refusal(401)
        self._guard.check(name, address)
        self._guard.tried(name, address)
        if not await self._hashing(self._accounts.accepts, name, password):
            log.warning("a login of %.64r from %s failed", name, address)
            raise Refusal(401)
        self._guard.succeeded(name, address)
        request.state.user = name
        try:
            token = self._accounts.token(name, lifetime_s=self._token_lifetime_s)
        except NotFoundError:  # removed a moment ago
            raise Refusal(401) from None
        return json_answer({"status": "success", "token": token})

    def _credentials(self, request: Request, body: bytes) -> tuple[str, str]:
        if not body:
            raise Refusal(500, detail="the body is empty; send username and password")
        if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            try:
                given: Any = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20))
            except ValueError:
                raise Refusal(400, "the form can't be read") from None
        else:
            given = read_json(body, self._limits)
        if not isinstance(given, dict):
            raise Refusal(400, "missing username")
        for name in ("username", "password"):
            if name not in given:
                raise Refusal(400, f"missing {name}")
        version = given.get("penquins.__version__")
        if version is not None and not (isinstance(version, str) and version in PENQUINS):
            raise Refusal(400, f"unsupported version of penquins: {str(version)[:40]}")
        username, password = given["username"], given["password"]
        if not (isinstance(username, str) and username and isinstance(password, str) and password):
            raise Refusal(400, "username and password must be set")
        return username, password

    async def _hashing(self, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
        """Run what hashes a password in a thread."""
        if self._logins >= _LOGINS:
            raise Refusal(503, detail="too many logins are waiting", retry_after_s=2)
        self._logins += 1
        try:
            call = partial(function, *given, **options)
            return await asyncio.get_running_loop().run_in_executor(self._login_threads, call)
        finally:
            self._logins -= 1

    async def _query(self, request: Request, account: Account) -> Response:
        left = TimeLeft(self._limits.query_s)
        body = await self._body(request)
        packed = _GZIP.search(request.headers.get("accept-encoding", "")) is not None
        data, coding = await self._in_thread(account, self._run_query, request, body, left, packed, left=left)
        headers = {"Vary": "Accept-Encoding"} | ({"Content-Encoding": coding} if coding else {})
        return LargeAnswer(data, account.name, self._slots, self._limits.body_s, headers)

    def _run_query(self, request: Request, body: bytes, left: TimeLeft, packed: bool) -> tuple[bytes, str]:
        query = request.state.query = self._queries.read(body, left)
        answer = self._queries.answer(query)
        if packed and len(answer) >= self._limits.gzip_bytes:
            import cramjam

            return bytes(cramjam.gzip.compress(answer, level=1)), "gzip"
        return answer, ""

    async def _add_user(self, request: Request, account: Account) -> Response:
        given = await self._json(request)
        name, password = given.get("username"), given.get("password")
        if not name or not password:
            raise Refusal(400, "username and password must be set")
        if any(known.name == name for known in self._accounts.everyone()):
            raise Refusal(500, detail=f"there is a user {str(name)[:64]!r} already")
        await self._hashing(self._accounts.add, name, password, email=_text(given.get("email")))
        return success(f"added user {name}")

    async def _edit_user(self, request: Request, account: Account) -> Response:
        name, given = request.path_params["username"], await self._json(request)
        self._known_user(name)
        password, email = given.get("password"), _text(given.get("email"))
        await self._hashing(self._accounts.edit, name, password=password, email=email)
        return success(f"edited user {name}")

    async def _remove_user(self, request: Request, account: Account) -> Response:
        name = request.path_params["username"]
        if self._known_user(name).admin:
            raise Refusal(400, "cannot remove the superuser!")
        self._accounts.remove(name)
        return success(f"removed user {name}")

    def _known_user(self, name: str) -> Account:
        try:
            return self._accounts.get(name)
        except NotFoundError:
            raise Refusal(400, f"user {name[:64]} not found") from None

    async def _cutout(self, request: Request, account: Account) -> Response:
        path, options = request.path_params, request.query_params
        make = partial(
            make_cutout, self._archive, self._queries.opened(), path, options, timeout_s=self._limits.query_s
        )
        data, kind = await self._in_thread(account, make)
        headers = {}
        if kind == "image/fits":
            name = f"{path['candid']}.{path['cutout']}.fits"
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return Response(data, media_type=kind, headers=headers)

    async def _put_skymap(self, request: Request, account: Account) -> Response:
        body = await self._body(request)

        def put() -> dict[str, Any]:
            return self._skymaps.put(read_json(body, self._limits), account.name)

        return success("added skymap", await self._in_thread(account, put))

    async def _get_skymap(self, request: Request, account: Account) -> Response:
        asked = dict(request.query_params)
        try:
            return success("found skymap", await self._in_thread(account, self._skymaps.get, asked))
        except Refusal as refusal:  # Kowalski says this with the status of a success
            return json_answer({"status": "error", "message": refusal.message or refusal.detail})

    async def _delete_skymap(self, request: Request, account: Account) -> Response:
        asked = await self._json(request)
        name = await self._in_thread(account, self._skymaps.delete, asked, account)
        return success(f"deleted skymap {name}")


def _route(path: str, **handlers: Callable[[Request], Awaitable[Response]]) -> Route:
    """Make a route without the HEAD that Starlette adds to each GET."""

    async def endpoint(request: Request) -> Response:
        return await handlers[request.method](request)

    route = Route(path, endpoint, methods=[*handlers])
    route.methods = set(handlers)
    return route


def _text(value: Any) -> str | None:
    return None if value is None else str(value)[:200]
