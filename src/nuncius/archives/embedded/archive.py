"""The archive in one SQLite file, as users see it."""

from __future__ import annotations

import logging
import sqlite3
import time
import weakref
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nuncius._core.jsontext import from_text
from nuncius._core.when import duration_s, unix_s
from nuncius.alerts.lightcurve import LightCurve
from nuncius.archives.documents import survey_of_catalog
from nuncius.archives.embedded import query
from nuncius.archives.embedded.database import VERSION, Database, quoted
from nuncius.archives.embedded.ingest import IngestReport, batches_of, write
from nuncius.archives.filters import Projection, check_filter, check_sort, sort_documents
from nuncius.archives.results import Result, Rows
from nuncius.errors import ConfigurationError, NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from nuncius.alerts import Alert
    from nuncius.alerts.sink import AlertSource
    from nuncius.archives.documents import Keep
    from nuncius.archives.filters import Document, SortLike

log = logging.getLogger("nuncius.archives")

_UNIX_EPOCH_MJD = 40587.0
_DAY_S = 86400.0
_KEEPS = ("document", "packet", "measurements")


class ArchivedObject:
    """All that an archive knows of one object, made by `EmbeddedArchive.object`.

    Parameters
    ----------
    object_id : str
        The survey's name of it.
    catalog : str
        The catalog of its alerts.
    alerts : list of dict
        The documents of its alerts, oldest first, without images.
    """

    def __init__(
        self, object_id: str, catalog: str, alerts: list[Document], points: list[tuple[str, str, str | None]]
    ) -> None:
        self.object_id = object_id
        self.catalog = catalog
        self.alerts = alerts
        self._points = points  # the histories as text: most callers want either the documents or the curve
        self._curve: LightCurve | None = None

    @property
    def light_curve(self) -> LightCurve:
        """Its alerts and histories, each point once."""
        if self._curve is None:
            survey = survey_of_catalog(self.catalog)
            points = [survey.read(alert).point for alert in self.alerts]
            for list_name, text, extras in self._points:
                point = survey.history_point(list_name, from_text(text, extras))
                if point is not None:
                    points.append(point)
            self._curve = LightCurve(points)
        return self._curve

    def __repr__(self) -> str:
        return f"<ArchivedObject {self.object_id} in {self.catalog}: {len(self.alerts)} alerts, {self.light_curve!r}>"


class EmbeddedArchive:
    """An archive of alerts in one SQLite file, made by `nuncius.open_archive`.

    One program writes at a time; any number read meanwhile. Threads may share it.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self._database = Database(Path(path).expanduser(), read_only=read_only)
        self._catalogs: frozenset[str] = frozenset()
        self._finalizer = weakref.finalize(self, self._database.close)

    # Keeping -------------------------------------------------------------------------------------------------------

    def ingest(
        self,
        alerts: AlertSource | Iterable[Alert],
        *,
        keep: Keep = "document",
        cutouts: bool = True,
        progress: bool = True,
    ) -> IngestReport:
        """Keep alerts. A stream's alerts are acknowledged only when they are on the disk.

        Parameters
        ----------
        alerts : stream or iterable of Alert
            What `open_stream` or `read_packets` gives. A stream without `stop` is kept for ever.
        keep : {"document", "packet", "measurements"}
            How much. ``"document"`` keeps all values, history and images; it discards the packet's bytes, and with
            them the writer schema. ``"packet"`` keeps the bytes as well and discards nothing. ``"measurements"``
            keeps ids, positions, times and photometry; it discards all other values and the images.
        cutouts : bool
            Whether images are kept too.
        progress : bool
            Whether a bar is shown, where a person looks.

        Returns
        -------
        IngestReport

        Raises
        ------
        StorageError
            If the archive can't be written. What was written before stays; the stream's other alerts are not
            acknowledged and come again.
        """
        if keep not in _KEEPS:
            raise ConfigurationError(
                f"keep={keep!r} is not known; choose one of {', '.join(map(repr, _KEEPS))}"
            )
        report = IngestReport()
        begin = time.monotonic()
        with _progress_bar(progress) as advance:
            for batch in batches_of(alerts):
                write(self._database, batch, keep, cutouts=cutouts, report=report)
                advance(len(batch))
        report.seconds = time.monotonic() - begin
        return report

    def prune(self, older_than: Any) -> int:
        """Delete alerts and history that are older than a time or a duration.

        Parameters
        ----------
        older_than : datetime, Time, timedelta, Quantity or str
            A time, or how long ago (``"30d"``). It is compared with the time of the exposure; what has none stays.

        Returns
        -------
        int
            How many alerts were deleted.

        Raises
        ------
        ConfigurationError
            If it is no time.
        StorageError
            If the archive can't be written.
        """
        seconds = duration_s(older_than)
        when = time.time() - seconds if seconds is not None else unix_s(older_than)
        if when is None:
            raise ConfigurationError(
                f"older_than={older_than!r} is not understood; give '30d', a timedelta, an aware datetime or a Time"
            )
        limit = _UNIX_EPOCH_MJD + when / _DAY_S
        deleted = 0
        with self._database.writing() as connection:
            for name in self._database.catalogs():
                old = f"SELECT id FROM {quoted(name)} WHERE mjd < ?"
                for part in ("images", "revisions"):
                    connection.execute(
                        f"DELETE FROM {quoted(f'{name}:{part}')} WHERE alert IN ({old})", (limit,)
                    )
                connection.execute(f"DELETE FROM {quoted(f'{name}:points')} WHERE mjd < ?", (limit,))
                deleted += connection.execute(f"DELETE FROM {quoted(name)} WHERE mjd < ?", (limit,)).rowcount
        return deleted

    def backup(self, path: str | Path) -> Path:
        """Copy the archive to another file while it is in use.

        Returns
        -------
        Path
            The copy, which is an archive of its own.

        Raises
        ------
        StorageError
            If the file exists or can't be written.
        """
        target = Path(path).expanduser()
        if target.exists():
            raise StorageError(f"{target} exists; a backup never replaces a file", position=str(target))
        part = target.with_name(target.name + ".part")
        if not target.parent.is_dir():
            raise StorageError(
                f"{target} can't be made: there is no folder {target.parent}", position=str(target)
            )
        part.unlink(missing_ok=True)  # of a backup that was broken off
        with self._database.errors():
            copy = sqlite3.connect(part)
            try:
                self._database.connection.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file alone, on the disk
            finally:
                copy.close()
        part.replace(target)
        return target

    # Asking --------------------------------------------------------------------------------------------------------

    def find(
        self,
        catalog: str,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the word of the query language
        *,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        sort: SortLike = None,
        skip: int = 0,
        limit: int | None = None,
    ) -> Result:
        """Find documents.

        Parameters
        ----------
        catalog : str
            Such as ``"ZTF_alerts"`` or ``"ZTF_alerts_aux"``; see `catalogs`.
        filter : mapping, optional
            What they must meet, in MongoDB's language: ``{"candidate.drb": {"$gt": 0.9}}``.
        projection : mapping or list of str, optional
            Which fields; all by default, images included.
        sort : str, pairs or mapping, optional
            Such as ``"-candidate.jd"`` or ``[("candidate.jd", -1)]``; by default in the order in which they came.
        skip, limit : int, optional
            How many to pass over, and the most to give.

        Returns
        -------
        Result

        Raises
        ------
        NotFoundError
            If there is no such catalog.
        FilterError
            If filter, projection or sort mean nothing.

        Examples
        --------
        >>> archive.find("ZTF_alerts", {"candidate.magpsf": {"$lt": 18}}).to_table()  # doctest: +SKIP
        """
        condition, wanted, order = check_filter(filter), Projection(projection), check_sort(sort)
        _check_range(skip, limit)
        name = self._known(catalog)
        if not name.endswith("_aux"):
            return Result(
                Rows(lambda: query.find(self._database, name, condition, wanted, order, skip, limit))
            )

        def fetch() -> Iterator[Document]:
            found: Iterable[Document] = query.auxiliary(self._database, name, condition)
            if order:
                found = sort_documents(list(found), order)
            return map(wanted.apply, islice(found, skip, None if limit is None else skip + limit))

        return Result(Rows(fetch))

    def find_one(
        self,
        catalog: str,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        *,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        sort: SortLike = None,
        skip: int = 0,
    ) -> Document | None:
        """Find one document, or None; see `find`."""
        found = self.find(catalog, filter, projection=projection, sort=sort, skip=skip, limit=1)
        return next(iter(found), None)

    def count(self, catalog: str, filter: Mapping[str, Any] | None = None) -> int:  # noqa: A002
        """Count the documents that meet a filter; see `find`."""
        condition = check_filter(filter)
        name = self._known(catalog)
        if name.endswith("_aux"):
            return sum(1 for _ in query.auxiliary(self._database, name, condition))
        return query.count(self._database, name, condition)

    def cone_search(
        self,
        catalog: str,
        positions: Any,
        radius: Any,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        limit: int | None = None,
    ) -> Result:
        """Find the documents around positions.

        Parameters
        ----------
        catalog : str
            A catalog of alerts.
        positions : SkyCoord, Table, (ra, dec) or list of (ra, dec)
            One or many; numbers are ICRS degrees.
        radius : Quantity or str
            With its unit: ``2 * u.arcsec`` or ``"2 arcsec"``.
        filter, projection : optional
            See `find`.
        limit : int, optional
            The most documents for each position, the nearest first.

        Returns
        -------
        Result
            In the order of the positions, then of the distance. Each document has `input_index`, the number of the
            position, and `separation_arcsec`, the exact distance.

        Raises
        ------
        NotFoundError
            If there is no such catalog.
        FilterError
            If filter or projection mean nothing.
        ConfigurationError
            If positions or radius mean nothing.
        """
        from nuncius.sky import to_arcsec, to_positions

        condition, wanted = check_filter(filter), Projection(projection)
        _check_range(0, limit)
        ra, dec, _ = to_positions(positions)
        radius_arcsec = to_arcsec(radius)
        name = self._known(catalog)
        if name.endswith("_aux"):
            raise NotFoundError(f"{name} has no positions; search {name.removesuffix('_aux')}", position=name)
        if not len(ra):
            return Result([])
        found = query.cones(self._database, name, ra, dec, radius_arcsec, condition, wanted, limit)
        return Result(found)

    def object(self, object_id: str) -> ArchivedObject:
        """Return all that is known of an object, its light curve merged from all its alerts.

        Raises
        ------
        NotFoundError
            If no alert of such an object is in the archive.
        """
        for catalog in self._database.catalogs():
            with self._database.errors():
                ask = self._database.connection.execute
                rows = ask(
                    f"SELECT document, extras, annotations FROM {quoted(catalog)} WHERE object_id = ? ORDER BY mjd",
                    (object_id,),
                ).fetchall()
                if not rows:
                    continue
                points = ask(
                    f"SELECT list, document, extras FROM {quoted(f'{catalog}:points')} WHERE object_id = ?",
                    (object_id,),
                ).fetchall()
            return ArchivedObject(object_id, catalog, [query.read_document(*row) for row in rows], points)
        raise NotFoundError(f"no alert of an object {object_id!r} is in {self.path}", position=object_id)

    def revisions(self, catalog: str, document_id: str) -> Result:
        """Return the earlier versions of an alert that came again with other content, oldest first."""
        name = self._known(catalog)
        statement = (
            f"SELECT r.document, r.extras, a.annotations FROM {quoted(f'{name}:revisions')} r "
            f"JOIN {quoted(name)} a ON a.id = r.alert WHERE a._id = ? ORDER BY r.received"
        )

        def fetch() -> Iterator[Document]:
            with self._database.errors():
                rows = self._database.connection.execute(statement, (document_id,)).fetchall()
            return (query.read_document(*row) for row in rows)

        return Result(Rows(fetch))

    def packets(self, catalog: str, filter: Mapping[str, Any] | None = None) -> Iterator[bytes]:  # noqa: A002
        """Give the packets of alerts that were kept with ``keep="packet"``, byte for byte.

        Alerts that were kept without their packet are left out, with a warning in the log.
        """
        found = self.find(catalog, filter, projection={"_id": 1})

        def packets() -> Iterator[bytes]:
            missing = 0
            for document in found:
                with self._database.errors():
                    row = self._database.connection.execute(
                        f"SELECT packet FROM {quoted(catalog)} WHERE _id = ?", (document["_id"],)
                    ).fetchone()
                if row is not None and row[0] is not None:
                    yield row[0]
                else:
                    missing += 1
            if missing:
                log.warning(
                    "%s: %d alerts were kept without their packet (ingest with keep='packet')",
                    catalog,
                    missing,
                )

        return packets()

    def catalogs(self) -> list[str]:
        """Return the names of all catalogs."""
        return sorted(name + suffix for name in self._database.catalogs() for suffix in ("", "_aux"))

    def info(self) -> dict[str, Any]:
        """Return what the archive holds.

        Returns
        -------
        dict
            `path`, size in `bytes`, `layout` version, and `catalogs`: for each catalog of alerts the numbers of
            `alerts`, `objects`, `history_points` and `revisions`, and `first_mjd` and `last_mjd` (UTC).
        """
        catalogs = {}
        with self._database.errors():
            for name in self._database.catalogs():
                ask = self._database.connection.execute
                alerts, objects, first, last = ask(
                    f"SELECT count(*), count(DISTINCT object_id), min(mjd), max(mjd) FROM {quoted(name)}"
                ).fetchone()
                catalogs[name] = {
                    "alerts": alerts,
                    "objects": objects,
                    "history_points": ask(f"SELECT count(*) FROM {quoted(f'{name}:points')}").fetchone()[0],
                    "revisions": ask(f"SELECT count(*) FROM {quoted(f'{name}:revisions')}").fetchone()[0],
                    "first_mjd": first,
                    "last_mjd": last,
                }
        size = sum(path.stat().st_size for path in (self.path, Path(f"{self.path}-wal")) if path.exists())
        return {"path": str(self.path), "bytes": size, "layout": VERSION, "catalogs": catalogs}

    # Housekeeping --------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    def close(self) -> None:
        """Close the file."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.path), self._database.read_only)

    def __repr__(self) -> str:
        return f"<EmbeddedArchive {self.path}>"

    def _known(self, catalog: str) -> str:
        known = self._catalogs
        if catalog not in known:  # another program may have made it
            known = self._catalogs = frozenset(self.catalogs())
        if catalog in known:
            return catalog
        import difflib

        close = difflib.get_close_matches(catalog, sorted(known), n=3)
        hint = (
            f"did you mean {' or '.join(close)}?"
            if close
            else f"it has {', '.join(sorted(known)) or 'none yet: ingest alerts first'}"
        )
        raise NotFoundError(f"{self.path} has no catalog {catalog!r}; {hint}", position=catalog)


def _reopen(path: str, read_only: bool) -> EmbeddedArchive:
    return EmbeddedArchive(path, read_only=read_only)


def _check_range(skip: int, limit: int | None) -> None:
    if skip < 0 or (limit is not None and limit < 0):
        raise ConfigurationError(f"skip={skip} and limit={limit} must not be negative")


class _progress_bar:  # noqa: N801 - used like a function
    """Show how many alerts were kept, where standard error is a terminal."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._bar: Any = None

    def __enter__(self) -> Any:
        import sys

        if not self._wanted or not sys.stderr.isatty():
            return lambda count: None  # noqa: ARG005
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn(),
            console=Console(stderr=True),
        )  # fmt: skip
        self._bar.start()
        task = self._bar.add_task("archived", total=None)
        return lambda count: self._bar.advance(task, count)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
