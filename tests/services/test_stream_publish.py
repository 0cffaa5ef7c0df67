"""Publish: what a broker confirmed is there, once and in order; what it did not is said, and none is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import logging
import math
import sys
import time
from collections import Counter
from datetime import UTC, datetime

import fastavro
import numpy as np
import pytest

import builders
import streams_support
from nuncius import Alert
from nuncius.credentials import Credentials
from nuncius.errors import ConfigurationError, NotFoundError, UnreachableError
from nuncius.streams.kafka import Security, connect
from nuncius.streams.publishing import AsyncPublisher, Publisher
from nuncius.streams.publishing.values import Encoder
from streams_support import PARTITIONS, packet, packets, run_program

PLAIN = Security(mechanism=None, tls=False)


class AsIfAsync:
    """A sync publisher with the methods of an async one, so that a test is written once."""

    def __init__(self, publisher):
        self.publisher = publisher

    def __getattr__(self, name):
        return getattr(self.publisher, name)

    def __repr__(self):
        return repr(self.publisher)

    async def __aenter__(self):
        self.publisher.__enter__()
        return self

    async def __aexit__(self, *error):
        return self.publisher.__exit__(*error)

    async def publish(self, *arguments, **options):
        self.publisher.publish(*arguments, **options)

    async def publish_many(self, *arguments, **options):
        return self.publisher.publish_many(*arguments, **options)

    async def flush(self, *arguments):
        self.publisher.flush(*arguments)

    async def close(self):
        self.publisher.close()


@pytest.fixture(params=["sync", "async"])
def publish_to(request):
    """Open a publisher of either colour."""

    def opened(server, topic, *, config=None, timeout_s=20.0):
        connection = connect(server, PLAIN, config=config)
        if request.param == "async":
            return AsyncPublisher(connection, topic, timeout_s=timeout_s)
        return AsIfAsync(Publisher(connection, topic, timeout_s=timeout_s))

    return opened


@pytest.fixture
def topic(server):
    """Give the name of a topic that exists and is empty."""
    from confluent_kafka import Producer

    name = streams_support.new_name()
    producer = Producer({"bootstrap.servers": server, "log_level": 2, "allow.auto.create.topics": True})
    assert producer.list_topics(name, timeout=10).topics[name].error is None
    return name


@pytest.fixture
def cluster():
    """Give a broker of the test's own that can be made to fail."""
    if sys.platform != "linux":
        pytest.skip("the fault control of the mock cluster needs Linux")
    with streams_support.MockCluster({"alerts": PARTITIONS}) as running:
        yield running


def consumed(server, topic):
    """Read all that is in a topic with a plain consumer, by partition and offset."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": server, "group.id": "x", "enable.partition.eof": True, "log_level": 2}
    )
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    found, ended, deadline = [], set(), time.monotonic() + 20
    while len(ended) < PARTITIONS and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.2):
            if message.error() is None:
                found.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
    consumer.close()
    assert len(ended) == PARTITIONS
    return sorted(found, key=lambda message: (message.partition(), message.offset()))


def values(server, topic):
    return [message.value() for message in consumed(server, topic)]


# What arrives ---------------------------------------------------------------------------------------------------------


async def test_what_is_published_arrives_once_and_in_order(publish_to, server, topic):
    async with publish_to(server, topic) as publisher:
        for number in range(1000):
            await publisher.publish(packet(number), key=str(number % 7))
    assert publisher.confirmed == 1000
    assert publisher.unconfirmed == []
    found = consumed(server, topic)
    assert Counter(message.value() for message in found) == Counter(packets(1000))
    for key in {message.key() for message in found}:
        numbers = [json.loads(message.value())["candid"] for message in found if message.key() == key]
        assert numbers == sorted(numbers)


async def test_key_headers_and_time_arrive(publish_to, server, topic):
    when = datetime(2026, 11, 21, 3, 4, 5, 678000, tzinfo=UTC)
    headers = {"_format": "json", "_id": b"\x00\xff", "none": None}
    async with publish_to(server, topic) as publisher:
        await publisher.publish(b"x", key=b"\x00k", headers=headers, timestamp=when)
        await publisher.publish(b"", headers=[("a", "1"), ("a", "2")])
    found = {message.value(): message for message in consumed(server, topic)}
    assert found[b"x"].key() == b"\x00k"
    assert found[b"x"].headers() == [("_format", b"json"), ("_id", b"\x00\xff"), ("none", None)]
    assert found[b"x"].timestamp()[1] == round(when.timestamp() * 1000)
    assert found[b""].headers() == [("a", b"1"), ("a", b"2")]
    assert abs(found[b""].timestamp()[1] / 1000 - time.time()) < 60


async def test_each_kind_of_value_arrives_in_its_form(publish_to, server, topic):
    schema = builders.record_type("star", {"id": "long", "mag": ["null", "double"]})
    schema["fields"].append({"name": "band", "type": "string", "default": "r"})
    star = Alert.from_bytes(builders.ztf())
    async with publish_to(server, topic) as publisher:
        await publisher.publish(star, key="alert")
        await publisher.publish({"id": 2**60, "name": "é", "list": [1.5, None]}, key="json")
        await publisher.publish({"id": 1, "mag": 18.5}, key="avro", schema=schema)
        await publisher.publish({"id": 2, "mag": None, "band": "g"}, key="text", schema=json.dumps(schema))
        await publisher.publish(bytearray(b"\x00\xff"), key="bytes")
    found = {message.key().decode(): message.value() for message in consumed(server, topic)}
    assert found["alert"] == star.raw
    assert json.loads(found["json"]) == {"id": 2**60, "name": "é", "list": [1.5, None]}
    assert list(fastavro.reader(io.BytesIO(found["avro"]))) == [{"id": 1, "mag": 18.5, "band": "r"}]
    assert list(fastavro.reader(io.BytesIO(found["text"]))) == [{"id": 2, "mag": None, "band": "g"}]
    assert found["bytes"] == b"\x00\xff"


async def test_many_are_published_at_once(publish_to, server, topic):
    async with publish_to(server, topic) as publisher:
        count = await publisher.publish_many(
            (packet(number) for number in range(500)), key="k", headers={"a": "b"}, progress=True
        )
        assert count == publisher.confirmed == 500
    found = consumed(server, topic)
    assert [message.value() for message in found] == packets(500)
    assert {message.headers()[0] for message in found} == {("a", b"b")}


async def test_tasks_may_publish_side_by_side(server, topic):
    async with AsyncPublisher(connect(server, PLAIN), topic) as publisher:
        await asyncio.gather(*(publisher.publish_many(packets(50, first=50 * task)) for task in range(8)))
        assert publisher.confirmed == 400
    assert Counter(values(server, topic)) == Counter(packets(400))


async def test_leaving_by_an_error_still_sends_what_was_given(publish_to, server, topic):
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with publish_to(server, topic) as publisher:
            for value in packets(20):
                await publisher.publish(value)
            raise ZeroDivisionError
    assert len(values(server, topic)) == 20


async def test_a_publisher_needs_no_block(publish_to, server, topic):
    publisher = publish_to(server, topic)
    await publisher.publish(packet(1))
    await publisher.flush()
    assert publisher.confirmed == 1
    await publisher.close()
    with pytest.raises(ConfigurationError, match="closed"):
        await publisher.publish(packet(2))


def test_a_forgotten_publisher_sends_all_the_same(server, topic):
    publisher = Publisher(connect(server, PLAIN), topic)
    for value in packets(50):
        publisher.publish(value)
    del publisher
    gc.collect()
    assert len(values(server, topic)) == 50


def test_a_program_that_ends_without_closing_sends_all_the_same(server, topic):
    program = run_program(
        "import sys\n"
        "from nuncius.streams.kafka import Security, connect\n"
        "from nuncius.streams.publishing import Publisher\n"
        "publisher = Publisher(connect(sys.argv[1], Security(mechanism=None, tls=False)), sys.argv[2])\n"
        "for n in range(50):\n    publisher.publish(b'%d' % n)\n",
        server,
        topic,
    )
    assert program.returncode == 0, program.stderr
    assert len(values(server, topic)) == 50


# What can't be published ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        ({"a": {"b": [0.0, math.nan]}}, {}, r"a\.b\.1, which is nan"),
        ({"image": b"\x00"}, {}, "image, which is bytes"),
        ({"n": np.int64(3)}, {}, "n, which is text"),
        ("text", {}, "str can't be published"),
        (None, {}, "NoneType can't be published"),
        (b"x", {"schema": {"type": "string"}}, "schema= is for a dict"),
        (
            {"id": "one"},
            {"schema": builders.record_type("star", {"id": "long"})},
            "can't be written with this schema",
        ),
        ({"id": 1, "more": 2}, {"schema": builders.record_type("star", {"id": "long"})}, "more"),
        ({}, {"schema": builders.record_type("star", {"id": "long"})}, "id"),
        ({}, {"schema": "{"}, "schema"),
        ({}, {"schema": {"type": "nonsense"}}, "nonsense"),
        (b"x", {"key": 5}, "the key is int"),
        (b"x", {"headers": {"a": 5}}, "header a is int"),
        (b"x", {"timestamp": "yesterday"}, "is no time"),
        (b"x", {"timestamp": datetime(2026, 11, 21)}, "no time zone"),
        (b"x", {"timestamp": "1950-01-01T00:00Z"}, "after 1970"),
    ],
)
def test_what_would_arrive_otherwise_is_refused(value, options, message):
    given = {"key": None, "headers": None, "timestamp": None, "schema": None} | options
    with pytest.raises(ConfigurationError, match=message):
        Encoder().outgoing(value, "night", **given)


async def test_a_value_that_is_refused_is_not_sent(publish_to, server, topic):
    async with publish_to(server, topic) as publisher:
        with pytest.raises(ConfigurationError, match="nan"):
            await publisher.publish({"mag": math.nan})
    assert publisher.confirmed == 0
    assert values(server, topic) == []


async def test_a_message_that_is_too_large_is_told(publish_to, server, topic):
    async with publish_to(server, topic, config={"message.max.bytes": 100_000}) as publisher:
        await publisher.publish(packet(1))
        with pytest.raises(ConfigurationError, match=f"no message of this size in {topic}"):
            await publisher.publish(bytes(200_000))
        await publisher.publish(packet(2))
    assert sorted(values(server, topic)) == packets(2, first=1)


async def test_an_unknown_topic_is_told_before_anything_is_sent(publish_to, server, topic):
    with pytest.raises(NotFoundError, match=topic):
        async with publish_to(server, topic + "x"):
            pytest.fail("the topic was made")
    async with publish_to(server, topic) as publisher:
        await publisher.publish(packet(1))
        with pytest.raises(NotFoundError, match=topic):
            await publisher.publish(packet(2), topic=topic[:-1])
    assert values(server, topic) == [packet(1)]


async def test_another_topic_may_be_named(publish_to, server, topic):
    from confluent_kafka import Producer

    other = f"{topic}-2"
    Producer({"bootstrap.servers": server, "log_level": 2}).list_topics(other, timeout=10)
    async with publish_to(server, topic) as publisher:
        await publisher.publish(packet(1), topic=other)
    assert values(server, other) == [packet(1)]
    assert values(server, topic) == []


async def test_nobody_there_is_told_in_time(publish_to):
    begin = time.monotonic()
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1 "):
        async with publish_to("127.0.0.1:1", "alerts", timeout_s=1):
            pytest.fail("connected to nobody")
    assert time.monotonic() - begin < 4


def test_options_that_mean_nothing_are_refused(server, topic):
    with pytest.raises(ConfigurationError, match=r"no\.such\.setting"):
        Publisher(connect(server, PLAIN, config={"no.such.setting": 1}), topic).publish(b"x")
    with pytest.raises(ConfigurationError, match="timeout_s"):
        Publisher(connect(server, PLAIN), topic, timeout_s=0)


def test_no_secret_is_shown(server):
    login = Credentials("me", "s3cr3t-word", source="a test")
    connection = connect(server, Security("PLAIN", tls=False), credentials=login)
    shown = (
        repr(Publisher(connection, "alerts")) + repr(connection) + repr(vars(Publisher(connection, "alerts")))
    )
    assert "s3cr3t" not in shown
    assert server in shown


# Faults ---------------------------------------------------------------------------------------------------------------


@pytest.mark.mock_cluster
async def test_an_outage_loses_and_doubles_nothing(publish_to, cluster):
    async with publish_to(cluster.server, "alerts") as publisher:
        for number in range(3000):
            if number in {500, 1500}:
                cluster.order("down")
            if number in {1000, 2500}:
                await asyncio.sleep(0.7)
                cluster.order("up")
            await publisher.publish(packet(number), key="one")
            if number % 100 == 0:
                await asyncio.sleep(0.005)
    assert publisher.confirmed == 3000
    assert values(cluster.server, "alerts") == packets(3000)


@pytest.mark.mock_cluster
async def test_what_was_not_confirmed_is_told_and_can_be_sent_again(publish_to, cluster):
    publisher = publish_to(cluster.server, "alerts", timeout_s=1.5)
    await publisher.publish_many(packets(10))
    cluster.order("down")
    begin = time.monotonic()
    for value in packets(5, first=10):
        await publisher.publish(value)
    with pytest.raises(UnreachableError, match="5 of 15 messages failed") as caught:
        await publisher.flush()
    assert time.monotonic() - begin < 6
    assert caught.value.url == f"kafka://{cluster.server}"
    again = sorted(publisher.unconfirmed)
    assert again == packets(5, first=10)
    publisher.unconfirmed.clear()
    cluster.order("up")
    assert await publisher.publish_many(again) == 5
    await publisher.close()
    assert set(values(cluster.server, "alerts")) == set(packets(15))


@pytest.mark.mock_cluster
async def test_leaving_the_block_tells_what_was_not_confirmed(publish_to, cluster):
    with pytest.raises(UnreachableError, match="3 of 3 messages"):  # noqa: PT012
        async with publish_to(cluster.server, "alerts", timeout_s=1) as publisher:
            cluster.order("down")
            for value in packets(3):
                await publisher.publish(value)
    with pytest.raises(ZeroDivisionError) as caught:  # noqa: PT012
        cluster.order("up")
        async with publish_to(cluster.server, "alerts", timeout_s=1) as publisher:
            cluster.order("down")
            await publisher.publish(packet(1))
            raise ZeroDivisionError
    assert "1 of 1 messages failed" in caught.value.__notes__[0]


@pytest.mark.mock_cluster
async def test_a_full_queue_waits_and_drops_nothing(publish_to, cluster):
    config = {"queue.buffering.max.messages": 20}
    publisher = publish_to(cluster.server, "alerts", config=config, timeout_s=1.5)
    await publisher.publish(packet(0))
    await publisher.flush()
    cluster.order("down")
    given = [packet(0)]
    with pytest.raises(UnreachableError, match="messages failed"):  # noqa: PT012
        for value in packets(100, first=1):
            given.append(value)
            await publisher.publish(value)
    assert 20 < len(given) < 100  # it waited for room, and did not queue the whole night
    with contextlib.suppress(UnreachableError):  # if some have failed since
        await publisher.close()
    assert Counter([packet(0), *publisher.unconfirmed]) == Counter(given)
    assert publisher.confirmed == 1


@pytest.mark.mock_cluster
async def test_a_flush_with_a_limit_keeps_to_it(publish_to, cluster):
    publisher = publish_to(cluster.server, "alerts", timeout_s=10)
    await publisher.publish(packet(0))
    await publisher.flush()
    cluster.order("down")
    await publisher.publish(packet(1))
    begin = time.monotonic()
    with pytest.raises(UnreachableError, match="1 of 2 messages"):
        await publisher.flush(0.3)
    assert time.monotonic() - begin < 3
    cluster.order("up")
    await publisher.close()
    assert publisher.confirmed == 2


@pytest.mark.mock_cluster
def test_a_forgotten_publisher_says_what_it_could_not_send(cluster, caplog):
    publisher = Publisher(connect(cluster.server, PLAIN), "alerts", timeout_s=2)
    publisher.publish(packet(0))
    publisher.flush()
    cluster.order("down")
    publisher.publish(packet(1))
    with caplog.at_level(logging.ERROR, logger="nuncius.streams"):
        del publisher
        gc.collect()
    assert "1 of 2 messages to" in caplog.text
    assert "was not closed" in caplog.text


@pytest.mark.mock_cluster
def test_a_fork_is_told(cluster):
    program = run_program(
        "import os, sys\n"
        "from nuncius.errors import ForkError\n"
        "from nuncius.streams.kafka import Security, connect\n"
        "from nuncius.streams.publishing import Publisher\n"
        "with Publisher(connect(sys.argv[1], Security(mechanism=None, tls=False)), 'alerts') as publisher:\n"
        "    publisher.publish(b'1')\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        try:\n"
        "            publisher.publish(b'2')\n"
        "        except ForkError:\n"
        "            os._exit(7)\n"
        "        os._exit(1)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n",
        cluster.server,
    )
    assert program.stdout == "7\n", program.stderr
    assert values(cluster.server, "alerts") == [b"1"]
