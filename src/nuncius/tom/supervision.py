"""A handler for each alert of a stream, looked after: nothing is acknowledged that is not committed, nothing runs hot.

- An alert is acknowledged when its handler has returned and the database transaction around it is committed.
- A handler that raises gets the alert again, after a delay that grows. What has failed `attempts` times is kept in a
  quarantine folder with the reason, and then acknowledged: one odd alert stops nobody.
- Trouble of the database is no fault of an alert: it is not counted, and the stream rests until the database is back.
- A stream that breaks, or can't be opened, is opened again after a delay that grows; the log says why.

Nothing here knows of Django.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nuncius.errors import ConfigurationError, NunciusError, PacketError
from nuncius.streams._sync import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from contextlib import AbstractContextManager

    from nuncius.alerts import Alert, Notice
    from nuncius.streams import Stream
    from nuncius.streams.quarantine import Quarantine

log = logging.getLogger("nuncius.tom")

ATTEMPTS = 5
_SLICE_S = 0.5
_FIRST_DELAY_S, _LONGEST_RELEASE_S, _LONGEST_PAUSE_S = 1.0, 300.0, 600.0
_REMEMBERED = 100_000

Handler = Any


@dataclass(slots=True)
class Counts:
    """What became of the alerts so far: handled and committed, given back, put aside, and how often the stream was opened."""

    handled: int = 0
    released: int = 0
    quarantined: int = 0
    opened: int = 0
    last_error: str | None = None

    def line(self) -> str:
        """Return it in one line."""
        said = f"{self.handled:,} handled, {self.released:,} given back, {self.quarantined:,} in quarantine"
        return said if self.last_error is None else f"{said}; {self.last_error}"


class Delays:
    """Delays that double, with some jitter, up to a longest one."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._next_s = _FIRST_DELAY_S

    def reset(self) -> None:
        """Begin again with the shortest one."""
        self._next_s = _FIRST_DELAY_S

    def next(self) -> float:
        """Return the delay, and let the one after it be longer."""
        delay_s = self._next_s * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        self._next_s = min(2 * self._next_s, self._longest_s)
        return delay_s


class Supervised:
    """Gives the alerts of a stream to handlers until it is stopped.

    Parameters
    ----------
    opened : callable
        Opens the stream, with ``acknowledge="manual"``.
    handlers : mapping
        From a topic to what is called with each alert; ``"*"`` is for all other topics.
    quarantine : Quarantine
        Where alerts go that can't be handled.
    attempts : int
        How often a handler may fail with one alert.
    transaction : callable, optional
        Makes the ``with`` block around a handler; when it is left, all is committed.
    outage : tuple of exception classes
        What means that the database is in trouble.
    recover : callable, optional
        Called after such trouble, to have the connection made anew.
    """

    def __init__(
        self,
        opened: Callable[[], Stream],
        handlers: Mapping[str, Handler],
        *,
        quarantine: Quarantine,
        attempts: int = ATTEMPTS,
        transaction: Callable[[], AbstractContextManager[Any]] = nullcontext,
        outage: tuple[type[Exception], ...] = (),
        recover: Callable[[], None] = lambda: None,
    ) -> None:
        if attempts < 1:
            raise ConfigurationError(f"attempts={attempts}: a handler has at least one")
        self.counts = Counts()
        self._opened = opened
        self._handlers = handlers
        self._quarantine = quarantine
        self._attempts = attempts
        self._transaction = transaction
        self._outage = outage
        self._recover = recover
        self._stopped = threading.Event()
        self._failed: OrderedDict[Hashable, int] = OrderedDict()
        self._pauses = Delays(_LONGEST_PAUSE_S)

    def stop(self) -> None:
        """End after the alert in hand; called from any thread."""
        self._stopped.set()

    def run(self) -> None:
        """Work until it is stopped, or the stream has an end and reaches it."""
        while not self._stopped.is_set():
            try:
                with self._opened() as stream:
                    self.counts.opened += 1
                    self._read(stream)
                    # What was given back comes again after a restart; leaving by the block's end would finish nothing
                    # that was not acknowledged.
                    if stream._over:
                        return
            except NunciusError as error:
                self._note(str(error))
            except Exception as error:  # a thread that is looked after does not die of anything unseen
                log.exception("the stream broke")
                self._note(f"{type(error).__name__}: {error}")

    def _note(self, error: str) -> None:
        delay_s = self._pauses.next()
        self.counts.last_error = error
        log.error("%s. The stream is opened again in %.0f s", error.rstrip("."), delay_s)
        self._stopped.wait(delay_s)

    def _read(self, stream: Stream) -> None:
        while not self._stopped.is_set():
            alert = stream.poll(_SLICE_S)
            if alert is not None:
                self._handle(stream, alert)
            elif stream._over:
                return

    def _handle(self, stream: Stream, alert: Alert | Notice) -> None:
        handler = self._handler(alert)
        try:
            with self._transaction():
                handler(alert)
        except self._outage as error:
            stream.release(alert)  # type: ignore[arg-type]
            self.counts.released += 1
            self._rest(error)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, its alert comes again
            self._give_back(stream, alert, error)
        else:
            self._failed.pop(_identity(alert), None)
            stream.acknowledge(alert)  # type: ignore[arg-type]
            self.counts.handled += 1
            self.counts.last_error = None
            self._pauses.reset()

    def _rest(self, error: Exception) -> None:
        delay_s = self._pauses.next()
        self.counts.last_error = f"the database is in trouble: {error}"
        log.warning("%s. The stream rests %.0f s", self.counts.last_error, delay_s)
        self._stopped.wait(delay_s)
        self._recover()

    def _give_back(self, stream: Stream, alert: Alert | Notice, error: Exception) -> None:
        identity = _identity(alert)
        if not readable([alert], "quarantine"):  # type: ignore[list-item]
            stream.acknowledge(alert)  # type: ignore[arg-type]  # the stream itself has put the packet aside
            self.counts.quarantined += 1
            return
        times = self._failed.pop(identity, 0) + 1
        reason = f"{type(error).__name__}: {error}"
        self.counts.last_error = reason
        if times >= self._attempts:
            self._put_aside(alert, f"its handler has failed {times} times: {reason}")
            stream.acknowledge(alert)  # type: ignore[arg-type]
            self.counts.quarantined += 1
            return
        self._failed[identity] = times
        while len(self._failed) > _REMEMBERED:
            self._failed.popitem(last=False)
        delay_s = min(_FIRST_DELAY_S * 2 ** (times - 1), _LONGEST_RELEASE_S)
        log.warning(
            "%s: %s; given back for %.0f s (%d of %d)", alert.origin, reason, delay_s, times, self._attempts
        )
        stream.release(alert, delay_s)  # type: ignore[arg-type]
        self.counts.released += 1

    def _put_aside(self, alert: Alert | Notice, reason: str) -> None:
        assert alert.origin is not None  # it came from a stream
        path = self._quarantine.put(alert.origin, alert.raw, PacketError(reason))
        log.error("%s: %s; kept in %s", alert.origin, reason, path)

    def _handler(self, alert: Alert | Notice) -> Handler:
        topic = "" if alert.origin is None else alert.origin.topic
        for name in (topic, topic.rpartition("/")[2], "*"):
            if name in self._handlers:
                return self._handlers[name]
        raise ConfigurationError(
            f"an alert of the topic {topic!r} came, and TOPIC_HANDLERS has no handler for it (it has "
            f"{', '.join(self._handlers)}); name one, or '*' for all others. Nothing was acknowledged",
            position=topic,
        )


def _identity(alert: Alert | Notice) -> Hashable:
    # Not the offset: a message that a server delivers again may have another one.
    return alert.key
