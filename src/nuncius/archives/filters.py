"""The filter language: MongoDB's, as Kowalski's users write it.

A filter is checked when it is given, so that a misspelt operator is an error that points at the place, and not an
empty answer. `matches` is the meaning of a filter; whatever an archive does with an index must agree with it.

Source: the MongoDB manual, "Query and Projection Operators", and its comparison order of types.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cmp_to_key
from typing import TYPE_CHECKING, Any, TypeAlias

from nuncius.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Document: TypeAlias = dict[str, Any]
Filter: TypeAlias = Mapping[str, Any]
SortLike: TypeAlias = "str | Sequence[tuple[str, int]] | Mapping[str, int] | None"

_MISSING = object()
_TYPE_ORDER = ("null", "number", "string", "object", "array", "binData", "objectId", "bool", "date")
_TYPE_ALIASES = {"double": float, "int": int, "long": int}


# Checking ------------------------------------------------------------------------------------------------------------


def check_filter(condition: Any, place: str = "filter") -> dict[str, Any]:
    """Check a filter and return it with plain Python values in it.

    Raises
    ------
    FilterError
        If it is no filter; `position` is the place in it.
    """
    if condition is None:
        return {}
    if not isinstance(condition, Mapping):
        raise FilterError(
            f"{place} is a mapping such as {{'objectId': 'ZTF18abc'}}, not {_kind(condition)}", position=place
        )
    checked: dict[str, Any] = {}
    for key, value in condition.items():
        where = f"{place}[{key!r}]"
        if not isinstance(key, str):
            raise FilterError(f"{where}: a field name is a text", position=where)
        if key in _LOGICAL:
            if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not value:
                raise FilterError(f"{where}: {key} takes a list of at least one filter", position=where)
            if any(part is None for part in value):
                raise FilterError(f"{where}: {key} takes a list of filters, not None", position=where)
            checked[key] = [check_filter(part, f"{where}[{index}]") for index, part in enumerate(value)]
        elif key.startswith("$"):
            raise _unknown(key, where, [*_LOGICAL], "stands where a field name belongs")
        else:
            checked[key] = _check_condition(value, where)
    return checked


def _check_condition(value: Any, place: str) -> Any:
    if not isinstance(value, Mapping) or not any(
        isinstance(key, str) and key.startswith("$") for key in value
    ):
        return plain(value, place)
    checked = {}
    for operator, operand in value.items():
        where = f"{place}[{operator!r}]"
        if operator not in _OPERATORS:
            raise _unknown(str(operator), where, [*_OPERATORS], "is no operator")
        checked[operator] = _CHECKS.get(operator, plain)(operand, where)
    if "$options" in checked and "$regex" not in checked:
        raise FilterError(f"{place}: $options belongs to $regex, which is missing", position=place)
    if "$regex" in checked:
        _compile(checked["$regex"], checked.get("$options", ""), place)
    return checked


def plain(value: Any, place: str = "value") -> Any:
    """Turn numpy scalars and astropy times into plain values; refuse what no document can hold.

    Raises
    ------
    FilterError
        If a value can't stand in a filter.
    """
    if isinstance(value, datetime):
        return _in_utc(value)
    if isinstance(value, re.Pattern) and isinstance(value.pattern, bytes):
        raise FilterError(f"{place}: an expression of bytes matches no text", position=place)
    if value is None or isinstance(value, (bool, int, float, str, bytes, re.Pattern)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{place}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if hasattr(value, "to_datetime") and hasattr(value, "scale"):
        return plain(value.utc.to_datetime(timezone=UTC), place)
    if type(value).__module__ == "numpy":
        # Dates finer than a microsecond would become whole numbers.
        listed = (value.astype("datetime64[us]") if value.dtype.kind == "M" else value).tolist()
        if type(listed).__module__ != "numpy":
            return plain(listed, place)
    if type(value).__name__ == "ObjectId":
        return str(value)
    raise FilterError(
        f"{place}: a {_kind(value)} can't stand in a filter; use numbers, texts, lists, datetime or astropy Time",
        position=place,
    )


def _check_list(value: Any, place: str) -> list[Any]:
    value = plain(value, place)
    if not isinstance(value, list):
        name = place.rpartition("['")[2].removesuffix("']")
        raise FilterError(f"{place}: {name} takes a list, not {_kind(value)}", position=place)
    return value


def _check_values(value: Any, place: str) -> list[Any]:
    values = _check_list(value, place)
    for index, item in enumerate(values):
        if _has_operators(item):
            where = f"{place}[{index}]"
            raise FilterError(f"{where}: operators can't stand in this list", position=where)
    return values


def _check_all(value: Any, place: str) -> list[Any]:
    values = _check_list(value, place)
    for index, item in enumerate(values):
        if _has_operators(item):
            where = f"{place}[{index}]"
            if list(item) != ["$elemMatch"]:
                raise FilterError(f"{where}: the only operator in this list is $elemMatch", position=where)
            values[index] = _check_condition(item, where)
    return values


def _has_operators(value: Any) -> bool:
    return isinstance(value, Mapping) and any(str(key).startswith("$") for key in value)


def _in_utc(value: datetime) -> datetime:
    """Give a time without a zone UTC, as pymongo does."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def _check_count(value: Any, place: str) -> int:
    value = plain(value, place)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise FilterError(f"{place} takes a whole number, not {value!r}", position=place)
    return value


def _check_mod(value: Any, place: str) -> list[Any]:
    value = plain(value, place)
    if not (
        isinstance(value, list)
        and len(value) == 2
        and all(_type(v) == "number" and math.isfinite(v) for v in value)
        and math.trunc(value[0])
    ):
        raise FilterError(f"{place} takes [divisor, remainder] with a divisor other than 0", position=place)
    return [math.trunc(v) for v in value]


def _check_text(value: Any, place: str) -> Any:
    if not isinstance(value, str):
        raise FilterError(f"{place} takes a text, not {_kind(value)}", position=place)
    return value


def _check_expression(value: Any, place: str) -> Any:
    return plain(value, place) if isinstance(value, re.Pattern) else _check_text(value, place)


def _check_types(value: Any, place: str) -> list[str]:
    names = list(value) if isinstance(value, (list, tuple)) else [value]
    known = {*_TYPE_ORDER, *_TYPE_ALIASES}
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise _unknown(str(name), place, sorted(known), "is no type")
    return names


def _check_element(value: Any, place: str) -> Any:
    if not isinstance(value, Mapping) or not value:
        raise FilterError(f"{place} takes a filter, not {_kind(value)}", position=place)
    if all(str(key).startswith("$") and key not in _LOGICAL for key in value):
        return _check_condition(value, place)
    return check_filter(value, place)


def _check_not(value: Any, place: str) -> Any:
    if isinstance(value, re.Pattern):
        return value
    if not isinstance(value, Mapping) or not value or not all(str(key).startswith("$") for key in value):
        raise FilterError(
            f"{place} takes operators such as {{'$gt': 5}}; for a value use $ne", position=place
        )
    return _check_condition(value, place)


def _unknown(name: str, place: str, known: Sequence[str], problem: str) -> FilterError:
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"
    return FilterError(f"{place}: {name!r} {problem}; {hint}", position=place)


def _kind(value: Any) -> str:
    return type(value).__name__


# Meaning -------------------------------------------------------------------------------------------------------------


def matches(document: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    """Tell whether a document meets a checked filter."""
    for key, value in condition.items():
        if key in _LOGICAL:
            if not _LOGICAL[key](document, value):
                return False
        elif value.__class__ is str and document.get(key) == value:
            pass  # the commonest of all questions, without the detours of the others
        elif not _meets(_found(document, key.split(".")), value):
            return False
    return True


_LOGICAL: dict[str, Callable[[Any, Any], bool]] = {
    "$and": lambda document, parts: all(matches(document, part) for part in parts),
    "$or": lambda document, parts: any(matches(document, part) for part in parts),
    "$nor": lambda document, parts: not any(matches(document, part) for part in parts),
}


def _found(value: Any, path: Sequence[str]) -> list[Any]:
    """Return what stands at a path: through arrays of documents there may be several, and nothing is _MISSING."""
    if not path:
        return [value]
    name, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        return _found(value[name], rest) if name in value else [_MISSING]
    if isinstance(value, list):
        found = []
        if name.isdigit() and int(name) < len(value):
            found += _found(value[int(name)], rest)
        for item in value:
            if isinstance(item, Mapping):
                found += _found(item, path)
        return found  # nothing at all where no element is a document: that is not null
    return [_MISSING]


def _meets(found: list[Any], condition: Any) -> bool:
    if isinstance(condition, Mapping) and any(key.startswith("$") for key in condition):
        return all(
            _OPERATORS[operator](found, operand) if operator != "$regex"
            else _regex(found, operand, condition.get("$options", ""))
            for operator, operand in condition.items()
        )  # fmt: skip
    if isinstance(condition, re.Pattern):
        return _regex(found, condition, "")
    return _equals_any(found, condition)


def _each(found: Iterable[Any]) -> Iterator[Any]:
    """Give the values, and the elements of those that are arrays."""
    for value in found:
        yield value
        if isinstance(value, list) and not isinstance(found, _Alone):
            yield from value


class _Alone(list[Any]):
    """One element of an array, which is not looked into when it is an array itself."""


def _equals_any(found: list[Any], wanted: Any) -> bool:
    if wanted is None:
        return any(value is _MISSING or value is None for value in _each(found))
    return any(equal(value, wanted) for value in _each(found))


def equal(a: Any, b: Any) -> bool:
    """Tell whether two values are equal as MongoDB has it: 1 and 1.0 are, 1 and true are not."""
    if a is _MISSING or b is _MISSING:
        return a is b
    if _type(a) != _type(b):
        return False
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    if isinstance(a, datetime):
        return _in_utc(a) == _in_utc(b)
    return bool(a == b)


def _compares(test: Callable[[int], bool]) -> Callable[[list[Any], Any], bool]:
    def check(found: list[Any], operand: Any) -> bool:
        if operand is None:  # only equality is left of a comparison with null
            return test(0) and _equals_any(found, None)
        if isinstance(operand, float) and math.isnan(operand):
            return test(0) and _equals_any(found, operand)
        return any(
            value is not _MISSING
            and _type(value) == _type(operand)
            and not (isinstance(value, float) and math.isnan(value))
            and test(compare(value, operand))
            for value in _each(found)
        )

    return check


def compare(a: Any, b: Any) -> int:
    """Compare two values in MongoDB's order: by type first, then by value. NaN is the smallest number."""
    order = _rank(a) - _rank(b)
    if order:
        return order
    if isinstance(a, Mapping):
        return compare(
            [part for item in a.items() for part in item], [part for item in b.items() for part in item]
        )
    if isinstance(a, list):
        return next((c for c in map(compare, a, b) if c), len(a) - len(b))
    if a is None or a is _MISSING:
        return 0
    if isinstance(a, float) and math.isnan(a):
        return 0 if isinstance(b, float) and math.isnan(b) else -1
    if isinstance(b, float) and math.isnan(b):
        return 1
    if isinstance(a, datetime):
        a, b = _in_utc(a), _in_utc(b)
    return int(a > b) - int(a < b)


def _type(value: Any) -> str:
    if value is None or value is _MISSING:
        return "null"
    for kind, name in (
        (bool, "bool"), ((int, float), "number"), (str, "string"), (Mapping, "object"), (list, "array"),
        (bytes, "binData"), (datetime, "date"),
    ):  # fmt: skip
        if isinstance(value, kind):
            return name
    return "objectId"


def _rank(value: Any) -> int:
    return _TYPE_ORDER.index(_type(value))


def _regex(found: list[Any], pattern: Any, options: str) -> bool:
    compiled = _compile(pattern, options, "$regex")
    return any(isinstance(value, str) and compiled.search(value) is not None for value in _each(found))


def _compile(pattern: Any, options: str, place: str) -> re.Pattern[str]:
    flags = 0
    for letter in options:
        if letter not in "imsx":
            raise FilterError(
                f"{place}: the $options of $regex are i, m, s and x, not {letter!r}", position=place
            )
        flags |= getattr(re, letter.upper())
    if isinstance(pattern, re.Pattern):
        return re.compile(pattern.pattern, pattern.flags | flags) if flags else pattern
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise FilterError(
            f"{place}: {pattern!r} is no regular expression: {error}", position=place
        ) from error


def _has_type(found: list[Any], names: list[str]) -> bool:
    def is_a(value: Any, name: str) -> bool:
        if value is _MISSING:
            return False
        exact = _TYPE_ALIASES.get(name)
        return type(value) is exact if exact else _type(value) == name

    return any(is_a(value, name) for value in _each(found) for name in names)


def _has_all(found: list[Any], wanted: list[Any]) -> bool:
    return bool(wanted) and all(_meets(found, item) for item in wanted)


def _element(found: list[Any], condition: Any) -> bool:
    bare = all(key.startswith("$") and key not in _LOGICAL for key in condition)
    return any(
        _meets(_Alone([item]), condition) if bare else isinstance(item, Mapping) and matches(item, condition)
        for value in found
        if isinstance(value, list)
        for item in value
    )


def _modulo(found: list[Any], operand: list[Any]) -> bool:
    divisor, remainder = operand
    return any(
        _type(value) == "number"
        and math.isfinite(value)
        and _remainder(math.trunc(value), divisor) == remainder
        for value in _each(found)
    )


def _remainder(value: int, divisor: int) -> int:
    """Return the remainder with the sign of the value; math.fmod would round an id with 19 digits."""
    rest = abs(value) % abs(divisor)
    return -rest if value < 0 else rest


_OPERATORS: dict[str, Callable[[list[Any], Any], bool]] = {
    "$eq": _equals_any,
    "$ne": lambda found, operand: not _equals_any(found, operand),
    "$gt": _compares(lambda order: order > 0),
    "$gte": _compares(lambda order: order >= 0),
    "$lt": _compares(lambda order: order < 0),
    "$lte": _compares(lambda order: order <= 0),
    "$in": lambda found, operand: any(_meets(found, item) for item in operand),
    "$nin": lambda found, operand: not any(_meets(found, item) for item in operand),
    "$exists": lambda found, operand: any(value is not _MISSING for value in found) == bool(operand),
    "$type": _has_type,
    "$regex": lambda found, operand: _regex(found, operand, ""),
    "$options": lambda found, operand: True,  # noqa: ARG005 - read together with $regex
    "$size": lambda found, operand: any(isinstance(value, list) and len(value) == operand for value in found),
    "$all": _has_all,
    "$elemMatch": _element,
    "$mod": _modulo,
    "$not": lambda found, operand: not _meets(found, operand),
}
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "$in": _check_values,
    "$nin": _check_values,
    "$all": _check_all,
    "$size": _check_count,
    "$mod": _check_mod,
    "$regex": _check_expression,
    "$options": _check_text,
    "$type": _check_types,
    "$elemMatch": _check_element,
    "$not": _check_not,
}


# Sorting and projection ----------------------------------------------------------------------------------------------


def check_sort(sort: SortLike) -> list[tuple[str, int]]:
    """Check a sort order: a field (``"-candidate.jd"`` sorts downward), pairs ``[("candidate.jd", -1)]``, a mapping.

    Raises
    ------
    FilterError
        If it is none.
    """
    if sort is None:
        return []
    if not isinstance(sort, (str, Mapping, Sequence)):
        raise FilterError(f"sort: {sort!r} is no list of pairs of a field and 1 or -1", position="sort")
    pairs = (
        [(sort.removeprefix("-"), -1 if sort.startswith("-") else 1)]
        if isinstance(sort, str)
        else list(sort.items() if isinstance(sort, Mapping) else sort)
    )
    for pair in pairs:
        if not (
            isinstance(pair, (tuple, list))
            and len(pair) == 2
            and isinstance(pair[0], str)
            and isinstance(pair[1], (int, float))
            and pair[1] in {1, -1}
        ):
            raise FilterError(f"sort: {pair!r} is not a pair of a field and 1 or -1", position="sort")
    return [(name, int(direction)) for name, direction in pairs]


def sort_documents(documents: list[Document], order: list[tuple[str, int]]) -> list[Document]:
    """Sort documents; an array counts by its smallest element upward and its largest downward."""
    for name, direction in reversed(order):
        path = name.split(".")

        def key(document: Document, path: list[str] = path, direction: int = direction) -> Any:
            found = _found(document, path)
            values = [item for value in found for item in (value if isinstance(value, list) else [value])]
            if not values:  # an empty array comes even before null
                return (0 if found else 1, cmp_to_key(compare)(None))
            choose = min if direction == 1 else max
            return (1, cmp_to_key(compare)(choose(values, key=cmp_to_key(compare))))

        documents = sorted(documents, key=key, reverse=direction == -1)
    return documents


class Projection:
    """Which fields of a document are wanted.

    Parameters
    ----------
    projection : mapping or list of str, optional
        ``{"candid": 1}`` or ``["candid"]`` keeps what is named and `_id`; ``{"cutoutScience": 0}`` leaves it out.

    Raises
    ------
    FilterError
        If it both keeps and leaves out, or is no projection.
    """

    def __init__(self, projection: Mapping[str, Any] | Sequence[str] | None) -> None:
        if projection is not None and not isinstance(projection, Mapping):
            if (
                isinstance(projection, str)
                or not isinstance(projection, Collection)
                or not all(isinstance(name, str) for name in projection)
            ):
                raise FilterError(
                    f"projection: a list of field names or a mapping, not {projection!r}",
                    position="projection",
                )
            projection = dict.fromkeys(projection or ["_id"], 1)
        fields = dict(projection or {})
        for name, value in fields.items():
            if not isinstance(name, str) or not isinstance(value, (bool, int)) or value not in {0, 1}:
                raise FilterError(
                    f"projection[{name!r}]: 1 keeps a field and 0 leaves it out",
                    position=f"projection[{name!r}]",
                )
        self._with_id = bool(fields.pop("_id", True))
        if len(set(map(bool, fields.values()))) > 1:
            raise FilterError(
                "projection: keep fields (1) or leave fields out (0), not both at once", position="projection"
            )
        self._keeps = bool(fields) and all(fields.values())
        self._tree = _tree(fields)
        self._only_id = projection is not None and not fields and self._with_id and bool(projection)

    @property
    def is_everything(self) -> bool:
        """Whether it changes nothing."""
        return not self._tree and self._with_id and not self._only_id

    def wants(self, field: str) -> bool:
        """Tell whether anything of a top-level field is wanted."""
        if self._only_id:
            return False
        return (field in self._tree) if self._keeps else self._tree.get(field, {}) is not None

    def apply(self, document: Document) -> Document:
        """Return the document with the wanted fields."""
        if self.is_everything:
            return document
        if self._only_id:
            return {"_id": document["_id"]} if "_id" in document else {}
        chosen: Document = (_keep if self._keeps else _leave_out)(document, self._tree)
        if "_id" in document and self._with_id:
            return {"_id": document["_id"], **chosen}
        chosen.pop("_id", None)
        return chosen


def _tree(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted names into nested mappings; None marks the end of a path."""
    tree: dict[str, Any] = {}
    for name in fields:
        *parents, last = name.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if branch is None:
                break
        if branch is None or branch.get(last) is not None:
            raise FilterError(
                f"projection: {name!r} and a field within another that is named", position="projection"
            )
        branch[last] = None
    return tree


def _keep(value: Any, tree: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_keep(item, tree) for item in value if isinstance(item, (Mapping, list))]
    return {
        name: value[name] if branch is None else _keep(value[name], branch)
        for name, branch in ((name, tree[name]) for name in value if name in tree)
        if branch is None or isinstance(value[name], (Mapping, list))
    }


def _leave_out(value: Any, tree: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_leave_out(item, tree) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        name: _leave_out(item, tree[name]) if name in tree else item
        for name, item in value.items()
        if name not in tree or tree[name] is not None
    }
