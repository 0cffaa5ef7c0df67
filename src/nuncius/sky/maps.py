"""Files and tables of MOCs and of sky maps: which cells they name.

Source of the formats: IVOA MOC 2.0 (serialisation in FITS), the multi-order sky maps of LIGO/Virgo/KAGRA (ligo.skymap),
and the flat maps of the HEALPix primer.
"""

from __future__ import annotations

import gzip
import io
import os
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nuncius.errors import ConfigurationError, NotFoundError
from nuncius.sky.cells import CELLS, ORDER, merged, ring_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]
    Ranges: TypeAlias = tuple[Integers, Integers]

_CREDIBLE = 0.9
_LARGEST = 4 << 30  # bytes of an unpacked map: order 12 with distances
_OTHER_FRAMES = frozenset({"G", "GALACTIC", "E", "ECLIPTIC"})
_STERADIAN = 4 * np.pi


def is_source(value: Any) -> bool:
    """Tell whether a value is a file, the bytes of one, its HDUs, or a table."""
    return isinstance(value, (str, bytes, bytearray, memoryview, os.PathLike)) or (
        hasattr(value, "hdulist") or type(value).__name__ == "HDUList" or hasattr(value, "colnames")
    )


def ranges_of(source: Any, credible: float | None) -> Ranges:
    """Return the cells of a MOC, or those of the credible region of a sky map.

    Raises
    ------
    NotFoundError
        If there is no such file.
    ConfigurationError
        If it is neither, or `credible` is given for a MOC.
    """
    columns, header = _table_of(source)
    density = columns.get("PROBDENSITY")
    chance = next((columns[name] for name in ("PROB", "PROBABILITY") if name in columns), None)
    if density is not None and "UNIQ" in columns:
        return _credible_cells(*_of_uniq(columns["UNIQ"], "sky map"), density, credible)
    if chance is not None:
        return _credible_flat(chance, columns, header, credible)
    if credible is not None:
        raise ConfigurationError("credible belongs to a sky map, and this is a MOC or another table")
    return _moc_ranges(columns, header)


def moc_of_fits(source: Any) -> Ranges:
    """Return the cells of a MOC; what is a sky map is refused, because it needs a probability.

    Raises
    ------
    NotFoundError
        If there is no such file.
    ConfigurationError
        If it is no MOC.
    """
    columns, header = _table_of(source)
    if {"PROBDENSITY", "PROB", "PROBABILITY"} & columns.keys():
        raise ConfigurationError("this is a sky map, not a MOC; to_region makes its credible region")
    return _moc_ranges(columns, header)


# Reading -------------------------------------------------------------------------------------------------------------


def _table_of(source: Any) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return the columns of the first table as arrays, by their names in capitals, and its header."""
    columns: dict[str, Any]
    header: Mapping[str, Any]
    if hasattr(source, "colnames"):
        columns = {str(name).upper(): source[name] for name in source.colnames}
        header = {str(name).upper(): value for name, value in source.meta.items()}
    else:
        columns, header = _table_of_fits(source)
    frame = str(header.get("COORDSYS", "C")).strip().upper()
    if frame in _OTHER_FRAMES:
        raise ConfigurationError(
            f"its cells are of another frame (COORDSYS={frame!r}) than the ICRS; convert it first"
        )
    return columns, header


def _table_of_fits(source: Any) -> tuple[dict[str, Any], Mapping[str, Any]]:
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    opened = source if isinstance(source, fits.HDUList) else None
    data = None if opened is not None else _bytes_of(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyUserWarning)  # what is amiss shows when it is read
            hdus = fits.open(data, memmap=False) if opened is None else opened
            try:
                return _first_table(hdus)
            finally:
                if opened is None:
                    hdus.close()
    except (OSError, EOFError, TypeError, KeyError, IndexError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"the region can't be read as FITS: {error}") from error


def _first_table(hdus: Any) -> tuple[dict[str, Any], Mapping[str, Any]]:
    table = next((hdu for hdu in hdus if hasattr(hdu, "columns") and hdu.data is not None), None)
    if table is None:
        raise ConfigurationError("the FITS file holds no table, so it is neither a MOC nor a sky map")
    columns = {}
    for column in table.columns:
        name = column.name.upper()
        columns[name] = np.asarray(table.data[column.name])
        if name == "PROBDENSITY":
            columns[name] = columns[name] * _in_steradians(column.unit)
    return columns, dict(table.header)


def _bytes_of(source: Any) -> io.BytesIO:
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        if not path.is_file():
            raise NotFoundError(f"there is no file {path}", position=str(path))
        source = path.read_bytes()
    data = bytes(source)
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                data = packed.read(_LARGEST + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ConfigurationError(f"the file can't be unpacked: {error}") from error
        if len(data) > _LARGEST:
            raise ConfigurationError(f"the map is larger than {_LARGEST >> 30} GiB when unpacked")
    return io.BytesIO(data)


def _in_steradians(unit: str | None) -> float:
    """Return the factor that turns a density into one per steradian."""
    if not unit:
        return 1.0
    import astropy.units as u

    try:
        return float(u.Unit(unit).to(u.sr**-1))
    except (ValueError, u.UnitConversionError) as error:
        raise ConfigurationError(
            f"PROBDENSITY has the unit {unit!r}, which is no probability per area"
        ) from error


# Cells ---------------------------------------------------------------------------------------------------------------


def _moc_ranges(columns: Mapping[str, Any], header: Mapping[str, Any]) -> Ranges:
    kind = str(header.get("MOCDIM", "SPACE")).strip().upper()
    if kind != "SPACE":
        raise ConfigurationError(f"this is a MOC of {kind}, not of the sky alone")
    ordering = str(header.get("ORDERING", "")).strip().upper()
    if len(columns) != 1 and "UNIQ" not in columns:
        raise ConfigurationError(
            f"a table with the columns {', '.join(columns)} is neither a MOC (UNIQ or RANGE) nor a sky map (UNIQ and "
            "PROBDENSITY, or PROB)"
        )
    values = columns["UNIQ"] if "UNIQ" in columns else next(iter(columns.values()))
    if ordering.startswith("RANGE"):
        bounds = _integers(values, "MOC").ravel()
        if (
            len(bounds) % 2
            or (bounds < 0).any()
            or (bounds > CELLS).any()
            or (bounds[::2] >= bounds[1::2]).any()
        ):
            raise ConfigurationError("the ranges of the MOC are no ranges of cells; the file is damaged")
        return merged(bounds[::2], bounds[1::2])
    if ordering in {"NUNIQ", "UNIQ"} or "UNIQ" in columns:
        cells, order = _of_uniq(values, "MOC")
        return merged(*_as_ranges(cells, order))
    raise ConfigurationError(f"ORDERING={ordering!r} is none of a MOC; NUNIQ and RANGE are known")


def _of_uniq(values: Any, what: str) -> tuple[Integers, Integers]:
    """Take numbers ``4 * 4**order + cell`` apart."""
    uniq = _integers(values, what).ravel()
    if (uniq < 4).any() or (uniq >= 16 << (2 * ORDER)).any():
        raise ConfigurationError(f"the {what} has numbers that are no HEALPix cells; the file is damaged")
    # The logarithm of a 62-bit number may be rounded up to the next whole one; the comparison puts that right.
    order = np.log2(uniq.astype(np.float64)).astype(np.int64) // 2 - 1
    order -= (np.int64(4) << (2 * order)) > uniq
    cells = uniq - (np.int64(4) << (2 * order))
    return cells, order


def _integers(values: Any, what: str) -> Integers:
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ConfigurationError(f"the cells of the {what} are no whole numbers")
    return array.astype(np.int64)


def _as_ranges(cells: Integers, order: Any) -> Ranges:
    shift = 2 * (ORDER - order)
    return cells << shift, (cells + 1) << shift


def _credible_cells(cells: Integers, order: Integers, density: Any, credible: float | None) -> Ranges:
    """Choose the densest cells of a multi-order map."""
    unit = getattr(density, "unit", None)
    values = _clean(getattr(density, "value", density)) * (_in_steradians(str(unit)) if unit else 1.0)
    low, high = _as_ranges(cells, order)
    in_order = np.argsort(low)
    if (low[in_order][1:] < high[in_order][:-1]).any():
        raise ConfigurationError("cells of the sky map lie upon each other; the file is damaged")
    area = _STERADIAN / (12.0 * 4.0**order)
    chosen = _densest(values, values * area, credible)
    return merged(low[chosen], high[chosen])


def _credible_flat(
    chance: Any, columns: Mapping[str, Any], header: Mapping[str, Any], credible: float | None
) -> Ranges:
    """Choose the most probable cells of a map whose cells are all of one size."""
    ordering = str(header.get("ORDERING", "")).strip().upper()
    if ordering not in {"NESTED", "NEST", "RING"}:
        raise ConfigurationError(f"the sky map has ORDERING={ordering!r}; NESTED and RING are known")
    values = _clean(chance)
    pixels = columns.get("PIXEL", columns.get("PIX"))
    nside = int(header.get("NSIDE", 0) or round((len(values) / 12) ** 0.5))
    order = nside.bit_length() - 1
    if nside < 1 or nside != 1 << order or order > ORDER:
        raise ConfigurationError(f"NSIDE={nside} of the sky map is no power of 2 up to 2**29")
    numbers = (
        np.arange(len(values), dtype=np.int64) if pixels is None else _integers(pixels, "sky map").ravel()
    )
    if len(numbers) != len(values) or (pixels is None and len(values) != 12 * nside**2):
        raise ConfigurationError(f"the sky map has {len(values)} cells; NSIDE={nside} has {12 * nside**2}")
    if pixels is not None and ((numbers < 0) | (numbers >= 12 * nside**2)).any():
        raise ConfigurationError("the sky map has numbers that are no cells; the file is damaged")
    chosen = numbers[_densest(values, values, credible)]
    return merged(*_as_ranges(_nested(chosen, order) if ordering == "RING" else np.sort(chosen), order))


def _nested(chosen: Integers, order: int) -> Integers:
    """Return cells of the ring scheme as nested ones."""
    wanted = np.zeros(12 << (2 * order), bool)
    wanted[chosen] = True
    step = 1 << 20  # bounds the memory for large maps
    parts = []
    for start in range(0, len(wanted), step):
        cells = np.arange(start, min(start + step, len(wanted)), dtype=np.int64)
        parts.append(cells[wanted[ring_numbers(cells, order)]])
    return np.concatenate(parts)


def _clean(values: Any) -> Floats:
    """Return values as floats; what is missing, in one of the ways of maps, is nought."""
    array = np.ma.filled(np.ma.asarray(values, dtype=np.float64), 0.0).ravel()
    return np.where(array > 0, array, 0.0)


def _densest(density: Floats, chance: Floats, credible: float | None) -> Integers:
    """Return which cells make up the smallest region with a probability."""
    total = float(chance.sum())
    if not abs(total - 1) < 0.05:
        raise ConfigurationError(f"the probabilities of the sky map sum up to {total:.4g}, not to 1")
    in_order = np.argsort(-density, kind="stable")
    reached = np.cumsum(chance[in_order])
    wanted = (_CREDIBLE if credible is None else credible) * reached[-1]
    return in_order[: int(np.searchsorted(reached, wanted)) + 1]
