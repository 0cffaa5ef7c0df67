"""The filter language against mongomock, and the archive against the filter language."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import archive_support as support
import builders
from archive_support import CANDID
from nuncius import open_archive
from nuncius.alerts import Alert
from nuncius.archives.language import check_filter, check_sort, matches, sort_documents

# mongomock ----------------------------------------------------------------------------------------------------------
#
# Left out is what mongomock 4.3.0 itself has wrong or not: it takes true for 1, has no $mod, finds $size in texts and
# numbers, compares documents without regard to the order of their keys, does not treat {$gte: null} as documented, and
# takes not $exists for no element exists, and
# finds nothing at all below a value that is no document (where MongoDB finds null). So `d` is always made of documents.

scalars = st.none() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, "a", "b", "ab"])
ordered = st.integers(-3, 3) | st.sampled_from([0.5, 1.0, 2.5, "a", "b"])
inner = st.dictionaries(st.sampled_from("xy"), scalars | st.lists(scalars, max_size=2), max_size=2)
documents = st.fixed_dictionaries(
    {},
    optional={
        "a": scalars,
        "b": scalars | st.lists(scalars, max_size=3),
        "c": st.lists(scalars, max_size=3),
        "d": inner | st.lists(inner, min_size=1, max_size=3),
    },
)
lists_of_scalars = st.lists(scalars, max_size=3)
everywhere = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), scalars),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered),
    st.tuples(st.sampled_from(["$in", "$nin"]), lists_of_scalars),
)
at_the_top = st.one_of(
    everywhere,
    st.tuples(st.just("$regex"), st.sampled_from(["^a", "b$", "."])),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$all"), st.lists(ordered, min_size=1, max_size=2)),
)


def conditions(operators):
    negated = operators.filter(lambda pair: pair[0] != "$regex").map(lambda pair: {"$not": dict([pair])})
    return st.one_of(scalars, st.lists(operators, min_size=1, max_size=2).map(dict), negated)


elements = st.lists(
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq"]), st.integers(-3, 3)),
    min_size=1,
    max_size=2,
).map(lambda pairs: {"$elemMatch": dict(pairs)})
simple = st.one_of(
    st.dictionaries(st.sampled_from("abcd"), conditions(at_the_top) | elements, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["d.x", "d.y"]), conditions(everywhere), min_size=1, max_size=2),
    st.integers(0, 3).map(lambda size: {"c": {"$size": size}}),
)
filters = st.recursive(
    simple,
    lambda part: st.dictionaries(
        st.sampled_from(["$and", "$or", "$nor"]),
        st.lists(part, min_size=1, max_size=2),
        min_size=1,
        max_size=1,
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def collection():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mongomock = pytest.importorskip("mongomock", reason="mongomock is not installed")
        return mongomock.MongoClient().db.collection


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(documents, min_size=1, max_size=4), filters)
def test_filters_mean_what_they_mean_to_mongomock(collection, some, condition):
    collection.delete_many({})
    collection.insert_many([{"_id": number, **copy.deepcopy(d)} for number, d in enumerate(some)])
    theirs = [found["_id"] for found in collection.find(condition)]
    checked = check_filter(condition)
    ours = [number for number, document in enumerate(some) if matches(document, checked)]
    assert ours == theirs


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(-3, 3) | st.sampled_from(["a", "b"]),
                             max_size=3), min_size=1, max_size=6),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, -1])), min_size=1, max_size=2,
             unique_by=lambda pair: pair[0]),
)  # fmt: skip
def test_documents_are_sorted_as_by_mongomock(collection, some, order):
    collection.delete_many({})
    numbered = [{"_id": number, **d} for number, d in enumerate(some)]
    collection.insert_many(copy.deepcopy(numbered))
    assert sort_documents(numbered, check_sort(order)) == list(collection.find().sort(order))


# The archive --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with open_archive(tmp_path_factory.mktemp("filters") / "night.db") as opened:
        times = [builders.JD, builders.JD, builders.JD + 0.5, builders.JD + 1, 1.7e9, -999.0, 0.0, math.nan]
        names = ["ZTF20a", "ZTF20b", "", "NONE", "null", "ZTF20a", "5", "ztf20a"]
        opened.ingest(
            support.ztf(number, objectId=name, candidate={"jd": jd, "rb": None if number % 3 else number / 8},
                        prv_candidates=[builders.ztf_earlier(jd=builders.JD - number)],
                        **(support.cutouts() if number % 2 else {}))
            for number, (name, jd) in enumerate(zip(names, times, strict=True))
        )  # fmt: skip
        opened.ingest(
            [support.ztf(20, candid=number, candidate={"ra": 500.0}) for number in (0, 1, 2**53 + 1)]
        )
        opened.ingest([support.annotated(support.ztf(1), antares={"n": 3})])
        opened.ingest(
            Alert.from_bytes(
                builders.turbo(outer=number % 2, objectId=name, candidate={"jd": jd, "candid": number})
            )
            for number, (name, jd) in enumerate(zip(names, times, strict=True))
        )
        opened.ingest([support.lsst(), support.lsst("7.4", alertId=5)])
        opened.ingest([support.lsst(diaSourceId=7, source={"diaObjectId": None})])
        opened.ingest(
            support.plain(candid=number, ra=float(number), dec=0.0, a=[number, {"b": number}])
            for number in range(4)
        )
        yield opened


NUMBERS = [
    0,
    1,
    5,
    7,
    CANDID,
    CANDID + 1,
    float(CANDID),
    2**53 + 1,
    float(2**53),
    2**63,
    -(2**70),
    3608694,
    0.5,
]
JDS = [
    builders.JD,
    builders.JD + 0.5,
    builders.JD + 1e-7,
    1.7e9,
    -999.0,
    0,
    0.0,
    2400000.5,
    math.inf,
    -math.inf,
    math.nan,
]
TEXTS = ["ZTF20a", "ZTF20b", "", "NONE", "null", "5", "ztf20a", str(CANDID), "f431661cefbbdba6324bc2e2"]
anything = st.sampled_from([*NUMBERS, *JDS, *TEXTS, None, True, False, [], {}])
values = {
    "_id": st.sampled_from(TEXTS) | anything,
    "candid": st.sampled_from(NUMBERS) | anything,
    "diaSourceId": st.sampled_from(NUMBERS) | anything,
    "objectId": st.sampled_from(TEXTS) | anything,
    "candidate.jd": st.sampled_from(JDS) | anything,
    "candidate.rb": anything,
    "candidate": anything,
    "candidate.candid": anything,
    "cutoutScience": anything,
    "annotations.antares.n": st.integers(2, 4),
    "a.b": st.integers(0, 5),
    "diaSource.diaObjectId": anything,
}


def condition_on(path):
    value = values[path]
    operator = st.one_of(
        st.tuples(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), value),
        st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(value, max_size=4)),
        st.tuples(st.just("$exists"), st.booleans()),
        st.tuples(st.just("$type"), st.sampled_from(["number", "string", "null", "double", "long"])),
    )
    several = st.lists(operator, min_size=1, max_size=3).map(dict)
    return st.one_of(value, several, several.map(lambda some: {"$not": some})).map(
        lambda found: {path: found}
    )


one = st.sampled_from(sorted(values)).flatmap(condition_on)
merged = st.lists(one, min_size=1, max_size=2).map(
    lambda parts: {key: part[key] for part in parts for key in part}
)
logical = st.tuples(st.sampled_from(["$and", "$or", "$nor"]), st.lists(merged, min_size=1, max_size=3)).map(
    lambda pair: dict([pair])
)
questions = st.one_of(merged, logical, st.tuples(merged, logical).map(lambda pair: pair[0] | pair[1]))
ALERTS = ["ZTF_alerts", "TURBO_alerts", "LSST_alerts", "generic_alerts"]
everything = {}


@settings(max_examples=350, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(ALERTS), questions)
@example("ZTF_alerts", {"candid": str(CANDID)})
@example("ZTF_alerts", {"candid": float(2**53)})
@example("ZTF_alerts", {"candid": {"$in": [0, True]}})
@example("ZTF_alerts", {"_id": {"$eq": "f431661cefbbdba6324bc2e2", "$ne": "f431661cefbbdba6324bc2e2"}})
@example("LSST_alerts", {"diaSourceId": 5})
def test_the_archive_finds_what_matches_and_nothing_else(archive, catalog, condition):
    documents = everything.setdefault((archive.path, catalog), archive.find(catalog).docs)
    checked = check_filter(condition)
    expected = [document["_id"] for document in documents if matches(document, checked)]
    assert [document["_id"] for document in archive.find(catalog, condition)] == expected
    assert archive.count(catalog, condition) == len(expected)
    found = archive.find(catalog, condition, sort=[("candid", -1), ("_id", 1)], projection={"_id": 1})
    assert sorted(document["_id"] for document in found) == sorted(expected)


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(TEXTS).map(lambda name: {"_id": name})
    | st.lists(st.sampled_from(TEXTS), max_size=4).map(lambda names: {"_id": {"$in": names}})
    | st.tuples(st.sampled_from(TEXTS), st.sampled_from(TEXTS)).map(
        lambda two: {"_id": {"$in": [two[0]], "$ne": two[1]}}
    )
    | st.floats(builders.JD - 9, builders.JD).map(lambda jd: {"prv_candidates.jd": {"$lt": jd}})
    | st.sampled_from(
        [{"fp_hists": []}, {"fp_hists": {"$size": 0}}, {"prv_candidates": {"$exists": False}}, {}]
    )
)
def test_histories_are_found_when_they_match(archive, condition):
    documents = archive.find("ZTF_alerts_aux").docs
    expected = [document["_id"] for document in documents if matches(document, check_filter(condition))]
    assert [document["_id"] for document in archive.find("ZTF_alerts_aux", condition)] == expected
    assert archive.count("ZTF_alerts_aux", condition) == len(expected)


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(questions, st.integers(1, 4))
def test_cones_take_what_matches(archive, condition, limit):
    documents = archive.find("ZTF_alerts").docs
    assume(documents)
    inside = [document for document in documents if "coordinates" in document]
    expected = {document["_id"] for document in inside if matches(document, check_filter(condition))}
    hits = archive.cone_search("ZTF_alerts", (150.0, -20.0), "5 deg", filter=condition).docs
    assert {hit["_id"] for hit in hits} == expected
    assert [hit["separation_arcsec"] for hit in hits] == sorted(hit["separation_arcsec"] for hit in hits)
    nearest = archive.cone_search("ZTF_alerts", (150.0, -20.0), "5 deg", filter=condition, limit=limit).docs
    assert support.same(nearest, hits[:limit])
