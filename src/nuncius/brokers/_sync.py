"""Generated from _async.py by tools/make_sync.py: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from nuncius.brokers.opening import Options, open_source, shown_url
from nuncius.brokers.places import parse_place
from nuncius.errors import ConfigurationError
from nuncius.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nuncius.alerts.packets import SchemaLike
    from nuncius.credentials import CredentialsLike
    from nuncius.streams.publishing import Publisher
    from nuncius.streams.pubsub.login import GoogleLike


def open_stream(
    url: str | Sequence[str],
    *,
    where: str | None = None,
    attribute_filter: str | None = None,
    near: Any = None,
    radius: Any = None,
    region: Any = None,
    level: float = 0.9,
    deduplicate: bool | int = False,
    max_rate: float | None = None,
    group: str | Literal[False] | None = None,
    start: Any = "committed",
    reset: bool = False,
    stop: Any = None,
    pace: float | None = None,
    acknowledge: Literal["on_next", "manual"] = "on_next",
    max_unacknowledged: int = 10_000,
    on_error: Literal["quarantine", "raise", "skip"] = "quarantine",
    quarantine_dir: str | Path | None = None,
    quarantine_limit_bytes: int = 10_000_000_000,
    validate: bool = False,
    test_messages: bool = False,
    connect_timeout_s: float = 10,
    credentials: CredentialsLike | GoogleLike = None,
    ssl_ca_location: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    schema: SchemaLike = None,
) -> Stream:
    """Open a stream of alerts, of one broker or of several as one.

    Nothing is sent over the network before the stream is entered (``with``) or first read.

    Parameters
    ----------
    url : str or sequence of str
        ``antares://TOPIC[,TOPIC]`` for a broker whose servers are known, ``fink://HOST:PORT/TOPIC`` for other servers,
        ``kafka://HOST:PORT/TOPIC`` for any Kafka server, ``pittgoogle://TOPIC`` and ``pubsub://PROJECT/SUBSCRIPTION``
        for Google Pub/Sub (``pubsub://HOST:PORT/…`` for an emulator), ``replay:///path`` for a folder of packets or a
        recording;
        ``nuncius brokers`` lists the brokers. A topic that begins with ``^`` is a regular expression; ``{date}`` in a
        topic stands for the nights: tonight, and those before that are not read yet. Several URLs are one stream, and
        each alert's `origin` tells where it came from.
    where : str, optional
        Only alerts for which this holds, such as ``"score > 0.9 and mag < 18"``; see `nuncius.streams.where`.
    attribute_filter : str, optional
        Only messages whose attributes (Kafka: headers) fulfil this, such as ``attributes.pg_variable = "likely"``; see
        `nuncius.streams.attributes`. Nothing of the others is decoded, and a Pub/Sub subscription that is made for this
        stream leaves them out at the server.
    near : SkyCoord, Table, path or list, optional
        Only alerts within `radius` of one of these positions; ``alert.annotations["watchlist"]`` tells of which.
    radius : Quantity or str, optional
        Such as ``"2 arcsec"``.
    region : optional
        Only alerts within this region: a MOC, a polygon, or a gravitational-wave sky map with its `level`.
    level : float
        How much of the probability of a sky map the region holds.
    deduplicate : bool or int
        Whether alerts whose key came before are dropped; a number is how many keys are remembered (True: 100,000).
        The archive does that by itself, and keeps what each broker adds.
    max_rate : float, optional
        The most alerts handed out in a second, on average.
    group : str, optional
        The consumer group under whose name the broker keeps the position. By default a stable name made once for you
        on this machine, so that a stream resumes where it left off; False keeps no position. For ``pittgoogle://`` it
        names the subscription, by default as the topic, which is made if it is missing (False: one for this stream
        alone, deleted in the end).
    start : str, datetime or Time
        Where to begin on partitions without a kept position: ``"committed"`` or ``"earliest"`` (all that the broker
        still has), ``"latest"`` (what comes from now on), a time, or a relative time such as ``"-2h"``.
    reset : bool
        Begin at `start` also where a position is kept.
    stop : optional
        ``"end"`` (when all that is there was read; Pub/Sub knows no end: when nothing came for 10 s), a number of alerts, a duration (timedelta, Quantity, ``"10m"``),
        or a time (alerts that the broker took before it).
    pace : float, optional
        For a replay: 1 gives the messages at the pace at which they came, 10 ten times as fast; None as fast as
        possible.
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
    test_messages : bool
        Whether messages that the broker marks as tests are given too.
    connect_timeout_s : float
        How long connecting may take, login and topics included.
    credentials : (username, password), optional
        By default ``NUNCIUS_ANTARES_USERNAME`` and ``…_PASSWORD`` (or KAFKA, FINK, …), the broker's own variables, or
        what ``nuncius login`` has stored. With several URLs a mapping from scheme to credentials. For Google Pub/Sub the
        path of a key file, or credentials of google-auth; by default GOOGLE_APPLICATION_CREDENTIALS, what ``nuncius
        login pittgoogle`` has stored, or the application default credentials.
    ssl_ca_location : str or Path, optional
        The certificates that the broker is verified with; the system's by default.
    config : mapping, optional
        Any setting of librdkafka; it overrides ours, but for those that delivery depends on. For Pub/Sub `lease_s`,
        `max_messages` and `max_bytes`; see `nuncius.streams.pubsub.Plan`.
    schema : optional
        For framed packets (Rubin's): a directory of schemas, the URL of a schema registry, or a mapping.

    Returns
    -------
    Stream

    Raises
    ------
    ConfigurationError
        If an argument can't work.
    FilterError
        If `where` is not understood.
    LoginError
        If the broker wants a login and there is none.
    UnsupportedError
        If the transport can't do what is asked.

    Examples
    --------
    >>> with nuncius.open_stream("antares://extragalactic", stop="10m") as stream:  # doctest: +SKIP
    ...     for alert in stream:
    ...         print(alert.object_id, alert.mag)
    """
    source = open_source(
        url,
        Options(
            where=where,
            attribute_filter=attribute_filter,
            near=near,
            radius=radius,
            region=region,
            level=level,
            deduplicate=deduplicate,
            max_rate=max_rate,
            group=group,
            start=start,
            reset=reset,
            stop=stop,
            pace=pace,
            acknowledge=acknowledge,
            max_unacknowledged=max_unacknowledged,
            on_error=on_error,
            quarantine_dir=quarantine_dir,
            quarantine_limit_bytes=quarantine_limit_bytes,
            validate=validate,
            test_messages=test_messages,
            connect_timeout_s=connect_timeout_s,
            credentials=credentials,
            ssl_ca_location=ssl_ca_location,
            config=config,
            schema=schema,
        ),
    )
    return Stream(source, shown_url(url))


def open_publisher(
    url: str,
    *,
    credentials: CredentialsLike = None,
    ssl_ca_location: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    timeout_s: float = 30.0,
) -> Publisher:
    """Open a topic for publishing; each message is confirmed by the broker, or reported.

    Parameters
    ----------
    url : str
        Of one topic, as for `open_stream`.
    credentials, ssl_ca_location, config : optional
        As for `open_stream`.
    timeout_s : float
        How long the broker may take to confirm.

    Raises
    ------
    ConfigurationError
        If the URL names no topic, or several.
    LoginError
        If the broker wants a login and there is none.

    Examples
    --------
    >>> with nuncius.open_publisher("kafka://localhost:9092/alerts") as publisher:  # doctest: +SKIP
    ...     publisher.publish({"id": 1})
    """
    from nuncius.streams.publishing import Publisher

    place = parse_place(url)
    if len(place.topics) != 1 or place.topics[0].startswith("^") or "{date}" in place.topics[0]:
        raise ConfigurationError(f"{url!r}: a publisher writes to one topic", url=url)
    connection = place.connection(credentials=credentials, ssl_ca_location=ssl_ca_location, config=config)
    return Publisher(connection, place.topics[0], timeout_s=timeout_s)
