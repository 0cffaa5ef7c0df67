"""Pipelines: documents through one stage after the other, as MongoDB's aggregate has them.

Only stages that read exist. Documents pass one at a time where a stage allows it; a sort that a limit follows keeps only
as many as are wanted, and a group keeps its accumulators.

Source: the MongoDB manual, "Aggregation Pipeline".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.bounds import in_time
from nuncius.archives.language.expressions import too_deep
from nuncius.archives.language.grouping import GROUPING
from nuncius.archives.language.joins import JOINS
from nuncius.archives.language.sorting import first_documents
from nuncius.archives.language.stages import Checking, Running
from nuncius.archives.language.steps import STEPS
from nuncius.archives.language.values import (
    MISSING,
    check_depth,
    check_path,
    found,
    kind_of,
    order_key,
    unknown,
)
from nuncius.errors import FilterError, ForbiddenError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nuncius.archives.language.stages import Lookup, Select, Stage
    from nuncius.archives.language.values import Document

MAX_STAGES = 100  # with those of inner pipelines
ALL_STAGES: Mapping[str, Stage] = {**STEPS, **GROUPING, **JOINS}
WRITING = frozenset({"$out", "$merge"})
_UNSUPPORTED = frozenset({
    "$graphLookup", "$setWindowFields", "$redact", "$densify", "$fill", "$documents", "$search", "$searchMeta",
    "$vectorSearch", "$changeStream", "$collStats", "$indexStats", "$currentOp", "$listSessions", "$planCacheStats",
})  # fmt: skip


def check_pipeline(
    stages: Any, place: str = "pipeline", *, variables: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Check a pipeline and return it with plain values in it.

    Parameters
    ----------
    stages : list of mapping
        The stages, each a mapping with one key.
    place : str, optional
        What it is called in messages.
    variables : iterable of str, optional
        Names of variables that its expressions may use.

    Raises
    ------
    FilterError
        If a stage is unknown or means nothing; `position` is the place in it.
    ForbiddenError
        If a stage writes, or brings code to run, at any depth.
    UnsupportedError
        If a stage is one of MongoDB's that no archive here has.

    Examples
    --------
    >>> check_pipeline([{"$match": {"candidate.rb": {"$gt": 0.5}}}, {"$count": "n"}])
    [{'$match': {'candidate.rb': {'$gt': 0.5}}}, {'$count': 'n'}]
    """
    check_depth(stages, place)
    checked = _check(stages, place, frozenset(variables), outermost=True)
    number = _number(checked)
    if number > MAX_STAGES:
        raise FilterError(f"{place} has {number} stages, more than {MAX_STAGES}", position=place)
    return checked


def _check(
    stages: Any, place: str, names: frozenset[str], *, outermost: bool = False
) -> list[dict[str, Any]]:
    if not isinstance(stages, (list, tuple)):
        raise FilterError(f"{place} is a list of stages, not {kind_of(stages)}", position=place)
    checked = []
    for index, stage in enumerate(stages):
        where = f"{place}[{index}]"
        if not isinstance(stage, Mapping) or len(stage) != 1:
            raise FilterError(
                f"{where} is a stage: a mapping with one key, such as {{'$match': …}}", position=where
            )
        name, spec = next(iter(stage.items()))
        here = f"{where}[{name!r}]"
        checking = Checking(names, _check, first=outermost and index == 0)
        checked.append({name: _known(name, here).check(spec, here, checking)})
    return checked


def _known(name: Any, place: str) -> Stage:
    if name in WRITING:
        raise ForbiddenError(f"{place}: a pipeline here never writes; {name} is refused", position=place)
    if name in _UNSUPPORTED:
        raise UnsupportedError(f"{place}: the stage {name} is not supported", position=place)
    if name not in ALL_STAGES:
        raise unknown(str(name), place, ALL_STAGES, "is no stage")
    return ALL_STAGES[name]


def _number(stages: list[dict[str, Any]]) -> int:
    return len(stages) + sum(_number(inner) for inner in _inner_pipelines(stages))


def _inner_pipelines(stages: Iterable[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for stage in stages:
        for name, spec in stage.items():
            if name == "$facet":
                yield from spec.values()
            elif name in {"$lookup", "$unionWith"} and "pipeline" in spec:
                yield spec["pipeline"]


def collections_of(pipeline: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the other catalogs that a checked pipeline reads, at any depth.

    Examples
    --------
    >>> collections_of([{"$unionWith": {"coll": "ZTF_alerts"}}])
    {'ZTF_alerts'}
    """
    stages = list(pipeline)
    names = {stage["$lookup"]["from"] for stage in stages if "$lookup" in stage}
    names |= {stage["$unionWith"]["coll"] for stage in stages if "$unionWith" in stage}
    return names.union(*map(collections_of, _inner_pipelines(stages)))


# Running -------------------------------------------------------------------------------------------------------------


def run_pipeline(
    documents: Iterable[Document],
    stages: Iterable[Mapping[str, Any]],
    lookup: Lookup | None = None,
    *,
    select: Select | None = None,
) -> Iterator[Document]:
    """Give what a checked pipeline makes of documents.

    Parameters
    ----------
    documents : iterable of dict
        The documents; they are not changed.
    stages : list of mapping
        What `check_pipeline` returned.
    lookup : callable, optional
        Called with the name of another catalog, gives all its documents, for `$lookup` and `$unionWith`.
    select : callable, optional
        Called with that name and a checked filter, gives the documents that meet it, and perhaps more. Given instead
        of `lookup` it spares a `$lookup` from reading the whole catalog.

    Raises
    ------
    FilterError
        If an expression can't work on a value of a document.
    UnsupportedError
        If another catalog is asked for and there is neither `lookup` nor `select`.
    DeadlineError
        If it takes longer than `bounded` allows.

    Examples
    --------
    >>> list(run_pipeline([{"a": 1}, {"a": 2}], [{"$group": {"_id": None, "n": {"$sum": "$a"}}}]))
    [{'_id': None, 'n': 3}]
    """
    now = {"NOW": datetime.now(UTC)}

    def run(
        some: Iterable[Document], inner: Iterable[Mapping[str, Any]], variables: Mapping[str, Any]
    ) -> Iterator[Document]:
        return _run(some, list(inner), Running(variables, run, lookup, select))

    try:
        yield from run(documents, stages, now)
    except RecursionError as error:
        raise too_deep("pipeline") from error


def _run(
    documents: Iterable[Document], stages: list[Mapping[str, Any]], running: Running
) -> Iterator[Document]:
    index = 0
    while index < len(stages):
        wanted, after = _bounds(stages, index)
        name, spec = next(iter(stages[index].items()))
        documents = in_time(documents)  # between all stages: some make many documents of one
        if wanted is not None:
            documents = _first_sorted(documents, list(spec.items()), *wanted)
        else:
            documents = ALL_STAGES[name].run(documents, spec, running)
        index = after
    return iter(documents)


def _bounds(stages: list[Mapping[str, Any]], index: int) -> tuple[tuple[int, int] | None, int]:
    """Return what to skip and how many to take after a sort, if it is one that a limit follows, and the next stage."""
    if "$sort" not in stages[index]:
        return None, index + 1
    skip, after = 0, index + 1
    while after < len(stages) and "$skip" in stages[after]:
        skip += stages[after]["$skip"]
        after += 1
    if after < len(stages) and "$limit" in stages[after]:
        return (skip, stages[after]["$limit"]), after + 1
    return None, index + 1


def _first_sorted(
    documents: Iterable[Document], order: list[tuple[str, int]], skip: int, limit: int
) -> Iterator[Document]:
    yield from islice(first_documents(documents, order, skip + limit), skip, None)


def distinct_values(documents: Iterable[Document], field: str) -> list[Any]:
    """Return the values of a field, each once, in MongoDB's order; of an array its elements.

    Raises
    ------
    FilterError
        If it is no path.

    Examples
    --------
    >>> distinct_values([{"a": [3, 1]}, {"a": 1.0}, {}], "a")
    [1, 3]
    """
    path = check_path(field, "field").split(".")
    values: dict[Any, Any] = {}
    for document in documents:
        for value in found(document, path):
            for item in value if isinstance(value, list) else [value]:
                if item is not MISSING:
                    values.setdefault(order_key(item), item)
    return [values[key] for key in sorted(values)]
