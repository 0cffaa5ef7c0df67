"""Several archives as one: who is asked, who is asked next, and what is said when nobody answers."""

from __future__ import annotations

import time

import numpy as np
import pytest

import http_support
import nuncius
from http_support import Loopback, json_reply
from nuncius._core.operations import Deadline, Gather, Sleep
from nuncius.archives.backend import Backend, Cones, Find
from nuncius.archives.federation import FederationBackend
from nuncius.archives.language import Projection
from nuncius.errors import (
    ConfigurationError,
    DeadlineError,
    FilterError,
    LoginError,
    NotFoundError,
    ServerError,
    UnreachableError,
)

GONE = UnreachableError("gone")


@pytest.fixture(params=sorted(http_support.COLOURS))
def run(request):
    """Run an operation in either colour."""
    return http_support.COLOURS[request.param]


class Member(Backend):
    """An archive that notes what it is asked, and fails with `error`."""

    service = "member"

    def __init__(self, name, *catalogs, error=None, seconds=0.0):
        self.url, self.held, self.error, self.seconds = name, list(catalogs), error, seconds
        self.asked = []
        self.closed = False

    def told(self, what, answer):
        self.asked.append(what)
        yield Sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return answer

    def catalogs(self, deadline, *, refresh=False):
        return (yield from self.told("catalogs", self.held))

    def find(self, query, deadline):
        return (yield from self.told("find", [{"_id": self.url}]))

    def count(self, catalog, condition, deadline, *, skip=0, limit=None):
        return (yield from self.told("count", 7))

    def estimated_count(self, catalog, deadline):
        return (yield from self.told("estimated_count", 7))

    def aggregate(self, catalog, pipeline, deadline):
        return (yield from self.told("aggregate", [{"_id": self.url}]))

    def cone_chunk(self, query, deadline):
        found = [
            {"_id": self.url, "separation_arcsec": 0.0, "input_index": index}
            for index in range(len(query.ra))
        ]
        return (yield from self.told("cones", found))

    def info(self, deadline):
        return (yield from self.told("info", {"catalogs": {name: {} for name in self.held}}))

    def close(self):
        self.closed = True


def one(*members):
    return FederationBackend({member.url: member for member in members})


def finding(catalog="stars"):
    return Find(catalog, {}, Projection(None))


def cones(count, catalog="stars"):
    return Cones(catalog, np.arange(count) / 1e4, np.zeros(count), 2.0, {}, Projection(None))


def found_by(run, federation, catalog="stars"):
    (document,) = run(federation.find(finding(catalog), Deadline(10)))
    return document["_id"]


# Who has what ---------------------------------------------------------------------------------------------------------


def test_each_catalog_is_asked_where_it_is(run):
    a, b = Member("a", "stars", "alerts"), Member("b", "stars", "galaxies")
    federation = one(a, b)
    assert run(federation.catalogs(Deadline(10))) == ["alerts", "galaxies", "stars"]
    assert found_by(run, federation, "alerts") == "a"
    assert found_by(run, federation, "galaxies") == "b"
    assert (a.asked.count("find"), b.asked.count("find")) == (1, 1)


def test_a_catalog_that_nobody_has(run):
    federation = one(Member("a", "stars"), Member("b", "galaxies"))
    with pytest.raises(NotFoundError, match="did you mean stars"):
        found_by(run, federation, "star")


def test_a_catalog_that_only_a_silent_one_may_have_is_not_said_not_to_exist(run):
    federation = one(Member("a", "stars"), Member("b", "galaxies", error=GONE))
    with pytest.raises(UnreachableError, match=r"galaxies.*b \(gone\)"):
        found_by(run, federation, "galaxies")


def test_a_pipeline_goes_to_who_has_all_that_it_reads(run):
    a, b = Member("a", "stars"), Member("b", "stars", "galaxies")
    join = [{"$lookup": {"from": "galaxies", "localField": "x", "foreignField": "y", "as": "z"}}]
    for _ in range(3):
        (document,) = run(one(a, b).aggregate("stars", join, Deadline(10)))
        assert document["_id"] == "b"
    with pytest.raises(NotFoundError, match="stars together with galaxies"):
        run(one(Member("a", "stars"), Member("c", "galaxies")).aggregate("stars", join, Deadline(10)))


def test_two_catalogs_of_two_archives_are_matched(run):
    class Placed(Member):
        def find(self, query, deadline):
            place = {"radec_geojson": {"type": "Point", "coordinates": [-179.0, 2.0]}}
            return (yield from self.told("find", [{"_id": "left", "coordinates": place}]))

    a, b = Placed("a", "alerts"), Member("b", "stars")
    matched = list(run(one(a, b).crossmatch(finding("alerts"), cones(0), Deadline(10))))
    assert [(document["_id"], document["matches"][0]["_id"]) for document in matched] == [("left", "b")]


# Who is asked first ---------------------------------------------------------------------------------------------------


def test_the_quicker_one_is_asked_when_both_are_known(run):
    slow, quick = Member("slow", "stars", seconds=0.05), Member("quick", "stars")
    federation = one(slow, quick)
    answers = [found_by(run, federation) for _ in range(8)]
    assert answers[-5:] == ["quick"] * 5


def test_questions_at_the_same_time_are_divided(run):
    a, b = Member("a", "stars", seconds=0.05), Member("b", "stars", seconds=0.05)
    federation = one(a, b)
    run(federation.catalogs(Deadline(10)))

    def many():
        outcomes = yield Gather([federation.find(finding(), Deadline(10)) for _ in range(6)], limit=6)
        for outcome in outcomes:
            outcome.result()

    run(many())
    assert a.asked.count("find") == b.asked.count("find") == 3


@pytest.mark.parametrize("error", [GONE, ServerError("broken", status=500), DeadlineError("slow")], ids=str)
@pytest.mark.parametrize(
    "question",
    [
        lambda f: f.find(finding(), Deadline(10)),
        lambda f: f.count("stars", {}, Deadline(10)),
        lambda f: f.estimated_count("stars", Deadline(10)),
        lambda f: f.aggregate("stars", [], Deadline(10)),
        lambda f: f.distinct("stars", "name", {}, Deadline(10)),
        lambda f: f.cone_chunk(cones(3), Deadline(10)),
        lambda f: f.cones(cones(300), Deadline(10)),
    ],
)
def test_the_next_one_is_asked_when_one_fails(run, question, error):
    ill, well = Member("ill", "stars"), Member("well", "stars")
    federation = one(ill, well)
    run(federation.catalogs(Deadline(10)))
    ill.error = error
    assert run(question(federation)) is not None
    asked = len(ill.asked)
    assert run(question(federation)) is not None
    assert len(ill.asked) <= asked + 4, "who has just failed is asked first again"


def test_who_failed_is_asked_last_for_a_while_and_then_again(run, monkeypatch):
    monkeypatch.setattr("nuncius.archives.federation._ILL_S", 0.2)
    ill, well = Member("ill", "stars"), Member("well", "stars", seconds=0.02)
    federation = one(ill, well)
    run(federation.catalogs(Deadline(10)))
    ill.error = GONE
    assert found_by(run, federation) == "well"
    ill.error = None
    assert found_by(run, federation) == "well"
    time.sleep(0.25)
    assert found_by(run, federation) == "ill"


def test_who_is_ill_is_asked_when_nobody_else_can(run):
    ill, well = Member("ill", "stars"), Member("well", "galaxies")
    federation = one(ill, well)
    run(federation.catalogs(Deadline(10)))
    ill.error = GONE
    with pytest.raises(UnreachableError):
        found_by(run, federation)
    ill.error = None
    assert found_by(run, federation) == "ill"


def test_a_member_that_is_down_at_the_start_comes_in_when_it_is_up(run, monkeypatch):
    monkeypatch.setattr("nuncius.archives.federation._ILL_S", 0.05)
    late, well = Member("late", "stars", "galaxies", error=GONE), Member("well", "stars")
    federation = one(late, well)
    assert run(federation.catalogs(Deadline(10))) == ["stars"]
    assert found_by(run, federation) == "well"
    late.error = None
    assert found_by(run, federation, "galaxies") == "late"


def test_when_nobody_answers_each_reason_is_named(run):
    federation = one(Member("a", "stars"), Member("b", "stars"))
    run(federation.catalogs(Deadline(10)))
    federation.members[0].backend.error = UnreachableError("a is gone")
    federation.members[1].backend.error = ServerError("b is broken")
    with pytest.raises(UnreachableError, match=r"a is gone.*b is broken"):
        found_by(run, federation)
    with pytest.raises(UnreachableError, match=r"a is gone.*b is broken"):
        run(federation.catalogs(Deadline(10), refresh=True))


@pytest.mark.parametrize("error", [LoginError("who are you?"), FilterError("odd")])
def test_what_another_archive_cannot_make_good_is_loud(run, error):
    bad, well = Member("bad", "stars"), Member("well", "stars", seconds=0.01)
    federation = one(bad, well)
    run(federation.catalogs(Deadline(10)))
    bad.error = error
    with pytest.raises(type(error), match=str(error)):
        found_by(run, federation)
    with pytest.raises(type(error), match=str(error)):
        run(federation.cones(cones(2000), Deadline(10)))
    if isinstance(error, LoginError):
        for _ in range(2):
            with pytest.raises(LoginError):
                run(one(Member("well", "stars"), bad).catalogs(Deadline(10)))


def test_a_question_that_was_interrupted_does_not_count_as_running():
    a, b = Member("a", "stars"), Member("b", "stars")
    federation = one(a, b)
    http_support.run_sync(federation.catalogs(Deadline(10)))
    operation = federation.find(finding(), Deadline(10))
    next(operation)
    operation.close()
    assert [member.asked for member in federation.members] == [0, 0]


def test_info_names_who_does_not_answer(run):
    federation = one(Member("a", "stars"), Member("b", "galaxies"))
    run(federation.catalogs(Deadline(10)))
    federation.members[1].backend.error = GONE
    info = run(federation.info(Deadline(10)))
    assert info["catalogs"]["stars"] == {"archives": ["a"]}
    assert info["archives"]["b"] == {"error": "gone"}


# Positions ------------------------------------------------------------------------------------------------------------


def test_positions_are_divided_and_a_dead_member_leaves_nothing_out(run):
    a, b, c = (Member(name, "stars", seconds=0.003) for name in "abc")
    federation = one(a, b, c)
    run(federation.catalogs(Deadline(10)))
    hits = run(federation.cones(cones(5000), Deadline(20)))
    assert [document["input_index"] for document in hits.documents] == list(range(5000))
    assert {document["_id"] for document in hits.documents} == {"a", "b", "c"}
    b.error = GONE
    hits = run(federation.cones(cones(5000), Deadline(20)))
    assert [document["input_index"] for document in hits.documents] == list(range(5000))
    assert {document["_id"] for document in hits.documents} == {"a", "c"}
    assert hits.failures == []


# Opening --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({}, "at least one"),
        ({"a": {"token": "x"}}, "has no 'url'"),
        ({"a": {"url": "night.db", "tokn": "secret-thing"}}, "'tokn'"),
    ],
)
def test_members_that_mean_nothing(members, text):
    with pytest.raises(ConfigurationError, match=text) as caught:
        nuncius.open_archive(members)
    assert "secret-thing" not in str(caught.value)


def test_a_federation_shows_no_secret_and_closes_its_members(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path))
    with Loopback(lambda _: json_reply({"status": "success", "data": ["stars"]})) as server:
        members = {
            "far": {"url": f"kowalski+{server.url}", "token": "hunter2-and-more"},
            "here": {"url": str(tmp_path / "night.db")},
        }
        with pytest.raises(nuncius.errors.NotFoundError, match="'here': there is no file"):
            nuncius.open_archive(members)  # it makes none: a slip of the pen would look like an empty archive
        nuncius.open_archive(tmp_path / "night.db").close()
        with nuncius.open_archive(members) as archive:
            assert "stars" in archive.catalogs()
            import pickle

            shown = repr(archive) + archive.url + str(archive.info()) + repr(pickle.dumps(archive))
    assert "hunter2" not in shown
