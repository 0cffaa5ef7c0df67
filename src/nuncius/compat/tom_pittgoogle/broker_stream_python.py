"""`BrokerStreamPython` as its documentation has it: Pitt-Google among the brokers of a TOM.

``TOM_ALERT_CLASSES = ["nuncius.compat.tom_pittgoogle.broker_stream_python.BrokerStreamPython"]`` in Django's settings
offers it. From version 3 of the TOM Toolkit on, ``tom_alerts`` must be among the INSTALLED_APPS, and its URLs included.

A TOM of version 3 has more of the app `nuncius.tom`: it reads what a worker has kept, instead of making the visitor wait.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require
from nuncius.alerts.surveys import LSST
from nuncius.compat.kinds import alike
from nuncius.compat.tom_pittgoogle.consumer_stream_python import ConsumerStreamPython
from nuncius.errors import ConfigurationError, MissingExtraError, NunciusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

forms = require("django.forms", extra="tom")
crispy = require("crispy_forms.layout", extra="tom")
tom_alerts = require("tom_alerts.alerts", extra="tom")

_JD_1970, _MJD_1970 = 2_440_587.5, 40_587.0
_FLOW = ("max_results", "timeout", "max_backlog")
_PAGE = "https://console.cloud.google.com/cloudpubsub/subscription/list"


class FilterAlertsForm(tom_alerts.GenericQueryForm):  # type: ignore[misc, name-defined]
    """What to pull, which alerts to show, and when to stop.

    Fields: subscription_name (str), classtar_threshold (float, 0 to 1), classtar_gt_lt (``lt`` or ``gt``), max_results,
    timeout and max_backlog (int, from 1).
    """

    subscription_name = forms.CharField(
        required=True,
        initial="ztf-loop",
        help_text="The subscription in your Google Cloud project, made if it is missing, to Pitt-Google's topic of the "
        "same name. ztf-loop is for tests and gives about one alert a second.",
    )
    classtar_threshold = forms.FloatField(
        required=False,
        min_value=0,
        max_value=1,
        help_text="Star/galaxy classification by SExtractor: 1 is a star, 0 is none. Leave it empty for all alerts.",
    )
    classtar_gt_lt = forms.ChoiceField(
        required=True,
        choices=(("lt", "less than"), ("gt", "greater than or equal")),
        initial="lt",
        widget=forms.RadioSelect,
        label="classtar is … the threshold",
    )
    max_results = forms.IntegerField(
        required=False,
        min_value=1,
        initial=100,
        help_text="Stop after so many alerts that pass the filter. The page shows 100 at most; empty is no limit.",
    )
    timeout = forms.IntegerField(
        required=False,
        min_value=1,
        initial=30,
        help_text="Stop after so many seconds without a new alert. max_results or timeout is needed.",
    )
    max_backlog = forms.IntegerField(
        required=False,
        min_value=1,
        initial=1000,
        help_text="The most alerts that are received and not yet looked at.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.helper.layout = crispy.Layout(
            self.common_layout,
            crispy.Fieldset("Stream", "subscription_name"),
            crispy.Fieldset("Filter", "classtar_threshold", "classtar_gt_lt"),
            crispy.Fieldset("When to stop", *_FLOW),
        )

    def clean(self) -> dict[str, Any]:
        """Refuse a query that would never end."""
        cleaned: dict[str, Any] = super().clean()
        if not (self.errors or cleaned.get("max_results") or cleaned.get("timeout")):
            raise forms.ValidationError("Give max_results or timeout, or the query never ends.")
        return cleaned


class BrokerStreamPython(tom_alerts.GenericBroker):  # type: ignore[misc, name-defined]
    """Pitt-Google as a broker of the TOM Toolkit, pulling from Pub/Sub while the visitor waits."""

    name = "Pitt-Google StreamPython"
    form = FilterAlertsForm
    score_description = "classtar: 1 is a star, 0 is none."

    def __init__(self) -> None:
        self.consumer: ConsumerStreamPython | None = None
        self._fetched: dict[str, dict[str, Any]] = {}

    def fetch_alerts(self, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Pull alerts, and return those that pass the filter.

        What the filter rejects was looked at and is acknowledged too: another query on the same subscription does not see
        it. (A second subscription, by another name, sees everything.)

        Parameters
        ----------
        parameters : mapping
            The cleaned data of `FilterAlertsForm`.

        Returns
        -------
        iterator of dict
            Over a finished list: alerts of ztf-loop flat, with the fields of `ConsumerStreamPython`, and others whole.

        Raises
        ------
        NunciusError
            What went wrong. It is a `requests.HTTPError` too, whose text the Toolkit shows on the page.
        """
        try:
            flow = {name: parameters.get(name) for name in _FLOW}
            if flow["max_results"] is None and flow["timeout"] is None:
                raise ConfigurationError("max_results and timeout are both empty: the query would never end")
            self.consumer = ConsumerStreamPython(parameters["subscription_name"])
            alerts = self.consumer.stream_alerts(
                user_callback=self._judge, return_list=True, flow_configs=flow, parameters=parameters
            )
        except MissingExtraError:
            raise  # an ImportError can't be an HTTPError
        except NunciusError as error:
            raise alike(error, _on_page(type(error)), escape(error.message, quote=False)) from error
        self._fetched = {str(_values_of(alert)["id"]): alert for alert in alerts}
        return iter(alerts)

    def fetch_alert(self, alert_id: Any) -> dict[str, Any] | None:
        """Return an alert of the last `fetch_alerts` by its id; a stream can't be asked for a single one."""
        return self._fetched.get(str(alert_id))

    def fetch_and_save_all(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Pull alerts and save a target for each object; return the targets. One that is there stays as it is."""
        kind = require("tom_targets.models", extra="tom").Target
        targets = {}
        for alert in self.fetch_alerts(parameters):
            target = self.to_target(alert)
            if target.name not in targets:
                known = kind.objects.filter(name=target.name).first()
                if known is None:
                    target.save()
                targets[target.name] = known or target
        return list(targets.values())

    def to_generic_alert(self, alert_dict: Mapping[str, Any]) -> Any:
        """Return an alert as the Toolkit shows it: a `GenericAlert`. What an alert doesn't have is None.

        Parameters
        ----------
        alert_dict : mapping
            Flat, or a whole packet of ZTF or Rubin.
        """
        url = _PAGE if self.consumer is None else self.consumer.pull_url
        return tom_alerts.GenericAlert(**_values_of(alert_dict), url=url)

    def to_target(self, alert_dict: Mapping[str, Any]) -> Any:
        """Return the target of an alert: a sidereal `Target`, which is not saved."""
        values = _values_of(alert_dict)
        kind = require("tom_targets.models", extra="tom").Target
        return kind(name=values["name"], type="SIDEREAL", ra=values["ra"], dec=values["dec"])

    @staticmethod
    def user_filter(alert_dict: dict[str, Any], **parameters: Any) -> dict[str, Any] | None:
        """Apply the filter of the form.

        Parameters
        ----------
        alert_dict : dict
            Flat, or a whole packet of ZTF.
        **parameters
            ``classtar_threshold``, and ``classtar_gt_lt``: ``"lt"`` for less than, ``"gt"`` for greater or equal.

        Returns
        -------
        dict or None
            The alert if it passes. Without a threshold all pass; with one, an alert without classtar does not.

        Raises
        ------
        ConfigurationError
            If ``classtar_gt_lt`` is neither.
        """
        threshold, side = parameters.get("classtar_threshold"), parameters.get("classtar_gt_lt") or "lt"
        if side not in {"lt", "gt"}:
            raise ConfigurationError(
                f"classtar_gt_lt={side!r}: choose 'lt' or 'gt'", position="classtar_gt_lt"
            )
        if threshold is None:
            return alert_dict
        classtar = _number(_side_by_side(alert_dict).get("classtar"))
        if classtar is None:
            return None
        return alert_dict if (classtar < threshold if side == "lt" else classtar >= threshold) else None

    def _judge(self, alert_dict: dict[str, Any], *, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Finish each alert; count and keep those that pass."""
        return {"ack": True, "result": self.user_filter(alert_dict, **parameters)}


def _side_by_side(alert_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a flat alert, or those of a packet and its candidate."""
    candidate = alert_dict.get("candidate")
    return {**alert_dict, **(candidate if isinstance(candidate, dict) else {})}


def _values_of(alert_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the Toolkit shows of an alert, by its names."""
    if "diaSource" in alert_dict:
        reading = LSST.read(dict(alert_dict))
        point = reading.point
        days = None if point.mjd is None else point.mjd - _MJD_1970
        identity = {"id": reading.alert_id, "name": reading.object_id}
        return {
            **identity,
            "ra": point.ra,
            "dec": point.dec,
            "mag": point.mag,
            "score": None,
            "timestamp": _moment(days),
        }
    values = _side_by_side(alert_dict)
    jd = _number(values.get("jd"))
    return {
        "timestamp": _moment(None if jd is None else jd - _JD_1970),
        "id": values.get("candid"),
        "name": values.get("objectId"),
        "ra": _number(values.get("ra")),
        "dec": _number(values.get("dec")),
        "mag": _number(values.get("magpsf")),
        "score": _number(values.get("classtar")),
    }


def _moment(days: float | None) -> datetime | None:
    """Return the time so many days after 1970 began; None for what is no date of the calendar."""
    try:
        return None if days is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days)
    except OverflowError:
        return None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _on_page(kind: type[NunciusError]) -> type[NunciusError]:
    """Return a kind of error that the Toolkit shows on the page of the query."""
    http_error = require("requests", extra="tom").HTTPError
    return type(kind.__name__, (kind, http_error), {"__doc__": kind.__doc__})
