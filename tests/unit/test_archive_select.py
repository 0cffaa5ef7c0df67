"""What SQL answers by itself, which index serves, and what is left to the matcher."""

from __future__ import annotations

import math
import re
import sqlite3

import numpy as np
import pytest

import archive_support as support
import builders
from archive_support import CANDID
from nuncius import open_archive
from nuncius.alerts import Alert
from nuncius.archives.embedded import query
from nuncius.archives.embedded.verdicts import literal_prefix
from nuncius.archives.language import check_filter, matches
from nuncius.errors import FilterError, NotFoundError, StorageError, UnsupportedError

JD = builders.JD
ZTF = "ZTF_alerts"
PLAIN = "generic_alerts"
POSITION = "coordinates.radec_geojson"

VALUES = [
    1, 1.0, True, "1", None, [1], [5, 1], [5, [1]], {"b": 1}, [{"b": 1}, {"b": 5}], math.nan, 2**63, 2**64 + 1, "a\0b", "a", 0.30000000000000004,
    0.3, False, 0, "", [], {}, -1, 2**53 + 1, "ZTF20", {"0": 1}, [{"b": [1, 2]}], 7, "A",
]  # fmt: skip


@pytest.fixture(scope="module", params=[False, True], ids=["scan", "index"])
def values(request, tmp_path_factory):
    """Give an archive with one document for each of many kinds of values, and its documents."""
    with open_archive(tmp_path_factory.mktemp("values") / "night.db") as opened:
        opened.ingest(_alert(number, value) for number, value in enumerate([*VALUES, ...]))
        if request.param:
            opened.create_index(PLAIN, "a")
            opened.create_index(PLAIN, "a.b")
        yield opened, opened.find(PLAIN).docs


def _alert(number, value):
    import bson

    extra = {} if value is ... else {"a": value}
    # Values that no JSON packet can have come in BSON, and larger integers in JSON.
    if isinstance(value, float) and math.isnan(value):
        import zlib

        return Alert.from_bytes(zlib.compress(bson.encode({"candid": number, **extra})))
    return support.plain(candid=number, **extra)


TRAPS = [
    ({"a": None}, "null and missing"),
    ({"a": {"$exists": False}}, "missing alone"),
    ({"a": {"$exists": True}}, "null is there"),
    ({"a": {"$ne": 1}}, "what is missing is not 1"),
    ({"a": {"$nin": [1, "1"]}}, "nor in a list"),
    ({"a": {"$not": {"$gt": 0}}}, "nor above 0"),
    ({"a": {"$gt": 0}}, "texts and booleans are not above 0"),
    ({"a": {"$lt": "b"}}, "numbers are not below a text"),
    ({"a": {"$lt": True}}, "only false is below true"),
    ({"a": 1}, "true is not 1; elements of arrays count"),
    ({"a": True}, "1 is not true"),
    ({"a": 1.0}, "1 and 1.0 are one"),
    ({"a": {"$gt": 4, "$lt": 2}}, "two elements may meet two bounds"),
    ({"a": {"$elemMatch": {"$gt": 4, "$lt": 2}}}, "one element may not"),
    ({"a.b": 1}, "through arrays of documents"),
    ({"a.0": 1}, "an index, or a name"),
    ({"a": {"b": 1}}, "a whole document"),
    ({"a": [1]}, "a whole array"),
    ({"a": []}, "an empty array"),
    ({"a": math.nan}, "NaN is equal to NaN"),
    ({"a": {"$lt": 0}}, "NaN is not below 0"),
    ({"a": {"$gte": None}}, "as equal to null"),
    ({"a": {"$gt": 2**62}}, "integers of more than 64 bits"),
    ({"a": 2**63}, "integers of more than 64 bits"),
    ({"a": float(2**53)}, "an integer beside a float"),
    ({"a": 2**53 + 1}, "which a float would round"),
    ({"a": "a"}, "SQLite ends a text at a NUL"),
    ({"a": "a\0b"}, "SQLite ends a text at a NUL"),
    ({"a": {"$gt": 0.3}}, "fractions that are neighbours"),
    ({"a": {"$lte": 0.3}}, "fractions that are neighbours"),
    ({"a": 0.30000000000000004}, "fractions that are neighbours"),
    ({"a": {"$regex": "^ZTF"}}, "a prefix"),
    ({"a": {"$regex": "^a$"}}, "more than a prefix"),
    ({"a": re.compile("a", re.IGNORECASE)}, "upper and lower case"),
    ({"a": {"$in": [re.compile("^Z"), 7]}}, "a list with an expression"),
    ({"a": {"$in": [*range(7, 60), "a"]}}, "a long list"),
    ({"a": {"$mod": [2, 1]}}, "a remainder"),
    ({"a": {"$type": "number"}}, "a type"),
    ({"a": {"$type": "null"}}, "missing is not null"),
    ({"a": {"$size": 1}}, "a length"),
    ({"$or": [{"a": 1}, {"a": "a"}, {"a": {"$gt": 6}}]}, "no row twice"),
    ({"$nor": [{"a": 1}, {"a": None}]}, "neither"),
    ({"$and": [{"a": {"$gte": 0}}, {"a": {"$lte": 1}}]}, "both"),
    ({"$comment": "of no meaning", "a": 7}, "a comment"),
    ({"$expr": {"$eq": ["$a", 7]}}, "an expression"),
    ({"it's": 1, 'a"b': 1, "a) OR (1": 1}, "names that would be SQL"),
    ({"a": "x' OR '1'='1"}, "a value that would be SQL"),
    ({"$or": [{"a": number} for number in range(400)]}, "more than an SQL expression can hold"),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "trap"), TRAPS, ids=[trap for _, trap in TRAPS])
def test_sql_agrees_with_the_matcher(values, condition, trap):
    archive, documents = values
    checked = check_filter(condition)
    expected = [document["candid"] for document in documents if matches(document, checked)]
    assert [document["candid"] for document in archive.find(PLAIN, condition)] == expected
    assert archive.count(PLAIN, condition) == len(expected)


def test_the_traps_are_traps(values):
    _, documents = values
    assert len(documents) == len(VALUES) + 1
    meeting = {trap: sum(matches(d, check_filter(c)) for d in documents) for c, trap in TRAPS}
    assert 0 < meeting["null and missing"] < meeting["what is missing is not 1"] < len(documents)
    assert meeting["two elements may meet two bounds"] == 1
    assert meeting["one element may not"] == 0
    assert meeting["1 is not true"] == 1
    assert meeting["names that would be SQL"] == 0


# Who decides ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    with open_archive(tmp_path_factory.mktemp("select") / "night.db") as opened:
        opened.ingest(
            support.ztf(number, objectId=f"ZTF20aa{number // 2:03d}",
                        candidate={"rb": number / 64, "fid": 1 + number % 3, "isdiffpos": "t"},
                        **(support.cutouts() if number % 8 == 0 else {}))
            for number in range(64)
        )  # fmt: skip
        opened.create_index(ZTF, "candidate.rb")
        yield opened


def decoded(archive, ask):
    """Return the result of a question, and how many documents were decoded for it."""
    from nuncius.archives.embedded import reading

    number = 0
    original = reading.read_document

    def counting(*row):
        nonlocal number
        number += 1
        return original(*row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "read_document", counting)
        return ask(), number


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"candidate.rb": {"$gte": 0.5}}, 32),
        ({"candidate.rb": 0.5}, 1),
        ({"candidate.rb": {"$gt": 0.25, "$lt": 0.5}}, 15),
        ({"candidate.fid": {"$ne": 1}, "candidate.rb": {"$lt": 0.5}}, 21),
        ({"candidate.fid": {"$in": [1, 2]}}, 43),
        ({"candidate.nothing": {"$exists": False}}, 64),
        ({"candidate.isdiffpos": "t"}, 64),
        ({"objectId": {"$regex": "^ZTF20aa00"}}, 20),
        ({"objectId": {"$regex": "5$"}}, 6),
        ({"candidate.jd": {"$gte": JD, "$lt": JD + 1}}, 10),
        ({"$or": [{"candid": CANDID}, {"objectId": "ZTF20aa004"}, {"candidate.rb": {"$gt": 0.9}}]}, 9),
        ({"$nor": [{"candidate.fid": 1}, {"candidate.fid": 2}]}, 21),
    ],
    ids=repr,
)
def test_counts_decode_no_document(night, condition, expected):
    assert decoded(night, lambda: night.count(ZTF, condition)) == (expected, 0)


def test_skip_and_limit_decode_what_is_given_out(night):
    found, number = decoded(night, lambda: night.find(ZTF, {"candidate.fid": 1}, skip=10, limit=3).docs)
    assert [document["candid"] - CANDID for document in found] == [30, 33, 36]
    assert number == 3
    found, number = decoded(
        night, lambda: night.find(ZTF, sort=[("candidate.fid", -1), ("candid", -1)], limit=2).docs
    )
    assert [document["candid"] - CANDID for document in found] == [62, 59]
    assert number == 2


def test_only_odd_documents_are_left_to_the_matcher(values):
    archive, documents = values
    counted, number = decoded(archive, lambda: archive.count(PLAIN, {"a": {"$gt": 0}}))
    odd = sum(
        isinstance(d.get("a"), (list, int)) and (isinstance(d["a"], list) or d["a"] > 2**62)
        for d in documents
    )
    assert counted > 0
    assert 0 < number <= odd + 2  # NaN, and a text with a NUL


def test_what_the_matcher_decides_on_is_named(night):
    explained = night.explain(
        ZTF, {"candidate.rb": {"$gt": 0.5}, "$expr": {"$gt": ["$candidate.rb", "$candidate.fid"]}}
    )
    assert list(explained.residual) == ["$expr"]
    assert explained.index == ("ZTF_alerts:field:candidate.rb",)
    assert "the matcher then decides on $expr" in str(explained)


def test_explanations_are_for_people(night):
    text = str(night.explain(ZTF, {"candidate.rb": {"$gt": 0.5}}))
    assert text == "the whole filter ran in SQL, with index ZTF_alerts:field:candidate.rb"
    scan = night.explain(ZTF, {"candidate.magpsf": {"$lt": 18}})
    assert scan.scans
    assert "every document is read" in str(scan)
    assert "archive.create_index('ZTF_alerts', 'candidate.magpsf') would help" in str(scan)
    assert "archive.create_index" in scan._repr_html_()
    assert "<script>" not in night.explain(ZTF, {"<script>": {"$size": 1}})._repr_html_()
    assert "18" not in scan.sql
    assert scan.parameters > 0


@pytest.mark.parametrize(
    ("sort", "who"),
    [
        ("-candidate.jd", "index"),
        ("candidate.rb", "index"),
        ("_id", "SQL"),
        ([("candidate.fid", 1), ("candidate.rb", -1)], "SQL"),
        ("it's", "Python"),
    ],
)
def test_explanations_say_who_sorts(night, sort, who):
    assert night.explain(ZTF, sort=sort).sort == who


def test_explanations_of_histories(night):
    by_name = night.explain("ZTF_alerts_aux", {"_id": {"$in": ["ZTF20aa001"]}})
    assert not by_name.scans
    assert night.explain("ZTF_alerts_aux", {"prv_candidates.jd": {"$gt": 1}}).scans


def test_an_or_of_indexed_fields_scans_nothing(night):
    condition = {
        "$or": [
            {"candid": CANDID + 1},
            {"candidate.rb": {"$gt": 0.95}},
            {"objectId": {"$regex": "^ZTF20aa01"}},
        ]
    }
    explained = night.explain(ZTF, condition)
    assert not explained.scans
    assert len(explained.index) == 3
    assert night.explain(ZTF, {"$or": [*condition["$or"], {"candidate.fid": 1}]}).scans


# Sorting -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["a", "candid"])
@pytest.mark.parametrize("direction", [1, -1])
def test_values_of_all_types_are_sorted(values, field, direction):
    from nuncius.archives.language import sort_documents

    archive, documents = values
    expected = [document["candid"] for document in sort_documents(documents, [(field, direction)])]
    assert [d["candid"] for d in archive.find(PLAIN, sort=[(field, direction)])] == expected


def test_a_sort_with_a_limit_reads_few_documents_by_the_index(night):
    connection = night._database.connection
    steps = []
    connection.set_progress_handler(lambda: steps.append(1), 1)
    try:
        night.find(ZTF, sort="-candidate.jd", limit=2).docs  # noqa: B018
        few = len(steps)
        steps.clear()
        night.find(ZTF, sort="-candidate.fid", limit=2).docs  # noqa: B018
        many = len(steps)
    finally:
        connection.set_progress_handler(None, 0)
    assert few * 4 < many


# Places --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, 360, 400), np.degrees(np.arcsin(rng.uniform(-1, 1, 400)))
    ra[:4], dec[:4] = [0.0, 359.9999, 180.0, 12.0], [0.0, 0.0, 0.0, 90.0]
    with open_archive(tmp_path_factory.mktemp("places") / "sky.db") as opened:
        opened.ingest(
            support.plain(candid=n, ra=float(ra[n]), dec=float(dec[n]), odd=bool(n % 2)) for n in range(400)
        )
        # A document may bring coordinates of its own, without a position that we know of.
        own = {"radec_geojson": {"type": "Point", "coordinates": [-180.0, 0.0]}}
        opened.ingest([support.plain(candid=900, coordinates=own), support.plain(candid=901)])
        yield opened, opened.find(PLAIN).docs


@pytest.mark.parametrize("centre", [[-180.0, 0.0], [0.0, 0.0], [33.0, 90.0], [20.0, -41.0]])
@pytest.mark.parametrize("radius", [1e-6, 0.05, 0.6, 3.2])
def test_regions_in_filters_are_found_by_cells(sky, centre, radius):
    archive, documents = sky
    within = {POSITION: {"$geoWithin": {"$centerSphere": [centre, radius]}}}
    for condition in (
        within,
        {"$and": [within, {"odd": True}]},
        {"$or": [within, {"candid": 7}]},
        {"$nor": [within]},
    ):
        checked = check_filter(condition)
        expected = [document["candid"] for document in documents if matches(document, checked)]
        assert [d["candid"] for d in archive.find(PLAIN, condition)] == expected
        assert archive.count(PLAIN, condition) == len(expected)
    assert archive.explain(PLAIN, within).scans is (radius > 2)


def test_near_sorts_by_distance(sky):
    from nuncius.sky import separation_arcsec

    archive, documents = sky
    condition = {POSITION: {"$nearSphere": [20.0, -41.0], "$maxDistance": 0.5}, "odd": True}
    found = archive.find(PLAIN, condition).docs
    places = np.array(
        [document[POSITION.split(".", maxsplit=1)[0]]["radec_geojson"]["coordinates"] for document in found]
    )
    distance = separation_arcsec(20.0, -41.0, *places.T)
    assert len(found) > 3
    assert np.all(np.diff(distance) >= 0)
    expected = {d["candid"] for d in documents if matches(d, check_filter(condition))}
    assert {document["candid"] for document in found} == expected
    nearest = archive.find(PLAIN, condition, skip=1, limit=2).docs
    assert [d["candid"] for d in nearest] == [d["candid"] for d in found[1:3]]
    by_id = archive.find(PLAIN, condition, sort="candid").docs
    assert [d["candid"] for d in by_id] == sorted(expected)


# Indexes -------------------------------------------------------------------------------------------------------------


def test_indexes_survive_ingest_and_are_listed(tmp_path):
    with open_archive(tmp_path / "night.db") as archive:
        archive.ingest(support.ztf(number, candidate={"rb": number / 8}) for number in range(4))
        assert archive.indexes(ZTF) == []
        for field in ("candidate.rb", "objectId", "objectid", "candidate.rb"):
            archive.create_index(ZTF, field)
        archive.ingest(support.ztf(number, candidate={"rb": number / 8}) for number in range(4, 8))
        assert archive.indexes(ZTF) == ["candidate.rb", "objectId", "objectid"]
        assert archive.count(ZTF, {"candidate.rb": {"$gt": 0.5}}) == 3
        assert archive.explain(ZTF, {"candidate.rb": {"$gt": 0.5}}).index == (
            "ZTF_alerts:field:candidate.rb",
        )
    with open_archive(tmp_path / "night.db", read_only=True) as archive:
        assert archive.indexes(ZTF) == ["candidate.rb", "objectId", "objectid"]
        with pytest.raises(StorageError, match="read-only"):
            archive.create_index(ZTF, "candidate.fid")


def test_indexes_are_dropped(tmp_path):
    with open_archive(tmp_path / "night.db") as archive:
        archive.ingest([support.ztf()])
        archive.create_index(ZTF, "candidate.rb")
        query.drop_index(archive._database, ZTF, "candidate.rb")
        assert archive.indexes(ZTF) == []
        with pytest.raises(NotFoundError, match=r"no index of 'candidate\.rb'; it has none"):
            query.drop_index(archive._database, ZTF, "candidate.rb")


@pytest.mark.parametrize(
    "field", ["a'b", 'a"b', "a..b", "", "a)", "a\\b", "é", "x" * 300, ".".join("a" * 30), 5, "a\0"]
)
def test_fields_that_are_no_plain_paths_are_not_indexed(night, field):
    with pytest.raises(FilterError, match="can't be indexed"):
        night.create_index(ZTF, field)


def test_what_is_not_in_documents_is_not_indexed(night):
    with pytest.raises(UnsupportedError, match="put together"):
        query.create_index(night._database, "ZTF_alerts_aux", "prv_candidates.jd")
    for field in ("cutoutScience", "annotations.antares.n"):
        with pytest.raises(FilterError, match="not kept in the documents"):
            night.create_index(ZTF, field)


def test_an_index_on_something_else_is_not_trusted(tmp_path):
    path = tmp_path / "night.db"
    with open_archive(path) as archive:
        archive.ingest(support.ztf(number, candidate={"rb": number / 8}) for number in range(8))
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE INDEX \"ZTF_alerts:field:candidate.rb\" ON ZTF_alerts (json_extract(document, '$.candidate'))"
        )
    connection.close()
    with open_archive(path) as archive:
        assert archive.count(ZTF, {"candidate.rb": {"$gt": 0.5}}) == 3
        assert archive.explain(ZTF, {"candidate.rb": {"$gt": 0.5}}).scans
        archive.create_index(ZTF, "candidate.rb")
        assert not archive.explain(ZTF, {"candidate.rb": {"$gt": 0.5}}).scans


# Columns -------------------------------------------------------------------------------------------------------------


def test_times_of_rubin_are_found_by_the_index(tmp_path):
    with open_archive(tmp_path / "night.db") as archive:
        times = [60900.0, 60900.0 + 30 / 86400, 60901.0]
        archive.ingest(
            support.lsst(diaSourceId=number, source={"diaSourceId": number, "midpointMjdTai": time})
            for number, time in enumerate(times)
        )
        field = "diaSource.midpointMjdTai"
        assert archive.explain("LSST_alerts", {field: {"$gt": 60900.5}}).index == ("LSST_alerts:by_time",)
        for operator, expected in (
            ("$gt", [1, 2]),
            ("$gte", [0, 1, 2]),
            ("$lt", []),
            ("$lte", [0]),
            ("$eq", [0]),
        ):
            found = archive.find("LSST_alerts", {field: {operator: 60900.0}}).docs
            assert [document["diaSourceId"] for document in found] == expected, operator


def test_counts_of_times_are_exact_at_the_bounds(tmp_path):
    with open_archive(tmp_path / "night.db") as archive:
        times = [np.nextafter(JD, 0), JD, np.nextafter(JD, 1e9), JD + 1, -999.0, 1.7e9]
        archive.ingest(support.ztf(number, candidate={"jd": float(jd)}) for number, jd in enumerate(times))
        for operator, expected in (("$gt", 3), ("$gte", 4), ("$lt", 2), ("$lte", 3)):
            assert archive.count(ZTF, {"candidate.jd": {operator: JD}}) == expected, operator
        assert archive.count(ZTF, {"candidate.jd": {"$gte": JD, "$lte": JD}}) == 1
        assert archive.count(ZTF, {"candidate.jd": {"$gt": JD, "$lt": JD}}) == 0
        ordered = archive.find(ZTF, sort="-candidate.jd").docs
        assert [document["candid"] - CANDID for document in ordered] == [5, 3, 2, 1, 0, 4]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("^ZTF20", ("ZTF20", True)), ("^ZTF20$", ("ZTF20", False)), ("ZTF", ("", False)), ("^a|b", ("", False)),
        ("^ab*", ("a", False)), ("^ab?c", ("a", False)), ("^ab{2}", ("a", False)), ("^ab+", ("a", False)),
        (r"^a\.b", ("a.b", True)), (r"^a\db", ("a", False)), ("^", ("", True)), ("^(?i)a", ("", False)), ("^a[bc]", ("a", False)),
        (re.compile("^ab"), ("ab", True)), (re.compile("^ab", re.IGNORECASE), ("", False)), (re.compile("^ab", re.MULTILINE), ("", False)),
    ],
    ids=repr,
)  # fmt: skip
def test_literal_prefixes_of_expressions(pattern, expected):
    assert literal_prefix(pattern) == expected
    assert literal_prefix(pattern, "i") == ("", False)


# Reference catalogs --------------------------------------------------------------------------------------------------


def test_reference_catalogs_are_asked_in_the_same_way(tmp_path):
    from astropy.table import Table

    with open_archive(tmp_path / "night.db") as archive:
        table = Table(
            {"_id": np.arange(50), "ra": np.linspace(0, 49, 50), "dec": np.zeros(50), "g": np.arange(50) / 2}
        )
        archive.load_catalog("Stars", table)
        assert archive.count("Stars", {"_id": {"$in": [3, 4, 99]}}) == 2
        assert archive.explain("Stars", {"_id": 3}).index == ("Stars:by_id",)
        assert archive.count("Stars", {"g": {"$lt": 5}}) == 10
        archive.create_index("Stars", "g")
        assert archive.explain("Stars", {"g": {"$lt": 5}}).index == ("Stars:field:g",)
        assert [d["_id"] for d in archive.find("Stars", {"g": {"$lt": 5}}, sort="-g", limit=2)] == [9, 8]
        assert archive.distinct("Stars", "_id", {"_id": {"$lt": 3}}) == [0, 1, 2]
        assert archive.estimated_count("Stars") == 50
        near = {POSITION: {"$geoWithin": {"$centerSphere": [[-170.0, 0.0], 0.02]}}}
        assert sorted(d["_id"] for d in archive.find("Stars", near)) == [9, 10, 11]
