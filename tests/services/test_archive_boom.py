"""BOOM: a small server that speaks its interface, asked through `open_archive`.

It answers from documents in memory, with the forms, the status codes and the habits of the real one: a login by form, no
field that says whether it succeeded, plain text where a token is wrong, the positions of a request in any order, their
documents unsorted, and one bad position that fails the whole request.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
import traceback

import numpy as np
import pytest

import http_support
import nuncius
from http_support import Loopback, json_reply, reply
from nuncius import aio
from nuncius._core.operations import Deadline
from nuncius.archives.backend import Cones
from nuncius.archives.boom import BoomBackend
from nuncius.archives.language import (
    Projection,
    check_filter,
    check_pipeline,
    matches,
    run_pipeline,
    sort_documents,
)
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FilterError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    NunciusError,
    ServerError,
    UnreachableError,
)
from nuncius.sky import separation_arcsec

PASSWORD = "hunter2 & ümläut"
FIRST = 2475433850215010000


def placed(ra, dec, **fields):
    return {"coordinates": {"radec_geojson": {"type": "Point", "coordinates": [ra - 180.0, dec]}}, **fields}


ALERTS = [
    placed(10.0 + (n % 20) * 0.001, -5.0 + n // 20 * 0.001, _id=FIRST + n, objectId=f"ZTF{n % 7}",
           candidate={"magpsf": 15.0 + n / 10, "fid": 1 + n % 3, "drb": None if n % 5 == 0 else n / 60})
    for n in range(60)
]  # fmt: skip
STARS = [placed(ra, dec, _id=f"s{ra}/{dec}") for ra in (0.0001, 359.9999) for dec in (0.0, 89.9999)]


class Boom:
    """The server; `spoil` maps a path to an answer, or to a function of the request, that comes instead."""

    def __init__(self, *, expires_in=604800, seed=1):
        self.catalogs = {"ZTF_alerts": ALERTS, "Gaia": STARS, "empty": []}
        self.expires_in, self.spoil, self.tokens, self.dead = expires_in, {}, [], set()
        self.random = random.Random(seed)
        self.server = Loopback(self.answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()

    @property
    def url(self):
        return f"boom+{self.server.url}"

    def open(self, **options):
        return nuncius.open_archive(self.url, **(options or {"credentials": ("me", PASSWORD)}))

    def asked(self, path):
        return [asked for asked in self.server.requests if asked.path == path]

    def answer(self, asked):
        if asked.path in self.spoil:
            spoil = self.spoil[asked.path]
            made = spoil(asked) if callable(spoil) else spoil
            if made != "as always":
                return made
        if asked.path == "/auth":
            return self.log_in(asked)
        header = asked.headers.get("authorization")
        if header is None or not header.startswith("Bearer "):
            return reply(401, b"Missing or invalid Authorization header")
        token = header.removeprefix("Bearer ")
        if token not in self.tokens or token in self.dead:
            return reply(401, b"Invalid token")
        if asked.path == "/catalogs":
            return said("success", [{"name": name} for name in sorted(self.catalogs)])
        if asked.headers.get("content-type") != "application/json":
            return reply(400, b"Content type error")
        name = asked.json["catalog_name"]
        if name not in self.catalogs:
            return refused(404, f"Catalog {name} does not exist")
        return getattr(self, asked.path.rpartition("/")[2])(self.catalogs[name], asked.json)

    def log_in(self, asked):
        if asked.headers.get("content-type") != "application/x-www-form-urlencoded":
            return json_reply({"error": "invalid_request", "error_description": "no form"}, 400)
        if asked.form != {"username": "me", "password": PASSWORD}:
            description = "Invalid username or password"
            return json_reply({"error": "invalid_client", "error_description": description}, 401)
        self.tokens.append(f"boom-token-{len(self.tokens)}")
        answer = {"access_token": self.tokens[-1], "token_type": "Bearer"}
        if self.expires_in is not None:
            answer["expires_in"] = self.expires_in
        return json_reply(answer, headers={"cache-control": "no-store"})

    def find(self, documents, query):
        if not isinstance(query.get("filter"), dict):
            return reply(400, b"Json deserialize error: missing field `filter`")
        found = chosen(documents, query["filter"])
        return found if isinstance(found, bytes) else said("success", cut(found, query))

    def count(self, documents, query):
        found = chosen(documents, query["filter"])
        return found if isinstance(found, bytes) else said("success", len(found))

    def estimated_count(self, documents, query):
        return said("success", len(documents))

    def pipeline(self, documents, query):
        stages = check_pipeline(query["pipeline"])
        return said("success", list(run_pipeline(documents, stages, lambda name: self.catalogs[name])))

    def cone_search(self, documents, query):
        unit = {"Degrees": 3600.0, "Radians": math.degrees(3600.0), "Arcseconds": 1.0, "Arcminutes": 60.0}
        if query["unit"] not in unit:
            return reply(400, b"Json deserialize error: unknown variant")
        condition = {**query.get("filter", {})}
        condition.pop("coordinates.radec_geojson", None)  # the cone takes its place
        found = chosen(documents, condition)
        if isinstance(found, bytes):
            return found
        groups = {}
        for name, (ra, dec) in query["object_coordinates"].items():
            if not 0.0 <= ra < 360.0:
                return refused(400, f"Invalid RA for object {name}: must be in [0, 360)")
            if not -90.0 <= dec <= 90.0:
                return refused(400, f"Invalid Dec for object {name}: must be in [-90, 90]")
            inside = [d for d in found if distance(d, ra, dec) <= query["radius"] * unit[query["unit"]]]
            self.random.shuffle(inside)
            groups[name] = cut(inside, query)
        names = list(groups)
        self.random.shuffle(names)
        return said(
            f"Cone Search on {query['catalog_name']} completed", {name: groups[name] for name in names}
        )


def distance(document, ra, dec):
    lon, lat = document["coordinates"]["radec_geojson"]["coordinates"]
    return float(
        separation_arcsec(np.array([ra]), np.array([dec]), np.array([lon + 180.0]), np.array([lat]))[0]
    )


def chosen(documents, condition):
    try:
        checked = check_filter(condition)
    except FilterError as error:
        return refused(500, f'Error finding documents: Command(CommandError {{ code: 2, code_name: "BadValue", '
                            f'message: "{error}" }})')  # fmt: skip
    return [document for document in documents if matches(document, checked)]


def cut(documents, query):
    if query.get("sort"):
        documents = sort_documents(documents, list(query["sort"].items()))
    begin = query.get("skip") or 0
    end = begin + query["limit"] if query.get("limit") else None
    return [Projection(query.get("projection")).apply(document) for document in documents[begin:end]]


def said(message, data):
    return json_reply({"message": message, "data": data})


def refused(status, message):
    return json_reply({"message": message}, status)


@pytest.fixture(autouse=True)
def own_config(tmp_path, monkeypatch):
    """Let no login of this machine be found."""
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for what in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"NUNCIUS_BOOM_{what}", raising=False)
    monkeypatch.setattr("nuncius._core.retry._FIRST_WAIT_S", 0.005)


@pytest.fixture
def boom():
    with Boom() as server:
        yield server


@pytest.fixture
def archive(boom):
    with boom.open() as opened:
        yield opened


# Asking ---------------------------------------------------------------------------------------------------------------


def test_documents_are_found_with_all_their_digits(archive, boom):
    bright = {"candidate.magpsf": {"$lt": 15.55}, "candidate.fid": {"$in": [1, 2]}}
    found = archive.find("ZTF_alerts", bright, projection=["objectId"], sort=[("objectId", -1), ("_id", 1)])
    assert [(d["objectId"], d["_id"] - FIRST) for d in found] == [
        ("ZTF4", 4), ("ZTF3", 3), ("ZTF1", 1), ("ZTF0", 0),
    ]  # fmt: skip
    (asked,) = boom.asked("/queries/find")
    assert list(asked.json["sort"].items()) == [("objectId", -1), ("_id", 1)]
    assert 0 < asked.json["max_time_ms"] <= 60_000
    assert asked.headers["authorization"] == "Bearer boom-token-0"


def test_skip_and_limit(archive, boom):
    assert [d["_id"] - FIRST for d in archive.find("ZTF_alerts", sort="_id", skip=58)] == [58, 59]
    assert [d["_id"] - FIRST for d in archive.find("ZTF_alerts", sort="_id", limit=2)] == [0, 1]
    assert archive.find_one("ZTF_alerts", {"_id": FIRST + 9})["objectId"] == "ZTF2"
    asked = len(boom.asked("/queries/find"))
    assert archive.find("ZTF_alerts", limit=0).docs == []
    assert len(boom.asked("/queries/find")) == asked


def test_counts(archive):
    assert archive.count("ZTF_alerts") == archive.estimated_count("ZTF_alerts") == 60
    assert archive.count("ZTF_alerts", {"candidate.fid": 1}) == 20
    assert archive.count("ZTF_alerts", {"candidate.fid": 1}, skip=15) == 5
    assert archive.count("ZTF_alerts", {"candidate.fid": 1}, skip=99) == 0
    assert archive.count("ZTF_alerts", limit=3) == 3
    assert archive.count("empty") == 0


def test_catalogs_values_and_pipelines(archive):
    assert archive.catalogs() == ["Gaia", "ZTF_alerts", "empty"]
    assert set(archive.info()["catalogs"]) == {"Gaia", "ZTF_alerts", "empty"}
    assert archive.distinct("ZTF_alerts", "objectId", {"candidate.magpsf": {"$lt": 15.25}}) == [
        "ZTF0", "ZTF1", "ZTF2",
    ]  # fmt: skip
    groups = archive.aggregate(
        "ZTF_alerts", [{"$group": {"_id": "$candidate.fid", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
    )
    assert groups.docs == [{"_id": 1, "n": 20}, {"_id": 2, "n": 20}, {"_id": 3, "n": 20}]


@pytest.mark.parametrize("stage", [{"$out": "x"}, {"$facet": {"a": [{"$merge": {"into": "x"}}]}}])
def test_a_stage_that_writes_is_not_sent(archive, boom, stage):
    with pytest.raises(ForbiddenError):
        archive.aggregate("ZTF_alerts", [stage])
    assert boom.server.requests == []


@pytest.mark.parametrize(
    "question",
    [
        lambda archive: archive.find("ZTF_alert"),
        lambda archive: archive.count("ZTF_alert"),
        lambda archive: archive.aggregate("ZTF_alert", []),
        lambda archive: archive.cone_search("ZTF_alert", (1, 2), "2 arcsec"),
    ],
)
def test_a_catalog_that_does_not_exist(archive, question):
    with pytest.raises(NotFoundError, match="did you mean ZTF_alerts"):
        question(archive)


def test_a_catalog_that_has_been_removed_since(archive, boom):
    archive.catalogs()
    del boom.catalogs["empty"]
    with pytest.raises(NotFoundError, match="Catalog empty does not exist"):
        archive.find("empty")


# Cones ----------------------------------------------------------------------------------------------------------------


def test_the_nearest_come_first_though_the_server_sorts_nothing(archive):
    places = {f"at.{n}": (10.0 + n * 0.001 + 0.0001, -5.0) for n in range(20)}
    found = archive.cone_search("ZTF_alerts", places, "8 arcsec", projection=["objectId"])
    groups = found.by_position()
    assert list(groups) == list(places)
    for name, group in groups.items():
        ra, dec = places[name]
        brute = sorted((distance(d, ra, dec), d["_id"]) for d in ALERTS if distance(d, ra, dec) <= 8.0)
        assert [d["_id"] for d in group] == [identifier for _, identifier in brute]
        np.testing.assert_allclose(
            [d["separation_arcsec"] for d in group], [far for far, _ in brute], atol=1e-6
        )
        assert set(group[0]) == {"_id", "objectId", "separation_arcsec", "input_index"}


def test_a_limit_keeps_the_nearest_and_is_not_left_to_the_server(archive, boom):
    everything = archive.cone_search("ZTF_alerts", (10.0052, -4.9991), "20 arcsec")
    assert len(everything) > 20
    for limit in (1, 3):
        nearest = archive.cone_search("ZTF_alerts", (10.0052, -4.9991), "20 arcsec", limit=limit)
        assert [d["_id"] for d in nearest] == [d["_id"] for d in everything][:limit]
    assert not [asked for asked in boom.asked("/queries/cone_search") if "limit" in asked.json]


def test_near_between_two_distances(archive):
    found = archive.near("ZTF_alerts", (10.005, -4.999), "8 arcsec", min_distance="3 arcsec")
    assert [round(d["separation_arcsec"], 1) for d in found] == sorted(
        round(distance(d, 10.005, -4.999), 1) for d in ALERTS if 3 <= distance(d, 10.005, -4.999) <= 8
    )


@pytest.mark.parametrize("ra", [0.0, 360.0, -1e-20, 359.99995, 720.0, -0.00005])
@pytest.mark.parametrize("dec", [0.0, 89.9999])
def test_across_zero_and_at_the_pole(archive, ra, dec):
    found = archive.cone_search("Gaia", [(ra, dec), (180.0, 0.0)], "2 arcsec")
    inside = sorted(d["_id"] for d in STARS if distance(d, ra % 360, dec) <= 2.0)
    assert sorted(d["_id"] for d in found if d["input_index"] == 0) == inside
    assert len(inside) == 2


def test_a_right_ascension_is_wrapped_before_it_is_sent(boom):
    """One position outside and the server refuses the whole request."""
    backend = BoomBackend(boom.url, credentials=("me", PASSWORD))
    query = Cones("Gaia", np.array([-1e-20, 360.0, -90.0]), np.zeros(3), 2.0, {}, Projection(None))
    assert len(http_support.run_sync(backend.cone_chunk(query, Deadline(10)))) == 4
    ((asked),) = boom.asked("/queries/cone_search")
    assert [ra for ra, _ in asked.json["object_coordinates"].values()] == [0.0, 0.0, 270.0]


def test_a_filter_on_the_position_is_not_lost(archive):
    nowhere = {"coordinates.radec_geojson": {"$exists": False}}
    assert archive.cone_search("Gaia", (0.0, 0.0), "2 arcsec", filter=nowhere).docs == []


def test_many_positions_in_both_colours(boom):
    places = [(10.0 + n * 0.00001, -5.0) for n in range(1200)]

    async def whole():
        async with aio.open_archive(boom.url, credentials=("me", PASSWORD)) as archive:
            return (await archive.cone_search("ZTF_alerts", places, "1 arcsec", limit=1)).docs

    with boom.open() as archive:
        sync = archive.cone_search("ZTF_alerts", places, "1 arcsec", limit=1, progress=False).docs
    assert sync == asyncio.run(whole())
    assert len(sync) > 300
    assert [d["input_index"] for d in sync] == sorted(d["input_index"] for d in sync)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda groups: groups.pop("p0"),
        lambda groups: groups.update(p0=None),
        lambda groups: groups.update(p0=[1]),
        lambda groups: groups.update(p0=[{"_id": 1}]),
        lambda groups: groups.update(other=[]),
    ],
)
def test_an_answer_that_is_short_or_foreign_is_not_taken(archive, boom, spoil):
    def answer(asked):
        groups = {name: [] for name in asked.json["object_coordinates"]}
        spoil(groups)
        return said("completed", groups)

    boom.spoil["/queries/cone_search"] = answer
    with pytest.raises(ServerError):
        archive.cone_search("ZTF_alerts", [(1, 2), (3, 4)], "2 arcsec")


def test_a_request_that_is_too_large_is_split(archive, boom):
    def answer(asked):
        too_large = len(asked.json["object_coordinates"]) > 20
        return (
            reply(413, b"JSON payload is larger than allowed (limit: 2097152 bytes).")
            if too_large
            else "as always"
        )

    boom.spoil["/queries/cone_search"] = answer
    places = [(10.0 + n * 0.001, -5.0) for n in range(20)] * 10
    found = archive.cone_search("ZTF_alerts", places, "1 arcsec")
    assert [d["input_index"] for d in found] == list(range(200))


# Logging in -----------------------------------------------------------------------------------------------------------


def test_a_token_that_is_refused_is_renewed_once(archive, boom):
    archive.catalogs()
    boom.dead.update(boom.tokens)
    assert archive.count("empty") == 0
    assert len(boom.tokens) == 2
    boom.dead.update(f"boom-token-{n}" for n in range(99))
    with pytest.raises(LoginError, match=r"Invalid token.*in vain"):
        archive.count("empty")
    assert len(boom.tokens) == 3


@pytest.mark.parametrize(("expires_in", "logins"), [(0, 3), (0.2, 2), (604800, 1), (None, 1), ("soon", 1)])
def test_a_token_is_renewed_before_it_ends(expires_in, logins):
    with Boom(expires_in=expires_in) as boom, boom.open() as archive:
        archive.catalogs()
        if expires_in == 0.2:
            archive.catalogs()
            time.sleep(0.25)
        else:
            archive.catalogs()
        archive.catalogs()
        assert len(boom.tokens) == logins
        assert not [asked for asked in boom.asked("/catalogs") if asked.headers["authorization"] == "Bearer "]


def test_a_given_token_is_used_as_long_as_it_lives(boom):
    boom.tokens.append("given-token-7")
    with boom.open(token="given-token-7") as archive:
        assert archive.catalogs()
        boom.dead.add("given-token-7")
        with pytest.raises(LoginError, match="give a new one") as caught:
            archive.catalogs()
    assert boom.asked("/auth") == []
    assert "given-token-7" not in "".join(traceback.format_exception(caught.value))


def test_a_wrong_password_says_so(boom):
    with boom.open(credentials=("me", "wrong-one")) as archive:
        with pytest.raises(LoginError, match="Invalid username or password") as caught:
            archive.catalogs()
        assert len(boom.server.requests) == 1
    assert "wrong-one" not in "".join(traceback.format_exception(caught.value))


def test_no_login_says_how_to_give_one(boom):
    with boom.open(timeout_s=5) as archive, pytest.raises(LoginError, match="NUNCIUS_BOOM_USERNAME"):
        archive.catalogs()
    assert boom.server.requests == []


def test_the_login_of_the_environment(boom, monkeypatch):
    monkeypatch.setenv("NUNCIUS_BOOM_USERNAME", "me")
    monkeypatch.setenv("NUNCIUS_BOOM_PASSWORD", PASSWORD)
    with boom.open(timeout_s=5) as archive:
        assert archive.count("empty") == 0


@pytest.mark.parametrize(
    "answer",
    [
        lambda asked: json_reply({"error": "x", "error_description": f"{asked.form}"}, 400),
        lambda _: reply(500, PASSWORD.encode()),
        reply(200, b"<html>Welcome</html>", {"content-type": "text/html"}),
        json_reply({"access_token": 7}),
        json_reply({"access_token": f"{PASSWORD}\nX: y"}),
        json_reply([]),
        None,
    ],
)
def test_a_strange_login_is_a_typed_error_without_the_password(boom, answer):
    boom.spoil["/auth"] = answer
    with boom.open() as archive, pytest.raises(NunciusError) as caught:
        archive.catalogs()
    assert PASSWORD not in "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refused(400, "Invalid filter: MongoDB Filter must be a JSON object"), FilterError),
        (reply(400, b"Json deserialize error: missing field"), FilterError),
        (refused(403, "Access denied: Admins only"), ForbiddenError),
        (refused(404, "Catalog x does not exist"), NotFoundError),
        (reply(413, b"JSON payload is larger than allowed"), ServerError),
        (refused(500, 'Error finding documents: code_name: "MaxTimeMSExpired"'), DeadlineError),
        (refused(500, "Error finding documents: unknown operator: $foo"), FilterError),
        (refused(500, "Error retrieving document from the database"), ServerError),
        (reply(302, b"", {"location": "http://127.0.0.1:1/"}), ServerError),
        (reply(200, b"<html>Sign in</html>", {"content-type": "text/html"}), ServerError),
        (json_reply({"message": "success"}), ServerError),
        (json_reply({"message": "success", "data": None}), ServerError),
        (json_reply({"message": "success", "data": [1]}), ServerError),
        (json_reply({"message": "success", "data": {}}), ServerError),
        (reply(200, b""), ServerError),
    ],
)
def test_what_is_no_answer_is_a_typed_error(archive, boom, answer, kind):
    boom.spoil["/queries/find"] = answer
    with pytest.raises(kind) as caught:
        archive.find("ZTF_alerts")
    assert type(caught.value) is kind
    assert boom.server.url in str(caught.value)
    assert len(boom.asked("/queries/find")) == 1


def test_a_filter_that_only_the_database_refuses(archive):
    with pytest.raises(FilterError):
        archive.find("ZTF_alerts", {"candidate.magpsf": {"$foo": 1}})


def test_a_busy_server_is_asked_again(archive, boom):
    answers = [refused(503, "busy"), "as always"]
    boom.spoil["/queries/find"] = lambda _: answers.pop(0)
    assert len(archive.find("ZTF_alerts")) == 60


def test_a_question_that_times_out_is_asked_once(archive, boom):
    archive.catalogs()
    boom.spoil["/queries/find"] = lambda _: iter([2.0])
    with pytest.raises(DeadlineError):
        archive.find("ZTF_alerts", timeout_s=0.3)
    assert len(boom.asked("/queries/find")) == 1


def test_nobody_there():
    with Boom() as gone:
        url = gone.url
    with nuncius.open_archive(url, token="t") as archive, pytest.raises(UnreachableError):
        archive.catalogs()


# Addresses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("boom+https://api.kaboom.caltech.edu", "https://api.kaboom.caltech.edu"),
        ("boom+https://host:4000/api/", "https://host:4000/api"),
        ("boom+http://[::1]:4000", "http://[::1]:4000"),
        ("https://host", "https://host"),
    ],
)
def test_addresses(url, base):
    assert BoomBackend(url).url == f"boom+{base}"


@pytest.mark.parametrize(
    "url",
    [
        "boom+https://me:hunter2@host",
        "boom+https://me:hunter2@host:port",
        "boom+https://me:hunter2/@host:99",
        "boom+https://me:hunter2@[::1",
        "boom+https:///me:hunter2@host",
        "boom+ftp://host/hunter2",
        "boom+https://",
    ],
)
def test_addresses_that_are_none(url):
    with pytest.raises(ConfigurationError) as caught:
        BoomBackend(url)
    if "@" in url:
        assert "hunter2" not in "".join(traceback.format_exception(caught.value)).replace(url, "")
