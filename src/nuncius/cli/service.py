"""What ``nuncius stream`` puts together: where alerts are kept, who watches, and how it ends."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

import click

from nuncius._core.when import duration_s
from nuncius.alerts import Alert
from nuncius.brokers.subscriptions import is_subscription
from nuncius.errors import ConfigurationError, NunciusError, StorageError
from nuncius.settings import data_dir
from nuncius.streams.service import (
    DiskGuard,
    MetricsServer,
    Monitor,
    Redactor,
    Service,
    Stopping,
    is_temporary,
    logging_to_stderr,
    parse_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from nuncius.alerts import Notice
    from nuncius.alerts.sink import Sink
    from nuncius.archives.embedded.reports import IngestReport
    from nuncius.streams import Stream

log = logging.getLogger("nuncius.cli")

TEMPORARY = 75
"""The exit code for what may pass by itself (EX_TEMPFAIL of sysexits.h)."""


class Duration(click.ParamType):  # type: ignore[type-arg]  # not generic in older releases
    """A duration such as 10m, as seconds."""

    name = "duration"

    def __init__(self, *, forever: bool = False) -> None:
        self._forever = forever

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType`."""
        seconds = float("inf") if self._forever and value == "forever" else duration_s(value)
        if seconds is None:
            self.fail(
                f"{value!r} is no duration; write 30s, 10m or 2h{', or forever' * self._forever}", param, ctx
            )
        return seconds


class Size(click.ParamType):  # type: ignore[type-arg]
    """A size such as 1GB, as bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See `click.ParamType`."""
        try:
            return parse_size(value)
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the alerts go; nowhere means that they are printed."""

    archive: Path | None
    keep: Any
    cutouts: bool
    folder: Path | None
    format: str | None
    recording: Path | None
    command: str | None
    quarantine: Path | None

    @property
    def prints(self) -> bool:
        """Whether the alerts are printed, alone or besides."""
        kept = (self.archive, self.folder, self.recording, self.command)
        return not any(kept) or (self.format is not None and self.folder is None)

    @property
    def folders(self) -> list[Path]:
        """Where something is written, and the disk has to have room."""
        files = [file.parent for file in (self.archive, self.recording) if file is not None]
        folders = [*files, *([self.folder] if self.folder else [])]
        if not folders and self.command is None:
            return []
        return [*folders, self.quarantine or data_dir()]

    def __str__(self) -> str:
        return " + ".join(
            str(place) for place in (self.archive, self.folder, self.recording, self.command) if place
        )


@dataclass(frozen=True, slots=True)
class Watched:
    """How it is looked after."""

    urls: Sequence[str]
    limit: int | None
    retry_s: float
    min_free_bytes: int
    status_file: Path | None
    metrics: str | None
    log_format: Any


def keep(opened: Callable[[bool], Stream], places: Places, watched: Watched) -> None:
    """Keep the alerts of a stream until it ends or is stopped, and say how it went by the exit code."""
    redact, sinks = Redactor(), _Sinks(places)
    with logging_to_stderr(watched.log_format, redact), Stopping() as stopping:
        try:
            _run(_told(opened, redact), sinks, watched, stopping)
        except NunciusError as error:
            if os.environ.get("NUNCIUS_TRACEBACK"):
                raise
            _say_error(redact(str(error)), watched.log_format)
            # What was kept a while ago may be kept again later: the disk has room then, or the command works.
            is_passing = (
                sinks.are_open
                if isinstance(error, StorageError)
                else watched.retry_s > 0 and is_temporary(error)
            )
            raise click.exceptions.Exit(TEMPORARY if is_passing else 1) from None
        except KeyboardInterrupt:
            log.warning("stopped at once; the alerts in hand come again")
            raise click.exceptions.Exit(128 + (stopping.signal or signal.SIGINT)) from None
        if stopping.signal == signal.SIGINT:
            raise click.exceptions.Exit(130)


def _run(opened: Callable[[bool], Stream], sinks: _Sinks, watched: Watched, stopping: Stopping) -> None:
    places = sinks.places
    guard = DiskGuard(places.folders, watched.min_free_bytes) if places.folders else None
    has_line = sys.stderr.isatty() and not (places.prints and sys.stdout.isatty())
    with contextlib.ExitStack() as stack:
        stack.enter_context(sinks)
        monitor = stack.enter_context(
            Monitor(watched.urls, guard=guard, status_file=watched.status_file, logs=not has_line)
        )
        if watched.metrics:
            server = MetricsServer(watched.metrics, monitor.snapshot, version=version("nuncius"))
            stack.enter_context(server)
            log.info("metrics at %s/metrics", server.url)
        if has_line:
            stack.enter_context(_status_line(monitor))
        service = Service(
            opened,
            sinks.open,
            stopping=stopping,
            monitor=monitor,
            guard=guard,
            # A command is run at once, and only the one in hand delays a stop.
            n=1 if places.command else 500,
            timeout_s=0.05 if places.prints else 1.0,
            limit=watched.limit,
            retry_s=watched.retry_s,
        )
        try:
            service.run()
        finally:
            sinks.tell()
    where = f" -> {places}" if str(places) else ""
    trouble = f", {monitor.quarantined} quarantined" if monitor.quarantined else ""
    log.info("%d alerts%s%s", monitor.kept, where, trouble)
    if stopping.wanted:
        has_group = monitor.snapshot().stats.group is not None
        log.info(
            "stopped; the next run %s", "goes on here" if has_group else "begins anew: there is no group"
        )


def _told(opened: Callable[[bool], Stream], redact: Redactor) -> Callable[[bool], Stream]:
    """Have the streams' own secrets known before anything is said, and say once what is read."""

    def open_one(again: bool) -> Stream:
        stream = opened(again)
        redact.add_those_of(stream)
        if stream.group and not again:
            kind = "subscription" if is_subscription(stream.url) else "consumer group"
            log.info("reading %s as the %s %s", stream.url, kind, stream.group)
        return stream

    return open_one


class _Sinks:
    """The sinks, open from the first good connection on: a mistyped topic makes no empty archive."""

    def __init__(self, places: Places) -> None:
        self.are_open = False
        self.places = places
        self._stack = contextlib.ExitStack()
        self._report: IngestReport | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def open(self) -> list[Sink]:
        """Make them; what keeps most durably comes first, and what can't be undone last."""
        places = self.places
        sinks: list[Sink] = []
        if places.archive:
            from nuncius.archives import open_archive

            archive = self._stack.enter_context(open_archive(places.archive))
            sink = archive.sink(keep=places.keep, cutouts=places.cutouts)
            self._report = sink.report
            sinks.append(sink)
        if places.folder:
            sinks.append(_folder_sink(places.folder, places.format or "json"))
        if places.recording:
            from nuncius.streams.recording import RecordingSink

            sinks.append(RecordingSink(places.recording))
        if places.prints:
            sinks.append(_Printer(as_json=places.format is not None))
        if places.command:
            from nuncius.streams.command import CommandSink

            sinks.append(CommandSink(places.command))
        for one in sinks:
            self._stack.callback(one.close)
        self.are_open = True
        return sinks

    def tell(self) -> None:
        """Say what came into the archive."""
        if self._report is not None:
            found = self._report
            log.info("%d new, %d revised, %d known before", found.archived, found.revised, found.duplicates)


def _folder_sink(folder: Path, format: str) -> Sink:
    if format == "parquet":
        from nuncius.streams.parquet import ParquetSink

        return ParquetSink(folder)
    from nuncius.streams.files import FileSink

    return FileSink(folder, format)  # type: ignore[arg-type]


class _Printer:
    """Prints a line for each alert."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def write(self, items: Sequence[Alert | Notice]) -> None:
        """See `nuncius.alerts.sink.Sink`."""
        from nuncius.streams.files import as_json

        for item in items:
            click.echo(as_json(item) if self._as_json else _line(item))

    def close(self) -> None:
        """See `nuncius.alerts.sink.Sink`."""


def _line(item: Alert | Notice) -> str:
    def show(value: Any, form: str) -> str:
        return "-" if value is None else format(value, form)

    where = f"{show(item.mjd, '.5f'):>11}  {show(item.ra, '.5f'):>9} {show(item.dec, '+.5f'):>9}"
    if not isinstance(item, Alert):
        first = " ".join(item.text.split())[:60]
        return _plain(f"{item.kind:<22} {item.alert_id:<20} {where}  {first}")
    return _plain(
        f"{item.survey:<7} {item.object_id or '-':<14} {item.alert_id!s:<20} {where}  "
        f"{item.band or '-':>3} {show(item.mag, '.2f'):>6}  score {show(item.score, '.2f')}"
    )


def _plain(text: str) -> str:
    """Write what strangers sent so that it can't move a terminal's cursor."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


@contextlib.contextmanager
def _status_line(monitor: Monitor) -> Iterator[None]:
    """Show how it goes in the last line of the terminal."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    class Line:
        def __rich__(self) -> Text:
            return Text(monitor.snapshot().line(), no_wrap=True, overflow="ellipsis")

    with Live(Line(), console=Console(stderr=True), refresh_per_second=2, transient=True):
        yield


def _say_error(text: str, log_format: str) -> None:
    if log_format == "json":
        log.error("%s", text)
        return
    click.secho("nuncius: ", fg="red", bold=True, nl=False, err=True)
    click.echo(text, err=True)
