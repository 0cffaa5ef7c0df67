"""Manifests that were read before: what is in a data set never changes once it is frozen."""

from __future__ import annotations

import threading
from collections import OrderedDict

from nuncius.datasets.values import moment

_MOST_BYTES = 64 << 20


class ManifestCache:
    """Answers of the server, by URI and time of freezing; the oldest are let go. Threads may share it.

    Parameters
    ----------
    most_bytes : int
        How much is kept.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, uri: str, frozen_at: object) -> bytes | None:
        """Return an answer; None if it is not here."""
        key = _key(uri, frozen_at)
        with self._lock:
            body = self._kept.get(key)
            if body is not None:
                self._kept.move_to_end(key)
            return body

    def put(self, uri: str, frozen_at: object, body: bytes) -> None:
        """Keep an answer, unless all others would have to go for it."""
        if len(body) > self._most_bytes:
            return
        with self._lock:
            old = self._kept.pop(_key(uri, frozen_at), b"")
            self._kept[_key(uri, frozen_at)] = body
            self._bytes += len(body) - len(old)
            while self._bytes > self._most_bytes:
                self._bytes -= len(self._kept.popitem(last=False)[1])

    def forget(self, uri: str) -> None:
        """Let the answers of a data set go, which was registered anew or deleted here."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == uri]:
                self._bytes -= len(self._kept.pop(key))


def _key(uri: str, frozen_at: object) -> tuple[str, str]:
    """Return what tells a data set from others, and from itself when it was frozen anew.

    Some answers of a server have times to the microsecond and some to the millisecond.
    """
    frozen = moment(frozen_at)
    return uri, str(frozen_at) if frozen is None else f"{frozen.timestamp():.3f}"
