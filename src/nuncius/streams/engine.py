"""The engine of a stream: one thread that receives and checks, and the book of what is handed out and finished.

Both faces of a stream, sync and async, stand on one `Engine`. Nothing here waits for the user: the face asks with
`take` for what is there, and `on_change` tells it when asking again is worth while.

Whatever goes wrong in the thread is raised from the call that waits, and stays raised.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nuncius.alerts import Alert, Notice
from nuncius.errors import ConfigurationError, ForkError, NunciusError, QuarantineFullError
from nuncius.streams.book import Book
from nuncius.streams.intake import Intake
from nuncius.streams.rules import StreamStats
from nuncius.streams.transport import End

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from nuncius.errors import PacketError
    from nuncius.streams.bounds import Start
    from nuncius.streams.quarantine import Quarantine
    from nuncius.streams.rules import Rules
    from nuncius.streams.transport import Message, Partition, Transport

log = logging.getLogger("nuncius.streams")

T = TypeVar("T")

# The longest that the thread is deaf: to closing, to orders, and to what was finished and can be committed.
_SLICE_S = 0.02
_FETCH = 200  # messages received at once
_HOLD_S = 1.0  # how long a full queue just waits before the partitions are paused
_SETTLE_S = 5.0  # after so long without a change, the partitions that we don't have are another member's
_UNASSIGNED_S = 20.0


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
        self._book = Book(rules, self.stats, self._damaged, transport.ledger)
        self._intake = Intake(
            rules, self.stats, self._book, quarantine, transport, self._lock, lambda: self._closing
        )
        self._commands: deque[_Command] = deque()
        self._connected = False
        self._connected_at = self._before_stop_at = 0.0
        self._assigned_at: float | None = None
        self._failure: NunciusError | None = None
        self._closing = False
        self._full = False
        self._told = False
        self._wake = threading.Event()
        self._stored: dict[Partition, int] = {}
        self._deadline: float | None = None
        self._left = rules.stop.count
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

    def take(self, n: int, room: int | None = None) -> list[Alert] | None:
        """Return at most `n` alerts that are there, without waiting; None when no more will come.

        With `room`, at most so many of them are new, and the others were released before.

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
            if self.rules.rate is not None:
                n = min(n, self.rules.rate.allowed())
            if not self._closing and (self._deadline is None or time.monotonic() < self._deadline):
                alerts = self._book.take(n, room)
            if self._full and not self._book.is_full(was_full=True):
                self._wake.set()
            if alerts:
                if self.rules.rate is not None:
                    self.rules.rate.take(len(alerts))
                if self._left is not None:
                    self._left -= len(alerts)
                return alerts
            if self._left == 0:
                return None
            # What was received before a failure is handed out first: it was checked and is whole.
            if self._failure is not None and (n > 0 or not self._book.waiting):
                # Nobody comes back to finish what is in hand, so don't wait for it; but a batch that is being gathered
                # still goes out first.
                self._closing = self._closing or not self._book.in_hand
                raise self._failure
            return None if self._closing or self._ended() else []

    @property
    def is_finished(self) -> bool:
        """Whether all that was handed out is finished."""
        return self._book.is_finished

    @property
    def unfinished(self) -> int:
        """How many alerts are handed out and not finished, with those that were released and will come again."""
        return self._book.unfinished

    @property
    def is_free(self) -> bool:
        """Whether nothing is in the caller's hands."""
        return not self._book.in_hand

    @property
    def has_room(self) -> bool:
        """Whether more may be handed out before some is acknowledged."""
        with self._lock:
            return self._book.room() > 0

    def finish_in_hand(self) -> None:
        """Finish what was handed out and not acknowledged: the caller came back for the next."""
        if self.rules.acknowledge == "on_next" and self._book.in_hand:
            with self._lock:
                self._book.finish(list(self._book.in_hand))

    def owns(self, alert: Alert) -> bool:
        """Tell whether an alert was handed out by this stream."""
        return self._book.owns(alert)

    def acknowledge(self, alerts: Alert | Iterable[Alert]) -> None:
        """Finish alerts; a second time changes nothing."""
        self._check_process()
        with self._lock:
            self._book.finish([self._book.ticket(alert) for alert in as_items(alerts)])
        self._notify()

    def release(self, alert: Alert, delay_s: float) -> bool:
        """Hand an alert out again after a delay; it stays unfinished. Return whether it was in the caller's hands."""
        self._check_process()
        with self._lock:
            is_released = self._book.release(alert, delay_s)
            if is_released and self._left is not None:
                self._left += 1
        self._notify()
        return is_released

    def seek(self, where: Start | Mapping[Partition, int]) -> None:
        """Move all partitions, or those named, to other positions and forget what was handed out from them."""
        if self.rules.seen is not None:
            self.rules.seen.forget()
        self.move(where)

    def move(self, where: Start | Mapping[Partition, int]) -> None:
        """Do what `seek` does, but for the keys of the alerts that have come."""

        def move() -> None:
            moved = self._transport.seek(where)
            with self._lock:
                self._book.drop(moved)
                self._assigned_at = time.monotonic()
                self._book.assign(moved)

        self._order(move, placed=True)

    def lag(self) -> dict[Partition, int]:
        """Return for each partition how many messages are not finished."""
        return self._order(
            lambda: self._transport.lag(
                {key: ledger.committable for key, ledger in self._book.ledgers.items()}
            ),
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
                waiting=self._book.waiting,
                unacknowledged=len(self._book.in_hand),
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
            self._book.assign(partitions)
            for key in partitions:
                self._stored.pop(key, None)
            self._assigned_at = time.monotonic()
        self._notify()

    def revoked(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """See `nuncius.streams.transport.Listener`."""
        with self._lock:
            gone = list(partitions)
            positions = self._book.committable(gone)
            self._book.drop(gone)
        return positions

    # The thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._transport.connect(self, self.rules.connect_timeout_s)
            with self._lock:
                self._connected = True
                self._connected_at = self._before_stop_at = time.monotonic()
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
            self._full = self._book.is_full(was_full=self._full)
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
                if not self._book.waiting and self.has_room:
                    self._transport.starve()
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
            self._before_stop_at = time.monotonic()
            (self._transport.pause if paused else self._transport.resume)()

    def _store(self) -> None:
        with self._lock:
            positions = self._book.committable(self._book.ledgers)
        changed = {key: position for key, position in positions.items() if self._stored.get(key) != position}
        if changed and self._transport.store(changed):
            self._stored.update(changed)

    def _hand_out_the_rest(self) -> None:
        """After a failure: what was received before it is whole, so the caller gets it first."""
        while self._failure is not None and not self._closing and (self._book.waiting or self._book.in_hand):
            self._wake.wait(_SLICE_S)
            self._wake.clear()

    def _accept(self, messages: Sequence[Message | End]) -> None:
        stop_ms = None if self.rules.stop.unix_s is None else self.rules.stop.unix_s * 1000
        for message in messages:
            ledger = self._book.ledgers.get((message.topic, message.partition))
            if ledger is None or ledger.ended:
                continue
            if isinstance(message, End):
                self._put()  # first, or who asks now would miss what came before the end
                ledger.at_end = True
                ledger.ended = self.rules.stop.at_end or self._transport.ends
                continue
            if stop_ms is not None and message.timestamp_ms is not None and message.timestamp_ms >= stop_ms:
                self._put()
                ledger.ended = time.monotonic() - self._before_stop_at >= self._transport.disorder_s
                continue
            ledger.at_end, self._before_stop_at = False, time.monotonic()
            self._intake.accept(message, ledger)
            if self._closing:
                return
        self._put()
        self._notify()

    def _put(self) -> None:
        if self._intake.put():
            self._notify()

    def _leave(self) -> None:
        """Close the transport, committing what is finished."""
        with self._lock:
            if not isinstance(self._failure, QuarantineFullError):
                self._book.finish_poisoned()
            positions = self._book.committable(self._book.ledgers)
        try:
            self._transport.close(positions)
        except NunciusError as error:
            log.warning("closing the stream: %s", error)
        with self._lock:
            self._book.drop(list(self._book.ledgers))
            for command in self._commands:
                command.error = command.error or ConfigurationError("the stream was closed meanwhile")
                command.done.set()
        self._notify()

    # Small parts ---------------------------------------------------------------------------------------------------

    def _damaged(self, alert: Alert, error: PacketError) -> None:
        """Keep a message whose damage showed when a field was touched."""
        if self.rules.on_error == "quarantine" and alert.origin is not None:
            self._quarantine.put(alert.origin, alert.raw, error)
            with self._lock:
                self.stats.quarantined += 1

    def _ended(self) -> bool:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return True
        if self._book.has_waiting or self._assigned_at is None:
            return False
        settled = time.monotonic() - self._assigned_at > _SETTLE_S
        if not settled and not self._transport.partitions <= self._book.ledgers.keys():
            return False  # a group hands its partitions out bit by bit: more may come
        stop = self.rules.stop
        past = stop.unix_s is not None and time.time() >= stop.unix_s
        ends = stop.at_end or self._transport.ends or past
        if not ends and stop.unix_s is None:
            return False
        ledgers = self._book.ledgers.values()
        ended = all(ledger.ended or (past and ledger.at_end) for ledger in ledgers) and (
            ends or bool(ledgers)
        )
        if ended and not self._closing:
            self._tell_what_others_read()
        return ended

    def _tell_what_others_read(self) -> None:
        others = self._transport.partitions - self._book.ledgers.keys()
        if others and not self._told:
            self._told = True
            log.warning(
                "ended without the partitions %s, which another member of the group %s reads; if that member died, its "
                "part comes to the next one that reads",
                ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(others)),
                self.stats.group,
            )

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
                "a stream can't be used in a forked process: neither librdkafka nor gRPC survives a fork. Open the stream in "
                "the worker itself, or start workers with multiprocessing.get_context('spawn')"
            )


def as_items(alerts: Alert | Iterable[Alert]) -> Iterable[Alert]:
    """Return alerts as what can be iterated over, also if it is one."""
    return [alerts] if isinstance(alerts, (Alert, Notice)) else alerts
