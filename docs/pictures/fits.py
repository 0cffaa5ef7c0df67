"""Draw the two pictures of the page on the bytes of FITS files: ``python docs/pictures/fits.py``."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

FOLDER = Path(__file__).parents[1] / "_static"
INK, BLUE, PALE, RED, GREY = "#24364b", "#1f5fa8", "#e8eff7", "#b3432f", "#7a8694"
HEADER, DATA = 0.16, 0.74  # widths in the drawing: in a real file a header is far narrower


def bar(axes, x, y, width, colour, *, height=0.34, edge="white"):
    """Draw some bytes."""
    axes.add_patch(Rectangle((x, y), width, height, fc=colour, ec=edge, lw=0.7))


def text(axes, x, y, words, *, colour=INK, ha="left", weight="normal"):
    """Write something."""
    axes.text(x, y, words, ha=ha, va="center", color=colour, size=8.4, weight=weight, linespacing=1.4)


def arrow(axes, start, end, *, colour=INK, style="-|>", bend=0.0):
    """Draw an arrow."""
    properties = {"arrowstyle": style, "color": colour, "lw": 1.1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=properties | {"connectionstyle": f"arc3,rad={bend}"})


def draw_walk():
    """Draw which bytes each round trip reads, and what is known after it."""
    figure, axes = plt.subplots(figsize=(10.0, 3.5))
    places = [HEADER + number * (HEADER + DATA) for number in range(7)]
    end = places[-1] + HEADER + DATA
    words = end + 0.25

    bar(axes, 0, 2.9, HEADER, BLUE)
    for place in places:
        bar(axes, place, 2.9, HEADER, BLUE)
        bar(axes, place + HEADER, 2.9, DATA, PALE, edge=GREY)
    text(axes, 0, 3.42, "headers", colour=BLUE)
    text(axes, places[1] + HEADER + DATA / 2, 3.42, "data", colour=GREY, ha="center")
    text(axes, words, 3.07, "the file", weight="bold")

    bar(axes, 0, 2.4, 0.47, RED, height=0.2)
    text(axes, words, 2.5, "1. its beginning: two headers, and the size", colour=RED)

    arrow(axes, (places[0], 2.05), (places[1], 2.05), style="|-|,widthA=0.25,widthB=0.25")
    text(axes, (places[0] + places[1]) / 2, 1.86, "one length", ha="center")
    for place in (*places[1:], end):
        axes.plot([place, place], [1.6, 2.86], color=GREY, lw=0.8, ls=":", zorder=0)
    for place, after in zip(places[1:], (*places[2:], end), strict=True):
        arrow(axes, (place, 2.05), (after, 2.05), style="|-|,widthA=0.25,widthB=0.25", colour=GREY)
    text(
        axes,
        words,
        1.95,
        "a guess: with NEXTEND of these lengths\nthe file would end where it ends",
        colour=GREY,
    )

    for place in places[1:]:
        bar(axes, place, 1.3, HEADER, RED, height=0.2)
    text(axes, words, 1.4, "2. the others, side by side", colour=RED)

    for place, after in itertools.pairwise(places):
        arrow(axes, (place + HEADER / 2, 0.95), (after + HEADER / 2, 0.95), colour=BLUE, bend=0.25)
    text(
        axes,
        words,
        0.85,
        "a proof: each header tells where the next\none begins; what doesn't fit is not used",
        colour=BLUE,
    )
    axes.set(xlim=(-0.05, end + 3.9), ylim=(0.45, 3.6))
    axes.set_axis_off()
    save(figure, "fits-walk.png")


def draw_ranges():
    """Draw a cutout as pixels and as bytes, with short gaps between its rows and with long ones."""
    figure, (image, line) = plt.subplots(
        1, 2, figsize=(10.0, 2.7), width_ratios=[1, 3.1], layout="constrained"
    )
    image.add_patch(Rectangle((0, 0), 10, 8, fc=PALE, ec=GREY, lw=1))
    for row in range(1, 8):
        image.plot([0, 10], [row, row], color="white", lw=0.8)
    for row in range(3, 7):
        bar(image, 5, row, 2, BLUE, height=1)
    text(image, 0, 8.6, "the image, a cutout in it")
    image.set(xlim=(-0.2, 10.2), ylim=(-0.3, 9.2), aspect="equal")

    text(line, 0, 3.75, "the same in the file: short gaps are read over, it is one request")
    strip(line, 3.0, step=1.15)
    bar(line, 1.4, 2.72, 3 * 1.15 + 0.3, RED, height=0.16)
    text(line, 0, 2.05, "a cube, whose rows are 22 MB apart: as many requests as rows, side by side")
    strip(line, 1.3, step=2.3)
    for row in range(4):
        bar(line, 1.4 + row * 2.3, 1.02, 0.3, RED, height=0.16)
        if row:
            text(line, 1.4 + row * 2.3 - 0.57, 1.47, "//", colour=GREY, weight="bold")
    text(line, 0, 0.6, "read", colour=RED)
    text(line, 0.75, 0.6, "wanted", colour=BLUE)
    line.set(xlim=(-0.05, 9.8), ylim=(0.35, 4.0))
    for axes in (image, line):
        axes.set_axis_off()
    save(figure, "fits-ranges.png")


def strip(axes, y, *, step):
    """Draw bytes, four runs of which are wanted."""
    bar(axes, 0, y, 9.7, PALE, edge=GREY)
    for row in range(4):
        bar(axes, 1.4 + row * step, y, 0.3, BLUE)


def save(figure, name):
    """Write a picture of few kilobytes."""
    figure.savefig(FOLDER / name, dpi=110, bbox_inches="tight", pil_kwargs={"optimize": True})
    plt.close(figure)


if __name__ == "__main__":
    mpl.use("agg")
    draw_walk()
    draw_ranges()
