"""A Pub/Sub server that goes away, answers with errors, falls silent or sends twice; nothing is lost and nothing is hot."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections import Counter

import pytest

from nuncius import brokers, open_stream
from nuncius.errors import (
    ConfigurationError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    NunciusError,
    UnreachableError,
)
from nuncius.sandbox import SandboxPubSub
from nuncius.streams import book as book_module
from nuncius.streams import engine as engine_module
from nuncius.streams.pubsub import leases as leases_module
from nuncius.streams.pubsub import plan as plan_module
from nuncius.streams.pubsub import transport as transport_module
from streams_support import end_program, ids, line_of, opener, packet, read_all, run_program, take, wait_until

pytest.importorskip("google.pubsub_v1", reason="needs google-cloud-pubsub")

PASSING = ["UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED"]


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
def server():
    """Give a server of the test's own, whose clock nobody else has moved."""
    with SandboxPubSub() as running:
        yield running


@pytest.fixture
def url(server):
    return server.url


def publish(server, numbers, topic="ztf-loop"):
    return server.publish(topic, [packet(number) for number in numbers])


def asked(server, rpc):
    return sum(request.rpc == rpc for request in server.requests)


def counted(server, *, timeout_s=10.0, **expected):
    """Wait until the server counts what is expected; return all that it counts."""

    def found():
        counts = server.counts()._asdict()
        return {name: counts[name] for name in expected}

    wait_until(lambda: found() == expected, timeout_s=timeout_s)
    assert found() == expected
    return server.counts()


async def until(condition, timeout_s=10.0):
    assert await asyncio.to_thread(wait_until, condition, timeout_s=timeout_s)


async def refused(stream, kind, match, *, within_s=8.0):
    """Open a stream that must be refused in time, by entering it or by its first alert; return the error."""
    begin = time.monotonic()
    with pytest.raises(kind, match=match) as caught:  # noqa: PT012
        async with stream:
            await stream.poll(within_s)
            pytest.fail("nothing was told")
    assert time.monotonic() - begin < within_s
    assert type(caught.value) is kind
    assert caught.value.service == "pubsub"
    return caught.value


class Between:
    """A way to the server that can fall silent: what is connected stays so, and nothing comes through."""

    def __init__(self, server):
        self._there = ("127.0.0.1", server.port)
        self._flows = threading.Event()
        self._flows.set()
        self._sockets = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(self._there)
                self._sockets += [here, there]
                for source, target in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._flows.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def freeze(self):
        self._flows.clear()

    def thaw(self):
        self._flows.set()

    def close(self):
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._flows.set()


@pytest.fixture
def between(server):
    with contextlib.closing(Between(server)) as way:
        yield way


@pytest.fixture
def short_leases(monkeypatch):
    """Let leases be so short that a test can wait for them."""
    from nuncius.sandbox.pubsub import server as server_module

    monkeypatch.setitem(plan_module.CONFIG, "lease_s", (1, 600))
    monkeypatch.setattr(server_module, "_SHORTEST_STREAM_S", 1)


# At the start ---------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_not_there_is_told_in_time(open_one):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    stream = open_one(f"pubsub://127.0.0.1:{port}/p-one/ztf-loop", connect_timeout_s=1)
    await refused(stream, UnreachableError, f"127.0.0.1:{port}", within_s=5)


async def test_a_server_that_never_answers_is_told_in_time(open_one, server, between):
    between.freeze()
    stream = open_one(f"pubsub://{between.endpoint}/{server.project}/ztf-loop", connect_timeout_s=1)
    await refused(stream, UnreachableError, between.endpoint, within_s=5)


async def test_a_server_that_is_busy_at_first_is_asked_again(open_any, server, url):
    server.fail("GetSubscription", "UNAVAILABLE", times=2)
    publish(server, range(3))
    async with open_any(url, stop=3) as stream:
        assert sorted(ids(await read_all(stream))) == [0, 1, 2]


async def test_a_server_that_stays_busy_is_not_asked_all_the_time(open_one, server, url):
    server.fail("GetSubscription", "UNAVAILABLE", times=None, text="too much to do")
    await refused(open_one(url, connect_timeout_s=1.5), UnreachableError, "too much to do", within_s=6)
    assert 2 <= asked(server, "GetSubscription") <= 8


async def test_who_may_read_need_not_be_allowed_to_look(open_any, server, url):
    server.fail("GetSubscription", "PERMISSION_DENIED", times=None)
    publish(server, range(3))
    async with open_any(url, stop=3) as stream:
        assert sorted(ids(await read_all(stream))) == [0, 1, 2]


async def test_who_may_not_look_begins_anew_all_the_same(open_any, server, url):
    publish(server, range(3))
    server.fail("GetSubscription", "PERMISSION_DENIED", times=None)
    async with open_any(url, start="latest", reset=True) as stream:
        publish(server, [3])
        assert ids(await take(stream, 1)) == [3]


async def test_who_may_not_make_a_subscription_is_told(open_any, server):
    server.fail("CreateSubscription", "PERMISSION_DENIED", text="User not authorized to perform this action.")
    stream = open_any(f"{server.pittgoogle_url}/ztf-lite")
    await refused(stream, ForbiddenError, r"create .*ztf-lite.*roles/pubsub\.editor")


@pytest.mark.parametrize(
    ("code", "kind", "cure"),
    [
        ("PERMISSION_DENIED", ForbiddenError, r"roles/pubsub\.subscriber"),
        ("NOT_FOUND", NotFoundError, "nuncius subscription touch"),
        ("UNAUTHENTICATED", LoginError, "nuncius login pittgoogle"),
        ("INVALID_ARGUMENT", ConfigurationError, "on demand"),
    ],
)
@pytest.mark.parametrize("rpc", ["StreamingPull", "GetSubscription"])
async def test_what_does_not_pass_is_told_with_its_cure(open_one, server, url, rpc, code, kind, cure):
    if (rpc, code) == ("GetSubscription", "PERMISSION_DENIED"):
        server.fail("StreamingPull", code, times=None)
    server.fail(rpc, code, times=None)
    await refused(open_one(url), kind, cure)
    assert asked(server, "StreamingPull") <= 3


async def test_a_subscription_is_made_though_the_answer_was_lost(open_any, server):
    server.fail("CreateSubscription", "UNAVAILABLE", done=True)
    async with open_any(f"{server.pittgoogle_url}/ztf-lite", stop=1) as stream:
        publish(server, [1], "ztf-lite")
        assert ids(await read_all(stream)) == [1]


@pytest.mark.parametrize("rpc", ["CreateSubscription", "Seek"])
async def test_a_new_subscription_begins_where_it_should_though_an_answer_was_lost(open_any, server, rpc):
    server.create_topic("keeping", retention_s=86_400)
    publish(server, range(3), "keeping")
    server.fail(rpc, "UNAVAILABLE", done=True)
    url = f"{server.pittgoogle_url}/{server.project}/keeping"
    async with open_any(url, start="earliest", stop="end") as stream:
        assert sorted(ids(await read_all(stream))) == [0, 1, 2]


# Errors that pass -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", PASSING)
async def test_a_stream_goes_on_after_errors_that_pass(open_one, server, url, code):
    async with open_one(url) as stream:
        publish(server, range(10))
        await take(stream, 10)
        server.fail("StreamingPull", code, times=2, text="come back later")
        server.drop_streams()
        await until(lambda: stream.stats().last_error is not None)
        publish(server, range(10, 20))
        assert sorted(ids(await take(stream, 10))) == list(range(10, 20))
        assert stream.stats().last_error is None
    counted(server, acknowledged=20, waiting=0, leased=0)


@pytest.mark.parametrize(
    ("code", "done"),
    [*((code, False) for code in PASSING), ("UNAVAILABLE", True), ("DEADLINE_EXCEEDED", True)],
)
async def test_acknowledgements_that_fail_are_sent_again(open_one, server, url, code, done):
    server.fail("Acknowledge", code, times=3, text="come back later", done=done)
    publish(server, range(10))
    async with open_one(url) as stream:
        await take(stream, 10)
        await until(lambda: asked(server, "Acknowledge") >= 1)
        await asyncio.to_thread(counted, server, acknowledged=9, leased=1)
        # The trouble is over, also if nothing more comes.
        await until(lambda: stream.stats().last_error is None)
    counts = counted(server, timeout_s=1, acknowledged=10, waiting=0, leased=0)
    assert counts.delivered == 10


async def test_an_acknowledgement_that_fails_does_not_hide_the_end(open_one, server, url):
    """Nothing comes after it, so no message tells that the server is there."""
    server.fail("Acknowledge", "UNAVAILABLE", times=1)
    publish(server, range(10))
    async with open_one(url, stop="end") as stream, asyncio.timeout(15):
        found = []
        while len(found) < 10:
            found.append((await stream.poll(5)).alert_id)
        assert await stream.poll(12) is None
    assert stream.stats().last_error is None
    counted(server, timeout_s=1, acknowledged=10, waiting=0, leased=0)


@pytest.mark.parametrize("rpc", ["StreamingPull", "Acknowledge", "ModifyAckDeadline"])
async def test_a_server_that_stays_away_is_not_asked_all_the_time(open_one, server, url, rpc, short_leases):
    publish(server, range(10))
    async with open_one(url, config={"lease_s": 3}) as stream:
        await take(stream, 5)
        server.fail(rpc, "UNAVAILABLE", times=None, text="gone fishing")
        before = asked(server, rpc)
        server.drop_streams()
        await until(lambda: "gone fishing" in (stream.stats().last_error or ""))
        await stream.poll(0)
        await asyncio.sleep(2.5)
        assert 1 <= asked(server, rpc) - before <= 10


async def test_a_server_that_hangs_up_again_and_again_is_not_called_all_the_time(open_one, server, url):
    """It takes the call and breaks it, before anything came."""
    async with open_one(url) as stream:
        await until(lambda: server.open_streams)
        before = asked(server, "StreamingPull")
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            server.drop_streams()
            await asyncio.sleep(0.02)
        assert asked(server, "StreamingPull") - before <= 10
        assert stream.stats().last_error is not None
        publish(server, range(3))
        assert sorted(ids(await take(stream, 3))) == [0, 1, 2]


async def test_connections_that_break_again_and_again_lose_nothing(open_one, server, url):
    publish(server, range(2000))
    halt, seen = threading.Event(), Counter()

    def cut():
        while not halt.wait(0.1):
            server.drop_streams()

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        async with open_one(url, stop=2000) as stream:
            async for alert in stream:
                seen[alert.alert_id] += 1
                if not len(seen) % 100:
                    await asyncio.sleep(0.05)
    finally:
        halt.set()
        cutting.join()
    assert seen == Counter(range(2000))
    counted(server, timeout_s=3, acknowledged=2000, waiting=0, leased=0)


@pytest.mark.parametrize("down_s", [0.0, 1.5])
async def test_a_server_that_starts_again_in_the_middle(open_one, server, url, down_s):
    publish(server, range(300))
    seen = Counter()
    async with open_one(url) as stream:
        seen.update(ids(await take(stream, 100)))
        await asyncio.to_thread(server.restart, down_s=down_s)
        publish(server, range(300, 400))
        begin = time.monotonic()
        while len(seen) < 400 and time.monotonic() - begin < 30:
            alert = await stream.poll(0.5)
            if alert is not None:
                seen[alert.alert_id] += 1
        await until(lambda: stream.stats().last_error is None)
    assert seen == Counter(range(400))
    counted(server, timeout_s=3, acknowledged=400, waiting=0, leased=0)


# Errors that stay -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [("PERMISSION_DENIED", ForbiddenError), ("NOT_FOUND", NotFoundError), ("DATA_LOSS", NunciusError)],
)
async def test_what_came_before_an_error_is_handed_out_first(open_any, server, url, code, kind):
    publish(server, range(40))
    server.fail("StreamingPull", code, after=20, text="and no further")
    seen = []
    with pytest.raises(kind, match="and no further"):  # noqa: PT012
        async with open_any(url) as stream:
            async for alert in stream:
                seen.append(alert.alert_id)
    assert sorted(seen) == list(range(20))
    # The last one was finished when its loop asked for the next.
    counted(server, timeout_s=2, acknowledged=20, waiting=20, leased=0)


async def test_a_subscription_that_is_deleted_meanwhile_is_told(open_any, server):
    url = f"{server.pittgoogle_url}/ztf-lite"
    brokers.touch_subscription(url)
    publish(server, range(5), "ztf-lite")
    seen = []
    begin = time.monotonic()
    with pytest.raises(NotFoundError, match="ztf-lite"):  # noqa: PT012
        async with open_any(url) as stream:
            async for alert in stream:
                seen.append(alert.alert_id)
                if len(seen) == 3:
                    await until(lambda: server.counts("ztf-lite").leased)
                    brokers.delete_subscription(url)
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert time.monotonic() - begin < 10


async def test_a_subscription_that_is_deleted_while_nothing_comes_is_told(open_one, server, url):
    async with open_one(url) as stream:
        assert await stream.poll(0.3) is None
        brokers.delete_subscription(url)
        begin = time.monotonic()
        with pytest.raises(NotFoundError):
            await stream.poll(10)
        assert time.monotonic() - begin < 5
        with pytest.raises(NotFoundError):
            await stream.poll(10)


async def test_a_right_to_acknowledge_that_is_taken_away_is_told(open_any, server, url):
    publish(server, range(10))
    server.fail("Acknowledge", "PERMISSION_DENIED", times=None)
    async with open_any(url) as stream:
        with pytest.raises(ForbiddenError, match="ztf-loop"):  # noqa: PT012
            async for _ in stream:
                await asyncio.sleep(0.1)
    assert asked(server, "Acknowledge") <= 5


async def test_a_refused_stream_costs_no_work_while_a_slow_caller_has_enough(
    open_one, server, url, monkeypatch
):
    """The queue is full, the stream is dead: the caller gets what is there, and nothing turns in a circle meanwhile."""
    monkeypatch.setattr(book_module, "_QUEUE_ALERTS", 5)
    monkeypatch.setattr(engine_module, "_HOLD_S", 0.0)
    publish(server, range(40))
    server.fail("StreamingPull", "PERMISSION_DENIED", after=40)
    seen, calls = [], 0
    stream = open_one(url)
    with pytest.raises(ForbiddenError):  # noqa: PT012
        async with stream:
            await until(lambda: stream.stats().paused)
            transport = stream._engine._transport
            await until(lambda: transport._trouble is not None)
            receive = transport.receive

            def counting(*args):
                nonlocal calls
                calls += 1
                return receive(*args)

            monkeypatch.setattr(transport, "receive", counting)
            await asyncio.sleep(1)
            assert calls < 100
            async for alert in stream:
                seen.append(alert.alert_id)
    assert sorted(seen) == list(range(40))


async def test_an_error_of_our_own_is_told(open_one, server, url, monkeypatch, short_leases):
    """Whoever keeps the leases may not die in silence: the messages would come again and again."""

    def broken(self):
        raise RuntimeError("a slip of ours")

    async with open_one(url, config={"lease_s": 1}) as stream:
        monkeypatch.setattr(leases_module.Leases, "ack_ids", broken)
        with pytest.raises(NunciusError, match="a slip of ours"):
            await stream.poll(10)


# Silence --------------------------------------------------------------------------------------------------------------


async def test_a_connection_that_is_silent_for_long_is_opened_anew(open_one, server, url, monkeypatch):
    """An idle hour, made short: a connection that died without a word looks the same."""
    monkeypatch.setattr(transport_module, "_SILENT_S", 0.5)
    async with open_one(url) as stream:
        server.stall()
        assert await stream.poll(2.5) is None
        assert 2 <= asked(server, "StreamingPull") <= 8
        server.resume()
        publish(server, range(3))
        assert sorted(ids(await take(stream, 3))) == [0, 1, 2]
        assert stream.stats().last_error is None
    counted(server, timeout_s=2, acknowledged=3, leased=0)


async def test_a_way_that_swallows_everything(open_one, server, between, monkeypatch):
    """The connection stands and nothing comes through; when it flows again, the stream goes on and has lost nothing."""
    monkeypatch.setattr(transport_module, "_SILENT_S", 1.0)
    publish(server, range(10))
    seen = Counter()
    async with open_one(f"pubsub://{between.endpoint}/{server.project}/ztf-loop") as stream:
        seen.update(ids(await take(stream, 5)))
        between.freeze()
        publish(server, range(10, 20))
        while (alert := await stream.poll(2)) is not None:
            seen[alert.alert_id] += 1
        between.thaw()
        begin = time.monotonic()
        while len(seen) < 20 and time.monotonic() - begin < 30:
            alert = await stream.poll(0.5)
            if alert is not None:
                seen[alert.alert_id] += 1
            elif server.counts().leased:
                server.advance(30)  # what was under way when the connection was given up
    assert set(seen) == set(range(20))
    assert sum(seen.values()) <= 30


# Leaving --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["frozen", "everything fails"])
async def test_leaving_takes_a_bounded_time(open_one, server, between, how):
    publish(server, range(20))
    async with open_one(f"pubsub://{between.endpoint}/{server.project}/ztf-loop") as stream:
        await take(stream, 10)
        if how == "frozen":
            between.freeze()
        else:
            server.fail("Acknowledge", "UNAVAILABLE", times=None)
            server.fail("ModifyAckDeadline", "UNAVAILABLE", times=None)
        begin = time.monotonic()
    assert time.monotonic() - begin < 8
    between.thaw()


async def test_what_is_not_finished_goes_back_though_acknowledging_fails(open_one, server, url):
    publish(server, range(20))
    async with open_one(url) as stream:
        await take(stream, 10)
        await asyncio.to_thread(counted, server, acknowledged=9)
        server.fail("Acknowledge", "UNAVAILABLE", times=None)
    counted(server, timeout_s=5, acknowledged=9, waiting=10, leased=1)


@pytest.mark.parametrize("times", [1, 2])
async def test_giving_back_that_fails_is_tried_again(open_one, server, url, times):
    publish(server, range(20))
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with open_one(url) as stream:
            await take(stream, 10)
            await asyncio.to_thread(counted, server, acknowledged=9)
            server.fail("ModifyAckDeadline", "UNAVAILABLE", times=times)
            raise ZeroDivisionError
    counted(server, timeout_s=3, acknowledged=9, waiting=11, leased=0)


async def test_the_last_acknowledgements_are_confirmed_though_the_server_is_busy(open_any, server, url):
    publish(server, range(10))
    async with open_any(url, stop=10) as stream:
        server.fail("Acknowledge", "UNAVAILABLE", times=2)
        await read_all(stream)
    counted(server, timeout_s=0.1, acknowledged=10, leased=0)


async def test_the_last_acknowledgements_are_confirmed_though_the_server_starts_again(open_one, server, url):
    publish(server, range(20))
    starting = threading.Thread(target=server.restart, kwargs={"down_s": 1.0})
    async with open_one(url) as stream:
        await take(stream, 10)
        starting.start()
        await asyncio.sleep(0.1)
    starting.join()
    counted(server, acknowledged=10, waiting=10, leased=0)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL"])
async def test_a_subscription_for_one_stream_is_gone_though_the_server_is_busy(open_one, server, code):
    async with open_one(f"{server.pittgoogle_url}/ztf-lite", group=False) as stream:
        assert await stream.poll(0.1) is None
        server.fail("DeleteSubscription", code, times=2)
    assert asked(server, "DeleteSubscription") == 3
    assert not [path for path in server._state.queues if "nuncius-" in path.rpartition("/")[2]]


ENTERING = """
import sys
import nuncius
print("entering", flush=True)
nuncius.open_stream(sys.argv[1], connect_timeout_s=60).__enter__()
"""


def test_ctrl_c_while_the_server_does_not_answer(server, between):
    between.freeze()
    child = run_program(ENTERING, f"pubsub://{between.endpoint}/{server.project}/ztf-loop", wait=False)
    try:
        assert line_of(child) == "entering"
        time.sleep(1.5)
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.wait(10) != 0
        assert time.monotonic() - begin < 5
        assert child.stderr.read().rstrip().endswith("KeyboardInterrupt")
    finally:
        end_program(child)


WAITING = """
import sys, time
import nuncius
try:
    with nuncius.open_stream(sys.argv[1]) as stream:
        next(stream)
        print("waiting", flush=True)
        next(stream)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_in_a_waiting_stream(server, url):
    publish(server, range(1))
    child = run_program(WAITING, url, wait=False)
    try:
        assert line_of(child) == "waiting"
        time.sleep(0.5)
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert line_of(child) == "interrupted"
        assert child.wait(10) == 0
        assert time.monotonic() - begin < 5
        assert child.stderr.read() == ""
    finally:
        end_program(child)
    counted(server, timeout_s=1, leased=0, waiting=0, acknowledged=1)


# Leases ---------------------------------------------------------------------------------------------------------------


async def test_a_handler_slower_than_a_lease_keeps_its_messages(open_one, server, url, short_leases):
    publish(server, range(5))
    async with open_one(url, config={"lease_s": 2}, acknowledge="manual") as stream:
        alerts = await take(stream, 5)
        await asyncio.sleep(4.5)
        stream.acknowledge(alerts)
        assert await stream.poll(0.5) is None
    counts = counted(server, timeout_s=1, acknowledged=5, leased=0, waiting=0)
    assert (counts.delivered, counts.expired, counts.late) == (5, 0, 0)


async def test_a_message_that_comes_again_while_it_is_in_hand_is_not_handed_out_twice(open_any, server, url):
    """Its lease ended in a break of ours; what is acknowledged then is what came the second time."""
    publish(server, range(20))
    async with open_any(url, acknowledge="manual") as stream:
        alerts = await take(stream, 20)
        server.advance(60)
        await asyncio.to_thread(counted, server, delivered=40, expired=20, leased=20)
        assert await stream.poll(0.5) is None
        stream.acknowledge(alerts)
        await asyncio.to_thread(counted, server, acknowledged=20, waiting=0, leased=0)
        assert await stream.poll(0.3) is None
    assert stream.stats().handed_out == 20


async def test_a_message_that_comes_again_while_its_acknowledgement_fails(open_any, server, url):
    publish(server, range(20))
    server.fail("Acknowledge", "UNAVAILABLE", times=2)
    async with open_any(url, stop=20) as stream:
        async for _ in stream:
            if stream.stats().handed_out == 20:
                await until(lambda: asked(server, "Acknowledge"))
                server.advance(60)
    assert stream.stats().handed_out == 20
    counted(server, timeout_s=3, acknowledged=20, waiting=0, leased=0)


async def test_leases_that_can_not_be_made_longer_bring_nothing_twice(open_one, server, url, short_leases):
    publish(server, range(10))
    server.fail("ModifyAckDeadline", "UNAVAILABLE", times=None)
    seen = Counter()
    async with open_one(url, config={"lease_s": 1}, stop=10) as stream:
        async for alert in stream:
            seen[alert.alert_id] += 1
            await asyncio.sleep(0.3)
        assert server.counts().expired > 0
    assert seen == Counter(range(10))
    counted(server, timeout_s=3, acknowledged=10, waiting=0, leased=0)


# Moving ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "INVALID_ARGUMENT"])
async def test_a_move_that_is_refused_is_told_and_the_stream_goes_on(open_one, server, url, code):
    publish(server, range(20))
    seen = Counter()
    async with open_one(url) as stream:
        seen.update(ids(await take(stream, 5)))
        server.fail("Seek", code)
        with pytest.raises((ForbiddenError, ConfigurationError)):
            await stream.seek("latest")
        publish(server, range(20, 30))
        while (alert := await stream.poll(2)) is not None:
            seen[alert.alert_id] += 1
    assert seen == Counter(range(30))
    counted(server, timeout_s=2, acknowledged=30, waiting=0, leased=0)


async def test_a_move_waits_for_a_server_that_is_busy(open_any, server, url):
    publish(server, range(20))
    async with open_any(url) as stream:
        await take(stream, 5)
        server.fail("Seek", "UNAVAILABLE", times=2)
        await stream.seek("latest")
        publish(server, [20])
        assert ids(await take(stream, 1)) == [20]
        assert await stream.poll(0.3) is None
    counted(server, timeout_s=2, waiting=0, leased=0)


async def test_a_move_in_an_outage_is_told_and_the_stream_goes_on(open_one, server, url):
    publish(server, range(20))
    seen = Counter()
    async with open_one(url) as stream:
        seen.update(ids(await take(stream, 5)))
        for rpc in ("Seek", "Acknowledge", "ModifyAckDeadline"):
            server.fail(rpc, "UNAVAILABLE", times=None)
        begin = time.monotonic()
        with pytest.raises(UnreachableError):
            await stream.seek("earliest")
        assert time.monotonic() - begin < 12
        server._server.faults.clear()
        publish(server, range(20, 30))
        begin = time.monotonic()
        while len(seen) < 30 and time.monotonic() - begin < 20:
            alert = await stream.poll(1)
            if alert is not None:
                seen[alert.alert_id] += 1
    assert seen == Counter(range(30))


def test_asking_while_the_server_is_away_is_answered_in_time(server, url):
    server.fail("GetSubscription", "UNAVAILABLE", times=None)
    server.fail("Seek", "UNAVAILABLE", times=None)
    for ask in (
        lambda: brokers.touch_subscription(url, timeout_s=1),
        lambda: brokers.rewind(url, "earliest", timeout_s=1),
    ):
        begin = time.monotonic()
        with pytest.raises(UnreachableError):
            ask()
        assert time.monotonic() - begin < 5


def test_the_lowest_lease_is_ten_seconds(server, url):
    for lease_s in (9, 601, 10.5, True, "20"):
        with pytest.raises(ConfigurationError, match="lease_s"):
            open_stream(url, config={"lease_s": lease_s})
    with pytest.raises(ConfigurationError, match="max_messages"):
        open_stream(url, config={"ack_deadline": 10})
