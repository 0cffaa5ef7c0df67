"""The tiles of a compressed image, as its header describes them.

An image that is compressed by tiles is stored as a binary table: row *i* holds tile *i*, counted with the first FITS axis
fastest; a column holds descriptors (count, offset) of the compressed bytes in the heap behind the table (FITS Standard
4.0, section 10.1). Everything here is arithmetic on the header: nothing is read and nothing is decoded.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nuncius.cloudfits import blocks
from nuncius.errors import FitsError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from nuncius.cloudfits.hdu import HduDescription

CODECS = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1", "NOCOMPRESS")
DATA_COLUMNS = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA", "UNCOMPRESSED_DATA")
MOST_TILE_PIXELS = (
    1 << 28
) - 1  # the decoders count the bytes of a tile, at 8 per pixel, in 32 bits with a sign
MOST_EXTRA_BYTES = 1 << 30  # of tiles that are decoded for the sake of a few of their pixels
DITHER_PERIOD = 10_000  # rows after which the dithering of FITS 4.0, 10.2.1, repeats itself

_DITHERED = ("SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")
_WIDTHS = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_FORM = re.compile(r"(\d{0,9})([LXBIJKAEDCMPQ])(.?)")
# What decides on the values of pixels, or names the columns that do; the other cards of a header don't matter here.
_CARDS = re.compile(
    rb"(?:NAXIS[12]|TFIELDS|THEAP|BSCALE|BZERO|BLANK|ZBLANK|ZSCALE|ZZERO|ZCMPTYPE|ZQUANTIZ|ZDITHER0"
    rb"|T(?:TYPE|FORM|SCAL|ZERO|NULL)\d{1,3}|Z(?:TILE|NAME|VAL)\d{1,3}) *="
)


@dataclass(frozen=True, slots=True)
class HeapColumn:
    """A column of descriptors: each row says where in the heap its bytes are."""

    name: str
    offset: int
    """Where a descriptor begins in its row, in bytes."""
    code: str
    """``P``: two 32-bit integers; ``Q``: two 64-bit integers."""
    element: str
    """The type of what is in the heap, as FITS writes it."""

    @property
    def descriptor(self) -> str:
        """The type of the count and of the offset, as numpy writes it."""
        return ">i4" if self.code == "P" else ">i8"

    @property
    def width(self) -> int:
        """The length of a descriptor in bytes."""
        return _WIDTHS[self.code]

    @property
    def itemsize(self) -> int:
        """The length of one element in the heap in bytes."""
        return _WIDTHS[self.element]


@dataclass(frozen=True, slots=True)
class TileTable:
    """A compressed image as its table holds it; everything in the order of numpy's axes.

    Parameters
    ----------
    label, url, position : str
        Which HDU of which file, for messages; where the file is; which HDU.
    cards : mapping of str to bytes
        The cards that decoding depends on, by keyword.
    shape, tile, counts : tuple of int
        Of the image in pixels, of a tile in pixels, and how many tiles there are along each axis.
    bitpix : int
        Of the image.
    codec : str
        ZCMPTYPE.
    row_bytes, heap, size : int
        The length of a row of the table; where the heap begins and where the data end, in bytes from its beginning.
    fields : int
        How many columns the table has.
    columns : tuple of HeapColumn
        Those of descriptors.
    seed : int or None
        ZDITHER0, if the values of pixels depend on the number of their tile's row.
    """

    label: str
    url: str
    position: str
    cards: dict[str, bytes]
    shape: tuple[int, ...]
    tile: tuple[int, ...]
    counts: tuple[int, ...]
    bitpix: int
    codec: str
    row_bytes: int
    heap: int
    size: int
    fields: int
    columns: tuple[HeapColumn, ...]
    seed: int | None

    def damaged(self, reason: str) -> FitsError:
        """Return the error that says why this image can't be decoded."""
        return FitsError(f"{self.label} can't be decoded: {reason}", url=self.url, position=self.position)

    def data_column(self, name: str) -> HeapColumn | None:
        """Return the column of that name."""
        return next((column for column in self.columns if column.name == name), None)


def describe_tiles(hdu: HduDescription) -> TileTable:
    """Read how the tiles of a compressed image are stored.

    Parameters
    ----------
    hdu : HduDescription
        Of kind ``compressed image``.

    Raises
    ------
    FitsError
        If its header can't be used: a codec that isn't known, impossible tiles, a table of another size.
    UnsupportedError
        If a tile is larger than the decoders can count.
    """
    return _Description(hdu).table()


class _Description:
    def __init__(self, hdu: HduDescription) -> None:
        self.hdu = hdu
        self.url = hdu.url
        self.position = f"HDU {hdu.index}"
        self.label = f"the compressed image in {self.position}" + (f" of {hdu.url}" if hdu.url else "")
        self.cards = _cards_of(hdu.raw)
        self.raw = b"".join(self.cards.values())

    def table(self) -> TileTable:
        codec = self._codec()
        shape = tuple(self.hdu.naxis)[::-1]
        if not shape or self.hdu.bitpix not in (8, 16, 32, 64, -32, -64):
            raise self._damaged(f"ZBITPIX is {self.hdu.bitpix} and its shape is {list(shape)}")
        tile = self._tile(shape)
        counts = tuple(-(-length // part) for length, part in zip(shape, tile, strict=True))
        rows, row_bytes = self._integer("NAXIS2"), self._integer("NAXIS1")
        if rows != math.prod(counts):
            raise self._damaged(
                f"an image of {_text(shape)} in tiles of {_text(tile)} needs {math.prod(counts):,} rows, and there are {rows:,}"
            )
        columns, names = self._columns(row_bytes)
        heap = self._integer("THEAP", row_bytes * rows)
        if not row_bytes * rows <= heap <= self.hdu.data_size:
            raise self._damaged(f"its heap is said to begin at byte {heap:,} of {self.hdu.data_size:,}")
        return TileTable(
            self.label, self.url, self.position, self.cards, shape, tile, counts, self.hdu.bitpix, codec,
            row_bytes, heap, self.hdu.data_size, self._integer("TFIELDS"), columns, self._seed(names),
        )  # fmt: skip

    def _codec(self) -> str:
        codec = blocks.value_of(self.raw, "ZCMPTYPE")
        if codec not in CODECS:
            raise self._damaged(f"ZCMPTYPE is {codec!r}; known are {', '.join(CODECS)}")
        if str(codec).startswith("RICE"):
            sizes = {"BLOCKSIZE": range(1, 129), "BYTEPIX": (1, 2, 4)}
            for number in range(1, 1000):
                name = blocks.value_of(self.raw, f"ZNAME{number}")
                if name is None:
                    break
                value = blocks.value_of(self.raw, f"ZVAL{number}")
                if value not in sizes.get(str(name).upper(), (value,)):
                    raise self._damaged(f"its Rice {name} is {value!r}")
        return str(codec)

    def _tile(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        # Without ZTILEn a tile is a row of the image.
        found = [
            self._integer(f"ZTILE{number}", length if number == 1 else 1)
            for number, length in enumerate(reversed(shape), 1)
        ][::-1]
        if min(found) < 1 and 0 not in shape:
            raise self._damaged(f"its tiles are said to have {_text(found)} pixels")
        tile = tuple(max(1, min(part, length)) for part, length in zip(found, shape, strict=True))
        if math.prod(tile) > MOST_TILE_PIXELS:
            raise UnsupportedError(
                f"a tile of {self.label} has {_text(tile)} pixels; up to {MOST_TILE_PIXELS:,} can be decoded. Download the "
                "file and use funpack",
                url=self.url,
                position=self.position,
            )
        return tile

    def _columns(self, row_bytes: int) -> tuple[tuple[HeapColumn, ...], set[str]]:
        fields = self._integer("TFIELDS")
        if not 1 <= fields <= 999:
            raise self._damaged(f"TFIELDS is {fields}")
        columns, names, offset = [], set(), 0
        for number in range(1, fields + 1):
            name, form = (blocks.value_of(self.raw, f"{key}{number}") for key in ("TTYPE", "TFORM"))
            match = _FORM.match(form.upper()) if isinstance(form, str) else None
            if match is None:
                raise self._damaged(f"TFORM{number} is {form!r}")
            repeat, code, element = int(match[1] or 1), match[2], match[3]
            name = str(name or "").strip().upper()
            names.add(name)
            if code in "PQ" and repeat:
                if repeat > 1 or (name in DATA_COLUMNS and element not in ("B", "I", "J", "E", "D")):
                    raise self._damaged(f"the column {name} is of type {form}")
                columns.append(HeapColumn(name, offset, code, element))
            offset += -(-repeat // 8) if code == "X" else repeat * _WIDTHS[code]
        if offset != row_bytes:
            raise self._damaged(f"its columns take {offset:,} bytes of a row, and NAXIS1 is {row_bytes:,}")
        if not any(column.name == DATA_COLUMNS[0] for column in columns):
            raise self._damaged(f"there is no column {DATA_COLUMNS[0]} of arrays")
        return tuple(columns), names

    def _seed(self, names: set[str]) -> int | None:
        method = blocks.value_of(self.raw, "ZQUANTIZ")
        if "ZSCALE" not in names or method in (None, "NO_DITHER"):
            return None
        if method not in _DITHERED:
            raise self._damaged(f"its values are scaled by ZSCALE, and ZQUANTIZ is {method!r}")
        seed = self._integer("ZDITHER0")
        if not 1 <= seed <= DITHER_PERIOD:
            raise self._damaged(f"ZDITHER0 is {seed}; it is 1 to {DITHER_PERIOD}")
        return seed

    def _integer(self, name: str, default: int | None = None) -> int:
        if default is not None and blocks.card_of(self.raw, name) is None:
            return default
        value = blocks.value_of(self.raw, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._damaged(f"{name} is missing or no integer")
        return value

    def _damaged(self, reason: str) -> FitsError:
        return FitsError(f"{self.label} can't be decoded: {reason}", url=self.url, position=self.position)


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of whole tiles, which is an image of its own.

    It holds the tiles that are wanted and, where pixels depend on the number of their tile's row, as many others before
    them as it takes for these numbers to go on as they do in the whole image.

    Parameters
    ----------
    first, counts : tuple of int
        Its first tile along each axis, and how many tiles it has.
    wanted : tuple of (int, int)
        The wanted tiles along each axis: the first, and the one after the last.
    """

    first: tuple[int, ...]
    counts: tuple[int, ...]
    wanted: tuple[tuple[int, int], ...]

    def rows_in_image(self, table: TileTable) -> NDArray[np.int64]:
        """Return the rows of the wanted tiles in the table of the image, in ascending order."""
        return _rows(self.wanted, table.counts)

    def rows_in_window(self) -> NDArray[np.int64]:
        """Return the rows of the same tiles in a table of this window alone."""
        shifted = [
            (start - first, stop - first)
            for (start, stop), first in zip(self.wanted, self.first, strict=True)
        ]
        return _rows(shifted, self.counts)

    def shape(self, table: TileTable) -> tuple[int, ...]:
        """Return its size in pixels."""
        return tuple(
            min((first + count) * tile, length) - first * tile
            for first, count, tile, length in zip(
                self.first, self.counts, table.tile, table.shape, strict=True
            )
        )

    def tile_pixels(self, table: TileTable) -> NDArray[np.int64]:
        """Return how many pixels each wanted tile has; tiles at the end of the image may be smaller than the others."""
        import numpy as np

        pixels = np.ones(1, dtype=np.int64)
        for (start, stop), tile, length in zip(self.wanted, table.tile, table.shape, strict=True):
            sides = np.minimum(tile, length - tile * np.arange(start, stop, dtype=np.int64))
            pixels = (pixels[:, None] * sides).reshape(-1)
        return pixels

    def seed(self, table: TileTable) -> int | None:
        """Return the seed with which its pixels are dithered as those of the whole image are."""
        if table.seed is None:
            return None
        row = 0
        for first, count in zip(self.first, table.counts, strict=True):
            row = row * count + first
        return (table.seed + row - 1) % DITHER_PERIOD + 1


def window_of(table: TileTable, box: Sequence[tuple[int, int]]) -> Window:
    """Return the window with the tiles that a box of pixels meets.

    Parameters
    ----------
    table : TileTable
        Of the image.
    box : sequence of (int, int)
        For each axis, in numpy's order, the first pixel and the one after the last; none of them is empty.

    Raises
    ------
    UnsupportedError
        If much more must be decoded than is asked for.
    """
    wanted = tuple(
        (start // tile, -(-stop // tile)) for (start, stop), tile in zip(box, table.tile, strict=True)
    )
    _check_size(table, box, wanted)
    first, counts = [], []
    for axis, (start, stop) in enumerate(wanted):
        # With as many tiles per line as the image has, modulo the period, rows differ from those of the image by the same
        # number everywhere, modulo the period. The slowest axis needs no such care: nothing is counted in its lines.
        period = DITHER_PERIOD if table.seed is not None and axis else 1
        count = stop - start + (table.counts[axis] - (stop - start)) % period
        first.append(min(start, table.counts[axis] - count))
        counts.append(count)
    return Window(tuple(first), tuple(counts), wanted)


def _check_size(table: TileTable, box: Sequence[tuple[int, int]], wanted: Sequence[tuple[int, int]]) -> None:
    asked = math.prod(stop - start for start, stop in box)
    decoded = math.prod(
        min(stop * tile, length) - start * tile
        for (start, stop), tile, length in zip(wanted, table.tile, table.shape, strict=True)
    )
    if (decoded - 4 * asked) * abs(table.bitpix) // 8 > MOST_EXTRA_BYTES:
        raise UnsupportedError(
            f"the tiles of {table.label} are so large ({_text(table.tile)} pixels) that {decoded:,} pixels would have to be "
            f"decoded for the {asked:,} that are asked for: ask for a larger part at once, or download the file",
            url=table.url,
            position=table.position,
        )


def _rows(ranges: Sequence[tuple[int, int]], counts: Sequence[int]) -> NDArray[np.int64]:
    import numpy as np

    rows = np.zeros(1, dtype=np.int64)
    for (start, stop), count in zip(ranges, counts, strict=True):
        rows = (rows[:, None] * count + np.arange(start, stop, dtype=np.int64)).reshape(-1)
    return rows


def _cards_of(raw: bytes) -> dict[str, bytes]:
    cards: dict[str, bytes] = {}
    for at in range(0, len(raw), blocks.CARD):
        if _CARDS.fullmatch(raw, at, at + 9):
            cards.setdefault(raw[at : at + 8].decode().rstrip(), raw[at : at + blocks.CARD])
        elif raw[at : at + 8] == b"END     ":
            break
    return cards


def _text(lengths: Sequence[int]) -> str:
    return " x ".join(f"{length:,}" for length in lengths)
