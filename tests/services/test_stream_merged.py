"""Several streams of real brokers as one, in both colours."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter

import pytest

from nuncius import open_archive, open_stream
from nuncius.errors import LoginError, NotFoundError, UnreachableError, UnsupportedError
from nuncius.sandbox.kafka import SandboxKafka
from streams_support import (
    QUICK,
    committed_sum,
    ids,
    new_name,
    packet,
    packets,
    produce,
    read_all,
    take,
    wait_until,
)


@pytest.fixture(scope="session")
def second_kafka():
    with SandboxKafka() as broker:
        yield broker


@pytest.fixture
def other(second_kafka):
    return second_kafka.url.removeprefix("kafka://")


@pytest.fixture
def urls(server, other, topic):
    """Give the URLs of one topic at two brokers."""
    return [f"kafka://{server}/{topic}", f"kafka://{other}/{topic}"]


@pytest.fixture(params=["group", "no group"])
def member(request, group):
    return {"group": group, "config": QUICK} if request.param == "group" else {"group": False}


async def test_all_of_both_comes_and_each_knows_its_own(open_any, server, other, topic, urls, member):
    produce(server, topic, packets(40))
    produce(other, topic, packets(40, first=100))
    async with open_any(urls, stop="end", **member) as stream:
        assert sorted(ids(await read_all(stream))) == [*range(40), *range(100, 140)]
        stats = stream.stats()
        assert (stats.received, stats.acknowledged) == (80, 80)
    if member["group"]:
        assert committed_sum(server, member["group"], topic) == 40
        assert committed_sum(other, member["group"], topic) == 40


async def test_a_second_run_goes_on_at_each(open_any, server, other, topic, urls, group):
    produce(server, topic, packets(40))
    produce(other, topic, packets(40, first=100))
    options = {"group": group, "config": QUICK}
    async with open_any(urls, stop=31, **options) as stream:
        seen = ids(await read_all(stream))
    assert len(seen) == 31
    async with open_any(urls, stop="end", **options) as stream:
        seen += ids(await read_all(stream))
    assert sorted(seen) == [*range(40), *range(100, 140)]


async def test_the_same_alert_from_two_brokers_is_one(open_any, server, other, topic, urls, member):
    produce(server, topic, packets(40))
    produce(other, topic, packets(40, first=20))
    async with open_any(urls, stop="end", deduplicate=True, **member) as stream:
        assert sorted(ids(await read_all(stream))) == list(range(60))
        assert stream.stats().duplicates == 20
    if member["group"]:
        assert committed_sum(server, member["group"], topic) == 40
        assert committed_sum(other, member["group"], topic) == 40


@pytest.mark.timeout(60)
def test_a_copy_comes_when_the_first_was_taken_by_a_member_that_dies(server, other, topic, urls, group):
    """The partition of the first copy goes to another member before it is finished. That one may die with it; the copy
    at the other broker must not have been dropped for ever: each alert is finished by somebody who had it."""
    produce(server, topic, packets(40))
    produce(other, topic, [])
    done = Counter()
    options = {"group": group, "config": QUICK, "deduplicate": True, "acknowledge": "manual"}
    with open_stream(urls, **options) as stream:
        held = [next(stream) for _ in range(40)]
        with open_stream(urls[0], group=group, config=QUICK) as rival:
            first = rival.poll(10)  # it has some of the partitions now
            assert first is not None
            produce(other, topic, packets(40))  # the copies
            copies = []
            while (alert := stream.poll(1.5)) is not None:
                copies.append(alert)
            mine = {
                partition
                for engine in stream._engine._engines.values()
                for _, partition in engine._book.ledgers
            }
            assert mine
            taken = [a.alert_id for a in held if not a._delivery.ledger.alive]
            assert taken
            # Those that are still ours are duplicates; those that were taken away came again.
            assert set(taken) <= set(ids(copies))
            stream.acknowledge(held)
            stream.acknowledge(copies)
            done.update(ids(held + copies))
            rival.close()  # without having finished
        while (alert := stream.poll(2)) is not None:
            done.update([alert.alert_id])
            stream.acknowledge(alert)
    assert set(done) == set(range(40))
    assert committed_sum(other, group, topic) == 40
    assert committed_sum(server, group, topic) == 40


async def test_a_count_is_of_all_together(open_any, server, other, topic, urls, group):
    produce(server, topic, packets(40))
    produce(other, topic, packets(40, first=100))
    async with open_any(urls, group=group, stop=25, config=QUICK) as stream:
        assert len(await read_all(stream)) == 25
    assert committed_sum(server, group, topic) + committed_sum(other, group, topic) == 25


async def test_neither_starves(open_any, server, other, topic, urls, member):
    produce(server, topic, packets(4000))
    async with open_any(urls[:1], **member) as warm:
        await take(warm, 1)
    produce(other, topic, packets(4, first=10_000))
    async with open_any(urls, **member) as stream:
        await take(stream, 1)
        assert await asyncio.to_thread(wait_until, lambda: stream.stats().waiting > 3000)
        assert await asyncio.to_thread(
            wait_until, lambda: all(part.received > 3 for part in stream._engine.by_stream().values())
        )
        seen = ids(await take(stream, 20))
    assert sum(number >= 10_000 for number in seen) >= 3


async def test_one_that_can_not_be_reached_fails_all_in_time(open_any, server, topic, group):
    produce(server, topic, packets(4))
    begin = time.monotonic()
    urls = [f"kafka://{server}/{topic}", "kafka://127.0.0.1:9/x"]
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        await open_any(urls, group=group, connect_timeout_s=2).__aenter__()
    assert time.monotonic() - begin < 5


async def test_one_without_the_topic_fails_all(open_any, server, other, topic, urls, group):
    produce(server, topic, packets(4))
    with pytest.raises(NotFoundError, match=other):
        await open_any(urls, group=group).__aenter__()


def test_after_a_failure_another_member_gets_the_partitions(server, other, topic, urls, group):
    """Those that could be reached have left the group, and do not hold its partitions for ever."""
    produce(server, topic, packets(40))
    stream = open_stream(urls, group=group, config=QUICK)  # the other broker has no such topic
    with pytest.raises(NotFoundError):
        stream.__enter__()
    with open_stream(urls[0], group=group, stop="20s", config=QUICK) as alone:
        assert len([next(alone) for _ in range(40)]) == 40
    assert stream.stats().handed_out == 0


@pytest.mark.mock_cluster
@pytest.mark.timeout(60)
async def test_an_outage_of_one_leaves_the_other_going(open_any, server, topic, group):
    from streams_support import MockCluster

    with MockCluster({topic: 4}) as cluster:
        produce(server, topic, packets(20))
        produce(cluster.server, topic, packets(20, first=100))
        urls = [f"kafka://{server}/{topic}", f"kafka://{cluster.server}/{topic}"]
        async with open_any(urls, group=group, config=QUICK) as stream:
            seen = Counter(ids(await take(stream, 40)))
            cluster.order("down")
            produce(server, topic, packets(20, first=20))
            seen.update(ids(await take(stream, 20)))
            assert set(seen) == {*range(40), *range(100, 120)}
            deadline = time.monotonic() + 10
            while stream.stats().last_error is None and time.monotonic() < deadline:
                await stream.poll(0.1)
            assert stream.stats().last_error is not None
            cluster.order("up")
            produce(cluster.server, topic, packets(20, first=120))
            while not set(seen) >= set(range(120, 140)) and time.monotonic() < deadline + 20:
                alert = await stream.poll(0.5)
                if alert is not None:
                    seen[alert.alert_id] += 1
            assert set(seen) == {*range(40), *range(100, 140)}


async def test_moved_to_a_beginning_and_an_end(open_any, server, other, topic, urls, member):
    produce(server, topic, packets(20))
    produce(other, topic, packets(20, first=100))
    async with open_any(urls, **member) as stream:
        assert len(await take(stream, 40)) == 40
        await stream.seek("earliest")
        assert sorted(ids(await take(stream, 40))) == [*range(20), *range(100, 120)]
        await stream.seek("latest")
        assert await stream.poll(0.5) is None
        with pytest.raises(UnsupportedError, match="one broker"):
            await stream.seek({(topic, 0): 0})
        produce(other, topic, packets(4, first=200))
        assert sorted(ids(await take(stream, 4))) == list(range(200, 204))


@pytest.mark.timeout(30)
async def test_lag_and_topics_are_told_apart(open_any, server, other, topic, urls, member):
    produce(server, topic, packets(40))
    produce(other, topic, packets(12))
    async with open_any(urls, **member) as stream:
        lag = await stream.lag()
        names = await stream.topics()
    by_url = Counter()
    for (name, _), count in lag.items():
        by_url[name] += count
    assert by_url == {urls[0]: 40, urls[1]: 12}
    assert set(urls) <= set(names)


async def test_a_broker_and_a_folder(open_any, server, topic, tmp_path):
    """What was kept and what comes, read as one."""
    folder = tmp_path / "night"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.json").write_bytes(packet(100 + number))
    produce(server, topic, packets(20))
    urls = [f"kafka://{server}/{topic}", f"replay://{folder}"]
    async with open_any(urls, group=False, stop="end") as stream:
        alerts = await read_all(stream)
    assert sorted(ids(alerts)) == [*range(20), *range(100, 110)]
    assert {alert.origin.service for alert in alerts} == {"kafka", "replay"}


async def test_a_broker_with_a_group_and_a_folder(open_any, server, topic, group, tmp_path):
    """The group is the broker's; a folder has none, and needs none."""
    (tmp_path / "1.json").write_bytes(packet(100))
    produce(server, topic, packets(20))
    urls = [f"kafka://{server}/{topic}", f"replay://{tmp_path / '1.json'}"]
    async with open_any(urls, group=group, stop="end", config=QUICK) as stream:
        assert sorted(ids(await read_all(stream))) == [*range(20), 100]
    assert committed_sum(server, group, topic) == 20


def test_two_brokers_into_one_archive(server, other, topic, urls, group, tmp_path):
    """The same alert is one there, whichever came first."""
    produce(server, topic, [packet(n, seen_by="one") for n in range(40)])
    produce(other, topic, [packet(n, seen_by="one") for n in range(20, 60)])
    with (
        open_archive(tmp_path / "night.db") as archive,
        open_stream(urls, group=group, stop="end", config=QUICK) as stream,
    ):
        assert stream.save(archive.sink(), n=7) == 80
        assert sorted(document["candid"] for document in archive.find("generic_alerts")) == list(range(60))
    assert committed_sum(server, group, topic) == committed_sum(other, group, topic) == 40


def test_poison_of_both_is_kept(server, other, topic, urls, group, own_data_dir, tmp_path):
    """The same places in topics of the same name, and one folder for both."""
    produce(server, topic, [b"\x00one %d" % n if n % 8 > 3 else packet(n) for n in range(160)])
    produce(other, topic, [b"\x00two %d" % n if n % 8 > 3 else packet(1000 + n) for n in range(160)])
    options = {"group": group, "stop": "end", "config": QUICK, "quarantine_dir": tmp_path / "q"}
    with open_stream(urls, **options) as stream:
        assert len(list(stream)) == 160
        assert stream.stats().quarantined == 160
    kept = {path.read_bytes() for path in (tmp_path / "q").rglob("*.packet")}
    assert kept == {b"\x00%s %d" % (name, n) for name in (b"one", b"two") for n in range(160) if n % 8 > 3}
    reasons = [json.loads(path.read_text()) for path in (tmp_path / "q").rglob("*.reason.json")]
    assert len(reasons) == 160


def test_leaving_is_bounded_though_both_are_gone(topic, group):
    with SandboxKafka() as one, SandboxKafka() as two:
        for broker in (one, two):
            broker.publish(topic, packets(8))
        urls = [f"{one.url}/{topic}", f"{two.url}/{topic}"]
        with open_stream(urls, group=group, config=QUICK) as stream:
            for _ in range(10):
                next(stream)
            one.close()
            two.close()
            begin = time.monotonic()
    assert time.monotonic() - begin < 7


async def test_a_task_that_is_cancelled_leaves_all(server, other, topic, urls, group):
    from nuncius.aio import open_stream as open_async

    produce(server, topic, packets(8))
    produce(other, topic, packets(8))
    before = threading.active_count()

    async def read():
        async with open_async(urls, group=group, config=QUICK) as stream:
            async for _ in stream:
                pass

    task = asyncio.create_task(read())
    await asyncio.sleep(1.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(wait_until, lambda: threading.active_count() <= before + 2)


def test_a_login_that_one_lacks_is_said_before_anything_is_sent(server, topic):
    with pytest.raises(LoginError, match="ANTARES"):
        open_stream([f"kafka://{server}/{topic}", "antares://extragalactic"], group=new_name("group"))


def test_certificates_for_one_broker_do_not_ask_tls_of_the_others(server, topic, tmp_path):
    """A file of certificates is for those that are spoken to by TLS."""
    produce(server, topic, packets(4))
    authority = tmp_path / "authority.pem"
    authority.write_text("-----BEGIN CERTIFICATE-----\n")
    stream = open_stream(
        [f"lasair://{server}/{topic}", "antares://extragalactic"],
        credentials={"antares": ("key", "secret")},
        ssl_ca_location=authority,
        group=False,
    )
    lasair, antares = (engine._transport._config for engine in stream._engine._engines.values())
    assert "security.protocol" not in lasair
    assert antares["ssl.ca.location"] == str(authority)
