"""Lasair: what a filter's SQL selects, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.alerts.surveys import LASAIR
from nuncius.brokers.profile import Profile
from nuncius.streams.reading import PacketReader

if TYPE_CHECKING:
    from nuncius.alerts.packets import SchemaLike
    from nuncius.streams.transport import Reader


class Lasair(Profile):
    """Lasair: a topic for each filter, open to everybody who knows the server."""

    name = "lasair"
    title = "Lasair"
    login_help = "none; Lasair's pages name the server of each of its sites"
    topics_help = "those of the filters' pages, such as lasair_2SN-likecandidates"

    def reader(self, schema: SchemaLike = None, *, test_messages: bool = False) -> Reader:
        """See `Profile.reader`."""
        return PacketReader(schema, survey=LASAIR)
