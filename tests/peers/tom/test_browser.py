"""What an astronomer does in a TOM, in a real browser, on each generation of the Toolkit."""

import time

import pytest
from browser import seen_sizes
from project import ARCHIVE, STREAM, VERSIONS, end

ARCSEC = 1 / 3600  # in degrees


@pytest.fixture
def vera(person, served):
    return person("vera", served)


@pytest.fixture
def galileo(person, served):
    return person("galileo", served)


@pytest.fixture
def stranger(person, served):
    return person(None, served)


@pytest.fixture
def newest(version):
    """Whether the pictures for the documentation are made now: they show the newest Toolkit."""
    return version == VERSIONS[-1]


@pytest.fixture(scope="session")
def often_seen(alerts):
    """Return names of objects with several alerts, the most first."""
    return sorted(alerts, key=lambda name: -len(alerts[name]))


def with_button(version):
    """Skip where the Toolkit has no button for new data of a target."""
    if version.startswith("2."):
        pytest.skip("the Toolkit has 'Update Reduced Data' since 3.0")


def magnitudes(points):
    return [round(float(value), 3) for _, _, value in points]


# From a question to a light curve --------------------------------------------------------------------------------------


def test_a_question_a_result_with_pictures_a_target_with_its_light_curve(
    vera, alerts, often_seen, newest, archive
):
    name = often_seen[0]
    last = alerts[name][-1]
    vera.fill(ARCHIVE, position=f"{last.ra} {last.dec}", radius_arcsec=3)
    if newest:
        vera.picture("tom-form")
    rows = vera.send()
    assert rows.count() == 1
    assert name in rows.first.inner_text()
    pictures = rows.first.locator("svg, img")
    sizes = seen_sizes(pictures)
    assert len(sizes) >= 2  # a light curve, and cutouts
    assert all(width > 10 and height > 10 for width, height in sizes), sizes

    vera.create(rows.first)
    assert name in vera.page.title()
    target = vera.targets()[name]
    assert target["ra"] == pytest.approx(last.ra, abs=ARCSEC)
    assert target["dec"] == pytest.approx(last.dec, abs=ARCSEC)
    drawn = magnitudes(vera.light_curve())
    for alert in alerts[name]:
        assert round(alert.mag, 3) in drawn
    assert vera.drawn_points() >= len(alerts[name])
    if newest:
        vera.picture("tom-target")


def test_many_results_have_their_pictures(vera, newest):
    rows = vera.ask(ARCHIVE, since="2025-11-20T00:00", limit=20)
    assert rows.count() == 20
    sizes = seen_sizes(rows.locator("svg, img"))
    assert len(sizes) == 40  # a light curve and cutouts of each
    assert all(width > 10 and height > 10 for width, height in sizes), sizes
    if newest:
        vera.picture("tom-results")


def test_several_targets_at_once(vera, often_seen):
    rows = vera.ask(ARCHIVE, limit=300)
    assert rows.count() == 100  # what a page of the Toolkit shows
    assert "100" in vera.messages
    some = [rows.nth(number) for number in (0, 49, 99)]
    names = [row.locator("strong").inner_text() for row in some]
    vera.create(*some)
    assert vera.page.url.endswith("/targets/")
    assert set(names) <= set(vera.targets())


# Again -----------------------------------------------------------------------------------------------------------------


def test_new_data_are_added_to_a_target_once(vera, version, archive, alert_at):
    with_button(version)
    first = alert_at("ZTF26growing", 100.0, -50.0)
    archive.ingest([first])
    vera.create(vera.ask(ARCHIVE, object_id="ZTF26growing").first)
    begun = len(vera.light_curve())
    archive.ingest([alert_at("ZTF26growing", 100.0, -50.0, days=1.5, mag=15.125)])
    vera.update(ARCHIVE)
    grown = vera.light_curve()
    assert len(grown) > begun
    assert 15.125 in magnitudes(grown)
    vera.update(ARCHIVE)
    assert sorted(map(str, vera.light_curve())) == sorted(map(str, grown))


def test_targets_that_are_there_are_not_made_again(vera, project, archive, alert_at):
    names = {"ZTF26twice", "ZTF26both"}
    archive.ingest([alert_at(name, 130.0, -55.0) for name in names])
    place = {"position": "130.0 -55.0", "radius_arcsec": 2}
    vera.create(*vera.ask(ARCHIVE, **place).all())
    begun = {name: vera.targets()[name]["id"] for name in names}
    data = project.count("reduceddatum")
    assert data > 0
    vera.create(*vera.ask(ARCHIVE, **place).all())
    assert vera.messages.count("already exists") == 2
    assert {name: vera.targets()[name]["id"] for name in names} == begun
    assert project.count("reduceddatum") == data


def test_a_saved_question_is_asked_anew(vera, archive, alert_at):
    archive.ingest([alert_at("ZTF26saved", 120.0, -60.0)])
    rows = vera.ask(ARCHIVE, position="120.0 -60.0", radius_arcsec=10, save_as="my field")
    assert rows.count() == 1
    archive.ingest([alert_at("ZTF26later", 120.0, -60.0 + 4 * ARCSEC)])
    rows = vera.ask_again("my field")
    assert rows.count() == 2
    vera.create(*rows.all())
    assert {"ZTF26saved", "ZTF26later"} <= set(vera.targets())


# Streams ---------------------------------------------------------------------------------------------------------------


def test_a_look_at_a_stream_is_fresh_each_time(vera, pubsub, alert_at):
    question = {"live_s": 20, "live_alerts": 2}
    for names in ({"ZTF26first", "ZTF26second"}, {"ZTF26third", "ZTF26fourth"}):
        pubsub.publish(pubsub.topic, [alert_at(name, 10.0, -70.0).raw for name in names])
        rows = vera.ask(STREAM, **question)
        assert set(rows.locator("strong").all_inner_texts()) == names
    vera.create(*rows.all())
    assert names <= set(vera.targets())


def test_the_worker_fills_the_archive_of_a_stream(vera, project, services, pubsub, alert_at):
    names = [f"ZTF26worker{letter}" for letter in "abc"]
    pubsub.publish(pubsub.topic, [alert_at(name, 30.0, -75.0).raw for name in names])
    log = project.folder / "worker.log"
    streams = [services[STREAM]]
    process = project.start(
        "nuncius_ingest", "--min-free", "1MB", log=log, settings={"NUNCIUS_STREAMS": streams}
    )
    try:
        deadline = time.monotonic() + 120
        while (rows := vera.ask(STREAM, position="30 -75", limit=10)).count() < len(names):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(1)
        shown = " ".join(rows.all_inner_texts())
        assert all(name in shown for name in names)
    finally:
        code = end(process)
    assert code == 0, log.read_text()
    assert pubsub.counts().leased == 0


# Others ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_fields(archive, alert_at):
    """Return what puts two objects into each of two fields, and gives the questions for them and their names."""

    def make(ra):
        made = []
        for letter, dec in (("A", -40.0), ("B", -41.0)):
            names = {f"ZTF26{letter}{ra:.0f}n{number}" for number in (1, 2)}
            archive.ingest([alert_at(name, ra, dec + i * ARCSEC) for i, name in enumerate(sorted(names))])
            made.append(({"position": f"{ra} {dec}", "radius_arcsec": 10}, names))
        return made

    return make


def swapped(vera, galileo, hers, his):
    """Let two people ask at the same time, and she then tick what she saw; return the names of her new targets."""
    before = set(vera.targets())
    rows = vera.ask(ARCHIVE, **hers)
    assert rows.count() == 2
    assert galileo.ask(ARCHIVE, **his).count() == 2
    vera.create(*rows.all())
    return set(vera.targets()) - before


def test_nobody_creates_what_another_one_found(vera, galileo, two_fields):
    (hers, her_names), (his, his_names) = two_fields(210.0)
    assert swapped(vera, galileo, hers, his) <= her_names  # these, or none: never his
    galileo.create(*galileo.ask(ARCHIVE, **his).all())
    assert his_names <= set(galileo.targets())
    assert not her_names & set(galileo.targets())


def test_without_protection_she_creates_what_he_found(person, unprotected, two_fields):
    (hers, _), (his, his_names) = two_fields(220.0)
    assert swapped(person("vera", unprotected), person("galileo", unprotected), hers, his) == his_names


def test_a_row_of_another_one_is_refused(vera, galileo, often_seen):
    hers, his = often_seen[14:16]
    her_row = vera.ask(ARCHIVE, object_id=hers).first.locator("input[name=selected_results]").input_value()
    row = galileo.ask(ARCHIVE, object_id=his).first
    row.locator("input[name=selected_results]").evaluate("(box, id) => { box.value = id; }", her_row)
    galileo.create(row)
    assert hers not in galileo.targets()
    assert galileo.messages


def test_nobody_is_shown_what_another_one_found(vera, galileo, archive, alert_at):
    place = {"position": "150.0 -65.0", "radius_arcsec": 10}
    archive.ingest([alert_at("ZTF26then", 150.0, -65.0)])
    assert vera.ask(ARCHIVE, **place).count() == 1
    archive.ingest([alert_at("ZTF26now", 150.0, -65.0 + 3 * ARCSEC)])
    assert galileo.ask(ARCHIVE, **place).count() == 2


def test_without_protection_he_is_shown_what_she_found(person, unprotected, archive, alert_at):
    place = {"position": "160.0 -65.0", "radius_arcsec": 10}
    vera, galileo = person("vera", unprotected), person("galileo", unprotected)
    archive.ingest([alert_at("ZTF26old", 160.0, -65.0)])
    assert vera.ask(ARCHIVE, **place).count() == 1
    archive.ingest([alert_at("ZTF26new", 160.0, -65.0 + 3 * ARCSEC)])
    assert galileo.ask(ARCHIVE, **place).count() == 1  # not asked anew: her result


def test_strangers_see_no_form_and_no_picture(vera, stranger, often_seen):
    row = vera.ask(ARCHIVE, object_id=often_seen[20]).first
    addresses = [
        one
        for one in row.locator("img").evaluate_all("all => all.map(one => one.src)")
        if one.startswith("http")
    ]
    stranger.open_form(ARCHIVE)
    assert "/accounts/login/" in stranger.page.url
    for address in addresses:
        answer = stranger.context.request.get(address)
        assert answer.headers.get("content-type", "").partition(";")[0] in {"text/html", ""}


def test_names_with_markup_are_shown_as_text_and_make_no_target(vera, archive, alert_at):
    hostile = "<img src=x onerror=alert('owned')>"
    archive.ingest([alert_at(hostile, 200.0, -80.0)])
    rows = vera.ask(ARCHIVE, position="200.0 -80.0", radius_arcsec=2)
    assert hostile in rows.first.inner_text()
    vera.create(rows.first)
    assert hostile in vera.messages
    assert hostile not in vera.targets()
    assert vera.alarms == []
    with vera.page.expect_event("dialog"):
        vera.page.evaluate("text => document.body.insertAdjacentHTML('beforeend', text)", hostile)
    assert vera.alarms == ["owned"]  # it would have been noticed
