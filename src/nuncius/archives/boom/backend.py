"""BOOM as a back end: our questions in its words, and its answers in ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.archives.backend import MONGODB_OPERATORS, Backend, settled
from nuncius.archives.boom.service import SERVICE, BoomService
from nuncius.archives.kowalski.wire import plain_expression, plain_filter
from nuncius.archives.wanted import POSITION, Wanted
from nuncius.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nuncius._core.operations import Deadline, Operation
    from nuncius.archives.backend import Cones, Find
    from nuncius.archives.language import Document
    from nuncius.credentials import CredentialsLike, Token

_RIM = 1e-6, 1e-3  # how much wider a cone is asked for than meant (relative, arcsec): the rim is decided here


class BoomBackend(Backend):
    """One BOOM server.

    Parameters
    ----------
    url : str
        ``boom+https://api.kaboom.caltech.edu``, the public server, or where another one is.
    credentials, token : optional
        The login; see `nuncius.credentials`.
    timeout_s : float
        For one request.

    Raises
    ------
    ConfigurationError
        If the URL is none, or has a password in it.
    """

    service = SERVICE
    native_operators = MONGODB_OPERATORS

    def __init__(
        self,
        url: str,
        *,
        credentials: CredentialsLike = None,
        token: str | Token | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self.server = BoomService(url, credentials=credentials, token=token, timeout_s=timeout_s)
        self.url = f"{SERVICE}+{self.server.base}"
        self._names: list[str] | None = None

    def catalogs(self, deadline: Deadline, *, refresh: bool = False) -> Operation[list[str]]:
        """Return the names of all catalogs, sorted; from memory unless `refresh` is set."""
        if self._names is None or refresh:
            found = yield from self.server.ask("catalogs", deadline, params={"get_details": "false"})
            if not isinstance(found, list) or not all(
                isinstance(item, dict) and "name" in item for item in found
            ):
                raise self._strange("the names of its catalogs", found)
            self._names = sorted(str(item["name"]) for item in found)
        return self._names

    def find(self, query: Find, deadline: Deadline) -> Operation[list[Document]]:
        """Find documents."""
        asked: dict[str, Any] = {
            "catalog_name": (yield from self.known(query.catalog, deadline)),
            "filter": plain_filter(query.condition),
        }
        if query.projection.fields is not None:
            asked["projection"] = plain_expression(query.projection.fields, "projection")
        if query.order:
            asked["sort"] = dict(query.order)
        if query.limit == 0:  # which means "all" to MongoDB
            return []
        asked |= {name: value for name, value in (("skip", query.skip), ("limit", query.limit)) if value}
        return self._documents((yield from self.server.ask("queries/find", deadline, asked, timed=True)))

    def count(
        self,
        catalog: str,
        condition: Mapping[str, Any],
        deadline: Deadline,
        *,
        skip: int = 0,
        limit: int | None = None,
    ) -> Operation[int]:
        """Count documents. The server knows neither skip nor limit, so they are applied here."""
        asked = {
            "catalog_name": (yield from self.known(catalog, deadline)),
            "filter": plain_filter(condition),
        }
        rest = max(0, self._number((yield from self.server.ask("queries/count", deadline, asked))) - skip)
        return rest if limit is None else min(rest, limit)

    def estimated_count(self, catalog: str, deadline: Deadline) -> Operation[int]:
        """Return about how many documents a catalog has."""
        asked = {"catalog_name": (yield from self.known(catalog, deadline))}
        return self._number((yield from self.server.ask("queries/estimated_count", deadline, asked)))

    def aggregate(
        self, catalog: str, pipeline: Sequence[Mapping[str, Any]], deadline: Deadline
    ) -> Operation[list[Document]]:
        """Run a checked pipeline."""
        asked = {
            "catalog_name": (yield from self.known(catalog, deadline)),
            "pipeline": plain_expression(list(pipeline)),
        }
        return self._documents((yield from self.server.ask("queries/pipeline", deadline, asked, timed=True)))

    def cone_chunk(self, query: Cones, deadline: Deadline) -> Operation[list[Document]]:
        """Find documents around some positions in one request.

        The server's documents of a position come in no order, so its limit would keep any of them and not the nearest:
        it is asked for all, and the limit is applied here.
        """
        wanted = Wanted(query.projection, [POSITION])
        condition = plain_filter(query.condition)
        if POSITION in condition:  # the server would put the cone in its place
            condition = {"$and": [condition]}
        asked: dict[str, Any] = {
            "catalog_name": (yield from self.known(query.catalog, deadline)),
            "filter": condition,
            "radius": query.radius_arcsec * (1 + _RIM[0]) + _RIM[1],
            "unit": "Arcseconds",
            "object_coordinates": {
                f"p{index}": [_wrapped(ra), dec]
                for index, (ra, dec) in enumerate(zip(query.ra.tolist(), query.dec.tolist(), strict=True))
            },
        }
        if wanted.fields is not None:
            asked["projection"] = plain_expression(wanted.fields, "projection")
        found = yield from self.server.ask("queries/cone_search", deadline, asked, timed=True)
        names = asked["object_coordinates"]
        if not isinstance(found, dict) or found.keys() != names.keys():
            raise self._strange(f"the documents of {len(names)} positions", found)
        return settled(query, [self._documents(found[name]) for name in names], wanted, exact=True)

    def info(self, deadline: Deadline) -> Operation[dict[str, Any]]:
        """Return what the archive holds."""
        names = yield from self.catalogs(deadline, refresh=True)
        return {"url": self.url, "service": SERVICE, "catalogs": {name: {} for name in names}}

    def close(self) -> None:
        """Nothing is held: the connections are the driver's."""

    def _documents(self, found: Any) -> list[Document]:
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self._strange("documents", found)
        return found

    def _number(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._strange("a number", value)
        return value

    def _strange(self, wanted: str, got: Any) -> ServerError:
        return ServerError(
            f"{self.url} answered {type(got).__name__} where {wanted} were asked for; is it a BOOM server?",
            service=SERVICE,
            url=self.url,
        )


def _wrapped(ra: float) -> float:
    """Return a right ascension in [0, 360): one position outside and the server refuses the whole question."""
    ra %= 360.0
    return ra if ra < 360.0 else 0.0  # a tiny negative number wraps to 360 exactly
