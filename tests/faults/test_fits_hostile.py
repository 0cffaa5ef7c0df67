"""Files that are broken or made to do harm: a typed error or an honest answer, in bounded time, memory and requests."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import time
import tracemalloc

import numpy as np
import pytest
from astropy.io import fits

import nuncius
from nuncius.errors import FitsError, NunciusError, TruncatedFitsError, UnsupportedError
from nuncius.sandbox import fits_files
from nuncius.sandbox.fits_files import SparseFile
from nuncius.sandbox.fits_files.odd import RepeatedCard
from nuncius.sandbox.fits_files.writing import BLOCK, card, header_bytes, padded
from nuncius.sandbox.store import SandboxStore

# What is odd in a header is told by astropy's warnings too.
pytestmark = [pytest.mark.xdist_group("fits-hostile"), pytest.mark.filterwarnings("ignore")]

MB = 1_000_000
PRIMARY = header_bytes(["SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 0", "EXTEND  = T"])


@pytest.fixture(scope="module")
def running():
    with SandboxStore() as store:
        yield store


@pytest.fixture
def store(running):
    running.reset()
    return running


@pytest.fixture
def opened(store):
    """Put a file into the store and open it."""

    def opening(file, **options):
        store.put("hostile.fits", file)
        return nuncius.open_fits(store.http_url("hostile.fits"), **options)

    return opening


def image(*axes, bitpix=16, cards=(), xtension="IMAGE"):
    """Return the header of an extension; nothing of it needs to be true."""
    sizes = [f"NAXIS{number:<3d}= {length}" for number, length in enumerate(axes, 1)]
    first = [f"XTENSION= '{xtension:8s}'", f"BITPIX  = {bitpix}", f"NAXIS   = {len(axes)}", *sizes]
    return header_bytes([*first, "PCOUNT  = 0", "GCOUNT  = 1", *cards])


def table(row_bytes, rows, forms, *, pcount=0, cards=(), data=b""):
    columns = [f"TFORM{number:<3d}= '{form}'" for number, form in enumerate(forms, 1)]
    columns += [f"TTYPE{number:<3d}= 'c{number}'" for number in range(1, len(forms) + 1)]
    first = [
        "XTENSION= 'BINTABLE'",
        "BITPIX  = 8",
        "NAXIS   = 2",
        f"NAXIS1  = {row_bytes}",
        f"NAXIS2  = {rows}",
    ]
    more = [f"PCOUNT  = {pcount}", "GCOUNT  = 1", f"TFIELDS = {len(forms)}", *columns, *cards]
    return header_bytes([*first, *more]) + padded(data)


def sparse(*parts):
    """Return a file of bytes, and of numbers that stand for so many zeros."""
    places, at = {}, 0
    for part in parts:
        if isinstance(part, bytes):
            places[at] = part
        at += part if isinstance(part, int) else len(part)
    return SparseFile(at, places)


def repeated(text, count, *, naxis=0, last=()):
    """Return a file whose only header has the same card over and over."""
    head = b"".join(card(text) for text in ("SIMPLE  = T", "BITPIX  = 8", f"NAXIS   = {naxis}"))
    cards = RepeatedCard(text, count)
    used = len(head) + cards.size
    tail = b"".join(card(text) for text in (*last, "END"))
    tail += b" " * (-(used + len(tail)) % BLOCK)
    return SparseFile(used + len(tail), {0: head, len(head): cards, used: tail})


def touches(file):
    """Give everything that can be asked of an open file, but for its HDUList, which is astropy's."""
    yield lambda: repr(file)
    yield file.info
    yield file._repr_html_
    yield lambda: [repr(hdu) for hdu in file]
    yield lambda: file["nothing"]
    for hdu in file:
        for name in ("kind", "name", "version", "shape", "naxis", "bitpix", "dtype", "header", "data", "end"):
            yield lambda hdu=hdu, name=name: getattr(hdu, name)
        for key in (0, -1, ..., (..., slice(3)), (slice(None, None, 2),), [0, 1]):
            yield lambda hdu=hdu, key=key: hdu.section[key]
        yield lambda hdu=hdu: hdu.cutout((2, 2), (3, 3))
        yield lambda hdu=hdu: hdu.cutout((2, 2), (3, 3), mode="partial")
        yield lambda hdu=hdu: hdu.rows(0, 2)
        yield lambda hdu=hdu: hdu.rows(-2)
        yield lambda hdu=hdu: hdu.columns(["c1"], rows=[0])
        yield lambda hdu=hdu: hdu.get("EXTNAME")
        yield lambda hdu=hdu: hdu.get("a long keyword")


def touch_all(file):
    """Touch everything; what fails says so in a way that a program can tell apart."""
    for touch in touches(file):
        with contextlib.suppress(NunciusError, IndexError, KeyError):
            touch()


def outcome(opened, content):
    """Return an open file, or the error."""
    try:
        return opened(content), None
    except FitsError as error:
        return None, error


# Broken files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in fits_files.odd_kinds()])
def test_whatever_is_broken_is_said_or_read(store, opened, make, capsys):
    content = make()
    tracemalloc.start()
    file, error = outcome(opened, content)
    if error:
        assert error.position
        assert store.http_url("hostile.fits") in str(error)
    else:
        touch_all(file)
        capsys.readouterr()
    assert tracemalloc.get_traced_memory()[1] < 60 * MB
    tracemalloc.stop()
    assert store.stats.requests <= 60
    assert store.stats.bytes <= 40 * len(content) + 1000


@pytest.mark.parametrize(
    "length", [0, 1, 9, 10, 40, 79, 80, 100, 2879, 2880, 2881, 5760, 6000, 14400, 14480, 17279]
)
def test_a_file_that_is_cut_anywhere(opened, length):
    """Of what is left either all HDUs are told, the last as truncated, or the error says where it ends."""
    good = fits_files.good_file()
    file, error = outcome(opened, good[:length])
    if error:
        assert re.search(r"cut|empty|begins with", str(error))
        return
    with fits.open(io.BytesIO(good)) as hdus:
        for mine, true in zip(file, hdus, strict=False):
            assert mine.header.tostring() == true.header.tostring()
            assert mine.truncated == (mine.data_offset + mine.data_size > length)
    assert file[-1].end >= length - file.trailing_bytes


SMALL = image(10, 10) + bytes(BLOCK)
HOSTILE = {
    "999 axes": image(*[1] * 999) + bytes(BLOCK),
    "70 axes": image(*[1] * 70) + bytes(BLOCK),
    "64 axes": image(*[1] * 64) + bytes(BLOCK),
    "10^17 x 0 pixels": image(10**17, 0),
    "10^17 x 10^17 x 0 pixels": image(10**17, 10**17, 0),
    "9 x 10^18 pixels": image(9 * 10**18) + bytes(BLOCK),
    "9 x 10^18 squared": image(9 * 10**18, 9 * 10**18) + bytes(BLOCK),
    "5 GB claimed": image(5 * 10**9, bitpix=8) + bytes(BLOCK),
    "BSCALE is text": image(10, 10, cards=["BSCALE  = 'x'", "BZERO   = T"]) + bytes(BLOCK),
    "BLANK is text": image(10, 10, cards=["BLANK   = 'x'"]) + bytes(BLOCK),
    "BLANK out of range": image(10, 10, cards=["BLANK   = 99999999999999999999"]) + bytes(BLOCK),
    "BZERO is infinite": image(10, 10, cards=["BSCALE  = 1", "BZERO   = 1E400"]) + bytes(BLOCK),
    "XTENSION of control characters": image(10, 10, xtension="\x1b[2J<b>") + bytes(BLOCK),
    "WCS of texts": image(
        10, 10, cards=["CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'", "CRPIX1  = 'x'", "CDELT1  = 0"]
    )
    + bytes(BLOCK),
    "WCS of 10^9 axes": image(10, 10, cards=["WCSAXES = 1000000000"]) + bytes(BLOCK),
    "WCS of 32 axes": image(*[10] * 2, *[1] * 31) + bytes(BLOCK),
    "999 columns of 10^13 numbers": table(8, 5, ["9999999999999D"] * 999, data=bytes(40)),
    "99 columns that don't fit": table(8, 5, ["999X"] * 99, data=bytes(40)),
    "99 columns of nothing": table(8, 5, ["0A"] * 99, data=bytes(40)),
    "10^17 rows": table(8, 10**17, ["D"], data=bytes(40)),
    "10^15 rows of nothing": table(0, 10**15, []),
    "10^9 rows of a column of nothing": table(0, 10**9, ["0A"]),
    "a heap of 10^18 bytes": table(8, 5, ["PJ"], pcount=10**18, data=bytes(40)),
    "descriptors of 2^62": table(16, 5, ["QJ"], pcount=40, data=(2**62).to_bytes(8, "big") * 10 + bytes(40)),
    "TDIM of 10^27": table(
        8, 5, ["8B"], data=bytes(40), cards=["TDIM1   = '(999999999,999999999,999999999)'"]
    ),
    "TSCAL is text": table(8, 5, ["J", "J"], data=bytes(40), cards=["TSCAL1  = 'x'"]),
    "TUNIT without end": table(8, 5, ["D"], data=bytes(40), cards=["TUNIT1  = '" + "m^" * 20 + "'"]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_headers_that_claim_what_cannot_be(store, opened, name, capsys):
    tracemalloc.start()
    begin = time.monotonic()
    file = opened(PRIMARY + HOSTILE[name] + SMALL)
    touch_all(file)
    capsys.readouterr()
    assert tracemalloc.get_traced_memory()[1] < 60 * MB
    tracemalloc.stop()
    assert (
        time.monotonic() - begin < 60
    )  # with memory being traced, on a busy machine; it never waits for anything
    assert store.stats.requests <= 60
    assert store.stats.bytes < 5 * MB


def test_a_distortion_of_a_trillion_terms_is_not_made(opened):
    """The WCS is astropy's, and what it can't hold is an error of ours."""
    cards = [
        "CTYPE1  = 'RA---TAN-SIP'",
        "CTYPE2  = 'DEC--TAN-SIP'",
        "A_ORDER = 10000000",
        "B_ORDER = 10000000",
    ]
    file = opened(PRIMARY + image(10, 10, cards=cards) + bytes(BLOCK))
    with pytest.raises(FitsError, match=r"HDU 1 of .* has a WCS that can't be used .*\.section"):
        file[1].cutout((5, 5), 3)


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=y>",
        "\x1b[2J\x1b]0;own\x07",
        "[red]",
        "[/nothing]",
        "a\nb\r\0",
    ],
)
def test_names_are_shown_and_do_nothing(opened, capsys, name):
    file = opened(PRIMARY + image(10, 10, cards=[f"EXTNAME = '{name}'"]) + bytes(BLOCK))
    file.info()
    shown = capsys.readouterr().out
    page = file._repr_html_()
    with pytest.raises(KeyError) as missing:
        file["nothing"]
    for text in (shown, page, repr(file), repr(file[1]), repr(file.names), str(missing.value), file[1].kind):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert "<script" not in page.lower()
    assert "<img" not in page.lower()
    visible = re.sub(r"[\x00-\x1f]", "?", name).upper()
    assert visible in shown
    assert file[visible].index == 1
    assert len(shown.splitlines()) == 4


# Long headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "error"),
    [
        pytest.param(fits_files.million_cards(), None, id="a million cards"),
        pytest.param(fits_files.million_cards(end=False), TruncatedFitsError, id="a million cards, no END"),
        pytest.param(repeated("COMMENT" + " " * 70 + "END", 10**6), None, id="a million traps"),
        pytest.param(repeated("ENDING", 100_000), None, id="words that begin with END"),
        pytest.param(
            repeated("COMMENT NAXIS1  = 5", 10**6, naxis=2, last=("NAXIS1  = 3", "NAXIS2  = 4")),
            None,
            id="axes in comments",
        ),
        pytest.param(
            repeated("HISTORY", 10**6, naxis=999, last=[f"NAXIS{n:<3d}= 1" for n in range(1, 1000)]),
            None,
            id="999 axes at the end of 80 MB",
        ),
    ],
)
def test_headers_of_80_megabytes(store, opened, file, error):
    begin = time.monotonic()
    if error is None:
        tracemalloc.start()
        found = opened(file)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * file.size
        tracemalloc.stop()
        assert [hdu.index for hdu in found] == [0]
        assert len(found[0].raw) == file.size - found.trailing_bytes
        assert found[0].get("BITPIX") == 8
        assert found[0].shape == ((4, 3) if found[0].get("NAXIS") == 2 else (1,) * found[0].get("NAXIS"))
    else:
        with pytest.raises(error, match="no END card before the file ends"):
            opened(file)
    assert store.stats.requests <= 16
    assert store.stats.bytes <= file.size
    assert time.monotonic() - begin < 45


def test_a_header_that_never_ends_is_given_up(store, opened):
    file = fits_files.million_cards(10**9, end=False)
    with pytest.raises(FitsError, match="no END card in its first") as caught:
        opened(file)
    assert caught.value.position == "HDU 0"
    assert store.stats.bytes < 300 * MB


# Guesses --------------------------------------------------------------------------------------------------------------


def pattern(rows):
    """Return an image of so many rows of 100 pixels, its data left out."""
    return [image(100, rows), -(-200 * rows // BLOCK) * BLOCK]


BIG = [image(100_000, 100_000, cards=["EXTNAME = 'BIG'"]), -(-2 * 10**10 // BLOCK) * BLOCK]
MISLEADING = {
    # What is in the file, how many HDUs that is, and how many requests and round trips may be spent on it.
    "two small images and a large one": ([*pattern(500) * 2, *BIG, SMALL], 5, 12),
    "pairs, each followed by another image": (
        list(itertools.chain.from_iterable(pattern(500) * 2 + pattern(10 + n % 7) for n in range(20))) + BIG,
        62,
        150,
    ),
    "thousands of headers that are not there": ([*pattern(500) * 2, 4000 * 100_000], 3, 12),
    "lengths that all divide the rest": (
        list(itertools.chain.from_iterable(pattern(500) * 2 + pattern(1014) for _ in range(30)))
        + pattern(500) * 3000,
        3091,
        10_000,
    ),
}


@pytest.mark.parametrize("name", MISLEADING)
def test_wrong_guesses_are_few(store, opened, name):
    parts, count, requests = MISLEADING[name]
    file = opened(sparse(PRIMARY, *parts))
    assert len(file) == count
    at = len(PRIMARY)
    for hdu in itertools.islice(file, 1, None):
        assert hdu.header_offset == at
        at = hdu.end
    assert store.stats.requests <= requests
    assert file.stats.requests == store.stats.requests
    assert file.stats.bytes == store.stats.bytes


def test_nextend_may_lie(store, opened):
    first = header_bytes(["SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 0", "NEXTEND = 1000000"])
    file = opened(sparse(first, *pattern(500) * 3, 5 * MB))
    assert len(file) == 4
    assert file.trailing_bytes == 5 * MB
    assert store.stats.requests < 130


# Sections -------------------------------------------------------------------------------------------------------------


def test_an_axis_of_many_pixels_costs_what_is_taken_of_it(opened):
    """Of a billion pixels ten are taken; the others need no memory, also as indices."""
    file = opened(sparse(PRIMARY, image(10**9, bitpix=8), 10**9))
    tracemalloc.start()
    for key in (slice(7, 17), slice(17, 7, -1), -1, slice(None, None, 10**8), [3, 10**9 - 1]):
        assert not np.any(file[1].section[key])
    assert tracemalloc.get_traced_memory()[1] < 5 * MB
    tracemalloc.stop()


def test_more_than_anybody_waits_for_is_refused_before_it_is_read(store, opened):
    file = opened(sparse(PRIMARY, *BIG))
    store.reset()
    for key in (..., slice(None, None, 2), (slice(None), slice(50_000))):
        with pytest.raises(UnsupportedError, match=r"GiB .* ask for less at a time"):
            file["BIG"].section[key]
    with pytest.raises(UnsupportedError, match="GiB"):
        _ = file["BIG"].data
    with pytest.raises(UnsupportedError, match="GiB"):
        file["BIG"].cutout((50_000, 50_000), (90_000, 90_000))
    assert store.stats.requests == 0


def test_a_truncated_list_of_hdus_keeps_what_is_there(opened):
    good = fits_files.good_file()
    file = opened(good[:-4000])
    with file.hdulist() as hdus, fits.open(io.BytesIO(good)) as true:
        assert np.array_equal(hdus["A"].data, true["A"].data)
        with pytest.raises((TypeError, OSError, NunciusError)):
            _ = hdus["B"].data
