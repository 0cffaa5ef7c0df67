"""``nuncius stream`` as a service: signals, kills, full disks, outages, and what it tells those who watch."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner

from nuncius import open_archive
from nuncius.cli.health import command as health_command
from streams_support import MockCluster, committed_sum, packets, produce, wait_until

pytestmark = [
    pytest.mark.mock_cluster,
    pytest.mark.skipif(sys.platform != "linux", reason="the fault control of the mock cluster needs Linux"),
]

QUICK = ("--config", "group.protocol=consumer", "--group", "g")


@pytest.fixture
def cluster():
    with MockCluster({"alerts": 4, "other": 2}, session_timeout_ms=1000) as running:
        yield running


class Running:
    """A service in a process of its own."""

    def __init__(self, cli, *arguments, **options):
        environment = cli.environment | options.pop("environment", {})
        self.folder = cli.folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nuncius.cli", "stream", *map(str, arguments)],
            cwd=cli.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip

    @property
    def status(self):
        try:
            return json.loads((self.folder / "status").read_text())
        except FileNotFoundError:
            return {}

    def wait_for(self, condition, timeout_s=15):
        """Wait until its status file says what is waited for."""
        assert wait_until(lambda: condition(self.status), timeout_s=timeout_s, step_s=0.05), self.status
        return self.status

    def kill(self, number):
        self.process.send_signal(number)
        return self.end()

    def end(self, timeout_s=15):
        out, err = self.process.communicate(timeout=timeout_s)
        assert "Traceback" not in err, err
        return self.process.returncode, out, err


@pytest.fixture
def run(cli):
    started = []

    def start(*arguments, **options):
        started.append(Running(cli, *arguments, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate(timeout=10)


@pytest.fixture
def url(cluster):
    return f"kafka://{cluster.server}/alerts"


def archived(folder):
    with open_archive(folder / "night.db", read_only=True) as archive:
        return {document["candid"] for document in archive.find("generic_alerts", projection={"candid": 1})}


def wait_for_rows(folder, count, timeout_s=20):
    def is_there():
        try:
            return len(archived(folder)) >= count
        except Exception:  # it is being made
            return False

    assert wait_until(is_there, timeout_s=timeout_s, step_s=0.05)


# Stops and kills ------------------------------------------------------------------------------------------------------


def test_sigterm_under_load_finishes_the_batch_and_commits_it(cli, run, cluster, url):
    total = 12_000
    produce(cluster.server, "alerts", packets(total))
    service = run(url, "--archive", "night.db", *QUICK)
    wait_for_rows(cli.folder, 1500)
    begin = time.monotonic()
    code, out, said = service.kill(signal.SIGTERM)
    assert time.monotonic() - begin < 8
    assert (code, out) == (0, "")
    assert "the next run goes on here" in said
    kept = archived(cli.folder)
    assert 1500 <= len(kept) < total, "it was stopped in the middle"
    assert committed_sum(cluster.server, "g", "alerts") == len(kept), "committed is what is on the disk"
    rest = cli("stream", url, "--archive", "night.db", "--until", "end", *QUICK)
    assert f"{total - len(kept)} new, 0 revised, 0 known before" in rest.stderr, "nothing came twice"
    assert archived(cli.folder) == set(range(total))


def test_kill_9_under_load_loses_nothing(cli, run, cluster, url):
    total = 9000
    produce(cluster.server, "alerts", packets(total))
    for goal in (500, 3000):
        service = run(url, "--archive", "night.db", *QUICK)
        wait_for_rows(cli.folder, goal)
        assert service.kill(signal.SIGKILL)[0] == -signal.SIGKILL
        kept = archived(cli.folder)
        assert goal <= len(kept) < total
        assert committed_sum(cluster.server, "g", "alerts") <= len(kept)
    cli("stream", url, "--archive", "night.db", "--until", "end", *QUICK)
    assert archived(cli.folder) == set(range(total))
    assert committed_sum(cluster.server, "g", "alerts") == total


def test_ctrl_c_finishes_the_batch_too(run, cluster, url, tmp_path):
    produce(cluster.server, "alerts", packets(20))
    service = run(url, "-d", "kept", "--format", "jsonl", "--status-file", "status", *QUICK)
    service.wait_for(lambda status: status.get("kept") == 20)
    code, _, said = service.kill(signal.SIGINT)
    assert code == 130
    assert "the next run goes on here" in said
    assert committed_sum(cluster.server, "g", "alerts") == 20
    assert json.loads((tmp_path / "status").read_text())["state"] == "stopped"


def test_a_second_signal_stops_at_once_and_acknowledges_nothing(run, cluster, url):
    produce(cluster.server, "alerts", packets(2), partition=0)
    service = run(url, "--exec", "sleep 60", "--status-file", "status", *QUICK)
    service.wait_for(lambda status: (status.get("streams") or {}).get(url, {}).get("unacknowledged") == 1)
    service.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert service.process.poll() is None, "the first one waits for the command"
    begin = time.monotonic()
    code, _, said = service.kill(signal.SIGTERM)
    assert (code, time.monotonic() - begin < 5) == (143, True)
    assert "stopped at once" in said
    assert committed_sum(cluster.server, "g", "alerts") == 0


def test_a_reader_that_goes_away_is_no_error(cli, cluster, url):
    produce(cluster.server, "alerts", packets(3000))
    command = (
        f"{sys.executable} -m nuncius.cli stream {url} --group g --config group.protocol=consumer | head -2"
    )
    done = subprocess.run(
        command, shell=True, cwd=cli.folder, env=cli.environment, capture_output=True, text=True, timeout=30
    )
    assert len(done.stdout.splitlines()) == 2
    assert "Traceback" not in done.stderr
    assert committed_sum(cluster.server, "g", "alerts") < 3000


def test_a_stop_while_no_broker_answers(run):
    service = run("kafka://127.0.0.1:1/t", "--retry", "forever", "--group", "g", "--status-file", "status")
    service.wait_for(lambda status: status.get("state") == "connecting")
    time.sleep(1)
    begin = time.monotonic()
    assert service.kill(signal.SIGTERM)[0] == 0
    assert time.monotonic() - begin < 3


# Disks ----------------------------------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
sys.argv[0] = "nuncius"
from nuncius.cli import main
main()
"""


def test_a_sink_that_can_not_write_any_more_stops_with_75_and_loses_nothing(cli, cluster, url):
    """What a full disk does to the files: here the system lets no file grow beyond 200 kB."""
    produce(cluster.server, "alerts", packets(4000))
    arguments = (
        "stream",
        url,
        "-d",
        "kept",
        "--format",
        "jsonl",
        "--record",
        "r.recording",
        "--until",
        "end",
        *QUICK,
    )
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments],
        cwd=cli.folder, env=cli.environment, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 75, done.stderr
    assert "can't be written" in done.stderr
    assert "Traceback" not in done.stderr
    path = cli.folder / "kept" / "alerts.jsonl"
    whole = [json.loads(line)["alert_id"] for line in path.read_text().splitlines() if line.endswith("}")]
    position = committed_sum(cluster.server, "g", "alerts")
    assert 0 <= position <= len(set(whole)) < 4000
    done = cli(*arguments)
    assert {json.loads(line)["alert_id"] for line in path.read_text().splitlines()} == set(range(4000))
    again = cli("stream", "replay://r.recording", "--format", "jsonl")
    assert {json.loads(line)["alert_id"] for line in again.stdout.splitlines()} == set(range(4000)), (
        "both sinks have all"
    )


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted without being root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_pauses_the_stream_until_there_is_room(run, cluster, url, small_disk):
    (small_disk / "others").write_bytes(bytes(6_000_000))
    service = run(
        url, "--archive", "small/night.db", "--min-free", "4MB", "--status-file", "status", "--metrics", "0", *QUICK
    )  # fmt: skip
    service.wait_for(lambda status: status.get("state") == "running")
    produce(cluster.server, "alerts", packets(300))
    status = service.wait_for(lambda status: status.get("paused"))
    assert (status["kept"], status["healthy"]) == (0, False)
    assert "small has " in status["trouble"]
    assert committed_sum(cluster.server, "g", "alerts") == 0
    verdict = health(small_disk.parent / "status")
    assert verdict.exit_code == 1
    assert "not healthy: " in verdict.output
    (small_disk / "others").unlink()
    status = service.wait_for(lambda status: status.get("kept") == 300)
    assert (status["paused"], status["healthy"]) == (False, True)
    code, _, said = service.kill(signal.SIGTERM)
    assert code == 0
    assert said.count("paused: ") == 1, "once a minute"
    assert "reading goes on" in said
    assert committed_sum(cluster.server, "g", "alerts") == 300


def health(path, *arguments):
    return CliRunner().invoke(health_command, [str(path), *arguments])


# Outages --------------------------------------------------------------------------------------------------------------


def test_a_broker_that_restarts_is_waited_for(cli, run, cluster, url):
    produce(cluster.server, "alerts", packets(500))
    service = run(url, "--archive", "night.db", "--status-file", "status", "--log-format", "json", *QUICK)
    service.wait_for(lambda status: status.get("kept") == 500)
    cluster.order("down")
    service.wait_for(lambda status: status.get("last_error"))
    cluster.order("up")
    produce(cluster.server, "alerts", packets(500, first=500))
    status = service.wait_for(lambda status: status.get("kept") >= 1000, timeout_s=30)
    assert (status["state"], status["healthy"]) == ("running", True)
    code, _, said = service.kill(signal.SIGTERM)
    assert code == 0
    lines = [json.loads(line) for line in said.splitlines()]
    assert any("the connection is lost" in line["message"] and line["level"] == "warning" for line in lines)
    assert any("stands again" in line["message"] for line in lines)
    assert archived(cli.folder) == set(range(1000))
    assert committed_sum(cluster.server, "g", "alerts") == 1000


def test_a_service_that_starts_before_its_broker(run, cluster, url):
    produce(cluster.server, "alerts", packets(10))
    cluster.order("down")
    # A partition's leader is away as well: the first attempts end by connect_timeout_s.
    service = run(url, "-d", "kept", "--retry", "10m", "--until", "end", *QUICK)
    time.sleep(2)
    assert service.process.poll() is None
    cluster.order("up")
    code, _, said = service.end(30)
    assert code == 0, said
    assert "10 alerts -> kept" in said


def test_when_the_time_of_retry_is_over(run):
    code, _, said = run("kafka://127.0.0.1:1/t", "--retry", "1s", "--group", "g").end(30)
    assert code == 75
    assert "no Kafka broker answers" in said


def test_a_command_that_fails_is_no_end_for_ever(cli, cluster, url):
    produce(cluster.server, "alerts", packets(3), partition=0)
    done = cli("stream", url, "--exec", "false", "--until", "end", *QUICK, code=75)
    assert "false failed" in done.stderr
    done = cli("stream", url, "--exec", "echo {alert_id}", "--until", "end", *QUICK)
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if line.isdigit()] == ["0", "1", "2"]


# Tee and filters ------------------------------------------------------------------------------------------------------


def test_several_places_and_several_streams(cli, cluster, url):
    other = f"kafka://{cluster.server}/other"
    produce(cluster.server, "alerts", packets(30))
    produce(cluster.server, "other", packets(20, first=20), partition=1)
    done = cli(
        "stream", url, other, "--archive", "night.db", "--keep", "packet", "-d", "files", "--format", "avro",
        "--record", "all.recording", "--format", "avro", "--deduplicate", "--until", "end", *QUICK,
    )  # fmt: skip
    assert "40 alerts -> night.db + files + all.recording" in done.stderr
    assert "40 new, 0 revised, 0 known before" in done.stderr
    assert archived(cli.folder) == set(range(40))
    assert len(list((cli.folder / "files").rglob("*.avro"))) == 40
    again = cli("stream", "replay://all.recording", "--where", "alert_id < 5", "--format", "jsonl")
    assert sorted(json.loads(line)["alert_id"] for line in again.stdout.splitlines()) == [0, 1, 2, 3, 4]
    with open_archive(cli.folder / "night.db", read_only=True) as archive:
        assert len(list(archive.packets("generic_alerts"))) == 40


def test_only_what_is_near(cli, cluster, url):
    produce(
        cluster.server, "alerts",
        [json.dumps({"candid": n, "objectId": "A", "ra": 10.0 + n, "dec": 0.0}).encode() for n in range(20)],
    )  # fmt: skip
    (cli.folder / "targets.csv").write_text("name,ra,dec\none,12.0,0.0\ntwo,15.0001,0.0\n")
    done = cli(
        "stream",
        url,
        "--near",
        "targets.csv",
        "--radius",
        "1arcsec",
        "--format",
        "jsonl",
        "--until",
        "end",
        *QUICK,
    )
    assert sorted(json.loads(line)["alert_id"] for line in done.stdout.splitlines()) == [2, 5]
    assert committed_sum(cluster.server, "g", "alerts") == 20, "what is elsewhere is finished too"


def test_into_parquet(cli, cluster, url):
    parquet = pytest.importorskip("pyarrow.parquet")
    produce(cluster.server, "alerts", packets(25))
    cli("stream", url, "-d", "kept", "--format", "parquet", "--until", "end", *QUICK)
    assert len(parquet.read_table(cli.folder / "kept")) == 25


def test_a_mistyped_topic_makes_no_archive(cli, cluster):
    done = cli("stream", f"kafka://{cluster.server}/alertz", "--archive", "night.db", code=1)
    assert "Close to it: alerts" in done.stderr
    assert not (cli.folder / "night.db").exists()


# Those who watch ------------------------------------------------------------------------------------------------------


def ask(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_health_and_status_of_a_running_service(run, cluster, url, tmp_path):
    produce(cluster.server, "alerts", [b"garbage", *packets(40)])
    service = run(url, "-d", "kept", "--format", "jsonl", "--status-file", "status", "--metrics", "0", *QUICK)
    service.wait_for(lambda status: status.get("kept") == 40 and status["lag"] == 0)
    status = service.status
    assert (status["pid"], status["group"], status["healthy"]) == (service.process.pid, "g", True)
    assert status["streams"][url]["quarantined"] == 1
    said = b""
    while b"/metrics" not in said:
        said += os.read(service.process.stderr.fileno(), 1000)
    address = said.decode().partition("metrics at ")[2].split()[0].removesuffix("/metrics")
    code, text = ask(f"{address}/metrics")
    assert code == 200
    assert f'nuncius_messages_quarantined_total{{stream="{url}"}} 1\n' in text
    assert "\nnuncius_alerts_kept_total 40\n" in text
    assert 'nuncius_lag_messages{topic="alerts",partition="3"} 0\n' in text
    assert ask(f"{address}/health")[0] == 200
    done = health(tmp_path / "status", "--max-age", "1h")
    assert (done.exit_code, done.output[:18]) == (0, "healthy: 40 alerts")
    assert health(tmp_path / "status", "--max-age", "soon").exit_code == 2
    service.process.kill()
    service.process.wait()
    assert health(tmp_path / "status").exit_code == 1
    assert "gone" in health(tmp_path / "status").output
    assert len(health(tmp_path / "status").output.splitlines()) == 1


def test_no_secret_is_told_anywhere(cli, run, cluster, url):
    (cli.folder / "conf").mkdir()
    path = cli.folder / "conf" / "credentials.toml"
    path.write_text('[kafka]\nusername = "me"\npassword = "Tr0ub4dor&3"\n')
    path.chmod(0o600)
    environment = {"NUNCIUS_CONFIG_DIR": str(cli.folder / "conf"), "NUNCIUS_FINK_PASSWORD": "batteryhorse"}
    options = (
        "--config", "security.protocol=SASL_PLAINTEXT", "--config", "sasl.mechanism=PLAIN", "--config", "debug=security",
        "--status-file", "status", "--metrics", "0", "--retry", "3s",
    )  # fmt: skip
    for form in ("text", "json"):
        service = run(url, *QUICK, *options, "--log-format", form, environment=environment)
        code, out, said = service.end(40)
        assert code in {1, 75}, said
        told = out + said + (cli.folder / "status").read_text()
        assert "me" in told
        for secret in ("Tr0ub4dor", "batteryhorse"):
            assert secret not in told
        if form == "json":
            assert [json.loads(line)["level"] for line in said.splitlines()][-1] == "error"


def test_the_status_line_on_a_terminal(cli, cluster, url):
    produce(cluster.server, "alerts", packets(30))
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "nuncius.cli", "stream", url, "-d", "kept", "--until", "4s", *QUICK],
        cwd=cli.folder, env=cli.environment | {"TERM": "xterm"}, stdout=subprocess.DEVNULL, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert child.wait(10) == 0
    text = shown.decode()
    assert "30 alerts, " in text
    assert "last " in text
    assert "30 alerts -> kept" in text
