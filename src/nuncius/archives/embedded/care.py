"""Looking after an archive: pruning, copies, and what was kept of single alerts."""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius._core.when import duration_s, unix_s
from nuncius.archives.embedded import query
from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.histories import prune_histories
from nuncius.archives.language import Projection
from nuncius.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nuncius.archives.embedded.database import Database
    from nuncius.archives.language import Document

log = logging.getLogger("nuncius.archives")

_UNIX_EPOCH_MJD = 40587.0
_DAY_S = 86400.0


def prune(database: Database, older_than: Any) -> int:
    """Delete alerts and history that are older than a time or a duration; return how many alerts it were."""
    seconds = duration_s(older_than)
    when = time.time() - seconds if seconds is not None else unix_s(older_than)
    if when is None:
        raise ConfigurationError(
            f"older_than={older_than!r} is not understood; give '30d', a timedelta, an aware datetime or a Time"
        )
    limit = _UNIX_EPOCH_MJD + when / _DAY_S
    deleted = 0
    with database.writing() as connection:
        for name in database.catalogs("alerts"):
            old = f"SELECT id FROM {quoted(name)} WHERE mjd < ?"
            for part in ("images", "revisions"):
                connection.execute(f"DELETE FROM {quoted(f'{name}:{part}')} WHERE alert IN ({old})", (limit,))
            prune_histories(connection, name, limit)
            deleted += connection.execute(f"DELETE FROM {quoted(name)} WHERE mjd < ?", (limit,)).rowcount
    return deleted


def backup(database: Database, path: str | Path) -> Path:
    """Copy the archive to another file while it is in use."""
    target = Path(path).expanduser()
    if target.exists():
        raise StorageError(f"{target} exists; a backup never replaces a file", position=str(target))
    part = target.with_name(target.name + ".part")
    if not target.parent.is_dir():
        raise StorageError(
            f"{target} can't be made: there is no folder {target.parent}", position=str(target)
        )
    part.unlink(missing_ok=True)  # of a backup that was broken off
    with database.errors():
        copy = sqlite3.connect(part)
        try:
            database.connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file alone, on the disk
        finally:
            copy.close()
    part.replace(target)
    return target


def revisions(database: Database, catalog: str, document_id: str) -> list[Document]:
    """Return the earlier versions of an alert, oldest first."""
    statement = (
        f"SELECT r.document, r.extras, a.annotations FROM {quoted(f'{catalog}:revisions')} r "
        f"JOIN {quoted(catalog)} a ON a.id = r.alert WHERE a._id = ? ORDER BY r.received"
    )
    with database.errors():
        rows = database.connection.execute(statement, (document_id,)).fetchall()
    return [query.read_document(*row) for row in rows]


def packets(database: Database, catalog: str, condition: Mapping[str, Any]) -> Iterator[bytes]:
    """Give the packets of alerts that were kept with them, byte for byte."""
    missing = 0
    for document in query.find(database, catalog, condition, Projection({"_id": 1}), [], 0, None):
        with database.errors():
            row = database.connection.execute(
                f"SELECT packet FROM {quoted(catalog)} WHERE _id = ?", (document["_id"],)
            ).fetchone()
        if row is not None and row[0] is not None:
            yield row[0]
        else:
            missing += 1
    if missing:
        log.warning(
            "%s: %d alerts were kept without their packet (ingest with keep='packet')", catalog, missing
        )
