"""Images of every type, scaled and not, of any number of axes, and random groups."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from nuncius.sandbox.fits_files.writing import (
    BLOCK,
    after_primary,
    data_bytes,
    header_bytes,
    image_hdu,
    noise,
    padded,
    to_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["image_kinds", "random_groups", "sky_image", "stored_image", "tan_wcs"]

_TYPES = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}


def tan_wcs(
    shape: tuple[int, int], *, ra: float = 150.1, dec: float = 2.2, arcsec_per_pixel: float = 0.263
) -> dict[str, Any]:
    """Return the cards of a tangential projection, rotated by 10 degrees, whose centre is the centre of the image."""
    import math

    scale, angle = arcsec_per_pixel / 3600, math.radians(10)
    return {
        "WCSAXES": 2,
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRVAL1": ra,
        "CRVAL2": dec,
        "CRPIX1": (shape[1] + 1) / 2,
        "CRPIX2": (shape[0] + 1) / 2,
        "CD1_1": -scale * math.cos(angle),
        "CD1_2": scale * math.sin(angle),
        "CD2_1": scale * math.sin(angle),
        "CD2_2": scale * math.cos(angle),
        "RADESYS": "ICRS",
    }


def sky_image(shape: tuple[int, int] = (4096, 4096), *, dtype: str = "i2", seed: int = 1) -> bytes:
    """Return a file with one image of noise and a WCS in its primary HDU; 33.6 MB unless a shape is given."""
    return image_hdu(noise(shape, dtype, seed=seed), tan_wcs(shape), primary=True)


def stored_image(
    bitpix: int, *, shape: tuple[int, ...] = (23, 31), extension: bool = False, seed: int = 1, **cards: Any
) -> bytes:
    """Return a file with one image whose numbers fill the whole range of their type, and cards as given.

    The first pixels hold the extremes: the lowest and the highest number of an integer type, NaN, infinities and a
    negative zero of a float. With `BLANK` among the cards every seventh pixel has that number.

    Parameters
    ----------
    bitpix : {8, 16, 32, 64, -32, -64}
        The type as FITS has it.
    shape : tuple of int
        The axes, the slowest first.
    extension : bool
        Whether the image follows an empty primary HDU.
    seed : int
        Other numbers for another seed.
    **cards
        Cards of the header, such as `BSCALE=0.5`; the numbers stay as they are.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    kind = np.dtype(_TYPES[bitpix])
    if kind.kind == "f":
        array = rng.normal(0, 1e3, shape).astype(kind)
        special = np.array([np.nan, np.inf, -np.inf, -0.0], dtype=kind)
    else:
        limits = np.iinfo(kind)
        array = rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
        special = np.array([limits.min, limits.max, 0], dtype=kind)
    flat = array.reshape(-1)
    flat[: special.size] = special[: flat.size]
    if "BLANK" in cards:
        flat[::7] = cards["BLANK"]
    image = image_hdu(array, cards, primary=not extension)
    return after_primary(image) if extension else image


def random_groups(groups: int = 7, *, table: bool = True) -> bytes:
    """Return visibilities as radio interferometers keep them: random groups, and a table of antennas after them."""
    import numpy as np
    from astropy.io import fits

    rng = np.random.default_rng(5)
    data = np.zeros(groups, dtype=[("parameters", ">f4", 4), ("data", ">f4", (1, 4, 2, 3))])
    data["parameters"], data["data"] = rng.normal(size=(groups, 4)), rng.normal(size=(groups, 1, 4, 2, 3))
    axes = (0, 3, 2, 4, 1)
    values = {
        "BITPIX": -32,
        "NAXIS": len(axes),
        **{f"NAXIS{axis}": length for axis, length in enumerate(axes, 1)},
    }
    cards = ["SIMPLE  =                    T", *_whole_numbers(values), "GROUPS  =                    T"]
    cards += _whole_numbers({"PCOUNT": 4, "GCOUNT": groups})
    for number, name in enumerate(("UU", "VV", "DATE", "DATE"), 1):
        cards += [
            f"PTYPE{number}  = '{name:8s}'",
            f"PSCAL{number}  = {0.5:20f}",
            f"PZERO{number}  = {2450000.5:20f}",
        ]
    image = header_bytes(cards) + padded(data.tobytes())
    if not table:
        return image
    antennas = fits.BinTableHDU.from_columns(
        [fits.Column("ANNAME", "8A", array=["VLA1", "VLA2"])], name="AIPS AN"
    )
    return image + to_bytes(antennas)[BLOCK:]


def _whole_numbers(values: dict[str, int]) -> list[str]:
    return [f"{key:8s}= {value:20d}" for key, value in values.items()]


def foreign_extension() -> bytes:
    """Return a file with an extension of a type that nobody knows between two images, its size from PCOUNT and GCOUNT."""
    foreign = header_bytes(
        [
            "XTENSION= 'FOREIGN '",
            *_whole_numbers(
                {"BITPIX": 16, "NAXIS": 2, "NAXIS1": 10, "NAXIS2": 20, "PCOUNT": 300, "GCOUNT": 3}
            ),
            "EXTNAME = 'STRANGE '",
        ]
    )
    data = data_bytes(noise((3 * (300 + 200),), "i2"))
    return stored_image(16) + foreign + data + image_hdu(noise((5, 6), "f4"), {"EXTNAME": "LAST"})


def image_kinds() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield a name and a factory of a small file for each kind of image."""
    for bitpix in _TYPES:
        yield f"image {bitpix}", partial(stored_image, bitpix)
        yield f"image {bitpix} in an extension", partial(stored_image, bitpix, extension=True)
        yield f"image {bitpix} scaled", partial(stored_image, bitpix, BSCALE=0.25, BZERO=-7.5)
        yield f"image {bitpix} scaled by 1", partial(stored_image, bitpix, BSCALE=1.0, BZERO=0.0)
        if bitpix > 0:
            blank = 255 if bitpix == 8 else -99
            yield f"image {bitpix} with BLANK", partial(stored_image, bitpix, BLANK=blank)
            yield (
                f"image {bitpix} scaled with BLANK",
                partial(stored_image, bitpix, BLANK=blank, BSCALE=0.5, BZERO=3),
            )
            unsigned = -128 if bitpix == 8 else 1 << (bitpix - 1)
            yield f"image {bitpix} of the other sign", partial(stored_image, bitpix, BSCALE=1, BZERO=unsigned)
        if bitpix > 8:  # astropy can't read signed bytes with BLANK
            signed = partial(stored_image, bitpix, BSCALE=1, BZERO=unsigned, BLANK=blank, extension=True)
            yield f"image {bitpix} of the other sign with BLANK", signed
    shape: tuple[int, ...]
    for shape in ((11,), (2, 3, 4), (2, 1, 3, 4), (2, 2, 2, 2, 3), (1, 2, 1, 2, 1, 2, 3)):
        yield f"image of {len(shape)} axes", partial(stored_image, -32, shape=shape)
    for shape in ((0,), (0, 5), (5, 0), (3, 0, 4)):
        yield f"image of shape {shape}", partial(stored_image, 16, shape=shape, extension=True)
    yield "image of 2880 bytes", partial(stored_image, 8, shape=(36, 80))
    yield "image with a WCS", partial(sky_image, (60, 50), dtype="f4")
    yield "no data", partial(after_primary, b"")
    yield "random groups", random_groups
    yield "random groups alone", partial(random_groups, table=False)
    yield "foreign extension", foreign_extension
