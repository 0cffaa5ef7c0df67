"""GCN, the General Coordinates Network of NASA: notices of high-energy, gravitational-wave and neutrino events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.alerts.notices import notice_from_bytes
from nuncius.brokers.profile import Profile
from nuncius.errors import PacketError
from nuncius.streams.kafka import Security

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuncius.alerts import Alert, Notice, Origin
    from nuncius.alerts.packets import SchemaLike
    from nuncius.streams.transport import Message, Reader

_DOMAIN = "gcn.nasa.gov"
_BINARY = "gcn.classic.binary."

# What the names of the topics promise. The notices of missions (gcn.notices.…) are JSON but for a few in VOEvent.
_FORMS = {
    "gcn.classic.voevent.": "voevent",
    "gcn.classic.text.": "text",
    "gcn.circulars": "circular",
    "igwn.gwalert": "json",
}


class Gcn(Profile):
    """GCN: a topic for each kind of notice."""

    name = "gcn"
    title = "GCN"
    servers = f"kafka.{_DOMAIN}:9092"
    mechanism = "OAUTHBEARER"
    login_required = True
    tls = True
    login_help = (
        "gcn.nasa.gov/quickstart gives a client id (the user name) and a client secret (the password)"
    )
    topics_help = (
        "such as igwn.gwalert, gcn.circulars, gcn.notices.swift.bat.guano, gcn.classic.voevent.FERMI_GBM_FLT_POS or "
        "gcn.classic.text.FERMI_GBM_FLT_POS"
    )

    def security(self, servers: str) -> Security:
        """Ask for tokens where these servers do: each of GCN's systems has a domain of its own."""
        host = servers.partition(",")[0].partition(":")[0]
        domain = host.removeprefix("kafka.")
        if domain == host or not f".{domain}".endswith(f".{_DOMAIN}"):
            domain = _DOMAIN  # a secret is sent to nobody else
        return Security(self.mechanism, self.tls, token_url=f"https://auth.{domain}/oauth2/token")

    def reader(self, schema: SchemaLike = None, *, test_messages: bool = False) -> Reader:
        """See `Profile.reader`. Tests that a notice itself names so are handed out: `Notice.is_test` tells."""
        return read_gcn


def read_gcn(message: Message, origin: Origin) -> Sequence[Alert | Notice]:
    """Read a notice of GCN; its kind is its topic.

    Raises
    ------
    PacketError
        If it is none, or not of the form that its topic promises.
    """
    topic = message.topic
    if topic.startswith(_BINARY):
        raise PacketError(
            f"binary notices are not read; the same notices come in {topic.replace('.binary.', '.voevent.')} and "
            f"{topic.replace('.binary.', '.text.')}"
        )
    form = next((form for start, form in _FORMS.items() if topic.startswith(start)), None)
    return [notice_from_bytes(message.value or b"", topic, form, origin=origin)]
