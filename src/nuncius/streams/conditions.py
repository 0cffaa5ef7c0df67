"""What the code of a filter (`nuncius.streams.where`) calls: comparisons and calculations in which unknown stays unknown."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

from nuncius.alerts import Alert

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

_SEARCHED = 20_000  # characters of a text that a pattern is looked for in


def _family(value: Any) -> type | None:
    """Tell texts from numbers; nothing else can be compared, nor can NaN."""
    if isinstance(value, str):
        return str
    return float if isinstance(value, (int, float)) and value == value else None  # noqa: PLR0124 - NaN


def _comparing(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def test(a: Any, b: Any) -> bool:
        family = _family(a)
        return family is not None and family is _family(b) and compare(a, b)

    return test


def _calculating(calculate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def result(a: Any, b: Any) -> Any:
        if _family(a) is not float or _family(b) is not float:
            return None
        try:
            return calculate(a, b)
        except (ZeroDivisionError, OverflowError):
            return None

    return result


def _power(a: float, b: float) -> Any:
    found = float(a) ** float(b)  # as whole numbers they could fill the memory
    return None if isinstance(found, complex) else found


def _size(value: Any) -> Any:
    return abs(value) if _family(value) is float else None


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    for name in path:
        if isinstance(name, str):
            value = value.get(name) if isinstance(value, dict) else None
        else:
            within = isinstance(value, list) and -len(value) <= name < len(value)
            value = value[name] if within else None
        if value is None:
            break
    return value


def _is_truth(value: Any, wanted: bool) -> bool:
    return _family(value) is float and bool(value) is wanted


def _is_missing(value: Any, wanted: bool) -> bool:
    return (value is None or (isinstance(value, float) and math.isnan(value))) is wanted


def _is_among(value: Any, items: frozenset[Any], family: type, wanted: bool) -> bool:
    return _family(value) is family and (value in items) is wanted


def _holds(container: Any, value: Any, wanted: bool) -> bool:
    family = _family(value)
    if family is None:
        return False
    if isinstance(container, (list, tuple)):
        return any(_family(item) is family and item == value for item in container) is wanted
    return family is str and isinstance(container, str) and (value in container) is wanted


def _begins(value: Any, text: str, wanted: bool) -> bool:
    return isinstance(value, str) and value.startswith(text) is wanted


def _is_found(value: Any, pattern: re.Pattern[str], wanted: bool) -> bool:
    return isinstance(value, str) and (pattern.search(value, 0, _SEARCHED) is not None) is wanted


def _galactic_latitude(ra: Any, dec: Any) -> float | None:
    """Return the galactic latitude in degrees; the north galactic pole as in ESA 1997, The Hipparcos Catalogue, 1.5.3."""
    if _family(ra) is not float or _family(dec) is not float:
        return None
    pole, at, away = math.radians(27.12825), math.radians(dec), math.radians(ra - 192.85948)
    sine = math.sin(at) * math.sin(pole) + math.cos(at) * math.cos(pole) * math.cos(away)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))


CALLED: dict[str, Any] = {
    "__builtins__": {},
    "Alert": Alert,
    "float": float,
    "str": str,
    "getattr": getattr,
    **{name: _comparing(getattr(operator, name)) for name in ("lt", "ge", "gt", "le", "eq", "ne")},
    "plus": _calculating(operator.add),
    "minus": _calculating(operator.sub),
    "times": _calculating(operator.mul),
    "over": _calculating(operator.truediv),
    "power": _calculating(_power),
    "size": _size,
    "at": _at,
    "is_truth": _is_truth,
    "is_missing": _is_missing,
    "is_among": _is_among,
    "holds": _holds,
    "begins": _begins,
    "is_found": _is_found,
    "galactic_latitude": _galactic_latitude,
}
"""The names that the code of a filter knows; there are no others."""
