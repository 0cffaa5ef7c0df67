"""MongoDB as an archive, without a server: addresses, errors, how positions are asked for, how answers are read."""

import contextlib
import itertools
import pickle
import re
import time

import mongomock
import numpy as np
import pymongo.errors as mongo
import pytest
from astropy.coordinates import SkyCoord
from bson.errors import InvalidBSON, InvalidDocument
from hypothesis import given, settings
from hypothesis import strategies as st

from nuncius._core.drivers import Driver
from nuncius._core.operations import Deadline
from nuncius.archives.backend import Cones, Find
from nuncius.archives.language import Projection, matches
from nuncius.archives.mongodb import MongoBackend
from nuncius.archives.mongodb.places import BOX, CELLS, GEO, Layout, Place, grouped, layout_of
from nuncius.archives.mongodb.service import MongoService
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FilterError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    NunciusError,
    ServerError,
    TlsError,
    UnreachableError,
    UnsupportedError,
)
from nuncius.sky import Cone, Polygon, cells_of

POSITION = "coordinates.radec_geojson"
URL = "mongodb://db.example.org:27017/kowalski"


def cones(catalog="ZTF_alerts", ra=(), dec=(), radius_arcsec=2.0, **options):
    return Cones(
        catalog,
        np.array(ra, dtype=float),
        np.array(dec, dtype=float),
        radius_arcsec,
        options.pop("condition", {}),
        Projection(options.pop("projection", None)),
        **options,
    )


# Addresses and logins --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mongodb://joe:hunter2@h/db", "credentials="),
        ("mongodb://joe@h/db", "credentials="),
        ("mongodb://h/db?tlsCertificateKeyFilePassword=hunter2", "credentials="),
        ("mongodb://h/db?authMechanismProperties=AWS_SESSION_TOKEN:hunter2", "credentials="),
        ("mongodb+srv://joe:hunter2@h/db", "credentials="),
        ("mongodb://h/db?retryRead=1", "retryread"),
        ("mongodb://h:99999/db", "65535"),
        ("mongodb://h", "names no database"),
        ("mongodb://h/", "names no database"),
        ("mongodb://h/db.alerts", "names no database"),
        ("mongodb:///db", "no address"),
        ("http://h/db", "no address"),
        ("h/db", "no address"),
    ],
)
def test_an_address_that_cannot_work_says_why_and_shows_no_secret(url, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        MongoService(url)
    assert "hunter2" not in str(caught.value)


def test_the_url_of_an_archive_has_no_options():
    service = MongoService("mongodb://h1:1,h2:2/kowalski?replicaSet=rs&authSource=admin")
    assert (service.url, service.database_name) == ("mongodb://h1:1,h2:2/kowalski", "kowalski")


def test_the_login_comes_from_the_environment_and_is_never_shown(monkeypatch):
    monkeypatch.setenv("NUNCIUS_MONGODB_USERNAME", "joe")
    monkeypatch.setenv("NUNCIUS_MONGODB_PASSWORD", "hunter2")
    backend = MongoBackend(URL)
    client = backend._mongo.database.client
    assert client.options.pool_options._credentials.password == "hunter2"
    assert "hunter2" not in repr(client) + repr(backend) + repr(vars(backend._mongo))
    error = raised(mongo.OperationFailure("Authentication failed.", 18), service=backend._mongo)
    assert isinstance(error, LoginError)
    assert "joe" in str(error)
    assert "NUNCIUS_MONGODB_PASSWORD" in str(error)
    assert "hunter2" not in str(error) + repr(pickle.loads(pickle.dumps(error)).__dict__)
    backend.close()


def test_options_of_the_url_go_before_our_own():
    service = MongoService(f"{URL}?serverSelectionTimeoutMS=1234")
    client = service.database.client
    assert client.options.server_selection_timeout == 1.234
    assert client.options.pool_options.connect_timeout == 10
    service.close()


def test_a_closed_archive_says_so():
    service = MongoService(URL)
    service.close()
    with pytest.raises(ConfigurationError, match="is closed"):
        _ = service.database


# Errors ----------------------------------------------------------------------------------------------------------------


def raised(error, *, seconds=None, service=None):
    """Return what an error of pymongo becomes."""
    with pytest.raises(NunciusError) as caught, (service or MongoService(URL)).asking(seconds):
        raise error
    assert (caught.value.url, caught.value.service) == (URL, "mongodb")
    return caught.value


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (mongo.OperationFailure("no", 18), LoginError, "authSource"),
        (mongo.OperationFailure("no", 8000), LoginError, "authSource"),
        (mongo.OperationFailure("find requires authentication", 13), LoginError, "NUNCIUS_MONGODB_USERNAME"),
        (mongo.ExecutionTimeout("operation exceeded time limit", 50), DeadlineError, "timeout_s"),
        (mongo.OperationFailure("unknown operator: $foo", 2), FilterError, r"\$foo"),
        (mongo.OperationFailure("unknown operator: $geoWithin", 2), UnsupportedError, r"\$geoWithin"),
        (mongo.OperationFailure("text index required", 27), FilterError, "text index"),
        (mongo.OperationFailure("Regular expression is invalid", 51091), FilterError, "Regular"),
        (mongo.OperationFailure("Unrecognized pipeline stage", 40324), FilterError, "stage"),
        (mongo.OperationFailure("distinct too big", 17217), FilterError, "too big"),
        (mongo.OperationFailure("no such command: 'x'", 59), UnsupportedError, "no such command"),
        (mongo.OperationFailure("not implemented", 238), UnsupportedError, "not implemented"),
        (mongo.CursorNotFound("cursor id 5 not found", 43), ServerError, "ten minutes"),
        (mongo.OperationFailure("out of disk", 14031), ServerError, "14031"),
        (mongo.OperationFailure("internal", 1), ServerError, "internal"),
        (mongo.AutoReconnect("connection closed"), UnreachableError, "connection closed"),
        (mongo.NetworkTimeout("timed out"), DeadlineError, "60 s"),
        (mongo.WaitQueueTimeoutError("no connection is free"), DeadlineError, "60 s"),
        (mongo.ServerSelectionTimeoutError("h:1: refused, Timeout: 10s, Topology: x"), UnreachableError, "refused"),
        (mongo.ServerSelectionTimeoutError("SSL handshake failed: h:1"), TlsError, "tlsCAFile"),
        (mongo.ConfigurationError("bad mechanism"), ConfigurationError, "bad mechanism"),
        (mongo.ProtocolError("garbage"), ServerError, "garbage"),
        (mongo.DocumentTooLarge("20 MB"), FilterError, "16 MB"),
        (InvalidDocument("cannot encode"), FilterError, "cannot encode"),
        (OverflowError("MongoDB can only handle up to 8-byte ints"), FilterError, "2\\^63"),
        (InvalidBSON("bad utf-8"), ServerError, "can't be read"),
    ],
)  # fmt: skip
def test_errors_of_pymongo_are_ours(error, kind, said):
    ours = raised(error)
    assert type(ours) is kind
    assert re.search(said, str(ours))
    assert ours.__cause__ is error


def test_who_is_logged_in_and_may_not_is_forbidden():
    service = MongoService(URL, credentials=("joe", "hunter2"))
    error = raised(mongo.OperationFailure("not authorized on kowalski", 13), service=service)
    assert type(error) is ForbiddenError
    assert "joe" in str(error)
    assert "hunter2" not in str(error)


def test_the_callers_time_is_named():
    assert "within 3 s" in str(raised(mongo.NetworkTimeout("timed out"), seconds=3))


# A database in memory ----------------------------------------------------------------------------------------------------


class Memory:
    """What MongoService gives, on mongomock; where it is told to, it knows $geoWithin."""

    url, database_name = URL, "kowalski"

    def __init__(self, *, knows_geo=False):
        self.real = mongomock.MongoClient().kowalski
        self.asked = []  # what was looked for
        self.seconds = []  # how long it was given
        self.database = Database(self, knows_geo)

    @contextlib.contextmanager
    def asking(self, seconds):
        self.seconds.append(seconds)
        yield

    def close(self):
        pass


class Database:
    def __init__(self, memory, knows_geo):
        self.memory, self.knows_geo, self.name = memory, knows_geo, "kowalski"

    def __getitem__(self, name):
        return Collection(self.memory, self.memory.real[name], self.knows_geo)

    def list_collections(self, **options):
        return [{"name": name} for name in self.memory.real.list_collection_names()]


class Collection:
    def __init__(self, memory, real, knows_geo):
        self.memory, self.real, self.knows_geo = memory, real, knows_geo

    def find(self, condition=None, projection=None, **options):
        self.memory.asked.append(condition)
        if "$geoWithin" not in str(condition):
            return self.real.find(condition, projection, **options)
        if not self.knows_geo:
            raise mongo.OperationFailure("unknown operator: $geoWithin", 2)
        *others, near = condition.get("$and", [condition])
        return self.real.find({"$and": [{"_id": {"$in": self.within(near)}}, *others]}, projection, **options)

    def within(self, near):
        """Return the ids of what lies in caps, by astropy."""
        placed = list(self.real.find({"coordinates": {"$exists": True}}))
        points = np.array([one["coordinates"]["radec_geojson"]["coordinates"] for one in placed])
        stored = SkyCoord(points[:, 0] + 180, points[:, 1], unit="deg")
        inside = np.zeros(len(placed), bool)
        for part in near.get("$or", [near]):
            (lon, lat), radius = part[POSITION]["$geoWithin"]["$centerSphere"]
            assert -180 <= lon <= 180
            inside |= stored.separation(SkyCoord(lon + 180, lat, unit="deg")).rad <= radius
        return [one["_id"] for one, is_in in zip(placed, inside, strict=True) if is_in]

    def aggregate(self, stages, **options):
        if "$geoWithin" in str(stages):
            if not self.knows_geo:
                raise mongo.OperationFailure("unknown operator: $geoWithin", 2)
            return iter([])
        return self.real.aggregate(stages)

    def __getattr__(self, name):
        return getattr(self.real, name)


def backend_on(memory):
    backend = MongoBackend(URL)
    backend._mongo = memory
    return backend


def run(operation):
    return Driver().run(operation)


RNG = np.random.default_rng(7)
RA = (
    np.concatenate([RNG.uniform(-0.002, 0.002, 60), RNG.uniform(0, 360, 60), RNG.uniform(0, 360, 40)]) % 360
).round(9)
DEC = np.concatenate(
    [RNG.uniform(-0.002, 0.002, 60), RNG.uniform(89.998, 90, 60), RNG.uniform(-89, 89, 40)]
).round(9)


def geojson(ra, dec):
    return {"coordinates": {"radec_geojson": {"type": "Point", "coordinates": [ra - 180.0, dec]}, "l": 1.5}}


def filled(kind):
    """Return a database with one catalog, laid out in one of the ways, and the way that is expected."""
    memory = Memory(knows_geo=kind in {"geo", "geo and cells"})
    made, places = [], zip(RA.tolist(), DEC.tolist(), cells_of(RA, DEC).tolist(), strict=True)
    for number, (ra, dec, cell) in enumerate(places):
        document = {"_id": number, "fid": number % 3}
        if kind.startswith("geo"):
            document |= geojson(ra, dec)
        if kind == "candidate":
            document["candidate"] = {"ra": ra, "dec": dec, "magpsf": 18.5}
        if kind in {"radec", "radec from -180", "cells"}:
            document |= {"ra": ra - 360 if kind.endswith("180") and ra >= 180 else ra, "dec": dec}
        if kind in {"cells", "geo and cells", "geojson cells"}:
            document["hpx"] = cell
        made.append(document)
    memory.real["ZTF_alerts"].insert_many(made)
    memory.real["ZTF_alerts"].insert_one({"_id": "nowhere", "fid": 0})
    if kind in {"geo", "geo and cells"}:
        memory.real["ZTF_alerts"].create_index([(POSITION, "2dsphere"), ("_id", 1)])
    return memory


WAYS = {
    "geo": GEO,
    "geo and cells": GEO,
    "geojson": BOX,
    "geojson cells": CELLS,
    "cells": CELLS,
    "radec": BOX,
    "radec from -180": BOX,
    "candidate": BOX,
}


@pytest.mark.parametrize("kind", WAYS)
@pytest.mark.parametrize(("radius_arcsec", "minimum_arcsec"), [(0.0, 0.0), (3.0, 1.0), (100000.0, 0.0)])
def test_cones_are_those_of_astropy_whatever_the_layout(kind, radius_arcsec, minimum_arcsec):
    memory = filled(kind)
    backend = backend_on(memory)
    ra, dec = (RA[::16] - 180.0 + 180.0) % 360, DEC[::16]  # as they stand in GeoJSON: a place keeps 14 digits
    query = cones(
        ra=ra,
        dec=dec,
        radius_arcsec=radius_arcsec,
        minimum_arcsec=minimum_arcsec,
        condition={"fid": {"$ne": 1}},
    )
    hits = run(backend.cones(query, Deadline(30)))
    assert backend._layouts["ZTF_alerts"].way == WAYS[kind]
    stored = SkyCoord((RA - 180.0 + 180.0) % 360 if kind.startswith("geo") else RA, DEC, unit="deg")
    expected = set()
    for index, centre in enumerate(SkyCoord(ra, dec, unit="deg")):
        distance = centre.separation(stored).arcsec
        # 1e-10 arcsec is less than one digit of a position.
        chosen = (
            (distance <= radius_arcsec + 1e-9) & (distance >= minimum_arcsec) & (np.arange(len(RA)) % 3 != 1)
        )
        expected |= {(index, int(number)) for number in np.flatnonzero(chosen)}
    if radius_arcsec:
        assert {(one["input_index"], one["_id"]) for one in hits.documents} == expected
        assert len(expected) > 10
    else:
        assert {(one["input_index"], one["_id"]) for one in hits.documents} <= expected
        assert len(hits.documents) >= len(ra) * 2 // 3 - 2 or not kind.startswith("geo")
    keys = [(one["input_index"], one["separation_arcsec"]) for one in hits.documents]
    assert keys == sorted(keys)
    assert not hits.failures


@pytest.mark.parametrize("kind", ["geo", "cells", "candidate"])
def test_a_projection_is_kept_and_limit_gives_the_nearest(kind):
    backend = backend_on(filled(kind))
    query = cones(ra=[0.0, 0.0], dec=[0.0, 90.0], radius_arcsec=20, projection=["fid"], limit=3)
    hits = run(backend.cones(query, Deadline(30)))
    assert [one["input_index"] for one in hits.documents] == [0, 0, 0, 1, 1, 1]
    assert all(one.keys() == {"_id", "fid", "input_index", "separation_arcsec"} for one in hits.documents)
    at_pole = np.sort((90 - DEC) * 3600)[:3]
    np.testing.assert_allclose([one["separation_arcsec"] for one in hits.documents[3:]], at_pole, atol=1e-6)


@pytest.mark.parametrize("kind", WAYS)
def test_a_region_is_that_of_its_polygon(kind):
    backend = backend_on(filled(kind))
    triangle = Polygon([(340.0, -60.0), (80.0, -20.0), (340.0, 70.0)])
    query = Find("ZTF_alerts", {"fid": {"$ne": 1}}, Projection(["fid"]), [("_id", -1)], skip=2, limit=30)
    found = list(run(backend.within(triangle, query, Deadline(30))))
    inside = np.flatnonzero(triangle.contains(RA, DEC) & (np.arange(len(RA)) % 3 != 1))[::-1]
    assert found == [{"_id": number, "fid": number % 3} for number in inside.tolist()[2:32]]
    assert len(inside) > 32


@pytest.mark.parametrize("kind", ["cells", "candidate"])
def test_what_is_found_by_position_has_the_coordinates_of_kowalski(kind):
    backend = backend_on(filled(kind))
    cone = cones(ra=[RA[130]], dec=[DEC[130]], radius_arcsec=1)
    (found,) = run(backend.cones(cone, Deadline(30))).documents
    query = Find("ZTF_alerts", {}, Projection(None))
    (again,) = run(backend.within(Cone(RA[130], DEC[130], 1.0), query, Deadline(30)))
    for document in (found, again):
        lon, lat = document["coordinates"]["radec_geojson"]["coordinates"]
        assert (lon + 180, lat) == pytest.approx((RA[130], DEC[130]), abs=1e-12)
        assert "candidate" in document or "ra" in document


def test_one_document_near_two_positions_is_given_twice_and_not_shared():
    backend = backend_on(filled("geojson"))
    query = cones(ra=[RA[130]] * 2, dec=[DEC[130]] * 2, radius_arcsec=1)
    first, second = run(backend.cones(query, Deadline(30))).documents
    assert (first["_id"], second["_id"]) == (130, 130)
    assert (first["input_index"], second["input_index"]) == (0, 1)
    assert first["coordinates"] is not second["coordinates"]


def test_a_catalog_without_positions_says_what_to_add():
    memory = Memory()
    memory.real.aux.insert_one({"_id": "ZTF1", "ra": "12:00:00", "dec": float("nan")})
    with pytest.raises(UnsupportedError, match="2dsphere"):
        run(backend_on(memory).cones(cones("aux", [1], [1]), Deadline(30)))


@pytest.mark.parametrize("cell", [lambda cell: cell >> 2, float, str])
def test_cells_that_mean_something_else_are_not_used(cell):
    collection = mongomock.MongoClient().db.alerts
    right = cells_of(RA, DEC).tolist()
    collection.insert_many(
        {"ra": ra, "dec": dec, "hpx": cell(hpx)}
        for ra, dec, hpx in zip(RA.tolist(), DEC.tolist(), right, strict=True)
    )
    assert layout_of(collection, knows_geo=True).way == BOX


def test_cells_that_some_documents_lack_are_not_used():
    memory = filled("cells")
    memory.real["ZTF_alerts"].update_one({"_id": 150}, {"$unset": {"hpx": 1}})
    backend = backend_on(memory)
    hits = run(backend.cones(cones(ra=[RA[150]], dec=[DEC[150]]), Deadline(30)))
    assert [one["_id"] for one in hits.documents] == [150]


@settings(max_examples=200, deadline=None)
@given(
    ra=st.floats(0, 360, exclude_max=True),
    dec=st.floats(-90, 90),
    radius=st.one_of(st.floats(0, 10), st.floats(0, 648000)),
    angle=st.floats(0, 360),
    part=st.floats(0, 1),
    way=st.sampled_from([CELLS, BOX]),
    place=st.sampled_from(
        [Place("ra", "dec"), Place(f"{POSITION}.coordinates.0", f"{POSITION}.coordinates.1", 180.0)]
    ),
    from_minus_180=st.booleans(),
)
def test_what_is_asked_covers_the_cone(ra, dec, radius, angle, part, way, place, from_minus_180):
    import astropy.units as u

    there = SkyCoord(ra, dec, unit="deg").directional_offset_by(
        angle * u.deg, radius * part * 0.999999 * u.arcsec
    )
    a, d = float(there.ra.deg) % 360, float(there.dec.deg)
    written = a - 360 if from_minus_180 and a >= 180 else a
    document = {
        "ra": written,
        "dec": d,
        "hpx": int(cells_of(np.array([a]), np.array([d]))[0]),
        **geojson(a, d),
    }
    questions = list(Layout(place, way).questions(cones(ra=[ra], dec=[dec], radius_arcsec=radius)))
    assert sum(matches(document, question) for question in questions) == 1


@pytest.mark.parametrize("way", [CELLS, BOX])
def test_a_small_cone_does_not_ask_for_the_whole_sky(way):
    (question,) = Layout(Place("ra", "dec"), way).questions(
        cones(ra=[10, 200], dec=[20, -60], radius_arcsec=2)
    )
    cells = cells_of(RA, DEC).tolist()
    documents = [
        {"ra": a, "dec": d, "hpx": c} for a, d, c in zip(RA.tolist(), DEC.tolist(), cells, strict=True)
    ]
    assert not any(matches(document, question) for document in documents)


def test_a_large_cone_is_asked_in_parts_that_give_nothing_twice():
    ra, dec = np.linspace(0, 359, 1500), np.linspace(-80, 80, 1500)
    questions = list(Layout(Place("ra", "dec"), CELLS).questions(cones(ra=ra, dec=dec, radius_arcsec=2)))
    assert len(questions) > 1
    ranges = sorted(
        (one["hpx"]["$gte"], one["hpx"]["$lt"]) for question in questions for one in question["$or"]
    )
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges))


def test_documents_without_a_position_are_near_to_nothing():
    documents = [{"ra": None, "dec": 1.0}, {"ra": 1.0}, {"ra": 1.0, "dec": 91.0}, {"ra": 1.0, "dec": 1.0}]
    groups = grouped(cones(ra=[1, 5], dec=[1, 1]), documents, Place("ra", "dec"))
    assert groups == [[{"ra": 1.0, "dec": 1.0}], []]


# Questions ---------------------------------------------------------------------------------------------------------------


def test_an_unknown_catalog_is_an_error_and_not_an_empty_answer():
    backend = backend_on(filled("geo"))
    for ask in (
        backend.find(Find("ZTF_alert", {}, Projection(None)), Deadline(5)),
        backend.count("ZTF_alert", {}, Deadline(5)),
        backend.estimated_count("ZTF_alert", Deadline(5)),
        backend.distinct("ZTF_alert", "fid", {}, Deadline(5)),
        backend.aggregate("ZTF_alert", [{"$limit": 1}], Deadline(5)),
        backend.cones(cones("ZTF_alert", [1], [1]), Deadline(5)),
        backend.crossmatch(Find("ZTF_alert", {}, Projection(None)), cones(), Deadline(5)),
    ):
        with pytest.raises(NotFoundError, match="ZTF_alerts"):
            run(ask)


def test_a_database_that_is_not_there_says_so():
    with pytest.raises(NotFoundError, match="'kowalski' is empty or does not exist"):
        run(backend_on(Memory()).count("ZTF_alerts", {}, Deadline(5)))


def test_a_catalog_that_was_just_made_is_found():
    memory = filled("geo")
    backend = backend_on(memory)
    assert run(backend.catalogs(Deadline(5))) == ["ZTF_alerts"]
    memory.real["Gaia_EDR3"].insert_one({"_id": 1})
    assert run(backend.count("Gaia_EDR3", {}, Deadline(5))) == 1


def test_find_reads_on_and_again():
    backend = backend_on(filled("geo"))
    query = Find(
        "ZTF_alerts", {"fid": {"$in": [0, 1]}}, Projection(["fid"]), [("_id", -1)], skip=1, limit=103
    )
    found = run(backend.find(query, Deadline(5)))
    ids = [one["_id"] for one in found]
    assert len(ids) == 103
    assert [one["_id"] for one in found] == ids
    assert run(backend.find(Find("ZTF_alerts", {}, Projection(None), limit=0), Deadline(5))) == []


def test_count_takes_skip_and_limit():
    backend = backend_on(filled("geo"))
    assert run(backend.count("ZTF_alerts", {"fid": 0}, Deadline(5), skip=10, limit=7)) == 7
    assert run(backend.count("ZTF_alerts", {"fid": 0}, Deadline(5), limit=0)) == 0
    assert run(backend.count("ZTF_alerts", {}, Deadline(5))) == len(RA) + 1


def test_the_readers_own_time_is_not_the_servers():
    memory = filled("geo")
    backend = backend_on(memory)
    found = run(backend.find(Find("ZTF_alerts", {}, Projection(None)), Deadline(0.5)))
    before = len(memory.seconds)
    for number, _ in enumerate(found):
        if number == 50:
            time.sleep(0.7)
    assert len(memory.seconds) == before + 2
    assert all(0.2 < seconds <= 0.5 for seconds in memory.seconds[before:])


def test_a_deadline_that_is_over_asks_nothing():
    memory = filled("geo")
    deadline = Deadline(0.001)
    time.sleep(0.01)
    with pytest.raises(DeadlineError):
        run(backend_on(memory).count("ZTF_alerts", {}, deadline))
    assert memory.seconds == []


@pytest.mark.parametrize("code", [9, 17217])
def test_distinct_is_complete_where_the_short_way_fails(code, monkeypatch):
    memory = Memory()
    memory.real.things.insert_many([{"a": 1}, {"a": [1, 2]}, {"a": None}, {"b": 1}, {"a": "x"}, {"a": []}])
    backend = backend_on(memory)
    direct = run(backend.distinct("things", "a", {}, Deadline(5)))

    def refuse(*_):
        raise mongo.OperationFailure("distinct too big, 16mb cap", code)

    monkeypatch.setattr(Collection, "distinct", refuse, raising=False)
    assert run(backend.distinct("things", "a", {}, Deadline(5))) == direct
    assert direct == [None, 1, 2, "x"]


@pytest.mark.parametrize(
    "pipeline",
    [
        [{"$match": {}}, {"$out": "ZTF_alerts"}],
        [{"$merge": {"into": "x"}}],
        [{"$facet": {"a": [{"$limit": 1}, {"$out": "x"}]}}],
        [{"$lookup": {"from": "x", "as": "y", "pipeline": [{"$merge": "x"}]}}],
    ],
)
def test_a_pipeline_never_writes(pipeline):
    memory = filled("geo")
    with pytest.raises(ForbiddenError, match="writes"):
        run(backend_on(memory).aggregate("ZTF_alerts", pipeline, Deadline(5)))
    assert memory.seconds == []


def test_a_crossmatch_from_a_catalog_without_geojson_is_refused_and_not_empty():
    memory = filled("candidate")
    with pytest.raises(UnsupportedError, match="Swap"):
        run(backend_on(memory).crossmatch(Find("ZTF_alerts", {}, Projection(None)), cones(), Deadline(5)))
