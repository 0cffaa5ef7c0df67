"""Keep alerts as Parquet: a folder a night, read by pandas, DuckDB, Dask and what else reads Hive's partitions."""

from __future__ import annotations

import hashlib
import io
import math
import os
import secrets
import shutil
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius._core.files import exchange, lock, make_folder, sync_folder, write_durably
from nuncius._core.jsontext import printable, to_text
from nuncius._core.lazy import require
from nuncius.alerts import Alert
from nuncius.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuncius.alerts import Notice

_MJD_0 = date(1858, 11, 17)
_FILE_BYTES = 256 * 1024 * 1024  # of a compacted file; the last row group may pass it
_GROUP_BYTES = 32 * 1024 * 1024  # of a compacted row group, before it is compressed
_LAYOUT = {b"nuncius.alerts": b"1"}


class ParquetSink:
    """A folder of Parquet files, ``FOLDER/night=2026-11-20/….parquet``.

    Each batch is a file of its own, whole and on the disk before it counts as finished; `compact` makes few large
    files of a night's small ones. The night is the UTC date of the exposure (of `mjd`); of an alert that has no time,
    the date on which the broker took it, else today's.

    The columns are the same in all files: `survey`, `alert_id` (text, because not every survey's ids are numbers and
    many are too large for floats), `object_id`, `ra`, `dec`, `mjd`, `band`, `mag`, `mag_err`, `flux_njy`,
    `flux_err_njy`, `score`, `broker`, `topic`, `partition`, `offset`, `packet`. What an alert doesn't have is null.

    Parameters
    ----------
    folder : Path
        Where; it is made if it doesn't exist.
    packets : bool
        Whether the column `packet` holds the packet as JSON, without its images; otherwise it is null.

    Raises
    ------
    MissingExtraError
        If pyarrow is not installed.

    Examples
    --------
    >>> sink = ParquetSink(Path("alerts"))  # doctest: +SKIP
    >>> with open_stream("ztf://broker.example.org:9092/programid1") as stream:  # doctest: +SKIP
    ...     stream.save(sink)
    >>> duckdb.sql("SELECT night, count(*) FROM 'alerts/night=*/*.parquet' GROUP BY night")  # doctest: +SKIP
    """

    def __init__(self, folder: Path, *, packets: bool = False) -> None:
        self.folder = Path(folder).expanduser()
        self.packets = packets
        self._arrow = require("pyarrow", extra="parquet")
        self._parquet = require("pyarrow.parquet", extra="parquet")
        self._schema = _schema(self._arrow)

    def write(self, items: Sequence[Alert | Notice]) -> None:
        """Keep a batch: one file a night. When this returns, they are on the disk.

        Raises
        ------
        StorageError
            If they can't be written.
        PacketError
            If a packet turns out to be damaged.
        """
        nights: dict[date, list[dict[str, Any]]] = defaultdict(list)
        for item in items:
            nights[night_of(item)].append(_row(item, packets=self.packets))
        try:
            for night, rows in nights.items():
                self._write_file(self.folder / f"night={night.isoformat()}", rows)
        except OSError as error:
            raise StorageError(
                f"{self.folder} can't be written: {error.strerror}; the alerts were not acknowledged and come again",
                position=str(self.folder),
            ) from error

    def close(self) -> None:
        """See `nuncius.alerts.sink.Sink`: nothing is held."""

    def compact(self, night: date | str | None = None) -> int:
        """Make few large files of a night's many small ones.

        Rows that are equal in every column, as a repeated delivery makes them, are kept once. Readers see the old files
        or the new ones; whenever this is killed, no row is lost or doubled. Sinks that write to the folder meanwhile
        wait for it.

        Parameters
        ----------
        night : date or str, optional
            Such as ``2026-11-20``; by default all nights.

        Returns
        -------
        int
            How many files fewer there are.

        Raises
        ------
        ConfigurationError
            If that is no date.
        StorageError
            If files can't be read or written, or a night's folder holds files of others.
        """
        pattern = "night=*" if night is None else f"night={_as_date(night).isoformat()}"
        try:
            return self._compact(pattern)
        except self._arrow.ArrowInvalid as error:
            raise StorageError(
                f"a file in {self.folder} is no Parquet that can be read: {error}", position=str(self.folder)
            ) from error
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                f"{self.folder} can't be compacted: {error.strerror or error}; its rows are as they were",
                position=str(self.folder),
            ) from error

    # Writing -------------------------------------------------------------------------------------------------------

    def _write_file(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        out = io.BytesIO()
        self._parquet.write_table(
            self._arrow.Table.from_pylist(rows, schema=self._schema), out, compression="zstd"
        )
        make_folder(self.folder)
        with self._lock_file.open("ab") as held:
            # A night that is being compacted is replaced as a whole. Without locks nobody may compact.
            lock(held, shared=True)
            make_folder(folder)
            write_durably(folder / _new_name(), out.getvalue())

    # Compacting ----------------------------------------------------------------------------------------------------

    def _compact(self, pattern: str) -> int:
        if not self.folder.is_dir():
            return 0
        fewer = 0
        with self._lock_file.open("ab") as held:
            if not lock(held):
                raise StorageError(
                    f"{self.folder} is on a file system without locks, so a sink might write while it is compacted; copy "
                    "it to another one",
                    position=str(self.folder),
                )
            self._tidy()
            for folder in sorted(self.folder.glob(pattern)):
                if folder.is_dir():
                    fewer += self._compact_night(folder)
        return fewer

    def _tidy(self) -> None:
        """Undo or finish what a compaction that was killed has left."""
        for old in self._workshop.glob("*.old"):
            if old.with_suffix(".new").exists():
                # Killed between the two names; a sink may have made the night's folder anew since then.
                night = self.folder / old.stem
                make_folder(night)
                for file in old.iterdir():
                    file.rename(night / file.name)
                sync_folder(night)
        shutil.rmtree(self._workshop, ignore_errors=True)

    def _compact_night(self, folder: Path) -> int:
        files = self._files(folder)
        if len(files) < 2:
            return 0
        fresh = self._workshop / f"{folder.name}.new"
        make_folder(fresh)
        made = self._merge(files, fresh)
        sync_folder(fresh)
        if not exchange(fresh, folder):
            # For a moment there is no folder of the night; `_tidy` brings it back if we are killed in it.
            folder.rename(fresh.with_suffix(".old"))
            fresh.rename(folder)
        sync_folder(self.folder)
        shutil.rmtree(self._workshop, ignore_errors=True)
        return len(files) - made

    def _files(self, folder: Path) -> list[Path]:
        """List the files of a night in the order in which they were written; all of them must be ours."""
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        for path in files:
            ours = path.suffix == ".parquet" and path.is_file()
            if not ours or not self._parquet.read_schema(path).equals(self._schema):
                raise StorageError(
                    f"{path} was not written by a ParquetSink of this release; move it elsewhere, then compact again",
                    position=str(path),
                )
        return files

    def _merge(self, files: Sequence[Path], folder: Path) -> int:
        """Write the rows of files to new ones, each once; return how many these are."""
        made = 0
        groups = self._groups(files)
        group = next(groups, None)
        while group is not None:
            made += 1
            with (folder / _new_name()).open("xb") as file:
                with self._parquet.ParquetWriter(file, self._schema, compression="zstd") as writer:
                    while group is not None and file.tell() < _FILE_BYTES:
                        writer.write_table(group, row_group_size=max(1, len(group)))
                        group = next(groups, None)
                file.flush()
                os.fsync(file.fileno())
        return made

    def _groups(self, files: Sequence[Path]) -> Iterator[Any]:
        """Gather the rows of files into tables of a good size, without what comes twice."""
        seen: set[bytes] = set()
        gathered: list[Any] = []
        for path in files:
            with self._parquet.ParquetFile(path) as file:
                for number in range(file.num_row_groups):
                    table = file.read_row_group(number)
                    gathered.append(table.filter([_is_new(row, seen) for row in table.to_pylist()]))
                    if sum(part.nbytes for part in gathered) >= _GROUP_BYTES:
                        yield self._arrow.concat_tables(gathered).combine_chunks()
                        gathered = []
        if gathered:
            yield self._arrow.concat_tables(gathered).combine_chunks()

    @property
    def _lock_file(self) -> Path:
        return self.folder / ".lock"

    @property
    def _workshop(self) -> Path:
        # One level deeper than the nights, or DuckDB would find its files under ``*/*.parquet`` too.
        return self.folder / ".compacting"


def night_of(item: Alert | Notice) -> date:
    """Return the UTC date of the exposure; without a time, that on which the broker took the alert, else today's."""
    mjd = item.mjd
    if mjd is not None and math.isfinite(mjd):
        try:
            return _MJD_0 + timedelta(days=math.floor(mjd))
        except OverflowError:  # not a date of the calendar
            pass
    stamp = item.origin.timestamp if item.origin else None
    return (stamp or datetime.now(UTC)).astimezone(UTC).date()


def _schema(arrow: Any) -> Any:
    columns = {
        "survey": arrow.string(),
        "alert_id": arrow.string(),
        "object_id": arrow.string(),
        **dict.fromkeys(("ra", "dec", "mjd"), arrow.float64()),
        "band": arrow.string(),
        **dict.fromkeys(("mag", "mag_err", "flux_njy", "flux_err_njy", "score"), arrow.float64()),
        "broker": arrow.string(),
        "topic": arrow.string(),
        "partition": arrow.int64(),
        "offset": arrow.int64(),
        "packet": arrow.string(),
    }
    return arrow.schema(list(columns.items()), metadata=_LAYOUT)


def _row(item: Alert | Notice, *, packets: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "survey": printable(item.survey),
        "alert_id": printable(str(item.alert_id)),
        "object_id": _text(item.object_id),
        "ra": item.ra,
        "dec": item.dec,
        "mjd": item.mjd,
    }
    if isinstance(item, Alert):
        row |= {
            "band": _text(item.band),
            "mag": item.mag,
            "mag_err": item.mag_err,
            "flux_njy": item.flux_njy,
            "flux_err_njy": item.flux_err_njy,
            "score": item.score,
        }
    origin = item.origin
    if origin is not None:
        row |= {
            "broker": _text(origin.broker),
            "topic": printable(origin.topic),
            "partition": origin.partition,
            "offset": origin.offset,
        }
    if packets:
        row["packet"] = to_text(_without_images(item))[0]
    return row


def _text(value: str | None) -> str | None:
    return None if value is None else printable(value)


def _without_images(item: Alert | Notice) -> dict[str, Any]:
    if not isinstance(item, Alert):
        return item.packet
    images = [image.bytes for image in item.cutouts]
    return {
        name: value
        for name, value in item.packet.items()
        if (value.get("stampData") if isinstance(value, dict) else value) not in images
    }


def _is_new(row: dict[str, Any], seen: set[bytes]) -> bool:
    if row["topic"] is None:
        return True  # nothing says that it is the same alert once more
    digest = hashlib.blake2b(repr(tuple(row.values())).encode(), digest_size=16).digest()
    if digest in seen:
        return False
    seen.add(digest)
    return True


def _new_name() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.parquet"


def _as_date(night: date | str) -> date:
    if isinstance(night, date):
        return night.date() if isinstance(night, datetime) else night
    try:
        return date.fromisoformat(night)
    except ValueError as error:
        raise ConfigurationError(f"night={night!r} is no date such as 2026-11-20") from error
