"""Listen to alerts: the contract of a stream, delivery, quarantine, and the transports."""

from nuncius.streams._async import AsyncStream
from nuncius.streams._sync import Stream
from nuncius.streams.rules import StreamStats

__all__ = ["AsyncStream", "Stream", "StreamStats"]
