"""Handlers of the TOM's streams: acknowledged after the commit, given back with growing delay, put aside in the end."""

import contextlib
import json
import threading

import pytest

from nuncius import Alert
from nuncius.alerts.origin import Origin
from nuncius.errors import ConfigurationError, UnreachableError
from nuncius.streams.quarantine import Quarantine
from nuncius.tom import supervision
from nuncius.tom.supervision import Supervised


def alert(number, topic="alerts"):
    raw = json.dumps({"objectId": f"A{number}", "candid": number, "ra": 10.0, "dec": 5.0}).encode()
    made = Alert.from_bytes(raw)
    return Alert(raw, made._opened, origin=Origin("pubsub", topic, 0, number))


class Stream:
    """A stream that hands out again what was released, and ends when all is acknowledged."""

    def __init__(self, alerts):
        self.waiting = list(alerts)
        self.acknowledged = []
        self.delays = []
        self._over = False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def poll(self, timeout_s):
        if self.waiting:
            return self.waiting.pop(0)
        self._over = True
        return None

    def acknowledge(self, item):
        self.acknowledged.append(item.alert_id)

    def release(self, item, delay_s=0):
        self.delays.append(delay_s)
        self.waiting.append(item)


@pytest.fixture
def quarantine(tmp_path):
    return Quarantine(tmp_path / "quarantine", 10**6)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(supervision, "_FIRST_DELAY_S", 0.01)


def test_all_are_handled_and_acknowledged_in_order(quarantine):
    seen, stream = [], Stream(map(alert, range(5)))
    supervised = Supervised(lambda: stream, {"alerts": seen.append}, quarantine=quarantine)
    supervised.run()
    assert [item.alert_id for item in seen] == stream.acknowledged == [0, 1, 2, 3, 4]
    assert supervised.counts.handled == 5


def test_an_alert_is_acknowledged_after_the_commit_and_never_before(quarantine):
    events, stream = [], Stream([alert(1)])

    @contextlib.contextmanager
    def transaction():
        events.append("begin")
        yield
        events.append(f"commit, {len(stream.acknowledged)} acknowledged")

    handlers = {"*": lambda _: events.append("handled")}
    Supervised(lambda: stream, handlers, quarantine=quarantine, transaction=transaction).run()
    assert events == ["begin", "handled", "commit, 0 acknowledged"]
    assert stream.acknowledged == [1]


def test_a_commit_that_fails_brings_the_alert_again(quarantine):
    commits, stream = [], Stream([alert(1)])

    @contextlib.contextmanager
    def transaction():
        yield
        commits.append(1)
        if len(commits) == 1:
            raise RuntimeError("no commit")

    seen = []
    Supervised(lambda: stream, {"*": seen.append}, quarantine=quarantine, transaction=transaction).run()
    assert (len(seen), stream.acknowledged, len(stream.delays)) == (2, [1], 1)


def test_a_handler_that_fails_gets_the_alert_again_later_and_later_then_it_is_put_aside(quarantine):
    seen, stream = [], Stream([alert(1), alert(2)])

    def handler(item):
        seen.append(item.alert_id)
        if item.alert_id == 1:
            raise ValueError("what is this?")

    supervised = Supervised(lambda: stream, {"*": handler}, quarantine=quarantine, attempts=4)
    supervised.run()
    assert seen.count(1) == 4
    assert stream.delays == [0.01, 0.02, 0.04]
    assert sorted(stream.acknowledged) == [1, 2]
    assert (supervised.counts.handled, supervised.counts.quarantined) == (1, 1)
    [packet] = quarantine.folder.rglob("*.packet")
    assert packet.read_bytes() == alert(1).raw
    assert "what is this?" in packet.with_suffix(".reason.json").read_text()


def test_trouble_of_the_database_is_no_fault_of_an_alert(quarantine):
    class DownError(Exception):
        pass

    seen, recovered, stream = [], [], Stream([alert(1)])

    def handler(item):
        seen.append(item)
        if len(seen) < 8:
            raise DownError("no connection")

    Supervised(
        lambda: stream, {"*": handler}, quarantine=quarantine, attempts=2, outage=(DownError,),
        recover=lambda: recovered.append(1),
    ).run()  # fmt: skip
    assert (len(seen), len(recovered), stream.acknowledged) == (8, 7, [1])
    assert not list(quarantine.folder.rglob("*.packet"))


def test_a_stream_that_breaks_is_opened_again(quarantine):
    opened, stream = [], Stream([alert(1)])

    def open_it():
        opened.append(1)
        if len(opened) == 1:
            raise UnreachableError("nobody answers")
        if len(opened) == 2:
            raise KeyError("a defect")
        return stream

    supervised = Supervised(open_it, {"*": id}, quarantine=quarantine)
    supervised.run()
    assert (len(opened), stream.acknowledged) == (3, [1])


def test_a_stream_that_opens_and_breaks_at_once_rests_longer_and_longer(quarantine, monkeypatch):
    rests, opened = [], []
    monkeypatch.setattr(supervision.random, "uniform", lambda *_: 1.0)

    class Broken(Stream):
        def poll(self, timeout_s):
            raise UnreachableError("nobody answers")

    def open_it():
        opened.append(1)
        return Broken([]) if len(opened) < 5 else Stream([alert(1)])

    supervised = Supervised(open_it, {"*": lambda _item: None}, quarantine=quarantine)
    monkeypatch.setattr(supervised._stopped, "wait", rests.append)
    supervised.run()
    assert rests == [0.01, 0.02, 0.04, 0.08]


def test_topics_have_their_handlers(quarantine):
    seen = {"a": [], "b": [], "*": []}
    items = [alert(1, "a"), alert(2, "projects/x/subscriptions/b"), alert(3, "c")]
    handlers = {name: items.append for name, items in seen.items()}
    Supervised(lambda: Stream(items), handlers, quarantine=quarantine).run()
    assert {name: [item.alert_id for item in found] for name, found in seen.items()} == {
        "a": [1],
        "b": [2],
        "*": [3],
    }


def test_a_topic_without_a_handler_stops_it_and_nothing_is_acknowledged(quarantine):
    stream = Stream([alert(1, "c")])
    supervised = Supervised(lambda: stream, {"a": print}, quarantine=quarantine)
    with stream, pytest.raises(ConfigurationError, match="TOPIC_HANDLERS"):
        supervised._read(stream)
    assert stream.acknowledged == []


def test_it_stops_after_the_alert_in_hand(quarantine):
    stream, handled = Stream(map(alert, range(100))), threading.Event()

    def handler(item):
        handled.set()
        supervised.stop()

    supervised = Supervised(lambda: stream, {"*": handler}, quarantine=quarantine)
    thread = threading.Thread(target=supervised.run)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert handled.is_set()
    assert stream.acknowledged == [0]


def test_damage_that_only_decoding_finds_is_not_tried_again(quarantine, monkeypatch):
    damaged, stream = alert(1), Stream([])
    stream.waiting.append(damaged)
    monkeypatch.setattr(supervision, "readable", lambda *_: [])  # as for a packet that can't be decoded

    def handler(item):
        raise ValueError("damaged")

    supervised = Supervised(lambda: stream, {"*": handler}, quarantine=quarantine)
    supervised.run()
    assert (stream.acknowledged, stream.delays, supervised.counts.quarantined) == ([1], [], 1)
