"""Stores that fail, files that are replaced, programs that are interrupted: the right bytes, or an error that says why."""

from __future__ import annotations

import asyncio
import io
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.io import fits

import nuncius
from nuncius import aio
from nuncius.errors import (
    DeadlineError,
    FileChangedError,
    FitsError,
    ForkError,
    NotFoundError,
    ServerError,
    TruncatedFitsError,
    UnreachableError,
    UnsupportedError,
)
from nuncius.sandbox import fits_files
from nuncius.sandbox.fits_files import SparseFile
from nuncius.sandbox.store import SandboxStore

pytestmark = pytest.mark.xdist_group("fits-faults")

MOSAIC = fits_files.many_hdus("random", count=12, nextend=False)


@pytest.fixture(scope="module")
def running():
    with SandboxStore() as store:
        yield store


@pytest.fixture
def store(running):
    running.reset()
    running.put("mosaic.fits", MOSAIC)
    return running


@pytest.fixture
def url(store):
    return store.http_url("mosaic.fits")


def places(store):
    """Give the ways to the same file."""
    s3 = {"endpoint": store.s3_endpoint, "credentials": (store.access_key, store.secret_key)}
    return {"http": (store.http_url("mosaic.fits"), {}), "s3": (store.s3_url("mosaic.fits"), s3)}


def truth():
    with fits.open(MOSAIC.open()) as hdus:
        return [(hdu.header.tostring(), None if hdu.data is None else hdu.data.copy()) for hdu in hdus]


# Stores that fail -----------------------------------------------------------------------------------------------------


FAULTS = [
    ("http", {"failure_rate": 0.3}),
    ("http", {"failure_rate": 0.3, "failure_status": 429}),
    ("http", {"cut_rate": 0.5}),
    ("http", {"cut_rate": 0.5, "cut_at": 0.0}),
    ("http", {"cut_rate": 0.5, "send_etag": False}),
    ("http", {"reset_rate": 0.3}),
    ("http", {"ranges": "no total"}),
    ("http", {"ranges": "no total", "head": False, "failure_rate": 0.3, "seed": 3}),
    ("http", {"send_etag": False, "send_modified": False}),
    ("s3", {"failure_rate": 0.3}),
    ("s3", {"cut_rate": 0.5}),
    ("s3", {"failure_rate": 0.1, "cut_rate": 0.2, "reset_rate": 0.1, "seed": 5}),
]


@pytest.mark.parametrize(("way", "fault"), FAULTS, ids=str)
def test_what_is_read_is_right_in_spite_of_faults(store, way, fault):
    for name, value in fault.items():
        setattr(store, name, value)
    url, options = places(store)[way]
    with nuncius.open_fits(url, **options) as file:
        expected = truth()
        assert [hdu.header.tostring() for hdu in file] == [header for header, _ in expected]
        for number in range(1, len(file), 4):
            key = np.s_[3:40:2, 5:100]
            np.testing.assert_array_equal(file[number].section[key], expected[number][1][key])
        np.testing.assert_array_equal(file[5].data, expected[5][1])
    faulty = any(name.endswith("_rate") for name in fault)
    assert any(record.fault for record in store.log) == faulty


def test_compressed_tiles_and_heaps_in_spite_of_faults(store):
    store.put("tiles.fits", fits_files.decam_fz(3))
    store.put("heap.fits", fits_files.variable_length())
    tiles, heap = (nuncius.open_fits(store.http_url(f"{name}.fits")) for name in ("tiles", "heap"))
    right = tiles["N2"].data, str(heap[1].rows())
    store.failure_rate, store.cut_rate, store.reset_rate = 0.2, 0.3, 0.1
    tiles, heap = (nuncius.open_fits(store.http_url(f"{name}.fits")) for name in ("tiles", "heap"))
    assert np.array_equal(tiles["N2"].data, right[0])
    assert str(heap[1].rows()) == right[1]


def test_a_store_that_always_fails(store, url):
    store.failure_rate = 1.0
    begin = time.monotonic()
    with pytest.raises(ServerError, match="503") as caught:
        nuncius.open_fits(url, retries=2)
    assert (caught.value.status, caught.value.url) == (503, url)
    assert store.stats.requests == 3
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("knob", ["cut_rate", "reset_rate"])
def test_a_store_that_never_ends_an_answer(store, url, knob):
    setattr(store, knob, 1.0)
    with pytest.raises(UnreachableError, match=r"tried|each of") as caught:
        nuncius.open_fits(url, retries=1)
    assert caught.value.url == url


@pytest.mark.parametrize("slow", [{"latency_s": 30.0}, {"bandwidth": 5000.0}], ids=["answer", "body"])
def test_a_slow_store_is_an_error_in_time(store, url, slow):
    file = nuncius.open_fits(url)
    for name, value in slow.items():
        setattr(store, name, value)
    begin = time.monotonic()
    with pytest.raises(DeadlineError, match=r"within 0.3 s.*timeout_s="):
        nuncius.open_fits(url, timeout_s=0.3, retries=0)
    assert time.monotonic() - begin < 5
    store.reset()
    assert file[1].section[0, 0] == truth()[1][1][0, 0]


def test_a_server_without_ranges_sends_nothing(store):
    """Of 45 GB nothing is downloaded in silence; who wants all of a smaller file says so."""
    store.put("tess.fits", fits_files.tess_cube())
    store.ranges = "ignored"
    begin = time.monotonic()
    with pytest.raises(UnsupportedError, match="whole_file=True"):
        nuncius.open_fits(store.http_url("tess.fits"))
    assert time.monotonic() - begin < 5
    assert store.stats.requests <= 2
    assert store.stats.bytes < 20_000_000  # what the line holds until it is hung up
    store.put("small.fits", fits_files.good_file())
    store.reset()
    store.ranges = "ignored"
    file = nuncius.open_fits(store.http_url("small.fits"), whole_file=True)
    with fits.open(io.BytesIO(fits_files.good_file())) as hdus:
        assert np.array_equal(file["B"].section[100:200], hdus["B"].data[100:200])
        assert np.array_equal(file.hdulist()["A"].data, hdus["A"].data)
    assert store.stats.requests == file.stats.requests == 1


def test_a_server_that_stops_to_know_ranges(store, url):
    file = nuncius.open_fits(url)
    store.reset()
    store.ranges = "ignored"
    with pytest.raises(UnsupportedError, match="Range"):
        _ = file[5].section[0, :5]
    assert store.stats.requests <= 2


def test_a_compressed_file_is_unpacked_where_it_is_asked_for(store):
    good = fits_files.good_file()
    store.put("good.fits.gz", fits_files.gzipped(good))
    with pytest.raises(FitsError, match=r"gzip.*whole_file=True"):
        nuncius.open_fits(store.http_url("good.fits.gz"))
    file = nuncius.open_fits(store.http_url("good.fits.gz"), whole_file=True)
    with fits.open(io.BytesIO(good)) as hdus:
        assert [hdu.header.tostring() for hdu in file] == [hdu.header.tostring() for hdu in hdus]
        assert np.array_equal(file["B"].data, hdus["B"].data)
    assert file.size == len(good)
    store.put("cut.fits.gz", fits_files.gzipped(good)[:-3000])
    with pytest.raises(FitsError, match="gzip compression does not end"):
        nuncius.open_fits(store.http_url("cut.fits.gz"), whole_file=True)


@pytest.mark.parametrize("ranges", ["ok", "no total", "ignored"])
def test_an_empty_object(store, ranges):
    store.put("empty.fits", b"")
    store.ranges = ranges
    with pytest.raises(FitsError, match="it is empty"):
        nuncius.open_fits(store.http_url("empty.fits"))


# Files that change ----------------------------------------------------------------------------------------------------


def reads(file):
    """Give each way to read data of a file that did not come along with its headers."""
    return {
        "section": lambda: file[5].section[:20, 3],
        "data": lambda: file[6].data,
        "cutout": lambda: file[7].cutout((9, 9), 5),
        "hdulist": lambda: file.hdulist()[5].data,
        "hdulist section": lambda: file.hdulist()[5].section[0, 0],
    }


@pytest.mark.parametrize("what", reads(None))
@pytest.mark.parametrize("tells", ["etag", "time", "no total"])
def test_a_file_that_is_replaced_before_it_is_read(store, url, what, tells):
    store.put("mosaic.fits", MOSAIC, modified=new_year(2020))
    store.send_etag = tells != "time"
    store.ranges = "no total" if tells == "no total" else "ok"
    file = nuncius.open_fits(url)
    another = fits_files.many_hdus("random", count=12, nextend=False, seed=2)
    store.put("mosaic.fits", another if tells != "time" else MOSAIC, etag="other", modified=new_year(2021))
    with pytest.raises(FileChangedError, match="open it again") as caught:
        reads(file)[what]()
    assert caught.value.url == url


def new_year(year):
    return datetime(year, 1, 1, tzinfo=UTC)


def test_tables_and_tiles_that_are_replaced(store):
    for name, make, read in (
        ("tiles", lambda: fits_files.decam_fz(2), lambda file: file[1].section[:3]),
        ("heap", fits_files.variable_length, lambda file: file[1].rows(0, 3)),
        ("table", lambda: fits_files.large_table(5000), lambda file: file[1].rows(4000, 4001)),
        ("columns", lambda: fits_files.large_table(5000), lambda file: file[1].columns(["ID"], rows=[4000])),
    ):
        store.put(f"{name}.fits", make())
        file = nuncius.open_fits(store.http_url(f"{name}.fits"), overread_bytes=2880)
        store.put(f"{name}.fits", make(), etag="other")
        with pytest.raises(FileChangedError):
            read(file)


@pytest.mark.parametrize("way", ["http", "s3"])
def test_a_file_that_is_replaced_while_its_headers_are_read(store, way):
    """The first wave of requests sees one file and the second another one."""
    url, options = places(store)[way]
    store.latency_s = 0.25
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(nuncius.open_fits, url, **options)
        wait_for(lambda: len(store.log) >= 2)
        store.put("mosaic.fits", MOSAIC, etag="other")
        with pytest.raises(FileChangedError, match="replaced"):
            opening.result()


def test_a_file_that_grows_while_its_headers_are_read(store, url):
    """Without an ETag and a time the size tells."""
    store.send_etag = store.send_modified = False
    store.latency_s = 0.25
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(nuncius.open_fits, url)
        wait_for(lambda: len(store.log) >= 2)
        store.put("mosaic.fits", SparseFile(MOSAIC.size + 2880, {0: MOSAIC.read(0, MOSAIC.size)}))
        with pytest.raises(FileChangedError):
            opening.result()


def wait_for(ready):
    deadline = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_file_that_is_deleted(store, url):
    file = nuncius.open_fits(url)
    store.delete("mosaic.fits")
    with pytest.raises(NotFoundError, match="404"):
        _ = file[5].section[0, 0]


def test_a_file_that_shrinks_and_says_nothing(store, url):
    store.send_etag = store.send_modified = False
    file = nuncius.open_fits(url)
    store.put("mosaic.fits", MOSAIC.read(0, 200_000))
    with pytest.raises((TruncatedFitsError, FileChangedError)):
        _ = file[9].data


# Threads, loops, cancelling -------------------------------------------------------------------------------------------


def test_one_file_in_eight_threads(store, url):
    store.latency_s = 0.01
    store.cut_rate = 0.1
    expected = truth()
    with nuncius.open_fits(url) as file, ThreadPoolExecutor(8) as pool:
        numbers = list(itertools.islice(itertools.cycle(range(1, len(file))), 60))
        found = pool.map(lambda number: file[number].section[1:20, number : number + 9], numbers)
        for number, pixels in zip(numbers, found, strict=True):
            np.testing.assert_array_equal(pixels, expected[number][1][1:20, number : number + 9])
    assert file.stats.requests >= 60


def test_many_files_and_sections_at_once_in_one_loop(store):
    for number in range(30):
        store.put(f"night/{number}.fits", fits_files.night_file(number))
    store.latency_s = 0.02

    async def one(number):
        async with aio.open_fits(store.http_url(f"night/{number}.fits")) as file:
            rows = await asyncio.gather(*(file["CCD1"].section[row, :5] for row in range(4)))
            return file[0].get("EXPOSURE"), np.array(rows)

    async def all_of_them():
        return await asyncio.gather(*(one(number) for number in range(30)))

    found = asyncio.run(all_of_them())
    assert [name for name, _ in found] == [f"EXP{number:07d}" for number in range(30)]
    for number, (_, rows) in enumerate(found):
        pixels = fits_files.PixelRamp((768, 488), first=number)
        np.testing.assert_array_equal(rows, pixels[0:4, 0:5])
    assert store.stats.max_in_flight > 20


def test_sync_code_where_a_loop_is_running(store, url):
    """As in a notebook: the loop of the caller is not used, and nothing needs to be patched."""

    async def cell():
        with nuncius.open_fits(url) as file:
            return file["CCD3"].section[0, :3], file.hdulist()["CCD3"].data[0, :3]

    one, other = asyncio.run(cell())
    np.testing.assert_array_equal(one, other)


def test_one_async_file_in_two_loops(store, url):
    async def opened():
        return await aio.open_fits(url)

    file = asyncio.run(opened())
    for _ in range(2):

        async def read():
            return await file["CCD2"].section[0, :4]

        np.testing.assert_array_equal(asyncio.run(read()), truth()[2][1][0, :4])


def test_a_cancelled_read_is_over_at_once_and_the_file_goes_on(store, url):
    async def scenario():
        file = await aio.open_fits(url)
        store.latency_s = 30
        task = asyncio.create_task(awaited(file[1].section[:10, 0]))
        await asyncio.sleep(0.1)
        begin = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - begin < 5  # of 30
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await file[1].section[:10, 0]
        store.latency_s = 0
        return await file[1].section[:10, 0]

    np.testing.assert_array_equal(asyncio.run(scenario()), truth()[1][1][:10, 0])


async def awaited(value):
    return await value


CODE = """
    import sys, time, threading, os, signal
    import nuncius

    # Without a file: opening waits. With one it is read from where it was opened.
    url, what = sys.argv[1:]
    file = nuncius.open_fits(url) if what != "open" else None
    print("ready", flush=True)
    sys.stdin.readline()
    begin = time.monotonic()
    try:
        if what == "open":
            nuncius.open_fits(url)
        elif what == "section":
            file[1].section[:10, 0]
        else:
            file.hdulist()[1].data
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("what", ["open", "section", "hdulist"])
def test_ctrl_c_stops_at_once(store, url, what):
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CODE), url, what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout.readline() == "ready\n"
        store.latency_s = 60
        before = len(store.log)
        program.stdin.write("go\n")
        program.stdin.flush()
        wait_for(lambda: len(store.log) > before)
        begin = time.monotonic()
        program.send_signal(signal.SIGINT)
        line = program.stdout.readline()
        took = time.monotonic() - begin
        assert line == "interrupted\n"
        assert took < 5  # of 60; milliseconds on a machine that has nothing else to do
        out, err = program.communicate(timeout=20)
        assert (program.returncode, out, err) == (0, "", "")
    finally:
        program.kill()
        program.communicate()
        store.latency_s = 0


# Processes ------------------------------------------------------------------------------------------------------------


def read_pixel(file):
    return float(file["CCD2"].section[3, 4])


def open_and_read(url):
    with nuncius.open_fits(url) as file:
        return read_pixel(file)


def test_spawned_processes_read_open_files(store, url):
    file = nuncius.open_fits(url)
    expected = float(truth()[2][1][3, 4])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(open_and_read, [url]) == [expected]
        assert pool.map(read_pixel, [file]) == [expected]
        assert pool.apply(pixel_of_hdu, (file["CCD2"],)) == expected


def pixel_of_hdu(hdu):
    return float(hdu.section[3, 4])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("how", ["open file", "new file"])
def test_forked_processes_are_told_to_spawn(store, url, how):
    file = nuncius.open_fits(url)
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child():
        try:
            read_pixel(file) if how == "open file" else open_and_read(url)
            sender.send("read")
        except BaseException as error:
            sender.send(f"{type(error).__name__}: {error}")

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    try:
        assert receiver.poll(20), "it waits for ever"
        answer = receiver.recv()
    finally:
        process.kill()
        process.join()
    assert answer.startswith(ForkError.__name__)
    assert "spawn" in answer
    assert read_pixel(file) == float(truth()[2][1][3, 4])


def test_threads_that_open_the_first_file_at_once(store, url):
    """The background loop is begun once, whoever is first."""
    code = """
        import sys, threading
        import nuncius
        found = []
        begin = threading.Barrier(8)
        def work():
            begin.wait()
            with nuncius.open_fits(sys.argv[1]) as file:
                found.append(len(file))
        threads = [threading.Thread(target=work) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        loops = [thread for thread in threading.enumerate() if thread.name == "nuncius-background"]
        print(found, len(loops))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), url], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (f"{[13] * 8} 1\n", "")


def test_a_thread_that_is_left_alone_does_not_keep_the_program(store, url):
    """A program may end while a read is on its way."""
    code = """
        import sys, threading, time
        import nuncius
        file = nuncius.open_fits(sys.argv[1])
        print("ready", flush=True)
        sys.stdin.readline()
        threading.Thread(target=lambda: file[1].section[0], daemon=True).start()
        time.sleep(0.2)
    """
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout.readline() == "ready\n"
        store.latency_s = 60
        begin = time.monotonic()
        _, err = program.communicate("go\n", timeout=20)
        assert time.monotonic() - begin < 10
        assert (program.returncode, err) == (0, "")
    finally:
        program.kill()
        store.latency_s = 0


def test_stats_count_what_the_store_counts(store, url):
    """Retried requests are the transport's: those that gave something are counted."""
    file = nuncius.open_fits(url)
    assert (file.stats.requests, file.stats.bytes) == (store.stats.requests, store.stats.bytes)
    _ = file[3].section[:9, 7], file[4].data, file[5].cutout((30, 3), 4)
    assert (file.stats.requests, file.stats.bytes) == (store.stats.requests, store.stats.bytes)
    assert 0 < file.stats.used_bytes <= file.stats.bytes
    assert threading.active_count() < 40
