"""A whole Kowalski server on loopback, asked in both colours."""

from __future__ import annotations

import asyncio
import inspect
import logging
import pickle
import threading
import traceback

import pytest

import nuncius
from nuncius import aio
from nuncius.errors import (
    FilterError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    UnreachableError,
)
from nuncius.sandbox import SandboxKowalski
from nuncius.sandbox.kowalski import REFERENCE_CATALOG

ALERTS = "ZTF_alerts"


@pytest.fixture(scope="module")
def server():
    with SandboxKowalski(alerts=80) as running:
        yield running


@pytest.fixture(autouse=True)
def calm(server, tmp_path, monkeypatch):
    """Start each test without faults, without old requests, and without a login of this machine."""
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for what in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"NUNCIUS_KOWALSKI_{what}", raising=False)
    server.clear_faults()
    server.requests.clear()


@pytest.fixture(params=["sync", "async"])
def ask(request, server):
    """Ask the server one question, in either colour."""

    def sync(question, **options):
        with nuncius.open_archive(server.url, **options) as archive:
            return question(archive)

    def awaited(question, **options):
        async def whole():
            async with aio.open_archive(server.url, **options) as archive:
                answer = question(archive)
                return await answer if inspect.isawaitable(answer) else answer

        return asyncio.run(whole())

    return sync if request.param == "sync" else awaited


@pytest.fixture
def login(server):
    return {"credentials": (server.username, server.password)}


@pytest.fixture(scope="module")
def everything(server):
    with nuncius.open_archive(server.url, token=server.token) as archive:
        return archive.find(ALERTS, projection=["candid", "candidate.ra", "candidate.dec"]).docs


def test_a_login_a_token_and_the_environment(ask, server, login, monkeypatch):
    def count(archive):
        return archive.count(ALERTS)

    assert ask(count, **login) == 80
    assert ask(count, token=server.token) == 80
    assert [request.path for request in server.requests].count("/api/auth") == 1
    monkeypatch.setenv("NUNCIUS_KOWALSKI_USERNAME", server.username)
    monkeypatch.setenv("NUNCIUS_KOWALSKI_PASSWORD", server.password)
    assert ask(count) == 80


def test_it_answers_and_says_who_it_is(ask, login):
    assert ask(lambda archive: archive.ping(), **login) is True
    names = ask(lambda archive: archive.catalogs(), **login)
    assert {ALERTS, f"{ALERTS}_aux", REFERENCE_CATALOG} <= set(names)


def test_a_wrong_password_and_a_forged_token(ask, server):
    wrong = server.password[::-1]
    with pytest.raises(LoginError, match="refuses the login of 'astronomer'") as caught:
        ask(lambda archive: archive.count(ALERTS), credentials=(server.username, wrong))
    assert wrong not in "".join(traceback.format_exception(caught.value))
    head, payload, _ = server.token.split(".")
    for token in (f"{head}.{payload}.AAAA", "nonsense", server.token[:-2]):
        with pytest.raises(LoginError) as caught:
            ask(lambda archive: archive.count(ALERTS), token=token)
        assert token not in "".join(traceback.format_exception(caught.value))


def test_a_token_that_expires_is_renewed_and_nothing_is_lost(server, login, everything):
    places = [(d["candidate"]["ra"], d["candidate"]["dec"]) for d in everything] * 8
    with nuncius.open_archive(server.url, **login) as archive:
        archive.catalogs()
        server.requests.clear()
        threading.Timer(0.05, server.expire_tokens).start()
        found = archive.cone_search(ALERTS, places, "1 arcsec", limit=1, progress=False)
        assert [document["input_index"] for document in found] == list(range(len(places)))
        server.expire_tokens()
        assert archive.count(ALERTS) == 80
    assert 1 <= [request.path for request in server.requests].count("/api/auth") <= 2


def test_ids_keep_their_digits_and_come_back_by_them(ask, login, everything):
    candid = everything[7]["candid"]
    assert candid > 2**53
    found = ask(lambda archive: archive.find(ALERTS, {"candid": candid}), **login)
    assert [document["candid"] for document in found] == [candid]
    again = ask(lambda archive: archive.find(ALERTS, {"_id": found[0]["_id"]}), **login)
    assert [document["candid"] for document in again] == [candid]


def test_names_with_dots_survive(ask, login, everything):
    places = {
        f"obj.{number}.{d['candid']}": (d["candidate"]["ra"], d["candidate"]["dec"])
        for number, d in enumerate(everything)
    }
    for limit in (None, 1):
        found = ask(lambda archive: archive.cone_search(ALERTS, places, "1 arcsec", limit=limit), **login)  # noqa: B023
        groups = found.by_position()
        assert list(groups) == list(places)
        for number, name in enumerate(places):
            assert everything[number]["candid"] in {document["candid"] for document in groups[name]}


@pytest.mark.parametrize(
    "catalog", ["ZTF_alert", "users", " ZTF_alerts", "ztf_alerts", "ZTF_alerts.x", "$cmd"]
)
def test_a_catalog_that_is_not_there(ask, login, catalog):
    with pytest.raises(NotFoundError):
        ask(lambda archive: archive.find(catalog), **login)


def test_a_limit_of_nothing(ask, login):
    assert ask(lambda archive: archive.find(ALERTS, limit=0), **login).docs == []


def test_what_is_wrong_is_typed(ask, login):
    with pytest.raises(FilterError):
        ask(lambda archive: archive.find(ALERTS, {"candidate.drb": {"$gtt": 1}}), **login)
    with pytest.raises(ForbiddenError):
        ask(lambda archive: archive.aggregate(ALERTS, [{"$out": "x"}]), **login)
    with pytest.raises(ForbiddenError):
        ask(lambda archive: archive.drop(ALERTS, allow_write=True), **login)
    assert ask(lambda archive: archive.count(ALERTS), **login) == 80


def test_cutouts_are_whole_files(ask, login, everything):
    candid = everything[0]["candid"]
    image = ask(lambda archive: archive.cutout(candid, "science"), **login)
    assert image.startswith(b"SIMPLE  =")
    assert len(image) % 2880 == 0
    three = ask(lambda archive: archive.cutouts(candid), **login)
    assert three.difference is not None
    with pytest.raises(NotFoundError):
        ask(lambda archive: archive.cutout(1, "science"), **login)


def test_threads_share_one_archive(server, login):
    answers, lock = [], threading.Lock()
    with nuncius.open_archive(server.url, **login) as archive:

        def work():
            count = archive.count(ALERTS)
            with lock:
                answers.append(count)

        threads = [threading.Thread(target=work) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert answers == [80] * 12
    assert [request.path for request in server.requests].count("/api/auth") == 1


def test_tasks_share_one_archive_and_one_may_be_cancelled(server, login):
    async def whole():
        async with aio.open_archive(server.url, **login) as archive:
            server.delay(0.3, path="/api/auth")
            first = asyncio.create_task(archive.count(ALERTS))
            await asyncio.sleep(0.1)
            others = [asyncio.create_task(archive.count(ALERTS)) for _ in range(5)]
            await asyncio.sleep(0.05)
            first.cancel()  # it was logging in for all of them
            return await asyncio.gather(*others)

    assert asyncio.run(whole()) == [80] * 5


def test_it_pickles_without_a_secret(server, monkeypatch, login):
    with nuncius.open_archive(server.url, **login) as archive:
        archive.catalogs()
        packed = pickle.dumps(archive)
    assert server.password.encode() not in packed
    monkeypatch.setenv("NUNCIUS_KOWALSKI_TOKEN", server.token)
    with pickle.loads(packed) as again:
        assert again.count(ALERTS) == 80


def test_nothing_that_is_logged_or_raised_shows_a_secret(server, login, caplog):
    caplog.set_level(logging.DEBUG)
    with nuncius.open_archive(server.url, **login) as archive:
        archive.catalogs()
        token = archive.token
        shown = [repr(archive), str(archive.info())]
        for what in ("cut_body", "fail"):
            getattr(server, what)(times=9, **({"status": 500} if what == "fail" else {}))
            with pytest.raises(nuncius.NunciusError) as caught:
                archive.count(ALERTS)
            shown += traceback.format_exception(caught.value)
            server.clear_faults()
    text = "".join(shown) + caplog.text
    assert server.password not in text
    assert (token() if callable(token) else token) not in text


def test_a_closed_server_is_nobody(tmp_path):
    with SandboxKowalski(alerts=3) as gone:
        url, token = gone.url, gone.token
    with nuncius.open_archive(url, token=token, timeout_s=3) as archive, pytest.raises(UnreachableError):
        archive.count(ALERTS)
