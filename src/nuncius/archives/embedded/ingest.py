"""How alerts come into the archive: in large transactions, each durable before its alerts are acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from concurrent.futures import wait
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from nuncius._core.jsontext import from_text, to_text
from nuncius.alerts import Alert, Notice
from nuncius.alerts.sink import AlertSource
from nuncius.archives.documents import survey_of_catalog
from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.preparing import Preparation
from nuncius.archives.embedded.reports import IngestReport
from nuncius.archives.embedded.rows import as_image, read_images
from nuncius.archives.embedded.sharing import merge_annotations, share_loci
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Iterator, Sequence

    from nuncius.archives.documents import Keep
    from nuncius.archives.embedded.database import Database
    from nuncius.archives.embedded.preparing import AlertRow, PointRow, Prepared

T = TypeVar("T")

_BATCH = 500
_TRANSACTION_BYTES = 16 << 20
_ROWS = 100  # in one statement


class Batches:
    """Alerts in batches; a stream's batch is acknowledged when the next one is asked for.

    Parameters
    ----------
    alerts : stream or iterable of Alert
        Where they come from.
    """

    def __init__(self, alerts: Any) -> None:
        self._alerts = alerts

    def __iter__(self) -> Iterator[Sequence[Alert]]:
        if isinstance(self._alerts, AlertSource):
            yield from self._alerts.batches(_BATCH, 1.0)
            return
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
            async for batch in self._alerts.batches(_BATCH, 1.0):
                yield batch
            return
        batches = iter(self)
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            yield batch


def write(
    database: Database, alerts: Sequence[Alert | Notice], keep: Keep, *, cutouts: bool, report: IngestReport
) -> None:
    """Write one batch; it is on the disk when this returns.

    A large batch is written in several transactions: a thread of the database's own writes one while the rows of the next
    are made here. Python needs its own lock for the latter alone, so two cores share the work.

    Raises
    ------
    StorageError
        If it can't be written; then nothing of the transaction at hand is in the archive, and nothing that came after.
    """
    with database.errors():
        preparation = Preparation(database.connection, database.catalogs(), keep, cutouts=cutouts)
        first, *others = _pieces(alerts)
        prepared = preparation(first, report)
        if not others:
            _enter(database, prepared, report)
            return
        writer = database.writer
        for piece in (*others, ()):  # beside the last transaction nothing is left to be made
            under_way = writer.submit(_enter, database, prepared, report)
            try:
                prepared = preparation(piece, report)
            finally:
                wait([under_way])  # whatever happens, nothing goes on behind the caller's back
            under_way.result()


def _pieces(alerts: Sequence[Alert | Notice]) -> Sequence[Sequence[Alert | Notice]]:
    """Divide a batch into parts that are written in one transaction each."""
    pieces: list[list[Alert | Notice]] = [[]]
    size = 0
    for alert in alerts:
        if size >= _TRANSACTION_BYTES:
            pieces.append([])
            size = 0
        pieces[-1].append(alert)
        size += len(alert.raw)
    return pieces


def _enter(database: Database, prepared: Prepared, report: IngestReport) -> None:
    """Write rows in one transaction."""
    counts = IngestReport()
    with database.writing() as connection:
        known = set(database.catalogs())
        for catalog, rows in prepared.rows.items():
            if catalog not in known:
                database.create_catalog(catalog)
            _enter_alerts(connection, catalog, rows, counts)
            _enter_points(connection, catalog, prepared.points[catalog])
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
        self._database = database
        self._keep = keep
        self._cutouts = cutouts
        self.report = IngestReport()

    def write(self, items: Sequence[Alert | Notice]) -> None:
        """Keep a batch; it is on the disk when this returns.

        Raises
        ------
        StorageError
            If it can't be written. What is there of it already changes nothing when it comes again.
        """
        write(self._database, items, self._keep, cutouts=self._cutouts, report=self.report)

    def close(self) -> None:
        """Nothing to do: the archive stays open."""


def _enter_alerts(
    connection: sqlite3.Connection, catalog: str, rows: Sequence[AlertRow], counts: IngestReport
) -> None:
    """Insert rows; of an alert that is known see whether it is another version."""
    for some in _parts(rows, _ROWS):
        values = [
            (row.id, *_columns(row), json.dumps(row.annotations) if row.annotations else None) for row in some
        ]
        statement = (
            f"INSERT INTO {quoted(catalog)} (_id, {', '.join(_COLUMNS)}, annotations) VALUES {_marks(values)} "
            "ON CONFLICT (_id) DO NOTHING RETURNING _id, id"
        )
        new = dict(connection.execute(statement, [*chain.from_iterable(values)]).fetchall())
        for row in some:
            number = new.pop(row.id, None)
            if number is None:
                _enter_known(connection, catalog, row, counts)
            else:
                _enter_images(connection, catalog, number, row)
                counts.archived += 1


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
    _enter_images(connection, catalog, number, row)
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
    images = {field: as_image(file_name, data) for field, file_name, data in row.images}
    others = {field: image for field, image in images.items() if known.get(field) != image}
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


def _columns(row: AlertRow) -> tuple[Any, ...]:
    return (
        row.alert_id, row.object_id, row.mjd, row.ra, row.dec, row.cell, time.time(), row.digest, len(row.images),
        row.text, row.extras, row.packet, row.in_packet,
    )  # fmt: skip


def _enter_images(connection: sqlite3.Connection, catalog: str, number: int, row: AlertRow) -> None:
    if row.images and row.in_packet is None:
        values = [(number, *image) for image in row.images]
        connection.execute(
            f"INSERT OR REPLACE INTO {quoted(f'{catalog}:images')} (alert, field, file_name, data) "
            f"VALUES {_marks(values)}",
            [*chain.from_iterable(values)],
        )


def _enter_points(connection: sqlite3.Connection, catalog: str, points: Sequence[PointRow]) -> None:
    for some in _parts(points, _ROWS):
        connection.execute(
            f"INSERT OR IGNORE INTO {quoted(f'{catalog}:points')} (object_id, list, point, mjd, document, extras) "
            f"VALUES {_marks(some)}",
            [*chain.from_iterable(some)],
        )


def _parts(rows: Sequence[T], count: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), count):
        yield rows[start : start + count]


def _marks(rows: Sequence[tuple[Any, ...]]) -> str:
    """Return the marks for the values of rows.

    Many rows stand in one statement, because at each of its ends Python's lock changes hands between the two threads.
    """
    return ", ".join([f"({', '.join('?' * len(rows[0]))})"] * len(rows))
