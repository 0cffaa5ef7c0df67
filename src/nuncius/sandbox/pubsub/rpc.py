"""The calls of Google's Publisher and Subscriber services that are one question and one answer."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nuncius.errors import AlreadyExistsError, ConfigurationError, FilterError, NotFoundError
from nuncius.sandbox.pubsub import wire
from nuncius.sandbox.pubsub.faults import PubSubRequest
from nuncius.sandbox.pubsub.subscription import Holder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nuncius.sandbox.pubsub.server import PubSubServer

_MOST_PUBLISHED = 1000  # messages of a Publish
_LARGEST_PUBLISH = 10_000_000  # bytes of its messages
LARGEST_REQUEST = 524_288  # bytes of what only names messages
_DEFAULT_PAGE = 1000
_PULL_MARGIN_S = 0.2
_MOST_DEADLINE_S = 600
# What a field of `Subscription` that may be changed is here.
_CHANGEABLE = {
    "ack_deadline_seconds": ("ack_deadline_s",),
    "retain_acked_messages": ("retain_acked",),
    "message_retention_duration": ("retention_s",),
    "dead_letter_policy": ("dead_letter_topic", "max_delivery_attempts"),
    "retry_policy": ("min_backoff_s", "max_backoff_s"),
    "labels": ("labels",),
    "expiration_policy": (),
}


class Calls:
    """Answers calls; what `method` returns takes a request as protobuf has it and returns an answer, or its bytes.

    Parameters
    ----------
    server : PubSubServer
        What they are about.
    """

    def __init__(self, server: PubSubServer) -> None:
        self._server = server
        self._state = server.state

    @staticmethod
    def table() -> dict[str, tuple[str, str]]:
        """Return for each call its service and the type of its request."""
        subscriber = (
            "CreateSubscription:Subscription GetSubscription UpdateSubscription DeleteSubscription ListSubscriptions "
            "Pull Acknowledge ModifyAckDeadline Seek CreateSnapshot GetSnapshot DeleteSnapshot ListSnapshots"
        )
        publisher = (
            "CreateTopic:Topic GetTopic UpdateTopic DeleteTopic ListTopics ListTopicSubscriptions "
            "ListTopicSnapshots Publish"
        )
        return {
            rpc: (service, request or f"{rpc}Request")
            for service, names in (("Subscriber", subscriber), ("Publisher", publisher))
            for rpc, _, request in (name.partition(":") for name in names.split())
        }

    def method(self, rpc: str) -> Callable[[Any, Any], Any]:
        """Return what answers a call."""
        name = "".join(f"_{char.lower()}" if char.isupper() else char for char in rpc)
        answer: Callable[[Any, Any], Any] = getattr(self, name)
        return answer

    # Topics -----------------------------------------------------------------------------------------------------------

    def _create_topic(self, asked: Any, context: Any) -> Any:
        retention_s = wire.topic_retention_s(asked)
        return wire.topic_pb(
            self._state.create_topic(asked.name, retention_s=retention_s, labels=asked.labels)
        )

    def _get_topic(self, asked: Any, context: Any) -> Any:
        return wire.topic_pb(self._state.topic(asked.topic))

    def _update_topic(self, asked: Any, context: Any) -> Any:
        with self._state.changed:
            topic = self._state.topic(asked.topic.name)
            for path in _masked(asked, {"labels", "message_retention_duration"}):
                if path == "labels":
                    topic.labels = dict(asked.topic.labels)
                else:
                    topic.retention_s = wire.topic_retention_s(asked.topic)
            return wire.topic_pb(topic)

    def _delete_topic(self, asked: Any, context: Any) -> Any:
        self._state.delete_topic(asked.topic)
        return b""

    def _list_topics(self, asked: Any, context: Any) -> Any:
        with self._state.changed:
            found = _of_project(self._state.topics, asked.project)
        return _page("ListTopicsResponse", "topics", asked, found, lambda path: wire.topic_pb(found[path]))

    def _list_topic_subscriptions(self, asked: Any, context: Any) -> Any:
        with self._state.changed:
            found = dict(self._state.topic(asked.topic).queues)
        return _page("ListTopicSubscriptionsResponse", "subscriptions", asked, found, str)

    def _list_topic_snapshots(self, asked: Any, context: Any) -> Any:
        with self._state.changed:
            found = dict(self._state.topic(asked.topic).snapshots)
        return _page("ListTopicSnapshotsResponse", "snapshots", asked, found, str)

    def _publish(self, asked: Any, context: Any) -> Any:
        from google.pubsub_v1 import types

        if not 1 <= len(asked.messages) <= _MOST_PUBLISHED:
            raise ConfigurationError(
                f"1 to {_MOST_PUBLISHED} messages can be published at once, not {len(asked.messages)}"
            )
        if asked.ByteSize() > _LARGEST_PUBLISH + LARGEST_REQUEST:
            raise ConfigurationError(f"at most {_LARGEST_PUBLISH} bytes can be published at once")
        drafts = [(sent.data, dict(sent.attributes), sent.ordering_key) for sent in asked.messages]
        return types.PublishResponse.pb()(message_ids=self._state.publish(asked.topic, drafts))

    # Subscriptions ----------------------------------------------------------------------------------------------------

    def _create_subscription(self, asked: Any, context: Any) -> Any:
        return self._shown(self._state.create_subscription(wire.config_of(asked)).config)

    def _get_subscription(self, asked: Any, context: Any) -> Any:
        return self._shown(self._state.subscription(asked.subscription).config)

    def _update_subscription(self, asked: Any, context: Any) -> Any:
        with self._state.changed:
            queue = self._state.subscription(asked.subscription.name)
            wanted = wire.config_of(asked.subscription)
            fields = [name for path in _masked(asked, set(_CHANGEABLE)) for name in _CHANGEABLE[path]]
            queue.config = replace(queue.config, **{name: getattr(wanted, name) for name in fields})
            return self._shown(queue.config)

    def _delete_subscription(self, asked: Any, context: Any) -> Any:
        self._state.delete_subscription(asked.subscription)
        return b""

    def _list_subscriptions(self, asked: Any, context: Any) -> Any:
        with self._state.changed:
            found = _of_project(self._state.queues, asked.project)
        return _page(
            "ListSubscriptionsResponse",
            "subscriptions",
            asked,
            found,
            lambda path: self._shown(found[path].config),
        )

    def _shown(self, config: Any) -> Any:
        return wire.subscription_pb(config, self._state.topics.get(config.topic))

    # Messages ---------------------------------------------------------------------------------------------------------

    def _pull(self, asked: Any, context: Any) -> Any:
        if asked.max_messages < 1:
            raise ConfigurationError(f"max_messages is at least 1, not {asked.max_messages}")
        queue = self._state.subscription(asked.subscription)
        holder = Holder(queue.config.ack_deadline_s)
        until = time.monotonic() + self._patience_s(asked, context)
        with queue.changed:
            while True:
                leases = [] if self._server.stalled else queue.take(
                    holder, max_messages=min(asked.max_messages, 1000), max_bytes=self._server.max_response_bytes
                )  # fmt: skip
                left_s = until - time.monotonic()
                if leases or left_s <= 0 or not context.is_active():
                    break
                queue.changed.wait(min(left_s, queue.until_next()))
            if not context.is_active():
                queue.give_back(leases)
        return wire.received_messages(leases, count_attempts=bool(queue.config.dead_letter_topic))

    def _patience_s(self, asked: Any, context: Any) -> float:
        if asked.return_immediately:
            return 0.0
        left_s = context.time_remaining()
        return (
            self._server.pull_wait_s
            if left_s is None
            else min(self._server.pull_wait_s, left_s - _PULL_MARGIN_S)
        )

    def _acknowledge(self, asked: Any, context: Any) -> Any:
        check_request(asked)
        queue = self._state.subscription(asked.subscription)
        with queue.changed:
            queue.acknowledge(asked.ack_ids)
        return b""

    def _modify_ack_deadline(self, asked: Any, context: Any) -> Any:
        check_request(asked)
        check_deadline(asked.ack_deadline_seconds)
        queue = self._state.subscription(asked.subscription)
        with queue.changed:
            queue.modify(asked.ack_ids, asked.ack_deadline_seconds)
        return b""

    # Going back -------------------------------------------------------------------------------------------------------

    def _seek(self, asked: Any, context: Any) -> Any:
        if asked.HasField("snapshot"):
            self._state.seek_to_snapshot(asked.subscription, asked.snapshot)
        elif asked.HasField("time"):
            self._state.seek_to_time(asked.subscription, asked.time.ToMicroseconds() / 1e6)
        else:
            raise ConfigurationError("a time or a snapshot is needed")
        return b""

    def _create_snapshot(self, asked: Any, context: Any) -> Any:
        return wire.snapshot_pb(self._state.create_snapshot(asked.name, asked.subscription))

    def _get_snapshot(self, asked: Any, context: Any) -> Any:
        return wire.snapshot_pb(self._state.snapshot(asked.snapshot))

    def _delete_snapshot(self, asked: Any, context: Any) -> Any:
        self._state.delete_snapshot(asked.snapshot)
        return b""

    def _list_snapshots(self, asked: Any, context: Any) -> Any:
        with self._state.changed:
            found = _of_project(self._state.snapshots, asked.project)
        return _page(
            "ListSnapshotsResponse", "snapshots", asked, found, lambda path: wire.snapshot_pb(found[path])
        )


def check_request(asked: Any) -> None:
    """Refuse a request that names too many messages.

    Raises
    ------
    ConfigurationError
        If it has more bytes than Google's service takes.
    """
    if asked.ByteSize() > LARGEST_REQUEST:
        raise ConfigurationError(f"a request has at most {LARGEST_REQUEST} bytes, not {asked.ByteSize()}")


def check_deadline(seconds: int, shortest_s: int = 0) -> int:
    """Return a deadline that is in range.

    Raises
    ------
    ConfigurationError
        If it is not.
    """
    if not shortest_s <= seconds <= _MOST_DEADLINE_S:
        raise ConfigurationError(f"a deadline is {shortest_s} to {_MOST_DEADLINE_S} s here, not {seconds}")
    return seconds


def status_of(error: Exception) -> str:
    """Return gRPC's code for a refusal."""
    if isinstance(error, NotFoundError):
        return "NOT_FOUND"
    return "ALREADY_EXISTS" if isinstance(error, AlreadyExistsError) else "INVALID_ARGUMENT"


def noted(rpc: str, asked: Any) -> PubSubRequest:
    """Return what is noted about a request."""
    names = ("subscription", "topic", "snapshot", "name", "project")
    name = next((getattr(asked, name) for name in names if getattr(asked, name, "")), "")
    if not isinstance(name, str):
        name = name.name
    ids = len(getattr(asked, "ack_ids", ())) or len(getattr(asked, "messages", ()))
    deadline_s = asked.ack_deadline_seconds if rpc == "ModifyAckDeadline" else -1
    return PubSubRequest(rpc, name, ids or getattr(asked, "max_messages", 0), deadline_s)


REFUSALS = (AlreadyExistsError, NotFoundError, ConfigurationError, FilterError)


def _of_project(where: Mapping[str, Any], project: str) -> dict[str, Any]:
    return {path: found for path, found in where.items() if path.startswith(f"{project}/")}


def _page(kind: str, field: str, asked: Any, found: Iterable[str], show: Callable[[str], Any]) -> Any:
    """Return a page of a list; the token is the last path of the page before."""
    from google.pubsub_v1 import types

    size = min(asked.page_size, _DEFAULT_PAGE) if asked.page_size > 0 else _DEFAULT_PAGE
    paths = [path for path in sorted(found) if path > asked.page_token]
    token = paths[size - 1] if len(paths) > size else ""
    response = getattr(types, kind).pb()
    return response(**{field: [show(path) for path in paths[:size]]}, next_page_token=token)


def _masked(asked: Any, changeable: set[str]) -> list[str]:
    paths = [path.partition(".")[0] for path in asked.update_mask.paths]
    wrong = sorted(set(paths) - changeable)
    if wrong or not paths:
        what = f"{', '.join(wrong)} can't be changed" if wrong else "update_mask is empty"
        raise ConfigurationError(f"{what}; what can be changed: {', '.join(sorted(changeable))}")
    return paths
