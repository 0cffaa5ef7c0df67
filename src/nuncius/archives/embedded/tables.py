"""Tables of many kinds as pieces of plain Python values: what is loaded into a reference catalog.

CSV, FITS and Parquet files are read piece by piece, so a table may be larger than the memory.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import warnings
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers.expat import ExpatError

from nuncius._core.lazy import require
from nuncius.errors import ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_DELIMITERS = ",;\t|"
_MISSING = frozenset({"", "null", "NULL"})
_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# A number with zeros before it is a name: as a number it would lose them.
_INTEGER = re.compile(r"\s*[+-]?(?:0|[1-9][0-9]*)\s*")
_NEEDLESS_ZERO = re.compile(r"\s*[+-]?0[0-9]")


@dataclass(slots=True)
class Column:
    """A column of a piece of a table: plain values, None where nothing is, and the unit if there is one."""

    name: str
    values: list[Any]
    unit: Any = None


class KindChanged(Exception):  # noqa: N818 - nothing is wrong: the reading begins anew
    """A column of a CSV file turned out to hold texts after numbers of it were given out."""


class TableReader:
    """Reads a table in pieces.

    Parameters
    ----------
    source : Table, DataFrame, pyarrow.Table, str or Path
        A table, or a file whose kind its name tells.
    choose : callable
        Is given the names of all columns, and returns those that are wanted.
    rows : int
        How many rows make a piece.

    Raises
    ------
    NotFoundError
        If there is no such file.
    ConfigurationError
        If it is no table that is known.
    """

    def __init__(self, source: Any, choose: Callable[[list[str]], list[str]], rows: int) -> None:
        self._choose = choose
        self._rows = rows
        self._kinds: dict[str, str] = {}  # of the columns of a CSV file, as far as they have been seen
        self._source = source
        self._read: Callable[[], Iterator[list[Column]]]
        if hasattr(source, "colnames"):
            self._read = self._of_table
        elif hasattr(source, "iloc"):
            self._read = self._of_frame
        elif hasattr(source, "to_batches"):
            self._read = lambda: self._of_batches(source.to_batches(max_chunksize=rows))
        elif isinstance(source, str) or hasattr(source, "__fspath__"):
            self._read = self._of_file(Path(source).expanduser())
        else:
            raise ConfigurationError(
                f"a table is an astropy Table, a DataFrame or the path of a file, not {type(source).__name__}"
            )

    def pieces(self) -> Iterator[list[Column]]:
        """Give the pieces.

        Raises
        ------
        ConfigurationError
            If the table can't be read.
        KindChanged
            If the reading has to begin anew: what was given out is to be forgotten.
        """
        return self._read()

    def _of_file(self, path: Path) -> Callable[[], Iterator[list[Column]]]:
        if not path.is_file():
            raise NotFoundError(f"there is no file {path}", position=str(path))
        suffixes = [suffix.lower() for suffix in path.suffixes]
        kind = (
            suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else suffixes[-1] if suffixes else ""
        )
        readers: dict[str, Callable[[Path], Iterator[list[Column]]]] = {
            **dict.fromkeys((".csv", ".tsv", ".ecsv", ".txt"), self._of_csv),
            **dict.fromkeys((".fits", ".fit", ".fts"), self._of_fits),
            **dict.fromkeys((".parquet", ".pq", ".parq"), self._of_parquet),
            **dict.fromkeys((".vot", ".votable", ".xml"), self._of_votable),
        }
        if kind not in readers:
            raise ConfigurationError(
                f"the name of {path} does not tell what it is; known are {', '.join(readers)}, and .gz behind them",
                position=str(path),
            )
        return lambda: _read_file(path, readers[kind])

    def _chosen(self, names: Iterable[Any]) -> list[str]:
        """Return which columns are wanted."""
        known = list(names)
        if not all(isinstance(name, str) for name in known) or len(set(known)) != len(known):
            raise ConfigurationError(f"the names of the columns are not texts that differ: {known}")
        return self._choose(known)

    # Tables in memory ------------------------------------------------------------------------------------------------

    def _of_table(self) -> Iterator[list[Column]]:
        return self._of_astropy(self._source)

    def _of_astropy(self, table: Any) -> Iterator[list[Column]]:
        names = self._chosen(table.colnames)
        for start in range(0, max(len(table), 1), self._rows):
            piece = table[start : start + self._rows]
            yield [
                Column(name, _values(piece[name], name), getattr(piece[name], "unit", None)) for name in names
            ]

    def _of_frame(self) -> Iterator[list[Column]]:
        names = self._chosen(self._source.columns)
        for start in range(0, max(len(self._source), 1), self._rows):
            piece = self._source.iloc[start : start + self._rows]
            yield [Column(name, _values_of_series(piece[name])) for name in names]

    # Files -----------------------------------------------------------------------------------------------------------

    def _of_fits(self, path: Path) -> Iterator[list[Column]]:
        with _quiet_fits(path) as (table, count):
            names = self._chosen(table.columns.names)
            for start in range(0, max(count, 1), self._rows):
                piece = _piece_of_fits(table, start, start + self._rows)
                yield [
                    Column(name, _values(piece[name], name), getattr(piece[name], "unit", None))
                    for name in names
                ]

    def _of_votable(self, path: Path) -> Iterator[list[Column]]:
        from astropy.table import Table

        with _opened(path) as file:
            return self._of_astropy(Table.read(file, format="votable"))

    def _of_parquet(self, path: Path) -> Iterator[list[Column]]:
        parquet = require("pyarrow.parquet", extra="parquet")
        with parquet.ParquetFile(path) as file:
            names = self._chosen(file.schema_arrow.names)
            batches = file.iter_batches(batch_size=self._rows, columns=names)
            yield from self._of_batches(batches, empty=file.metadata.num_rows == 0, names=names)

    def _of_batches(
        self, batches: Iterable[Any], *, empty: bool = False, names: list[str] | None = None
    ) -> Iterator[list[Column]]:
        for batch in batches:
            chosen = self._chosen(batch.schema.names)
            yield [Column(name, _values_of_arrow(batch.column(name))) for name in chosen]
        if empty:
            yield [Column(name, []) for name in names or ()]

    def _of_csv(self, path: Path) -> Iterator[list[Column]]:
        with _opened(path) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text:
            lines = _without_comments(text)
            header = next(lines, "")
            if not header.strip():
                raise ConfigurationError(
                    f"{path} is empty: a table begins with the names of its columns", position=str(path)
                )
            delimiter = max(_DELIMITERS, key=header.count)
            reader = csv.reader(_chained(header, lines), delimiter=delimiter, strict=True)
            names = [name.strip() for name in next(reader, [])]
            chosen = [(names.index(name), name) for name in self._chosen(names)]
            while True:
                rows = _some_rows(reader, self._rows, len(names), path)
                columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
                yield [Column(name, self._typed(name, columns[index])) for index, name in chosen]
                if len(rows) < self._rows:
                    return

    def _typed(self, name: str, texts: Sequence[str]) -> list[Any]:
        """Turn the texts of a column into values of the kind that the column has so far."""
        known = self._kinds.get(name)
        if known != "text":
            if not any(texts):
                return [None] * len(texts)
            readers = {"number": _numbers, "truth": _truths}
            for kind in readers if known in {None, "missing"} else (known,):
                values = readers[kind](texts)
                if values is not None:
                    self._kinds[name] = (known or "missing") if _MISSING.issuperset(texts) else kind
                    return values
            self._kinds[name] = "text"
            if known is not None:
                raise KindChanged
        return [text or None for text in texts]


def _numbers(texts: Sequence[str]) -> list[Any] | None:
    """Read numbers, or return None if one of the texts is none."""
    if "_" in (joined := "".join(texts)) or not joined.isascii():
        return None  # Python would read them as numbers
    try:
        return [None if text in _MISSING else float(text) if "." in text else _whole(text) for text in texts]
    except ValueError:
        return None


def _whole(text: str) -> int | float:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NEEDLESS_ZERO.match(text):
        raise ValueError(text)  # a name: a number would lose the zero
    return float(text)


def _truths(texts: Sequence[str]) -> list[Any] | None:
    if not all(text in _MISSING or text in _TRUTHS for text in texts):
        return None
    return [_TRUTHS.get(text) for text in texts]


def _some_rows(reader: Any, count: int, width: int, path: Path) -> list[list[str]]:
    rows: list[list[str]] = []
    for row in reader:
        if len(row) != width:
            if not row:
                continue  # an empty line
            raise ConfigurationError(
                f"line {reader.line_num} of the table in {path} has {len(row)} values, and its header {width}",
                position=f"{path}:{reader.line_num}",
            )
        rows.append(row)
        if len(rows) == count:
            break
    return rows


def _without_comments(lines: Iterable[str]) -> Iterator[str]:
    """Leave out the comments before the header, as Gaia's tables have them."""
    begun = False
    for line in lines:
        begun = begun or not line.startswith("#")
        if begun:
            yield line


def _chained(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file, unpacked if it is packed."""
    with path.open("rb") as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        with gzip.GzipFile(fileobj=file) if packed else file as readable:
            yield readable


@contextmanager
def _quiet_fits(path: Path) -> Iterator[tuple[Any, int]]:
    """Open the first table of a FITS file, and say how many rows it has."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    tables = (fits.BinTableHDU, fits.TableHDU)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyUserWarning)  # what is amiss shows when it is read
        hdus = fits.open(path, memmap=path.suffix.lower() != ".gz")
        try:
            found = next((hdu for hdu in hdus if isinstance(hdu, tables)), None)
            count = 0 if found is None or found.data is None else len(found.data)
        except BaseException:
            hdus.close()
            raise
    with hdus:
        if found is None:
            raise ConfigurationError(f"{path} holds no table", position=str(path))
        yield found, count


def _piece_of_fits(table: Any, start: int, stop: int) -> Any:
    """Return some rows as an astropy table."""
    from astropy.table import Table

    piece = type(table)(data=table.data[start:stop], header=table.header)
    # The format has no other sign of a missing number or text than one that is none, or is empty: these are masked.
    return Table.read(piece, unit_parse_strict="silent")


def _read_file(path: Path, read: Callable[[Path], Iterator[list[Column]]]) -> Iterator[list[Column]]:
    """Say in our words what other libraries say of a file that is none of their kind."""
    try:
        yield from read(path)
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        csv.Error,
        zlib.error,
        SyntaxError,
        ExpatError,
    ) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"the table {path} can't be read: {error}", position=str(path)) from error


# Values --------------------------------------------------------------------------------------------------------------


def _values(column: Any, name: str) -> list[Any]:
    """Turn a column of an astropy table into plain values."""
    import numpy as np

    if hasattr(column, "to_datetime") and hasattr(column, "scale"):  # Time
        masked = np.broadcast_to(column.mask, column.shape).tolist()
        # What is masked may be any time: it is not looked at.
        return [
            None if gone else moment.utc.to_datetime(timezone=UTC)
            for gone, moment in zip(masked, column, strict=True)
        ]
    if not hasattr(column, "dtype"):
        raise ConfigurationError(
            f"the column {name!r} holds {type(column).__name__}, which can't stand in a document; leave it out with "
            "columns=[…], or turn it into numbers"
        )
    mask = getattr(column, "mask", None)
    array = np.asarray(getattr(getattr(column, "unmasked", column), "value", column))
    return values_of_array(array, None if mask is None or not np.any(mask) else np.asarray(mask))


def values_of_array(array: Any, mask: Any = None) -> list[Any]:
    """Turn an array into plain values, None where it is masked."""
    import numpy as np

    kind = array.dtype.kind
    if kind == "M":
        mask = np.isnat(array) if mask is None else mask | np.isnat(array)
        array = array.astype("datetime64[us]")
    values: list[Any] = array.tolist()
    if kind not in "biufUM" or (array.dtype.itemsize > 8 and kind == "f"):
        values = [_plain(value) for value in values]
    if mask is None or mask.ndim > 1:
        return values if mask is None else np.ma.array(array, mask=mask).tolist()
    return [None if gone else value for gone, value in zip(mask.tolist(), values, strict=True)]


def _values_of_series(series: Any) -> list[Any]:
    """Turn a column of a data frame into plain values."""
    import numpy as np

    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "biuf":
        return values_of_array(series.to_numpy())
    # Only here not a number is a sign of what is missing, for pandas knows none other in many of its types.
    values = zip(series.isna().tolist(), series.astype(object).tolist(), strict=True)
    return [None if missing else _plain(value) for missing, value in values]


def _values_of_arrow(array: Any) -> list[Any]:
    if array.null_count == 0 and str(array.type) in _QUICK_ARROW:
        return values_of_array(array.to_numpy(zero_copy_only=False))
    return [_plain(value) for value in array.to_pylist()]


_QUICK_ARROW = frozenset(
    {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double", "bool"}
)


def _plain(value: Any) -> Any:
    """Turn what tables hold into what documents hold."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if isinstance(value, datetime):
        return value.to_pydatetime(warn=False) if hasattr(value, "to_pydatetime") else value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if type(value).__module__ == "numpy":
        return _plain(value.tolist()) if type(value.tolist()).__module__ != "numpy" else float(value)
    return value
