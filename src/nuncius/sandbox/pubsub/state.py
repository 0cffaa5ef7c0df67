"""All topics, subscriptions and snapshots of a Pub/Sub server. No sockets here."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from nuncius.errors import AlreadyExistsError, ConfigurationError, NotFoundError
from nuncius.sandbox.pubsub.subscription import SubscriptionQueue
from nuncius.sandbox.pubsub.values import Clock, Message, check_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nuncius.sandbox.pubsub.values import SubscriptionConfig

    Draft = tuple[bytes, dict[str, str], str]

T = TypeVar("T")
DELETED_TOPIC = "_deleted-topic_"
_MOST_BYTES = 10_000_000
_MOST_ATTRIBUTES = 100
_LONGEST_KEY, _LONGEST_VALUE, _LONGEST_ORDERING_KEY = 256, 1024, 1024  # bytes


@dataclass(slots=True)
class Topic:
    """A topic.

    Parameters
    ----------
    path : str
        ``projects/P/topics/T``.
    retention_s : float
        How long it keeps messages itself, for subscriptions that seek back; 0: not at all.
    labels : dict of str
        Labels.
    """

    path: str
    retention_s: float = 0.0
    labels: dict[str, str] = field(default_factory=dict)
    queues: dict[str, SubscriptionQueue] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    kept: deque[Message] = field(default_factory=deque)

    def still_kept(self, now: float) -> list[Message]:
        """Return what the topic keeps, the oldest first."""
        while self.kept and self.kept[0].arrived < now - self.retention_s:
            self.kept.popleft()
        return list(self.kept)


@dataclass(slots=True)
class Snapshot:
    """What a subscription had not acknowledged at some time, and all that was published since."""

    path: str
    topic: str
    made: float
    messages: list[Message]


class PubSubState:
    """All topics, subscriptions and snapshots.

    Every method may be called from any thread.

    Parameters
    ----------
    clock : Clock, optional
        What leases and times of publication go by.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        # One condition for all: what waits is woken by whatever happens, and looks for itself.
        self.changed = threading.Condition(threading.RLock())
        self.topics: dict[str, Topic] = {}
        self.queues: dict[str, SubscriptionQueue] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self._published = 0

    # Topics -----------------------------------------------------------------------------------------------------------

    def create_topic(
        self, path: str, *, retention_s: float = 0.0, labels: Mapping[str, str] | None = None
    ) -> Topic:
        """Make a topic.

        Raises
        ------
        AlreadyExistsError, ConfigurationError
            If there is one; if the name is none.
        """
        check_path(path, "topics")
        with self.changed:
            if path in self.topics:
                raise AlreadyExistsError(f"the topic {path} exists")
            topic = self.topics[path] = Topic(path, retention_s, dict(labels or {}))
            return topic

    def topic(self, path: str) -> Topic:
        """Return a topic.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        return _find(self.topics, path, "topic")

    def delete_topic(self, path: str) -> None:
        """Delete a topic; its subscriptions keep what they have."""
        with self.changed:
            for queue in self.topic(path).queues.values():
                queue.config = replace(queue.config, topic=DELETED_TOPIC)
            del self.topics[path]

    def publish(self, path: str, drafts: Iterable[Draft], *, published: float | None = None) -> list[str]:
        """Publish data, attributes and ordering keys, and return the messages' ids.

        Raises
        ------
        ConfigurationError
            If one is too large or empty; nothing is published then.
        """
        drafts = list(drafts)
        for data, attributes, ordering_key in drafts:
            _check_draft(data, attributes, ordering_key)
        with self.changed:
            topic = self.topic(path)
            now = self.clock()
            time = now if published is None else published
            messages = []
            for data, attributes, ordering_key in drafts:
                self._published += 1
                messages.append(Message(self._published, data, attributes, ordering_key, time, now))
            if topic.retention_s:
                topic.still_kept(now)
                topic.kept.extend(messages)
            for snapshot in topic.snapshots.values():
                snapshot.messages.extend(messages)
            for queue in topic.queues.values():
                queue.offer(messages)
            return [message.message_id for message in messages]

    # Subscriptions ----------------------------------------------------------------------------------------------------

    def create_subscription(self, config: SubscriptionConfig) -> SubscriptionQueue:
        """Make a subscription.

        Raises
        ------
        AlreadyExistsError, NotFoundError
            If there is one; if there is no such topic.
        ConfigurationError, FilterError
            If the name or the filter is none.
        """
        check_path(config.path, "subscriptions")
        with self.changed:
            if config.path in self.queues:
                raise AlreadyExistsError(f"the subscription {config.path} exists")
            topic = self.topic(config.topic)
            queue = SubscriptionQueue(
                config, clock=self.clock, changed=self.changed, forward=self._forward_dead_letter
            )
            self.queues[config.path] = topic.queues[config.path] = queue
            return queue

    def subscription(self, path: str) -> SubscriptionQueue:
        """Return a subscription.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        return _find(self.queues, path, "subscription")

    def delete_subscription(self, path: str) -> None:
        """Delete a subscription and what it has; those who read it are told."""
        with self.changed:
            queue = self.subscription(path)
            del self.queues[path]
            if queue.config.topic in self.topics:
                del self.topics[queue.config.topic].queues[path]
            queue.deleted = True
            self.changed.notify_all()

    def _forward_dead_letter(self, config: SubscriptionConfig, message: Message, attempts: int) -> bool:
        if config.dead_letter_topic not in self.topics:
            return False
        _, project, _, name = config.path.split("/")
        added = {
            "CloudPubSubDeadLetterSourceDeliveryCount": str(attempts),
            "CloudPubSubDeadLetterSourceSubscription": name,
            "CloudPubSubDeadLetterSourceSubscriptionProject": project,
            "CloudPubSubDeadLetterSourceTopicPublishTime": f"{message.published:.6f}",
        }
        draft = (message.data, message.attributes | added, message.ordering_key)
        self.publish(config.dead_letter_topic, [draft])
        return True

    # Going back -------------------------------------------------------------------------------------------------------

    def create_snapshot(self, path: str, subscription: str) -> Snapshot:
        """Keep what a subscription has not acknowledged, and all that comes from now on.

        Raises
        ------
        AlreadyExistsError, NotFoundError
            If there is such a snapshot; if there is no such subscription, or its topic was deleted.
        """
        check_path(path, "snapshots")
        with self.changed:
            if path in self.snapshots:
                raise AlreadyExistsError(f"the snapshot {path} exists")
            queue = self.subscription(subscription)
            topic = self.topic(queue.config.topic)
            snapshot = Snapshot(path, topic.path, self.clock(), queue.unfinished())
            self.snapshots[path] = topic.snapshots[path] = snapshot
            return snapshot

    def snapshot(self, path: str) -> Snapshot:
        """Return a snapshot.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        return _find(self.snapshots, path, "snapshot")

    def delete_snapshot(self, path: str) -> None:
        """Delete a snapshot."""
        with self.changed:
            snapshot = self.snapshot(path)
            del self.snapshots[path]
            if snapshot.topic in self.topics:
                self.topics[snapshot.topic].snapshots.pop(path, None)

    def seek_to_time(self, subscription: str, time: float) -> None:
        """Let what was published since then wait anew, as far as it is kept, and acknowledge the rest."""
        with self.changed:
            queue = self.subscription(subscription)
            topic = self.topics.get(queue.config.topic)
            others = topic.still_kept(self.clock()) if topic is not None else []
            queue.seek(lambda message: message.published >= time, others)

    def seek_to_snapshot(self, subscription: str, path: str) -> None:
        """Let a subscription have what the snapshot holds.

        Raises
        ------
        ConfigurationError
            If it is a snapshot of another topic.
        """
        with self.changed:
            queue, snapshot = self.subscription(subscription), self.snapshot(path)
            if snapshot.topic != queue.config.topic:
                raise ConfigurationError(
                    f"{path} is of the topic {snapshot.topic}, and {subscription} of {queue.config.topic}"
                )
            held = {message.number for message in snapshot.messages}
            queue.seek(lambda message: message.number in held, snapshot.messages)


def _find(where: Mapping[str, T], path: str, kind: str) -> T:
    found = where.get(path)
    if found is None:
        raise NotFoundError(f"there is no {kind} {path[:300]}")
    return found


def _check_draft(data: bytes, attributes: Mapping[str, str], ordering_key: str) -> None:
    if not data and not attributes:
        raise ConfigurationError("a message needs data or at least one attribute")
    if len(data) > _MOST_BYTES:
        raise ConfigurationError(f"a message has at most {_MOST_BYTES} bytes, not {len(data)}")
    if len(attributes) > _MOST_ATTRIBUTES:
        raise ConfigurationError(
            f"a message has at most {_MOST_ATTRIBUTES} attributes, not {len(attributes)}"
        )
    for name, value in attributes.items():
        if not name or name.startswith("goog") or len(name.encode()) > _LONGEST_KEY:
            raise ConfigurationError(
                f"{name[:300]!r} is no name of an attribute: 1 to {_LONGEST_KEY} bytes, not beginning with goog"
            )
        if len(value.encode()) > _LONGEST_VALUE:
            raise ConfigurationError(f"the attribute {name!r} has more than {_LONGEST_VALUE} bytes")
    if len(ordering_key.encode()) > _LONGEST_ORDERING_KEY:
        raise ConfigurationError(f"an ordering key has at most {_LONGEST_ORDERING_KEY} bytes")
