"""The generator of FITS files: every kind is what it says, by astropy's word, and the same on each call."""

from __future__ import annotations

import gzip
import io
import pickle
import subprocess
import sys
import warnings

import astropy.version
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from fits_support import BLOCK, open_local, true_hdus
from nuncius.errors import ConfigurationError
from nuncius.sandbox import fits_files
from nuncius.sandbox.fits_files import PixelRamp, SparseFile

# Before astropy 8: signed bytes lose their sign in compressed images, UNCOMPRESSED_DATA can't be read, 64-bit integers are
# written by codecs of 32 bits, and BLANK (before 6.1) is overlooked.
NEW_ASTROPY = astropy.version.major >= 8
KINDS = dict(fits_files.kinds())
COMPRESSED = dict(fits_files.compressed_kinds())
ODD = dict(fits_files.odd_kinds())


# Sparse files ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_sparse_file_reads_as_the_whole_would(data):
    size = data.draw(st.integers(0, 300))
    whole, parts, at = bytearray(size), {}, 0
    while at < size and data.draw(st.booleans()):
        start = data.draw(st.integers(at, size))
        content = data.draw(st.binary(max_size=min(40, size - start)))
        part = data.draw(st.sampled_from([content, _Counted(content)]))
        parts[start], at = part, start + max(len(content), 1)
        whole[start : start + len(content)] = content
    file = SparseFile(size, parts)
    for _ in range(5):
        start, end = data.draw(st.integers(0, size + 9)), data.draw(st.integers(0, size + 9))
        assert file.read(start, end) == bytes(whole[start:end])
    with file.open() as stream:
        stream.seek(size // 2)
        assert stream.read(7) == bytes(whole[size // 2 :][:7])
        assert stream.tell() == min(size // 2 + 7, size)
        assert stream.read() == bytes(whole[size // 2 :][7:])


class _Counted:
    """A computed part that refuses what lies outside of it."""

    def __init__(self, content):
        self.content, self.size = content, len(content)

    def read(self, start, end):
        assert 0 <= start <= end <= self.size
        return self.content[start:end]


def test_the_name_of_a_content_follows_the_content():
    names = {
        SparseFile(size, parts).etag
        for size, parts in [
            (100, {}),
            (101, {}),
            (101, {0: b"a"}),
            (101, {1: b"a"}),
            (101, {1: b"b"}),
            (101, {0: PixelRamp((5,))}),
            (101, {0: PixelRamp((5,), first=1)}),
        ]
    }
    assert len(names) == 7
    assert SparseFile(101, {1: b"a"}).etag == SparseFile(101, {1: b"a"}).etag


@pytest.mark.parametrize("parts", [{0: b"abc", 2: b"d"}, {8: b"abc"}, {-1: b"a"}, {0: PixelRamp((3,))}])
def test_parts_that_overlap_or_stick_out_are_refused(parts):
    with pytest.raises(ConfigurationError, match="overlaps"):
        SparseFile(10, parts)


def test_a_huge_file_takes_no_room():
    file = SparseFile(10**15, {10**14: b"star"})
    assert file.read(10**14 - 2, 10**14 + 6) == b"\0\0star\0\0"
    assert pickle.loads(pickle.dumps(file)).read(10**14, 10**14 + 4) == b"star"


# Cubes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_cube_is_of_45_gigabytes_and_known_at_each_pixel(blocks):
    cube = fits_files.tess_cube(primary_blocks=blocks)
    primary, image, table = true_hdus(cube)
    assert [len(hdu.raw) // BLOCK for hdu in (primary, image, table)] == [blocks, 1, 9]
    assert image.data_size == 2078 * 2136 * 1282 * 2 * 4 > 45.5e9
    assert table.end == cube.size
    with open_local(cube) as hdus:
        assert hdus[1].shape == fits_files.TESS_PIXELS.shape
        for section in (np.s_[1000, 500:503, 7, 0], np.s_[2077, 2130:, 1280:, :], np.s_[0, 0, :, 1]):
            assert np.array_equal(hdus[1].section[section], fits_files.TESS_PIXELS[section])
        assert len(hdus[2].data) == 1282
        assert hdus[2].data["START_TJD"][48] == pytest.approx(1900.3)
    assert pickle.loads(pickle.dumps(cube)).etag == cube.etag


@pytest.mark.parametrize("shape", [(7,), (3, 4), (3, 4, 5, 2)])
def test_pixels_of_a_section_are_those_in_the_file(shape):
    pixels = PixelRamp(shape, first=-5)
    whole = np.frombuffer(pixels.read(0, pixels.size), ">f4").reshape(shape)
    for section in (np.s_[...], np.s_[1], np.s_[1:3], np.s_[..., ::2], np.s_[-1, ...], np.s_[2, ..., -1:]):
        if len(shape) > 1 or section != np.s_[2, ..., -1:]:
            assert np.array_equal(pixels[section], whole[section])
    assert pixels.read(3, 21) == pixels.read(0, pixels.size)[3:21]
    assert len(np.unique(whole)) == whole.size


# Every kind -----------------------------------------------------------------------------------------------------------


def test_names_are_told_once():
    every = [*fits_files.kinds(compressed=True), *fits_files.odd_kinds()]
    assert len({name for name, _ in every}) == len(every)
    assert set(KINDS) < {name for name, _ in fits_files.kinds(compressed=True)}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_a_chain_of_hdus_to_its_last_byte(name):
    file = KINDS[name]()
    assert file == KINDS[name]()
    hdus = true_hdus(file)
    assert [hdu.header_offset for hdu in hdus] == [0, *(hdu.end for hdu in hdus[:-1])]
    assert hdus[-1].end == len(file)
    for hdu in hdus:
        assert hdu.raw.startswith(b"XTENSION=" if hdu.index else b"SIMPLE  =")
        assert hdu.raw[:-BLOCK].count(b"END".ljust(80)) <= 1  # only where one is a trap
        assert hdu.data_offset + hdu.data_size <= hdu.end < hdu.data_offset + hdu.data_size + BLOCK


@pytest.mark.parametrize("name", [name for name in ODD if not name.startswith("gzip")])
def test_an_odd_file_is_the_same_on_each_call(name):
    assert ODD[name]() == ODD[name]()
    assert len(ODD[name]()) < 200_000


def test_nothing_heavy_loads_with_the_package():
    code = "import sys, nuncius.sandbox.fits_files as f; list(f.image_kinds()); print('numpy' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"


# Images ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bitpix", [8, 16, 32, 64, -32, -64])
def test_images_hold_the_extremes_of_their_type(bitpix):
    with open_local(fits_files.stored_image(bitpix)) as hdus:
        pixels = hdus[0].data.reshape(-1)
    assert pixels.dtype.itemsize * 8 == abs(bitpix)
    if bitpix > 0:
        limits = np.iinfo(pixels.dtype)
        assert list(pixels[:3]) == [limits.min, limits.max, 0]
    else:
        assert np.isnan(pixels[0])
        assert list(pixels[1:3]) == [np.inf, -np.inf]
        assert np.signbit(pixels[3])


def test_blank_scaled_and_unsigned_images_mean_what_they_say():
    with open_local(fits_files.stored_image(16, BLANK=-99, BSCALE=0.5, BZERO=3)) as hdus:
        scaled = hdus[0].data.reshape(-1)
    with open_local(fits_files.stored_image(16, BLANK=-99), do_not_scale_image_data=True) as hdus:
        stored = hdus[0].data.reshape(-1)
    assert np.isnan(scaled[::7]).all()
    assert np.array_equal(scaled[stored != -99], stored[stored != -99] * np.float32(0.5) + 3)
    with open_local(KINDS["image 32 of the other sign"]()) as hdus:
        assert hdus[0].data.dtype == np.uint32
    with open_local(KINDS["image 8 of the other sign"]()) as hdus:
        assert hdus[0].data.dtype == np.int8


def test_the_sky_image_has_its_centre_where_it_says():
    with open_local(fits_files.sky_image((60, 50))) as hdus:
        centre = WCS(hdus[0].header).pixel_to_world(24.5, 29.5)
    assert centre.ra.deg == pytest.approx(150.1)
    assert centre.dec.deg == pytest.approx(2.2)


def test_random_groups_have_parameters_and_a_table_after_them():
    hdus = true_hdus(fits_files.random_groups(7))
    assert hdus[0].data_size == 4 * 7 * (4 + 1 * 4 * 2 * 3)
    assert hdus[1].name == "AIPS AN"
    with open_local(fits_files.random_groups(7)) as opened:
        groups = opened[0].data
        assert groups.data.shape == (7, 1, 4, 2, 3)
        assert groups.par("UU").dtype.kind == "f"


# Tables ---------------------------------------------------------------------------------------------------------------


def test_the_table_of_all_columns_has_every_type():
    with open_local(fits_files.all_columns(20)) as hdus:
        codes = {form.lstrip("0123456789") for form in hdus[1].columns.formats}
        table = Table.read(hdus[1])
    assert codes == set("LXBIJKAEDCM")
    assert [table[name].dtype for name in ("ushort", "uint", "ulong")] == [np.uint16, np.uint32, np.uint64]
    assert table["sbyte"].min() < 0 < table["sbyte"].max() < 128
    assert table["matrix"].shape == (20, 2, 3)
    assert [name.rstrip() for name in table["names"][3]] == ["ab", "cd", "efgh"]
    assert table["null"].mask[::4].all()
    assert table["scaled"].dtype.kind == "f"
    assert str(table["double"].unit) == "deg"


def test_columns_of_no_width_take_no_room():
    hdu = true_hdus(KINDS["table with columns of no width"]())[1]
    assert hdu.header["NAXIS1"] == 20
    assert [hdu.header[f"TFORM{number}"] for number in range(1, 5)] == ["J", "0E", "0J", "2D"]


@pytest.mark.parametrize("descriptor", ["P", "Q"])
def test_cells_of_variable_length_have_every_type(descriptor):
    with open_local(fits_files.variable_length(descriptor)) as hdus:
        columns = {column.name: column.format[0] for column in hdus[1].columns}
        rows = hdus[1].data
        lengths = {name: {len(cell) for cell in rows[name]} for name in columns if name.startswith("v")}
    assert [name for name, form in columns.items() if form == descriptor] == [
        f"v{code}" for code in "LBIJKEDCMA"
    ]
    assert all(0 in found and len(found) > 2 for found in lengths.values())


def test_cells_share_the_heap():
    with open_local(fits_files.shared_heap()) as hdus:
        cells = [list(cell // 1001) for cell in hdus[1].data["CELL"]]
    assert cells == [
        [0, 1, 2],
        [0, 1, 2],
        [2, 3],
        [],
        [],
        [10, 11, 12, 13, 14],
        [11, 12, 13, 14],
        list(range(10)),
    ]


def test_the_large_table_has_72_bytes_a_row():
    hdu = true_hdus(fits_files.large_table(1000))[1]
    assert (hdu.header["NAXIS1"], hdu.header["NAXIS2"], hdu.data_size) == (72, 1000, 72_000)


@pytest.mark.parametrize("nulls", [False, True])
def test_the_ascii_table_has_each_format(nulls):
    with open_local(fits_files.ascii_table(nulls=nulls)) as hdus:
        rows = hdus[1].data
        assert [form[0] for form in hdus[1].columns.formats] == list("AIFEDII")
        assert rows["name"][3] == "star 3"
        assert rows["time"][6] == pytest.approx(6 / 7, rel=1e-14)
        assert rows["dn"][4] == 102
        assert rows["null"][1] == (0 if nulls else 11)


def test_the_compressed_table_holds_its_columns():
    with open_local(fits_files.compressed_table(40)) as hdus:
        assert hdus[1].header["ZTABLE"]
        numbers = b"".join(gzip.decompress(bytes(cell)) for cell in hdus[1].data["N"])
    assert list(np.frombuffer(numbers, ">i4")) == list(range(40))


# Headers --------------------------------------------------------------------------------------------------------------


def test_headers_are_as_long_and_odd_as_they_say():
    long = true_hdus(fits_files.long_header(2556))
    assert (len(long[0].header), len(long[0].raw)) == (2556, 71 * BLOCK + BLOCK)
    continued = true_hdus(fits_files.continued_header())[0].header
    assert continued["LONGTEXT"].endswith("too END")
    assert continued["AMPERSND"] == "not continued&"
    assert len(continued["STORY"]) == 1279
    hierarch = true_hdus(fits_files.hierarch_header())[0].header
    assert hierarch["ESO TEL AIRM START"] == 1.234
    assert hierarch["NAXIS1"] == 10


def test_ends_stand_where_a_careless_reader_stops():
    hdu = true_hdus(fits_files.end_traps())[0]
    end = b"END".ljust(80)
    assert hdu.raw.index(end) % 80 == 77
    assert [at for at in range(0, len(hdu.raw), 80) if hdu.raw[at : at + 80] == end] == [len(hdu.header) * 80]


@pytest.mark.parametrize(("cards", "blocks"), [(34, 1), (35, 1), (36, 2), (71, 2), (72, 3)])
def test_end_stands_in_the_last_block_or_alone(cards, blocks):
    hdu = true_hdus(KINDS[f"header of {cards} cards before END"]())[0]
    assert (len(hdu.header), len(hdu.raw)) == (cards, blocks * BLOCK)


# Compressed images ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPRESSED)
def test_astropy_reads_each_compressed_image(name):
    codec, dtype = name.split()[:2]
    if not NEW_ASTROPY and (dtype == "i1" or "UNCOMPRESSED" in name):
        pytest.skip("astropy reads this from version 8 on")
    file = COMPRESSED[name]()
    with open_local(file) as hdus, open_local(file, disable_image_compression=True) as stored:
        assert isinstance(hdus[1], fits.CompImageHDU)
        assert stored[1].header["ZCMPTYPE"] == codec
        pixels = hdus[1].data
        shape = [stored[1].header[f"ZNAXIS{axis}"] for axis in range(stored[1].header["ZNAXIS"], 0, -1)]
        wide = stored[1].columns.formats[0][1] == "Q"
    assert list(pixels.shape) == shape
    assert wide == name.endswith("64 bits")
    if dtype in {"i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"}:
        assert pixels.dtype == np.dtype(dtype)
        _assert_true_to(fits_files.compressed.noise(tuple(shape), dtype), pixels, name)


def _assert_true_to(truth, pixels, name):
    if truth.dtype.kind != "f":
        lossless = "scale" not in name or name.removesuffix(" smooth").endswith((" 0", " -3"))
        assert np.array_equal(truth, pixels) if lossless else np.abs(truth - pixels).max() < 999
    elif "exact" in name:
        assert np.array_equal(truth, pixels)
    else:
        # Sky of a spread of 5 is rounded to a sixteenth of it, or a quarter; one tile may be constant.
        assert np.median(np.abs(truth - pixels)) < 1.5


def test_what_astropy_does_not_write_is_refused_or_loses_something():
    refused = list(fits_files.refused_cases())
    assert len(refused) > 20
    for case in refused:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                file = case.make()
        except (ValueError, KeyError):
            continue
        if not NEW_ASTROPY and "bits" in case.refused:
            continue
        if "64 bits" in case.refused:
            assert any("64 integers" in str(warning.message) for warning in caught)
        else:
            assert "fractions" in case.refused
            with open_local(file) as hdus:
                assert np.array_equal(hdus[1].data, np.trunc(hdus[1].data))


def test_special_values_are_in_the_tiles():
    with open_local(COMPRESSED["RICE_1 NaN and constants dithered but for zeros"]()) as hdus:
        pixels = hdus[1].data
    assert np.isnan(pixels[3, 3:9]).all()
    assert np.isnan(pixels[:16, 16:32]).all()
    assert np.abs(pixels[20:32, :16] - 7.5).max() < 1
    assert (pixels[:32, 34:] == 0).all()
    with open_local(COMPRESSED["GZIP_1 blank"]()) as hdus:
        assert not NEW_ASTROPY or np.isnan(hdus[1].data).any()
    with open_local(COMPRESSED["GZIP_1 f4 with UNCOMPRESSED_DATA"](), disable_image_compression=True) as hdus:
        assert hdus[1].columns.names[1] == "UNCOMPRESSED_DATA"
        assert max(len(cell) for cell in hdus[1].data["UNCOMPRESSED_DATA"]) == 256


# Many HDUs, many files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "periods"), [("equal", [1]), ("period 3", [3]), ("random", []), ("small", [1])]
)
def test_a_mosaic_has_101_hdus_that_repeat_as_told(layout, periods):
    file = fits_files.many_hdus(layout)
    hdus = true_hdus(file)
    assert len(hdus) == 101
    assert sum(len(hdu.raw) for hdu in hdus) == 872_640
    assert hdus[-1].end == file.size
    assert hdus[0].header["NEXTEND"] == 100
    lengths = [hdu.end - hdu.header_offset for hdu in hdus[1:]]
    assert [period for period in range(1, 7) if lengths[period:] == lengths[:-period]][:1] == periods
    with open_local(file) as opened:
        pixels = PixelRamp(opened[42].shape, first=41)
        assert np.array_equal(opened[42].section[1, 3:9], pixels[1, 3:9])
        assert opened["CCD42"].header["EXTVER"] == 1


def test_a_mosaic_may_be_silent_about_its_extensions():
    header = true_hdus(fits_files.many_hdus(count=4, nextend=False, header_blocks=1))[0].header
    assert "NEXTEND" not in header
    equal, period = (fits_files.many_hdus(layout) for layout in ("equal", "period 3"))
    assert equal.size == period.size  # a guess from the first extension alone fits both


def test_files_of_a_night_are_alike():
    night = fits_files.night(12)
    walks = [true_hdus(file) for file in night.values()]
    assert len({tuple((hdu.header_offset, hdu.end) for hdu in walk) for walk in walks}) == 1
    assert [walk[2].header["EXPOSURE"] for walk in walks] == [f"EXP{number:07d}" for number in range(12)]
    assert len({file.etag for file in night.values()}) == 12
    swapped = fits_files.night_file(3, swapped=True)
    assert swapped.size == night["exposure-0000003.fits"].size
    assert true_hdus(swapped)[2].header_offset != walks[3][2].header_offset


def test_compressed_extensions_differ_in_length():
    hdus = true_hdus(fits_files.decam_fz(6))
    assert len({hdu.stored["PCOUNT"] for hdu in hdus[1:]}) == 6
    assert [hdu.name for hdu in hdus[1:]] == ["N1", "N2", "N3", "N4", "N5", "N6"]


# Odd files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("truncated data", 3),
        ("truncated padding", 3),
        ("truncated header", 2),
        ("trailing zeros", 3),
        ("trailing junk", 3),
        ("trailing bytes", 3),
        ("byte above 127 in a card", 3),
        ("control bytes in a card", 3),
        ("NAXIS1 = 1e+17 in HDU 1", 2),
    ],
)
def test_astropy_finds_so_many_hdus_in_an_odd_file(name, count):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_local(ODD[name]()) as hdus:
            assert len(hdus) == count


@pytest.mark.parametrize(
    "name",
    [
        "truncated first header",
        "truncated first card",
        "END missing, all",
        "HTML page",
        "empty",
        "one byte",
        "zeros",
        "a picture",
        "an extension first",
        "SIMPLE without a value",
    ],
)
def test_astropy_calls_these_no_fits_file(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(OSError, match=r"SIMPLE|END|Empty"):
            fits.open(io.BytesIO(ODD[name]()))


def test_a_card_is_changed_in_its_place():
    good = fits_files.good_file()
    changed = fits_files.with_card(good, "NAXIS1", -5, occurrence=1)
    assert len(changed) == len(good)
    assert true_hdus(fits_files.with_card(good, "EXTNAME", "'OTHER   '"))[1].name == "OTHER"
    assert b"NAXIS1  =" + b" " * 19 + b"-5" in changed
    assert b"BITPIX" not in fits_files.without_card(good, "BITPIX")[:BLOCK]
    with pytest.raises(ConfigurationError, match="3 cards NAXIS1"):
        fits_files.with_card(good, "NAXIS1", 5, occurrence=3)


@pytest.mark.parametrize("end", [True, False])
def test_a_million_cards_are_computed(end):
    file = fits_files.million_cards(end=end)
    assert file.size > 80_000_000
    assert file.size % BLOCK == 0
    assert file.read(80 * 500_000 - 5, 80 * 500_000 + 22) == b"     HISTORY the same again"
    tail = file.read(file.size - BLOCK, file.size)
    assert (b"END".ljust(80) in tail) == end
    assert not tail.strip(b" ").endswith(b"\0")
    assert len(true_hdus(fits_files.million_cards(1000))[0].header) == 1003


def test_gzipped_files_unpack_to_what_they_were():
    assert gzip.decompress(ODD["gzip"]()) == fits_files.good_file()
    assert [hdu.end for hdu in true_hdus(ODD["gzip"]())] == [
        hdu.end for hdu in true_hdus(fits_files.good_file())
    ]
