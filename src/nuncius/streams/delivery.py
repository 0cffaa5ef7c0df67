"""Which position of a partition may be committed: the lowest that is not finished.

Pure bookkeeping. Messages are entered in the order in which they come and may be finished in any order; out-of-order
is fine, because nothing above the lowest unfinished message is ever committed. Where messages are acknowledged one by
one, as Pub/Sub has it, there is no position; there it is told which message is finished.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.alerts import Alert
    from nuncius.errors import PacketError


class Ticket:
    """One alert that was taken from a partition and is not yet finished."""

    __slots__ = ("done", "is_damaged", "ledger", "offset")

    def __init__(self, ledger: Ledger, offset: int) -> None:
        self.ledger = ledger
        self.offset = offset
        self.done = False
        self.is_damaged = False

    def damaged(self, alert: Alert, error: PacketError) -> None:
        """Report that a field could not be read (see `nuncius.alerts.sink.Delivery`), once."""
        if not self.is_damaged:
            self.ledger.on_damage(alert, error)
            self.is_damaged = True


class Ledger:
    """The unfinished messages of one partition, from its assignment to its revocation.

    Parameters
    ----------
    topic, partition
        The partition.
    on_damage : callable
        Called with an alert and the error when its packet turns out to be damaged.
    position : int, optional
        The first offset to be read, where it is known.
    """

    __slots__ = ("_next", "_open", "alive", "at_end", "ended", "on_damage", "partition", "topic")

    def __init__(
        self,
        topic: str,
        partition: int,
        on_damage: Callable[[Alert, PacketError], None],
        position: int | None = None,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.on_damage = on_damage
        self.alive = True
        self.at_end = False
        self.ended = False
        self._open: deque[Ticket] = deque()
        self._next = position

    def enter(self, offset: int) -> Ticket:
        """Enter the message at an offset; a message with several alerts is entered once for each."""
        ticket = Ticket(self, offset)
        self._open.append(ticket)
        self._next = offset + 1
        return ticket

    def finish(self, ticket: Ticket) -> bool:
        """Mark as finished; return whether it wasn't before."""
        if ticket.done:
            return False
        ticket.done = True
        unfinished = self._open
        while unfinished and unfinished[0].done:
            unfinished.popleft()
        return True

    @property
    def committable(self) -> int | None:
        """The offset to commit (the next to read after a restart); None if nothing is known yet."""
        return self._open[0].offset if self._open else self._next


class MessageLedger(Ledger):
    """The unfinished messages of a subscription, where each is acknowledged for itself.

    Parameters
    ----------
    topic, partition, on_damage
        As for `Ledger`.
    on_finish : callable
        Called with the offset of a message when all its alerts are finished.
    """

    __slots__ = ("_counts", "_on_finish")

    def __init__(
        self,
        topic: str,
        partition: int,
        on_damage: Callable[[Alert, PacketError], None],
        on_finish: Callable[[int], None],
    ) -> None:
        super().__init__(topic, partition, on_damage)
        self._on_finish = on_finish
        self._counts: dict[int, int] = {}

    def enter(self, offset: int) -> Ticket:
        """See `Ledger.enter`."""
        self._counts[offset] = self._counts.get(offset, 0) + 1
        return Ticket(self, offset)

    def finish(self, ticket: Ticket) -> bool:
        """See `Ledger.finish`."""
        if ticket.done:
            return False
        ticket.done = True
        self._counts[ticket.offset] -= 1
        if not self._counts[ticket.offset]:
            del self._counts[ticket.offset]
            if self.alive:  # else the same message may have come anew, after a seek
                self._on_finish(ticket.offset)
        return True

    @property
    def committable(self) -> int | None:
        """None: a subscription has no position."""
        return None
