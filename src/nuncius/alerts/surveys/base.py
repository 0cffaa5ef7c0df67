"""What a survey says about its packets: which field means what, in which unit and time scale.

To add a survey, write one small file like those beside this one. Third parties publish theirs under the entry point
group ``nuncius.surveys``; an entry names an instance of `Survey`.
"""

from __future__ import annotations

import base64
import re
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nuncius.alerts.cutouts import Cutout, Cutouts
from nuncius.alerts.lightcurve import Point, flux_err_from_mag, flux_from_mag
from nuncius.alerts.times import mjd_from_jd

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST = sys.float_info.max
_POSITIVE = frozenset({1, "t", "T", "true", "y", "Y", "1"})
_EMPTY_TEXTS = frozenset({"", "null", "NONE"})


@dataclass(frozen=True, slots=True)
class Reading:
    """What one packet says of itself, in the same words for all surveys.

    Parameters
    ----------
    alert_id : int or str, optional
        The survey's number or name of the alert.
    object_id : str, optional
        The survey's name of the object.
    point : Point
        The measurement that caused the alert.
    time : tuple of (float, str, str), optional
        The time as the packet has it: value, format (``jd`` or ``mjd``) and scale (``utc`` or ``tai``).
    """

    alert_id: int | str | None
    object_id: str | None
    point: Point
    time: tuple[float, str, str] | None


class Survey(ABC):
    """One survey. Subclasses say which field means what; nothing here raises for a field that is missing or odd."""

    name: ClassVar[str]
    """What `Alert.survey` gives."""

    catalog_prefix: ClassVar[str]
    """How its catalogs in an archive begin, as Kowalski names them."""

    schema_name: ClassVar[str]
    """A regular expression for the full name of its writer schema."""

    unique_alert_ids: ClassVar[bool] = True
    """Whether no two alerts of the survey have one id; if not, the object id belongs to the key."""

    reading_fields: ClassVar[frozenset[str]] = frozenset()
    """The top-level fields that `read` looks at; empty if it may look at any."""

    own_fields: ClassVar[frozenset[str]] = frozenset()
    """The top-level fields that are the survey's own; what a broker adds to them is an annotation. Empty if not known."""

    history_lists: ClassVar[tuple[str, ...]] = ()
    """The fields with earlier measurements of the object."""

    cutout_fields: ClassVar[tuple[str, str, str]] = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
    """The fields of the science, template and difference image."""

    measurement_fields: ClassVar[frozenset[str]] = frozenset()
    """The fields of a measurement that `Point` is made from, and what an archive of measurements alone keeps."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By name: a survey that comes out of a pickle is the one that everybody has, and may be compared by identity.
        from nuncius.alerts.surveys import instance_of

        return instance_of, (type(self),)

    def recognises(self, schema_name: str) -> bool:
        """Tell whether packets with a writer schema of that name are this survey's."""
        return re.fullmatch(self.schema_name, schema_name) is not None

    @abstractmethod
    def read(self, packet: dict[str, Any]) -> Reading:
        """Read what the packet says of itself."""

    @abstractmethod
    def history_point(self, list_name: str, raw: dict[str, Any]) -> Point | None:
        """Read one entry of a history list."""

    def history(self, packet: dict[str, Any]) -> Iterator[Point]:
        """Read all history lists."""
        for name in self.history_lists:
            for raw in entries(packet, name):
                point = self.history_point(name, raw)
                if point is not None:
                    yield point

    def cutouts(self, packet: dict[str, Any]) -> Cutouts:
        """Find the images."""
        found = {}
        for kind, name in zip(("science", "template", "difference"), self.cutout_fields, strict=True):
            value = packet.get(name)
            file_name = None
            if isinstance(value, dict):
                file_name, value = value.get("fileName"), value.get("stampData")
            if isinstance(value, str):
                value = _bytes(value)
            if isinstance(value, bytes) and value:
                found[kind] = Cutout(kind, value, file_name if isinstance(file_name, str) else None)
        return Cutouts(**found)

    def annotations(self, packet: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Find what a broker added, by broker."""
        return {}


def _bytes(text: str) -> bytes | None:
    """Return the bytes that JSON holds as base64, for it has none of its own; None if it is something else."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


class CandidateSurvey(Survey):
    """A survey whose packets are built like ZTF's: ids on top, the measurement in `candidate`, times in JD UTC."""

    schema_name: ClassVar[str]
    object_id_field: ClassVar[str] = "objectId"
    reading_fields: ClassVar[frozenset[str]] = frozenset({"objectId", "objectid", "candid", "candidate"})
    history_lists: ClassVar[tuple[str, ...]] = ("prv_candidates",)
    bands: ClassVar[dict[int, str]] = {}
    sentinels: ClassVar[frozenset[float]] = frozenset({-999.0})
    score_fields: ClassVar[tuple[str, ...]] = ("drb", "rb")
    magnitudes_are_ab: ClassVar[bool] = False
    """Whether the survey's magnitudes are AB; only then a flux in nJy follows from them."""

    measurement_fields: ClassVar[frozenset[str]] = frozenset(
        {"jd", "fid", "candid", "pid", "programid", "ra", "dec", "magpsf", "sigmapsf", "diffmaglim", "isdiffpos",
         "rb", "drb", "rbversion", "drbversion"}
    )  # fmt: skip

    def read(self, packet: dict[str, Any]) -> Reading:
        """Read what the packet says of itself."""
        candidate = packet.get("candidate")
        candidate = candidate if isinstance(candidate, dict) else {}
        alert_id = identifier(packet.get("candid"))
        point = self._point(candidate, alert_id)
        jd = number(candidate.get("jd"))
        return Reading(
            alert_id=alert_id,
            object_id=name(packet.get(self.object_id_field)),
            point=point,
            time=(jd, "jd", "utc") if jd is not None and point.mjd is not None else None,
        )

    def history_point(self, list_name: str, raw: dict[str, Any]) -> Point | None:
        """Read one earlier candidate: a detection, or an upper limit if it has no magnitude."""
        point = self._point(raw, identifier(raw.get("candid")))
        if point.mag is not None:
            return point
        limit = point.limiting_mag
        return Point("limit", point.mjd, point.band, limiting_mag=limit) if limit is not None else None

    def band(self, raw: dict[str, Any]) -> str | None:
        """Name the filter; an unknown number stays visible as ``fid:7``."""
        fid = raw.get("fid")
        if isinstance(fid, int):
            return self.bands.get(fid, f"fid:{fid}")
        return None if fid is None else f"fid:{fid}"

    def _point(self, raw: dict[str, Any], alert_id: int | str | None) -> Point:
        def value(key: str) -> float | None:
            return number(raw.get(key), self.sentinels)

        mag, mag_err, is_positive = value("magpsf"), value("sigmapsf"), sign(raw.get("isdiffpos"))
        ra, dec = position(raw.get("ra"), raw.get("dec"))
        return Point(
            kind="detection",
            mjd=mjd_from_jd(value("jd")),
            band=self.band(raw),
            mag=mag,
            mag_err=mag_err,
            flux_njy=flux_from_mag(mag, is_positive=is_positive) if self.magnitudes_are_ab else None,
            flux_err_njy=flux_err_from_mag(mag, mag_err) if self.magnitudes_are_ab else None,
            limiting_mag=value("diffmaglim"),
            is_positive=is_positive,
            ra=ra,
            dec=dec,
            score=next((score for key in self.score_fields if (score := value(key)) is not None), None),
            alert_id=alert_id,
        )


def entries(packet: dict[str, Any], list_name: str) -> list[dict[str, Any]]:
    """Return the records of a list field; None and anything odd are an empty list."""
    value = packet.get(list_name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def number(value: Any, sentinels: frozenset[float] = frozenset()) -> float | None:
    """Return a finite number, or None for what is missing, a sentinel or no number."""
    kind = value.__class__
    if (kind is not float and (kind is bool or not isinstance(value, (int, float)))) or not abs(
        value
    ) <= _LARGEST:
        return None
    return None if value in sentinels else float(value)


def identifier(value: Any) -> int | str | None:
    """Return an id as it is, never through a float: ids have up to 19 digits."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    return None if value in _EMPTY_TEXTS else value


def name(value: Any) -> str | None:
    """Return a name as text."""
    found = identifier(value)
    return None if found is None else str(found)


def position(ra: Any, dec: Any) -> tuple[float | None, float | None]:
    """Return right ascension and declination in degrees, or twice None unless both are possible."""
    ra, dec = number(ra), number(dec)
    if ra is None or dec is None or not (0 <= ra <= 360 and -90 <= dec <= 90):
        return None, None
    return ra, dec


def sign(value: Any) -> bool | None:
    """Read the many ways in which surveys write that a source became brighter."""
    if isinstance(value, str):
        return None if value in _EMPTY_TEXTS else value in _POSITIVE
    if number(value) is None and not isinstance(value, bool):
        return None
    return value in _POSITIVE  # True and 1.0 equal 1
