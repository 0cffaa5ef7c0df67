"""Brokers from the shell: what there is, logging in, asking, going back, publishing, and why something fails."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import tomllib
import traceback
from pathlib import Path

import pytest
from click.testing import CliRunner

from nuncius.alerts import read_packets
from nuncius.alerts.packets.compiled import decoder
from nuncius.brokers import topics
from nuncius.cli import main
from nuncius.credentials import find_credentials
from nuncius.errors import NunciusError
from nuncius.sandbox import SandboxAntares, synthetic_alerts
from nuncius.settings import find_setting
from streams_support import committed, new_name, packets, produce, wait_until

pytestmark = pytest.mark.xdist_group("cli-brokers")

SECRET = "hunter2-s3cret"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and signals")


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path, monkeypatch):
    """Keep the user's own logins, settings and positions out of it, here and in the processes that are started."""
    for name in [name for name in os.environ if name.startswith(("NUNCIUS_", "BABAMUL_", "HOP_"))]:
        monkeypatch.delenv(name)
    for name, place in {
        "NUNCIUS_CONFIG_DIR": "config",
        "NUNCIUS_DATA_DIR": "data",
        "NETRC": "netrc",
        "HOME": ".",
    }.items():
        monkeypatch.setenv(name, str(tmp_path / place))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cli(own_surroundings, cli):
    return cli


@pytest.fixture
def run():
    """Run a command in this process, which is quick; return all that it says."""

    def run(*arguments, code=0, given=None, **environment):
        done = CliRunner().invoke(main, [*map(str, arguments)], input=given, env=environment)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        assert SECRET not in done.output
        return done.output

    return run


@pytest.fixture
def kept(tmp_path):
    """Read what is kept of logins."""
    return lambda: tomllib.loads((tmp_path / "config" / "credentials.toml").read_bytes().decode())


@pytest.fixture
def topic():
    return new_name()


@pytest.fixture
def group():
    return new_name("group")


@pytest.fixture
def server(nuncius_kafka):
    return nuncius_kafka.url.removeprefix("kafka://")


@pytest.fixture
def url(nuncius_kafka, topic):
    """A topic with ten messages."""
    nuncius_kafka.publish(topic, packets(10))
    return f"{nuncius_kafka.url}/{topic}"


@pytest.fixture(scope="module")
def antares():
    with SandboxAntares(alerts=30) as running:
        yield running


@pytest.fixture
def logged_in(antares, run):
    """Let the commands know ANTARES: server, login and certificate."""
    run("login", "antares", "--servers", f"{antares.host}:{antares.port}", "--ssl-ca-location", antares.ssl_ca_location,
        given=f"{antares.api_key}\n{antares.api_secret}\n")  # fmt: skip
    return antares


# nuncius brokers --------------------------------------------------------------------------------------------------------


def test_the_brokers_are_listed(cli):
    said = cli("brokers").stdout
    for name in ("antares", "babamul", "fink", "gcn", "hopskotch", "kafka", "lasair", "lsst", "ztf"):
        assert f"{name}://" in said
    assert "API secret" in said


def test_a_line_of_json_for_each_broker(cli):
    rows = {row["broker"]: row for row in map(json.loads, cli("brokers", "--json").stdout.splitlines())}
    assert rows["antares://"]["you have it"] == "no"
    assert rows["antares://"]["login"] == "PLAIN"
    assert rows["ztf://"]["you have it"] == "none needed"
    assert rows["gcn://"]["TLS"] == "yes"


def test_what_was_stored_is_seen(run, cli):
    run("login", "fink", "--username", "vera", "--servers", "broker.example.org:24499", given=f"{SECRET}\n")
    rows = {row["broker"]: row for row in map(json.loads, cli("brokers", "--json").stdout.splitlines())}
    assert rows["fink://"]["you have it"] == "yes"
    assert rows["fink://"]["server"] == "broker.example.org:24499"
    assert rows["antares://"]["you have it"] == "no"


def test_a_login_for_one_server_is_seen(run, cli):
    run("login", "fink", "--username", "vera", "--servers", "broker.example.org:24499", "--host", "broker.example.org",
        given=f"{SECRET}\n")  # fmt: skip
    rows = {row["broker"]: row for row in map(json.loads, cli("brokers", "--json").stdout.splitlines())}
    assert rows["fink://"]["you have it"] == "yes"


@POSIX
def test_trouble_with_the_file_of_logins_is_said_once(run, tmp_path):
    run("login", "fink", given=f"vera\n{SECRET}\n")
    (tmp_path / "config" / "credentials.toml").chmod(0o644)
    said = run("brokers")
    assert said.count("chmod 600") == 1
    assert "antares://" in said


# nuncius login ------------------------------------------------------------------------------------------------------------


def test_two_lines_of_input_are_a_login(cli, tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text(f"jane\n{SECRET}\n")
    with path.open() as file:
        done = subprocess.run(
            [sys.executable, "-m", "nuncius.cli", "login", "antares"], stdin=file, capture_output=True, text=True,
            env={**os.environ}, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert SECRET not in done.stderr
    assert "kept in" in done.stderr
    found = find_credentials("antares")
    assert (found.username, found.reveal()) == ("jane", SECRET)


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ((), "jane\nPW\n"), ((), "jane\r\nPW\r\n"), ((), "jane\nPW"), ((), "\ufeffjane\nPW\n\n"), (("--username", "jane"), "PW\n"),
        (("--username", "jane"), "PW"), (("--username", "jane"), "PW\n\n\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "password",
    [SECRET, 'quo"te', "back\\slash", "apo's", " inner space ", "密码😀", "x" * 10_240, "#[fink]", "-p"],
)
def test_a_password_is_kept_as_it_was_given(run, arguments, given, password):
    run("login", "antares", *arguments, given=given.replace("PW", password))
    found = find_credentials("antares")
    assert (found.username, found.reveal()) == ("jane", password)


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        ((), "", "0 lines"),
        ((), f"{SECRET}\n", "1 lines"),
        ((), f"jane\n{SECRET}\nmore\n", "3 lines"),
        (("--username", "jane"), "", "0 lines"),
        (("--username", "jane"), f"jane\n{SECRET}\n", "2 lines"),
        (("--username", "jane"), f"{SECRET}\x1b\n", "can't be printed"),
        (("--username", "jane"), f"{SECRET}\t\n", "can't be printed"),
        (("--username", "jane"), f"{SECRET}\u2028more\n", "can't be printed"),
        (("--username", "jane\x07"), f"{SECRET}\n", "can't be printed"),
        (("--username", "jane"), f"{SECRET}é\n".encode("latin-1"), "no UTF-8"),
        (("--username", "jane"), SECRET.encode("utf-16"), "no UTF-8"),
    ],
)
def test_what_is_no_login_is_refused_and_nothing_is_kept(run, tmp_path, arguments, given, said):
    assert said in run("login", "antares", *arguments, given=given, code=1)
    assert not (tmp_path / "config" / "credentials.toml").exists()


@pytest.mark.parametrize(
    "broker", ["antares", "antares://", "antares://extragalactic", "ANTARES", "Antares://"]
)
def test_a_broker_may_be_named_as_in_a_url(run, kept, broker):
    assert "doctor antares://TOPIC" in run("login", broker, given=f"jane\n{SECRET}\n")
    assert set(kept()) == {"antares"}


@pytest.mark.parametrize("broker", ["nonsense", "", "../antares", "kafka.antares.noirlab.edu:9092"])
def test_an_unknown_broker_is_told_with_those_that_are_known(run, tmp_path, broker):
    assert "antares, babamul" in run("login", broker, given=f"jane\n{SECRET}\n", code=1)
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("antares", "jane", SECRET), 2),
        (("antares", SECRET), 2),
        (("antares", "--password", SECRET), 2),
        (("antares", f"--password={SECRET}"), 2),
        (("antares", "--api-secret", SECRET), 2),
        ((f"nonsense://jane:{SECRET}@host",), 1),
    ],
)
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(run, tmp_path, arguments, code):
    run("login", *arguments, given="", code=code)
    assert not (tmp_path / "config").exists()


def test_a_login_for_one_server(run, kept):
    run("login", "kafka", "--host", "kafka.example.org:9093", given=f"jane\n{SECRET}\n")
    assert set(kept()) == {"kafka.example.org"}, "it is looked for by the name alone"
    assert find_credentials("kafka", host="kafka.example.org").username == "jane"
    assert find_credentials("kafka") is None


def test_server_and_certificate_are_kept_too(run, tmp_path):
    (tmp_path / "ca.pem").write_text("")
    run("login", "fink", "--servers", "h:1", "--ssl-ca-location", "ca.pem", given=f"vera\n{SECRET}\n")
    assert find_setting("fink", "servers") == "h:1"
    assert find_setting("fink", "ssl_ca_location") == str(tmp_path / "ca.pem"), "it is found from any folder"


def test_a_broker_without_logins_asks_for_none(run, tmp_path):
    assert "lets everybody in" in run("login", "ztf", "--servers", "h:9092", given="")
    assert find_setting("ztf", "servers") == "h:9092"
    assert not (tmp_path / "config" / "credentials.toml").exists()


def test_a_certificate_that_is_not_there(run, tmp_path):
    assert "none.pem" in run(
        "login", "antares", "--ssl-ca-location", "none.pem", given=f"jane\n{SECRET}\n", code=2
    )
    assert not (tmp_path / "config").exists()


def test_a_login_is_forgotten(run, kept):
    run("login", "antares", given=f"jane\n{SECRET}\n")
    run("login", "fink", given=f"vera\n{SECRET}\n")
    assert "forgotten" in run("login", "antares", "--remove")
    assert set(kept()) == {"fink"}


@pytest.mark.parametrize("arguments", [("antares",), ("fink", "--host", "elsewhere.org")])
def test_who_forgets_what_was_never_kept_is_told_so(run, kept, arguments):
    run("login", "fink", given=f"vera\n{SECRET}\n")
    said = run("login", *arguments, "--remove")
    assert "forgotten" not in said
    assert "no login of" in said
    assert set(kept()) == {"fink"}


def test_a_login_in_the_environment_wins_and_that_is_said(run):
    said = run(
        "login",
        "antares",
        given=f"jane\n{SECRET}\n",
        NUNCIUS_ANTARES_USERNAME="john",
        NUNCIUS_ANTARES_PASSWORD="x",
    )
    assert "NUNCIUS_ANTARES_USERNAME and NUNCIUS_ANTARES_PASSWORD are set" in said


def test_a_file_that_was_written_by_hand_stays(run, tmp_path):
    path = tmp_path / "config" / "credentials.toml"
    path.parent.mkdir()
    text = '# mine\r\n[gcn]\r\nusername = "amy"\r\n\r\n# Fink, since May\r\n[fink]\r\nusername = "old"\r\ntoken = "kept"\r\n'
    path.write_bytes(text.encode())
    path.chmod(0o600)
    run("login", "antares", given=f"jane\n{SECRET}\n")
    run("login", "fink", given=f"vera\n{SECRET}\n")
    run("login", "antares", "--remove")
    lines = path.read_bytes().decode().splitlines(keepends=True)
    assert [line for line in text.splitlines(keepends=True) if line not in lines] == ['username = "old"\r\n']
    assert tomllib.loads("".join(lines))["fink"] == {"username": "vera", "password": SECRET, "token": "kept"}


@pytest.mark.parametrize(
    "content", [b"[fink\n", b"# caf\xe9\n", b"antares = 1\n", b'antares = {username = "x"}\n']
)
def test_a_file_that_can_not_be_changed_is_never_written_over(run, tmp_path, content):
    path = tmp_path / "config" / "credentials.toml"
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o600)
    assert str(path) in run("login", "antares", given=f"jane\n{SECRET}\n", code=1)
    assert path.read_bytes() == content


def test_a_folder_that_is_none_is_told(run, tmp_path):
    (tmp_path / "config").write_text("")
    assert "credentials.toml" in run("login", "antares", given=f"jane\n{SECRET}\n", code=1)


@POSIX
def test_nobody_else_can_read_it_whatever_the_umask(tmp_path):
    command = "import os, sys; os.umask(0); from nuncius.cli import main; main(['login', 'antares'])"
    subprocess.run(
        [sys.executable, "-c", command], input=f"jane\n{SECRET}\n".encode(), check=True, timeout=60
    )
    for path, mode in ((tmp_path / "config", 0o700), (tmp_path / "config" / "credentials.toml", 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode


@POSIX
def test_the_password_is_never_in_a_file_that_others_can_read(run, monkeypatch):
    """Each file that is made on the way is private when it is made, not only at the end."""
    modes = []
    plain_open = os.open

    def watched(name, flags, *rest, **options):
        handle = plain_open(name, flags, *rest, **options)
        if flags & os.O_CREAT:
            modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        return handle

    monkeypatch.setattr(os, "open", watched)
    before = os.umask(0)
    try:
        run("login", "antares", given=f"jane\n{SECRET}\n")
    finally:
        os.umask(before)
    assert modes == [0o600]


def test_logins_at_the_same_time_are_all_kept(kept):
    brokers = ["antares", "babamul", "fink", "gcn", "hopskotch", "lsst"]
    children = [
        subprocess.Popen([sys.executable, "-m", "nuncius.cli", "login", broker, "--username", broker],
                         stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for broker in brokers
    ]  # fmt: skip
    time.sleep(1.5)  # all wait for their input now
    for child in children:
        child.stdin.write(f"{SECRET}\n".encode())
        child.stdin.close()
    for child in children:
        with child.stderr:
            said = child.stderr.read()
        assert child.wait(60) == 0, said
    assert kept() == {broker: {"username": broker, "password": SECRET} for broker in brokers}


_TERMINAL = """
import pty, sys
sys.exit(pty.spawn([sys.executable, "-m", "nuncius.cli", "login", "antares"]) >> 8)
"""


@POSIX
def test_at_a_terminal_it_asks_and_shows_no_password(kept):
    child = subprocess.Popen(
        [sys.executable, "-c", _TERMINAL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    seen = []

    def read():
        while byte := child.stdout.read(1):
            seen.append(byte)

    reader = threading.Thread(target=read)
    reader.start()
    for prompt, answer in ((b"client id: ", b"jane\n"), (b"client secret: ", f"{SECRET}\n".encode())):
        assert wait_until(lambda end=prompt: b"".join(seen).endswith(end), timeout_s=30), b"".join(seen)
        child.stdin.write(answer)
        child.stdin.flush()
    child.stdin.close()
    assert child.wait(30) == 0
    reader.join(10)
    child.stdout.close()
    said = b"".join(seen).decode()
    assert "jane" in said
    assert SECRET not in said
    assert kept() == {"antares": {"username": "jane", "password": SECRET}}


# No secret shows ----------------------------------------------------------------------------------------------------------

SECRETS = [
    "sasl.password", "SASL.PASSWORD", "sasl.oauthbearer.client.secret", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem",
    "sasl.oauthbearer.assertion.private.key.passphrase", "sasl.oauthbearer.assertion.private.key.pem",
]  # fmt: skip


@pytest.mark.parametrize("setting", SECRETS)
@pytest.mark.parametrize("command", ["topics", "lag", "rewind", "doctor", "publish"])
def test_a_secret_among_the_settings_is_refused(run, command, setting):
    more = {"rewind": ("--to", "earliest"), "publish": ("packets",)}.get(command, ())
    said = run(command, "kafka://127.0.0.1:1/t", *more, "--config", f"{setting}={SECRET}", code=2)
    assert "list of processes" in said
    assert setting in said


@pytest.mark.parametrize("command", ["topics", "lag", "doctor"])
@pytest.mark.parametrize("pair", [SECRET, f"sasl.password: {SECRET}", f"sasl.password {SECRET}"])
def test_a_setting_without_a_name_is_not_repeated(run, command, pair):
    assert "KEY=VALUE" in run(command, "kafka://127.0.0.1:1/t", "--config", pair, code=2)


@pytest.mark.parametrize("command", ["topics", "lag", "doctor", "rewind", "publish"])
def test_a_secret_in_a_url_is_not_repeated(run, command):
    more = {"rewind": ("--to", "earliest"), "publish": ("packets",)}.get(command, ())
    said = run(command, f"kafka://jane:{SECRET}@127.0.0.1:1/t", *more, code=1)
    assert "no user name or password in a URL" in said


def test_where_a_token_comes_from_is_no_secret(run):
    """The address of a token endpoint has the word in its name, and everybody may see it."""
    said = run("topics", "kafka://127.0.0.1:1/t", "--config", "sasl.oauthbearer.token.endpoint.url=http://127.0.0.1:1/",
               "--config", "nonsense=1", code=1)  # fmt: skip
    assert "nonsense" in said


@pytest.mark.parametrize("command", ["topics", "lag", "doctor", "rewind", "publish"])
def test_a_refused_login_shows_no_password(run, antares, command, tmp_path):
    (tmp_path / "packet").write_bytes(b"{}")
    more = {"rewind": ("--to", "earliest"), "publish": ("packet", "--timeout", "5")}.get(command, ())
    said = run(command, f"{antares.url}/extragalactic", *more, "--ssl-ca-location", antares.ssl_ca_location, code=1,
               NUNCIUS_ANTARES_USERNAME="jane", NUNCIUS_ANTARES_PASSWORD=SECRET)  # fmt: skip
    assert "refuses the login" in said
    assert "'jane'" in said


def test_not_even_a_traceback_shows_a_password(antares):
    """NUNCIUS_TRACEBACK lets errors out; Python then prints the lines of code, and here what they say."""
    done = CliRunner().invoke(
        main, ["topics", antares.url, "--ssl-ca-location", str(antares.ssl_ca_location)],
        env={"NUNCIUS_TRACEBACK": "1", "NUNCIUS_ANTARES_USERNAME": "jane", "NUNCIUS_ANTARES_PASSWORD": SECRET},
    )  # fmt: skip
    assert isinstance(done.exception, NunciusError)
    shown = traceback.TracebackException.from_exception(done.exception, capture_locals=False)
    assert SECRET not in "".join(shown.format())
    assert SECRET not in done.output


# nuncius topics -----------------------------------------------------------------------------------------------------------


def test_topics_are_listed_as_users_write_them(run, logged_in):
    assert run("topics", "antares://").split() == logged_in.topics
    assert run("topics", "antares://", "*a*c*").split() == ["extragalactic"]


def test_topics_of_which_none_matches(run, url, nuncius_kafka):
    assert re.search(r"none of \d+ topics matches q\*x", run("topics", nuncius_kafka.url, "q*x"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("antares", "Did you mean antares://"),
        ("replay:///folder", "no broker to ask"),
        ("antares://", "lets nobody in without a login"),
        ("ztf://", "nuncius login ztf --servers"),
    ],
)
def test_why_no_topics_are_listed(run, given, said):
    assert said in run("topics", given, code=1)


def test_a_broker_that_does_not_answer(run, monkeypatch):
    monkeypatch.setitem(topics.__kwdefaults__, "timeout_s", 0.5)
    assert "no Kafka broker answers at 127.0.0.1:1" in run("topics", "kafka://127.0.0.1:1", code=1)


def test_a_misspelt_setting_is_told(run, nuncius_kafka):
    assert "bogus" in run("topics", nuncius_kafka.url, "--config", "bogus=1", code=1)


# nuncius lag, nuncius rewind ----------------------------------------------------------------------------------------------


def lags(cli, *arguments):
    rows = map(json.loads, cli("lag", *arguments, "--json").stdout.splitlines())
    return {(row["topic"], row["partition"]): row for row in rows}


def test_how_far_a_group_has_come(run, cli, url, topic, group, server):
    assert "10 messages wait" in run("lag", url, "--group", group)
    run("rewind", url, "--group", group, "--to", "latest")
    assert "0 messages wait" in run("lag", url, "--group", group)
    produce(server, topic, packets(4))
    found = lags(cli, url, "--group", group)
    assert {key[0] for key in found} == {topic}
    assert sum(row["waiting"] for row in found.values()) == 4
    assert {row["expired"] for row in found.values()} == {0}


def test_back_and_forth(run, url, topic, group, server):
    assert set(committed(server, group, topic).values()) == {None}
    said = run("rewind", url, "--group", group, "--to", "latest")
    at_end = committed(server, group, topic)
    assert sum(at_end.values()) == 10
    assert all(f"{topic}[{number}]: {offset}" in said for number, offset in at_end.items())
    run("rewind", url, "--group", group, "--to", "earliest")
    assert set(committed(server, group, topic).values()) == {0}


def test_the_group_is_your_own_if_none_is_named(run, cli, url, topic, server):
    run("rewind", url, "--to", "latest")
    group = Path(os.environ["NUNCIUS_DATA_DIR"], "group").read_text().strip()
    assert sum(committed(server, group, topic).values()) == 10
    assert "0 messages wait" in run("lag", url)


def test_several_topics_and_patterns(run, cli, nuncius_kafka, url, topic, group):
    nuncius_kafka.publish(f"{topic}-b", packets(4))
    both = f"{nuncius_kafka.url}/^{topic}.*"
    assert {key[0] for key in lags(cli, both, "--group", group)} == {topic, f"{topic}-b"}
    run("rewind", f"{url},{topic}-b", "--group", group, "--to", "latest")
    assert "0 messages wait" in run("lag", both, "--group", group)
    run("rewind", both, "--group", group, "--to", "earliest")
    assert "14 messages wait" in run("lag", f"{url},{topic}-b", "--group", group)


def test_topics_of_the_nights(run, cli, nuncius_kafka, topic, group):
    tonight = dt.datetime.now(dt.UTC)
    nights = [f"{topic}_{tonight - dt.timedelta(days=ago):%Y%m%d}" for ago in (0, 1, 3)]
    for night in nights:
        nuncius_kafka.publish(night, packets(2))
    dated = f"{nuncius_kafka.url}/{topic}_{{date}}"
    assert {key[0] for key in lags(cli, dated, "--group", group)} == set(nights)
    run("rewind", dated, "--group", group, "--to", "latest")
    assert "0 messages wait" in run("lag", dated, "--group", group)


def test_a_topic_that_is_not_there_moves_nothing(run, url, topic, group, server):
    for command in (("lag",), ("rewind", "--to", "latest")):
        assert "no topic 'nonsense'" in run(
            command[0], f"{url},nonsense", "--group", group, *command[1:], code=1
        )
    assert set(committed(server, group, topic).values()) == {None}


@pytest.mark.parametrize("command", [("lag",), ("rewind", "--to", "latest")])
def test_a_regular_expression_that_is_none(run, nuncius_kafka, command, group):
    said = run(command[0], f"{nuncius_kafka.url}/^a[", "--group", group, *command[1:], code=1)
    assert "regular expression" in said


def test_a_group_that_is_in_use_is_not_moved(cli, run, url, topic, group, server):
    child = subprocess.Popen(
        [sys.executable, "-m", "nuncius.cli", "stream", url, "--group", group, "--format", "jsonl", "--config",
         "group.protocol=consumer"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        for _ in range(10):
            assert child.stdout.readline()
        assert wait_until(
            lambda: sum(offset or 0 for offset in committed(server, group, topic).values()) == 10
        )
        before = committed(server, group, topic)
        said = run("rewind", url, "--group", group, "--to", "earliest", code=1)
        assert "somebody reads with the group" in said
        assert "Stop all its readers" in said
        assert committed(server, group, topic) == before
        assert "0 messages wait" in run("lag", url, "--group", group)
    finally:
        child.kill()
        child.wait(10)
        child.stdout.close()


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("yesterday", "to='yesterday' is not understood"),
        ("6h", "to='6h' is not understood"),
        ("-6", "to='-6' is not understood"),
        ("committed", "changes nothing"),
        ("2026-11-20T03:00", "has no time zone"),
        ("", "to='' is not understood"),
    ],
)
def test_a_time_that_means_nothing(run, url, to, said):
    assert said in run("rewind", url, "--to", to, code=1)


def test_whither_must_be_said(run, url):
    assert "--to" in run("rewind", url, code=2)


# nuncius doctor -----------------------------------------------------------------------------------------------------------


def test_a_stream_in_good_health(run, logged_in):
    said = run("doctor", "antares://extragalactic")
    notes = ["Beside"] if decoder() is None else []
    assert [line.split()[0] for line in said.splitlines()] == ["ok"] * 8 + notes
    assert logged_in.api_secret not in said


@pytest.mark.parametrize(
    ("given", "step"),
    [("nonsense", "settings"), ("kafka://two..dots:9092/t", "name"), ("kafka://127.0.0.1:1/t", "network")],
)
def test_a_failed_step_is_the_exit_code(run, given, step):
    said = run("doctor", given, "--timeout", "2", code=1)
    assert re.search(rf"^FAILED +{step} ", said, re.MULTILINE)


def test_a_wrong_topic_is_explained(run, logged_in):
    said = run("doctor", "antares://extragalatic", code=1)
    assert re.search(r"^FAILED +topic .*extragalactic", said, re.MULTILINE)
    assert re.search(r"^- +message ", said, re.MULTILINE)


def test_a_warning_is_no_failure(run, nuncius_kafka, topic):
    nuncius_kafka.publish(topic, [b"garbage"])
    said = run("doctor", f"{nuncius_kafka.url}/{topic}")
    assert re.search(r"^warning +message ", said, re.MULTILINE)
    assert "quarantine" in said


def test_each_step_keeps_to_its_time(run, logged_in):
    logged_in.front.change(stalled=True)
    begin = time.monotonic()
    try:
        said = run("doctor", "antares://extragalactic", "--timeout", "1", code=1)
    finally:
        logged_in.front.change(stalled=False)
    assert time.monotonic() - begin < 5
    assert re.search(r"^FAILED +login .*1 s", said, re.MULTILINE)


@pytest.mark.parametrize("value", ["0", "-1", "soon"])
def test_a_time_that_is_none(run, url, value):
    run("doctor", url, "--timeout", value, code=2)


# nuncius publish ----------------------------------------------------------------------------------------------------------

SCHEMA = {
    "type": "record",
    "name": "example.alert",
    "fields": [
        {"name": "alertId", "type": "long"},
        {"name": "ra", "type": ["null", "double"], "default": None},
    ],
}


@pytest.fixture
def target(nuncius_kafka, topic):
    """An empty topic."""
    nuncius_kafka.publish(topic, [])
    return f"{nuncius_kafka.url}/{topic}"


@pytest.fixture
def received(server, topic):
    """Read what has arrived, as (value, key, headers)."""

    def received():
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(
            {"bootstrap.servers": server, "group.id": "none", "enable.partition.eof": True, "log_level": 2}
        )
        consumer.assign([TopicPartition(topic, number, 0) for number in range(4)])
        found, ends = [], 0
        while ends < 4:
            for message in consumer.consume(100, 0.5):
                if message.error():
                    ends += 1
                else:
                    found.append((message.value(), message.key(), message.headers()))
        consumer.close()
        return found

    return received


@pytest.fixture
def folder(tmp_path):
    """Six packets, and what is none."""
    path = tmp_path / "packets"
    (path / "night").mkdir(parents=True)
    for number, packet in enumerate(synthetic_alerts(6)):
        (path / "night" / f"{number}.avro").write_bytes(packet)
    (path / "README.md").write_text("about these packets")
    return path


def test_a_folder_is_published_as_it_is(run, target, received, folder):
    assert "6 messages published and confirmed" in run("publish", target, folder)
    assert sorted(value for value, _, _ in received()) == sorted(
        packet.raw for packet in read_packets(folder / "night")
    )


def test_key_and_headers(run, target, received, folder):
    run(
        "publish",
        target,
        folder / "night" / "0.avro",
        "--key",
        "K",
        "--header",
        "a=1",
        "--header",
        "b=x=y",
        "--header",
        "a=2",
    )
    ((_, key, headers),) = received()
    assert key == b"K"
    assert headers == [("a", b"1"), ("b", b"x=y"), ("a", b"2")], "Kafka takes the same name twice"


def test_standard_input(run, target, received):
    run("publish", target, "-", given=b"\x00\x01\xff")
    assert [value for value, _, _ in received()] == [b"\x00\x01\xff"]


def test_lines(run, target, received):
    assert "2 messages" in run("publish", target, "-", "--lines", given='{"a": 1}\r\n\n{"a": 2}')
    assert sorted(value for value, _, _ in received()) == [b'{"a": 1}', b'{"a": 2}']


def test_json_lines_are_written_as_avro(run, target, received, tmp_path):
    (tmp_path / "alert.avsc").write_text(json.dumps(SCHEMA))
    (tmp_path / "alerts.jsonl").write_text('{"alertId": 1, "ra": 10.5}\n{"alertId": 2}\n')
    assert "2 messages" in run("publish", target, "--schema", "alert.avsc", "alerts.jsonl")
    (tmp_path / "arrived").mkdir()
    for number, (value, _, _) in enumerate(received()):
        (tmp_path / "arrived" / f"{number}.avro").write_bytes(value)
    found = sorted(
        (alert.packet for alert in read_packets(tmp_path / "arrived")), key=lambda packet: packet["alertId"]
    )
    assert found == [{"alertId": 1, "ra": 10.5}, {"alertId": 2, "ra": None}]


@pytest.mark.parametrize(
    "line", ['{"alertId": "x"}', '{"alertId": 3, "more": 1}', "nonsense", "[1]", '"x"', "{}", b"\xff\xfe"]
)
def test_a_line_that_does_not_fit_the_schema_is_named(run, target, received, tmp_path, line):
    (tmp_path / "alert.avsc").write_text(json.dumps(SCHEMA))
    line = line if isinstance(line, bytes) else line.encode()
    (tmp_path / "alerts.jsonl").write_bytes(b'{"alertId": 1}\n\n' + line + b'\n{"alertId": 4}\n')
    said = run("publish", target, "--schema", "alert.avsc", "alerts.jsonl", code=1)
    assert "alerts.jsonl, line 3" in said
    assert "confirmed 1 of" in said
    assert len(received()) == 1


@pytest.mark.parametrize(
    "content", [b"{nonsense", b"\xff\xfe", b"", b'{"type": "rekord"}', b"[1]", b'{"type": "record"}']
)
def test_a_schema_that_is_none(run, target, received, tmp_path, content):
    (tmp_path / "alert.avsc").write_bytes(content)
    assert "schema" in run("publish", target, "-", "--schema", "alert.avsc", given='{"alertId": 1}\n', code=1)
    assert received() == []


@pytest.mark.parametrize("what", ["folder", "lines", "standard input"])
def test_nothing_to_publish_is_told(run, target, received, tmp_path, what):
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank").write_text("\n\n")
    arguments = {"folder": ("empty",), "lines": ("blank", "--lines"), "standard input": ("-",)}[what]
    assert "nothing to be published" in run("publish", target, *arguments, given="", code=1)
    assert received() == []


def test_a_file_that_is_not_there(run, target):
    assert "there is no file or folder nowhere" in run("publish", target, "nowhere", code=1)


def test_a_file_that_can_not_be_read(run, target, folder, monkeypatch):
    plain = Path.read_bytes

    def forbidden(path):
        if path.name == "3.avro":
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    said = run("publish", target, folder, code=1)
    assert "3.avro can't be read: Permission denied" in said
    assert "confirmed 3 of the 3" in said


@POSIX
def test_a_pipe_is_a_file(run, target, received, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"through a pipe",), daemon=True)
    writer.start()
    assert "1 messages" in run("publish", target, tmp_path / "pipe")
    writer.join(10)
    assert [value for value, _, _ in received()] == [b"through a pipe"]


def test_a_file_that_is_too_large_for_the_broker(run, target, received, folder, tmp_path):
    (tmp_path / "large").write_bytes(bytes(300_000))
    said = run("publish", target, folder, "large", "--config", "message.max.bytes=200000", code=1)
    assert "at large" in said
    assert "no message of this size" in said
    assert "confirmed 6 of the 7" in said
    assert len(received()) == 6


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nonsense", "no topic 'nonsense'"),
        ("/a,b", "writes to one topic"),
        ("/^a.*", "writes to one topic"),
        ("/a_{date}", "writes to one topic"),
        ("/", "lacks its topic"),
    ],
)
def test_a_topic_that_can_not_be_written_to(run, nuncius_kafka, folder, path, said):
    assert said in run("publish", f"{nuncius_kafka.url}{path}", folder, code=1)


def test_nobody_listens(run, folder):
    begin = time.monotonic()
    assert "no Kafka broker answers" in run(
        "publish", "kafka://127.0.0.1:1/t", folder, "--timeout", "1", code=1
    )
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("header", ["nonsense", ""])
def test_a_header_that_is_none(run, target, folder, header):
    assert "NAME=VALUE" in run("publish", target, folder, "--header", header, code=2)


@contextlib.contextmanager
def publishing(target, *arguments):
    """Publish from standard input, line by line as it comes, in a process of its own."""
    child = subprocess.Popen(
        [sys.executable, "-m", "nuncius.cli", "publish", target, "many", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
            child.wait(10)
        child.stdout.close()
        child.stderr.close()


@pytest.fixture
def many(antares, tmp_path):
    """More packets than a broker takes at once, and a topic before which a front stands that can fall silent."""
    (tmp_path / "many").mkdir()
    for number in range(300):
        (tmp_path / "many" / f"{number:03}").write_bytes(bytes(500_000))
    topic = new_name()
    antares.kafka.publish(f"client.{topic}", [])
    yield f"antares://{topic}"
    antares.front.change(stalled=False)


def silent_midway(antares, child, topic):
    """Wait until something has arrived, and let the broker fall silent."""
    from confluent_kafka import Consumer, TopicPartition

    client = Consumer(
        {
            "bootstrap.servers": f"{antares.kafka.host}:{antares.kafka.port}",
            "group.id": "none",
            "log_level": 2,
        }
    )

    def arrived():
        ends = [
            client.get_watermark_offsets(TopicPartition(topic, number), timeout=5)[1] for number in range(4)
        ]
        return any(ends)

    try:
        assert wait_until(arrived)
    finally:
        client.close()
    antares.front.change(stalled=True)
    assert child.poll() is None


def test_a_broker_that_goes_midway(logged_in, many):
    with publishing(many, "--timeout", "2") as child:
        silent_midway(logged_in, child, f"client.{many.removeprefix('antares://')}")
        _, said = child.communicate(timeout=40)
    assert child.returncode == 1
    assert "Traceback" not in said
    confirmed, given = map(int, re.search(r"confirmed (\d+) of the (\d+) messages", said).groups())
    assert 0 < confirmed < given <= 300
    assert "they may have arrived all the same" in said


@POSIX
def test_ctrl_c_waits_for_what_was_sent_and_says_how_far_it_came(logged_in, many):
    with publishing(many) as child:
        silent_midway(logged_in, child, f"client.{many.removeprefix('antares://')}")
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        time.sleep(1)
        assert child.poll() is None, "it waits for confirmations"
        logged_in.front.change(stalled=False)
        _, said = child.communicate(timeout=40)
    assert child.returncode == 130
    assert "Ctrl-C again" in said
    assert "Traceback" not in said
    assert re.search(r"confirmed \d+ of the \d+ messages", said)


@POSIX
def test_a_second_ctrl_c_waits_for_nothing(logged_in, many):
    with publishing(many) as child:
        silent_midway(logged_in, child, f"client.{many.removeprefix('antares://')}")
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        time.sleep(0.5)
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=20)
    assert time.monotonic() - begin < 3
    assert child.returncode == 130
    confirmed, given = map(int, re.search(r"confirmed (\d+) of the (\d+) messages", said).groups())
    assert confirmed < given
    assert "Traceback" not in said


@POSIX
def test_ctrl_c_in_any_command():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        child = subprocess.Popen(
            [sys.executable, "-m", "nuncius.cli", "topics", f"kafka://127.0.0.1:{deaf.getsockname()[1]}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deaf.settimeout(20)
        connection, _ = deaf.accept()
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=20)
        connection.close()
    assert child.returncode == 130
    assert "Traceback" not in said


def test_the_doctor_tells_what_decodes_packets(monkeypatch):
    from nuncius.alerts.packets import compiled
    from nuncius.brokers.doctor import decoding

    monkeypatch.setenv("NUNCIUS_COMPILED", "0")
    compiled.decoder.cache_clear()
    verdict = decoding()
    assert (verdict.step, verdict.state) == ("decoder", "warning")
    assert "NUNCIUS_COMPILED" in verdict.cure
    monkeypatch.delenv("NUNCIUS_COMPILED")
    compiled.decoder.cache_clear()
    assert decoding().state == ("ok" if compiled.decoder() else "warning")
