"""TLS, logins and rights against a real Apache Kafka."""

import shutil
import time

import pytest
from confluent_kafka.admin import AclOperation, ResourceType
from kafka_support import ids, packets

from nuncius import brokers, open_stream
from nuncius.errors import ConfigurationError, ForbiddenError, LoginError, NotFoundError, TlsError

pytestmark = pytest.mark.xdist_group("real-kafka")

SASL = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
VERA = ("vera", "right")
ASK = {
    "read": lambda url, **options: open_stream(url, group="g", **options).__enter__(),
    "topics": brokers.topics,
}


@pytest.fixture
def secure(kafka, topic):
    """Give the URL of a topic behind TLS and a login, and how to get in."""
    kafka.publish(topic, packets(0, 100))
    options = {"credentials": VERA, "ssl_ca_location": kafka.ssl_ca_location}
    return f"kafka://{kafka.tls_server}/{topic}", options


@pytest.mark.parametrize("config", [{}, {"sasl.mechanism": "PLAIN"}], ids=["SCRAM-SHA-512", "PLAIN"])
def test_a_login_over_tls(secure, topic, config):
    url, options = secure
    with open_stream(url, group=f"g-{topic}", stop="end", config=config, **options) as stream:
        assert ids(stream) == list(range(100))


def test_the_broker_of_a_profile_is_read_over_tls(kafka):
    """ANTARES' way to log in, and its names of topics."""
    name = f"t{time.time_ns()}"
    kafka.create(f"client.{name}")
    kafka.publish(f"client.{name}", packets(0, 20))
    url = f"antares://{kafka.tls_server}/{name}"
    options = {"credentials": VERA, "ssl_ca_location": kafka.ssl_ca_location}
    assert name in brokers.topics(url, **options)
    with open_stream(url, group=f"g-{name}", stop="end", **options) as stream:
        assert len(ids(stream)) == 20
    assert sum(lag.waiting for lag in brokers.lag(url, group=f"g-{name}", **options).values()) == 0


@pytest.mark.parametrize("config", [{}, {"sasl.mechanism": "PLAIN"}], ids=["SCRAM-SHA-512", "PLAIN"])
@pytest.mark.parametrize("ask", ASK)
def test_a_wrong_password_is_told_in_time_and_never_shown(secure, config, ask):
    url, options = secure
    options["credentials"] = ("vera", "wrong-secret")
    begin = time.monotonic()
    with pytest.raises(LoginError, match="vera") as caught:
        ASK[ask](url, config=config, **options)
    assert time.monotonic() - begin < 8
    assert "wrong-secret" not in str(caught.value) + repr(vars(caught.value))


@pytest.mark.parametrize("authority", [None, "other"])
@pytest.mark.parametrize("ask", ASK)
def test_a_certificate_of_an_unknown_authority_is_told(secure, authority, ask, tmp_path):
    url, options = secure
    options["ssl_ca_location"] = None
    if authority is not None:
        import trustme

        options["ssl_ca_location"] = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(options["ssl_ca_location"])
    begin = time.monotonic()
    # Without ssl_ca_location the certificates of the system hold.
    with pytest.raises(TlsError, match="ssl_ca_location"):
        ASK[ask](url, **options)
    assert time.monotonic() - begin < 8


def test_a_file_of_certificates_that_is_not_there_is_told(secure, tmp_path):
    url, options = secure
    options["ssl_ca_location"] = tmp_path / "gone.pem"
    with pytest.raises(ConfigurationError, match=r"gone\.pem"):
        open_stream(url, group="g", **options)


def test_settings_name_the_certificates(secure, kafka, topic, tmp_path, monkeypatch):
    url, _ = secure
    folder = tmp_path / "config"
    folder.mkdir()
    shutil.copy(kafka.ssl_ca_location, folder / "authority.pem")
    (folder / "config.toml").write_text(f'[kafka]\nssl_ca_location = "{folder}/authority.pem"\n')
    monkeypatch.setenv("NUNCIUS_KAFKA_USERNAME", "vera")
    monkeypatch.setenv("NUNCIUS_KAFKA_PASSWORD", "right")
    with open_stream(url, group=f"g-{topic}", stop=3) as stream:
        assert len(ids(stream)) == 3


def test_a_refused_login_is_an_error_in_time(kafka, topic):
    begin = time.monotonic()
    stream = open_stream(
        f"kafka://{kafka.login_server}/{topic}", credentials=("reader", "wrong-secret"), config=SASL
    )
    with pytest.raises(LoginError, match="refuses the login") as caught, stream:
        pass
    assert time.monotonic() - begin < 10
    assert "reader" in str(caught.value)
    assert "wrong-secret" not in str(caught.value) + repr(caught.value.__dict__)


def test_what_a_user_may_not_read_is_said(kafka, topic):
    kafka.publish(topic, packets(0, 10))

    url = f"kafka://{kafka.login_server}/{topic}"
    options = {"credentials": ("reader", "right"), "config": SASL, "stop": "end", "group": f"g-{topic}"}
    with pytest.raises(NotFoundError, match="may not read looks the same"), open_stream(url, **options):
        pass
    kafka.allow("reader", ResourceType.TOPIC, topic, AclOperation.READ)
    time.sleep(0.5)
    with pytest.raises(ForbiddenError, match="consumer group"), open_stream(url, **options) as stream:
        next(stream)
    with open_stream(url, **{**options, "group": False}) as stream:
        assert ids(stream) == list(range(10))
    kafka.allow("reader", ResourceType.GROUP, f"g-{topic}", AclOperation.READ)
    time.sleep(0.5)
    with open_stream(url, **options) as stream:
        assert ids(stream) == list(range(10))


def test_what_one_asks_without_the_right_is_told(kafka, topic):
    """A topic that one may see, and a group that one may not use."""
    kafka.publish(topic, packets(0, 10))
    kafka.allow("reader", ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    time.sleep(0.5)
    url = f"kafka://{kafka.tls_server}/{topic}"
    options = {"credentials": ("reader", "right"), "ssl_ca_location": kafka.ssl_ca_location}
    assert topic in brokers.topics(url, **options)
    for ask in (brokers.lag, lambda *args, **more: brokers.rewind(*args, "earliest", **more)):
        with pytest.raises(ForbiddenError, match="consumer group 'not-mine'"):
            ask(url, group="not-mine", **options)
    begin = time.monotonic()
    with pytest.raises(ForbiddenError, match=topic), open_stream(url, group=False, **options) as stream:
        next(stream)
    assert time.monotonic() - begin < 10


def test_a_right_that_is_taken_away_ends_the_stream(kafka, topic):
    from confluent_kafka.admin import AclBindingFilter, AclPermissionType, ResourcePatternType

    kafka.publish(topic, packets(0, 10))
    kafka.allow("reader", ResourceType.TOPIC, topic, AclOperation.READ)
    time.sleep(0.5)
    url = f"kafka://{kafka.tls_server}/{topic}"
    options = {"credentials": ("reader", "right"), "ssl_ca_location": kafka.ssl_ca_location}
    with open_stream(url, group=False, **options) as stream:
        assert ids(next(stream) for _ in range(10)) == list(range(10))
        gone = AclBindingFilter(
            ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:reader", "*",
            AclOperation.ANY, AclPermissionType.ANY,
        )  # fmt: skip
        for future in kafka.admin.delete_acls([gone]).values():
            future.result(10)
        begin = time.monotonic()
        with pytest.raises((ForbiddenError, NotFoundError), match=topic):
            stream.poll(20)
        assert time.monotonic() - begin < 10
