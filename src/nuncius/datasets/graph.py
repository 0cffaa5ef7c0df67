"""Which data set was made from which."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require, upward
from nuncius.datasets.values import DataSets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuncius.datasets.values import DataSet


class Graph:
    """Data sets, and which of them was derived from which.

    Parameters
    ----------
    data_sets : iterable of DataSet
        As a dserver gives them, with `derived_from`.
    uuid : str
        The one that was asked for.

    Attributes
    ----------
    data_sets : DataSets
        The data sets, each once.
    edges : list of (str, str)
        UUIDs: the first was derived from the second.
    missing : list of str
        UUIDs that others were derived from and of which the server has, or shows, no data set.
    """

    def __init__(self, data_sets: Iterable[DataSet], uuid: str) -> None:
        self.uuid = uuid
        found = self._known = {row["uuid"]: row for row in data_sets if isinstance(row.get("uuid"), str)}
        for row in found.values():
            row["derived_from"] = _texts(row.get("derived_from"))
        self.data_sets = DataSets(found.values())
        self.edges = [(child, parent) for child, row in found.items() for parent in row["derived_from"]]
        self.missing = [
            parent for parent in dict.fromkeys(parent for _, parent in self.edges) if parent not in found
        ]

    def parents(self, uuid: str) -> list[str]:
        """Return what a data set was derived from."""
        return [parent for child, parent in self.edges if child == uuid]

    def children(self, uuid: str) -> list[str]:
        """Return what was derived from a data set."""
        return [child for child, parent in self.edges if parent == uuid]

    def name(self, uuid: str) -> str:
        """Return the name of a data set; the beginning of its UUID where it is missing."""
        row = self._known.get(uuid)
        return str(row.get("name") or uuid[:8]) if row is not None else f"{uuid[:8]}…"

    def levels(self) -> dict[str, int]:
        """Return how many steps each data set is away from where all began: 0 for what was derived from nothing."""
        levels = dict.fromkeys([*self._known, *self.missing], 0)
        children: dict[str, list[str]] = {uuid: [] for uuid in levels}
        for child, parent in self.edges:
            if child != parent:
                children[parent].append(child)
        unmet = Counter(child for each in children.values() for child in each)
        ready = deque(uuid for uuid in levels if not unmet[uuid])
        while ready:  # what is left is a circle, which should not be, and what was derived from it
            parent = ready.popleft()
            for child in children[parent]:
                levels[child] = max(levels[child], levels[parent] + 1)
                unmet[child] -= 1
                if not unmet[child]:
                    ready.append(child)
        return levels

    def to_dot(self) -> str:
        """Return the graph in the language of Graphviz; an arrow points from a data set to what was derived from it."""
        lines = ["digraph data_sets {", "  rankdir=LR;", '  node [shape=box, style="rounded"];']
        for uuid in [*self._known, *self.missing]:
            style = (
                ", style=dashed" if uuid not in self._known else ", penwidth=2" if uuid == self.uuid else ""
            )
            lines.append(f"  {_quoted(uuid)} [label={_quoted(self.name(uuid))}{style}];")
        lines += [f"  {_quoted(parent)} -> {_quoted(child)};" for child, parent in self.edges]
        return "\n".join([*lines, "}", ""])

    def to_networkx(self) -> Any:
        """Return a `networkx.DiGraph`; an edge goes from a data set to what was derived from it.

        Raises
        ------
        MissingExtraError
            If networkx is not installed.
        """
        graph = require("networkx", extra="graphs").DiGraph()
        graph.add_nodes_from((row["uuid"], dict(row)) for row in self.data_sets)
        graph.add_nodes_from(self.missing)
        graph.add_edges_from((parent, child) for child, parent in self.edges)
        return graph

    def plot(self, *, ax: Any = None) -> Any:
        """Draw the graph; see `nuncius.plots.plot_dependencies`.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        return upward("nuncius.plots").plot_dependencies(self, ax=ax)

    def __len__(self) -> int:
        return len(self.data_sets)

    def __repr__(self) -> str:
        missing = f", {len(self.missing)} missing" if self.missing else ""
        return f"<Graph of {self.uuid}: {len(self.data_sets)} data sets, {len(self.edges)} edges{missing}>"

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{escape(self.name(child))}</td><td>{escape(self.name(parent))}</td></tr>"
            for child, parent in self.edges
        )
        return (
            f"<p>{escape(repr(self))}</p><table><tr><th>data set</th><th>derived from</th></tr>{rows}</table>"
        )


def _texts(value: Any) -> list[str]:
    """Return the texts of a list, each once: what a key names that says something else is no UUID."""
    found = value if isinstance(value, list) else [value]
    return list(dict.fromkeys(text for text in found if isinstance(text, str)))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
