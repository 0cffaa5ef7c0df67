"""Reading what strangers send: JSON and Python literals, with every length and depth checked before it costs anything."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

from nuncius.archives.server.limits import Refusal, wrong

if TYPE_CHECKING:
    from nuncius.archives.server.limits import Limits

# Possessive: a text without its closing quote is passed over once and not tried again from each of its quotes.
_JSON_NESTING = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\\n]++|\\.)*+"|'(?:[^'\\\n]++|\\.)*+')
      | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z]+)
      | (?P<sign>[\[\](){}:,])
    )\s*""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?P<kind>x(?=[0-9a-fA-F]{2})|u(?=[0-9a-fA-F]{4})|U(?=[0-9a-fA-F]{8})|.)"
    r"(?P<digits>(?<=x)[0-9a-fA-F]{2}|(?<=u)[0-9a-fA-F]{4}|(?<=U)[0-9a-fA-F]{8}|)",
    re.DOTALL,
)
_ESCAPED = {
    "\\": "\\",
    "'": "'",
    '"': '"',
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "0": "\0",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
}
_WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
_CLOSING = {"[": "]", "(": ")", "{": "}"}
_LONGEST_NUMBER = 400


def read_json(body: bytes, limits: Limits) -> Any:
    """Read JSON.

    NaN is read, as Kowalski does; a name that stands twice in an object is refused, because one of the two values would
    be dropped in silence.

    Raises
    ------
    Refusal
        If it is no JSON, or nested too deep.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise wrong(
            "UnicodeDecodeError", f"the body is not UTF-8: byte {error.start} can't be read"
        ) from None
    _check_depth(text, limits.depth)
    return _loaded(text)


def read_literal(text: str, limits: Limits) -> Any:
    """Read a value that was given as a text: JSON, or a Python literal made of plain values.

    Raises
    ------
    Refusal
        If it is neither, too long, or nested too deep.
    """
    if len(text) > limits.literal_chars:
        raise wrong("ValueError", f"a value given as a text may have {limits.literal_chars} characters")
    try:
        return _Literal(text, limits.depth).read()
    except ValueError as error:
        raise wrong("ValueError", f"malformed node or string: {error}") from None


def _check_depth(text: str, most: int) -> None:
    depth = 0
    for match in _JSON_NESTING.finditer(text):
        sign = match[0]
        if sign in "[{":
            depth += 1
            if depth > most:
                raise wrong("ValueError", f"lists and objects may be nested {most} deep")
        elif sign in "]}":
            depth -= 1


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise wrong("JSONDecodeError", str(error)) from None
    except ValueError as error:  # a whole number of more than 4300 digits
        raise wrong("ValueError", str(error)) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _refuse_twice(pairs)
    return found


def _refuse_twice(pairs: list[tuple[str, Any]]) -> NoReturn:
    seen: set[str] = set()
    name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    raise Refusal(400, f"ValueError: the name {name[:100]!r} stands twice in one object")


class _Literal:
    """A reader of literals; `ast.literal_eval` needs hundreds of times the memory of its text."""

    def __init__(self, text: str, depth: int) -> None:
        self._text = text
        self._depth = depth
        self._place = 0

    def read(self) -> Any:
        value = self._value(*self._next(), self._depth)
        if self._place != len(self._text):
            raise ValueError(f"something follows at character {self._place}")
        return value

    def _next(self) -> tuple[str | None, str]:
        match = _TOKEN.match(self._text, self._place)
        if match is None:
            raise ValueError(f"nothing readable at character {self._place}")
        self._place = match.end()
        kind = match.lastgroup
        assert kind is not None
        return kind, match[kind]

    def _value(self, kind: str | None, word: str, depth: int) -> Any:
        if kind == "text":
            return _unquoted(word)
        if kind == "number":
            if len(word) > _LONGEST_NUMBER:
                raise ValueError("a number has too many digits")
            return int(word) if word.lstrip("+-").isdigit() else float(word)
        if kind == "word" and word in _WORDS:
            return _WORDS[word]
        if kind == "sign" and word in _CLOSING:
            if depth == 0:
                raise ValueError(f"lists and objects may be nested {self._depth} deep")
            return self._mapping(depth - 1) if word == "{" else self._list(word, depth - 1)
        raise ValueError(f"{word[:40]!r} at character {self._place} is no value")

    def _list(self, opening: str, depth: int) -> Any:
        values, commas = [], 0
        while True:
            kind, word = self._next()
            if word == _CLOSING[opening] and kind == "sign":
                break
            values.append(self._value(kind, word, depth))
            kind, word = self._next()
            if word == _CLOSING[opening]:
                break
            self._expect(",", word)
            commas += 1
        if opening == "[":
            return values
        # As in Python: (1) is a number and (1,) a tuple.
        return values[0] if len(values) == 1 and not commas else tuple(values)

    def _mapping(self, depth: int) -> dict[str, Any]:
        pairs: list[tuple[str, Any]] = []
        while True:
            kind, word = self._next()
            if word == "}" and kind == "sign":
                break
            if kind != "text":
                raise ValueError(f"{word[:40]!r} at character {self._place} is no name of a field")
            name = _unquoted(word)
            self._expect(":", self._next()[1])
            pairs.append((name, self._value(*self._next(), depth)))
            _, word = self._next()
            if word == "}":
                break
            self._expect(",", word)
        return _unique(pairs)

    def _expect(self, wanted: str, word: str) -> None:
        if word != wanted:
            raise ValueError(f"{wanted!r} is missing at character {self._place}")


def _unquoted(token: str) -> str:
    """Return what a quoted text means, as Python has it, and what JSON writes in the same way."""
    inner = token[1:-1]
    if "\\" not in inner:
        return inner
    if token[0] == '"':
        try:
            return str(json.loads(token))
        except json.JSONDecodeError:
            pass
    return _ESCAPE.sub(_unescaped, inner)


def _unescaped(match: re.Match[str]) -> str:
    kind, digits = match["kind"], match["digits"]
    if digits:
        code = int(digits, 16)
        if code > 0x10FFFF:
            raise ValueError(f"{match[0]!r} is no character")
        return chr(code)
    if kind in _ESCAPED:
        return _ESCAPED[kind]
    if kind in "xuUN" or kind.isdigit():
        raise ValueError(f"the escape {match[0]!r} is not complete, or not known here")
    return match[0]  # the backslash stays, as in Python: expressions such as '\\d+' are written so
