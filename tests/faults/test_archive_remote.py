"""Remote archives when things break: a retried success or a typed error, never a short answer."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

import nuncius
from nuncius import aio
from nuncius.errors import (
    DeadlineError,
    ForbiddenError,
    NunciusError,
    PartialResultError,
    ServerError,
    UnreachableError,
)
from nuncius.sandbox import SandboxKowalski

ALERTS = "ZTF_alerts"
COUNT = 50


@pytest.fixture(scope="module")
def running():
    with SandboxKowalski(alerts=COUNT) as server:
        yield server


@pytest.fixture
def server(running, tmp_path, monkeypatch):
    """Give the server without faults and without old requests."""
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    running.clear_faults()
    running.requests.clear()
    yield running
    running.clear_faults()


@pytest.fixture(params=["sync", "async"])
def ask(request, server):
    """Ask the server one question, in either colour, with its catalogs known already."""

    def sync(question):
        with nuncius.open_archive(server.url, token=server.token) as archive:
            archive.catalogs()
            server.requests.clear()
            return question(archive)

    def awaited(question):
        async def whole():
            async with aio.open_archive(server.url, token=server.token) as archive:
                await archive.catalogs()
                server.requests.clear()
                answer = question(archive)
                return await answer if inspect.isawaitable(answer) else answer

        return asyncio.run(whole())

    return sync if request.param == "sync" else awaited


@pytest.fixture(scope="module")
def places(running):
    with nuncius.open_archive(running.url, token=running.token) as archive:
        found = archive.find(ALERTS, projection=["candidate.ra", "candidate.dec"]).docs
    return [(d["candidate"]["ra"], d["candidate"]["dec"]) for d in found]


def queries(server):
    return [request for request in server.requests if request.path == "/api/queries"]


def test_a_busy_server_is_asked_again_and_all_is_there(ask, server):
    def question(archive):
        server.fail(status=503, times=2, retry_after=0)
        return archive.find(ALERTS, projection=["candid"])

    assert len(ask(question)) == COUNT
    assert len(queries(server)) == 3


def test_a_server_that_stays_busy_is_an_error_within_the_time(ask, server):
    def question(archive):
        server.fail(status=503, times=99, retry_after=1)
        return archive.find(ALERTS, timeout_s=2.5)

    begin = time.monotonic()
    with pytest.raises(ServerError, match="503") as caught:
        ask(question)
    assert caught.value.status == 503
    assert time.monotonic() - begin < 4


def test_a_slow_answer_is_an_error_and_not_asked_for_twice(ask, server):
    def question(archive):
        server.delay(3.0, times=9)
        return archive.find(ALERTS, timeout_s=0.5)

    begin = time.monotonic()
    with pytest.raises(DeadlineError):
        ask(question)
    assert time.monotonic() - begin < 2
    assert len(queries(server)) == 1


def test_a_cut_body_is_asked_for_again(ask, server):
    def question(archive):
        server.cut_body(times=2)
        return archive.find(ALERTS, projection=["candid"])

    assert len(ask(question)) == COUNT
    assert len(queries(server)) == 3


def test_bodies_that_are_always_cut_are_an_error_and_no_part_of_an_answer(ask, server):
    def question(archive):
        server.cut_body(times=99)
        return archive.find(ALERTS, timeout_s=20)

    with pytest.raises(UnreachableError) as caught:
        ask(question)
    assert caught.value.attempts == len(queries(server)) == 4


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html><title>Sign in to the observatory's network</title></html>", "text/html"),
        (b'{"status": "success", "data": [', "application/json"),
        (b"", "application/json"),
        (b"\x00\xff" * 99, "application/octet-stream"),
        (b'{"status": "success", "data": {"a": 1}}', "application/json"),
        (b'{"status": "error", "message": "no"}', "application/json"),
    ],
)
def test_what_is_no_answer_is_an_error(ask, server, body, content_type):
    def question(archive):
        server.answer(body=body, content_type=content_type)
        return archive.find(ALERTS)

    with pytest.raises(ServerError):
        ask(question)
    assert len(queries(server)) == 1


def test_a_dropped_catalog_is_never_asked_for_twice(ask, server):
    def question(archive):
        server.cut_body(times=9)
        return archive.drop("Gaia_EDR3", allow_write=True)

    with pytest.raises((UnreachableError, ForbiddenError)):
        ask(question)
    assert len([request for request in server.requests if request.query_type == "drop"]) == 1


@pytest.mark.parametrize(
    "fault",
    [
        lambda server: server.fail(status=503, times=3, retry_after=0),
        lambda server: server.cut_body(times=3),
        lambda server: server.fail(status=413, times=3),
        lambda server: server.expire_tokens(),
    ],
)
def test_a_batch_is_complete_in_spite_of(server, places, fault):
    many = {f"p.{number}": places[number % COUNT] for number in range(1500)}
    with nuncius.open_archive(server.url, credentials=(server.username, server.password)) as archive:
        archive.catalogs()
        fault(server)
        found = archive.cone_search(ALERTS, many, "1 arcsec", limit=1, progress=False)
    groups = found.by_position()
    assert list(groups) == list(many)
    assert {len(group) for group in groups.values()} == {1}


def test_a_batch_on_a_server_that_dies_names_what_is_missing(places):
    many = [places[number % COUNT] for number in range(3000)]
    with (
        SandboxKowalski(alerts=COUNT, delay_per_position_s=0.001) as dying,
        nuncius.open_archive(dying.url, token=dying.token) as archive,
    ):
        done = []

        def search():
            return archive.cone_search(
                ALERTS, many, "1 arcsec", limit=1, projection=["candid"], progress=False
            )

        def kill():
            while sum(request.status == 200 and request.positions for request in dying.requests) < 400:
                time.sleep(0.002)
            dying.kill()
            done.append(True)

        threading.Thread(target=kill, daemon=True).start()
        with pytest.raises(PartialResultError) as caught:
            search()
        assert done
        result = caught.value.result
    missing = {index for failure in result.failures for index in failure.indexes}
    assert not result.complete
    assert 0 < len(missing) < 3000
    answered = [document["input_index"] for document in result]
    assert answered == sorted(set(range(3000)) - missing)


def test_the_time_for_a_batch_is_kept_and_what_came_is_there(server, places):
    many = [places[number % COUNT] for number in range(4000)]
    begin = time.monotonic()
    with SandboxKowalski(alerts=COUNT, delay_per_position_s=0.002) as slow:
        start = time.monotonic() - begin
        with (
            nuncius.open_archive(slow.url, token=slow.token) as archive,
            pytest.raises((PartialResultError, DeadlineError)) as caught,
        ):
            archive.cone_search(ALERTS, many, "1 arcsec", limit=1, timeout_s=1.0, progress=False)
        assert time.monotonic() - begin - start < 3
    if isinstance(caught.value, PartialResultError):
        missing = {index for failure in caught.value.result.failures for index in failure.indexes}
        assert len(missing) + len(caught.value.result) == 4000


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_ctrl_c_ends_a_batch_at_once(places, colour, tmp_path):
    program = """
import asyncio, sys, time, nuncius
from nuncius import aio
url, token, colour = sys.argv[1:]
many = [(10.0, 10.0)] * 20000
def sync():
    with nuncius.open_archive(url, token=token) as archive:
        print("begun", flush=True)
        archive.cone_search("ZTF_alerts", many, "1 arcsec", progress=False)
async def awaited():
    async with aio.open_archive(url, token=token) as archive:
        print("begun", flush=True)
        await archive.cone_search("ZTF_alerts", many, "1 arcsec", progress=False)
try:
    sync() if colour == "sync" else asyncio.run(awaited())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with SandboxKowalski(alerts=COUNT, delay_s=6.0) as slow:
        child = subprocess.Popen(
            [sys.executable, "-c", program, slow.url, slow.token, colour], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "begun\n"
        while not any(request.positions for request in slow.requests):
            time.sleep(0.01)
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n"
        assert child.wait(10) == 0
        assert time.monotonic() - begin < 4  # no wait for what was asked; the machine may be busy
        child.stdout.close()
        count = len(slow.requests)
        time.sleep(0.3)
        assert len(slow.requests) == count, "it went on after Ctrl-C"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_has_connections_of_its_own(server):
    with nuncius.open_archive(server.url, credentials=(server.username, server.password)) as archive:
        assert archive.count(ALERTS) == COUNT
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if all(archive.count(ALERTS) == COUNT for _ in range(3)) else 1)
            except BaseException:
                os._exit(2)
        assert [archive.count(ALERTS) for _ in range(5)] == [COUNT] * 5
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def test_nothing_but_typed_errors_under_random_faults(server, places):
    """Whatever breaks in whatever order: the answer is whole, or the error is ours."""
    dice = random.Random(7)
    faults = [
        lambda: server.fail(status=dice.choice([429, 500, 502, 503, 504]), retry_after=0),
        server.cut_body,
        lambda: server.answer(body=b"<html>", content_type="text/html"),
        lambda: server.answer(body=b"{"),
        lambda: server.fail(status=413),
        server.expire_tokens,
        lambda: None,
    ]
    whole = broken = 0
    with nuncius.open_archive(server.url, credentials=(server.username, server.password)) as archive:
        archive.catalogs()
        for _ in range(60):
            server.clear_faults()
            for _ in range(dice.randrange(3)):
                dice.choice(faults)()
            try:
                if dice.random() < 0.5:
                    assert len(archive.find(ALERTS, projection=["candid"], timeout_s=10)) == COUNT
                else:
                    found = archive.cone_search(ALERTS, places, "1 arcsec", limit=1, timeout_s=10)
                    assert [document["input_index"] for document in found] == list(range(COUNT))
                whole += 1
            except NunciusError:
                broken += 1
    assert whole > 20
    assert broken > 3
