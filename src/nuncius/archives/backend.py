"""What every kind of archive does, as operations (`nuncius._core.operations`).

The class that users see (`_async.py`, `_sync.py`) checks and converts what they give, and asks a back end: the embedded
archive, Kowalski, BOOM, MongoDB, or a federation of them. What a service can't do by itself is built here of what every
one of them can: find, count, and search cones.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Call
from nuncius.archives.wanted import POSITION, Wanted, position_of
from nuncius.errors import NotFoundError, PartialResultError, ServerError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from nuncius._core.operations import Deadline, Operation
    from nuncius.archives.language import Document, Projection
    from nuncius.sky import Floats
    from nuncius.sky.regions import Region

MONGODB_OPERATORS = frozenset({"$text", "$jsonSchema"})
_REGION_CONES = 400  # that cover a region, at most
_FAR = 2.0, 10.0  # how far outside a cone (times its radius, plus arcsec) no rounding of a service explains


@dataclass(frozen=True, slots=True)
class Find:
    """A question for documents; all parts are checked.

    Parameters
    ----------
    catalog : str
        Where.
    condition : mapping
        A checked filter.
    projection : Projection
        Which fields.
    order : list of (field, 1 or -1)
        The sort order.
    skip, limit : int, optional
        How many to pass over, and the most to give.
    """

    catalog: str
    condition: Mapping[str, Any]
    projection: Projection
    order: list[tuple[str, int]] = field(default_factory=list)
    skip: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Cones:
    """A question for documents around positions; all parts are checked.

    Parameters
    ----------
    catalog : str
        Where.
    ra, dec : array of float, shape (n,)
        ICRS degrees; right ascensions are in [0, 360).
    radius_arcsec, minimum_arcsec : float
        The largest and the smallest separation, both inclusive.
    condition : mapping
        A checked filter.
    projection : Projection
        Which fields.
    limit : int, optional
        The most documents for each position, the nearest first.
    advance : callable
        Is told how many more positions are done.
    """

    catalog: str
    ra: Floats
    dec: Floats
    radius_arcsec: float
    condition: Mapping[str, Any]
    projection: Projection
    limit: int | None = None
    minimum_arcsec: float = 0.0
    advance: Callable[[int], None] = field(default=lambda count: None, repr=False)  # noqa: ARG005


@dataclass(frozen=True, slots=True)
class Failure:
    """A part of a question that was not answered.

    Parameters
    ----------
    indexes : sequence of int
        The positions that it is about, numbered as they were asked.
    error : Exception
        Why.
    """

    indexes: Sequence[int]
    error: Exception

    def __str__(self) -> str:
        some = ", ".join(map(str, self.indexes[:5])) + (", …" if len(self.indexes) > 5 else "")
        return f"{len(self.indexes)} positions ({some}): {self.error}"


@dataclass(frozen=True, slots=True)
class Hits:
    """The documents around positions, by position and then by separation, and the positions that failed.

    Each document has `input_index`, the number of its position, and `separation_arcsec`.
    """

    documents: list[Document]
    failures: list[Failure] = field(default_factory=list)


class Backend(ABC):
    """One archive, wherever it is. Its methods are operations, and may run side by side."""

    service: str
    url: str  # without any secret
    chunk_positions = (250, 1000)  # in one request: at first, and at most
    side_by_side = 4  # requests at a time
    native_operators: frozenset[str] = frozenset()  # of filters, that only the service itself can judge

    @abstractmethod
    def catalogs(self, deadline: Deadline, *, refresh: bool = False) -> Operation[list[str]]:
        """Return the names of all catalogs, sorted; from memory unless `refresh` is set."""

    @abstractmethod
    def find(self, query: Find, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find documents. What is returned can be iterated over again."""

    @abstractmethod
    def count(
        self,
        catalog: str,
        condition: Mapping[str, Any],
        deadline: Deadline,
        *,
        skip: int = 0,
        limit: int | None = None,
    ) -> Operation[int]:
        """Count documents."""

    @abstractmethod
    def estimated_count(self, catalog: str, deadline: Deadline) -> Operation[int]:
        """Return about how many documents a catalog has, without counting them."""

    @abstractmethod
    def aggregate(
        self, catalog: str, pipeline: Sequence[Mapping[str, Any]], deadline: Deadline
    ) -> Operation[Iterable[Document]]:
        """Run a checked pipeline."""

    @abstractmethod
    def cone_chunk(self, query: Cones, deadline: Deadline) -> Operation[list[Document]]:
        """Find documents around some positions in one request: by position, then by separation.

        Each has `input_index` and `separation_arcsec`; `settled` makes them of what a service answers.
        """

    @abstractmethod
    def info(self, deadline: Deadline) -> Operation[dict[str, Any]]:
        """Return what the archive holds."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files, and of connections that are not the driver's."""

    # What can be made of these ----------------------------------------------------------------------------------------

    def known(self, catalog: str, deadline: Deadline) -> Operation[str]:
        """Return the name of a catalog that exists.

        Raises
        ------
        NotFoundError
            If there is none of that name; close matches are named.
        """
        names = yield from self.catalogs(deadline)
        if catalog not in names:  # somebody may just have made it
            names = yield from self.catalogs(deadline, refresh=True)
        if catalog in names:
            return catalog
        raise no_such_catalog(catalog, names, self.service, self.url)

    def cones(self, query: Cones, deadline: Deadline) -> Operation[Hits]:
        """Find documents around any number of positions."""
        from nuncius.archives.chunks import search

        return (yield from search([self], query, deadline))

    def distinct(
        self, catalog: str, name: str, condition: Mapping[str, Any], deadline: Deadline
    ) -> Operation[list[Any]]:
        """Return the values of a field, each once, in order."""
        from nuncius.archives.language import distinct_values

        # Arrays are taken apart here: unwinding them there would lose what stands in arrays of documents.
        present = {"$and": [dict(condition), {name: {"$exists": True}}]}
        stages: list[dict[str, Any]] = [{"$match": present}, {"$group": {"_id": f"${name}"}}]
        groups = yield from self.aggregate(catalog, stages, deadline)
        return distinct_values(({"value": group["_id"]} for group in groups if "_id" in group), "value")

    def within(self, region: Region, query: Find, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find documents within a region: those around the cells that cover it, and of them those inside."""
        import numpy as np

        from nuncius.archives.language import sort_documents
        from nuncius.sky.covering import covering_cones

        needed = [POSITION, "_id", *(name for name, _ in query.order)]
        wanted = Wanted(query.projection, needed)
        ra, dec, radius_arcsec = covering_cones(region, _REGION_CONES)
        cones = Cones(query.catalog, ra, dec, radius_arcsec, query.condition, _fields(wanted))
        hits = yield from self.cones(cones, deadline)
        if hits.failures:
            raise partial(self, hits.failures, "the region")
        if not all("_id" in document for document in hits.documents):
            raise ServerError(
                f"{self.url}: a document came without its _id, so that those found twice can't be told from others",
                service=self.service,
                url=self.url,
            )
        unique = {str(document["_id"]): document for document in hits.documents}
        documents = list(unique.values())
        places = [position_of(document) or (np.nan, np.nan) for document in documents]
        inside = region.contains(*np.array(places, dtype=float).reshape(-1, 2).T)
        documents = [document for document, keep in zip(documents, inside, strict=True) if keep]
        for document in documents:
            del (
                document["separation_arcsec"],
                document["input_index"],
            )  # of the cones: they mean nothing to the user
        end = None if query.limit is None else query.skip + query.limit
        return [wanted.strip(d) for d in islice(sort_documents(documents, query.order), query.skip, end)]

    def crossmatch(self, left: Find, right: Cones, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find, for the documents of one catalog, those of another that are near.

        `right` has no positions: they are those of the documents that `left` finds. Each document that has a match gets
        `matches`, the nearest first.
        """
        import numpy as np

        yield from self.known(right.catalog, deadline)  # before anything large is fetched
        wanted = Wanted(left.projection, [POSITION])
        found = yield from self.find(replace(left, projection=_fields(wanted)), deadline)
        found = yield Call(list, (found,))  # it may be read only now
        placed = [(document, place) for document in found if (place := position_of(document)) is not None]
        if not placed:
            return []
        ra, dec = np.array([place for _, place in placed], dtype=float).T
        hits = yield from self.cones(replace(right, ra=ra, dec=dec), deadline)
        if hits.failures:
            raise partial(self, hits.failures, f"the cross-match with {right.catalog}")
        matched: dict[int, list[Document]] = {}
        for hit in hits.documents:
            matched.setdefault(hit.pop("input_index"), []).append(hit)
        return [
            {**wanted.strip(placed[index][0]), "matches": near} for index, near in sorted(matched.items())
        ]

    def explain(
        self, catalog: str, condition: Mapping[str, Any], order: list[tuple[str, int]], deadline: Deadline
    ) -> Operation[Any]:
        """Say how a question would be answered."""
        raise UnsupportedError(
            f"{self.service} does not say how it answers a question", service=self.service, url=self.url
        )
        yield  # it is an operation, as all others are


def settled(
    query: Cones, groups: Sequence[list[Document]], wanted: Wanted, *, exact: bool = False
) -> list[Document]:
    """Make the documents of cones of what a service answered, one list for each position.

    The service's idea of the radius is not trusted: separations are computed here, and decide. Where it was asked for
    cones and nothing wider (`exact`), a document that lies far outside shows that it has answered something else.

    Raises
    ------
    ServerError
        If a document has no position, or that of something else.
    """
    import numpy as np

    from nuncius.sky import separation_arcsec

    documents = [document for group in groups for document in group]
    index = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    places = [position_of(document) for document in documents]
    if None in places:
        raise ServerError(f"{query.catalog}: a document near a position came without its {POSITION}")
    ra, dec = np.array(places, dtype=float).reshape(-1, 2).T
    if not (np.isfinite(ra) & (np.abs(dec) <= 90)).all():
        raise ServerError(
            f"{query.catalog}: a document near a position came with a {POSITION} that is not on the sky"
        )
    distance = separation_arcsec(query.ra[index], query.dec[index], ra, dec)
    if exact and (distance > _FAR[0] * query.radius_arcsec + _FAR[1]).any():
        raise ServerError(
            f"{query.catalog}: a document came for a position from which it is {distance.max():.4g} arcsec away, and "
            f"{query.radius_arcsec:.4g} were asked for: the answer is not that to the question"
        )
    inside = np.flatnonzero((distance <= query.radius_arcsec) & (distance >= query.minimum_arcsec))
    inside = inside[np.lexsort((distance[inside], index[inside]))]
    result: list[Document] = []
    taken = [0] * len(groups)
    for number in inside.tolist():
        position = int(index[number])
        if query.limit is None or taken[position] < query.limit:
            taken[position] += 1
            document = wanted.strip(documents[number])
            document["separation_arcsec"], document["input_index"] = float(distance[number]), position
            result.append(document)
    return result


def no_such_catalog(catalog: str, names: Sequence[str], service: str, url: str) -> NotFoundError:
    """Return the error that names the catalogs that are close."""
    close = difflib.get_close_matches(str(catalog), names, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(names[:20]) or 'none yet'}"
    return NotFoundError(
        f"{url} has no catalog {catalog!r}; {hint}", service=service, url=url, position=str(catalog)
    )


def partial(backend: Backend, failures: Sequence[Failure], what: str) -> PartialResultError:
    """Return the error that says which parts of a question failed."""
    named = "; ".join(map(str, failures[:3])) + ("; …" if len(failures) > 3 else "")
    count = sum(len(failure.indexes) for failure in failures)
    return PartialResultError(
        f"{backend.url}: {what} is not complete: {count} positions failed. {named}. The others succeeded and are in the "
        "error's `result`; allow_partial=True returns them without an error",
        service=backend.service,
        url=backend.url,
    )


def _fields(wanted: Wanted) -> Projection:
    from nuncius.archives.language import Projection

    return Projection(wanted.fields)
