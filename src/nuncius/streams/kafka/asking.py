"""Questions to a cluster by a client that reads nothing and is a member of no group."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from nuncius.errors import ConfigurationError, UnreachableError
from nuncius.streams.kafka.faults import Translator
from nuncius.streams.kafka.nights import expand, is_dated
from nuncius.streams.kafka.positions import Positions
from nuncius.streams.kafka.transport import message_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from nuncius.errors import NunciusError
    from nuncius.streams.bounds import Start
    from nuncius.streams.kafka.connection import Connection
    from nuncius.streams.transport import Message, Partition

# UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS, FENCED_MEMBER_EPOCH, STALE_MEMBER_EPOCH: what a broker
# answers to a commit from outside while a group has members.
_GROUP_IN_USE = frozenset({22, 25, 27, 110, 113})


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group has come in one partition.

    Parameters
    ----------
    committed : int, optional
        The next offset that it will read; None where it has no position.
    first, end : int
        The first offset that the broker still has, and the one that the next message will get.
    """

    committed: int | None
    first: int
    end: int

    @property
    def waiting(self) -> int:
        """How many messages wait; without a position all that the broker has."""
        return max(0, self.end - max(self.first, self.first if self.committed is None else self.committed))

    @property
    def expired(self) -> int:
        """How many messages are no longer there that the group has not read."""
        return 0 if self.committed is None else max(0, self.first - self.committed)


class Asker:
    """A client that only asks.

    Parameters
    ----------
    connection : Connection
        Where.
    group : str, optional
        The consumer group that is asked about.
    timeout_s : float
        How long connecting may take, and then each question.
    """

    def __init__(self, connection: Connection, *, group: str | None = None, timeout_s: float = 10.0) -> None:
        self._connection = connection
        self._group = group
        self._timeout_s = timeout_s
        self._faults = Translator(connection, group)
        self._trouble: NunciusError | None = None
        self._passing: str | None = None
        self._consumer: Any = None

    def __enter__(self) -> Self:
        from confluent_kafka import Consumer, KafkaException

        settings = self._connection.asking_settings(self._group)
        try:
            self._consumer = Consumer({**settings, "error_cb": self._on_error})
        except KafkaException as error:
            raise ConfigurationError(
                f"config= is not accepted: {error.args[0].str()}", service=self._connection.service
            ) from error
        self._positions = Positions(self._consumer, self._faults, self._timeout_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def topics(self) -> list[str]:
        """Return the names of all topics that we are shown, without Kafka's own."""
        return sorted(name for name in self._known() if not name.startswith("__"))

    def lag(self, topics: Sequence[str]) -> dict[Partition, Lag]:
        """Return how far the group has come in each partition of these topics."""
        keys = self._partitions(topics)
        committed = self._committed(keys)
        return {
            key: Lag(committed.get(key), *marks) for key, marks in self._positions.watermarks(keys).items()
        }

    def rewind(self, topics: Sequence[str], to: Start) -> dict[Partition, int]:
        """Commit other positions for the group; return them."""
        from confluent_kafka import KafkaException, TopicPartition

        keys = self._partitions(topics)
        self._committed(keys)  # a group that we may not use is told here; a commit would wait for it
        targets = self._positions.at(to, keys)
        try:
            answers = self._consumer.commit(
                offsets=[TopicPartition(*key, offset) for key, offset in targets.items()], asynchronous=False
            )
        except KafkaException as error:
            raise self._not_moved(error.args[0]) from error
        for answer in answers:
            if answer.error is not None:
                raise self._not_moved(answer.error)
        return targets

    def watermarks(self, topics: Sequence[str]) -> dict[Partition, tuple[int, int]]:
        """Return the first offset and the one behind the last of each partition."""
        return self._positions.watermarks(self._partitions(topics))

    def last_message(self, topics: Sequence[str]) -> Message | None:
        """Read the last message of any of these topics; None if they are empty."""
        from confluent_kafka import KafkaError, TopicPartition

        deadline = time.monotonic() + self._timeout_s
        for key, (first, end) in self.watermarks(topics).items():
            if end <= first:
                continue
            self._consumer.assign([TopicPartition(*key, end - 1)])
            while time.monotonic() < deadline:
                for found in self._consumer.consume(1, 0.2):
                    error = found.error()
                    if error is None:
                        return message_of(found)
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise self._faults.typed(error, key[0])
                if self._trouble is not None:
                    raise self._trouble
            raise UnreachableError(
                f"{self._connection.servers} shows {end - first} messages in {key[0]}[{key[1]}] and gives none within "
                f"{self._timeout_s:g} s: {self._passing or 'no reason was given'}. May this login read the topic?",
                service=self._connection.service,
                url=self._connection.url,
            )
        return None

    # Parts ------------------------------------------------------------------------------------------------------------

    def _known(self) -> Mapping[str, Any]:
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                found: Mapping[str, Any] = self._consumer.list_topics(timeout=0.5).topics
            except KafkaException as error:
                self._consumer.poll(0)  # a refused login is told to the callback alone
                if self._trouble is not None:
                    raise self._trouble from error
                if time.monotonic() >= deadline:
                    raise UnreachableError(
                        f"no Kafka broker answers at {self._connection.servers} within {self._timeout_s:g} s: "
                        f"{self._passing or error.args[0].str()}. Check the address, the network and, if the broker wants them, "
                        "credentials= and ssl_ca_location="
                        f"{self._faults.about_tls}",
                        service=self._connection.service,
                        url=self._connection.url,
                    ) from error
            else:
                return found

    def _partitions(self, topics: Sequence[str]) -> list[Partition]:
        known = self._known()
        keys: list[Partition] = []
        for topic in topics:
            names = _matching(topic, known)
            if not names:
                raise self._faults.unknown_topic(topic, known)
            for name in names:
                if known[name].error is not None:
                    raise self._faults.typed(known[name].error, name)
                keys += [(name, number) for number in sorted(known[name].partitions)]
        return keys

    def _committed(self, keys: Sequence[Partition]) -> dict[Partition, int]:
        """Return where the group has come to; in slices, for that a group is forbidden comes as a message with an error."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            slice_s = max(0.01, min(1.0, deadline - time.monotonic()))
            try:
                return Positions(self._consumer, self._faults, slice_s).committed(keys)
            except UnreachableError as error:
                answer = self._consumer.poll(0)
                if answer is not None and answer.error() is not None:
                    self._on_error(answer.error())
                if self._trouble is not None:
                    raise self._trouble from error
                if time.monotonic() >= deadline:
                    raise

    def _not_moved(self, error: Any) -> NunciusError:
        if error.code() in _GROUP_IN_USE:
            return ConfigurationError(
                f"somebody reads with the group {self._group!r} now, so its position can't be moved. Stop all its readers "
                "(a reader that died is forgotten after some 10 s), then try again",
                service=self._connection.service,
            )
        return self._faults.typed(error)

    def _on_error(self, error: Any) -> None:
        typed = self._faults.typed(error)
        if type(typed) is UnreachableError:
            self._passing = error.str()
        else:
            self._trouble = typed


def _matching(topic: str, known: Mapping[str, Any]) -> list[str]:
    if topic.startswith("^"):
        try:
            wanted = re.compile(topic)
        except re.error as error:
            raise ConfigurationError(
                f"the topic {topic!r} begins with ^, so it is a regular expression, and is none: {error}",
                position=topic,
            ) from error
        return sorted(name for name in known if wanted.match(name))
    if is_dated(topic):
        return [name for name in expand(topic, time.time()) if name in known]
    return [topic] if topic in known else []
