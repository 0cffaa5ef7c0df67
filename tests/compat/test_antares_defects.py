"""What antares-client does wrong, done right: one test or more for each known defect."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import socket
import ssl
import stat
import threading
import time
import traceback
import zlib

import pytest
from antares_support import names_of, program, quarantined, run_command

from nuncius import errors
from nuncius.compat.antares_client import (
    AntaresException,
    AntaresNetworkingException,
    Client,
    StreamingClient,
    __version__,
    exceptions,
)
from nuncius.compat.antares_client.reading import servers_of
from nuncius.sandbox import SandboxAntares
from streams_support import QUICK, committed_sum, end_program, line_of, new_name, run_program, wait_until

pytest_plugins = ["antares_fixtures"]

TOLERANCE_S = 0.25  # of a busy machine; the client itself needs milliseconds


def ids(alerts):
    return [alert["id"] for _, alert in alerts]


def handle(client, found, last):
    """Read until the handler of an alert fails."""
    with client:
        for alert in client.iter():
            found += ids([alert])
            if len(found) == last:
                raise KeyError("of the handler")


# Errors are said, in time ---------------------------------------------------------------------------------------------


def test_a_wrong_secret_is_refused_in_time(antares, client):
    begin = time.monotonic()
    with pytest.raises(exceptions.AntaresLoginError, match="refuses the login") as caught:
        client(["extragalactic"], api_secret="wrong-secret").poll(timeout=9)
    assert time.monotonic() - begin < 5
    assert isinstance(caught.value, (errors.LoginError, AntaresException, PermissionError))
    told = "".join(traceback.format_exception_only(caught.value)) + repr(vars(caught.value))
    assert "wrong-secret" not in told + repr(caught.value.__cause__)
    assert antares.api_key in str(caught.value)


def test_a_wrong_secret_is_refused_by_whatever_waits(client):
    one = client(["extragalactic"], api_secret="wrong-secret")
    with pytest.raises(errors.LoginError), one:
        pass
    with pytest.raises(errors.LoginError):
        next(client(["extragalactic"], api_secret="wrong-secret").iter())


def test_it_stays_refused(client):
    one = client(["extragalactic"], api_secret="wrong-secret")
    for _ in range(3):
        with pytest.raises(errors.LoginError):
            one.poll(timeout=5)


def test_no_login_at_all(antares):
    with pytest.raises(exceptions.AntaresLoginError, match="nuncius login antares"):
        Client(["extragalactic"])
    with pytest.raises(exceptions.AntaresConfigurationError, match="both"):
        Client(["extragalactic"], api_key=antares.api_key)


def test_an_unknown_stream_has_close_matches(client):
    with pytest.raises(exceptions.AntaresNotFoundError, match="extragalactic") as caught:
        client(["extragalactc"]).poll(timeout=9)
    assert isinstance(caught.value, LookupError)


def test_one_unknown_stream_among_known_ones(client):
    with pytest.raises(errors.NotFoundError, match="no_such_stream"):
        client(["extragalactic", "no_such_stream"]).poll(timeout=9)


def test_nobody_there(client):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    begin = time.monotonic()
    with pytest.raises(AntaresNetworkingException) as caught:
        client(["extragalactic"], host="127.0.0.1", port=port, connect_timeout_s=1).poll()
    assert time.monotonic() - begin < 4
    assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize("kind", ["wrong-host", "foreign"])
def test_a_certificate_that_is_not_the_hosts(kind):
    with SandboxAntares(alerts=0, certificate=kind) as box:
        box.publish("extragalactic", [{"id": "L1"}])
        options = {"api_key": box.api_key, "api_secret": box.api_secret, "host": box.host, "port": box.port}
        one = Client(["extragalactic"], ssl_ca_location=box.ssl_ca_location, **options)
        with pytest.raises(exceptions.AntaresTlsError, match="can't be secured"):
            one.poll(timeout=15)
        one.close()


def test_no_certificates_on_this_machine(antares, monkeypatch):
    monkeypatch.delenv("NUNCIUS_ANTARES_SSL_CA_LOCATION")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    nowhere = ssl.DefaultVerifyPaths(None, None, "", "/nowhere/cert.pem", "", "/nowhere")
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: nowhere)
    monkeypatch.setattr("nuncius._core.certificates._PLACES", ())
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(
        exceptions.AntaresTlsError, match=r"^Could not locate SSL certificates.*ssl_ca_location"
    ):
        Client(["extragalactic"], api_key="key", api_secret="secret")


def test_a_file_of_certificates_that_is_not_there(antares):
    with pytest.raises(exceptions.AntaresConfigurationError, match="no such file"):
        Client(["extragalactic"], api_key="key", api_secret="secret", ssl_ca_location="/nowhere.pem")


# Options --------------------------------------------------------------------------------------------------------------


def test_a_misspelt_option_is_an_error_that_knows_better():
    with pytest.raises(TypeError, match="did you mean api_secret") as caught:
        Client(["extragalactic"], api_key="key", api_secert="secret")
    assert isinstance(caught.value, (errors.ConfigurationError, AntaresException))
    assert "secret'" not in str(caught.value).replace("api_secret", "")
    with pytest.raises(TypeError, match="did you mean bootstrap_server"):
        StreamingClient(["extragalactic"], "key", "secret", bootstrap_servers="localhost:9092")
    with pytest.raises(TypeError, match="known are topics, host, port, api_key"):
        Client(["extragalactic"], zzz=1)


@pytest.mark.parametrize("topics", [[], "", [" "], [7], "  ,"])
def test_topics_that_are_none(topics):
    with pytest.raises(exceptions.AntaresConfigurationError, match="topics"):
        Client(topics, api_key="key", api_secret="secret")


def test_settings_of_librdkafka_get_through(client):
    with pytest.raises(errors.ConfigurationError, match=r"no\.such\.setting"):
        client(["extragalactic"], config={"no.such.setting": 1}).poll()
    with pytest.warns(UserWarning, match=r"enable\.auto\.offset\.store"):
        client(["extragalactic"], config={"enable.auto.offset.store": True})


def test_the_group_is_this_machines_name_unless_one_is_given(antares, client, monkeypatch):
    options = {"api_key": "key", "api_secret": "secret"}
    assert Client(["extragalactic"], **options).group == socket.gethostname()
    assert Client(["extragalactic"], group="night", **options).group == "night"
    monkeypatch.setenv("NUNCIUS_ANTARES_GROUP", "of-the-environment")
    assert Client(["extragalactic"], **options).group == "of-the-environment"


def test_where_it_connects_to(antares, monkeypatch):
    assert servers_of(None, 9092) is None
    assert servers_of("example.org", 9092) == "example.org:9092"
    assert servers_of(None, 9093) == f"{antares.host}:9093"
    monkeypatch.delenv("NUNCIUS_ANTARES_SERVERS")
    assert servers_of(None, 9093) == "kafka.antares.noirlab.edu:9093"


def test_nothing_secret_is_shown_or_pickled(antares, client):
    one = client(["extragalactic"])
    assert antares.api_secret not in repr(one) + str(vars(one))
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(one)


def test_the_errors_are_of_both_families():
    for name, kind in vars(exceptions).items():
        if isinstance(kind, type) and issubclass(kind, AntaresException) and kind is not AntaresException:
            assert len([base for base in kind.__mro__ if base.__module__ == "nuncius.errors"]) >= 2, name
            copy = pickle.loads(pickle.dumps(kind("it failed", service="antares")))
            assert (type(copy), str(copy), copy.service) == (kind, "it failed", "antares")


def test_an_error_of_no_kind_stays_as_it_is():
    error = errors.ForkError("it forked")
    with pytest.raises(errors.ForkError) as caught, exceptions.translating():
        raise error
    assert caught.value is error
    assert caught.value.__cause__ is None


def test_the_version_of_the_interface():
    assert __version__ == "0.2.0"


# Time-outs ------------------------------------------------------------------------------------------------------------


def test_time_outs_are_exact(client, stream_of):
    topic = stream_of(1)
    with client([topic]) as one:
        assert one.poll()[0] == topic
        for seconds in (0, 0.05, 0.5, 1.5):
            begin = time.monotonic()
            assert one.poll(timeout=seconds) == (None, None)
            assert seconds <= time.monotonic() - begin < seconds + TOLERANCE_S


def test_a_poll_that_does_not_wait_before_the_connection_stands(client, stream_of):
    one = client([stream_of(1)])
    begin = time.monotonic()
    assert one.poll(timeout=0) == (None, None)
    assert time.monotonic() - begin < TOLERANCE_S
    assert wait_until(lambda: one.poll(timeout=0) != (None, None))


def test_waiting_for_ever(antares, client, stream_of):
    topic = stream_of(1)
    with client([topic]) as one:
        one.poll()
        for timeout in (-1, None, float("inf")):
            locus = antares.loci[3]
            threading.Timer(0.3, antares.publish, [topic, [locus]]).start()
            assert one.poll(timeout)[1]["id"] == locus.locus_id


@pytest.mark.parametrize("timeout", ["5", float("nan"), True, [1]])
def test_time_outs_that_are_none(client, timeout):
    with pytest.raises(exceptions.AntaresConfigurationError, match="timeout="):
        client(["extragalactic"]).poll(timeout)


@pytest.mark.parametrize("count", [-1, 1.5, "3", True])
def test_numbers_of_alerts_that_are_none(client, count):
    with pytest.raises(exceptions.AntaresConfigurationError, match="number of alerts"):
        client(["extragalactic"]).iter(count)


# What comes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["new", "old", "0.2"])
def test_alerts_are_the_messages_as_plain_dicts(antares, client, stream_of, shape):
    topic = stream_of(10, shape=shape)
    with client([topic]) as one:
        found = list(one.iter(10))
    assert {name for name, _ in found} == {topic}
    wanted = [locus.document(shape) for locus in antares.loci[:10]]
    assert sorted(map(json.dumps, (alert for _, alert in found))) == sorted(map(json.dumps, wanted))
    assert all(type(alert) is dict for _, alert in found)


def test_the_prefix_may_be_written_and_does_not_come_back(client, stream_of):
    topic = stream_of(2)
    with client(f"client.{topic}") as one:
        assert [name for name, _ in one.iter(2)] == [topic] * 2
        assert one.topics == [f"client.{topic}"]


@pytest.mark.parametrize("shape", ["new", "old"])
def test_the_client_of_2_0_gives_loci(antares, stream_of, shape):
    topic = stream_of(10, shape=shape)
    with StreamingClient(
        [topic],
        antares.api_key,
        antares.api_secret,
        group=new_name(),
        bootstrap_server=f"{antares.host}:{antares.port}",
        config=QUICK,
    ) as one:
        found = dict(locus for locus in ((locus.locus_id, locus) for _, locus in one.iter(limit=10)))
        assert one.poll(timeout=0.05) == (None, None)
    assert sorted(found) == names_of(antares)
    for locus in antares.loci[:10]:
        mine = found[locus.locus_id]
        assert (mine.ra, mine.dec, mine.properties) == (locus.ra, locus.dec, locus.properties)
        assert (mine.tags, mine.catalogs) == (locus.tags, locus.catalogs)
        assert mine.coordinates.ra.deg == pytest.approx(locus.ra)
    assert [alert.alert_id for alert in mine.alerts] == [alert.alert_id for alert in locus.alerts]
    assert len(mine.lightcurve) == len(locus.alerts)
    assert len(mine.timeseries) == len(locus.alerts)
    assert mine.to_devkit()["alerts"][0]["mjd"] == locus.alerts[0].mjd


# What can't be read ---------------------------------------------------------------------------------------------------


def test_poison_is_kept_and_the_stream_goes_on(antares, client, stream_of, tmp_path):
    good = [locus.encode() for locus in antares.loci[:8]]
    damaged = bytearray(zlib.decompress(good[0]))
    damaged[4] = 0x7F  # a type that BSON does not have: found when it is decoded
    poison = [b"not zlib", zlib.compress(bytes(damaged)), good[1][:-5], b"", zlib.compress(b"not BSON")]
    values = [value for pair in zip(good, [*poison, *good[5:]], strict=True) for value in pair]
    topic = stream_of(values=values)
    group = new_name("group")
    with client([topic], group=group) as one:
        found = list(one.iter(11))
        assert one.poll(timeout=0.3) == (None, None)
        stats = one.stats()
    assert len(found) == 11
    assert stats.quarantined == 5
    assert sorted(quarantined(tmp_path / "data")) == sorted(poison)
    assert committed_sum(antares.kafka.url.removeprefix("kafka://"), group, f"client.{topic}") == 16


def test_nothing_but_poison_stops_the_stream(client, stream_of):
    topic = stream_of(values=[b"not zlib"] * 1100)
    with pytest.raises(exceptions.AntaresQuarantineFullError):
        client([topic]).poll(timeout=20)


# Nothing is lost ------------------------------------------------------------------------------------------------------


def test_it_goes_on_where_it_left_off(antares, client, stream_of):
    topic = stream_of(30)
    found = []
    for count in (7, 0, 13):
        with client([topic]) as one:
            found += ids(one.iter(count))
    with client([topic]) as one:
        found += ids(one.iter(10))
        assert one.poll(timeout=0.3) == (None, None)
    assert sorted(found) == names_of(antares, 30)


@pytest.mark.parametrize("how", ["exception", "close"])
def test_what_was_not_finished_comes_again(antares, client, stream_of, how):
    topic = stream_of(12)
    one = client([topic])
    found = []
    if how == "close":
        found += ids(one.poll() for _ in range(5))
        one.close()
    else:
        with pytest.raises(KeyError, match="of the handler"):
            handle(one, found, 5)
    with client([topic]) as other:
        again = ids(other.iter(8))
        assert other.poll(timeout=0.3) == (None, None)
    assert sorted(found + again) == sorted([*names_of(antares, 12), found[4]])


def test_a_loop_that_is_left_within_the_block_has_finished(client, stream_of):
    topic = stream_of(6)
    with client([topic]) as one:
        for _ in one.iter():
            break
    with client([topic]) as other:
        assert len(ids(other.iter(5))) == 5
        assert other.poll(timeout=0.3) == (None, None)


def test_a_loop_over_so_many_has_finished_the_last(client, stream_of):
    topic = stream_of(6)
    one = client([topic])
    assert len(ids(one.iter(4))) == 4
    one.close()
    with client([topic]) as other:
        assert len(ids(other.iter(2))) == 2
        assert other.poll(timeout=0.3) == (None, None)


def test_committing_by_hand(antares, client, stream_of):
    topic = stream_of(12)
    with client([topic], enable_auto_commit=False) as one:
        first = ids(one.iter(5))
        one.commit()
        second = ids(one.iter(4))
    with client([topic], enable_auto_commit=False) as one:
        again = ids(one.iter(7))
    assert sorted(first + again) == names_of(antares, 12)
    assert set(second) < set(again)


def test_who_never_commits_is_told_and_does_not_hang(client, stream_of, monkeypatch):
    monkeypatch.setattr("nuncius.compat.antares_client.reading._MOST_UNCOMMITTED", 3)
    with client([stream_of(6)], enable_auto_commit=False) as one:
        assert len(list(one.iter(3))) == 3
        with pytest.raises(exceptions.AntaresConfigurationError, match=r"call commit\(\)"):
            one.poll()
        one.commit()
        assert one.poll()[0]


def test_a_closed_client_says_so(client, stream_of):
    one = client([stream_of(2)])
    one.poll()
    one.close()
    one.close()
    for use in (one.poll, one.commit, one.__enter__, lambda: next(one.iter())):
        with pytest.raises(exceptions.AntaresConfigurationError, match="closed"):
            use()


HANDLER = """
import sys, time
from nuncius.compat.antares_client import Client

topic, key, secret, group, config = sys.argv[1:6]
with Client([topic], api_key=key, api_secret=secret, group=group, config=eval(config)) as client:
    for count, (_, alert) in enumerate(client.iter()):
        print("begun", alert["id"], flush=True)
        time.sleep(0.5 if count == 20 else 60 if count == 30 else 0)
        print("done", alert["id"], flush=True)
"""


def test_kill_in_the_middle_of_a_handler_loses_nothing(antares, client, stream_of):
    """At the 31st of 60; what was committed before is not repeated, for a pause gave the commits time."""
    topic, group = stream_of(60), new_name("group")
    config = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}  # the dead are known as such soon
    process = run_program(HANDLER, topic, antares.api_key, antares.api_secret, group, config, wait=False)
    lines = []
    try:
        while len(lines) < 61:
            lines.append(line_of(process).split())
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    finally:
        end_program(process)
    done = [name for word, name in lines if word == "done"]
    assert len(done) == 30
    wanted, again, end = set(names_of(antares, 60)), [], time.monotonic() + 40
    with client([topic], group=group, config=config) as one:
        # The broker first has to notice that the other one is dead.
        while set(done) | set(again) != wanted and time.monotonic() < end:
            again += ids([found] if (found := one.poll(timeout=1)) != (None, None) else [])
    assert set(done) | set(again) == wanted
    assert lines[-1][1] in again
    assert len(set(done) & set(again)) <= 11


# Where it works -------------------------------------------------------------------------------------------------------


def test_it_works_while_a_loop_is_running(client, stream_of):
    topic = stream_of(5)

    async def notebook():
        with client([topic]) as one:
            return ids(one.iter(5))

    assert len(asyncio.run(notebook())) == 5


def test_several_threads_with_a_client_each_share_the_work(antares, client, stream_of):
    topic = stream_of(60)
    found, lock = [], threading.Lock()

    def work():
        with client([topic]) as one:
            while (item := one.poll(timeout=4)) != (None, None):
                with lock:
                    found.append(item[1]["id"])

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(found) == set(names_of(antares, 60))


# The command line -----------------------------------------------------------------------------------------------------


def logged_in(box):
    return {"NUNCIUS_ANTARES_USERNAME": box.api_key, "NUNCIUS_ANTARES_PASSWORD": box.api_secret}


def test_secrets_need_not_stand_on_the_command_line(antares, stream_of, tmp_path):
    topic = stream_of(6)
    folder = tmp_path / "out" / topic
    code, out, err = run_command(
        f"{program('nuncius.cli')} antares {topic} -d {tmp_path / 'out'} -g {new_name()}",
        until=lambda: folder.is_dir() and len(list(folder.glob("*.json"))) == 6,
        stop=signal.SIGINT,
        **logged_in(antares),
    )
    assert (code, out) == (130, "")
    assert "list of processes" not in err
    assert "6 alerts" in err


def test_a_line_for_each_alert_without_a_folder(antares, stream_of, tmp_path):
    topic, path = stream_of(5), tmp_path / "lines"
    code, _, err = run_command(
        f"{program('nuncius.cli')} antares {topic} -v -g {new_name()} > {path}",
        until=lambda: path.is_file() and path.read_text().count("\n") == 5,
        stop=signal.SIGTERM,
        **logged_in(antares),
    )
    assert code == 0, err
    lines = [line.split() for line in path.read_text().splitlines()]
    assert [line[0] for line in lines] == [topic] * 5
    assert sorted(line[1] for line in lines) == names_of(antares, 5)


def test_what_is_killed_goes_on(antares, stream_of, tmp_path):
    topic, group = stream_of(40), new_name("group")
    folder = tmp_path / "out" / topic

    def enough(count):
        return lambda: folder.is_dir() and len(list(folder.glob("*.json"))) >= count

    line = f"{program('nuncius.cli')} antares {topic} -d {tmp_path / 'out'} -g {group}"
    code, _, _ = run_command(line, until=enough(5), stop=signal.SIGKILL, **logged_in(antares))
    assert code == -signal.SIGKILL
    antares.publish(topic, antares.loci[40:50])
    code, _, err = run_command(
        line, until=enough(50), stop=signal.SIGTERM, timeout_s=50, **logged_in(antares)
    )
    assert code == 0, err
    names = {f"{locus.newest.alert_id}.json" for locus in antares.loci[:50]}
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == names
    for path in folder.glob("*.json"):
        assert json.loads(path.read_text())["id"]
        assert stat.S_ISREG(path.stat().st_mode)


def test_errors_of_the_command_line_have_no_traceback(antares):
    for name, said in (
        ("nuncius.cli antares", "nuncius: "),
        ("nuncius.compat.antares_client", "antares-client: "),
    ):
        code, _, err = run_command(
            f"{program(name)} extragalactic -g {new_name()}",
            until=lambda: False,
            stop=signal.SIGTERM,
            NUNCIUS_ANTARES_USERNAME=antares.api_key,
            NUNCIUS_ANTARES_PASSWORD="wrong-secret",
        )
        assert code == 1
        assert said in err
        assert "refuses the login" in err
        assert "Traceback" not in err
        assert "wrong-secret" not in err
