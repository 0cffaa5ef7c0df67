"""The fixtures that users' tests get, in a pytest run of their own."""

import subprocess
import sys

THEIRS = """
import sys

def test_nothing_is_loaded_before_it_is_asked_for():
    assert "confluent_kafka" not in sys.modules
    assert "numpy" not in sys.modules

def test_a_broker(nuncius_kafka, tmp_path):
    import nuncius
    nuncius_kafka.publish("alerts", [b'{"alert_id": 1}'])
    with nuncius.open_stream(f"{nuncius_kafka.url}/alerts", group=False, stop="end") as stream:
        assert [alert.alert_id for alert in stream] == [1]

def test_the_same_sandbox(nuncius_sandbox, nuncius_kafka):
    assert nuncius_sandbox.kafka is nuncius_kafka

def test_a_dserver(nuncius_dserver):
    import nuncius
    with nuncius.open_dserver(nuncius_dserver.url, token=nuncius_dserver.token) as dserver:
        assert len(dserver.search()) == len(nuncius_dserver.uris) - 1  # one is under embargo
"""


def test_fixtures(tmp_path):
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        "test_theirs.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "4 passed" in done.stdout, done.stdout + done.stderr
