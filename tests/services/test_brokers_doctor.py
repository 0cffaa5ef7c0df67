"""The doctor of streams: each step fails once, says what it saw and what to do, and keeps to its time."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import traceback

import pytest

import nuncius
from nuncius.brokers import diagnose
from nuncius.errors import NunciusError
from nuncius.sandbox import KafkaFront, SandboxAntares, SandboxKafka
from nuncius.settings import default_group
from streams_support import committed, packets, produce

pytestmark = pytest.mark.xdist_group("brokers-doctor")

STEPS = ["settings", "name", "network", "TLS", "login", "topic", "group", "message"]
SECRET = "hunter2-s3cret"


@pytest.fixture(autouse=True)
def own_config_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture(scope="module")
def antares():
    with SandboxAntares(alerts=30) as running:
        yield running


@pytest.fixture
def ask(antares):
    """Examine a topic of ANTARES with the right login and certificate, or with other ones."""

    def ask(topic="extragalactic", *, box=antares, **options):
        given = {
            "credentials": (box.api_key, box.api_secret),
            "ssl_ca_location": box.ssl_ca_location,
            "timeout_s": 5,
        }
        return examined(f"{box.url}/{topic}", **(given | options))

    return ask


def examined(url, **options):
    """Collect the verdicts; each step is told of, in order, and no secret anywhere."""
    verdicts = list(diagnose(url, **({"timeout_s": 5} | options)))
    for verdict in verdicts:
        assert SECRET not in repr(verdict)
        assert isinstance(verdict.text, str)
        assert verdict.text
    return verdicts


def state(verdicts, step):
    return {verdict.state for verdict in verdicts if verdict.step == step}


def failure(verdicts):
    """Return the one that failed; what comes behind it was not tried."""
    states = [verdict.state for verdict in verdicts]
    assert states.count("failed") == 1, verdicts
    place = states.index("failed")
    assert "not tried" not in states[:place]
    behind = verdicts[place + 1 :]
    assert [verdict.state for verdict in behind] == ["not tried"] * len(behind)
    if verdicts[place].step != "settings":
        assert [verdict.step for verdict in behind] == STEPS[STEPS.index(verdicts[place].step) + 1 :]
    return verdicts[place]


@contextlib.contextmanager
def deaf_port():
    """Take connections and never say a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# In good health ---------------------------------------------------------------------------------------------------------


def test_antares_in_good_health(antares, ask):
    verdicts = ask()
    assert [verdict.step for verdict in verdicts] == STEPS
    assert {verdict.state for verdict in verdicts} == {"ok"}
    said = {verdict.step: verdict.text for verdict in verdicts}
    assert "SASL_SSL" in said["settings"]
    assert antares.api_secret not in str(verdicts)
    assert "TLSv1" in said["TLS"]
    assert f"{len(antares.topics)} topics" in said["login"]
    assert "new" in said["group"]
    assert "<Alert antares" in said["message"]


def test_a_plain_broker_in_good_health(nuncius_kafka, topic, group):
    nuncius_kafka.publish(topic, packets(8))
    verdicts = examined(f"{nuncius_kafka.url}/{topic}", group=group)
    assert [verdict.step for verdict in verdicts] == STEPS
    assert {verdict.state for verdict in verdicts} == {"ok"}
    said = {verdict.step: verdict.text for verdict in verdicts}
    assert "PLAINTEXT" in said["settings"]
    assert "no login" in said["settings"]
    assert "8 messages" in said["topic"]
    assert said["group"] == f"{group}: new, 8 messages wait"


def test_nothing_is_changed(nuncius_kafka, server, topic, group):
    nuncius_kafka.publish(topic, packets(8))
    produce(server, f"{topic}-kept", packets(4), partition=0)
    with nuncius.open_stream(
        f"{nuncius_kafka.url}/{topic}-kept", group=group, stop=2, config={"group.protocol": "consumer"}
    ) as stream:
        assert len(list(stream)) == 2
    before = committed(server, group, f"{topic}-kept")
    assert before[0] == 2
    verdicts = examined(f"{nuncius_kafka.url}/{topic},{topic}-kept", group=group)
    assert {verdict.state for verdict in verdicts} == {"ok"}
    assert any("a position is kept, 10 messages wait" in verdict.text for verdict in verdicts)
    assert committed(server, group, f"{topic}-kept") == before
    assert set(committed(server, group, topic).values()) == {None}


def test_a_stream_of_the_same_group_goes_on(nuncius_kafka, topic, group):
    nuncius_kafka.publish(topic, packets(8))
    with nuncius.open_stream(
        f"{nuncius_kafka.url}/{topic}", group=group, stop="end", config={"group.protocol": "consumer"}
    ) as stream:
        next(stream)
        assert state(examined(f"{nuncius_kafka.url}/{topic}", group=group), "group") == {"ok"}
        assert sum(1 for _ in stream) == 7


# What is written wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "is not the URL of a stream"),
        ("kafka://127.0.0.1:9092", "lacks its topic"),
        ("antares://", "antares://TOPIC"),
        ("antares", "Did you mean antares://TOPIC"),
        ("Antares://extragalactic", "Did you mean antares://extragalactic"),
        ("ztf://programid1", "nuncius login ztf --servers"),
        ("replay:///some/folder", "there is no broker to ask"),
        ("antares://extragalactic", "lets nobody in without a login"),
        (f"kafka://jane:{SECRET}@127.0.0.1:9092/t", "no user name or password in a URL"),
    ],
)
def test_settings_that_can_not_work(url, said):
    (verdict,) = examined(url)
    assert (verdict.step, verdict.state) == ("settings", "failed")
    assert said in verdict.text


def test_a_file_of_certificates_that_is_not_there(antares, ask, tmp_path):
    (verdict,) = ask(ssl_ca_location=tmp_path / "none.pem")
    assert (verdict.step, verdict.state) == ("settings", "failed")
    assert "there is no such file" in verdict.text


# Name and network ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["no-such-host.invalid", "two..dots", f"{'x' * 64}.example.org"])
def test_a_name_that_nobody_has(host, monkeypatch):
    plain = socket.getaddrinfo

    def offline(name, *rest, **options):
        if name.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return plain(name, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    failed = failure(examined(f"kafka://{host}:9092/t"))
    assert failed.step == "name"
    assert host in failed.text
    assert "spelling" in failed.cure


def test_a_name_server_that_does_not_answer(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(20))
    begin = time.monotonic()
    failed = failure(examined("kafka://kafka.example.org:9092/t", timeout_s=0.3))
    over.set()
    assert failed.step == "name"
    assert "0.3 s" in failed.text
    assert time.monotonic() - begin < 2


def test_a_port_where_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    failed = failure(examined(f"kafka://127.0.0.1:{port}/t"))
    assert failed.step == "network"
    assert f"127.0.0.1:{port}" in failed.text
    assert "refused" in failed.text
    assert "check the port" in failed.cure


def test_one_server_of_several_is_enough(nuncius_kafka, topic, group):
    nuncius_kafka.publish(topic, packets(4))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    verdicts = examined(
        f"kafka://127.0.0.1:{port},{nuncius_kafka.url.removeprefix('kafka://')}/{topic}", group=group
    )
    assert state(verdicts, "network") == {"warning", "ok"}
    assert state(verdicts, "message") == {"ok"}


def test_none_of_several_servers():
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = one.getsockname()[1], other.getsockname()[1]
    failed = failure(examined(f"kafka://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/t"))
    assert (failed.step, failed.text) == ("network", "no server accepts a connection")


# TLS ----------------------------------------------------------------------------------------------------------------------


def test_tls_to_a_port_without(antares, ask):
    port = antares.kafka.port
    failed = failure(
        examined(
            f"antares://127.0.0.1:{port}/extragalactic",
            credentials=("key", SECRET),
            ssl_ca_location=antares.ssl_ca_location,
        )
    )
    assert failed.step == "TLS"
    assert "A plain one answers so" in failed.cure


def test_no_tls_to_a_port_with(antares):
    failed = failure(examined(f"kafka://127.0.0.1:{antares.port}/client.extragalactic", timeout_s=2))
    assert failed.step == "login"
    assert "TLS" in failed.cure
    assert "nuncius doctor" not in failed.text, "that is who is asked"


@pytest.mark.parametrize(
    ("certificate", "text", "cure"),
    [
        ("wrong-host", "mismatch", "host name"),
        ("expired", "expired", "clock"),
        ("foreign", "unable to get local issuer certificate", "ssl_ca_location"),
    ],
)
def test_certificates_that_do_not_verify(antares, certificate, text, cure):
    with KafkaFront(
        f"{antares.kafka.host}:{antares.kafka.port}", users={"key": SECRET}, certificate=certificate
    ) as front:
        failed = failure(
            examined(
                f"antares://{front.server}/extragalactic",
                credentials=("key", SECRET),
                ssl_ca_location=front.ssl_ca_location,
            )
        )
    assert failed.step == "TLS"
    assert text in failed.text
    assert cure in failed.cure
    assert str(front.ssl_ca_location) in failed.text
    assert ("authority" in failed.cure) == (certificate == "foreign"), "another authority cures only that"


def test_an_authority_that_the_system_does_not_know(ask):
    failed = failure(ask(ssl_ca_location=None))
    assert failed.step == "TLS"
    assert "ssl_ca_location" in failed.cure
    assert "kafka-ca.pem" in failed.cure, "what is known of this broker is said"


@pytest.mark.parametrize(
    "content", ["", "hello", "-----BEGIN CERTIFICATE-----\nxxxx\n-----END CERTIFICATE-----\n"]
)
def test_a_file_that_holds_no_certificates(ask, tmp_path, content):
    path = tmp_path / "ca.pem"
    path.write_text(content)
    failed = failure(ask(ssl_ca_location=path))
    assert failed.step == "TLS"
    assert str(path) in failed.text
    assert "plain" not in failed.cure, "the broker is not to blame"


def test_who_asks_not_to_verify_is_warned(ask):
    verdicts = ask(ssl_ca_location=None, config={"enable.ssl.certificate.verification": "false"})
    assert state(verdicts, "TLS") == {"warning"}
    assert state(verdicts, "message") == {"ok"}


def test_a_password_without_tls_is_warned_of(antares):
    with KafkaFront(
        f"{antares.kafka.host}:{antares.kafka.port}", mechanisms="SCRAM-SHA-512", users={"babamul-x": SECRET}, tls=False
    ) as front:  # fmt: skip
        verdicts = examined(
            f"babamul://{front.server}/client.extragalactic", credentials=("babamul-x", SECRET)
        )
    (tls,) = [verdict for verdict in verdicts if verdict.step == "TLS"]
    assert tls.state == "warning"
    assert "a password crosses the network" in tls.text
    assert state(verdicts, "login") == {"ok"}


# Login, topic, group --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["password", "user"])
def test_a_login_that_is_refused(antares, ask, who):
    login = (antares.api_key, SECRET) if who == "password" else ("nobody", antares.api_secret)
    failed = failure(ask(credentials=login))
    assert failed.step == "login"
    assert "refuses the login" in failed.text
    assert repr(login[0]) in failed.text
    assert antares.api_secret not in failed.text
    assert "API secret" in failed.cure


def test_a_broker_that_falls_silent(antares, ask):
    antares.front.change(stalled=True)
    begin = time.monotonic()
    try:
        failed = failure(ask(timeout_s=1.5))
    finally:
        antares.front.change(stalled=False)
    assert failed.step == "login"
    assert "1.5 s" in failed.text
    assert time.monotonic() - begin < 6


def test_a_port_that_takes_connections_and_says_nothing():
    with deaf_port() as port:
        begin = time.monotonic()
        failed = failure(examined(f"kafka://127.0.0.1:{port}/t", timeout_s=1))
        assert failed.step == "login"
        assert time.monotonic() - begin < 4
        begin = time.monotonic()
        failed = failure(examined(f"antares://127.0.0.1:{port}/t", credentials=("key", SECRET), timeout_s=1))
        assert failed.step == "TLS"
        assert time.monotonic() - begin < 4


def test_a_topic_that_is_not_there(antares, ask):
    failed = failure(ask("extragalatic"))
    assert failed.step == "topic"
    assert "extragalactic" in failed.text, "what is close to it is said"
    assert "names of streams" in failed.cure


def test_a_topic_that_is_forbidden(antares, ask):
    antares.front.change(forbidden_topics=["client.high_snr"])
    try:
        failed = failure(ask("high_snr"))
    finally:
        antares.front.change(forbidden_topics=[])
    assert failed.step == "topic"
    assert "may not read" in failed.text


def test_one_topic_of_two(ask):
    verdicts = ask("extragalactic,nonsense")
    assert [verdict.state for verdict in verdicts if verdict.step == "topic"] == ["ok", "failed"]
    assert state(verdicts, "message") == {"not tried"}


def test_a_regular_expression_that_is_none(ask):
    failed = failure(ask("^extra[galactic"))
    assert failed.step == "topic"
    assert "regular expression" in failed.text


def test_a_regular_expression(ask):
    verdicts = ask("^client[.].*")
    assert {verdict.state for verdict in verdicts} == {"ok"}


def test_a_group_that_is_forbidden(antares, ask):
    antares.front.change(forbidden_groups=["theirs"])
    try:
        failed = failure(ask(group="theirs"))
    finally:
        antares.front.change(forbidden_groups=[])
    assert failed.step == "group"
    assert "'theirs'" in failed.text
    assert "group=" in failed.cure


def test_a_group_that_can_not_be_kept(ask, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "file"))
    failed = failure(ask())
    assert failed.step == "group"
    assert "NUNCIUS_DATA_DIR" in failed.text


def test_the_group_is_that_of_a_stream(nuncius_kafka, topic):
    nuncius_kafka.publish(topic, packets(4))
    verdicts = examined(f"{nuncius_kafka.url}/{topic}")
    assert any(verdict.text.startswith(f"{default_group()}: ") for verdict in verdicts)


# One message ----------------------------------------------------------------------------------------------------------------


def test_a_topic_that_is_empty(nuncius_kafka, topic, group):
    nuncius_kafka.publish(topic, [])
    verdicts = examined(f"{nuncius_kafka.url}/{topic}", group=group)
    assert verdicts[-1].step == "message"
    assert verdicts[-1].state == "warning"
    assert "empty" in verdicts[-1].text
    assert "failed" not in {verdict.state for verdict in verdicts}


def test_a_message_that_can_not_be_read(nuncius_kafka, topic, group):
    nuncius_kafka.publish(topic, [b"garbage"])
    verdict = examined(f"{nuncius_kafka.url}/{topic}", group=group)[-1]
    assert (verdict.step, verdict.state) == ("message", "warning")
    assert f"kafka:{topic}[" in verdict.text
    assert "quarantine" in verdict.cure


def test_a_message_whose_schema_lacks(nuncius_kafka, topic, group):
    nuncius_kafka.publish(topic, [b"\x00" + (900).to_bytes(4, "big") + bytes(40)])
    verdict = examined(f"{nuncius_kafka.url}/{topic}", group=group)[-1]
    assert (verdict.step, verdict.state) == ("message", "failed")
    assert "900" in verdict.text
    assert "--schema" in verdict.cure


def test_a_message_without_content(nuncius_kafka, topic, group):
    nuncius_kafka.publish(topic, [None])
    verdict = examined(f"{nuncius_kafka.url}/{topic}", group=group)[-1]
    assert (verdict.step, verdict.state) == ("message", "ok")
    assert "nothing to hand out" in verdict.text


def test_messages_that_expired_are_said(topic, group):
    from confluent_kafka import Consumer, TopicPartition

    with SandboxKafka() as kafka:
        server = kafka.url.removeprefix("kafka://")
        produce(server, topic, packets(3), partition=0)
        client = Consumer({"bootstrap.servers": server, "group.id": group, "log_level": 2})
        client.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
        client.close()
        produce(server, topic, [b"x" * 900_000] * 7, partition=0)  # more than it keeps of a partition
        verdicts = examined(f"kafka://{server}/{topic}", group=group)
    warnings = [
        verdict.text for verdict in verdicts if verdict.state == "warning" and verdict.step == "group"
    ]
    assert len(warnings) == 1
    assert "expired" in warnings[0]


# For programs -----------------------------------------------------------------------------------------------------------


def test_each_step_is_told_when_it_is_done(nuncius_kafka, topic, group):
    """Who waits sees how far it is: the verdicts are not kept back until the end."""
    nuncius_kafka.publish(topic, packets(1))
    steps = diagnose(f"{nuncius_kafka.url}/{topic}", group=group, timeout_s=5)
    assert next(steps).step == "settings"
    assert next(steps).step == "name"
    steps.close()


def test_no_exception_leaves_it_when_the_broker_goes_midway(antares, ask):
    """A broker may go between two steps; that is a verdict too."""
    with KafkaFront(f"{antares.kafka.host}:{antares.kafka.port}", users={"key": SECRET}) as front:
        steps = diagnose(
            f"antares://{front.server}/extragalactic",
            credentials=("key", SECRET),
            ssl_ca_location=front.ssl_ca_location,
            timeout_s=1,
        )
        verdicts = []
        try:
            for verdict in steps:
                verdicts.append(verdict)
                if verdict.step == "group":
                    front.change(listening=False)
                    front.disconnect()
        except NunciusError:
            pytest.fail(traceback.format_exc())
    assert verdicts[-1].step == "message"
    assert verdicts[-1].state == "failed"
