"""How alerts come into the archive: in large transactions, each durable before its alerts are acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

from nuncius._core.jsontext import from_text, to_text
from nuncius.alerts import Alert, Notice
from nuncius.alerts.sink import AlertSource, AsyncAlertSource
from nuncius.archives.documents import survey_of_catalog
from nuncius.archives.embedded.database import insert_rows, quoted
from nuncius.archives.embedded.histories import POINT_COLUMNS
from nuncius.archives.embedded.preparing import Preparation
from nuncius.archives.embedded.reports import IngestReport
from nuncius.archives.embedded.rows import as_image, cut_out, read_images
from nuncius.archives.embedded.sharing import merge_annotations, share_loci
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from concurrent.futures import Future

    from nuncius.archives.documents import Keep
    from nuncius.archives.embedded.database import Database
    from nuncius.archives.embedded.preparing import AlertRow, Prepared

_BATCH = 500
_TRANSACTION_BYTES = 40 << 20


class Batches:
    """Alerts in batches, not yet finished where they come from.

    Parameters
    ----------
    alerts : stream or iterable of Alert
        Where they come from.
    """

    def __init__(self, alerts: Any) -> None:
        self._alerts = alerts
        self._may_come_again = isinstance(alerts, (AlertSource, AsyncAlertSource))
        self._in_hand: dict[int, Alert | Notice] = {}

    def finish(self, alerts: Sequence[Alert | Notice]) -> None:
        """Acknowledge alerts that are on the disk."""
        if self._may_come_again:
            self._alerts.acknowledge(alerts)
            for alert in alerts:
                self._in_hand.pop(id(alert), None)

    def give_back(self) -> None:
        """Release what is not on the disk, or the stream would take it for finished when its block ends or goes on."""
        if self._may_come_again:
            for alert in [*self._in_hand.values()]:
                self._alerts.release(alert)

    def _noted(self, batch: Sequence[Alert]) -> Sequence[Alert]:
        self._in_hand.update((id(alert), alert) for alert in batch)
        return batch

    def __iter__(self) -> Iterator[Sequence[Alert]]:
        if hasattr(self._alerts, "__aiter__"):
            raise ConfigurationError(
                f"{type(self._alerts).__name__} is asynchronous: keep it with an archive of nuncius.aio.open_archive"
            )
        if isinstance(self._alerts, AlertSource):
            yield from map(self._noted, self._alerts.batches(_BATCH, 1.0, finish=False))
            return
        if hasattr(self._alerts, "batches"):
            raise ConfigurationError(
                f"{type(self._alerts).__name__} gives batches, but ingest also needs its methods acknowledge and release; "
                "see nuncius.alerts.sink.AlertSource"
            )
        rest = iter(self._alerts)
        while batch := list(itertools.islice(rest, _BATCH)):
            for alert in batch:
                if not isinstance(alert, (Alert, Notice)):
                    raise ConfigurationError(
                        f"ingest takes a stream or alerts, not {type(alert).__name__}: Alert.from_bytes makes an alert "
                        "of bytes, read_packets reads files"
                    )
            yield batch


class AsyncBatches(Batches):
    """The same, also from an async stream; what comes from elsewhere is read in a worker thread."""

    async def __aiter__(self) -> AsyncIterator[Sequence[Alert]]:
        if hasattr(self._alerts, "__aiter__"):
            async for batch in self._alerts.batches(_BATCH, 1.0, finish=False):
                yield self._noted(batch)
            return
        batches = iter(self)
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            yield batch


class Keeper:
    """Keeps alerts in transactions of a bounded size.

    A thread of the database's own writes one of them while the rows of the next are made by whoever calls. Python needs
    its own lock for the latter alone, so two cores share the work.

    Parameters
    ----------
    database, keep, cutouts
        As for `EmbeddedArchive.ingest`.
    report : IngestReport
        Where it is counted what was done.
    durable : callable
        Is called, in the database's thread, with alerts that are on the disk now or can't be read.
    """

    def __init__(
        self,
        database: Database,
        keep: Keep,
        *,
        cutouts: bool,
        report: IngestReport,
        durable: Callable[[Sequence[Alert | Notice]], None] | None = None,
    ) -> None:
        self._database = database
        self._preparation = Preparation(database, keep, cutouts=cutouts)
        self._report = report
        self._durable = durable
        self._under_way: Future[None] | None = None
        self._lock = threading.RLock()  # who was interrupted may still be in `write`, in a worker thread
        self._ended = False

    def write(self, alerts: Sequence[Alert | Notice]) -> None:
        """Begin to write alerts; all but the last transaction is on the disk when this returns. None at all flushes.

        Raises
        ------
        StorageError
            If something can't be written, perhaps of an earlier call; then nothing of its transaction is in the archive,
            and nothing that came after.
        """
        if not alerts:
            self.flush()
        with self._lock, self._database.errors():
            try:
                for piece in _pieces(alerts):
                    if self._ended:
                        return
                    prepared = self._preparation(piece, self._report)
                    self.flush()
                    self._begin(prepared, piece)
            except BaseException:
                self._preparation.forget()  # what it takes for known may not have been written
                raise

    def flush(self) -> None:
        """Wait until everything is on the disk.

        Raises
        ------
        StorageError
            If the last transaction can't be written.
        """
        with self._lock:
            if self._under_way is not None:
                # An interruption here leaves it under way, to be waited for once more.
                wait([self._under_way])
                under_way, self._under_way = self._under_way, None
                try:
                    under_way.result()
                except BaseException:
                    self._preparation.forget()
                    raise

    def end(self) -> None:
        """Begin nothing more, and wait until everything is on the disk.

        Raises
        ------
        StorageError
            If the last transaction can't be written.
        """
        self._ended = True
        self.flush()

    def _begin(self, prepared: Prepared, alerts: Sequence[Alert | Notice]) -> None:
        try:
            self._under_way = self._database.writer.submit(self._enter, prepared, alerts)
        except RuntimeError:  # the main thread has ended, and Python gives executors no more work
            self._enter(prepared, alerts)

    def _enter(self, prepared: Prepared, alerts: Sequence[Alert | Notice]) -> None:
        enter(self._database, prepared, self._report)
        if self._durable is not None:
            self._durable(alerts)


def _pieces(alerts: Sequence[Alert | Notice]) -> Sequence[Sequence[Alert | Notice]]:
    """Divide a batch into parts that are written in one transaction each."""
    pieces: list[list[Alert | Notice]] = []
    size = _TRANSACTION_BYTES
    for alert in alerts:
        if size >= _TRANSACTION_BYTES:
            pieces.append([])
            size = 0
        pieces[-1].append(alert)
        size += len(alert.raw)
    return pieces


def enter(database: Database, prepared: Prepared, report: IngestReport) -> None:
    """Write rows in one transaction."""
    counts = IngestReport()
    with database.writing() as connection:
        known = set(database.catalogs())
        for catalog, rows in prepared.rows.items():
            if catalog not in known:
                database.create_catalog(catalog)
            _enter_alerts(connection, catalog, rows, counts)
            points = prepared.points.get(catalog, ())
            insert_rows(connection, f"{catalog}:points", POINT_COLUMNS, points, known="IGNORE")
        share_loci(connection, known | prepared.rows.keys(), prepared.rows)
    # Counted only now: a transaction that was undone has done nothing.
    report.received += prepared.received
    report.archived += counts.archived
    report.revised += counts.revised
    report.duplicates += counts.duplicates


class ArchiveSink:
    """An archive as a place where a stream saves its alerts; made by `EmbeddedArchive.sink`.

    Parameters
    ----------
    database, keep, cutouts
        As for `EmbeddedArchive.ingest`.

    Attributes
    ----------
    report : IngestReport
        What was done so far.
    """

    def __init__(self, database: Database, keep: Keep, *, cutouts: bool) -> None:
        self.report = IngestReport()
        self._keeper = Keeper(database, keep, cutouts=cutouts, report=self.report)
        self._lock = threading.Lock()  # several streams may save in one sink

    def write(self, items: Sequence[Alert | Notice]) -> None:
        """Keep a batch; it is on the disk when this returns.

        Raises
        ------
        StorageError
            If it can't be written. What is there of it already changes nothing when it comes again.
        """
        with self._lock:
            self._keeper.write(items)
            self._keeper.flush()

    def close(self) -> None:
        """Nothing to do: the archive stays open."""


def _enter_alerts(
    connection: sqlite3.Connection, catalog: str, rows: Sequence[AlertRow], counts: IngestReport
) -> None:
    """Insert rows; of an alert that is known see whether it is another version."""
    table, ids = quoted(catalog), json.dumps([row.id for row in rows])
    known = {
        name for (name,) in connection.execute(
            f"SELECT _id FROM {table} WHERE _id IN (SELECT value FROM json_each(?))", (ids,)
        )
    }  # fmt: skip
    (last,) = connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()
    new: list[AlertRow] = []
    others: list[AlertRow] = []
    for row in rows:
        (others if row.id in known else new).append(row)
        known.add(row.id)  # it may come twice
    values = [
        (number, row.id, json.dumps(row.annotations) if row.annotations else None, *_columns(row))
        for number, row in enumerate(new, last + 1)
    ]
    insert_rows(connection, catalog, ("id", "_id", "annotations", *_COLUMNS), values)
    images = [(number, *image) for number, row in enumerate(new, last + 1) for image in row.images]
    insert_rows(connection, f"{catalog}:images", _IMAGE_COLUMNS, images, known="REPLACE")
    counts.archived += len(new)
    for row in others:
        _enter_known(connection, catalog, row, counts)


def _enter_known(connection: sqlite3.Connection, catalog: str, row: AlertRow, counts: IngestReport) -> None:
    """See that a row says nothing new, or keep the known one as a revision."""
    table = quoted(catalog)
    number, digest, annotations = connection.execute(
        f"SELECT id, digest, annotations FROM {table} WHERE _id = ?", (row.id,)
    ).fetchone()
    merge_annotations(connection, catalog, number, annotations, row.annotations)
    revisions = quoted(f"{catalog}:revisions")
    if (
        digest == row.digest
        or connection.execute(
            f"SELECT 1 FROM {revisions} WHERE alert = ? AND digest = ?", (number, row.digest)
        ).fetchone()
    ):
        counts.duplicates += 1
        return
    if row.broker is not None and row.broker not in (json.loads(annotations) if annotations else {}):
        # The same alert by way of another broker: what that one adds is merged, and its packet is kept beside.
        _keep_beside(connection, catalog, number, row)
        counts.duplicates += 1
        return
    _keep_as_revision(connection, catalog, number)
    connection.execute(
        f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in _COLUMNS)} WHERE id = ?",
        (*_columns(row), number),
    )
    images = [(number, *image) for image in row.images]
    insert_rows(connection, f"{catalog}:images", _IMAGE_COLUMNS, images, known="REPLACE")
    counts.archived += 1
    counts.revised += 1


def _keep_as_revision(connection: sqlite3.Connection, catalog: str, number: int) -> None:
    """Keep what stands in a row as an earlier version, with its images in the document."""
    digest, received, text, extras, packet = connection.execute(
        f"SELECT digest, received, document, extras, packet FROM {quoted(catalog)} WHERE id = ?", (number,)
    ).fetchone()
    images = read_images(connection, catalog, number, survey_of_catalog(catalog).cutout_fields)
    if images:
        text, extras = to_text({**from_text(text, extras), **images})
        connection.execute(f"DELETE FROM {quoted(f'{catalog}:images')} WHERE alert = ?", (number,))
    connection.execute(
        f"INSERT INTO {quoted(f'{catalog}:revisions')} (alert, digest, received, document, extras, packet) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (number, digest, received, text, extras, packet),
    )


def _keep_beside(connection: sqlite3.Connection, catalog: str, number: int, row: AlertRow) -> None:
    """Keep a packet of another broker with the versions of an alert; images only where they are other ones."""
    known = read_images(connection, catalog, number, survey_of_catalog(catalog).cutout_fields)
    images = cut_out(row.in_packet, row.packet) if row.in_packet and row.packet else row.images
    images_of = {field: as_image(file_name, data) for field, file_name, data in images}
    others = {field: image for field, image in images_of.items() if known.get(field) != image}
    text, extras = (
        to_text({**from_text(row.text, row.extras), **others}) if others else (row.text, row.extras)
    )
    connection.execute(
        f"INSERT INTO {quoted(f'{catalog}:revisions')} (alert, digest, received, document, extras, packet) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (number, row.digest, time.time(), text, extras, row.packet),
    )


_COLUMNS = (
    "alert_id", "object_id", "mjd", "ra", "dec", "hpx", "received", "digest", "images", "document", "extras", "packet",
    "in_packet",
)  # fmt: skip
_IMAGE_COLUMNS = ("alert", "field", "file_name", "data")


def _columns(row: AlertRow) -> tuple[Any, ...]:
    return (
        row.alert_id, row.object_id, row.mjd, row.ra, row.dec, row.cell, time.time(), row.digest, row.image_count,
        row.text, row.extras, row.packet, row.in_packet,
    )  # fmt: skip
