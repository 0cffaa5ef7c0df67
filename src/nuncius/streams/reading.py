"""The reader of packets that say themselves what they are; brokers with other habits bring a reader of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.alerts import Alert
from nuncius.alerts.packets import as_source, open_packets
from nuncius.errors import PacketError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuncius.alerts import Notice, Origin
    from nuncius.alerts.packets import SchemaLike
    from nuncius.alerts.surveys import Survey
    from nuncius.streams.transport import Message


class PacketReader:
    """Reads Avro, BSON and JSON packets, plain or compressed; see `nuncius.alerts.packets`.

    Parameters
    ----------
    schema : optional
        For framed packets: where their schemas are.
    survey : Survey, optional
        Whose packets they are, where their schema's name doesn't tell.

    Raises
    ------
    ConfigurationError
        If `schema` is none of the accepted forms.
    """

    def __init__(self, schema: SchemaLike = None, *, survey: Survey | None = None) -> None:
        self._schema = as_source(schema)
        self._survey = survey

    def __call__(self, message: Message, origin: Origin) -> Sequence[Alert | Notice]:
        """See `nuncius.streams.transport.Reader`."""
        opened = open_packets(message.value or b"", self._schema)
        if not opened:
            raise PacketError("the container holds no record")
        return [Alert(raw, packet, origin=origin, survey=self._survey) for raw, packet in opened]
