"""Catalogs as Parquet files: nothing is lost, and every file has its part of the sky."""

from __future__ import annotations

import csv
import json
import math
import os
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.table import Table

import archive_support as support
from nuncius._core.jsontext import from_text
from nuncius.archives.embedded import export as exporting
from nuncius.archives.embedded import query
from nuncius.archives.embedded.columns import Column, Columns, values_at
from nuncius.archives.embedded.database import Database
from nuncius.archives.embedded.export import MARGIN_ARCSEC, export
from nuncius.archives.embedded.load import load_catalog
from nuncius.archives.language import Projection
from nuncius.errors import ConfigurationError, NotFoundError, StorageError
from nuncius.sky import ORDER, cells_of, cone_ranges

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
import pyarrow.parquet as pq

BIG = 2**62 + 1


@pytest.fixture
def database(tmp_path):
    opened = Database(tmp_path / "night.db", read_only=False)
    yield opened
    opened.close()


def sources(rng, count=3000):
    """Give sources that crowd at the edges of cells: at RA 0, the equator and the poles."""
    ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    ra[::3] = (np.round(ra[::3] / 45) * 45 + rng.normal(0, 5 / 3600, len(ra[::3]))) % 360
    dec[::7] = rng.choice([-1, 1], len(dec[::7])) * (90 - rng.exponential(0.003, len(dec[::7])))
    return Table(
        {"id": np.arange(count, dtype=np.int64) + BIG, "ra": ra, "dec": dec, "mag": rng.normal(18, 1, count)}
    )


def files_of(folder):
    """Return the files of a dataset with the order and number of their cells."""
    with (folder / "partition_info.csv").open(newline="") as lines:
        parts = [(int(row["Norder"]), int(row["Npix"])) for row in csv.DictReader(lines)]
    return {
        (order, pixel): folder / f"dataset/Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet"
        for order, pixel in parts
    }


def rows_of(folder):
    return [
        row
        for path in files_of(folder).values()
        for row in pq.read_table(path, partitioning=None).to_pylist()
    ]


def restored(rows):
    return [from_text(row["_document"], row["_extras"]) for row in rows]


def documents(database, name):
    images = {"cutoutScience": 0, "cutoutTemplate": 0, "cutoutDifference": 0}
    return list(query.find(database, name, {}, Projection(images), [], 0, None))


# The whole -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows_per_file", [10, 150, 10_000])
def test_every_document_is_in_the_file_of_its_cell(database, tmp_path, rows_per_file):
    table = sources(np.random.default_rng(1))
    load_catalog(database, "Gaia", table)
    seen = []
    report = export(database, tmp_path / "out", rows_per_file=rows_per_file, advance=seen.append)
    assert report.rows == {"Gaia": 3000}
    assert sum(seen) == 3000
    assert report.path == tmp_path / "out"
    files = files_of(tmp_path / "out" / "Gaia")
    found = []
    for (order, pixel), path in files.items():
        rows = pq.read_table(path, partitioning=None).to_pylist()
        cells = [row["_healpix_29"] for row in rows]
        assert cells == sorted(cells)
        assert {cell >> 2 * (ORDER - order) for cell in cells} == {pixel}
        assert len(rows) <= rows_per_file or order == 8
        found += rows
    assert [row["_healpix_29"] for row in found] == sorted(row["_healpix_29"] for row in found)
    np.testing.assert_array_equal(
        cells_of([r["ra"] for r in found], [r["dec"] for r in found]), [r["_healpix_29"] for r in found]
    )
    in_order = sorted(restored(found), key=lambda document: document["id"])
    assert in_order == documents(database, "Gaia")
    assert {row["id"] for row in found} == set(table["id"].tolist())
    assert (len(files) == 12) == (rows_per_file == 10_000)
    assert all(os.path.getsize(path) for path in files.values())


def test_the_metadata_describe_the_files(database, tmp_path):
    load_catalog(database, "Gaia", sources(np.random.default_rng(2)))
    report = export(database, tmp_path / "out", rows_per_file=300)
    for folder in (tmp_path / "out" / "Gaia", tmp_path / "out" / "_margins" / "Gaia"):
        files = files_of(folder)
        metadata = pq.read_metadata(folder / "dataset" / "_metadata")
        names = {metadata.row_group(group).column(0).file_path for group in range(metadata.num_row_groups)}
        assert names == {str(path.relative_to(folder / "dataset")) for path in files.values()}
        assert metadata.num_rows == sum(pq.read_metadata(path).num_rows for path in files.values())
        common = pq.read_schema(folder / "dataset" / "_common_metadata")
        assert all(pq.read_schema(path) == common for path in files.values())
        assert (folder / "properties").read_text() == (folder / "hats.properties").read_text()
        properties = dict(line.split("=", 1) for line in (folder / "properties").read_text().splitlines()[1:])
        assert int(properties["hats_nrows"]) == metadata.num_rows
        assert properties["hats_cols_default"].split() == ["ra", "dec", "_id", "id", "mag"]
        assert int(properties["hats_order"]) == max(order for order, _ in files)
    assert properties["dataproduct_type"] == "margin"
    assert float(properties["hats_margin_threshold"]) == MARGIN_ARCSEC
    assert report.files == len(list((tmp_path / "out").rglob("*.parquet")))


def test_margins_hold_what_lies_near_the_edges(database, tmp_path):
    load_catalog(database, "Gaia", sources(np.random.default_rng(3)))
    export(database, tmp_path / "out", rows_per_file=200)
    parts = sorted(files_of(tmp_path / "out" / "Gaia"))
    margins = {part: pq.read_table(path, partitioning=None).to_pylist()
               for part, path in files_of(tmp_path / "out" / "_margins" / "Gaia").items()}  # fmt: skip
    rows = rows_of(tmp_path / "out" / "Gaia")
    ra, dec = (np.array([row[name] for row in rows]) for name in ("ra", "dec"))
    reached = {}
    # By hand: a cone is near a part of the sky if one of many positions on its rim, or its centre, lies in it.
    for angle in np.linspace(0, 2 * math.pi, 90):
        step = MARGIN_ARCSEC * 0.999 / 3600
        at_dec = dec + step * math.cos(angle)
        over = np.abs(at_dec) > 90
        at_dec = np.where(over, np.sign(at_dec) * 180 - at_dec, at_dec)
        at_ra = ra + step * math.sin(angle) / np.maximum(np.cos(np.radians(dec)), 1e-9) + 180 * over
        near_pole = np.abs(dec) > 89.9
        for order, pixel in parts:
            here = cells_of(at_ra, at_dec) >> 2 * (ORDER - order) == pixel
            own = cells_of(ra, dec) >> 2 * (ORDER - order) == pixel
            reached.setdefault((order, pixel), set()).update(
                np.flatnonzero(here & ~own & ~near_pole).tolist()
            )
    for part, expected in reached.items():
        found = {row["id"] for row in margins.get(part, [])}
        assert {rows[index]["id"] for index in expected} <= found
    assert sum(map(len, reached.values())) > 100
    for (order, pixel), held in margins.items():
        cells = [row["_healpix_29"] for row in held]
        assert cells == sorted(cells)
        assert pixel not in {cell >> 2 * (ORDER - order) for cell in cells}
        assert len({row["id"] for row in held}) == len(held)
        places = np.array([row["ra"] for row in held]), np.array([row["dec"] for row in held])
        index, low, high = cone_ranges(*places, 4 * MARGIN_ARCSEC)
        low_part, high_part = pixel << 2 * (ORDER - order), (pixel + 1) << 2 * (ORDER - order)
        near = np.unique(index[(low < high_part) & (high > low_part)])
        assert len(near) == len(held)  # nothing from far away


def test_alerts_of_every_survey_come_back(database, tmp_path):
    each = support.one_of_each()
    support.keep(database, each.values())
    support.keep(database, [support.annotated(support.ztf(1), antares={"tags": ["sn"], "score": math.nan})])
    report = export(database, tmp_path / "out")
    assert set(report.rows) == set(each)
    for name in each:
        found = restored(rows_of(tmp_path / "out" / name))
        unplaced = tmp_path / "out" / name / "dataset" / "_without_position.parquet"
        if unplaced.exists():
            found += restored(pq.read_table(unplaced, partitioning=None).to_pylist())
        wanted = documents(database, name)
        assert len(found) == len(wanted) == report.rows[name]
        for document in found:
            same_id = next(other for other in wanted if other["_id"] == document["_id"])
            images = [field for field in same_id if field.lower().startswith("cutout")]
            assert support.same(document, {key: value for key, value in same_id.items() if key not in images})


def test_fields_are_columns_named_by_their_paths(database, tmp_path):
    support.keep(database, [support.ztf(number) for number in range(3)])
    export(database, tmp_path / "out")
    rows = sorted(rows_of(tmp_path / "out" / "ZTF_alerts"), key=lambda row: row["candid"])
    assert [row["candid"] for row in rows] == [support.CANDID + number for number in range(3)]
    assert rows[1]["candidate.ra"] == rows[1]["ra"] == 150.01
    assert rows[0]["objectId"] == "ZTF20aaaaa000"
    assert {name for name in rows[0] if name.startswith("coordinates")} == {
        "coordinates.l", "coordinates.b", "coordinates.geocentricmeanecliptic.lambda",
        "coordinates.geocentricmeanecliptic.beta",
    }  # fmt: skip


# Columns -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, -5], "int64"), ([2**63 - 1, -(2**63)], "int64"), ([2**63], "json"), ([1, 2.5], "float64"),
        ([2**53, 0.5], "float64"), ([2**53 + 1, 0.5], "json"), ([math.nan, math.inf], "float64"), ([True, False], "bool_"),
        ([True, 1], "json"), (["a", "b"], "string"), (["a", 1], "json"), ([b"a"], "binary"), ([b"a", "a"], "json"),
        ([[1, 2], [3]], "json"), ([[1], 1], "json"), ([datetime(2026, 1, 1, tzinfo=UTC)], "utc"),
        ([datetime(2026, 1, 1)], "local"), ([datetime(2026, 1, 1), "a"], "json"), ([{"b": 1}, 5], "int64"),
    ],
)  # fmt: skip
def test_a_column_has_one_type_or_is_json(values, kind):
    columns = Columns()
    rows = [{"a": value} for value in values] + [{}, {"a": None}]
    for row in rows:
        columns.see(row)
    first, *rest = columns.found()
    assert first == Column("a:json" if kind == "json" else "a", ("a",), kind)
    assert [column.name for column in rest] == (["a.b"] if {"b": 1} in values else [])
    held = values_at(rows, first)
    if kind == "json":
        assert held[-2:] == [None, None]
        assert [json.loads(text) for text in held[:-2] if not isinstance(values[0], (bytes, datetime))] == [
            value for value in values if not isinstance(values[0], (bytes, datetime))
        ]
    else:
        assert str(held) == str([None if value == {"b": 1} else value for value in [*values, None, None]])


def test_what_makes_no_column():
    columns = Columns([("skip",), ("in", "skip")])
    columns.see(
        {
            "skip": 1,
            "in": {"skip": {"x": 1}, "keep": 1},
            "a.b": 1,
            "a": {"b": None},
            "empty": {},
            "none": None,
        }
    )
    assert [column.name for column in columns.found()] == ["in.keep"]


def test_values_of_every_kind_in_files(database, tmp_path):
    table = Table(
        {
            "ra": [1.0, 2.0, 3.0], "dec": [1.0, 2.0, 3.0], "huge": np.array([2**64 - 1, 0, 1], np.uint64),
            "when": np.array(["2026-01-01T00:00:00"] * 3, "datetime64[us]"), "list": [[1, 2]] * 3,
            "odd": np.array([1, "a", None], dtype=object), "nan": [math.nan, 1.0, math.inf], "Dir": ["x", "y", "z"],
            "_document": ["own"] * 3, "ßt": ["ü"] * 3, "with blank": [1, 2, 3],
        }
    )  # fmt: skip
    load_catalog(database, "cat", table)
    export(database, tmp_path / "out")
    rows = sorted(rows_of(tmp_path / "out" / "cat"), key=lambda row: row["_id"])
    assert [json.loads(row["huge:json"]) for row in rows] == [2**64 - 1, 0, 1]
    assert rows[0]["when"] == datetime(2026, 1, 1)
    assert rows[0]["list:json"] == "[1,2]"
    assert [row["odd:json"] for row in rows] == ["1", '"a"', None]
    assert math.isnan(rows[0]["nan"])
    assert rows[2]["nan"] == math.inf
    assert "Dir" not in rows[0]
    assert support.same(restored(rows), documents(database, "cat"))
    properties = (tmp_path / "out" / "cat" / "properties").read_text(encoding="ascii")
    assert "\\u00dft" in properties
    assert "with blank" not in properties


def test_what_is_a_field_is_told(database, tmp_path):
    degrees = Table({"ra": [1.0, 2.0], "dec": [1.0, 2.0]})
    load_catalog(database, "plain", degrees)
    load_catalog(database, "turned", Table({"ra": [361.0, 2.0], "dec": [1.0, 2.0]}))
    load_catalog(
        database, "other", Table({"RAJ2000": [1.0, 2.0], "DEJ2000": [1.0, 2.0], "x:json": ["a", "b"]})
    )
    export(database, tmp_path / "out")
    fields = {}
    for name in ("plain", "turned", "other"):
        schema = pq.read_schema(tmp_path / "out" / name / "dataset" / "_common_metadata")
        known = json.loads(schema.metadata[b"nuncius"])
        assert known["catalog"] == name
        fields[name] = known["fields"]
        assert [row["ra"] for row in rows_of(tmp_path / "out" / name)] == [1.0, 2.0]
    assert fields == {
        "plain": ["ra", "dec", "_id"],
        "turned": ["_id"],
        "other": ["_id", "RAJ2000", "DEJ2000", "x:json"],
    }


# Places, times and faults --------------------------------------------------------------------------------------------


def test_documents_without_a_position_are_kept_apart(database, tmp_path):
    load_catalog(database, "some", Table({"ra": [1.0, math.nan, 3.0], "dec": [1.0, 2.0, 95.0]}))
    load_catalog(database, "none", Table({"ra": [math.nan], "dec": [2.0]}))
    load_catalog(database, "empty", Table({"ra": [], "dec": []}))
    report = export(database, tmp_path / "out")
    assert report.rows == {"some": 3, "none": 1, "empty": 0}
    assert len(rows_of(tmp_path / "out" / "some")) == 1
    for name, count in (("some", 2), ("none", 1), ("empty", 0)):
        rows = pq.read_table(
            tmp_path / "out" / name / "dataset" / "_without_position.parquet", partitioning=None
        ).to_pylist()
        assert len(rows) == count
        assert all(row["ra"] is row["dec"] is row["_healpix_29"] is None for row in rows)
    assert support.same(restored(rows_of(tmp_path / "out" / "some")), documents(database, "some")[:1])


def test_what_is_written_is_the_state_of_one_moment(database, tmp_path):
    load_catalog(database, "Gaia", sources(np.random.default_rng(5), 2500))
    support.keep(database, [support.ztf(0)])
    other = Database(database.path, read_only=False)
    changed = []

    def change(rows):
        if not changed:
            changed.append(True)
            support.keep(other, [support.ztf(1)])
            load_catalog(other, "Gaia", sources(np.random.default_rng(6), 5), replace=True)

    report = export(database, tmp_path / "out", advance=change)
    assert report.rows == {"Gaia": 2500, "ZTF_alerts": 1}
    assert len(rows_of(tmp_path / "out" / "Gaia")) == 2500
    assert query.count(database, "Gaia", {}) == 5
    other.close()


def test_an_export_never_replaces_anything(database, tmp_path):
    load_catalog(database, "cat", Table({"ra": [1.0], "dec": [2.0]}))
    (tmp_path / "out").mkdir()
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "out", tmp_path / "file", tmp_path / "no" / "folder"):
        with pytest.raises(StorageError):
            export(database, path)
    assert (tmp_path / "file").read_text() == "precious"
    export(database, tmp_path / "new")
    with pytest.raises(StorageError, match="never replaces"):
        export(database, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("night")) == [
        "file",
        "new",
        "out",
    ]


def test_catalogs_may_be_chosen(database, tmp_path):
    for name in ("a", "b"):
        load_catalog(database, name, Table({"ra": [1.0], "dec": [2.0]}))
    assert export(database, tmp_path / "out", catalogs=["b", "b"]).rows == {"b": 1}
    for wrong in (["c"], ["a", "ZTF_alerts_aux"]):
        with pytest.raises(NotFoundError, match="there are a, b"):
            export(database, tmp_path / "more", catalogs=wrong)
    with pytest.raises(ConfigurationError, match="list"):
        export(database, tmp_path / "more", catalogs="a")
    with pytest.raises(ConfigurationError, match="rows_per_file"):
        export(database, tmp_path / "more", rows_per_file=0)
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_breaks_off_leaves_nothing(database, tmp_path, monkeypatch, error):
    load_catalog(database, "cat", Table({"ra": [1.0], "dec": [2.0]}))

    def fail(*given, **options):
        raise error

    monkeypatch.setattr(exporting._Catalog, "_write_properties", fail)
    with pytest.raises(StorageError if isinstance(error, OSError) else KeyboardInterrupt):
        export(database, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("night")] == []


def test_a_large_part_is_written_in_pieces(database, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_CHUNK", 30)
    monkeypatch.setattr(exporting, "_ROW_GROUP", 100)
    ra = np.linspace(10, 10.001, 1000)
    load_catalog(database, "cat", Table({"ra": ra, "dec": ra}))
    export(database, tmp_path / "out", rows_per_file=50)
    ((order, _), path), = files_of(tmp_path / "out" / "cat").items()  # fmt: skip
    assert order == 8
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [120] * 8 + [
        40
    ]
