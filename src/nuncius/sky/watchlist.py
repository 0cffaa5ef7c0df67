"""Lists of targets: which of them are near a position, and what users may give as such a list.

The targets are found through a grid of cubes in the space of unit vectors, which has neither poles nor a meridian where
right ascension begins anew. A cube is at least as wide as a circle around a target, so that a circle reaches into eight
cubes at most; a position looks into its own cube alone.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from xml.parsers.expat import ExpatError

import numpy as np

from nuncius._core.lazy import require
from nuncius.errors import ConfigurationError, NotFoundError
from nuncius.sky.positions import ARCSEC, named_positions, separation_arcsec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]
    Flags: TypeAlias = NDArray[np.bool_]
    Name: TypeAlias = str | int | None

_CUBE = 4  # how many radii wide: a wider one holds more targets to compare with, a narrower one is in more circles
_SMALLEST_CUBE = 1e-4  # 20 arcsec; smaller ones would be crossed by more circles, and not hold fewer targets
_ROUNDING = 1e-12  # of unit vectors and separations, with much to spare
_LARGEST = np.array([[sys.float_info.max], [90.0]])  # of right ascension, in whatever turn, and declination
_MIX = np.uint64(
    0x9E3779B97F4A7C15
)  # spreads the numbers of cubes evenly (Knuth, TAOCP 3, 6.4: Fibonacci hashing)
_MOST_MARKS = 24  # log2
_PAIRS_AT_ONCE = 1 << 20

# How tables call right ascension and declination, in small letters.
_PAIRS = (
    ("ra_icrs", "de_icrs"), ("ra_icrs", "dec_icrs"), ("raj2000", "dej2000"), ("raj2000", "decj2000"),
    ("_raj2000", "_dej2000"), ("_ra_icrs", "_de_icrs"), ("ra_j2000", "dec_j2000"), ("alpha_j2000", "delta_j2000"),
    ("ramean", "decmean"), ("rastack", "decstack"), ("ra_deg", "dec_deg"), ("radeg", "dedeg"), ("radeg", "decdeg"),
    ("right_ascension", "declination"), ("rightascension", "declination"), ("_ra", "_de"), ("_ra", "_dec"),
)  # fmt: skip
_NAMES = (
    "name", "target", "target_name", "object_id", "objectid", "object", "main_id", "designation", "source_id", "id",
)  # fmt: skip
_FORMATS = {
    ".csv": "ascii.csv", ".tsv": "ascii.tab", ".ecsv": "ascii.ecsv", ".txt": "ascii", ".dat": "ascii",
    ".fits": "fits", ".fit": "fits", ".fts": "fits",
    ".vot": "votable", ".votable": "votable", ".xml": "votable",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip


class Targets:
    """Positions with a circle around each; asked for the positions that lie in one of them.

    Parameters
    ----------
    ra, dec : array of float, shape (n,)
        ICRS degrees.
    radius_arcsec : float
        Of all circles; what lies at this very distance is in.

    Notes
    -----
    100,000 targets take 8 MB with a radius of 2 arcsec, and 15 MB from 10 arcsec on.

    Examples
    --------
    >>> targets = Targets([10.0, 10.001], [41.0, 41.0], 5.0)
    >>> index, separation = targets.nearest([10.0009, 50.0], [41.0, 41.0])
    >>> index.tolist(), separation.round(2).tolist()
    ([1, -1], [0.27, nan])
    """

    def __init__(self, ra: Any, dec: Any, radius_arcsec: float) -> None:
        self.ra = np.asarray(ra, np.float64) % 360
        self.dec = np.asarray(dec, np.float64)
        self.radius_arcsec = radius_arcsec
        reach = 2 * math.sin(radius_arcsec * ARCSEC / 2) + _ROUNDING
        self._cube = max(_CUBE * reach, _SMALLEST_CUBE)
        side = math.ceil(2 / self._cube) + 3  # its third power is exact as a float
        self._weights = np.array([side**2, side, 1.0])
        centres = _unit_vectors(np.stack([self.ra, self.dec]))
        low, high = self._steps(centres - reach), self._steps(centres + reach)
        numbers, owners = [], []
        for corner in range(8):
            upper = [bool(corner >> axis & 1) for axis in range(3)]
            # Where a circle does not cross into the next cube along an axis, its cube is entered once.
            new = np.all([high[axis] > low[axis] for axis in range(3) if upper[axis]], axis=0)
            owner = np.flatnonzero(np.broadcast_to(new, self.ra.shape))
            steps = [(high if up else low)[axis, owner] for axis, up in enumerate(upper)]
            numbers.append(self._number(np.stack(steps)))
            owners.append(owner)
        number, owner = np.concatenate(numbers), np.concatenate(owners)
        in_order = np.argsort(number, kind="stable")
        self._numbers, self._owners = number[in_order], owner[in_order]
        bits = min(max(len(number) * 16, 64).bit_length(), _MOST_MARKS)
        self._shift = np.uint64(64 - bits)
        self._marks = np.zeros(1 << bits, bool)
        self._marks[self._mark(self._numbers)] = True

    def __len__(self) -> int:
        return len(self.ra)

    def contains(self, ra: Any, dec: Any) -> Flags:
        """Tell which positions (degrees) lie in a circle; those that are none, NaN for example, don't."""
        inside = np.zeros(np.shape(ra), bool)
        for rows, _, _ in self._hits(np.asarray(ra, np.float64), np.asarray(dec, np.float64)):
            inside[rows] = True
        return inside

    def nearest(self, ra: Any, dec: Any) -> tuple[Integers, Floats]:
        """Return for each position the number of the nearest target and the separation in arcsec.

        Where a position lies in no circle, these are -1 and NaN. Of targets at one place the first counts.
        """
        index = np.full(np.shape(ra), -1, np.int64)
        separation = np.full(np.shape(ra), np.nan)
        for rows, targets, separations in self._hits(np.asarray(ra, np.float64), np.asarray(dec, np.float64)):
            in_order = np.lexsort((targets, separations, rows))
            places, first = np.unique(rows[in_order], return_index=True)
            index[places], separation[places] = targets[in_order][first], separations[in_order][first]
        return index, separation

    def _hits(self, ra: Floats, dec: Floats) -> list[tuple[Integers, Integers, Floats]]:
        """Find the pairs of a position and a target that are near, as numbers and separations in arcsec."""
        places = np.array((ra, dec))
        usable = (np.abs(places) <= _LARGEST).all(axis=0)  # False for NaN
        rows = None if usable.all() else np.flatnonzero(usable)
        if rows is not None:
            places = places[:, rows]
        places[0] %= 360
        numbers = self._number(self._steps(_unit_vectors(places)))
        marked = np.flatnonzero(self._marks[self._mark(numbers)])
        first = np.searchsorted(self._numbers, numbers[marked])
        # The others have the mark of another cube by chance.
        real = self._numbers.take(first, mode="clip") == numbers[marked]
        if not real.any():
            return []
        marked, first = marked[real], first[real]
        ra, dec = places
        count = np.searchsorted(self._numbers, numbers[marked], side="right") - first
        reached = np.cumsum(count)
        hits = []
        begin = 0
        while begin < len(marked):  # in pieces, which bounds the memory
            before = reached[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(reached, before + _PAIRS_AT_ONCE, side="right")))
            part = slice(begin, end)
            place = np.repeat(marked[part], count[part])
            start = np.repeat(first[part] - (reached[part] - count[part] - before), count[part])
            target = self._owners[start + np.arange(len(place))]
            separation = separation_arcsec(ra[place], dec[place], self.ra[target], self.dec[target])
            near = separation <= self.radius_arcsec
            if near.any():
                place = place[near]
                hits.append((place if rows is None else rows[place], target[near], separation[near]))
            begin = end
        return hits

    def _steps(self, points: Floats) -> Floats:
        return np.floor((points + (1 + self._cube)) * (1 / self._cube))

    def _number(self, steps: Floats) -> Integers:
        result: Integers = (self._weights @ steps).astype(np.int64)
        return result

    def _mark(self, numbers: Integers) -> Any:
        return (numbers.view(np.uint64) * _MIX) >> self._shift


def _unit_vectors(places: Floats) -> Floats:
    """Return unit vectors, shape (3, n), of positions in degrees, shape (2, n)."""
    radians = places * (math.pi / 180)
    sin, cos = np.sin(radians), np.cos(radians)
    result = np.empty((3, places.shape[1]))
    np.multiply(cos[0], cos[1], out=result[0])
    np.multiply(sin[0], cos[1], out=result[1])
    result[2] = sin[1]
    return result


# What users may give -------------------------------------------------------------------------------------------------


def named_targets(source: Any) -> tuple[list[Name], Floats, Floats]:
    """Turn what a user gives as a list of targets into names and positions.

    Parameters
    ----------
    source : SkyCoord, Table, DataFrame, path, (ra, dec), sequence or mapping of positions
        A table or a file of one (CSV, FITS, VOTable, Parquet, ECSV; gzipped or not but for Parquet) has columns of
        right ascension and declination under one of the usual names: degrees, what their unit says, or sexagesimal
        texts of hours and degrees. A column such as `name` or `object_id` gives the names, as the keys of a mapping do.

    Returns
    -------
    names : list
        Empty if the targets have none.
    ra, dec : array of float, shape (n,)

    Raises
    ------
    NotFoundError
        If there is no such file.
    ConfigurationError
        If it is no list of targets, one of them is not on the sky, or there is none.
    """
    place = ""
    if isinstance(source, os.PathLike) or (isinstance(source, str) and not _is_position(source)):
        place = f" in {source}"
        source = _read_table(Path(source).expanduser())
    names: list[Name] = []
    if not isinstance(source, Mapping) and (hasattr(source, "colnames") or hasattr(source, "columns")):
        names, source = _columns_of(source, place)
    keys, ra, dec, _ = named_positions(source)
    if not len(ra):
        raise ConfigurationError(f"the list of targets{place} is empty, so nothing is near one of them")
    return names or [key if isinstance(key, (str, int)) else str(key) for key in keys or ()], ra, dec


def position_columns(names: Sequence[str]) -> tuple[str, str]:
    """Find the columns of the position by their names: `ra` and `dec` in any case, else the only known pair.

    Raises
    ------
    ConfigurationError
        If it is not plain which they are.
    """
    small: dict[str, list[str]] = {}
    for name in names:
        small.setdefault(name.lower(), []).append(name)
    for pairs in ((("ra", "dec"),), _PAIRS):
        found = [pair for pair in pairs if pair[0] in small and pair[1] in small]
        if len(found) == 1 and all(len(small[name]) == 1 for name in found[0]):
            return small[found[0][0]][0], small[found[0][1]][0]
    raise ConfigurationError(
        f"which columns hold the position is not plain from their names: {', '.join(names)}; call them ra and dec"
    )


def _is_position(text: str) -> bool:
    try:
        named_positions(text)
    except ConfigurationError:
        return False
    return True


def _columns_of(table: Any, place: str) -> tuple[list[Name], Any]:
    """Return the names in a table, and its positions as something that `named_positions` takes."""
    from astropy.table import Table

    columns = [str(name) for name in (getattr(table, "colnames", None) or table.columns)]
    try:
        ra, dec = (table[name] for name in position_columns(columns))
    except ConfigurationError as error:
        raise ConfigurationError(f"the table of targets{place}: {error}") from error
    named = next((name for wanted in _NAMES for name in columns if name.lower() == wanted), None)
    names = [] if named is None else _plain(table[named])
    if np.asarray(ra).dtype.kind in "OSU":
        return names, list(zip(_plain(ra), _plain(dec), strict=True))
    ra, dec = (column.to_numpy() if hasattr(column, "to_numpy") else column for column in (ra, dec))
    return names, Table({"ra": ra, "dec": dec}, copy=False)


def _plain(column: Any) -> list[Any]:
    values = column.tolist()
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def _read_table(path: Path) -> Any:
    if not path.is_file():
        raise NotFoundError(f"there is no file {path} with targets", position=str(path))
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    form = _FORMATS.get(suffixes[-1] if suffixes else "")
    if form is None:
        raise ConfigurationError(
            f"the name of {path} does not tell what it is; known are {', '.join(_FORMATS)}, and .gz behind them",
            position=str(path),
        )
    if form == "parquet":
        parquet = require("pyarrow.parquet", extra="parquet")
    from astropy.table import Table

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is amiss shows when it is read
            if form == "parquet":
                found = parquet.read_table(path)
                return Table({name: found[name].to_numpy() for name in found.column_names})
            options = {"comment": r"\s*#"} if form == "ascii.csv" else {}
            return Table.read(path, format=form, **options)
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, SyntaxError, ExpatError) as error:
        raise ConfigurationError(f"the table {path} can't be read: {error}", position=str(path)) from error
