"""Headers that were read once, kept as a table: files are opened from it without reading their headers again."""

from __future__ import annotations

import bisect
import os
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require
from nuncius.cloudfits import rows
from nuncius.errors import ConfigurationError, FileChangedError, NotFoundError, StorageError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nuncius.cloudfits.hdu import FileDescription

_NEEDED = (
    "url",
    "query",
    "etag",
    "last_modified",
    "size",
    "trailing_bytes",
    "complete",
    "hdu",
    "header_offset",
)
_DESCRIBING = (*_NEEDED, "header", "error")


class HeaderIndex:
    """The headers of many files, as `scan_headers` has read them: a table with a row for each HDU.

    Made by `HeaderIndex.of`. A file on disk is read when it is needed and no more than that: of 100,000 files, the
    headers of one cost one block of rows.

    Parameters
    ----------
    table : Rows in memory or on disk
        Where the rows are.
    """

    def __init__(self, table: _Memory | _Parquet) -> None:
        self._rows = table
        missing = [name for name in _NEEDED if name not in table.names]
        if missing:
            raise ConfigurationError(
                f"{table.where} is no table of headers: the columns {', '.join(missing)} are missing. "
                "scan_headers makes one"
            )

    @classmethod
    def of(cls, index: str | os.PathLike[str] | pa.Table | HeaderIndex) -> HeaderIndex:
        """Return an index over a Parquet file or a table that `scan_headers` made.

        Raises
        ------
        NotFoundError
            If there is no such file.
        ConfigurationError
            If it holds no table of headers.
        MissingExtraError
            If pyarrow is not installed.
        """
        if isinstance(index, HeaderIndex):
            return index
        if isinstance(index, (str, os.PathLike)):
            return cls(_Parquet(Path(index)))
        arrow = require("pyarrow", extra="parquet")
        if isinstance(index, arrow.Table):
            return cls(_Memory(index))
        raise ConfigurationError(
            f"an index is a path of a Parquet file or a pyarrow.Table, not {type(index).__name__}"
        )

    def find(self, url: str | os.PathLike[str]) -> FileDescription:
        """Return a file as its headers describe it.

        Parameters
        ----------
        url : str or path
            As it was scanned. A link may be signed anew.

        Raises
        ------
        NotFoundError
            If the file is not in the index, or could not be read when it was scanned.
        ConfigurationError
            If the index has more than one version of it, or was made without headers.
        StorageError
            If rows of the file are missing or damaged.
        """
        name = rows.name_of(url)
        number = self._numbers.get(_key(*name))
        if number is None:
            raise self._unknown(name.url)
        if "header" not in self._rows.names:
            raise ConfigurationError(
                f"{self._rows.where} was made with with_headers=False, and without headers no file can be opened from it"
            )
        order, begins = self._order
        chosen = order[begins[number] : begins[number + 1]]
        versions = _versions(self._rows.read(chosen.tolist(), _DESCRIBING))
        whole = [version for version in versions if version[0]["hdu"] is not None]
        if not whole:
            raise NotFoundError(
                f"{self._rows.where} has no headers of {name.url}: when it was scanned, reading it failed "
                f"({versions[0][0]['error']})",
                url=name.url,
            )
        if any(_identity(version) != _identity(whole[0]) for version in whole):
            raise ConfigurationError(
                f"{self._rows.where} has {len(whole)} versions of {name.url}: keep the rows of one of them",
                url=name.url,
            )
        return rows.describe(whole[0], self._rows.where)

    @property
    def urls(self) -> list[str]:
        """The files, as URLs without their queries, in the order in which they were scanned."""
        return [key.partition("\n")[0] for key in self._numbers]

    @property
    def failures(self) -> dict[str, str]:
        """The files that could not be read, each with the reason; ``?…`` and a digest stand for the query of a link."""
        table = self._rows.columns(("url", "query", "hdu", "error"))
        failed = table.filter(table["hdu"].is_null()).to_pylist()
        return {row["url"] + (f"?…{row['query']}" if row["query"] else ""): row["error"] for row in failed}

    @property
    def table(self) -> pa.Table:
        """All rows, read into memory."""
        return self._rows.columns(None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a Parquet file, which is there whole or not at all.

        Raises
        ------
        StorageError
            If it can't be written.
        """
        from nuncius.cloudfits.parts import write_table

        write_table(Path(path), self.table)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, url: object) -> bool:
        return isinstance(url, (str, os.PathLike)) and _key(*rows.name_of(url)) in self._numbers

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._rows.where}: {len(self):,} files>"

    # Finding ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _keys(self) -> Any:
        """What tells the file of each row from others."""
        compute = require("pyarrow.compute", extra="parquet")
        table = self._rows.columns(("url", "query"))
        query = compute.fill_null(table["query"].cast("string"), "")
        return compute.binary_join_element_wise(table["url"].cast("string"), query, "\n")

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {key: number for number, key in enumerate(self._keys.unique().to_pylist())}

    @cached_property
    def _order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows file by file, and where those of each file begin among them."""
        import numpy as np

        compute = require("pyarrow.compute", extra="parquet")
        numbers = compute.index_in(self._keys, value_set=self._keys.unique()).to_numpy()
        order = np.argsort(numbers, kind="stable")
        return order, np.searchsorted(numbers[order], np.arange(len(self._numbers) + 1))

    def _unknown(self, url: str) -> NotFoundError:
        last = url.rpartition("/")[2]
        near = next((other for other in self.urls if last and other.rpartition("/")[2] == last), None)
        hint = f"; it has {near}" if near else ""
        return NotFoundError(
            f"{url} is not among the {len(self):,} files of {self._rows.where}{hint}", url=url
        )


class _Memory:
    """Rows in memory."""

    where = "the table of headers"

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.names = frozenset(table.schema.names)

    def columns(self, names: tuple[str, ...] | None) -> pa.Table:
        return self._table if names is None else self._table.select(list(names))

    def read(self, numbers: list[int], names: tuple[str, ...]) -> list[dict[str, Any]]:
        table = self.columns(names)
        return [table.slice(number, 1).to_pylist()[0] for number in numbers]


class _Parquet:
    """Rows in a Parquet file, which must stay the same."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._path = path
        self._stamp = self._now()
        self._metadata = self._open(None).metadata
        self.names = frozenset(self._metadata.schema.to_arrow_schema().names)
        sizes = [self._metadata.row_group(number).num_rows for number in range(self._metadata.num_row_groups)]
        self._ends = list(accumulate(sizes))
        self._latest: tuple[int, pa.Table] | None = None

    def columns(self, names: tuple[str, ...] | None) -> pa.Table:
        return self._open(self._metadata).read(columns=None if names is None else list(names))

    def read(self, numbers: list[int], names: tuple[str, ...]) -> list[dict[str, Any]]:
        found = []
        for number in numbers:
            group = bisect.bisect_right(self._ends, number)
            table = self._group(group, names)
            begin = self._ends[group] - table.num_rows
            found.append(table.slice(number - begin, 1).to_pylist()[0])
        return found

    def _group(self, number: int, names: tuple[str, ...]) -> pa.Table:
        # Neighbours are asked for one after the other.
        latest = self._latest
        if latest is None or latest[0] != number:
            table = self._open(self._metadata).read_row_group(number, columns=list(names))
            latest = self._latest = (number, table)
        return latest[1]

    def _open(self, metadata: Any) -> Any:
        arrow = require("pyarrow", extra="parquet")
        parquet = require("pyarrow.parquet", extra="parquet")
        if self._now() != self._stamp:
            raise FileChangedError(f"{self._path} was replaced while it was in use; open the index again")
        try:
            return parquet.ParquetFile(self._path, metadata=metadata)
        except (OSError, arrow.ArrowException) as error:
            raise StorageError(f"{self._path} can't be read as Parquet: {error}") from error

    def _now(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except FileNotFoundError as error:
            raise NotFoundError(
                f"there is no index {self._path}; scan_headers(…, out=…) writes one"
            ) from error
        except OSError as error:
            raise StorageError(f"{self._path} can't be read: {error.strerror}") from error
        return status.st_mtime_ns, status.st_size, status.st_ino


def _key(url: str, query: str | None) -> str:
    return f"{url}\n{query or ''}"


def _versions(found: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Divide the rows of one file where it begins anew: it was scanned more than once."""
    versions: list[list[dict[str, Any]]] = []
    for row in found:
        if not versions or row["hdu"] in {None, 0}:
            versions.append([])
        versions[-1].append(row)
    return versions


def _identity(version: list[dict[str, Any]]) -> tuple[Any, ...]:
    return version[0]["size"], version[0]["etag"], [row["header"] for row in version]
