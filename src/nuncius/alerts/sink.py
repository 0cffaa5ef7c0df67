"""What a stream and a keeper of alerts know of each other, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from nuncius.alerts.alert import Alert
    from nuncius.errors import PacketError


class Delivery(Protocol):
    """What an alert knows of the stream that handed it out."""

    def damaged(self, alert: Alert, error: PacketError) -> None:
        """Take note that the packet turned out to be damaged when a field was touched."""


@runtime_checkable
class AlertSource(Protocol):
    """Where alerts come from batch by batch, such as a stream.

    A batch counts as finished when the next one is asked for: whoever keeps it must have made it durable before.
    """

    def batches(self, n: int = 500, timeout_s: float | None = 1.0) -> Iterator[Sequence[Alert]]:
        """Give batches of at most `n` alerts, each after at most `timeout_s` seconds of waiting for more."""


@runtime_checkable
class AsyncAlertSource(Protocol):
    """The same for an async stream."""

    def batches(self, n: int = 500, timeout_s: float | None = 1.0) -> AsyncIterator[Sequence[Alert]]:
        """Give batches of at most `n` alerts, each after at most `timeout_s` seconds of waiting for more."""


AnyAlertSource: TypeAlias = AlertSource | AsyncAlertSource
