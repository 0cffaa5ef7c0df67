"""Users, base URIs, permissions, and what a server is: as operations, one request each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nuncius.datasets.listing import LARGEST_PAGE, Question, whole_list
from nuncius.datasets.questions import listed, order
from nuncius.datasets.service import escaped, place
from nuncius.datasets.values import Record
from nuncius.errors import ConfigurationError, FilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nuncius._core.operations import Deadline, Operation
    from nuncius.datasets.service import DServerService

_REQUIRED = (
    "uuid",
    "base_uri",
    "uri",
    "name",
    "type",
    "readme",
    "manifest",
    "creator_username",
    "frozen_at",
    "annotations",
    "tags",
)


def record(
    service: DServerService, path: str, deadline: Deadline, *, what: str, under: str | None = None
) -> Operation[Record]:
    """Get an object, or the one that an answer has under a name."""
    answer, _ = yield from service.ask("GET", path, deadline, what=what)
    return Record(service.mapping(answer, under))


def records(
    service: DServerService, path: str, key: str, sort: str | None, timeout: Callable[[], Deadline]
) -> Operation[list[Record]]:
    """Get a list of all pages; `key` is the field that tells one row from another."""
    asked = Question("GET", path, params=order(sort), what=path.replace("-", " "), key=key)
    found, _ = yield from whole_list(service, asked, LARGEST_PAGE, timeout)
    return [Record(row) for row in found]


def user_path(name: str | None, *, summary: bool = False, own: bool = True) -> str:
    """Return where a user is; without a name oneself, if that is meant.

    Raises
    ------
    FilterError
        If it is no name.
    """
    if not isinstance(name, str) and not (name is None and own):
        raise FilterError(f"a user name is a text, not {name!r}"[:300])
    path = "me" if name is None else f"users/{escaped(name)}"
    return f"{path}/summary" if summary else path


def put(
    service: DServerService, path: str, body: Mapping[str, Any], deadline: Deadline, what: str
) -> Operation[bool]:
    """Register something; tell whether it is new.

    Raises
    ------
    ConfigurationError
        If the server does not accept it.
    """
    try:
        _, response = yield from service.ask("PUT", path, deadline, json=body, what=what)
    except FilterError as error:
        raise ConfigurationError(
            f"{service.base} does not accept {what}: {error.message.partition(': ')[2]}",
            url=service.base,
            status=error.status,
        ) from error
    return response.status == 201


def delete(service: DServerService, path: str, deadline: Deadline, what: str) -> Operation[None]:
    """Delete something; what isn't there is deleted as well."""
    yield from service.ask("DELETE", path, deadline, what=what)


def register_data_set(
    service: DServerService, values: Mapping[str, Any], deadline: Deadline
) -> Operation[bool]:
    """Register a data set, or register it anew; tell whether it is new.

    Raises
    ------
    ConfigurationError
        If something is missing, or the server does not accept it.
    """
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"a data set is registered by its values, not by {values!r}"[:300])
    missing = [name for name in _REQUIRED if name not in values]
    if missing:
        raise ConfigurationError(f"a data set can't be registered without {', '.join(missing)}")
    uri = values["uri"]
    if not isinstance(uri, str):
        raise ConfigurationError(f"the uri of a data set is a text, not {uri!r}"[:300])
    body = dict(values)
    for name in ("frozen_at", "created_at"):
        # The server wants numbers that are written as texts.
        if isinstance(body.get(name), datetime):
            if body[name].tzinfo is None:
                raise ConfigurationError(
                    f"{name} of {uri} has no time zone; UTC would be .replace(tzinfo=UTC)"
                )
            body[name] = str(body[name].timestamp())
        elif isinstance(body.get(name), (int, float)):
            body[name] = str(float(body[name]))
    # Where one is missing, the summaries of all who may see the data set fail on the server.
    sizes = _sizes(body["manifest"])
    for name, value in (("number_of_items", len(sizes)), ("size_in_bytes", sum(sizes))):
        if body.get(name) is None:
            body[name] = value
    return (yield from put(service, f"uris/{place(uri)}", body, deadline, f"the data set {uri}"))


def permissions(search: str | Iterable[str], register: str | Iterable[str]) -> dict[str, list[str]]:
    """Return who may see and who may register, as a server takes it."""
    return {
        "users_with_search_permissions": listed("search", search) or [],
        "users_with_register_permissions": listed("register", register) or [],
    }


def _sizes(manifest: Any) -> list[int]:
    """Return the sizes of the items, in bytes, as far as a manifest has them: the server says what is wrong with it."""
    items = manifest.get("items") if isinstance(manifest, Mapping) else None
    entries = items.values() if isinstance(items, Mapping) else ()
    sizes = (entry.get("size_in_bytes") if isinstance(entry, Mapping) else None for entry in entries)
    return [size if isinstance(size, int) else 0 for size in sizes]
