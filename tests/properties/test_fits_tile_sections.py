"""Any section of any compressed image is what astropy reads from the whole file."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from nuncius._core.operations import Call, Gather, Outcome, Piece, ReadRange
from nuncius.cloudfits import blocks
from nuncius.cloudfits.hdu import HduDescription
from nuncius.cloudfits.ranges import Reader
from nuncius.cloudfits.tiles import read_tiles
from nuncius.errors import NunciusError


def run(operation: Any, data: bytes) -> Any:
    answer = None
    while True:
        try:
            need = operation.send(answer)
        except StopIteration as stop:
            return stop.value
        match need:
            case ReadRange():
                answer = Piece(data[need.start : need.end], len(data))
            case Gather():
                answer = [Outcome(run(part, data)) for part in need.operations]
            case Call():
                answer = need.function(*need.args)


class Source:
    url = "memory/image.fits.fz"


def section(data: bytes, box: Any) -> Any:
    length = blocks.header_length(data, blocks.BLOCK)
    raw = data[blocks.BLOCK : blocks.BLOCK + length]
    structure = blocks.parse_structure(raw, where="memory", position="HDU 1")
    hdu = HduDescription(1, raw, structure, header_offset=blocks.BLOCK)
    return run(read_tiles(Reader(Source(), size=len(data)), hdu, box), data)


def shape_or_error(data: bytes, box: Any) -> Any:
    """Return the shape of a section, or that there was an error of ours; any other is raised."""
    try:
        return section(data, box).shape
    except NunciusError:
        return "error"


def compressed(image: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image, **options)]).writeto(file)
    return file.getvalue()


@st.composite
def images(draw: Any) -> tuple[bytes, list[tuple[int, int]]]:
    shape = draw(st.lists(st.integers(1, 24), min_size=1, max_size=4))
    tile = [draw(st.integers(1, length + 2)) for length in shape]
    kind = draw(st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"]))
    values = np.random.default_rng(draw(st.integers(0, 9))).normal(100, 9, shape).astype(kind)
    if kind.startswith("f"):
        values.reshape(-1)[:: draw(st.integers(2, 50))] = draw(st.sampled_from([0, np.nan, 7]))
    options: dict[str, Any] = {"compression_type": draw(st.sampled_from(["RICE_1", "GZIP_1", "GZIP_2"]))}
    if kind.startswith("f"):
        options["quantize_method"] = draw(st.sampled_from([-1, 1, 2]))
        options["dither_seed"] = draw(st.integers(1, 10_000))
    box = [tuple(sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n))))) for n in shape]
    return compressed(values, tile_shape=tuple(tile), **options), box


@settings(max_examples=80, deadline=None)
@given(images())
def test_any_section_is_as_astropy_reads_it(case):
    data, box = case
    with fits.open(io.BytesIO(data)) as opened:
        theirs = opened[1].section[tuple(slice(*pair) for pair in box)]
    ours = section(data, box)
    assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())


GOOD = {
    codec: compressed(
        np.random.default_rng(1).normal(90, 9, (20, 30)).astype(kind),
        compression_type=codec,
        tile_shape=(8, 10),
        quantize_method=1,
        dither_seed=3,
    )
    for codec, kind in [("GZIP_2", "f4"), ("PLIO_1", "i2"), ("GZIP_1", "i4")]
}
CARDS = ["NAXIS1", "NAXIS2", "PCOUNT", "TFIELDS", "ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2", "ZBITPIX",
         "ZDITHER0", "ZVAL1", "THEAP", "TFORM1", "ZCMPTYPE"]  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(sorted(GOOD)),
    st.lists(st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=4)), max_size=3),
    st.lists(
        st.tuples(
            st.sampled_from(CARDS),
            st.one_of(
                st.integers(-(2**63), 2**63),
                st.integers(-1, 40),
                st.sampled_from(["'1PB'", "'1QB'", "T", ""]),
            ),
        ),
        max_size=2,
    ),
)
def test_damage_is_an_error_of_ours_or_an_image(codec, changes, cards):
    data = bytearray(GOOD[codec])
    start = blocks.BLOCK
    body = start + blocks.header_length(bytes(data), start)
    for at, new in changes:
        data[body + at : body + at + len(new)] = new
    for name, value in cards:
        at = data.find(name.ljust(8).encode() + b"=", start, body)
        if at >= 0:
            data[at : at + 80] = f"{name:<8}= {value!s:>20}".ljust(80).encode()[:80]
    assert shape_or_error(bytes(data), [(2, 11), (5, 21)]) in ((9, 16), "error")


@settings(max_examples=60, deadline=None)
@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1), st.integers(0, 8))
def test_any_descriptor_is_an_error_of_ours_or_an_image(count, offset, row):
    data = bytearray(GOOD["GZIP_1"])
    body = blocks.BLOCK + blocks.header_length(bytes(data), blocks.BLOCK)
    struct.pack_into(">2i", data, body + 8 * row, count, offset)
    assert shape_or_error(bytes(data), [(0, 20), (0, 30)]) in ((20, 30), "error")
