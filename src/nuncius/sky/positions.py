"""Positions, radii and separations: what users may give, as degrees and arcseconds. All positions are ICRS."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

ARCSEC = math.radians(1 / 3600)

# Sexagesimal: hours and degrees are told by what stands behind them, so a right ascension in degrees is none of these.
_HOURS = r"(?P<h>\d{1,2})(?:\s*[h:]\s*|\s+)(?P<hm>\d{1,2})(?:\s*[m:]\s*|\s+)(?P<hs>\d{1,2}(?:\.\d*)?)\s*s?"
_DEGREES = (
    r"(?P<sign>[+\-\u2212]?)(?P<d>\d{1,2})(?:\s*[d:°]\s*|\s+)(?P<dm>\d{1,2})(?:\s*[m:'\u2032]\s*|\s+)"
    r"(?P<ds>\d{1,2}(?:\.\d*)?)\s*[s\"\u2033]?"
)
_SEXAGESIMAL = re.compile(rf"\s*{_HOURS}(?:[\s,]+|(?=[+\-\u2212])){_DEGREES}\s*", re.ASCII)
_HALF = re.compile(rf"\s*(?:{_HOURS})\s*", re.ASCII)


def to_positions(positions: Any) -> tuple[Floats, Floats, bool]:
    """Turn what a user gives as position(s) into right ascensions and declinations in degrees.

    Parameters
    ----------
    positions : SkyCoord, Table, (ra, dec), text, sequence of these, or mapping of names to these
        A table needs columns `ra` and `dec`; a column without unit counts as degrees, as numbers do. Texts are
        sexagesimal, hours and degrees: ``"04:46:37.87 -10:13:35"`` or ``("04h46m37.87s", "-10d13m35.0s")``.

    Returns
    -------
    ra, dec : array of float, shape (n,)
    is_single : bool
        Whether one position was given, and not a list of them.

    Raises
    ------
    ConfigurationError
        If they are no positions, or not on the sky.

    Examples
    --------
    >>> ra, dec, is_single = to_positions({"a": (10.5, -5.25), "b": "04:46:37.87 -10:13:35"})
    >>> [round(float(value), 6) for value in ra]
    [10.5, 71.657792]
    """
    _, ra, dec, single = named_positions(positions)
    return ra, dec, single


def named_positions(positions: Any) -> tuple[list[Hashable] | None, Floats, Floats, bool]:
    """Do as `to_positions`, and give the caller's own names of the positions too.

    Returns
    -------
    keys : list or None
        The keys of a mapping as they are, or None where positions have no names.
    ra, dec : array of float, shape (n,)
    is_single : bool

    Raises
    ------
    ConfigurationError
        If they are no positions, or not on the sky.
    """
    keys: list[Hashable] | None = None
    if isinstance(positions, Mapping):
        keys = list(positions)
        if {str(key).lower() for key in keys} == {"ra", "dec"}:
            raise ConfigurationError(
                "a mapping of positions has a name for each; for columns ra and dec give an astropy Table"
            )
        ra, dec = _each([*positions.values()], keys)
        single = False
    elif hasattr(positions, "icrs"):
        icrs = positions.icrs
        ra, dec = np.atleast_1d(icrs.ra.deg), np.atleast_1d(icrs.dec.deg)
        single = positions.isscalar
    elif hasattr(positions, "colnames") or hasattr(positions, "columns"):
        ra, dec = _column(positions, "ra"), _column(positions, "dec")
        single = False
    else:
        ra, dec, single = _pairs(positions)
    ra, dec = np.asarray(ra, dtype=np.float64).ravel(), np.asarray(dec, dtype=np.float64).ravel()
    bad = ~(np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90))
    if bad.any():
        index = int(np.flatnonzero(bad)[0])
        raise ConfigurationError(
            f"position {index if keys is None else repr(keys[index])} (ra={ra[index]}, dec={dec[index]}) is not on the "
            "sky; give ICRS degrees",
            position=f"positions[{index if keys is None else repr(keys[index])}]",
        )
    return keys, ra % 360, dec, single


def to_arcsec(radius: Any) -> float:
    """Turn a radius into arcseconds: a Quantity, an Angle, or a text with its unit such as ``"2 arcsec"``.

    Raises
    ------
    ConfigurationError
        If it has no unit (2 what?), or is no angle between 0 and 180 degrees.
    """
    import astropy.units as u
    from astropy.coordinates import Angle

    if isinstance(radius, str):
        # astropy reads a bare "2" as an error and "2s" as hours; a unit name is what we mean.
        match = re.fullmatch(
            r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(arcsec|arcmin|deg|\"|'|°|mas|rad)\s*", radius
        )
        if match is None:
            raise ConfigurationError(f"radius={radius!r} is not understood; write for example '2 arcsec'")
        names = {'"': "arcsec", "'": "arcmin", "°": "deg"}
        radius = float(match[1]) * u.Unit(names.get(match[2], match[2]))
    if not isinstance(radius, (u.Quantity, Angle)):
        raise ConfigurationError(
            f"radius={radius!r} has no unit; write for example 2 * u.arcsec (astropy.units) or '2 arcsec'"
        )
    try:
        arcsec = float(radius.to_value(u.arcsec))
    except (u.UnitConversionError, TypeError) as error:
        raise ConfigurationError(f"radius={radius} is no angle: {error}") from error
    if not 0 <= arcsec <= 180 * 3600:
        raise ConfigurationError(f"radius={radius} is not between 0 and 180 degrees")
    return arcsec


def separation_arcsec(ra1: Any, dec1: Any, ra2: Any, dec2: Any) -> Floats:
    """Return the angles between positions (degrees) in arcseconds, exact at any distance (Vincenty's formula)."""
    phi1, phi2 = np.radians(dec1), np.radians(dec2)
    delta = np.radians(np.asarray(ra2) - np.asarray(ra1))
    sin1, cos1, sin2, cos2 = np.sin(phi1), np.cos(phi1), np.sin(phi2), np.cos(phi2)
    cos_delta = np.cos(delta)
    across = np.hypot(cos2 * np.sin(delta), cos1 * sin2 - sin1 * cos2 * cos_delta)
    along = sin1 * sin2 + cos1 * cos2 * cos_delta
    result: Floats = np.degrees(np.arctan2(across, along)) * 3600
    return result


def _column(table: Any, name: str) -> Any:
    names = {str(column).lower(): column for column in (getattr(table, "colnames", None) or table.columns)}
    if name not in names:
        raise ConfigurationError(f"the table of positions has no column {name!r}; it has {', '.join(names)}")
    column = table[names[name]]
    mask = getattr(column, "mask", None)
    column = getattr(column, "unmasked", column)
    try:
        if getattr(column, "unit", None) is not None and hasattr(column, "to"):
            column = column.to("deg").value
        values = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the column {name!r} of the table holds no angles: {error}") from error
    # A masked position is none; pandas has a method of that name.
    return values if mask is None or callable(mask) else np.where(mask, np.nan, values)


def _pairs(positions: Any) -> tuple[Any, Any, bool]:
    text = _sexagesimal(positions)
    if text is not None:
        return np.array([text[0]]), np.array([text[1]]), True
    array = _numbers(positions)
    if array.shape == (0,):
        return array, array, False
    if array.shape == (2,):
        return array[:1], array[1:], True
    if array.ndim == 2 and array.shape[1] == 2:
        return array[:, 0], array[:, 1], False
    if isinstance(positions, Sequence) and not isinstance(positions, (str, bytes)) and not array.shape:
        return *_each(positions, range(len(positions))), False
    raise ConfigurationError(
        "positions are a SkyCoord, a table with columns ra and dec, (ra, dec) in degrees, a text such as "
        f"'04:46:37.87 -10:13:35', or a list or mapping of these, not {_described(positions, array)}"
    )


def _each(values: Sequence[Any], names: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """Read positions one by one, of whatever kinds they are."""
    array = _numbers(values)
    if array.shape == (0,):
        return array, array
    if array.ndim == 2 and array.shape[1] == 2:
        return array[:, 0], array[:, 1]
    found = np.empty((len(values), 2))
    for index, (name, value) in enumerate(zip(names, values, strict=True)):
        pair = _one(value)
        if pair is None:
            raise ConfigurationError(
                f"position {name!r} is (ra, dec) in degrees, a SkyCoord or a text such as '04:46:37.87 -10:13:35', not "
                f"{_described(value, _numbers(value))}",
                position=f"positions[{name!r}]",
            )
        found[index] = pair
    return found[:, 0], found[:, 1]


def _one(value: Any) -> tuple[float, float] | None:
    if hasattr(value, "icrs"):
        return (float(value.icrs.ra.deg), float(value.icrs.dec.deg)) if value.isscalar else None
    text = _sexagesimal(value)
    if text is not None:
        return text
    array = _numbers(value)
    return (float(array[0]), float(array[1])) if array.shape == (2,) else None


def _numbers(value: Any) -> Any:
    """Return the degrees of a value as an array, without a shape where it is no array of numbers."""
    if isinstance(value, (str, bytes)) or _holds_texts(value):
        return np.empty(())  # numpy would read "10" as a number, but nobody said of what
    try:
        # numpy would drop the unit of a Quantity without a word.
        return np.asarray(value.to_value("deg") if hasattr(value, "to_value") else value, dtype=np.float64)
    except (TypeError, ValueError):
        return np.empty(())


def _holds_texts(value: Any) -> bool:
    if not isinstance(value, (list, tuple)):
        return False
    return any(
        isinstance(item, str)
        or (isinstance(item, (list, tuple)) and any(isinstance(part, str) for part in item))
        for item in value
    )


def _sexagesimal(value: Any) -> tuple[float, float] | None:
    """Read a text, or a pair of texts, as hours and degrees."""
    if (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(part, str) for part in value)
        and _HALF.fullmatch(value[0])
    ):
        value = " ".join(value)
    found = _SEXAGESIMAL.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    parts = [float(found[name]) for name in ("h", "hm", "hs", "d", "dm", "ds")]
    if parts[0] >= 24 or any(parts[index] >= 60 for index in (1, 2, 4, 5)):
        raise ConfigurationError(
            f"{value!r} is no position: hours go to 24, minutes and seconds to 60", position=str(value)
        )
    ra = 15 * (parts[0] + parts[1] / 60 + parts[2] / 3600)
    dec = parts[3] + parts[4] / 60 + parts[5] / 3600
    return ra, -dec if found["sign"] in {"-", "\u2212"} else dec


def _described(value: Any, array: Any) -> str:
    if isinstance(value, str):
        return repr(value)
    return f"{type(value).__name__}{f' of shape {array.shape}' if array.shape else ''}"
