"""Keeping alerts in an archive file, durably, beside merely decoding them."""

from __future__ import annotations

import io
import os
import sqlite3
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
from benchmarks.feeder import NewAlerts
from benchmarks.measure import Goal, Table, check, interleaved
from nuncius import Alert, open_archive, open_stream
from nuncius.archives.embedded.database import Database
from nuncius.archives.embedded.ingest import enter
from nuncius.archives.embedded.preparing import Preparation
from nuncius.archives.embedded.reports import IngestReport

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
_AT_ONCE = 500  # alerts
_RUBIN = 2560  # alerts a second at its peak
_CUTOUTS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    yield _of(packets.SYNTHETIC, packets.synthetic(scale.of(1000, 200)), scale)
    real = packets.real()
    if real:
        yield _of(packets.REAL, real, scale)
    yield _parts(scale)
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


# What bounds it ------------------------------------------------------------------------------------------------------


def _parts(scale: Scale) -> Table:
    """Measure the two halves of keeping packets, which two threads share, and what the disk takes of the bytes alone."""
    new = NewAlerts(are_known=False)
    raws = [new[number] for number in range(scale.of(3000, 600))]
    sides: dict[str, Callable[[Path], float]] = {
        "ingest(keep='packet')": lambda folder: _whole(raws, folder),
        "its rows made, not written": lambda folder: _rows(raws, folder)[0],
        "its rows written, made before": lambda folder: _rows(raws, folder)[1],
        "the packets alone in an SQLite file": lambda folder: _bare_sqlite(raws, folder),
        "the packets alone in a plain file": lambda folder: _bare_file(raws, folder),
    }

    def in_folder(side: Callable[[Path], float]) -> float:
        with tempfile.TemporaryDirectory(prefix="nuncius-benchmark-") as folder:
            return len(raws) / side(Path(folder))

    measured = interleaved(
        {name: lambda side=side: in_folder(side) for name, side in sides.items()}, scale.runs
    )
    table = Table(f"what bounds it: {len(raws)} alerts of new objects, each byte on the disk", "alerts/s")
    whole, *others = sides
    table.add(whole, measured)
    for name in others:
        table.add(name, measured, to=whole)
    return table


def _whole(raws: Sequence[bytes], folder: Path) -> float:
    with open_archive(folder / "night.db") as archive:
        begin = perf_counter()
        archive.ingest((Alert.from_bytes(raw) for raw in raws), keep="packet", progress=False)
        return perf_counter() - begin


def _rows(raws: Sequence[bytes], folder: Path) -> tuple[float, float]:
    """Make and write rows, one after the other; return how long each took."""
    database, report = Database(folder / "night.db", read_only=False), IngestReport()
    prepare = Preparation(database, "packet", cutouts=True)
    making = writing = 0.0
    for start in range(0, len(raws), _AT_ONCE):
        alerts = [Alert.from_bytes(raw) for raw in raws[start : start + _AT_ONCE]]
        begin = perf_counter()
        prepared = prepare(alerts, report)
        made = perf_counter()
        enter(database, prepared, report)
        making, writing = making + made - begin, writing + perf_counter() - made
    database.close()
    return making, writing


def _bare_sqlite(raws: Sequence[bytes], folder: Path) -> float:
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    for pragma in ("page_size = 8192", "journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE packets (id INTEGER PRIMARY KEY, packet BLOB)")
    begin = perf_counter()
    for start in range(0, len(raws), _AT_ONCE):
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO packets (packet) VALUES (?)", [(raw,) for raw in raws[start : start + _AT_ONCE]]
        )
        connection.execute("COMMIT")
    seconds = perf_counter() - begin
    connection.close()
    return seconds


def _bare_file(raws: Sequence[bytes], folder: Path) -> float:
    begin = perf_counter()
    with (folder / "bare").open("wb", buffering=0) as file:
        for start in range(0, len(raws), _AT_ONCE):
            file.writelines(raws[start : start + _AT_ONCE])
            os.fsync(file.fileno())
    return perf_counter() - begin


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
            try:
                before, begin = os.times(), perf_counter()
                report = archive.ingest(stream, keep=keep, progress=False)
                after, end = os.times(), perf_counter()
            finally:
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
