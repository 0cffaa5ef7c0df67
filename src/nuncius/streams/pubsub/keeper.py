"""The keeper of a subscription's leases: acknowledges what is finished, and extends the leases of what is not."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from nuncius.errors import NunciusError
from nuncius.streams.pubsub.faults import passes
from nuncius.streams.pubsub.subscriptions import patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.streams.pubsub.client import Client
    from nuncius.streams.pubsub.leases import Leases

log = logging.getLogger("nuncius.streams")

CALL_S = 5.0  # for one call to a server that is known to be there
_AT_ONCE = 1_000  # acknowledgement ids in one request, which may have 512 KiB
_KEEP_S = 0.05  # between two rounds
_FIRST_PAUSE_S = 0.1


class Chore:
    """What is to be done again and again; after each failure it waits longer.

    Parameters
    ----------
    run : callable
        Does it.
    every_s : float
        How often.
    longest_s : float
        The longest pause after failures.
    """

    def __init__(self, run: Callable[[], None], *, every_s: float, longest_s: float) -> None:
        self.trouble: str | None = None
        self._run = run
        self._every_s = every_s
        self._longest_s = longest_s
        self._due_at = time.monotonic() + every_s
        self._pause_s = _FIRST_PAUSE_S

    def work(self) -> None:
        """Do it if it is due; what passes by itself is noted as `trouble`.

        Raises
        ------
        NunciusError
            What does not pass.
        """
        now = time.monotonic()
        if now < self._due_at:
            return
        self._due_at = now + self._pause_s
        try:
            self._run()
        except NunciusError as error:
            self._pause_s = min(2 * self._pause_s, self._longest_s)
            if not passes(error):
                raise
            self.trouble = str(error)
        else:
            self.trouble = None
            self._pause_s = _FIRST_PAUSE_S
            self._due_at = now + self._every_s


class Keeper:
    """A thread that speaks to the server about the messages that we hold, however long the caller works on them.

    Parameters
    ----------
    client : Client
        The connection.
    path : str
        The subscription.
    leases : Leases
        What we hold.
    lease_s : int
        For how long leases are extended.
    on_failure : callable
        Called, from the thread, with what does not pass by itself.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        leases: Leases,
        lease_s: int,
        on_failure: Callable[[NunciusError], None],
    ) -> None:
        self._client = client
        self._path = path
        self._leases = leases
        self._lease_s = lease_s
        self._on_failure = on_failure
        self._done = threading.Event()
        third_s = lease_s / 3
        self._chores = (
            Chore(self._extend, every_s=third_s, longest_s=third_s),
            Chore(lambda: self._acknowledge(CALL_S), every_s=0.0, longest_s=third_s),
        )
        self._thread = threading.Thread(target=self._keep, name="nuncius-pubsub-keeper", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str | None:
        """What goes wrong now and may pass."""
        return next((chore.trouble for chore in self._chores if chore.trouble is not None), None)

    def flush(self, deadline: float) -> None:
        """Acknowledge all that is finished, and see that confirmed.

        Raises
        ------
        NunciusError
            If the server does not confirm it.
        """
        if self._leases.to_acknowledge:
            patiently(self._acknowledge, deadline, lambda: False)

    def give_back(self, deadline: float) -> None:
        """Let what is not finished be available again at once; what the server doesn't hear comes again later."""
        gone = self._leases.give_back()
        try:
            patiently(lambda left_s: self._modify(gone, 0, left_s), deadline, lambda: False)
        except NunciusError as error:
            log.debug("%d messages come again when their leases end: %s", len(gone), error)

    def stop(self) -> None:
        """End the thread."""
        self._done.set()
        self._thread.join(CALL_S)

    def _keep(self) -> None:
        while not self._done.wait(_KEEP_S):
            for chore in self._chores:
                try:
                    chore.work()
                except NunciusError as error:
                    self._on_failure(error)
                except BaseException as error:  # noqa: BLE001 - raised again, from the call that waits
                    self._on_failure(NunciusError(f"the stream stopped on an error of its own: {error!r}"))
                    return

    def _extend(self) -> None:
        self._modify(self._leases.ack_ids(), self._lease_s, CALL_S)

    def _acknowledge(self, timeout_s: float) -> None:
        while sent := self._leases.finished(_AT_ONCE):
            ids = [ack_id for _, ack_id in sent]
            self._client.call("Acknowledge", self._path, timeout_s, subscription=self._path, ack_ids=ids)
            self._leases.acknowledged(sent)

    def _modify(self, ack_ids: list[str], seconds: int, timeout_s: float) -> None:
        for first in range(0, len(ack_ids), _AT_ONCE):
            self._client.call(
                "ModifyAckDeadline",
                self._path,
                timeout_s,
                subscription=self._path,
                ack_ids=ack_ids[first : first + _AT_ONCE],
                ack_deadline_seconds=seconds,
            )
