"""What a stream and a keeper of alerts know of each other, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from nuncius.alerts.alert import Alert
    from nuncius.alerts.notice import Notice
    from nuncius.errors import PacketError


class Delivery(Protocol):
    """What an alert knows of the stream that handed it out."""

    def damaged(self, alert: Alert, error: PacketError) -> None:
        """Take note that the packet turned out to be damaged when a field was touched."""


class TakesBack(Protocol):
    """What is told, from any thread, how it went with alerts that it gave."""

    def acknowledge(self, alerts: Any) -> None:
        """Say that alerts are finished: they are durable."""

    def release(self, alert: Any, delay_s: float = 0) -> None:
        """Give an alert back that is not finished: it comes again."""


@runtime_checkable
class AlertSource(TakesBack, Protocol):
    """Where alerts come from batch by batch, such as a stream."""

    def batches(
        self, n: int = 500, timeout_s: float | None = 1.0, *, finish: bool = True
    ) -> Iterator[Sequence[Alert]]:
        """Give batches of at most `n` alerts, each after at most `timeout_s` seconds of waiting for more.

        A batch counts as finished when the next one is asked for. Without `finish` it is when it is acknowledged; then an
        empty batch, while no others come and when no more will, asks for what is left.
        """


@runtime_checkable
class AsyncAlertSource(TakesBack, Protocol):
    """The same for an async stream."""

    def batches(
        self, n: int = 500, timeout_s: float | None = 1.0, *, finish: bool = True
    ) -> AsyncIterator[Sequence[Alert]]:
        """Give batches of at most `n` alerts, each after at most `timeout_s` seconds of waiting for more.

        A batch counts as finished when the next one is asked for. Without `finish` it is when it is acknowledged; then an
        empty batch, while no others come and when no more will, asks for what is left.
        """


class Sink(Protocol):
    """Where alerts go, such as a folder or a file.

    An async stream calls it in a worker thread, one call at a time.
    """

    def write(self, items: Sequence[Alert | Notice]) -> None:
        """Keep a batch. When this returns, all of it is durable.

        Raises
        ------
        StorageError
            If it can't be kept; then nothing of the batch counts as finished, and all of it comes again, what was
            kept of it too.
        PacketError
            If a packet turns out to be damaged where only decoding finds it; ask an alert for its `packet` first.
        """

    def close(self) -> None:
        """Give back what is held. What was written is durable already."""


AnyAlertSource: TypeAlias = AlertSource | AsyncAlertSource
