"""The book of a stream: what waits, what is in the caller's hands, what is finished, and what may be committed.

Every method is called with the engine's lock held; nothing here waits.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from nuncius.errors import ConfigurationError
from nuncius.streams.delivery import Ledger, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nuncius.alerts import Alert
    from nuncius.errors import PacketError
    from nuncius.streams.rules import Rules, StreamStats
    from nuncius.streams.transport import Partition

log = logging.getLogger("nuncius.streams")

_QUEUE_BYTES = 48 * 1024 * 1024
_QUEUE_ALERTS = 20_000
_WARN_UNACKNOWLEDGED_S = 10.0


class Book:
    """What one stream owes, and to whom.

    Parameters
    ----------
    rules, stats
        Of the stream.
    on_damage : callable
        Called with an alert and the error when its packet turns out to be damaged.
    open_ledger : callable
        The transport's way to open the book of one partition; see `nuncius.streams.transport.Transport.ledger`.
    """

    def __init__(
        self,
        rules: Rules,
        stats: StreamStats,
        on_damage: Callable[[Alert, PacketError], None],
        open_ledger: Callable[..., Ledger] = Ledger,
    ) -> None:
        self.ledgers: dict[Partition, Ledger] = {}
        self.in_hand: dict[Ticket, None] = {}
        self._rules = rules
        self._stats = stats
        self._on_damage = on_damage
        self._open_ledger = open_ledger
        self._queue: deque[tuple[Alert, int]] = deque()
        self._queue_cost = 0
        self._poisoned: list[Ticket] = []
        self._released: list[tuple[float, int, Alert]] = []
        self._waiting_since: float | None = None

    # What comes -------------------------------------------------------------------------------------------------------

    def assign(self, partitions: Mapping[Partition, int | None]) -> None:
        """Open a ledger for each partition, to be read from these offsets."""
        for (topic, partition), position in partitions.items():
            self.ledgers[topic, partition] = self._open_ledger(topic, partition, self._on_damage, position)

    def put(self, ready: Iterable[tuple[Alert, int]]) -> None:
        """Let alerts wait, each with what it costs in memory."""
        if self._poisoned:
            self.finish_poisoned()
        for entry in ready:
            self._queue.append(entry)
            self._queue_cost += entry[1]

    def poisoned(self, ticket: Ticket) -> int:
        """Note a message that can't be read; return how many have come in a row.

        It is not finished before a readable one follows: if nothing can be read, nothing is acknowledged.
        """
        self._poisoned.append(ticket)
        return len(self._poisoned)

    def finish_poisoned(self) -> None:
        """Finish the messages that can't be read."""
        for ticket in self._poisoned:
            ticket.ledger.finish(ticket)
        self._poisoned = []

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Forget partitions: what waits from them comes again to whoever reads them next."""
        for key in partitions:
            ledger = self.ledgers.pop(key, None)
            if ledger is not None:
                ledger.alive = False
        kept = [(alert, cost) for alert, cost in self._queue if alert._delivery.ledger.alive]  # type: ignore[union-attr]
        self._queue = deque(kept)
        self._queue_cost = sum(cost for _, cost in kept)
        self._poisoned = [ticket for ticket in self._poisoned if ticket.ledger.alive]
        self.in_hand = {ticket: None for ticket in self.in_hand if ticket.ledger.alive}
        self._forget_released()

    # What goes --------------------------------------------------------------------------------------------------------

    def take(self, n: int, room: int | None = None) -> list[Alert]:
        """Hand out at most `n` alerts: those that were released and are due, then those that wait, as there is `room`."""
        alerts: list[Alert] = []
        room = self.room() if room is None else min(room, self.room())
        now = time.monotonic()
        while len(alerts) < n and self._released and self._released[0][0] <= now:
            alert = heapq.heappop(self._released)[2]
            if not alert._delivery.done and alert._delivery.ledger.alive:  # type: ignore[union-attr]
                alerts.append(alert)
        queue = self._queue
        room += len(alerts)  # released alerts have their place already
        while queue and len(alerts) < min(n, room):
            alert, cost = queue.popleft()
            self._queue_cost -= cost
            alerts.append(alert)
        if alerts:
            self._stats.handed_out += len(alerts)
            self._stats.last_alert = time.time()
            self.in_hand.update(dict.fromkeys(alert._delivery for alert in alerts))  # type: ignore[misc]
        return alerts

    def finish(self, tickets: Iterable[Ticket]) -> None:
        """Finish alerts; a second time changes nothing."""
        for ticket in tickets:
            was_in_hand = self.in_hand.pop(ticket, ticket) is None
            if ticket.ledger.finish(ticket) and ticket.ledger.alive:
                self._stats.acknowledged += 1
                if not was_in_hand:
                    self._forget_released()

    def release(self, alert: Alert, delay_s: float) -> bool:
        """Take an alert back, to hand it out again; return whether it was in the caller's hands."""
        ticket = self.ticket(alert)
        if ticket not in self.in_hand:
            return False  # finished, released already, or taken over by another consumer of the group
        del self.in_hand[ticket]
        heapq.heappush(self._released, (time.monotonic() + delay_s, id(alert), alert))
        return True

    def ticket(self, alert: Alert) -> Ticket:
        """Return the ticket of an alert of this stream.

        Raises
        ------
        ConfigurationError
            If it is another stream's, or none's.
        """
        if not self.owns(alert):
            raise ConfigurationError(f"{alert!r} was not handed out by this stream")
        ticket: Ticket = alert._delivery  # type: ignore[assignment]
        return ticket

    def owns(self, alert: Alert) -> bool:
        """Tell whether an alert is of this stream."""
        ticket = alert._delivery
        return isinstance(ticket, Ticket) and ticket.ledger.on_damage == self._on_damage

    # How it stands ----------------------------------------------------------------------------------------------------

    def room(self) -> int:
        """Return how many alerts may still be handed out before some are acknowledged."""
        if self._rules.acknowledge != "manual":
            return self._rules.max_unacknowledged
        room = self._rules.max_unacknowledged - self.unfinished
        if room > 0:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = time.monotonic()
        elif time.monotonic() - self._waiting_since > _WARN_UNACKNOWLEDGED_S:
            self._waiting_since = time.monotonic()
            log.warning(
                "%d alerts are handed out and not acknowledged; the stream waits until some are (acknowledge, release, "
                "or a larger max_unacknowledged)",
                len(self.in_hand),
            )
        return max(0, room)

    def committable(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the positions that may be committed, where there are any."""
        positions = {}
        for key in partitions:
            ledger = self.ledgers.get(key)
            position = None if ledger is None else ledger.committable
            if position is not None:
                positions[key] = position
        return positions

    def is_full(self, *, was_full: bool) -> bool:
        """Tell whether enough waits; once full, it stays so until it is half empty."""
        part = 0.5 if was_full else 1.0
        return self._queue_cost >= part * _QUEUE_BYTES or len(self._queue) >= part * _QUEUE_ALERTS

    @property
    def waiting(self) -> int:
        """How many alerts wait."""
        return len(self._queue)

    @property
    def has_waiting(self) -> bool:
        """Whether anything waits, or was released and will come again."""
        return bool(self._queue or self._released)

    @property
    def unfinished(self) -> int:
        """How many alerts are handed out and not finished, with those that were released and will come again."""
        return len(self.in_hand) + len(self._released)

    @property
    def is_finished(self) -> bool:
        """Whether all that was handed out is finished."""
        return not self.in_hand and not self._released

    def _forget_released(self) -> None:
        """Drop released alerts that are finished after all, or taken over by others."""
        if self._released:
            self._released = [
                entry
                for entry in self._released
                if not entry[2]._delivery.done and entry[2]._delivery.ledger.alive  # type: ignore[union-attr]
            ]
            heapq.heapify(self._released)
