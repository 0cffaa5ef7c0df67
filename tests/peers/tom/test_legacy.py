"""The services as brokers of the older interface."""

import re

import django_support as tom
import pytest

tom.toolkit()

from django.core.cache import cache  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test import override_settings  # noqa: E402
from requests import HTTPError  # noqa: E402
from tom_alerts.models import BrokerQuery  # noqa: E402
from tom_dataproducts import models  # noqa: E402
from tom_targets.models import Target  # noqa: E402

from nuncius.tom import legacy  # noqa: E402

BROKER = "Nuncius Archive"
PHOTOMETRY = getattr(models, "PhotometryReducedDatum", None) or models.ReducedDatum


@pytest.fixture(autouse=True)
def nothing_before():
    Target.objects.all().delete()
    BrokerQuery.objects.all().delete()
    cache.clear()


@pytest.fixture
def vera():
    return tom.browser("vera")


def saved(client, **values):
    """Save a query through the form, and return it."""
    form = {"broker": BROKER, "query_name": "mine", **values}
    answer = client.post("/alerts/query/create/", form, follow=True)
    assert answer.status_code == 200, answer.content[-2000:]
    return BrokerQuery.objects.get(name="mine")


def test_the_form_has_all_fields(vera):
    page = vera.get(f"/alerts/query/create/?broker={BROKER}").content.decode()
    for name in ("position", "radius_arcsec", "where", "limit", "query_name"):
        assert f'name="{name}"' in page


def test_from_a_query_to_a_target_with_its_data(vera):
    [found] = tom.objects(limit=1)
    query = saved(vera, object_id=found.object_id)
    page = vera.get(f"/alerts/query/{query.pk}/run/").content.decode()
    assert found.object_id in page
    ids = re.findall(r'name="alerts" value="([^"]*)"', page)
    assert len(ids) == 1
    assert len(ids[0]) >= 24  # none that another's row could have
    answer = vera.post(
        "/alerts/alert/create/", {"query_id": query.pk, "broker": BROKER, "alerts": ids}, follow=True
    )
    assert answer.status_code == 200
    target = Target.objects.get(name=found.object_id)
    assert PHOTOMETRY.objects.filter(target=target).count() > 5
    assert models.DataProduct.objects.filter(target=target).count() == 1


def test_another_users_query_in_between_mixes_up_nothing(vera):
    first, second = tom.objects(limit=2)
    query = saved(vera, object_id=first.object_id)
    ids = re.findall(
        r'name="alerts" value="([^"]*)"', vera.get(f"/alerts/query/{query.pk}/run/").content.decode()
    )
    other = BrokerQuery.objects.create(
        name="theirs", broker=BROKER, parameters={"object_id": second.object_id}
    )
    assert tom.browser("galileo").get(f"/alerts/query/{other.pk}/run/").status_code == 200
    vera.post("/alerts/alert/create/", {"query_id": query.pk, "broker": BROKER, "alerts": ids})
    assert [target.name for target in Target.objects.all()] == [first.object_id]


def test_alerts_are_a_plain_iterator_of_what_is_there_already():
    alerts = legacy.ArchiveBroker().fetch_alerts({"limit": 3})
    assert next(alerts)["name"]
    assert len(list(alerts)) == 2


def test_the_command_for_saved_queries_makes_targets(capsys):
    BrokerQuery.objects.create(name="three", broker=BROKER, parameters={"limit": 3})
    call_command("runbrokerquery", "three")
    assert Target.objects.count() == 3


def test_all_at_once_with_their_data():
    targets = legacy.ArchiveBroker().fetch_and_save_all({"limit": 2})
    assert len(targets) == 2
    assert all(PHOTOMETRY.objects.filter(target=target).exists() for target in targets)


def test_errors_are_of_the_kind_that_the_page_shows(vera, tmp_path):
    query = saved(vera, limit=1)
    with override_settings(DATA_SERVICES={BROKER: {"url": str(tmp_path / "<b>none.db")}}):
        with pytest.raises(HTTPError, match="there is no archive"):
            legacy.ArchiveBroker().fetch_alerts({})
        page = vera.get(f"/alerts/query/{query.pk}/run/")
    assert page.status_code == 200
    assert "there is no archive" in page.content.decode()
    assert "<b>none" not in page.content.decode()


def test_a_question_that_means_nothing_is_told_in_the_form(vera):
    form = {"broker": BROKER, "query_name": "mine", "where": "scor > 1"}
    answer = vera.post("/alerts/query/create/", form)
    assert answer.status_code == 200
    assert "score" in " ".join(answer.context["form"].errors["where"])


def test_all_brokers_have_a_name_and_a_form():
    for name in legacy.__all__:
        broker = getattr(legacy, name)
        form = broker.form({"broker": broker.name, "query_name": "x"})
        assert form.is_valid(), form.errors
        assert set(form.cleaned_data) > {"position", "where", "limit"}
