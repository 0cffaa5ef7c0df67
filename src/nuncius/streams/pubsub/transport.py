"""The Pub/Sub transport: a streaming pull that acknowledges only what is finished.

Three threads: the stream's own calls the methods of `Transport`; the *listener* takes what the server sends; the *keeper*
acknowledges, and extends the leases of what is not finished, however long the caller works on it.
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
    LoginError,
    NotFoundError,
    NunciusError,
    UnreachableError,
    UnsupportedError,
)
from nuncius.streams.delivery import MessageLedger
from nuncius.streams.pubsub.client import Client
from nuncius.streams.pubsub.leases import Leases, number_of
from nuncius.streams.pubsub.subscriptions import NO_LAG, delete, patiently, seek, touch
from nuncius.streams.transport import End, Message, Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.alerts import Alert
    from nuncius.errors import PacketError
    from nuncius.streams.bounds import Start
    from nuncius.streams.delivery import Ledger
    from nuncius.streams.pubsub.client import Pull, Server
    from nuncius.streams.pubsub.plan import Plan
    from nuncius.streams.transport import Listener, Partition

log = logging.getLogger("nuncius.streams")

_CALL_S = 5.0  # for one call to a server that is known to be there
_AT_ONCE = 1_000  # acknowledgement ids in one request, which may have 512 KiB
_KEEP_S = 0.05  # between two rounds of the keeper
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 30.0  # between two attempts to reach the server
_STEADY_S = 60.0  # a connection that held so long did not fail at once
_SILENT_S = 300.0  # a connection that is silent so long may be dead, and is opened anew
_STARVED_S = 0.5
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
        self._max_messages, self._max_bytes = plan.max_messages, plan.max_bytes
        self._leases = Leases()
        self._client: Client | None = None
        self._pull: Pull | None = None
        self._arrived = threading.Condition()
        self._buffer: deque[Message] = deque()
        self._interrupted = threading.Event()
        self._leaving = threading.Event()  # no new connection is made
        self._kept = threading.Event()  # the keeper's work is done
        self._threads: list[threading.Thread] = []
        self._trouble: NunciusError | None = None
        self._passing: str | None = None
        self._paused = False
        self._renewed = False
        self._heard_at = self._asked_at = self._given_at = 0.0

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
        self._heard_at = self._given_at = time.monotonic()
        self._listen()
        keeper = threading.Thread(target=self._keep, name="nuncius-pubsub-keeper", daemon=True)
        self._threads.append(keeper)
        keeper.start()
        listener.assigned({self._partition: None})

    def receive(self, n: int, timeout_s: float) -> list[Message | End]:
        """See `Transport.receive`."""
        with self._arrived:
            if (not self._buffer or self._paused) and self._trouble is None:
                self._arrived.wait(timeout_s)
            if self._paused:
                return []
            if not self._buffer and self._trouble is not None:
                raise self._trouble
            found: list[Message | End] = [self._buffer.popleft() for _ in range(min(n, len(self._buffer)))]
        now = time.monotonic()
        if found:
            self._given_at = now
        elif now - self._given_at > self._plan.quiet_s and self._passing is None:
            return [End(*self._partition)]
        return found

    def starve(self) -> None:
        """See `Transport.starve`: if the caller holds all that the server may send, let it send more."""
        held = self._leases.count >= 0.9 * self._max_messages or self._leases.size >= 0.9 * self._max_bytes
        if held and self._passing is None and time.monotonic() - self._given_at > _STARVED_S:
            self._max_messages, self._max_bytes = 2 * self._max_messages, 2 * self._max_bytes
            self._given_at = time.monotonic()
            self._renew()

    def pause(self) -> None:
        """See `Transport.pause`: the server sends no more than we may hold, and that waits."""
        self._paused = True

    def resume(self) -> None:
        """See `Transport.resume`."""
        self._paused = False
        self._given_at = time.monotonic()

    def interrupt(self) -> None:
        """See `Transport.interrupt`."""
        self._interrupted.set()

    def seek(self, where: Start | Mapping[Partition, int]) -> dict[Partition, int | None]:
        """See `Transport.seek`. Where to is a time: a subscription has no offsets."""
        if isinstance(where, Mapping):
            raise UnsupportedError(
                "a subscription has no offsets; seek 'earliest', 'latest' or a time", service=self.service
            )
        self._hang_up()
        self._flush(time.monotonic() + _LEAVE_S)
        self._give_back()
        if where.name != "committed":
            seek(self._connected, self._path, where, _CALL_S)
        self._given_at = time.monotonic()
        self._listen()
        return {self._partition: None}

    def lag(self, positions: Mapping[Partition, int | None]) -> dict[Partition, int]:
        """See `Transport.lag`."""
        raise UnsupportedError(NO_LAG, service=self.service)

    def close(self, positions: Mapping[Partition, int]) -> None:
        """See `Transport.close`."""
        if self._client is None:
            return
        self._hang_up(drain=True)
        self._kept.set()
        for thread in self._threads:
            thread.join(_CALL_S)
        try:
            if self._plan.temporary:
                delete(self._client, self._path, _LEAVE_S)
            else:
                self._flush(time.monotonic() + _LEAVE_S)
                self._give_back()
        finally:
            self._client.close()
            self._client = None

    @property
    def last_error(self) -> str | None:
        """See `Transport.last_error`."""
        return self._passing

    # Connecting ----------------------------------------------------------------------------------------------------

    @property
    def _connected(self) -> Client:
        if self._client is None:
            raise ConfigurationError("the stream is not connected")
        return self._client

    def _arrive(self, timeout_s: float) -> None:
        """Log in, and find the subscription or make it."""
        client, plan = self._connected, self._plan
        if self._server.login is not None:
            self._server.login.check()
        try:
            found = touch(
                client,
                self._path,
                timeout_s,
                topic=plan.topic,
                attribute_filter=plan.attribute_filter,
                expires_s=86_400 if plan.temporary else None,
            )
        except ForbiddenError as error:
            # Who may read need not be allowed to look; whether we may read, the streaming pull tells.
            log.debug("%s", error)
        else:
            if found.created and not plan.temporary:
                log.warning(
                    "made the subscription %s of %s; messages published before are not in it",
                    found.path,
                    found.topic,
                )
            if plan.reset or (found.created and plan.start.name in {"earliest", "time"}):
                seek(client, self._path, plan.start, timeout_s)

    def _listen(self) -> None:
        self._leaving.clear()
        thread = threading.Thread(target=self._listen_always, name="nuncius-pubsub-listener", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _hang_up(self, *, drain: bool = False) -> None:
        """End the streaming pull; first take what is under way, or it would be ours until its lease ends."""
        self._leaving.set()
        pull, listeners = self._pull, [thread for thread in self._threads if thread.name.endswith("listener")]
        if pull is not None and drain and self._trouble is None:
            pull.finish()
            for thread in listeners:
                thread.join(_DRAIN_S)
        if pull is not None:
            pull.end()
        for thread in listeners:
            thread.join(_CALL_S)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        with self._arrived:
            self._buffer.clear()

    # The listener --------------------------------------------------------------------------------------------------

    def _listen_always(self) -> None:
        import grpc

        pause_s = _FIRST_PAUSE_S
        while not self._leaving.is_set():
            begin = time.monotonic()
            try:
                if self._renewed and self._server.login is not None:
                    self._server.login.check()
                self._take_all()
            except grpc.RpcError as error:
                self._fail(self._connected.fault(error, self._path))
            except NunciusError as error:
                self._fail(error)
            except BaseException as error:  # noqa: BLE001 - raised again, from the call that waits
                self._fail(NunciusError(f"the stream stopped on an error of its own: {error!r}"))
            if self._trouble is not None:
                return
            if self._heard_at > begin or time.monotonic() - begin > _STEADY_S:
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
            pull.end()
        for response in pull:
            self._heard_at = time.monotonic()
            self._passing, self._renewed = None, False
            messages = self._new(response.received_messages)
            if messages:
                with self._arrived:
                    self._buffer.extend(messages)
                    self._arrived.notify()

    def _new(self, received: Any) -> list[Message]:
        """Note what came; leave out what we hold already, whose lease had ended."""
        topic, partition = self._partition
        messages = []
        for item in received:
            message = item.message
            data = message.data
            number = number_of(message.message_id)
            if not self._leases.take(number, item.ack_id, len(data)):
                continue
            stamp = message.publish_time
            messages.append(
                Message(
                    topic,
                    partition,
                    number,
                    data,
                    stamp.seconds * 1000 + stamp.nanos // 1_000_000,
                    message.ordering_key.encode() or None,
                    tuple((name, value.encode()) for name, value in message.attributes.items()),
                )
            )
        return messages

    def _fail(self, error: NunciusError) -> None:
        """Note what went wrong; what does not pass by itself is raised by `receive`."""
        if self._leaving.is_set():
            return
        if isinstance(error, LoginError) and not self._renewed:
            self._renewed = True  # a token may have ended: once, a new one is asked for
            if self._server.login is not None:
                self._server.login.credentials.expiry = None
                self._server.login.credentials.token = None
            self._passing = str(error)
        elif isinstance(error, UnreachableError):
            self._passing = str(error)
        else:
            with self._arrived:
                self._trouble = error
                self._arrived.notify()

    def _renew(self) -> None:
        if (pull := self._pull) is not None:
            pull.end()

    # The keeper ----------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        extended_at = time.monotonic()
        retry_at, pause_s = 0.0, _FIRST_PAUSE_S
        while not self._kept.wait(_KEEP_S):
            now = time.monotonic()
            try:
                if now - extended_at > self._plan.lease_s / 3:
                    extended_at = now
                    self._modify(self._leases.ack_ids(), self._plan.lease_s)
                if now >= retry_at and self._leases.to_acknowledge:
                    self._acknowledge(_CALL_S)
                    pause_s = _FIRST_PAUSE_S
            except UnreachableError as error:
                self._passing = str(error)
                retry_at, pause_s = now + pause_s, min(2 * pause_s, _LONGEST_PAUSE_S)
            except (
                NotFoundError
            ) as error:  # the subscription was deleted: there is nothing left to acknowledge
                self._fail(error)
                return
            except NunciusError as error:
                self._fail(error)
                retry_at = now + _LONGEST_PAUSE_S
            if now - max(self._heard_at, self._asked_at) > _SILENT_S:
                self._asked_at = now
                log.debug("nothing came from %s for %g s: connecting anew", self._path, _SILENT_S)
                self._renew()

    def _acknowledge(self, timeout_s: float) -> None:
        while sent := self._leases.finished(_AT_ONCE):
            ids = [ack_id for _, ack_id in sent]
            self._connected.call("Acknowledge", self._path, timeout_s, subscription=self._path, ack_ids=ids)
            self._leases.acknowledged(sent)

    def _modify(self, ack_ids: list[str], seconds: int) -> None:
        for first in range(0, len(ack_ids), _AT_ONCE):
            self._connected.call(
                "ModifyAckDeadline",
                self._path,
                _CALL_S,
                subscription=self._path,
                ack_ids=ack_ids[first : first + _AT_ONCE],
                ack_deadline_seconds=seconds,
            )

    def _flush(self, deadline: float) -> None:
        """Acknowledge all that is finished, and see that confirmed."""
        if self._leases.to_acknowledge:
            patiently(self._acknowledge, deadline, lambda: False)

    def _give_back(self) -> None:
        """Let what is not finished be available again at once."""
        gone = self._leases.give_back()
        try:
            self._modify(gone, 0)
        except NunciusError as error:
            log.debug("%d messages come again when their leases end: %s", len(gone), error)
