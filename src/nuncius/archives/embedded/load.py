"""Loading reference catalogs: tables of sources, such as Gaia's, to be asked and cross-matched like alerts."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nuncius._core.jsontext import to_text
from nuncius.alerts.surveys import GENERIC
from nuncius.archives.documents import sexagesimal, survey_of_catalog
from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.layout import check_reference_name
from nuncius.archives.embedded.reports import LoadReport
from nuncius.archives.embedded.tables import KindChanged, TableReader
from nuncius.errors import ConfigurationError, StorageError
from nuncius.sky import cells_of, to_positions
from nuncius.sky.watchlist import position_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from nuncius.archives.embedded.database import Database
    from nuncius.archives.embedded.tables import Column

    Floats: TypeAlias = NDArray[np.float64]

_CHUNK_ROWS = 20_000
_MOST_BEYOND = 0.25  # of the rows; some catalogs write -999 for what they don't know
_ATTEMPTS = itertools.count()


def load_catalog(
    database: Database,
    name: str,
    source: Any,
    ra: str | None = None,
    dec: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    chunk_rows: int = _CHUNK_ROWS,
    replace: bool = False,
    advance: Callable[[int], None] | None = None,
) -> LoadReport:
    """Load a table as a reference catalog.

    Parameters
    ----------
    database : Database
        Where to.
    name : str
        What the catalog is to be called: letters, digits, ``_`` and ``-``.
    source : Table, DataFrame, str or Path
        A table; or a file of CSV, FITS, Parquet (each read in pieces) or VOTable. CSV, FITS and VOTable may be gzipped.
    ra, dec : str, optional
        The columns of the position (ICRS): degrees, or what their unit says, or sexagesimal texts of hours and degrees.
        By default the columns of these names in any case, else the only pair of columns with names that are known.
    columns : list of str, optional
        Which columns are kept; the position always is.
    chunk_rows : int, optional
        How many rows are read and written at a time.
    replace : bool, optional
        Whether a reference catalog of this name is replaced. It stays as it is until the new one is whole.
    advance : callable, optional
        Is told how many more rows have been written.

    Returns
    -------
    LoadReport

    Raises
    ------
    NotFoundError
        If there is no such file.
    ConfigurationError
        If the table can't be read, its position columns are not plain, or the name is taken or none.
    StorageError
        If the archive can't be written. Then, and after any other interruption, the archive is as before.

    Notes
    -----
    A document is a row as it is: what is masked is null, and numbers keep all their digits. A name with dots becomes a
    document within the document, as tables made from documents have them. `coordinates` is added as Kowalski's
    catalogs have it. `_id` is the column of this name, whole numbers or texts that differ; otherwise it is the number
    of the row in the source as text, from ``"0"``, which is the same each time that the same source is loaded.

    In FITS tables, numbers that are none and empty texts are null, as the format has no other sign. In CSV files, empty values are null. A column is of numbers, or of true and false, if all of its values are;
    ``null`` counts as missing there. Numbers that begin with needless zeros are texts.
    """
    begin = time.monotonic()
    _check_name(database, name, replace=replace)
    if chunk_rows < 1:
        raise ConfigurationError(f"chunk_rows={chunk_rows} is not at least 1")
    made = f"{name}:loading:{os.getpid()}:{next(_ATTEMPTS)}"
    loader = _Loader(database, made, _Choice(ra, dec, columns), advance)
    reader = TableReader(source, loader.choice, chunk_rows)
    _forget_abandoned(database)
    try:
        while not loader.load(reader):
            pass
        with database.writing():
            loader.check_positions()
            _check_name(database, name, replace=replace)  # another program may have been quicker
            _check_ids(database, made)
            database.publish_reference(made, name)
    finally:
        with contextlib.suppress(StorageError), database.writing() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {quoted(made)}")
    return LoadReport(loader.rows, loader.skipped, time.monotonic() - begin)


class _Choice:
    """Which columns are kept, and which of them are the position."""

    def __init__(self, ra: str | None, dec: str | None, columns: Sequence[str] | None) -> None:
        if (ra is None) != (dec is None):
            raise ConfigurationError("give both ra and dec, or neither of them")
        if isinstance(columns, str):
            raise ConfigurationError(f"columns={columns!r}: give a list of names")
        self.ra, self.dec = ra or "", dec or ""
        self._columns = None if columns is None else list(columns)

    def __call__(self, names: list[str]) -> list[str]:
        """Return the columns of a table that are wanted."""
        if not self.ra:
            self.ra, self.dec = self._guessed(names)
        for name in (self.ra, self.dec, *(self._columns or ())):
            if name not in names:
                raise ConfigurationError(f"the table has no column {name!r}; it has {', '.join(names)}")
        if self._columns is None:
            return names
        wanted = {self.ra, self.dec, "_id", *self._columns}
        return [name for name in names if name in wanted]

    @staticmethod
    def _guessed(names: Sequence[str]) -> tuple[str, str]:
        """Find the columns of the position."""
        try:
            return position_columns(names)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"give ra= and dec=: which columns hold the position is not plain from their names: {', '.join(names)}"
            ) from error


class _Loader:
    """Writes the pieces of a table into the table of a catalog that is not yet shown."""

    def __init__(
        self, database: Database, made: str, choice: _Choice, advance: Callable[[int], None] | None
    ) -> None:
        self.choice = choice
        self.rows = 0
        self.skipped = 0
        self._beyond = 0  # rows with a declination that no place on the sky has
        self._first_skipped: tuple[int, Any, Any] | None = None
        self._database = database
        self._made = made
        self._advance = advance or (lambda count: None)  # noqa: ARG005

    def load(self, reader: TableReader) -> bool:
        """Write all pieces; tells whether that went through, and has not to begin anew."""
        self.rows = self.skipped = self._beyond = 0
        self._first_skipped = None
        with self._database.writing() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {quoted(self._made)}")
            self._database.create_reference(self._made)
        try:
            for piece in reader.pieces():
                self._write(piece)
        except KindChanged:
            return False
        return True

    def _write(self, piece: list[Column]) -> None:
        count = len(piece[0].values)
        ra, dec = self._positions(piece)
        known = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
        ra = np.where(known, ra, 0.0) % 360
        cells = np.zeros(count, np.int64)
        cells[known] = cells_of(ra[known], dec[known])
        places = [
            (alpha, delta, cell) if there else None
            for there, alpha, delta, cell in zip(
                known.tolist(), ra.tolist(), dec.tolist(), cells.tolist(), strict=True
            )
        ]
        rows = _rows(piece, places, self.rows)
        with self._database.writing() as connection:
            connection.executemany(
                f"INSERT INTO {quoted(self._made)} (_id, ra, dec, hpx, document, extras) VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )
        self._note_skipped(piece, known, dec)
        self.rows += count
        self._advance(count)

    def check_positions(self) -> None:
        """Refuse a table whose columns are not what they were taken for.

        Raises
        ------
        ConfigurationError
            If no row has a position that can be read, or many have a declination beyond the poles.
        """
        if self._first_skipped is None:
            return
        row, ra, dec = self._first_skipped
        many_beyond = self._beyond > max(1, self.rows * _MOST_BEYOND)
        unreadable = self.skipped == self.rows and (isinstance(ra, str) or isinstance(dec, str))
        if not (many_beyond or unreadable):
            return
        cure = "are ra and dec swapped?" if many_beyond else "name the right columns with ra and dec"
        raise ConfigurationError(
            f"{self.skipped} of {self.rows} rows have no position on the sky in the columns {self.choice.ra!r} and "
            f"{self.choice.dec!r}: row {row} has {ra!r} and {dec!r}; {cure}",
            position=f"row {row}",
        )

    def _note_skipped(self, piece: list[Column], known: Any, dec: Floats) -> None:
        self.skipped += int((~known).sum())
        self._beyond += int((np.abs(np.nan_to_num(dec)) > 90).sum())
        if self._first_skipped is None and not known.all():
            index = int(np.flatnonzero(~known)[0])
            columns = {column.name: column.values[index] for column in piece}
            self._first_skipped = self.rows + index, columns[self.choice.ra], columns[self.choice.dec]

    def _positions(self, piece: list[Column]) -> tuple[Floats, Floats]:
        """Return the positions of a piece in degrees; what is none is not a number."""
        columns = {column.name: column for column in piece}
        ra, dec = columns[self.choice.ra], columns[self.choice.dec]
        if any(isinstance(value, str) for column in (ra, dec) for value in column.values):
            return _of_texts(ra.values, dec.values)
        return _in_degrees(ra), _in_degrees(dec)


def _in_degrees(column: Column) -> Floats:
    try:
        values = np.array(column.values, np.float64)  # None becomes not a number
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the column {column.name!r} holds no angles: {error}") from error
    if values.ndim != 1:
        raise ConfigurationError(f"the column {column.name!r} holds lists, not angles")
    if column.unit is None or not str(column.unit):
        return values
    import astropy.units as u

    try:
        degrees: Floats = u.Quantity(values, column.unit).to_value(u.deg)
    except (u.UnitConversionError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the column {column.name!r} is no angle: its unit is {column.unit}"
        ) from error
    return degrees


def _of_texts(ra: list[Any], dec: list[Any]) -> tuple[Floats, Floats]:
    """Read sexagesimal texts of hours and degrees; numbers are degrees also where a column has other texts as well."""
    found = np.full((len(ra), 2), np.nan)
    for index, pair in enumerate(zip(ra, dec, strict=True)):
        try:
            found[index] = float(pair[0]), float(pair[1])
        except (TypeError, ValueError):
            with contextlib.suppress(ConfigurationError):
                alpha, delta, _ = to_positions(pair)
                found[index] = alpha[0], delta[0]
    return found[:, 0], found[:, 1]


def _rows(
    piece: list[Column], places: list[tuple[float, float, int] | None], first: int
) -> Iterator[tuple[Any, ...]]:
    """Make the rows of the catalog."""
    kept = [column for column in piece if column.name.partition(".")[0] != "coordinates"]
    names = [column.name for column in kept]
    nested = any("." in name for name in names)
    own_ids = "_id" in names
    for number, (place, values) in enumerate(
        zip(places, zip(*(column.values for column in kept), strict=True), strict=True), first
    ):
        document: dict[str, Any] = dict(zip(names, values, strict=True))
        document = {"_id": _own_id(document["_id"], number) if own_ids else str(number)} | document
        if nested:
            document = _nested(document)
        text, extras = to_text(document)
        alpha, delta, cell = place or (None, None, None)
        if alpha is not None and delta is not None:
            # As text: it is always the same, and costs as much as all the rest otherwise.
            text = f"{text[:-1]},{_coordinates(alpha, delta)}}}"
        yield document["_id"], alpha, delta, cell, text, extras


def _coordinates(ra: float, dec: float) -> str:
    """Write the `coordinates` of a document, as `nuncius.archives.documents` makes them, to stand in its text."""
    hours = sexagesimal(round(ra * 240, 4) % 86400 / 3600, 4)
    return (
        f'"coordinates":{{"radec_str":["{hours}","{sexagesimal(dec, 3)}"],'
        f'"radec_geojson":{{"type":"Point","coordinates":[{ra - 180.0!r},{dec!r}]}}}}'
    )


def _own_id(value: Any, number: int) -> int | str:
    if isinstance(value, str) or (
        isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    ):
        return value
    raise ConfigurationError(
        f"_id of row {number} is {value!r}: an _id is a text or a whole number of 64 bits; leave the column out with "
        "columns=[…], or call it another name",
        position=f"row {number}",
    )


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Make documents within the document of dotted names."""
    document: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, last = name.split(".")
        place = document
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or last in place:
            raise ConfigurationError(
                f"the columns {name!r} and {name.rpartition('.')[0]!r} can't both be in a document"
            )
        place[last] = value
    return document


def _check_name(database: Database, name: str, *, replace: bool) -> None:
    check_reference_name(name)
    if survey_of_catalog(name) is not GENERIC:
        raise ConfigurationError(f"{name!r} is the name of a survey of alerts; call the catalog another name")
    for known in database.catalogs():
        if known.lower() == name.lower() and (known != name or not replace):
            raise ConfigurationError(
                f"there is a catalog {known!r}; give another name"
                + (", or replace=True to replace it" if known == name else " (capitals make no difference)")
            )


def _check_ids(database: Database, made: str) -> None:
    twice = database.connection.execute(
        f"SELECT _id FROM {quoted(made)} GROUP BY _id HAVING count(*) > 1 LIMIT 1"
    ).fetchone()
    if twice:
        raise ConfigurationError(f"_id={twice[0]!r} stands in more than one row, and an _id is there once")


def _forget_abandoned(database: Database) -> None:
    """Delete what programs that were killed have left half loaded."""
    with database.writing() as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%:loading:%'"
        )
        for (name,) in tables.fetchall():
            process = name.split(":")[2]
            if process.isdigit() and not _is_alive(int(process)):
                connection.execute(f"DROP TABLE {quoted(name)}")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
