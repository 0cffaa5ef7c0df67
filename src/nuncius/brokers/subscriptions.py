"""What the URL of a Pub/Sub stream means; and making, looking at and deleting subscriptions."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from nuncius.brokers.known import profile_of
from nuncius.brokers.pubsub import PubSub
from nuncius.errors import ConfigurationError, LoginError
from nuncius.settings import find_setting
from nuncius.streams.pubsub.client import GOOGLE, Client, Server
from nuncius.streams.pubsub.login import find_google_login
from nuncius.streams.pubsub.subscriptions import delete, patiently, seek, touch
from nuncius.streams.pubsub.subscriptions import topics as topics_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.streams.bounds import Start
    from nuncius.streams.pubsub.login import GoogleLike
    from nuncius.streams.pubsub.subscriptions import Subscription

T = TypeVar("T")

_EMULATOR = "PUBSUB_EMULATOR_HOST"
_PROJECT = "GOOGLE_CLOUD_PROJECT"
_SANDBOX_PROJECT = "nuncius-sandbox"
_GOOGLES = ".googleapis.com"
_WITH_PORT = re.compile(r":\d+$")
_LAST_PORT = 65_535
# https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names
_NAME = re.compile(r"[A-Za-z][\w.~+%-]{2,254}", re.ASCII)
_QUIET_S, _EMULATOR_QUIET_S = 10.0, 2.0


@dataclass(frozen=True, slots=True)
class Address:
    """What the URL of a Pub/Sub stream names.

    Parameters
    ----------
    profile : PubSub
        The broker.
    server : str
        ``host:port``.
    is_emulator : bool
        Whether the server wants no login and has no TLS.
    names : tuple of str
        What comes after the server, part by part.
    """

    profile: PubSub
    server: str
    is_emulator: bool
    names: tuple[str, ...]

    @property
    def quiet_s(self) -> float:
        """Nothing for so long is the end of what is there."""
        return _EMULATOR_QUIET_S if self.is_emulator else _QUIET_S

    def log_in(self, credentials: Any = None, ssl_ca_location: str | Path | None = None) -> Server:
        """Find the login, and say how to connect. Nothing is sent to the server.

        Raises
        ------
        LoginError
            If there is none, or none that may be sent to this server.
        ConfigurationError
            If what is given is none.
        """
        if self.is_open(credentials, ssl_ca_location):
            return Server(self.server)
        if credentials is None and not self._may_have_login:
            raise LoginError(
                f"{self.server} is none of Google's servers, so your Google login is not sent there unasked. If it is to "
                f'have it, give credentials=, or write servers = "{self.server}" under [{self.profile.name}] in config.toml',
                service=self.profile.name,
            )
        ca_file = self._ca_file(ssl_ca_location)
        return Server(
            self.server, find_google_login(credentials), Path(ca_file).expanduser() if ca_file else None
        )

    def is_open(self, credentials: Any = None, ssl_ca_location: str | Path | None = None) -> bool:
        """Tell whether it is spoken to without TLS and without a login: an emulator of which nothing else is said."""
        return self.is_emulator and credentials is None and self._ca_file(ssl_ca_location) is None

    def _ca_file(self, given: str | Path | None) -> str | Path | None:
        if given is None and self.server == os.environ.get(_EMULATOR):
            return None  # what is kept is for another server: the variable is for this run
        return given or find_setting(self.profile.name, "ssl_ca_location")

    @property
    def _may_have_login(self) -> bool:
        """Whether a login that was not given for this server may be sent to it: whoever gets a token can use it."""
        host = _WITH_PORT.sub("", self.server)
        named = find_setting(self.profile.name, "servers")
        return host.endswith(_GOOGLES) or _is_loopback(self.server) or self.server == named

    def subscription(self, group: str | bool | None, server: Server) -> tuple[str, str | None]:
        """Return the paths of the subscription, and of the topic that it is made for if it is missing.

        Raises
        ------
        ConfigurationError
            If the URL or `group` says something else, or the project is not known.
        """
        if not self.profile.topic_projects:
            if group is not None:
                raise ConfigurationError(
                    "a pubsub:// URL names the subscription itself: leave group= out", position="group"
                )
            project, name = self.names
            return _path(project, "subscriptions", name), None
        topic_project, topic = self.topic()
        wanted = group or find_setting(self.profile.name, "group") or topic
        name = f"nuncius-{secrets.token_hex(8)}" if group is False else str(wanted)
        return _path(self.project(server), "subscriptions", name), _path(topic_project, "topics", topic)

    def topic(self) -> tuple[str, str]:
        """Return the project and the name of the topic."""
        *project, topic = self.names
        places = self.profile.topic_projects
        return (project[0] if project else next(at for start, at in places if topic.startswith(start))), topic

    def project(self, server: Server) -> str:
        """Return the project in which subscriptions are made: the user's.

        Raises
        ------
        ConfigurationError
            If nobody says which.
        """
        # As everywhere, the environment wins over the file; the variable of this broker alone over that of all.
        found = (
            os.environ.get(f"NUNCIUS_{self.profile.name.upper()}_PROJECT")
            or os.environ.get(_PROJECT)
            or find_setting(self.profile.name, "project")
            or (server.login.project if server.login is not None else _SANDBOX_PROJECT)
        )
        if not found:
            raise ConfigurationError(
                f"{self.profile.title} wants a subscription in a Google Cloud project of your own, and none is named. Set "
                f'{_PROJECT}, or write project = "…" under [{self.profile.name}] in config.toml',
                service=self.profile.name,
            )
        return found


def is_subscription(url: str) -> bool:
    """Tell whether the URL of a stream is one of Pub/Sub."""
    scheme, mark, _ = url.partition("://")
    return bool(mark) and isinstance(profile_of(scheme), PubSub)


def parse_address(url: str, *, names_needed: bool = True) -> Address:
    """Understand the URL of a Pub/Sub stream.

    Parameters
    ----------
    url : str
        ``pubsub://[HOST:PORT/]PROJECT/SUBSCRIPTION`` or ``pittgoogle://[HOST:PORT/][PROJECT/]TOPIC``.
    names_needed : bool
        Whether it must name a subscription or topic.

    Raises
    ------
    ConfigurationError
        If it is none.
    """
    scheme, _, rest = url.partition("://")
    profile = profile_of(scheme)
    if not isinstance(profile, PubSub):
        raise ConfigurationError(
            f"{url!r} is not the URL of a Pub/Sub stream: write pittgoogle://TOPIC or pubsub://PROJECT/SUBSCRIPTION",
            url=url,
        )
    if "@" in rest:
        raise ConfigurationError("no user name or password in a URL, please: it would be shown in logs")
    names = [unquote(part) for part in rest.strip("/").split("/") if part]
    named = names.pop(0) if names and _WITH_PORT.search(names[0]) else find_setting(scheme, "servers")
    kind = "topics" if profile.topic_projects else "subscriptions"
    if len(names) == 4 and names[0] == "projects" and names[2] == kind:
        names = [names[1], names[3]]  # as Google's pages write it
    if any("," in name for name in names):
        raise ConfigurationError(
            f"{url!r}: one subscription in a URL, please; a list of URLs is one stream too", url=url
        )
    count = len(names)
    if count > 2 or (names_needed and count < (1 if profile.topic_projects else 2)):
        form = "[PROJECT/]TOPIC" if profile.topic_projects else "PROJECT/SUBSCRIPTION"
        raise ConfigurationError(f"{url!r} is not understood: write {scheme}://{form}", url=url)
    emulator = os.environ.get(_EMULATOR) or None if named is None else None
    server = named or emulator or GOOGLE
    if not _WITH_PORT.search(server):
        place = f"{_EMULATOR}={server}" if emulator else f"the server {server}"
        raise ConfigurationError(
            f"{place} has no port: write HOST:PORT, such as 127.0.0.1:8085", position=server
        )
    port = _WITH_PORT.search(server)
    if port and int(port[0][1:]) > _LAST_PORT:
        raise ConfigurationError(f"{server!r} is no address: a port is at most {_LAST_PORT}", url=url)
    return Address(profile, server, emulator is not None or _is_loopback(server), tuple(names))


def touch_subscription(
    url: str,
    *,
    topic: str | None = None,
    attribute_filter: str | None = None,
    retain_acknowledged: bool = False,
    group: str | None = None,
    credentials: GoogleLike = None,
    ssl_ca_location: str | Path | None = None,
    timeout_s: float = 10.0,
) -> Subscription:
    """Make a Pub/Sub subscription if it is missing, and return what it is.

    Messages that were published before it was made are not in it.

    Parameters
    ----------
    url : str
        ``pittgoogle://TOPIC`` or ``pubsub://PROJECT/SUBSCRIPTION``; see `nuncius.open_stream`.
    topic : str, optional
        For ``pubsub://``: ``projects/PROJECT/topics/TOPIC`` or, in the same project, ``TOPIC``.
    attribute_filter : str, optional
        Only messages whose attributes fulfil this come into it, such as ``attributes:diaObject_diaObjectId``; see
        `nuncius.streams.attributes`. It can't be changed later.
    retain_acknowledged : bool
        Whether acknowledged messages are kept too (Google charges for that), so that `rewind` can go back to them.
    group : str, optional
        For ``pittgoogle://``: another name than the topic's.
    credentials : path or google.auth.credentials.Credentials, optional
        The key file of a service account, or an object; see `nuncius.open_stream`.
    ssl_ca_location : path, optional
        The authority that signed the server's certificate.
    timeout_s : float
        How long the server may take.

    Raises
    ------
    NotFoundError
        If there is no such topic, or none is given and the subscription is missing.
    ConfigurationError
        If the subscription has another filter.
    FilterError
        If the filter is none.
    UnreachableError, TlsError, LoginError, ForbiddenError
        What is wrong with the connection.
    """
    address = parse_address(url)
    server = address.log_in(credentials, ssl_ca_location)
    path, known_topic = address.subscription(group, server)
    if topic is not None:
        topic = topic if topic.startswith("projects/") else _path(path.split("/")[1], "topics", topic)
    if attribute_filter:
        from nuncius.streams.attributes import parse_attribute_filter

        parse_attribute_filter(attribute_filter)
    return _ask(
        server,
        timeout_s,
        lambda client, left_s: touch(
            client,
            path,
            left_s,
            topic=topic or known_topic,
            attribute_filter=attribute_filter or "",
            retain_acknowledged=retain_acknowledged,
        ),
    )


def delete_subscription(
    url: str,
    *,
    group: str | None = None,
    credentials: GoogleLike = None,
    ssl_ca_location: str | Path | None = None,
    timeout_s: float = 10.0,
) -> bool:
    """Delete a Pub/Sub subscription with all that waits in it; return whether there was one.

    Parameters
    ----------
    url, group, credentials, ssl_ca_location, timeout_s
        As for `touch_subscription`.

    Raises
    ------
    UnreachableError, TlsError, LoginError, ForbiddenError
        What is wrong with the connection.
    """
    address = parse_address(url)
    server = address.log_in(credentials, ssl_ca_location)
    path, _ = address.subscription(group, server)
    return _ask(server, timeout_s, lambda client, left_s: delete(client, path, left_s))


def seek_subscription(
    url: str,
    to: Start,
    *,
    group: str | None = None,
    credentials: Any = None,
    ssl_ca_location: str | Path | None = None,
    timeout_s: float = 10.0,
) -> str:
    """Move a subscription in time; return its path."""
    address = parse_address(url)
    server = address.log_in(credentials, ssl_ca_location)
    path, _ = address.subscription(group, server)
    _ask(server, timeout_s, lambda client, left_s: seek(client, path, to, left_s))
    return path


def list_topics(
    url: str, *, credentials: Any = None, ssl_ca_location: str | Path | None = None, timeout_s: float = 10.0
) -> list[str]:
    """Return the names of the topics of the project that a URL names, or of all projects of the broker."""
    address = parse_address(url, names_needed=False)
    server = address.log_in(credentials, ssl_ca_location)
    if address.names:
        projects = [address.topic()[0] if address.profile.topic_projects else address.names[0]]
    else:
        projects = list(dict.fromkeys(project for _, project in address.profile.topic_projects))
    if not projects:
        raise ConfigurationError(f"{url!r} names no project: write pubsub://PROJECT", url=url)
    return _ask(
        server,
        timeout_s,
        lambda client, left_s: sorted(
            name for project in projects for name in topics_of(client, project, left_s)
        ),
    )


def _ask(server: Server, timeout_s: float, ask: Callable[[Client, float], T]) -> T:
    client = Client(server)
    try:
        return patiently(lambda left_s: ask(client, left_s), time.monotonic() + timeout_s, lambda: False)
    finally:
        client.close()


def _path(project: str, kind: str, name: str) -> str:
    if not _NAME.fullmatch(name) or name.startswith("goog"):
        raise ConfigurationError(
            f"{name!r} can't be the name of a {kind[:-1]}: Google wants a letter first, then letters, digits and -._~+%, "
            "3 to 255 in all, and not goog first",
            position=name,
        )
    return f"projects/{project}/{kind}/{name}"


def _is_loopback(server: str) -> bool:
    host = _WITH_PORT.sub("", server).strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
