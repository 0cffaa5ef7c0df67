"""Publish to a topic: each message is confirmed by the broker, or reported."""

from nuncius.streams.publishing._async import AsyncPublisher
from nuncius.streams.publishing._sync import Publisher

__all__ = ["AsyncPublisher", "Publisher"]
