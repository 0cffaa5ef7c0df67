"""The surveys that nuncius knows, and how a packet's survey is found."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from nuncius.alerts.surveys.base import Reading, Survey
from nuncius.alerts.surveys.decam import Decam
from nuncius.alerts.surveys.generic import Generic
from nuncius.alerts.surveys.lsst import Lsst
from nuncius.alerts.surveys.pgir import Pgir
from nuncius.alerts.surveys.turbo import Turbo
from nuncius.alerts.surveys.winter import Winter
from nuncius.alerts.surveys.ztf import Ztf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["GENERIC", "KNOWN", "Reading", "Survey", "survey_of_schema"]

GENERIC = Generic()
KNOWN: tuple[Survey, ...] = (Ztf(), Lsst(), Winter(), Turbo(), Pgir(), Decam())


def third_parties() -> Iterator[Survey]:
    """Give the surveys that other packages bring; they are asked only about what nobody here knows."""
    for entry in entry_points(group="nuncius.surveys"):
        yield entry.load()


@cache
def survey_of_schema(schema_name: str) -> Survey:
    """Find the survey whose packets have a writer schema of that full name; `GENERIC` if none does."""
    found = _first(KNOWN, schema_name)
    if found is None and schema_name:
        # Third parties are asked only about packets that nobody here knows.
        found = _first(third_parties(), schema_name)
    return found or GENERIC


def _first(surveys: Iterable[Survey], schema_name: str) -> Survey | None:
    return next((survey for survey in surveys if survey.recognises(schema_name)), None)
