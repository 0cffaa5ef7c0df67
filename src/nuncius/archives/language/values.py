"""Values as MongoDB has them: which are equal, which comes first, and what stands at a path of a document.

Source: the MongoDB manual, "Comparison/Sort Order" and "Query for Null or Missing Fields".
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from nuncius.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Document: TypeAlias = dict[str, Any]
Filter: TypeAlias = Mapping[str, Any]
SortLike: TypeAlias = "str | Sequence[tuple[str, int]] | Mapping[str, int] | None"
ProjectionLike: TypeAlias = "Mapping[str, Any] | Sequence[str] | None"

MAX_DEPTH = 100  # as MongoDB: what is nested deeper is no question but an attack
MAX_PATH = 100  # names in a dotted path
_HEXADECIMAL = re.compile("[0-9a-f]{24}")


class _Missing:
    """What stands where a document has nothing; it is not null."""

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "MISSING"  # one object, in a copy and in another process too


MISSING: Final = _Missing()

# From first to last, as they are sorted. A missing value is before null in expressions; a sort takes both for one.
TYPE_ORDER = (
    "missing",
    "null",
    "number",
    "string",
    "object",
    "array",
    "binData",
    "objectId",
    "bool",
    "date",
    "regex",
)
_RANKS = {name: rank for rank, name in enumerate(TYPE_ORDER)}
_KINDS: dict[type, str] = {
    type(None): "null", bool: "bool", int: "number", float: "number", str: "string", dict: "object", list: "array",
    bytes: "binData", datetime: "date", re.Pattern: "regex", _Missing: "missing",
}  # fmt: skip


def type_of(value: Any) -> str:
    """Return the name of the type of a value, all numbers being of one type.

    Examples
    --------
    >>> type_of(1.5), type_of(True), type_of(None)
    ('number', 'bool', 'null')
    """
    kind = _KINDS.get(value.__class__)
    return kind if kind is not None else _kind_of_subclass(value)


def _kind_of_subclass(value: Any) -> str:
    for kind, name in _KINDS.items():
        if isinstance(value, kind):
            return name
    return "object" if isinstance(value, Mapping) else "objectId"


def is_number(value: Any) -> bool:
    """Tell whether a value is a number; true is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_nan(value: Any) -> bool:
    """Tell whether a value is the number that is none."""
    return isinstance(value, float) and math.isnan(value)


def is_id(value: Any) -> bool:
    """Tell whether a value is an ObjectId, without importing bson."""
    return type(value).__name__ == "ObjectId"


def in_utc(value: datetime) -> datetime:
    """Give a time without a zone UTC, as pymongo does."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


# Order ---------------------------------------------------------------------------------------------------------------


def order_key(value: Any) -> tuple[Any, ...]:
    """Return a key by which values of any types are sorted, told apart and found in a dict.

    Two values are equal when their keys are: 1 and 1.0 are, 1 and true are not. NaN is equal to itself and smaller than
    all other numbers. Documents are compared field by field: type, then name, then value. Bytes: shorter is smaller.
    """
    kind = type_of(value)
    rank = _RANKS[kind]
    if kind == "number":
        return (rank, 0) if value != value else (rank, 1, value)  # noqa: PLR0124 - NaN
    if kind in {"string", "bool"}:
        return (rank, value)
    if kind == "object":
        parts = ((name, order_key(item)) for name, item in value.items())
        return (rank, tuple((key[0], name, key) for name, key in parts))
    if kind == "array":
        return (rank, tuple(map(order_key, value)))
    if kind == "binData":
        return (rank, len(value), bytes(value))
    if kind == "date":
        return (rank, in_utc(value))
    if kind == "objectId":
        return (rank, str(value))
    return (rank, value.pattern, value.flags) if kind == "regex" else (rank,)


def comparable(a: Any, b: Any) -> tuple[Any, Any]:
    """Turn an ObjectId into text where it meets the text of one, because the embedded archive keeps ids as texts."""
    if isinstance(b, str) and is_id(a) and _HEXADECIMAL.fullmatch(b):
        return str(a), b
    if isinstance(a, str) and is_id(b) and _HEXADECIMAL.fullmatch(a):
        return a, str(b)
    return a, b


def equal(a: Any, b: Any) -> bool:
    """Tell whether two values are equal as MongoDB has it: 1 and 1.0 are, 1 and true are not.

    An ObjectId and the text of its 24 hexadecimal digits are equal too (see `comparable`).
    """
    if type(a) is type(b) and isinstance(a, (str, int)):
        return bool(a == b)
    a, b = comparable(a, b)
    return order_key(a) == order_key(b)


def compare(a: Any, b: Any) -> int:
    """Compare two values in MongoDB's order: by type first, then by value. NaN is the smallest number.

    Returns
    -------
    int
        -1, 0 or 1.
    """
    a, b = comparable(a, b)
    left, right = order_key(a), order_key(b)
    return (left > right) - (left < right)


class OneOf(list[Any]):
    """The values of a checked `$in`, which are looked up and not gone through for each document."""

    @cached_property
    def keys(self) -> frozenset[Any]:
        """What the values are told apart by."""
        keys = set()
        for value in self:
            if not isinstance(value, re.Pattern):
                keys.add(order_key(value))
                if value is None:
                    keys.add(order_key(MISSING))
                elif isinstance(value, str) and _HEXADECIMAL.fullmatch(value):
                    keys.add((_RANKS["objectId"], value))  # see `comparable`
                elif is_id(value):
                    keys.add(order_key(str(value)))
        return frozenset(keys)

    @cached_property
    def patterns(self) -> list[re.Pattern[str]]:
        """The regular expressions among them."""
        return [value for value in self if isinstance(value, re.Pattern)]


# Paths ---------------------------------------------------------------------------------------------------------------


def found(value: Any, path: Sequence[str]) -> list[Any]:
    """Return what stands at a path: through arrays of documents there may be several, and nothing is MISSING."""
    for position, name in enumerate(path):
        if isinstance(value, list):
            return _found_in_array(value, path[position:])
        if not isinstance(value, Mapping) or name not in value:
            return [MISSING]
        value = value[name]
    return [value]


def _found_in_array(value: list[Any], path: Sequence[str]) -> list[Any]:
    several = []
    name = path[0]
    if name.isdecimal() and name.isascii() and int(name) < len(value):
        several += found(value[int(name)], path[1:])
    for item in value:
        if isinstance(item, Mapping):
            several += found(item, path)
    return several  # nothing at all where no element is a document: that is not null


def each(values: Iterable[Any]) -> Iterator[Any]:
    """Give the values, and the elements of those that are arrays."""
    for value in values:
        yield value
        if isinstance(value, list) and not isinstance(values, Alone):
            yield from value


class Alone(list[Any]):
    """One element of an array, which is not looked into when it is an array itself."""


# Checking ------------------------------------------------------------------------------------------------------------


def check_depth(value: Any, place: str) -> None:
    """Refuse what is nested more than 100 deep.

    Raises
    ------
    FilterError
        If it is.
    """
    level = {id(value): value}
    for _ in range(MAX_DEPTH + 1):
        level = {
            id(item): item
            for inner in level.values()
            if isinstance(inner, (Mapping, list, tuple))
            for item in (inner.values() if isinstance(inner, Mapping) else inner)
        }
        if not level:
            return
    raise FilterError(f"{place} is nested deeper than {MAX_DEPTH} levels", position=place)


def plain(value: Any, place: str = "value") -> Any:
    """Turn numpy scalars and astropy times into plain values; refuse what no document can hold.

    An ObjectId stays what it is, and a datetime without a zone is in UTC.

    Raises
    ------
    FilterError
        If a value can't stand in a filter.
    """
    if isinstance(value, datetime):
        return in_utc(value)
    if isinstance(value, re.Pattern) and isinstance(value.pattern, bytes):
        raise FilterError(f"{place}: an expression of bytes matches no text", position=place)
    if value is None or isinstance(value, (bool, int, float, str, bytes, re.Pattern)):
        # A numpy.float64 is a float and yet no plain one.
        return cast("Any", value).item() if type(value).__module__ == "numpy" else value
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
    if is_id(value):
        return value
    raise FilterError(
        f"{place}: a {kind_of(value)} can't stand in a filter; use numbers, texts, lists, datetime or astropy Time",
        position=place,
    )


def check_path(path: str, place: str) -> str:
    """Refuse a dotted path with empty names, with names that look like operators, or with too many.

    Raises
    ------
    FilterError
        If it is no path.
    """
    names = path.split(".")
    if not all(names):
        raise FilterError(f"{place}: {path!r} has an empty name in it", position=place)
    if any(name.startswith("$") for name in names):
        raise FilterError(f"{place}: no name in a path begins with $, as in {path!r}", position=place)
    if len(names) > MAX_PATH:
        raise FilterError(f"{place}: a path has at most {MAX_PATH} names, not {len(names)}", position=place)
    return path


def unknown(name: str, place: str, known: Iterable[str], problem: str) -> FilterError:
    """Make the error for a misspelt name, with what is close to it."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"
    return FilterError(f"{place}: {name!r} {problem}; {hint}", position=place)


def kind_of(value: Any) -> str:
    """Return the name of a value's type for a message."""
    return type(value).__name__


def has_operators(value: Any) -> bool:
    """Tell whether a value is a mapping with an operator among its keys."""
    return isinstance(value, Mapping) and any(isinstance(key, str) and key.startswith("$") for key in value)
