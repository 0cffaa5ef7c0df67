"""Several streams as one: an engine for each, and what the caller sees of them together."""

from __future__ import annotations

import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeAlias

from nuncius.errors import ConfigurationError, NunciusError, UnsupportedError
from nuncius.streams.engine import as_items
from nuncius.streams.rules import StreamStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nuncius.alerts import Alert
    from nuncius.streams.bounds import Start
    from nuncius.streams.engine import Engine
    from nuncius.streams.rules import Rules
    from nuncius.streams.transport import Partition

_SUMS = frozenset(
    {"received", "received_bytes", "handed_out", "acknowledged", "quarantined", "skipped", "filtered", "duplicates",
     "waiting", "unacknowledged"}
)  # fmt: skip


class Merged:
    """The engines of several streams. Each fails for all: a broker that is silently missing would be a lie.

    Parameters
    ----------
    engines : mapping
        The engines by what is said of them, their URLs.
    rules : Rules
        What holds for all of them together.
    """

    def __init__(self, engines: Mapping[str, Engine], rules: Rules) -> None:
        self.rules = rules
        self._engines = dict(engines)
        self._left = rules.stop.count
        self._turn = 0
        self._failure: NunciusError | None = None

    @property
    def stats(self) -> StreamStats:
        """The figures of all together, as they are now."""
        return self.snapshot()

    def start(self) -> None:
        """Start all threads, once."""
        for engine in self._engines.values():
            engine.start()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever there is something new to take or to know."""
        for engine in self._engines.values():
            engine.on_change(listener)

    @property
    def connected(self) -> bool:
        """Whether all connections stood once; raises what made one of them fail."""
        self._raise_again()
        stand = []
        for url, engine in self._engines.items():
            try:
                stand.append(engine.connected)
            except NunciusError as error:
                self._fail(url, error)
                raise
        return all(stand)

    def take(self, n: int, room: int | None = None) -> list[Alert] | None:
        """Return at most `n` alerts that are there, of all streams in turn; None when no more will come."""
        self._raise_again()
        if self._left is not None:
            n = min(n, self._left)
        # Another one begins each time, and first takes its share only: a busy stream leaves room to the others.
        self._turn += 1
        urls = list(self._engines)
        urls = urls[self._turn % len(urls) :] + urls[: self._turn % len(urls)]
        alerts: list[Alert] = []
        ended = 0
        for share in (max(1, n // len(urls)), n):
            ended = 0
            for url in urls:
                try:
                    found = self._engines[url].take(min(share, n - len(alerts)), self._room())
                except NunciusError as error:
                    if alerts:
                        break  # raised again by the next call: these go out first
                    self._fail(url, error)
                    raise
                ended += found is None
                alerts += found or []
            if not alerts or len(alerts) == n:
                break
        if alerts:
            if self._left is not None:
                self._left -= len(alerts)
            return alerts
        return None if ended == len(urls) or self._left == 0 else []

    @property
    def is_finished(self) -> bool:
        """Whether all that was handed out is finished."""
        return all(engine.is_finished for engine in self._engines.values())

    @property
    def has_room(self) -> bool:
        """Whether more may be handed out before some is acknowledged."""
        return self._room() > 0

    def finish_in_hand(self) -> None:
        """Finish what was handed out and not acknowledged."""
        for engine in self._engines.values():
            engine.finish_in_hand()

    def acknowledge(self, alerts: Alert | Iterable[Alert]) -> None:
        """Finish alerts; a second time changes nothing."""
        by_engine: dict[int, tuple[Engine, list[Alert]]] = {}
        for alert in as_items(alerts):
            engine = self._engine_of(alert)
            by_engine.setdefault(id(engine), (engine, []))[1].append(alert)
        for engine, own in by_engine.values():
            engine.acknowledge(own)

    def release(self, alert: Alert, delay_s: float) -> bool:
        """Hand an alert out again after a delay; it stays unfinished. Return whether it was in the caller's hands."""
        is_released = self._engine_of(alert).release(alert, delay_s)
        if is_released and self._left is not None:
            self._left += 1
        return is_released

    def seek(self, where: Start | Mapping[Partition, int]) -> None:
        """Move all streams to a time, or to their beginning or end."""
        if not hasattr(where, "name"):
            raise UnsupportedError(
                "offsets belong to one broker: several streams read as one can seek a time, 'earliest' or 'latest'"
            )
        if self.rules.seen is not None:
            self.rules.seen.forget()  # once, or what one stream brings again would be forgotten for the next
        for engine in self._engines.values():
            engine.move(where)

    def lag(self) -> dict[Partition, int]:
        """Return how many messages are not finished; the topics are written with their streams' URLs."""
        return {
            (_server(url) + topic, partition): count
            for url, engine in self._engines.items()
            for (topic, partition), count in engine.lag().items()
        }

    def topics(self) -> list[str]:
        """Return the names of all topics that can be read, with their streams' URLs."""
        return [_server(url) + name for url, engine in self._engines.items() for name in engine.topics()]

    def snapshot(self) -> StreamStats:
        """Return the figures of all together."""
        all_of_them = [engine.snapshot() for engine in self._engines.values()]
        found: dict[str, Any] = {
            item.name: sum(getattr(stats, item.name) for stats in all_of_them)
            for item in fields(StreamStats)
            if item.name in _SUMS
        }
        troubles = [stats.last_error for stats in all_of_them if stats.last_error]
        groups = {stats.group for stats in all_of_them if stats.group}
        return StreamStats(
            **found,
            paused=any(stats.paused for stats in all_of_them),
            last_error="; ".join(troubles) or None,
            last_alert=max((stats.last_alert for stats in all_of_them if stats.last_alert), default=None),
            group=", ".join(sorted(groups)) or None,
        )

    def by_stream(self) -> dict[str, StreamStats]:
        """Return the figures of each stream by its URL."""
        return {url: engine.snapshot() for url, engine in self._engines.items()}

    def close(self, *, finish: bool) -> None:
        """Begin to close all."""
        for engine in self._engines.values():
            engine.close(finish=finish)

    def join(self, timeout_s: float) -> None:
        """Wait until all have committed and left."""
        deadline = time.monotonic() + timeout_s
        for engine in self._engines.values():
            engine.join(max(0.1, deadline - time.monotonic()))

    def _room(self) -> int:
        if self.rules.acknowledge != "manual":
            return self.rules.max_unacknowledged
        unfinished = sum(engine.unfinished for engine in self._engines.values())
        return max(0, self.rules.max_unacknowledged - unfinished)

    def _fail(self, url: str, error: NunciusError) -> None:
        """Let an error say which of the streams it was, and the others leave, as nobody will read them any more."""
        if error.url is None:
            error.url = url
        self._failure = error
        for engine in self._engines.values():
            if engine.is_free:
                engine.close(finish=False)

    def _raise_again(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _engine_of(self, alert: Alert) -> Engine:
        for engine in self._engines.values():
            if engine.owns(alert):
                return engine
        raise ConfigurationError(f"{alert!r} was not handed out by this stream")


def _server(url: str) -> str:
    """Return the URL of a stream without its topics."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/" if "/" in rest else f"{scheme}://"


Source: TypeAlias = "Engine | Merged"
"""What a stream stands on."""
