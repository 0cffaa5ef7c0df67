import json
import os
import signal
import subprocess
import sys
import time

import pytest

CONFIG = ("--config", "group.protocol=consumer")


@pytest.fixture
def url(nuncius_kafka):
    topic = f"t{time.monotonic_ns()}"
    packets = [
        json.dumps({"alert_id": n, "objectId": "A", "ra": 1.5, "dec": 2.5, "mag": 17.25}).encode()
        for n in range(30)
    ]
    nuncius_kafka.publish(topic, packets)
    nuncius_kafka.publish(topic, [b"garbage"])
    return f"{nuncius_kafka.url}/{topic}"


def test_a_line_for_each_alert(cli, url):
    done = cli("stream", url, "--until", "end", "--group", "g1", *CONFIG)
    assert len(done.stdout.splitlines()) == 30
    assert "17.25" in done.stdout
    assert "30 alerts, 1 quarantined" in done.stderr
    assert "consumer group g1" in done.stderr
    again = cli("stream", url, "--until", "end", "--group", "g1", *CONFIG)
    assert again.stdout == "", "a second run goes on where the first one was"
    reset = cli("stream", url, "--until", "end", "--group", "g1", "--since", "earliest", "--reset", *CONFIG)
    assert len(reset.stdout.splitlines()) == 30


def test_limit_goes_on_exactly_there(cli, url):
    seen = []
    for count in (7, 11, 30):
        done = cli(
            "stream", url, "--until", "end", "--limit", count, "--format", "jsonl", "--group", "g2", *CONFIG
        )
        seen += [json.loads(line)["alert_id"] for line in done.stdout.splitlines()]
    assert sorted(seen) == list(range(30))


def test_into_an_archive(cli, url):
    done = cli("stream", url, "--until", "end", "--archive", "night.db", *CONFIG)
    assert "30 new, 0 revised, 0 known before" in done.stderr
    assert cli("archive", "find", "night.db", "generic_alerts", "--count").stdout.strip() == "30"


@pytest.mark.parametrize("ending", ["json", "avro"])
def test_into_files(cli, url, tmp_path, ending):
    cli("stream", url, "--until", "end", "-d", "alerts", "--format", ending, "--no-group")
    files = list((tmp_path / "alerts").rglob(f"*.{ending}"))
    assert len(files) == 30
    values = json.loads(files[0].read_bytes())
    assert (values["packet"] if ending == "json" else values)["objectId"] == "A"
    assert not [file for file in (tmp_path / "alerts").rglob("*") if file.is_file() and file not in files]


def test_into_lines(cli, url, tmp_path):
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts" / "alerts.jsonl").write_text('{"alert_id": 100}\n{"alert_')
    cli("stream", url, "--until", "end", "-d", "alerts", "--format", "jsonl", "--no-group")
    lines = (tmp_path / "alerts" / "alerts.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["alert_id"] for line in lines) == [*range(30), 100], (
        "half a line of a crash is gone"
    )


def test_the_quarantine_is_replayed(cli, url):
    cli("stream", url, "--until", "end", "--quarantine", "bad", "--no-group")
    done = cli("stream", f"replay://{cli.folder}/bad")
    assert "0 alerts, 1 quarantined" in done.stderr
    assert "not an alert packet" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nonsense",), 1, "kafka://host:port/topic"),
        (("kafka://127.0.0.1:1/alerts?",), 1, "no Kafka broker answers"),
        (("replay:///nowhere/at/all",), 1, "there is no file or folder"),
        (("kafka://me:secret@h/t",), 1, "no user name or password in a URL"),
        (("kafka://h/t", "--config", "sasl.password=abc"), 2, "list of processes"),
        (("kafka://h/t", "--config", "nonsense"), 2, "KEY=VALUE"),
        (("kafka://h/t", "--since", "yesterday"), 1, "-2h"),
        (("kafka://h/t", "--group", "a", "--no-group"), 2, "choose one"),
        (("kafka://h/t", "--keep", "packet"), 2, "for --archive"),
        (("kafka://h/t", "--format", "parquet"), 2, "--output-directory"),
        (("kafka://h/t", "--min-free", "much"), 2, "500MB"),
        (("kafka://h/t", "--retry", "often"), 2, "10m"),
        (("kafka://h/t", "--metrics", "here"), 1, "127.0.0.1:9464"),
        (("kafka://h/t", "--where", "mag <"), 1, "mag <"),
        (("replay:///nowhere", "--near", "nowhere.csv", "--radius", "2arcsec"), 1, "nowhere.csv"),
        ((), 2, "URL"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(cli, arguments, code, said):
    done = cli("stream", *arguments, code=code)
    assert said in done.stderr
    assert "secret@" not in done.stderr


def test_ctrl_c_stops_and_the_next_run_goes_on(cli, url):
    command = [
        sys.executable,
        "-m",
        "nuncius.cli",
        "stream",
        url,
        "--group",
        "g3",
        "--format",
        "jsonl",
        *CONFIG,
    ]
    child = subprocess.Popen(
        command, env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    first = [json.loads(child.stdout.readline())["alert_id"] for _ in range(30)]
    time.sleep(0.5)
    begin = time.monotonic()
    os.kill(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=10)
    assert time.monotonic() - begin < 2
    assert child.returncode == 130
    assert "goes on here" in said
    assert "Traceback" not in said
    done = cli("stream", url, "--until", "end", "--format", "jsonl", "--group", "g3", *CONFIG)
    rest = [json.loads(line)["alert_id"] for line in done.stdout.splitlines()]
    assert sorted({*first, *rest}) == list(range(30))
