"""Every kind of file, read from a store on loopback, is what astropy reads from the whole file: in both colours."""

from __future__ import annotations

import asyncio
import inspect
import io
import random
import warnings
import zlib
from functools import cache

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.nddata.utils import NoOverlapError, PartialOverlapError
from astropy.table import MaskedColumn, Table
from astropy.wcs import WCS

import nuncius
from fits_support import true_hdus
from nuncius import aio
from nuncius.errors import NotFoundError, TruncatedFitsError, UnsupportedError
from nuncius.sandbox import fits_files
from nuncius.sandbox.store import SandboxStore

# What is odd in a header is told by astropy's warnings, ours and its own alike.
pytestmark = [pytest.mark.xdist_group("fits-equality"), pytest.mark.filterwarnings("ignore")]

FILES = {
    **dict(fits_files.kinds()),
    "many images, equal": lambda: whole(fits_files.many_hdus(count=9, header_blocks=2)),
    "many images, random": lambda: whole(fits_files.many_hdus("random", count=7, nextend=False)),
}
IMAGES = {"image", "compressed image"}
TABLES = {"table", "ascii table"}
KINDS = {
    fits.PrimaryHDU: "image",
    fits.ImageHDU: "image",
    fits.CompImageHDU: "compressed image",
    fits.BinTableHDU: "table",
    fits.TableHDU: "ascii table",
    fits.GroupsHDU: "random groups",
}
each_file = pytest.mark.parametrize("name", FILES)


def whole(file):
    return file.read(0, file.size)


@cache
def content(name):
    return FILES[name]()


class Colours:
    """Opens files in one colour, and runs what is to be awaited, so that a test is written once."""

    def __init__(self, colour):
        self.is_async = colour == "async"
        self._runner = asyncio.Runner()
        self._files = {}

    def open(self, url, **options):
        return self.do(aio.open_fits(url, **options)) if self.is_async else nuncius.open_fits(url, **options)

    def kept(self, url):
        """Return a file that is opened once for all tests."""
        if url not in self._files:
            self._files[url] = self.open(url)
        return self._files[url]

    def do(self, value):
        return self._runner.run(awaited(value)) if inspect.isawaitable(value) else value

    def close(self):
        self._runner.close()


async def awaited(value):
    return await value


@pytest.fixture(scope="module", params=["sync", "async"])
def colour(request):
    colours = Colours(request.param)
    yield colours
    colours.close()


@pytest.fixture(scope="module")
def store():
    with SandboxStore() as running:
        for name in FILES:
            running.put(f"{name}.fits", content(name))
        yield running


@pytest.fixture
def opened(store, colour):
    """Open a kind of file in one colour."""
    return lambda name: colour.kept(store.http_url(f"{name}.fits"))


@pytest.fixture
def local():
    """Open kinds of files with astropy, and close them after the test."""
    hdus = []

    def opening(name, **options):
        hdus.append(fits.open(io.BytesIO(content(name)), **options))
        len(hdus[-1])  # reads all headers
        return hdus[-1]

    yield opening
    for each in hdus:
        each.close()


def draws(name):
    return random.Random(zlib.crc32(name.encode()))


# Headers --------------------------------------------------------------------------------------------------------------


@each_file
def test_headers_and_places(opened, local, name):
    file, truth = opened(name), truth_of(name)
    assert len(file) == len(truth)
    assert (file.size, file.truncated, file.trailing_bytes) == (len(content(name)), False, 0)
    for mine, true, hdu in zip(file, truth, local(name), strict=True):
        assert mine.raw == true.raw
        assert mine.header.tostring() == true.header.tostring()
        assert repr(mine.header) == repr(true.header)
        assert (mine.index, mine.name, mine.version) == (true.index, true.name, true.version)
        assert (mine.header_offset, mine.data_offset) == (true.header_offset, true.data_offset)
        assert (mine.data_size, mine.end) == (true.data_size, true.end)
        assert mine.kind == kind_of(hdu)
        if mine.kind in IMAGES:
            assert mine.shape == hdu.shape
            assert mine.bitpix == true.header["BITPIX"]
            assert mine.dtype == hdu.section[:].dtype
        if mine.kind in TABLES:
            assert mine.shape == (true.header["NAXIS2"],)
        assert file[true.name or true.index].index == (
            next(other.index for other in truth if other.name == true.name) if true.name else true.index
        )


@cache
def truth_of(name):
    """Return what astropy finds, without the EXTEND that it adds to a primary header where extensions follow."""
    hdus = true_hdus(content(name))
    if b"EXTEND  =" not in hdus[0].raw:
        hdus[0].header.remove("EXTEND", ignore_missing=True)
    return hdus


def kind_of(hdu):
    if type(hdu) not in KINDS:
        return hdu.header["XTENSION"].strip().lower()
    kind = KINDS[type(hdu)]
    return "empty" if kind == "image" and not hdu.header["NAXIS"] else kind


@each_file
def test_each_keyword_by_get(opened, name):
    for mine, true in zip(opened(name), truth_of(name), strict=True):
        keys = {*true.header, *(key.lower() for key in list(true.header)[:40] if key)}
        for key in {*keys, "NOSUCH", "NO SUCH KEY", "NAXIS9"}:
            assert same_value(mine.get(key, "nothing"), true.header.get(key, "nothing")), key


def same_value(mine, true):
    if isinstance(true, (fits.card.Undefined, fits.header._HeaderCommentaryCards)):
        return str(mine) == str(true)
    return type(mine) is type(true) and mine == true


# Images ---------------------------------------------------------------------------------------------------------------


@each_file
def test_sections(opened, local, colour, name):
    draw = draws(name)
    seen = 0
    for mine, true in zip(opened(name), local(name), strict=True):
        if mine.kind not in IMAGES:
            continue
        typed = true.section[:]  # before its data: astropy forgets BLANK then
        data = true.data
        for key in (..., *(random_key(draw, mine.shape) for _ in range(6))):
            assert_same_pixels(colour.do(mine.section[key]), data[key], typed, key)
            seen += 1
        assert_same_pixels(colour.do(mine.data), data, typed, "data")
    assert seen or not any(kind_of(hdu) in IMAGES for hdu in local(name))


def random_key(draw, shape):
    """Return what may stand in the brackets: numbers, slices, steps backwards, a list, an ellipsis; fewer than axes."""
    keys = [random_axis(draw, length) for length in shape[: draw.randint(1, len(shape))]]
    if draw.random() < 0.3:
        keys.insert(draw.randint(0, len(keys)), ...)
        while len(keys) - 1 > len(shape):
            keys.pop()
    lists = [at for at, key in enumerate(keys) if isinstance(key, list)]
    for at in lists[1:]:
        keys[at] = slice(None)
    # Where a list and numbers meet, numpy moves axes about; a list of its own axis is what a section has.
    if lists:
        keys = [slice(key, key + 1 or None) if isinstance(key, int) else key for key in keys]
    return tuple(keys) if len(keys) != 1 or draw.random() < 0.5 else keys[0]


def random_axis(draw, length):
    if not length:
        return slice(None)
    first, last = sorted((draw.randint(-length, length), draw.randint(-length, length + 3)))
    return draw.choice(
        [
            draw.randint(-length, length - 1),
            slice(first, last),
            slice(first, last),
            slice(None, None, draw.choice([2, 3, -1, -2])),
            slice(draw.randint(0, length - 1), None),
            [draw.randint(-length, length - 1) for _ in range(4)],
            slice(2, 2),
        ]
    )


def assert_same_pixels(mine, true, typed, key):
    assert np.shape(mine) == np.shape(true), key
    assert np.asarray(mine).dtype.newbyteorder("=") == typed.dtype.newbyteorder("="), key
    # Bit by bit: also the sign of zero, and infinities.
    native = typed.dtype.newbyteorder("=")
    one, other = np.asarray(mine, dtype=native), np.asarray(true, dtype=native)
    np.testing.assert_array_equal(one, other, err_msg=str(key))
    if native.kind == "f":
        np.testing.assert_array_equal(np.signbit(one), np.signbit(other), err_msg=str(key))


PIXELS_OF_A_CUTOUT = {
    "inside": ((12.0, 9.0), (5, 8)),
    "odd and half": ((10.4, 8.5), (4, 7)),
    "one number": ((10, 10), 6),
    "over an edge": ((1.2, 3.0), (9, 9)),
    "over a corner": ((29, 21), (8, 14)),
    "larger than the image": ((15, 11), (60, 90)),
    "angles without a WCS": None,
}


@pytest.mark.parametrize("mode", ["trim", "partial", "strict"])
@pytest.mark.parametrize("box", [name for name, value in PIXELS_OF_A_CUTOUT.items() if value])
@pytest.mark.parametrize(
    "name", ["image -32", "image 16 scaled with BLANK", "image 16 of the other sign", "image 8", "RICE_1 i2"]
)
def test_cutouts_by_pixels(opened, local, colour, name, box, mode):
    mine = next(hdu for hdu in opened(name) if hdu.kind in IMAGES)
    position, size = PIXELS_OF_A_CUTOUT[box]
    assert_same_cutout(colour, mine, local(name)[mine.index].data, position, size, mode=mode)


@pytest.mark.parametrize("fill", [None, 0, -1.5])
def test_what_a_cutout_lacks_is_filled(opened, local, colour, fill):
    name = "image -32"
    options = {} if fill is None else {"fill_value": fill}
    assert_same_cutout(
        colour, opened(name)[0], local(name)[0].data, (0, 0), (9, 9), mode="partial", **options
    )


SKY = SkyCoord(150.1, 2.2, unit="deg")
SKY_CUTOUTS = {
    "the middle": (SKY, 3 * u.arcsec),
    "pixels around it": (SKY, (7, 11)),
    "another frame": (SKY.galactic, (1 * u.arcsec, 2 * u.arcsec)),
    "quantity of pixels": (SKY, (5, 9) * u.pixel),
    "near an edge": (SKY.directional_offset_by(100 * u.deg, 6 * u.arcsec), 4 * u.arcsec),
    "pixels in angles": ((20.0, 30.0), 2.5 * u.arcsec),
}


@pytest.mark.parametrize("mode", ["trim", "partial", "strict"])
@pytest.mark.parametrize("case", SKY_CUTOUTS)
def test_cutouts_by_the_sky(opened, local, colour, case, mode):
    mine, true = opened("image with a WCS")[0], local("image with a WCS")[0]
    position, size = SKY_CUTOUTS[case]
    assert_same_cutout(colour, mine, true.data, position, size, mode=mode, wcs=WCS(true.header))


def assert_same_cutout(colour, hdu, data, position, size, *, mode, wcs=None, **options):
    """Compare with `Cutout2D` of the data, or what it refuses with what is refused here."""
    try:
        true = Cutout2D(data, position, size, wcs=wcs, mode=mode, **options)
    except (NoOverlapError, PartialOverlapError):
        with pytest.raises(NotFoundError, match="is not on HDU"):
            colour.do(hdu.cutout(position, size, mode=mode, **options))
        return
    except ValueError:
        # Such as NaN in an image of integers.
        with pytest.raises(ValueError, match="fill_value"):
            colour.do(hdu.cutout(position, size, mode=mode, **options))
        return
    mine = colour.do(hdu.cutout(position, size, mode=mode, **options))
    assert mine.data.dtype.newbyteorder("=") == true.data.dtype.newbyteorder("=")
    np.testing.assert_array_equal(mine.data, true.data)
    for fact in (
        "shape",
        "shape_input",
        "slices_original",
        "slices_cutout",
        "bbox_original",
        "bbox_cutout",
        "origin_original",
        "origin_cutout",
        "position_original",
        "position_cutout",
        "input_position_original",
        "input_position_cutout",
        "center_original",
        "center_cutout",
    ):
        assert repr(getattr(mine, fact)) == repr(getattr(true, fact)), fact
    assert (mine.wcs is None) == (wcs is None)
    if wcs is not None:
        assert mine.wcs.to_header_string() == true.wcs.to_header_string()
        assert mine.wcs.array_shape == true.wcs.array_shape


def test_cutouts_of_more_axes(store, colour):
    data = np.arange(3 * 4 * 20 * 30, dtype="f4").reshape(3, 4, 20, 30)
    header = fits.Header(fits_files.tan_wcs((20, 30)))
    header.update(
        {"WCSAXES": 4, "CTYPE3": "FREQ", "CRPIX3": 1, "CRVAL3": 1e9, "CDELT3": 1e6, "CTYPE4": "STOKES"}
    )
    store.put("cube.fits", fits_files.to_bytes(fits.PrimaryHDU(data, header)))
    hdu = colour.open(store.http_url("cube.fits"))[0]
    mine = colour.do(hdu.cutout(SKY, (5, 7)))
    true = Cutout2D(data[0, 0], SKY, (5, 7), wcs=WCS(hdu.header).celestial)
    assert mine.data.shape == (3, 4, 5, 7)
    np.testing.assert_array_equal(mine.data, data[(..., *true.slices_original)])
    assert mine.wcs.to_header_string() == true.wcs.to_header_string()


# Tables ---------------------------------------------------------------------------------------------------------------


TABLE_FILES = [
    name for name in dict(fits_files.table_kinds()) if "ASCII" not in name and name != "compressed table"
]


@pytest.mark.parametrize("name", [*TABLE_FILES, "ASCII table", "random groups"])
def test_rows_and_columns(opened, local, colour, name):
    file = opened(name)
    draw = draws(name)
    for hdu in file:
        if hdu.kind not in TABLES:
            continue
        true = true_table(name, hdu.index, local)
        count = len(true)
        assert_same_table(colour.do(hdu.rows()), true)
        assert_same_table(colour.do(hdu.data), true)
        for _ in range(4):
            start, stop = draw.randint(-count - 2, count + 2), draw.randint(-count - 2, count + 2)
            assert_same_table(
                colour.do(hdu.rows(start, stop)), true[start : max(start, stop) if start * stop > 0 else stop]
            )
        names = draw.sample(true.colnames, min(3, len(true.colnames)))
        assert_same_table(colour.do(hdu.columns([name.upper() for name in names])), true[names])
        if count:
            numbers = [draw.randrange(-count, count) for _ in range(5)]
            assert_same_table(colour.do(hdu.columns(names, rows=numbers)), true[names][numbers])
        assert_same_table(colour.do(hdu.columns(names, rows=slice(None, None, -2))), true[names][::-2])


def true_table(name, index, local):
    table = Table.read(io.BytesIO(content(name)), format="fits", hdu=index)
    if "snull" in table.colnames:
        # astropy forgets TNULL of columns that are scaled (FITS 4.0, 7.3.2).
        stored = local(name)[index].data.view(np.ndarray)["snull"]
        table.replace_column("snull", MaskedColumn(table["snull"], mask=stored == -99))
    return table


def assert_same_table(mine, true):
    assert mine.colnames == true.colnames
    assert len(mine) == len(true)
    for name in true.colnames:
        one, other = mine[name], true[name]
        assert (one.dtype, one.unit, one.format) == (other.dtype, other.unit, other.format), name
        if other.dtype == object:
            for cell, wanted in zip(one, other, strict=True):
                assert cell.dtype.newbyteorder("=") == wanted.dtype.newbyteorder("=")
                np.testing.assert_array_equal(cell, wanted, err_msg=name)
            continue
        missing = np.ma.getmaskarray(np.ma.asarray(other))
        np.testing.assert_array_equal(np.ma.getmaskarray(np.ma.asarray(one)), missing, err_msg=name)
        np.testing.assert_array_equal(np.asarray(one)[~missing], np.asarray(other)[~missing], err_msg=name)


# An HDUList -----------------------------------------------------------------------------------------------------------


@each_file
def test_hdulist_is_the_one_of_the_local_file(opened, local, colour, name):
    file = opened(name)
    everything = range(len(file)) if colour.is_async else ()
    mine, true = colour.do(file.hdulist(data=everything)), local(name)
    assert described(mine) == described(true)
    for one, other in zip(mine, true, strict=True):
        assert type(one) is type(other)
        assert one.fileinfo()["datLoc"] == other.fileinfo()["datLoc"]
        assert outcome(lambda one=one: data_bytes(one)) == outcome(lambda other=other: data_bytes(other))
    assert verified(mine) == verified(true)
    mine.close()


def described(hdus):
    return outcome(lambda: hdus.info(output=False))


def data_bytes(hdu):
    data = hdu.data
    if data is None or data.dtype.fields is None:
        return None if data is None else (data.dtype, data.shape, data.tobytes())
    # A table by its columns: between those of an ASCII table stands what was in the memory before.
    return [
        (name, *(str(part) for part in (data[name].dtype, list(data[name])))) for name in data.dtype.names
    ]


def outcome(make):
    """Return what a function gives, or the error that it raises: astropy can't read each kind itself."""
    try:
        return make()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def verified(hdus):
    lines = io.StringIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error = outcome(lambda: hdus.verify("silentfix+warn"))
    return error, [str(warning.message) for warning in caught], lines.getvalue()


def test_an_hdulist_reads_what_is_touched(store, opened, colour):
    if colour.is_async:
        pytest.skip("in async code what is needed is named before")
    file = opened("many images, random")
    store.reset()
    with file.hdulist() as hdus:
        assert hdus["CCD3"].header["EXTNAME"] == "CCD3"
        assert store.stats.requests == 0
        assert np.array_equal(hdus["CCD3"].section[1:2, 4:9], colour.do(file["CCD3"].section[1:2, 4:9]))
        before = store.stats.bytes
        assert before < 10_000
        assert hdus["CCD4"].data.shape == file["CCD4"].shape
        assert store.stats.bytes - before == file["CCD4"].data_size


def test_an_hdulist_in_async_code_says_what_was_not_read(opened, colour):
    if not colour.is_async:
        pytest.skip("sync code reads it")
    hdus = colour.do(opened("many images, equal").hdulist(data=["CCD2", 3]))
    assert hdus["CCD2"].data.shape == hdus[3].data.shape == (512, 512)
    with pytest.raises(UnsupportedError, match=r"await fits.hdulist\(data="):
        _ = hdus[1].data


@pytest.mark.parametrize("name", ["random groups", "random groups alone", "foreign extension", "no data"])
def test_the_data_of_other_kinds(opened, local, colour, name):
    for mine, true in zip(opened(name), local(name), strict=True):
        if mine.kind in IMAGES | TABLES:
            continue
        one, other = colour.do(mine.data), true.data
        assert type(one) is type(other)
        if isinstance(other, fits.GroupData):
            assert one.dtype == other.dtype
            assert one.tobytes() == other.tobytes()
            np.testing.assert_array_equal(one.par("UU"), other.par("UU"))
            np.testing.assert_array_equal(one.par("DATE"), other.par("DATE"))
        else:
            assert np.array_equal(one, other)
        for ask in (lambda hdu=mine: colour.do(hdu.section[0]), lambda hdu=mine: colour.do(hdu.rows(0, 1))):
            with pytest.raises(UnsupportedError, match=mine.kind):
                ask()


# A file larger than memory, and S3 -----------------------------------------------------------------------------------


def test_a_cube_of_45_gigabytes(store, colour):
    store.put("tess.fits", fits_files.tess_cube(), public=False)
    store.reset()
    keys = {"endpoint": store.s3_endpoint, "credentials": (store.access_key, store.secret_key)}
    file = colour.open(store.s3_url("tess.fits"), **keys)
    assert [hdu.raw for hdu in file] == [hdu.raw for hdu in true_hdus(fits_files.tess_cube())]
    assert store.stats.requests == file.stats.requests == 2
    pixels = fits_files.TESS_PIXELS
    for key in ((1000, slice(500, 503), 7, 0), (slice(-2, None), -1, slice(3, 900, 100)), (0, 0)):
        mine = colour.do(file[1].section[key])
        assert mine.dtype == ">f4"
        np.testing.assert_array_equal(mine, pixels[key])
    series = colour.do(file[1].section[1000:1005, 1000:1005, :, 0])
    np.testing.assert_array_equal(series, pixels[1000:1005, 1000:1005, :, 0])
    with fits.open(fits_files.tess_cube().open()) as hdus:
        frames = Table.read(hdus, hdu=2)[900:1000]
        frames.replace_column("FFI_FILE", frames["FFI_FILE"].astype("S38"))
    assert_same_table(colour.do(file["FFIS"].rows(900, 1000)), frames)
    assert store.stats.bytes < 1_000_000
    assert {record.interface for record in store.log} == {"s3"}


@pytest.mark.parametrize(
    "name", ["image -64 scaled", "table of variable length, Q", "GZIP_2 i2", "header with CONTINUE"]
)
def test_the_same_by_each_interface(store, colour, name):
    """Plain HTTP, S3, Google and a presigned link give the same file."""
    s3 = {"endpoint": store.s3_endpoint, "credentials": (store.access_key, store.secret_key)}
    places = [
        (store.http_url(f"{name}.fits"), {}),
        (store.s3_url(f"{name}.fits"), s3),
        (store.gcs_url(f"{name}.fits"), {"endpoint": store.gcs_endpoint, "anon": True}),
        (store.presigned_url(f"{name}.fits"), {}),
    ]
    files = [colour.open(url, **options) for url, options in places]
    assert all([hdu.raw for hdu in file] == [hdu.raw for hdu in files[0]] for file in files)
    seen = [str(colour.do(file[-1].data)) for file in files]
    assert seen == [seen[0]] * len(places)


@pytest.mark.parametrize("where", ["data", "padding"])
def test_a_file_that_is_cut_gives_what_is_there(store, colour, where):
    store.put("cut.fits", fits_files.truncated(where))
    file = colour.open(store.http_url("cut.fits"))
    with fits.open(io.BytesIO(fits_files.good_file())) as hdus:
        assert np.array_equal(colour.do(file["A"].data), hdus["A"].data)
        assert np.array_equal(colour.do(file["B"].section[:100]), hdus["B"].data[:100])
        if where == "padding":
            assert not file.truncated
            assert np.array_equal(colour.do(file["B"].data), hdus["B"].data)
            return
    assert file.truncated
    with pytest.raises(TruncatedFitsError, match="HDU 2"):
        colour.do(file["B"].data)
