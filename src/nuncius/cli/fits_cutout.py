"""``nuncius fits cutout``: a piece of a remote image as a FITS file of its own, or as a picture."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import click

from nuncius.cli.fits_address import (
    HDU,
    OVERWRITE,
    URL,
    WHOLE_FILE,
    access_options,
    address_of,
    cost_of,
    hdu_of,
    name_of,
    open_address,
)
from nuncius.cli.fits_files import check_free, origin_cards, output_option, written_whole
from nuncius.errors import NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

    from astropy.io.fits import Header
    from astropy.nddata import Cutout2D

    from nuncius.cli.fits_address import Access, Address
    from nuncius.cloudfits import HduDescription, RemoteFits, RemoteHdu

_FITS = (".fits", ".fit", ".fts")
_IMAGES = frozenset({"image", "compressed image"})
# What describes the file or the values as they were stored, and would be wrong of the cutout.
_STORED = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS[0-9]*|EXTEND|NEXTEND|PCOUNT|GCOUNT|GROUPS|INHERIT|BSCALE|BZERO|BLANK|CHECKSUM|DATASUM"
    r"|DATAMIN|DATAMAX|END"
)
_SECTION = re.compile(r"\s*\[\d+:\d+,\d+:\d+\]\s*")
# Where the pixels of an image are, in its own coordinates and in those of the image or plate that it was cut from.
_AXIS = re.compile(r"CTYPE([12][A-Z]?)")
_REFERENCE = re.compile(r"(CRPIX|LTV|CNPIX)([12])[A-Z]?")


@click.command()
@URL
@click.option("--ra", metavar="DEG", help="Of the middle: ICRS degrees, or as in 05h00m48.2s.")
@click.option("--dec", metavar="DEG", help="Of the middle: ICRS degrees, or as in -10d13m35s.")
@click.option("--size", metavar="ARCSEC", help="Length of its sides: 30, or with a unit, 2arcmin.")
@click.option(
    "--pixel",
    nargs=2,
    type=float,
    metavar="X Y",
    help="The middle in pixels, counted from 0 (in DS9 from 1).",
)
@click.option("--size-pixels", type=click.IntRange(min=1), metavar="N", help="Length of its sides in pixels.")
@output_option(*_FITS, ".png", required=True)
@OVERWRITE
@HDU
@WHOLE_FILE
@access_options
def cutout(
    url: str,
    ra: str | None,
    dec: str | None,
    size: str | None,
    pixel: tuple[float, float] | None,
    size_pixels: int | None,
    out: Path,
    overwrite: bool,
    hdu: str | None,
    whole_file: bool,
    access: Access,
) -> None:
    """Cut a piece out of an image, around a position.

    Without an HDU it is the first image of two axes. A FITS file keeps the header with the WCS shifted; a picture shows
    the image as it lies, with lines of right ascension and declination.

    \b
    Examples:
      nuncius fits cutout s3://BUCKET/image.fits --ra 150.1 --dec 2.2 --size 30 -o here.fits
      nuncius fits cutout 'image.fits[SCI,2]' --pixel 1024 512 --size-pixels 100 -o here.png
    """
    middle, side = _position(ra, dec, pixel), _side(size, size_pixels)
    check_free(out, overwrite=overwrite)
    opened, image = _find_image(address_of(url, hdu), access, whole_file=whole_file)
    found = image.cutout(middle, side)
    fits = opened[-1]
    with written_whole(out) as part:
        if out.suffix.lower() == ".png":
            _write_picture(part, found, image)
        else:
            _write_fits(part, found, image, fits)
    height, width = found.data.shape[-2:]
    asked = " x ".join(str(length) for length in reversed(found.shape_input))
    trimmed = (
        "" if (height, width) == tuple(found.shape_input) else f" (of {asked}: cut off at the image's edge)"
    )
    click.echo(f"wrote {out}: {width} x {height} pixels{trimmed} of {name_of(image)}", err=True)
    click.echo(cost_of(*opened), err=True)


def _position(ra: str | None, dec: str | None, pixel: tuple[float, float] | None) -> Any:
    if (ra is None) != (dec is None) or (ra is None) == (pixel is None):
        raise click.UsageError("where? give --ra and --dec, or --pixel X Y")
    if pixel is not None:
        if not all(map(math.isfinite, pixel)):
            raise click.BadParameter("these are two numbers", param_hint="--pixel")
        return pixel
    from astropy.coordinates import SkyCoord

    numbers = all(re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)\s*", str(text)) for text in (ra, dec))
    try:
        return SkyCoord(ra, dec, unit="deg" if numbers else ("hourangle", "deg"))
    except (ValueError, TypeError) as error:
        raise click.BadParameter(
            f"{ra!r} {dec!r} is no position: {error}", param_hint="--ra --dec"
        ) from error


def _side(size: str | None, size_pixels: int | None) -> Any:
    if (size is None) == (size_pixels is None):
        raise click.UsageError("how large? give --size ARCSEC or --size-pixels N")
    if size_pixels is not None:
        return size_pixels
    import astropy.units as u

    from nuncius.errors import ConfigurationError
    from nuncius.sky.positions import to_arcsec

    try:
        arcsec = to_arcsec(f"{size}arcsec" if re.fullmatch(r"\s*[\d.eE+-]+\s*", str(size)) else size)
    except ConfigurationError as error:
        raise click.BadParameter(
            f"{size!r} is no angle; write 30, or with a unit 2arcmin", param_hint="--size"
        ) from error
    if not arcsec:
        raise click.BadParameter("a cutout has a size above 0", param_hint="--size")
    return arcsec * u.arcsec


def _find_image(address: Address, access: Access, *, whole_file: bool) -> tuple[list[RemoteFits], RemoteHdu]:
    """Open the file, and choose the image; gives each time that it was opened, for what that cost."""
    from nuncius.cloudfits import open_fits

    if address.hdu is not None:
        fits = open_address(address, access, whole_file=whole_file)
        return [fits], hdu_of(fits, address.hdu)
    opened: list[RemoteFits] = []
    # Mostly it is the first or the second HDU, and the headers of all others needn't be read.
    for most in (None,) if whole_file else (2, None):
        opened.append(open_fits(address.url, hdus=most, whole_file=whole_file, **access))
        for hdu in opened[-1]:
            if _is_flat(hdu):
                return opened, hdu
        if opened[-1].description.complete:
            break
    raise NotFoundError(
        f"{opened[-1].url} has no image of two axes; choose an HDU with --hdu (nuncius fits ls shows them)",
        url=opened[-1].url,
    )


def _is_flat(hdu: HduDescription) -> bool:
    further = hdu.shape[:-2]
    return hdu.kind in _IMAGES and len(hdu.shape) >= 2 and all(length == 1 for length in further)


def _write_picture(part: Path, cutout: Cutout2D, image: RemoteHdu) -> None:
    if cutout.data.ndim != 2:
        raise UnsupportedError(
            f"{name_of(image)} of {image.url} has {len(image.shape)} axes, and a picture has two; write a FITS file",
            url=image.url,
        )
    from nuncius.plots.fits_cutouts import plot_fits_cutout

    figure = plot_fits_cutout(cutout, title=image.name or None).figure
    figure.savefig(part, format="png", dpi=150)


def _write_fits(part: Path, cutout: Cutout2D, image: RemoteHdu, fits: RemoteFits) -> None:
    from astropy.io.fits import PrimaryHDU

    # Axes of length 1 stay, so that the header fits the data.
    data = cutout.data.reshape(image.shape[:-2] + cutout.data.shape[-2:])
    PrimaryHDU(data, _header_of(cutout, image, fits)).writeto(part, output_verify="silentfix+warn")


def _header_of(cutout: Cutout2D, image: RemoteHdu, fits: RemoteFits) -> Header:
    """Return the header of the image, as it is true of the cutout."""
    from importlib.metadata import version

    rows, columns = cutout.slices_original
    header = image.header.copy(strip=True)
    if image.index and _value(image.header, "INHERIT") is True:
        header.extend(fits[0].header.copy(strip=True), unique=True)
    for axis in [found[1] for keyword in header if (found := _AXIS.fullmatch(keyword))]:
        header.setdefault(f"CRPIX{axis}", 0.0)
    for keyword in dict.fromkeys(header):
        value = _value(header, keyword)
        if _STORED.fullmatch(keyword) or (isinstance(value, str) and _SECTION.fullmatch(value)):
            header.remove(keyword, remove_all=True)
        elif (found := _REFERENCE.fullmatch(keyword)) and isinstance(value, (int, float)):
            first = columns.start if found[2] == "1" else rows.start
            header[keyword] = value + first if found[1] == "CNPIX" else value - first
    for card in origin_cards(fits, image):
        header.set(*card)
    header.set("ORIG_X", columns.start + 1, "column of the first pixel there, from 1")
    header.set("ORIG_Y", rows.start + 1, "row of the first pixel there, from 1")
    header.add_history(f"cut out by nuncius {version('nuncius')}")
    return header


def _value(header: Header, keyword: str) -> Any:
    """Return a value; None of a card that can't be read."""
    from astropy.io.fits import VerifyError

    try:
        return header.get(keyword)
    except (ValueError, VerifyError):
        return None
