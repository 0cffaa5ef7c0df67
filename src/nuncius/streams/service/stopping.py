"""SIGTERM and Ctrl-C as a wish: what is in hand is finished first."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

_SLICE_S = 0.1


class Stopping:
    """A stop is wanted from the first SIGTERM or SIGINT on; the second one raises KeyboardInterrupt where it comes.

    The handlers only set a value: nothing is interrupted in the middle, and what waits looks here. They are in force
    within the ``with`` block, in the main thread; in another thread nothing is installed, and `request` does the same.

    Attributes
    ----------
    signal : int, optional
        Which signal it was.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def wanted(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    def request(self, number: int = signal.SIGTERM) -> None:
        """Wish the stop; called from any thread."""
        self.signal = number

    def wait(self, seconds: float) -> bool:
        """Sleep, but not longer than until the stop; return whether it is wished."""
        end = time.monotonic() + seconds
        while not self.wanted and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_S))
        return self.wanted

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.request(number)
