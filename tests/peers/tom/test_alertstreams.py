"""Streams within the TOM: handlers that make targets, and the worker that fills the archive."""

import os
import signal
import subprocess
import sys
import threading
import time

import django_support as tom
import pytest

tom.toolkit()

from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import override_settings  # noqa: E402
from tom_targets.models import Target  # noqa: E402

import nuncius  # noqa: E402
from nuncius.errors import NotFoundError, StorageError  # noqa: E402
from nuncius.sandbox import Sandbox, synthetic_alerts  # noqa: E402
from nuncius.tom import ingesting, supervision  # noqa: E402
from nuncius.tom.configuration import NotSetError  # noqa: E402


def make_target(alert):
    """Make a target of an alert; what a project would have as a handler."""
    Target.objects.get_or_create(
        name=alert.object_id, defaults={"type": "SIDEREAL", "ra": alert.ra, "dec": alert.dec}
    )


FAILING = []


def make_target_and_fail_once(alert):
    """Fail after the target is made, the first time."""
    make_target(alert)
    if alert.object_id not in FAILING:
        FAILING.append(alert.object_id)
        raise ValueError("and then this")


def fail(alert):
    raise ValueError("always")


@pytest.fixture(scope="module")
def box():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def nothing_before(monkeypatch):
    Target.objects.all().delete()
    FAILING.clear()
    monkeypatch.setattr(supervision, "_FIRST_DELAY_S", 0.05)


@pytest.fixture
def listening(box, tmp_path):
    """Return what makes a stream of alerts with a handler and runs it until it ends."""
    module = pytest.importorskip(
        "nuncius.tom.alertstreams", reason="tom-alertstreams is not in this environment", exc_type=ImportError
    )

    def run(topic, handler, count=5, **options):
        box.kafka.publish(topic, list(synthetic_alerts(count, seed=count)))
        given = {
            "URL": f"{box.kafka.url}/{topic}",
            "GROUP": f"tom-{topic}",
            "START": "earliest",
            "QUARANTINE_DIR": str(tmp_path / "quarantine"),
            "TOPIC_HANDLERS": {topic: f"test_alertstreams.{handler}"},
            "STREAM": {"stop": "end"},
        }
        stream = module.NunciusAlertStream(**(given | options))
        thread = threading.Thread(target=stream.listen)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
        return stream

    return run


def left(box, topic):
    """Return how many alerts a topic still has for the group."""
    with nuncius.open_stream(
        f"{box.kafka.url}/{topic}", group=f"tom-{topic}", start="earliest", stop="end"
    ) as stream:
        return sum(1 for _ in stream)


def test_a_handler_makes_targets_and_all_is_acknowledged(listening, box):
    stream = listening("one", "make_target")
    names = {nuncius.Alert.from_bytes(packet).object_id for packet in synthetic_alerts(5, seed=5)}
    assert {target.name for target in Target.objects.all()} == names
    assert stream.supervised.counts.handled == 5
    assert left(box, "one") == 0


def test_what_a_handler_did_before_it_failed_is_undone_and_done_again(listening, monkeypatch):
    seen = []
    monkeypatch.setattr("test_alertstreams.make_target", lambda alert: seen.append(alert) or _make(alert))
    stream = listening("two", "make_target_and_fail_once", count=3)
    assert stream.supervised.counts.handled == 3
    assert len(seen) > 3
    assert Target.objects.count() == len({alert.object_id for alert in seen})


def _make(alert):
    Target.objects.create(
        name=f"{alert.object_id} {alert.alert_id}", type="SIDEREAL", ra=alert.ra, dec=alert.dec
    )


def test_what_always_fails_is_put_aside(listening, box, tmp_path):
    stream = listening("three", "fail", count=2, ATTEMPTS=2)
    assert stream.supervised.counts.quarantined == 2
    assert len(list((tmp_path / "quarantine").rglob("*.packet"))) == 2
    assert left(box, "three") == 0


def test_pubsub_is_a_stream_like_any_other(box, tmp_path):
    module = pytest.importorskip(
        "nuncius.tom.alertstreams", reason="tom-alertstreams is not in this environment", exc_type=ImportError
    )
    pytest.importorskip("google.cloud.pubsub_v1", reason="the extra pubsub is not in this environment")
    box.pubsub.publish(box.pubsub.topic, list(synthetic_alerts(6, seed=6)))
    stream = module.NunciusAlertStream(
        URL=box.pubsub.url,
        QUARANTINE_DIR=str(tmp_path),
        TOPIC_HANDLERS={box.pubsub.subscription: "test_alertstreams.make_target_and_fail_once"},
    )
    thread = threading.Thread(target=stream.listen)
    thread.start()
    deadline = time.monotonic() + 40
    while box.pubsub.counts().acknowledged < 6 and time.monotonic() < deadline:
        time.sleep(0.1)
    stream.stop()
    thread.join(20)
    assert not thread.is_alive()
    counts = box.pubsub.counts()
    assert (counts.acknowledged, counts.waiting, counts.leased) == (6, 0, 0)
    assert stream.supervised.counts.handled == 6
    assert stream.supervised.counts.released == Target.objects.count() > 0  # each object failed once


def test_options_that_mean_nothing_are_refused(listening):
    with pytest.raises(ImproperlyConfigured, match="did you mean GROUP"):
        listening("four", "make_target", GROPU="x")


# The worker -------------------------------------------------------------------------------------------------------------


def test_settings_of_the_worker(tmp_path):
    one, two = ingesting.streams_of(
        [
            "kafka://host/a",
            {"url": "kafka://host/b", "archive": "b.db", "where": "mag < 18", "keep": "packet"},
        ],
        tmp_path / "tom.db",
    )
    assert (one.url, one.archive, one.keep) == ("kafka://host/a", tmp_path / "tom.db", "document")
    assert (str(two.archive), two.keep, two.options) == ("b.db", "packet", {"where": "mag < 18"})
    for wrong in (None, [], "kafka://host/a", [{}], [{"url": "kafka://host/a", "stop": "end"}]):
        with pytest.raises(NotSetError, match="NUNCIUS_STREAMS"):
            ingesting.streams_of(wrong, tmp_path / "tom.db")


def test_the_command_says_what_is_missing():
    with pytest.raises(CommandError, match="NUNCIUS_STREAMS"):
        call_command("nuncius_ingest")


@pytest.mark.parametrize("streams", [[], [{"ACTIVE": False, "NAME": "nowhere.Stream", "OPTIONS": {}}]])
def test_the_command_says_that_there_is_no_stream_with_handlers(streams):
    pytest.importorskip("tom_alertstreams", reason="tom-alertstreams is not in this environment")
    with override_settings(ALERT_STREAMS=streams), pytest.raises(CommandError, match="ALERT_STREAMS"):
        call_command("nuncius_ingest", "--alert-streams")


MANAGE = """
import sys
sys.path.insert(0, {here!r})
import django_support
settings = django_support.toolkit(database=False)
settings.NUNCIUS_STREAMS = {streams!r}
from django.core.management import call_command
call_command("nuncius_ingest", "--health-s", "0.5")
"""


def counted(path):
    try:
        with nuncius.open_archive(path, read_only=True) as archive:
            return archive.count("ZTF_alerts") if "ZTF_alerts" in archive.catalogs() else 0
    except (NotFoundError, StorageError):  # it is being made
        return 0


def test_the_worker_fills_the_archive_and_ends_cleanly(box, tmp_path):
    box.kafka.publish("night", list(synthetic_alerts(50, seed=9)))
    archive = tmp_path / "worker" / "tom.db"
    dead = {"url": "kafka://127.0.0.1:9/night", "archive": str(archive), "group": "x", "connect_timeout_s": 2}
    good = {"url": f"{box.kafka.url}/night", "archive": str(archive), "group": "worker", "start": "earliest"}
    program = MANAGE.format(here=os.path.dirname(__file__), streams=[dead, good])
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while counted(archive) < 50 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.3)
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=40)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, out[-3000:]
    assert counted(archive) == 50
    assert "stopping" in out
    assert f"{box.kafka.url}/night: " in out  # the line of health
    assert left_of_group(box, "night", "worker") == 0


def left_of_group(box, topic, group):
    with nuncius.open_stream(f"{box.kafka.url}/{topic}", group=group, start="earliest", stop="end") as stream:
        return sum(1 for _ in stream)


def teardown_module():
    connections.close_all()
