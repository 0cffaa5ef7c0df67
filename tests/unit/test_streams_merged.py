"""Several streams as one, on transports that play a script: order, fairness, and whose fault it is."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest

from nuncius.aio import open_stream as open_async_stream
from nuncius.errors import (
    ConfigurationError,
    LoginError,
    NotFoundError,
    PacketError,
    QuarantineFullError,
    ServerError,
    UnreachableError,
    UnsupportedError,
)
from nuncius.streams import AsyncStream, Stream
from nuncius.streams import intake as intake_module
from nuncius.streams.bounds import Start, Stop
from nuncius.streams.engine import Engine
from nuncius.streams.merged import Merged
from nuncius.streams.quarantine import Quarantine
from nuncius.streams.reading import PacketReader
from nuncius.streams.rules import Rate, Rules, Seen
from streams_support import TOPIC, ScriptedTransport, end, ids, message, messages, packet, wait_until

A, B = "kafka://a:1/night", "kafka://b:1/night"


class Movable(ScriptedTransport):
    """A scripted transport that can be moved and asked."""

    def seek(self, where):
        self.calls.append(("seek", where))
        return dict.fromkeys(sorted(self.partitions), 0)

    def lag(self, positions):
        return {key: 100 - (position or 0) for key, position in positions.items()}

    def topics(self):
        return [TOPIC, "other"]


class NeverThere(ScriptedTransport):
    """A broker that does not let us in."""

    def __init__(self, error, after_s=0.0):
        super().__init__([])
        self.error, self.after_s = error, after_s

    def connect(self, listener, timeout_s):
        time.sleep(self.after_s)
        raise self.error


def merged(scripts, folder, *, face=Stream, transport=ScriptedTransport, **options):
    """Make one stream of several scripts; return it and the transports."""
    transports = [one if isinstance(one, ScriptedTransport) else transport(one) for one in scripts]
    rules = Rules(
        **{
            "acknowledge": "on_next",
            "on_error": "quarantine",
            "max_unacknowledged": 10_000,
            "validate": False,
            "connect_timeout_s": 5,
            "stop": Stop(),
            "read": PacketReader(),
        }
        | options
    )
    urls = [f"kafka://{name}:1/night" for name in "abcdefgh"[: len(transports)]]
    engines = {
        url: Engine(one, rules, Quarantine(folder, 10**9)) for url, one in zip(urls, transports, strict=True)
    }
    return face(Merged(engines, rules), " + ".join(urls)), transports


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "quarantine"


def full(count=10, *, first=0):
    return [messages(count, first=first), [end()]]


def with_ids(numbers, *, first_offset=0):
    return [message(first_offset + at, packet(number)) for at, number in enumerate(numbers)]


def read_into(seen, stream):
    """Keep what was read also when reading ends with an error."""
    for alert in stream:
        seen.append(alert.alert_id)


# Order and fairness -------------------------------------------------------------------------------------------------------


def test_all_of_both_comes_each_in_its_order(folder):
    stream, transports = merged(
        [full(50), [with_ids(range(100, 150)), [end()]]], folder, stop=Stop(at_end=True)
    )
    with stream:
        found = ids(stream)
    assert sorted(found) == [*range(50), *range(100, 150)]
    for part in ([n for n in found if n < 100], [n for n in found if n >= 100]):
        assert part == sorted(part)
    assert [one.closed_with for one in transports] == [{(TOPIC, 0): 50}] * 2


def test_a_busy_stream_does_not_starve_a_quiet_one(folder):
    busy, quiet = messages(5000), with_ids(range(10_000, 10_010))
    stream, _ = merged([[busy], [quiet]], folder)
    with stream:
        assert wait_until(lambda: stream.stats().waiting == 5010)
        seen = [next(stream).alert_id for _ in range(40)]
    assert sum(one >= 10_000 for one in seen) == 10


def test_batches_do_not_starve_a_quiet_one(folder):
    stream, _ = merged([[messages(5000)], [with_ids(range(10_000, 10_010))]], folder)
    with stream:
        assert wait_until(lambda: stream.stats().waiting == 5010)
        seen = []
        for batch in stream.batches(100, 0):
            seen += ids(batch)
            if len(seen) >= 300:
                break
    assert sum(one >= 10_000 for one in seen) == 10


def test_one_that_ends_does_not_end_the_other(folder):
    later = [[], [], *[[]] * 20, messages(3), [end()]]
    stream, _ = merged([full(2), later], folder, stop=Stop(at_end=True))
    with stream:
        assert len(list(stream)) == 5


def test_a_released_alert_comes_again_from_its_stream(folder):
    stream, transports = merged(
        [full(1), [with_ids([7]), [end()]]], folder, acknowledge="manual", stop=Stop(at_end=True)
    )
    with stream:
        first, second = next(stream), next(stream)
        stream.release(first)
        again = next(stream)
        assert again is first
        stream.acknowledge([first, second])
        assert list(stream) == []
    assert [one.closed_with for one in transports] == [{(TOPIC, 0): 1}] * 2


# Bounds over all ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 500])
def test_a_count_is_of_all_together(folder, n):
    stream, transports = merged([full(10), full(10)], folder, stop=Stop(count=7))
    with stream:
        assert sum(len(batch) for batch in stream.batches(n)) == 7
    assert sum(one.closed_with[TOPIC, 0] for one in transports) == 7


def test_a_count_of_nothing(folder):
    stream, transports = merged([full(10), full(10)], folder, stop=Stop(count=0))
    with stream:
        assert list(stream) == []
    assert [one.closed_with for one in transports] == [{(TOPIC, 0): 0}] * 2


def test_a_count_is_reached_although_a_stream_fails_afterwards(folder):
    """What was asked for has come: that something breaks later is nothing to the caller."""
    stream, _ = merged([[messages(4), ServerError("late")], [[]]], folder, stop=Stop(count=4))
    with stream:
        alerts = [next(stream) for _ in range(4)]
        assert wait_until(lambda: any(engine._failure for engine in stream._engine._engines.values()))
        assert list(stream) == []
    assert ids(alerts) == [0, 1, 2, 3]


def test_a_duration_is_of_all_together(folder):
    stream, _ = merged([[messages(3)], [messages(3)]], folder, stop=Stop(seconds=0.5))
    begin = time.monotonic()
    with stream:
        assert len(list(stream)) == 6
    assert 0.4 < time.monotonic() - begin < 3


@pytest.mark.parametrize("release", [False, True], ids=["in hand", "released"])
def test_what_may_be_in_hand_is_of_all_together(folder, release):
    stream, _ = merged([[messages(50)], [messages(50)]], folder, acknowledge="manual", max_unacknowledged=10)
    with stream:
        assert wait_until(lambda: stream.stats().waiting == 100)
        held = [next(stream) for _ in range(10)]
        if release:  # what was given back for a while is unacknowledged as before
            for alert in held[:4]:
                stream.release(alert, 60)
        assert stream.poll(0.2) is None
        stream.acknowledge(held[-1])
        assert stream.poll(1) is not None
        assert stream.poll(0.2) is None


def test_a_batch_is_never_larger_than_what_may_be_in_hand(folder):
    stream, _ = merged([[messages(50)], [messages(50)]], folder, acknowledge="manual", max_unacknowledged=10)
    with stream:
        assert wait_until(lambda: stream.stats().waiting == 100)
        sizes = []
        for batch in stream.batches(500, 5):
            sizes.append(len(batch))
            stream.acknowledge(batch)
            if len(sizes) == 3:
                break
    assert sizes == [10, 10, 10]


def test_a_released_alert_comes_again_although_no_more_may_be_in_hand(folder):
    stream, _ = merged([[messages(50)], [messages(50)]], folder, acknowledge="manual", max_unacknowledged=4)
    with stream:
        held = [next(stream) for _ in range(4)]
        stream.release(held[2])
        assert stream.poll(1) is held[2]


def test_a_rate_is_of_all_together(folder):
    stream, _ = merged([[messages(400)], [messages(400)]], folder, rate=Rate(100.0))
    with stream:
        next(stream)
        begin, count = time.monotonic(), 0
        while time.monotonic() - begin < 1.5:
            count += stream.poll(0.1) is not None
    assert 100 <= count <= 260  # 150, and at most what belongs to one second at once


# Duplicates ---------------------------------------------------------------------------------------------------------------


def test_the_same_alert_of_two_brokers_comes_once(folder):
    stream, transports = merged(
        [full(20), [with_ids([*range(5, 25)]), [end()]]], folder, seen=Seen(1000), stop=Stop(at_end=True)
    )
    with stream:
        found = ids(stream)
        assert sorted(found) == list(range(25))
        assert stream.stats().duplicates == 15
    assert [one.closed_with for one in transports] == [{(TOPIC, 0): 20}] * 2


def test_a_copy_counts_not_when_the_first_was_taken_away(folder):
    """Another member reads the first copy, or nobody does: then it is this one that must come."""
    gone = threading.Event()

    def revoke(transport):
        transport.listener.revoked([(TOPIC, 0)])
        gone.set()

    def copy(_):
        return with_ids([1, 2]) if gone.is_set() else later.script.insert(0, copy)

    first = ScriptedTransport([with_ids([1, 2]), revoke])
    later = ScriptedTransport([copy])
    stream, _ = merged([first, later], folder, seen=Seen(1000))
    with stream:
        assert gone.wait(5)
        found = [stream.poll(3), stream.poll(3)]
        assert sorted(ids(found)) == [1, 2]
        assert stream.poll(0.2) is None


def test_a_copy_of_what_was_finished_is_a_duplicate_also_when_its_partition_is_gone(folder):
    gone, done = threading.Event(), threading.Event()

    def revoke(transport):
        if not done.is_set():
            return transport.script.insert(0, revoke)
        transport.listener.revoked([(TOPIC, 0)])
        gone.set()
        return []

    def copy(_):
        return with_ids([1, 3]) if gone.is_set() else later.script.insert(0, copy)

    first = ScriptedTransport([with_ids([1]), revoke])
    later = ScriptedTransport([copy])
    stream, _ = merged([first, later], folder, seen=Seen(1000), acknowledge="manual")
    with stream:
        alert = next(stream)
        stream.acknowledge(alert)
        done.set()
        assert stream.poll(5).alert_id == 3
        assert stream.stats().duplicates == 1


def test_going_back_brings_the_alerts_again_although_they_came_before(folder):
    """Who goes back wants to read again; a stream that gives nothing then would be silently wrong."""

    class Rewinding(Movable):
        def seek(self, where):
            self.script = full(5)
            return super().seek(where)

    stream, _ = merged([Rewinding(full(5)), Rewinding(full(5))], folder, seen=Seen(1000))
    with stream:
        assert ids([next(stream) for _ in range(5)]) == [0, 1, 2, 3, 4]
        assert stream.poll(0.3) is None
        stream.seek("earliest")
        again = []
        while (alert := stream.poll(0.5)) is not None:
            again.append(alert.alert_id)
    assert sorted(again) == [0, 1, 2, 3, 4]


def test_only_so_many_keys_are_remembered(folder):
    numbers = [1, 2, 3, 4, 1, 4]
    stream, _ = merged([[with_ids(numbers), [end()]]], folder, seen=Seen(3), stop=Stop(at_end=True))
    with stream:
        assert ids(stream) == [1, 2, 3, 4, 1]


# Whose they are -----------------------------------------------------------------------------------------------------------


def test_finishing_goes_to_the_right_stream(folder):
    stream, transports = merged([[messages(3)], [with_ids([10, 11, 12])]], folder, acknowledge="manual")
    with stream:
        alerts = {alert.alert_id: alert for alert in (next(stream) for _ in range(6))}
        stream.acknowledge([alerts[0], alerts[10], alerts[11]])
        stream.acknowledge([])
    assert [one.closed_with for one in transports] == [{(TOPIC, 0): 1}, {(TOPIC, 0): 2}]


def test_an_alert_of_another_stream_is_refused_and_nothing_is_finished(folder):
    other, _ = merged([[messages(1)]], folder)
    stream, transports = merged([[messages(1)], [messages(1)]], folder, acknowledge="manual")
    with other, stream:
        strange, own = next(other), next(stream)
        with pytest.raises(ConfigurationError, match="not handed out by this stream"):
            stream.acknowledge([own, strange])
        with pytest.raises(ConfigurationError, match="not handed out by this stream"):
            stream.release(strange)
    assert sum(one.closed_with[TOPIC, 0] for one in transports) == 0


def test_each_alert_says_where_it_came_from(folder):
    class Named(ScriptedTransport):
        def __init__(self, name):
            super().__init__(full(1))
            self.service = name

    stream, _ = merged([Named("one"), Named("two")], folder, stop=Stop(at_end=True))
    with stream:
        assert sorted(alert.origin.service for alert in stream) == ["one", "two"]


# Failures -----------------------------------------------------------------------------------------------------------------


def test_one_that_fails_fails_all_after_what_came_before(folder):
    stream, transports = merged([[messages(5), ServerError("broken")], [messages(5)]], folder)
    seen = []
    with pytest.raises(ServerError, match="broken") as caught, stream:
        read_into(seen, stream)
    assert caught.value.url == A
    assert seen.count(0) >= 1
    assert sorted({*seen}) == [0, 1, 2, 3, 4]
    assert all(one.closed_with is not None for one in transports)


@pytest.mark.parametrize("n", [1, 2, 500])
def test_what_came_before_a_failure_goes_out_first(folder, n):
    """Also when the others fill each batch."""
    stream, _ = merged([[messages(50)], [with_ids(range(100, 120)), ServerError("broken")]], folder)
    seen = []
    with stream:
        assert wait_until(lambda: stream._engine._engines[B]._failure is not None)
        assert wait_until(lambda: stream.stats().waiting == 70)

        def read():
            for batch in stream.batches(n, 0):
                seen.extend(ids(batch))

        with pytest.raises(ServerError, match="broken"):
            read()
    assert [one for one in seen if one >= 100] == list(range(100, 120))


def test_what_came_before_a_failure_goes_out_first_at_any_rate(folder):
    stream, _ = merged([[messages(6), ServerError("broken")]], folder, rate=Rate(20.0))
    seen = []
    with pytest.raises(ServerError, match="broken"), stream:
        read_into(seen, stream)
    assert seen == list(range(6))


def test_a_failure_stays(folder):
    stream, _ = merged([[ServerError("broken")], [[]]], folder)
    with stream:
        for _ in range(3):
            with pytest.raises(ServerError, match="broken"):
                stream.poll(2)


@pytest.mark.parametrize("error", [LoginError("no"), NotFoundError("no"), UnreachableError("no")], ids=repr)
@pytest.mark.parametrize("entered", [True, False], ids=["with", "for"])
def test_one_that_does_not_connect_fails_all(folder, entered, error):
    stream, _ = merged([[messages(5)], NeverThere(error, 0.1)], folder)
    with pytest.raises(type(error), match="no") as caught:
        stream.__enter__() if entered else list(stream)
    assert caught.value.url == B


@pytest.mark.parametrize("entered", [True, False], ids=["with", "for"])
def test_after_a_failure_nobody_goes_on_reading(folder, entered):
    """A stream that could not be entered is not left by `with` either: it must not hold its partitions for ever."""
    stream, transports = merged([[messages(5)], NeverThere(LoginError("no"), 0.1)], folder)
    with pytest.raises(LoginError):
        stream.__enter__() if entered else list(stream)
    assert wait_until(lambda: transports[0].closed_with is not None, timeout_s=3)
    with pytest.raises(LoginError):
        stream.poll(1)


def test_an_error_says_which_stream_it_was_unless_it_knows_better(folder):
    own = UnreachableError("gone", url="kafka://broker-7:9092")
    stream, _ = merged([[[]], [own]], folder)
    with stream, pytest.raises(UnreachableError) as caught:
        stream.poll(3)
    assert caught.value.url == "kafka://broker-7:9092"


def test_unreadable_messages_of_one_stop_all_and_acknowledge_nothing_of_them(folder, monkeypatch):
    monkeypatch.setattr(intake_module, "_POISONED_RUN", 5)
    poison = [message(offset, b"\x00nonsense") for offset in range(6)]
    stream, transports = merged([[poison], [messages(3)]], folder)
    with pytest.raises(QuarantineFullError), stream:
        list(stream)
    assert transports[0].closed_with == {(TOPIC, 0): 0}


def test_poison_is_raised_on_request(folder):
    stream, _ = merged([[[message(0, b"\x00nonsense")]], [[]]], folder, on_error="raise")
    with stream, pytest.raises(PacketError, match="night"):
        stream.poll(3)


def test_the_same_place_at_two_brokers_is_kept_twice(folder):
    """Both have a topic of that name; what one could not read must not take the place of the other's."""
    poisons = [
        [[message(offset, b"\x00%d-%d" % (broker, offset)) for offset in range(100)]] for broker in range(2)
    ]
    stream, _ = merged(poisons, folder)
    with stream:
        assert wait_until(lambda: stream.stats().quarantined == 200)
    kept = {path.read_bytes() for path in folder.rglob("*.packet")}
    assert kept == {b"\x00%d-%d" % (broker, offset) for broker in range(2) for offset in range(100)}


# Leaving ------------------------------------------------------------------------------------------------------------------


def test_leaving_cleanly_finishes_and_leaving_by_an_exception_does_not(folder):
    stream, transports = merged([full(3), full(3)], folder)
    with stream:
        for _ in range(6):
            next(stream)
    assert [one.closed_with for one in transports] == [{(TOPIC, 0): 3}] * 2
    stream, transports = merged([full(3), full(3)], folder)
    with pytest.raises(KeyError), stream:  # noqa: PT012
        for _ in range(6):
            next(stream)
        raise KeyError
    assert sum(one.closed_with[TOPIC, 0] for one in transports) == 5


def test_closing_alone_finishes_nothing(folder):
    stream, transports = merged([full(3), full(3)], folder)
    for _ in range(2):
        next(stream)
    stream.close()
    assert sum(one.closed_with[TOPIC, 0] for one in transports) == 1
    assert list(stream) == []
    with pytest.raises(ConfigurationError, match="closed"):
        stream.topics()


def test_nobody_holds_it_and_it_is_closed(folder):
    stream, transports = merged([[messages(3)], [messages(3)]], folder)
    next(stream)
    gone = weakref.ref(stream)
    del stream
    gc.collect()
    assert gone() is None
    assert wait_until(lambda: all(one.closed_with is not None for one in transports))


def test_slow_leavers_share_the_time(folder, monkeypatch):
    from nuncius.streams import _sync

    class Slow(ScriptedTransport):
        def close(self, positions):
            time.sleep(1.5)
            super().close(positions)

    monkeypatch.setattr(_sync, "_CLOSE_S", 1.0)
    stream, _ = merged([[messages(3)]] * 4, folder, transport=Slow)
    with stream:
        next(stream)
        begin = time.monotonic()
    assert time.monotonic() - begin < 2.2


# Moving and asking --------------------------------------------------------------------------------------------------------


def test_all_are_moved_to_a_time(folder):
    stream, transports = merged([full(3), full(3)], folder, transport=Movable)
    with stream:
        next(stream)
        stream.seek("2026-11-21T00:00:00Z")
    for one in transports:
        ((_, where),) = [call for call in one.calls if call[0] == "seek"]
        assert where == Start("time", 1795219200.0)


def test_offsets_are_refused_for_they_belong_to_one_broker(folder):
    stream, transports = merged([full(3), full(3)], folder, transport=Movable)
    with stream, pytest.raises(UnsupportedError, match="one broker"):
        stream.seek({(TOPIC, 0): 1})
    assert not any(call[0] == "seek" for one in transports for call in one.calls)


def test_lag_and_topics_say_whose_they_are(folder):
    stream, _ = merged([[messages(3)], [messages(3)]], folder, transport=Movable)
    with stream:
        assert stream.lag() == {("kafka://a:1/night", 0): 100, ("kafka://b:1/night", 0): 100}
        assert stream.topics() == [
            "kafka://a:1/night", "kafka://a:1/other", "kafka://b:1/night", "kafka://b:1/other",
        ]  # fmt: skip


def test_lag_of_streams_with_default_servers(folder):
    rules = Rules("on_next", "quarantine", 10, False, 5, Stop(), PacketReader())
    engines = {
        url: Engine(Movable([messages(3)]), rules, Quarantine(folder, 10**9))
        for url in ("antares://night", "babamul://night", "fink://h:1/night")
    }
    with Stream(Merged(engines, rules), "all") as stream:
        found = {name for name, _ in stream.lag()}
    assert found == {"antares://night", "babamul://night", "fink://h:1/night"}


def test_the_figures_are_of_all_together_and_of_each(folder):
    stream, transports = merged([full(3), full(5)], folder, stop=Stop(at_end=True))
    for name, one in zip(("g1", "g2"), transports, strict=True):
        one.group = name
    with stream:
        list(stream)
        stats = stream.stats()
    assert (stats.received, stats.handed_out, stats.acknowledged, stats.waiting) == (8, 8, 8, 0)
    parts = stream._engine.by_stream()
    assert {url: part.received for url, part in parts.items()} == {A: 3, B: 5}
    assert "8 alerts" in repr(stream)


# The other colour ---------------------------------------------------------------------------------------------------------


async def test_an_async_stream_of_two(folder):
    stream, transports = merged([full(20), full(20)], folder, face=AsyncStream, stop=Stop(at_end=True))
    async with stream:
        found = [alert.alert_id async for alert in stream]
    assert sorted(found) == sorted([*range(20)] * 2)
    assert [one.closed_with for one in transports] == [{(TOPIC, 0): 20}] * 2


async def test_an_async_stream_wakes_for_each(folder):
    slow = [[[]] * 30 + [messages(1)], [[]] * 60 + [messages(1)]]
    stream, _ = merged(slow, folder, face=AsyncStream)
    async with stream:
        begin = time.monotonic()
        assert await stream.poll(5) is not None
        assert await stream.poll(5) is not None
        assert time.monotonic() - begin < 3


async def test_an_async_failure(folder):
    stream, _ = merged([[messages(2), ServerError("broken")], [[]]], folder, face=AsyncStream)
    with pytest.raises(ServerError, match="broken"):  # noqa: PT012
        async with stream:
            async for _ in stream:
                pass


# What is given ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path / "config"))


@pytest.mark.usefixtures("_own_folders")
@pytest.mark.parametrize("urls", [[], ["kafka://a/t", "kafka://a/t"], ["kafka://a/t", "gopher://x"]], ids=str)
def test_a_list_that_makes_no_stream_is_refused(urls):
    with pytest.raises(ConfigurationError):
        open_async_stream(urls)


@pytest.mark.usefixtures("_own_folders")
def test_a_password_in_one_of_several_urls_is_never_echoed():
    for urls in (["kafka://a/t", "kafka://jane:hunter2@b/t"], ["kafka://jane:hunter2@b/t"] * 2):
        with pytest.raises(ConfigurationError) as caught:
            open_async_stream(urls)
        assert "hunter2" not in str(caught.value) + repr(vars(caught.value))


@pytest.mark.usefixtures("_own_folders")
def test_credentials_are_for_one_broker_each():
    urls = ["antares://extragalactic", "lsst://alerts-simulated"]
    with pytest.raises(ConfigurationError, match="mapping from scheme"):
        open_async_stream(urls, credentials=("jane", "pw"))
    with pytest.raises(ConfigurationError, match="mapping from scheme"):
        open_async_stream(urls, credentials={"username": "jane", "password": "pw"})
    with pytest.raises(LoginError, match="Rubin"):
        open_async_stream(urls, credentials={"antares": ("key", "secret")}, group="g")
    both = {"antares": ("key", "secret"), "lsst": ("name", "word")}
    assert open_async_stream(urls, credentials=both, group="g").url == " + ".join(urls)


@pytest.mark.usefixtures("_own_folders")
def test_credentials_for_nobody_are_told():
    """A misspelt name would be found out by a refused login at best."""
    with pytest.raises(ConfigurationError, match="antres"):
        open_async_stream(["kafka://a/t", "kafka://b/t"], credentials={"antres": ("key", "secret")})


@pytest.fixture
def anyio_backend():
    return "asyncio"
