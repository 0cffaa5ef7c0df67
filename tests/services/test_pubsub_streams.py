"""Streams of a Pub/Sub subscription, in both colours: what is finished, and what goes back to the server."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import queue
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from nuncius import brokers, open_stream
from nuncius.aio import open_stream as open_async_stream
from nuncius.errors import (
    ConfigurationError,
    FilterError,
    ForkError,
    NotFoundError,
    QuarantineFullError,
    UnsupportedError,
)
from streams_support import (
    ids,
    new_name,
    opener,
    packet,
    packets,
    produce,
    read_all,
    run_program,
    take,
    wait_until,
)

pytest.importorskip("google.pubsub_v1", reason="needs google-cloud-pubsub")

MINE = "projects/nuncius-sandbox/subscriptions/"


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch, tmp_path):
    """Let nothing of this machine decide who we are or where we read."""
    for name in ("PUBSUB_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture
def open_one():
    """Open a stream where its colour is all one, and the test takes long."""
    return opener("async")


@pytest.fixture
def server(nuncius_pubsub):
    return nuncius_pubsub


@pytest.fixture
def url(server):
    return server.url


def counted(server, subscription=None, *, timeout_s=10.0, **expected):
    """Wait until the server counts what is expected; return all that it counts."""

    def found():
        counts = server.counts(subscription)._asdict()
        return {name: counts[name] for name in expected}

    wait_until(lambda: found() == expected, timeout_s=timeout_s)
    assert found() == expected
    return server.counts(subscription)


def publish(server, numbers, topic="ztf-loop", **options):
    return server.publish(topic, [packet(number) for number in numbers], **options)


def asked(server, rpc):
    return [request for request in server.requests if request.rpc == rpc]


def all_of(url, **options):
    """Read what is left."""
    with open_stream(url, stop="end", **options) as stream:
        return sorted(ids(stream))


# Coming back for the next ---------------------------------------------------------------------------------------------


async def test_what_was_handed_out_is_acknowledged_on_leaving(open_any, server, url):
    publish(server, range(10))
    async with open_any(url) as stream:
        assert sorted(ids(await take(stream, 5))) == [0, 1, 2, 3, 4]
    counted(server, timeout_s=1, acknowledged=5, waiting=5, leased=0)


async def test_an_exception_gives_back_what_was_in_hand(open_any, server, url):
    publish(server, range(10))
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with open_any(url) as stream:
            await take(stream, 5)
            raise ZeroDivisionError
    counted(server, timeout_s=1, acknowledged=4, waiting=6, leased=0)


async def test_closing_alone_finishes_nothing_of_what_is_in_hand(open_any, server, url):
    publish(server, range(10))
    stream = open_any(url)
    await take(stream, 5)
    await stream.close()
    counted(server, timeout_s=1, acknowledged=4, waiting=6, leased=0)


async def test_an_exception_in_a_bare_loop(open_any, server, url):
    """Without a block, the stream is left when nobody has it any more."""
    publish(server, range(10))

    async def read():
        stream = open_any(url)
        async for alert in stream:
            if alert.alert_id == 4:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await read()
    gc.collect()
    await asyncio.to_thread(counted, server, acknowledged=4, waiting=6, leased=0)


async def test_messages_are_acknowledged_while_the_stream_goes_on(open_any, server, url):
    publish(server, range(10))
    async with open_any(url) as stream:
        await take(stream, 7)
        await asyncio.to_thread(counted, server, acknowledged=6, leased=4)
        await asyncio.sleep(0.3)
        counted(server, acknowledged=6, leased=4)


async def test_a_batch_is_finished_when_the_next_is_asked_for(open_any, server, url):
    publish(server, range(10))
    async with open_any(url) as stream:
        async for batch in stream.batches(4, timeout_s=5):
            assert len(batch) == 4
            break
        await asyncio.sleep(0.2)
        assert server.counts().acknowledged == 0
    counted(server, timeout_s=1, acknowledged=4, waiting=6, leased=0)


class Folder:
    """A sink whose disk may be full."""

    def __init__(self, most=10**9):
        self.kept = []
        self.most = most

    def write(self, batch):
        if len(self.kept) + len(batch) > self.most:
            raise OSError("no space left")
        self.kept += ids(batch)


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_saved_is_acknowledged(server, url, colour):
    publish(server, range(30))
    folder = Folder()
    if colour == "async":
        async with open_async_stream(url, stop=20) as stream:
            assert await stream.save(folder, n=7) == 20
    else:
        with open_stream(url, stop=20) as stream:
            assert stream.save(folder, n=7) == 20
    assert sorted(folder.kept) == list(range(20))
    counted(server, timeout_s=1, acknowledged=20, waiting=10, leased=0)


def test_what_a_sink_can_not_keep_is_not_acknowledged(server, url):
    publish(server, range(30))
    folder = Folder(most=20)
    with pytest.raises(OSError, match="no space"), open_stream(url) as stream:
        stream.save(folder, n=8, timeout_s=5)
    assert len(folder.kept) == 16
    counted(server, timeout_s=1, acknowledged=16, waiting=14, leased=0)
    assert all_of(url) == sorted(set(range(30)) - set(folder.kept))


# By hand --------------------------------------------------------------------------------------------------------------


async def test_by_hand_out_of_order(open_any, server, url):
    publish(server, range(10))
    async with open_any(url, acknowledge="manual") as stream:
        alerts = await take(stream, 10)
        stream.acknowledge([alert for alert in reversed(alerts) if alert.alert_id not in {3, 7}])
        stream.acknowledge(alerts[0])
        await asyncio.to_thread(counted, server, acknowledged=8, leased=2)
    counted(server, timeout_s=1, acknowledged=8, waiting=2, leased=0)
    assert all_of(url) == [3, 7]


async def test_a_message_with_several_alerts_is_acknowledged_when_all_are(open_any, server):
    import builders

    schema = builders.ztf_schema()
    records = [builders.datum(schema, builders.ztf_record(candid=number)) for number in (1, 2, 3)]
    server.publish("ztf-alerts", [])
    url = f"{server.pittgoogle_url}/ztf-alerts"
    async with open_any(url, acknowledge="manual", stop=3) as stream:
        server.publish("ztf-alerts", [builders.container(schema, records)])
        alerts = await read_all(stream)
        assert ids(alerts) == [1, 2, 3]
        stream.acknowledge(alerts[:2])
        await asyncio.sleep(0.2)
        assert server.counts("ztf-alerts").acknowledged == 0
        stream.acknowledge(alerts[2])
        await asyncio.to_thread(counted, server, "ztf-alerts", acknowledged=1, leased=0)


async def test_an_acknowledgement_after_the_close_is_in_vain(open_any, server, url):
    publish(server, range(2))
    async with open_any(url, acknowledge="manual") as stream:
        [alert] = await take(stream, 1)
    stream.acknowledge(alert)
    stream.release(alert)
    assert stream.stats().acknowledged == 0
    counted(server, timeout_s=1, acknowledged=0, waiting=2, leased=0)


async def test_a_released_alert_comes_again_from_here_and_not_from_the_server(open_any, server, url):
    """With a growing delay, as a handler does whose database is away."""
    publish(server, range(3))
    delays, moments = [0.05, 0.2, 0.6], []
    async with open_any(url, acknowledge="manual") as stream:
        while len(moments) < 4 or stream.stats().unacknowledged:
            alert = await stream.poll(5)
            if alert.alert_id != 1:
                stream.acknowledge(alert)
                continue
            moments.append(time.monotonic())
            if len(moments) > len(delays):
                stream.acknowledge(alert)
                break
            stream.release(alert, delays[len(moments) - 1])
    waits = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert all(wait >= delay for wait, delay in zip(waits, delays, strict=True))
    counts = counted(server, timeout_s=1, acknowledged=3, waiting=0, leased=0)
    assert (counts.delivered, counts.released) == (3, 0)


async def test_what_was_released_and_not_taken_again_goes_back(open_any, server, url):
    publish(server, range(5))
    async with open_any(url, acknowledge="manual") as stream:
        alerts = await take(stream, 5)
        stream.release(alerts[2], 3600)
        stream.acknowledge([alert for alert in alerts if alert is not alerts[2]])
        assert await stream.poll(0.2) is None
    counted(server, timeout_s=1, acknowledged=4, waiting=1, leased=0)
    assert all_of(url) == [alerts[2].alert_id]


async def test_no_more_than_allowed_is_handed_out(open_any, server, url):
    publish(server, range(40))
    seen = Counter()
    async with open_any(url, acknowledge="manual", max_unacknowledged=7) as stream:
        held = await take(stream, 7)
        assert await stream.poll(0.3) is None
        while held:
            seen[held[0].alert_id] += 1
            stream.acknowledge(held.pop(0))
            if sum(seen.values()) + len(held) < 40:
                held.append(await stream.poll(10))
    assert seen == Counter(range(40))
    counted(server, timeout_s=1, acknowledged=40, waiting=0, leased=0)


async def test_who_holds_all_that_the_server_may_send_and_wants_more_gets_it(open_any, server, url):
    publish(server, range(300))
    async with open_any(url, acknowledge="manual", config={"max_messages": 20}) as stream:
        held = await take(stream, 300)
        assert sorted(ids(held)) == list(range(300))
        counted(server, acknowledged=0, leased=300)
        stream.acknowledge(held)
    counts = counted(server, timeout_s=1, acknowledged=300, waiting=0, leased=0)
    assert counts.delivered == 300


async def test_who_holds_as_many_bytes_as_the_server_may_send_and_wants_more_gets_it(open_any, server, url):
    """Also if what is held leaves some room, and the next message is larger than that."""
    server.publish("ztf-loop", [packet(number, text="x" * 35_000) for number in range(12)])
    async with open_any(url, acknowledge="manual", config={"max_bytes": 100_000}) as stream:
        held = [await stream.poll(10) for _ in range(12)]
        assert sorted(ids(held)) == list(range(12))
        stream.acknowledge(held)
    counted(server, timeout_s=1, acknowledged=12, waiting=0, leased=0)


def test_threads_acknowledge_while_others_read(server, url):
    publish(server, range(3000))
    work = queue.Queue()
    with open_stream(url, acknowledge="manual", stop=3000) as stream:

        def handle():
            held = []
            while (alert := work.get()) is not None:
                held.append(alert)
                if len(held) >= 5:
                    stream.acknowledge(held.pop(2))
            stream.acknowledge(reversed(held))

        workers = [threading.Thread(target=handle) for _ in range(4)]
        for worker in workers:
            worker.start()
        seen = Counter()
        for alert in stream:
            seen[alert.alert_id] += 1
            work.put(alert)
        for _ in workers:
            work.put(None)
        for worker in workers:
            worker.join(30)
        assert stream.stats().unacknowledged == 0
    assert seen == Counter(range(3000))
    counted(server, timeout_s=2, acknowledged=3000, waiting=0, leased=0)


# Stopping -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("acknowledge", ["on_next", "manual"])
async def test_exactly_as_many_as_asked_for(open_any, server, url, acknowledge):
    publish(server, range(20))
    async with open_any(url, stop=10, acknowledge=acknowledge) as stream:
        alerts = await read_all(stream)
        if acknowledge == "manual":
            stream.acknowledge(alerts)
    assert len(set(ids(alerts))) == 10
    counted(server, timeout_s=1, acknowledged=10, waiting=10, leased=0)
    assert all_of(url) == sorted(set(range(20)) - set(ids(alerts)))


async def test_who_stops_after_ten_keeps_no_others_from_the_rest(open_one, server, url):
    """However long the handler takes."""
    publish(server, range(40))
    async with open_one(url, stop=10) as stream:
        for number in range(10):
            await anext(aiter(stream))
            await asyncio.sleep(0.8 if number < 2 else 0)
            assert server.counts().leased <= 10
    counted(server, timeout_s=1, acknowledged=10, waiting=30, leased=0)


async def test_exactly_as_many_as_asked_for_under_a_filter(open_any, server, url):
    publish(server, range(40))
    async with open_any(url, stop=10, where="alert_id >= 20") as stream:
        alerts = await read_all(stream)
    assert len(alerts) == 10
    counts = counted(server, timeout_s=1, leased=0)
    assert counts.acknowledged + counts.waiting == 40
    assert all_of(url, where="alert_id >= 20") == sorted(set(range(20, 40)) - set(ids(alerts)))


async def test_a_stop_while_messages_are_under_way(open_any, server, url):
    halt = threading.Event()

    def go_on():
        for first in itertools.count(0, 50):
            publish(server, range(first, first + 50))
            if halt.wait(0.005):
                return

    source = threading.Thread(target=go_on)
    source.start()
    try:
        async with open_any(url, stop=500) as stream:
            alerts = await read_all(stream)
        counted(server, timeout_s=1, leased=0, acknowledged=500)
    finally:
        halt.set()
        source.join()
    assert len(set(ids(alerts))) == 500


@pytest.mark.parametrize("how", ["break", "exception"])
@pytest.mark.parametrize("count", [10, 3000])
async def test_leaving_a_busy_subscription_leaves_nothing_leased(open_any, server, url, how, count):
    """Also what the server has sent and nobody has looked at yet goes back at once."""
    publish(server, range(10_000))
    seen = []
    try:
        async with open_any(url) as stream:
            async for alert in stream:
                seen.append(alert.alert_id)
                if len(seen) == count:
                    if how == "exception":
                        raise ZeroDivisionError  # noqa: TRY301
                    break
    except ZeroDivisionError:
        seen.pop()
    counted(server, timeout_s=1, leased=0, acknowledged=len(seen), waiting=10_000 - len(seen))


async def test_leaving_while_large_messages_come(open_one, server, url):
    server.publish("ztf-loop", [packet(number, text="x" * 60_000) for number in range(1500)])
    async with open_one(url) as stream:
        await take(stream, 400)
    counted(server, timeout_s=1, leased=0, acknowledged=400, waiting=1100)


async def test_a_stop_after_some_time(open_any, server, url):
    publish(server, range(5))
    async with open_any(url, stop="1s") as stream:
        begin = time.monotonic()
        assert sorted(ids(await read_all(stream))) == [0, 1, 2, 3, 4]
        assert 0.8 < time.monotonic() - begin < 8
    counted(server, timeout_s=1, acknowledged=5, leased=0)


async def test_a_stop_when_nothing_comes_any_more(open_any, server, url):
    publish(server, range(50))
    async with open_any(url, stop="end") as stream:
        assert sorted(ids(await read_all(stream))) == list(range(50))
    counted(server, timeout_s=1, acknowledged=50, leased=0)


async def test_an_empty_subscription_has_an_end(open_any, server, url):
    async with open_any(url, stop="end") as stream:
        assert await read_all(stream) == []


async def test_the_end_is_not_where_a_slow_handler_is(open_one, server, url):
    """The server sends no more than somebody may hold: that nothing comes is no end then."""
    publish(server, range(60))
    seen = []
    async with open_one(url, stop="end", config={"max_messages": 20}) as stream:
        async for alert in stream:
            if len(seen) in {0, 25}:
                await asyncio.sleep(1.7)
            seen.append(alert.alert_id)
    assert sorted(seen) == list(range(60))
    counted(server, timeout_s=1, acknowledged=60, leased=0)


async def test_a_stop_at_a_time(open_any, server, url):
    limit = datetime.now(UTC) - timedelta(hours=1)
    publish(server, range(5), publish_time=limit - timedelta(minutes=5))
    publish(server, range(5, 9), publish_time=limit + timedelta(minutes=5))
    async with open_any(url, stop=limit) as stream:
        assert sorted(ids(await read_all(stream))) == [0, 1, 2, 3, 4]
    counted(server, timeout_s=1, acknowledged=5, waiting=4, leased=0)


async def test_a_stop_at_a_time_to_come(open_any, server, url):
    publish(server, range(3))
    async with open_any(url, stop=datetime.now(UTC) + timedelta(seconds=1)) as stream:
        assert sorted(ids(await read_all(stream))) == [0, 1, 2]
    counted(server, timeout_s=1, acknowledged=3, leased=0)


# What comes -----------------------------------------------------------------------------------------------------------


async def test_where_an_alert_came_from(open_any, server, url):
    moment = datetime(2026, 11, 20, 3, 4, 5, tzinfo=UTC)
    [name] = publish(
        server, [7], attributes={"pg_variable": "likely", "kafka.topic": "Ω"}, publish_time=moment
    )
    async with open_any(url, stop=1) as stream:
        [alert] = await read_all(stream)
        assert alert.origin.service == "pubsub"
        assert alert.origin.topic == f"{MINE}ztf-loop"
        assert (alert.origin.partition, alert.origin.offset) == (0, int(name))
        assert alert.origin.timestamp == moment
        assert alert.origin.key is None
        assert dict(alert.origin.headers) == {"pg_variable": b"likely", "kafka.topic": "Ω".encode()}
        assert alert.origin.broker is None


async def test_what_pitt_google_adds(open_any, server):
    brokers.touch_subscription(f"{server.pittgoogle_url}/ztf-lite")
    publish(server, [1], "ztf-lite", attributes={"pg_variable": "likely", "other": "x"})
    async with open_any(f"{server.pittgoogle_url}/ztf-lite", stop=1) as stream:
        [alert] = await read_all(stream)
        assert alert.annotations["pittgoogle"] == {"variable": "likely"}
        assert alert.origin.broker == "pittgoogle"


async def test_answers_larger_than_grpc_allows(open_any, server, url, monkeypatch):
    """Batches of 5 MiB, of alerts of 53 kB."""
    server.max_response_bytes = 5 * 1024 * 1024
    server.publish("ztf-loop", [packet(number, text="x" * 53_000) for number in range(300)])
    async with open_any(url, stop=300) as stream:
        assert sorted(ids(await read_all(stream))) == list(range(300))
    counted(server, timeout_s=2, acknowledged=300, leased=0)


async def test_ten_thousand_small_messages(open_any, server, url):
    publish(server, range(10_000))
    async with open_any(url, stop=10_000) as stream:
        seen = Counter([alert.alert_id async for alert in stream])
    assert seen == Counter(range(10_000))
    counts = counted(server, timeout_s=3, acknowledged=10_000, waiting=0, leased=0)
    assert counts.delivered == 10_000
    # Acknowledged in batches, and not one by one.
    assert len(asked(server, "Acknowledge")) < 1000


async def test_a_message_of_attributes_alone_is_no_alert(open_any, server, url, own_data_dir):
    server.publish("ztf-loop", [b"", packet(1)], attributes={"bucket": "b"})
    async with open_any(url, stop="end") as stream:
        assert ids(await read_all(stream)) == [1]
        assert stream.stats().quarantined == 1
    [reason] = [json.loads(path.read_text()) for path in own_data_dir.rglob("*.reason.json")]
    assert reason["topic"] == f"{MINE}ztf-loop"
    counted(server, timeout_s=1, acknowledged=2, leased=0)


async def test_messages_sent_twice_are_handed_out_once(open_any, server, url):
    server.repeat(50)
    publish(server, range(100))
    async with open_any(url, acknowledge="manual", stop="end") as stream:
        alerts = await read_all(stream)
        assert Counter(ids(alerts)) == Counter(range(100))
        stream.acknowledge(alerts)
    counted(server, timeout_s=1, acknowledged=100, waiting=0, leased=0)


async def test_ordering_keys(open_any, server):
    server.create_subscription("ordered", "ordered", ordering=True)
    for number in range(30):
        publish(server, [number], "ordered", ordering_key=f"A{number % 3}")
    async with open_any(f"pubsub://{server.endpoint}/{server.project}/ordered", stop=30) as stream:
        alerts = [alert async for alert in stream]
    for key in range(3):
        own = [alert for alert in alerts if alert.origin.key == b"A%d" % key]
        assert ids(own) == list(range(key, 30, 3))


async def test_an_open_stream_costs_little_while_nothing_comes(open_any, server, url):
    async with open_any(url) as stream:
        assert await stream.poll(0.2) is None
        before, work = len(server.requests), time.process_time()
        assert await stream.poll(2) is None
        assert len(server.requests) - before <= 1
        assert time.process_time() - work < 1.0
        assert stream.stats().last_error is None


# What can't be read ---------------------------------------------------------------------------------------------------


async def test_poison_is_kept_once_and_acknowledged_when_something_readable_follows(
    open_any, server, url, own_data_dir
):
    server.publish("ztf-loop", [b"no packet %d" % number for number in range(5)])
    async with open_any(url) as stream:
        assert await stream.poll(0.7) is None
        assert stream.stats().quarantined == 5
        counted(server, acknowledged=0, leased=5)
        publish(server, [1])
        assert (await stream.poll(10)).alert_id == 1
        await asyncio.to_thread(counted, server, acknowledged=5, leased=1)
    assert len(list(own_data_dir.rglob("*.packet"))) == 5
    counts = counted(server, timeout_s=1, acknowledged=6, waiting=0, leased=0)
    assert counts.delivered == 6


async def test_a_thousand_unreadable_messages_in_a_row_stop_the_stream(open_one, server, url, own_data_dir):
    """None of them is acknowledged, and none is delivered again and again."""
    publish(server, range(10))
    server.publish("ztf-loop", [b"no packet %d" % number for number in range(1200)])
    seen = []
    with pytest.raises(QuarantineFullError, match="1000 messages"):  # noqa: PT012
        async with open_one(url) as stream:
            async for alert in stream:
                seen.append(alert.alert_id)
    assert sorted(seen) == list(range(10))
    counts = counted(server, timeout_s=2, leased=0, acknowledged=10, waiting=1200)
    assert counts.delivered <= 1210
    assert len(list(own_data_dir.rglob("*.packet"))) == 1000


async def test_poison_before_what_is_wanted_does_not_stop_a_stream_that_wants_few(open_any, server, url):
    """The server sends at most what is wanted; all of that can't be read."""
    server.publish("ztf-loop", [b"no packet %d" % number for number in range(60)])
    publish(server, range(5))
    async with open_any(url, stop=5) as stream:
        assert sorted(ids(await read_all(stream))) == [0, 1, 2, 3, 4]
    counts = counted(server, timeout_s=1, acknowledged=65, leased=0)
    assert counts.delivered == 65


async def test_an_unreadable_message_may_be_an_error(open_any, server, url):
    from nuncius.errors import PacketError

    publish(server, range(3))
    server.publish("ztf-loop", [b"no packet"])
    seen = []
    with pytest.raises(PacketError, match="ztf-loop"):  # noqa: PT012
        async with open_any(url, on_error="raise") as stream:
            async for alert in stream:
                seen.append(alert.alert_id)
    assert sorted(seen) == [0, 1, 2]
    counted(server, timeout_s=1, acknowledged=3, waiting=1, leased=0)


# Several readers ------------------------------------------------------------------------------------------------------


def test_two_readers_share_and_the_leaving_one_loses_nothing(server, url):
    seen = Counter()
    with open_stream(url, config={"max_messages": 100}) as other:
        with open_stream(url, config={"max_messages": 100}) as one:
            assert wait_until(lambda: server.open_streams == 2)
            publish(server, range(400))
            for _ in range(5):
                seen.update(ids(filter(None, [other.poll(1)])))
            mine = ids(filter(None, [one.poll(1) for _ in range(5)]))
            one.close()  # has one in hand that is not finished, and others that nobody has seen
        seen.update(mine[:-1])
        while (alert := other.poll(1.5)) is not None:
            seen[alert.alert_id] += 1
    assert seen == Counter(range(400))
    counted(server, timeout_s=1, acknowledged=400, waiting=0, leased=0)


def test_a_slow_reader_does_not_hoard(server, url):
    """What one can't handle soon is for the others."""
    publish(server, range(3000))
    with open_stream(url, config={"max_messages": 100}) as slow:
        next(slow)
        time.sleep(2)
        assert server.counts().leased <= 100
        with open_stream(url, stop="end") as quick:
            assert len(list(quick)) >= 2900


def test_eight_threads_each_with_a_stream(server):
    """All of them make the subscription, which one of them does."""
    errors, seen, lock = [], Counter(), threading.Lock()
    ready = threading.Barrier(9)

    def read():
        try:
            with open_stream(f"{server.pittgoogle_url}/ztf-lite", group="together", stop="4s") as stream:
                ready.wait(20)
                for alert in stream:
                    with lock:
                        seen[alert.alert_id] += 1
        except Exception as error:
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        ready.wait(20)
    except threading.BrokenBarrierError:
        pass
    else:
        publish(server, range(800), "ztf-lite")
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert seen == Counter(range(800))
    counted(server, "together", timeout_s=2, acknowledged=800, waiting=0, leased=0)


async def test_with_a_kafka_stream_as_one(open_one, server, url, nuncius_kafka):
    broker, topic, group = nuncius_kafka.url.removeprefix("kafka://"), new_name(), new_name("group")
    produce(broker, topic, packets(40))
    publish(server, range(100, 140))
    async with open_one([url, f"kafka://{broker}/{topic}"], group=group, stop="end") as stream:
        alerts = await read_all(stream)
    assert Counter(ids(alerts)) == Counter([*range(40), *range(100, 140)])
    assert {alert.origin.service for alert in alerts} == {"kafka", "pubsub"}
    counted(server, timeout_s=1, acknowledged=40, leased=0)


async def test_with_a_kafka_stream_as_one_and_by_hand(open_one, server, url, nuncius_kafka):
    broker, topic = nuncius_kafka.url.removeprefix("kafka://"), new_name()
    produce(broker, topic, packets(40))
    publish(server, range(100, 140))
    options = {"stop": 80, "acknowledge": "manual", "config": {"fetch.wait.max.ms": 50, "lease_s": 30}}
    async with open_one([url, f"kafka://{broker}/{topic}"], **options) as stream:
        alerts = await read_all(stream)
        stream.acknowledge(alert for alert in alerts if alert.alert_id != 107)
        await asyncio.to_thread(counted, server, acknowledged=39, leased=1)
    counted(server, timeout_s=1, acknowledged=39, waiting=1, leased=0)


# Attributes -----------------------------------------------------------------------------------------------------------

LIKELY = 'attributes.pg_variable = "likely"'


def two_kinds(count):
    return [{"pg_variable": "likely" if number % 2 else "unlikely"} for number in range(count)]


async def test_a_filter_on_attributes_drops_before_anything_is_decoded(open_any, server, url):
    values = [packet(number) if number % 2 else b"no packet" for number in range(20)]
    server.publish("ztf-loop", values, attributes=two_kinds(20))
    async with open_any(url, attribute_filter=LIKELY, stop="end") as stream:
        assert sorted(ids(await read_all(stream))) == list(range(1, 20, 2))
        stats = stream.stats()
        assert (stats.filtered, stats.quarantined) == (10, 0)
    counted(server, timeout_s=1, acknowledged=20, leased=0)


async def test_a_filter_goes_into_the_subscription_that_is_made(open_any, server):
    url = f"{server.pittgoogle_url}/ztf-lite"
    async with open_any(url, group="likely", attribute_filter=LIKELY, stop=5) as stream:
        publish(server, range(10), "ztf-lite", attributes=two_kinds(10))
        assert sorted(ids(await read_all(stream))) == [1, 3, 5, 7, 9]
    assert counted(server, "likely", acknowledged=5, filtered=5).delivered == 5
    assert brokers.touch_subscription(url, group="likely").attribute_filter == LIKELY


async def test_a_subscription_with_another_filter_is_told(open_any, server):
    url = f"{server.pittgoogle_url}/ztf-lite"
    brokers.touch_subscription(url, attribute_filter="attributes:other")
    with pytest.raises(ConfigurationError, match=r"attributes:other.*can't be changed"):
        await open_any(url, attribute_filter=LIKELY).__aenter__()


def test_a_filter_that_is_none_is_told_before_anything_is_sent(server, url):
    with pytest.raises(FilterError):
        open_stream(url, attribute_filter="pg_variable = likely")
    with pytest.raises(FilterError):
        brokers.touch_subscription(url, attribute_filter="pg_variable = likely")
    assert server.requests == []


async def test_a_filter_on_the_headers_of_kafka(open_one, nuncius_kafka):
    broker, topic, group = nuncius_kafka.url.removeprefix("kafka://"), new_name(), new_name("group")
    produce(broker, topic, packets(10), headers=[("pg_variable", b"likely")])
    produce(broker, topic, [b"no packet"] * 10, headers=[("pg_variable", b"unlikely"), ("x", None)])
    produce(broker, topic, [b"no packet"] * 10)
    async with open_one(
        f"kafka://{broker}/{topic}", group=group, attribute_filter=LIKELY, stop="end"
    ) as stream:
        assert sorted(ids(await read_all(stream))) == list(range(10))
        assert stream.stats().filtered == 20


# Moving ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(server):
    """Give the URL of a subscription that keeps what is acknowledged."""
    server.create_subscription("kept", "kept", retain_acked=True)
    return f"pubsub://{server.endpoint}/{server.project}/kept"


@pytest.mark.parametrize("where", ["earliest", "latest", "time", "committed"])
async def test_moving_in_the_middle(open_any, server, kept, where):
    limit = datetime.now(UTC) - timedelta(hours=1)
    publish(server, range(10), "kept", publish_time=limit - timedelta(minutes=9))
    publish(server, range(10, 20), "kept", publish_time=limit + timedelta(minutes=9))
    async with open_any(kept) as stream:
        await take(stream, 6)
        before = await take(stream, 1)  # in hand
        await stream.seek(limit if where == "time" else where)
        assert server.counts("kept").leased <= 20
        publish(server, [20], "kept")
        wanted = {
            "earliest": list(range(21)),
            "latest": [20],
            "time": list(range(10, 21)),
            "committed": [before[0].alert_id, *range(7, 21)],
        }[where]
        assert sorted(ids(await take(stream, len(wanted)))) == wanted
        assert await stream.poll(0.2) is None
    counted(server, "kept", timeout_s=1, waiting=0, leased=0)


async def test_an_old_copy_does_not_acknowledge_the_new_one(open_any, server, kept):
    """Who moves a stream back wants to work on all again; what a late worker finishes of the time before is not that."""
    publish(server, range(5), "kept")
    async with open_any(kept, acknowledge="manual") as stream:
        old = await take(stream, 5)
        await stream.seek("earliest")
        new = await take(stream, 5)
        stream.acknowledge(old)
        await asyncio.sleep(0.3)
        counted(server, "kept", acknowledged=0, leased=5)
        stream.acknowledge(new)
    counted(server, "kept", timeout_s=1, acknowledged=5, waiting=0, leased=0)


async def test_offsets_there_are_none(open_any, server, url):
    publish(server, range(3))
    async with open_any(url, stop=3) as stream:
        with pytest.raises(UnsupportedError, match="a time"):
            await stream.seek({(f"{MINE}ztf-loop", 0): 1})
        with pytest.raises(UnsupportedError):
            await stream.lag()
        assert sorted(ids(await read_all(stream))) == [0, 1, 2]


async def test_rewinding(open_one, server, kept):
    publish(server, range(10), "kept")
    assert all_of(kept) == list(range(10))
    assert all_of(kept) == []
    assert brokers.rewind(kept, "earliest") == {(f"{MINE}kept", 0): None}
    async with open_one(kept, stop="end") as stream:
        assert sorted(ids(await read_all(stream))) == list(range(10))
    brokers.rewind(kept, "-1h")
    brokers.rewind(kept, "latest")
    assert all_of(kept) == []
    with pytest.raises(ConfigurationError, match="changes nothing"):
        brokers.rewind(kept, "committed")


async def test_beginning_anew(open_one, server, kept):
    publish(server, range(4), "kept", publish_time=datetime.now(UTC) - timedelta(hours=3))
    publish(server, range(4, 8), "kept")
    assert all_of(kept) == list(range(8))
    async with open_one(kept, start="-1h", reset=True, stop="end") as stream:
        assert sorted(ids(await read_all(stream))) == [4, 5, 6, 7]
    assert all_of(kept, start="earliest", reset=True) == list(range(8))
    assert all_of(kept, start="earliest") == []
    publish(server, [8], "kept")
    assert all_of(kept, start="latest", reset=True) == []


@pytest.mark.parametrize("start", ["committed", "earliest", "-1h", "latest"])
async def test_where_a_new_subscription_begins(open_any, server, start):
    """A topic that keeps messages gives them to a subscription that is made later, if one asks for them."""
    server.create_topic("keeping", retention_s=86_400)
    now = datetime.now(UTC)
    publish(server, range(3), "keeping", publish_time=now - timedelta(hours=3))
    publish(server, range(3, 6), "keeping", publish_time=now - timedelta(minutes=9))
    url = f"{server.pittgoogle_url}/{server.project}/keeping"
    wanted = {"earliest": list(range(7)), "-1h": [3, 4, 5, 6]}.get(start, [6])
    async with open_any(url, start=start) as stream:
        publish(server, [6], "keeping")
        assert sorted(ids(await take(stream, len(wanted)))) == wanted
        assert await stream.poll(0.2) is None


# Making and deleting subscriptions ------------------------------------------------------------------------------------


async def test_pitt_googles_topic_gets_a_subscription_of_the_users(open_any, server, caplog):
    async with open_any(f"{server.pittgoogle_url}/lsst-alerts-json") as stream:
        assert stream.group == "lsst-alerts-json"
        publish(server, range(3), "lsst-alerts-json")
        assert sorted(ids(await take(stream, 3))) == [0, 1, 2]
    assert "made the subscription" in caplog.text
    found = brokers.touch_subscription(f"{server.pittgoogle_url}/lsst-alerts-json")
    assert found.path == f"{MINE}lsst-alerts-json"
    assert found.topic == "projects/pitt-alert-broker/topics/lsst-alerts-json"
    assert not found.created
    counted(server, "lsst-alerts-json", timeout_s=1, acknowledged=3, leased=0)


async def test_another_project_and_another_name(open_any, server, monkeypatch):
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-observatory")
    server.create_topic("ztf-loop-test", "avid-heading-329016")
    url = f"{server.pittgoogle_url}/avid-heading-329016/ztf-loop-test"
    async with open_any(url, group="mine", stop=1) as stream:
        publish(server, [1], "projects/avid-heading-329016/topics/ztf-loop-test")
        assert ids(await read_all(stream)) == [1]
        assert stream.group == "mine"
    counted(server, "projects/my-observatory/subscriptions/mine", acknowledged=1)


@pytest.mark.parametrize("how", ["cleanly", "exception", "interrupted"])
async def test_a_subscription_for_one_stream_is_gone_afterwards(open_any, server, how):
    error = {"exception": ZeroDivisionError, "interrupted": KeyboardInterrupt}.get(how)
    try:
        async with open_any(f"{server.pittgoogle_url}/ztf-lite", group=False) as stream:
            assert stream.group is None
            publish(server, range(3), "ztf-lite")
            [alert] = await take(stream, 1)
            name = alert.origin.topic
            assert server.counts(name).delivered
            if error:
                raise error
    except (ZeroDivisionError, KeyboardInterrupt):
        assert error
    with pytest.raises(NotFoundError):
        server.counts(name)


def test_a_subscription_for_one_stream_is_gone_when_nobody_has_the_stream(server):
    stream = open_stream(f"{server.pittgoogle_url}/ztf-lite", group=False)
    assert stream.poll(0.2) is None
    [made] = {request.name for request in asked(server, "GetSubscription")}
    assert server.counts(made).waiting == 0
    del stream
    gc.collect()
    assert wait_until(lambda: [request.name for request in asked(server, "DeleteSubscription")] == [made])


def test_touching_looking_and_deleting(server):
    url = f"pubsub://{server.endpoint}/{server.project}/tonight"
    with pytest.raises(NotFoundError, match="nuncius subscription touch"):
        brokers.touch_subscription(url)
    made = brokers.touch_subscription(url, topic="projects/ardent-cycling-243415/topics/ztf-loop")
    assert (made.created, made.path) == (True, f"{MINE}tonight")
    again = brokers.touch_subscription(url, topic=made.topic)
    assert (again.created, again.topic) == (False, made.topic)
    with pytest.raises(ConfigurationError, match="something-else"):
        brokers.touch_subscription(url, topic="something-else")
    assert brokers.delete_subscription(url) is True
    assert brokers.delete_subscription(url) is False


@pytest.mark.parametrize(
    ("rest", "hint"),
    [
        ("pubsub://{endpoint}/nuncius-sandbox/ztf-lop", "ztf-lop.*nuncius subscription touch"),
        ("pubsub://{endpoint}/another-project/ztf-loop", "another-project"),
        ("pittgoogle://{endpoint}/ztf-lop", "no topic 'ztf-lop'.*Close to it: ztf-loop"),
        ("pittgoogle://{endpoint}/lsst-alert", "pitt-alert-broker.*Close to it: lsst-alerts"),
        ("pittgoogle://{endpoint}/nowhere-at-all/ztf-lite", "nowhere-at-all"),
    ],
)
async def test_wrong_names_are_told_with_a_cure(open_any, server, rest, hint):
    begin = time.monotonic()
    with pytest.raises(NotFoundError, match=hint) as caught:
        await open_any(rest.format(endpoint=server.endpoint)).__aenter__()
    assert time.monotonic() - begin < 8
    assert caught.value.service == "pubsub"


async def test_a_subscription_of_another_topic_is_told(open_any, server):
    server.create_subscription("ztf-lite", "ztf-alerts")
    with pytest.raises(ConfigurationError, match=r"ztf-alerts.*group="):
        await open_any(f"{server.pittgoogle_url}/ztf-lite").__aenter__()


async def test_a_subscription_whose_topic_is_gone_is_told(open_any, server):
    server.create_topic("short-lived")
    url = f"{server.pittgoogle_url}/{server.project}/short-lived"
    brokers.touch_subscription(url)
    server._state.delete_topic(f"projects/{server.project}/topics/short-lived")
    with pytest.raises(ConfigurationError, match="deleted"):
        await open_any(url).__aenter__()


# The life of a stream -------------------------------------------------------------------------------------------------


def test_the_emulators_variable(server, monkeypatch):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    publish(server, range(3))
    assert all_of(f"pubsub://{server.project}/{server.subscription}") == [0, 1, 2]
    with open_stream("pittgoogle://ztf-lite", stop=1) as stream:
        publish(server, [5], "ztf-lite")
        assert ids(stream) == [5]


async def test_a_cancelled_task_gives_back(server, url):
    publish(server, range(10))
    handed_out = asyncio.Event()

    async def read():
        async with open_async_stream(url) as stream:
            async for _ in stream:
                handed_out.set()
                await asyncio.sleep(3600)

    task = asyncio.create_task(read())
    await handed_out.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    counted(server, timeout_s=1, acknowledged=0, waiting=10, leased=0)


async def test_a_cancelled_wait_leaves_the_stream_as_it_is(server, url):
    async with open_async_stream(url) as stream:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await anext(stream)
        publish(server, range(3))
        assert sorted(ids(await take(stream, 3))) == [0, 1, 2]
    counted(server, timeout_s=1, acknowledged=3, leased=0)


def test_a_stream_that_nobody_has_is_left(server, url):
    publish(server, range(5))
    stream = open_stream(url)
    next(stream)
    del stream
    gc.collect()
    counted(server, acknowledged=0, waiting=5, leased=0)
    assert wait_until(lambda: server.open_streams == 0)


def test_opened_and_never_read(server, url):
    stream = open_stream(url)
    stream.close()
    with open_stream(url):
        pass
    assert not [request for request in server.requests if request.rpc == "Acknowledge"]
    assert wait_until(lambda: server.open_streams == 0)


FORKED = """
import os, sys
import nuncius
from nuncius.errors import ForkError

with nuncius.open_stream(sys.argv[1]) as stream:
    next(stream)
    child = os.fork()
    if not child:
        for use in (stream.poll, lambda: stream.acknowledge([]), stream.lag):
            try:
                use()
            except ForkError as error:
                assert "spawn" in str(error)
            else:
                os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
    next(stream)
"""


def test_a_fork(server, url):
    assert issubclass(ForkError, RuntimeError)
    publish(server, range(5))
    done = run_program(FORKED, url)
    assert (done.returncode, done.stderr) == (0, "")
    counted(server, timeout_s=2, acknowledged=2, waiting=3, leased=0)


QUIET = """
import sys
import nuncius
stream = nuncius.open_stream(sys.argv[1])
print(next(stream).alert_id)
"""


def test_a_program_that_just_ends_says_nothing_and_leaves_nothing_leased(server, url):
    """Neither gRPC nor we write to the terminal of somebody who forgot to close."""
    publish(server, range(5))
    done = run_program(QUIET, url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
