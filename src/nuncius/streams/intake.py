"""From messages to alerts: reading, filters, and what happens to a message that can't be read."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from nuncius.alerts import Alert
from nuncius.errors import NunciusError, PacketError, QuarantineFullError, UnreachableError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from nuncius.alerts import Notice
    from nuncius.streams.book import Book
    from nuncius.streams.delivery import Ledger, Ticket
    from nuncius.streams.quarantine import Quarantine
    from nuncius.streams.rules import Rules, Seen, StreamStats
    from nuncius.streams.transport import Message, Transport

log = logging.getLogger("nuncius.streams")

_DECODED_COST = 8  # a decoded packet takes about so many times the memory of its bytes
_POISONED_RUN = 1_000
_SLICE_S = 0.02


class Intake:
    """Makes alerts of messages and puts them into the book; used by the engine's thread alone.

    Parameters
    ----------
    rules, stats, book, quarantine, transport
        Of the stream.
    lock : lock
        The engine's, for the book.
    is_closing : callable
        Tells whether the stream is being closed.
    """

    def __init__(
        self,
        rules: Rules,
        stats: StreamStats,
        book: Book,
        quarantine: Quarantine,
        transport: Transport,
        lock: threading.RLock,
        is_closing: Callable[[], bool],
    ) -> None:
        self._rules = rules
        self._stats = stats
        self._book = book
        self._quarantine = quarantine
        self._transport = transport
        self._lock = lock
        self._is_closing = is_closing
        self._ready: list[tuple[Any, int]] = []  # checked, and not in the book yet
        self._dropped: list[Ticket] = []

    def accept(self, message: Message, ledger: Ledger) -> None:
        """Read one message; what can't be read goes into the quarantine.

        Raises
        ------
        PacketError
            With ``on_error="raise"``, if it can't be read.
        QuarantineFullError
            If too much can't be read.
        UnreachableError
            If its schema can't be had.
        """
        self._stats.received += 1
        self._stats.received_bytes += len(message.value or b"")
        try:
            self._open(message, ledger)
        except PacketError as error:
            # Hand out what came before, so that a stream that stops here has lost nothing of it.
            self.put()
            self._poison(message, ledger, error)

    def put(self) -> bool:
        """Put what was read into the book, without what filters drop; return whether there is more to hand out."""
        ready, self._ready = self._ready, []
        if ready and self._rules.near is not None:
            ready = self._nearby(ready, self._rules.near)
        if ready and self._rules.seen is not None:  # last: a copy of what was not wanted may be wanted
            ready = self._new(ready, self._rules.seen)
        dropped, self._dropped = self._dropped, []
        if not ready and not dropped:
            return False
        with self._lock:
            for ticket in dropped:
                ticket.ledger.finish(ticket)
            self._book.put(ready)
        return bool(ready)

    # Reading ----------------------------------------------------------------------------------------------------------

    def _open(self, message: Message, ledger: Ledger) -> None:
        if message.value is None:
            raise PacketError("the message has no value (a tombstone)")
        if message.headers is None:
            raise PacketError("a header of the message has a name that is no UTF-8")
        if self._rules.attributes is not None and not self._rules.attributes(_texts(message.headers)):
            self._stats.filtered += 1
            self._dropped.append(ledger.enter(message.offset))
            return
        items = self._read(message)
        wanted = [self._is_wanted(item) for item in items]  # all of them whole, before any is entered
        if not items:
            self._dropped.append(
                ledger.enter(message.offset)
            )  # a test message, say: there is nothing to hand out
        for item, is_wanted in zip(items, wanted, strict=True):
            ticket = ledger.enter(message.offset)
            if not is_wanted:
                self._stats.filtered += 1
                self._dropped.append(ticket)
            else:
                object.__setattr__(item, "_delivery", ticket)  # a notice is frozen for everybody else
                self._ready.append((item, _cost(item)))

    def _read(self, message: Message) -> Sequence[Alert | Notice]:
        """Read a message; wait for a schema registry that is out of reach, for the packet is not to blame."""
        origin = self._transport.origin(message, self._rules.broker)
        give_up = time.monotonic() + self._rules.connect_timeout_s
        delay_s = 0.1
        while True:
            try:
                return self._rules.read(message, origin)
            except NunciusError as error:
                self.put()  # what came before it needs no schema
                if not isinstance(error, UnreachableError) or time.monotonic() + delay_s > give_up:
                    raise
            again = time.monotonic() + delay_s
            while time.monotonic() < again:
                if self._is_closing():
                    raise UnreachableError("the stream was closed while it waited for its schemas")
                time.sleep(_SLICE_S)
            delay_s *= 2

    # Filtering --------------------------------------------------------------------------------------------------------

    def _is_wanted(self, item: Alert | Notice) -> bool:
        """Check what the rules ask for; damage shows here, where it is this message's and nobody else's."""
        rules = self._rules
        if rules.validate:
            _ = item.packet
        if rules.where is not None and not rules.where(item):
            return False
        if rules.near is not None:
            _ = item.ra
        if rules.seen is not None:
            _ = item.key
        return True

    def _nearby(self, ready: list[tuple[Any, int]], near: Any) -> list[tuple[Any, int]]:
        """Finish what lies elsewhere, and note in the others which target they are near."""
        import numpy as np

        places = np.array([(item.ra, item.dec) for item, _ in ready], dtype=float).reshape(-1, 2)
        inside = near(places[:, 0], places[:, 1])
        kept = [entry for entry, keep in zip(ready, inside, strict=True) if keep]
        self._dropped += [item._delivery for (item, _), keep in zip(ready, inside, strict=True) if not keep]
        self._stats.filtered += len(ready) - len(kept)
        if kept and near.names is not None:
            indexes, separations = near.match(*places[inside].T)
            for (item, _), index, separation in zip(kept, indexes, separations, strict=True):
                note = {"index": int(index), "separation_arcsec": float(separation)}
                note |= {"name": near.names[int(index)]} if near.names else {}
                if isinstance(item, Alert):
                    item._annotations = {**(item._annotations or {}), "watchlist": note}
        return kept

    def _new(self, ready: list[tuple[Any, int]], seen: Seen) -> list[tuple[Any, int]]:
        """Finish what came before."""
        kept = [entry for entry in ready if seen.is_new(entry[0].key, entry[0]._delivery)]
        if len(kept) < len(ready):
            new = {id(item) for item, _ in kept}
            self._dropped += [item._delivery for item, _ in ready if id(item) not in new]
            self._stats.duplicates += len(ready) - len(kept)
        return kept

    # What can't be read -----------------------------------------------------------------------------------------------

    def _poison(self, message: Message, ledger: Ledger, error: PacketError) -> None:
        origin = self._transport.origin(message, self._rules.broker)
        where = type(error)(f"{origin}: {error}", position=origin.position)
        if self._rules.on_error == "raise":
            raise where from error
        if self._rules.on_error == "quarantine":
            path = self._quarantine.put(origin, message.value, error)
            self._stats.quarantined += 1
            log.warning("%s: quarantined as %s", where, path)
        else:
            self._stats.skipped += 1
            log.warning("%s: skipped", where)
        with self._lock:
            run = self._book.poisoned(ledger.enter(message.offset))
        if run >= _POISONED_RUN:
            raise QuarantineFullError(
                f"the last {run} messages could not be read, the last of them because: {error}. Something is wrong "
                "with the topic, the schema or this program, so nothing of them was acknowledged. They are in "
                f"{self._quarantine.folder}",
                position=origin.position,
            ) from error


def _texts(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    """Return attributes as texts; the last of several with one name counts."""
    return {name: (value or b"").decode("utf-8", "replace") for name, value in headers}


def _cost(item: Alert | Notice) -> int:
    """Estimate the bytes that an item takes while it waits; what came compressed is unpacked already."""
    if not isinstance(item, Alert):
        return len(item.raw) * _DECODED_COST
    size = max(len(item.raw), item._opened.size)
    return size if item._packet is None and item._opened.is_lazy else size * _DECODED_COST
