"""The Pub/Sub transport: a streaming pull that acknowledges only what is finished.

Three threads: the stream's own calls the methods of `Transport`; the *listener* takes what the server sends; the *keeper*
(`nuncius.streams.pubsub.keeper`) acknowledges, and extends the leases of what is not finished.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nuncius.errors import (
    ConfigurationError,
    ForbiddenError,
    NotFoundError,
    NunciusError,
    UnsupportedError,
)
from nuncius.streams.delivery import MessageLedger
from nuncius.streams.pubsub.client import Client, Pull
from nuncius.streams.pubsub.faults import passes
from nuncius.streams.pubsub.keeper import CALL_S, Keeper
from nuncius.streams.pubsub.leases import Leases, number_of
from nuncius.streams.pubsub.subscriptions import NO_LAG, check_same, delete, describe, make, patiently, seek
from nuncius.streams.transport import End, Message, Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.alerts import Alert
    from nuncius.errors import PacketError
    from nuncius.streams.bounds import Start
    from nuncius.streams.delivery import Ledger
    from nuncius.streams.pubsub.client import Server
    from nuncius.streams.pubsub.plan import Plan
    from nuncius.streams.transport import Listener, Partition

log = logging.getLogger("nuncius.streams")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 30.0  # between two attempts to reach the server
_STEADY_S = 60.0  # a connection that held so long did not fail at once
_SILENT_S = 300.0  # a connection that is silent so long may be dead, and is opened anew
_ANSWER_S = 10.0  # for the first answer of a streaming pull
_STARVED_S = 0.5
_LARGEST = 10_000_000  # bytes of a message, https://cloud.google.com/pubsub/quotas
_DRAIN_S = 1.0  # for what is under way when we leave
_LEAVE_S = 3.0  # for the last acknowledgements


class PubSubTransport(Transport):
    """One subscription.

    Parameters
    ----------
    server : Server
        Where.
    plan : Plan
        Which subscription, and how it is read.
    """

    service = "pubsub"

    def __init__(self, server: Server, plan: Plan) -> None:
        self._server = server
        self._plan = plan
        self._path = plan.subscription
        self._partition: Partition = (plan.subscription, 0)
        self.partitions = frozenset({self._partition})
        self.group = None if plan.temporary else plan.subscription.rpartition("/")[2]
        self.disorder_s = plan.quiet_s
        self._max_messages, self._max_bytes = plan.max_messages, plan.max_bytes
        self._leases = Leases()
        self._client: Client | None = None
        self._pull: Pull | None = None
        self._arrived = threading.Condition()
        self._buffer: deque[Message] = deque()
        self._interrupted = threading.Event()
        self._leaving = threading.Event()  # no new connection is made
        self._keeper: Keeper | None = None
        self._listener: threading.Thread | None = None
        self._trouble: NunciusError | None = None
        self._lost: str | None = None  # why nothing can come now
        self._paused = False
        self._made = False  # the subscription
        self._came = 0  # messages
        self._heard_at = self._asked_at = self._given_at = self._silent_at = 0.0

    def ledger(
        self,
        topic: str,
        partition: int,
        on_damage: Callable[[Alert, PacketError], None],
        position: int | None,
    ) -> Ledger:
        """See `Transport.ledger`."""
        return MessageLedger(topic, partition, on_damage, self._leases.finish)

    # Called by the engine ------------------------------------------------------------------------------------------

    def connect(self, listener: Listener, timeout_s: float) -> None:
        """See `Transport.connect`."""
        deadline = time.monotonic() + timeout_s
        self._client = Client(self._server)
        patiently(self._arrive, deadline, self._interrupted.is_set)
        self._given_at = self._silent_at = time.monotonic()
        self._keeper = Keeper(self._client, self._path, self._leases, self._plan.lease_s, self._fail)
        self._listen()
        listener.assigned({self._partition: None})

    def receive(self, n: int, timeout_s: float) -> list[Message | End]:
        """See `Transport.receive`."""
        with self._arrived:
            if self._paused or (not self._buffer and self._trouble is None):
                self._arrived.wait(timeout_s)
            if self._paused:
                return []
            if not self._buffer and self._trouble is not None:
                raise self._trouble
            found: list[Message | End] = [self._buffer.popleft() for _ in range(min(n, len(self._buffer)))]
        now = time.monotonic()
        if now - max(self._heard_at, self._asked_at) > _SILENT_S:
            self._asked_at = now
            log.debug("nothing came from %s for %g s: connecting anew", self._path, _SILENT_S)
            self._renew()
        is_full = self._is_full()
        if found:
            self._given_at = now
        # Before its first answer a server is not silent but busy.
        is_awaited = self._heard_at < self._asked_at and now - self._asked_at < _ANSWER_S
        if found or is_full or is_awaited or self._lost is not None:
            self._silent_at = now
        elif now - self._silent_at > self._plan.quiet_s:
            return [End(*self._partition)]
        return found

    def starve(self) -> None:
        """See `Transport.starve`: if the caller holds all that the server may send, let it send more."""
        if self._leases.to_acknowledge:
            return  # once the server knows, it sends more by itself; a new pull would cut off what is under way
        now = time.monotonic()
        waited_s = min(now - self._given_at, now - self._asked_at)
        if waited_s > _STARVED_S and self._lost is None and self._is_full():
            self._max_messages *= 2
            self._max_bytes = max(2 * self._max_bytes, self._leases.size + _LARGEST)
            self._asked_at = now
            self._renew()

    def pause(self) -> None:
        """See `Transport.pause`: the server sends no more than we may hold, and that waits."""
        self._paused = True

    def resume(self) -> None:
        """See `Transport.resume`."""
        self._paused = False
        self._given_at = self._silent_at = time.monotonic()

    def interrupt(self) -> None:
        """See `Transport.interrupt`."""
        self._interrupted.set()

    def seek(self, where: Start | Mapping[Partition, int]) -> dict[Partition, int | None]:
        """See `Transport.seek`. Where to is a time: a subscription has no offsets."""
        if isinstance(where, Mapping):
            raise UnsupportedError(
                "a subscription has no offsets; seek 'earliest', 'latest' or a time", service=self.service
            )
        client, keeper, deadline = self._connected, self._keeper, time.monotonic() + _LEAVE_S
        assert keeper is not None
        self._hang_up()
        try:
            keeper.flush(deadline)
            if where.name != "committed":
                patiently(
                    lambda left_s: seek(client, self._path, where, left_s),
                    deadline,
                    self._interrupted.is_set,
                )
            # Not before: if the server refuses to move, all goes on as it was.
            self._give_back(deadline)
        finally:
            self._given_at = self._silent_at = time.monotonic()
            self._listen()
        return {self._partition: None}

    def lag(self, positions: Mapping[Partition, int | None]) -> dict[Partition, int]:
        """See `Transport.lag`."""
        raise UnsupportedError(NO_LAG, service=self.service)

    def close(self, positions: Mapping[Partition, int]) -> None:
        """See `Transport.close`."""
        if self._client is None:
            return
        self._hang_up()
        if self._keeper is not None:
            self._keeper.stop()
        client, deadline = self._client, time.monotonic() + _LEAVE_S
        try:
            if self._plan.temporary:
                patiently(lambda left_s: delete(client, self._path, left_s), deadline, lambda: False)
            elif self._keeper is not None:
                self._keeper.flush(deadline)
        finally:
            if not self._plan.temporary:
                self._give_back(time.monotonic() + _LEAVE_S)
            self._client.close()
            self._client = None

    @property
    def last_error(self) -> str | None:
        """See `Transport.last_error`."""
        return self._lost or (self._keeper.trouble if self._keeper is not None else None)

    # Connecting ----------------------------------------------------------------------------------------------------

    @property
    def _connected(self) -> Client:
        if self._client is None:
            raise ConfigurationError("the stream is not connected")
        return self._client

    def _arrive(self, timeout_s: float) -> None:
        """Log in, and find the subscription or make it."""
        client, plan = self._connected, self._plan
        try:
            found = describe(client, self._path, timeout_s)
            check_same(found, plan.topic, plan.attribute_filter)
        except ForbiddenError as error:
            # Who may read need not be allowed to look; whether we may read, the streaming pull tells.
            log.debug("%s", error)
        except NotFoundError:
            if plan.topic is None:
                raise
            self._make(plan.topic, timeout_s)
        if plan.reset or (self._made and plan.start.name in {"earliest", "time"}):
            seek(client, self._path, plan.start, timeout_s)

    def _make(self, topic: str, timeout_s: float) -> None:
        self._made = True  # also if the answer gets lost, and the next attempt finds the subscription
        found = make(
            self._connected,
            self._path,
            timeout_s,
            topic=topic,
            attribute_filter=self._plan.attribute_filter,
            expires_s=86_400 if self._plan.temporary else None,
        )
        self._made = found.created
        if found.created and not self._plan.temporary:
            log.warning(
                "made the subscription %s of %s; messages published before are not in it", found.path, topic
            )

    def _listen(self) -> None:
        self._leaving.clear()
        self._asked_at = time.monotonic()
        self._listener = threading.Thread(
            target=self._listen_always, name="nuncius-pubsub-listener", daemon=True
        )
        self._listener.start()

    def _hang_up(self) -> None:
        """End the streaming pull; first take what is under way, or it would be ours until its lease ends."""
        self._leaving.set()
        for end, timeout_s in ((Pull.finish, _DRAIN_S), (Pull.end, CALL_S)):
            if self._pull is not None:
                end(self._pull)
            if self._listener is not None:
                self._listener.join(timeout_s)

    def _give_back(self, deadline: float) -> None:
        with self._arrived:
            self._buffer.clear()
        if self._keeper is not None:
            self._keeper.give_back(deadline)

    # The listener --------------------------------------------------------------------------------------------------

    def _listen_always(self) -> None:
        import grpc

        pause_s = _FIRST_PAUSE_S
        while not self._leaving.is_set():
            begin, came = time.monotonic(), self._came
            try:
                self._take_all()
            except grpc.RpcError as error:
                self._fail(self._connected.fault(error, self._path, begin=begin))
            except NunciusError as error:
                self._fail(error)
            except BaseException as error:  # noqa: BLE001 - raised again, from the call that waits
                self._fail(NunciusError(f"the stream stopped on an error of its own: {error!r}"))
            if self._trouble is not None:
                return
            if self._came > came or time.monotonic() - begin > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            self._leaving.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _take_all(self) -> None:
        """Take what one streaming pull gives, until it ends."""
        client = self._connected
        request = client.types.StreamingPullRequest.pb()(
            subscription=self._path,
            stream_ack_deadline_seconds=self._plan.lease_s,
            max_outstanding_messages=self._max_messages,
            max_outstanding_bytes=self._max_bytes,
        )
        self._pull = pull = client.pull(request)
        self._asked_at = time.monotonic()
        if self._leaving.is_set():
            pull.finish()
        for response in pull:
            self._heard_at = time.monotonic()
            self._lost = None
            client.accepted()
            messages = self._new(response.received_messages)
            self._came += len(messages)
            if messages:
                with self._arrived:
                    self._buffer.extend(messages)
                    self._arrived.notify()

    def _new(self, received: Any) -> list[Message]:
        """Note what came; leave out what we hold already, whose lease had ended."""
        messages = []
        for item in received:
            message = message_of(item.message, self._path)
            if self._leases.take(message.offset, item.ack_id, len(message.value or b"")):
                messages.append(message)
        return messages

    def _fail(self, error: NunciusError) -> None:
        """Note what went wrong; what does not pass by itself is raised by `receive`."""
        if self._leaving.is_set():
            return
        if passes(error):
            if threading.current_thread() is self._listener:
                self._lost = str(error)
        else:
            with self._arrived:
                self._trouble = error
                self._arrived.notify()

    def _is_full(self) -> bool:
        """Tell whether we hold so much that the server may send no more; what it would send next may be large."""
        leases = self._leases
        count, size = leases.count, leases.size
        return count > 0 and (count >= 0.9 * self._max_messages or size + _LARGEST > self._max_bytes)

    def _renew(self) -> None:
        if (pull := self._pull) is not None:
            pull.end()


def message_of(message: Any, path: str) -> Message:
    """Return a message of Google's, read from the subscription at `path`, as ours."""
    stamp = message.publish_time
    return Message(
        path,
        0,
        number_of(message.message_id),
        message.data,
        stamp.seconds * 1000 + stamp.nanos // 1_000_000,
        message.ordering_key.encode() or None,
        tuple((name, value.encode()) for name, value in message.attributes.items()),
    )
