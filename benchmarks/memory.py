"""The memory of a consumer that stops to think while a topic full of alerts waits for it.

Each measurement is a process of its own: it takes one alert, sleeps, and then reads the rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.kafka import TOPIC, broker, plain_consumer
from benchmarks.measure import Goal, Table, check, interleaved
from benchmarks.packets import repeated, small, synthetic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Scale

_SIDES = ("poll()", "Stream")
_SLEEP_S = 5


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    # Not at the top: the processes that are measured need none of it.
    from benchmarks.antares import encoded, loci

    yield from _of("JSON alerts", small(scale.of(100_000, 20_000)), scale)
    yield from _of("loci of ANTARES", [encoded(one) for one in loci(scale.of(100_000, 20_000))], scale)
    big = [encoded(one) for one in loci(12_000, history=13)]
    yield from _of("loci of ANTARES, 31 kB when unpacked", big, scale)
    yield from _of("packets shaped like ZTF's", repeated(synthetic(100), scale.of(3000, 1000)), scale)


def _of(kind: str, messages: list[bytes], scale: Scale) -> Iterator[Table]:
    count = len(messages)
    size = sum(map(len, messages)) / count / 1000
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in _SIDES}

    def side(name: str) -> Callable[[], float]:
        def measure() -> float:
            reports[name].append(_in_a_process(name, server, count))
            check(reports[name][-1]["read"] == count, f"{name} read not all messages")
            return 0.0

        return measure

    with broker(messages) as server:
        messages.clear()
        interleaved({name: side(name) for name in _SIDES}, scale.runs)
    waiting = f"{count:,} {kind} of {size:.3g} kB"
    for what, title in (
        ("asleep", f"memory: the most resident in {_SLEEP_S} s of sleep after the first of {waiting}"),
        ("asleep_own", "memory: the same, without what the imports take"),
        ("awake", "memory: the most resident until all of them are read"),
    ):
        table = Table(title, "MB")
        measured = {name: [report[what] for report in runs] for name, runs in reports.items()}
        table.add("poll()", measured)
        table.add("Stream", measured, goal=Goal("≤", 300, "MB") if what == "asleep" else None)
        yield table


def _in_a_process(name: str, server: str, count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory", name, server, str(count)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    report: dict[str, Any] = json.loads(answer.stdout)
    return report


def _read(name: str, server: str, count: int) -> dict[str, Any]:
    """Be the process that is measured."""
    reader = _polled(server, count) if name == "poll()" else _streamed(server, count)
    imported = next(reader)
    next(reader)
    time.sleep(_SLEEP_S)
    asleep = _peak_mb()
    read = 1 + sum(1 for _ in reader)
    return {"asleep": asleep, "asleep_own": asleep - imported, "awake": _peak_mb(), "read": read}


def _polled(server: str, count: int) -> Iterator[Any]:
    """Give the memory after the imports, then the messages."""
    import confluent_kafka  # noqa: F401 - so that its cost is known

    from nuncius.streams.kafka.connection import DEFAULTS

    yield _peak_mb()
    consumer = plain_consumer(server, DEFAULTS)
    for _ in range(count):
        message = None
        while message is None:
            message = consumer.poll(1.0)
        yield message
    consumer.close()


def _streamed(server: str, count: int) -> Iterator[Any]:
    """Give the memory after the imports, then the alerts."""
    import confluent_kafka  # noqa: F401
    import fastavro  # noqa: F401

    from nuncius import open_stream

    yield _peak_mb()
    with open_stream(f"kafka://{server}/{TOPIC}", group=False, stop=count) as stream:
        yield from stream


def _peak_mb() -> float:
    """Return the largest resident size of this process so far.

    `resource.getrusage` would do, but on Linux a child begins with the maximum of the parent that it was forked from.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    print(json.dumps(_read(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
