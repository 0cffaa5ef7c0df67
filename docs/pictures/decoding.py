"""Draw what of a packet is decoded when it is kept: ``python docs/pictures/decoding.py``."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.patches import ConnectionPatch, Patch

from nuncius import Alert
from nuncius.archives.documents import _KEY_FIELDS
from nuncius.sandbox import synthetic_alerts

FOLDER = Path(__file__).parents[1] / "_static"
INK, BLUE, PALE, ORANGE, GREY = "#24364b", "#1f5fa8", "#dbe6f2", "#f4d9b5", "#7a8694"
LOOKS = {
    "schema": {"fc": "white", "ec": GREY, "hatch": "////", "lw": 0.8},
    "values": {"fc": BLUE, "ec": "white", "lw": 0.5},
    "passed": {"fc": PALE, "ec": GREY, "lw": 0.5},
    "image": {"fc": ORANGE, "ec": "#c47f1f", "lw": 0.8},
}
MEANINGS = {
    "schema": "compared with the schemas that are known",
    "values": "decoded: values of the document",
    "passed": "checked and passed over; of an entry, what tells it apart is read",
    "image": "stays bytes",
}


def bar(axes, begin, end, look, words=""):
    """Draw some bytes, whose numbers are given, in kB."""
    axes.barh(0, (end - begin) / 1e3, left=begin / 1e3, height=0.8, **LOOKS[look])
    axes.text((begin + end) / 2e3, 0, words, ha="center", va="center", size=8.2, color=INK)


def parts_of(raw):
    """Return the bytes at which the record of an alert begins and ends, and those of the entries of its histories."""
    alert = Alert.from_bytes(raw)
    ((_, begin, end),) = alert._opened._layout.blocks
    values = alert.in_parts(_KEY_FIELDS).values
    entries = {name: [begin + at for at, _ in values[name]] for name in ("prv_candidates", "fp_hists")}
    return begin, end, entries


def images_of(raw):
    """Return the bytes at which the images of an alert begin and end."""
    images = [image.bytes for image in Alert.from_bytes(raw).cutouts]
    return [(raw.find(image), raw.find(image) + len(image)) for image in images]


def draw_packet(axes, raw):
    """Draw all of a packet."""
    begin, end, entries = parts_of(raw)
    (first, *_), images = entries["prv_candidates"], images_of(raw)
    bar(axes, 0, begin, "schema", "writer schema")
    axes.texts[-1].set_bbox({"fc": "white", "ec": "none", "pad": 1.5})
    bar(axes, begin, first, "values")
    bar(axes, first, images[0][0], "passed", "histories")
    for (start, stop), name in zip(images, ("science", "template", "difference"), strict=True):
        bar(axes, start, stop, "image", name)
    axes.set(xlim=(0, end / 1e3), xlabel="kB from the beginning of the packet")


def draw_histories(axes, raw):
    """Draw the beginning of the record, where an entry of each history is new."""
    begin, _, entries = parts_of(raw)
    stop = images_of(raw)[0][0]
    detections, forced = entries["prv_candidates"], entries["fp_hists"]
    new = {detections[-1], forced[0]}  # the newest is the last of the one list and the first of the other
    bar(axes, begin, detections[0], "values")
    for start, end in pairwise([*detections, *forced, stop]):
        bar(axes, start, end, "values" if start in new else "passed")
    labels = [
        ("ids, candidate", begin, "left"),
        (f"prv_candidates, {len(detections)} entries", (detections[0] + forced[0]) / 2, "center"),
        (f"fp_hists, {len(forced)} entries", (forced[0] + stop) / 2, "center"),
    ]
    for words, at, side in labels:
        axes.text(at / 1e3, 0.55, words, ha=side, size=8.2)
    axes.text(forced[0] / 1e3, -0.72, "new", ha="center", size=8.2, color=BLUE)
    axes.set(xlim=(begin / 1e3, stop / 1e3), ylim=(-0.95, 0.85), xticks=[])
    return begin / 1e3, stop / 1e3


def draw():
    """Draw both, and between them what is enlarged."""
    raw = synthetic_alerts(1)[0]
    figure, (whole, part) = plt.subplots(2, 1, figsize=(9.0, 3.6), height_ratios=[1, 1.7])
    draw_packet(whole, raw)
    for place, edge in zip(draw_histories(part, raw), (0.0, 1.0), strict=True):
        ends = {"coordsA": "data", "coordsB": "axes fraction", "axesA": whole, "axesB": part}
        figure.add_artist(ConnectionPatch((place, -0.4), (edge, 0.97), color=GREY, lw=0.8, ls=":", **ends))
    whole.xaxis.set_ticks_position("top")
    whole.xaxis.set_label_position("top")
    for axes in (whole, part):
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    handles = [Patch(label=MEANINGS[name], **look) for name, look in LOOKS.items()]
    figure.legend(handles=handles, loc="lower center", ncols=2, frameon=False, fontsize=8.2)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.86, bottom=0.17, hspace=0.25)
    options = {"dpi": 110, "bbox_inches": "tight", "pil_kwargs": {"optimize": True}}
    figure.savefig(FOLDER / "decoding-kept.png", **options)
    plt.close(figure)


if __name__ == "__main__":
    mpl.use("agg")
    draw()
