"""Archives that give their documents page by page, and know less of the query language than we do.

A filter is sent as far as the server understands it, and decided again here: what is sent must hold for every document
that meets the filter, so that none is lost, and what comes too much is dropped. What the server can't do at all is done
here with the documents that it gives, up to a bound: beyond it the question is refused and never answered in part.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Call, Gather
from nuncius.archives.backend import Backend, Find, settled
from nuncius.archives.paged.conditions import equalities
from nuncius.archives.paged.tiles import Circle, tiles_of_cone, tiles_of_region
from nuncius.archives.wanted import POSITION, Wanted, position_of
from nuncius.errors import ServerError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from nuncius._core.operations import Deadline, Operation
    from nuncius.archives.backend import Cones
    from nuncius.archives.language import Document
    from nuncius.sky.regions import Region

    Order = Sequence[tuple[str, int]]

_FEWEST = 25  # documents on a page, where some may be dropped here
_TILES_AT_ONCE = 4
_MOST_TILES = 1500


class Listing:
    """The documents of one question, page by page. It may be read once."""

    over: bool = False

    def page(self, deadline: Deadline) -> Operation[list[Document]]:
        """Return the documents of the next page, and set `over` if it was the last one."""
        raise NotImplementedError

    def key(self, document: Document) -> Hashable:
        """Return what tells documents apart: a page may repeat what moved while it was asked for."""
        return document.get("_id")


class Walk:
    """A listing without repetitions, up to a number of documents.

    Parameters
    ----------
    listing : Listing
        What is read.
    limit : int, optional
        The most documents; the last page is cut.
    """

    def __init__(self, listing: Listing, limit: int | None = None) -> None:
        self._listing = listing
        self._left = limit
        self._seen: set[Hashable] = set()

    @property
    def over(self) -> bool:
        """Whether there is nothing more to ask for."""
        return self._listing.over or (self._left is not None and self._left <= 0)

    def page(self, deadline: Deadline) -> Operation[list[Document]]:
        """Return the new documents of the next page."""
        if self.over:
            return []
        documents: list[Document] = []
        for document in (yield from self._listing.page(deadline)):
            key = self._listing.key(document)
            if key not in self._seen:
                self._seen.add(key)
                documents.append(document)
        if self._left is not None:
            documents = documents[: self._left]
            self._left -= len(documents)
        return documents


class ListingBackend(Backend):
    """An archive with one catalog that is listed page by page."""

    catalog: str
    title: str
    most_read = 100_000
    """How many documents may be read to answer one question."""

    largest_page = 100
    largest_radius_arcsec: float | None = None
    """The largest cone that the server takes; larger ones are divided."""

    ordered_pages: int | None = None
    """How many pages of a listing are in the order asked; None is all of them."""

    names: tuple[str, ...] = ("_id",)
    """The fields that hold the name of a document."""

    chunk_positions = (1, 1)  # a request is for one cone
    side_by_side = 8

    @abstractmethod
    def listing(
        self, condition: Mapping[str, Any], order: Order, circle: Circle | None, size: int
    ) -> Listing:
        """Begin a listing of the documents that may meet a condition, in the order if that is one of the server's."""

    @abstractmethod
    def serves(self, order: Order) -> bool:
        """Tell whether the server sorts so."""

    @abstractmethod
    def asked(self, condition: Mapping[str, Any]) -> Any:
        """Return what the server is told of a filter."""

    # Asking -----------------------------------------------------------------------------------------------------------

    def catalogs(self, deadline: Deadline, *, refresh: bool = False) -> Operation[list[str]]:
        """Return the name of the one catalog."""
        return [self.catalog]
        yield  # it is an operation, as those of other archives are

    def find(self, query: Find, deadline: Deadline) -> Operation[list[Document]]:
        """Find documents."""
        yield from self.known(query.catalog, deadline)
        if query.limit == 0:
            return []
        documents = yield from self._found(query, deadline)
        return [query.projection.apply(document) for document in documents]

    def count(
        self,
        catalog: str,
        condition: Mapping[str, Any],
        deadline: Deadline,
        *,
        skip: int = 0,
        limit: int | None = None,
    ) -> Operation[int]:
        """Count documents, by reading them: the server counts none."""
        yield from self.known(catalog, deadline)
        end = None if limit is None else skip + limit
        number = len((yield from self._read(condition, deadline, end=end)))
        return max(0, (number if end is None else min(number, end)) - skip)

    def estimated_count(self, catalog: str, deadline: Deadline) -> Operation[int]:
        """Refuse: the server doesn't say how many there are."""
        yield from self.known(catalog, deadline)
        raise self._unsupported(
            f"{self.title} does not say how many documents it has; count what meets a filter"
        )

    def aggregate(
        self, catalog: str, pipeline: Sequence[Mapping[str, Any]], deadline: Deadline
    ) -> Operation[list[Document]]:
        """Run a checked pipeline here, on the documents that meet the filter at its beginning."""
        from nuncius.archives.embedded.aggregate import leading
        from nuncius.archives.language import Projection, collections_of, run_pipeline

        yield from self.known(catalog, deadline)
        if collections_of(pipeline):
            raise self._unsupported(f"{self.title} has one catalog, so a pipeline can't join it with others")
        condition, rest = leading(pipeline)
        bounds: dict[str, Any] = {"$sort": {}, "$skip": 0, "$limit": None}
        for name in bounds:
            if rest and name in rest[0]:
                bounds[name] = rest.pop(0)[name]
        order = list(bounds["$sort"].items())
        query = Find(catalog, condition, Projection(None), order, bounds["$skip"], bounds["$limit"])
        documents = yield from self._found(query, deadline)
        result: list[Document] = yield Call(lambda: list(run_pipeline(documents, rest)))
        return result

    def cone_chunk(self, query: Cones, deadline: Deadline) -> Operation[list[Document]]:
        """Find documents around some positions, one request or more for each."""
        from nuncius.archives.language import Projection

        yield from self.known(query.catalog, deadline)
        wanted = Wanted(query.projection, [POSITION])
        projection = Projection(wanted.fields)
        groups = []
        for ra, dec in zip(query.ra.tolist(), query.dec.tolist(), strict=True):
            found = yield from self._around(Circle(ra, dec, query.radius_arcsec), query.condition, deadline)
            groups.append([projection.apply(document) for document in found])
        return settled(query, groups, wanted)

    def within(self, region: Region, query: Find, deadline: Deadline) -> Operation[list[Document]]:
        """Find documents within a region: those in the cones that cover it, and of them those inside."""
        import numpy as np

        from nuncius.archives.language import sort_documents

        yield from self.known(query.catalog, deadline)
        tiles = tiles_of_region(region, self.largest_radius_arcsec)
        self._check_tiles(tiles, "a region of that size")
        found = yield from self._tiled(tiles, query.condition, deadline, limit=self.side_by_side)
        places = np.array([position_of(document) for document in found], dtype=float).reshape(-1, 2)
        documents = [found[number] for number in np.flatnonzero(region.contains(*places.T)).tolist()]
        end = None if query.limit is None else query.skip + query.limit
        ordered = sort_documents(documents, query.order)[query.skip : end]
        return [query.projection.apply(document) for document in ordered]

    def info(self, deadline: Deadline) -> Operation[dict[str, Any]]:
        """Return what the archive holds."""
        return {"url": self.url, "service": self.service, "catalogs": {self.catalog: {}}}
        yield  # it is an operation, as those of other archives are

    def explain(
        self, catalog: str, condition: Mapping[str, Any], order: list[tuple[str, int]], deadline: Deadline
    ) -> Operation[dict[str, Any]]:
        """Say what the server is asked; all of the filter is decided here again."""
        yield from self.known(catalog, deadline)
        sorts = "server" if order and self.serves(order) else "here" if order else "nobody"
        return {"asked": self.asked(condition), "filter": dict(condition), "sorted by": sorts}

    def close(self) -> None:
        """Nothing is held: the connections are the driver's."""

    # Reading ----------------------------------------------------------------------------------------------------------

    def named(self, condition: Mapping[str, Any]) -> list[str] | None:
        """Return the names of the documents that may meet a checked filter, each once; None if it may be any."""
        found = (equalities(condition, name) for name in self.names)
        names = next((values for values in found if values is not None), None)
        return None if names is None else list(dict.fromkeys(name for name in names if isinstance(name, str)))

    def _found(self, query: Find, deadline: Deadline) -> Operation[list[Document]]:
        from nuncius.archives.language import near_of, sort_documents

        if near_of(query.condition) is not None:
            raise self._unsupported(
                f"{self.title} is not sorted by distance in a filter; use near or cone_search"
            )
        end = None if query.limit is None else query.skip + query.limit
        if end is not None and self.named(query.condition) is None and self.serves(query.order):
            pages = self.ordered_pages
            documents = yield from self._read(query.condition, deadline, query.order, end=end, pages=pages)
            # Its idea of the order is not trusted.
            enough = len(documents) == end or pages is None
            if enough and sort_documents(documents, query.order) == documents:
                return documents[query.skip : end]
        documents = yield from self._read(query.condition, deadline, end=None if query.order else end)
        return sort_documents(documents, query.order)[query.skip : end]

    def _read(
        self,
        condition: Mapping[str, Any],
        deadline: Deadline,
        order: Order = (),
        circle: Circle | None = None,
        *,
        end: int | None = None,
        pages: int | None = None,
    ) -> Operation[list[Document]]:
        """Read documents that meet a condition, until there are enough."""
        from nuncius.archives.language import matches

        size = (
            self.largest_page
            if end is None
            else min(self.largest_page, max(end, _FEWEST if condition else 1))
        )
        walk = Walk(self.listing(condition, order, circle, size))
        documents: list[Document] = []
        number = read = 0
        while not walk.over and (end is None or len(documents) < end) and (pages is None or number < pages):
            if read >= self.most_read:
                raise self._unsupported(
                    f"{self.url}: more than {self.most_read} documents would have to be read to answer this, because the "
                    f"server was told no more of the filter than {self.asked(condition)}. Narrow the filter, or give a "
                    "limit without a sort"
                )
            page = yield from walk.page(deadline)
            number, read = number + 1, read + len(page)
            documents += [document for document in page if matches(document, condition)]
        return documents[:end]

    def _around(
        self, circle: Circle, condition: Mapping[str, Any], deadline: Deadline
    ) -> Operation[list[Document]]:
        """Return the documents in a cone of any size, and some outside its rim; each once."""
        largest = self.largest_radius_arcsec
        wide = circle.widened
        if largest is None or circle.radius_arcsec <= largest:
            radius = wide.radius_arcsec if largest is None else min(wide.radius_arcsec, largest)
            return (yield from self._inside(Circle(circle.ra, circle.dec, radius), condition, deadline))
        tiles = tiles_of_cone(wide, largest)
        self._check_tiles(tiles, f"a cone of {circle.radius_arcsec / 3600:g} deg")
        return (yield from self._tiled(tiles, condition, deadline, limit=_TILES_AT_ONCE))

    def _tiled(
        self, tiles: Sequence[Circle], condition: Mapping[str, Any], deadline: Deadline, *, limit: int
    ) -> Operation[list[Document]]:
        """Return the documents in any of several cones, each once."""
        outcomes = yield Gather([self._inside(tile, condition, deadline) for tile in tiles], limit=limit)
        key = self.listing(condition, (), None, 1).key
        return list(
            {key(document): document for outcome in outcomes for document in outcome.result()}.values()
        )

    def _check_tiles(self, tiles: Sequence[Circle], what: str) -> None:
        if len(tiles) > _MOST_TILES:
            assert self.largest_radius_arcsec is not None
            raise self._unsupported(
                f"{self.title} takes cones of at most {self.largest_radius_arcsec / 3600:g} deg; {what} would be "
                f"{len(tiles)} questions. Ask for a smaller one, or for what meets a filter"
            )

    def _inside(
        self, circle: Circle, condition: Mapping[str, Any], deadline: Deadline
    ) -> Operation[list[Document]]:
        """Return the documents in a cone that the server takes.

        Raises
        ------
        ServerError
            If one has no position, or a place far outside: the answer is then not that to the question.
        """
        import numpy as np

        from nuncius.sky import separation_arcsec

        documents = yield from self._read(condition, deadline, circle=circle)
        places = [position_of(document) for document in documents]
        if None in places:
            raise ServerError(
                f"{self.url}: a document near a position came without its own", service=self.service
            )
        ra, dec = np.array(places, dtype=float).reshape(-1, 2).T
        far = separation_arcsec(circle.ra, circle.dec, ra, dec)
        if (far > 2 * circle.radius_arcsec + 10).any():
            raise ServerError(
                f"{self.url}: a document came that is {far.max():.4g} arcsec away from where it was asked for, and "
                f"{circle.radius_arcsec:.4g} were asked for: the answer is not that to the question",
                service=self.service,
                url=self.url,
            )
        return documents

    def _unsupported(self, message: str) -> UnsupportedError:
        return UnsupportedError(message, service=self.service, url=self.url)


def place(ra: Any, dec: Any) -> dict[str, Any]:
    """Return the field `coordinates` of a document at a position (ICRS degrees), as Kowalski has it.

    Empty where the two are no position.
    """
    from nuncius.alerts.surveys.base import position

    lon, lat = position(ra, dec)
    if lon is None or lat is None:
        return {}
    return {"coordinates": {"radec_geojson": {"type": "Point", "coordinates": [lon - 180.0, lat]}}}
