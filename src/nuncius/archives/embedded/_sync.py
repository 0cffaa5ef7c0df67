"""Generated from _async.py by tools/make_sync.py: do not edit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nuncius._core.operations import calling
from nuncius._core.progress import progress_bar
from nuncius.archives._sync import Archive
from nuncius.archives.embedded import care, ingest, query
from nuncius.archives.embedded.objects import read_object
from nuncius.archives.embedded.reports import IngestReport
from nuncius.archives.results import Result
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from nuncius.alerts import Alert
    from nuncius.alerts.sink import AnyAlertSource
    from nuncius.archives.documents import Keep
    from nuncius.archives.embedded.backend import EmbeddedBackend
    from nuncius.archives.embedded.database import Database
    from nuncius.archives.embedded.ingest import ArchiveSink
    from nuncius.archives.embedded.objects import ArchivedObject
    from nuncius.archives.embedded.reports import ExportReport, LoadReport

_KEEPS = ("document", "packet", "measurements")


class EmbeddedArchive(Archive):
    """An archive of alerts and catalogs in one SQLite file.

    One program writes at a time; any number read meanwhile. Threads and tasks may share it.
    """

    _backend: EmbeddedBackend

    @property
    def _database(self) -> Database:
        return self._backend.database

    # Keeping ----------------------------------------------------------------------------------------------------------

    def ingest(
        self,
        alerts: AnyAlertSource | Iterable[Alert],
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

        Notes
        -----
        While a `find` that this thread began is not at its end, the thread sees the archive as it was at that beginning,
        without what is kept meanwhile. Make a list of what it gives, or close it, before you count what was kept.
        """
        keep = _checked(keep)
        report = IngestReport()
        begin = time.monotonic()
        batches = ingest.Batches(alerts)
        keeper = ingest.Keeper(self._database, keep, cutouts=cutouts, report=report, durable=batches.finish)
        with progress_bar("archived", wanted=progress) as advance:
            try:
                for batch in batches:
                    self._driver.run(calling(keeper.write, batch))
                    advance(len(batch))
            finally:  # whatever happens, nothing goes on behind the caller's back
                try:
                    self._driver.run(calling(keeper.end))
                finally:
                    batches.give_back()
        report.seconds = time.monotonic() - begin
        return report

    def sink(self, *, keep: Keep = "document", cutouts: bool = True) -> ArchiveSink:
        """Return the archive as one of several places in which `Stream.save` keeps alerts.

        Parameters
        ----------
        keep, cutouts
            As for `ingest`.

        Returns
        -------
        ArchiveSink
            Its `report` tells what was kept.
        """
        return ingest.ArchiveSink(self._database, _checked(keep), cutouts=cutouts)

    def load_catalog(
        self,
        name: str,
        table_or_path: Any,
        *,
        ra: str | None = None,
        dec: str | None = None,
        columns: Sequence[str] | None = None,
        replace: bool = False,
        progress: bool = True,
    ) -> LoadReport:
        """Load a reference catalogue, to be asked and cross-matched like any other catalog.

        Parameters
        ----------
        name : str
            What the catalog is to be called, such as ``"Gaia_EDR3"``.
        table_or_path : Table, DataFrame, str or Path
            A table, or a file: CSV (also gzipped), FITS, Parquet or VOTable. Large files are read in chunks.
        ra, dec : str, optional
            The columns with the position (ICRS; degrees unless the column has a unit); guessed where it is plain.
        columns : list of str, optional
            Which columns are kept; all by default.
        replace : bool
            Whether a reference catalog of that name may be replaced.
        progress : bool
            Whether a bar is shown, where a person looks.

        Returns
        -------
        LoadReport

        Raises
        ------
        ConfigurationError
            If the table or the columns can't be used, or the name is taken.
        StorageError
            If the archive can't be written; nothing of the catalog is there then.
        """
        from nuncius.archives.embedded.load import load_catalog

        with progress_bar("rows loaded", wanted=progress) as advance:
            return self._driver.run(
                calling(
                    load_catalog, self._database, name, table_or_path, ra, dec,
                    columns=columns, replace=replace, advance=advance,
                )
            )  # fmt: skip

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
        return self._driver.run(calling(care.prune, self._database, older_than))

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
        return self._driver.run(calling(care.backup, self._database, path))

    def export(
        self, path: str | Path, *, catalogs: Sequence[str] | None = None, progress: bool = True
    ) -> ExportReport:
        """Write catalogs as Parquet files, divided by place on the sky, so that lsdb, Dask and others read them.

        Parameters
        ----------
        path : str or Path
            A folder that doesn't exist yet; each catalog becomes a HATS catalog in it.
        catalogs : list of str, optional
            Which; all that have positions by default.
        progress : bool
            Whether a bar is shown, where a person looks.

        Raises
        ------
        MissingExtraError
            If pyarrow is not installed.
        StorageError
            If the folder exists or can't be written.
        """
        from nuncius.archives.embedded.export import export

        with progress_bar("documents exported", wanted=progress) as advance:
            return self._driver.run(
                calling(export, self._database, path, catalogs=catalogs, advance=advance)
            )

    def create_index(self, catalog: str, field: str) -> None:
        """Make an index, so that filters and sort orders on a field need not read every document.

        Parameters
        ----------
        catalog : str
            Which catalog.
        field : str
            Such as ``"candidate.drb"``.
        """
        name = self._known(catalog)
        self._driver.run(calling(query.create_index, self._database, name, field))

    def drop_index(self, catalog: str, field: str) -> None:
        """Remove an index that `create_index` made."""
        name = self._known(catalog)
        self._driver.run(calling(query.drop_index, self._database, name, field))

    def indexes(self, catalog: str) -> list[str]:
        """Return the fields of a catalog that have an index."""
        name = self._known(catalog)
        return self._driver.run(calling(query.indexes, self._database, name))

    # Asking for what only an archive of alerts has --------------------------------------------------------------------

    def object(self, object_id: str) -> ArchivedObject:
        """Return all that is known of an object, its light curve merged from all its alerts.

        Raises
        ------
        NotFoundError
            If no alert of such an object is in the archive.
        """
        return self._driver.run(calling(read_object, self._database, object_id))

    def revisions(self, catalog: str, document_id: str) -> Result:
        """Return the earlier versions of an alert that came again with other content, oldest first."""
        name = self._known(catalog)
        return Result(self._driver.run(calling(care.revisions, self._database, name, document_id)))

    def packets(self, catalog: str, filter: Mapping[str, Any] | None = None) -> Iterable[bytes]:  # noqa: A002
        """Give the packets of alerts that were kept with ``keep="packet"``, byte for byte.

        Alerts that were kept without their packet are left out, with a warning in the log.
        """
        condition, name = self._checked(filter), self._known(catalog)
        return self._driver.listed(care.packets(self._database, name, condition))

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    def _known(self, catalog: str) -> str:
        return self._driver.run(self._backend.known(catalog, self._deadline(None)))


def _checked(keep: Keep) -> Keep:
    if keep not in _KEEPS:
        raise ConfigurationError(f"keep={keep!r} is not known; choose one of {', '.join(map(repr, _KEEPS))}")
    return keep
