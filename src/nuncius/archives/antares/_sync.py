"""Generated from _async.py by tools/make_sync.py: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius._core.pages import Pages
from nuncius.archives._sync import Archive, _check_range
from nuncius.archives.antares import operations
from nuncius.archives.antares.service import NEWEST
from nuncius.archives.paged.listing import Walk
from nuncius.archives.results import Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.table import Table

    from nuncius.alerts.cutouts import Cutouts
    from nuncius.archives.antares.backend import AntaresBackend
    from nuncius.archives.language import Document


class AntaresArchive(Archive):
    """An ANTARES server: an archive with the catalog ``ANTARES_loci``, and what only ANTARES has.

    A locus is a place on the sky with alerts; it comes as a document with `_id` (its name), `ra`, `dec`, `properties`,
    `tags`, `catalogs` and `grav_wave_events`. ANTARES wants no login.
    """

    _backend: AntaresBackend

    # Loci -------------------------------------------------------------------------------------------------------------

    def search(
        self,
        query: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
        page_size: int = 100,
        sort: str = NEWEST,
        timeout_s: float | None = None,
    ) -> Pages[Document]:
        """Search loci with a query in Elasticsearch's own words.

        The next page is fetched while you work on one. A locus that moves to another page meanwhile comes once.

        Parameters
        ----------
        query : mapping, optional
            Such as ``{"query": {"bool": {"filter": [{"term": {"tags": "nuclear_transient"}}]}}}``; all loci by default.
            It is sent as it is: what comes is what the server takes it to mean. For a filter that is decided here,
            see `find`.
        limit : int, optional
            The most loci; all by default.
        page_size : int
            How many are asked for at a time.
        sort : str
            By what the server sorts, with a minus downward; the newest alert first by default.
        timeout_s : float, optional
            How long each page may take.

        Returns
        -------
        iterator of dict
            Nothing is asked before the first one is wanted.

        Raises
        ------
        FilterError
            If the server does not understand the query, or it has other keys than ``query``.

        Examples
        --------
        >>> nuclear = {"query": {"bool": {"filter": [{"term": {"tags": "nuclear_transient"}}]}}}
        >>> names = [locus["_id"] for locus in archive.search(nuclear, limit=20)]  # doctest: +SKIP
        """
        _check_range(0, limit)
        self._deadline(timeout_s)  # what is wrong with it is said now
        size = page_size if not limit or not isinstance(page_size, int) else min(page_size, limit)
        walk = Walk(operations.listing(self._backend.server, query, sort=sort, size=size), limit)
        return Pages(self._driver, walk, lambda: self._deadline(timeout_s))

    def locus(self, locus_id: str, *, timeout_s: float | None = None) -> Document:
        """Return a locus by its name, with all that ANTARES has in one piece; `lightcurve` is a table as text.

        Raises
        ------
        NotFoundError
            If there is none of that name.
        """
        deadline = self._deadline(timeout_s)
        return self._driver.run(operations.locus(self._backend.server, locus_id, deadline))

    def loci(
        self, ids: Sequence[str], *, allow_partial: bool = False, timeout_s: float | None = None
    ) -> Result:
        """Return many loci by their names, fetched side by side, in the order asked.

        Parameters
        ----------
        ids : list of str
            Their names.
        allow_partial : bool
            Whether those that did not come are listed in the result's `failures`, instead of raising.
        timeout_s : float, optional
            How long all of it may take.

        Raises
        ------
        PartialResultError
            If some did not come; its `result` has the others, and the message names them.
        """
        names = [ids] if isinstance(ids, str) else list(ids)
        deadline = self._deadline(timeout_s)
        found, failures = self._driver.run(operations.loci(self._backend.server, names, deadline))
        result = Result(found, failures=failures)
        if failures and not allow_partial:
            error = operations.incomplete(self._backend.server, names, failures)
            error.result = result
            raise error
        return result

    def locus_by_ztf_id(self, ztf_object_id: str, *, timeout_s: float | None = None) -> Document:
        """Return the locus of an object of ZTF, such as ``"ZTF20aafqubg"``; as `find` has it, in one request.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        return self._locus_by(operations.ZTF_ID, ztf_object_id, timeout_s)

    def locus_by_lsst_id(self, dia_object_id: int | str, *, timeout_s: float | None = None) -> Document:
        """Return the locus of an object of LSST by its `diaObjectId`; see `locus_by_ztf_id`."""
        return self._locus_by(operations.LSST_ID, dia_object_id, timeout_s)

    def locus_by_lsst_ss_id(
        self, ss_object_id: int | str, *, timeout_s: float | None = None
    ) -> Document:
        """Return the locus of a solar-system object of LSST by its `ssObjectId`; see `locus_by_ztf_id`."""
        return self._locus_by(operations.LSST_SOLAR_SYSTEM_ID, ss_object_id, timeout_s)

    # What belongs to a locus ------------------------------------------------------------------------------------------

    def alerts(self, locus_id: str, *, timeout_s: float | None = None) -> Result:
        """Return the alerts of a locus, and the upper limits, with the properties that ANTARES keeps of them.

        Raises
        ------
        NotFoundError
            If there is no such locus.
        """
        deadline = self._deadline(timeout_s)
        return Result(self._driver.run(operations.alerts(self._backend.server, locus_id, deadline)))

    def light_curve(self, locus_id: str, *, timeout_s: float | None = None) -> Table:
        """Return the light curve of a locus, one row an alert, with all the columns that ANTARES gives.

        What is missing is masked. The columns are ANTARES' own, without units.

        Raises
        ------
        NotFoundError
            If there is no such locus.
        """
        deadline = self._deadline(timeout_s)
        return self._driver.run(operations.light_curve(self._backend.server, locus_id, deadline))

    def catalog_matches(self, locus_id: str, *, timeout_s: float | None = None) -> Result:
        """Return the objects of catalogues that ANTARES has found at a locus.

        Raises
        ------
        NotFoundError
            If there is no such locus.
        """
        deadline = self._deadline(timeout_s)
        found = self._driver.run(operations.catalog_matches(self._backend.server, locus_id, deadline))
        return Result(found)

    def thumbnails(self, alert_id: int | str, *, timeout_s: float | None = None) -> Cutouts:
        """Return the images of an alert, fetched side by side; each has the name of its file.

        Raises
        ------
        NotFoundError
            If there is no such alert, or it has no images.
        """
        deadline = self._deadline(timeout_s)
        return self._driver.run(operations.thumbnails(self._backend.server, alert_id, deadline))

    # Catalogues, tags, gravitational waves ----------------------------------------------------------------------------

    def catalog_search(self, position: Any, *, timeout_s: float | None = None) -> Result:
        """Return the objects of the catalogues that ANTARES knows at a position.

        Parameters
        ----------
        position : SkyCoord, (ra, dec) or str
            One position; numbers are ICRS degrees. How near an object must be is for each catalogue to say.
        timeout_s : float, optional
            How long it may take.
        """
        deadline = self._deadline(timeout_s)
        return Result(
            self._driver.run(operations.catalog_search(self._backend.server, position, deadline))
        )

    def catalog_samples(self, n: int = 5, *, timeout_s: float | None = None) -> Result:
        """Return `n` objects (1 to 50) of each catalogue, to see what its fields are called."""
        deadline = self._deadline(timeout_s)
        return Result(self._driver.run(operations.catalog_samples(self._backend.server, n, deadline)))

    def statistics(self, *, timeout_s: float | None = None) -> Document:
        """Return how many loci have which tag and match in which catalogue."""
        deadline = self._deadline(timeout_s)
        return self._driver.run(self._backend.server.ask_one("loci/statistics", deadline, "statistics"))

    def tags(self, *, timeout_s: float | None = None) -> list[str]:
        """Return the names of all tags, sorted."""
        return sorted((self.statistics(timeout_s=timeout_s)).get("tags") or ())

    def grav_wave_notice(
        self, gracedb_id: str, time: Any = None, *, timeout_s: float | None = None
    ) -> Document:
        """Return a notice of a gravitational wave; `skymap` is the sky map as bytes of a FITS file, or None.

        Parameters
        ----------
        gracedb_id : str
            The event, such as ``"S230518h"``.
        time : datetime, Time or str, optional
            Which notice, by its `notice_datetime`; the latest by default.
        timeout_s : float, optional
            How long it may take.

        Raises
        ------
        NotFoundError
            If there is none.

        Examples
        --------
        >>> notice = archive.grav_wave_notice("S230518h")  # doctest: +SKIP
        >>> archive.region_search("ANTARES_loci", notice["skymap"], credible=0.5)  # doctest: +SKIP
        """
        deadline = self._deadline(timeout_s)
        return self._driver.run(
            operations.grav_wave_notice(self._backend.server, gracedb_id, time, deadline)
        )

    def grav_wave_notices(self, ids: Sequence[str], *, timeout_s: float | None = None) -> Result:
        """Return the latest notices of several events, in the order asked; see `grav_wave_notice`.

        Raises
        ------
        NotFoundError
            If there is none of an event; the message names all of them.
        """
        names = [ids] if isinstance(ids, str) else list(ids)
        deadline = self._deadline(timeout_s)
        return Result(
            self._driver.run(operations.grav_wave_notices(self._backend.server, names, deadline))
        )

    def _locus_by(self, path: str, value: Any, timeout_s: float | None) -> Document:
        deadline = self._deadline(timeout_s)
        return self._driver.run(operations.locus_by(self._backend.server, path, value, deadline))
