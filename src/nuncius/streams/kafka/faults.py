"""Kafka's errors in our words, with the cure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nuncius.errors import (
    ForbiddenError,
    LoginError,
    NotFoundError,
    ServerError,
    TlsError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuncius.errors import NunciusError
    from nuncius.streams.kafka.connection import Connection

# What passes by itself while brokers restart and leaders and coordinators move: LEADER_NOT_AVAILABLE,
# NOT_LEADER_FOR_PARTITION, BROKER_NOT_AVAILABLE, REPLICA_NOT_AVAILABLE, NETWORK_EXCEPTION, COORDINATOR_LOAD_IN_PROGRESS,
# COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, REBALANCE_IN_PROGRESS, KAFKA_STORAGE_ERROR, FENCED_LEADER_EPOCH,
# UNKNOWN_LEADER_EPOCH, OFFSET_NOT_AVAILABLE, UNSTABLE_OFFSET_COMMIT.
_PASSING = frozenset({5, 6, 8, 9, 13, 14, 15, 16, 27, 56, 74, 76, 78, 88})

# What librdkafka says where it gets no token, and the answers that mean a refused login (RFC 6749, section 5.2): all
# else is trouble of the network or of the token endpoint, and passes.
_NO_TOKEN = "Failed to acquire SASL OAUTHBEARER token"  # noqa: S105 - what librdkafka says
_REFUSALS = ("invalid_client", "unauthorized_client", "invalid_grant", "invalid_request", "invalid_scope",
             "unsupported_grant_type", "access_denied")  # fmt: skip
# The connection broke while we logged in, as it does when a broker restarts: nobody refused anything.
_BROKEN = ("Local: Broker transport failure", "Local: Timed out", "Disconnected")


@dataclass(frozen=True, slots=True)
class Translator:
    """Turns the errors of one client into ours.

    Parameters
    ----------
    connection : Connection
        Where the client is connected to.
    group : str, optional
        Its consumer group.
    action : str
        What it does: ``read`` or ``write``.
    """

    connection: Connection
    group: str | None = None
    action: str = "read"

    def typed(self, error: Any, topic: Any = None) -> NunciusError:
        """Return the error that says what is wrong and what to do."""
        from confluent_kafka import KafkaError

        servers, credentials = self.connection.servers, self.connection.credentials
        facts: dict[str, Any] = {"service": self.connection.service, "url": self.connection.url}
        text, code = error.str(), error.code()
        who = f"user {credentials.username!r}" if credentials else "no user name"
        if code in {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}:
            if _NO_TOKEN in text and not any(reason in text for reason in _REFUSALS):
                return UnreachableError(
                    f"there is no token for {servers} ({who}): {text}{self.about_tls}", **facts
                )
            if any(reason in text for reason in _BROKEN):
                return UnreachableError(f"{servers} broke off the login ({who}): {text}", **facts)
            came = f", password from {credentials.source}" if credentials else ""
            return LoginError(
                f"{servers} refuses the login ({who}{came}): {text}. {self._login_cure}",
                **facts,
            )
        if code == KafkaError._SSL:
            bundle = self.setting("ssl.ca.location") or "the system's"
            return TlsError(
                f"the connection to {servers} can't be secured (certificates: {bundle}): {text}. "
                "ssl_ca_location=FILE (or ssl.ca.location in config=) names the authority that signed the broker's certificate; "
                "`nuncius doctor URL` tells whether it is that, the host name or the date"
                f"{self.about_tls}{f'. {self.connection.hint}' if self.connection.hint else ''}",
                **facts,
            )
        if code in {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}:
            return ForbiddenError(
                f"{servers} does not let {who} {self.action} {topic or 'this topic'}: {text}", **facts
            )
        if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return ForbiddenError(
                f"{servers} does not let {who} use the consumer group {self.group!r}: {text}. Some brokers want "
                "a group name that begins with the user's; name one with group=, or read without one (group=False)",
                **facts,
            )
        if code in {
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError._UNKNOWN_TOPIC,
            KafkaError._UNKNOWN_PARTITION,
        }:
            return NotFoundError(f"{servers} has no topic {topic or 'of this name'}: {text}", **facts)
        if code in {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE,
                    KafkaError._TIMED_OUT_QUEUE, KafkaError.REQUEST_TIMED_OUT, KafkaError._MAX_POLL_EXCEEDED,
                    KafkaError._MSG_TIMED_OUT}:  # fmt: skip
            return UnreachableError(f"{servers} does not answer: {text}", **facts)
        if error.retriable() or code in _PASSING:
            return UnreachableError(f"{servers} is not ready: {text}", **facts)
        return ServerError(f"{servers} answered {error.name()}: {text}", **facts)

    def is_about_token(self, error: Any) -> bool:
        """Tell whether a broker refuses a token, and not the token endpoint the login."""
        mechanism = str(self.setting("sasl.mechanism") or self.setting("sasl.mechanisms"))
        return mechanism == "OAUTHBEARER" and _NO_TOKEN not in error.str()

    def unknown_topic(self, topic: str, known: Iterable[str]) -> NotFoundError:
        """Return the error for a topic that a broker doesn't show, with those that are close."""
        prefix = self.connection.prefix
        topic = topic.removeprefix(prefix)
        names = [name.removeprefix(prefix) for name in known if not name.startswith("__")]
        close = difflib.get_close_matches(topic, names, n=5, cutoff=0.5)
        hint = (
            f"Close to it: {', '.join(close)}"
            if close
            else f"It has {len(names)} topics, none with such a name"
        )
        return NotFoundError(
            f"the broker {self.connection.servers} has no topic {topic!r}. {hint}. (A topic that your login may not "
            f"{self.action} looks the same.)",
            service=self.connection.service,
            url=self.connection.url,
            position=topic,
        )

    def setting(self, name: str) -> Any:
        """Return one of librdkafka's settings, as it is in force."""
        return self.connection.config.get(name, self.connection.settings.get(name))

    @property
    def about_tls(self) -> str:
        """What to know where a login meets a server of which nothing is known, and which may have no TLS."""
        if url := self.setting("sasl.oauthbearer.token.endpoint.url"):
            return f" (its tokens come from {url}, which may be what is in trouble)"
        plain = self.connection.broker is None and self.connection.credentials is not None
        if not plain or self.setting("security.protocol") != "SASL_SSL":
            return ""
        return " (a login implies TLS here; for a broker without it: config={'security.protocol': 'SASL_PLAINTEXT'})"

    @property
    def _login_cure(self) -> str:
        if self.connection.broker is None:
            return "Check the credentials and, in config=, sasl.mechanism and security.protocol"
        return f"Check them for a copying slip; `nuncius login {self.connection.broker}` stores new ones"
