"""Alerts as documents, in the shape in which Kowalski keeps them, so that a query written for it means the same.

An alert's document is its packet without the histories and images, plus `coordinates`. The histories belong to the
object and are kept point by point; the images are kept beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nuncius.alerts.notice import Notice
from nuncius.alerts.surveys import GENERIC, KNOWN, third_parties
from nuncius.alerts.surveys.base import entries, number
from nuncius.alerts.times import mjd_from_jd, possible_mjd, utc_from_tai

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuncius.alerts import Alert
    from nuncius.alerts.surveys import Survey
    from nuncius.archives.language import Document

Keep: TypeAlias = Literal["document", "packet", "measurements"]

NOTICES = "notices"
"""The catalog of notices."""

_DETECTION_IDS = ("candid", "diaForcedSourceId", "diaSourceId")
_TIMES = ("jd", "mjd", "midpointMjdTai")
_IMAGE_IDS = ("pid", "subid", "visit")


@dataclass(slots=True)
class HistoryPoint:
    """One entry of an object's history, with what identifies it.

    Most entries are known from an earlier alert, so the rest is made only when it is asked for.

    Parameters
    ----------
    list_name : str
        The history list.
    key : str
        Tells it apart from the other entries of the list.
    raw : dict
        As it came.
    fields : frozenset of str, optional
        What is kept of it; all by default.
    """

    list_name: str
    key: str
    raw: Document
    fields: frozenset[str] | None = None

    @property
    def mjd(self) -> float | None:
        """Modified Julian Date in UTC."""
        return _mjd(self.raw)

    @property
    def values(self) -> Document:
        """Its values without those that are missing, as Kowalski keeps them."""
        values = {name: value for name, value in self.raw.items() if value is not None}
        if self.fields is None:
            return values
        return {name: value for name, value in values.items() if name in self.fields}


def survey_of(alert: Alert) -> Survey:
    """Return the survey of an alert."""
    return alert._known_survey


def catalog_of(alert: Alert | Notice) -> str:
    """Name the catalog of an alert, as Kowalski does: ``ZTF_alerts``, ``LSST_alerts``; that of notices is ``notices``."""
    if isinstance(alert, Notice):
        return NOTICES
    survey = survey_of(alert)
    if survey is not GENERIC:
        return f"{survey.catalog_prefix}_alerts"
    name = "".join(letter if letter.isalnum() else "_" for letter in alert.survey.removesuffix(".alert"))
    # Names of tables don't differ in case.
    name = name.lower()
    return (
        f"other_{name}_alerts"
        if name.upper() in {survey.catalog_prefix for survey in KNOWN}
        else f"{name}_alerts"
    )


@cache
def survey_of_catalog(catalog: str) -> Survey:
    """Return the survey whose alerts a catalog holds."""
    stem = catalog.removesuffix("_aux").removesuffix("_alerts")
    found = next((survey for survey in KNOWN if survey.catalog_prefix == stem), None)
    return found or next((survey for survey in third_parties() if survey.catalog_prefix == stem), GENERIC)


def document_of(alert: Alert | Notice, keep: Keep) -> Document:
    """Make the document of an alert, without coordinates and images.

    The histories are left out where the alert has an object, to which they then belong. A notice is kept whole, with
    its values below `packet`.
    """
    if isinstance(alert, Notice):
        about = ("id", "kind", "time", "ra", "dec", "radius_deg", "skymap", "text", "is_test", "packet")
        return {name: getattr(alert, name) for name in about}
    survey = survey_of(alert)
    leave_out = {*survey.cutout_fields}
    if alert.object_id is not None:
        leave_out |= {*survey.history_lists}
    document = {name: value for name, value in alert.packet.items() if name not in leave_out}
    return _measurements(document, survey) if keep == "measurements" else document


def history_of(alert: Alert | Notice, keep: Keep) -> list[HistoryPoint]:
    """List the entries of the histories in an alert of a known object."""
    if isinstance(alert, Notice):
        return []
    survey = survey_of(alert)
    fields = survey.measurement_fields if keep == "measurements" else None
    return [
        HistoryPoint(list_name, _identity(raw), raw, fields)
        for list_name in survey.history_lists
        for raw in entries(alert.packet, list_name)
    ]


def coordinates_of(positions: Sequence[tuple[float | None, float | None]]) -> list[Document | None]:
    """Make the `coordinates` of many positions (ICRS degrees) at once.

    `radec_geojson` has the right ascension minus 180 degrees, as everywhere in Kowalski.
    """
    import astropy.units as u
    import numpy as np
    from astropy.coordinates import SkyCoord

    known = [index for index, (ra, dec) in enumerate(positions) if ra is not None and dec is not None]
    result: list[Document | None] = [None] * len(positions)
    if not known:
        return result
    ra, dec = np.array([positions[index] for index in known], dtype=float).T
    here = SkyCoord(ra * u.deg, dec * u.deg)
    galactic, ecliptic = here.galactic, here.geocentricmeanecliptic
    columns = (ra, dec, galactic.l.deg, galactic.b.deg, ecliptic.lon.deg, ecliptic.lat.deg)
    for index, *numbers in zip(known, *(column.tolist() for column in columns), strict=True):
        alpha, delta, l, b, lon, lat = numbers  # noqa: E741 - galactic longitude has no other name
        result[index] = {
            "radec_str": [sexagesimal(round(alpha * 240, 4) % 86400 / 3600, 4), sexagesimal(delta, 3)],
            "radec_geojson": {"type": "Point", "coordinates": [alpha - 180.0, delta]},
            "l": l,
            "b": b,
            "geocentricmeanecliptic": {"lambda": lon, "beta": lat},
        }
    return result


def sexagesimal(value: float, digits: int) -> str:
    """Write hours or degrees as ``DD:MM:SS.sss``."""
    seconds = round(abs(value) * 3600, digits)
    minutes, seconds = divmod(seconds, 60)
    whole, minutes = divmod(int(minutes), 60)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole:02d}:{minutes:02d}:{seconds:0{digits + 3}.{digits}f}"


def _measurements(document: Document, survey: Survey) -> Document:
    """Reduce a document to ids and what a measurement is made of."""
    fields = survey.measurement_fields
    reduced: Document = {}
    for name, value in document.items():
        if isinstance(value, dict):
            part = {key: item for key, item in value.items() if key in fields}
            if part:
                reduced[name] = part
        elif isinstance(value, list):
            reduced[name] = [
                {key: item for key, item in entry.items() if key in fields}
                for entry in value
                if isinstance(entry, dict)
            ]
        elif not isinstance(value, bytes):
            reduced[name] = value
    return reduced if fields else document


def _mjd(raw: Document) -> float | None:
    jd = number(raw.get("jd"))
    if jd is not None:
        return mjd_from_jd(jd)
    mjd = number(raw.get("mjd"))
    return possible_mjd(mjd) if mjd is not None else utc_from_tai(number(raw.get("midpointMjdTai")))


def _identity(raw: Document) -> str:
    """Tell entries of one history list apart: by their own id, else by time, image and filter."""
    own = _first(raw, _DETECTION_IDS)
    if own is not None:
        return str(own)
    when, image = _first(raw, _TIMES), _first(raw, _IMAGE_IDS)
    return f"{'' if when is None else repr(when)}/{raw.get('fid', raw.get('band', ''))}/{'' if image is None else image}"


def _first(raw: Document, names: tuple[str, ...]) -> Any:
    """Return the first of some values that is there. A loop, for this is done for each entry of each alert."""
    for name in names:
        value = raw.get(name)
        if value is not None:
            return value
    return None
