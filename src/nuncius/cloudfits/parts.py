"""The rows of a scan on their way to one table: part by part, in memory or in a folder where they survive a crash."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nuncius._core.files import sync_folder
from nuncius._core.lazy import require
from nuncius.cloudfits import keywords as columns
from nuncius.cloudfits.rows import LAYOUT
from nuncius.errors import NotFoundError, NunciusError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

_GROUP_ROWS = 2000
_GROUP_BYTES = 8 << 20  # a row group is what is read to find one file
# Reading again may help against these.
_PASSING = ("UnreachableError", "TlsError", "DeadlineError", "ServerError", "LoginError")


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the files of a scan.

    Parameters
    ----------
    digest : str
        Of its files, and of what is read of them.
    first : int
        The how-manieth of all files its first one is.
    urls : tuple of str or path
        Its files.
    """

    digest: str
    first: int
    urls: tuple[str | os.PathLike[str], ...] = field(repr=False)


def _is_table(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in {b"PAR1", b""}


class MemoryParts:
    """Parts in memory."""

    def __init__(self) -> None:
        self._tables: dict[int, pa.Table] = {}

    def has(self, part: Part) -> bool:
        """Tell whether a part is there."""
        return part.first in self._tables

    def keep(self, part: Part, table: pa.Table) -> None:
        """Keep a part."""
        self._tables[part.first] = table

    def table(self, part: Part, names: list[str] | None = None) -> pa.Table:
        """Return a part, or some columns of it."""
        table = self._tables[part.first]
        return table if names is None else table.select(names)


class FolderParts:
    """Parts in a folder beside the file that is to be written.

    Parameters
    ----------
    out : Path
        The file.
    resume : bool
        Whether parts that are there already are used.

    Raises
    ------
    StorageError
        If the folder can't be made, another scan is writing the same file, or `out` is something else than a table.
    """

    def __init__(self, out: Path, *, resume: bool) -> None:
        self.path = out.with_name(out.name + ".parts")
        self.token = secrets.token_hex(16)
        with _storing(out):
            if not out.parent.is_dir():
                raise NotFoundError(f"there is no folder {out.parent} to write {out.name} into")
            if out.exists() and not _is_table(out):
                raise StorageError(
                    f"{out} is there already and is no Parquet file: it is not replaced; give another name"
                )
            self.path.mkdir(exist_ok=True)
            self._lock = os.open(self.path, os.O_RDONLY)
            self._take_lock(out)
            for left in self.path.glob(".*.part"):  # of a crash
                left.unlink(missing_ok=True)
            if not resume:
                self._empty()
            (self.path / "token").write_text(self.token)

    def has(self, part: Part) -> bool:
        """Tell whether a part is there, and reading it again would not help."""
        parquet = require("pyarrow.parquet", extra="parquet")
        arrow = require("pyarrow", extra="parquet")
        try:
            errors = parquet.read_table(self._file(part), columns=["error"])["error"].unique().to_pylist()
        except (OSError, arrow.ArrowException):
            return False
        return not any(error and error.startswith(_PASSING) for error in errors)

    def keep(self, part: Part, table: pa.Table) -> None:
        """Keep a part; it is on the disk when this returns."""
        write_part(self.path, part, table)

    def table(self, part: Part, names: list[str] | None = None) -> pa.Table:
        """Return a part, or some columns of it."""
        parquet = require("pyarrow.parquet", extra="parquet")
        with _storing(self.path):
            return parquet.read_table(self._file(part), columns=names)

    def close(self, *, done: bool) -> None:
        """Let others write; what is done needs no parts any more."""
        if done:
            with contextlib.suppress(OSError):
                self._empty()
                (self.path / "token").unlink(missing_ok=True)
                self.path.rmdir()
        os.close(self._lock)

    def _file(self, part: Part) -> Path:
        return self.path / f"{part.digest}.parquet"

    def _empty(self) -> None:
        for file in self.path.glob("*.parquet"):
            file.unlink(missing_ok=True)

    def _take_lock(self, out: Path) -> None:
        import fcntl

        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise StorageError(f"another scan is writing {out}; wait for it, or give another out=") from error
        except OSError:
            return  # a file system without locks


def is_shared(folder: Path, token: str) -> bool:
    """Tell whether a folder, seen from here, is the one in which that token was written."""
    try:
        return (folder / "token").read_text() == token
    except OSError:
        return False


def write_part(folder: Path, part: Part, table: pa.Table) -> None:
    """Write a part into the folder of the parts."""
    write_table(folder / f"{part.digest}.parquet", table)


# One table ---------------------------------------------------------------------------------------------------------------


def merged(
    parts: list[Part], kept: MemoryParts | FolderParts, keywords: Mapping[str, str]
) -> Iterator[pa.Table]:
    """Give all parts in their order, with the keywords as columns of types that hold all values.

    Parameters
    ----------
    parts : list of Part
        In their order.
    kept : MemoryParts or FolderParts
        Where they are.
    keywords : mapping of str to str
        Each keyword, and its column.
    """
    names = list(keywords.values())
    kinds: dict[str, set[str]] = {name: set() for name in names}
    for part in parts if names else ():
        some = kept.table(part, names)
        for name in names:
            kinds[name] |= columns.kinds_of(some[name])
    types = {name: columns.type_of(found) for name, found in kinds.items()}
    metadata = {"nuncius": json.dumps({"layout": LAYOUT, "keywords": dict(keywords)})}
    compute = require("pyarrow.compute", extra="parquet")
    for part in parts:
        table = kept.table(part)
        table = table.set_column(0, "file", compute.add(table["file"], part.first))
        for name, kind in types.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, columns.typed(table[name], kind))
        yield table.replace_schema_metadata(metadata)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file that is there whole or not at all, and on the disk when this returns."""
    write_tables(path, [table])


def write_tables(path: Path, tables: Iterable[pa.Table], *, beside: Path | None = None) -> None:
    """Write tables one after the other to a Parquet file that is there whole or not at all.

    Parameters
    ----------
    path : Path
        What was there is replaced.
    tables : iterable of Table
        Of the same columns; one at least.
    beside : Path, optional
        The folder, on the same file system, in which it is written until it is whole.

    Raises
    ------
    StorageError
        If it can't be written; then nothing has changed.
    """
    parquet = require("pyarrow.parquet", extra="parquet")
    part = (beside or path.parent) / f".{secrets.token_hex(8)}.part"
    writer: Any = None
    try:
        with _storing(path), part.open("xb") as file:
            for group in _groups(tables):
                if writer is None:
                    writer = parquet.ParquetWriter(file, group.schema, **_options(group.schema))
                writer.write_table(group, row_group_size=max(1, len(group)))
            assert writer is not None
            writer.close()
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _options(schema: pa.Schema) -> dict[str, Any]:
    # Headers are all different: a dictionary of them is of no use.
    return {"compression": "zstd", "use_dictionary": [name for name in schema.names if name != "header"]}


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Give tables that are large enough to be worth a row group, and small enough to be read for one file."""
    arrow = require("pyarrow", extra="parquet")
    waiting: list[pa.Table] = []
    for table in tables:
        for some in _divided(table):
            if waiting and not _fits(waiting, some):
                yield arrow.concat_tables(waiting)
                waiting = []
            waiting.append(some)
    if waiting:
        yield arrow.concat_tables(waiting)


def _fits(waiting: list[pa.Table], table: pa.Table) -> bool:
    rows = sum(map(len, waiting)) + len(table)
    return rows <= _GROUP_ROWS and sum(some.nbytes for some in waiting) + table.nbytes <= _GROUP_BYTES


def _divided(table: pa.Table) -> Iterator[pa.Table]:
    per_row = max(1, table.nbytes // max(1, len(table)))
    step = max(1, min(_GROUP_ROWS, _GROUP_BYTES // per_row))
    for begin in range(0, max(1, len(table)), step):
        yield table.slice(begin, step)


@contextlib.contextmanager
def _storing(path: Path) -> Iterator[None]:
    """Say where it was that the disk failed."""
    arrow = require("pyarrow", extra="parquet")
    try:
        yield
    except NunciusError:  # some are OSErrors too
        raise
    except (OSError, arrow.ArrowException) as error:
        raise StorageError(f"{path} can't be written: {error}") from error
