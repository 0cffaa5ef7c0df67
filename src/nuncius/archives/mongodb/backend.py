"""MongoDB as an archive."""

from __future__ import annotations

import contextlib
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Call
from nuncius.archives.backend import MONGODB_OPERATORS, Backend, settled
from nuncius.archives.mongodb.places import CELLS, cell_questions, grouped, layout_of
from nuncius.archives.mongodb.service import SERVICE, MongoService
from nuncius.archives.results import Rows
from nuncius.archives.wanted import POSITION, Wanted
from nuncius.errors import ForbiddenError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pymongo.collection import Collection

    from nuncius._core.operations import Deadline, Operation
    from nuncius.archives.backend import Cones, Find
    from nuncius.archives.language import Document
    from nuncius.archives.mongodb.places import Layout, Place
    from nuncius.credentials import CredentialsLike
    from nuncius.sky.regions import Region

_BATCH = 100  # documents that are taken at a time: as many as a server sends at first
_WRITING = frozenset({"$out", "$merge"})
_TOO_MUCH, _UNKNOWN_OPTION = (
    17217,
    9,
)  # the answer to `distinct` is one document, so 16 MB; and takes no time limit


class MongoBackend(Backend):
    """A MongoDB database, or another server that speaks its language.

    Filters and pipelines go to the server as they are. It may have collections as Kowalski makes them
    (`coordinates.radec_geojson`), others with a HEALPix cell in `hpx`, or such with `ra` and `dec` alone; what is found
    by its position always has `coordinates.radec_geojson`.

    Parameters
    ----------
    url : str
        ``mongodb://host:27017/kowalski``; see `MongoService`.
    credentials : optional
        The login; see `nuncius.credentials`.
    """

    service = SERVICE
    native_operators = MONGODB_OPERATORS
    chunk_positions = (100, 400)

    def __init__(self, url: str, *, credentials: CredentialsLike = None) -> None:
        self._mongo = MongoService(url, credentials=credentials)
        self.url = self._mongo.url
        self._names: list[str] | None = None
        self._layouts: dict[str, Layout] = {}
        self._knows_geo: bool | None = None

    def catalogs(self, deadline: Deadline, *, refresh: bool = False) -> Operation[list[str]]:
        """Return the names of all collections that this user may read, sorted."""
        if self._names is None or refresh:
            names = yield self._call(deadline, self._list)
            self._names = sorted(name for name in names if not name.startswith("system."))
        return self._names

    def known(self, catalog: str, deadline: Deadline) -> Operation[str]:
        """Return the name of a collection that exists: MongoDB itself takes any name, and finds nothing.

        Raises
        ------
        NotFoundError
            If there is none of that name, or the database has none at all.
        """
        names = yield from self.catalogs(deadline)
        if not names and not (yield from self.catalogs(deadline, refresh=True)):
            raise NotFoundError(
                f"{self.url} has no catalogs: the database {self._mongo.database_name!r} is empty or does not exist, or "
                "nothing in it is open to you. Databases differ in the case of letters",
                service=SERVICE,
                url=self.url,
                position=catalog,
            )
        return (yield from super().known(catalog, deadline))

    def find(self, query: Find, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find documents, which come as they are read, and as often as they are iterated over."""
        yield from self.known(query.catalog, deadline)
        if query.limit == 0:  # which is no limit in MongoDB
            return []

        def start() -> Any:
            return self._collection(query.catalog).find(
                dict(query.condition),
                query.projection.fields,
                sort=query.order or None,
                skip=query.skip,
                limit=query.limit or 0,
            )

        return Rows(lambda: self._read(start, deadline.timeout_s))

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
        yield from self.known(catalog, deadline)
        if limit == 0:
            return 0
        options: dict[str, Any] = {"skip": skip, **({} if limit is None else {"limit": limit})}
        number: int = yield self._call(
            deadline, lambda: self._collection(catalog).count_documents(dict(condition), **options)
        )
        return number

    def estimated_count(self, catalog: str, deadline: Deadline) -> Operation[int]:
        """Return how many documents a collection has by its own account."""
        yield from self.known(catalog, deadline)
        number: int = yield self._call(deadline, lambda: self._collection(catalog).estimated_document_count())
        return number

    def distinct(
        self, catalog: str, name: str, condition: Mapping[str, Any], deadline: Deadline
    ) -> Operation[list[Any]]:
        """Return the values of a field, each once, in order."""
        from nuncius.archives.language import distinct_values

        yield from self.known(catalog, deadline)
        values = yield self._call(deadline, lambda: self._distinct(catalog, name, dict(condition)))
        return distinct_values(({"value": value} for value in values), "value")

    def aggregate(
        self, catalog: str, pipeline: Sequence[Mapping[str, Any]], deadline: Deadline
    ) -> Operation[Iterable[Document]]:
        """Run a pipeline that reads; what it gives comes as it is read.

        Raises
        ------
        ForbiddenError
            If a stage writes.
        """
        _refuse_writing(pipeline)
        yield from self.known(catalog, deadline)

        def start() -> Any:
            return self._collection(catalog).aggregate(list(pipeline), allowDiskUse=True)

        return Rows(lambda: self._read(start, deadline.timeout_s))

    def cone_chunk(self, query: Cones, deadline: Deadline) -> Operation[list[Document]]:
        """Find documents around some positions: by position, then by separation."""
        yield from self.known(query.catalog, deadline)
        layout = yield from self._layout(query.catalog, deadline)
        documents: list[Document] = yield self._call(deadline, lambda: self._near(query, layout))
        return documents

    def within(self, region: Region, query: Find, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find documents within a region: by the cells of it, where the documents have theirs."""
        yield from self.known(query.catalog, deadline)
        layout = yield from self._layout(query.catalog, deadline)
        if layout.way != CELLS:
            return (yield from super().within(region, query, deadline))
        documents: list[Document] = yield self._call(
            deadline, lambda: self._inside(region, query, layout.place)
        )
        return documents

    def crossmatch(self, left: Find, right: Cones, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find, for the documents of one catalog, those of another that are near."""
        yield from self.known(left.catalog, deadline)
        layout = yield from self._layout(left.catalog, deadline)
        if not layout.place.is_geojson:
            raise UnsupportedError(
                f"{self.url}: the documents of {left.catalog} have no {POSITION}. Swap the two catalogs, or find the "
                "documents and give their positions to cone_search",
                service=SERVICE,
                url=self.url,
            )
        return (yield from super().crossmatch(left, right, deadline))

    def info(self, deadline: Deadline) -> Operation[dict[str, Any]]:
        """Return the server's version, and the documents, bytes and indexes of each catalog."""
        names = yield from self.catalogs(deadline, refresh=True)
        result: dict[str, Any] = yield self._call(deadline, lambda: self._info(names))
        return result

    def explain(
        self, catalog: str, condition: Mapping[str, Any], order: list[tuple[str, int]], deadline: Deadline
    ) -> Operation[dict[str, Any]]:
        """Return the server's own plan, in its words: MongoDB says IXSCAN of an index, and COLLSCAN of all documents."""
        yield from self.known(catalog, deadline)
        question = {"find": catalog, "filter": dict(condition), **({"sort": dict(order)} if order else {})}
        answer = yield self._call(
            deadline, lambda: self._mongo.database.command("explain", question, verbosity="queryPlanner")
        )
        plan: dict[str, Any] = answer["queryPlanner"]
        return plan

    def close(self) -> None:
        """Close the connections."""
        self._mongo.close()

    # What runs where it may block -------------------------------------------------------------------------------------

    def _call(self, deadline: Deadline, function: Callable[[], Any]) -> Call:
        def ask() -> Any:
            deadline.check(self.url)
            remaining = None if deadline.timeout_s is None else deadline.remaining_s
            with self._mongo.asking(remaining):
                return function()

        return Call(ask)

    def _collection(self, name: str) -> Collection:
        return self._mongo.database[name]

    def _list(self) -> list[str]:
        # Without these two options only an administrator may ask for the names.
        found = self._mongo.database.list_collections(nameOnly=True, authorizedCollections=True)
        return [one["name"] for one in found]

    def _read(self, start: Callable[[], Any], timeout_s: float | None) -> Iterator[Document]:
        """Read an answer piece by piece. What the reader does meanwhile is not counted as time that the server took."""
        from pymongo.errors import PyMongoError

        left, cursor = timeout_s, None
        try:
            while True:
                begin = time.monotonic()
                with self._mongo.asking(left):
                    cursor = start() if cursor is None else cursor
                    documents = list(islice(cursor, _BATCH))
                if left is not None:
                    left = max(0.001, left - (time.monotonic() - begin))
                yield from documents
                if len(documents) < _BATCH:
                    return
        finally:
            if cursor is not None:
                with contextlib.suppress(PyMongoError):
                    cursor.close()

    def _distinct(self, catalog: str, name: str, condition: dict[str, Any]) -> list[Any]:
        from pymongo.errors import OperationFailure

        collection = self._collection(catalog)
        values: list[Any]
        try:
            values = collection.distinct(name, condition)
        except OperationFailure as error:
            if error.code not in {_TOO_MUCH, _UNKNOWN_OPTION}:
                raise
            # The same values, in any number of documents; here an array is still one value.
            stages: list[dict[str, Any]] = [
                {"$match": {"$and": [condition, {name: {"$exists": True}}]}},
                {"$group": {"_id": f"${name}"}},
            ]
            values = [group["_id"] for group in collection.aggregate(stages, allowDiskUse=True)]
        return values

    def _layout(self, catalog: str, deadline: Deadline) -> Operation[Layout]:
        """Return how documents are found by their position.

        Raises
        ------
        UnsupportedError
            If they have none that is known.
        """
        if catalog not in self._layouts:
            layout = yield self._call(deadline, lambda: self._look(catalog))
            if layout is None:
                raise UnsupportedError(
                    f"{self.url}: no position is found in the documents of {catalog}. Give them {POSITION}, a GeoJSON "
                    "point of RA - 180 and Dec in degrees with a 2dsphere index, or numbers `ra` and `dec` in degrees and "
                    "with them `hpx`, the nested HEALPix cell of order 29, with an index",
                    service=SERVICE,
                    url=self.url,
                    position=catalog,
                )
            self._layouts[catalog] = layout
        return self._layouts[catalog]

    def _look(self, catalog: str) -> Layout | None:
        collection = self._collection(catalog)
        if self._knows_geo is None:
            self._knows_geo = _knows_geo(collection)
        return layout_of(collection, knows_geo=self._knows_geo)

    def _near(self, query: Cones, layout: Layout) -> list[Document]:
        asked = Wanted(query.projection, layout.place.fields)
        documents: list[Document] = []
        for near in layout.questions(query):
            documents += self._collection(query.catalog).find(_both(query.condition, near), asked.fields)
        groups = grouped(query, documents, layout.place)
        if layout.place.is_geojson:
            return settled(query, groups, asked)
        for document in (document for group in groups for document in group):
            layout.place.add_geojson(document, asked)
        return settled(query, groups, Wanted(query.projection, [POSITION]))

    def _inside(self, region: Region, query: Find, place: Place) -> list[Document]:
        import numpy as np

        from nuncius.archives.language import sort_documents

        asked = Wanted(query.projection, [*place.fields, *(name for name, _ in query.order)])
        found: list[Document] = []
        for near in cell_questions(*region.ranges()):
            found += self._collection(query.catalog).find(_both(query.condition, near), asked.fields)
        positions = np.array([place.of(document) or (np.nan, np.nan) for document in found], dtype=float)
        inside = region.contains(*positions.reshape(-1, 2).T)
        documents = sort_documents([found[number] for number in np.flatnonzero(inside).tolist()], query.order)
        documents = documents[query.skip : None if query.limit is None else query.skip + query.limit]
        if place.is_geojson:
            return [asked.strip(document) for document in documents]
        without = Wanted(query.projection, [POSITION])
        return [without.strip(place.add_geojson(document, asked)) for document in documents]

    def _info(self, names: Sequence[str]) -> dict[str, Any]:
        from pymongo.errors import OperationFailure

        database = self._mongo.database
        catalogs: dict[str, Any] = {}
        for name in names:
            catalogs[name] = {}
            with contextlib.suppress(
                OperationFailure
            ):  # a view has no size, and not everybody may ask for it
                size = database.command("collStats", name)
                catalogs[name] = {"documents": size.get("count"), "bytes": size.get("size")}
                catalogs[name]["indexes"] = sorted(database[name].index_information())
        version = database.command("buildInfo").get("version")
        return {"url": self.url, "database": database.name, "version": version, "catalogs": catalogs}


def _both(condition: Mapping[str, Any], near: dict[str, Any]) -> dict[str, Any]:
    return {"$and": [dict(condition), near]} if condition else near


def _knows_geo(collection: Collection) -> bool:
    """Tell whether the server knows geometry, by asking about one document."""
    from pymongo.errors import OperationFailure

    inside = {POSITION: {"$geoWithin": {"$centerSphere": [[0.0, 0.0], 0.1]}}}
    try:
        list(collection.aggregate([{"$limit": 1}, {"$match": inside}]))
    except OperationFailure as error:
        if "$geoWithin" in str(error) or "$centerSphere" in str(error):
            return False
        raise
    return True


def _refuse_writing(stages: Any) -> None:
    """Refuse a stage that writes, at any depth: this server would do it."""
    for part in stages.values() if isinstance(stages, dict) else stages:
        if isinstance(part, dict) and not _WRITING.isdisjoint(part):
            named = ", ".join(sorted(_WRITING & part.keys()))
            raise ForbiddenError(
                f"{named} writes, and an archive is never written through a question", service=SERVICE
            )
        if isinstance(part, (dict, list)):
            _refuse_writing(part)
