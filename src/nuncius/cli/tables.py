"""Documents as tables that fit the terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from nuncius._core.jsontext import to_text
from nuncius._core.terminal import plain_text
from nuncius.archives.documents import survey_of_catalog

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def print_json(value: dict[str, Any]) -> None:
    """Print a document as a line of JSON; images are base64, NaN is null."""
    click.echo(to_text(value)[0])


def print_documents(documents: Iterable[dict[str, Any]], catalog: str, fields: Sequence[str]) -> int:
    """Print documents as a table and return how many there were."""
    rows = [_row(document, catalog, fields) for document in documents]
    print_table(rows)
    return len(rows)


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows as a table; a column that is empty everywhere is left out."""
    from rich.console import Console
    from rich.table import Table

    names = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if any(r.get(name) is not None for r in rows)
    ]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        values = [row.get(name) for row in rows]
        numeric = all(isinstance(value, (int, float)) for value in values if value is not None)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(plain_text(_text(name, row.get(name))) for name in names))
    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console = Console(width=200)  # a file or a pipe has no width: don't cut the ids
    console.print(table)


def _row(document: dict[str, Any], catalog: str, fields: Sequence[str]) -> dict[str, Any]:
    if fields:
        return {name: _at(document, name) for name in fields}
    reading = survey_of_catalog(catalog).read(document)
    point = reading.point
    return {
        "object": reading.object_id or (document.get("_id") if reading.alert_id is None else None),
        "alert": reading.alert_id,
        "MJD": point.mjd,
        "RA": point.ra,
        "Dec": point.dec,
        "band": point.band,
        "mag": point.mag,
        "score": point.score,
        "sep/arcsec": document.get("separation_arcsec"),
        "position": document.get("input_index") or None,
    }


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


_DIGITS = {"MJD": 4, "RA": 5, "Dec": 5, "mag": 2, "score": 2, "sep/arcsec": 3}


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{_DIGITS[name]}f}" if name in _DIGITS else f"{value:g}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)
