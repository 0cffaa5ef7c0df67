"""The archive in one SQLite file as a back end: every question is a call, made where it may block."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Call
from nuncius.archives.backend import Backend, Hits
from nuncius.archives.embedded import places, query
from nuncius.archives.embedded.database import quoted
from nuncius.archives.results import Rows
from nuncius.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from nuncius._core.operations import Deadline, Operation
    from nuncius.archives.backend import Cones, Find
    from nuncius.archives.embedded.database import Database
    from nuncius.archives.language import Document
    from nuncius.sky.regions import Region


class EmbeddedBackend(Backend):
    """An archive in a file.

    Parameters
    ----------
    database : Database
        The file.
    """

    service = "embedded archive"
    chunk_positions = (2000, 20_000)
    side_by_side = 1  # in a federation: one thread keeps a file busy

    def __init__(self, database: Database) -> None:
        self.database = database
        self.url = str(database.path)
        self._names: frozenset[str] = frozenset()

    def catalogs(self, deadline: Deadline, *, refresh: bool = False) -> Operation[list[str]]:
        """Return the names of all catalogs, sorted; from memory unless `refresh` is set."""
        if refresh or not self._names:
            self._names = frozenset((yield Call(self._catalogs)))
        return sorted(self._names)

    def known(self, catalog: str, deadline: Deadline) -> Operation[str]:
        """Return the name of a catalog that exists."""
        return catalog if catalog in self._names else (yield from super().known(catalog, deadline))

    def find(self, query: Find, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find documents; without a deadline they are read when they are iterated over."""
        name = yield from self.known(query.catalog, deadline)
        return (yield from self._read(lambda: _find(self.database, name, query), deadline))

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
        name = yield from self.known(catalog, deadline)
        counted: int = yield from self._call(
            lambda: query.count(self.database, name, condition, skip, limit), deadline
        )
        return counted

    def estimated_count(self, catalog: str, deadline: Deadline) -> Operation[int]:
        """Return about how many documents a catalog has."""
        name = yield from self.known(catalog, deadline)
        counted: int = yield from self._call(lambda: query.estimated_count(self.database, name), deadline)
        return counted

    def distinct(
        self, catalog: str, name: str, condition: Mapping[str, Any], deadline: Deadline
    ) -> Operation[list[Any]]:
        """Return the values of a field, each once, in order."""
        known = yield from self.known(catalog, deadline)
        values: list[Any] = yield from self._call(
            lambda: query.distinct(self.database, known, name, condition), deadline
        )
        return values

    def aggregate(
        self, catalog: str, pipeline: Sequence[Mapping[str, Any]], deadline: Deadline
    ) -> Operation[Iterable[Document]]:
        """Run a checked pipeline."""
        from nuncius.archives.language import collections_of

        name = yield from self.known(catalog, deadline)
        for other in collections_of(pipeline):
            yield from self.known(other, deadline)
        return (yield from self._read(lambda: query.aggregate(self.database, name, pipeline), deadline))

    def cones(self, query: Cones, deadline: Deadline) -> Operation[Hits]:
        """Find documents around any number of positions, in one go."""
        documents = yield from self.cone_chunk(query, deadline)
        query.advance(len(query.ra))
        return Hits(documents)

    def cone_chunk(self, query: Cones, deadline: Deadline) -> Operation[list[Document]]:
        """Find documents around positions."""
        name = yield from self._placed(query.catalog, deadline)
        if not len(query.ra):
            return []
        documents: list[Document] = yield from self._call(
            lambda: _cones(self.database, name, query), deadline
        )
        return documents

    def within(self, region: Region, query: Find, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find documents within a region."""
        name = yield from self._placed(query.catalog, deadline)
        return (
            yield from self._read(
                lambda: places.within(
                    self.database,
                    name,
                    region,
                    query.condition,
                    query.projection,
                    query.order,
                    query.skip,
                    query.limit,
                ),
                deadline,
            )
        )

    def crossmatch(self, left: Find, right: Cones, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find, for the documents of one catalog, those of another that are near."""
        names = (
            (yield from self._placed(left.catalog, deadline)),
            (yield from self._placed(right.catalog, deadline)),
        )
        return (
            yield from self._read(
                lambda: places.crossmatch(
                    self.database, *names, right.radius_arcsec,
                    condition=left.condition, projection=left.projection,
                    right_condition=right.condition, right_projection=right.projection, limit=right.limit,
                ),
                deadline,
            )
        )  # fmt: skip

    def explain(
        self, catalog: str, condition: Mapping[str, Any], order: list[tuple[str, int]], deadline: Deadline
    ) -> Operation[Any]:
        """Say how a question would be answered."""
        name = yield from self.known(catalog, deadline)
        return (yield from self._call(lambda: query.explain(self.database, name, condition, order), deadline))

    def info(self, deadline: Deadline) -> Operation[dict[str, Any]]:
        """Return what the archive holds."""
        held: dict[str, Any] = yield from self._call(self._info, deadline)
        return held

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def _placed(self, catalog: str, deadline: Deadline) -> Operation[str]:
        """Return the name of a catalog whose documents have positions."""
        name = yield from self.known(catalog, deadline)
        if name.endswith("_aux"):
            raise NotFoundError(f"{name} has no positions; search {name.removesuffix('_aux')}", position=name)
        return name

    def _call(self, function: Callable[[], Any], deadline: Deadline) -> Operation[Any]:
        return (yield Call(self._in_time, (function, deadline)))

    def _read(
        self, read: Callable[[], Iterable[Document]], deadline: Deadline
    ) -> Operation[Iterable[Document]]:
        if deadline.timeout_s is None:
            return Rows(read)
        documents: list[Document] = yield from self._call(lambda: list(read()), deadline)
        return documents

    def _in_time(self, function: Callable[[], Any], deadline: Deadline) -> Any:
        if deadline.timeout_s is None:
            return function()
        with self.database.deadline(deadline.remaining_s):
            return function()

    def _catalogs(self) -> list[str]:
        with_histories = self.database.catalogs("alerts")
        return [*self.database.catalogs(), *(f"{name}_aux" for name in with_histories)]

    def _info(self) -> dict[str, Any]:
        catalogs: dict[str, Any] = {}
        ask = self.database.connection.execute
        with self.database.errors():
            for name in self.database.catalogs("alerts"):
                alerts, objects, first, last = ask(
                    f"SELECT count(*), count(DISTINCT object_id), min(mjd), max(mjd) FROM {quoted(name)}"
                ).fetchone()
                catalogs[name] = {
                    "alerts": alerts,
                    "objects": objects,
                    "history_points": ask(
                        f"SELECT coalesce(sum(length(point) - length(replace(point, char(10), '')) + 1), 0) "
                        f"FROM {quoted(f'{name}:points')}"
                    ).fetchone()[0],
                    "revisions": ask(f"SELECT count(*) FROM {quoted(f'{name}:revisions')}").fetchone()[0],
                    "first_mjd": first,
                    "last_mjd": last,
                }
            for name in self.database.catalogs("catalog"):
                catalogs[name] = {"sources": ask(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0]}
        path = self.database.path
        size = sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists())
        return {"path": str(path), "bytes": size, "layout": self.database.layout, "catalogs": catalogs}


def _find(database: Database, name: str, asked: Find) -> Iterable[Document]:
    return query.find(database, name, asked.condition, asked.projection, asked.order, asked.skip, asked.limit)


def _cones(database: Database, name: str, asked: Cones) -> list[Document]:
    return places.cones(
        database, name, asked.ra, asked.dec, asked.radius_arcsec, asked.condition, asked.projection, asked.limit,
        minimum_arcsec=asked.minimum_arcsec,
    )  # fmt: skip
