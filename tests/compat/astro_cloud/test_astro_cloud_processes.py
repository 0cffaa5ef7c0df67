"""`load_headers` in worker processes, as astro-cloud's documentation planned it, and in programs without requests."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import pytest

from nuncius.compat.astro_cloud.fits import CloudService, PaymentSolution, load_headers
from nuncius.errors import ForkError
from nuncius.sandbox.fits_files import many

PAYER = PaymentSolution.AWSRequestPayer


@pytest.fixture
def urls(login):
    """Give links to files that only who pays may read."""
    for number in range(4):
        login.put(f"{number}.fits", many.night_file(number), requester_pays=True)
    return [f"{login.s3_endpoint}/sky/{number}.fits" for number in range(4)]


read = partial(load_headers, service=CloudService.S3, payment_solution=PAYER)


def check(results):
    assert [len(headers) for headers in results] == [3, 3, 3, 3]
    assert [headers[0].fits["EXPOSURE"] for headers in results] == [f"EXP{number:07d}" for number in range(4)]
    assert [header.offset for header in results[0]] == [header.offset for header in results[1]]


def test_a_pool_of_spawned_processes(urls):
    read(urls[0])  # that this process reads too is no trouble
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        check(pool.map(read, urls))


FORKED = """
import multiprocessing, sys
from functools import partial
from nuncius.compat.astro_cloud.fits import CloudService, PaymentSolution, load_headers
from nuncius.errors import ForkError

read = partial(load_headers, service=CloudService.S3, payment_solution=PaymentSolution.AWSRequestPayer)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print([len(headers) for headers in pool.map(read, sys.argv[1:])])
print(len(read(sys.argv[1])))
with multiprocessing.get_context("fork").Pool(1) as pool:
    try:
        pool.map(read, sys.argv[1:])
    except ForkError as error:
        print(error)
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system can't fork")
def test_a_pool_of_forked_processes(urls):
    done = subprocess.run([sys.executable, "-c", FORKED, *urls], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "[3, 3, 3, 3]"  # before this process has read anything, forks may
    assert lines[1] == "3"
    assert "spawn" in lines[2]
    assert issubclass(ForkError, RuntimeError)


def test_threads_and_a_running_loop(urls):
    with ThreadPoolExecutor(4) as pool:
        check(list(pool.map(read, urls)))

    async def main():
        return [read(url) for url in urls]

    check(asyncio.run(main()))


def test_dask(urls):
    dask = pytest.importorskip("dask")
    bag = pytest.importorskip("dask.bag")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        check(bag.from_sequence(urls, npartitions=2).map(read).compute(pool=pool))
    check(dask.compute([dask.delayed(read)(url) for url in urls], scheduler="threads")[0])


IMPORTED = """
import sys
before = set(sys.modules)
import nuncius.compat.astro_cloud.fits
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(loaded & {"astropy", "boto3", "botocore", "numpy", "obstore", "requests"}))
sys.modules["requests"] = None
try:
    import nuncius.compat.astro_cloud.auth.aws
except ImportError as error:
    print(type(error).__name__, error)
print([len(nuncius.compat.astro_cloud.fits.index.base.load_headers(url)) for url in sys.argv[1:]])
print("requests" in sys.modules and sys.modules["requests"] is not None, "botocore" in sys.modules)
"""


def test_reading_needs_neither_requests_nor_botocore(store):
    store.put("x.fits", many.night_file(1))
    command = [sys.executable, "-c", IMPORTED, store.http_url("x.fits")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "[]"
    assert lines[1].startswith("MissingExtraError")
    assert "nuncius[aws]" in lines[1]
    assert lines[2:] == ["[3]", "False False"]
