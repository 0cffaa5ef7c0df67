"""Groups: documents put together by the value of an expression, each group as its accumulators and not its documents.

Source: the MongoDB manual, "$group", "$bucket", "$bucketAuto" and "Accumulators".
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from nuncius.archives.language import accumulators as acc
from nuncius.archives.language.expressions import CODE, DocumentScope, check_expression
from nuncius.archives.language.functions.base import failed, named_type
from nuncius.archives.language.functions.table import fractions
from nuncius.archives.language.sorting import check_sort, sort_documents
from nuncius.archives.language.stages import Stage, field_name, known_names, whole_number
from nuncius.archives.language.values import MISSING, has_operators, order_key, plain, unknown
from nuncius.errors import FilterError, ForbiddenError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nuncius.archives.language.stages import Checking, Documents, Running
    from nuncius.archives.language.values import Document


@dataclass(frozen=True, slots=True)
class Accumulation:
    """An operator of `$group`.

    Parameters
    ----------
    meaning : str
        One line of it.
    make : callable
        Makes an accumulator of the arguments, in the scope of the group's `_id`.
    value : callable
        Gives what the accumulator takes, of the arguments in the scope of a document.
    names : tuple of str
        The arguments, if they are given by name.
    single : bool
        Whether only the first of an array of results is wanted.
    """

    meaning: str
    make: Callable[[str, Any, DocumentScope], acc.Accumulator]
    value: Callable[[Any, DocumentScope], Any] = lambda argument, scope: scope.value(argument)
    names: tuple[str, ...] = ()
    single: bool = False


def _simple(meaning: str, make: Callable[[], acc.Accumulator]) -> Accumulation:
    return Accumulation(meaning, lambda *_: make())


def _several(meaning: str) -> Accumulation:
    return Accumulation(
        meaning,
        lambda operator, argument, scope: acc.Some(operator, scope.value(argument["n"])),
        lambda argument, scope: scope.value(argument["input"]),
        ("input", "n"),
    )


def _top(meaning: str, *, several: bool) -> Accumulation:
    return Accumulation(
        meaning,
        lambda operator, argument, scope: acc.Top(
            operator, argument["sortBy"], scope.value(argument["n"]) if several else 1
        ),
        lambda argument, scope: (scope.root, scope.value(argument["output"])),
        ("output", "sortBy", "n") if several else ("output", "sortBy"),
        single=not several,
    )


def _quantiles(meaning: str, *names: str) -> Accumulation:
    return Accumulation(
        meaning,
        lambda operator, argument, scope: acc.Quantiles(
            fractions(operator, scope.value(argument["p"])) if "p" in argument else [0.5]
        ),
        lambda argument, scope: scope.value(argument["input"]),
        names,
        single="p" not in names,
    )


ACCUMULATIONS: dict[str, Accumulation] = {
    "$sum": _simple("the sum of the numbers", acc.Sum),
    "$avg": _simple("the mean of the numbers", acc.Average),
    "$min": _simple("the smallest value", acc.Minimum),
    "$max": _simple("the largest value", acc.Maximum),
    "$first": _simple("the value of the first document", acc.First),
    "$last": _simple("the value of the last document", acc.Last),
    "$push": _simple("all values in an array", acc.Push),
    "$addToSet": _simple("each value once, in an array", acc.AddToSet),
    "$count": Accumulation("the number of documents: {}", lambda *_: acc.Count(), lambda *_: None),
    "$stdDevPop": _simple("the standard deviation of a population", acc.DeviationOfAll),
    "$stdDevSamp": _simple("the standard deviation of a sample", acc.DeviationOfSample),
    "$mergeObjects": _simple("the documents put together; the last has the say", acc.Merge),
    "$firstN": _several("the values of the first n documents"),
    "$lastN": _several("the values of the last n documents"),
    "$minN": _several("the n smallest values"),
    "$maxN": _several("the n largest values"),
    "$top": _top("the output of the document that a sort puts first", several=False),
    "$bottom": _top("the output of the document that a sort puts last", several=False),
    "$topN": _top("the outputs of the first n documents of a sort", several=True),
    "$bottomN": _top("the outputs of the last n documents of a sort", several=True),
    "$median": _quantiles("the number in the middle", "input", "method"),
    "$percentile": _quantiles(
        "the numbers below which fractions p of all numbers are", "input", "p", "method"
    ),
}


# Checking ------------------------------------------------------------------------------------------------------------


def check_outputs(outputs: Any, place: str, names: frozenset[str]) -> dict[str, Any]:
    """Check the fields of a group, each of one accumulator.

    Raises
    ------
    FilterError
        If one is none.
    ForbiddenError
        If it brings code to run.
    """
    if not isinstance(outputs, Mapping):
        raise FilterError(f"{place} is a mapping of fields to accumulators", position=place)
    checked = {}
    for field, output in outputs.items():
        where = f"{place}[{field!r}]"
        if not isinstance(field, str) or not field or "." in field or field.startswith("$"):
            raise FilterError(f"{where}: a field of a group has a name without dots and $", position=where)
        if not isinstance(output, Mapping) or len(output) != 1:
            raise FilterError(f"{where} is one accumulator, such as {{'$sum': 1}}", position=where)
        operator, argument = next(iter(output.items()))
        checked[field] = {operator: _check_accumulation(operator, argument, f"{where}[{operator!r}]", names)}
    return checked


def _check_accumulation(operator: Any, argument: Any, place: str, names: frozenset[str]) -> Any:
    if operator in CODE:
        raise ForbiddenError(f"{place}: an archive runs no code; {operator} is refused", position=place)
    if operator not in ACCUMULATIONS:
        raise unknown(str(operator), place, ACCUMULATIONS, "is no accumulator")
    if operator == "$count":
        if argument != {}:
            raise FilterError(f"{place} takes {{}}", position=place)
        return {}
    known = ACCUMULATIONS[operator].names
    if not known:
        return check_expression(argument, place, names)
    if not isinstance(argument, Mapping):
        raise FilterError(f"{place} takes {', '.join(known)} by name", position=place)
    for name in argument:
        if name not in known:
            raise unknown(str(name), f"{place}[{name!r}]", known, "is no argument")
    for name in known:
        if name not in argument:
            raise FilterError(f"{place}: the argument {name!r} is missing", position=place)
    return {name: _check_argument(name, item, f"{place}[{name!r}]", names) for name, item in argument.items()}


def _check_argument(name: str, item: Any, place: str, names: frozenset[str]) -> Any:
    if name == "sortBy":
        if not isinstance(item, Mapping) or not item:
            raise FilterError(f"{place} is a mapping of fields to 1 or -1", position=place)
        return dict(check_sort(item))
    if name == "method":
        if item != "approximate":
            raise FilterError(f"{place} is 'approximate' (the answer is exact here)", position=place)
        return item
    return check_expression(item, place, names)


# Grouping ------------------------------------------------------------------------------------------------------------


class Groups:
    """Groups in the order in which they came up.

    Parameters
    ----------
    outputs : mapping
        Checked fields, each of one accumulator.
    """

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        self._outputs = [
            (field, operator, argument, ACCUMULATIONS[operator])
            for field, output in outputs.items()
            for operator, argument in output.items()
        ]
        self._groups: dict[Any, tuple[Any, list[acc.Accumulator]]] = {}

    def add(self, identity: Any, scope: DocumentScope) -> None:
        """Add the document of a scope to a group."""
        key = order_key(identity)
        group = self._groups.get(key)
        if group is None:
            # How many are wanted may depend on the group.
            own = DocumentScope(identity if isinstance(identity, Mapping) else {}, scope.variables)
            group = (
                identity,
                [how.make(operator, argument, own) for _, operator, argument, how in self._outputs],
            )
            self._groups[key] = group
        for (_, _, argument, how), accumulator in zip(self._outputs, group[1], strict=True):
            accumulator.add(how.value(argument, scope))

    def results(self) -> Iterator[Document]:
        """Give a document for each group."""
        for identity, accumulators in self._groups.values():
            made = {"_id": identity}
            for (field, _, _, how), accumulator in zip(self._outputs, accumulators, strict=True):
                result = accumulator.result()
                if how.single:
                    result = result[0]
                made[field] = None if result is MISSING else result
            yield made


# Stages --------------------------------------------------------------------------------------------------------------


def _check_group(spec: Any, place: str, checking: Checking) -> dict[str, Any]:
    if not isinstance(spec, Mapping) or "_id" not in spec:
        raise FilterError(
            f"{place} takes {{'_id': what to group by, field: {{accumulator: …}}}}", position=place
        )
    outputs = {name: item for name, item in spec.items() if name != "_id"}
    return {
        "_id": check_expression(spec["_id"], f"{place}['_id']", checking.names),
        **check_outputs(outputs, place, checking.names),
    }


def _group(documents: Documents, spec: Any, running: Running) -> Iterator[Document]:
    groups = Groups({name: item for name, item in spec.items() if name != "_id"})
    for document in documents:
        scope = running.scope(document)
        identity = scope.value(spec["_id"])
        groups.add(None if identity is MISSING else identity, scope)
    yield from groups.results()


def _count(documents: Documents, spec: Any, _: Running) -> Iterator[Document]:
    number = sum(1 for _ in documents)
    if number:  # MongoDB has no document with 0
        yield {spec: number}


def _sort_by_count(documents: Documents, spec: Any, running: Running) -> Iterator[Document]:
    grouped = _group(documents, {"_id": spec, "count": {"$sum": 1}}, running)
    yield from sort_documents(grouped, [("count", -1)])


def _check_bucket(spec: Any, place: str, checking: Checking) -> dict[str, Any]:
    known_names(spec, place, ("groupBy", "boundaries"), ("default", "output"))
    boundaries = plain(spec["boundaries"], f"{place}['boundaries']")
    keys = list(map(order_key, boundaries)) if isinstance(boundaries, list) else []
    if len(keys) < 2 or any(a >= b or a[0] != b[0] for a, b in pairwise(keys)):
        raise FilterError(
            f"{place}['boundaries'] is a list of at least two values of one type, each greater than the one before",
            position=f"{place}['boundaries']",
        )
    checked = {
        "groupBy": check_expression(spec["groupBy"], f"{place}['groupBy']", checking.names),
        "boundaries": boundaries,
        **_checked_output(spec, place, checking),
    }
    if "default" in spec:
        checked["default"] = plain(spec["default"], f"{place}['default']")
        if keys[0] <= order_key(checked["default"]) < keys[-1]:
            raise FilterError(
                f"{place}['default'] lies within the boundaries", position=f"{place}['default']"
            )
    return checked


def _checked_output(spec: Mapping[str, Any], place: str, checking: Checking) -> dict[str, Any]:
    if "output" not in spec:
        return {}
    return {"output": check_outputs(spec["output"], f"{place}['output']", checking.names)}


_NUMBER_OF_DOCUMENTS = {"count": {"$sum": 1}}


def _bucket(documents: Documents, spec: Any, running: Running) -> Iterator[Document]:
    boundaries = spec["boundaries"]
    keys = list(map(order_key, boundaries))
    groups = Groups(spec.get("output", _NUMBER_OF_DOCUMENTS))
    for document in documents:
        scope = running.scope(document)
        value = scope.value(spec["groupBy"])
        place = bisect_right(keys, order_key(value)) - 1
        if 0 <= place < len(boundaries) - 1:
            groups.add(boundaries[place], scope)
        elif "default" in spec:
            groups.add(spec["default"], scope)
        else:
            raise failed(
                "$bucket", f"{named_type(value)} lies outside the boundaries, and there is no default"
            )
    yield from sort_documents(groups.results(), [("_id", 1)])


def _check_bucket_auto(spec: Any, place: str, checking: Checking) -> dict[str, Any]:
    if isinstance(spec, Mapping) and "granularity" in spec:
        raise UnsupportedError(f"{place}: 'granularity' is not supported; use $bucket", position=place)
    known_names(spec, place, ("groupBy", "buckets"), ("output",))
    return {
        "groupBy": check_expression(spec["groupBy"], f"{place}['groupBy']", checking.names),
        "buckets": whole_number(spec["buckets"], f"{place}['buckets']", 1),
        **_checked_output(spec, place, checking),
    }


def _bucket_auto(documents: Documents, spec: Any, running: Running) -> Iterator[Document]:
    found = []
    for document in documents:
        value = running.scope(document).value(spec["groupBy"])
        value = None if value is MISSING else value
        found.append((order_key(value), value, document))
    found.sort(key=lambda item: item[0])
    size = max(1, math.floor(len(found) / spec["buckets"] + 0.5))
    start = 0
    for bucket in range(1, spec["buckets"] + 1):
        if start >= len(found):
            return
        end = len(found) if bucket == spec["buckets"] else min(start + size, len(found))
        while end < len(found) and found[end][0] == found[end - 1][0]:  # equal values stay together
            end += 1
        bounds = {"min": found[start][1], "max": found[min(end, len(found) - 1)][1]}
        groups = Groups(spec.get("output", _NUMBER_OF_DOCUMENTS))
        for _, _, document in found[start:end]:
            groups.add(bounds, running.scope(document))
        yield from groups.results()
        start = end


def _check_by_count(spec: Any, place: str, checking: Checking) -> Any:
    if not (isinstance(spec, str) and spec.startswith("$")) and not has_operators(spec):
        raise FilterError(
            f"{place} takes a path with $ in front or an operator, not {spec!r}", position=place
        )
    return check_expression(spec, place, checking.names)


GROUPING: dict[str, Stage] = {
    "$group": Stage("one document for each value, with accumulators", _check_group, _group),
    "$count": Stage(
        "the number of documents in a field", lambda spec, place, _: field_name(spec, place), _count
    ),
    "$sortByCount": Stage(
        "how often each value is there, the most frequent first", _check_by_count, _sort_by_count
    ),
    "$bucket": Stage("one document for each range between boundaries", _check_bucket, _bucket),
    "$bucketAuto": Stage(
        "one document for each of some ranges with equally many documents", _check_bucket_auto, _bucket_auto
    ),
}
