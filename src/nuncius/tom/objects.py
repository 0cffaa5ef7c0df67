"""Asking archives of objects: ANTARES and ALeRCE, each with one catalog, and a question for each light curve."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from nuncius.alerts.cutouts import Cutouts
from nuncius.alerts.lightcurve import LightCurve, Point
from nuncius.alerts.surveys.base import name, number
from nuncius.alerts.times import possible_mjd
from nuncius.errors import ConfigurationError, NotFoundError
from nuncius.tom.asking import SAME_ARCSEC, Answer, Found, Source
from nuncius.tom.filters import condition_of
from nuncius.tom.words import words_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nuncius.tom.questions import Question


_ZTF = (1, 2)  # numbers of ANTARES for detections and upper limits of ZTF, whose r it writes as R


class ObjectSource(Source):
    """An archive with one catalog, of objects."""

    catalog: str

    def search(self, question: Question) -> Answer:
        """See `Source.search`."""
        words = words_of(self.catalog, "")
        if question.catalog.strip() not in {"", self.catalog}:
            raise NotFoundError(
                f"there is no catalog {question.catalog!r} here, only {self.catalog}", position="catalog"
            )
        condition = self._named(condition_of(question, words))
        if not question.is_bounded and not condition:
            raise ConfigurationError(
                "give a position, an object or the time from which on", position="position"
            )
        most = question.limit + 1
        if question.place is not None:
            documents = self.archive.cone_search(
                self.catalog,
                question.place,
                f"{question.radius_arcsec!r} arcsec",
                filter=condition,
                limit=most,
            )
        else:
            documents = self.archive.find(self.catalog, condition, sort=f"-{words.paths['mjd']}", limit=most)
        objects = [self._found(document) for document in documents]
        notes = (
            [f"there are more than {question.limit} objects; refine the question"]
            if len(objects) == most
            else []
        )
        return Answer(objects[: question.limit], notes)

    def identify(self, names: Sequence[str], place: tuple[float, float] | None) -> tuple[str, str] | None:
        """See `Source.identify`."""
        for known in names:
            if not self._may_be(known):
                continue
            document = self.archive.find_one(self.catalog, self._named({"_id": known}))
            if document is not None:
                return str(document["_id"]), self.catalog
        if place is not None:
            near = self.archive.cone_search(
                self.catalog, place, f"{SAME_ARCSEC} arcsec", limit=1, progress=False
            )
            for document in near:
                return str(document["_id"]), self.catalog
        return None

    def _named(self, condition: dict[str, Any]) -> dict[str, Any]:
        """Return the filter for objects that may be named by another survey's name."""
        return condition

    def _may_be(self, known: str) -> bool:
        """Tell whether the archive can know an object by that name, so that none is asked for in vain."""
        return known.startswith("ZTF")

    @abstractmethod
    def _found(self, document: Mapping[str, Any]) -> Found: ...


class LocusSource(ObjectSource):
    """ANTARES: places on the sky with alerts."""

    catalog = "ANTARES_loci"

    def _found(self, document: Mapping[str, Any]) -> Found:
        from nuncius.alerts.surveys.antares import Antares

        properties = document.get("properties") or {}
        point = Antares().read({**document, "id": document["_id"]}).point
        survey = properties.get("survey") or {}
        others = [properties.get("ztf_object_id"), *((survey.get("lsst") or {}).get("dia_object_id") or ())]
        return Found(
            str(document["_id"]), self.catalog, float(document["ra"]), float(document["dec"]),
            aliases=tuple(str(other) for other in others if other),
            mjd=point.mjd, mag=point.mag, band=point.band,
            alert_id=None if point.alert_id is None else str(point.alert_id),
        )  # fmt: skip

    def _named(self, condition: dict[str, Any]) -> dict[str, Any]:
        wanted = condition.get("_id")
        if isinstance(wanted, str) and wanted.startswith("ZTF"):
            return {"properties.ztf_object_id": wanted}
        return condition

    def _may_be(self, known: str) -> bool:
        return known.startswith(("ANT", "ZTF"))

    def light_curve(self, object_id: str, catalog: str) -> LightCurve:
        """See `Source.light_curve`."""
        table = self.archive.light_curve(object_id)
        return LightCurve(point for row in _rows(table) if (point := _locus_point(row)) is not None)

    def cutouts(self, object_id: str, catalog: str) -> tuple[str, Cutouts]:
        """See `Source.cutouts`."""
        locus = self.archive.find_one(self.catalog, {"_id": object_id})
        alert_id = str(((locus or {}).get("properties") or {}).get("newest_alert_id") or "")
        if not alert_id:
            return "", Cutouts()
        try:
            return alert_id, self.archive.thumbnails(alert_id)
        except NotFoundError:  # not each alert has images
            return alert_id, Cutouts()


class AlerceSource(ObjectSource):
    """ALeRCE: ZTF's objects, classified."""

    catalog = "ALERCE_objects"

    def _found(self, document: Mapping[str, Any]) -> Found:
        return Found(
            str(document["_id"]), self.catalog, float(document["meanra"]), float(document["meandec"]),
            mjd=document.get("lastmjd"), score=document.get("probability"),
        )  # fmt: skip

    def light_curve(self, object_id: str, catalog: str) -> LightCurve:
        """See `Source.light_curve`."""
        curve: LightCurve = self.archive.light_curve(object_id)
        return curve

    def cutouts(self, object_id: str, catalog: str) -> tuple[str, Cutouts]:
        """See `Source.cutouts`."""
        try:
            return object_id, self.archive.stamps(object_id)
        except NotFoundError:
            return object_id, Cutouts()


def _rows(table: Any) -> Iterator[dict[str, Any]]:
    """Give the rows of an astropy table; what is masked is None."""
    import numpy as np

    for row in table:
        yield {
            column: None if np.ma.is_masked(row[column]) else _plain(row[column]) for column in table.colnames
        }


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _locus_point(row: Mapping[str, Any]) -> Point | None:
    """Read one row of ANTARES' light curve: a detection, or an upper limit if it has no magnitude."""
    mjd, mag, limit = (number(row.get(key)) for key in ("ant_mjd", "ant_mag", "ant_maglim"))
    mjd, band = possible_mjd(mjd), name(row.get("ant_passband"))
    if band == "R" and row.get("ant_survey") in _ZTF:
        band = "r"
    if mag is not None:
        return Point(
            "detection", mjd, band, mag, number(row.get("ant_magerr")), limiting_mag=limit,
            alert_id=name(row.get("alert_id")),
        )  # fmt: skip
    return None if limit is None else Point("limit", mjd, band, limiting_mag=limit)
