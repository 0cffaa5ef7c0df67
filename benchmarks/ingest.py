"""Keeping alerts in an archive file, durably, beside merely decoding them."""

from __future__ import annotations

import io
import tempfile
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import fastavro

from benchmarks import packets
from benchmarks.measure import Table, check, interleaved
from nuncius import Alert, open_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.measure import Scale
    from nuncius.archives import EmbeddedArchive

_DECODE = "fastavro.reader, nothing kept"
_CATALOG = "ZTF_alerts"
_CUTOUTS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    yield _of(packets.SYNTHETIC, packets.synthetic(scale.of(1000, 200)), scale)
    real = packets.real()
    if real:
        yield _of(packets.REAL, real, scale)


def _of(kind: str, raws: list[bytes], scale: Scale) -> Table:
    sides: dict[str, Callable[[], float]] = {_DECODE: lambda: _decode(raws)}
    for keep, cutouts in product(("document", "packet", "measurements"), (True, False)):
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
