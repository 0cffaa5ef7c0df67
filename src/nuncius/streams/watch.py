"""Where on the sky a stream looks: near targets of a list, in a region, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nuncius.errors import ConfigurationError
from nuncius.sky import to_arcsec, to_region
from nuncius.sky.watchlist import Targets, named_targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nuncius.sky.watchlist import Name

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]
    Flags: TypeAlias = NDArray[np.bool_]

_LEVEL = 0.9


class Watchlist:
    """Targets, with one radius around all of them.

    Parameters
    ----------
    targets : SkyCoord, Table, DataFrame, path, (ra, dec), sequence or mapping of positions
        See `nuncius.sky.watchlist.named_targets`. A file is read once, here.
    radius : Quantity, Angle or str
        With its unit: ``2 * u.arcsec`` or ``"2 arcsec"``; up to 180 degrees.

    Attributes
    ----------
    names : tuple
        The names of the targets in their order; empty if they have none.

    Raises
    ------
    NotFoundError
        If there is no such file.
    ConfigurationError
        If these are no targets, or there is none of them, or the radius has no unit.

    Notes
    -----
    100,000 targets take 8 MB with a radius of 2 arcsec, and 15 MB from 10 arcsec on.

    Examples
    --------
    >>> watch = Watchlist({"M31": (10.6847, 41.2688), "M33": (23.4621, 30.6602)}, "1 deg")
    >>> watch([10.0, 100.0], [41.0, 0.0]).tolist()
    [True, False]
    """

    def __init__(self, targets: Any, radius: Any) -> None:
        radius_arcsec = to_arcsec(radius)
        names, ra, dec = named_targets(targets)
        self.names: tuple[Name, ...] | None = tuple(names)
        self._targets = Targets(ra, dec, radius_arcsec)

    def __call__(self, ra: Any, dec: Any) -> Flags:
        """Tell which positions (arrays of degrees) are near a target; NaN is near none."""
        return self._targets.contains(ra, dec)

    def match(self, ra: Any, dec: Any) -> tuple[Integers, Floats]:
        """Return for each position the number of the nearest target and the separation in arcsec, or -1 and NaN."""
        return self._targets.nearest(ra, dec)

    def __len__(self) -> int:
        return len(self._targets)

    def __repr__(self) -> str:
        return f"<Watchlist: {len(self)} targets, {self._targets.radius_arcsec:g} arcsec>"


class RegionWatch:
    """A region of the sky.

    Parameters
    ----------
    region : Region, mocpy.MOC, path, bytes, HDUList, Table, SkyCoord or list of (ra, dec)
        What `nuncius.sky.to_region` takes: a `Cone`, a MOC, the vertices of a polygon, a gravitational-wave sky map.
    level : float, optional
        How much of the probability of a sky map the region holds.

    Raises
    ------
    NotFoundError
        If there is no such file.
    ConfigurationError
        If it is no region, or a level is given for what has no probability.

    Examples
    --------
    >>> from nuncius.sky import Cone
    >>> RegionWatch(Cone(0.0, 90.0, 3600.0))([17.0, 17.0], [89.5, 88.5]).tolist()
    [True, False]
    """

    names: None = None

    def __init__(self, region: Any, *, level: float = _LEVEL) -> None:
        if not 0 < level <= 1:
            raise ConfigurationError(f"level={level!r} is a probability between 0 and 1; write 0.9 for 90 %")
        try:
            self.region = to_region(region, None if level == _LEVEL else level)  # by default it is the same
        except ConfigurationError as error:
            raise ConfigurationError(f"region, level={level}: {error}") from error

    def __call__(self, ra: Any, dec: Any) -> Flags:
        """Tell which positions (arrays of degrees) lie in the region; NaN does not."""
        ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
        inside: Flags = np.isfinite(ra) & (np.abs(dec) <= 90)
        inside[inside] = self.region.contains(ra[inside] % 360, dec[inside])
        return inside

    def match(self, ra: Any, dec: Any) -> tuple[Integers, Floats]:
        """Return -1 and NaN for each position: a region has no targets."""
        return np.full(np.shape(ra), -1, np.int64), np.full(np.shape(ra), np.nan)

    def __repr__(self) -> str:
        return f"<RegionWatch: {type(self.region).__name__}>"


class WatchlistInRegion:
    """Those targets' circles, as far as they lie in a region: both must hold.

    Parameters
    ----------
    watchlist : Watchlist
    region : RegionWatch
    """

    def __init__(self, watchlist: Watchlist, region: RegionWatch) -> None:
        self.watchlist, self.region = watchlist, region
        self.names = watchlist.names

    def __call__(self, ra: Any, dec: Any) -> Flags:
        """Tell which positions (arrays of degrees) are near a target and lie in the region."""
        inside = self.watchlist(ra, dec)
        inside[inside] = self.region(np.asarray(ra)[inside], np.asarray(dec)[inside])
        return inside

    def match(self, ra: Any, dec: Any) -> tuple[Integers, Floats]:
        """Return for each position the number of the nearest target and the separation in arcsec, or -1 and NaN."""
        return self.watchlist.match(ra, dec)

    def __repr__(self) -> str:
        return f"<{self.watchlist!r} in {self.region!r}>"


Watch: TypeAlias = Watchlist | RegionWatch | WatchlistInRegion


def watch_of(
    *, near: Any = None, radius: Any = None, region: Any = None, level: float = _LEVEL
) -> Watch | None:
    """Make what tells whether a position is wanted, or None if all are.

    Parameters
    ----------
    near, radius : optional
        Targets and the radius around them; see `Watchlist`. A `Watchlist` itself has its radius.
    region, level : optional
        See `RegionWatch`. With targets, both must hold.

    Raises
    ------
    NotFoundError
        If there is no such file.
    ConfigurationError
        If these are no targets or no region, or one of `near` and `radius` is missing.
    """
    if isinstance(near, Watchlist):
        if radius is not None:
            raise ConfigurationError("the watchlist has its radius already; leave radius out")
        targets: Watchlist | None = near
    elif (near is None) != (radius is None):
        raise ConfigurationError("near and radius belong together: near=targets, radius='2 arcsec'")
    else:
        targets = None if near is None else Watchlist(near, radius)
    if region is None:
        if level != _LEVEL:
            raise ConfigurationError("level belongs to a sky map; give it with region=")
        return targets
    place = region if isinstance(region, RegionWatch) else RegionWatch(region, level=level)
    return place if targets is None else WatchlistInRegion(targets, place)
