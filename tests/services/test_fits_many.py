"""The headers of many files, from an object store on loopback."""

from __future__ import annotations

import asyncio
import gc
import itertools
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from nuncius.cloudfits import FileDescription, open_fits, read_headers
from nuncius.cloudfits.many import FailedFile, read_async_headers
from nuncius.errors import ConfigurationError, FitsError, NotFoundError, ServerError
from nuncius.sandbox.fits_files.many import many_hdus, night, night_file
from nuncius.sandbox.store import SandboxStore

pytestmark = pytest.mark.xdist_group("fits-many")

COUNT = 60


@pytest.fixture(scope="module")
def _store():
    with SandboxStore() as store:
        for name, file in night(COUNT).items():
            store.put(f"night/{name}", file)
        yield store


@pytest.fixture
def store(_store):
    _store.reset()
    return _store


@pytest.fixture
def urls(store):
    return [store.http_url(f"night/exposure-{number:07d}.fits") for number in range(COUNT)]


def exposures(files):
    return [file[0].get("EXPOSURE") for file in files]


EXPOSURES = [f"EXP{number:07d}" for number in range(COUNT)]


# What is given -----------------------------------------------------------------------------------------------------------


def test_each_file_is_given_as_open_fits_reads_it(urls):
    found = {file.url: file for file in read_headers(urls)}
    assert set(found) == set(urls)
    assert sorted(exposures(found.values())) == EXPOSURES
    for url in urls[::20]:
        with open_fits(url) as fits:
            mine = found[url]
            assert isinstance(mine, FileDescription)
            assert [hdu.raw for hdu in mine] == [hdu.raw for hdu in fits]
            assert (mine.size, mine.etag, mine.modified) == (fits.size, fits.etag, fits.modified)


def test_they_come_as_they_are_read_or_in_the_order_asked(store, urls):
    store.latency_s = 0.01
    store.bandwidth = 20_000_000
    assert exposures(read_headers(urls, ordered=True)) == EXPOSURES
    assert exposures(read_headers(urls[::-1], ordered=True, max_files=7)) == EXPOSURES[::-1]
    store.put("slow/first.fits", many_hdus("random", count=4, nextend=False))
    mixed = [store.http_url("slow/first.fits"), *urls[:10]]
    store.latency_s = 0.1
    assert [file.url for file in read_headers(mixed)][-1] == mixed[0]


def test_only_some_headers_are_read_when_asked(urls):
    assert [len(file) for file in read_headers(urls[:3], hdus=1)] == [1, 1, 1]
    assert [file[-1].name for file in read_headers(urls[:3], hdus="CCD1")] == ["CCD1"] * 3


def test_urls_come_from_anything_that_gives_them(store, urls, tmp_path):
    assert len(list(read_headers(url for url in urls))) == COUNT
    assert list(read_headers([])) == []
    (tmp_path / "files.txt").write_text("# a night\n" + "\n".join(urls[:3]) + "\n\n")
    assert exposures(read_headers(f"@{tmp_path / 'files.txt'}", ordered=True)) == EXPOSURES[:3]
    for number in range(3):
        file = night_file(number)
        (tmp_path / f"x{number}.fits").write_bytes(file.read(0, file.size))
    (tmp_path / "notes.md").write_text("no FITS")
    assert sorted(exposures(read_headers(f"{tmp_path}/"))) == EXPOSURES[:3]
    assert sorted(exposures(read_headers(f"{tmp_path}/x[12].fits"))) == EXPOSURES[1:3]
    assert exposures(read_headers(tmp_path / "x2.fits")) == EXPOSURES[2:3]
    assert exposures(read_headers(urls[0])) == EXPOSURES[:1]
    with pytest.raises(NotFoundError, match="no file of URLs"):
        read_headers(f"@{tmp_path / 'none.txt'}")
    with pytest.raises(ConfigurationError, match="not int"):
        read_headers(3)


def test_a_folder_of_a_store_is_listed_page_by_page(store):
    store.page_size = 7
    keys = {"endpoint": store.s3_endpoint, "credentials": (store.access_key, store.secret_key)}
    found = list(read_headers("s3://sky/night/", **keys))
    assert sorted(exposures(found)) == EXPOSURES
    some = read_headers("s3://sky/night/exposure-*1.fits", ordered=True, **keys)
    assert exposures(some) == EXPOSURES[1::10]


# Failures ----------------------------------------------------------------------------------------------------------------


def test_a_file_that_fails_is_raised_or_given_in_its_place(store, urls):
    store.put("bad/page.fits", b"<html>log in</html>" * 400)
    mixed = [urls[0], store.http_url("bad/page.fits"), urls[1], store.http_url("bad/none.fits") + "?secret=x"]
    found = list(read_headers(mixed, ordered=True, on_error="yield"))
    assert exposures([found[0], found[2]]) == EXPOSURES[:2]
    assert isinstance(found[1], FailedFile)
    assert isinstance(found[1].error, FitsError)
    assert found[1].url == mixed[1]
    assert isinstance(found[3].error, NotFoundError)
    assert "secret" not in f"{found[3]!r} {found[3].error}"
    with pytest.raises(FitsError, match="page of HTML"):
        list(read_headers(mixed[:3]))
    given = read_headers(mixed[:3], ordered=True)
    assert next(given)[0].get("EXPOSURE") == EXPOSURES[0]
    with pytest.raises(FitsError):
        next(given)
    assert list(given) == []


def test_an_address_that_is_none_fails_alone(urls):
    found = list(read_headers(["s3://", urls[0], None], ordered=True, on_error="yield"))
    assert [type(file) for file in found] == [FailedFile, FileDescription, FailedFile]
    assert found[0].url == "s3://"


def test_options_that_can_not_work_are_refused_at_once(urls):
    for options in (
        {"on_error": "skip"},
        {"max_files": 0},
        {"hdus": 0},
        {"overread_bytes": True},
        {"retries": -1},
    ):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            read_headers(urls, **options)


def test_faults_of_the_store_pass(store, urls):
    store.failure_rate = 0.3
    store.cut_rate = 0.2
    store.seed = 5
    assert sorted(exposures(read_headers(urls))) == EXPOSURES


def test_a_store_that_always_fails_is_said(store, urls):
    store.failure_rate = 1
    found = list(read_headers(urls[:4], retries=0, on_error="yield"))
    assert [type(file.error) for file in found] == [ServerError] * 4


def test_an_error_of_the_source_of_urls_is_not_swallowed(urls):
    def broken():
        yield from urls[:5]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(read_headers(broken()))


# What it costs -----------------------------------------------------------------------------------------------------------


def test_files_that_look_alike_share_their_layout(store):
    names = [store.http_url(f"mosaic/{number}.fits") for number in range(12)]
    for number in range(12):
        file = many_hdus("random", count=20, nextend=False, seed=3)
        store.put(f"mosaic/{number}.fits", file)
    store.reset()
    one = next(read_headers(names[:1]))
    alone = store.stats.requests
    store.reset()
    store.latency_s = 0.05
    started = time.monotonic()
    found = list(read_headers(names, max_files=1, ordered=True))
    took = time.monotonic() - started
    assert all([hdu.raw for hdu in file] == [hdu.raw for hdu in one] for file in found)
    # The first is followed header by header; each of the others takes two round trips.
    assert took < 0.05 * (alone + 2 * 11) * 3  # one after the other they would take twice that at the least
    assert store.stats.requests <= alone * 12


def test_a_layout_that_only_seems_to_fit_changes_nothing(store):
    files = [night_file(0), night_file(1, swapped=True), night_file(2), night_file(3, swapped=True)]
    assert len({file.size for file in files}) == 1
    for number, file in enumerate(files):
        store.put(f"swapped/{number}.fits", file)
    names = [store.http_url(f"swapped/{number}.fits") for number in range(4)]
    together = list(read_headers(names, max_files=1, ordered=True))
    for name, file in zip(names, together, strict=True):
        alone = next(read_headers([name]))
        assert [(hdu.header_offset, hdu.raw) for hdu in file] == [
            (hdu.header_offset, hdu.raw) for hdu in alone
        ]
    assert together[0][1].shape != together[1][1].shape


def test_no_more_files_are_in_flight_than_asked(store, urls):
    store.latency_s = 0.02
    list(read_headers(urls, max_files=5))
    assert store.stats.max_in_flight <= 5
    assert store.stats.requests == 2 * COUNT


def test_of_a_million_urls_only_some_are_taken(store, urls):
    taken = 0

    def endless():
        nonlocal taken
        for url in itertools.islice(itertools.cycle(urls), 1_000_000):
            taken += 1
            yield url

    before = threading.active_count()
    files = read_headers(endless(), max_files=10)
    assert len(list(itertools.islice(files, 100))) == 100
    assert taken <= 100 + 20
    files.close()
    assert threading.active_count() <= before + 2
    time.sleep(0.2)  # what was sent already arrives
    asked = store.stats.requests
    time.sleep(0.2)
    assert store.stats.requests == asked


def test_a_slow_source_of_urls_does_not_hold_results_back(urls):
    def slow():
        for url in urls[:4]:
            yield url
            time.sleep(1)

    started = time.monotonic()
    next(read_headers(slow()))
    assert time.monotonic() - started < 3.5  # of 4, in which all of them come


# Ends --------------------------------------------------------------------------------------------------------------------


def run(script, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_ctrl_c_ends_at_once(store, urls):
    store.latency_s = 30
    process = run(
        """
        import sys, time
        from nuncius.cloudfits import read_headers
        print("go", flush=True)
        try:
            list(read_headers(sys.argv[1:]))
        except KeyboardInterrupt:
            print("interrupted", time.time(), flush=True)
        """,
        *urls,
    )
    assert process.stdout.readline() == "go\n"
    deadline = time.monotonic() + 20
    while store.stats.max_in_flight < 10 and time.monotonic() < deadline:
        time.sleep(0.05)
    sent = time.time()
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=20)
    word, when = out.split()
    assert word == "interrupted", errors
    assert float(when) - sent < 0.2
    assert time.time() - sent < 2
    assert process.returncode == 0


def test_a_program_ends_though_a_reading_is_half_done(urls):
    process = run(
        """
        import sys
        from nuncius.cloudfits import read_headers
        files = read_headers(sys.argv[1:], max_files=2)
        print(next(files)[0].get("EXPOSURE")[:3])
        """,
        *urls,
    )
    out, errors = process.communicate(timeout=20)
    assert (out, process.returncode) == ("EXP\n", 0), errors
    assert "Error" not in errors


def test_a_reading_that_is_let_go_stops(store, urls):
    store.latency_s = 0.05
    files = read_headers(itertools.cycle(urls), max_files=3)
    next(files)
    del files
    gc.collect()
    asked = store.stats.requests
    time.sleep(0.3)
    assert store.stats.requests <= asked + 3


# Async -------------------------------------------------------------------------------------------------------------------


async def test_async_gives_the_same(urls):
    found = [file async for file in read_async_headers(urls, ordered=True)]
    assert exposures(found) == EXPOSURES
    failed = [file async for file in read_async_headers([urls[0] + "x"], on_error="yield")]
    assert isinstance(failed[0].error, NotFoundError)
    with pytest.raises(NotFoundError):
        [file async for file in read_async_headers([urls[0] + "x"])]


async def test_async_takes_urls_as_they_become_known(store, urls):
    seen = asyncio.Event()

    async def coming():
        yield urls[0]
        await asyncio.wait_for(seen.wait(), 10)  # the first file is given before the second is known
        for url in urls[1:]:
            yield url

    found = []
    async for file in read_async_headers(coming(), max_files=4):
        found.append(file)
        seen.set()
    assert sorted(exposures(found)) == EXPOSURES

    async def broken():
        yield urls[0]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        [file async for file in read_async_headers(broken())]


async def test_async_leaving_early_or_cancelling_stops(store, urls):
    store.latency_s = 0.05
    files = read_async_headers(itertools.cycle(urls), max_files=4)
    async for _ in files:
        break
    await files.aclose()
    asked = store.stats.requests
    await asyncio.sleep(0.2)
    assert store.stats.requests <= asked + 4

    store.latency_s = 30
    task = asyncio.create_task(anext(read_async_headers(urls)))
    await asyncio.sleep(0.2)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 5  # of 30; milliseconds on a machine that has nothing else to do


def test_in_a_thread_and_beside_a_running_loop(urls):
    async def in_a_notebook():
        return exposures(read_headers(urls[:5], ordered=True))

    assert asyncio.run(in_a_notebook()) == EXPOSURES[:5]
    results = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: exposures(read_headers(urls, ordered=True))}))
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == dict.fromkeys(range(3), EXPOSURES)
