"""The async face of a stream. The sync one, `_sync.py`, is generated from this file by tools/make_sync.py."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from nuncius.alerts import Alert
from nuncius.errors import ConfigurationError, NunciusError, PacketError
from nuncius.streams.bounds import parse_start
from nuncius.streams.signals import AsyncSignal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from types import TracebackType

    from nuncius.alerts.sink import Sink
    from nuncius.streams.merged import Source
    from nuncius.streams.rules import StreamStats
    from nuncius.streams.transport import Partition

log = logging.getLogger("nuncius.streams")

_CLOSE_S = 5.0
_IDLE_S = 1.0  # after so long without alerts, who holds some is asked for them


class AsyncStream:
    """A stream of alerts, made by `nuncius.aio.open_stream`.

    Iterate over it for one alert at a time, or over `batches` for many. An alert counts as finished, and is never sent
    again, when you come back for the next one; with ``acknowledge="manual"``, when you say so. Leaving the ``with``
    block cleanly, or reaching `stop`, finishes what was handed out; leaving it by an exception, or `close` alone, does
    not, so those alerts come again.
    """

    def __init__(self, engine: Source, url: str) -> None:
        self._engine = engine
        self._url = url
        self._signal = AsyncSignal()
        self._over = False
        engine.on_change(_weak_set(self._signal))
        self._finalizer = weakref.finalize(self, engine.close, finish=False)

    # Reading -------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Connect.

        Raises
        ------
        UnreachableError, TlsError, LoginError, ForbiddenError, NotFoundError, ConfigurationError
            What is wrong with the connection, within `connect_timeout_s`.
        """
        self._engine.start()
        while not self._engine.connected:
            await self._signal.wait(1.0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(finish=kind is None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Alert:
        alerts = await self._next(1, None)
        if not alerts:
            raise StopAsyncIteration
        return alerts[0]

    async def batches(
        self, n: int = 500, timeout_s: float | None = 1.0, *, finish: bool = True
    ) -> AsyncIterator[list[Alert]]:
        """Give lists of alerts.

        Parameters
        ----------
        n : int
            The most alerts in a batch.
        timeout_s : float, optional
            How long to wait for more after the first alert of a batch; None waits until `n` are there.
        finish : bool
            Whether a batch is finished when the next one is asked for, as everywhere. If not, it is when you `acknowledge`
            it, so that you may still be at work on it when you take the next.

        Yields
        ------
        list of Alert
            Never empty; but without `finish` an empty one asks for what is left, while no others come and when no more will;
            who comes back after the latter has finished all.
        """
        if n < 1:
            raise ConfigurationError(f"n={n}: a batch holds at least one alert")
        n = min(n, self._engine.rules.max_unacknowledged)
        at_end = False
        while True:
            idle_s = None if finish or self._engine.is_finished else _IDLE_S
            batch = await self._next(1, idle_s, finish=finish or at_end)
            if not batch and self._over:
                return
            at_end = batch is None  # but a partition of another member may come to us even then
            if batch:
                await self._fill(batch, n, timeout_s)
            yield batch or []

    async def poll(self, timeout_s: float | None = None) -> Alert | None:
        """Return the next alert, or None when `timeout_s` is over or the stream has ended.

        ``timeout_s=0`` doesn't wait; None waits until there is one.
        """
        alerts = await self._next(1, timeout_s)
        return alerts[0] if alerts else None

    async def save(self, *sinks: Sink, n: int = 500, timeout_s: float | None = 1.0) -> int:
        """Keep all alerts in one or several places; a batch is finished when each of them has it on the disk.

        Alerts that turn out to be damaged go into the quarantine, as always, and not into the sinks; with
        ``on_error="raise"`` they end it.

        Parameters
        ----------
        *sinks : Sink
            Such as `FileSink`, `ParquetSink` or ``archive.sink()``.
        n, timeout_s
            As for `batches`.

        Returns
        -------
        int
            How many alerts were kept.

        Raises
        ------
        StorageError
            If a sink can't keep a batch; nothing of the batch is acknowledged.
        PacketError
            With ``on_error="raise"``, if an alert is damaged; likewise.
        """
        if not sinks:
            raise ConfigurationError(
                "save needs at least one sink, or the alerts would be finished and nowhere"
            )
        count = 0
        async for batch in self.batches(n, timeout_s):
            whole = await self._signal.call(readable, batch, self._engine.rules.on_error)
            for sink in sinks:
                await self._signal.call(sink.write, whole)
            self.acknowledge(batch)
            count += len(whole)
        return count

    # Finishing -----------------------------------------------------------------------------------------------------

    def acknowledge(self, alerts: Alert | Iterable[Alert]) -> None:
        """Say that alerts are finished: they are not sent again. Out of order is fine.

        Raises
        ------
        ConfigurationError
            If an alert is not this stream's.
        """
        self._engine.acknowledge(alerts)

    def release(self, alert: Alert, delay_s: float = 0) -> None:
        """Give an alert back: it is handed out again, not before `delay_s` seconds.

        Raises
        ------
        ConfigurationError
            If the alert is not this stream's.
        """
        self._engine.release(alert, delay_s)

    async def close(self) -> None:
        """Close the stream. What was handed out and not finished comes again next time."""
        await self._leave(finish=False)

    # Moving and looking --------------------------------------------------------------------------------------------

    async def seek(self, where: Any) -> None:
        """Go to another position.

        Parameters
        ----------
        where : str, datetime, Time or mapping
            ``"earliest"``, ``"latest"``, a time as for `start`, or offsets by (topic, partition).

        Raises
        ------
        UnsupportedError
            If the transport can't.
        NotFoundError
            If the stream doesn't read that partition.
        """
        target = where if isinstance(where, Mapping) else parse_start(where, now=time.time())
        await self._signal.call(self._engine.seek, target)

    async def lag(self) -> dict[Partition, int]:
        """Return how many messages are not finished, by (topic, partition).

        Raises
        ------
        UnsupportedError
            If the transport doesn't know.
        """
        return await self._signal.call(self._engine.lag)

    async def topics(self) -> list[str]:
        """Return the names of all topics that can be read.

        Raises
        ------
        UnsupportedError
            If the transport has none.
        """
        return await self._signal.call(self._engine.topics)

    def stats(self) -> StreamStats:
        """Return what the stream did so far."""
        return self._engine.snapshot()

    @property
    def group(self) -> str | None:
        """The consumer group under whose name positions are kept; None if none is."""
        return self._engine.stats.group

    @property
    def url(self) -> str:
        """What was opened."""
        return self._url

    def __repr__(self) -> str:
        stats = self.stats()
        group = f", group {stats.group}" if stats.group else ""
        return f"<AsyncStream {self._url}{group}: {stats.handed_out} alerts, {stats.quarantined} quarantined>"

    # Parts ---------------------------------------------------------------------------------------------------------

    async def _next(self, n: int, timeout_s: float | None, *, finish: bool = True) -> list[Alert] | None:
        """Finish what was handed out, and wait for the next alerts; an empty list after the time or at the end.

        Without `finish` it is None if no more will come and some are not finished.
        """
        if self._over:
            return []
        if finish:
            self._engine.finish_in_hand()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            alerts = self._engine.take(n)
            if alerts is None:
                if not finish and not self._engine.is_finished:
                    return None
                self._over = True
                # By hand, the last alerts may be acknowledged after the loop: then the block or `close` ends the stream.
                if self._engine.rules.acknowledge != "manual" or self._engine.is_finished:
                    await self._leave(finish=True)
                return []
            if alerts:
                return alerts
            remaining = 1.0 if deadline is None else deadline - time.monotonic()
            if remaining <= 0:
                return []
            await self._signal.wait(remaining)

    async def _fill(self, batch: list[Alert], n: int, timeout_s: float | None) -> None:
        """Wait for more alerts of a batch, until it has `n`, the time is over, or no more will come."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while len(batch) < n:
                try:
                    more = self._engine.take(n - len(batch))
                except NunciusError:
                    break  # raised again by the next call: this batch goes out first
                if more:
                    batch += more
                    continue
                remaining = 1.0 if deadline is None else deadline - time.monotonic()
                # Who may not have more in hand must get this batch, or he could never acknowledge it.
                if more is None or remaining <= 0 or not self._engine.has_room:
                    break
                await self._signal.wait(remaining)
        except BaseException:  # interrupted: nobody gets this batch, so nobody may finish it by going on
            for alert in batch:
                self._engine.release(alert, 0)
            raise

    async def _leave(self, *, finish: bool) -> None:
        self._over = True
        self._finalizer.detach()
        self._engine.close(finish=finish)
        await self._signal.call(self._engine.join, _CLOSE_S)


def readable(alerts: Sequence[Alert], on_error: str) -> list[Alert]:
    """Return the alerts whose packets can be decoded; with ``quarantine`` the stream has kept the others.

    Raises
    ------
    PacketError
        With ``raise``, if one can't be.
    """
    whole = []
    for alert in alerts:
        try:
            if isinstance(alert, Alert):  # a notice is whole from the beginning
                alert.check()
        except PacketError as error:
            if on_error == "raise":
                raise
            log.warning("%s: %s", alert.origin, error)
        else:
            whole.append(alert)
    return whole


def _weak_set(signal: AsyncSignal) -> Any:
    """Wake the signal without keeping it, and with it the stream, alive."""
    reference = weakref.ref(signal)

    def wake() -> None:
        found = reference()
        if found is not None:
            found.set()

    return wake
