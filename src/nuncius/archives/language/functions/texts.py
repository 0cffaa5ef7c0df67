"""Texts.

Source: the MongoDB manual, "String Expression Operators".
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.functions.base import (
    LARGEST_ARRAY,
    LARGEST_TEXT,
    Function,
    failed,
    is_nothing,
    text,
    whole,
)
from nuncius.archives.language.functions.types import as_text
from nuncius.archives.language.patterns import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST_MATCHES = 100_000  # of one text; each is a document
# What $trim takes for white space: the null character too.
_BLANK = "\0\t\n\v\f\r \u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B)))


def _coerced(operator: str, value: Any) -> str:
    """Return a text, made of a number or a date if need be; nothing is the empty text."""
    return "" if is_nothing(value) else as_text(operator, value)


def _concat(*parts: Any) -> Any:
    if any(map(is_nothing, parts)):
        return None
    return _bounded("$concat", sum(len(text("$concat", part)) for part in parts), lambda: "".join(parts))


def _bounded(operator: str, length: int, make: Callable[[], str]) -> str:
    if length > LARGEST_TEXT:
        raise failed(operator, f"makes no text of more than {LARGEST_TEXT} characters")
    return make()


def _substring_bytes(value: Any, start: Any, length: Any) -> str:
    data = _coerced("$substrBytes", value).encode()
    start, length = whole("$substrBytes", start), whole("$substrBytes", length)
    if start < 0:
        return ""
    try:
        return data[start : None if length < 0 else start + length].decode()
    except UnicodeDecodeError as error:
        raise failed("$substrBytes", "starts or ends within a character; use $substrCP") from error


def _substring(value: Any, start: Any, length: Any) -> str:
    given = _coerced("$substrCP", value)
    start, length = whole("$substrCP", start), whole("$substrCP", length)
    if start < 0 or length < 0:
        raise failed("$substrCP", "takes a start and a length that are not negative")
    return given[start : start + length]


def _split(value: Any, separator: Any) -> Any:
    if is_nothing(value) or is_nothing(separator):
        return None
    if not text("$split", separator):
        raise failed("$split", "takes a separator that is not empty")
    if text("$split", value).count(separator) >= LARGEST_ARRAY:
        raise failed("$split", f"makes no array of more than {LARGEST_ARRAY} elements")
    parts: list[str] = value.split(separator)
    return parts


def _trim(operator: str, strip: Callable[[str, str], str]) -> Callable[[dict[str, Any]], Any]:
    def call(given: dict[str, Any]) -> Any:
        value, characters = given["input"], given.get("chars", _BLANK)
        if is_nothing(value) or is_nothing(characters):
            return None
        return strip(text(operator, value), text(operator, characters))

    return call


def _index(operator: str, encoded: Callable[[str], Any]) -> Callable[..., Any]:
    def call(value: Any, wanted: Any, start: Any = 0, end: Any = None) -> Any:
        if is_nothing(value):
            return None
        given, part = encoded(text(operator, value)), encoded(text(operator, wanted))
        start = whole(operator, start)
        end = len(given) if end is None else whole(operator, end)
        if start < 0 or end < 0:
            raise failed(operator, "takes a start and an end that are not negative")
        return given.find(part, start, end) if start <= len(given) else -1

    return call


def _finder(operator: str) -> Callable[[dict[str, Any]], re.Pattern[str] | None]:
    def call(given: dict[str, Any]) -> re.Pattern[str] | None:
        value, pattern, options = given["input"], given["regex"], given.get("options")
        if not is_nothing(value):
            text(operator, value)
        if is_nothing(value) or is_nothing(pattern):
            return None
        if not isinstance(pattern, re.Pattern):
            text(operator, pattern)
        return compile_pattern(pattern, "" if is_nothing(options) else text(operator, options), operator)

    return call


def _regex_match(given: dict[str, Any]) -> bool:
    pattern = _finder("$regexMatch")(given)
    return pattern is not None and pattern.search(given["input"]) is not None


def _described(match: re.Match[str]) -> dict[str, Any]:
    return {"match": match.group(), "idx": match.start(), "captures": list(match.groups())}


def _regex_find(given: dict[str, Any]) -> Any:
    pattern = _finder("$regexFind")(given)
    match = pattern.search(given["input"]) if pattern else None
    return _described(match) if match else None


def _regex_find_all(given: dict[str, Any]) -> list[Any]:
    pattern = _finder("$regexFindAll")(given)
    if pattern is None:
        return []
    found = [_described(match) for match in islice(pattern.finditer(given["input"]), LARGEST_MATCHES + 1)]
    if len(found) > LARGEST_MATCHES:
        raise failed("$regexFindAll", f"makes no array of more than {LARGEST_MATCHES} matches")
    return found


def _replace(operator: str, count: int) -> Callable[[dict[str, Any]], Any]:
    def call(given: dict[str, Any]) -> Any:
        parts = [given[name] for name in ("input", "find", "replacement")]
        if any(map(is_nothing, parts)):
            return None
        value, find, replacement = (text(operator, part) for part in parts)
        times = value.count(find) if count < 0 else count
        length = len(value) + times * len(replacement)
        return _bounded(operator, length, lambda: value.replace(find, replacement, count))

    return call


def _compare_case(a: Any, b: Any) -> int:
    left, right = (_coerced("$strcasecmp", value).upper() for value in (a, b))
    return (left > right) - (left < right)


def _length(operator: str, encoded: Callable[[str], Any]) -> Callable[[Any], int]:
    return lambda value: len(encoded(text(operator, value)))


def _trimming(meaning: str, operator: str, strip: Callable[[str, str], str]) -> Function:
    return Function(
        meaning=meaning,
        named=_trim(operator, strip),
        required=("input",),
        optional=("chars",),
        least=0,
        most=0,
    )


def _by_regex(meaning: str, named: Callable[[dict[str, Any]], Any]) -> Function:
    return Function(
        meaning=meaning, named=named, required=("input", "regex"), optional=("options",), least=0, most=0
    )


def _replacing(meaning: str, operator: str, count: int) -> Function:
    return Function(
        meaning=meaning,
        named=_replace(operator, count),
        required=("input", "find", "replacement"),
        least=0,
        most=0,
    )


TEXTS: dict[str, Function] = {
    "$concat": Function(meaning="texts one after the other", call=_concat, least=0, most=None),
    "$substr": Function(meaning="as $substrBytes", call=_substring_bytes, least=3, most=3),
    "$substrBytes": Function(
        meaning="from a byte on, some bytes (all, if negative)", call=_substring_bytes, least=3, most=3
    ),
    "$substrCP": Function(meaning="from a character on, some characters", call=_substring, least=3, most=3),
    "$toLower": Function(meaning="in small letters", call=lambda value: _coerced("$toLower", value).lower()),
    "$toUpper": Function(
        meaning="in capital letters", call=lambda value: _coerced("$toUpper", value).upper()
    ),
    "$split": Function(meaning="the parts between separators", call=_split, least=2, most=2),
    "$strLenCP": Function(meaning="the number of characters", call=_length("$strLenCP", str)),
    "$strLenBytes": Function(
        meaning="the number of bytes in UTF-8", call=_length("$strLenBytes", str.encode)
    ),
    "$trim": _trimming("without white space, or other characters, around it", "$trim", str.strip),
    "$ltrim": _trimming("without white space, or other characters, before it", "$ltrim", str.lstrip),
    "$rtrim": _trimming("without white space, or other characters, after it", "$rtrim", str.rstrip),
    "$indexOfCP": Function(
        meaning="the character at which a text begins in another, or -1",
        call=_index("$indexOfCP", str),
        least=2,
        most=4,
    ),
    "$indexOfBytes": Function(
        meaning="the byte at which a text begins in another, or -1",
        call=_index("$indexOfBytes", str.encode),
        least=2,
        most=4,
    ),
    "$regexMatch": _by_regex("whether a regular expression is found in a text", _regex_match),
    "$regexFind": _by_regex("the first place {match, idx, captures} of a regular expression", _regex_find),
    "$regexFindAll": _by_regex("all places of a regular expression", _regex_find_all),
    "$replaceOne": _replacing("with the first occurrence of a text replaced", "$replaceOne", 1),
    "$replaceAll": _replacing("with all occurrences of a text replaced", "$replaceAll", -1),
    "$strcasecmp": Function(
        meaning="-1, 0 or 1, without regard to case", call=_compare_case, least=2, most=2
    ),
}
