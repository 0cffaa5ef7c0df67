"""Reference catalogs: tables of every kind become documents, whole or not at all."""

from __future__ import annotations

import gzip
import itertools
import math
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time

from nuncius.archives.documents import coordinates_of
from nuncius.archives.embedded import places, query, tables
from nuncius.archives.embedded.database import Database
from nuncius.archives.embedded.load import load_catalog
from nuncius.archives.language import Projection, check_filter
from nuncius.errors import ConfigurationError, NotFoundError, StorageError

BIG = 4_611_686_018_427_387_905  # an id that a float would round


@pytest.fixture
def database(tmp_path):
    opened = Database(tmp_path / "night.db", read_only=False)
    yield opened
    opened.close()


def documents(database, name="cat"):
    return list(query.find(database, name, {}, Projection(None), [], 0, None))


def gaia(rows=5):
    ra = np.linspace(0, 359, rows)
    return Table(
        {
            "source_id": np.arange(rows, dtype=np.int64) + BIG,
            "ra": ra,
            "dec": np.linspace(-89, 89, rows),
            "phot_g_mean_mag": MaskedColumn(np.linspace(10, 20, rows), mask=[False] * (rows - 1) + [True]),
            "name": [f"Gaia {number}" for number in range(rows)],
            "variable": np.arange(rows) % 2 == 0,
        }
    )


def expected(rows=5):
    table = gaia(rows)
    return [
        {
            "_id": str(number),
            "source_id": BIG + number,
            "ra": float(row["ra"]),
            "dec": float(row["dec"]),
            "phot_g_mean_mag": None if number == rows - 1 else float(row["phot_g_mean_mag"]),
            "name": f"Gaia {number}",
            "variable": number % 2 == 0,
        }
        for number, row in enumerate(table)
    ]


def without_coordinates(found):
    return [{name: value for name, value in document.items() if name != "coordinates"} for document in found]


def written(tmp_path, kind):
    """Write the table as a file of a kind."""
    table, path = gaia(), tmp_path / f"gaia{kind}"
    if kind.startswith((".csv", ".tsv")):
        plain = tmp_path / "plain.csv"
        table.write(plain, format="ascii.csv", delimiter="\t" if "tsv" in kind else ",")
        data = plain.read_bytes()
        path.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)
    elif kind.startswith(".fits"):
        table.write(path)
    elif kind == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
        arrow = sys.modules["pyarrow"]
        columns = {
            name: arrow.array(
                table[name].tolist() if hasattr(table[name], "mask") else list(table[name].tolist())
            )
            for name in table.colnames
        }
        parquet.write_table(arrow.table(columns), path)
    else:
        plain = tmp_path / "plain.vot"
        table.write(plain, format="votable")
        data = plain.read_bytes()
        path.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)
    return path


# Kinds of tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_rows", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    "kind", ["table", "frame", ".csv", ".csv.gz", ".tsv", ".fits", ".fits.gz", ".parquet", ".vot", ".xml.gz"]
)
def test_tables_of_every_kind(database, tmp_path, kind, chunk_rows):
    if kind == "table":
        source = gaia()
    elif kind == "frame":
        pytest.importorskip("pandas", reason="pandas is not installed")
        source = gaia().to_pandas()
    else:
        source = written(tmp_path, kind)
    seen = []
    report = load_catalog(database, "cat", source, chunk_rows=chunk_rows, advance=seen.append)
    found = without_coordinates(documents(database))
    wanted = expected()
    if kind == "frame":  # it has no other sign of a missing number
        assert math.isnan(found[4].pop("phot_g_mean_mag"))
        del wanted[4]["phot_g_mean_mag"]
    assert found == wanted
    assert [list(map(type, document.values())) for document in found] == [
        list(map(type, document.values())) for document in wanted
    ]
    assert (report.rows, report.skipped, sum(seen)) == (5, 0, 5)
    assert max(seen) <= chunk_rows
    assert database.catalogs() == database.catalogs("catalog") == ["cat"]
    assert database.catalogs("alerts") == []


def test_coordinates_are_those_of_alerts(database):
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 200), rng.uniform(-90, 90, 200)
    ra[:4], dec[:4] = [0.0, 359.999999999, 15 / 3600, 180.0], [90.0, -90.0, -0.00001, 0.0]
    load_catalog(database, "cat", Table({"ra": ra, "dec": dec}))
    made = coordinates_of(list(zip(ra.tolist(), dec.tolist(), strict=True)))
    for document, wanted in zip(documents(database), made, strict=True):
        assert document["coordinates"] == {name: wanted[name] for name in ("radec_str", "radec_geojson")}
        assert list(document)[-1] == "coordinates"
    (near,) = places.cones(
        database, "cat", np.array([0.0]), np.array([90.0]), 1.0, {}, Projection(None), None
    )
    assert near["_id"] == "0"


@pytest.mark.parametrize(
    "table",
    [
        Table({"ra": [1.5, 2.0] * u.hourangle, "dec": [600.0, -60.0] * u.arcmin}),
        QTable({"ra": np.radians([22.5, 30.0]) * u.rad, "dec": [10.0, -1.0] * u.deg}),
        Table({"ra": ["01:30:00", "02h00m00s"], "dec": ["+10:00:00", "-01d00m00s"]}),
        Table({"ra": np.array([22.5, 30.0], ">f4"), "dec": np.array([10, -1], np.int16)}),
    ],
    ids=["units", "quantities", "sexagesimal", "other types"],
)
def test_units_of_positions_are_honoured(database, table):
    assert load_catalog(database, "cat", table).skipped == 0
    found = database.connection.execute("SELECT ra, dec FROM cat ORDER BY id").fetchall()
    np.testing.assert_allclose(found, [(22.5, 10.0), (30.0, -1.0)], rtol=1e-12)
    original = documents(database)[0]["ra"]
    assert (
        original == table["ra"][0] if isinstance(original, str) else float(u.Quantity(table["ra"][0]).value)
    )


def test_units_in_files_are_honoured(database, tmp_path):
    table = Table({"ra": [np.radians(22.5)] * u.rad, "dec": [600.0] * u.arcmin})
    for name in ("a.fits", "a.vot"):
        table.write(tmp_path / name, **({"format": "votable"} if name == "a.vot" else {}))
        load_catalog(database, "cat", tmp_path / name, replace=True)
        np.testing.assert_allclose(
            database.connection.execute("SELECT ra, dec FROM cat").fetchone(), (22.5, 10.0)
        )


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["ra", "dec", "RA_ICRS", "DE_ICRS"], ("ra", "dec")),
        (["RA", "Dec"], ("RA", "Dec")),
        (["RA_ICRS", "DE_ICRS", "x"], ("RA_ICRS", "DE_ICRS")),
        (["raMean", "decMean"], ("raMean", "decMean")),
        (["RAJ2000", "DEJ2000"], ("RAJ2000", "DEJ2000")),
        (["ALPHA_J2000", "DELTA_J2000"], ("ALPHA_J2000", "DELTA_J2000")),
        (["raMean", "decMean", "raStack", "decStack"], None),
        (["ra", "RA", "dec"], None),
        (["ra", "b"], None),
        (["l", "b"], None),
    ],
)
def test_position_columns_are_guessed_where_they_are_plain(database, names, found):
    table = Table([np.full(1, number + 1.0) for number in range(len(names))], names=names)
    if found is None:
        with pytest.raises(ConfigurationError, match=rf"ra= and dec=.*{names[0]}, {names[1]}"):
            load_catalog(database, "cat", table)
        assert database.catalogs() == []
        table.rename_columns([names[0], names[1]], ["a", "d"])
        load_catalog(database, "cat", table, ra="a", dec="d")
        found = "a", "d"
    else:
        load_catalog(database, "cat", table)
    place = tuple(float(table[name][0]) for name in found)
    assert database.connection.execute("SELECT ra, dec FROM cat").fetchone() == place


def test_positions_that_are_none_are_kept_and_counted(database):
    ra = MaskedColumn([10.0, 20.0, np.nan, 30.0, np.inf, 370.0, -10.0], mask=[False, True] + [False] * 5)
    table = Table({"ra": ra, "dec": [1.0, 2.0, 3.0, 90.5, 5.0, 6.0, 7.0]})
    report = load_catalog(database, "cat", table)
    assert (report.rows, report.skipped) == (7, 4)
    found = documents(database)
    assert ["coordinates" in document for document in found] == [True, False, False, False, False, True, True]
    assert found[1]["ra"] is None
    assert math.isnan(found[2]["ra"])
    assert found[4]["ra"] == math.inf
    assert found[5]["ra"] == 370.0
    near = places.cones(
        database, "cat", np.array([10.0, 350.0]), np.array([6.0, 7.0]), 1.0, {}, Projection(None), None
    )
    assert [document["_id"] for document in near] == ["5", "6"]


def test_one_value_that_is_no_number_costs_one_position(database, tmp_path):
    (tmp_path / "t.csv").write_text("name,ra,dec\na,10.0,N/A\nb,20,5\nc,30,6\n")
    report = load_catalog(database, "cat", tmp_path / "t.csv")
    assert (report.rows, report.skipped) == (3, 1)
    near = places.cones(database, "cat", np.array([20.0]), np.array([5.0]), 1.0, {}, Projection(None), None)
    assert [document["name"] for document in near] == ["b"]


def test_a_right_ascension_for_a_declination_is_told(database):
    table = Table({"ra": [1.0, 2.0, 3.0], "dec": [100.0, 20.0, 300.0]})
    with pytest.raises(ConfigurationError, match=r"row 0 has 1\.0 and 100\.0; are ra and dec swapped"):
        load_catalog(database, "cat", table)
    assert database.catalogs() == []


def test_values_of_every_kind(database):
    table = Table(
        {
            "ra": [1.0, 2.0], "dec": [1.0, 2.0],
            "unsigned": np.array([2**63 + 1, 3], np.uint64),
            "single": np.array([0.1, np.nan], np.float32),
            "bytes": np.array([b"abc", b"\xff\xfe"]),
            "when": np.array(["2026-01-01T01:02:03.000004", "NaT"], "datetime64[us]"),
            "time": MaskedColumn(["a", "b"], mask=[False, True]),
            "list": np.array([[1, 2], [3, 4]]),
            "masked_list": MaskedColumn([[1.0, 2.0], [3.0, 4.0]], mask=[[False, True], [False, False]]),
            "object": np.array([{"a": np.int64(5)}, [np.float32(0.5), None]], dtype=object),
        }
    )  # fmt: skip
    table["epoch"] = Time([60000.0, 60001.0], format="mjd")
    load_catalog(database, "cat", table)
    first, second = without_coordinates(documents(database))
    assert first == {
        "_id": "0", "ra": 1.0, "dec": 1.0, "unsigned": 2**63 + 1, "single": float(np.float32(0.1)), "bytes": "abc",
        "when": datetime(2026, 1, 1, 1, 2, 3, 4), "time": "a", "list": [1, 2], "masked_list": [1.0, None],
        "object": {"a": 5}, "epoch": datetime(2023, 2, 25, tzinfo=UTC),
    }  # fmt: skip
    assert math.isnan(second.pop("single"))
    assert second["bytes"] == b"\xff\xfe"
    assert (second["when"], second["time"], second["object"]) == (None, None, [0.5, None])


def test_data_frames_with_missing_values(database):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(
        {
            "ra": [1.0, 2.0], "dec": [1.0, 2.0],
            "id": pandas.array([BIG, None], dtype="Int64"),
            "flag": pandas.array([True, None], dtype="boolean"),
            "text": ["a", None],
            "when": pandas.to_datetime(["2026-01-01T00:00:01", None]),
        },
        index=[7, 7],
    )  # fmt: skip
    load_catalog(database, "cat", frame)
    first, second = without_coordinates(documents(database))
    assert first == {
        "_id": "0", "ra": 1.0, "dec": 1.0, "id": BIG, "flag": True, "text": "a", "when": datetime(2026, 1, 1, 0, 0, 1)
    }  # fmt: skip
    assert type(first["when"]) is datetime
    assert second == {"_id": "1", "ra": 2.0, "dec": 2.0, "id": None, "flag": None, "text": None, "when": None}


def test_parquet_with_missing_values(database, tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = arrow.table(
        {"ra": [1.0, 2.0], "dec": [1.0, None], "id": [BIG, None], "x": [math.nan, None], "parts": [[1, None], None],
         "inner": [{"a": 1}, None]}
    )  # fmt: skip
    parquet.write_table(table, tmp_path / "a.parquet")
    for source in (tmp_path / "a.parquet", table):
        assert load_catalog(database, "cat", source, replace=True).skipped == 1
        first, second = without_coordinates(documents(database))
        assert math.isnan(first.pop("x"))
        assert first == {"_id": "0", "ra": 1.0, "dec": 1.0, "id": BIG, "parts": [1, None], "inner": {"a": 1}}
        assert second == {
            "_id": "1",
            "ra": 2.0,
            "dec": None,
            "id": None,
            "x": None,
            "parts": None,
            "inner": None,
        }
    parquet.write_table(table.slice(0, 0), tmp_path / "a.parquet")
    assert load_catalog(database, "cat", tmp_path / "a.parquet", replace=True).rows == 0


def test_missing_numbers_in_fits_files(database, tmp_path):
    table = gaia()
    table["count"] = MaskedColumn([1, 2, 3, 4, 5], mask=[True, False, False, False, False], fill_value=-99)
    table["flux"] = [np.nan, 1, 2, 3, 4]
    table.write(tmp_path / "a.fits")
    load_catalog(database, "cat", tmp_path / "a.fits", chunk_rows=2)
    found = documents(database)
    assert [document["count"] for document in found] == [None, 2, 3, 4, 5]
    assert [document["flux"] for document in found] == [None, 1, 2, 3, 4]


# CSV -----------------------------------------------------------------------------------------------------------------


def csv_file(tmp_path, text, name="a.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_columns_of_csv_have_one_kind(database, tmp_path):
    text = """# a comment
# another, with "quotes
ra,dec,number,name,late,truth,empty,zeros,big,quoted
1,-05.5,5,a,1,True,,007,123456789012345678901,"a, ""b""
c"
2,.5,,5,2,false,,8,1e400,
3,1e1,null,1_0,x3,,,0,-5,null

4,1,nan,٣,4,TRUE,,1,0,d
"""
    for rows in (1, 2, 100):
        load_catalog(database, "cat", csv_file(tmp_path, text), chunk_rows=rows, replace=True)
        found = without_coordinates(documents(database))
        assert [document["_id"] for document in found] == ["0", "1", "2", "3"]
        columns = {name: [document[name] for document in found] for name in found[0]}
        assert columns["ra"] == [1, 2, 3, 4]
        assert columns["dec"] == [-5.5, 0.5, 10.0, 1]
        assert columns["number"][:3] == [5, None, None]
        assert math.isnan(columns["number"][3])
        assert columns["name"] == ["a", "5", "1_0", "٣"]
        assert columns["late"] == ["1", "2", "x3", "4"]
        assert columns["truth"] == [True, False, None, True]
        assert columns["empty"] == [None] * 4
        assert columns["zeros"] == ["007", "8", "0", "1"]
        assert columns["big"] == [123456789012345678901, math.inf, -5, 0]
        assert columns["quoted"] == ['a, "b"\nc', None, "null", "d"]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters(database, tmp_path, delimiter):
    text = "\ufeffra;dec;name\r\n1;2;a\r\n".replace(";", delimiter)
    load_catalog(database, "cat", csv_file(tmp_path, text))
    assert without_coordinates(documents(database)) == [{"_id": "0", "ra": 1, "dec": 2, "name": "a"}]


def test_a_csv_file_without_rows(database, tmp_path):
    assert load_catalog(database, "cat", csv_file(tmp_path, "ra,dec\n")).rows == 0
    assert documents(database) == []


@pytest.mark.parametrize(
    "text",
    ["", "ra,dec\n1,2,3\n", "ra,dec\n1\n", 'ra,dec\n1,"2\n', b"ra,dec,name\n1,2,\xff\n", "ra,dec,dec\n1,2,3\n",
     "ra,dec\n" + "1" * 200_000 + ",2\n", "a b c\n1 2 3\n"],
    ids=["empty", "too many", "too few", "open quote", "no UTF-8", "twice", "endless", "blanks"],
)  # fmt: skip
def test_bad_csv_is_refused(database, tmp_path, text):
    with pytest.raises(ConfigurationError):
        load_catalog(database, "cat", csv_file(tmp_path, text))
    assert database.catalogs() == []
    assert tables_of(database) == ["catalogs"]


def test_the_line_of_a_fault_is_named(database, tmp_path):
    path = csv_file(tmp_path, "ra,dec\n1,2\n3,4\n5\n")
    with pytest.raises(ConfigurationError, match="line 4") as caught:
        load_catalog(database, "cat", path)
    assert caught.value.position == f"{path}:4"


# Other files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".csv.gz", ".fits", ".fits.gz", ".parquet", ".vot", ".xml.gz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_cut_files_are_refused(database, tmp_path, kind, share):
    if kind == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = written(tmp_path, kind)
    whole = path.read_bytes()
    if kind == ".fits" and share == 0.9:
        share = 0.6  # the end of the file is padding
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ConfigurationError) as caught:
        load_catalog(database, "cat", path)
    assert str(path) in str(caught.value)
    assert tables_of(database) == ["catalogs"]


def test_what_is_no_table_is_refused(database, tmp_path):
    with pytest.raises(NotFoundError):
        load_catalog(database, "cat", tmp_path / "none.csv")
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match=r"\.csv.*\.fits.*\.parquet"):
        load_catalog(database, "cat", tmp_path / "a.xlsx")
    for source in (5, None, [1, 2], b"ra,dec"):
        with pytest.raises(ConfigurationError, match="a table is"):
            load_catalog(database, "cat", source)
    for table in (
        Table({"ra": ["a"], "dec": [1.0], "x": [SkyCoord(1 * u.deg, 1 * u.deg)]}),
        Table({"ra": [1.0] * u.mag, "dec": [1.0]}),
        Table({"ra": [[1.0, 2.0]], "dec": [[1.0, 2.0]]}),
        Table({"ra": [1.0], "dec": [1.0], "place": SkyCoord([1] * u.deg, [1] * u.deg)}),
    ):
        if "x" in table.colnames:
            with pytest.raises(
                ConfigurationError, match=r"row 0 has 'a' and 1\.0"
            ):  # texts that are no position
                load_catalog(database, "cat", table, columns=["ra"])
            continue
        with pytest.raises(ConfigurationError):
            load_catalog(database, "other", table)
    assert database.catalogs() == []


# Ids, names, columns -------------------------------------------------------------------------------------------------


def test_ids_of_the_table_are_taken(database):
    table = gaia()
    table.rename_column("source_id", "_id")
    load_catalog(database, "cat", table)
    assert [document["_id"] for document in documents(database)] == [BIG + number for number in range(5)]
    load_catalog(database, "texts", Table({"_id": ["1", "b"], "ra": [1.0, 2.0], "dec": [1.0, 2.0]}))
    condition = check_filter({"_id": "1"})
    assert [d["_id"] for d in query.find(database, "texts", condition, Projection(None), [], 0, None)] == [
        "1"
    ]
    condition = check_filter({"_id": BIG + 3})
    assert [d["_id"] for d in query.find(database, "cat", condition, Projection(None), [], 0, None)] == [
        BIG + 3
    ]
    assert not list(query.find(database, "texts", check_filter({"_id": 1}), Projection(None), [], 0, None))


@pytest.mark.parametrize(
    "ids",
    [
        [1, 1],
        ["a", "a"],
        [1.5, 2.5],
        MaskedColumn([1, 2], mask=[False, True]),
        np.array([2**64 - 1, 2], np.uint64),
    ],
    ids=["twice", "texts twice", "floats", "masked", "too large"],
)
def test_ids_that_are_none_are_refused(database, ids):
    with pytest.raises(ConfigurationError, match="_id"):
        load_catalog(database, "cat", Table({"_id": ids, "ra": [1.0, 2.0], "dec": [1.0, 2.0]}))
    assert tables_of(database) == ["catalogs"]


def test_columns_may_be_chosen(database):
    load_catalog(database, "cat", gaia(), columns=["name", "ra"])
    assert list(documents(database)[0]) == ["_id", "ra", "dec", "name", "coordinates"]
    with pytest.raises(ConfigurationError, match=r"'nome'.*source_id"):
        load_catalog(database, "more", gaia(), columns=["nome"])
    with pytest.raises(ConfigurationError, match="list"):
        load_catalog(database, "more", gaia(), columns="name")
    with pytest.raises(ConfigurationError, match="both"):
        load_catalog(database, "more", gaia(), ra="ra")
    with pytest.raises(ConfigurationError, match="'rra'"):
        load_catalog(database, "more", gaia(), ra="rra", dec="dec")


def test_dotted_columns_are_documents(database):
    table = Table(
        {"candidate.ra": [1.0], "candidate.dec": [2.0], "candidate.more.x": [3], "coordinates.l": [5.0]}
    )
    load_catalog(database, "cat", table, ra="candidate.ra", dec="candidate.dec")
    (document,) = documents(database)
    assert document.pop("coordinates").keys() == {"radec_str", "radec_geojson"}
    assert document == {"_id": "0", "candidate": {"ra": 1.0, "dec": 2.0, "more": {"x": 3}}}
    with pytest.raises(ConfigurationError, match="can't both"):
        load_catalog(database, "bad", Table({"ra": [1.0], "dec": [1.0], "a": [1], "a.b": [2]}))


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a:b", 'a"b', "a.b", "ZTF_alerts", "x_ALERTS", "x_aux", "sqlite_x", "SQLITE_master", "catalogs", "Catalogs",
     "_x", "ZTF", "LSST", "x" * 101, None, 5, "é", "temp.x"],
)  # fmt: skip
def test_names_that_no_catalog_can_have(database, name):
    with pytest.raises(ConfigurationError):
        load_catalog(database, name, gaia())
    assert tables_of(database) == ["catalogs"]


@pytest.mark.parametrize(
    "name", ["Gaia_EDR3", "2MASS_PSC", "a", "select", "order", "PS1-DR1", "cones", "temp"]
)
def test_names_of_catalogs(database, name):
    load_catalog(database, name, gaia())
    assert query.count(database, name, {}) == 5
    cone = places.cones(
        database, name, np.array([0.0, 0.0]), np.array([-89.0, 5.0]), 1.0, {}, Projection(None), None
    )
    assert [document["_id"] for document in cone] == ["0"]


# Whole or not at all -------------------------------------------------------------------------------------------------


def tables_of(database):
    rows = database.connection.execute(
        "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    )
    return [name for (name,) in rows]


def test_a_catalog_is_only_replaced_when_told(database):
    load_catalog(database, "cat", gaia(3))
    with pytest.raises(ConfigurationError, match="replace=True"):
        load_catalog(database, "cat", gaia(5))
    with pytest.raises(ConfigurationError, match="capitals"):
        load_catalog(database, "CAT", gaia(5), replace=True)
    assert query.count(database, "cat", {}) == 3
    load_catalog(database, "cat", gaia(5), replace=True)
    assert query.count(database, "cat", {}) == 5
    assert tables_of(database) == ["cat", "cat:by_id", "cat:by_place", "catalogs"]


def test_indexes_of_users_outlive_a_replacement(database):
    load_catalog(database, "cat", gaia(3))
    query.create_index(database, "cat", "name")
    before = tables_of(database)
    load_catalog(database, "cat", gaia(5), replace=True)
    assert tables_of(database) == before
    assert query.indexes(database, "cat") == ["name"]
    condition = check_filter({"name": "Gaia 4"})
    assert query.count(database, "cat", condition) == 1


def test_what_breaks_off_leaves_everything_as_it_was(database, tmp_path):
    load_catalog(database, "cat", gaia(3))
    path = csv_file(tmp_path, "ra,dec\n" + "1,2\n" * 50 + "1,2,3\n")
    seen = []
    with pytest.raises(ConfigurationError, match="line 52"):
        load_catalog(database, "cat", path, replace=True, chunk_rows=10, advance=seen.append)
    assert seen == [10] * 5
    assert documents(database)[2]["name"] == "Gaia 2"
    assert tables_of(database) == ["cat", "cat:by_id", "cat:by_place", "catalogs"]


def test_nothing_is_seen_before_it_is_whole(database):
    other = Database(database.path, read_only=True)
    counts = []

    def look(rows):
        counts.append((other.catalogs(), query.count(other, "cat", {})))

    load_catalog(database, "cat", gaia(3))
    load_catalog(database, "cat", gaia(9), replace=True, chunk_rows=2, advance=look)
    assert counts == [(["cat"], 3)] * 5
    assert query.count(other, "cat", {}) == 9
    other.close()


def test_what_a_killed_program_left_is_tidied_up(database):
    code = """
import os, sys
from pathlib import Path
from astropy.table import Table
from nuncius.archives.embedded.database import Database
from nuncius.archives.embedded.load import load_catalog
table = Table({"ra": [1.0] * 100, "dec": [1.0] * 100})
load_catalog(Database(Path(sys.argv[1]), read_only=False), "cat", table, chunk_rows=10, advance=lambda rows: os._exit(9))
"""
    assert subprocess.run([sys.executable, "-c", code, database.path], timeout=60).returncode == 9
    assert database.catalogs() == []
    assert any(":loading:" in name for name in tables_of(database))
    load_catalog(database, "cat", gaia(2))
    assert tables_of(database) == ["cat", "cat:by_id", "cat:by_place", "catalogs"]


def test_a_load_under_way_is_left_alone(database):
    other = Database(database.path, read_only=False)
    names = itertools.count()

    def load_another(rows):
        if next(names) == 0:
            load_catalog(other, "second", gaia(4))

    load_catalog(database, "first", gaia(6), chunk_rows=2, advance=load_another)
    assert (query.count(database, "first", {}), query.count(database, "second", {})) == (6, 4)
    other.close()


def test_a_file_that_is_read_only(database):
    with Database_reading(database) as other, pytest.raises(StorageError, match="read-only"):
        load_catalog(other, "cat", gaia())


class Database_reading:  # noqa: N801 - reads as what it is
    def __init__(self, database):
        self._other = Database(database.path, read_only=True)

    def __enter__(self):
        return self._other

    def __exit__(self, *error):
        self._other.close()


def test_a_table_larger_than_a_piece_is_never_whole_in_memory(database, tmp_path, monkeypatch):
    path = csv_file(tmp_path, "ra,dec\n" + "1.5,2.5\n" * 1000)
    sizes = []
    real = tables._some_rows
    monkeypatch.setattr(tables, "_some_rows", lambda *given: sizes.append(len(rows := real(*given))) or rows)
    assert load_catalog(database, "cat", path, chunk_rows=64).rows == 1000
    assert max(sizes) == 64
    assert sum(sizes) == 1000


def test_the_layout_of_the_file_is_version_3(database):
    load_catalog(database, "cat", gaia())
    assert database.layout == 3
    with sqlite3.connect(f"{database.path.as_uri()}?mode=ro", uri=True) as connection:
        assert connection.execute("SELECT name, kind FROM catalogs").fetchall() == [("cat", "catalog")]
    connection.close()
    assert os.path.getsize(database.path) > 0
