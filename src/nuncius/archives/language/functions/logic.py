"""Comparison, logic and choice. A missing value is smaller than null here, and not equal to it.

Source: the MongoDB manual, "Comparison", "Boolean" and "Conditional Expression Operators".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.functions.base import Function, failed, is_nothing, truthy
from nuncius.archives.language.values import compare, equal
from nuncius.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.archives.language.functions.base import Check, Scope


def _arguments(argument: Any) -> list[Any]:
    return argument if isinstance(argument, list) else [argument]


def _and(argument: Any, scope: Scope) -> bool:
    return all(truthy(scope.value(item)) for item in _arguments(argument))


def _or(argument: Any, scope: Scope) -> bool:
    return any(truthy(scope.value(item)) for item in _arguments(argument))


def _cond(argument: Any, scope: Scope) -> Any:
    condition, yes, no = (
        (argument["if"], argument["then"], argument["else"]) if isinstance(argument, Mapping) else argument
    )
    return scope.value(yes if truthy(scope.value(condition)) else no)


def _if_null(argument: Any, scope: Scope) -> Any:
    *first, last = argument
    for item in first:
        value = scope.value(item)
        if not is_nothing(value):
            return value
    return scope.value(last)


def _switch(argument: Mapping[str, Any], scope: Scope) -> Any:
    for branch in argument["branches"]:
        if truthy(scope.value(branch["case"])):
            return scope.value(branch["then"])
    if "default" not in argument:
        raise failed("$switch", "no case is true and there is no default")
    return scope.value(argument["default"])


def _check_switch(argument: Any, place: str, names: frozenset[str], check: Check) -> Any:
    if not isinstance(argument, Mapping) or set(argument) - {"default"} != {"branches"}:
        raise FilterError(f"{place} takes {{'branches': […], 'default': …}}", position=place)
    branches = argument["branches"]
    if not isinstance(branches, (list, tuple)) or not branches:
        where = f"{place}['branches']"
        raise FilterError(f"{where} is a list of at least one {{'case': …, 'then': …}}", position=where)
    checked = []
    for index, branch in enumerate(branches):
        where = f"{place}['branches'][{index}]"
        if not isinstance(branch, Mapping) or set(branch) != {"case", "then"}:
            raise FilterError(f"{where} is {{'case': …, 'then': …}}", position=where)
        checked.append({name: check(branch[name], f"{where}[{name!r}]", names) for name in branch})
    rest = (
        {"default": check(argument["default"], f"{place}['default']", names)} if "default" in argument else {}
    )
    return {"branches": checked, **rest}


def _compares(meaning: str, test: Callable[[int], Any]) -> Function:
    return Function(meaning=meaning, call=lambda a, b: test(compare(a, b)), least=2, most=2)


LOGIC: dict[str, Function] = {
    "$eq": Function(meaning="whether two values are equal", call=equal, least=2, most=2),
    "$ne": Function(
        meaning="whether two values are not equal", call=lambda a, b: not equal(a, b), least=2, most=2
    ),
    "$gt": _compares("whether the first is greater, by type, then by value", lambda order: order > 0),
    "$gte": _compares("whether the first is greater or equal", lambda order: order >= 0),
    "$lt": _compares("whether the first is smaller", lambda order: order < 0),
    "$lte": _compares("whether the first is smaller or equal", lambda order: order <= 0),
    "$cmp": _compares("-1, 0 or 1: smaller, equal or greater", int),
    "$and": Function(meaning="whether all are true", lazy=_and, least=0, most=None),
    "$or": Function(meaning="whether one is true", lazy=_or, least=0, most=None),
    "$not": Function(meaning="whether it is not true", call=lambda value: not truthy(value)),
    "$cond": Function(
        meaning="one of two values: [if, then, else], or by these names",
        lazy=_cond,
        least=3,
        most=3,
        required=("if", "then", "else"),
    ),
    "$ifNull": Function(
        meaning="the first value that is neither null nor missing, else the last",
        lazy=_if_null,
        least=2,
        most=None,
    ),
    "$switch": Function(
        meaning="the value of the first case that is true", lazy=_switch, check=_check_switch
    ),
}
