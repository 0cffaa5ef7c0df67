"""Headers as a table, and back: files are opened from it as they were read."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import random

import numpy as np
import pytest
from astropy.io import fits

from nuncius.cloudfits import HeaderIndex
from nuncius.cloudfits.access import Access
from nuncius.cloudfits.hdu import HduDescription
from nuncius.cloudfits.keywords import encoded_value
from nuncius.cloudfits.rows import column_names, name_of
from nuncius.cloudfits.scan import scan_headers
from nuncius.cloudfits.side_by_side import Options, results_of
from nuncius.errors import ConfigurationError, FileChangedError, NotFoundError, StorageError
from nuncius.sandbox.fits_files import kinds
from nuncius.sandbox.fits_files.many import decam_fz, many_hdus

pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
pc = pytest.importorskip("pyarrow.compute")
pq = pytest.importorskip("pyarrow.parquet")

KINDS = dict(kinds())


def described(url, **options):
    """Return a file as it is read without an index."""
    [result] = results_of([url], Options(access=Access(), **options))
    return result.found


def state(value):
    """Return all that a description says, as values that can be compared."""
    if isinstance(value, HduDescription):
        return (value.index, value.raw, value.structure, value.header_offset, value.truncated, value.url)
    return {
        field.name: getattr(value, field.name) if field.name != "hdus" else [state(hdu) for hdu in value.hdus]
        for field in dataclasses.fields(value)
    }


def image(**cards):
    """Return a small file whose second HDU has these cards."""
    hdu = fits.ImageHDU(np.zeros((2, 3), "f4"))
    for name, value in cards.items():
        hdu.header[name] = value
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(out)
    return out.getvalue()


def with_cards(*cards):
    """Return a small file whose primary header has these cards as they stand."""
    head = [
        "SIMPLE  =                    T",
        "BITPIX  =                    8",
        "NAXIS   =                    0",
    ]
    text = "".join(card.ljust(80) for card in [*head, *cards, "END"])
    return text.ljust(-(-len(text) // 2880) * 2880).encode()


@pytest.fixture
def kept(tmp_path):
    """Write files; return their paths."""

    def keep(**files):
        paths = []
        for name, data in files.items():
            path = tmp_path / f"{name}.fits"
            path.write_bytes(data)
            paths.append(str(path))
        return paths

    return keep


# To rows and back --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
def test_a_file_is_found_as_it_was_read(name, tmp_path):
    path = tmp_path / "file.fits"
    path.write_bytes(KINDS[name]())
    index = scan_headers([path], out=tmp_path / "headers.parquet")
    assert state(index.find(path)) == state(described(path))


def test_what_is_odd_about_a_file_comes_back(tmp_path, kept):
    whole = many_hdus("small", count=4)
    data = whole.read(0, whole.size)
    urls = kept(cut=data[:-3000], junk=data + b"junk" * 800, whole=data)
    index = scan_headers(urls, out=tmp_path / "headers.parquet")
    for url in urls:
        assert state(index.find(url)) == state(described(url))
    assert index.find(urls[0]).truncated
    assert index.find(urls[1]).trailing_bytes == 3200
    some = HeaderIndex.of(scan_headers(urls, hdus=2))
    assert not some.find(urls[2]).complete
    assert len(some.find(urls[2])) == 2


def test_an_index_is_a_path_a_table_or_an_index(tmp_path, kept):
    urls = kept(a=image(OBJECT="M31"), b=image(OBJECT="M33"))
    table = scan_headers(urls)
    for index in (
        HeaderIndex.of(table),
        HeaderIndex.of(HeaderIndex.of(table)),
        scan_headers(urls, out=tmp_path / "x.parquet"),
    ):
        assert index.urls == urls
        assert len(index) == 2
        assert urls[1] in index
        assert "elsewhere.fits" not in index
        assert index.table.column_names == table.column_names
        assert state(index.find(urls[1])) == state(described(urls[1]))
    HeaderIndex.of(table).save(tmp_path / "saved.parquet")
    assert HeaderIndex.of(tmp_path / "saved.parquet").table.equals(table)
    assert HeaderIndex.of(str(tmp_path / "saved.parquet")).urls == urls


def test_one_file_of_many_costs_one_group_of_rows(tmp_path, monkeypatch):
    table = _large_table(tmp_path, 30_000)
    HeaderIndex.of(table).save(tmp_path / "large.parquet")
    index = HeaderIndex.of(tmp_path / "large.parquet")
    assert len(index) == 10_000
    assert index._rows._metadata.num_row_groups >= 15
    read = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, number, **options: read.append(number) or original(self, number, **options),
    )
    numbers = random.Random(1).sample(range(10_000), 5)
    for number in numbers:
        found = index.find(f"s3://sky/{number}.fits")
        assert [hdu.get("SERIAL") for hdu in found.hdus] == [number] * 3
    assert len(read) <= 2 * len(numbers)


def _large_table(tmp_path, rows):
    """Return a table of many files of three HDUs, made of one."""
    path = tmp_path / "one.fits"
    card = f"SERIAL  = {0:20d}"
    hdu = with_cards(card)
    extension = hdu.replace(
        b"SIMPLE  =                    T".ljust(80), b"XTENSION= 'IMAGE   '".ljust(80)
    ).replace(
        b"END".ljust(80),
        b"PCOUNT  =                    0".ljust(80) + b"GCOUNT  =                    1".ljust(80) + b"END",
        1,
    )
    path.write_bytes(hdu + 2 * extension[:2880])
    one = scan_headers([path])
    assert one["error"].null_count == 3
    number = np.arange(rows) // 3
    headers = [
        one["header"][place % 3].as_py().replace(card.encode(), f"SERIAL  = {serial:20d}".encode())
        for place, serial in enumerate(number)
    ]
    columns = {
        name: pa.array(one[name].to_pylist() * (rows // 3), one.schema.field(name).type)
        for name in one.column_names
    }
    columns["url"] = pa.array([f"s3://sky/{serial}.fits" for serial in number])
    columns["header"] = pa.array(headers, pa.binary())
    return pa.table(columns, schema=one.schema)


# What an index refuses ---------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_said(tmp_path, kept):
    urls = kept(a=image())
    index = HeaderIndex.of(scan_headers([*urls, tmp_path / "gone.fits"]))
    with pytest.raises(
        NotFoundError, match=f"other/a.fits is not among the 2 files of the table .*it has {urls[0]}"
    ):
        index.find("/other/a.fits")
    with pytest.raises(NotFoundError, match=r"reading it failed \(NotFoundError: there is no file"):
        index.find(tmp_path / "gone.fits")
    assert list(index.failures) == [str(tmp_path / "gone.fits")]
    with pytest.raises(NotFoundError, match="there is no index"):
        HeaderIndex.of(tmp_path / "none.parquet")


def test_what_is_no_index_is_refused(tmp_path, kept):
    with pytest.raises(ConfigurationError, match="the columns url, query"):
        HeaderIndex.of(pa.table({"a": [1]}))
    with pytest.raises(ConfigurationError, match="not list"):
        HeaderIndex.of(["a.fits"])
    (tmp_path / "x.parquet").write_bytes(b"not Parquet at all")
    with pytest.raises(StorageError, match=r"x\.parquet can't be read as Parquet"):
        HeaderIndex.of(tmp_path / "x.parquet")
    urls = kept(a=image())
    bare = HeaderIndex.of(scan_headers(urls, with_headers=False))
    with pytest.raises(ConfigurationError, match="with_headers=False"):
        bare.find(urls[0])


def test_rows_that_were_left_out_or_changed_are_noticed(kept):
    urls = kept(a=image(), b=image())
    table = scan_headers(urls)
    filtered = [
        table.filter(pa.array([True, False, True, True])),  # without the last HDU
        table.filter(pa.array([False, True, True, True])),  # without the first
        table.filter(pc.equal(table["kind"], "image")),
    ]
    for some in filtered:
        with pytest.raises(StorageError, match="were rows left out or changed"):
            HeaderIndex.of(some).find(urls[0])
    moved = table.set_column(
        table.schema.get_field_index("header_offset"), "header_offset", pa.array([0, 5760, 0, 2880])
    )
    with pytest.raises(StorageError, match="does not begin where the one before it ends"):
        HeaderIndex.of(moved).find(urls[0])
    assert len(HeaderIndex.of(moved).find(urls[1])) == 2


def test_two_versions_of_a_file_are_not_mixed(kept, tmp_path):
    urls = kept(a=image(OBJECT="M31"))
    first = scan_headers(urls)
    twice = pa.concat_tables([first, first])
    assert state(HeaderIndex.of(twice).find(urls[0])) == state(described(urls[0]))
    kept(a=image(OBJECT="M33", FILTER="g"))
    both = pa.concat_tables([first, scan_headers(urls)])
    with pytest.raises(ConfigurationError, match="has 2 versions of"):
        HeaderIndex.of(both).find(urls[0])
    sorted_rows = twice.sort_by("hdu")
    with pytest.raises((ConfigurationError, StorageError)):
        HeaderIndex.of(sorted_rows).find(urls[0])


def test_an_index_that_is_replaced_while_it_is_used_says_so(kept, tmp_path):
    urls = kept(a=image(), b=image())
    index = scan_headers(urls, out=tmp_path / "x.parquet")
    scan_headers(urls[:1], out=tmp_path / "x.parquet")
    with pytest.raises(FileChangedError, match="open the index again"):
        index.find(urls[1])


# Names -------------------------------------------------------------------------------------------------------------------


def test_a_query_tells_files_apart_and_a_signature_does_not():
    one = name_of("https://archive.example/api?uri=mast:TESS/a.fits")
    other = name_of("https://archive.example/api?uri=mast:TESS/b.fits")
    assert one.url == other.url == "https://archive.example/api"
    assert one.query != other.query
    signed = name_of("https://archive.example/api?uri=mast:TESS/a.fits&token=very-secret")
    assert signed == one
    plain = name_of("https://bucket.example/a.fits")
    assert plain.query is None
    for query in (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=k&X-Amz-Date=1&X-Amz-Expires=60&X-Amz-Signature=00",
        "GoogleAccessId=me&Expires=12&Signature=abc",
        "sv=2022-11-02&st=1&se=2&sr=b&sp=r&sig=abc%3D",
        "Expires=1&Signature=x&Key-Pair-Id=K",
    ):
        assert name_of(f"https://bucket.example/a.fits?{query}") == plain
    assert name_of("https://bucket.example/a.fits?versionId=7&X-Amz-Signature=00") != plain
    # Without a signature these words may name a file.
    assert (
        name_of("https://archive.example/a?policy=1").query
        != name_of("https://archive.example/a?policy=2").query
    )


def test_no_secret_of_a_link_is_in_the_table(tmp_path):
    table = scan_headers(["https://user:very-secret@127.0.0.1:9/a.fits?token=very-secret"], retries=0)
    assert "very-secret" not in str(table.to_pylist())
    assert table["error"][0].as_py().startswith("UnreachableError")


def test_failures_of_links_that_differ_in_their_queries_are_all_told():
    links = [f"http://127.0.0.1:9/api?uri={name}.fits" for name in "ab"]
    index = HeaderIndex.of(scan_headers(links, retries=0))
    assert len(index) == len(index.failures) == 2
    for link in links:
        with pytest.raises(NotFoundError, match="UnreachableError"):
            index.find(link)
    with pytest.raises(NotFoundError, match="is not among the 2 files"):
        index.find("http://127.0.0.1:9/api?uri=c.fits")


# Keywords ----------------------------------------------------------------------------------------------------------------


def test_columns_of_keywords():
    assert column_names(["exptime", "HIERARCH ESO DET ID", "size", "HDU"]) == {
        "EXPTIME": "EXPTIME",
        "ESO DET ID": "ESO DET ID",
        "SIZE": "key_SIZE",
        "HDU": "key_HDU",
    }
    for bad in ("EXPTIME", [""], ["A=B"], [3], ["\n"]):
        with pytest.raises(ConfigurationError, match="keyword"):
            column_names(bad)


def test_each_column_has_the_type_that_holds_all_its_values(kept):
    cards = [
        {"INT": 1, "FLO": 1, "LOG": True, "MIX": 1, "BIG": 2**70, "LONG": 2**60, "TEXT": "1", "LOGINT": True},
        {"INT": -5, "FLO": 2.5, "LOG": False, "MIX": "x", "BIG": 1, "LONG": 3, "TEXT": "b ", "LOGINT": 1},
        {"MIX": 0.1, "LONGFLO": 1.5, "LOG": True},
        {"MIX": True, "LONGFLO": 2**60 + 1},
    ]
    urls = kept(**{f"file{number}": image(**some) for number, some in enumerate(cards)})
    names = ["INT", "FLO", "LOG", "MIX", "BIG", "LONG", "TEXT", "LOGINT", "LONGFLO", "NEVER"]
    table = scan_headers(urls, keywords=names).filter(pa.array([False, True] * 4))
    types = {name: str(table.schema.field(name).type) for name in names}
    assert types == {
        "INT": "int64", "FLO": "double", "LOG": "bool", "MIX": "string", "BIG": "string", "LONG": "int64",
        "TEXT": "string", "LOGINT": "string", "LONGFLO": "string", "NEVER": "string",
    }  # fmt: skip
    values = table.select(names).to_pydict()
    assert values["INT"] == [1, -5, None, None]
    assert values["FLO"] == [1.0, 2.5, None, None]
    assert values["LOG"] == [True, False, True, None]
    assert values["MIX"] == ["1", "x", "0.1", "T"]
    assert values["BIG"] == [str(2**70), "1", None, None]
    assert values["LONG"] == [2**60, 3, None, None]
    assert values["TEXT"] == ["1", "b", None, None]
    assert values["LOGINT"] == ["T", "1", None, None]
    assert values["LONGFLO"] == [None, None, "1.5", str(2**60 + 1)]
    assert values["NEVER"] == [None] * 4


@pytest.mark.parametrize("name", [*KINDS, "decam"])
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
def test_every_keyword_of_every_header_has_the_value_that_astropy_gives(name, tmp_path):
    path = tmp_path / "file.fits"
    path.write_bytes(KINDS[name]() if name in KINDS else decam_fz(2))
    checked = 0
    for hdu in described(path).hdus:
        header = fits.Header.copy(hdu.header)
        for keyword in {key for key in header if key and key.isascii() and "\n" not in key}:
            expected = header[keyword]
            if keyword in {"COMMENT", "HISTORY"}:
                expected = "\n".join(map(str, expected))
            if isinstance(expected, complex):
                expected = str(expected)
            text, note = encoded_value(hdu, keyword)
            if expected is None:
                assert text is None
            else:
                value = json.loads(text)
                assert (value, type(value)) == (expected, type(expected)), keyword
            if keyword not in {"COMMENT", "HISTORY"}:
                values = {str(header[keyword, number]) for number in range(header.count(keyword))}
                assert (note is not None) == (len(values) > 1), keyword
            checked += 1
    assert checked > 3


def test_what_stands_twice_or_can_not_be_read_is_noted(tmp_path):
    path = tmp_path / "file.fits"
    path.write_bytes(
        with_cards(
            "EXPTIME =                 30.0",
            "EXPTIME =                 60.0",
            "FILTER  = 'g'",
            "FILTER  = 'g'",
            "GAIN    = 'no end of this text",
            "EMPTY   =",
        )
    )
    table = scan_headers([path], keywords=["EXPTIME", "FILTER", "GAIN", "EMPTY"])
    row = table.to_pylist()[0]
    assert (row["EXPTIME"], row["FILTER"], row["EMPTY"]) == (30.0, "g", None)
    assert "EXPTIME stands 2 times with different values; the first is taken" in row["note"]
    assert "FILTER" not in row["note"]
    assert row["error"] is None
    assert row["GAIN"] is None or "GAIN" not in row["note"]
    assert state(HeaderIndex.of(table).find(path)) == state(described(path))


def test_what_a_damaged_header_claims_is_no_number_of_the_table(tmp_path):
    path = tmp_path / "file.fits"
    axes = "".join(f"NAXIS{axis}  = {10**17:20d}".ljust(80) for axis in (1, 2, 3))
    data = with_cards().replace(
        b"NAXIS   =                    0".ljust(80),
        (b"NAXIS   =                    3".ljust(80) + axes.encode()),
    )
    path.write_bytes(data[:2880])
    table = scan_headers([path])
    row = table.to_pylist()[0]
    assert (row["data_size"], row["naxis"], row["truncated"]) == (None, [10**17] * 3, True)
    assert HeaderIndex.of(table).find(path).hdus[0].data_size == 10**51


def test_a_damaged_compressed_image_is_a_row_that_says_so(tmp_path):
    path = tmp_path / "file.fits"
    path.write_bytes(decam_fz(1).replace(b"ZNAXIS1 =", b"ZNAXISX =", 1))
    row = scan_headers([path]).to_pylist()[1]
    assert "ZNAXIS1" in row["error"]
    assert (row["hdu"], row["naxis"], row["kind"]) == (1, None, "compressed image")


def test_failed_files_are_carried_to_other_processes(tmp_path):
    [result] = results_of([tmp_path / "gone.fits"], Options(access=Access()))
    again = pickle.loads(pickle.dumps(result.found))
    assert (again.url, str(again.error)) == (result.found.url, str(result.found.error))
