"""What goes wrong on purpose on the Pub/Sub server, and what it notes about its calls."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import NamedTuple

from nuncius.errors import ConfigurationError

_NOTED = 100_000
_CODES = (
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
    "UNAVAILABLE", "DATA_LOSS",
)  # fmt: skip


class PubSubRequest(NamedTuple):
    """A call that arrived.

    Parameters
    ----------
    rpc : str
        Its name. What arrives on an open stream is noted as ``StreamingPull/Acknowledge`` and
        ``StreamingPull/ModifyAckDeadline``.
    name : str
        The path of the topic, subscription, snapshot or project.
    ids : int
        How many acknowledgement ids it has, or how many messages.
    deadline_s : int
        What the deadline is to be; -1 where none is said.
    """

    rpc: str
    name: str
    ids: int = 0
    deadline_s: int = -1


@dataclass(frozen=True, slots=True)
class PubSubFault:
    """A call that fails, and how."""

    rpc: str
    code: str
    text: str
    times: int | None = 1
    after: int = 0
    done: bool = False


class PubSubFaults:
    """Notes calls and lets some of them fail; for any thread."""

    def __init__(self) -> None:
        self.requests: deque[PubSubRequest] = deque(maxlen=_NOTED)
        self._waiting: list[PubSubFault] = []
        self._lock = threading.Lock()

    def add(self, fault: PubSubFault) -> None:
        """Let something fail; what was added earlier fails earlier.

        Raises
        ------
        ConfigurationError
            If gRPC has no such code.
        """
        if fault.code not in _CODES:
            raise ConfigurationError(f"code={fault.code!r}: gRPC's codes are {', '.join(_CODES)}")
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        """Forget the faults that did not happen yet."""
        with self._lock:
            self._waiting.clear()

    def next(self, rpc: str) -> PubSubFault | None:
        """Return what goes wrong with this call, if anything does."""
        with self._lock:
            for place, fault in enumerate(self._waiting):
                if fault.rpc != rpc:
                    continue
                if fault.times == 1:
                    del self._waiting[place]
                elif fault.times is not None:
                    self._waiting[place] = replace(fault, times=fault.times - 1)
                return fault
        return None
