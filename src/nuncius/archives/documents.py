"""Alerts as documents, in the shape in which Kowalski keeps them, so that a query written for it means the same.

An alert's document is its packet without the histories and images, plus `coordinates`. The histories belong to the
object and are kept point by point; the images are kept beside.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nuncius._core.jsontext import printable
from nuncius.alerts.cutouts import Cutouts
from nuncius.alerts.notice import Notice
from nuncius.alerts.surveys import GENERIC, KNOWN, third_parties
from nuncius.alerts.surveys.base import entries, number
from nuncius.alerts.times import mjd_from_jd, possible_mjd, utc_from_tai

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nuncius.alerts import Alert
    from nuncius.alerts.packets import Parts
    from nuncius.alerts.surveys import Survey
    from nuncius.archives.language import Document

Keep: TypeAlias = Literal["document", "packet", "measurements"]

_TIMES = ("jd", "mjd", "midpointMjdTai")
_IMAGE_IDS = ("pid", "subid", "visit")
_KEY_FIELDS = frozenset(
    {"candid", "diaForcedSourceId", "diaSourceId", *_TIMES, *_IMAGE_IDS, "fid", "band"}
)  # that `key_of_entry` looks at

NOTICES = "notices"
"""The catalog of notices."""


class Contents:
    """What an archive keeps of an alert; the entries of its histories are decoded when they are asked for.

    Most of them are known from an earlier alert.

    Parameters
    ----------
    alert : Alert or Notice
        The alert.
    keep : {"document", "packet", "measurements"}
        How much of it.

    Attributes
    ----------
    values : dict
        The values of its packet; not those of its histories.
    histories : dict of str to dict
        The lists of its history; of each the keys that tell its entries apart, in their order.

    Raises
    ------
    PacketError
        If the packet is damaged.
    """

    __slots__ = ("_alert", "_keep", "_parts", "histories", "values")

    def __init__(self, alert: Alert | Notice, keep: Keep) -> None:
        self._alert = alert
        self._keep = keep
        self.values: Document = {}
        self.histories: dict[str, dict[str, Any]] = {}
        self._parts: Parts | None = None
        if isinstance(alert, Notice):
            return
        survey = survey_of(alert)
        if survey in KNOWN:  # what others look at is not known
            self._parts = alert.in_parts(_KEY_FIELDS)
        if self._parts is not None and alert.object_id is not None:
            self.values = self._parts.values
            self._note_histories(
                (name, [(key_of_entry(keys), begin) for begin, keys in self.values.pop(name, None) or ()])
                for name in survey.history_lists
            )
            return
        self._parts = None
        self.values = alert.packet
        if alert.object_id is not None:
            self._note_histories(
                (name, [(key_of_entry(raw), raw) for raw in entries(self.values, name)])
                for name in survey.history_lists
            )

    def _note_histories(self, found: Iterable[tuple[str, list[tuple[str, Any]]]]) -> None:
        for name, keyed in found:
            history = dict(keyed)
            if len(history) < len(keyed):  # of entries with one key the first one counts
                history |= dict(reversed(keyed))
            if history:
                self.histories[name] = history

    @property
    def document(self) -> Document:
        """The document of the alert, without coordinates and images.

        The histories are left out where the alert has an object, to which they then belong. A notice is kept whole, with
        its values below `packet`.
        """
        alert = self._alert
        if isinstance(alert, Notice):
            about = ("id", "kind", "time", "ra", "dec", "radius_deg", "skymap", "text", "is_test", "packet")
            return {name: getattr(alert, name) for name in about}
        survey = survey_of(alert)
        leave_out = {*survey.cutout_fields}
        if alert.object_id is not None:
            leave_out |= {*survey.history_lists}
        document = {name: value for name, value in self.values.items() if name not in leave_out}
        return _measurements(document, survey) if self._keep == "measurements" else document

    @property
    def annotations(self) -> dict[str, dict[str, Any]]:
        """What brokers added, by broker."""
        return (
            self._alert.annotations
            if isinstance(self._alert, Notice)
            else self._alert.annotations_in(self.values)
        )

    @property
    def cutouts(self) -> Cutouts:
        """The images."""
        return Cutouts() if isinstance(self._alert, Notice) else survey_of(self._alert).cutouts(self.values)

    def entry(self, list_name: str, key: str) -> Document:
        """Return an entry of a history without the values that are missing, as Kowalski keeps them."""
        found: Any = self.histories[list_name][key]
        if self._parts is not None:
            found = self._parts.entry(list_name, found)
        elif None in found.values():
            found = {name: value for name, value in found.items() if value is not None}
        document: Document = found
        if self._keep != "measurements" or isinstance(self._alert, Notice):
            return document
        fields = survey_of(self._alert).measurement_fields
        return {name: value for name, value in document.items() if name in fields}


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


def mjd_of_entry(raw: Document) -> float | None:
    """Return the Modified Julian Date in UTC of an entry of a history, None without a possible one."""
    jd = number(raw.get("jd"))
    if jd is not None:
        return mjd_from_jd(jd)
    mjd = number(raw.get("mjd"))
    return possible_mjd(mjd) if mjd is not None else utc_from_tai(number(raw.get("midpointMjdTai")))


def key_of_entry(raw: Document) -> str:
    """Return what tells an entry of a history apart from others of the list: its own id, else time, image and filter.

    It is printable and one line.
    """
    # Written out, for this is done for each entry of each alert.
    get = raw.get
    own = get("candid")
    if own is None and (own := get("diaForcedSourceId")) is None:
        own = get("diaSourceId")
    if own.__class__ is int:
        return str(own)
    if own is None:
        when, image = _first(raw, _TIMES), _first(raw, _IMAGE_IDS)
        band = get("fid", get("band", ""))
        key = f"{'' if when is None else repr(when)}/{band}/{'' if image is None else image}"
    else:
        key = str(own)
    return key if key.isascii() and "\n" not in key else printable(key).replace("\n", "\\n")


def _first(raw: Document, names: tuple[str, ...]) -> Any:
    """Return the first of some values that is there."""
    for name in names:
        value = raw.get(name)
        if value is not None:
            return value
    return None
