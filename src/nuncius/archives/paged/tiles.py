"""Cones that a server takes, and small ones in the place of those that it doesn't."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuncius.sky.regions import Region

RIM = 1e-6, 1e-2  # how much wider a cone is asked for than meant (relative, arcsec): the rim is decided here
_REGION_CONES = 400  # that cover a region, where the server takes cones of any size


@dataclass(frozen=True, slots=True)
class Circle:
    """A cone that a server is asked for; degrees, and its radius in arcseconds."""

    ra: float
    dec: float
    radius_arcsec: float

    @property
    def widened(self) -> Circle:
        """The cone with its rim."""
        return Circle(self.ra, self.dec, self.radius_arcsec * (1 + RIM[0]) + RIM[1])


def tiles_of_cone(circle: Circle, largest_arcsec: float) -> list[Circle]:
    """Cover a cone with small ones, around the HEALPix cells that it touches."""
    from nuncius.sky import separation_arcsec
    from nuncius.sky.regions import Cone

    ranges = Cone(circle.ra, circle.dec, min(circle.radius_arcsec, 180 * 3600)).ranges()
    ra, dec, radius = _fitting_cells(*ranges, largest_arcsec)
    near = separation_arcsec(circle.ra, circle.dec, ra, dec) <= circle.radius_arcsec + radius
    return [Circle(*place, radius) for place in zip(ra[near].tolist(), dec[near].tolist(), strict=True)]


def tiles_of_region(region: Region, largest_arcsec: float | None) -> list[Circle]:
    """Cover a region with cones that the server takes; None is that it takes any."""
    from nuncius.sky.covering import covering_cones

    ra, dec, radius = covering_cones(region, _REGION_CONES)
    radius = radius * (1 + RIM[0]) + RIM[1]
    if largest_arcsec is not None and radius > largest_arcsec:
        ra, dec, radius = _fitting_cells(*region.ranges(), largest_arcsec)
    return [Circle(*place, radius) for place in zip(ra.tolist(), dec.tolist(), strict=True)]


def _fitting_cells(low: Any, high: Any, largest_arcsec: float) -> tuple[Any, Any, float]:
    """Return the centres of the largest cells that fit into a cone, and the radius of the cones around them."""
    import math

    from nuncius.sky.cells import _cell_radius, _centres, cells_of_ranges

    order = 0
    while (radius := math.degrees(_cell_radius(order)) * 3600 * (1 + RIM[0]) + RIM[1]) > largest_arcsec:
        order += 1
    return *_centres(cells_of_ranges(low, high, order), order), radius
