"""The worker that fills archives from streams, as long as the TOM lives. Nothing here knows of Django.

``NUNCIUS_STREAMS`` in the settings lists what it reads::

    NUNCIUS_STREAMS = [
        "pittgoogle://ztf-loop",
        {"url": "kafka://host:9092/alerts", "archive": "night.db", "where": "score > 0.9", "group": "my-tom"},
    ]

A mapping has `url` (one or a list, read as one), `archive` (by default the one that all services of the TOM read), `keep` and
`cutouts` as `EmbeddedArchive.ingest` takes them, and any option of `nuncius.open_stream`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius.brokers import open_stream
from nuncius.errors import NunciusError
from nuncius.streams.service import DiskGuard, Monitor, Service
from nuncius.tom.configuration import NotSetError
from nuncius.tom.supervision import Delays

if TYPE_CHECKING:
    from nuncius.streams import Stream
    from nuncius.streams.service import Stopping

log = logging.getLogger("nuncius.tom")

_OURS = ("acknowledge", "stop")
_LONGEST_PAUSE_S = 600.0


@dataclass(frozen=True, slots=True)
class Ingested:
    """A stream, and where it is kept."""

    url: str | Sequence[str]
    archive: Path
    keep: Any = "document"
    cutouts: bool = True
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def shown(self) -> str:
        """What is read, in one word."""
        return self.url if isinstance(self.url, str) else " + ".join(self.url)


def streams_of(said: Any, archive: Path) -> list[Ingested]:
    """Return the streams that a project's settings name.

    Parameters
    ----------
    said : list
        What ``NUNCIUS_STREAMS`` is.
    archive : Path
        Where a stream is kept that says nothing else.

    Raises
    ------
    NotSetError
        If there are none, or one of them is not named rightly.
    """
    if not said or isinstance(said, (str, Mapping)) or not isinstance(said, Sequence):
        raise NotSetError(
            "settings.NUNCIUS_STREAMS names no streams; write NUNCIUS_STREAMS = ['pittgoogle://ztf-loop']"
        )
    found = []
    for number, one in enumerate(said):
        place = f"settings.NUNCIUS_STREAMS[{number}]"
        options = {"url": one} if isinstance(one, str) else dict(one) if isinstance(one, Mapping) else {}
        url = options.pop("url", None)
        if not url:
            raise NotSetError(f"{place} has no 'url'")
        if taken := [name for name in _OURS if name in options]:
            raise NotSetError(f"{place} can't have {taken[0]!r}: the worker decides it")
        kept = Path(str(options.pop("archive", None) or archive)).expanduser()
        keep, cutouts = options.pop("keep", "document"), options.pop("cutouts", True)
        found.append(Ingested(url, kept, keep, bool(cutouts), options))
    return found


class Worker(threading.Thread):
    """Keeps one stream in an archive until it is to stop; what fails is tried again after a delay that grows.

    Parameters
    ----------
    ingested : Ingested
        What, and where.
    archive : EmbeddedArchive
        The archive, open; several workers may share it.
    stopping : Stopping
        Tells when to stop.
    min_free_bytes : int
        The room that is left on the disk.
    """

    def __init__(
        self, ingested: Ingested, archive: Any, stopping: Stopping, *, min_free_bytes: int = 10**9
    ) -> None:
        super().__init__(name=f"nuncius {ingested.shown}")
        self._ingested = ingested
        self._archive = archive
        self._stopping = stopping
        guard = DiskGuard([ingested.archive.absolute().parent], min_free_bytes)
        self._guard = guard
        self.monitor = Monitor(
            [ingested.url] if isinstance(ingested.url, str) else ingested.url, guard=guard, logs=False
        )

    def line(self) -> str:
        """Say in one line how it goes."""
        return f"{self._ingested.shown}: {self.monitor.snapshot().line()}"

    def run(self) -> None:
        """Work; see `threading.Thread`."""
        pauses = Delays(_LONGEST_PAUSE_S)
        with self.monitor:
            while not self._stopping.wanted:
                kept = self.monitor.kept
                try:
                    self._service().run()
                except NunciusError as error:
                    self._tell(str(error))
                except Exception as error:  # a thread that is looked after does not die of anything unseen
                    log.exception("%s broke", self._ingested.shown)
                    self._tell(f"{type(error).__name__}: {error}")
                else:
                    return  # stopped, or the stream has an end
                if self.monitor.kept > kept:
                    pauses.reset()
                self._stopping.wait(pauses.next())

    def _service(self) -> Service:
        return Service(
            self._opened,
            lambda: [self._archive.sink(keep=self._ingested.keep, cutouts=self._ingested.cutouts)],
            stopping=self._stopping,
            monitor=self.monitor,
            guard=self._guard,
            retry_s=float("inf"),
        )

    def _opened(self, again: bool) -> Stream:
        return open_stream(self._ingested.url, acknowledge="manual", **self._ingested.options)

    def _tell(self, error: str) -> None:
        log.error("%s: %s. It is tried again", self._ingested.shown, error.rstrip("."))
