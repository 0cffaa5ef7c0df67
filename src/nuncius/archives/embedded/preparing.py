"""Alerts as rows of the archive: all that can be done before the transaction that writes them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from nuncius._core.jsontext import printable, to_text
from nuncius.alerts import Alert
from nuncius.archives.documents import Contents, catalog_of, coordinates_of, survey_of
from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.histories import row_of
from nuncius.errors import PacketError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nuncius.alerts import Notice
    from nuncius.archives.documents import Keep
    from nuncius.archives.embedded.database import Database
    from nuncius.archives.embedded.histories import PointRow
    from nuncius.archives.embedded.reports import IngestReport
    from nuncius.archives.embedded.rows import Image
    from nuncius.archives.language import Document

log = logging.getLogger("nuncius.archives")

_AT_ONCE = 200  # alerts whose decoded values are in memory
_HEAD = 64  # bytes of an image that are looked for in its packet
_TRIES = (
    10  # places that begin like an image and are none: an odd packet must not cost more than a row of images
)


class AlertRow:
    """An alert as it will stand in its catalog; `images` are those that are not `in_packet`."""

    __slots__ = (
        "alert_id", "annotations", "broker", "cell", "dec", "digest", "extras", "id",
        "image_count", "images", "in_packet", "mjd", "object_id", "packet", "ra", "text",
    )  # fmt: skip

    def __init__(
        self,
        alert: Alert | Notice,
        contents: Contents,
        coordinates: Any,
        cell: int | None,
        keep: Keep,
        *,
        cutouts: bool,
    ) -> None:
        self.id = document_id(alert)
        # A packet may have a field of this name too, as exports of other archives do: ours stands.
        document = {"_id": self.id, **contents.document}
        document["_id"] = self.id
        if coordinates is not None:
            document["coordinates"] = coordinates
        self.text, self.extras = to_text(document)
        self.alert_id = _column_of_id(alert.alert_id)
        self.object_id = None if alert.object_id is None else printable(alert.object_id)
        self.mjd, self.ra, self.dec, self.cell = alert.mjd, alert.ra, alert.dec, cell
        self.digest = bytes.fromhex(alert.digest)
        self.annotations = {}
        for name, value in contents.annotations.items():
            text, extras = to_text(value)
            self.annotations[name] = text if extras is None else [text, extras]
        broker = None if alert.origin is None else alert.origin.broker
        self.broker = broker if broker in self.annotations else None
        self.packet = alert.raw if keep == "packet" else None
        images: list[Image] = []
        if isinstance(alert, Alert) and cutouts and keep != "measurements":
            fields = dict(
                zip(("science", "template", "difference"), survey_of(alert).cutout_fields, strict=True)
            )
            images = [(fields[image.kind], image.file_name, image.bytes) for image in contents.cutouts]
        self.image_count = len(images)
        self.in_packet = None if self.packet is None else _places(images, self.packet)
        self.images = images if self.in_packet is None else []


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
        self.points: dict[str, list[PointRow]] = defaultdict(list)


class Preparation:
    """Makes the rows of one transaction after another.

    Parameters
    ----------
    database : Database
        Is asked which entries of histories are known.
    keep, cutouts
        As for `EmbeddedArchive.ingest`.
    """

    def __init__(self, database: Database, keep: Keep, *, cutouts: bool) -> None:
        self._database = database
        self._keep = keep
        self._cutouts = cutouts
        # Keys of entries by list, of the objects in this transaction and in the one before, which is still being written.
        self._known: dict[tuple[str, str], dict[str, set[str]]] = {}
        self._before = self._known

    def __call__(self, alerts: Sequence[Alert | Notice], report: IngestReport) -> Prepared:
        """Make the rows of some alerts; those that can't be read are noted in the report."""
        self._before, self._known = self._known, {}
        prepared = Prepared(len(alerts))
        for start in range(0, len(alerts), _AT_ONCE):
            self._add(prepared, _readable(alerts[start : start + _AT_ONCE], self._keep, report))
        return prepared

    def forget(self) -> None:
        """Ask the archive anew which entries are known."""
        self._known, self._before = {}, {}

    def _add(self, prepared: Prepared, readable: Sequence[tuple[Alert | Notice, Contents]]) -> None:
        """Add the rows of some alerts that were decoded."""
        positions = [(alert.ra, alert.dec) for alert, _ in readable]
        histories: dict[str, list[tuple[str, Contents]]] = {}
        for (alert, contents), coordinates, cell in zip(
            readable, coordinates_of(positions), _cells(positions), strict=True
        ):
            row = AlertRow(alert, contents, coordinates, cell, self._keep, cutouts=self._cutouts)
            catalog = catalog_of(alert)
            prepared.rows[catalog].append(row)
            if row.object_id is not None and contents.histories:
                histories.setdefault(catalog, []).append((row.object_id, contents))
        for catalog, some in histories.items():
            self._look_up(catalog, {object_id for object_id, _ in some})
            prepared.points[catalog] += self._points(catalog, some)

    def _points(self, catalog: str, histories: Sequence[tuple[str, Contents]]) -> list[PointRow]:
        """Return rows of the entries of histories, by object, that are not known, each once."""
        new: dict[tuple[str, str], list[tuple[str, Document]]] = {}
        for object_id, contents in histories:
            for list_name, keys in contents.histories.items():
                known = self._known[catalog, object_id].setdefault(list_name, set())
                fresh = [key for key in keys if key not in known]
                if fresh:
                    known.update(fresh)
                    found = new.setdefault((object_id, list_name), [])
                    found += [(key, contents.entry(list_name, key)) for key in fresh]
        return [row_of(*history, *zip(*found, strict=True)) for history, found in new.items()]

    def _look_up(self, catalog: str, objects: Iterable[str]) -> None:
        """See which entries of the histories of some objects are known.

        The archive is asked to save space, not to be sure: another process may be writing the same entries now.
        """
        new = [object_id for object_id in objects if (catalog, object_id) not in self._known]
        self._known |= {(catalog, object_id): self._before.get((catalog, object_id), {}) for object_id in new}
        new = [object_id for object_id in new if (catalog, object_id) not in self._before]
        if new and catalog in self._database.catalogs():
            statement = (
                f"SELECT object_id, list, point FROM {quoted(f'{catalog}:points')} "
                "WHERE object_id IN (SELECT value FROM json_each(?))"
            )
            for object_id, list_name, keys in self._database.connection.execute(
                statement, (json.dumps(new),)
            ):
                # SQLite ends a name at a NUL character, and then finds the entries of another object.
                if (lists := self._known.get((catalog, object_id))) is not None:
                    lists.setdefault(list_name, set()).update(keys.split("\n"))


def document_id(alert: Alert | Notice) -> str:
    """Return the `_id` of an alert's document: 24 hexadecimal digits made of its key, the same at each delivery."""
    key = json.dumps([part if isinstance(part, str) or part is None else str(part) for part in alert.key])
    return hashlib.blake2b(key.encode(), digest_size=12).hexdigest()


def _readable(
    alerts: Sequence[Alert | Notice], keep: Keep, report: IngestReport
) -> list[tuple[Alert | Notice, Contents]]:
    """Decode the alerts; return those that can be, with what they contain."""
    readable = []
    for alert in alerts:
        try:
            contents = Contents(alert, keep)
            _ = alert.ra
        except PacketError as error:  # a notice is whole from the beginning
            assert isinstance(alert, Alert)
            report.unreadable.append((alert, error))
            log.warning("not archived: %s", error)
        else:
            readable.append((alert, contents))
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


def _places(images: Sequence[Image], packet: bytes) -> str | None:
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
