"""The calls of Pub/Sub that we make, over gRPC, with Google's own messages and logins.

The messages are protobuf's own and not the wrapped ones of Google's client: parsing them costs a third. Unlike the
channel which that client makes for an emulator, ours sets no bound to the size of an answer, for a batch of alerts may
well pass gRPC's 4 MiB.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require
from nuncius.errors import ConfigurationError, LoginError, NunciusError, UnreachableError
from nuncius.streams.pubsub.faults import typed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nuncius.streams.pubsub.login import GoogleLogin

GOOGLE = "pubsub.googleapis.com:443"

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),  # a connection that died in silence is noticed
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.enable_retries", 0),  # what is asked again is decided here
)
_SERVICES: dict[str, dict[str, tuple[str, str | None]]] = {
    "Publisher": {
        "GetTopic": ("GetTopicRequest", "Topic"),
        "ListTopics": ("ListTopicsRequest", "ListTopicsResponse"),
    },
    "Subscriber": {
        "Acknowledge": ("AcknowledgeRequest", None),
        "CreateSubscription": ("Subscription", "Subscription"),
        "DeleteSubscription": ("DeleteSubscriptionRequest", None),
        "GetSubscription": ("GetSubscriptionRequest", "Subscription"),
        "ModifyAckDeadline": ("ModifyAckDeadlineRequest", None),
        "Seek": ("SeekRequest", "SeekResponse"),
    },
}


@dataclass(frozen=True, slots=True)
class Server:
    """A Pub/Sub server and how to speak to it.

    Parameters
    ----------
    address : str
        ``host:port``.
    login : GoogleLogin, optional
        As whom; None for an emulator, which wants no login and has no TLS.
    ca_file : Path, optional
        The authority that signed its certificate; by default those of the system.
    """

    address: str
    login: GoogleLogin | None = None
    ca_file: Path | None = None

    @property
    def is_emulator(self) -> bool:
        """Whether nothing is encrypted and nobody logs in."""
        return self.login is None

    @property
    def who(self) -> str:
        """As whom we are logged in, for messages."""
        return "no login" if self.login is None else self.login.who


class Client:
    """A connection to a Pub/Sub server. Nothing is sent before the first call.

    Parameters
    ----------
    server : Server
        Where.

    Raises
    ------
    MissingExtraError
        If google-cloud-pubsub is not installed.
    """

    def __init__(self, server: Server) -> None:
        # gRPC writes of connections that break to the terminal; we raise and log what matters.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        self._grpc = require("grpc", extra="pubsub")
        self.types = require("google.pubsub_v1.types.pubsub", extra="pubsub")
        self.server = server
        self._channel = self._open()
        self._calls: dict[str, Any] = {}
        self._renewing = threading.Lock()
        self._renewed_at = -math.inf
        self._is_untried = False  # the token that is newer than a refusal

    def call(self, rpc: str, path: str, timeout_s: float, *, action: str = "read", **fields: Any) -> Any:
        """Make one call and return its answer, a protobuf message.

        Parameters
        ----------
        rpc : str
            The name of the call.
        path : str
            What it is about, for messages.
        timeout_s : float
            How long it may take.
        action : str
            What we are about to do, for messages; see `nuncius.streams.pubsub.faults`.
        **fields
            Of the request.

        Raises
        ------
        NunciusError
            What went wrong.
        """
        request, ask = self._prepared(rpc)
        if self.server.login is not None:
            self.server.login.check(timeout_s)  # gRPC would call a refused login a server that is not there
        begin = time.monotonic()
        try:
            answer = ask(request(**fields), timeout=timeout_s)
        except self._grpc.RpcError as error:
            raise self.fault(error, path, action, begin=begin) from error
        self.accepted()
        return answer

    def pull(self, first: Any) -> Pull:
        """Open a streaming pull.

        Parameters
        ----------
        first : StreamingPullRequest
            What to pull, and how much at most.

        Raises
        ------
        LoginError, UnreachableError
            If no token is to be had.
        """
        if self.server.login is not None:
            self.server.login.check()
        types = self.types
        ask = self._channel.stream_stream(
            "/google.pubsub.v1.Subscriber/StreamingPull",
            request_serializer=types.StreamingPullRequest.pb().SerializeToString,
            response_deserializer=types.StreamingPullResponse.pb().FromString,
        )
        return Pull(ask, first, self._grpc.RpcError)

    def fault(
        self, error: Any, path: str, action: str = "read", *, begin: float | None = None
    ) -> NunciusError:
        """Return the typed error of a call that failed; `UnreachableError` if it may be made again.

        The token of a login that is refused may have ended: if it is told when the call began, a new one is got.
        """
        refusal = typed(error, where=self.server.address, path=path, action=action, who=self.server.who)
        login = self.server.login
        if login is None or begin is None or not isinstance(refusal, LoginError):
            return refusal
        with self._renewing:
            if begin >= self._renewed_at:  # else there is a newer token already
                if self._is_untried:
                    return refusal
                try:
                    login.renew()
                except NunciusError as trouble:
                    return trouble
                self._renewed_at = time.monotonic()
                self._is_untried = True
        return UnreachableError(f"{refusal} (there is a new token now)", service="pubsub")

    def accepted(self) -> None:
        """Note that the server has accepted the token."""
        self._is_untried = False

    def close(self) -> None:
        """Leave."""
        self._channel.close()

    def _prepared(self, rpc: str) -> tuple[Any, Any]:
        if rpc not in self._calls:
            service = next(name for name, calls in _SERVICES.items() if rpc in calls)
            asked, answered = _SERVICES[service][rpc]
            request = getattr(self.types, asked).pb()
            empty = require("google.protobuf.empty_pb2", extra="pubsub").Empty
            answer = empty if answered is None else getattr(self.types, answered).pb()
            self._calls[rpc] = (
                request,
                self._channel.unary_unary(
                    f"/google.pubsub.v1.{service}/{rpc}",
                    request_serializer=request.SerializeToString,
                    response_deserializer=answer.FromString,
                ),
            )
        found: tuple[Any, Any] = self._calls[rpc]
        return found

    def _open(self) -> Any:
        grpc, server = self._grpc, self.server
        if server.login is None:
            # gRPC would ask the proxy of HTTPS_PROXY for this very machine.
            return grpc.insecure_channel(server.address, options=(*_OPTIONS, ("grpc.enable_http_proxy", 0)))
        authorities = None
        if server.ca_file is not None:
            try:
                authorities = server.ca_file.read_bytes()
            except OSError as error:
                raise ConfigurationError(
                    f"ssl_ca_location={str(server.ca_file)!r} can't be read: {error.strerror}",
                    position=str(server.ca_file),
                ) from error
        plugin = require("google.auth.transport.grpc", extra="pubsub").AuthMetadataPlugin(
            server.login.credentials, server.login.transport(), default_host=server.address.rpartition(":")[0]
        )
        channel_credentials = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(authorities), grpc.metadata_call_credentials(plugin)
        )
        return grpc.secure_channel(server.address, channel_credentials, options=_OPTIONS)


class Pull:
    """One streaming pull: an iterator over what comes, which another thread may end."""

    def __init__(self, ask: Any, first: Any, error: type[Exception]) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._requests.put(first)
        self._call = ask(iter(self._requests.get, None))
        self._error = error
        self._ended = False

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._call
        except self._error:
            if not self._ended:
                raise
        finally:
            self.end()

    def finish(self) -> None:
        """Say that nothing more is asked for: what is under way still comes. Called from any thread."""
        self._requests.put(None)

    def end(self) -> None:
        """End it; called from any thread."""
        self._ended = True
        self.finish()
        self._call.cancel()
