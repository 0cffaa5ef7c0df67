"""Reading pieces of one remote file: which bytes are asked for together, and what it cost."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nuncius._core.operations import Gather, ReadRange
from nuncius.errors import FileChangedError, NunciusError, TruncatedFitsError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from nuncius._core.operations import Operation, Piece, Source

MERGE_GAP = 64 * 1024  # bytes: reading over so much takes less time than another request
MERGE_BUDGET = 256 << 20  # bytes: how much may be read over in all, unless it is little beside what is wanted
SHORT_GAP = 4 * 1024  # bytes: always read over, such as the other columns of a table
LONGEST = 8 << 20  # bytes: what is longer is asked for in parts, side by side
IN_FLIGHT = 64 << 20  # bytes: more at once on a slow line would take longer than a request is given
MOST_BYTES = 4 << 30  # in one call: nobody waits for more by accident
MOST_REQUESTS = 100_000  # in one call; they would take minutes
MOST_RUNS = 20_000_000  # of a section: their places alone fill some hundred megabytes
CONCURRENCY = 64


@dataclass(slots=True)
class Stats:
    """What reading a file has cost so far."""

    requests: int = 0
    bytes: int = 0
    """All that was transferred."""
    round_trips: int = 0
    """How often a wave of requests was waited for; those of a wave run side by side."""
    used_bytes: int = 0
    """Of `bytes`, what was wanted."""

    @property
    def wasted_bytes(self) -> int:
        """Transferred, and not wanted: over-read headers, gaps that were read over, guesses that were wrong."""
        return self.bytes - self.used_bytes

    def __str__(self) -> str:
        requests = "1 request" if self.requests == 1 else f"{self.requests} requests"
        trips = "1 round trip" if self.round_trips == 1 else f"{self.round_trips} round trips"
        return f"{requests} in {trips}, {self.bytes:,} bytes ({self.wasted_bytes:,} of them not needed)"


class Plan(NamedTuple):
    """Spans of bytes that hold all that is wanted: sorted, and apart from each other."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    wanted: int
    """How many of the bytes were asked for."""


def plan(starts: ArrayLike, ends: ArrayLike, *, gap: int = MERGE_GAP, budget: int = MERGE_BUDGET) -> Plan:
    """Merge ranges of bytes whose gaps cost less than a request.

    Parameters
    ----------
    starts, ends : array of int, shape (n,)
        Each range is from its start to before its end; empty ones are left out.
    gap : int
        The longest gap in bytes that is read over.
    budget : int
        How many bytes may be read over in all; four times what is wanted, if that is more. The shortest gaps go first, and
        those of up to 4 KiB cost nothing.
    """
    import numpy as np

    first, last = np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64)
    filled = last > first
    order = np.argsort(first[filled], kind="stable")
    first, last = first[filled][order], last[filled][order]
    if not len(first):
        return Plan(first, last, 0)
    reach = np.maximum.accumulate(last)
    gaps = np.maximum(first[1:] - reach[:-1], 0)
    wanted = int(last.max() - first[0] - gaps.sum())
    bridged = gaps <= gap
    candidates = np.flatnonzero(bridged & (gaps > SHORT_GAP))
    shortest = candidates[np.argsort(gaps[candidates], kind="stable")]
    bridged[shortest[np.cumsum(gaps[shortest]) > max(budget, 4 * wanted)]] = False
    heads = np.concatenate(([0], np.flatnonzero(~bridged) + 1))
    return Plan(first[heads], np.maximum.reduceat(last, heads), wanted)


class Pieces:
    """Bytes of a file, found by their position in it.

    Parameters
    ----------
    spans : mapping of int to bytes-like
        By where each begins.
    """

    __slots__ = ("_begins", "_spans")

    def __init__(self, spans: dict[int, Any]) -> None:
        self._begins = sorted(spans)
        self._spans = [memoryview(spans[begin]) for begin in self._begins]

    def get(self, start: int, end: int) -> memoryview:
        """Return the bytes from `start` to before `end`, which one span holds whole.

        Raises
        ------
        KeyError
            If they were not read.
        """
        if start == end:
            return memoryview(b"")
        at = bisect.bisect_right(self._begins, start) - 1
        if at < 0 or end - self._begins[at] > len(self._spans[at]):
            raise KeyError((start, end))
        offset = start - self._begins[at]
        return self._spans[at][offset : offset + end - start]

    def joined(self, starts: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return all bytes that were read as one array, and where in it those are that begin at `starts` in the file.

        Nobody looks whether they were read; `gather` does.
        """
        import numpy as np

        wanted = np.asarray(starts, dtype=np.int64)
        if not self._spans:
            return np.empty(0, dtype=np.uint8), np.zeros(len(wanted), dtype=np.int64)
        parts = [np.frombuffer(span, dtype=np.uint8) for span in self._spans]
        begins = np.asarray(self._begins, dtype=np.int64)
        lengths = np.array([len(part) for part in parts], dtype=np.int64)
        shifts = np.cumsum(lengths) - lengths - begins
        at = np.maximum(np.searchsorted(begins, wanted, side="right") - 1, 0)
        return parts[0] if len(parts) == 1 else np.concatenate(parts), wanted + shifts[at]

    def gather(self, starts: ArrayLike, length: int) -> NDArray[np.uint8]:
        """Return runs of the same length one after the other, shape (n * length,), as a new array.

        Raises
        ------
        KeyError
            If one of them was not read.
        """
        import numpy as np

        runs = np.asarray(starts, dtype=np.int64)
        if length == 0 or not len(runs):
            return np.empty(0, dtype=np.uint8)
        begins = np.asarray(self._begins, dtype=np.int64)
        ends = begins + [len(span) for span in self._spans]
        at = np.searchsorted(begins, runs, side="right") - 1
        missing = (at < 0) | (runs + length > ends[at]) if len(begins) else np.ones(len(runs), dtype=bool)
        if missing.any():
            first = int(runs[np.argmax(missing)])
            raise KeyError((first, first + length))
        joined, places = self.joined(runs)
        # A view in which line k is the run that begins at byte k.
        return np.lib.stride_tricks.sliding_window_view(joined, length)[places].reshape(-1)


class Reader:
    """One remote file of known size, read in pieces.

    Every read names the ETag, so that a file that was replaced in between is an error and no mixture.

    Parameters
    ----------
    source : Source
        Where it is.
    size : int
        In bytes.
    etag : str, optional
        Of the object whose headers were read.
    head : bytes
        What is known of its beginning.
    stats : Stats, optional
        Where costs are counted.
    concurrency : int
        How many requests may run side by side.
    """

    __slots__ = ("concurrency", "etag", "head", "size", "source", "stats")

    def __init__(
        self,
        source: Source,
        *,
        size: int,
        etag: str | None = None,
        head: bytes = b"",
        stats: Stats | None = None,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self.source = source
        self.size = size
        self.etag = etag
        self.head = head
        self.stats = Stats() if stats is None else stats
        self.concurrency = concurrency

    def read(self, starts: ArrayLike, ends: ArrayLike, *, gap: int = MERGE_GAP) -> Operation[Pieces]:
        """Read ranges of bytes, side by side.

        Parameters
        ----------
        starts, ends : array of int, shape (n,)
            Absolute positions in the file.
        gap : int
            The longest gap in bytes that is read over rather than left out.

        Raises
        ------
        TruncatedFitsError
            If the file ends before one of them; nothing is read then.
        FileChangedError
            If the file is another one by now.
        UnsupportedError
            If it is more than anybody wants to wait for.
        """
        wanted = plan(starts, ends, gap=gap)
        if not len(wanted.starts):
            return Pieces({})
        total = int((wanted.ends - wanted.starts).sum())
        self._check(int(wanted.starts[0]), int(wanted.ends.max()), total, len(wanted.starts))
        spans: dict[int, Any] = {}
        parts = []
        for start, end in zip(wanted.starts.tolist(), wanted.ends.tolist(), strict=True):
            if end <= len(self.head):
                spans[start] = self.head[start:end]
                continue
            spans[start] = bytearray(end - start) if end - start > LONGEST else b""
            parts += [(start, at, min(at + LONGEST, end)) for at in range(start, end, LONGEST)]
        for (span, start, end), data in zip(parts, (yield from self._fetch(parts)), strict=True):
            if end - start == len(spans[span]) or not spans[span]:
                spans[span] = data
            else:
                spans[span][start - span : end - span] = data
        self.stats.used_bytes += min(wanted.wanted, sum(end - start for _, start, end in parts))
        return Pieces(spans)

    def read_one(self, start: int, end: int) -> Operation[memoryview]:
        """Read the bytes from `start` to before `end`; see `read`."""
        pieces = yield from self.read([start], [end])
        return pieces.get(start, end)

    def _fetch(self, parts: list[tuple[int, int, int]]) -> Operation[list[bytes]]:
        average = sum(end - start for _, start, end in parts) / max(1, len(parts))
        limit = max(1, min(self.concurrency, int(IN_FLIGHT / max(1, average))))
        failed: list[NunciusError] = []
        asked = [self._ask_unless(failed, start, end) for _, start, end in parts]
        outcomes = yield Gather(asked, limit)
        self.stats.round_trips += bool(parts)
        if failed:
            raise failed[0]
        return [outcome.result() for outcome in outcomes]

    def _ask_unless(self, failed: list[NunciusError], start: int, end: int) -> Operation[bytes]:
        """Ask for bytes, unless something has failed: then nothing more is begun, since it would be of no use."""
        if failed:
            raise failed[0]
        try:
            return (yield from self._ask(start, end))
        except NunciusError as error:
            failed.append(error)
            raise

    def _ask(self, start: int, end: int) -> Operation[bytes]:
        self.stats.requests += 1
        piece: Piece = yield ReadRange(self.source, start, end, self.etag)
        self.stats.bytes += len(piece.data)
        # Where a server has neither ETags nor times nothing else tells that it is another file.
        if piece.size != self.size:
            raise FileChangedError(
                f"{self.source.url} has {piece.size:,} bytes, and had {self.size:,} when its headers were read: it was "
                "replaced or written to; open it again",
                url=self.source.url,
            )
        if len(piece.data) != end - start:
            raise TruncatedFitsError(
                f"{self.source.url} gave {len(piece.data):,} bytes where {end - start:,} were asked for (from byte "
                f"{start:,} of {self.size:,}): the file was cut or replaced; open it again",
                url=self.source.url,
                position=f"byte {start + len(piece.data)}",
            )
        return piece.data

    def _check(self, start: int, end: int, total: int, requests: int) -> None:
        if start < 0 or end > self.size:
            raise TruncatedFitsError(
                f"{self.source.url} ends at byte {self.size:,}, and what was asked for goes to byte {end:,}: the file "
                "was cut when it was written or copied, or its header claims too much",
                url=self.source.url,
                position=f"byte {self.size}",
            )
        self.check_size(total)
        if requests > MOST_REQUESTS:
            raise UnsupportedError(
                f"this would take {requests:,} requests to {self.source.url}: what is wanted lies in that many places far "
                "apart. Ask for what lies together in the file: the last axis of an array runs fastest",
                url=self.source.url,
            )

    def check_size(self, total: int) -> None:
        """Raise UnsupportedError if so many bytes are more than anybody wants to wait for."""
        if total > MOST_BYTES:
            raise UnsupportedError(
                f"this would read {total / 2**30:,.1f} GiB of {self.source.url} into memory; ask for less at a time: "
                "a section, a cutout, or fewer rows",
                url=self.source.url,
            )
