"""The SQLite file of an archive: opening, connections, deadlines, and SQLite's errors in our words."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nuncius.archives.embedded.layout import CATALOG_TABLES, REFERENCE_INDEXES, REFERENCE_TABLE, VERSION
from nuncius.errors import ConfigurationError, DeadlineError, NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nuncius.errors import NunciusError

APPLICATION_ID = 0x4E554E43  # "NUNC"

Kind: TypeAlias = Literal["alerts", "catalog"]

_DEADLINE_STEPS = 5000  # of SQLite's virtual machine between two looks at the clock: a tenth of a millisecond
_BUSY_S = 30.0
_PAGE_BYTES = 8192  # of a new file: packets fill many pages, and each page costs two system calls to write
_ROWS_AT_ONCE = (50, 5, 1)  # with at most 16 values each: SQLite allows 999 in its oldest builds
_PAGE_CACHE_KIB = 64 * 1024
_MMAP_BYTES = 1 << 30
_NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "afs",
        "9p",
        "ceph",
        "lustre",
        "gpfs",
        "beegfs",
        "fuse.sshfs",
        "fuse.s3fs",
    }
)


class _Guarded(sqlite3.Connection):
    """A connection that another thread may close between two statements; within one Python's own would crash."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._guard = threading.RLock()
        super().__init__(*arguments, **options)

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        with self._guard:
            return super().execute(*arguments)

    def close(self) -> None:
        if not self._guard.acquire(blocking=False):
            with contextlib.suppress(sqlite3.ProgrammingError):  # the other thread was closing it too
                self.interrupt()
            self._guard.acquire()
        try:
            with contextlib.suppress(sqlite3.Error):  # which ends an interruption: it would keep the log too
                super().execute("SELECT 1").fetchall()
            super().close()
        finally:
            self._guard.release()


class _Connection:
    """Holds the connection of one thread, and closes it when the thread has ended."""

    __slots__ = ("__weakref__", "connection", "process")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.process = os.getpid()

    def __del__(self) -> None:
        self.connection.close()


class Database:
    """One archive file. Every thread, and every process after a fork, gets a connection of its own."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path.absolute()  # the working directory may change, and each thread opens the file anew
        self.read_only = read_only
        self._local = threading.local()
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._closed = False
        self._errors = _Errors(self._explained)
        self.write_lock = threading.Lock()
        self._writer: tuple[int, ThreadPoolExecutor] | None = None
        if not read_only:
            _refuse_network_file_system(path)
        if read_only and not path.is_file():
            raise NotFoundError(f"there is no archive {path}", position=str(path))
        if path.is_dir() or not path.parent.is_dir():
            problem = "is a folder" if path.is_dir() else f"can't be made: there is no folder {path.parent}"
            raise StorageError(f"the archive {path} {problem}", position=str(path))
        with self.errors():
            self._check_layout()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection of this thread."""
        self._check_open()
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None or self._local.process != os.getpid():
            holder = _Connection(self._connect())
            connection = holder.connection
            self._connections.add(holder)
            # The connection of a parent process is left alone: closing it here would touch its locks.
            self._local.before = getattr(self._local, "holder", None)
            self._local.holder, self._local.connection = holder, connection
            self._local.process = os.getpid()
        return connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give a connection within a transaction: committed, and on the disk, at the end; undone after an error.

        Raises
        ------
        StorageError
            If the archive can't be written.
        """
        if self.read_only:
            raise StorageError(f"the archive {self.path} was opened read-only", position=str(self.path))
        with self.write_lock, self.errors():
            connection = self.connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @property
    def writer(self) -> ThreadPoolExecutor:
        """A thread for transactions that are carried out while something else is done; each process has its own."""
        self._check_open()
        if self._writer is None or self._writer[0] != os.getpid():
            self._writer = os.getpid(), ThreadPoolExecutor(1, "nuncius-archive")
        return self._writer[1]

    def errors(self) -> _Errors:
        """Say SQLite's errors in our words: for a ``with`` block, which then raises `StorageError`."""
        return self._errors

    @property
    def layout(self) -> int:
        """The version of the file's layout."""
        with self.errors():
            return int(self.connection.execute("PRAGMA user_version").fetchone()[0])

    @contextlib.contextmanager
    def deadline(self, seconds: float | None) -> Iterator[None]:
        """Limit how long this thread may ask the archive within a ``with`` block; None is no limit.

        What takes longer is broken off. Of two blocks, one in the other, the earlier end holds.

        Raises
        ------
        DeadlineError
            When the time is over.
        """
        if seconds is None:
            yield
            return
        connection = self.connection
        outer: float | None = getattr(self._local, "deadline", None)
        end = time.monotonic() + seconds
        self._local.deadline = end if outer is None else min(end, outer)
        connection.set_progress_handler(self._is_too_late, _DEADLINE_STEPS)
        try:
            self.check_deadline()
            yield
        finally:
            self._local.deadline = outer
            if outer is None:
                connection.set_progress_handler(None, 0)

    def check_deadline(self) -> None:
        """Raise `DeadlineError` if the time of this thread's `deadline` is over."""
        if self._is_too_late():
            raise self._late()

    def _is_too_late(self) -> bool:
        end: float | None = getattr(self._local, "deadline", None)
        return end is not None and time.monotonic() >= end

    def _late(self) -> DeadlineError:
        return DeadlineError(
            f"the archive {self.path} did not answer in the time that was given; ask for less at once, make an index for "
            "what is asked often, or give more time",
            position=str(self.path),
        )

    def catalogs(self, kind: Kind | None = None) -> list[str]:
        """Return the names of the catalogs, all or those of a kind."""
        with self.errors():
            rows = self.connection.execute("SELECT * FROM catalogs ORDER BY name").fetchall()
        # A file of layout 1, which has alerts alone, has no column of kinds. Another program may be adding it just now.
        return [name for name, *rest in rows if kind is None or (rest[0] if rest else "alerts") == kind]

    def create_catalog(self, name: str) -> None:
        """Make the tables of a catalog of alerts, within a transaction."""
        # Statement by statement: executescript would commit the transaction first.
        for statement in CATALOG_TABLES.format(name=name).split(";\n"):
            if statement.strip():
                self.connection.execute(statement)

    def create_reference(self, name: str) -> None:
        """Make the table of a reference catalog, within a transaction; `publish_reference` shows it to the world."""
        self.connection.execute(REFERENCE_TABLE.format(name=name))

    def publish_reference(self, made: str, name: str) -> None:
        """Give a table of `create_reference` its name and indexes, within a transaction.

        A reference catalog that has the name is replaced; what users had indexed of it is indexed again.
        """
        execute = self.connection.execute
        indexes = dict.fromkeys(statement.format(name=name) for statement in REFERENCE_INDEXES)
        more = "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
        indexes |= dict.fromkeys(sql for (sql,) in execute(more, (name,)).fetchall())
        execute(f"DROP TABLE IF EXISTS {quoted(name)}")
        execute(f"ALTER TABLE {quoted(made)} RENAME TO {quoted(name)}")
        for statement in indexes:
            execute(statement)
        execute("INSERT OR REPLACE INTO catalogs (name, kind) VALUES (?, 'catalog')", (name,))

    def close(self) -> None:
        """Close all connections; a transaction that is under way in another thread is undone."""
        self._closed = True
        self._writer = None  # its thread ends when nobody has it any more
        for holder in list(self._connections):
            if holder.process == os.getpid():
                holder.connection.close()
                self._connections.discard(holder)

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError(f"the archive {self.path} is closed; open it again with open_archive")

    def _connect(self) -> sqlite3.Connection:
        # Opening by URI is the only way to ask for read-only.
        if not self.read_only:
            return self._open("mode=rwc")
        try:
            return self._open("mode=ro")
        except sqlite3.OperationalError as error:
            # Where the folder can't be written, SQLite can't make its shared memory; it needs none when nobody writes.
            unwritable = getattr(error, "sqlite_errorname", "").startswith(
                ("SQLITE_READONLY", "SQLITE_CANTOPEN")
            )
            if not unwritable or Path(f"{self.path}-wal").exists():
                raise
            return self._open("mode=ro&immutable=1")

    def _open(self, options: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.resolve().as_uri()}?{options}",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            factory=_Guarded,
        )
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute(f"PRAGMA cache_size = {-_PAGE_CACHE_KIB}")
        connection.execute(f"PRAGMA mmap_size = {_MMAP_BYTES}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    def _check_layout(self) -> None:
        connection = self.connection
        connection.execute("BEGIN")  # one state of the file: another process may be making it
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        connection.execute("COMMIT")
        fresh = empty and application == 0 and version == 0 and not self.read_only
        if application != APPLICATION_ID and not fresh:
            raise StorageError(
                f"{self.path} is an SQLite file, but no archive of nuncius; give another path",
                position=str(self.path),
            )
        if version > VERSION:
            raise StorageError(
                f"{self.path} was written by a later release of nuncius (layout {version}; this release knows up to "
                f"{VERSION}). Update: python -m pip install --upgrade nuncius",
                position=str(self.path),
            )
        if self.read_only:
            return
        mode = _write_ahead(connection)
        if mode != "wal":
            raise StorageError(
                f"the file system of {self.path} does not allow SQLite's write-ahead log (it answers {mode!r}), so "
                "other programs could not read while one writes. Keep the archive on a local disk",
                position=str(self.path),
            )
        if version < VERSION:
            self._bring_up_to_date()

    def _bring_up_to_date(self) -> None:
        """Make the tables of a new file, or the changes since an earlier layout, in one transaction."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[
                0
            ]  # another process may have been quicker
            if version == 0:
                connection.execute(
                    "CREATE TABLE catalogs (name TEXT PRIMARY KEY, kind TEXT NOT NULL DEFAULT 'alerts')"
                )
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            if version == 1:
                connection.execute("ALTER TABLE catalogs ADD COLUMN kind TEXT NOT NULL DEFAULT 'alerts'")
            if version in {1, 2}:
                for (name,) in connection.execute(
                    "SELECT name FROM catalogs WHERE kind = 'alerts'"
                ).fetchall():
                    connection.execute(f"ALTER TABLE {quoted(name)} ADD COLUMN in_packet TEXT")
                    connection.execute(f"ALTER TABLE {quoted(f'{name}:points')} ADD COLUMN last_mjd REAL")
            connection.execute(f"PRAGMA user_version = {max(version, VERSION)}")
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _explained(self, error: sqlite3.Error) -> StorageError | DeadlineError:
        name = getattr(error, "sqlite_errorname", "") or ""
        text = str(error)
        if name.startswith("SQLITE_INTERRUPT") and self._is_too_late():
            return self._late()
        if self._closed:
            reason = "it was closed meanwhile. Open it again with open_archive"
        elif name.startswith("SQLITE_FULL"):
            reason = "the disk is full. What is in the archive stays readable; make room and go on"
        elif name.startswith("SQLITE_READONLY") or "readonly" in text:
            reason = "the file or its folder may not be written. Change its permissions, or open it with read_only=True"
        elif name.startswith("SQLITE_BUSY"):
            reason = f"another program has been writing to it for more than {_BUSY_S:g} s. Try again when it is done"
        elif name.startswith("SQLITE_NOTADB"):
            reason = "it is not an SQLite file. Give another path"
        elif name.startswith("SQLITE_CORRUPT"):
            reason = "the file is damaged. Restore a backup (nuncius archive backup makes them)"
        elif name.startswith("SQLITE_CANTOPEN"):
            reason = "it can't be opened. Check that the folder exists and that you may write there"
        else:
            reason = text
        return StorageError(f"the archive {self.path}: {reason} ({name or type(error).__name__}: {text})",
                            position=str(self.path))  # fmt: skip


class _Errors:
    """Turns SQLite's errors into ours; a class, because a generator would cost a tenth of a quick query."""

    def __init__(self, explained: Callable[[sqlite3.Error], NunciusError]) -> None:
        self._explained = explained

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise self._explained(error) from error


def _write_ahead(connection: sqlite3.Connection) -> str:
    """Switch to the write-ahead log, and return the mode that the file then has.

    SQLite itself does not wait for other programs here; two that make one archive at once would not both succeed.
    """
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if (
                not getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
                or time.monotonic() > deadline
            ):
                raise
        time.sleep(0.01)


def network_file_system(path: Path, mounts: str) -> str | None:
    """Return the type of the network file system that a path lies on, or None.

    Parameters
    ----------
    path : Path
        An absolute path.
    mounts : str
        The text of ``/proc/self/mountinfo``.
    """
    best, kind = "", None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        place = fields[4].replace("\\040", " ")
        inside = str(path) == place or str(path).startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, kind = place, after.split()[0]
    return kind if kind in _NETWORK_FILE_SYSTEMS else None


def _refuse_network_file_system(path: Path) -> None:
    mounts = Path("/proc/self/mountinfo")  # Linux; elsewhere SQLite itself is the only judge
    if not mounts.is_file():
        return
    kind = network_file_system(path.resolve(), mounts.read_text(encoding="utf-8", errors="replace"))
    if kind is not None:
        raise StorageError(
            f"{path} lies on a network file system ({kind}), where SQLite can lose data when several programs use the "
            "file. Keep the archive on a local disk and copy it with `nuncius archive backup`",
            position=str(path),
        )


def insert_rows(
    connection: sqlite3.Connection,
    table: str,
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    *,
    known: Literal["ABORT", "IGNORE", "REPLACE"] = "ABORT",
) -> None:
    """Insert rows of values of the named columns, within a transaction; `known` is SQLite's word for a row that is there.

    Many rows stand in one statement, because at each of its ends Python's lock changes hands between two threads. But
    statements have few lengths: each is kept for the next time, and with it copies of the values of its last one.
    """
    mark = f"({', '.join('?' * len(names))})"
    begin = 0
    while begin < len(rows):
        count = next(size for size in _ROWS_AT_ONCE if size <= len(rows) - begin)
        connection.execute(
            f"INSERT OR {known} INTO {quoted(table)} ({', '.join(names)}) VALUES {', '.join([mark] * count)}",
            [*chain.from_iterable(rows[begin : begin + count])],
        )
        begin += count


def quoted(name: str) -> str:
    """Quote a table name."""
    return '"' + name.replace('"', '""') + '"'
