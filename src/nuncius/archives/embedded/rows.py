"""Rows of a catalog as documents, with the images that are asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from nuncius._core.jsontext import from_text
from nuncius.archives.documents import survey_of_catalog
from nuncius.archives.embedded.database import quoted

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from nuncius.archives.language import Document, Projection

Image: TypeAlias = "tuple[str, str | None, bytes]"
"""The field of the packet, its file name, and its bytes."""

COLUMNS = ("images", "document", "extras", "annotations")

_AT_ONCE = 400  # bound parameters in one statement; SQLite allows 999 in its oldest builds
WHOLE_DOCUMENTS = ("$$ROOT", "$$CURRENT")  # what stands for a whole document in expressions


def read_document(text: str, extras: str | None, annotations: str | None) -> Document:
    """Make the document of a row."""
    document = from_text(text, extras)
    if annotations:
        document["annotations"] = {
            # A pair where there is what JSON can't hold.
            name: from_text(*((part, None) if isinstance(part, str) else part))
            for name, part in from_text(annotations, None).items()
        }
    return document


def read_images(connection: sqlite3.Connection, catalog: str, number: int, fields: Sequence[str]) -> Document:
    """Return the images of an alert in the shape in which the packet had them."""
    statement = f"SELECT field, file_name, data FROM {quoted(f'{catalog}:images')} WHERE alert = ?"
    images = connection.execute(statement, (number,)).fetchall() or _images_in_packet(
        connection, catalog, number
    )
    found = {field: as_image(file_name, data) for field, file_name, data in images}
    return {field: found[field] for field in fields if field in found}


def as_image(file_name: str | None, data: bytes) -> Any:
    """Return an image in the shape in which packets have it: bytes, or a record where it has a name."""
    return data if file_name is None else {"fileName": file_name, "stampData": data}


def cut_out(places: str, packet: bytes) -> list[Image]:
    """Cut images out of a packet, from the places that `in_packet` lists."""
    return [(field, name, packet[begin : begin + size]) for field, name, begin, size in json.loads(places)]


def _images_in_packet(connection: sqlite3.Connection, catalog: str, number: int) -> list[Image]:
    """Return the images that stand in the packet that is kept."""
    # All columns, for files of earlier layouts have none that tells of images in the packet.
    cursor = connection.execute(f"SELECT * FROM {quoted(catalog)} WHERE id = ?", (number,))
    names = [name for name, *_ in cursor.description]
    row = dict(zip(names, cursor.fetchone() or (), strict=False))
    return cut_out(row["in_packet"], row["packet"]) if row.get("in_packet") else []


def read_rows(
    connection: sqlite3.Connection, table: str, numbers: Iterable[int]
) -> dict[int, tuple[Any, ...]]:
    """Return the columns `COLUMNS` of rows of a (quoted) table, by their numbers."""
    rows: dict[int, tuple[Any, ...]] = {}
    unique = sorted(set(numbers))
    for start in range(0, len(unique), _AT_ONCE):
        some = unique[start : start + _AT_ONCE]
        marks = ", ".join("?" * len(some))
        statement = f"SELECT id, {', '.join(COLUMNS)} FROM {table} WHERE id IN ({marks})"
        for number, *row in connection.execute(statement, some):
            rows[number] = tuple(row)
    return rows


def asked_images(catalog: str, condition: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the images that a filter asks about, which are not in the text of a document."""
    from nuncius.archives.language.filters import fields_of_filter

    asked = fields_of_filter(condition)  # None may be all
    return tuple(
        field for field in survey_of_catalog(catalog).cutout_fields if asked is None or field in asked
    )


def wanted_images(catalog: str, projection: Projection) -> tuple[str, ...]:
    """Return the images that a projection keeps."""
    return tuple(field for field in survey_of_catalog(catalog).cutout_fields if projection.wants(field))
