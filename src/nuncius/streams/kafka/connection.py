"""Where a Kafka cluster is, how to log in, and the settings that we use.

Source of the settings: librdkafka's CONFIGURATION.md, and measurements on alert-sized messages (docs/explanation/
delivery.md).
"""

from __future__ import annotations

import secrets
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius._core.certificates import find_certificates
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius.credentials import Credentials

COMMON: dict[str, Any] = {
    "client.id": "nuncius",
    "log_level": 2,  # what matters of the rest comes as an error, which we raise or keep in `stats`
}
"""What all our clients set; `config=` overrides each."""

DEFAULTS: dict[str, Any] = {
    **COMMON,
    "auto.offset.reset": "earliest",
    # How often what is finished is committed: so much may come again after a crash.
    "auto.commit.interval.ms": 200,
    "session.timeout.ms": 10000,
    "partition.assignment.strategy": "cooperative-sticky",
    # Big alerts fill the local queue, and the fetcher then sleeps this long: the default of 1 s costs most of the speed.
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 10,
    "queued.max.messages.kbytes": 65536,
    "topic.metadata.refresh.interval.ms": 60000,
}
"""What differs from librdkafka's defaults in a stream; `config=` overrides each."""

PROMISES: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "allow.auto.create.topics": False,
}
"""Settings that delivery depends on; `config=` can't change them."""

_GIVEN_ELSEWHERE = {"bootstrap.servers": "the URL", "group.id": "group="}
_CLASSIC_GROUP_ONLY = ("session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy")


@dataclass(frozen=True, slots=True)
class Security:
    """How a broker wants to be spoken to.

    Parameters
    ----------
    mechanism : str, optional
        How to log in: ``PLAIN``, ``SCRAM-SHA-256``, ``SCRAM-SHA-512`` or ``OAUTHBEARER``; None where nobody does.
    tls : bool
        Whether the connection is encrypted, and the broker's certificate verified.
    token_url : str, optional
        Where ``OAUTHBEARER`` gets its tokens (OpenID Connect, client credentials); they are renewed as long as the
        connection lasts.
    """

    mechanism: str | None = "SCRAM-SHA-512"
    tls: bool = True
    token_url: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """A Kafka cluster and how to speak to it.

    Parameters
    ----------
    servers : str
        ``host:port[,host:port]``.
    settings : mapping
        librdkafka's settings, the login included.
    credentials : Credentials, optional
        The login, for messages.
    broker : str, optional
        The name of the broker's profile; None for a plain server.
    hint : str
        What else to say where TLS fails.
    prefix : str
        What the broker's topics begin with, and its users leave out.
    config : mapping
        What of the settings the user gave.
    """

    servers: str
    settings: Mapping[str, Any] = field(repr=False)
    credentials: Credentials | None = None
    broker: str | None = None
    hint: str = ""
    prefix: str = ""
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def service(self) -> str:
        """What errors call it."""
        return self.broker or "kafka"

    @property
    def url(self) -> str:
        """Where it is, without any secret."""
        return f"kafka://{self.servers}"

    def consumer_settings(self, group: str | None) -> dict[str, Any]:
        """Return the settings of a consumer under which nothing is lost; a warning names those that were not taken."""
        merged = {**DEFAULTS, **self.settings, **self.config}
        for name, value in PROMISES.items():
            if name in self.config and self.config[name] != value:
                warnings.warn(
                    f"config={{{name!r}: {self.config[name]!r}}} is not used: delivery without loss depends on {value!r}",
                    stacklevel=6,
                )
            merged[name] = value
        for name, place in _GIVEN_ELSEWHERE.items():
            if name in self.config:
                warnings.warn(f"config={{{name!r}: …}} is not used: {place} says it", stacklevel=6)
        if (
            merged.get("group.protocol") == "consumer"
        ):  # the broker's side decides these in the newer protocol
            for name in _CLASSIC_GROUP_ONLY:
                if name not in self.config:
                    merged.pop(name, None)
        merged["bootstrap.servers"] = self.servers
        # librdkafka wants a group name even where none is used.
        merged["group.id"] = group or f"nuncius-no-group-{secrets.token_hex(8)}"
        return merged

    def asking_settings(self, group: str | None = None) -> dict[str, Any]:
        """Return the settings of a client that only asks, and takes part in no group."""
        return {
            **COMMON,
            **self.settings,
            **self.config,
            "bootstrap.servers": self.servers,
            "group.id": group or f"nuncius-no-group-{secrets.token_hex(8)}",
            "enable.auto.commit": False,
            "allow.auto.create.topics": False,
        }

    def publisher_settings(self) -> dict[str, Any]:
        """Return the settings of a producer whose messages arrive once each, or are reported."""
        return {
            **COMMON,
            "message.max.bytes": 100_000_000,
            "compression.type": "zstd",
            "linger.ms": 5,
            **self.settings,
            **self.config,
            "bootstrap.servers": self.servers,
            "enable.idempotence": True,
            "acks": "all",
        }


def connect(
    servers: str,
    security: Security,
    *,
    credentials: Credentials | None = None,
    config: Mapping[str, Any] | None = None,
    ssl_ca_location: str | Path | None = None,
    broker: str | None = None,
    hint: str = "",
    prefix: str = "",
) -> Connection:
    """Describe a connection. Nothing is sent.

    Raises
    ------
    ConfigurationError
        If the file of certificates doesn't exist.
    TlsError
        If no certificates are found to verify the broker with.
    """
    settings: dict[str, Any] = {}
    logs_in = credentials is not None or "sasl.username" in (config or {})
    mechanism = security.mechanism if logs_in else None
    tls = security.tls or ssl_ca_location is not None
    if mechanism is not None:
        settings["security.protocol"] = "SASL_SSL" if tls else "SASL_PLAINTEXT"
        settings["sasl.mechanism"] = mechanism
    elif tls:
        settings["security.protocol"] = "SSL"
    if mechanism == "OAUTHBEARER" and credentials is not None:
        settings |= {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": credentials.username,
            "sasl.oauthbearer.client.secret": credentials.reveal(),
            "sasl.oauthbearer.token.endpoint.url": security.token_url or "",
        }
    elif credentials is not None and mechanism is not None:
        settings |= {"sasl.username": credentials.username, "sasl.password": credentials.reveal()}
    if tls and not (config or {}).keys() & {"ssl.ca.location", "ssl.ca.pem"}:
        settings["ssl.ca.location"] = str(_certificates(ssl_ca_location))
        if mechanism == "OAUTHBEARER":  # the token comes over HTTPS, which has a setting of its own
            settings["https.ca.location"] = settings["ssl.ca.location"]
    return Connection(servers, settings, credentials, broker, hint, prefix, dict(config or {}))


def _certificates(given: str | Path | None) -> Path:
    if given is None:
        return find_certificates()
    path = Path(given).expanduser()
    if not path.exists():
        raise ConfigurationError(f"ssl_ca_location={str(given)!r}: there is no such file", position=str(path))
    return path
