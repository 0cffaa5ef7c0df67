"""Draw the two pictures of the pages on streams: ``python docs/pictures/streams.py``."""

from __future__ import annotations

import base64
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch

from nuncius import Sandbox, open_stream
from nuncius.sandbox import synthetic_alerts
from nuncius.sandbox.gravitational_waves import SkyMap
from nuncius.sky import to_region

FOLDER = Path(__file__).parents[1] / "_static"
INK, BLUE, PALE, RED, GREY = "#24364b", "#1f5fa8", "#e8eff7", "#b3432f", "#7a8694"
WAVE = SkyMap(250.0, 0.0, 8.0)  # that of docs/howto/brokers/gcn.md


def box(axes, x, y, title, text, *, width=1.5, colour=BLUE, height=0.9):
    """Draw one part of the flow."""
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.1", fc=PALE, ec=colour, lw=1.3
        )
    )
    axes.text(
        x + width / 2,
        y + height - 0.24,
        title,
        ha="center",
        va="center",
        weight="bold",
        color=colour,
        size=9.5,
    )
    axes.text(
        x + width / 2,
        y + (height - 0.34) / 2,
        text,
        ha="center",
        va="center",
        color=INK,
        size=7.6,
        linespacing=1.3,
    )


def arrow(axes, start, end, *, colour=INK, text="", at=None, bend=0.0):
    """Draw a way that messages take."""
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.3, "shrinkA": 1, "shrinkB": 1}
    axes.annotate("", end, start, arrowprops=style | {"connectionstyle": f"arc3,rad={bend}"})
    if text:
        x, y = at or ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.12)
        axes.text(x, y, text, ha="center", va="center", color=colour, size=7.6)


def draw_flow():
    """Draw how a message becomes an alert that is finished."""
    figure, axes = plt.subplots(figsize=(10.0, 3.9))
    box(axes, 0.0, 1.75, "antares://", "messages,\none broker", width=1.3)
    box(axes, 0.0, 0.55, "fink://", "messages,\nanother", width=1.3)
    box(axes, 2.0, 1.15, "reader", "bytes → alert\nor notice", width=1.35)
    box(axes, 4.0, 1.15, "filters", "where, near,\nregion, seen before")
    box(axes, 6.15, 1.15, "queue", "bounded: a slow\nprogram pauses it")
    box(axes, 8.3, 1.75, "your program", "for alert in stream", width=1.6)
    box(axes, 8.3, 0.55, "sinks", "archive, files,\nParquet, command", width=1.6)
    box(axes, 1.9, -0.75, "quarantine", "unreadable bytes,\nwith the reason", colour=RED, width=1.55)
    arrow(axes, (1.3, 2.2), (2.0, 1.75))
    arrow(axes, (1.3, 1.0), (2.0, 1.45))
    arrow(axes, (3.35, 1.6), (4.0, 1.6))
    arrow(axes, (5.5, 1.6), (6.15, 1.6))
    arrow(axes, (7.65, 1.75), (8.3, 2.2))
    arrow(axes, (7.65, 1.45), (8.3, 1.0))
    arrow(axes, (2.675, 1.15), (2.675, 0.15), colour=RED)
    arrow(axes, (4.75, 1.15), (4.75, 0.3), colour=GREY, text="not wanted: finished", at=(4.75, 0.15))
    # What is finished goes back to the brokers, above everything.
    axes.plot([9.1, 9.1, 0.65], [2.65, 3.05, 3.05], color=BLUE, lw=1.3, ls="--")
    arrow(axes, (0.65, 3.06), (0.65, 2.65), colour=BLUE)
    axes.text(
        4.75,
        3.2,
        "finished, and on the disk → acknowledged: the broker keeps the new position",
        ha="center",
        va="center",
        color=BLUE,
        size=8.2,
    )
    axes.set(xlim=(-0.1, 10.0), ylim=(-0.85, 3.4))
    axes.set_axis_off()
    save(figure, "stream-flow.png")


def alerts_of_both():
    """Listen twice: to all alerts, and to those within the sky map's 90 % region."""
    with Sandbox() as sandbox:
        sandbox.kafka.publish("night", synthetic_alerts(200))
        url = f"{sandbox.kafka.url}/night"
        with open_stream(url, group=False, stop="end") as stream:
            everything = list(stream)
        sky_map = base64.b64decode(WAVE.to_base64())
        with open_stream(url, region=sky_map, level=0.9, group=False, stop="end") as stream:
            inside = {alert.alert_id for alert in stream}
    return everything, inside, to_region(sky_map, 0.9)


def draw_region():
    """Draw the region and which alerts a stream with ``region=`` gives."""
    everything, inside, region = alerts_of_both()
    ra = np.array([alert.ra for alert in everything])
    dec = np.array([alert.dec for alert in everything])
    kept = np.array([alert.alert_id in inside for alert in everything])
    figure, (sky, counts) = plt.subplots(
        1, 2, figsize=(9.0, 3.7), layout="constrained", width_ratios=[2.6, 1]
    )
    grid_ra, grid_dec = np.meshgrid(np.linspace(205, 325, 601), np.linspace(-45, 75, 601))
    within = region.contains(grid_ra.ravel(), grid_dec.ravel()).reshape(grid_ra.shape)
    sky.contourf(grid_ra, grid_dec, within, levels=[0.5, 1.5], colors=["#f4d9b5"])
    sky.contour(grid_ra, grid_dec, within, levels=[0.5], colors=["#c47f1f"], linewidths=1)
    sky.scatter(ra[~kept], dec[~kept], s=14, color="0.72", lw=0, label="elsewhere")
    sky.scatter(ra[kept], dec[kept], s=20, color=BLUE, lw=0, label="kept")
    sky.set(xlim=(325, 205), ylim=(-45, 75), xlabel="right ascension (deg)", ylabel="declination (deg)")
    sky.legend(loc="lower left", frameon=False, title="90 % region, and alerts", alignment="left")
    bars = counts.barh(["elsewhere", "kept"], [np.sum(~kept), np.sum(kept)], color=["0.72", BLUE])
    counts.bar_label(bars, padding=3)
    counts.set(xlabel="alerts", xlim=(0, 1.2 * np.sum(~kept)))
    for axes in (sky, counts):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, "stream-region.png")


def save(figure, name):
    """Write a picture of few kilobytes."""
    figure.savefig(FOLDER / name, dpi=110, bbox_inches="tight", pil_kwargs={"optimize": True})
    plt.close(figure)


if __name__ == "__main__":
    mpl.use("agg")
    draw_flow()
    draw_region()
