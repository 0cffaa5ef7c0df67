"""What the cutouts show: science, template and difference images around a candidate, as gzipped FITS files."""

from __future__ import annotations

import gzip
import math
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from nuncius.sandbox.sky.objects import COLOURS
from nuncius.sandbox.sky.telescope import ARCSEC_PER_PIXEL, GAIN, PIXELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from nuncius.sandbox.sky.objects import Host, Star
    from nuncius.sandbox.sky.telescope import Exposure, Place
    from nuncius.sandbox.sky.visits import Visit

    Image: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

_SIZE = 63  # pixels along a cutout's side
_BLOCK = 2880  # FITS files consist of blocks of this many bytes
_CARD = 80
_GZIP_LEVEL = 6


def draw_cutouts(
    rng: np.random.Generator, template_rng: np.random.Generator, visit: Visit, stars: Sequence[Star]
) -> dict[str, dict[str, Any]]:
    """Return the fields of a packet that hold the images."""
    names = ("targ_sci", "ref", "targ_scimref" if visit.flux > 0 else "targ_refmsci")
    images = _draw_images(rng, template_rng, visit, stars)
    return {
        f"cutout{kind}": {
            "fileName": f"candid{visit.candid}_pid{visit.pid}_{name}.fits.gz",
            "stampData": fits_gz(image),
        }
        for kind, name, image in zip(("Science", "Template", "Difference"), names, images, strict=True)
    }


def _draw_images(
    rng: np.random.Generator, template_rng: np.random.Generator, visit: Visit, stars: Sequence[Star]
) -> tuple[Image, Image, Image]:
    """Draw science, template and difference; the template is matched to the seeing of the exposure."""
    import numpy as np

    exposure, place, host = visit.exposure, visit.place, visit.source.host
    x, y = place.x - round(place.x), place.y - round(place.y)
    static = [(x + star.dx, y + star.dy, exposure.dn(star.mag)) for star in stars]
    if visit.reference_mag is not None:
        static.append((x, y, exposure.dn(visit.reference_mag)))
    scene = _point_sources(exposure, static)
    if host is not None:
        dx, dy = host.dx_arcsec / ARCSEC_PER_PIXEL, host.dy_arcsec / ARCSEC_PER_PIXEL
        scene += _galaxy(exposure, host, x + dx, y + dy)
    flux = abs(visit.flux)
    # A star that is not quite where the reference has it leaves a bright and a dark side.
    changed = [(x + 0.9, y, 2 * flux), (x - 0.9, y, -2 * flux)] if visit.is_artefact else [(x, y, flux)]
    source = _point_sources(exposure, changed)
    photons = np.sqrt(np.float32(exposure.pixel_noise**2) + (scene + abs(source)) / np.float32(GAIN))
    difference = source + photons * rng.standard_normal((_SIZE, _SIZE), dtype=np.float32)
    noise = template_rng.standard_normal((_SIZE, _SIZE), dtype=np.float32)
    template = scene + np.float32(exposure.sky_dn) + np.float32(1.3) * noise
    # For a source that became fainter the survey shows reference minus science.
    science = template + difference if visit.flux > 0 else template - difference
    for image in (science, template, difference):
        _cut_at_edges(image, place)
    return science, template, difference


def _cut_at_edges(image: Image, place: Place) -> None:
    """Set the pixels outside of the camera's quadrant to NaN."""
    middle = _SIZE // 2
    column, row = round(place.x), round(place.y)
    image[:, : max(0, middle - column)] = math.nan
    image[: max(0, middle - row)] = math.nan
    image[:, max(0, PIXELS[0] - column + middle) :] = math.nan
    image[max(0, PIXELS[1] - row + middle) :] = math.nan


def _point_sources(exposure: Exposure, sources: Sequence[tuple[float, float, float]]) -> Image:
    """Draw point sources (x and y from the middle in pixels, flux in DN)."""
    import numpy as np

    x, y, flux = np.array(sources, dtype=np.float32).reshape(-1, 3).T
    pixels = np.arange(_SIZE, dtype=np.float32) - _SIZE // 2
    scale = exposure.moffat_scale_px
    dx2, dy2 = ((pixels - offsets[:, None]) ** 2 / np.float32(scale**2) for offsets in (x, y))
    profile = 1 / (1 + dx2[:, None, :] + dy2[:, :, None])
    brightness = np.float32(2 / (math.pi * scale**2)) * flux
    return np.tensordot(brightness, profile * profile * profile, 1)


def _galaxy(exposure: Exposure, host: Host, x: float, y: float) -> Image:
    """Draw the host, whose middle is at x, y from the middle of the cutout in pixels."""
    import numpy as np

    pixels = np.arange(_SIZE, dtype=np.float32) - _SIZE // 2
    dx, dy = pixels[None, :] - np.float32(x), pixels[:, None] - np.float32(y)
    cos, sin = math.cos(host.angle_rad), math.sin(host.angle_rad)
    # The seeing is added to the scale: close to a convolution and much cheaper.
    scale = math.hypot(host.scale_arcsec / ARCSEC_PER_PIXEL, 0.4 * exposure.seeing_px)
    along, across = dx * cos + dy * sin, (dy * cos - dx * sin) / host.axis_ratio
    total = exposure.dn(host.mag + COLOURS["supernova"][exposure.band])
    peak = total / (2 * math.pi * scale**2 * host.axis_ratio)
    return np.float32(peak) * np.exp(-np.sqrt(along**2 + across**2) / np.float32(scale))


def fits_gz(image: np.ndarray[Any, Any]) -> bytes:
    """Return a 2-D image in DN as a gzipped FITS file: 32-bit floats, the same bytes for the same image."""
    rows, columns = image.shape
    data = image.astype(">f4").tobytes()
    # Without the time in its header the file depends on nothing but the image.
    return gzip.compress(_fits_header(rows, columns) + _padded(data, b"\0"), _GZIP_LEVEL, mtime=0)


@cache
def _fits_header(rows: int, columns: int) -> bytes:
    values = {"SIMPLE": "T", "BITPIX": "-32", "NAXIS": "2", "NAXIS1": str(columns), "NAXIS2": str(rows)}
    cards = [f"{keyword:8}= {value:>20}" for keyword, value in values.items()]
    cards += ["BUNIT   = 'DN      '", "END"]
    return _padded("".join(card.ljust(_CARD) for card in cards).encode("ascii"), b" ")


def _padded(content: bytes, filler: bytes) -> bytes:
    return content + filler * (-len(content) % _BLOCK)
