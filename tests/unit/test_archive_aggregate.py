"""Pipelines on an archive: what of them SQL runs, and that nothing is loaded that nobody asked for."""

from __future__ import annotations

import numpy as np
import pytest

import archive_support as support
import builders
from archive_support import CANDID
from nuncius import open_archive
from nuncius.archives.embedded import group, query
from nuncius.archives.embedded.aggregate import leading, needed_images, pushed
from nuncius.archives.language import check_pipeline, run_pipeline
from nuncius.errors import FilterError, ForbiddenError, NotFoundError

JD = builders.JD
ZTF = "ZTF_alerts"
PLAIN = "generic_alerts"
IMAGES = ("cutoutScience", "cutoutTemplate", "cutoutDifference")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with open_archive(tmp_path_factory.mktemp("aggregate") / "night.db") as opened:
        opened.ingest(
            support.ztf(number, objectId=f"ZTF20aa{number // 3:03d}",
                        candidate={"rb": number / 16, "fid": 1 + number % 3, "magpsf": 18 + number / 7},
                        prv_candidates=[builders.ztf_earlier(jd=JD - 1 - number)], **support.cutouts())
            for number in range(12)
        )  # fmt: skip
        yield opened


def pipeline_of(*stages):
    return check_pipeline(list(stages))


@pytest.fixture
def in_sql(monkeypatch):
    """Note whether groups were made in SQL."""
    outcomes = []
    from nuncius.archives.embedded import aggregate

    def grouped(*arguments):
        made = group.grouped(*arguments)
        outcomes.append(made is not None)
        return made

    monkeypatch.setattr(aggregate, "grouped", grouped)
    return outcomes


PIPELINES = [
    [{"$match": {"candidate.fid": 1}}, {"$count": "n"}],
    [{"$match": {"candidate.fid": 9}}, {"$count": "n"}],
    [{"$group": {"_id": "$candidate.fid", "n": {"$sum": 1}, "mean": {"$avg": "$candidate.magpsf"}}}],
    [{"$group": {"_id": None, "least": {"$min": "$candidate.jd"}, "most": {"$max": "$candid"}}}],
    [{"$match": {"candidate.fid": 9}}, {"$group": {"_id": None, "n": {"$count": {}}}}],
    [{"$group": {"_id": {"object": "$objectId", "fid": "$candidate.fid"}, "n": {"$sum": 2}}}, {"$sort": {"_id": -1}}],
    [{"$group": {"_id": "$candidate.nothing", "n": {"$sum": "$candidate.nothing"}, "m": {"$avg": "$candidate.nothing"}}}],
    [{"$group": {"_id": "$objectId", "all": {"$push": "$candid"}}}],
    [{"$group": {"_id": {"$mod": ["$candid", 2]}, "n": {"$sum": 1}}}],
    [{"$sortByCount": "$objectId"}, {"$limit": 2}],
    [{"$sort": {"candidate.magpsf": -1}}, {"$skip": 2}, {"$limit": 3}, {"$project": {"candid": 1}}],
    [{"$limit": 5}, {"$match": {"candidate.fid": 2}}, {"$count": "n"}],
    [{"$match": {"candidate.rb": {"$gt": 0.2}}}, {"$match": {"candidate.fid": 2}}, {"$project": {"candid": 1, "_id": 0}}],
    [{"$match": {"$expr": {"$gt": ["$candidate.rb", 0.5]}}}, {"$bucket": {"groupBy": "$candidate.fid", "boundaries": [1, 2, 4]}}],
    [{"$facet": {"n": [{"$count": "n"}], "fids": [{"$sortByCount": "$candidate.fid"}]}}],
    [{"$unwind": "$coordinates.radec_str"}, {"$count": "n"}],
    [{"$match": {"cutoutScience": {"$exists": True}}}, {"$count": "n"}],
    [{"$unset": ["candidate", "coordinates"]}, {"$limit": 2}],
    [{"$geoNear": {"near": [-30.0, -20.0], "distanceField": "d", "maxDistance": 0.001, "query": {"candidate.fid": {"$lt": 3}}}},
     {"$project": {"d": 1}}],
    [{"$geoNear": {"near": {"type": "Point", "coordinates": [-30.0, -20.0]}, "distanceField": "d"}}, {"$project": {"d": 1}}],
]  # fmt: skip


@pytest.mark.parametrize("stages", PIPELINES, ids=repr)
def test_pipelines_give_what_the_language_says(archive, stages):
    documents = archive.find(ZTF).docs
    expected = list(run_pipeline(documents, pipeline_of(*stages)))
    found = archive.aggregate(ZTF, stages).docs
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert list(ours) == list(theirs)
        for name, value in theirs.items():
            assert ours[name] == (pytest.approx(value, rel=1e-14) if isinstance(value, float) else value)
            assert type(ours[name]) is type(value)


@pytest.mark.parametrize(
    ("stage", "sql"),
    [
        ({"$group": {"_id": "$candidate.fid", "n": {"$sum": 1}, "m": {"$max": "$candidate.magpsf"}}}, True),
        ({"$group": {"_id": {"f": "$candidate.fid"}, "m": {"$min": "$objectId"}}}, True),
        ({"$group": {"_id": "all", "n": {"$count": {}}}}, True),
        ({"$sortByCount": "$candidate.fid"}, True),
        ({"$group": {"_id": "$candidate.fid", "n": {"$sum": 1.5}}}, False),
        ({"$group": {"_id": "$candidate.fid", "n": {"$push": "$candid"}}}, False),
        ({"$group": {"_id": "$candidate", "n": {"$sum": 1}}}, False),
        ({"$group": {"_id": {"f": "$candidate.nothing"}, "n": {"$sum": 1}}}, False),
        ({"$group": {"_id": "$coordinates.radec_str", "n": {"$sum": 1}}}, False),
        ({"$group": {"_id": None, "n": {"$sum": "$candid"}}}, False),  # more than 64 bits
    ],
    ids=repr,
)
def test_groups_of_plain_fields_are_made_in_sql(archive, in_sql, stage, sql):
    found = archive.aggregate(ZTF, [stage]).docs
    assert in_sql == [sql]
    assert found


def test_sums_of_ids_are_exact(archive):
    (found,) = archive.aggregate(ZTF, [{"$limit": 2}, {"$group": {"_id": None, "n": {"$sum": "$candid"}}}])
    assert found["n"] == 2 * CANDID + 1
    (found,) = archive.aggregate(
        ZTF, [{"$match": {"candid": CANDID}}, {"$group": {"_id": None, "n": {"$sum": "$candid"}}}]
    )
    assert found["n"] == CANDID


def test_groups_are_made_by_an_index_alone(tmp_path, in_sql):
    with open_archive(tmp_path / "night.db") as archive:
        archive.ingest(support.ztf(number, candidate={"fid": 1 + number % 2}) for number in range(6))
        archive.create_index(ZTF, "candidate.fid")
        statements = []
        archive._database.connection.set_trace_callback(statements.append)
        found = archive.aggregate(ZTF, [{"$sortByCount": "$candidate.fid"}]).docs
        assert archive.distinct(ZTF, "candidate.fid") == [1, 2]
        archive._database.connection.set_trace_callback(None)
    assert found == [{"_id": 1, "count": 3}, {"_id": 2, "count": 3}]
    assert in_sql == [True]
    # One each: the index said all, and the documents were not asked.
    assert len([statement for statement in statements if "GROUP BY" in statement]) == 1
    assert len([statement for statement in statements if "DISTINCT" in statement]) == 1


@pytest.mark.parametrize(
    "values",
    [[1, 1.0, True], ["1", 1], [0.5, "0.5"], [None, 2], [[1], 1], [2**63, 1], [2**62, 2**62], [{"x": 1}], [False, 0],
     [0.1 + 0.2, 0.3], ["a\0b", "a"], [1.0, 2]],
    ids=repr,
)  # fmt: skip
def test_groups_of_odd_values(tmp_path, values):
    stages = [
        {
            "$group": {
                "_id": "$a",
                "sum": {"$sum": "$a"},
                "min": {"$min": "$a"},
                "max": {"$max": "$a"},
                "n": {"$sum": 1},
            }
        }
    ]
    with open_archive(tmp_path / "night.db") as archive:
        archive.ingest(support.plain(candid=n, a=value) for n, value in enumerate(values))
        documents = archive.find(PLAIN).docs
        for some in (stages, [{"$group": {**stages[0]["$group"], "_id": None}}], [{"$sortByCount": "$a"}]):
            expected = list(run_pipeline(documents, pipeline_of(*some)))
            assert support.same(archive.aggregate(PLAIN, some).docs, expected)


def test_the_least_fraction_is_digit_for_digit_that_of_the_document(tmp_path):
    rng = np.random.default_rng(3)
    values = rng.uniform(0, 1, 300) * 10 ** rng.uniform(-20, 20, 300)
    with open_archive(tmp_path / "night.db") as archive:
        archive.ingest(support.plain(candid=n, a=float(value), b=n % 50) for n, value in enumerate(values))
        stages = [
            {"$group": {"_id": "$b", "min": {"$min": "$a"}, "max": {"$max": "$a"}}},
            {"$sort": {"_id": 1}},
        ]
        found = archive.aggregate(PLAIN, stages).docs
    assert [g["min"] for g in found] == values.reshape(6, 50).min(axis=0).tolist()
    assert [g["max"] for g in found] == values.reshape(6, 50).max(axis=0).tolist()


# Images --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([], IMAGES),
        ([{"$match": {"candid": 1}}], IMAGES),
        ([{"$project": {"candid": 1}}], ()),
        ([{"$project": {"candid": 1, "cutoutScience": 1}}], ("cutoutScience",)),
        ([{"$project": {"cutoutScience": 0}}], IMAGES[1:]),
        ([{"$unset": ["cutoutScience", "cutoutTemplate"]}], ("cutoutDifference",)),
        ([{"$group": {"_id": "$candid"}}], ()),
        ([{"$group": {"_id": None, "first": {"$first": "$$ROOT"}}}], IMAGES),
        ([{"$addFields": {"n": {"$size": "$cutoutScience"}}}, {"$count": "n"}], ("cutoutScience",)),
        (
            [{"$facet": {"a": [{"$count": "n"}], "b": [{"$project": {"cutoutTemplate": 1}}]}}],
            ("cutoutTemplate",),
        ),
        ([{"$sort": {"candid": 1}}, {"$limit": 1}], IMAGES),
    ],
    ids=repr,
)
def test_images_that_a_pipeline_needs(stages, expected):
    assert needed_images(pipeline_of(*stages), IMAGES) == expected


def test_images_are_loaded_for_what_comes_out(archive):
    statements = []
    connection = archive._database.connection
    connection.set_trace_callback(statements.append)
    try:
        assert len(archive.aggregate(ZTF, [{"$sort": {"candid": 1}}, {"$project": {"candid": 1}}])) == 12
        assert not [statement for statement in statements if ":images" in statement]
        (found,) = archive.aggregate(ZTF, [{"$sort": {"candid": -1}}, {"$limit": 1}])
        assert len([statement for statement in statements if ":images" in statement]) == 1
    finally:
        connection.set_trace_callback(None)
    assert found["cutoutScience"]["fileName"] == "Science.fits.gz"


# Other catalogs ------------------------------------------------------------------------------------------------------


def test_joins_read_what_they_need(archive):
    statements = []
    connection = archive._database.connection
    stages = [
        {"$match": {"candid": {"$lt": CANDID + 4}}},
        {"$lookup": {"from": "ZTF_alerts_aux", "localField": "objectId", "foreignField": "_id", "as": "aux"}},
        {"$project": {"_id": 0, "candid": 1, "aux.prv_candidates.jd": 1}},
    ]
    connection.set_trace_callback(statements.append)
    try:
        found = archive.aggregate(ZTF, stages).docs
    finally:
        connection.set_trace_callback(None)
    assert [len(document["aux"][0]["prv_candidates"]) for document in found] == [3, 3, 3, 3]
    asked = [statement for statement in statements if ":points" in statement]
    assert asked
    assert all("WHERE object_id IN" in statement for statement in asked)


def test_joins_within_a_catalog(archive):
    stages = [
        {"$match": {"candid": CANDID}},
        {"$lookup": {"from": ZTF, "localField": "objectId", "foreignField": "objectId", "as": "same",
                     "pipeline": [{"$project": {"candid": 1, "_id": 0}}]}},
        {"$project": {"_id": 0, "same": 1}},
    ]  # fmt: skip
    (found,) = archive.aggregate(ZTF, stages)
    assert found == {"same": [{"candid": CANDID + number} for number in range(3)]}
    with_images = [*stages[:1], {"$lookup": {**stages[1]["$lookup"], "pipeline": []}}]
    (found,) = archive.aggregate(ZTF, with_images)
    assert all("cutoutScience" in document for document in found["same"])


def test_histories_in_pipelines(archive):
    stages = [{"$match": {"_id": "ZTF20aa001"}}, {"$unwind": "$prv_candidates"}, {"$count": "n"}]
    assert archive.aggregate("ZTF_alerts_aux", stages).docs == [{"n": 3}]
    assert archive.aggregate("ZTF_alerts_aux", [{"$count": "n"}]).docs == [{"n": 4}]
    by_length = [{"$group": {"_id": {"$size": "$prv_candidates"}, "n": {"$sum": 1}}}]
    assert archive.aggregate("ZTF_alerts_aux", by_length).docs == [{"_id": 3, "n": 4}]
    assert archive.distinct("ZTF_alerts_aux", "_id") == [f"ZTF20aa{number:03d}" for number in range(4)]
    assert archive.estimated_count("ZTF_alerts_aux") == 4


@pytest.mark.parametrize(
    ("stages", "error"),
    [
        ([{"$out": "ZTF_alerts"}], ForbiddenError),
        ([{"$facet": {"a": [{"$merge": "x"}]}}], ForbiddenError),
        (
            [{"$lookup": {"from": "nothing", "localField": "a", "foreignField": "b", "as": "c"}}],
            NotFoundError,
        ),
        ([{"$lookup": {"from": "sqlite_master", "pipeline": [], "as": "c"}}], NotFoundError),
        ([{"$unionWith": "ZTF_alerts:images"}], NotFoundError),
        ([{"$matsch": {}}], FilterError),
    ],
    ids=repr,
)
def test_pipelines_that_are_refused(archive, stages, error):
    with pytest.raises(error):
        archive.aggregate(ZTF, stages).docs  # noqa: B018


# What runs in SQL ----------------------------------------------------------------------------------------------------


def test_the_filter_at_the_beginning_is_found():
    one, two = {"$match": {"a": 1}}, {"$match": {"b": 2}}
    assert leading(pipeline_of(one, two, {"$limit": 1})) == ({"$and": [{"a": 1}, {"b": 2}]}, [{"$limit": 1}])
    assert leading(pipeline_of(one)) == ({"a": 1}, [])
    assert leading([]) == ({}, [])
    now = {"$match": {"$expr": {"$lt": ["$a", "$$NOW"]}}}
    assert leading(pipeline_of(now)) == ({}, pipeline_of(now))


def test_the_stages_that_sql_is_asked_for_are_counted():
    assert pushed(pipeline_of({"$count": "n"}, {"$limit": 1})) == 1
    assert pushed(pipeline_of({"$sort": {"a": 1}}, {"$skip": 1}, {"$limit": 1}, {"$limit": 1})) == 3
    assert pushed(pipeline_of({"$limit": 1}, {"$sort": {"a": 1}})) == 1
    assert pushed(pipeline_of({"$unwind": "$a"})) == 0


def test_a_pipeline_is_explained(archive):
    stages = pipeline_of({"$match": {"candid": CANDID}}, {"$sort": {"candidate.jd": -1}}, {"$limit": 2})
    explained = query.explain(archive._database, ZTF, {}, pipeline=stages)
    assert explained.index == ("ZTF_alerts:by_alert",)
    assert explained.stages == 3
    assert explained.sort == "SQL"


# Values and numbers --------------------------------------------------------------------------------------------------


def test_samples_are_documents_of_the_catalog(archive):
    everything = {document["candid"] for document in archive.find(ZTF, projection=["candid"])}
    for size, number in ((5, 5), (50, 12)):
        found = [document["candid"] for document in archive.aggregate(ZTF, [{"$sample": {"size": size}}])]
        assert len(set(found)) == len(found) == number
        assert set(found) <= everything
    some = archive.aggregate(ZTF, [{"$match": {"candidate.fid": 1}}, {"$sample": {"size": 50}}])
    assert {document["candid"] - CANDID for document in some} == {0, 3, 6, 9}


def test_distinct_values(archive):
    assert archive.distinct(ZTF, "candidate.fid") == [1, 2, 3]
    assert archive.distinct(ZTF, "objectId", {"candidate.fid": 1, "candid": {"$lt": CANDID + 6}}) == [
        "ZTF20aa000",
        "ZTF20aa001",
    ]
    assert archive.distinct(ZTF, "candidate.nothing") == []
    assert archive.distinct(ZTF, "coordinates.radec_geojson.type") == ["Point"]
    assert archive.distinct(ZTF, "cutoutScience.fileName") == ["Science.fits.gz"]
    assert len(archive.distinct(ZTF, "_id")) == 12


def test_estimates_are_the_span_of_what_is_there(tmp_path):
    with open_archive(tmp_path / "night.db") as archive:
        archive.ingest(support.ztf(number) for number in range(20))
        assert archive.estimated_count(ZTF) == 20
        archive.prune("1d")
        assert archive.count(ZTF) == archive.estimated_count(ZTF) == 0
