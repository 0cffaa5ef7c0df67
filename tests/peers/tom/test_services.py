"""The data services by themselves: forms, rows, targets, light curves, cutouts, errors."""

import json
import re

import django_support as tom
import pytest

settings = tom.toolkit()

from django.core import checks  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test import override_settings  # noqa: E402
from tom_dataproducts import models  # noqa: E402
from tom_dataservices.dataservices import (  # noqa: E402
    DataService,
    NotConfiguredError,
    QueryServiceError,
    get_data_service_class,
    get_data_service_classes,
)
from tom_dataservices.models import DataServiceQuery  # noqa: E402
from tom_targets.models import Target  # noqa: E402

import nuncius  # noqa: E402
from nuncius.tom import configuration, services  # noqa: E402
from nuncius.tom.checks import check_project  # noqa: E402
from nuncius.tom.pictures import PNG_WIDTH  # noqa: E402

SERVICE = "Nuncius Archive"
IS_NEW = hasattr(DataService, "to_aliases")
PHOTOMETRY = getattr(models, "PhotometryReducedDatum", None) or models.ReducedDatum


def pages(client):
    return client.get(f"/tom_dataservices/query/create/?data_service={SERVICE}")


def brightness(datum):
    return datum.brightness if hasattr(datum, "brightness") else datum.value.get("magnitude")


@pytest.fixture(autouse=True)
def no_targets():
    Target.objects.all().delete()


@pytest.fixture
def vera():
    return tom.browser("vera")


def made(client, found, service=SERVICE):
    """Make a target of an object through the pages."""
    ids = tom.offered(tom.ask(client, service, object_id=found.object_id))
    assert len(ids) == 1
    tom.choose(client, service, ids)
    return Target.objects.get(name=found.object_id)


# The menu and the form --------------------------------------------------------------------------------------------------


def test_all_services_are_there_under_names_of_their_own():
    known = get_data_service_classes()
    assert {
        "Nuncius Archive",
        "Nuncius Kowalski",
        "Nuncius BOOM",
        "Nuncius ANTARES",
        "Nuncius Stream",
    } <= set(known)
    for service in services.SERVICES:
        assert len(service.name) <= 50  # of the form's hidden field


def test_the_form_has_a_field_for_each_part_of_a_question(vera):
    page = pages(vera).content.decode()
    for name in (
        "position",
        "radius_arcsec",
        "object_id",
        "catalog",
        "since",
        "until",
        "mag_min",
        "where",
        "limit",
    ):
        assert f'name="{name}"' in page
    assert "live_s" not in page
    assert (
        "live_s" in vera.get("/tom_dataservices/query/create/?data_service=Nuncius Stream").content.decode()
    )


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("position", "nowhere", "position"),
        ("where", "scor > 1", "score"),
        ("limit", "0", "between 1"),
        ("mag_max", "x", "number"),
    ],
)
def test_what_means_nothing_is_told_beside_its_field(vera, name, value, told):
    page = vera.post("/tom_dataservices/query/create/", {"data_service": SERVICE, name: value}, follow=True)
    assert page.status_code == 200
    assert not page.redirect_chain
    assert told in " ".join(page.context["form"].errors[name])


# Rows -------------------------------------------------------------------------------------------------------------------


def test_rows_are_small_and_serialisable():
    service = services.ArchiveDataService()
    rows = service.query_targets(service.build_query_parameters({"limit": 20}))
    assert len(rows) == 20
    for row in rows:
        assert {"name", "ra", "dec", "aliases"} <= set(row)
        assert len(json.dumps(row)) < 20_000  # no cutouts, no packets


def test_a_cone_finds_what_is_there(vera):
    [found] = tom.objects(limit=1)
    page = tom.ask(vera, SERVICE, position=f"{found.ra} {found.dec}", radius_arcsec=2)
    assert len(tom.offered(page)) == 1
    assert found.object_id in page.content.decode()


def test_a_filter_is_heeded(vera):
    page = tom.ask(vera, SERVICE, where="mag < 18 and score > 0.5", limit=100)
    expected = tom.objects(limit=100, where="mag < 18 and score > 0.5")
    assert len(tom.offered(page)) == len(expected) > 0
    assert len(expected) < len(tom.objects(limit=100))


def test_a_page_says_that_there_is_more(vera):
    assert "more than 3 objects" in tom.ask(vera, SERVICE, limit=3).content.decode()


def test_the_pictures_are_for_who_has_asked_alone(vera):
    page = tom.ask(vera, SERVICE, limit=2).content.decode()
    assert page.count("<svg") >= 2
    urls = re.findall(r'src="(/nuncius/cutouts/[^"]*)"', page)
    assert len(urls) == 2
    answer = vera.get(urls[0])
    assert (answer.status_code, answer["Content-Type"]) == (200, "image/png")
    assert int.from_bytes(answer.content[16:20], "big") == PNG_WIDTH
    assert tom.browser("galileo").get(urls[0]).status_code == 404
    assert tom.browser().get(urls[0]).status_code == 404
    assert vera.get(urls[0].replace("cutouts/W", "cutouts/X")).status_code == 404


def test_a_saved_query_of_another_release_still_runs(vera):
    saved = DataServiceQuery.objects.create(
        name="old", data_service=SERVICE, parameters={"limit": 2, "data_service": SERVICE, "a_later_field": 7}
    )
    page = vera.get(f"/tom_dataservices/query/{saved.pk}/run/")
    assert page.status_code == 200
    assert len(tom.offered(page)) == 2


def test_a_query_is_saved_and_listed(vera):
    tom.ask(vera, SERVICE, limit=2, query_save="on", query_name="two of them")
    saved = DataServiceQuery.objects.get(name="two of them")
    assert saved.parameters["limit"] == 2
    assert "two of them" in vera.get("/tom_dataservices/query/list/").content.decode()


# Targets and their data -------------------------------------------------------------------------------------------------


def test_a_target_has_its_light_curve_and_its_images(vera):
    [found] = tom.objects(limit=1)
    target = made(vera, found)
    assert (target.ra, target.dec) == pytest.approx((found.ra, found.dec))
    with nuncius.open_archive(tom.ARCHIVE, read_only=True) as archive:
        curve = archive.object(found.object_id).light_curve
    stored = [brightness(datum) for datum in PHOTOMETRY.objects.filter(target=target)]
    for point in curve.detections:
        assert point.mag in stored
    assert stored.count(None) == len(curve.limits)
    datum = PHOTOMETRY.objects.filter(target=target).first()
    assert (datum.source_name, datum.source_location) == (SERVICE, found.object_id)
    [product] = models.DataProduct.objects.filter(target=target)
    assert product.data_product_type == "image_file"
    assert product.data.read().startswith(b"\x89PNG")
    assert product.get_preview().endswith("_tb.png")
    assert vera.get(f"/targets/{target.pk}/").status_code == 200


def test_forced_photometry_is_a_trace_of_its_own(vera):
    target = made(vera, tom.objects(limit=1)[0])
    bands = {
        datum.bandpass if hasattr(datum, "bandpass") else datum.value["filter"]
        for datum in PHOTOMETRY.objects.filter(target=target)
    }
    assert {"r", "r (forced)"} <= bands


def test_adding_the_same_again_adds_nothing():
    [found] = tom.objects(limit=1)
    service = services.ArchiveDataService()
    target = Target.objects.create(name=found.object_id, type="SIDEREAL", ra=found.ra, dec=found.dec)
    reference = service.query_reduced_data(target)
    first = [
        one
        for kind, where in reference.items()
        for one in service.create_reduced_datums_from_query(target, where, kind)
    ]
    again = [
        one
        for kind, where in reference.items()
        for one in service.create_reduced_datums_from_query(target, where, kind)
    ]
    assert len(first) == PHOTOMETRY.objects.filter(target=target).count() + 1
    assert again == []


@pytest.mark.skipif(not IS_NEW, reason="the Toolkit has this button since version 3")
def test_update_reduced_data_takes_what_is_new_and_nothing_twice(vera):
    [found] = tom.objects(limit=1)
    target = Target.objects.create(name="SN 2026abc", type="SIDEREAL", ra=found.ra, dec=found.dec)
    form = {"target": target.pk, "data_service": SERVICE}
    counts = []
    for _ in range(2):
        answer = vera.post("/tom_dataservices/query/update_data/", form)
        assert answer.status_code == 302
        counts.append(PHOTOMETRY.objects.filter(target=target).count())
    assert counts[0] == counts[1] > 0


@pytest.mark.skipif(not IS_NEW, reason="the Toolkit has this button since version 3")
def test_a_target_that_nobody_knows_is_told(vera):
    target = Target.objects.create(name="nothing here", type="SIDEREAL", ra=1.0, dec=88.0)
    form = {"target": target.pk, "data_service": SERVICE}
    page = vera.post("/tom_dataservices/query/update_data/", form, follow=True)
    assert page.status_code == 200
    assert "no object of the name" in page.content.decode()


@pytest.mark.skipif(not IS_NEW, reason="the Toolkit has this command since version 3")
def test_the_command_for_saved_queries_makes_all_targets():
    saved = DataServiceQuery.objects.create(name="many", data_service=SERVICE, parameters={"limit": 4})
    for _ in range(2):  # the second time they are there already
        call_command("rundataquery", str(saved.pk))
        assert Target.objects.count() == 4
    assert PHOTOMETRY.objects.filter(target__in=Target.objects.all()).count() > 4


def test_points_have_their_sign():
    from nuncius.alerts.lightcurve import LightCurve, Point
    from nuncius.tom.data import data_of

    curve = LightCurve(
        [
            Point("detection", 60000.0, "g", mag=18.0, mag_err=0.1, is_positive=True),
            Point("detection", 60001.0, "g", mag=18.0, mag_err=0.1, is_positive=False),
            Point("forced", 60002.0, "g", mag=21.0, mag_err=0.5),  # 2 sigma: no magnitude
            Point("forced", 60003.0, "g", mag=21.0, mag_err=0.1),
            Point("limit", 60004.0, None, limiting_mag=20.5),
            Point("detection", None, "g", mag=18.0),
        ]
    )
    assert [(datum.bandpass, datum.brightness, datum.limit) for datum in data_of(curve)] == [
        ("g", 18.0, None),
        ("g (fainter)", 18.0, None),
        ("g (forced)", 21.0, None),
        ("unknown", None, 20.5),
    ]


# Errors -----------------------------------------------------------------------------------------------------------------


def text_of(client, service=SERVICE, **values):
    page = client.post("/tom_dataservices/query/create/", {"data_service": service, **values}, follow=True)
    assert page.status_code == 200
    return page.content.decode()


def services_setting(service, **said):
    return override_settings(DATA_SERVICES={service: said})


def test_a_missing_archive_is_a_missing_setting(vera, tmp_path):
    with services_setting(SERVICE, url=str(tmp_path / "none.db")):
        told = text_of(vera)
        assert "there is no archive" in told
        assert "DATA_SERVICES" in told
        assert "nuncius_ingest" in told
        service = services.ArchiveDataService()
        parameters = service.build_query_parameters({})
        with pytest.raises(NotConfiguredError):
            service.query_targets(parameters)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            {"url": "kowalski+http://127.0.0.1:9", "credentials": ("jane", "secret-word"), "timeout_s": 2},
            "127.0.0.1:9",
        ),
        ({"url": "kowalsky+http://127.0.0.1:9"}, "kowalski"),
        ({"ulr": "night.db"}, "did you mean"),
        ({"url": "kowalski+http://jane:secret-word@127.0.0.1:9"}, "credentials"),
    ],
)
def test_a_server_that_does_not_answer_and_settings_that_mean_nothing_are_told(vera, said, told):
    with services_setting(SERVICE, **said):
        page = text_of(vera, since="2026-01-01")
    assert told in page
    assert "secret-word" not in page


def test_what_strangers_write_is_escaped(vera, tmp_path):
    path = tmp_path / "<b>bold</b>.db"
    with services_setting(SERVICE, url=str(path)):
        assert "<b>bold</b>" not in text_of(vera)
    assert "&lt;b&gt;bold" in text_of(vera, catalog="<b>bold</b>")


def hostile_archive(path):
    import io

    import fastavro

    from nuncius.sandbox import synthetic_alerts

    [packet] = synthetic_alerts(1)
    reader = fastavro.reader(io.BytesIO(packet))
    [content] = reader
    content["objectId"] = "<script>alert(1)</script>"
    out = io.BytesIO()
    fastavro.writer(out, reader.writer_schema, [content])
    with nuncius.open_archive(path) as archive:
        archive.ingest([nuncius.Alert.from_bytes(out.getvalue())], progress=False)


def test_a_hostile_name_is_shown_escaped_and_makes_no_target(vera, tmp_path):
    hostile_archive(tmp_path / "hostile.db")
    with services_setting(SERVICE, url=str(tmp_path / "hostile.db")):
        page = tom.ask(vera, SERVICE)
        assert "<script>alert" not in page.content.decode()
        after = tom.choose(vera, SERVICE, tom.offered(page))
    assert after.status_code == 200
    assert "<script>alert" not in after.content.decode()
    assert Target.objects.count() == 0
    assert "is no name of an object" in after.content.decode()


def test_a_login_of_the_tom_is_not_spent_for_strangers():
    saved = DataServiceQuery.objects.create(
        name="of a server", data_service="Nuncius Kowalski", parameters={"since": "2026-01-01"}
    )
    said = {"url": "kowalski+http://127.0.0.1:9", "credentials": ("jane", "word"), "timeout_s": 2}
    with services_setting("Nuncius Kowalski", **said):
        stranger = tom.browser().get(f"/tom_dataservices/query/{saved.pk}/run/")
        known = tom.browser("vera").get(f"/tom_dataservices/query/{saved.pk}/run/")
    assert "log in to this TOM first" in stranger.content.decode()
    assert "log in to this TOM first" not in known.content.decode()
    assert "127.0.0.1:9" in known.content.decode()


def test_errors_are_of_the_kinds_that_pages_show():
    service = services.ArchiveDataService()
    with pytest.raises(QueryServiceError):
        service.query_targets(service.build_query_parameters({"catalog": "No_such_alerts"}))
    with pytest.raises(QueryServiceError):
        service.query_targets(service.build_query_parameters({"limit": -3}))
    target = Target.objects.create(name="nothing", type="SIDEREAL", ra=1.0, dec=88.0)
    with pytest.raises(QueryServiceError) as caught:
        service.query_reduced_data(target)
    assert isinstance(caught.value, NotImplementedError)


# Settings ---------------------------------------------------------------------------------------------------------------


def test_settings_say_where_and_defaults_serve_without():
    with services_setting("Nuncius Kowalski", url="kowalski+https://host:443", timeout_s=5):
        place = services.KowalskiDataService.place()
        assert (place.url, place.options, place.spends_credentials) == (
            "kowalski+https://host:443",
            {"timeout_s": 5},
            True,
        )
    with override_settings(DATA_SERVICES={}):
        assert services.ArchiveDataService.place().url.name == "tom.db"
        assert services.BoomDataService.place().url.startswith("boom+https://")
        assert not services.AntaresDataService.place().spends_credentials
        assert services.PittGoogleDataService.place().stream_url == "pittgoogle://ztf-loop"


def test_several_archives_as_one(vera):
    with services_setting(SERVICE, url={"here": str(tom.ARCHIVE)}):
        assert len(tom.offered(tom.ask(vera, SERVICE, since="2020-01-01", limit=3))) == 3


def test_the_checks_find_what_is_wrong():
    def ids():
        return {found.id for found in check_project()}

    assert ids() == set()
    shared = {
        "default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": "/tmp"}
    }
    with override_settings(CACHES=shared):
        assert ids() == {"nuncius_tom.W001"}
    with override_settings(DATA_SERVICES={"nuncius archive": {}, SERVICE: {"ulr": 1}}):
        assert ids() == {"nuncius_tom.W004", "nuncius_tom.E004"}
    old = ["tom_pittgoogle.broker_stream_python.BrokerStreamPython"]
    with override_settings(TOM_ALERT_CLASSES=old):
        assert ids() == {"nuncius_tom.W005"}
    assert all(found.id is None or not found.id.startswith("nuncius") for found in checks.run_checks())


def test_a_live_look_keeps_what_it_takes_and_shows_it_alone(vera, tmp_path):
    from nuncius.sandbox import Sandbox, synthetic_alerts

    kept = tmp_path / "kept.db"

    def look():
        page = tom.ask(vera, "Nuncius Stream", live_s=20, live_alerts=10, limit=100).content.decode()
        with nuncius.open_archive(kept, read_only=True) as archive:
            documents = archive.find("ZTF_alerts", projection=["objectId", "candid"]).docs
        shown = set(re.findall(r"<strong>(ZTF\w+)</strong>", page))
        return shown, {document["candid"]: document["objectId"] for document in documents}

    with Sandbox() as box:
        box.kafka.publish("alerts", list(synthetic_alerts(30, seed=5)))
        said = {
            "url": f"{box.kafka.url}/alerts",
            "archive": str(kept),
            "stream": {"group": "tom", "start": "earliest"},
        }
        with services_setting("Nuncius Stream", **said):
            first, after_first = look()
            second, after_second = look()
    assert len(after_first) == 10
    assert first == set(after_first.values())
    # The same form again: what comes next, and none of what came before.
    assert len(after_second) == 20
    assert second == {name for candid, name in after_second.items() if candid not in after_first}


def test_a_stream_that_is_not_set_is_told(vera, tmp_path):
    with services_setting("Nuncius Stream", archive=str(tmp_path / "kept.db")):
        assert "names no stream" in text_of(vera, "Nuncius Stream", live_s=1)
    with services_setting("Nuncius Stream", archive="kowalski+https://host", url="kafka://127.0.0.1:9/x"):
        assert "no file" in text_of(vera, "Nuncius Stream")


def test_a_configuration_is_not_shown_with_its_secrets():
    place = configuration.archive_place(
        SERVICE, {SERVICE: {"url": "boom+https://host", "token": "secret-word"}}, "x"
    )
    assert "secret-word" not in repr(place)
    assert get_data_service_class(SERVICE) is services.ArchiveDataService
