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
    selection = Selection.of(database, catalog, condition)
    wanted = [*paths.values(), *(output.path for output in outputs if output.path is not None)]
    if any(selection.fields[path] is None for path in wanted):
        return None
    statement = _statement(selection, list(paths.values()), outputs, compound=isinstance(spec["_id"], dict))
    with database.errors():
        try:
            rows = database.connection.execute(statement, selection.parameters).fetchall()
        except sqlite3.OperationalError as error:
            if "integer overflow" in str(error):  # Python's integers have no end
                return None
            raise
        if any(row[1] for row in rows):
            return None
        groups = [
            _group(spec["_id"], paths, outputs, row) for row in sorted(rows, key=lambda row: row[0]) if row[2]
        ]
        if not _are_exact(database.connection, [row[2:] for row in rows], len(paths), outputs):
            return None
    # One group for 1 and 1.0, which SQL has apart.
    return groups if len({order_key(group["_id"]) for group in groups}) == len(groups) else None


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
        key, field = _key(selection, path)
        # A fraction by its digits, for SQLite may read two of them as one; the type keeps them apart from texts.
        keys += [f"typeof({key})", f"CASE typeof({key}) WHEN 'real' THEN {field.text} ELSE {key} END"]
        problems.append(f"{key} IN ({ODD}, {OBJECT})")
        if compound:  # there null and nothing are two groups
            problems.append(f"{key} IS NULL")
    for output in outputs:
        if output.path is None:
            continue
        key, _ = _key(selection, output.path)
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
    return f"SELECT {columns} FROM {selection.judged(['document'])}{by}"


def _key(selection: Selection, path: str) -> tuple[str, Any]:
    field = selection.fields[path]
    assert field is not None
    return selection.key(field), field


def _group(
    expression: Any, paths: Mapping[str, str], outputs: Sequence[_Output], row: Sequence[Any]
) -> Document:
    count, *rest = row[2:]
    key = [
        _value(kind, value)
        for kind, value in zip(rest[: 2 * len(paths) : 2], rest[1 : 2 * len(paths) : 2], strict=True)
    ]
    if isinstance(expression, dict):
        group: Document = {"_id": dict(zip(paths, key, strict=True))}
    else:
        group = {"_id": key[0] if key else expression}
    values = iter(rest[2 * len(paths) :])
    for output in outputs:
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


def _value(kind: str, value: Any) -> Any:
    if kind == "real":
        return msgspec.json.decode(value)
    return value == _TRUE if kind == "blob" else value


def _are_exact(
    connection: sqlite3.Connection, rows: Sequence[Sequence[Any]], paths: int, outputs: Sequence[_Output]
) -> bool:
    """Tell whether the fractions among the least and greatest values are what stands in the documents.

    SQLite reads digits almost exactly. Where the digits of a number, and not those of its neighbours, are read as that
    number, it can't come of another one.
    """
    numbers = sorted({number for row in rows for number in _extremes(row[1 + 2 * paths :], outputs)})
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


def _extremes(values: Sequence[Any], outputs: Sequence[_Output]) -> Iterator[float]:
    place = 0
    for output in outputs:
        if output.path is None:
            continue
        if output.operator in {"$min", "$max"}:
            if isinstance(values[place], float):
                yield values[place]
            place += 1
        else:
            place += 2
