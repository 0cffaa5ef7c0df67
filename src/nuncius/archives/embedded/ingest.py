"""How alerts come into the archive: in large transactions, each durable before its alerts are acknowledged."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from nuncius._core.jsontext import from_text, printable, to_text
from nuncius.alerts import Alert, Notice
from nuncius.alerts.sink import AlertSource
from nuncius.archives.documents import catalog_of, coordinates_of, document_of, history_of, survey_of
from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.reports import IngestReport
from nuncius.archives.embedded.sharing import merge_annotations, share_loci
from nuncius.errors import ConfigurationError, PacketError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Iterator, Sequence

    from nuncius.archives.documents import Keep
    from nuncius.archives.embedded.database import Database

log = logging.getLogger("nuncius.archives")

_BATCH = 500


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
    """Write one batch in one transaction.

    Raises
    ------
    StorageError
        If it can't be written; then nothing of the batch is in the archive.
    """
    by_catalog: dict[str, list[_Row]] = defaultdict(list)
    for alert, coordinates in zip(alerts, _coordinates(alerts, report), strict=True):
        if coordinates is not _UNREADABLE:
            by_catalog[catalog_of(alert)].append(_Row(alert, coordinates, keep, cutouts=cutouts))
    counts = IngestReport()
    with database.writing() as connection:
        known = set(database.catalogs())
        for catalog, entered in by_catalog.items():
            if catalog not in known:
                database.create_catalog(catalog)
            for row in entered:
                _enter(connection, catalog, row, counts)
            _enter_points(connection, catalog, entered)
        share_loci(connection, known | by_catalog.keys(), by_catalog)
    # Counted only now: a transaction that was undone has done nothing.
    report.received += len(alerts)
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
        """Keep a batch in one transaction; it is on the disk when this returns.

        Raises
        ------
        StorageError
            If it can't be written; then nothing of it is in the archive.
        """
        write(self._database, items, self._keep, cutouts=self._cutouts, report=self.report)

    def close(self) -> None:
        """Nothing to do: the archive stays open."""


_UNREADABLE: Any = object()


def _coordinates(alerts: Sequence[Alert | Notice], report: IngestReport) -> list[Any]:
    """Decode the alerts and make their coordinates, together because that is cheaper."""
    positions: list[tuple[float | None, float | None]] = []
    unreadable = set()
    for index, alert in enumerate(alerts):
        try:
            _ = alert.packet
            positions.append((alert.ra, alert.dec))
        except PacketError as error:  # a notice is whole from the beginning
            assert isinstance(alert, Alert)
            unreadable.add(index)
            positions.append((None, None))
            report.unreadable.append((alert, error))
            log.warning("not archived: %s", error)
    found = coordinates_of(positions)
    return [_UNREADABLE if index in unreadable else made for index, made in enumerate(found)]


class _Row:
    """An alert as it will stand in its catalog."""

    __slots__ = (
        "alert_id", "annotations", "broker", "dec", "digest", "extras", "id", "images", "mjd", "object_id", "packet", "points",
        "ra", "text",
    )  # fmt: skip

    def __init__(self, alert: Alert | Notice, coordinates: Any, keep: Keep, *, cutouts: bool) -> None:
        self.id = document_id(alert)
        # A packet may have a field of this name too, as exports of other archives do: ours stands.
        document = {"_id": self.id, **document_of(alert, keep)}
        document["_id"] = self.id
        if coordinates is not None:
            document["coordinates"] = coordinates
        self.text, self.extras = to_text(document)
        self.alert_id = _column_of_id(alert.alert_id)
        self.object_id = None if alert.object_id is None else printable(alert.object_id)
        self.mjd, self.ra, self.dec = alert.mjd, alert.ra, alert.dec
        self.digest = bytes.fromhex(alert.digest)
        self.annotations = {}
        for name, value in alert.annotations.items():
            text, extras = to_text(value)
            self.annotations[name] = text if extras is None else [text, extras]
        broker = None if alert.origin is None else alert.origin.broker
        self.broker = broker if broker in self.annotations else None
        self.packet = alert.raw if keep == "packet" else None
        self.points = []
        if alert.object_id is not None:
            self.points = [
                (self.object_id, point.list_name, point.key, point.mjd, *to_text(point.values))
                for point in history_of(alert, keep)
            ]
        self.images: list[tuple[str, str | None, bytes]] = []
        if isinstance(alert, Alert) and cutouts and keep != "measurements":
            fields = dict(
                zip(("science", "template", "difference"), survey_of(alert).cutout_fields, strict=True)
            )
            self.images = [(fields[image.kind], image.file_name, image.bytes) for image in alert.cutouts]


def _column_of_id(value: int | str) -> int | str:
    """Turn an id into what SQLite can hold: integers of 64 bits and Unicode."""
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    return printable(value)


def document_id(alert: Alert | Notice) -> str:
    """Return the `_id` of an alert's document: 24 hexadecimal digits made of its key, the same at each delivery."""
    key = json.dumps([part if isinstance(part, str) or part is None else str(part) for part in alert.key])
    return hashlib.blake2b(key.encode(), digest_size=12).hexdigest()


def _enter(connection: sqlite3.Connection, catalog: str, row: _Row, counts: IngestReport) -> None:
    """Insert a row, or see that it is known, or keep the known one as a revision."""
    table = quoted(catalog)
    found = connection.execute(
        f"SELECT id, digest, annotations FROM {table} WHERE _id = ?", (row.id,)
    ).fetchone()
    if found is None:
        values = (row.id, *_columns(row), json.dumps(row.annotations) if row.annotations else None)
        cursor = connection.execute(
            f"INSERT INTO {table} (_id, alert_id, object_id, mjd, ra, dec, hpx, received, digest, images, document, "
            "extras, packet, annotations) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        assert cursor.lastrowid is not None
        _enter_images(connection, catalog, cursor.lastrowid, row)
        counts.archived += 1
        return
    number, digest, annotations = found
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
        f"UPDATE {table} SET alert_id = ?, object_id = ?, mjd = ?, ra = ?, dec = ?, hpx = ?, received = ?, digest = ?, "
        "images = ?, document = ?, extras = ?, packet = ? WHERE id = ?",
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
    images = connection.execute(
        f"SELECT field, file_name, data FROM {quoted(f'{catalog}:images')} WHERE alert = ?", (number,)
    ).fetchall()
    if images:
        shown = {
            field: data if name is None else {"fileName": name, "stampData": data}
            for field, name, data in images
        }
        text, extras = to_text({**from_text(text, extras), **shown})
        connection.execute(f"DELETE FROM {quoted(f'{catalog}:images')} WHERE alert = ?", (number,))
    connection.execute(
        f"INSERT INTO {quoted(f'{catalog}:revisions')} (alert, digest, received, document, extras, packet) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (number, digest, received, text, extras, packet),
    )


def _keep_beside(connection: sqlite3.Connection, catalog: str, number: int, row: _Row) -> None:
    """Keep a packet of another broker with the versions of an alert; images only where they are other ones."""
    query = f"SELECT field, data FROM {quoted(f'{catalog}:images')} WHERE alert = ?"
    known = dict(connection.execute(query, (number,)).fetchall())
    others = {
        field: data if name is None else {"fileName": name, "stampData": data}
        for field, name, data in row.images
        if known.get(field) != data
    }
    text, extras = (
        to_text({**from_text(row.text, row.extras), **others}) if others else (row.text, row.extras)
    )
    connection.execute(
        f"INSERT INTO {quoted(f'{catalog}:revisions')} (alert, digest, received, document, extras, packet) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (number, row.digest, time.time(), text, extras, row.packet),
    )


def _columns(row: _Row) -> tuple[Any, ...]:
    return (
        row.alert_id, row.object_id, row.mjd, row.ra, row.dec, _cell(row.ra, row.dec), time.time(), row.digest,
        len(row.images), row.text, row.extras, row.packet,
    )  # fmt: skip


def _cell(ra: float | None, dec: float | None) -> int | None:
    from nuncius.sky import cells_of

    return None if ra is None or dec is None else int(cells_of(ra, dec))


def _enter_images(connection: sqlite3.Connection, catalog: str, number: int, row: _Row) -> None:
    if row.images:
        connection.executemany(
            f"INSERT OR REPLACE INTO {quoted(f'{catalog}:images')} (alert, field, file_name, data) VALUES (?, ?, ?, ?)",
            [(number, *image) for image in row.images],
        )


def _enter_points(connection: sqlite3.Connection, catalog: str, entered: list[_Row]) -> None:
    connection.executemany(
        f"INSERT OR IGNORE INTO {quoted(f'{catalog}:points')} (object_id, list, point, mjd, document, extras) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [point for row in entered for point in row.points],
    )
