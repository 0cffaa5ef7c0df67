"""Sections of images that are compressed by tiles, from the tiles that a section meets and nothing else.

The rows of these tiles are read from the table, then their bytes from the heap. Of both a small FITS file is made in
memory, an image of whole tiles, and astropy takes the section from that: so all codecs, scalings and ditherings are
astropy's own, and the values are those that it gives for the whole file.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
import threading
import warnings
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from nuncius._core.operations import Call
from nuncius.cloudfits import blocks
from nuncius.cloudfits.tile_grid import DATA_COLUMNS, Window, describe_tiles, window_of
from nuncius.errors import ConfigurationError, TruncatedFitsError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from nuncius._core.operations import Operation
    from nuncius.cloudfits.hdu import HduDescription
    from nuncius.cloudfits.ranges import Pieces, Reader
    from nuncius.cloudfits.tile_grid import HeapColumn, TileTable

# astropy's Hcompress decoder keeps its place in the stream in a static variable, and its table of random numbers for
# dithering is filled by whoever comes first, both without the GIL: two threads at once would give wrong pixels.
_decoding = threading.Lock()

_GZIP_RATIO = 1032  # what deflate can gain at most
_MUCH = 256 << 20  # bytes: what a tile may unpack to without being looked at first
_PIECE = 1 << 20
_HCOMPRESS = struct.Struct(">2sii12x3B")  # mark, two sides, (scale and sum), bit planes
_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, OSError, EOFError, RuntimeError, zlib.error)
MOST_HEAP_BYTES = (1 << 31) - 1  # what a descriptor of 32 bits can point at


class Heap(NamedTuple):
    """Bytes of the heap that were read."""

    pieces: Pieces
    begin: int
    """Where it begins in the file."""

    def get(self, offset: int, length: int) -> memoryview:
        """Return bytes from their place in the heap."""
        return self.pieces.get(self.begin + offset, self.begin + offset + length)


class Stored(NamedTuple):
    """Where the bytes of tiles are; each array has shape (n,), one for each tile that has bytes in that column."""

    column: HeapColumn
    tiles: NDArray[np.int64]
    """Which of the wanted tiles."""
    offsets: NDArray[np.int64]
    """Bytes from the beginning of the heap."""
    lengths: NDArray[np.int64]
    """Bytes."""


def read_tiles(
    reader: Reader, hdu: HduDescription, box: Sequence[tuple[int, int]]
) -> Operation[NDArray[Any]]:
    """Read a section of an image that is compressed by tiles.

    Two waves of requests: the rows of the tiles that the section meets, then their bytes.

    Parameters
    ----------
    reader : Reader
        The file.
    hdu : HduDescription
        Of kind ``compressed image``.
    box : sequence of (int, int)
        For each axis, in numpy's order, the first pixel and the one after the last.

    Returns
    -------
    numpy.ndarray
        Of shape ``(stop - start, …)``: the same values, of the same type, as ``hdu.section[...]`` of astropy gives for
        the whole file; a new array.

    Raises
    ------
    FitsError
        If the header, the table or a tile is damaged.
    TruncatedFitsError
        If the file ends before one of the tiles.
    UnsupportedError
        If far more pixels must be decoded than are asked for.
    ConfigurationError
        If the box is not inside of the image.
    """
    import numpy as np

    table = describe_tiles(hdu)
    _check_box(table, box)
    if any(start == stop for start, stop in box):
        return np.empty([stop - start for start, stop in box], dtype=hdu.dtype)
    window = window_of(table, box)
    if hdu.data_offset + table.row_bytes * math.prod(table.counts) > reader.size:
        raise TruncatedFitsError(
            f"the file ends at byte {reader.size:,}, inside of the table of tiles of {table.label}: it was cut when it was "
            "written or copied",
            url=table.url,
            position=table.position,
        )
    rows = hdu.data_offset + window.rows_in_image(table) * table.row_bytes
    pieces = yield from reader.read(rows, rows + table.row_bytes)
    lines = np.asarray(pieces.gather(rows, table.row_bytes)).reshape(-1, table.row_bytes)
    stored = list(_stored(table, lines))
    begin = hdu.data_offset + table.heap
    starts = begin + np.concatenate([part.offsets for part in stored])
    pieces = yield from reader.read(starts, starts + np.concatenate([part.lengths for part in stored]))
    section: NDArray[Any] = yield Call(
        _decode, (table, window, tuple(box), lines, stored, Heap(pieces, begin))
    )
    return section


def tiles_dtype(hdu: HduDescription) -> np.dtype[Any]:
    """Return the type of the values of a compressed image as `read_tiles` gives them; nothing is read.

    Parameters
    ----------
    hdu : HduDescription
        Of kind ``compressed image``.

    Raises
    ------
    FitsError
        If the header can't be used.
    """
    import numpy as np

    from nuncius.cloudfits.ranges import Pieces

    # What a single pixel becomes that is stored with the same scaling.
    table = describe_tiles(hdu)
    cards = table.cards | {"ZCMPTYPE": b"ZCMPTYPE= 'NOCOMPRESS'".ljust(blocks.CARD)}
    pixel = replace(table, shape=(1,), tile=(1,), counts=(1,), codec="NOCOMPRESS", cards=cards)
    column = next(column for column in table.columns if column.name == DATA_COLUMNS[0])
    size = max(abs(table.bitpix) // 8, column.itemsize)
    stored = Stored(column, *np.array([[0], [0], [size]]))
    lines = np.zeros((1, table.row_bytes), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reading pixels says it again
        heap = Heap(Pieces({0: bytes(size)}), 0)
        return _decode(pixel, Window((0,), (1,), ((0, 1),)), ((0, 1),), lines, [stored], heap).dtype


def _check_box(table: TileTable, box: Sequence[tuple[int, int]]) -> None:
    if len(box) != len(table.shape) or not all(
        0 <= start <= stop <= length for (start, stop), length in zip(box, table.shape, strict=True)
    ):
        raise ConfigurationError(
            f"the section {list(box)} is not inside of {table.label}, which has the shape {table.shape}",
            url=table.url,
            position=table.position,
        )


# Where the bytes of tiles are --------------------------------------------------------------------------------------------


def _stored(table: TileTable, lines: NDArray[np.uint8]) -> Iterator[Stored]:
    """Find the bytes of each tile: where there are none of the codec, a tile is in one of the other columns."""
    import numpy as np

    missing = np.ones(len(lines), dtype=bool)
    total = 0
    for name in DATA_COLUMNS:
        column = table.data_column(name)
        if column is None:
            continue
        pairs = lines[:, column.offset : column.offset + column.width].copy().view(column.descriptor)
        counts, offsets = pairs.astype(np.int64).T
        tiles = np.flatnonzero(missing & (counts != 0))
        counts, offsets = counts[tiles], offsets[tiles]
        room = table.size - table.heap
        bad = (counts < 0) | (offsets < 0) | (offsets > room) | (counts > (room - offsets) // column.itemsize)
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise table.damaged(
                f"a tile is said to have {counts[at]:,} elements at byte {offsets[at]:,} of a heap of {room:,} bytes "
                f"(column {name})"
            )
        missing[tiles] = False
        lengths = counts * column.itemsize
        total += int(np.unique(np.stack([offsets, lengths]), axis=1)[1].sum())
        if total > room:
            raise table.damaged(
                f"its tiles overlap each other: they have {total:,} bytes in a heap of {room:,}"
            )
        yield Stored(column, tiles, offsets, lengths)
    if missing.any():
        raise table.damaged(f"{int(missing.sum()):,} tiles have no bytes")


# A file of these tiles alone ---------------------------------------------------------------------------------------------


def _decode(
    table: TileTable,
    window: Window,
    box: tuple[tuple[int, int], ...],
    lines: NDArray[np.uint8],
    stored: list[Stored],
    heap: Heap,
) -> NDArray[Any]:
    import numpy as np
    from astropy.io import fits

    small = _small_file(table, window, lines, stored, heap)
    index = tuple(
        slice(start - first * tile, stop - first * tile)
        for (start, stop), first, tile in zip(box, window.first, table.tile, strict=True)
    )
    alone = _decoding if table.codec == "HCOMPRESS_1" or table.seed is not None else contextlib.nullcontext()
    try:
        with alone, fits.open(io.BytesIO(small), memmap=False) as opened:
            section = opened[1].section[index]
    except Exception as error:
        # The errors of astropy's decoders in C are of a class that has no public name.
        if not isinstance(error, _DAMAGE) and type(error).__name__ != "CfitsioException":
            raise
        raise table.damaged(f"astropy says {type(error).__name__}: {error}") from error
    # A copy, where the section is part of larger tiles: a small section shall not hold these in memory.
    return np.ascontiguousarray(section)


def _small_file(
    table: TileTable, window: Window, lines: NDArray[np.uint8], stored: list[Stored], heap: Heap
) -> bytes:
    """Return a FITS file with an image of the window, of which the wanted tiles are there."""
    import numpy as np

    lines = lines.copy()
    for column in table.columns:
        lines[:, column.offset : column.offset + column.width] = 0
    pixels = window.tile_pixels(table)
    parts: list[bytes | memoryview] = []
    used = 0
    for part in stored:
        column = part.column
        spans, which = np.unique(
            np.stack([part.offsets, part.lengths, pixels[part.tiles]]), axis=1, return_inverse=True
        )
        placed = np.empty((spans.shape[1], 2), dtype=np.int64)
        for number, (offset, length, size) in enumerate(spans.T.tolist()):
            data = heap.get(offset, length)
            extra = _check_stream(table, column, data, size)
            placed[number] = (length + extra) // column.itemsize, used
            parts += [data, bytes(extra)]
            used += length + extra
        if used > MOST_HEAP_BYTES:
            raise UnsupportedError(
                f"this takes {used:,} bytes of {table.label} at once; ask for smaller sections, one after the other",
                url=table.url,
                position=table.position,
            )
        pairs = placed[which.reshape(-1)].astype(column.descriptor)
        lines[part.tiles, column.offset : column.offset + column.width] = pairs.view(np.uint8)
    rows = np.zeros((math.prod(window.counts), table.row_bytes), dtype=np.uint8)
    rows[window.rows_in_window()] = lines
    body = b"".join([rows.tobytes(), *parts])
    fill = bytes(blocks.padded(len(body)) - len(body))
    return b"".join([_PRIMARY, _header(table, window, used), body, fill])


def _header(table: TileTable, window: Window, heap_bytes: int) -> bytes:
    shape = window.shape(table)
    values: dict[str, Any] = {
        "XTENSION": "'BINTABLE'", "BITPIX": 8, "NAXIS": 2, "NAXIS1": table.row_bytes, "NAXIS2": math.prod(window.counts),
        "PCOUNT": heap_bytes, "GCOUNT": 1, "TFIELDS": table.fields, "ZIMAGE": "T", "ZBITPIX": table.bitpix,
        "ZNAXIS": len(shape),
    }  # fmt: skip
    for number, (length, tile) in enumerate(zip(shape[::-1], table.tile[::-1], strict=True), 1):
        values |= {f"ZNAXIS{number}": length, f"ZTILE{number}": tile}
    if table.seed is not None:
        values["ZDITHER0"] = window.seed(table)
    return _cards(
        values, [card for name, card in table.cards.items() if name not in values and name != "THEAP"]
    )


def _cards(values: dict[str, Any], others: Iterable[bytes] = ()) -> bytes:
    own = [f"{name:<8}= {value:>20}".ljust(blocks.CARD).encode() for name, value in values.items()]
    header = b"".join([*own, *others, b"END"])
    return header.ljust(blocks.padded(len(header)))


_PRIMARY = _cards({"SIMPLE": "T", "BITPIX": 8, "NAXIS": 0, "EXTEND": "T"})


# What astropy's decoders take on trust -----------------------------------------------------------------------------------


def _check_stream(table: TileTable, column: HeapColumn, data: memoryview, pixels: int) -> int:
    """Check the compressed bytes of a tile for what astropy's decoders don't check; return how much to add to them.

    Some decoders read on until they have all pixels, without regard to where the bytes end.
    """
    codec = {"GZIP_COMPRESSED_DATA": "GZIP", "UNCOMPRESSED_DATA": ""}.get(column.name, table.codec)
    if codec.startswith("GZIP"):
        _check_gzip(table, data, 8 * pixels)
    elif codec == "PLIO_1":
        return _check_plio(table, column, data)
    elif codec == "HCOMPRESS_1":
        return _check_hcompress(table, column, data, pixels)
    return 0


def _check_gzip(table: TileTable, data: memoryview, most: int) -> None:
    if len(data) * _GZIP_RATIO <= max(most, _MUCH):
        return
    rest, size = bytes(data), 0
    while rest:  # a stream may follow another
        unpacker = zlib.decompressobj(wbits=31)
        while not unpacker.eof:
            try:
                got = len(unpacker.decompress(rest, _PIECE))
            except zlib.error as error:
                raise table.damaged(f"a tile is no gzip stream: {error}") from error
            size, rest = size + got, unpacker.unconsumed_tail
            if size > most:
                raise table.damaged(f"a tile unpacks to more than {most:,} bytes")
            if not (got or rest or unpacker.eof):
                raise table.damaged("the gzip stream of a tile has no end")
        rest = unpacker.unused_data.lstrip(b"\0")


def _check_plio(table: TileTable, column: HeapColumn, data: memoryview) -> int:
    # A line list begins with (0, first word, length or -100, low and high part of the length); see IRAF's PLIO.
    if column.element != "I" or len(data) < 10:
        raise table.damaged(
            f"a tile has {len(data)} bytes of type {column.element} where a list of PLIO begins"
        )
    _, first, short, low, high = struct.unpack(">5h", data[:10])
    if first < 0 or (short if short > 0 else (high << 15) + low) * 2 > len(data):
        raise table.damaged(f"a list of PLIO is longer than the {len(data):,} bytes that its tile has")
    return 8


def _check_hcompress(table: TileTable, column: HeapColumn, data: memoryview, pixels: int) -> int:
    if column.element != "B" or len(data) < _HCOMPRESS.size:
        raise table.damaged(f"a tile has {len(data)} bytes of type {column.element} where Hcompress begins")
    _, sides, others, *planes = _HCOMPRESS.unpack(data[: _HCOMPRESS.size])
    if min(sides, others) < 1 or sides * others != pixels or max(planes) > 64:
        raise table.damaged(
            f"Hcompress tells of {sides} x {others} pixels in {max(planes)} bit planes in a tile of {pixels:,}"
        )
    # Its codes take at most two bits for a pixel in each plane, and one for the sign.
    most: int = (max(planes) + 1) * (sides + 16) * (others + 16) // 4
    return max(0, most - len(data))
