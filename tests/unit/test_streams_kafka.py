"""The Kafka transport without a broker: settings, typed errors, and what it makes of a client's odd answers."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, KafkaException

from nuncius import open_stream
from nuncius.credentials import Credentials
from nuncius.errors import (
    ConfigurationError,
    ForbiddenError,
    LoginError,
    NotFoundError,
    NunciusError,
    ServerError,
    TlsError,
    UnreachableError,
)
from nuncius.streams.bounds import Start
from nuncius.streams.kafka import KafkaTransport, Security, connect
from nuncius.streams.kafka.connection import DEFAULTS

URL = "kafka://127.0.0.1:1/alerts"


@pytest.fixture(autouse=True)
def own_data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path))


def connection(servers, config=None, credentials=None):
    security = Security() if credentials else Security(None, tls=False)
    return connect(servers, security, credentials=credentials, config=config)


def configuration(servers, group, config, credentials):
    return connection(servers, config, credentials).consumer_settings(group)


def transport(credentials=None, **options):
    given = {"group": "g", "start": Start("committed"), "reset": False} | options
    return KafkaTransport(connection("broker:9092", credentials=credentials), ["alerts"], **given)


# Settings ---------------------------------------------------------------------------------------------------------------


def test_positions_are_never_committed_on_delivery():
    made = configuration("broker:9092", "g", {}, None)
    assert made["enable.auto.offset.store"] is False
    assert (made["group.id"], made["bootstrap.servers"]) == ("g", "broker:9092")
    assert {name: made[name] for name in DEFAULTS} == DEFAULTS


def test_without_a_group_nothing_is_committed():
    one, other = (configuration("broker:9092", None, {}, None) for _ in range(2))
    assert one["enable.auto.commit"] is False
    assert one["group.id"] != other["group.id"]


def test_settings_of_the_user_win():
    assert configuration("b:1", "g", {"session.timeout.ms": 77}, None)["session.timeout.ms"] == 77


def test_the_newer_group_protocol_gets_no_settings_that_it_refuses():
    made = configuration("b:1", "g", {"group.protocol": "consumer"}, None)
    assert "session.timeout.ms" not in made
    assert "partition.assignment.strategy" not in made


def test_credentials_imply_an_encrypted_login():
    made = configuration("b:1", "g", {}, Credentials("jane", "pw"))
    assert (made["security.protocol"], made["sasl.mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    made = configuration("b:1", "g", {"sasl.mechanism": "PLAIN"}, Credentials("jane", "pw"))
    assert (made["security.protocol"], made["sasl.mechanism"]) == ("SASL_SSL", "PLAIN")


def test_tls_is_verified_by_default():
    made = configuration("b:1", "g", {}, Credentials("jane", "pw"))
    assert made.get("ssl.endpoint.identification.algorithm", "https") == "https"
    assert made.get("enable.ssl.certificate.verification", True) is True


@pytest.mark.parametrize(
    ("name", "value"),
    [("enable.auto.offset.store", True), ("enable.partition.eof", False), ("group.id", "another"),
     ("bootstrap.servers", "elsewhere:9092"), ("enable.auto.commit", True)],
)  # fmt: skip
def test_a_setting_that_is_not_used_is_told_at_the_line_that_gives_it(name, value):
    with pytest.warns(UserWarning, match=name.replace(".", r"\.")) as told:
        open_stream(URL, group="g", config={name: value})
    assert told[0].filename == __file__


def test_a_promise_that_is_repeated_is_not_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_stream(URL, group="g", config={"enable.auto.offset.store": False})


@pytest.mark.parametrize(
    "config",
    [{"no.such.setting": 1}, {"session.timeout.ms": "soon"}, {"session.timeout.ms": -5}, {"security.protocol": "SSH"},
     {"ssl.ca.location": "/no/such/file", "security.protocol": "SSL"},
     pytest.param(
         {"group.protocol": "consumer", "session.timeout.ms": 6000},
         marks=pytest.mark.skipif(confluent_kafka.libversion()[1] < 0x020B0000, reason="older librdkafka accepts it"),
     )],
)  # fmt: skip
def test_a_setting_that_librdkafka_refuses_is_told(config):
    stream = open_stream(URL, group="g", config=config, connect_timeout_s=5)
    with pytest.raises(ConfigurationError, match="config="):
        next(stream)


# Errors -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (KafkaError._AUTHENTICATION, LoginError, "user 'jane'.*from here"),
        (KafkaError.SASL_AUTHENTICATION_FAILED, LoginError, "user 'jane'"),
        (KafkaError._SSL, TlsError, r"ssl\.ca\.location"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ForbiddenError, "alerts"),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, ForbiddenError, "jane"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, ForbiddenError, "group 'g'.*group="),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, NotFoundError, "alerts"),
        (KafkaError._UNKNOWN_TOPIC, NotFoundError, "alerts"),
        (KafkaError._UNKNOWN_PARTITION, NotFoundError, "alerts"),
        (KafkaError._TRANSPORT, UnreachableError, "does not answer"),
        (KafkaError._ALL_BROKERS_DOWN, UnreachableError, "does not answer"),
        (KafkaError._RESOLVE, UnreachableError, "does not answer"),
        (KafkaError._TIMED_OUT, UnreachableError, "does not answer"),
        (KafkaError._MAX_POLL_EXCEEDED, UnreachableError, "broker:9092"),
        (KafkaError.INVALID_REQUEST, ServerError, "broker:9092"),
    ],
)
def test_errors_of_kafka_are_ours(code, kind, says):
    made = transport(credentials=Credentials("jane", "pw", source="from here"))
    error = made._typed(KafkaError(code, "as the broker says"))
    assert type(error) is kind
    assert error.service == "kafka"
    assert error.url == "kafka://broker:9092"
    with pytest.raises(kind, match=says):
        raise error


@pytest.mark.parametrize(
    "code",
    [KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.BROKER_NOT_AVAILABLE,
     KafkaError.NETWORK_EXCEPTION, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE,
     KafkaError.NOT_COORDINATOR, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.UNSTABLE_OFFSET_COMMIT],
)  # fmt: skip
def test_what_passes_by_itself_while_a_broker_restarts_does_not_end_a_stream(code):
    """Leaders and coordinators move whenever a broker of a cluster is restarted; clients are to ask again."""
    made = transport()
    made._on_error(KafkaError(code))
    assert made._trouble is None
    assert made.last_error


def test_an_outage_is_remembered_and_does_not_end_a_stream():
    made = transport()
    made._on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert made._trouble is None
    assert made.last_error


def test_a_refused_login_ends_a_stream_though_it_is_told_only_once():
    made = transport()
    made._on_error(KafkaError(KafkaError._AUTHENTICATION))
    made._consumer = SimpleNamespace(consume=lambda *_: [])
    for _ in range(2):
        with pytest.raises(LoginError):
            made.receive(10, 0.1)


# Where a partition begins -------------------------------------------------------------------------------------------------


def part(partition, offset, error=None):
    return SimpleNamespace(topic="alerts", partition=partition, offset=offset, error=error)


class OddConsumer:
    """Answers what a client of a busy cluster answers."""

    def __init__(self, answers, high=1000):
        self.answers = list(answers)
        self.high = high

    def committed(self, parts, timeout):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def offsets_for_times(self, parts, timeout):
        first = parts[0].offset == confluent_kafka.OFFSET_BEGINNING
        return [part(one.partition, 0 if first else self.high) for one in parts]

    def poll(self, timeout):
        return None


def test_a_partition_begins_where_the_group_was():
    made = transport(start=Start("latest"))
    made._consumer = OddConsumer([[part(0, 17), part(1, -1001)]])
    assert made._starting_positions([("alerts", 0), ("alerts", 1)]) == {
        ("alerts", 0): 17,
        ("alerts", 1): 1000,
    }


def test_reset_moves_a_partition_only_the_first_time():
    made = transport(start=Start("latest"), reset=True)
    made._consumer = OddConsumer([[part(0, 17)], [part(0, 1004)]])
    first = made._starting_positions([("alerts", 0)])
    made._placed.update(first)
    assert first == {("alerts", 0): 1000}
    assert made._starting_positions([("alerts", 0)]) == {("alerts", 0): 1004}


def test_a_position_that_could_not_be_asked_is_not_taken_for_none():
    """Beginning at "latest" because the committed position of one partition is not known now would lose alerts."""
    busy = KafkaError(KafkaError.UNSTABLE_OFFSET_COMMIT)
    made = transport(start=Start("latest"))
    made._consumer = OddConsumer([[part(0, -1001, busy)], [part(0, 17)], [part(0, 17)]])
    try:
        begins = made._starting_positions([("alerts", 0)])
    except NunciusError:
        return
    assert made._trouble is not None or begins[("alerts", 0)] <= 17


def test_a_question_that_fails_while_a_broker_restarts_is_asked_again():
    """A rebalance during a restart of the coordinator is no reason to end a stream of a whole night."""
    made = transport()
    again = KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))
    timed_out = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    made._consumer = OddConsumer([again, timed_out, [part(0, 17)]])
    assert made._starting_positions([("alerts", 0)]) == {("alerts", 0): 17}
    assert made._trouble is None


@pytest.mark.parametrize("pattern", ["^[", "^(ztf", "^*"])
def test_a_pattern_that_is_none_is_told_before_anything_is_asked(pattern):
    with pytest.raises(ConfigurationError, match=r"regular expression|pattern"):
        next(open_stream(f"kafka://127.0.0.1:1/{pattern}", group="g", connect_timeout_s=0.2))
