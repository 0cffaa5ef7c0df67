"""Arrays and sets.

Source: the MongoDB manual, "Array Expression Operators" and "Set Expression Operators".
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.functions.base import (
    LARGEST_ARRAY,
    Function,
    array,
    failed,
    is_nothing,
    truthy,
    whole,
)
from nuncius.archives.language.sorting import check_sort, sort_documents
from nuncius.archives.language.values import MISSING, order_key
from nuncius.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nuncius.archives.language.functions.base import (
        Check,
        Scope,
    )


# Elements ------------------------------------------------------------------------------------------------------------


def _element(operator: str) -> Callable[[Any, Any], Any]:
    def call(values: Any, index: Any) -> Any:
        if is_nothing(values) or is_nothing(index):
            return None
        values, index = array(operator, values), whole(operator, index)
        return values[index] if -len(values) <= index < len(values) else MISSING

    return call


def _slice(values: Any, first: Any, *rest: Any) -> Any:
    if any(map(is_nothing, (values, first, *rest))):
        return None
    values, first = array("$slice", values), whole("$slice", first)
    if not rest:
        return values[:first] if first >= 0 else values[first:]
    count = whole("$slice", rest[0])
    if count <= 0:
        raise failed("$slice", f"takes a positive number of elements, not {count}")
    start = first if first >= 0 else max(len(values) + first, 0)
    return values[start : start + count]


def _in(value: Any, values: Any) -> bool:
    key = order_key(value)
    return any(order_key(item) == key for item in array("$in", values))


def _index(values: Any, wanted: Any, start: Any = 0, end: Any = None) -> Any:
    if is_nothing(values):
        return None
    values, start = array("$indexOfArray", values), whole("$indexOfArray", start)
    stop = len(values) if end is None else min(whole("$indexOfArray", end), len(values))
    if start < 0 or stop < 0:
        raise failed("$indexOfArray", "takes a start and an end that are not negative")
    key = order_key(wanted)
    return next((index for index in range(start, stop) if order_key(values[index]) == key), -1)


def _size(values: Any) -> int:
    return len(array("$size", values))


# Arrays from arrays --------------------------------------------------------------------------------------------------


def _concatenate(*several: Any) -> Any:
    if any(map(is_nothing, several)):
        return None
    joined = [item for values in several for item in array("$concatArrays", values)]
    return _bounded("$concatArrays", joined)


def _bounded(operator: str, values: list[Any]) -> list[Any]:
    if len(values) > LARGEST_ARRAY:
        raise failed(operator, f"makes no array of more than {LARGEST_ARRAY} elements")
    return values


def _reverse(values: Any) -> Any:
    return None if is_nothing(values) else array("$reverseArray", values)[::-1]


def _range(start: Any, end: Any, step: Any = 1) -> list[int]:
    start, end, step = (whole("$range", value) for value in (start, end, step))
    if step == 0:
        raise failed("$range", "takes a step other than 0")
    numbers = range(start, end, step)
    if max(end - start, start - end) // abs(step) > LARGEST_ARRAY and numbers:
        raise failed("$range", f"makes no array of more than {LARGEST_ARRAY} elements")
    return list(numbers)


def _zip(given: dict[str, Any]) -> Any:
    several = array("$zip", given["inputs"])
    if any(map(is_nothing, several)):
        return None
    several = [array("$zip", values) for values in several]
    longest = max(map(len, several), default=0)
    if longest * len(several) > LARGEST_ARRAY:
        raise failed("$zip", f"makes no arrays of more than {LARGEST_ARRAY} elements together")
    defaults = given.get("defaults")
    if not given.get("useLongestLength", False):
        if defaults is not None:
            raise failed("$zip", "defaults belong to useLongestLength: true")
        return [list(row) for row in zip(*several, strict=False)]
    fill = [None] * len(several) if defaults is None else array("$zip", defaults)
    if len(fill) != len(several):
        raise failed("$zip", f"takes as many defaults as inputs: {len(several)}, not {len(fill)}")
    return [
        [fill[index] if item is MISSING else item for index, item in enumerate(row)]
        for row in zip_longest(*several, fillvalue=MISSING)
    ]


def _check_zip(argument: Any, place: str, names: frozenset[str], check: Check) -> Any:
    known = {"inputs", "useLongestLength", "defaults"}
    if not isinstance(argument, Mapping) or "inputs" not in argument or set(argument) - known:
        raise FilterError(
            f"{place} takes {{'inputs': [arrays], 'useLongestLength': bool, 'defaults': […]}}", position=place
        )
    if not isinstance(argument.get("useLongestLength", False), bool):
        where = f"{place}['useLongestLength']"
        raise FilterError(f"{where} is true or false", position=where)
    return {name: check(item, f"{place}[{name!r}]", names) for name, item in argument.items()}


def _sort(given: dict[str, Any]) -> Any:
    values, order = given["input"], given["sortBy"]
    if is_nothing(values):
        return None
    values = array("$sortArray", values)
    if isinstance(order, Mapping):
        return sort_documents(values, check_sort(order))
    return sorted(values, key=order_key, reverse=order == -1)


def _check_sort_array(argument: Any, place: str, names: frozenset[str], check: Check) -> Any:
    if not isinstance(argument, Mapping) or set(argument) != {"input", "sortBy"}:
        raise FilterError(f"{place} takes {{'input': array, 'sortBy': 1, -1 or fields}}", position=place)
    order = argument["sortBy"]
    if isinstance(order, Mapping):
        order = dict(check_sort(order))
    elif isinstance(order, bool) or order not in (1, -1):
        where = f"{place}['sortBy']"
        raise FilterError(f"{where} is 1, -1 or a mapping of fields to these", position=where)
    return {"input": check(argument["input"], f"{place}['input']", names), "sortBy": order}


# With variables ------------------------------------------------------------------------------------------------------


def _filter(argument: Mapping[str, Any], scope: Scope) -> Any:
    values = scope.value(argument["input"])
    limit = scope.value(argument["limit"]) if "limit" in argument else None
    if is_nothing(values):
        return None
    most = LARGEST_ARRAY if is_nothing(limit) else whole("$filter", limit)
    if most < 1:
        raise failed("$filter", f"takes a positive limit, not {limit!r}")
    name = argument.get("as", "this")
    kept: list[Any] = []
    for item in array("$filter", values):
        if len(kept) >= most:
            break
        if truthy(scope.within(**{name: item}).value(argument["cond"])):
            kept.append(item)
    return kept


def _map(argument: Mapping[str, Any], scope: Scope) -> Any:
    values = scope.value(argument["input"])
    if is_nothing(values):
        return None
    name = argument.get("as", "this")
    found = (scope.within(**{name: item}).value(argument["in"]) for item in array("$map", values))
    return [None if item is MISSING else item for item in found]


def _reduce(argument: Mapping[str, Any], scope: Scope) -> Any:
    values = scope.value(argument["input"])
    if is_nothing(values):
        return None
    total = scope.value(argument["initialValue"])
    for item in array("$reduce", values):
        total = scope.within(this=item, value=total).value(argument["in"])
    return total


def _binds(where: str) -> Callable[[str, Mapping[str, Any]], set[str]]:
    return lambda name, argument: {argument.get("as", "this")} if name == where else set()


# Documents as arrays -------------------------------------------------------------------------------------------------


def _to_object(values: Any) -> Any:
    if is_nothing(values):
        return None
    made: dict[str, Any] = {}
    for pair in array("$arrayToObject", values):
        if isinstance(pair, Mapping) and set(pair) == {"k", "v"}:
            name, value = pair["k"], pair["v"]
        elif isinstance(pair, list) and len(pair) == 2:
            name, value = pair
        else:
            raise failed("$arrayToObject", "takes an array of pairs [key, value] or {'k': key, 'v': value}")
        if not isinstance(name, str):
            raise failed("$arrayToObject", f"takes texts as keys, not {name!r}")
        made[name] = value
    return made


def _to_array(value: Any) -> Any:
    if is_nothing(value):
        return None
    if not isinstance(value, Mapping):
        raise failed("$objectToArray", "takes a document")
    return [{"k": name, "v": item} for name, item in value.items()]


# Sets ----------------------------------------------------------------------------------------------------------------


def unique(values: Iterable[Any]) -> list[Any]:
    """Return the values without those that are equal to an earlier one."""
    first: dict[Any, Any] = {}
    for item in values:
        first.setdefault(order_key(item), item)
    return list(first.values())


def _keys(operator: str, values: Any) -> set[Any]:
    return set(map(order_key, array(operator, values)))


def _union(*several: Any) -> Any:
    if any(map(is_nothing, several)):
        return None
    return unique(item for values in several for item in array("$setUnion", values))


def _intersection(*several: Any) -> Any:
    if any(map(is_nothing, several)):
        return None
    if not several:
        return []
    common = set.intersection(*(_keys("$setIntersection", values) for values in several))
    return [item for item in unique(several[0]) if order_key(item) in common]


def _difference(left: Any, right: Any) -> Any:
    if is_nothing(left) or is_nothing(right):
        return None
    others = _keys("$setDifference", right)
    return [item for item in unique(array("$setDifference", left)) if order_key(item) not in others]


def _equal_sets(*several: Any) -> bool:
    first, *others = (_keys("$setEquals", values) for values in several)
    return all(other == first for other in others)


ARRAYS: dict[str, Function] = {
    "$size": Function(meaning="the number of elements", call=_size),
    "$arrayElemAt": Function(
        meaning="the element at an index; -1 is the last", call=_element("$arrayElemAt"), least=2, most=2
    ),
    "$slice": Function(
        meaning="the first elements (the last, if negative), or some from an index on",
        call=_slice,
        least=2,
        most=3,
    ),
    "$in": Function(meaning="whether a value is in an array", call=_in, least=2, most=2),
    "$indexOfArray": Function(
        meaning="the index of a value in an array, or -1", call=_index, least=2, most=4
    ),
    "$concatArrays": Function(meaning="arrays one after the other", call=_concatenate, least=0, most=None),
    "$reverseArray": Function(meaning="the elements from last to first", call=_reverse),
    "$range": Function(
        meaning="whole numbers from a start to before an end, with a step", call=_range, least=2, most=3
    ),
    "$isArray": Function(meaning="whether it is an array", call=lambda value: isinstance(value, list)),
    "$filter": Function(
        meaning="the elements for which a condition is true",
        lazy=_filter,
        least=0,
        most=0,
        required=("input", "cond"),
        optional=("as", "limit"),
        raw=("as",),
        binds=_binds("cond"),
    ),
    "$map": Function(
        meaning="what an expression makes of each element",
        lazy=_map,
        least=0,
        most=0,
        required=("input", "in"),
        optional=("as",),
        raw=("as",),
        binds=_binds("in"),
    ),
    "$reduce": Function(
        meaning="all elements put into one value, $$value, by an expression of it and $$this",
        lazy=_reduce,
        least=0,
        most=0,
        required=("input", "initialValue", "in"),
        binds=lambda name, _: {"this", "value"} if name == "in" else set(),
    ),
    "$zip": Function(
        meaning="arrays of the first, second … elements of several arrays",
        named=_zip,
        required=("inputs",),
        check=_check_zip,
    ),
    "$sortArray": Function(
        meaning="the elements sorted",
        named=_sort,
        required=("input", "sortBy"),
        raw=("sortBy",),
        check=_check_sort_array,
    ),
    "$arrayToObject": Function(meaning="a document of pairs of keys and values", call=_to_object),
    "$objectToArray": Function(meaning="the pairs {k, v} of a document", call=_to_array),
    "$setUnion": Function(meaning="what is in one of several arrays, once", call=_union, least=0, most=None),
    "$setIntersection": Function(
        meaning="what is in all of several arrays, once", call=_intersection, least=0, most=None
    ),
    "$setDifference": Function(
        meaning="what is in the first array and not in the second, once", call=_difference, least=2, most=2
    ),
    "$setIsSubset": Function(
        meaning="whether all of the first array is in the second",
        call=lambda a, b: _keys("$setIsSubset", a) <= _keys("$setIsSubset", b),
        least=2,
        most=2,
    ),
    "$setEquals": Function(
        meaning="whether arrays hold the same values", call=_equal_sets, least=2, most=None
    ),
    "$anyElementTrue": Function(
        meaning="whether one element is true",
        call=lambda values: any(map(truthy, array("$anyElementTrue", values))),
    ),
    "$allElementsTrue": Function(
        meaning="whether all elements are true",
        call=lambda values: all(map(truthy, array("$allElementsTrue", values))),
    ),
}
