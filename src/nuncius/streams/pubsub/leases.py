"""What a subscription has lent us: messages that are ours until their lease ends, and those that are to be acknowledged.

Pure bookkeeping, for several threads. A message that comes again while we still hold it (its lease had ended) is the same
message with a newer acknowledgement id, and nothing to be handed out a second time.
"""

from __future__ import annotations

import hashlib
import threading

_DIGITS = 19  # so many fit into 63 bits


class Lease:
    """One message that we hold."""

    __slots__ = ("ack_id", "number", "size")

    def __init__(self, number: int, ack_id: str, size: int) -> None:
        self.number = number
        self.ack_id = ack_id
        self.size = size


class Leases:
    """All messages of one subscription that we hold."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[int, Lease] = {}
        self._finished: dict[int, Lease] = {}
        self._bytes = 0

    def take(self, number: int, ack_id: str, size: int) -> bool:
        """Note a message that came; return whether it is new to us."""
        with self._lock:
            known = self._held.get(number) or self._finished.get(number)
            if known is not None:
                known.ack_id = ack_id
                return False
            self._held[number] = Lease(number, ack_id, size)
            self._bytes += size
            return True

    def finish(self, number: int) -> None:
        """Note that a message is finished; one that was given back already is not ours any more."""
        with self._lock:
            lease = self._held.pop(number, None)
            if lease is not None:
                self._finished[number] = lease

    def finished(self, n: int) -> list[tuple[int, str]]:
        """Return at most `n` messages to be acknowledged: their numbers and acknowledgement ids."""
        with self._lock:
            first = list(self._finished.values())[:n]
            return [(lease.number, lease.ack_id) for lease in first]

    def acknowledged(self, sent: list[tuple[int, str]]) -> None:
        """Forget messages whose acknowledgement the server has confirmed, unless they came anew meanwhile."""
        with self._lock:
            for number, ack_id in sent:
                lease = self._finished.get(number)
                if lease is not None and lease.ack_id == ack_id:
                    del self._finished[number]
                    self._bytes -= lease.size

    def ack_ids(self) -> list[str]:
        """Return the acknowledgement ids of all messages that we hold, for extending their leases."""
        with self._lock:
            return [lease.ack_id for leases in (self._held, self._finished) for lease in leases.values()]

    def give_back(self) -> list[str]:
        """Let all unfinished messages go; return their acknowledgement ids."""
        with self._lock:
            gone = list(self._held.values())
            self._held.clear()
            self._bytes -= sum(lease.size for lease in gone)
            return [lease.ack_id for lease in gone]

    @property
    def count(self) -> int:
        """How many messages we hold."""
        return len(self._held) + len(self._finished)

    @property
    def size(self) -> int:
        """How many bytes they have."""
        return self._bytes

    @property
    def to_acknowledge(self) -> int:
        """How many are finished, and the server does not know it yet."""
        return len(self._finished)


def number_of(message_id: str) -> int:
    """Return the number that stands for a message's id: the id itself, which at Google is one, else a digest of it."""
    # A leading zero would give two ids one number.
    if (
        message_id.isascii()
        and message_id.isdigit()
        and len(message_id) < _DIGITS
        and not message_id.startswith("0")
    ):
        return int(message_id)
    return int.from_bytes(hashlib.blake2b(message_id.encode(), digest_size=8).digest()) >> 1
