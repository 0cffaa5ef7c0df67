"""Google Pub/Sub from the shell: subscriptions, logging in with a browser, the doctor, streams, the server to try things with."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import tomllib
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from nuncius import Alert, open_archive
from nuncius.cli import main
from nuncius.cli.demo_pubsub import attributes_of
from nuncius.sandbox import synthetic_alerts
from nuncius.sandbox.pubsub import SandboxPubSub

pytest.importorskip("google.pubsub_v1", reason="needs google-cloud-pubsub")

pytestmark = pytest.mark.xdist_group("cli-pubsub")

CLIENT_ID, CLIENT_SECRET, RENEWAL = "nuncius.apps.example", "GOCSPX-s3cret", "1//r3newal-s3cret"
SECRETS = (CLIENT_SECRET, RENEWAL, "ya29.")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and signals")
PROJECT = "nuncius-sandbox"
LOOP = "projects/ardent-cycling-243415/topics/ztf-loop"


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path, monkeypatch):
    """Keep the user's own logins, settings and projects out of it, here and in the processes that are started."""
    ours = (
        "NUNCIUS_",
        "GOOGLE_",
        "PUBSUB_",
        "PITTGOOGLE_",
        "OAUTH",
        "CLOUDSDK_",
        "GCLOUD_",
        "SSH_CONNECTION",
    )
    for name in [name for name in os.environ if name.startswith(ours)]:
        monkeypatch.delenv(name)
    places = {"NUNCIUS_CONFIG_DIR": "config", "NUNCIUS_DATA_DIR": "data", "NETRC": "netrc", "HOME": "."}
    for name, place in places.items():
        monkeypatch.setenv(name, str(tmp_path / place))
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # no metadata server is asked for
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run():
    """Run a command in this process, which is quick; return all that it says."""

    def run(*arguments, code=0, given=None, **environment):
        done = CliRunner().invoke(main, [*map(str, arguments)], input=given, env=environment)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        assert not any(secret in done.output for secret in SECRETS)
        return done.output

    return run


@pytest.fixture
def server(nuncius_pubsub):
    return nuncius_pubsub


@pytest.fixture
def loop(server):
    """The topic for tests."""
    return f"{server.pittgoogle_url}/ztf-loop"


def rpcs(server):
    return [request.rpc for request in server.requests]


@pytest.mark.parametrize(
    "command",
    [
        ("subscription",),
        *(("subscription", name) for name in ("show", "touch", "delete", "seek")),
        ("sandbox",),
        ("sandbox", "pubsub"),
    ],
    ids=" ".join,
)
def test_every_command_explains_itself(run, command):
    said = run(*command, "--help")
    assert said.startswith("Usage:")
    assert len(said.split()) > 20


# nuncius subscription ----------------------------------------------------------------------------------------------------


def test_what_a_subscription_is_is_shown(run, server):
    said = run("subscription", "show", server.url)
    assert f"projects/{PROJECT}/subscriptions/ztf-loop" in said
    assert LOOP in said
    assert "7 days" in said
    assert rpcs(server) == ["GetSubscription"]


def test_as_json(run, server):
    found = json.loads(run("subscription", "show", server.url, "--json"))
    assert found["path"] == server.subscription_path
    assert (found["topic"], found["attribute_filter"], found["retention_s"]) == (LOOP, "", 7 * 86_400)


def test_looking_makes_nothing(run, server):
    said = run("subscription", "show", f"{server.pittgoogle_url}/lvk-alerts", code=1)
    assert "nuncius subscription touch" in said
    assert rpcs(server) == ["GetSubscription"]


def test_a_subscription_is_made_once(run, server):
    url = f"{server.pittgoogle_url}/lvk-alerts"
    assert "made just now" in run("subscription", "touch", url)
    assert "there already" in run("subscription", "touch", url)
    assert rpcs(server).count("CreateSubscription") == 1
    assert "projects/ardent-cycling-243415/topics/lvk-alerts" in run("subscription", "show", url)


def test_with_a_filter_and_a_name(run, server, loop):
    text = 'attributes.pg_variable = "likely"'
    run(
        "subscription",
        "touch",
        loop,
        "--group",
        "likely",
        "--attribute-filter",
        text,
        "--retain-acknowledged",
    )
    server.publish(
        "ztf-loop", [b"{}", b"{}"], attributes=[{"pg_variable": "likely"}, {"pg_variable": "unlikely"}]
    )
    assert server.counts("likely").waiting == 1
    found = json.loads(run("subscription", "show", loop, "--group", "likely", "--json"))
    assert (found["attribute_filter"], found["retain_acknowledged"]) == (text, True)


@pytest.mark.parametrize("topic", ["ztf-mine", f"projects/{PROJECT}/topics/ztf-mine"])
def test_of_any_topic(run, server, topic):
    server.create_topic("ztf-mine")
    url = f"pubsub://{server.endpoint}/{PROJECT}/mine"
    assert "made just now" in run("subscription", "touch", url, "--topic", topic)
    assert "nothing was changed" in run("subscription", "touch", url, "--topic", topic)


def test_one_that_is_there_otherwise_is_told(run, server):
    arguments = ("--attribute-filter", "attributes:x", "--retain-acknowledged")
    said = run("subscription", "touch", server.url, *arguments, code=1)
    assert "it has no filter, it does not keep what was read" in " ".join(said.split())
    said = run("subscription", "touch", server.url, "--topic", "other", code=1)
    assert f"is of {LOOP} and not of" in " ".join(said.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--topic", "ztf-lop"), "no topic 'ztf-lop'"),
        ((), "subscription touch URL --topic TOPIC"),
        (("--topic", "ztf-loop", "--attribute-filter", "mag < 18"), "attribute_filter"),
    ],
)
def test_why_none_was_made(run, server, arguments, said):
    assert said in run(
        "subscription", "touch", f"pubsub://{server.endpoint}/{PROJECT}/new", *arguments, code=1
    )
    assert "CreateSubscription" not in rpcs(server) or server.requests[-1].rpc == "ListTopics"


def test_a_misspelt_topic_of_pitt_google_is_told_with_close_ones(run, server):
    said = run("subscription", "touch", f"{server.pittgoogle_url}/ztf-lop", code=1)
    assert "Close to it: ztf-loop" in said


def test_deleted_and_gone(run, server):
    assert "deleted" in run("subscription", "delete", server.url, "--yes")
    assert "nothing was deleted" in run("subscription", "delete", server.url, "--yes")
    assert rpcs(server).count("DeleteSubscription") == 1


def test_nothing_is_deleted_without_a_yes(run, server):
    assert "give --yes" in run("subscription", "delete", server.url, code=2)
    assert "DeleteSubscription" not in rpcs(server)


_AT_A_TERMINAL = """
import pty, sys
sys.exit(pty.spawn([sys.executable, "-m", "nuncius.cli", "subscription", "delete", sys.argv[1]]) >> 8)
"""


@POSIX
@pytest.mark.parametrize(("answer", "code", "gone"), [("n", 130, False), ("y", 0, True)])
def test_at_a_terminal_it_asks(server, answer, code, gone):
    command = [sys.executable, "-c", _AT_A_TERMINAL, server.url]
    done = subprocess.run(command, input=f"{answer}\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout
    assert f"Delete {server.subscription_path}" in done.stdout
    assert ("DeleteSubscription" in rpcs(server)) is gone


def test_going_back_brings_what_was_kept(run, server, loop):
    run("subscription", "touch", loop, "--group", "back", "--retain-acknowledged")
    server.publish("ztf-loop", synthetic_alerts(3))
    assert len(run("stream", loop, "--group", "back", "--until", "end").splitlines()) >= 3
    assert server.counts("back").waiting == 0
    for command in (("subscription", "seek"), ("rewind",)):
        assert "moved to -1h" in run(*command, loop, "--group", "back", "--to", "-1h")
        assert server.counts("back").waiting == 3
        run("subscription", "seek", loop, "--group", "back", "--to", "latest")
        assert server.counts("back").waiting == 0


@pytest.mark.parametrize("command", [("subscription", "seek"), ("rewind",)])
def test_a_time_that_means_nothing(run, server, command):
    assert "to='yesterday' is not understood" in run(*command, server.url, "--to", "yesterday", code=1)
    assert rpcs(server) == []


@pytest.mark.parametrize("command", ["show", "touch", "delete", "seek"])
def test_what_is_no_subscription(run, command):
    more = ("--to", "latest") if command == "seek" else ()
    for url, said in (
        ("kafka://127.0.0.1:1/t", "not the URL of a Pub/Sub stream"),
        ("pubsub://127.0.0.1:1/only-one", "write pubsub://PROJECT/SUBSCRIPTION"),
        (f"pubsub://jane:{CLIENT_SECRET}@127.0.0.1:1/p/s", "no user name or password in a URL"),
        ("pubsub://127.0.0.1:1/project/x", "can't be the name"),
    ):
        assert said in run("subscription", command, url, *more, code=1)


def test_each_step_keeps_to_its_time(run):
    begin = time.monotonic()
    assert "nobody answers" in run(
        "subscription", "show", "pubsub://127.0.0.1:1/aaa/bbb", "--timeout", "1", code=1
    )
    assert time.monotonic() - begin < 5


# nuncius topics, lag, stream ---------------------------------------------------------------------------------------------


def test_topics_of_a_project(run, loop):
    assert run("topics", loop).split() == ["lvk-alerts", "ztf-alerts", "ztf-lite", "ztf-loop"]
    assert run("topics", loop, "ztf-l*").split() == ["ztf-lite", "ztf-loop"]


def test_topics_of_pitt_google_and_of_a_project(run, server):
    assert run("topics", server.pittgoogle_url, "ls*").split() == ["lsst-alerts", "lsst-alerts-json"]
    assert run("topics", f"pubsub://{server.endpoint}/pitt-alert-broker").split() == [
        "lsst-alerts",
        "lsst-alerts-json",
    ]
    assert "names no project" in run("topics", f"pubsub://{server.endpoint}", code=1)


def test_what_pub_sub_does_not_tell(run, loop):
    said = run("lag", loop, code=1)
    assert "does not tell how many messages wait" in said
    assert "console" in said


def test_a_stream_is_kept(run, server, loop, tmp_path):
    packets = synthetic_alerts(6)
    server.publish("ztf-loop", packets, attributes={"pg_variable": "likely"})
    run("stream", loop, "--limit", "4", "--archive", tmp_path / "night.db")
    assert server.counts().acknowledged == 4
    assert server.counts().waiting == 2
    run("stream", loop, "--until", "end", "--archive", tmp_path / "night.db", "--config", "lease_s=10")
    with open_archive(tmp_path / "night.db", read_only=True) as archive:
        found = list(archive.find("ZTF_alerts"))
    assert sorted(row["candid"] for row in found) == sorted(
        Alert.from_bytes(packet).alert_id for packet in packets
    )
    assert all(row["annotations"]["pittgoogle"] == {"variable": "likely"} for row in found)


def test_only_messages_with_some_attributes(run, server, loop, tmp_path):
    server.publish(
        "ztf-loop", synthetic_alerts(4), attributes=[{"pg_variable": x} for x in ("a", "b", "a", "b")]
    )
    arguments = ("--attribute-filter", 'attributes.pg_variable = "a"', "--until", "end", "--format", "jsonl")
    said = run("stream", loop, *arguments)
    assert sum(line.startswith("{") for line in said.splitlines()) == 2
    assert server.counts().acknowledged == 4, "what a filter drops is finished"


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (("--attribute-filter", "attributes.a > 1"), "attribute_filter", 1),
        (("--config", "lease_s=1"), "from 10 to 600", 1),
        (("--config", "lease_s=soon"), "from 10 to 600", 1),
        (("--config", "group.protocol=consumer"), "not known for Pub/Sub", 1),
        (("--key-file", "nowhere.json"), "nowhere.json can't be used", 1),
        (("--pace", "2"), "pace= is for replay://", 1),
    ],
)
def test_what_a_stream_does_not_understand(run, loop, arguments, said, code):
    assert said in run("stream", loop, *arguments, "--limit", "1", code=code)


@pytest.mark.parametrize("command", [("topics",), ("rewind", "--to", "latest"), ("doctor",), ("stream",)])
def test_a_key_file_is_for_pub_sub_alone(run, command, tmp_path):
    said = run(command[0], "kafka://127.0.0.1:1/t", *command[1:], "--key-file", "key.json", code=2)
    assert "--key-file is for Google Pub/Sub" in said


def test_a_key_file_is_not_quoted(run, tmp_path):
    (tmp_path / "key.json").write_text(json.dumps({"type": "service_account", "private_key": CLIENT_SECRET}))
    said = run(
        "subscription", "show", "pubsub://some-project/some-subscription", "--key-file", "key.json", code=1
    )
    assert "key.json can't be used" in said


# nuncius login -----------------------------------------------------------------------------------------------------------


class TokenEndpoint:
    """Gives tokens as Google does, for codes and for the token of a login, as long as it is good."""

    def __init__(self):
        self.asked = []
        self.given = []
        self.is_good = True
        self.scope = "https://www.googleapis.com/auth/pubsub"
        self.renews = True
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, answer = endpoint.answer(dict(urllib.parse.parse_qsl(form)))
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, form):
        self.asked.append(form)
        if (
            not self.is_good
            or form.get("code", "good") != "good"
            or form.get("refresh_token", RENEWAL) != RENEWAL
        ):
            return 400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
        self.given.append(f"ya29.{len(self.given)}")
        answer = {"access_token": self.given[-1], "expires_in": 3600, "token_type": "Bearer",
                  "scope": self.scope}  # fmt: skip
        return 200, answer | ({"refresh_token": RENEWAL} if "code" in form and self.renews else {})

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def tokens():
    endpoint = TokenEndpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def log_in(tokens):
    """Log in as a person would: read the address, let Google send the browser back to where it says."""

    def log_in(*arguments, back=None, code=0, given="", **environment):
        variables = {
            "PITTGOOGLE_OAUTH_CLIENT_ID": CLIENT_ID, "PITTGOOGLE_OAUTH_CLIENT_SECRET": CLIENT_SECRET,
            "NUNCIUS_PITTGOOGLE_TOKEN_URL": tokens.url, "OAUTHLIB_INSECURE_TRANSPORT": "1",
        }  # fmt: skip
        child = subprocess.Popen(
            [sys.executable, "-m", "nuncius.cli", "login", *(arguments or ("pittgoogle",))],
            env={**os.environ, **variables, **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        with child:
            child.stdin.write(given)
            child.stdin.close()
            said = []
            for line in child.stdout:
                said.append(line)
                if "https://accounts.google.com" in line:
                    _sent_back(line.strip(), back or {"code": "good"})
            assert child.wait(60) == code, said
        said = "".join(said)
        assert "Traceback" not in said
        assert not any(secret in said for secret in SECRETS)
        return said

    return log_in


def _sent_back(address, answer):
    """Do what Google's page does when the person has said yes, or no."""
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(address).query))
    assert (asked["client_id"], asked["access_type"]) == (CLIENT_ID, "offline")
    assert asked["scope"] == "https://www.googleapis.com/auth/pubsub", "no more than is needed"
    query = urllib.parse.urlencode({"state": asked["state"], **answer})
    with urllib.request.urlopen(f"{asked['redirect_uri']}?{query}", timeout=20) as page:
        assert page.status == 200


def kept(folder):
    return tomllib.loads((folder / "config" / "credentials.toml").read_text()).get("pittgoogle")


def test_a_person_logs_in_with_a_browser(log_in, tokens, tmp_path):
    said = log_in("pittgoogle", "--project", "my-project")
    assert "kept in" in said
    assert "nuncius doctor pittgoogle://TOPIC" in said
    assert kept(tmp_path) == {
        "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "refresh_token": RENEWAL, "token_uri": tokens.url,
    }  # fmt: skip
    assert tomllib.loads((tmp_path / "config" / "config.toml").read_text())["pittgoogle"] == {
        "project": "my-project"
    }
    assert "ssh -L" in said, "no browser is opened where nobody sits, and that is explained"


@POSIX
def test_nobody_else_may_read_it(log_in, tmp_path):
    log_in("pubsub")
    assert stat.S_IMODE((tmp_path / "config" / "credentials.toml").stat().st_mode) == 0o600


def test_the_client_may_be_given_on_standard_input(log_in, tmp_path):
    nothing = {"PITTGOOGLE_OAUTH_CLIENT_ID": "", "PITTGOOGLE_OAUTH_CLIENT_SECRET": ""}
    log_in("pittgoogle", given=f"{CLIENT_ID}\n{CLIENT_SECRET}\n", **nothing)
    assert kept(tmp_path)["client_id"] == CLIENT_ID
    said = log_in("pittgoogle", given="one line\n", code=1, **nothing)
    assert "expected is two lines" in said


@pytest.mark.parametrize(
    ("back", "said"),
    [
        ({"error": "access_denied"}, "access_denied"),
        ({"code": "stale"}, "invalid_grant"),
        ({"code": "good", "state": "forged"}, "mismatching_state"),
    ],
)
def test_a_login_that_did_not_work(log_in, tmp_path, back, said):
    told = log_in(back=back, code=1)
    assert "the login did not work" in told
    assert said in told
    assert not (tmp_path / "config" / "credentials.toml").exists()


def test_not_all_was_granted(log_in, tokens, tmp_path):
    tokens.scope = "openid"
    assert "the login did not work: Scope has changed" in log_in(code=1)
    assert not (tmp_path / "config" / "credentials.toml").exists()


def test_a_login_that_can_not_be_renewed_is_not_kept(log_in, tokens, tmp_path):
    tokens.renews = False
    assert "can't be kept" in log_in(code=1)
    assert not (tmp_path / "config" / "credentials.toml").exists()


def test_forgotten(log_in, run, tmp_path):
    log_in()
    assert "forgotten" in run("login", "pittgoogle", "--remove")
    assert not kept(tmp_path)
    assert "no login of" in run("login", "pittgoogle", "--remove")


def test_what_wins_over_it_is_said(log_in, tmp_path):
    (tmp_path / "key.json").write_text("{}")
    assert "wins over" in log_in(GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "key.json"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pittgoogle", "--host", "h"), "leave --host out"),
        (("fink", "--project", "p"), "--project is for Google"),
        (("pittgoogle", CLIENT_SECRET), "only the broker is named here"),
    ],
)
def test_what_is_not_for_this_login(run, tmp_path, arguments, said):
    assert said in run("login", *arguments, given="", code=2)
    assert not (tmp_path / "config").exists()


@pytest.fixture
def google(log_in, tokens):
    """A server with TLS that knows the tokens which the endpoint gives; a person has logged in."""
    with SandboxPubSub(tls=True, tokens=["nobody's"]) as server:
        server.tokens = tokens.given
        log_in()
        yield server


def test_the_kept_login_is_renewed_and_used(google, run, tokens):
    google.publish("ztf-loop", synthetic_alerts(3))
    said = run("stream", google.url, "--ssl-ca-location", google.ca_file, "--limit", "3",
               "--format", "jsonl")  # fmt: skip
    assert sum(line.startswith("{") for line in said.splitlines()) == 3
    assert google.counts().acknowledged == 3
    assert [form["grant_type"] for form in tokens.asked] == ["authorization_code", "refresh_token"]


def test_a_login_that_was_taken_back(google, run, tokens):
    tokens.is_good = False
    for command in (("subscription", "show"), ("stream",), ("topics",)):
        said = run(*command, google.url, "--ssl-ca-location", google.ca_file, code=1)
        assert "invalid_grant" in said
        assert "nuncius login pittgoogle" in said


def test_a_token_that_the_server_does_not_know(google, run):
    google.tokens = ["another"]
    said = run("subscription", "show", google.url, "--ssl-ca-location", google.ca_file, code=1)
    assert "refuses the login" in said


# nuncius doctor ----------------------------------------------------------------------------------------------------------


def steps(said):
    """Return how each step went."""
    found = re.findall(r"^(ok|FAILED|warning|-) +(\w+) ", said, re.MULTILINE)
    assert [step for _, step in found] == [
        "settings",
        "name",
        "network",
        "TLS",
        "login",
        "subscription",
        "message",
    ]
    return {step: state for state, step in found}


def test_a_subscription_in_good_health(run, server):
    server.publish("ztf-loop", synthetic_alerts(1))
    said = run("doctor", server.url)
    assert set(steps(said).values()) == {"ok"}
    assert "ZTF" in said
    assert "it was given back" in said
    counts = server.counts()
    assert (counts.waiting, counts.leased, counts.acknowledged, counts.released) == (1, 0, 0, 1)


def test_looking_makes_no_subscription(run, server):
    said = run("doctor", f"{server.pittgoogle_url}/lsst-alerts")
    assert steps(said)["subscription"] == "warning"
    assert steps(said)["message"] == "-"
    assert "the first stream makes it" in said
    assert "CreateSubscription" not in rpcs(server)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/lsst-alrts", "no topic 'lsst-alrts'"),
        ("/some-project/ztf-loop", "is of projects/ardent-cycling-243415/topics/ztf-loop, not of"),
    ],
)
def test_a_wrong_topic(run, server, path, said):
    told = run("doctor", f"{server.pittgoogle_url}{path}", code=1)
    assert steps(told)["subscription"] == "FAILED"
    assert said in told


def test_a_missing_subscription(run, server):
    said = run("doctor", f"pubsub://{server.endpoint}/{PROJECT}/nothing", code=1)
    assert steps(said)["subscription"] == "FAILED"
    assert "nuncius subscription touch" in said


def test_a_subscription_whose_topic_is_gone(run, server):
    server._state.delete_topic(LOOP)
    said = run("doctor", server.url, code=1)
    assert steps(said)["subscription"] == "FAILED"
    assert "its topic was deleted" in said


def test_nothing_waits(run, server):
    said = run("doctor", server.url)
    assert steps(said)["message"] == "warning"
    assert "nothing waits, or another reader has it" in said


def test_a_message_that_can_not_be_read(run, server):
    server.publish("ztf-loop", [b"Obj\x01 and no more"])
    said = run("doctor", server.url)
    assert steps(said)["message"] == "warning"
    assert "quarantine" in said
    assert server.counts().waiting == 1


@pytest.mark.parametrize(
    ("rpc", "code", "step", "said"),
    [
        ("GetSubscription", "UNAUTHENTICATED", "login", "refuses the login"),
        ("GetSubscription", "UNAVAILABLE", "login", "is it a Pub/Sub server?"),
        ("StreamingPull", "PERMISSION_DENIED", "message", "roles/pubsub.subscriber"),
        ("StreamingPull", "UNAVAILABLE", "message", "does not serve"),
    ],
)
def test_what_the_server_refuses(run, server, rpc, code, step, said):
    server.fail(rpc, code)
    told = run("doctor", server.url, code=1)
    assert steps(told)[step] == "FAILED"
    assert said in told


def test_who_may_read_need_not_be_allowed_to_look(run, server):
    server.publish("ztf-loop", synthetic_alerts(1))
    server.fail("GetSubscription", "PERMISSION_DENIED")
    assert steps(run("doctor", server.url)) == {
        "settings": "ok", "name": "ok", "network": "ok", "TLS": "ok", "login": "ok", "subscription": "warning",
        "message": "ok",
    }  # fmt: skip


def test_nobody_listens(run):
    said = run("doctor", "pubsub://127.0.0.1:1/aaa/bbb", "--timeout", "2", code=1)
    assert steps(said)["network"] == "FAILED"


@pytest.mark.parametrize(
    ("url", "arguments", "said"),
    [
        ("pittgoogle://", (), "write pittgoogle://"),
        ("pubsub://aaa/bbb", (), "there is no login"),
        ("pubsub://aaa/bbb", ("--key-file", "nowhere"), "nowhere can't be used"),
        ("pubsub://127.0.0.1:1/aaa/bbb", ("--config", "nonsense=1"), "not known for Pub/Sub"),
        ("pubsub://127.0.0.1:1/aaa/bbb", ("--group", "mine"), "leave group= out"),
    ],
)
def test_settings_that_can_not_work(run, url, arguments, said):
    told = run("doctor", url, *arguments, code=1)
    assert re.search(r"^FAILED +settings ", told, re.MULTILINE)
    assert said in told


def test_with_tls_and_a_login(google, run):
    google.publish("ztf-loop", synthetic_alerts(1))
    said = run("doctor", google.url, "--ssl-ca-location", google.ca_file)
    assert set(steps(said).values()) == {"ok"}
    assert "certificate good until" in said
    assert "credentials.toml" in said


def test_a_certificate_of_nobody_known(google, run, tmp_path):
    with SandboxPubSub(tls=True) as other:
        said = run("doctor", google.url, "--ssl-ca-location", other.ca_file, code=1)
    assert steps(said)["TLS"] == "FAILED"
    assert "name the authority that signed it" in said


def test_a_file_that_holds_no_certificates(google, run, tmp_path):
    (tmp_path / "ca.pem").write_text("hello")
    said = run("doctor", google.url, "--ssl-ca-location", "ca.pem", code=1)
    assert steps(said)["TLS"] == "FAILED"
    assert "can't be read from ca.pem" in said


def test_a_login_that_was_taken_back_is_found(google, run, tokens):
    tokens.is_good = False
    said = run("doctor", google.url, "--ssl-ca-location", google.ca_file, code=1)
    assert steps(said)["login"] == "FAILED"
    assert "invalid_grant" in said


# nuncius sandbox ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def sandbox(*arguments):
    """Run the server in a process of its own; give it, and the variables that it says."""
    child = subprocess.Popen(
        [sys.executable, "-m", "nuncius.cli", "sandbox", "pubsub", "--port", "0", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        try:
            lines = [child.stdout.readline() for _ in range(2)]
            yield child, dict(line.strip().removeprefix("export ").split("=") for line in lines)
        finally:
            child.kill()


def test_a_server_for_everybody(cli):
    with sandbox("--loop", "--project", "my-own-project") as (child, variables):
        assert variables["GOOGLE_CLOUD_PROJECT"] == "my-own-project"
        done = cli("stream", "pittgoogle://ztf-loop", "--limit", "2", "--format", "jsonl", **variables)
        shown = cli("subscription", "show", "pittgoogle://ztf-loop", **variables).stdout
        child.terminate()
        told = child.stderr.read()
        assert child.wait(20) == 0
    assert len({json.loads(line)["packet"]["candid"] for line in done.stdout.splitlines()}) == 2
    assert "projects/my-own-project/subscriptions/ztf-loop" in shown
    assert "nuncius stream pittgoogle://ztf-loop --limit 5" in told


@POSIX
def test_ctrl_c_ends_it(cli):
    with sandbox() as (child, _):
        child.send_signal(signal.SIGINT)
        told = child.stderr.read()
        assert child.wait(20) == 0
    assert "nuncius subscription show pittgoogle://ztf-loop" in told
    assert "stopped" in told


def test_a_port_that_is_taken(run, server):
    assert "is the port taken?" in run("sandbox", "pubsub", "--port", server.port, code=1)


# nuncius demo ------------------------------------------------------------------------------------------------------------


def test_the_demo_reads_the_night_once_more(cli, tmp_path):
    done = cli("demo", "--alerts", 20, "--out", "here", "--json")
    found = json.loads(done.stdout.splitlines()[-1])["pittgoogle"]
    alerts = [Alert.from_bytes(packet) for packet in synthetic_alerts(20)]
    likely = sum(attributes_of(alert, 0)["pg_variable"] == "likely" for alert in alerts)
    assert found == {"published": 21, "came_again": 1, "wanted": 10, "acknowledged": 10, "waiting": 11,
                     "annotated": 20, "quarantined": 1, "filtered": likely}  # fmt: skip
    assert likely > 0
    with open_archive(tmp_path / "here" / "night.db", read_only=True) as archive:
        assert archive.count("ZTF_alerts") == 20, "no alert is there twice"
    assert len(list((tmp_path / "here" / "quarantine-pittgoogle").rglob("*.packet"))) == 1


def test_attributes_as_pitt_google_gives_them():
    from astropy import units
    from astropy_healpix import lonlat_to_healpix

    alert = Alert.from_bytes(synthetic_alerts(1)[0])
    found = attributes_of(alert, 7)
    assert (found["objectId"], found["candid"]) == (alert.object_id, str(alert.alert_id))
    assert (found["kafka.offset"], found["kafka.partition"]) == ("7", "0")
    place = alert.ra * units.deg, alert.dec * units.deg
    for order in (9, 19, 29):
        assert found[f"healpix{order}"] == str(lonlat_to_healpix(*place, 2**order, order="nested"))
    nowhere = attributes_of(Alert.from_bytes(b'{"candid": 1}'), 0)
    assert not any(name.startswith("healpix") for name in nowhere)
