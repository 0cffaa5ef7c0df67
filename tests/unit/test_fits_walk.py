"""The walk from header to header: what it finds, and what it costs."""

from __future__ import annotations

import io
import pickle
from functools import cache

import numpy as np
import pytest
from astropy.io import fits

from fits_source import MemoryFile, opened, run
from nuncius._core.operations import Piece
from nuncius.cloudfits import images
from nuncius.cloudfits.walk import walk
from nuncius.errors import FileChangedError, FitsError, NotFoundError, TruncatedFitsError


def written(*hdus, primary=None):
    file = io.BytesIO()
    fits.HDUList([primary or fits.PrimaryHDU(), *hdus]).writeto(file)
    return file.getvalue()


def image(number, rows=300, cards=90):
    # All cards at once: astropy takes seconds to add thousands of them one by one.
    header = fits.Header([("EXTNAME", f"CCD{number}"), *((f"KEY{key}", key) for key in range(cards))])
    return fits.ImageHDU(np.full((rows, 512), number, dtype=">i2"), header)


@cache
def extensions(number, **options):
    return written(*(image(n, **options) for n in range(number)))


def truth(data):
    with fits.open(io.BytesIO(data)) as hdus:
        return [(hdu._header_offset, hdu._data_offset, hdu.size, hdu.name) for hdu in hdus]


def found(file):
    return [(hdu.header_offset, hdu.data_offset, hdu.data_size, hdu.name) for hdu in file]


def header_bytes(file):
    return sum(len(hdu.raw) for hdu in file)


def test_equal_extensions_take_three_round_trips():
    data = extensions(100)
    file, reader, source = opened(data)
    assert found(file) == truth(data)
    assert reader.stats.round_trips == 3
    assert reader.stats.requests == 100
    assert reader.stats.bytes <= 1.1 * header_bytes(file)
    assert reader.stats.used_bytes == header_bytes(file)
    assert source.waves == [1, 1, 98]


def test_nextend_saves_one_more():
    primary = fits.PrimaryHDU()
    primary.header["NEXTEND"] = 100
    data = written(*(image(n) for n in range(100)), primary=primary)
    file, reader, _ = opened(data)
    assert found(file) == truth(data)
    assert reader.stats.round_trips == 2


@pytest.mark.parametrize("period", [2, 3, 6])
def test_a_repeating_pattern_is_seen_after_two_periods(period):
    data = written(*(image(n, rows=300 + 40 * (n % period)) for n in range(period * 12)))
    file, reader, _ = opened(data)
    assert found(file) == truth(data)
    assert reader.stats.round_trips <= 2 * period + 1


def test_a_wrong_guess_costs_bytes_and_nothing_else():
    """The lengths of the first five suggest a pattern that ends exactly at the end of the file, and then it is another."""
    rows = [300] * 5 + [340, 260] + [300] * 5
    data = written(*(image(n, rows=count) for n, count in enumerate(rows)))
    file, reader, _ = opened(data)
    assert found(file) == truth(data)
    assert reader.stats.wasted_bytes > 0


def test_a_wrong_nextend_is_not_believed():
    primary = fits.PrimaryHDU()
    primary.header["NEXTEND"] = 4
    data = written(*(image(n, rows=300 + 10 * n) for n in range(6)), primary=primary)
    file, _, _ = opened(data)
    assert found(file) == truth(data)


def test_a_file_of_the_same_layout_takes_one_round_trip():
    data = written(*(image(n, rows=300 + 7 * (n * n % 11)) for n in range(40)))
    sibling, reader, _ = opened(data)
    assert reader.stats.round_trips > 10
    file, reader, source = opened(data, like=sibling.hdus)
    assert found(file) == truth(data)
    assert reader.stats.round_trips == 1
    assert len(source.ranges) == 41


def test_a_layout_that_is_another_changes_nothing():
    sibling, _, _ = opened(extensions(5, rows=777))
    data = extensions(7)
    file, _, _ = opened(data, like=sibling.hdus)
    assert found(file) == truth(data)


def test_a_layout_that_is_known_by_the_size_is_asked_for():
    data = written(*(image(n, rows=300 + 7 * (n * n % 11)) for n in range(40)))
    sibling, _, _ = opened(data)
    asked = []

    def learned(primary, size):
        asked.append((primary.index, size))
        return sibling.hdus

    file, reader, _ = opened(data, learned=learned)
    assert asked == [(0, len(data))]
    assert found(file) == truth(data)
    assert reader.stats.round_trips == 2


def test_a_cube_takes_two_requests():
    cube = fits.ImageHDU(np.zeros((100, 100, 40), dtype=">f4"))
    table = fits.BinTableHDU.from_columns([fits.Column(f"C{n}", "D", array=np.zeros(5)) for n in range(100)])
    data = written(cube, table)
    file, _, source = opened(data)
    assert found(file) == truth(data)
    assert len(source.ranges) == 2
    assert not any(end > len(data) + 64 * 1024 for _, end in source.ranges)


def test_long_headers_are_read_by_doubling():
    hdus = [image(n, rows=10, cards=cards) for n, cards in enumerate((10, 2400, 30, 5000))]
    for hdu in hdus:
        del hdu.header["KEY0"]
    data = written(*hdus)
    file, reader, _ = opened(data)
    assert found(file) == truth(data)
    assert reader.stats.requests <= 9


def test_predicted_headers_that_are_longer_are_read_on_side_by_side():
    hdus = [image(n, rows=2000, cards=30 if n < 2 else 900) for n in range(20)]
    shorter = -(-(900 - 30) * 80 // 2880) * 2880
    for hdu in hdus[:2]:
        hdu.data = np.zeros((hdu.data.size * 2 + shorter) // 2, dtype=">i2")
    data = written(*hdus)
    file, reader, _ = opened(data)
    assert found(file) == truth(data)
    assert reader.stats.round_trips <= 8


def test_only_so_many_headers_or_up_to_one_by_name():
    data = extensions(20)
    file, _, _ = opened(data, hdus=3)
    assert len(file) == 3
    assert not file.complete
    file, _, _ = opened(data, hdus="ccd4")
    assert file.hdus[-1].name == "CCD4"
    assert opened(data, hdus=21)[0].complete
    with pytest.raises(NotFoundError, match=r"no HDU 'ccd20' .* it has PRIMARY, CCD0, CCD1"):
        opened(data, hdus="ccd20")


# Odd files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("junk", [b"\0" * 2880, b"junk" * 5000, b"\0" * 100, b"\0" * 79])
def test_what_follows_the_last_hdu_is_said(junk):
    file, _, _ = opened(extensions(3) + junk)
    assert len(file) == 4
    assert file.trailing_bytes == len(junk)


def test_data_that_is_cut_is_said_and_the_headers_are_there():
    data = extensions(3)
    file, reader, source = opened(data[:-200_000])
    assert [hdu.truncated for hdu in file] == [False, False, False, True]
    assert file.truncated
    with pytest.raises(TruncatedFitsError):
        run(reader.read_one(file[3].data_offset, file[3].data_offset + file[3].data_size), source)


def test_missing_padding_is_no_damage():
    data = written(image(0, rows=3))
    file, _, _ = opened(data[:-100])
    assert not file.truncated
    assert file.trailing_bytes == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>login</html>", "page of HTML"),
        (b"\n <html>", "page of HTML"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "XML"),
        (b"\x1f\x8b\x08\x00rest", "whole_file=True"),
        (b"BZh91AY", "compressed"),
        (b"\x89PNG\r\n", "begins with"),
        (b"SIMPLE", "begins with"),
        (b"XTENSION= 'IMAGE   '", "begins with"),
    ],
)
def test_what_is_no_fits_file_is_said(data, message):
    with pytest.raises(FitsError, match=message) as caught:
        opened(data)
    assert caught.value.position == "byte 0"


def test_a_header_without_end_is_an_error_that_says_how_to_read_the_others():
    data = extensions(2)
    begin = truth(data)[2][0]
    cut = data[: begin + 2880]
    with pytest.raises(TruncatedFitsError, match=r"HDU 2 .* no END .* hdus=2") as caught:
        opened(cut)
    assert caught.value.position == "HDU 2"
    assert len(opened(cut, hdus=2)[0]) == 2


@pytest.mark.parametrize("length", [80, 800, 2879])
def test_a_file_that_ends_in_the_first_block_of_a_header(length):
    data = extensions(2, cards=3)
    begin = truth(data)[2][0]
    with pytest.raises(TruncatedFitsError, match="HDU 2"):
        opened(data[: begin + length])


def test_a_file_that_ends_inside_the_last_block_of_a_header():
    data = written()
    with pytest.raises(TruncatedFitsError, match="cut"):
        opened(data[:-80])


def test_negative_axes_are_an_error_and_huge_ones_are_truncated():
    data = extensions(1)
    begin = truth(data)[1][0]
    card = data.find(b"NAXIS2", begin)
    negative = data[:card] + b"NAXIS2  = -5".ljust(80) + data[card + 80 :]
    with pytest.raises(FitsError, match="impossible"):
        opened(negative)
    huge = data[:card] + b"NAXIS2  = 100000000000000000".ljust(80) + data[card + 80 :]
    file, _, _ = opened(huge)
    assert file[1].truncated
    assert file[1].data_size == 2 * 512 * 10**17


def test_a_file_that_is_replaced_in_between():
    class Replaced(MemoryFile):
        def answer(self, need):
            piece = super().answer(need)
            self.etag = "v2"
            return piece

    source = Replaced(extensions(10))
    with pytest.raises(FileChangedError):
        run(walk(source), source)
    assert len(source.ranges) == 2


def test_versions_that_differ_between_the_requests_of_one_wave():
    """A store that ignores conditions sends whatever it has."""

    class Careless(MemoryFile):
        def answer(self, need):
            return Piece(self.data[need.start : need.end], len(self.data), "v1" if need.start == 0 else "v2")

    data = extensions(10)
    sibling, _, _ = opened(data)
    source = Careless(data)
    with pytest.raises(FileChangedError, match="replaced while its headers were read"):
        run(walk(source, like=sibling.hdus), source)


def test_a_store_that_sends_less_than_it_says_is_an_error_and_not_asked_for_ever():
    class Short(MemoryFile):
        def answer(self, need):
            return Piece(self.data[need.start : need.end][:3000], len(self.data), "v1")

    source = Short(extensions(3))
    with pytest.raises(TruncatedFitsError, match="gave 3,000 bytes"):
        run(walk(source), source)


def test_guesses_that_overlap_what_is_there():
    """A piece that is read on stays the one that is read on, whatever else begins inside of it."""
    data = written(image(0, rows=3, cards=2400), image(1, rows=3))
    sibling, _, _ = opened(written(*(image(n, rows=1, cards=3) for n in range(12))))
    file, _, _ = opened(data, like=sibling.hdus, overread=2880)
    assert found(file) == truth(data)


@pytest.mark.parametrize("step", [2, -1, -3, 16, 17, -40])
def test_steps_along_the_last_axis_take_one_run_a_row(step):
    pixels = np.arange(20 * 512, dtype=">i2").reshape(20, 512)
    hdu = fits.ImageHDU(pixels)
    data = written(hdu)
    file, reader, source = opened(data, overread=2880)
    source.ranges.clear()
    found_pixels = run(images.read_section(reader, file[1], (slice(3, 9), slice(None, None, step))), source)
    assert np.array_equal(found_pixels, pixels[3:9, ::step])
    assert found_pixels.dtype == pixels.dtype
    assert len(source.ranges) == 1


# What a description is --------------------------------------------------------------------------------------------


def test_hdus_are_found_by_number_name_and_version():
    hdus = [fits.ImageHDU(name="SCI", ver=1), fits.ImageHDU(name="SCI", ver=2), fits.ImageHDU(name="DQ")]
    file, _, _ = opened(written(*hdus))
    assert file["sci"].index == 1
    assert file["SCI", 2].index == 2
    assert file[-1].name == "DQ"
    assert file["primary"].index == 0
    for wrong in (slice(1, 3), None, 1.5, ("SCI",)):
        with pytest.raises(TypeError, match="its number, its name"):
            file[wrong]
    with pytest.raises(KeyError, match="PRIMARY, SCI, SCI,2, DQ"):
        file["ERR"]
    with pytest.raises(IndexError, match="it has 4"):
        file[4]


def test_descriptions_pickle_with_their_headers():
    file, _, _ = opened(extensions(3))
    file[1].header.append(("LOCAL", 1))
    again = pickle.loads(pickle.dumps(file))
    assert found(again) == found(file)
    assert again[2].raw == file[2].raw


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("NAME", "it's"),
        ("ratio", 0.5),
        ("COUNT", 7),
        ("FLAG", True),
        ("LONG", "x" * 200),
        ("very long key", 3),
        ("Z", None),
    ],
)
def test_get_gives_what_the_header_gives(key, value):
    made = fits.ImageHDU(np.zeros(3))
    for name, content in [
        ("NAME", "it's"),
        ("RATIO", 0.5),
        ("COUNT", 7),
        ("FLAG", True),
        ("LONG", "x" * 200),
    ]:
        made.header[name] = content
    made.header["HIERARCH very long key"] = 3
    file, _, _ = opened(written(made))
    assert file[1].get(key) == value
    assert file[1].get(key, "default") == (value if value is not None else "default")
    assert file[1].header.get(key) == value
