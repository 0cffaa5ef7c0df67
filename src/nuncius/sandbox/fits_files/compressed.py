"""Tile-compressed images: each codec with each type, tile shape and way to round floats that astropy writes."""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from nuncius.sandbox.fits_files.writing import after_primary, encoded, image_hdu, noise, padded, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

__all__ = [
    "CODECS",
    "CompressedCase",
    "compressed_cases",
    "compressed_image",
    "compressed_kinds",
    "refused_cases",
]

CODECS = ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1", "NOCOMPRESS")
_HEAP_ITEM = {"B": 1, "I": 2, "E": 4}
_SHAPE = (40, 37)
_TILE = (16, 16)
# Whole numbers are kept as they are; floats are rounded with one of three ways to dither, or kept.
_ROUNDING: dict[str, dict[str, Any]] = {
    "rounded": {"quantize_level": 16.0, "quantize_method": -1},
    "dithered": {"quantize_level": 16.0, "quantize_method": 1, "dither_seed": 9999},
    "dithered but for zeros": {"quantize_level": 4.0, "quantize_method": 2, "dither_seed": 10000},
    "exact": {"quantize_level": 0.0},
}


def compressed_image(
    codec: str = "RICE_1",
    *,
    shape: tuple[int, ...] = _SHAPE,
    tile_shape: tuple[int, ...] | None = None,
    dtype: str = "i2",
    seed: int = 1,
    array: np.ndarray[Any, Any] | None = None,
    cards: dict[str, Any] | None = None,
    **options: Any,
) -> bytes:
    """Return a file with one compressed image after an empty primary HDU, as astropy writes it.

    Parameters
    ----------
    codec : str
        One of `CODECS`.
    shape : tuple of int
        The axes of the image, the slowest first.
    tile_shape : tuple of int, optional
        The axes of a tile; rows unless given.
    dtype : str
        The type of the pixels, such as "i2" or "f4".
    seed : int
        Other pixels for another seed.
    array : ndarray, optional
        The pixels themselves, instead of shape, dtype and seed.
    cards : dict, optional
        More cards of the image.
    **options
        What `astropy.io.fits.CompImageHDU` takes, such as `quantize_method` or `hcomp_scale`.
    """
    from astropy.io import fits

    pixels = noise(shape, dtype, seed=seed) if array is None else array
    image = fits.CompImageHDU(pixels, name="SKY", compression_type=codec, tile_shape=tile_shape, **options)
    image.header.update(cards or {})
    return to_bytes(image)


@dataclass(frozen=True)
class CompressedCase:
    """A compressed image that astropy writes, or refuses to.

    Attributes
    ----------
    label : str
        Codec, type, tiles and options in words.
    make : callable
        Returns the file.
    refused : str
        Why astropy doesn't write such a file; empty if it does.
    """

    label: str
    make: Callable[[], bytes] = field(repr=False)
    refused: str = ""


def compressed_cases() -> Iterator[tuple[str, bytes]]:
    """Yield a label and a file for each codec x type, x tile shape and x option that astropy writes."""
    for case in _cases():
        if not case.refused:
            yield case.label, case.make()


def refused_cases() -> Iterator[CompressedCase]:
    """Yield what astropy doesn't write, or not without loss, each with the reason."""
    return (case for case in _cases() if case.refused)


def compressed_kinds() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield a label and a factory for each file of `compressed_cases`."""
    return ((case.label, case.make) for case in _cases() if not case.refused)


def _cases() -> Iterator[CompressedCase]:
    for codec in CODECS:
        yield from _types(codec)
        yield from _tiles(codec)
        yield from _special_values(codec)
        yield from _layouts(codec)
    for scale in (0.0, 2.5, 4.0, -3.0):
        for smooth in (False, True):
            for dtype in ("i2", "f4"):
                options: dict[str, Any] = {
                    "hcomp_scale": scale,
                    "hcomp_smooth": smooth,
                    "tile_shape": _TILE,
                    "dtype": dtype,
                }
                options |= _ROUNDING["dithered"] if dtype == "f4" else {}
                label = f"HCOMPRESS_1 {dtype} scale {scale:g}{' smooth' if smooth else ''}"
                yield CompressedCase(label, partial(compressed_image, "HCOMPRESS_1", **options))


def _types(codec: str) -> Iterator[CompressedCase]:
    """Yield each type, in tiles that don't divide the image."""
    for dtype in ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8"):
        refused = ""
        if codec == "PLIO_1" and dtype in {"u2", "u4", "u8"}:
            refused = "unsigned integers of more than 8 bits"
        elif codec in {"RICE_1", "PLIO_1", "HCOMPRESS_1"} and dtype in {"i8", "u8"}:
            refused = "integers of 64 bits"
        make = partial(compressed_image, codec, dtype=dtype, tile_shape=_TILE)
        yield CompressedCase(f"{codec} {dtype}", make, refused)
    for dtype in ("f4", "f8"):
        for rounding, options in _ROUNDING.items():
            refused = ""
            if codec in {"RICE_1", "PLIO_1", "HCOMPRESS_1"} and rounding == "exact":
                refused = "floats as they are: it drops their fractions without a word"
            elif codec == "PLIO_1" and rounding.startswith("dithered"):
                refused = "dithered floats: out of the range of PLIO_1"
            make = partial(compressed_image, codec, dtype=dtype, tile_shape=_TILE, **options)
            yield CompressedCase(f"{codec} {dtype} {rounding}", make, refused)


def _tiles(codec: str) -> Iterator[CompressedCase]:
    """Yield each shape of tiles: one axis to four, rows, columns, whole images, tiles over several planes."""
    shapes: list[tuple[tuple[int, ...], tuple[int, ...] | None]] = [
        ((1000,), (128,)),
        ((1000,), None),
        (_SHAPE, None),
        (_SHAPE, (8, 37)),
        (_SHAPE, (40, 5)),
        (_SHAPE, (40, 37)),
        (_SHAPE, (4, 4)),
        (_SHAPE, (100, 100)),
        ((5, 40, 37), None),
        ((5, 40, 37), (1, 16, 16)),
        ((5, 40, 37), (2, 16, 16)),
        ((3, 4, 20, 21), (1, 1, 7, 8)),
        ((3, 4, 20, 21), (2, 1, 7, 8)),
    ]
    for shape, tile in shapes:
        for dtype in ("i2", "f4"):
            # PLIO_1 can't dither.
            rounding = "rounded" if codec == "PLIO_1" else "dithered"
            options = _ROUNDING[rounding] if dtype == "f4" else {}
            axes = "x".join(map(str, shape))
            label = f"{codec} {dtype} {axes} in " + (
                "default tiles" if tile is None else "x".join(map(str, tile))
            )
            make = partial(compressed_image, codec, shape=shape, dtype=dtype, tile_shape=tile, **options)
            yield CompressedCase(label, make, _refused_tiles(codec, shape, tile))


def _refused_tiles(codec: str, shape: tuple[int, ...], tile: tuple[int, ...] | None) -> str:
    if codec != "HCOMPRESS_1":
        return ""
    if len(shape) == 1:
        return "images of one axis"
    if tile is None:
        return ""
    if sum(length > 1 for length in tile) > 2:
        return "tiles of more than two axes"
    if any(0 < length % side < 4 or side < 4 for length, side in zip(shape[-2:], tile[-2:], strict=True)):
        return "tiles, or last tiles, of fewer than 4 pixels"
    return ""


def _special_values(codec: str) -> Iterator[CompressedCase]:
    """Yield NaN, tiles of nothing but NaN, constant tiles and zeros; negative, scaled and blank whole numbers."""
    import numpy as np

    floats = noise(_SHAPE, "f4") - 100
    floats[3, 3:9] = floats[:16, 16:32] = np.nan
    floats[20:36, :16] = 7.5
    floats[:, 34:] = 0
    floats[16:32, 16:32] = 1e-30 * floats[16:32, 16:32]
    plio = "negative numbers and NaN: out of the range of PLIO_1" if codec == "PLIO_1" else ""
    for rounding in ("rounded", "dithered", "dithered but for zeros"):
        make = partial(compressed_image, codec, array=floats, tile_shape=_TILE, **_ROUNDING[rounding])
        yield CompressedCase(f"{codec} NaN and constants {rounding}", make, plio)
    whole = noise(_SHAPE, "i4") - 500
    whole[::7] = -99
    yield CompressedCase(
        f"{codec} negative", partial(compressed_image, codec, array=whole, tile_shape=_TILE), plio
    )
    stored = np.abs(whole).astype("i2")
    meanings: dict[str, dict[str, Any]] = {"scaled": {"BSCALE": 0.5, "BZERO": 10.0}, "blank": {"BLANK": 99}}
    for name, cards in meanings.items():
        yield CompressedCase(f"{codec} {name}", partial(_with_cards, codec, stored, cards))


def _layouts(codec: str) -> Iterator[CompressedCase]:
    """Yield tables put together otherwise than astropy does."""
    floats = noise(_SHAPE, "f4")
    floats[:16, 16:32] = 7.5  # a tile that is kept as it is
    rounding = _ROUNDING["rounded" if codec == "PLIO_1" else "dithered"]
    for wide in (False, True):
        name = f"heap backwards after a gap, {64 if wide else 32} bits"
        for dtype, options in {"i2": {}, "f4": {"array": floats, **rounding}}.items():
            plain = partial(compressed_image, codec, tile_shape=_TILE, **options)
            yield CompressedCase(f"{codec} {dtype} {name}", partial(_rebuilt, plain, wide=wide))
    plain = partial(compressed_image, codec, tile_shape=_TILE, array=floats, **rounding)
    yield CompressedCase(f"{codec} f4 with UNCOMPRESSED_DATA", partial(_rebuilt, plain, unpack=True))


def _with_cards(codec: str, array: np.ndarray[Any, Any], cards: dict[str, Any]) -> bytes:
    """Return whole numbers with cards that say what they mean, which astropy would apply before it writes."""
    from astropy.io import fits

    with fits.open(
        io.BytesIO(compressed_image(codec, array=array, tile_shape=_TILE)), disable_image_compression=True
    ) as hdus:
        hdus[1].header.update(cards)
        return to_bytes(*hdus)


def _rebuilt(plain: Callable[[], bytes], *, wide: bool = False, unpack: bool = False) -> bytes:
    """Return a compressed image with its heap backwards after a gap.

    With `wide` the descriptors have 64 bits; with `unpack` tiles that are kept as they are aren't gzipped.
    """
    import numpy as np
    from astropy.io import fits

    file = plain()
    with fits.open(io.BytesIO(file), disable_image_compression=True) as hdus:
        header, at = hdus[1].header.copy(), hdus[1].fileinfo()["datLoc"]
    forms = [header[f"TFORM{number}"] for number in range(1, header["TFIELDS"] + 1)]
    names = [header[f"TTYPE{number}"] for number in range(1, header["TFIELDS"] + 1)]
    old = np.frombuffer(file, _row_type(forms, ">i4"), header["NAXIS2"], at)
    new = np.zeros(len(old), _row_type(forms, ">i8" if wide else ">i4"))
    heap = b"\xff" * 100
    for row in reversed(range(len(old))):
        for column, (name, form) in enumerate(zip(names, forms, strict=True)):
            if "P" not in form:
                new[row][column] = old[row][column]
                continue
            count, place = (int(number) for number in old[row][column])
            place += at + old.nbytes
            piece = file[place : place + count * _HEAP_ITEM[form[2]]]
            if unpack and name == "GZIP_COMPRESSED_DATA" and count:
                piece = gzip.decompress(piece)
                count = len(piece) // _HEAP_ITEM["E"]
            new[row][column] = count, len(heap) - 100
            heap += piece
    for number, (name, form) in enumerate(zip(names, forms, strict=True), 1):
        header[f"TFORM{number}"] = form.replace("P", "Q") if wide else form
        if unpack and name == "GZIP_COMPRESSED_DATA":
            header[f"TTYPE{number}"], header[f"TFORM{number}"] = "UNCOMPRESSED_DATA", "1PE"
    header.update({"NAXIS1": new.itemsize, "PCOUNT": len(heap), "THEAP": new.nbytes + 100})
    # astropy reads PCOUNT bytes from the start of the heap on, so as many more as the gap has: another HDU holds them.
    after = image_hdu(noise((5, 6), "i2"), {"EXTNAME": "AFTER"})
    return after_primary(encoded(header) + padded(new.tobytes() + heap) + after)


def _row_type(forms: list[str], descriptor: str) -> np.dtype[Any]:
    """Return how a row is stored, of columns of descriptors, doubles and integers."""
    import numpy as np

    return np.dtype(
        [(f"f{at}", descriptor, 2) if "P" in form else (f"f{at}", ">f8") for at, form in enumerate(forms)]
    )
