"""What the URL of a stream means: which broker, which servers, which topics, and how to log in there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from nuncius.brokers.known import names, profile_of
from nuncius.brokers.pubsub import PubSub
from nuncius.errors import ConfigurationError, LoginError, UnsupportedError
from nuncius.settings import find_setting
from nuncius.streams.kafka import connect

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nuncius.brokers.profile import Profile
    from nuncius.credentials import CredentialsLike
    from nuncius.streams.kafka import Connection

_WITH_PORT = re.compile(r":\d+$")


@dataclass(frozen=True, slots=True)
class Place:
    """A Kafka cluster of a broker, and topics in it.

    Parameters
    ----------
    profile : Profile
        The broker.
    servers : str
        ``host:port[,host:port]``.
    topics : list of str
        As Kafka names them; ``{date}`` stands for the nights.
    """

    profile: Profile
    servers: str
    topics: list[str]

    @property
    def host(self) -> str:
        """The first server's name, for finding credentials."""
        return _WITH_PORT.sub("", self.servers.split(",")[0])

    def connection(
        self,
        *,
        credentials: CredentialsLike = None,
        config: Mapping[str, Any] | None = None,
        ssl_ca_location: str | Path | None = None,
    ) -> Connection:
        """Say how to connect. Nothing is sent.

        Raises
        ------
        LoginError
            If the broker wants a login and there is none.
        ConfigurationError
            If what the settings say can't work.
        """
        profile = self.profile
        found = profile.credentials(credentials, self.host)
        if found is None and profile.login_required and not _logs_in(config):
            variables = f"NUNCIUS_{profile.name.upper()}_USERNAME and NUNCIUS_{profile.name.upper()}_PASSWORD"
            raise LoginError(
                f"{profile.title} lets nobody in without a login ({profile.login_help}). Run `nuncius login "
                f"{profile.name}` once, set {variables}, or give credentials=(user, password)",
                service=profile.name,
            )
        security = profile.security(self.servers)
        if found is None and profile.name == "kafka":
            security = type(security)(None, tls=False)  # of a plain server nothing is known: neither is TLS
        return connect(
            self.servers,
            security,
            credentials=found,
            config=config,
            ssl_ca_location=ssl_ca_location or find_setting(profile.name, "ssl_ca_location"),
            broker=None if profile.name == "kafka" else profile.name,
            hint=profile.tls_help,
            prefix=profile.prefix,
        )


def parse_place(url: str, *, topics_needed: bool = True) -> Place:
    """Understand the URL of a stream at a Kafka broker.

    Parameters
    ----------
    url : str
        ``SCHEME://HOST:PORT/TOPIC[,TOPIC]``, or ``SCHEME://TOPIC[,TOPIC]`` for a broker whose servers are known.
    topics_needed : bool
        Whether a URL without topics makes no sense.

    Raises
    ------
    ConfigurationError
        If it is none; what may be a secret is not repeated.
    UnsupportedError
        If the broker is not read over Kafka.
    """
    scheme, _, rest = url.partition("://")
    profile = profile_of(scheme) if rest or not topics_needed else None
    if profile is None or "://" not in url:
        raise _no_stream(url)
    if "@" in rest:  # wherever: a password may hold a slash, and no topic holds an @
        prefix = f"NUNCIUS_{scheme.upper()}"
        raise ConfigurationError(
            f"no user name or password in a URL, please: it would be shown in logs. Write {scheme}://"
            f"{rest.rpartition('@')[2]} and give credentials=(username, password), or set {prefix}_USERNAME and "
            f"{prefix}_PASSWORD"
        )
    if isinstance(profile, PubSub):
        raise UnsupportedError(
            f"{scheme}:// is read over Google Pub/Sub and not over Kafka, and can't be used here; see `nuncius subscription`",
            service=scheme,
        )
    servers, slash, path = rest.partition("/")
    default = find_setting(scheme, "servers") or profile.servers
    if not slash and default is not None and not _WITH_PORT.search(servers):
        servers, path = "", servers  # antares://extragalactic
    servers = servers or default or ""
    if "@" in servers:
        raise ConfigurationError(
            f"no user name or password in the servers of {scheme}, please: they are shown in logs"
        )
    topics = [profile.topic(unquote(topic).strip()) for topic in path.split(",") if topic.strip()]
    if not servers or (topics_needed and not topics):
        example = f"{scheme}://TOPIC[,TOPIC]" if default else f"{scheme}://host:port/topic[,topic]"
        raise ConfigurationError(
            f"{url!r} lacks {_missing(profile.name, servers, slash)}: write {example}"
            + (
                f". Topics of {profile.title}: {profile.topics_help}"
                if servers and profile.topics_help
                else ""
            ),
            url=url,
        )
    named = (
        server if _WITH_PORT.search(server) else f"{server}:{profile.port}" for server in servers.split(",")
    )
    return Place(profile, ",".join(named), topics)


def _missing(scheme: str, servers: str, slash: str) -> str:
    keep = f"(`nuncius login {scheme} --servers HOST:PORT` keeps it once and for all)"
    if not servers:
        return f"the server {keep}"
    # What stands alone may be the one or the other.
    return "its topic" if slash or _WITH_PORT.search(servers) else f"its topic, or the server {keep}"


def _logs_in(config: Mapping[str, Any] | None) -> bool:
    """Tell whether librdkafka's own settings say how to log in, or that nobody does here."""
    return any(name.startswith("sasl.") or name == "security.protocol" for name in config or {})


def _no_stream(url: str) -> ConfigurationError:
    scheme, _, rest = url.partition("://")
    shown = re.sub(r"[^/]*.*@", "***@", url)  # what stands before an @ may be a password
    hint = ""
    if not rest and re.fullmatch(r"[\w.-]+:\d+/.+", shown):
        hint = f" Did you mean kafka://{shown}?"
    elif "@" not in url and profile_of(name := scheme.lower()) is not None:
        hint = f" Did you mean {name}://{rest or 'TOPIC'}?"
    elif scheme == "replay":
        hint = " Files are read by open_stream and `nuncius stream` alone: there is no broker to ask."
    others = ", ".join(f"{name}://" for name in names() if name != "kafka")
    return ConfigurationError(
        f"{shown!r} is not the URL of a stream. Known are kafka://host:port/topic[,topic], replay:///path and the "
        f"brokers {others} (`nuncius brokers` tells more).{hint}",
        url=shown,
    )
