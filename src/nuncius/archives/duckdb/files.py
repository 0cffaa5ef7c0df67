"""The files of an exported archive, and DuckDB on them."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import tempfile
import threading
import weakref
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require
from nuncius.errors import ConfigurationError, DeadlineError, NotFoundError, StorageError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nuncius._core.operations import Deadline

_ROWS = 1000  # that are fetched at a time
_OPTIONS = {
    # DuckDB never goes to the network by itself.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


class Export:
    """A folder that `archive.export` wrote. Every question has a connection of its own to one DuckDB a process.

    Parameters
    ----------
    folder : Path
        The folder.

    Raises
    ------
    MissingExtraError
        If duckdb is not installed.
    NotFoundError
        If there is no such folder.
    UnsupportedError
        If it is a file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self._duckdb = require("duckdb", extra="duckdb")
        self._lock = threading.Lock()
        self._local = threading.local()
        self._root: Any = None
        self._process = 0
        self._views: dict[str, str] = {}
        self._closed = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_after_fork, weakref.ref(self)))
        if self.folder.is_file():
            raise UnsupportedError(
                f"{folder} is a file; duckdb:/// reads the folder that archive.export(folder) writes, and no SQLite file",
                position=str(folder),
            )
        if not self.folder.is_dir():
            raise NotFoundError(f"there is no exported archive {folder}", position=str(folder))

    def catalogs(self) -> list[str]:
        """Return the names of the catalogs, sorted."""
        return sorted(path.parent.name for path in self.folder.glob("*/dataset") if path.is_dir())

    def files(self, catalog: str) -> list[Path]:
        """Return the files of a catalog, in the order of the sky.

        Raises
        ------
        StorageError
            If there are none.
        """
        files = list((self.folder / catalog / "dataset").rglob("*.parquet"))
        if not files:
            raise StorageError(f"{self.folder / catalog} has no Parquet files", position=catalog)
        return sorted(files, key=_cell)

    def view(self, catalog: str) -> str:
        """Return the name under which DuckDB knows a catalog; letters of two cases are one to it."""
        root = self._connection()
        with self._lock:
            if catalog not in self._views:
                listed = ", ".join(_literal(path) for path in self.files(catalog))
                name = f"catalog_{len(self._views)}"
                with self._errors():
                    root.execute(
                        f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{listed}], hive_partitioning = false)"
                    )
                self._views[catalog] = name
            return self._views[catalog]

    def columns(self, catalog: str) -> tuple[dict[str, str], set[str]]:
        """Return the columns of a catalog with their types, and the names of those that are fields of its documents.

        Left out are columns whose names differ in case alone, which DuckDB calls otherwise.

        Raises
        ------
        StorageError
            If the files are none that `archive.export` writes.
        """
        (first,) = map(_literal, self.files(catalog)[:1])
        names = [name for (name,) in self.rows(f"SELECT name FROM parquet_schema({first})")]
        known = [
            value
            for (value,) in self.rows(f"SELECT value FROM parquet_kv_metadata({first}) WHERE key = 'nuncius'")
        ]
        types = {name: kind for name, kind, *_ in self.rows(f"DESCRIBE {self.view(catalog)}")}
        often = Counter(name.lower() for name in names)
        try:
            fields = set(json.loads(known[0])["fields"])
        except (IndexError, KeyError, TypeError, ValueError):
            raise StorageError(
                f"{self.folder / catalog} was not written by archive.export, or by another release of it",
                position=catalog,
            ) from None
        return {name: types[name] for name in names if name in types and often[name.lower()] == 1}, fields

    # Asking ------------------------------------------------------------------------------------------------------------

    def rows(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        tables: Mapping[str, Any] | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """Give the rows of a query as they come.

        Parameters
        ----------
        sql : str
            The query; what users give stands in `parameters` alone.
        parameters : mapping, optional
            Values by name.
        tables : mapping, optional
            Tables that the query joins: name to a mapping of columns to arrays.

        Raises
        ------
        StorageError
            If a file can't be read.
        DeadlineError
            If the time given to `within` is over.
        """
        with self._asking(sql, parameters, tables) as cursor:
            while rows := self._fetched(cursor):
                yield from rows

    def arrays(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        tables: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Return the columns of a query as arrays; see `rows`."""
        with self._asking(sql, parameters, tables) as cursor, self._errors():
            return [*cursor.fetchnumpy().values()]

    def one(self, sql: str, parameters: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
        """Return the only row of a query; see `rows`."""
        (row,) = self.rows(sql, parameters)
        return row

    @contextlib.contextmanager
    def in_time(self, deadline: Deadline) -> Iterator[None]:
        """Break off what this thread asks within a ``with`` block when the time is over.

        Raises
        ------
        DeadlineError
            When it is.
        """
        if deadline.timeout_s is None:
            yield
            return
        watch = _Watch(deadline.remaining_s)
        self._local.watch = watch
        try:
            yield
        finally:
            self._local.watch = None
            watch.cancel()

    def close(self) -> None:
        """Close DuckDB."""
        self._closed = True
        with self._lock:
            if self._root is not None and self._process == os.getpid():
                self._root.close()
            self._root = None

    def _connection(self) -> Any:
        """Return the connection that others are made from; DuckDB's threads don't come along in a fork."""
        if self._closed:
            raise ConfigurationError(f"the archive {self.folder} is closed; open it again with open_archive")
        with self._lock:
            if self._root is None or self._process != os.getpid():
                spill = Path(tempfile.gettempdir(), f"nuncius-duckdb-{os.getpid()}-{id(self)}")
                with self._errors():
                    self._root = self._duckdb.connect(config={**_OPTIONS, "temp_directory": str(spill)})
                    self._root.execute("SET GLOBAL parquet_metadata_cache = true")
                self._process, self._views = os.getpid(), {}
            return self._root

    @contextlib.contextmanager
    def _asking(self, sql: str, parameters: Any, tables: Any) -> Iterator[Any]:
        cursor = self._connection().cursor()
        watch: _Watch | None = getattr(self._local, "watch", None)
        try:
            if watch is not None:
                watch.add(cursor)
            with self._errors():
                for name, columns in (tables or {}).items():
                    cursor.register(name, columns)
                cursor.execute(sql, parameters or {})
            yield cursor
        finally:
            if watch is not None:
                watch.remove(cursor)
            cursor.close()

    def _fetched(self, cursor: Any) -> list[tuple[Any, ...]]:
        with self._errors():
            rows: list[tuple[Any, ...]] = cursor.fetchmany(_ROWS)
            return rows

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        watch: _Watch | None = getattr(self._local, "watch", None)
        if watch is not None and watch.is_over:
            raise self._late()
        try:
            yield
        except self._duckdb.InterruptException as error:
            if watch is None or not watch.is_over:
                raise KeyboardInterrupt from error
            raise self._late() from error
        except self._duckdb.Error as error:
            problem = str(error).partition("\n")[0]
            raise StorageError(
                f"the exported archive {self.folder} can't be read: {problem}", position=str(self.folder)
            ) from error

    def _late(self) -> DeadlineError:
        return DeadlineError(
            f"the exported archive {self.folder} did not answer in the time that was given; ask for less at once, or give "
            "more time",
            position=str(self.folder),
        )


class _Watch:
    """Interrupts the cursors of a thread when its time is over."""

    def __init__(self, seconds: float) -> None:
        self.is_over = seconds <= 0
        self._cursors: list[Any] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def add(self, cursor: Any) -> None:
        with self._lock:
            self._cursors.append(cursor)

    def remove(self, cursor: Any) -> None:
        with self._lock:
            self._cursors.remove(cursor)

    def cancel(self) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
            for cursor in self._cursors:
                cursor.interrupt()


def _after_fork(of: weakref.ref[Export]) -> None:
    """Let the DuckDB of a parent process be: to free it would be to wait for threads that did not come along."""
    export = of()
    if export is not None:
        export._lock = threading.Lock()
        if export._root is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(export._root))


def quoted(name: str) -> str:
    """Quote the name of a table or column."""
    return '"' + name.replace('"', '""') + '"'


def _literal(path: Path) -> str:
    """Write a path so that DuckDB takes none of its letters for a pattern."""
    plain = "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path))
    return "'" + plain.replace("'", "''") + "'"


def _cell(path: Path) -> tuple[int, int, str]:
    """Sort files by where their cells begin in order 29."""
    order = path.parent.parent.name.partition("=")[2]
    cell = path.stem.partition("=")[2]
    if not (order.isdecimal() and cell.isdecimal()):
        return (1, 0, path.name)
    return (0, int(cell) << 2 * (29 - int(order)), path.name)
