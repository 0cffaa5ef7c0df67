"""Cones that cover a region, for services that know nothing but cones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nuncius.sky.cells import ORDER, _cell_radius, _centres, cells_of_ranges

if TYPE_CHECKING:
    from nuncius.sky.cells import Floats
    from nuncius.sky.regions import Region

_ENOUGH = 48  # cones follow the shape of a region well enough


def covering_cones(region: Region, most: int) -> tuple[Floats, Floats, float]:
    """Cover a region with cones around HEALPix cells, of the finest order that needs no more than `most` of them.

    Parameters
    ----------
    region : Region
        What is to be covered.
    most : int
        The most cones; at least 12, which cover the sky.

    Returns
    -------
    ra, dec : array of float, shape (n,)
        Their centres in degrees.
    radius_arcsec : float
        The radius of all of them.
    """
    low, high = region.ranges()
    if not len(low):
        return np.empty(0), np.empty(0), 0.0
    order = 0
    for finer in range(ORDER + 1):
        shift = 2 * (ORDER - finer)
        touched = int(((high - 1 >> shift) - (low >> shift) + 1).sum())
        if touched > 4 * most:  # far too many to be listed
            break
        count = len(cells_of_ranges(low, high, finer))
        if count > most:
            break
        order = finer
        if count >= _ENOUGH:
            break
    ra, dec = _centres(cells_of_ranges(low, high, order), order)
    return ra, dec, math.degrees(_cell_radius(order)) * 3600
