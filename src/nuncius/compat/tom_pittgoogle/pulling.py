"""The stream below a pull, and the handle by which it is ended from elsewhere."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from nuncius.alerts import Alert, Origin
from nuncius.alerts.packets import Packet, as_source, open_packets
from nuncius.brokers.lsst import Lsst
from nuncius.compat.tom_pittgoogle.messages import Envelope, EnvelopedOrigin
from nuncius.errors import DeadlineError, PacketError
from nuncius.settings import data_dir
from nuncius.streams import Stream
from nuncius.streams.bounds import Start, Stop
from nuncius.streams.engine import Engine
from nuncius.streams.pubsub import Plan, PubSubTransport
from nuncius.streams.pubsub.leases import number_of
from nuncius.streams.quarantine import Quarantine
from nuncius.streams.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuncius.streams.pubsub import Server
    from nuncius.streams.transport import Message

_CONNECT_S = 10.0
_NO_LIMIT = 1_000_000_000
_QUARANTINE_BYTES = 10_000_000_000


class PullFuture:
    """A running pull, as far as others need to know of it."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._done = threading.Event()
        self._error: BaseException | None = None

    def cancel(self) -> bool:
        """Let the pull stop before the next message; called from any thread. It doesn't wait."""
        self._cancelled.set()
        return True

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled.is_set()

    def done(self) -> bool:
        """Whether it has ended."""
        return self._done.is_set()

    def running(self) -> bool:
        """Whether it has not ended."""
        return not self.done()

    def result(self, timeout: float | None = None) -> bool:
        """Wait until it has ended: all that was finished is acknowledged, and the rest given back.

        Raises
        ------
        DeadlineError
            If it takes longer than `timeout` seconds.
        BaseException
            What ended it, if that was an error.
        """
        if not self._done.wait(timeout):
            raise DeadlineError(f"the pull has not ended within {timeout:g} s")
        if self._error is not None:
            raise self._error
        return True

    def finish(self, error: BaseException | None = None) -> None:
        """Note that it has ended."""
        self._error = error
        self._done.set()


class Pulled(PubSubTransport):
    """The transport of a pull: it remembers what came around each message, and keeps to the backlog that was asked for.

    Messages that failed and wait for another attempt are not part of the backlog, or a few of them would stop all
    others.
    """

    def __init__(self, server: Server, plan: Plan) -> None:
        super().__init__(server, plan)
        self.envelopes: dict[int, Envelope] = {}
        self.parked = 0  # messages that we hold and nobody works on

    def _new(self, received: Any) -> list[Message]:
        messages = super()._new(received)
        new = {message.offset for message in messages}
        for item in received:
            message = item.message
            if (number := number_of(message.message_id)) in new:
                stamp = message.publish_time
                self.envelopes[number] = Envelope(
                    message.message_id,
                    stamp.seconds,
                    stamp.nanos,
                    message.ordering_key,
                    item.delivery_attempt or None,
                )
        return messages

    def origin(self, message: Message, broker: str | None) -> Origin:
        """See `Transport.origin`."""
        plain = super().origin(message, broker)
        known = {name: getattr(plain, name) for name in Origin.__slots__}
        return EnvelopedOrigin(**known, envelope=self.envelopes.get(message.offset))

    def starve(self) -> None:
        """See `Transport.starve`."""
        wanted = self._plan.max_messages + self.parked
        if wanted > self._max_messages and self._lost is None:
            self._max_messages = wanted
            self._given_at = time.monotonic()
            self._renew()


class Pull:
    """A subscription that is being read, message by message.

    Parameters
    ----------
    server : Server
        Where.
    path : str
        The subscription.
    max_backlog : int
        The most messages that are received and not processed.
    decodes : bool
        Whether messages must be alerts; those that are not go into the quarantine. Otherwise they may be anything.
    """

    def __init__(self, server: Server, path: str, *, max_backlog: int, decodes: bool) -> None:
        self.transport = Pulled(server, Plan(path, Start("committed"), max_messages=max_backlog))
        rules = Rules(
            acknowledge="manual",
            on_error="quarantine",
            max_unacknowledged=_NO_LIMIT,
            validate=False,
            connect_timeout_s=_CONNECT_S,
            stop=Stop(),
            read=_Reader(self.transport.envelopes, decodes=decodes),
        )
        folder = data_dir() / "quarantine" / server.address.replace(":", "_")
        engine = Engine(self.transport, rules, Quarantine(folder, _QUARANTINE_BYTES))
        self.stream = Stream(engine, f"pubsub://{server.address}/{path}")


class _Reader:
    """Makes alerts of messages; of those that need not be alerts it takes the bytes."""

    def __init__(self, envelopes: dict[int, Envelope], *, decodes: bool) -> None:
        self._envelopes = envelopes
        self._decodes = decodes
        self._schema = as_source(Lsst.schema)

    def __call__(self, message: Message, origin: Origin) -> Sequence[Alert]:
        """See `nuncius.streams.transport.Reader`."""
        value = message.value or b""
        try:
            opened = self._opened(value)
        except PacketError:
            del self._envelopes[message.offset]
            raise
        del self._envelopes[message.offset]
        return [Alert(raw, packet, origin=origin) for raw, packet in opened]

    def _opened(self, value: bytes) -> Sequence[tuple[bytes, Packet]]:
        if not self._decodes:
            return [(value, Packet("bytes", "", value))]
        if not value:
            raise PacketError(
                "the message has no data, only attributes; send_data='full_msg' hands out such messages too"
            )
        found = open_packets(value, self._schema)
        if not found:
            raise PacketError("the container holds no record")
        return found
