"""Dependency graphs: which data set was made from which, from the left to the right.

Layers, places for long arrows between the boxes, and an order with few crossings: after Sugiyama, Tagawa & Toda 1981, IEEE
Transactions on Systems, Man, and Cybernetics 11, 109.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import require
from nuncius.plots.style import CATEGORY_COLOURS, NEUTRAL, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nuncius.datasets.graph import Graph

# Lengths are in points (1/72 inch).
_FONT = 8.0
_LINE = 1.35 * _FONT
_PADDING = 6.0
_GAP = 9.0  # between boxes that lie above each other
_AISLE = 44.0  # between layers, where the arrows run
_MARGIN = 10.0
_LARGEST_FIGURE = 100 * 72.0
_LONGEST_LINE = 24  # letters
_MOST_LINES = 5
_SWEEPS = 16
_NOTE = "dashed: not there, or not yours to see"


@dataclass(slots=True, eq=False)
class _Node:
    """A box, or a place where a long arrow passes between boxes: then without lines of text."""

    layer: int
    lines: list[str] = field(default_factory=list)
    width: float = 0.0
    height: float = 2.0
    x: float = 0.0  # of the left side
    y: float = 0.0  # of the middle
    before: list[_Node] = field(default_factory=list, repr=False)
    after: list[_Node] = field(default_factory=list, repr=False)


def plot_dependencies(graph: Graph, *, ax: Any = None) -> Any:
    """Draw which data set was derived from which: origins on the left, arrows point to what was made from them.

    The data set that was asked for is filled, and those that are missing are dashed. A new figure is as large as it need be;
    in axes that are given all is as small as it need be.

    Parameters
    ----------
    graph : Graph
        As `DServer.graph` gives it.
    ax : matplotlib axes, optional
        Where; a new figure by default.

    Returns
    -------
    matplotlib axes
        Without axis lines; a unit of theirs is a point (1/72 inch) where nothing had to be made smaller.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> plot_dependencies(dserver.graph(uuid)).figure.savefig("graph.png")  # doctest: +SKIP
    """
    boxes = _boxes(graph)
    routes = _routes(graph, boxes)
    width, height = _place([*boxes.values(), *(node for route in routes for node in route[1:-1])])
    low = _LINE + _GAP if graph.missing else 0.0
    ax, scale = _canvas(ax, (-_MARGIN, width + _MARGIN), (-_MARGIN - low, height + _MARGIN))
    for route in routes:
        _draw_arrow(ax, route, scale)
    for uuid, box in boxes.items():
        _draw_box(ax, box, scale, asked=uuid == graph.uuid, missing=uuid in graph.missing)
    if low:
        ax.text(0, -low, _NOTE, fontsize=_FONT * scale, color=NEUTRAL, va="bottom")
    return ax


# What is to be drawn ---------------------------------------------------------------------------------------------------


def _boxes(graph: Graph) -> dict[str, _Node]:
    boxes = {}
    for uuid, layer in graph.levels().items():
        lines = _wrapped(graph.name(uuid))
        weight = "bold" if uuid == graph.uuid else "normal"
        width = max(_length(line, weight) for line in lines) + 2 * _PADDING
        boxes[uuid] = _Node(layer, lines, width, len(lines) * _LINE + _PADDING)
    return boxes


def _routes(graph: Graph, boxes: dict[str, _Node]) -> list[list[_Node]]:
    """Return through which nodes each arrow runs; those that begin at one box run together as far as they can."""
    passed: dict[tuple[str, int], _Node] = {}
    routes = []
    for child, parent in graph.edges:
        begin, end = boxes[parent], boxes[child]
        if child == parent:
            continue
        between = [
            passed.setdefault((parent, layer), _Node(layer)) for layer in range(begin.layer + 1, end.layer)
        ]
        route = [begin, *between, end]
        routes.append(route)
        for left, right in pairwise(route):
            # An arrow that runs back, in a circle, does not decide where its boxes are.
            if right.layer > left.layer and right not in left.after:
                left.after.append(right)
                right.before.append(left)
    return routes


def _wrapped(name: str) -> list[str]:
    """Break a name into lines that are not long, after its hyphens and the like where it has some."""
    lines = [""]
    for word in re.findall(r"[^-_./\s]*[-_./\s]?", name):
        for begin in range(0, len(word), _LONGEST_LINE):
            piece = word[begin : begin + _LONGEST_LINE]
            if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > _LONGEST_LINE:
                lines.append("")
            lines[-1] += piece
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], f"…{name[-_LONGEST_LINE + 1 :]}"]
    return [plain(line.strip()) for line in lines]


def _length(line: str, weight: str) -> float:
    path = require("matplotlib.textpath", extra="plots").TextPath
    font = require("matplotlib.font_manager", extra="plots").FontProperties(weight=weight, size=_FONT)
    drawn = path((0, 0), line, prop=font)
    return float(drawn.get_extents().width) if len(drawn.vertices) else 0.0


# Where it is -----------------------------------------------------------------------------------------------------------


def _place(nodes: Iterable[_Node]) -> tuple[float, float]:
    """Give each node its place, and return the width and height of all."""
    layers: dict[int, list[_Node]] = {}
    for node in dict.fromkeys(nodes):
        layers.setdefault(node.layer, []).append(node)
    columns = [layers[number] for number in sorted(layers)]
    right = -_AISLE
    for column in columns:
        width = max(node.width for node in column)
        for node in column:
            node.x, node.width = right + _AISLE, width
        right += _AISLE + width
        _spread(column, [0.0] * len(column))
    for sweep in range(_SWEEPS):
        _sweep(columns, forward=sweep % 2 == 0, both=sweep >= _SWEEPS / 2)
    low = min((node.y - node.height / 2 for column in columns for node in column), default=0.0)
    high = max((node.y + node.height / 2 for column in columns for node in column), default=0.0)
    for column in columns:
        for node in column:
            node.y -= low
    return max(right, 0.0), high - low


def _sweep(columns: Sequence[list[_Node]], *, forward: bool, both: bool) -> None:
    """Move all nodes, column by column, to the middle of those that they hang together with, as far as there is room."""
    for column in columns if forward else reversed(columns):
        wanted = {}
        for node in column:
            beside = [*node.before, *node.after] if both else node.before if forward else node.after
            wanted[node] = sum(other.y for other in beside) / len(beside) if beside else node.y
        column.sort(key=wanted.__getitem__)
        _spread(column, [wanted[node] for node in column])


def _spread(column: Sequence[_Node], wanted: Sequence[float]) -> None:
    """Place nodes, in this order, as near as can be to where they are wanted, and none upon another.

    The sum of the squares of the distances is the least: with what each must lie above the first taken off, it is a
    regression that must not fall, which the pooling of neighbours solves (Barlow et al. 1972).
    """
    offset, offsets = 0.0, []
    for number, node in enumerate(column):
        if number:
            offset += (column[number - 1].height + node.height) / 2 + _GAP
        offsets.append(offset)
    pools: list[tuple[float, int]] = []  # sum and number
    for place, above in zip(wanted, offsets, strict=True):
        total, count = place - above, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before = pools.pop()
            total, count = total + before[0], count + before[1]
        pools.append((total, count))
    level = [total / count for total, count in pools for _ in range(count)]
    for node, place, above in zip(column, level, offsets, strict=True):
        node.y = place + above


# Drawing ---------------------------------------------------------------------------------------------------------------


def _canvas(ax: Any, x: tuple[float, float], y: tuple[float, float]) -> tuple[Any, float]:
    """Return axes in which a unit is a point times the scale, and the scale."""
    width, height = x[1] - x[0], y[1] - y[0]
    if ax is None:
        pyplot = require("matplotlib.pyplot", extra="plots")
        scale = min(1.0, _LARGEST_FIGURE / max(width, height))
        ax = pyplot.figure(figsize=(width * scale / 72, height * scale / 72)).add_axes((0, 0, 1, 1))
        wide, high = width, height
    else:
        room = ax.get_window_extent()
        points = 72 / ax.figure.dpi
        scale = min(1.0, room.width * points / width, room.height * points / height)
        wide, high = room.width * points / scale, room.height * points / scale
    for middle, length, put in ((sum(x) / 2, wide, ax.set_xlim), (sum(y) / 2, high, ax.set_ylim)):
        put(middle - length / 2, middle + length / 2)
    ax.set_axis_off()
    return ax, scale


def _draw_box(ax: Any, box: _Node, scale: float, *, asked: bool, missing: bool) -> None:
    patches = require("matplotlib.patches", extra="plots")
    colour = CATEGORY_COLOURS[0] if asked else NEUTRAL
    ax.add_patch(
        patches.FancyBboxPatch(
            (box.x, box.y - box.height / 2),
            box.width,
            box.height,
            boxstyle="round,pad=0,rounding_size=4",
            facecolor=colour if asked else ax.figure.get_facecolor(),  # arrows of a circle run behind it
            edgecolor=colour,
            linestyle="dashed" if missing else "solid",
            linewidth=0.9 * scale,
            zorder=2,
        )
    )
    ax.text(
        box.x + box.width / 2,
        box.y,
        "\n".join(box.lines),
        ha="center",
        va="center",
        fontsize=_FONT * scale,
        zorder=3,
        **({"color": "white", "weight": "bold"} if asked else {}),
    )


def _draw_arrow(ax: Any, route: Sequence[_Node], scale: float) -> None:
    patches = require("matplotlib.patches", extra="plots")
    path = require("matplotlib.path", extra="plots").Path
    points, codes = [(route[0].x + route[0].width, route[0].y)], [path.MOVETO]
    for left, right in pairwise(route):
        begin = left.x + left.width
        bend = (right.x - begin) / 2 if right.layer > left.layer else _AISLE
        points += [(begin + bend, left.y), (right.x - bend, right.y), (right.x, right.y)]
        codes += [path.CURVE4] * 3
        if right is not route[-1]:
            points.append((right.x + right.width, right.y))
            codes.append(path.LINETO)
    back = route[-1].layer <= route[0].layer
    ax.add_patch(
        patches.FancyArrowPatch(
            path=path(points, codes),
            arrowstyle="-|>",
            mutation_scale=8 * scale,
            color=NEUTRAL,
            linewidth=0.9 * scale,
            linestyle="dotted" if back else "solid",
            zorder=1,
        )
    )
