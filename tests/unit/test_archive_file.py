"""The file of an archive: opening, backups, pruning, pickles, threads and processes."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import astropy.units as u
import pytest
from astropy.table import Table
from astropy.time import Time

import archive_support as support
import builders
from archive_support import CANDID
from nuncius import open_archive, read_packets
from nuncius.archives.embedded import database as database_module
from nuncius.archives.embedded.database import Database
from nuncius.errors import ConfigurationError, DeadlineError, NotFoundError, StorageError

NOW_JD = Time.now().jd
TESTS = Path(__file__).parents[1]


@pytest.fixture
def archive(tmp_path):
    with open_archive(tmp_path / "night.db") as opened:
        yield opened


def run(code, *arguments):
    """Run a program in another process that can import what the tests share."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process, text=None):
    out, error = process.communicate(text, timeout=60)
    assert process.returncode == 0, error
    return out


# Opening -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["night.db", "a b#1?.db", "50%.db", "Ночь.db", "night", "q'uo\"te.db"])
def test_any_file_name_will_do(tmp_path, name):
    with open_archive(tmp_path / name) as archive:
        archive.ingest([support.ztf()])
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with open_archive(tmp_path / name, read_only=True) as archive:
        assert archive.count("ZTF_alerts") == 1
    assert all(path.name.startswith(name) for path in tmp_path.iterdir())


def test_ways_to_name_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for url in (
        "a.db",
        "sqlite:///a.db",
        f"sqlite:///{tmp_path}/a.db",
        "~/a.db",
        Path("a.db"),
        str(tmp_path / "a.db"),
    ):
        with open_archive(url) as archive:
            assert archive.path.resolve() == tmp_path / "a.db"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://host/x.db", "did you mean kowalski"),
        ("kowalsky+https://host", "did you mean kowalski"),
        ("kowalski+https://me:secret@host", "ends up in logs"),
        ("kowalski+ftp://host", "did you mean|known are"),
    ],
)
def test_urls_that_mean_no_archive_are_refused(url, said):
    with pytest.raises(ConfigurationError, match=said) as raised:
        open_archive(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("host:4000", {}),
        ("127.0.0.1:4000", {}),
        ("night.db", {"credentials": ("me", "secret")}),
        ("night.db", {"token": "secret"}),
        ("night.db", {"verify": "/some/file.pem"}),
    ],
)
def test_what_is_meant_for_a_server_makes_no_file(tmp_path, monkeypatch, path, options):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="for a server write kowalski") as raised:
        open_archive(path, **options)
    assert "secret" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_stays_where_it_was_opened(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    with open_archive("night.db") as archive:
        archive.ingest([support.ztf()])
        monkeypatch.chdir(tmp_path / "two")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(archive.count, "ZTF_alerts").result() == 1
        assert archive.info()["bytes"] > 0
        with pickle.loads(pickle.dumps(archive)) as other:
            assert other.count("ZTF_alerts") == 1
    assert list((tmp_path / "two").iterdir()) == []


def test_reading_alone(archive):
    archive.ingest([support.ztf()])
    with open_archive(archive.path, read_only=True) as other:
        assert other.count("ZTF_alerts") == 1
        for write in (lambda: other.ingest([support.ztf(1)]), lambda: other.prune("1d")):
            with pytest.raises(StorageError, match="read-only"):
                write()
        archive.ingest([support.ztf(1)])
        assert other.count("ZTF_alerts") == 2


def test_a_missing_file_is_not_made_for_reading(tmp_path):
    with pytest.raises(NotFoundError):
        open_archive(tmp_path / "no.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_several_processes_may_make_one_archive_at_once(tmp_path):
    code = """
import sys, archive_support as s
from nuncius import open_archive
alert = s.ztf(int(sys.argv[2]))
print("ready", flush=True)
for path in sys.stdin.read().split():
    with open_archive(path) as archive:
        archive.ingest([alert])
"""
    writers = [run(code, "-", number) for number in range(3)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    paths = [tmp_path / f"{number}.db" for number in range(40)]
    for writer in writers:
        writer.stdin.write("\n".join(map(str, paths)))
    for writer in writers:
        writer.stdin.close()
        writer.stdin = None
    for writer in writers:
        finish(writer)
    for path in paths:
        with open_archive(path, read_only=True) as archive:
            assert archive.count("ZTF_alerts") == 3


# Closing and pickles -------------------------------------------------------------------------------------------------


def test_a_closed_archive_says_so(archive):
    archive.ingest([support.ztf(), support.ztf(1)])
    result = archive.find("ZTF_alerts")
    rest = iter(archive.find("ZTF_alerts"))
    next(rest)
    archive.close()
    archive.close()
    for ask in (lambda: archive.find("ZTF_alerts").docs, archive.info, archive.catalogs, lambda: archive.ingest([support.ztf()]),
                lambda: result.docs, lambda: archive.object("x"), lambda: archive.prune("1d")):  # fmt: skip
        with pytest.raises(ConfigurationError, match="closed"):
            ask()
    with pytest.raises((ConfigurationError, StorageError), match="closed"):
        next(rest)
    assert "night.db" in repr(archive)


def test_leaving_the_block_closes_and_tidies_up(tmp_path):
    with open_archive(tmp_path / "a.db") as archive:
        archive.ingest([support.ztf()])
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]
    with pytest.raises(ConfigurationError):
        archive.catalogs()


def test_an_archive_that_is_forgotten_is_closed(tmp_path):
    archive = open_archive(tmp_path / "a.db")
    archive.ingest([support.ztf()])
    del archive
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_an_archive_that_was_refused_leaves_no_open_file(tmp_path):
    (tmp_path / "bad.db").write_bytes(b"no archive" * 1000)
    before = (
        len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else pytest.skip("needs /proc")
    )
    for _ in range(20):
        with pytest.raises(StorageError):
            open_archive(tmp_path / "bad.db")
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_pickles_open_the_same_archive(archive):
    archive.ingest([support.ztf()])
    with pickle.loads(pickle.dumps(archive)) as other:
        other.ingest([support.ztf(1)])
    assert archive.count("ZTF_alerts") == 2
    with copy.copy(archive) as other:
        assert other.path == archive.path
    with open_archive(archive.path, read_only=True) as reader, pickle.loads(pickle.dumps(reader)) as other:
        assert other.count("ZTF_alerts") == 2
        with pytest.raises(StorageError, match="read-only"):
            other.prune("1d")


def test_what_was_found_pickles(archive):
    archive.ingest(support.one_of_each().values())
    found = archive.object("ZTF20abcdefg")
    again = pickle.loads(pickle.dumps(found))
    assert (again.object_id, again.catalog, again.light_curve) == (
        found.object_id,
        found.catalog,
        found.light_curve,
    )
    assert support.same(again.alerts, found.alerts)
    docs = archive.find("LSST_alerts").docs
    assert support.same(pickle.loads(pickle.dumps(docs)), docs)


# What it holds -------------------------------------------------------------------------------------------------------


def test_info(archive):
    assert archive.info()["catalogs"] == {}
    archive.ingest(
        support.ztf(
            number, objectId=f"Z{number // 2}", prv_candidates=[builders.ztf_earlier(jd=builders.JD - number)]
        )
        for number in range(4)
    )
    archive.ingest([support.ztf(3, objectId="Z1", candidate={"rb": 0.75})])
    info = archive.info()
    assert info["path"] == str(archive.path)
    assert info["layout"] == 3
    assert info["bytes"] >= 4096
    assert info["catalogs"] == {
        "ZTF_alerts": {"alerts": 4, "objects": 2, "history_points": 4, "revisions": 1,
                       "first_mjd": builders.MJD, "last_mjd": pytest.approx(builders.MJD + 0.3)},
    }  # fmt: skip
    json.dumps(info)


def test_an_empty_archive(archive):
    assert archive.catalogs() == []
    assert archive.prune("1d") == 0
    with pytest.raises(NotFoundError):
        archive.find("ZTF_alerts")


# Pruning -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def old_and_new(archive):
    def at(number, days, **top):
        entry = builders.ztf_earlier(jd=NOW_JD - days - 1)
        return support.ztf(number, candidate={"jd": NOW_JD - days}, objectId=f"Z{number}", prv_candidates=[entry],
                           **support.cutouts(), **top)  # fmt: skip

    alerts = [at(0, 100), at(1, 20.5), at(2, 0.1), support.ztf(3, candidate={"jd": -999.0})]
    archive.ingest(alerts)
    archive.ingest([support.ztf(0, candidate={"jd": NOW_JD - 100, "rb": 0.75}, objectId="Z0")])
    return archive


@pytest.mark.parametrize(
    ("older_than", "left"),
    [
        ("30d", [1, 2, 3]),
        ("12h", [2, 3]),
        (timedelta(days=30), [1, 2, 3]),
        (30 * u.day, [1, 2, 3]),
        (1 * u.yr, [0, 1, 2, 3]),
        (datetime.now(UTC) - timedelta(days=5), [2, 3]),
        (Time(NOW_JD - 21, format="jd"), [1, 2, 3]),
        (Time(NOW_JD - 21, format="jd").isot + "Z", [1, 2, 3]),
        ("2100-01-01T00:00:00Z", [3]),
    ],
    ids=["days", "hours", "timedelta", "Quantity", "nothing", "datetime", "Time", "text", "everything"],
)
def test_pruning(old_and_new, older_than, left):
    archive = old_and_new
    assert archive.prune(older_than) == 4 - len(left)
    assert support.ids(archive.find("ZTF_alerts")) == [CANDID + number for number in left]
    assert archive.prune(older_than) == 0


def test_pruning_takes_images_revisions_and_histories_along(old_and_new):
    archive = old_and_new
    archive.prune("30d")
    assert archive.info()["catalogs"]["ZTF_alerts"]["revisions"] == 0
    assert [document["_id"] for document in archive.find("ZTF_alerts_aux")] == ["Z1", "Z2"]
    connection = archive._database.connection
    rows = {number for (number,) in connection.execute('SELECT id FROM "ZTF_alerts"')}
    assert {number for (number,) in connection.execute('SELECT alert FROM "ZTF_alerts:images"')} <= rows
    # Numbers of rows are used again: nothing of the old alert may appear in the new one.
    archive.prune("2100-01-01T00:00:00Z")
    archive.ingest([support.ztf(7)])
    assert "cutoutScience" not in archive.find_one("ZTF_alerts", {"candid": CANDID + 7})


@pytest.mark.parametrize(
    "older_than", [5, 5.0, None, "long ago", datetime(2026, 1, 1), "2026-01-01", 5 * u.m, ""]
)
def test_what_is_no_time_prunes_nothing(old_and_new, older_than):
    with pytest.raises(ConfigurationError):
        old_and_new.prune(older_than)
    assert old_and_new.count("ZTF_alerts") == 4


# Backups -------------------------------------------------------------------------------------------------------------


def test_a_backup_is_an_archive_of_its_own(archive, tmp_path):
    archive.ingest(support.one_of_each().values(), keep="packet")
    target = archive.backup(tmp_path / "copy.db")
    assert target == tmp_path / "copy.db"
    archive.ingest([support.ztf(5)])
    with open_archive(target) as other:
        assert other.info()["catalogs"].keys() == archive.info()["catalogs"].keys()
        assert other.count("ZTF_alerts") == 1
        other.ingest([support.ztf(6), support.ztf(7)])
        assert other.count("ZTF_alerts") == 3
    assert archive.count("ZTF_alerts") == 2
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("night")) == [
        "copy.db"
    ]


def test_a_backup_never_replaces_a_file(archive, tmp_path):
    (tmp_path / "copy.db").write_text("precious")
    with pytest.raises(StorageError, match="never replaces"):
        archive.backup(tmp_path / "copy.db")
    with pytest.raises(StorageError):
        archive.backup(archive.path)
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_a_backup_into_a_folder_that_is_not_there(archive, tmp_path):
    with pytest.raises(StorageError, match=r"copy\.db|nowhere"):
        archive.backup(tmp_path / "nowhere" / "copy.db")


def test_what_a_broken_backup_left_does_not_hinder_the_next(archive, tmp_path):
    archive.ingest([support.ztf()])
    (tmp_path / "copy.db.part").write_bytes(b"half of a backup" * 1000)
    archive.backup(tmp_path / "copy.db")
    with open_archive(tmp_path / "copy.db", read_only=True) as other:
        assert other.count("ZTF_alerts") == 1


def test_a_backup_while_another_connection_writes(archive, tmp_path):
    stop = threading.Event()
    written = []

    def write():
        with open_archive(archive.path) as writer:
            number = 0
            while not stop.is_set():
                writer.ingest(support.plain(candid=number * 10 + k) for k in range(10))
                written.append(number)
                number += 1

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        while len(written) < 3:
            time.sleep(0.002)
        for number in range(5):
            before = len(written)
            target = archive.backup(tmp_path / f"copy{number}.db")
            with open_archive(target, read_only=True) as other:
                count = other.count("generic_alerts")
            assert count % 10 == 0
            assert count >= 10 * before
        stop.set()
        writer.result()
    assert archive.count("generic_alerts") == 10 * len(written)


# Threads and processes -----------------------------------------------------------------------------------------------


def test_threads_ask_while_one_ingests(archive):
    archive.ingest([support.ztf(0, **support.cutouts())])
    done = threading.Event()

    def ask(kind):
        rounds = 0
        while not done.is_set() or rounds < 3:
            rounds += 1
            if kind == 0:
                counts = [archive.count("ZTF_alerts"), archive.count("ZTF_alerts")]
                assert counts == sorted(counts)
            elif kind == 1:
                docs = archive.find("ZTF_alerts", sort="candid").docs
                assert len({document["_id"] for document in docs}) == len(docs)
                assert all(document["cutoutScience"]["stampData"] for document in docs)
            elif kind == 2:
                hits = archive.cone_search("ZTF_alerts", [(150.0, -20.0)] * 5, "1 deg").docs
                # The read of one statement sees whole batches.
                assert len(hits) % 5 == 0
            else:
                assert archive.object("ZTF20aaaaa000").alerts[0]["candid"] == CANDID
        return rounds

    with ThreadPoolExecutor(9) as pool:
        readers = [pool.submit(ask, number % 4) for number in range(8)]
        for start in range(1, 61, 10):
            archive.ingest(support.ztf(number, **support.cutouts()) for number in range(start, start + 10))
        done.set()
        assert all(reader.result(timeout=60) >= 3 for reader in readers)
    assert archive.count("ZTF_alerts") == 61


def test_threads_may_ingest_together(archive):
    def ingest(part):
        return archive.ingest(support.plain(candid=number) for number in range(part * 50, part * 50 + 100))

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(ingest, range(4)))
    assert sum(report.archived for report in reports) == archive.count("generic_alerts") == 250
    assert sum(report.duplicates for report in reports) == 150


def test_threads_that_have_ended_leave_no_open_files(archive):
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to count open files")
    archive.ingest([support.ztf()])

    def ask():
        assert archive.count("ZTF_alerts") == 1

    counts = []
    for _ in range(3):
        for _ in range(20):
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
        gc.collect()
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[-1] - counts[0] < 10


def test_a_result_may_be_read_in_another_thread_and_while_the_same_one_writes(archive):
    archive.ingest(support.ztf(number) for number in range(5))
    result = archive.find("ZTF_alerts")
    with ThreadPoolExecutor(1) as pool:
        assert len(pool.submit(lambda: result.docs).result()) == 5
    seen = []
    for document in archive.find("ZTF_alerts", limit=5):
        archive.ingest([support.ztf(10 + len(seen))])
        seen.append(document["candid"] - CANDID)
    assert seen == [0, 1, 2, 3, 4]
    assert archive.count("ZTF_alerts") == 10


def test_processes_read_while_one_writes(archive):
    code = """
import sys, time
from nuncius import open_archive
with open_archive(sys.argv[1], read_only=True) as archive:
    seen = []
    print("ready", flush=True)
    while not seen or seen[-1] < 200:
        seen.append(archive.count("generic_alerts"))
        assert len(archive.cone_search("generic_alerts", (10, 10), "1 arcsec")) % 20 == 0
    assert seen == sorted(seen) and all(count % 20 == 0 for count in seen), seen
print(len(seen))
"""
    archive.ingest([support.plain(candid=number, ra=10.0, dec=10.0) for number in range(20)])
    readers = [run(code, archive.path) for _ in range(2)]
    for reader in readers:
        assert reader.stdout.readline() == "ready\n"
    for start in range(20, 200, 20):
        archive.ingest(
            [support.plain(candid=number, ra=10.0, dec=10.0) for number in range(start, start + 20)]
        )
        time.sleep(0.01)
    for reader in readers:
        assert int(finish(reader)) >= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_has_connections_of_its_own(tmp_path):
    code = """
import os, sys, archive_support as s
from nuncius import open_archive
archive = open_archive(sys.argv[1])
archive.ingest([s.ztf(0)])
for how in range(6):
    child = os.fork()
    if child == 0:
        assert archive.count("ZTF_alerts") == 2 * how + 1
        archive.ingest([s.ztf(100 + how)])
        if how % 3 == 0:
            archive.close()
        if how % 3 == 1:
            sys.exit(0)  # runs the finalizers
        os._exit(0)
    archive.ingest([s.ztf(how + 1)])
    assert os.waitpid(child, 0)[1] == 0
    assert archive.count("ZTF_alerts") == 2 * how + 3
assert archive._database.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
archive.close()
"""
    code = code.replace("== 2 * how + 1\n", "in (2 * how + 1, 2 * how + 2)\n")
    finish(run(code, tmp_path / "a.db"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]
    with open_archive(tmp_path / "a.db", read_only=True) as archive:
        assert archive.count("ZTF_alerts") == 13


# Archives of earlier releases ----------------------------------------------------------------------------------------


def test_an_archive_of_layout_1_answers(tmp_path):
    path = tmp_path / "old.db"
    path.write_bytes(support.LAYOUT_1.read_bytes())
    with open_archive(path, read_only=True) as archive:
        assert archive.info()["layout"] == 1
        check_layout_1(archive)
    assert path.read_bytes() == support.LAYOUT_1.read_bytes()
    with open_archive(path) as archive:
        assert archive.info()["layout"] == 3
        check_layout_1(archive)
        # The same alerts again change nothing; new ones are taken.
        report = archive.ingest(layout_1_alerts())
        assert (report.archived, report.duplicates) == (0, 5)
        assert archive.ingest([support.ztf(9)]).archived == 1
        assert archive.count("ZTF_alerts") == 3


def test_an_archive_of_layout_1_takes_reference_catalogs(tmp_path):
    path = tmp_path / "old.db"
    path.write_bytes(support.LAYOUT_1.read_bytes())
    reader = Database(path, read_only=True)
    assert reader.catalogs("catalog") == []
    assert reader.catalogs("alerts") == reader.catalogs() == ["LSST_alerts", "PGIR_alerts", "ZTF_alerts"]
    with open_archive(path) as archive:
        archive.load_catalog("Gaia_EDR3", Table({"ra": [150.0], "dec": [-20.0]}), progress=False)
        assert "Gaia_EDR3" in archive.catalogs()
        matches = archive.crossmatch("ZTF_alerts", "Gaia_EDR3", "1 arcsec").docs
        assert [document["candid"] for document in matches] == [CANDID]
    # One that was opened before sees the change.
    assert reader.catalogs("catalog") == ["Gaia_EDR3"]
    assert reader.catalogs("alerts") == ["LSST_alerts", "PGIR_alerts", "ZTF_alerts"]
    reader.close()


def test_several_programs_may_bring_a_file_up_to_date_at_once(tmp_path):
    path = tmp_path / "old.db"
    path.write_bytes(support.LAYOUT_1.read_bytes())
    with ThreadPoolExecutor(6) as pool:
        for database in pool.map(lambda _: Database(path, read_only=False), range(6)):
            assert database.layout == 3
            database.close()
    with open_archive(path) as archive:
        check_layout_1(archive)


def test_a_change_of_layout_is_made_wholly_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "old.db"
    path.write_bytes(support.LAYOUT_1.read_bytes())
    monkeypatch.setattr(database_module, "VERSION", "nonsense")  # the last statement of the change fails
    monkeypatch.setattr(Database, "_check_layout", Database._bring_up_to_date)
    with pytest.raises((StorageError, TypeError)):
        Database(path, read_only=False)
    monkeypatch.undo()
    with open_archive(path, read_only=True) as archive:
        assert archive.info()["layout"] == 1
        check_layout_1(archive)
    with open_archive(path) as archive:
        assert archive.info()["layout"] == 3


def test_a_file_of_a_later_release_is_refused(tmp_path):
    with open_archive(tmp_path / "new.db") as archive:
        archive._database.connection.execute("PRAGMA user_version = 4")
    for read_only in (True, False):
        with pytest.raises(StorageError, match=r"later release.*pip install --upgrade"):
            open_archive(tmp_path / "new.db", read_only=read_only)


# Deadlines -----------------------------------------------------------------------------------------------------------

SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def test_a_deadline_breaks_off_what_takes_longer(tmp_path):
    database = Database(tmp_path / "a.db", read_only=False)
    begin = time.monotonic()
    with pytest.raises(DeadlineError, match="time that was given"), database.deadline(0.1), database.errors():
        database.connection.execute(SLOW).fetchone()
    assert time.monotonic() - begin < 5
    with pytest.raises(DeadlineError), database.deadline(0):
        pytest.fail("nothing is asked when the time is over already")
    with database.deadline(None), database.deadline(60):
        assert database.connection.execute("SELECT 1").fetchone() == (1,)
    database.check_deadline()
    # Afterwards there is none.
    assert database.catalogs() == []
    database.close()


def test_the_earlier_of_two_deadlines_holds(tmp_path):
    database = Database(tmp_path / "a.db", read_only=False)
    for outer, inner in ((0.1, 60), (60, 0.1)):
        with (
            pytest.raises(DeadlineError),
            database.deadline(outer),
            database.deadline(inner),
            database.errors(),
        ):
            database.connection.execute(SLOW).fetchone()
    with database.deadline(60):
        with database.deadline(0.05):
            time.sleep(0.06)
            with pytest.raises(DeadlineError):
                database.check_deadline()
        database.check_deadline()
        assert database.connection.execute("SELECT 1").fetchone() == (1,)
    database.close()


def test_a_deadline_is_of_its_thread(tmp_path):
    database = Database(tmp_path / "a.db", read_only=False)

    def count():
        statement = SLOW.replace("FROM n)", "FROM n WHERE i < 300000)")
        return database.connection.execute(statement).fetchone()[0]

    with ThreadPoolExecutor(1) as pool, database.deadline(0.001):
        assert pool.submit(count).result() == 300_000
        with pytest.raises(DeadlineError), database.errors():
            count()
    database.close()


def test_a_write_that_is_broken_off_changes_nothing(tmp_path):
    database = Database(tmp_path / "a.db", read_only=False)

    def write():
        with database.writing() as connection:
            database.create_reference("half")
            connection.execute(SLOW).fetchone()

    with pytest.raises(DeadlineError), database.deadline(0.1):
        write()
    found = database.connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'")
    assert found.fetchone() == (0,)
    with database.writing():
        database.create_catalog("ZTF_alerts")
    assert database.catalogs("alerts") == ["ZTF_alerts"]
    database.close()


# Archives of earlier releases, in detail -----------------------------------------------------------------------------


def layout_1_alerts():
    each = support.one_of_each()
    return [
        support.ztf(0, objectId="ZTF20aa", candidate={"rb": 0.25}, prv_candidates=[builders.ztf_earlier()], **support.cutouts()),
        support.ztf(0, objectId="ZTF20aa", candidate={"rb": 0.75}, prv_candidates=[builders.ztf_earlier()], **support.cutouts()),
        support.annotated(support.ztf(1), antares={"tags": ["sn"]}),
        each["LSST_alerts"],
        each["PGIR_alerts"],
    ]  # fmt: skip


def check_layout_1(archive):
    assert [name for name in archive.catalogs() if not name.endswith("_aux")] == [
        "LSST_alerts",
        "PGIR_alerts",
        "ZTF_alerts",
    ]
    first, second = archive.find("ZTF_alerts", sort="candid")
    assert (first["candid"], second["candid"]) == (CANDID, CANDID + 1)
    assert first["candidate"]["rb"] == 0.75
    assert first["cutoutScience"] == support.cutouts()["cutoutScience"]
    assert second["annotations"] == {"antares": {"tags": ["sn"]}}
    assert archive.revisions("ZTF_alerts", first["_id"])[0]["candidate"]["rb"] == 0.25
    assert len(archive.cone_search("ZTF_alerts", (150.0, -20.0), "1 arcsec")) == 1
    assert [raw[:3] for raw in archive.packets("PGIR_alerts")] == [b"Obj"]
    (source,) = archive.find("LSST_alerts", {"diaSourceId": 170032915988086813})
    assert source["diaSource"]["psfLnL"] != source["diaSource"]["psfLnL"]  # NaN
    assert len(archive.object("ZTF20aa").light_curve) == 2
    assert len(archive.object("PGIR21adzgse").light_curve) == 2
    assert archive.count("LSST_alerts_aux", {"prvDiaSources.diaSourceId": 5}) == 1


def test_the_kept_archive_has_layout_1():
    assert support.LAYOUT_1.stat().st_size < 300_000
    connection = sqlite3.connect(f"{support.LAYOUT_1.as_uri()}?mode=ro&immutable=1", uri=True)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


def test_real_packets_come_back_from_a_backup(archive, tmp_path, packets_dir):
    alerts = [*islice(read_packets(packets_dir / "ztf"), 3)]
    assert len(alerts) == 3
    archive.ingest(alerts, keep="packet")
    with open_archive(archive.backup(tmp_path / "copy.db"), read_only=True) as other:
        assert list(other.packets("ZTF_alerts")) == [alert.raw for alert in alerts]
