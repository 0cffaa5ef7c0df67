"""A Kafka broker on loopback: the mock cluster inside librdkafka, in a process of its own.

It speaks the real protocol to any Kafka client: topics, consumer groups, committed positions, compression, headers. It
has no login and no TLS, keeps everything in memory, and keeps only about 5 MB of each partition, which `publish` takes
care of.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any, Self

from nuncius.errors import ConfigurationError, DeadlineError, ServerError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

_PARTITIONS = 4  # what the mock cluster gives to a new topic
_RETAINED_BYTES = 4_500_000  # it drops the oldest records of a partition beyond about 5 MB
_RECORD_OVERHEAD = 128
_START_S = 20.0

# Ends when its standard input closes, so that it never outlives the program that started it.
_SERVER = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to us too: the program still has to leave
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1, "log_level": 2})
brokers = producer.list_topics(timeout=10).brokers.values()
print(*(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
sys.stdin.read()
"""


class SandboxKafka:
    """A Kafka broker on loopback; started by the first use of `Sandbox.kafka`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter with our own text
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            self._process.wait(_START_S)
            raise UnreachableError(
                f"the sandbox's Kafka broker did not start (exit code {self._process.returncode})",
                service="kafka",
            )
        self._server = line.split()[0]
        self._producer: Any = None
        self._asker: dict[str, Any] = {}
        # For each partition the offsets and sizes of what it still holds and somebody may still read.
        self._held: dict[tuple[str, int], deque[tuple[int, int]]] = defaultdict(deque)
        self._bytes: dict[tuple[str, int], int] = defaultdict(int)
        self._turn = 0

    @property
    def host(self) -> str:
        """The host name."""
        return self._server.rpartition(":")[0]

    @property
    def port(self) -> int:
        """The port."""
        return int(self._server.rpartition(":")[2])

    @property
    def url(self) -> str:
        """What `open_stream` takes, before ``/topic``."""
        return f"kafka://{self._server}"

    def publish(
        self,
        topic: str,
        packets: Iterable[bytes | None],
        *,
        key: bytes | None = None,
        headers: dict[str, bytes] | None = None,
        group: str | None = None,
        timeout_s: float = 30.0,
    ) -> int:
        """Send packets to a topic, which is made if it doesn't exist, round-robin over its partitions.

        Parameters
        ----------
        topic : str
            The topic.
        packets : iterable of bytes
            The values of the messages.
        key, headers : optional
            The same for all of them.
        group : str, optional
            The consumer group that reads the topic. With it `publish` waits, whenever a partition is full, until the
            group has committed what would be dropped.
        timeout_s : float
            How long to wait for the group without any progress.

        Returns
        -------
        int
            How many messages the broker confirmed.

        Raises
        ------
        ConfigurationError
            If a partition is full and no group was named: going on would drop records that nobody has read.
        DeadlineError
            If the group made no progress for `timeout_s`.
        ServerError
            If the broker did not confirm a message.
        """
        self._ensure(topic, timeout_s)
        failed: list[str] = []
        sent = 0

        def delivered(error: Any, message: Any) -> None:
            if error is not None:
                failed.append(error.str())
                return
            place = (message.topic(), message.partition())
            self._held[place].append((message.offset(), len(message) + around))

        # The key and the headers take room in each record too.
        around = _RECORD_OVERHEAD + len(key or b"")
        around += sum(len(name) + len(value or b"") + 8 for name, value in (headers or {}).items())
        for packet in packets:
            size = len(packet or b"") + around
            partition = self._turn % _PARTITIONS
            self._turn += 1
            if self._bytes[topic, partition] + size > _RETAINED_BYTES:
                self._make_room((topic, partition), size, group, timeout_s)
            self._bytes[topic, partition] += size
            self._produce(topic, packet, partition, key, headers, delivered)
            sent += 1
            if failed:
                break
        waiting = self._producer.flush(timeout_s)
        if failed or waiting:
            reason = failed[0] if failed else f"no answer within {timeout_s:g} s"
            raise ServerError(
                f"the broker did not confirm {len(failed) + waiting} of {sent} messages: {reason}",
                service="kafka",
            )
        return sent

    def close(self) -> None:
        """Stop the broker."""
        if self._producer is not None:
            self._producer.flush(1)
        for consumer in self._asker.values():
            consumer.close()
        self._asker.clear()
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SandboxKafka {self.url}>"

    def _ensure(self, topic: str, timeout_s: float) -> None:
        from confluent_kafka import KafkaException, Producer

        if self._producer is None:
            self._producer = Producer(
                {
                    "bootstrap.servers": self._server,
                    "message.max.bytes": 100_000_000,
                    "linger.ms": 2,
                    "log_level": 2,
                    "allow.auto.create.topics": True,
                }
            )
        try:
            self._producer.list_topics(topic, timeout=min(timeout_s, 10))
        except KafkaException as error:
            raise UnreachableError(
                f"the sandbox's broker at {self._server} does not answer: {error.args[0].str()}",
                service="kafka",
            ) from error

    def _produce(
        self, topic: str, packet: Any, partition: int, key: Any, headers: Any, delivered: Any
    ) -> None:
        while True:
            try:
                self._producer.produce(
                    topic, packet, partition=partition, key=key, headers=headers, on_delivery=delivered
                )
            except BufferError:  # the local queue is full: let it send some
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def _make_room(self, place: tuple[str, int], size: int, group: str | None, timeout_s: float) -> None:
        topic, partition = place
        if size > _RETAINED_BYTES:
            raise ConfigurationError(
                f"a packet of {size} bytes is larger than what the sandbox's broker keeps of a partition "
                f"({_RETAINED_BYTES} bytes)"
            )
        if group is None:
            raise ConfigurationError(
                f"partition {partition} of {topic} is full: the sandbox's broker keeps {_RETAINED_BYTES} bytes of each, "
                "and would drop what nobody has read. Publish less, or name the consumer group that is reading with "
                "group= and publish from another thread"
            )
        self._producer.flush(timeout_s)
        waited_since, last = time.monotonic(), -1
        while self._bytes[place] + size > _RETAINED_BYTES:
            committed = self._committed(group, place)
            if committed > last:
                waited_since, last = time.monotonic(), committed
            held = self._held[place]
            while held and held[0][0] < committed:
                self._bytes[place] -= held.popleft()[1]
            if self._bytes[place] + size <= _RETAINED_BYTES:
                return
            if time.monotonic() - waited_since > timeout_s:
                raise DeadlineError(
                    f"the group {group} has committed nothing new on partition {partition} of {topic} for "
                    f"{timeout_s:g} s, and the partition is full",
                    service="kafka",
                )
            time.sleep(0.02)

    def _committed(self, group: str, place: tuple[str, int]) -> int:
        from confluent_kafka import Consumer, TopicPartition

        if group not in self._asker:
            self._asker[group] = Consumer(
                {
                    "bootstrap.servers": self._server,
                    "group.id": group,
                    "enable.auto.commit": False,
                    "log_level": 2,
                }
            )
        return int(self._asker[group].committed([TopicPartition(*place)], timeout=10)[0].offset)
