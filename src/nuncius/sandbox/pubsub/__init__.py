"""A Google Pub/Sub server on loopback, with the topics of Pitt-Google; Google's own clients work with it unchanged.

It keeps everything in memory and forgets it at the end. What it has: topics, subscriptions with filters, ordering keys,
dead letters and backoff, leases, redelivery, snapshots, seeking back, TLS and bearer tokens, and faults on demand. What it
has not: pushing, exactly-once delivery, schemas, access rights.

>>> with SandboxPubSub() as server:  # doctest: +SKIP
...     server.publish("ztf-loop", packets)
...     with nuncius.open_stream(server.url) as stream:
...         print(next(stream))
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nuncius._core.lazy import require
from nuncius.errors import ConfigurationError
from nuncius.sandbox.pubsub.controls import PubSubControls
from nuncius.sandbox.pubsub.faults import PubSubRequest
from nuncius.sandbox.pubsub.login import SandboxGoogleLogin
from nuncius.sandbox.pubsub.server import MOST_RESPONSE_BYTES, PubSubServer
from nuncius.sandbox.pubsub.values import Counts, SubscriptionConfig

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime
    from types import TracebackType

    from nuncius.sandbox.front.certificates import Certificate

__all__ = ["Counts", "PubSubRequest", "SandboxGoogleLogin", "SandboxPubSub"]

PITTGOOGLE_TOPICS = {
    "ardent-cycling-243415": ("ztf-loop", "ztf-alerts", "ztf-lite", "lvk-alerts"),
    "pitt-alert-broker": ("lsst-alerts", "lsst-alerts-json"),
}
_BATCH = 500
_BATCH_BYTES = 8_000_000


class SandboxPubSub(PubSubControls):
    """A Google Pub/Sub server on loopback; it is ready when it is made.

    At the start there are the topics of Pitt-Google in its projects, and in `project` the subscription ``ztf-loop`` to
    Pitt-Google's topic of that name.

    Parameters
    ----------
    port : int
        The port; 0 takes a free one.
    project : str
        The user's project.
    tls : bool
        Whether it speaks TLS, and wants a bearer token with each call.
    tokens : collection of str, optional
        The bearer tokens that are good; with `tls` one is made if none is given. See `tokens`.
    certificate : str
        ``good``, ``wrong-host``, ``expired`` or ``foreign``.

    Attributes
    ----------
    project, topic, subscription : str
        Names.
    tokens : set of str or None
        The bearer tokens that are good now; None: nobody is asked. Change it to let a token expire.
    ca_file : Path or None
        The certificate of the authority to trust, with TLS.

    Raises
    ------
    MissingExtraError
        If google-cloud-pubsub is not installed; with `tls`, if trustme is not.
    UnreachableError
        If the port is taken.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        project: str = "nuncius-sandbox",
        tls: bool = False,
        tokens: Collection[str] | None = None,
        certificate: Certificate = "good",
    ) -> None:
        self.project = project
        self.topic = self.subscription = "ztf-loop"
        self.tokens: set[str] | None = set(tokens) if tokens is not None else None
        self.ca_file: Path | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._login: SandboxGoogleLogin | None = None
        if tls:
            self.tokens = self.tokens if self.tokens is not None else {"ya29.sandbox-token"}
        server = PubSubServer(
            port=port,
            certificate=self._make_certificate(certificate) if tls else None,
            accepts=None if self.tokens is None else self._accepts,
        )
        super().__init__(server, self.subscription_path)
        self._fill()

    def _make_certificate(self, kind: Certificate) -> tuple[bytes, bytes]:
        from nuncius.sandbox.front.certificates import make_certificates

        require("trustme", extra="sandbox")
        self._folder = tempfile.TemporaryDirectory(prefix="nuncius-pubsub-")
        self.ca_file, own = make_certificates(Path(self._folder.name), kind)
        key, begin, chain = own.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
        return key, begin + chain

    def _accepts(self, token: str) -> bool:
        return token in (self.tokens or ()) or (self._login is not None and self._login.is_signed(token))

    def _fill(self) -> None:
        self.create_pittgoogle_topics()
        self.create_subscription(self.subscription, self.topic)

    # Where it is ------------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port."""
        return self._server.port

    @property
    def endpoint(self) -> str:
        """Host and port, as PUBSUB_EMULATOR_HOST has them."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The subscription, as `open_stream` takes it."""
        return f"pubsub://{self.endpoint}/{self.project}/{self.subscription}"

    @property
    def pittgoogle_url(self) -> str:
        """What `open_stream` takes, before ``/topic``."""
        return f"pittgoogle://{self.endpoint}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead Google's clients here."""
        return {"PUBSUB_EMULATOR_HOST": self.endpoint, "GOOGLE_CLOUD_PROJECT": self.project}

    @property
    def topic_path(self) -> str:
        """The path of the topic that `subscription` reads."""
        return self._topic_path(self.topic)

    @property
    def subscription_path(self) -> str:
        """The path of `subscription`."""
        return f"projects/{self.project}/subscriptions/{self.subscription}"

    @property
    def login(self) -> SandboxGoogleLogin:
        """Where a person logs in, and where tokens for this server come from; it starts when it is first touched.

        Whoever shall be asked for them needs a server with `tls`, or with `tokens`.
        """
        if self._login is None:
            self._login = SandboxGoogleLogin(self.tokens if self.tokens is not None else set(), self.project)
        return self._login

    # Topics, subscriptions, messages ----------------------------------------------------------------------------------

    def create_topic(self, name: str, project: str | None = None, *, retention_s: float | None = None) -> str:
        """Make a topic and return its path.

        Parameters
        ----------
        name : str
            Its name, or its path.
        project : str, optional
            Its project; the user's by default.
        retention_s : float, optional
            How long it keeps messages for subscriptions that seek back; not at all by default.

        Raises
        ------
        AlreadyExistsError
            If there is one of that name.
        """
        path = name if "/" in name else f"projects/{project or self.project}/topics/{name}"
        return self._state.create_topic(path, retention_s=retention_s or 0.0).path

    def create_pittgoogle_topics(self) -> None:
        """Make the topics of Pitt-Google that are not there."""
        for project, names in PITTGOOGLE_TOPICS.items():
            for name in names:
                if f"projects/{project}/topics/{name}" not in self._state.topics:
                    self.create_topic(name, project)

    def create_subscription(
        self,
        name: str,
        topic: str | None = None,
        *,
        filter: str = "",  # noqa: A002 - as Google's interface calls it
        ack_deadline_s: float = 10.0,
        retain_acked: bool = False,
        dead_letter_topic: str | None = None,
        max_delivery_attempts: int = 5,
        ordering: bool = False,
        min_backoff_s: float = 0.0,
        max_backoff_s: float = 0.0,
    ) -> str:
        """Make a subscription and return its path.

        Parameters
        ----------
        name : str
            Its name, or its path.
        topic : str, optional
            The topic, made if there is none; that of the same name by default.
        filter : str
            A filter on attributes.
        ack_deadline_s : float
            How long a lease is for who pulls. Google's service has 10 s at least; here it may be shorter. Clients that
            stream say themselves how long their leases are.
        retain_acked : bool
            Whether acknowledged messages are kept, for a seek.
        dead_letter_topic : str, optional
            The topic, made if there is none, to which messages go after `max_delivery_attempts`.
        max_delivery_attempts : int
            How often that is.
        ordering : bool
            Whether messages with the same ordering key come one after the other.
        min_backoff_s, max_backoff_s : float
            How long a released message waits: the first time, and at most.

        Raises
        ------
        AlreadyExistsError
            If there is one of that name.
        FilterError
            If the filter is none.
        """
        config = SubscriptionConfig(
            self._path_of(name),
            self._ensure_topic(topic or name.rpartition("/")[2]),
            filter=filter,
            ack_deadline_s=ack_deadline_s,
            retain_acked=retain_acked,
            ordering=ordering,
            dead_letter_topic=self._ensure_topic(dead_letter_topic) if dead_letter_topic else "",
            max_delivery_attempts=max_delivery_attempts,
            min_backoff_s=min_backoff_s,
            max_backoff_s=max(min_backoff_s, max_backoff_s),
        )
        return self._state.create_subscription(config).config.path

    def publish(
        self,
        topic: str,
        packets: Iterable[bytes],
        *,
        attributes: Mapping[str, str] | Iterable[Mapping[str, str]] | None = None,
        ordering_key: str = "",
        publish_time: datetime | None = None,
    ) -> list[str]:
        """Publish packets, and make the topic if there is none.

        Parameters
        ----------
        topic : str
            Its name: in the user's project, else one of Pitt-Google's; or its path.
        packets : iterable of bytes
            The data of the messages.
        attributes : mapping of str, or iterable of them, optional
            The attributes of all messages, or those of each.
        ordering_key : str
            The ordering key.
        publish_time : datetime, optional
            When they seem to be published, for tests that seek; by default now.

        Returns
        -------
        list of str
            The ids of the messages.

        Raises
        ------
        ConfigurationError
            If a message is larger than Google allows, or there are more or fewer attributes than packets.
        """
        path = self._ensure_topic(topic)
        published = None if publish_time is None else publish_time.timestamp()
        ids: list[str] = []
        batch: list[tuple[bytes, dict[str, str], str]] = []
        size = 0
        for packet, named in _with_attributes(packets, attributes):
            batch.append((packet, named, ordering_key))
            size += len(packet)
            if len(batch) >= _BATCH or size >= _BATCH_BYTES:
                ids += self._state.publish(path, batch, published=published)
                batch, size = [], 0
        return ids + self._state.publish(path, batch, published=published)

    # The end ----------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Put everything back as it was at the start: no messages, no faults, the first topics and subscription.

        Raises
        ------
        UnreachableError
            If the server was closed.
        """
        self.drop_streams()
        self._server.faults.clear()
        self._server.faults.requests.clear()
        self.max_response_bytes = MOST_RESPONSE_BYTES
        with self._state.changed:
            for paths, delete in (
                (self._state.queues, self._state.delete_subscription),
                (self._state.snapshots, self._state.delete_snapshot),
                (self._state.topics, self._state.delete_topic),
            ):
                for path in list(paths):
                    delete(path)
            self._fill()
        self.resume()

    def close(self) -> None:
        """Stop it."""
        if self._login is not None:
            self._login.close()
            self._login = None
        self._server.stop()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SandboxPubSub {self.endpoint}>"

    # Names ------------------------------------------------------------------------------------------------------------

    def _topic_path(self, name: str) -> str:
        if "/" in name:
            return name
        paths = [f"projects/{project}/topics/{name}" for project in (self.project, *PITTGOOGLE_TOPICS)]
        return next((path for path in paths if path in self._state.topics), paths[0])

    def _ensure_topic(self, name: str) -> str:
        path = self._topic_path(name)
        with self._state.changed:
            if path not in self._state.topics:
                self._state.create_topic(path)
        return path


def _with_attributes(
    packets: Iterable[bytes], attributes: Mapping[str, str] | Iterable[Mapping[str, str]] | None
) -> Iterable[tuple[bytes, dict[str, str]]]:
    if attributes is None or hasattr(attributes, "keys"):
        same: Any = attributes or {}
        for packet in packets:
            yield packet, dict(same)
        return
    each = iter(attributes)
    for packet in packets:
        named = next(each, None)
        if named is None:
            raise ConfigurationError("there are fewer attributes than packets")
        yield packet, dict(named)
    if next(each, None) is not None:
        raise ConfigurationError("there are more attributes than packets")
