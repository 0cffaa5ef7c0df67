"""Pitt-Google, which sends alerts of ZTF, Rubin and LIGO-Virgo-KAGRA over Google Pub/Sub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.alerts import Alert
from nuncius.alerts.notices import notice_from_bytes
from nuncius.alerts.packets import as_source, open_packets
from nuncius.alerts.surveys import LSST, ZTF
from nuncius.brokers.lsst import Lsst
from nuncius.brokers.pubsub import PubSub
from nuncius.errors import PacketError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuncius.alerts import Notice, Origin
    from nuncius.alerts.packets import Packet, SchemaLike
    from nuncius.alerts.surveys import Survey
    from nuncius.streams.transport import Message, Reader

_PREFIX = "pg_"


class PittGoogle(PubSub):
    """Pitt-Google: a topic for each stream, and a subscription of one's own for each reader."""

    name = "pittgoogle"
    title = "Pitt-Google"
    topics_help = (
        "such as ztf-loop (for tests, one alert a second), ztf-alerts, lsst-alerts-json or lvk-alerts"
    )
    topic_projects = (("lsst-", "pitt-alert-broker"), ("", "ardent-cycling-243415"))

    def reader(self, schema: SchemaLike = None, *, test_messages: bool = False) -> Reader:
        """See `Profile.reader`."""
        return PittGoogleReader(Lsst.schema if schema is None else schema)


class PittGoogleReader:
    """Reads what the first bytes say: Avro with its schema, framed Avro of Rubin, JSON, or notices in JSON.

    What Pitt-Google adds (attributes ``pg_…``) becomes ``alert.annotations["pittgoogle"]``.

    Parameters
    ----------
    schema : optional
        Where the schemas of framed packets are.

    Raises
    ------
    ConfigurationError
        If `schema` is none of the accepted forms.
    """

    def __init__(self, schema: SchemaLike = None) -> None:
        self._schema = as_source(schema)

    def __call__(self, message: Message, origin: Origin) -> Sequence[Alert | Notice]:
        """See `nuncius.streams.transport.Reader`."""
        value = message.value or b""
        if not value:
            names = ", ".join(name for name, _ in message.headers or ())
            raise PacketError(
                f"the message has no data, only attributes ({names or 'none'}): a topic such as ztf-alert_avros tells of "
                "files in a bucket, and holds no alerts"
            )
        opened = open_packets(value, self._schema)
        if not opened:
            raise PacketError("the container holds no record")
        if len(opened) == 1 and "superevent_id" in _values(opened[0][1]):
            return [notice_from_bytes(value, "igwn.gwalert", "json", origin=origin)]
        added = _added(message)
        return [
            Alert(raw, packet, origin=origin, survey=_survey_of(packet), annotations=added)
            for raw, packet in opened
        ]


def _values(packet: Packet) -> dict[str, Any]:
    """Return the values of JSON, which are known already."""
    return packet.decode() if packet.container == "json" else {}


def _survey_of(packet: Packet) -> Survey | None:
    """Tell the survey of JSON, which names no schema, by its fields."""
    values = _values(packet)
    if "diaSource" in values:
        return LSST
    return ZTF if values.keys() >= {"objectId", "candid", "candidate"} else None


def _added(message: Message) -> dict[str, dict[str, Any]] | None:
    found = {
        name.removeprefix(_PREFIX): (value or b"").decode("utf-8", "replace")
        for name, value in message.headers or ()
        if name.startswith(_PREFIX)
    }
    return {"pittgoogle": found} if found else None
