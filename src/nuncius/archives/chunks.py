"""Many positions, asked in pieces: a bounded number of requests at a time, of a size that the archive bears.

The pieces are not cut beforehand. Each archive has a few workers that take positions from one queue, and more of them at
a time when answers come quickly. So a slow archive takes few, one that dies gives its positions back to the others, and
the same loop serves one archive and a federation of them.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nuncius._core.operations import Gather, Sleep
from nuncius.archives.backend import Failure, Hits
from nuncius.errors import DeadlineError, ServerError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuncius._core.operations import Deadline, Operation
    from nuncius.archives.backend import Backend, Cones
    from nuncius.archives.language import Document
    from nuncius.errors import NunciusError

_QUICK_S, _SLOW_S = 1.0, 5.0  # an answer within these doubles, beyond these halves, the next piece
_PIECE_S = 60.0  # one piece may take; the deadline is that of all of them
_TIMEOUTS = 3  # halvings because of time-outs, before the positions count as failed
_IDLE_S = 0.02
_SMALLEST = 25  # positions; a request costs about as much as that many of them
_PAYLOAD_TOO_LARGE = 413
_SHARES_ALONE, _SHARES = 2, 4  # of what is left, for each worker: a piece is at most one of them


class _Queue:
    """The positions that are not done; shared by all workers, which may be threads."""

    def __init__(self, count: int) -> None:
        self.lock = threading.Lock()
        self._waiting: deque[tuple[list[int], int]] = (
            deque()
        )  # given back, with the number of time-outs so far
        self._next, self._end = 0, count
        self._in_work = 0
        self.found: dict[int, list[Document]] = {}
        self.failures: list[Failure] = []

    def take(self, most: int, shares: int) -> tuple[list[int], int] | None:
        """Take positions, or None if there are none now.

        Towards the end pieces get smaller, so that nobody waits for one worker with a large one.
        """
        with self.lock:
            left = self._end - self._next + sum(len(indexes) for indexes, _ in self._waiting)
            most = min(most, max(_SMALLEST, math.ceil(left / shares)))
            if self._waiting:
                indexes, timeouts = self._waiting.popleft()
                if len(indexes) > most:
                    self._waiting.appendleft((indexes[most:], timeouts))
                    indexes = indexes[:most]
            elif self._next < self._end:
                indexes, timeouts = list(range(self._next, min(self._next + most, self._end))), 0
                self._next += len(indexes)
            else:
                return None
            self._in_work += 1
            return indexes, timeouts

    def done(self, indexes: Sequence[int], documents: Sequence[Document]) -> None:
        groups: dict[int, list[Document]] = {index: [] for index in indexes}
        for document in documents:
            place = document["input_index"]
            if not 0 <= place < len(indexes):
                raise ServerError("an archive answered for a position that nobody asked for")
            document["input_index"] = indexes[place]
            groups[indexes[place]].append(document)
        with self.lock:
            self._in_work -= 1
            self.found |= groups

    def give_back(self, pieces: Sequence[list[int]], timeouts: int) -> None:
        with self.lock:
            self._in_work -= 1
            self._waiting.extend((piece, timeouts) for piece in pieces if piece)

    def failed(self, indexes: list[int], error: Exception) -> None:
        with self.lock:
            self._in_work -= 1
            self.failures.append(Failure(indexes, error))

    def stop(self) -> None:
        """Hand out nothing more: what failed makes the whole question impossible."""
        with self.lock:
            self._in_work -= 1
            self._waiting.clear()
            self._next = self._end

    @property
    def is_over(self) -> bool:
        """Whether nothing waits and nobody works, so that nothing can be given back."""
        with self.lock:
            return not self._waiting and self._next >= self._end and not self._in_work

    def rest(self) -> list[int]:
        with self.lock:
            left = [index for indexes, _ in self._waiting for index in indexes]
            return sorted([*left, *range(self._next, self._end)])


@dataclass(slots=True)
class Member:
    """One archive of those that share the positions.

    Parameters
    ----------
    backend : Backend
        The archive.
    size : int
        How many positions it gets next.
    largest : int
        How many it gets at most.
    error : Exception, optional
        Why it is out of the running.
    positions : int
        How many it has answered.
    """

    backend: Backend
    size: int
    largest: int
    error: NunciusError | None = None
    positions: int = 0
    busy_s: float = field(default=0.0)


def search(backends: Sequence[Backend], query: Cones, deadline: Deadline) -> Operation[Hits]:
    """Search cones on one archive, or on several that all have the catalog.

    Raises
    ------
    NunciusError
        What makes the whole question impossible: a wrong filter, a login that is refused. When no position at all was
        answered, the error that was met; else what failed is listed in the result.
    """
    queue = _Queue(len(query.ra))
    members = [Member(backend, *backend.chunk_positions) for backend in backends]
    count, alone = sum(backend.side_by_side for backend in backends), len(members) == 1
    # Of several archives one may be slow: before anything is known of it, it gets little.
    shares = count * (_SHARES_ALONE if alone else _SHARES)
    workers = [
        _work(member, queue, query, deadline, shares, alone=alone)
        for member in members
        for _ in range(member.backend.side_by_side)
    ]
    outcomes = yield Gather(workers, limit=count)
    for outcome in outcomes:
        outcome.result()  # what is wrong with the question itself
    failures = queue.failures
    left = queue.rest()
    if left:
        error = next((member.error for member in members if member.error is not None), None)
        failures.append(Failure(left, error or UnreachableError("no archive is left to ask")))
    if failures and not queue.found:
        raise failures[0].error
    documents = [document for index in sorted(queue.found) for document in queue.found[index]]
    return Hits(documents, sorted(failures, key=lambda failure: failure.indexes[0]))


def _work(
    member: Member, queue: _Queue, query: Cones, deadline: Deadline, shares: int, *, alone: bool
) -> Operation[None]:
    """Take positions and ask for them, until there are none or the archive is lost."""
    while member.error is None:
        taken = queue.take(member.size, shares)
        if taken is None:
            if queue.is_over:
                return
            yield Sleep(_IDLE_S)  # another worker may give some back
            continue
        indexes, timeouts = taken
        begin = time.monotonic()
        try:
            part = replace(query, ra=query.ra[indexes], dec=query.dec[indexes])
            documents = yield from member.backend.cone_chunk(part, deadline.at_most(_PIECE_S))
            queue.done(indexes, documents)
        except DeadlineError as error:
            if not alone and deadline.remaining_s > 0:
                member.error = error  # the others are quicker than a second time-out
                queue.give_back([indexes], timeouts)
                continue
            _halve(queue, member, indexes, timeouts + 1, error, may_go_on=deadline.remaining_s > 0)
        except UnreachableError as error:
            member.error = error
            queue.give_back([indexes], timeouts)
        except ServerError as error:
            if error.status == _PAYLOAD_TOO_LARGE:
                _halve(queue, member, indexes, timeouts, error, may_go_on=True)
                continue
            member.error = error
            queue.give_back([indexes], timeouts)
        except BaseException:
            queue.stop()
            raise
        else:
            _adapt(member, len(indexes), time.monotonic() - begin)
            query.advance(len(indexes))


def _halve(
    queue: _Queue, member: Member, indexes: list[int], timeouts: int, error: NunciusError, *, may_go_on: bool
) -> None:
    half = len(indexes) // 2
    if not half or timeouts > _TIMEOUTS or not may_go_on:
        queue.failed(indexes, error)
        return
    member.largest = member.size = max(1, min(member.largest, half))
    queue.give_back([indexes[:half], indexes[half:]], timeouts)


def _adapt(member: Member, count: int, seconds: float) -> None:
    member.positions += count
    member.busy_s += seconds
    if seconds < _QUICK_S and count >= member.size:
        member.size = min(member.size * 2, member.largest)
    elif seconds > _SLOW_S:
        member.size = max(1, member.size // 2)
