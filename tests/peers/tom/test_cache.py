"""Results belong to who has asked: the Toolkit's shared cache mixes up nobody's, and makes no stream stand still."""

import re

import django_support as tom
import pytest

tom.toolkit()

from django.core.cache import cache  # noqa: E402
from tom_targets.models import Target  # noqa: E402

from nuncius.tom import rows, services  # noqa: E402

SERVICE = "Nuncius Archive"


@pytest.fixture(autouse=True)
def nothing_before():
    Target.objects.all().delete()
    cache.clear()


@pytest.fixture
def asked(monkeypatch):
    """Count how often the archive is asked."""
    calls = []
    original = services.NunciusDataService.query_service

    def counted(self, parameters, **kwargs):
        calls.append(parameters)
        return original(self, parameters, **kwargs)

    monkeypatch.setattr(services.NunciusDataService, "query_service", counted)
    return calls


@pytest.fixture
def two():
    return tom.objects(limit=2)


@pytest.fixture
def vera():
    return tom.browser("vera")


@pytest.fixture
def galileo():
    return tom.browser("galileo")


def ask_for(client, found):
    return tom.offered(tom.ask(client, SERVICE, object_id=found.object_id))


def leak(vera, galileo, two):
    """Let vera choose the first row of her results after galileo has asked for another object; return what she gets."""
    hers = ask_for(vera, two[0])
    ask_for(galileo, two[1])
    answer = tom.choose(vera, SERVICE, hers)
    assert answer.status_code == 200
    return [target.name for target in Target.objects.all()], answer


def test_nobody_gets_the_object_of_somebody_else(vera, galileo, two):
    names, answer = leak(vera, galileo, two)
    assert (
        names == []
    )  # her rows are gone with the cache that the other query has cleared, and she is told so
    assert "Try re-running the query" in answer.content.decode()


def test_without_the_protection_somebody_does(vera, galileo, two, monkeypatch):
    monkeypatch.setattr(rows, "PROTECTED", False)
    names, _ = leak(vera, galileo, two)
    assert names == [two[1].object_id]


def test_asked_again_her_own_object_is_there(vera, galileo, two):
    ask_for(galileo, two[1])
    tom.choose(vera, SERVICE, ask_for(vera, two[0]))
    assert [target.name for target in Target.objects.all()] == [two[0].object_id]


def test_the_same_question_is_asked_anew_each_time(vera, galileo, two, asked):
    for client in (vera, vera, galileo):
        assert len(ask_for(client, two[0])) == 1
    assert len(asked) == 3


def test_without_the_protection_it_is_not(vera, galileo, two, asked, monkeypatch):
    monkeypatch.setattr(rows, "PROTECTED", False)
    for client in (vera, vera, galileo):
        ask_for(client, two[0])
    assert len(asked) < 3


def test_a_row_under_a_number_is_refused(vera, two):
    ask_for(vera, two[0])
    answer = tom.choose(vera, SERVICE, ["0"])
    assert answer.status_code == 200
    assert "run yours again" in answer.content.decode()
    assert Target.objects.count() == 0


def test_the_row_of_another_user_is_refused_even_with_its_id(vera, galileo, two):
    answer = tom.choose(galileo, SERVICE, ask_for(vera, two[0]))
    assert answer.status_code == 200
    assert "another user" in answer.content.decode()
    assert Target.objects.count() == 0


def test_a_row_of_another_service_is_refused(vera, two):
    answer = tom.choose(vera, "Nuncius Stream", ask_for(vera, two[0]))
    assert "of another query" in answer.content.decode()
    assert Target.objects.count() == 0


def test_ids_of_rows_can_not_be_guessed(vera):
    page = tom.ask(vera, SERVICE, limit=50)
    ids = tom.offered(page)
    assert len(set(ids)) == len(ids) == 50
    assert all(len(one) >= 24 for one in ids)
    again = tom.offered(tom.ask(vera, SERVICE, limit=50))
    assert not set(ids) & set(again)


def test_what_is_cached_is_small(vera):
    page = tom.ask(vera, SERVICE, limit=10)
    for one in tom.offered(page):
        kept = cache.get(f"result_{one}")
        assert kept["service"] == SERVICE
        assert not any(isinstance(value, bytes) for value in kept.values())
        assert len(repr(kept)) < 2000


def test_a_saved_query_runs_anew_too(vera, asked):
    tom.ask(vera, SERVICE, limit=1, query_save="on", query_name="again")
    run = re.search(
        r"/tom_dataservices/query/\d+/run/", vera.get("/tom_dataservices/query/list/").content.decode()
    )[0]
    ids = [tom.offered(vera.get(run))[0] for _ in range(2)]
    assert ids[0] != ids[1]
    assert len(asked) == 3
