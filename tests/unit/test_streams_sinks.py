"""Where alerts are kept: files, Parquet, and a command for each; durable, whole, and never steered by a stranger's text."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

import builders
from nuncius import Alert
from nuncius._core import files as durable
from nuncius.alerts import Notice, Origin
from nuncius.alerts.packets import open_packet
from nuncius.errors import ConfigurationError, MissingExtraError, StorageError
from nuncius.streams.command import CommandSink
from nuncius.streams.files import FileSink, as_json
from nuncius.streams.parquet import ParquetSink, night_of
from streams_support import run_program

MORNING = datetime(2026, 11, 21, 3, 4, 5, tzinfo=UTC)


def at(offset, *, topic="night", broker=None, timestamp=MORNING):
    return Origin("kafka", topic, 0, offset, timestamp, broker=broker)


def alert(number=0, *, origin=None, **values):
    raw = json.dumps({"candid": number, "objectId": f"A{number}", "jd": builders.JD, **values}).encode()
    return Alert(raw, open_packet(raw), origin=origin)


def notice(**values):
    given = {
        "id": "ivo://nasa.gsfc/1",
        "kind": "gcn.circulars",
        "time": MORNING,
        "ra": 10.5,
        "dec": -3.25,
        "radius_deg": 0.5,
        "text": "a burst",
        "packet": {"event": "1"},
        "raw": b"<xml/>",
    }
    return Notice(**given | values)


def shown(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Files that are whole -------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / ("x" * 250)
    durable.write_durably(path, b"old")
    durable.write_whole(path, b"new")
    assert path.read_bytes() == b"new"

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        durable.write_durably(path, b"newer")
    assert path.read_bytes() == b"new"
    assert shown(tmp_path) == [path.name]


def test_files_can_be_read_by_those_whom_the_user_lets_read(tmp_path):
    before = os.umask(0o022)
    try:
        durable.write_durably(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_new_folders_reach_the_disk(tmp_path, monkeypatch):
    synced = []
    plain = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), plain(handle)))
    durable.make_folder(tmp_path / "a" / "b")
    assert sorted(synced) == sorted(path.stat().st_ino for path in (tmp_path, tmp_path / "a"))
    durable.make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs renameat2 of Linux")
def test_folders_change_places(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert durable.exchange(tmp_path / "a", tmp_path / "b")
    assert shown(tmp_path) == ["a/b", "b/a"]
    assert not durable.exchange(tmp_path / "a", tmp_path / "missing")
    assert shown(tmp_path) == ["a/b", "b/a"]


# Files of alerts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_alerts_and_notices_are_kept_as_json(tmp_path, form):
    FileSink(tmp_path, form).write([alert(7, origin=at(3)), notice()])
    if form == "json":
        found = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("*.json"))]
    else:
        found = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    found.sort(key=lambda item: item["survey"])
    assert [item["survey"] for item in found] == ["gcn", "generic"]
    burst, star = found
    assert (star["alert_id"], star["origin"], star["packet"]["objectId"]) == (7, "kafka:night[0]@3", "A7")
    assert (burst["kind"], burst["ra"], burst["text"]) == ("gcn.circulars", 10.5, "a burst")
    assert burst["time"] == "2026-11-21T03:04:05+00:00"
    assert burst["packet"] == {"event": "1"}


def test_packets_are_kept_as_they_came(tmp_path):
    FileSink(tmp_path, "avro").write([alert(7), notice()])
    assert {path.suffix: path.read_bytes() for path in tmp_path.rglob("*.*")} == {
        ".avro": alert(7).raw,
        ".packet": b"<xml/>",
    }


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "a\0b", "é" * 90, "x" * 500, "~", "\ud800"])
def test_no_id_leads_out_of_the_folder(tmp_path, name):
    folder = tmp_path / "in"
    FileSink(folder).write([alert(7, candid=name)])
    assert len(shown(tmp_path)) == 1
    assert shown(tmp_path)[0].startswith("in/generic/")


def test_ids_that_differ_only_in_odd_characters_are_kept_apart(tmp_path):
    FileSink(tmp_path).write([notice(id=text) for text in ("a/b", "a:b", "a_b")])
    assert len(shown(tmp_path)) == 3


def test_lines_of_two_writers_do_not_mix(tmp_path):
    """Each cuts half a line that it finds, which must not be the one that the other is just writing."""
    sinks = [FileSink(tmp_path, "jsonl") for _ in range(4)]
    batches = [[alert(100 * number + index, pad="x" * 5000) for index in range(20)] for number in range(4)]

    def write(sink, batch):
        for item in batch:
            sink.write([item])

    threads = [threading.Thread(target=write, args=pair) for pair in zip(sinks, batches, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "alerts.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["alert_id"] for line in lines) == sorted(
        item.alert_id for batch in batches for item in batch
    )


def test_a_folder_that_can_not_be_written_is_told(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="not acknowledged") as caught:
        FileSink(tmp_path / "taken").write([alert()])
    assert str(tmp_path) in str(caught.value)


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="jsonl"):
        FileSink(tmp_path, "csv")


# Parquet --------------------------------------------------------------------------------------------------------------


def rows(folder):
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(
        f"SELECT *, night FROM read_parquet('{folder}/night=*/*.parquet', hive_partitioning = true)"
    )
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@pytest.mark.parametrize(
    ("item", "night"),
    [
        (alert(jd=2460000.4999), date(2023, 2, 24)),
        (alert(jd=2460000.5), date(2023, 2, 25)),
        (alert(jd=None, origin=at(0)), date(2026, 11, 21)),
        (alert(jd=1e300, origin=at(0)), date(2026, 11, 21)),
        (alert(jd=-1e9, origin=at(0)), date(2026, 11, 21)),
        (notice(), date(2026, 11, 21)),
    ],
)
def test_the_night_is_the_date_of_the_exposure(item, night):
    assert night_of(item) == night


def test_an_alert_without_any_time_belongs_to_today():
    before = datetime.now(UTC).date()
    assert before <= night_of(alert(jd=None)) <= datetime.now(UTC).date()


def test_values_come_back_from_parquet(tmp_path):
    star = Alert(builders.ztf(), open_packet(builders.ztf()), origin=at(41, topic="ztf_public", broker="ztf"))
    ParquetSink(tmp_path).write([star, notice(), alert(2**62, jd=builders.JD, objectId="\ud800x")])
    found = {row["survey"]: row for row in rows(tmp_path)}
    ztf = found["ztf"]
    assert ztf["alert_id"] == str(star.alert_id) == "2475433850215010007"
    for name in (
        "object_id",
        "ra",
        "dec",
        "mjd",
        "band",
        "mag",
        "mag_err",
        "flux_njy",
        "flux_err_njy",
        "score",
    ):
        assert ztf[name] == getattr(star, name)
    assert (ztf["broker"], ztf["topic"], ztf["partition"], ztf["offset"]) == ("ztf", "ztf_public", 0, 41)
    assert str(ztf["night"]) == "2020-05-31"
    assert ztf["packet"] is None
    assert found["gcn"]["mag"] is None
    assert found["gcn"]["ra"] == 10.5
    assert found["generic"]["alert_id"] == str(2**62)
    assert found["generic"]["topic"] is None


def test_packets_are_kept_as_json_without_images(tmp_path):
    image = {"fileName": "a.fits.gz", "stampData": b"\x1f\x8b" + bytes(500)}
    raw = builders.ztf(cutoutScience=image)
    ParquetSink(tmp_path, packets=True).write([Alert(raw, open_packet(raw)), notice()])
    found = {row["survey"]: json.loads(row["packet"]) for row in rows(tmp_path)}
    assert found["gcn"] == {"event": "1"}
    assert found["ztf"]["candidate"]["magpsf"] == 18.5
    assert "cutoutScience" not in found["ztf"]


def test_pandas_reads_the_folder(tmp_path):
    pandas = pytest.importorskip("pandas")
    ParquetSink(tmp_path).write([alert(number) for number in range(3)])
    table = pandas.read_parquet(tmp_path)
    assert sorted(table.alert_id) == ["0", "1", "2"]
    assert set(table.night.astype(str)) == {"2020-05-31"}


def test_nothing_is_overwritten_and_nothing_half_written_is_seen(tmp_path, monkeypatch):
    sink = ParquetSink(tmp_path)
    sink.write([alert(1)])
    sink.write([alert(1)])
    assert len(rows(tmp_path)) == 2

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left.*not acknowledged"):
        sink.write([alert(2)])
    assert len(shown(tmp_path)) == 3  # with the lock


def test_a_missing_library_is_named_with_its_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nuncius\[parquet\]'"):
        ParquetSink(tmp_path)


def test_many_small_files_become_one(tmp_path):
    sink = ParquetSink(tmp_path)
    for number in range(10):
        sink.write([alert(2 * number, origin=at(number)), alert(2 * number + 1)])
        sink.write([alert(number, jd=builders.JD + 1)])
    before = sorted(map(str, rows(tmp_path)))
    assert sink.compact("2020-05-31") == 9
    assert len(list(tmp_path.glob("night=2020-05-31/*"))) == 1
    assert len(list(tmp_path.glob("night=2020-06-01/*"))) == 10
    assert sink.compact() == 9
    assert sink.compact() == 0
    assert sorted(map(str, rows(tmp_path))) == before
    assert not (tmp_path / ".compacting").exists()


def test_what_was_delivered_twice_is_one_row_after_compacting(tmp_path):
    sink = ParquetSink(tmp_path)
    twice = [alert(1, origin=at(1)), alert(2, origin=at(2))]
    sink.write([*twice, alert(3)])
    sink.write([*twice, alert(3), alert(1, origin=at(5))])
    sink.compact()
    # Those without a place may be others with the same values.
    assert sorted((row["alert_id"], row["offset"]) for row in rows(tmp_path) if row["topic"]) == [
        ("1", 1), ("1", 5), ("2", 2),
    ]  # fmt: skip
    assert len(rows(tmp_path)) == 5


def test_large_nights_become_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr("nuncius.streams.parquet._FILE_BYTES", 20_000)
    monkeypatch.setattr("nuncius.streams.parquet._GROUP_BYTES", 20_000)
    sink = ParquetSink(tmp_path, packets=True)
    for number in range(12):
        sink.write([alert(number, noise=os.urandom(3000).hex())])
    assert sink.compact() > 0
    assert 2 <= len(list(tmp_path.glob("night=*/*"))) < 12
    assert sorted(int(row["alert_id"]) for row in rows(tmp_path)) == list(range(12))


def test_files_of_others_stop_the_compaction(tmp_path):
    sink = ParquetSink(tmp_path)
    sink.write([alert(1)])
    sink.write([alert(2)])
    (tmp_path / "night=2020-05-31" / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"notes\.txt was not written by"):
        sink.compact()
    (tmp_path / "night=2020-05-31" / "notes.txt").rename(tmp_path / "night=2020-05-31" / "notes.parquet")
    with pytest.raises(StorageError, match="Parquet"):
        sink.compact()
    (tmp_path / "night=2020-05-31" / "notes.parquet").unlink()
    assert sink.compact() == 1


def test_no_date_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="2026-11-20"):
        ParquetSink(tmp_path).compact("../..")


def test_a_folder_without_locks_is_written_but_not_compacted(tmp_path, monkeypatch):
    import fcntl

    def none(file, how):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    sink = ParquetSink(tmp_path)
    sink.write([alert(1)])
    with pytest.raises(StorageError, match="without locks"):
        sink.compact()
    assert len(rows(tmp_path)) == 1


def test_a_sink_that_writes_meanwhile_loses_nothing(tmp_path):
    sink = ParquetSink(tmp_path)
    sink.write([alert(0)])
    written = [0]
    is_over = threading.Event()

    def write():
        while not is_over.is_set():
            written[0] += 1
            sink.write([alert(written[0])])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(10):
            ParquetSink(tmp_path).compact()
    finally:
        is_over.set()
        thread.join()
    assert sorted(int(row["alert_id"]) for row in rows(tmp_path)) == list(range(written[0] + 1))


_KILLS = """
import itertools, os, shutil, sys
from pathlib import Path
from nuncius.streams import parquet as module
from nuncius._core import files
folder, work, swap = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "swap"

def rows(sink):
    read = sink._parquet.ParquetFile
    return sorted(
        row["alert_id"] for path in work.glob("night=*/*.parquet") for row in read(path).read().to_pylist()
    )

def dying(function, left):
    def step(*arguments, **options):
        if left[0] == 0:
            os._exit(9)
        left[0] -= 1
        result = function(*arguments, **options)
        if left[0] == 0:
            os._exit(9)
        left[0] -= 1
        return result
    return step

if not swap:
    module.exchange = lambda one, other: False
for count in itertools.count():
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder, work)
    child = os.fork()
    if child == 0:
        left = [count]
        os.fsync, Path.rename = dying(os.fsync, left), dying(Path.rename, left)
        shutil.rmtree, module.exchange = dying(shutil.rmtree, left), dying(module.exchange, left)
        os.unlink = dying(os.unlink, left)
        module.ParquetSink(work).compact()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sink = module.ParquetSink(work)
    seen = rows(sink)
    sink.write([])
    sink.compact()
    print(code, len(seen), len(rows(sink)), len(list(work.glob("night=*/*"))), flush=True)
    if code == 0:
        break
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs renameat2 of Linux")
@pytest.mark.parametrize("way", ["swap", "rename"])
def test_a_compaction_killed_at_any_step_neither_loses_nor_doubles_rows(tmp_path, way):
    sink = ParquetSink(tmp_path / "alerts")
    for number in range(3):
        sink.write([alert(number), alert(number + 10)])
    done = run_program(_KILLS, tmp_path / "alerts", tmp_path / "work", way)
    assert done.returncode == 0, done.stderr
    found = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert found[-1] == [0, 6, 6, 1]
    assert len(found) > 10
    assert {line[0] for line in found[:-1]} == {9}
    assert {line[2] for line in found} == {6}
    # Who reads before it is mended finds all rows, or between two renames, where nothing better is to be had, none.
    assert {line[1] for line in found} == ({6} if way == "swap" else {0, 6})


# Commands -------------------------------------------------------------------------------------------------------------

_TELL = """
import json, os, sys
from pathlib import Path
told = Path(sys.argv[1])
with told.open("a") as file:
    print(json.dumps([sys.argv[2:], sys.stdin.read(), [Path(p).read_bytes().hex() for p in sys.argv[2:]
                      if p.endswith(".packet")], os.environ.get("NUNCIUS_TEST_WORD")]), file=file)
"""


@pytest.fixture
def told(tmp_path):
    (tmp_path / "tell.py").write_text(_TELL)
    return tmp_path / "told"


def telling(told, *arguments, **options):
    return CommandSink(
        [sys.executable, "-S", str(told.with_name("tell.py")), str(told), *arguments], **options
    )


def heard(told):
    return [json.loads(line) for line in told.read_text().splitlines()]


def test_a_command_gets_the_alert(told, monkeypatch):
    monkeypatch.setenv("NUNCIUS_TEST_WORD", "here")
    item = alert(7, ra=10.5, dec=-3.25, origin=at(1))
    telling(told, "{alert_id}", "--at={ra},{dec}", "{dec}", "{mag}", "{{ra}}", "{file}", "{}").write([item])
    [[arguments, text, packets, word]] = heard(told)
    assert arguments[:5] == ["7", "--at=10.5,-3.25", "-3.25", "", "{ra}"]
    assert arguments[6] == "{}"
    assert text == as_json(item) + "\n"
    assert packets == [item.raw.hex()]
    assert word == "here"
    assert not Path(arguments[5]).parent.exists()


def test_each_alert_has_its_run_in_order(told):
    telling(told, "{object_id}").write([alert(number) for number in range(3)] + [notice()])
    assert [line[0] for line in heard(told)] == [["A0"], ["A1"], ["A2"], [""]]


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("--exec=rm", "\\x2d-exec=rm"),
        ("-o", "\\x2do"),
        ("$(touch x); `touch x` && touch x | x > x", "$(touch x); `touch x` && touch x | x > x"),
        ("a b\t'c' \"d\"", "a b\\t'c' \"d\""),
        ("nul\0esc\x1b[31m\nline", "nul\\x00esc\\x1b[31m\\nline"),
        ("{file}", "{file}"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_what_strangers_write_is_an_argument_and_nothing_else(told, name, argument):
    item = alert(7, objectId=name)
    telling(told, "{object_id}", "--name={object_id}").write([item])
    [[arguments, text, _, _]] = heard(told)
    assert arguments[0] == argument
    assert arguments[1] == f"--name={argument}".replace("=\\x2d", "=-")
    if "\ud800" not in name:
        assert json.loads(text)["object_id"] == name


@pytest.mark.parametrize(
    "command",
    [
        "sh -c 'echo {object_id}'",
        "/bin/bash -xc 'echo {alert_id}'",
        "env python3 -c 'print({object_id!r}); print(\"{object_id}\")'",
        "ssh host touch {object_id}",
    ],
)
def test_no_stranger_writes_code(command, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: name)
    with pytest.raises(ConfigurationError, match="as code"):
        CommandSink(command)


def test_a_shell_may_get_values_as_arguments(tmp_path):
    out = tmp_path / "out"
    CommandSink(["sh", "-c", 'echo "$1" > "$2"', "sh", "{object_id}", str(out)]).write([alert(7)])
    assert out.read_text() == "A7\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "name of a program"),
        ("{object_id} x", "name of a program"),
        ("no-such-program-anywhere {ra}", "no-such-program-anywhere"),
        ("true {objectid}", r"\{objectid\}.*\{object_id\}.*\{\{objectid\}\}"),
        ("true 'open", "split"),
    ],
)
def test_a_command_that_can_not_work_is_refused_at_once(command, message):
    with pytest.raises(ConfigurationError, match=message):
        CommandSink(command)


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"delay_s": -1}, {"timeout_s": 0}])
def test_numbers_that_can_not_work_are_refused(wrong):
    with pytest.raises(ConfigurationError, match="at least one attempt"):
        CommandSink("true", **wrong)


def test_a_failing_command_is_tried_again_and_then_told(tmp_path):
    count = tmp_path / "count"
    script = f'echo x >> "{count}"; test $(wc -l < "{count}") -ge 3'
    CommandSink(["sh", "-c", script], delay_s=0.01).write([alert(7)])
    assert count.read_text() == "x\n" * 3
    begin = time.monotonic()
    with pytest.raises(
        StorageError, match=r"sh failed with exit code 3.*'?7'?.*2 times.*not acknowledged"
    ) as caught:
        CommandSink(["sh", "-c", "exit 3"], attempts=2, delay_s=0.2).write([alert(7, origin=at(1))])
    assert time.monotonic() - begin >= 0.2
    assert caught.value.attempts == 2
    assert caught.value.position == "night[0]@1"


def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path):
    pid = tmp_path / "pid"
    sink = CommandSink(["sh", "-c", f'sleep 60 & echo $! > "{pid}"; wait'], attempts=1, timeout_s=0.5)
    begin = time.monotonic()
    with pytest.raises(StorageError, match=r"took longer than 0\.5 s"):
        sink.write([alert()])
    assert time.monotonic() - begin < 5
    child = int(pid.read_text())
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(child)], capture_output=True, text=True).stdout
    assert state.strip()[:1] in {"", "Z"}


def test_a_command_that_is_killed_is_told():
    with pytest.raises(StorageError, match="killed by signal 9"):
        CommandSink(["sh", "-c", "kill -9 $$"], attempts=1).write([alert()])


def test_a_command_that_does_not_read_is_fine():
    CommandSink("true").write([alert(pad="x" * 500_000)])


def test_closing_ends_the_waiting_for_another_try():
    sink = CommandSink("false", attempts=10, delay_s=30)
    threading.Timer(0.2, sink.close).start()
    begin = time.monotonic()
    with pytest.raises(StorageError, match="1 times"):
        sink.write([alert()])
    assert time.monotonic() - begin < 5


def test_what_a_command_prints_stays_out_of_standard_output(capfd):
    CommandSink("echo {object_id}").write([alert(7)])
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == "A7\n"
