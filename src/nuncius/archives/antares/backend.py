"""ANTARES as a back end: our questions in its words, and its loci as documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Gather
from nuncius.archives.antares.filters import clauses_of, search_of
from nuncius.archives.antares.operations import locus
from nuncius.archives.antares.service import NEWEST, SERVICE, AntaresService, LocusListing, around
from nuncius.archives.paged.listing import ListingBackend
from nuncius.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nuncius._core.operations import Deadline, Operation
    from nuncius.archives.language import Document
    from nuncius.archives.paged.tiles import Circle

CATALOG = "ANTARES_loci"
_LARGEST_DEGREES = 1.0  # the server takes no larger cone


class AntaresBackend(ListingBackend):
    """One ANTARES server.

    Parameters
    ----------
    url : str
        See `AntaresService`.
    timeout_s : float
        For one request.

    Raises
    ------
    ConfigurationError
        If the URL is none, or has a password in it.
    """

    service = SERVICE
    title = "ANTARES"
    catalog = CATALOG
    names = ("_id", "locus_id")
    largest_radius_arcsec = _LARGEST_DEGREES * 3600

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        self.server = AntaresService(url, timeout_s=timeout_s)
        self.url = f"{SERVICE}+{self.server.base}"

    def listing(
        self, condition: Mapping[str, Any], order: Sequence[tuple[str, int]], circle: Circle | None, size: int
    ) -> LocusListing:
        """Begin a listing of the loci that may meet a condition."""
        clauses = clauses_of(condition)
        search = search_of(clauses if circle is None else [around(circle), *clauses])
        return LocusListing(self.server, search, sort=NEWEST, size=size)

    def serves(self, order: Sequence[tuple[str, int]]) -> bool:
        """Tell whether the server sorts so: by the time of the newest alert, downward."""
        return list(order) == [(NEWEST.removeprefix("-"), -1)]

    def asked(self, condition: Mapping[str, Any]) -> Any:
        """Return the search that the server gets for a filter."""
        return search_of(clauses_of(condition))

    def info(self, deadline: Deadline) -> Operation[dict[str, Any]]:
        """Return what the archive holds: how many loci have which tag, and which match in a catalogue."""
        found = yield from super().info(deadline)
        statistics = yield from self.server.ask_one("loci/statistics", deadline, "statistics")
        return {**found, "statistics": statistics}

    def _read(self, condition: Mapping[str, Any], deadline: Deadline, *args: Any, **options: Any) -> Any:
        """Read documents that meet a condition; those that it names by their id are asked for one by one."""
        names = self.named(condition)
        if names is None or options.get("circle") is not None:
            return (yield from super()._read(condition, deadline, *args, **options))
        from nuncius.archives.language import matches

        outcomes = yield Gather(
            [locus(self.server, name, deadline) for name in names], limit=self.side_by_side
        )
        documents: list[Document] = []
        for outcome in outcomes:
            if isinstance(outcome.error, NotFoundError):
                continue
            document = outcome.result()
            for extra in ("id", "internal_properties", "user_properties", "lightcurve"):
                document.pop(extra, None)  # as in a listing
            documents.append(document)
        return [document for document in documents if matches(document, condition)]
