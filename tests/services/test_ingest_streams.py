"""Streams of real brokers into an archive, in both colours: what is acknowledged is there, and nothing comes twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from datetime import UTC, datetime, timedelta

import pytest

import archive_support as support
import builders
import nuncius.aio
from nuncius import open_archive, open_stream
from nuncius.sandbox import SandboxPubSub
from nuncius.sandbox.kafka import SandboxKafka
from streams_support import QUICK, committed_sum, packet, packets, produce, wait_until


@pytest.fixture(scope="module")
def second_kafka():
    with SandboxKafka() as broker:
        yield broker


@pytest.fixture(params=["sync", "async"])
def ingest(request, tmp_path):
    """Ingest what a URL gives in either colour; return the report."""

    async def run(url, *, keep="document", **options):
        path = tmp_path / "night.db"
        if request.param == "sync":
            with open_archive(path) as archive, open_stream(url, **options) as stream:
                return archive.ingest(stream, keep=keep, progress=False)
        async with (
            nuncius.aio.open_archive(path) as archive,
            nuncius.aio.open_stream(url, **options) as stream,
        ):
            return await archive.ingest(stream, keep=keep, progress=False)

    return run


@pytest.fixture
def kept(tmp_path):
    """Return a function that gives the ids in the archive, sorted."""

    def ids(catalog="generic_alerts"):
        with open_archive(tmp_path / "night.db", read_only=True) as archive:
            return sorted(support.ids(archive.find(catalog, projection=["candid"])))

    return ids


@pytest.mark.parametrize("acknowledge", ["on_next", "manual"])
async def test_run_after_run_of_one_group(ingest, kept, server, topic, group, acknowledge):
    produce(server, topic, packets(120))
    options = {"group": group, "config": QUICK, "acknowledge": acknowledge, "max_unacknowledged": 30}
    url = f"kafka://{server}/{topic}"
    first = await ingest(url, stop=50, **options)
    assert (first.received, first.archived) == (50, 50)
    assert committed_sum(server, group, topic) == 50
    second = await ingest(url, stop="end", **options)
    assert (second.received, second.archived, second.duplicates) == (70, 70, 0)
    assert committed_sum(server, group, topic) == 120
    third = await ingest(url, stop="end", **options)
    assert third.received == 0
    assert kept() == list(range(120))


async def test_until_a_time(ingest, kept, server, topic, group):
    now = time.time()
    produce(server, topic, packets(20), timestamp_ms=int((now - 7200) * 1000))
    produce(server, topic, packets(20, first=20), timestamp_ms=int((now - 60) * 1000))
    stop = datetime.now(UTC) - timedelta(hours=1)
    report = await ingest(f"kafka://{server}/{topic}", group=group, config=QUICK, stop=stop)
    assert report.received == 20
    assert kept() == list(range(20))
    assert committed_sum(server, group, topic) == 20


async def test_two_brokers_as_one(ingest, kept, server, second_kafka, topic, group):
    other = second_kafka.url.removeprefix("kafka://")
    produce(server, topic, packets(150))
    produce(other, topic, packets(150, first=100))
    urls = [f"kafka://{server}/{topic}", f"kafka://{other}/{topic}"]
    report = await ingest(urls, group=group, config=QUICK, stop="end")
    assert (report.received, report.archived, report.duplicates) == (300, 250, 50)
    assert kept() == list(range(250))
    assert [committed_sum(broker, group, topic) for broker in (server, other)] == [150, 150]


async def test_an_empty_topic(ingest, server, topic, group):
    produce(server, topic, packets(1))
    assert (await ingest(f"kafka://{server}/{topic}", group=group, config=QUICK, stop="end")).received == 1
    again = await ingest(f"kafka://{server}/{topic}", group=group, config=QUICK, stop="end")
    assert (again.received, again.archived, again.unreadable) == (0, 0, [])


@pytest.mark.parametrize("keep", ["document", "packet", "measurements"])
async def test_framed_packets(ingest, kept, tmp_path, server, topic, group, keep):
    values = [
        builders.lsst(
            diaSourceId=number,
            source={"diaSourceId": number},
            prvDiaSources=[builders.lsst_source("9.0", diaSourceId=at) for at in range(1000, 1000 + number)],
        )
        for number in range(1, 21)
    ]
    produce(server, topic, values)
    folder = tmp_path / "schemas"
    folder.mkdir()
    (folder / f"{builders.lsst_id('9.0')}.avsc").write_text(json.dumps(builders.lsst_schema("9.0")))
    report = await ingest(
        f"kafka://{server}/{topic}", group=group, config=QUICK, stop="end", schema=folder, keep=keep
    )
    assert (report.archived, report.unreadable) == (20, [])
    with open_archive(tmp_path / "night.db") as archive:
        found = archive.find("LSST_alerts_aux").docs
        assert max(len(document["prvDiaSources"]) for document in found) == 20
        if keep == "packet":
            assert sorted(archive.packets("LSST_alerts")) == sorted(values)


async def test_a_slow_stream_is_acknowledged_while_it_waits(server, topic, group, tmp_path):
    url = f"kafka://{server}/{topic}"
    produce(server, topic, packets(3))
    async with (
        nuncius.aio.open_archive(tmp_path / "night.db") as archive,
        nuncius.aio.open_stream(url, group=group, config=QUICK) as stream,
    ):
        task = asyncio.create_task(archive.ingest(stream, progress=False))
        assert await asyncio.to_thread(wait_until, lambda: committed_sum(server, group, topic) == 3)
        produce(server, topic, packets(2, first=3))
        assert await asyncio.to_thread(wait_until, lambda: committed_sum(server, group, topic) == 5)
        assert await archive.count("generic_alerts") == 5
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()


@pytest.mark.parametrize("acknowledge", ["on_next", "manual"])
async def test_pubsub(ingest, kept, monkeypatch, acknowledge):
    pytest.importorskip("google.pubsub_v1", reason="needs google-cloud-pubsub")
    for name in ("PUBSUB_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with SandboxPubSub() as broker:
        broker.publish("ztf-loop", [packet(number) for number in range(90)])
        options = {"acknowledge": acknowledge, "max_unacknowledged": 20, "config": {"lease_s": 10}}
        first = await ingest(broker.url, stop=40, **options)
        assert first.archived == 40
        assert wait_until(lambda: broker.counts().acknowledged == 40)
        second = await ingest(broker.url, stop="end", **options)
        assert (second.archived, second.duplicates) == (50, 0)
        assert wait_until(lambda: broker.counts().acknowledged == 90)
    assert kept() == list(range(90))
