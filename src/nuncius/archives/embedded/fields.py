"""Fields of documents as SQL sees them, and the indexes on them.

SQL sees a field as one scalar, its *key*. Keys sort as MongoDB sorts values:

=============  ==========================================================================================
NULL           the field is missing, or null
a number       that number (one written with a fraction is what SQLite reads, exact to about 15 digits)
a text         that text
``x'00'``      *odd*: only the matcher can say. The field is an array or stands below one, is a NaN, a date
               or bytes, an integer of more than 64 bits, or part of an image or of a broker's annotations
``x'01'``      a document
``x'02'``      false
``x'03'``      true
=============  ==========================================================================================

An index of a field is an index on its key, so that SQLite finds what lies in a range, and the odd rows beside it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING

from nuncius.alerts.surveys.base import CandidateSurvey
from nuncius.alerts.surveys.decam import Decam
from nuncius.alerts.surveys.lsst import Lsst
from nuncius.alerts.times import JD_OF_MJD_0
from nuncius.archives.documents import survey_of_catalog
from nuncius.archives.embedded.database import quoted
from nuncius.errors import FilterError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from nuncius.archives.embedded.database import Database

ODD, OBJECT, FALSE, TRUE = "x'00'", "x'01'", "x'02'", "x'03'"

POSITION = "coordinates.radec_geojson"

# What needs no escape in JSON, in SQL, and in SQLite's paths.
_NAME = re.compile(r"[A-Za-z0-9_@:+/ -]{1,200}")
_MAX_NAMES = 20
_A_DAY_S = 86400.0
_JD_SLACK = 1e-6  # days: a tenth of a second
_TAI_SLACK = 100 / _A_DAY_S  # TAI runs before UTC by 37 s; columns have UTC


@dataclass(frozen=True, slots=True)
class Lifted:
    """A column that has a field's value too, or is NULL where the value is none that the column can have.

    Parameters
    ----------
    column, index : str
        Their names.
    offset : float
        What to add to the column to have the field.
    slack : float
        How far the sum may be from the field.
    """

    column: str
    index: str
    offset: float = 0.0
    slack: float = 0.0

    @property
    def is_time(self) -> bool:
        """Whether it is the time of the exposure."""
        return self.column == "mjd"

    @property
    def is_exact(self) -> bool:
        """Whether column and offset give the field exactly, where the column is not NULL.

        A Julian Date of our time is a multiple of 2**-31 days, and so is its difference to one with a half.
        """
        return self.is_time and self.slack <= _JD_SLACK


@dataclass(frozen=True)
class Field:
    """One field of the documents of a catalog.

    Parameters
    ----------
    path : str
        Where it stands, with dots.
    guard : str
        An SQL condition under which the field is not in the column `document` alone, or nothing.
    lifted : Lifted, optional
        The column that has it too.
    index : str, optional
        The name of the index that was made for it.
    """

    path: str
    guard: str = ""
    lifted: Lifted | None = None
    index: str | None = None

    @cached_property
    def key(self) -> str:
        """The SQL of its key."""
        if self.path == "_id":
            return "(+_id)"  # the sign takes the column's type away, which would make texts of numbers
        if self.lifted is not None and self.lifted.is_exact and self.index is None:
            column = f"mjd + {self.lifted.offset!r}" if self.lifted.offset else "mjd"
            return f"CASE WHEN mjd IS NULL THEN {self._key} ELSE {column} END"
        return self._key

    @cached_property
    def _key(self) -> str:
        value = f"json_extract(document, {self._place})"
        in_extras = f"coalesce(instr(extras, '{json.dumps(self.path.split('.'))}'), 0)"
        key = (
            f"CASE json_type(document, {self._place}) "
            f"WHEN 'real' THEN {value} "
            # SQLite makes a float of an integer that it can't hold.
            f"WHEN 'integer' THEN CASE typeof({value}) WHEN 'integer' THEN {value} ELSE {ODD} END "
            # It also ends a text at a NUL.
            f"WHEN 'text' THEN CASE WHEN {in_extras} OR instr({self.text}, '\\u0000') THEN {ODD} ELSE {value} END "
            f"WHEN 'true' THEN {TRUE} WHEN 'false' THEN {FALSE} WHEN 'object' THEN {OBJECT} WHEN 'array' THEN {ODD} "
            f"WHEN 'null' THEN CASE WHEN {in_extras} THEN {ODD} END "
            f"ELSE {f'CASE WHEN {self._in_array} THEN {ODD} END' if self._in_array else 'NULL'} END"
        )
        return f"CASE WHEN {self.guard} THEN {ODD} ELSE {key} END" if self.guard else key

    @property
    def exists(self) -> str:
        """The SQL that tells whether it is there: 1, 0, or NULL where only the matcher can say."""
        unknown = " OR ".join(filter(None, (self.guard, self._in_array)))
        there = f"json_type(document, {self._place}) IS NOT NULL"
        return (
            f"CASE WHEN {there} THEN 1 WHEN {unknown} THEN NULL ELSE 0 END"
            if unknown
            else f"CASE WHEN {there} THEN 1 ELSE 0 END"
        )

    @property
    def text(self) -> str:
        """The SQL of its JSON text, digit for digit; NULL where it is missing."""
        return f"(document -> {self._place})"

    @property
    def digits(self) -> str:
        """The SQL of the JSON text of a fraction; NULL for all else."""
        return f"CASE json_type(document, {self._place}) WHEN 'real' THEN {self.text} END"

    @property
    def _place(self) -> str:
        return "'$" + "".join(f'."{name}"' for name in self.path.split(".")) + "'"

    @property
    def _in_array(self) -> str:
        """The condition under which something around it is an array."""
        names = self.path.split(".")
        return " OR ".join(
            f"json_type(document, {Field('.'.join(names[:count]))._place}) = 'array'"
            for count in range(1, len(names))
        )


class Fields:
    """The fields of a catalog, and which of them have an index.

    Parameters
    ----------
    database : Database
        The archive.
    catalog : str
        A catalog of alerts, or a reference catalog.
    """

    def __init__(self, database: Database, catalog: str) -> None:
        self.catalog = catalog
        self._indexes = _indexes(database, catalog)
        self._known: dict[str, Field | None] = {}

    def __getitem__(self, path: str) -> Field | None:
        """Return the field at a path, or None where SQL can't be asked for it."""
        if path not in self._known:
            self._known[path] = self._field(path) if is_plain(path) else None
        return self._known[path]

    def _field(self, path: str) -> Field:
        field = _bare(self.catalog, path)
        name = index_name(self.catalog, path)
        made = self._indexes.get(name)
        # An index of another release may be on another key; SQLite would not take it for ours.
        if made is None or made != _index_sql(self.catalog, field):
            return field
        return replace(field, index=name)


def _bare(catalog: str, path: str) -> Field:
    """Return a field as it is without an index."""
    top = path.partition(".")[0]
    guard = ""
    if top == "annotations":
        guard = "annotations IS NOT NULL"
    elif top in survey_of_catalog(catalog).cutout_fields:
        guard = "images <> 0"
    return Field(path, guard, _lifted_columns(catalog).get(path))


def is_plain(path: str) -> bool:
    """Tell whether a path can stand in SQL as it is."""
    names = path.split(".")
    return len(names) <= _MAX_NAMES and all(_NAME.fullmatch(name) for name in names)


@cache
def _lifted_columns(catalog: str) -> dict[str, Lifted]:
    """Return which fields stand in columns of their own too."""
    if not catalog.endswith("_alerts"):
        return {"_id": Lifted("_id", f"{catalog}:by_id")}
    survey = survey_of_catalog(catalog)
    by_alert, by_object, by_time = (f"{catalog}:by_{name}" for name in ("alert", "object", "time"))
    columns = {"_id": Lifted("_id", f"{catalog}:by_id")}
    if isinstance(survey, Lsst):
        columns["diaSourceId"] = Lifted("alert_id", by_alert)
        columns["diaSource.midpointMjdTai"] = Lifted("mjd", by_time, slack=_TAI_SLACK)
    elif isinstance(survey, CandidateSurvey):
        columns["candid"] = Lifted("alert_id", by_alert)
        columns[survey.object_id_field] = Lifted("object_id", by_object)
        columns["candidate.jd"] = Lifted("mjd", by_time, JD_OF_MJD_0, _JD_SLACK)
    elif isinstance(survey, Decam):
        columns["candid"] = Lifted("alert_id", by_alert)
        columns["objectId"] = Lifted("object_id", by_object)
        columns["candidate.mjd"] = Lifted("mjd", by_time, slack=_JD_SLACK)
    return columns


# Indexes -------------------------------------------------------------------------------------------------------------


def index_name(catalog: str, path: str) -> str:
    """Name the index of a field. SQLite takes names that differ in case for one, so capitals are marked."""
    return f"{catalog}:field:" + re.sub("[A-Z]", lambda letter: "^" + letter[0].lower(), path)


def create_index(database: Database, catalog: str, path: str) -> str:
    """Make an index of a field, which later alerts come into too.

    Returns
    -------
    str
        Its name.

    Raises
    ------
    FilterError
        If the path is none that can be indexed.
    UnsupportedError
        If the catalog has no documents of its own.
    StorageError
        If the archive can't be written.
    """
    field = _indexable(catalog, path)
    if path == "_id":
        return f"{catalog}:by_id"  # each catalog has one
    name = index_name(catalog, path)
    made = _indexes(database, catalog).get(name)
    if made == _index_sql(catalog, field):
        return name
    with database.writing() as connection:
        connection.execute(f"DROP INDEX IF EXISTS {quoted(name)}")  # on the key of another release
        connection.execute(_index_sql(catalog, field))
    return name


def drop_index(database: Database, catalog: str, path: str) -> None:
    """Delete the index of a field.

    Raises
    ------
    NotFoundError
        If there is none.
    """
    name = index_name(catalog, path)
    known = indexes(database, catalog)
    if path not in known:
        made = ", ".join(known) or "none"
        raise NotFoundError(f"{catalog} has no index of {path!r}; it has {made}", position=path)
    with database.writing() as connection:
        connection.execute(f"DROP INDEX {quoted(name)}")


def indexes(database: Database, catalog: str) -> list[str]:
    """Return the fields that an index was made for, sorted."""
    begin = len(f"{catalog}:field:")
    return sorted(
        re.sub(r"\^(.)", lambda letter: letter[1].upper(), name[begin:])
        for name in _indexes(database, catalog)
    )


def _indexable(catalog: str, path: str) -> Field:
    if catalog.endswith("_aux"):
        raise UnsupportedError(
            f"{catalog} is put together when it is asked; only `_id` is indexed there, and always",
            position=catalog,
        )
    if not isinstance(path, str) or not is_plain(path):
        raise FilterError(
            f"{path!r} can't be indexed; give a path such as 'candidate.drb', of letters, digits, _ and -",
            position=str(path),
        )
    field = _bare(catalog, path)
    if field.guard:
        raise FilterError(
            f"{path!r} is not kept in the documents, so that it can't be indexed", position=path
        )
    return field


def _index_sql(catalog: str, field: Field) -> str:
    name = index_name(catalog, field.path)
    return f"CREATE INDEX {quoted(name)} ON {quoted(catalog)} ({field._key})"


def _indexes(database: Database, catalog: str) -> dict[str, str]:
    """Return the names and the SQL of the indexes of fields."""
    prefix = f"{catalog}:field:"
    statement = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND substr(name, 1, ?) = ?"
    )
    with database.errors():
        return dict(database.connection.execute(statement, (catalog, len(prefix), prefix)))
