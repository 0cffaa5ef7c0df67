"""The messages of one subscription: what waits, what is leased to whom, what comes again and when. No sockets here."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from nuncius.errors import NotFoundError
from nuncius.sandbox.pubsub.values import Counts
from nuncius.streams.attributes import parse_attribute_filter

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from nuncius.sandbox.pubsub.values import Clock, Message, SubscriptionConfig

_FOREVER_S = 3600.0
# As long as those of Google's servers, so that requests reach their limits as soon as there.
_ACK_ID = "{:020x}" + "." * 156
_SLACK = 1000  # entries of the heap that may be out of date before it is cleaned


class Entry:
    """A message in one subscription."""

    __slots__ = ("attempts", "done", "leases", "message")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.attempts = 0
        self.leases = 0
        self.done = False


class Holder:
    """Whoever takes messages: a stream, with how much it may have at once; 0 means any amount."""

    __slots__ = ("bytes", "deadline_s", "max_bytes", "max_messages", "messages")

    def __init__(self, deadline_s: float, max_messages: int = 0, max_bytes: int = 0) -> None:
        self.deadline_s = deadline_s
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.messages = 0
        self.bytes = 0

    def has_room(self) -> bool:
        """Tell whether it may have one more: as Google documents it, sending stops when the limit is reached or passed."""
        return (not self.max_messages or self.messages < self.max_messages) and (
            not self.max_bytes or self.bytes < self.max_bytes
        )


class Lease:
    """A message that was handed to somebody for some time."""

    __slots__ = ("ack_id", "attempt", "entry", "holder", "until")

    def __init__(self, ack_id: str, entry: Entry, holder: Holder, until: float) -> None:
        self.ack_id = ack_id
        self.entry = entry
        self.holder = holder
        self.until = until
        self.attempt = entry.attempts


class SubscriptionQueue:
    """The messages of one subscription.

    Its methods are to be called by one thread at a time; `changed` is the condition that guards the whole server, and
    tells those who wait that there may be something to take.

    Parameters
    ----------
    config : SubscriptionConfig
        How it is set up.
    clock : Clock
        What leases go by.
    changed : threading.Condition
        Notified when there may be something to take.
    forward : callable
        Takes what was delivered too often, with the number of attempts; returns whether it went to its topic.

    Raises
    ------
    FilterError
        If the filter is none.
    """

    def __init__(
        self,
        config: SubscriptionConfig,
        *,
        clock: Clock,
        changed: threading.Condition,
        forward: Callable[[SubscriptionConfig, Message, int], bool],
    ) -> None:
        self.config = config
        self.changed = changed
        self.deleted = False
        self.repeats = 0
        self._passes = parse_attribute_filter(config.filter) if config.filter else None
        self._clock = clock
        self._forward = forward
        self._ready: deque[Entry] = deque()
        self._delayed: list[tuple[float, int, Entry]] = []
        self._chains: dict[str, deque[Entry]] = defaultdict(deque)
        self._leases: dict[str, Lease] = {}
        # Only ids: what is acknowledged need not stay in memory until its lease would have ended.
        self._ends: list[tuple[float, str]] = []
        self._entries: dict[int, Entry] = {}
        self._kept: dict[int, Message] = {}
        self._numbers = itertools.count(1)
        self._count = dict.fromkeys(Counts._fields, 0)

    # What comes in ----------------------------------------------------------------------------------------------------

    def offer(self, messages: Iterable[Message]) -> None:
        """Put messages at the end."""
        for message in messages:
            if self._passes is not None and not self._passes(message.attributes):
                self._count["filtered"] += 1
                continue
            self._add(message)
        self.changed.notify_all()

    def _add(self, message: Message) -> None:
        entry = self._entries[message.number] = Entry(message)
        if self.config.ordering and message.ordering_key:
            chain = self._chains[message.ordering_key]
            chain.append(entry)
            if len(chain) > 1:
                return  # comes when the one before it is acknowledged
        self._ready.append(entry)

    # What goes out ----------------------------------------------------------------------------------------------------

    def take(self, holder: Holder, *, max_messages: int, max_bytes: int) -> list[Lease]:
        """Lease what is there, at most so many messages and bytes; one message may be larger.

        Raises
        ------
        NotFoundError
            If the subscription was deleted.
        """
        if self.deleted:
            raise NotFoundError(f"{self.config.path} was deleted")
        now = self.settle()
        leases: list[Lease] = []
        size = 0
        oldest = now - self.config.retention_s
        while self._ready and len(leases) < max_messages:
            entry = self._ready[0]
            if entry.done or entry.message.arrived < oldest:
                self._ready.popleft()
                self._finish(entry)
                continue
            size += entry.message.size
            if (leases and size > max_bytes) or not holder.has_room():
                break
            self._ready.popleft()
            entry.attempts += 1
            leases.append(self._lease(entry, holder, now))
            if self.repeats:
                self.repeats -= 1
                leases.append(self._lease(entry, holder, now))
        self._count["delivered"] += len(leases)
        return leases

    def _lease(self, entry: Entry, holder: Holder, now: float) -> Lease:
        lease = Lease(_ACK_ID.format(next(self._numbers)), entry, holder, now + holder.deadline_s)
        self._leases[lease.ack_id] = lease
        heapq.heappush(self._ends, (lease.until, lease.ack_id))
        entry.leases += 1
        holder.messages += 1
        holder.bytes += entry.message.size
        return lease

    def give_back(self, leases: list[Lease]) -> None:
        """Take back what was never sent, as if it had not been taken."""
        for lease in reversed(leases):
            if self._end(lease.ack_id) is not None and not lease.entry.leases and not lease.entry.done:
                lease.entry.attempts -= 1
                self._ready.appendleft(lease.entry)
        self._count["delivered"] -= len(leases)
        self.changed.notify_all()

    # What becomes of it -----------------------------------------------------------------------------------------------

    def acknowledge(self, ack_ids: Iterable[str]) -> None:
        """Finish messages; what is no longer leased is counted, and comes again."""
        self.settle()
        for ack_id in ack_ids:
            lease = self._end(ack_id)
            if lease is None:
                self._count["late"] += 1
            elif not lease.entry.done:
                self._count["acknowledged"] += 1
                self._finish(lease.entry)
        self.changed.notify_all()

    def modify(self, ack_ids: Iterable[str], deadline_s: float) -> None:
        """Let leases end so many seconds from now; 0 gives the messages back."""
        now = self.settle()
        for ack_id in ack_ids:
            if not deadline_s:
                lease = self._end(ack_id)
                if lease is not None:
                    self._count["released"] += 1
                    self._again(lease.entry, now)
            elif ack_id in self._leases:
                self._leases[ack_id].until = now + deadline_s
                heapq.heappush(self._ends, (now + deadline_s, ack_id))
        if len(self._ends) > 2 * len(self._leases) + _SLACK:
            self._ends = [(lease.until, lease.ack_id) for lease in self._leases.values()]
            heapq.heapify(self._ends)
        self.changed.notify_all()

    def settle(self) -> float:
        """End the leases that are over, make ready what has waited long enough, and return the time."""
        now = self._clock()
        while self._ends and self._ends[0][0] <= now:
            lease = self._leases.get(heapq.heappop(self._ends)[1])
            if lease is not None and lease.until <= now:
                self._end(lease.ack_id)
                self._count["expired"] += 1
                self._again(lease.entry, now)
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(heapq.heappop(self._delayed)[2])
        return now

    def until_next(self) -> float:
        """Return after how many seconds a lease or a wait may end."""
        while self._ends and self._ends[0][1] not in self._leases:
            heapq.heappop(self._ends)
        heads = [heap[0][0] for heap in (self._ends, self._delayed) if heap]
        return max(0.0, min(heads) - self._clock()) if heads else _FOREVER_S

    def _end(self, ack_id: str) -> Lease | None:
        lease = self._leases.pop(ack_id, None)
        if lease is not None:
            lease.entry.leases -= 1
            lease.holder.messages -= 1
            lease.holder.bytes -= lease.entry.message.size
        return lease

    def _again(self, entry: Entry, now: float) -> None:
        if entry.done or entry.leases:
            return  # finished through another lease, or still with somebody
        config = self.config
        spent = bool(config.dead_letter_topic) and entry.attempts >= config.max_delivery_attempts
        if spent and self._forward(config, entry.message, entry.attempts):
            self._count["dead_lettered"] += 1
            self._finish(entry)
            return
        delay_s = min(config.min_backoff_s * 2.0 ** min(entry.attempts - 1, 30), config.max_backoff_s)
        if delay_s:
            heapq.heappush(self._delayed, (now + delay_s, entry.message.number, entry))
        else:
            self._ready.append(entry)

    def _finish(self, entry: Entry) -> None:
        if entry.done:
            return
        entry.done = True
        message = entry.message
        self._entries.pop(message.number, None)
        if self.config.retain_acked:
            self._kept[message.number] = message
        chain = self._chains.get(message.ordering_key)
        if chain and chain[0] is entry:
            chain.popleft()
            if chain:
                self._ready.append(chain[0])
            else:
                del self._chains[message.ordering_key]

    # Going back -------------------------------------------------------------------------------------------------------

    def seek(self, wanted: Callable[[Message], bool], others: Iterable[Message]) -> None:
        """Make all known messages wait anew, or be acknowledged; all leases end.

        Parameters
        ----------
        wanted : callable
            Tells of a message whether it waits afterwards.
        others : iterable of Message
            What the topic or a snapshot keeps besides.
        """
        now = self.settle()
        known = {
            message.number: message
            for message in others
            if self._passes is None or self._passes(message.attributes)
        }
        known |= self._kept
        known |= {number: entry.message for number, entry in self._entries.items()}
        for ack_id in list(self._leases):
            self._end(ack_id)
        for entry in self._entries.values():
            entry.done = True
        for held in (self._ready, self._delayed, self._chains, self._ends, self._entries, self._kept):
            held.clear()
        oldest = now - self.config.retention_s
        for number in sorted(known):
            message = known[number]
            if wanted(message):
                self._add(message)
            elif self.config.retain_acked and message.arrived >= oldest:
                self._kept[number] = message
        self.changed.notify_all()

    def unfinished(self) -> list[Message]:
        """Return what is not acknowledged, in the order of its publication."""
        self.settle()
        return [self._entries[number].message for number in sorted(self._entries)]

    def counts(self) -> Counts:
        """Return what became of the messages."""
        self.settle()
        leased = sum(1 for entry in self._entries.values() if entry.leases)
        now = {"waiting": len(self._entries) - leased, "leased": leased}
        return Counts(**self._count | now)
