"""The routes of users, base URIs and permissions, and of summaries."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from nuncius.sandbox.dserver.answers import RefusedError, json_answer
from nuncius.sandbox.dserver.data_sets import sorted_rows
from nuncius.sandbox.dserver.fields import BASE_URI, USER, page_of, sort_header, sort_of
from nuncius.sandbox.dserver.world import filter_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response

    from nuncius.sandbox.dserver.asking import Asked, Routes
    from nuncius.sandbox.dserver.world import World


def routes() -> Routes:
    """Return the routes: method, path and handler."""
    return [
        ("GET", "/me", lambda asked: json_answer(_user(asked.world, asked.user()))),
        ("GET", "/me/summary", lambda asked: json_answer(_summary(asked.world, asked.user()))),
        ("GET", "/users", _users),
        ("GET", "/users/{name}", lambda asked: json_answer(_user(asked.world, _visible(asked)))),
        ("GET", "/users/{name}/summary", lambda asked: json_answer(_summary(asked.world, _visible(asked)))),
        ("PUT", "/users/{name}", _put_user),
        ("DELETE", "/users/{name}", _delete_user),
        ("GET", "/base-uris", _base_uris),
        ("GET", "/base-uris/{uri:path}", _base_uri),
        ("PUT", "/base-uris/{uri:path}", _put_base_uri),
        ("DELETE", "/base-uris/{uri:path}", _delete_base_uri),
    ]


# Users ---------------------------------------------------------------------------------------------------------------


def _user(world: World, name: str) -> dict[str, Any]:
    return {
        "username": name,
        "is_admin": world.users[name],
        "search_permissions_on_base_uris": world.searchable(name),
        "register_permissions_on_base_uris": world.registrable(name),
    }


def _visible(asked: Asked) -> str:
    """Return the user in the path: oneself, or anybody for an admin."""
    username, name = asked.user(), asked.path["name"]
    if name != username and not asked.world.users[username]:
        raise RefusedError(403)
    if name not in asked.world.users:
        raise RefusedError(404)
    return name


def _users(asked: Asked) -> Response:
    users = [{"username": name, "is_admin": admin} for name, admin in asked.world.users.items()]
    return _list(asked, users, ("username", "is_admin"))


def _put_user(asked: Asked) -> Response:
    given = asked.fields(USER)
    asked.admin()
    name = asked.path["name"]
    new = name not in asked.world.users
    asked.world.users[name] = given.get("is_admin", False)
    return json_answer("", status=201 if new else 200)


def _delete_user(asked: Asked) -> Response:
    asked.admin()
    asked.world.delete_user(asked.path["name"])
    return json_answer("")


def _list(asked: Asked, rows: Sequence[dict[str, Any]], fields: Sequence[str]) -> Response:
    """Answer an admin with a page of rows; one past the end is not there."""
    order, page = sort_of(asked.query, fields, f"+{fields[0]}"), page_of(asked.query)
    asked.admin()
    answered = page.of(sorted_rows(rows, order))
    if not answered and page.number > 1:
        raise RefusedError(404)
    return json_answer(answered, headers=page.header(len(rows)) | sort_header(order))


# Base URIs -----------------------------------------------------------------------------------------------------------


def _base_uris(asked: Asked) -> Response:
    return _list(asked, [{"base_uri": base_uri} for base_uri in asked.world.base_uris], ("base_uri",))


def _base_uri(asked: Asked) -> Response:
    asked.admin()
    may = asked.world.base_uris.get(asked.uri())
    if may is None:
        raise RefusedError(404)
    return json_answer(
        {
            "base_uri": asked.uri(),
            "users_with_search_permissions": may.search,
            "users_with_register_permissions": may.register,
        }
    )


def _put_base_uri(asked: Asked) -> Response:
    given = asked.fields(BASE_URI)
    asked.admin()
    new = asked.world.set_permissions(
        asked.uri(),
        given.get("users_with_search_permissions", ()),
        given.get("users_with_register_permissions", ()),
    )
    return json_answer("", status=201 if new else 200)


def _delete_base_uri(asked: Asked) -> Response:
    asked.admin()
    asked.world.delete_base_uri(asked.uri())
    return json_answer("")


# Summaries -----------------------------------------------------------------------------------------------------------


def _summary(world: World, username: str) -> dict[str, Any]:
    """Return what the data sets of a user add up to, which is asked of the search plugin: deleted ones count too."""
    found = world.searched(filter_of({}, world.searchable(username)))
    if any("size_in_bytes" not in document for document in found):
        raise RefusedError(500)  # it counts on a size that a PUT needn't have
    total = sum(document["size_in_bytes"] for document in found)
    summary: dict[str, Any] = {"number_of_datasets": len(found), "total_size_in_bytes": total}
    for plural, word, field in (
        ("creator_usernames", "creator", "creator_username"),
        ("base_uris", "base_uri", "base_uri"),
        ("tags", "tag", "tags"),
    ):
        numbers: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for document in found:
            values = document[field]
            for value in values if isinstance(values, list) else [values]:
                numbers[value] += 1
                sizes[value] += document["size_in_bytes"]
        summary |= {
            plural: sorted(numbers),
            f"datasets_per_{word}": dict(numbers),
            f"size_in_bytes_per_{word}": dict(sizes),
        }
    return summary
