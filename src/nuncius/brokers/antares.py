"""ANTARES, the broker of NOIRLab: loci, made of the alerts of ZTF and Rubin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.alerts.surveys.antares import Antares as Loci
from nuncius.brokers.profile import Profile
from nuncius.streams.reading import PacketReader

if TYPE_CHECKING:
    from nuncius.alerts.packets import SchemaLike
    from nuncius.streams.transport import Reader


class Antares(Profile):
    """ANTARES: zlib-compressed BSON, a topic for each stream."""

    name = "antares"
    title = "ANTARES"
    prefix = "client."
    servers = "kafka.antares.noirlab.edu:9092"
    mechanism = "PLAIN"
    login_required = True
    tls = True
    login_help = "the ANTARES team gives an API key (the user name) and an API secret (the password)"
    tls_help = (
        "ANTARES signs with an authority of its own: give its certificate, which the antares-client package brings as "
        "kafka-ca.pem, with ssl_ca_location="
    )
    topics_help = "the names of streams, such as extragalactic or nuclear_transient"

    def reader(self, schema: SchemaLike = None, *, test_messages: bool = False) -> Reader:
        """See `Profile.reader`."""
        return PacketReader(schema, survey=Loci())
