"""The Kafka transport: a consumer that commits only what is finished."""

from __future__ import annotations

import logging
import operator
import re
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from nuncius.errors import (
    ConfigurationError,
    LoginError,
    NotFoundError,
    NunciusError,
    ServerError,
    TlsError,
    UnreachableError,
)
from nuncius.streams.kafka.faults import Translator
from nuncius.streams.kafka.nights import CURRENT_NIGHTS, expand, is_dated, is_night_of
from nuncius.streams.kafka.positions import Positions
from nuncius.streams.transport import End, Message, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuncius.streams.bounds import Start
    from nuncius.streams.kafka.connection import Connection
    from nuncius.streams.transport import Listener, Partition

T = TypeVar("T")

log = logging.getLogger("nuncius.streams")
_librdkafka_log = logging.getLogger("nuncius.librdkafka")

_ASK_S = 5.0  # for one question to a broker that is known to be there
_REBALANCE_S = 60.0  # for the committed positions, which a restarting broker may not know for a while
_LEAVE_S = 3.0  # for the last commit, which a rebalance delays
_ROLL_OVER_S = 30.0  # between two looks whether a new night has begun
_AGAIN_S = 2.0  # between two looks whether an outage is over


class KafkaTransport(Transport):
    """One or more topics of a Kafka cluster."""

    service = "kafka"

    def __init__(
        self,
        connection: Connection,
        topics: Sequence[str],
        *,
        group: str | None,
        start: Start,
        reset: bool,
    ) -> None:
        self.group = group
        self._servers = connection.servers
        self._topics = list(topics)
        self._start = start
        self._reset = reset
        self._faults = Translator(connection, group)
        for topic in self._topics:
            _check_pattern(topic)
        self._config = connection.consumer_settings(group)
        self._commit_interval_s = float(self._config["auto.commit.interval.ms"]) / 1000
        self._committed_at = 0.0
        self._placed: set[Partition] = set()  # partitions on which start= has been carried out
        self._paused = False
        self._interrupted = threading.Event()
        self._asked_at = 0.0
        self._gap_at = 0.0
        self._next: dict[Partition, int] = {}
        self._subscribed: list[str] = []
        self._known_first: frozenset[str] | None = None
        self._rolled_at = 0.0
        self._trouble: NunciusError | None = None
        self._passing: str | None = None
        self._consumer: Any = None
        self._listener: Listener | None = None

    def connect(self, listener: Listener, timeout_s: float) -> None:
        """See `Transport.connect`."""
        from confluent_kafka import Consumer, KafkaException

        self._listener = listener
        try:
            self._consumer = Consumer({**self._config, "error_cb": self._on_error}, logger=_librdkafka_log)
        except KafkaException as error:
            raise ConfigurationError(
                f"config= is not accepted: {error.args[0].str()}", service="kafka"
            ) from error
        deadline = time.monotonic() + timeout_s
        known = self._find_topics(timeout_s)
        self._patiently(lambda: self._take_up(known), deadline)
        self._passing = None
        self._rolled_at = time.monotonic()

    def receive(self, n: int, timeout_s: float) -> list[Message | End]:
        """See `Transport.receive`."""
        from confluent_kafka import KafkaError, KafkaException

        try:
            # Waiting for one and then draining keeps the delay of a lone alert at milliseconds: a plain consume(n)
            # would wait to fill the batch.
            found = self._consumer.consume(1, timeout_s)
            if found:
                found += self._consumer.consume(n - 1, 0)
        except KafkaException as error:
            raise self._typed(error.args[0]) from error
        except RuntimeError as error:
            raise ServerError(f"the Kafka consumer was closed: {error}", service="kafka") from error
        if self._trouble is not None:
            raise self._trouble
        if not found:
            self._look_whether_passed()
        if any(map(is_dated, self._topics)) and time.monotonic() - self._rolled_at > _ROLL_OVER_S:
            self._roll_over()
        messages: list[Message | End] = []
        for message in found:
            if message.error() is not None:
                if message.error().code() == KafkaError._PARTITION_EOF:
                    messages.append(End(message.topic(), message.partition()))
                else:
                    self._on_message_error(message.error(), message)
                continue
            self._look_for_a_gap((message.topic(), message.partition()), message.offset())
            messages.append(message_of(message))
        if messages:
            self._passing = None
        return messages

    def store(self, positions: Mapping[Partition, int]) -> bool:
        """See `Transport.store`: committed at once, but not more often than `auto.commit.interval.ms`."""
        if self.group is None:
            return True
        now = time.monotonic()
        if now - self._committed_at < self._commit_interval_s:
            return False
        self._committed_at = now
        self._commit(positions, wait=False)
        return True

    def interrupt(self) -> None:
        """See `Transport.interrupt`."""
        self._interrupted.set()

    def pause(self) -> None:
        """See `Transport.pause`."""
        self._paused = True
        self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        """See `Transport.resume`."""
        self._paused = False
        self._consumer.resume(self._consumer.assignment())

    def close(self, positions: Mapping[Partition, int]) -> None:
        """See `Transport.close`."""
        if self._consumer is None:
            return
        if self._placed and not isinstance(self._trouble, LoginError):
            self._commit_last(positions)
        self._consumer.close()

    def seek(self, where: Start | Mapping[Partition, int]) -> dict[Partition, int | None]:
        """See `Transport.seek`."""
        from confluent_kafka import KafkaException, TopicPartition

        mine = [(part.topic, part.partition) for part in self._consumer.assignment()]
        if isinstance(where, Mapping):
            missing = [key for key in where if key not in mine]
            if missing:
                raise NotFoundError(
                    f"this stream does not read {missing[0]}; it reads {mine}", service="kafka"
                )
            targets: dict[Partition, int] = dict(where)
        elif where.name == "committed":
            targets = self._starting_positions(mine)
        else:  # as numbers, for they are committed too
            targets = self._positions.at(where, mine)
        try:
            for (topic, partition), offset in targets.items():
                self._consumer.seek(TopicPartition(topic, partition, offset))
        except KafkaException as error:
            raise self._typed(error.args[0]) from error
        for key in targets:
            self._next.pop(key, None)
        return dict(targets)

    def lag(self, positions: Mapping[Partition, int | None]) -> dict[Partition, int]:
        """See `Transport.lag`."""
        return {
            key: max(0, end - max(first, positions[key] or 0))
            for key, (first, end) in self._positions.watermarks(list(positions)).items()
        }

    def topics(self) -> list[str]:
        """See `Transport.topics`."""
        if self._consumer is None:
            raise ConfigurationError(
                "the stream is not connected yet; use it as `with open_stream(…) as stream:`"
            )
        return sorted(name for name in self._metadata(_ASK_S).topics if not name.startswith("__"))

    @property
    def last_error(self) -> str | None:
        """See `Transport.last_error`."""
        return self._passing

    # Connecting ----------------------------------------------------------------------------------------------------

    def _find_topics(self, timeout_s: float) -> dict[str, Any]:
        known: dict[str, Any] = self._metadata(timeout_s, connecting=True).topics
        for topic in self._topics:
            if topic.startswith("^"):
                if not any(re.match(topic, name) for name in known):
                    raise self._faults.unknown_topic(topic, known)
            elif is_dated(topic):
                if not any(is_night_of(name, topic) for name in known):
                    raise self._faults.unknown_topic(topic, known)
            elif topic not in known:
                raise self._faults.unknown_topic(topic, known)
            elif known[topic].error is not None:
                raise self._typed(known[topic].error, topic)
        return known

    def _metadata(self, timeout_s: float, *, connecting: bool = False) -> Any:
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + timeout_s
        last: Any = None
        # In slices, because a refused login is told to the callback and not to this call; growing ones, because each
        # asks anew, and a distant broker with many topics takes its time to answer.
        slice_s = 0.3
        while True:
            try:
                return self._consumer.list_topics(
                    timeout=max(0.01, min(slice_s, deadline - time.monotonic()))
                )
            except KafkaException as error:
                last = error
            slice_s *= 1.5
            if self._interrupted.is_set():
                raise UnreachableError(
                    "the stream was closed while it waited for the broker", service="kafka"
                )
            if connecting:  # later only the pump may poll
                self._consumer.poll(0)
            if self._trouble is not None:
                raise self._trouble
            if time.monotonic() >= deadline:
                reason = self._passing or last.args[0].str()
                raise UnreachableError(
                    f"no Kafka broker answers at {self._servers} within {timeout_s:g} s: {reason}. Check the address, "
                    f"the network and, if the broker wants a login, credentials={self._faults.about_tls}",
                    service="kafka",
                    url=f"kafka://{self._servers}",
                ) from last
            time.sleep(0.02)

    # Partitions ----------------------------------------------------------------------------------------------------

    @property
    def _positions(self) -> Positions:
        return Positions(self._consumer, self._faults, _ASK_S)

    def _take_up(self, known: Mapping[str, Any]) -> None:
        """Begin to read."""
        self._known_first = frozenset(known) - self._fresh_nights(known)
        names = [topic for topic in self._topics if not is_dated(topic)]
        self._subscribe(names + self._nights(known), known)

    def _patiently(self, ask: Callable[[], T], deadline: float) -> T:
        """Ask again while brokers restart and the keeper of a group moves."""
        while True:
            try:
                return ask()
            except UnreachableError as error:
                if time.monotonic() >= deadline or self._interrupted.is_set():
                    raise
                self._passing = str(error)
            self._interrupted.wait(0.2)

    def _subscribe(self, names: list[str], known: Mapping[str, Any]) -> None:
        """Read these topics, and no others any more; without a group nothing is ever committed."""
        self._subscribed = names
        self.partitions = frozenset(
            (name, number)
            for name in known
            if any(re.match(topic, name) if topic.startswith("^") else topic == name for topic in names)
            for number in known[name].partitions
        )
        if not names:
            log.warning("%s has no topic of tonight or last night for %s yet", self._servers, self._topics)
            self._tell_assigned({})  # nothing is ours, and nothing needs to be waited for
        elif self.group is not None:
            self._consumer.subscribe(
                names, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
        else:
            mine = {(part.topic, part.partition) for part in self._consumer.assignment()}
            positions = self._first_positions(sorted(self.partitions - mine))
            self._consumer.incremental_assign(_offsets(positions))
            self._tell_assigned(positions)

    def _nights(self, known: Mapping[str, Any]) -> list[str]:
        """Return the nights to read: the current ones that exist, and of those before what is not read yet."""
        found = []
        for topic in filter(is_dated, self._topics):
            names = expand(topic, time.time())
            found += [name for name in names[:CURRENT_NIGHTS] if name in known]
            # Nobody writes to an earlier night any more: once it is left, it needs no further look.
            earlier = {name for name in names[CURRENT_NIGHTS:] if name in known}
            if self._subscribed:
                earlier &= set(self._subscribed)
            found += [name for name in sorted(earlier) if self._has_more(name, known)]
        return found

    def _fresh_nights(self, known: Mapping[str, Any]) -> set[str]:
        """Return the nights that began after the last one that this group has read in: for it they are new."""
        if self.group is None or self._reset or self._start.name not in {"latest", "time"}:
            return set()  # all begin at their first message, or where start= says
        fresh: set[str] = set()
        for topic in filter(is_dated, self._topics):
            names = [name for name in expand(topic, time.time()) if name in known]
            for at, name in enumerate(names):
                if self._positions.committed([(name, number) for number in known[name].partitions]):
                    fresh.update(names[:at])
                    break
        return fresh

    def _roll_over(self) -> None:
        """Take up a new night, and leave an old one that is read to its end."""
        from confluent_kafka import KafkaException

        self._rolled_at = time.monotonic()
        try:
            known = self._consumer.list_topics(timeout=_ASK_S).topics
            others = [topic for topic in self._topics if not is_dated(topic)]
            names = others + self._nights(known)
        except (KafkaException, UnreachableError) as error:
            log.debug("the nights of %s are looked at again later: %s", self._topics, error)
            return
        if set(names) != set(self._subscribed):
            log.info("reading %s now, and %s before", names, self._subscribed)
            self._subscribe(names, known)

    def _has_more(self, name: str, known: Mapping[str, Any]) -> bool:
        """Tell whether an earlier night has messages that are to be read."""
        keys = [(name, number) for number in known[name].partitions]
        if self.group is None:  # where it was read to is known to the engine alone, so it is kept
            committed: dict[Partition, int] = {}
        else:
            committed = self._positions.committed(keys)
        unread = [] if name in self._subscribed else [key for key in keys if key not in committed]
        positions = committed | self._first_positions(unread)
        marks = self._positions.watermarks(keys)
        return any(max(positions.get(key, 0), first) < end for key, (first, end) in marks.items())

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        keys = [(part.topic, part.partition) for part in partitions]
        positions = self._starting_positions(keys)
        if self._is_cooperative:
            consumer.incremental_assign(_offsets(positions))
        else:
            consumer.assign(_offsets(positions))
        if self._paused:
            consumer.pause(partitions)
        self._tell_assigned(positions)

    def _tell_assigned(self, positions: Mapping[Partition, int]) -> None:
        assert self._listener is not None
        self._placed.update(positions)
        for key in positions:
            self._next.pop(key, None)
        self._listener.assigned({key: offset if offset >= 0 else None for key, offset in positions.items()})

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        assert self._listener is not None
        keys = [(part.topic, part.partition) for part in partitions]
        self._commit(self._listener.revoked(keys))
        if self._is_cooperative:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def _on_lost(self, consumer: Any, partitions: list[Any]) -> None:
        assert self._listener is not None
        self._listener.revoked((part.topic, part.partition) for part in partitions)
        log.warning(
            "the group %s took %d partitions away; they are read by others now", self.group, len(partitions)
        )
        if self._is_cooperative:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    @property
    def _is_cooperative(self) -> bool:
        strategy = str(self._config.get("partition.assignment.strategy", "cooperative-sticky"))
        return "cooperative" in strategy or self._config.get("group.protocol") == "consumer"

    def _starting_positions(self, keys: list[Partition]) -> dict[Partition, int]:
        """Return the committed positions, and those of `start=` where there is none or `reset=True`."""
        try:
            return self._patiently(lambda: self._ask_positions(keys), time.monotonic() + _REBALANCE_S)
        except NunciusError as error:
            # Not known is not the same as none: to begin elsewhere would lose alerts.
            self._trouble = error
            return dict.fromkeys(keys, _logical("earliest"))

    def _ask_positions(self, keys: list[Partition]) -> dict[Partition, int]:
        positions = self._positions.committed(keys)
        fresh = [key for key in keys if key not in positions or (self._reset and key not in self._placed)]
        if positions and self._start.name != "committed" and not self._reset and not self._placed:
            log.info("the group %s has a position, so start= is not used; reset=True moves it", self.group)
        self._warn_if_expired({key: positions[key] for key in keys if key not in fresh})
        return {**positions, **self._first_positions(fresh)}

    def _first_positions(self, keys: Sequence[Partition]) -> dict[Partition, int]:
        """Turn `start=` into an offset for each partition that was never read."""
        # A topic that came up while we read is new from its first message on, whatever start= says.
        first = self._known_first
        later = [key for key in keys if first is not None and key[0] not in first]
        if self._start.name not in {"latest", "time"}:
            later = list(keys)
        # "latest" is the end as it is now, as a number: a crash before the first commit then loses nothing since now.
        rest = [key for key in keys if key not in later]
        return dict.fromkeys(later, _logical("earliest")) | self._positions.at(self._start, rest)

    def _look_for_a_gap(self, key: Partition, offset: int) -> None:
        """Tell when messages expired on the broker while the stream was open: librdkafka passes over them silently.

        Other gaps are of no concern: transactions and compaction leave them on purpose.
        """
        expected = self._next.get(key, offset)
        self._next[key] = offset + 1
        if offset > expected and time.monotonic() - self._gap_at > 1:
            self._gap_at = time.monotonic()
            try:
                self._warn_if_expired({key: expected})
            except UnreachableError as error:
                log.debug("%s[%d]: offsets %d to %d are missing: %s", *key, expected, offset - 1, error)

    def _warn_if_expired(self, positions: Mapping[Partition, int]) -> None:
        for key, (first, _) in self._positions.watermarks(list(positions)).items():
            position = positions[key]
            if first > position:
                log.warning(
                    "%s[%d]: %d messages expired on the broker before they were read (positions %d to %d)",
                    *key, first - position, position, first - 1,
                )  # fmt: skip

    def _commit(self, positions: Mapping[Partition, int], *, wait: bool = True) -> None:
        from confluent_kafka import KafkaException

        if self.group is None or not positions:
            return
        try:
            self._consumer.commit(offsets=_offsets(positions), asynchronous=not wait)
        except KafkaException as error:
            self._tell_not_committed(error)

    def _commit_last(self, positions: Mapping[Partition, int]) -> None:
        """Commit before leaving; a rebalance that is going on goes on while we wait for it."""
        from confluent_kafka import KafkaError, KafkaException

        deadline = time.monotonic() + _LEAVE_S
        while self.group is not None and positions:
            mine = {(part.topic, part.partition) for part in self._consumer.assignment()}
            positions = {key: position for key, position in positions.items() if key in mine}
            if not positions:
                return
            try:
                self._consumer.commit(offsets=_offsets(positions), asynchronous=False)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.REBALANCE_IN_PROGRESS or time.monotonic() > deadline:
                    self._tell_not_committed(error)
                    return
                self._consumer.consume(1, 0.1)  # what comes is not taken any more, so it is the next one's
            else:
                return

    def _tell_not_committed(self, error: Exception) -> None:
        log.warning("positions of %s not committed, so what they cover may come again: %s", self.group, error)

    def _look_whether_passed(self) -> None:
        """On a quiet topic nothing else tells that an outage is over."""
        from confluent_kafka import KafkaException

        if self._passing is None or time.monotonic() - self._asked_at < _AGAIN_S:
            return
        self._asked_at = time.monotonic()
        try:
            literal = [topic for topic in self._subscribed if not topic.startswith("^")]
            self._consumer.list_topics(*literal[:1], timeout=0.2)
        except KafkaException:
            return
        self._passing = None

    # Errors --------------------------------------------------------------------------------------------------------

    def _on_error(self, error: Any) -> None:
        """Remember an error that librdkafka tells once and then keeps silent about."""
        if self._is_about_no_group(error):
            return
        typed = self._typed(error)
        if self._passes(typed, error):
            self._passing = error.str()  # librdkafka goes on trying
        else:
            self._trouble = typed

    def _passes(self, typed: NunciusError, error: Any) -> bool:
        """Tell trouble that passes by itself: an outage, and what comes with one once we were let in."""
        was_in = self._known_first is not None
        if isinstance(typed, TlsError):  # a connection that broke while it was made, but no wrong certificate
            return was_in and "certificate" not in error.str()
        if isinstance(typed, LoginError):  # a token that ran out while no new one could be had
            return was_in and self._faults.is_about_token(error)
        return isinstance(typed, UnreachableError)

    def _on_message_error(self, error: Any, message: Any) -> None:
        if self._is_about_no_group(error):
            return
        typed = self._typed(error, message.topic())
        if isinstance(typed, UnreachableError):
            self._passing = error.str()
            return
        raise typed

    def _is_about_no_group(self, error: Any) -> bool:
        """Tell an error about a group where none is used: librdkafka asks for one all the same."""
        from confluent_kafka import KafkaError

        return self.group is None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED

    def _typed(self, error: Any, topic: str | None = None) -> NunciusError:
        return self._faults.typed(error, topic or self._topics)


# Called so because the interpreter's own shortcut for a call would not look for the error, which would then come out
# somewhere else.
_headers_of = operator.methodcaller("headers")


def message_of(message: Any) -> Message:
    """Return a message of confluent-kafka as ours."""
    kind, stamp = message.timestamp()
    try:
        headers = _headers_of(message) or ()
    except (SystemError, UnicodeDecodeError):  # confluent-kafka's answer to a name that is no UTF-8
        headers = None
    return Message(
        message.topic(),
        message.partition(),
        message.offset(),
        message.value(),
        stamp if kind else None,
        message.key(),
        headers,
    )


def _check_pattern(topic: str) -> None:
    if topic.startswith("^"):
        try:
            re.compile(topic)
        except re.error as error:
            raise ConfigurationError(f"the topic {topic!r} is not a regular expression: {error}") from error


def _offsets(positions: Mapping[Partition, int]) -> list[Any]:
    from confluent_kafka import TopicPartition

    return [TopicPartition(topic, partition, offset) for (topic, partition), offset in positions.items()]


def _logical(name: str) -> int:
    import confluent_kafka

    return int(confluent_kafka.OFFSET_BEGINNING if name == "earliest" else confluent_kafka.OFFSET_END)
