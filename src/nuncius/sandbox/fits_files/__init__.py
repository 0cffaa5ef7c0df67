"""FITS files of every kind, made on the spot: the same bytes for the same call.

`kinds` names the small ones, row by row for a test, `compressed_kinds` those of every codec, and `odd_kinds` those that are
broken. Files too large to hold are a `SparseFile`: a cube of TESS of 45 GB is `tess_cube()`, whose pixels
`TESS_PIXELS` knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.sandbox.fits_files.compressed import (
    CODECS,
    CompressedCase,
    compressed_cases,
    compressed_image,
    compressed_kinds,
    refused_cases,
)
from nuncius.sandbox.fits_files.cubes import TESS_PIXELS, PixelRamp, tess_cube
from nuncius.sandbox.fits_files.headers import (
    continued_header,
    end_traps,
    header_kinds,
    hierarch_header,
    long_header,
    odd_values,
)
from nuncius.sandbox.fits_files.images import image_kinds, random_groups, sky_image, stored_image, tan_wcs
from nuncius.sandbox.fits_files.many import decam_fz, many_hdus, night, night_file
from nuncius.sandbox.fits_files.odd import (
    end_missing,
    good_file,
    million_cards,
    odd_kinds,
    truncated,
    with_card,
    without_card,
)
from nuncius.sandbox.fits_files.sparse import Part, SparseFile
from nuncius.sandbox.fits_files.tables import (
    all_columns,
    ascii_table,
    compressed_table,
    large_table,
    shared_heap,
    table_kinds,
    variable_length,
    wide_table,
)
from nuncius.sandbox.fits_files.writing import gzipped, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "CODECS",
    "TESS_PIXELS",
    "CompressedCase",
    "Part",
    "PixelRamp",
    "SparseFile",
    "all_columns",
    "ascii_table",
    "compressed_cases",
    "compressed_image",
    "compressed_kinds",
    "compressed_table",
    "continued_header",
    "decam_fz",
    "end_missing",
    "end_traps",
    "good_file",
    "gzipped",
    "header_kinds",
    "hierarch_header",
    "image_kinds",
    "kinds",
    "large_table",
    "long_header",
    "many_hdus",
    "million_cards",
    "night",
    "night_file",
    "odd_kinds",
    "odd_values",
    "random_groups",
    "refused_cases",
    "shared_heap",
    "sky_image",
    "stored_image",
    "table_kinds",
    "tan_wcs",
    "tess_cube",
    "to_bytes",
    "truncated",
    "variable_length",
    "wide_table",
    "with_card",
    "without_card",
]


def kinds(*, compressed: bool = False) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield a name and a factory of a small, readable file for each kind of image, table and header.

    Parameters
    ----------
    compressed : bool
        Whether to name each file of `compressed_kinds` too (some 300); else there is one for each codec.
    """
    yield from image_kinds()
    yield from table_kinds()
    yield from header_kinds()
    if compressed:
        yield from compressed_kinds()
    else:
        # Whole numbers of 16 bits are what every codec knows.
        yield from (
            (name, make) for name, make in compressed_kinds() if name in {f"{codec} i2" for codec in CODECS}
        )
    yield "compressed images of many sizes", decam_fz
