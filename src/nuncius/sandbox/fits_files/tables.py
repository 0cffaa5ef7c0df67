"""Tables: columns of every type, of variable length, binary and ASCII, long, wide and compressed."""

from __future__ import annotations

import gzip
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from nuncius.sandbox.fits_files.writing import after_primary, header_bytes, padded, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

__all__ = [
    "all_columns",
    "ascii_table",
    "compressed_table",
    "large_table",
    "shared_heap",
    "table_kinds",
    "variable_length",
    "wide_table",
]


_SHARING = ((3, 0), (3, 0), (2, 8), (0, 0), (0, 400), (5, 40), (4, 44), (10, 0))


class _Column(NamedTuple):
    """A column as it is stored; `cards` hold what the numbers mean, without the number of the column."""

    form: str
    values: np.ndarray[Any, Any]
    cards: dict[str, Any] = {}  # noqa: RUF012 - never changed


def all_columns(rows: int = 37, *, seed: int = 1) -> bytes:
    """Return a table with columns of every type: scalars, vectors, arrays, scaled, unsigned, with nulls and units."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return _binary_table({**_plain(rows, rng), **_special(rows, rng)}, rows)


def no_width(rows: int = 5) -> bytes:
    """Return a table with columns that take no room, between two that do; astropy 6.0 can't read it."""
    import numpy as np

    columns = {
        "first": _Column("J", np.arange(rows, dtype="i4")),
        "nothing": _Column("0E", np.zeros((rows, 0), dtype="f4")),
        "never": _Column("0J", np.zeros((rows, 0), dtype="i4"), {"TUNIT": "s"}),
        "last": _Column("2D", np.ones((rows, 2)).cumsum(axis=0)),
    }
    return _binary_table(columns, rows)


def _binary_table(columns: dict[str, _Column], rows: int) -> bytes:
    """Write a table by hand: astropy can't write scaled integers with every numpy, nor a column of no width."""
    import numpy as np

    stored = {
        name: column.values.astype(column.values.dtype.newbyteorder(">")) for name, column in columns.items()
    }
    table = np.zeros(rows, dtype=[(name, array.dtype, array.shape[1:]) for name, array in stored.items()])
    for name, array in stored.items():
        table[name] = array
    cards = _binary_table_cards(table.itemsize, rows, 0, len(columns))
    for number, (name, column) in enumerate(columns.items(), 1):
        for key, value in {"TTYPE": name, "TFORM": column.form, **column.cards}.items():
            cards.append(
                f"{key + str(number):8s}= "
                + (f"'{value:8s}'" if isinstance(value, str) else f"{value!s:>20s}")
            )
    return after_primary(header_bytes([*cards, "EXTNAME = 'EVERYTHING'"]) + padded(table.tobytes()))


def _plain(rows: int, rng: np.random.Generator) -> dict[str, _Column]:
    """Return a scalar and a vector column of each type."""
    import numpy as np

    def floats(kind: str, *more: int) -> np.ndarray[Any, Any]:
        values = rng.normal(0, 1e3, (rows, *more)).astype(kind)
        values[::5] = np.nan
        return values

    words = [(b"star", b"", b"supernova", b" galaxy", b"AGN ")[number % 5] for number in range(rows)]
    return {
        "flag": _Column("L", rng.choice([b"T", b"F"], rows)),
        "flags": _Column("3L", rng.choice([b"T", b"F"], (rows, 3))),
        "bits": _Column("11X", np.packbits(rng.random((rows, 11)) < 0.5, axis=1)),
        "byte": _Column("B", _integers(rng, "u1", rows), {"TUNIT": "adu"}),
        "bytes": _Column("5B", _integers(rng, "u1", rows, 5)),
        "short": _Column("1I", _integers(rng, "i2", rows)),
        "shorts": _Column("2I", _integers(rng, "i2", rows, 2)),
        "int": _Column("J", _integers(rng, "i4", rows), {"TUNIT": "s"}),
        "ints": _Column("4J", _integers(rng, "i4", rows, 4)),
        "long": _Column("K", _integers(rng, "i8", rows)),
        "longs": _Column("2K", _integers(rng, "i8", rows, 2)),
        "word": _Column("12A", np.array(words, dtype="S12")),
        "float": _Column("E", floats("f4"), {"TUNIT": "nJy", "TDISP": "F10.3"}),
        "floats": _Column("3E", floats("f4", 3)),
        "double": _Column("1D", floats("f8"), {"TUNIT": "deg"}),
        "doubles": _Column("2D", floats("f8", 2)),
        "complex": _Column("C", floats("f4") + 1j * floats("f4")),
        "complexes": _Column("2C", floats("f4", 2) - 1j * floats("f4", 2)),
        "dcomplex": _Column("M", floats("f8") - 1j * floats("f8")),
        "dcomplexes": _Column("2M", floats("f8", 2) + 1j * floats("f8", 2)),
    }


def _special(rows: int, rng: np.random.Generator) -> dict[str, _Column]:
    """Return columns whose stored numbers mean others, and arrays in a cell."""
    import numpy as np

    nulls = rng.integers(0, 50, (rows, 2))
    nulls[::4] = -99
    names = np.array([[b"ab", b"cd ", b"efgh"]] * rows, dtype="S4").reshape(rows, 3)
    return {
        "ushort": _Column("I", _integers(rng, "i2", rows), {"TZERO": 1 << 15}),
        "uint": _Column("J", _integers(rng, "i4", rows), {"TZERO": 1 << 31}),
        "ulong": _Column("K", _integers(rng, "i8", rows), {"TZERO": 1 << 63}),
        "ushorts": _Column("3I", _integers(rng, "i2", rows, 3), {"TSCAL": 1, "TZERO": 1 << 15}),
        "sbyte": _Column("B", _integers(rng, "u1", rows), {"TZERO": -128}),
        "scaled": _Column("I", _integers(rng, "i2", rows), {"TSCAL": 0.01, "TZERO": 20.0, "TUNIT": "mag"}),
        "scaleds": _Column("3J", _integers(rng, "i4", rows, 3), {"TSCAL": 0.5}),
        "sfloat": _Column("E", rng.normal(size=rows).astype("f4"), {"TSCAL": 2.0, "TZERO": -1.0}),
        "null": _Column("I", nulls[:, 0].astype("i2"), {"TNULL": -99}),
        "nulls": _Column("2J", nulls.astype("i4"), {"TNULL": -99, "TUNIT": "count"}),
        "snull": _Column("I", nulls[:, 0].astype("i2"), {"TNULL": -99, "TSCAL": 0.1, "TZERO": 5.0}),
        "matrix": _Column("6E", rng.normal(size=(rows, 2, 3)).astype("f4"), {"TDIM": "(3,2)"}),
        "cube": _Column("24I", _integers(rng, "i2", rows, 2, 3, 4), {"TDIM": "(4,3,2)"}),
        "names": _Column("12A", names, {"TDIM": "(4,3)"}),
    }


def _integers(rng: np.random.Generator, kind: str, *shape: int) -> np.ndarray[Any, Any]:
    """Return numbers from the whole range of a type."""
    import numpy as np

    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)


def variable_length(descriptor: str = "P", rows: int = 23, *, seed: int = 1) -> bytes:
    """Return a table whose cells have 0 to 8 elements, of each type; `descriptor` "P" has 32 bits, "Q" 64."""
    import numpy as np
    from astropy.io import fits

    rng = np.random.default_rng(seed)

    def cells(kind: str) -> np.ndarray[Any, Any]:
        result = np.empty(rows, dtype=object)
        for row in range(rows):
            result[row] = rng.integers(0, 2 if kind == "?" else 100, row * 4 % 9).astype(kind)
        return result

    types = {
        "L": "?",
        "B": "u1",
        "I": "i2",
        "J": "i4",
        "K": "i8",
        "E": "f4",
        "D": "f8",
        "C": "c8",
        "M": "c16",
    }
    columns = [fits.Column("id", "J", array=np.arange(rows))]
    columns += [
        fits.Column(f"v{code}", f"{descriptor}{code}()", array=cells(kind)) for code, kind in types.items()
    ]
    words = np.array(["light" * (row % 3) for row in range(rows)], dtype=object)
    columns.append(fits.Column("vA", f"{descriptor}A()", array=words))
    columns.append(fits.Column("last", "3E", array=rng.normal(size=(rows, 3))))
    return to_bytes(fits.BinTableHDU.from_columns(columns, name="HEAP"))


def shared_heap(descriptors: Sequence[tuple[int, int]] = _SHARING) -> bytes:
    """Return a table with one column of variable length, whose heap of 20 numbers starts after a gap.

    Parameters
    ----------
    descriptors : sequence of (int, int)
        For each row how many numbers its cell has, and at which byte of the heap they start; cells that share, overlap and
        leave out parts of the heap unless given.
    """
    import numpy as np

    rows, gap, heap = len(descriptors), 52, (np.arange(20) * 1001).astype(">i4")
    table = np.zeros(rows, dtype=[("id", ">i2"), ("cell", ">i4", 2)])
    table["id"], table["cell"] = np.arange(rows), np.array(descriptors)
    cards = [
        *_binary_table_cards(table.itemsize, rows, gap + heap.nbytes, 2),
        f"THEAP   = {table.nbytes + gap:20d}",
    ]
    cards += ["TTYPE1  = 'ID      '", "TFORM1  = 'I       '", "TTYPE2  = 'CELL    '", "TFORM2  = '1PJ(10) '"]
    return after_primary(header_bytes(cards) + padded(table.tobytes() + b"\xff" * gap + heap.tobytes()))


def large_table(rows: int = 200_000) -> bytes:
    """Return a catalogue with 72 bytes a row."""
    import numpy as np
    from astropy.io import fits

    number = np.arange(rows)
    columns = [
        fits.Column("ID", "K", array=number * 1_000_003),
        fits.Column("RA", "D", unit="deg", array=number * 0.618 % 360),
        fits.Column("DEC", "D", unit="deg", array=number * 0.414 % 180 - 90),
        fits.Column("MJD", "D", unit="d", array=59000 + number / 1000),
        *(
            fits.Column(f"MAG_{band}", "E", unit="mag", array=14 + number * 0.1 % (band + 7))
            for band in range(7)
        ),
        fits.Column("NOBS", "J", array=number % 300),
        fits.Column("CLASS", "8A", array=np.array(["STAR", "GALAXY", "QSO", ""])[number % 4]),
    ]
    return to_bytes(fits.BinTableHDU.from_columns(columns, name="CATALOG"))


def wide_table(rows: int = 60, width: int = 40_000) -> bytes:
    """Return a table of spectra: a row has `width` floats between its two narrow columns."""
    import numpy as np
    from astropy.io import fits

    number = np.arange(rows)
    flux = (number[:, None] * 31 + np.arange(width) * 7) % 1000
    columns = [
        fits.Column("ID", "J", array=number * 17),
        fits.Column("FLUX", f"{width}E", array=flux, unit="nJy"),
        fits.Column("Z", "D", array=number / 100),
    ]
    return to_bytes(fits.BinTableHDU.from_columns(columns, name="SPECTRA"))


def ascii_table(rows: int = 12, *, nulls: bool = False) -> bytes:
    """Return an ASCII table with columns of each format, one scaled, with room between the columns; `nulls`: and TNULL."""
    formats = ["A9", "I6", "F10.3", "E15.7", "D24.15", "I5", "I4"]
    names = ["name", "count", "flux", "rate", "time", "dn", "null"]
    widths = [9, 6, 10, 15, 24, 5, 4]
    starts = [1 + sum(widths[:number]) + 2 * number for number in range(len(widths))]
    length = starts[-1] - 1 + widths[-1]
    cards = ["XTENSION= 'TABLE   '", *_table_cards(length, rows, 0, len(formats))]
    for number, (name, form, start) in enumerate(zip(names, formats, starts, strict=True), 1):
        cards += [
            f"TTYPE{number}  = '{name:8s}'",
            f"TBCOL{number}  = {start:20d}",
            f"TFORM{number}  = '{form:8s}'",
        ]
    cards += ["TUNIT3  = 'mJy     '", "TSCAL6  =                  0.5", "TZERO6  =                100.0"]
    cards += ["TNULL7  = '----    '"] if nulls else []
    lines = []
    for row in range(rows):
        exact = f"{row / 7:24.15E}".replace("E", "D")
        null = "----" if nulls and row % 3 == 1 else f"{row * 11:4d}"
        fields = [
            f"star {row:<4d}",
            f"{row * row - 5:6d}",
            f"{row / 3:10.3f}",
            f"{row * 1e-9:15.7E}",
            exact,
            f"{row:5d}",
        ]
        lines.append("  ".join([*fields, null]))
    return after_primary(
        header_bytes([*cards, "EXTNAME = 'ASCII   '"]) + padded("".join(lines).encode("ascii"), b" ")
    )


def compressed_table(rows: int = 40) -> bytes:
    """Return a table of two columns kept column by column in two compressed tiles, which astropy shows as it is stored."""
    import numpy as np

    tile = rows // 2
    numbers, values = np.arange(rows, dtype=">i4"), np.sqrt(np.arange(rows)).astype(">f8")
    heap, table = b"", np.zeros((2, 2, 2), dtype=">i8")
    for half in range(2):
        for column, array in enumerate((numbers, values)):
            piece = gzip.compress(array[half * tile : (half + 1) * tile].tobytes(), mtime=0)
            table[half, column] = len(piece), len(heap)
            heap += piece
    cards = [
        *_binary_table_cards(32, 2, len(heap), 2),
        "ZTABLE  =                    T",
        f"ZTILELEN= {tile:20d}",
    ]
    cards += [f"ZNAXIS1 = {12:20d}", f"ZNAXIS2 = {rows:20d}", f"ZPCOUNT = {0:20d}"]
    for number, (name, form) in enumerate((("N", "1J"), ("ROOT", "1D")), 1):
        cards += [
            f"TTYPE{number}  = '{name:8s}'",
            f"TFORM{number}  = '1QB     '",
            f"ZFORM{number}  = '{form:8s}'",
        ]
        cards.append(f"ZCTYP{number}  = 'GZIP_1  '")
    return after_primary(header_bytes(cards) + padded(table.tobytes() + heap))


def _binary_table_cards(width: int, rows: int, pcount: int, fields: int) -> list[str]:
    return ["XTENSION= 'BINTABLE'", *_table_cards(width, rows, pcount, fields)]


def _table_cards(width: int, rows: int, pcount: int, fields: int) -> list[str]:
    values = {
        "BITPIX": 8,
        "NAXIS": 2,
        "NAXIS1": width,
        "NAXIS2": rows,
        "PCOUNT": pcount,
        "GCOUNT": 1,
        "TFIELDS": fields,
    }
    return [f"{key:8s}= {value:20d}" for key, value in values.items()]


def table_kinds() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield a name and a factory of a small file for each kind of table."""
    yield "table of all columns", all_columns
    yield "table of one row", partial(all_columns, 1)
    yield "table without rows", partial(all_columns, 0)
    yield "table with columns of no width", no_width
    yield "table of variable length, P", variable_length
    yield "table of variable length, Q", partial(variable_length, "Q")
    yield "table with a shared heap", shared_heap
    yield "table of 500 rows", partial(large_table, 500)
    yield "wide table", partial(wide_table, 6, 3000)
    yield "ASCII table", ascii_table
    yield "ASCII table with nulls", partial(ascii_table, nulls=True)
    yield "ASCII table without rows", partial(ascii_table, 0)
    yield "compressed table", compressed_table
