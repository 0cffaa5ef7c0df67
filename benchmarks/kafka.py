"""A broker with messages in it, and the plain consumer that ours is compared with."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any

from tools.mock_cluster import MockCluster

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PARTITIONS = 64  # the mock cluster keeps 5 MB of each
RETAINED_BYTES = PARTITIONS * 4_500_000
TOPIC = "alerts"


@contextlib.contextmanager
def broker(messages: Sequence[bytes] = ()) -> Iterator[str]:
    """Run a broker in a process of its own; give its address.

    Message number `i` is in partition ``i % PARTITIONS`` at the offset ``i // PARTITIONS``.
    """
    with MockCluster({TOPIC: PARTITIONS}) as cluster:
        _fill(cluster.server, messages)
        yield cluster.server


def _fill(server: str, messages: Sequence[bytes]) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": server, "log_level": 2, "linger.ms": 20})
    for number, value in enumerate(messages):
        produce(producer, number, value)
    if producer.flush(60):
        message = "the broker did not take all messages"
        raise SystemExit(message)
    _check_retained(server, len(messages))


def produce(producer: Any, number: int, value: bytes) -> None:
    """Send a message to the partition that its number gives, and wait where the producer holds too many."""
    while True:
        try:
            producer.produce(TOPIC, value, partition=number % PARTITIONS)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def _check_retained(server: str, count: int) -> None:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": server, "group.id": "benchmark", "log_level": 2})
    marks = [consumer.get_watermark_offsets(TopicPartition(TOPIC, i), timeout=10) for i in range(PARTITIONS)]
    consumer.close()
    if any(low for low, _ in marks) or sum(high for _, high in marks) != count:
        message = f"the broker keeps {sum(high - low for low, high in marks)} of {count} messages"
        raise SystemExit(message)


def plain_consumer(server: str, config: Mapping[str, Any], *, from_end: bool = False) -> Any:
    """Return a consumer of confluent-kafka that reads all partitions, outside of any group."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer(
        {
            **config,
            "bootstrap.servers": server,
            "group.id": f"benchmark-{secrets.token_hex(4)}",
            "enable.auto.commit": False,
        }
    )
    consumer.list_topics(
        timeout=10
    )  # connected first, as a stream is: else the first fetch comes half a second late
    parts = [TopicPartition(TOPIC, i, OFFSET_BEGINNING) for i in range(PARTITIONS)]
    if from_end:
        for part in parts:
            part.offset = consumer.get_watermark_offsets(part, timeout=10)[1]
    consumer.assign(parts)
    return consumer
