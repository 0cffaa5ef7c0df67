"""The stages that choose documents or change them, one at a time.

Source: the MongoDB manual, "Aggregation Stages".
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.expressions import at_path, check_expression
from nuncius.archives.language.filters import check_filter
from nuncius.archives.language.functions.base import failed, named_type
from nuncius.archives.language.matching import matches
from nuncius.archives.language.projections import Computed, Projection, tree_of, with_computed
from nuncius.archives.language.sorting import check_sort, sort_documents
from nuncius.archives.language.stages import (
    Stage,
    field_path,
    known_names,
    whole_number,
    with_value,
)
from nuncius.archives.language.values import MISSING, check_path, has_operators
from nuncius.errors import FilterError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuncius.archives.language.stages import Checking, Documents, Running
    from nuncius.archives.language.values import Document

# Choosing documents --------------------------------------------------------------------------------------------------


def _check_match(spec: Any, place: str, checking: Checking) -> Any:
    if not isinstance(spec, Mapping):
        raise FilterError(f"{place} takes a filter", position=place)
    return check_filter(spec, place, near=False, variables=checking.names)


def _match(documents: Documents, spec: Any, running: Running) -> Iterator[Document]:
    return (document for document in documents if matches(document, spec, running.variables))


def _check_sort(spec: Any, place: str, _: Checking) -> dict[str, int]:
    if not isinstance(spec, Mapping) or not spec:
        raise FilterError(f"{place} takes a mapping of fields to 1 or -1", position=place)
    if any(isinstance(value, Mapping) and "$meta" in value for value in spec.values()):
        raise UnsupportedError(f"{place}: $meta is not supported: there are no text scores", position=place)
    try:
        return dict(check_sort(spec))
    except FilterError as error:
        raise FilterError(f"{place}: {error.message}", position=place) from error


def _sort(documents: Documents, spec: Any, _: Running) -> Iterator[Document]:
    yield from sort_documents(documents, list(spec.items()))


def _sample(documents: Documents, spec: Any, _: Running) -> Iterator[Document]:
    size, chosen = spec["size"], []
    for number, document in enumerate(documents):
        if number < size:
            chosen.append(document)
            continue
        place = random.randint(0, number)  # noqa: S311 - a sample, not a secret (Vitter 1985, algorithm R)
        if place < size:
            chosen[place] = document
    random.shuffle(chosen)
    yield from chosen


def _check_sample(spec: Any, place: str, _: Checking) -> dict[str, int]:
    known_names(spec, place, ("size",))
    return {"size": whole_number(spec["size"], f"{place}['size']", 1)}


# Changing documents --------------------------------------------------------------------------------------------------


def _check_project(spec: Any, place: str, checking: Checking) -> Any:
    if not isinstance(spec, Mapping) or not spec:
        raise FilterError(f"{place} takes at least one field", position=place)
    return Projection(spec, place=place, stage=True, variables=checking.names).fields


def _project(documents: Documents, spec: Any, running: Running) -> Iterator[Document]:
    projection = Projection(spec, stage=True, variables=running.variables)
    return (projection.apply(document, running.variables) for document in documents)


def _check_add(spec: Any, place: str, checking: Checking) -> dict[str, Any]:
    if not isinstance(spec, Mapping) or not spec:
        raise FilterError(f"{place} takes at least one field", position=place)
    checked = {}
    for name, value in spec.items():
        where = f"{place}[{name!r}]"
        if isinstance(value, Mapping) and value and not has_operators(value):
            field_path(name, where)
            checked[name] = _check_add(value, where, checking)
        else:
            checked[field_path(name, where)] = check_expression(value, where, checking.names)
    tree_of(_flat(checked), place)
    return checked


def _flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write fields of documents that are to be set as dotted paths."""
    flat: dict[str, Any] = {}
    for name, value in spec.items():
        if isinstance(value, Mapping) and value and not has_operators(value):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = Computed(value)
    return flat


def _add(documents: Documents, spec: Any, running: Running) -> Iterator[Document]:
    tree = tree_of(_flat(spec), "$addFields")
    return (with_computed(document, tree, running.scope(document)) for document in documents)


def _check_unset(spec: Any, place: str, _: Checking) -> list[str]:
    names = [spec] if isinstance(spec, str) else spec
    if not isinstance(names, (list, tuple)) or not names:
        raise FilterError(f"{place} takes a field, or a list of fields", position=place)
    checked = [field_path(name, f"{place}[{index}]") for index, name in enumerate(names)]
    tree_of(dict.fromkeys(checked, 0), place)
    return checked


def _unset(documents: Documents, spec: Any, _: Running) -> Iterator[Document]:
    projection = Projection(dict.fromkeys(spec, 0))
    return (projection.apply(document) for document in documents)


def _check_replace(spec: Any, place: str, checking: Checking) -> Any:
    known_names(spec, place, ("newRoot",))
    return {"newRoot": check_expression(spec["newRoot"], f"{place}['newRoot']", checking.names)}


def _replace(documents: Documents, spec: Any, running: Running) -> Iterator[Document]:
    for document in documents:
        root = running.scope(document).value(spec)
        if not isinstance(root, Mapping):
            raise failed(
                "$replaceRoot", f"takes a document, not {named_type(root)}; $mergeObjects gives one always"
            )
        yield dict(root)


def _check_unwind(spec: Any, place: str, _: Checking) -> dict[str, Any]:
    options = {"path": spec} if isinstance(spec, str) else spec
    known_names(options, place, ("path",), ("includeArrayIndex", "preserveNullAndEmptyArrays"))
    path = options["path"]
    if not isinstance(path, str) or not path.startswith("$") or path.startswith("$$") or len(path) < 2:
        raise FilterError(
            f"{place}: the path begins with $, such as '$prv_candidates', not {path!r}", position=place
        )
    check_path(path[1:], place)
    if "includeArrayIndex" in options:
        field_path(options["includeArrayIndex"], f"{place}['includeArrayIndex']")
    if not isinstance(options.get("preserveNullAndEmptyArrays", False), bool):
        raise FilterError(
            f"{place}['preserveNullAndEmptyArrays'] is true or false",
            position=f"{place}['preserveNullAndEmptyArrays']",
        )
    return dict(options)


def _unwind(documents: Documents, spec: Any, _: Running) -> Iterator[Document]:
    names = spec["path"][1:].split(".")
    index_path = spec.get("includeArrayIndex")
    preserve = spec.get("preserveNullAndEmptyArrays", False)
    for document in documents:
        parent = at_path(document, names[:-1])
        value = parent.get(names[-1], MISSING) if isinstance(parent, Mapping) else MISSING
        numbered: list[tuple[int | None, Any]]
        if isinstance(value, list):
            numbered = list(enumerate(value))
            if not value and preserve:
                numbered = [(None, MISSING)]
        elif value is None or value is MISSING:
            numbered = [(None, value)] if preserve else []
        else:
            numbered = [(None, value)]
        for index, item in numbered:
            changed = with_value(document, names, item) if isinstance(parent, Mapping) else dict(document)
            yield with_value(changed, index_path.split("."), index) if index_path else changed


def _check_expression(spec: Any, place: str, checking: Checking) -> Any:
    return check_expression(spec, place, checking.names)


STEPS: dict[str, Stage] = {
    "$match": Stage("the documents that meet a filter", _check_match, _match),
    "$sort": Stage("the documents sorted by fields", _check_sort, _sort),
    "$skip": Stage(
        "without the first ones",
        lambda spec, place, _: whole_number(spec, place, 0),
        lambda documents, spec, _: islice(documents, spec, None),
    ),
    "$limit": Stage(
        "the first ones",
        lambda spec, place, _: whole_number(spec, place, 1),
        lambda documents, spec, _: islice(documents, spec),
    ),
    "$sample": Stage("some at random", _check_sample, _sample),
    "$project": Stage("some fields, and computed ones", _check_project, _project),
    "$addFields": Stage("with computed fields added", _check_add, _add),
    "$set": Stage("as $addFields", _check_add, _add),
    "$unset": Stage("without some fields", _check_unset, _unset),
    "$replaceRoot": Stage(
        "a document of each instead of it",
        _check_replace,
        lambda documents, spec, running: _replace(documents, spec["newRoot"], running),
    ),
    "$replaceWith": Stage("as $replaceRoot", _check_expression, _replace),
    "$unwind": Stage("a document for each element of an array", _check_unwind, _unwind),
}
