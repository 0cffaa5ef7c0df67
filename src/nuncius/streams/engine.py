"""The engine of a stream: one thread that receives and checks, and the book of what is handed out and finished.

Both faces of a stream, sync and async, stand on one `Engine`. Nothing here waits for the user: the face asks with
`take` for what is there, and `on_change` tells it when asking again is worth while.

Whatever goes wrong in the thread is raised from the call that waits, and stays raised.
"""

from __future__ import annotations

import heapq
import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from nuncius.alerts import Alert
from nuncius.alerts.packets import open_packets
from nuncius.errors import (
    ConfigurationError,
    ForkError,
    NunciusError,
    PacketError,
    QuarantineFullError,
    UnreachableError,
)
from nuncius.streams.delivery import Ledger, Ticket
from nuncius.streams.transport import End

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from nuncius.alerts.packets import SchemaSource, WriterSchema
    from nuncius.streams.bounds import Start, Stop
    from nuncius.streams.quarantine import Quarantine
    from nuncius.streams.transport import Message, Partition, Transport

log = logging.getLogger("nuncius.streams")

T = TypeVar("T")

# The longest that the thread is deaf: to closing, to orders, and to what was finished and can be committed.
_SLICE_S = 0.02
_FETCH = 200  # messages received at once
_QUEUE_BYTES = 48 * 1024 * 1024
_QUEUE_ALERTS = 20_000
_DECODED_COST = 8  # a decoded packet takes about so many times the memory of its bytes
_HOLD_S = 1.0  # how long a full queue just waits before the partitions are paused
_POISONED_RUN = 1_000
_SETTLE_S = 5.0  # after so long without a change, the partitions that we don't have are another member's
_WARN_UNACKNOWLEDGED_S = 10.0
_UNASSIGNED_S = 20.0


@dataclass(frozen=True, slots=True)
class Rules:
    """How a stream delivers; see `nuncius.open_stream` for the meaning."""

    acknowledge: Literal["on_next", "manual"]
    on_error: Literal["quarantine", "raise", "skip"]
    max_unacknowledged: int
    validate: bool
    connect_timeout_s: float
    stop: Stop
    schema: SchemaSource | WriterSchema | None = None
    broker: str | None = None


@dataclass(slots=True)
class StreamStats:
    """What a stream did so far.

    Parameters
    ----------
    received, received_bytes : int
        Messages that came from the broker.
    handed_out, acknowledged : int
        Alerts given to the caller, and finished by him.
    quarantined, skipped : int
        Messages that could not be read.
    waiting, unacknowledged : int
        Alerts in the queue, and alerts in the caller's hands.
    paused : bool
        Whether the caller is so slow that fetching rests.
    last_error : str, optional
        The trouble of the connection, while it lasts.
    group : str, optional
        The consumer group.
    """

    received: int = 0
    received_bytes: int = 0
    handed_out: int = 0
    acknowledged: int = 0
    quarantined: int = 0
    skipped: int = 0
    waiting: int = 0
    unacknowledged: int = 0
    paused: bool = False
    last_error: str | None = None
    group: str | None = None


@dataclass(slots=True)
class _Command:
    """Something that the thread does for a caller who waits for it."""

    run: Callable[[], Any]
    placed: bool = False  # not before the partitions are known
    result: Any = None
    done: threading.Event = field(default_factory=threading.Event)
    error: NunciusError | None = None


class Engine:
    """Receives, checks, hands out and keeps the book. Made and used by `Stream` and `AsyncStream`."""

    def __init__(self, transport: Transport, rules: Rules, quarantine: Quarantine) -> None:
        self.rules = rules
        self.stats = StreamStats(group=transport.group)
        self._transport = transport
        self._quarantine = quarantine
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], None]] = []
        self._process = os.getpid()
        # Shared with the thread, under the lock.
        self._queue: deque[tuple[Alert, int]] = deque()
        self._queue_cost = 0
        self._ledgers: dict[Partition, Ledger] = {}
        self._poisoned: list[Ticket] = []
        self._released: list[tuple[float, int, Alert]] = []
        self._in_hand: dict[Ticket, None] = {}
        self._commands: deque[_Command] = deque()
        self._connected = False
        self._connected_at = 0.0
        self._ready: list[tuple[Alert, int]] = []  # checked, and not in the queue yet; the thread's alone
        self._assigned_at: float | None = None
        self._failure: NunciusError | None = None
        self._closing = False
        self._full = False
        self._told = False
        self._wake = threading.Event()
        self._stored: dict[Partition, int] = {}
        self._deadline: float | None = None
        self._left = rules.stop.count
        self._waiting_since: float | None = None
        self._thread: threading.Thread | None = None

    # Called by the faces -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread, once; what goes wrong in it is raised by `connected` and `take`."""
        self._check_process()
        with self._lock:
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="nuncius-stream", daemon=True)
                self._thread.start()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener`, from the thread, whenever there is something new to take or to know."""
        self._listeners.append(listener)

    @property
    def connected(self) -> bool:
        """Whether the connection stood once; raises what made it fail."""
        if self._closing:
            raise ConfigurationError("the stream is closed; open it anew with open_stream")
        if self._failure is not None and not self._connected:
            raise self._failure
        return self._connected

    def take(self, n: int) -> list[Alert] | None:
        """Return at most `n` alerts that are there, without waiting; None when no more will come.

        Raises
        ------
        NunciusError
            What stopped the stream.
        """
        self._check_process()
        self.start()
        with self._lock:
            if self._left is not None:
                n = min(n, self._left)
            alerts: list[Alert] = []
            if not self._closing and (self._deadline is None or time.monotonic() < self._deadline):
                alerts = self._take_from_queue(n, self._room())
            if self._full and not self._is_full():
                self._wake.set()
            if alerts:
                if self._left is not None:
                    self._left -= len(alerts)
                return alerts
            # What was received before a failure was handed out first: it was checked and is whole.
            if self._failure is not None:
                # Nobody comes back to finish what is in hand, so don't wait for it; but a batch that is being gathered
                # still goes out first.
                self._closing = self._closing or not self._in_hand
                raise self._failure
            return None if self._closing or self._left == 0 or self._ended() else []

    @property
    def is_finished(self) -> bool:
        """Whether all that was handed out is finished."""
        return not self._in_hand and not self._released

    @property
    def has_room(self) -> bool:
        """Whether more may be handed out before some is acknowledged."""
        with self._lock:
            return self._room() > 0

    def finish_in_hand(self) -> None:
        """Finish what was handed out and not acknowledged: the caller came back for the next."""
        if self.rules.acknowledge == "on_next" and self._in_hand:
            with self._lock:
                self._finish(list(self._in_hand))

    def acknowledge(self, alerts: Alert | Iterable[Alert]) -> None:
        """Finish alerts; a second time changes nothing."""
        self._check_process()
        with self._lock:
            self._finish(
                [self._ticket(alert) for alert in ([alerts] if isinstance(alerts, Alert) else alerts)]
            )
        self._notify()

    def release(self, alert: Alert, delay_s: float) -> None:
        """Hand an alert out again after a delay; it stays unfinished."""
        self._check_process()
        with self._lock:
            ticket = self._ticket(alert)
            if ticket not in self._in_hand:
                return  # finished, released already, or taken over by another consumer of the group
            del self._in_hand[ticket]
            if self._left is not None:
                self._left += 1
            heapq.heappush(self._released, (time.monotonic() + delay_s, id(alert), alert))
        self._notify()

    def seek(self, where: Start | Mapping[Partition, int]) -> None:
        """Move all partitions, or those named, to other positions and forget what was handed out from them."""

        def move() -> None:
            moved = self._transport.seek(where)
            with self._lock:
                self._drop(moved)
                self._assigned_at = time.monotonic()
                for (topic, partition), position in moved.items():
                    self._ledgers[topic, partition] = Ledger(topic, partition, self._damaged, position)

        self._order(move, placed=True)

    def lag(self) -> dict[Partition, int]:
        """Return for each partition how many messages are not finished."""
        return self._order(
            lambda: self._transport.lag({key: ledger.committable for key, ledger in self._ledgers.items()}),
            placed=True,
        )

    def topics(self) -> list[str]:
        """Return the names of all topics that can be read."""
        return self._order(self._transport.topics)

    def snapshot(self) -> StreamStats:
        """Return the figures as they are now."""
        with self._lock:
            return replace(
                self.stats,
                waiting=len(self._queue),
                unacknowledged=len(self._in_hand),
                last_error=self._transport.last_error,
            )

    def close(self, *, finish: bool) -> None:
        """Begin to close: finish what is in the caller's hands, or leave it unfinished."""
        with self._lock:
            if finish:
                self.finish_in_hand()
            self._closing = True
        self._transport.interrupt()
        self._wake.set()
        self._notify()

    def join(self, timeout_s: float) -> None:
        """Wait until the thread has committed and left; after `timeout_s` it goes on without us."""
        thread = self._thread
        if thread is None or thread is threading.current_thread() or os.getpid() != self._process:
            return
        thread.join(timeout_s)
        if thread.is_alive():
            log.warning(
                "the broker did not confirm the last positions within %g s; what they cover may come again",
                timeout_s,
            )

    # Called by the transport, in the thread ------------------------------------------------------------------------

    def assigned(self, partitions: Mapping[Partition, int | None]) -> None:
        """See `nuncius.streams.transport.Listener`."""
        with self._lock:
            for (topic, partition), position in partitions.items():
                self._ledgers[topic, partition] = Ledger(topic, partition, self._damaged, position)
                self._stored.pop((topic, partition), None)
            self._assigned_at = time.monotonic()
        self._notify()

    def revoked(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """See `nuncius.streams.transport.Listener`."""
        with self._lock:
            gone = list(partitions)
            positions = self._committable(gone)
            self._drop(gone)
        return positions

    # The thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._transport.connect(self, self.rules.connect_timeout_s)
            with self._lock:
                self._connected = True
                self._connected_at = time.monotonic()
                if self.rules.stop.seconds is not None:
                    self._deadline = time.monotonic() + self.rules.stop.seconds
            self._notify()
            self._pump()
        except NunciusError as error:
            self._failure = error
        except BaseException as error:  # noqa: BLE001 - raised again, from the call that waits
            self._failure = NunciusError(
                f"the stream stopped on an error of its own: {type(error).__name__}: {error}"
            )
            self._failure.__cause__ = error
        finally:
            self._notify()
            self._hand_out_the_rest()
            self._leave()

    def _pump(self) -> None:
        full_since: float | None = None
        told_at = time.monotonic()
        while not self._closing:
            self._obey()
            self._full = self._is_full()
            if not self._full:
                full_since = None
                self._pause(paused=False)
            elif full_since is None:
                full_since = time.monotonic()
            # Most breaks of a caller are short, and pausing throws the prefetched messages away: so a full queue first
            # just waits. After that the polling must go on, or the broker takes us for dead.
            if full_since is not None and time.monotonic() - full_since < _HOLD_S:
                self._wake.wait(_SLICE_S)
                self._wake.clear()
            else:
                self._pause(paused=full_since is not None)
                self._accept(self._transport.receive(_FETCH, _SLICE_S))
            self._store()
            if self._assigned_at is None and time.monotonic() - told_at > _UNASSIGNED_S:
                told_at = time.monotonic()
                log.warning(
                    "the group %s has given this stream no partition for %g s: its other members hold them all, or the "
                    "broker still waits for a member that died",
                    self.stats.group,
                    _UNASSIGNED_S,
                )

    def _pause(self, *, paused: bool) -> None:
        if paused != self.stats.paused:
            self.stats.paused = paused
            (self._transport.pause if paused else self._transport.resume)()

    def _store(self) -> None:
        with self._lock:
            positions = self._committable(self._ledgers)
        changed = {key: position for key, position in positions.items() if self._stored.get(key) != position}
        if changed and self._transport.store(changed):
            self._stored.update(changed)

    def _hand_out_the_rest(self) -> None:
        """After a failure: what was received before it is whole, so the caller gets it first."""
        while self._failure is not None and not self._closing and (self._queue or self._in_hand):
            self._wake.wait(_SLICE_S)
            self._wake.clear()

    def _accept(self, messages: Sequence[Message | End]) -> None:
        stop_ms = None if self.rules.stop.unix_s is None else self.rules.stop.unix_s * 1000
        for message in messages:
            ledger = self._ledgers.get((message.topic, message.partition))
            if ledger is None or ledger.ended:
                continue
            if isinstance(message, End):
                self._put()  # first, or who asks now would miss what came before the end
                ledger.at_end = True
                ledger.ended = self.rules.stop.at_end or self._transport.ends
                continue
            ledger.at_end = False
            if stop_ms is not None and message.timestamp_ms is not None and message.timestamp_ms >= stop_ms:
                self._put()
                ledger.ended = True
                continue
            self.stats.received += 1
            self.stats.received_bytes += len(message.value or b"")
            try:
                opened = self._open(message, ledger)
                self._ready += opened
            except PacketError as error:
                # Hand out what came before, so that a stream that stops here has lost nothing of it.
                self._put()
                self._poison(message, ledger, error)
            if self._closing:
                return
        self._put()
        self._notify()

    def _open(self, message: Message, ledger: Ledger) -> list[tuple[Alert, int]]:
        """Check one message and make its alerts."""
        if message.value is None:
            raise PacketError("the message has no value (a tombstone)")
        opened = self._with_schema(message.value)
        if not opened:
            raise PacketError("the container holds no record")
        origin = self._transport.origin(message, self.rules.broker)
        alerts = []
        for raw, packet in opened:
            alert = Alert(raw, packet, origin=origin)
            if self.rules.validate:
                _ = alert.packet
            cost = len(raw) if packet.is_lazy and not self.rules.validate else len(raw) * _DECODED_COST
            alerts.append((alert, cost))
        for alert, _ in alerts:  # entered only when all of them are whole
            alert._delivery = ledger.enter(message.offset)
        return alerts

    def _with_schema(self, value: bytes) -> Sequence[tuple[bytes, Any]]:
        """Open a message; wait for a schema registry that is out of reach, for the packet is not to blame."""
        give_up = time.monotonic() + self.rules.connect_timeout_s
        delay_s = 0.1
        while True:
            try:
                return open_packets(value, self.rules.schema)
            except NunciusError as error:
                self._put()  # what came before it needs no schema
                if not isinstance(error, UnreachableError) or time.monotonic() + delay_s > give_up:
                    raise
            again = time.monotonic() + delay_s
            while time.monotonic() < again:
                if self._closing:
                    raise UnreachableError("the stream was closed while it waited for its schemas")
                time.sleep(_SLICE_S)
            delay_s *= 2

    def _put(self) -> None:
        """Put what was checked into the queue."""
        ready, self._ready = self._ready, []
        if not ready:
            return
        with self._lock:
            if self._poisoned:
                self._finish_poisoned()
            self._queue.extend(ready)
            self._queue_cost += sum(cost for _, cost in ready)
        self._notify()

    def _poison(self, message: Message, ledger: Ledger, error: PacketError) -> None:
        """Deal with a message that can't be read."""
        origin = self._transport.origin(message, self.rules.broker)
        where = type(error)(f"{origin}: {error}", position=origin.position)
        if self.rules.on_error == "raise":
            raise where from error
        if self.rules.on_error == "quarantine":
            path = self._quarantine.put(origin, message.value, error)
            self.stats.quarantined += 1
            log.warning("%s: quarantined as %s", where, path)
        else:
            self.stats.skipped += 1
            log.warning("%s: skipped", where)
        with self._lock:
            # Not finished before a readable message follows: if nothing can be read, nothing is acknowledged.
            self._poisoned.append(ledger.enter(message.offset))
            run = len(self._poisoned)
        if run >= _POISONED_RUN:
            raise QuarantineFullError(
                f"the last {run} messages could not be read, the last of them because: {error}. Something is wrong "
                "with the topic, the schema or this program, so nothing of them was acknowledged. They are in "
                f"{self._quarantine.folder}",
                position=origin.position,
            ) from error

    def _finish_poisoned(self) -> None:
        for ticket in self._poisoned:
            ticket.ledger.finish(ticket)
        self._poisoned = []

    def _leave(self) -> None:
        """Close the transport, committing what is finished."""
        with self._lock:
            if not isinstance(self._failure, QuarantineFullError):
                self._finish_poisoned()
            positions = self._committable(self._ledgers)
        try:
            self._transport.close(positions)
        except NunciusError as error:
            log.warning("closing the stream: %s", error)
        with self._lock:
            self._drop(list(self._ledgers))
            for command in self._commands:
                command.done.set()
        self._notify()

    # Small parts ---------------------------------------------------------------------------------------------------

    def _take_from_queue(self, n: int, room: int) -> list[Alert]:
        alerts: list[Alert] = []
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
        self.stats.handed_out += len(alerts)
        self._in_hand.update(dict.fromkeys(alert._delivery for alert in alerts))  # type: ignore[misc]
        return alerts

    def _room(self) -> int:
        """Return how many alerts may still be handed out before some are acknowledged."""
        if self.rules.acknowledge != "manual":
            return self.rules.max_unacknowledged
        room = self.rules.max_unacknowledged - len(self._in_hand) - len(self._released)
        if room > 0:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = time.monotonic()
        elif time.monotonic() - self._waiting_since > _WARN_UNACKNOWLEDGED_S:
            self._waiting_since = time.monotonic()
            log.warning(
                "%d alerts are handed out and not acknowledged; the stream waits until some are (acknowledge, release, "
                "or a larger max_unacknowledged)",
                len(self._in_hand),
            )
        return max(0, room)

    def _ticket(self, alert: Alert) -> Ticket:
        ticket = alert._delivery
        if not isinstance(ticket, Ticket) or ticket.ledger.on_damage != self._damaged:
            raise ConfigurationError(f"{alert!r} was not handed out by this stream")
        return ticket

    def _finish(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            was_in_hand = self._in_hand.pop(ticket, ticket) is None
            if ticket.ledger.finish(ticket) and ticket.ledger.alive:
                self.stats.acknowledged += 1
                if not was_in_hand:
                    self._forget_released()

    def _forget_released(self) -> None:
        """Drop released alerts that are finished after all, or taken over by others."""
        if self._released:
            self._released = [
                entry
                for entry in self._released
                if not entry[2]._delivery.done and entry[2]._delivery.ledger.alive  # type: ignore[union-attr]
            ]
            heapq.heapify(self._released)

    def _damaged(self, alert: Alert, error: PacketError) -> None:
        """Keep a message whose damage showed when a field was touched."""
        if self.rules.on_error == "quarantine" and alert.origin is not None:
            self._quarantine.put(alert.origin, alert.raw, error)
            with self._lock:
                self.stats.quarantined += 1

    def _committable(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        positions = {}
        for key in partitions:
            ledger = self._ledgers.get(key)
            position = None if ledger is None else ledger.committable
            if position is not None:
                positions[key] = position
        return positions

    def _drop(self, partitions: Iterable[Partition]) -> None:
        """Forget partitions: what waits from them comes again to whoever reads them next."""
        for key in partitions:
            ledger = self._ledgers.pop(key, None)
            if ledger is not None:
                ledger.alive = False
        kept = [(alert, cost) for alert, cost in self._queue if alert._delivery.ledger.alive]  # type: ignore[union-attr]
        self._queue = deque(kept)
        self._queue_cost = sum(cost for _, cost in kept)
        self._poisoned = [ticket for ticket in self._poisoned if ticket.ledger.alive]
        self._in_hand = {ticket: None for ticket in self._in_hand if ticket.ledger.alive}
        self._forget_released()

    def _ended(self) -> bool:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return True
        if self._queue or self._released or self._assigned_at is None:
            return False
        settled = time.monotonic() - self._assigned_at > _SETTLE_S
        if not settled and not self._transport.partitions <= self._ledgers.keys():
            return False  # a group hands its partitions out bit by bit: more may come
        stop = self.rules.stop
        past = stop.unix_s is not None and time.time() >= stop.unix_s
        ends = stop.at_end or self._transport.ends or past
        if not ends and stop.unix_s is None:
            return False
        ledgers = self._ledgers.values()
        ended = all(ledger.ended or (past and ledger.at_end) for ledger in ledgers) and (
            ends or bool(ledgers)
        )
        if ended and not self._closing:
            self._tell_what_others_read()
        return ended

    def _tell_what_others_read(self) -> None:
        others = self._transport.partitions - self._ledgers.keys()
        if others and not self._told:
            self._told = True
            log.warning(
                "ended without the partitions %s, which another member of the group %s reads; if that member died, its "
                "part comes to the next one that reads",
                ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(others)),
                self.stats.group,
            )

    def _is_full(self) -> bool:
        """Tell whether the queue holds enough; once full, it stays so until it is half empty."""
        part = 0.5 if self._full else 1.0
        return self._queue_cost >= part * _QUEUE_BYTES or len(self._queue) >= part * _QUEUE_ALERTS

    def _order(self, run: Callable[[], T], *, placed: bool = False) -> T:
        """Have the thread do something, and wait for it: the transport belongs to the thread alone."""
        self._check_process()
        self.start()
        command = _Command(run, placed)
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._closing:
                raise ConfigurationError("the stream is closed")
            self._commands.append(command)
        while not command.done.wait(_SLICE_S):
            if self._failure is not None:
                raise self._failure
        if command.error is not None:
            raise command.error
        return cast("T", command.result)

    def _obey(self) -> None:
        # A group hands out its partitions some time after we joined; a member may also get none at all.
        waiting = self._assigned_at is None and (
            time.monotonic() - self._connected_at < self.rules.connect_timeout_s
        )
        while self._commands and not (waiting and self._commands[0].placed):
            command = self._commands.popleft()
            try:
                command.result = command.run()
            except NunciusError as error:
                command.error = error
            finally:
                command.done.set()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ForkError(
                "a stream can't be used in a forked process: librdkafka does not survive a fork. Open the stream in "
                "the worker itself, or start workers with multiprocessing.get_context('spawn')"
            )
