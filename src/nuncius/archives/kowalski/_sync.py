"""Generated from _async.py by tools/make_sync.py: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from nuncius.archives._sync import Archive
from nuncius.archives.kowalski import operations
from nuncius.archives.language import Projection, check_sort
from nuncius.archives.results import Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius.alerts.cutouts import Cutouts
    from nuncius.archives.kowalski.backend import KowalskiBackend
    from nuncius.archives.language import Document, ProjectionLike, SortLike


class KowalskiArchive(Archive):
    """A Kowalski server: an archive, and what only Kowalski has (cutouts, sky maps, users, filters)."""

    _backend: KowalskiBackend

    @property
    def token(self) -> str:
        """The token of this session, for programs that are to use it too; it is a secret.

        Raises
        ------
        LoginError
            If there is no login, or the server refuses it.
        """
        return (self._driver.run(self._backend.server.token(self._deadline(None)))).reveal()

    def ping(self, *, timeout_s: float | None = None) -> bool:
        """Tell whether the server answers and knows who we are.

        Raises
        ------
        LoginError
            If it answers and refuses the login.
        """
        return self._driver.run(operations.ping(self._backend.server, self._deadline(timeout_s)))

    def query(self, query: Mapping[str, Any], *, timeout_s: float | None = None) -> Any:
        """Send a query in Kowalski's own form and return the `data` of the answer.

        Parameters
        ----------
        query : mapping
            With `query_type`, `query` and `kwargs`, as Kowalski's documentation has them.
        timeout_s : float, optional
            How long it may take.

        Raises
        ------
        ForbiddenError
            If it would change something on the server: see `drop`.
        """
        return self._driver.run(
            operations.query(self._backend.server, query, self._deadline(timeout_s))
        )

    def api(
        self,
        method: str,
        endpoint: str,
        data: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Call any address of the server's interface and return its answer.

        Parameters
        ----------
        method : str
            get, post, put, patch or delete.
        endpoint : str
            Such as ``"/api/users"``.
        data : mapping, optional
            The query string of get, else the JSON body.
        timeout_s : float, optional
            How long it may take.

        Raises
        ------
        NunciusError
            As the server's status and message say.
        """
        deadline = self._deadline(timeout_s)
        return self._driver.run(operations.api(self._backend.server, method, endpoint, data, deadline))

    def drop(self, catalog: str, *, allow_write: bool = False, timeout_s: float | None = None) -> None:
        """Delete a whole catalog. The servers let any user do that, so it has to be allowed here.

        Raises
        ------
        ForbiddenError
            Without ``allow_write=True``, or if the server refuses.
        """
        deadline = self._deadline(timeout_s)
        self._driver.run(operations.drop(self._backend, catalog, deadline, allow_write=allow_write))

    def indexes(self, catalog: str, *, timeout_s: float | None = None) -> list[str]:
        """Return the names of a catalog's indexes; a filter on other fields reads every document."""
        return self._driver.run(self._backend.indexes(catalog, self._deadline(timeout_s)))

    def catalog_info(self, catalog: str, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Return the server's statistics of a catalog: documents, bytes, indexes."""
        return self._driver.run(
            operations.catalog_info(self._backend, catalog, self._deadline(timeout_s))
        )

    # Cutouts ----------------------------------------------------------------------------------------------------------

    def cutout(
        self,
        candid: int,
        kind: Literal["science", "template", "difference"] = "science",
        *,
        survey: str = "ztf",
        format: Literal["fits", "png"] = "fits",  # noqa: A002 - Kowalski's word
        interval: Literal["asymmetric_percentile", "min_max", "zscale"] | None = None,
        stretch: Literal["linear", "log", "asinh", "sqrt"] | None = None,
        cmap: Literal["bone", "gray", "cividis", "viridis", "magma"] | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """Return a cutout of an alert as a file, byte for byte.

        Parameters
        ----------
        candid : int
            The alert.
        kind : {"science", "template", "difference"}
            Which image.
        survey : str
            ztf, wntr, pgir or turbo.
        format : {"fits", "png"}
            FITS has the pixels (north up), PNG a picture of them.
        interval, stretch, cmap : str, optional
            How the picture is drawn.
        timeout_s : float, optional
            How long it may take.

        Raises
        ------
        NotFoundError
            If there is no such alert.
        FilterError
            If the server doesn't know one of the words.
        """
        drawn = {"interval": interval, "stretch": stretch, "cmap": cmap}
        return self._driver.run(
            operations.cutout(
                self._backend.server, survey, candid, kind, format, drawn, self._deadline(timeout_s)
            )
        )

    def cutouts(self, candid: int, *, survey: str = "ztf", timeout_s: float | None = None) -> Cutouts:
        """Return the three cutouts of an alert, fetched side by side.

        Raises
        ------
        NotFoundError
            If there is no such alert.
        """
        return self._driver.run(
            operations.cutouts(self._backend.server, survey, candid, self._deadline(timeout_s))
        )

    # Sky maps ---------------------------------------------------------------------------------------------------------

    def add_skymap(
        self, skymap: Mapping[str, Any], *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Give the server a sky map.

        Parameters
        ----------
        skymap : mapping
            `dateobs`, `contours`, `triggerid`, and `skymap` or `voevent`, as Kowalski's documentation has them.
        timeout_s : float, optional
            How long it may take.
        """
        deadline = self._deadline(timeout_s)
        return self._driver.run(operations.add_skymap(self._backend.server, skymap, deadline))

    def skymap(
        self,
        localization_name: str,
        *,
        dateobs: Any = None,
        aliases: list[str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Return a sky map that the server has, with its contours.

        Parameters
        ----------
        localization_name : str
            Its name, such as ``"bayestar.fits.gz,1"``.
        dateobs : datetime, Time or str, optional
            The time of the event.
        aliases : list of str, optional
            Names of the event.
        timeout_s : float, optional
            How long it may take.

        Raises
        ------
        NotFoundError
            If it has none such.
        """
        deadline = self._deadline(timeout_s)
        return self._driver.run(
            operations.skymap(self._backend.server, localization_name, dateobs, aliases, deadline)
        )

    def remove_skymap(
        self,
        localization_name: str,
        *,
        dateobs: Any = None,
        aliases: list[str] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Delete a sky map from the server; see `skymap`."""
        deadline = self._deadline(timeout_s)
        self._driver.run(
            operations.remove_skymap(self._backend.server, localization_name, dateobs, aliases, deadline)
        )

    def skymap_search(
        self,
        catalog: str,
        localization_name: str,
        *,
        dateobs: Any = None,
        aliases: list[str] | None = None,
        contour: int = 90,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        projection: ProjectionLike = None,
        sort: SortLike = None,
        skip: int = 0,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Result:
        """Find the documents within a contour of a sky map that the server has.

        For a sky map of your own, see `region_search`.

        Parameters
        ----------
        catalog : str
            A catalog with positions.
        localization_name, dateobs, aliases
            Which sky map; see `skymap`.
        contour : int
            The contour's probability in per cent.
        filter, projection, sort, skip, limit, timeout_s : optional
            See `find`.

        Raises
        ------
        NotFoundError
            If there is no such catalog, sky map or contour.
        """
        found = self._driver.run(
            operations.skymap_search(
                self._backend, catalog, localization_name, dateobs, aliases, contour, self._checked(filter),
                Projection(projection), check_sort(sort), skip, limit, self._deadline(timeout_s),
            )
        )  # fmt: skip
        return Result(found)

    # Users and filters, for administrators ----------------------------------------------------------------------------

    def add_user(
        self,
        username: str,
        password: str,
        *,
        email: str | None = None,
        permissions: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Add a user to the server.

        Raises
        ------
        ForbiddenError
            If we are no administrator.
        """
        data = {"username": username, "password": password, "email": email, "permissions": permissions}
        self.api("post", "/api/users", _given(data), timeout_s=timeout_s)

    def edit_user(
        self,
        username: str,
        *,
        new_username: str | None = None,
        password: str | None = None,
        email: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Change a user's name, password or address."""
        data = _given({"username": new_username, "password": password, "email": email})
        self.api("put", f"/api/users/{operations.part(username)}", data, timeout_s=timeout_s)

    def remove_user(self, username: str, *, timeout_s: float | None = None) -> None:
        """Remove a user from the server."""
        self.api("delete", f"/api/users/{operations.part(username)}", timeout_s=timeout_s)

    def filter(self, filter_id: int, *, timeout_s: float | None = None) -> Document:
        """Return an alert filter that the server runs.

        Raises
        ------
        NotFoundError
            If there is none of that number.
        """
        answer = self.api("get", f"/api/filters/{int(filter_id)}", timeout_s=timeout_s)
        data: Document = answer.get("data", {})
        return data

    def add_filter(self, filter: Mapping[str, Any], *, timeout_s: float | None = None) -> Document:  # noqa: A002
        """Give the server an alert filter, or a new version of one.

        Parameters
        ----------
        filter : mapping
            `group_id`, `filter_id`, `catalog`, `permissions`, `pipeline` and what else Kowalski's documentation names.
        timeout_s : float, optional
            How long it may take.
        """
        answer = self.api("post", "/api/filters", filter, timeout_s=timeout_s)
        data: Document = answer.get("data", {})
        return data

    def edit_filter(
        self, filter_id: int, changes: Mapping[str, Any], *, timeout_s: float | None = None
    ) -> Document:
        """Change an alert filter: its active version, whether it saves by itself."""
        data = {**changes, "filter_id": int(filter_id)}
        answer = self.api("patch", "/api/filters", data, timeout_s=timeout_s)
        changed: Document = answer.get("data", {})
        return changed

    def remove_filter(self, filter_id: int, *, timeout_s: float | None = None) -> None:
        """Delete an alert filter."""
        self.api("delete", f"/api/filters/{int(filter_id)}", timeout_s=timeout_s)

    def test_filter(
        self, filter_id: int, options: Mapping[str, Any], *, timeout_s: float | None = None
    ) -> Any:
        """Run an alert filter on alerts of the past.

        Parameters
        ----------
        filter_id : int
            Which.
        options : mapping
            `object_ids`, or `start_date` and `end_date`; `filter_version`, `max_time_ms`.
        timeout_s : float, optional
            How long it may take.
        """
        answer = self.api("post", f"/api/filters/{int(filter_id)}/test", options, timeout_s=timeout_s)
        return answer.get("data")


def _given(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value is not None}
