"""The application: all routes, what the server says of itself, and the token generator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from nuncius._core.lazy import require
from nuncius.sandbox.dserver import data_sets, extensions, people
from nuncius.sandbox.dserver.answers import RefusedError, answer_no_route, answer_refusal, json_answer
from nuncius.sandbox.dserver.asking import DEFAULT_USER, DIRECT, GRAPH, NOTIFICATION, Asked
from nuncius.sandbox.dserver.graph import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from nuncius.sandbox.dserver.asking import Handler, Routes, Switches
    from nuncius.sandbox.dserver.tokens import Tokens
    from nuncius.sandbox.dserver.world import World

VERSION = "0.22.0"
_MONGO = ("uri", "db", "collection")


def create_app(
    world: World, tokens: Tokens, switches: Switches, log_in: Callable[[str, str], str | None]
) -> Any:
    """Return the ASGI application.

    Parameters
    ----------
    world : World
        What it knows.
    tokens : Tokens
        Who its users are.
    switches : Switches
        What it may do.
    log_in : callable
        Called with a name and a password, returns a token, or None.
    """
    require("starlette", extra="sandbox")
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    def endpoint(handlers: dict[str, Handler]) -> Any:
        async def answer(request: Request) -> Response:
            if "" in (request.path_params.get(part) for part in ("uri", "uuid", "name")):
                raise RefusedError(404)
            asked = Asked(
                request.path_params,
                parse_qs(request.url.query, keep_blank_values=True),
                dict(request.headers),
                await request.body(),
                world,
                tokens,
                switches,
            )
            with world.lock:
                return handlers["GET" if request.method == "HEAD" else request.method](asked)

        return answer

    documented = [*_about(), *data_sets.routes(), *people.routes(), *extensions.routes()]
    by_path: dict[str, dict[str, Handler]] = {}
    for method, path, handler in [*documented, *_beside(documented, log_in)]:
        by_path.setdefault(path, {})[method] = handler
    app = Starlette(
        routes=[
            Route(path, endpoint(handlers), methods=list(handlers)) for path, handlers in by_path.items()
        ],
        exception_handlers={RefusedError: answer_refusal, HTTPException: answer_no_route},
    )
    app.router.redirect_slashes = False
    return app


def _about() -> Routes:
    return [
        ("GET", "/config/versions", lambda asked: json_answer({"versions": _versions(asked)})),
        ("GET", "/config/info", _info),
    ]


def _beside(documented: Routes, log_in: Callable[[str, str], str | None]) -> Routes:
    """Return the routes that are not of the interface: its description, and those of the token generator."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, _ in documented:
        paths.setdefault(path.replace(":path", ""), {})[method.lower()] = {"responses": {}}
    info = {"title": "dserver API", "version": "v1"}
    description = {"openapi": "3.0.2", "info": info, "paths": paths}
    return [
        ("GET", "/doc/openapi.json", lambda _asked: json_answer(description)),
        ("POST", "/token", lambda asked: _token(asked, log_in)),
        ("GET", "/public_key", _public_key),
    ]


def _versions(asked: Asked) -> dict[str, str]:
    return {"dservercore": VERSION, **asked.switches.plugins}


def _info(asked: Asked) -> Response:
    """Answer with the settings; what is secret is there, but unreadable."""
    asked.user()
    switches = asked.switches
    config: dict[str, Any] = {
        "api_title": "dserver API",
        "api_version": "v1",
        "cors_expose_headers": ["X-Pagination"],
        "default_user": DEFAULT_USER,
        "disable_jwt_authorisation": not switches.authenticate,
        "jwt_algorithm": "RS256",
        "jwt_header_name": "Authorization",
        "jwt_header_type": "Bearer",
        "jwt_public_key": asked.tokens.public_key,
        "jwt_token_location": "headers",
        "openapi_url_prefix": "/doc",
        "openapi_version": "3.0.2",
    }
    secret = ["jwt_private_key", "secret_key", "sqlalchemy_database_uri"]
    secret += [f"{what}_mongo_{part}" for what in ("search", "retrieve") for part in _MONGO]
    if DIRECT in switches.plugins:
        secret += [f"mongo_{part}" for part in _MONGO]
        config["allow_direct_query"] = switches.allow_direct_query
        config["allow_direct_aggregation"] = switches.allow_aggregation
    if GRAPH in switches.plugins:
        config["enable_dependency_view"] = True
        config["dynamic_dependency_keys"] = switches.dynamic_dependency_keys
        config["dependency_keys"] = list(KEYS)
    if NOTIFICATION in switches.plugins:
        config["allow_access_from"] = "0.0.0.0/0"
        config["bucket_to_base_uri"] = switches.bucket_to_base_uri
    return json_answer({"config": config | dict.fromkeys(secret, "***")})


def _token(asked: Asked, log_in: Callable[[str, str], str | None]) -> Response:
    """Answer as the token generator does: a refused login has the status 200 too."""
    from starlette.responses import Response as Plain

    try:
        given = json.loads(asked.body)
        token = log_in(str(given["username"]), str(given["password"]))
    except (ValueError, RecursionError, LookupError, TypeError):
        return Plain(status_code=400, media_type="text/html")
    if token is None:
        return json_answer({"status": "fail"})
    return json_answer({"status": "success", "token": token})


def _public_key(asked: Asked) -> Response:
    from starlette.responses import Response as Plain

    return Plain(asked.tokens.public_key, media_type="text/html")
