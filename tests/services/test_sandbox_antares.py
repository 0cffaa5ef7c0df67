"""The sandbox's ANTARES and the front before its Kafka: what clients of other makes see of them."""

from __future__ import annotations

import base64
import gzip
import io
import json
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter

import bson
import httpx2
import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from nuncius.errors import ConfigurationError, UnreachableError
from nuncius.sandbox import KafkaFront, Sandbox, SandboxAntares, SandboxKafka, synthetic_loci
from nuncius.sandbox.elastic import BadQueryError, matches
from nuncius.sandbox.front import wire
from nuncius.sandbox.front.server import Answers
from nuncius.sky import to_region
from streams_support import QUICK, new_name, wait_until

pytestmark = pytest.mark.xdist_group("sandbox-antares")

USER, PASSWORD = "vera", "ru=b,in"
ALL_MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


@pytest.fixture(scope="module")
def kafka():
    with SandboxKafka() as running:
        yield running


@pytest.fixture
def make_front(kafka):
    """Start fronts before the broker; at the end none may have failed."""
    fronts = []

    def make(mechanisms=("PLAIN",), **options):
        fronts.append(
            KafkaFront(f"{kafka.host}:{kafka.port}", mechanisms=mechanisms, users={USER: PASSWORD}, **options)
        )
        return fronts[-1]

    yield make
    for front in fronts:
        assert front.counts()["errors"] == 0
        front.close()


def settings(front, *, mechanism="PLAIN", password=PASSWORD, **more):
    """Tell librdkafka how to get past a front."""
    login = {"sasl.username": USER, "sasl.password": password}
    if mechanism == "OAUTHBEARER":
        login = {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": USER,
            "sasl.oauthbearer.client.secret": password,
            "sasl.oauthbearer.token.endpoint.url": front.token_url,
        }
    tls = {"ssl.ca.location": str(front.ssl_ca_location)} if front.ssl_ca_location else {}
    return {
        "bootstrap.servers": front.server,
        "security.protocol": "SASL_SSL" if tls else "SASL_PLAINTEXT",
        "sasl.mechanism": mechanism,
        "log_level": 0,
        "reconnect.backoff.max.ms": 200,
        **login,
        **tls,
        **more,
    }


class Listener:
    """A plain consumer that notes what it is told."""

    def __init__(self, topics, config):
        self.errors = []
        self.values = []
        group = {"group.id": new_name("group"), "auto.offset.reset": "earliest"}
        self.consumer = Consumer({**group, **QUICK, "error_cb": self.errors.append, **config})
        self.consumer.subscribe(topics)

    def until(self, condition, timeout_s=20):
        def step():
            for message in self.consumer.consume(500, 0.05):
                if message.error():
                    self.errors.append(message.error())
                else:
                    self.values.append(message.value())
            return condition(self)

        return wait_until(step, timeout_s=timeout_s, step_s=0)

    def codes(self):
        return {error.code() for error in self.errors}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.consumer.close()


def has(count):
    return lambda listener: len(listener.values) >= count


# Logging in -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("mechanism", ALL_MECHANISMS)
def test_who_has_the_password_reads(kafka, topic, make_front, mechanism, tls):
    sent = [b"%d" % number for number in range(300)]
    kafka.publish(topic, sent)
    front = make_front(mechanism, tls=tls)
    with Listener([topic], settings(front, mechanism=mechanism)) as listener:
        assert listener.until(has(300))
        assert listener.consumer.list_topics(timeout=5).brokers[1].port == front.port
    assert sorted(listener.values) == sorted(sent)
    counts = front.counts()
    assert counts["logins"] >= 1
    assert counts["refused"] == 0


@pytest.mark.parametrize("mechanism", ALL_MECHANISMS)
def test_who_has_not_is_told(topic, make_front, mechanism):
    front = make_front(mechanism)
    with Listener([topic], settings(front, mechanism=mechanism, password="wrong")) as listener:
        assert listener.until(lambda it: KafkaError._AUTHENTICATION in it.codes())
    assert front.counts()["logins"] == 0
    words = " ".join(error.str() for error in listener.errors)
    assert ("invalid_client" if mechanism == "OAUTHBEARER" else "Authentication failed") in words


@pytest.mark.parametrize("mechanism", ALL_MECHANISMS[:3])
def test_an_unknown_name_is_refused_as_a_wrong_password_is(topic, make_front, mechanism):
    front = make_front(mechanism)
    config = settings(front, mechanism=mechanism) | {"sasl.username": "nobody"}
    with Listener([topic], config) as listener:
        assert listener.until(lambda it: KafkaError._AUTHENTICATION in it.codes())
    assert front.counts()["refused"] >= 1


def test_a_mechanism_that_is_not_offered_is_refused(topic, make_front):
    front = make_front(["SCRAM-SHA-512"])
    with Listener([topic], settings(front, mechanism="PLAIN")) as listener:
        assert listener.until(lambda it: KafkaError._AUTHENTICATION in it.codes())
    assert any("SCRAM-SHA-512" in error.str() for error in listener.errors)


def test_users_change_while_it_runs(topic, make_front):
    front = make_front()
    front.change(users={USER: "another"})
    with Listener([topic], settings(front)) as listener:
        assert listener.until(lambda it: it.codes() & {KafkaError._AUTHENTICATION})
    with Producer(settings(front, password="another")) as asker:
        assert asker.list_topics(timeout=10).brokers


def test_nobody_gets_past_the_front_without_a_login(make_front):
    front = make_front(tls=False)
    with socket.create_connection((front.host, front.port)) as plain:
        plain.settimeout(5)
        plain.sendall(struct.pack(">ihhihi", 14, 3, 1, 7, -1, -1))  # Metadata of all topics
        assert plain.recv(100) == b""


@pytest.mark.parametrize("size", [9, 2**31 - 1, -1])
def test_what_is_no_request_is_shown_out(make_front, size):
    front = make_front(tls=False)
    with socket.create_connection((front.host, front.port)) as plain:
        plain.settimeout(5)
        plain.sendall(struct.pack(">i", size) + bytes(9))
        assert plain.recv(100) == b""


def test_what_a_front_can_not_be(kafka, make_front):
    with pytest.raises(ConfigurationError, match="GSSAPI"):
        make_front("GSSAPI")
    with pytest.raises(ConfigurationError, match="wrong-host"):
        make_front(certificate="late")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    with pytest.raises(UnreachableError, match=str(free)):
        KafkaFront(f"127.0.0.1:{free}")


# Tokens and sessions ---------------------------------------------------------------------------------------------------


def test_a_token_that_expires_is_renewed_on_the_same_connection(kafka, topic, make_front):
    # librdkafka looks once in a second whether its token is old: a shorter life would now and then end before that.
    front = make_front("OAUTHBEARER", token_lifetime_s=10)
    kafka.publish(topic, [b"first"])
    with Listener([topic], settings(front, mechanism="OAUTHBEARER")) as listener:
        assert listener.until(has(1))
        logins = front.counts()["logins"]
        assert listener.until(lambda _: front.counts()["renewals"] >= 2 and front.counts()["tokens"] >= 2)
        kafka.publish(topic, [b"second"])
        assert listener.until(has(2))
        assert front.counts()["logins"] == logins
    assert listener.errors == []


def test_a_login_that_nobody_renews_ends(make_front):
    front = make_front(tls=False, max_session_s=0.3)
    with socket.create_connection((front.host, front.port)) as plain:
        plain.settimeout(5)
        assert ask(plain, wire.SASL_HANDSHAKE, 1, b"\0\x05PLAIN")[:2] == b"\0\0"
        token = f"\0{USER}\0{PASSWORD}".encode()
        answer = ask(plain, wire.SASL_AUTHENTICATE, 1, struct.pack(">i", len(token)) + token)
        assert 0 < struct.unpack(">q", answer[-8:])[0] <= 300
        assert ask(plain, 3, 1, struct.pack(">i", -1))
        time.sleep(0.4)
        plain.sendall(struct.pack(">ihhihi", 14, 3, 1, 7, -1, -1))
        assert plain.recv(100) == b""


def test_a_revoked_token_is_refused_by_the_broker(topic, make_front):
    front = make_front("OAUTHBEARER")
    with Listener([topic], settings(front, mechanism="OAUTHBEARER")) as listener:
        assert listener.until(lambda _: front.counts()["logins"] >= 1)
        front.revoke_tokens()
        front.disconnect()
        assert listener.until(lambda it: KafkaError._AUTHENTICATION in it.codes())
    assert any("OAUTHBEARER" in error.str() for error in listener.errors)
    assert wait_until(lambda: front.counts()["refused"] >= 1)


def test_the_token_endpoint_can_fail_and_recover(kafka, topic, make_front):
    front = make_front("OAUTHBEARER")
    kafka.publish(topic, [b"one"])
    front.change(token_status=400)
    with Listener([topic], settings(front, mechanism="OAUTHBEARER")) as listener:
        assert listener.until(lambda it: it.errors and front.counts()["token_requests"] >= 1)
        assert front.counts()["tokens"] == 0
    front.change(token_status=200)
    with Listener([topic], settings(front, mechanism="OAUTHBEARER")) as listener:
        assert listener.until(has(1))
    front.change(token_listening=False)
    with pytest.raises(httpx2.ConnectError):
        httpx2.post(front.token_url, data={}, trust_env=False)
    front.change(token_listening=True, token_delay_s=0.4)
    login = {"grant_type": "client_credentials", "client_id": USER, "client_secret": PASSWORD}
    begin = time.monotonic()
    answer = httpx2.post(front.token_url, data=login, trust_env=False)
    assert time.monotonic() - begin >= 0.4
    assert answer.json()["expires_in"] == 3600
    refused = httpx2.post(front.token_url, data=login | {"client_secret": "x"}, trust_env=False)
    assert (refused.status_code, refused.json()) == (401, {"error": "invalid_client"})
    other = httpx2.post(front.token_url, data=login | {"grant_type": "password"}, trust_env=False)
    assert (other.status_code, other.json()) == (400, {"error": "unsupported_grant_type"})


# TLS -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wrong-host", "expired", "foreign"])
def test_a_bad_certificate_is_refused_by_clients(topic, make_front, kind):
    front = make_front(certificate=kind)
    with Listener([topic], settings(front)) as listener:
        assert listener.until(lambda it: KafkaError._SSL in it.codes())
    assert front.counts()["logins"] == 0
    if kind == "wrong-host":  # nothing else is wrong with it
        lax = settings(front) | {"ssl.endpoint.identification.algorithm": "none"}
        assert Producer(lax).list_topics(timeout=10).brokers


def test_who_does_not_know_the_authority_stays_out(topic, make_front):
    front, another = make_front(), make_front()
    config = settings(front) | {"ssl.ca.location": str(another.ssl_ca_location)}
    with Listener([topic], config) as listener:
        assert listener.until(lambda it: KafkaError._SSL in it.codes())


# What is forbidden -----------------------------------------------------------------------------------------------------


def test_a_forbidden_topic(kafka, topic, make_front):
    other = new_name()
    kafka.publish(topic, [b"x"])
    kafka.publish(other, [b"y"])
    front = make_front()
    front.change(forbidden_topics=[topic])
    asker = Producer(settings(front))
    assert asker.list_topics(topic, timeout=10).topics[topic].error.code() == 29
    listed = asker.list_topics(timeout=10).topics
    assert topic not in listed
    assert len(listed[other].partitions) == 4
    with Listener([topic, other], settings(front, **{"group.protocol": "classic"})) as listener:
        assert listener.until(lambda it: KafkaError.TOPIC_AUTHORIZATION_FAILED in it.codes() and it.values)
    assert listener.values == [b"y"]
    front.change(forbidden_topics=[])
    assert asker.list_topics(topic, timeout=10).topics[topic].error is None


def test_a_forbidden_group(topic, make_front):
    front = make_front()
    front.change(forbidden_groups=["theirs"])
    with Listener([topic], settings(front, **{"group.id": "theirs"})) as listener:
        assert listener.until(lambda it: KafkaError.GROUP_AUTHORIZATION_FAILED in it.codes())


# Faults ----------------------------------------------------------------------------------------------------------------


def test_broken_connections_lose_nothing(kafka, topic, make_front):
    front = make_front()
    with Listener([topic], settings(front)) as listener:
        for number in range(3):
            kafka.publish(topic, [b"%d" % number])
            assert listener.until(has(number + 1))
            front.disconnect()
    assert sorted(set(listener.values)) == [b"0", b"1", b"2"]


def test_nobody_answers_for_a_while(kafka, topic, make_front):
    front = make_front()
    front.change(listening=False)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((front.host, front.port))
    kafka.publish(topic, [b"1"])
    with Listener([topic], settings(front)) as listener:
        assert listener.until(lambda it: KafkaError._TRANSPORT in it.codes())
        front.change(listening=True)
        assert listener.until(has(1))


def test_slow_and_stalled(make_front):
    front = make_front()
    asker = Producer(settings(front))
    asker.list_topics(timeout=10)
    front.change(delay_s=0.4)
    begin = time.monotonic()
    asker.list_topics(timeout=10)
    assert 0.4 <= time.monotonic() - begin < 5
    front.change(delay_s=0, stalled=True)
    with pytest.raises(KafkaException) as caught:
        asker.list_topics(timeout=0.5)
    assert caught.value.args[0].code() in {KafkaError._TIMED_OUT, KafkaError._TRANSPORT}
    front.change(stalled=False)
    assert asker.list_topics(timeout=10).brokers


def test_big_messages_arrive_byte_for_byte(kafka, topic, make_front):
    rng = np.random.default_rng(5)
    sent = [rng.bytes(size) for size in [0, 1, 100, 70_000, 3_000_000, 260_000] for _ in range(4)]
    kafka.publish(topic, sent)
    front = make_front()
    with Listener([topic], settings(front)) as listener:
        assert listener.until(has(len(sent)))
    assert Counter(listener.values) == Counter(sent)


def test_a_producer_gets_past_it(make_front, topic):
    front = make_front("SCRAM-SHA-512")
    config = settings(front, mechanism="SCRAM-SHA-512")
    errors = []
    producer = Producer(config | {"enable.idempotence": True, "linger.ms": 1})
    for number in range(200):
        producer.produce(topic, b"%d" % number, on_delivery=lambda error, _: error and errors.append(error))
    assert producer.flush(20) == 0
    assert errors == []
    with Listener([topic], config) as listener:
        assert listener.until(has(200))


def test_it_ends_with_the_program_that_started_it(tmp_path):
    program = (
        "import sys, time\n"
        "from nuncius.sandbox import SandboxAntares\n"
        "box = SandboxAntares(alerts=0)\n"
        "print(box.port, box.kafka.port, flush=True)\n"
        "time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    ports = [int(port) for port in child.stdout.readline().split()]
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()

    def is_closed(port):
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) != 0

    assert len(ports) == 2
    assert wait_until(lambda: all(map(is_closed, ports)))


# The protocol ----------------------------------------------------------------------------------------------------------


def ask(connection, api, version, body, *, flexible=False):
    """Send a request and return the body of the answer."""
    head = struct.pack(">hhih", api, version, 7, -1) + (b"\0" if flexible else b"")
    connection.sendall(struct.pack(">i", len(head + body)) + head + body)
    (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
    return connection.recv(size, socket.MSG_WAITALL)[4:]


def metadata_request(version, names):
    """Write the body of a Metadata request for some topics."""
    flexible = version >= 9
    if flexible:
        parts = [bytes([len(names) + 1])]
        for name in names:
            parts += [bytes(16) if version >= 10 else b"", bytes([len(name) + 1]), name.encode(), b"\0"]
    else:
        parts = [struct.pack(">i", len(names))]
        parts += [struct.pack(">h", len(name)) + name.encode() for name in names]
    flags = (version >= 4) + (8 <= version <= 10) + (version >= 8) + flexible
    return b"".join(parts) + bytes(flags)


@pytest.mark.parametrize("version", range(13))
def test_each_version_of_metadata_is_rewritten_and_nothing_else_in_it(kafka, version):
    names = [new_name(), new_name()]
    for name in names:
        kafka.publish(name, [b""])
    body = metadata_request(version, names)
    with socket.create_connection((kafka.host, kafka.port)) as plain:
        answer = ask(plain, wire.METADATA, version, body, flexible=version >= 9)
    request = wire.Request(wire.METADATA, version, 7, body)
    there = wire.rewriter(request, wire.Rewriting("kafka.example.org", 9092))(answer)
    assert b"kafka.example.org" in there
    assert kafka.host.encode() not in there
    assert wire.rewriter(request, wire.Rewriting(kafka.host, kafka.port))(there) == answer
    without = wire.rewriter(request, wire.Rewriting(kafka.host, kafka.port, topics=names[:1]))(answer)
    assert len(without) < len(answer)
    assert names[0].encode() in without


@pytest.mark.parametrize("version", range(4))
def test_each_version_of_find_coordinator_is_rewritten(kafka, version):
    flexible = version >= 3
    name = b"\x06group" if flexible else b"\0\x05group"
    body = name + (b"\0" if version >= 1 else b"") + (b"\0" if flexible else b"")
    with socket.create_connection((kafka.host, kafka.port)) as plain:
        answer = ask(plain, wire.FIND_COORDINATOR, version, body, flexible=flexible)
    request = wire.Request(wire.FIND_COORDINATOR, version, 7, body)
    there = wire.rewriter(request, wire.Rewriting("kafka.example.org", 9092))(answer)
    assert b"kafka.example.org" in there
    assert wire.rewriter(request, wire.Rewriting(kafka.host, kafka.port))(there) == answer
    forbidden = wire.rewriter(request, wire.Rewriting(kafka.host, kafka.port, groups=["group"]))(answer)
    assert struct.pack(">h", wire.GROUP_FORBIDDEN) in forbidden
    assert kafka.host.encode() not in forbidden


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4])
def test_api_versions_in_each_of_its_versions(version):
    known = {0: (0, 10), 3: (0, 13), 18: (0, 2)}
    body = wire.versions_answer(version, known, login=True)
    expected = {0: (0, 9), 3: (0, 12), 17: (1, 1), 18: (0, 3), 36: (0, 1)}
    if version == 3:
        assert body[:3] == b"\0\0" + bytes([len(expected) + 1])
        entries = [struct.unpack_from(">hhh", body, 3 + 7 * index) for index in range(len(expected))]
        assert len(body) == 3 + 7 * len(expected) + 5
    else:
        assert struct.unpack_from(">h", body)[0] == (wire.UNSUPPORTED_VERSION if version > 3 else 0)
        entries = [(api, *versions) for api, versions in sorted(wire.parse_versions(body).items())]
    assert {entry[0]: entry[1:] for entry in entries} == expected


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13, 1000])
def test_answers_pass_whole_in_whatever_pieces_they_come(size):
    """Ours come between two others, never within one."""
    out = bytearray()
    answers = Answers(out.extend)
    stream = b"".join(wire.answer(number, bytes([number]) * number) for number in range(12))
    answers.rewrite(5, lambda body: b"<" + body + b">")
    answers.rewrite(0, bytes.upper)
    for begin in range(0, len(stream), size):
        answers.feed(stream[begin : begin + size])
        if begin // size == 3:
            answers.add(wire.answer(99, b"ours"))
    found = {}
    while out:
        length, correlation = struct.unpack_from(">ii", out)
        found[correlation] = bytes(out[8 : 4 + length])
        del out[: 4 + length]
    expected = {number: bytes([number]) * number for number in range(12)}
    ours = {99: b"ours"} if len(stream) > 3 * size else {}
    assert found == expected | {5: b"<" + bytes([5]) * 5 + b">"} | ours


# The streams of ANTARES ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def antares():
    with SandboxAntares() as running:
        yield running


@pytest.fixture
def clean(antares):
    """Give the sandbox without faults and without requests of others."""
    antares.rest.clear_faults()
    antares.requests.clear()
    return antares


def consume(box, topic, count):
    config = {
        "bootstrap.servers": f"{box.host}:{box.port}",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": box.api_key,
        "sasl.password": box.api_secret,
        "ssl.ca.location": str(box.ssl_ca_location),
        "log_level": 0,
    }
    with Listener([f"client.{topic}"], config) as listener:
        assert listener.until(has(count)), listener.errors
    return [bson.decode(zlib.decompress(value)) for value in listener.values]


def test_the_streams_hold_loci_in_both_shapes(antares):
    assert {"extragalactic", "nuclear_transient"} <= set(antares.topics)
    here = {locus.locus_id: locus for locus in antares.loci if "extragalactic" in locus.tags}
    documents = consume(antares, "extragalactic", len(here))
    shapes = Counter("old" if "data" in document else "new" for document in documents)
    assert set(shapes) == {"old", "new"}
    assert abs(shapes["old"] - shapes["new"]) <= 1
    for document in documents:
        old = document.get("data")
        flat = {"id": old["id"], **old["attributes"]} if old else document
        assert flat == here.pop(flat["id"]).document("new")
    assert here == {}


def test_what_is_published_arrives_in_the_shape_that_was_asked_for(antares):
    topic, loci = new_name(), antares.loci[:4]
    assert antares.publish(topic, loci[:1], shape="new") == 1
    assert antares.publish(topic, loci[1:2], shape="old") == 1
    assert antares.publish(topic, loci[2:3], shape="0.2") == 1
    assert antares.publish(topic, [{"id": "mine"}]) == 1
    assert antares.publish_raw(topic, [zlib.compress(bson.encode({"id": "raw"}))]) == 1
    found = consume(antares, topic, 5)
    by_keys = {frozenset(document): document for document in found}
    old = by_keys[frozenset({"data"})]["data"]
    assert old["id"] == loci[1].locus_id
    first = by_keys[frozenset({"locus_id", "timestamp_unix", "new_alert", "history"})]
    assert first["new_alert"]["alert_id"] == loci[2].old_id
    assert first["new_alert"]["mjd"] == loci[2].newest.mjd
    assert {document.get("id") for document in found} >= {loci[0].locus_id, "mine", "raw"}
    with pytest.raises(ConfigurationError, match="shape='newest'"):
        antares.publish(topic, loci, shape="newest")


def test_the_wrong_secret_stays_out(antares):
    config = {
        "bootstrap.servers": f"{antares.host}:{antares.port}",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": antares.api_key,
        "sasl.password": "guess",
        "ssl.ca.location": str(antares.ssl_ca_location),
        "log_level": 0,
    }
    with Listener(["client.extragalactic"], config) as listener:
        assert listener.until(lambda it: KafkaError._AUTHENTICATION in it.codes())
    assert antares.api_secret not in repr(antares)


def test_loci_agree_with_the_alerts_that_they_come_from():
    loci = synthetic_loci(60, seed=3)
    assert loci == synthetic_loci.__wrapped__(60, seed=3)
    assert len({locus.locus_id for locus in loci}) == len(loci)
    assert {name for locus in loci for name in locus.properties["survey"]} == {"ztf", "lsst"}
    for locus in loci:
        seen = [alert for alert in locus.alerts if "ant_mag" in alert.properties]
        properties = locus.properties
        assert [alert.mjd for alert in locus.alerts] == sorted(alert.mjd for alert in locus.alerts)
        assert (properties["num_alerts"], properties["num_mag_values"]) == (len(locus.alerts), len(seen))
        assert properties["newest_alert_id"] == seen[-1].alert_id == locus.newest.alert_id
        assert properties["brightest_alert_magnitude"] == min(
            alert.properties["ztf_magpsf"] for alert in seen
        )
        assert properties["oldest_alert_observation_time"] == pytest.approx(
            seen[0].properties["ztf_jd"] - 2400000.5, abs=1e-9
        )
        assert set(locus.newest.thumbnails) == {"template", "science", "difference"}
        assert locus.ra == pytest.approx(seen[0].properties["ztf_ra"], abs=0.01)
        lines = locus.light_curve().splitlines()
        assert lines[0].startswith("alert_id,ant_mjd,")
        assert len(lines) == len(locus.alerts) + 1


def test_the_sandbox_starts_it_when_it_is_touched():
    with Sandbox() as box:
        assert "antares" not in repr(box)
        antares = box.antares
        assert antares is box.antares
        assert antares.url in repr(box)
        port = antares.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_the_fixture_gives_it(nuncius_antares):
    assert "extragalactic" in nuncius_antares.topics
    assert nuncius_antares.url == f"antares://{nuncius_antares.host}:{nuncius_antares.port}"


# The REST interface ----------------------------------------------------------------------------------------------------


def get(box, path, **params):
    return httpx2.get(box.rest_url + path, params=params, trust_env=False)


def data(box, path, **params):
    answer = get(box, path, **params)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"data", "meta", "links"}
    return answer.json()["data"]


def search(box, query, **params):
    """Follow the pages of a search; return the loci and how many pages there were."""
    url, params, found, pages = (
        box.rest_url + "loci",
        params | {"elasticsearch_query": json.dumps({"query": query})},
        [],
        0,
    )
    while url is not None:
        answer = httpx2.get(url, params=params, trust_env=False)
        assert answer.status_code == 200, answer.text
        found += [entry["locus"] for entry in answer.json()["data"]]
        url, params, pages = answer.json()["links"]["next"], None, pages + 1
    return found, pages


def test_pages_hold_each_locus_once_newest_first(clean):
    found, pages = search(clean, {"match_all": {}})
    assert pages == -(-len(clean.loci) // 10)
    assert {entry["locus_id"] for entry in found} == {locus.locus_id for locus in clean.loci}
    times = [entry["properties"]["newest_alert_observation_time"] for entry in found]
    assert times == sorted(times, reverse=True)
    all_at_once, pages = search(clean, {"match_all": {}}, limit=1000, sort="properties.num_alerts")
    assert pages == 1
    counts = [entry["properties"]["num_alerts"] for entry in all_at_once]
    assert counts == sorted(counts)
    assert {request.path for request in clean.requests} == {"/v2/loci"}


@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ({"term": {"tags": "extragalactic"}}, lambda it: "extragalactic" in it.tags),
        ({"terms": {"tags": ["solar_system", "high_snr"]}}, lambda it: {"solar_system", "high_snr"} & set(it.tags)),
        (
            {"bool": {"filter": {"range": {"properties.newest_alert_magnitude": {"lt": 18.0, "gte": 16}}}}},
            lambda it: 16 <= it.properties["newest_alert_magnitude"] < 18,
        ),
        (
            {"bool": {"must": [{"exists": {"field": "properties.ztf_ssnamenr"}}]}},
            lambda it: "ztf_ssnamenr" in it.properties,
        ),
        (
            {"bool": {"must_not": [{"term": {"catalogs.keyword": {"value": "2mass_xsc"}}}]}},
            lambda it: "2mass_xsc" not in it.catalogs,
        ),
        (
            {"bool": {"should": [{"term": {"tags": "variable_star"}}, {"prefix": {"tags": "solar"}}]}},
            lambda it: {"variable_star", "solar_system"} & set(it.tags),
        ),
        (
            {"exists": {"field": "properties.survey.lsst.dia_object_id"}},
            lambda it: it.properties["survey"].get("lsst", {}).get("dia_object_id"),
        ),
    ],
)  # fmt: skip
def test_queries_choose_what_they_say(clean, query, chosen):
    expected = {locus.locus_id for locus in clean.loci if chosen(locus)}
    assert 0 < len(expected) < len(clean.loci)
    assert {entry["locus_id"] for entry in search(clean, query, limit=100)[0]} == expected


def test_a_cone(clean):
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    locus = clean.loci[5]
    place = SkyCoord(locus.ra, locus.dec, unit="deg")
    cone = {"radius": "0.01 degree", "location": place.to_string("hmsdms")}
    found, _ = search(clean, {"bool": {"filter": {"sky_distance": cone}}})
    assert locus.locus_id in {entry["locus_id"] for entry in found}
    for entry in found:
        assert place.separation(SkyCoord(entry["ra"], entry["dec"], unit="deg")) <= 0.01 * u.deg
    too_wide = {"query": {"sky_distance": cone | {"radius": "1.5 degree"}}}
    assert get(clean, "loci", elasticsearch_query=json.dumps(too_wide)).status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        {"nonsense": {}},
        {"term": {"a": 1, "b": 2}},
        {"bool": {"filtre": []}},
        {"range": {"ra": {"near": 3}}},
        {"terms": {"tags": "one"}},
        {"exists": {}},
        {"sky_distance": {"radius": "1 parsec", "location": "1 2"}},
        {"sky_distance": {"radius": "0.1 degree", "location": "somewhere"}},
        [],
        {"term": []},
    ],
)
def test_a_query_that_means_nothing_is_refused(clean, query):
    with pytest.raises(BadQueryError):
        matches(query, {"ra": 1.0, "dec": 2.0})
    answer = get(clean, "loci", elasticsearch_query=json.dumps({"query": query}))
    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_a_query_nested_too_deep_is_refused(clean):
    query = {"match_all": {}}
    for _ in range(50):
        query = {"bool": {"must": query}}
    assert get(clean, "loci", elasticsearch_query=json.dumps({"query": query})).status_code == 400
    assert get(clean, "loci", elasticsearch_query="{").status_code == 400
    assert get(clean, "loci", limit="many").status_code == 400


def test_a_locus(clean):
    bare, locus = clean.loci[0], clean.loci[1]
    found = data(clean, f"loci/{locus.locus_id}")
    assert found["internal_properties"] | found["user_properties"] == locus.properties
    assert found["lightcurve"] == locus.light_curve()
    assert (found["ra"], found["dec"], found["tags"]) == (locus.ra, locus.dec, locus.tags)
    assert data(clean, f"loci/{bare.locus_id}")["internal_properties"] is None
    alerts = data(clean, f"loci/{locus.locus_id}/alerts")
    assert [alert["id"] for alert in alerts] == [alert.alert_id for alert in locus.alerts]
    assert {alert["survey"] for alert in alerts} == {"ztf"}
    statistics = data(clean, "loci/statistics")
    assert set(statistics["tags"]) == set(clean.topics)
    assert sum(statistics["catalogs"].values()) == sum(len(it.catalog_objects) for it in clean.loci)


@pytest.mark.parametrize(
    "path",
    [
        "loci/ANT1999none",
        "loci/ANT1999none/alerts",
        "loci/ANT1999none/catalog-matches",
        "alerts/none/thumbnails",
        "grav_wave_notice/S000000xx/latest",
        "grav_wave_notice/S000000xx/2026-01-01T00:00:00",
        "nothing",
    ],
)
def test_what_is_not_there(clean, path):
    assert get(clean, path).status_code == 404


def test_catalogs(clean):
    locus = next(it for it in clean.loci if it.catalog_objects)
    (match,) = data(clean, f"loci/{locus.locus_id}/catalog-matches")
    assert match["extra"]["separation"] <= 3600 * match["radius"]
    found = data(clean, f"catalog_search/{locus.ra}/{locus.dec}")
    assert match["id"] in {entry["id"] for entry in found}
    assert Counter(entry["catalog_name"] for entry in data(clean, "catalog_samples", n=4)) == {
        "gaia_dr3_gaia_source": 4,
        "2mass_xsc": 4,
    }
    assert get(clean, "catalog_samples", n=51).status_code == 422
    assert get(clean, f"catalog_search/{locus.ra}/north").status_code == 422


def test_thumbnails_in_the_new_and_in_the_old_way(clean):
    from astropy.io import fits

    locus = clean.loci[2]
    found = data(clean, f"alerts/{locus.newest.alert_id}/thumbnails")
    assert [entry["thumbnail_type"] for entry in found] == ["template", "science", "difference"]
    for entry in found:
        image = httpx2.get(entry["src"], trust_env=False)
        assert image.content == locus.newest.thumbnails[entry["thumbnail_type"]]
        assert fits.getdata(io.BytesIO(gzip.decompress(image.content))).shape == (63, 63)
        old = httpx2.get(
            f"{clean.rest.http_url}/alerts/data/{locus.old_id}/thumbnails/{entry['thumbnail_type']}",
            trust_env=False,
        )
        assert old.content == image.content
        assert old.headers["content-disposition"] == f'attachment; filename="{entry["id"]}"'
    limit = next(a.alert_id for it in clean.loci for a in it.alerts if "upper_limit" in a.alert_id)
    assert data(clean, f"alerts/{limit}/thumbnails") == []
    missing = f"{clean.rest.http_url}/alerts/data/{limit}/thumbnails/science"
    assert httpx2.get(missing, trust_env=False).status_code == 404


def test_gravitational_waves(clean):
    first, *_, last = clean.rest.notices
    name = first["gracedb_id"]
    versions = [notice for notice in clean.rest.notices if notice["gracedb_id"] == name]
    assert [notice["notice_type"] for notice in versions] == ["PRELIMINARY", "INITIAL", "UPDATE"]
    assert data(clean, f"grav_wave_notice/{name}/latest") == versions[-1]
    assert data(clean, f"grav_wave_notice/{name}/{first['notice_datetime']}") == first
    assert data(clean, "grav_wave_notice/latest", ids=[name, "none", last["gracedb_id"]]) == [
        versions[-1],
        last,
    ]
    assert get(clean, f"grav_wave_notice/{name}/yesterday").status_code == 422
    region = to_region(base64.b64decode(versions[-1]["skymap_base64"]), credible=0.9)
    for locus in clean.loci:
        inside = bool(region.contains(locus.ra, locus.dec))
        assert inside == (name in data(clean, f"loci/{locus.locus_id}")["grav_wave_events"])
    waves = data(clean, f"loci/{clean.loci[0].locus_id}/alerts")[-1]["grav_wave_events"]
    assert waves[0]["contour_level"] <= 90


def test_faults_of_the_rest_interface(clean):
    clean.rest.fail(status=503, retry_after=2)
    failed = get(clean, "loci/statistics")
    assert (failed.status_code, failed.headers["retry-after"]) == (503, "2")
    clean.rest.answer(body=b"<html>", content_type="text/html", status=502)
    assert get(clean, "loci/statistics").text == "<html>"
    clean.rest.cut_body(path="/v2/loci")
    with pytest.raises(httpx2.RemoteProtocolError):
        get(clean, "loci")
    clean.rest.delay(0.3)
    begin = time.monotonic()
    assert get(clean, "loci/statistics").status_code == 200
    assert time.monotonic() - begin >= 0.3
    assert [request.status for request in clean.requests] == [503, 502, 200, 200]


def test_an_empty_one():
    with SandboxAntares(alerts=0) as box:
        assert (box.topics, box.loci) == ([], ())
        assert data(box, "loci") == []
        assert data(box, "loci/statistics")["max_num_measurements"] == 0
        assert data(box, "catalog_samples") == []
