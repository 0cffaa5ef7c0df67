"""kill -9 during an ingest: nothing that was acknowledged is lost, nothing is there by half or twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import archive_support as support
from nuncius import open_archive

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill -9")
TESTS = Path(__file__).parents[1]


def environment():
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}


def test_ten_kills_during_an_ingest(tmp_path):
    done = subprocess.run(
        [sys.executable, str(TESTS / "archive_support.py"), str(tmp_path), "10"],
        env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("kill ") == 10
    # In the end, and in one go: all that was ever acknowledged.
    acknowledged = support.noted(tmp_path / "acknowledged")
    assert len(acknowledged) >= 10
    assert support.check_whole(tmp_path / "killed.db", acknowledged) >= len(set(acknowledged))


def test_a_writer_killed_within_a_transaction_leaves_the_state_before(tmp_path):
    code = """
import os, signal, sys
import archive_support as s
from nuncius import open_archive
from nuncius.archives.embedded import ingest
archive = open_archive(sys.argv[1])
archive.ingest(s.numbered_batch(0))
def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
ingest.share_loci = killed  # the last that is done within a transaction
archive.ingest(s.numbered_batch(1))
"""
    path = tmp_path / "killed.db"
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=environment(), timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert support.check_whole(path, [0]) == 1
    with open_archive(path) as archive:
        report = archive.ingest([*support.numbered_batch(0), *support.numbered_batch(1)])
        assert (report.archived, report.duplicates) == (support.BATCH, support.BATCH)
    assert support.check_whole(path, [0, 1]) == 2


def test_a_reader_goes_on_when_the_writer_is_killed(tmp_path):
    code = """
import sys, time
import archive_support as s
from nuncius import open_archive
archive = open_archive(sys.argv[1])
for number in range(10000):
    archive.ingest(s.numbered_batch(number))
    print(number, flush=True)
"""
    path = tmp_path / "killed.db"
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "0\n"
    with open_archive(path, read_only=True) as archive:
        assert archive.count("ZTF_alerts") >= support.BATCH
        time.sleep(0.05)
        writer.kill()
        lines = writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        last = int(lines[-1]) if lines else 0
        found = archive.count("ZTF_alerts")
        assert found % support.BATCH == 0
        assert found >= (last + 1) * support.BATCH
        with open_archive(path) as next_writer:
            next_writer.ingest(support.numbered_batch(99_999))
        assert archive.count("ZTF_alerts") == found + support.BATCH


def test_a_killed_backup_leaves_no_file_that_looks_whole(tmp_path):
    code = """
import os, signal, sqlite3, sys
import archive_support as s
from nuncius import open_archive
archive = open_archive(sys.argv[1])
archive.ingest(s.numbered_batch(0))
class Killing:
    def __init__(self, connection):
        self._connection = connection
    def backup(self, target):
        def step(*_):
            os.kill(os.getpid(), signal.SIGKILL)
        self._connection.backup(target, pages=5, progress=step)
    def __getattr__(self, name):
        return getattr(self._connection, name)
database = archive._database
database._local.connection = Killing(database.connection)
archive.backup(sys.argv[2])
"""
    path, copy = tmp_path / "night.db", tmp_path / "copy.db"
    done = subprocess.run([sys.executable, "-c", code, str(path), str(copy)], env=environment(), timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert not copy.exists()
    assert (tmp_path / "copy.db.part").exists()
    with open_archive(path) as archive:
        archive.backup(copy)
    assert support.check_whole(copy, [0]) == 1


@pytest.mark.parametrize("moment", [1, 2, 5, 9])
def test_a_writer_killed_between_the_transactions_of_a_batch_leaves_whole_alerts(tmp_path, moment):
    code = """
import os, signal, sys
import archive_support as s
from nuncius import open_archive
from nuncius.archives.embedded import ingest
archive = open_archive(sys.argv[1])
archive.ingest(s.numbered_batch(0), keep="packet")
ingest._TRANSACTION_BYTES = 4 * len(s.numbered_batch(1)[0].raw)
enter, entered = ingest.enter, []
def killed(*arguments):
    enter(*arguments)
    entered.append(arguments)
    if len(entered) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
ingest.enter = killed
archive.ingest(s.numbered_batch(1), keep="packet")
"""
    path = tmp_path / "killed.db"
    command = [sys.executable, "-c", code, str(path), str(moment)]
    done = subprocess.run(command, env=environment(), timeout=60)
    assert done.returncode == -signal.SIGKILL
    batches = support.numbered_batch(0), support.numbered_batch(1)
    with open_archive(path) as archive:
        kept = {document["candid"]: document for document in archive.find("ZTF_alerts")}
        expected = [alert.alert_id for alert in batches[1]][: len(kept) - support.BATCH]
        assert len(expected) >= 4 * moment
        assert set(kept) == {alert.alert_id for alert in batches[0]} | set(expected)
        for alert in (*batches[0], *batches[1][: len(expected)]):
            assert kept[alert.alert_id]["cutoutScience"] == alert.packet["cutoutScience"]
        histories = {entry["_id"]: len(entry["prv_candidates"]) for entry in archive.find("ZTF_alerts_aux")}
        assert histories == {"ZTF00000": support.BATCH, "ZTF00001": len(expected)}
        # The batch was not acknowledged and comes again.
        report = archive.ingest(batches[1], keep="packet")
        assert (report.archived, report.duplicates) == (support.BATCH - len(expected), len(expected))
        assert list(archive.packets("ZTF_alerts")) == [alert.raw for batch in batches for alert in batch]
    assert support.check_whole(path, [0, 1]) == 2
