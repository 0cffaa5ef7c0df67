"""Rows and columns of remote tables: the values that astropy gives for the whole file, from the bytes of the rows."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table

from fits_source import opened, run
from nuncius.cloudfits import heap, tables
from nuncius.cloudfits.tables import read_columns, read_rows, row_range, table_columns, table_dtype
from nuncius.errors import (
    ConfigurationError,
    FileChangedError,
    FitsError,
    NotFoundError,
    TruncatedFitsError,
    UnsupportedError,
)
from nuncius.sandbox.fits_files.images import after_primary
from nuncius.sandbox.fits_files.tables import (
    all_columns,
    ascii_table,
    compressed_table,
    large_table,
    shared_heap,
    table_kinds,
    variable_length,
    wide_table,
)
from nuncius.sandbox.fits_files.writing import header_bytes, padded

KINDS = [pytest.param(make, id=name) for name, make in table_kinds() if name != "compressed table"]


def table_file(columns, rows, *, kind="BINTABLE", count=None, pcount=None, cards=(), heap=b"", length=None):
    """Return a file with one table, written by hand: `columns` are dicts of keywords, `rows` the bytes of the rows."""
    count = len(rows) if count is None else count
    data = b"".join(rows)
    header = [
        f"XTENSION= '{kind:8s}'",
        f"BITPIX  = {8:20d}",
        f"NAXIS   = {2:20d}",
        f"NAXIS1  = {(len(rows[0]) if rows else 0) if length is None else length:20d}",
        f"NAXIS2  = {count:20d}",
        f"PCOUNT  = {len(heap) if pcount is None else pcount:20d}",
        f"GCOUNT  = {1:20d}",
        f"TFIELDS = {len(columns):20d}",
    ]
    for number, column in enumerate(columns, 1):
        for key, value in column.items():
            text = f"'{value:8s}'" if isinstance(value, str) else f"{value!r:>20s}"
            header.append(f"{key + str(number):8s}= {text}")
    return after_primary(header_bytes([*header, *cards]) + padded(data + heap))


def rows_of(kind, values):
    """Return the bytes of rows of numbers."""
    array = np.array(values, dtype=kind)
    return [array[row : row + 1].tobytes() for row in range(len(array))]


def read(data, *, names=None, rows=None):
    file, reader, source = opened(data)
    return run(read_columns(reader, file.hdus[1], names, rows), source)


def expected(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Table.read(io.BytesIO(data), format="fits", hdu=1)


def assert_same(got, want):
    """Look at every cell of two tables: the same values, types, masks, units and formats."""
    assert got.colnames == want.colnames
    assert len(got) == len(want)
    assert dict(got.meta) == dict(want.meta)
    for name in want.colnames:
        one, other = got[name], want[name]
        assert one.dtype == other.dtype, name
        assert one.unit == other.unit
        assert one.format == other.format
        if one.dtype == object:
            for cell, true in zip(one, other, strict=True):
                assert cell.dtype.newbyteorder("=") == true.dtype.newbyteorder("=")
                np.testing.assert_array_equal(cell, true)
            continue
        mask = np.ma.getmaskarray(np.ma.asarray(other))
        np.testing.assert_array_equal(np.ma.getmaskarray(np.ma.asarray(one)), mask, err_msg=name)
        np.testing.assert_array_equal(np.asarray(one)[~mask], np.asarray(other)[~mask], err_msg=name)


# Equal to astropy -----------------------------------------------------------------------------------------------------


def known_differences(data, table):
    """Put right what astropy's reading of the sandbox's tables gets wrong, each with a test of its own here."""
    if "snull" in table.colnames:
        stored = fits.open(io.BytesIO(data))[1].data.view(np.ndarray)["snull"]
        values = MaskedColumn(table["snull"], mask=stored == -99)
        table.replace_column("snull", values)
    return table


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_rows_and_columns_are_those_of_astropy(make):
    data = make()
    try:
        whole = known_differences(data, expected(data))
    except (TypeError, ValueError) as error:
        if b"'TABLE   '" in data:
            whole = as_the_standard_has_it(data)
        else:
            pytest.skip(f"this astropy makes no Table of it: {error}")
    file, reader, source = opened(data)
    hdu = file.hdus[1]
    count = len(whole)
    for start, stop in ((0, count), (count // 3, count // 2 + 1 if count else 0), (count, count)):
        part = run(read_rows(reader, hdu, start, stop), source)
        want = whole[start:stop]
        assert part.colnames == want.colnames
        assert [len(part), part.meta] == [len(want), want.meta]
        assert_values(part, want)
    names = whole.colnames[::-2]
    assert_values(run(read_columns(reader, hdu, names, slice(None, None, 3)), source), whole[names][::3])
    assert run(read_columns(reader, hdu, names), source).colnames == names


def as_the_standard_has_it(data):
    """Return the sandbox's ASCII tables without rows, and with nulls, which astropy makes no `Table` of."""
    nulls = data == ascii_table(nulls=True)
    table = expected(ascii_table())
    table["null"] = MaskedColumn(table["null"], mask=[nulls and row % 3 == 1 for row in range(len(table))])
    return table if nulls else table[:0]


def assert_values(got, want):
    """As `assert_same`, but without the masks of columns in which nothing is missing among these rows."""
    for name in want.colnames:
        if want[name].dtype == object:
            continue
        missing = np.ma.getmaskarray(np.ma.asarray(want[name]))
        assert got[name].dtype == want[name].dtype
        np.testing.assert_array_equal(np.ma.getmaskarray(np.ma.asarray(got[name])), missing, err_msg=name)
        np.testing.assert_array_equal(np.asarray(got[name])[~missing], np.asarray(want[name])[~missing])
    objects = [name for name in want.colnames if want[name].dtype == object]
    assert_same(strip(got[objects]), strip(want[objects]))


def strip(table):
    table.meta.clear()
    return table


@pytest.mark.parametrize("make", [*KINDS, pytest.param(compressed_table, id="compressed table")])
@pytest.mark.filterwarnings("ignore")
def test_the_type_of_the_rows_is_that_of_fits_rec(make):
    data = make()
    hdu = opened(data)[0].hdus[1]
    assert table_dtype(hdu) == fits.open(io.BytesIO(data))[1].data.dtype
    assert hdu.dtype == table_dtype(hdu)


def test_columns_are_described_from_the_header():
    columns = {column.name: column for column in table_columns(opened(all_columns())[0].hdus[1])}
    assert columns["scaled"][:7] == ("scaled", "I", "mag", None, None, 0.01, 20.0)
    assert columns["matrix"].dim == "(3,2)"
    assert columns["nulls"].null == -99
    assert columns["float"].display == "F10.3"
    assert columns["flag"] == ("flag", "L", None, None, None, None, None, None)


def test_the_names_of_the_columns_cost_no_request():
    file, _, source = opened(large_table(5))
    source.ranges.clear()
    assert file[1].colnames[:3] == ["ID", "RA", "DEC"]
    assert file[0].colnames == []
    assert source.ranges == []


def test_the_header_is_in_meta():
    data = large_table(5)
    table = read(data, rows=slice(1, 3))
    assert table.meta == expected(data).meta == {"EXTNAME": "CATALOG"}


def test_objects_of_several_columns_are_put_together_again():
    made = QTable(
        {
            "pos": SkyCoord([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], unit="deg"),
            "flux": [1.0, 2.0, 3.0] * u.nJy,
        }
    )
    made["flux"].info.description = "of the source"
    out = io.BytesIO()
    made.write(out, format="fits")
    table = read(out.getvalue(), rows=slice(1, 3))
    assert isinstance(table["pos"], SkyCoord)
    assert table["pos"].ra.deg.tolist() == [2.0, 3.0]
    assert table["flux"].info.description == "of the source"
    columns = [column.name for column in table_columns(opened(out.getvalue())[0].hdus[1])]
    chosen = read(out.getvalue(), names=["FLUX", "pos.dec"])
    assert "pos.dec" in columns
    assert chosen.colnames == ["flux", "pos.dec"]
    assert chosen["pos.dec"].tolist() == [4.0, 5.0, 6.0]
    assert chosen["flux"].unit == u.nJy


# What is read ---------------------------------------------------------------------------------------------------------


def test_a_hundred_rows_are_one_request_of_their_bytes():
    data = large_table(3000)
    file, reader, source = opened(data, overread=2880)
    hdu = file.hdus[1]
    source.ranges.clear()
    table = run(read_rows(reader, hdu, 1200, 1300), source)
    assert source.ranges == [(hdu.data_offset + 1200 * 72, hdu.data_offset + 1300 * 72)]
    assert_values(table, expected(data)[1200:1300])


def test_a_column_between_others_is_read_with_them_in_one_request():
    data = large_table(3000)
    file, reader, source = opened(data, overread=2880)
    source.ranges.clear()
    table = run(read_columns(reader, file.hdus[1], ["nobs"]), source)
    assert len(source.ranges) == 1
    assert table["NOBS"].tolist() == [number % 300 for number in range(3000)]
    assert table.meta == {"EXTNAME": "CATALOG"}


def test_columns_far_apart_are_read_alone():
    data = wide_table()
    file, reader, source = opened(data, overread=2880)
    hdu, row = file.hdus[1], 4 + 40_000 * 4 + 8
    source.ranges.clear()
    table = run(read_columns(reader, hdu, ["Z", "ID"], slice(10, 20)), source)
    assert sum(end - start for start, end in source.ranges) == 10 * 12
    assert len(source.ranges) == 11  # the last column of a row and the first of the next lie together
    assert min(source.ranges) == (hdu.data_offset + 10 * row, hdu.data_offset + 10 * row + 4)
    assert table.colnames == ["Z", "ID"]
    assert_values(table, expected(data)[["Z", "ID"]][10:20])


def test_rows_by_number_are_read_alone_and_come_in_their_order():
    data = large_table(9000)
    file, reader, source = opened(data, overread=2880)
    hdu, numbers = file.hdus[1], [8000, 3, 8000, -1, 2, 4000]
    source.ranges.clear()
    table = run(read_columns(reader, hdu, None, numbers), source)
    first = hdu.data_offset
    assert sorted(source.ranges) == [
        (first + 2 * 72, first + 4 * 72),
        (first + 4000 * 72, first + 4001 * 72),
        (first + 8000 * 72, first + 8001 * 72),
        (first + 8999 * 72, first + 9000 * 72),
    ]
    assert_values(table, expected(data)[numbers])


def test_many_rows_with_gaps_are_few_requests():
    data = large_table(20_000)
    file, reader, source = opened(data, overread=2880)
    source.ranges.clear()
    table = run(read_columns(reader, file.hdus[1], ["ID"], slice(None, None, 7)), source)
    assert len(source.ranges) == 1
    assert table["ID"].tolist() == [number * 1_000_003 for number in range(0, 20_000, 7)]


def test_of_the_heap_only_what_the_rows_point_at_is_read():
    cells = np.zeros((3, 2), dtype=">i4")
    cells[:] = [(2, 0), (3, 200_000), (1, 100_000)]
    contents = bytearray(300_000)
    contents[200_000:200_006] = np.array([7, 8, 9], dtype=">i2").tobytes()
    data = table_file([{"TTYPE": "v", "TFORM": "PI"}], [row.tobytes() for row in cells], heap=bytes(contents))
    file, reader, source = opened(data, overread=5760)
    hdu = file.hdus[1]
    source.ranges.clear()
    table = run(read_rows(reader, hdu, 1, 2), source)
    start = hdu.data_offset + 24 + 200_000
    assert source.ranges == [(hdu.data_offset + 8, hdu.data_offset + 16), (start, start + 6)]
    assert table["v"][0].tolist() == [7, 8, 9]


def test_rows_that_share_their_cells_share_what_is_read():
    cells = [(20, 0)] * 50 + [(3, 8), (0, 0), (2, 8)]
    contents = (np.arange(20) * 1001).astype(">i4").tobytes()
    data = table_file([{"TTYPE": "v", "TFORM": "PJ"}], rows_of(">i4", cells), heap=contents)
    file, reader, source = opened(data)
    read_before = reader.stats.bytes
    table = run(read_rows(reader, file.hdus[1], 0, 53), source)
    assert table["v"][10].tolist() == [number * 1001 for number in range(20)]
    assert [table["v"][row].tolist() for row in (50, 51, 52)] == [[2002, 3003, 4004], [], [2002, 3003]]
    assert reader.stats.bytes - read_before <= 53 * 8 + 80


def test_a_file_that_was_replaced_is_an_error():
    file, reader, source = opened(large_table(2000), overread=2880)
    source.etag = "v2"
    with pytest.raises(FileChangedError):
        run(read_rows(reader, file.hdus[1], 1000, 1010), source)


# Which rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "numbers"),
    [
        (None, range(10)),
        (slice(2, 5), [2, 3, 4]),
        (slice(-2, None), [8, 9]),
        (slice(None, None, -4), [9, 5, 1]),
        (slice(5, 3), []),
        (slice(8, 99), [8, 9]),
        ((2, 4), [2, 4]),
        (3, [3]),
        (-1, [9]),
        (np.int32(4), [4]),
        (range(1, 8, 3), [1, 4, 7]),
        ([5, -10, 5], [5, 0, 5]),
        ([1, 2, 3], [1, 2, 3]),
        ([], []),
        (np.array([9, 0], dtype="u8"), [9, 0]),
        (np.arange(10) % 4 == 1, [1, 5, 9]),
        ([False] * 10, []),
    ],
)
def test_row_range(rows, numbers):
    assert list(row_range(rows, 10)) == list(numbers)


@pytest.mark.parametrize(
    "rows", [10, -11, [0, 10], [0.5], "3", True, [True, False], [[1, 2]], np.ones((10, 2), bool)]
)
def test_rows_that_are_none(rows):
    with pytest.raises(IndexError):
        row_range(rows, 10)


def test_the_rows_of_a_hostile_header_are_not_counted_one_by_one():
    assert len(row_range(None, 10**17)) == 10**17
    assert row_range(slice(10**16, 10**16 + 2), 10**17) == range(10**16, 10**16 + 2)


# Which columns --------------------------------------------------------------------------------------------------------

CASES = table_file(
    [{"TTYPE": "mag", "TFORM": "I"}, {"TTYPE": "MAG", "TFORM": "I"}, {"TTYPE": "Flux", "TFORM": "I"}],
    rows_of(">i2", [[1, 2, 3], [4, 5, 6]]),
)


def test_names_in_any_case_and_any_order():
    assert read(CASES, names=["FLUX", "MAG", "mag", "flux"]).colnames == ["Flux", "MAG", "mag"]
    assert read(CASES, names="flux")["Flux"].tolist() == [3, 6]


def test_a_name_that_is_none_is_told_what_is_close():
    with pytest.raises(NotFoundError, match=r"no column 'flx' in HDU 1 of memory.*did you mean Flux\?"):
        read(CASES, names=["flx"])
    with pytest.raises(NotFoundError, match="it has"):
        read(CASES, names=["redshift"])


def test_a_name_that_may_be_two():
    with pytest.raises(ConfigurationError, match="mag and MAG"):
        read(CASES, names=["Mag"])
    with pytest.raises(ConfigurationError, match="reads all of them"):
        read(CASES, names=[])


def test_keywords_of_columns_get_the_numbers_that_columns_get():
    cards = [
        "TUCD1   = 'first   '",
        "TUCD3   = 'third   '",
        "TLMIN3  =                    0",
        "TPC1_3  =                  0.5",
        "TPC3_3  =                  0.7",
        "TPV3_1  =                  0.1",
        "3CRPX3  =                  2.0",
        "TELE3   = 'not of a column'",
        "TEMP1   =                 21.5",
        "COMMENT TUCD2 is missing",
    ]
    columns = [{"TTYPE": name, "TFORM": "I"} for name in "abc"]
    data = table_file(columns, rows_of(">i2", [[1, 2, 3]]), cards=cards)
    meta = read(data, names=["c", "b"]).meta
    assert meta == {
        "TUCD1": "third",
        "TLMIN1": 0,
        "TPC1_1": 0.7,
        "TPV1_1": 0.1,
        "3CRPX1": 2.0,
        "TELE3": "not of a column",
        "TEMP1": 21.5,
        "comments": ["TUCD2 is missing"],
    }
    assert read(data).meta == expected(data).meta


def test_a_long_keyword_of_a_column_goes_with_all_its_cards():
    texts = {1: "x" * 100, 2: "y" * 90}
    cards = []
    for number, text in texts.items():
        cards += [f"TCOMM{number}  = '{text[:67]}&'", f"CONTINUE  '{text[67:]}'"]
    columns = [{"TTYPE": "a", "TFORM": "I"}, {"TTYPE": "b", "TFORM": "I"}]
    data = table_file(columns, rows_of(">i2", [[1, 3], [2, 4]]), cards=cards)
    assert read(data, names="b").meta == {"TCOMM1": texts[2]}
    assert read(data).meta == {"TCOMM1": texts[1], "TCOMM2": texts[2]}


# Where astropy is wrong, and the Standard right -----------------------------------------------------------------------


def variable(form, stored, **keywords):
    """Return a file with one column of variable length."""
    contents, cells = b"", []
    for cell in stored:
        cells.append((len(cell), len(contents)))
        contents += cell.tobytes()
    rows = rows_of(">i4" if form[0] == "P" else ">i8", cells)
    return table_file([{"TTYPE": "v", "TFORM": form, **keywords}], rows, heap=contents)


@pytest.mark.parametrize("form", ["PI", "QI"])
def test_scaled_cells_of_variable_length(form):
    data = variable(
        form, [np.array(cell, ">i2") for cell in ([1, 2], [], [3], [4, 5])], TSCAL=0.5, TZERO=10.0
    )
    cells = read(data, rows=slice(1, 4))["v"]
    assert [cell.tolist() for cell in cells] == [[], [11.5], [12.0, 12.5]]
    assert all(cell.dtype == "f8" for cell in cells)


@pytest.mark.parametrize(
    ("form", "stored", "kind"), [("PI", ">i2", "u2"), ("PJ", ">i4", "u4"), ("PK", ">i8", "u8")]
)
def test_unsigned_cells_of_variable_length(form, stored, kind):
    limits = np.iinfo(stored)
    raw = np.array([limits.min, -1, 0, limits.max], dtype=stored)
    cells = read(variable(form, [raw[:1], raw], TZERO=-int(limits.min)))["v"]
    assert cells[1].dtype == kind
    assert cells[1].tolist() == [int(number) - int(limits.min) for number in raw]


def test_nulls_in_cells_of_variable_length():
    data = variable("PJ", [np.array([1, -9, 3], ">i4"), np.array([-9], ">i4")], TNULL=-9, TUNIT="mJy")
    column = read(data)["v"]
    assert column[0].mask.tolist() == [False, True, False]
    assert column[0].dtype == "i4"
    assert column[1].mask.tolist() == [True]
    assert column.unit == u.mJy
    scaled = read(variable("PB", [np.array([1, 255], "u1")], TNULL=255, TSCAL=2.0))["v"][0]
    assert scaled[0] == 2.0
    assert scaled.mask.tolist() == [False, True]


def test_arrays_in_cells_of_variable_length():
    data = variable("PE", [np.arange(6, dtype=">f4"), np.arange(12, dtype=">f4")], TDIM="(3,2)")
    cells = read(data, rows=1)["v"]
    assert cells[0].tolist() == expected(data)["v"][1].tolist()
    assert cells[0].shape == (4, 3)
    scaled = read(variable("PI", [np.arange(6, dtype=">i2")], TDIM="(3,2)", TSCAL=2.0))["v"]
    assert scaled[0].tolist() == [[0, 2, 4], [6, 8, 10]]


def test_nulls_of_a_scaled_column_are_the_stored_ones():
    columns = [
        {"TTYPE": "m", "TFORM": "I", "TSCAL": 0.5, "TZERO": 1.0, "TNULL": -4, "TUNIT": "mag", "TDISP": "F6.2"}
    ]
    data = table_file(columns, rows_of(">i2", [-10, -4, 8]))
    column = read(data)["m"]
    assert column.mask.tolist() == [False, True, False]
    # astropy masks the -4.0 that is meant, and gives -1.0 for what is none.
    assert expected(data)["m"].mask.tolist() == [True, False, False]
    assert column[[0, 2]].tolist() == [-4.0, 5.0]
    assert (column.unit, column.format) == (u.mag, expected(data)["m"].format)


def test_nulls_of_unsigned_columns():
    columns = [{"TTYPE": "n", "TFORM": "I", "TZERO": 32768, "TNULL": -32768}]
    column = read(table_file(columns, rows_of(">i2", [-32768, 5, -1])))["n"]
    assert column.dtype == "u2"
    assert column.mask.tolist() == [True, False, False]
    assert column[1:].tolist() == [32773, 32767]
    # astropy writes the number that is meant, and so it is read.
    out = io.BytesIO()
    Table({"n": MaskedColumn(np.arange(4, dtype="u2"), mask=[0, 1, 0, 0])}).write(out, format="fits")
    assert read(out.getvalue())["n"].tolist() == [0, None, 2, 3]


def test_scaled_complex_numbers_keep_their_imaginary_part():
    data = table_file(
        [{"TTYPE": "c", "TFORM": "C", "TSCAL": 2.0, "TZERO": 1.0}], rows_of(">c8", [1 + 2j, -3j])
    )
    assert read(data)["c"].tolist() == [3 + 4j, 1 - 6j]


def test_scaled_integers_of_64_bits():
    data = table_file([{"TTYPE": "k", "TFORM": "K", "TSCAL": 0.5, "TZERO": 7.25}], rows_of(">i8", [2, -4]))
    assert read(data)["k"].tolist() == [8.25, 5.25]


def test_scaled_integers_with_the_offset_of_unsigned_ones():
    data = table_file([{"TTYPE": "i", "TFORM": "I", "TSCAL": 0.5, "TZERO": 32768}], rows_of(">i2", [2, -4]))
    assert read(data)["i"].tolist() == [32769.0, 32766.0]


def test_scaled_floats_that_are_none_stay_masked():
    data = table_file([{"TTYPE": "f", "TFORM": "E", "TSCAL": 2.0}], rows_of(">f4", [1.5, np.nan]))
    assert_same(read(data), expected(data))
    assert read(data)["f"].mask.tolist() == [False, True]
    assert np.isnan(read(data)["f"].filled()[1])


def test_a_last_column_that_is_longer_than_its_dimensions():
    rows = rows_of(">f4", np.arange(18).reshape(3, 6))
    data = table_file([{"TTYPE": "m", "TFORM": "6E", "TDIM": "(2,2)"}], rows)
    assert read(data)["m"].tolist() == [[[k, k + 1], [k + 2, k + 3]] for k in (0, 6, 12)]
    assert read(data, rows=[2, 0])["m"][0].tolist() == [[12, 13], [14, 15]]


@pytest.mark.parametrize("order", [("n", "s"), ("s", "n")])
def test_strings_of_no_width(order):
    forms = {"n": ">i4", "s": "0A"}
    columns = [{"TTYPE": name, "TFORM": {"n": "J", "s": "0A"}[name]} for name in order]
    table = read(table_file(columns, rows_of(forms["n"], [7, 8])))
    assert table["n"].tolist() == [7, 8]
    assert table["s"].mask.tolist() == [True, True]  # as astropy has empty strings
    assert table.colnames == list(order)


def test_columns_without_names_have_their_numbers():
    data = table_file([{"TFORM": "I"}, {"TTYPE": "b", "TFORM": "I"}], rows_of(">i2", [[1, 2], [3, 4]]))
    assert read(data).colnames == ["col1", "b"]
    assert read(data, names="COL1")["col1"].tolist() == [1, 3]


def ascii_file(columns, lines, **options):
    return table_file(columns, [line.encode() for line in lines], kind="TABLE", **options)


def test_nulls_of_ascii_tables():
    columns = [
        {"TTYPE": "i", "TBCOL": 1, "TFORM": "I4", "TNULL": "***"},
        {"TTYPE": "f", "TBCOL": 6, "TFORM": "F5.1", "TNULL": "---"},
        {"TTYPE": "a", "TBCOL": 12, "TFORM": "A3", "TNULL": "n/a"},
        {"TTYPE": "s", "TBCOL": 16, "TFORM": "I2", "TNULL": "*", "TSCAL": 0.5},
    ]
    data = ascii_file(columns, ["  12   1.5 abc  3", " ***   --- n/a  *", "   0   0.0 x    4"])
    table = read(data)
    assert table["i"].tolist() == [12, None, 0]
    assert table["f"].tolist() == [1.5, None, 0.0]
    assert table["a"].mask.tolist() == [False, True, False]
    assert [text.rstrip() for text in table["a"][[0, 2]]] == ["abc", "x"]
    assert table["s"].tolist() == [1.5, None, 2.0]
    assert read(data, names=["s", "i"], rows=1).as_array().tolist() == [(None, None)]


def test_columns_of_ascii_tables_in_any_order_with_text_between():
    columns = [
        {"TTYPE": "name", "TBCOL": 10, "TFORM": "A4"},
        {"TTYPE": "n", "TBCOL": 1, "TFORM": "I3"},
        {"TTYPE": "word", "TBCOL": 2, "TFORM": "A2"},
    ]
    data = ascii_file(columns, [" 12 xyz  star\r\n", " 34 xyz  agn \r\n"])
    table = read(data)
    assert [text.rstrip() for text in table["name"]] == ["star", "agn"]
    assert table["n"].tolist() == [12, 34]
    assert table["word"].tolist() == ["12", "34"]
    assert read(data, names=["n"])["n"].tolist() == [12, 34]
    assert len(read(data, rows=slice(1, 1))) == 0


# Damaged and hostile --------------------------------------------------------------------------------------------------

NUMBERS = [{"TTYPE": "a", "TFORM": "J"}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (table_file(NUMBERS, rows_of(">i4", [[1, 2]])), "take 4 bytes, and its rows have 8"),
        (table_file(NUMBERS, rows_of(">i2", [1, 2])), "take 4 bytes, and its rows have 2"),
        (table_file([*NUMBERS, {"TTYPE": "b"}], rows_of(">i4", [1])), "TFORM2 is missing"),
        (table_file([{"TTYPE": "a", "TFORM": "7Z"}], rows_of(">i4", [1])), "can't be understood"),
        (
            table_file([{"TTYPE": "a", "TFORM": "J", "TSCAL": "two"}], rows_of(">i4", [1])),
            "no number to scale",
        ),
        (table_file(NUMBERS * 2, rows_of(">i4", [[1, 2]])), "the names of its columns are a, a"),
        (
            table_file(NUMBERS, rows_of(">i4", [1])).replace(
                b"TFIELDS =                    1", b"TFIELDS =                 1000"
            ),
            "TFIELDS is 1000",
        ),
        (
            table_file(NUMBERS, rows_of(">i4", [1])).replace(
                b"TFIELDS =                    1", b"TFIELDS =                  1.5"
            ),
            "TFIELDS is None",
        ),
        (table_file([], [], count=10**17, length=0), None),
        (table_file([{"TTYPE": "a", "TFORM": "0E"}], [], count=10**17, length=0), "rows of no bytes"),
        (
            table_file([{"TTYPE": "a", "TFORM": "99999999999999999999J"}], rows_of(">i4", [1])),
            "can't be understood|take",
        ),
        (
            ascii_file([{"TTYPE": "a", "TBCOL": 3, "TFORM": "I4"}], ["  12"]),
            "take 6 bytes, and its rows have 4",
        ),
        (ascii_file([{"TTYPE": "a", "TBCOL": 1, "TFORM": "I4"}], ["  ab"]), "astropy can't read 1 rows"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_tables(data, message):
    if message is None:
        assert read(data).colnames == []
        return
    with pytest.raises(FitsError, match=message) as caught:
        read(data)
    assert caught.value.position == "HDU 1"
    assert caught.value.url == "memory://sky/file.fits"


@pytest.mark.parametrize("form", ["PI", "QI"])
@pytest.mark.parametrize(
    "cell", [(-1, 0), (1, -2), (1, 1 << 30), (1 << 30, 0), (3, 2), (1, 5), (3, 0), (1, 4)]
)
def test_descriptors_that_point_out_of_the_heap(form, cell):
    kind = ">i4" if form == "PI" else ">i8"
    cells = [(1, 0), (2, 0), (0, -7), cell]
    data = table_file([{"TTYPE": "v", "TFORM": form}], rows_of(kind, cells), heap=b"\0\1\0\2")
    assert [len(cell) for cell in read(data, rows=slice(0, 3))["v"]] == [1, 2, 0]
    with pytest.raises(FitsError, match=r"in row 3, column 'v' has .* of a heap of 4 bytes"):
        read(data, rows=[0, 3])


def test_a_descriptor_of_64_bits_overflows_nothing():
    for cell in ((1 << 62, 0), ((1 << 63) - 1, 0), (1, (1 << 63) - 1), (2, (1 << 63) - 2)):
        data = table_file([{"TTYPE": "v", "TFORM": "QM"}], rows_of(">i8", [cell]), heap=bytes(64))
        with pytest.raises(FitsError, match="in row 0"):
            read(data)


@pytest.mark.parametrize("theap", ["7", "-8", "99999", "99999999999999999999", "2.5", "'x'", "T"])
def test_a_heap_that_is_not_in_the_data(theap):
    data = table_file(
        [{"TTYPE": "v", "TFORM": "PB"}],
        rows_of(">i4", [(1, 0)]),
        heap=b"abcd",
        cards=[f"THEAP   = {theap:>20s}"],
    )
    with pytest.raises(FitsError, match="THEAP is"):
        read(data)


def test_a_heap_after_a_gap_in_free_format():
    data = table_file(
        [{"TTYPE": "v", "TFORM": "PB"}],
        rows_of(">i4", [(2, 1)]),
        heap=b"....abcd",
        cards=["THEAP   =  12"],
    )
    assert bytes(read(data)["v"][0]) == b"bc"


def test_cells_that_share_more_than_fits_into_memory(monkeypatch):
    monkeypatch.setattr(heap, "MOST_BYTES", 1000)
    with pytest.raises(UnsupportedError, match="ask for fewer rows"):
        read(shared_heap([(20, 0)] * 50))


def test_a_header_that_claims_too_many_rows():
    data = table_file(NUMBERS, rows_of(">i4", [1, 2, 3]), count=10**17)
    assert read(data, rows=slice(1, 3))["a"].tolist() == [2, 3]
    with pytest.raises(TruncatedFitsError, match=r"row 99,999,999,999,999,999 of the table in HDU 1"):
        read(data)
    with pytest.raises(TruncatedFitsError):
        read(data, rows=slice(None, None, 2))
    with pytest.raises(TruncatedFitsError):
        read(data, rows=-1)


def test_a_table_that_was_cut():
    whole = large_table(2000)
    data = whole[: opened(whole)[0].hdus[1].data_offset + 72 * 1000 + 30]
    assert opened(data)[0].hdus[1].truncated
    assert_values(read(data, rows=slice(990, 1000)), expected(whole)[990:1000])
    with pytest.raises(TruncatedFitsError, match="ends at byte"):
        read(data, rows=slice(995, 1001))


def test_a_heap_that_was_cut():
    whole = variable_length()
    hdu = opened(whole)[0].hdus[1]
    data = whole[: hdu.data_offset + hdu.naxis[0] * hdu.naxis[1] + 40]
    with pytest.raises(TruncatedFitsError):
        read(data)


def test_what_is_no_table():
    file, reader, source = opened(large_table(5))
    with pytest.raises(UnsupportedError, match=r"HDU 0 of memory.* is no table but: empty"):
        run(read_rows(reader, file.hdus[0], 0, 1), source)


def test_a_table_compressed_by_tiles_is_said_to_be_one():
    with pytest.raises(UnsupportedError, match=r"ZTABLE.*funpack"):
        read(compressed_table())


def test_keywords_that_can_be_understood_in_two_ways():
    odd = table_file(NUMBERS, rows_of(">i4", [1, 2]), cards=["HIERARCH THEAP = 4"])
    with pytest.raises(FitsError, match="two ways"):
        read(odd)


def test_nothing_of_the_module_is_hidden():
    assert set(tables.__all__) <= set(dir(tables))
