"""Looks after a service while it works: asks for the lag, writes the status file, logs a line each minute."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from nuncius.errors import NunciusError, UnsupportedError
from nuncius.streams.merged import Merged
from nuncius.streams.rules import StreamStats
from nuncius.streams.service.status import WRITE_S, Snapshot, shown_duration, write_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from nuncius.streams import Stream
    from nuncius.streams.service.disk import DiskGuard
    from nuncius.streams.transport import Partition

log = logging.getLogger("nuncius.service")

LAG_S = 15.0
"""How often the broker is asked for the lag, at most."""

_LAG_SHARE = 20  # asking may take so small a part of the time, for the stream rests meanwhile
_MINUTE_S, _DAY_S = 60.0, 86_400.0
_OUTAGE_S = 60.0  # a shorter trouble of the connection is none for the health
_HANGS_S = 600.0  # a sink that takes so long for one batch
_RATE_S = 10.0


class Monitor:
    """What a service did and does. Within the ``with`` block it is looked after by threads of its own.

    Parameters
    ----------
    urls : sequence of str
        What is read.
    guard : DiskGuard, optional
        Whose figures are told too.
    status_file : Path, optional
        Where the status is written, every two seconds and at the end.
    logs : bool
        Whether a line is logged each minute.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        guard: DiskGuard | None = None,
        status_file: Path | None = None,
        logs: bool = False,
    ) -> None:
        self.kept = 0
        self._urls = tuple(urls)
        self._guard = guard
        self._status_file = status_file
        self._logs = logs
        self._started = time.time()
        self._state = "connecting"
        self._state_at = time.monotonic()
        self._stream: Stream | None = None
        self._quarantined = 0
        self._lag: dict[Partition, int] | None = None
        self._lag_pause_s = 2.0
        self._shortage: str | None = None
        self._writing_since: float | None = None
        self._outage_since: float | None = None
        self._last_error: tuple[str, float] | None = None
        self._counts: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._over = threading.Event()
        self._not_written_at = -_MINUTE_S

    def __enter__(self) -> Self:
        self._write()
        self._repeat(self._look, lambda: 1.0)
        self._repeat(self._write, lambda: WRITE_S)
        self._repeat(self._say, lambda: _MINUTE_S)
        self._repeat(self._ask_lag, lambda: self._lag_pause_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._state != "failed":
            self._enter("stopped" if kind is None else "failed")
        self._write()

    # Told by the service ----------------------------------------------------------------------------------------------

    def connecting(self, stream: Stream) -> None:
        """Note the stream that is being connected."""
        self._quarantined = self.quarantined
        self._stream = stream
        self._enter("connecting")

    @property
    def quarantined(self) -> int:
        """How many messages went into the quarantine, also before the stream was opened again."""
        return self._quarantined + (self._stream.stats().quarantined if self._stream else 0)

    def connected(self) -> None:
        """Note that the connection stands."""
        self._enter("running")

    def failed(self, error: NunciusError, *, is_over: bool) -> None:
        """Note an error that ends the service, or has the stream opened again."""
        self._last_error = str(error), time.time()
        self._enter("failed" if is_over else "connecting")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Note how long the sinks take, within the ``with`` block."""
        self._writing_since = time.monotonic()
        try:
            yield
        finally:
            self._writing_since = None

    def short(self, shortage: str | None) -> None:
        """Note that a disk is full, or no longer."""
        self._shortage = shortage
        if shortage is not None:
            self._last_error = shortage, time.time()

    # Asked by those who watch -----------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return how it goes; never waits for the broker."""
        streams: dict[str, StreamStats] = {}
        stats = StreamStats()
        if (stream := self._stream) is not None:
            source = stream._engine
            stats = stream.stats()
            streams = source.by_stream() if isinstance(source, Merged) else {stream.url: stats}
        error = self._last_error
        return Snapshot(
            state=self._state,
            trouble=self._trouble(stats),
            urls=self._urls,
            started=self._started,
            at=time.time(),
            kept=self.kept,
            rate_per_s=self._rate(),
            stats=stats,
            streams=streams,
            lag=self._lag,
            free_bytes={} if self._guard is None else self._guard.free_bytes(),
            is_paused=stats.paused or self._shortage is not None,
            last_error=error[0] if error else None,
            last_error_at=error[1] if error else None,
        )

    def _trouble(self, stats: StreamStats) -> str | None:
        now = time.monotonic()
        if self._state == "failed":
            return f"failed: {self._last_error[0]}" if self._last_error else "failed"
        if self._state == "stopped":
            return "stopped"
        if self._shortage is not None:
            return f"paused: {self._shortage}"
        if self._state == "connecting" and now - self._state_at > _OUTAGE_S:
            return f"no connection for {shown_duration(now - self._state_at)}"
        since = self._outage_since
        if since is not None and now - since > _OUTAGE_S:
            return f"no connection for {shown_duration(now - since)}: {stats.last_error}"
        since = self._writing_since
        if since is not None and now - since > _HANGS_S:
            return f"keeping one batch has taken {shown_duration(now - since)} so far"
        return None

    def _rate(self) -> float:
        (begin, before), (end, now) = self._counts[0], self._counts[-1]
        return (now - before) / (end - begin) if end > begin else 0.0

    # In threads of its own --------------------------------------------------------------------------------------------

    def _repeat(self, work: Callable[[], None], pause_s: Callable[[], float]) -> None:
        def run() -> None:
            while not self._over.wait(pause_s()):
                work()

        threading.Thread(target=run, name="nuncius-monitor", daemon=True).start()

    def _look(self) -> None:
        now = time.monotonic()
        self._counts.append((now, self.kept))
        while now - self._counts[0][0] > _RATE_S:
            self._counts.popleft()
        trouble = None if self._stream is None else self._stream.stats().last_error
        if trouble is None:
            if self._outage_since is not None:
                log.info("the connection stands again after %s", shown_duration(now - self._outage_since))
            self._outage_since = None
            return
        self._last_error, self._lag = (trouble, time.time()), None
        if self._outage_since is None and self._state == "running":
            self._outage_since = now
            log.warning("the connection is lost: %s. It is tried again until it stands", trouble)

    def _ask_lag(self) -> None:
        stream = self._stream
        # Who asks in an outage waits, and the stream with him.
        if stream is None or self._state != "running" or self._outage_since is not None:
            self._lag_pause_s = 2.0
            return
        begin = time.monotonic()
        try:
            self._lag = stream.lag()
        except UnsupportedError:
            self._lag_pause_s = _DAY_S  # this stream never knows
            return
        except NunciusError as error:
            log.debug("the lag is not known now: %s", error)
        self._lag_pause_s = max(LAG_S, _LAG_SHARE * (time.monotonic() - begin))

    def _write(self) -> None:
        if self._status_file is None:
            return
        try:
            write_status(self._status_file, self.snapshot())
        except OSError as error:
            # No reason to lose the stream; who looks at the file sees that it is old.
            if time.monotonic() - self._not_written_at >= _MINUTE_S:
                self._not_written_at = time.monotonic()
                log.warning("the status file %s can't be written: %s", self._status_file, error.strerror)

    def _say(self) -> None:
        if self._logs and self._state == "running":
            snapshot = self.snapshot()
            log.info("%s", snapshot.line(), extra={"facts": _counted(snapshot)})

    def _enter(self, state: str) -> None:
        if state != self._state:
            self._state, self._state_at = state, time.monotonic()
        self._outage_since = None


def _counted(snapshot: Snapshot) -> dict[str, object]:
    facts = snapshot.facts()
    return {
        name: facts[name] for name in ("kept", "rate_per_s", "lag", "last_alert", "paused", "healthy")
    } | {"quarantined": snapshot.stats.quarantined}
