"""The documented broker of tom_pittgoogle inside of a TOM: its form, its filter, its alerts and its pages."""

import io
import json
import re

import pytest
from django_support import browser, toolkit

toolkit()

from django.core.management import call_command  # noqa: E402 - after Django is configured
from django.test import override_settings  # noqa: E402
from requests import HTTPError  # noqa: E402
from tom_alerts.models import BrokerQuery  # noqa: E402
from tom_targets.models import Target  # noqa: E402

from nuncius.compat.tom_pittgoogle.broker_stream_python import (  # noqa: E402
    BrokerStreamPython,
    FilterAlertsForm,
)
from nuncius.compat.tom_pittgoogle.consumer_stream_python import ConsumerStreamPython  # noqa: E402
from nuncius.errors import LoginError, NotFoundError  # noqa: E402
from nuncius.sandbox.pubsub import SandboxPubSub  # noqa: E402

CLASS = "nuncius.compat.tom_pittgoogle.broker_stream_python.BrokerStreamPython"
NAME = "Pitt-Google StreamPython"
ASKED = {
    "query_name": "stars", "broker": NAME, "subscription_name": "ztf-loop", "classtar_threshold": "0.5",
    "classtar_gt_lt": "gt", "max_results": "5", "timeout": "2", "max_backlog": "",
}  # fmt: skip


def packet(number, *, classtar):
    candidate = {
        "jd": 2459000.75, "ra": 10.0 + number / 64, "dec": -20.5, "magpsf": 18.5, "classtar": classtar, "candid": number,
    }  # fmt: skip
    return {"objectId": f"ZTF20{number:06d}", "candid": number, "candidate": candidate}


def flat(number, *, classtar=0.25):
    values = packet(number, classtar=classtar)
    return {**values.pop("candidate"), **values}


def parameters(**changes):
    form = FilterAlertsForm(data=ASKED | changes)
    assert form.is_valid(), form.errors
    return form.cleaned_data


@pytest.fixture(scope="module")
def running():
    with SandboxPubSub() as box:
        yield box


@pytest.fixture
def box(running, monkeypatch):
    """Give a server with ten stars and ten others."""
    running.reset()
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    for topic in ("ztf-loop", "ztf-alerts"):
        if topic != "ztf-loop":
            ConsumerStreamPython(topic)
        sent = [packet(number, classtar=number % 2 * 0.75) for number in range(20)]
        running.publish(topic, [json.dumps(one).encode() for one in sent])
    yield running
    Target.objects.all().delete()
    BrokerQuery.objects.all().delete()


# The form -------------------------------------------------------------------------------------------------------------


def test_the_form_has_the_documented_fields_and_says_what_they_are():
    form = FilterAlertsForm()
    own = [name for name in form.fields if name not in {"query_name", "broker"}]
    assert own == [
        "subscription_name", "classtar_threshold", "classtar_gt_lt", "max_results", "timeout", "max_backlog",
    ]  # fmt: skip
    assert [form.fields[name].initial for name in own] == ["ztf-loop", None, "lt", 100, 30, 1000]
    assert all(form.fields[name].help_text for name in own if name != "classtar_gt_lt")
    assert BrokerStreamPython.form is FilterAlertsForm


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"subscription_name": ""}, "subscription_name"),
        ({"classtar_threshold": "1.5"}, "classtar_threshold"),
        ({"classtar_gt_lt": "ge"}, "classtar_gt_lt"),
        ({"max_results": "0"}, "max_results"),
        ({"timeout": "-1"}, "timeout"),
        ({"max_backlog": "0"}, "max_backlog"),
        ({"max_results": "", "timeout": ""}, "__all__"),
    ],
)
def test_what_the_form_refuses(changes, field):
    form = FilterAlertsForm(data=ASKED | changes)
    assert not form.is_valid()
    assert list(form.errors) == [field]


# Fetching -------------------------------------------------------------------------------------------------------------


def test_what_passes_is_returned_and_what_was_looked_at_is_finished(box):
    alerts = BrokerStreamPython().fetch_alerts(parameters())
    assert iter(alerts) is alerts
    found = list(alerts)
    assert [alert["candid"] for alert in found] == [1, 3, 5, 7, 9]
    assert all(alert["classtar"] == 0.75 for alert in found)
    counts = box.counts()
    assert (counts.waiting, counts.leased, counts.acknowledged) == (10, 0, 10)


def test_whole_packets_are_filtered_too(box):
    asked = parameters(subscription_name="ztf-alerts", classtar_gt_lt="lt")
    found = list(BrokerStreamPython().fetch_alerts(asked))
    assert [alert["candidate"]["candid"] for alert in found] == [0, 2, 4, 6, 8]


def test_without_limits_everything_comes(box):
    asked = parameters(max_results="", timeout="1", classtar_threshold="")
    assert len(list(BrokerStreamPython().fetch_alerts(asked))) == 20
    assert box.counts().acknowledged == 20


def test_a_query_without_an_end_is_refused(box):
    with pytest.raises(ValueError, match="never end"):
        BrokerStreamPython().fetch_alerts(parameters() | {"max_results": None, "timeout": None})
    assert box.counts().delivered == 0


def test_fetching_and_saving(box):
    broker = BrokerStreamPython()
    Target.objects.create(name="ZTF20000003", type="SIDEREAL", ra=1, dec=2)
    targets = broker.fetch_and_save_all(parameters())
    assert [target.name for target in targets] == [f"ZTF20{number:06d}" for number in (1, 3, 5, 7, 9)]
    assert sorted(Target.objects.values_list("name", flat=True)) == sorted(target.name for target in targets)
    assert Target.objects.get(name="ZTF20000003").ra == 1
    assert broker.fetch_alert(5)["objectId"] == "ZTF20000005"
    assert broker.fetch_alert(6) is None


@pytest.mark.parametrize("shape", [flat, packet])
@pytest.mark.parametrize(
    ("classtar", "threshold", "side", "passes"),
    [
        (0.25, 0.5, "lt", True), (0.75, 0.5, "lt", False), (0.5, 0.5, "lt", False),
        (0.25, 0.5, "gt", False), (0.75, 0.5, "gt", True), (0.5, 0.5, "gt", True),
        (0.25, None, "lt", True), (None, None, "gt", True), (None, 0.5, "lt", False), (float("nan"), 0.5, "gt", False),
        (0.25, 0.0, "gt", True), (0.25, 0.0, "lt", False),
    ],
)  # fmt: skip
def test_the_filter(shape, classtar, threshold, side, passes):
    alert = shape(1, classtar=classtar)
    found = BrokerStreamPython.user_filter(
        alert, classtar_threshold=threshold, classtar_gt_lt=side, more="ignored"
    )
    assert found is (alert if passes else None)


# What the Toolkit makes of it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alert", [flat(3), packet(3, classtar=0.25)])
def test_an_alert_in_the_words_of_the_toolkit(alert):
    shown = BrokerStreamPython().to_generic_alert(alert)
    assert (shown.id, shown.name, shown.ra, shown.dec) == (3, "ZTF20000003", 10.046875, -20.5)
    assert (shown.mag, shown.score) == (18.5, 0.25)
    assert shown.timestamp.isoformat() == "2020-05-31T06:00:00+00:00"
    target = BrokerStreamPython().to_target(alert)
    assert (target.name, target.type, target.ra, target.dec) == ("ZTF20000003", "SIDEREAL", 10.046875, -20.5)
    assert target.pk is None


def test_an_alert_of_rubin():
    source = {
        "diaSourceId": 7, "diaObjectId": 8, "midpointMjdTai": 61000.0, "ra": 11.5, "dec": -3.5, "band": "r", "psfFlux": 3631.0,
    }  # fmt: skip
    shown = BrokerStreamPython().to_generic_alert({"diaSourceId": 7, "diaSource": source, "diaObject": None})
    assert (shown.id, shown.ra, shown.dec, shown.score) == (7, 11.5, -3.5, None)
    assert shown.mag == pytest.approx(22.5, abs=0.01)
    assert shown.timestamp.isoformat().startswith("2025-11-20T23:59:2")


def test_what_an_alert_does_not_have_is_none():
    shown = BrokerStreamPython().to_generic_alert({"candid": 1, "jd": None, "magpsf": float("nan")})
    assert (shown.timestamp, shown.ra, shown.mag, shown.name) == (None, None, None, None)


def test_the_link_leads_to_the_subscription(box):
    broker = BrokerStreamPython()
    alerts = broker.fetch_alerts(parameters())
    assert (
        "/subscription/detail/ztf-loop?project=nuncius-sandbox" in broker.to_generic_alert(next(alerts)).url
    )


# On pages -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pages(box):
    with override_settings(TOM_ALERT_CLASSES=[CLASS]):
        yield browser("jane")


def run_query(pages, **changes):
    answer = pages.post("/alerts/query/create/", ASKED | changes)
    assert answer.status_code == 302, answer.content.decode()
    query = BrokerQuery.objects.latest("id")
    return query, pages.get(f"/alerts/query/{query.pk}/run/")


def test_a_query_on_pages(pages):
    assert "Star/galaxy" in pages.get("/alerts/query/create/", {"broker": NAME}).content.decode()
    query, answer = run_query(pages)
    assert answer.status_code == 200
    text = answer.content.decode()
    assert set(re.findall(r"ZTF20\d{6}", text)) == {f"ZTF20{number:06d}" for number in (1, 3, 5, 7, 9)}
    asked = {"query_id": query.pk, "broker": NAME, "alerts": ["3", "5"]}
    assert pages.post("/alerts/alert/create/", asked).status_code == 302
    assert sorted(Target.objects.values_list("name", flat=True)) == ["ZTF20000003", "ZTF20000005"]


def test_the_command(pages):
    query, _ = run_query(pages)
    call_command("runbrokerquery", query.name, stdout=io.StringIO())
    assert Target.objects.count() == 5


def test_what_goes_wrong_is_shown_and_no_failure_of_the_page(pages):
    _, answer = run_query(pages, subscription_name="ztf-lop<b>")
    assert answer.status_code == 200
    assert "&lt;b&gt;" in answer.content.decode()
    assert "ztf-lop<b>" not in answer.context["broker_feedback"]


def test_errors_are_ours_and_the_toolkits(box, monkeypatch, tmp_path):
    with pytest.raises(NotFoundError, match="ztf-loop") as caught:
        BrokerStreamPython().fetch_alerts(parameters(subscription_name="ztf-lop"))
    assert isinstance(caught.value, HTTPError)
    assert isinstance(caught.value, ValueError)
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(LoginError) as refused:
        BrokerStreamPython().fetch_alerts(parameters())
    assert isinstance(refused.value, HTTPError)


# Settings -------------------------------------------------------------------------------------------------------------


def test_the_project_is_that_of_the_settings(box):
    with override_settings(GOOGLE_CLOUD_PROJECT="my-observatory"):
        assert (
            ConsumerStreamPython("ztf-loop").subscription_path
            == "projects/my-observatory/subscriptions/ztf-loop"
        )
    assert ConsumerStreamPython("ztf-loop").user_project == "nuncius-sandbox"


def test_the_key_file_is_that_of_the_settings(box, monkeypatch):
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST")
    with (
        override_settings(GOOGLE_APPLICATION_CREDENTIALS="/nowhere/key.json"),
        pytest.raises(ValueError, match=r"/nowhere/key\.json"),
    ):
        ConsumerStreamPython("ztf-loop")
