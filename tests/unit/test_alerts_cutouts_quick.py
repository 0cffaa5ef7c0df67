"""Cutouts read without astropy are what astropy reads, bit for bit; what is unusual is left to it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from astropy.io import fits

from nuncius.alerts import cutouts as module
from nuncius.alerts.cutouts import Cutout


def file_of(data, **cards):
    hdu = fits.PrimaryHDU(data)
    for name, value in cards.items():
        hdu.header[name] = value
    out = io.BytesIO()
    hdu.writeto(out)
    return out.getvalue()


def by_astropy(raw):
    with fits.open(io.BytesIO(raw)) as hdus:
        return hdus[0].data


IMAGES = {
    "f4": np.linspace(-1, 1, 63 * 63, dtype="f4").reshape(63, 63),
    "f8": np.linspace(-1, 1, 30 * 31).reshape(30, 31),
    "u1": np.arange(61 * 60, dtype="u1").reshape(61, 60),
    "i2": np.arange(-30, 30, dtype="i2").reshape(6, 10),
    "i4": np.arange(12, dtype="i4").reshape(3, 4),
    "i8": np.arange(12, dtype="i8").reshape(4, 3),
    "one": np.array([[7.5]], dtype="f4"),
    "holes": np.where(np.arange(81 * 81).reshape(81, 81) % 7, 1.5, np.nan).astype("f4"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_plain_images_are_read_as_astropy_reads_them(name):
    raw = file_of(IMAGES[name], BUNIT="DN", OBJECT="it's / odd")
    ours, theirs = module._plain_image(raw), by_astropy(raw)
    assert ours.dtype == theirs.dtype.newbyteorder("=")
    assert ours.shape == theirs.shape
    assert ours.tobytes() == theirs.astype(ours.dtype).tobytes()
    assert ours.flags.writeable
    assert np.array_equal(Cutout("science", raw).data, ours, equal_nan=name == "holes" or name[0] == "f")


PLAIN = file_of(IMAGES["i4"])
UNUSUAL = {
    "scaled": file_of(np.arange(12, dtype="u2").reshape(3, 4)),
    "blank": file_of(IMAGES["i4"], BLANK=3),
    "cube": file_of(np.zeros((2, 3, 4), "f4")),
    "line": file_of(np.zeros(5, "f4")),
    "nothing": file_of(None),
    "cut": PLAIN[: 2880 + 40],
    "no end": PLAIN[:2880].replace(b"END", b"ENX") + PLAIN[2880:],
    "no FITS": b"SIMPLE  =                    F".ljust(80) + PLAIN[80:],
    "negative": PLAIN.replace(b"NAXIS1  =                    4", b"NAXIS1  =                   -4"),
    "a word": PLAIN.replace(b"BITPIX  =                   32", b"BITPIX  =                'abc'"),
    "twice": PLAIN[: 80 * 4] + PLAIN[80:160] + PLAIN[80 * 4 : 2800] + PLAIN[2880:],
    "empty": b"",
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_is_left_to_astropy(name):
    assert module._plain_image(UNUSUAL[name]) is None


def test_a_length_that_overflows_is_no_image():
    huge = PLAIN.replace(b"NAXIS1  =                    4", b"NAXIS1  = 99999999999999999999")
    assert module._plain_image(huge) is None
