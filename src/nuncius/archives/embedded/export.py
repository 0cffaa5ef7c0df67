"""Catalogs as Parquet files, divided by place on the sky: HATS catalogs, as lsdb reads them.

Source of the format: the HATS note of the IVOA (https://www.ivoa.net/documents/Notes/HATS/), version 1.0.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from nuncius._core.jsontext import to_text
from nuncius._core.lazy import require
from nuncius.archives.embedded.columns import Columns, values_at
from nuncius.archives.embedded.database import Database, quoted
from nuncius.archives.embedded.reports import ExportReport
from nuncius.archives.embedded.rows import read_document
from nuncius.errors import ConfigurationError, NotFoundError, StorageError
from nuncius.sky import ORDER, cone_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from nuncius.archives.embedded.columns import Column
    from nuncius.archives.language import Document

    Integers: TypeAlias = NDArray[np.int64]

MARGIN_ARCSEC = 10.0

_ROWS_PER_FILE = 100_000
_FINEST = 8  # order of the smallest division: cells of 14 arcminutes
_ROW_GROUP = 20_000
_CHUNK = 2000  # documents that are in memory at once
_ROW = "id, ra, dec, hpx, document, extras, annotations"
_POSITION = ("ra", "dec")
_RESERVED = ("_healpix_29", "_document", "_extras", "Norder", "Dir", "Npix")
# They say again what ra and dec say.
_LEFT_OUT = (("coordinates", "radec_geojson"), ("coordinates", "radec_str"))
# Files whose names begin so are no part of the division of the sky, and lsdb passes over them.
_UNPLACED = "_without_position.parquet"
_MARGINS = "_margins"


def export(
    database: Database,
    path: str | Path,
    *,
    catalogs: Sequence[str] | None = None,
    rows_per_file: int = _ROWS_PER_FILE,
    advance: Callable[[int], None] | None = None,
) -> ExportReport:
    """Write catalogs as Parquet files.

    Parameters
    ----------
    database : Database
        The archive. What is written is its state of one moment, whoever writes meanwhile.
    path : str or Path
        A folder that does not exist yet; each catalog becomes a folder in it, which is a HATS catalog.
    catalogs : list of str, optional
        Which; all that have positions by default.
    rows_per_file : int, optional
        Cells of the sky with more documents than this are divided into four, down to order 8.
    advance : callable, optional
        Is told how many more documents have been written.

    Returns
    -------
    ExportReport

    Raises
    ------
    MissingExtraError
        If pyarrow is not installed.
    NotFoundError
        If there is no such catalog.
    StorageError
        If the folder exists or can't be written.

    Notes
    -----
    Columns are `ra`, `dec` (degrees), `_healpix_29` (the cell of order 29), one for each field whose values are of one
    type, named by its path (``candidate.magpsf``), and `_document` and `_extras`, from which a document comes back as it
    was. A field with values of several types, or with lists, is a column of JSON whose name ends in ``:json``. The
    metadata of each file has a text ``nuncius``: JSON with the name of the catalog and, under ``fields``, the columns
    that are fields; `ra` and `dec` are among them only if the fields of this name hold just the positions in degrees.

    Images, histories and earlier versions stay in the archive.

    Documents without a position are in ``_without_position.parquet``. In the folder ``_margins`` each catalog has its
    margin cache for lsdb: what lies within 10 arcseconds of the edge of a file's part of the sky, so that a cross-match
    up to this radius finds neighbours on the other side.
    """
    begin = time.monotonic()
    require("pyarrow.parquet", extra="parquet")
    target = Path(path).expanduser().absolute()
    if rows_per_file < 1:
        raise ConfigurationError(f"rows_per_file={rows_per_file} is not at least 1")
    if target.exists() or not target.parent.is_dir():
        problem = (
            "exists; an export never replaces anything" if target.exists() else "has no folder to stand in"
        )
        raise StorageError(f"{target} {problem}", position=str(target))
    part = target.with_name(f"{target.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)  # of a program that had the same number
    rows: dict[str, int] = {}
    files = 0
    reading = Database(database.path, read_only=True)
    try:
        with reading.errors():
            reading.connection.execute("BEGIN")  # one state of the file to the end
            names = _chosen(reading, catalogs)
            part.mkdir()
            for name in names:
                catalog = _Catalog(reading, name, part / name, rows_per_file, advance or (lambda count: None))  # noqa: ARG005
                rows[name] = catalog.write()
                files += catalog.files
        part.rename(target)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{target} can't be written: {error}", position=str(target)) from error
    finally:
        reading.close()
        shutil.rmtree(part, ignore_errors=True)
    return ExportReport(target, rows, files, time.monotonic() - begin)


def _chosen(database: Database, catalogs: Sequence[str] | None) -> list[str]:
    known = database.catalogs()
    if isinstance(catalogs, str):
        raise ConfigurationError(f"catalogs={catalogs!r}: give a list of names")
    for name in catalogs or ():
        if name not in known:
            raise NotFoundError(
                f"there is no catalog {name!r} that could be exported; there are {', '.join(known) or 'none'}",
                position=name,
            )
    return known if catalogs is None else list(dict.fromkeys(catalogs))


class _Part(NamedTuple):
    """A part of the sky that makes a file."""

    order: int
    pixel: int

    @property
    def low(self) -> int:
        return self.pixel << 2 * (ORDER - self.order)

    @property
    def high(self) -> int:
        return (self.pixel + 1) << 2 * (ORDER - self.order)

    @property
    def path(self) -> str:
        return f"Norder={self.order}/Dir={self.pixel // 10_000 * 10_000}/Npix={self.pixel}.parquet"


class _Rows(NamedTuple):
    """Some rows of a catalog."""

    number: list[int]
    ra: list[float | None]
    dec: list[float | None]
    cell: list[int | None]
    documents: list[Document]
    texts: list[str]
    extras: list[str | None]


class _Catalog:
    """Writes one catalog."""

    def __init__(
        self, database: Database, name: str, folder: Path, rows_per_file: int, advance: Callable[[int], None]
    ) -> None:
        self.files = 0
        self._database = database
        self._name = name
        self._folder = folder
        self._advance = advance
        self._parts = _divided(database, name, rows_per_file)
        self._columns = self._find_columns()
        self._schema = self._make_schema()

    def write(self) -> int:
        """Write all files of the catalog, and return how many documents that were."""
        edges = _Edges(self._parts)
        written = [
            (part, self._rows(f"hpx >= {part.low} AND hpx < {part.high} ORDER BY hpx, id"))
            for part in self._parts
        ]
        counts = self._write_dataset(self._folder, written, edges)
        placed = sum(counts.values())
        unplaced = self._write_file(
            self._folder / "dataset" / _UNPLACED, self._rows("hpx IS NULL ORDER BY id")
        )
        if unplaced or not counts:
            self.files += 1
        else:
            (self._folder / "dataset" / _UNPLACED).unlink()
        kind = "source" if self._name in self._database.catalogs("alerts") else "object"
        self._write_properties(self._folder, placed, counts, dataproduct_type=kind)
        beyond = [(part, self._rows_by_number(numbers)) for part, numbers in edges.beyond()]
        if beyond:
            margin = self._folder.with_name(_MARGINS) / self._name
            counts = self._write_dataset(margin, beyond, None)
            self._write_properties(
                margin, sum(counts.values()), counts, obs_collection=f"{self._name}_margin", dataproduct_type="margin",
                hats_primary_table_url=self._name, hats_margin_threshold=MARGIN_ARCSEC,
            )  # fmt: skip
        return placed + unplaced

    # Columns ---------------------------------------------------------------------------------------------------------

    def _find_columns(self) -> list[Column]:
        """Find the columns over all documents."""
        columns = Columns([(name,) for name in _RESERVED] + list(_LEFT_OUT))
        self._is_position = True
        for rows in self._rows("1 ORDER BY id"):
            for document, ra, dec in zip(rows.documents, rows.ra, rows.dec, strict=True):
                columns.see(document)
                if self._is_position:
                    self._is_position = _is(document, "ra", ra) and _is(document, "dec", dec)
        return [
            column for column in columns.found() if column.path[0] not in _POSITION or len(column.path) > 1
        ]

    def _make_schema(self) -> Any:
        arrow = require("pyarrow", extra="parquet")
        types = {
            "int64": arrow.int64(), "float64": arrow.float64(), "bool_": arrow.bool_(), "string": arrow.string(),
            "binary": arrow.binary(), "utc": arrow.timestamp("us", tz="UTC"), "local": arrow.timestamp("us"),
            "json": arrow.string(),
        }  # fmt: skip
        fields = [
            arrow.field("_healpix_29", arrow.int64()),
            arrow.field("ra", arrow.float64()),
            arrow.field("dec", arrow.float64()),
        ]
        fields += [arrow.field(column.name, types[column.type]) for column in self._columns]
        fields += [arrow.field("_document", arrow.string()), arrow.field("_extras", arrow.string())]
        named = [column.name for column in self._columns if column.type != "json"]
        known = {"catalog": self._name, "fields": [*(_POSITION if self._is_position else ()), *named]}
        return arrow.schema(fields, metadata={"nuncius": json.dumps(known)})

    # Rows ------------------------------------------------------------------------------------------------------------

    def _rows(self, where: str, parameters: Sequence[Any] = ()) -> Iterator[_Rows]:
        """Give rows with their documents, some at a time."""
        statement = f"SELECT {_ROW} FROM {quoted(self._name)} WHERE {where}"
        cursor = self._database.connection.execute(statement, parameters)
        while found := cursor.fetchmany(_CHUNK):
            number, ra, dec, cell, *parts = (list(column) for column in zip(*found, strict=True))
            yield _Rows(number, ra, dec, cell, *_documents(*parts))

    def _rows_by_number(self, numbers: Integers) -> Iterator[_Rows]:
        step = 400  # bound parameters in one statement
        for start in range(0, len(numbers), step):
            some = numbers[start : start + step].tolist()
            yield from self._rows(f"id IN ({', '.join('?' * len(some))}) ORDER BY hpx, id", some)

    def _table(self, rows: _Rows) -> Any:
        arrow = require("pyarrow", extra="parquet")
        values = [rows.cell, rows.ra, rows.dec]
        values += [values_at(rows.documents, column) for column in self._columns]
        values += [rows.texts, rows.extras]
        arrays = [arrow.array(column, field.type) for column, field in zip(values, self._schema, strict=True)]
        return arrow.Table.from_arrays(arrays, schema=self._schema)

    # Files -----------------------------------------------------------------------------------------------------------

    def _write_dataset(
        self, folder: Path, written: Iterable[tuple[_Part, Iterator[_Rows]]], edges: _Edges | None
    ) -> dict[_Part, int]:
        """Write the files of a dataset, and what describes them; returns how many rows each has."""
        parquet = require("pyarrow.parquet", extra="parquet")
        dataset = folder / "dataset"
        dataset.mkdir(parents=True)
        footers: list[Any] = []
        counts: dict[_Part, int] = {}
        for part, rows in written:
            path = dataset / part.path
            path.parent.mkdir(parents=True, exist_ok=True)
            seen = rows if edges is None else edges.noting(part, rows)
            counts[part] = self._write_file(path, seen, footers, report=edges is not None)
            footers[-1].set_file_path(part.path)
            self.files += 1
        parquet.write_metadata(self._schema, dataset / "_common_metadata")
        parquet.write_metadata(self._schema, dataset / "_metadata", metadata_collector=footers)
        lines = [f"{part.order},{part.pixel}" for part in counts]
        _write_text(folder / "partition_info.csv", ["Norder,Npix", *lines])
        return counts

    def _write_file(
        self, path: Path, rows: Iterator[_Rows], footers: list[Any] | None = None, *, report: bool = True
    ) -> int:
        arrow, parquet = require("pyarrow", extra="parquet"), require("pyarrow.parquet", extra="parquet")
        texts = [column.name for column in self._columns if column.type == "string"]
        options = {"compression": "zstd", "use_dictionary": texts, "metadata_collector": footers}
        count = 0
        with parquet.ParquetWriter(path, self._schema, **options) as writer:
            waiting: list[Any] = []
            for table in chain((self._table(some) for some in rows), [None]):
                if table is not None:
                    waiting.append(table)
                    count += len(table)
                    if report:
                        self._advance(len(table))
                if waiting and (table is None or sum(map(len, waiting)) >= _ROW_GROUP):
                    writer.write_table(arrow.concat_tables(waiting))
                    waiting = []
        return count

    def _write_properties(self, folder: Path, rows: int, counts: dict[_Part, int], **more: Any) -> None:
        from importlib.metadata import version

        # What lsdb reads when it isn't told: all but the whole documents. The format can't list a name with a blank.
        names = [
            field.name for field in self._schema if field.name not in {"_document", "_extras", "_healpix_29"}
        ]
        values = {
            "obs_collection": self._name,
            "hats_nrows": rows,
            "hats_col_ra": "ra",
            "hats_col_dec": "dec",
            "hats_col_healpix": "_healpix_29",
            "hats_col_healpix_order": ORDER,
            "hats_cols_default": " ".join(name for name in names if not set(name) & set(" ,;\n")),
            "hats_npix_suffix": ".parquet",
            "hats_max_rows": max(counts.values(), default=0),
            "hats_order": max((part.order for part in counts), default=0),
            "moc_sky_fraction": f"{sum(1 / (12 << 2 * part.order) for part in counts):.6g}",
            "hats_builder": f"nuncius {version('nuncius')}",
            "hats_creation_date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MUTC"),
            "hats_version": "v1.0",
        } | more
        lines = ["#HATS catalog", *(f"{name}={_escaped(str(value))}" for name, value in values.items())]
        for file in ("hats.properties", "properties"):
            _write_text(folder / file, lines)


class _Edges:
    """Notes which rows lie near the edge of their part of the sky, and which parts lie beyond."""

    def __init__(self, parts: list[_Part]) -> None:
        self._parts = parts
        self._lows = np.array([part.low for part in parts], np.int64)
        self._highs = np.array([part.high for part in parts], np.int64)
        self._found: list[tuple[Integers, Integers]] = []

    def noting(self, part: _Part, pieces: Iterator[_Rows]) -> Iterator[_Rows]:
        """Give the rows of a part, and note those at its edge."""
        own = self._parts.index(part)
        for rows in pieces:
            ra, dec = np.array(rows.ra, np.float64) % 360, np.array(rows.dec, np.float64)
            index, low, high = cone_ranges(ra, dec, MARGIN_ARCSEC)
            first = np.searchsorted(self._highs, low, side="right")
            count = np.searchsorted(self._lows, high, side="left") - first
            reached = np.repeat(first - np.cumsum(count) + count, count) + np.arange(int(count.sum()))
            row = np.repeat(index, count)
            other = reached != own
            if other.any():
                self._found.append((reached[other], np.array(rows.number, np.int64)[row[other]]))
            yield rows

    def beyond(self) -> Iterator[tuple[_Part, Integers]]:
        """Give the parts that rows of other parts lie near, with the numbers of these rows in the order of cells."""
        if not self._found:
            return
        reached, number = (np.concatenate(column) for column in zip(*self._found, strict=True))
        for index in np.unique(reached).tolist():
            mine = number[reached == index]
            _, first = np.unique(mine, return_index=True)
            yield self._parts[index], mine[np.sort(first)]


def _divided(database: Database, name: str, rows_per_file: int) -> list[_Part]:
    """Divide the sky into parts with not too many rows each; those without are left out."""
    shift = 2 * (ORDER - _FINEST)
    statement = f"SELECT hpx >> {shift}, count(*) FROM {quoted(name)} WHERE hpx IS NOT NULL GROUP BY 1"
    counts = np.zeros(12 << 2 * _FINEST, np.int64)
    for cell, count in database.connection.execute(statement):
        counts[cell] = count
    parts = []
    whole = np.ones(12, bool)  # cells that are not part of one that was taken
    for order in range(_FINEST + 1):
        here = counts.reshape(12 << 2 * order, -1).sum(axis=1)
        taken = whole & (here > 0) & ((here <= rows_per_file) | (order == _FINEST))
        parts += [_Part(order, int(pixel)) for pixel in np.flatnonzero(taken)]
        whole = np.repeat(whole & ~taken & (here > 0), 4)
    return sorted(parts, key=lambda part: part.low)


def _documents(
    texts: list[str], extras: list[str | None], annotations: list[str | None]
) -> tuple[list[Document], list[str], list[str | None]]:
    """Read documents; those that brokers have said something about have it in their texts too."""
    documents = [read_document(*row) for row in zip(texts, extras, annotations, strict=True)]
    for index, said in enumerate(annotations):
        if said:
            texts[index], extras[index] = to_text(documents[index])
    return documents, texts, extras


def _is(document: Document, name: str, value: float | None) -> bool:
    """Tell whether a field holds just this number; where there is no position, that there is none."""
    found = document.get(name)
    return found is None if value is None else found.__class__ in {int, float} and found == value


def _escaped(value: str) -> str:
    """Write a value so that readers of Java's property files get it back."""
    plain = value.replace("\\", "\\\\")
    return "".join(letter if letter.isascii() else f"\\u{ord(letter):04x}" for letter in plain)


def _write_text(path: Path, lines: Iterable[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
