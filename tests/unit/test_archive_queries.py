"""What comes out of an archive: find, count, cone searches, results as tables."""

from __future__ import annotations

import math
from itertools import islice

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

import archive_support as support
import builders
from archive_support import CANDID
from nuncius import open_archive
from nuncius.alerts import Alert
from nuncius.archives import Result
from nuncius.archives.results import Rows
from nuncius.errors import ConfigurationError, FilterError, NotFoundError
from nuncius.sky import separation_arcsec

JD = builders.JD


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with open_archive(tmp_path_factory.mktemp("archive") / "night.db") as opened:
        opened.ingest(
            support.ztf(
                number,
                objectId=f"ZTF20aa{number // 2:03d}",
                candidate={"rb": number / 16, "fid": 1 + number % 3},
                prv_candidates=[builders.ztf_earlier(jd=JD - 1 - number)],
                **(support.cutouts() if number % 2 else {}),
            )
            for number in range(12)
        )
        opened.ingest([alert for name, alert in support.one_of_each().items() if name != "ZTF_alerts"])
        yield opened


def numbers(documents):
    return [candid - CANDID for candid in support.ids(documents)]


# Find ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (None, range(12)),
        ({}, range(12)),
        ({"candid": CANDID + 3}, [3]),
        ({"candid": np.int64(CANDID + 3)}, [3]),
        ({"candid": {"$in": [CANDID, CANDID + 5, 7]}}, [0, 5]),
        ({"candid": str(CANDID)}, []),
        ({"candid": float(CANDID)}, []),
        ({"candid": {"$gt": CANDID + 9}}, [10, 11]),
        ({"candid": {"$in": [CANDID + 1, None]}}, [1]),
        ({"candid": {"$in": []}}, []),
        ({"candid": None}, []),
        ({"candid": {"$ne": CANDID}}, range(1, 12)),
        ({"candid": 2**64}, []),
        ({"candid": {"$in": [-(2**70), CANDID]}}, [0]),
        ({"candid": True}, []),
        ({"objectId": "ZTF20aa001"}, [2, 3]),
        ({"objectId": {"$eq": "ZTF20aa001", "$ne": "ZTF20aa001"}}, []),
        ({"objectId": 5}, []),
        ({"objectId": {"$regex": "001$|002$"}}, [2, 3, 4, 5]),
        ({"objectId": {"$in": ["ZTF20aa001", "nobody"]}, "candidate.rb": {"$gt": 2 / 16}}, [3]),
        ({"candidate.jd": {"$gt": JD + 0.95}}, [10, 11]),
        ({"candidate.jd": {"$gte": JD, "$lt": JD + 0.15}}, [0, 1]),
        ({"candidate.jd": {"$gt": JD, "$lte": JD + 0.1}}, [1]),
        ({"candidate.jd": JD}, [0]),
        ({"candidate.jd": {"$gt": "a"}}, []),
        ({"candidate.jd": {"$gt": True}}, []),
        ({"candidate.jd": {"$lt": math.inf}}, range(12)),
        ({"candidate.jd": {"$gt": -math.inf}}, range(12)),
        ({"candidate.jd": {"$gt": math.nan}}, []),
        ({"candidate.jd": {"$not": {"$gt": JD + 0.05}}}, [0]),
        ({"candidate.rb": {"$lt": 2 / 16}}, [0, 1]),
        ({"candidate.fid": {"$in": [1, 2]}}, [0, 1, 3, 4, 6, 7, 9, 10]),
        ({"$or": [{"candid": CANDID}, {"objectId": "ZTF20aa004"}]}, [0, 8, 9]),
        ({"$and": [{"objectId": "ZTF20aa004"}, {"candid": CANDID + 9}]}, [9]),
        ({"$and": [{"objectId": "ZTF20aa004"}], "candid": CANDID}, []),
        ({"$nor": [{"candidate.rb": {"$gt": 0}}]}, [0]),
        ({"nothing": {"$exists": False}}, range(12)),
        ({"coordinates.radec_geojson.type": "Point"}, range(12)),
        ({"cutoutScience": {"$exists": True}}, range(1, 12, 2)),
        ({"cutoutScience": None}, range(0, 12, 2)),
        ({"cutoutScience.fileName": "Science.fits.gz"}, range(1, 12, 2)),
        ({"$nor": [{"cutoutScience": {"$exists": True}}]}, range(0, 12, 2)),
    ],
    ids=repr,
)
def test_find_and_count(archive, condition, expected):
    assert numbers(archive.find("ZTF_alerts", condition)) == [*expected]
    assert archive.count("ZTF_alerts", condition) == len(expected)
    one = archive.find_one("ZTF_alerts", condition)
    assert (one is None) if not expected else (one["candid"] == CANDID + expected[0])


def test_ids_of_documents_are_found_with_other_conditions_on_them(archive):
    first, second = (document["_id"] for document in archive.find("ZTF_alerts", limit=2))
    for condition, count in (
        ({"_id": first}, 1),
        ({"_id": {"$in": [first, second]}}, 2),
        ({"_id": {"$eq": first, "$ne": first}}, 0),
        ({"_id": {"$eq": first, "$exists": False}}, 0),
        ({"_id": {"$in": [first], "$nin": [first]}}, 0),
        ({"_id": {"$ne": first}, "$and": [{"_id": first}]}, 0),
        ({"_id": second, "$and": [{"_id": first}]}, 0),
        ({"_id": first, "candid": CANDID + 1}, 0),
        ({"_id": {"$gt": ""}}, 12),
        ({"_id": 5}, 0),
    ):
        assert archive.count("ZTF_alerts", condition) == count, condition
        assert len(archive.find("ZTF_alerts", condition)) == count, condition


def test_object_ids_that_stand_for_none_are_found_as_they_are(tmp_path):
    with open_archive(tmp_path / "night.db") as archive:
        archive.ingest(support.ztf(n, objectId=name) for n, name in enumerate(["", "NONE", "null", "A"]))
        for name in ("", "NONE", "null", "A"):
            assert archive.count("ZTF_alerts", {"objectId": name}) == 1, repr(name)
        assert archive.count("ZTF_alerts", {"objectId": {"$in": ["", "A"]}}) == 2


def test_times_that_are_impossible_are_found_as_they_are(tmp_path):
    with open_archive(tmp_path / "night.db") as archive:
        # Test packets of TURBO have Unix times here.
        times = [1.7e9, 0.0, -999.0, math.nan, JD]
        archive.ingest(
            Alert.from_bytes(builders.turbo(outer=number, candidate={"jd": jd}))
            for number, jd in enumerate(times)
        )
        ask = archive.count
        assert ask("TURBO_alerts", {"candidate.jd": {"$gt": 2400000.5}}) == 2
        assert ask("TURBO_alerts", {"candidate.jd": {"$lt": 100}}) == 2
        assert ask("TURBO_alerts", {"candidate.jd": {"$gte": -999.0, "$lte": -999.0}}) == 1
        assert ask("TURBO_alerts", {"candidate.jd": {"$gte": math.nan}}) == 1
        assert ask("TURBO_alerts", {"candidate.jd": JD}) == 1


def test_bounds_on_times_are_exact(tmp_path):
    with open_archive(tmp_path / "night.db") as archive:
        times = [np.nextafter(JD, 0), JD, np.nextafter(JD, 1e9)]
        archive.ingest(support.ztf(number, candidate={"jd": float(jd)}) for number, jd in enumerate(times))
        for operator, expected in (("$gt", [2]), ("$gte", [1, 2]), ("$lt", [0]), ("$lte", [0, 1])):
            assert numbers(archive.find("ZTF_alerts", {"candidate.jd": {operator: JD}})) == expected


def test_numbers_beyond_all_columns(archive):
    assert archive.count("ZTF_alerts", {"candidate.jd": {"$lt": 10**400}}) == 12
    assert archive.count("ZTF_alerts", {"candidate.jd": {"$gt": 10**400}}) == 0


def test_more_values_than_sqlite_takes_at_once(archive):
    many = [CANDID + 4, *range(1200)]
    assert numbers(archive.find("ZTF_alerts", {"candid": {"$in": many}})) == [4]
    names = ["ZTF20aa001", *(f"x{n}" for n in range(1200))]
    assert archive.count("ZTF_alerts", {"objectId": {"$in": names}}) == 2
    assert archive.count("ZTF_alerts_aux", {"_id": {"$in": names}}) == 1


def test_sort_skip_and_limit(archive):
    find = archive.find
    assert numbers(find("ZTF_alerts", sort=[("candidate.jd", -1)], limit=3)) == [11, 10, 9]
    assert numbers(find("ZTF_alerts", sort={"candidate.fid": 1, "candid": -1}, limit=4)) == [9, 6, 3, 0]
    assert numbers(find("ZTF_alerts", sort="candidate.rb", skip=10)) == [10, 11]
    assert numbers(find("ZTF_alerts", skip=2, limit=3)) == [2, 3, 4]
    assert numbers(find("ZTF_alerts", skip=11, limit=3)) == [11]
    assert numbers(find("ZTF_alerts", skip=12)) == []
    assert numbers(find("ZTF_alerts", limit=0)) == []
    assert archive.find_one("ZTF_alerts", sort=[("candid", -1)])["candid"] == CANDID + 11
    assert archive.find_one("ZTF_alerts", sort=[("candid", -1)], skip=1)["candid"] == CANDID + 10
    assert archive.find_one("ZTF_alerts", skip=12) is None


def test_sorting_keeps_images_and_ids_of_rows_stay_inside(archive):
    found = archive.find("ZTF_alerts", {"candid": {"$lt": CANDID + 4}}, sort=[("candid", -1)]).docs
    assert ["cutoutScience" in document for document in found] == [True, False, True, False]
    assert not any(key.startswith("\0") for document in found for key in document)
    assert found == archive.find("ZTF_alerts", {"candid": {"$lt": CANDID + 4}}).docs[::-1]


@pytest.mark.parametrize(
    ("projection", "keys"),
    [
        ({"candid": 1}, ["_id", "candid"]),
        (["candid", "objectId"], ["_id", "objectId", "candid"]),
        ({"_id": 0, "candid": 1, "cutoutScience": 1}, ["candid", "cutoutScience"]),
        ({"_id": 1}, ["_id"]),
        ({"candidate": 0, "cutoutScience": 0, "cutoutTemplate": 0, "coordinates": 0},
         ["_id", "schemavsn", "publisher", "objectId", "candid", "cutoutDifference"]),
        ({"candidate.jd": 1, "_id": 0}, ["candidate"]),
    ],
)  # fmt: skip
def test_projections_of_documents(archive, projection, keys):
    for sort in (None, "candid"):
        found = archive.find_one("ZTF_alerts", {"candid": CANDID + 1}, projection=projection, sort=sort)
        assert list(found) == keys


def test_images_that_nobody_asks_for_are_not_read(archive):
    statements = []
    connection = archive._database.connection
    connection.set_trace_callback(statements.append)
    try:
        images = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
        assert len(archive.find("ZTF_alerts", projection=["candid"])) == 12
        assert len(archive.find("ZTF_alerts", projection=dict.fromkeys(images, 0))) == 12
        archive.count("ZTF_alerts", {"candidate.rb": {"$gt": 0}})
    finally:
        connection.set_trace_callback(None)
    assert statements
    assert not [statement for statement in statements if ":images" in statement]


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ({"candid": CANDID}, "by_alert"),
        ({"candid": {"$in": [CANDID, CANDID + 1]}}, "by_alert"),
        ({"objectId": "ZTF20aa001"}, "by_object"),
        ({"objectId": {"$regex": "^ZTF20aa"}}, "by_object"),
        ({"$and": [{"objectId": "ZTF20aa001"}]}, "by_object"),
        ({"candidate.jd": {"$gt": JD + 10}}, "by_time"),
        ({"_id": "0" * 24}, "by_id"),
    ],
    ids=repr,
)
def test_common_questions_use_an_index(archive, condition, index):
    explained = archive.explain("ZTF_alerts", condition)
    assert explained.index == (f"ZTF_alerts:{index}",)
    assert not explained.scans
    assert explained.residual == {}


def test_rubins_ids_are_found(archive):
    assert archive.count("LSST_alerts", {"diaSourceId": 170032915988086813}) == 1
    assert archive.count("LSST_alerts", {"diaSource.diaObjectId": 170032915988086813}) == 1
    assert archive.count("LSST_alerts", {"diaSourceId": 1}) == 0
    assert archive.count("WNTR_alerts", {"objectid": "WNTR24awati", "candid": 3608694}) == 1
    assert (
        archive.count("DECAM_alerts", {"objectId": {"$exists": True}, "candidate.mjd": {"$gt": 50000}}) == 1
    )


def test_histories_are_found(archive):
    assert archive.count("ZTF_alerts_aux") == 6
    (found,) = archive.find("ZTF_alerts_aux", {"_id": "ZTF20aa001"})
    assert list(found) == ["_id", "prv_candidates", "fp_hists"]
    assert [entry["jd"] for entry in found["prv_candidates"]] == [JD - 4, JD - 3]
    condition = {"prv_candidates": {"$elemMatch": {"jd": JD - 4}}}
    assert archive.find_one("ZTF_alerts_aux", condition)["_id"] == "ZTF20aa001"
    assert archive.count("ZTF_alerts_aux", {"_id": {"$in": ["ZTF20aa001"], "$ne": "ZTF20aa001"}}) == 0
    ordered = archive.find("ZTF_alerts_aux", sort=[("_id", -1)], skip=1, limit=2, projection=["fp_hists"])
    assert [document["_id"] for document in ordered] == ["ZTF20aa004", "ZTF20aa003"]
    assert list(ordered[0]) == ["_id", "fp_hists"]


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda archive, name: archive.find(name),
        lambda archive, name: archive.find_one(name),
        lambda archive, name: archive.count(name),
        lambda archive, name: archive.cone_search(name, (1, 2), "1 arcsec"),
        lambda archive, name: archive.revisions(name, "x"),
        lambda archive, name: archive.packets(name),
    ],
    ids=["find", "find_one", "count", "cone_search", "revisions", "packets"],
)
def test_an_unknown_catalog_names_the_close_ones(archive, ask):
    with pytest.raises(NotFoundError, match=r"no catalog 'ZTF_alert'; did you mean ZTF_alerts"):
        ask(archive, "ZTF_alert")


def test_an_unknown_catalog_without_close_ones_lists_all(archive, tmp_path):
    with pytest.raises(NotFoundError, match=r"it has .*ZTF_alerts"):
        archive.find("x")
    with open_archive(tmp_path / "empty.db") as empty, pytest.raises(NotFoundError, match="none yet"):
        empty.find("ZTF_alerts")


@pytest.mark.parametrize(
    "name", ['ZTF_alerts"; DROP TABLE catalogs; --', "ZTF_alerts:images", "catalogs", ""]
)
def test_names_of_tables_are_no_catalogs(archive, name):
    with pytest.raises(NotFoundError):
        archive.find(name)
    assert "ZTF_alerts" in archive.catalogs()


def test_mistakes_are_found_before_anything_is_fetched(archive):
    with pytest.raises(FilterError):
        archive.find("ZTF_alerts", {"a": {"$gtt": 1}})
    with pytest.raises(FilterError):
        archive.count("ZTF_alerts", {"$gt": 1})
    with pytest.raises(FilterError):
        archive.find("ZTF_alerts", sort="jd", projection={"a": 1, "b": 0})
    with pytest.raises(ConfigurationError):
        archive.find("ZTF_alerts", skip=-1)
    with pytest.raises(ConfigurationError):
        archive.find("ZTF_alerts", limit=-1)
    with pytest.raises(ConfigurationError, match="no unit"):
        archive.cone_search("ZTF_alerts", (1, 2), 3)
    with pytest.raises(NotFoundError, match="search ZTF_alerts"):
        archive.cone_search("ZTF_alerts_aux", (1, 2), "3 arcsec")


def test_an_unknown_object_is_not_found(archive):
    with pytest.raises(NotFoundError, match="'nobody'"):
        archive.object("nobody")


# Cones ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """Give an archive with sources all over the sky, and where they are."""
    rng = np.random.default_rng(11)
    ra, dec = rng.uniform(0, 360, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
    # Crowds at the poles, at RA 0 and on the edges of base cells; and the same place twice.
    ra[:300], dec[:100], dec[100:300] = rng.uniform(0, 360, 300), 90 - rng.exponential(1e-3, 100), -90
    dec[100:300] += rng.exponential(1e-4, 200)
    ra[300:500], dec[300:500] = rng.normal(0, 1e-3, 200) % 360, rng.normal(0, 1e-3, 200)
    ra[500:600], dec[500:600] = 45 + rng.normal(0, 1e-3, 100), 41.8103149 + rng.normal(0, 1e-3, 100)
    ra[600], dec[600] = ra[601], dec[601]
    ra[602:606], dec[602:606] = [0.0, 360.0, 0.0, 180.0], [0.0, 0.0, 90.0, -90.0]
    with open_archive(tmp_path_factory.mktemp("sky") / "sky.db") as opened:
        opened.ingest(
            support.plain(candid=number, ra=float(ra[number]), dec=float(dec[number]), odd=bool(number % 2))
            for number in range(3000)
        )
        opened.ingest([support.plain(candid=9999), support.plain(candid=9998, ra=500.0, dec=0.0)])
        yield opened, ra, dec


def brute_force(ra, dec, centres, radius_arcsec):
    """Return index of the centre, number and separation of what lies in cones, nearest first."""
    for index, (at_ra, at_dec) in enumerate(centres):
        distance = separation_arcsec(at_ra, at_dec, ra, dec)
        for number in np.lexsort((np.arange(len(ra)), distance)):
            if distance[number] <= radius_arcsec:
                yield index, int(number), float(distance[number])


def found(result):
    return [(hit["input_index"], hit["candid"], hit["separation_arcsec"]) for hit in result]


CENTRES = [(10.0, 41.0), (0.0, 0.0), (359.9999, 0.0), (0.0, 90.0), (77.0, 89.9999), (12.0, -90.0), (45.0, 41.8103149),
           (123.4, -56.7), (0.0, 0.0), (720.0, 0.0)]  # fmt: skip


@pytest.mark.parametrize(
    "radius", ["0 arcsec", "0.1 arcsec", "2 arcsec", "20 arcsec", "3 deg", "30 deg", "180 deg"]
)
@pytest.mark.parametrize("many", [True, False])
def test_cones_are_those_of_brute_force(sky, radius, many):
    archive, ra, dec = sky
    arcsec = {"arcsec": 1, "deg": 3600}[radius.split()[1]] * float(radius.split()[0])
    centres = CENTRES if arcsec < 50_000 else CENTRES[:2]
    expected = list(brute_force(ra, dec, [(a % 360, d) for a, d in centres], arcsec))
    if many:
        hits = found(archive.cone_search("generic_alerts", centres, radius, projection=["candid"]))
    else:
        hits = [
            (index, candid, distance)
            for index, centre in enumerate(centres)
            for _, candid, distance in found(
                archive.cone_search("generic_alerts", centre, radius, projection=["candid"])
            )
        ]
    assert [hit[0] for hit in hits] == [hit[0] for hit in expected]
    assert [(i, n) for i, n, _ in sorted(hits)] == [(i, n) for i, n, _ in sorted(expected)]
    np.testing.assert_allclose([hit[2] for hit in hits], [hit[2] for hit in expected], atol=1e-7)
    if radius != "0.1 arcsec":
        assert hits


def test_many_positions_keep_their_order_and_duplicates(sky):
    archive, ra, dec = sky
    rng = np.random.default_rng(12)
    chosen = rng.integers(606, 3000, 2000)
    centres = np.stack([ra[chosen], np.clip(dec[chosen] + 0.3 / 3600, -90, 90)], axis=1)
    hits = found(archive.cone_search("generic_alerts", centres, "2 arcsec", projection=["candid"]))
    assert [index for index, _, _ in hits] == list(range(2000))
    assert [candid for _, candid, _ in hits] == chosen.tolist()
    np.testing.assert_allclose([distance for *_, distance in hits], 0.3, atol=1e-6)


def test_positions_without_a_match_have_no_rows(sky):
    archive, ra, dec = sky
    hits = archive.cone_search(
        "generic_alerts", [(200.0, 1.0), (ra[700], dec[700]), (200.0, 1.0)], "0.01 arcsec"
    )
    assert [hit["input_index"] for hit in hits] == [1]
    assert archive.cone_search("generic_alerts", (200.0, 1.0), "0.01 arcsec").docs == []


def test_limit_is_for_each_position_and_filters_come_first(sky):
    archive, ra, dec = sky
    centres = [(0.0, 0.0), (10.0, 41.0), (0.0, 0.0)]
    for limit in (0, 1, 3):
        hits = found(
            archive.cone_search("generic_alerts", centres, "20 deg", limit=limit, filter={"odd": True})
        )
        expected = [hit for hit in brute_force(ra, dec, centres, 72_000) if hit[1] % 2]
        wanted = [hit for index in range(3) for hit in islice((h for h in expected if h[0] == index), limit)]
        assert [(index, number) for index, number, _ in hits] == [
            (index, number) for index, number, _ in wanted
        ]


@pytest.mark.parametrize(
    "positions",
    [
        SkyCoord([10, 0] * u.deg, [41, 0] * u.deg),
        SkyCoord([10, 0] * u.deg, [41, 0] * u.deg).galactic,
        Table({"ra": [10.0, 0.0], "dec": [41.0, 0.0]}),
        [(10, 41), (0, 0)],
        np.array([[10.0, 41.0], [0.0, 0.0]]),
    ],
    ids=["SkyCoord", "galactic", "Table", "pairs", "array"],
)
def test_positions_of_all_kinds(sky, positions):
    archive, _, _ = sky
    expected = found(archive.cone_search("generic_alerts", [(10, 41), (0, 0)], "5 deg"))
    hits = found(archive.cone_search("generic_alerts", positions, 5 * u.deg))
    assert [hit[:2] for hit in hits] == [hit[:2] for hit in expected] != []


def test_no_positions_give_no_rows(sky):
    archive, _, _ = sky
    for nothing in (np.empty((0, 2)), Table({"ra": [], "dec": []}), SkyCoord([] * u.deg, [] * u.deg)):
        assert archive.cone_search("generic_alerts", nothing, "1 deg").docs == []


def test_documents_of_a_cone_have_what_was_asked_for(sky):
    archive, _, _ = sky
    hit = archive.cone_search("generic_alerts", (0, 0), "1 arcsec", projection={"_id": 0, "odd": 1})[0]
    assert set(hit) == {"odd", "separation_arcsec", "input_index"}
    hits = archive.cone_search("generic_alerts", [(0, 0), (0, 0)], "0.001 arcsec").docs
    assert [hit["input_index"] for hit in hits] == [0, 0, 1, 1]
    assert hits[0] is not hits[2]
    assert all(type(hit["separation_arcsec"]) is float and type(hit["input_index"]) is int for hit in hits)


def test_images_of_a_cone(archive):
    for centres in ((150.01, -20.0), [(150.01, -20.0)] * 3):
        hits = archive.cone_search("ZTF_alerts", centres, "1 arcsec").docs
        assert all(hit["cutoutScience"]["fileName"] == "Science.fits.gz" for hit in hits)
        bare = archive.cone_search("ZTF_alerts", centres, "1 arcsec", projection={"cutoutScience": 0})
        assert all("cutoutScience" not in hit and "cutoutTemplate" in hit for hit in bare)
    with_images = {"cutoutScience": {"$exists": True}}
    assert len(archive.cone_search("ZTF_alerts", (150.01, -20.0), "1 arcsec", filter=with_images)) == 1


def test_a_cone_search_of_an_archive_opened_for_reading(sky):
    archive, _, _ = sky
    with open_archive(archive.path, read_only=True) as other:
        expected = found(archive.cone_search("generic_alerts", CENTRES, "1 deg"))
        assert found(other.cone_search("generic_alerts", CENTRES, "1 deg")) == expected


# Results -------------------------------------------------------------------------------------------------------------


def test_results_are_fetched_lazily():
    fetched = []

    def fetch():
        for number in range(1000):
            fetched.append(number)
            yield {"n": number}

    result = Result(Rows(fetch))
    assert "not fetched" in repr(result)
    assert fetched == []
    assert next(iter(result)) == {"n": 0}
    assert bool(result)
    assert len(fetched) == 2
    assert [document["n"] for document in islice(result, 5)] == [0, 1, 2, 3, 4]
    assert len(fetched) <= 8
    assert len(result) == len(result.docs) == 1000
    assert (result[0], result[-1]["n"], [d["n"] for d in result[2:4]]) == ({"n": 0}, 999, [2, 3])
    assert result.docs is result.docs
    assert "1000" in repr(result)
    assert not Result([])


def test_a_large_result_does_not_come_at_once(sky):
    archive, _, _ = sky
    steps = []
    connection = archive._database.connection
    connection.set_progress_handler(lambda: steps.append(1), 1000)
    try:
        for document in archive.find("generic_alerts"):
            assert document["candid"] == 0
            break
        few = len(steps)
        for _ in archive.find("generic_alerts"):
            pass
    finally:
        connection.set_progress_handler(None, 0)
    assert few < 3
    assert len(steps) > 10


def test_tables_keep_ids_with_19_digits(archive):
    table = archive.find("ZTF_alerts").to_table()
    assert len(table) == 12
    assert table["candid"].dtype == np.int64
    assert table["candid"].tolist() == [CANDID + number for number in range(12)]
    assert table["candidate.rb"].dtype == np.float64
    assert table["objectId"][3] == "ZTF20aa001"
    assert table["coordinates.radec_geojson.coordinates"][0] == [-30.0, -20.0]
    assert table["cutoutScience.stampData"].mask.tolist() == [True, False] * 6
    assert table["cutoutScience.stampData"][1] == support.cutouts()["cutoutScience"]["stampData"]
    frame = archive.find("ZTF_alerts").to_pandas()
    assert frame["candid"].tolist() == [CANDID + number for number in range(12)]
    assert frame["candidate.jd"].tolist() == [JD + number / 10 for number in range(12)]


def _result(*documents):
    return Result(documents)


def test_missing_values_are_masked_and_ids_beside_them_keep_their_digits():
    result = _result(
        {"id": CANDID, "t": "x", "b": True, "f": 0.5, "n": None}, {"id": None}, {"t": "yz", "f": math.nan}
    )
    table = result.to_table()
    assert table["id"].mask.tolist() == [False, True, True]
    assert table["id"][0] == CANDID
    assert table["t"].tolist() == ["x", None, "yz"]
    assert table["b"].dtype == bool
    assert table["f"].mask.tolist() == [False, True, False]
    assert table["n"].mask.tolist() == [True] * 3
    frame = result.to_pandas()
    assert frame["id"].dtype == "Int64"
    assert frame["id"][0] == CANDID
    assert frame["id"].isna().tolist() == [False, True, True]
    assert list(frame.columns) == table.colnames == ["id", "t", "b", "f", "n"]


@pytest.mark.parametrize(
    "values", [[2**63 + 1, 1], [CANDID, 0.5], [CANDID, None, math.nan], [2**64 - 1, None]], ids=str
)
def test_no_id_is_ever_rounded(values):
    result = _result(*({"id": value} for value in values))
    assert int(result.to_table()["id"][0]) == values[0]
    assert int(result.to_pandas()["id"][0]) == values[0]


def test_odd_values_in_tables():
    result = _result(
        {"a": [1, 2], "d": {}, "m": 1}, {"a": [3], "d": {"x": 1}, "m": "text"}, {"a": b"\0", "m": None}
    )
    table = result.to_table()
    assert table["a"].tolist() == [[1, 2], [3], b"\0"]
    assert table["d.x"].mask.tolist() == [True, False, True]
    assert table["m"].tolist() == [1, "text", None]
    assert result.to_pandas()["a"].tolist() == [[1, 2], [3], b"\0"]


def test_empty_results_as_tables():
    assert len(_result().to_table()) == 0
    assert len(_result().to_pandas()) == 0
    assert "0 documents" in _result()._repr_html_()
    assert "<table" in _result({"a": 1})._repr_html_()
