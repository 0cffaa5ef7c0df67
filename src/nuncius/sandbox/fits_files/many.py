"""Files of many HDUs, and folders of many files."""

from __future__ import annotations

import random
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from nuncius.sandbox.fits_files.cubes import PixelRamp
from nuncius.sandbox.fits_files.sparse import SparseFile
from nuncius.sandbox.fits_files.writing import BLOCK, CARD, encoded, noise, to_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuncius.sandbox.fits_files.sparse import Part

__all__ = ["decam_fz", "many_hdus", "night", "night_file"]


def many_hdus(
    layout: Literal["equal", "period 3", "random", "small"] = "equal",
    *,
    count: int = 100,
    nextend: bool = True,
    header_blocks: int = 3,
    seed: int = 1,
) -> SparseFile:
    """Return a file of a primary header and `count` image extensions, as a mosaic camera writes.

    Parameters
    ----------
    layout : {"equal", "period 3", "random", "small"}
        How many bytes the images have: 1 MiB each; 1, 0.5 and 1.5 MiB in turn (for counts of 3 n + 1 the file is as
        long as if they were equal); anything from 4 KiB to 2 MiB; or 84 KiB each.
    count : int
        The number of extensions.
    nextend : bool
        Whether the primary header says how many extensions there are.
    header_blocks : int
        Blocks of 2880 bytes that each header fills.
    seed : int
        Another random layout for another seed.
    """
    draw = random.Random(seed)  # noqa: S311 - sizes of images are no secrets
    random_rows = [draw.randint(2, 1024) for _ in range(count)]
    rows = {"equal": [512], "period 3": [512, 256, 768], "random": random_rows, "small": [42]}[layout]
    images = [PixelRamp((rows[number % len(rows)], 512), first=number) for number in range(count)]
    cards = {"NEXTEND": count, "INSTRUME": "MOSAIC"} if nextend else {"INSTRUME": "MOSAIC"}
    return _file(cards, images, header_blocks)


def night(count: int = 1000) -> dict[str, SparseFile]:
    """Return the files of one night by name, all of the same layout: see `night_file`."""
    return {f"exposure-{number:07d}.fits": night_file(number) for number in range(count)}


def night_file(number: int, *, swapped: bool = False) -> SparseFile:
    """Return an exposure of a night: a primary header, an image of 1.5 MB and one of 0.5 MB.

    The headers of two exposures have the same length, and differ in the number of the exposure and in what follows from it.

    Parameters
    ----------
    number : int
        The number of the exposure.
    swapped : bool
        Whether the small image comes first: a file as large as the others, whose HDUs start elsewhere.
    """
    images = [PixelRamp((768, 488), first=number), PixelRamp((256, 488), first=-number)]
    return _file({"NEXTEND": 2}, images[::-1] if swapped else images, 2, exposure=number)


def decam_fz(count: int = 6, *, shape: tuple[int, int] = (48, 64), seed: int = 1) -> bytes:
    """Return a file of `count` compressed images, each with another noise: no PCOUNT is like the one before it."""
    from astropy.io import fits

    images = [
        fits.CompImageHDU(
            noise(shape, "f4", seed=seed + number) * 3**number,
            name=f"N{number + 1}",
            compression_type="RICE_1",
            tile_shape=(1, shape[1]),
            quantize_method=1,
            dither_seed=seed + number,
        )
        for number in range(count)
    ]
    primary = fits.PrimaryHDU()
    primary.header["NEXTEND"] = count
    return to_bytes(primary, *images)


def _file(
    primary: dict[str, Any], images: Sequence[PixelRamp], header_blocks: int, exposure: int = 0
) -> SparseFile:
    """Put headers and images one after another."""
    parts: dict[int, bytes | Part] = {}
    at = 0
    for number, image in enumerate([None, *images]):
        cards = tuple(primary.items()) if image is None else ()
        template = _header(image.shape if image else (), number, header_blocks, cards)
        # Making cards is slow and a night has thousands of headers: only the number of the exposure differs.
        parts[at] = template.replace(_exposure(0), _exposure(exposure))
        at += len(template)
        if image is not None:
            parts[at] = image
            at += -(-image.size // BLOCK) * BLOCK
    return SparseFile(at, parts)


def _exposure(number: int) -> bytes:
    return f"'EXP{number:07d}'".encode()


@cache
def _header(shape: tuple[int, ...], number: int, blocks: int, more: tuple[tuple[str, Any], ...]) -> bytes:
    """Return a header of so many blocks."""
    from astropy.io import fits

    if not number:
        header = fits.PrimaryHDU().header
    else:
        header = fits.Header([("XTENSION", "IMAGE"), ("BITPIX", -32), ("NAXIS", len(shape))])
        header.update({f"NAXIS{axis}": length for axis, length in enumerate(reversed(shape), 1)})
        header.update({"PCOUNT": 0, "GCOUNT": 1, "INHERIT": True, "EXTNAME": f"CCD{number}", "EXTVER": 1})
        header.update(
            {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150 + number / 10, "CRVAL2": 2.2}
        )
        header.update({"CRPIX1": shape[1] / 2, "CRPIX2": shape[0] / 2, "CDELT1": -7.3e-5, "CDELT2": 7.3e-5})
    header.update(dict(more))
    header["EXPOSURE"] = _exposure(0).decode().strip("'")
    wanted = blocks * BLOCK // CARD - 10
    header.update({f"AMP{key:05d}": (key + number) / 7 for key in range(wanted - len(header))})
    return encoded(header)
