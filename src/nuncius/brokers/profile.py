"""What nuncius knows of a broker: its servers, how its topics are named, how one logs in, and how its messages are read.

To add a broker, write one small file like those beside this one. Third parties publish theirs under the entry point
group ``nuncius.brokers``; an entry is named as the scheme of its URLs, and names an instance of `Profile`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nuncius.credentials import find_credentials
from nuncius.streams.kafka import Security
from nuncius.streams.reading import PacketReader

if TYPE_CHECKING:
    from nuncius.alerts.packets import SchemaLike
    from nuncius.credentials import Credentials, CredentialsLike
    from nuncius.streams.transport import Reader


class Profile:
    """One broker. Subclasses say what is special about it; as it stands, this is a broker of which nothing is known."""

    name: ClassVar[str]
    """The scheme of its URLs."""

    title: ClassVar[str]
    """What people call it."""

    servers: ClassVar[str | None] = None
    """``host:port`` of its servers; None where everybody has to name them."""

    port: ClassVar[int] = 9092
    """The port of a server that is named without one."""

    mechanism: ClassVar[str | None] = None
    """How one logs in: ``PLAIN``, ``SCRAM-SHA-512`` or ``OAUTHBEARER``; None where nobody does."""

    login_required: ClassVar[bool] = False
    """Whether nothing can be read without a login."""

    tls: ClassVar[bool] = False
    """Whether the connection is encrypted."""

    prefix: ClassVar[str] = ""
    """What Kafka's names of its topics begin with, and its users leave out."""

    variables: ClassVar[tuple[str, str] | None] = None
    """The variables in which the broker's own client looks for the login."""

    schema: ClassVar[str | None] = None
    """The schema registry for its framed packets."""

    login_help: ClassVar[str] = ""
    """Where the login comes from, in a sentence."""

    tls_help: ClassVar[str] = ""
    """What to know where its certificate can't be verified."""

    topics_help: ClassVar[str] = ""
    """How its topics are named, in a sentence."""

    def security(self, servers: str) -> Security:
        """Say how these servers want to be spoken to."""
        return Security(self.mechanism, self.tls)

    def credentials(self, given: CredentialsLike, host: str) -> Credentials | None:
        """Find the login; None if there is none."""
        return find_credentials(self.name, given, host=host, variables=self.variables)

    def has_login(self, host: str) -> bool:
        """Tell whether there is a login for a server; nothing is sent."""
        return self.credentials(None, host) is not None

    def topic(self, name: str) -> str:
        """Return the Kafka topic of what a user calls a topic; regular expressions and full names stay as they are."""
        return name if name.startswith((self.prefix, "^")) else self.prefix + name

    def shown(self, topic: str) -> str:
        """Return what a user calls a Kafka topic."""
        return topic.removeprefix(self.prefix)

    def group(self, name: str, username: str | None) -> str:
        """Return the consumer group for the name that this machine has made."""
        return name

    def reader(self, schema: SchemaLike = None, *, test_messages: bool = False) -> Reader:
        """Return what makes alerts of its messages.

        Parameters
        ----------
        schema : optional
            The user's; see `nuncius.open_stream`.
        test_messages : bool
            Whether messages that are marked as tests are read too.
        """
        return PacketReader(schema if schema is not None else self.schema)
