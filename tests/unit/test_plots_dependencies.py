"""Dependency graphs as they are drawn."""

import uuid
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuncius.datasets import DataSet, Graph

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra 'plots')")
matplotlib.use("agg")

from matplotlib import patches  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.path import Path  # noqa: E402

from nuncius.plots import plot_dependencies  # noqa: E402
from nuncius.plots.dependencies import _Node, _spread  # noqa: E402


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def name_of(number):
    return str(uuid.UUID(int=number + 1))


def graph_of(parents, names=None, asked=0):
    """Return the graph of data sets 0, 1, 2 ..., each derived from those whose numbers are given for it."""
    rows = [
        DataSet(
            uuid=name_of(number),
            name=names[number] if names else f"data-set-{number}",
            derived_from=[name_of(each) for each in given],
        )
        for number, given in enumerate(parents)
    ]
    return Graph(rows, name_of(asked))


class Drawn:
    """What is in the picture."""

    def __init__(self, graph, **options):
        self.ax = plot_dependencies(graph, **options)
        self.ax.figure.canvas.draw()
        self.boxes = [each for each in self.ax.patches if isinstance(each, patches.FancyBboxPatch)]
        self.arrows = [each for each in self.ax.patches if isinstance(each, patches.FancyArrowPatch)]
        self.labels = self.ax.texts[: len(self.boxes)]
        self.extents = [each.get_window_extent() for each in self.boxes]

    def box(self, label):
        """Return the box of a label, and where it is on the screen."""
        number = next(n for n, text in enumerate(self.labels) if joined(text) == label)
        return self.boxes[number], self.extents[number]


def joined(text):
    return text.get_text().replace("\n", "")


def overlapping(extents):
    return [(a, b) for n, a in enumerate(extents) for b in extents[n + 1 :] if a.overlaps(b)]


def test_origins_are_on_the_left_and_arrows_point_to_what_was_made_of_them():
    drawn = Drawn(graph_of([[], [0], [1]], ["raw", "reduced", "result"], asked=1))
    left, middle, right = (drawn.box(label)[1] for label in ("raw", "reduced", "result"))
    assert left.x1 < middle.x0 < middle.x1 < right.x0
    begins = sorted(arrow.get_window_extent().x0 for arrow in drawn.arrows)
    assert begins == pytest.approx([left.x1, middle.x1], abs=3)


def test_the_one_asked_for_is_filled_and_the_missing_one_dashed():
    drawn = Drawn(graph_of([[], [0, 7]], ["raw", "reduced"], asked=1))
    missing = drawn.box(f"{name_of(7)[:8]}…")[0]
    assert [box.get_linestyle() for box in drawn.boxes].count("dashed") == 1
    assert missing.get_linestyle() == "dashed"
    faces = {label: drawn.box(label)[0].get_facecolor() for label in ("raw", "reduced")}
    assert faces["raw"] == matplotlib.colors.to_rgba(drawn.ax.figure.get_facecolor())
    assert faces["reduced"] == matplotlib.colors.to_rgba("#286ec9")
    assert any("dashed" in text.get_text() for text in drawn.ax.texts)
    assert not any("dashed" in text.get_text() for text in Drawn(graph_of([[], [0]])).ax.texts)


LONG = [
    "ZTF25dffzpkk-spectrum-calibrated-with-standard-star-2026.11.20-version-3",
    "x" * 80,
    "two words and_an_underscore",
]


def test_long_names_are_broken_into_lines_and_whole():
    drawn = Drawn(graph_of([[], [0], [1]], LONG))
    shown = [joined(text) for text in drawn.labels]
    assert shown[:2] == LONG[:2]
    assert shown[2].replace(" ", "") == LONG[2].replace(" ", "")
    assert max(len(line) for text in drawn.labels for line in text.get_text().split("\n")) <= 24


@pytest.mark.parametrize(
    ("name", "shown"),
    [("$x^2$", r"\$x^2\$"), ("a\x1b[31mb\x00", "a?[31mb?"), ("_private", " _private"), ("n" * 5000, None)],
)
def test_a_name_of_strangers_is_plain_text(name, shown):
    drawn = Drawn(graph_of([[], [0]], [name, "b"]))
    text = drawn.labels[0].get_text()
    assert shown is None or text == shown
    assert text.count("\n") < 5


@st.composite
def graphs(draw):
    count = draw(st.integers(3, 40))
    random = draw(st.randoms(use_true_random=False))
    reach = draw(st.integers(1, 40))
    parents = [
        random.sample(range(max(0, n - reach), n), min(n, reach, random.choice([0, 1, 1, 2, 3])))
        for n in range(count)
    ]
    names = [f"{random.choice(['raw', 'calibrated-frames', LONG[0]])}-{n}" for n in range(count)]
    return graph_of(parents, names, asked=random.randrange(count))


@settings(max_examples=6, deadline=None)
@given(graphs())
def test_nothing_overlaps_no_arrow_hides_and_every_name_is_within_its_box(graph):
    drawn = Drawn(graph)
    assert (len(drawn.boxes), len(drawn.arrows)) == (len(graph.data_sets), len(graph.edges))
    assert overlapping(drawn.extents) == []
    figure = drawn.ax.figure.bbox
    for text, box in zip(drawn.labels, drawn.extents, strict=True):
        extent = text.get_window_extent()
        assert box.x0 <= extent.x0 < extent.x1 <= box.x1
        assert box.y0 <= extent.y0 < extent.y1 <= box.y1
        assert figure.x0 <= box.x0 < box.x1 <= figure.x1
        assert figure.y0 <= box.y0 < box.y1 <= figure.y1
    for arrow in drawn.arrows:
        x, y = points_of(arrow)
        for box in drawn.extents:
            inside = (x > box.x0 + 1) & (x < box.x1 - 1) & (y > box.y0) & (y < box.y1)
            assert not inside.any(), "an arrow runs behind a box"
    plt.close("all")


def points_of(arrow):
    """Return where an arrow runs, closely."""
    path = arrow.get_transform().transform_path(arrow._path_original)
    (line,) = path.to_polygons(closed_only=False)
    fine = Path(line).interpolated(20).vertices
    return fine[:, 0], fine[:, 1]


def test_in_axes_that_are_given_all_fits_and_the_rest_of_the_figure_stays():
    figure, (beside, ax) = plt.subplots(1, 2, figsize=(7, 2.5))
    beside.plot([1, 2])
    drawn = Drawn(graph_of([[], [0], [0], [1, 2], [3]], [f"{LONG[0]}-{n}" for n in range(5)]), ax=ax)
    assert drawn.ax is ax
    assert figure.get_size_inches() == pytest.approx([7, 2.5])
    assert overlapping(drawn.extents) == []
    room = ax.get_window_extent()
    for text, box in zip(drawn.labels, drawn.extents, strict=True):
        assert room.x0 <= box.x0 < box.x1 <= room.x1
        extent = text.get_window_extent()
        assert box.x0 - 1 <= extent.x0 < extent.x1 <= box.x1 + 1


def test_what_should_not_be_is_drawn_too():
    alone = Drawn(graph_of([[]]))
    assert (len(alone.boxes), len(alone.arrows)) == (1, 0)
    circle = Drawn(graph_of([[2], [0], [1]]))
    assert (len(circle.boxes), len(circle.arrows)) == (3, 3)
    assert "dotted" in {arrow.get_linestyle() for arrow in circle.arrows}
    itself = Drawn(graph_of([[0], [0]]))
    assert (len(itself.boxes), len(itself.arrows)) == (2, 1)
    assert Drawn(Graph([], "x")).boxes == []


def test_a_graph_draws_itself(tmp_path):
    ax = graph_of([[], [0]]).plot()
    ax.figure.savefig(tmp_path / "graph.png")
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(1, 30)), min_size=1, max_size=20))
def test_nodes_are_placed_in_order_and_apart_and_no_single_shift_is_better(given):
    nodes = [_Node(0, height=height) for _, height in given]
    wanted = [place for place, _ in given]
    _spread(nodes, wanted)
    for left, right in pairwise(nodes):
        assert right.y - left.y >= (left.height + right.height) / 2 + 9 - 1e-9
    # Moved as a whole they lie no nearer to where they are wanted.
    assert sum(node.y - place for node, place in zip(nodes, wanted, strict=True)) == pytest.approx(
        0, abs=1e-6
    )
