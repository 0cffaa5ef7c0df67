"""Keeping alerts in an archive file, durably, beside merely decoding them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import IO, TYPE_CHECKING, Any

import fastavro

from benchmarks import packets
from benchmarks.measure import Goal, Table, check, interleaved
from nuncius import Alert, open_archive, open_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.measure import Scale
    from nuncius.archives import EmbeddedArchive
    from nuncius.archives.documents import Keep
    from nuncius.streams import Stream

_DECODE = "fastavro.reader, nothing kept"
_CATALOG = "ZTF_alerts"
_KEEPS: tuple[Keep, ...] = ("packet", "document", "measurements")
_OPTIONS: dict[str, dict[str, Any]] = {"kafka": {"group": False, "start": "earliest"}, "pubsub": {}}
_RUBIN = 2560  # alerts a second at its peak
_CUTOUTS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    yield _of(packets.SYNTHETIC, packets.synthetic(scale.of(1000, 200)), scale)
    real = packets.real()
    if real:
        yield _of(packets.REAL, real, scale)
    yield from _nights("kafka", "Kafka", scale)
    yield from _nights("pubsub", "Pub/Sub", scale)


def _of(kind: str, raws: list[bytes], scale: Scale) -> Table:
    sides: dict[str, Callable[[], float]] = {_DECODE: lambda: _decode(raws)}
    for keep, cutouts in product(_KEEPS, (True, False)):
        name = f"ingest(keep={keep!r}, cutouts={cutouts})"
        sides[name] = lambda keep=keep, cutouts=cutouts: _ingest(raws, keep, cutouts=cutouts)
        _ingest(raws, keep, cutouts=cutouts, verify=True)
    measured = interleaved(sides, scale.runs)
    table = Table(f"ingest: {len(raws)} alerts ({kind}) into a new file", "alerts/s")
    table.add(_DECODE, measured)
    for name in sides:
        if name != _DECODE:
            table.add(name, measured, to=_DECODE, label="decoding")
    return table


def _decode(raws: Sequence[bytes]) -> float:
    begin = perf_counter()
    for raw in raws:
        _decoded(raw)
    return len(raws) / (perf_counter() - begin)


def _decoded(raw: bytes) -> Any:
    return next(fastavro.reader(io.BytesIO(raw)))


def _ingest(raws: Sequence[bytes], keep: Any, *, cutouts: bool, verify: bool = False) -> float:
    alerts = [Alert.from_bytes(raw) for raw in raws]  # anew: an alert keeps what was decoded
    with (
        tempfile.TemporaryDirectory(prefix="nuncius-benchmark-") as folder,
        open_archive(Path(folder, "night.db")) as archive,
    ):
        begin = perf_counter()
        report = archive.ingest(alerts, keep=keep, cutouts=cutouts, progress=False)
        seconds = perf_counter() - begin
        check(report.archived == len(raws), f"keep={keep!r} archived {report.archived} of {len(raws)}")
        if verify:
            _check_kept(archive, raws, keep, cutouts=cutouts)
    return len(raws) / seconds


def _check_kept(archive: EmbeddedArchive, raws: Sequence[bytes], keep: str, *, cutouts: bool) -> None:
    """See that the archive holds what the packets say."""
    kept = archive.find(_CATALOG).docs
    check(len(kept) == len(raws), f"keep={keep!r} holds {len(kept)} of {len(raws)}")
    for document, raw in zip(kept, raws, strict=True):
        packet = _decoded(raw)
        whole = packet["candidate"]
        part = {name: whole[name] for name in document["candidate"]}
        names = {"measurements": {"candid", "jd", "ra", "dec", "magpsf", "fid"}}.get(keep, whole.keys())
        check(names <= part.keys(), f"keep={keep!r} lacks fields")
        # repr, because NaN does not equal itself.
        check(repr(document["candidate"]) == repr(part), f"keep={keep!r}, candid {packet['candid']}")
        images = {name: packet[name] for name in _CUTOUTS} if cutouts and keep != "measurements" else {}
        check(
            {name: document[name] for name in _CUTOUTS if name in document} == images,
            f"keep={keep!r}: images",
        )
    if keep == "packet":
        check(list(archive.packets(_CATALOG)) == list(raws), "the packets kept")


# From a broker -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Night:
    """What was measured of one stream into one new archive."""

    alerts_per_s: float
    megabytes_per_s: float
    cpu_us: float  # of this process, for one alert
    broker_cpu_us: float


def _nights(kind: str, name: str, scale: Scale) -> Iterator[Table]:
    """Keep what a broker sends, as fast as it goes, for a minute each; what is acknowledged is on the disk."""
    seconds = scale.of(60, 3)
    nights = {
        f"keep={keep!r}, {objects} objects": _night(kind, keep, objects, seconds)
        for keep in _KEEPS
        for objects in (("new", "known") if keep == "packet" else ("new",))
    }
    rates = Table(f"{name} to a new archive, {seconds} s each, in one process", "alerts/s")
    volumes = Table("The same: bytes of the packets", "MB/s")
    cpu = Table("The same: processor time", "us an alert")
    for side, night in nights.items():
        goal = Goal("≥", _RUBIN) if "packet" in side and kind == "kafka" else None
        rates.add(side, {side: [night.alerts_per_s]}, goal=goal)
        volumes.add(side, {side: [night.megabytes_per_s]})
        cpu.add(side, {side: [night.cpu_us]})
        cpu.add(
            f"{side}: the broker and what fills it",
            {f"{side}: the broker and what fills it": [night.broker_cpu_us]},
        )
    cpu.notes.append(
        f"{os.cpu_count()} cores, which the broker shares; the load is {os.getloadavg()[0]:.1f} now"
    )
    yield from (rates, volumes, cpu)


def _night(kind: str, keep: Keep, objects: str, seconds: float) -> _Night:
    feeder = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.feeder", kind, objects],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert feeder.stdin is not None
    assert feeder.stdout is not None
    url, size = feeder.stdout.readline().split()
    over = threading.Event()
    with (
        tempfile.TemporaryDirectory(prefix="nuncius-benchmark-") as folder,
        open_archive(Path(folder, "night.db")) as archive,
    ):
        with open_stream(url, stop=f"{seconds}s", on_error="raise", **_OPTIONS[kind]) as stream:
            telling = threading.Thread(target=_tell, args=(stream, feeder.stdin, over))
            telling.start()
            before, begin = os.times(), perf_counter()
            report = archive.ingest(stream, keep=keep, progress=False)
            after, end = os.times(), perf_counter()
            over.set()
            telling.join()
        check(report.archived == report.received == archive.count(_CATALOG), f"{report} is not all new")
    feeder.stdin.close()
    broker_cpu = float(feeder.stdout.readline())
    feeder.wait()
    count = report.archived
    rate = count / (end - begin)
    own_cpu = sum(after[:2]) - sum(before[:2])
    return _Night(rate, rate * float(size) / 1e6, own_cpu / count * 1e6, broker_cpu / count * 1e6)


def _tell(stream: Stream, feeder: IO[str], over: threading.Event) -> None:
    """Tell the broker how many alerts it need not keep any more."""
    while not over.wait(0.01):
        feeder.write(f"{stream.stats().handed_out}\n")
        feeder.flush()
