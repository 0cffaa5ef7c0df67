"""Cubes of tens of gigabytes, shaped like the full-frame image cubes of TESS, whose pixels are known without a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

from nuncius.sandbox.fits_files.sparse import SparseFile
from nuncius.sandbox.fits_files.writing import BLOCK, encoded, to_bytes

if TYPE_CHECKING:
    import numpy as np

__all__ = ["TESS_PIXELS", "PixelRamp", "tess_cube"]

_ITEM = 4  # bytes of a float32
_STEP = 7919
_MODULUS = (
    16_777_213  # the largest prime below 2**24: each value is a whole number that float32 holds exactly
)


@dataclass(frozen=True)
class PixelRamp:
    """A big-endian float32 image, each pixel a known function of its place; a part of a `SparseFile`.

    The pixel with the linear index i (C order) is (7919 i + first) modulo 16,777,213, so neighbours differ along each
    axis. Indexing gives the values of any section without a file.

    Parameters
    ----------
    shape : tuple of int
        The axes as numpy has them, the slowest first.
    first : int
        The value of the first pixel.

    Examples
    --------
    >>> PixelRamp((2078, 2136, 1282, 2))[1000, 500:503, 7, 0].tolist()
    [2679286.0, 6206389.0, 9733492.0]
    """

    shape: tuple[int, ...]
    first: int = 0

    @property
    def size(self) -> int:
        """The number of bytes."""
        return prod(self.shape) * _ITEM

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes [start, end) as they stand in a file."""
        import numpy as np

        low = start // _ITEM
        values = self._values(np.arange(low, -(-end // _ITEM), dtype=np.int64))
        return values.astype(">f4").tobytes()[start - low * _ITEM : end - low * _ITEM]

    def __getitem__(self, section: Any) -> np.ndarray[Any, Any]:
        """Return the pixels of a section given by whole numbers, slices and `...`."""
        import numpy as np

        steps = [prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        axes = [
            np.arange(length, dtype=np.int64) * step for length, step in zip(self.shape, steps, strict=True)
        ]
        keys = list(section) if isinstance(section, tuple) else [section]
        if ... in keys:
            at = keys.index(...)
            keys[at : at + 1] = [slice(None)] * (len(axes) - len(keys) + 1)
        keys += [slice(None)] * (len(axes) - len(keys))
        index = np.zeros((), dtype=np.int64)
        for axis, key in zip(axes, keys, strict=True):
            index = np.add.outer(index, axis[key])
        return self._values(index)

    def _values(self, index: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        import numpy as np

        return ((index * _STEP + self.first) % _MODULUS).astype(np.float32)


TESS_PIXELS = PixelRamp((2078, 2136, 1282, 2))


@cache
def tess_cube(*, primary_blocks: int = 1, pixels: PixelRamp = TESS_PIXELS) -> SparseFile:
    """Return a cube: a primary header, an image (row, column, frame, flux or error) and a table with one row per frame.

    Parameters
    ----------
    primary_blocks : int
        Blocks of 2880 bytes that the primary header fills, 1 or 2.
    pixels : PixelRamp
        The image, of four axes; 45.5 GB unless given.

    Returns
    -------
    SparseFile
        Of three HDUs whose headers take `primary_blocks`, 1 and 9 blocks.
    """
    from astropy.io import fits

    primary = fits.PrimaryHDU().header
    primary.update(
        {"NEXTEND": 2, "TELESCOP": "TESS", "INSTRUME": "TESS Photometer", "SECTOR": 22, "CAMERA": 4, "CCD": 4}
    )
    if primary_blocks > 1:
        primary.update({f"KEY{number:05d}": number / 7 for number in range(40)})
    # No data are made for a header that describes more of them than there is memory.
    image = fits.Header([("XTENSION", "IMAGE"), ("BITPIX", -32), ("NAXIS", 4)])
    image.update({f"NAXIS{axis}": length for axis, length in enumerate(reversed(pixels.shape), 1)})
    image.update({"PCOUNT": 0, "GCOUNT": 1, "INHERIT": True, "EXTNAME": "PIXELS", "BUNIT": "e-/s"})
    first, second = encoded(primary), encoded(image)
    start = len(first) + len(second)
    table_at = start + -(-pixels.size // BLOCK) * BLOCK
    table = _frames_table(pixels.shape[2])
    return SparseFile(table_at + len(table), {0: first, len(first): second, start: pixels, table_at: table})


def _frames_table(frames: int) -> bytes:
    """Return a table of 104 columns, what each frame's own header said: its header fills 9 blocks."""
    import numpy as np
    from astropy.io import fits

    number = np.arange(frames)
    columns = [
        fits.Column(
            "FFI_FILE", "38A", array=np.array([f"tess-s0022-4-4-{frame:06d}_ffic.fits" for frame in number])
        ),
        fits.Column("START_TJD", "D", unit="d", array=1899.3 + number / 48),
        fits.Column("END_TJD", "D", unit="d", array=1899.3 + (number + 1) / 48),
        fits.Column("DQUALITY", "J", unit="bits", array=(number % 50 == 7) * 32),
    ]
    columns += [
        fits.Column(
            f"{axis}_{row}_{column}", "D", unit="pixel", array=(row - column / 3) * 1e-6 + number * 1e-9
        )
        for axis in ("A", "B", "AP", "BP")
        for row in range(5)
        for column in range(5)
    ]
    table = fits.BinTableHDU.from_columns(columns, name="FFIS")
    return to_bytes(table)[BLOCK:]
