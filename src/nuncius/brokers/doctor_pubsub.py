"""Find out step by step why a Pub/Sub stream can't be read: the login, the subscription, one message."""

from __future__ import annotations

import os
import pkgutil
import ssl
import threading
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nuncius.alerts import Origin
from nuncius.brokers.doctor_steps import Network, Verdict, in_order, verdict_of, within
from nuncius.brokers.subscriptions import parse_address
from nuncius.errors import ForbiddenError, MissingExtraError, NotFoundError, NunciusError, UnreachableError
from nuncius.streams.pubsub import Client, check_config
from nuncius.streams.pubsub.subscriptions import describe, topics
from nuncius.streams.pubsub.transport import message_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nuncius.alerts.packets import SchemaLike
    from nuncius.brokers.subscriptions import Address
    from nuncius.streams.pubsub import Server, Subscription
    from nuncius.streams.transport import Message, Reader

_LEASE_S = 10  # the shortest: so long a message is away if we die before we give it back
_ROOTS_VARIABLE = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
_ROOTS = "_cython/_credentials/roots.pem"  # in grpcio
_DELETED_TOPIC = "_deleted-topic_"


def diagnose_subscription(
    url: str,
    *,
    group: str | None,
    credentials: Any,
    ssl_ca_location: str | Path | None,
    config: Mapping[str, Any] | None,
    schema: SchemaLike,
    timeout_s: float,
) -> Iterator[Verdict]:
    """Try what a Pub/Sub stream needs; see `nuncius.brokers.diagnose`."""
    try:
        address = parse_address(url)
        check_config(config)
        reader = address.profile.reader(schema)
        # Looking for a login may ask the metadata server of a cloud machine.
        server = within(timeout_s, lambda: address.log_in(credentials, ssl_ca_location))
        path, topic = address.subscription(group, server)
    except NunciusError as error:
        yield Verdict("settings", "failed", str(error))
        return
    except TimeoutError as error:
        yield Verdict("settings", "failed", f"looking for a login: {error}", f"name one: {_logins(address)}")
        return
    yield Verdict("settings", "ok", _settings(address, server, path, topic))
    patient = _Patient(address, server, path, topic, timeout_s)
    try:
        yield from in_order(
            [
                ("name", patient.network.name),
                ("network", patient.network.network),
                ("TLS", patient.tls),
                ("login", patient.login),
                ("subscription", patient.subscription),
                ("message", lambda: patient.message(reader)),
            ]
        )
    finally:
        patient.close()


def _settings(address: Address, server: Server, path: str, topic: str | None) -> str:
    protocol = "an emulator, without TLS" if server.is_emulator else "TLS"
    of = f" of {topic}" if topic else ""
    return f"{address.profile.title} at {server.address} ({protocol}), {server.who}, subscription {path}{of}"


def _logins(address: Address) -> str:
    return address.profile.login_help


class _Patient:
    """One subscription, and what is known of it so far."""

    def __init__(
        self, address: Address, server: Server, path: str, topic: str | None, timeout_s: float
    ) -> None:
        self._address = address
        self._server = server
        self._path = path
        self._topic = topic
        self._timeout_s = timeout_s
        self._client: Client | None = None
        self._found: Subscription | NotFoundError | ForbiddenError | None = None
        host, _, port = server.address.rpartition(":")
        place = (host.strip("[]"), int(port))
        self._proxy = None if server.is_emulator else _proxy(place[0])
        self.network = Network([self._proxy or place], timeout_s)

    def close(self) -> None:
        """Leave."""
        if self._client is not None:
            self._client.close()

    def tls(self) -> Iterator[Verdict]:
        if self._server.is_emulator:
            yield Verdict("TLS", "ok", "not used by an emulator")
        elif self._proxy is not None:
            text = "the connection goes through a proxy, and is secured behind it; the next step tells"
            yield Verdict("TLS", "not tried", text)
        else:
            file = self._server.ca_file or os.environ.get(_ROOTS_VARIABLE)
            yield from self.network.tls(lambda: _context(file), file or "the certificates of gRPC")

    def login(self) -> Iterator[Verdict]:
        """Get a token, and use it."""
        login = self._server.login
        try:
            if login is not None:
                within(self._timeout_s, login.check)
            self._client = Client(self._server)
            self._found = describe(self._client, self._path, self._timeout_s)
        except (NotFoundError, ForbiddenError) as error:
            self._found = error
        except TimeoutError as error:
            yield Verdict(
                "login", "failed", f"no token ({self._server.who}): {error}", "ask for tokens: a firewall?"
            )
            return
        except NunciusError as error:
            yield Verdict("login", "failed", str(error), self._login_cure(error))
            return
        yield Verdict(
            "login", "ok", "not needed by an emulator" if login is None else f"accepted: {login.who}"
        )

    def _login_cure(self, error: NunciusError) -> str:
        if isinstance(error, MissingExtraError):
            return "install it, and ask again"
        if self._server.is_emulator and isinstance(error, UnreachableError):
            return "it accepts connections: is it a Pub/Sub server? `nuncius sandbox pubsub` runs one"
        return f"the login: {_logins(self._address)}"

    def subscription(self) -> Iterator[Verdict]:
        """Look at the subscription; where streams make it themselves, at the topic."""
        found, touch = self._found, "nuncius subscription touch"
        if isinstance(found, ForbiddenError):
            text = f"we may not look at it, and perhaps read it all the same: {found}"
            yield Verdict("subscription", "warning", text)
        elif isinstance(found, NotFoundError):
            if self._topic is None:
                cure = f"check the names, or make it: `{touch} URL --topic TOPIC`"
                yield Verdict("subscription", "failed", str(found), cure)
            else:
                yield self._to_be_made(self._topic)
        elif found is not None:
            yield self._as_it_is(found)

    def _as_it_is(self, found: Subscription) -> Verdict:
        if found.topic == _DELETED_TOPIC:
            cure = "delete it (`nuncius subscription delete`) and make it anew on another topic"
            return Verdict(
                "subscription", "failed", f"{found.path}: its topic was deleted, nothing comes any more", cure
            )
        if self._topic is not None and found.topic != self._topic:
            cure = (
                "name another subscription with group= (--group), or read it as pubsub://PROJECT/SUBSCRIPTION"
            )
            return Verdict(
                "subscription", "failed", f"{found.path} is of {found.topic}, not of {self._topic}", cure
            )
        passes = f"only messages with {found.attribute_filter}" if found.attribute_filter else "all messages"
        kept = "messages" if found.retain_acknowledged else "messages that are not acknowledged"
        days = f"{found.retention_s / 86_400:g} days"
        return Verdict(
            "subscription", "ok", f"{found.path} of {found.topic}: {passes}; {kept} are kept for {days}"
        )

    def _to_be_made(self, topic: str) -> Verdict:
        """Judge a subscription that the first stream will make, by the topic that it needs."""
        client = self._connected
        _, project, _, name = topic.split("/")
        try:
            client.call("GetTopic", topic, self._timeout_s, action="look", topic=topic)
        except NotFoundError:
            try:
                known = topics(client, project, self._timeout_s)
            except NunciusError:
                known = []
            help_ = f"there are {', '.join(known[:12])}" if known else self._address.profile.topics_help
            return Verdict("subscription", "failed", f"{project} has no topic {name!r}", f"topics: {help_}")
        except ForbiddenError as error:
            text = f"there is no {self._path} yet, and we may not look at its topic: {error}"
            return Verdict("subscription", "warning", text, "whether it can be made, a stream will tell")
        except NunciusError as error:
            return Verdict("subscription", "failed", str(error))
        text = f"there is no {self._path} yet; the first stream makes it, of {topic}, and what comes later is in it"
        return Verdict("subscription", "warning", text, "`nuncius subscription touch` makes it now")

    def message(self, reader: Reader) -> Iterator[Verdict]:
        """Borrow one message."""
        if isinstance(self._found, NotFoundError):
            yield Verdict("message", "not tried", "needs a subscription")
            return
        wait_s = min(self._timeout_s, self._address.quiet_s)
        try:
            message = self._borrow(wait_s)
        except NunciusError as error:
            yield Verdict("message", "failed", str(error))
            return
        if message is None:
            text = f"none came within {wait_s:g} s: nothing waits, or another reader has it"
            yield Verdict("message", "warning", text)
            return
        name = self._address.profile.name
        origin = Origin(
            "pubsub",
            message.topic,
            0,
            message.offset,
            key=message.key,
            headers=tuple(message.headers or ()),
            broker=None if name == "pubsub" else name,
        )
        verdict = verdict_of(message, origin, reader, "next")
        yield replace(verdict, text=f"{verdict.text}; it was given back")

    def _borrow(self, wait_s: float) -> Message | None:
        """Take a message as a stream would, and give it back."""
        import grpc

        client, received = self._connected, []
        asked = client.types.StreamingPullRequest.pb()(
            subscription=self._path, stream_ack_deadline_seconds=_LEASE_S, max_outstanding_messages=1
        )
        pull = client.pull(asked)
        patience = threading.Timer(wait_s, pull.end)
        patience.daemon = True
        patience.start()
        try:
            for response in pull:
                received.extend(response.received_messages)
                if received:
                    pull.end()
        except grpc.RpcError as error:
            raise client.fault(error, self._path) from error
        finally:
            patience.cancel()
        if not received:
            return None
        client.call(
            "ModifyAckDeadline",
            self._path,
            self._timeout_s,
            subscription=self._path,
            ack_ids=[item.ack_id for item in received],
            ack_deadline_seconds=0,
        )
        return message_of(received[0].message, self._path)

    @property
    def _connected(self) -> Client:
        assert self._client is not None, "the login comes first"
        return self._client


def _context(file: Path | str | None) -> ssl.SSLContext:
    """Verify as gRPC does, which brings its own certificates of authorities."""
    bundled = None if file else _bundled_roots()
    context = ssl.create_default_context(cafile=file and str(file), cadata=bundled)
    context.set_alpn_protocols(["h2"])
    return context


def _bundled_roots() -> str | None:
    try:
        found = pkgutil.get_data("grpc", _ROOTS)
    except OSError:  # some distributions let it use the system's
        return None
    return None if found is None else found.decode("ascii", "ignore")


def _proxy(host: str) -> tuple[str, int] | None:
    """Return the proxy through which gRPC goes to a host, by the variables that gRPC looks at."""
    found = next(
        (value for name in ("grpc_proxy", "https_proxy", "http_proxy") if (value := os.environ.get(name))), ""
    )
    if not found or urllib.request.proxy_bypass_environment(host):  # type: ignore[attr-defined]
        return None
    parts = urlsplit(found if "//" in found else f"//{found}")
    return (parts.hostname, parts.port or 80) if parts.hostname else None
