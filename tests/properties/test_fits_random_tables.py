"""Random tables: whatever the columns, rows and names, the values are those of the whole file, and damage has a type."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fits_source import opened, run
from nuncius.cloudfits.tables import read_columns, table_dtype
from nuncius.errors import NunciusError
from nuncius.sandbox.fits_files.images import after_primary
from nuncius.sandbox.fits_files.tables import all_columns, ascii_table, variable_length
from nuncius.sandbox.fits_files.writing import header_bytes, padded

BYTES = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16}
SIGN = {"I": 1 << 15, "J": 1 << 31, "K": 1 << 63}
QUIET = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@st.composite
def fixed_columns(draw):
    """Give the keywords of a column of a fixed width, and its width in bytes: of what astropy reads as the Standard has it."""
    code = draw(st.sampled_from("LXBIJKAEDCM"))
    repeat = draw(st.sampled_from([None, 1, 1, 2, 3, 6, 12] if code != "A" else [1, 3, 6, 12]))
    count = 1 if repeat is None else repeat
    width = -(-count // 8) if code == "X" else count * BYTES[code]
    keywords = {"TFORM": f"{'' if repeat is None else repeat}{code}"}
    if code in "BIJK":
        meaning = draw(st.sampled_from(["plain", "null", "scaled", "unsigned"]))
        keywords |= {
            "plain": {},
            "null": {"TNULL": draw(st.integers(0, 3))},
            "scaled": {
                "TSCAL": draw(st.sampled_from([0.5, 3, -1.0])),
                "TZERO": 0 if code == "K" else draw(st.sampled_from([0, 7.25])),
            },
            "unsigned": {"TZERO": SIGN[code]} if code in SIGN else {"TZERO": -128},
        }[meaning]
    if code in "ED" and draw(st.booleans()):
        keywords |= {"TSCAL": 2.5}
    if count in (6, 12) and code != "X" and draw(st.booleans()):
        keywords["TDIM"] = "(3,2)" if count == 6 else draw(st.sampled_from(["(2,3,2)", "(3,4)", "(6,2)"]))
    if draw(st.booleans()):
        keywords["TUNIT"] = draw(st.sampled_from(["s", "nJy", "mag", "km / s"]))
    return keywords, width


@st.composite
def columns_with_names(draw, columns, most=8):
    found = draw(st.lists(columns, min_size=1, max_size=most))
    return [
        ({"TTYPE": f"{'cC'[number % 2]}{number}", **keywords}, width)
        for number, (keywords, width) in enumerate(found)
    ]


def cards_of(columns):
    for number, column in enumerate(columns, 1):
        for key, value in column.items():
            text = f"'{value:8s}'" if isinstance(value, str) else f"{value!r:>20s}"
            yield f"{key + str(number):8s}= {text}"


def table_file(columns, rows, data, *, kind="BINTABLE", pcount=0, theap=None):
    length = sum(width for _, width in columns)
    header = [
        f"XTENSION= '{kind:8s}'",
        f"BITPIX  = {8:20d}",
        f"NAXIS   = {2:20d}",
        f"NAXIS1  = {length:20d}",
        f"NAXIS2  = {rows:20d}",
        f"PCOUNT  = {pcount:20d}",
        f"GCOUNT  = {1:20d}",
        f"TFIELDS = {len(columns):20d}",
        *cards_of([keywords for keywords, _ in columns]),
        *([] if theap is None else [f"THEAP   = {theap:20d}"]),
    ]
    return after_primary(header_bytes(header) + padded(data, b" " if kind == "TABLE" else b"\0"))


def random_bytes(columns, rows, seed):
    """Return rows of random bits, but words of letters, few logical values, and some small numbers among the integers."""
    rng = np.random.default_rng(seed)
    parts = []
    for keywords, width in columns:
        part = rng.integers(0, 256, (rows, width), dtype="u1")
        code = keywords["TFORM"].lstrip("0123456789")[0]
        if code in "AL":
            part = rng.choice(np.frombuffer(b"TF" if code == "L" else b"abc \0", dtype="u1"), (rows, width))
        if code in "BIJK":
            high = part.reshape(rows, width // BYTES[code], BYTES[code])
            high[rng.random(high.shape[:2]) < 0.5, : max(BYTES[code] - 1, 0)] = 0
            high[..., -1] %= 4
        if code in "EDCM":
            part.reshape(rows, width // 4, 4)[..., 0] &= 0x3F  # no infinities: scaling them warns
        parts.append(part)
    return np.concatenate(parts, axis=1).tobytes()


def whole_table(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Table.read(io.BytesIO(data), format="fits", hdu=1)


def read(data, names, rows):
    file, reader, source = opened(data, overread=2880)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run(read_columns(reader, file.hdus[1], names, rows), source)


def assert_equal(got, want):
    assert got.colnames == want.colnames
    assert len(got) == len(want)
    for name in want.colnames:
        one, other = got[name], want[name]
        assert (one.dtype, one.shape, one.unit) == (other.dtype, other.shape, other.unit), name
        if one.dtype == object:
            for cell, true in zip(one, other, strict=True):
                assert np.asarray(cell).tobytes() == np.asarray(true, dtype=cell.dtype).tobytes()
            continue
        mask = np.ma.getmaskarray(np.ma.asarray(other))
        np.testing.assert_array_equal(np.ma.getmaskarray(np.ma.asarray(one)), mask)
        np.testing.assert_array_equal(np.asarray(one)[~mask], np.asarray(other)[~mask])


def some_rows(count):
    return st.one_of(
        st.none(),
        st.slices(count),
        st.lists(st.integers(-count, count - 1), max_size=7) if count else st.just([]),
        st.lists(st.booleans(), min_size=count, max_size=count).map(
            lambda flags: np.array(flags, dtype=bool)
        ),
    )


def picked(table, rows):
    return table if rows is None else table[rows] if len(rows_list(rows)) else table[:0]


def rows_list(rows):
    return [0] if isinstance(rows, slice) else rows


@given(columns_with_names(fixed_columns()), st.integers(0, 9), st.integers(0, 2**32), st.data())
@QUIET
def test_columns_of_fixed_width(columns, rows, seed, data):
    file = table_file(columns, rows, random_bytes(columns, rows, seed))
    whole = whole_table(file)
    names = data.draw(st.none() | st.lists(st.sampled_from(whole.colnames), min_size=1, unique=True))
    numbers = data.draw(some_rows(rows))
    got = read(file, names, numbers)
    assert_equal(got, picked(whole if names is None else whole[names], numbers))
    assert table_dtype(opened(file)[0].hdus[1]) == fits.open(io.BytesIO(file))[1].data.dtype


@st.composite
def heaps(draw):
    """Give a file with columns of variable length between others, and what is in their cells, as bytes."""
    rows = draw(st.integers(0, 7))
    gap = draw(st.sampled_from([None, 0, 1, 13]))
    size = draw(st.integers(0, 200))
    heap = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 256, size, dtype="u1").tobytes()
    columns, cells, parts = [], {}, []
    for number in range(draw(st.integers(1, 4))):
        name = f"v{number}"
        if draw(st.integers(0, 3)) == 0:
            columns.append(({"TTYPE": name, "TFORM": "3B"}, 3))
            parts.append(np.full((rows, 3), number, dtype="u1"))
            continue
        code, descriptor = draw(st.sampled_from("BIJKEDCM")), draw(st.sampled_from("PQ"))
        kind = ">i4" if descriptor == "P" else ">i8"
        pairs = []
        for _ in range(rows):
            offset = draw(st.integers(0, size))
            pairs.append((draw(st.integers(0, min((size - offset) // BYTES[code], 9))), offset))
        cells[name] = [heap[offset : offset + count * BYTES[code]] for count, offset in pairs]
        columns.append(({"TTYPE": name, "TFORM": f"1{descriptor}{code}(9)"}, 8 if descriptor == "P" else 16))
        parts.append(np.array(pairs, dtype=kind).reshape(rows, 2).view("u1"))
    body = np.concatenate(parts, axis=1).tobytes()
    before = 0 if gap is None else gap
    theap = None if gap is None else len(body) + gap
    return (
        table_file(columns, rows, body + b"\xee" * before + heap, pcount=before + size, theap=theap),
        cells,
        columns,
        rows,
    )


@given(heaps(), st.data())
@QUIET
def test_columns_of_variable_length(made, data):
    file, cells, columns, rows = made
    names = data.draw(
        st.lists(st.sampled_from([keywords["TTYPE"] for keywords, _ in columns]), min_size=1, unique=True)
    )
    numbers = data.draw(some_rows(rows))
    got = read(file, names, numbers)
    assert got.colnames == names
    for name in names:
        if name in cells:
            meant = np.empty(rows, dtype=object)
            meant[:] = cells[name]
            wanted = meant if numbers is None else meant[numbers] if len(rows_list(numbers)) else meant[:0]
            assert [cell.astype(cell.dtype.newbyteorder(">")).tobytes() for cell in got[name]] == list(wanted)
        else:
            assert all(cell.tolist() == [int(name[1:])] * 3 for cell in got[name])


@st.composite
def ascii_tables(draw):
    """Give an ASCII table whose columns stand anywhere in the row, in any order, and what is in them."""
    rows = draw(st.integers(0, 5))
    forms = draw(
        st.lists(st.sampled_from(["I4", "I9", "F8.3", "E12.4", "D12.4", "A5", "A1"]), min_size=1, max_size=5)
    )
    place, columns, texts = draw(st.integers(0, 3)), [], []
    for number, form in enumerate(forms):
        width = int(form[1:].split(".")[0])
        columns.append({"TTYPE": f"a{number}", "TBCOL": place + 1, "TFORM": form})
        value = (
            st.integers(-999, 999)
            if form[0] == "I"
            else st.integers(-999, 999).map(lambda number: number / 8)
        )
        lines = draw(
            st.lists(st.sampled_from("abcde") if form[0] == "A" else value, min_size=rows, max_size=rows)
        )
        texts.append((place, [text_of(item, form, width) for item in lines], lines))
        place += width + draw(st.integers(0, 4))
    body = bytearray(b"~" * (place * rows))
    for start, lines, _ in texts:
        for row, line in enumerate(lines):
            body[row * place + start : row * place + start + len(line)] = line.encode()
    order = draw(st.permutations(range(len(forms))))
    columns = [(columns[number], 0) for number in order]
    columns[0] = (columns[0][0], place)  # the length of a row
    return (
        table_file(columns, rows, bytes(body), kind="TABLE"),
        {f"a{number}": texts[number][2] for number in order},
        rows,
    )


def text_of(item, form, width):
    if form[0] == "A":
        return item.ljust(width)
    if form[0] == "I":
        return str(item).rjust(width)
    text = f"{item:{width}.{form.split('.')[1]}{'f' if form[0] == 'F' else 'E'}}"
    return text.replace("E", form[0]) if form[0] != "F" else text


@given(ascii_tables(), st.data())
@QUIET
def test_ascii_tables(made, data):
    file, meant, rows = made
    names = data.draw(st.none() | st.lists(st.sampled_from(list(meant)), min_size=1, unique=True))
    numbers = data.draw(some_rows(rows))
    got = read(file, names, numbers)
    assert got.colnames == (list(meant) if names is None else names)
    for name in got.colnames:
        wanted = np.array(meant[name], dtype=object)
        wanted = wanted if numbers is None else wanted[numbers] if len(rows_list(numbers)) else wanted[:0]
        if got[name].dtype.kind == "S":
            assert [text.rstrip() for text in got[name].tolist()] == list(wanted)
        else:
            np.testing.assert_allclose(got[name], list(wanted), rtol=1e-3)


VARIABLE, FIXED, ASCII = variable_length(rows=5), all_columns(4), ascii_table(5, nulls=True)


@pytest.mark.filterwarnings("ignore")
@given(
    st.sampled_from([VARIABLE, FIXED, ASCII]),
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), min_size=1, max_size=6),
)
@example(VARIABLE, [(2880 + 80 * 3 + 29, ord("9"))])
@settings(parent=QUIET, max_examples=150)
def test_damage_is_a_table_or_an_error_of_its_type(data, changes):
    """Nothing but our own errors comes out, wherever a file is damaged; and it takes no time and no memory."""
    damaged = bytearray(data)
    for place, value in changes:
        damaged[2880 + place % (len(data) - 2880)] = value
    try:
        file, reader, source = opened(bytes(damaged))
        tables = [run(read_columns(reader, hdu, None, (0, 3)), source) for hdu in file.hdus[1:2]]
    except NunciusError:
        return
    assert all(len(table) <= 3 for table in tables)
