"""ALeRCE as an archive: a small server that speaks its interface, and what we make of whatever it answers.

The server has the habits of the published one: unless it counts, it says that there is no next page, whatever there is; a
page beyond the end is a 404; a right ascension of zero is no cone at all; without an order the pages come in any; the
class is that of a default classifier until another is named; a name may be a pattern.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import re
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

import nuncius
from http_support import Loopback, json_reply, reply
from nuncius import aio
from nuncius.archives.alerce import AlerceBackend
from nuncius.errors import (
    ConfigurationError,
    FilterError,
    NotFoundError,
    ServerError,
    UnsupportedError,
)
from nuncius.sky import separation_arcsec

CATALOG = "ALERCE_objects"
CANDID = 2475433850215010000


def row(n, ra=None, dec=None):
    return {
        "oid": f"ZTF26aa{n:03d}",
        "ndet": n % 9,
        "firstmjd": 61000.0 + n,
        "lastmjd": 61100.0 + n * 37 % 50,
        "deltamjd": 100.0,
        "meanra": 10.0 + (n % 20) * 0.001 if ra is None else ra,
        "meandec": -5.0 + n // 20 * 0.001 if dec is None else dec,
        "g_r_max": None if n % 2 else n / 10,
    }


ROWS = [row(n) for n in range(60)]
CLASSES = {"lc_classifier": ("RRL", "SNIa", "LPV"), "stamp_classifier": ("SN", "AGN")}


def seen(n, classifier, ranking=1):
    classes = CLASSES[classifier]
    return {"classifier": classifier, "classifier_version": "1.0", "ranking": ranking,
            "class": classes[(n + ranking - 1) % len(classes)], "probability": (0.9 - n / 100) / ranking}  # fmt: skip


class Alerce:
    """The server; `spoil` maps a path to an answer, or to a function of the request, that comes instead."""

    def __init__(self, rows=ROWS):
        self.rows, self.spoil = list(rows), {}
        self.largest_page = 10_000
        self.tells_classifier = True
        self.random = random.Random(1)
        self.server = Loopback(self.answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()

    @property
    def url(self):
        return f"alerce+{self.server.url}"

    def open(self, **options):
        return nuncius.open_archive(self.url, **options)

    def asked(self, path="/ztf/v1/objects"):
        return [asked for asked in self.server.requests if asked.path == path]

    def answer(self, asked):
        if asked.path in self.spoil:
            spoil = self.spoil[asked.path]
            made = spoil(asked) if callable(spoil) else spoil
            if made != "as always":
                return made
        assert asked.method == "GET"
        given = parse_qs(urlsplit(asked.target).query)
        if asked.path == "/ztf/v1/objects":
            return self.listing(given)
        if asked.path == "/ztf/v1/classifiers":
            return json_reply([{"classifier_name": name, "classifier_version": "1.0", "classes": list(classes)}
                               for name, classes in CLASSES.items()])  # fmt: skip
        if asked.path == "/get_stamp":
            return self.stamp(asked.params)
        if asked.path.startswith("/v2/lightcurve/forced-photometry/"):
            return json_reply(FORCED if asked.path.endswith("ZTF26aa001") else [])
        name, _, kind = asked.path.removeprefix("/ztf/v1/objects/").partition("/")
        found = next((one for one in self.rows if one["oid"] == name), None)
        if found is None:
            return json_reply({"errors": {"message": "Object not found", "code": 404}}, 404)
        return json_reply(self.of(found, kind))

    @staticmethod
    def of(found, kind):
        n = int(found["oid"][-3:])
        if kind == "":
            return found
        if kind == "lightcurve":
            return {"detections": DETECTIONS, "non_detections": LIMITS}
        if kind == "probabilities":
            return [{"classifier_name": name, "class_name": classes[0], "probability": 0.5, "ranking": 1}
                    for name, classes in CLASSES.items()]  # fmt: skip
        return {
            "detections": DETECTIONS,
            "non_detections": LIMITS,
            "magstats": [{"fid": 1, "magmean": 18.0 + n}],
            "features": [{"name": "Amplitude", "value": 0.5, "fid": 1}],
        }[kind]

    def listing(self, given):
        def only(name, kind=str):
            return kind(given[name][0]) if name in given else None

        chosen = []
        named = any(name in given for name in ("classifier", "class", "probability", "ranking"))
        for one in self.rows:
            n = int(one["oid"][-3:])
            for classifier in CLASSES:
                for ranking in (1, 2):
                    prob = seen(n, classifier, ranking)
                    if not named and (classifier, ranking) != ("lc_classifier", 1):
                        continue
                    if only("classifier") not in (None, classifier):
                        continue
                    if (
                        only("ranking", int) or (1 if "classifier" in given or "class" in given else ranking)
                    ) != ranking:
                        continue
                    if only("class") not in (None, prob["class"]):
                        continue
                    if prob["probability"] < (only("probability", float) or 0):
                        continue
                    if not self.tells_classifier:
                        prob = {
                            name: value for name, value in prob.items() if name in {"class", "probability"}
                        }
                    chosen.append({**one, **prob})
        for name in ("ndet", "firstmjd", "lastmjd"):
            ends = [float(value) for value in given.get(name, ())]
            if ends:
                assert name != "ndet" or all(re.fullmatch(r"\d+", value) for value in given[name])
                chosen = [
                    one for one in chosen if one[name] >= ends[0] and (len(ends) == 1 or one[name] <= ends[1])
                ]
        names = given.get("oid", [])
        if len(names) == 1:
            pattern = re.compile(names[0].replace("*", ".*").replace("_", "."))
            chosen = [one for one in chosen if pattern.fullmatch(one["oid"])]
        elif names:
            chosen = [one for one in chosen if one["oid"] in names]
        ra, dec, radius = only("ra", float), only("dec", float), only("radius", float)
        if ra and dec and radius:  # as the server tests it: zero is none
            chosen = [
                one for one in chosen if separation_arcsec(ra, dec, one["meanra"], one["meandec"]) <= radius
            ]
        order = only("order_by")
        if order is None:
            self.random.shuffle(chosen)
        else:
            chosen.sort(
                key=lambda one: (one[order] is None, one[order]), reverse=only("order_mode") == "DESC"
            )
        return self.page(chosen, only("page", int), only("page_size", int), counted=only("count") == "true")

    def page(self, chosen, page, page_size, *, counted):
        size = min(page_size, self.largest_page)
        items = chosen[(page - 1) * size : page * size]
        if not items and page != 1:
            return json_reply({"errors": {"message": "page not found"}}, 404)
        more = counted and page * size < len(chosen)
        return json_reply(
            {"total": len(chosen) if counted else None, "page": page if counted else None, "next": page + 1 if more else None,
             "has_next": more, "prev": None, "has_prev": False, "items": items}
        )  # fmt: skip

    def stamp(self, params):
        if params["candid"] != str(CANDID) or params["format"] != "fits":
            return reply(404, b"not found")
        return reply(200, gzip.compress(b"SIMPLE  =" + params["type"].encode()))


DETECTIONS = [
    {"mjd": 61000.123456789, "candid": str(CANDID + 1), "fid": 2, "diffmaglim": 20.5, "isdiffpos": -1, "magpsf": 18.5,
     "sigmapsf": 0.1, "magpsf_corr": 17.0, "ra": 10.0, "dec": -5.0, "rb": 0.7, "drb": 0.99, "has_stamp": False},
    {"mjd": 61002.5, "candid": str(CANDID), "fid": 1, "diffmaglim": 20.5, "isdiffpos": 1, "magpsf": 17.5,
     "sigmapsf": 0.05, "ra": 10.0, "dec": -5.0, "rb": 0.7, "drb": None, "has_stamp": True},
]  # fmt: skip
LIMITS = [{"mjd": 60999.5, "fid": 2, "diffmaglim": 19.75}, {"mjd": 60998.5, "fid": 2, "diffmaglim": None}]
FORCED = [
    {"mjd": 61003.5, "fid": 1, "mag": 18.0, "e_mag": 0.1, "isdiffpos": 1,
     "extra_fields": {"forcediffimflux": 100.0, "forcediffimfluxunc": 5.0, "magzpsci": 26.0, "procstatus": "0"}},
    {"mjd": 61004.5, "fid": 1, "mag": 100.0, "e_mag": 100.0, "isdiffpos": 1,
     "extra_fields": {"forcediffimflux": -99999.0, "forcediffimfluxunc": -99999.0, "magzpsci": 26.0, "procstatus": "61"}},
    {"mjd": 61005.5, "fid": 2, "mag": 18.25, "e_mag": 0.2, "isdiffpos": -1},
]  # fmt: skip


@pytest.fixture(autouse=True)
def own_config(monkeypatch):
    """Let no proxy of this machine be used, and no test wait."""
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("nuncius._core.retry._FIRST_WAIT_S", 0.005)


@pytest.fixture
def alerce():
    with Alerce() as server:
        yield server


@pytest.fixture
def archive(alerce):
    with alerce.open() as opened:
        yield opened


def names(found):
    return [int(document["oid"][-3:]) for document in found]


# Asking ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [10_000, 60, 7])
def test_every_object_is_found_though_the_server_says_that_there_is_no_next_page(
    archive, alerce, monkeypatch, largest
):
    monkeypatch.setattr(AlerceBackend, "largest_page", 25)
    alerce.largest_page = largest  # it may give fewer than are asked for
    found = archive.find(CATALOG)
    assert names(found) == list(range(60))
    assert found[3]["_id"] == "ZTF26aa003"
    assert found[3]["coordinates"]["radec_geojson"]["coordinates"] == [10.003 - 180.0, -5.0]
    assert {"order_by": "oid", "order_mode": "ASC"}.items() <= alerce.asked()[0].params.items()


def test_a_limit_ends_the_pages(archive, alerce):
    assert names(archive.find(CATALOG, limit=5)) == [0, 1, 2, 3, 4]
    assert names(archive.find(CATALOG, skip=58, limit=5)) == [58, 59]
    assert [asked.params["page_size"] for asked in alerce.asked()] == ["5", "63", "63"]
    assert archive.find(CATALOG, limit=0).docs == []
    assert len(alerce.asked()) == 3


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"ndet": {"$gt": 4, "$lte": 6}}, lambda one, _: 4 < one["ndet"] <= 6),
        ({"ndet": {"$lt": 1.5}}, lambda one, _: one["ndet"] < 1.5),
        ({"ndet": 3}, lambda one, _: one["ndet"] == 3),
        ({"lastmjd": {"$gte": 61120.0}, "g_r_max": None}, lambda one, _: one["lastmjd"] >= 61120 and one["g_r_max"] is None),
        ({"$or": [{"ndet": 1}, {"ndet": 7}]}, lambda one, _: one["ndet"] in {1, 7}),
        ({"firstmjd": {"$gt": 61010.0}, "$and": [{"firstmjd": {"$lt": 61012.5}}]}, lambda _, n: n in {11, 12}),
        ({"oid": "ZTF26aa_03"}, lambda *_: False),
        ({"oid": "ZTF26aa003"}, lambda _, n: n == 3),
        ({"_id": {"$in": ["ZTF26aa003", "nobody", "ZTF26aa001"]}}, lambda _, n: n in {1, 3}),
        ({"_id": {"$in": []}}, lambda *_: False),
        ({"classifier": "lc_classifier", "class": "SNIa"}, lambda _, n: seen(n, "lc_classifier")["class"] == "SNIa"),
        ({"classifier": "stamp_classifier", "class": "SN", "probability": {"$gt": 0.7}},
         lambda _, n: seen(n, "stamp_classifier")["class"] == "SN" and 0.9 - n / 100 > 0.7),
        ({"classifier": "stamp_classifier", "ranking": 2, "class": {"$in": ["AGN"]}},
         lambda _, n: seen(n, "stamp_classifier", 2)["class"] == "AGN"),
        ({"classifier": "lc_classifier", "class": {"$ne": "LPV"}}, lambda _, n: seen(n, "lc_classifier")["class"] != "LPV"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tells", [True, False])
def test_filters_are_asked_and_decided_again(archive, alerce, condition, expected, tells):
    alerce.tells_classifier = tells
    wanted = [n for n, one in enumerate(ROWS) if expected(one, n)]
    assert names(archive.find(CATALOG, condition)) == wanted
    assert archive.count(CATALOG, condition) == len(wanted)


@pytest.mark.parametrize(
    "condition",
    [
        {"class": "SN"},
        {"probability": {"$gt": 0.5}},
        {"classifier": {"$in": ["lc_classifier", "stamp_classifier"]}},
        {"classifier": "lc_classifier", "ranking": {"$in": [1, 2]}},
        {"$or": [{"classifier": "lc_classifier"}, {"ndet": 5}]},
    ],
)
def test_a_class_without_its_classifier_is_refused(archive, alerce, condition):
    with pytest.raises(FilterError):
        archive.find(CATALOG, condition)
    assert alerce.server.requests == []


def test_many_names_are_asked_for_in_pieces(archive, alerce):
    many = [f"ZTF26aa{n:03d}" for n in range(250)]
    assert names(archive.find(CATALOG, {"_id": {"$in": many}})) == list(range(60))
    assert len({tuple(parse_qs(asked.target)["oid"]) for asked in alerce.asked()}) == 3
    assert names(archive.find(CATALOG, {"_id": {"$in": many}}, sort="-lastmjd", limit=2)) == sorted(
        range(60), key=lambda n: -ROWS[n]["lastmjd"]
    )[:2]  # fmt: skip


@pytest.mark.parametrize("sort", ["-lastmjd", "firstmjd", "-ndet", "g_r_max", "-g_r_max", "-oid"])
def test_sorted_by_the_server_or_here(archive, alerce, sort):
    name, down = sort.removeprefix("-"), sort.startswith("-")
    found = [document[name] for document in archive.find(CATALOG, sort=sort, limit=8)]
    key = lambda value: (value is not None, value or 0)  # noqa: E731 - a missing one comes first
    expected = sorted((one[name] for one in ROWS), key=key if name != "oid" else None, reverse=down)
    assert found == expected[:8]
    served = name in {"lastmjd", "firstmjd", "ndet"}
    assert alerce.asked()[0].params["order_by"] == (name if served else "oid")
    assert (len(alerce.asked()) == 1) is served


def test_an_order_that_the_server_does_not_keep_is_made_here(archive, alerce):
    alerce.spoil["/ztf/v1/objects"] = lambda asked: alerce.page(
        ROWS, int(asked.params["page"]), 1000, counted=False
    )
    found = archive.find(CATALOG, sort="-lastmjd", limit=3)
    assert [d["lastmjd"] for d in found] == sorted((one["lastmjd"] for one in ROWS), reverse=True)[:3]


def test_counts(archive, alerce):
    assert archive.count(CATALOG) == archive.estimated_count(CATALOG) == 60
    assert archive.count(CATALOG, skip=50, limit=5) == 5
    assert [asked.params["page_size"] for asked in alerce.asked()] == ["1"] * 3
    assert archive.count(CATALOG, {"ndet": 3}, skip=2) == len([1 for one in ROWS if one["ndet"] == 3]) - 2


def test_pipelines_and_values(archive, alerce, monkeypatch):
    assert archive.distinct(CATALOG, "class", {"classifier": "stamp_classifier"}) == ["AGN", "SN"]
    groups = archive.aggregate(CATALOG, [{"$match": {"ndet": {"$lt": 2}}}, {"$sortByCount": "$ndet"}])
    assert {group["_id"]: group["count"] for group in groups} == {0: 7, 1: 7}
    monkeypatch.setattr(AlerceBackend, "most_read", 50)
    monkeypatch.setattr(AlerceBackend, "largest_page", 20)
    with pytest.raises(UnsupportedError, match="more than 50 documents"):
        archive.find(CATALOG, {"g_r_max": None})


def test_catalogs_info_and_explain(archive):
    assert archive.catalogs() == [CATALOG]
    assert archive.info()["catalogs"] == {CATALOG: {}}
    explained = archive.explain(CATALOG, {"ndet": {"$lt": 5}}, sort="-lastmjd")
    assert explained["asked"] == {"ndet": [0, 5]}
    assert explained["sorted by"] == "server"
    with pytest.raises(NotFoundError):
        archive.find("objects")


# Cones ----------------------------------------------------------------------------------------------------------------


def test_cones_take_one_request_each(archive, alerce):
    places = {"a": (10.0051, -5.0), "b": (10.0, -4.998), "nothing": (200.0, 5.0)}
    found = archive.cone_search(CATALOG, places, "5 arcsec", projection=["ndet"]).by_position()
    for name, group in found.items():
        far = {
            n: float(separation_arcsec(*places[name], one["meanra"], one["meandec"]))
            for n, one in enumerate(ROWS)
        }
        assert [int(d["_id"][-3:]) for d in group] == sorted((n for n in far if far[n] <= 5), key=far.get)
    assert len(alerce.asked()) == 3
    assert set(found["a"][0]) == {"_id", "ndet", "separation_arcsec", "input_index"}
    near = archive.cone_search(CATALOG, places["a"], "20 arcsec", filter={"ndet": {"$gte": 7}}, limit=1)
    assert near[0]["ndet"] >= 7


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.0, 5.0), (5.0, 0.0)])
def test_a_zero_is_a_place_as_any_other(place):
    rows = [row(0, *place), row(1, place[0] + 0.0001, place[1]), row(2, 100.0, 50.0)]
    with Alerce(rows) as alerce, alerce.open() as archive:
        assert names(archive.cone_search(CATALOG, place, "1 arcsec")) == [0, 1]
        assert names(archive.cone_search(CATALOG, place, "0 arcsec")) == [0]


def test_an_answer_to_another_question_is_not_believed(archive, alerce):
    alerce.spoil["/ztf/v1/objects"] = alerce.page(ROWS, 1, 1000, counted=True)
    with pytest.raises(ServerError, match="not that to the question"):
        archive.cone_search(CATALOG, (200.0, 5.0), "2 arcsec")


# One object -----------------------------------------------------------------------------------------------------------


def test_one_object(archive):
    assert archive.object("ZTF26aa003")["ndet"] == 3
    assert [d["candid"] for d in archive.detections("ZTF26aa003")] == [str(CANDID + 1), str(CANDID)]
    assert len(archive.non_detections("ZTF26aa003")) == 2
    assert archive.magstats("ZTF26aa003")[0]["magmean"] == 21.0
    assert len(archive.probabilities("ZTF26aa003")) == 2
    assert archive.features("ZTF26aa003")[0]["name"] == "Amplitude"
    assert [c["classifier_name"] for c in archive.classifiers()] == list(CLASSES)
    assert archive.forced_photometry("ZTF26aa001")[0]["procstatus"] == "0"
    for question in (
        archive.object,
        archive.detections,
        archive.light_curve,
        archive.magstats,
        archive.stamps,
    ):
        with pytest.raises(NotFoundError, match=r"'nobody'.*Object not found"):
            question("nobody")
        with pytest.raises(ConfigurationError):
            question(5)


def test_a_light_curve_is_read_as_ztf_is(archive):
    curve = archive.light_curve("ZTF26aa001")
    limit, first, second = curve
    assert (limit.kind, limit.mjd, limit.band, limit.limiting_mag) == ("limit", 60999.5, "r", 19.75)
    assert (first.mjd, first.band, first.mag, first.is_positive) == (61000.123456789, "r", 18.5, False)
    assert first.flux_njy == pytest.approx(-(10 ** (0.4 * (31.4 - 18.5))))
    assert first.alert_id == CANDID + 1
    assert (second.band, second.score, second.is_positive) == ("g", 0.7, True)


def test_forced_photometry_in_a_light_curve(archive, alerce):
    good, magnitude = archive.light_curve("ZTF26aa001", forced=True).forced
    assert good.flux_njy == pytest.approx(100 * 1000 * 10 ** (0.4 * (23.9 - 26)))
    assert (good.mjd, good.band) == (61003.5, "g")
    assert (magnitude.mjd, magnitude.band, magnitude.mag, magnitude.is_positive) == (
        61005.5,
        "r",
        18.25,
        False,
    )
    assert magnitude.flux_njy < 0
    assert len(archive.light_curve("ZTF26aa002", forced=True).forced) == 0
    alerce.spoil["/ztf/v1/objects/ZTF26aa002/lightcurve"] = json_reply(
        {"detections": None, "non_detections": None}
    )
    assert len(archive.light_curve("ZTF26aa002")) == 0


def test_stamps_come_side_by_side(archive, alerce):
    together = threading.Barrier(3)

    def image(_):
        together.wait(5)
        return "as always"

    alerce.spoil["/get_stamp"] = image
    cutouts = archive.stamps("ZTF26aa003")  # the first that has any
    assert [cutout.fits for cutout in cutouts] == [
        b"SIMPLE  =" + kind for kind in (b"science", b"template", b"difference")
    ]
    assert {asked.params["candid"] for asked in alerce.asked("/get_stamp")} == {str(CANDID)}
    with pytest.raises(NotFoundError, match="image of the alert 5 of"):
        archive.stamps("ZTF26aa003", 5)
    alerce.spoil["/get_stamp"] = reply(200, b"<html>")
    with pytest.raises(ServerError, match="no FITS file"):
        archive.stamps("ZTF26aa003", CANDID)
    alerce.spoil["/ztf/v1/objects/ZTF26aa003/detections"] = json_reply(DETECTIONS[:1])
    with pytest.raises(NotFoundError, match="has no images"):
        archive.stamps("ZTF26aa003")


# Failures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [None, {}, [5], [{"ndet": 1}], "x"])
def test_pages_that_make_no_sense(archive, alerce, items):
    alerce.spoil["/ztf/v1/objects"] = json_reply({"total": None, "page": None, "items": items})
    with pytest.raises(ServerError, match="is it a server of ALeRCE"):
        archive.find(CATALOG)


def test_an_address_that_is_none(archive, alerce):
    alerce.spoil["/ztf/v1/objects"] = reply(404, b"<html>nothing here</html>", {"content-type": "text/html"})
    with pytest.raises(NotFoundError, match="page 1 of its objects"):
        archive.find(CATALOG)


def test_a_broken_page_in_the_middle_is_no_end(archive, alerce, monkeypatch):
    monkeypatch.setattr(AlerceBackend, "largest_page", 25)
    broken = reply(500, b"<html>", {"content-type": "text/html"})
    alerce.spoil["/ztf/v1/objects"] = lambda asked: broken if asked.params["page"] == "2" else "as always"
    with pytest.raises(ServerError, match="HTTP 500"):
        archive.find(CATALOG)


def test_a_server_that_moves_its_address_and_one_that_is_busy(archive, alerce):
    alerce.spoil["/ztf/v1/objects"] = lambda asked: reply(
        308, b"", {"location": f"/ztf/v1/objects/?{urlsplit(asked.target).query}"}
    )
    alerce.spoil["/ztf/v1/objects/"] = lambda asked: alerce.listing(parse_qs(urlsplit(asked.target).query))
    assert len(archive.find(CATALOG, {"ndet": 3})) == 7
    busy = iter([reply(429, b"slow down", {"retry-after": "0"})])
    alerce.spoil["/ztf/v1/objects"] = lambda _: next(busy, "as always")
    assert archive.count(CATALOG) == 60


def test_the_url_of_a_server():
    def server(url):
        return nuncius.open_archive(url)._backend.server

    public = server("alerce+https://api.alerce.online/ztf/v1")
    assert public.objects == "https://api.alerce.online/ztf/v1/objects"
    assert public.forced == "https://api.alerce.online/v2/lightcurve/forced-photometry"
    assert public.stamps == "https://avro.alerce.online/get_stamp"
    assert server("alerce+https://api.alerce.online").base == public.base
    assert server("alerce+http://127.0.0.1:5/").stamps == "http://127.0.0.1:5/get_stamp"
    with pytest.raises(ConfigurationError, match="LSST"):
        server("alerce+https://api-lsst.alerce.online")
    with pytest.raises(ConfigurationError, match="alerce"):
        server("alerce+ftp://host")


def test_both_colours(alerce):
    async def whole():
        async with aio.open_archive(alerce.url) as archive:
            found = await archive.find(CATALOG, {"ndet": 3}, limit=2)
            cone = await archive.cone_search(CATALOG, (10.0, -5.0), "2 arcsec")
            curve = await archive.light_curve("ZTF26aa001", forced=True)
            cutouts = await archive.stamps("ZTF26aa003")
            return type(archive).__name__, names(found), names(cone), len(curve), len(cutouts)

    assert asyncio.run(whole()) == ("AsyncAlerceArchive", [3, 12], [0], 5, 3)
    with alerce.open() as archive:
        assert type(archive).__name__ == "AlerceArchive"
