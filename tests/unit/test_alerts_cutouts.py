"""Cutouts of all sizes and kinds, whole and damaged."""

from __future__ import annotations

import gzip
import io
import random

import numpy as np
import pytest
from astropy.io import fits

import builders
from nuncius import Alert
from nuncius.alerts import Cutout, Cutouts
from nuncius.errors import PacketError


@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
@pytest.mark.parametrize("dtype", [">f4", ">f8"])
@pytest.mark.parametrize("size", [30, 61, 63, 81])
@pytest.mark.parametrize("holes", [0, 5])
def test_image(size, dtype, packed, holes):
    image = builders.pixels(size, dtype, holes=holes)
    cutout = Cutout("science", builders.fits_file(image, packed=packed))
    data = cutout.data
    assert data.shape == (size, size)
    assert data.dtype == np.dtype(dtype).newbyteorder("=")
    assert data.flags.c_contiguous
    assert data.flags.writeable
    np.testing.assert_array_equal(data, image)
    assert np.isnan(data).sum() == holes
    assert cutout.fits.startswith(b"SIMPLE  =")
    assert cutout.header["NAXIS1"] == size


def test_ztf_cutouts_have_names():
    stamp = builders.fits_file(builders.pixels(63))
    alert = Alert.from_bytes(
        builders.ztf(cutoutScience={"fileName": "candid_sci.fits.gz", "stampData": stamp})
    )
    assert alert.cutouts.science.file_name == "candid_sci.fits.gz"
    assert alert.cutouts.science.bytes == stamp
    assert alert.cutouts.template is None
    assert alert.cutouts.difference is None
    assert [cutout.kind for cutout in alert.cutouts] == ["science"]
    assert len(alert.cutouts) == 1


def test_winter_names_and_types():
    stamps = {
        "cutout_science": builders.fits_file(builders.pixels(81)),
        "cutout_template": builders.fits_file(builders.pixels(81, holes=3)),
        "cutout_difference": builders.fits_file(builders.pixels(81, ">f8")),
    }
    cutouts = Alert.from_bytes(builders.winter(**stamps)).cutouts
    assert [cutout.kind for cutout in cutouts] == ["science", "template", "difference"]
    assert [cutout.data.dtype.itemsize for cutout in cutouts] == [4, 4, 8]
    assert np.isnan(cutouts.template.data).sum() == 3


def test_lsst_cutouts_are_plain_and_have_more_hdus():
    stamp = builders.fits_file(
        builders.pixels(30), packed=False, more=[builders.pixels(30), builders.pixels(41, ">f8")]
    )
    schema = {900: builders.lsst_schema("9.0")}
    cutouts = Alert.from_bytes(
        builders.lsst(cutoutDifference=stamp, cutoutScience=None), schema=schema
    ).cutouts
    assert cutouts.difference.fits == stamp
    assert cutouts.difference.data.shape == (30, 30)
    assert cutouts.science is None
    assert cutouts.template is None


def test_empty_bytes_are_no_cutout():
    assert len(Alert.from_bytes(builders.pgir()).cutouts) == 0
    assert repr(Cutouts()) == "<Cutouts: none>"


def test_pixels_are_not_in_the_repr():
    cutout = Cutout("science", b"\x00" * 5000, "name.fits")
    assert repr(cutout) == "Cutout(kind='science', file_name='name.fits')"
    assert repr(Cutouts(science=cutout)) == "<Cutouts: science 5000 B>"


@pytest.mark.parametrize("what", ["data", "header"])
@pytest.mark.parametrize("junk", [b"x", b"not an image" * 500, b"\x1f\x8b broken", b"SIMPLE  ="], ids=repr)
def test_what_is_no_image(junk, what):
    with pytest.raises(PacketError):
        getattr(Cutout("science", junk), what)


def test_a_cutout_that_is_cut_off():
    whole = builders.fits_file(builders.pixels(63), packed=False)
    pixel_bytes = 63 * 63 * 4
    for size in range(0, 2880 + pixel_bytes, 97):
        with pytest.raises(PacketError):
            _ = Cutout("science", whole[:size]).data
    packed = gzip.compress(whole)
    for size in range(0, len(packed), 97):
        with pytest.raises(PacketError):
            _ = Cutout("science", packed[:size]).data


def test_a_header_that_promises_too_much():
    whole = builders.fits_file(builders.pixels(30), packed=False)
    huge = whole.replace(b"NAXIS1  =                   30", b"NAXIS1  =           3000000000")
    assert huge != whole
    with pytest.raises(PacketError):
        _ = Cutout("science", huge).data


def test_damaged_headers_give_an_image_or_packet_error():
    whole = builders.fits_file(builders.pixels(8), packed=False)
    chance = random.Random(20260711)
    refused = 0
    for _ in range(250):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[chance.randrange(420)] = chance.randrange(256)
        try:
            assert Cutout("science", bytes(damaged)).data.ndim == 2
        except PacketError:
            refused += 1
    assert 0 < refused < 250


def test_a_table_is_no_image():
    out = io.BytesIO()
    fits.HDUList(
        [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])]
    ).writeto(out)
    with pytest.raises(PacketError, match="science"):
        _ = Cutout("science", out.getvalue()).data
