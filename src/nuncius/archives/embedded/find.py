"""Finding documents: SQL decides on the rows that it can decide on, the matcher on the others.

Names of catalogs may be those of alerts, of reference catalogs, and of the histories of objects (``…_aux``).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from nuncius._core.jsontext import from_text
from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.fields import OBJECT, ODD
from nuncius.archives.embedded.histories import count_histories, histories, is_histories
from nuncius.archives.embedded.reading import end_of, nested, read_numbered, select, selected
from nuncius.archives.embedded.rows import asked_images, wanted_images
from nuncius.archives.embedded.select import Selection
from nuncius.archives.language import Projection, distinct_values, matches, sort_documents
from nuncius.archives.language.sorting import first_documents
from nuncius.archives.language.values import order_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nuncius.archives.embedded.database import Database
    from nuncius.archives.language import Document


def find(
    database: Database,
    catalog: str,
    condition: Mapping[str, Any],
    projection: Projection,
    order: Sequence[tuple[str, int]] = (),
    skip: int = 0,
    limit: int | None = None,
) -> Iterator[Document]:
    """Give the documents of a catalog that meet a checked filter.

    Without an order they come as they came into the archive.
    """
    if is_histories(catalog):
        documents: Iterable[Document] = histories(database, catalog, condition)
        if order:
            most = end_of(skip, limit)
            documents = (
                sort_documents(documents, order) if most is None else first_documents(documents, order, most)
            )
        yield from map(projection.apply, islice(documents, skip, end_of(skip, limit)))
        return
    images = wanted_images(catalog, projection)
    for row in select(database, catalog, condition, order, skip, limit):
        yield projection.apply(row.read(database, catalog, images))


def count(
    database: Database, catalog: str, condition: Mapping[str, Any], skip: int = 0, limit: int | None = None
) -> int:
    """Count the documents of a catalog that meet a checked filter."""
    if is_histories(catalog):
        found = count_histories(database, catalog, condition)
    elif not condition:
        found = _all_rows(database, catalog)
    else:
        found = _count(database, catalog, condition)
    left = max(0, found - skip)
    return left if limit is None else min(left, limit)


def estimated_count(database: Database, catalog: str) -> int:
    """Tell about how many documents a catalog has, at once.

    It is the span of the numbers of the rows, which is exact unless something was deleted in the middle; the documents
    of histories are counted.
    """
    if is_histories(catalog):
        return count(database, catalog, {})
    with database.errors():
        first, last = database.connection.execute(
            f"SELECT (SELECT min(id) FROM {quoted(catalog)}), (SELECT max(id) FROM {quoted(catalog)})"
        ).fetchone()
    return 0 if first is None else int(last - first + 1)


def distinct(database: Database, catalog: str, field: str, condition: Mapping[str, Any]) -> list[Any]:
    """Return the values that a field has in the documents that meet a checked filter, each once, in order."""
    names = field.split(".")
    if is_histories(catalog):
        return distinct_values(histories(database, catalog, condition), field)
    selection = Selection.of(database, catalog, condition)
    of = selection.fields[field]
    if of is None:
        return distinct_values(find(database, catalog, condition, Projection([names[0]])), field)
    values = _distinct_in_index(database, catalog, field, condition)
    if values is not None:
        return sorted(values, key=order_key)
    key = selection.key(of)
    # Rows that SQL can't decide on come by their number, all others by the text of the value.
    plain = f"v = 1 AND {key} IS NOT {ODD} AND {key} IS NOT {OBJECT}"
    text = "json_quote(_id)" if field == "_id" else of.text
    statement = (
        f"SELECT DISTINCT CASE WHEN {plain} THEN NULL ELSE id END, CASE WHEN {plain} THEN {text} END "
        f"FROM {selection.judged(['_id', 'document'])}"
    )
    documents: list[Document] = []
    numbers = []
    with database.errors():
        for number, value in database.connection.execute(statement, selection.parameters):
            if number is not None:
                numbers.append(number)
            elif value is not None:
                documents.append(nested(names, from_text(f'{{"value":{value}}}', None)["value"]))
    kept = Projection([names[0]])
    documents += (
        kept.apply(document) for document in _checked(database, catalog, numbers, condition, names[0])
    )
    return distinct_values(documents, field)


def _distinct_in_index(
    database: Database, catalog: str, field: str, condition: Mapping[str, Any]
) -> list[Any] | None:
    """Return the values that a field has, if its index alone has all that is asked for, and plain values only."""
    selection = Selection.of(database, catalog, condition, with_documents=False)
    of = selection.fields[field]
    if of is None:
        return None
    key = selection.key(of)
    if not selection.is_covered:
        return None
    plain = f"v = 1 AND typeof({key}) IN ('integer', 'text')"
    statement = f"SELECT DISTINCT CASE WHEN {plain} THEN {key} END FROM {selection.judged()}"
    values = []
    with database.errors():
        for (value,) in database.connection.execute(statement, selection.parameters):
            if value is None:  # something else, of which the index does not say enough
                return None
            values.append(value)
    return values


def _count(database: Database, catalog: str, condition: Mapping[str, Any]) -> int:
    for selection in Selection.attempts(database, catalog, condition):
        if not selection.is_covered and not selection.verdict.with_documents:
            continue
        with database.errors():
            known, unknown = database.connection.execute(selection.counted(), selection.parameters).fetchone()
        if not unknown:
            return int(known)
    # Counted anew, in one statement: what comes in meanwhile is counted wholly or not at all.
    return sum(1 for _ in selected(database, catalog, selection))


def _all_rows(database: Database, catalog: str) -> int:
    with database.errors():
        return int(database.connection.execute(f"SELECT count(*) FROM {quoted(catalog)}").fetchone()[0])


def _checked(
    database: Database, catalog: str, numbers: Sequence[int], condition: Mapping[str, Any], field: str
) -> Iterator[Document]:
    """Give the documents of rows if they meet a filter."""
    asked = {*asked_images(catalog, condition), *asked_images(catalog, {field: 1})}
    for row in read_numbered(database, catalog, numbers):
        document = row.read(database, catalog, tuple(asked))
        if matches(document, condition):
            yield document
