"""Files of any structure: what is found of them, and that a guess never changes it."""

from __future__ import annotations

import io
import itertools

import numpy as np
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from fits_source import opened, run
from nuncius.cloudfits import images, ranges
from nuncius.cloudfits.ranges import plan

lengths = st.integers(0, 9000)
cards = st.sampled_from([0, 3, 31, 32, 33, 70, 130])
kinds = st.sampled_from(["image", "table", "heap", "empty"])
extension = st.tuples(kinds, lengths, cards)


@st.composite
def layouts(draw):
    """Give extensions that repeat, that almost repeat, or that don't."""
    pattern = draw(st.lists(extension, min_size=1, max_size=3))
    repeated = pattern * draw(st.integers(1, 6))
    return repeated[: draw(st.integers(0, 12))] + draw(st.lists(extension, max_size=2))


def written(layout, nextend):
    primary = fits.PrimaryHDU()
    if nextend is not None:
        primary.header["NEXTEND"] = nextend
    hdus = fits.HDUList([primary])
    for number, (kind, length, count) in enumerate(layout):
        hdu = _hdu(kind, length)
        hdu.header["EXTNAME"] = f"E{number}"
        for key in range(count):
            hdu.header[f"KEY{key}"] = ("END     ", "XTENSION= 'IMAGE   '")
        hdus.append(hdu)
    file = io.BytesIO()
    hdus.writeto(file)
    return file.getvalue()


def _hdu(kind, length):
    if kind == "empty":
        return fits.ImageHDU()
    if kind == "image":
        return fits.ImageHDU(np.zeros(length, dtype=">i2") if length else None)
    if kind == "table":
        return fits.BinTableHDU.from_columns(
            [fits.Column("A", "J", array=np.zeros(length // 4, dtype=">i4"))]
        )
    rows = np.empty(3, dtype=object)
    rows[:] = [np.zeros(length // 3, dtype=">i2")] * 3
    return fits.BinTableHDU.from_columns([fits.Column("A", "PI()", array=rows)])


@given(
    layout=layouts(),
    nextend=st.none() | st.integers(0, 20),
    sibling=layouts(),
    overread=st.sampled_from([1, 8640, 32768]),
)
@settings(max_examples=50, deadline=None)
def test_every_structure_is_found_as_astropy_finds_it(layout, nextend, sibling, overread):
    data = written(layout, nextend)
    other, _, _ = opened(written(sibling, None))
    with fits.open(io.BytesIO(data)) as hdus:
        truth = [(hdu._header_offset, hdu._data_offset, hdu.size, hdu.name) for hdu in hdus]
    for options in ({}, {"like": other.hdus}, {"like": opened(data)[0].hdus}):
        file, reader, source = opened(data, overread=overread, **options)
        assert [(hdu.header_offset, hdu.data_offset, hdu.data_size, hdu.name) for hdu in file] == truth
        assert not file.truncated
        assert file.trailing_bytes == 0
        assert reader.stats.used_bytes == sum(len(hdu.raw) for hdu in file)
        assert all(start < end for start, end in source.ranges)


index = st.one_of(
    st.integers(-6, 5),
    st.slices(6),
    st.lists(st.integers(-6, 5), max_size=7),
    st.lists(st.booleans(), min_size=6, max_size=6),
)


@given(
    key=st.tuples(st.integers(-6, 5) | st.slices(6), index, st.integers(-6, 5) | st.slices(6)),
    gap=st.sampled_from([0, 7, 65536]),
)
@settings(max_examples=300, deadline=None)
def test_any_subscript_means_what_it_means_to_numpy(key, gap):
    cube = np.arange(216, dtype=">i4").reshape(6, 6, 6)
    file = io.BytesIO()
    fits.PrimaryHDU(cube).writeto(file)
    described, reader, source = opened(file.getvalue())
    reader.head = b""
    plain, ranges.MERGE_GAP = ranges.MERGE_GAP, gap
    try:
        found = run(images.read_section(reader, described[0], key), source)
    finally:
        ranges.MERGE_GAP = plain
    # One axis after the other: a list beside a number doesn't move its axis to the front.
    expected = cube
    for axis in (2, 1, 0):
        part = key[axis]
        expected = expected[(slice(None),) * axis + (np.array(part, dtype=int) if part == [] else part,)]
    assert np.array_equal(found, expected)
    assert np.shape(found) == expected.shape


@given(
    wanted=st.lists(st.tuples(st.integers(0, 50_000), st.integers(0, 6000)), max_size=30),
    gap=st.integers(0, 9000),
    budget=st.integers(0, 30_000),
)
def test_a_plan_holds_what_is_wanted_and_keeps_its_bounds(wanted, gap, budget):
    starts, ends = [start for start, _ in wanted], [start + length for start, length in wanted]
    made = plan(starts, ends, gap=gap, budget=budget)
    spans = list(zip(made.starts.tolist(), made.ends.tolist(), strict=True))
    for start, end in zip(starts, ends, strict=True):
        assert start == end or any(first <= start and end <= last for first, last in spans)
    assert all(first[1] < second[0] for first, second in itertools.pairwise(spans))
    needed = np.zeros(60_000, dtype=bool)
    for start, end in zip(starts, ends, strict=True):
        needed[start:end] = True
    assert made.wanted == needed.sum()
    gaps = np.diff(np.flatnonzero(np.diff(np.concatenate(([False], needed, [False])))))[1::2]
    read_over = sum(last - first for first, last in spans) - made.wanted
    assert read_over <= gaps[gaps <= 4096].sum() + max(budget, 4 * made.wanted)
    assert all(second[0] - first[1] > 4096 or gap < 4096 for first, second in itertools.pairwise(spans))
