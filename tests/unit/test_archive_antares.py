"""ANTARES as an archive: a small server that speaks its interface, and what we make of whatever it answers.

The server answers from loci in memory, with the forms and the habits of the real one: a `limit` that is only the size of
a page, links to the next page, texts that are taken apart word by word unless the field is known to be kept whole.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import operator
import pickle
import re
import threading
import time
from functools import cache
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time
from hypothesis import example, given, settings
from hypothesis import strategies as st

import nuncius
from http_support import Loopback, json_reply, reply
from nuncius import aio
from nuncius.archives.antares.backend import AntaresBackend
from nuncius.archives.antares.filters import clauses_of, search_of
from nuncius.archives.antares.service import around
from nuncius.archives.antares.tables import columns_of_csv
from nuncius.archives.language import check_filter, matches
from nuncius.archives.paged.conditions import equalities, interval
from nuncius.archives.paged.tiles import Circle
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FilterError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    PartialResultError,
    ServerError,
    UnreachableError,
    UnsupportedError,
)
from nuncius.sky import separation_arcsec
from nuncius.sky.regions import Polygon

CATALOG = "ANTARES_loci"
NEWEST = "properties.newest_alert_observation_time"
KEPT_WHOLE = {"tags", "catalogs", "grav_wave_events", "properties.ztf_object_id"}
CSV = "ant_mjd,alert_id,ant_mag,ant_survey\n60000.5,ztf_candidate:1,18.25,1\n60001.5,ztf_upper_limit:2,,2\n"
FITS = b"SIMPLE  =" + b" " * 100


def locus(n, ra=None, dec=None, **properties):
    return {
        "locus_id": f"ANT2026{n:05d}",
        "ra": 10.0 + (n % 20) * 0.001 if ra is None else ra,
        "dec": -5.0 + n // 20 * 0.001 if dec is None else dec,
        "htm16": 2**35 + n,
        "properties": {
            "num_alerts": n % 11,
            "newest_alert_observation_time": 61000.0 + (n * 7 % 60),
            "newest_alert_magnitude": None if n % 5 == 0 else 15 + n / 10,
            "ztf_object_id": f"ZTF26aaaa{n:03d}",
            "survey": {"lsst": {"dia_object_id": [2**60 + n], "ss_object_id": []}, "ztf": {"id": [f"ZTF26aaaa{n:03d}"]}},
            "note": ["SN Ia", "SN II", "sn ia peculiar", "+++"][n % 4],
            **properties,
        },
        "tags": ["nuclear_transient"] if n % 3 == 0 else [],
        "grav_wave_events": ["S230518h"] if n == 7 else [],
        "catalogs": ["gaia_dr3"] if n % 2 else [],
    }  # fmt: skip


LOCI = [locus(n) for n in range(60)]


class Antares:
    """The server; `spoil` maps a path to an answer, or to a function of the request, that comes instead."""

    def __init__(self, loci=LOCI):
        self.loci, self.spoil = list(loci), {}
        self.largest_page = 1000
        self.server = Loopback(self.answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()

    @property
    def url(self):
        return f"antares+{self.server.url}"

    def open(self, **options):
        return nuncius.open_archive(self.url, **options)

    def asked(self, path="/v2/loci"):
        return [asked for asked in self.server.requests if asked.path == path]

    def searches(self):
        return [json.loads(asked.params["elasticsearch_query"]) for asked in self.asked()]

    def answer(self, asked):
        if asked.path in self.spoil:
            spoil = self.spoil[asked.path]
            made = spoil(asked) if callable(spoil) else spoil
            if made != "as always":
                return made
        assert asked.method == "GET"
        parts = asked.path.removeprefix("/v2/").split("/")
        if parts[0] == "loci":
            if len(parts) == 1:
                return self.listing(asked)
            return self.statistics() if parts[1] == "statistics" else self.detail(*parts[1:])
        if parts[0] == "images":
            return reply(200, FITS + parts[1].encode(),
                         {"content-disposition": f'attachment; filename="../{parts[1]}.fits"'})  # fmt: skip
        return getattr(self, parts[0])(asked, *parts[1:])

    def listing(self, asked):
        params = asked.params
        query = json.loads(params["elasticsearch_query"])
        assert set(query) <= {"query"}
        chosen = [one for one in self.loci if meets(one, query.get("query", {"match_all": {}}))]
        down, name = params["sort"].startswith("-"), params["sort"].removeprefix("-")
        chosen.sort(key=lambda one: leaves(one, name) or [-1], reverse=down)
        size, offset = min(int(params["limit"]), self.largest_page), int(params.get("offset", 0))
        following = None
        if offset + size < len(chosen):
            asks = {name: values[0] for name, values in parse_qs(urlsplit(asked.target).query).items()}
            following = f"http://inside.example/v2/loci?{urlencode({**asks, 'offset': offset + size})}"
        page = [{"locus": one} for one in chosen[offset : offset + size]]
        return json_reply({"data": page, "meta": None, "links": {"self": asked.target, "next": following}})

    def detail(self, name, kind=None):
        found = next((one for one in self.loci if one["locus_id"] == name), None)
        if found is None:
            return json_reply({"errors": [{"detail": "no such locus"}]}, 404)
        n = int(name[-5:])
        if kind == "alerts":
            return data([{"id": f"ztf_candidate:{i}", "mjd": 61000.5 + i, "created_at": "2026-01-01T00:00:00", "survey": "ztf",
                          "properties": {"ztf_candid": 2**61 + i}, "grav_wave_events": []} for i in range(n % 4)])  # fmt: skip
        if kind == "catalog-matches":
            return data([{"id": "1", "object_id": "7", "catalog_name": "gaia_dr3", "ra": 1.0, "dec": 2.0, "radius": 0.1,
                          "properties": {"phot": 1.5}, "object_name": "x", "extra": {"separation": 0.3}}])  # fmt: skip
        rest = {name: value for name, value in found.items() if name not in {"locus_id", "properties"}}
        given = None if n % 2 else {"mine": 1}
        return data({"id": name, **rest, "internal_properties": given and {"mine": 0, "inner": 5},
                     "user_properties": {**found["properties"], **(given or {})}, "lightcurve": CSV})  # fmt: skip

    def statistics(self):
        return data({"id": "1", "catalogs": {"gaia_dr3": 30}, "tags": {"nuclear_transient": 20, "a": 1},
                     "min_num_measurements": 1, "max_num_measurements": 9})  # fmt: skip

    def alerts(self, asked, alert_id, _):
        if alert_id != "ztf_candidate%3A1":
            return json_reply({"data": [], "meta": None, "links": None})
        kinds = ("template", "science", "difference")
        return data([{"id": f"{kind}_1.fits.gz", "filemime": "image/fits", "thumbnail_type": kind,
                      "src": f"{self.server.url}/v2/images/{kind}"} for kind in kinds])  # fmt: skip

    def catalog_search(self, asked, ra, dec):
        return data(
            [{"id": "1", "catalog_name": "gaia_dr3", "properties": {"ra": float(ra), "dec": float(dec)}}]
        )

    def catalog_samples(self, asked):
        return data(
            [
                {"id": str(i), "catalog_name": "gaia_dr3", "properties": {}}
                for i in range(int(asked.params["n"]))
            ]
        )

    def grav_wave_notice(self, asked, gracedb_id, which=None):
        known = {"S230518h": "UPDATE", "S230520ae": "INITIAL"}
        if which is None:
            return data([self.notice(name, known[name]) for name in reversed(parse_qs(urlsplit(asked.target).query)["ids"])
                         if name in known])  # fmt: skip
        if gracedb_id not in known:
            return json_reply({"detail": "Not Found"}, 404)
        return data(self.notice(gracedb_id, known[gracedb_id] if which == "latest" else which))

    @staticmethod
    def notice(name, kind):
        return {"id": 1, "gracedb_id": name, "notice_type": kind, "notice_datetime": "2023-05-18T12:59:08",
                "skymap_base64": None if name == "S230520ae" else base64.b64encode(FITS).decode(), "version_id": 1}  # fmt: skip


def data(value):
    return json_reply({"data": value, "meta": None, "links": None})


# Elasticsearch, as far as it goes here: an index with all the traps of one ---------------------------------------------


def leaves(document, path):
    values = [document]
    for name in path.split("."):
        values = [value[name] for value in values if isinstance(value, dict) and name in value]
        values = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [value for value in values if value is not None]


def words(text):
    return set(re.findall(r"[a-z0-9_]+", str(text).lower()))


def single(value):
    return float(np.float32(value))


def meets(document, query):
    ((kind, asked),) = query.items()
    if kind == "match_all":
        return True
    if kind == "bool":
        parts = asked.get("filter", [])
        needed = all(meets(document, part) for part in (parts if isinstance(parts, list) else [parts]))
        should = [meets(document, part) for part in asked.get("should", [])]
        return needed and sum(should) >= asked.get("minimum_should_match", 0)
    if kind == "sky_distance":
        radius, unit = asked["radius"].split()
        assert unit == "degree"
        assert float(radius) <= 1
        far = separation_arcsec(*place_of(asked["location"]), document["ra"], document["dec"])
        return bool(far <= float(radius) * 3600)
    if kind == "exists":
        return bool(leaves(document, asked["field"]))
    ((path, wanted),) = asked.items()
    values = leaves(document, path)
    if kind == "term":
        return any(is_term(path, value, wanted) for value in values)
    if kind == "terms":
        return any(is_term(path, value, one) for value in values for one in wanted)
    if kind == "range":
        tests = {"gte": operator.ge, "lte": operator.le, "gt": operator.gt, "lt": operator.lt}
        numbers = [single(value) for value in values if isinstance(value, (int, float))]
        return any(
            all(tests[side](number, single(end)) for side, end in wanted.items()) for number in numbers
        )
    assert kind == "match"
    assert wanted["operator"] == "and"
    assert wanted["lenient"]
    return any(is_match(value, wanted) for value in values)


@cache
def place_of(location):
    centre = SkyCoord(location)
    return centre.ra.deg, centre.dec.deg


def is_term(path, value, wanted):
    if isinstance(value, str):
        return value == wanted if path in KEPT_WHOLE else str(wanted) in words(value)
    return str(value) == str(wanted)


def is_match(value, wanted):
    asked = wanted["query"]
    if isinstance(value, str):
        return words(asked) <= words(value) if words(asked) else wanted.get("zero_terms_query") == "all"
    return single(value) == single(asked) if isinstance(asked, (int, float)) else str(value) == asked


@pytest.fixture(autouse=True)
def own_config(tmp_path, monkeypatch):
    """Let no proxy of this machine be used, and no test wait."""
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("nuncius._core.retry._FIRST_WAIT_S", 0.005)


@pytest.fixture
def antares():
    with Antares() as server:
        yield server


@pytest.fixture
def archive(antares):
    with antares.open() as opened:
        yield opened


def names(found):
    return [int(document["_id"][-5:]) for document in found]


# Filters --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "clauses"),
    [
        ({}, []),
        ({"tags": "a"}, [{"term": {"tags": "a"}}]),
        ({"tags": {"$in": ["a", "b"]}}, [{"terms": {"tags": ["a", "b"]}}]),
        ({"tags": {"$all": ["a", "b"]}}, [{"term": {"tags": "a"}}, {"term": {"tags": "b"}}]),
        ({"properties.n": {"$gt": 1, "$lt": 5}}, [{"range": {"properties.n": {"gte": 1}}},
                                                  {"range": {"properties.n": {"lte": 5}}}]),
        ({"properties.n": {"$gte": "a"}}, [{"exists": {"field": "properties.n"}}]),
        ({"properties.n": {"$regex": "^a"}}, [{"exists": {"field": "properties.n"}}]),
        ({"properties.n": {"$type": "string"}}, [{"exists": {"field": "properties.n"}}]),
        ({"properties.n": {"$type": ["string", "array"]}}, []),
        ({"properties.n": {"$size": 1}}, []),  # a list of null is nothing to the server
        ({"properties.n": None}, []),
        ({"properties.n": {"$ne": 3}}, []),
        ({"properties.n": {"$exists": True}}, []),  # null exists, for us
        ({"properties.n": float("inf")}, []),
        ({"properties.n.0": 5}, []),
        ({"ra": {"$gt": 5}}, []),
        ({"$nor": [{"tags": "a"}]}, []),
        ({"$or": [{"tags": "a"}, {"ra": 5}]}, []),
        ({"$or": [{"tags": "a"}, {"tags": "b", "properties.n": {"$lt": 1}}]},
         [{"bool": {"should": [{"term": {"tags": "a"}},
                               {"bool": {"filter": [{"term": {"tags": "b"}}, {"range": {"properties.n": {"lte": 1}}}]}}],
                    "minimum_should_match": 1}}]),
        ({"$and": [{"tags": "a"}, {"$expr": {"$gt": ["$ra", 1]}}]}, [{"term": {"tags": "a"}}]),
    ],
)  # fmt: skip
def test_what_the_server_is_told_of_a_filter(condition, clauses):
    assert clauses_of(check_filter(condition)) == clauses
    assert search_of(clauses) == ({"query": {"bool": {"filter": clauses}}} if clauses else {})


def test_a_text_is_asked_for_as_the_field_is_kept():
    (clause,) = clauses_of(check_filter({"properties.note": "SN Ia"}))
    assert clause["match"]["properties.note"]["query"] == "SN Ia"
    assert clause["match"]["properties.note"]["zero_terms_query"] == "all"


VALUES = [
    None,
    True,
    0,
    1,
    1.0000000001,
    0.1,
    -2,
    "SN Ia",
    "sn ia",
    "+",
    "",
    [],
    [None],
    [0, 3],
    [1, "SN Ia"],
    ["a", "b"],
]
DOCUMENTS = [
    {"ra": 1.5, "tags": tags, "properties": {"a": a, "b": b} if b != "" else {"a": a}}
    for a in VALUES for b in VALUES for tags in ([], ["a"], ["a", "SN Ia"])
]  # fmt: skip
OPERANDS = st.sampled_from([value for value in VALUES if not isinstance(value, list)] + [2, 1.0, "a", -0.5])
CONDITIONS = st.one_of(
    OPERANDS,
    st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq", "$ne"]), OPERANDS, min_size=1, max_size=2),
    st.builds(lambda items, name: {name: items}, st.lists(OPERANDS, max_size=3), st.sampled_from(["$in", "$nin", "$all"])),
    st.builds(lambda n: {"$size": n}, st.integers(0, 2)),
    st.builds(lambda flag: {"$exists": flag}, st.booleans()),
    st.builds(lambda names: {"$type": names}, st.lists(st.sampled_from(["string", "number", "bool", "null", "array"]),
                                                       min_size=1, max_size=2)),
    st.just({"$regex": "a"}),
)  # fmt: skip
LEAVES = st.dictionaries(
    st.sampled_from(["properties.a", "properties.b", "tags", "ra"]), CONDITIONS, min_size=1, max_size=2
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.builds(lambda name, parts: {name: parts}, st.sampled_from(["$and", "$or", "$nor"]),
                            st.lists(inner, min_size=1, max_size=3)),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(FILTERS)
@example({"properties.a": {"$gt": 1}})  # a number that the index rounds to the bound
@example({"properties.a": {"$gte": None}})
@example({"properties.a": "+"})
@example({"properties.a": {"$size": 1}})
def test_no_locus_that_meets_a_filter_is_lost_by_what_the_server_is_told(condition):
    checked = check_filter(condition)
    clauses = clauses_of(checked)
    for document in DOCUMENTS:
        if matches(document, checked):
            assert all(meets(document, clause) for clause in clauses), document


def test_names_and_intervals_in_filters():
    condition = check_filter(
        {"a": {"$gt": 1, "$lte": 5}, "$and": [{"a": {"$lt": 4}}, {"b": {"$in": ["x", "y"]}}]}
    )
    assert interval(condition, "a") == (1, 4)
    assert interval(condition, "b") == (None, None)
    assert equalities(condition, "b") == ["x", "y"]
    assert equalities(condition, "a") is None
    assert equalities(check_filter({"$or": [{"b": 1}]}), "b") is None


# Asking ---------------------------------------------------------------------------------------------------------------


def test_documents_are_found_and_decided_here(archive, antares):
    found = archive.find(
        CATALOG, {"tags": "nuclear_transient", "properties.note": {"$ne": "SN II"}}, sort="_id"
    )
    assert names(found) == [n for n in range(60) if n % 3 == 0 and n % 4 != 1]
    document = found[0]
    assert document["coordinates"]["radec_geojson"]["coordinates"] == [10.0 - 180.0, -5.0]
    assert document["locus_id"] == document["_id"]
    assert antares.searches() == [{"query": {"bool": {"filter": [{"term": {"tags": "nuclear_transient"}}]}}}]


def test_a_text_that_the_server_takes_apart_is_found_and_no_other(archive):
    assert names(archive.find(CATALOG, {"properties.note": "SN Ia"}, sort="_id")) == [
        n for n in range(60) if n % 4 == 0
    ]
    assert names(archive.find(CATALOG, {"properties.note": "+++"}, sort="_id")) == [
        n for n in range(60) if n % 4 == 3
    ]
    assert names(archive.find(CATALOG, {"properties.survey.ztf.id": "ZTF26aaaa007"})) == [7]


def test_numbers_at_the_rim_of_a_range(archive):
    bright = {"properties.newest_alert_magnitude": {"$gt": 15.1, "$lte": 15.4}}
    assert names(archive.find(CATALOG, bright, sort="_id")) == [2, 3, 4]


def test_pages_are_followed_to_the_end_and_stop_at_the_limit(archive, antares):
    antares.largest_page = 7
    assert names(archive.find(CATALOG, sort="_id")) == list(range(60))
    assert len(antares.asked()) == 9
    before = len(antares.asked())
    assert len(archive.find(CATALOG, {"tags": "nuclear_transient"}, limit=5)) == 5
    assert len(antares.asked()) == before + 1
    assert len(archive.find(CATALOG, limit=10)) == 10
    assert len(antares.asked()) == before + 3
    assert archive.find(CATALOG, limit=0).docs == []
    assert len(antares.asked()) == before + 3


def test_the_newest_first_are_sorted_by_the_server(archive, antares):
    antares.largest_page = 10
    found = archive.find(CATALOG, sort=f"-{NEWEST}", limit=5, skip=2)
    everything = archive.find(CATALOG, sort=[(NEWEST, -1)])
    assert [d["properties"][NEWEST[11:]] for d in found] == [
        d["properties"][NEWEST[11:]] for d in everything
    ][2:7]
    assert len(antares.asked()) == 1 + 6


def test_an_order_that_the_server_does_not_keep_is_made_here(antares):
    with antares, antares.open() as archive:
        antares.spoil["/v2/loci"] = lambda asked: antares.listing(
            type(asked)(
                "GET", asked.target.replace("sort=-properties.newest", "sort=properties.newest"), {}, b""
            )
        )
        found = archive.find(CATALOG, sort=f"-{NEWEST}", limit=3)
    assert [d["properties"][NEWEST[11:]] for d in found] == [61059.0, 61058.0, 61057.0]


def test_a_projection_and_one_document(archive):
    (found,) = archive.find(CATALOG, {"properties.ztf_object_id": "ZTF26aaaa007"}, projection=["tags"])
    assert found == {"_id": "ANT202600007", "tags": []}
    assert archive.find_one(CATALOG, {"properties.num_alerts": 99}) is None


def test_loci_are_asked_for_by_name(archive, antares):
    found = archive.find(CATALOG, {"_id": {"$in": ["ANT202600003", "nobody", "ANT202600001"]}})
    assert names(found) == [3, 1]
    assert antares.asked() == []
    assert "lightcurve" not in found[0]
    assert found[0]["properties"]["note"] == "+++"
    assert names(archive.find(CATALOG, {"locus_id": "ANT202600003", "tags": "nuclear_transient"})) == [3]
    assert names(archive.find(CATALOG, {"locus_id": "ANT202600001", "tags": "nuclear_transient"})) == []
    assert archive.count(CATALOG, {"_id": {"$in": ["ANT202600003", "ANT202600001"]}}, limit=1) == 1
    assert archive.find(CATALOG, {"_id": {"$in": []}}).docs == []


def test_the_order_of_named_loci(archive):
    wanted = {"_id": {"$in": [f"ANT2026{n:05d}" for n in (3, 1, 9)]}}
    by_time = sorted((3, 1, 9), key=lambda n: -(n * 7 % 60))
    assert names(archive.find(CATALOG, wanted, sort=f"-{NEWEST}", limit=2)) == by_time[:2]
    assert names(archive.find(CATALOG, wanted, sort="-_id", limit=1)) == [9]


def test_counts_are_of_what_meets_the_filter(archive):
    assert archive.count(CATALOG) == 60
    assert archive.count(CATALOG, {"properties.note": "SN Ia"}) == 15
    assert archive.count(CATALOG, {"properties.note": "SN Ia"}, skip=10, limit=99) == 5
    assert archive.count(CATALOG, {"properties.note": "SN Ia"}, limit=3) == 3
    with pytest.raises(UnsupportedError, match="does not say how many"):
        archive.estimated_count(CATALOG)


def test_values_and_pipelines_are_made_here(archive, antares):
    assert archive.distinct(CATALOG, "tags") == ["nuclear_transient"]
    groups = archive.aggregate(
        CATALOG, [{"$match": {"tags": "nuclear_transient"}}, {"$group": {"_id": "$properties.note", "n": {"$sum": 1}}},
                  {"$sort": {"_id": 1}}],
    )  # fmt: skip
    assert groups.docs == [{"_id": name, "n": 5} for name in ("+++", "SN II", "SN Ia", "sn ia peculiar")]
    assert antares.searches()[-1] == {
        "query": {"bool": {"filter": [{"term": {"tags": "nuclear_transient"}}]}}
    }
    assert len(archive.aggregate(CATALOG, [{"$sort": {"_id": 1}}, {"$skip": 3}, {"$limit": 2}])) == 2
    with pytest.raises(UnsupportedError, match="one catalog"):
        archive.aggregate(CATALOG, [{"$unionWith": "Gaia"}])


def test_what_would_read_everything_is_refused(archive, antares, monkeypatch):
    monkeypatch.setattr(AntaresBackend, "most_read", 20)
    antares.largest_page = 10
    with pytest.raises(UnsupportedError, match="more than 20 documents would have to be read"):
        archive.find(CATALOG, {"ra": {"$gt": 1}})
    assert len(archive.find(CATALOG, {"ra": {"$gt": 1}}, limit=20)) == 20


def test_catalogs_info_and_explain(archive):
    assert archive.catalogs() == [CATALOG]
    info = archive.info()
    assert info["catalogs"] == {CATALOG: {}}
    assert info["statistics"]["tags"]["nuclear_transient"] == 20
    explained = archive.explain(CATALOG, {"tags": "a", "ra": 5}, sort="ra")
    assert explained == {
        "asked": search_of([{"term": {"tags": "a"}}]),
        "filter": {"tags": "a", "ra": 5},
        "sorted by": "here",
    }
    with pytest.raises(NotFoundError, match="it has ANTARES_loci"):
        archive.find("ZTF_alerts")
    with pytest.raises(UnsupportedError, match="near or cone_search"):
        archive.find(CATALOG, {"coordinates.radec_geojson": {"$nearSphere": [-170, -5]}})


# Cones ----------------------------------------------------------------------------------------------------------------


def near(places, radius_arcsec, loci=LOCI):
    return [
        [n for _, n in sorted((float(separation_arcsec(ra, dec, one["ra"], one["dec"])), int(one["locus_id"][-5:]))
                              for one in loci
                              if separation_arcsec(ra, dec, one["ra"], one["dec"]) <= radius_arcsec)]
        for ra, dec in places
    ]  # fmt: skip


def test_cones_by_position_and_then_by_distance(archive, antares):
    places = {f"at {n}": (10.0 + n * 0.001 + 0.0001, -5.0) for n in range(5)}
    found = archive.cone_search(CATALOG, places, "8 arcsec", projection=["tags"])
    assert [names(group) for group in found.by_position().values()] == near(places.values(), 8)
    assert set(found[0]) == {"_id", "tags", "input_index", "separation_arcsec"}
    assert len(antares.asked()) == 5
    tagged = archive.cone_search(CATALOG, places, "8 arcsec", filter={"tags": "nuclear_transient"}, limit=1)
    assert {n % 3 for n in names(tagged)} == {0}
    assert antares.searches()[-1]["query"]["bool"]["filter"][1] == {"term": {"tags": "nuclear_transient"}}


def test_a_cone_that_has_several_pages(archive, antares):
    antares.largest_page = 7
    assert names(archive.cone_search(CATALOG, (10.0, -5.0), "1 deg")) == near([(10.0, -5.0)], 3600)[0]
    assert len(antares.asked()) == 9


def field(place, n):
    """Give loci within some 4 degrees of a place, across the pole if need be."""
    centre = SkyCoord(*place, unit="deg")
    there = centre.directional_offset_by(
        np.arange(n) * 137.508 * u.deg, 4 * np.sqrt((np.arange(n) + 0.5) / n) * u.deg
    )
    return [locus(i, ra=float(one.ra.deg), dec=float(one.dec.deg)) for i, one in enumerate(there)]


@pytest.mark.parametrize("place", [(0.0, 0.0), (359.9, 60.0), (120.0, 89.5), (33.0, -90.0)])
def test_a_cone_that_is_larger_than_the_server_takes(place):
    loci = field(place, 200)
    with Antares(loci) as antares, antares.open() as archive:
        found = names(archive.cone_search(CATALOG, place, "3 deg"))
        assert found == near([place], 3 * 3600, loci)[0]
        assert 80 < len(found) < 150
        assert len(antares.asked()) > 20


def test_a_cone_that_would_be_too_many_questions(archive, antares):
    with pytest.raises(UnsupportedError, match="at most 1 deg"):
        archive.cone_search(CATALOG, (0, 0), "60 deg")
    assert antares.asked() == []


def test_the_place_of_a_cone_is_written_as_astropy_reads_it():
    for ra, dec in (
        (0.0, 0.0),
        (359.9999999999, -0.000001),
        (10.68458, 41.26917),
        (123.456, -90.0),
        (1.0, 89.9999999),
    ):
        clause = around(Circle(ra, dec, 2.0))["sky_distance"]
        read = SkyCoord(clause["location"])
        assert separation_arcsec(ra, dec, read.ra.deg, read.dec.deg) < 1e-3
        assert clause["radius"] == "0.0005555556 degree"


def test_an_answer_to_another_question_is_not_believed(archive, antares):
    antares.spoil["/v2/loci"] = json_reply({"data": [{"locus": locus(1, ra=200.0)}], "links": {"next": None}})
    with pytest.raises(ServerError, match="not that to the question"):
        archive.cone_search(CATALOG, (10.0, -5.0), "2 arcsec")


def test_a_region_that_is_larger_than_a_cone():
    loci = field((100.0, 40.0), 200)
    corners = [(97.0, 37.0), (103.0, 38.0), (102.0, 43.0)]
    with Antares(loci) as antares, antares.open() as archive:
        found = archive.region_search(CATALOG, corners, filter={"tags": []}, sort="-_id", skip=1, limit=20)
        inside = Polygon(corners).contains([one["ra"] for one in loci], [one["dec"] for one in loci])
        wanted = [n for n in range(200) if inside[n] and n % 3][::-1]
        assert names(found) == wanted[1:21]
        assert len(antares.asked()) < 100
        with pytest.raises(UnsupportedError, match="a region of that size"):
            archive.region_search(CATALOG, [(0, -40), (100, -40), (50, 60)])


def test_regions_and_crossmatches(archive):
    corners = [(10.0045, -5.0005), (10.0095, -5.0005), (10.0095, -4.9985), (10.0045, -4.9985)]
    inside = archive.region_search(CATALOG, corners, sort="_id")
    assert names(inside) == [5, 6, 7, 8, 9, 25, 26, 27, 28, 29]
    pairs = archive.crossmatch(CATALOG, CATALOG, "1 arcsec", filter={"tags": "nuclear_transient"}, limit=1)
    assert len(pairs) == 20
    assert all(document["matches"][0]["_id"] == document["_id"] for document in pairs)


# Searching ------------------------------------------------------------------------------------------------------------


NUCLEAR = {"query": {"bool": {"filter": [{"term": {"tags": "nuclear_transient"}}]}}}


def collected(colour, antares, *args, **options):
    if colour == "sync":
        with antares.open() as archive:
            return list(archive.search(*args, **options))

    async def whole():
        async with aio.open_archive(antares.url) as archive:
            return [document async for document in archive.search(*args, **options)]

    return asyncio.run(whole())


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(
    ("limit", "page_size", "requests"), [(None, 7, 3), (10, 7, 2), (7, 7, 1), (3, 100, 1), (0, 7, 0)]
)
def test_a_search_has_a_true_limit(colour, antares, limit, page_size, requests):
    found = collected(colour, antares, NUCLEAR, limit=limit, page_size=page_size)
    assert len(found) == (20 if limit is None else limit)
    assert all("nuclear_transient" in document["tags"] for document in found)
    assert len(antares.asked()) == requests


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_search_is_in_the_order_asked(colour, antares):
    assert names(collected(colour, antares, sort="properties.num_alerts", limit=3)) == [0, 11, 22]
    newest = collected(colour, antares, limit=60, page_size=11)
    times = [document["properties"][NEWEST[11:]] for document in newest]
    assert times == sorted(times, reverse=True)


def test_the_next_page_is_on_its_way_while_this_one_is_read(antares):
    arrived = threading.Event()

    def slow(asked):
        if "offset" in asked.params:
            arrived.set()
            time.sleep(0.2)
        return "as always"

    antares.spoil["/v2/loci"] = slow
    with antares.open() as archive:
        pages = archive.search(page_size=30)
        first = next(pages)
        assert arrived.wait(2)
        assert len([first, *pages]) == 60


def test_nothing_is_asked_before_it_is_wanted_nor_after_it_is_closed(antares):
    with antares.open() as archive:
        pages = archive.search(page_size=10)
        assert antares.asked() == []
        next(pages)
        pages.close()
        assert list(pages) == []
        assert len(antares.asked()) <= 2


def test_a_loop_that_is_left_leaves_nothing_behind(antares, caplog):
    async def whole():
        async with aio.open_archive(antares.url) as archive:
            async for _ in archive.search(page_size=10):
                break
            pages = archive.search(page_size=10)
            await anext(pages)
            await pages.close()
            assert [document async for document in pages] == []
        gc.collect()

    asyncio.run(whole())
    gc.collect()
    assert not caplog.records


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_locus_that_moves_while_it_is_listed_comes_once(colour, antares):
    def moving(asked):
        if "offset" in asked.params:  # a new alert has put another one on top
            antares.loci = [
                *antares.loci,
                locus(100 + len(antares.asked()), newest_alert_observation_time=62000.0),
            ]
        return "as always"

    antares.spoil["/v2/loci"] = moving
    found = names(collected(colour, antares, page_size=20))
    assert len(found) == len(set(found)) == 60


def test_a_search_that_is_none(archive):
    with pytest.raises(FilterError, match="one key"):
        archive.search({"query": {}, "aggs": {}})
    with pytest.raises(ConfigurationError, match="page_size"):
        archive.search(page_size=0)
    with pytest.raises(ConfigurationError, match="limit"):
        archive.search(limit=-1)
    with pytest.raises(ConfigurationError, match="timeout_s"):
        archive.search(timeout_s=0)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (
            {"data": [{"locus": LOCI[0]}], "links": {"next": "https://elsewhere.example/v2/loci"}},
            "link to the next page",
        ),
        ({"data": [{"locus": LOCI[0]}], "links": {"next": 5}}, "link to the next page"),
        ({"data": [{"locus": LOCI[0]}], "links": None}, "does not say whether it is the last"),
        ({"data": {"locus": LOCI[0]}, "links": None}, "a page of loci"),
        ({"data": [LOCI[0]], "links": None}, "a locus was expected"),
        ({"data": [{"locus": {"ra": 1}}], "links": None}, "without its id"),
        ({"loci": []}, "in `data`"),
        ([], "in `data`"),
    ],
)
def test_pages_that_make_no_sense(archive, antares, answer, match):
    antares.spoil["/v2/loci"] = json_reply(answer)
    with pytest.raises(ServerError, match=match):
        list(archive.search(page_size=1))


def test_pages_that_go_in_a_circle(archive, antares):
    circle = {"data": [{"locus": LOCI[0]}], "links": {"next": "/v2/loci?offset=1"}}
    antares.spoil["/v2/loci"] = json_reply(circle)
    with pytest.raises(ServerError, match="again"):
        list(archive.search())


def test_a_page_that_failed_is_asked_for_again(archive, antares):
    failing = iter([json_reply({"detail": "no"}, 500)])
    antares.spoil["/v2/loci"] = lambda asked: (
        next(failing, "as always") if "offset" in asked.params else "as always"
    )
    pages = archive.search(page_size=30)
    found = [next(pages) for _ in range(30)]
    with pytest.raises(ServerError, match="HTTP 500: no"):
        next(pages)
    assert len(found + list(pages)) == 60


# One locus, and what belongs to it ------------------------------------------------------------------------------------


def test_a_locus_by_its_name(archive):
    found = archive.locus("ANT202600004")
    assert found["properties"]["mine"] == 1
    assert found["properties"]["inner"] == 5
    assert found["properties"]["note"] == "SN Ia"
    assert found["internal_properties"] == {"mine": 0, "inner": 5}
    assert archive.locus("ANT202600005")["internal_properties"] is None
    with pytest.raises(NotFoundError, match=r"the locus 'ANT1': no such locus") as caught:
        archive.locus("ANT1")
    assert caught.value.status == 404
    with pytest.raises(ConfigurationError):
        archive.locus("..")


def test_a_name_cannot_lead_elsewhere(archive, antares):
    with pytest.raises(NotFoundError):
        archive.locus("../alerts/1?x=1#y")
    assert antares.server.paths() == ["/v2/loci/..%2Falerts%2F1%3Fx%3D1%23y"]


def test_many_loci_in_the_order_asked(archive, antares):
    wanted = [f"ANT2026{n:05d}" for n in (9, 3, 9, 44)]
    assert names(archive.loci(wanted)) == [9, 3, 9, 44]
    assert len(antares.server.requests) == 3
    with pytest.raises(PartialResultError, match=r"2 of 4 loci did not come: nobody, none") as caught:
        archive.loci([wanted[0], "nobody", wanted[1], "none"])
    assert names(caught.value.result) == [9, 3]
    found = archive.loci(["nobody", wanted[0]], allow_partial=True)
    assert names(found) == [9]
    assert [list(failure.indexes) for failure in found.failures] == [[0]]
    assert isinstance(found.failures[0].error, NotFoundError)
    assert archive.loci([]).docs == []


def test_loci_by_the_names_of_surveys(archive, antares):
    assert archive.locus_by_ztf_id("ZTF26aaaa007")["_id"] == "ANT202600007"
    assert archive.locus_by_lsst_id(2**60 + 8)["_id"] == "ANT202600008"
    assert archive.locus_by_lsst_id(str(2**60 + 9))["_id"] == "ANT202600009"
    assert len(antares.server.requests) == 3
    with pytest.raises(NotFoundError, match="ztf_object_id 'ZTF1'"):
        archive.locus_by_ztf_id("ZTF1")
    with pytest.raises(NotFoundError):
        archive.locus_by_lsst_ss_id(5)
    antares.spoil["/v2/loci"] = json_reply({"data": [{"locus": LOCI[1]}], "links": None})
    with pytest.raises(ServerError, match="has another"):
        archive.locus_by_ztf_id("ZTF26aaaa002")


def test_alerts_matches_and_light_curve(archive):
    alerts = archive.alerts("ANT202600003")
    assert [alert["properties"]["ztf_candid"] for alert in alerts] == [2**61, 2**61 + 1, 2**61 + 2]
    assert archive.catalog_matches("ANT202600003")[0]["extra"] == {"separation": 0.3}
    table = archive.light_curve("ANT202600003")
    assert table.colnames == ["ant_mjd", "alert_id", "ant_mag", "ant_survey"]
    assert table["ant_mag"].mask.tolist() == [False, True]
    assert table["ant_survey"].tolist() == [1, 2]
    with pytest.raises(NotFoundError):
        archive.alerts("nobody")
    with pytest.raises(NotFoundError):
        archive.light_curve("nobody")


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", {}),
        ("a,b\n", {"a": [], "b": []}),
        (",a\n0,1\n1,\n", {"index": [0, 1], "a": [1, None]}),
        ("id\n2533439950215015011\n\n7\n", {"id": [2533439950215015011, 7]}),
        ("id\n007\n8\n", {"id": [7.0, 8.0]}),
        ('a\n"x, y"\nnan\n', {"a": ["x, y", None]}),
        ("\ufeffa,b\r\n1e3,True\r\n-.5,False\r\n", {"a": [1000.0, -0.5], "b": [True, False]}),
        ("a\n1_000\n2\n", {"a": ["1_000", "2"]}),
    ],
)
def test_tables_of_text(text, columns):
    assert columns_of_csv(text) == columns


@pytest.mark.parametrize("text", ["a,b\n1\n", "a,a\n1,2\n", 'a\n"1\n', "<html>\n<a, b>\n", "a\n1,2\n"])
def test_light_curves_that_are_no_tables(archive, antares, text):
    antares.spoil["/v2/loci/ANT202600001"] = data(
        {"id": "ANT202600001", "internal_properties": None, "user_properties": None, "lightcurve": text}
    )
    with pytest.raises(ServerError, match="no table"):
        archive.light_curve("ANT202600001")


def test_thumbnails_come_side_by_side(antares):
    together = threading.Barrier(3)

    def image(asked):
        together.wait(5)
        return "as always"

    antares.spoil |= {f"/v2/images/{kind}": image for kind in ("science", "template", "difference")}
    with antares.open() as archive:
        cutouts = archive.thumbnails("ztf_candidate:1")
        assert cutouts.science.bytes.endswith(b"science")
        assert cutouts.template.kind == "template"
        assert cutouts.difference.file_name == "difference.fits"
        with pytest.raises(NotFoundError, match="thumbnails of the alert 'ztf_candidate:2'"):
            archive.thumbnails("ztf_candidate:2")


def test_thumbnails_elsewhere_missing_and_dangerous(archive, antares):
    listed = {"id": "a.fits", "filemime": "x", "thumbnail_type": "science", "src": "images/science"}
    antares.spoil["/v2/alerts/5/thumbnails"] = data([listed, {**listed, "thumbnail_type": "other"}])
    antares.spoil["/v2/images/science"] = reply(302, b"", {"location": "/v2/moved"})
    antares.spoil["/v2/moved"] = reply(200, FITS)
    cutouts = archive.thumbnails(5)
    assert len(cutouts) == 1
    assert cutouts.science.file_name == "a.fits"
    antares.spoil["/v2/moved"] = reply(404, b"gone")
    with pytest.raises(NotFoundError, match="the science image"):
        archive.thumbnails(5)
    antares.spoil["/v2/alerts/5/thumbnails"] = data([{**listed, "src": "file:///etc/passwd"}])
    with pytest.raises(ServerError, match="as the place of an image"):
        archive.thumbnails(5)


def test_catalogues_and_tags(archive):
    found = archive.catalog_search("00:40:00 -05:00:00")
    assert found[0]["properties"] == {"ra": pytest.approx(10.0), "dec": -5.0}
    assert len(archive.catalog_samples(3)) == 3
    assert archive.tags() == ["a", "nuclear_transient"]
    assert archive.statistics()["max_num_measurements"] == 9
    with pytest.raises(ConfigurationError, match="from 1 to 50"):
        archive.catalog_samples(51)
    with pytest.raises(ConfigurationError, match="one position"):
        archive.catalog_search([(1, 2), (3, 4)])


def test_gravitational_waves(archive, antares):
    notice = archive.grav_wave_notice("S230518h")
    assert notice["notice_type"] == "UPDATE"
    assert notice["skymap"] == FITS
    assert archive.grav_wave_notice("S230520ae")["skymap"] is None
    exact = archive.grav_wave_notice("S230518h", Time("2023-05-18T12:59:08", scale="utc"))
    assert exact["notice_type"] == "2023-05-18T12%3A59%3A08"  # the stub gives back what stands in the path
    assert archive.grav_wave_notice("S230518h", "2023-05-18")["notice_type"] == "2023-05-18"
    both = archive.grav_wave_notices(["S230518h", "S230520ae", "S230518h"])
    assert [one["gracedb_id"] for one in both] == ["S230518h", "S230520ae", "S230518h"]
    with pytest.raises(NotFoundError, match="no notice of S1, S2"):
        archive.grav_wave_notices(["S1", "S230518h", "S2"])
    with pytest.raises(NotFoundError, match="a notice of 'S1'"):
        archive.grav_wave_notice("S1")
    with pytest.raises(ConfigurationError, match="is no time"):
        archive.grav_wave_notice("S230518h", "yesterday")


# Failures -------------------------------------------------------------------------------------------------------------


PAGE = reply(502, b"<html><h1>Bad\x1b Gateway</h1></html>", {"content-type": "text/html"})


@pytest.mark.parametrize(
    ("answer", "kind", "match"),
    [
        (
            json_reply({"detail": "bad query"}, 400),
            FilterError,
            "does not understand the question: bad query",
        ),
        (json_reply({"detail": [{"msg": "x"}]}, 422), FilterError, "msg"),
        (json_reply({"errors": [{"title": "who"}]}, 401), LoginError, "who"),
        (json_reply({"message": "no"}, 403), ForbiddenError, "no"),
        (PAGE, ServerError, r"HTTP 502: it answers '<html><h1>Bad.* Gateway"),
        (
            reply(200, b"<html>maintenance</html>", {"content-type": "text/html"}),
            ServerError,
            "no server of ANTARES",
        ),
        (reply(200, b'{"data": [{"locus"', {"content-type": "application/json"}), ServerError, "no JSON"),
        (reply(429, b"", {"retry-after": "3600"}), ServerError, "try again in 3600 s"),
        (json_reply({"detail": "Not Found"}, 404), NotFoundError, "a page of loci"),
    ],
)
def test_failures_are_typed(archive, antares, answer, kind, match):
    antares.spoil["/v2/loci"] = answer
    with pytest.raises(kind, match=match) as caught:
        archive.find(CATALOG)
    assert caught.value.service == "antares"
    assert caught.value.url == f"{antares.server.url}/v2"


@pytest.mark.parametrize("first", [PAGE, None, reply(429, b"", {"retry-after": "0"}),
                                   [b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"]])  # fmt: skip
def test_what_passes_is_tried_again(archive, antares, first):
    answers = iter([first])
    antares.spoil["/v2/loci"] = lambda _: next(answers, "as always")
    assert archive.count(CATALOG) == 60
    assert len(antares.asked()) == 2


def test_a_server_that_is_slow_or_not_there(archive, antares):
    antares.spoil["/v2/loci"] = lambda _: [1.0]
    begin = time.monotonic()
    with pytest.raises(DeadlineError):
        archive.find(CATALOG, timeout_s=0.2)
    assert time.monotonic() - begin < 0.9
    antares.server.close()
    with pytest.raises(UnreachableError):
        archive.statistics()


def test_redirects_are_followed_but_not_for_ever_nor_into_the_open(archive, antares):
    antares.spoil["/v2/loci"] = reply(308, b"", {"location": "/v2/loci/?more=1"})
    antares.spoil["/v2/loci/"] = json_reply({"data": [], "links": None})
    assert archive.count(CATALOG) == 0
    antares.spoil["/v2/loci/"] = reply(302, b"", {"location": "/v2/loci"})
    with pytest.raises(ServerError, match="more than 5 redirects"):
        archive.count(CATALOG)
    antares.spoil["/v2/loci"] = reply(302, b"", {"location": "ftp://host/x"})
    with pytest.raises(ServerError, match="as safe as ours"):
        archive.count(CATALOG)


def test_the_url_of_a_server(antares):
    def base(url):
        return nuncius.open_archive(url).url

    assert base("antares+https://api.antares.noirlab.edu") == "antares+https://api.antares.noirlab.edu/v2"
    assert base("antares+https://api.antares.noirlab.edu/v2/") == "antares+https://api.antares.noirlab.edu/v2"
    assert base("antares+http://127.0.0.1:5/api") == "antares+http://127.0.0.1:5/api"
    with pytest.raises(ConfigurationError, match="ends up in logs") as caught:
        base("antares+https://me:hunter2@host")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="antares"):
        base("antares://host")


def test_no_login_is_sent_though_one_is_given(antares):
    with antares.open(credentials=("me", "hunter2"), token="secret-token") as archive:
        archive.catalogs()
        archive.count(CATALOG)
        copy = pickle.loads(pickle.dumps(archive))
        assert copy.count(CATALOG, {"tags": "nuclear_transient"}) == 20
        assert repr(archive) == f"<AntaresArchive {antares.url}/v2>"
        copy.close()
    assert not [asked for asked in antares.server.requests if "authorization" in asked.headers]


def test_both_colours_and_a_federation(antares, tmp_path):
    async def whole():
        async with aio.open_archive(antares.url) as archive:
            assert type(archive).__name__ == "AsyncAntaresArchive"
            found = await archive.find(CATALOG, {"tags": "nuclear_transient"}, sort="_id")
            cone = await archive.cone_search(CATALOG, [(10.0, -5.0), (10.003, -5.0)], "2 arcsec")
            curve = await archive.light_curve("ANT202600003")
            many = await archive.loci(["ANT202600003", "ANT202600001"])
            cutouts = await archive.thumbnails("ztf_candidate:1")
            return names(found), names(cone), len(curve), names(many), len(cutouts), await archive.tags()

    assert asyncio.run(whole()) == (
        list(range(0, 60, 3)), [0, 3], 2, [3, 1], 3, ["a", "nuclear_transient"],
    )  # fmt: skip
    nuncius.open_archive(tmp_path / "night.db").close()
    with nuncius.open_archive({"here": tmp_path / "night.db", "antares": antares.url}) as both:
        assert both.count(CATALOG, {"tags": "nuclear_transient"}) == 20
        assert names(both.cone_search(CATALOG, (10.0, -5.0), "2 arcsec")) == [0]
