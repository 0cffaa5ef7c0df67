"""Small FITS files: frames of a spectrograph, spectra and light curves of objects of the synthetic sky."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.sandbox.fits_files.writing import data_bytes, header_bytes, noise, padded

if TYPE_CHECKING:
    import numpy as np

    from nuncius.sandbox.sky import SkyObject

_BITPIX = {"i2": 16, "f4": -32}
_FORMS = {"f8": "D", "f4": "E", "S1": "1A"}
_LINES_NM = {"H-alpha": 656.28, "Si II": 615.0, "Ca II": 393.4}


def draw_frame(*, seed: int) -> bytes:
    """Return a raw frame: noise, and the trace of a source along the rows."""
    import numpy as np

    rows = np.arange(48)[:, None]
    trace = 400 * np.exp(-0.5 * ((rows - 24) / 2.0) ** 2)
    frame = noise((48, 96), "i2", seed=seed, high=100) + trace.astype("i2")
    return _image(frame.astype("i2"), {"EXPTIME": 600.0, "BUNIT": "adu"})


def draw_spectrum(source: SkyObject) -> bytes:
    """Return a spectrum from 380 to 920 nm: a slope with lines in absorption."""
    import numpy as np

    wavelength_nm = np.linspace(380, 920, 541)
    flux = (wavelength_nm / 500) ** -1.5
    for line_nm in _LINES_NM.values():
        flux *= 1 - 0.4 * np.exp(-0.5 * ((wavelength_nm - line_nm) / 6.0) ** 2)
    cards = {
        "CTYPE1": "WAVE",
        "CUNIT1": "nm",
        "CRPIX1": 1.0,
        "CRVAL1": 380.0,
        "CDELT1": 1.0,
        "BUNIT": "10**(-20) W m-2 nm-1",
        "OBJECT": source.object_id,
        "RA": source.ra,
        "DEC": source.dec,
    }
    return _image((flux * 10 ** (-0.4 * (source.mag - 18))).astype("f4"), cards)


def draw_light_curve(source: SkyObject) -> bytes:
    """Return a table of 60 nights in g, r and i: mjd, band and magnitude."""
    import numpy as np

    nights = source.epoch_mjd + np.arange(60) * 1.0
    rows = [(mjd, band, source.magnitude(float(mjd), band)) for mjd in nights for band in "gri"]
    table = np.array(rows, dtype=[("mjd", ">f8"), ("band", "S1"), ("mag", ">f4")])
    units = {"mjd": "d", "mag": "mag"}
    cards: dict[str, Any] = {
        "XTENSION": "BINTABLE",
        "BITPIX": 8,
        "NAXIS": 2,
        "NAXIS1": table.itemsize,
        "NAXIS2": len(table),
        "PCOUNT": 0,
        "GCOUNT": 1,
        "TFIELDS": len(units) + 1,
        "EXTNAME": "LIGHTCURVE",
        "OBJECT": source.object_id,
    }
    for number, name in enumerate(table.dtype.names or (), 1):
        cards |= {f"TTYPE{number}": name, f"TFORM{number}": _FORMS[table.dtype[name].str[1:]]}
        if name in units:
            cards[f"TUNIT{number}"] = units[name]
    primary = {"SIMPLE": True, "BITPIX": 8, "NAXIS": 0, "EXTEND": True}
    return header_bytes(_cards(primary)) + header_bytes(_cards(cards)) + padded(table.tobytes())


def _image(array: np.ndarray[Any, Any], more: dict[str, Any]) -> bytes:
    axes = {f"NAXIS{number}": length for number, length in enumerate(reversed(array.shape), 1)}
    header = {"SIMPLE": True, "BITPIX": _BITPIX[array.dtype.str[1:]], "NAXIS": array.ndim, **axes, **more}
    return header_bytes(_cards(header)) + data_bytes(array)


def _cards(values: dict[str, Any]) -> list[str]:
    return [f"{key:8s}= {_value(value)}" for key, value in values.items()]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return f"{'T' if value else 'F':>20s}"
    return f"'{value:8s}'" if isinstance(value, str) else f"{value!r:>20s}"
