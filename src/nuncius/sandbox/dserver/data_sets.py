"""The routes of data sets: search, look up, details, register and delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.sandbox.dserver.answers import RefusedError, json_answer, timestamp
from nuncius.sandbox.dserver.fields import DATA_SET, SEARCH, page_of, query_fields, sort_header, sort_of
from nuncius.sandbox.dserver.world import SHOWN, filter_of, is_valid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.responses import Response

    from nuncius.sandbox.dserver.asking import Asked, Routes
    from nuncius.sandbox.dserver.fields import Page

_SORTED = ("base_uri", "created_at", "creator_username", "frozen_at", "name", "uri", "uuid")


def routes() -> Routes:
    """Return the routes: method, path and handler."""
    return [
        ("GET", "/uris", lambda asked: _search(asked, query_fields(asked.query))),
        ("POST", "/uris", lambda asked: _search(asked, asked.fields(SEARCH))),
        ("GET", "/uris/{uri:path}", _one),
        ("PUT", "/uris/{uri:path}", _register),
        ("DELETE", "/uris/{uri:path}", _delete),
        ("GET", "/uuids/{uuid}", _by_uuid),
        ("GET", "/readmes/{uri:path}", lambda asked: json_answer({"readme": _document(asked)["readme"]})),
        ("GET", "/manifests/{uri:path}", lambda asked: json_answer(_document(asked)["manifest"])),
        ("GET", "/tags/{uri:path}", lambda asked: json_answer({"tags": _document(asked)["tags"]})),
        ("GET", "/annotations/{uri:path}", _annotations),
    ]


# Lists ---------------------------------------------------------------------------------------------------------------


def _search(asked: Asked, wanted: Mapping[str, Any]) -> Response:
    """Answer from SQL without filters, and from the search plugin with some."""
    order, page, username = sort_of(asked.query, _SORTED, "+uri"), page_of(asked.query), asked.user()
    base_uris = asked.base_uris(username, wanted)
    if not wanted:
        return _rows([row for row in asked.world.rows.values() if row["base_uri"] in base_uris], order, page)
    if not base_uris:
        return json_answer([], headers=sort_header(order))
    from nuncius.archives.language import sort_documents

    found = asked.world.searched(filter_of(wanted, base_uris), wanted.get("free_text"))
    documents = page.of(sort_documents(found, list(order.items())))
    return json_answer(
        [_shown(document) for document in documents], headers=page.header(len(found)) | sort_header(order)
    )


def _by_uuid(asked: Asked) -> Response:
    order, page = sort_of(asked.query, _SORTED, "+uri"), page_of(asked.query)
    base_uris = asked.world.searchable(asked.user())
    found = [
        row
        for row in asked.world.rows.values()
        if row["uuid"] == asked.path["uuid"] and row["base_uri"] in base_uris
    ]
    return _rows(found, order, page)


def _rows(rows: Sequence[dict[str, Any]], order: Mapping[str, int], page: Page) -> Response:
    """Answer with a page of rows of the SQL table; one past the end is not there."""
    rows = sorted_rows(rows, order)
    answered = page.of(rows)
    if not answered and page.number > 1:
        raise RefusedError(404)
    headers = page.header(len(rows)) | sort_header(order)
    return json_answer([_shown(row) for row in answered], headers=headers)


def sorted_rows(rows: Sequence[dict[str, Any]], order: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return rows in order; equal ones stay as they are."""
    rows = list(rows)
    for name, direction in reversed(list(order.items())):
        rows.sort(key=lambda row, name=name: row[name], reverse=direction < 0)  # type: ignore[misc]
    return rows


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row or a document as the lists show it."""
    answered = {name: row[name] for name in SHOWN if name in row}
    return answered | {name: timestamp(row[name]) for name in ("created_at", "frozen_at")}


# One data set --------------------------------------------------------------------------------------------------------


def _one(asked: Asked) -> Response:
    row = asked.world.rows.get(asked.readable_uri())
    if row is None:
        raise RefusedError(404)
    return json_answer(_shown(row))


def _document(asked: Asked) -> dict[str, Any]:
    return asked.world.document(asked.readable_uri())


def _annotations(asked: Asked) -> Response:
    """Answer with texts of all values, in Python's spelling."""
    annotations = _document(asked)["annotations"]
    texts = {key: None if value is None else str(value) for key, value in annotations.items()}
    return json_answer({"annotations": texts})


def _register(asked: Asked) -> Response:
    info, username, uri = asked.fields(DATA_SET), asked.user(), asked.uri()
    if "base_uri" not in info:
        raise RefusedError(500)  # it looks before it checks
    if info["base_uri"] not in asked.world.registrable(username):
        raise RefusedError(403)
    if "uri" not in info:
        raise RefusedError(500)
    if info["uri"] != uri or not is_valid(info):
        raise RefusedError(400)
    new = asked.world.register(info)
    return json_answer("", status=201 if new else 200)


def _delete(asked: Asked) -> Response:
    username, uri = asked.user(), asked.uri()
    if uri.rpartition("/")[0] not in asked.world.registrable(username):
        raise RefusedError(403)
    asked.world.delete(uri)
    return json_answer("")
