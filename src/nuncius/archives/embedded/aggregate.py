"""Pipelines: the stages at the beginning that SQL can answer, and the language for those after them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nuncius.archives.documents import survey_of_catalog
from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.fields import POSITION
from nuncius.archives.embedded.find import count, find
from nuncius.archives.embedded.group import grouped
from nuncius.archives.embedded.histories import histories, is_histories
from nuncius.archives.embedded.reading import read_numbered, select
from nuncius.archives.embedded.rows import WHOLE_DOCUMENTS
from nuncius.archives.language import Projection, collections_of, run_pipeline, sort_documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from nuncius.archives.embedded.database import Database
    from nuncius.archives.language import Document

# After these nothing is left of the documents but what they name.
_NARROWING = frozenset(
    {"$group", "$count", "$sortByCount", "$bucket", "$bucketAuto", "$replaceRoot", "$replaceWith", "$facet"}
)


def aggregate(database: Database, catalog: str, pipeline: Sequence[Mapping[str, Any]]) -> Iterator[Document]:
    """Give what a checked pipeline makes of the documents of a catalog.

    Parameters
    ----------
    database : Database
        The archive.
    catalog : str
        Any catalog.
    pipeline : list of mapping
        What `check_pipeline` returned.
    """
    condition, rest = leading(pipeline)
    images = needed_images(pipeline, survey_of_catalog(catalog).cutout_fields)
    documents, rest = _begin(database, catalog, condition, rest, images)
    yield from run_pipeline(documents, rest, select=_others(database, pipeline))


def leading(pipeline: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """Return the filter that a pipeline begins with, and the stages that are not part of it."""
    matches: list[Any] = []
    rest = list(pipeline)
    while rest and "$match" in rest[0] and "$$" not in repr(rest[0]):  # the time, for one, is the pipeline's
        matches.append(rest.pop(0)["$match"])
    if not matches and rest and "$geoNear" in rest[0]:
        matches.append(_around(rest[0]["$geoNear"]))  # the stage itself stays: it sorts
    return (matches[0] if len(matches) == 1 else {"$and": matches} if matches else {}), rest


def pushed(stages: Sequence[Mapping[str, Any]]) -> int:
    """Return how many stages after the filter may run in SQL."""
    names = [next(iter(stage)) for stage in stages]
    if names[:1] in (["$count"], ["$group"], ["$sortByCount"]):
        return 1
    place = 0
    for name in ("$sort", "$skip", "$limit"):
        place += names[place : place + 1] == [name]
    return place


def needed_images(pipeline: Iterable[Mapping[str, Any]], fields: Sequence[str]) -> tuple[str, ...]:
    """Return the fields with images that a pipeline looks at, or lets through to its end."""
    stages = list(pipeline)
    return tuple(field for field in fields if _needs(stages, field))


def _needs(stages: Sequence[Mapping[str, Any]], field: str) -> bool:
    for stage in stages:
        name, spec = next(iter(stage.items()))
        if name == "$unset" and field in spec:
            return False
        if name == "$project" and spec.get(field, 1) in (0, False):
            return False
        if name == "$facet":
            return any(_needs(inner, field) for inner in spec.values())
        text = repr(spec)
        if field in text or any(whole in text for whole in WHOLE_DOCUMENTS):
            return True
        keeps = name == "$project" and any(bool(value) for key, value in spec.items() if key != "_id")
        if keeps or name in _NARROWING:
            return False
    return True


def _begin(
    database: Database,
    catalog: str,
    condition: dict[str, Any],
    stages: list[Mapping[str, Any]],
    images: tuple[str, ...],
) -> tuple[Iterable[Document], list[Mapping[str, Any]]]:
    """Run as many stages as SQL can; return what they give, and the stages that are left."""
    name: str
    spec: Any
    name, spec = next(iter(stages[0].items())) if stages else ("", {})
    of_histories = is_histories(catalog)
    if name == "$count":
        number = count(database, catalog, condition)
        return ([{spec: number}] if number else []), stages[1:]
    if name in {"$group", "$sortByCount"} and not of_histories:
        by_count = {"_id": spec, "count": {"$sum": 1}}
        groups = grouped(database, catalog, condition, by_count if name == "$sortByCount" else spec)
        if groups is not None:
            return (sort_documents(groups, [("count", -1)]) if name == "$sortByCount" else groups), stages[1:]
        return _read(database, catalog, condition, images), stages
    if name == "$sample" and not condition and not of_histories:
        return _sample(database, catalog, spec["size"], images), stages[1:]
    if of_histories:
        return histories(database, catalog, condition), stages
    bounds: dict[str, Any] = {}
    for bound in ("$sort", "$skip", "$limit"):
        if stages and bound in stages[0]:
            bounds[bound] = stages[0][bound]
            stages = stages[1:]
    order = list(bounds.get("$sort", {}).items())
    rows = select(database, catalog, condition, order, bounds.get("$skip", 0), bounds.get("$limit"))
    return (row.read(database, catalog, images) for row in rows), stages


def _read(
    database: Database, catalog: str, condition: Mapping[str, Any], images: tuple[str, ...]
) -> Iterator[Document]:
    for row in select(database, catalog, condition):
        yield row.read(database, catalog, images)


def _sample(database: Database, catalog: str, size: int, images: tuple[str, ...]) -> Iterator[Document]:
    with database.errors():
        statement = f"SELECT id FROM {quoted(catalog)} ORDER BY random() LIMIT ?"
        numbers = [number for (number,) in database.connection.execute(statement, (min(size, 2**62),))]
    for row in read_numbered(database, catalog, numbers):
        yield row.read(database, catalog, images)


def _around(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filter that the documents of `$geoNear` meet: its query, and a circle that is a little too large."""
    from nuncius.archives.language import check_filter
    from nuncius.archives.language.joins import near_region

    parts = [spec["query"]] if spec.get("query") and "$$" not in repr(spec["query"]) else []
    if spec["key"] == POSITION and "maxDistance" in spec:
        cone = near_region(spec)
        radius = math.radians(getattr(cone, "radius_arcsec", 0.0) / 3600) * (1 + 1e-9) + 1e-12
        if hasattr(cone, "ra") and radius < math.pi:
            circle = {"$geoWithin": {"$centerSphere": [[cone.ra - 180.0, cone.dec], radius]}}
            parts.append(check_filter({POSITION: circle}))
    return {"$and": parts} if parts else {}


def _others(
    database: Database, pipeline: Iterable[Mapping[str, Any]]
) -> Callable[[str, Mapping[str, Any]], Iterator[Document]]:
    """Return how the pipeline reads other catalogs: with the images that it looks at."""
    kept = {name: _kept(pipeline, name) for name in collections_of(pipeline)}

    def other(name: str, condition: Mapping[str, Any]) -> Iterator[Document]:
        return find(database, name, condition, kept[name])

    return other


def _kept(stages: Iterable[Mapping[str, Any]], catalog: str) -> Projection:
    fields = survey_of_catalog(catalog).cutout_fields
    needed = {field for inner in _readings(stages, catalog) for field in needed_images(inner, fields)}
    return Projection(dict.fromkeys((field for field in fields if field not in needed), 0) or None)


def _readings(stages: Iterable[Mapping[str, Any]], catalog: str) -> Iterator[list[Mapping[str, Any]]]:
    """Give the pipelines through which a catalog is read, at any depth."""
    for stage in stages:
        for name, spec in stage.items():
            if name == "$facet":
                for inner in spec.values():
                    yield from _readings(inner, catalog)
            elif name in {"$lookup", "$unionWith"}:
                inner = spec.get("pipeline", [])
                if spec.get("from", spec.get("coll")) == catalog:
                    yield inner
                yield from _readings(inner, catalog)
