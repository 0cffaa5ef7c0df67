"""What a function of the expression language is, and what all of them need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from nuncius.archives.language.bounds import check_time
from nuncius.archives.language.values import MISSING, has_operators, is_number, type_of
from nuncius.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST_TEXT = 16 * 2**20  # characters; as the largest document of MongoDB
LARGEST_ARRAY = 1_000_000  # elements
TYPE_CODES = {
    1: "double", 2: "string", 3: "object", 4: "array", 5: "binData", 7: "objectId", 8: "bool", 9: "date", 10: "null",
    11: "regex", 16: "int", 17: "timestamp", 18: "long", 19: "decimal", -1: "minKey", 127: "maxKey",
}  # fmt: skip


class Scope(Protocol):
    """What an expression is evaluated in: a document and variables."""

    def value(self, expression: Any) -> Any:
        """Evaluate an expression."""

    def within(self, **variables: Any) -> Scope:
        """Return the same scope with more variables."""


Check: TypeAlias = "Callable[[Any, str, frozenset[str]], Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """An operator of the expression language.

    Parameters
    ----------
    meaning : str
        One line of it, for the reference.
    call : callable, optional
        What it does with arguments in a list, each evaluated.
    least, most : int
        How many of them there may be; `most` None is no limit.
    named : callable, optional
        What it does with arguments in a mapping: it gets one dict with the values, without those that were not given.
    required, optional : tuple of str
        Their names.
    raw : tuple of str
        Those that are no expressions but stand for themselves.
    lazy : callable, optional
        What it does with arguments, in either form, that it evaluates itself (or not) in a scope.
    binds : callable, optional
        For a name of an argument, and all arguments: the variables that are defined in it.
    check : callable, optional
        Checks arguments that have a form of their own.
    """

    meaning: str
    call: Callable[..., Any] | None = None
    least: int = 1
    most: int | None = 1
    named: Callable[[dict[str, Any]], Any] | None = None
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    raw: tuple[str, ...] = ()
    lazy: Callable[[Any, Scope], Any] | None = None
    binds: Callable[[str, Mapping[str, Any]], set[str]] | None = None
    check: Callable[[Any, str, frozenset[str], Check], Any] | None = None

    def takes_names(self, argument: Any) -> bool:
        """Tell whether arguments are given by name."""
        return bool(self.required) and isinstance(argument, Mapping) and not has_operators(argument)

    def run(self, argument: Any, scope: Scope) -> Any:
        """Evaluate it."""
        check_time()  # each may make a large array or text
        if self.lazy is not None:
            return self.lazy(argument, scope)
        if self.named is not None and self.takes_names(argument):
            return self.named(
                {name: item if name in self.raw else scope.value(item) for name, item in argument.items()}
            )
        assert self.call is not None
        if isinstance(argument, list):
            return self.call(*[scope.value(item) for item in argument])
        return self.call(scope.value(argument))


def failed(operator: str, problem: str) -> FilterError:
    """Make the error for what an operator can't do with a value of a document."""
    return FilterError(f"{operator}: {problem}", position=operator)


def is_nothing(value: Any) -> bool:
    """Tell whether a value is null or missing."""
    return value is None or value is MISSING


def truthy(value: Any) -> bool:
    """Tell whether a value counts as true: all but false, null, 0 and what is missing."""
    return not (
        value is None
        or value is False
        or value is MISSING
        or (isinstance(value, (int, float)) and value == 0)
    )


def number(operator: str, value: Any) -> Any:
    """Return a value that has to be a number; a whole one that 64 bits can't hold becomes a float."""
    if not is_number(value):
        raise failed(operator, f"takes numbers, not {named_type(value)}")
    return fit(value)


def fit(value: Any) -> Any:
    """Turn a whole number that 64 bits can't hold into a float, as MongoDB does."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value


def whole(operator: str, value: Any) -> int:
    """Return a value that has to be a whole number."""
    if is_number(value) and value == value and abs(value) != float("inf") and value == int(value):  # noqa: PLR0124
        return int(value)
    raise failed(operator, f"takes whole numbers, not {value!r}")


def text(operator: str, value: Any) -> str:
    """Return a value that has to be a text."""
    if not isinstance(value, str):
        raise failed(operator, f"takes a text, not {named_type(value)}")
    return value


def array(operator: str, value: Any) -> list[Any]:
    """Return a value that has to be an array."""
    if not isinstance(value, list):
        raise failed(operator, f"takes an array, not {named_type(value)}")
    return value


def document(operator: str, value: Any) -> Mapping[str, Any]:
    """Return a value that has to be a document."""
    if not isinstance(value, Mapping):
        raise failed(operator, f"takes a document, not {named_type(value)}")
    return value


def named_type(value: Any) -> str:
    """Return the name of a type with its value, when that is short."""
    name = type_of(value)
    shown = repr(value)
    return f"{name} {shown}" if name in {"number", "string", "bool"} and len(shown) < 40 else name
