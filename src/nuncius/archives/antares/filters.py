"""Filters in the words of Elasticsearch, as far as they can be said there.

What is said holds for every locus that meets the filter, whatever the kind of the field on the server: a text may be kept
whole or word by word, a number with fewer digits, a list as its elements. So a bound is always asked for with its end, a
text by `match`, which takes it apart as the server took the field apart, and nothing is asked by what a field is *not*.

Source: the Elasticsearch reference, "Query DSL".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nuncius.archives.paged.conditions import is_finite_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Fields that are known to be kept whole, and so can be asked for by `term`.
KEYWORDS = frozenset({
    "tags",
    "catalogs",
    "grav_wave_events",
    "properties.ztf_object_id",
    "properties.survey.lsst.dia_object_id",
    "properties.survey.lsst.ss_object_id",
})  # fmt: skip
_MOST_TERMS, _MOST_MATCHES = 10_000, 200  # the server's own limits are 65,536 and 1,024
_SCALARS = frozenset({"number", "string", "bool", "double", "int", "long", "decimal", "date"})
_LOWER, _UPPER = ("$gt", "$gte"), ("$lt", "$lte")
_OF_VALUES = frozenset({"$regex", "$mod", "$bitsAllSet", "$bitsAnySet", "$bitsAllClear", "$bitsAnyClear"})

Clause = dict[str, Any]


def search_of(clauses: Sequence[Clause]) -> dict[str, Any]:
    """Return the search that asks for the loci that meet all clauses.

    Examples
    --------
    >>> search_of([{"term": {"tags": "nuclear_transient"}}])
    {'query': {'bool': {'filter': [{'term': {'tags': 'nuclear_transient'}}]}}}
    """
    return {"query": {"bool": {"filter": list(clauses)}}} if clauses else {}


def clauses_of(condition: Mapping[str, Any]) -> list[Clause]:
    """Return clauses that every locus meets that meets a checked filter.

    Examples
    --------
    >>> clauses_of({"tags": "nuclear_transient", "properties.num_alerts": {"$gt": 5}, "ra": {"$lt": 10}})
    [{'term': {'tags': 'nuclear_transient'}}, {'range': {'properties.num_alerts': {'gte': 5}}}]
    """
    clauses: list[Clause] = []
    for path, wanted in condition.items():
        if path == "$and":
            clauses += [clause for part in wanted for clause in clauses_of(part)]
        elif path == "$or":
            parts = [clauses_of(part) for part in wanted]
            if all(parts):  # else one of them lets anything through
                clauses.append(_any([_all(part) for part in parts]))
        elif _is_known(path):
            clauses += _asked(path, wanted)
    return clauses


def _is_known(path: str) -> bool:
    """Tell whether the server knows a field by this name: a number in a path counts elements of a list for us alone."""
    return path in KEYWORDS or (
        path.startswith("properties.") and not any(name.isdecimal() for name in path.split("."))
    )


def _asked(path: str, wanted: Any) -> list[Clause]:
    if isinstance(wanted, re.Pattern):
        return [_there(path)]
    if not (isinstance(wanted, dict) and next(iter(wanted), "").startswith("$")):
        return _equal(path, wanted)
    clauses: list[Clause] = []
    for operator, operand in wanted.items():
        if operator == "$eq":
            clauses += _equal(path, operand)
        elif operator in {*_LOWER, *_UPPER}:
            clauses += _bound(path, "gte" if operator in _LOWER else "lte", operand)
        elif operator == "$in":
            clauses += _one_of(path, operand)
        elif operator == "$all":
            clauses += [clause for item in operand for clause in _equal(path, item)]
        elif operator in _OF_VALUES or (operator == "$type" and _SCALARS.issuperset(operand)):
            clauses.append(_there(path))
    return clauses


def _equal(path: str, value: Any) -> list[Clause]:
    if not (isinstance(value, (str, bool)) or is_finite_number(value)):
        return []
    if path in KEYWORDS:
        return [{"term": {path: value}}]
    # A text of nothing but signs has no words, and then must not match nothing.
    asked = {"query": value, "operator": "and", "lenient": True, "zero_terms_query": "all"}
    return [{"match": {path: asked}}]


def _bound(path: str, side: str, value: Any) -> list[Clause]:
    """Ask for a bound: of numbers alone, because the order of texts is the server's own."""
    if is_finite_number(value):
        # Each in a clause of its own: of a list, two elements may meet the two ends.
        return [{"range": {path: {side: value}}}]
    return [] if value is None else [_there(path)]


def _one_of(path: str, values: list[Any]) -> list[Clause]:
    parts = [_equal(path, value) for value in values]
    if not parts or not all(parts):
        return []
    if path in KEYWORDS:
        return [{"terms": {path: values}}] if len(values) <= _MOST_TERMS else [_there(path)]
    return [_any([_all(part) for part in parts])] if len(parts) <= _MOST_MATCHES else [_there(path)]


def _there(path: str) -> Clause:
    return {"exists": {"field": path}}


def _all(clauses: list[Clause]) -> Clause:
    return clauses[0] if len(clauses) == 1 else {"bool": {"filter": clauses}}


def _any(clauses: list[Clause]) -> Clause:
    return clauses[0] if len(clauses) == 1 else {"bool": {"should": clauses, "minimum_should_match": 1}}
