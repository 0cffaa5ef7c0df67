"""Sections of compressed images, tile by tile, against astropy's sections of the whole file."""

from __future__ import annotations

import gzip
import io
import itertools
import re
import struct
import threading
import tracemalloc
import zlib
from typing import Any

import astropy
import numpy as np
import pytest
from astropy.io import fits

from nuncius._core.operations import Call, Gather, Outcome, Piece, ReadRange
from nuncius.cloudfits import blocks
from nuncius.cloudfits.hdu import HduDescription
from nuncius.cloudfits.ranges import Reader
from nuncius.cloudfits.tiles import read_tiles, tiles_dtype
from nuncius.errors import ConfigurationError, FitsError, TruncatedFitsError, UnsupportedError

OLD = int(astropy.__version__.split(".")[0]) < 8
modern = pytest.mark.skipif(OLD, reason=f"astropy {astropy.__version__} does less than newer ones")


class Local:
    """Bytes as a source."""

    url = "memory/image.fits.fz"

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read: list[tuple[int, int]] = []

    def answer(self, need: ReadRange) -> Piece:
        self.read.append((need.start, need.end))
        return Piece(self.data[need.start : need.end], len(self.data))


def run(operation: Any, source: Local) -> Any:
    """Drive an operation by hand."""
    answer = None
    while True:
        try:
            need = operation.send(answer)
        except StopIteration as stop:
            return stop.value
        match need:
            case ReadRange():
                answer = source.answer(need)
            case Gather():
                answer = [Outcome(run(part, source)) for part in need.operations]
            case Call():
                answer = need.function(*need.args)


def describe(data: bytes, index: int = 1) -> HduDescription:
    at = 0
    for number in range(index + 1):
        length = blocks.header_length(data, at)
        raw = data[at : at + length]
        structure = blocks.parse_structure(raw, where="memory", position=f"HDU {number}")
        hdu = HduDescription(number, raw, structure, header_offset=at, url=Local.url)
        at = hdu.end
    return hdu


def section(data: bytes, box: Any, *, index: int = 1) -> Any:
    source = Local(data)
    return run(read_tiles(Reader(source, size=len(data)), describe(data, index), box), source)


def assert_same(data: bytes, boxes: Any, *, index: int = 1) -> None:
    with fits.open(io.BytesIO(data)) as opened:
        for box in boxes:
            ours = section(data, box, index=index)
            theirs = opened[index].section[tuple(slice(*pair) for pair in box)]
            assert ours.dtype == theirs.dtype, box
            assert ours.shape == theirs.shape, box
            assert ours.tobytes() == theirs.tobytes(), box


def compressed(image: Any, header: Any = None, **options: Any) -> bytes:
    file = io.BytesIO()
    hdu = fits.CompImageHDU(image, header=header, **options)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(file)
    return file.getvalue()


def boxes_of(shape: tuple[int, ...], some: int = 3) -> list[list[tuple[int, int]]]:
    """The whole image, its last pixel, its middle, nothing, and some at random."""
    rng = np.random.default_rng(len(shape))
    found = [
        [(0, n) for n in shape],
        [(n - 1, n) for n in shape],
        [(n // 3, 2 * n // 3 + 1) for n in shape],
        [(n // 2, n // 2) for n in shape],
    ]
    for _ in range(some):
        found.append([tuple(sorted(rng.choice(n + 1, 2, replace=False).tolist())) for n in shape])
    return found


def sky(shape: tuple[int, ...], dtype: str) -> Any:
    """A noisy sky with some stars."""
    rng = np.random.default_rng(7)
    image = rng.normal(100, 12, shape)
    flat = image.reshape(-1)
    flat[rng.choice(flat.size, 20)] += 9000 if np.dtype(dtype).itemsize > 1 else 60
    if np.dtype(dtype).kind != "f":
        image = np.clip(image, 0, np.iinfo(dtype).max)
    return image.astype(dtype)


# Each codec with each tile shape and type --------------------------------------------------------------------------------

SHAPES = {
    "rows": ((50, 70), None),
    "squares": ((50, 70), (16, 16)),
    "one tile": ((50, 70), (50, 70)),
    "columns": ((50, 70), (50, 1)),
    "planes of a cube": ((5, 33, 41), (1, 10, 12)),
    "blocks of a cube": ((7, 20, 23), (3, 8, 23)),
    "line": ((500,), (64,)),
    "four axes": ((3, 2, 17, 19), (1, 2, 5, 19)),
}
HCOMPRESS_SHAPES = {
    "strips": ((50, 70), None),
    "squares": ((48, 70), (16, 22)),
    "one tile": ((50, 70), (50, 70)),
    "planes of a cube": ((5, 34, 40), (1, 10, 12)),
}
TYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
CODECS = ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "NOCOMPRESS", "HCOMPRESS_1")
# What astropy doesn't write: it refuses, or writes 32-bit integers instead and warns.
NARROWED = dict.fromkeys([(codec, kind) for codec in ("RICE_1", "HCOMPRESS_1") for kind in ("i8", "u8")])
NARROWED["PLIO_1", "i8"] = None
REFUSED = {("PLIO_1", kind): None for kind in ("u2", "u4", "u8")}


def rows() -> list[Any]:
    found = []
    for codec, kind in itertools.product(CODECS, TYPES):
        shapes = HCOMPRESS_SHAPES if codec == "HCOMPRESS_1" else SHAPES
        for name in ["squares"] if kind in ("i1", "u4", "u8") else shapes:
            if (codec, kind) not in NARROWED and (codec, kind) not in REFUSED:
                found.append(pytest.param(codec, kind, *shapes[name], id=f"{codec}-{kind}-{name}"))
    return found


@pytest.mark.parametrize(("codec", "kind", "shape", "tile"), rows())
def test_each_codec_type_and_tile_shape(codec, kind, shape, tile):
    if OLD and (codec, kind) == ("PLIO_1", "i1"):
        pytest.skip("this astropy writes no signed bytes as PLIO")
    data = compressed(sky(shape, kind), compression_type=codec, tile_shape=tile)
    assert_same(data, boxes_of(shape, 1))


def test_the_other_name_of_rice():
    data = patched(compressed(sky((50, 70), "i2"), tile_shape=(16, 16)), "ZCMPTYPE", "'RICE_ONE'")
    assert_same(data, boxes_of((50, 70)))


@pytest.mark.parametrize(("codec", "kind"), NARROWED)
@pytest.mark.filterwarnings("ignore:.* compression doesn't support 64 integers")
@modern
def test_integers_that_astropy_narrows_are_read_as_it_reads_them(codec, kind):
    data = compressed(sky((48, 70), kind), compression_type=codec, tile_shape=(16, 22))
    assert section(data, [(0, 48), (0, 70)]).dtype.itemsize == 4
    assert_same(data, boxes_of((48, 70)))


@pytest.mark.parametrize(("codec", "kind"), REFUSED)
@modern
def test_what_astropy_does_not_write(codec, kind):
    with pytest.raises(ValueError, match="does not support unsigned"):
        compressed(sky((48, 70), kind), compression_type=codec)


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("codec", ["GZIP_1", "GZIP_2", "NOCOMPRESS"])
def test_floats_without_loss(codec, kind):
    image = sky((50, 70), kind)
    image[3, 5:60] = np.nan
    data = compressed(image, compression_type=codec, tile_shape=(16, 22), quantize_level=0.0)
    assert np.array_equal(section(data, [(2, 30), (4, 65)]), image[2:30, 4:65], equal_nan=True)
    assert_same(data, boxes_of((50, 70)))


# Quantized floats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 9990, 10000])
@pytest.mark.parametrize("method", [1, 2])
@pytest.mark.parametrize("codec", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"])
def test_dither_goes_on_as_in_the_whole_image(codec, method, seed):
    shape = (3, 48, 66) if codec == "HCOMPRESS_1" else (3, 50, 70)
    for kind in ("f4", "f8"):
        image = sky(shape, kind)
        image[1, 20:30] = 0
        data = compressed(
            image, compression_type=codec, tile_shape=(1, 16, 11), quantize_method=method, dither_seed=seed
        )
        assert_same(data, boxes_of(shape))


@pytest.mark.parametrize("shape", [(20_200,), (2, 20_050), (1, 10_020, 2), (2, 3, 8_001), (10_003, 2)])
def test_dither_repeats_itself_after_ten_thousand_tiles(shape):
    image = sky(shape, "f4")
    tile = [1] * (len(shape) - 1) + [min(shape[-1], 2)]
    data = compressed(image, compression_type="GZIP_1", tile_shape=tile, quantize_method=1, dither_seed=4321)
    last = [(n - 1, n) for n in shape]
    middle = [(n // 2, min(n, n // 2 + 9)) for n in shape]
    edge = [(max(0, n - 12), n) for n in shape]
    assert_same(data, [last, middle, edge])


@pytest.mark.parametrize("method", [-1, 1, 2])
def test_tiles_that_do_not_quantize_and_missing_values(method):
    image = sky((60, 64), "f4")
    image[:16] = 5.0  # no noise: kept without loss
    image[20:23, 10:30] = np.nan
    image[40:44] = 0
    data = compressed(image, tile_shape=(8, 16), quantize_method=method, dither_seed=50)
    assert_same(data, boxes_of((60, 64)))
    assert np.isnan(section(data, [(21, 22), (12, 13)])).all()


def test_quantized_floats_whose_dither_is_not_said_are_refused():
    data = compressed(sky((50, 70), "f4"), tile_shape=(16, 16), quantize_method=1, dither_seed=50)
    for name, value, message in [
        ("ZDITHER0", "0", "ZDITHER0 is 0"),
        ("ZDITHER0", "10001", "ZDITHER0 is 10001"),
        ("ZDITHER0", None, "ZDITHER0 is missing"),
        ("ZQUANTIZ", "'NONE    '", "ZQUANTIZ is 'NONE'"),
        ("ZQUANTIZ", "'SOMEHOW '", "ZQUANTIZ is 'SOMEHOW'"),
    ]:
        with pytest.raises(FitsError, match=message):
            section(patched(data, name, value), [(0, 5), (0, 5)])


# Scaling, blanks, lossy compression --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cards",
    [
        {"BSCALE": 0.25},
        {"BZERO": 1000.5},
        {"BSCALE": 2.0, "BZERO": -7.0},
        {"BLANK": 100},
        {"BLANK": 100, "BSCALE": 0.5, "BZERO": 3.0},
        {"BLANK": 0},
        {"BZERO": 32768},
        {"BZERO": 32768, "BLANK": 5},
        {"BZERO": -128},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4"])
@pytest.mark.filterwarnings("ignore:Invalid 'BLANK' keyword")
def test_scaled_images_and_blanks(kind, cards):
    image = sky((50, 70), kind)
    image[::7] = 100
    data = compressed(image, tile_shape=(16, 16))
    for name, value in cards.items():
        data = patched(data, name, f"{value:>20}")
    assert_same(data, boxes_of((50, 70)))


@pytest.mark.parametrize("name", ["ZBLANK", "BLANK"])
@pytest.mark.filterwarnings("ignore:Invalid 'BLANK' keyword")
def test_blank_of_quantized_floats_in_the_header(name):
    image = sky((50, 70), "f4")
    image[10:12] = np.nan
    data = patched(compressed(image, tile_shape=(16, 16)), name, "-2147483648")
    assert_same(data, boxes_of((50, 70)))


@pytest.mark.parametrize("smooth", [0, 1])
@pytest.mark.parametrize("scale", [0, 2.5, -20])
def test_lossy_hcompress(scale, smooth):
    data = compressed(
        sky((64, 70), "i2"), compression_type="HCOMPRESS_1", tile_shape=(16, 22),
        hcomp_scale=scale, hcomp_smooth=smooth,
    )  # fmt: skip
    assert_same(data, boxes_of((64, 70)))


# Tables that astropy doesn't write ---------------------------------------------------------------------------------------


def tile_file(
    columns: list[tuple[str, str, list[Any]]],
    image: dict[str, Any],
    *,
    gap: int = 0,
    shared: bool = False,
    backwards: bool = False,
) -> bytes:
    """Return a file with a compressed image: a column is (name, form, what each row has)."""
    count = len(columns[0][2])
    forms = {"P": ">2i4", "Q": ">2i8", "D": ">f8", "J": ">i4", "E": ">f4"}
    table = np.zeros(count, dtype=[(name, forms[form.lstrip("1")[0]]) for name, form, _ in columns])
    heap, places = bytearray(b"unused"), {}
    for name, form, values in columns:
        width = {"B": 1, "I": 2, "J": 4, "E": 4, "D": 8}.get(form[-1], 1)
        for row in reversed(range(count)) if backwards else range(count):
            value = values[row]
            if isinstance(value, bytes):
                if not (shared and value in places):
                    places[value] = len(heap)
                    heap += value + b"gap"
                table[name][row] = (len(value) // width, places[value]) if value else (0, 0)
            else:
                table[name][row] = value
    cards = {
        "XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2, "NAXIS1": table.dtype.itemsize, "NAXIS2": count,
        "PCOUNT": gap + len(heap), "GCOUNT": 1, "TFIELDS": len(columns), "ZIMAGE": True,
    }  # fmt: skip
    for number, (name, form, _) in enumerate(columns, 1):
        cards |= {f"TTYPE{number}": name, f"TFORM{number}": form}
    if gap:
        cards["THEAP"] = table.nbytes + gap
    header = fits.Header({**cards, **image}.items())
    body = table.tobytes() + b"\xaa" * gap + bytes(heap)
    primary = fits.PrimaryHDU().header.tostring().encode()
    return primary + header.tostring().encode() + body + bytes(-len(body) % blocks.BLOCK)


def cards_of(shape: tuple[int, ...], tile: tuple[int, ...], bitpix: int, codec: str) -> dict[str, Any]:
    cards: dict[str, Any] = {"ZCMPTYPE": codec, "ZBITPIX": bitpix, "ZNAXIS": len(shape)}
    for number, (length, part) in enumerate(zip(shape[::-1], tile[::-1], strict=True), 1):
        cards |= {f"ZNAXIS{number}": length, f"ZTILE{number}": part}
    return cards


def cut(image: Any, tile: tuple[int, int]) -> list[Any]:
    """Return the tiles of an image in the order of their rows."""
    return [
        image[i : i + tile[0], j : j + tile[1]]
        for i in range(0, image.shape[0], tile[0])
        for j in range(0, image.shape[1], tile[1])
    ]


@pytest.mark.parametrize("options", [{}, {"gap": 123}, {"shared": True}, {"backwards": True}], ids=str)
@pytest.mark.parametrize("form", ["1PB", "1QB", "PB", "QB(999)", "1PI"])
def test_descriptors_gaps_and_orders_of_the_heap(form, options):
    image = sky((50, 70), "i2")
    image[:16] = 3
    tiles = [gzip.compress(part.astype(">i2").tobytes(), mtime=0) for part in cut(image, (16, 16))]
    tiles = [tile + bytes(len(tile) % 2) for tile in tiles]
    others = [("NOTE", "1PJ", [b"abcdefgh"] * len(tiles)), ("COMPRESSED_DATA", form, tiles)]
    data = tile_file(others, cards_of((50, 70), (16, 16), 16, "GZIP_1"), **options)
    assert_same(data, boxes_of((50, 70)))
    assert np.array_equal(section(data, [(9, 40), (3, 61)]), image[9:40, 3:61])


@pytest.mark.parametrize(
    ("form", "kind", "bitpix"), [("1PE", "f4", -32), ("1PD", "f8", -64), ("1QI", "i2", 16)]
)
@modern
def test_tiles_that_are_not_compressed(form, kind, bitpix):
    image = sky((50, 70), kind)
    parts = [part.astype(f">{kind}").tobytes() for part in cut(image, (16, 16))]
    packed = [gzip.compress(part) if number % 2 else b"" for number, part in enumerate(parts)]
    plain = [b"" if number % 2 else part for number, part in enumerate(parts)]
    columns = [("COMPRESSED_DATA", "1PB", packed), ("UNCOMPRESSED_DATA", form, plain)]
    data = tile_file(columns, cards_of((50, 70), (16, 16), bitpix, "GZIP_1"))
    assert_same(data, boxes_of((50, 70)))


@pytest.mark.filterwarnings("ignore:Setting default value")
@modern
def test_blanks_scales_and_zeros_of_each_tile():
    image = sky((48, 64), "i4")
    parts = cut(image, (16, 16))
    packed = [gzip.compress(part.astype(">i4").tobytes()) for part in parts]
    blanks = [int(part.flat[5]) for part in parts]
    integers = [("COMPRESSED_DATA", "1PB", packed), ("ZBLANK", "1J", blanks)]
    assert_same(tile_file(integers, cards_of((48, 64), (16, 16), 32, "GZIP_1")), boxes_of((48, 64)))
    rng = np.random.default_rng(3)
    floats = [
        *integers,
        ("ZSCALE", "1D", rng.uniform(0.1, 2, len(parts)).tolist()),
        ("ZZERO", "1D", rng.uniform(-5, 5, len(parts)).tolist()),
    ]
    cards = cards_of((48, 64), (16, 16), -32, "GZIP_1")
    assert_same(tile_file(floats, cards), boxes_of((48, 64)))
    cards |= {"ZQUANTIZ": "SUBTRACTIVE_DITHER_2", "ZDITHER0": 9999}
    assert_same(tile_file(floats, cards), boxes_of((48, 64)))


def test_without_ztile_a_tile_is_a_row():
    image = sky((50, 70), "i2")
    data = compressed(image, compression_type="RICE_1")
    bare = patched(patched(data, "ZTILE1", None), "ZTILE2", None)
    assert np.array_equal(section(bare, [(4, 9), (30, 50)]), image[4:9, 30:50])


def test_long_headers_and_other_hdus():
    header = fits.Header()
    for number in range(400):
        header[f"ZZ{number}"] = (number, "TTYPE1 = 'nothing'")
    header["COMMENT"] = "ZTILE1  = 3 in a comment"
    first = compressed(sky((50, 70), "i2"), header, tile_shape=(16, 16))
    second = compressed(sky((30, 31, 5), "f4"), tile_shape=(7, 7, 5), quantize_method=1, dither_seed=3)
    data = first + second[blocks.BLOCK :]
    assert_same(data, boxes_of((50, 70)), index=1)
    assert_same(data, boxes_of((30, 31, 5)), index=2)


@pytest.mark.parametrize("cards", [{}, {"BSCALE": 0.5}, {"BZERO": 32768}, {"BLANK": 7}], ids=str)
@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8"])
@pytest.mark.filterwarnings("ignore:Invalid 'BLANK' keyword")
def test_the_type_is_known_without_reading(kind, cards):
    data = compressed(sky((50, 70), kind), tile_shape=(16, 16))
    for name, value in cards.items():
        data = patched(data, name, f"{value:>20}")
    with fits.open(io.BytesIO(data)) as opened:
        assert tiles_dtype(describe(data)) == opened[1].section[:2, :2].dtype


# What it costs -----------------------------------------------------------------------------------------------------------


def test_only_the_tiles_of_the_section_are_read():
    data = compressed(sky((512, 512), "i2"), tile_shape=(32, 32))
    source, hdu = Local(data), describe(data)
    values = run(read_tiles(NoGaps(source, size=len(data)), hdu, [(40, 60), (100, 120)]), source)
    assert values.shape == (20, 20)
    assert values.flags.owndata
    table = [(start, end) for start, end in source.read if end <= hdu.data_offset + 256 * 8]
    heap = [(start, end) for start, end in source.read if start >= hdu.data_offset + 256 * 8]
    assert [end - start for start, end in table] == [8]  # one tile: its descriptor, and its bytes
    assert len(heap) == 1
    assert heap[0][1] - heap[0][0] < 2000


class NoGaps(Reader):
    """Reads nothing over."""

    def read(self, starts: Any, ends: Any, *, gap: int = 0) -> Any:
        return super().read(starts, ends, gap=0)


def test_tiles_in_several_threads_at_once():
    data = compressed(sky((256, 256), "i4"), compression_type="HCOMPRESS_1", tile_shape=(128, 128))
    whole = section(data, [(0, 256), (0, 256)])
    wrong = []

    def read() -> None:
        for _ in range(6):
            if not np.array_equal(section(data, [(0, 256), (0, 256)]), whole):
                wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Damage ------------------------------------------------------------------------------------------------------------------


def patched(data: bytes, name: str, value: str | None) -> bytes:
    """Return the file with another value of a keyword in HDU 1; with one more card, or one less."""
    start = blocks.BLOCK
    end = blocks.find_end(data, start)
    cards = [data[at : at + 80] for at in range(start, end, 80)]
    keep = [card for card in cards if card[:8].rstrip().decode() != name]
    if value is not None:
        at = next((at for at, card in enumerate(cards) if card[:8].rstrip().decode() == name), len(keep))
        keep.insert(at, f"{name:<8}= {value:>20}".ljust(80).encode())
    header = b"".join([*keep, b"END".ljust(80)])
    return (
        data[:start]
        + header.ljust(blocks.padded(len(header)))
        + data[start + blocks.header_length(data, start) :]
    )


BOX = [(3, 9), (5, 40)]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ZTILE1", "0", "tiles are said to have 16 x 0 pixels"),
        ("ZTILE2", "-16", "tiles are said to have -16 x 16 pixels"),
        ("ZTILE1", "'wide'", "ZTILE1 is missing or no integer"),
        ("ZTILE1", "1", "needs 280 rows, and there are 20"),
        ("ZNAXIS1", "700", "needs 176 rows, and there are 20"),
        ("ZNAXIS1", "1", "needs 4 rows, and there are 20"),
        ("ZNAXIS2", "100000000000000000", "rows, and there are 20"),
        ("ZNAXIS1", "-70", "axes are"),
        ("ZNAXIS", "0", "ZNAXIS is 0"),
        ("ZNAXIS", "3", "ZNAXIS3 is missing"),
        ("ZNAXIS", "100000", "ZNAXIS is 100000"),
        ("ZBITPIX", "17", "ZBITPIX is 17"),
        ("ZBITPIX", None, "ZBITPIX is missing"),
        ("ZCMPTYPE", "'LZW     '", "ZCMPTYPE is 'LZW'"),
        ("ZCMPTYPE", None, "ZCMPTYPE is None"),
        ("ZVAL1", "0", "Rice BLOCKSIZE is 0"),
        ("ZVAL1", "1000000", "Rice BLOCKSIZE is 1000000"),
        ("ZVAL2", "8", "Rice BYTEPIX is 8"),
        ("ZVAL2", "2.5", "Rice BYTEPIX is None"),
        ("TFIELDS", "0", "TFIELDS is 0"),
        ("TFIELDS", "1000000000", "TFIELDS is 1000000000"),
        ("TFIELDS", "2", "TFORM2 is None"),
        ("TFORM1", "'PB      '", None),
        ("TFORM1", "'1QB     '", "columns take 16 bytes"),
        ("TFORM1", "'2PB     '", "column COMPRESSED_DATA is of type 2PB"),
        ("TFORM1", "'1PA     '", "column COMPRESSED_DATA is of type 1PA"),
        ("TFORM1", "'1PK     '", "column COMPRESSED_DATA is of type 1PK"),
        ("TFORM1", "'8B      '", "no column COMPRESSED_DATA"),
        ("TFORM1", "'what    '", "TFORM1 is 'what'"),
        ("TFORM1", "''", "TFORM1 is ''"),
        ("TTYPE1", "'DATA    '", "no column COMPRESSED_DATA"),
        ("THEAP", "-1", "heap is said to begin at byte -1"),
        ("THEAP", "159", "heap is said to begin at byte 159"),
        ("THEAP", "1000000000000", "heap is said to begin at byte 1,000,000,000,000"),
    ],
)
def test_headers_that_can_not_be_used(name, value, message):
    data = patched(compressed(sky((50, 70), "i2"), tile_shape=(16, 16)), name, value)
    if message is None:
        assert section(data, BOX).shape == (6, 35)
        return
    with pytest.raises(FitsError, match=re.escape(message)) as raised:
        section(data, BOX)
    assert raised.value.position == "HDU 1"


@pytest.mark.parametrize(
    "pair", [(-1, 0), (5, -1), (5, 10**9), (2**31 - 1, 0), (2**31 - 1, 2**31 - 1), (0, 0)]
)
def test_descriptors_that_point_elsewhere(pair):
    data = bytearray(compressed(sky((50, 70), "i2"), tile_shape=(16, 16)))
    struct.pack_into(">2i", data, describe(bytes(data)).data_offset, *pair)
    with pytest.raises(FitsError, match=r"a tile is said to have|tiles have no bytes"):
        section(bytes(data), BOX)


def test_tiles_that_all_are_the_whole_heap_are_refused():
    data = bytearray(compressed(sky((50, 70), "i2"), tile_shape=(16, 16)))
    heap = describe(bytes(data)).structure.pcount
    for row in range(20):
        struct.pack_into(">2i", data, describe(bytes(data)).data_offset + 8 * row, heap - row, row)
    with pytest.raises(FitsError, match="overlap"):
        section(bytes(data), [(0, 50), (0, 70)])


def test_a_file_that_ends_before_its_tiles():
    data = compressed(sky((500, 700), "i2"), tile_shape=(16, 16))
    hdu = describe(data)
    for size in (hdu.data_offset + 100, hdu.data_offset + hdu.data_size - 5000):
        source = Local(data[:size])
        with pytest.raises(TruncatedFitsError):
            run(read_tiles(Reader(source, size=size), hdu, [(480, 500), (680, 700)]), source)


def test_a_box_outside_of_the_image():
    data = compressed(sky((50, 70), "i2"), tile_shape=(16, 16))
    for box in ([(0, 51), (0, 1)], [(-1, 3), (0, 1)], [(5, 3), (0, 1)], [(0, 1)]):
        with pytest.raises(ConfigurationError, match="not inside"):
            section(data, box)


def test_tiles_that_are_far_larger_than_the_section():
    cards = cards_of((16_000, 16_000), (16_000, 16_000), -64, "GZIP_1")
    data = tile_file([("COMPRESSED_DATA", "1PB", [b"tiny"])], cards)
    with pytest.raises(UnsupportedError, match="ask for a larger part"):
        section(data, BOX)
    cards = cards_of((10**9, 10**9), (10**9, 10**9), 8, "RICE_1")
    with pytest.raises(UnsupportedError, match="Download the file"):
        section(tile_file([("COMPRESSED_DATA", "1PB", [b"tiny"])], cards), BOX)


JUNK = [b"\1\2", bytes(64), b"\xff" * 64, bytes(range(64)), gzip.compress(b"short")[:-2] + b"\0"]


@pytest.mark.parametrize("codec", ["GZIP_1", "GZIP_2", "HCOMPRESS_1", "NOCOMPRESS"])
@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_bytes_that_are_no_tiles(codec, junk):
    data = tile_file([("COMPRESSED_DATA", "1PB", [junk])], cards_of((50, 70), (50, 70), 16, codec))
    with pytest.raises(FitsError, match="HDU 1"):
        section(data, BOX)


def test_a_tile_of_rice_that_is_cut():
    data = compressed(sky((50, 70), "i2"), tile_shape=(50, 70))
    assert section(data, BOX).shape == (6, 35)
    for count in (1, 30, 700):
        with pytest.raises(FitsError, match="CfitsioException"):
            section(patched_descriptor(data, count), BOX)


def test_a_small_tile_that_unpacks_to_gigabytes():
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(300)), packer.flush()])
    for column in ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA"):
        columns = [("COMPRESSED_DATA", "1PB", [b""]), ("GZIP_COMPRESSED_DATA", "1PB", [bomb])]
        columns = columns if column != "COMPRESSED_DATA" else [(column, "1PB", [bomb])]
        data = tile_file(columns, cards_of((50, 70), (50, 70), -32, "GZIP_1"))
        tracemalloc.start()
        with pytest.raises(FitsError, match="unpacks to more than 28,000 bytes"):
            section(data, BOX)
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
        tracemalloc.stop()


def test_a_large_gzip_tile_of_several_streams():
    image = np.random.default_rng(1).integers(0, 2**15, (600, 600)).astype(">i2")
    half = image.tobytes()[: image.nbytes // 2], image.tobytes()[image.nbytes // 2 :]
    tile = gzip.compress(half[0]) + gzip.compress(half[1]) + bytes(5)
    data = tile_file([("COMPRESSED_DATA", "1PB", [tile])], cards_of((600, 600), (600, 600), 16, "GZIP_1"))
    assert np.array_equal(section(data, BOX), image[3:9, 5:40])
    cut_off = tile_file(
        [("COMPRESSED_DATA", "1PB", [tile[:-400]])], cards_of((600, 600), (600, 600), 16, "GZIP_1")
    )
    with pytest.raises(FitsError, match="has no end"):
        section(cut_off, BOX)


def test_lists_of_plio_that_claim_more_than_there_is():
    data = bytearray(compressed(sky((48, 70), "i2"), compression_type="PLIO_1", tile_shape=(48, 70)))
    hdu = describe(bytes(data))
    at = hdu.data_offset + 8
    for words in [(0, 7, 30_000), (0, -3, -100), (0, 7, -100, 32_767, 100)]:
        broken = bytearray(data)
        struct.pack_into(f">{len(words)}h", broken, at, *words)
        with pytest.raises(FitsError, match="list of PLIO"):
            section(bytes(broken), BOX)


def test_hcompress_of_other_sides():
    data = compressed(sky((48, 70), "i2"), compression_type="HCOMPRESS_1", tile_shape=(48, 70))
    at = describe(data).data_offset + 8
    assert data[at : at + 2] == b"\xdd\x99"
    for change in [
        (2, b"\0\0\0\0"),
        (2, b"\xff\xff\xff\xff"),
        (6, b"\x7f\xff\xff\xff"),
        (22, b"\xff\xff\xff"),
    ]:
        broken = data[: at + change[0]] + change[1] + data[at + change[0] + len(change[1]) :]
        with pytest.raises(FitsError, match="Hcompress tells of"):
            section(broken, BOX)
    cut_off = patched_descriptor(data, 200)
    assert section(cut_off, BOX).shape == (
        6,
        35,
    )  # the rest reads as zeros, and never as bytes of something else
    assert np.array_equal(section(cut_off, BOX), section(cut_off, BOX))


def patched_descriptor(data: bytes, count: int) -> bytes:
    at = describe(data).data_offset
    return data[:at] + struct.pack(">i", count) + data[at + 4 :]
