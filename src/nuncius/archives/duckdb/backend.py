"""An exported archive as a back end: every question is a call, made where it may block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Call
from nuncius.archives.backend import Backend, Hits
from nuncius.archives.duckdb.aggregate import aggregate, explain
from nuncius.archives.duckdb.columns import Columns
from nuncius.archives.duckdb.files import Export
from nuncius.archives.duckdb.find import count, distinct, find
from nuncius.archives.results import Rows
from nuncius.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from nuncius._core.operations import Deadline, Operation
    from nuncius.archives.backend import Cones, Find
    from nuncius.archives.language import Document
    from nuncius.sky import Region


class DuckBackend(Backend):
    """An archive that was exported to Parquet files.

    Parameters
    ----------
    path : Path
        The folder that `archive.export` wrote.

    Raises
    ------
    MissingExtraError
        If duckdb is not installed.
    NotFoundError
        If there is no such folder.
    UnsupportedError
        If it is a file.
    """

    service = "exported archive"
    chunk_positions = (2000, 20_000)
    side_by_side = 1  # DuckDB keeps all cores busy by itself

    def __init__(self, path: Path) -> None:
        self.export = Export(path)
        self.url = f"duckdb:///{self.export.folder}"
        self._names: frozenset[str] = frozenset()
        self._columns: dict[str, Columns] = {}

    def catalogs(self, deadline: Deadline, *, refresh: bool = False) -> Operation[list[str]]:
        """Return the names of all catalogs, sorted; from memory unless `refresh` is set."""
        if refresh or not self._names:
            self._names = frozenset((yield Call(self.export.catalogs)))
        return sorted(self._names)

    def find(self, query: Find, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find documents; without a deadline they are read when they are iterated over."""
        columns = yield from self._known_columns(query.catalog, deadline)
        return (yield from self._read(lambda: _find(self.export, columns, query), deadline))

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
        columns = yield from self._known_columns(catalog, deadline)
        found: int = yield from self._call(lambda: count(self.export, columns, condition), deadline)
        left = max(0, found - skip)
        return left if limit is None else min(left, limit)

    def estimated_count(self, catalog: str, deadline: Deadline) -> Operation[int]:
        """Return how many documents a catalog has; the files say it."""
        return (yield from self.count(catalog, {}, deadline))

    def distinct(
        self, catalog: str, name: str, condition: Mapping[str, Any], deadline: Deadline
    ) -> Operation[list[Any]]:
        """Return the values of a field, each once, in order."""
        columns = yield from self._known_columns(catalog, deadline)
        values: list[Any] = yield from self._call(
            lambda: distinct(self.export, columns, name, condition), deadline
        )
        return values

    def aggregate(
        self, catalog: str, pipeline: Sequence[Mapping[str, Any]], deadline: Deadline
    ) -> Operation[Iterable[Document]]:
        """Run a checked pipeline."""
        from nuncius.archives.language import collections_of

        others = {}
        for other in collections_of(pipeline):
            others[other] = yield from self._known_columns(other, deadline)
        columns = yield from self._known_columns(catalog, deadline)
        return (yield from self._read(lambda: aggregate(self.export, columns, others, pipeline), deadline))

    def cones(self, query: Cones, deadline: Deadline) -> Operation[Hits]:
        """Find documents around any number of positions, in one go."""
        documents = yield from self.cone_chunk(query, deadline)
        query.advance(len(query.ra))
        return Hits(documents)

    def cone_chunk(self, query: Cones, deadline: Deadline) -> Operation[list[Document]]:
        """Find documents around positions."""
        from nuncius.archives.duckdb.places import cones

        columns = yield from self._placed(query.catalog, deadline)
        if not len(query.ra):
            return []
        documents: list[Document] = yield from self._call(
            lambda: cones(self.export, columns, query), deadline
        )
        return documents

    def within(self, region: Region, query: Find, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find documents within a region."""
        from nuncius.archives.duckdb.places import within

        columns = yield from self._placed(query.catalog, deadline)
        return (
            yield from self._read(
                lambda: within(
                    self.export, columns, region, query.condition, query.projection, query.order, query.skip, query.limit
                ),
                deadline,
            )
        )  # fmt: skip

    def crossmatch(self, left: Find, right: Cones, deadline: Deadline) -> Operation[Iterable[Document]]:
        """Find, for the documents of one catalog, those of another that are near."""
        from nuncius.archives.duckdb.places import crossmatch

        ours = yield from self._placed(left.catalog, deadline)
        theirs = yield from self._placed(right.catalog, deadline)
        return (yield from self._read(lambda: crossmatch(self.export, ours, theirs, left, right), deadline))

    def explain(
        self, catalog: str, condition: Mapping[str, Any], order: list[tuple[str, int]], deadline: Deadline
    ) -> Operation[Any]:
        """Say how a question would be answered."""
        columns = yield from self._known_columns(catalog, deadline)
        return (yield from self._call(lambda: explain(columns, condition, order), deadline))

    def info(self, deadline: Deadline) -> Operation[dict[str, Any]]:
        """Return what the archive holds."""
        catalogs: dict[str, Any] = {}
        total = 0
        for name in (yield from self.catalogs(deadline, refresh=True)):
            rows = yield from self.estimated_count(name, deadline)
            files = self.export.files(name)
            size = sum(file.stat().st_size for file in files)
            catalogs[name] = {"documents": rows, "files": len(files), "bytes": size}
            total += size
        return {"path": str(self.export.folder), "bytes": total, "catalogs": catalogs}

    def close(self) -> None:
        """Close DuckDB."""
        self.export.close()

    def _known_columns(self, catalog: str, deadline: Deadline) -> Operation[Columns]:
        name = yield from self.known(catalog, deadline)
        columns: Columns = yield from self._call(lambda: self._columns_of(name), deadline)
        return columns

    def _columns_of(self, name: str) -> Columns:
        if name not in self._columns:
            self._columns[name] = Columns(self.export, name)
        return self._columns[name]

    def _placed(self, catalog: str, deadline: Deadline) -> Operation[Columns]:
        columns = yield from self._known_columns(catalog, deadline)
        if not columns.has_places:
            raise NotFoundError(f"{catalog} has no positions", position=catalog)
        return columns

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
        with self.export.in_time(deadline):
            return function()


def _find(export: Export, columns: Columns, query: Find) -> Iterable[Document]:
    return find(export, columns, query.condition, query.projection, query.order, query.skip, query.limit)
