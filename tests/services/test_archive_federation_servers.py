"""Several servers on loopback as one archive: who does how much, and what happens when one of them dies."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import nuncius
from nuncius import aio
from nuncius.errors import LoginError, NotFoundError, UnreachableError
from nuncius.sandbox import SandboxKowalski
from nuncius.sandbox.kowalski import REFERENCE_CATALOG, fill_archive

ALERTS = "ZTF_alerts"


@pytest.fixture(autouse=True)
def no_logins(tmp_path, monkeypatch):
    """Let no login of this machine be found."""
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    path = tmp_path_factory.mktemp("night") / "night.db"
    fill_archive(path, alerts=60)
    return path


@pytest.fixture(scope="module")
def places(night):
    with nuncius.open_archive(night, read_only=True) as archive:
        found = archive.find(ALERTS, projection=["candidate.ra", "candidate.dec"], sort="candid")
        return [(d["candidate"]["ra"], d["candidate"]["dec"]) for d in found]


def members(*servers):
    return {server.name: {"url": server.url, "token": server.token} for server in servers}


def search(archive, places, count, **options):
    many = {f"p.{number}": places[number % len(places)] for number in range(count)}
    return many, archive.cone_search(
        ALERTS, many, "1 arcsec", limit=1, projection=["candid"], progress=False, **options
    )


def check(many, found):
    """Check that each position has its one document, under its own name and in order."""
    groups = found.by_position()
    assert list(groups) == list(many)
    assert {len(group) for group in groups.values()} == {1}
    assert found.complete


def asked(server):
    return sum(
        request.positions for request in server.requests if request.query_type in {"near", "cone_search"}
    )


@pytest.mark.parametrize("slow_first", [True, False])
@pytest.mark.parametrize("count", [1000, 4000])
def test_a_server_ten_times_slower_gets_at_most_a_fifth(night, places, slow_first, count):
    with (
        SandboxKowalski(name="slow", archive=night, delay_per_position_s=0.02) as slow,
        SandboxKowalski(name="quick", archive=night, delay_per_position_s=0.002) as quick,
    ):
        order = (slow, quick) if slow_first else (quick, slow)
        with nuncius.open_archive(members(*order)) as archive:
            check(*search(archive, places, count))
        assert asked(slow) + asked(quick) == count
        # A fifth on a machine that has nothing else to do; a busy one slows the fast server too.
        assert asked(slow) <= count / 4, f"{asked(slow) / count:.0%}"


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_server_killed_in_mid_batch_leaves_the_result_complete(night, places, colour):
    count = 4000
    with (
        SandboxKowalski(name="one", archive=night, delay_per_position_s=0.0005) as one,
        SandboxKowalski(name="two", archive=night, delay_per_position_s=0.0005) as two,
    ):

        def kill():
            while asked(one) < 300:
                time.sleep(0.002)
            one.kill()

        threading.Thread(target=kill, daemon=True).start()
        if colour == "sync":
            with nuncius.open_archive(members(one, two)) as archive:
                check(*search(archive, places, count))
                assert archive.count(ALERTS) == 60
        else:

            async def whole():
                async with aio.open_archive(members(one, two)) as archive:
                    many, found = search(archive, places, count)
                    check(many, await found)
                    assert await archive.count(ALERTS) == 60

            asyncio.run(whole())
        assert 300 <= asked(one) < count


def test_catalogs_are_divided_and_the_file_helps(night, places):
    with (
        SandboxKowalski(name="alerts", archive=night, catalogs=[ALERTS, f"{ALERTS}_aux"]) as alerts,
        SandboxKowalski(name="stars", archive=night, catalogs=[REFERENCE_CATALOG]) as stars,
    ):
        with nuncius.open_archive(members(alerts, stars)) as archive:
            assert archive.catalogs() == sorted([ALERTS, f"{ALERTS}_aux", REFERENCE_CATALOG])
            assert archive.count(ALERTS) == 60
            expected = archive.count(REFERENCE_CATALOG)
            assert expected > 0
            matched = archive.crossmatch(ALERTS, REFERENCE_CATALOG, "2 arcsec", limit=1).docs
            with pytest.raises(NotFoundError, match="did you mean"):
                archive.count("ZTF_alert")
        assert {r.query_type for r in stars.requests} & {"count_documents", "near"} == {
            "count_documents",
            "near",
        }
    with nuncius.open_archive(night, read_only=True) as archive:
        assert archive.count(REFERENCE_CATALOG) == expected
        here = archive.crossmatch(ALERTS, REFERENCE_CATALOG, "2 arcsec", limit=1).docs
    assert sorted(d["candid"] for d in matched) == sorted(d["candid"] for d in here)


def test_a_server_that_is_down_at_the_start(night, places):
    with SandboxKowalski(name="gone", archive=night) as gone:
        down = members(gone)
    with (
        SandboxKowalski(name="up", archive=night) as up,
        nuncius.open_archive({**down, **members(up)}) as archive,
    ):
        assert archive.count(ALERTS) == 60
        check(*search(archive, places, 300))
        with pytest.raises(UnreachableError, match="gone"):
            archive.count("only_there")


def test_a_login_that_one_server_refuses_is_loud(night):
    with (
        SandboxKowalski(name="one", archive=night) as one,
        SandboxKowalski(name="two", archive=night) as two,
    ):
        wrong = {**members(one), "two": {"url": two.url, "credentials": (two.username, "hunter2")}}
        with nuncius.open_archive(wrong) as archive:
            for _ in range(2):
                with pytest.raises(LoginError, match="astronomer") as caught:
                    archive.count(ALERTS)
            assert "hunter2" not in str(caught.value)
