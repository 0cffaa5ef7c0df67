"""The gRPC server: who may call, what fails on purpose, and the streams over which messages are pulled."""

from __future__ import annotations

import threading
from concurrent import futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require
from nuncius.errors import ConfigurationError, UnreachableError
from nuncius.sandbox.pubsub import wire
from nuncius.sandbox.pubsub.faults import PubSubFault, PubSubFaults, PubSubRequest
from nuncius.sandbox.pubsub.rpc import REFUSALS, Calls, check_deadline, check_request, noted, status_of
from nuncius.sandbox.pubsub.state import PubSubState
from nuncius.sandbox.pubsub.subscription import Holder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nuncius.errors import NunciusError
    from nuncius.sandbox.pubsub.subscription import SubscriptionQueue

# What stock clients receive at most from an emulator: 4 MiB. They retry for ever if an answer has more.
MOST_RESPONSE_BYTES = 4_000_000
_MOST_MESSAGES = 1000
_SHORTEST_STREAM_S = 10
_STOP_S = 5.0
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", 20 << 20),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error
    # Clients that keep an idle stream alive with pings are welcome.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
)
BROKEN = PubSubFault("StreamingPull", "UNAVAILABLE", "Connection reset by peer")


@dataclass(slots=True, eq=False)
class Stream:
    """An open StreamingPull."""

    queue: SubscriptionQueue
    holder: Holder
    ended: bool = False  # the client has said its last word
    broken: PubSubFault | None = None

    def wake(self) -> None:
        """Let the one that sends look at what is new."""
        with self.queue.changed:
            self.queue.changed.notify_all()

    def fail(self, fault: PubSubFault) -> None:
        """End it with an error."""
        self.broken = fault
        self.wake()


class PubSubServer:
    """Google's Publisher and Subscriber services over gRPC, on loopback.

    Parameters
    ----------
    port : int
        The port; 0 takes a free one.
    certificate : tuple of bytes, optional
        The private key and the certificates, for TLS.
    accepts : callable, optional
        Tells whether a bearer token is good; without it everybody is welcome.

    Raises
    ------
    MissingExtraError
        If grpcio or google-cloud-pubsub is not installed.
    UnreachableError
        If the port is taken.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        certificate: tuple[bytes, bytes] | None = None,
        accepts: Callable[[str], bool] | None = None,
    ) -> None:
        self._grpc = require("grpc", extra="sandbox")
        self._types = require("google.pubsub_v1.types", extra="sandbox")
        self.state = PubSubState()
        self.faults = PubSubFaults()
        self.max_response_bytes = MOST_RESPONSE_BYTES
        self.pull_wait_s = 2.0
        self.stalled = False
        self.streams: list[Stream] = []
        self._certificate = certificate
        self._accepts = accepts
        self._calls = Calls(self)
        self.calls = Calls.table()
        self.port = port
        self.start()

    def start(self) -> None:
        """Listen."""
        self._server = self._grpc.server(_DaemonThreads(), options=_OPTIONS)
        handlers: dict[str, dict[str, Any]] = {"Publisher": {}, "Subscriber": {}}
        for rpc, (service, request) in self.calls.items():
            handlers[service][rpc] = self._unary(rpc, request)
        handlers["Subscriber"]["StreamingPull"] = self._grpc.stream_stream_rpc_method_handler(
            self._streaming_pull,
            request_deserializer=self._types.StreamingPullRequest.pb().FromString,
        )
        for service, methods in handlers.items():
            generic = self._grpc.method_handlers_generic_handler(f"google.pubsub.v1.{service}", methods)
            self._server.add_generic_rpc_handlers((generic,))
        where = f"127.0.0.1:{self.port}"
        try:
            if self._certificate is None:
                self.port = self._server.add_insecure_port(where)
            else:
                secure = self._grpc.ssl_server_credentials([self._certificate])
                self.port = self._server.add_secure_port(where, secure)
        except RuntimeError as error:
            raise UnreachableError(
                f"the sandbox's Pub/Sub server can't listen on {where}; is the port taken? Port 0 takes a free one",
                service="pubsub",
            ) from error
        self._server.start()

    def stop(self) -> None:
        """Break all connections and listen no more."""
        stopped = self._server.stop(0)
        with self.state.changed:
            self.state.changed.notify_all()
        stopped.wait(_STOP_S)

    # One question, one answer -----------------------------------------------------------------------------------------

    def _unary(self, rpc: str, request: str) -> Any:
        call = self._calls.method(rpc)

        def answer(asked: Any, context: Any) -> Any:
            self._admit(context)
            self.faults.requests.append(noted(rpc, asked))
            fault = self.faults.next(rpc)
            if fault is not None and not fault.done:
                self._abort(context, fault)
            try:
                answered = call(asked, context)
            except REFUSALS as error:
                self._refuse(context, error)
            if fault is not None:
                self._abort(context, fault)
            return answered

        return self._grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=getattr(self._types, request).pb().FromString,
            response_serializer=lambda made: made if isinstance(made, bytes) else made.SerializeToString(),
        )

    def _admit(self, context: Any) -> None:
        if self._accepts is None:
            return
        sent = dict(context.invocation_metadata()).get("authorization", "")
        if not sent.startswith("Bearer ") or not self._accepts(sent.removeprefix("Bearer ")):
            text = "no valid credentials: an OAuth 2 access token is expected as metadata authorization: Bearer ..."
            context.abort(self._grpc.StatusCode.UNAUTHENTICATED, text)

    def _abort(self, context: Any, fault: PubSubFault) -> None:
        context.abort(self._grpc.StatusCode[fault.code], fault.text)

    def _refuse(self, context: Any, error: NunciusError) -> None:
        context.abort(self._grpc.StatusCode[status_of(error)], error.message)

    # Streams ----------------------------------------------------------------------------------------------------------

    def _streaming_pull(self, requests: Iterator[Any], context: Any) -> Iterator[bytes]:
        self._admit(context)
        first = next(requests, None)
        if first is None:
            return
        self.faults.requests.append(PubSubRequest("StreamingPull", first.subscription))
        fault = self.faults.next("StreamingPull")
        if fault is not None and not fault.after:
            self._abort(context, fault)
        try:
            stream = self._open(first)
        except REFUSALS as error:
            self._refuse(context, error)
        context.add_callback(stream.wake)
        reader = threading.Thread(target=self._listen, args=(requests, stream), daemon=True)
        reader.start()
        config = stream.queue.config
        yield self._types.StreamingPullResponse.pb()(
            subscription_properties={"message_ordering_enabled": config.ordering}
        ).SerializeToString()
        self.streams.append(stream)
        try:
            yield from self._send(stream, context, fault)
        except REFUSALS as error:
            self._refuse(context, error)
        finally:
            self.streams.remove(stream)
        if stream.broken is not None:
            self._abort(context, stream.broken)

    def _open(self, first: Any) -> Stream:
        queue = self.state.subscription(first.subscription)
        holder = Holder(0, max(0, first.max_outstanding_messages), max(0, first.max_outstanding_bytes))
        stream = Stream(queue, holder)
        self._heed(first, stream)
        check_deadline(first.stream_ack_deadline_seconds, _SHORTEST_STREAM_S)
        return stream

    def _send(self, stream: Stream, context: Any, fault: PubSubFault | None) -> Iterator[bytes]:
        """Yield answers until the stream is over."""
        queue, sent = stream.queue, 0
        while stream.broken is None:
            most = _MOST_MESSAGES if fault is None else min(_MOST_MESSAGES, fault.after - sent)
            with queue.changed:
                while True:
                    over = stream.ended or stream.broken is not None or not context.is_active()
                    leases = queue.take(
                        stream.holder,
                        max_messages=0 if over or self.stalled else most,
                        max_bytes=self.max_response_bytes,
                    )
                    if over or leases:
                        break
                    queue.changed.wait(queue.until_next())
                if leases and not context.is_active():
                    queue.give_back(leases)  # nobody would ever see them
                    return
            if not leases:
                return
            yield wire.received_messages(leases, count_attempts=bool(queue.config.dead_letter_topic))
            sent += len(leases)
            if fault is not None and sent >= fault.after:
                stream.broken = fault

    def _listen(self, requests: Iterator[Any], stream: Stream) -> None:
        """Heed what a client says on its stream."""
        try:
            for asked in requests:
                if asked.subscription:
                    stream.fail(_refusal("the subscription can be named in the first request only"))
                    return
                self._heed(asked, stream)
        except REFUSALS as error:
            stream.fail(_refusal(error.message))
        except self._grpc.RpcError:
            pass  # the stream is over, which its context says
        stream.ended = True
        stream.wake()

    def _heed(self, asked: Any, stream: Stream) -> None:
        check_request(asked)
        queue = stream.queue
        if asked.stream_ack_deadline_seconds:
            stream.holder.deadline_s = check_deadline(asked.stream_ack_deadline_seconds, _SHORTEST_STREAM_S)
        note = self.faults.requests.append
        if asked.ack_ids:
            note(PubSubRequest("StreamingPull/Acknowledge", queue.config.path, len(asked.ack_ids)))
            with queue.changed:
                queue.acknowledge(asked.ack_ids)
        for seconds, ack_ids in _by_deadline(asked).items():
            check_deadline(seconds)
            note(PubSubRequest("StreamingPull/ModifyAckDeadline", queue.config.path, len(ack_ids), seconds))
            with queue.changed:
                queue.modify(ack_ids, seconds)


class _DaemonThreads(futures.Executor):
    """A thread for each call, which doesn't keep a program from ending as those of a pool would."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()

        def run() -> None:
            try:
                future.set_result(function(*args, **options))
            except BaseException as error:  # noqa: BLE001 - whoever waits for the result is told
                future.set_exception(error)

        threading.Thread(target=run, name="sandbox-pubsub", daemon=True).start()
        return future


def _refusal(text: str) -> PubSubFault:
    return PubSubFault("StreamingPull", "INVALID_ARGUMENT", text)


def _by_deadline(asked: Any) -> dict[int, list[str]]:
    ids, deadlines = asked.modify_deadline_ack_ids, asked.modify_deadline_seconds
    if len(ids) != len(deadlines):
        raise ConfigurationError(f"{len(ids)} ids to modify, and {len(deadlines)} deadlines")
    found: dict[int, list[str]] = {}
    for ack_id, seconds in zip(ids, deadlines, strict=True):
        found.setdefault(seconds, []).append(ack_id)
    return found
