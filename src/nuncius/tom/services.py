"""The data services of the Toolkit: one adapter, and a few lines for each back end."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from tom_dataservices.dataservices import DataService
from tom_targets.models import Target

from nuncius.archives import open_archive
from nuncius.errors import ConfigurationError, LoginError, NotFoundError, NunciusError
from nuncius.tom import rows
from nuncius.tom.asking import source_of
from nuncius.tom.configuration import (
    ARCHIVE,
    NotSetError,
    archive_place,
    default_archive,
    default_server,
    stream_place,
)
from nuncius.tom.data import add_cutouts, add_photometry, data_of
from nuncius.tom.faults import in_messages, in_results
from nuncius.tom.forms import form_of
from nuncius.tom.live import check_archive_file, listened
from nuncius.tom.pictures import sparkline
from nuncius.tom.questions import SHOWN, Question, StreamQuestion
from nuncius.tom.views import picture_url
from nuncius.tom.visitors import ANONYMOUS, visitor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nuncius.alerts.cutouts import Cutouts
    from nuncius.alerts.lightcurve import LightCurve
    from nuncius.tom.asking import Answer, Found, Source
    from nuncius.tom.configuration import Place

IMAGES = "cutouts"
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)


class NunciusDataService(DataService):  # type: ignore[misc]
    """What all of them do; a back end says where it is."""

    name = "nuncius"
    question: ClassVar[type[Question]] = Question
    query_results_table = "nuncius_tom/query_results_table.html"

    def __init__(self, query_parameters: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(query_parameters, *args, **kwargs)
        self._notes: list[str] = []
        self._curves: dict[str, LightCurve] = {}

    @classmethod
    def place(cls) -> Place:
        """Return where the archive is.

        Raises
        ------
        NotSetError
            If the project's settings don't say it rightly; the message names the key.
        """
        raise NotImplementedError

    # Asking -----------------------------------------------------------------------------------------------------------

    @classmethod
    def get_form_class(cls) -> Any:
        """Return the form of the service."""
        return form_of(cls.question)

    @classmethod
    def get_simple_form_partial(cls, *args: Any) -> None:
        """Return None: the form is small enough as it is."""

    @classmethod
    def get_advanced_form_partial(cls, *args: Any) -> None:
        """Return None, likewise."""

    def build_query_parameters(self, parameters: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Make the question of a form's values, or of a saved query, also one that an earlier release has saved."""
        try:
            question = self.question.of(parameters).as_json()
        except (
            NunciusError
        ):  # `query_service` tells it: an older release of the Toolkit shows no error from here
            question = {item.name: parameters.get(item.name) for item in fields(self.question)}
        self.query_parameters = {"question": question, **rows.new_nonce()}
        return self.query_parameters

    def query_service(self, query_parameters: Mapping[str, Any], **kwargs: Any) -> Answer:
        """Ask the archive.

        Raises
        ------
        QueryServiceError
            If it can't be asked; the text is escaped and says what to do.
        NotConfiguredError
            If a setting is missing.
        """
        with in_results(self.name):
            question = self.question.of(query_parameters["question"])
            with self._opened(question) as source:
                answer = source.search(question)
                self._curves = source.light_curves(answer.objects)
        self.query_results, self._notes = answer, answer.notes
        return answer

    def query_targets(self, query_parameters: Mapping[str, Any], **kwargs: Any) -> list[dict[str, Any]]:
        """Return a row for each object; see `nuncius.tom.rows`."""
        answer = self.query_service(query_parameters, **kwargs)
        owner = self._visitor(kwargs)
        # Only what a page shows can be chosen; the cache drops rows at random when it has more than 300 entries.
        shown = 0 if owner is None else SHOWN
        return [self._row(found, owner, keep=number < shown) for number, found in enumerate(answer.objects)]

    def get_additional_context_data(self) -> dict[str, Any]:
        """Tell the page what a user should know of the answer."""
        return {"nuncius_notes": self._notes}

    def get_success_message(self, **kwargs: Any) -> str:
        """Say how many objects were found."""
        count = len(getattr(self.query_results, "objects", ()))
        return f"{count} objects found."

    def _row(self, found: Found, owner: str | None, *, keep: bool) -> dict[str, Any]:
        row = rows.row_of(found, self.name, owner)
        if not _loads_data_itself():
            # This release looks for data in the row alone: what stands there is read when a target is made of it.
            row["reduced_datums"] = {"photometry": self._reference(found), IMAGES: self._reference(found)}
        if keep:
            rows.keep(row)
        curve = self._curves.get(found.object_id)
        if found.mjd is not None:
            when = _MJD_EPOCH + timedelta(days=found.mjd)
            row |= {"day": f"{when:%Y-%m-%d}", "hour": f"{when:%H:%M:%S}"}
        row["sparkline"] = "" if curve is None else sparkline(curve)
        if rows.PROTECTED and owner not in {None, ANONYMOUS}:
            row["cutouts_url"] = picture_url("cutouts", row, owner)
            if curve is None:
                row["light_curve_url"] = picture_url("light-curve", row, owner)
        return row

    # Targets ----------------------------------------------------------------------------------------------------------

    def create_target_from_query(self, target_result: Mapping[str, Any], **kwargs: Any) -> Any:
        """Return the target of a row, not saved.

        Raises
        ------
        RefusedError
            If the row is not the visitor's own; the page shows why.
        """
        with in_messages(self.name):
            rows.check(target_result, self.name, self._visitor(kwargs))
            name = rows.checked_name(target_result["name"])
        return Target(name=name, type="SIDEREAL", ra=target_result["ra"], dec=target_result["dec"])

    def build_query_parameters_from_target(self, target: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the names and the position by which a target is looked for."""
        aliases = [alias.name for alias in target.aliases.all()] if target.pk else []
        place = None if target.ra is None or target.dec is None else (float(target.ra), float(target.dec))
        return {"names": [target.name, *aliases], "place": place}

    def query_reduced_data(self, target: Any, **kwargs: Any) -> dict[str, Any]:
        """Find out which object a target is; its data are read when they are added."""
        if not isinstance(target, Target):  # older releases pass the parameters of a query
            return {}
        asked = self.build_query_parameters_from_target(target)
        with in_messages(self.name), self._opened() as source:
            known = source.identify(asked["names"], asked["place"])
            if known is None:
                raise NotFoundError(
                    f"no object of the name or at the position of {target.name} is known here"
                )
        reference = {"object_id": known[0], "catalog": known[1]}
        return {"photometry": reference, IMAGES: reference}

    def query_photometry(self, query_parameters: Mapping[str, Any], **kwargs: Any) -> list[Any]:
        """Return nothing: a light curve belongs to a target; see `query_reduced_data`."""
        return []

    query_spectroscopy = query_forced_photometry = query_photometry

    def query_aliases(self, query_parameters: Any = None, target: Any = None, **kwargs: Any) -> list[str]:
        """Return nothing: a row has its aliases."""
        return []

    def create_reduced_datums_from_query(
        self, target: Any, data: Any = None, data_type: str | None = None, **kwargs: Any
    ) -> list[Any]:
        """Add what a target does not have yet, and return it."""
        if not data:
            return []
        object_id, catalog = data["object_id"], data["catalog"]
        with in_messages(self.name):
            if data_type == IMAGES:
                alert_id, images = self.cutouts(object_id, catalog)
                return add_cutouts(target, images, service=self.name, alert_id=alert_id)
            measured = data_of(self.light_curve(object_id, catalog))
        telescope = catalog.partition("_")[0]
        return add_photometry(target, measured, service=self.name, object_id=object_id, telescope=telescope)

    # One object -------------------------------------------------------------------------------------------------------

    def light_curve(self, object_id: str, catalog: str) -> LightCurve:
        """Return the light curve of an object."""
        with self._opened() as source:
            return source.light_curve(object_id, catalog)

    def cutouts(self, object_id: str, catalog: str) -> tuple[str, Cutouts]:
        """Return the newest alert's id and images."""
        with self._opened() as source:
            return source.cutouts(object_id, catalog)

    @contextlib.contextmanager
    def _opened(self, question: Question | None = None) -> Iterator[Source]:
        place = self.place()
        self._check_login(spends=place.spends_credentials)
        with _archive(place) as archive:
            yield source_of(archive)

    def _check_login(self, *, spends: bool) -> None:
        """Spend the TOM's login at a service for nobody who has not logged in at the TOM."""
        if spends and self._visitor({}) == ANONYMOUS:
            raise LoginError(
                "log in to this TOM first: the service is asked with a login that is not for everybody"
            )

    def _visitor(self, kwargs: Mapping[str, Any]) -> str | None:
        return visitor(getattr(self, "user", None), kwargs.get("request"))

    def _reference(self, found: Found) -> dict[str, str]:
        return {"object_id": found.object_id, "catalog": found.catalog}


# The back ends ----------------------------------------------------------------------------------------------------------


class ArchiveDataService(NunciusDataService):
    """An archive: a file, or whatever `nuncius.open_archive` takes."""

    name = ARCHIVE
    verbose_name = "Alerts in an archive of this TOM"

    @classmethod
    def place(cls) -> Place:
        """Return where the archive is: by default the file that the worker fills."""
        settings = data_services_settings()
        return archive_place(cls.name, settings, default_archive(settings))


class KowalskiDataService(NunciusDataService):
    """A Kowalski server, with a login."""

    name = "Nuncius Kowalski"
    verbose_name = "Kowalski: ZTF's alerts and reference catalogues"

    @classmethod
    def place(cls) -> Place:
        """Return where the server is."""
        return archive_place(
            cls.name,
            data_services_settings(),
            default_server("kowalski", "kowalski+https://kowalski.caltech.edu"),
        )


class BoomDataService(NunciusDataService):
    """BOOM, with a login."""

    name = "Nuncius BOOM"
    verbose_name = "BOOM: alerts of ZTF and Rubin"

    @classmethod
    def place(cls) -> Place:
        """Return where the server is."""
        from nuncius.archives.boom.service import PUBLIC

        return archive_place(cls.name, data_services_settings(), default_server("boom", f"boom+{PUBLIC}"))


class AntaresDataService(NunciusDataService):
    """ANTARES: loci."""

    name = "Nuncius ANTARES"
    verbose_name = "ANTARES: places on the sky with alerts"

    @classmethod
    def place(cls) -> Place:
        """Return where the server is."""
        from nuncius.archives.antares.service import PUBLIC

        return archive_place(
            cls.name, data_services_settings(), default_server("antares", f"antares+{PUBLIC}")
        )


class StreamDataService(NunciusDataService):
    """Any stream: what the worker has kept of it, and if wanted a look at what comes now."""

    name = "Nuncius Stream"
    verbose_name = "A stream of alerts, as the worker keeps it"
    question = StreamQuestion
    default_stream: ClassVar[str | None] = None

    @classmethod
    def place(cls) -> Place:
        """Return where the stream and its archive are."""
        settings = data_services_settings()
        place = stream_place(cls.name, settings, cls.default_stream, default_archive(settings))
        check_archive_file(place)
        return place

    @contextlib.contextmanager
    def _opened(self, question: Question | None = None) -> Iterator[Source]:
        if not isinstance(question, StreamQuestion) or not question.live_s:
            with super()._opened(question) as source:
                yield source
            return
        self._check_login(spends=True)
        with listened(self.place(), question.live_s, question.live_alerts) as archive:
            yield source_of(archive)


class PittGoogleDataService(StreamDataService):
    """Pitt-Google's streams on Google Cloud."""

    name = "Nuncius Pitt-Google"
    verbose_name = "Pitt-Google: streams of ZTF, Rubin and gravitational waves"
    default_stream = "pittgoogle://ztf-loop"


def data_services_settings() -> Mapping[str, Any]:
    """Return what the project's settings say of data services."""
    from django.conf import settings

    return getattr(settings, "DATA_SERVICES", None) or {}


@contextlib.contextmanager
def _archive(place: Place) -> Iterator[Any]:
    """Open an archive for reading."""
    if not place.is_file:
        try:
            archive = open_archive(place.url, **place.options)
        except ConfigurationError as error:
            raise NotSetError(f"settings.DATA_SERVICES[{place.service!r}]: {error}") from error
        with archive:
            yield archive
        return
    try:
        archive = open_archive(str(place.url), read_only=True)
    except NotFoundError as error:
        raise NotSetError(
            f"there is no archive {place.url} yet: let 'manage.py nuncius_ingest' fill it, or name another in "
            f"settings.DATA_SERVICES[{place.service!r}]['url'] ('archive' for a stream)"
        ) from error
    with archive:
        yield archive


def _loads_data_itself() -> bool:
    """Tell whether this release of the Toolkit asks for the data of a new target, as all do since version 3."""
    return hasattr(DataService, "to_aliases")


SERVICES: tuple[type[NunciusDataService], ...] = (
    ArchiveDataService,
    KowalskiDataService,
    BoomDataService,
    AntaresDataService,
    PittGoogleDataService,
    StreamDataService,
)
"""All of them, in the order of the menu."""
