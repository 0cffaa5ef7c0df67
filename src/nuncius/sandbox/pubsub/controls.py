"""What a test does with the sandbox's Pub/Sub server: count, look at the calls, and let things go wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nuncius.errors import ConfigurationError
from nuncius.sandbox.pubsub.faults import PubSubFault
from nuncius.sandbox.pubsub.server import BROKEN

if TYPE_CHECKING:
    from nuncius.sandbox.pubsub.faults import PubSubRequest
    from nuncius.sandbox.pubsub.server import PubSubServer
    from nuncius.sandbox.pubsub.values import Counts


class PubSubControls:
    """What happened on a server, and what shall go wrong.

    Parameters
    ----------
    server : PubSubServer
        The server.
    subscription : str
        The path of the subscription that is meant where none is named.
    """

    def __init__(self, server: PubSubServer, subscription: str) -> None:
        self._server = server
        self._state = server.state
        self._first = subscription

    def _path_of(self, subscription: str | None) -> str:
        if subscription is None or "/" in subscription:
            return subscription or self._first
        return f"{self._first.rpartition('/')[0]}/{subscription}"

    # What happened ----------------------------------------------------------------------------------------------------

    def counts(self, subscription: str | None = None) -> Counts:
        """Return what became of the messages of a subscription; by default of `subscription`.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        with self._state.changed:
            return self._state.subscription(self._path_of(subscription)).counts()

    @property
    def requests(self) -> list[PubSubRequest]:
        """The calls that arrived, in that order; the last 100,000."""
        return list(self._server.faults.requests)

    @property
    def open_streams(self) -> int:
        """How many StreamingPull calls are open."""
        return len(self._server.streams)

    # Faults -----------------------------------------------------------------------------------------------------------

    def fail(
        self,
        rpc: str,
        code: str,
        *,
        times: int | None = 1,
        text: str = "a fault on demand",
        after: int = 0,
        done: bool = False,
    ) -> None:
        """Let the next calls fail.

        Parameters
        ----------
        rpc : str
            Which: ``Publish``, ``Acknowledge``, ``StreamingPull`` ...
        code : str
            With which of gRPC's codes: ``UNAVAILABLE``, ``PERMISSION_DENIED`` ...
        times : int or None
            How many calls; None: all that come.
        text : str
            What it says.
        after : int
            A stream fails after so many messages; 0: at once.
        done : bool
            Whether what was asked is done all the same, and only the answer gets lost.

        Raises
        ------
        ConfigurationError
            If there is no such call, or no such code.
        """
        known = [*self._server.calls, "StreamingPull"]
        if rpc not in known:
            raise ConfigurationError(f"rpc={rpc!r}: the calls are {', '.join(known)}")
        self._server.faults.add(PubSubFault(rpc, code, text, times, after, done))

    def drop_streams(self) -> None:
        """End all open streams as a broken connection does."""
        for stream in list(self._server.streams):
            stream.fail(BROKEN)

    def restart(self, *, down_s: float = 0.0) -> None:
        """Break all connections, be gone for some seconds, and come back on the same port with all messages."""
        self._server.stop()
        time.sleep(down_s)
        self._server.start()

    def stall(self) -> None:
        """Accept all calls from now on, and send no messages."""
        self._server.stalled = True

    def resume(self) -> None:
        """Send messages again."""
        self._server.stalled = False
        with self._state.changed:
            self._state.changed.notify_all()

    def repeat(self, messages: int, subscription: str | None = None) -> None:
        """Send each of the next messages twice at once."""
        path = self._path_of(subscription)
        self._state.subscription(path).repeats = messages

    def advance(self, seconds: float) -> None:
        """Put the server's clock forward: leases and waits end, and what is kept grows older."""
        self._state.clock.advance(seconds)
        with self._state.changed:
            for queue in self._state.queues.values():
                queue.settle()
            self._state.changed.notify_all()

    @property
    def max_response_bytes(self) -> int:
        """How many bytes of messages an answer has at most; a single message may have more.

        By default a little less than 4 MiB: more than that is refused by clients that take their limits from gRPC.
        """
        return self._server.max_response_bytes

    @max_response_bytes.setter
    def max_response_bytes(self, most: int) -> None:
        self._server.max_response_bytes = most
