"""What the TOM's services ask of archives: one way of asking, whichever kind of archive."""

import dataclasses

import pytest

import nuncius
from nuncius.errors import ConfigurationError, FilterError, NotFoundError
from nuncius.sandbox import Sandbox, synthetic_alerts
from nuncius.tom import asking
from nuncius.tom.asking import source_of
from nuncius.tom.pictures import cutouts_png
from nuncius.tom.questions import Question

ALERTS = 120


@pytest.fixture(scope="module")
def alerts():
    return [nuncius.Alert.from_bytes(packet) for packet in synthetic_alerts(ALERTS)]


@pytest.fixture(scope="module")
def box():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def file(alerts, tmp_path_factory):
    path = tmp_path_factory.mktemp("tom") / "night.db"
    with nuncius.open_archive(path) as archive:
        archive.ingest(alerts, progress=False)
    return path


@pytest.fixture(params=["file", "kowalski", "federation"])
def source(request, file, box):
    """Return archives of alerts of every kind, with the same alerts in them."""
    if request.param == "kowalski":
        server = box.kowalski
        opened = nuncius.open_archive(server.url, credentials=(server.username, server.password))
    elif request.param == "file":
        opened = nuncius.open_archive(file, read_only=True)
    else:
        opened = nuncius.open_archive({"here": str(file)})
    with opened as archive:
        yield source_of(archive)


@pytest.fixture
def loci(box):
    with nuncius.open_archive(f"antares+{box.antares.rest_url}") as archive:
        yield source_of(archive)


def newest(alerts):
    """Return the newest alert of each object."""
    found = {}
    for alert in alerts:
        if alert.object_id not in found or alert.mjd > found[alert.object_id].mjd:
            found[alert.object_id] = alert
    return found


def test_each_object_once_by_its_newest_alert(source, alerts):
    answer = source.search(Question(since="2020-01-01", limit=1000))
    expected = newest(alerts)
    assert {found.object_id for found in answer.objects} == set(expected)
    assert not answer.notes
    for found in answer.objects:
        alert = expected[found.object_id]
        assert found.mjd == pytest.approx(alert.mjd)
        assert (found.ra, found.dec) == pytest.approx((alert.ra, alert.dec))
        assert (found.mag, found.band) == (alert.mag, alert.band)
        assert found.alert_id == str(alert.alert_id)


def test_the_newest_come_first_and_it_says_that_there_is_more(source):
    answer = source.search(Question(since="2020-01-01", limit=5))
    times = [found.mjd for found in answer.objects]
    assert len(times) == 5
    assert times == sorted(times, reverse=True)
    assert answer.notes == ["there are more than 5 objects; refine the question"]


@pytest.mark.parametrize("is_around", [False, True])
def test_it_says_that_not_all_alerts_were_looked_at(source, alerts, monkeypatch, is_around):
    monkeypatch.setattr(asking, "_PAGE", 1)
    monkeypatch.setattr(asking, "_PAGES", 2)
    names = [alert.object_id for alert in alerts]
    often = next(alert for alert in alerts if names.count(alert.object_id) > 1)
    position = f"{often.ra} {often.dec}" if is_around else ""
    answer = source.search(Question(since="2020-01-01", position=position, radius_arcsec=3.0))
    assert 1 <= len(answer.objects) <= 2
    [note] = answer.notes
    assert "only 2 alerts were looked at" in note


def test_around_a_position_the_nearest_come_first(source, alerts):
    centre = alerts[0]
    answer = source.search(Question(position=f"{centre.ra} {centre.dec}", radius_arcsec=3.0))
    assert answer.objects[0].object_id == centre.object_id
    assert source.search(Question(position="1.0 89.0")).objects == []


def test_conditions_are_those_of_the_alerts(source, alerts):
    question = Question(since="2020-01-01", mag_max=18.0, where="band == 'r' and score > 0.6", limit=1000)
    expected = {
        alert.object_id for alert in alerts if alert.mag <= 18.0 and alert.band == "r" and alert.score > 0.6
    }
    assert {found.object_id for found in source.search(question).objects} == expected
    assert expected


def test_light_curves_are_whole_whether_asked_alone_or_together(source, alerts, file):
    found = source.search(Question(since="2020-01-01", limit=4)).objects
    together = source.light_curves(found)
    with nuncius.open_archive(file, read_only=True) as archive:
        for one in found:
            whole = archive.object(one.object_id).light_curve
            assert (
                set(together[one.object_id])
                == set(whole)
                == set(source.light_curve(one.object_id, one.catalog))
            )


def test_images_are_those_of_the_newest_alert(source, alerts):
    name, alert = next(iter(newest(alerts).items()))
    alert_id, images = source.cutouts(name, "ZTF_alerts")
    assert alert_id == str(alert.alert_id)
    assert len(images) == 3
    assert cutouts_png(images) == cutouts_png(alert.cutouts)


def test_a_target_is_known_by_any_of_its_names_or_by_its_place(source, alerts):
    alert = alerts[0]
    assert source.identify(["SN 2026abc", alert.object_id], None) == (alert.object_id, "ZTF_alerts")
    assert source.identify(["SN 2026abc"], (alert.ra, alert.dec)) == (alert.object_id, "ZTF_alerts")
    assert source.identify(["SN 2026abc"], (1.0, 89.0)) is None
    assert source.identify(["SN 2026abc"], None) is None


def test_a_catalog_that_is_not_there_is_named(source):
    with pytest.raises(NotFoundError, match="ZTF_alerts"):
        source.search(Question(catalog="ZFT_alerts", since="2020-01-01"))


def test_a_large_archive_is_not_searched_as_a_whole(box):
    server = box.kowalski
    with nuncius.open_archive(server.url, credentials=(server.username, server.password)) as archive:
        before = len(server.requests)
        with pytest.raises(ConfigurationError, match="give a position"):
            source_of(archive).search(Question(where="score > 0.9"))
        assert len(server.requests) == before


def test_what_one_catalog_does_not_know_is_said_and_the_others_answer(tmp_path, alerts):
    strange = nuncius.Alert.from_bytes(
        b'{"objectId": "Q1", "alertId": 1, "ra": 10.0, "dec": 5.0, "mjd": 61000.5}'
    )
    with nuncius.open_archive(tmp_path / "mixed.db") as archive:
        archive.ingest([*alerts[:3], strange], progress=False)
        source = source_of(archive)
        everything = {found.object_id for found in source.search(Question()).objects}
        assert "Q1" in everything
        answer = source.search(Question(mag_max=30.0))
        assert {found.object_id for found in answer.objects} == everything - {"Q1"}
        assert len(answer.notes) == 1
        assert "was not asked" in answer.notes[0]
        [catalog] = [name for name in archive.catalogs() if name.endswith("_alerts") and name != "ZTF_alerts"]
        with pytest.raises(FilterError):
            source.search(Question(catalog=catalog, mag_max=30.0))
        assert len(source.light_curve("Q1", catalog)) == 1


# Objects of ANTARES -----------------------------------------------------------------------------------------------------


def test_loci_have_the_names_of_the_surveys_as_aliases(loci, alerts):
    answer = loci.search(Question(since="2020-01-01", limit=5))
    assert len(answer.objects) == 5
    assert len(answer.notes) == 1
    names = {alert.object_id for alert in alerts}
    for found in answer.objects:
        assert found.object_id.startswith("ANT")
        assert names & set(found.aliases)


def test_a_locus_is_found_by_position_name_and_survey_name(loci):
    [found] = loci.search(Question(since="2020-01-01", limit=1)).objects
    ztf_name = next(name for name in found.aliases if name.startswith("ZTF"))
    for question in (
        Question(position=f"{found.ra} {found.dec}"),
        Question(object_id=found.object_id),
        Question(object_id=ztf_name),
    ):
        assert found in loci.search(question).objects
    assert loci.identify(["SN 2026abc", ztf_name], None) == (found.object_id, "ANTARES_loci")
    assert loci.identify(["SN 2026abc"], (found.ra, found.dec)) == (found.object_id, "ANTARES_loci")
    assert loci.identify(["SN 2026abc"], None) is None


def test_a_locus_has_a_light_curve_with_limits_and_images(loci, file):
    kinds = set()
    found = loci.search(Question(since="2020-01-01", limit=5)).objects
    with nuncius.open_archive(file, read_only=True) as archive:
        for one in found:
            mine = loci.light_curve(one.object_id, one.catalog)
            name = next(name for name in one.aliases if name.startswith("ZTF"))
            whole = archive.object(name).light_curve
            measured = {(round(point.mjd, 5), point.band) for point in mine.detections}
            # ANTARES keeps what the newest alert tells of the past; the archive has more.
            assert measured <= {(round(point.mjd, 5), point.band) for point in whole.detections}
            assert len(measured) > 5
            kinds |= {point.kind for point in mine}
    assert kinds == {"detection", "limit"}
    alert_id, images = loci.cutouts(found[0].object_id, found[0].catalog)
    assert alert_id.startswith("ztf_candidate:")
    assert cutouts_png(images)


def test_antares_has_no_other_catalog(loci):
    with pytest.raises(NotFoundError, match="ANTARES_loci"):
        loci.search(Question(catalog="ZTF_alerts", since="2020-01-01"))


def test_what_is_found_is_plain(loci):
    [found] = loci.search(Question(since="2020-01-01", limit=1)).objects
    assert all(
        value is None or isinstance(value, (str, float, tuple))
        for value in dataclasses.asdict(found).values()
    )
