"""From what a user gives to `open_stream` to the engines that read."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from nuncius.alerts.packets import as_source
from nuncius.brokers.known import profile_of
from nuncius.brokers.places import parse_place
from nuncius.brokers.subscriptions import is_subscription, parse_address
from nuncius.errors import ConfigurationError, UnsupportedError
from nuncius.settings import data_dir, default_group, find_setting
from nuncius.streams.bounds import parse_start, parse_stop
from nuncius.streams.engine import Engine
from nuncius.streams.merged import Merged
from nuncius.streams.pubsub.plan import CONFIG as PUBSUB_CONFIG
from nuncius.streams.quarantine import Quarantine
from nuncius.streams.reading import PacketReader
from nuncius.streams.rules import Rate, Rules, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuncius.alerts import Alert, Notice, Origin
    from nuncius.alerts.packets import SchemaLike
    from nuncius.streams.bounds import Start
    from nuncius.streams.merged import Source
    from nuncius.streams.transport import Message, Reader

log = logging.getLogger("nuncius.streams")

_REMEMBERED = 100_000
_LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Options:
    """What `open_stream` takes beside the URL."""

    where: Any
    attribute_filter: str | None
    near: Any
    radius: Any
    region: Any
    level: float
    deduplicate: Any
    max_rate: float | None
    group: Any
    start: Any
    reset: bool
    stop: Any
    pace: float | None
    acknowledge: Any
    max_unacknowledged: int
    on_error: Any
    quarantine_dir: str | Path | None
    quarantine_limit_bytes: int
    validate: bool
    test_messages: bool
    connect_timeout_s: float
    credentials: Any = field(repr=False)
    ssl_ca_location: str | Path | None
    config: Mapping[str, Any] | None = field(repr=False)
    schema: SchemaLike


def open_source(url: str | Sequence[str], options: Options) -> Source:
    """Make the engine of a stream, or one for each of several that are read as one.

    Raises
    ------
    ConfigurationError
        If an argument can't work.
    """
    _check(options)
    options = replace(options, schema=as_source(options.schema))
    if isinstance(url, str):
        return _engine(url, options, _rules(options))
    urls = list(url)
    if not urls:
        raise ConfigurationError("there is no URL in the list")
    if len(set(urls)) != len(urls):
        raise ConfigurationError("a URL stands twice in the list: its alerts would come once, from either")
    _check_logins(urls, options.credentials)
    rules = _rules(options)
    engines = {}
    for one in urls:
        engines[one] = _engine(one, _own_part(one, options), rules)
    return Merged(engines, rules)


def shown_url(url: str | Sequence[str]) -> str:
    """Return what a stream says that it reads."""
    return url if isinstance(url, str) else " + ".join(url)


def _check(options: Options) -> None:
    _one_of("acknowledge", options.acknowledge, ("on_next", "manual"))
    _one_of("on_error", options.on_error, ("quarantine", "raise", "skip"))
    group = options.group
    if not (group is None or group is False or (isinstance(group, str) and group)):
        raise ConfigurationError(f"group={group!r}: give the name of a consumer group, or False for none")
    if options.max_unacknowledged < 1:
        raise ConfigurationError(f"max_unacknowledged={options.max_unacknowledged} would hand out nothing")
    for name in ("max_rate", "pace"):
        value = getattr(options, name)
        if value is not None and not (isinstance(value, (int, float)) and 0 < value < float("inf")):
            raise ConfigurationError(f"{name}={value!r}: give a number above 0")
    if isinstance(options.deduplicate, int) and options.deduplicate >= 0:
        return
    raise ConfigurationError(
        f"deduplicate={options.deduplicate!r}: give True, or how many keys are to be remembered"
    )


def _rules(options: Options) -> Rules:
    where = near = attributes = None
    if options.attribute_filter is not None:
        from nuncius.streams.attributes import parse_attribute_filter

        attributes = parse_attribute_filter(options.attribute_filter)
    if options.where is not None:
        from nuncius.streams.where import parse_where

        where = parse_where(options.where)
    places = (options.near, options.region, options.radius)
    if any(place is not None for place in places) or options.level != _LEVEL:
        from nuncius.streams.watch import watch_of

        near = watch_of(near=options.near, radius=options.radius, region=options.region, level=options.level)
    remembered = _REMEMBERED if options.deduplicate is True else int(options.deduplicate)
    return Rules(
        acknowledge=options.acknowledge,
        on_error=options.on_error,
        max_unacknowledged=options.max_unacknowledged,
        validate=options.validate,
        connect_timeout_s=options.connect_timeout_s,
        stop=parse_stop(options.stop),
        read=PacketReader(options.schema),
        attributes=attributes,
        where=where,
        near=near,
        seen=Seen(remembered) if remembered else None,
        rate=None if options.max_rate is None else Rate(options.max_rate),
    )


def _engine(url: str, options: Options, rules: Rules) -> Engine:
    scheme, _, rest = url.partition("://")
    first = parse_start(options.start, now=time.time())
    if scheme == "replay" and rest:
        from nuncius.streams.replay import ReplayTransport

        path = Path(unquote(rest)).expanduser()
        replayed = ReplayTransport(path, group=options.group or None, start=first, pace=options.pace)
        rules = replace(rules, read=_AsItCame(options, replayed.topic_of))
        return Engine(replayed, rules, _quarantine("replay", options))
    if options.pace is not None:
        raise ConfigurationError("pace= is for replay://: a broker gives what comes when it comes")
    if is_subscription(url):
        return _pubsub_engine(url, options, rules, first)
    from nuncius.streams.kafka import KafkaTransport

    place = parse_place(url)
    connection = place.connection(
        credentials=options.credentials,
        config=options.config,
        ssl_ca_location=options.ssl_ca_location,
    )
    profile = place.profile
    group = None if options.group is False else options.group or find_setting(profile.name, "group")
    if options.group is None and group is None:
        user = None if connection.credentials is None else connection.credentials.username
        group = profile.group(default_group(), user)
        log.debug("reading %s as the consumer group %s", place.servers, group)
    rules = replace(
        rules,
        read=profile.reader(options.schema, test_messages=options.test_messages),
        broker=connection.broker,
    )
    transport = KafkaTransport(connection, place.topics, group=group, start=first, reset=options.reset)
    return Engine(transport, rules, _quarantine(place.servers, options))


def _pubsub_engine(url: str, options: Options, rules: Rules, first: Start) -> Engine:
    from nuncius.streams.pubsub import Plan, PubSubTransport, check_config

    address = parse_address(url)
    config = check_config(options.config)
    server = address.log_in(options.credentials, options.ssl_ca_location)
    if options.group is False and not address.profile.topic_projects:
        raise UnsupportedError(
            "group=False would need a subscription of its own; a pubsub:// URL names the one to read",
            service="pubsub",
        )
    subscription, topic = address.subscription(options.group, server)
    if rules.stop.count and not (rules.where or rules.near or rules.seen or rules.attributes):
        config.setdefault(
            "max_messages", min(1_000, rules.stop.count)
        )  # no more than is wanted is lent to us
    plan = Plan(
        subscription,
        first,
        topic=topic,
        attribute_filter=options.attribute_filter or "",
        reset=options.reset,
        temporary=options.group is False,
        quiet_s=address.quiet_s,
        **config,
    )
    name = address.profile.name
    rules = replace(
        rules,
        read=address.profile.reader(options.schema, test_messages=options.test_messages),
        broker=None if name == "pubsub" else name,
    )
    return Engine(PubSubTransport(server, plan), rules, _quarantine(address.server, options))


def _quarantine(place: str, options: Options) -> Quarantine:
    folder = options.quarantine_dir
    path = (
        Path(folder).expanduser()
        if folder
        else data_dir() / "quarantine" / place.replace(":", "_").replace(",", "+")
    )
    return Quarantine(path, options.quarantine_limit_bytes)


class _AsItCame:
    """Reads what is replayed as the broker's messages that they were."""

    def __init__(self, options: Options, topic_of: Callable[[Message], str]) -> None:
        self._topic_of = topic_of
        self._plain = PacketReader(options.schema)
        self._make: Callable[[str], Reader | None] = lambda name: (
            None
            if (profile := profile_of(name)) is None
            else profile.reader(options.schema, test_messages=options.test_messages)
        )
        self._readers: dict[str, Reader] = {}

    def __call__(self, message: Message, origin: Origin) -> Sequence[Alert | Notice]:
        """See `nuncius.streams.transport.Reader`."""
        broker = origin.broker
        if broker is None:
            return self._plain(message, origin)
        if broker not in self._readers:
            self._readers[broker] = self._make(broker) or self._plain
        return self._readers[broker](message._replace(topic=self._topic_of(message)), origin)


def _own_part(url: str, options: Options) -> Options:
    """Return what of the options of several streams is for one of them."""
    scheme = url.partition("://")[0]
    of_pubsub = {name: value for name, value in (options.config or {}).items() if name in PUBSUB_CONFIG}
    of_kafka = {name: value for name, value in (options.config or {}).items() if name not in of_pubsub}
    own = replace(
        options,
        credentials=None if options.credentials is None else options.credentials.get(scheme),
        config=of_pubsub if is_subscription(url) else of_kafka,
    )
    if scheme == "replay" or (scheme == "pubsub" and options.group):
        return replace(own, group=None)  # the group is that of the brokers
    profile = profile_of(scheme)
    if profile is not None and not profile.tls:
        return replace(own, ssl_ca_location=None)  # or it would be spoken to by TLS
    return own


def _check_logins(urls: Sequence[str], credentials: Any) -> None:
    if credentials is None:
        return
    if not isinstance(credentials, Mapping) or credentials.keys() & {"username", "password"}:
        raise ConfigurationError(
            "credentials= of several streams is a mapping from scheme to (username, password), such as "
            "{'antares': (key, secret)}: no broker is to see another's password"
        )
    strange = credentials.keys() - {url.partition("://")[0] for url in urls}
    if strange:
        raise ConfigurationError(
            f"credentials= has a login for {sorted(strange)}, and none of the URLs is of it"
        )


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigurationError(
            f"{name}={value!r} is not known; choose one of {', '.join(map(repr, known))}"
        )
