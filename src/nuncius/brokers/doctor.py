"""Find out step by step why a stream can't be read: the name, the network, TLS, the login, the topic, one message."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius.alerts import Origin
from nuncius.alerts.packets.compiled import decoder
from nuncius.brokers.doctor_steps import Network, Verdict, in_order, verdict_of
from nuncius.brokers.places import parse_place
from nuncius.brokers.subscriptions import is_subscription
from nuncius.errors import NunciusError, UnreachableError
from nuncius.settings import default_group, find_setting
from nuncius.streams.kafka.asking import Asker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nuncius.alerts.packets import SchemaLike
    from nuncius.brokers.places import Place
    from nuncius.credentials import CredentialsLike
    from nuncius.streams.kafka import Connection

__all__ = ["Verdict", "decoding", "diagnose"]


def diagnose(
    url: str,
    *,
    group: str | None = None,
    credentials: CredentialsLike = None,
    ssl_ca_location: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    schema: SchemaLike = None,
    timeout_s: float = 10.0,
) -> Iterator[Verdict]:
    """Try what a stream needs, from the name of the server to one message.

    Nothing is changed: no position is kept, no group joined, no subscription made. Of a Pub/Sub subscription one message is
    borrowed and given back at once, which its dead-letter policy, if it has one, counts as a delivery.

    Parameters
    ----------
    url : str
        As for `nuncius.open_stream`.
    group : str, optional
        The consumer group whose use is tried; by default your own on this machine. For ``pittgoogle://`` the subscription.
    credentials, ssl_ca_location, config, schema : optional
        As for `nuncius.open_stream`.
    timeout_s : float
        How long each step may take.

    Yields
    ------
    Verdict
        One for each step; after a failure the steps that need it are not tried.
    """
    if is_subscription(url):
        from nuncius.brokers.doctor_pubsub import diagnose_subscription

        yield from diagnose_subscription(
            url,
            group=group,
            credentials=credentials,
            ssl_ca_location=ssl_ca_location,
            config=config,
            schema=schema,
            timeout_s=timeout_s,
        )
        return
    try:
        place = parse_place(url)
        connection = place.connection(credentials=credentials, ssl_ca_location=ssl_ca_location, config=config)
        reader = place.profile.reader(schema)
    except NunciusError as error:
        yield Verdict("settings", "failed", str(error))
        return
    yield _settings(place, connection)
    patient = _Patient(place, connection, group, timeout_s)
    yield from in_order(
        [
            ("name", patient.network.name),
            ("network", patient.network.network),
            ("TLS", patient.tls),
            ("login", patient.login),
            ("topic", patient.topic),
            ("group", patient.group),
            ("message", lambda: patient.message(reader)),
        ]
    )


def decoding() -> Verdict:
    """Tell what decodes Avro packets in this installation."""
    if decoder() is not None:
        return Verdict("decoder", "ok", "Avro packets are decoded by nuncius' compiled part")
    return Verdict(
        "decoder",
        "warning",
        "Avro packets are decoded by fastavro, some ten times more slowly than by nuncius' compiled part",
        "with a C compiler: python -m pip install --force-reinstall --no-deps nuncius; and NUNCIUS_COMPILED must not be 0",
    )


def _settings(place: Place, connection: Connection) -> Verdict:
    login = connection.credentials
    who = f"user {login.username!r} from {login.source}" if login else "no login"
    protocol = connection.config.get("security.protocol") or connection.settings.get("security.protocol")
    return Verdict(
        "settings",
        "ok",
        f"{place.profile.title} at {place.servers}, {protocol or 'PLAINTEXT'}, {who}, topics {', '.join(place.topics)}",
    )


class _Patient:
    """One broker, and what is known of it so far."""

    def __init__(self, place: Place, connection: Connection, group: str | None, timeout_s: float) -> None:
        self._place = place
        self._connection = connection
        self._group = group
        self._timeout_s = timeout_s
        self._topics: list[str] = []
        self._is_secured = False
        servers = (server.rpartition(":") for server in place.servers.split(","))
        self.network = Network(
            [(host.strip("[]"), int(port)) for host, _, port in servers], timeout_s, place.profile.tls_help
        )

    def tls(self) -> Iterator[Verdict]:
        protocol = str(self._setting("security.protocol") or "PLAINTEXT").upper()
        self._is_secured = protocol.endswith("SSL")
        if not self._is_secured:
            note = " although a password crosses the network" if protocol.startswith("SASL") else ""
            yield Verdict("TLS", "warning" if note else "ok", f"not used by this broker{note}")
            return
        bundle = "ssl.ca.pem" if self._setting("ssl.ca.pem") else self._setting("ssl.ca.location")
        yield from self.network.tls(self._context, bundle)

    def _context(self) -> ssl.SSLContext:
        """Verify as librdkafka is told to."""
        place, text = self._setting("ssl.ca.location"), self._setting("ssl.ca.pem")
        if text:
            context = ssl.create_default_context(cadata=str(text))
        elif place and Path(place).is_dir():
            context = ssl.create_default_context(capath=str(place))
        else:
            context = ssl.create_default_context(cafile=place and str(place))
        verifies = str(self._setting("enable.ssl.certificate.verification")).lower() != "false"
        names = self._setting("ssl.endpoint.identification.algorithm") != "none"
        context.check_hostname = verifies and names
        if not verifies:
            context.verify_mode = ssl.CERT_NONE
        return context

    def _setting(self, name: str) -> Any:
        return self._connection.config.get(name, self._connection.settings.get(name))

    def login(self) -> Iterator[Verdict]:
        try:
            with Asker(self._connection, timeout_s=self._timeout_s) as asker:
                count = len(asker.topics())
        except NunciusError as error:
            cure = f"the login: {self._place.profile.login_help}"
            if not self._is_secured and isinstance(error, UnreachableError):
                cure = (
                    "it accepts connections and says nothing: it may want TLS (ssl_ca_location=) or a login"
                )
            yield Verdict("login", "failed", str(error), cure)
            return
        who = "accepted" if self._connection.credentials else "not needed"
        yield Verdict("login", "ok", f"{who}; the broker shows {count} topics")

    def topic(self) -> Iterator[Verdict]:
        for topic in self._place.topics:
            try:
                with Asker(self._connection, timeout_s=self._timeout_s) as asker:
                    marks = asker.watermarks([topic])
            except NunciusError as error:
                yield Verdict(
                    "topic", "failed", str(error), f"topics here: {self._place.profile.topics_help}"
                )
                continue
            self._topics.append(topic)
            held = sum(end - first for first, end in marks.values())
            yield Verdict("topic", "ok", f"{topic}: {len(marks)} partitions, {held} messages there now")

    def group(self) -> Iterator[Verdict]:
        login = self._connection.credentials
        try:
            name = self._group or find_setting(self._place.profile.name, "group")
            if name is None:
                name = self._place.profile.group(default_group(), None if login is None else login.username)
            with Asker(self._connection, group=name, timeout_s=self._timeout_s) as asker:
                lags = asker.lag(self._topics)
        except NunciusError as error:
            yield Verdict("group", "failed", str(error), "name another group with group= (--group)")
            return
        waiting = sum(lag.waiting for lag in lags.values())
        kept = any(lag.committed is not None for lag in lags.values())
        expired = sum(lag.expired for lag in lags.values())
        yield Verdict(
            "group", "ok", f"{name}: {'a position is kept' if kept else 'new'}, {waiting} messages wait"
        )
        if expired:
            yield Verdict(
                "group", "warning", f"{expired} messages expired on the broker before this group read them"
            )

    def message(self, reader: Any) -> Iterator[Verdict]:
        try:
            with Asker(self._connection, timeout_s=self._timeout_s) as asker:
                last = asker.last_message(self._topics)
        except NunciusError as error:
            yield Verdict("message", "failed", str(error))
            return
        if last is None:
            yield Verdict("message", "warning", "the topics are empty now, so none could be read")
            return
        origin = Origin(
            "kafka", last.topic, last.partition, last.offset, key=last.key, broker=self._connection.broker
        )
        yield verdict_of(last, origin, reader, "last")
