"""Find out step by step why a stream can't be read: the name, the network, TLS, the login, the topic, one message."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nuncius.alerts import Alert, Origin
from nuncius.brokers.places import parse_place
from nuncius.errors import NunciusError, PacketError, SchemaError, UnreachableError
from nuncius.settings import default_group, find_setting
from nuncius.streams.kafka.asking import Asker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nuncius.alerts.packets import SchemaLike
    from nuncius.brokers.places import Place
    from nuncius.credentials import CredentialsLike
    from nuncius.streams.kafka import Connection


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one step went.

    Parameters
    ----------
    step : str
        ``settings``, ``name``, ``network``, ``TLS``, ``login``, ``topic``, ``group`` or ``message``.
    state : {"ok", "failed", "warning", "not tried"}
        How it went.
    text : str
        What was seen.
    cure : str
        What to do, where it failed.
    """

    step: str
    state: Literal["ok", "failed", "warning", "not tried"]
    text: str
    cure: str = ""


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

    Nothing is changed: no position is kept, and no group joined.

    Parameters
    ----------
    url : str
        As for `nuncius.open_stream`.
    group : str, optional
        The consumer group whose use is tried; by default your own on this machine.
    credentials, ssl_ca_location, config, schema : optional
        As for `nuncius.open_stream`.
    timeout_s : float
        How long each step may take.

    Yields
    ------
    Verdict
        One for each step; after a failure the steps that need it are not tried.
    """
    try:
        place = parse_place(url)
        connection = place.connection(credentials=credentials, ssl_ca_location=ssl_ca_location, config=config)
        reader = place.profile.reader(schema)
    except NunciusError as error:
        yield Verdict("settings", "failed", str(error))
        return
    yield _settings(place, connection)
    patient = _Patient(place, connection, group, timeout_s)
    steps: list[tuple[str, Callable[[], Iterator[Verdict]]]] = [
        ("name", patient.name),
        ("network", patient.network),
        ("TLS", patient.tls),
        ("login", patient.login),
        ("topic", patient.topic),
        ("group", patient.group),
        ("message", lambda: patient.message(reader)),
    ]
    for number, (_, step) in enumerate(steps):
        failed = False
        for verdict in step():
            yield verdict
            failed = failed or verdict.state == "failed"
        if failed:
            rest = steps[number + 1 :]
            yield from (Verdict(name, "not tried", "needs what failed before") for name, _ in rest)
            return


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
        self._reached: list[tuple[str, int]] = []
        self._topics: list[str] = []
        self._is_secured = False
        servers = (server.rpartition(":") for server in place.servers.split(","))
        self._servers = [(host.strip("[]"), int(port)) for host, _, port in servers]

    def name(self) -> Iterator[Verdict]:
        found = 0
        for host, port in self._servers:
            try:
                answers = _resolved(host, port, self._timeout_s)
            except (OSError, UnicodeError) as error:
                yield Verdict(
                    "name",
                    self._one_is_enough(),
                    f"{host}: {getattr(error, 'strerror', None) or error}",
                    "check the spelling and, on another network, VPN and DNS",
                )
                continue
            found += 1
            addresses = sorted({str(answer[4][0]) for answer in answers})
            yield Verdict("name", "ok", f"{host} is {', '.join(addresses[:4])}")
        if not found and len(self._servers) > 1:
            yield Verdict("name", "failed", "no server has an address")

    def network(self) -> Iterator[Verdict]:
        for host, port in self._servers:
            begin = time.monotonic()
            try:
                socket.create_connection((host, port), self._timeout_s).close()
            except OSError as error:
                reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
                yield Verdict(
                    "network",
                    self._one_is_enough(),
                    f"{host}:{port}: {reason}",
                    "refused: nobody listens there, check the port; no answer: a firewall, ask whether this port is open",
                )
                continue
            self._reached.append((host, port))
            yield Verdict(
                "network",
                "ok",
                f"{host}:{port} accepts connections ({1000 * (time.monotonic() - begin):.0f} ms)",
            )
        if not self._reached and len(self._servers) > 1:
            yield Verdict("network", "failed", "no server accepts a connection")

    def tls(self) -> Iterator[Verdict]:
        protocol = str(self._setting("security.protocol") or "PLAINTEXT").upper()
        self._is_secured = protocol.endswith("SSL")
        if not self._is_secured:
            note = " although a password crosses the network" if protocol.startswith("SASL") else ""
            yield Verdict("TLS", "warning" if note else "ok", f"not used by this broker{note}")
            return
        bundle = "ssl.ca.pem" if self._setting("ssl.ca.pem") else self._setting("ssl.ca.location")
        try:
            context = self._context()
        except (OSError, ValueError) as error:
            yield Verdict(
                "TLS",
                "failed",
                f"the certificates to verify with can't be read from {bundle}: {error}",
                "give a file of certificates (PEM) with ssl_ca_location= (--ssl-ca-location)",
            )
            return
        for host, port in self._reached:
            try:
                with (
                    socket.create_connection((host, port), self._timeout_s) as plain,
                    context.wrap_socket(plain, server_hostname=host) as secured,
                ):
                    certificate, version = secured.getpeercert() or {}, secured.version()
            except ssl.SSLCertVerificationError as error:
                why = f"{host}:{port}: {error.verify_message} (verified with {bundle})"
                yield Verdict("TLS", "failed", why, self._certificate_cure(error.verify_message))
            except (OSError, ValueError) as error:
                yield Verdict(
                    "TLS",
                    "failed",
                    f"{host}:{port}: {error}",
                    "is this port one for TLS? A plain one answers so",
                )
            else:
                if not certificate:
                    text = f"{host}:{port}: {version}, and anybody could be at the other end: config= says not to verify"
                    yield Verdict("TLS", "warning", text)
                    continue
                until = certificate.get("notAfter", "an unknown time")
                yield Verdict("TLS", "ok", f"{host}:{port}: {version}, certificate good until {until}")

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
        size = len(last.value or b"")
        try:
            items = reader(last, origin) if last.value is not None else []
            for item in items:
                _ = item.packet
        except SchemaError as error:
            yield Verdict("message", "failed", str(error), "give the schemas with schema= (--schema)")
        except PacketError as error:
            cure = "a stream would put it into its quarantine and go on"
            yield Verdict("message", "warning", f"{origin} ({size} bytes) can't be read: {error}", cure)
        except NunciusError as error:
            yield Verdict("message", "failed", str(error))
        else:
            what = ", ".join(map(repr, items[:1])) or "nothing to hand out"
            kind = "alert" if items and isinstance(items[0], Alert) else "message"
            yield Verdict("message", "ok", f"the last {kind} ({size} bytes): {what}")

    def _certificate_cure(self, reason: str) -> str:
        if "expired" in reason or "not yet valid" in reason:
            return "look at this machine's clock; if it is right, tell the broker's operators"
        if "mismatch" in reason:
            return "use the host name for which the certificate was made"
        hint = f"; {self._place.profile.tls_help}" if self._place.profile.tls_help else ""
        return f"name the authority that signed it with ssl_ca_location= (--ssl-ca-location){hint}"

    def _one_is_enough(self) -> Literal["failed", "warning"]:
        return "failed" if len(self._servers) == 1 else "warning"


def _resolved(host: str, port: int, timeout_s: float) -> list[Any]:
    """Ask for the addresses of a host; the system itself can't be told how long that may take."""
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not found:
        raise TimeoutError(f"no name server answers within {timeout_s:g} s")
    if isinstance(found[0], Exception):
        raise found[0]
    addresses: list[Any] = found[0]
    return addresses
