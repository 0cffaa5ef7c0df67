"""Streams into an archive while things break: nothing is acknowledged that is not on the disk, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from astropy.time import Time

import archive_support as support
import builders
import nuncius.aio
from nuncius import open_archive, open_stream
from nuncius.alerts import Alert
from nuncius.archives.embedded import database as database_module
from nuncius.archives.embedded import ingest as ingest_module
from nuncius.archives.embedded.preparing import Preparation
from nuncius.errors import NunciusError, PacketError, ServerError, StorageError
from nuncius.sandbox import SandboxPubSub
from nuncius.streams import AsyncStream, FileSink
from nuncius.streams.bounds import Stop
from streams_support import (
    QUICK,
    TOPIC,
    committed_sum,
    end,
    end_program,
    message,
    messages,
    packet,
    packets,
    produce,
    run_program,
    scripted,
    wait_until,
)

CATALOG = "generic_alerts"
TESTS = {
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
}  # of programs


@pytest.fixture(params=["sync", "async"])
def colour(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "night.db"


def scripted_any(colour, script, folder, **options):
    """Make a stream of a colour on a script; return it and its transport."""
    stream, transport = scripted(script, folder, **options)
    if colour == "async":
        stream._finalizer.detach()
        stream = AsyncStream(stream._engine, "script://")
    return stream, transport


class Colourful:
    """An archive and a stream of one colour, whose ingest can be awaited in both."""

    def __init__(self, archive, stream):
        self.archive, self.stream = archive, stream
        self.database = archive._database

    async def ingest(self, **options):
        report = self.archive.ingest(self.stream, progress=False, **options)
        return await report if asyncio.iscoroutine(report) else report


@contextlib.asynccontextmanager
async def opened(colour, path, stream):
    """Open both in their colour."""
    if colour == "sync":
        with open_archive(path) as archive, stream:
            yield Colourful(archive, stream)
    else:
        async with nuncius.aio.open_archive(path) as archive, stream:
            yield Colourful(archive, stream)


def kept(path, catalog=CATALOG):
    """Return the ids of the alerts in a file, sorted."""
    with open_archive(path, read_only=True) as archive:
        if catalog not in archive.catalogs():
            return []
        return sorted(support.ids(archive.find(catalog, projection=["candid"])))


def fail(*_):
    raise sqlite3.OperationalError("the disk is gone")


def raw(message_number, alert):
    """Make a message of an alert."""
    return message(message_number, alert.raw)


def history(number, days, **values):
    """Make an alert of one object with entries of so many days ago."""
    entries = [builders.ztf_earlier(jd=builders.JD - day) for day in days]
    return support.ztf(number, objectId="ZTF20aaaaaaa", prv_candidates=entries, **values)


def days(path):
    """Return how many days ago the entries of that object are."""
    with open_archive(path, read_only=True) as archive:
        found = archive.find_one("ZTF_alerts_aux", {"_id": "ZTF20aaaaaaa"})
    return sorted(round(builders.JD - entry["jd"]) for entry in found["prv_candidates"])


# The ends of streams -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("acknowledge", ["on_next", "manual"])
@pytest.mark.parametrize(("stop", "count"), [(Stop(at_end=True), 40), (Stop(count=25), 25)])
async def test_at_the_end_all_is_acknowledged(colour, path, tmp_path, acknowledge, stop, count):
    script = [messages(40), [end()]]
    stream, transport = scripted_any(colour, script, tmp_path, stop=stop, acknowledge=acknowledge)
    async with opened(colour, path, stream) as night:
        report = await night.ingest()
        assert (report.received, report.archived) == (count, count)
        assert (stream.stats().acknowledged, stream.stats().unacknowledged) == (count, 0)
    assert transport.closed_with == {(TOPIC, 0): count}
    assert kept(path) == list(range(count))


@pytest.mark.timeout(60)
async def test_a_small_bound_on_alerts_in_hand_does_not_hang(colour, path, tmp_path):
    stream, transport = scripted_any(
        colour,
        [messages(100), [end()]],
        tmp_path,
        stop=Stop(at_end=True),
        acknowledge="manual",
        max_unacknowledged=7,
    )
    async with opened(colour, path, stream) as night:
        assert (await night.ingest()).archived == 100
    assert transport.closed_with == {(TOPIC, 0): 100}


async def test_an_empty_stream(colour, path, tmp_path):
    stream, _ = scripted_any(colour, [[end()]], tmp_path, stop=Stop(at_end=True))
    async with opened(colour, path, stream) as night:
        report = await night.ingest()
    assert (report.received, report.archived, report.unreadable) == (0, 0, [])


async def test_alerts_that_come_after_the_end_was_asked_for_are_kept(colour, path, tmp_path):
    """While the last ones are written, another member of the group leaves and its partition comes to us."""
    more = threading.Event()

    def come(transport):
        if not more.is_set():
            transport.script.insert(0, come)
            time.sleep(0.005)
            return []
        transport.listener.assigned({(TOPIC, 1): 0})
        return [*messages(5, first=100, partition=1), end(1)]

    stream, transport = scripted_any(
        colour, [[*messages(5), end()], come], tmp_path, stop=Stop(at_end=True), partitions=1
    )
    async with opened(colour, path, stream) as night:
        keep = ingest_module.Keeper.write

        def write(keeper, alerts):
            keep(keeper, alerts)
            if not alerts and not more.is_set():
                more.set()
                assert wait_until(lambda: stream.stats().waiting == 5)

        with pytest.MonkeyPatch.context() as patch:
            # Their transaction lasts until the stream has asked for what is left.
            enter, held = ingest_module.enter, threading.Event()

            def slow(*arguments):
                held.wait(0.5)
                enter(*arguments)

            patch.setattr(ingest_module, "enter", slow)
            patch.setattr(ingest_module.Keeper, "write", write)
            report = await night.ingest()
        assert more.is_set()
        assert report.received == 10
    assert kept(path) == [*range(5), *range(100, 105)]
    assert transport.closed_with == {(TOPIC, 0): 5, (TOPIC, 1): 105}


async def test_an_alert_is_acknowledged_though_no_other_comes(colour, path, tmp_path):
    seen, give_up = [], time.monotonic() + 20

    def look(transport):
        if transport.stored != {(TOPIC, 0): 3} and time.monotonic() < give_up:
            transport.script.insert(0, look)
            time.sleep(0.005)
            return []
        seen.append(dict(transport.stored))
        return [end()]

    stream, _ = scripted_any(colour, [messages(3), look], tmp_path, stop=Stop(at_end=True))
    async with opened(colour, path, stream) as night:
        await asyncio.wait_for(night.ingest(), 30)
    assert seen == [{(TOPIC, 0): 3}]
    assert kept(path) == [0, 1, 2]


# Streams and disks that fail -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ServerError("the broker is gone"), PermissionError("not any more")])
async def test_what_is_under_way_when_the_stream_fails_is_acknowledged(
    colour, path, tmp_path, monkeypatch, error
):
    failed = threading.Event()

    def failing(_):
        failed.set()
        raise error

    enter = ingest_module.enter

    def slow(*arguments):
        assert failed.wait(20)
        time.sleep(0.1)
        enter(*arguments)

    monkeypatch.setattr(ingest_module, "enter", slow)
    stream, transport = scripted_any(colour, [messages(30), failing], tmp_path)
    with pytest.raises(NunciusError, match=str(error)):
        async with opened(colour, path, stream) as night:
            await night.ingest()
    assert kept(path) == list(range(30))
    assert wait_until(lambda: transport.closed_with == {(TOPIC, 0): 30})


async def test_a_failing_disk_ends_it_though_no_other_alert_comes(colour, path, tmp_path, monkeypatch):
    """A quiet hour must not hide that the last alerts are not on the disk."""
    monkeypatch.setattr(ingest_module, "share_loci", fail)
    stream, transport = scripted_any(colour, [messages(3)], tmp_path)
    begin = time.monotonic()
    stopped = threading.Timer(20, stream._engine.close, kwargs={"finish": False})
    stopped.start()
    with pytest.raises(StorageError, match="the disk is gone"):
        async with opened(colour, path, stream) as night:
            await night.ingest()
    stopped.cancel()
    assert time.monotonic() - begin < 15
    assert transport.closed_with == {(TOPIC, 0): 0}
    assert kept(path) == []


@pytest.mark.parametrize("then", ["leave", "go on"])
async def test_what_could_not_be_written_comes_again_also_to_who_caught_the_error(
    colour, path, tmp_path, monkeypatch, then
):
    stream, transport = scripted_any(colour, [messages(20), [end()]], tmp_path, stop=Stop(at_end=True))
    async with opened(colour, path, stream) as night:
        with monkeypatch.context() as patch:
            patch.setattr(ingest_module, "share_loci", fail)
            with pytest.raises(StorageError):
                await night.ingest()
        assert stream.stats().acknowledged == 0
        if then == "go on":
            assert (await night.ingest()).archived == 20
    expected = 20 if then == "go on" else 0
    assert kept(path) == list(range(expected))
    assert transport.closed_with == {(TOPIC, 0): expected}


async def test_a_locked_file_is_an_error_in_time_and_all_comes_again(colour, path, tmp_path, monkeypatch):
    monkeypatch.setattr(database_module, "_BUSY_S", 0.3)
    with open_archive(path) as archive:
        archive.ingest([support.plain(candid=-1)])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    stream, transport = scripted_any(colour, [messages(20), [end()]], tmp_path, stop=Stop(at_end=True))
    begin = time.monotonic()
    with pytest.raises(StorageError, match="another program"):
        async with opened(colour, path, stream) as night:
            await night.ingest()
    assert time.monotonic() - begin < 15
    assert transport.closed_with == {(TOPIC, 0): 0}
    other.execute("ROLLBACK")
    other.close()
    stream, transport = scripted_any(colour, [messages(20), [end()]], tmp_path, stop=Stop(at_end=True))
    async with opened(colour, path, stream) as night:
        assert (await night.ingest()).archived == 20
    assert transport.closed_with == {(TOPIC, 0): 20}


def test_a_sink_that_failed_once_loses_no_history(path, monkeypatch):
    """What was on its way when a transaction was undone is not known: it is written when it comes again."""
    with open_archive(path) as archive:
        sink = archive.sink()
        sink.write([history(0, [1])])
        with monkeypatch.context() as patch:
            patch.setattr(ingest_module, "share_loci", fail)
            with pytest.raises(StorageError):
                sink.write([history(1, [1, 2])])
        sink.write([history(1, [1, 2])])
        sink.write([history(2, [2, 3])])
        with monkeypatch.context() as patch:
            patch.setattr(Preparation, "__call__", _interrupted(Preparation.__call__))
            with pytest.raises(KeyboardInterrupt):
                sink.write([history(3, [3, 4])])
        sink.write([history(3, [3, 4])])
        assert sink.report.archived == 4
    assert days(path) == [1, 2, 3, 4]


def _interrupted(prepare):
    def prepared(*arguments):
        prepare(*arguments)
        raise KeyboardInterrupt

    return prepared


def test_streams_that_save_in_one_sink_each_hear_of_their_own_error(path, monkeypatch):
    """Neither may take the end of the other's transaction for its own."""
    bad, errors = support.ztf(1), {}
    begun = threading.Barrier(2, timeout=20)
    enter = ingest_module._enter_alerts

    def some(connection, catalog, rows, counts):
        time.sleep(0.05)
        if any(row.alert_id == bad.alert_id for row in rows):
            raise sqlite3.OperationalError("the disk is gone")
        enter(connection, catalog, rows, counts)

    monkeypatch.setattr(ingest_module, "_enter_alerts", some)
    with open_archive(path) as archive:
        sink = archive.sink()

        def write(name, alert):
            for _ in range(10):
                begun.wait()
                try:
                    sink.write([alert])
                except StorageError:
                    errors.setdefault(name, []).append(True)

        threads = [
            threading.Thread(target=write, args=args) for args in (("good", support.ztf(2)), ("bad", bad))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert {name: len(found) for name, found in errors.items()} == {"bad": 10}


# Interruptions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def held(monkeypatch):
    """Hold the making of the second transaction's rows until it is released; say when it is reached."""
    found = SimpleNamespace(reached=threading.Event(), go=threading.Event(), calls=0, left=threading.Event())
    prepare = Preparation.__call__

    def slow(*arguments):
        found.calls += 1
        if found.calls == 2:
            found.reached.set()
            found.go.wait(20)
        try:
            return prepare(*arguments)
        finally:
            if found.calls >= 2:
                found.left.set()

    monkeypatch.setattr(Preparation, "__call__", slow)
    monkeypatch.setattr(ingest_module, "_TRANSACTION_BYTES", 1)
    return found


@pytest.mark.timeout(60)
async def test_a_cancelled_ingest_writes_nothing_behind_the_callers_back(path, tmp_path, held):
    stream, transport = scripted_any("async", [messages(20)], tmp_path)

    async def ingest(archive):
        async with stream:
            await archive.ingest(stream, progress=False)

    async with nuncius.aio.open_archive(path) as archive:
        task = asyncio.create_task(ingest(archive))
        assert await asyncio.to_thread(held.reached.wait, 20)
        task.cancel()
        threading.Timer(0.2, held.go.set).start()
        with pytest.raises(asyncio.CancelledError):
            await task
        before = await archive.count(CATALOG)
        assert await asyncio.to_thread(held.left.wait, 20)
        await asyncio.sleep(0.3)
        assert await archive.count(CATALOG) == before <= 2
        assert transport.closed_with == {(TOPIC, 0): before}
        assert (await archive.ingest([support.plain(candid=99)])).archived == 1


async def test_ten_cancellations_lose_nothing(path, tmp_path):
    """Cancelled at any moment, what is acknowledged is there, and what is not comes again."""
    position = 0
    for number in range(10):
        script = [messages(25, first=first) for first in range(position, 200, 25)]
        stream, transport = scripted_any("async", script, tmp_path, start=position)
        async with nuncius.aio.open_archive(path) as archive:
            with contextlib.suppress(TimeoutError):
                async with stream, asyncio.timeout(0.01 + 0.02 * number):
                    await archive.ingest(stream, progress=False)
        assert wait_until(lambda found=transport: found.closed_with is not None)
        position = max(position, transport.closed_with.get((TOPIC, 0), 0))
        assert set(range(position)) <= set(kept(path)), number
        assert not [t.name for t in threading.enumerate() if t.name.startswith("nuncius-archive")]
    script = [[*messages(200 - position, first=position), end()]]
    stream, transport = scripted_any("async", script, tmp_path, stop=Stop(at_end=True), start=position)
    async with opened("async", path, stream) as night:
        await night.ingest()
    assert kept(path) == list(range(200))


async def test_a_batch_that_was_interrupted_while_it_was_gathered_is_not_finished_by_going_on(
    colour, tmp_path, monkeypatch
):
    from nuncius.streams import signals

    stream, transport = scripted_any(colour, [messages(5)], tmp_path)
    kind = signals.Signal if colour == "sync" else signals.AsyncSignal
    wait = kind.wait

    def interrupted(*arguments):
        if stream.stats().handed_out:
            raise KeyboardInterrupt
        return wait(*arguments)

    async with opened(colour, tmp_path / "unused.db", stream):
        with monkeypatch.context() as patch:
            patch.setattr(kind, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                await anext(each(stream, n=10, timeout_s=None))
        batch = await anext(each(stream, n=10, timeout_s=0.1))
        assert sorted(support_ids(batch)) == list(range(5))
        assert stream.stats().acknowledged == 0
        stream.release(batch[0])
    assert transport.closed_with == {(TOPIC, 0): batch[0].alert_id}


def support_ids(alerts):
    return [alert.alert_id for alert in alerts]


INTERRUPTED = """
import signal, sys, threading
import archive_support as s
from nuncius import open_archive
path = sys.argv[1]
source = s.Source([s.numbered_batch(0)] * 2 + [[s.ztf(i, candid=n * 10 ** 6 + i) for i in range(60)] for n in range(40)])
with open_archive(path + ".warm") as warm:  # Python's imports don't survive being interrupted
    warm.ingest([s.ztf()], progress=False)
archive = open_archive(path)
try:
    print("ready", flush=True)
    archive.ingest(source, progress=False)
    print("all")
except KeyboardInterrupt:
    with archive._database.write_lock:
        count = archive.count("ZTF_alerts") if archive.catalogs() else 0
    acknowledged = {alert.alert_id for alert in source.acknowledged}
    found = {d["candid"] for d in archive.find("ZTF_alerts", projection=["candid"])} if count else set()
    assert acknowledged <= found, (len(acknowledged), len(found))
    assert archive.ingest([s.ztf(0, candid=10 ** 12)], progress=False).archived == 1
    assert archive.count("ZTF_alerts") == count + 1, "something went on behind our back"
    archive.close()
    print(len(acknowledged), len(found))
"""


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.08, 0.15, 0.25])
def test_a_keyboard_interrupt_leaves_an_archive_that_can_be_used(tmp_path, delay):
    program = run_program(INTERRUPTED, tmp_path / "night.db", wait=False, **TESTS)
    try:
        assert program.stdout.readline() == "ready\n"
        time.sleep(delay)
        program.send_signal(signal.SIGINT)
        assert program.wait(60) == 0, program.stderr.read()[-2000:]
        assert program.stdout.read().strip()
    finally:
        end_program(program)


CLOSED = """
import sys, threading, time
import archive_support as s
from nuncius import open_archive
from nuncius.errors import ConfigurationError, StorageError
pool = [s.numbered_batch(number) for number in range(12)]
for turn in range(12):
    archive = open_archive(f"{sys.argv[1]}.{turn}")
    source, outcome = s.Source(pool), []
    def run():
        try:
            archive.ingest(source, progress=False)
            outcome.append("whole")
        except (ConfigurationError, StorageError) as error:
            outcome.append("closed" if "closed" in str(error) else str(error))
    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.004 + turn * 0.02)
    archive.close()
    thread.join(30)
    assert not thread.is_alive()
    assert outcome in (["whole"], ["closed"]), outcome
    acknowledged = {alert.alert_id // 1000 for alert in source.acknowledged}
    if acknowledged:
        s.check_whole(f"{sys.argv[1]}.{turn}", acknowledged)
    print(outcome[0], flush=True)
"""


def test_an_archive_that_is_closed_by_another_thread_ends_the_ingest(tmp_path):
    done = run_program(CLOSED, tmp_path / "night.db", **TESTS)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "closed" in done.stdout
    assert len(done.stdout.split()) == 12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_process_that_closes_the_archive_leaves_its_parents_connections_alone(path):
    """SQLite's locks are the process's: who closes an inherited file there may free what the parent holds."""
    with open_archive(path) as archive:
        archive.ingest([support.ztf(0)])
        connection = archive._database.connection

        def close():
            archive.close()
            connection.execute(
                "SELECT 1"
            ).fetchone()  # an error, and so a code other than 0, if it was closed

        child = multiprocessing.get_context("fork").Process(target=close)
        child.start()
        child.join(20)
        assert child.exitcode == 0
        assert archive.ingest([support.ztf(1)]).archived == 1


# kill -9 -------------------------------------------------------------------------------------------------------------

WRITER = """
import os, signal, sys, threading
import nuncius
from nuncius.archives.embedded import ingest
url, group, config, path, delay, last = sys.argv[1], sys.argv[2] or None, eval(sys.argv[3]), sys.argv[4], float(sys.argv[5]), sys.argv[6]
ingest._BATCH = 40  # many transactions
options = {"stop": "end"} if last == "last" else {}
if group:
    options["group"] = group
def die(after_s):
    if last != "last":
        threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
enter = ingest.enter
def first(*arguments):
    ingest.enter = enter
    die(delay)
    enter(*arguments)
die(8)  # if those before have left nothing
ingest.enter = first
with nuncius.open_archive(path) as archive, nuncius.open_stream(url, config=config, **options) as stream:
    archive.ingest(stream, progress=False)
"""


@pytest.mark.mock_cluster
@pytest.mark.timeout(120)
def test_kills_during_an_ingest_from_kafka(cluster, topic, group, path):
    total, config = 1500, QUICK | {"auto.commit.interval.ms": 50}
    produce(cluster.server, topic, packets(total))
    url = f"kafka://{cluster.server}/{topic}"
    for number in range(5):
        child = run_program(WRITER, url, group, config, path, 0.01 + 0.03 * number, "", wait=False)
        try:
            assert child.wait(40) == -9, child.stderr.read()
        finally:
            end_program(child)
        there = kept(path)
        assert len(there) == len(set(there))
        assert committed_sum(cluster.server, group, topic) <= len(there)
    done = run_program(WRITER, url, group, config, path, 0, "last")
    assert done.returncode == 0, done.stderr
    assert kept(path) == list(range(total))
    assert committed_sum(cluster.server, group, topic) == total


@pytest.mark.timeout(120)
def test_kills_during_an_ingest_from_pubsub(path, monkeypatch):
    pytest.importorskip("google.pubsub_v1", reason="needs google-cloud-pubsub")
    for name in ("PUBSUB_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    total, config = 1200, {"lease_s": 10}
    with SandboxPubSub() as server:
        server.publish("ztf-loop", [packet(number) for number in range(total)])
        for number in range(4):
            child = run_program(WRITER, server.url, "", config, path, 0.01 + 0.06 * number, "", wait=False)
            try:
                assert child.wait(40) == -9, child.stderr.read()
            finally:
                end_program(child)
            assert wait_until(lambda: server.open_streams == 0)
            assert server.counts().acknowledged <= len(kept(path))
            server.advance(11)
        done = run_program(WRITER, server.url, "", config, path, 0, "last")
        assert done.returncode == 0, done.stderr
        assert kept(path) == list(range(total))
        assert wait_until(lambda: server.counts().acknowledged == total)


@pytest.mark.mock_cluster
@pytest.mark.timeout(90)
async def test_a_rebalance_while_a_batch_is_written(
    colour, cluster, topic, group, path, tmp_path, monkeypatch
):
    """What another member takes over meanwhile is written by both, and is there once."""
    produce(cluster.server, topic, packets(400))
    url = f"kafka://{cluster.server}/{topic}"
    reached, go = threading.Event(), threading.Event()
    enter = ingest_module.enter

    def slow(database, *arguments):
        if database.path == path and not reached.is_set():
            reached.set()
            go.wait(40)
        enter(database, *arguments)

    monkeypatch.setattr(ingest_module, "enter", slow)
    opener = open_stream if colour == "sync" else nuncius.aio.open_stream
    errors = []

    def other():
        try:
            assert reached.wait(40)
            with (
                open_archive(tmp_path / "other.db") as archive,
                open_stream(url, group=group, config=QUICK, stop="8s") as stream,
            ):
                archive.ingest(stream, progress=False)
                go.set()
        except Exception as error:  # checked below
            errors.append(error)
        finally:
            go.set()

    member = threading.Thread(target=other)
    member.start()
    async with opened(colour, path, opener(url, group=group, config=QUICK, stop="end")) as night:
        await night.ingest()
    member.join(60)
    assert errors == []
    here, there = kept(path), kept(tmp_path / "other.db")
    assert len(here) == len(set(here))
    assert set(here) | set(there) == set(range(400))
    assert committed_sum(cluster.server, group, topic) == 400


# Several writers -----------------------------------------------------------------------------------------------------

SAME = """
import sys
import archive_support as s, builders
from nuncius import open_archive
def alerts(number):
    for at in range(400):
        yield s.ztf(at, objectId=f"ZTF{at % 20:05d}", candid=at,
                    prv_candidates=[builders.ztf_earlier(jd=builders.JD - day) for day in range(at // 20 + 1)])
some = [*alerts(0)]
with open_archive(sys.argv[1]) as archive:
    print("ready", flush=True)
    sys.stdin.readline()
    for begin in range(0, 400, 50):
        archive.ingest(some[begin : begin + 50], progress=False)
"""


@pytest.mark.timeout(120)
def test_two_processes_with_the_same_alerts_lose_no_entry_and_show_each_once(path):
    programs = [run_program(SAME, path, wait=False, **TESTS) for _ in range(2)]
    try:
        for program in programs:
            assert program.stdout.readline() == "ready\n", program.stderr.read()
        for program in programs:
            program.stdin.write("go\n")
            program.stdin.flush()
        for program in programs:
            assert program.wait(90) == 0, program.stderr.read()
    finally:
        for program in programs:
            end_program(program)
    check_same(path)


def check_same(path):
    assert kept(path, "ZTF_alerts") == list(range(400))
    with open_archive(path) as archive:
        expected = sorted(builders.JD - day for day in range(20))
        for document in archive.find("ZTF_alerts_aux"):
            assert [entry["jd"] for entry in document["prv_candidates"]] == expected
        assert archive.count("ZTF_alerts_aux") == 20
        assert len(archive.object("ZTF00003").light_curve) == 40  # 20 detections, 20 limits


@pytest.mark.timeout(120)
@pytest.mark.parametrize("shared", [True, False], ids=["one archive", "two archives"])
def test_two_threads_with_the_same_alerts(path, shared):
    alerts = [
        support.ztf(
            at,
            objectId=f"ZTF{at % 20:05d}",
            candid=at,
            prv_candidates=[builders.ztf_earlier(jd=builders.JD - day) for day in range(at // 20 + 1)],
        )
        for at in range(400)
    ]
    errors, reports = [], []
    with open_archive(path) as first, open_archive(path) as second:

        def run(archive):
            try:
                for begin in range(0, 400, 50):
                    reports.append(archive.ingest(alerts[begin : begin + 50], progress=False))
            except NunciusError as error:
                errors.append(error)

        threads = [
            threading.Thread(target=run, args=(archive,)) for archive in (first, first if shared else second)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
    assert errors == []
    assert sum(report.archived for report in reports) == 400
    assert sum(report.duplicates for report in reports) == 400
    check_same(path)


# What comes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[9], [1] * 9, [2, 4, 3]])
async def test_a_revision_and_copies_within_and_across_batches(colour, path, tmp_path, monkeypatch, sizes):
    other = support.ztf(1, candidate={"rb": 0.125})
    alerts = [
        support.ztf(0), support.ztf(1), other, support.ztf(1), other, support.ztf(2), support.ztf(0), other, support.ztf(2)
    ]  # fmt: skip
    numbered = iter(enumerate(alerts))
    script = [[raw(*next(numbered)) for _ in range(size)] for size in sizes]
    monkeypatch.setattr(ingest_module, "_BATCH", max(sizes))
    stream, transport = scripted_any(colour, [*script, [end()]], tmp_path, stop=Stop(at_end=True))
    async with opened(colour, path, stream) as night:
        report = await night.ingest(keep="packet")
    assert (report.received, report.archived, report.revised, report.duplicates) == (9, 4, 1, 5)
    assert transport.closed_with == {(TOPIC, 0): 9}
    with open_archive(path) as archive:
        documents = archive.find("ZTF_alerts").docs
        assert [document["candidate"]["rb"] for document in documents][1] == 0.125
        assert len(documents) == 3
        assert len(archive.revisions("ZTF_alerts", documents[1]["_id"])) == 1


async def test_alerts_of_all_kinds_in_one_stream(colour, path, tmp_path):
    schemas = {builders.lsst_id("9.0"): builders.lsst_schema("9.0")}
    each = support.one_of_each()
    each |= {
        "no object": support.plain(candid=5, ra=1.0, dec=2.0),
        "no position": support.plain(candid=6, objectId="A6"),
        "no id": support.plain(objectId="A7", ra=1.0, dec=2.0),
        "bson": Alert.from_bytes(builders.zlib_bson({"candid": 8, "objectId": "A8", "x": 2**40})),
        "huge": support.plain(candid=9, objectId="A9", x=2**70, y="\ud800"),
        "odd histories": support.plain(
            candid=10, objectId="A10", prv_candidates=[1, None, {}, {"jd": "x"}, "y"]
        ),
    }
    alerts = [*each.values()]
    script = [[raw(*pair) for pair in enumerate(alerts)], [end()]]
    stream, transport = scripted_any(colour, script, tmp_path, stop=Stop(at_end=True), schema=schemas)
    async with opened(colour, path, stream) as night:
        report = await night.ingest()
        assert (report.archived, report.unreadable) == (len(alerts), [])
    assert transport.closed_with == {(TOPIC, 0): len(alerts)}
    with open_archive(path) as archive, open_archive(tmp_path / "direct.db") as direct:
        direct.ingest(alerts)
        assert archive.catalogs() == direct.catalogs()
        for catalog in archive.catalogs():
            assert support.same(archive.find(catalog).docs, direct.find(catalog).docs), catalog


def damaged(entry_values, old, new, **values):
    """Make a ZTF packet with damage in an entry of its history."""
    data = builders.ztf(
        prv_candidates=[builders.ztf_earlier(**entry_values)], objectId="ZTF20aaaaaaa", **values
    )
    assert data.count(old) == 1
    return data.replace(old, new)


@pytest.mark.parametrize("known", [False, True], ids=["unknown entry", "known entry"])
@pytest.mark.parametrize(("on_error", "quarantined"), [("quarantine", 1), ("skip", 0), ("raise", 0)])
@pytest.mark.parametrize("keep", ["document", "packet", "measurements"])
async def test_damage_in_an_entry_of_a_history(colour, path, tmp_path, known, on_error, quarantined, keep):
    entry = {"jd": builders.JD - 1, "pid": 5, "rbversion": "Kulkarni"}
    whole = builders.ztf(prv_candidates=[builders.ztf_earlier(**entry)], objectId="ZTF20aaaaaaa", candid=1)
    bad = damaged(entry, b"Kulkarni", b"Kulk\xff\xfeni", candid=2)
    values = [support.ztf(9).raw, *([whole] if known else []), bad, support.ztf(8).raw]
    script = [[message(0, values[0])], [message(at, value) for at, value in enumerate(values)][1:], [end()]]
    stream, transport = scripted_any(
        colour, script, tmp_path / "quarantine", stop=Stop(at_end=True), on_error=on_error
    )
    async with opened(colour, path, stream) as night:
        report = await night.ingest(keep=keep)
        assert stream.stats().quarantined == quarantined
    assert report.archived == len(values) - 1
    [(alert, error)] = report.unreadable
    assert alert.raw == bad
    assert "UTF-8" in str(error) or "utf-8" in str(error)
    assert isinstance(error, PacketError)
    assert transport.closed_with == {(TOPIC, 0): len(values)}


async def test_any_damaged_byte_is_found_as_full_decoding_finds_it(path, tmp_path):
    """Passing over entries must not let through what decoding refuses, nor refuse what it lets through."""
    history_ = [builders.ztf_earlier(jd=builders.JD - day, pid=day, rbversion="Kulk") for day in (1, 2)]
    data = builders.ztf(prv_candidates=history_, fp_hists=[builders.ztf_forced()], objectId="ZTF20aaaaaaa")
    tail = data.rindex(b"Kulk") + 40
    alerts, expected = [], 0
    for at in range(data.index(b"ZTF20aaaaaaa"), min(tail, len(data) - 16), 3):
        for flip in (0x01, 0x80, 0xFF):
            mutant = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            alert, again = Alert.from_bytes(mutant), Alert.from_bytes(mutant)
            alerts.append(alert)
            try:
                _ = again.packet
                expected += 1
            except PacketError:
                pass
    with open_archive(path) as archive:
        report = archive.ingest(alerts, progress=False)
        assert 10 < expected < len(alerts)
        assert report.received - len(report.unreadable) == expected
        assert archive.count("ZTF_alerts") == report.archived - report.revised
        archive.find("ZTF_alerts_aux").docs  # noqa: B018 - all of it can be read


@pytest.mark.parametrize("on_error", ["quarantine", "skip", "raise"])
async def test_saving_in_an_archive_and_in_files(colour, path, tmp_path, on_error):
    bad = damaged({"rbversion": "Kulkarni"}, b"Kulkarni", b"Kulk\xff\xfeni", candid=2)
    values = [support.ztf(0).raw, bad, support.ztf(1).raw]
    script = [[message(at, value) for at, value in enumerate(values)], [end()]]
    stream, transport = scripted_any(
        colour, script, tmp_path / "quarantine", stop=Stop(at_end=True), on_error=on_error
    )
    folder = tmp_path / "files"

    async def save(archive):
        saved = stream.save(archive.sink(keep="packet"), FileSink(folder))
        return await saved if asyncio.iscoroutine(saved) else saved

    if on_error == "raise":
        with pytest.raises(PacketError):
            async with opened(colour, path, stream) as night:
                await save(night.archive)
        assert transport.closed_with == {(TOPIC, 0): 0}
        assert kept(path, "ZTF_alerts") == []
        return
    async with opened(colour, path, stream) as night:
        assert await save(night.archive) == 2
    assert transport.closed_with == {(TOPIC, 0): 3}
    with open_archive(path) as archive:
        assert sorted(archive.packets("ZTF_alerts")) == sorted([values[0], values[2]])


# Batches by hand -----------------------------------------------------------------------------------------------------


async def each(stream, **options):
    """Iterate over the batches of a stream of either colour."""
    batches = stream.batches(**options)
    if hasattr(batches, "__aiter__"):
        async for batch in batches:
            yield batch
    else:
        for batch in batches:
            yield batch


async def test_batches_without_finish(colour, tmp_path):
    stream, transport = scripted_any(colour, [messages(10), [end()]], tmp_path, stop=Stop(at_end=True))
    seen, empty = [], 0
    async with opened(colour, tmp_path / "unused.db", stream):
        async for batch in each(stream, n=4, timeout_s=0.1, finish=False):
            assert len(batch) <= 4
            if not batch:
                empty += 1
                assert stream.stats().acknowledged == 0
            seen += support_ids(batch)
        assert seen == list(range(10))
        assert empty == 1
        assert stream.stats().acknowledged == 10, "who comes back after the empty batch has finished all"
    assert transport.closed_with == {(TOPIC, 0): 10}


async def test_batches_without_finish_that_are_left_before_the_end(colour, tmp_path):
    stream, transport = scripted_any(colour, [messages(10), [end()]], tmp_path, stop=Stop(at_end=True))
    taken = []
    async with opened(colour, tmp_path / "unused.db", stream):
        async for batch in each(stream, n=4, timeout_s=0.1, finish=False):
            taken.append(batch)
            if len(taken) == 2:
                stream.acknowledge(taken[0])
                break
        if (closing := stream.close()) is not None:
            await closing
    assert transport.closed_with == {(TOPIC, 0): 4}


async def test_batches_without_finish_that_are_acknowledged_need_no_empty_one(colour, tmp_path):
    stream, transport = scripted_any(colour, [messages(10), [end()]], tmp_path, stop=Stop(at_end=True))
    async with opened(colour, tmp_path / "unused.db", stream):
        async for batch in each(stream, n=4, timeout_s=0.1, finish=False):
            assert batch
            stream.acknowledge(batch)
    assert transport.closed_with == {(TOPIC, 0): 10}


# Bounds --------------------------------------------------------------------------------------------------------------

LARGE = """
import os, random, sys
import archive_support as s
from nuncius import open_archive
from nuncius.archives.embedded import ingest
chance = random.Random(1)
blob = os.urandom(60_000)
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
def batch(number):
    images = {"cutoutScience": {"fileName": "a.fits.gz", "stampData": blob}}
    return [s.ztf(0, candid=number * 1000 + at, objectId=f"Z{number}x{at}", **images) for at in range(chance.randint(40, 160))]
with open_archive(sys.argv[1]) as archive:
    for number in range(40):
        archive.ingest(batch(number), keep=sys.argv[2], progress=False)
        if number == 7:
            before = resident()
    print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the size of a process as Linux tells it")
@pytest.mark.parametrize("keep", ["document", "packet"])
def test_memory_does_not_grow_with_the_alerts(path, keep):
    """Some 4000 alerts of 65 kB, in batches of all sizes."""
    done = run_program(LARGE, path, keep, **TESTS)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60, f"{done.stdout.strip()} MB more after 32 batches"


# Histories -----------------------------------------------------------------------------------------------------------


def test_histories_with_entries_of_no_time_and_of_nan(path):
    entries = [
        {"jd": builders.JD - 30, "pid": 1},
        {"jd": float("nan"), "pid": 2},
        {"jd": float("inf"), "pid": 3},
        {"jd": None, "pid": 4},
        {"pid": 5},
        {"jd": builders.JD - 1, "pid": 6, "magpsf": float("nan")},
    ]
    alert = support.plain(candid=1, objectId="A", ra=1.0, dec=2.0, jd=builders.JD, prv_candidates=entries)
    old = support.plain(candid=2, objectId="B", ra=1.0, dec=2.0, jd=builders.JD - 40)
    with open_archive(path) as archive:
        archive.ingest([alert, old])
        name = next(name for name in archive.catalogs() if name.endswith("_aux"))
        catalog = name.removesuffix("_aux")
        info = archive.info()["catalogs"][catalog]
        lists = archive.find_one(name, {"_id": "A"})
        if not lists:  # this survey has no lists of its own: the entries stay in the document
            assert info["history_points"] == 0
            assert len(archive.find_one(catalog, {"candid": 1})["prv_candidates"]) == 6
            return
        assert info["history_points"] == 6


def ztf_points(path):
    with open_archive(path, read_only=True) as archive:
        found = archive.find_one("ZTF_alerts_aux", {"_id": "ZTF20aaaaaaa"})
    return [] if found is None else [entry["pid"] for entry in found["prv_candidates"]]


def test_pruning_keeps_entries_without_a_time(path):
    nan, inf = float("nan"), float("inf")
    jds = {1: builders.JD - 30, 2: nan, 3: inf, 4: builders.JD - 1, 5: builders.JD - 29}
    entries = [builders.ztf_earlier(jd=jd, pid=pid) for pid, jd in jds.items()]
    with open_archive(path) as archive:
        archive.ingest([support.ztf(0, objectId="ZTF20aaaaaaa", prv_candidates=entries)])
        assert archive.info()["catalogs"]["ZTF_alerts"]["history_points"] == 5
        assert archive.prune(Time(builders.JD - 10, format="jd")) == 0
        info = archive.info()["catalogs"]["ZTF_alerts"]["history_points"]
        assert info == 3
        assert type(info) is int
    assert sorted(ztf_points(path)) == [2, 3, 4]
    with open_archive(path) as archive:
        # What was pruned and comes again is kept again, the rest is known.
        archive.ingest([support.ztf(1, objectId="ZTF20aaaaaaa", prv_candidates=entries)])
        assert archive.info()["catalogs"]["ZTF_alerts"]["history_points"] == 5
        assert len(archive.object("ZTF20aaaaaaa").alerts) == 2


def test_info_counts_in_whole_numbers(path):
    with open_archive(path) as archive:
        archive.ingest([support.ztf(0), history(1, [1, 2]), support.lsst()])
        for catalog in archive.info()["catalogs"].values():
            counts = {name: value for name, value in catalog.items() if not name.endswith("_mjd")}
            assert {type(value) for value in counts.values()} == {int}, counts


def test_a_file_of_layout_1_goes_on(path):
    path.write_bytes(support.LAYOUT_1.read_bytes())
    with open_archive(path, read_only=True) as archive:
        names = archive.catalogs()
        before = {name: archive.find(name).docs for name in names}
        info = archive.info()["catalogs"]
    with open_archive(path) as archive:
        assert archive.catalogs() == names
        for name in names:
            assert support.same(archive.find(name).docs, before[name]), name
        assert archive.info()["catalogs"] == info
        archive.ingest([history(7, [1, 2])])
        for name in names:
            found = [d for d in archive.find(name).docs if d.get("_id") in {b["_id"] for b in before[name]}]
            assert support.same(found, before[name]), name
        points = archive.info()["catalogs"]["ZTF_alerts"]["history_points"]
        assert points == info.get("ZTF_alerts", {}).get("history_points", 0) + 2
    assert days(path) == [1, 2]
