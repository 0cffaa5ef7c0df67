"""Where the documents of a catalog have what a form asks for: the words of an alert as paths, survey by survey."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nuncius.alerts.surveys.base import CandidateSurvey
from nuncius.alerts.times import JD_OF_MJD_0, utc_from_tai

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuncius.alerts.surveys import Survey

ALERTS = "_alerts"


@dataclass(frozen=True, slots=True)
class Words:
    """The paths of one catalog; a word that it doesn't have is not asked for there.

    Parameters
    ----------
    paths : mapping
        From a word (`mag`, `score`, `object_id` …) to the path of a field.
    time : callable
        Turns a Modified Julian Date in UTC into what the field `mjd` has.
    bands : mapping, optional
        From a band's letter to what the field has; None where the field has the letter.
    flux : str, optional
        The path of a signed flux in nJy, for a catalog without magnitudes.
    number_ids : bool
        Whether the ids of objects are whole numbers there.
    sentinels : tuple of float
        What is written in place of a missing number.
    """

    paths: Mapping[str, str]
    time: Callable[[float], float] = field(default=float)
    bands: Mapping[str, int] | None = None
    flux: str | None = None
    number_ids: bool = False
    sentinels: tuple[float, ...] = ()


def words_of(catalog: str, service: str) -> Words:
    """Return the words of a catalog.

    Parameters
    ----------
    catalog : str
        Its name.
    service : str
        Which kind of archive has it; BOOM keeps both surveys in one shape of its own.
    """
    if catalog == "ANTARES_loci":
        return _ANTARES
    if catalog == "ALERCE_objects":
        return _ALERCE
    survey = survey_of(catalog, service)
    if service == "boom":
        return Words(
            {**_CANDIDATE, "band": "candidate.band", "score": _BOOM_SCORE.get(survey.name, "candidate.drb")},
            time=_jd,
            sentinels=(-999.0,),
        )
    if survey.name == "lsst":
        return _LSST
    if survey.name == "decam":
        return _DECAM
    if not isinstance(
        survey, CandidateSurvey
    ):  # nothing is sure of it but what an archive has found out itself
        return Words({})
    paths = {
        **_CANDIDATE,
        "object_id": survey.object_id_field,
        "score": f"candidate.{survey.score_fields[0]}",
    }
    return Words(
        paths,
        time=_jd,
        bands={letter: number for number, letter in survey.bands.items()},
        sentinels=tuple(survey.sentinels),
    )


def survey_of(catalog: str, service: str) -> Survey:
    """Return what reads the documents of a catalog."""
    from nuncius.archives.documents import survey_of_catalog

    if service == "boom":
        from nuncius.alerts.surveys.boom import BoomLsst, BoomZtf

        return BoomLsst() if catalog.startswith("LSST") else BoomZtf()
    return survey_of_catalog(catalog)


def _jd(mjd: float) -> float:
    return mjd + JD_OF_MJD_0


def _tai(mjd: float) -> float:
    back = utc_from_tai(mjd)
    return mjd if back is None else mjd + (mjd - back)


_CANDIDATE: dict[str, Any] = {
    "object_id": "objectId",
    "alert_id": "candid",
    "mjd": "candidate.jd",
    "ra": "candidate.ra",
    "dec": "candidate.dec",
    "mag": "candidate.magpsf",
    "mag_err": "candidate.sigmapsf",
    "band": "candidate.fid",
}
_BOOM_SCORE = {"lsst": "candidate.reliability"}
_LSST = Words(
    {
        "object_id": "diaSource.diaObjectId",
        "alert_id": "diaSource.diaSourceId",
        "mjd": "diaSource.midpointMjdTai",
        "ra": "diaSource.ra",
        "dec": "diaSource.dec",
        "flux_njy": "diaSource.psfFlux",
        "flux_err_njy": "diaSource.psfFluxErr",
        "band": "diaSource.band",
        "score": "diaSource.reliability",
    },
    time=_tai,
    flux="diaSource.psfFlux",
    number_ids=True,
)
_DECAM = Words(
    {
        "object_id": "objectId",
        "alert_id": "candid",
        "mjd": "candidate.mjd",
        "ra": "candidate.ra",
        "dec": "candidate.dec",
        "flux_njy": "candidate.psfFlux",
        "flux_err_njy": "candidate.psfFluxErr",
        "band": "candidate.band",
        "score": "candidate.reliability",
    },
    flux="candidate.psfFlux",
)
_ANTARES = Words(
    {
        "object_id": "_id",
        "ra": "ra",
        "dec": "dec",
        "mjd": "properties.newest_alert_observation_time",
        "mag": "properties.newest_alert_magnitude",
        "alert_id": "properties.newest_alert_id",
    }
)
_ALERCE = Words(
    {"object_id": "_id", "ra": "meanra", "dec": "meandec", "mjd": "lastmjd", "score": "probability"}
)
