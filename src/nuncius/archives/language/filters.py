"""Filters: which documents are wanted.

A filter is checked when it is given, so that a misspelt operator is an error that points at the place, and not an
empty answer. `matches` is the meaning of a filter; whatever an archive does with an index must agree with it.

Source: the MongoDB manual, "Query and Projection Operators".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.expressions import CODE, check_expression, fields_read, union_of
from nuncius.archives.language.functions.base import TYPE_CODES
from nuncius.archives.language.geo import NEAR, WITHIN, check_region
from nuncius.archives.language.matching import LOGICAL, TESTS, matches
from nuncius.archives.language.patterns import compile_pattern
from nuncius.archives.language.times import in_scale, scale_of_field
from nuncius.archives.language.values import (
    OneOf,
    check_depth,
    check_path,
    has_operators,
    is_number,
    kind_of,
    plain,
    unknown,
)
from nuncius.errors import FilterError, ForbiddenError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nuncius.errors import NunciusError

__all__ = ["check_filter", "fields_of_filter", "matches"]

_UNSUPPORTED = {
    "$jsonSchema": "name the conditions on the fields themselves",
    "$text": "there is no text index; use $regex",
}
_TOP = (*sorted(LOGICAL), "$expr", "$comment")
_DISTANCES = ("$maxDistance", "$minDistance")
_TYPE_NAMES = frozenset({*TYPE_CODES.values(), "number"})


@dataclass(frozen=True)
class _Where:
    """What may stand at a place of a filter."""

    near: bool = True
    variables: frozenset[str] = frozenset()
    native: frozenset[str] = frozenset()


def check_filter(
    condition: Any,
    place: str = "filter",
    *,
    near: bool = True,
    variables: Iterable[str] = (),
    native: Iterable[str] = (),
) -> dict[str, Any]:
    """Check a filter and return it with plain Python values in it.

    Parameters
    ----------
    condition : mapping or None
        The filter; None is that without conditions.
    place : str, optional
        What it is called in messages.
    near : bool, optional
        Whether `$nearSphere` and `$near`, which sort, may stand in it.
    variables : iterable of str, optional
        Names of variables that its `$expr` may use.
    native : iterable of str, optional
        Operators that only the archive knows that is asked, such as ``"$text"``; they are passed on as they are.

    Raises
    ------
    FilterError
        If it is no filter; `position` is the place in it.
    ForbiddenError
        If it brings code to run.
    UnsupportedError
        If it asks for what no archive here can do.

    Examples
    --------
    >>> check_filter({"candidate.rb": {"$gte": 0.5}})
    {'candidate.rb': {'$gte': 0.5}}
    """
    check_depth(condition, place)
    checked = _check_filter(condition, place, _Where(near, frozenset(variables), frozenset(native)))
    if near and _nears(checked) > 1:
        raise FilterError(f"{place}: only one $nearSphere or $near, which sort the answer", position=place)
    return checked


def _nears(condition: Mapping[str, Any]) -> int:
    return sum(
        sum(map(_nears, wanted)) if path == "$and"
        else len(NEAR & wanted.keys()) if isinstance(wanted, Mapping)
        else 0
        for path, wanted in condition.items()
    )  # fmt: skip


def _check_filter(condition: Any, place: str, where: _Where) -> dict[str, Any]:
    if condition is None:
        return {}
    if not isinstance(condition, Mapping):
        raise FilterError(
            f"{place} is a mapping such as {{'objectId': 'ZTF18abc'}}, not {kind_of(condition)}",
            position=place,
        )
    checked: dict[str, Any] = {}
    for key, value in condition.items():
        here = f"{place}[{key!r}]"
        if not isinstance(key, str):
            raise FilterError(f"{here}: a field name is a text", position=here)
        if not key.startswith("$"):
            if (convert := scale_of_field(key)) is not None:
                value = in_scale(plain(value, here), convert)  # noqa: PLW2901 - what was meant
            checked[check_path(key, here)] = _check_condition(value, here, where)
        elif key in LOGICAL:
            checked[key] = _check_parts(key, value, here, where)
        elif key == "$expr":
            checked[key] = check_expression(value, here, where.variables)
        elif key in where.native:
            checked[key] = plain(value, here)
        elif key != "$comment":
            raise _refused(key, here, _TOP, "stands where a field name belongs")
    return checked


def _check_parts(key: str, value: Any, place: str, where: _Where) -> list[Any]:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not value:
        raise FilterError(f"{place}: {key} takes a list of at least one filter", position=place)
    if any(part is None for part in value):
        raise FilterError(f"{place}: {key} takes a list of filters, not None", position=place)
    inner = where if key == "$and" else replace(where, near=False)
    return [_check_filter(part, f"{place}[{index}]", inner) for index, part in enumerate(value)]


def _refused(key: str, place: str, known: Sequence[str], problem: str) -> NunciusError:
    if key in CODE:
        return ForbiddenError(f"{place}: an archive runs no code; {key} is refused", position=place)
    if key in _UNSUPPORTED:
        return UnsupportedError(f"{place}: {key} is not supported; {_UNSUPPORTED[key]}", position=place)
    return unknown(key, place, known, problem)


def _check_condition(value: Any, place: str, where: _Where) -> Any:
    if not has_operators(value):
        return plain(value, place)
    checked = {}
    for operator, operand in value.items():
        here = f"{place}[{operator!r}]"
        if operator in _DISTANCES:
            checked[operator] = plain(operand, here)
        elif operator not in TESTS:
            raise _refused(str(operator), here, [*TESTS], "is no operator")
        elif operator in NEAR and not where.near:
            raise FilterError(
                f"{here}: {operator} sorts, so it can't stand in $or, $nor, $not, $elemMatch or $match; "
                "use $geoWithin, or the stage $geoNear",
                position=here,
            )
        elif operator in _NESTED:
            checked[operator] = _NESTED[operator](operand, here, replace(where, near=False))
        else:
            checked[operator] = _CHECKS.get(operator, plain)(operand, here)
    if "$options" in checked and "$regex" not in checked:
        raise FilterError(f"{place}: $options belongs to $regex, which is missing", position=place)
    if "$regex" in checked:
        compile_pattern(checked["$regex"], checked.get("$options", ""), place)
    if any(operator in NEAR or operator in WITHIN or operator in _DISTANCES for operator in checked):
        return check_region(checked, place)
    return checked


# Operands ------------------------------------------------------------------------------------------------------------


def _check_list(value: Any, place: str) -> list[Any]:
    value = plain(value, place)
    if not isinstance(value, list):
        name = place.rpartition("['")[2].removesuffix("']")
        raise FilterError(f"{place}: {name} takes a list, not {kind_of(value)}", position=place)
    return value


def _check_values(value: Any, place: str) -> list[Any]:
    values = _check_list(value, place)
    for index, item in enumerate(values):
        if has_operators(item):
            where = f"{place}[{index}]"
            raise FilterError(f"{where}: operators can't stand in this list", position=where)
        if isinstance(item, re.Pattern):
            compile_pattern(item, "", f"{place}[{index}]")
    return OneOf(values)


def _check_all(value: Any, place: str, where: _Where) -> list[Any]:
    values = _check_list(value, place)
    for index, item in enumerate(values):
        if has_operators(item):
            here = f"{place}[{index}]"
            if list(item) != ["$elemMatch"]:
                raise FilterError(f"{here}: the only operator in this list is $elemMatch", position=here)
            values[index] = _check_condition(item, here, where)
    return values


def _check_count(value: Any, place: str) -> int:
    value = plain(value, place)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as JSON of some languages has it
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise FilterError(f"{place} takes a whole number, not {value!r}", position=place)
    return value


def _check_mod(value: Any, place: str) -> list[Any]:
    value = plain(value, place)
    if not (
        isinstance(value, list)
        and len(value) == 2
        and all(is_number(v) and math.isfinite(v) for v in value)
        and math.trunc(value[0])
    ):
        raise FilterError(f"{place} takes [divisor, remainder] with a divisor other than 0", position=place)
    return [math.trunc(v) for v in value]


def _check_bits(value: Any, place: str) -> int:
    """Return a mask: given as one, as bytes, or as the positions of its bits."""
    value = plain(value, place)
    if isinstance(value, bytes):
        return int.from_bytes(value, "little")
    positions = value if isinstance(value, list) else [value]
    if not all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in positions) or (
        isinstance(value, list) and any(item > 1000 for item in value)
    ):
        raise FilterError(f"{place} takes a mask, or a list of positions of bits", position=place)
    return sum(1 << item for item in set(value)) if isinstance(value, list) else int(value)


def _check_text(value: Any, place: str) -> Any:
    if not isinstance(value, str):
        raise FilterError(f"{place} takes a text, not {kind_of(value)}", position=place)
    return value


def _check_regex(value: Any, place: str) -> Any:
    return plain(value, place) if isinstance(value, re.Pattern) else _check_text(value, place)


def _check_types(value: Any, place: str) -> list[str]:
    names = []
    for name in plain(value, place) if isinstance(value, (list, tuple)) else [value]:
        if is_number(name) and name in TYPE_CODES:
            names.append(TYPE_CODES[int(name)])
        elif isinstance(name, str) and name in _TYPE_NAMES:
            names.append(name)
        else:
            raise unknown(str(name), place, sorted(_TYPE_NAMES), "is no type")
    return names


def _check_element(value: Any, place: str, where: _Where) -> Any:
    if not isinstance(value, Mapping) or not value:
        raise FilterError(f"{place} takes a filter, not {kind_of(value)}", position=place)
    if "$expr" in value:
        raise FilterError(f"{place}: $expr can't stand in $elemMatch", position=place)
    if all(str(key).startswith("$") and key not in LOGICAL for key in value):
        return _check_condition(value, place, where)
    return _check_filter(value, place, where)


def _check_not(value: Any, place: str, where: _Where) -> Any:
    if isinstance(value, re.Pattern):
        return plain(value, place)
    if not isinstance(value, Mapping) or not value or not all(str(key).startswith("$") for key in value):
        raise FilterError(
            f"{place} takes operators such as {{'$gt': 5}}; for a value use $ne", position=place
        )
    return _check_condition(value, place, where)


def _check_shape(value: Any, place: str) -> Any:
    value = plain(value, place)
    if not isinstance(value, (Mapping, list)) or not value:
        raise FilterError(f"{place} takes a region, not {kind_of(value)}", position=place)
    return value


_NESTED: dict[str, Callable[[Any, str, _Where], Any]] = {
    "$all": _check_all,
    "$elemMatch": _check_element,
    "$not": _check_not,
}
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "$in": _check_values,
    "$nin": _check_values,
    "$size": _check_count,
    "$mod": _check_mod,
    "$regex": _check_regex,
    "$options": _check_text,
    "$type": _check_types,
    **dict.fromkeys(("$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear"), _check_bits),
    **dict.fromkeys((*NEAR, *WITHIN), _check_shape),
}


# What is read --------------------------------------------------------------------------------------------------------


def fields_of_filter(condition: Mapping[str, Any]) -> set[str] | None:
    """Return the top-level fields that a checked filter asks about; None if it may ask about the whole document.

    Examples
    --------
    >>> sorted(fields_of_filter({"a.b": 1, "$or": [{"c": 2}, {"$expr": {"$gt": ["$d.e", 0]}}]}))
    ['a', 'c', 'd']
    """
    return union_of(
        union_of(map(fields_of_filter, value)) if key in LOGICAL
        else fields_read(value) if key == "$expr"
        else {key.partition(".")[0]}
        for key, value in condition.items()
    )  # fmt: skip
