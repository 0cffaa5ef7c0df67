"""Filters, places and duplicates in the intake: what is dropped is finished in its place, and nothing else is."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import builders
from nuncius.alerts import Notice
from nuncius.errors import PacketError, QuarantineFullError, UnreachableError
from nuncius.streams import intake as intake_module
from nuncius.streams.bounds import Stop
from nuncius.streams.reading import PacketReader
from nuncius.streams.rules import Rate, Seen
from nuncius.streams.watch import Watchlist
from nuncius.streams.where import parse_where
from streams_support import TOPIC, end, ids, message, messages, packet, scripted, wait_until

RECORD = builders.record_type(
    "nova.alert", {"candid": "long", "ra": "double", "maybe": ["null", "long"], "dec": "double"}
)
# The branch of a union that isn't there, between the two coordinates.
DAMAGED = (
    builders.varint(7) + builders.datum("double", 1.0) + builders.varint(9) + builders.datum("double", 2.0)
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "quarantine"


def even(item):
    return item.alert_id % 2 == 0


def sky(*places, first=0):
    return [message(first + at, packet(first + at, ra=ra, dec=dec)) for at, (ra, dec) in enumerate(places)]


class Around:
    """Watches the northern sky, and keeps what it is asked."""

    names = None

    def __init__(self):
        self.asked = []

    def __call__(self, ra, dec):
        self.asked.append((ra, dec))
        return np.nan_to_num(dec, nan=-1) > 0

    def match(self, ra, dec):
        raise AssertionError("nobody asked for names")


# What a filter drops ------------------------------------------------------------------------------------------------------


def test_what_a_filter_drops_is_finished_in_its_place(folder):
    stream, transport = scripted([messages(10), [end()]], folder, where=even, stop=Stop(at_end=True))
    with stream:
        assert ids(stream) == [0, 2, 4, 6, 8]
        stats = stream.stats()
    assert (stats.received, stats.filtered, stats.handed_out, stats.acknowledged) == (10, 5, 5, 5)
    assert transport.closed_with == {(TOPIC, 0): 10}


def test_what_is_dropped_never_passes_what_is_in_hand(folder):
    stream, transport = scripted([messages(10)], folder, where=even, acknowledge="manual")
    with stream:
        alerts = [next(stream) for _ in range(5)]
        stream.acknowledge([alerts[0], alerts[2], alerts[3]])
        assert wait_until(lambda: transport.stored.get((TOPIC, 0)) == 2)
    assert transport.closed_with == {(TOPIC, 0): 2}  # offset 1 was dropped, 2 is in hand


def test_positions_go_on_while_everything_is_dropped(folder):
    """A filter that nothing passes for hours must not let the whole night come again after a crash."""
    stream, transport = scripted([messages(50)] * 1 + [messages(50, first=50)], folder, where=lambda _: False)
    with stream:
        assert stream.poll(0.3) is None
        assert wait_until(lambda: transport.stored.get((TOPIC, 0)) == 100)
        assert stream.stats().filtered == 100


def test_what_is_dropped_takes_no_room(folder):
    stream, _ = scripted(
        [messages(1000)],
        folder,
        where=lambda item: item.alert_id == 999,
        acknowledge="manual",
        max_unacknowledged=1,
    )
    with stream:
        assert next(stream).alert_id == 999


def test_a_count_counts_what_passes(folder):
    stream, _ = scripted([messages(100)], folder, where=even, stop=Stop(count=3))
    with stream:
        assert ids(stream) == [0, 2, 4]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_poison_between_dropped_messages_is_kept_and_finished(folder, batch):
    poison = {3, 4, 9, 15, 16, 17}
    script = [message(at, b"\x00nonsense %d" % at if at in poison else None) for at in range(20)]
    batches = [script[at : at + batch] for at in range(0, 20, batch)]
    stream, transport = scripted([*batches, [end()]], folder, where=even, stop=Stop(at_end=True))
    with stream:
        assert ids(stream) == [0, 2, 6, 8, 10, 12, 14, 18]
        stats = stream.stats()
    assert (stats.quarantined, stats.filtered, stats.acknowledged) == (6, 6, 8)
    assert {path.read_bytes() for path in folder.rglob("*.packet")} == {
        b"\x00nonsense %d" % at for at in poison
    }
    assert transport.closed_with == {(TOPIC, 0): 20}


def test_poison_at_the_end_of_what_is_dropped_is_finished_only_by_what_follows(folder):
    stream, transport = scripted([messages(4), [message(4, b"\x00nonsense")]], folder, where=lambda _: False)
    with stream:
        assert wait_until(lambda: transport.stored.get((TOPIC, 0)) == 4)
        assert stream.poll(0.2) is None
        assert transport.stored[TOPIC, 0] == 4
        transport.script.append(messages(1, first=5))
        assert wait_until(lambda: transport.stored.get((TOPIC, 0)) == 6)


def test_readable_messages_that_are_dropped_break_a_run_of_poison(folder, monkeypatch):
    monkeypatch.setattr(intake_module, "_POISONED_RUN", 4)
    script = [message(at, None if at % 4 == 0 else b"\x00%d" % at) for at in range(40)]
    stream, transport = scripted([script, [end()]], folder, where=lambda _: False, stop=Stop(at_end=True))
    with stream:
        assert list(stream) == []
    assert transport.closed_with == {(TOPIC, 0): 40}


def test_only_poison_stops_the_stream_whatever_the_filter(folder, monkeypatch):
    monkeypatch.setattr(intake_module, "_POISONED_RUN", 4)
    stream, transport = scripted(
        [[*messages(3), *(message(at, b"\x00%d" % at) for at in range(3, 9))]], folder, where=lambda _: False
    )
    with pytest.raises(QuarantineFullError), stream:
        list(stream)
    assert transport.closed_with == {(TOPIC, 0): 3}


def test_damage_that_a_filter_touches_is_poison(folder):
    damaged = builders.container(RECORD, [DAMAGED])
    stream, transport = scripted(
        [[message(0, damaged), message(1), end()]],
        folder,
        where=parse_where("packet.maybe is None or dec is None"),
        stop=Stop(at_end=True),
    )
    with stream:
        assert ids(stream) == [1]
        assert stream.stats().quarantined == 1
    assert transport.closed_with == {(TOPIC, 0): 2}


def test_a_written_filter(folder):
    script = [message(at, packet(at, score=at / 10)) for at in range(10)]
    stream, _ = scripted(
        [script, [end()]], folder, where=parse_where("packet.score > 0.55"), stop=Stop(at_end=True)
    )
    with stream:
        assert ids(stream) == [6, 7, 8, 9]


def test_of_a_message_with_several_alerts_those_that_pass_come(folder):
    values = [b'[{"candid": 1}, {"candid": 2}, {"candid": 3}]', b'[{"candid": 5}]', b'[{"candid": 6}]']
    script = [message(at, value) for at, value in enumerate(values)]
    stream, transport = scripted([script], folder, where=even, acknowledge="manual")
    with stream:
        two, six = next(stream), next(stream)
        assert ids([two, six]) == [2, 6]
        stream.acknowledge(six)
        assert stream.poll(0.1) is None
        assert wait_until(lambda: transport.stored.get((TOPIC, 0)) == 0)
        stream.acknowledge(two)
    assert transport.closed_with == {(TOPIC, 0): 3}


def test_one_damaged_alert_makes_the_whole_message_poison(folder):
    """What can't be judged can't be finished in part: the message is kept whole."""

    def picky(item):
        if item.alert_id == 2:
            raise PacketError("damaged")
        return True

    stream, transport = scripted(
        [[message(0, b'[{"candid": 1}, {"candid": 2}]'), message(1, packet(3)), end()]],
        folder,
        where=picky,
        stop=Stop(at_end=True),
    )
    with stream:
        assert ids(stream) == [3]
    assert len(list(folder.rglob("*.packet"))) == 1
    assert transport.closed_with == {(TOPIC, 0): 2}


# Messages without alerts --------------------------------------------------------------------------------------------------


class Reader:
    """Gives nothing for test messages, and notices for others."""

    def __call__(self, received, origin):
        if received.value == b"test":
            return []
        name = received.value.decode()
        return [Notice(name, "gcn.circulars", dec=50.0 if name == "north" else None, raw=received.value)]


def test_a_message_with_nothing_in_it_is_finished(folder):
    script = [message(at, b"test") for at in range(5)]
    stream, transport = scripted([script, [end()]], folder, read=Reader(), stop=Stop(at_end=True))
    with stream:
        assert list(stream) == []
    assert transport.closed_with == {(TOPIC, 0): 5}


def test_notices_are_handed_out_finished_and_released(folder):
    script = [message(0, b"one"), message(1, b"test"), message(2, b"two")]
    stream, transport = scripted([script], folder, read=Reader(), acknowledge="manual")
    with stream:
        one, two = next(stream), next(stream)
        assert (one.id, two.id) == ("one", "two")
        stream.release(one)
        assert next(stream) is one
        stream.acknowledge(one)
        stream.acknowledge([two])
    assert transport.closed_with == {(TOPIC, 0): 3}


def test_notices_pass_filters_and_places(folder):
    script = [message(at, value) for at, value in enumerate((b"north", b"nowhere", b"other"))]
    stream, transport = scripted(
        [script, [end()]],
        folder,
        read=Reader(),
        where=lambda item: item.id != "other",
        near=Around(),
        seen=Seen(10),
        stop=Stop(at_end=True),
    )
    with stream:
        assert [item.id for item in stream] == ["north"]
    assert transport.closed_with == {(TOPIC, 0): 3}


# Places on the sky --------------------------------------------------------------------------------------------------------


def test_what_lies_elsewhere_is_finished_in_its_place(folder):
    watch = Around()
    script = sky((10, 5), (20, -5), (None, None), (30, 7))
    stream, transport = scripted([script, [end()]], folder, near=watch, stop=Stop(at_end=True))
    with stream:
        assert ids(stream) == [0, 3]
        assert stream.stats().filtered == 2
    assert transport.closed_with == {(TOPIC, 0): 4}
    assert sum(len(ra) for ra, _ in watch.asked) == 4
    assert all(ra.dtype == dec.dtype == float for ra, dec in watch.asked)


def test_places_are_asked_about_many_at_once(folder):
    watch = Around()
    stream, _ = scripted([sky(*[(10, 5)] * 200), [end()]], folder, near=watch, stop=Stop(at_end=True))
    with stream:
        assert len(list(stream)) == 200
    assert len(watch.asked) == 1


def test_a_filter_comes_before_the_place(folder):
    watch = Around()
    stream, _ = scripted(
        [sky(*[(10, 5)] * 10), [end()]], folder, near=watch, where=even, stop=Stop(at_end=True)
    )
    with stream:
        assert ids(stream) == [0, 2, 4, 6, 8]
    assert sum(len(ra) for ra, _ in watch.asked) == 5


def test_poison_among_places(folder):
    script = [*sky((10, 5), (10, -5)), message(2, b"\x00nonsense"), *sky((10, -5), (10, 6), first=3), end()]
    stream, transport = scripted([script], folder, near=Around(), stop=Stop(at_end=True))
    with stream:
        assert ids(stream) == [0, 4]
    assert transport.closed_with == {(TOPIC, 0): 5}


def test_a_place_that_is_damaged_is_poison_and_does_not_end_the_stream(folder):
    """The damage stands between the two coordinates."""
    damaged = builders.container(RECORD, [DAMAGED])
    stream, transport = scripted(
        [[*sky((10, 5)), message(1, damaged), *sky((11, 5), first=2), end()]],
        folder,
        near=Around(),
        stop=Stop(at_end=True),
    )
    with stream:
        assert ids(stream) == [0, 2]
        assert stream.stats().quarantined == 1
    assert transport.closed_with == {(TOPIC, 0): 3}


@pytest.mark.parametrize(
    "place", [("north", "up"), (True, False), ([1], {}), (1e400, 1), (float("nan"), 1)], ids=str
)
def test_a_place_that_is_none_is_elsewhere(folder, place):
    import json

    value = json.dumps({"candid": 1, "ra": place[0], "dec": place[1]}).encode()
    stream, transport = scripted(
        [[message(0, value), *sky((10, 5), first=1), end()]],
        folder,
        near=Watchlist([(10.0, 5.0)], "2 arcsec"),
        stop=Stop(at_end=True),
    )
    with stream:
        assert ids(stream) == [1]
    assert transport.closed_with == {(TOPIC, 0): 2}


def test_an_alert_says_which_target_it_is_near(folder):
    watch = Watchlist({"M31": (10.6847, 41.2688), "M33": (23.4621, 30.6602)}, "10 arcsec")
    stream, _ = scripted(
        [sky((23.4621, 30.6612), (100, 0), (10.6847, 41.2688)), [end()]],
        folder,
        near=watch,
        stop=Stop(at_end=True),
    )
    with stream:
        notes = {alert.alert_id: alert.annotations["watchlist"] for alert in stream}
    assert notes[0]["name"] == "M33"
    assert notes[0]["index"] == 1
    assert notes[0]["separation_arcsec"] == pytest.approx(3.6, abs=0.01)
    assert notes[2]["name"] == "M31"
    assert set(notes) == {0, 2}


# Duplicates ---------------------------------------------------------------------------------------------------------------


def test_a_duplicate_is_finished_in_its_place(folder):
    script = [message(at, packet(number)) for at, number in enumerate((1, 2, 1, 3, 2, 1))]
    stream, transport = scripted([script, [end()]], folder, seen=Seen(10), stop=Stop(at_end=True))
    with stream:
        assert ids(stream) == [1, 2, 3]
        assert stream.stats().duplicates == 3
    assert transport.closed_with == {(TOPIC, 0): 6}


def test_a_copy_of_what_a_filter_dropped_is_judged_by_itself(folder):
    """The two brokers add different things, and the second may pass."""
    script = [message(0, packet(1, score=0.1)), message(1, packet(1, score=0.9))]
    stream, _ = scripted([script], folder, seen=Seen(10), where=lambda item: item.packet["score"] > 0.5)
    with stream:
        assert next(stream).packet["score"] == 0.9


def test_a_copy_of_what_lies_elsewhere_is_judged_by_itself(folder):
    """A revised position may be inside where the first was not."""
    script = [message(0, packet(1, ra=1, dec=-5)), message(1, packet(1, ra=1, dec=5))]
    stream, _ = scripted([script[:1], script[1:]], folder, seen=Seen(10), near=Around())
    with stream:
        alert = stream.poll(2)
        assert alert is not None
        assert alert.dec == 5


def test_a_copy_comes_when_the_first_was_taken_away_unfinished(folder):
    def hand_over(transport):
        transport.listener.revoked([(TOPIC, 0)])
        transport.listener.assigned({(TOPIC, 0): 0})
        return messages(3)

    stream, transport = scripted([messages(3), hand_over], folder, seen=Seen(10), acknowledge="manual")
    with stream:
        assert wait_until(lambda: not transport.script)
        assert wait_until(lambda: stream.stats().waiting + stream.stats().handed_out >= 3)
        found = []
        while (alert := stream.poll(0.3)) is not None:
            found.append(alert)
        stream.acknowledge(found)
    assert sorted({*ids(found)}) == [0, 1, 2]
    assert transport.closed_with == {(TOPIC, 0): 3}


def test_alerts_without_a_key_of_their_own_are_not_each_others_duplicates(folder):
    """A packet of an unknown kind has neither an id nor an object: then nothing tells two apart but their bytes."""
    script = [message(at, b'{"value": %d}' % at) for at in range(5)]
    stream, _ = scripted([script, [end()]], folder, seen=Seen(10), stop=Stop(at_end=True))
    with stream:
        assert len(list(stream)) == 5


# Rate ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 50])
def test_a_rate_is_kept_on_average(folder, n):
    stream, _ = scripted([messages(2000)], folder, rate=Rate(200.0))
    with stream:
        next(stream)
        begin, count = time.monotonic(), 0
        for batch in stream.batches(n, 0.05):
            count += len(batch)
            if time.monotonic() - begin > 1.5:
                break
    assert 200 <= count <= 520


def test_a_rate_below_one_a_second(folder):
    stream, _ = scripted([messages(10)], folder, rate=Rate(2.0))
    with stream:
        begin = time.monotonic()
        for _ in range(3):
            next(stream)
        assert 0.8 < time.monotonic() - begin < 3


def test_a_rate_does_not_delay_the_end(folder):
    stream, _ = scripted([messages(2), [end()]], folder, rate=Rate(100.0), stop=Stop(at_end=True))
    with stream:
        begin = time.monotonic()
        assert len(list(stream)) == 2
    assert time.monotonic() - begin < 1


def test_a_rate_is_kept_by_a_call_that_does_not_wait(folder):
    stream, _ = scripted([messages(10)], folder, rate=Rate(1.0))
    with stream:
        assert stream.poll(2) is not None
        begin = time.monotonic()
        assert stream.poll(0) is None
        assert time.monotonic() - begin < 0.05


# A schema registry out of reach -------------------------------------------------------------------------------------------


class Registry:
    """Reads when it is told that the registry is there again."""

    def __init__(self, error=None):
        self.there = threading.Event()
        self.asked = 0
        self.error = error or UnreachableError("the schema registry does not answer")

    def __call__(self, received, origin):
        self.asked += 1
        if not self.there.is_set():
            raise self.error
        return PacketReader()(received, origin)


def test_a_registry_out_of_reach_is_waited_for(folder):
    registry = Registry()
    stream, transport = scripted([messages(3)], folder, read=registry)
    with stream:
        assert stream.poll(0.5) is None
        assert registry.asked >= 2
        registry.there.set()
        assert ids([next(stream) for _ in range(3)]) == [0, 1, 2]
    assert not folder.exists()
    assert transport.closed_with == {(TOPIC, 0): 3}


def test_a_registry_that_stays_out_of_reach_ends_the_stream_and_nothing_is_poison(folder):
    stream, transport = scripted([messages(3)], folder, read=Registry(), connect_timeout_s=0.5)
    begin = time.monotonic()
    with pytest.raises(UnreachableError, match="registry"), stream:
        list(stream)
    assert time.monotonic() - begin < 3
    assert not folder.exists()
    assert transport.closed_with == {(TOPIC, 0): 0}


def test_what_came_before_the_unknown_schema_is_handed_out_meanwhile(folder):
    registry = Registry()
    plain = {0, 1}

    def read(received, origin):
        if received.offset in plain:
            return PacketReader()(received, origin)
        return registry(received, origin)

    stream, _ = scripted([messages(4)], folder, read=read)
    with stream:
        begin = time.monotonic()
        assert ids([next(stream), next(stream)]) == [0, 1]
        assert time.monotonic() - begin < 1
        assert stream.poll(0.1) is None
        registry.there.set()
        assert ids([next(stream), next(stream)]) == [2, 3]


def test_closing_while_a_registry_is_waited_for_is_quick(folder):
    stream, _ = scripted([messages(3)], folder, read=Registry(), connect_timeout_s=60)
    with stream:
        assert stream.poll(0.5) is None
        begin = time.monotonic()
    assert time.monotonic() - begin < 1


@pytest.fixture
def anyio_backend():
    return "asyncio"
