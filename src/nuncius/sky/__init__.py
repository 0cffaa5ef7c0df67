"""Positions on the sky: what users may give, separations, HEALPix cells, and regions.

Angles are degrees in the ICRS unless a name says otherwise. Cells are HEALPix cells of the nested scheme at order 29.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.sky.cells import CELLS, ORDER, cells_of, cone_ranges
from nuncius.sky.cells import _centres as _centres
from nuncius.sky.positions import named_positions, separation_arcsec, to_arcsec, to_positions
from nuncius.sky.regions import Cone, Moc, Polygon, Region, Union, to_geojson, to_region

if TYPE_CHECKING:
    from nuncius.sky.positions import Floats as Floats

__all__ = [
    "CELLS",
    "ORDER",
    "Cone",
    "Moc",
    "Polygon",
    "Region",
    "Union",
    "cells_of",
    "cone_ranges",
    "named_positions",
    "separation_arcsec",
    "to_arcsec",
    "to_geojson",
    "to_positions",
    "to_region",
]
