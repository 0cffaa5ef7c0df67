"""How ``nuncius datasets`` shows what a dserver answers: as tables, facts and trees. All of it is strangers' text."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from nuncius._core.jsontext import to_text
from nuncius._core.terminal import printable
from nuncius.datasets.values import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from nuncius.datasets import DataSet, Graph, Item

_GAP = "  "
_INDENT = "    "


def print_json(value: Any) -> None:
    """Print a line of JSON; NaN is null."""
    click.echo(to_text(value)[0])


# Tables ----------------------------------------------------------------------------------------------------------------


def print_rows(rows: Sequence[Mapping[str, Any]], *, last: str | None = None) -> None:
    """Print rows in columns; see `table_lines`. What is no terminal is as wide as it need be."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in table_lines(rows, last=last, width=width):
        click.echo(line)


def table_lines(
    rows: Sequence[Mapping[str, Any]], *, last: str | None = None, width: int | None = None
) -> Iterator[str]:
    """Give rows in columns as wide as what stands in them: nothing is cut.

    Parameters
    ----------
    rows : sequence of mapping
        All with the same names. A column without values is left out.
    last : str, optional
        The column at the end, which has a line of its own below each row where the width doesn't suffice.
    width : int, optional
        How many letters a line has.
    """
    from rich.cells import cell_len

    names = [name for name in (rows[0] if rows else ()) if any(row[name] is not None for row in rows)]
    columns: list[list[str]] = []
    widths: list[int] = []
    for name in names:
        cells = [name, *(_cell(row[name]) for row in rows)]
        most = max(map(cell_len, cells))
        is_number = all(row[name] is None or isinstance(row[name], int) for row in rows)
        columns.append(
            [
                " " * (most - cell_len(cell)) + cell if is_number else cell + " " * (most - cell_len(cell))
                for cell in cells
            ]
        )
        widths.append(most)
    below = None
    if width is not None and last in names and sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        below = columns.pop(names.index(last))
    for number, line in enumerate(zip(*columns, strict=True)):
        yield _GAP.join(line).rstrip()
        if below is not None and below[number].strip():
            yield f"{_GAP}{below[number].rstrip()}"


def data_set_rows(data_sets: Iterable[DataSet]) -> list[dict[str, Any]]:
    """Return data sets as rows of a table."""
    return [
        {
            "name": found.get("name"),
            "creator": found.get("creator_username"),
            "frozen (UTC)": minutes(found.frozen),
            "items": _whole(found.get("number_of_items")),
            "bytes": _whole(found.get("size_in_bytes")),
            "tags": _listed(found.get("tags")),
            "uri": found.get("uri"),
        }
        for found in data_sets
    ]


def item_rows(items: Iterable[Item], urls: Iterable[str | None]) -> list[dict[str, Any]]:
    """Return items as rows of a table; one that has no URL shows in which data set it is."""
    return [
        {"bytes": item.size, "path": item.relpath, "url": url or f"(none; in {item.data_set_uri})"}
        for item, url in zip(items, urls, strict=True)
    ]


def minutes(when: datetime | None) -> str | None:
    """Return a time to the minute."""
    return None if when is None else f"{when:%Y-%m-%d %H:%M}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else printable(_text(value))


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _listed(value: Any) -> str | None:
    return ", ".join(map(_text, value)) or None if isinstance(value, list) else None


def _text(value: Any) -> str:
    return (
        json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list)) else str(value)
    )


# One data set ----------------------------------------------------------------------------------------------------------


def print_data_set(values: Mapping[str, Any]) -> None:
    """Print what is known of a data set, by the names that it has in JSON."""
    own = {name: values[name] for name in values if name not in {"tags", "annotations", "readme"}}
    facts = {"name": values.get("name"), "uri": values.get("uri"), **own, "tags": _listed(values.get("tags"))}
    print_facts({name: _fact(name, value) for name, value in facts.items()})
    if annotations := values.get("annotations"):
        click.echo("annotations")
        print_values(annotations, indent=_INDENT)
    if readme := str(values.get("readme") or "").rstrip():
        click.echo("readme")
        click.echo("\n".join(f"{_INDENT}{line}" for line in readable(readme).splitlines()))


def print_facts(facts: Mapping[str, Any], *, indent: str = "") -> None:
    """Print names and values, one a line; those without a value are left out."""
    shown = [(printable(str(name)), value) for name, value in facts.items() if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{indent}{name:{width}}  {_cell(value)}".rstrip())


def print_values(values: Mapping[str, Any], *, indent: str = "") -> None:
    """Print names and values as they stand: a number may be a year."""
    print_facts({name: _text(value) for name, value in values.items()}, indent=indent)


def readable(text: str) -> str:
    """Return a text of several lines without what a terminal would obey."""
    return "\n".join(printable(line.expandtabs()) for line in text.splitlines())


def print_text(text: str) -> None:
    """Print a text as it is, byte for byte; only to a terminal without what that would obey."""
    if sys.stdout.isatty():
        click.echo(readable(text))
    else:
        # Halves of surrogate pairs, which JSON can spell and no text can hold, become question marks.
        click.echo(text.encode("utf-8", "replace"), nl=False)


def _fact(name: str, value: Any) -> Any:
    if name in {"created_at", "frozen_at"} and (when := moment(value)) is not None:
        return f"{when:%Y-%m-%d %H:%M:%S} UTC"
    return value


# What was made from what -----------------------------------------------------------------------------------------------


def print_graph(graph: Graph) -> None:
    """Print data sets as trees: what was derived from one stands below it. The one that was asked for has an arrow."""
    children: dict[str, list[str]] = {}
    for child, parent in graph.edges:
        children.setdefault(parent, []).append(child)
    levels = graph.levels()
    known = {row["uuid"]: row for row in graph.data_sets}
    shown: set[str] = set()
    # Those without an origin come first; what is left after them is part of a circle.
    for root in sorted(levels, key=lambda uuid: levels[uuid]):
        if root in shown:
            continue
        waiting = [(root, "", "")]
        while waiting:
            uuid, before, below = waiting.pop()
            again = uuid in shown
            shown.add(uuid)
            name = printable(graph.name(uuid))
            note = "  (see above)" if again and children.get(uuid) else ""
            note += "" if uuid in known else "  (not there, or not yours to see)"
            arrow = "  <--" if uuid == graph.uuid else ""
            click.echo(f"{before}{name}  {printable(uuid)}{note}{arrow}")
            under = [] if again else children.get(uuid, [])
            for number, child in enumerate(reversed(under)):
                ends = number == 0
                waiting.append(
                    (child, f"{below}{'└── ' if ends else '├── '}", f"{below}{'    ' if ends else '│   '}")
                )
