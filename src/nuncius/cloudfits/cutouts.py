"""Cutouts of images by position: the pixels of a box, with their WCS."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Call
from nuncius.cloudfits import images
from nuncius.cloudfits.keywords import unreadable
from nuncius.errors import ConfigurationError, FitsError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from astropy.nddata import Cutout2D
    from astropy.wcs import WCS

    from nuncius._core.operations import Operation
    from nuncius.cloudfits.hdu import HduDescription
    from nuncius.cloudfits.ranges import Reader


def read_cutout(
    reader: Reader,
    hdu: HduDescription,
    position: Any,
    size: Any,
    *,
    wcs: WCS | None = None,
    mode: str = "trim",
    fill_value: Any = None,
) -> Operation[Cutout2D]:
    """Read a cutout; see `RemoteHdu.cutout`."""
    cutout: Cutout2D = yield Call(_frame, (hdu, position, size, wcs, mode, fill_value))
    values = yield from images.read_section(reader, hdu, (..., *cutout.slices_original))
    return _filled(cutout, values)


def _frame(
    hdu: HduDescription, position: Any, size: Any, wcs: WCS | None, mode: str, fill_value: Any
) -> Cutout2D:
    """Return the cutout of an image without pixels: astropy finds the box and shifts the WCS."""
    import numpy as np
    from astropy.nddata import Cutout2D
    from astropy.nddata.utils import NoOverlapError, PartialOverlapError
    from astropy.wcs import NoConvergence

    if hdu.kind not in {"image", "compressed image"} or len(hdu.shape) < 2:
        raise UnsupportedError(
            f"HDU {hdu.index} of {hdu.url} has no image of two axes to cut from: it is {hdu.kind} of shape {hdu.shape}",
            url=hdu.url,
        )
    on_sky = hasattr(position, "to_string")
    if not on_sky and np.shape(position) != (2,):
        raise ConfigurationError(
            "a position is a SkyCoord, or (x, y) in pixels counted from 0 (never in degrees)"
        )
    if isinstance(size, str):
        raise ConfigurationError(
            f"size={size!r}: it is a number of pixels, or a Quantity such as 5 * u.arcsec"
        )
    if on_sky and np.shape(position):
        raise ConfigurationError(
            "a cutout has one position, and this SkyCoord holds several: make one cutout of each"
        )
    wcs = _wcs_of(hdu) if wcs is None else wcs
    if wcs is None and (on_sky or hasattr(size, "unit")):
        raise UnsupportedError(
            f"HDU {hdu.index} of {hdu.url} has no WCS of the sky: give position and size in pixels, or wcs=",
            url=hdu.url,
        )
    images.check_shape(hdu, hdu.shape)
    # One number that stands for all pixels of the image: it takes no memory, however large the image is.
    dtype = np.dtype(float) if hdu.dtype is None else hdu.dtype
    stand_in = np.broadcast_to(np.zeros((), dtype=dtype), hdu.shape[-2:])
    try:
        cutout = Cutout2D(
            stand_in,
            position,
            size,
            wcs=wcs,
            mode=mode,
            fill_value=np.nan if fill_value is None else fill_value,
        )
    except MemoryError as error:
        raise UnsupportedError(
            f"a cutout of {size} has more pixels than there is memory", url=hdu.url
        ) from error
    except (AttributeError, TypeError, ValueError, NoConvergence) as error:
        off = isinstance(error, (NoConvergence, NoOverlapError, PartialOverlapError))
        if not off and "invalid values" not in str(error):  # NaN: the other side of the sky
            raise ConfigurationError(
                f"a cutout around {_text(position)} of {size} with mode={mode!r} and fill_value={fill_value!r} can't be: "
                f"{error}",
                url=hdu.url,
            ) from error
        raise NotFoundError(
            f"the cutout around {_text(position)} is not on HDU {hdu.index} of {hdu.url}, an image of "
            f"{hdu.shape[-1]} x {hdu.shape[-2]} pixels" + ("" if mode == "trim" else f" (mode={mode!r})"),
            url=hdu.url,
        ) from error
    if 0 in cutout.shape:
        raise ConfigurationError(f"size={size}: a cutout has a size above 0", url=hdu.url)
    return cutout


def _filled(cutout: Cutout2D, values: Any) -> Cutout2D:
    """Put the pixels into a cutout; further axes of the image come first, those of length 1 are dropped."""
    import numpy as np

    further = tuple(length for length in values.shape[:-2] if length != 1)
    values = values.reshape(further + values.shape[-2:])
    if cutout.data.shape != values.shape[-2:]:  # mode="partial": what lies outside is filled
        data = np.array(np.broadcast_to(cutout.data, further + cutout.data.shape))
        data[(..., *cutout.slices_cutout)] = values
        values = data
    cutout.data = values
    cutout.shape = values.shape
    return cutout


def _wcs_of(hdu: HduDescription) -> WCS | None:
    """Return the celestial WCS of an image; None if it has none."""
    from astropy.wcs import WCS, FITSFixedWarning, WcsError

    header = hdu.header
    tables = [key for key in ("CPDIS1", "CPDIS2", "D2IMDIS1", "D2IMDIS2") if key in header]
    tables += [
        f"CTYPE{axis}" for axis in (1, 2) if str(header.get(f"CTYPE{axis}", "")).strip().endswith("-TAB")
    ]
    if tables:
        raise UnsupportedError(
            f"the WCS of HDU {hdu.index} of {hdu.url} has tables of its own ({', '.join(tables)}), which stand in other "
            "HDUs and which a cutout can't carry. Give wcs=WCS(hdu.header, fits.hdulist()) to use them for finding the "
            "box",
            url=hdu.url,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # old dates and units, brought into today's form
        try:
            wcs = WCS(header)
            celestial = wcs.celestial if wcs.has_celestial else None
        except (*unreadable(), WcsError) as error:
            raise FitsError(
                f"HDU {hdu.index} of {hdu.url} has a WCS that can't be used ({type(error).__name__}: "
                f"{' '.join(str(error).split())}); give another one with wcs=, or take .section[...] by pixels",
                url=hdu.url,
                position=f"HDU {hdu.index}",
            ) from error
    return celestial


def _text(position: Any) -> str:
    to_string = getattr(position, "to_string", None)
    return to_string() if callable(to_string) else f"pixel {tuple(position)}"
