"""The routes of the plugins: MongoDB queries and aggregations, dependency graphs, notifications of an object store."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from nuncius.errors import NunciusError
from nuncius.sandbox.dserver.answers import RefusedError, json_answer, timestamp
from nuncius.sandbox.dserver.asking import DIRECT, GRAPH, NOTIFICATION
from nuncius.sandbox.dserver.fields import DEPENDENCY_KEYS, MONGO, is_json, page_of
from nuncius.sandbox.dserver.graph import KEYS, dependency_rows
from nuncius.sandbox.dserver.world import filter_of, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response

    from nuncius.sandbox.dserver.asking import Asked, Routes
    from nuncius.sandbox.dserver.fields import Page

_CREATED = ("Put", "Post", "Copy", "CompleteMultipartUpload")
_REMOVED = ("Delete", "DeleteMarkerCreated")
_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)


def routes() -> Routes:
    """Return the routes: method, path and handler."""
    return [
        ("POST", "/mongo/query", _query),
        ("POST", "/mongo/aggregate", _aggregate),
        ("GET", "/graph/uuids/{uuid}", lambda asked: _graph(asked, KEYS)),
        ("POST", "/graph/uuids/{uuid}", _graph_by_keys),
        ("POST", "/webhook/notify", _notify),
        ("POST", "/webhook/notify/{path:path}", _notify),
    ]


def _rows(rows: Sequence[dict[str, Any]], page: Page) -> Response:
    """Answer with a page of documents; one past the end is empty."""
    for row in rows:
        row.update({name: timestamp(row[name]) for name in ("created_at", "frozen_at") if name in row})
    return json_answer(page.of(rows), headers=page.header(len(rows)))


# MongoDB -------------------------------------------------------------------------------------------------------------


def _query(asked: Asked) -> Response:
    asked.needs(DIRECT)
    wanted, page = asked.fields(MONGO), page_of(asked.query)
    base_uris = asked.base_uris(_user(asked, asked.switches.allow_direct_query), wanted)
    if not base_uris:
        return _rows([], page)
    from nuncius.archives.language import check_filter, matches

    condition = filter_of(wanted, base_uris)
    try:
        query = check_filter(wanted.get("query"))
        found = [
            shown(document)
            for document in asked.world.parsed
            if matches(document, condition) and matches(document, query)
        ]
    except NunciusError:
        raise RefusedError(500) from None
    return _rows(found, page)


def _aggregate(asked: Asked) -> Response:
    asked.needs(DIRECT)
    wanted, page = asked.fields(MONGO), page_of(asked.query)
    base_uris = asked.base_uris(_user(asked, asked.switches.allow_aggregation), wanted)
    if not base_uris:
        return _rows([], page)
    from nuncius.archives.language import check_pipeline, matches, run_pipeline

    condition = filter_of(wanted, base_uris)
    documents = [document for document in asked.world.parsed if matches(document, condition)]
    try:
        stages = check_pipeline([*wanted.get("aggregation", ()), {"$unset": "_id"}])
        found = [dict(row) for row in run_pipeline(documents, stages)]
    except NunciusError:
        raise RefusedError(500) from None
    return _rows(found, page)


def _user(asked: Asked, allowed: bool) -> str:
    """Return who asks for what may be turned off; whether the user is registered is asked last."""
    asked.identity()
    if not allowed:
        raise RefusedError(404)
    return asked.user()


# Dependencies --------------------------------------------------------------------------------------------------------


def _graph_by_keys(asked: Asked) -> Response:
    asked.needs(GRAPH, DIRECT)
    keys = asked.fields(DEPENDENCY_KEYS).get("dependency_keys")
    page_of(asked.query)
    asked.identity()
    if keys is not None and not asked.switches.dynamic_dependency_keys:
        keys = list(KEYS)
    if not keys or len(set(keys)) < len(keys) or any("$" in key for key in keys):
        raise RefusedError(500)  # it finds out when it uses them
    return _graph(asked, keys)


def _graph(asked: Asked, keys: Sequence[str]) -> Response:
    asked.needs(GRAPH, DIRECT)
    page, username = page_of(asked.query), asked.user()
    base_uris = asked.world.searchable(username)
    if not base_uris:
        return _rows([], page)
    return _rows(dependency_rows(asked.world.parsed, asked.path["uuid"], keys, base_uris), page)


# Notifications -------------------------------------------------------------------------------------------------------


def _notify(asked: Asked) -> Response:
    """Follow what happened to an object of a store."""
    asked.needs(NOTIFICATION)
    _check_address(asked)
    kind = asked.headers.get("content-type", "")
    if kind.startswith("application/x-www-form-urlencoded"):
        return json_answer(None)  # a store tries whether anybody is here
    if not is_json(kind):
        raise RefusedError(415 if kind else 500)
    try:
        event = json.loads(asked.body)
    except (ValueError, RecursionError):
        raise RefusedError(400) from None
    try:
        name, what = event["Records"][0]["eventName"], event["Records"][0]["s3"]
    except (LookupError, TypeError):
        raise RefusedError(500) from None
    verb, _, how = str(name).removeprefix("s3:").partition(":")
    if verb == "ObjectCreated" and how in _CREATED:
        asked.world.register_stored(_uri(asked, *_place(asked, what)))
    elif verb == "ObjectRemoved" and how in _REMOVED:
        base_uri, key = _place(asked, what)
        if key.endswith("/dtool"):
            asked.world.delete(_uri(asked, base_uri, key))
    return json_answer(None)


def _check_address(asked: Asked) -> None:
    """Refuse whom a proxy calls by an address of IPv6: by default all of IPv4 may come in."""
    try:
        address = ipaddress.ip_address(asked.headers.get("x-real-ip", "127.0.0.1"))
    except ValueError:
        raise RefusedError(500) from None
    if address.version != 4:
        raise RefusedError(403)


def _place(asked: Asked, what: Any) -> tuple[str, str]:
    """Return the base URI and the key of an object."""
    try:
        bucket, key = unquote(what["bucket"]["name"]), unquote(what["object"]["key"])
    except (LookupError, TypeError):
        raise RefusedError(400) from None
    if bucket not in asked.switches.bucket_to_base_uri:
        raise RefusedError(400)
    return asked.switches.bucket_to_base_uri[bucket], key


def _uri(asked: Asked, base_uri: str, key: str) -> str:
    """Return the URI of the data set that an object belongs to."""
    found = _UUID.search(key)
    if found is None or base_uri not in asked.world.base_uris:
        raise RefusedError(500)
    return f"{base_uri}/{found[0]}"
