"""Listen to alerts: the contract of a stream, delivery, quarantine, and the transports; and where alerts are saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.streams._async import AsyncStream
from nuncius.streams._sync import Stream
from nuncius.streams.rules import StreamStats

if TYPE_CHECKING:
    from nuncius.streams.command import CommandSink
    from nuncius.streams.files import FileSink
    from nuncius.streams.parquet import ParquetSink
    from nuncius.streams.publishing import AsyncPublisher, Publisher
    from nuncius.streams.recording import RecordingSink

_HOMES = {
    "AsyncPublisher": "publishing",
    "CommandSink": "command",
    "FileSink": "files",
    "ParquetSink": "parquet",
    "Publisher": "publishing",
    "RecordingSink": "recording",
}

__all__ = [
    "AsyncPublisher",
    "AsyncStream",
    "CommandSink",
    "FileSink",
    "ParquetSink",
    "Publisher",
    "RecordingSink",
    "Stream",
    "StreamStats",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"nuncius.streams.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'nuncius.streams' has no attribute {name!r}")
