"""What is searched for, as the questions that a dserver answers rightly.

Its search has two halves that know different data sets: one knows those that were registered over HTTP by their UUID, the
other those that were indexed by its operators (dservercore 0.22.0). So a UUID is never asked of the search itself: where
nothing else is asked, it is looked up; otherwise it is compared here, or a query is asked in the words of both halves.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID

from nuncius.datasets.listing import Question
from nuncius.datasets.service import escaped
from nuncius.datasets.values import moment
from nuncius.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuncius.datasets.values import DataSet, DataSets


def search(
    free_text: str | None = None,
    *,
    creator_usernames: str | Iterable[str] | None = None,
    base_uris: str | Iterable[str] | None = None,
    uuids: str | UUID | Iterable[str | UUID] | None = None,
    tags: str | Iterable[str] | None = None,
    sort: str | Sequence[str] | None = None,
) -> list[Question]:
    """Return the questions whose answers together are what is searched for: mostly one.

    Raises
    ------
    FilterError
        If something is no text, or a UUID none.
    """
    chosen = _choices(creator_usernames, base_uris, tags)
    names = uuid_texts(uuids)
    if chosen is None or names == []:
        return []
    if names is not None and free_text is None and "tags" not in chosen:
        return [by_uuid(name, order(sort), _among(chosen)) for name in names]
    if free_text is not None and not isinstance(free_text, str):
        raise FilterError(f"free_text is a text, not {free_text!r}"[:300], position="free_text")
    body = chosen if free_text is None else {"free_text": free_text, **chosen}
    return [Question("POST", "uris", body=body, params=order(sort), keeps=_of(names))]


def by_uuid(
    uuid: str | UUID | DataSet,
    params: Mapping[str, Any] | None = None,
    keeps: Callable[[DataSet], bool] | None = None,
) -> Question:
    """Return the question for all data sets of a UUID: there may be copies at several base URIs."""
    name = uuid_text(uuid)
    return Question("GET", f"uuids/{escaped(name)}", params=params, keeps=keeps, what=f"data set {name}")


def query(
    conditions: Mapping[str, Any] | str,
    *,
    creator_usernames: str | Iterable[str] | None = None,
    base_uris: str | Iterable[str] | None = None,
    uuids: str | UUID | Iterable[str | UUID] | None = None,
    tags: str | Iterable[str] | None = None,
) -> list[Question]:
    """Return the questions of a Mongo query: mostly one, and none if nothing can meet what is asked.

    Of UUIDs there are two: a query finds those that were indexed, where a UUID is a text; the server's own word for UUIDs
    finds those that were registered over HTTP.

    Raises
    ------
    FilterError
        If it is no object, or no JSON.
    """
    asked = json_value(conditions, "query")
    if not isinstance(asked, Mapping):
        raise FilterError(f"a query is an object such as {{'name': 'a'}}, not a {type(asked).__name__}")
    body: dict[str, Any] = {"query": dict(asked)}
    names = uuid_texts(uuids)
    own = _uuid_condition(body["query"])
    if own is not None:
        del body["query"]["uuid"]
        names = own if names is None else [name for name in names if name in own]
    chosen = _choices(creator_usernames, base_uris, tags)
    if chosen is None or names == []:
        return []
    bodies = [body | chosen]
    if names is not None:
        indexed = {**body["query"], "uuid": {"$in": names}}
        registered = [name for name in names if uuid_or_none(name)]
        bodies = [{"query": indexed, **chosen}]
        if registered:
            bodies.append({**body, **chosen, "uuids": registered})
    return [Question("POST", "mongo/query", body=each, what="a Mongo query") for each in bodies]


def graph(uuid: str | UUID | DataSet, dependency_keys: str | Iterable[str] | None = None) -> Question:
    """Return the question for a dependency graph."""
    name = uuid_text(uuid)
    path = f"graph/uuids/{escaped(name)}"
    keys = listed("dependency_keys", dependency_keys)
    what = f"the dependency graph of {name}"
    if not keys:  # an empty list makes the server fail
        return Question("GET", path, what=what)
    return Question("POST", path, body={"dependency_keys": keys}, what=what)


def order(sort: str | Sequence[str] | None) -> dict[str, str]:
    """Return how a page is to be sorted: fields with a minus downward, commas between them.

    A plus, which in a query string is a space, is left out: it means upward, as nothing does.
    """
    fields = listed("sort", sort.split(",") if isinstance(sort, str) else sort) or []
    text = ",".join(field.strip().removeprefix("+") for field in fields)
    return {"sort": text} if text else {}


def sorted_by(found: DataSets, sort: str | Sequence[str] | None) -> DataSets:
    """Sort data sets here; those that lack a field come last.

    Raises
    ------
    FilterError
        If a field can't be compared.
    """
    fields = order(sort).get("sort", "").split(",") if sort else []
    for field in reversed(fields):  # sorting is stable: the first field decides last
        name, down = field.removeprefix("-"), field.startswith("-")
        with_it = [row for row in found if row.get(name) is not None]
        without = [row for row in found if row.get(name) is None]
        try:
            # Servers write times in several ways, not all of which are in the order of time.
            key = partial(_time_of, name) if name in {"created_at", "frozen_at"} else itemgetter(name)
            with_it.sort(key=key, reverse=down)
        except TypeError as error:
            raise FilterError(f"the data sets can't be sorted by {name!r}: {error}", position=name) from error
        found[:] = [*with_it, *without]
    if fields:
        found.sorting = {field.removeprefix("-"): -1 if field.startswith("-") else 1 for field in fields}
    return found


def json_value(value: Any, what: str) -> Any:
    """Return a value that may be given as JSON text.

    Raises
    ------
    FilterError
        If it is no JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise FilterError(f"the {what} is no JSON: {error}") from error


def listed(name: str, value: str | Iterable[str] | None) -> list[str] | None:
    """Return texts as a list; one may be given alone.

    Raises
    ------
    FilterError
        If one is no text.
    """
    if value is None:
        return None
    texts = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    for text in texts:
        if not isinstance(text, str):
            raise FilterError(f"{name} takes texts, not {text!r}"[:300], position=name)
    return texts


def uuid_texts(uuids: str | UUID | Iterable[str | UUID] | None) -> list[str] | None:
    """Return UUIDs as the server writes them.

    Raises
    ------
    FilterError
        If one is none.
    """
    if uuids is None:
        return None
    names = [uuids] if isinstance(uuids, str) or not isinstance(uuids, Iterable) else list(uuids)
    found = [uuid_or_none(name) for name in names]
    if None in found:
        raise FilterError(f"uuids holds what is no UUID: {names!r}"[:300], position="uuids")
    return list(dict.fromkeys(name for name in found if name is not None))


def uuid_text(uuid: str | UUID | Mapping[str, Any]) -> str:
    """Return a UUID, or that of a data set, as the server writes it; another text as it is: no data set has it.

    Raises
    ------
    FilterError
        If it is no text.
    """
    name = uuid.get("uuid") if isinstance(uuid, Mapping) else uuid
    if not isinstance(name, (str, UUID)):
        raise FilterError(f"a UUID is a text, not {name!r}"[:300], position="uuid")
    return uuid_or_none(name) or str(name)


def uuid_or_none(name: object) -> str | None:
    """Return a UUID as servers write it; None if it is none."""
    try:
        return str(UUID(str(name)))
    except ValueError:
        return None


def _uuid_condition(asked: Mapping[str, Any]) -> list[str] | None:
    """Return the UUIDs that a query names at its top; None if it names none, or otherwise."""
    condition = asked.get("uuid")
    if isinstance(condition, Mapping) and set(condition) <= {"$in", "$eq"} and len(condition) == 1:
        condition = next(iter(condition.values()))
    names = [condition] if isinstance(condition, (str, UUID)) else condition
    if not isinstance(names, list) or not all(isinstance(name, (str, UUID)) for name in names):
        return None
    return list(map(str, names))


def _time_of(name: str, row: DataSet) -> float:
    when = moment(row[name])
    return math.inf if when is None else when.timestamp()


def _of(names: list[str] | None) -> Callable[[DataSet], bool] | None:
    if names is None:
        return None
    wanted = frozenset(names)
    return lambda row: row.get("uuid") in wanted


def _choices(
    creators: str | Iterable[str] | None,
    base_uris: str | Iterable[str] | None,
    tags: str | Iterable[str] | None,
) -> dict[str, list[str]] | None:
    """Return what else is asked, as the server takes it; None if nothing can be one of none.

    The server takes an empty list for no question at all, and would answer with every data set.
    """
    chosen: dict[str, list[str]] = {}
    for name, value in (("creator_usernames", creators), ("base_uris", base_uris), ("tags", tags)):
        texts = listed(name, value)
        if texts is None or (name == "tags" and not texts):
            continue
        if not texts:
            return None
        chosen[name] = [text.rstrip("/") for text in texts] if name == "base_uris" else texts
    return chosen


def _among(chosen: Mapping[str, list[str]]) -> Callable[[DataSet], bool] | None:
    creators, bases = chosen.get("creator_usernames"), chosen.get("base_uris")
    if creators is None and bases is None:
        return None
    return lambda row: (
        (creators is None or row.get("creator_username") in creators)
        and (bases is None or row.get("base_uri") in bases)
    )
