"""Generated from _async.py by tools/make_sync.py: do not edit."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Self

from nuncius._core.operations import Deadline
from nuncius._core.progress import progress_bar
from nuncius.archives.backend import Cones, Find, partial
from nuncius.archives.language import Projection, check_filter, check_sort
from nuncius.archives.results import Result
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from nuncius._core.drivers import Driver
    from nuncius.archives.backend import Backend
    from nuncius.archives.language import Document, ProjectionLike, SortLike

_BAR_FROM = 1000  # positions; fewer are quickly done


class Archive:
    """An archive, made by `nuncius.open_archive`: a file, a Kowalski or BOOM server, MongoDB, or several as one.

    All of them are asked in one language and answer with the same results. Threads and tasks may share one.
    """

    def __init__(self, backend: Backend, driver: Driver, *, timeout_s: float | None = None) -> None:
        self._backend = backend
        self._driver = driver
        self._timeout_s = timeout_s
        self._reopen: Any = None  # how to make it again, for pickle
        self._finalizer = weakref.finalize(self, backend.close)

    # Asking -----------------------------------------------------------------------------------------------------------

    def find(
        self,
        catalog: str,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the word of the query language
        *,
        projection: ProjectionLike = None,
        sort: SortLike = None,
        skip: int = 0,
        limit: int | None = None,
        timeout_s: float | None = None,
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
            Such as ``"-candidate.jd"`` or ``[("candidate.jd", -1)]``; by default in the archive's own order.
        skip, limit : int, optional
            How many to pass over, and the most to give.
        timeout_s : float, optional
            How long it may take. A server is told, so that it doesn't go on with what nobody waits for.

        Returns
        -------
        Result

        Raises
        ------
        NotFoundError
            If there is no such catalog.
        FilterError
            If filter, projection or sort mean nothing; its `position` points at the place.
        LoginError, ForbiddenError, UnreachableError, DeadlineError, ServerError
            What a remote archive answers, or that it doesn't.

        Examples
        --------
        >>> (archive.find("ZTF_alerts", {"candidate.magpsf": {"$lt": 18}})).to_table()  # doctest: +SKIP
        """
        query = self._find(catalog, filter, projection, sort, skip, limit)
        found = self._driver.run(self._backend.find(query, self._deadline(timeout_s)))
        return Result(self._driver.listed(found))

    def find_one(
        self,
        catalog: str,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        *,
        projection: ProjectionLike = None,
        sort: SortLike = None,
        skip: int = 0,
        timeout_s: float | None = None,
    ) -> Document | None:
        """Find one document, or None; see `find`."""
        found = self.find(
            catalog, filter, projection=projection, sort=sort, skip=skip, limit=1, timeout_s=timeout_s
        )
        return next(iter(found), None)

    def count(
        self,
        catalog: str,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        *,
        skip: int = 0,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Count the documents that meet a filter; see `find`."""
        condition = self._checked(filter)
        _check_range(skip, limit)
        deadline = self._deadline(timeout_s)
        return self._driver.run(
            self._backend.count(catalog, condition, deadline, skip=skip, limit=limit)
        )

    def estimated_count(self, catalog: str, *, timeout_s: float | None = None) -> int:
        """Return about how many documents a catalog has, without counting them."""
        return self._driver.run(self._backend.estimated_count(catalog, self._deadline(timeout_s)))

    def distinct(
        self,
        catalog: str,
        field: str,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        *,
        timeout_s: float | None = None,
    ) -> list[Any]:
        """Return the values that a field has, each once; the elements of arrays count one by one.

        Raises
        ------
        NotFoundError, FilterError
            As for `find`.
        """
        if not isinstance(field, str) or not field or field.startswith("$"):
            raise ConfigurationError(f"field={field!r} is no field such as 'candidate.fid'")
        condition, deadline = self._checked(filter), self._deadline(timeout_s)
        return self._driver.run(self._backend.distinct(catalog, field, condition, deadline))

    def aggregate(
        self, catalog: str, pipeline: Sequence[Mapping[str, Any]], *, timeout_s: float | None = None
    ) -> Result:
        """Run a pipeline, in MongoDB's language.

        Parameters
        ----------
        catalog : str
            Whose documents go in.
        pipeline : list of mapping
            Stages that read: ``[{"$match": …}, {"$group": {"_id": "$objectId", "n": {"$sum": 1}}}]``.
        timeout_s : float, optional
            How long it may take.

        Raises
        ------
        ForbiddenError
            If a stage writes or runs code; nothing is sent then.
        FilterError
            If a stage means nothing; its `position` points at the place.
        NotFoundError
            If there is no such catalog.
        """
        from nuncius.archives.language import check_pipeline

        stages = check_pipeline(pipeline)
        found = self._driver.run(self._backend.aggregate(catalog, stages, self._deadline(timeout_s)))
        return Result(self._driver.listed(found))

    def cone_search(
        self,
        catalog: str,
        positions: Any,
        radius: Any,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        projection: ProjectionLike = None,
        limit: int | None = None,
        timeout_s: float | None = None,
        allow_partial: bool = False,
        progress: bool = True,
    ) -> Result:
        """Find the documents around positions.

        Many positions are asked in pieces, several at a time, as large as the archive bears.

        Parameters
        ----------
        catalog : str
            A catalog with positions.
        positions : SkyCoord, Table, (ra, dec), list of (ra, dec), or mapping of name to position
            One or many; numbers are ICRS degrees.
        radius : Quantity or str
            With its unit: ``2 * u.arcsec`` or ``"2 arcsec"``.
        filter, projection : optional
            See `find`.
        limit : int, optional
            The most documents for each position, the nearest first.
        timeout_s : float, optional
            How long all of it may take.
        allow_partial : bool
            Whether positions that failed are listed in the result's `failures`, instead of raising.
        progress : bool
            Whether a bar is shown for many positions, where a person looks.

        Returns
        -------
        Result
            In the order of the positions, then of the distance. Each document has `input_index`, the number of the
            position, and `separation_arcsec`, the exact distance. `Result.by_position` divides them by your own names.

        Raises
        ------
        NotFoundError
            If there is no such catalog.
        FilterError
            If filter or projection mean nothing.
        ConfigurationError
            If positions or radius mean nothing.
        PartialResultError
            If some positions failed; its `result` has the others.
        """
        return self._cones(
            catalog, positions, radius, None, filter, projection, limit, timeout_s, allow_partial, progress
        )

    def near(
        self,
        catalog: str,
        positions: Any,
        max_distance: Any,
        *,
        min_distance: Any = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        projection: ProjectionLike = None,
        limit: int | None = None,
        timeout_s: float | None = None,
        allow_partial: bool = False,
        progress: bool = True,
    ) -> Result:
        """Find the documents nearest to positions, between two distances; see `cone_search`.

        Parameters
        ----------
        catalog, positions, filter, projection, limit, timeout_s, allow_partial, progress
            See `cone_search`.
        max_distance, min_distance : Quantity or str
            With their units; both are inclusive.
        """
        return self._cones(
            catalog, positions, max_distance, min_distance, filter, projection, limit, timeout_s, allow_partial,
            progress,
        )  # fmt: skip

    def region_search(
        self,
        catalog: str,
        region: Any,
        *,
        credible: float | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        projection: ProjectionLike = None,
        sort: SortLike = None,
        skip: int = 0,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Result:
        """Find the documents within a region: a polygon, a coverage map (MOC), or the credible region of a sky map.

        Parameters
        ----------
        catalog : str
            A catalog with positions.
        region : list of (ra, dec), SkyCoord, MOC, path of a FITS file
            The vertices of a polygon, a coverage map, or a sky map such as those of gravitational waves; see
            `nuncius.sky.regions.to_region`.
        credible : float, optional
            Of a sky map: the probability that the region holds, such as 0.9.
        filter, projection, sort, skip, limit, timeout_s : optional
            See `find`.

        Raises
        ------
        NotFoundError, FilterError
            As for `find`.
        ConfigurationError
            If it is no region.
        """
        from nuncius.sky.regions import to_region

        query = self._find(catalog, filter, projection, sort, skip, limit)
        area = to_region(region, credible=credible)
        found = self._driver.run(self._backend.within(area, query, self._deadline(timeout_s)))
        return Result(self._driver.listed(found))

    def crossmatch(
        self,
        left: str,
        right: str,
        radius: Any,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        projection: ProjectionLike = None,
        right_filter: Mapping[str, Any] | None = None,
        right_projection: ProjectionLike = None,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Result:
        """Find, for the documents of one catalog, those of another that are near.

        Parameters
        ----------
        left, right : str
            Two catalogs.
        radius : Quantity or str
            With its unit.
        filter, projection : optional
            Which documents of the left catalog, and which of their fields; see `find`.
        right_filter, right_projection : optional
            The same for the right catalog.
        limit : int, optional
            The most matches for each document; 1 gives the nearest alone.
        timeout_s : float, optional
            How long it may take.

        Returns
        -------
        Result
            The documents of the left catalog that have a match. Each has `matches`: documents of the right catalog with
            `separation_arcsec`, the nearest first. As a table it has a row for each pair.

        Raises
        ------
        NotFoundError, FilterError, ConfigurationError
            As for `cone_search`.

        Examples
        --------
        >>> archive.crossmatch("ZTF_alerts", "Gaia_EDR3", 2 * u.arcsec, limit=1)  # doctest: +SKIP
        """
        import numpy as np

        from nuncius.sky import to_arcsec

        _check_range(0, limit)
        nowhere = np.empty(0)
        cones = Cones(
            right, nowhere, nowhere, to_arcsec(radius), self._checked(right_filter, "right_filter"),
            Projection(right_projection), limit,
        )  # fmt: skip
        query = self._find(left, filter, projection, None, 0, None)
        found = self._driver.run(self._backend.crossmatch(query, cones, self._deadline(timeout_s)))
        return Result(self._driver.listed(found), pairs=True)

    def explain(
        self,
        catalog: str,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        *,
        sort: SortLike = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Say how a question would be answered: which index serves it, and what is compared one by one.

        Raises
        ------
        UnsupportedError
            If this archive doesn't say.
        """
        condition, order = self._checked(filter), check_sort(sort)
        deadline = self._deadline(timeout_s)
        return self._driver.run(self._backend.explain(catalog, condition, order, deadline))

    def catalogs(self, *, timeout_s: float | None = None) -> list[str]:
        """Return the names of all catalogs, sorted."""
        return self._driver.run(self._backend.catalogs(self._deadline(timeout_s), refresh=True))

    def info(self, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Return what the archive holds; `catalogs` has their names, and what is known of each."""
        return self._driver.run(self._backend.info(self._deadline(timeout_s)))

    # Housekeeping -----------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where it is, without any secret."""
        return self._backend.url

    def close(self) -> None:
        """Close files and connections."""
        self._finalizer()
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reopen, ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    def _deadline(self, timeout_s: float | None) -> Deadline:
        if timeout_s is not None and not timeout_s > 0:
            raise ConfigurationError(f"timeout_s={timeout_s} must be more than 0")
        return Deadline(self._timeout_s if timeout_s is None else timeout_s)

    def _checked(self, filter: Mapping[str, Any] | None, place: str = "filter") -> dict[str, Any]:  # noqa: A002
        return check_filter(filter, place, native=self._backend.native_operators)

    def _find(
        self,
        catalog: str,
        filter: Mapping[str, Any] | None,  # noqa: A002
        projection: ProjectionLike,
        sort: SortLike,
        skip: int,
        limit: int | None,
    ) -> Find:
        _check_range(skip, limit)
        return Find(catalog, self._checked(filter), Projection(projection), check_sort(sort), skip, limit)

    def _cones(
        self,
        catalog: str,
        positions: Any,
        radius: Any,
        minimum: Any,
        filter: Mapping[str, Any] | None,  # noqa: A002
        projection: ProjectionLike,
        limit: int | None,
        timeout_s: float | None,
        allow_partial: bool,
        progress: bool,
    ) -> Result:
        from nuncius.sky import named_positions, to_arcsec

        condition, wanted = self._checked(filter), Projection(projection)
        _check_range(0, limit)
        names, ra, dec, _ = named_positions(positions)
        radius_arcsec, minimum_arcsec = to_arcsec(radius), 0.0 if minimum is None else to_arcsec(minimum)
        if minimum_arcsec > radius_arcsec:
            raise ConfigurationError(f"min_distance={minimum} is larger than max_distance={radius}")
        keys = list(range(len(ra))) if names is None else names
        with progress_bar("positions", total=len(ra), wanted=progress and len(ra) >= _BAR_FROM) as advance:
            query = Cones(catalog, ra, dec, radius_arcsec, condition, wanted, limit, minimum_arcsec, advance)
            hits = self._driver.run(self._backend.cones(query, self._deadline(timeout_s)))
        result = Result(hits.documents, keys=keys, failures=hits.failures)
        if hits.failures and not allow_partial:
            error = partial(self._backend, hits.failures, f"the search around {len(ra)} positions")
            error.result = result
            raise error
        return result


def _check_range(skip: int, limit: int | None) -> None:
    for name, value in (("skip", skip), ("limit", limit)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise ConfigurationError(f"{name}={value!r} must be a whole number that is not negative")
