"""A bounded look at a stream from within a page: so many seconds, so many alerts, kept before they are acknowledged."""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius.archives import open_archive
from nuncius.brokers import open_stream
from nuncius.errors import ConfigurationError
from nuncius.streams._sync import readable
from nuncius.tom.configuration import NotSetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuncius.tom.configuration import Place

_CONNECT_S = 10.0
_SLICE_S = 0.5


@contextmanager
def listened(place: Place, seconds: float, most: int) -> Iterator[Any]:
    """Take alerts from a stream into its archive, and open an archive of these alerts alone.

    The same questions are asked of it as of the archive itself, so that "now" means nothing else than "later". What was
    asked for and did not come in time stays in the stream.

    Raises
    ------
    NotSetError
        If no stream is set.
    NunciusError
        If the stream or the archive can't be read or written; nothing is acknowledged that is not in the archive.
    """
    alerts = take(place, seconds, most)
    with (
        tempfile.TemporaryDirectory(prefix="nuncius-live-") as folder,
        open_archive(Path(folder) / "live.db") as archive,
    ):
        archive.ingest(alerts, progress=False)
        yield archive


def take(place: Place, seconds: float, most: int) -> Sequence[Any]:
    """Take alerts from a stream into its archive; see `listened`."""
    if place.stream_url is None:
        raise NotSetError(
            f"settings.DATA_SERVICES[{place.service!r}]['url'] names no stream to listen to; set it to one such as "
            "'kafka://host:9092/topic'"
        )
    options = dict(place.stream)
    for name in ("acknowledge", "stop"):
        if name in options:
            raise NotSetError(
                f"settings.DATA_SERVICES[{place.service!r}]['stream'] can't have {name!r}: it is set here"
            )
    options.setdefault("connect_timeout_s", _CONNECT_S)
    try:
        stream = open_stream(place.stream_url, acknowledge="manual", **options)
    except TypeError as error:
        raise NotSetError(f"settings.DATA_SERVICES[{place.service!r}]['stream']: {error}") from error
    with stream, open_archive(Path(str(place.url))) as archive:
        batch: list[Any] = []
        deadline = time.monotonic() + seconds
        while len(batch) < most and (left := deadline - time.monotonic()) > 0:
            alert = stream.poll(min(left, _SLICE_S))
            if alert is not None:
                batch.append(alert)
        whole = readable(batch, "quarantine")
        archive.ingest(whole, progress=False)
        stream.acknowledge(batch)
    return whole


def check_archive_file(place: Place) -> None:
    """Refuse a stream whose archive is no file: only there the worker writes.

    Raises
    ------
    ConfigurationError
        If it is a server.
    """
    if not place.is_file:
        raise ConfigurationError(
            f"settings.DATA_SERVICES[{place.service!r}]['archive'] is {str(place.url)!r}, which is no file that alerts "
            "can be kept in"
        )
