"""The async face of a publisher. The sync one, `_sync.py`, is generated from this file by tools/make_sync.py."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sized
from typing import TYPE_CHECKING, Any, Self

from nuncius._core.progress import progress_bar
from nuncius.errors import ConfigurationError, NunciusError
from nuncius.streams.publishing.outbox import Outbox
from nuncius.streams.publishing.values import Encoder
from nuncius.streams.signals import AsyncSignal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from nuncius.streams.kafka import Connection
    from nuncius.streams.publishing.values import Headers, Value

_SLICE_S = 0.1
_END: Any = object()


class AsyncPublisher:
    """Publishes to a topic, made by `nuncius.aio.open_publisher`.

    Messages are sent in the background, in their order, and once each: what the broker has not confirmed within
    `timeout_s` is reported by an error of the next call, and is in `unconfirmed` then. Leaving the ``with`` block waits
    for all confirmations.

    Parameters
    ----------
    connection : Connection
        Where to.
    topic : str
        The topic.
    timeout_s : float
        How long connecting may take, and how long a message may wait for its confirmation.

    Examples
    --------
    >>> async with open_publisher("kafka://localhost:9092/alerts") as publisher:  # doctest: +SKIP
    ...     await publisher.publish({"id": 1, "ra": 10.5, "dec": -3.25}, key="1")
    """

    def __init__(self, connection: Connection, topic: str, *, timeout_s: float = 30.0) -> None:
        self._connection = connection
        self._topic = topic
        self._outbox = Outbox(connection, timeout_s)
        self._encoder = Encoder()
        self._signal = AsyncSignal()
        self._closed = False
        self._finalizer = weakref.finalize(self, self._outbox.abandon)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises
        ------
        LoginError, TlsError, UnreachableError, NotFoundError, ForbiddenError, ConfigurationError
            What is wrong with the connection or the topic, within `timeout_s`.
        """
        await self._signal.call(self._outbox.open, self._topic)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
            return
        # The error of the block is what the caller must see; that messages failed too is noted at it.
        try:
            await self.close()
        except NunciusError as second:
            error.add_note(f"Besides: {second}")

    async def publish(
        self,
        value: Value,
        *,
        key: bytes | str | None = None,
        headers: Headers | None = None,
        topic: str | None = None,
        timestamp: Any = None,
        schema: Mapping[str, Any] | str | None = None,
    ) -> None:
        """Queue one message; wait while the queue is full.

        Parameters
        ----------
        value : bytes, Alert, Notice or dict
            An alert or notice is sent as it came, a dict as JSON.
        key : bytes or str, optional
            The key: messages with the same key come to the same partition, in their order.
        headers : mapping or pairs, optional
            Names with bytes or text.
        topic : str, optional
            Another topic than the publisher's.
        timestamp : datetime, Time or str, optional
            When it happened; by default now.
        schema : dict or str, optional
            The Avro schema of a dict, which is then sent as an object container of one record.

        Raises
        ------
        ConfigurationError
            If the value can't be written without loss, or is larger than the broker takes.
        NotFoundError
            If there is no such topic.
        NunciusError
            If earlier messages failed: `unconfirmed` has them, and this one.
        """
        if self._closed:
            raise ConfigurationError("the publisher is closed; open it anew with open_publisher")
        target = self._topic if topic is None else topic
        message = self._encoder.outgoing(
            value, target, key=key, headers=headers, timestamp=timestamp, schema=schema
        )
        if not self._outbox.is_open(target):
            await self._signal.call(self._outbox.open, target)
        try:
            self._outbox.check()
            while not self._outbox.put(message):
                await self._signal.call(self._outbox.serve, _SLICE_S)
                self._outbox.check()
        except BaseException:
            self._outbox.unconfirmed.append(value)
            raise

    async def publish_many(
        self,
        values: Iterable[Value],
        *,
        key: bytes | str | None = None,
        headers: Headers | None = None,
        schema: Mapping[str, Any] | str | None = None,
        progress: bool = False,
    ) -> int:
        """Publish all values and wait until they are confirmed.

        Parameters
        ----------
        values : iterable
            See `publish`; also a stream's alerts or `read_packets`.
        key, headers, schema : optional
            See `publish`; the same for all.
        progress : bool
            Whether to show a progress bar.

        Returns
        -------
        int
            How many were published.

        Raises
        ------
        NunciusError
            As `publish` and `flush`. What comes behind the value at which it stopped was not sent.
        """
        count = 0
        rest = iter(values)
        total = len(values) if isinstance(values, Sized) else None
        with progress_bar("messages", total=total, wanted=progress) as advance:
            while (value := await self._signal.call(next, rest, _END)) is not _END:
                await self.publish(value, key=key, headers=headers, schema=schema)
                count += 1
                advance(1)
            await self.flush()
        return count

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until every message is confirmed.

        Parameters
        ----------
        timeout_s : float, optional
            How long; by default until each is confirmed or has failed.

        Raises
        ------
        NunciusError
            If messages failed: of the class that says why, with how many.
        UnreachableError
            If some are still not confirmed when the time is over; they are still tried.
        """
        wait_s = self._outbox.give_up_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + wait_s
        while self._outbox.waiting and (left := deadline - time.monotonic()) > 0:
            await self._signal.call(self._outbox.serve, min(left, _SLICE_S))
        self._outbox.check()
        if self._outbox.waiting:
            raise self._outbox.overdue()

    async def close(self) -> None:
        """Wait until every message is confirmed, and publish no more.

        Raises
        ------
        NunciusError
            As `flush`.
        """
        self._closed = True
        try:
            await self.flush()
        finally:
            self._finalizer.detach()  # what has failed was said

    @property
    def topic(self) -> str:
        """The topic."""
        return self._topic

    @property
    def confirmed(self) -> int:
        """How many messages the broker has confirmed."""
        return self._outbox.confirmed

    @property
    def unconfirmed(self) -> list[Value]:
        """What was given and has failed, to be published again; whoever does so empties the list."""
        return self._outbox.unconfirmed

    def __repr__(self) -> str:
        return f"<AsyncPublisher {self._connection.url}/{self._topic}: {self.confirmed} confirmed>"
