"""A recording: the messages of a stream in one SQLite file, byte for byte, to be replayed with ``replay://FILE``."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius.alerts import Origin
from nuncius.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuncius.alerts import Alert, Notice

_APPLICATION_ID = 0x4E555243  # "NURC"
_VERSION = 1
_BUSY_S = 30.0
_ROWS_AT_ONCE = 500
_BYTES_AT_ONCE = 8 * 1024 * 1024
_LARGEST_MS = 253_402_300_799_999  # the last moment of the calendar

_LAYOUT = """
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,      -- kafka, replay, file
    broker TEXT,                -- the name of the broker's profile
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    timestamp_ms INTEGER,       -- when the broker took it
    received_ms INTEGER NOT NULL,
    key BLOB,
    headers TEXT NOT NULL,      -- JSON: pairs of a name and the value in base64
    value BLOB NOT NULL,
    digest BLOB NOT NULL UNIQUE -- of the place and the value: a message that comes again is one row
) STRICT;
"""


class RecordingSink:
    """Keeps the messages behind alerts, with all that their broker said of them, in one SQLite file.

    A file that exists is added to; a message that comes again is kept once. Two programs may write to one file.

    Parameters
    ----------
    path : Path
        The file; its folder must exist.

    Raises
    ------
    StorageError
        If the file can't be written, or is something else.

    Notes
    -----
    A message with several alerts, each of which can stand alone, is kept as several.

    Examples
    --------
    >>> with open_stream("antares://extragalactic") as stream:  # doctest: +SKIP
    ...     stream.save(RecordingSink(Path("night.recording")))
    >>> open_stream("replay://night.recording", pace=10)  # doctest: +SKIP
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).expanduser().absolute()
        if self.path.is_dir() or not self.path.parent.is_dir():
            problem = "is a folder" if self.path.is_dir() else f"can't be made: no folder {self.path.parent}"
            raise StorageError(f"the recording {path} {problem}", position=str(path))
        with _opened(self.path, "rwc") as connection, _transaction(connection):
            _check(connection, self.path, may_be_new=True)

    def write(self, items: Sequence[Alert | Notice]) -> None:
        """Keep the messages of a batch, in one transaction that is on the disk when this returns.

        Raises
        ------
        StorageError
            If they can't be written.
        """
        received_ms = time.time_ns() // 1_000_000
        rows = [_row(item, received_ms) for item in items]
        # The file is opened for each batch, which costs little beside its way to the disk: so nothing is shared by
        # threads, or carried across a fork, and the file can be moved away.
        with _opened(self.path, "rw") as connection, _transaction(connection):
            connection.executemany(
                "INSERT INTO messages (service, broker, topic, partition, offset, timestamp_ms, received_ms, key, headers, "
                "value, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
                rows,
            )

    def close(self) -> None:
        """See `nuncius.alerts.sink.Sink`: nothing is held."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message to be replayed.

    Parameters
    ----------
    origin : Origin
        Where it came from first.
    value : bytes, optional
        What it holds.
    received_ms : int, optional
        When it was recorded, in milliseconds since 1970 UTC.
    topic : str, optional
        The broker's topic, where `origin` names a file.
    """

    origin: Origin
    value: bytes | None
    received_ms: int | None = None
    topic: str | None = None

    @property
    def timestamp_ms(self) -> int | None:
        """When the broker took it, in milliseconds since 1970 UTC."""
        return _milliseconds(self.origin.timestamp)


class Recording:
    """What is in a recording when it is opened; what is added later is not seen.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    StorageError
        If it can't be read, or is no recording.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        with _opened(self.path, "rw") as connection:
            _check(connection, self.path, may_be_new=False)
            self.count, self._last, stamped = connection.execute(
                "SELECT count(*), coalesce(max(id), 0), count(timestamp_ms) FROM messages"
            ).fetchone()
        self.is_stamped: bool = stamped == self.count
        """Whether all messages have the time at which the broker took them."""

    def __iter__(self) -> Iterator[Recorded]:
        """Give the messages in the order in which they were recorded.

        Raises
        ------
        StorageError
            If they can't be read.
        """
        done = 0
        while done < self._last:
            rows = self._after(done)
            if not rows:
                return
            done = rows[-1][0]
            for row in rows:
                yield _recorded(row, self.path)

    def _after(self, done: int) -> list[tuple[Any, ...]]:
        """Read some rows: the file is not held open, nor too much of it in memory."""
        found = []
        size = 0
        with _opened(self.path, "rw") as connection:
            for row in connection.execute(
                "SELECT id, service, broker, topic, partition, offset, timestamp_ms, key, headers, value, received_ms "
                "FROM messages WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
                (done, self._last, _ROWS_AT_ONCE),
            ):
                found.append(row)
                size += len(row[9])
                if size >= _BYTES_AT_ONCE:
                    break
        return found


def is_recording(path: Path) -> bool:
    """Tell whether a file is a recording, by its beginning."""
    try:
        with path.open("rb") as file:
            head = file.read(72)
    except OSError:
        return False
    # Source: "The Database Header" of SQLite's file format; the application's number stands at 68.
    return head.startswith(b"SQLite format 3\0") and head[68:72] == _APPLICATION_ID.to_bytes(4, "big")


@contextlib.contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """Open the file for a ``with`` block; SQLite's errors are raised in our words."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=_BUSY_S, isolation_level=None)
        ) as connection:
            # A rollback journal keeps the recording one file; EXTRA makes its end durable, as FULL does with a log.
            connection.execute("PRAGMA synchronous = EXTRA")
            yield connection
    except sqlite3.Error as error:
        raise StorageError(
            f"the recording {path} can't be used: {error}. What was not written is not acknowledged and comes again",
            position=str(path),
        ) from error


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _check(connection: sqlite3.Connection, path: Path, *, may_be_new: bool) -> None:
    """Make the layout of a new file; refuse what is no recording."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    is_empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if may_be_new and is_empty and application == version == 0:
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute(_LAYOUT)
    elif application != _APPLICATION_ID:
        raise StorageError(
            f"{path} is an SQLite file, but no recording of nuncius; give another path", position=str(path)
        )
    elif version > _VERSION:
        raise StorageError(
            f"{path} was recorded by a later release of nuncius (layout {version}; this release knows {_VERSION}). "
            "Update: python -m pip install --upgrade nuncius",
            position=str(path),
        )


def _row(item: Alert | Notice, received_ms: int) -> tuple[Any, ...]:
    origin = item.origin or Origin("", "")
    place = (origin.service, origin.broker, _plain(origin.topic), origin.partition, origin.offset)
    digest = hashlib.blake2b(json.dumps(place).encode(), digest_size=16)
    digest.update(b"\0" + item.raw)
    headers = json.dumps([[name, _base64(content)] for name, content in origin.headers])
    return (
        *place,
        _milliseconds(origin.timestamp),
        received_ms,
        origin.key,
        headers,
        item.raw,
        digest.digest(),
    )


def _milliseconds(stamp: datetime | None) -> int | None:
    return None if stamp is None else round(stamp.timestamp() * 1000)


def _plain(text: str) -> str:
    """Write a path that is no Unicode so that SQLite can hold it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _recorded(row: tuple[Any, ...], path: Path) -> Recorded:
    id_, service, broker, topic, partition, offset, stamp_ms, key, headers, value, received_ms = row
    try:
        stamp = None
        if stamp_ms is not None:
            stamp = datetime.fromtimestamp(min(stamp_ms, _LARGEST_MS) / 1000, UTC)
        pairs = tuple((str(name), _bytes(content)) for name, content in json.loads(headers))
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise StorageError(f"{path}: message {id_} is damaged: {error}", position=str(path)) from error
    return Recorded(Origin(service, topic, partition, offset, stamp, key, pairs, broker), value, received_ms)


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
