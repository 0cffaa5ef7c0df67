"""Streams for tom-alertstreams: ``manage.py readstreams`` with Kafka, every broker of ours, and Pub/Sub, by URL.

::

    ALERT_STREAMS = [
        {
            "ACTIVE": True,
            "NAME": "nuncius.tom.alertstreams.NunciusAlertStream",
            "OPTIONS": {
                "URL": "pittgoogle://ztf-loop",
                "GROUP": "my-tom",
                "TOPIC_HANDLERS": {"ztf-loop": "custom_code.handlers.make_target"},
            },
        },
    ]

A handler is called with one alert (`nuncius.Alert`) within a transaction of its own; see `nuncius.tom.supervision` for what
is promised. ``manage.py nuncius_ingest --alert-streams`` runs them too, and stops them cleanly.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError, close_old_connections, connections, transaction
from tom_alertstreams.alertstreams.alertstream import AlertStream

from nuncius.brokers import open_stream
from nuncius.settings import data_dir
from nuncius.streams.quarantine import Quarantine
from nuncius.tom.supervision import ATTEMPTS, Supervised

if TYPE_CHECKING:
    from nuncius.streams import Stream

_QUARANTINE_BYTES = 10**9


class NunciusAlertStream(AlertStream):  # type: ignore[misc]
    """A stream by its URL.

    Options
    -------
    URL : str
        What `nuncius.open_stream` takes.
    TOPIC_HANDLERS : mapping
        From a topic (of Pub/Sub, the subscription) to the dotted name of a function of one alert; ``"*"`` is for all
        other topics.
    GROUP, START, WHERE, ATTRIBUTE_FILTER, CREDENTIALS : optional
        As the options of `nuncius.open_stream` of these names.
    STREAM : mapping, optional
        Further ones.
    ATTEMPTS : int, optional
        How often a handler may fail with one alert (5).
    QUARANTINE_DIR : str, optional
        Where alerts go that can't be handled; by default in nuncius' data folder.

    Raises
    ------
    ImproperlyConfigured
        If an option is missing or means nothing.
    """

    required_keys: ClassVar[list[str]] = ["URL", "TOPIC_HANDLERS"]
    allowed_keys: ClassVar[list[str]] = [
        "URL", "TOPIC_HANDLERS", "GROUP", "START", "WHERE", "ATTRIBUTE_FILTER", "CREDENTIALS", "STREAM", "ATTEMPTS",
        "QUARANTINE_DIR",
    ]  # fmt: skip

    def __init__(self, *args: Any, **options: Any) -> None:
        for name in options:
            if name not in self.allowed_keys:
                close = difflib.get_close_matches(name, self.allowed_keys, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(self.allowed_keys)}"
                raise ImproperlyConfigured(
                    f"ALERT_STREAMS: {type(self).__name__} has no option {name}; {hint}"
                )
        super().__init__(*args, **options)
        names = ("GROUP", "START", "WHERE", "ATTRIBUTE_FILTER", "CREDENTIALS")
        given = {name.lower(): options[name] for name in names if options.get(name) is not None}
        self._options = {**(options.get("STREAM") or {}), **given}
        folder = options.get("QUARANTINE_DIR") or data_dir() / "quarantine" / "handlers"
        self.supervised = Supervised(
            self._opened,
            self.alert_handler,
            quarantine=Quarantine(Path(folder).expanduser(), _QUARANTINE_BYTES),
            attempts=int(options.get("ATTEMPTS") or ATTEMPTS),
            transaction=lambda: transaction.atomic(durable=True),
            outage=(OperationalError, InterfaceError),
            recover=close_old_connections,
        )

    def listen(self) -> None:
        """Give alerts to the handlers until `stop` is called."""
        try:
            self.supervised.run()
        finally:
            connections.close_all()  # those of this thread

    def stop(self) -> None:
        """End after the alert in hand; called from any thread."""
        self.supervised.stop()

    def _opened(self) -> Stream:
        return open_stream(self.url, acknowledge="manual", **self._options)
