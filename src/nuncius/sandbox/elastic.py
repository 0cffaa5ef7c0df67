"""As much of Elasticsearch's query language as one asks ANTARES with.

Source: the Elasticsearch reference (query DSL), and for ``sky_distance``, which is ANTARES' own, its clients.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_MAX_DEPTH = 20
_LARGEST_DEG = 1.0


class BadQueryError(ValueError):
    """The query means nothing."""


def matches(query: Any, document: Mapping[str, Any], depth: int = 0) -> bool:
    """Tell whether a document is what a query asks for.

    Parameters
    ----------
    query : dict
        What stands under ``query``.
    document : mapping
        The document.
    depth : int
        How deep in the query we are.

    Raises
    ------
    BadQueryError
        If the query means nothing.
    """
    if depth > _MAX_DEPTH or not isinstance(query, dict) or len(query) != 1:
        raise BadQueryError("a query is an object with one key, the kind of query")
    ((kind, body),) = query.items()
    if kind not in _KINDS:
        raise BadQueryError(f"unknown query [{kind}]")
    if not isinstance(body, dict):
        raise BadQueryError(f"[{kind}] query malformed")
    return _KINDS[kind](body, document, depth)


def _bool(body: dict[str, Any], document: Mapping[str, Any], depth: int) -> bool:
    clauses = {name: _listed(body.get(name, [])) for name in ("must", "filter", "should", "must_not")}
    if unknown := set(body) - {*clauses, "minimum_should_match"}:
        raise BadQueryError(f"[bool] query does not support {sorted(unknown)}")
    found = {name: [matches(one, document, depth + 1) for one in given] for name, given in clauses.items()}
    needed = 0 if clauses["must"] or clauses["filter"] or not clauses["should"] else 1
    wanted = body.get("minimum_should_match", needed)
    if not isinstance(wanted, int):
        raise BadQueryError("[bool] minimum_should_match is a number here")
    return (
        all(found["must"])
        and all(found["filter"])
        and not any(found["must_not"])
        and sum(found["should"]) >= wanted
    )


def _term(body: dict[str, Any], document: Mapping[str, Any], _: int) -> bool:
    path, value = _single(body, "value")
    return any(_equal(known, value) for known in values_at(document, path))


def _terms(body: dict[str, Any], document: Mapping[str, Any], _: int) -> bool:
    path, wanted = _single(body, "value")
    if not isinstance(wanted, list):
        raise BadQueryError("[terms] query requires an array")
    return any(_equal(known, value) for known in values_at(document, path) for value in wanted)


def _match(body: dict[str, Any], document: Mapping[str, Any], _: int) -> bool:
    path, value = _single(body, "query")
    words = str(value).lower().split()
    return any(word in str(known).lower().split() for known in values_at(document, path) for word in words)


def _prefix(body: dict[str, Any], document: Mapping[str, Any], _: int) -> bool:
    path, value = _single(body, "value")
    return any(str(known).startswith(str(value)) for known in values_at(document, path))


def _range(body: dict[str, Any], document: Mapping[str, Any], _: int) -> bool:
    path, bounds = _single(body, "")
    if not isinstance(bounds, dict) or not bounds or set(bounds) - set(_ORDERS):
        raise BadQueryError("[range] query needs gt, gte, lt or lte")
    return any(
        all(_ordered(order, known, limit) for order, limit in bounds.items())
        for known in values_at(document, path)
    )


def _exists(body: dict[str, Any], document: Mapping[str, Any], _: int) -> bool:
    if not isinstance(body.get("field"), str):
        raise BadQueryError("[exists] must be provided with a [field]")
    return bool(values_at(document, body["field"]))


def _sky_distance(body: dict[str, Any], document: Mapping[str, Any], _: int) -> bool:
    from nuncius.sky import separation_arcsec, to_positions

    size, _unit, degrees = str(body.get("radius", "")).partition(" ")
    try:
        radius = float(size)
        ra, dec, _one = to_positions(str(body.get("location", "")))
    except ValueError as error:
        raise BadQueryError(f"[sky_distance] {error}") from error
    if degrees not in {"degree", "degrees"} or not 0 <= radius <= _LARGEST_DEG:
        raise BadQueryError('[sky_distance] a radius is at most "1 degree"')
    return bool(separation_arcsec(ra, dec, document["ra"], document["dec"])[0] <= 3600 * radius)


_KINDS: dict[str, Callable[[dict[str, Any], Mapping[str, Any], int], bool]] = {
    "bool": _bool,
    "term": _term,
    "terms": _terms,
    "match": _match,
    "match_phrase": _match,
    "match_all": lambda *_: True,
    "prefix": _prefix,
    "range": _range,
    "exists": _exists,
    "sky_distance": _sky_distance,
}


def values_at(document: Any, path: str) -> list[Any]:
    """Return all values at a path with dots, those of lists one by one; missing ones and nulls are none."""
    found = [document]
    for part in path.removesuffix(".keyword").split("."):
        found = [entry[part] for entry in found if isinstance(entry, dict) and part in entry]
        found = [one for entry in found for one in (entry if isinstance(entry, list) else [entry])]
    return [one for one in found if one is not None]


def _listed(clause: Any) -> list[Any]:
    return clause if isinstance(clause, list) else [clause]


def _single(body: dict[str, Any], inner: str) -> tuple[str, Any]:
    """Return the field and what is said of it, in the short form or under `inner`."""
    named = {name: value for name, value in body.items() if name != "boost"}
    if len(named) != 1:
        raise BadQueryError("the query names one field")
    ((path, value),) = named.items()
    return path, value[inner] if isinstance(value, dict) and inner in value else value


def _equal(known: Any, value: Any) -> bool:
    if isinstance(known, str) or isinstance(
        value, str
    ):  # the index has numbers and texts apart, but reads either
        return str(known) == str(value)
    return bool(known == value)


def _ordered(order: str, known: Any, limit: Any) -> bool:
    try:
        if isinstance(known, (int, float)) and isinstance(limit, str):
            limit = float(limit)
        return _ORDERS[order](known, limit)
    except (TypeError, ValueError):
        return False
