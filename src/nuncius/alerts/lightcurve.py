"""Light curves: detections, upper limits and forced photometry of one object, over all surveys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from nuncius._core.lazy import upward

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from astropy.table import Table

Kind: TypeAlias = Literal["detection", "limit", "forced"]

AB_ZERO_POINT_NJY = 31.4
"""The AB magnitude of 1 nJy (Oke & Gunn 1983, in the rounding that Rubin uses)."""

_MAG_PER_RELATIVE_ERROR = 2.5 / math.log(10)
_SAME_INSTANT_DAYS = 1e-8  # about a millisecond


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement of an object.

    Parameters
    ----------
    kind : {"detection", "limit", "forced"}
        What it is: a detection, an upper limit, or photometry forced at a known position.
    mjd : float
        Modified Julian Date in UTC.
    band : str, optional
        The survey's letter for the filter.
    mag, mag_err : float, optional
        Difference magnitude and its 1-sigma error.
    flux_njy, flux_err_njy : float, optional
        Signed difference flux and its 1-sigma error, in nJy.
    limiting_mag : float, optional
        The 5-sigma limit of the image, in magnitudes.
    is_positive : bool, optional
        Whether the source is brighter than in the template.
    ra, dec : float, optional
        ICRS position in degrees.
    score : float, optional
        How real the survey's classifier takes it to be, 0 to 1.
    alert_id : int or str, optional
        The alert that reported it.
    """

    kind: Kind
    mjd: float | None
    band: str | None = None
    mag: float | None = None
    mag_err: float | None = None
    flux_njy: float | None = None
    flux_err_njy: float | None = None
    limiting_mag: float | None = None
    is_positive: bool | None = None
    ra: float | None = None
    dec: float | None = None
    score: float | None = None
    alert_id: int | str | None = None


COLUMN_UNITS = {"mjd": "d", "mag": "mag", "mag_err": "mag", "flux_njy": "nJy", "flux_err_njy": "nJy",
                "limiting_mag": "mag", "ra": "deg", "dec": "deg"}  # fmt: skip
"""The units of the columns of `LightCurve.to_table`."""


class LightCurve(Sequence[Point]):
    """The points of one object, sorted by time, each once.

    Parameters
    ----------
    points : iterable of Point
        In any order. Repeated detections (same alert), limits and forced points (same time and band) are kept once,
        the first that was given.

    Examples
    --------
    >>> curve = LightCurve([Point("detection", 60000.2, "r", mag=18.1), Point("limit", 60000.1, "r", limiting_mag=20)])
    >>> len(curve), len(curve.detections), len(curve.limits)
    (2, 1, 1)
    """

    __slots__ = ("_points",)

    def __init__(self, points: Iterable[Point] = ()) -> None:
        unique: dict[tuple[Any, ...], Point] = {}
        for point in points:
            unique.setdefault(_identity(point), point)
        self._points = tuple(
            sorted(unique.values(), key=lambda point: math.inf if point.mjd is None else point.mjd)
        )

    @property
    def detections(self) -> LightCurve:
        """The detections alone."""
        return self._only("detection")

    @property
    def limits(self) -> LightCurve:
        """The upper limits alone."""
        return self._only("limit")

    @property
    def forced(self) -> LightCurve:
        """The forced photometry alone."""
        return self._only("forced")

    @property
    def bands(self) -> list[str]:
        """The bands that occur, sorted."""
        return sorted({point.band for point in self._points if point.band is not None})

    def merged(self, *others: LightCurve) -> LightCurve:
        """Return this light curve with the points of others, each once."""
        return LightCurve(point for curve in (self, *others) for point in curve)

    def to_table(self) -> Table:
        """Return the points as an astropy table, one row a point; what is missing is masked.

        The columns are the fields of `Point`, with units.
        """
        from astropy.table import MaskedColumn, Table

        names = [item.name for item in fields(Point)]
        columns = (
            zip(*(astuple(point) for point in self._points), strict=True)
            if self._points
            else [()] * len(names)
        )
        table = Table(masked=True)
        for name, column in zip(names, columns, strict=True):
            values = [str(value) if name == "alert_id" and value is not None else value for value in column]
            missing = [value is None for value in values]
            kind = {"kind": str, "band": str, "alert_id": str, "is_positive": bool}.get(name, float)
            filled = [kind() if absent else value for value, absent in zip(values, missing, strict=True)]
            table[name] = MaskedColumn(filled, mask=missing, unit=COLUMN_UNITS.get(name), dtype=kind)
        return table

    def plot(self, *, ax: Any = None, flux: bool = False) -> Any:
        """Draw the light curve.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where; a new figure by default.
        flux : bool
            Fluxes in nJy in place of magnitudes.

        Returns
        -------
        matplotlib axes

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        return upward("nuncius.plots").plot_light_curve(self, ax=ax, flux=flux)

    def _only(self, kind: Kind) -> LightCurve:
        return LightCurve(point for point in self._points if point.kind == kind)

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> LightCurve: ...
    def __getitem__(self, index: int | slice) -> Point | LightCurve:
        return LightCurve(self._points[index]) if isinstance(index, slice) else self._points[index]

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[Point]:
        return iter(self._points)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LightCurve) and self._points == other._points

    def __hash__(self) -> int:
        return hash(self._points)

    def __repr__(self) -> str:
        counts = f"{len(self.detections)} detections, {len(self.limits)} limits, {len(self.forced)} forced"
        return f"<LightCurve: {counts}; bands {' '.join(self.bands) or 'unknown'}>"

    def _repr_html_(self) -> str:
        return f"<p>{repr(self)[1:-1]}</p>{self.to_table()._repr_html_()}"


def _identity(point: Point) -> tuple[Any, ...]:
    when = None if point.mjd is None else round(point.mjd / _SAME_INSTANT_DAYS)
    if point.kind == "detection" and point.alert_id is not None:
        return (point.kind, point.alert_id, when, point.band)  # the ids of some surveys repeat
    return (point,) if when is None else (point.kind, when, point.band)


def flux_from_mag(mag: float | None, *, is_positive: bool | None) -> float | None:
    """Turn a difference magnitude (AB) and its sign into a signed flux in nJy; without a sign there is no flux."""
    if mag is None or is_positive is None:
        return None
    flux = 10 ** (0.4 * (AB_ZERO_POINT_NJY - mag))
    return float(flux if is_positive else -flux)


def flux_err_from_mag(mag: float | None, mag_err: float | None) -> float | None:
    """Turn the error of an AB magnitude into the error of the flux in nJy."""
    if mag is None or mag_err is None:
        return None
    return float(10 ** (0.4 * (AB_ZERO_POINT_NJY - mag)) * mag_err / _MAG_PER_RELATIVE_ERROR)


def mag_from_flux(flux_njy: float | None) -> float | None:
    """Turn a flux in nJy into an AB magnitude of its absolute value; zero has none."""
    if flux_njy is None or flux_njy == 0 or not math.isfinite(flux_njy):
        return None
    return AB_ZERO_POINT_NJY - 2.5 * math.log10(abs(flux_njy))


def mag_err_from_flux(flux_njy: float | None, flux_err_njy: float | None) -> float | None:
    """Turn the error of a flux into the error of its magnitude."""
    if flux_njy is None or flux_err_njy is None or flux_njy == 0:
        return None
    return abs(_MAG_PER_RELATIVE_ERROR * flux_err_njy / flux_njy)
