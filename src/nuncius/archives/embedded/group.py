"""`$group` in SQL, where that gives exactly what the pipeline of the language gives.

Sums of fractions are rounded at other places than in Python, so that their last digits may differ.
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from nuncius.archives.embedded.fields import OBJECT, ODD, TRUE
from nuncius.archives.embedded.select import Selection
from nuncius.archives.language.values import order_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nuncius.archives.embedded.database import Database
    from nuncius.archives.language import Document

_TRUE = bytes.fromhex(TRUE[2:-1])


@dataclass(frozen=True)
class _Output:
    """One field of a group: an accumulator of a path, or of a whole number."""

    name: str
    operator: str
    path: str | None
    times: int = 1


def grouped(
    database: Database, catalog: str, condition: Mapping[str, Any], spec: Mapping[str, Any]
) -> list[Document] | None:
    """Return the groups of the documents that meet a filter, in the order in which they come up.

    Parameters
    ----------
    database : Database
        The archive.
    catalog : str
        A catalog of alerts, or a reference catalog.
    condition : mapping
        A checked filter.
    spec : mapping
        What stands under `$group`, checked.

    Returns
    -------
    list of dict, or None
        None if SQL can't say it: an expression that is no plain field, an accumulator that SQL has not, or a row whose
        values are no plain ones.
    """
    paths = _identity(spec["_id"])
    outputs = _outputs(spec)
    if paths is None or outputs is None:
        return None
    for selection in Selection.attempts(database, catalog, condition):
        wanted = [*paths.values(), *(output.path for output in outputs if output.path is not None)]
        if any(selection.fields[path] is None for path in wanted):
            return None
        statement = _statement(
            selection, list(paths.values()), outputs, compound=isinstance(spec["_id"], dict)
        )
        if selection.is_covered or selection.verdict.with_documents:
            groups = _run(database, selection, statement, _Group(spec["_id"], list(paths), outputs))
            if groups is not None:
                return groups
    return None


def _run(database: Database, selection: Selection, statement: str, group: _Group) -> list[Document] | None:
    with database.errors():
        try:
            rows = database.connection.execute(statement, selection.parameters).fetchall()
        except sqlite3.OperationalError as error:
            if "integer overflow" in str(error):  # Python's integers have no end
                return None
            raise
        if any(row[1] for row in rows):
            return None
        extremes = {value for row in rows for value in group.extremes(row)}
        if not _are_exact(database.connection, sorted(extremes)):
            return None
    groups = [group.of(row) for row in sorted(rows, key=lambda row: row[0] or 0) if row[2]]
    # One group for 1 and 1.0, which SQL has apart.
    return groups if len({order_key(made["_id"]) for made in groups}) == len(groups) else None


def _identity(expression: Any) -> dict[str, str] | None:
    """Return the paths that a group is made by, with their names in it; None if they are not all plain fields."""
    if isinstance(expression, dict):
        paths = {name: _path(item) for name, item in expression.items()}
        plain = {name: path for name, path in paths.items() if path is not None and not name.startswith("$")}
        return plain if plain and len(plain) == len(paths) else None
    path = _path(expression)
    if path is not None:
        return {"": path}
    is_constant = expression is None or (
        isinstance(expression, (int, float, str)) and not _refers(expression)
    )
    return {} if is_constant else None


def _path(expression: Any) -> str | None:
    return expression[1:] if _refers(expression) and not expression.startswith("$$") else None


def _refers(expression: Any) -> bool:
    return isinstance(expression, str) and expression.startswith("$")


def _outputs(spec: Mapping[str, Any]) -> list[_Output] | None:
    found = []
    for name, output in spec.items():
        if name == "_id":
            continue
        ((operator, argument),) = output.items()
        path = _path(argument)
        if operator == "$count":
            found.append(_Output(name, "$sum", None))
        elif operator == "$sum" and isinstance(argument, int) and not isinstance(argument, bool):
            found.append(_Output(name, "$sum", None, argument))
        elif operator in {"$sum", "$avg", "$min", "$max"} and path is not None:
            found.append(_Output(name, operator, path))
        else:
            return None
    return found


def _statement(
    selection: Selection, paths: Sequence[str], outputs: Sequence[_Output], *, compound: bool
) -> str:
    """Return the SQL of rows: first number, whether something is in the way, count, then the key, then the outputs."""
    keys, values, problems = [], [], ["v IS NULL"]
    for path in paths:
        key = _key(selection, path)
        problems.append(f"{key} IN ({ODD}, {OBJECT})")
        if compound:  # there null and nothing are two groups
            problems.append(f"{key} IS NULL")
        if selection.verdict.with_documents:
            # A fraction by its digits, for SQLite may read two of them as one; the type keeps them apart from texts.
            digits = _digits(selection, path)
            keys += [f"typeof({key})", f"coalesce({digits}, {key})"]
        else:
            keys += [f"typeof({key})", key]
            problems.append(f"typeof({key}) = 'real'")
    for output in outputs:
        if output.path is None:
            continue
        key = _key(selection, output.path)
        number = f"CASE WHEN typeof({key}) IN ('integer', 'real') THEN {key} END"
        if output.operator in {"$min", "$max"}:
            values.append(f"{output.operator[1:]}({key})")
            problems.append(f"{key} IN ({ODD}, {OBJECT})")
        else:
            values += [f"sum({number})", f"count({number})"]
            problems.append(f"{key} = {ODD}")
    problem = " OR ".join(dict.fromkeys(problems))
    columns = ", ".join(["min(id)", f"coalesce(max({problem}), 0)", "count(*)", *keys, *values])
    by = f" GROUP BY {', '.join(keys)}" if keys else ""
    return f"SELECT {columns} FROM {selection.judged()}{by}"


def _key(selection: Selection, path: str) -> str:
    field = selection.fields[path]
    assert field is not None
    return selection.key(field)


def _digits(selection: Selection, path: str) -> str:
    field = selection.fields[path]
    assert field is not None
    return selection.column("d", field, field.digits)


@dataclass(frozen=True)
class _Group:
    """How a row of the statement becomes a group.

    Parameters
    ----------
    expression : any
        What stands under `_id`.
    names : list of str
        The names of the parts of the key, if it is a document.
    outputs : list of _Output
        The fields.
    """

    expression: Any
    names: Sequence[str]
    outputs: Sequence[_Output]

    def of(self, row: Sequence[Any]) -> Document:
        """Make the group of a row."""
        count, parts, values = row[2], row[3 : self._begin], iter(row[self._begin :])
        key = [_value(kind, value) for kind, value in zip(parts[::2], parts[1::2], strict=True)]
        if isinstance(self.expression, dict):
            group: Document = {"_id": dict(zip(self.names, key, strict=True))}
        else:
            group = {"_id": key[0] if key else self.expression}
        for output in self.outputs:
            if output.path is None:
                group[output.name] = count * output.times
            elif output.operator in {"$min", "$max"}:
                value = next(values)
                group[output.name] = value == _TRUE if isinstance(value, bytes) else value
            else:
                total, number = next(values) or 0, next(values)
                mean = total / number if number else None
                group[output.name] = total if output.operator == "$sum" else mean
        return group

    def extremes(self, row: Sequence[Any]) -> Iterator[float]:
        """Give the fractions among the least and greatest values of a row."""
        place = self._begin
        for output in self.outputs:
            if output.path is not None and output.operator in {"$min", "$max"}:
                if isinstance(row[place], float):
                    yield row[place]
                place += 1
            elif output.path is not None:
                place += 2

    @property
    def _begin(self) -> int:
        return 3 + 2 * len(self.names)


def _value(kind: str, value: Any) -> Any:
    if kind == "real":
        return msgspec.json.decode(value)
    return value == _TRUE if kind == "blob" else value


def _are_exact(connection: sqlite3.Connection, numbers: Sequence[float]) -> bool:
    """Tell whether fractions that SQLite has read are what stands in the documents.

    SQLite reads digits almost exactly. Where the digits of a number, and not those of its neighbours, are read as that
    number, it can't come of another one.
    """
    candidates = [
        neighbour
        for number in numbers
        for neighbour in (number, math.nextafter(number, -math.inf), math.nextafter(number, math.inf))
    ]
    if not all(map(math.isfinite, candidates)):
        return False
    digits = msgspec.json.encode(candidates).decode()
    read = [value for (value,) in connection.execute("SELECT value FROM json_each(?)", (digits,))]
    return all(
        read[place] == number != read[place + 1] and read[place + 2] != number
        for place, number in zip(range(0, len(read), 3), numbers, strict=True)
    )
