"""The replay transport: packets in a file or folder, or a recording, read like a stream.

For tests, for work offline, for a quarantine, and for a night that shall come once more at its own pace.
"""

from __future__ import annotations

import base64
import json
import math
import time
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from nuncius.alerts import Origin
from nuncius.alerts.alert import packet_files
from nuncius.errors import ConfigurationError, StorageError, UnsupportedError
from nuncius.streams.recording import Recorded, Recording, is_recording
from nuncius.streams.transport import End, Message, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nuncius.streams.bounds import Start
    from nuncius.streams.transport import Listener, Partition

_AT_ONCE = 20


class ReplayTransport(Transport):
    """A recording, or the files of a folder in the order of their paths, each one message; it ends after the last.

    Parameters
    ----------
    path : Path
        A recording, a packet, or a folder of packets such as a quarantine.
    group, start
        A replay keeps no position and begins at the beginning: None, and ``committed`` or ``earliest``.
    pace : float, optional
        How fast a recording comes: 1 as it came, 10 ten times as fast; None as fast as possible.

    Raises
    ------
    UnsupportedError
        If a position or another beginning is asked for.
    ConfigurationError
        If `pace` is not above 0.
    """

    service = "replay"
    ends = True

    def __init__(self, path: Path, *, group: str | None, start: Start, pace: float | None = None) -> None:
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
        if pace is not None and not (pace > 0 and math.isfinite(pace)):
            raise ConfigurationError(
                f"pace={pace}: give 1 for the pace at which the messages came, 10 for ten times it"
            )
        self._path = path
        self._pace = pace
        self._partition: Partition = (str(path), 0)
        self._count = 0
        self._source: Iterator[Recorded] = iter(())
        self._clock: _Clock | None = None
        self._waiting: list[Recorded] = []
        self._given: dict[int, Recorded] = {}  # the last that were given: the engine asks for their origins
        self._next = 0
        self._paused = False
        self._ended = False

    def connect(self, listener: Listener, timeout_s: float) -> None:
        """See `Transport.connect`."""
        if is_recording(self._path):
            recording = Recording(self._path)
            self._count, self._source = recording.count, iter(recording)
            if self._pace is not None:
                self._clock = _Clock(self._pace, by_broker=recording.is_stamped)
        else:
            files = packet_files(self._path)
            self._count, self._source = len(files), map(_from_file, files)
            if self._pace is not None:
                raise UnsupportedError(
                    f"{self._path} is no recording, so nothing tells at which pace its packets came; leave pace= out",
                    service="replay",
                )
        if not self._count:
            raise ConfigurationError(f"there is no packet below {self._path}", position=str(self._path))
        listener.assigned({self._partition: 0})

    def receive(self, n: int, timeout_s: float) -> list[Message | End]:
        """See `Transport.receive`."""
        if self._paused or self._ended:
            time.sleep(timeout_s)
            return []
        if not self._waiting:
            self._waiting = list(islice(self._source, min(n, _AT_ONCE)))
        if not self._waiting:
            self._ended = True
            return [End(*self._partition)]
        due = len(self._waiting) if self._clock is None else self._clock.due(self._waiting, timeout_s)
        taken, self._waiting = self._waiting[:due], self._waiting[due:]
        self._given = dict(enumerate(taken, self._next))
        self._next += len(taken)
        return [
            Message(
                *self._partition, number, item.value, item.timestamp_ms, item.origin.key, item.origin.headers
            )
            for number, item in self._given.items()
        ]

    def origin(self, message: Message, broker: str | None) -> Origin:
        """See `Transport.origin`: where a recorded message came from first; of a file, the file itself."""
        origin = self._given[message.offset].origin
        topic = origin.topic or str(self._path)
        return replace(origin, service=self.service, topic=topic, broker=origin.broker or broker)

    def topic_of(self, message: Message) -> str:
        """Return the topic that a message had at its broker: some readers tell by it what the message is."""
        found = self._given[message.offset]
        return found.topic or found.origin.topic or message.topic

    def pause(self) -> None:
        """See `Transport.pause`."""
        self._paused = True

    def resume(self) -> None:
        """See `Transport.resume`."""
        self._paused = False

    def close(self, positions: Mapping[Partition, int]) -> None:
        """See `Transport.close`."""

    def lag(self, positions: Mapping[Partition, int | None]) -> dict[Partition, int]:
        """See `Transport.lag`."""
        return {key: self._count - (position or 0) for key, position in positions.items()}


class _Clock:
    """Tells when a message that came then shall come now."""

    def __init__(self, pace: float, *, by_broker: bool) -> None:
        self._pace = pace
        self._by_broker = by_broker
        self._begin: tuple[float, float] | None = None

    def due(self, items: list[Recorded], timeout_s: float) -> int:
        """Return how many of these may come now; wait for the first at most `timeout_s`."""
        now = time.monotonic()
        if self._begin is None:
            self._begin = now, self._stamp_s(items[0])
        first = self._at(items[0])
        if first > now:
            time.sleep(min(first - now, timeout_s))
            now = time.monotonic()
        # In the order of the recording: of several partitions one may be behind another.
        return next((number for number, item in enumerate(items) if self._at(item) > now), len(items))

    def _at(self, item: Recorded) -> float:
        assert self._begin is not None
        begin, stamp_s = self._begin
        return begin + (self._stamp_s(item) - stamp_s) / self._pace

    def _stamp_s(self, item: Recorded) -> float:
        stamp = item.timestamp_ms if self._by_broker else item.received_ms
        assert stamp is not None
        return stamp / 1000


def _from_file(file: Path) -> Recorded:
    """Return the message that a file holds."""
    try:
        value: bytes | None = file.read_bytes()
        about = _reason(file)
    except OSError as error:
        raise StorageError(f"{file} can't be read: {error.strerror}", position=str(file)) from error
    if about.get("bytes", 0) is None:
        value = None
    try:
        headers = tuple((str(name), _bytes(content)) for name, content in about.get("headers", ()))
        key = _bytes(about.get("key"))
    except (TypeError, ValueError):  # somebody has edited it: the packet itself is what counts
        headers, key = (), None
    broker, topic = about.get("broker"), about.get("topic")
    return Recorded(
        Origin(
            "replay", str(file), key=key, headers=headers, broker=broker if isinstance(broker, str) else None
        ),
        value,
        topic=topic if isinstance(topic, str) else None,
    )


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
