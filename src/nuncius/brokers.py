"""Open a stream by its URL.

Known schemes: ``kafka://host:port/topic[,topic]`` and ``replay:///path``.
"""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from nuncius.alerts.packets import as_source
from nuncius.credentials import find_credentials
from nuncius.errors import ConfigurationError
from nuncius.settings import data_dir, default_group
from nuncius.streams import AsyncStream, Stream
from nuncius.streams.bounds import parse_start, parse_stop
from nuncius.streams.engine import Engine, Rules
from nuncius.streams.quarantine import Quarantine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius.alerts.packets import SchemaLike
    from nuncius.credentials import CredentialsLike
    from nuncius.streams.transport import Transport

log = logging.getLogger("nuncius.streams")

# Brokers that users will try by name; what is said of them is that they are not known yet.
_LATER = frozenset(
    {"antares", "hopskotch", "gcn", "fink", "lasair", "babamul", "ztf", "lsst", "pubsub", "pittgoogle"}
)


def open_stream(
    url: str,
    *,
    group: str | Literal[False] | None = None,
    start: Any = "committed",
    reset: bool = False,
    stop: Any = None,
    acknowledge: Literal["on_next", "manual"] = "on_next",
    max_unacknowledged: int = 10_000,
    on_error: Literal["quarantine", "raise", "skip"] = "quarantine",
    quarantine_dir: str | Path | None = None,
    quarantine_limit_bytes: int = 10_000_000_000,
    validate: bool = False,
    connect_timeout_s: float = 10,
    config: Mapping[str, Any] | None = None,
    credentials: CredentialsLike = None,
    schema: SchemaLike = None,
) -> Stream:
    """Open a stream of alerts.

    Nothing is sent over the network before the stream is entered (``with``) or first read.

    Parameters
    ----------
    url : str
        ``kafka://host:port/topic[,topic]`` (a topic that begins with ``^`` is a regular expression), or
        ``replay:///path`` for a file or folder of packets.
    group : str, optional
        The consumer group under whose name the broker keeps the position. By default a stable name made once for you
        on this machine, so that a stream resumes where it left off; False keeps no position.
    start : str, datetime or Time
        Where to begin on partitions without a kept position: ``"committed"`` or ``"earliest"`` (all that the broker
        still has), ``"latest"`` (what comes from now on), a time, or a relative time such as ``"-2h"``.
    reset : bool
        Begin at `start` also where a position is kept.
    stop : optional
        ``"end"`` (when all that is there was read), a number of alerts, a duration (timedelta, Quantity, ``"10m"``),
        or a time (alerts that the broker took before it).
    acknowledge : {"on_next", "manual"}
        Whether an alert is finished when you come back for the next, or when you call `Stream.acknowledge`.
    max_unacknowledged : int
        The most alerts handed out and not finished.
    on_error : {"quarantine", "raise", "skip"}
        What to do with a message that can't be read: keep it in the quarantine and go on, stop, or drop it.
    quarantine_dir : str or Path, optional
        Where the quarantine is; by default in the user's data folder, by broker.
    quarantine_limit_bytes : int
        The size at which the stream stops.
    validate : bool
        Decode each packet fully before it is handed out.
    connect_timeout_s : float
        How long connecting may take, login and topics included.
    config : mapping, optional
        Any setting of librdkafka; it overrides ours, but for those that delivery depends on.
    credentials : (username, password), optional
        By default ``NUNCIUS_KAFKA_USERNAME`` and ``NUNCIUS_KAFKA_PASSWORD``. They imply SASL_SSL with
        SCRAM-SHA-512; `config` may say otherwise.
    schema : optional
        For framed packets (Rubin's): a directory of schemas, the URL of a schema registry, or a mapping.

    Returns
    -------
    Stream

    Raises
    ------
    ConfigurationError
        If an argument can't work.
    UnsupportedError
        If the transport can't do what is asked.

    Examples
    --------
    >>> with open_stream("kafka://localhost:9092/alerts", stop="10m") as stream:  # doctest: +SKIP
    ...     for alert in stream:
    ...         print(alert.object_id, alert.mag)
    """
    engine = _engine(
        url, group, start, reset, stop, acknowledge, max_unacknowledged, on_error, quarantine_dir,
        quarantine_limit_bytes, validate, connect_timeout_s, config, credentials, schema,
    )  # fmt: skip
    return Stream(engine, url)


def open_async_stream(
    url: str,
    *,
    group: str | Literal[False] | None = None,
    start: Any = "committed",
    reset: bool = False,
    stop: Any = None,
    acknowledge: Literal["on_next", "manual"] = "on_next",
    max_unacknowledged: int = 10_000,
    on_error: Literal["quarantine", "raise", "skip"] = "quarantine",
    quarantine_dir: str | Path | None = None,
    quarantine_limit_bytes: int = 10_000_000_000,
    validate: bool = False,
    connect_timeout_s: float = 10,
    config: Mapping[str, Any] | None = None,
    credentials: CredentialsLike = None,
    schema: SchemaLike = None,
) -> AsyncStream:
    """Open a stream of alerts for ``async for``; everything as for `nuncius.open_stream`.

    Returns
    -------
    AsyncStream

    Raises
    ------
    ConfigurationError
        If an argument can't work.
    UnsupportedError
        If the transport can't do what is asked.
    """
    engine = _engine(
        url, group, start, reset, stop, acknowledge, max_unacknowledged, on_error, quarantine_dir,
        quarantine_limit_bytes, validate, connect_timeout_s, config, credentials, schema,
    )  # fmt: skip
    return AsyncStream(engine, url)


def _engine(
    url: str,
    group: str | Literal[False] | None,
    start: Any,
    reset: bool,
    stop: Any,
    acknowledge: Any,
    max_unacknowledged: int,
    on_error: Any,
    quarantine_dir: str | Path | None,
    quarantine_limit_bytes: int,
    validate: bool,
    connect_timeout_s: float,
    config: Mapping[str, Any] | None,
    credentials: CredentialsLike,
    schema: SchemaLike,
) -> Engine:
    _one_of("acknowledge", acknowledge, ("on_next", "manual"))
    _one_of("on_error", on_error, ("quarantine", "raise", "skip"))
    if not (group is None or group is False or (isinstance(group, str) and group)):
        raise ConfigurationError(f"group={group!r}: give the name of a consumer group, or False for none")
    if max_unacknowledged < 1:
        raise ConfigurationError(f"max_unacknowledged={max_unacknowledged} would hand out nothing")
    source = as_source(schema)
    transport, place = _transport(url, group, start, reset, config, credentials)
    rules = Rules(
        acknowledge=acknowledge,
        on_error=on_error,
        max_unacknowledged=max_unacknowledged,
        validate=validate,
        connect_timeout_s=connect_timeout_s,
        stop=parse_stop(stop),
        schema=source,
    )
    folder = Path(quarantine_dir).expanduser() if quarantine_dir else data_dir() / "quarantine" / place
    return Engine(transport, rules, Quarantine(folder, quarantine_limit_bytes))


def _transport(
    url: str,
    group: str | Literal[False] | None,
    start: Any,
    reset: bool,
    config: Mapping[str, Any] | None,
    credentials: CredentialsLike,
) -> tuple[Transport, str]:
    """Make the transport that a URL names, and a folder name for its quarantine."""
    scheme, _, rest = url.partition("://")
    first = parse_start(start, now=time.time())
    if scheme == "replay" and rest:
        from nuncius.streams.replay import ReplayTransport

        path = Path(unquote(rest)).expanduser()
        return ReplayTransport(path, group=group or None, start=first), "replay"
    if scheme == "kafka" and rest:
        from nuncius.streams.kafka import KafkaTransport

        servers, topics, login = _kafka_parts(url, credentials)
        name = None if group is False else group or default_group()
        if group is None:
            log.info("reading %s as the consumer group %s", servers, name)
        transport = KafkaTransport(
            servers,
            topics,
            group=name,
            start=first,
            reset=reset,
            config=config,
            credentials=find_credentials("kafka", login),
        )
        return transport, servers.replace(":", "_").replace(",", "+")
    shown = re.sub(r"[^/]*.*@", "***@", url)  # what stands before an @ may be a password
    hint = ""
    if not rest and re.fullmatch(r"[\w.-]+:\d+/.+", shown):
        hint = f" Did you mean kafka://{shown}?"
    elif scheme in _LATER:
        hint = f" This release has no profile for {scheme}; its Kafka servers can be opened as kafka://."
    raise ConfigurationError(
        f"{shown!r} is not the URL of a stream. Known are kafka://host:port/topic[,topic] and replay:///path.{hint}",
        url=shown,
    )


def _kafka_parts(url: str, credentials: CredentialsLike) -> tuple[str, list[str], CredentialsLike]:
    if "@" in url:  # wherever: a password may hold a slash, and no topic holds an @
        raise ConfigurationError(
            f"no user name or password in a URL, please: it would be shown in logs. Write kafka://{url.rpartition('@')[2]}"
            " and give credentials=(username, password), or set NUNCIUS_KAFKA_USERNAME and "
            "NUNCIUS_KAFKA_PASSWORD"
        )
    servers, _, path = url.removeprefix("kafka://").partition("/")
    topics = [unquote(topic).strip() for topic in path.split(",") if topic.strip()]
    if not servers or not topics:
        raise ConfigurationError(
            f"{url!r} lacks {'its topic' if servers else 'the server'}: write kafka://host:port/topic[,topic]",
            url=url,
        )
    servers = ",".join(
        server if re.search(r":\d+$", server) else f"{server}:9092" for server in servers.split(",")
    )
    return servers, topics, credentials


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigurationError(
            f"{name}={value!r} is not known; choose one of {', '.join(map(repr, known))}"
        )
