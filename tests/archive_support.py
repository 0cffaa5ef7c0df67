"""Alerts for the tests of archives, sources of them, and what a killed writer must leave behind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import builders
from nuncius import open_archive
from nuncius.alerts import Alert
from nuncius.archives.embedded.ingest import Keeper
from nuncius.archives.embedded.reports import IngestReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nuncius.archives.embedded.database import Database

CANDID = 2475433850215010007  # 19 digits: a float would round it
LAYOUT_1 = Path(__file__).parent / "data" / "archive_layout_1.db"
TYPES = ("null", "bool", "int", "float", "str", "list", "dict")


def image(size: int = 3, *, first: float = 0.0) -> bytes:
    """Make a small gzipped FITS image."""
    return builders.fits_file(builders.pixels(size) + first)


def cutouts(*, first: float = 0.0) -> dict[str, Any]:
    """Make the three images of a ZTF packet."""
    return {
        f"cutout{kind}": {"fileName": f"{kind}.fits.gz", "stampData": image(first=first + index)}
        for index, kind in enumerate(("Science", "Template", "Difference"))
    }


def ztf(number: int = 0, *, candidate: dict[str, Any] | None = None, **top: Any) -> Alert:
    """Make a ZTF alert; the number gives it an id, an object and a position of its own."""
    values = {"objectId": f"ZTF20aaaaa{number:03d}", "candid": CANDID + number} | top
    place = {"ra": 150.0 + number / 100, "dec": -20.0, "jd": builders.JD + number / 10} | (candidate or {})
    return Alert.from_bytes(builders.ztf(candidate={"candid": values["candid"], **place}, **values))


def lsst(version: str = "9.0", **values: Any) -> Alert:
    """Make an LSST alert."""
    schemas = {builders.lsst_id(version): builders.lsst_schema(version)}
    return Alert.from_bytes(builders.lsst(version, **values), schema=schemas)


def plain(**values: Any) -> Alert:
    """Make an alert of no known survey, in JSON."""
    return Alert.from_bytes(json.dumps(values).encode())


def annotated(alert: Alert, **annotations: dict[str, Any]) -> Alert:
    """Make the same alert as brokers send it, with what they say of it."""
    return Alert(alert.raw, alert._opened, annotations=annotations)


def one_of_each() -> dict[str, Alert]:
    """Make one alert of every survey, by catalog, with history and images where it has them."""
    raw = builders
    picture = image()
    history = [
        raw.ztf_earlier(),
        raw.ztf_earlier(candid=7, magpsf=19.0, sigmapsf=0.1, ra=150.0, dec=-20.0, isdiffpos="t"),
    ]
    plain_images = {
        "cutoutScience": picture,
        "cutoutTemplate": picture,
        "cutoutDifference": picture,
    }
    winter_images = {"cutout_science": picture, "cutout_template": picture, "cutout_difference": picture}
    made = {
        "ZTF_alerts": raw.ztf(prv_candidates=history, fp_hists=[raw.ztf_forced()], **cutouts()),
        "WNTR_alerts": raw.winter(**winter_images),
        "TURBO_alerts": raw.turbo(**plain_images),
        "PGIR_alerts": raw.pgir(earlier=[{"jd": raw.JD - 2, "candid": 3, "magpsf": 12.5}], **plain_images),
        "DECAM_alerts": raw.decam(forced=[{"mjd": raw.MJD - 1, "band": "g", "psfFlux": 3.0}], **plain_images),
    }
    alerts = {name: Alert.from_bytes(packet) for name, packet in made.items()}
    alerts["LSST_alerts"] = lsst(
        prvDiaSources=[raw.lsst_source("9.0", diaSourceId=5, midpointMjdTai=60900.0)],
        prvDiaForcedSources=[raw.lsst_forced("9.0", diaForcedSourceId=6)],
        cutoutScience=picture,
        cutoutTemplate=picture,
        cutoutDifference=picture,
    )
    alerts["generic_alerts"] = plain(candid=1, objectId="A1", ra=10.0, dec=-5.0, mjd=60000.0)
    return alerts


class Source:
    """A source of batches that remembers which alerts were acknowledged, and how many batches were asked for."""

    def __init__(self, batches: Iterable[Sequence[Alert]]) -> None:
        self._batches = [*batches]
        self.asked = 0
        self.closed = False
        self.acknowledged: list[Alert] = []
        self.released: list[Alert] = []

    def acknowledge(self, alerts: Sequence[Alert]) -> None:
        """Note them."""
        self.acknowledged += alerts

    def release(self, alert: Alert, delay_s: float = 0) -> None:
        """Note it."""
        self.released.append(alert)

    def batches(
        self, n: int = 500, timeout_s: float | None = 1.0, *, finish: bool = True
    ) -> Iterator[Sequence[Alert]]:
        """Give the batches."""
        assert not finish, "a batch would be finished before it is on the disk"
        try:
            for batch in self._batches:
                self.asked += 1
                yield batch
            self.asked += 1
            yield []
        finally:
            self.closed = True


def keep(database: Database, alerts: Iterable[Alert]) -> IngestReport:
    """Write alerts into a database."""
    report = IngestReport()
    keeper = Keeper(database, "document", cutouts=True, report=report)
    keeper.write([*alerts])
    keeper.flush()
    return report


def ids(documents: Iterable[dict[str, Any]]) -> list[Any]:
    """Return the alert ids of documents."""
    return [document["candid"] for document in documents]


def same(left: Any, right: Any) -> bool:
    """Compare values and their types; NaN equals itself, and keys may be in any order."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and (left == right or (left != left and right != right))  # noqa: PLR0124


# Killed writers ------------------------------------------------------------------------------------------------------

BATCH = 40


def numbered_batch(number: int) -> list[Alert]:
    """Make a batch whose alerts are known by its number, with history and images."""
    return [
        ztf(
            index,
            candid=number * 1000 + index,
            objectId=f"ZTF{number:05d}",
            candidate={"ra": (number + index / 100) % 360},
            prv_candidates=[builders.ztf_earlier(jd=builders.JD - number - index)],
            **cutouts(),
        )
        for index in range(BATCH)
    ]


class NotingSource:
    """A source without end that notes in a file which batches were acknowledged."""

    def __init__(self, notes: Path, begin: int) -> None:
        self._notes = notes
        self._begin = begin

    def release(self, alert: Alert, delay_s: float = 0) -> None:
        """Nothing to do: it comes again after the kill."""

    def acknowledge(self, alerts: Sequence[Alert]) -> None:
        """Note a batch; the note is on its way to the file when this returns."""
        assert len(alerts) == BATCH
        assert isinstance(alerts[0].alert_id, int)
        with self._notes.open("ab", buffering=0) as notes:
            notes.write(f"{alerts[0].alert_id // 1000}\n".encode())

    def batches(
        self, n: int = 500, timeout_s: float | None = 1.0, *, finish: bool = True
    ) -> Iterator[Sequence[Alert]]:
        """Give the batches."""
        number = self._begin
        while True:
            yield numbered_batch(number)
            number += 1


def noted(notes: Path) -> list[int]:
    """Return the numbers of the batches that were acknowledged; a line cut short by a kill doesn't count."""
    return [int(line) for line in notes.read_bytes().split(b"\n")[:-1]] if notes.exists() else []


def check_whole(path: Path, acknowledged: Sequence[int]) -> int:
    """Check what a killed writer left: whole batches, nothing twice, nothing missing that was acknowledged."""
    with open_archive(path) as archive:
        counts: dict[str, int] = {}
        seen = set()
        for document in archive.find("ZTF_alerts", projection=["objectId", "candid", "cutoutScience"]):
            counts[document["objectId"]] = counts.get(document["objectId"], 0) + 1
            seen.add(document["candid"])
            assert document["cutoutScience"]["stampData"], "an alert without its images"
        assert set(counts.values()) <= {BATCH}, f"parts of batches: {counts}"
        assert len(seen) == sum(counts.values()), "alerts twice"
        missing = [number for number in acknowledged if f"ZTF{number:05d}" not in counts]
        assert not missing, f"acknowledged batches are lost: {missing}"
        histories = {entry["_id"]: len(entry["prv_candidates"]) for entry in archive.find("ZTF_alerts_aux")}
        assert histories == counts
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    return len(counts)


def kill_and_check(folder: Path, kills: int) -> None:
    """Kill a writer again and again at moments that differ, and check the archive after each time."""
    path, notes = folder / "killed.db", folder / "acknowledged"
    for kill in range(kills):
        done = noted(notes)
        child = os.fork()
        if child == 0:
            archive = open_archive(path)
            # The batch after the last one that was acknowledged comes again, as from a broker.
            archive.ingest(NotingSource(notes, done[-1] + 1 if done else 0), progress=False)
            os._exit(1)
        begin = time.monotonic()
        while len(noted(notes)) < len(done) + 1 + kill % 3 and time.monotonic() - begin < 30:
            time.sleep(0.001)
        time.sleep(kill * 0.007)  # somewhere within a transaction
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the writer ended by itself"
        assert len(noted(notes)) > len(done), "the writer did not get on"
        batches = check_whole(path, noted(notes))
        print(f"kill {kill}: {batches} batches, {len(noted(notes))} acknowledged", flush=True)


if __name__ == "__main__":
    kill_and_check(Path(sys.argv[1]), int(sys.argv[2]))
