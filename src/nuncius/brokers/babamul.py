"""Babamul: alerts of ZTF and Rubin with what BOOM found out about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.alerts import Alert
from nuncius.alerts.packets import as_source, open_packets
from nuncius.alerts.surveys import BOOM_LSST, BOOM_ZTF, GENERIC, survey_of_schema
from nuncius.brokers.profile import Profile
from nuncius.errors import PacketError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuncius.alerts import Notice, Origin
    from nuncius.alerts.packets import SchemaLike
    from nuncius.streams.transport import Message, Reader

_SURVEYS = {"babamul.ztf.": BOOM_ZTF, "babamul.lsst.": BOOM_LSST}


class Babamul(Profile):
    """Babamul: Avro containers, a topic for each survey and class. The connection is not encrypted."""

    name = "babamul"
    title = "Babamul"
    servers = "kaboom.caltech.edu:9093"
    port = 9093
    mechanism = "SCRAM-SHA-512"
    login_required = True
    variables = ("BABAMUL_KAFKA_USERNAME", "BABAMUL_KAFKA_PASSWORD")
    login_help = "sign up at Babamul; the user name begins with babamul-"
    topics_help = (
        "babamul.ztf.{no-lsst-match,lsst-match}.{stellar,hosted,hostless} and "
        "babamul.lsst.{no-ztf-match,ztf-match}.{stellar,hosted,hostless,unknown}, "
        "or a regular expression such as ^babamul[.]lsst[.].*"
    )

    def group(self, name: str, username: str | None) -> str:
        """Put the user's name before it: Babamul lets nobody into other groups."""
        return name if username is None or name.startswith(f"{username}-") else f"{username}-{name}"

    def reader(self, schema: SchemaLike = None, *, test_messages: bool = False) -> Reader:
        """See `Profile.reader`."""
        return BabamulReader(schema)


class BabamulReader:
    """Reads BOOM's containers; where a schema's name doesn't tell the survey, the topic does.

    Parameters
    ----------
    schema : optional
        See `nuncius.open_stream`.
    """

    def __init__(self, schema: SchemaLike = None) -> None:
        self._schema = as_source(schema)

    def __call__(self, message: Message, origin: Origin) -> Sequence[Alert | Notice]:
        """See `nuncius.streams.transport.Reader`."""
        opened = open_packets(message.value or b"", self._schema)
        if not opened:
            raise PacketError("the container holds no record")
        of_topic = next(
            (survey for start, survey in _SURVEYS.items() if message.topic.startswith(start)), None
        )
        return [
            Alert(
                raw,
                packet,
                origin=origin,
                survey=of_topic if survey_of_schema(packet.schema_name) is GENERIC else None,
            )
            for raw, packet in opened
        ]
