"""What clients send, checked field by field: bodies, filters, pages and sort orders, with the messages of the real server."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from nuncius.sandbox.dserver.answers import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

Check: TypeAlias = Callable[[Any], Any]
Query: TypeAlias = Mapping[str, list[str]]
_Number = TypeVar("_Number", int, float)

_NULL = "Field may not be null."
_TRUE = frozenset({"t", "T", "true", "True", "TRUE", "on", "On", "ON", "y", "Y", "yes", "Yes", "YES", "1", 1})
_FALSE = frozenset(
    {"f", "F", "false", "False", "FALSE", "off", "Off", "OFF", "n", "N", "no", "No", "NO", "0", 0}
)
_LARGEST_PAGE = 100


class InvalidError(Exception):
    """A value is not what its field takes; `messages` says why, for a list or a mapping by its parts."""

    def __init__(self, messages: list[str] | dict[str, Any]) -> None:
        super().__init__(messages)
        self.messages = messages


# One value -----------------------------------------------------------------------------------------------------------


def text(value: Any) -> str:
    """Take a text."""
    if not isinstance(value, str):
        raise InvalidError([_NULL if value is None else "Not a valid string."])
    return value


def text_or_null(value: Any) -> str | None:
    """Take a text or null."""
    return None if value is None else text(value)


def uuid_field(value: Any) -> uuid.UUID:
    """Take a UUID in any of its spellings."""
    try:
        return uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidError([_NULL if value is None else "Not a valid UUID."]) from None


def whole(value: Any) -> int:
    """Take a whole number, or the text of one."""
    return _number(value, int, "Not a valid integer.")


def real(value: Any) -> float:
    """Take a number, or the text of one."""
    number = _number(value, float, "Not a valid number.")
    if not math.isfinite(number):
        raise InvalidError(["Special numeric values (nan or infinity) are not permitted."])
    return number


def _number(value: Any, kind: Callable[[Any], _Number], problem: str) -> _Number:
    if value is None or isinstance(value, bool):
        raise InvalidError([_NULL if value is None else problem])
    try:
        return kind(value)
    except (ValueError, TypeError, OverflowError):
        raise InvalidError([problem]) from None


def flag(value: Any) -> bool:
    """Take a truth value in one of many spellings."""
    if value is None:
        raise InvalidError([_NULL])
    if isinstance(value, (str, float, int)) and (value in _TRUE or value in _FALSE):
        return value in _TRUE
    raise InvalidError(["Not a valid boolean."])


def mapping(value: Any) -> dict[str, Any]:
    """Take a mapping of anything."""
    if not isinstance(value, dict):
        raise InvalidError([_NULL if value is None else "Not a valid mapping type."])
    return value


def list_of(check: Check) -> Check:
    """Return a check of lists."""

    def checked(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise InvalidError([_NULL if value is None else "Not a valid list."])
        return list(_each(enumerate(value), check, lambda messages: messages).values())

    return checked


def mapping_of(check: Check) -> Check:
    """Return a check of mappings whose values are alike."""

    def checked(value: Any) -> dict[str, Any]:
        return _each(mapping(value).items(), check, lambda messages: {"value": messages})

    return checked


def record(fields: Mapping[str, Check]) -> Check:
    """Return a check of mappings with these fields and no others; each may be missing."""

    def checked(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise InvalidError({"_schema": ["Invalid input type."]})
        return _each(value.items(), lambda item: item, lambda messages: messages, fields)

    return checked


def nested(fields: Mapping[str, Check]) -> Check:
    """Return a check of mappings within others."""
    check = record(fields)

    def checked(value: Any) -> dict[str, Any]:
        if value is None:
            raise InvalidError([_NULL])
        return dict(check(value))

    return checked


def _each(items: Any, check: Check, wrap: Check, fields: Mapping[str, Check] | None = None) -> dict[Any, Any]:
    """Check all parts, and say of all of them what is wrong."""
    taken, wrong = {}, {}
    for key, item in items:
        try:
            taken[key] = (check if fields is None else fields.get(key, _unknown))(item)
        except InvalidError as error:
            wrong[str(key)] = wrap(error.messages)
    if wrong:
        raise InvalidError(wrong)
    return taken


def _unknown(_value: Any) -> None:
    raise InvalidError(["Unknown field."])


# What the routes take ------------------------------------------------------------------------------------------------

FILTERS: Mapping[str, Check] = {
    "creator_usernames": list_of(text),
    "base_uris": list_of(text),
    "uuids": list_of(uuid_field),
    "tags": list_of(text),
}
SEARCH: Mapping[str, Check] = {"free_text": text, **FILTERS}
MONGO: Mapping[str, Check] = {**FILTERS, "aggregation": list_of(mapping), "query": mapping}
USER: Mapping[str, Check] = {"username": text_or_null, "is_admin": flag}
BASE_URI: Mapping[str, Check] = {
    "base_uri": text_or_null,
    "users_with_search_permissions": list_of(text),
    "users_with_register_permissions": list_of(text),
}
DEPENDENCY_KEYS: Mapping[str, Check] = {"dependency_keys": list_of(text)}
_ITEM = nested({"hash": text, "relpath": text, "size_in_bytes": whole, "utc_timestamp": real})
DATA_SET: Mapping[str, Check] = {
    "uuid": uuid_field,
    "base_uri": text,
    "uri": text,
    "name": text,
    "type": text,
    "readme": text,
    "manifest": nested({"items": mapping_of(_ITEM), "hash_function": text, "dtoolcore_version": text}),
    "creator_username": text,
    "frozen_at": text,
    "created_at": text,
    "annotations": mapping,
    "tags": list_of(text),
    "number_of_items": whole,
    "size_in_bytes": whole,
}


def body_fields(body: bytes, content_type: str, fields: Mapping[str, Check]) -> dict[str, Any]:
    """Return the checked fields of a body; a body that is empty or not called JSON has none.

    Raises
    ------
    RefusedError
        400 if it is no JSON, 422 if a field is wrong or unknown.
    """
    if not body or not is_json(content_type):
        return {}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(400, errors={"json": ["Invalid JSON body."]}) from None
    return _checked(content, fields, "json")


def is_json(content_type: str) -> bool:
    """Tell whether a content type is that of JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def query_fields(query: Query) -> dict[str, Any]:
    """Return the checked filters of a query string; what is no filter is none of our business.

    Raises
    ------
    RefusedError
        422 if one is wrong.
    """
    given = {key: query[key][0] if key == "free_text" else query[key] for key in SEARCH if key in query}
    return _checked(given, SEARCH, "query")


def _checked(content: Any, fields: Mapping[str, Check], place: str) -> dict[str, Any]:
    try:
        return dict(record(fields)(content))
    except InvalidError as error:
        raise RefusedError(422, errors={place: error.messages}) from None


# Pages and sort orders -----------------------------------------------------------------------------------------------


class Page(NamedTuple):
    """A page of an answer, the first being 1."""

    number: int
    size: int

    def of(self, rows: Sequence[Any]) -> list[Any]:
        """Return what is on it."""
        return list(rows[(self.number - 1) * self.size : self.number * self.size])

    def header(self, total: int) -> dict[str, str]:
        """Return the header that says where it is."""
        said = {"total": total, "total_pages": -(-total // self.size)}
        last = said["total_pages"]
        if total:
            said |= {"first_page": 1, "last_page": last}
        if self.number <= last:
            said["page"] = self.number
            if self.number > 1:
                said["previous_page"] = self.number - 1
            if self.number < last:
                said["next_page"] = self.number + 1
        return {"X-Pagination": json.dumps(said)}


def page_of(query: Query) -> Page:
    """Return the page that is asked for.

    Raises
    ------
    RefusedError
        422 if there can be no such page.
    """

    def number(value: Any) -> int:
        if whole(value) < 1:
            raise InvalidError(["Must be greater than or equal to 1."])
        return whole(value)

    def size(value: Any) -> int:
        if not 1 <= whole(value) <= _LARGEST_PAGE:
            raise InvalidError(["Must be greater than or equal to 1 and less than or equal to 100."])
        return whole(value)

    given = {key: query[key][0] for key in ("page", "page_size") if key in query}
    asked = _checked(given, {"page": number, "page_size": size}, "query")
    return Page(asked.get("page", 1), asked.get("page_size", 10))


def sort_of(query: Query, fields: Sequence[str], default: str) -> dict[str, int]:
    """Return by which fields is sorted, each with 1 or -1.

    Raises
    ------
    RefusedError
        422 if there is no such field.
    """
    possible = [sign + field for sign in ("+", "-", "") for field in fields]

    def one(value: str) -> str:
        if value not in possible:
            raise InvalidError([f"Must be one of: {', '.join(possible)}."])
        return value

    given = [part for part in query.get("sort", [""])[0].split(",") if part] or [default]
    taken = _checked({"sort": given}, {"sort": list_of(one)}, "query")["sort"]
    return {part.lstrip("+-"): -1 if part.startswith("-") else 1 for part in taken}


def sort_header(order: Mapping[str, int]) -> dict[str, str]:
    """Return the header that says how the answer is sorted."""
    return {"X-Sort": json.dumps({"sort": order})}
