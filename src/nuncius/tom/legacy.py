"""The same services for the Toolkit's older broker interface, where ``tom_alerts`` is installed.

A project of version 3 needs three things: ``"tom_alerts"`` in INSTALLED_APPS, its URLs included, and the classes named::

    TOM_ALERT_CLASSES = ["nuncius.tom.legacy.ArchiveBroker"]

Results are rows of `nuncius.tom.rows`: the Toolkit keeps them under their random ids, so that no user gets another's.
"""

from __future__ import annotations

import logging
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from crispy_forms.layout import Layout
from tom_alerts.alerts import GenericAlert, GenericBroker, GenericQueryForm
from tom_dataservices.dataservices import NotConfiguredError, QueryServiceError
from tom_targets.models import Target

from nuncius.tom import services
from nuncius.tom.forms import check_question, form_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nuncius.tom.questions import Question

__all__ = [
    "AntaresBroker",
    "ArchiveBroker",
    "BoomBroker",
    "KowalskiBroker",
    "PittGoogleBroker",
    "StreamBroker",
]

log = logging.getLogger("nuncius.tom")

_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)


class QuestionForm(GenericQueryForm):  # type: ignore[misc]
    """A form whose values make a question; `form_of` makes the form of each kind."""

    question: type[Question]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.helper.layout = Layout(self.common_layout, *(item.name for item in fields(self.question)))

    def clean(self) -> dict[str, Any]:
        """Refuse what means nothing, beside the field that is meant."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        check_question(self, self.question, values)
        return values


def form_of(question: type[Question]) -> type[QuestionForm]:
    """Return the form of a kind of question."""
    return type(f"{question.__name__}Form", (QuestionForm,), {"question": question, **form_fields(question)})


class ServiceBroker(GenericBroker):  # type: ignore[misc]
    """A data service as a broker."""

    name = "nuncius"
    form: ClassVar[Any] = None
    service: ClassVar[type[services.NunciusDataService]]
    score_description = "How real the survey's classifier takes the alert to be, from 0 to 1."

    def __init_subclass__(cls) -> None:
        cls.name = cls.service.name
        cls.form = form_of(cls.service.question)

    def fetch_alerts(self, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Ask the archive; all is read when this returns.

        Raises
        ------
        requests.HTTPError
            If it can't be asked: the kind that the Toolkit's page shows.
        """
        from requests import HTTPError

        service = self.service()
        try:
            return iter(service.query_targets(service.build_query_parameters(parameters)))
        except (QueryServiceError, NotConfiguredError) as error:
            raise HTTPError(str(error)) from error

    def fetch_alert(self, alert_id: str) -> dict[str, Any] | None:
        """Return a row of the last hour by its id."""
        from django.core.cache import cache as rows

        row: dict[str, Any] | None = rows.get(f"result_{alert_id}")
        return row

    def fetch_and_save_all(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Make a target of each row. Rows are kept for a page alone, so the Toolkit's way by their ids is not gone."""
        return [self.to_target(alert) for alert in self.fetch_alerts(parameters)]

    def to_generic_alert(self, alert: Mapping[str, Any]) -> Any:
        """Return what the Toolkit's page shows of a row."""
        mjd = alert["mjd"]
        return GenericAlert(
            timestamp=None if mjd is None else _MJD_EPOCH + timedelta(days=mjd),
            id=alert.get("row_id", alert["name"]),
            name=alert["name"],
            ra=alert["ra"],
            dec=alert["dec"],
            mag=alert["mag"],
            score=alert["score"],
            url="",
        )

    def to_target(self, alert: Mapping[str, Any]) -> Any:
        """Make a target of a row, and save it."""
        target = Target.objects.create(name=alert["name"], type="SIDEREAL", ra=alert["ra"], dec=alert["dec"])
        self.process_reduced_data(target, alert)
        return target

    def process_reduced_data(self, target: Any, alert: Mapping[str, Any] | None = None) -> None:
        """Add light curve and cutouts to a target; what fails is logged, for the page would answer 500."""
        service = self.service()
        try:
            if alert is None:
                found = service.query_reduced_data(target)
            else:
                reference = {"object_id": alert["name"], "catalog": alert["catalog"]}
                found = {"photometry": reference, services.IMAGES: reference}
            for kind, reference in found.items():
                service.create_reduced_datums_from_query(target, reference, kind)
        except QueryServiceError as error:
            log.warning("no data for %s: %s", target.name, error)


class ArchiveBroker(ServiceBroker):
    """An archive; see `nuncius.tom.services.ArchiveDataService`."""

    service = services.ArchiveDataService


class KowalskiBroker(ServiceBroker):
    """A Kowalski server."""

    service = services.KowalskiDataService


class BoomBroker(ServiceBroker):
    """BOOM."""

    service = services.BoomDataService


class AntaresBroker(ServiceBroker):
    """ANTARES."""

    service = services.AntaresDataService


class PittGoogleBroker(ServiceBroker):
    """Pitt-Google."""

    service = services.PittGoogleDataService


class StreamBroker(ServiceBroker):
    """Any stream."""

    service = services.StreamDataService
