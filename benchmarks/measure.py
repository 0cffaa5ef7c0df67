"""Measuring side by side, and tables that say what was measured.

A figure alone says more of the machine than of the program. So each table has rows that were measured in turn within
one run (A, B, C, A, B, C, …), and goals are set on ratios of such rows or on what a user notices.
"""

from __future__ import annotations

import gc
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a benchmark is.

    Parameters
    ----------
    quick : bool
        Small, to see that it works; the figures then mean little.
    """

    quick: bool

    @property
    def runs(self) -> int:
        """How often each side is measured."""
        return 3 if self.quick else 5

    def of(self, full: int, quick: int) -> int:
        """Choose a size."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that a figure should keep."""

    sign: Literal["≥", "≤"]
    bound: float
    unit: str = ""

    def verdict(self, value: float) -> str:
        """Say whether a figure keeps the bound."""
        reached = value >= self.bound if self.sign == "≥" else value <= self.bound
        unit = f" {self.unit}" if self.unit else ""
        return f"goal {self.sign} {self.bound:g}{unit}: {figure(value)} {'reached' if reached else 'not reached'}"


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one side.

    Parameters
    ----------
    name : str
        The side.
    values : list of float
        One a run.
    ratio : list of float, optional
        In each run its value over that of the side named by `ratio_to`.
    goal : Goal, optional
        On the ratio if there is one, else on the value.
    """

    name: str
    values: list[float]
    ratio: list[float] | None = None
    ratio_to: str = ""
    goal: Goal | None = None

    @property
    def verdict(self) -> str:
        """Whether the goal is reached."""
        judged = self.values if self.ratio is None else self.ratio
        return self.goal.verdict(statistics.median(judged)) if self.goal else ""


@dataclass(slots=True)
class Table:
    """The rows of one benchmark.

    Parameters
    ----------
    title : str
        What was measured.
    unit : str
        Of the values.
    notes : list of str
        What one must know to read it.
    """

    title: str
    unit: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        measured: Mapping[str, list[float]],
        *,
        to: str | None = None,
        label: str = "",
        goal: Goal | None = None,
    ) -> None:
        """Add a side, perhaps with its ratio to another one, which `label` may name more briefly."""
        ratio = None
        if to is not None:
            ratio = [own / other for own, other in zip(measured[name], measured[to], strict=True)]
        self.rows.append(Row(name, measured[name], ratio, label or to or "", goal))

    def lines(self) -> Iterator[str]:
        """Write it as text."""
        yield self.title
        cells = [("", f"median {self.unit}", "range", "ratio", "")]
        cells += [
            (row.name, figure(statistics.median(row.values)), _range(row.values), _ratio(row), row.verdict)
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for name, median, span, ratio, verdict in cells:
            aligned = (name.ljust(widths[0]), median.rjust(widths[1]), span.rjust(widths[2]))
            yield "  ".join(("", *aligned, ratio.ljust(widths[3]), verdict)).rstrip()
        yield from (f"  Note: {note}" for note in self.notes)


def interleaved(sides: Mapping[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    """Measure the sides in turn, so that what else the machine does meets all of them alike."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, measure in sides.items():
            gc.collect()
            measured[name].append(measure())
    return measured


def check(same: bool, what: str) -> None:
    """Stop if two sides did not give the same answers: their speeds then say nothing."""
    if not same:
        message = f"the sides differ: {what}"
        raise SystemExit(message)


def figure(value: float) -> str:
    """Write a number with three digits, or as a whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _range(values: list[float]) -> str:
    return f"{figure(min(values))} to {figure(max(values))}" if len(values) > 1 else ""


def _ratio(row: Row) -> str:
    return f"{figure(statistics.median(row.ratio))} of {row.ratio_to}" if row.ratio else ""
