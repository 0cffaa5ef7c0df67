"""All functions of the expression language, by group: what is dispatched on, and what the reference is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.archives.language import accumulators as acc
from nuncius.archives.language.functions.arithmetic import ARITHMETIC
from nuncius.archives.language.functions.arrays import ARRAYS
from nuncius.archives.language.functions.base import Function, array, failed, is_nothing
from nuncius.archives.language.functions.dates import DATES
from nuncius.archives.language.functions.logic import LOGIC
from nuncius.archives.language.functions.objects import OBJECTS
from nuncius.archives.language.functions.texts import TEXTS
from nuncius.archives.language.functions.types import TYPES
from nuncius.archives.language.values import MISSING, is_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def _fed(accumulator: acc.Accumulator, values: Iterable[Any]) -> Any:
    for value in values:
        accumulator.add(value)
    return accumulator.result()


def _over(make: Callable[[], acc.Accumulator]) -> Callable[..., Any]:
    """Make a function of the elements of one array, or of several values."""

    def call(*values: Any) -> Any:
        return _fed(make(), values[0] if len(values) == 1 and isinstance(values[0], list) else values)

    return call


def _end(operator: str, index: int) -> Callable[[Any], Any]:
    def call(values: Any) -> Any:
        if is_nothing(values):
            return None
        return array(operator, values)[index] if values else MISSING

    return call


def _some(operator: str) -> Callable[[dict[str, Any]], Any]:
    return lambda given: _fed(acc.Some(operator, given["n"]), array(operator, given["input"]))


def fractions(operator: str, value: Any) -> list[float]:
    """Return fractions that have to be numbers from 0 to 1."""
    if (
        not isinstance(value, list)
        or not value
        or not all(is_number(item) and 0 <= item <= 1 for item in value)
    ):
        raise failed(operator, f"takes a list p of numbers from 0 to 1, not {value!r}")
    return value


def _percentile(given: dict[str, Any]) -> Any:
    values = given["input"] if isinstance(given["input"], list) else [given["input"]]
    return _fed(acc.Quantiles(fractions("$percentile", given["p"])), values)


def _median(given: dict[str, Any]) -> Any:
    values = given["input"] if isinstance(given["input"], list) else [given["input"]]
    return _fed(acc.Quantiles([0.5]), values)[0]


def _several(operator: str, meaning: str) -> Function:
    return Function(meaning=meaning, named=_some(operator), required=("input", "n"), least=0, most=0)


def _statistic(meaning: str, make: Callable[[], acc.Accumulator]) -> Function:
    return Function(meaning=meaning, call=_over(make), least=0, most=None)


STATISTICS: dict[str, Function] = {
    "$sum": _statistic("the sum of the numbers in an array, or among several values", acc.Sum),
    "$avg": _statistic("their mean", acc.Average),
    "$min": _statistic("the smallest value", acc.Minimum),
    "$max": _statistic("the largest value", acc.Maximum),
    "$stdDevPop": _statistic("the standard deviation of a population", acc.DeviationOfAll),
    "$stdDevSamp": _statistic("the standard deviation of a sample", acc.DeviationOfSample),
    "$first": Function(meaning="the first element of an array", call=_end("$first", 0)),
    "$last": Function(meaning="the last element of an array", call=_end("$last", -1)),
    "$firstN": _several("$firstN", "the first n elements of an array"),
    "$lastN": _several("$lastN", "the last n elements of an array"),
    "$minN": _several("$minN", "the n smallest elements of an array"),
    "$maxN": _several("$maxN", "the n largest elements of an array"),
    "$median": Function(
        meaning="the number in the middle",
        named=_median,
        required=("input", "method"),
        raw=("method",),
        least=0,
        most=0,
    ),
    "$percentile": Function(
        meaning="the numbers below which fractions p of all numbers are",
        named=_percentile,
        required=("input", "p", "method"),
        raw=("method",),
        least=0,
        most=0,
    ),
}
GROUPS: Mapping[str, Mapping[str, Function]] = {
    "arithmetic": ARITHMETIC,
    "comparison and logic": LOGIC,
    "arrays and sets": ARRAYS,
    "statistics": STATISTICS,
    "texts": TEXTS,
    "types": TYPES,
    "dates": DATES,
    "documents and variables": OBJECTS,
}
FUNCTIONS: Mapping[str, Function] = {
    name: function for group in GROUPS.values() for name, function in group.items()
}
