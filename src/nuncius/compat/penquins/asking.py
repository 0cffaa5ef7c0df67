"""One instance is asked one thing, as operations: a query, or any address of its interface."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Deadline
from nuncius.archives.extended_json import from_json
from nuncius.archives.kowalski.wire import plain_expression, plain_filter, to_body
from nuncius.compat.penquins.answers import Answer, merged
from nuncius.compat.penquins.splitting import count_of, cut
from nuncius.errors import ConfigurationError, FilterError, ServerError

if TYPE_CHECKING:
    from nuncius._core.operations import Operation, Response
    from nuncius.archives.kowalski.service import KowalskiService

METHODS = ("get", "post", "put", "patch", "delete", "head")
_LARGEST_BODY = 1 << 20  # bytes: what Kowalski takes
_MOST_POSITIONS = 25_000  # about as many named ones are in such a body
_LARGEST_TIME_MS = 300_000
_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def catalogs(server: KowalskiService) -> Operation[list[str]]:
    """Ask for the names of all catalogs, in the server's order."""
    names = yield from server.ask("info", {"command": "catalog_names"}, Deadline(server.timeout_s))
    if not isinstance(names, list):
        raise ServerError(
            f"{server.base} answers {type(names).__name__} where the names of its catalogs were asked for; is it a "
            "Kowalski server?",
            service="kowalski",
            url=server.base,
        )
    return [str(name) for name in names]


def greet(server: KowalskiService) -> Operation[bool]:
    """Ask whether the server is there and knows us."""
    response = yield from server.respond("GET", "/", Deadline(server.timeout_s), reads=True)
    return bool(response.status == HTTPStatus.OK)


def ask(server: KowalskiService, query: Mapping[str, Any]) -> Operation[Answer]:
    """Send a query; one with more positions than the server takes is sent in parts, one after the other.

    Raises
    ------
    NunciusError
        If there is no answer, or none of Kowalski. What the server refuses in its own words is an answer.
    """
    answers: list[Answer] = []
    waiting = deque([_timed(query, server.timeout_s)])
    while waiting:
        part, body = _worded(waiting.popleft())
        excess = max(len(body) // _LARGEST_BODY, (count_of(part) - 1) // _MOST_POSITIONS)
        if excess and (pieces := cut(part, excess + 1)):
            waiting.extendleft(reversed(pieces))
            continue
        response = yield from server.respond(
            "POST",
            "api/queries",
            Deadline(server.timeout_s),
            body=body,
            reads=part.get("query_type") != "drop",
        )
        if response.status == _TOO_LARGE and (pieces := cut(part, 2)):
            waiting.extendleft(reversed(pieces))
            continue
        answers.append(_answer(server, response))
        if answers[-1].error is not None:
            break  # the other parts would fail for the same reason
    return merged(answers)


def call(
    server: KowalskiService, method: str, endpoint: str, data: Mapping[str, Any] | None
) -> Operation[Answer]:
    """Call any address: `data` is the query string of GET and HEAD, and the JSON body of the others.

    Raises
    ------
    NunciusError
        If there is no answer, or a failure of the server.
    """
    if not isinstance(method, str) or method.lower() not in METHODS:
        raise ConfigurationError(f"Unsupported method: {method}; use one of {', '.join(METHODS)}")
    if not isinstance(endpoint, str):
        raise ConfigurationError(f"endpoint={endpoint!r}: an address such as '/api/users'")
    reads = method.lower() in {"get", "head"}
    if reads and not isinstance(data or {}, Mapping):
        raise ConfigurationError(f"data is a mapping for {method}, not a {type(data).__name__}")
    params = {name: value for name, value in (data or {}).items() if value is not None} if reads else None
    response: Response = yield from server.respond(
        method.upper(),
        endpoint,
        Deadline(server.timeout_s),
        params=params or None,
        body=None if reads or data is None else _json(data),
        reads=reads,
    )
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    parsed = _parsed(response)
    if isinstance(parsed, dict) or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _answer(server, response, parsed)
    if response.status >= HTTPStatus.BAD_REQUEST:
        text = server.hidden(response.body.decode("utf-8", "replace")) or HTTPStatus(response.status).phrase
        return Answer({"status": "error", "message": text}, error=server.failure(response, None))
    if parsed is not None:
        return Answer({"status": "success", "message": kind, "data": parsed})
    if not kind or kind.startswith("text/") or kind == "application/json":
        return Answer({"status": "success", "message": response.body.decode("utf-8", "replace")})
    return Answer({"status": "success", "message": kind, "data": response.body})


def _answer(server: KowalskiService, response: Response, parsed: Any = None) -> Answer:
    """Read what Kowalski says; what it refuses has an error with it."""
    parsed = parsed or _parsed(response)
    # Of these classes of HTTP only "not now" is no verdict on what was asked.
    refused = response.status // 100 == 4 and response.status != HTTPStatus.TOO_MANY_REQUESTS
    if not isinstance(parsed, dict) or not (refused or response.status == HTTPStatus.OK):
        raise server.failure(response, parsed)
    if refused or parsed.get("status") == "error":
        content = {"status": "error", "message": HTTPStatus(response.status).phrase} | parsed
        content |= {"status": "error", "message": server.hidden(str(content["message"]))}
        return Answer(content, error=server.failure(response, parsed))
    return Answer(parsed)


def _parsed(response: Response) -> Any:
    try:
        return from_json(response.body)
    except ValueError:
        return None  # a page of a proxy, a text, an image


def _timed(query: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
    """Tell the server not to work longer than we wait."""
    limit = max(1, min(_LARGEST_TIME_MS, int(timeout_s * 1000)))
    return {**query, "kwargs": {"max_time_ms": limit, **(query.get("kwargs") or {})}}


def _worded(query: Mapping[str, Any]) -> tuple[Mapping[str, Any], bytes]:
    """Write a query as a body. It goes out as it is if it can; else with its values as Kowalski understands them."""
    try:
        return query, to_body(query)
    except TypeError:
        pass
    except RecursionError:
        raise FilterError("the query is nested too deeply", position="query") from None
    from nuncius.archives.language.values import check_depth, plain

    check_depth(query, "query")
    worded: dict[str, Any] = plain(query, "query")
    selections = worded["query"].get("catalogs")
    holders = [worded["query"], *(selections.values() if isinstance(selections, dict) else ())]
    try:
        for holder in holders:
            if isinstance(holder, dict):
                _word(holder)
    except (TypeError, AttributeError) as error:  # what is no list or no condition where one has to be
        raise FilterError(
            f"a filter or a pipeline has not the form of one: {error}", position="query"
        ) from error
    return worded, _json(worded)


def _word(holder: dict[str, Any]) -> None:
    """Write the filter, projection and pipeline of a query without dates and ids."""
    if isinstance(holder.get("filter"), dict):
        holder["filter"] = plain_filter(holder["filter"])
    for name in ("projection", "pipeline"):
        if name in holder:
            holder[name] = plain_expression(holder[name], name)


def _json(value: Any) -> bytes:
    from nuncius.archives.language.values import plain

    try:
        return to_body(value)
    except TypeError:
        pass
    try:
        return to_body(plain(value, "data"))
    except TypeError as error:
        raise FilterError(
            f"{error}: dates, ids and patterns can stand in filters and pipelines only", position="data"
        ) from None
