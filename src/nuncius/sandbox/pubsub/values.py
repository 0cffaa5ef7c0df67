"""What a Pub/Sub server keeps: messages, how a subscription is set up, and the refusals that both have in common."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from nuncius.errors import ConfigurationError

_DAY_S = 86_400.0
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_PROJECT = re.compile(r"[a-z][a-z0-9:.-]{2,62}")


class Clock:
    """Seconds since 1970; it never goes back, and can be put forward.

    Leases, retention and the time of publication all follow it.
    """

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Return the time."""
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        """Put it forward."""
        self._ahead += seconds


class Message:
    """A message; all subscriptions share it.

    Parameters
    ----------
    number : int
        Its place among all messages of the server.
    data : bytes
        What it holds.
    attributes : dict of str
        Its attributes.
    ordering_key : str
        Messages with the same key are delivered in the order of their publication; empty: in any order.
    published, arrived : float
        When, as its readers see it, and when really; in seconds since 1970.
    """

    __slots__ = ("_envelope", "arrived", "attributes", "data", "number", "ordering_key", "published", "size")

    def __init__(
        self,
        number: int,
        data: bytes,
        attributes: dict[str, str],
        ordering_key: str,
        published: float,
        arrived: float,
    ) -> None:
        self.number = number
        self.data = data
        self.attributes = attributes
        self.ordering_key = ordering_key
        self.published = published
        self.arrived = arrived
        self.size = len(data) + sum(len(name) + len(value) for name, value in attributes.items()) + 64
        self._envelope: bytes | None = None

    @property
    def message_id(self) -> str:
        """Its id, as the server gives it."""
        return str(self.number)

    @property
    def envelope(self) -> bytes:
        """The serialized PubsubMessage without its data; made once, however often it is delivered."""
        if self._envelope is None:
            from google.pubsub_v1 import types

            message = types.PubsubMessage.pb()(
                attributes=self.attributes, message_id=self.message_id, ordering_key=self.ordering_key
            )
            message.publish_time.FromMicroseconds(round(self.published * 1e6))
            self._envelope = message.SerializeToString()
        return self._envelope


@dataclass(frozen=True, slots=True)
class SubscriptionConfig:
    """How a subscription is set up.

    Parameters
    ----------
    path, topic : str
        ``projects/P/subscriptions/S`` and ``projects/P/topics/T``.
    filter : str
        A filter on attributes; empty: none.
    ack_deadline_s : float
        How long a lease is.
    retain_acked : bool
        Whether acknowledged messages are kept, for `seek`.
    retention_s : float
        How long messages are kept.
    ordering : bool
        Whether messages with the same ordering key come in order.
    dead_letter_topic : str
        The topic to which messages go that were delivered too often; empty: none.
    max_delivery_attempts : int
        How often that is.
    min_backoff_s, max_backoff_s : float
        How long a released message waits before it is sent again: the first time, and at most. 0: not at all.
    labels : dict of str
        Labels.
    """

    path: str
    topic: str
    filter: str = ""
    ack_deadline_s: float = 10.0
    retain_acked: bool = False
    retention_s: float = 7 * _DAY_S
    ordering: bool = False
    dead_letter_topic: str = ""
    max_delivery_attempts: int = 5
    min_backoff_s: float = 0.0
    max_backoff_s: float = 0.0
    labels: dict[str, str] = field(default_factory=dict)


class Counts(NamedTuple):
    """What became of a subscription's messages.

    Parameters
    ----------
    waiting : int
        How many wait to be sent now.
    leased : int
        How many are with a client.
    delivered : int
        How many were sent so far, each as often as it was.
    acknowledged : int
        How many were acknowledged in time.
    released : int
        How many were given back by their client.
    expired : int
        How many leases ended without a word.
    late : int
        How many acknowledgements came for what was no longer leased, and had no effect.
    filtered : int
        How many did not pass the subscription's filter.
    dead_lettered : int
        How many were sent on to the dead-letter topic.
    """

    waiting: int = 0
    leased: int = 0
    delivered: int = 0
    acknowledged: int = 0
    released: int = 0
    expired: int = 0
    late: int = 0
    filtered: int = 0
    dead_lettered: int = 0


def check_path(path: str, kind: str) -> str:
    """Return a path such as ``projects/P/topics/T`` if it is one.

    Raises
    ------
    ConfigurationError
        If it is not.
    """
    parts = path.split("/")
    if len(parts) != 4 or (parts[0], parts[2]) != ("projects", kind):
        raise ConfigurationError(f"{path[:300]!r} is no path such as projects/PROJECT/{kind}/NAME")
    if not _PROJECT.fullmatch(parts[1]):
        raise ConfigurationError(f"{parts[1][:300]!r} is no name of a project")
    if not _NAME.fullmatch(parts[3]) or parts[3].startswith("goog"):
        raise ConfigurationError(
            f"{parts[3][:300]!r} is no name: 3 to 255 letters, digits, - . _ ~ + %, beginning with a letter, not with goog"
        )
    return path
