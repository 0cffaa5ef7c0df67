"""Pub/Sub sends messages in any order: a stop at a time waits for those from before it that come late."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from streams_support import ids, packet, read_all, wait_until

pytest.importorskip("google.pubsub_v1", reason="needs google-cloud-pubsub")


def publish(server, numbers, when):
    server.publish("ztf-loop", [packet(number) for number in numbers], publish_time=when)


async def test_a_stop_at_a_time_waits_for_what_comes_late(open_any, nuncius_pubsub):
    server, limit = nuncius_pubsub, datetime.now(UTC) - timedelta(hours=1)
    before, after = limit - timedelta(minutes=5), limit + timedelta(minutes=5)
    publish(server, range(3), before)
    publish(server, range(10, 12), after)
    publish(server, range(3, 6), before)
    publish(server, range(12, 14), after)
    async with open_any(server.url, stop=limit) as stream:
        assert sorted(ids(await read_all(stream))) == [0, 1, 2, 3, 4, 5]
    assert wait_until(lambda: (server.counts().acknowledged, server.counts().waiting) == (6, 4))
    assert server.counts().leased == 0


async def test_a_stop_at_a_time_ends_though_more_comes_all_the_time(open_any, nuncius_pubsub):
    server = nuncius_pubsub
    limit = datetime.now(UTC)
    publish(server, range(3), limit - timedelta(minutes=5))
    begin = time.monotonic()
    async with open_any(server.url, stop=limit, acknowledge="manual") as stream:
        seen, number = [], 100
        while time.monotonic() - begin < 8 and not stream._over:
            publish(server, [number], None)
            number += 1
            if (alert := await stream.poll(0.1)) is not None:
                seen.append(alert)
                stream.acknowledge(alert)
        assert stream._over
    assert sorted(ids(seen)) == [0, 1, 2]
