"""Positions and angles as Kowalski's users write them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from nuncius.archives.server.limits import wrong
from nuncius.archives.server.reading import read_literal

if TYPE_CHECKING:
    from nuncius.archives.server.limits import Limits

_ARCSEC = {"arcsec": 1.0, "arcmin": 60.0, "deg": 3600.0, "rad": math.degrees(1) * 3600}
_SIXTIETHS = re.compile(
    r"\s*(?P<sign>[+-]?)(?P<whole>\d{1,3})(?P<unit>[:hd])(?P<minutes>\d{1,2})[:m](?P<seconds>\d{1,2}(?:\.\d*)?)s?\s*"
)
_PAIR = re.compile(r"\s*([+-]?[\d.:hmse+-]+)[\s,]+([+-]?[\d.:dmse+-]+)\s*")
_LONGEST = 80


def angle_arcsec(value: Any, unit: Any, name: str) -> float:
    """Return an angle in arcseconds.

    Raises
    ------
    Refusal
        If the unit is not one of Kowalski's, or the value no angle between 0 and 180 degrees.
    """
    if not isinstance(unit, str) or unit not in _ARCSEC:
        raise wrong("Exception", f"Angular units not in {tuple(_ARCSEC)}")
    try:
        angle = float("" if isinstance(value, bool) else value) * _ARCSEC[unit]
    except (TypeError, ValueError, OverflowError):
        raise wrong("ValueError", f"could not convert {name} to float: {str(value)[:_LONGEST]!r}") from None
    # A hundred-thousandth part more: half a turn in radians need not be one in arcseconds.
    if not 0 <= angle <= 648_000 * 1.00001:
        raise wrong("ValueError", f"{name} must be an angle between 0 and 180 degrees")
    return min(angle, 648_000.0)


def read_positions(radec: Any, limits: Limits) -> dict[str, tuple[float, float]]:
    """Return positions (ICRS degrees) by the names under which Kowalski answers.

    A dot in a name becomes ``_``. A position without a name has its own text as name.

    Parameters
    ----------
    radec : dict, list or str
        ``{"name": [ra, dec]}``, ``[[ra, dec]]``, ``"[(ra, dec)]"``, ``"ra dec"``; angles are numbers, or both are texts
        such as ``"04h46m37.87s"`` and ``"-10:13:35.0"``.
    limits : Limits
        How many there may be.

    Raises
    ------
    Refusal
        If they are no positions, are too many, or two of them would be answered under one name.
    """
    if isinstance(radec, str):
        radec = _from_text(radec, limits)
    if isinstance(radec, dict):
        named = list(radec.items())
    elif isinstance(radec, list):
        named = [(str(tuple(pair) if isinstance(pair, tuple) else pair), pair) for pair in radec]
    else:
        raise wrong("ValueError", "radec must be a dict of names, a list of pairs, or a text")
    if len(named) > limits.positions:
        raise wrong("ValueError", f"{len(named)} positions; one request may have {limits.positions}")
    found: dict[str, tuple[float, float]] = {}
    for name, pair in named:
        place, key = _position(pair, name), name.replace(".", "_")
        if found.setdefault(key, place) != place:
            raise wrong("ValueError", f"two positions have the name {key[:_LONGEST]!r} once its dots are '_'")
    return found


def _from_text(text: str, limits: Limits) -> Any:
    text = text.strip()
    if text.startswith(("[", "(", "{")):
        value = read_literal(text, limits)
        return [value] if isinstance(value, tuple) and len(value) == 2 and _is_angle(value[0]) else value
    match = _PAIR.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise wrong("ValueError", f"radec is not understood: {text[:_LONGEST]!r}")
    return [(match[1], match[2])]


def _is_angle(value: Any) -> bool:
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)


def _position(pair: Any, name: str) -> tuple[float, float]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(map(_is_angle, pair)):
        raise wrong("ValueError", f"the position {name[:_LONGEST]!r} is not a pair of ra and dec")
    ra, dec = pair
    if isinstance(ra, str) != isinstance(dec, str):
        raise wrong("ValueError", f"the position {name[:_LONGEST]!r} mixes a text and a number")
    if isinstance(ra, str):
        ra, dec = _degrees(ra, "h", 15.0), _degrees(dec, "d", 1.0)
    try:
        ra, dec = float(ra), float(dec)
    except OverflowError:
        ra = math.inf
    # Kowalski's database knows longitudes from -180 on: right ascensions from 0 to 360.
    if not (0 <= ra <= 360 and -90 <= dec <= 90):
        raise wrong(
            "OperationFailure",
            f"longitude/latitude is out of bounds, lng: {ra - 180:g} lat: {dec:g} ({name[:_LONGEST]!r})",
        )
    return ra, dec


def _degrees(text: str, letter: str, factor: float) -> float:
    if len(text) <= _LONGEST:
        match = _SIXTIETHS.fullmatch(text)
        if match is not None and match["unit"] in {":", letter}:
            whole, minutes, seconds = int(match["whole"]), int(match["minutes"]), float(match["seconds"])
            if minutes < 60 and seconds < 60:
                size = (whole + minutes / 60 + seconds / 3600) * factor
                return -size if match["sign"] == "-" else size
        elif match is None:
            try:
                return float(text)
            except ValueError:
                pass
    raise wrong("ValueError", f"{text[:_LONGEST]!r} is no angle; write '04:46:37.87' or '04h46m37.87s'")
