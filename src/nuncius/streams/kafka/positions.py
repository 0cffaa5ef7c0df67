"""Positions in partitions, as a client asks the broker for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.errors import NotFoundError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuncius.errors import NunciusError
    from nuncius.streams.bounds import Start
    from nuncius.streams.kafka.faults import Translator
    from nuncius.streams.transport import Partition


class Positions:
    """What a consumer is told about positions.

    Parameters
    ----------
    consumer : confluent_kafka.Consumer
        Who asks.
    faults : Translator
        Makes errors of what fails.
    timeout_s : float
        For each question.
    """

    def __init__(self, consumer: Any, faults: Translator, timeout_s: float) -> None:
        self._consumer = consumer
        self._faults = faults
        self._timeout_s = timeout_s

    def committed(self, keys: Sequence[Partition]) -> dict[Partition, int]:
        """Return where the group has come to; a partition without a position is left out."""
        from confluent_kafka import KafkaException, TopicPartition

        try:
            found = self._consumer.committed([TopicPartition(*key) for key in keys], timeout=self._timeout_s)
        except KafkaException as error:
            raise self._faults.typed(error.args[0]) from error
        for part in found:
            if part.error is not None:
                raise self._faults.typed(part.error, part.topic)
        return {(part.topic, part.partition): part.offset for part in found if part.offset >= 0}

    def watermarks(self, keys: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        """Return the first offset that the broker still has, and the one that the next message will get."""
        from confluent_kafka import OFFSET_BEGINNING, OFFSET_END

        first, end = self._offsets(keys, OFFSET_BEGINNING), self._offsets(keys, OFFSET_END)
        return {key: (first[key], end[key]) for key in keys}

    def at(self, where: Start, keys: Sequence[Partition]) -> dict[Partition, int]:
        """Return the offset of a place in each partition: its first, its end, or what came at a time or later."""
        if where.unix_s is None:
            side = 1 if where.name == "latest" else 0
            return {key: marks[side] for key, marks in self.watermarks(keys).items()}
        found = self._offsets(keys, int(where.unix_s * 1000))
        # A partition without messages since then answers with no offset: that is its end.
        beyond = self.watermarks([key for key, offset in found.items() if offset < 0])
        return found | {key: end for key, (_, end) in beyond.items()}

    def _offsets(self, keys: Sequence[Partition], stamp: int) -> dict[Partition, int]:
        """Ask for the offsets at a time in ms, or at one of Kafka's marks for the first and the end, all at once."""
        from confluent_kafka import KafkaException, TopicPartition

        if not keys:
            return {}
        try:
            found = self._consumer.offsets_for_times(
                [TopicPartition(*key, stamp) for key in keys], timeout=self._timeout_s
            )
        except KafkaException as error:
            raise self._typed(error.args[0], keys[0]) from error
        for part in found:
            if part.error is not None:
                raise self._typed(part.error, (part.topic, part.partition))
        return {(part.topic, part.partition): part.offset for part in found}

    def _typed(self, error: Any, key: Partition) -> NunciusError:
        typed = self._faults.typed(error, key[0])
        if isinstance(typed, NotFoundError):  # it is known to exist: in an outage librdkafka forgets it
            connection = self._faults.connection
            typed = UnreachableError(
                f"{connection.servers} does not answer about {key}", service=connection.service
            )
        return typed
