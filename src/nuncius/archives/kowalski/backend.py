"""Kowalski as a back end: our questions in its words, and its answers in ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.archives.backend import MONGODB_OPERATORS, Backend, settled
from nuncius.archives.kowalski.service import SERVICE
from nuncius.archives.kowalski.wire import plain_expression, plain_filter
from nuncius.archives.wanted import POSITION, Wanted
from nuncius.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nuncius._core.operations import Deadline, Operation
    from nuncius.archives.backend import Cones, Find
    from nuncius.archives.kowalski.service import KowalskiService
    from nuncius.archives.language import Document

_RIM = 1e-6, 1e-3  # how much wider a cone is asked for than meant (relative, arcsec): the rim is decided here


class KowalskiBackend(Backend):
    """One Kowalski server.

    Parameters
    ----------
    service : KowalskiService
        The conversation with it.
    """

    service = SERVICE
    native_operators = MONGODB_OPERATORS

    def __init__(self, service: KowalskiService) -> None:
        self.server = service
        self.url = f"{SERVICE}+{service.base}"
        self._names: list[str] | None = None

    def catalogs(self, deadline: Deadline, *, refresh: bool = False) -> Operation[list[str]]:
        """Return the names of all catalogs, sorted; from memory unless `refresh` is set."""
        if self._names is None or refresh:
            names = yield from self.server.ask("info", {"command": "catalog_names"}, deadline)
            if not isinstance(names, list):
                raise self._strange("the names of its catalogs", names)
            self._names = sorted(map(str, names))
        return self._names

    def find(self, query: Find, deadline: Deadline) -> Operation[list[Document]]:
        """Find documents."""
        asked: dict[str, Any] = {
            "catalog": (yield from self.known(query.catalog, deadline)),
            "filter": plain_filter(query.condition),
        }
        if query.projection.fields is not None:
            asked["projection"] = plain_expression(query.projection.fields, "projection")
        if query.limit == 0:  # which means "all" to MongoDB
            return []
        options = {"sort": [list(pair) for pair in query.order], "skip": query.skip, "limit": query.limit}
        found = yield from self.server.ask(
            "find", asked, deadline, options={name: value for name, value in options.items() if value}
        )
        documents = self._documents(found)
        if query.limit is not None and len(documents) > query.limit:
            raise self._strange(f"{query.limit} documents at most", documents)
        return documents

    def count(
        self,
        catalog: str,
        condition: Mapping[str, Any],
        deadline: Deadline,
        *,
        skip: int = 0,
        limit: int | None = None,
    ) -> Operation[int]:
        """Count documents. The server ignores skip and limit, so they are applied here."""
        asked = {"catalog": (yield from self.known(catalog, deadline)), "filter": plain_filter(condition)}
        found = yield from self.server.ask("count_documents", asked, deadline)
        rest = max(0, self._number(found) - skip)
        return rest if limit is None else min(rest, limit)

    def estimated_count(self, catalog: str, deadline: Deadline) -> Operation[int]:
        """Return about how many documents a catalog has."""
        asked = {"catalog": (yield from self.known(catalog, deadline))}
        return self._number((yield from self.server.ask("estimated_document_count", asked, deadline)))

    def aggregate(
        self, catalog: str, pipeline: Sequence[Mapping[str, Any]], deadline: Deadline
    ) -> Operation[list[Document]]:
        """Run a checked pipeline."""
        # An empty pipeline is refused there.
        stages = plain_expression(list(pipeline)) or [{"$match": {}}]
        asked = {"catalog": (yield from self.known(catalog, deadline)), "pipeline": stages}
        return self._documents((yield from self.server.ask("aggregate", asked, deadline)))

    def cone_chunk(self, query: Cones, deadline: Deadline) -> Operation[list[Document]]:
        """Find documents around some positions in one request.

        Its `near` gives the nearest first, so a limit takes the right ones; its `cone_search` is quicker without one.
        """
        wanted = Wanted(query.projection, [POSITION])
        catalog = yield from self.known(query.catalog, deadline)
        condition = plain_filter(query.condition)
        if POSITION in condition:  # the server would put one of the two in the place of the other
            condition = {"$and": [condition]}
        selection: dict[str, Any] = {"filter": condition}
        if wanted.fields is not None:
            selection["projection"] = plain_expression(wanted.fields, "projection")
        # Its own names: the server changes dots in ours.
        radec = {
            f"p{index}": [ra, dec]
            for index, (ra, dec) in enumerate(zip(query.ra.tolist(), query.dec.tolist(), strict=True))
        }
        radius = query.radius_arcsec * (1 + _RIM[0]) + _RIM[1]
        if query.limit is not None:
            kind, options = "near", {"limit": query.limit}
            asked = {
                "max_distance": radius,
                "min_distance": query.minimum_arcsec,
                "distance_units": "arcsec",
                "radec": radec,
                "catalogs": {catalog: selection},
            }
        else:
            kind, options = "cone_search", {}
            asked = {
                "object_coordinates": {
                    "cone_search_radius": radius,
                    "cone_search_unit": "arcsec",
                    "radec": radec,
                },
                "catalogs": {catalog: selection},
            }
        found = yield from self.server.ask(kind, asked, deadline, options=options)
        groups = found.get(catalog) if isinstance(found, dict) else None
        if not isinstance(groups, dict) or not all(isinstance(groups.get(name), list) for name in radec):
            raise self._strange(f"the documents of {len(radec)} positions", found)
        return settled(query, [groups[name] for name in radec], wanted, exact=True)

    def info(self, deadline: Deadline) -> Operation[dict[str, Any]]:
        """Return what the archive holds."""
        names = yield from self.catalogs(deadline, refresh=True)
        database = yield from self.server.ask("info", {"command": "db_info"}, deadline)
        return {
            "url": self.url,
            "service": SERVICE,
            "catalogs": {name: {} for name in names},
            "database": database,
        }

    def indexes(self, catalog: str, deadline: Deadline) -> Operation[list[str]]:
        """Return the names of a catalog's indexes."""
        asked = {"command": "index_info", "catalog": (yield from self.known(catalog, deadline))}
        found = yield from self.server.ask("info", asked, deadline)
        return sorted(found) if isinstance(found, (dict, list)) else []

    def close(self) -> None:
        """Nothing is held: the connections are the driver's."""

    def _number(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._strange("a number of documents", value)
        return value

    def _documents(self, found: Any) -> list[Document]:
        if not isinstance(found, list) or not all(isinstance(document, dict) for document in found):
            raise self._strange("documents", found)
        return found

    def _strange(self, wanted: str, got: Any) -> ServerError:
        return ServerError(
            f"{self.url} answered {_shown(got)} where {wanted} were asked for; is it a Kowalski server?",
            service=SERVICE,
            url=self.url,
        )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)} with {', '.join(sorted({type(item).__name__ for item in value}))}"
    return repr(value) if isinstance(value, (int, float)) else type(value).__name__
