"""A stream as a service: sinks, stops, full disks, retries, and what those see who watch."""

import json
import logging
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest

from nuncius import open_stream
from nuncius.errors import ConfigurationError, NunciusError, StorageError, TlsError, UnreachableError
from nuncius.streams.rules import StreamStats
from nuncius.streams.service import (
    DiskGuard,
    MetricsServer,
    Monitor,
    Redactor,
    Service,
    Snapshot,
    Stopping,
    logging_to_stderr,
    parse_size,
    read_verdict,
    running,
)
from nuncius.streams.service import disk as disk_module
from nuncius.streams.service import monitor as monitor_module
from nuncius.streams.service.metrics import prometheus_text
from nuncius.streams.service.status import write_status
from streams_support import TOPIC, ScriptedTransport, end, message, messages, scripted, wait_until


class Kept:
    """A sink that remembers, and does what it is told on the way."""

    def __init__(self, on_write=None):
        self.batches = []
        self.on_write = on_write or (lambda _: None)

    def write(self, items):
        self.on_write(items)
        self.batches.append([item.alert_id for item in items])

    def close(self):
        pass

    @property
    def ids(self):
        return [number for batch in self.batches for number in batch]


def serve(script, tmp_path, *sinks, stopping=None, guard=None, again=(), group="g", **options):
    """Run a service on a script, and on others when it is opened again; return its sinks and the transports."""
    transports = []
    scripts = [script, *again]

    def opened(is_again):
        assert is_again is bool(transports)
        transport = scripts.pop(0)
        transport = transport if isinstance(transport, ScriptedTransport) else ScriptedTransport(transport)
        transport.group = group
        transports.append(transport)
        return scripted(transport, tmp_path / "quarantine", acknowledge="manual")[0]

    monitor = Monitor(["script://"], guard=guard)
    service = Service(
        opened,
        lambda: sinks,
        stopping=stopping or Stopping(),
        monitor=monitor,
        guard=guard,
        **{"timeout_s": 0.05, **options},
    )
    failure = None
    try:
        count = service.run()
        assert count == monitor.kept
    except NunciusError as error:
        failure = error
    return transports, failure, monitor


class EndingTransport(ScriptedTransport):
    """One that ends by itself."""

    def __init__(self, script, **options):
        super().__init__(script, ends=True, **options)


class RefusingTransport(EndingTransport):
    """One whose connection fails."""

    def __init__(self, error):
        super().__init__([])
        self.error = error

    def connect(self, listener, timeout_s):
        raise self.error


# The work -------------------------------------------------------------------------------------------------------------


def test_every_batch_goes_into_every_sink_and_then_counts(tmp_path):
    one, other = Kept(), Kept()
    transports, failure, monitor = serve(
        EndingTransport([messages(5), [*messages(5, first=5), end()]]), tmp_path, one, other, n=4
    )
    assert failure is None
    assert one.ids == other.ids == list(range(10))
    assert max(map(len, one.batches)) <= 4
    assert transports[0].closed_with == {(TOPIC, 0): 10}
    assert monitor.kept == 10


def test_what_one_of_the_sinks_lacks_is_not_acknowledged(tmp_path):
    def fail(batch):
        if 7 in [item.alert_id for item in batch]:
            raise StorageError("no room")

    one, other = Kept(), Kept(fail)
    transports, failure, monitor = serve(EndingTransport([[*messages(10), end()]]), tmp_path, one, other, n=3)
    assert isinstance(failure, StorageError)
    assert one.ids == list(range(9))
    assert other.ids == list(range(6))
    assert transports[0].closed_with == {(TOPIC, 0): 6}
    assert monitor.kept == 6
    assert monitor.snapshot().state == "failed"
    assert monitor.snapshot().trouble == "failed: no room"


def test_a_stop_finishes_the_batch_in_hand(tmp_path):
    stopping = Stopping()
    sink = Kept(lambda batch: stopping.request() if 4 in [item.alert_id for item in batch] else None)
    transports, failure, _ = serve([messages(100)], tmp_path, sink, stopping=stopping, n=2)
    assert failure is None
    assert sink.ids == [0, 1, 2, 3, 4, 5]
    assert transports[0].closed_with == {(TOPIC, 0): 6}


def test_a_stop_is_heard_while_nothing_comes(tmp_path):
    stopping = Stopping()
    threading.Timer(0.3, stopping.request).start()
    begin = time.monotonic()
    transports, failure, _ = serve([messages(3)], tmp_path, sink := Kept(), stopping=stopping)
    assert failure is None
    assert 0.2 < time.monotonic() - begin < 2
    assert sink.ids == [0, 1, 2]
    assert transports[0].closed_with == {(TOPIC, 0): 3}


def test_a_limit_leaves_the_rest(tmp_path):
    transports, _, _ = serve([messages(20)], tmp_path, sink := Kept(), n=4, limit=6)
    assert sink.ids == list(range(6))
    assert transports[0].closed_with == {(TOPIC, 0): 6}


def test_damage_goes_into_the_quarantine_and_not_into_the_sinks(tmp_path):
    broken = message(1, b'{"candid": 1, "objectId": "A", "ra": }')
    script = EndingTransport([[message(0), broken, message(2), end()]])
    transports, failure, monitor = serve(script, tmp_path, sink := Kept())
    assert failure is None
    assert sink.ids == [0, 2]
    assert monitor.quarantined == 1
    assert transports[0].closed_with == {(TOPIC, 0): 3}


def test_what_came_before_a_failure_is_kept(tmp_path):
    script = EndingTransport([messages(5), UnreachableError("gone")])
    transports, failure, _ = serve(script, tmp_path, sink := Kept())
    assert str(failure) == "gone"
    assert sink.ids == list(range(5))
    assert transports[0].closed_with == {(TOPIC, 0): 5}


# Trying again ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(running, "_FIRST_DELAY_S", 0.01)


def test_a_broker_that_does_not_answer_is_asked_again(tmp_path, quick):
    script = [RefusingTransport(UnreachableError("nobody")) for _ in range(3)]
    transports, failure, monitor = serve(
        script[0], tmp_path, sink := Kept(), again=[*script[1:], EndingTransport([[*messages(3), end()]])],
        retry_s=10,
    )  # fmt: skip
    assert failure is None
    assert len(transports) == 4
    assert sink.ids == [0, 1, 2]
    assert monitor.snapshot().last_error == "nobody"


def test_an_outage_in_the_middle_goes_on_where_it_was(tmp_path, quick):
    first = EndingTransport([messages(3), UnreachableError("the registry is away")])
    second = EndingTransport([[*messages(2, first=3), end()]], start=3)
    transports, failure, monitor = serve(first, tmp_path, sink := Kept(), again=[second], retry_s=10)
    assert failure is None
    assert sink.ids == [0, 1, 2, 3, 4]
    assert [transport.closed_with for transport in transports] == [{(TOPIC, 0): 3}, {(TOPIC, 0): 5}]
    assert monitor.kept == 5


@pytest.mark.parametrize(
    ("script", "options"),
    [
        (lambda: RefusingTransport(UnreachableError("x")), {}),
        (lambda: RefusingTransport(TlsError("x")), {"retry_s": 60}),
        (lambda: RefusingTransport(ConfigurationError("x")), {"retry_s": 60}),
        # Without a group nobody knows where to go on.
        (lambda: EndingTransport([messages(1), UnreachableError("x")]), {"retry_s": 60, "group": None}),
    ],
    ids=["no retry", "TLS", "configuration", "no group"],
)
def test_what_is_not_tried_again(tmp_path, quick, script, options):
    transports, failure, _ = serve(script(), tmp_path, Kept(), **options)
    assert str(failure) == "x"
    assert len(transports) == 1


def test_trying_again_ends_with_its_time(tmp_path, quick):
    many = [RefusingTransport(UnreachableError("nobody")) for _ in range(50)]
    begin = time.monotonic()
    transports, failure, _ = serve(many[0], tmp_path, Kept(), again=many[1:], retry_s=0.3)
    assert str(failure) == "nobody"
    assert 2 <= len(transports) < 10
    assert time.monotonic() - begin < 3


def test_no_sink_is_opened_before_the_connection_stands(tmp_path):
    made = []
    transport = RefusingTransport(UnreachableError("nobody"))
    stream = scripted(transport, tmp_path, acknowledge="manual")[0]
    service = Service(
        lambda _: stream, lambda: made.append(1), stopping=Stopping(), monitor=Monitor(["script://"])
    )
    with pytest.raises(UnreachableError):
        service.run()
    assert made == []


# Disks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1GB", 10**9), ("1.5 gb", 1_500_000_000), ("500M", 5 * 10**8), ("2GiB", 2**31), ("7", 7), ("3 B", 3)],
)  # fmt: skip
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "1PB", "1,5GB", "GB"])
def test_what_is_no_size(text):
    with pytest.raises(ConfigurationError, match="500MB"):
        parse_size(text)


def test_a_folder_that_is_not_there_yet_counts_as_the_one_above(tmp_path):
    guard = DiskGuard([tmp_path / "a" / "b", tmp_path], 1)
    assert list(guard.free_bytes()) == [str(tmp_path), str(tmp_path / "a" / "b")]
    assert guard.shortage() is None
    assert "--min-free" in DiskGuard([tmp_path], 10**18).shortage()


def test_a_full_disk_pauses_and_room_resumes(tmp_path, monkeypatch, caplog):
    free = [50]
    monkeypatch.setattr(disk_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=free[0]))
    guard = DiskGuard([tmp_path], 100)
    sink = Kept()
    seen = []

    def make_room():
        wait_until(lambda: monitors and monitors[0].snapshot().is_paused)
        time.sleep(0.3)
        seen.append((monitors[0].snapshot(), list(sink.batches)))
        free[0] = 500

    monitors = []
    original = Monitor.short
    monkeypatch.setattr(Monitor, "short", lambda self, text: (monitors.append(self), original(self, text))[1])
    thread = threading.Thread(target=make_room)
    thread.start()
    with caplog.at_level(logging.INFO, "nuncius.service"):
        transports, failure, monitor = serve(
            EndingTransport([[*messages(5), end()]]), tmp_path, sink, guard=guard
        )
    thread.join()
    assert failure is None
    (paused, written), = seen  # fmt: skip
    assert written == []
    assert paused.trouble.startswith("paused: ")
    assert "50 bytes" in paused.trouble
    assert sink.ids == list(range(5))
    assert transports[0].closed_with == {(TOPIC, 0): 5}
    assert [record.message[:6] for record in caplog.records] == ["paused", "there "]
    assert monitor.snapshot().is_paused is False


def test_a_stop_while_the_disk_is_full_acknowledges_nothing(tmp_path):
    stopping = Stopping()
    threading.Timer(0.4, stopping.request).start()
    guard = DiskGuard([tmp_path], 10**18)
    transports, failure, monitor = serve(
        [messages(5)], tmp_path, sink := Kept(), guard=guard, stopping=stopping
    )
    assert failure is None
    assert sink.batches == []
    assert transports[0].closed_with == {(TOPIC, 0): 0}
    assert monitor.kept == 0


# Signals --------------------------------------------------------------------------------------------------------------


def test_signals_are_wishes_first():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Stopping() as stopping:
        assert not stopping.wanted
        os.kill(os.getpid(), signal.SIGTERM)
        begin = time.monotonic()
        assert stopping.wait(5)
        assert time.monotonic() - begin < 1
        assert stopping.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_in_another_thread_no_handler_is_installed():
    seen = []

    def work():
        with Stopping() as stopping:
            seen.append(signal.getsignal(signal.SIGTERM))
            stopping.request()
            seen.append(stopping.wanted)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM), True]


# Watching -------------------------------------------------------------------------------------------------------------

STATS = StreamStats(
    received=12, received_bytes=3400, handed_out=9, acknowledged=8, quarantined=2, filtered=1, group="g"
)


def snapshot(**changes):
    now = time.time()
    first = Snapshot(
        state="running", trouble=None, urls=("kafka://h:1/t",), started=now - 100, at=now, kept=8, rate_per_s=1.5,
        stats=replace(STATS, last_alert=now - 3), streams={"kafka://h:1/t": replace(STATS, last_alert=now - 3)},
        lag={("t", 0): 4, ("t", 1): 3}, free_bytes={"/data": 5000},
    )  # fmt: skip
    return replace(first, **changes)


def test_the_status_line():
    assert snapshot().line() == "8 alerts, 1.5/s, 7 behind, last 3 s ago, 2 quarantined"
    assert snapshot(lag=None, stats=StreamStats()).line() == "8 alerts, 1.5/s"
    assert snapshot(trouble="paused: full").line().endswith("paused: full")


def test_the_metrics_are_what_prometheus_reads():
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is not installed")
    odd = 'kafka://h:1/^a\\d"x"\nb'
    text = prometheus_text(
        snapshot(streams={odd: STATS, "replay://x": StreamStats(last_error="away")}), version="1.2"
    )
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["nuncius_info", ("version", "1.2")] == 1
    assert found["nuncius_messages_received_total", ("stream", odd)] == 12
    assert found["nuncius_received_bytes_total", ("stream", odd)] == 3400
    assert found["nuncius_messages_quarantined_total", ("stream", odd)] == 2
    assert found["nuncius_connected", ("stream", odd)] == 1
    assert found["nuncius_connected", ("stream", "replay://x")] == 0
    assert found["nuncius_lag_messages", ("partition", "0"), ("topic", "t")] == 4
    assert found["nuncius_disk_free_bytes", ("folder", "/data")] == 5000
    assert found["nuncius_alerts_kept_total",] == 8
    assert found["nuncius_healthy",] == 1
    assert found["nuncius_last_alert_age_seconds",] == pytest.approx(3, abs=0.1)
    kinds = {family.name: family.type for family in parser.text_string_to_metric_families(text)}
    assert kinds["nuncius_alerts_kept"] == "counter"
    assert kinds["nuncius_lag_messages"] == "gauge"


def test_the_text_format_by_hand():
    lines = prometheus_text(snapshot(streams={'a"\\\n': STATS}), version="1").splitlines()
    assert 'nuncius_messages_received_total{stream="a\\"\\\\\\n"} 12' in lines
    assert "# TYPE nuncius_messages_received_total counter" in lines
    assert "nuncius_alerts_kept_total 8" in lines
    assert "nuncius_paused 0" in lines
    text = prometheus_text(snapshot(streams={}, lag=None), version="1")
    assert "nuncius_lag" not in text, "what is not known is not told"
    assert "received" not in text
    assert text.endswith("\n")


def ask(url, method="GET"):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def test_the_server_tells_metrics_and_health():
    current = [snapshot()]
    with MetricsServer("0", lambda: current[0], version="1") as server:
        assert server.url.startswith("http://127.0.0.1:")
        status, headers, text = ask(f"{server.url}/metrics")
        assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert "nuncius_alerts_kept_total 8" in text
        assert ask(f"{server.url}/metrics?x=1", "HEAD")[::2] == (200, "")
        status, _, text = ask(f"{server.url}/health")
        assert (status, json.loads(text)["healthy"]) == (200, True)
        current[0] = snapshot(trouble="paused: the disk is full")
        status, _, text = ask(f"{server.url}/health")
        assert (status, json.loads(text)["healthy"]) == (503, False)
        assert "the disk is full" in json.loads(text)["status"]
        assert ask(f"{server.url}/etc/passwd")[0] == 404
        with pytest.raises(ConfigurationError, match="can't listen"):
            MetricsServer(server.url.removeprefix("http://"), lambda: current[0], version="1")


def test_a_client_that_stays_silent_keeps_nobody_waiting():
    with (
        MetricsServer("127.0.0.1:0", snapshot, version="1") as server,
        socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))),
    ):
        assert ask(f"{server.url}/health")[0] == 200


@pytest.mark.parametrize("address", ["", "here", "h:70000", "[zz]:1", "[1]:1", "127.0.0.1:", "1.2.3.4:80:80"])
def test_addresses_that_make_no_sense(address):
    with pytest.raises(ConfigurationError, match="--metrics"):
        MetricsServer(address, snapshot, version="1")


def test_the_status_file_and_its_verdict(tmp_path, monkeypatch):
    path = tmp_path / "status"
    assert read_verdict(path) == (False, f"there is no status in {path}: No such file or directory")

    def verdict(max_age_s=None, **changes):
        write_status(path, snapshot(**changes))
        return read_verdict(path, max_age_s)

    assert verdict() == (True, snapshot().line())
    facts = json.loads(path.read_text())
    assert (facts["pid"], facts["kept"], facts["lag"], facts["lags"]["t[1]"]) == (os.getpid(), 8, 7, 3)
    assert facts["streams"]["kafka://h:1/t"]["quarantined"] == 2
    now = time.time()
    assert verdict(trouble="paused: the disk is full")[0] is False
    assert "the disk is full" in verdict(trouble="paused: the disk is full")[1]
    assert verdict(state="stopped") == (False, f"stopped, 0 s ago: {snapshot(state='stopped').line()}")
    assert verdict(at=now - 50)[0] is True
    assert "hangs" in verdict(at=now - 70)[1]
    assert verdict(max_age_s=10)[0] is True
    assert verdict(max_age_s=2) == (False, f"no alert for 3 s: {snapshot().line()}")
    quiet = {"stats": StreamStats(), "lag": None}
    assert verdict(max_age_s=200, **quiet)[0] is True
    assert verdict(max_age_s=50, **quiet)[0] is False, "it never had one, and runs for 100 s"
    for text in ("", "{}", "[]", '{"updated": 3}', "\0\0"):
        path.write_text(text)
        assert read_verdict(path) == (False, f"{path} is not the status file of a stream")


def test_a_process_that_was_killed_is_missed_at_once(tmp_path):
    path = tmp_path / "status"
    write_status(path, snapshot())
    facts = json.loads(path.read_text())
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    path.write_text(json.dumps(facts | {"pid": child}))
    assert read_verdict(path) == (
        False,
        f"the process {child} is gone, without a word: {facts['line']}",
    )
    path.write_text(json.dumps(facts | {"pid": child, "host": "elsewhere"}))
    assert read_verdict(path)[0] is True, "a process of another machine is judged by the age of its file"


def test_the_monitor_writes_asks_and_tells(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(monitor_module, "WRITE_S", 0.05)
    monkeypatch.setattr(monitor_module, "_MINUTE_S", 0.2)
    path = tmp_path / "status"

    class Lagging(ScriptedTransport):
        trouble = None

        def lag(self, positions):
            return dict.fromkeys(positions, 5)

        @property
        def last_error(self):
            return self.trouble

    transport = Lagging([messages(2)])
    stream = scripted(transport, tmp_path, acknowledge="manual")[0]
    with (
        caplog.at_level(logging.INFO, "nuncius.service"),
        Monitor(["script://"], status_file=path, logs=True) as monitor,
    ):
        assert json.loads(path.read_text())["state"] == "connecting"
        monitor.connecting(stream)
        with stream:
            monitor.connected()
            assert wait_until(lambda: json.loads(path.read_text())["lag"] == 5, timeout_s=5)
            assert monitor.snapshot().trouble is None
            transport.trouble = "the broker is away"
            assert wait_until(lambda: monitor.snapshot().lag is None, timeout_s=5)
            assert monitor.snapshot().trouble is None, "a short outage is none"
            monkeypatch.setattr(monitor_module, "_OUTAGE_S", 0)
            assert "the broker is away" in monitor.snapshot().trouble
            transport.trouble = None
            assert wait_until(lambda: monitor.snapshot().trouble is None, timeout_s=5)
            monkeypatch.setattr(monitor_module, "_HANGS_S", 0)
            with monitor.writing():
                time.sleep(0.01)
                assert "one batch" in monitor.snapshot().trouble
            assert monitor.snapshot().trouble is None
    assert json.loads(path.read_text())["state"] == "stopped"
    said = [record.message for record in caplog.records]
    assert any("0 alerts, 0/s" in line for line in said)
    assert any("the connection is lost: the broker is away" in line for line in said)
    assert any("stands again" in line for line in said)
    assert json.loads(path.read_text())["last_error"] == "the broker is away"


def test_a_status_file_that_can_not_be_written_stops_nothing(tmp_path, caplog):
    with Monitor(["x"], status_file=tmp_path / "no folder" / "status") as monitor:
        assert monitor.snapshot().trouble is None
    assert [record.message for record in caplog.records if "can't be written" in record.message] != []


# What is said ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def redact(monkeypatch):
    monkeypatch.setenv("NUNCIUS_FINK_PASSWORD", "of the environment")
    monkeypatch.setenv("SOME_TOKEN", "abc")
    return Redactor(["hunter2", "hunter2/longer"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("login hunter2 refused", "login *** refused"),
        ("hunter2/longer", "***"),
        ("hunter2%2Flonger", "***"),
        ("it is of the environment.", "it is ***."),
        ("abcdef", "abcdef"),  # too short to be told from a word
        ("kafka://me:s3cret@host:9092/t", "kafka://***@host:9092/t"),
        ("sasl.password=xyz sasl.mechanism=PLAIN", "sasl.password=*** sasl.mechanism=PLAIN"),
        ('{"client_secret": "xyz", "a": 1}', '{"client_secret": "***", "a": 1}'),
        ("the token: run nuncius login", "the token: run nuncius login"),
        ("kafka://me:with/slash@host:9092/t", "kafka://***@host:9092/t"),
        ("kafka://host:9092/topic", "kafka://host:9092/topic"),
    ],
)
def test_secrets_are_taken_out(redact, text, shown):
    assert redact(text) == shown


def test_the_streams_own_secrets_are_known(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path))
    one = open_stream("kafka://h:1/t", credentials=("me", "Tr0ub4dor"), group="g")
    two = open_stream(["kafka://h:1/t", "replay:///x"], credentials={"kafka": ("me", "batteryhorse")})
    redact = Redactor()
    for stream in (one, two):
        redact.add_those_of(stream)
        stream.close()
    assert redact("Tr0ub4dor batteryhorse me") == "*** *** me"


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_is_said_goes_to_standard_error(capsys, redact, form):
    log = logging.getLogger("nuncius.streams")
    handlers = list(logging.getLogger("nuncius").handlers)
    with logging_to_stderr(form, redact):
        log.info("login %s", "hunter2")
        log.debug("not this")
        log.warning("a warning", extra={"facts": {"lag": 3, "where": "hunter2"}})
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("config is not used: hunter2", stacklevel=1)
        try:
            raise ValueError("hunter2")  # noqa: TRY301
        except ValueError:
            log.exception("it broke")
    assert logging.getLogger("nuncius").handlers == handlers
    said = capsys.readouterr()
    assert said.out == ""
    assert "hunter2" not in said.err
    if form == "json":
        lines = [json.loads(line) for line in said.err.splitlines()]
        assert [line["level"] for line in lines] == ["info", "warning", "warning", "error"]
        assert lines[0]["message"] == "login ***"
        assert (lines[1]["lag"], lines[1]["where"]) == (3, "***")
        assert lines[3]["traceback"].endswith("ValueError: ***")
        assert lines[0]["time"].endswith("Z")
    else:
        assert " login ***\n" in said.err
        assert " warning: a warning\n" in said.err
        assert "not this" not in said.err
