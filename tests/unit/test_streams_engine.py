"""The engine of a stream on a transport that plays a script: no broker, no socket, every order of events at will."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from types import MappingProxyType

import pytest

import builders
from nuncius import Alert
from nuncius.errors import (
    ConfigurationError,
    NunciusError,
    PacketError,
    QuarantineFullError,
    ServerError,
    UnreachableError,
    UnsupportedError,
)
from nuncius.streams import book as book_module
from nuncius.streams import engine as engine_module
from nuncius.streams import intake as intake_module
from nuncius.streams.bounds import Stop
from streams_support import TOPIC, end, ids, message, messages, packet, scripted, wait_until

RECORD = builders.record_type("nova.alert", {"candid": "long", "maybe": ["null", "long"]})


def damaged_inside(number):
    """Make a container whose lengths are right and whose record names a branch of the union that isn't there."""
    return builders.container(RECORD, [builders.varint(number) + builders.varint(9)])


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "quarantine"


# Handing out --------------------------------------------------------------------------------------------------------------


def test_alerts_come_in_order_and_know_their_place(folder):
    stream, _ = scripted([messages(3), messages(2, first=3), [end()]], folder, stop=Stop(at_end=True))
    with stream:
        alerts = list(stream)
    assert ids(alerts) == [0, 1, 2, 3, 4]
    assert [(alert.origin.topic, alert.origin.partition, alert.origin.offset) for alert in alerts] == [
        (TOPIC, 0, offset) for offset in range(5)
    ]


@pytest.mark.parametrize("stop", [Stop(count=0), Stop(seconds=0.0)])
def test_a_stop_at_once_hands_out_nothing_and_finishes_nothing(folder, stop):
    stream, transport = scripted([messages(3)], folder, stop=stop)
    with stream:
        assert list(stream) == []
    assert transport.closed_with == {(TOPIC, 0): 0}


def test_the_end_is_never_seen_before_the_alerts_that_came_with_it(folder):
    """A caller who asks between the mark of the end and the hand-out of what stood before it must not be told that all
    is read."""
    asked = []

    def batch(_):
        yield from messages(5)
        yield end()
        asked.append(
            stream._engine._ended()
        )  # the engine has dealt with the end, and asks for what is behind it

    stream, _ = scripted([batch], folder, stop=Stop(at_end=True))
    with stream:
        assert len(list(stream)) == 5
    assert asked == [False]


def test_a_message_at_the_stop_time_does_not_hide_the_alerts_before_it(folder):
    asked = []

    def batch(_):
        yield message(0, timestamp_ms=1000)
        yield message(1, timestamp_ms=1999)
        yield message(2, timestamp_ms=2000)
        asked.append(stream._engine._ended())

    stream, transport = scripted([batch], folder, stop=Stop(unix_s=2.0))
    with stream:
        assert ids(stream) == [0, 1]
    assert asked == [False]
    assert transport.closed_with == {(TOPIC, 0): 2}


def test_what_comes_after_the_end_belongs_to_the_next_run(folder):
    stream, transport = scripted(
        [[*messages(2), end(), *messages(2, first=2)]], folder, stop=Stop(at_end=True)
    )
    with stream:
        assert ids(stream) == [0, 1]
    assert transport.closed_with == {(TOPIC, 0): 2}


def test_all_partitions_come_to_their_end(folder):
    script = [[*messages(2), end(0)], [], [], [*messages(3, partition=1)], [end(1)]]
    stream, transport = scripted(script, folder, stop=Stop(at_end=True), partitions=2)
    with stream:
        assert len(list(stream)) == 5
    assert transport.closed_with == {(TOPIC, 0): 2, (TOPIC, 1): 3}


def test_a_stop_by_count_leaves_the_rest_for_the_next_run(folder):
    stream, transport = scripted([messages(10)], folder, stop=Stop(count=4))
    with stream:
        assert ids(stream) == [0, 1, 2, 3]
    assert transport.closed_with == {(TOPIC, 0): 4}


@pytest.mark.parametrize(("n", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (500, [7])])
def test_batches(folder, n, sizes):
    stream, _ = scripted([messages(7), [end()]], folder, stop=Stop(at_end=True))
    with stream:
        assert [len(batch) for batch in stream.batches(n)] == sizes


@pytest.mark.parametrize("n", [0, -1])
def test_a_batch_of_nothing_is_refused(folder, n):
    stream, _ = scripted([messages(7)], folder)
    with stream, pytest.raises(ConfigurationError, match="at least one"):
        next(stream.batches(n))


def test_a_batch_waits_for_more_only_so_long(folder):
    stream, _ = scripted([messages(3)], folder)
    with stream:
        begin = time.monotonic()
        batch = next(stream.batches(500, timeout_s=0.3))
        assert len(batch) == 3
        assert 0.25 < time.monotonic() - begin < 2


def test_a_batch_without_a_time_limit_waits_until_it_is_full(folder):
    stream, _ = scripted([messages(3), *[[]] * 60, messages(2, first=3)], folder)
    with stream:
        assert len(next(stream.batches(5, timeout_s=None))) == 5


def test_a_message_with_several_alerts_is_finished_with_the_last_of_them(folder):
    value = b'[{"candid": 1}, {"candid": 2}, {"candid": 3}]'
    stream, transport = scripted([[message(0, value), message(1)]], folder, acknowledge="manual")
    with stream:
        one, two, three, four = (next(stream) for _ in range(4))
        stream.acknowledge([three, two, four])
    assert transport.closed_with == {(TOPIC, 0): 0}
    assert one.alert_id == 1


def test_a_revoked_partition_is_forgotten(folder):
    def revoke(transport):
        transport.revoked = transport.listener.revoked([(TOPIC, 1)])

    script = [[*messages(2), *messages(3, partition=1)], *[[]] * 5, revoke, messages(1, first=3, partition=1)]
    stream, transport = scripted(script, folder, acknowledge="manual", partitions=2)
    with stream:
        assert wait_until(lambda: not transport.script)
        alerts = [stream.poll(1.0) for _ in range(2)]
        assert [alert.origin.partition for alert in alerts] == [0, 0]
        assert stream.poll(0) is None
        stream.acknowledge(alerts)
    assert transport.revoked == {(TOPIC, 1): 0}
    assert transport.closed_with == {(TOPIC, 0): 2}


def test_an_alert_of_a_revoked_partition_may_be_acknowledged_in_vain(folder):
    def revoke(transport):
        transport.revoked = transport.listener.revoked([(TOPIC, 0)])

    gate = threading.Event()
    script = [messages(2), lambda _: gate.wait(10) and None, revoke]
    stream, transport = scripted(script, folder, acknowledge="manual")
    with stream:
        alerts = [next(stream), next(stream)]
        stream.acknowledge(alerts[0])
        gate.set()
        assert wait_until(lambda: not transport.script)
        time.sleep(0.05)
        stream.acknowledge(alerts[1])
        stream.release(alerts[1])
        assert stream.stats().acknowledged == 1
    assert transport.revoked == {(TOPIC, 0): 1}
    assert transport.closed_with == {}


# Finishing ----------------------------------------------------------------------------------------------------------------


def test_coming_back_finishes_what_was_handed_out(folder):
    stream, transport = scripted([messages(5)], folder)
    with stream:
        for wanted in range(5):
            next(stream)
            assert stream.stats().unacknowledged == 1
            assert stream.stats().acknowledged == wanted
        stream.close()
    assert transport.closed_with == {(TOPIC, 0): 4}


def test_leaving_by_an_exception_finishes_nothing_of_what_is_in_hand(folder):
    stream, transport = scripted([messages(5)], folder)
    with pytest.raises(KeyError), stream:  # noqa: PT012
        for alert in stream:
            if alert.alert_id == 3:
                raise KeyError
    assert transport.closed_with == {(TOPIC, 0): 3}


def test_leaving_cleanly_finishes_what_is_in_hand_and_no_more(folder):
    stream, transport = scripted([messages(5)], folder)
    with stream:
        for alert in stream:
            if alert.alert_id == 3:
                break
    assert transport.closed_with == {(TOPIC, 0): 4}


def test_a_stream_that_is_dropped_closes_itself_and_finishes_nothing(folder):
    stream, transport = scripted([messages(5)], folder)
    next(stream)
    gone = weakref.ref(stream)
    del stream
    gc.collect()
    assert gone() is None
    assert wait_until(lambda: transport.closed_with is not None)
    assert transport.closed_with == {(TOPIC, 0): 0}


def test_a_batch_that_was_being_gathered_when_the_stream_failed_is_handed_out(folder):
    """Else a bad message behind good ones would keep the good ones away for ever: each start would fail before them."""
    script = [messages(3), [], [], ServerError("down")]
    stream, transport = scripted(script, folder)
    seen = []

    def read():
        with stream:
            for batch in stream.batches(500, timeout_s=5):
                seen.extend(ids(batch))

    with pytest.raises(ServerError, match="down"):
        read()
    assert seen == [0, 1, 2]
    assert transport.closed_with == {(TOPIC, 0): 3}


def test_what_came_before_a_failure_is_handed_out_before_it_is_raised(folder):
    stream, transport = scripted([messages(3), ServerError("down")], folder)
    seen = []

    def read():
        with stream:
            for alert in stream:
                seen.append(alert.alert_id)

    with pytest.raises(ServerError, match="down"):
        read()
    assert seen == [0, 1, 2]
    assert transport.closed_with == {(TOPIC, 0): 3}


def test_a_failure_stays_raised(folder):
    stream, _ = scripted([ServerError("down")], folder)
    for _ in range(3):
        with pytest.raises(ServerError, match="down"):
            next(stream)
    with pytest.raises(ServerError, match="down"):
        stream.poll(0)


def test_an_error_of_our_own_in_the_thread_is_raised_too(folder):
    stream, _ = scripted([ZeroDivisionError("oops")], folder)
    with pytest.raises(NunciusError, match="ZeroDivisionError: oops") as failure:
        next(stream)
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


# After the end ------------------------------------------------------------------------------------------------------------


def test_a_closed_stream_is_not_entered_again(folder):
    stream, _ = scripted([messages(3)], folder)
    stream.close()
    refused = []

    def enter():
        try:
            stream.__enter__()
        except ConfigurationError as error:
            refused.append(error)

    entering = threading.Thread(target=enter, daemon=True)
    entering.start()
    entering.join(5)
    assert not entering.is_alive(), "entering a closed stream waits for ever"
    assert "closed" in str(refused[0])


def test_closing_twice_is_fine(folder):
    stream, transport = scripted([messages(3)], folder)
    with stream:
        stream.close()
        stream.close()
    stream.close()
    assert transport.closed_with == {(TOPIC, 0): 0}


def test_a_closed_stream_refuses_to_move(folder):
    stream, _ = scripted([messages(3)], folder)
    with stream:
        pass
    with pytest.raises(ConfigurationError, match="closed"):
        stream.seek("earliest")


# By hand ------------------------------------------------------------------------------------------------------------------


def test_out_of_order_only_the_lowest_unfinished_is_stored(folder):
    stream, transport = scripted([messages(6)], folder, acknowledge="manual")
    with stream:
        alerts = [next(stream) for _ in range(6)]
        stream.acknowledge([alerts[1], alerts[2], alerts[5]])
        assert wait_until(lambda: transport.stored == {(TOPIC, 0): 0})
        stream.acknowledge(alerts[0])
        assert wait_until(lambda: transport.stored == {(TOPIC, 0): 3})
        stream.acknowledge(iter([alerts[3], alerts[4]]))
        assert wait_until(lambda: transport.stored == {(TOPIC, 0): 6})
    assert transport.closed_with == {(TOPIC, 0): 6}


def test_by_hand_nothing_is_finished_by_coming_back_or_leaving(folder):
    stream, transport = scripted([messages(3), [end()]], folder, acknowledge="manual", stop=Stop(at_end=True))
    with stream:
        assert len(list(stream)) == 3
    assert transport.closed_with == {(TOPIC, 0): 0}


@pytest.mark.parametrize("stop", [Stop(count=3), Stop(at_end=True)])
def test_by_hand_alerts_may_be_acknowledged_after_the_last_one_came(folder, stop):
    """Whoever hands alerts to workers finishes the last of them after the loop, still within the block."""
    stream, transport = scripted([messages(3), [end()]], folder, acknowledge="manual", stop=stop)
    with stream:
        alerts = list(stream)
        stream.acknowledge(alerts)
    assert transport.closed_with == {(TOPIC, 0): 3}
    assert stream.stats().acknowledged == 3


def test_acknowledging_twice_counts_once(folder):
    stream, _ = scripted([messages(3)], folder, acknowledge="manual")
    with stream:
        alert = next(stream)
        stream.acknowledge(alert)
        stream.acknowledge([alert, alert])
        assert stream.stats().acknowledged == 1


def test_an_alert_of_another_stream_is_refused_and_finishes_nothing(folder):
    one, transport = scripted([messages(3)], folder, acknowledge="manual")
    other, _ = scripted([messages(3)], folder, acknowledge="manual")
    with one, other:
        mine, theirs = next(one), next(other)
        for foreign in (theirs, Alert.from_bytes(packet(1))):
            with pytest.raises(ConfigurationError, match="not handed out by this stream"):
                one.acknowledge([mine, foreign])
            with pytest.raises(ConfigurationError, match="not handed out by this stream"):
                one.release(foreign)
        assert one.stats().acknowledged == 0
    assert transport.closed_with == {(TOPIC, 0): 0}


def test_a_released_alert_comes_again_after_its_delay(folder):
    stream, transport = scripted([messages(2)], folder, acknowledge="manual")
    with stream:
        first, second = next(stream), next(stream)
        begin = time.monotonic()
        stream.release(first, 0.3)
        stream.acknowledge(second)
        assert stream.poll(0.1) is None
        again = stream.poll(5)
        assert again is first
        assert 0.25 < time.monotonic() - begin < 2
        stream.acknowledge(again)
    assert transport.closed_with == {(TOPIC, 0): 2}


def test_a_released_alert_comes_again_also_on_next(folder):
    stream, transport = scripted([messages(2), [end()]], folder, stop=Stop(at_end=True))
    seen = []
    with stream:
        for alert in stream:
            if not seen:
                stream.release(alert)
            seen.append(alert.alert_id)
    assert sorted(seen) == [0, 0, 1]
    assert transport.closed_with == {(TOPIC, 0): 2}


def test_a_released_alert_that_is_acknowledged_after_all_holds_nothing_up(folder):
    stream, transport = scripted([messages(1), [end()]], folder, acknowledge="manual", stop=Stop(at_end=True))
    with stream:
        alert = next(stream)
        stream.release(alert, 3600)
        stream.acknowledge(alert)
        begin = time.monotonic()
        assert stream.poll(3) is None
        assert time.monotonic() - begin < 2
    assert transport.closed_with == {(TOPIC, 0): 1}


def test_the_end_waits_for_released_alerts(folder):
    stream, _ = scripted([messages(2), [end()]], folder, acknowledge="manual", stop=Stop(at_end=True))
    with stream:
        stream.release(next(stream), 0.3)
        stream.acknowledge(next(stream))
        assert ids(stream) == [0]


def test_a_count_counts_an_alert_once_however_often_it_is_released(folder):
    stream, _ = scripted([messages(9)], folder, acknowledge="manual", stop=Stop(count=2))
    with stream:
        first = next(stream)
        stream.release(first)
        assert next(stream) is first
        assert next(stream).alert_id == 1
        assert stream.poll(0) is None


def test_no_more_than_allowed_is_in_hand(folder):
    stream, _ = scripted([messages(20)], folder, acknowledge="manual", max_unacknowledged=5)
    with stream:
        alerts = [next(stream) for _ in range(5)]
        assert stream.poll(0.2) is None
        stream.acknowledge(alerts[2])
        assert stream.poll(1).alert_id == 5
        assert stream.poll(0.2) is None
        assert stream.stats().unacknowledged == 5


def test_released_alerts_are_not_finished_and_count_against_the_bound(folder):
    stream, _ = scripted([messages(100)], folder, acknowledge="manual", max_unacknowledged=5)
    seen = set()
    with stream:
        for _ in range(20):
            alert = stream.poll(0.05)
            if alert is not None:
                seen.add(alert.alert_id)
                stream.release(alert, 30)
    assert len(seen) == 5


def test_a_released_alert_comes_again_when_all_that_is_allowed_is_released(folder):
    stream, _ = scripted([messages(20)], folder, acknowledge="manual", max_unacknowledged=3)
    with stream:
        alerts = [next(stream) for _ in range(3)]
        for alert in alerts:
            stream.release(alert)
        assert {stream.poll(1).alert_id for _ in range(3)} == {0, 1, 2}


def test_a_batch_larger_than_what_is_allowed_in_hand_does_not_wait_for_ever(folder):
    """Nobody can acknowledge a batch that he was not given."""
    stream, _ = scripted([messages(20)], folder, acknowledge="manual", max_unacknowledged=5)
    found = []
    with stream:
        reading = threading.Thread(
            target=lambda: found.extend(next(stream.batches(10, timeout_s=None))), daemon=True
        )
        reading.start()
        reading.join(3)
        assert len(found) == 5
    reading.join(10)


def test_a_batch_holds_no_more_than_is_allowed_in_hand(folder):
    stream, _ = scripted([messages(50)], folder, max_unacknowledged=10)
    with stream:
        batch = next(stream.batches(30, timeout_s=0.3))
        assert len(batch) <= 10
        assert stream.stats().unacknowledged <= 10


def test_threads_may_acknowledge(folder):
    count = 2000
    stream, transport = scripted(
        [messages(200, first=first) for first in range(0, count, 200)], folder, acknowledge="manual"
    )
    with stream:
        alerts = [next(stream) for _ in range(count)]
        threads = [
            threading.Thread(
                target=lambda part: [stream.acknowledge(alert) for alert in part], args=(alerts[n::7],)
            )
            for n in range(7)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert stream.stats().acknowledged == count
        assert stream.stats().unacknowledged == 0
    assert transport.closed_with == {(TOPIC, 0): count}


def test_a_caller_who_acknowledges_nothing_is_warned(folder, monkeypatch, caplog):
    monkeypatch.setattr(book_module, "_WARN_UNACKNOWLEDGED_S", 0.1)
    stream, _ = scripted([messages(5)], folder, acknowledge="manual", max_unacknowledged=2)
    with stream, caplog.at_level(logging.WARNING, "nuncius.streams"):
        next(stream), next(stream)
        assert stream.poll(0.5) is None
    assert "2 alerts are handed out and not acknowledged" in caplog.text


# What can't be read -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"", b"rubbish", builders.ztf()[:900], b"\x00\x00\x00\x03\x84rest", b"[]"])
def test_a_bad_message_is_kept_and_the_stream_goes_on(folder, value):
    bad = message(1)._replace(value=value)
    stream, transport = scripted([[message(0), bad, message(2), end()]], folder, stop=Stop(at_end=True))
    with stream:
        assert ids(stream) == [0, 2]
    assert stream.stats().quarantined == 1
    assert (folder / TOPIC / "0-1.packet").read_bytes() == value
    assert transport.closed_with == {(TOPIC, 0): 3}


def test_a_bad_message_at_the_end_is_finished_too(folder):
    script = [[message(0), message(1, b"rubbish"), end()]]
    stream, transport = scripted(script, folder, stop=Stop(at_end=True))
    with stream:
        assert ids(stream) == [0]
    assert transport.closed_with == {(TOPIC, 0): 2}


def test_a_bad_message_can_stop_the_stream(folder):
    script = [[*messages(2), message(2, b"rubbish"), message(3)]]
    stream, transport = scripted(script, folder, on_error="raise")
    seen = []

    def read():
        with stream:
            for alert in stream:
                seen.append(alert.alert_id)

    with pytest.raises(PacketError, match=r"night\[0\]@2: not an alert packet") as failure:
        read()
    assert failure.value.position == f"{TOPIC}[0]@2"
    assert seen == [0, 1]
    assert transport.closed_with == {(TOPIC, 0): 2}
    assert not folder.exists()


def test_a_bad_message_can_be_skipped(folder, caplog):
    script = [[*messages(2), message(2, b"rubbish"), message(3), end()]]
    stream, transport = scripted(script, folder, on_error="skip", stop=Stop(at_end=True))
    with stream, caplog.at_level(logging.WARNING, "nuncius.streams"):
        assert ids(stream) == [0, 1, 3]
    assert (stream.stats().skipped, stream.stats().quarantined) == (1, 0)
    assert f"{TOPIC}[0]@2" in caplog.text
    assert transport.closed_with == {(TOPIC, 0): 4}
    assert not folder.exists()


@pytest.mark.parametrize("on_error", ["quarantine", "skip"])
def test_when_nothing_can_be_read_the_stream_stops_and_finishes_nothing(folder, monkeypatch, on_error):
    monkeypatch.setattr(intake_module, "_POISONED_RUN", 50)
    script = [messages(3), [message(offset, b"rubbish") for offset in range(3, 60)]]
    stream, transport = scripted(script, folder, on_error=on_error)
    with pytest.raises(QuarantineFullError, match="the last 50 messages could not be read"), stream:
        for _ in stream:
            pass
    assert transport.closed_with == {(TOPIC, 0): 3}


def test_one_good_message_among_many_bad_ones_keeps_the_stream_going(folder, monkeypatch):
    monkeypatch.setattr(intake_module, "_POISONED_RUN", 50)
    values = [message(offset, b"rubbish" if (offset + 1) % 50 else None) for offset in range(200)]
    stream, transport = scripted([values, [end()]], folder, stop=Stop(at_end=True))
    with stream:
        assert ids(stream) == [49, 99, 149, 199]
    assert transport.closed_with == {(TOPIC, 0): 200}


def test_a_full_quarantine_stops_the_stream_and_finishes_nothing_of_it(folder):
    script = [messages(2), [message(offset, b"rubbish" * 100) for offset in range(2, 20)]]
    stream, transport = scripted(script, folder, quarantine_limit_bytes=5000)
    with pytest.raises(QuarantineFullError, match="may hold 5000"), stream:
        for _ in stream:
            pass
    assert transport.closed_with == {(TOPIC, 0): 2}


def test_damage_that_decoding_finds_is_raised_at_the_touch_and_kept(folder):
    script = [[message(0, damaged_inside(0)), message(1), end()]]
    stream, transport = scripted(script, folder, stop=Stop(at_end=True))
    with stream:
        bad = next(stream)
        assert stream.stats().quarantined == 0
        with pytest.raises(PacketError):
            _ = bad.packet
        assert stream.stats().quarantined == 1
        assert ids(stream) == [1]
    assert (folder / TOPIC / "0-0.packet").read_bytes() == damaged_inside(0)
    assert transport.closed_with == {(TOPIC, 0): 2}


def test_damage_that_is_touched_again_counts_once(folder):
    stream, _ = scripted([[message(0, damaged_inside(0))]], folder)
    with stream:
        bad = next(stream)
        for _ in range(3):
            with pytest.raises(PacketError):
                _ = bad.packet
        assert "damaged" in repr(bad)
        assert stream.stats().quarantined == 1


def test_damage_in_several_alerts_of_one_message_loses_none_of_them(folder):
    stream, _ = scripted([[message(0, b"[1, 2]")]], folder)
    with stream:
        for bad in (next(stream), next(stream)):
            with pytest.raises(PacketError):
                _ = bad.packet
    kept = b" ".join(path.read_bytes() for path in folder.rglob("*.packet"))
    assert b"1" in kept
    assert b"2" in kept


def test_full_decoding_finds_the_damage_before_the_hand_out(folder):
    script = [[message(0, damaged_inside(0)), message(1), end()]]
    stream, transport = scripted(script, folder, stop=Stop(at_end=True), validate=True)
    with stream:
        assert ids(stream) == [1]
        assert stream.stats().quarantined == 1
    assert transport.closed_with == {(TOPIC, 0): 2}


@pytest.mark.parametrize(("on_error", "kept"), [("raise", 0), ("skip", 0), ("quarantine", 1)])
def test_late_damage_is_kept_only_where_damage_is_kept(folder, on_error, kept):
    stream, _ = scripted([[message(0, damaged_inside(0))]], folder, on_error=on_error)
    with stream:
        with pytest.raises(PacketError):
            _ = next(stream).packet
        assert len(list(folder.rglob("*.packet"))) == kept


def test_a_quarantine_that_can_not_be_written_stops_the_stream_before_the_message(folder):
    folder.write_text("a file where the folder should be")
    stream, transport = scripted([[message(0), message(1, b"rubbish"), message(2)]], folder)
    with pytest.raises(NunciusError, match="can't be written"), stream:
        for _ in stream:
            pass
    assert transport.closed_with == {(TOPIC, 0): 1}


class AwaySchemas:
    """A schema source that is out of reach for some time."""

    def __init__(self, seconds):
        self.until = time.monotonic() + seconds
        self.asked = 0

    def find(self, schema_id):
        self.asked += 1
        if time.monotonic() < self.until:
            raise UnreachableError("the registry is away")
        from nuncius.alerts.packets.schemas import prepare_schema

        return prepare_schema(builders.lsst_schema("9.0"))


def test_a_registry_that_is_away_for_a_moment_is_waited_for(folder):
    script = [[message(0, builders.lsst("9.0")), end()]]
    stream, _ = scripted(script, folder, stop=Stop(at_end=True), schema=AwaySchemas(0.5))
    with stream:
        assert [alert.survey for alert in stream] == ["lsst"]
    assert stream.stats().quarantined == 0


def test_a_registry_that_stays_away_is_no_fault_of_the_packet(folder):
    stream, transport = scripted(
        [[message(0), message(1, builders.lsst("9.0"))]],
        folder,
        schema=AwaySchemas(1000),
        connect_timeout_s=0.5,
    )
    with pytest.raises(UnreachableError, match="registry is away"), stream:
        for _ in stream:
            pass
    assert transport.closed_with in ({(TOPIC, 0): 0}, {(TOPIC, 0): 1})
    assert not folder.exists()


def test_closing_does_not_wait_for_a_registry_that_is_away(folder):
    stream, _ = scripted(
        [[message(0, builders.lsst("9.0"))]], folder, schema=AwaySchemas(1000), connect_timeout_s=60
    )
    with stream:
        assert stream.poll(2.0) is None
        begin = time.monotonic()
    assert time.monotonic() - begin < 1.0


# A slow caller ------------------------------------------------------------------------------------------------------------


def test_a_full_queue_pauses_and_an_emptied_one_goes_on(folder, monkeypatch):
    monkeypatch.setattr(book_module, "_QUEUE_ALERTS", 10)
    monkeypatch.setattr(engine_module, "_HOLD_S", 0.1)
    stream, transport = scripted(
        [messages(10), *[[]] * 3, messages(5, first=10), [end()]], folder, stop=Stop(at_end=True)
    )
    with stream:
        assert wait_until(lambda: stream.stats().paused)
        assert stream.stats().waiting >= 10
        assert ids(stream) == list(range(15))
    assert transport.calls[0] == "pause"
    assert "resume" in transport.calls


def test_the_queue_is_bounded_in_number_and_bytes(folder, monkeypatch):
    monkeypatch.setattr(book_module, "_QUEUE_BYTES", 200_000)
    monkeypatch.setattr(engine_module, "_HOLD_S", 0.0)
    padding = "x" * 10_000

    def more(transport):
        transport.script.append(more)
        offset = transport.next = getattr(transport, "next", -10) + 10
        return [message(number, packet(number, text=padding)) for number in range(offset, offset + 10)]

    stream, _ = scripted([more], folder)
    with stream:
        assert wait_until(lambda: stream.stats().paused)
        # Decoded packets count eight times their bytes, so ten of these fill the queue.
        assert 0 < stream.stats().waiting <= 20


# Moving and looking -------------------------------------------------------------------------------------------------------


class Seekable:
    """The parts of a transport that can move, as a mixin of the script."""

    def seek(self, where):
        self.moved_to = where
        return {(TOPIC, 0): 0} if not hasattr(where, "keys") else dict(where)


def test_what_was_handed_out_before_a_move_is_not_finished_after_it(folder):
    from streams_support import ScriptedTransport

    class Moving(Seekable, ScriptedTransport):
        pass

    transport = Moving([messages(5)])
    stream, _ = scripted(transport, folder, acknowledge="manual")
    with stream:
        alerts = [next(stream) for _ in range(3)]
        stream.seek({(TOPIC, 0): 40})
        stream.acknowledge(alerts)
        assert stream.poll(0.1) is None
        transport.script.append(messages(2, first=40))
        assert [next(stream).alert_id for _ in range(2)] == [40, 41]
    assert transport.closed_with == {(TOPIC, 0): 40}


def test_any_mapping_names_positions(folder):
    from streams_support import ScriptedTransport

    class Moving(Seekable, ScriptedTransport):
        pass

    transport = Moving([messages(5)])
    stream, _ = scripted(transport, folder)
    with stream:
        next(stream)
        stream.seek(MappingProxyType({(TOPIC, 0): 40}))
        assert dict(transport.moved_to) == {(TOPIC, 0): 40}


@pytest.mark.parametrize("ask", ["seek", "lag", "topics"])
def test_what_a_transport_can_not_do_is_told(folder, ask):
    stream, _ = scripted([messages(5)], folder)
    with stream:
        with pytest.raises(UnsupportedError, match="script streams"):
            stream.seek("earliest") if ask == "seek" else getattr(stream, ask)()
        assert next(stream).alert_id == 0  # and the stream goes on


def test_statistics_are_a_copy_of_the_moment(folder):
    stream, _ = scripted([messages(5), [message(5, b"rubbish")]], folder)
    with stream:
        before = stream.stats()
        for _ in range(5):
            next(stream)
        assert wait_until(lambda: stream.stats().quarantined == 1)
        after = stream.stats()
    assert before.handed_out == 0
    assert (after.received, after.handed_out, after.acknowledged, after.unacknowledged) == (6, 5, 4, 1)
    assert after.received_bytes == sum(len(packet(number)) for number in range(5)) + len(b"rubbish")
    assert "5 alerts, 1 quarantined" in repr(stream)
