"""Subscriptions: what they are attached to, making and deleting them, and moving them in time."""

from __future__ import annotations

import difflib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from nuncius.errors import (
    AlreadyExistsError,
    ConfigurationError,
    ForbiddenError,
    NotFoundError,
    UnreachableError,
)
from nuncius.streams.pubsub.faults import passes

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.streams.bounds import Start
    from nuncius.streams.pubsub.client import Client

T = TypeVar("T")

NO_LAG = (
    "a Pub/Sub server does not tell how many messages wait. Google counts them elsewhere: the page of the subscription in "
    "the Google Cloud console shows its unacknowledged messages (num_undelivered_messages). `nuncius doctor URL` tells "
    "whether one waits"
)

_FIRST_PAUSE_S = 0.1
_ACK_DEADLINE_S = 60


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as the server has it.

    Parameters
    ----------
    path : str
        ``projects/PROJECT/subscriptions/NAME``.
    topic : str
        ``projects/PROJECT/topics/NAME``; ``_deleted-topic_`` if it is gone.
    attribute_filter : str
        What the server lets through by the attributes of messages; empty for everything.
    ack_deadline_s : int
        How long a message is lent to a simple client.
    retain_acknowledged : bool
        Whether acknowledged messages are kept, so that one can go back to them.
    retention_s : float
        How long messages that are not acknowledged are kept.
    created : bool
        Whether it was made just now.
    """

    path: str
    topic: str
    attribute_filter: str = ""
    ack_deadline_s: int = _ACK_DEADLINE_S
    retain_acknowledged: bool = False
    retention_s: float = 7 * 86_400.0
    created: bool = False


def describe(client: Client, path: str, timeout_s: float) -> Subscription:
    """Return what the server says of a subscription.

    Raises
    ------
    NotFoundError
        If there is none.
    ForbiddenError
        If we may not look.
    """
    return _read(client.call("GetSubscription", path, timeout_s, action="look", subscription=path))


def touch(
    client: Client,
    path: str,
    timeout_s: float,
    *,
    topic: str | None,
    attribute_filter: str = "",
    retain_acknowledged: bool = False,
    of_any_topic: bool = False,
) -> Subscription:
    """Return a subscription, made if need be.

    With `of_any_topic` one that is there may be of another topic.

    Raises
    ------
    NotFoundError
        If there is none and no topic is given, or the topic does not exist.
    ConfigurationError
        If it is there with another filter, or of another topic, which can't be changed.
    ForbiddenError
        If we may not make it.
    """
    try:
        found = describe(client, path, timeout_s)
    except NotFoundError:
        if topic is None:
            raise
        return make(
            client,
            path,
            timeout_s,
            topic=topic,
            attribute_filter=attribute_filter,
            retain_acknowledged=retain_acknowledged,
        )
    check_same(found, None if of_any_topic else topic, attribute_filter)
    return found


def make(
    client: Client,
    path: str,
    timeout_s: float,
    *,
    topic: str,
    attribute_filter: str = "",
    retain_acknowledged: bool = False,
    expires_s: int | None = None,
) -> Subscription:
    """Make a subscription and return it; if somebody else has made it in this moment, return that one.

    Raises
    ------
    NotFoundError
        If the topic does not exist.
    ConfigurationError
        If somebody else has made it with another filter, or of another topic.
    ForbiddenError
        If we may not make it.
    """
    types = client.types
    fields: dict[str, Any] = {
        "name": path,
        "topic": topic,
        "filter": attribute_filter,
        "ack_deadline_seconds": _ACK_DEADLINE_S,
        "retain_acked_messages": retain_acknowledged,
    }
    if expires_s is not None:
        policy = types.ExpirationPolicy.pb()()
        policy.ttl.seconds = expires_s
        retention = types.Subscription.pb()().message_retention_duration
        retention.seconds = min(expires_s, 7 * 86_400)
        fields |= {"expiration_policy": policy, "message_retention_duration": retention}
    try:
        made = client.call("CreateSubscription", path, timeout_s, action="create", **fields)
    except NotFoundError as error:
        raise _no_topic(client, topic, timeout_s) from error
    except AlreadyExistsError:  # somebody else has made it meanwhile
        found = describe(client, path, timeout_s)
        check_same(found, topic, attribute_filter)
        return found
    return _read(made, created=True)


def check_same(found: Subscription, topic: str | None, wanted: str) -> None:
    """Check that a subscription is of a topic, if one is given, and has no other filter than the wanted one.

    Raises
    ------
    ConfigurationError
        If it is another one.
    """
    if topic is not None and found.topic != topic:
        raise ConfigurationError(
            f"the subscription {found.path} is of {found.topic} and not of {topic}. Name another subscription with "
            "group=, or read this one as pubsub://PROJECT/SUBSCRIPTION",
            service="pubsub",
            position=found.path,
        )
    if wanted and found.attribute_filter and wanted != found.attribute_filter:
        raise ConfigurationError(
            f"{found.path} lets through only messages with {found.attribute_filter!r}, which can't be changed. Give that "
            "filter, delete the subscription and make it anew, or make another one with group=",
            service="pubsub",
            position=found.path,
        )


def delete(client: Client, path: str, timeout_s: float) -> bool:
    """Delete a subscription; return whether there was one."""
    try:
        client.call("DeleteSubscription", path, timeout_s, action="delete", subscription=path)
    except NotFoundError:
        return False
    return True


def seek(client: Client, path: str, where: Start, timeout_s: float) -> None:
    """Move a subscription in time: what was published before counts as acknowledged, what came after comes again.

    Only what the server has kept comes again: messages that are not acknowledged, and others if the subscription
    retains them or the topic does.
    """
    seconds = {"earliest": 0.0, "latest": time.time()}.get(where.name, where.unix_s or 0.0)
    request = client.types.SeekRequest.pb()(subscription=path)
    request.time.FromNanoseconds(int(seconds * 1_000_000) * 1_000)
    client.call("Seek", path, timeout_s, subscription=path, time=request.time)


def topics(client: Client, project: str, timeout_s: float) -> list[str]:
    """Return the names of all topics of a project."""
    names: list[str] = []
    page = ""
    while True:
        answer = client.call(
            "ListTopics",
            f"the topics of {project}",
            timeout_s,
            action="look",
            project=f"projects/{project}",
            page_token=page,
            page_size=1000,
        )
        names += [topic.name.rpartition("/")[2] for topic in answer.topics]
        page = answer.next_page_token
        if not page:
            return sorted(names)


def patiently(ask: Callable[[float], T], deadline: float, interrupted: Callable[[], bool]) -> T:
    """Ask until the server answers; `ask` gets how long it may take.

    Raises
    ------
    UnreachableError
        If it doesn't until the deadline; what can't be secured (`TlsError`) is told at once.
    """
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return ask(max(0.05, deadline - time.monotonic()))
        except UnreachableError as error:
            if not passes(error) or interrupted() or time.monotonic() + pause_s >= deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 1.0)


def _read(found: Any, *, created: bool = False) -> Subscription:
    retention = found.message_retention_duration
    return Subscription(
        path=found.name,
        topic=found.topic,
        attribute_filter=found.filter,
        ack_deadline_s=found.ack_deadline_seconds,
        retain_acknowledged=found.retain_acked_messages,
        retention_s=retention.seconds + retention.nanos / 1e9 if retention.ByteSize() else 7 * 86_400.0,
        created=created,
    )


def _no_topic(client: Client, topic: str, timeout_s: float) -> NotFoundError:
    _, project, _, name = topic.split("/")
    hint = ""
    try:
        known = topics(client, project, timeout_s)
    except (ForbiddenError, NotFoundError, UnreachableError):
        known = []
    if close := difflib.get_close_matches(name, known, n=5, cutoff=0.4):
        hint = f" Close to it: {', '.join(close)}."
    elif known:
        hint = f" It has {', '.join(known[:10])}{' …' if len(known) > 10 else ''}."
    return NotFoundError(
        f"the project {project} has no topic {name!r}, so no subscription was made.{hint} (A topic that your login may "
        "not use looks the same.)",
        service="pubsub",
        url=f"pubsub://{client.server.address}",
        position=topic,
    )
