"""What an engine asks of a transport, and what a transport tells the engine.

All methods are called from one thread, the pump's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nuncius.alerts import Origin
from nuncius.errors import UnsupportedError
from nuncius.streams.delivery import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from nuncius.alerts import Alert, Notice
    from nuncius.errors import PacketError
    from nuncius.streams.bounds import Start

Partition = tuple[str, int]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Message(NamedTuple):
    """One message as a transport gives it."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    timestamp_ms: int | None = None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] | None = ()  # None: they can't be read


class End(NamedTuple):
    """Said among the messages, in its place: all that is in a partition now was given."""

    topic: str
    partition: int


class Reader(Protocol):
    """How the messages of a broker become alerts."""

    def __call__(self, message: Message, origin: Origin) -> Sequence[Alert | Notice]:
        """Read one message that has a value. Nothing is a fair answer: a test message is finished at once.

        Raises
        ------
        PacketError
            If it can't be read.
        UnreachableError
            If what is needed to read it can't be had now.
        """


class Listener(Protocol):
    """What the engine wants to know from its transport."""

    def assigned(self, partitions: Mapping[Partition, int | None]) -> None:
        """Partitions are ours now, to be read from these offsets (None: not known)."""

    def revoked(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Partitions are no longer ours; return what may be committed for them."""


class Transport(ABC):
    """One way in which messages come."""

    service: str
    """What `Origin.service` says."""

    ends: bool = False
    """Whether it comes to an end by itself."""

    partitions: frozenset[Partition] = frozenset()
    """All partitions of the topics, as far as known; a group may give them to us bit by bit."""

    group: str | None = None
    """The consumer group, where positions are kept by name."""

    disorder_s: float = 0.0
    """For how long earlier messages may still come behind later ones; 0 where they come in the order of their times."""

    @abstractmethod
    def connect(self, listener: Listener, timeout_s: float) -> None:
        """Connect, log in and find the topics, or raise the typed error that says what is wrong."""

    @abstractmethod
    def receive(self, n: int, timeout_s: float) -> list[Message | End]:
        """Return what is there, at most `n` messages; wait for the first at most `timeout_s`."""

    def origin(self, message: Message, broker: str | None) -> Origin:
        """Tell where a message came from, in the words of `Alert.origin`."""
        return Origin(
            self.service,
            message.topic,
            message.partition,
            message.offset,
            _moment(message.timestamp_ms),
            message.key,
            tuple(message.headers or ()),
            broker,
        )

    def ledger(
        self,
        topic: str,
        partition: int,
        on_damage: Callable[[Alert, PacketError], None],
        position: int | None,
    ) -> Ledger:
        """Open the book of a partition."""
        return Ledger(topic, partition, on_damage, position)

    def store(self, positions: Mapping[Partition, int]) -> bool:
        """Commit positions, if the last commit is long enough ago; return whether it is."""
        return True

    def interrupt(self) -> None:
        """Give up what you wait for, the stream is closing; called from any thread."""

    def pause(self) -> None:
        """Fetch nothing more; `receive` is still called, to stay in the group."""

    def resume(self) -> None:
        """Fetch again."""

    def starve(self) -> None:
        """Hear that nothing waits for the caller, who could take more."""

    @abstractmethod
    def close(self, positions: Mapping[Partition, int]) -> None:
        """Commit these positions, wait until that is confirmed, and leave."""

    def seek(self, where: Start | Mapping[Partition, int]) -> dict[Partition, int | None]:
        """Move to other positions; return them for each partition that moved."""
        raise UnsupportedError(f"{self.service} streams can't seek", service=self.service)

    def lag(self, positions: Mapping[Partition, int | None]) -> dict[Partition, int]:
        """Return how many messages wait behind each position."""
        raise UnsupportedError(f"{self.service} streams don't know their lag", service=self.service)

    def topics(self) -> list[str]:
        """Return the names of all topics that can be read."""
        raise UnsupportedError(f"{self.service} streams have no topics", service=self.service)

    @property
    def last_error(self) -> str | None:
        """The last trouble of the connection, if it has not passed."""
        return None


def _moment(stamp_ms: int | None) -> datetime | None:
    """Turn a message's time into a datetime. Who sends a message sets it: what is no date of the calendar is none."""
    try:
        return None if stamp_ms is None else _EPOCH + timedelta(milliseconds=stamp_ms)
    except OverflowError:
        return None
