"""What a client's reading costs: seconds and processor time, and requests, bytes and connections as the store counts them.

The store is the sandbox's, in a process of its own. Each request waits as long as one to a distant store does, and each
connection carries so many bytes a second; so what differs is what clients ask for, and what they wait for.
"""

from __future__ import annotations

import contextlib
import statistics
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote
from urllib.request import Request, urlopen

from benchmarks.measure import Row, Table, check, interleaved
from nuncius import open_fits
from nuncius.sandbox import SandboxStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks.measure import Goal
    from nuncius.cloudfits import RemoteFits
    from nuncius.sandbox.fits_files import SparseFile

OURS = "nuncius"
LATENCY_S = 0.05
BANDWIDTH = 100e6  # bytes/s of each connection


class Cost(NamedTuple):
    """What one reading cost."""

    seconds: float
    cpu_s: float
    """Processor time of all threads of the client."""
    requests: int
    bytes: int
    connections: int
    """Over how many the requests went."""
    round_trips: int
    """How many requests had to be waited for one after the other, as far as the times of their arrival tell."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the sides of a comparison cost, each run in turn."""

    costs: Mapping[str, Sequence[Cost]]

    def values(self, side: str, name: str) -> list[float]:
        """Return one kind of cost of each run."""
        return [float(getattr(cost, name)) for cost in self.costs[side]]

    def median(self, side: str, name: str) -> float:
        """Return the median of one kind of cost."""
        return statistics.median(self.values(side, name))

    def labels(self) -> dict[str, str]:
        """Return for each side its name and its counts, in columns."""
        counts = {
            side: (
                f"{self.median(side, 'requests'):,.0f} requests",
                f"{size_text(self.median(side, 'bytes'))}",
                f"{self.median(side, 'connections'):.0f} connections",
                f"{self.median(side, 'cpu_s') * 1e3:,.0f} ms CPU",
            )
            for side in self.costs
        }
        widths = [max(map(len, column)) for column in zip(*counts.values(), strict=True)]
        longest = max(map(len, counts))
        return {
            side: "  ".join((side.ljust(longest), *(text.rjust(width) for text, width in zip(cells, widths, strict=True))))
            for side, cells in counts.items()
        }  # fmt: skip


@contextlib.contextmanager
def store_of(
    objects: Mapping[str, bytes | SparseFile], *, connection_latency_s: float = 0.0
) -> Iterator[Place]:
    """Give a new store with these objects, to which no client has a connection yet."""
    with SandboxStore(process=True) as store:
        for key, data in objects.items():
            store.put(key, data)
            # It imports what computes the bytes when it is first asked for some; that is on another port.
            begin = Request(f"{store.gcs_endpoint}/sky/{quote(key)}", headers={"Range": "bytes=0-65535"})
            with urlopen(begin) as answer:
                answer.read()
        yield Place(store, connection_latency_s)


@dataclass(frozen=True, slots=True)
class Place:
    """A store, and how far away it is."""

    store: SandboxStore
    connection_latency_s: float = 0.0
    latency_s: float = LATENCY_S
    bandwidth: float = BANDWIDTH

    def cost(self, read: Callable[[], Any]) -> tuple[Cost, Any]:
        """Read, and return what it cost and what was read."""
        self.store.reset()
        self.store.latency_s = self.latency_s
        self.store.bandwidth = self.bandwidth
        self.store.connection_latency_s = self.connection_latency_s
        cpu, begin = process_time(), perf_counter()
        answer = read()
        seconds, cpu = perf_counter() - begin, process_time() - cpu
        log = self.store.log
        return (
            Cost(
                seconds,
                cpu,
                len(log),
                sum(request.bytes for request in log),
                len({request.connection for request in log}),
                _round_trips([request.time for request in log], self.latency_s),
            ),
            answer,
        )

    def compare(self, sides: Mapping[str, Callable[[], Any]], runs: int, *, same: bool = True) -> Measured:
        """Let the sides read in turn, after each has read once: with its modules imported, and its connections open."""
        answers = {name: read() for name, read in sides.items()}
        first = next(iter(answers))
        for name, answer in answers.items():
            check(not same or equal(answer, answers[first]), f"{name} and {first}")
        costs: dict[str, list[Cost]] = {name: [] for name in sides}

        def timed(name: str, read: Callable[[], Any]) -> Callable[[], float]:
            def measure() -> float:
                costs[name].append(self.cost(read)[0])
                return costs[name][-1].seconds

            return measure

        interleaved({name: timed(name, read) for name, read in sides.items()}, runs)
        return Measured(costs)


def time_table(
    title: str,
    measured: Measured,
    beside: Mapping[str, str] | None = None,
    goals: Mapping[str, Goal | None] | None = None,
) -> Table:
    """Return a table of times, with requests and bytes; the ratio is the speed over that of the side named by `beside`."""
    table = Table(title, "s")
    labels = measured.labels()
    for side in measured.costs:
        other = (beside or {}).get(side)
        ratio = None
        if other is not None:
            pairs = zip(measured.values(other, "seconds"), measured.values(side, "seconds"), strict=True)
            ratio = [theirs / own for theirs, own in pairs]
        goal = None if ratio is None else (goals or {}).get(side)
        table.rows.append(
            Row(labels[side], measured.values(side, "seconds"), ratio, f"the speed of {other}", goal)
        )
    return table


def opened_by_us(url: str, read: Callable[[RemoteFits], Any], **options: Any) -> Callable[[], Any]:
    """Return what opens a file with nuncius, reads from it and closes it."""

    def opened() -> Any:
        with open_fits(url, **options) as file:
            return read(file)

    return opened


def equal(one: Any, other: Any) -> bool:
    """Tell whether two answers are the same, arrays and tables among them."""
    import numpy as np

    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one == other)


def size_text(size: float) -> str:
    """Write a number of bytes."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} B"


def _round_trips(times: Sequence[float], latency_s: float) -> int:
    """Return how many of these requests can't have been on their way at once."""
    count, free = 0, float("-inf")
    for time in sorted(times):
        if time >= free:
            count += 1
            free = time + latency_s
    return count
