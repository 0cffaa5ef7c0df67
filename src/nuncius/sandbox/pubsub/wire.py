"""Answers with messages as bytes, so that 53 kB of an alert are copied once; and how things are set up, from bytes and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.errors import ConfigurationError
from nuncius.sandbox.pubsub.values import SubscriptionConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuncius.sandbox.pubsub.state import Snapshot, Topic
    from nuncius.sandbox.pubsub.subscription import Lease

# Numbers and kinds of the fields in google/pubsub/v1/pubsub.proto; kind 2 is bytes of a given length, 0 a number.
_RECEIVED_MESSAGES = 1 << 3 | 2  # of PullResponse and StreamingPullResponse
_ACK_ID, _MESSAGE, _DELIVERY_ATTEMPT = 1 << 3 | 2, 2 << 3 | 2, 3 << 3  # of ReceivedMessage
_DATA = 1 << 3 | 2  # of PubsubMessage
_SHORTEST_S, _LONGEST_S = 10, 600
_MONTH_S = 31 * 86_400


def received_messages(leases: Iterable[Lease], *, count_attempts: bool) -> bytes:
    """Return the bytes of a PullResponse or StreamingPullResponse with these messages."""
    parts: list[bytes] = []
    for lease in leases:
        message = lease.entry.message
        envelope, data = message.envelope, message.data
        ack_id = lease.ack_id.encode()
        before_data = _tag(_DATA, len(data))
        length = len(envelope) + len(before_data) + len(data)
        head = _tag(_ACK_ID, len(ack_id)) + ack_id
        if count_attempts:
            head += _tag(_DELIVERY_ATTEMPT, lease.attempt)
        head += _tag(_MESSAGE, length) + envelope + before_data
        parts += (_tag(_RECEIVED_MESSAGES, len(head) + len(data)), head, data)
    return b"".join(parts)


def _tag(field: int, number: int) -> bytes:
    coded = bytearray((field,))
    while number > 0x7F:
        coded.append(number & 0x7F | 0x80)
        number >>= 7
    coded.append(number)
    return bytes(coded)


def config_of(sent: Any) -> SubscriptionConfig:
    """Return how a subscription is to be set up, from a `Subscription` as it was sent.

    Raises
    ------
    ConfigurationError
        If it asks for what Google's service refuses, or for what this server does not have.
    """
    deadline_s = sent.ack_deadline_seconds or _SHORTEST_S
    if not _SHORTEST_S <= deadline_s <= _LONGEST_S:
        raise ConfigurationError(f"ack_deadline_seconds is {_SHORTEST_S} to {_LONGEST_S}, not {deadline_s}")
    said = {field.name for field, _ in sent.ListFields()}  # an older library doesn't know all of these
    if other := said & {"bigquery_config", "cloud_storage_config", "bigtable_config"}:
        raise ConfigurationError(f"{', '.join(other)}: this server has no such subscriptions")
    if sent.push_config.push_endpoint or "message_transforms" in said:
        raise ConfigurationError("this server pushes nothing and changes no messages")
    letters, retry = sent.dead_letter_policy, sent.retry_policy
    attempts = letters.max_delivery_attempts or 5
    if letters.dead_letter_topic and not 5 <= attempts <= 100:
        raise ConfigurationError(f"max_delivery_attempts is 5 to 100, not {attempts}")
    return SubscriptionConfig(
        sent.name,
        sent.topic,
        filter=sent.filter,
        ack_deadline_s=deadline_s,
        retain_acked=sent.retain_acked_messages,
        retention_s=_seconds(sent, "message_retention_duration", 7 * 86_400, (600, _MONTH_S)),
        ordering=sent.enable_message_ordering,
        dead_letter_topic=letters.dead_letter_topic,
        max_delivery_attempts=attempts,
        min_backoff_s=_seconds(retry, "minimum_backoff", 10) if sent.HasField("retry_policy") else 0.0,
        max_backoff_s=_seconds(retry, "maximum_backoff", 600) if sent.HasField("retry_policy") else 0.0,
        labels=dict(sent.labels),
    )


def _seconds(message: Any, field: str, otherwise: float, bounds: tuple[float, float] = (0, 600)) -> float:
    if not message.HasField(field):
        return otherwise
    duration = getattr(message, field)
    seconds = float(duration.seconds + duration.nanos / 1e9)
    if not bounds[0] <= seconds <= bounds[1]:
        raise ConfigurationError(f"{field} is {bounds[0]} to {bounds[1]} s, not {seconds:g}")
    return seconds


def subscription_pb(config: SubscriptionConfig, topic: Topic | None) -> Any:
    """Return a `Subscription`."""
    from google.pubsub_v1 import types

    made = types.Subscription.pb()(
        name=config.path,
        topic=config.topic,
        filter=config.filter,
        ack_deadline_seconds=max(1, round(config.ack_deadline_s)),
        retain_acked_messages=config.retain_acked,
        enable_message_ordering=config.ordering,
        labels=config.labels,
        state=types.Subscription.State.ACTIVE,
    )
    _set_seconds(made.message_retention_duration, config.retention_s)
    _set_seconds(made.expiration_policy.ttl, _MONTH_S)
    if topic is not None and topic.retention_s:
        _set_seconds(made.topic_message_retention_duration, topic.retention_s)
    if config.dead_letter_topic:
        made.dead_letter_policy.dead_letter_topic = config.dead_letter_topic
        made.dead_letter_policy.max_delivery_attempts = config.max_delivery_attempts
    if config.max_backoff_s:
        _set_seconds(made.retry_policy.minimum_backoff, config.min_backoff_s)
        _set_seconds(made.retry_policy.maximum_backoff, config.max_backoff_s)
    return made


def topic_pb(topic: Topic) -> Any:
    """Return a `Topic`."""
    from google.pubsub_v1 import types

    made = types.Topic.pb()(name=topic.path, labels=topic.labels, state=types.Topic.State.ACTIVE)
    if topic.retention_s:
        _set_seconds(made.message_retention_duration, topic.retention_s)
    return made


def topic_retention_s(sent: Any) -> float:
    """Return how long a topic is to keep messages, from a `Topic` as it was sent; 0: not at all."""
    return _seconds(sent, "message_retention_duration", 0, (600, _MONTH_S))


def snapshot_pb(snapshot: Snapshot) -> Any:
    """Return a `Snapshot`."""
    from google.pubsub_v1 import types

    made = types.Snapshot.pb()(name=snapshot.path, topic=snapshot.topic)
    made.expire_time.FromMicroseconds(round((snapshot.made + 7 * 86_400) * 1e6))
    return made


def _set_seconds(duration: Any, seconds: float) -> None:
    duration.FromMicroseconds(round(seconds * 1e6))
