"""Disks that are full or read-only, files that are no archives, network file systems, busy and damaged files."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

import archive_support as support
from nuncius import open_archive
from nuncius.archives.embedded import database as database_module
from nuncius.archives.embedded.database import APPLICATION_ID, VERSION, network_file_system
from nuncius.errors import NotFoundError, StorageError

TESTS = Path(__file__).parents[1]
NOBODY = 65534


@pytest.fixture
def archive(tmp_path):
    with open_archive(tmp_path / "night.db") as opened:
        yield opened


# Full disks ----------------------------------------------------------------------------------------------------------


def allow(archive, pages):
    """Limit the file to so many pages for the thread that writes."""
    connection = archive._database.writer.submit(lambda: archive._database.connection).result()
    connection.execute(f"PRAGMA max_page_count = {pages}")


def fill(archive, spare=3):
    """Let the file grow by a few pages only, as on a disk that is almost full."""
    allow(archive, archive._database.connection.execute("PRAGMA page_count").fetchone()[0] + spare)


def test_a_full_disk_is_an_error_and_what_is_in_the_archive_stays(archive):
    archive.ingest(support.numbered_batch(0))
    before = archive.find("ZTF_alerts").docs
    fill(archive)
    source = support.Source([support.numbered_batch(number) for number in (1, 2, 3)])
    with pytest.raises(StorageError, match="the disk is full") as caught:
        archive.ingest(source)
    assert caught.value.position == str(archive.path)
    assert source.asked == 2, "no more is taken once a batch could not be written"
    assert source.acknowledged == []
    assert archive.find("ZTF_alerts").docs == before
    with open_archive(archive.path, read_only=True) as other:
        assert other.find("ZTF_alerts").docs == before
    allow(archive, 1000000)
    assert archive.ingest(support.numbered_batch(1)).archived == support.BATCH
    assert support.check_whole(archive.path, [0, 1]) == 2


def test_a_disk_that_fills_up_later_keeps_the_batches_before(archive):
    archive.ingest(support.numbered_batch(0))
    fill(archive, 60)
    source = support.Source([support.numbered_batch(number) for number in range(1, 14)])
    with pytest.raises(StorageError, match="the disk is full"):
        archive.ingest(source)
    whole = source.asked - 2
    assert 0 < whole < 11
    assert archive.count("ZTF_alerts") == (1 + whole) * support.BATCH
    assert len(source.acknowledged) == whole * support.BATCH


def test_no_room_for_a_new_catalog(archive):
    archive.ingest([support.ztf()])
    fill(archive, 1)
    with pytest.raises(StorageError, match="the disk is full"):
        archive.ingest([support.lsst()])
    assert archive.catalogs() == ["ZTF_alerts", "ZTF_alerts_aux"]
    allow(archive, 1000000)
    archive.ingest([support.lsst()])
    assert archive.count("LSST_alerts") == 1


def test_the_report_does_not_count_what_was_undone(archive, monkeypatch):
    from nuncius.archives.embedded import _sync as embedded
    from nuncius.archives.embedded.reports import IngestReport

    reports = []

    def noted():
        reports.append(IngestReport())
        return reports[-1]

    monkeypatch.setattr(embedded, "IngestReport", noted)
    archive.ingest([support.ztf()])
    fill(archive, 0)
    with pytest.raises(StorageError):
        archive.ingest(support.numbered_batch(1))
    assert (reports[-1].received, reports[-1].archived) == (0, 0)


def test_a_backup_to_a_full_disk_leaves_no_file(archive, tmp_path, monkeypatch):
    archive.ingest(support.numbered_batch(0))
    connect = sqlite3.connect

    def small(*arguments, **options):
        connection = connect(*arguments, **options)
        if str(arguments[0]).endswith(".part"):
            connection.execute("PRAGMA max_page_count = 5")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(StorageError):
        archive.backup(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
    monkeypatch.undo()
    archive.backup(tmp_path / "copy.db")
    assert support.check_whole(tmp_path / "copy.db", [0]) == 1


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux to mount a small disk"
)
def test_a_disk_that_is_really_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1536k", "none", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"may not mount a small disk: {mounted.stderr.strip()}")
    try:
        with open_archive(disk / "night.db") as archive:
            archive.ingest(support.numbered_batch(0))
            source = support.Source([support.numbered_batch(number) for number in range(1, 20)])
            with pytest.raises(StorageError) as caught:
                archive.ingest(source)
            assert "full" in str(caught.value)
            kept = source.asked - 2
            assert archive.count("ZTF_alerts") == (kept + 1) * support.BATCH
            assert len(source.acknowledged) == kept * support.BATCH
        assert support.check_whole(disk / "night.db", range(kept + 1)) == kept + 1
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Read-only -----------------------------------------------------------------------------------------------------------


def as_nobody(code, *arguments):
    """Run a program that gives up root's rights when it has loaded what it needs; return what it prints."""
    preamble = f"""
import os, sys
import archive_support as s
from nuncius import open_archive
from nuncius.errors import NunciusError, StorageError
from pathlib import Path
import tempfile
with tempfile.TemporaryDirectory() as folder, open_archive(Path(folder) / "warm.db") as warm:
    warm.ingest([s.ztf()])
    warm.find("ZTF_alerts").docs
if os.geteuid() == 0:
    os.setgid({NOBODY})
    os.setuid({NOBODY})
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", preamble + code, *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=60, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def shelf():
    """Give a folder with an archive; nobody may write the folder or the file, everybody may read them."""
    if not hasattr(os, "setuid"):
        pytest.skip("needs the permissions of Unix")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open_archive(folder / "night.db") as archive:
            archive.ingest([support.ztf()])
        (folder / "night.db").chmod(0o444)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


WRITE = """
try:
    with open_archive(sys.argv[1]) as archive:
        archive.ingest([s.ztf(1)])
except StorageError as error:
    print("StorageError:", error)
"""


def test_a_file_that_may_not_be_written(shelf):
    said = as_nobody(WRITE, shelf / "night.db")
    assert said.startswith("StorageError:")
    assert "permissions" in said
    assert "read_only=True" in said
    with open_archive(shelf / "night.db", read_only=True) as archive:
        assert archive.count("ZTF_alerts") == 1


def test_a_new_archive_where_nobody_may_write(shelf):
    said = as_nobody(WRITE, shelf / "new.db")
    assert said.startswith("StorageError:")
    assert "write" in said
    assert not (shelf / "new.db").exists()


def test_an_archive_on_a_medium_that_is_read_only_can_be_read(shelf):
    code = """
with open_archive(sys.argv[1], read_only=True) as archive:
    print(archive.count("ZTF_alerts"))
"""
    assert as_nobody(code, shelf / "night.db") == "1\n"


def test_reading_alone_never_writes(tmp_path):
    with open_archive(tmp_path / "night.db") as archive:
        archive.ingest([support.ztf()])
    before = (tmp_path / "night.db").read_bytes()
    with open_archive(tmp_path / "night.db", read_only=True) as archive:
        archive.find("ZTF_alerts").docs  # noqa: B018 - fetches
        with pytest.raises(StorageError, match="read-only"):
            archive.ingest([support.ztf(1)])
        with pytest.raises(sqlite3.OperationalError):
            archive._database.connection.execute("DELETE FROM catalogs")
    assert (tmp_path / "night.db").read_bytes() == before


# What is no archive --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    "content", [b"SIMPLE  =                    T" * 400, b"xy" * 30, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database(tmp_path, content, read_only):
    path = tmp_path / "image.fits"
    path.write_bytes(content)
    with pytest.raises(StorageError) as caught:
        open_archive(path, read_only=read_only)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("application", [0, 0x12345678])
def test_the_database_of_another_program(tmp_path, application, read_only):
    path = tmp_path / "firefox.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url)")
    connection.execute(f"PRAGMA application_id = {application}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="no archive of nuncius"):
        open_archive(path, read_only=read_only)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["firefox.db"]


@pytest.mark.parametrize("version", [VERSION + 1, 1000])
@pytest.mark.parametrize("read_only", [True, False])
def test_an_archive_of_a_later_release(archive, tmp_path, version, read_only):
    archive.ingest([support.ztf()])
    path = archive.backup(tmp_path / "later.db")
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(
        StorageError, match=rf"later release.*layout {version}.*pip install --upgrade nuncius"
    ):
        open_archive(path, read_only=read_only)
    assert path.read_bytes() == before


def test_an_empty_file_becomes_an_archive_unless_it_is_for_reading(tmp_path):
    path = tmp_path / "empty.db"
    path.touch()
    with pytest.raises(StorageError):
        open_archive(path, read_only=True)
    assert path.stat().st_size == 0
    with open_archive(path) as archive:
        archive.ingest([support.ztf()])
        assert archive._database.connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_folders_and_missing_folders(tmp_path):
    with pytest.raises(StorageError, match="is a folder"):
        open_archive(tmp_path)
    with pytest.raises(StorageError, match="no folder"):
        open_archive(tmp_path / "a" / "b.db")
    with pytest.raises(NotFoundError):
        open_archive(tmp_path / "a" / "b.db", read_only=True)
    with pytest.raises(StorageError, match="is a folder"):
        open_archive("")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_says_so(tmp_path):
    path = tmp_path / "night.db"
    with open_archive(path) as archive:
        archive.ingest(support.numbered_batch(0))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    with (
        pytest.raises(StorageError, match=r"damaged|not an SQLite file") as caught,
        open_archive(path) as archive,
    ):
        archive.find("ZTF_alerts").docs  # noqa: B018 - fetches
    assert "backup" in str(caught.value)


# Others who write ----------------------------------------------------------------------------------------------------


def test_another_program_that_writes_for_too_long(archive, monkeypatch):
    archive.ingest([support.ztf()])
    monkeypatch.setattr(database_module, "_BUSY_S", 0.2)
    source = support.Source([[support.ztf(1)], [support.ztf(2)]])
    with open_archive(archive.path) as other:
        archive._database.connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="another program"):
            other.ingest(source)
        assert source.acknowledged == []
        assert other.count("ZTF_alerts") == 1, "readers don't wait for writers"
        archive._database.connection.execute("ROLLBACK")
        assert other.ingest([support.ztf(1)]).archived == 1


def test_a_writer_waits_for_another_one(archive):
    archive.ingest([support.ztf()])
    archive._database.connection.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: archive._database.connection)
    timer.start()
    done = []

    def write():
        with open_archive(archive.path) as other:
            done.append(other.ingest([support.ztf(1)]).archived)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join(0.3)
    assert done == []
    archive._database.connection.execute("COMMIT")
    thread.join(10)
    timer.join()
    assert done == [1]


def test_an_error_within_a_transaction_undoes_all_of_it(archive, monkeypatch):
    from nuncius.archives.embedded import ingest

    archive.ingest([support.ztf()])

    def failing(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ingest, "share_loci", failing)
    source = support.Source([[support.ztf(1), support.lsst()], [support.ztf(2)]])
    with pytest.raises(KeyboardInterrupt):
        archive.ingest(source)
    monkeypatch.undo()
    assert source.acknowledged == []
    assert archive.catalogs() == ["ZTF_alerts", "ZTF_alerts_aux"]
    assert archive.count("ZTF_alerts") == 1
    assert archive.ingest([support.ztf(1), support.lsst()]).archived == 2


# Network file systems ------------------------------------------------------------------------------------------------

MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
25 21 0:22 / /proc rw,nosuid shared:5 - proc proc rw
40 21 0:40 / /home rw,relatime shared:20 - nfs4 server:/home rw,vers=4.2
41 40 8:2 / /home/me/scratch rw - xfs /dev/sdb1 rw
42 21 0:41 / /data\040disk rw shared:21 master:3 - cifs //server/data rw
43 21 0:42 / /sshfs rw - fuse.sshfs me@host: rw
44 21 0:43 / /homework rw - btrfs /dev/sdc1 rw
45 21 0:44 / /mnt rw - ext4 /dev/sdd1 rw
46 21 0:45 / /mnt rw - lustre 10.0.0.1@tcp:/fs rw
47 21 0:46 / /back rw - nfs server:/x rw
48 21 0:47 / /back rw - ext4 /dev/sde1 rw
49 21 0:48 / /with-dash rw - ext4 /dev/disk - nfs rw
broken line
50 21
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/night.db", None),
        ("/home/me/night.db", "nfs4"),
        ("/home", "nfs4"),
        ("/home/me/scratch/night.db", None),
        ("/home/me/scratch2/night.db", "nfs4"),
        ("/homework/night.db", None),
        ("/data disk/night.db", "cifs"),
        ("/data/night.db", None),
        ("/sshfs/a/b/c.db", "fuse.sshfs"),
        ("/mnt/night.db", "lustre"),
        ("/back/night.db", None),
        ("/with-dash/night.db", None),
    ],
)
def test_network_file_systems_are_recognised(path, kind):
    assert network_file_system(Path(path), MOUNTS) == kind


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "gpfs", "beegfs", "fuse.sshfs"]
)
def test_a_home_on_a_network_is_recognised(kind):
    mounts = f"21 1 0:30 / / rw,relatime - {kind} server:/ rw\n"
    assert network_file_system(Path("/home/me/night.db"), mounts) == kind


def test_unknown_mounts_are_no_network():
    assert network_file_system(Path("/night.db"), "") is None
    assert network_file_system(Path("/night.db"), "garbage\n - \n") is None


def test_an_archive_on_a_network_is_refused_and_can_be_read(archive, monkeypatch):
    archive.ingest([support.ztf()])
    monkeypatch.setattr(database_module, "network_file_system", lambda *_: "nfs4")
    if not Path("/proc/self/mountinfo").is_file():
        pytest.skip("the file system is only known on Linux")
    with pytest.raises(StorageError, match=r"network file system \(nfs4\).*local disk"):
        open_archive(archive.path)
    with open_archive(archive.path, read_only=True) as other:
        assert other.count("ZTF_alerts") == 1


def test_the_write_ahead_log_must_be_possible(tmp_path, monkeypatch):
    class Refusing(database_module._Guarded):
        def execute(self, statement, *arguments):
            return super().execute(
                statement.replace("journal_mode = WAL", "journal_mode = DELETE"), *arguments
            )

    monkeypatch.setattr(database_module, "_Guarded", Refusing)
    with pytest.raises(StorageError, match=r"write-ahead log .*'delete'"):
        open_archive(tmp_path / "night.db")
