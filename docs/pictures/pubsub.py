"""Draw what becomes of the messages of a Pub/Sub subscription: ``python docs/pictures/pubsub.py``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from nuncius.streams.pubsub import Plan

FOLDER = Path(__file__).parents[1] / "_static"
INK, BLUE, PALE, RED, GREY = "#24364b", "#1f5fa8", "#e8eff7", "#b3432f", "#7a8694"
LEASE_S = next(field.default for field in fields(Plan) if field.name == "lease_s")
LAST_S = 38.0


def box(axes, x, title, text, *, y=1.0, width=1.75, height=0.9, colour=BLUE):
    """Draw one place where a message may be."""
    style = "round,pad=0,rounding_size=0.1"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, fc=PALE, ec=colour, lw=1.3))
    middle = {"ha": "center", "va": "center"}
    axes.text(x + width / 2, y + height - 0.22, title, weight="bold", color=colour, size=9.5, **middle)
    axes.text(x + width / 2, y + 0.3, text, color=INK, size=7.8, linespacing=1.3, **middle)


def arrow(axes, start, end, *, colour=INK):
    """Draw a way that messages take."""
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.3, "shrinkA": 1, "shrinkB": 1}
    axes.annotate("", end, start, arrowprops=style)


def draw_way(axes):
    """Draw the way from the topic to the acknowledgement."""
    axes.set(xlim=(-0.1, 10.0), ylim=(-0.75, 2.75))
    axes.set_axis_off()
    box(axes, 0.0, "topic", "in Pitt-Google's\nproject")
    box(axes, 2.55, "subscription", "in your project:\na copy of its own")
    box(axes, 5.2, "lent to you", f"{LEASE_S} s, and longer\nwhile you work")
    box(axes, 8.1, "your program", "and its sinks")
    box(axes, 8.1, "quarantine", "unreadable bytes,\nwith the reason", y=-0.6, colour=RED)
    arrow(axes, (1.75, 1.45), (2.55, 1.45))
    arrow(axes, (4.3, 1.45), (5.2, 1.45))
    arrow(axes, (6.95, 1.45), (8.1, 1.45))
    axes.plot([6.6, 6.6], [1.0, -0.15], color=RED, lw=1.3)
    arrow(axes, (6.59, -0.15), (8.1, -0.15), colour=RED)
    middle = {"ha": "center", "va": "center", "size": 8.2}
    axes.plot([8.97, 8.97, 3.9], [1.9, 2.35, 2.35], color=BLUE, lw=1.3, ls="--")
    arrow(axes, (3.9, 2.36), (3.9, 1.9), colour=BLUE)
    words = "finished, and on the disk → acknowledged: it is deleted from the subscription"
    axes.text(6.4, 2.53, words, color=BLUE, **middle)
    axes.plot([5.6, 5.6, 3.9], [1.0, 0.4, 0.4], color=GREY, lw=1.3)
    arrow(axes, (3.9, 0.39), (3.9, 1.0), colour=GREY)
    axes.text(4.75, 0.22, "not finished → given back at once", color=GREY, **middle)


def bar(axes, row, begin_s, end_s, *, colour=BLUE, waits=False):
    """Draw a time in which a message is lent to somebody."""
    look = {"fc": "white", "hatch": "////"} if waits else {"fc": colour}
    axes.barh(row, end_s - begin_s, left=begin_s, height=0.42, ec=colour, lw=0.8, **look)


def say(axes, row, x, words, *, colour=INK):
    """Write what happens."""
    axes.text(x, row, words, va="center", size=7.8, color=colour)


def draw_lives(axes):
    """Draw what becomes of five messages that came at the same time."""
    step = LEASE_S / 3
    rows = [
        "it takes you half a minute",
        "release(alert, delay_s=12)",
        "your loop raises",
        "kill -9",
        "it can't be read",
    ]
    axes.set(xlim=(0, LAST_S), ylim=(4.6, -0.6), yticks=range(5), xlabel="seconds after it came")
    axes.set_yticklabels(rows, size=8.2, color=INK)
    bar(axes, 0, 0, 27)
    for number in (1, 2, 3, 4):
        axes.plot([number * step], [0], marker="|", ms=11, color="white", mew=1.6)
    say(axes, 0, 27.4, "acknowledged", colour=BLUE)
    axes.text(4 * step / 2, -0.5, "│ the lease is extended", size=7.2, color=GREY, ha="center", va="center")
    bar(axes, 1, 0, 4)
    bar(axes, 1, 4, 16, waits=True)
    bar(axes, 1, 16, 20)
    say(axes, 1, 20.4, "acknowledged, when it came to you again", colour=BLUE)
    for row, again in ((2, 9.4), (3, step + LEASE_S)):
        bar(axes, row, 0, 9)
        axes.plot([9], [row], marker="x", color=RED, ms=7, mew=2.2)
        bar(axes, row, again, again + 4)
    say(axes, 2, 13.8, "given back at once: the next run has it", colour=INK)
    axes.plot([9.5, step + LEASE_S], [3, 3], color=GREY, lw=1, ls=":")
    say(axes, 3, step + LEASE_S + 4.4, "the lease ended")
    bar(axes, 4, 0, 0.5, colour=RED)
    say(axes, 4, 0.9, "its bytes and the reason are in the quarantine, and it is acknowledged", colour=RED)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7.5, colors=GREY)
    axes.xaxis.label.set(size=8, color=GREY)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)


def main():
    """Draw both, one above the other."""
    figure, (way, lives) = plt.subplots(
        2, 1, figsize=(9.6, 5.6), height_ratios=[1.25, 1], layout="constrained"
    )
    draw_way(way)
    draw_lives(lives)
    figure.savefig(FOLDER / "pubsub-lease.png", dpi=110, bbox_inches="tight", pil_kwargs={"optimize": True})
    plt.close(figure)


if __name__ == "__main__":
    mpl.use("agg")
    main()
