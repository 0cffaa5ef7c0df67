"""Alerts as rows of the archive: all that can be done before the transaction that writes them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

from nuncius._core.jsontext import printable, to_text, to_texts
from nuncius.alerts import Alert
from nuncius.archives.documents import catalog_of, coordinates_of, document_of, history_of, survey_of
from nuncius.archives.embedded.database import quoted
from nuncius.errors import PacketError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from nuncius.alerts import Notice
    from nuncius.archives.documents import HistoryPoint, Keep
    from nuncius.archives.embedded.reports import IngestReport

log = logging.getLogger("nuncius.archives")

_HEAD = 64  # bytes of an image that are looked for in its packet
_TRIES = (
    10  # places that begin like an image and are none: an odd packet must not cost more than a row of images
)

PointRow: TypeAlias = "tuple[str, str, str, float | None, str, str | None]"


class AlertRow:
    """An alert as it will stand in its catalog."""

    __slots__ = (
        "alert_id", "annotations", "broker", "cell", "dec", "digest", "extras", "history", "id", "images", "in_packet",
        "mjd", "object_id", "packet", "ra", "text",
    )  # fmt: skip

    def __init__(
        self, alert: Alert | Notice, coordinates: Any, cell: int | None, keep: Keep, *, cutouts: bool
    ) -> None:
        self.id = document_id(alert)
        # A packet may have a field of this name too, as exports of other archives do: ours stands.
        document = {"_id": self.id, **document_of(alert, keep)}
        document["_id"] = self.id
        if coordinates is not None:
            document["coordinates"] = coordinates
        self.text, self.extras = to_text(document)
        self.alert_id = _column_of_id(alert.alert_id)
        self.object_id = None if alert.object_id is None else printable(alert.object_id)
        self.mjd, self.ra, self.dec, self.cell = alert.mjd, alert.ra, alert.dec, cell
        self.digest = bytes.fromhex(alert.digest)
        self.annotations = {}
        for name, value in alert.annotations.items():
            text, extras = to_text(value)
            self.annotations[name] = text if extras is None else [text, extras]
        broker = None if alert.origin is None else alert.origin.broker
        self.broker = broker if broker in self.annotations else None
        self.packet = alert.raw if keep == "packet" else None
        self.history: list[HistoryPoint] = [] if alert.object_id is None else history_of(alert, keep)
        self.images: list[tuple[str, str | None, bytes]] = []
        if isinstance(alert, Alert) and cutouts and keep != "measurements":
            fields = dict(
                zip(("science", "template", "difference"), survey_of(alert).cutout_fields, strict=True)
            )
            self.images = [(fields[image.kind], image.file_name, image.bytes) for image in alert.cutouts]
        self.in_packet = None if self.packet is None else _places(self.images, self.packet)


class Prepared:
    """Some alerts, ready to be written.

    Parameters
    ----------
    received : int
        How many alerts they were, with those that can't be read.
    """

    __slots__ = ("points", "received", "rows")

    def __init__(self, received: int) -> None:
        self.received = received
        self.rows: dict[str, list[AlertRow]] = defaultdict(list)
        self.points: dict[str, list[PointRow]] = {}


class Preparation:
    """Makes rows of alerts, and remembers which entries of histories it has given out or found in the archive.

    Parameters
    ----------
    connection : sqlite3.Connection
        Is asked which entries are known.
    catalogs : collection of str
        The catalogs that there are.
    keep, cutouts
        As for `EmbeddedArchive.ingest`.
    """

    def __init__(
        self, connection: sqlite3.Connection, catalogs: Iterable[str], keep: Keep, *, cutouts: bool
    ) -> None:
        self._connection = connection
        self._catalogs = frozenset(catalogs)
        self._keep = keep
        self._cutouts = cutouts
        self._known: dict[tuple[str, str, str], set[str]] = {}  # keys, by catalog, object and list

    def __call__(self, alerts: Sequence[Alert | Notice], report: IngestReport) -> Prepared:
        """Make the rows of some alerts; those that can't be read are noted in the report."""
        readable = _readable(alerts, report)
        positions = [(alert.ra, alert.dec) for alert in readable]
        prepared = Prepared(len(alerts))
        for alert, coordinates, cell in zip(
            readable, coordinates_of(positions), _cells(positions), strict=True
        ):
            row = AlertRow(alert, coordinates, cell, self._keep, cutouts=self._cutouts)
            prepared.rows[catalog_of(alert)].append(row)
        for catalog, rows in prepared.rows.items():
            prepared.points[catalog] = self._points(catalog, rows)
        return prepared

    def _points(self, catalog: str, rows: Sequence[AlertRow]) -> list[PointRow]:
        """Return the rows of the entries of histories that are not known, each once."""
        histories: dict[tuple[str, str], dict[str, HistoryPoint]] = defaultdict(dict)
        for row in rows:
            for point in row.history:
                assert row.object_id is not None
                key = point.key if point.key.isascii() else printable(point.key)
                histories[row.object_id, point.list_name].setdefault(key, point)
        new = []
        for (object_id, list_name), points in histories.items():
            known = self._known_keys(catalog, object_id, list_name, points)
            new += [(object_id, key, point) for key, point in points.items() if key not in known]
            known.update(points)
        texts = to_texts([point.values for _, _, point in new])
        return [
            (object_id, point.list_name, key, point.mjd, text, extras)
            for (object_id, key, point), (text, extras) in zip(new, texts, strict=True)
        ]

    def _known_keys(self, catalog: str, object_id: str, list_name: str, keys: Iterable[str]) -> set[str]:
        """Return which entries of one history are known, at least among these.

        The archive is asked to save work, not to be sure: writing an entry that is there changes nothing.
        """
        known = self._known.setdefault((catalog, object_id, list_name), set())
        if catalog in self._catalogs and not known.issuperset(keys):
            statement = (
                f"SELECT point FROM {quoted(f'{catalog}:points')} "
                "WHERE object_id = ? AND list = ? AND point BETWEEN ? AND ?"
            )
            found = self._connection.execute(statement, (object_id, list_name, min(keys), max(keys)))
            known.update(key for (key,) in found.fetchall())
        return known


def document_id(alert: Alert | Notice) -> str:
    """Return the `_id` of an alert's document: 24 hexadecimal digits made of its key, the same at each delivery."""
    key = json.dumps([part if isinstance(part, str) or part is None else str(part) for part in alert.key])
    return hashlib.blake2b(key.encode(), digest_size=12).hexdigest()


def _readable(alerts: Sequence[Alert | Notice], report: IngestReport) -> list[Alert | Notice]:
    """Decode the alerts; return those that can be."""
    readable = []
    for alert in alerts:
        try:
            _ = alert.packet, alert.ra
        except PacketError as error:  # a notice is whole from the beginning
            assert isinstance(alert, Alert)
            report.unreadable.append((alert, error))
            log.warning("not archived: %s", error)
        else:
            readable.append(alert)
    return readable


def _cells(positions: Sequence[tuple[float | None, float | None]]) -> list[int | None]:
    """Return the cells of positions, together because that is cheaper."""
    import numpy as np

    from nuncius.sky import cells_of

    cells: list[int | None] = [None] * len(positions)
    known = [index for index, (ra, dec) in enumerate(positions) if ra is not None and dec is not None]
    if known:
        ra, dec = np.array([positions[index] for index in known], dtype=float).T
        for index, cell in zip(known, cells_of(ra, dec).tolist(), strict=True):
            cells[index] = cell
    return cells


def _column_of_id(value: int | str) -> int | str:
    """Turn an id into what SQLite can hold: integers of 64 bits and Unicode."""
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    return printable(value)


def _places(images: Sequence[tuple[str, str | None, bytes]], packet: bytes) -> str | None:
    """Return where in a packet its images stand, as the layout of the file says; None unless all of them do."""
    places = []
    after = 0
    for field, file_name, data in images:
        begin = _place(data, packet, after)
        if begin < 0 and after:
            begin = _place(data, packet, 0)
        if begin < 0:
            return None  # packed, or in a text
        after = begin + len(data)
        places.append((field, file_name, begin, len(data)))
    return json.dumps(places) if places else None


def _place(data: bytes, packet: bytes, begin: int) -> int:
    """Return where data stand in a packet, or -1. To look for all of their bytes at once is three times as slow."""
    head = data[:_HEAD]
    for _ in range(_TRIES):
        begin = packet.find(head, begin)
        if begin < 0 or packet.startswith(data, begin):
            return begin
        begin += 1
    return -1
