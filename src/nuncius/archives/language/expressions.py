"""Expressions: values computed from a document, in `$expr`, projections and pipelines.

An expression is a path ``"$candidate.magpsf"``, an operator with its arguments ``{"$subtract": ["$a", "$b"]}``, a
document or an array of expressions, or a plain value. A path through arrays gives an array, and what is not there is
MISSING, which is not null.

Source: the MongoDB manual, "Aggregation Expressions", "Field Paths" and "System Variables".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.bounds import check_time
from nuncius.archives.language.functions.objects import check_name
from nuncius.archives.language.functions.table import FUNCTIONS
from nuncius.archives.language.values import (
    MISSING,
    check_depth,
    check_path,
    has_operators,
    plain,
    unknown,
)
from nuncius.errors import FilterError, ForbiddenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nuncius.archives.language.functions.base import Function

SYSTEM_VARIABLES = frozenset({"ROOT", "CURRENT", "NOW", "REMOVE"})
CODE = frozenset({"$function", "$accumulator", "$where"})


# Checking ------------------------------------------------------------------------------------------------------------


def check_expression(expression: Any, place: str = "expression", variables: Iterable[str] = ()) -> Any:
    """Check an expression and return it with plain values in it.

    Parameters
    ----------
    expression : any
        What to check.
    place : str
        Where it stands, for messages.
    variables : iterable of str
        Names of variables that are defined there, besides ROOT, CURRENT, NOW and REMOVE.

    Raises
    ------
    FilterError
        If an operator is unknown, has too few or too many arguments, or a variable is not defined; `position` is the
        place.
    ForbiddenError
        If it brings code to run.

    Examples
    --------
    >>> check_expression({"$subtract": ["$magpsf", "$magnr"]})
    {'$subtract': ['$magpsf', '$magnr']}
    """
    check_depth(expression, place)
    return _check(expression, place, frozenset(variables))


def _check(expression: Any, place: str, names: frozenset[str]) -> Any:
    if isinstance(expression, str):
        if expression.startswith("$"):
            _check_reference(expression, place, names)
        return str(expression)
    if isinstance(expression, Mapping):
        if has_operators(expression):
            return _check_operator(expression, place, names)
        return {
            _check_key(key, place): _check(item, f"{place}[{key!r}]", names)
            for key, item in expression.items()
        }
    if isinstance(expression, (list, tuple)):
        return [_check(item, f"{place}[{index}]", names) for index, item in enumerate(expression)]
    return plain(expression, place)


def _check_key(key: Any, place: str) -> str:
    if not isinstance(key, str) or not key or "." in key:
        raise FilterError(
            f"{place}: a field of a document in an expression has a name without dots, not {key!r}",
            position=place,
        )
    return key


def _check_reference(reference: str, place: str, names: frozenset[str]) -> None:
    variable = reference.startswith("$$")
    path = reference[2 if variable else 1 :]
    if not path:
        raise FilterError(
            f"{place}: {reference!r} names no field; a plain text is {{'$literal': …}}", position=place
        )
    first = check_path(path, place).partition(".")[0]
    if variable and first not in names and first not in SYSTEM_VARIABLES:
        known = [f"$${name}" for name in sorted(names | SYSTEM_VARIABLES)]
        raise unknown(f"$${first}", place, known, "is no variable that is defined here")


def _check_operator(expression: Mapping[Any, Any], place: str, names: frozenset[str]) -> Any:
    operator = next(str(key) for key in expression if str(key).startswith("$"))
    where = f"{place}[{operator!r}]"
    if len(expression) != 1:
        raise FilterError(
            f"{place}: {operator} stands alone in its document; here are {', '.join(map(str, expression))}",
            position=place,
        )
    if operator in CODE:
        raise ForbiddenError(f"{where}: an archive runs no code; {operator} is refused", position=where)
    if operator not in FUNCTIONS:
        raise unknown(operator, where, FUNCTIONS, "is no operator of an expression")
    function = FUNCTIONS[operator]
    argument = expression[operator]
    if function.check is not None:
        return {operator: function.check(argument, where, names, _check)}
    if function.takes_names(argument):
        return {operator: _check_named(function, argument, where, names)}
    return {operator: _check_listed(operator, function, argument, where, names)}


def _check_named(
    function: Function, argument: Mapping[str, Any], place: str, names: frozenset[str]
) -> dict[str, Any]:
    known = (*function.required, *function.optional)
    for name in argument:
        if name not in known:
            raise unknown(str(name), f"{place}[{name!r}]", known, "is no argument")
    for name in function.required:
        if name not in argument:
            raise FilterError(f"{place}: the argument {name!r} is missing", position=place)
    if "as" in function.raw and "as" in argument:
        check_name(argument["as"], f"{place}['as']")
    checked = {}
    for name, item in argument.items():
        where = f"{place}[{name!r}]"
        inner = names | function.binds(name, argument) if function.binds else names
        checked[name] = plain(item, where) if name in function.raw else _check(item, where, inner)
    return checked


def _check_listed(operator: str, function: Function, argument: Any, place: str, names: frozenset[str]) -> Any:
    count = len(argument) if isinstance(argument, (list, tuple)) else 1
    if function.most == 0 and function.required:
        raise FilterError(f"{place} takes arguments by name: {', '.join(function.required)}", position=place)
    if count < function.least or (function.most is not None and count > function.most):
        bounds = (
            f"{function.least}" if function.least == function.most
            else f"at least {function.least}" if function.most is None
            else f"{function.least} to {function.most}"
        )  # fmt: skip
        plural = "argument" if bounds == "1" else "arguments"
        raise FilterError(f"{place}: {operator} takes {bounds} {plural}, not {count}", position=place)
    return _check(argument, place, names)


# Evaluating ----------------------------------------------------------------------------------------------------------


def evaluate(expression: Any, document: Mapping[str, Any], variables: Mapping[str, Any] | None = None) -> Any:
    """Return the value of a checked expression; MISSING where there is nothing.

    Parameters
    ----------
    expression : any
        A checked expression.
    document : mapping
        What paths refer to.
    variables : mapping, optional
        Values of variables by their names without dollar signs; `NOW` is the present time unless given.

    Raises
    ------
    FilterError
        If an operator can't work on a value: a text divided, an array that is none; `position` is the operator.

    Examples
    --------
    >>> evaluate({"$subtract": ["$a", 1]}, {"a": 3})
    2
    """
    try:
        return DocumentScope(document, dict(variables or {})).value(expression)
    except RecursionError as error:
        raise too_deep("expression") from error


def too_deep(place: str) -> FilterError:
    """Make the error for values that an expression nests deeper than Python can follow."""
    return FilterError(f"{place}: it makes values that are nested too deep", position=place)


class DocumentScope:
    """A document and the variables that are defined.

    Parameters
    ----------
    root : mapping
        What paths refer to.
    variables : mapping
        Values by name.
    """

    __slots__ = ("root", "variables")

    def __init__(self, root: Any, variables: Mapping[str, Any]) -> None:
        self.root = root
        self.variables = variables

    def within(self, **variables: Any) -> DocumentScope:
        """Return the same scope with more variables, as each step of a loop has them."""
        check_time()
        return DocumentScope(self.root, {**self.variables, **variables})

    def value(self, expression: Any) -> Any:
        """Evaluate an expression."""
        kind = type(expression)
        if kind is str:
            if expression[:1] != "$":
                return expression
            variable, names = _parsed(expression)
            return at_path(self.root if variable is None else self._variable(variable), names)
        if kind is dict:
            for operator, argument in expression.items():
                if operator[:1] == "$":
                    return FUNCTIONS[operator].run(argument, self)
                break
            computed = {name: self.value(item) for name, item in expression.items()}
            return {name: item for name, item in computed.items() if item is not MISSING}
        if kind is list:
            return [None if item is MISSING else item for item in map(self.value, expression)]
        return expression

    def _variable(self, name: str) -> Any:
        if name in self.variables:
            return self.variables[name]
        if name in {"ROOT", "CURRENT"}:
            return self.root
        if name == "NOW":
            return datetime.now(UTC)
        if name == "REMOVE":
            return MISSING
        raise FilterError(f"$${name} is not defined", position=f"$${name}")


@lru_cache(maxsize=1024)
def _parsed(reference: str) -> tuple[str | None, tuple[str, ...]]:
    if reference.startswith("$$"):
        name, *names = reference[2:].split(".")
        return name, tuple(names)
    return None, tuple(reference[1:].split("."))


def at_path(value: Any, names: Sequence[str]) -> Any:
    """Return what stands at a path; through an array, an array of what its documents have there."""
    for position, name in enumerate(names):
        if isinstance(value, Mapping):
            value = value.get(name, MISSING)
        elif isinstance(value, list):
            rest = names[position:]
            found = (at_path(item, rest) for item in value if isinstance(item, Mapping))
            return [item for item in found if item is not MISSING]
        else:
            return MISSING
    return value


def fields_read(expression: Any) -> set[str] | None:
    """Return the top-level fields that a checked expression reads; None if it may read the whole document."""
    if isinstance(expression, str) and expression.startswith("$"):
        variable, names = _parsed(expression)
        if variable in {"ROOT", "CURRENT"}:
            return {names[0]} if names else None
        return set() if variable is not None else {names[0]}
    if isinstance(expression, Mapping):
        if "$literal" in expression:
            return set()
        if "$getField" in expression:
            return None  # its field may be computed
    parts = (
        expression.values() if isinstance(expression, Mapping)
        else expression if isinstance(expression, list)
        else ()
    )  # fmt: skip
    return union_of(fields_read(part) for part in parts)


def union_of(several: Iterable[set[str] | None]) -> set[str] | None:
    """Put sets of fields together, None being all fields."""
    joined: set[str] = set()
    for fields in several:
        if fields is None:
            return None
        joined |= fields
    return joined
