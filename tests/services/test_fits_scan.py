"""The headers of many files as one table: here, in processes and on a Dask cluster; whole or resumed."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from nuncius.cloudfits import FileDescription, HeaderIndex, open_fits, scan, scan_headers
from nuncius.errors import (
    ConfigurationError,
    NotFoundError,
    NunciusError,
    PartialResultError,
    StorageError,
)
from nuncius.sandbox.fits_files.many import decam_fz, night
from nuncius.sandbox.store import SandboxStore

pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
pq = pytest.importorskip("pyarrow.parquet")

pytestmark = pytest.mark.xdist_group("fits-scan")

COUNT = 60
KEYWORDS = ["EXPOSURE", "NEXTEND", "AMP00003", "SIZE"]


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


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    import dask

    with dask.config.set({"distributed.admin.tick.interval": "1s"}):
        options = {
            "n_workers": 2,
            "threads_per_worker": 1,
            "dashboard_address": "127.0.0.1:0",
            "host": "127.0.0.1",
        }
        with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
            yield client


# The table ---------------------------------------------------------------------------------------------------------------


def test_a_row_for_each_hdu_in_the_order_asked(store, urls):
    table = scan_headers(urls[::-1], keywords=KEYWORDS, partition=7)
    assert table["url"].to_pylist() == [url for url in urls[::-1] for _ in range(3)]
    assert table["file"].to_pylist() == [number for number in range(COUNT) for _ in range(3)]
    assert table["hdu"].to_pylist() == [0, 1, 2] * COUNT
    assert table["EXPOSURE"].to_pylist()[::3] == [f"EXP{number:07d}" for number in range(COUNT)][::-1]
    assert str(table.schema.field("NEXTEND").type) == "int64"
    assert table["AMP00003"].to_pylist()[:3] == [3 / 7, 4 / 7, 5 / 7]
    assert table["key_SIZE"].null_count == len(table)
    assert table["error"].null_count == table["note"].null_count == len(table)
    with open_fits(urls[-1]) as fits:
        for row, hdu in zip(table.slice(0, 3).to_pylist(), fits, strict=True):
            assert row["header"] == hdu.raw
            assert (row["extname"], row["extver"], row["kind"]) == (hdu.name, hdu.version, hdu.kind)
            assert (row["xtension"], row["bitpix"], tuple(row["naxis"])) == (
                hdu.xtension,
                hdu.bitpix,
                hdu.naxis,
            )
            places = (row["header_offset"], row["data_offset"], row["data_size"])
            assert places == (hdu.header_offset, hdu.data_offset, hdu.data_size)
            assert (row["size"], row["etag"], row["last_modified"]) == (fits.size, fits.etag, fits.modified)
            assert (row["complete"], row["truncated"], row["tile_compressed"]) == (True, False, False)


def test_a_file_is_opened_from_the_table_without_reading_its_headers(store, urls, tmp_path):
    index = scan_headers(urls[:9], out=tmp_path / "headers.parquet")
    assert isinstance(index, HeaderIndex)
    store.reset()
    for known in (index, tmp_path / "headers.parquet", index.table):
        with open_fits(urls[4], index=known) as fits:
            assert fits[0].get("EXPOSURE") == "EXP0000004"
            assert store.stats.requests == 0
    with open_fits(urls[4], index=index) as fits, open_fits(urls[4]) as read:
        np.testing.assert_array_equal(fits[1].section[5:8, 10:20], read[1].section[5:8, 10:20])


def test_links_that_differ_in_their_query_are_told_apart(urls):
    links = [f"{urls[0]}?uri=a.fits", f"{urls[0]}?uri=b.fits&X-Amz-Signature=old"]
    index = HeaderIndex.of(scan_headers(links))
    assert len(index) == 2
    with open_fits(f"{urls[0]}?uri=b.fits&X-Amz-Signature=new", index=index) as fits:
        assert len(fits) == 3
    with pytest.raises(NotFoundError, match="is not among the 2 files"):
        open_fits(f"{urls[0]}?uri=c.fits", index=index)


def test_files_that_fail_are_rows(store, urls, tmp_path):
    store.put("bad/page.fits", b"<html>log in</html>" * 400)
    mixed = [urls[0], store.http_url("bad/page.fits"), "s3://", store.http_url("bad/none.fits"), urls[1]]
    table = scan_headers(mixed, partition=2, keywords=["EXPOSURE"])
    failed = table.filter(table["hdu"].is_null()).to_pylist()
    assert [row["file"] for row in failed] == [1, 2, 3]
    kinds = [row["error"].partition(":")[0] for row in failed]
    assert kinds == ["FitsError", "ConfigurationError", "NotFoundError"]
    assert table["file"].to_pylist() == [0, 0, 0, 1, 2, 3, 4, 4, 4]
    index = HeaderIndex.of(table)
    assert list(index.failures) == [mixed[1], "s3://", mixed[3]]
    with pytest.raises(NunciusError, match="page of HTML"):
        scan_headers(mixed[:2], on_error="raise")
    with pytest.raises(NunciusError, match="page of HTML"):
        scan_headers(mixed[:2], on_error="raise", out=tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()


def test_compressed_images_are_marked_and_described_as_images(store, tmp_path):
    store.put("decam/a.fits.fz", decam_fz(2, shape=(48, 64)))
    table = scan_headers([store.http_url("decam/a.fits.fz")], keywords=["ZCMPTYPE", "BITPIX", "EXTNAME"])
    assert table["tile_compressed"].to_pylist() == [False, True, True]
    assert table["naxis"].to_pylist() == [[], [64, 48], [64, 48]]
    assert table["xtension"].to_pylist() == ["", "BINTABLE", "BINTABLE"]
    assert table["key_BITPIX"].to_pylist() == [8, -32, -32]
    assert table["key_EXTNAME"].to_pylist() == [None, "N1", "N2"]


def test_nothing_to_scan_is_an_empty_table(tmp_path):
    table = scan_headers([], keywords=["EXPTIME"])
    assert len(table) == 0
    assert "EXPTIME" in table.column_names
    index = scan_headers([], out=tmp_path / "x.parquet")
    assert (len(index), index.urls, index.failures) == (0, [], {})


def test_a_folder_of_a_store_is_scanned(store, tmp_path):
    keys = {"endpoint": store.s3_endpoint, "credentials": (store.access_key, store.secret_key)}
    index = scan_headers("s3://sky/night/exposure-000000*.fits", out=tmp_path / "x.parquet", **keys)
    assert index.urls == [f"s3://sky/night/exposure-{number:07d}.fits" for number in range(10)]
    with open_fits(index.urls[3], index=index, **keys) as fits:
        assert fits[0].get("EXPOSURE") == "EXP0000003"


def test_options_that_can_not_work_are_refused(urls):
    for options in (
        {"backend": "slurm"}, {"partition": 0}, {"on_error": "skip"}, {"processes": 2}, {"client": object()},
        {"backend": "processes", "processes": 0}, {"keywords": "EXPTIME"}, {"hdus": 0}, {"max_files": 0},
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=f"{list(options)[-1]}="):
            scan_headers(urls, **options)


# The file ----------------------------------------------------------------------------------------------------------------


def test_the_file_is_the_same_table_and_nothing_else_is_left(urls, tmp_path):
    out = tmp_path / "headers.parquet"
    index = scan_headers(urls, keywords=KEYWORDS, partition=7, out=out)
    assert index.table.equals(scan_headers(urls, keywords=KEYWORDS))
    assert [path.name for path in tmp_path.iterdir()] == ["headers.parquet"]
    metadata = pq.read_metadata(out)
    assert metadata.num_rows == 3 * COUNT
    # Raw headers are most of it; similar ones take hardly any room.
    raw = sum(len(header) for header in index.table["header"].to_pylist())
    assert out.stat().st_size < raw / 8


def test_where_it_can_not_be_written_is_said_before_anything_is_read(store, urls, tmp_path):
    with pytest.raises(NotFoundError, match="there is no folder"):
        scan_headers(urls, out=tmp_path / "none" / "x.parquet")
    (tmp_path / "y.parquet.parts").write_text("a file in the way")
    with pytest.raises(StorageError, match=r"y\.parquet can't be written"):
        scan_headers(urls, out=tmp_path / "y.parquet")
    assert store.stats.requests == 0


def test_what_is_there_stays_until_the_new_one_is_whole(store, urls, tmp_path):
    out = tmp_path / "x.parquet"
    scan_headers(urls[:2], out=out)
    before = out.read_bytes()
    store.delete("night/exposure-0000005.fits")
    try:
        with pytest.raises(NotFoundError):
            scan_headers(urls[:9], out=out, on_error="raise", partition=2)
        assert out.read_bytes() == before
    finally:
        store.put("night/exposure-0000005.fits", night(6)["exposure-0000005.fits"])


def test_two_scans_do_not_write_the_same_file(urls, tmp_path):
    out = tmp_path / "x.parquet"

    def other():
        yield urls[0]
        with pytest.raises(StorageError, match="another scan is writing"):
            scan_headers(urls[:1], out=out)
        yield urls[1]

    assert len(scan_headers(other(), out=out)) == 2


# Resuming ----------------------------------------------------------------------------------------------------------------

SCAN = """
import sys
from nuncius.cloudfits import scan_headers
if __name__ == "__main__":
    backend, out, *urls = sys.argv[1:]
    options = {"processes": 2} if backend == "processes" else {}
    print("go", flush=True)
    index = scan_headers(urls, keywords=["EXPOSURE"], out=out, partition=5, backend=backend, max_files=5, **options)
    print(len(index))
"""


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "scan.py"
    path.write_text(textwrap.dedent(SCAN))
    return path


def wait_until(true, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("backend", ["local", "processes"])
def test_after_kill_9_only_what_is_missing_is_read(backend, store, urls, script, tmp_path):
    out = tmp_path / "headers.parquet"
    parts = tmp_path / "headers.parquet.parts"
    store.latency_s = 0.1
    process = start(script, backend, out, *urls)
    wait_until(lambda: len(list(parts.glob("*.parquet"))) >= 3)
    process.kill()
    process.wait(10)
    process.stdout.close()
    process.stderr.close()
    assert not out.exists()
    store.latency_s = 0
    asked = -1
    while asked != store.stats.requests:  # workers end with their parent
        asked = store.stats.requests
        time.sleep(0.3)
    left = sorted(parts.glob("*.parquet"))
    kept = len(left)
    assert 3 <= kept < COUNT // 5
    left[0].write_bytes(left[0].read_bytes()[:-100])  # what is damaged is read again
    store.reset()
    index = scan_headers(urls, keywords=["EXPOSURE"], out=out, partition=5)
    assert store.stats.requests == 2 * (COUNT - 5 * (kept - 1))
    assert index.table.equals(scan_headers(urls, keywords=["EXPOSURE"]))
    assert not parts.exists()


def disk_full(*_given, **_options):
    raise StorageError("disk full")


def test_other_settings_or_files_are_read_anew(store, urls, tmp_path, monkeypatch):
    out = tmp_path / "x.parquet"

    def interrupted(given):
        with monkeypatch.context() as patch:
            patch.setattr(scan, "write_tables", disk_full)
            with pytest.raises(StorageError, match="disk full"):
                scan_headers(given, out=out, partition=4)

    for given, options, read in [
        (urls[:8], {}, 0),
        (urls[:8], {"resume": False}, 8),
        (urls[:8], {"keywords": ["EXPOSURE"]}, 8),
        (urls[:8], {"with_headers": False}, 8),
        (urls[4:12], {}, 4),
    ]:
        interrupted(urls[:8])
        store.reset()
        index = scan_headers(given, out=out, partition=4, **options)
        assert store.stats.requests == 2 * read, options
        assert index.urls == given
        assert index.table["file"].to_pylist() == [number for number in range(8) for _ in range(3)]


def test_files_that_the_network_failed_are_read_again(store, urls, tmp_path, monkeypatch):
    out = tmp_path / "x.parquet"
    store.failure_rate = 1

    with monkeypatch.context() as patch:
        patch.setattr(scan, "write_tables", disk_full)
        with pytest.raises(StorageError, match="disk full"):
            scan_headers(urls[:4], out=out, partition=4, retries=0)
    assert len(list((tmp_path / "x.parquet.parts").glob("*.parquet"))) == 1
    store.reset()
    assert scan_headers(urls[:4], out=out, partition=4).failures == {}


@pytest.mark.parametrize("backend", ["local", "processes"])
def test_ctrl_c_ends_at_once_and_leaves_nobody_behind(backend, store, urls, script, tmp_path):
    store.latency_s = 0.1
    process = start(script, backend, tmp_path / "x.parquet", *urls)
    wait_until(lambda: any((tmp_path / "x.parquet.parts").glob("*.parquet")))
    store.latency_s = 30
    time.sleep(0.3)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)  # also of its workers, who hold the pipe
    assert time.monotonic() - sent < 15  # of 30
    assert "KeyboardInterrupt" in errors
    assert not (tmp_path / "x.parquet").exists()


# Elsewhere ---------------------------------------------------------------------------------------------------------------


def test_processes_give_the_same_table(store, urls, tmp_path):
    given = [*urls[:12], store.http_url("night/none.fits")]
    expected = scan_headers(given, keywords=KEYWORDS)
    options = {"keywords": KEYWORDS, "backend": "processes", "processes": 2, "partition": 4}
    assert scan_headers(iter(given), **options).equals(expected)
    index = scan_headers(given, out=tmp_path / "x.parquet", **options)
    assert index.table.equals(expected)
    with pytest.raises(NotFoundError, match=r"none\.fits"):
        scan_headers(given, on_error="raise", **options)


def test_a_process_that_is_killed_is_said(store, urls, tmp_path):
    import multiprocessing
    import threading

    store.latency_s = 0.2
    others = set(multiprocessing.active_children())

    def kill():
        wait_until(lambda: store.stats.requests >= 2)
        (set(multiprocessing.active_children()) - others).pop().kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(PartialResultError, match="the same call goes on where it ended"):
        scan_headers(urls, backend="processes", processes=2, partition=5, max_files=1)
    thread.join()


def test_secrets_are_not_carried_to_other_processes(store, urls):
    for options in (
        {"credentials": ("AKIAEXAMPLE", "very-secret")},
        {"headers": {"Authorization": "Bearer very-secret"}},
    ):
        with pytest.raises(ConfigurationError, match="not carried to other processes") as caught:
            scan_headers(urls, backend="processes", **options)
        assert "very-secret" not in str(caught.value)
    signed = urls[0] + "?X-Amz-Signature=very-secret"
    with pytest.raises(ConfigurationError, match="backend='local'") as caught:
        scan_headers([urls[1], signed], backend="processes", partition=1)
    assert "very-secret" not in str(caught.value)
    assert len(scan_headers([signed])) == 3


def test_dask_reads_partitions(cluster, store, urls, tmp_path):
    expected = scan_headers(urls, keywords=KEYWORDS)
    options = {"keywords": KEYWORDS, "backend": "dask", "partition": 15}
    assert scan_headers(iter(urls), client=cluster, **options).equals(expected)
    assert scan_headers(urls, **options).equals(expected)  # the current client
    index = scan_headers(urls, out=tmp_path / "x.parquet", **options)
    assert index.table.equals(expected)
    assert isinstance(index.find(urls[3]), FileDescription)
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]
    with pytest.raises(NotFoundError, match=r"none\.fits"):
        scan_headers([store.http_url("none.fits")], on_error="raise", **options)
    with pytest.raises(ConfigurationError, match="not carried to other processes"):
        scan_headers(urls, credentials=("AKIAEXAMPLE", "very-secret"), **options)


def test_dask_workers_read_side_by_side(cluster, store, urls):
    store.latency_s = 0.2
    scan_headers(urls, backend="dask", client=cluster, partition=15)
    assert store.stats.max_in_flight > 10


def test_dask_workers_without_the_folder_send_their_parts(cluster, urls, tmp_path, monkeypatch):
    from nuncius.cloudfits import backends

    # As where the workers have another disk: what they find in a folder of that name was not written by us.
    monkeypatch.setattr(backends.Folder, "__reduce__", lambda self: (backends.Folder, (self.path, "another")))
    index = scan_headers(urls[:6], backend="dask", client=cluster, partition=2, out=tmp_path / "x.parquet")
    assert index.table.equals(scan_headers(urls[:6]))


def test_dask_needs_a_client(urls, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")

    def none():
        raise ValueError("No clients found")

    monkeypatch.setattr(distributed, "get_client", none)
    with pytest.raises(ConfigurationError, match="needs a cluster: make a client first"):
        scan_headers(urls, backend="dask")


def test_memory_does_not_grow_with_the_number_of_urls(store, urls, tmp_path):
    taken = 0

    def endless():
        nonlocal taken
        for url in itertools.cycle(urls):
            taken += 1
            if taken == 10 * COUNT:
                raise KeyError("enough")
            yield url

    with pytest.raises(KeyError, match="enough"):
        scan_headers(endless(), out=tmp_path / "x.parquet", partition=20, max_files=10)
    parts = list((tmp_path / "x.parquet.parts").glob("*.parquet"))
    assert len(parts) == COUNT // 20  # the same files are the same parts
