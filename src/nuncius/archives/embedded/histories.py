"""The histories of objects as documents: what ``…_alerts_aux`` holds."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from nuncius._core.jsontext import from_text
from nuncius.archives.documents import survey_of_catalog
from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.verdicts import is_text
from nuncius.archives.language import matches
from nuncius.archives.language.values import has_operators, is_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nuncius.archives.embedded.database import Database
    from nuncius.archives.language import Document


def is_histories(catalog: str) -> bool:
    """Tell whether a catalog is that of the histories."""
    return catalog.endswith("_aux")


def histories(database: Database, catalog: str, condition: Mapping[str, Any]) -> Iterator[Document]:
    """Give the documents of ``…_alerts_aux``: for each object its histories, put together."""
    statement, names = statement_of(catalog, condition)
    lists = survey_of_catalog(catalog).history_lists
    current: Document = {}
    with database.errors():
        rows = database.connection.execute(statement, () if names is None else (json.dumps(names),))
        for object_id, list_name, text, extras in rows:
            if current.get("_id") != object_id:
                if current and matches(current, condition):
                    yield current
                current = {"_id": object_id, **{name: [] for name in lists}}
            current[list_name].append(from_text(text, extras))
    if current and matches(current, condition):
        yield current


def count_histories(database: Database, catalog: str, condition: Mapping[str, Any]) -> int:
    """Count the documents of ``…_alerts_aux`` that meet a filter."""
    if condition:
        return sum(1 for _ in histories(database, catalog, condition))
    points = quoted(f"{catalog.removesuffix('_aux')}:points")
    with database.errors():
        found = database.connection.execute(f"SELECT count(*) FROM (SELECT DISTINCT object_id FROM {points})")
        return int(found.fetchone()[0])


def statement_of(catalog: str, condition: Mapping[str, Any]) -> tuple[str, list[str] | None]:
    """Return the SQL of the entries of histories, and the names of the objects that a filter asks for, if it does."""
    points = quoted(f"{catalog.removesuffix('_aux')}:points")
    names = _object_names(condition)
    where = "" if names is None else " WHERE object_id IN (SELECT value FROM json_each(?))"
    return (
        f"SELECT object_id, list, document, extras FROM {points}{where} ORDER BY object_id, list, mjd, point",
        names,
    )


def _object_names(condition: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the objects that a filter asks for, or None if it may ask for all."""
    if "_id" in condition:
        wanted = condition["_id"]
        if has_operators(wanted):
            values = list(wanted["$in"]) if "$in" in wanted else [wanted["$eq"]] if "$eq" in wanted else None
        else:
            values = [wanted]
        if values is not None and not any(isinstance(value, re.Pattern) for value in values):
            # Nothing but a text, or the id that is one, can be equal to a name.
            names = [str(value) for value in values if isinstance(value, str) or is_id(value)]
            return [name for name in names if is_text(name)]
    named = (_object_names(part) for part in condition.get("$and", ()))
    return next((names for names in named if names is not None), None)
