"""The stages that read other catalogs, run pipelines within the pipeline, or measure distances.

Source: the MongoDB manual, "$lookup", "$unionWith", "$facet" and "$geoNear".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.bounds import in_time
from nuncius.archives.language.expressions import check_expression
from nuncius.archives.language.filters import check_filter
from nuncius.archives.language.functions.objects import check_name
from nuncius.archives.language.geo import EARTH_RADIUS_M, geo_region, sorted_by_distance
from nuncius.archives.language.matching import matches
from nuncius.archives.language.stages import (
    Stage,
    field_name,
    field_path,
    known_names,
    with_value,
)
from nuncius.archives.language.values import (
    MISSING,
    each,
    found,
    has_operators,
    is_number,
    order_key,
    plain,
)
from nuncius.errors import FilterError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nuncius.archives.language.stages import (
        Checking,
        Documents,
        Running,
    )
    from nuncius.archives.language.values import (
        Document,
    )

_FIRST_BATCH, _LARGEST_BATCH = 8, 512
_NOT_IN_FACET = ("$facet", "$geoNear")


# Other catalogs ------------------------------------------------------------------------------------------------------


def _catalog_name(spec: Any, place: str) -> str:
    if not isinstance(spec, str) or not spec or spec.startswith("$"):
        raise FilterError(f"{place} takes the name of a catalog, not {spec!r}", position=place)
    return spec


def _check_lookup(spec: Any, place: str, checking: Checking) -> dict[str, Any]:
    known_names(spec, place, ("from", "as"), ("localField", "foreignField", "let", "pipeline"))
    checked: dict[str, Any] = {"from": _catalog_name(spec["from"], f"{place}['from']")}
    if ("localField" in spec) != ("foreignField" in spec):
        raise FilterError(f"{place}: localField and foreignField go together", position=place)
    if "localField" not in spec and "pipeline" not in spec:
        raise FilterError(f"{place} takes localField and foreignField, or a pipeline", position=place)
    for name in ("localField", "foreignField"):
        if name in spec:
            checked[name] = field_path(spec[name], f"{place}[{name!r}]")
    names = checking.names
    if "let" in spec:
        if not isinstance(spec["let"], Mapping) or "pipeline" not in spec:
            raise FilterError(
                f"{place}['let'] is a mapping of names to expressions, for a pipeline",
                position=f"{place}['let']",
            )
        checked["let"] = {
            check_name(name, f"{place}['let']"): check_expression(item, f"{place}['let'][{name!r}]", names)
            for name, item in spec["let"].items()
        }
        names |= checked["let"].keys()
    if "pipeline" in spec:
        checked["pipeline"] = checking.inner(spec["pipeline"], f"{place}['pipeline']", names)
    checked["as"] = field_path(spec["as"], f"{place}['as']")
    return checked


def _lookup(documents: Documents, spec: Any, running: Running) -> Iterator[Document]:
    path = spec["as"].split(".")
    joined = _joined(documents, spec, running)
    for document, others in joined:
        yield with_value(document, path, others)


def _joined(
    documents: Documents, spec: Mapping[str, Any], running: Running
) -> Iterator[tuple[Document, list[Document]]]:
    pipeline = spec.get("pipeline", [])
    if "localField" in spec:
        for document, equals in _equal_ones(documents, spec, running):
            yield document, _within(equals, pipeline, spec, document, running) if pipeline else equals
        return
    others: list[Document] | None = None
    for document in documents:
        if others is None:
            others = list(_other(spec["from"], _leading(pipeline), running))
            if not spec.get("let"):  # the same for each document
                others, pipeline = _within(others, pipeline, spec, document, running), []
        yield document, _within(others, pipeline, spec, document, running)


def _within(
    others: list[Document], pipeline: list[Any], spec: Mapping[str, Any], document: Document, running: Running
) -> list[Document]:
    scope = running.scope(document)
    defined = {name: scope.value(item) for name, item in spec.get("let", {}).items()}
    return list(running.run(others, pipeline, {**running.variables, **defined}))


def _leading(pipeline: list[Any]) -> Mapping[str, Any]:
    """Return the filter that a pipeline begins with, as far as it does not depend on variables."""
    condition = pipeline[0].get("$match", {}) if pipeline else {}
    return {} if _has_expression(condition) else condition


def _has_expression(condition: Any) -> bool:
    if isinstance(condition, Mapping):
        return "$expr" in condition or any(map(_has_expression, condition.values()))
    return isinstance(condition, list) and any(map(_has_expression, condition))


def _other(catalog: str, condition: Mapping[str, Any], running: Running) -> Iterable[Document]:
    """Give documents of another catalog: at least those that meet a filter."""
    if running.select is not None:
        return in_time(running.select(catalog, condition))
    if running.lookup is None:
        raise UnsupportedError(
            f"no other catalog can be read here, and {catalog!r} is asked for", position=catalog
        )
    return in_time(running.lookup(catalog))


def _equal_ones(
    documents: Documents, spec: Mapping[str, Any], running: Running
) -> Iterator[tuple[Document, list[Document]]]:
    """Give each document with those of the other catalog that have an equal value."""
    local, foreign = spec["localField"].split("."), spec["foreignField"].split(".")
    remaining, size = iter(documents), _FIRST_BATCH
    index: _Index | None = None
    while batch := list(islice(remaining, size)):
        wanted = [_values(document, local) for document in batch]
        if index is None or running.select is not None:
            values = [value for some in wanted for value in some]
            narrow = {} if any(map(has_operators, values)) else {spec["foreignField"]: {"$in": values}}
            index = _Index(_other(spec["from"], narrow, running), foreign)
        for document, values in zip(batch, wanted, strict=True):
            yield document, index.having(values)
        size = min(2 * size, _LARGEST_BATCH)


def _values(document: Document, path: list[str]) -> list[Any]:
    """Return what a document is joined by: the values at a path, elements of arrays; null where there are none."""
    values = found(document, path)
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [item for item in flat if item is not MISSING] or [None]


class _Index:
    """Documents by the values of a field."""

    def __init__(self, documents: Iterable[Document], path: list[str]) -> None:
        self._documents = list(documents)
        self._places: dict[Any, list[int]] = {}
        for place, document in enumerate(self._documents):
            for key in {
                order_key(None if value is MISSING else value) for value in each(found(document, path))
            }:
                self._places.setdefault(key, []).append(place)

    def having(self, values: list[Any]) -> list[Document]:
        """Return the documents that have one of some values, in their order."""
        places = {place for value in values for place in self._places.get(order_key(value), ())}
        return [self._documents[place] for place in sorted(places)]


def _check_union(spec: Any, place: str, checking: Checking) -> dict[str, Any]:
    options = {"coll": spec} if isinstance(spec, str) else spec
    known_names(options, place, ("coll",), ("pipeline",))
    checked: dict[str, Any] = {"coll": _catalog_name(options["coll"], f"{place}['coll']")}
    if "pipeline" in options:
        checked["pipeline"] = checking.inner(options["pipeline"], f"{place}['pipeline']", checking.names)
    return checked


def _union(documents: Documents, spec: Any, running: Running) -> Iterator[Document]:
    def others() -> Iterator[Document]:
        pipeline = spec.get("pipeline", [])
        yield from running.run(_other(spec["coll"], _leading(pipeline), running), pipeline, running.variables)

    return chain(documents, others())


# Pipelines side by side ----------------------------------------------------------------------------------------------


def _check_facet(spec: Any, place: str, checking: Checking) -> dict[str, Any]:
    if not isinstance(spec, Mapping) or not spec:
        raise FilterError(f"{place} takes a mapping of names to pipelines", position=place)
    checked = {}
    for name, pipeline in spec.items():
        where = f"{place}[{name!r}]"
        stages = checking.inner(pipeline, where, checking.names)
        for index, stage in enumerate(stages):
            forbidden = next((other for other in _NOT_IN_FACET if other in stage), None)
            if forbidden:
                raise FilterError(
                    f"{where}[{index}]: {forbidden} can't stand in $facet", position=f"{where}[{index}]"
                )
        checked[field_name(name, where)] = stages
    return checked


def _facet(documents: Documents, spec: Any, running: Running) -> Iterator[Document]:
    kept = list(documents)
    yield {name: list(running.run(kept, pipeline, running.variables)) for name, pipeline in spec.items()}


# Distances -----------------------------------------------------------------------------------------------------------


def _check_geo_near(spec: Any, place: str, checking: Checking) -> dict[str, Any]:
    optional = (
        "key",
        "maxDistance",
        "minDistance",
        "query",
        "distanceMultiplier",
        "includeLocs",
        "spherical",
    )
    known_names(spec, place, ("near", "distanceField"), optional)
    if not checking.first:
        raise FilterError(f"{place}: $geoNear is the first stage of a pipeline", position=place)
    if spec.get("spherical", True) is not True:
        raise UnsupportedError(f"{place}['spherical']: the sky is not flat", position=f"{place}['spherical']")
    checked = {
        "near": plain(spec["near"], f"{place}['near']"),
        "spherical": True,
        "key": field_path(spec.get("key", "coordinates.radec_geojson"), f"{place}['key']"),
    }
    for name in ("distanceField", "includeLocs"):
        if name in spec:
            checked[name] = field_path(spec[name], f"{place}[{name!r}]")
    for name in ("maxDistance", "minDistance", "distanceMultiplier"):
        if name in spec:
            value = plain(spec[name], f"{place}[{name!r}]")
            if not is_number(value) or not 0 <= value < math.inf:
                raise FilterError(
                    f"{place}[{name!r}] is a number that is not negative", position=f"{place}[{name!r}]"
                )
            checked[name] = value
    if "query" in spec:
        checked["query"] = check_filter(
            spec["query"], f"{place}['query']", near=False, variables=checking.names
        )
    near_region(checked, f"{place}['near']")
    return checked


def near_region(spec: Mapping[str, Any], place: str = "$geoNear") -> Any:
    """Return the cone of a checked `$geoNear`: its centre, its farthest and its least distance."""
    metres = 1.0 if isinstance(spec["near"], Mapping) else EARTH_RADIUS_M  # of a plain pair: radians
    point = spec["near"] if metres == 1.0 else {"type": "Point", "coordinates": spec["near"]}
    limits = {f"${name}": spec[name] * metres for name in ("maxDistance", "minDistance") if name in spec}
    return geo_region("$nearSphere", {"$geometry": point, **limits}, place)


def _geo_near(documents: Documents, spec: Any, running: Running) -> Iterator[Document]:
    centre = near_region({"near": spec["near"]})
    in_metres = isinstance(spec["near"], Mapping)
    factor = (EARTH_RADIUS_M if in_metres else 1.0) * spec.get("distanceMultiplier", 1)
    wanted = (
        document for document in documents if matches(document, spec.get("query", {}), running.variables)
    )
    found_ones = sorted_by_distance(wanted, spec["key"], near_region(spec), (centre.ra, centre.dec))
    for document, arcsec, (ra, dec) in found_ones:
        changed = with_value(document, spec["distanceField"].split("."), math.radians(arcsec / 3600) * factor)
        if "includeLocs" in spec:
            place = {"type": "Point", "coordinates": [ra - 180.0, dec]}
            changed = with_value(changed, spec["includeLocs"].split("."), place)
        yield changed


JOINS: dict[str, Stage] = {
    "$lookup": Stage("with the documents of another catalog that belong to each", _check_lookup, _lookup),
    "$unionWith": Stage("the documents of another catalog after these", _check_union, _union),
    "$facet": Stage("one document with the results of several pipelines", _check_facet, _facet),
    "$geoNear": Stage(
        "the documents by their distance from a position; the first stage only",
        _check_geo_near,
        _geo_near,
    ),
}
