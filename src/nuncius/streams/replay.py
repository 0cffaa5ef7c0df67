"""The replay transport: packets in a file or folder, read like a stream; for tests, for work offline, for a quarantine."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nuncius.alerts.alert import packet_files
from nuncius.errors import ConfigurationError, StorageError, UnsupportedError
from nuncius.streams.transport import End, Message, Transport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nuncius.alerts import Origin
    from nuncius.streams.bounds import Start
    from nuncius.streams.transport import Listener, Partition

_FILES_AT_ONCE = 20


class ReplayTransport(Transport):
    """The files of a folder in the order of their paths, each one message; it ends after the last."""

    service = "replay"
    ends = True

    def __init__(self, path: Path, *, group: str | None, start: Start) -> None:
        if group is not None:
            raise UnsupportedError(
                "a replay has no consumer group: it keeps no position and always begins at the first file; leave "
                "group= out",
                service="replay",
            )
        if start.name not in {"committed", "earliest"}:
            raise UnsupportedError(
                "a replay always begins at the first file; leave start= out", service="replay"
            )
        self._path = path
        self._partition: Partition = (str(path), 0)
        self._files: list[Path] = []
        self._next = 0
        self._ended = False

    def connect(self, listener: Listener, timeout_s: float) -> None:
        """See `Transport.connect`."""
        self._files = packet_files(self._path)
        if not self._files:
            raise ConfigurationError(f"there is no packet below {self._path}", position=str(self._path))
        listener.assigned({self._partition: 0})

    def receive(self, n: int, timeout_s: float) -> list[Message | End]:
        """See `Transport.receive`."""
        files = self._files[self._next : self._next + min(n, _FILES_AT_ONCE)]
        if not files:
            time.sleep(timeout_s if self._ended else 0)
            self._ended = True
            return [End(*self._partition)]
        first = self._next
        self._next += len(files)
        return [self._message(number, file) for number, file in enumerate(files, first)]

    def origin(self, message: Message, broker: str | None) -> Origin:
        """See `Transport.origin`: the file itself is the place that a person looks for."""
        return replace(super().origin(message, broker), topic=str(self._files[message.offset]), offset=0)

    def close(self, positions: Mapping[Partition, int]) -> None:
        """See `Transport.close`."""

    def lag(self, positions: Mapping[Partition, int | None]) -> dict[Partition, int]:
        """See `Transport.lag`."""
        return {key: len(self._files) - (position or 0) for key, position in positions.items()}

    def _message(self, number: int, file: Path) -> Message:
        value, key, headers = _read(file)
        return Message(*self._partition, number, value, None, key, headers)


def _read(file: Path) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]:
    """Return value, key and headers of the message that a file holds."""
    try:
        value: bytes | None = file.read_bytes()
        about = _reason(file)
    except OSError as error:
        raise StorageError(f"{file} can't be read: {error.strerror}", position=str(file)) from error
    if about.get("bytes", 0) is None:
        value = None
    try:
        headers = [(str(name), _bytes(content)) for name, content in about.get("headers", ())]
        return value, _bytes(about.get("key")), headers
    except (TypeError, ValueError):  # somebody has edited it: the packet itself is what counts
        return value, None, []


def _reason(file: Path) -> dict[str, Any]:
    """Return what the quarantine wrote beside a packet."""
    path = file.with_suffix(".reason.json")
    if file.suffix != ".packet" or not path.is_file():
        return {}
    try:
        about = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
