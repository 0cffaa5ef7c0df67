"""Light curves, cutouts, sky maps and dependency graphs, drawn with matplotlib, and the report of a night as one page.

matplotlib comes with ``pip install 'nuncius[plots]'`` and is loaded when the first thing is drawn.
"""

from nuncius.plots.dependencies import plot_dependencies
from nuncius.plots.images import plot_cutout, plot_cutouts
from nuncius.plots.light_curves import plot_light_curve
from nuncius.plots.report import NightObject, write_night_report
from nuncius.plots.sky_map import plot_sky

__all__ = [
    "NightObject",
    "plot_cutout",
    "plot_cutouts",
    "plot_dependencies",
    "plot_light_curve",
    "plot_sky",
    "write_night_report",
]
