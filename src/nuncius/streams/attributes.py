r"""Filters on the attributes of messages, in the language of Google Pub/Sub: ``attributes.pg_variable = "likely"``.

The same text filters on the server, where a subscription is created with it, and here, before a packet is decoded.

Comparisons
    ``attributes:KEY`` asks whether the attribute is there, ``attributes.KEY = "value"`` and ``attributes.KEY != "value"``
    compare it, ``hasPrefix(attributes.KEY, "prefix")`` looks at how it begins. A message without the attribute passes
    ``!=``, and nothing else. Keys and values are compared letter by letter: ``"Likely"`` is not ``"likely"``.
Combinations
    ``AND``, ``OR``, and ``NOT`` or ``-`` before a comparison or before parentheses. A chain holds either ``AND`` or ``OR``;
    parentheses combine the two.
Texts
    A value stands in double quotes, and so does a key with characters other than letters, digits, ``-`` and ``_``:
    ``attributes."kafka.topic"``. Within quotes a backslash escapes: ``\"``, ``\\``, ``\n``, ``\x41``, ``\101``, ``\u00e9``.

A filter has at most 256 bytes, as on Google's servers. (Source: "Filter messages from a subscription", the
documentation of Google Pub/Sub.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from nuncius.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    _Test = Callable[[Mapping[str, str]], bool]

LONGEST_BYTES = 256
MAX_DEPTH = 30  # of parentheses

# A minus is read as NOT only where a comparison may begin; elsewhere it belongs to a key.
_TOKEN = re.compile(
    r'(?P<space>\s+)|(?P<text>"(?:[^"\\]|\\.)*")|(?P<word>[A-Za-z0-9_][A-Za-z0-9_-]*)|(?P<sign>!=|[-=:.,()])',
    re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{1,3})|(.))", re.DOTALL
)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"} | {
    char: char for char in "\\\"'?`"
}
_EXAMPLES = 'attributes:KEY, attributes.KEY = "value", attributes.KEY != "value" or hasPrefix(attributes.KEY, "prefix")'


@dataclass(frozen=True, slots=True)
class AttributeFilter:
    """A filter on attributes; call it with those of a message.

    Parameters
    ----------
    text : str
        How it was written.
    """

    text: str
    _test: _Test = field(repr=False, compare=False)

    def __call__(self, attributes: Mapping[str, str]) -> bool:
        """Tell whether a message with these attributes passes."""
        return self._test(attributes)

    def __reduce__(self) -> tuple[Any, ...]:
        return (parse_attribute_filter, (self.text,))


def parse_attribute_filter(text: str) -> AttributeFilter:
    r"""Read a filter on the attributes of messages.

    Parameters
    ----------
    text : str
        The filter, in Google Pub/Sub's language; the head of this module describes it.

    Returns
    -------
    AttributeFilter
        A function of a message's attributes.

    Raises
    ------
    FilterError
        If that is no filter; `position` is the column, and the message says what to write instead.

    Examples
    --------
    >>> likely = parse_attribute_filter('attributes:diaObject_diaObjectId AND attributes.pg_variable = "likely"')
    >>> likely({"diaObject_diaObjectId": "1", "pg_variable": "likely"})
    True
    >>> likely({"pg_variable": "likely"})
    False
    """
    if not isinstance(text, str) or not text.strip():
        raise FilterError(f"attribute_filter={text!r} is no filter; write one such as {_EXAMPLES}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise FilterError(
            f"attribute_filter: character {error.start + 1} is half of a character; write it whole",
            position=f"column {error.start + 1}",
        ) from error
    if size > LONGEST_BYTES:
        raise FilterError(f"attribute_filter: a filter has at most {LONGEST_BYTES} bytes, not {size}")
    return AttributeFilter(text, _Reader(text).all())


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    begin: int


class _Reader:
    """Reads a filter from left to right; each method takes one part and returns the function that it means."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = _Token("end", "the end", len(text))
        self._tokens = self._split()
        self._next = 0
        self._depth = 0

    def all(self) -> _Test:
        test = self._chain()
        if self._here is not self._end:
            cure = "; texts stand in double quotes" if self._here.kind == "text" else ""
            self._fail(f"AND, OR or the end was expected here, not {self._here.text}{cure}")
        return test

    # Parts ------------------------------------------------------------------------------------------------------------

    def _chain(self) -> _Test:
        tests = [self._term()]
        joined_by = self._here.text
        while self._here.kind == "word" and self._here.text.upper() in {"AND", "OR"}:
            if self._here.text.upper() != self._here.text:
                self._fail(f"{self._here.text} is written in capitals: {self._here.text.upper()}")
            if self._here.text != joined_by:
                self._fail('AND and OR can\'t be mixed; put parentheses, as in "a AND (b OR c)"')
            self._take()
            tests.append(self._term())
        if len(tests) == 1:
            return tests[0]
        return _all_of(tests) if joined_by == "AND" else _any_of(tests)

    def _term(self) -> _Test:
        if self._here.text in {"NOT", "-"}:
            self._take()
            return _not(self._simple())
        return self._simple()

    def _simple(self) -> _Test:
        if self._here.text == "(":
            return self._parentheses()
        if self._here.text == "hasPrefix":
            self._take()
            self._expect("(", "hasPrefix stands before parentheses")
            key = self._key_of_attributes()
            self._expect(",", "the prefix follows after a comma")
            prefix = self._value()
            self._expect(")", "the parenthesis of hasPrefix is closed after the prefix")
            return _begins(key, prefix)
        if self._here.text != "attributes":
            self._fail(f"{self._here.text} is no comparison; write {_EXAMPLES}")
        return self._comparison()

    def _parentheses(self) -> _Test:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"parentheses are nested more than {MAX_DEPTH} deep; write it flatter")
        self._take()
        test = self._chain()
        self._expect(")", "a parenthesis is not closed")
        self._depth -= 1
        return test

    def _comparison(self) -> _Test:
        self._take()
        if self._here.text == ":":
            self._take()
            return _has(self._key())
        key = self._key_after_dot()
        sign = self._here
        if sign.text not in {"=", "!="}:
            dotted = (
                '; a key with a dot stands in quotes: attributes."kafka.topic"' if sign.text == "." else ""
            )
            self._fail(f'= "value" or != "value" was expected after attributes.{key}{dotted}')
        self._take()
        value = self._value()
        return _equals(key, value) if sign.text == "=" else _differs(key, value)

    def _key_of_attributes(self) -> str:
        if self._here.text != "attributes":
            self._fail("an attribute was expected here: attributes.KEY")
        self._take()
        return self._key_after_dot()

    def _key_after_dot(self) -> str:
        self._expect(".", "a key follows after attributes: attributes.KEY or attributes:KEY")
        return self._key()

    def _key(self) -> str:
        token = self._here
        if token.kind not in {"word", "text"}:
            self._fail(f'a key was expected here, not {token.text}: name or "na.me"')
        self._take()
        return self._unquoted(token) if token.kind == "text" else token.text

    def _value(self) -> str:
        token = self._here
        if token.kind != "text":
            self._fail(f'a value was expected here, in double quotes: "{token.text}"' if token.kind == "word" else
                       f"a value in double quotes was expected here, not {token.text}")  # fmt: skip
        self._take()
        return self._unquoted(token)

    # Words ------------------------------------------------------------------------------------------------------------

    @property
    def _here(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> None:
        self._next = min(self._next + 1, len(self._tokens) - 1)

    def _expect(self, sign: str, otherwise: str) -> None:
        if self._here.text != sign:
            self._fail(f"{sign} was expected here, not {self._here.text}: {otherwise}")
        self._take()

    def _split(self) -> list[_Token]:
        tokens, at = [], 0
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                self._fail(_what_is_wrong(self._text[at]), at)
            if found.lastgroup != "space":
                assert found.lastgroup is not None
                tokens.append(_Token(found.lastgroup, found.group(), at))
            at = found.end()
        return [*tokens, self._end]

    def _unquoted(self, token: _Token) -> str:
        def plain(found: re.Match[str]) -> str:
            two, four, eight, octal, other = found.groups()
            code = int(octal, 8) if octal else int(two or four or eight or "0", 16)
            if other is not None:
                if other not in _ESCAPED:
                    self._fail(f"\\{other} means nothing; a backslash itself is written \\\\", place)
                return _ESCAPED[other]
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                self._fail(f"{found.group()} is no character", place)
            return chr(code)

        place = token.begin
        return _ESCAPE.sub(plain, token.text[1:-1])

    def _fail(self, problem: str, at: int | None = None) -> NoReturn:
        begin = self._here.begin if at is None else at
        shown = self._text.replace("\n", " ").replace("\t", " ")
        raise FilterError(
            f"attribute_filter: {problem}\n    {shown}\n    {' ' * begin}^", position=f"column {begin + 1}"
        )


def _what_is_wrong(char: str) -> str:
    if char == '"':
        return "these quotes are not closed"
    if char == "'":
        return "texts stand in double quotes"
    if char in "<>*~":
        return f"{char} is not known here: attributes are texts, compared with =, != and hasPrefix"
    return f'{char} is not known here; a key with such characters stands in double quotes: attributes."a/b"'


# What the parts mean --------------------------------------------------------------------------------------------------


def _has(key: str) -> _Test:
    return lambda attributes: key in attributes


def _equals(key: str, value: str) -> _Test:
    return lambda attributes: attributes.get(key) == value


def _differs(key: str, value: str) -> _Test:
    return lambda attributes: attributes.get(key) != value


def _begins(key: str, prefix: str) -> _Test:
    return lambda attributes: key in attributes and attributes[key].startswith(prefix)


def _not(test: _Test) -> _Test:
    return lambda attributes: not test(attributes)


def _all_of(tests: list[_Test]) -> _Test:
    return lambda attributes: all(test(attributes) for test in tests)


def _any_of(tests: list[_Test]) -> _Test:
    return lambda attributes: any(test(attributes) for test in tests)
