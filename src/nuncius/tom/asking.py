"""Asking any archive for objects, light curves and cutouts, in one way.

Archives whose catalogs hold alerts (the one in a file, Kowalski, BOOM, MongoDB, several as one) have them in the same shape;
ANTARES and ALeRCE have a document for each object. Nothing here knows of the Toolkit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nuncius.alerts.cutouts import Cutouts
from nuncius.alerts.lightcurve import LightCurve
from nuncius.alerts.surveys.base import entries
from nuncius.archives.backend import no_such_catalog
from nuncius.errors import ConfigurationError, FilterError
from nuncius.tom.filters import condition_of, objects_condition
from nuncius.tom.words import ALERTS, survey_of, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nuncius.alerts.lightcurve import Point
    from nuncius.tom.questions import Question
    from nuncius.tom.words import Words

SAME_ARCSEC = 2.0
"""How near to a target an object of another name must be to be taken for it."""

_PAGE = 200  # documents in one question
_PAGES = 10


@dataclass(frozen=True, slots=True)
class Found:
    """One object, as its newest alert that meets the question has it.

    Parameters
    ----------
    object_id : str
        Its name in the catalog.
    catalog : str
        Where it was found.
    ra, dec : float
        ICRS degrees.
    aliases : tuple of str
        Other names of it.
    mjd, mag : float, optional
        Time (UTC) and magnitude of the alert.
    band, alert_id : str, optional
        The filter, and the alert's own id.
    score : float, optional
        How real the survey's classifier takes it to be.
    """

    object_id: str
    catalog: str
    ra: float
    dec: float
    aliases: tuple[str, ...] = ()
    mjd: float | None = None
    mag: float | None = None
    band: str | None = None
    alert_id: str | None = None
    score: float | None = None


@dataclass(slots=True)
class Answer:
    """What was found, and what a user should know of it.

    Parameters
    ----------
    objects : list of Found
        The newest first, around a position the nearest.
    notes : list of str
        What could not be asked, or that there is more.
    """

    objects: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Source(ABC):
    """An archive as the Toolkit's services ask it.

    Parameters
    ----------
    archive : Archive
        Open; whoever opened it closes it.
    """

    def __init__(self, archive: Any) -> None:
        self.archive = archive

    @abstractmethod
    def search(self, question: Question) -> Answer:
        """Find objects.

        Raises
        ------
        NunciusError
            If the archive can't be asked, or has no such catalog.
        """

    @abstractmethod
    def light_curve(self, object_id: str, catalog: str) -> LightCurve:
        """Return all measurements of an object; none is an empty light curve."""

    @abstractmethod
    def cutouts(self, object_id: str, catalog: str) -> tuple[str, Cutouts]:
        """Return the id of the newest alert of an object and its images, which may be none."""

    def light_curves(self, found: Sequence[Found]) -> dict[str, LightCurve]:
        """Return the light curves that cost no question for each object."""
        return {}

    @abstractmethod
    def identify(self, names: Sequence[str], place: tuple[float, float] | None) -> tuple[str, str] | None:
        """Find out by which name, and in which catalog, a target is known: by its names, else by its position."""


def source_of(archive: Any) -> Source:
    """Return what asks an archive."""
    from nuncius.tom.objects import AlerceSource, LocusSource

    service = archive._backend.service
    kinds: dict[str, type[Source]] = {"antares": LocusSource, "alerce": AlerceSource}
    return kinds.get(service, AlertSource)(archive)


class AlertSource(Source):
    """An archive whose catalogs hold alerts, with the histories of objects beside (``ZTF_alerts``, ``ZTF_alerts_aux``)."""

    def __init__(self, archive: Any) -> None:
        super().__init__(archive)
        self._service = archive._backend.service
        self._names: list[str] | None = None

    @property
    def _catalogs(self) -> list[str]:
        if self._names is None:
            self._names = self.archive.catalogs()
        return self._names

    def search(self, question: Question) -> Answer:
        """See `Source.search`."""
        if self._service != "embedded archive" and not question.is_bounded:
            raise ConfigurationError(
                "a large archive can't search all its alerts: give a position, an object or the time from which on",
                position="position",
            )
        answer = Answer()
        chosen = question.catalog.strip()
        if chosen and chosen not in self._catalogs:
            raise no_such_catalog(chosen, self._catalogs, self._service, self.archive.url)
        catalogs = [chosen] if chosen else [name for name in self._catalogs if name.endswith(ALERTS)]
        for catalog in catalogs:
            words = words_of(catalog, self._service)
            try:
                condition = condition_of(question, words)
            except FilterError as error:
                if chosen or len(catalogs) == 1:
                    raise
                answer.notes.append(f"{catalog} was not asked: {error}")
                continue
            documents = self._documents(catalog, question, condition, words)
            for one in self._objects(catalog, _looked_at(documents, catalog, answer.notes)):
                if len(answer.objects) == question.limit:
                    answer.notes.append(f"there are more than {question.limit} objects; refine the question")
                    return answer
                answer.objects.append(one)
        return answer

    def _documents(
        self, catalog: str, question: Question, condition: Mapping[str, Any], words: Words
    ) -> Iterator[Mapping[str, Any]]:
        """Give the alerts that meet a question, page by page, as many as are looked at."""
        projection = self._without_images(catalog)
        if question.place is not None:
            yield from self.archive.cone_search(
                catalog, question.place, f"{question.radius_arcsec!r} arcsec",
                filter=condition, projection=projection, limit=_PAGE * _PAGES, progress=False,
            )  # fmt: skip
            return
        time = words.paths.get("mjd")
        order = None if time is None else f"-{time}"
        for number in range(_PAGES):
            page = list(
                self.archive.find(
                    catalog, condition, projection=projection, sort=order, skip=number * _PAGE, limit=_PAGE
                )
            )
            yield from page
            if len(page) < _PAGE:
                return

    def _objects(self, catalog: str, documents: Iterable[Mapping[str, Any]]) -> Iterator[Found]:
        survey = survey_of(catalog, self._service)
        seen = set()
        for document in documents:
            reading = survey.read(dict(document))
            point = reading.point
            name = reading.object_id or (None if reading.alert_id is None else str(reading.alert_id))
            if name is None or name in seen or point.ra is None or point.dec is None:
                continue
            seen.add(name)
            yield Found(
                name, catalog, point.ra, point.dec,
                mjd=point.mjd, mag=point.mag, band=point.band, score=point.score,
                alert_id=None if reading.alert_id is None else str(reading.alert_id),
            )  # fmt: skip

    def light_curve(self, object_id: str, catalog: str) -> LightCurve:
        """See `Source.light_curve`."""
        return self._curves(catalog, [object_id]).get(object_id, LightCurve())

    def light_curves(self, found: Sequence[Found]) -> dict[str, LightCurve]:
        """See `Source.light_curves`: two questions for each catalog, whatever the number of objects."""
        by_catalog: dict[str, list[str]] = {}
        for one in found:
            by_catalog.setdefault(one.catalog, []).append(one.object_id)
        return {
            name: curve
            for catalog, names in by_catalog.items()
            for name, curve in self._curves(catalog, names).items()
        }

    def _curves(self, catalog: str, names: list[str]) -> dict[str, LightCurve]:
        words, survey = words_of(catalog, self._service), survey_of(catalog, self._service)
        if "object_id" not in words.paths:  # no survey that is known: what an archive in a file has found out
            if self._service != "embedded archive":
                return {}
            return {name: self.archive.object(name).light_curve for name in names}
        points: dict[str, list[Point]] = {name: [] for name in names}
        wanted = objects_condition(names, words)
        for document in self.archive.find(catalog, wanted, projection=self._without_images(catalog)):
            reading = survey.read(document)
            if reading.object_id in points:
                points[reading.object_id].append(reading.point)
        histories = f"{catalog}_aux"
        if histories in self._catalogs:
            lists = [*survey.history_lists]
            for document in self.archive.find(histories, {"_id": {"$in": names}}, projection=lists):
                mine = points.get(str(document["_id"]), [])
                for list_name in lists:
                    read = (survey.history_point(list_name, raw) for raw in entries(document, list_name))
                    mine += [point for point in read if point is not None]
        return {name: LightCurve(some) for name, some in points.items()}

    def cutouts(self, object_id: str, catalog: str) -> tuple[str, Cutouts]:
        """See `Source.cutouts`."""
        words, survey = words_of(catalog, self._service), survey_of(catalog, self._service)
        time = words.paths.get("mjd")
        if time is None:
            return "", Cutouts()
        document = self.archive.find_one(catalog, objects_condition([object_id], words), sort=f"-{time}")
        if document is None:
            return "", Cutouts()
        alert_id = survey.read(document).alert_id
        images, beside = survey.cutouts(document), f"{catalog}_cutouts"
        if not len(images) and beside in self._catalogs:
            images = survey.cutouts(self.archive.find_one(beside, {"_id": alert_id}) or {})
        return str(alert_id), images

    def identify(self, names: Sequence[str], place: tuple[float, float] | None) -> tuple[str, str] | None:
        """See `Source.identify`."""
        catalogs = [name for name in self._catalogs if name.endswith(ALERTS)]
        for catalog in catalogs:
            words, survey = words_of(catalog, self._service), survey_of(catalog, self._service)
            if "object_id" not in words.paths:
                continue
            document = self.archive.find_one(
                catalog, objects_condition(list(names), words), projection=self._without_images(catalog)
            )
            if document is not None and (name := survey.read(document).object_id) is not None:
                return name, catalog
        for catalog in catalogs if place is not None else ():
            near = self.archive.cone_search(
                catalog,
                place,
                f"{SAME_ARCSEC} arcsec",
                projection=self._without_images(catalog),
                limit=1,
                progress=False,
            )
            for one in self._objects(catalog, near):
                return one.object_id, catalog
        return None

    def _without_images(self, catalog: str) -> dict[str, int]:
        return dict.fromkeys(survey_of(catalog, self._service).cutout_fields, 0)


def _looked_at(
    documents: Iterable[Mapping[str, Any]], catalog: str, notes: list[str]
) -> Iterator[Mapping[str, Any]]:
    """Pass alerts on, and note it if they are all that is looked at: there may be more."""
    count = 0
    for document in documents:
        count += 1
        yield document
    if count >= _PAGE * _PAGES:
        notes.append(
            f"of {catalog} only {count:,} alerts were looked at, and there may be more objects; refine the question"
        )
