"""Accumulators: what a group makes of many values, one after the other, without keeping the documents.

The same ones serve as expressions over an array. Source: the MongoDB manual, "Accumulators".
"""

from __future__ import annotations

import math
from array import array as numbers_array
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from nuncius.archives.language.functions.base import failed, fit, is_nothing, whole
from nuncius.archives.language.functions.objects import merge
from nuncius.archives.language.sorting import check_sort, sort_key
from nuncius.archives.language.values import MISSING, is_number, order_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Accumulator(Protocol):
    """Takes values and gives what they make together."""

    def add(self, value: Any) -> None:
        """Take a value."""

    def result(self) -> Any:
        """Return what all values make."""


class Sum:
    """The sum of the numbers among the values, exact for whole numbers."""

    def __init__(self) -> None:
        self._whole = 0
        self._real: float | None = None
        self._lost = 0.0  # what rounding has cut off (Neumaier 1974)

    def add(self, value: Any) -> None:
        """Take a value."""
        if not is_number(value):
            return
        if isinstance(value, int):
            self._whole += value
            return
        total = self._real or 0.0
        new = total + value
        if math.isfinite(new):
            larger, smaller = (total, value) if abs(total) >= abs(value) else (value, total)
            self._lost += (larger - new) + smaller
        self._real = new

    def result(self) -> Any:
        """Return what all values make."""
        if self._real is None:
            return fit(self._whole)
        return self._real if not math.isfinite(self._real) else self._real + self._lost + fit(self._whole)


class Average:
    """The mean of the numbers among the values; null if there are none."""

    def __init__(self) -> None:
        self._sum, self._count = Sum(), 0

    def add(self, value: Any) -> None:
        """Take a value."""
        if is_number(value):
            self._sum.add(value)
            self._count += 1

    def result(self) -> float | None:
        """Return what all values make."""
        return self._sum.result() / self._count if self._count else None


class _Extreme:
    """The smallest or largest value in MongoDB's order; nothing is passed over."""

    sign: ClassVar[int]

    def __init__(self) -> None:
        self._key: Any = None
        self._value: Any = None

    def add(self, value: Any) -> None:
        """Take a value."""
        if is_nothing(value):
            return
        key = order_key(value)
        if self._key is None or (key < self._key if self.sign > 0 else key > self._key):
            self._key, self._value = key, value

    def result(self) -> Any:
        """Return what all values make."""
        return self._value


class Minimum(_Extreme):
    """The smallest value."""

    sign = 1


class Maximum(_Extreme):
    """The largest value."""

    sign = -1


class First:
    """The first value."""

    def __init__(self) -> None:
        self._value: Any = MISSING
        self._empty = True

    def add(self, value: Any) -> None:
        """Take a value."""
        if self._empty:
            self._value, self._empty = value, False

    def result(self) -> Any:
        """Return what all values make."""
        return self._value


class Last:
    """The last value."""

    def __init__(self) -> None:
        self._value: Any = MISSING

    def add(self, value: Any) -> None:
        """Take a value."""
        self._value = value

    def result(self) -> Any:
        """Return what all values make."""
        return self._value


class Push:
    """All values in an array; what is missing is passed over."""

    def __init__(self) -> None:
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        """Take a value."""
        if value is not MISSING:
            self._values.append(value)

    def result(self) -> list[Any]:
        """Return what all values make."""
        return self._values


class AddToSet:
    """Each value once, in an array; what is missing is passed over."""

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}

    def add(self, value: Any) -> None:
        """Take a value."""
        if value is not MISSING:
            self._values.setdefault(order_key(value), value)

    def result(self) -> list[Any]:
        """Return what all values make."""
        return list(self._values.values())


class Count:
    """How many there are."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, value: Any) -> None:
        """Take a value."""
        self._count += 1

    def result(self) -> int:
        """Return what all values make."""
        return self._count


class _Deviation:
    """The standard deviation of the numbers among the values (Welford 1962)."""

    fewer: ClassVar[int]

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, value: Any) -> None:
        """Take a value."""
        if is_number(value):
            value = float(fit(value))
            self._count += 1
            away = value - self._mean
            self._mean += away / self._count
            self._squares += away * (value - self._mean)

    def result(self) -> float | None:
        """Return what all values make."""
        if self._count <= self.fewer:
            return None
        return math.sqrt(self._squares / (self._count - self.fewer))


class DeviationOfAll(_Deviation):
    """The standard deviation of a population."""

    fewer = 0


class DeviationOfSample(_Deviation):
    """The standard deviation of a sample: null for fewer than two."""

    fewer = 1


class Merge:
    """Documents put together; of equal names the last has the value."""

    def __init__(self) -> None:
        self._merged: dict[str, Any] = {}

    def add(self, value: Any) -> None:
        """Take a value."""
        self._merged = merge(self._merged, value)

    def result(self) -> dict[str, Any]:
        """Return what all values make."""
        return self._merged


class Quantiles:
    """The values below which given fractions of the numbers are: for each the number at rank ceil(p n)."""

    def __init__(self, fractions: Sequence[float]) -> None:
        self._fractions = fractions
        self._values = numbers_array("d")

    def add(self, value: Any) -> None:
        """Take a value."""
        if is_number(value):
            self._values.append(float(fit(value)))

    def result(self) -> list[float | None]:
        """Return what all values make."""
        ordered = sorted(self._values, key=order_key)
        last = len(ordered) - 1
        return [
            ordered[min(max(math.ceil(p * len(ordered)) - 1, 0), last)] if ordered else None
            for p in self._fractions
        ]


class Some:
    """The first or last n values as they come, or the n smallest or largest."""

    def __init__(self, operator: str, count: Any) -> None:
        self._operator, self._count = operator, positive(operator, count)
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        """Take a value."""
        if self._operator in {"$minN", "$maxN"}:
            if is_nothing(value):
                return
        elif value is MISSING:
            value = None
        if self._operator != "$firstN" or len(self._values) < self._count:
            self._values.append(value)
        if len(self._values) > 2 * self._count + 100:
            self._values = self._kept()

    def _kept(self) -> list[Any]:
        if self._operator == "$lastN":
            return self._values[-self._count :]
        if self._operator == "$firstN":
            return self._values
        ordered = sorted(self._values, key=order_key, reverse=self._operator == "$maxN")
        return ordered[: self._count]

    def result(self) -> list[Any]:
        """Return what all values make."""
        return self._kept()


class Top:
    """The n first or last of a sort; takes pairs of a document and of what is given out for it."""

    def __init__(self, operator: str, order: Mapping[str, int], count: Any) -> None:
        self._count = positive(operator, count)
        self._last = operator.startswith("$bottom")
        self._order = [(name.split("."), direction) for name, direction in check_sort(order)]
        self._kept: list[tuple[list[Any], Any]] = []

    def add(self, value: tuple[Any, Any]) -> None:
        """Take a value."""
        document, output = value
        keys = [sort_key(document, path, direction) for path, direction in self._order]
        self._kept.append((keys, None if output is MISSING else output))
        if len(self._kept) > 2 * self._count + 100:
            self._kept = self._cut()

    def _cut(self) -> list[tuple[list[Any], Any]]:
        for index, (_, direction) in reversed(list(enumerate(self._order))):
            self._kept.sort(key=lambda item, index=index: item[0][index], reverse=direction == -1)  # type: ignore[misc]
        return self._kept[-self._count :] if self._last else self._kept[: self._count]

    def result(self) -> list[Any]:
        """Return what all values make."""
        return [output for _, output in self._cut()]


def positive(operator: str, value: Any) -> int:
    """Return a count that has to be a positive whole number."""
    count = whole(operator, value)
    if count < 1:
        raise failed(operator, f"takes a positive n, not {value!r}")
    return count
