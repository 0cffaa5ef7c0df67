"""Which instance is asked what: pure functions on queries and on the catalogs that instances have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nuncius.compat.penquins.errors import CatalogError
from nuncius.errors import ConfigurationError, FilterError

if TYPE_CHECKING:
    from collections.abc import Collection, MutableMapping


def check_query(query: Any) -> dict[str, Any]:
    """Return a query that has the form of one.

    Raises
    ------
    FilterError
        If it has not, or if two positions would be answered under the same name.
    """
    if not isinstance(query, Mapping) or not isinstance(query.get("query"), Mapping):
        raise FilterError(
            'a query is a mapping such as {"query_type": "find", "query": {...}, "kwargs": {...}}',
            position="query",
        )
    if not isinstance(query.get("kwargs") or {}, Mapping):
        raise FilterError(f"kwargs is a mapping, not a {type(query['kwargs']).__name__}", position="kwargs")
    radec = positions_of(query)
    if isinstance(radec, Mapping):
        seen: dict[str, Any] = {}
        for name in radec:
            other = seen.setdefault(str(name).replace(".", "_"), name)
            if other != name:
                raise FilterError(
                    f"the positions {other!r} and {name!r} would be answered under one name: Kowalski writes '_' for '.'; "
                    "give one of them another name",
                    position="radec",
                )
    return dict(query)


def catalogs_of(query: Mapping[str, Any]) -> list[str]:
    """Return the catalogs that a query names."""
    asked = query["query"]
    many, one = asked.get("catalogs"), asked.get("catalog")
    if isinstance(many, Mapping):
        return [str(name) for name in many]
    return [one] if isinstance(one, str) else []


def assign(
    query: Mapping[str, Any],
    having: Mapping[str, Collection[str]],
    load: MutableMapping[str, int],
    *,
    ill: Collection[str] = (),
) -> dict[str, dict[str, Any]]:
    """Divide a query among instances: each catalog is asked of who has it and has least to do.

    Parameters
    ----------
    query : mapping
        The query.
    having : mapping of str to collection of str
        The catalogs of each instance.
    load : mapping of str to int
        How much each instance has to do; what is assigned is added.
    ill : collection of str
        Who is asked only if nobody else has the catalog.

    Returns
    -------
    dict of str to dict
        The part of the query for each instance that gets one.

    Raises
    ------
    CatalogError
        If nobody has a catalog.
    ConfigurationError
        If the query names no catalog, and there are several instances.
    """
    names = catalogs_of(query)
    if not names:
        if len(having) != 1:
            raise ConfigurationError(
                "For catalog-less queries, please specify instance name if using multiple instances"
            )
        (only,) = having
        load[only] += 1
        return {only: dict(query)}
    parts: dict[str, list[str]] = {}
    for catalog in names:
        holders = [name for name, catalogs in having.items() if catalog in catalogs]
        if not holders:
            raise CatalogError(
                f"Catalog {catalog} is not available in any instance"
                if len(having) > 1
                else f"One or more catalogs specified in the query are not available in the instance: {catalog}"
            )
        joined = _joined(query["query"].get("pipeline"))
        chosen = min(holders, key=lambda name: (len(joined - set(having[name])), name in ill, load[name]))
        load[chosen] += 1
        parts.setdefault(chosen, []).append(catalog)
    if len(parts) == 1:
        return {name: dict(query) for name in parts}
    asked = query["query"]
    return {
        name: {**query, "query": {**asked, "catalogs": {part: asked["catalogs"][part] for part in catalogs}}}
        for name, catalogs in parts.items()
    }


def positions_of(query: Mapping[str, Any]) -> Any:
    """Return the positions of a query; None if it has none."""
    holder = _holder(query)
    return None if holder is None else holder.get("radec")


def count_of(query: Mapping[str, Any]) -> int:
    """Return how many positions of a query can be asked apart from each other."""
    radec = positions_of(query)
    return len(radec) if isinstance(radec, (Mapping, list, tuple)) else 0


def cut(query: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Cut a query into some with fewer positions; an empty list if that can't be done."""
    number = count_of(query)
    if number < 2:
        return []
    size = math.ceil(number / min(count, number))
    radec = positions_of(query)
    if isinstance(radec, Mapping):
        items = list(radec.items())
        return [_with(query, dict(items[i : i + size])) for i in range(0, number, size)]
    return [_with(query, radec[i : i + size]) for i in range(0, number, size)]


def _joined(pipeline: Any) -> set[str]:
    """Return the other catalogs that a pipeline reads, at any depth; without them a join finds nothing and says nothing."""
    names: set[str] = set()
    waiting = [pipeline]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting.extend(value.values())
            for stage, key in (("$lookup", "from"), ("$graphLookup", "from"), ("$unionWith", "coll")):
                name = value.get(stage)
                name = name.get(key) if isinstance(name, Mapping) else name
                if isinstance(name, str):
                    names.add(name)
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)
    return names


def _holder(query: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the part of a query in which its positions stand."""
    kind, asked = query.get("query_type"), query["query"]
    holder = asked.get("object_coordinates") if kind == "cone_search" else asked if kind == "near" else None
    return holder if isinstance(holder, Mapping) else None


def _with(query: Mapping[str, Any], radec: Any) -> dict[str, Any]:
    asked = query["query"]
    if query["query_type"] == "near":
        return {**query, "query": {**asked, "radec": radec}}
    return {
        **query,
        "query": {**asked, "object_coordinates": {**asked["object_coordinates"], "radec": radec}},
    }
