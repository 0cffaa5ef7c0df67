"""Draw the two pictures of the page on data sets: ``python docs/pictures/datasets.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch

from nuncius import Sandbox, open_dserver

FOLDER = Path(__file__).parents[1] / "_static"
INK, BLUE, PALE, GREY = "#24364b", "#1f5fa8", "#e8eff7", "#7a8694"
NAME = "ZTF25dffzpkk"  # that of docs/howto/datasets.md
ROWS = {"frames": 4.15, "spectrum": 2.75, "light-curve": 1.35}  # where each stands, in inches from below
OTHERS = {"classification": 0.72, "notes": 0.42, "unlabelled": 0.12}
BANDS = {"g": "#3a8f4d", "r": "#b3432f", "i": "#7b5ea7"}


def box(axes, x, y, width, height, *, colour=BLUE, fill=PALE, dashed=False):
    """Draw a box with round corners around what is written in it."""
    axes.add_patch(
        FancyBboxPatch(
            (x, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.08",
            fc=fill,
            ec=colour,
            lw=1.2,
            ls="--" if dashed else "-",
        )
    )


def write(axes, x, y, words, *, colour=INK, size=8.4, weight="normal", ha="left", family=None):
    """Write something."""
    axes.text(
        x,
        y,
        words,
        ha=ha,
        va="center",
        color=colour,
        size=size,
        weight=weight,
        linespacing=1.5,
        family=family,
    )


def arrow(axes, start, end, *, colour=INK, bend=0.0):
    """Draw an arrow from one thing to the next."""
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style | {"connectionstyle": f"arc3,rad={bend}"})


def go_the_way():
    """Ask for all that the picture shows; return the readme's object, the items, and the HDUs' data by data set."""
    with Sandbox() as sandbox:
        server, endpoint = sandbox.dserver, sandbox.store.s3_endpoint
        with open_dserver(server.url, token=server.token) as dserver:
            found = {row.name.removeprefix(f"{NAME}-"): row for row in dserver.search(NAME)}
            assert set(found) == {*ROWS, *OTHERS}
            source = dserver.readme(found["spectrum"]).data["object"]
            items = {row: dserver.find_items("*.fits", found[row]) for row in ROWS}
            data = {}
            for row, (first, *_) in items.items():
                with first.open(endpoint=endpoint) as fits:
                    data[row] = fits[-1].data, fits[-1].header.copy()
    return source, items, data


def draw_way(source, items, data):
    """Draw the way from an object to pixels."""
    figure = plt.figure(figsize=(10.4, 5.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10.4), ylim=(-0.15, 5.25))
    axes.set_axis_off()
    middle = ROWS["spectrum"]
    for x, words in ((0.1, "an object"), (2.35, "its data sets"), (5.15, "their items"), (7.5, "pixels")):
        axes.text(x, 5.0, words, weight="bold", size=10, color=BLUE)
    box(axes, 0.1, middle, 1.55, 1.1)
    about = f"{source['kind']}\nRA {source['ra']:.4f}°\nDec {source['dec']:+.4f}°"
    write(axes, 0.2, middle + 0.33, NAME, weight="bold")
    write(axes, 0.2, middle - 0.17, about, size=7.8)
    for name, y in (ROWS | OTHERS).items():
        wanted = name in ROWS
        colour = BLUE if wanted else GREY
        box(axes, 2.35, y, 2.0, 0.62 if wanted else 0.24, colour=colour, fill=PALE if wanted else "white")
        write(axes, 2.45, y, f"{NAME}-{name}", size=7.4, colour=INK if wanted else GREY)
        arrow(axes, (1.65, middle), (2.35, y), colour=colour)
    for name, y in ROWS.items():
        listed = "\n".join(f"{item.relpath}  {item.size:,} B" for item in items[name])
        box(axes, 5.15, y, 1.75, 0.62)
        write(axes, 5.25, y, listed, size=7.4)
        arrow(axes, (4.35, y), (5.15, y), colour=BLUE)
        arrow(axes, (6.9, y), (7.35, y), colour=BLUE)
    for x, words in ((2.0, "search(name)"), (4.75, 'find_items("*.fits")'), (7.2, "item.open()")):
        write(axes, x, 4.68, words, ha="center", size=7.6, family="monospace")
    for name, y in ROWS.items():
        draw_pixels(
            figure.add_axes((7.85 / 10.4, (y - 0.3) / 5.4, 2.5 / 10.4, 0.95 / 5.4)), name, *data[name]
        )
    save(figure, "datasets-way.png")


def a_reduction():
    """Return the graph of a reduction: two nights, a flat field, and what became of them."""
    with Sandbox() as sandbox:
        server = sandbox.dserver

        def add(name, *origins):
            return server.add(
                name, base_uri="s3://sandbox-spectra", readme={"what": name}, derived_from=origins
            )

        flat = add("flat field")
        nights = [add(f"frames, night {night}", flat) for night in (1, 2)]
        reduced = [add(f"reduced, night {number}", frames) for number, frames in enumerate(nights, 1)]
        combined = add("combined spectrum", *reduced, "0d3a11e6-7f10-4c0f-9d7e-5f1f4a5d8c2b")
        add("classification", combined)
        add("figure 3", combined)
        with open_dserver(server.url, token=server.token) as dserver:
            return dserver.graph(combined.rpartition("/")[2])


def draw_graph(graph):
    """Draw what the data sets were derived from."""
    save(graph.plot().figure, "datasets-graph.png")


def draw_pixels(axes, name, data, header):
    """Draw what was read out of one file."""
    axes.tick_params(labelsize=6, length=2, colors=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    if name == "frames":
        axes.imshow(data, origin="lower", cmap="bone", aspect="auto")
        axes.set_ylabel("row", size=6, color=GREY, labelpad=1)
    elif name == "spectrum":
        pixel = np.arange(data.size) + 1 - header["CRPIX1"]
        axes.plot(header["CRVAL1"] + header["CDELT1"] * pixel, data, color=BLUE, lw=0.9)
        axes.set_ylim(0, None)
        axes.set_ylabel("flux", size=6, color=GREY, labelpad=1)
        axes.set_xlabel("wavelength (nm)", size=6, color=GREY, labelpad=1)
    else:
        for band, colour in BANDS.items():
            rows = data[np.asarray(data["band"]).astype(str) == band]
            axes.plot(rows["mjd"], rows["mag"], ".", ms=2, color=colour)
        axes.invert_yaxis()
        axes.set_ylabel("magnitude", size=6, color=GREY, labelpad=1)
        axes.set_xlabel("MJD", size=6, color=GREY, labelpad=1)
        axes.ticklabel_format(useOffset=False)


def save(figure, name):
    """Write a picture of few kilobytes."""
    figure.savefig(FOLDER / name, dpi=110, bbox_inches="tight", pil_kwargs={"optimize": True})
    plt.close(figure)


if __name__ == "__main__":
    mpl.use("agg")
    draw_way(*go_the_way())
    draw_graph(a_reduction())
