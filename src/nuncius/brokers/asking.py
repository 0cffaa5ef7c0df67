"""What one asks a broker without reading: its topics, how far a group has come, and to go back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nuncius.brokers.places import parse_place
from nuncius.brokers.subscriptions import is_subscription, list_topics, seek_subscription
from nuncius.errors import ConfigurationError, UnsupportedError
from nuncius.settings import default_group, find_setting
from nuncius.streams.bounds import parse_start
from nuncius.streams.kafka.asking import Asker
from nuncius.streams.pubsub.subscriptions import NO_LAG

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nuncius.brokers.places import Place
    from nuncius.credentials import CredentialsLike
    from nuncius.streams.kafka import Connection
    from nuncius.streams.kafka.asking import Lag
    from nuncius.streams.transport import Partition


def topics(
    url: str,
    *,
    credentials: CredentialsLike = None,
    ssl_ca_location: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    timeout_s: float = 10.0,
) -> list[str]:
    """Return the names of the topics that a broker shows to us, as its users write them.

    Parameters
    ----------
    url : str
        As for `nuncius.open_stream`; topics in it are not looked at.
    credentials, ssl_ca_location, config : optional
        As for `nuncius.open_stream`.
    timeout_s : float
        How long the broker may take.

    Raises
    ------
    UnreachableError, TlsError, LoginError
        What is wrong with the connection.
    """
    if is_subscription(url):
        return list_topics(url, credentials=credentials, ssl_ca_location=ssl_ca_location, timeout_s=timeout_s)
    place = parse_place(url, topics_needed=False)
    connection = place.connection(credentials=credentials, ssl_ca_location=ssl_ca_location, config=config)
    with Asker(connection, timeout_s=timeout_s) as asker:
        return [place.profile.shown(name) for name in asker.topics()]


def lag(
    url: str,
    *,
    group: str | None = None,
    credentials: CredentialsLike = None,
    ssl_ca_location: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    timeout_s: float = 10.0,
) -> dict[Partition, Lag]:
    """Return how far a consumer group has come, by (topic, partition). It is not disturbed.

    Parameters
    ----------
    url : str
        As for `nuncius.open_stream`.
    group : str, optional
        The consumer group; by default your own on this machine.
    credentials, ssl_ca_location, config, timeout_s : optional
        As for `topics`.

    Raises
    ------
    UnsupportedError
        If it is a Pub/Sub subscription: the server does not tell.
    NotFoundError
        If there is no such topic.
    UnreachableError, TlsError, LoginError, ForbiddenError
        What is wrong with the connection.
    """
    if is_subscription(url):
        raise UnsupportedError(NO_LAG, service="pubsub", url=url)
    place, connection, group = _group(url, group, credentials, ssl_ca_location, config)
    with Asker(connection, group=group, timeout_s=timeout_s) as asker:
        return asker.lag(place.topics)


def rewind(
    url: str,
    to: Any,
    *,
    group: str | None = None,
    credentials: CredentialsLike = None,
    ssl_ca_location: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    timeout_s: float = 10.0,
) -> Mapping[Partition, int | None]:
    """Move the kept position of a consumer group that nobody is reading with; return the new offsets.

    A Pub/Sub subscription moves to a time and has no offsets (None): what was published before counts as acknowledged,
    and of what came later all that Google has kept comes again.

    Parameters
    ----------
    url : str
        As for `nuncius.open_stream`.
    to : str, datetime or Time
        ``"earliest"``, ``"latest"``, a time, or a relative one such as ``"-6h"``. Forward is allowed too.
    group, credentials, ssl_ca_location, config, timeout_s : optional
        As for `lag`.

    Raises
    ------
    ConfigurationError
        If somebody reads with this group now, or `to` is not understood.
    NotFoundError
        If there is no such topic.
    UnreachableError, TlsError, LoginError, ForbiddenError
        What is wrong with the connection.
    """
    target = parse_start(to, now=time.time(), option="to")
    if target.name == "committed":
        raise ConfigurationError("to='committed' changes nothing; give 'earliest', 'latest' or a time")
    if is_subscription(url):
        path = seek_subscription(
            url,
            target,
            group=group,
            credentials=credentials,
            ssl_ca_location=ssl_ca_location,
            timeout_s=timeout_s,
        )
        return {(path, 0): None}
    place, connection, group = _group(url, group, credentials, ssl_ca_location, config)
    with Asker(connection, group=group, timeout_s=timeout_s) as asker:
        return asker.rewind(place.topics, target)


def _group(
    url: str,
    group: str | None,
    credentials: CredentialsLike,
    ssl_ca_location: str | Path | None,
    config: Mapping[str, Any] | None,
) -> tuple[Place, Connection, str]:
    place = parse_place(url)
    connection = place.connection(credentials=credentials, ssl_ca_location=ssl_ca_location, config=config)
    found = group or find_setting(place.profile.name, "group")
    if found is None:
        user = None if connection.credentials is None else connection.credentials.username
        found = place.profile.group(default_group(), user)
    return place, connection, found
