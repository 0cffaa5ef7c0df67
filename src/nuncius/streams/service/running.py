"""The work of the service: batch after batch into all sinks, until the end, a stop or an error that time won't cure."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

from nuncius.errors import DeadlineError, NunciusError, ServerError, TlsError, UnreachableError
from nuncius.streams._sync import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuncius.alerts import Alert
    from nuncius.alerts.sink import Sink
    from nuncius.streams import Stream
    from nuncius.streams.service.disk import DiskGuard
    from nuncius.streams.service.monitor import Monitor
    from nuncius.streams.service.stopping import Stopping

log = logging.getLogger("nuncius.service")

_SLICE_S = 0.1  # so long a stop may be overlooked while nothing comes
_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 60.0
_SAY_S = 60.0


class Service:
    """Keeps the alerts of a stream. An alert is acknowledged when every sink has it.

    Parameters
    ----------
    opened : callable
        Opens the stream, with ``acknowledge="manual"``; it is told whether that is done again after a failure.
    sinks : callable
        Opens the sinks, when the first connection stands; each batch goes into all of them, in their order.
    stopping : Stopping
        Tells when to stop; the batch in hand is finished before.
    monitor : Monitor
        Is told how it goes.
    guard : DiskGuard, optional
        While it finds a shortage nothing is written.
    n, timeout_s : int, float
        The most alerts in a batch, and how long to wait for more after the first.
    limit : int, optional
        The most alerts to take.
    retry_s : float
        How long a failure that time may cure is met with another attempt, counted from the beginning of the first attempt that fails.
    """

    def __init__(
        self,
        opened: Callable[[bool], Stream],
        sinks: Callable[[], Sequence[Sink]],
        *,
        stopping: Stopping,
        monitor: Monitor,
        guard: DiskGuard | None = None,
        n: int = 500,
        timeout_s: float = 1.0,
        limit: int | None = None,
        retry_s: float = 0.0,
    ) -> None:
        self._opened = opened
        self._open_sinks = sinks
        self._sinks: Sequence[Sink] | None = None
        self._stopping = stopping
        self._monitor = monitor
        self._guard = guard
        self._n = n
        self._timeout_s = timeout_s
        self._left = limit
        self._retry_s = retry_s
        self._failing_since: float | None = None
        self._delay_s = _FIRST_DELAY_S
        self._was_connected = False

    def run(self) -> int:
        """Work; return how many alerts are in all sinks.

        Raises
        ------
        NunciusError
            What ended it. Nothing was acknowledged that is not in all sinks.
        """
        again = False
        while True:
            stream = self._opened(again)
            again = True
            try:
                if self._connect(stream):
                    self._read(stream)
            except NunciusError as error:
                is_over = not self._may_try_again(error, stream)
                self._monitor.failed(error, is_over=is_over)
                if is_over:
                    raise
                log.warning("%s. Tried again in %.0f s", str(error).rstrip("."), self._delay_s)
            else:
                return self._monitor.kept
            finally:
                stream.close()  # what is acknowledged is committed, whatever has happened
            if self._stopping.wait(self._delay_s * random.uniform(0.8, 1.2)):  # noqa: S311 - jitter
                return self._monitor.kept
            self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)

    def _connect(self, stream: Stream) -> bool:
        """Wait until the connection stands; return False if it is to stop before."""
        self._monitor.connecting(stream)
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        source = stream._engine
        source.start()
        while not source.connected:
            if self._stopping.wait(0.02):
                return False
        self._monitor.connected()
        self._was_connected = True
        self._failing_since, self._delay_s = None, _FIRST_DELAY_S
        return True

    def _read(self, stream: Stream) -> None:
        if self._sinks is None:
            self._sinks = self._open_sinks()
        while batch := self._next_batch(stream):
            whole = readable(batch, stream._engine.rules.on_error)
            if not self._has_room():
                return  # stopped while it waited: the batch is not acknowledged, and comes again
            with self._monitor.writing():
                for sink in self._sinks:
                    sink.write(whole)
            stream.acknowledge(batch)
            self._monitor.kept += len(whole)
            if self._left is not None:
                self._left -= len(batch)

    def _next_batch(self, stream: Stream) -> list[Alert]:
        """Return the next alerts, after a stop those that are gathered; none at the end."""
        n = self._n if self._left is None else min(self._n, self._left)
        batch: list[Alert] = []
        deadline = float("inf")
        while len(batch) < n and not self._stopping.wanted and time.monotonic() < deadline:
            try:
                alert = stream.poll(min(_SLICE_S, self._timeout_s) if batch else _SLICE_S)
            except NunciusError:
                if not batch:
                    raise
                break  # raised again by the next call: this batch goes first
            if alert is None:
                if stream._over:
                    break
                continue
            if not batch:
                deadline = time.monotonic() + self._timeout_s
            batch.append(alert)
        return batch

    def _has_room(self) -> bool:
        """Wait until there is room on all disks; return False when it is to stop meanwhile."""
        said_at: float | None = None
        while self._guard is not None and (shortage := self._guard.shortage()) is not None:
            self._monitor.short(shortage)
            if said_at is None or time.monotonic() - said_at >= _SAY_S:
                said_at = time.monotonic()
                log.warning("paused: %s", shortage)
            if self._stopping.wait(1.0):
                return False
        if said_at is not None:
            self._monitor.short(None)
            log.info("there is room on the disk again: reading goes on")
        return True

    def _may_try_again(self, error: NunciusError, stream: Stream) -> bool:
        if self._stopping.wanted or not is_temporary(error):
            return False
        # Without a group nobody knows where to go on.
        if self._was_connected and stream.group is None:
            return False
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        return now - self._failing_since + self._delay_s <= self._retry_s


def is_temporary(error: NunciusError) -> bool:
    """Tell whether time may cure an error of the connection."""
    return isinstance(error, (UnreachableError, DeadlineError, ServerError)) and not isinstance(
        error, TlsError
    )
