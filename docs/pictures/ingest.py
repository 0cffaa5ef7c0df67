"""Draw when the rows of an ingest are made and written, as it went: ``python docs/pictures/ingest.py``."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path
from time import perf_counter

import matplotlib as mpl
import matplotlib.pyplot as plt
from benchmarks.feeder import NewAlerts

from nuncius import Alert, open_archive
from nuncius.archives.embedded import ingest, preparing

FOLDER = Path(__file__).parents[1] / "_static"
INK, BLUE, ORANGE, GREY = "#24364b", "#1f5fa8", "#f4d9b5", "#7a8694"
COUNT, SHOWN = 4500, 6  # alerts; transactions


def traced(function, spans):
    """Note when a function begins and ends."""

    def run(*arguments):
        begin = perf_counter()
        try:
            return function(*arguments)
        finally:
            spans.append((begin, perf_counter()))

    return run


def measure():
    """Keep alerts; return when the rows of each transaction were made, and when they were written."""
    new, made, written = NewAlerts(are_known=False), [], []
    raws = [new[number] for number in range(COUNT)]
    make, enter = preparing.Preparation.__call__, ingest.enter
    preparing.Preparation.__call__, ingest.enter = traced(make, made), traced(enter, written)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            open_archive(Path(folder, "night.db")) as archive,
        ):
            archive.ingest((Alert.from_bytes(raw) for raw in raws), keep="packet", progress=False)
    finally:
        preparing.Preparation.__call__, ingest.enter = make, enter
    return made, written


def draw(made, written, first):
    """Draw both threads, from one transaction on."""
    figure, axes = plt.subplots(figsize=(8.6, 1.9), layout="constrained")
    start = made[first][0]
    for lane, spans, colour in ((1, made, BLUE), (0, written, ORANGE)):
        for number, (begin, end) in islice(enumerate(spans, 1), first, first + SHOWN):
            axes.barh(
                lane, (end - begin) * 1e3, left=(begin - start) * 1e3, height=0.7, color=colour, ec="white"
            )
            ink = "white" if lane else INK
            axes.text(
                ((begin + end) / 2 - start) * 1e3, lane, str(number), ha="center", va="center", color=ink
            )
    axes.set_yticks(
        [1, 0],
        ["rows are made\n(your thread)", "written, on the disk,\nacknowledged\n(the archive's thread)"],
    )
    axes.set_xlabel(
        "milliseconds; each block is a transaction of 500 alerts with their packets of 76 kB", color=GREY
    )
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_visible(False)
    return figure


def main():
    """Draw it."""
    mpl.rcParams.update({"font.size": 9, "text.color": INK})
    made, written = measure()
    draw(made, written, first=2).savefig(FOLDER / "ingest-threads.png", dpi=150)


if __name__ == "__main__":
    main()
