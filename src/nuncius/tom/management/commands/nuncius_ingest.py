"""``manage.py nuncius_ingest``: fill the archives of this TOM from streams, until it is stopped."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from nuncius.archives import open_archive
from nuncius.errors import NunciusError
from nuncius.streams.service import Stopping, parse_size
from nuncius.tom.configuration import NotSetError, default_archive
from nuncius.tom.ingesting import Worker, streams_of

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable

_LOOK_S = 0.5
_JOIN_S = 30.0


class Command(BaseCommand):  # type: ignore[misc]
    """Keeps the streams of ``NUNCIUS_STREAMS``; SIGTERM and Ctrl-C finish what is in hand."""

    help = "Fills the archives of this TOM from the streams in settings.NUNCIUS_STREAMS, until it is stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """See `BaseCommand`."""
        parser.add_argument("--health-s", type=float, default=60.0, help="How often a line says how it goes.")
        parser.add_argument("--min-free", default="1GB", help="Rest while a disk has less than this.")
        parser.add_argument(
            "--alert-streams", action="store_true", help="Run nuncius' streams of settings.ALERT_STREAMS too."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """See `BaseCommand`."""
        try:
            wanted = getattr(settings, "NUNCIUS_STREAMS", None)
            ingested = [] if options["alert_streams"] and not wanted else streams_of(wanted, _archive())
            min_free_bytes = parse_size(options["min_free"])
            listeners = _listeners(needed=not ingested) if options["alert_streams"] else []
        except (NunciusError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        with Stopping() as stopping, contextlib.ExitStack() as stack:
            archives: dict[Any, Any] = {}
            for one in ingested:
                if one.archive not in archives:
                    archives[one.archive] = stack.enter_context(self._opened(one.archive))
            workers = [
                Worker(one, archives[one.archive], stopping, min_free_bytes=min_free_bytes)
                for one in ingested
            ]
            threads = [*workers, *(threading.Thread(target=listener.listen) for listener in listeners)]
            lines = [*(worker.line for worker in workers), *(_line_of(listener) for listener in listeners)]
            for thread in threads:
                thread.start()
                self.stdout.write(f"started {thread.name}")
            try:
                self._watch(threads, lines, stopping, options["health_s"])
            finally:
                stopping.request()
                for listener in listeners:
                    listener.stop()
                for thread in threads:
                    thread.join(_JOIN_S)
            self._say(lines)

    def _opened(self, path: Any) -> Any:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return open_archive(path)
        except (NunciusError, OSError) as error:
            raise CommandError(str(error)) from error

    def _watch(
        self,
        threads: list[threading.Thread],
        lines: list[Callable[[], str]],
        stopping: Stopping,
        every_s: float,
    ) -> None:
        due = time.monotonic() + every_s
        while any(thread.is_alive() for thread in threads):
            if stopping.wait(_LOOK_S):
                self.stdout.write("stopping: what is in hand is finished")
                return
            if time.monotonic() >= due:
                due = time.monotonic() + every_s
                self._say(lines)

    def _say(self, lines: list[Callable[[], str]]) -> None:
        for line in lines:
            self.stdout.write(line())
        self.stdout.flush()


def _archive() -> Any:
    from nuncius.tom.services import data_services_settings

    return default_archive(data_services_settings())


def _listeners(*, needed: bool) -> list[Any]:
    from tom_alertstreams.alertstreams.alertstream import get_default_alert_streams

    from nuncius.tom.alertstreams import NunciusAlertStream

    found = [one for one in get_default_alert_streams() if isinstance(one, NunciusAlertStream)]
    if needed and not found:
        raise NotSetError(
            "settings.ALERT_STREAMS has no active stream whose NAME is nuncius.tom.alertstreams.NunciusAlertStream, and "
            "settings.NUNCIUS_STREAMS names none either: there is nothing to do"
        )
    return found


def _line_of(listener: Any) -> Callable[[], str]:
    return lambda: f"{listener.url}: {listener.supervised.counts.line()}"
