"""The surveys that nuncius knows, and how a packet's survey is found."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from nuncius.alerts.surveys.antares import Antares
from nuncius.alerts.surveys.base import Reading, Survey
from nuncius.alerts.surveys.boom import BoomLsst, BoomZtf
from nuncius.alerts.surveys.decam import Decam
from nuncius.alerts.surveys.generic import Generic
from nuncius.alerts.surveys.lasair import Lasair
from nuncius.alerts.surveys.lsst import Lsst
from nuncius.alerts.surveys.pgir import Pgir
from nuncius.alerts.surveys.turbo import Turbo
from nuncius.alerts.surveys.winter import Winter
from nuncius.alerts.surveys.ztf import Ztf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "ANTARES",
    "BOOM_LSST",
    "BOOM_ZTF",
    "GENERIC",
    "KNOWN",
    "LASAIR",
    "LSST",
    "ZTF",
    "Reading",
    "Survey",
    "instance_of",
    "survey_of_schema",
]

GENERIC = Generic()
ZTF, LSST = Ztf(), Lsst()
ANTARES, LASAIR = Antares(), Lasair()
BOOM_ZTF, BOOM_LSST = BoomZtf(), BoomLsst()

KNOWN: tuple[Survey, ...] = (
    ZTF,
    LSST,
    Winter(),
    Turbo(),
    Pgir(),
    Decam(),
    ANTARES,
    LASAIR,
)
_ENRICHED: tuple[Survey, ...] = (BOOM_ZTF, BOOM_LSST)  # the same surveys' alerts in a broker's shape


def third_parties() -> Iterator[Survey]:
    """Give the surveys that other packages bring; they are asked only about what nobody here knows."""
    for entry in entry_points(group="nuncius.surveys"):
        yield entry.load()


@cache
def survey_of_schema(schema_name: str) -> Survey:
    """Find the survey whose packets have a writer schema of that full name; `GENERIC` if none does."""
    found = _first((*KNOWN, *_ENRICHED), schema_name)
    if found is None and schema_name:
        # Third parties are asked only about packets that nobody here knows.
        found = _first(third_parties(), schema_name)
    return found or GENERIC


def instance_of(cls: type[Survey]) -> Survey:
    """Return the instance of a survey's class that everybody shares, or a new one of a class not known here."""
    return next((survey for survey in (GENERIC, *KNOWN, *_ENRICHED) if type(survey) is cls), None) or cls()


def _first(surveys: Iterable[Survey], schema_name: str) -> Survey | None:
    return next((survey for survey in surveys if survey.recognises(schema_name)), None)
